//! Ring 2 over the wire: TensorFlow's and Keras' numbers in `tests/golden`.
//!
//! The files name cases, not programs; `programs` says what each means here.

use std::fs;

use gradtape_client::{Attribute, DType, GradientOptions, Session, Tensor, TensorData};
use gradtape_tests::{
    Server,
    case::{list, number, shape, tensor},
    folder,
};
use serde_json::Value;

/// Largest relative difference; the kernels are good to 2 ulp, sums of several rounded values to a little more.
pub(crate) const TOLERANCE: f64 = 2e-5;

/// A way to compute a case's output from its inputs.
type Program = Box<dyn Fn(&[Tensor]) -> Tensor + Send + Sync>;

pub(crate) fn file(name: &str) -> Value {
    let text = fs::read_to_string(folder("golden").join(name)).expect("the golden file");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn gradients_are_tensorflows() {
    let server = Server::start().await;
    let session = server.session().await;
    let golden = file("grads.json");
    for case in list(&golden["cases"]) {
        let name = case["op"].as_str().expect("a name");
        let programs = programs(&session, name);
        let mut differences = Vec::new();
        for program in &programs {
            match check(&session, case, program).await {
                Ok(()) => break,
                Err(difference) => differences.push(difference),
            }
        }
        assert!(differences.len() < programs.len(), "{name}: {differences:#?}");
    }
}

/// Compares the output and all gradients of a case with those of a program.
async fn check(session: &Session, case: &Value, program: &Program) -> Result<(), String> {
    let inputs: Vec<Tensor> =
        list(&case["inputs"]).iter().map(|input| session.constant(tensor(input))).collect();
    let tape = session.tape();
    tape.watch(&inputs);
    let output = program(&inputs);
    let upstream = list(&case["upstream"]).iter().map(number).map(narrow).collect::<Vec<_>>();
    let seed = session.constant(TensorData::new(shape(&case["output"]["shape"]), &upstream));
    let options = GradientOptions { seeds: vec![Some(&seed)], ..GradientOptions::default() };
    let gradients = tape.gradient_with([&output], &inputs, &options);
    compare("output", &output, &case["output"]).await?;
    for (gradient, expected) in gradients.iter().zip(list(&case["grads"])) {
        if expected.is_null() {
            let present = gradient.is_present().await.map_err(|error| error.to_string())?;
            if present {
                return Err("a gradient is present that should be absent".to_owned());
            }
        } else {
            compare("gradient", gradient, expected).await?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the file writes f32 in decimal")]
pub(crate) fn narrow(x: f64) -> f32 {
    x as f32
}

async fn compare(what: &str, actual: &Tensor, expected: &Value) -> Result<(), String> {
    let data = actual.data().await.map_err(|error| format!("{what}: {error}"))?;
    if data.shape() != shape(&expected["shape"]) {
        return Err(format!("{what} has shape {:?}, not {}", data.shape(), expected["shape"]));
    }
    let actual: Vec<f32> = data.to_vec().map_err(|error| format!("{what}: {error}"))?;
    for (i, (&actual, expected)) in actual.iter().zip(list(&expected["data"])).enumerate() {
        let (actual, expected) = (f64::from(actual), number(expected));
        let near = (actual - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
        if !(near || actual == expected || (actual.is_nan() && expected.is_nan())) {
            return Err(format!("{what}[{i}] is {actual}, not {expected}"));
        }
    }
    Ok(())
}

/// What a case computes. Where the file leaves an argument open, every value that fits is a program, and one must agree.
#[expect(clippy::too_many_lines, reason = "a table, one row for each name")]
fn programs(session: &Session, name: &str) -> Vec<Program> {
    let reduce = name.strip_suffix("_axis1").map(|op| {
        let op = op.to_owned();
        call(move |x| x[0].session().op(&op, [&x[0]], [("axis", [1].into())]))
    });
    if let Some(program) = reduce {
        return vec![program];
    }
    let attributes = |name: &'static str, attributes: Vec<(&'static str, Attribute)>| {
        vec![call(move |x| x[0].session().op(name, x, attributes.clone()))]
    };
    let constant = |data: TensorData| session.constant(data);
    match name {
        "bias_add" => vec![call(|x| &x[0] + &x[1])],
        "batch_matmul_bcast" => attributes("matmul", vec![]),
        "matmul_ta" => attributes("matmul", vec![("transpose_a", true.into())]),
        "matmul_tb" => attributes("matmul", vec![("transpose_b", true.into())]),
        "gelu_tanh" => attributes("gelu", vec![("approximate", true.into())]),
        "leaky_relu" => attributes("leaky_relu", vec![("alpha", 0.2.into())]),
        "l2_norm" => vec![call(|x| x[0].square().reduce_sum().sqrt())],
        "cumsum_rev_excl" => {
            attributes("cumsum", vec![("exclusive", true.into()), ("reverse", true.into())])
        }
        "top_k2" => vec![call(|x| {
            let session = x[0].session();
            let indices = session.op("top_k_indices", [&x[0]], [("k", 2.into())]);
            session.op("take_along_axis", [&x[0], &indices], [("axis", (-1).into())])
        })],
        "reshape" => attributes("reshape", vec![("shape", [3, 2].into())]),
        "broadcast_to" => attributes("broadcast_to", vec![("shape", [3, 2].into())]),
        "tile" => attributes("tile", vec![("multiples", [2, 3].into())]),
        "concat" => attributes("concat", vec![("axis", 1.into())]),
        "stack" => attributes("stack", vec![("axis", 1.into())]),
        "slice_strided" => attributes(
            "strided_slice",
            vec![
                ("begin", [0, 1].into()),
                ("end", [0, 3].into()),
                ("strides", [-1, 1].into()),
                ("begin_mask", 1.into()),
                ("end_mask", 1.into()),
            ],
        ),
        "cast_roundtrip_f64" => {
            let round_trip = |of: fn(Tensor) -> Tensor| {
                call(move |x| of(x[0].cast(DType::F64)).cast(DType::F32))
            };
            vec![round_trip(|x| x.square()), round_trip(|x| x), round_trip(|x| x.sin())]
        }
        "max_pool" => pool("max_pool", 2, "VALID"),
        "max_pool_same3" => pool("max_pool", 3, "SAME"),
        "avg_pool_same3" => pool("avg_pool", 3, "SAME"),
        "conv2d_same_s1" => convolution(1, 1, "SAME"),
        "conv2d_valid_s2" => convolution(2, 1, "VALID"),
        "conv2d_same_s2_even" => convolution(2, 1, "SAME"),
        "conv2d_dil2" => convolution(1, 2, "VALID"),
        "conv2d_transpose" => vec![call(|x| {
            let mut attributes = sliding(2, 1, "SAME");
            attributes.push(("shape", [1, 4, 4, 1].into()));
            x[0].session().op("convolution_input_gradient", [&x[1], &x[0]], attributes)
        })],
        // The filters of each channel are a group.
        "depthwise" => vec![call(|x| {
            let filter = x[1].reshape([2, 2, 1, 4]);
            x[0].session().op("convolution", [&x[0], &filter], sliding(1, 1, "SAME"))
        })],
        "batch_norm_train" | "fused_bn_train" => {
            vec![call(|x| x[0].fused_batch_norm(&x[1], &x[2]).remove(0))]
        }
        "einsum_bhqk" => einsum("bqhd,bkhd->bhqk"),
        "einsum_trace" => einsum("ii->i"),
        "layer_norm" => attributes("layer_normalization", vec![("epsilon", 1e-5.into())]),
        "xent" => attributes("softmax_cross_entropy_with_logits", vec![]),
        "sigmoid_xent" => attributes("sigmoid_cross_entropy_with_logits", vec![]),
        "sparse_xent" => tuples(3, 2, |labels| {
            let labels = constant(labels.into());
            call(move |x| labels.sparse_softmax_cross_entropy_with_logits(&x[0]))
        }),
        "gather_dup" | "gather_ax1" => {
            let axis = i64::from(name == "gather_ax1");
            tuples(3, 3, |indices| {
                let indices = constant(indices.into());
                call(move |x| {
                    indices.session().op("gather", [&x[0], &indices], [("axis", axis.into())])
                })
            })
        }
        "where" => tuples(2, 4, |bits| {
            let bits: Vec<bool> = bits.iter().map(|&bit| bit == 1).collect();
            let condition = constant(TensorData::new([2, 2], &bits));
            call(move |x| condition.where_(&x[0], &x[1]))
        }),
        "clip" => [(-0.5, 0.5), (-1.0, 1.0), (-0.3, 0.3), (0.0, 1.0)]
            .map(|(low, high)| call(move |x| x[0].clip_by_value(low, high)))
            .into(),
        "transpose" => [[1, 0, 2], [1, 2, 0], [2, 1, 0]]
            .map(|perm| call(move |x| x[0].session().op("transpose", x, [("perm", perm.into())])))
            .into(),
        "pad_const" => tuples(3, 4, |paddings| {
            call(move |x| x[0].session().op("pad", x, [("paddings", paddings.clone().into())]))
        }),
        "pad_reflect" => attributes("mirror_pad", vec![("paddings", [1, 1].into())]),
        "pad_symmetric" => attributes(
            "mirror_pad",
            vec![("paddings", [2, 1].into()), ("mode", "SYMMETRIC".into())],
        ),
        "reverse" => attributes("reverse", vec![("axis", [0].into())]),
        "roll" => attributes("roll", vec![("shift", [1].into()), ("axis", [0].into())]),
        "band_part" => {
            attributes("band_part", vec![("num_lower", 0.into()), ("num_upper", 1.into())])
        }
        "space_to_depth" => attributes("space_to_depth", vec![("block_size", 2.into())]),
        "resize_bilinear2x" => attributes("resize", vec![("size", [4, 4].into())]),
        "resize_nearest2x" => attributes("resize_nearest", vec![("size", [4, 4].into())]),
        "gather_nd" => {
            let indices = constant(TensorData::new([2, 2], &[0_i64, 1, 1, 0]));
            vec![call(move |x| x[0].session().op("gather_nd", [&x[0], &indices], []))]
        }
        "scatter_nd" => {
            let indices = constant(TensorData::new([3, 1], &[1_i64, 1, 0]));
            let attributes = [("shape", [3].into())];
            vec![call(move |x| {
                x[0].session().op("scatter_nd", [&indices, &x[0]], attributes.clone())
            })]
        }
        "segment_sum" | "segment_mean" => segments(session, name, vec![0, 0, 1], 2),
        "unsorted_segment_sum" => segments(session, name, vec![1, 0, 1], 3),
        name => {
            let name = name.to_owned();
            vec![call(move |x| x[0].session().op(&name, x, []))]
        }
    }
}

fn call(program: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static) -> Program {
    Box::new(program)
}

fn segments(session: &Session, name: &str, ids: Vec<i64>, count: i64) -> Vec<Program> {
    let (name, ids) = (name.to_owned(), session.constant(TensorData::from(ids)));
    let attributes = [("num_segments", count.into())];
    vec![call(move |x| x[0].session().op(&name, [&x[0], &ids], attributes.clone()))]
}

fn einsum(equation: &'static str) -> Vec<Program> {
    vec![call(move |x| x[0].session().op("einsum", x, [("equation", equation.into())]))]
}

fn sliding(stride: i64, dilation: i64, padding: &'static str) -> Vec<(&'static str, Attribute)> {
    vec![
        ("strides", [stride, stride].into()),
        ("dilations", [dilation, dilation].into()),
        ("padding", padding.into()),
    ]
}

fn convolution(stride: i64, dilation: i64, padding: &'static str) -> Vec<Program> {
    vec![call(move |x| x[0].session().op("convolution", x, sliding(stride, dilation, padding)))]
}

fn pool(op: &'static str, window: i64, padding: &'static str) -> Vec<Program> {
    vec![call(move |x| {
        let mut attributes = sliding(2, 1, padding);
        attributes.push(("ksize", [window, window].into()));
        x[0].session().op(op, x, attributes)
    })]
}

/// A program for each tuple of so many numbers below a bound.
fn tuples(below: i64, length: u32, program: impl Fn(Vec<i64>) -> Program) -> Vec<Program> {
    let digits = |n: i64| (0..length).map(move |place| n / below.pow(place) % below).collect();
    (0..below.pow(length)).map(|n| program(digits(n))).collect()
}
