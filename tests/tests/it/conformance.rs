//! Ring 3: the language-neutral cases, replayed through the client.

use std::{collections::HashMap, fs, sync::Arc};

use gradtape_client::{
    Code, Error, Failure, Session, Spec, TensorData,
    proto::{self, Reply, reply::Result as Answer},
};
use gradtape_tests::{
    Server,
    case::{Names, dtype, list, number, shape, tensor, verb},
    folder,
};
use half::{bf16, f16};
use serde_json::Value;

/// What a step was answered.
type Outcome = Result<Reply, Error>;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_holds() {
    let server = Arc::new(Server::start().await);
    let names = case_names();
    assert!(names.len() > 100, "the cases are missing");
    let mut failed = Vec::new();
    for name in names {
        let server = Arc::clone(&server);
        // A task of its own, so that one failing case does not hide the others.
        let case = name.clone();
        if tokio::spawn(async move { replay(&server, &case).await }).await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?} failed");
}

/// TENSORFLOW.md says which case stands for which of TensorFlow's own tests.
#[test]
fn every_test_of_tensorflows_tape_has_cases_that_exist() {
    let table = fs::read_to_string(folder("conformance").join("TENSORFLOW.md")).expect("the table");
    let names = case_names();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let mut found = 0;
    for row in rows {
        for named in row.split('`').skip(1).step_by(2) {
            assert!(names.iter().any(|name| name == named), "{named} is no case: {row}");
            found += 1;
        }
    }
    assert!(found > 60, "only {found} cases are named");
}

macro_rules! traps {
    ($($trap:ident,)*) => {$(
        #[tokio::test]
        async fn $trap() {
            let server = Server::start().await;
            let prefix = &stringify!($trap)[..7];
            let names: Vec<_> = case_names().into_iter().filter(|n| n.starts_with(prefix)).collect();
            assert!(!names.is_empty(), "there is no case for {prefix}");
            for name in names {
                replay(&server, &name).await;
            }
        }
    )*};
}

traps! {
    trap_01_reentry_accumulates_and_active_reentry_fails,
    trap_02_a_persistent_gradient_is_recorded_inside_its_block_only,
    trap_03_the_outer_tape_sees_what_was_computed_inside_it,
    trap_04_none_is_not_zero,
    trap_05_a_target_that_is_a_source_adds_identity,
    trap_06_watching_counts_later_uses_and_never_cuts,
    trap_07_a_variable_sums_its_reads,
    trap_08_assign_is_not_differentiable,
    trap_09_equal_constants_are_different_tensors,
    trap_10_unused_outputs_get_zeros,
    trap_11_broadcast_gradients_have_the_inputs_shape,
    trap_12_sparse_gradients_keep_duplicates,
    trap_13_ties_and_kinks_follow_tensorflow,
    trap_14_optimizers_follow_keras,
    trap_15_seeds_are_validated,
}

