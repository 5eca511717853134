//! Random tensors from an explicit state: the same state and attributes give the same elements.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::Ints,
    aval::{Aval, Avals, Shape},
    dtype::{DType, DTypes},
    error::Error,
    kernels::real::Real,
    op::{Arrays, Call, Cost, Derivative, Fill, Input, Kernel, OpDef, ResultType, Sample},
    ops::family::{self, exactly, ints, sample_with},
    random::State,
};

/// The family, as the catalogue lists it.
pub const ALL: &[&OpDef] = &[&RANDOM_UNIFORM, &RANDOM_NORMAL];

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

fn infer(call: &Call, shape: &Ints, dtype: DType) -> Result<Avals, Error> {
    let state = &call.inputs[0];
    exactly(state, DType::I64)?;
    if state.shape != Shape::from([2]) {
        let shape = state.shape.to_i64().as_slice().into();
        return Err(Error::InvalidShape {
            shape,
            why: "a random state has shape [2]: key and counter",
        });
    }
    if !dtype.is_float() {
        return Err(Error::UnsupportedDType { dtype, accepted: DTypes::FLOAT });
    }
    Ok(smallvec![Aval { dtype, shape: Shape::checked(shape)? }])
}

fn draw(out: &Aval, state: &Array, number: impl Fn(State, u64) -> f64) -> Result<Arrays, Error> {
    fn typed<T: Real>(out: &Aval, number: impl Fn(u64) -> f64) -> Result<Array, Error> {
        let count = out.shape.elements();
        let mut result = buffer(count)?;
        result.extend((0..count as u64).map(|i| T::of(number(i))));
        Array::new(&out.shape, result)
    }
    let state = state.elements::<i64>()?;
    let state = State::new(state[0], state[1]);
    Ok(smallvec![match out.dtype {
        DType::F32 => typed::<f32>(out, |i| number(state, i)),
        _ => typed::<f64>(out, |i| number(state, i)),
    }?])
}

const SAMPLE: &[Sample] =
    &[sample_with(&[Input { shape: &[2], fill: Fill::Index(0, 1 << 40) }], || {
        vec![ints("shape", &[2, 3])]
    })];

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
            draw(&out[0], inputs[0], |state, i| minval + (maxval - minval) * state.uniform(i))
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
            draw(&out[0], inputs[0], |state, i| mean + stddev * state.normal(i))
        }),
    )
};
