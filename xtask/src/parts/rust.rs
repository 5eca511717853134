//! What cargo itself checks.

use anyhow::Result;
use xshell::cmd;

use crate::context::{Context, Outcome};

pub(crate) fn format(context: &Context) -> Result<Outcome> {
    cmd!(context.sh, "cargo fmt --all --check").run()?;
    Ok(Outcome::Passed)
}

pub(crate) fn clippy(context: &Context) -> Result<Outcome> {
    cmd!(context.sh, "cargo clippy --locked --workspace --all-targets -- -D warnings").run()?;
    Ok(Outcome::Passed)
}

pub(crate) fn docs(context: &Context) -> Result<Outcome> {
    cmd!(context.sh, "cargo doc --locked --workspace --no-deps")
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    Ok(Outcome::Passed)
}

/// The binary comes first, since black-box tests start it.
pub(crate) fn tests(context: &Context) -> Result<Outcome> {
    build_server(context)?;
    cmd!(context.sh, "cargo test --locked --workspace --lib --bins --tests --examples").run()?;
    Ok(Outcome::Passed)
}

pub(crate) fn doctests(context: &Context) -> Result<Outcome> {
    cmd!(context.sh, "cargo test --locked --workspace --doc").run()?;
    Ok(Outcome::Passed)
}

/// Builds the server's binary where the tests of other languages look for it: as the black-box tests have it, so that it is
/// built once.
pub(crate) fn build_server(context: &Context) -> Result<()> {
    let build = cmd!(context.sh, "cargo build --locked --package gradtape-server --bins");
    Ok(build.args(["--features", "failpoints"]).run()?)
}