pub(crate) fn case_names() -> Vec<String> {
    let files = fs::read_dir(folder("conformance")).expect("the folder of cases");
    let names = files.filter_map(|file| {
        let name = file.expect("a file").file_name().into_string().expect("a name in UTF-8");
        name.strip_suffix(".json").map(str::to_owned)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Replays a case with all its commands under way at once, and again waiting for each.
pub(crate) async fn replay(server: &Server, name: &str) {
    let path = folder("conformance").join(name).with_extension("json");
    let text = fs::read_to_string(&path).expect("a readable case");
    let case: Value = serde_json::from_str(&text).expect("JSON");
    for one_by_one in [false, true] {
        replay_case(server, name, &case, one_by_one).await;
    }
}

/// Replays a case in a session of its own, waiting for each command or only at the end.
pub(crate) async fn replay_case(server: &Server, name: &str, case: &Value, one_by_one: bool) {
    let mut steps = Vec::new();
    unroll(list(&case["steps"]), &mut steps);
    let session = server.session().await;
    let mut names = Names::new(|| session.reserve());
    let mut outcomes = Vec::new();
    for step in &steps {
        let answer = session.command(&names.command(step));
        let answer = if one_by_one {
            let outcome = answer.await;
            Box::pin(std::future::ready(outcome)) as futures::future::BoxFuture<'_, Outcome>
        } else {
            Box::pin(answer)
        };
        outcomes.push(answer);
    }
    let outcomes = futures::future::join_all(outcomes).await;
    let mut roots = HashMap::new();
    for (index, (step, outcome)) in steps.iter().zip(&outcomes).enumerate() {
        let place = format!("{name}, step {index} {step}");
        check(&place, step, outcome, &names, &mut roots);
    }
    drop(outcomes);
    finish(&session).await;
    drop(names);
    session.close().await.expect("the session ends");
}

/// Waits for the end of a case; its failures were expected.
async fn finish(session: &Session) {
    while let Err(error) = session.sync().await {
        assert!(error.failure().is_some(), "the session ended: {error}");
    }
}

/// Writes repetitions out.
pub(crate) fn unroll<'a>(steps: &'a [Value], into: &mut Vec<&'a Value>) {
    for step in steps {
        if let Some(repeat) = step.get("repeat") {
            for _ in 0..repeat["times"].as_u64().expect("a number of rounds") {
                unroll(list(&repeat["steps"]), into);
            }
        } else {
            into.push(step);
        }
    }
}

fn check(
    place: &str,
    step: &Value,
    outcome: &Outcome,
    names: &Names<'_>,
    roots: &mut HashMap<String, u64>,
) {
    match (outcome, step.get("error")) {
        (Err(Error::Command(failure)), expected) => {
            roots.insert(failure.tag.clone(), failure.sequence);
            let expected = expected.unwrap_or_else(|| panic!("{place}: {failure}"));
            check_failure(place, failure, expected, roots);
        }
        (Err(error), _) => panic!("{place}: {error}"),
        (Ok(reply), Some(_)) => panic!("{place}: expected an error, got {reply:?}"),
        (Ok(reply), None) => {
            if let Some(count) = step.get("warnings") {
                assert_eq!(Some(reply.warnings.len() as u64), count.as_u64(), "{place}");
            }
            check_answer(place, verb(step).1, reply.result.as_ref(), names);
        }
    }
}

fn check_failure(place: &str, failure: &Failure, expected: &Value, roots: &HashMap<String, u64>) {
    assert_eq!(expected["reason"].as_str(), Some(&failure.reason[..]), "{place}: {failure}");
    if let Some(code) = expected["code"].as_str() {
        assert_eq!(code_name(failure.code), code, "{place}: {failure}");
    }
    if let Some(root) = expected["root"].as_str() {
        assert_eq!(failure.root_tag, root, "{place}");
        assert_eq!(Some(&failure.root_sequence), roots.get(root), "{place}");
    }
}

/// `InvalidArgument` as `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

fn check_answer(place: &str, body: &Value, answer: Option<&Answer>, names: &Names<'_>) {
    let Some(expected) = body.get("expect") else { return };
    match answer {
        Some(Answer::Tensor(actual)) => {
            let actual = TensorData::try_from(actual.clone()).expect("a tensor");
            compare(place, &actual, expected, body.get("tolerance").map(number));
        }
        Some(Answer::Spec(actual)) => {
            let actual = Spec::try_from(actual.clone()).expect("a spec");
            assert_eq!(actual, spec(expected), "{place}");
        }
        Some(Answer::Gradient(actual)) => {
            assert_eq!(actual.gradients.len(), list(expected).len(), "{place}");
            for (info, expected) in actual.gradients.iter().zip(list(expected)) {
                check_gradient(place, info, expected);
            }
        }
        Some(Answer::Optimizer(actual)) => {
            assert_eq!(Some(actual.iterations), expected["iterations"].as_i64(), "{place}");
        }
        Some(Answer::Variables(actual)) => {
            let names: Vec<_> = actual.variables.iter().map(|v| &names.variables[v][..]).collect();
            let expected: Vec<_> = list(expected).iter().filter_map(Value::as_str).collect();
            assert_eq!(names, expected, "{place}");
        }
        Some(Answer::Explanation(actual)) => {
            let ops: Vec<_> = actual.path.iter().map(|hop| &hop.op[..]).collect();
            let expected_ops: Vec<_> =
                list(&expected["path"]).iter().filter_map(Value::as_str).collect();
            assert_eq!(ops, expected_ops, "{place}");
            let reason = word(actual.absent_reason().as_str_name(), "ABSENT_REASON_");
            assert_eq!(reason, expected["reason"].as_str().unwrap_or("unspecified"), "{place}");
            if let Some(tags) = expected.get("tags") {
                let found: Vec<_> = actual.path.iter().map(|hop| &hop.tag[..]).collect();
                let tags: Vec<_> = list(tags).iter().filter_map(Value::as_str).collect();
                assert_eq!(found, tags, "{place}");
            }
        }
        Some(Answer::Function(actual)) => {
            let actual: Vec<_> = actual
                .results
                .iter()
                .map(|found| Spec::try_from(found.clone()).expect("a spec"))
                .collect();
            let expected: Vec<_> = list(expected).iter().map(spec).collect();
            assert_eq!(actual, expected, "{place}");
        }
        Some(Answer::Loop(actual)) => check_loop(place, actual, expected),
        Some(Answer::Sync(_) | Answer::Restore(_) | Answer::Plan(_) | Answer::Error(_)) | None => {
            panic!("{place}: got {answer:?}")
        }
    }
}

fn check_loop(place: &str, actual: &proto::LoopReply, expected: &Value) {
    assert_eq!(Some(actual.steps), expected["steps"].as_i64(), "{place}");
    assert_eq!(actual.stopped, expected["stopped"].as_bool().unwrap_or(false), "{place}");
    let reports = list(&expected["reports"]);
    assert_eq!(actual.reports.len(), reports.len(), "{place}");
    for (actual, expected) in actual.reports.iter().zip(reports) {
        assert_eq!(Some(actual.step), expected["step"].as_i64(), "{place}");
        let values: Vec<_> = list(&expected["values"]).iter().map(number).collect();
        assert_eq!(actual.values, values, "{place}, step {}", actual.step);
    }
}

fn spec(expected: &Value) -> Spec {
    let dtype = dtype(expected["dtype"].as_str().expect("a dtype"));
    Spec { dtype, shape: shape(&expected["shape"]) }
}

/// The last word of an enum's value, in lower case.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).expect("enum values carry their prefix").to_lowercase()
}

fn check_gradient(place: &str, info: &proto::GradientInfo, expected: &Value) {
    let kind = word(info.kind().as_str_name(), "GRADIENT_KIND_");
    assert_eq!(Some(&kind[..]), expected["kind"].as_str(), "{place}");
    if let Some(reason) = expected["reason"].as_str() {
        assert_eq!(word(info.absent_reason().as_str_name(), "ABSENT_REASON_"), reason, "{place}");
    }
    let actual = info.spec.clone().map(|spec| Spec::try_from(spec).expect("a spec"));
    if let Some(name) = expected["dtype"].as_str() {
        assert_eq!(actual.as_ref().map(|spec| spec.dtype), Some(dtype(name)), "{place}");
    }
    if let Some(extents) = expected.get("shape") {
        assert_eq!(actual.map(|spec| spec.shape), Some(shape(extents)), "{place}");
    }
}

fn compare(place: &str, actual: &TensorData, expected: &Value, tolerance: Option<f64>) {
    let expected = tensor(expected);
    assert_eq!(actual.spec(), expected.spec(), "{place}");
    for (actual, expected) in numbers(actual).into_iter().zip(numbers(&expected)) {
        let near = match tolerance {
            Some(t) if expected.is_finite() => {
                (actual - expected).abs() <= t * expected.abs().max(1.0)
            }
            _ => actual == expected || (actual.is_nan() && expected.is_nan()),
        };
        assert!(near, "{place}: got {actual}, expected {expected}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "the cases hold small integers")]
fn numbers(data: &TensorData) -> Vec<f64> {
    use gradtape_client::DType;

    let expect = "the dtype was asked";
    match data.dtype() {
        DType::F64 => data.to_vec().expect(expect),
        DType::F32 => data.to_vec::<f32>().expect(expect).into_iter().map(f64::from).collect(),
        DType::I32 => data.to_vec::<i32>().expect(expect).into_iter().map(f64::from).collect(),
        DType::I64 => data.to_vec::<i64>().expect(expect).into_iter().map(|n| n as f64).collect(),
        DType::Bool => data.to_vec::<bool>().expect(expect).into_iter().map(f64::from).collect(),
        DType::F16 => data.to_vec::<f16>().expect(expect).into_iter().map(f64::from).collect(),
        DType::BF16 => data.to_vec::<bf16>().expect(expect).into_iter().map(f64::from).collect(),
        other => panic!("the dtype {other} is not known"),
    }
}
