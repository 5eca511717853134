//! The fuzz targets. `CONTRIBUTING.md` says how they are run for long, and how a finding is run again.

use std::fmt;

use bolero::{ValueGenerator, check, produce};
use gradtape_fuzz::{batches, checkpoints, hostile, logs, seeds, texts, twins};

/// Most bytes of an input: about two hundred commands.
const MOST_BYTES: usize = 4096;

/// What a fuzzer thinks of. A finding is named by its seed, and its thousand bytes tell nothing.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Runs a target on what a fuzzer thinks of. It is a macro, so that each test is a target of its own name.
macro_rules! fuzz {
    ($target:expr) => {{
        let inputs = produce::<Vec<u8>>().with().len(0..=MOST_BYTES).map_gen(Input);
        check!().with_generator(inputs).for_each(|Input(input)| $target(input));
    }};
}

#[test]
fn sequences_of_commands() {
    let programs = seeds::programs();
    fuzz!(|input: &[u8]| twins::sequence(input, &programs));
}

#[test]
fn batches_of_bytes() {
    let seeds = seeds::batches();
    fuzz!(|input: &[u8]| batches::batch(&hostile::bytes(input, &seeds)));
}

#[test]
fn checkpoint_files() {
    let seeds = checkpoints::seeds();
    fuzz!(|input: &[u8]| checkpoints::read(&hostile::bytes(input, &seeds)));
}

#[test]
fn damaged_logs() {
    let seeds = logs::logs();
    fuzz!(|input: &[u8]| logs::damaged(&hostile::bytes(input, &seeds), &seeds));
}

#[test]
fn whole_logs_of_nonsense() {
    let seeds = logs::groups();
    fuzz!(|input: &[u8]| logs::nonsense(hostile::bytes(input, &seeds)));
}

#[test]
fn equations() {
    fuzz!(texts::equation);
}

#[test]
fn tokens_and_names() {
    let door = texts::Door::new();
    fuzz!(|input: &[u8]| door.tokens(input));
}

#[test]
fn signed_tokens_and_certificates() {
    let door = texts::Door::new();
    fuzz!(|input: &[u8]| door.signed(input));
}
