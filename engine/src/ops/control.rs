//! Control flow: branches, loops and scans, each one op that runs bodies.
//!
//! They are not in the catalogue, since a body cannot be an attribute on the wire: commands make them of functions. A rule
//! here writes control flow again, of bodies that are the derivatives of the bodies: the gradient of a scan is a scan backwards
//! over the carries that the forward one had, which are computed again, and the gradient of a loop is that of as many steps as
//! it may have at most.

use std::sync::Arc;

use smallvec::smallvec;

use crate::{
    array::Tensor,
    attrs::{Attr, Attrs},
    aval::{Aval, Avals},
    compute,
    control::{Bodies, Body},
    dtype::{DType, DTypes},
    error::Error,
    exec::{MAX_FLOPS, Tensors},
    graph::{Graph, Var},
    ledger::Ledger,
    op::{Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars},
    ops::{IDENTITY, family},
};

/// What each iteration costs beside its arithmetic, in operations: so a loop whose body does nothing ends, too.
const ITERATION: u64 = 500_000;

/// Attributes of the three ops.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    /// What is run.
    pub(crate) bodies: Bodies,
    /// How many of the operands are carried from one iteration to the next.
    pub(crate) carries: usize,
    /// How many are the same in each iteration.
    pub(crate) constants: usize,
    /// Most iterations of a loop, if there is a limit; those of a scan.
    pub(crate) length: Option<usize>,
    /// Whether a scan goes from the last slice to the first.
    pub(crate) reverse: bool,
}

impl Control {
    /// As attributes.
    pub(crate) fn write(self) -> Attrs {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let length = self.length.map_or(-1, number);
        let numbers = [number(self.carries), number(self.constants), length];
        Attrs::from_values([
            Attr::Bodies(self.bodies),
            Attr::Ints(numbers.into_iter().collect()),
            Attr::Bool(self.reverse),
        ])
    }

    /// From attributes.
    ///
    /// # Errors
    ///
    /// Only these ops have such attributes.
    pub(crate) fn read(attrs: &Attrs) -> Result<Self, Error> {
        let [Attr::Bodies(bodies), Attr::Ints(numbers), Attr::Bool(reverse)] = attrs.values()
        else {
            return Err(Error::bug("control flow without bodies"));
        };
        let number = |i: usize| numbers.get(i).and_then(|&n| usize::try_from(n).ok());
        Ok(Self {
            bodies: bodies.clone(),
            carries: number(0).unwrap_or(0),
            constants: number(1).unwrap_or(0),
            length: number(2),
            reverse: *reverse,
        })
    }
}

const fn control(
    name: &'static str,
    inputs: &'static [&'static str],
    summary: &'static str,
    formula: &'static str,
) -> OpDef {
    OpDef {
        family: "control",
        inputs,
        variadic: true,
        outputs: &["results"],
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, Kernel::Alias, Derivative::None)
    }
}

fn misfit(what: &str) -> Error {
    Error::Malformed { what: "a body".into(), why: what.into() }
}

fn fits(given: &[Aval], expected: &[Aval], what: &str) -> Result<(), Error> {
    if given == expected { Ok(()) } else { Err(misfit(what)) }
}

/// Positions of the values that can have a derivative.
fn differentiable<'a>(avals: impl IntoIterator<Item = &'a Aval>) -> Vec<usize> {
    let numbered = avals.into_iter().enumerate();
    numbered.filter(|(_, aval)| aval.dtype.is_differentiable()).map(|(i, _)| i).collect()
}

fn pick<'g>(vars: &[Var<'g>], positions: &[usize]) -> Vec<Var<'g>> {
    positions.iter().map(|&i| vars[i]).collect()
}

/// A rule's result, or the reason why there is none, which sticks to the graph.
fn or_fail<'g, R: Default>(graph: &'g Graph, result: Result<R, Error>) -> R {
    result.unwrap_or_else(|error| {
        graph.fail(error);
        R::default()
    })
}

fn avals_of(vars: &[Var]) -> Vec<Aval> {
    vars.iter().map(|var| var.aval()).collect()
}

