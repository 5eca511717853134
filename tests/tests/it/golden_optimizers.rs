//! Ring 2 over the wire for optimizers and schedules: Keras' and PyTorch's numbers in `tests/golden`.

use std::collections::BTreeSet;

use gradtape_client::{
    Attribute, GradientOptions, Optimizer, Schedule, Session, Tensor, TensorData, Variable,
    proto::{ListOptimizersRequest, catalog_service_client::CatalogServiceClient},
};
use gradtape_tests::{
    Server,
    case::{list, number, shape},
    raw::channel,
};
use serde_json::Value;

use super::golden::{TOLERANCE, file, narrow};

/// Steps in `float32` whose roundings differ: those of Newton's and Schulz' iteration, which magnifies them.
const LOOSE: f64 = 1e-4;

fn floats(values: &Value) -> Vec<f32> {
    list(values).iter().map(number).map(narrow).collect()
}

/// Hyperparameters as the server takes them: without what is null, and what is the client's business.
fn hyperparameters(config: &Value) -> Vec<(&str, Attribute)> {
    const CLIENTS: &[&str] = &["name", "exclude_layers", "exclude_embeddings"];

    let config = config.as_object().expect("an object").iter();
    let given = config.filter(|(name, value)| !value.is_null() && !CLIENTS.contains(&&name[..]));
    given.map(|(name, value)| (&name[..], attribute(value))).collect()
}

fn attribute(value: &Value) -> Attribute {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(value) if value.is_i64() => value.as_i64().expect("an i64").into(),
        Value::Number(value) => value.as_f64().expect("a double").into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(values) if values.iter().all(Value::is_i64) => shape(value).into(),
        Value::Array(values) => values.iter().map(number).collect::<Vec<f64>>().into(),
        Value::Null | Value::Object(_) => panic!("{value} is no attribute"),
    }
}

