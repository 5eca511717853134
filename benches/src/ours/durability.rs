//! A server with a log: what it costs a step, and what is left when the server is killed under load.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use gradtape_client::{Level, Session, Variable};

use super::{Contender, Setting, sessions::train};
use crate::{
    results::{Values, quantile},
    server::Server,
};

/// Sessions that count at the same time while the server is killed.
const COUNTERS: usize = 4;

/// Longer than any kill.
const PATIENCE: Duration = Duration::from_mins(1);

/// Steps without a log, with one, and each confirmed to be durable; then kills, after each of which the sessions go on.
pub(super) fn durability(setting: &Setting) -> Result<Contender> {
    let program = Setting::program()?;
    let (steps, kills) = if setting.quick { (100, 5) } else { (2000, 200) };
    let note = format!(
        "{steps} steps of the tutorial's loop, reading a weight after each; {kills} times SIGKILL, at moments that are spread \
         over 40 ms, while {COUNTERS} sessions add one to a variable and wait until that is durable: what a counter has too few \
         or too many in the end was lost or done twice"
    );
    let sample = move |setting: &Setting| {
        let store = Store::new()?;
        let mut values = Values::new();
        for (row, log, level) in [
            ("step without a log", false, Level::Applied),
            ("step with a log", true, Level::Applied),
            ("durable step", true, Level::Durable),
        ] {
            let options = store.options();
            let server = Server::start(&program, if log { &options } else { &[] })?;
            let times = setting.runtime.block_on(async {
                train(Session::connect(server.url()).await?, steps, level).await
            })?;
            values.insert(row.to_owned(), quantile(&times, 0.5).context("no step was taken")?);
        }
        let Killed { wrong, back } = setting.runtime.block_on(kill(&program, &store, kills))?;
        let at = |share| quantile(&back, share).context("nobody came back");
        values.insert("lost or done twice".to_owned(), wrong);
        values.insert("durable again after a kill, p50".to_owned(), at(0.5)?);
        values.insert("durable again after a kill, max".to_owned(), at(1.0)?);
        Ok(values)
    };
    Ok(Contender::new(note, sample))
}

/// A folder for logs, which is removed with this value.
struct Store(PathBuf);

impl Store {
    /// Below the working folder: what is mounted on `/tmp` may be no disk.
    fn new() -> Result<Self> {
        let path =
            std::env::current_dir()?.join(format!("target/bench-store-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn options(&self) -> [&str; 2] {
        ["--session-store", self.0.to_str().unwrap_or_default()]
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whatever cannot be removed is in a folder for such things.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Waits until everything has reached a level.
pub(super) async fn confirm(session: &Session, level: Level) -> Result<()> {
    let reached = session.sync_to(level, PATIENCE).await?;
    ensure!(reached.level == level, "{:?} was reached", reached.level);
    Ok(())
}

/// What kills did.
struct Killed {
    /// Steps that were lost, and that were done more than once.
    wrong: f64,
    /// From each kill to the first step that was durable again, the start of the program included.
    back: Vec<f64>,
}

async fn kill(program: &Path, store: &Store, kills: u32) -> Result<Killed> {
    let mut server = Server::start(program, &store.options())?;
    let address = server.address.clone();
    let mut counters = Vec::new();
    for _ in 0..COUNTERS {
        let session = Session::connect(server.url()).await?;
        let count = session.variable("count", 0.0f64);
        confirm(&session, Level::Durable).await?;
        counters.push((session, count, 0_u32));
    }
    let mut back = Vec::new();
    for number in 0..kills {
        // The golden ratio spreads the moments evenly, however many there are.
        let moment = Duration::from_secs_f64(0.04 * (f64::from(number) * 0.618_033_988_75).fract());
        let deadline = Instant::now() + moment;
        let counting = counters.into_iter().map(|counter| tokio::spawn(count(counter, deadline)));
        let counting: Vec<_> = counting.collect();
        tokio::time::sleep_until(deadline.into()).await;
        let died = Instant::now();
        drop(server);
        let options = store.options();
        server = Server::start_at(program, &address, &options)?;
        counters = Vec::new();
        for counter in counting {
            counters.push(counter.await??);
        }
        back.push(died.elapsed().as_secs_f64());
    }
    let mut wrong = 0.0;
    for (session, count, steps) in counters {
        wrong += (count.scalar::<f64>().await? - f64::from(steps)).abs();
        session.close().await?;
    }
    Ok(Killed { wrong, back })
}

type Counter = (Session, Variable, u32);

/// Counts until the server is dead, and once more, which is durable when it is back.
async fn count((session, count, mut steps): Counter, deadline: Instant) -> Result<Counter> {
    let one = session.constant(1.0f64);
    loop {
        let last = Instant::now() > deadline;
        count.assign_add(&one);
        steps += 1;
        confirm(&session, Level::Durable).await?;
        if last {
            return Ok((session, count, steps));
        }
    }
}
