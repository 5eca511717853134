//! The parts of the test command, in the order in which they run: the quick ones and the ones that others build on
//! come first.

use anyhow::Result;

use crate::{
    context::{Context, Outcome},
    generate,
};

pub(crate) mod fuzz;
pub(crate) mod instructions;
pub(crate) mod proto;
pub(crate) mod python;
mod readme;
mod rust;
mod supply;
mod tidy;

/// One part of the test command.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its name for `--only` and `--skip`.
    pub(crate) name: &'static str,
    /// What it checks.
    pub(crate) about: &'static str,
    /// The check.
    pub(crate) run: fn(&Context) -> Result<Outcome>,
}

/// All parts.
pub(crate) const ALL: &[Part] = &[
    Part { name: "format", about: "rustfmt has nothing to change", run: rust::format },
    Part {
        name: "tidy",
        about: "dependencies, file lengths, module documentation, paths",
        run: tidy::run,
    },
    Part { name: "generated", about: "generated files are fresh", run: generated },
    Part { name: "clippy", about: "clippy has nothing to say", run: rust::clippy },
    Part { name: "docs", about: "the documentation builds without warnings", run: rust::docs },
    Part { name: "rust", about: "unit and integration tests", run: rust::tests },
    Part { name: "doctests", about: "the examples in the documentation", run: rust::doctests },
    Part { name: "fuzz", about: "each fuzz target on thousands of inputs", run: fuzz::run },
    Part {
        name: "soak",
        about: "sessions come and go for a minute, and nothing is left",
        run: fuzz::soak_a_minute,
    },
    Part { name: "deny", about: "licences, sources and bans of dependencies", run: supply::run },
    Part {
        name: "advisories",
        about: "nothing is known against a dependency; needs the RustSec database",
        run: supply::advisories,
    },
    Part { name: "proto", about: "buf lint, and nothing breaks the baseline", run: proto::run },
    Part {
        name: "instructions",
        about: "instruction counts of the hot paths; a rise is printed",
        run: instructions::run,
    },
    Part { name: "python", about: "ruff and pytest of the Python client", run: python::run },
    Part { name: "readme", about: "the snippets of README.md", run: readme::run },
];

fn generated(context: &Context) -> Result<Outcome> {
    generate::check(context)?;
    Ok(Outcome::Passed)
}
