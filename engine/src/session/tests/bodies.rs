//! What a function refuses, when it is stale, and what it costs.

use super::defined::{B, FIRST, FUNCTION, PARAMETER, W, X, furnished, tensor};
use crate::{
    aval::Aval,
    command::{Callee, FunctionCall, FunctionDefinition, Handle, Kind},
    dtype::DType,
    error::Error,
};

#[test]
fn what_a_body_did_wrong_is_the_functions_failure() {
    let mut driver = furnished(0);
    let specs = Ok(vec![Aval::new(DType::F32, [2, 3])]);
    let parameters = vec![PARAMETER];
    let begin = |function| FunctionDefinition {
        function,
        parameters: parameters.clone(),
        specs: specs.clone(),
    };
    driver.apply(Kind::DefineFunction(begin(FUNCTION))).unwrap();
    let wrong = driver.multiply(PARAMETER, W, FIRST).unwrap_err();
    assert!(matches!(wrong, Error::ShapeMismatch { .. }), "{wrong}");
    let root = driver.sequence;
    let finish = |results| Kind::FinishFunction { function: FUNCTION, results, abandon: false };
    let error = driver.apply(finish(vec![PARAMETER])).unwrap_err();
    assert!(matches!(error, Error::Poisoned { root: found, .. } if found == root), "{error}");
    let error = driver.apply(finish(vec![])).unwrap_err();
    assert!(matches!(error, Error::NoFunctionOpen), "{error}");
    driver.apply(Kind::Release { handles: vec![FUNCTION] }).unwrap();

    driver.apply(Kind::DefineFunction(begin(FUNCTION))).unwrap();
    let error = driver.apply(Kind::Fetch { value: PARAMETER }).unwrap_err();
    assert!(matches!(error, Error::NoElementsYet { .. }), "{error}");
    // A question changes nothing, so the function can be finished all the same.
    driver.apply(finish(vec![PARAMETER])).unwrap();
    driver.apply(Kind::Release { handles: vec![FUNCTION] }).unwrap();

    let made = [
        Kind::CreateGenerator { generator: FIRST, seed: 1 },
        Kind::CreateVariable {
            variable: FIRST,
            name: "v".into(),
            initial: PARAMETER,
            trainable: true,
        },
    ];
    for kind in made {
        driver.apply(Kind::DefineFunction(begin(FUNCTION))).unwrap();
        let error = driver.apply(kind).unwrap_err();
        assert!(matches!(error, Error::NotInFunction { .. }), "{error}");
        driver
            .apply(Kind::FinishFunction { function: FUNCTION, results: vec![], abandon: true })
            .unwrap();
    }
}

#[test]
fn a_function_whose_variable_is_gone_is_stale() {
    let mut driver = furnished(0);
    driver.define(FUNCTION, |w, x| vec![w.loss(x)]).unwrap();
    driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 0.0) }).unwrap();
    driver.apply(Kind::Release { handles: vec![B] }).unwrap();
    let error = driver.call_defined(X, &[20]).unwrap_err();
    assert!(matches!(error, Error::StaleFunction { handle: B }), "{error}");
    // Another variable with the same handle is another variable.
    let (initial, name) = (B + 100, "v".into());
    driver.apply(Kind::CreateVariable { variable: B, name, initial, trainable: true }).unwrap();
    let error = driver.call_defined(X, &[21]).unwrap_err();
    assert!(matches!(error, Error::StaleFunction { handle: B }), "{error}");
}

#[test]
fn released_functions_give_their_memory_back() {
    let mut driver = furnished(1);
    driver.define(FUNCTION, |w, x| vec![w.step(x)]).unwrap();
    driver.apply(Kind::Release { handles: vec![FUNCTION] }).unwrap();
    let before = driver.ledger.used();
    for _ in 0..20 {
        driver.define(FUNCTION, |w, x| vec![w.step(x)]).unwrap();
        driver.apply(Kind::Release { handles: vec![FUNCTION] }).unwrap();
    }
    assert_eq!(driver.ledger.used(), before);
}

