//! cargo-deny, from the path or installed below `target/`.
//!
//! Advisories are not checked: their database is not on crates.io, and this must run where nothing else is reached.

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::context::{Context, Outcome};

const VERSION: &str = "0.20.2";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let tools = context.target().join("tools");
    let installed = tools.join("bin/cargo-deny");
    let deny = match which::which("cargo-deny") {
        Ok(found) => found,
        Err(_) if installed.exists() => installed,
        Err(_) => {
            println!("installing cargo-deny {VERSION}; this takes some minutes, once");
            cmd!(
                context.sh,
                "cargo install --locked --quiet cargo-deny --version {VERSION} --root {tools}"
            )
            .run()
            .context("install cargo-deny")?;
            installed
        }
    };
    cmd!(context.sh, "{deny} --workspace check bans licenses sources").run()?;
    Ok(Outcome::Passed)
}
