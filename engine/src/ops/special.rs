//! Error functions, gamma functions, and products with logarithms.

use crate::{
    attrs,
    attrs::Attr,
    error::Error,
    graph::Var,
    kernels::{elementwise::map, real::Real, special},
    op::{Derivative, Kernel, OpDef, Reads, Sample, d},
    ops::{
        EXP, NOT_EQUAL, SQUARE,
        family::{self, by_dtype, map_kernel, sample, sample_with, uniform, zip_kernel},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&ERF, &ERFC, &ERFINV, &NDTRI, &LGAMMA, &DIGAMMA, &POLYGAMMA, &XLOGY, &XLOG1PY, &XDIVY];

// --- error functions ---

/// 2 / sqrt(pi) exp(-x^2), the derivative of the error function.
fn bell(x: Var<'_>) -> Var<'_> {
    (-x.map(&SQUARE)).map(&EXP) * std::f64::consts::FRAC_2_SQRT_PI
}

/// Error function.
pub static ERF: OpDef = family::unary(
    "erf",
    "Error function.",
    "y = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x",
    map_kernel!(F32 F64: |x| x.erf_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| bell(r.x[0]))]),
);

/// Complement of the error function. A primitive because 1 - erf(x) has no digits left where erf(x) is nearly 1.
pub static ERFC: OpDef = family::unary(
    "erfc",
    "Complement of the error function, accurate where it is small.",
    "y = 1 - erf(x)",
    map_kernel!(F32 F64: |x| x.erfc_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| -bell(r.x[0]))]),
);

/// Inverse error function.
pub static ERFINV: OpDef = OpDef {
    samples: &[sample(&[uniform(&[2, 3], -0.9, 0.9)])],
    ..family::unary(
        "erfinv",
        "Inverse error function: infinite at -1 and 1, NaN beyond.",
        "erf(y) = x",
        map_kernel!(F32 F64: |x| x.in_f64(special::erfinv)),
        Derivative::Elementwise(&[d(Reads::Y, |r| {
            r.y().map(&SQUARE).map(&EXP) * std::f64::consts::FRAC_2_SQRT_PI.recip()
        })]),
    )
};

/// Normal quantile.
pub static NDTRI: OpDef = OpDef {
    samples: &[sample(&[uniform(&[2, 3], 0.05, 0.95)])],
    ..family::unary(
        "ndtri",
        "Quantile of the standard normal distribution: infinite at 0 and 1, NaN beyond.",
        "(1 + erf(y / sqrt(2))) / 2 = x",
        map_kernel!(F32 F64: |x| x.in_f64(special::ndtri)),
        Derivative::Elementwise(&[d(Reads::Y, |r| {
            (r.y().map(&SQUARE) * 0.5).map(&EXP) * libm::sqrt(2.0 * std::f64::consts::PI)
        })]),
    )
};

// --- gamma functions ---

/// On both sides of 0, off the poles.
const GAMMA: &[Sample] =
    &[sample(&[uniform(&[2, 3], 0.5, 3.0)]), sample(&[uniform(&[3], -1.8, -1.2)])];

/// Logarithm of the gamma function.
pub static LGAMMA: OpDef = OpDef {
    samples: GAMMA,
    ..family::unary(
        "lgamma",
        "Logarithm of the absolute value of the gamma function; infinite at 0, -1, -2, ...",
        "y = ln |gamma(x)|",
        map_kernel!(F32 F64: |x| x.lgamma_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&DIGAMMA))]),
    )
};

/// Logarithmic derivative of the gamma function.
pub static DIGAMMA: OpDef = OpDef {
    samples: GAMMA,
    ..family::unary(
        "digamma",
        "Logarithmic derivative of the gamma function; NaN at 0, -1, -2, ...",
        "y = gamma'(x) / gamma(x)",
        map_kernel!(F32 F64: |x| x.in_f64(special::digamma)),
        Derivative::Elementwise(&[d(Reads::X0, |r| polygamma(1, r.x[0]))]),
    )
};

