//! Writes what is derived from the engine's tables: each client's op wrappers, and the reference of ops and errors; and
//! the settings, from the command line's definition.
//!
//! The files are committed, so that nobody needs this to build; the test command checks that they are fresh.

use anyhow::{Result, bail};

use crate::context::Context;

mod errors;
mod ops;
mod optimizers;
mod python;
mod rust;
mod settings;

/// One generated file.
struct Target {
    path: &'static str,
    make: fn(&Context) -> Result<String>,
}

const TARGETS: &[Target] = &[
    Target { path: "client/rust/src/ops.rs", make: rust::make },
    Target { path: "client/python/src/gradtape/_ops.py", make: |_| Ok(python::make()) },
    Target { path: "client/rust/src/optimizers.rs", make: optimizers::rust },
    Target { path: "docs/optimizers.md", make: |_| optimizers::docs() },
    Target { path: "docs/ops.md", make: |_| Ok(ops::make()) },
    Target { path: "docs/errors.md", make: errors::make },
    Target { path: settings::PATH, make: settings::make },
];

/// Writes the files that are not as they should be.
pub(crate) fn write(context: &Context) -> Result<()> {
    for target in TARGETS {
        let wanted = (target.make)(context)?;
        if context.sh.read_file(target.path).is_ok_and(|present| present == wanted) {
            continue;
        }
        context.sh.write_file(target.path, wanted)?;
        println!("wrote {}", target.path);
    }
    Ok(())
}

/// Fails if a file is not as it should be.
pub(crate) fn check(context: &Context) -> Result<()> {
    let mut stale = Vec::new();
    for target in TARGETS {
        let wanted = (target.make)(context)?;
        if context.sh.read_file(target.path).ok() != Some(wanted) {
            stale.push(target.path);
        }
    }
    if !stale.is_empty() {
        bail!("run cargo xtask generate: {} not fresh", stale.join(", "));
    }
    Ok(())
}
