//! What a session promises about its memory and its tapes, whatever the ops.

mod bodies;
mod defined;
mod derivatives;
mod drawn;
mod functions;
mod looping;
mod optimized;
mod snapshots;
mod writer;

use std::sync::Arc;

use smallvec::smallvec;

use super::Session;
use crate::{
    array::{Array, Tensor},
    attrs::Attrs,
    command::{Answer, Command, GradientInfo, GradientOutput, GradientRequest, Handle, Kind},
    error::Error,
    ledger::Ledger,
    ops::{ADD, MULTIPLY},
};

struct Driver {
    session: Session,
    ledger: Arc<Ledger>,
    sequence: u64,
}

impl Driver {
    fn new(bytes: u64) -> Self {
        let ledger = Ledger::new("test", bytes);
        Self { session: Session::new(Arc::clone(&ledger)), ledger, sequence: 0 }
    }

    fn apply(&mut self, kind: Kind) -> Result<Answer, Error> {
        self.sequence += 1;
        self.session
            .apply(self.sequence, Command { kind, tag: "".into(), scope: 0, source: None })
            .result
            .map_err(|failure| failure.error)
    }

    fn fail_as(&mut self, kind: Kind, error: Error) -> Result<Answer, Error> {
        self.sequence += 1;
        let command = Command { kind, tag: "".into(), scope: 0, source: None };
        let outcome = self.session.fail_as(self.sequence, command, error);
        outcome.result.map_err(|failure| failure.error)
    }

    fn constant(&mut self, output: Handle, values: &[f32]) {
        let array = Array::new(&[values.len()].into(), values.to_vec()).unwrap();
        self.apply(Kind::Constant { output, value: Tensor::unpaid(array) }).unwrap();
    }

    fn open(&mut self, tape: Handle, persistent: bool) {
        let watch_accessed_variables = true;
        self.apply(Kind::OpenTape { tape, persistent, watch_accessed_variables, paused: false })
            .unwrap();
    }

    fn multiply(&mut self, x: Handle, y: Handle, output: Handle) -> Result<Answer, Error> {
        let (inputs, outputs) = (smallvec![x, y], smallvec![output]);
        self.apply(Kind::Op { op: &MULTIPLY, attrs: Attrs::default(), inputs, outputs })
    }

    fn gradient(
        &mut self,
        tape: Handle,
        target: Handle,
        source: Handle,
        output: Handle,
    ) -> Result<Answer, Error> {
        self.apply(Kind::Gradient(GradientRequest {
            tape,
            targets: vec![target],
            sources: vec![source],
            outputs: vec![GradientOutput { gradient: output, indices: 0 }],
            seeds: vec![],
            zero_unconnected: false,
            expected: vec![],
        }))
    }

    fn values(&self, handle: Handle) -> Vec<f32> {
        self.session.peek(handle).unwrap().array().elements().unwrap().to_vec()
    }
}

const TAPE: Handle = 1;

/// A recursive sweep or drop would overflow the two mebibytes of a test's stack.
#[test]
fn a_chain_of_a_hundred_thousand_ops_is_swept_and_dropped() {
    let mut driver = Driver::new(1 << 30);
    let first = 10;
    driver.constant(first, &[1.0]);
    driver.open(TAPE, false);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![first] }).unwrap();
    let last = first + 100_000;
    for x in first..last {
        let (inputs, outputs) = (smallvec![x, first], smallvec![x + 1]);
        driver.apply(Kind::Op { op: &ADD, attrs: Attrs::default(), inputs, outputs }).unwrap();
    }
    driver.gradient(TAPE, last, first, 2).unwrap();
    assert_eq!(driver.values(2), [100_001.0]);
    drop(driver.session);
    assert_eq!(driver.ledger.used(), 0);
}

#[test]
fn a_tape_forgets_what_can_no_longer_be_named() {
    let mut driver = Driver::new(1 << 30);
    driver.constant(10, &[3.0]);
    driver.open(TAPE, true);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
    for _ in 0..20_000 {
        driver.multiply(10, 10, 11).unwrap();
        driver.multiply(11, 10, 12).unwrap();
        driver.apply(Kind::Release { handles: vec![11, 12] }).unwrap();
    }
    assert!(driver.session.trace(TAPE).is_empty());
    assert!(driver.ledger.used() < 1 << 20, "{} bytes are held", driver.ledger.used());
    driver.multiply(10, 10, 11).unwrap();
    driver.multiply(11, 10, 12).unwrap();
    driver.apply(Kind::Release { handles: vec![11] }).unwrap();
    driver.gradient(TAPE, 12, 10, 13).unwrap();
    assert_eq!(driver.values(13), [27.0]);
}

#[test]
fn a_gradient_that_lacks_memory_leaves_the_tape_as_it_was() {
    let size = 1 << 16;
    let mut driver = Driver::new(16 * size);
    driver.constant(10, &vec![2.0; 1 << 14]);
    driver.open(TAPE, false);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
    for x in 10..13 {
        driver.multiply(x, 10, x + 1).unwrap();
    }
    let ballast =
        driver.ledger.reserve(driver.ledger.limit() - driver.ledger.used() - size).unwrap();
    let used = driver.ledger.used();
    let error = driver.gradient(TAPE, 13, 10, 20).unwrap_err();
    assert!(matches!(error, Error::MemoryLimit { .. }), "{error}");
    assert_eq!(driver.ledger.used(), used);
    drop(ballast);
    // The failed result's handle is poisoned; another one gets the gradient.
    let Answer::Gradients(infos) = driver.gradient(TAPE, 13, 10, 21).unwrap() else {
        panic!("no gradients")
    };
    assert!(matches!(infos[..], [GradientInfo::Dense(_)]));
    assert_eq!(driver.values(21)[..1], [32.0]);
}

#[test]
fn a_command_that_fails_leaves_no_room_reserved_on_tapes() {
    let mut driver = Driver::new(1 << 20);
    driver.constant(10, &[1.0]);
    driver.constant(11, &[1.0, 2.0, 3.0]);
    driver.constant(12, &[1.0, 2.0]);
    driver.open(TAPE, false);
    let used = driver.ledger.used();
    assert!(driver.multiply(11, 12, 13).is_err());
    assert_eq!(driver.ledger.used(), used);
}
