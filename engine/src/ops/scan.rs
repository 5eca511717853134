//! Running sums, products and recurrences along an axis.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::{Attr, Ints},
    aval::Aval,
    batching::{Batching, along_axis},
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels::{
        real::{Number, Real},
        scan::Scan,
    },
    op::{Arrays, Call, Derivative, Kernel, OpDef, Reads, Rule, Sample, cotangents},
    ops::{
        EXP, GREATER, PAD, Pad, SLICE, Slice,
        family::{self, by_dtype, sample, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&CUMSUM, &CUMPROD, &CUMULATIVE_LOGSUMEXP, &LINEAR_RECURRENCE];

attrs! {
    /// Attributes of a running result.
    Cumulative {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
        /// Whether each result leaves its own element out.
        exclusive: bool = Bool(false),
        /// Whether to start from the end.
        reverse: bool = Bool(false),
    }
}

const SAMPLES: &[Sample] = &[
    sample(&[uniform(&[3, 2], -2.0, 2.0)]),
    sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("axis", Attr::Int(-1)), yes("exclusive")]),
    sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("axis", Attr::Int(1)), yes("reverse")]),
    sample_with(&[uniform(&[4], -2.0, 2.0)], || vec![yes("exclusive"), yes("reverse")]),
    // Several zeros.
    sample(&[uniform(&[4], 0.0, 0.0)]),
];

fn yes(name: &'static str) -> (&'static str, Attr) {
    (name, Attr::Bool(true))
}

const fn cumulative(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        batching: Batching::Rule(along_axis),
        attrs: Cumulative::SPECS,
        infer: |call| {
            call.inputs[0].shape.axis(Cumulative::read(call.attrs).axis, 0)?;
            family::same(call)
        },
        samples: SAMPLES,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// Which number of a scan is the result: the accumulated one before or after an element.
fn chosen<A: Copy, U>(before: A, after: A, exclusive: bool, result: impl Fn(A) -> U) -> (A, U) {
    (after, result(if exclusive { before } else { after }))
}

/// Accumulates as sums are: in `float64`.
fn accumulate<T: Number>(
    (call, out, x): (&Call, &Aval, &Array),
    init: T,
    step: impl Fn(T::Wide, T::Wide) -> T::Wide + Sync,
) -> Result<Array, Error>
where
    T::Wide: Sync,
{
    let Cumulative { axis, exclusive, reverse } = Cumulative::read(call.attrs);
    let step = |acc, [x]: [T; 1]| chosen(acc, step(acc, x.widen()), exclusive, T::narrow);
    let scan = Scan { reverse, init: init.widen(), step };
    Array::new(&out.shape, scan.run([x.elements()?], &out.shape, out.shape.axis(axis, 0)?)?)
}

/// Running sum.
pub static CUMSUM: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..cumulative(
        "cumsum",
        "Running sum along an axis. Floating-point sums are accumulated in float64.",
        "y_i = x_0 + ... + x_i",
        Kernel::Run(|call, out, inputs| {
            let given = (call, &out[0], inputs[0]);
            Ok(smallvec![
                by_dtype!(numeric: out[0].dtype, T => accumulate(given, T::ZERO, T::wide_add))?
            ])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let attrs = Cumulative::read(r.attrs);
                let attrs = Cumulative { reverse: !attrs.reverse, ..attrs };
                cotangents([ct[0].op(&CUMSUM, attrs.write(), &[])])
            },
        },
    )
};

/// Running product. Its derivative is a recurrence and not a quotient, so that zeros do no harm.
pub static CUMPROD: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..cumulative(
        "cumprod",
        "Running product along an axis; its derivatives are right where elements are 0, too.",
        "y_i = x_0 * ... * x_i",
        Kernel::Run(|call, out, inputs| {
            let given = (call, &out[0], inputs[0]);
            Ok(smallvec![
                by_dtype!(numeric: out[0].dtype, T => accumulate(given, T::ONE, T::wide_mul))?
            ])
        }),
        // y_i = x_i y_(i-1), so dy_i = x_i dy_(i-1) + y_(i-1) dx_i.
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| {
                let along = Along::of(r);
                let before = Cumulative { exclusive: true, ..Cumulative::read(r.attrs) }.write();
                let pulled = along.pull(r.x[0], along.inclusive(r, ct[0]));
                cotangents([pulled * r.x[0].op(&CUMPROD, before, &[])])
            },
            jvp: |r, t| {
                let along = Along::of(r);
                let before = Cumulative { exclusive: true, ..Cumulative::read(r.attrs) }.write();
                let push = tangent(r, t) * r.x[0].op(&CUMPROD, before, &[]);
                smallvec![along.exclusive(r, along.run(r.x[0], push))]
            },
        },
    )
};

