//! Two sessions that must be alike: one executes all commands, and the other is only told of those that failed.
//!
//! If a failed command changed anything but to poison its results, or if the same input did not give the same bits, the
//! two would answer some later command differently. One thing is allowed: a function keeps the programs that were written for
//! it, also for a command that failed, and they are paid for.

use std::{
    hint::black_box,
    sync::{Arc, OnceLock},
};

use arbitrary::Unstructured;
use gradtape_engine::{
    command::{Command, Kind, Outcome},
    error::Error,
    ledger::Ledger,
    session::{Progress, Session},
};
use gradtape_proto::v1::{self, command::Kind as Wire};
use gradtape_server::{
    session::uploads::Uploads,
    wire::{decode, encode},
};
use prost::Message;

use crate::writer::Writer;

/// Memory of a session: small, so that sequences come to this limit too.
const SESSION_BYTES: u64 = 1 << 20;

/// Most steps of a loop that are waited for.
const MOST_STEPS: usize = 64;

/// Largest tensor in a message.
const INLINE_BYTES: usize = 64 << 10;

#[derive(Debug)]
struct Twin {
    session: Session,
    server: Arc<Ledger>,
    ledger: Arc<Ledger>,
    uploads: Arc<Uploads>,
    /// Whether functions were defined.
    keeps_programs: bool,
}

/// Whether commands are to be printed as they are executed: to see what a finding is about.
fn story() -> bool {
    static STORY: OnceLock<bool> = OnceLock::new();
    *STORY.get_or_init(|| std::env::var_os("GRADTAPE_FUZZ_STORY").is_some())
}

/// Executes a sequence of commands that the input chooses. Some begin with one of the programs.
pub fn sequence(input: &[u8], programs: &[Vec<v1::Command>]) {
    let mut choices = Unstructured::new(input);
    let (mut one, mut other) = (Twin::new(), Twin::new());
    let known = choices.ratio(1, 3).unwrap_or(false);
    let program = if known { choices.choose(programs).map_or(&[][..], Vec::as_slice) } else { &[] };
    let mut writer = Writer::after(program);
    let mut sequence = 0;
    for command in program {
        sequence += 1;
        step(&mut one, &mut other, sequence, command);
    }
    let mut alike = true;
    while alike && let Ok(command) = writer.next(&mut choices) {
        sequence += 1;
        alike = step(&mut one, &mut other, sequence, &command);
    }
    if alike {
        one.compare(&other, &writer);
    }
    one.end(&writer);
    other.end(&writer);
    check_processor();
}

/// Whatever was computed, this thread computes as before: numbers below the normal ones are not taken for zero, and sums are
/// rounded to the nearest.
fn check_processor() {
    let (small, one, bit) = (f32::from_bits(1), 1.0_f64, f64::EPSILON / 4.0);
    assert_eq!((black_box(small) + black_box(small)).to_bits(), 2, "small numbers are lost");
    assert_eq!((black_box(one) + black_box(bit)).to_bits(), one.to_bits(), "sums are rounded up");
    let down = (black_box(one) - black_box(bit / 2.0)).to_bits();
    assert_eq!(down, one.to_bits(), "sums are rounded down");
}

/// Whether something failed for lack of memory, maybe in a step of a loop.
fn lacks(error: &Error) -> bool {
    match error {
        Error::LoopStep { error, .. } => lacks(error),
        error => matches!(error, Error::MemoryLimit { .. }),
    }
}

