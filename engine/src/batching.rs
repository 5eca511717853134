//! Programs over stacks of values: one application of each op, where a loop would apply it to every row.
//!
//! A stack is a value with one more axis, the first; its slices along that axis are the rows. What does not depend on a
//! stack is computed once. Each op says in its record how it takes stacks, and the op table's tests compare that with the
//! row-by-row application, which is right for every op. The idea is that of JAX's `vmap`.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs::{Attr, Attrs, Ints},
    aval::{Aval, Avals, Shape},
    error::Error,
    exec,
    graph::{Application, Graph, Program, Var},
    op::{OpDef, Vars},
    ops::{CONCAT, Join, SLICE, Slice},
};

/// How an op is applied to stacks.
#[derive(Clone, Copy, Debug)]
pub enum Batching {
    /// To one row after the other, and the results are stacked. Right for every op.
    Rows,
    /// As it is, once the ranks are aligned: output element i depends on input elements i only.
    Elementwise,
    /// By a rule, which gives nothing where rows are the only way.
    Rule(for<'a, 'g> fn(&Batch<'a, 'g>) -> Option<Vars<'g>>),
}

/// An application of an op to stacks, as a rule sees it.
#[derive(Debug)]
pub struct Batch<'a, 'g> {
    /// The op.
    pub op: &'static OpDef,
    /// Its attributes, which are about rows.
    pub attrs: &'a Attrs,
    /// The inputs.
    pub x: Vars<'g>,
    /// Which of them are stacks; at least one is.
    pub stacked: SmallVec<[bool; 4]>,
    /// Number of rows.
    pub rows: usize,
    /// What the outputs are for one row.
    pub y: Avals,
}

impl<'g> Batch<'_, 'g> {
    /// The shape of input `i` without the axis of the stack.
    pub fn row(&self, i: usize) -> Shape {
        let shape = self.x[i].shape();
        if self.stacked[i] { shape[1..].into() } else { shape }
    }

    /// Whether the first input alone is a stack.
    pub fn only_first(&self) -> bool {
        self.stacked.iter().enumerate().all(|(i, &stacked)| stacked == (i == 0))
    }

    /// A row's shape behind the axis of the stack.
    pub fn stack_of(&self, row: &[usize]) -> Shape {
        std::iter::once(self.rows).chain(row.iter().copied()).collect()
    }

    /// The inputs with their rows right-aligned at the largest rank among them, so that they broadcast.
    pub fn aligned(&self) -> Vars<'g> {
        let ranks = (0..self.x.len()).map(|i| self.row(i).len());
        let rank = ranks.max().unwrap_or(0);
        let align = |i: usize| {
            let row = self.row(i);
            let ones = std::iter::repeat_n(1, rank - row.len());
            let shape: Shape =
                std::iter::once(self.rows).chain(ones).chain(row.iter().copied()).collect();
            if self.stacked[i] { self.x[i].reshape(&shape) } else { self.x[i] }
        };
        (0..self.x.len()).map(align).collect()
    }

    /// The inputs, each a stack: what is none is repeated.
    pub fn all_stacked(&self) -> Vars<'g> {
        let stack = |i: usize| {
            if self.stacked[i] {
                self.x[i]
            } else {
                self.x[i].broadcast_to(&self.stack_of(&self.x[i].shape()))
            }
        };
        (0..self.x.len()).map(stack).collect()
    }

    /// Applies the op itself, with some of its attributes replaced.
    pub fn apply(&self, inputs: &[Var<'g>], changed: Vec<(&str, Attr)>) -> Option<Vars<'g>> {
        let mut attrs = self.attrs.clone();
        let changed = changed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        attrs.update(self.op.attrs, changed).ok()?;
        let (first, others) = inputs.split_first()?;
        Some(first.op_all(self.op, attrs, others))
    }
}

// === rules that several ops share ===

/// An op whose only effect is another shape.
#[expect(clippy::unnecessary_wraps, reason = "a rule")]
pub(crate) fn reshaped<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    Some(smallvec![b.x[0].reshape(&b.stack_of(&b.y[0].shape))])
}

