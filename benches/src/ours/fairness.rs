//! Heavy and light sessions on one server: what the light ones wait for, and what the heavy ones lose.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use gradtape_client::{Session, Tensor};
use tokio::{task::JoinSet, time};

use super::{Contender, Setting};
use crate::{
    results::{Values, quantile},
    server::Server,
};

/// Sessions that multiply matrices of this side, and have two products on their way at all times.
const HEAVY: (usize, i64) = (4, 1024);

/// Sessions that multiply matrices of this side now and then.
const LIGHT: (u32, i64) = (20, 64);

/// The time from product to product of a light session, whether the one before is done or not.
const PERIOD: Duration = Duration::from_millis(20);

/// The heavy sessions alone, and then together with the light ones.
pub(super) fn fairness(setting: &Setting) -> Result<Contender> {
    let program = Setting::program()?;
    let time = Duration::from_millis(if setting.quick { 500 } else { 5000 });
    let note = format!(
        "{} sessions with two {}x{1} products in flight; {} with a {}x{3} product each {} ms, from the moment when \
         it is due to its answer; {} s each, the heavy ones alone and then all",
        HEAVY.0,
        HEAVY.1,
        LIGHT.0,
        LIGHT.1,
        PERIOD.as_millis(),
        time.as_secs_f64()
    );
    let server = Server::start(&program, &[])?;
    let address = server.url();
    let sample = move |setting: &Setting| {
        // It lives as long as the contender.
        let _ = &server;
        let (alone, _) = setting.runtime.block_on(run(&address, 0, time))?;
        let (together, times) = setting.runtime.block_on(run(&address, LIGHT.0, time))?;
        let at = |share| quantile(&times, share).context("nothing was answered");
        Ok(Values::from([
            ("light, p50".to_owned(), at(0.5)?),
            ("light, p99".to_owned(), at(0.99)?),
            ("light, max".to_owned(), at(1.0)?),
            ("heavy, alone".to_owned(), alone),
            ("heavy, with light ones".to_owned(), together),
            ("heavy, what is left".to_owned(), together / alone),
        ]))
    };
    Ok(Contender::new(note, sample))
}

/// Heavy products a second, and the seconds of each light one.
async fn run(address: &str, light: u32, time: Duration) -> Result<(f64, Vec<f64>)> {
    let products = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut heavy = JoinSet::new();
    for _ in 0..HEAVY.0 {
        let session = Session::connect(address).await?;
        let x = matrix(&session, HEAVY.1);
        session.sync().await?;
        for _ in 0..2 {
            let (session, x) = (session.clone(), x.clone());
            heavy.spawn(multiply(session, x, Arc::clone(&products), Arc::clone(&over)));
        }
    }
    let mut waiting = JoinSet::new();
    let start = time::Instant::now() + PERIOD;
    for i in 0..light {
        let session = Session::connect(address).await?;
        let x = matrix(&session, LIGHT.1);
        session.sync().await?;
        waiting.spawn(now_and_then(session, x, start + PERIOD * i / light, time));
    }
    time::sleep_until(start).await;
    let (before, began) = (products.load(Ordering::Relaxed), Instant::now());
    time::sleep(time).await;
    let done = products.load(Ordering::Relaxed) - before;
    let rate = Duration::from_secs(done).as_secs_f64() / began.elapsed().as_secs_f64();
    let mut times = Vec::new();
    while let Some(some) = waiting.join_next().await {
        times.extend(some??);
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = heavy.join_next().await {
        ended??;
    }
    Ok((rate, times))
}

fn matrix(session: &Session, side: i64) -> Tensor {
    session.op("full", [], [("shape", [side, side].into()), ("value", 0.5.into())])
}

/// One product after the other, until it is over.
async fn multiply(
    session: Session,
    x: Tensor,
    products: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        drop(x.matmul(&x));
        session.sync().await?;
        products.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A product each period, none of which waits for the one before.
async fn now_and_then(
    session: Session,
    x: Tensor,
    start: time::Instant,
    time: Duration,
) -> Result<Vec<f64>> {
    let mut answers = JoinSet::new();
    let mut due = start;
    while due < start + time {
        time::sleep_until(due).await;
        drop(x.matmul(&x));
        let answer = session.sync();
        answers.spawn(async move {
            answer.await?;
            Ok::<_, gradtape_client::Error>(due.elapsed().as_secs_f64())
        });
        due += PERIOD;
    }
    let mut times = Vec::new();
    while let Some(seconds) = answers.join_next().await {
        times.push(seconds??);
    }
    Ok(times)
}
