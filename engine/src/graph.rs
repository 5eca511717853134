//! Programs of ops, as derivative rules and composites write them.
//!
//! A rule handles [`Var`]s: it sees dtypes and shapes, never elements. What it appends is priced before it runs, recorded by
//! outer tapes like anything else, and can be differentiated again. Rules cannot fail: the first error sticks to the graph
//! and is reported when the graph is finished.

use std::{
    cell::RefCell,
    ops::{Add, Div, Mul, Neg, Sub},
};

use hashbrown::HashSet;
use smallvec::{SmallVec, smallvec};

use crate::{
    array::Tensor,
    attrs::Attrs,
    aval::{Aval, Avals, Shape},
    dtype::DType,
    error::Error,
    exec,
    op::{Call, Kernel, OpDef, Rule, Vars},
    ops,
};

/// Most applications in one graph. A gradient program is a small multiple of its tape.
pub const MAX_APPLICATIONS: usize = 8 << 20;

/// Identity of a value within a session. Two equal constants are different values; clones of one value are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u64);

/// A value that exists: its identity and its elements.
#[derive(Clone, Debug)]
pub struct Value {
    /// Who it is.
    pub id: ValueId,
    /// What it holds.
    pub tensor: Tensor,
}

/// A value from outside that a graph starts from. Its elements may be missing where only its shape matters.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Who it is.
    pub id: ValueId,
    /// What it holds, if it was kept.
    pub tensor: Option<Tensor>,
}

/// One application of an op within a graph.
#[derive(Clone, Debug)]
pub struct Application {
    /// The op; never a composite.
    pub op: &'static OpDef,
    /// Its attributes.
    pub attrs: Attrs,
    /// Slots of its inputs.
    pub inputs: SmallVec<[usize; 3]>,
    /// Slots of its outputs.
    pub outputs: SmallVec<[usize; 1]>,
    /// Bytes that its kernel needs for itself while it runs.
    pub workspace: u64,
}

/// A program under construction.
#[derive(Debug, Default)]
pub struct Graph {
    state: RefCell<State>,
}

/// A finished program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// What is known of each slot.
    pub avals: Vec<Aval>,
    /// Values from outside, by slot.
    pub operands: Vec<(usize, Operand)>,
    /// Applications, in order.
    pub applications: Vec<Application>,
}

impl Program {
    /// The slots that the applications and `wanted` read and nothing fills.
    pub(crate) fn unfilled(&self, wanted: &[usize]) -> Vec<usize> {
        let mut filled = vec![false; self.avals.len()];
        self.operands.iter().for_each(|&(slot, _)| filled[slot] = true);
        let mut unfilled = Vec::new();
        for application in &self.applications {
            unfilled.extend(application.inputs.iter().filter(|&&slot| !filled[slot]));
            application.outputs.iter().for_each(|&slot| filled[slot] = true);
        }
        unfilled.extend(wanted.iter().filter(|&&slot| !filled[slot]));
        unfilled
    }
}

#[derive(Debug, Default)]
struct State {
    program: Program,
    /// Ops in the bodies that applications hold.
    weight: usize,
    failure: Option<Error>,
}

/// A place in a graph that is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// Number of slots.
    pub(crate) slots: usize,
    operands: usize,
    applications: usize,
    weight: usize,
}

/// A value of a graph: a number and a reference, free to copy.
#[derive(Clone, Copy, Debug)]
pub struct Var<'g> {
    graph: &'g Graph,
    slot: usize,
}

