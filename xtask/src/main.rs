//! Repository tasks: `cargo xtask test` runs every test there is, `cargo xtask generate` rewrites what is derived from
//! the op table, `cargo xtask bench` measures.
//!
//! Nothing here is shipped. Whatever a task needs beyond Rust, git and Python it installs below `target/`.
#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench::BenchArgs,
    context::Context,
    parts::fuzz::{self, FuzzArgs, SoakArgs},
    test::Selection,
};

mod bench;
mod context;
mod generate;
mod parts;
mod test;

/// Repository tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs every test there is, in order, up to the first failure.
    #[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --list\n  \
                            cargo xtask test --only tidy --only proto\n  cargo xtask test --skip python")]
    Test(TestArgs),
    /// The same as `test`, but a missing toolchain is a failure.
    Ci(TestArgs),
    /// Rewrites what is derived from the op table: the clients' wrappers and the reference.
    Generate {
        /// Change nothing; fail if anything is not fresh.
        #[arg(long)]
        check: bool,
    },
    /// Measures, against TensorFlow, PyTorch, JAX and bare transports; writes target/bench/NAME.json.
    #[command(
        after_help = "Examples:\n  cargo xtask bench --list\n  cargo xtask bench seed mlp\n  \
                            cargo xtask bench ops --quick\n  cargo xtask bench && cargo xtask bench --record"
    )]
    Bench(BenchArgs),
    /// Runs the fuzz targets, on stable Rust and by chance; CONTRIBUTING.md says how coverage guides them.
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz --seconds 600\n  cargo xtask fuzz checkpoint_files\n  \
                      cargo xtask fuzz sequences --seed 68042836125622376145158323599280806187"
    )]
    Fuzz(FuzzArgs),
    /// Lets sessions come and go, and says what the server holds afterwards.
    Soak(SoakArgs),
    /// Accepts something as it is as what later versions are compared with.
    Baseline {
        /// What to accept.
        #[arg(value_enum, default_value_t)]
        what: Baseline,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Baseline {
    /// The schema, which later ones must not break. Done at a release.
    #[default]
    Schema,
    /// The instruction counts of the hot paths.
    Instructions,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Run only this part; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Leave this part out; may be repeated.
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// List the parts and run none.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let ci_variable = std::env::var("CI").is_ok_and(|value| value == "true");
    match Cli::parse().task {
        Task::Test(args) => run_tests(&args, ci_variable),
        Task::Ci(args) => run_tests(&args, true),
        Task::Generate { check } => {
            let context = Context::new(ci_variable)?;
            if check {
                generate::check(&context)?;
            } else {
                generate::write(&context)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Fuzz(args) => {
            fuzz::fuzz(&Context::new(ci_variable)?, &args)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Soak(args) => {
            fuzz::soak(&Context::new(ci_variable)?, &args)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Bench(args) => bench::run(&Context::new(ci_variable)?, &args),
        Task::Baseline { what } => {
            let context = Context::new(ci_variable)?;
            match what {
                Baseline::Schema => parts::proto::write_baseline(&context)?,
                Baseline::Instructions => parts::instructions::write_baseline(&context)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_tests(args: &TestArgs, ci: bool) -> Result<ExitCode> {
    if args.list {
        for part in parts::ALL {
            println!("{:<12} {}", part.name, part.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let selection = Selection::new(&args.only, &args.skip)?;
    let fine = test::run(&Context::new(ci)?, &selection);
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
