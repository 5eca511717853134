//! The kernels against the products of all queries and keys, in `float64`, over a table of shapes.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{attention::HIDDEN, rules::Scores, *};
use crate::{
    array::Tensor,
    attrs::Attrs,
    exec::{self, Recorder},
    graph::{Application, Graph, Operand, Value, ValueId},
    ledger::Ledger,
    op::Rule,
    table_tests::{numbers, tensor},
};

/// What a mask holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    /// Truth values at random.
    Truth,
    /// The same, but every second query sees nothing.
    Blind,
    /// Numbers at random.
    Numbers,
    /// Numbers so low that every second query sees nothing.
    Low,
    /// That nothing is hidden.
    Zero,
    True,
}

/// Shapes of queries, keys, values and mask, what the mask holds, whether attention is causal, and the layout.
struct Case(
    &'static [usize],
    &'static [usize],
    &'static [usize],
    &'static [usize],
    Holds,
    bool,
    &'static str,
);

use Holds::{Blind, Low, Numbers, True, Truth, Zero};

#[rustfmt::skip]
const CASES: &[Case] = &[
    // One query, one key, one of everything.
    Case(&[1, 5], &[7, 5], &[7, 3], &[], Zero, false, "BNTH"),
    Case(&[7, 5], &[1, 5], &[1, 3], &[], True, true, "BNTH"),
    Case(&[1, 1], &[1, 1], &[1, 1], &[1, 1], Truth, true, "BNTH"),
    // Lengths that are no multiples of blocks, panels and tiles.
    Case(&[2, 3, 67, 19], &[2, 3, 83, 19], &[2, 3, 83, 33], &[], Zero, false, "BNTH"),
    Case(&[2, 67, 3, 19], &[2, 83, 3, 19], &[2, 83, 3, 33], &[], Zero, false, "BTNH"),
    Case(&[3, 64, 16], &[3, 64, 16], &[3, 64, 16], &[], True, true, "BNTH"),
    Case(&[2, 64, 3, 16], &[2, 64, 3, 16], &[2, 64, 3, 16], &[], True, true, "BTNH"),
    // Several blocks, and sums longer than a block of terms.
    Case(&[2, 130, 40], &[2, 700, 40], &[2, 700, 40], &[], Zero, false, "BNTH"),
    Case(&[20, 300], &[600, 300], &[600, 20], &[], Zero, true, "BNTH"),
    Case(&[700, 1, 8], &[700, 1, 8], &[700, 1, 8], &[], Zero, true, "BTNH"),
    // Fewer keys than queries, and more.
    Case(&[150, 8], &[20, 8], &[20, 8], &[], Zero, true, "BNTH"),
    Case(&[150, 2, 8], &[20, 2, 8], &[20, 2, 8], &[2, 150, 20], Numbers, true, "BTNH"),
    Case(&[20, 8], &[150, 8], &[150, 8], &[20, 150], Truth, true, "BNTH"),
    // Batches and heads that broadcast, each on its own.
    Case(&[2, 1, 5, 4], &[3, 6, 4], &[2, 3, 6, 4], &[2, 1, 5, 6], Truth, false, "BNTH"),
    Case(&[5, 4], &[6, 4], &[4, 6, 4], &[], Zero, true, "BNTH"),
    Case(&[2, 5, 4, 4], &[6, 1, 4], &[1, 6, 4, 4], &[4, 1, 6], Numbers, false, "BTNH"),
    Case(&[5, 1, 4], &[3, 6, 2, 4], &[6, 1, 4], &[3, 1, 1, 6], Truth, true, "BTNH"),
    // Masks of each shape.
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[70, 1], Truth, false, "BNTH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[70, 1], Numbers, true, "BNTH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[80], Truth, true, "BNTH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[2, 1, 1], Numbers, false, "BNTH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[], Numbers, true, "BNTH"),
    // Queries that see nothing.
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[70, 80], Blind, false, "BNTH"),
    Case(&[70, 2, 8], &[80, 2, 8], &[80, 2, 8], &[2, 70, 80], Blind, true, "BTNH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[70, 1], Blind, true, "BNTH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[70, 80], Low, false, "BNTH"),
    Case(&[2, 70, 8], &[2, 80, 8], &[2, 80, 8], &[70, 1], Low, true, "BNTH"),
    // Nothing of one kind.
    Case(&[0, 8], &[5, 8], &[5, 8], &[], Zero, false, "BNTH"),
    Case(&[3, 0, 8], &[3, 5, 8], &[3, 5, 4], &[0, 5], Truth, true, "BNTH"),
    Case(&[4, 2, 8], &[0, 2, 8], &[0, 2, 8], &[], Zero, true, "BTNH"),
    Case(&[4, 2, 0], &[5, 2, 0], &[5, 2, 3], &[], Zero, false, "BTNH"),
    Case(&[4, 2, 3], &[5, 2, 3], &[5, 2, 0], &[], Zero, false, "BTNH"),
    Case(&[0, 4, 2, 3], &[0, 5, 2, 3], &[0, 5, 2, 3], &[], Zero, false, "BTNH"),
];

impl Case {
    fn attrs(&self) -> Attrs {
        let Self(.., causal, layout) = self;
        Attention { scale: 0.0, causal: *causal, qkv_layout: (*layout).to_owned() }.write()
    }

