//! Jacobians: from a trace to the program of many sweeps at once.
//!
//! The sweep is written once, for one seed; then the program is written again for stacks of seeds. Nothing is computed
//! here.

use crate::{
    aval::{Aval, Shape},
    batching::Batcher,
    dtype::DType,
    error::Error,
    gradient::{Found, Gradient, Source, Target, gradient},
    graph::{Graph, Operand, Program, ValueId, Var},
    ops::{ADD, CONCAT, CUMSUM, Cumulative, Join, ONE_HOT, OneHot, Permutation, TRANSPOSE},
    tape::Trace,
};

/// Most rows of a stack: enough to keep the vector units busy, and few enough for memory.
pub const MAX_ROWS: usize = 256;

/// Stands for the seed in the program of one sweep. Identities of values are counted from one and never get there.
const SEED: ValueId = ValueId(u64::MAX);

/// What is differentiated by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each element of the target by each element of the source: the target's shape and then the source's.
    Full,
    /// Each element of the target by each element of the source in the same example, examples lying along the first axis
    /// of both: `[examples, the target's other extents, the source's other extents]`.
    PerExample,
}

impl Layout {
    /// The shape of a Jacobian. For `PerExample` both shapes have the first axis.
    pub fn shape(self, target: &Shape, source: &Shape) -> Shape {
        let skipped = usize::from(self == Self::PerExample);
        target.iter().chain(source.iter().skip(skipped)).copied().collect()
    }

    /// Number of sweeps.
    pub fn sweeps(self, target: &Shape) -> usize {
        match self {
            Self::Full => target.elements(),
            Self::PerExample => target.iter().skip(1).product(),
        }
    }
}

/// The sweep for one seed.
#[derive(Debug)]
pub struct Sweep {
    program: Program,
    /// What became of each source, with slots of this program.
    found: Vec<Found>,
}

impl Sweep {
    /// Number of applications.
    pub fn applications(&self) -> usize {
        self.program.applications.len()
    }
}

/// Where the program of a Jacobian leaves the parts, and what became of each source, with slots of that program.
pub type Jacobians = (Program, Vec<Found>);

/// Writes the sweep for one seed.
pub fn sweep(trace: &Trace, target: (ValueId, &Aval), sources: &[Source]) -> Result<Sweep, Error> {
    let seed = Operand { id: SEED, tensor: None };
    let target = Target { id: target.0, aval: target.1.clone(), seed: Some(seed) };
    let Gradient { program, found, .. } = gradient(trace, &[target], sources)?;
    Ok(Sweep { program, found })
}

/// Writes the program of Jacobians, with at most `rows` sweeps in one stack.
pub fn jacobian(
    sweep: &Sweep,
    target: &Aval,
    sources: &[Source],
    layout: Layout,
    rows: usize,
) -> Result<Jacobians, Error> {
    let graph = Graph::default();
    let dense = |found: &Found| if let Found::Dense(slot) = *found { Some(slot) } else { None };
    let wanted: Vec<usize> = sweep.found.iter().filter_map(dense).collect();
    let mut jacobians = write(&graph, sweep, &wanted, target, layout, rows)?.into_iter();
    let found = sweep
        .found
        .iter()
        .zip(sources)
        .map(|(&found, source)| match found {
            Found::Dense(_) => {
                let shape = layout.shape(&target.shape, &source.aval.shape);
                let all = jacobians.next().ok_or_else(|| Error::bug("a Jacobian is missing"))?;
                Ok(Found::Dense(arrange(all, &source.aval, layout, &shape).slot()))
            }
            found @ (Found::Rows { .. } | Found::Absent(_)) => Ok(found),
        })
        .collect::<Result<_, Error>>()?;
    Ok((graph.finish()?, found))
}

/// For each wanted slot the results of all sweeps, one behind the other.
fn write<'g>(
    graph: &'g Graph,
    sweep: &Sweep,
    wanted: &[usize],
    target: &Aval,
    layout: Layout,
    rows: usize,
) -> Result<Vec<Var<'g>>, Error> {
    let program = &sweep.program;
    let seeds: Vec<usize> =
        program.operands.iter().filter(|(_, o)| o.id == SEED).map(|&(slot, _)| slot).collect();
    let batcher = Batcher::new(graph, program, wanted, &seeds)?;
    let total = layout.sweeps(&target.shape);
    let mut parts: Vec<Vec<Var>> = vec![Vec::new(); wanted.len()];
    for start in (0..total).step_by(rows.max(1)) {
        let count = rows.min(total - start);
        let stack = seeds_from(graph, target, layout, start, count);
        let results = if count == 1 {
            batcher.row(&[stack.reshape(&target.shape)])?
        } else {
            batcher.stack(&[stack], count)?
        };
        for ((part, result), &slot) in parts.iter_mut().zip(results).zip(wanted) {
            part.push(result.reshape(&[count, program.avals[slot].shape.elements()].into()));
        }
    }
    let join = |(parts, &slot): (Vec<Var<'g>>, &usize)| match parts.split_first() {
        Some((first, [])) => *first,
        Some((first, others)) => first.op(&CONCAT, Join { axis: 0 }.write(), others),
        None => {
            let Aval { dtype, shape } = &program.avals[slot];
            graph.full(&Aval::new(*dtype, [0, shape.elements()]), 0.0)
        }
    };
    Ok(parts.into_iter().zip(wanted).map(join).collect())
}

/// Seeds number `start` and following: one at one element, or at that element of each example, and zeros elsewhere.
fn seeds_from<'g>(
    graph: &'g Graph,
    target: &Aval,
    layout: Layout,
    start: usize,
    count: usize,
) -> Var<'g> {
    let depth = layout.sweeps(&target.shape);
    let counting = Cumulative { axis: 0, exclusive: true, reverse: false }.write();
    let numbers = graph.full(&Aval::new(DType::I64, [count]), 1.0).op(&CUMSUM, counting, &[]);
    #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^53 elements")]
    let numbers = numbers.zip(&ADD, graph.scalar(DType::I64, start as f64));
    let one_hot = OneHot { depth: i64::try_from(depth).unwrap_or(i64::MAX), dtype: target.dtype };
    let rows = numbers.op(&ONE_HOT, one_hot.write(), &[]);
    let stack: Shape = std::iter::once(count).chain(target.shape.iter().copied()).collect();
    match layout {
        Layout::Full => rows.reshape(&stack),
        Layout::PerExample => {
            let examples = target.shape.first().copied().unwrap_or(1);
            let one: Shape = [count, 1, depth].into();
            rows.reshape(&one).broadcast_to(&[count, examples, depth].into()).reshape(&stack)
        }
    }
}

/// From the results of all sweeps to the shape of the Jacobian, as a value of its own.
fn arrange<'g>(all: Var<'g>, source: &Aval, layout: Layout, shape: &Shape) -> Var<'g> {
    match layout {
        Layout::Full => all.reshape(shape),
        Layout::PerExample => {
            let (sweeps, elements) = (all.shape()[0], source.shape.elements());
            let examples = source.shape.first().copied().unwrap_or(1);
            let each = elements.checked_div(examples).unwrap_or(0);
            let split: Shape = [sweeps, examples, each].into();
            let perm = Permutation { perm: [1, 0, 2].as_slice().into() };
            all.reshape(&split).op(&TRANSPOSE, perm.write(), &[]).reshape(shape)
        }
    }
}
