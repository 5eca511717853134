//! What Jacobians and accumulators promise about memory and failures.

#![expect(clippy::float_cmp, reason = "the numbers are exact")]

use super::{Driver, TAPE};
use crate::{
    array::{Array, Tensor},
    command::{Answer, GradientInfo, Handle, JacobianRequest, Kind, TangentRequest},
    error::Error,
    exec,
    gradient::{Found, Source},
    jacobian::{Layout, MAX_ROWS, jacobian, sweep},
};

const ACCUMULATOR: Handle = 2;

impl Driver {
    fn jacobian(
        &mut self,
        target: Handle,
        source: Handle,
        output: Handle,
    ) -> Result<Answer, Error> {
        self.apply(Kind::Jacobian(JacobianRequest {
            tape: TAPE,
            target,
            sources: vec![source],
            outputs: vec![output],
            layout: Layout::Full,
            zero_unconnected: false,
        }))
    }

    fn accumulate(&mut self, primal: Handle, tangent: Handle) {
        self.apply(Kind::OpenAccumulator {
            accumulator: ACCUMULATOR,
            primals: vec![primal],
            tangents: vec![tangent],
            paused: false,
        })
        .unwrap();
    }

    fn tangent(&mut self, value: Handle, output: Handle) -> GradientInfo {
        let request = TangentRequest {
            accumulator: ACCUMULATOR,
            values: vec![value],
            outputs: vec![output],
            zero_unconnected: false,
        };
        let Answer::Gradients(mut infos) = self.apply(Kind::ReadTangent(request)).unwrap() else {
            panic!("no tangents")
        };
        infos.remove(0)
    }

    fn release(&mut self, handles: &[Handle]) {
        self.apply(Kind::Release { handles: handles.to_vec() }).unwrap();
    }
}

#[test]
fn a_jacobian_takes_smaller_stacks_where_memory_is_short() {
    let n = 2 * MAX_ROWS;
    let mut driver = Driver::new(1 << 30);
    driver.constant(10, &vec![2.0; n]);
    driver.open(TAPE, true);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
    driver.multiply(10, 10, 11).unwrap();
    driver.multiply(11, 10, 12).unwrap();
    driver.apply(Kind::StopTape { tape: TAPE, require_recording: false }).unwrap();
    // Enough for the result, once in parts and once as a whole, and for little else.
    let result = (n * n * 4) as u64;
    let room = 2 * result + result / 8;
    let used = driver.ledger.used();
    let ballast = driver.ledger.reserve(driver.ledger.limit() - used - room).unwrap();
    let aval = driver.session.peek(10).unwrap().aval();
    let sources = [Source { id: driver.session.identity(10), aval: aval.clone(), sparse: false }];
    let target = (driver.session.identity(12), &aval);
    let one = sweep(driver.session.trace(TAPE), target, &sources).unwrap();
    let (program, found) = jacobian(&one, &aval, &sources, Layout::Full, MAX_ROWS).unwrap();
    let Found::Dense(slot) = found[0] else { panic!("no Jacobian") };
    let refused = exec::admit(&driver.ledger, &program, &[slot]);
    assert!(matches!(refused, Err(Error::MemoryLimit { .. })), "the largest stacks fit");
    driver.jacobian(12, 10, 20).unwrap();
    let found = driver.values(20);
    for (i, row) in found.chunks(n).enumerate() {
        let expected = |j| if i == j { 12.0 } else { 0.0 };
        assert!(row.iter().enumerate().all(|(j, &x)| x == expected(j)), "row {i}");
    }
    drop(ballast);
}

#[test]
fn a_jacobian_that_lacks_memory_leaves_the_tape_as_it_was() {
    let mut driver = Driver::new(1 << 20);
    driver.constant(10, &[2.0; 64]);
    driver.open(TAPE, false);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
    driver.multiply(10, 10, 11).unwrap();
    let spare = driver.ledger.limit() - driver.ledger.used() - (1 << 12);
    let ballast = driver.ledger.reserve(spare).unwrap();
    let used = driver.ledger.used();
    let error = driver.jacobian(11, 10, 20).unwrap_err();
    assert!(matches!(error, Error::MemoryLimit { .. }), "{error}");
    assert_eq!(driver.ledger.used(), used);
    drop(ballast);
    driver.gradient(TAPE, 11, 10, 21).unwrap();
    assert_eq!(driver.values(21)[..2], [4.0, 4.0]);
}

