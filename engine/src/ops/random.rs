//! Random tensors from an explicit state: the same state and attributes give the same elements.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Avals, Shape},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{gamma, real::Real},
    op::{
        Arrays, Call, Cost, Derivative, Fill, Input, Kernel, OpDef, Reads, ResultType, Rule,
        Sample, cotangent_at,
    },
    ops::{
        LESS,
        family::{self, by_dtype, exactly, ints, sample, sample_with, uniform},
        special::{density, igamma},
    },
    random::State,
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &RANDOM_UNIFORM,
    &RANDOM_NORMAL,
    &RANDOM_GAMMA,
    &RANDOM_POISSON,
    &RANDOM_BERNOULLI,
    &RANDOM_CATEGORICAL,
    &RANDOM_PERMUTATION,
];

attrs! {
    /// A uniform distribution.
    Uniform {
        /// Shape of the result.
        shape: Ints = Required,
        /// Dtype of the result: a floating-point one.
        dtype: DType = DType(DType::F32),
        /// Smallest number.
        minval: f64 = Double(0.0),
        /// Number above all.
        maxval: f64 = Double(1.0),
    }
}

attrs! {
    /// A normal distribution.
    Normal {
        /// Shape of the result.
        shape: Ints = Required,
        /// Dtype of the result: a floating-point one.
        dtype: DType = DType(DType::F32),
        /// Mean.
        mean: f64 = Double(0.0),
        /// Standard deviation.
        stddev: f64 = Double(1.0),
    }
}

/// Checks a state: the input of every op here.
fn check_state(state: &Aval) -> Result<(), Error> {
    exactly(state, DType::I64)?;
    if state.shape != Shape::from([2]) {
        let shape = state.shape.to_i64().as_slice().into();
        return Err(Error::InvalidShape {
            shape,
            why: "a random state has shape [2]: key and counter",
        });
    }
    Ok(())
}

fn infer(call: &Call, shape: &Ints, dtype: DType) -> Result<Avals, Error> {
    check_state(&call.inputs[0])?;
    if !dtype.is_float() {
        return Err(Error::UnsupportedDType { dtype, accepted: DTypes::FLOAT });
    }
    Ok(smallvec![Aval { dtype, shape: Shape::checked(shape)? }])
}

fn state_of(array: &Array) -> Result<State, Error> {
    let state = array.elements::<i64>()?;
    Ok(State::new(state[0], state[1]))
}

/// Draws numbers in `[low, high)`. One that rounding to the dtype takes to `high` becomes `low`.
fn draw(
    out: &Aval,
    state: &Array,
    (low, high): (f64, f64),
    number: impl Fn(State, u64) -> f64,
) -> Result<Arrays, Error> {
    fn typed<T: Real>(
        out: &Aval,
        (low, high): (f64, f64),
        number: impl Fn(u64) -> f64,
    ) -> Result<Array, Error> {
        let count = out.shape.elements();
        let mut result = buffer(count)?;
        let (low, high) = (<T as Real>::of(low), <T as Real>::of(high));
        let inside = |value| if value < high { value } else { low };
        result.extend((0..count as u64).map(|i| inside(<T as Real>::of(number(i)))));
        Array::new(&out.shape, result)
    }
    let (state, bounds) = (state_of(state)?, (low, high));
    Ok(smallvec![by_dtype!(float: out.dtype, T => typed::<T>(out, bounds, |i| number(state, i)))?])
}

const STATE: Input = Input { shape: &[2], fill: Fill::Index(0, 1 << 40) };

const SAMPLE: &[Sample] = &[sample_with(&[STATE], || vec![ints("shape", &[2, 3])])];

