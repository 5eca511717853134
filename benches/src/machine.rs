//! Where and of what a measurement was taken.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::results::Machine;

/// The machine that this runs on.
pub(crate) fn describe() -> Machine {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    Machine {
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory: field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown),
        system: printed("uname", &["-sr"]),
    }
}

/// A larger share of the machine in use by others spoils a run: peers that wait for each other's threads suffer first.
pub(crate) const BUSY: f64 = 0.05;

/// The share of all cores that is in use, over a second.
pub(crate) fn busy() -> Result<f64> {
    let before = times()?;
    thread::sleep(Duration::from_secs(1));
    let after = times()?;
    let [idle, all] = [after.0 - before.0, after.1 - before.1];
    Ok(1.0 - idle / all.max(1.0))
}

/// Ticks since the start that all cores were idle, and all their ticks.
fn times() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("the system does not say what its cores do")?;
    let ticks: Vec<f64> = line.split_ascii_whitespace().skip(1).flat_map(str::parse).collect();
    // Idle, and waiting for a disk.
    Ok((ticks.iter().skip(3).take(2).sum(), ticks.iter().sum()))
}

/// The commit that is measured; with a plus where the tree differs from it.
pub(crate) fn commit() -> String {
    let commit = printed("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = !printed("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    if changed { commit + "+" } else { commit }
}

/// Now, to the second.
pub(crate) fn date() -> String {
    Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn printed(program: &str, arguments: &[&str]) -> String {
    Command::new(program).args(arguments).output().map_or_else(
        |_| unknown(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
