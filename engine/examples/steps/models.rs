//! The models: those of the table in the benchmarks, in the same shapes.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "extents are small numbers, written in the type that attributes have"
)]

use gradtape_engine::{attrs::Attr, command::Handle};

use crate::Client;

/// A model.
pub(crate) struct Model {
    pub name: &'static str,
    /// How many steps are timed unless it is said.
    pub steps: usize,
    /// Makes variables and data; gives one step.
    pub build: fn(&mut dyn Client) -> Step,
}

/// One training step.
pub(crate) type Step = Box<dyn FnMut(&mut dyn Client)>;

pub(crate) const ALL: &[Model] = &[
    Model { name: "tutorial", steps: 1000, build: tutorial },
    Model { name: "mlp", steps: 200, build: mlp },
    Model { name: "cnn", steps: 30, build: cnn },
    Model { name: "gpt", steps: 30, build: gpt },
];

fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.into())
}

/// The loop of the tutorial: a line fitted to one point, two gradients and two updates a step.
fn tutorial(client: &mut dyn Client) -> Step {
    let (w, b) = (client.variable(&[], 1.0), client.variable(&[], 1.0));
    let (x, y) = (client.floats(&[], 1.0), client.floats(&[], 1.0));
    client.optimizer("sgd");
    Box::new(move |client| {
        let tape = client.open();
        let product = client.op("multiply", &[w, x], vec![]);
        let guess = client.op("add", &[product, b], vec![]);
        let error = client.op("subtract", &[guess, y], vec![]);
        let loss = client.op("square", &[error], vec![]);
        client.train(tape, loss);
    })
}

fn dense(client: &mut dyn Client, x: Handle, weights: Handle, bias: Handle) -> Handle {
    let product = client.op("matmul", &[x, weights], vec![]);
    client.op("add", &[product, bias], vec![])
}

fn mean_cross_entropy(client: &mut dyn Client, labels: Handle, logits: Handle) -> Handle {
    let each = client.op("sparse_softmax_cross_entropy_with_logits", &[labels, logits], vec![]);
    client.op("reduce_mean", &[each], vec![])
}

/// 784-128-10, batch 128.
fn mlp(client: &mut dyn Client) -> Step {
    let (x, labels) = (client.floats(&[128, 784], 1.0), client.classes(&[128], 10));
    let (w1, b1) = (client.variable(&[784, 128], 0.05), client.variable(&[128], 0.0));
    let (w2, b2) = (client.variable(&[128, 10], 0.1), client.variable(&[10], 0.0));
    client.optimizer("adam");
    Box::new(move |client| {
        let tape = client.open();
        let hidden = dense(client, x, w1, b1);
        let hidden = client.op("relu", &[hidden], vec![]);
        let logits = dense(client, hidden, w2, b2);
        let loss = mean_cross_entropy(client, labels, logits);
        client.train(tape, loss);
    })
}

fn convolve(client: &mut dyn Client, x: Handle, filter: Handle, bias: Handle) -> Handle {
    let y = client.op(
        "convolution",
        &[x, filter],
        vec![
            ("strides", ints(&[1, 1])),
            ("dilations", ints(&[1, 1])),
            ("padding", Attr::Text("SAME".into())),
        ],
    );
    let y = client.op("add", &[y, bias], vec![]);
    let y = client.op("relu", &[y], vec![]);
    client.op(
        "max_pool",
        &[y],
        vec![
            ("ksize", ints(&[2, 2])),
            ("strides", ints(&[2, 2])),
            ("padding", Attr::Text("VALID".into())),
        ],
    )
}

/// Two 3x3 convolutions of 32 and 64 channels, each with a pool, and a dense layer; batch 64, 28x28.
fn cnn(client: &mut dyn Client) -> Step {
    let (x, labels) = (client.floats(&[64, 28, 28, 1], 1.0), client.classes(&[64], 10));
    let (f1, b1) = (client.variable(&[3, 3, 1, 32], 0.3), client.variable(&[32], 0.0));
    let (f2, b2) = (client.variable(&[3, 3, 32, 64], 0.05), client.variable(&[64], 0.0));
    let (w, b) = (client.variable(&[7 * 7 * 64, 10], 0.02), client.variable(&[10], 0.0));
    client.optimizer("adam");
    Box::new(move |client| {
        let tape = client.open();
        let y = convolve(client, x, f1, b1);
        let y = convolve(client, y, f2, b2);
        let flat = client.op("reshape", &[y], vec![("shape", ints(&[64, 7 * 7 * 64]))]);
        let logits = dense(client, flat, w, b);
        let loss = mean_cross_entropy(client, labels, logits);
        client.train(tape, loss);
    })
}

