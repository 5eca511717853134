//! Loops: a body for as long as a condition holds.

use super::{
    Control, apply, beside, branch::branch, control, fits, misfit, number, or_fail, scan::pull,
    tangents::Moved,
};
use crate::{
    array::Tensor,
    aval::Aval,
    compute,
    control::{Bodies, Body},
    dtype::DType,
    error::Error,
    exec::MAX_FLOPS,
    graph::Var,
    op::{Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars},
    ops::IDENTITY,
};

/// What an iteration costs at least, in operations: so a loop whose body does nothing ends, too, however often it may run.
pub(super) const ITERATION: u64 = 500_000;

/// A loop: the second body on what is carried, for as long as the first says so, or as often as it may.
pub(crate) static WHILE: OpDef = OpDef {
    count: Some(|attrs| Control::read(attrs).map_or(0, |control| control.carries)),
    infer: |call| {
        let Control { bodies, carries, .. } = Control::read(call.attrs)?;
        let [condition, body] = &bodies[..] else { return Err(misfit("is missing")) };
        fits(call.inputs, condition.parameters(), "takes other operands")?;
        fits(call.inputs, body.parameters(), "takes other operands")?;
        fits(&[Aval::scalar(DType::Bool)], condition.results(), "must give a bool scalar")?;
        fits(&call.inputs[..carries], body.results(), "must give what it is given")?;
        Ok(call.inputs[..carries].into())
    },
    cost: |call, _| {
        let Ok(Control { bodies, length, .. }) = Control::read(call.attrs) else {
            return Cost::default();
        };
        let each = bodies.iter().map(Body::flops).fold(0, u64::saturating_add);
        Cost {
            flops: each.saturating_mul(length.unwrap_or(1) as u64),
            workspace: bodies.iter().map(Body::peak).max().unwrap_or(0),
        }
    },
    kernel: Kernel::Control(|call, inputs, ledger| {
        let Control { bodies, carries, length, .. } = Control::read(call.attrs)?;
        let mut operands: Vec<Tensor> = inputs.iter().map(|&tensor| tensor.clone()).collect();
        let each = bodies.iter().map(Body::flops).fold(0, u64::saturating_add).max(ITERATION);
        let mut spent = 0_u64;
        let mut done = 0;
        while length.is_none_or(|length| done < length) {
            compute::check()?;
            let goes_on = bodies[0].run(ledger, &operands)?;
            if number(&goes_on[0])? == 0 {
                break;
            }
            let carried = bodies[1].run(ledger, &operands)?;
            operands[..carries].clone_from_slice(&carried);
            done += 1;
            spent = spent.saturating_add(each);
            if spent > MAX_FLOPS {
                return Err(Error::CostTooHigh { flops: spent, limit: MAX_FLOPS });
            }
        }
        operands.truncate(carries);
        Ok(operands.into())
    }),
    derivative: Derivative::Custom { reads: Reads::X, vjp: while_vjp, jvp: while_jvp },
    ..control(
        "while",
        &["operands"],
        "Runs a body for as long as a condition holds.",
        "while condition(y): y = body(y)",
    )
};

/// As many steps as there may be, of which those after the end leave everything as it is.
fn while_vjp<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let graph = r.x[0].graph();
    let result = || -> Result<Cotangents<'g>, Error> {
        let Control { bodies, carries, constants, length, .. } = Control::read(r.attrs)?;
        let Some(length) = length else {
            return Err(Error::Malformed {
                what: "maximum_iterations".into(),
                why: "a loop has a gradient only if it is given".into(),
            });
        };
        let parameters = bodies[0].parameters();
        let stays = Body::write(parameters, |_, vars| {
            vars[..carries].iter().map(|var| var.map(&IDENTITY)).collect()
        })?;
        let goes = Body::write(parameters, |graph, vars| bodies[1].call(graph, vars))?;
        let both = Bodies::new([stays, goes]);
        let step = Body::write(parameters, |graph, vars| {
            let goes_on = bodies[0].call(graph, vars)[0];
            branch(goes_on, both, vars).into_vec()
        })?;
        let bodies = Bodies::new([step]);
        let control = Control { bodies, carries, constants, length: Some(length), reverse: false };
        pull(&control, &r.x, ct)
    };
    or_fail(graph, result())
}

fn while_jvp<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let graph = r.x[0].graph();
    let result = || -> Result<Vars<'g>, Error> {
        let control = Control::read(r.attrs)?;
        let moved = Moved::new(&control, &r.x, t);
        let condition = Body::write(&moved.avals(), |graph, vars| {
            control.bodies[0].call(graph, &moved.split(vars).0)
        })?;
        let body = moved.body(&control.bodies[1])?;
        let carries = control.carries + moved.carries.len();
        let constants = control.constants + moved.constants.len();
        let bodies = Bodies::new([condition, body]);
        let outputs =
            apply(&WHILE, Control { bodies, carries, constants, ..control }, &moved.operands);
        Ok(beside(&r.y, outputs.into_iter().skip(control.carries)))
    };
    or_fail(graph, result())
}