impl Graph {
    /// Brings in a value from outside.
    pub fn operand(&self, aval: Aval, operand: Operand) -> Var<'_> {
        let mut state = self.state.borrow_mut();
        let slot = state.slot(aval);
        state.program.operands.push((slot, operand));
        Var { graph: self, slot }
    }

    /// A value that will come from outside, and has no elements yet.
    pub(crate) fn parameter(&self, aval: Aval) -> Var<'_> {
        let slot = self.state.borrow_mut().slot(aval);
        Var { graph: self, slot }
    }

    /// How far it has been written.
    pub(crate) fn mark(&self) -> Mark {
        let State { program, weight, .. } = &*self.state.borrow();
        Mark {
            slots: program.avals.len(),
            operands: program.operands.len(),
            applications: program.applications.len(),
            weight: *weight,
        }
    }

    /// Forgets what was written since a mark, and that it failed.
    pub(crate) fn rewind(&mut self, mark: &Mark) {
        let State { program, weight, failure } = self.state.get_mut();
        program.avals.truncate(mark.slots);
        program.operands.truncate(mark.operands);
        program.applications.truncate(mark.applications);
        *weight = mark.weight;
        *failure = None;
    }

    /// Number of applications.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().program.applications.len()
    }

    /// Fails with the first error that a rule met.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.state.borrow().failure.clone().map_or(Ok(()), Err)
    }

    /// A copy of the applications that some slots need.
    pub(crate) fn part(&self, wanted: &[usize]) -> Program {
        let program = &self.state.borrow().program;
        let needed = exec::needed(program, wanted);
        let applications = program.applications.iter().zip(needed);
        let applications: Vec<Application> =
            applications.filter(|&(_, needed)| needed).map(|(one, _)| one.clone()).collect();
        let mut read = vec![false; program.avals.len()];
        let inputs = applications.iter().flat_map(|application| &application.inputs);
        inputs.chain(wanted).for_each(|&slot| read[slot] = true);
        let operands = program.operands.iter().filter(|(slot, _)| read[*slot]).cloned().collect();
        Program { avals: program.avals.clone(), operands, applications }
    }

    /// Appends an application. Composites are replaced by what they stand for.
    pub fn apply<'g>(
        &'g self,
        op: &'static OpDef,
        attrs: Attrs,
        inputs: &[Var<'g>],
    ) -> Result<Vars<'g>, Error> {
        let avals: Avals = inputs.iter().map(|x| x.aval()).collect();
        let (outputs, cost) = exec::price(op, &attrs, &avals)?;
        if let Kernel::Composite(expand) = op.kernel {
            let rule = Rule { attrs: &attrs, x: inputs.into(), y: smallvec![], needs: smallvec![] };
            return Ok(self.expand(expand, &rule));
        }
        let mut state = self.state.borrow_mut();
        state.weight = state.weight.saturating_add(attrs.weight());
        if state.program.applications.len().saturating_add(state.weight) >= MAX_APPLICATIONS {
            return Err(Error::TooMany { what: "ops in one command", limit: MAX_APPLICATIONS });
        }
        let outputs: SmallVec<[usize; 1]> =
            outputs.into_iter().map(|aval| state.slot(aval)).collect();
        let vars = outputs.iter().map(|&slot| Var { graph: self, slot }).collect();
        let inputs = inputs.iter().map(|x| x.slot).collect();
        state.program.applications.push(Application {
            op,
            attrs,
            inputs,
            outputs,
            workspace: cost.workspace,
        });
        Ok(vars)
    }

    /// Writes a composite's expansion. The rule's attributes outlive the call only as long as the expansion runs, so
    /// the variables are handed on by slot.
    fn expand<'g>(
        &'g self,
        expand: for<'r> fn(&Rule<'r>) -> Vars<'r>,
        rule: &Rule<'_>,
    ) -> Vars<'g> {
        expand(rule).iter().map(|var| Var { graph: self, slot: var.slot }).collect()
    }

    /// The slots that hold values from outside.
    pub(crate) fn operand_slots(&self) -> HashSet<usize> {
        self.state.borrow().program.operands.iter().map(|&(slot, _)| slot).collect()
    }

    /// The value in a slot.
    pub(crate) fn var(&self, slot: usize) -> Var<'_> {
        Var { graph: self, slot }
    }

    /// Lets the graph fail, on behalf of a rule.
    pub(crate) fn fail(&self, error: Error) {
        self.state.borrow_mut().failure.get_or_insert(error);
    }

    /// The program, or the first error that a rule met.
    pub fn finish(self) -> Result<Program, Error> {
        let state = self.state.into_inner();
        state.failure.map_or(Ok(state.program), Err)
    }

    /// A constant of the given abstract value.
    pub fn full(&self, aval: &Aval, value: f64) -> Var<'_> {
        let attrs = ops::Full { shape: aval.shape.to_i64(), dtype: aval.dtype, value };
        self.emit(&ops::FULL, attrs.write(), &[])
    }

    /// A scalar constant.
    pub fn scalar(&self, dtype: DType, value: f64) -> Var<'_> {
        self.full(&Aval::scalar(dtype), value)
    }

    /// The numbers from 0 up to but not including `count`, of dtype `int64`.
    pub fn positions(&self, count: usize) -> Var<'_> {
        #[expect(clippy::cast_precision_loss, reason = "tensors are far shorter than 2^52")]
        let limit = count as f64;
        let attrs = ops::Range { start: 0.0, limit, delta: 1.0, dtype: DType::I64 };
        self.emit(&ops::RANGE, attrs.write(), &[])
    }

    /// Appends an application on behalf of a rule: an error sticks, and something stands in for the result.
    fn emit<'g>(&'g self, op: &'static OpDef, attrs: Attrs, inputs: &[Var<'g>]) -> Var<'g> {
        self.emit_all(op, attrs, inputs)[0]
    }

    pub(crate) fn emit_all<'g>(
        &'g self,
        op: &'static OpDef,
        attrs: Attrs,
        inputs: &[Var<'g>],
    ) -> Vars<'g> {
        let failed = self.state.borrow().failure.is_some();
        let given = attrs.clone();
        let result =
            if failed { Err(Error::bug("after a failure")) } else { self.apply(op, attrs, inputs) };
        result.unwrap_or_else(|error| {
            let stand_ins = stand_ins(op, &given, inputs);
            let mut state = self.state.borrow_mut();
            state.failure.get_or_insert(error);
            stand_ins.into_iter().map(|aval| Var { graph: self, slot: state.slot(aval) }).collect()
        })
    }
}