fn tangent<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Var<'g> {
    t[0].unwrap_or_else(|| r.x[0].zeros())
}

/// Running logarithm of a sum of exponentials. A primitive for stability.
pub static CUMULATIVE_LOGSUMEXP: OpDef = OpDef {
    // An exclusive one begins with minus infinity, of which there are no differences.
    samples: &[SAMPLES[0], SAMPLES[2], SAMPLES[4]],
    ..cumulative(
        "cumulative_logsumexp",
        "Running logarithm of a sum of exponentials along an axis; that of no elements is minus infinity.",
        "y_i = ln(exp(x_0) + ... + exp(x_i))",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real>(call: &Call, out: &Aval, x: &Array) -> Result<Array, Error> {
                let Cumulative { axis, exclusive, reverse } = Cumulative::read(call.attrs);
                let log = |(top, sum): (f64, f64)| T::of(top + libm::log(sum));
                let step = |acc, [x]: [T; 1]| chosen(acc, add_exp(acc, x.wide()), exclusive, log);
                let scan = Scan { reverse, init: (f64::NEG_INFINITY, 0.0), step };
                let axis = out.shape.axis(axis, 0)?;
                Array::new(&out.shape, scan.run([x.elements()?], &out.shape, axis)?)
            }
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => typed::<T>(call, &out[0], inputs[0]))?
            ])
        }),
        // exp(y_i) = exp(y_(i-1)) + exp(x_i), so dy_i = exp(y_(i-1) - y_i) dy_(i-1) + exp(x_i - y_i) dx_i; neither
        // exponential can overflow.
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| {
                let along = Along::of(r);
                let (keep, take) = shares(r, &along);
                cotangents([along.pull(keep, along.inclusive(r, ct[0])) * take])
            },
            jvp: |r, t| {
                let along = Along::of(r);
                let (keep, take) = shares(r, &along);
                smallvec![along.exclusive(r, along.run(keep, take * tangent(r, t)))]
            },
        },
    )
};

/// Adds exp(x) to exp(top) * sum.
fn add_exp((top, sum): (f64, f64), x: f64) -> (f64, f64) {
    if x > top {
        (x, sum * libm::exp(top - x) + 1.0)
    } else {
        // Infinities have no difference.
        (top, sum + if x >= top { 1.0 } else { libm::exp(x - top) })
    }
}

/// How much of a running sum of exponentials comes from before, and how much from each element.
fn shares<'g>(r: &Rule<'g>, along: &Along) -> (Var<'g>, Var<'g>) {
    let inclusive = Cumulative { exclusive: false, ..Cumulative::read(r.attrs) };
    let y = r.x[0].op(&CUMULATIVE_LOGSUMEXP, inclusive.write(), &[]);
    // Where nothing was added yet both shares are 0.
    let some = y.zip(&GREATER, y.scalar(f64::NEG_INFINITY));
    let finite = y.select(some, y.zeros());
    let before = along.shifted(y, false, f64::NEG_INFINITY);
    ((before - finite).map(&EXP), (r.x[0] - finite).map(&EXP))
}

// --- recurrences ---

attrs! {
    /// Attributes of a recurrence.
    Along {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
        /// Whether to start from the end.
        reverse: bool = Bool(false),
    }
}