/// Both execute a command, and must say the same. False if they go different ways from here on, because one has less memory.
fn step(one: &mut Twin, other: &mut Twin, sequence: u64, message: &v1::Command) -> bool {
    if story() {
        eprintln!("{sequence}: {message:?}");
    }
    let known = one.session.is_defining(message.scope);
    let used = one.ledger.used();
    let (said, error) = one.execute(sequence, message, None);
    one.keeps_programs |= matches!(message.kind, Some(Wire::DefineFunction(_)));
    // What fails within a body, or ends or begins one, is part of that body; a loop did its first steps.
    let apart = !known
        && !matches!(
            message.kind,
            Some(Wire::RunLoop(_) | Wire::DefineFunction(_) | Wire::FinishFunction(_))
        );
    let looped = matches!(message.kind, Some(Wire::RunLoop(_)));
    // Whatever lacked memory is repeated like that, so it must not matter where it was refused.
    let failed = error.clone().filter(|error| apart || (lacks(error) && !looped));
    if let Some(error) = &error
        && apart
        && !one.keeps_programs
    {
        let after = one.ledger.used();
        // It may be less: tapes give back room that they took in advance.
        assert!(after <= used, "{error} holds {} bytes: {message:?}", after - used);
    }
    let (repeated, lacked) = other.execute(sequence, message, failed);
    if one.keeps_programs && error.iter().chain(&lacked).any(lacks) {
        return false;
    }
    let read = |bytes: &[u8]| v1::Reply::decode(bytes);
    assert!(
        said == repeated,
        "the two answer differently to {message:?}: {:?} and {:?}",
        read(&said),
        read(&repeated)
    );
    let same = one.ledger.used() == other.ledger.used();
    assert!(same || one.keeps_programs, "the two hold different bytes after {message:?}");
    assert_eq!(one.session.handles(), other.session.handles(), "the two have other handles");
    true
}

impl Twin {
    fn new() -> Self {
        let server = Ledger::new("server", 2 * SESSION_BYTES);
        let ledger = server.child("session", SESSION_BYTES);
        let session = Session::new(Arc::clone(&ledger));
        Self { session, server, ledger, uploads: Uploads::new(1), keeps_programs: false }
    }

    /// Executes a command, or lets it fail as it did elsewhere. What is said, and why it failed.
    fn execute(
        &mut self,
        sequence: u64,
        message: &v1::Command,
        failed: Option<Error>,
    ) -> (Vec<u8>, Option<Error>) {
        let context = decode::Context {
            ledger: &self.ledger,
            uploads: &self.uploads,
            max_inline_bytes: INLINE_BYTES,
            has_log: false,
            is_portable: false,
        };
        let mut message = message.clone();
        let tag = decode::tag(&message).into();
        let outcome = match (decode::command(&context, &mut message, &tag), failed) {
            (Err(rejected), _) => self.session.reject(sequence, rejected),
            (Ok(command), Some(error)) => self.session.fail_as(sequence, command, error),
            (Ok(command), None) => self.run(sequence, command),
        };
        let error = outcome.result.as_ref().err().map(|failure| failure.error.clone());
        let reply = encode::reply(sequence, outcome, &tag, INLINE_BYTES);
        (reply.map(|reply| reply.encode_to_vec()).unwrap_or_default(), error)
    }

    fn run(&mut self, sequence: u64, command: Command) -> Outcome {
        let mut working = match self.session.begin(sequence, command) {
            Progress::Done(outcome) => return outcome,
            Progress::Working(working) => working,
        };
        let mut steps = 0;
        loop {
            if let Some(outcome) = self.session.proceed(&mut working) {
                return outcome;
            }
            steps += 1;
            if steps == MOST_STEPS {
                working.stop();
            }
        }
    }

    fn bytes(&self, handle: u64) -> Option<Vec<u8>> {
        let tensor = self.session.peek(handle).ok()?;
        Some(tensor.array().as_bytes().expect("arrays at the surface are contiguous").to_vec())
    }

    /// All values of the two have the same bits.
    fn compare(&self, other: &Self, writer: &Writer) {
        for handle in writer.handles() {
            assert_eq!(self.bytes(handle), other.bytes(handle), "handle {handle}");
        }
    }

    /// When everything is released, nothing is paid for; and when the session is gone, not by the server either.
    fn end(mut self, writer: &Writer) {
        for scope in [0, 1] {
            let end = || Kind::FinishFunction { function: 0, results: vec![], abandon: true };
            while self.session.is_defining(scope) {
                self.told(end(), scope);
            }
        }
        for tape in writer.handles() {
            self.told(Kind::CloseTape { tape }, 0);
        }
        self.told(Kind::Release { handles: writer.handles().collect() }, 0);
        assert_eq!(self.session.handles(), 0, "handles are left");
        assert_eq!(self.ledger.used(), 0, "bytes are held, and nothing holds them");
        drop(self.session);
        assert_eq!(self.server.used(), 0, "a session that ended left bytes behind");
    }

    fn told(&mut self, kind: Kind, scope: u32) {
        self.session.apply(u64::MAX, Command { kind, tag: "".into(), scope, source: None });
    }
}
