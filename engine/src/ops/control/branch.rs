//! Branches: one of several bodies.

use smallvec::smallvec;

use super::{
    Control, avals_of, beside, control, differentiable, fits, misfit, number, or_fail, pick,
};
use crate::{
    array::Tensor,
    control::{Bodies, Body},
    error::Error,
    graph::Var,
    op::{Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars},
};

/// One of several bodies, by a truth value (the second if it holds) or a number (the last, if there is no such).
pub(crate) static BRANCH: OpDef = OpDef {
    count: Some(|attrs| {
        Control::read(attrs).map_or(0, |control| control.bodies[0].results().len())
    }),
    infer: |call| {
        let bodies = Control::read(call.attrs)?.bodies;
        let (index, operands) = call.inputs.split_first().ok_or_else(|| misfit("has no index"))?;
        if !index.shape.is_empty() || index.dtype.is_float() {
            return Err(misfit("is chosen by a bool or integer scalar"));
        }
        for body in bodies.iter() {
            fits(operands, body.parameters(), "takes other operands")?;
            fits(bodies[0].results(), body.results(), "gives other results than the first")?;
        }
        Ok(bodies[0].results().into())
    },
    cost: |call, _| {
        let Ok(Control { bodies, .. }) = Control::read(call.attrs) else { return Cost::default() };
        Cost {
            flops: bodies.iter().map(Body::flops).max().unwrap_or(0),
            workspace: bodies.iter().map(Body::peak).max().unwrap_or(0),
        }
    },
    kernel: Kernel::Control(|call, inputs, ledger| {
        let bodies = Control::read(call.attrs)?.bodies;
        let operands: Vec<Tensor> = inputs[1..].iter().map(|&tensor| tensor.clone()).collect();
        let last = bodies.len() - 1;
        let chosen = usize::try_from(number(inputs[0])?).map_or(last, |index| index.min(last));
        Ok(bodies[chosen].run(ledger, &operands)?.into())
    }),
    derivative: Derivative::Custom { reads: Reads::X, vjp: branch_vjp, jvp: branch_jvp },
    ..control(
        "branch",
        &["index", "operands"],
        "Runs one of several bodies.",
        "y = bodies[index](operands)",
    )
};

fn branch_vjp<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let graph = r.x[0].graph();
    let result = || -> Result<Cotangents<'g>, Error> {
        let Control { bodies, .. } = Control::read(r.attrs)?;
        let wanted = differentiable(bodies[0].parameters());
        let seeds = pick(ct, &differentiable(bodies[0].results()));
        let count = r.x.len() - 1;
        let parameters = avals_of(&[&r.x[1..], &seeds].concat());
        let pulled = bodies.iter().map(|body| {
            Body::write(&parameters, |graph, vars| {
                body.pull_back(graph, &vars[..count], &vars[count..], &wanted)
            })
        });
        let bodies = Bodies::new(pulled.collect::<Result<Vec<_>, _>>()?);
        let flows = branch(r.x[0], bodies, &[&r.x[1..], &seeds].concat());
        let mut found: Cotangents = smallvec![None; r.x.len()];
        for (i, flow) in wanted.into_iter().zip(flows) {
            found[1 + i] = Some(flow.into());
        }
        Ok(found)
    };
    or_fail(graph, result())
}

fn branch_jvp<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let graph = r.x[0].graph();
    let result = || -> Result<Vars<'g>, Error> {
        let Control { bodies, .. } = Control::read(r.attrs)?;
        let moving: Vec<usize> = (1..t.len()).filter(|&i| t[i].is_some()).map(|i| i - 1).collect();
        let count = r.x.len() - 1;
        let tangents: Vec<Var> = t[1..].iter().copied().flatten().collect();
        let operands = [&r.x[1..], &tangents].concat();
        let pushed = bodies.iter().map(|body| {
            Body::write(&avals_of(&operands), |graph, vars| {
                let mut tangents = vec![None; count];
                moving.iter().zip(&vars[count..]).for_each(|(&i, &t)| tangents[i] = Some(t));
                body.push_forward(graph, &vars[..count], &tangents).1
            })
        });
        let bodies = Bodies::new(pushed.collect::<Result<Vec<_>, _>>()?);
        Ok(beside(&r.y, branch(r.x[0], bodies, &operands)))
    };
    or_fail(graph, result())
}

pub(super) fn branch<'g>(index: Var<'g>, bodies: Bodies, operands: &[Var<'g>]) -> Vars<'g> {
    if bodies[0].results().is_empty() {
        return Vars::new();
    }
    let control = Control { bodies, carries: 0, constants: 0, length: None, reverse: false };
    index.op_all(&BRANCH, control.write(), operands)
}
