//! Where and of what a measurement was taken.

use std::{fs, process::Command};

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
