//! A plan gives the bits of its program run op by op: for every op of the table, and for random programs of them.

mod reductions;

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use smallvec::{SmallVec, smallvec};

use super::{Passes, Plan, frame::Frame};
use crate::{
    array::{Array, Tensor, left, offering},
    attrs::Attrs,
    aval::{Aval, Shape},
    dtype::DType,
    error::Error,
    exec::{self, Recorder},
    graph::{Application, Graph, Operand, Program, Value, ValueId, Var},
    ledger::Ledger,
    op::{Kernel, OpDef, Sample},
    ops::{self, Reduce},
    table_tests::{Values, attrs, dtype_of, fill, tensor},
};

/// Hears everything, so that a program runs op by op.
struct OpByOp;

impl Recorder for OpByOp {
    fn ran(&mut self, _: &Application, _: &[&Value], outputs: &[Tensor]) -> SmallVec<[ValueId; 1]> {
        outputs.iter().map(|_| ValueId(0)).collect()
    }
}

fn ledger() -> Arc<Ledger> {
    Ledger::new("test", 1 << 30)
}

fn operand<'g>(graph: &'g Graph, tensor: &Tensor) -> Var<'g> {
    graph.operand(tensor.aval(), Operand { id: ValueId(0), tensor: Some(tensor.clone()) })
}

/// The bits of a tensor; every NaN has the same ones, since which it is may depend on the order that the compiler chose.
fn bits(tensor: &Tensor) -> Vec<u64> {
    match tensor.array() {
        Array::F32(a) => {
            a.iter().map(|x| if x.is_nan() { u64::MAX } else { u64::from(x.to_bits()) }).collect()
        }
        Array::F64(a) => {
            a.iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect()
        }
        other @ (Array::I32(_)
        | Array::I64(_)
        | Array::Bool(_)
        | Array::F16(_)
        | Array::BF16(_)) => {
            other.as_bytes().unwrap().iter().map(|&byte| u64::from(byte)).collect()
        }
    }
}

/// Every set of passes.
fn each_passes() -> impl Iterator<Item = Passes> {
    (0..16).map(|i| Passes {
        common: i & 1 != 0,
        constants: i & 2 != 0,
        algebra: i & 4 != 0,
        fusion: i & 8 != 0,
    })
}

/// A copy of a program, since running it takes it.
fn copied(program: &Program) -> Program {
    Program {
        avals: program.avals.clone(),
        operands: program.operands.clone(),
        applications: program.applications.clone(),
    }
}

/// Runs a program op by op and as a plan with each set of passes.
fn check(name: &str, program: &Program, wanted: &[usize]) {
    let ledger = ledger();
    let expected = exec::run_program(&ledger, copied(program), wanted, &mut OpByOp);
    for passes in each_passes() {
        let plan = Plan::compile(&ledger, program, wanted, passes).unwrap();
        // In no more memory than is said: what is kept for later values must not take that of others.
        let results = plan.run(&Ledger::new("peak", plan.peak()), []);
        let open = Plan::compile(&ledger, &without_elements(program), wanted, passes).unwrap();
        for (plan, fed) in [(&plan, false), (&open, false), (&open, true)] {
            let again = in_a_frame(&ledger, plan, program, fed);
            assert_eq!(again.is_ok(), results.is_ok(), "{name}, {passes:?}: {again:?}\n{plan}");
            for (again, result) in again.iter().flatten().zip(results.iter().flatten()) {
                assert_eq!(again.aval(), result.aval(), "{name}, {passes:?}\n{plan}");
                let same = bits(again) == bits(result);
                assert!(same, "{name} differs in a frame, {passes:?}, {fed}\n{plan}");
            }
        }
        match (&expected, results) {
            (Ok(expected), Ok(results)) => {
                for (expected, result) in expected.iter().zip(&results) {
                    assert_eq!(expected.tensor.aval(), result.aval(), "{name}, {passes:?}\n{plan}");
                    assert!(
                        bits(&expected.tensor) == bits(result),
                        "{name} has other bits with {passes:?}\n{plan}"
                    );
                }
            }
            (Err(_), Err(_)) => {}
            (expected, result) => panic!("{name}, {passes:?}: {expected:?}, {result:?}\n{plan}"),
        }
    }
    drop(expected);
    assert_eq!(ledger.used(), 0, "{name} keeps memory");
}

