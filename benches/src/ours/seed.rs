//! The tutorial's loop.

use anyhow::Result;
use gradtape_client::{Function, Session, Tensor, Variable};
use tokio::runtime::Builder;

use super::{Contender, Setting, row, seconds};

/// Runs of a whole loop in one sample, as in `peers/_contend.py`.
const LOOP_RUNS: u32 = 20;

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

/// One call of a function for each step.
pub(super) fn function(setting: &Setting) -> Result<Contender> {
    defined(setting, 1, "warm-up 1000 calls", |step| {
        for _ in 0..1000 {
            step.call::<&Tensor>([]);
        }
    })
}

/// One loop on the server. The program only waits meanwhile, so its own thread can serve the connection.
pub(super) fn on_the_server(setting: &Setting) -> Result<Contender> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let setting = Setting { runtime, quick: setting.quick };
    let note = format!(
        "warm-up a loop of 1000 steps, client of one thread; a sample is the mean of {LOOP_RUNS} run(s)"
    );
    let contender = defined(&setting, LOOP_RUNS, note, |step| drop(step.repeat(1000).start()))?;
    let Contender { mut sample, outcome, note } = contender;
    Ok(Contender { sample: Box::new(move |_| sample(&setting)), outcome, note })
}

/// The step as a function of the server; `run` takes a thousand of them. A sample is the mean of some runs.
fn defined(
    setting: &Setting,
    runs: u32,
    note: impl Into<String>,
    run: fn(&Function),
) -> Result<Contender> {
    let session = setting.session()?;
    let (w, b) = variables(&session);
    let data = data(&session);
    let function = session.function([], |_| {
        step(&session, (&w, &b), &data);
        vec![]
    });
    let start = session.constant(0.1f32);
    let train = move |setting: &Setting| {
        setting.runtime.block_on(async {
            w.assign(&start);
            b.assign(&start);
            run(&function);
            read(&w, &b).await
        })
    };
    let (first, second) = train(setting)?;
    let mut contender = Contender::new(note, move |setting: &Setting| {
        let taken = seconds(|| (0..runs).try_for_each(|_| train(setting).map(drop)))?;
        Ok(row("1000 steps", taken / f64::from(runs)))
    });
    contender.outcome = vec![first.into(), second.into()];
    Ok(contender)
}

fn variables(session: &Session) -> (Variable, Variable) {
    (session.variable("w", 0.1f32), session.variable("b", 0.1f32))
}

fn data(session: &Session) -> (Tensor, Tensor) {
    (
        session.constant([0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        session.constant([-1.0f32, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0]),
    )
}

fn step(session: &Session, (w, b): (&Variable, &Variable), (x, y): &(Tensor, Tensor)) {
    let tape = session.persistent_tape();
    let loss = (y - (w * x + b)).abs();
    let dw = tape.derivative(&loss, w);
    let db = tape.derivative(&loss, b);
    w.assign_sub(dw * 0.001);
    b.assign_sub(db * 0.001);
}

async fn train(session: &Session) -> Result<(f32, f32)> {
    let (w, b) = variables(session);
    let data = data(session);
    for _ in 0..1000 {
        step(session, (&w, &b), &data);
    }
    read(&w, &b).await
}

/// Asks for both before it waits for one.
async fn read(w: &Variable, b: &Variable) -> Result<(f32, f32)> {
    let (w, b) = (w.scalar(), b.scalar());
    Ok((w.await?, b.await?))
}
