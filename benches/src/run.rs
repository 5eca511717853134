//! Runs benches: all contenders are started first, then sampled in turn, so that whatever else the machine does meets
//! them alike.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    RunArgs,
    contender::Running,
    machine, report,
    results::{Measured, Results},
    server::Server,
    table::{BENCHES, Bench, Side},
};

/// Samples of a quick run.
const QUICK_REPEATS: usize = 3;

/// Runs the benches that were asked for. Fails if outcomes of one disagree.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let mut chosen = Vec::new();
    for name in &args.names {
        let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
            bail!("there is no bench named {name}; see --list");
        };
        chosen.push(bench);
    }
    if chosen.is_empty() {
        chosen.extend(BENCHES);
    }
    let mut fine = true;
    for bench in chosen {
        let results = measure(bench, args).with_context(|| bench.name.to_owned())?;
        report::print(bench, &results);
        results.write(&args.results)?;
        fine &= results.disagreement.is_none();
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(bench: &Bench, args: &RunArgs) -> Result<Results> {
    println!("\n=== {}: {} ===", bench.name, bench.about);
    let busy = machine::busy()?;
    let server = Server::start(&args.server, &[])?;
    let mut running = Vec::new();
    let mut versions = BTreeMap::new();
    let mut contenders = Vec::new();
    for contender in bench.contenders {
        println!("warm up {}", contender.name);
        let started = Running::start(bench, contender, args, &server.address)
            .with_context(|| contender.name.to_owned())?;
        versions.extend(started.ready.versions.clone());
        contenders.push(Measured {
            name: contender.name.to_owned(),
            ours: contender.side == Side::Ours,
            note: started.ready.note.clone(),
            outcome: started.ready.outcome.clone(),
            samples: BTreeMap::new(),
        });
        running.push(started);
    }
    let repeats = if args.quick { bench.repeats.min(QUICK_REPEATS) } else { bench.repeats };
    for repeat in 1..=repeats {
        println!("sample {repeat} of {repeats}");
        for (running, measured) in running.iter_mut().zip(&mut contenders) {
            let sample = running.sample().with_context(|| measured.name.clone())?;
            for (row, value) in sample {
                measured.samples.entry(row).or_default().push(value);
            }
        }
    }
    Ok(Results {
        bench: bench.name.to_owned(),
        date: machine::date(),
        commit: machine::commit(),
        command: format!("cargo xtask bench {}", bench.name),
        machine: machine::describe(),
        versions,
        busy,
        quick: args.quick,
        disagreement: disagreement(&contenders, bench.tolerance),
        contenders,
    })
}

/// Whose outcome is not that of the first contender.
fn disagreement(contenders: &[Measured], tolerance: f64) -> Option<String> {
    let mut with_outcome = contenders.iter().filter(|contender| !contender.outcome.is_empty());
    let first = with_outcome.next()?;
    let other = with_outcome.find(|other| !agree(&first.outcome, &other.outcome, tolerance))?;
    Some(format!(
        "{} computed {:?}, but {} {:?}",
        first.name, first.outcome, other.name, other.outcome
    ))
}

fn agree(xs: &[f64], ys: &[f64], tolerance: f64) -> bool {
    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= tolerance * x.abs().max(y.abs());
    xs.len() == ys.len() && xs.iter().zip(ys).all(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, outcome: &[f64]) -> Measured {
        Measured {
            name: name.to_owned(),
            ours: true,
            note: String::new(),
            outcome: outcome.to_vec(),
            samples: BTreeMap::new(),
        }
    }

    #[test]
    fn outcomes_agree_within_the_tolerance() {
        let near = [with("a", &[1.0, 2.0]), with("b", &[1.0001, 2.0]), with("silent", &[])];
        assert_eq!(disagreement(&near, 1e-3), None);
        let said = disagreement(&near, 1e-5).unwrap();
        assert!(said.contains("a computed [1.0, 2.0], but b"), "{said}");
    }

    #[test]
    fn what_is_no_number_or_missing_agrees_with_nothing() {
        assert!(!agree(&[f64::NAN], &[f64::NAN], 1e-3));
        assert!(!agree(&[1.0, 2.0], &[1.0], 1e-3));
    }
}