/// The same program, whose operands are inputs.
fn without_elements(program: &Program) -> Program {
    let mut open = copied(program);
    open.operands.iter_mut().for_each(|(_, operand)| operand.tensor = None);
    open
}

/// The results of the second run in a frame. If the plan has inputs, they are set once, or before each run.
fn in_a_frame(
    ledger: &Arc<Ledger>,
    plan: &Plan,
    program: &Program,
    fed: bool,
) -> Result<Vec<Tensor>, Error> {
    let inputs = if fed { plan.inputs() } else { &[] };
    let mut frame = Frame::new(plan, ledger, &[], inputs, &[])?.unwrap();
    for round in 0..2 {
        for (slot, operand) in program.operands.iter().filter(|_| fed || round == 0) {
            if plan.inputs().contains(slot) {
                frame.set(plan, *slot, operand.tensor.as_ref().unwrap())?;
            }
        }
        frame.run(plan, ledger)?;
    }
    (0..plan.wanted.len()).map(|i| frame.result(plan, ledger, i)).collect()
}

/// What a run leaves is what the next one begins with, be it by changing places or by copies.
#[test]
fn a_frame_carries_results_into_inputs() {
    let ledger = ledger();
    for count in [10, 3000] {
        let graph = Graph::default();
        let aval = Aval::new(DType::F32, [count]);
        let input =
            |aval: &Aval| graph.operand(aval.clone(), Operand { id: ValueId(0), tensor: None });
        let (w, b, x) = (input(&aval), input(&Aval::scalar(DType::F32)), input(&aval));
        let all = Reduce { axis: smallvec![], keepdims: false }.write();
        let mean = (w * x + b).op(&ops::REDUCE_MEAN, all, &[]);
        let error = (w * x + b - mean).map(&ops::TANH);
        let moved = w - error * 0.1;
        let sum = error.sum_to(&Shape::scalar());
        // The same value twice, one that changes places, and one that is an input.
        let wanted = [moved, b - sum * 0.01, error, error, x].map(super::super::graph::Var::slot);
        let inputs = [w, b, x].map(super::super::graph::Var::slot);
        let program = graph.finish().unwrap();
        let plan = Plan::compile(&ledger, &program, &wanted, Passes::ALL).unwrap();
        let numbers = |n: usize, scale: f32| {
            let mut next = 0.0;
            let numbers = (0..n).map(|_| {
                next = (next + 0.37) % 1.0;
                next * scale - 0.4
            });
            numbers.collect::<Vec<f32>>()
        };
        let tensor = |shape: &Shape, scale| {
            Tensor::unpaid(Array::new(shape, numbers(shape.elements(), scale)).unwrap())
        };
        let mut values =
            [tensor(&aval.shape, 1.0), tensor(&Shape::scalar(), 2.0), tensor(&aval.shape, 3.0)];
        let mut frame =
            Frame::new(&plan, &ledger, &[(0, inputs[0]), (1, inputs[1])], &inputs[2..], &[])
                .unwrap()
                .unwrap();
        for (&slot, value) in inputs.iter().zip(&values) {
            frame.set(&plan, slot, value).unwrap();
        }
        for round in 0..5 {
            if round == 3 {
                values[2] = tensor(&aval.shape, -1.0);
                frame.set(&plan, inputs[2], &values[2]).unwrap();
            }
            let given = inputs.iter().copied().zip(values.iter().cloned());
            let expected = plan.run(&ledger, given).unwrap();
            frame.run(&plan, &ledger).unwrap();
            for (i, expected) in expected.iter().enumerate() {
                let result = frame.result(&plan, &ledger, i).unwrap();
                assert!(bits(&result) == bits(expected), "result {i} of {count}, round {round}");
            }
            values[..2].clone_from_slice(&expected[..2]);
        }
        drop((frame, plan, values));
        assert_eq!(ledger.used(), 0);
    }
}

