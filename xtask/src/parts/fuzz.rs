//! The fuzz targets and the soak test, for as long as one likes.

use anyhow::{Context as _, Result};
use clap::Args;
use xshell::cmd;

use crate::context::{Context, Outcome};

/// How long each target runs, and how long sessions come and go in the test command.
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

/// Runs fuzz targets, on inputs that are chosen by chance.
pub(crate) fn fuzz(context: &Context, args: &FuzzArgs) -> Result<()> {
    let target = args.target.as_slice();
    let mut test = cmd!(
        context.sh,
        "cargo test --locked --package gradtape-fuzz --test targets -- {target...}"
    );
    test = match &args.seed {
        Some(seed) => test
            .args(["--nocapture"])
            .env("BOLERO_RANDOM_SEED", seed)
            .env("BOLERO_RANDOM_ITERATIONS", "0")
            .env("GRADTAPE_FUZZ_STORY", "1"),
        None => test
            .env("BOLERO_RANDOM_ITERATIONS", u64::MAX.to_string())
            .env("BOLERO_RANDOM_TEST_TIME_MS", (1000 * args.seconds).to_string()),
    };
    test.run().context(
        "a target failed; to run its input again: cargo xtask fuzz TARGET --seed BOLERO_RANDOM_SEED, as printed above",
    )
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
