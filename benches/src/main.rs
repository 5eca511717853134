//! The benches: what is measured ([`table`]), against what, and how. `cargo xtask bench` builds everything and runs this.
//!
//! One process runs a bench: it starts a server, starts a process for each contender ([`contender`]), takes samples from
//! all of them in turn ([`run`]) and reports medians, ratios and goals ([`report`]). Our contenders in Rust are this
//! same program ([`ours`]); the others are Python scripts in `peers/`. `record` and `plot` turn what was written to
//! `target/bench` into `RESULTS.md` and the picture of the README.
#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

mod contender;
mod machine;
mod ours;
mod plot;
mod record;
mod report;
mod results;
mod run;
mod server;
mod table;

/// What runs in this process and not behind the server has the server's allocator, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The benches of gradtape.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the benches.
    List,
    /// Runs benches, prints a table for each and writes it to a file.
    Run(RunArgs),
    /// Is one of our contenders: `gradtape-bench contend seed rust-eager`.
    Contend {
        /// Name of the bench.
        bench: String,
        /// Name of the contender.
        name: String,
        /// Less work.
        #[arg(long)]
        quick: bool,
    },
    /// Writes RESULTS.md and the picture of the README from the files of earlier runs.
    Record {
        /// Where the files are.
        #[arg(long)]
        results: PathBuf,
        /// The folder to write to.
        #[arg(long)]
        to: PathBuf,
    },
}

/// What a run needs to know.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Benches to run; without any, all.
    names: Vec<String>,
    /// Fewer and shorter samples: to see that it works, not to be recorded.
    #[arg(long)]
    quick: bool,
    /// The server's program.
    #[arg(long)]
    server: PathBuf,
    /// The Python that has the peers.
    #[arg(long)]
    python: PathBuf,
    /// The folder with the peers' scripts.
    #[arg(long)]
    peers: PathBuf,
    /// Where to write results.
    #[arg(long)]
    results: PathBuf,
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::List => {
            for bench in table::BENCHES {
                println!("{:<10} {}", bench.name, bench.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(args) => run::run(&args),
        Command::Contend { bench, name, quick } => {
            ours::contend(&bench, &name, quick).with_context(|| format!("{bench}: {name}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Record { results, to } => {
            let all = results::read(&results)?;
            record::write(&all, &to)?;
            plot::write(&all, &to)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