/// What stands in for results that there are not. A rule goes on after a failure and looks at shapes, so these are the
/// ones that it expects, unless it was the shape that failed.
fn stand_ins(op: &'static OpDef, attrs: &Attrs, inputs: &[Var<'_>]) -> Avals {
    let inputs: Avals = inputs.iter().map(|x| x.aval()).collect();
    let can_be =
        |aval: &Aval| matches!(aval.shape.check(), Ok(()) | Err(Error::TensorTooLarge { .. }));
    match (op.infer)(&Call { op, attrs, inputs: &inputs }) {
        Ok(outputs) if outputs.iter().all(can_be) => outputs,
        Ok(_) | Err(_) => smallvec![Aval::scalar(DType::F32); op.outputs.len().max(1)],
    }
}

impl State {
    fn slot(&mut self, aval: Aval) -> usize {
        self.program.avals.push(aval);
        self.program.avals.len() - 1
    }
}

// === impl Var: the language that rules are written in ===

impl<'g> Var<'g> {
    /// The graph that it belongs to.
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// Its number in the program.
    pub fn slot(self) -> usize {
        self.slot
    }

    /// Its dtype and shape.
    pub fn aval(self) -> Aval {
        self.graph.state.borrow().program.avals[self.slot].clone()
    }

    /// Its dtype.
    pub fn dtype(self) -> DType {
        self.graph.state.borrow().program.avals[self.slot].dtype
    }

    /// Its shape.
    pub fn shape(self) -> Shape {
        self.aval().shape
    }

    /// Applies an op to this value and others.
    pub fn op(self, op: &'static OpDef, attrs: Attrs, others: &[Self]) -> Self {
        self.op_all(op, attrs, others)[0]
    }

