//! The main job: the tutorial's programs and a classifier of handwritten digits, through a real server.

mod digits;
mod embedded;
mod model;
mod progress;
mod tutorial;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use gradtape_client::Session;
use tracing_subscriber::filter::LevelFilter;

use crate::{digits::Training, progress::Progress};

/// Runs the tutorial and trains a digits classifier on a gradtape server.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  gradtape-demo                                    everything, on a server of its own
  gradtape-demo --plain                            log lines instead of a progress bar
  gradtape-demo --epochs 5 --learning-rate 0.01    a short training run
  gradtape-demo --address http://127.0.0.1:50051   on a server that runs already

The exit code is 0 if the classifier reaches its target on the held-out images."
)]
struct Arguments {
    /// Use this server instead of starting one.
    #[arg(long, value_name = "URL", env = "GRADTAPE_ADDRESS")]
    address: Option<String>,
    /// Print log lines instead of a progress bar.
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    training: Training,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::WARN).init();
    let address = match arguments.address {
        Some(address) => address,
        None => embedded::start().await?,
    };
    let progress = Progress::new(arguments.plain);
    progress.say(&format!("connected to {address}\n"));

    tutorial::run(&address, &progress).await?;
    let session = Session::connect(&address).await?;
    let passed = digits::train(&session, &arguments.training, &progress).await?;
    session.close().await?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