/// An op along the attribute `axis` of its first input.
pub(crate) fn along_axis<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    if !b.only_first() {
        return None;
    }
    b.apply(&b.x, vec![("axis", shifted(b)?)])
}

/// An op along the attribute `axis` of all its inputs.
pub(crate) fn all_along_axis<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    all_along_axis_and(b, vec![])
}

/// The same, with other attributes changed.
pub(crate) fn all_along_axis_and<'g>(
    b: &Batch<'_, 'g>,
    mut changed: Vec<(&str, Attr)>,
) -> Option<Vars<'g>> {
    changed.push(("axis", shifted(b)?));
    b.apply(&b.all_stacked(), changed)
}

/// The attribute `axis`, counted in the stack.
fn shifted(b: &Batch) -> Option<Attr> {
    let place = b.op.attrs.iter().position(|spec| spec.name == "axis")?;
    let Attr::Int(axis) = b.attrs.values().get(place)? else { return None };
    let axis = b.row(0).axis(*axis, 0).ok()?;
    Some(Attr::Int(i64::try_from(axis).ok()? + 1))
}

/// Attribute `name`, a list of integers, with others in front.
pub(crate) fn prefixed(b: &Batch, name: &str, front: &[i64]) -> Option<Attr> {
    let place = b.op.attrs.iter().position(|spec| spec.name == name)?;
    let Attr::Ints(ints) = b.attrs.values().get(place)? else { return None };
    Some(Attr::Ints(front.iter().chain(ints).copied().collect()))
}

// === programs ===

/// A program written again into a graph, with stacks in the place of some of its operands.
#[derive(Debug)]
pub struct Batcher<'g, 'p> {
    graph: &'g Graph,
    program: &'p Program,
    wanted: &'p [usize],
    operands: &'p [usize],
    /// The values that are the same for every row.
    shared: Vec<Option<Var<'g>>>,
    /// The applications that differ.
    differing: Vec<&'p Application>,
}

impl<'g, 'p> Batcher<'g, 'p> {
    /// Writes what does not depend on the given operands.
    pub fn new(
        graph: &'g Graph,
        program: &'p Program,
        wanted: &'p [usize],
        operands: &'p [usize],
    ) -> Result<Self, Error> {
        let mut differs = vec![false; program.avals.len()];
        for &slot in operands {
            differs[slot] = true;
        }
        let mut shared = vec![None; program.avals.len()];
        for (slot, operand) in program.operands.iter().filter(|(slot, _)| !differs[*slot]) {
            shared[*slot] = Some(graph.operand(program.avals[*slot].clone(), operand.clone()));
        }
        let needed = exec::needed(program, wanted);
        let mut differing = Vec::new();
        for (application, _) in program.applications.iter().zip(needed).filter(|&(_, n)| n) {
            if application.inputs.iter().any(|&slot| differs[slot]) {
                application.outputs.iter().for_each(|&slot| differs[slot] = true);
                differing.push(application);
            } else {
                repeat(graph, application, &mut shared)?;
            }
        }
        Ok(Self { graph, program, wanted, operands, shared, differing })
    }