const fn source(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        family: "random",
        inputs: &["state"],
        dtypes: DTypes::of(&[DType::I64]),
        result: ResultType::Attribute("dtype"),
        cost: |_, out| Cost { flops: 64 * out[0].shape.elements() as u64, workspace: 0 },
        samples: SAMPLE,
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

/// Uniform numbers.
pub static RANDOM_UNIFORM: OpDef = OpDef {
    attrs: Uniform::SPECS,
    infer: |call| {
        let Uniform { shape, dtype, minval, maxval } = Uniform::read(call.attrs);
        let finite = minval.is_finite() && maxval.is_finite() && minval <= maxval;
        if !finite {
            return Err(Error::attribute("minval", "must be finite and not more than maxval"));
        }
        infer(call, &shape, dtype)
    },
    ..source(
        "random_uniform",
        "Uniform random numbers from an explicit state.",
        "y in [minval, maxval)",
        Kernel::Run(|call, out, inputs| {
            let Uniform { minval, maxval, .. } = Uniform::read(call.attrs);
            draw(&out[0], inputs[0], (minval, maxval), |state, i| {
                minval + (maxval - minval) * state.uniform(i)
            })
        }),
    )
};

/// Normal numbers.
pub static RANDOM_NORMAL: OpDef = OpDef {
    attrs: Normal::SPECS,
    infer: |call| {
        let Normal { shape, dtype, mean, stddev } = Normal::read(call.attrs);
        if !(mean.is_finite() && stddev.is_finite() && stddev >= 0.0) {
            return Err(Error::attribute(
                "stddev",
                "must be finite and not negative, and mean finite",
            ));
        }
        infer(call, &shape, dtype)
    },
    ..source(
        "random_normal",
        "Normal random numbers from an explicit state.",
        "y = mean + stddev n, n standard normal",
        Kernel::Run(|call, out, inputs| {
            let Normal { mean, stddev, .. } = Normal::read(call.attrs);
            draw(&out[0], inputs[0], (f64::NEG_INFINITY, f64::INFINITY), |state, i| {
                mean + stddev * state.normal(i)
            })
        }),
    )
};

// --- distributions whose parameters are tensors: one uniform number for each element, through the quantile ---

const PARAMETERS: &[Sample] = &[sample(&[STATE, uniform(&[2, 3], 0.3, 5.0)])];

/// A source with a second input, which says the shape of the result.
const fn parametric(
    name: &'static str,
    inputs: &'static [&'static str],
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        inputs,
        result: ResultType::Input(1),
        infer: |call| {
            check_state(&call.inputs[0])?;
            float(&call.inputs[1])?;
            Ok(smallvec![call.inputs[1].clone()])
        },
        cost: |_, out| {
            let each = u64::from(gamma::MAX_TERMS) * 20;
            Cost { flops: (out[0].shape.elements() as u64).saturating_mul(each), workspace: 0 }
        },
        samples: PARAMETERS,
        ..source(name, summary, formula, kernel)
    }
}

fn float(aval: &Aval) -> Result<(), Error> {
    if aval.dtype.is_float() {
        return Ok(());
    }
    Err(Error::UnsupportedDType { dtype: aval.dtype, accepted: DTypes::FLOAT })
}

/// The quantile of each element's distribution at a uniform number.
fn draw_by(
    out: &Aval,
    inputs: &[&Array],
    quantile: impl Fn(f64, f64) -> f64,
) -> Result<Arrays, Error> {
    let state = state_of(inputs[0])?;
    Ok(smallvec![by_dtype!(float: out.dtype, T => {
        let parameters = inputs[1].elements::<T>()?;
        let mut result = buffer(parameters.len())?;
        result.extend(parameters.iter().zip(0..).map(|(parameter, i)| {
            parameter.in_f64(|parameter| quantile(parameter, state.uniform(i)))
        }));
        Array::new(&out.shape, result)
    })?])
}

/// Gamma variables.
pub static RANDOM_GAMMA: OpDef = OpDef {
    // With the state held fixed y is the quantile P^-1(alpha, u), so dy = -(dP / d alpha) / (dP / dy) d alpha.
    derivative: Derivative::Custom {
        reads: Reads::X1.and(Reads::Y),
        vjp: |r, ct| cotangent_at(1, ct[0] * gamma_slope(r)),
        jvp: |r, t| t[1].map(|t| t * gamma_slope(r)).into_iter().collect(),
    },
    ..parametric(
        "random_gamma",
        &["state", "alpha"],
        "Gamma variables of scale 1 from an explicit state, differentiable by their shapes alpha. For an alpha above 300,000 they are approximate and their derivative is NaN.",
        "igamma(alpha, y) = u, u uniform",
        Kernel::Run(|_, out, inputs| draw_by(&out[0], inputs, gamma::quantile)),
    )
};

/// The derivative of a gamma variable by its shape. In double precision, since large exponents cancel.
fn gamma_slope<'g>(r: &Rule<'g>) -> Var<'g> {
    let (alpha, y) = (r.x[1].cast(DType::F64), r.y().cast(DType::F64));
    (-igamma(1, alpha, y) / density(0, alpha, y)).cast(r.x[1].dtype())
}

/// Poisson variables.
pub static RANDOM_POISSON: OpDef = parametric(
    "random_poisson",
    &["state", "rate"],
    "Poisson variables from an explicit state. For a rate above 100,000 they are approximate.",
    "probability of y is rate^y exp(-rate) / y!",
    Kernel::Run(|_, out, inputs| draw_by(&out[0], inputs, gamma::poisson_quantile)),
);

/// Truth values.
pub static RANDOM_BERNOULLI: OpDef = OpDef {
    result: ResultType::Fixed(DType::Bool),
    infer: |call| {
        check_state(&call.inputs[0])?;
        float(&call.inputs[1])?;
        Ok(smallvec![Aval { dtype: DType::Bool, shape: call.inputs[1].shape.clone() }])
    },
    cost: family::per_element,
    ..parametric(
        "random_bernoulli",
        &["state", "probabilities"],
        "Random truth values from an explicit state, true with the given probabilities.",
        "y = (u < probability), u uniform",
        Kernel::Composite(|r| {
            // Numbers of half precision would be too coarse for small probabilities.
            let probabilities = r.x[1].cast(r.x[1].dtype().widened());
            let Aval { dtype, shape } = probabilities.aval();
            let unit = Uniform { shape: shape.to_i64(), dtype, minval: 0.0, maxval: 1.0 };
            let numbers = r.x[0].op(&RANDOM_UNIFORM, unit.write(), &[]);
            smallvec![numbers.zip(&LESS, probabilities)]
        }),
    )
};