#[test]
fn functions_of_functions_are_only_so_deep() {
    let mut driver = furnished(0);
    let first = FIRST * 20;
    let specs = Ok(vec![Aval::new(DType::F32, [2, 3])]);
    let mut depth = 0;
    let error = loop {
        let (function, parameters, specs) = (first + depth, vec![PARAMETER], specs.clone());
        driver
            .apply(Kind::DefineFunction(FunctionDefinition { function, parameters, specs }))
            .unwrap();
        let called = if depth == 0 {
            driver.multiply(PARAMETER, PARAMETER, FIRST)
        } else {
            driver.apply(Kind::CallFunction(FunctionCall {
                callee: Callee::Defined(function - 1),
                arguments: vec![PARAMETER],
                outputs: vec![FIRST],
            }))
        };
        if let Err(error) = called {
            break error;
        }
        driver
            .apply(Kind::FinishFunction { function, results: vec![FIRST], abandon: false })
            .unwrap();
        depth += 1;
    };
    assert!(matches!(error, Error::TooMany { .. }), "{error}");
    assert_eq!(depth, 17);
}

/// Begins functions within each other, with a parameter each.
fn begin(level: Handle) -> Kind {
    let (function, parameters) = (name(level), vec![name(level) + 1]);
    let specs = Ok(vec![Aval::new(DType::F32, [2, 3])]);
    Kind::DefineFunction(FunctionDefinition { function, parameters, specs })
}

fn finish(level: Handle, abandon: bool) -> Kind {
    Kind::FinishFunction { function: name(level), results: vec![name(level) + 1], abandon }
}

fn name(level: Handle) -> Handle {
    FIRST * 20 + 2 * level
}

#[test]
fn each_end_is_that_of_the_innermost_function_however_many_did_not_begin() {
    const LEVELS: Handle = 30_000;
    let mut driver = furnished(0);
    for level in 0..LEVELS {
        assert_eq!(driver.apply(begin(level)).is_err(), level >= 16, "level {level}");
    }
    let root = driver.sequence - LEVELS + 17;
    for level in (0..LEVELS).rev() {
        let error = driver.apply(finish(level, level % 2 == 0)).err();
        match error {
            Some(Error::Poisoned { root: found, .. }) => assert_eq!(found, root, "level {level}"),
            Some(error) => panic!("{error}"),
            None => assert_eq!(level % 2, 0, "level {level}"),
        }
        assert_eq!(driver.session.is_defining(0), level > 0, "level {level}");
    }
    driver.multiply(W, W, FIRST).unwrap();
}

#[test]
fn a_function_ends_even_if_its_end_is_refused() {
    let mut driver = furnished(0);
    driver.apply(begin(0)).unwrap();
    driver.apply(begin(1)).unwrap();
    // Nothing can be kept of the commands of a body any more.
    let rest = driver.ledger.limit() - driver.ledger.used();
    let taken = driver.ledger.reserve(rest).unwrap();
    let refused = driver.apply(begin(2)).unwrap_err();
    assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
    driver.apply(finish(2, true)).unwrap();
    let refused = driver.apply(finish(1, false)).unwrap_err();
    assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
    drop(taken);
    // The next end is that of the outer function, which has failed.
    let error = driver.apply(finish(0, false)).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert!(!driver.session.is_defining(0));
}

#[test]
fn commands_that_failed_for_want_of_memory_leave_the_same_when_repeated() {
    // Beginnings and ends of functions, of which any one fails.
    let commands =
        || [begin(0), begin(1), begin(2), finish(2, false), finish(1, false), finish(0, false)];
    for failing in 0..commands().len() {
        let (mut first, mut again) = (furnished(0), furnished(0));
        for (position, (command, same)) in commands().into_iter().zip(commands()).enumerate() {
            let rest = first.ledger.limit() - first.ledger.used();
            let taken = (position == failing).then(|| first.ledger.reserve(rest).unwrap());
            let error = first.apply(command).err();
            drop(taken);
            let repeated = match error.clone() {
                Some(error @ Error::MemoryLimit { .. }) => again.fail_as(same, error).err(),
                _ => again.apply(same).err(),
            };
            let said = error.map(|error| error.to_string());
            assert_eq!(said, repeated.map(|error| error.to_string()), "{failing}: {position}");
            for scope in [0, 1] {
                let (one, other) =
                    (first.session.is_defining(scope), again.session.is_defining(scope));
                assert_eq!(one, other, "{failing}: {position}");
            }
        }
        assert!(!first.session.is_defining(0), "{failing}");
        assert_eq!(first.session.handles(), again.session.handles(), "{failing}");
    }
}
