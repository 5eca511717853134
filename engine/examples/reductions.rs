//! Reductions of chains in the engine alone: as one plan, and as two, of which the first writes what the second reads.
//!
//! `cargo run --release -p gradtape-engine --example reductions [RUNS]` prints the medians of both in turn and the peak of
//! the one plan, on all cores or as many as `CORES` says.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(missing_docs, reason = "nothing uses it")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gradtape_engine::{
    array::{Array, Tensor},
    aval::Aval,
    compute::{Cancel, Context, Crew},
    dtype::DType,
    graph::{Graph, Operand, ValueId, Var},
    ledger::Ledger,
    op::OpDef,
    ops,
    plan::{Passes, Plan},
};
use ndarray::{ArcArray, IxDyn};

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is computed of two inputs of one shape: what is reduced, and what is wanted beside that.
type Chain = for<'g> fn(Var<'g>, Var<'g>) -> (Var<'g>, Option<Var<'g>>);

struct Case {
    name: &'static str,
    shape: &'static [usize],
    chain: Chain,
    op: &'static OpDef,
    axes: &'static [usize],
}

const SQUARES: Chain = |a, b| ((a - b).map(&ops::SQUARE), None);
/// The squares, and the gradient of their mean.
const GRADIENT: Chain = |a, b| ((a - b).map(&ops::SQUARE), Some((a - b) * 2e-6));
const PRODUCT: Chain = |a, b| (a * b, None);
const TANH: Chain = |a, b| ((a * b).map(&ops::TANH), None);
const KEPT: Chain = |a, b| (a * b, Some(a * b));

const fn case(
    name: &'static str,
    shape: &'static [usize],
    chain: Chain,
    op: &'static OpDef,
    axes: &'static [usize],
) -> Case {
    Case { name, shape, chain, op, axes }
}

const CASES: [Case; 9] = [
    case("mean((a - b)^2)", &[1_000_000], SQUARES, &ops::REDUCE_MEAN, &[0]),
    case("mean((a - b)^2)", &[10_000_000], SQUARES, &ops::REDUCE_MEAN, &[0]),
    case("and its gradient", &[1_000_000], GRADIENT, &ops::REDUCE_MEAN, &[0]),
    case("and its gradient", &[10_000_000], GRADIENT, &ops::REDUCE_MEAN, &[0]),
    case("sum(a * b)", &[4096, 512], PRODUCT, &ops::REDUCE_SUM, &[0]),
    case("sum(tanh(a * b))", &[4096, 512], TANH, &ops::REDUCE_SUM, &[0]),
    case("a * b, and its sum", &[4096, 512], KEPT, &ops::REDUCE_SUM, &[0]),
    case("a * b, and its sum", &[1024, 64], KEPT, &ops::REDUCE_SUM, &[0]),
    case("sum(a * b)", &[4096, 512], PRODUCT, &ops::REDUCE_SUM, &[1]),
];

fn input<'g>(graph: &'g Graph, shape: &[usize]) -> Var<'g> {
    graph.operand(Aval::new(DType::F32, shape), Operand { id: ValueId(0), tensor: None })
}

/// A plan of what is written, and the slots of its inputs.
fn plan(write: impl for<'g> Fn(&'g Graph) -> (Vec<Var<'g>>, Vec<Var<'g>>)) -> (Plan, Vec<usize>) {
    let graph = Graph::default();
    let (inputs, results) = write(&graph);
    let slots = |vars: Vec<Var>| vars.into_iter().map(Var::slot).collect::<Vec<_>>();
    let (inputs, results) = (slots(inputs), slots(results));
    let program = graph.finish().expect("a program");
    let ledger = Ledger::new("plan", 1 << 30);
    (Plan::compile(&ledger, &program, &results, Passes::ALL).expect("a plan"), inputs)
}

impl Case {
    fn reduce<'g>(&self, x: Var<'g>) -> Var<'g> {
        x.reduce(self.op, self.axes, false)
    }

    /// All of it, the chain, and the reduction.
    fn plans(&self) -> [(Plan, Vec<usize>); 3] {
        let whole = plan(|graph| {
            let inputs = [0; 2].map(|_| input(graph, self.shape));
            let (x, beside) = (self.chain)(inputs[0], inputs[1]);
            (inputs.to_vec(), [self.reduce(x)].into_iter().chain(beside).collect())
        });
        let chain = plan(|graph| {
            let inputs = [0; 2].map(|_| input(graph, self.shape));
            let (x, beside) = (self.chain)(inputs[0], inputs[1]);
            (inputs.to_vec(), [x].into_iter().chain(beside).collect())
        });
        let reduction = plan(|graph| {
            let x = input(graph, self.shape);
            (vec![x], vec![self.reduce(x)])
        });
        [whole, chain, reduction]
    }

    fn measure(&self, runs: usize) {
        let ledger = Ledger::new("reductions", 1 << 30);
        let [(whole, inputs), (chain, apart), (reduction, reduced)] = self.plans();
        let numbers = [3, 5].map(|step| numbers(self.shape, step));
        let run = |plan: &Plan, slots: &[usize], given: &[Tensor]| {
            let given = slots.iter().copied().zip(given.iter().cloned());
            plan.run(&ledger, given).expect("a run")
        };
        let mut times = [vec![], vec![]];
        for _ in 0..runs {
            times[0].push(timed(|| run(&whole, &inputs, &numbers)));
            times[1].push(timed(|| {
                let results = run(&chain, &apart, &numbers);
                run(&reduction, &reduced, &results[..1])
            }));
        }
        let [one, two] = times.map(|mut times| {
            times.sort_unstable();
            times[runs / 2]
        });
        let (name, shape) = (self.name, format!("{:?}", self.shape));
        println!(
            "{name:20} {shape:12} over {:?}: {one:8.1?}, two plans {two:8.1?}; peak {}, chain's {}",
            self.axes,
            whole.peak(),
            chain.peak()
        );
    }
}

fn timed<R>(run: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    drop(run());
    start.elapsed()
}

fn numbers(shape: &[usize], step: u16) -> Tensor {
    let mut number = 0_u16;
    let elements = (0..shape.iter().product()).map(|_| {
        number = number.wrapping_mul(25173).wrapping_add(step);
        f32::from(number) / 32768.0 - 1.0
    });
    let elements = elements.collect();
    let array = ArcArray::from_shape_vec(IxDyn(shape), elements).expect("as many as asked for");
    Tensor::unpaid(Array::F32(array))
}

fn main() {
    let runs = std::env::args().nth(1).map_or(100, |n| n.parse().expect("a number"));
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = std::env::var("CORES").map_or(available, |n| n.parse().expect("a number"));
    let crew: Arc<Crew> = Crew::new(cores).expect("threads");
    let context = Context { crew, cancel: Cancel::default(), turns: None };
    for case in CASES {
        context.enter(|| case.measure(runs));
    }
}