// --- choices ---

attrs! {
    /// A number of choices.
    Categorical {
        /// How many numbers to draw for each row.
        num_samples: i64 = Required,
    }
}

/// Class numbers.
pub static RANDOM_CATEGORICAL: OpDef = OpDef {
    inputs: &["state", "logits"],
    result: ResultType::Fixed(DType::I64),
    attrs: Categorical::SPECS,
    infer: |call| {
        let logits = &call.inputs[1];
        check_state(&call.inputs[0])?;
        float(logits)?;
        let [rows, classes] = logits.shape.to_i64()[..] else {
            return Err(Error::InvalidShape {
                shape: logits.shape.to_i64().as_slice().into(),
                why: "logits have shape [batch, classes]",
            });
        };
        let shape = Shape::checked(&[rows, Categorical::read(call.attrs).num_samples])?;
        if classes == 0 && shape.elements() > 0 {
            let shape = logits.shape.to_i64().as_slice().into();
            return Err(Error::InvalidShape { shape, why: "there are no classes" });
        }
        Ok(smallvec![Aval { dtype: DType::I64, shape }])
    },
    cost: |call, out| Cost {
        flops: 64
            * (call.inputs[1].shape.elements() as u64)
                .saturating_add(out[0].shape.elements() as u64),
        workspace: (call.inputs[1].shape[1] as u64).saturating_mul(8),
    },
    samples: &[sample_with(&[STATE, uniform(&[2, 3], -2.0, 2.0)], || {
        vec![("num_samples", Attr::Int(4))]
    })],
    ..source(
        "random_categorical",
        "Random class numbers from an explicit state, for each row of unnormalized log-probabilities.",
        "probability of y is softmax(logits)[y]",
        Kernel::Run(|call, out, inputs| {
            let (shape, classes) = (&out[0].shape, call.inputs[1].shape[1]);
            let state = state_of(inputs[0])?;
            let y = by_dtype!(float: inputs[1].dtype(), T => {
                choose((inputs[1].elements::<T>()?, classes), (shape.elements(), shape[1]), state)
            })?;
            Ok(smallvec![Array::new(shape, y)?])
        }),
    )
};

/// Draws `each` class numbers for each row, `count` in all.
fn choose<T: Real>(
    (logits, classes): (&[T], usize),
    (count, each): (usize, usize),
    state: State,
) -> Result<Vec<i64>, Error> {
    let mut out = buffer(count)?;
    let mut sums: Vec<f64> = buffer(classes)?;
    while out.len() < count {
        let row = &logits[out.len() / each * classes..][..classes];
        let top = row.iter().fold(f64::NEG_INFINITY, |top, x| top.max(x.wide()));
        let mut total = 0.0;
        sums.clear();
        sums.extend(row.iter().map(|x| {
            // Of infinite logits those at the top share everything.
            total += if x.wide() >= top { 1.0 } else { libm::exp(x.wide() - top) };
            total
        }));
        let next = out.len() as u64;
        out.extend((next..next + each as u64).map(|i| {
            let goal = state.uniform(i) * total;
            let class = sums.partition_point(|&sum| sum <= goal).min(classes - 1);
            i64::try_from(class).unwrap_or(i64::MAX)
        }));
    }
    Ok(out)
}

attrs! {
    /// An extent.
    Permuted {
        /// How many numbers there are.
        n: i64 = Required,
    }
}

/// A random order.
pub static RANDOM_PERMUTATION: OpDef = OpDef {
    result: ResultType::Fixed(DType::I64),
    attrs: Permuted::SPECS,
    infer: |call| {
        check_state(&call.inputs[0])?;
        let shape = Shape::checked(&[Permuted::read(call.attrs).n])?;
        Ok(smallvec![Aval { dtype: DType::I64, shape }])
    },
    samples: &[sample_with(&[STATE], || vec![("n", Attr::Int(5))])],
    ..source(
        "random_permutation",
        "The numbers from 0 to n - 1 in random order, from an explicit state.",
        "y = shuffled 0, 1, ..., n - 1",
        Kernel::Run(|_, out, inputs| {
            let (state, n) = (state_of(inputs[0])?, out[0].shape.elements());
            let mut order: Vec<i64> = buffer(n)?;
            order.extend((0..).take(n));
            // Fisher and Yates, from the end.
            for last in (1..n).rev() {
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a number from 0 to last; extents are far below 2^53"
                )]
                let pick = (state.uniform(last as u64) * (last + 1) as f64) as usize;
                order.swap(last, pick.min(last));
            }
            Ok(smallvec![Array::new(&out[0].shape, order)?])
        }),
    )
};