#[test]
fn a_tangent_dies_with_its_primal() {
    let mut driver = Driver::new(1 << 30);
    driver.constant(10, &[3.0; 256]);
    driver.constant(11, &[1.0; 256]);
    driver.accumulate(10, 11);
    driver.release(&[11]);
    driver.multiply(10, 10, 12).unwrap();
    let used = driver.ledger.used();
    for _ in 0..100 {
        driver.multiply(12, 10, 13).unwrap();
        driver.tangent(13, 14);
        driver.release(&[13, 14]);
    }
    assert_eq!(driver.ledger.used(), used);
    driver.release(&[10, 12]);
    assert_eq!(driver.ledger.used(), 0);
}

#[test]
fn tangents_live_as_long_as_a_tape_may_ask_for_them() {
    let mut driver = Driver::new(1 << 30);
    driver.constant(10, &[3.0; 256]);
    driver.constant(11, &[1.0; 256]);
    driver.accumulate(10, 11);
    let mut used = 0;
    for round in 0..100 {
        driver.open(TAPE, false);
        driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
        driver.multiply(10, 10, 12).unwrap();
        driver.multiply(12, 10, 13).unwrap();
        driver.release(&[12]);
        // The second derivative of x^3 at 3, which needs the tangent of the value that was released.
        driver.gradient(TAPE, 13, 10, 14).unwrap();
        assert!(matches!(driver.tangent(14, 15), GradientInfo::Dense(_)));
        assert_eq!(driver.values(15)[..2], [18.0, 18.0]);
        driver.release(&[13, 14, 15]);
        driver.apply(Kind::CloseTape { tape: TAPE }).unwrap();
        if round == 2 {
            // From now on the program of the gradient is known.
            used = driver.ledger.used();
        }
        assert!(round < 2 || driver.ledger.used() == used, "round {round}");
    }
    driver.apply(Kind::CloseTape { tape: ACCUMULATOR }).unwrap();
    driver.release(&[10, 11]);
    assert_eq!(driver.ledger.used(), 0);
}

#[test]
fn a_tape_forgets_tangents_that_are_gone() {
    let mut driver = Driver::new(1 << 30);
    driver.constant(10, &[3.0]);
    driver.constant(11, &[1.0]);
    driver.open(TAPE, true);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
    driver.accumulate(10, 11);
    for _ in 0..1_000 {
        driver.multiply(10, 10, 12).unwrap();
        driver.tangent(12, 13);
        driver.release(&[12, 13]);
    }
    let kept = driver.session.trace(TAPE).len();
    assert!(kept < 10, "{kept} nodes are kept");
}

#[test]
fn an_op_whose_tangent_lacks_memory_changes_nothing() {
    let size = 1 << 16;
    let mut driver = Driver::new(1 << 30);
    driver.constant(10, &vec![2.0; 1 << 14]);
    driver.constant(11, &vec![1.0; 1 << 14]);
    driver.accumulate(10, 11);
    driver.open(TAPE, true);
    driver.apply(Kind::WatchTape { tape: TAPE, values: vec![10] }).unwrap();
    driver.multiply(10, 10, 12).unwrap();
    let spare = driver.ledger.limit() - driver.ledger.used() - size - size / 2;
    let ballast = driver.ledger.reserve(spare).unwrap();
    let (used, nodes) = (driver.ledger.used(), driver.session.trace(TAPE).len());
    let error = driver.multiply(12, 10, 13).unwrap_err();
    assert!(matches!(error, Error::MemoryLimit { .. }), "{error}");
    assert_eq!((driver.ledger.used(), driver.session.trace(TAPE).len()), (used, nodes));
    drop(ballast);
    driver.multiply(12, 10, 14).unwrap();
    driver.tangent(14, 15);
    assert_eq!(driver.values(15)[..1], [12.0]);
}

#[test]
fn an_accumulator_of_nothing_accumulates_nothing() {
    let mut driver = Driver::new(1 << 20);
    let empty = Array::new(&[0].into(), Vec::<f32>::new()).unwrap();
    driver.apply(Kind::Constant { output: 10, value: Tensor::unpaid(empty) }).unwrap();
    driver
        .apply(Kind::OpenAccumulator {
            accumulator: ACCUMULATOR,
            primals: vec![],
            tangents: vec![],
            paused: false,
        })
        .unwrap();
    driver.multiply(10, 10, 11).unwrap();
    assert!(matches!(driver.tangent(11, 12), GradientInfo::Absent(_)));
}