const BATCH: i64 = 16;
const CONTEXT: i64 = 64;
const WIDTH: i64 = 64;
const HEADS: i64 = 4;
const VOCABULARY: i64 = 65;

/// The variables of one layer.
struct Layer {
    norms: [(Handle, Handle); 2],
    queries_keys_values: (Handle, Handle),
    joined: (Handle, Handle),
    up: (Handle, Handle),
    down: (Handle, Handle),
}

fn pair(client: &mut dyn Client, inputs: usize, outputs: usize) -> (Handle, Handle) {
    (client.variable(&[inputs, outputs], 0.1), client.variable(&[outputs], 0.0))
}

fn layer(client: &mut dyn Client) -> Layer {
    let width = WIDTH as usize;
    let norm =
        |client: &mut dyn Client| (client.variable(&[width], 1.0), client.variable(&[width], 0.0));
    Layer {
        norms: [norm(client), norm(client)],
        queries_keys_values: pair(client, width, 3 * width),
        joined: pair(client, width, width),
        up: pair(client, width, 4 * width),
        down: pair(client, 4 * width, width),
    }
}

fn normalize(client: &mut dyn Client, x: Handle, (scale, offset): (Handle, Handle)) -> Handle {
    client.op("layer_normalization", &[x, scale, offset], vec![("epsilon", Attr::Double(1e-5))])
}

/// From `[batch, context, width]` to `[batch, context, heads, width / heads]`.
fn heads(client: &mut dyn Client, x: Handle) -> Handle {
    let shape = ints(&[BATCH, CONTEXT, HEADS, WIDTH / HEADS]);
    client.op("reshape", &[x], vec![("shape", shape)])
}

fn block(client: &mut dyn Client, x: Handle, layer: &Layer, nothing: Handle) -> Handle {
    let y = normalize(client, x, layer.norms[0]);
    let (weights, bias) = layer.queries_keys_values;
    let y = dense(client, y, weights, bias);
    let thirds = vec![("num_splits", Attr::Int(3)), ("axis", Attr::Int(-1))];
    let thirds = client.ops("split", &[y], thirds, 3);
    let heads: Vec<Handle> = thirds.into_iter().map(|third| heads(client, third)).collect();
    let y = client.op(
        "scaled_dot_product_attention",
        &[heads[0], heads[1], heads[2], nothing],
        vec![("causal", Attr::Bool(true)), ("qkv_layout", Attr::Text("BTNH".into()))],
    );
    let y = client.op("reshape", &[y], vec![("shape", ints(&[BATCH, CONTEXT, WIDTH]))]);
    let y = dense(client, y, layer.joined.0, layer.joined.1);
    let x = client.op("add", &[x, y], vec![]);
    let y = normalize(client, x, layer.norms[1]);
    let y = dense(client, y, layer.up.0, layer.up.1);
    let y = client.op("gelu", &[y], vec![("approximate", Attr::Bool(true))]);
    let y = dense(client, y, layer.down.0, layer.down.1);
    client.op("add", &[x, y], vec![])
}

/// Two layers, 64 wide, 4 heads, context 64, batch 16: the model of the bench of that name.
fn gpt(client: &mut dyn Client) -> Step {
    let count = [BATCH as usize, CONTEXT as usize];
    let (vocabulary, width) = (VOCABULARY as usize, WIDTH as usize);
    let tokens = client.classes(&count, VOCABULARY);
    let labels = client.classes(&count, VOCABULARY - 1);
    let nothing = client.floats(&[], 0.0);
    let embedding = client.variable(&[vocabulary, width], 0.1);
    let places = client.variable(&[CONTEXT as usize, width], 0.1);
    let layers: Vec<Layer> = (0..2).map(|_| layer(client)).collect();
    let last = (client.variable(&[width], 1.0), client.variable(&[width], 0.0));
    let out = pair(client, width, vocabulary);
    client.optimizer("adam");
    Box::new(move |client| {
        let tape = client.open();
        let x = client.op("gather", &[embedding, tokens], vec![]);
        let mut x = client.op("add", &[x, places], vec![]);
        for layer in &layers {
            x = block(client, x, layer, nothing);
        }
        let x = normalize(client, x, last);
        let logits = dense(client, x, out.0, out.1);
        let loss = mean_cross_entropy(client, labels, logits);
        client.train(tape, loss);
    })
}
