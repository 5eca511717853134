//! Ring 2 for ops: the numbers of `tests/golden/ops`, each case as a conformance case of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
};

use gradtape_client::proto::{ListOpsRequest, catalog_service_client::CatalogServiceClient};
use gradtape_tests::{Server, case::list, folder, raw::channel};
use serde_json::{Map, Value, json};

use crate::conformance::replay_case;

/// Largest relative difference where a case names none, by dtype. Kernels are good to 2 ulp, sums of rounded values to
/// a little more.
const TOLERANCES: [(&str, f64); 4] =
    [("float32", 2e-5), ("float64", 1e-10), ("float16", 2e-3), ("bfloat16", 2e-2)];

fn ops_folder() -> PathBuf {
    folder("golden").join("ops")
}

fn json_file(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

/// The cases of all families, named for error messages.
fn cases() -> Vec<(String, Value)> {
    let mut families: Vec<PathBuf> = fs::read_dir(ops_folder().join("cases"))
        .expect("the folder of families")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    families.sort();
    let mut cases = Vec::new();
    for family in families {
        let name = family.file_stem().expect("a name").to_string_lossy().into_owned();
        let file = json_file(ops_folder().join(&name).with_extension("json"));
        for (i, case) in list(&file).iter().enumerate() {
            cases.push((format!("{name}, case {i} ({})", op(case)), case.clone()));
        }
    }
    cases
}

fn op(case: &Value) -> &str {
    case["op"].as_str().expect("the name of an op")
}

/// The steps that apply the op under a tape and ask for its outputs and gradients.
fn steps(case: &Value) -> Value {
    let names = |prefix: &str, count: usize| -> Vec<String> {
        (0..count).map(|i| format!("{prefix}{i}")).collect()
    };
    let (tensors, results) = (list(&case["inputs"]), list(&case["outputs"]));
    let (inputs, outputs) = (names("x", tensors.len()), names("y", results.len()));
    let is_float =
        |tensor: &Value| tensor["dtype"].as_str().is_some_and(|name| name.contains("float"));
    let sources: Vec<&String> =
        inputs.iter().zip(tensors).filter(|(_, x)| is_float(x)).map(|(name, _)| name).collect();
    let mut steps: Vec<Value> = inputs
        .iter()
        .zip(tensors)
        .map(|(name, tensor)| json!({"constant": {"output": name, "tensor": tensor}}))
        .collect();
    steps.push(json!({"open_tape": {"tape": "t"}}));
    steps.push(json!({"watch_tape": {"tape": "t", "values": sources}}));
    steps.push(json!({"op": {
        "name": case["op"], "inputs": inputs, "outputs": outputs,
        "attributes": case.get("attributes").unwrap_or(&Value::Object(Map::new())),
    }}));
    let fetch = |name: &str, expected: &Value| {
        let default = TOLERANCES.iter().find(|(dtype, _)| expected["dtype"] == *dtype);
        let tolerance = case["tolerance"].as_f64().or(default.map(|&(_, tolerance)| tolerance));
        let mut body = json!({"value": name, "expect": expected});
        if let Some(tolerance) = tolerance {
            body["tolerance"] = tolerance.into();
        }
        json!({ "fetch": body })
    };
    steps.extend(outputs.iter().zip(results).map(|(name, expected)| fetch(name, expected)));
    if let Some(gradients) = case.get("gradients").map(list) {
        let found = names("g", gradients.len());
        let mut seeds = Vec::new();
        let mut targets = Vec::new();
        for ((i, seed), output) in list(&case["upstream"]).iter().enumerate().zip(&outputs) {
            if !seed.is_null() {
                steps.push(json!({"constant": {"output": format!("seed{i}"), "tensor": seed}}));
                seeds.push(format!("seed{i}"));
                targets.push(output);
            }
        }
        let kinds: Vec<Value> = gradients
            .iter()
            .map(|g| json!({"kind": if g.is_null() { "absent" } else { "dense" }}))
            .collect();
        steps.push(json!({"compute_gradient": {
            "tape": "t", "targets": targets, "sources": sources, "outputs": found,
            "output_gradients": seeds, "expect": kinds,
        }}));
        let present = found.iter().zip(gradients).filter(|(_, g)| !g.is_null());
        steps.extend(present.map(|(name, expected)| fetch(name, expected)));
    }
    json!({ "steps": steps })
}

#[tokio::test(flavor = "multi_thread")]
async fn ops_and_their_gradients_are_the_oracles() {
    let server = Arc::new(Server::start().await);
    let mut failed = Vec::new();
    for (name, case) in cases() {
        let server = Arc::clone(&server);
        let place = name.clone();
        // A task of its own, so that one failing case does not hide the others.
        let replay =
            tokio::spawn(async move { replay_case(&server, &place, &steps(&case), false).await });
        if replay.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?} failed");
}

/// `uncovered.json` says why an op has no case; it must name exactly the ops that have none.
#[tokio::test]
async fn every_op_has_a_case_or_a_reason() {
    let server = Server::start().await;
    let mut catalog = CatalogServiceClient::new(channel(&server).await);
    let request = ListOpsRequest { page_size: 1_000, page_token: String::new() };
    let ops = catalog.list_ops(request).await.expect("the catalogue").into_inner().ops;
    let covered: BTreeSet<String> = cases().iter().map(|(_, case)| op(case).to_owned()).collect();
    let missing: BTreeSet<String> =
        ops.into_iter().map(|op| op.name).filter(|name| !covered.contains(name)).collect();
    let reasons = json_file(ops_folder().join("uncovered.json"));
    let reasons: BTreeMap<String, String> =
        serde_json::from_value(reasons).expect("an object of texts");
    assert_eq!(missing, reasons.into_keys().collect());
}
