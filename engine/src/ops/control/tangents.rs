//! What forward mode carries beside the values of loops and scans.

use super::{Control, avals_of, differentiable};
use crate::{aval::Aval, control::Body, error::Error, graph::Var};

/// The operands of a loop or scan beside their tangents: carries and theirs, constants and theirs, stacks and theirs.
pub(super) struct Moved<'g> {
    pub(super) operands: Vec<Var<'g>>,
    /// How many of the first operands are whole, and not slice after slice.
    steady: usize,
    counts: [usize; 3],
    pub(super) carries: Vec<usize>,
    pub(super) constants: Vec<usize>,
    stacks: Vec<usize>,
}

impl<'g> Moved<'g> {
    pub(super) fn new(control: &Control, x: &[Var<'g>], t: &[Option<Var<'g>>]) -> Self {
        let steady = control.carries + control.constants;
        let (c, k, s) = (&x[..control.carries], &x[control.carries..steady], &x[steady..]);
        // What is carried moves if anything does.
        let carries = differentiable(&avals_of(c));
        let moving = |from: usize, count: usize| -> Vec<usize> {
            (0..count).filter(|i| t[from + i].is_some()).collect()
        };
        let constants = moving(control.carries, k.len());
        let stacks = moving(steady, s.len());
        let tangent = |i: usize| t[i].unwrap_or_else(|| x[i].zeros());
        let mut operands = c.to_vec();
        operands.extend(carries.iter().map(|&i| tangent(i)));
        operands.extend(k);
        operands.extend(constants.iter().map(|&i| tangent(control.carries + i)));
        let whole = operands.len();
        operands.extend(s);
        operands.extend(stacks.iter().map(|&i| tangent(steady + i)));
        let counts = [c.len(), k.len(), s.len()];
        Self { operands, steady: whole, counts, carries, constants, stacks }
    }

    /// What a body takes.
    pub(super) fn avals(&self) -> Vec<Aval> {
        let whole = self.operands.iter().take(self.steady).map(|var| var.aval());
        let slices = self.operands.iter().skip(self.steady).map(|var| {
            let Aval { dtype, shape } = var.aval();
            Aval { dtype, shape: shape[1..].into() }
        });
        whole.chain(slices).collect()
    }

    /// A body's parameters as those of the original body, and their tangents.
    pub(super) fn split<'b>(&self, vars: &[Var<'b>]) -> (Vec<Var<'b>>, Vec<Option<Var<'b>>>) {
        let (mut x, mut t) = (Vec::new(), Vec::new());
        let mut rest = vars;
        for (count, moving) in
            self.counts.into_iter().zip([&self.carries, &self.constants, &self.stacks])
        {
            let (values, after) = rest.split_at(count);
            let (tangents, after) = after.split_at(moving.len());
            let mut of = vec![None; count];
            moving.iter().zip(tangents).for_each(|(&i, &tangent)| of[i] = Some(tangent));
            x.extend(values);
            t.extend(of);
            rest = after;
        }
        (x, t)
    }

    /// A body beside its derivative: carries, their tangents, slices, theirs.
    pub(super) fn body(&self, body: &Body) -> Result<Body, Error> {
        let carries = self.counts[0];
        Body::write(&self.avals(), |graph, vars| {
            let (x, t) = self.split(vars);
            let (y, tangents) = body.push_forward(graph, &x, &t);
            let (carried, slices) = y.split_at(carries);
            let (moved, others) = tangents.split_at(self.carries.len());
            [carried, moved, slices, others].concat()
        })
    }
}
