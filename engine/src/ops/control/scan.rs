//! Scans: a body on slice after slice.

use std::sync::Arc;

use smallvec::smallvec;

use super::{
    Control, apply, avals_of, beside, control, differentiable, fits, misfit, or_fail, pick,
    repeat::ITERATION, tangents::Moved,
};
use crate::{
    array::{Tensor, buffer},
    aval::{Aval, Avals},
    compute,
    control::{Bodies, Body},
    error::Error,
    exec::Tensors,
    graph::Var,
    ledger::Ledger,
    op::{Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars},
    ops::IDENTITY,
};

/// A body on each slice of tensors along their first axis, with values that are carried from one to the next.
pub(crate) static SCAN: OpDef = OpDef {
    count: Some(|attrs| {
        Control::read(attrs).map_or(0, |control| control.bodies[0].results().len())
    }),
    infer: |call| {
        let Control { bodies, carries, constants, length, .. } = Control::read(call.attrs)?;
        let body = &bodies[0];
        let length = length.unwrap_or(0);
        let (steady, stacks) = call
            .inputs
            .split_at_checked(carries + constants)
            .ok_or_else(|| misfit("takes more operands"))?;
        let mut expected: Avals = steady.into();
        for stack in stacks {
            if stack.shape.first() != Some(&length) {
                return Err(misfit("goes over tensors of one first extent"));
            }
            expected.push(Aval { dtype: stack.dtype, shape: stack.shape[1..].into() });
        }
        fits(&expected, body.parameters(), "takes other operands")?;
        let (carried, slices) = body
            .results()
            .split_at_checked(carries)
            .ok_or_else(|| misfit("must give what it is given"))?;
        fits(&steady[..carries], carried, "must give what it is given")?;
        let stacked = slices.iter().map(|Aval { dtype, shape }| {
            let shape = std::iter::once(length).chain(shape.iter().copied()).collect();
            Aval { dtype: *dtype, shape }
        });
        Ok(carried.iter().cloned().chain(stacked).collect())
    },
    cost: |call, out| {
        let Ok(Control { bodies, length, .. }) = Control::read(call.attrs) else {
            return Cost::default();
        };
        let stacks: u64 = out.iter().map(Aval::bytes).fold(0, u64::saturating_add);
        Cost {
            flops: bodies[0].flops().max(ITERATION).saturating_mul(length.unwrap_or(0) as u64),
            // Slices of the results, and their bytes, until they are one tensor.
            workspace: bodies[0].peak().saturating_add(stacks.saturating_mul(2)),
        }
    },
    kernel: Kernel::Control(scan),
    derivative: Derivative::Custom {
        reads: Reads::X,
        vjp: |r, ct| {
            let pulled = Control::read(r.attrs).and_then(|control| pull(&control, &r.x, ct));
            or_fail(r.x[0].graph(), pulled)
        },
        jvp: scan_jvp,
    },
    ..control(
        "scan",
        &["operands"],
        "Runs a body on slice after slice.",
        "carry, y[i] = body(carry, x[i])",
    )
};

fn scan(call: &Call, inputs: &[&Tensor], ledger: &Arc<Ledger>) -> Result<Tensors, Error> {
    let Control { bodies, carries, constants, length, reverse } = Control::read(call.attrs)?;
    let (body, length) = (&bodies[0], length.unwrap_or(0));
    let steady = carries + constants;
    let mut operands: Vec<Tensor> = inputs.iter().map(|&tensor| tensor.clone()).collect();
    let stacks = operands.split_off(steady);
    let mut slices: Vec<Vec<Tensor>> = vec![Vec::new(); body.results().len() - carries];
    for i in 0..length {
        compute::check()?;
        let at = if reverse { length - 1 - i } else { i };
        operands.truncate(steady);
        for (stack, aval) in stacks.iter().zip(&body.parameters()[steady..]) {
            let size = usize::try_from(aval.bytes()).unwrap_or(usize::MAX);
            let bytes = &stack.array().as_bytes()?[at * size..(at + 1) * size];
            operands.push(Tensor::from_bytes(ledger, aval, bytes)?);
        }
        let mut results = body.run(ledger, &operands)?.into_iter();
        for (operand, carried) in operands.iter_mut().zip(results.by_ref().take(carries)) {
            *operand = carried;
        }
        slices.iter_mut().zip(results).for_each(|(slices, slice)| slices.push(slice));
    }
    operands.truncate(carries);
    let mut outputs: Tensors = operands.into();
    for (slices, aval) in slices.into_iter().zip(&body.results()[carries..]) {
        let shape = std::iter::once(length).chain(aval.shape.iter().copied()).collect();
        let aval = Aval { dtype: aval.dtype, shape };
        let size = usize::try_from(aval.bytes()).unwrap_or(usize::MAX);
        // Beside the slices and the result.
        let _room = ledger.reserve(aval.bytes())?;
        let mut bytes = buffer(size)?;
        let each =
            |slice: &Tensor| slice.array().as_bytes().map(|slice| bytes.extend_from_slice(slice));
        if reverse {
            slices.iter().rev().try_for_each(each)?;
        } else {
            slices.iter().try_for_each(each)?;
        }
        drop(slices);
        outputs.push(Tensor::from_bytes(ledger, &aval, &bytes)?);
    }
    Ok(outputs)
}

