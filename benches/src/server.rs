//! A server of our own, on a free port of loopback, for the length of a bench.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// A running server, which ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Server {
    /// Starts the program with these options besides the usual ones.
    pub(crate) fn start(program: &Path, options: &[&str]) -> Result<Self> {
        Self::start_at(program, "127.0.0.1:0", options)
    }

    /// The same at an address that another one had.
    pub(crate) fn start_at(program: &Path, address: &str, options: &[&str]) -> Result<Self> {
        let mut process = Command::new(program)
            .args(["serve", "--listen", address, "--log", "warn", "--exit-with-parent"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("the server has no output")?)
            .read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ");
        let address = address.context("the server does not listen")?.to_owned();
        Ok(Self { process, address })
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that the process has in memory.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.split_ascii_whitespace().nth(1))
            .context("the system does not say what memory the server has")?
            .parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already if this fails.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
