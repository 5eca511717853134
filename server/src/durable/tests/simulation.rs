//! A client, a session and a disk whose power goes at random, many times over; and disks with flaws, which must be found out.

use std::time::Duration;

use super::{
    disk::{Flaw, Moment},
    *,
};
use crate::durable::journal::Health;

/// Commands of a run.
const COMMANDS: u64 = 120;

/// Longer than any write takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The command with a number: a variable grows by a part of itself, so that nothing can be missing or doubled.
fn nth(sequence: u64) -> v1::Command {
    match sequence {
        1 => constant(1, &[0.1, 0.7]),
        2 => variable(2, 1),
        sequence if sequence % 5 == 0 => fetch(2),
        sequence if sequence % 2 == 1 => op("multiply", &[2, 1], 100 + sequence),
        sequence if sequence % 12 == 0 => durable(),
        sequence if sequence < 5 || sequence % 5 == 1 => add(2, 1),
        sequence => add(2, 100 + sequence - 1),
    }
}

/// What is left without any disturbance.
fn expected() -> Vec<f32> {
    let mut life = Life::begin(&Arc::default(), 1 << 20);
    for sequence in 1..=COMMANDS {
        life.apply(vec![nth(sequence)]);
    }
    elements(&life.apply(vec![fetch(2)]))
}

/// One run. An error says which promise was broken.
async fn run(seed: u64, flaw: Flaw) -> Result<(usize, usize), String> {
    let mut random = Random(seed);
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, 1 << 20);
    // The session was there before the disk went wrong.
    life.journal.reach(0, PATIENCE).await;
    let _ = life.core.apply(v1::Batch::new(1, vec![nth(1)]));
    let mut promised = life.journal.reach(1, PATIENCE).await.durable;
    disk.lock().flaw = flaw;
    let (mut next, mut deaths) = (2, 0);
    while next <= COMMANDS {
        let until = (next + random.below(8)).min(COMMANDS);
        let commands = (next..=until).map(nth);
        let batch = v1::Batch::new(next, commands);
        life.core.apply(batch).map_err(|error| error.to_string())?;
        next = until + 1;
        if random.below(3) == 0 {
            // As if that had taken so long that the log should begin anew.
            life.shorten();
        }
        if random.below(3) == 0 {
            promised = life.journal.reach(until, PATIENCE).await.durable.max(promised);
        }
        if random.below(4) == 0 {
            deaths += 1;
            if random.below(3) == 0 {
                let moment = if random.below(2) == 0 { Moment::Before } else { Moment::After };
                disk.lock().cut = Some(moment);
                life.shorten();
                life.journal.reach(until, PATIENCE).await;
            } else if random.below(2) == 0 {
                // In the middle of a write, if there is one.
                let torn = usize::try_from(random.below(200)).unwrap_or(0);
                disk.lock().tear = Some(torn);
                let progress = life.journal.reach(until, PATIENCE).await;
                if progress.health != Health::Broken && progress.durable < until {
                    return Err("a write that failed was not noticed".to_owned());
                }
            }
            // What the thread writes after this is lost with the process.
            disk.lock().fails = true;
            drop(life);
            disk.lose_power();
            life = Life::again(&disk, 1 << 20).map_err(|error| error.to_string())?;
            let back = life.core.next_sequence();
            if back <= promised {
                return Err(format!("{promised} was durable, and it goes on at {back}"));
            }
            if back > next {
                return Err(format!("it goes on at {back}, and {next} was never sent"));
            }
            // The client sends the rest again.
            next = back;
        }
    }
    let left = elements(&life.apply(vec![fetch(2)]));
    let same = left.iter().zip(&expected()).all(|(a, b)| a.to_bits() == b.to_bits());
    let replaced = disk.lock().replaced;
    if same { Ok((deaths, replaced)) } else { Err(format!("other bits are left: {left:?}")) }
}

/// How many runs there are: more in the long run.
fn seeds() -> std::ops::Range<u64> {
    let runs = std::env::var("GRADTAPE_SIMULATIONS").ok();
    0..runs.map_or(60, |runs| runs.parse().expect("a number"))
}

#[tokio::test]
async fn whenever_the_power_goes_nothing_durable_is_lost_and_nothing_is_done_twice() {
    let (mut deaths, mut snapshots) = (0, 0);
    for seed in seeds() {
        let ran = run(seed, Flaw::None).await.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        (deaths, snapshots) = (deaths + ran.0, snapshots + ran.1);
    }
    assert!(deaths > 100, "only {deaths} deaths");
    assert!(snapshots > 100, "only {snapshots} snapshots");
}

/// The test above can fail: it finds out what a disk, or what we do with it, has of flaws.
#[tokio::test]
async fn flaws_are_found_out() {
    for flaw in [Flaw::SkipsSync, Flaw::Doubles, Flaw::Drops, Flaw::Hastens, Flaw::Rewinds] {
        let mut found = 0;
        for seed in 0..10 {
            found += usize::from(run(seed, flaw).await.is_err());
        }
        assert!(found > 0, "nobody notices {flaw:?}");
    }
}

/// A client that does not look at where the session stands, and sends all of it again under new numbers.
#[tokio::test]
async fn doing_things_twice_is_found_out() {
    let mut life = Life::begin(&Arc::default(), 1 << 20);
    for sequence in (1..=40).chain(30..=COMMANDS) {
        life.apply(vec![nth(sequence)]);
    }
    assert_ne!(elements(&life.apply(vec![fetch(2)])), expected());
}

/// `SplitMix64`, so that a seed is a run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        let mut x = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0 = x;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }
}
