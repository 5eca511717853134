//! Instructions that the engine's hot paths execute, against the counts of the last time somebody accepted them. A rise
//! is printed and fails nothing: another compiler counts otherwise, and some rises are worth it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::cmd;

use crate::context::{Context, Outcome};

/// The accepted counts: a name and a number a line.
const BASELINE: &str = "benches/instructions.txt";

/// The runner's version is that of the library.
const RUNNER: &str = "gungraun-runner";

/// Where the runner puts what callgrind wrote, below cargo's target folder.
const PROFILES: &str = "gungraun/gradtape-instructions/instructions/hot_paths";

/// A larger rise is worth a line, in parts of a hundred.
const WORTH_A_LINE: u64 = 5;

type Counts = BTreeMap<String, u64>;

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    if which::which("valgrind").is_err() {
        return context.missing("valgrind is not installed");
    }
    let counted = count(context)?;
    let accepted = parse(&context.sh.read_file(BASELINE)?)?;
    for line in compare(&accepted, &counted) {
        println!("{line}");
    }
    Ok(Outcome::Passed)
}

/// Accepts the counts as they are.
pub(crate) fn write_baseline(context: &Context) -> Result<()> {
    let counted = count(context)?;
    let lines = counted.iter().map(|(name, count)| format!("{name} {count}\n"));
    Ok(context.sh.write_file(BASELINE, lines.collect::<String>())?)
}

fn count(context: &Context) -> Result<Counts> {
    let sh = &context.sh;
    let runner = runner(context)?;
    let profiles = context.target().join(PROFILES);
    // What an earlier run left would be compared with, which is the baseline's business.
    sh.remove_path(&profiles)?;
    cmd!(sh, "cargo bench --locked --package gradtape-instructions --bench instructions")
        .env("GUNGRAUN_RUNNER", runner)
        .quiet()
        .ignore_stdout()
        .run()?;
    let mut counts = Counts::new();
    for folder in sh.read_dir(&profiles).with_context(|| format!("read {}", profiles.display()))? {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        for profile in sh.read_dir(&folder)? {
            if profile.extension().is_some_and(|extension| extension == "out") {
                counts.insert(name.to_owned(), instructions(&sh.read_file(&profile)?)?);
            }
        }
    }
    if counts.is_empty() {
        bail!("callgrind wrote nothing to {}", profiles.display());
    }
    Ok(counts)
}

/// The runner, installed below `target/` in the version of the library.
fn runner(context: &Context) -> Result<PathBuf> {
    let library = context.metadata.packages.iter().find(|package| package.name == "gungraun");
    let version = &library.context("gungraun is no dependency")?.version;
    let version = version.to_string();
    let tools = context.target().join("tools");
    let installed = tools.join("bin").join(RUNNER);
    let stamp = tools.join(format!(".{RUNNER}-{version}"));
    if !installed.exists() || !stamp.exists() {
        println!("installing {RUNNER} {version}; this takes a minute, once");
        // It only starts valgrind, so it need not be optimised.
        cmd!(
            context.sh,
            "cargo install --locked --quiet --debug {RUNNER} --version {version} --root {tools}"
        )
        .run()
        .with_context(|| format!("install {RUNNER}"))?;
        context.sh.write_file(stamp, "")?;
    }
    Ok(installed)
}

/// The number of instructions of a profile: the first of the totals of its events.
fn instructions(profile: &str) -> Result<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("summary: "));
    let first = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(first.context("the profile has no summary")?.parse()?)
}

fn parse(text: &str) -> Result<Counts> {
    let lines = text.lines().map(|line| {
        let (name, count) = line.split_once(' ').with_context(|| format!("{line:?}"))?;
        Ok((name.to_owned(), count.parse()?))
    });
    lines.collect::<Result<_>>().with_context(|| format!("read {BASELINE}"))
}

/// A line for each count, which says so where it rose.
fn compare(accepted: &Counts, counted: &Counts) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, &now) in counted {
        let Some(&before) = accepted.get(name) else {
            lines.push(format!(
                "{name:<28} {now:>12}  new: accept it with cargo xtask baseline instructions"
            ));
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "a per cent is shown to a tenth")]
        let change = (now as f64 / before as f64 - 1.0) * 100.0;
        let rose = u128::from(now) * 100 > u128::from(before) * u128::from(100 + WORTH_A_LINE);
        let remark = if rose {
            "  RISE: explain it, or accept it with cargo xtask baseline instructions"
        } else {
            ""
        };
        lines.push(format!("{name:<28} {now:>12}  {change:>+6.1} %{remark}"));
    }
    let gone = accepted.keys().filter(|name| !counted.contains_key(*name));
    lines.extend(gone.map(|name| format!("{name:<28} is not counted any more")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn a_rise_of_more_than_five_per_cent_shows() {
        let accepted = counts(&[("a", 1000), ("b", 1000), ("c", 1000), ("gone", 1)]);
        let lines = compare(&accepted, &counts(&[("a", 1050), ("b", 1051), ("c", 900), ("d", 1)]));
        let remarked: Vec<bool> = lines.iter().map(|line| line.contains("RISE")).collect();
        assert_eq!(remarked, [false, true, false, false, false], "{lines:#?}");
        assert!(lines[3].contains("new") && lines[4].starts_with("gone"), "{lines:#?}");
    }

    #[test]
    fn a_profile_is_read() {
        let profile = "version: 1\nevents: Ir Dr\nfn=(1)\n5 10 3\nsummary: 1234 56\n";
        assert_eq!(instructions(profile).unwrap(), 1234);
        assert!(instructions("events: Ir\n").is_err());
    }

    #[test]
    fn the_baseline_is_read() {
        assert_eq!(parse("a.b 12\nc 3\n").unwrap(), counts(&[("a.b", 12), ("c", 3)]));
        assert!(parse("a\n").is_err() && parse("a b\n").is_err());
    }
}
