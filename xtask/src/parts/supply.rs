//! cargo-deny, from the path or installed below `target/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use crate::context::{Context, Outcome};

const VERSION: &str = "0.20.2";

/// What an advisory database says about a crate that this workspace depends on. Nothing is wrong with that crate.
const MADE_UP: &str = r#"```toml
[advisory]
id = "RUSTSEC-2020-0999"
package = "tokio"
date = "2020-01-01"

[versions]
patched = []
```

# A made-up advisory

It shows that an advisory fails the build.
"#;

/// Licences, sources and bans: all that can be said without a network.
pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let deny = cargo_deny(context)?;
    cmd!(context.sh, "{deny} --workspace check bans licenses sources").run()?;
    an_advisory_fails_the_check(context, &deny)?;
    Ok(Outcome::Passed)
}

/// Advisories, where their database can be reached: it is not on crates.io.
pub(crate) fn advisories(context: &Context) -> Result<Outcome> {
    let deny = cargo_deny(context)?;
    if cmd!(context.sh, "{deny} --workspace fetch db").run().is_err() {
        return Ok(Outcome::Skipped("the database of advisories cannot be reached".to_owned()));
    }
    cmd!(context.sh, "{deny} --workspace check advisories").run()?;
    Ok(Outcome::Passed)
}

/// With a database that holds one made-up advisory, the settings of `deny.toml` find it and fail for it.
fn an_advisory_fails_the_check(context: &Context, deny: &Path) -> Result<()> {
    let folder = context.sh.create_temp_dir()?;
    let (source, copies) = (folder.path().join("source"), folder.path().join("copies"));
    context.sh.write_file(source.join("crates/tokio/RUSTSEC-2020-0999.md"), MADE_UP)?;
    cmd!(context.sh, "git -C {source} init --quiet --initial-branch main").run()?;
    cmd!(context.sh, "git -C {source} add --all").run()?;
    let author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"];
    cmd!(context.sh, "git -C {source} {author...} commit --quiet --message advisory").run()?;

    // cargo-deny takes no database without a host, so git is told where this one is.
    let url = "https://advisories.invalid/db";
    let places = format!("[advisories]\ndb-path = '{}'\ndb-urls = ['{url}']", copies.display());
    let settings = context.sh.read_file("deny.toml")?;
    ensure!(settings.contains("[advisories]"), "deny.toml says nothing about advisories");
    let config = folder.path().join("deny.toml");
    context.sh.write_file(&config, settings.replace("[advisories]", &places))?;
    let check = cmd!(context.sh, "{deny} --workspace --config {config}")
        .args(["--format", "json", "check", "--hide-inclusion-graph", "advisories"])
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", format!("url.{}.insteadOf", source.display()))
        .env("GIT_CONFIG_VALUE_0", url)
        .quiet()
        .ignore_status()
        .output()?;
    let said = String::from_utf8_lossy(&check.stderr);
    ensure!(said.contains("RUSTSEC-2020-0999"), "cargo-deny did not find the advisory: {said}");
    ensure!(!check.status.success(), "an advisory does not fail the check");
    println!("a made-up advisory fails the check");
    Ok(())
}

fn cargo_deny(context: &Context) -> Result<PathBuf> {
    let tools = context.target().join("tools");
    let installed = tools.join("bin/cargo-deny");
    if let Ok(found) = which::which("cargo-deny") {
        return Ok(found);
    }
    if !installed.exists() {
        println!("installing cargo-deny {VERSION}; this takes some minutes, once");
        // Optimised, it would take more than twice as long to build, and no less to run on one workspace.
        cmd!(
            context.sh,
            "cargo install --locked --quiet --debug cargo-deny --version {VERSION} --root {tools}"
        )
        .run()
        .context("install cargo-deny")?;
    }
    Ok(installed)
}
