//! Chains that end in reductions: the bits of the ops one by one, in one step, and without what only they read.

use super::{Passes, Plan, bits, ledger, tensor};
use crate::{
    array::Tensor,
    aval::{Aval, Shape},
    compute::{Cancel, Context, Crew},
    dtype::DType,
    graph::{Graph, Program, Var},
    ledger::Ledger,
    op::OpDef,
    ops::{self, Reduce},
};

/// A chain of an input of the full shape and of others that broadcast to it.
type Links = for<'g> fn([Var<'g>; 3]) -> Var<'g>;

const CHAINS: [(&str, Links); 4] = [
    ("square", |[x, ..]| x.map(&ops::SQUARE)),
    ("x * row", |[x, row, _]| x * row),
    ("column - x * x", |[x, _, column]| column - x * x),
    ("(x + row) * (x - column) + x", |[x, row, column]| (x + row) * (x - column) + x),
];

const FOLDS: [&OpDef; 5] =
    [&ops::REDUCE_SUM, &ops::REDUCE_MEAN, &ops::REDUCE_PROD, &ops::REDUCE_MAX, &ops::REDUCE_MIN];

/// Rows that are shorter than sixteen, that fit into a block and not, that are longer than one and no multiple of anything;
/// what is cut into slabs, and matrices enough for all cores.
const SHAPES: [&[usize]; 9] = [
    &[2048],
    &[1031],
    &[205, 7],
    &[3, 700],
    &[5, 1500],
    &[2, 1, 1024],
    &[37, 4, 19],
    &[70, 2003],
    &[60, 11, 300],
];

/// Each group of axes that are neighbours.
fn neighbours(rank: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..rank).flat_map(move |first| (first + 1..=rank).map(move |end| (first..end).collect()))
}

fn numbers(dtype: DType, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    let number = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 19) / 2000.0 - 1.7;
    let numbers: Vec<f64> = (0..).map(number).take(count).collect();
    tensor(dtype, shape, &numbers)
}

/// A program with inputs, and what it is given.
struct Case {
    program: Program,
    wanted: Vec<usize>,
    given: Vec<(usize, Tensor)>,
}

impl Case {
    /// What `write` computes of an input of this shape, of a row of it and of a column.
    fn new(
        dtype: DType,
        shape: &[usize],
        write: impl for<'g> Fn([Var<'g>; 3]) -> Vec<Var<'g>>,
    ) -> Self {
        let last = shape.last().copied().unwrap_or(1);
        let mut column = shape.to_vec();
        column.last_mut().into_iter().for_each(|extent| *extent = 1);
        let graph = Graph::default();
        let shapes = [shape, &[last], &column];
        let vars = shapes.map(|shape| graph.parameter(Aval::new(dtype, shape)));
        let wanted = write(vars).into_iter().map(Var::slot).collect();
        let given = vars.iter().zip(shapes);
        let given = given.map(|(var, shape)| (var.slot(), numbers(dtype, shape))).collect();
        Self { program: graph.finish().unwrap(), wanted, given }
    }

    fn plan(&self, passes: Passes) -> Plan {
        Plan::compile(&ledger(), &self.program, &self.wanted, passes).unwrap()
    }

    fn run(&self, plan: &Plan) -> Vec<Vec<u64>> {
        // In no more memory than is said.
        let results = plan.run(&Ledger::new("peak", plan.peak()), self.given.iter().cloned());
        results.unwrap().iter().map(bits).collect()
    }

    /// Runs it op by op, and as a plan alone and with helpers. Gives the plan.
    fn check(&self, name: &str) -> Plan {
        let expected = self.run(&self.plan(Passes::NONE));
        let plan = self.plan(Passes::ALL);
        assert!(self.run(&plan) == expected, "{name}, alone\n{plan}");
        for cores in [2, 3] {
            let crew = Crew::new(cores).unwrap();
            let context = Context { crew, cancel: Cancel::default(), turns: None };
            for _ in 0..2 {
                let helped = context.enter(|| self.run(&plan));
                assert!(helped == expected, "{name}, with {cores} cores\n{plan}");
            }
        }
        plan
    }
}

fn reduce<'g>(x: Var<'g>, op: &'static OpDef, axes: &[usize]) -> Var<'g> {
    x.op(op, Reduce { axis: Shape::from(axes).to_i64(), keepdims: false }.write(), &[])
}

/// Names of the ops of each step but those that only reshape.
fn steps(plan: &Plan) -> Vec<Vec<&'static str>> {
    plan.explain().map(|step| step.ops).filter(|ops| *ops != ["reshape"]).collect()
}

#[test]
fn every_reduction_gives_the_same_bits_and_is_in_the_step_of_its_chain() {
    for shape in SHAPES {
        for (i, axes) in neighbours(shape.len()).enumerate() {
            for (j, (links, chain)) in CHAINS.into_iter().enumerate() {
                // Each fold and dtype meets each chain, but not in each shape.
                let op = FOLDS[(i + j) % FOLDS.len()];
                for dtype in [DType::F32, DType::F64, DType::I32, DType::I64] {
                    if !op.dtypes.contains(dtype) {
                        continue;
                    }
                    let case = Case::new(dtype, shape, |vars| vec![reduce(chain(vars), op, &axes)]);
                    let name = format!("{} {axes:?} of {links}, {dtype} {shape:?}", op.name);
                    let plan = case.check(&name);
                    let [step] = &steps(&plan)[..] else { panic!("{name}\n{plan}") };
                    assert_eq!(step.last(), Some(&op.name), "{name}\n{plan}");
                }
            }
        }
    }
}

