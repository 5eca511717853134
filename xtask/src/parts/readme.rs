//! The snippets of README.md do what they say: Python's runs, the shell's runs where grpcurl is installed, and Rust's
//! is part of the client's own README, which is a documentation test.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use super::{python, rust::build_server};
use crate::context::{Context, Outcome};

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let readme = context.sh.read_file("README.md")?;
    let tested = context.sh.read_file("client/rust/README.md")?;
    let rust = snippet(&readme, "rust")?;
    ensure!(
        tested.contains(&rust),
        "the Rust snippet of README.md is no part of client/rust/README.md"
    );

    if let Some(why) = context.python_missing() {
        return context.missing(why);
    }
    build_server(context)?;
    run_python(context, &snippet(&readme, "python")?)?;

    if which::which("grpcurl").is_err() || which::which("jq").is_err() {
        println!("grpcurl or jq is not installed, so the session of the shell was not tried");
        return Ok(Outcome::Passed);
    }
    let server = Server::start(&context.target().join("debug/gradtape"))?;
    let address = &server.address;
    cmd!(context.sh, "scripts/grpcurl-session.sh {address}").run()?;
    Ok(Outcome::Passed)
}

/// Runs Python's snippet, which says in comments what its lines print.
fn run_python(context: &Context, code: &str) -> Result<()> {
    let python = python::environment(context)?.join("python");
    let server = context.target().join("debug/gradtape");
    let printed = cmd!(context.sh, "{python} -c {code}").env("GRADTAPE_SERVER", server).read()?;
    let expected: Vec<_> = code
        .lines()
        .filter(|line| line.starts_with("print("))
        .filter_map(|line| line.split("  # ").nth(1))
        .collect();
    ensure!(
        printed.lines().eq(expected.iter().copied()),
        "Python's snippet prints {printed:?}, not {expected:?}"
    );
    Ok(())
}

/// The first block of a language.
fn snippet(markdown: &str, language: &str) -> Result<String> {
    let lines: Vec<_> = markdown
        .lines()
        .skip_while(|line| *line != format!("```{language}"))
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    ensure!(!lines.is_empty(), "README.md has no snippet in {language}");
    Ok(lines.join("\n"))
}

/// A server on a free port, which ends with this value.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(program: &Path) -> Result<Self> {
        let mut process = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("the server has no output")?)
            .read_line(&mut line)?;
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .context("the server does not listen")?
            .to_owned();
        Ok(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already if this fails.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
