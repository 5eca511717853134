//! What a person reads: medians with their spread, ratios, goals and whether they are met.

use crate::{
    machine,
    ours::ops::Work,
    results::{Measured, Results, quantile},
    table::{BENCHES, Bench, Bound, Goal, Unit},
};

/// Our number beside theirs.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The row.
    pub(crate) row: &'static str,
    /// Our contender.
    pub(crate) ours: &'static str,
    /// The best of those it is compared with, if any.
    pub(crate) theirs: Option<&'static str>,
    /// Ours divided by theirs, or ours, as text.
    pub(crate) shown: String,
    /// The goal as text.
    pub(crate) goal: String,
    /// Whether it is met, if there is one.
    pub(crate) met: Option<bool>,
}

/// The bench of some results.
pub(crate) fn bench_of(results: &Results) -> Option<&'static Bench> {
    BENCHES.iter().find(|bench| bench.name == results.bench)
}

/// Prints everything.
pub(crate) fn print(bench: &Bench, results: &Results) {
    println!();
    for line in table(&medians(bench, results)) {
        println!("{line}");
    }
    let shares = shares(bench, results);
    if !shares.is_empty() {
        println!();
        for line in table(&shares) {
            println!("{line}");
        }
    }
    if results.busy > machine::BUSY {
        println!("\n{}", warning(results));
    }
    if let Some(disagreement) = &results.disagreement {
        println!("\nNothing is compared: {disagreement}");
        return;
    }
    let compared = comparisons(bench, results);
    if !compared.is_empty() {
        println!();
        for line in table(&comparison_rows(&compared)) {
            println!("{line}");
        }
    }
    if results.quick {
        println!("\nA quick run: it shows that the bench works, and no more.");
    }
}

/// What to say of a run on a machine that was not quiet.
pub(crate) fn warning(results: &Results) -> String {
    format!(
        "Other work used {:.0} % of the machine just before: these numbers prove nothing.",
        100.0 * results.busy
    )
}

/// A header and a row for each contender's row: median, and the quartiles around it.
pub(crate) fn medians(bench: &Bench, results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![header(&["row", "contender", "median", "quartiles", "samples"])];
    let mut names: Vec<&String> =
        results.contenders.iter().flat_map(|measured| measured.samples.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let unit = bench.unit(name);
        let mut found: Vec<(&Measured, f64)> = results
            .contenders
            .iter()
            .filter_map(|m| Some((m, quantile(m.samples.get(name)?, 0.5)?)))
            .collect();
        found.sort_by(|(_, x), (_, y)| x.total_cmp(y));
        for (measured, median) in found {
            let samples = &measured.samples[name];
            let quartile =
                |share| quantile(samples, share).map_or_else(String::new, |x| show(unit, x));
            let whose = if measured.ours { "ours: " } else { "" };
            rows.push(vec![
                name.clone(),
                format!("{whose}{}", measured.name),
                show(unit, median),
                format!("{} to {}", quartile(0.25), quartile(0.75)),
                samples.len().to_string(),
            ]);
        }
    }
    rows
}

/// Every comparison of the bench of which both sides were measured.
pub(crate) fn comparisons(bench: &Bench, results: &Results) -> Vec<Comparison> {
    if results.disagreement.is_some() {
        return Vec::new();
    }
    bench.goals.iter().filter_map(|goal| compare(bench, results, goal)).collect()
}

fn compare(bench: &Bench, results: &Results, goal: &'static Goal) -> Option<Comparison> {
    let unit = bench.unit(goal.row);
    let ours = results.median(goal.ours, goal.row)?;
    let measured = goal
        .theirs
        .iter()
        .filter_map(|name| results.median(name, goal.row).map(|median| (*name, median)));
    let best = if unit.less_is_better() {
        measured.min_by(|(_, x), (_, y)| x.total_cmp(y))
    } else {
        measured.max_by(|(_, x), (_, y)| x.total_cmp(y))
    };
    let value = match best {
        Some((_, theirs)) => ours / theirs,
        None if goal.theirs.is_empty() => ours,
        None => return None,
    };
    let unit = if best.is_some() { Unit::Ratio } else { unit };
    let (text, met) = match goal.bound {
        Bound::Shown => (String::new(), None),
        Bound::AtMost(limit) => (format!("at most {}", show(unit, limit)), Some(value <= limit)),
        Bound::AtLeast(limit) => (format!("at least {}", show(unit, limit)), Some(value >= limit)),
    };
    Some(Comparison {
        row: goal.row,
        ours: goal.ours,
        theirs: best.map(|(name, _)| name),
        shown: show(unit, value),
        goal: text,
        met,
    })
}

