//! Our contenders in Rust. One process is one contender; it speaks with the bench as `peers/_contend.py` does.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, Write as _},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result};
use gradtape_client::Session;
use tokio::runtime::Runtime;

use crate::{contender::Ready, results::Values};

mod bare;
mod cancel;
mod commands;
mod durability;
mod fairness;
mod memory;
mod models;
mod numbers;
pub(crate) mod ops;
mod seed;
mod sessions;
mod tensors;

/// Warms a contender up.
type WarmUp = fn(&Setting) -> Result<Contender>;

/// Takes a sample.
type Sample = Box<dyn FnMut(&Setting) -> Result<Values>>;

/// Every contender: bench, name, and what warms it up.
pub(crate) const CONTENDERS: &[(&str, &str, WarmUp)] = &[
    ("seed", "rust-eager", seed::eager),
    ("seed", "rust-function", seed::function),
    ("seed", "rust-loop", seed::on_the_server),
    ("mlp", "rust-eager", |setting| models::eager(setting, models::MLP)),
    ("mlp", "rust-function", |setting| models::function(setting, models::MLP)),
    ("cnn", "rust-eager", |setting| models::eager(setting, models::CNN)),
    ("cnn", "rust-function", |setting| models::function(setting, models::CNN)),
    ("gpt", "rust-eager", |setting| models::eager(setting, models::GPT)),
    ("gpt", "rust-function", |setting| models::function(setting, models::GPT)),
    ("ops", "engine", ops::engine),
    ("commands", "stream", commands::stream),
    ("commands", "bare-tonic", commands::bare),
    ("tensors", "rust", tensors::client),
    ("tensors", "bare-tonic", tensors::bare),
    ("tensors", "memcpy", tensors::memcpy),
    ("sessions", "sessions", sessions::sessions),
    ("fairness", "sessions", fairness::fairness),
    ("durability", "sessions", durability::durability),
    ("memory", "session", memory::session),
    ("cancel", "cancel", cancel::cancel),
];

/// What a contender finds.
#[derive(Debug)]
pub(crate) struct Setting {
    runtime: Runtime,
    quick: bool,
}

/// Something to measure, warmed up.
pub(crate) struct Contender {
    sample: Sample,
    outcome: Vec<f64>,
    note: String,
}

impl Contender {
    fn new(
        note: impl Into<String>,
        sample: impl FnMut(&Setting) -> Result<Values> + 'static,
    ) -> Self {
        Self { sample: Box::new(sample), outcome: Vec::new(), note: note.into() }
    }
}

impl Setting {
    /// The bench's server.
    fn address() -> Result<String> {
        let address = env::var("GRADTAPE_ADDRESS").context("GRADTAPE_ADDRESS names no server")?;
        Ok(format!("http://{address}"))
    }

    /// The server's program, for benches that need servers of their own.
    fn program() -> Result<PathBuf> {
        let program = env::var_os("GRADTAPE_SERVER").context("GRADTAPE_SERVER names no program")?;
        Ok(program.into())
    }

    /// A session on the bench's server.
    fn session(&self) -> Result<Session> {
        let address = Self::address()?;
        Ok(self.runtime.block_on(Session::connect(address))?)
    }
}

/// Is a contender until standard input ends.
pub(crate) fn contend(bench: &str, name: &str, quick: bool) -> Result<()> {
    let (.., warm_up) = CONTENDERS
        .iter()
        .find(|contender| (contender.0, contender.1) == (bench, name))
        .context("there is no such contender")?;
    let setting = Setting { runtime: Runtime::new()?, quick };
    let mut contender = warm_up(&setting)?;
    say(&Ready {
        versions: BTreeMap::from([("gradtape".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        outcome: contender.outcome.clone(),
        note: contender.note.clone(),
    })?;
    for line in std::io::stdin().lock().lines() {
        line?;
        say(&(contender.sample)(&setting)?)?;
    }
    Ok(())
}

fn say(message: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, message)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Values of one row.
fn row(name: &str, value: f64) -> Values {
    Values::from([(name.to_owned(), value)])
}

/// How long something takes, in seconds.
fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}