/// Two values that change places cannot be carried in place.
#[test]
fn a_frame_is_refused_where_inputs_change_places() {
    let ledger = ledger();
    let graph = Graph::default();
    let input =
        || graph.operand(Aval::scalar(DType::F32), Operand { id: ValueId(0), tensor: None });
    let (a, b) = (input(), input());
    let wanted = [b.slot(), a.slot()];
    let carried = [(0, a.slot()), (1, b.slot())];
    let program = graph.finish().unwrap();
    let plan = Plan::compile(&ledger, &program, &wanted, Passes::ALL).unwrap();
    assert!(Frame::new(&plan, &ledger, &carried, &[], &[]).unwrap().is_none());
}

/// Applies an op to a sample, and computes more from its outputs; nothing, if the sample does not fit the dtype.
fn apply_sample(
    graph: &Graph,
    op: &'static OpDef,
    sample: &Sample,
    dtype: DType,
    values: &Values,
) -> Option<Vec<usize>> {
    let inputs: Vec<Var> = (0..sample.inputs.len())
        .map(|i| {
            let dtype = dtype_of(sample, i, dtype);
            operand(graph, &tensor(dtype, sample.inputs[i].shape, &values[i]))
        })
        .collect();
    let outputs = graph.apply(op, attrs(op, sample), &inputs).ok()?;
    let mut wanted: Vec<usize> = outputs.iter().map(|y| y.slot()).collect();
    for &y in outputs.iter().filter(|y| y.dtype().is_float()) {
        let more = y * 1.0 - (y + y) / 3.0;
        wanted.push((more * more).sum_to(&Shape::scalar()).slot());
        wanted.push(more.slot());
    }
    Some(wanted)
}

#[test]
fn every_sample_gives_the_same_bits() {
    for op in ops::ALL.iter().copied() {
        for sample in op.samples {
            let values = fill(sample, 1);
            for dtype in op.dtypes.iter() {
                let graph = Graph::default();
                let Some(wanted) = apply_sample(&graph, op, sample, dtype, &values) else {
                    continue;
                };
                check(op.name, &graph.finish().unwrap(), &wanted);
            }
        }
    }
}

/// What kernels leave alone of the memory that they are offered would be another result from run to run.
#[test]
fn kernels_overwrite_what_they_are_offered() {
    let ledger = ledger();
    let mut taken = 0;
    for op in ops::ALL.iter().copied() {
        if !matches!(op.kernel, Kernel::Run(_) | Kernel::Fold(..) | Kernel::Elementwise(_)) {
            continue;
        }
        for (sample, dtype) in op.samples.iter().flat_map(|s| op.dtypes.iter().map(move |d| (s, d)))
        {
            let values = fill(sample, 1);
            let input =
                |i: usize| tensor(dtype_of(sample, i, dtype), sample.inputs[i].shape, &values[i]);
            let inputs: Vec<Tensor> = (0..sample.inputs.len()).map(input).collect();
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let run = || exec::run(&ledger, op, &attrs(op, sample), &inputs);
            let Ok(expected) = run() else { continue };
            let other = |y: &Tensor| {
                let Aval { dtype, shape } = y.aval();
                let dtype = if dtype.is_half() { DType::F32 } else { dtype };
                tensor(dtype, &shape, &vec![1e6; shape.elements()]).array().clone()
            };
            let offered: Vec<Array> = expected.iter().map(other).collect();
            let count = offered.len();
            let (results, left) = offering(offered, || (run().unwrap(), left()));
            taken += count - left;
            for (expected, result) in expected.iter().zip(&results) {
                assert!(bits(expected) == bits(result), "{} leaves elements alone", op.name);
            }
        }
    }
    assert!(taken > 20, "only {taken} results are in memory that was offered");
}

#[test]
fn an_alias_of_an_alias_keeps_its_shape() {
    let graph = Graph::default();
    let wanted = {
        let outside = operand(&graph, &tensor(DType::F32, &[1], &[2.0]));
        let known = outside.scalar(2.0);
        let shapes: [Shape; 2] = [[1, 1].into(), [1, 1, 1].into()];
        let twice = |x: Var<'_>, shape| x.reshape(shape).map(&ops::IDENTITY).slot();
        [outside, known].map(|x| shapes.each_ref().map(|shape| twice(x, shape))).concat()
    };
    check("aliases", &graph.finish().unwrap(), &wanted);
}