fn assert_near(place: &str, actual: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{place}");
    for (&actual, &expected) in actual.iter().zip(expected) {
        let near =
            f64::from((actual - expected).abs()) <= tolerance * f64::from(expected.abs()).max(1.0);
        assert!(near, "{place}: {actual}, not {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn optimizers_are_keras() {
    let server = Server::start().await;
    let session = server.session().await;
    let golden = file("optimizers.json");
    let cases = golden.as_object().expect("an object").iter();
    for (name, case) in cases.filter(|(_, case)| case.get("traj").is_some()) {
        // A case is named after its optimizer.
        let kind = name.split('_').next().expect("a name");
        let schedule =
            name.starts_with("sgd_exp").then(|| Schedule::exponential_decay(0.1, 2.0, 0.5));
        let optimizer =
            Optimizer::named(&session, kind, hyperparameters(&case["config"]), schedule);
        let extents = shape(&golden["shape"]);
        let variable =
            session.variable(name, TensorData::new(extents.clone(), &floats(&golden["init"])));
        let steps = list(&golden["grads"]).iter().zip(list(&case["traj"]));
        for (step, (gradient, expected)) in steps.enumerate() {
            let gradient = session.constant(TensorData::new(extents.clone(), &floats(gradient)));
            optimizer
                .apply([(&gradient, &variable)])
                .await
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let actual = variable.value::<f32>().await.expect("the variable");
            assert_near(&format!("{name}, step {step}"), &actual, &floats(expected), TOLERANCE);
        }
    }
}

/// A gradient, as a tape gives it, whose rows are those given; dense, or sparse with duplicate rows.
fn gradient_of_rows(
    session: &Session,
    matrix: &Variable,
    (indices, rows): (&Tensor, TensorData),
    sparse: bool,
) -> gradtape_client::Gradient {
    let tape = session.tape();
    let picked = matrix.read().gather(indices);
    let loss = (&picked * &session.constant(rows)).reduce_sum();
    let options = GradientOptions { sparse, ..GradientOptions::default() };
    tape.gradient_with([&loss], [matrix], &options).remove(0)
}

async fn replay(name: &str, golden: &Value, case: &Value, session: &Session, sparse: bool) {
    let kind = case["optimizer"].as_str().expect("a name");
    let given = hyperparameters(&case["hyperparameters"]);
    let optimizer = Optimizer::named(session, kind, given, None);
    let shapes: Vec<Vec<i64>> = list(&golden["shapes"]).iter().map(shape).collect();
    let variables: Vec<Variable> = shapes
        .iter()
        .zip(list(&golden["initial"]))
        .map(|(shape, initial)| {
            session.variable("v", TensorData::new(shape.clone(), &floats(initial)))
        })
        .collect();
    let indices: Vec<i64> =
        list(&golden["indices"]).iter().map(|i| i.as_i64().expect("a row")).collect();
    let count = i64::try_from(indices.len()).expect("a few");
    let rows_shape = vec![count, shapes[0][1]];
    let indices = session.constant(TensorData::new([count], &indices));
    let steps = list(&golden["gradients"]).iter().zip(list(&case["values"]));
    let tolerance = if kind == "muon" { LOOSE } else { TOLERANCE };
    for (step, (gradients, expected)) in steps.enumerate() {
        let place =
            format!("{name} {kind} {}, sparse {sparse}, step {step}", case["hyperparameters"]);
        let rows = TensorData::new(rows_shape.clone(), &floats(&gradients[0]));
        let first = gradient_of_rows(session, &variables[0], (&indices, rows), sparse);
        let vector = session.constant(TensorData::new(shapes[1].clone(), &floats(&gradients[1])));
        let pairs: [(&dyn gradtape_client::AsGradient, &Variable); 2] =
            [(&first, &variables[0]), (&vector, &variables[1])];
        optimizer.apply(pairs).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut actual = Vec::new();
        for variable in &variables {
            actual.extend(variable.value::<f32>().await.expect("the variable"));
        }
        assert_near(&place, &actual, &floats(expected), tolerance);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_steps_of_every_optimizer_are_keras_and_pytorchs_dense_and_sparse() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut covered = BTreeSet::new();
    for name in ["keras", "torch"] {
        let golden = file(&format!("optimizers/{name}.json"));
        for case in list(&golden["cases"]) {
            covered.insert(case["optimizer"].as_str().expect("a name").to_owned());
            for sparse in [false, true] {
                replay(name, &golden, case, &session, sparse).await;
            }
        }
    }
    let mut catalog = CatalogServiceClient::new(channel(&server).await);
    let request = ListOptimizersRequest::default();
    let table = catalog.list_optimizers(request).await.expect("the catalogue").into_inner();
    let known: BTreeSet<String> = table.optimizers.into_iter().map(|entry| entry.name).collect();
    assert_eq!(covered, known);
}

/// The server's attributes for the arguments of Keras' schedule.
fn schedule(case: &Value) -> Schedule {
    let mut arguments = case["arguments"].as_object().expect("an object").clone();
    if let Some(target) = arguments.remove("warmup_target") {
        // Keras names the start of the warmup after what it is otherwise.
        let start = arguments.insert("initial_learning_rate".to_owned(), target);
        arguments.insert("warmup_from".to_owned(), start.expect("a rate"));
    }
    let given = Schedule::named(case["schedule"].as_str().expect("a name"));
    arguments.iter().fold(given, |schedule, (name, value)| {
        let rate = value.is_number() && name != "warmup_steps";
        let value = if rate { number(value).into() } else { attribute(value) };
        schedule.with(name, value)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_of_schedules_are_keras_and_pytorchs() {
    let server = Server::start().await;
    let session = server.session().await;
    let golden = file("optimizers/schedules.json");
    let steps = shape(&golden["steps"]);
    for case in list(&golden["cases"]) {
        let none: [(&str, Attribute); 0] = [];
        let optimizer = Optimizer::named(&session, "sgd", none, Some(schedule(case)));
        let variable = session.variable("v", 0.0_f32);
        let zero = session.constant(0.0_f32);
        let mut taken = 0;
        for (&step, expected) in steps.iter().zip(floats(&case["rates"])) {
            for _ in taken..step {
                optimizer.apply([(&zero, &variable)]);
            }
            taken = step;
            let rate = optimizer.read("learning_rate").value::<f32>().await.expect("a rate");
            let near = (rate[0] - expected).abs() <= 2e-6 * expected.abs() + 2e-8;
            assert!(near, "{case}, step {step}: {}, not {expected}", rate[0]);
        }
    }
}