/// The cotangents of a scan's operands: the carries of each step are computed again, and then a scan goes the other way.
pub(super) fn pull<'g>(
    control: &Control,
    x: &[Var<'g>],
    ct: &[Var<'g>],
) -> Result<Cotangents<'g>, Error> {
    let Control { bodies, carries, constants, length, reverse } = control;
    let (body, carries, constants) = (&bodies[0], *carries, *constants);
    let steady = carries + constants;
    let parameters = body.parameters();
    let recorded = Body::write(parameters, |graph, vars| {
        let mut results = body.call(graph, vars);
        results.truncate(carries);
        results.extend(vars[..carries].iter().map(|var| var.map(&IDENTITY)));
        results
    })?;
    let again = Control { bodies: Bodies::new([recorded]), ..control.clone() };
    let history = if carries > 0 { apply(&SCAN, again, x)[carries..].to_vec() } else { Vec::new() };

    let moved_carries = differentiable(&parameters[..carries]);
    let moved_constants: Vec<usize> =
        differentiable(&parameters[carries..steady]).into_iter().map(|i| carries + i).collect();
    let moved_stacks: Vec<usize> =
        differentiable(&parameters[steady..]).into_iter().map(|i| steady + i).collect();
    let wanted = [&moved_carries[..], &moved_constants, &moved_stacks].concat();
    let results = differentiable(body.results());
    let seeds: Vec<usize> = results.iter().copied().filter(|&i| i >= carries).collect();

    let sums = pick(x, &moved_constants).into_iter().map(Var::zeros).collect::<Vec<_>>();
    let flowing = [pick(ct, &moved_carries), sums].concat();
    let operands =
        [&flowing[..], &x[carries..steady], &history, &x[steady..], &pick(ct, &seeds)].concat();
    let slice = |var: &Var| {
        let Aval { dtype, shape } = var.aval();
        Aval { dtype, shape: shape[1..].into() }
    };
    let held = flowing.len() + constants;
    let mut avals = avals_of(&operands[..held]);
    avals.extend(operands[held..].iter().map(slice));
    let backwards = Body::write(&avals, |graph, vars| {
        let (flowing, rest) = vars.split_at(flowing.len());
        let (flows, sums) = flowing.split_at(moved_carries.len());
        let (constants, rest) = rest.split_at(constants);
        let (carried, rest) = rest.split_at(carries);
        let (slices, seeds) = rest.split_at(parameters.len() - steady);
        let arguments = [carried, constants, slices].concat();
        let mut found = body.pull_back(graph, &arguments, &[flows, seeds].concat(), &wanted);
        let behind = found.iter_mut().skip(moved_carries.len());
        behind.zip(sums).for_each(|(found, &sum)| *found = sum + *found);
        found
    })?;
    let control = Control {
        bodies: Bodies::new([backwards]),
        carries: flowing.len(),
        constants,
        length: *length,
        reverse: !reverse,
    };
    let mut found: Cotangents = smallvec![None; x.len()];
    if operands.is_empty() || wanted.is_empty() {
        return Ok(found);
    }
    for (i, flow) in wanted.into_iter().zip(apply(&SCAN, control, &operands)) {
        found[i] = Some(flow.into());
    }
    Ok(found)
}

fn scan_jvp<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let graph = r.x[0].graph();
    let result = || -> Result<Vars<'g>, Error> {
        let control = Control::read(r.attrs)?;
        let moved = Moved::new(&control, &r.x, t);
        let body = moved.body(&control.bodies[0])?;
        let carries = control.carries + moved.carries.len();
        let constants = control.constants + moved.constants.len();
        let bodies = Bodies::new([body]);
        let outputs = apply(
            &SCAN,
            Control { bodies, carries, constants, ..control.clone() },
            &moved.operands,
        );
        let slices = control.bodies[0].results().len() - control.carries;
        let (carried, stacked) = outputs.split_at(carries);
        let tangents = carried.iter().skip(control.carries).chain(stacked.iter().skip(slices));
        Ok(beside(&r.y, tangents.copied()))
    };
    or_fail(graph, result())
}