/// The ops that need no attributes.
fn pool() -> Vec<&'static OpDef> {
    let plain = |op: &&OpDef| {
        !op.variadic && op.inputs.len() <= 3 && Attrs::check(op.attrs, vec![]).is_ok()
    };
    ops::ALL.iter().copied().filter(plain).collect()
}

/// More elements than a block of a chain, and not a multiple of it.
const WIDE: &[usize] = &[3, 700];

fn begin(graph: &Graph) -> Vec<Var<'_>> {
    let values = |shape: &[usize], low: f64| -> Vec<f64> {
        let numbers = (0_u32..).take(shape.iter().product());
        numbers.map(|i| low + f64::from(i * 7919 % 1000) / 400.0).collect()
    };
    let mut vars = Vec::new();
    for (shape, dtype) in [
        (WIDE, DType::F32),
        (WIDE, DType::F32),
        (&[700][..], DType::F32),
        (&[3, 1], DType::F32),
        (&[], DType::F32),
        (WIDE, DType::Bool),
        (&[3, 1], DType::I64),
        (&[700], DType::F64),
        (&[2, 3], DType::BF16),
    ] {
        let low = [-1.0, 0.5][vars.len() % 2];
        vars.push(operand(graph, &tensor(dtype, shape, &values(shape, low))));
    }
    vars
}

/// Writes what the genes say: each names an op or something else to do, and what to do it with.
fn express<'g>(graph: &'g Graph, genes: &[(u16, u16, u16, u16)]) -> Vec<Var<'g>> {
    let (pool, mut vars) = (pool(), begin(graph));
    for &(what, a, b, c) in genes {
        let [x, y, z] = [a, b, c].map(|i| vars[usize::from(i) % vars.len()]);
        let what = usize::from(what) % (pool.len() + 360);
        let outputs = match what.checked_sub(pool.len()) {
            None => {
                let op = pool[what];
                let attrs = Attrs::check(op.attrs, vec![]).unwrap();
                graph.apply(op, attrs, &[x, y, z][..op.inputs.len()])
            }
            Some(0..120) => {
                let op = [&ops::ADD, &ops::MULTIPLY, &ops::SUBTRACT, &ops::DIVIDE][what % 4];
                graph.apply(op, Attrs::default(), &[x, y])
            }
            Some(120..200) => {
                let value = [0.0, 1.0, -0.0, 2.5][usize::from(b) % 4];
                Ok(smallvec![x.full_like(value)])
            }
            Some(200..240) => match x.shape().broadcast(&y.shape()) {
                Some(shape) => Ok(smallvec![x.broadcast_to(&shape)]),
                None => continue,
            },
            Some(240..300) => {
                let axes: Vec<usize> = (0..x.shape().len()).skip(usize::from(b) % 2).collect();
                if x.dtype() == DType::Bool {
                    continue;
                }
                Ok(smallvec![x.sum_keep(&axes)])
            }
            Some(_) => Ok(smallvec![x.cast(DType::ALL[usize::from(b) % 5])]),
        };
        // What does not fit is left out, and so is what would take long.
        vars.extend(outputs.into_iter().flatten().filter(|y| y.shape().elements() <= 4_200));
    }
    vars
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_give_the_same_bits(
        genes in vec(any::<(u16, u16, u16, u16)>(), 1..60),
        picks in vec(any::<u16>(), 1..5),
    ) {
        let graph = Graph::default();
        let wanted: Vec<usize> = {
            let vars = express(&graph, &genes);
            let picked = picks.iter().map(|&pick| vars[usize::from(pick) % vars.len()]);
            picked.chain(vars.last().copied()).map(Var::slot).collect()
        };
        check("the program", &graph.finish().unwrap(), &wanted);
    }
}

/// tanh(x * 2 + row), and the sum of it.
fn small_program() -> (Program, Vec<usize>, [usize; 2]) {
    let graph = Graph::default();
    let [x, row] = [WIDE, &[700]].map(|shape| graph.parameter(Aval::new(DType::F32, shape)));
    let y = (x * 2.0 + row).map(&ops::TANH);
    let wanted = vec![y.slot(), y.sum_to(&Shape::scalar()).slot()];
    let inputs = [x.slot(), row.slot()];
    (graph.finish().unwrap(), wanted, inputs)
}

