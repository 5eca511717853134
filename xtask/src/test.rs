//! Runs the parts in order and says at the end what became of each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    context::{Context, Outcome},
    parts::{self, Part},
};

/// The parts that were asked for.
#[derive(Debug)]
pub(crate) struct Selection(Vec<&'static Part>);

impl Selection {
    pub(crate) fn new(only: &[String], skip: &[String]) -> Result<Self> {
        for name in only.iter().chain(skip) {
            if !parts::ALL.iter().any(|part| part.name == name) {
                bail!("there is no part named {name}; see cargo xtask test --list");
            }
        }
        let named = |names: &[String], part: &Part| names.iter().any(|name| name == part.name);
        let chosen = |part: &&Part| (only.is_empty() || named(only, part)) && !named(skip, part);
        Ok(Self(parts::ALL.iter().filter(chosen).collect()))
    }
}

/// What became of a part.
enum Verdict {
    Passed,
    Failed(anyhow::Error),
    Skipped(String),
}

struct Line {
    part: &'static Part,
    verdict: Verdict,
    took: Duration,
}

/// Runs the selected parts up to the first failure, prints the summary, and says whether nothing failed.
pub(crate) fn run(context: &Context, selection: &Selection) -> bool {
    let mut lines: Vec<Line> = Vec::new();
    for part in &selection.0 {
        if let Some(broken) = lines.iter().find(|line| matches!(line.verdict, Verdict::Failed(_))) {
            let verdict = Verdict::Skipped(format!("not run after {} failed", broken.part.name));
            lines.push(Line { part, verdict, took: Duration::ZERO });
            continue;
        }
        println!("\n=== {}: {} ===", part.name, part.about);
        let start = Instant::now();
        let verdict = match (part.run)(context) {
            Ok(Outcome::Passed) => Verdict::Passed,
            Ok(Outcome::Skipped(why)) => Verdict::Skipped(why),
            Err(error) => Verdict::Failed(error),
        };
        lines.push(Line { part, verdict, took: start.elapsed() });
    }
    summarise(&lines)
}

fn summarise(lines: &[Line]) -> bool {
    println!("\n=== summary ===");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for Line { part, verdict, took } in lines {
        let (word, remark) = match verdict {
            Verdict::Passed => {
                passed += 1;
                ("passed", String::new())
            }
            Verdict::Failed(error) => {
                failed += 1;
                ("failed", format!("  {error:#}"))
            }
            Verdict::Skipped(why) => {
                skipped += 1;
                ("skipped", format!("  {why}"))
            }
        };
        println!("{:<12} {word:<8} {:>7.1} s{remark}", part.name, took.as_secs_f64());
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}
