//! The tutorial's loop.

use anyhow::Result;
use gradtape_client::Session;

use super::{Contender, Setting, row, seconds};

/// Eager, through the client.
pub(super) fn eager(setting: &Setting) -> Result<Contender> {
    let session = setting.session()?;
    let (w, b) = setting.runtime.block_on(train(&session))?;
    let mut contender = Contender::new("warm-up 1000 steps", move |setting: &Setting| {
        let taken = seconds(|| setting.runtime.block_on(train(&session)))?;
        Ok(row("1000 steps", taken))
    });
    contender.outcome = vec![w.into(), b.into()];
    Ok(contender)
}

async fn train(session: &Session) -> Result<(f32, f32)> {
    let w = session.variable("w", 0.1f32);
    let b = session.variable("b", 0.1f32);
    let x = session.constant([0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let y = session.constant([-1.0f32, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0]);
    for _ in 0..1000 {
        let tape = session.persistent_tape();
        let loss = (&y - (&w * &x + &b)).abs();
        let dw = tape.derivative(&loss, &w);
        let db = tape.derivative(&loss, &b);
        w.assign_sub(dw * 0.001);
        b.assign_sub(db * 0.001);
    }
    Ok((w.scalar().await?, b.scalar().await?))
}
