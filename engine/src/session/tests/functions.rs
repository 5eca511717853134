//! What functions and explanations promise about memory, failures and length.

#![expect(clippy::float_cmp, reason = "the numbers are exact")]

use smallvec::smallvec;

use super::{Driver, TAPE};
use crate::{
    attrs::Attrs,
    command::{Answer, Callee, FunctionCall, Handle, Kind},
    error::Error,
    explain::MAX_HOPS,
    function::MAX_CAPTURED,
    ops::{ADD, MULTIPLY},
};

const X: Handle = 10;
const PARAMETER: Handle = 11;
const Y: Handle = 5000;

impl Driver {
    fn add(&mut self, x: Handle, y: Handle, output: Handle) -> Result<Answer, Error> {
        let (inputs, outputs) = (smallvec![x, y], smallvec![output]);
        self.apply(Kind::Op { op: &ADD, attrs: Attrs::default(), inputs, outputs })
    }

    /// Squares a parameter again and again; every square is needed for the gradient.
    fn squares(&mut self, from: Handle, count: u64) -> Handle {
        for x in from..from + count {
            let (inputs, outputs) = (smallvec![x, x], smallvec![x + 1]);
            let op = Kind::Op { op: &MULTIPLY, attrs: Attrs::default(), inputs, outputs };
            self.apply(op).unwrap();
        }
        from + count
    }

    fn placeholder(&mut self, like: Handle, output: Handle) {
        let kind = Kind::CreatePlaceholders { like: vec![like], outputs: vec![output] };
        self.apply(kind).unwrap();
    }

    fn call(&mut self, result: Handle, output: Handle) -> Result<Answer, Error> {
        self.apply(Kind::CallFunction(FunctionCall {
            callee: Callee::Shown { parameters: vec![PARAMETER], results: vec![result] },
            arguments: vec![X],
            outputs: vec![output],
        }))
    }

    fn watched(bytes: u64, elements: usize) -> Self {
        let mut driver = Self::new(bytes);
        driver.constant(X, &vec![1.0; elements]);
        driver.open(TAPE, false);
        driver.apply(Kind::WatchTape { tape: TAPE, values: vec![X] }).unwrap();
        driver
    }
}

#[test]
fn a_tape_keeps_nothing_of_a_function_but_what_goes_into_it() {
    let elements = 1 << 16;
    let tensor = (elements * 4) as u64;
    let mut driver = Driver::watched(1 << 30, elements);
    driver.placeholder(X, PARAMETER);
    let result = driver.squares(PARAMETER, 64);
    let before = driver.ledger.used();
    driver.call(result, Y).unwrap();
    let grown = driver.ledger.used() - before;
    assert!(grown < 2 * tensor, "{grown} bytes are kept");
    driver.gradient(TAPE, Y, X, Y + 1).unwrap();
    // The exponent is 2^64, which is a float32.
    assert_eq!(driver.values(Y + 1)[0], 18_446_744_073_709_551_616.0);
}

#[test]
fn released_placeholders_are_forgotten() {
    let mut driver = Driver::watched(1 << 30, 1);
    for _ in 0..100 {
        driver.placeholder(X, PARAMETER);
        let result = driver.squares(PARAMETER, 8);
        driver.call(result, Y).unwrap();
        let all = (PARAMETER..=result).chain([Y]).collect();
        driver.apply(Kind::Release { handles: all }).unwrap();
    }
    assert!(driver.session.captures.is_empty());
    assert!(driver.session.trace(TAPE).is_empty());
}

#[test]
fn a_function_that_lacks_memory_changes_nothing() {
    let elements = 1 << 16;
    let mut driver = Driver::watched(1 << 24, elements);
    driver.placeholder(X, PARAMETER);
    let result = driver.squares(PARAMETER, 2);
    let spare = driver.ledger.limit() - driver.ledger.used() - (1 << 17);
    let ballast = driver.ledger.reserve(spare).unwrap();
    let used = driver.ledger.used();
    let error = driver.call(result, Y).unwrap_err();
    assert!(matches!(error, Error::MemoryLimit { .. }), "{error}");
    assert_eq!(driver.ledger.used(), used);
    drop(ballast);
    driver.call(result, Y + 1).unwrap();
    assert_eq!(driver.values(Y + 1)[0], 1.0);
}

#[test]
fn a_failed_op_on_a_placeholder_keeps_nothing() {
    let (half, misfit): (Handle, Handle) = (900, 901);
    let mut driver = Driver::watched(1 << 24, 3);
    driver.placeholder(X, PARAMETER);
    driver.constant(Y, &[1.0, 2.0]);
    let used = driver.ledger.used();
    driver.constant(half, &vec![0.5; 1 << 16]);
    driver.add(half, half, misfit).unwrap();
    let error = driver.add(misfit, PARAMETER, Y + 1).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
    driver.apply(Kind::Release { handles: vec![half, misfit] }).unwrap();
    assert_eq!(driver.ledger.used(), used, "the tensor is still there");
    driver.add(PARAMETER, PARAMETER, Y + 2).unwrap();
    driver.call(Y + 2, Y + 3).unwrap();
    assert_eq!(driver.values(Y + 3), [2.0; 3]);
}

#[test]
fn ops_on_placeholders_are_counted() {
    let mut driver = Driver::new(1 << 30);
    driver.constant(X, &[1.0]);
    driver.placeholder(X, PARAMETER);
    let mut last = PARAMETER;
    for _ in 0..MAX_CAPTURED {
        driver.add(last, X, last + 1).unwrap();
        last += 1;
    }
    let error = driver.add(last, X, last + 1).unwrap_err();
    assert!(matches!(error, Error::TooMany { .. }), "{error}");
    drop(driver.session);
    assert_eq!(driver.ledger.used(), 0);
}

#[test]
fn of_a_long_path_the_ends_are_told() {
    let mut driver = Driver::watched(1 << 30, 1);
    let count = 2 * MAX_HOPS as u64;
    for x in 0..count {
        let x = if x == 0 { X } else { Y + x };
        let next = if x == X { Y + 1 } else { x + 1 };
        driver.add(x, X, next).unwrap();
    }
    let kind = Kind::Explain { tape: TAPE, target: Y + count, source: Y + 1 };
    let Answer::Explanation(found) = driver.apply(kind).unwrap() else { panic!("no explanation") };
    assert_eq!((found.path.len(), found.elided), (MAX_HOPS, MAX_HOPS - 1));
}
