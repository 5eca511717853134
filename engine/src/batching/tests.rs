//! Ring 1 for stacks: generated from the op table, as in `table_tests`; no test names an op.

use super::Batcher;
use crate::{
    array::Tensor,
    aval::{Aval, Shape},
    dtype::DType,
    graph::{Graph, Operand, Program, ValueId},
    ledger::Ledger,
    op::{OpDef, Sample},
    session::Session,
    table_tests::{attrs, dtype_of, each_sample, fill, numbers, tensor},
};

const ROWS: usize = 3;

/// Operands of the one-row program are numbered from here, so that the test's own values are not mistaken for them.
const FIRST: u64 = 1 << 32;

/// The program of one application, and the slots of its inputs and outputs.
fn program(
    op: &'static OpDef,
    sample: &Sample,
    avals: &[Aval],
) -> (Program, Vec<usize>, Vec<usize>) {
    let graph = Graph::default();
    let (inputs, outputs) = {
        let id = |i: usize| ValueId(FIRST + i as u64);
        let operand = |(i, aval): (usize, &Aval)| {
            graph.operand(aval.clone(), Operand { id: id(i), tensor: None })
        };
        let inputs: Vec<_> = avals.iter().enumerate().map(operand).collect();
        let outputs = graph.apply(op, attrs(op, sample), &inputs).unwrap();
        let slots = |vars: &[crate::graph::Var]| vars.iter().map(|var| var.slot()).collect();
        (slots(&inputs), slots(&outputs))
    };
    (graph.finish().unwrap(), inputs, outputs)
}

fn run(program: Program, wanted: &[usize]) -> Vec<Tensor> {
    let mut session = Session::new(Ledger::new("test", 1 << 30));
    session.run_silently(program, wanted).unwrap().into_iter().map(|value| value.tensor).collect()
}

/// The outputs of stacks, and those of their rows, as numbers. `stacked` says which inputs differ from row to row.
fn both_ways(
    op: &'static OpDef,
    sample: &Sample,
    stacked: &[bool],
    rows: usize,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let avals: Vec<Aval> = (0..sample.inputs.len())
        .map(|i| Aval::new(dtype_of(sample, i, DType::F64), sample.inputs[i].shape))
        .collect();
    let (one, inputs, outputs) = program(op, sample, &avals);
    let values: Vec<_> =
        (0..ROWS).map(|row| fill(sample, 1 + i64::try_from(row).unwrap())).collect();
    // What is the same for all rows stays an operand of the program, with its value.
    let mut one = one;
    for (slot, operand) in &mut one.operands {
        let i = inputs.iter().position(|input| input == slot).unwrap();
        operand.tensor = Some(tensor(avals[i].dtype, &avals[i].shape, &values[0][i]));
    }
    let differing: Vec<usize> =
        (0..inputs.len()).filter(|&i| stacked[i]).map(|i| inputs[i]).collect();
    let value = |graph: &Graph, aval: &Aval, numbers: &[f64]| {
        let tensor = Some(tensor(aval.dtype, &aval.shape, numbers));
        graph.operand(aval.clone(), Operand { id: ValueId(1), tensor }).slot()
    };
    let graph = Graph::default();
    let slots: Vec<usize> = {
        let batcher = Batcher::new(&graph, &one, &outputs, &differing).unwrap();
        let stack = |i: usize| {
            let shape: Shape =
                std::iter::once(rows).chain(avals[i].shape.iter().copied()).collect();
            let all: Vec<f64> = values[..rows].iter().flat_map(|row| row[i].clone()).collect();
            graph.var(value(&graph, &Aval { dtype: avals[i].dtype, shape }, &all))
        };
        let stacks: Vec<_> = (0..inputs.len()).filter(|&i| stacked[i]).map(stack).collect();
        batcher.stack(&stacks, rows).unwrap().iter().map(|var| var.slot()).collect()
    };
    let at_once = run(graph.finish().unwrap(), &slots);
    let mut one_by_one = vec![Vec::new(); outputs.len()];
    for row in &values[..rows] {
        let graph = Graph::default();
        let slots: Vec<usize> = {
            let batcher = Batcher::new(&graph, &one, &outputs, &differing).unwrap();
            let pick = |i: usize| graph.var(value(&graph, &avals[i], &row[i]));
            let picked: Vec<_> = (0..inputs.len()).filter(|&i| stacked[i]).map(pick).collect();
            batcher.row(&picked).unwrap().iter().map(|var| var.slot()).collect()
        };
        for (all, tensor) in one_by_one.iter_mut().zip(run(graph.finish().unwrap(), &slots)) {
            all.extend(numbers(&tensor));
        }
    }
    let avals: Vec<Aval> = at_once.iter().map(Tensor::aval).collect();
    assert!(avals.iter().all(|aval| aval.shape[0] == rows), "{}: {avals:?}", op.name);
    (at_once.iter().map(numbers).collect(), one_by_one)
}

/// Each input alone, and all of them.
fn choices(inputs: usize) -> Vec<Vec<bool>> {
    let alone = (0..inputs).map(|i| (0..inputs).map(|j| i == j).collect());
    alone.chain([vec![true; inputs]]).filter(|choice: &Vec<bool>| !choice.is_empty()).collect()
}

#[test]
fn a_stack_gives_what_its_rows_give() {
    each_sample(|op, sample| {
        for stacked in choices(sample.inputs.len()) {
            let (at_once, one_by_one) = both_ways(op, sample, &stacked, ROWS);
            for (a, b) in at_once.iter().flatten().zip(one_by_one.iter().flatten()) {
                assert!(
                    a.total_cmp(b).is_eq() || a.is_nan() && b.is_nan(),
                    "{} {stacked:?}: {a}, not {b}",
                    op.name
                );
            }
            let count = |all: &[Vec<f64>]| all.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(count(&at_once), count(&one_by_one), "{} {stacked:?}", op.name);
        }
    });
}

#[test]
fn a_stack_of_no_rows_is_empty() {
    each_sample(|op, sample| {
        for stacked in choices(sample.inputs.len()) {
            let (at_once, _) = both_ways(op, sample, &stacked, 0);
            assert!(at_once.iter().all(Vec::is_empty), "{} {stacked:?}", op.name);
        }
    });
}
