//! What clients may get wrong: each becomes a rejection that poisons the right handles.

#![expect(clippy::result_large_err, reason = "it is what is tested")]

use gradtape_engine::{command::AssignMode, ledger::Ledger};

use super::*;

fn decode(kind: Wire) -> Result<Command, Rejected> {
    decode_message(v1::Command { kind: Some(kind), ..Default::default() })
}

fn decode_message(mut message: v1::Command) -> Result<Command, Rejected> {
    let (ledger, uploads) = (Ledger::new("session", 1 << 20), Uploads::new(1));
    let context = Context {
        ledger: &ledger,
        uploads: &uploads,
        max_inline_bytes: 16,
        has_log: false,
        is_portable: false,
    };
    let tag = tag(&message).into();
    command(&context, &mut message, &tag)
}

/// The reason and the poisoned handles of a command that must be rejected.
fn rejected(kind: Wire) -> (&'static str, Vec<Handle>) {
    let rejected = decode(kind).unwrap_err();
    (rejected.error.classify().1, rejected.outputs)
}

fn constant(dtype: i32, shape: Vec<i64>, data: Vec<u8>) -> Wire {
    let tensor = v1::Tensor { dtype, shape, data: data.into() };
    Wire::Constant(v1::Constant { output: 9, source: Some(v1::constant::Source::Tensor(tensor)) })
}

const FLOAT32: i32 = v1::DataType::Float32 as i32;

#[test]
fn a_constant_is_checked_before_it_is_copied() {
    let ok = decode(constant(FLOAT32, vec![2], vec![0; 8])).unwrap();
    assert!(matches!(ok.kind, Kind::Constant { output: 9, .. }));
    let cases = [
        (constant(FLOAT32, vec![2], vec![0; 7]), "DATA_LENGTH"),
        (constant(FLOAT32, vec![5], vec![0; 20]), "MALFORMED"),
        (constant(FLOAT32, vec![-1], Vec::new()), "INVALID_SHAPE"),
        (constant(FLOAT32, vec![1 << 32, 1 << 32], Vec::new()), "SHAPE_OVERFLOW"),
        (constant(FLOAT32, vec![1 << 40], Vec::new()), "TENSOR_TOO_LARGE"),
        (constant(FLOAT32, vec![1; 9], Vec::new()), "RANK_TOO_LARGE"),
        (constant(FLOAT32, vec![1; 100_000], Vec::new()), "RANK_TOO_LARGE"),
        (constant(0, vec![], vec![0; 4]), "MALFORMED"),
        (constant(99, vec![], vec![0; 4]), "MALFORMED"),
        (constant(v1::DataType::Bool.into(), vec![1], vec![2]), "INVALID_BOOL"),
        (Wire::Constant(v1::Constant { output: 9, source: None }), "MALFORMED"),
        (
            Wire::Constant(v1::Constant {
                output: 9,
                source: Some(v1::constant::Source::Upload(1)),
            }),
            "UNKNOWN_UPLOAD",
        ),
    ];
    for (wire, reason) in cases {
        assert_eq!(rejected(wire), (reason, vec![9]));
    }
}

#[test]
fn an_op_that_is_not_there_poisons_its_outputs() {
    let op =
        |name: &str| v1::Op { name: name.to_owned(), outputs: vec![3, 4], ..Default::default() };
    assert_eq!(rejected(Wire::Op(op("no_such_op"))), ("UNKNOWN_OP", vec![3, 4]));
    assert_eq!(rejected(Wire::Op(op(&"é".repeat(1000)))), ("UNKNOWN_OP", vec![3, 4]));
    let many = v1::Op { inputs: vec![1; 1025], ..op("concat") };
    assert_eq!(rejected(Wire::Op(many)), ("MALFORMED", vec![3, 4]));
}

#[test]
fn unknown_enums_are_refused_and_never_taken_for_a_default() {
    let assign = |mode| Wire::AssignVariable(v1::AssignVariable { variable: 1, value: 2, mode });
    assert!(matches!(
        decode(assign(0)).unwrap().kind,
        Kind::Assign { mode: AssignMode::Replace, .. }
    ));
    assert_eq!(rejected(assign(99)), ("MALFORMED", vec![]));
    let outputs = vec![v1::GradientOutput { gradient: 5, indices: 0 }];
    let gradient = v1::ComputeGradient { unconnected_gradients: 9, outputs, ..Default::default() };
    assert_eq!(rejected(Wire::ComputeGradient(gradient)), ("MALFORMED", vec![5]));
}

#[test]
fn attributes_need_a_value_of_a_sane_size() {
    use v1::attribute::Value;
    let optimizer = |value| {
        Wire::CreateOptimizer(v1::CreateOptimizer {
            optimizer: 6,
            name: "sgd".to_owned(),
            hyperparameters: vec![v1::Attribute { name: "learning_rate".to_owned(), value }],
            learning_rate_schedule: None,
        })
    };
    assert!(decode(optimizer(Some(Value::DoubleValue(0.1)))).is_ok());
    let ints = Value::IntsValue(v1::IntegerList { values: vec![0; 1000] });
    for value in [None, Some(Value::StringValue("x".repeat(257))), Some(ints)] {
        assert_eq!(rejected(optimizer(value)), ("INVALID_ATTRIBUTE", vec![6]));
    }
    assert_eq!(rejected(optimizer(Some(Value::DtypeValue(77)))), ("MALFORMED", vec![6]));
}

#[test]
fn lists_are_bounded() {
    let release = |n| Wire::Release(v1::Release { handles: vec![1; n] });
    assert!(decode(release(65_536)).is_ok());
    assert_eq!(rejected(release(65_537)), ("MALFORMED", vec![]));
}

#[test]
fn a_long_tag_is_cut_between_characters() {
    let message = v1::Command { tag: "é".repeat(200), ..Default::default() };
    let rejected = decode_message(message).unwrap_err();
    assert_eq!(&*rejected.tag, "é".repeat(128));
    assert_eq!(rejected.error, Error::UnknownCommand);
}
