//! What a function refuses, when it is stale, and what it costs.

use super::defined::{B, FIRST, FUNCTION, PARAMETER, W, X, furnished, tensor};
use crate::{
    aval::Aval,
    command::{Callee, FunctionCall, FunctionDefinition, Kind},
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

#[test]
fn functions_within_functions_are_only_so_deep() {
    let mut driver = furnished(0);
    let first = FIRST * 20;
    let begin = |level| {
        let (function, parameters) = (first + 2 * level, vec![first + 2 * level + 1]);
        let specs = Ok(vec![Aval::new(DType::F32, [2, 3])]);
        Kind::DefineFunction(FunctionDefinition { function, parameters, specs })
    };
    let depth = (0..100).find(|&level| driver.apply(begin(level)).is_err()).unwrap();
    assert_eq!(depth, 16);
    // The one that failed is shown all the same; each end is that of the innermost.
    for level in (0..=depth).rev() {
        let end =
            Kind::FinishFunction { function: first + 2 * level, results: vec![], abandon: true };
        driver.apply(end).unwrap();
    }
    driver.multiply(W, W, FIRST).unwrap();
}
