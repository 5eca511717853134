//! The Python client: installed from its folder into a virtual environment, linted, and tested against the server
//! that was just built.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xshell::cmd;

use super::rust::build_server;
use crate::context::{Context, Outcome};

const CLIENT: &str = "client/python";
/// The contenders of the benches in Python, which are held to the same style.
const PEERS: &str = "benches/peers";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    if let Some(why) = context.python_missing() {
        return context.missing(why);
    }
    build_server(context)?;
    let bin = environment(context)?;
    let (ruff, python) = (bin.join("ruff"), bin.join("python"));
    cmd!(context.sh, "{ruff} check {CLIENT}").run()?;
    cmd!(context.sh, "{ruff} format --check {CLIENT}").run()?;
    cmd!(context.sh, "{ruff} check {PEERS}").run()?;
    cmd!(context.sh, "{ruff} format --check {PEERS}").run()?;
    let server = context.target().join("debug/gradtape");
    let _client = context.sh.push_dir(CLIENT);
    cmd!(context.sh, "{python} -m pytest").env("GRADTAPE_SERVER", server).run()?;
    Ok(Outcome::Passed)
}

/// The programs of the virtual environment, with the client installed from its folder.
pub(crate) fn environment(context: &Context) -> Result<PathBuf> {
    let bin = context.venv()?;
    install(context, &bin, "[dev]")?;
    Ok(bin)
}

/// Installs the client from its folder, with these extras, unless it is there.
pub(crate) fn install(context: &Context, bin: &Path, extras: &str) -> Result<()> {
    let project = context.sh.read_file(format!("{CLIENT}/pyproject.toml"))?;
    // The comment makes a change of the dependencies a change of the requirements.
    let project = format!("# {}", project.replace('\n', "\n# "));
    let source = format!("{CLIENT}{extras}");
    context.install_once(bin, "client", &["--editable", &source, &project])
}
