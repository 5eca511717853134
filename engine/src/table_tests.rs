//! Ring 1: everything here is generated from the op table; no test names an op.
//!
//! Each op is applied to each of its samples in each dtype that it takes, under a persistent tape of a session, so that
//! recording, saving, sweeping and running are the real ones.

mod samples;
mod stops;

use std::sync::Arc;

use hashbrown::HashSet;
use smallvec::smallvec;

use self::samples::direction;
pub(crate) use self::samples::{Values, attrs, dtype_of, each_sample, fill, numbers, tensor};
use crate::{
    array::Tensor,
    attrs::Attrs,
    aval::Aval,
    command::{Answer, Command, GradientInfo, GradientOutput, GradientRequest, Handle, Kind},
    dtype::DType,
    error::Error,
    exec,
    gradient::{Source, Target, gradient},
    graph::{Value, ValueId},
    jvp::jvp,
    ledger::Ledger,
    op::{Derivative, Fill, Kernel, OpDef, Sample},
    ops,
    random::State,
    session::Session,
};

const TAPE: Handle = 1_000_000;

/// A session with one application of an op under a tape.
struct Applied {
    session: Session,
    sequence: u64,
    next: Handle,
    inputs: Vec<Handle>,
    outputs: Vec<Handle>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Applied {
    fn new(op: &'static OpDef, sample: &Sample, dtype: DType, values: &Values) -> Self {
        let mut this = Self::empty();
        this.record(op, sample, dtype, values);
        this
    }

    /// A session with a tape that has recorded nothing yet.
    fn empty() -> Self {
        let session = Session::new(Ledger::new("test", 1 << 30));
        let mut this = Self { session, sequence: 0, next: 1, inputs: vec![], outputs: vec![] };
        let (persistent, watch_accessed_variables, paused) = (true, true, false);
        this.done(Kind::OpenTape { tape: TAPE, persistent, watch_accessed_variables, paused });
        this
    }

    /// Records one application of an op on an empty tape.
    fn record(&mut self, op: &'static OpDef, sample: &Sample, dtype: DType, values: &Values) {
        self.done(Kind::ResetTape { tape: TAPE });
        self.inputs = (0..sample.inputs.len())
            .map(|i| {
                let dtype = dtype_of(sample, i, dtype);
                self.constant(tensor(dtype, sample.inputs[i].shape, &values[i]))
            })
            .collect();
        self.done(Kind::WatchTape { tape: TAPE, values: self.inputs.clone() });
        let attrs = attrs(op, sample);
        let count = op.output_count(&attrs);
        self.outputs = (0..count).map(|_| self.handle()).collect();
        let (inputs, outputs) = (self.inputs.as_slice().into(), self.outputs.as_slice().into());
        self.done(Kind::Op { op, attrs, inputs, outputs });
    }

    fn handle(&mut self) -> Handle {
        self.next += 1;
        self.next
    }

    fn done(&mut self, kind: Kind) -> Answer {
        self.sequence += 1;
        let verb = kind.verb().to_owned();
        let outcome = self
            .session
            .apply(self.sequence, Command { kind, tag: "".into(), scope: 0, source: None });
        outcome.result.unwrap_or_else(|failure| panic!("{verb}: {}", failure.error))
    }

    fn constant(&mut self, value: Tensor) -> Handle {
        let output = self.handle();
        self.done(Kind::Constant { output, value });
        output
    }

    fn apply(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        let op = ops::find(name).unwrap();
        let output = self.handle();
        let attrs = Attrs::check(op.attrs, vec![]).unwrap();
        self.done(Kind::Op { op, attrs, inputs: inputs.into(), outputs: smallvec![output] });
        output
    }

    fn value(&self, handle: Handle) -> Tensor {
        self.session.peek(handle).unwrap()
    }

    /// The weighted sum of all differentiable outputs; none if there is no such output.
    fn loss(&mut self) -> Option<Handle> {
        let mut outputs = self.outputs.clone();
        outputs.retain(|&output| self.value(output).aval().dtype.is_differentiable());
        let terms: Vec<Handle> = outputs
            .into_iter()
            .map(|output| {
                let aval = self.value(output).aval();
                let weights: Vec<f64> = (0..aval.shape.elements() as u64)
                    .map(|i| State::new(9, 0).uniform(i) - 0.3)
                    .collect();
                let weights = self.constant(tensor(aval.dtype, &aval.shape, &weights));
                let product = self.apply("multiply", &[output, weights]);
                self.apply("reduce_sum", &[product])
            })
            .collect();
        terms.into_iter().reduce(|a, b| self.apply("add", &[a, b]))
    }

    fn differentiable_inputs(&self) -> Vec<Handle> {
        let float = |&input: &Handle| self.value(input).aval().dtype.is_differentiable();
        self.inputs.iter().copied().filter(float).collect()
    }

    /// Gradients of the loss, recorded on the same tape; `None` where absent.
    fn gradient(&mut self, target: Handle, sources: &[Handle]) -> Vec<Option<Handle>> {
        let outputs: Vec<_> = sources
            .iter()
            .map(|_| GradientOutput { gradient: self.handle(), indices: 0 })
            .collect();
        let request = GradientRequest {
            tape: TAPE,
            targets: vec![target],
            sources: sources.to_vec(),
            outputs: outputs.clone(),
            seeds: vec![],
            zero_unconnected: false,
            expected: vec![],
        };
        let Answer::Gradients(infos) = self.done(Kind::Gradient(request)) else {
            panic!("no gradients")
        };
        infos
            .iter()
            .zip(&outputs)
            .map(|(info, output)| matches!(info, GradientInfo::Dense(_)).then_some(output.gradient))
            .collect()
    }

    fn id(&mut self, handle: Handle) -> ValueId {
        self.session.identity(handle)
    }

    /// The tangents of targets along a direction of the inputs.
    fn tangents(
        &mut self,
        targets: &[Handle],
        direction: &[(Handle, Vec<f64>)],
    ) -> Vec<Option<Vec<f64>>> {
        let seeds: Vec<(ValueId, Value)> = direction
            .iter()
            .map(|(input, values)| {
                let aval = self.value(*input).aval();
                let value = Value {
                    id: ValueId(u64::MAX),
                    tensor: tensor(aval.dtype, &aval.shape, values),
                };
                (self.id(*input), value)
            })
            .collect();
        let targets: Vec<ValueId> = targets.iter().map(|&target| self.id(target)).collect();
        let (program, slots) = jvp(self.session.trace(TAPE), &targets, &seeds).unwrap();
        let wanted: Vec<usize> = slots.iter().copied().flatten().collect();
        let mut values = self.session.run_silently(program, &wanted).unwrap().into_iter();
        slots.iter().map(|slot| slot.map(|_| numbers(&values.next().unwrap().tensor))).collect()
    }
}

/// Inputs moved along a direction.
fn moved(values: &Values, direction: &Values, by: f64) -> Values {
    let along = |(x, d): (&Vec<f64>, &Vec<f64>)| x.iter().zip(d).map(|(x, d)| x + by * d).collect();
    values.iter().zip(direction).map(along).collect()
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn every_op_is_documented_sampled_and_uniquely_named() {
    let mut names = HashSet::new();
    for op in ops::ALL.iter() {
        assert!(names.insert(op.name), "{} is listed twice", op.name);
        assert!(
            !op.summary.is_empty() && !op.formula.is_empty() && !op.samples.is_empty(),
            "{}",
            op.name
        );
        assert!(op.attrs.iter().all(|attr| !attr.doc.is_empty()), "{}", op.name);
        assert!(std::ptr::eq(ops::find(op.name).unwrap(), *op), "{}", op.name);
        if let Derivative::Elementwise(partials) = op.derivative {
            assert_eq!(partials.len(), op.inputs.len(), "{}", op.name);
        }
    }
}

#[test]
fn inference_agrees_with_kernels_in_every_dtype() {
    each_sample(|op, sample| {
        let dtypes: Vec<DType> = match sample.inputs.first().map(|input| input.fill) {
            Some(Fill::Uniform(..) | Fill::Matrix { .. }) => op.dtypes.iter().collect(),
            _ => vec![DType::F32, DType::F64],
        };
        for dtype in dtypes {
            let applied = Applied::new(op, sample, dtype, &fill(sample, 1));
            let avals: Vec<Aval> =
                applied.inputs.iter().map(|&x| applied.value(x).aval()).collect();
            let inferred = exec::infer(op, &attrs(op, sample), &avals).unwrap();
            let made: Vec<Aval> =
                applied.outputs.iter().map(|&y| applied.value(y).aval()).collect();
            assert_eq!(inferred.to_vec(), made, "{} in {dtype}", op.name);
        }
    });
}

/// Derivatives of the loss along a direction of the inputs.
struct Slopes {
    /// First order, by reverse mode.
    reverse: f64,
    /// First order, by forward mode.
    forward: f64,
    /// Second order, by forward mode over reverse mode.
    second: f64,
}

/// The slopes of a sample, if anything of it can have a gradient.
fn slopes(
    op: &'static OpDef,
    sample: &Sample,
    dtype: DType,
    (x, dx): (&Values, &Values),
) -> Option<Slopes> {
    let mut applied = Applied::new(op, sample, dtype, x);
    let sources = applied.differentiable_inputs();
    let loss = applied.loss().filter(|_| !sources.is_empty())?;
    let gradients = applied.gradient(loss, &sources);
    let seeds: Vec<(Handle, Vec<f64>)> = applied
        .inputs
        .iter()
        .zip(dx)
        .filter(|(input, _)| sources.contains(input))
        .map(|(&input, dx)| (input, dx.clone()))
        .collect();
    let along = |values: Vec<Option<Vec<f64>>>| -> f64 {
        let part = |(value, (_, dx)): (Option<Vec<f64>>, &(Handle, Vec<f64>))| {
            value.map_or(0.0, |value| dot(&value, dx))
        };
        values.into_iter().zip(&seeds).map(part).sum()
    };
    let value = |gradient: &Option<Handle>| gradient.map(|g| numbers(&applied.value(g)));
    let reverse = along(gradients.iter().map(value).collect());
    let forward = applied.tangents(&[loss], &seeds)[0].as_ref().map_or(0.0, |t| t[0]);
    let known: Vec<Handle> = gradients.iter().copied().flatten().collect();
    let mut tangents = applied.tangents(&known, &seeds).into_iter();
    let second = gradients.iter().map(|g| g.and_then(|_| tangents.next().unwrap()));
    Some(Slopes { reverse, forward, second: along(second.collect()) })
}

fn has_no_derivative(op: &OpDef) -> bool {
    matches!(op.derivative, Derivative::None) && !matches!(op.kernel, Kernel::Composite(_))
}

#[test]
fn derivatives_agree_with_finite_differences_in_both_modes_and_twice() {
    let h = 1e-6;
    let mut checked = 0;
    each_sample(|op, sample| {
        let (x, dx) = (fill(sample, 1), direction(sample));
        let at = |by: f64| slopes(op, sample, DType::F64, (&moved(&x, &dx, by), &dx));
        let Some(exact) = at(0.0).filter(|_| !has_no_derivative(op)) else { return };
        let loss = |by: f64| {
            let mut applied = Applied::new(op, sample, DType::F64, &moved(&x, &dx, by));
            let loss = applied.loss().unwrap();
            numbers(&applied.value(loss))[0]
        };
        let first = (loss(h) - loss(-h)) / (2.0 * h);
        let second = (at(h).unwrap().reverse - at(-h).unwrap().reverse) / (2.0 * h);
        for (what, exact, numeric, tolerance) in [
            ("reverse mode", exact.reverse, first, 1e-6),
            ("forward mode", exact.forward, first, 1e-6),
            ("second order", exact.second, second, 1e-5),
        ] {
            let fits = close(exact, numeric, tolerance);
            assert!(fits, "{}: {what} gives {exact}, differences {numeric}", op.name);
        }
        checked += 1;
    });
    assert!(checked > 60, "only {checked} samples were differentiated");
}

#[test]
fn ops_without_a_derivative_give_no_gradient() {
    each_sample(|op, sample| {
        let mut applied = Applied::new(op, sample, DType::F64, &fill(sample, 1));
        let sources = applied.differentiable_inputs();
        let Some(loss) = applied.loss().filter(|_| has_no_derivative(op)) else { return };
        let gradients = applied.gradient(loss, &sources);
        assert!(gradients.iter().all(Option::is_none), "{} has a gradient", op.name);
    });
}

/// From the second time on, a gradient's program is one that was kept.
#[test]
fn gradients_that_are_asked_for_again_have_the_same_bits() {
    let bits = |applied: &mut Applied| -> Option<Vec<Option<Vec<u64>>>> {
        let sources = applied.differentiable_inputs();
        let loss = applied.loss()?;
        let gradients = applied.gradient(loss, &sources);
        let bits = |&gradient: &Handle| {
            numbers(&applied.value(gradient)).into_iter().map(f64::to_bits).collect()
        };
        Some(gradients.iter().map(|gradient| gradient.as_ref().map(bits)).collect())
    };
    for op in ops::ALL.iter() {
        let mut again = Applied::empty();
        for round in 1..4 {
            for sample in op.samples {
                let values = fill(sample, round);
                again.record(op, sample, DType::F32, &values);
                let alone = &mut Applied::new(op, sample, DType::F32, &values);
                assert_eq!(bits(&mut again), bits(alone), "{} in round {round}", op.name);
            }
        }
    }
}

/// The rules are checked against differences in `float64`; in the other dtypes they must give the same, but for rounding.
#[test]
fn derivatives_in_every_dtype_agree_with_those_in_float64() {
    each_sample(|op, sample| {
        let dx = direction(sample);
        for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F16, 3e-2), (DType::BF16, 0.2)] {
            if sample.inputs.first().is_some_and(|input| input.fill.is_real())
                && !op.dtypes.contains(dtype)
            {
                continue;
            }
            // The same numbers for both, so that only the computation differs.
            let x: Values = fill(sample, 1)
                .iter()
                .enumerate()
                .map(|(i, x)| {
                    let shape = sample.inputs[i].shape;
                    numbers(&tensor(dtype_of(sample, i, dtype), shape, x))
                })
                .collect();
            let Some(exact) = slopes(op, sample, DType::F64, (&x, &dx)) else { continue };
            let Some(found) = slopes(op, sample, dtype, (&x, &dx)) else { continue };
            for (what, exact, found) in [
                ("reverse mode", exact.reverse, found.reverse),
                ("forward mode", exact.forward, found.forward),
                ("second order", exact.second, found.second),
            ] {
                let fits = close(exact, found, tolerance);
                assert!(fits, "{} in {dtype}: {what} gives {found}, in float64 {exact}", op.name);
            }
        }
    });
}