// --- branches ---

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

/// The number in a scalar.
fn number(tensor: &Tensor) -> Result<i64, Error> {
    use crate::array::Array;
    let first = match tensor.array() {
        Array::Bool(a) => a.first().map(|&x| i64::from(x)),
        Array::I32(a) => a.first().map(|&x| x.into()),
        Array::I64(a) => a.first().copied(),
        _ => None,
    };
    first.ok_or_else(|| Error::bug("an index that is no number"))
}

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

fn branch<'g>(index: Var<'g>, bodies: Bodies, operands: &[Var<'g>]) -> Vars<'g> {
    if bodies[0].results().is_empty() {
        return Vars::new();
    }
    let control = Control { bodies, carries: 0, constants: 0, length: None, reverse: false };
    index.op_all(&BRANCH, control.write(), operands)
}

/// Tangents for all outputs, from those of the differentiable ones.
fn beside<'g>(y: &[Var<'g>], tangents: impl IntoIterator<Item = Var<'g>>) -> Vars<'g> {
    let mut tangents = tangents.into_iter();
    let mut of = |y: &Var<'g>| if y.dtype().is_differentiable() { tangents.next() } else { None };
    y.iter().map(|y| of(y).unwrap_or_else(|| y.zeros())).collect()
}

// --- loops ---

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
        let each = bodies.iter().map(Body::flops).fold(ITERATION, u64::saturating_add);
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
            if length.is_none() && spent > MAX_FLOPS {
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
        scan_pull(&control, &r.x, ct)
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

fn apply<'g>(op: &'static OpDef, control: Control, operands: &[Var<'g>]) -> Vars<'g> {
    operands[0].op_all(op, control.write(), &operands[1..])
}

// --- scans ---

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
            flops: bodies[0].flops().saturating_mul(length.unwrap_or(0) as u64),
            // Slices of the results until they are one tensor.
            workspace: bodies[0].peak().saturating_add(stacks),
        }
    },
    kernel: Kernel::Control(scan),
    derivative: Derivative::Custom {
        reads: Reads::X,
        vjp: |r, ct| {
            let pulled = Control::read(r.attrs).and_then(|control| scan_pull(&control, &r.x, ct));
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
        let mut bytes = crate::array::buffer(size)?;
        let each =
            |slice: &Tensor| slice.array().as_bytes().map(|slice| bytes.extend_from_slice(slice));
        if reverse {
            slices.iter().rev().try_for_each(each)?
        } else {
            slices.iter().try_for_each(each)?
        }
        drop(slices);
        outputs.push(Tensor::from_bytes(ledger, &aval, &bytes)?);
    }
    Ok(outputs)
}

/// The cotangents of a scan's operands: the carries of each step are computed again, and then a scan goes the other way.
fn scan_pull<'g>(
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

/// The operands of a loop or scan beside their tangents: carries and theirs, constants and theirs, stacks and theirs.
struct Moved<'g> {
    operands: Vec<Var<'g>>,
    /// How many of the first operands are whole, and not slice after slice.
    steady: usize,
    counts: [usize; 3],
    carries: Vec<usize>,
    constants: Vec<usize>,
    stacks: Vec<usize>,
}

impl<'g> Moved<'g> {
    fn new(control: &Control, x: &[Var<'g>], t: &[Option<Var<'g>>]) -> Self {
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
    fn avals(&self) -> Vec<Aval> {
        let whole = self.operands.iter().take(self.steady).map(|var| var.aval());
        let slices = self.operands.iter().skip(self.steady).map(|var| {
            let Aval { dtype, shape } = var.aval();
            Aval { dtype, shape: shape[1..].into() }
        });
        whole.chain(slices).collect()
    }

    /// A body's parameters as those of the original body, and their tangents.
    fn split<'b>(&self, vars: &[Var<'b>]) -> (Vec<Var<'b>>, Vec<Option<Var<'b>>>) {
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
    fn body(&self, body: &Body) -> Result<Body, Error> {
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