#[test]
fn truth_is_reduced_in_the_step_that_compares() {
    for op in [&ops::REDUCE_ALL, &ops::REDUCE_ANY] {
        for axes in [&[0][..], &[1], &[0, 1]] {
            let case = Case::new(DType::F32, &[50, 101], |[x, row, _]| {
                vec![reduce(x.zip(&ops::LESS, row), op, axes)]
            });
            assert_eq!(steps(&case.check(op.name)), [["less", op.name]]);
        }
    }
}

/// Folds of one chain with the same axes are together, also where something else of the chain is written.
#[test]
fn a_chain_is_reduced_twice_and_read() {
    for shape in [&[300, 37][..], &[60, 5, 300], &[700, 1100]] {
        for axes in neighbours(shape.len()) {
            let case = Case::new(DType::F32, shape, |[x, row, column]| {
                let (y, z) = (x * row, x - column);
                let sums = [y, y * z].map(|y| reduce(y, &ops::REDUCE_SUM, &axes));
                vec![sums[0], sums[1], z]
            });
            let name = format!("{axes:?} of {shape:?}");
            let plan = case.check(&name);
            let [step] = &steps(&plan)[..] else { panic!("{name}\n{plan}") };
            assert_eq!(step[3..], ["reduce_sum", "reduce_sum"], "{name}\n{plan}");
        }
    }
}

#[test]
fn what_cannot_be_joined_is_a_step_of_its_own() {
    type Write = for<'g> fn([Var<'g>; 3]) -> Vec<Var<'g>>;
    let cases: [(&str, &[usize], usize, Write); 7] = [
        ("what others read", &[60, 70], 2, |[x, row, _]| {
            vec![reduce(x * row, &ops::REDUCE_SUM, &[0]), x * row]
        }),
        ("what is divided by its sum", &[60, 70], 3, |[x, row, _]| {
            let y = x * row;
            vec![y / y.sum_keep(&[1])]
        }),
        ("other axes", &[60, 70], 3, |[x, row, _]| {
            let y = x * row;
            vec![reduce(y, &ops::REDUCE_SUM, &[0]), reduce(y, &ops::REDUCE_SUM, &[1])]
        }),
        ("axes that are apart", &[20, 30, 40], 2, |[x, row, _]| {
            vec![reduce(x * row, &ops::REDUCE_SUM, &[0, 2])]
        }),
        ("no more than a block", &[4, 256], 2, |[x, row, _]| {
            vec![reduce(x * row, &ops::REDUCE_SUM, &[0])]
        }),
        ("nothing", &[0, 2000], 2, |[x, row, _]| vec![reduce(x * row, &ops::REDUCE_SUM, &[0])]),
        ("no chain", &[60, 70], 2, |[x, ..]| {
            vec![reduce(x, &ops::REDUCE_SUM, &[0]), reduce(x, &ops::REDUCE_MAX, &[0])]
        }),
    ];
    for (name, shape, count, write) in cases {
        let case = Case::new(DType::F32, shape, write);
        let plan = case.check(name);
        assert_eq!(steps(&plan).len(), count, "{name}\n{plan}");
    }
}

/// What only a reduction reads takes no memory of its size.
#[test]
fn the_peak_is_without_what_only_reductions_read() {
    for (shape, axes) in
        [(&[1000, 1000][..], &[0, 1][..]), (&[4096, 512], &[0]), (&[512, 600], &[1])]
    {
        let case = Case::new(DType::F32, shape, |[x, row, _]| {
            vec![reduce((x - row).map(&ops::SQUARE), &ops::REDUCE_MEAN, axes)]
        });
        let (plan, alone) = (case.plan(Passes::ALL), case.plan(Passes::NONE));
        let whole = 4 * shape.iter().product::<usize>() as u64;
        assert!(alone.peak() >= whole, "{alone}");
        assert!(plan.peak() < whole / 2, "{plan}");
        let [step] = &plan.explain().collect::<Vec<_>>()[..] else { panic!("{plan}") };
        assert_eq!(step.cost.flops, 3 * whole / 4, "{plan}");
        assert!(plan.to_string().contains("chain of subtract, square, reduce_mean over"), "{plan}");
    }
}

/// Sums of a chain of more ops than one step has.
#[test]
fn a_long_chain_is_reduced_where_it_ends() {
    let case = Case::new(DType::F64, &[30, 41], |[x, row, _]| {
        let y = (0..150).fold(x, |y, _| y * 0.99 + row);
        vec![reduce(y, &ops::REDUCE_SUM, &[0]), reduce(y, &ops::REDUCE_MAX, &[0])]
    });
    let plan = case.check("a long chain");
    let last = steps(&plan).pop().unwrap();
    assert_eq!(last[last.len() - 2..], ["reduce_sum", "reduce_max"], "{plan}");
}
