//! The fuzz targets and the soak test, for as long as one likes.

use anyhow::{Context as _, Result};
use clap::Args;
use xshell::cmd;

use crate::context::{Context, Outcome};

/// How many inputs each target has in the test command, and those that take milliseconds for each. It is a number and not a
/// time, so that a faster machine does not find what another one did not.
const INPUTS: u64 = 40_000;
const SLOW_INPUTS: u64 = 4_000;
const SLOW_TARGETS: [&str; 2] = ["sequences_of_commands", "damaged_logs"];

/// How long each target runs by itself, and how long sessions come and go in the test command.
const FUZZ_SECONDS: u64 = 30;
const SOAK_SECONDS: u64 = 60;

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Only targets whose name contains this.
    target: Option<String>,
    /// How long each target runs. As many run at a time as there are cores.
    #[arg(long, default_value_t = FUZZ_SECONDS)]
    seconds: u64,
    /// Run the one input of a finding again, and say what it does.
    #[arg(long, conflicts_with = "seconds", requires = "target")]
    seed: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// How long sessions come and go.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// The soak test.
pub(crate) fn soak_a_minute(context: &Context) -> Result<Outcome> {
    soak_for(context, SOAK_SECONDS)?;
    Ok(Outcome::Passed)
}

/// All fuzz targets, on the same inputs each time, so that nobody's change fails for what it has not touched.
pub(crate) fn run(context: &Context) -> Result<Outcome> {
    targets(context, &SLOW_TARGETS, Inputs::Same { count: SLOW_INPUTS })?;
    let others: Vec<&str> = SLOW_TARGETS.iter().flat_map(|slow| ["--skip", slow]).collect();
    targets(context, &others, Inputs::Same { count: INPUTS })?;
    Ok(Outcome::Passed)
}

/// Runs fuzz targets on inputs that are chosen by chance, or one of them on the input of a finding.
pub(crate) fn fuzz(context: &Context, args: &FuzzArgs) -> Result<()> {
    let inputs = match &args.seed {
        Some(seed) => Inputs::One { seed },
        None => Inputs::Chance { seconds: args.seconds },
    };
    targets(context, args.target.as_deref().as_slice(), inputs).context(
        "a target failed; to run its input again: cargo xtask fuzz TARGET --seed BOLERO_RANDOM_SEED, as printed above",
    )
}

/// What targets run on.
#[derive(Clone, Copy)]
enum Inputs<'a> {
    /// The one that follows from a seed; its commands are printed.
    One { seed: &'a str },
    /// The same ones each time.
    Same { count: u64 },
    /// As many as there is time for, chosen by chance.
    Chance { seconds: u64 },
}

fn targets(context: &Context, which: &[&str], inputs: Inputs<'_>) -> Result<()> {
    let test = cmd!(
        context.sh,
        "cargo test --locked --package gradtape-fuzz --test targets -- {which...}"
    );
    let test = match inputs {
        Inputs::One { seed } => test
            .args(["--nocapture"])
            .env("BOLERO_RANDOM_SEED", seed)
            .env("BOLERO_RANDOM_ITERATIONS", "0")
            .env("GRADTAPE_FUZZ_STORY", "1"),
        Inputs::Same { count } => {
            test.env("BOLERO_RANDOM_SEED", "1").env("BOLERO_RANDOM_ITERATIONS", count.to_string())
        }
        Inputs::Chance { seconds } => test
            .env("BOLERO_RANDOM_ITERATIONS", u64::MAX.to_string())
            .env("BOLERO_RANDOM_TEST_TIME_MS", (1000 * seconds).to_string()),
    };
    Ok(test.run()?)
}

/// Lets sessions come and go for some minutes.
pub(crate) fn soak(context: &Context, args: &SoakArgs) -> Result<()> {
    soak_for(context, 60 * args.minutes)
}

fn soak_for(context: &Context, seconds: u64) -> Result<()> {
    cmd!(context.sh, "cargo test --locked --package gradtape-tests --test soak -- --nocapture")
        .env("GRADTAPE_SOAK_SECONDS", seconds.to_string())
        .run()?;
    Ok(())
}
