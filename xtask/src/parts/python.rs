//! The Python client: installed from its folder into a virtual environment, linted, and tested against the server
//! that was just built.

use anyhow::Result;
use xshell::cmd;

use super::rust::build_server;
use crate::context::{Context, Outcome};

const CLIENT: &str = "client/python";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    if let Some(why) = context.python_missing() {
        return context.missing(why);
    }
    build_server(context)?;
    let bin = context.venv()?;
    let project = context.sh.read_file(format!("{CLIENT}/pyproject.toml"))?;
    // The comment makes a change of the dependencies a change of the requirements.
    let project = format!("# {}", project.replace('\n', "\n# "));
    let source = format!("{CLIENT}[dev]");
    context.install_once(&bin, "client", &["--editable", &source, &project])?;

    let (ruff, python) = (bin.join("ruff"), bin.join("python"));
    cmd!(context.sh, "{ruff} check {CLIENT}").run()?;
    cmd!(context.sh, "{ruff} format --check {CLIENT}").run()?;
    let server = context.target().join("debug/gradtape");
    let _client = context.sh.push_dir(CLIENT);
    cmd!(context.sh, "{python} -m pytest").env("GRADTAPE_SERVER", server).run()?;
    Ok(Outcome::Passed)
}
