//! Error functions, gamma functions, and products with logarithms.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::Attr,
    aval::Aval,
    error::Error,
    graph::Var,
    kernels::{
        elementwise::{map, zip},
        gamma,
        real::Real,
        special,
    },
    op::{Arrays, Call, Cost, Derivative, Kernel, OpDef, Reads, Sample, d},
    ops::{
        EXP, LOG, NOT_EQUAL, SQUARE,
        family::{
            self, by_dtype, each_kernel, function_kernel, sample, sample_with, uniform, zip_kernel,
        },
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &ERF, &ERFC, &ERFINV, &NDTRI, &LGAMMA, &DIGAMMA, &POLYGAMMA, &IGAMMA, &IGAMMAC, &XLOGY,
    &XLOG1PY, &XDIVY,
];

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
    function_kernel!(F32 F64: |x| x.erf_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| bell(r.x[0]))]),
);

/// Complement of the error function. A primitive because 1 - erf(x) has no digits left where erf(x) is nearly 1.
pub static ERFC: OpDef = family::unary(
    "erfc",
    "Complement of the error function, accurate where it is small.",
    "y = 1 - erf(x)",
    function_kernel!(F32 F64: |x| x.erfc_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| -bell(r.x[0]))]),
);

/// Inverse error function.
pub static ERFINV: OpDef = OpDef {
    samples: &[sample(&[uniform(&[2, 3], -0.9, 0.9)])],
    ..family::unary(
        "erfinv",
        "Inverse error function: infinite at -1 and 1, NaN beyond.",
        "erf(y) = x",
        each_kernel!(F32 F64: |x| x.in_f64(special::erfinv)),
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
        each_kernel!(F32 F64: |x| x.in_f64(special::ndtri)),
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
        each_kernel!(F32 F64: |x| x.lgamma_()),
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
        each_kernel!(F32 F64: |x| x.in_f64(special::digamma)),
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
            let n = usize::try_from(Polygamma::read(call.attrs).n).unwrap_or_default();
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let f = |x: T| x.in_f64(|x| special::polygamma(n, x));
                Array::new(&out[0].shape, map(inputs[0].elements::<T>()?, f)?)
            })?])
        }),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            polygamma(Polygamma::read(r.attrs).n + 1, r.x[0])
        })]),
    )
};

attrs! {
    /// An order of differentiation.
    Igamma {
        /// How often it is differentiated with respect to a, from 0 to 4.
        order: i64 = Int(0),
    }
}

/// Positive shapes and arguments on both sides of them.
const SHAPES: &[crate::op::Input] = &[uniform(&[2, 4], 0.5, 4.0), uniform(&[4], 0.2, 6.0)];

/// Incomplete gamma function.
pub static IGAMMA: OpDef = OpDef {
    inputs: &["a", "x"],
    attrs: Igamma::SPECS,
    infer: |call| {
        let order = usize::try_from(Igamma::read(call.attrs).order);
        if order.is_ok_and(|order| order <= gamma::MAX_ORDER) {
            return family::broadcast(call);
        }
        Err(Error::attribute("order", format!("must be from 0 to {}", gamma::MAX_ORDER)))
    },
    cost: gamma_cost,
    samples: &[
        sample(SHAPES),
        sample_with(SHAPES, || vec![("order", Attr::Int(1))]),
        sample_with(SHAPES, || vec![("order", Attr::Int(2))]),
    ],
    ..family::binary(
        "igamma",
        "Regularized lower incomplete gamma function, the distribution function of gamma variables, or its derivative with respect to a. NaN where x is near an a above 300,000.",
        "z = integral of t^(a - 1) exp(-t) from 0 to x / gamma(a)",
        Kernel::Run(|call, out, inputs| {
            let order = usize::try_from(Igamma::read(call.attrs).order).unwrap_or(0);
            zipped(call, out, inputs, |a, x| gamma::lower(a, x, order))
        }),
        Derivative::Elementwise(&[
            d(Reads::X, |r| igamma(Igamma::read(r.attrs).order + 1, r.x[0], r.x[1])),
            d(Reads::X, |r| density(Igamma::read(r.attrs).order, r.x[0], r.x[1])),
        ]),
    )
};

/// Complement of the incomplete gamma function. A primitive because 1 - igamma has no digits left where that is nearly 1.
pub static IGAMMAC: OpDef = OpDef {
    inputs: &["a", "x"],
    cost: gamma_cost,
    samples: &[sample(SHAPES)],
    ..family::binary(
        "igammac",
        "Regularized upper incomplete gamma function, accurate where it is small. NaN where x is near an a above 300,000.",
        "z = 1 - igamma(a, x)",
        Kernel::Run(|call, out, inputs| zipped(call, out, inputs, gamma::upper)),
        Derivative::Elementwise(&[
            d(Reads::X, |r| -igamma(1, r.x[0], r.x[1])),
            d(Reads::X, |r| -density(0, r.x[0], r.x[1])),
        ]),
    )
};

fn gamma_cost(_: &Call, out: &[Aval]) -> Cost {
    // The longest series, of jets of five numbers.
    let terms = u64::from(gamma::MAX_TERMS) * 20;
    Cost { flops: (out[0].shape.elements() as u64).saturating_mul(terms), workspace: 0 }
}

fn zipped(
    call: &Call,
    out: &[Aval],
    inputs: &[&Array],
    f: impl Fn(f64, f64) -> f64,
) -> Result<Arrays, Error> {
    let (xs, ys) = (&call.inputs[0].shape, &call.inputs[1].shape);
    Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
        let (x, y) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
        let f = |x: T, y: T| <T as Real>::of(f(x.wide(), y.wide()));
        Array::new(&out[0].shape, zip((x, xs), (y, ys), &out[0].shape, f)?)
    })?])
}

/// The derivative of the incomplete gamma function with respect to `a`, taken `order` times.
pub(super) fn igamma<'g>(order: i64, a: Var<'g>, x: Var<'g>) -> Var<'g> {
    a.op(&IGAMMA, Igamma { order }.write(), &[x])
}

/// The density x^(a - 1) exp(-x) / gamma(a), differentiated `order` times with respect to `a`.
pub(super) fn density<'g>(order: i64, a: Var<'g>, x: Var<'g>) -> Var<'g> {
    let log = (a - 1.0).zip(&XLOGY, x) - x - a.map(&LGAMMA);
    let mut derivatives = vec![log.map(&EXP)];
    for n in 0..order {
        // By Leibniz' rule from f' = (ln f)' f, with (ln f)' = ln x - digamma(a).
        let mut sum = derivatives[0].zeros();
        let mut binomial = 1.0;
        for (k, factor) in (0..=n).zip(derivatives.iter().rev()) {
            let slope = -polygamma(k, a);
            let slope = if k == 0 { slope + x.map(&LOG) } else { slope };
            sum = sum + slope * *factor * binomial;
            #[expect(clippy::cast_precision_loss, reason = "orders are small")]
            let next = (n - k) as f64 / (k + 1) as f64;
            binomial *= next;
        }
        derivatives.push(sum);
    }
    derivatives[derivatives.len() - 1]
}

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
    function_kernel!(F32 F64: |x, y| if x == 0.0 { 0.0 } else { x * y.ln_() }),
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
    function_kernel!(F32 F64: |x, y| if x == 0.0 { 0.0 } else { x * y.ln_1p_() }),
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
