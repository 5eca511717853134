//! The least memory with which a session can train a model, found by trying, against the sum of what must live.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use gradtape_client::{Error, Session};

use super::{
    Contender, Setting,
    models::{self, Model, Training},
};
use crate::{results::Values, server::Server};

const MODELS: [(&str, Model); 3] =
    [("mlp", models::MLP), ("cnn", models::CNN), ("gpt", models::GPT)];

/// The bytes are counted to one part in so many.
const RESOLUTION: u64 = 256;

/// What the server says to a command that would take more than the session may have.
const REFUSED: &str = "MEMORY_LIMIT";

/// Bytes of a float32 and of an int32.
const ELEMENT: i64 = 4;

/// The server's ledger prices a step before it runs; a session with less is refused.
pub(super) fn session(_: &Setting) -> Result<Contender> {
    let note = "bisection of the server's --session-memory over three steps with one batch; must live: variables, both \
                moments, and the larger of what the backward pass reads and of all gradients";
    let program = Setting::program()?;
    let sample = move |setting: &Setting| {
        let mut values = Values::new();
        for (name, model) in MODELS {
            let parameters = models::parameter_elements(model);
            let live = ELEMENT * (3 * parameters + (model.remembered)().max(parameters));
            let live = u64::try_from(live).context("shapes are positive")?;
            let needed = needed(setting, &program, model, live)?;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
            let (live, needed) = (live as f64, needed as f64);
            values.insert(format!("{name}: must live"), live);
            values.insert(format!("{name}: needed"), needed);
            values.insert(format!("{name}: needed / must live"), needed / live);
        }
        Ok(values)
    };
    Ok(Contender::new(note, sample))
}

fn needed(setting: &Setting, program: &Path, model: Model, live: u64) -> Result<u64> {
    let (mut refused, mut granted) = (live / 2, live);
    while !trains(setting, program, model, granted)? {
        refused = granted;
        granted *= 2;
        if granted > 64 * live {
            bail!("no memory is enough");
        }
    }
    while granted - refused > granted / RESOLUTION {
        let middle = refused.midpoint(granted);
        if trains(setting, program, model, middle)? {
            granted = middle;
        } else {
            refused = middle;
        }
    }
    Ok(granted)
}

/// Whether three steps go well in a session of this size.
fn trains(setting: &Setting, program: &Path, model: Model, bytes: u64) -> Result<bool> {
    let server = Server::start(program, &["--session-memory", &bytes.to_string()])?;
    let work = async {
        let session = Session::connect(format!("http://{}", server.address)).await?;
        let training = Training::new(&session, model, 1);
        for number in 0..3 {
            let loss = training.step(number);
            loss.scalar::<f32>().await?;
            session.sync().await?;
        }
        Ok::<_, Error>(())
    };
    match setting.runtime.block_on(work) {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a command, or the one that its inputs come from, would have taken too much.
fn is_refusal(error: &Error) -> bool {
    let first = error.failure().and_then(|failure| failure.cause.as_ref());
    [error.reason(), first.map(|cause| cause.reason.as_str())].contains(&Some(REFUSED))
}
