//! Products of matrices that are computed together with the chain that reads them.

use super::{super::Work, *};
use crate::compute::{Cancel, Context, Crew, HURRY};

/// What a product goes through: the product, more operands, and the results.
type Chained = for<'g> fn(Var<'g>, &[Var<'g>]) -> Vec<Var<'g>>;

/// Shapes of the factors, whether each is transposed, shapes of more operands, the chain, and whether they become one step.
type Case<'a> = ([&'a [usize]; 2], [bool; 2], &'a [&'a [usize]], Chained, bool);

const CASES: &[Case] = &[
    // A row and a function.
    ([&[200, 70], &[70, 40]], [false; 2], &[&[40]], |y, x| vec![(y + x[0]).map(&ops::RELU)], true),
    // Columns that fill no register, fewer than a block repeats.
    ([&[430, 30], &[30, 10]], [false; 2], &[&[10]], |y, x| vec![y * x[0]], true),
    // A result on the way, and one of the product's shape that is added.
    (
        [&[300, 64], &[50, 64]],
        [false, true],
        &[&[50], &[300, 50]],
        |y, x| vec![y + x[0], (y + x[0]).map(&ops::TANH) + x[1]],
        true,
    ),
    // It is read twice, and a result has another dtype.
    (
        [&[300, 64], &[64, 33]],
        [false; 2],
        &[],
        |y, _| vec![y * y.map(&ops::SIGMOID), y.cast(DType::F64), y.cast(DType::I32)],
        true,
    ),
    // Batches that broadcast, and what repeats after a whole matrix.
    ([&[3, 1, 90, 20], &[2, 20, 48]], [false; 2], &[&[90, 48]], |y, x| vec![y + x[0]], true),
    ([&[5, 4, 64, 16], &[5, 4, 64, 16]], [false, true], &[&[64, 64]], |y, x| vec![y - x[0]], true),
    // Low matrices, parts of which begin in their middle, and what repeats after some rows, or in another way.
    ([&[80, 8, 30], &[30, 24]], [false; 2], &[&[8, 24]], |y, x| vec![y + x[0]], true),
    ([&[80, 8, 30], &[30, 10]], [false; 2], &[&[10], &[8, 1]], |y, x| vec![y + x[0] - x[1]], true),
    ([&[40, 24, 30], &[30, 10]], [false; 2], &[&[40, 1, 10]], |y, x| vec![y + x[0]], true),
    // Sums of several blocks of terms.
    ([&[84, 600], &[600, 50]], [false; 2], &[&[50]], |y, x| vec![y + x[0]], true),
    ([&[300, 600], &[600, 50]], [false; 2], &[&[50]], |y, x| vec![y + x[0]], false),
    // A small one is in the cache anyway.
    ([&[80, 30], &[30, 50]], [false; 2], &[&[50]], |y, x| vec![y + x[0]], false),
    // Somebody else reads it.
    ([&[200, 70], &[70, 40]], [false; 2], &[&[40]], |y, x| vec![y + x[0], y], false),
    (
        [&[200, 70], &[70, 40]],
        [false; 2],
        &[&[40]],
        |y, x| vec![y + x[0], y.sum_to(&Shape::scalar())],
        false,
    ),
    // The chain has another shape.
    ([&[200, 70], &[70, 40]], [false; 2], &[&[2, 200, 40]], |y, x| vec![y + x[0]], false),
    // Two products in one chain, of which the first is read by nobody else, either.
    (
        [&[200, 70], &[70, 40]],
        [false; 2],
        &[&[200, 50], &[50, 40]],
        |y, x| vec![y * x[0].matmul(x[1], false, false)],
        true,
    ),
];

/// The program of a case, and the slots of its results.
fn program(&(factors, [a, b], others, chained, _): &Case) -> (Program, Vec<usize>) {
    let graph = Graph::default();
    let input = |shape: &[usize]| {
        let numbers = (0_u32..).take(shape.iter().product());
        let values: Vec<f64> = numbers.map(|i| f64::from(i * 7919 % 1000) / 400.0 - 1.1).collect();
        operand(&graph, &tensor(DType::F32, shape, &values))
    };
    let [x, y] = factors.map(input);
    let others: Vec<Var> = others.iter().map(|shape| input(shape)).collect();
    let wanted = chained(x.matmul(y, a, b), &others).into_iter().map(Var::slot).collect();
    (graph.finish().unwrap(), wanted)
}

fn is_product(step: &super::super::Step) -> bool {
    matches!(step.work, Work::Product(..))
}

#[test]
fn a_product_and_its_chain_have_the_bits_of_both() {
    for (i, case) in CASES.iter().enumerate() {
        let (program, wanted) = program(case);
        let plan = Plan::compile(&ledger(), &program, &wanted, Passes::ALL).unwrap();
        assert_eq!(plan.steps.iter().any(is_product), case.4, "case {i}\n{plan}");
        check(&format!("case {i}"), &program, &wanted);
    }
}

/// In a hurry there are as many parts as there can be.
#[test]
fn no_bit_of_a_product_and_its_chain_depends_on_who_helps() {
    for (i, case) in CASES.iter().enumerate() {
        let ledger = ledger();
        let (program, wanted) = program(case);
        let plan = Plan::compile(&ledger, &program, &wanted, Passes::ALL).unwrap();
        let run = || -> Vec<Vec<u64>> {
            let results = plan.run(&ledger, []).unwrap();
            results.iter().map(bits).collect()
        };
        let alone = run();
        HURRY.set(true);
        let in_parts = run();
        let crew = Crew::new(3).unwrap();
        let helped = Context { crew, cancel: Cancel::default(), turns: None }.enter(run);
        HURRY.set(false);
        assert!(alone == in_parts, "case {i} in parts\n{plan}");
        assert!(alone == helped, "case {i} with help\n{plan}");
    }
}

/// If it were computed later, what only it still reads would be kept for longer.
#[test]
fn a_product_stays_where_it_is_if_its_factors_take_more_memory() {
    for (terms, moves) in [(20, true), (60, false)] {
        let graph = Graph::default();
        let [x, y] =
            [[300, terms], [terms, 40]].map(|shape| graph.parameter(Aval::new(DType::F32, shape)));
        let product = x.map(&ops::TANH).matmul(y, false, false);
        // A step between the product and the chain.
        let wanted = [(product + y.sum_keep(&[0])).slot()];
        let program = graph.finish().unwrap();
        let plan = Plan::compile(&ledger(), &program, &wanted, Passes::ALL).unwrap();
        assert_eq!(plan.steps.iter().any(is_product), moves, "{terms}\n{plan}");
    }
}