attrs! {
    /// An order of differentiation.
    Polygamma {
        /// How often digamma is differentiated, from 0 to 100.
        n: i64 = Required,
    }
}

/// Highest order: the factorial of 170 is the last that a double holds.
const MAX_ORDER: i64 = 100;

pub(super) fn polygamma(n: i64, x: Var<'_>) -> Var<'_> {
    x.op(&POLYGAMMA, Polygamma { n }.write(), &[])
}

/// Derivatives of digamma.
pub static POLYGAMMA: OpDef = OpDef {
    attrs: Polygamma::SPECS,
    infer: |call| {
        if !(0..=MAX_ORDER).contains(&Polygamma::read(call.attrs).n) {
            return Err(Error::attribute("n", format!("must be from 0 to {MAX_ORDER}")));
        }
        family::same(call)
    },
    samples: &[
        sample_with(&[uniform(&[2, 3], 0.8, 3.0)], || vec![("n", Attr::Int(0))]),
        sample_with(&[uniform(&[2, 3], 0.8, 3.0)], || vec![("n", Attr::Int(2))]),
        sample_with(&[uniform(&[3], -1.6, -1.4)], || vec![("n", Attr::Int(1))]),
    ],
    ..family::unary(
        "polygamma",
        "The n-th derivative of digamma.",
        "y = digamma^(n)(x)",
        Kernel::Run(|call, out, inputs| {
            let n = u32::try_from(Polygamma::read(call.attrs).n).unwrap_or_default();
            Ok(smallvec::smallvec![by_dtype!(float: out[0].dtype, T => {
                let f = |x: T| x.in_f64(|x| special::polygamma(n, x));
                crate::array::Array::new(&out[0].shape, map(inputs[0].elements::<T>()?, f)?)
            })?])
        }),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            polygamma(Polygamma::read(r.attrs).n + 1, r.x[0])
        })]),
    )
};

// --- products with logarithms ---

/// One where a value is not zero, else zero.
fn nonzero(x: Var<'_>) -> Var<'_> {
    x.zip(&NOT_EQUAL, x.scalar(0.0)).cast(x.dtype())
}

/// Product with a logarithm.
pub static XLOGY: OpDef = family::binary(
    "xlogy",
    "Product with a logarithm, and 0 where the factor is 0; so are its derivatives there.",
    "z = x ln(y) if x != 0 else 0",
    zip_kernel!(F32 F64: |x, y| if x == 0.0 { 0.0 } else { x * y.ln_() }),
    Derivative::Elementwise(&[
        d(Reads::X, |r| nonzero(r.x[0]).zip(&XLOGY, r.x[1])),
        d(Reads::X, |r| r.x[0].zip(&XDIVY, r.x[1])),
    ]),
);

/// Product with a logarithm of one plus y.
pub static XLOG1PY: OpDef = family::binary(
    "xlog1py",
    "Product with a logarithm of 1 + y, and 0 where the factor is 0; so are its derivatives there.",
    "z = x ln(1 + y) if x != 0 else 0",
    zip_kernel!(F32 F64: |x, y| if x == 0.0 { 0.0 } else { x * y.ln_1p_() }),
    Derivative::Elementwise(&[
        d(Reads::X, |r| nonzero(r.x[0]).zip(&XLOG1PY, r.x[1])),
        d(Reads::X, |r| r.x[0].zip(&XDIVY, r.x[1] + 1.0)),
    ]),
);

/// Quotient that is 0 where the dividend is.
pub static XDIVY: OpDef = family::binary(
    "xdivy",
    "Quotient, and 0 where the dividend is 0; so are its derivatives there.",
    "z = x / y if x != 0 else 0",
    zip_kernel!(F32 F64: |x, y| if x == 0.0 { 0.0 } else { x / y }),
    Derivative::Elementwise(&[
        d(Reads::X, |r| nonzero(r.x[0]).zip(&XDIVY, r.x[1])),
        d(Reads::X, |r| -r.x[0].zip(&XDIVY, r.x[1].map(&SQUARE))),
    ]),
);
