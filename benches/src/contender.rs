//! A contender's process, from the side of the bench: one line of JSON when it is warm, then one for each sample that it
//! is asked for.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    RunArgs,
    results::Values,
    table::{Bench, Contender, Program},
};

/// What a contender says of itself when it is warm.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Versions of what it uses, by name.
    pub(crate) versions: BTreeMap<String, String>,
    /// Numbers that all contenders of a bench must agree on.
    pub(crate) outcome: Vec<f64>,
    /// Warm-up, threads, scaling.
    pub(crate) note: String,
}

/// A contender that runs. It ends with its standard input, so with this value.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// What it said of itself.
    pub(crate) ready: Ready,
}

impl Running {
    /// Starts a contender and waits until it is warm.
    pub(crate) fn start(
        bench: &Bench,
        contender: &Contender,
        args: &RunArgs,
        address: &str,
    ) -> Result<Self> {
        let mut command = match contender.program {
            Program::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("contend");
                command
            }
            Program::Python(script) => {
                let mut command = Command::new(&args.python);
                command.arg(args.peers.join(script));
                command
            }
        };
        command.args([bench.name, contender.name]);
        if args.quick {
            command.arg("--quick");
        }
        let mut process = command
            .env("GRADTAPE_ADDRESS", address)
            .env("GRADTAPE_SERVER", &args.server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("the contender has no output")?;
        let mut output = BufReader::new(output).lines();
        let ready = next(&mut output)?;
        Ok(Self { process, input, output, ready })
    }

    /// Takes a sample.
    pub(crate) fn sample(&mut self) -> Result<Values> {
        let input = self.input.as_mut().context("the contender takes no input")?;
        input.write_all(b"\n")?;
        input.flush()?;
        next(&mut self.output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself; how it ends is not measured.
        drop(self.process.wait());
    }
}

fn next<T: serde::de::DeserializeOwned>(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<T> {
    let line = lines.next().context("the contender ended; what it printed stands above")??;
    serde_json::from_str(&line).with_context(|| format!("the contender said {line:?}"))
}