    /// Applies an op of several outputs to this value and others.
    pub fn op_all(self, op: &'static OpDef, attrs: Attrs, others: &[Self]) -> Vars<'g> {
        let inputs: Vars = std::iter::once(self).chain(others.iter().copied()).collect();
        self.graph.emit_all(op, attrs, &inputs)
    }

    /// Applies an op without attributes to this value.
    pub fn map(self, op: &'static OpDef) -> Self {
        self.op(op, Attrs::default(), &[])
    }

    /// Applies an op without attributes to this value and another.
    pub fn zip(self, op: &'static OpDef, other: Self) -> Self {
        self.op(op, Attrs::default(), &[other])
    }

    /// A constant of this value's dtype and shape.
    pub fn full_like(self, value: f64) -> Self {
        self.graph.full(&self.aval(), value)
    }

    /// A scalar of this value's dtype.
    pub fn scalar(self, value: f64) -> Self {
        self.graph.scalar(self.dtype(), value)
    }

    /// Ones of this value's dtype and shape.
    pub fn ones(self) -> Self {
        self.full_like(1.0)
    }

    /// Zeros of this value's dtype and shape.
    pub fn zeros(self) -> Self {
        self.full_like(0.0)
    }

    /// Sum over axes, kept with extent one.
    pub fn sum_keep(self, axes: &[usize]) -> Self {
        self.reduce(&ops::REDUCE_SUM, axes, true)
    }

    /// Applies a reduction. No axes means none here, unlike on the wire.
    pub fn reduce(self, op: &'static OpDef, axes: &[usize], keepdims: bool) -> Self {
        if axes.is_empty() {
            return self;
        }
        let axis = Shape::from(axes).to_i64();
        self.op(op, ops::Reduce { axis, keepdims }.write(), &[])
    }

    /// The same elements in another shape of as many.
    pub fn reshape(self, shape: &Shape) -> Self {
        if self.shape() == *shape {
            return self;
        }
        self.op(&ops::RESHAPE, ops::ToShape { shape: shape.to_i64() }.write(), &[])
    }

    /// Broadcast to a larger shape.
    pub fn broadcast_to(self, shape: &Shape) -> Self {
        if self.shape() == *shape {
            return self;
        }
        self.op(&ops::BROADCAST_TO, ops::ToShape { shape: shape.to_i64() }.write(), &[])
    }

    /// Sums out whatever broadcasting from `shape` added, so that the result has `shape`.
    pub fn sum_to(self, shape: &Shape) -> Self {
        let from = self.shape();
        if from == *shape {
            return self;
        }
        let Some(lead) = from.len().checked_sub(shape.len()) else { return self.reshape(shape) };
        let axes: SmallVec<[usize; 8]> = (0..from.len())
            .filter(|&i| i < lead || (shape[i - lead] == 1 && from[i] != 1))
            .collect();
        self.sum_keep(&axes).reshape(shape)
    }

    /// Converts to another dtype.
    pub fn cast(self, dtype: DType) -> Self {
        if self.dtype() == dtype {
            return self;
        }
        self.op(&ops::CAST, ops::ToDType { dtype }.write(), &[])
    }

    /// Matrix product.
    pub fn matmul(self, other: Self, transpose_a: bool, transpose_b: bool) -> Self {
        let attrs = ops::MatMul { transpose_a, transpose_b };
        self.op(&ops::MATMUL, attrs.write(), &[other])
    }

    /// `self` where the condition holds, else `other`.
    pub fn select(self, condition: Self, other: Self) -> Self {
        condition.op(&ops::WHERE, Attrs::default(), &[self, other])
    }
}

impl Neg for Var<'_> {
    type Output = Self;

    fn neg(self) -> Self {
        self.map(&ops::NEGATIVE)
    }
}

macro_rules! operator {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        impl $trait for Var<'_> {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                self.zip(&ops::$op, other)
            }
        }

        impl $trait<f64> for Var<'_> {
            type Output = Self;

            fn $method(self, other: f64) -> Self {
                let other = self.scalar(other);
                self.zip(&ops::$op, other)
            }
        }
    )*};
}

operator! { Add add ADD; Sub sub SUBTRACT; Mul mul MULTIPLY; Div div DIVIDE; }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_for_a_failure_has_its_shape() {
        let graph = Graph::default();
        let shape = {
            let one_of = |shape: [usize; 2]| graph.parameter(Aval::new(DType::F32, shape));
            let sum = one_of([1 << 20, 1]) + one_of([1, 1 << 20]);
            sum.map(&ops::EXP).shape()
        };
        assert_eq!(shape, [1 << 20, 1 << 20].into());
        let error = graph.finish().unwrap_err();
        assert!(matches!(error, Error::TensorTooLarge { .. }), "{error}");
    }
}