/// First-order linear recurrence. A primitive for stability: the closed form divides by products of coefficients.
pub static LINEAR_RECURRENCE: OpDef = OpDef {
    inputs: &["coefficient", "x"],
    attrs: Along::SPECS,
    infer: |call| {
        let [a, x] = call.inputs else {
            return Err(Error::bug("a recurrence takes two inputs"));
        };
        family::common_dtype(a, x)?;
        if a.shape != x.shape {
            let (lhs, rhs) = (a.shape.clone(), x.shape.clone());
            return Err(Error::ShapeMismatch { lhs, rhs, expected: "both must be equal" });
        }
        x.shape.axis(Along::read(call.attrs).axis, 0)?;
        family::same(call)
    },
    samples: &[
        sample(&[uniform(&[3, 2], -2.0, 2.0), uniform(&[3, 2], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 4], -2.0, 2.0), uniform(&[2, 4], -2.0, 2.0)], || {
            vec![("axis", Attr::Int(-1)), yes("reverse")]
        }),
    ],
    ..family::binary(
        "linear_recurrence",
        "First-order linear recurrence along an axis, as in discounted sums and moving averages. The first coefficient has no effect.",
        "y_i = x_i + coefficient_i * y_(i-1)",
        Kernel::Run(recur),
        Derivative::Custom {
            reads: Reads::X0.and(Reads::Y),
            vjp: |r, ct| {
                let along = Along::read(r.attrs);
                let pulled = along.pull(r.x[0], ct[0]);
                smallvec![
                    r.needs[0].then(|| (pulled * along.shifted(r.y(), false, 0.0)).into()),
                    Some(pulled.into()),
                ]
            },
            jvp: |r, t| {
                let along = Along::read(r.attrs);
                let through = t[0].map(|t| t * along.shifted(r.y(), false, 0.0));
                let push = t[1].into_iter().chain(through).reduce(|a, b| a + b);
                push.map(|push| along.run(r.x[0], push)).into_iter().collect()
            },
        },
    )
};

fn recur(call: &Call, out: &[Aval], inputs: &[&Array]) -> Result<Arrays, Error> {
    fn typed<T: Real>(call: &Call, out: &Aval, inputs: &[&Array]) -> Result<Array, Error> {
        let Along { axis, reverse } = Along::read(call.attrs);
        let step = |last: Option<f64>, [coefficient, x]: [T; 2]| {
            let y = x.wide() + last.map_or(0.0, |last| coefficient.wide() * last);
            (Some(y), T::of(y))
        };
        let (scan, axis) = (Scan { reverse, init: None, step }, out.shape.axis(axis, 0)?);
        let inputs = [inputs[0].elements()?, inputs[1].elements()?];
        Array::new(&out.shape, scan.run(inputs, &out.shape, axis)?)
    }
    Ok(smallvec![by_dtype!(float: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
}

impl Along {
    /// The direction of a running result.
    fn of(r: &Rule) -> Self {
        let Cumulative { axis, reverse, .. } = Cumulative::read(r.attrs);
        Self { axis, reverse }
    }

    /// The recurrence with these coefficients.
    fn run<'g>(&self, coefficient: Var<'g>, x: Var<'g>) -> Var<'g> {
        coefficient.op(&LINEAR_RECURRENCE, self.clone().write(), &[x])
    }

    /// The transpose of the recurrence: it runs the other way, and what is left is multiplied by the coefficient of the
    /// element that it came from.
    fn pull<'g>(&self, coefficient: Var<'g>, ct: Var<'g>) -> Var<'g> {
        let back = Self { axis: self.axis, reverse: !self.reverse };
        back.run(self.shifted(coefficient, true, 0.0), ct)
    }

    /// Elements moved by one place, in the direction of the scan or against it, with `fill` in the place that is free.
    fn shifted<'g>(&self, x: Var<'g>, against: bool, fill: f64) -> Var<'g> {
        let mut kept = x.shape();
        // `infer` accepted the axis.
        let axis = kept.axis(self.axis, 0).unwrap_or(0);
        let Some(left) = kept[axis].checked_sub(1) else { return x };
        kept.set(axis, left);
        let mut begin = Ints::from_elem(0, kept.len());
        let mut paddings = Ints::from_elem(0, 2 * kept.len());
        if self.reverse == against {
            paddings[2 * axis] = 1;
        } else {
            begin[axis] = 1;
            paddings[2 * axis + 1] = 1;
        }
        let window = Slice { begin, size: kept.to_i64() };
        let padding = Pad { paddings, constant: fill };
        x.op(&SLICE, window.write(), &[]).op(&PAD, padding.write(), &[])
    }

    /// The cotangent of the inclusive result: an exclusive one is the inclusive one moved by a place.
    fn inclusive<'g>(&self, r: &Rule<'g>, ct: Var<'g>) -> Var<'g> {
        if Cumulative::read(r.attrs).exclusive { self.shifted(ct, true, 0.0) } else { ct }
    }

    /// The tangent of the result from that of the inclusive one.
    fn exclusive<'g>(&self, r: &Rule<'g>, t: Var<'g>) -> Var<'g> {
        if Cumulative::read(r.attrs).exclusive { self.shifted(t, false, 0.0) } else { t }
    }
}