#[test]
fn linear_ops_are_linear() {
    each_sample(|op, sample| {
        if !matches!(op.derivative, Derivative::Linear { .. }) {
            return;
        }
        let (x, dx) = (fill(sample, 1), direction(sample));
        let value = |values: &Values| -> Option<Vec<f64>> {
            let applied = Applied::new(op, sample, DType::F64, values);
            let floats = applied.outputs.iter().all(|&y| applied.value(y).aval().dtype.is_float());
            floats
                .then(|| applied.outputs.iter().flat_map(|&y| numbers(&applied.value(y))).collect())
        };
        // f(x + 2 d) - f(x) = 2 (f(x + d) - f(x)), whatever the inputs that do not move.
        let (Some(y0), Some(y1), Some(y2)) =
            (value(&x), value(&moved(&x, &dx, 1.0)), value(&moved(&x, &dx, 2.0)))
        else {
            return;
        };
        for ((y0, y1), y2) in y0.iter().zip(&y1).zip(&y2) {
            assert!(close(y2 - y0, 2.0 * (y1 - y0), 1e-9), "{} is not linear", op.name);
        }
    });
}

#[test]
fn the_tape_keeps_what_rules_read_and_nothing_else() {
    for &op in ops::ALL.iter() {
        let (mut kept, mut read) = (HashSet::new(), HashSet::new());
        for sample in op.samples {
            let mut applied = Applied::new(op, sample, DType::F64, &fill(sample, 1));
            let sources = applied.differentiable_inputs();
            let Some(loss) = applied.loss().filter(|_| !sources.is_empty()) else { continue };
            let names: Vec<(ValueId, String)> = applied
                .inputs
                .clone()
                .into_iter()
                .map(|x| ("input", x))
                .chain(applied.outputs.clone().into_iter().map(|y| ("output", y)))
                .enumerate()
                .map(|(i, (what, handle))| (applied.id(handle), format!("{what} {i}")))
                .collect();
            let target =
                Target { id: applied.id(loss), aval: applied.value(loss).aval(), seed: None };
            let sources: Vec<Source> = sources
                .iter()
                .map(|&x| Source {
                    id: applied.id(x),
                    aval: applied.value(x).aval(),
                    sparse: false,
                })
                .collect();
            let trace = applied.session.trace(TAPE);
            let program = gradient(trace, &[target], &sources).unwrap().program;
            let used: HashSet<usize> =
                program.applications.iter().flat_map(|a| a.inputs.iter().copied()).collect();
            for (slot, operand) in &program.operands {
                for (_, name) in names.iter().filter(|(id, _)| *id == operand.id) {
                    if operand.tensor.is_some() {
                        kept.insert(name.clone());
                    }
                    if used.contains(slot) {
                        read.insert(name.clone());
                    }
                }
            }
        }
        if !matches!(op.kernel, Kernel::Composite(_)) {
            assert!(read.is_subset(&kept), "{} reads {read:?} but keeps {kept:?}", op.name);
            assert!(kept.is_subset(&read), "{} keeps {kept:?} but reads only {read:?}", op.name);
        }
    }
}