    /// Queries, keys, values and mask.
    fn inputs(&self, dtype: DType) -> Vec<Tensor> {
        let Self(query, key, value, mask, holds, ..) = self;
        let mut state = 1;
        let mut inputs: Vec<Tensor> = [query, key, value]
            .into_iter()
            .map(|shape| tensor(dtype, shape, &random(shape, &mut state)))
            .collect();
        let keys = if mask.len() < 2 { 1 } else { mask[mask.len() - 1] };
        let lines = random(mask, &mut state).into_iter().enumerate();
        let elements: Vec<f64> = lines
            .map(|(i, x)| match holds {
                Truth => f64::from(u8::from(x > 0.0)),
                Blind => f64::from(u8::from(x > 0.0 && i / keys % 2 == 0)),
                Numbers => x,
                Low => {
                    if i / keys % 2 == 0 {
                        x
                    } else {
                        HIDDEN
                    }
                }
                Zero => 0.0,
                True => 1.0,
            })
            .collect();
        let is_truth = matches!(holds, Truth | Blind | True);
        inputs.push(tensor(if is_truth { DType::Bool } else { dtype }, mask, &elements));
        inputs
    }

    /// Dtypes that hold what the mask holds.
    fn dtypes(&self) -> &'static [(DType, f64)] {
        let all =
            &[(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, 2e-2), (DType::F16, 2e-3)];
        // In few digits the number that hides is another one than that of what is later.
        match self {
            Self(.., Low, true, _) => &all[..1],
            Self(.., Low, false, _) => &all[..3],
            _ => all,
        }
    }
}

/// Hears everything, so that a program runs op by op.
struct OpByOp;

impl Recorder for OpByOp {
    fn ran(&mut self, _: &Application, _: &[&Value], outputs: &[Tensor]) -> SmallVec<[ValueId; 1]> {
        outputs.iter().map(|_| ValueId(0)).collect()
    }
}

/// Numbers from -2 to 2.
fn random(shape: &[usize], state: &mut u32) -> Vec<f64> {
    let number = |_| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(*state >> 16) / 16384.0 - 2.0
    };
    (0..shape.iter().product()).map(number).collect()
}

/// The means and, if something flows into them, the gradients, from the weights of all queries at once.
fn composed(attrs: &Attrs, inputs: &[Tensor], ledger: &Arc<Ledger>) -> Vec<Vec<f64>> {
    let graph = Graph::default();
    let wanted: Vec<usize> = {
        let operand = |(i, x): (usize, &Tensor)| {
            let id = ValueId(i as u64 + 1);
            graph.operand(x.aval(), Operand { id, tensor: Some(x.clone()) })
        };
        let x: crate::op::Vars = inputs.iter().enumerate().map(operand).collect();
        let rule = Rule { attrs, needs: x.iter().map(|_| true).collect(), x, y: smallvec![] };
        let wanted = if inputs.len() == 4 {
            vec![Scores::of(&rule).means()]
        } else {
            rules::gradients_composed(&rule).to_vec()
        };
        wanted.into_iter().map(crate::graph::Var::slot).collect()
    };
    let program = graph.finish().unwrap();
    let values = exec::run_program(ledger, program, &wanted, &mut OpByOp).unwrap();
    values.iter().map(|value| numbers(&value.tensor)).collect()
}

/// The same by an op.
fn computed(
    op: &'static OpDef,
    attrs: &Attrs,
    inputs: &[Tensor],
    ledger: &Arc<Ledger>,
) -> Vec<(Shape, Vec<f64>)> {
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let outputs = exec::run(ledger, op, attrs, &inputs).unwrap();
    outputs.iter().map(|y| (y.aval().shape, numbers(y))).collect()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let fits = (found - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(fits, "{what}: {found} instead of {expected}");
    }
}

#[test]
fn the_kernels_give_what_the_weights_of_all_queries_give() {
    let ledger = Ledger::new("test", 1 << 30);
    for (i, case) in CASES.iter().enumerate() {
        let attrs = case.attrs();
        for &(dtype, tolerance) in case.dtypes() {
            let mut inputs = case.inputs(dtype);
            let wide = |x: &Tensor| {
                let dtype = if x.dtype() == DType::Bool { DType::Bool } else { DType::F64 };
                tensor(dtype, &x.aval().shape, &numbers(x))
            };
            let exact = |inputs: &[Tensor]| {
                let inputs: Vec<Tensor> = inputs.iter().map(wide).collect();
                composed(&attrs, &inputs, &ledger)
            };
            let means = computed(&SCALED_DOT_PRODUCT_ATTENTION, &attrs, &inputs, &ledger);
            let what = format!("case {i} in {dtype}");
            assert_close(&means[0].1, &exact(&inputs)[0], tolerance, &what);
            let (shape, mut state) = (&means[0].0, 99);
            inputs.push(tensor(dtype, shape, &random(shape, &mut state)));
            let op = &SCALED_DOT_PRODUCT_ATTENTION_GRADIENT;
            let gradients = computed(op, &attrs, &inputs, &ledger);
            let names = ["queries", "keys", "values"].into_iter();
            for ((of, (_, found)), expected) in names.zip(gradients).zip(exact(&inputs)) {
                assert_close(&found, &expected, 4.0 * tolerance, &format!("{of} of {what}"));
            }
        }
    }
}
