//! buf's rules for the schema: the style in `buf.yaml`, and no change that breaks a client made for the baseline.

use anyhow::Result;
use xshell::cmd;

use crate::context::{Context, Outcome};

/// The schema of the last release, as an image that needs no git history to compare with.
const BASELINE: &str = "proto/baseline.binpb";

pub(crate) fn run(context: &Context) -> Result<Outcome> {
    if let Some(why) = context.python_missing() {
        return context.missing(why);
    }
    let buf = context.venv()?.join("buf");
    cmd!(context.sh, "{buf} lint").run()?;
    cmd!(context.sh, "{buf} breaking --against {BASELINE}").run()?;
    Ok(Outcome::Passed)
}

/// Makes the present schema the baseline.
pub(crate) fn write_baseline(context: &Context) -> Result<()> {
    let buf = context.venv()?.join("buf");
    Ok(cmd!(context.sh, "{buf} build --exclude-source-info -o {BASELINE}").run()?)
}
