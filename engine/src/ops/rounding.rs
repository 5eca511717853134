//! Rounding, rounded division, and clipping.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::Attrs,
    aval::Aval,
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    kernels::{
        block::Lane,
        elementwise::zip,
        loops,
        real::{Number, Real},
    },
    op::{Arrays, Call, Derivative, Kernel, Lanes, OpDef, Output, Reads, d},
    ops::{
        GREATER_EQUAL, LESS_EQUAL, LOGICAL_AND,
        family::{self, by_dtype, map_kernel, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&FLOOR, &CEIL, &ROUND, &FLOORDIV, &FLOORMOD, &TRUNCATEDIV, &TRUNCATEMOD, &CLIP_BY_VALUE];

// --- rounding ---

/// Largest integer not above.
pub static FLOOR: OpDef = family::unary(
    "floor",
    "Rounds towards minus infinity.",
    "y = floor(x)",
    map_kernel!(F32 F64: |x| x.floor()),
    Derivative::None,
);

/// Smallest integer not below.
pub static CEIL: OpDef = family::unary(
    "ceil",
    "Rounds towards plus infinity.",
    "y = ceil(x)",
    map_kernel!(F32 F64: |x| x.ceil()),
    Derivative::None,
);

/// Nearest integer.
pub static ROUND: OpDef = family::unary(
    "round",
    "Rounds to the nearest integer, halves to the even one.",
    "y = round(x)",
    map_kernel!(F32 F64: |x| x.round_ties_even()),
    Derivative::None,
);

// --- rounded division ---

/// Quotient rounded down.
pub static FLOORDIV: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: DTypes::NUMERIC,
    ..family::binary(
        "floordiv",
        "Quotient rounded towards minus infinity.",
        "z = floor(x / y)",
        Kernel::Run(|call, out, inputs| divide(call, out, inputs, Rounded::FloorQuotient)),
        Derivative::None,
    )
};

/// Remainder of the quotient rounded down.
pub static FLOORMOD: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..family::binary(
        "floormod",
        "Remainder of the rounded quotient; it has the divisor's sign.",
        "z = x - floor(x / y) * y",
        Kernel::Run(|call, out, inputs| divide(call, out, inputs, Rounded::FloorRest)),
        Derivative::Elementwise(&[
            d(Reads::NONE, |r| r.y().ones()),
            d(Reads::X, |r| -r.x[0].zip(&FLOORDIV, r.x[1])),
        ]),
    )
};

/// Quotient rounded towards zero.
pub static TRUNCATEDIV: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: DTypes::NUMERIC,
    ..family::binary(
        "truncatediv",
        "Quotient rounded towards zero.",
        "z = trunc(x / y)",
        Kernel::Run(|call, out, inputs| divide(call, out, inputs, Rounded::TruncatedQuotient)),
        Derivative::None,
    )
};

/// Remainder of the quotient rounded towards zero.
pub static TRUNCATEMOD: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..family::binary(
        "truncatemod",
        "Remainder of the quotient rounded towards zero; it has the dividend's sign.",
        "z = x - trunc(x / y) * y",
        Kernel::Run(|call, out, inputs| divide(call, out, inputs, Rounded::TruncatedRest)),
        Derivative::Elementwise(&[
            d(Reads::NONE, |r| r.y().ones()),
            d(Reads::X, |r| -r.x[0].zip(&TRUNCATEDIV, r.x[1])),
        ]),
    )
};

/// Which result of which rounded division is wanted.
#[derive(Clone, Copy)]
enum Rounded {
    FloorQuotient,
    FloorRest,
    TruncatedQuotient,
    TruncatedRest,
}

fn divide(call: &Call, out: &[Aval], inputs: &[&Array], want: Rounded) -> Result<Arrays, Error> {
    fn typed<T: Number>(
        call: &Call,
        out: &Aval,
        inputs: &[&Array],
        want: Rounded,
    ) -> Result<Array, Error> {
        let (x, y) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
        if T::DTYPE.is_integer()
            && let Some(position) = y.iter().position(|&y| y == T::ZERO)
        {
            return Err(Error::DivisionByZero { position });
        }
        let (xs, ys) = (&call.inputs[0].shape, &call.inputs[1].shape);
        let f = match want {
            Rounded::FloorQuotient => Number::floor_div,
            Rounded::FloorRest => Number::floor_mod,
            Rounded::TruncatedQuotient => Number::trunc_div,
            Rounded::TruncatedRest => Number::trunc_mod,
        };
        Array::new(&out.shape, zip((x, xs), (y, ys), &out.shape, f)?)
    }
    Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, &out[0], inputs, want))?])
}

// --- clipping ---

attrs! {
    /// Bounds.
    Clip {
        /// Smallest result.
        clip_value_min: f64 = Required,
        /// Largest result.
        clip_value_max: f64 = Required,
    }
}

fn clip<T: Real + Lane>(attrs: &Attrs, inputs: &[Lanes], out: &mut Output) -> Result<(), Error> {
    let Clip { clip_value_min, clip_value_max } = Clip::read(attrs);
    let (low, high) = (T::of(clip_value_min), T::of(clip_value_max));
    loops::map(inputs, out, |x: T| {
        let x = if x < low { low } else { x };
        if x > high { high } else { x }
    })
}

/// Clips to bounds. A composite would give the second bound the tie and lose the gradient on it.
pub static CLIP_BY_VALUE: OpDef = OpDef {
    attrs: Clip::SPECS,
    infer: |call| {
        let Clip { clip_value_min, clip_value_max } = Clip::read(call.attrs);
        // Also true if one of them is NaN.
        if !matches!(
            clip_value_min.partial_cmp(&clip_value_max),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        ) {
            return Err(Error::attribute("clip_value_min", "must not be more than clip_value_max"));
        }
        family::same(call)
    },
    samples: &[family::sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || Clip::named(-1.0, 1.5))],
    ..family::unary(
        "clip_by_value",
        "Clips to bounds; the gradient passes on the bounds too.",
        "y = min(max(x, clip_value_min), clip_value_max)",
        Kernel::Elementwise(|dtype| match dtype {
            DType::F32 => Some(clip::<f32>),
            DType::F64 => Some(clip::<f64>),
            DType::I32 | DType::I64 | DType::Bool | DType::F16 | DType::BF16 => None,
        }),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            let Clip { clip_value_min, clip_value_max } = Clip::read(r.attrs);
            let above = r.x[0].zip(&GREATER_EQUAL, r.x[0].scalar(clip_value_min));
            let below = r.x[0].zip(&LESS_EQUAL, r.x[0].scalar(clip_value_max));
            above.zip(&LOGICAL_AND, below).cast(r.x[0].dtype())
        })]),
    )
};

impl Clip {
    fn named(low: f64, high: f64) -> Vec<(&'static str, attrs::Attr)> {
        vec![
            ("clip_value_min", attrs::Attr::Double(low)),
            ("clip_value_max", attrs::Attr::Double(high)),
        ]
    }
}
