//! Builds what the benches need, installs the peers, and hands over to the program `gradtape-bench`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use xshell::cmd;

use crate::{context::Context, parts::python};

/// Who is compared with, from `PyPI`. Pinned, so that a result names what it was taken against.
const PEERS: &[&str] = &["tensorflow-cpu==2.21.0", "torch==2.15.0", "jax==0.10.2"];

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Benches to run; without any, all.
    names: Vec<String>,
    /// List the benches and run none.
    #[arg(long)]
    list: bool,
    /// Fewer and shorter samples: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Write benches/RESULTS.md and benches/results.svg from the last runs, and run none.
    #[arg(long, conflicts_with_all = ["names", "quick"])]
    record: bool,
}

pub(crate) fn run(context: &Context, args: &BenchArgs) -> Result<ExitCode> {
    let sh = &context.sh;
    cmd!(sh, "cargo build --locked --release --package gradtape-server --package gradtape-bench")
        .quiet()
        .run()?;
    let release = context.target().join("release");
    let bench = release.join("gradtape-bench");
    let results = context.target().join("bench");
    let folder = context.root().join("benches");
    if args.list {
        cmd!(sh, "{bench} list").quiet().run()?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.record {
        cmd!(sh, "{bench} record --results {results} --to {folder}").quiet().run()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = context.python_missing() {
        bail!("{why}, and the peers need it");
    }
    let venv = context.target().join("bench-venv");
    let bin = venv.join("bin");
    if !bin.join("pip").exists() {
        cmd!(sh, "python3 -m venv {venv}").run().context("make a virtual environment")?;
    }
    println!("installing the peers, unless they are there; they are several gigabytes");
    context.install_once(&bin, "peers", PEERS)?;
    python::install(context, &bin, "")?;

    let (server, python, peers) =
        (release.join("gradtape"), bin.join("python"), folder.join("peers"));
    let names = &args.names;
    let quick = args.quick.then_some("--quick");
    let measured = cmd!(
        sh,
        "{bench} run {names...} {quick...} --server {server} --python {python} --peers {peers} --results {results}"
    )
    .quiet()
    .run();
    Ok(if measured.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