/// A header and a row for each comparison.
pub(crate) fn comparison_rows(comparisons: &[Comparison]) -> Vec<Vec<String>> {
    let mut rows = vec![header(&["row", "ours", "theirs", "ours / theirs", "goal", "met"])];
    rows.extend(comparisons.iter().map(|comparison| {
        let met = match comparison.met {
            None => "",
            Some(true) => "yes",
            Some(false) => "no",
        };
        vec![
            comparison.row.to_owned(),
            comparison.ours.to_owned(),
            comparison.theirs.unwrap_or_default().to_owned(),
            comparison.shown.clone(),
            comparison.goal.clone(),
            met.to_owned(),
        ]
    }));
    rows
}

/// For the sweep of kernels: each row's ratio, and both sides' share of what the machine can do.
pub(crate) fn shares(bench: &Bench, results: &Results) -> Vec<Vec<String>> {
    let Some(work) = bench.work else { return Vec::new() };
    let peak = |row| results.median("machine", row);
    let (Some(arithmetic), Some(memory)) = (peak("peak arithmetic"), peak("peak memory")) else {
        return Vec::new();
    };
    let mut rows = vec![header(&[
        "row",
        "engine",
        "torch",
        "ours / theirs",
        "engine of peak",
        "torch of peak",
    ])];
    let Some(ours) = results.contenders.iter().find(|measured| measured.ours) else {
        return Vec::new();
    };
    for row in ours.samples.keys() {
        let (Some(ours), Some(theirs)) =
            (results.median("engine", row), results.median("torch", row))
        else {
            continue;
        };
        let least = match work(row) {
            Some(Work::Arithmetic(operations)) => operations / arithmetic,
            Some(Work::Memory(bytes)) => bytes / memory,
            None => continue,
        };
        rows.push(vec![
            row.clone(),
            show(Unit::Seconds, ours),
            show(Unit::Seconds, theirs),
            show(Unit::Ratio, ours / theirs),
            format!("{:.0} %", 100.0 * least / ours),
            format!("{:.0} %", 100.0 * least / theirs),
        ]);
    }
    rows
}

/// A number with its unit, to three digits.
pub(crate) fn show(unit: Unit, value: f64) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let (size, name) = steps
            .iter()
            .find(|(size, _)| value.abs() >= *size)
            .or(steps.last())
            .copied()
            .unwrap_or((1.0, ""));
        format!("{} {name}", digits(value / size))
    };
    match unit {
        Unit::Seconds => scaled(&[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]),
        Unit::Bytes => scaled(&[(1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]),
        Unit::Ratio | Unit::Share => digits(value),
        Unit::PerSecond => scaled(&[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
        Unit::BytesPerSecond => scaled(&[(1e9, "GB/s"), (1e6, "MB/s"), (1.0, "B/s")]),
    }
}

fn digits(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.01.. => 4,
        0.0 => 0,
        _ => 5,
    };
    format!("{value:.places$}")
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Rows with their columns aligned.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit_that_fits() {
        let cases = [
            (Unit::Seconds, 0.001_234, "1.23 ms"),
            (Unit::Seconds, 0.000_000_4, "0.400 µs"),
            (Unit::Bytes, 16_384.0, "16.0 KiB"),
            (Unit::PerSecond, 1_234_567.0, "1.23 M/s"),
            (Unit::BytesPerSecond, 2.5e9, "2.50 GB/s"),
            (Unit::Ratio, 0.004_56, "0.00456"),
            (Unit::Ratio, 123.4, "123"),
            (Unit::Ratio, 0.0, "0"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(show(unit, value), text);
        }
    }

    /// Two contenders with the medians 3 and 2 in the first row of the bench's goals.
    fn results(bench: &Bench, goal: &Goal) -> Results {
        let measured = |name: &str, samples: &[f64]| Measured {
            name: name.to_owned(),
            ours: name == goal.ours,
            note: String::new(),
            outcome: vec![],
            samples: [(goal.row.to_owned(), samples.to_vec())].into(),
        };
        Results {
            bench: bench.name.to_owned(),
            date: String::new(),
            commit: String::new(),
            command: String::new(),
            machine: machine::describe(),
            versions: [].into(),
            busy: 0.0,
            quick: false,
            disagreement: None,
            contenders: vec![
                measured(goal.ours, &[9.0, 3.0, 1.0]),
                measured(goal.theirs[0], &[2.0, 2.0, 8.0]),
            ],
        }
    }

    #[test]
    fn a_ratio_is_that_of_medians_and_is_held_against_the_goal() {
        for (name, met) in [("seed", false), ("commands", true)] {
            let bench = BENCHES.iter().find(|bench| bench.name == name).unwrap();
            let goal = bench.goals.iter().find(|goal| !goal.theirs.is_empty()).unwrap();
            let compared = comparisons(bench, &results(bench, goal));
            assert_eq!(compared[0].shown, "1.50");
            assert_eq!(compared[0].met, Some(met));
        }
    }

    #[test]
    fn who_disagrees_is_not_compared() {
        let bench = &BENCHES[0];
        let mut results = results(bench, &bench.goals[0]);
        assert!(!comparisons(bench, &results).is_empty());
        results.disagreement = Some("they do".to_owned());
        assert!(comparisons(bench, &results).is_empty());
    }
}