#[test]
fn the_price_is_enough_and_is_charged() {
    each_sample(|op, sample| {
        if matches!(op.kernel, Kernel::Composite(_)) {
            return;
        }
        let values = fill(sample, 1);
        let tensors: Vec<Tensor> = (0..sample.inputs.len())
            .map(|i| tensor(dtype_of(sample, i, DType::F32), sample.inputs[i].shape, &values[i]))
            .collect();
        let inputs: Vec<&Tensor> = tensors.iter().collect();
        let attrs = attrs(op, sample);
        let ample = Ledger::new("test", 1 << 20);
        let results = exec::run(&ample, op, &attrs, &inputs).unwrap();
        let bytes: u64 = results.iter().map(|y| y.aval().bytes()).sum();
        let held = if matches!(op.kernel, Kernel::Alias) { 0 } else { bytes };
        assert_eq!(ample.used(), held, "{} holds another price than its outputs", op.name);
        drop(results);
        assert_eq!(ample.used(), 0, "{} does not give back what it took", op.name);
        if held > 0 {
            let scarce: Arc<Ledger> = Ledger::new("test", held - 1);
            let refused = exec::run(&scarce, op, &attrs, &inputs);
            assert!(
                matches!(refused, Err(Error::MemoryLimit { .. })),
                "{} runs without paying",
                op.name
            );
            assert_eq!(scarce.used(), 0);
        }
    });
}