    /// Writes the rest for one row. Gives the wanted values.
    pub fn row(&self, inputs: &[Var<'g>]) -> Result<Vec<Var<'g>>, Error> {
        let mut values = self.with(inputs);
        for application in &self.differing {
            repeat(self.graph, application, &mut values)?;
        }
        self.wanted.iter().map(|&slot| values[slot].ok_or_else(missing)).collect()
    }

    /// Writes the rest for `rows` rows, each input being a stack. Gives the wanted values, as stacks.
    pub fn stack(&self, inputs: &[Var<'g>], rows: usize) -> Result<Vec<Var<'g>>, Error> {
        let mut values = self.with(inputs);
        let mut stacked = vec![false; values.len()];
        for &slot in self.operands {
            stacked[slot] = true;
        }
        for application in &self.differing {
            let inputs = application.inputs.iter();
            let batch = Batch {
                op: application.op,
                attrs: &application.attrs,
                x: inputs
                    .clone()
                    .map(|&slot| values[slot].ok_or_else(missing))
                    .collect::<Result<_, _>>()?,
                stacked: inputs.map(|&slot| stacked[slot]).collect(),
                rows,
                y: application.outputs.iter().map(|&s| self.program.avals[s].clone()).collect(),
            };
            for (&slot, value) in application.outputs.iter().zip(apply(self.graph, &batch)?) {
                values[slot] = Some(value);
                stacked[slot] = true;
            }
        }
        let stack = |&slot: &usize| {
            let value = values[slot].ok_or_else(missing)?;
            if stacked[slot] {
                return Ok(value);
            }
            let shape = std::iter::once(rows).chain(value.shape().iter().copied()).collect();
            Ok(value.broadcast_to(&shape))
        };
        self.wanted.iter().map(stack).collect()
    }

    fn with(&self, inputs: &[Var<'g>]) -> Vec<Option<Var<'g>>> {
        let mut values = self.shared.clone();
        for (&slot, &input) in self.operands.iter().zip(inputs) {
            values[slot] = Some(input);
        }
        values
    }
}

/// Writes an application as it is.
fn repeat<'g>(
    graph: &'g Graph,
    application: &Application,
    values: &mut [Option<Var<'g>>],
) -> Result<(), Error> {
    let inputs: Vars = application
        .inputs
        .iter()
        .map(|&slot| values[slot].ok_or_else(missing))
        .collect::<Result<_, _>>()?;
    let outputs = graph.apply(application.op, application.attrs.clone(), &inputs)?;
    for (&slot, output) in application.outputs.iter().zip(outputs) {
        values[slot] = Some(output);
    }
    Ok(())
}

fn missing() -> Error {
    Error::bug("a program reads a value that it has not made")
}

/// Writes an application to stacks.
fn apply<'g>(graph: &'g Graph, batch: &Batch<'_, 'g>) -> Result<Vars<'g>, Error> {
    let ruled = match batch.op.batching {
        Batching::Rows => None,
        Batching::Elementwise => {
            Some(graph.apply(batch.op, batch.attrs.clone(), &batch.aligned())?)
        }
        Batching::Rule(rule) => rule(batch),
    };
    ruled.map_or_else(|| row_by_row(graph, batch), Ok)
}

fn row_by_row<'g>(graph: &'g Graph, batch: &Batch<'_, 'g>) -> Result<Vars<'g>, Error> {
    let mut outputs: Vec<Vars> = vec![Vars::new(); batch.y.len()];
    for row in 0..batch.rows {
        let pick = |i: usize| {
            let (x, shape) = (batch.x[i], batch.row(i));
            if !batch.stacked[i] {
                return x;
            }
            let mut begin = Ints::from_elem(0, shape.len() + 1);
            begin[0] = i64::try_from(row).unwrap_or(i64::MAX);
            let size = std::iter::once(1).chain(shape.to_i64()).collect();
            x.op(&SLICE, Slice { begin, size }.write(), &[]).reshape(&shape)
        };
        let inputs: Vars = (0..batch.x.len()).map(pick).collect();
        let results = graph.apply(batch.op, batch.attrs.clone(), &inputs)?;
        for (output, result) in outputs.iter_mut().zip(results) {
            let shape: Shape = std::iter::once(1).chain(result.shape().iter().copied()).collect();
            output.push(result.reshape(&shape));
        }
    }
    let join = |(parts, aval): (Vars<'g>, &Aval)| {
        if let Some((first, others)) = parts.split_first() {
            return first.op(&CONCAT, Join { axis: 0 }.write(), others);
        }
        let shape = batch.stack_of(&aval.shape);
        graph.full(&Aval { dtype: aval.dtype, shape }, 0.0)
    };
    Ok(outputs.into_iter().zip(&batch.y).map(join).collect())
}

#[cfg(test)]
mod tests;