#[test]
fn a_plan_runs_again_with_other_inputs() {
    let (program, wanted, slots) = small_program();
    let ledger = ledger();
    let plan = Plan::compile(&ledger, &program, &wanted, Passes::ALL).unwrap();
    assert_eq!(plan.inputs(), slots);
    for value in [0.5, -1.25] {
        let given = [(WIDE, slots[0]), (&[700], slots[1])].map(|(shape, slot)| {
            let count = shape.iter().product::<usize>();
            (slot, tensor(DType::F32, shape, &vec![value; count]))
        });
        let results = plan.run(&ledger, given).unwrap();
        let expected = libm::tanh(value * 3.0);
        let y = results[0].array().elements::<f32>().unwrap();
        assert!(y.iter().all(|&y| (f64::from(y) - expected).abs() < 1e-6), "{value}");
    }
    let wrong = tensor(DType::F32, &[3], &[0.0; 3]);
    assert!(plan.run(&ledger, [(slots[0], wrong)]).is_err(), "the shape is another");
    assert!(plan.run(&ledger, []).is_err(), "the inputs are missing");
    drop(plan);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn elementwise_ops_become_one_step_and_each_step_is_a_line() {
    let (program, wanted, _) = small_program();
    let ledger = ledger();
    let steps = |passes| {
        let plan = Plan::compile(&ledger, &program, &wanted, passes).unwrap();
        assert_eq!(plan.to_string().lines().count(), plan.len() + 1, "{plan}");
        plan.len()
    };
    // Multiplication, addition and the hyperbolic tangent in one; the sum.
    let reshape = 1;
    assert_eq!(steps(Passes::ALL), 2 + reshape);
    // And the constant.
    assert_eq!(steps(Passes::NONE), 5 + reshape);
}

#[test]
fn a_plan_runs_within_its_peak_and_not_below() {
    let (program, wanted, slots) = small_program();
    let given = || {
        [(WIDE, slots[0]), (&[700][..], slots[1])].map(|(shape, slot)| {
            (slot, tensor(DType::F32, shape, &vec![1.0; shape.iter().product()]))
        })
    };
    let ample = ledger();
    let plan = Plan::compile(&ample, &program, &wanted, Passes::ALL).unwrap();
    let constants = ample.used();
    let enough = Ledger::new("test", plan.peak());
    let results = plan.run(&enough, given()).unwrap();
    assert_eq!(enough.used(), results.iter().map(|y| y.aval().bytes()).sum::<u64>());
    let scarce = Ledger::new("test", plan.peak() - 1);
    let refused = plan.run(&scarce, given());
    assert!(matches!(refused, Err(Error::MemoryLimit { .. })));
    assert_eq!(scarce.used(), 0);
    drop(plan);
    assert!(constants > 0 && ample.used() == 0, "constants are paid for while the plan lives");
}

/// Recursion would overflow the two mebibytes of a test's stack.
#[test]
fn a_chain_of_a_hundred_thousand_ops_is_planned() {
    let graph = Graph::default();
    let x = graph.parameter(Aval::scalar(DType::F64));
    let y = (0..100_000).fold(x, |y, _| y + x);
    let (slots, wanted) = (x.slot(), [y.slot()]);
    let plan = Plan::compile(&ledger(), &graph.finish().unwrap(), &wanted, Passes::ALL).unwrap();
    let results = plan.run(&ledger(), [(slots, tensor(DType::F64, &[], &[1.0]))]).unwrap();
    assert_eq!(results[0].array().elements::<f64>().unwrap(), [100_001.0]);
}

#[test]
fn zeros_of_different_sign_are_different_constants() {
    let graph = Graph::default();
    let (plus, minus) = (graph.scalar(DType::F32, 0.0), graph.scalar(DType::F32, -0.0));
    let wanted = [plus.map(&ops::RECIPROCAL).slot(), minus.map(&ops::RECIPROCAL).slot()];
    check("zeros", &graph.finish().unwrap(), &wanted);
}
