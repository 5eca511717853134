//! How long it takes from the wish to stop a command until its core is free.
//!
//! In the engine alone: an op at a size where it takes long is stopped at a random moment, and the time is taken until it
//! returns. And through a client: from `Session::cancel` to the failed answer.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use gradtape_client::Session;
use gradtape_engine::{
    array::Tensor,
    attrs::{Attr, Attrs},
    aval::Aval,
    compute::{Cancel, Context, Crew},
    dtype::DType,
    error::Error,
    exec,
    ledger::Ledger,
    op::OpDef,
    ops,
};

use super::{Contender, Setting, numbers};
use crate::results::{Values, quantile};

/// The moment of the wish is up to so many milliseconds after the beginning.
const LATEST: u32 = 200;

/// An op or two of each class, most of which take longer than that, and the shapes of their inputs.
const CASES: [(&str, &[&[usize]]); 17] = [
    ("matmul", &[&[4096, 4096], &[4096, 4096]]),
    ("convolution", &[&[64, 112, 112, 64], &[3, 3, 64, 64]]),
    ("argsort", &[&[1 << 24]]),
    ("top_k_indices", &[&[1 << 25]]),
    ("searchsorted", &[&[1 << 20], &[1 << 23]]),
    ("argmax", &[&[1 << 25]]),
    ("exp", &[&[1 << 25]]),
    ("reduce_sum", &[&[1 << 25]]),
    ("softmax", &[&[1 << 12, 1 << 13]]),
    ("transpose", &[&[1 << 12, 1 << 13]]),
    ("cumprod", &[&[1 << 25]]),
    ("solve", &[&[1024, 1024], &[1024, 1024]]),
    ("cumsum", &[&[1 << 25]]),
    ("cholesky", &[&[2048, 2048]]),
    ("qr", &[&[1024, 1024]]),
    ("eigh", &[&[768, 768]]),
    ("svd", &[&[512, 512]]),
];

/// An op with its inputs.
struct Case {
    op: &'static OpDef,
    attrs: Attrs,
    inputs: Vec<Tensor>,
}

/// Every op so many times, and a chain of products through a client as often as all of them.
pub(super) fn cancel(setting: &Setting) -> Result<Contender> {
    let trials = if setting.quick { 2 } else { 12 };
    let ledger = Ledger::new("bench", 8 << 30);
    let cases = CASES.iter().map(|case| prepare(&ledger, case)).collect::<Result<Vec<_>>>()?;
    let crew = Crew::new(thread::available_parallelism()?.get())?;
    let session = setting.session()?;
    let note = format!("{trials} stops of each op up to {LATEST} ms after it began");
    let mut salt = 0;
    let sample = move |setting: &Setting| {
        let (mut values, mut all, mut client) = (Values::new(), Vec::new(), Vec::new());
        for case in &cases {
            let mut times = Vec::new();
            for _ in 0..trials {
                salt += 1;
                times.extend(stop(&ledger, &crew, case, delay(salt))?);
                client.push(setting.runtime.block_on(stop_session(&session, delay(salt)))?);
            }
            all.extend(&times);
            // An op that was done before every wish has no row: it is fast enough.
            if let Some(longest) = quantile(&times, 1.0) {
                values.insert(format!("{}, max", case.op.name), longest);
            }
        }
        for (name, times) in [("all ops", &all), ("through a client", &client)] {
            for (share, which) in [(0.99, "p99"), (1.0, "max")] {
                let time = quantile(times, share).context("nothing was stopped")?;
                values.insert(format!("{name}, {which}"), time);
            }
        }
        Ok(values)
    };
    Ok(Contender::new(note, sample))
}

fn delay(salt: u32) -> Duration {
    Duration::from_millis((numbers::hashed(salt, 1) % LATEST).into())
}

fn prepare(ledger: &Arc<Ledger>, &(name, shapes): &(&str, &[&[usize]])) -> Result<Case> {
    let op = ops::find(name).with_context(|| format!("there is no op {name}"))?;
    let same = (name == "convolution").then(|| ("padding".to_owned(), Attr::Text("SAME".into())));
    let attrs = Attrs::check(op.attrs, same.into_iter().collect())?;
    let mut inputs = Vec::new();
    for (salt, &shape) in (1..).zip(shapes) {
        let extents = shape.iter().map(|&n| i64::try_from(n)).collect::<Result<Vec<_>, _>>()?;
        let mut bytes = numbers::uniform(salt, &extents, 1.0).bytes().to_vec();
        if let ("cholesky", [side, _]) = (name, shape) {
            // A large diagonal makes it positive definite; what is above it is not looked at.
            for i in 0..*side {
                let place = 4 * (i * side + i);
                bytes[place..place + 4].copy_from_slice(&4096.0_f32.to_le_bytes());
            }
        }
        inputs.push(Tensor::from_bytes(ledger, &Aval::new(DType::F32, shape), &bytes)?);
    }
    Ok(Case { op, attrs, inputs })
}

/// Seconds from the wish to the end; none if the op was done before.
fn stop(
    ledger: &Arc<Ledger>,
    crew: &Arc<Crew>,
    case: &Case,
    delay: Duration,
) -> Result<Option<f64>> {
    let context = Context { crew: Arc::clone(crew), cancel: Cancel::default(), turns: None };
    let cancel = context.cancel.clone();
    thread::scope(|scope| {
        let wish = scope.spawn(move || {
            thread::sleep(delay);
            cancel.cancel();
            Instant::now()
        });
        let inputs: Vec<&Tensor> = case.inputs.iter().collect();
        let outcome = context.enter(|| exec::run(ledger, case.op, &case.attrs, &inputs));
        let end = Instant::now();
        let wish = wish.join().map_err(|_| anyhow::anyhow!("the thread that stops panicked"))?;
        match outcome {
            Err(Error::Cancelled) => {}
            Err(error) => return Err(error.into()),
            Ok(_) if end <= wish => return Ok(None),
            // It did not look at the flag before its end.
            Ok(_) => {}
        }
        Ok(Some(end.saturating_duration_since(wish).as_secs_f64()))
    })
}

/// Seconds from a client's wish to the answer that the products have failed.
async fn stop_session(session: &Session, delay: Duration) -> Result<f64> {
    let x = session.op("full", [], [("shape", [4096, 4096].into()), ("value", 1.0.into())]);
    let last = x.matmul(&x).matmul(&x);
    let answer = tokio::spawn({
        let last = last.clone();
        async move { last.value::<f32>().await }
    });
    tokio::time::sleep(delay).await;
    let start = Instant::now();
    session.cancel().await?;
    ensure!(answer.await?.is_err(), "the products were done before");
    Ok(start.elapsed().as_secs_f64())
}
