//! Convolutions over one to three spatial axes: one product of an input, a filter and an output, solved for each of them.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs::{AttrSpec, Attrs, joined},
    aval::{Aval, Avals, Shape},
    error::Error,
    graph::Var,
    kernels::convolution::{Convolution, Pixel, Product},
    op::{Call, Cost, Cotangents, Derivative, Kernel, OpDef, Rule, Vjp},
    ops::{
        InputShape, Sliding,
        family::{self, by_dtype, common_dtype, ints, sample, sample_with, uniform},
        window::{channels, sliding, spatial, windows, with_shape},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&CONVOLUTION, &CONVOLUTION_INPUT_GRADIENT, &CONVOLUTION_FILTER_GRADIENT];

/// Attributes of the two gradients: those of the convolution, and the shape of the result.
const GRADIENT_SPECS: &[AttrSpec] = &joined::<6>(Sliding::SPECS, InputShape::SPECS);

/// The geometry of a convolution of an input with a filter, whose shapes are given.
fn geometry(x: &Shape, filter: &Shape, sliding: &Sliding) -> Result<Convolution, Error> {
    let misfit = |expected| Error::ShapeMismatch { lhs: x.clone(), rhs: filter.clone(), expected };
    let rank = spatial(x)?;
    if filter.len() != x.len() {
        return Err(misfit("the filter must have as many axes as the input"));
    }
    if filter[..rank].contains(&0) {
        let shape = filter.to_i64().as_slice().into();
        return Err(Error::InvalidShape { shape, why: "a filter needs a window" });
    }
    let (inputs, outputs, channels) = (filter[rank], filter[rank + 1], channels(x, sliding)?);
    // An input without channels is one empty group.
    let groups = if channels == inputs { Some(1) } else { channels.checked_div(inputs) };
    let groups = groups
        .filter(|groups| groups * inputs == channels && outputs.checked_rem(*groups) == Some(0))
        .ok_or_else(|| {
            misfit(
                "channels must be a multiple of the filter's inputs, and its outputs of the groups",
            )
        })?;
    let windows = windows(x, &filter[..rank], sliding)?;
    Ok(Convolution { windows, groups, inputs, outputs: outputs / groups })
}

/// The shape of the output.
fn output(convolution: &Convolution) -> Shape {
    convolution.windows.shape(convolution.groups * convolution.outputs)
}

/// The shapes of input and filter, whichever of the three products it is.
type Shapes = fn(&Call) -> Result<(Shape, Shape), Error>;

fn result_shape(call: &Call) -> Result<Shape, Error> {
    Shape::checked(&InputShape::read(&call.attrs.after(Sliding::SPECS)).shape)
}

#[expect(clippy::unnecessary_wraps, reason = "one of the `Shapes`")]
fn both_given(call: &Call) -> Result<(Shape, Shape), Error> {
    Ok((call.inputs[0].shape.clone(), call.inputs[1].shape.clone()))
}

fn input_asked(call: &Call) -> Result<(Shape, Shape), Error> {
    Ok((result_shape(call)?, call.inputs[0].shape.clone()))
}

fn filter_asked(call: &Call) -> Result<(Shape, Shape), Error> {
    Ok((call.inputs[0].shape.clone(), result_shape(call)?))
}

fn convolution(call: &Call, shapes: Shapes) -> Result<Convolution, Error> {
    let (x, filter) = shapes(call)?;
    geometry(&x, &filter, &Sliding::read(call.attrs))
}

/// The result of a gradient, if its second input has the shape of the convolution's output.
fn infer_gradient(call: &Call, shapes: Shapes) -> Result<Avals, Error> {
    let dtype = common_dtype(&call.inputs[0], &call.inputs[1])?;
    let (y, expected) = (&call.inputs[1].shape, output(&convolution(call, shapes)?));
    if *y != expected {
        let (lhs, rhs) = (y.clone(), expected);
        return Err(Error::ShapeMismatch {
            lhs,
            rhs,
            expected: "the second input must have the shape of the convolution's output",
        });
    }
    Ok(smallvec![Aval { dtype, shape: result_shape(call)? }])
}

fn cost(call: &Call, shapes: Shapes, product: Product) -> Cost {
    let Ok(convolution) = convolution(call, shapes) else { return Cost::default() };
    let workspace = match call.inputs[0].dtype.size() {
        8 => f64::workspace(&convolution, product),
        _ => f32::workspace(&convolution, product),
    };
    Cost { flops: convolution.flops(), workspace }
}

/// Runs one of the three products.
macro_rules! product {
    ($shapes:ident, $product:expr) => {
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Pixel>(
                convolution: &Convolution,
                inputs: &[&Array],
                out: &Aval,
            ) -> Result<Array, Error> {
                let (a, b) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
                Array::new(&out.shape, T::compute(convolution, $product, a, b)?)
            }
            let convolution = convolution(call, $shapes)?;
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => typed::<T>(&convolution, inputs, &out[0]))?
            ])
        })
    };
}

const fn product(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    transpose: Vjp,
) -> OpDef {
    let derivative = Derivative::Multilinear { transpose };
    OpDef { family: "nn", ..family::binary(name, summary, formula, kernel, derivative) }
}

/// The cotangents that are needed of two inputs.
fn needed<'g>(
    r: &Rule<'g>,
    first: impl FnOnce() -> Var<'g>,
    second: impl FnOnce() -> Var<'g>,
) -> Cotangents<'g> {
    smallvec![r.needs[0].then(|| first().into()), r.needs[1].then(|| second().into())]
}

fn input_gradient<'g>(filter: Var<'g>, y: Var<'g>, x: &Shape, attrs: &Attrs) -> Var<'g> {
    filter.op(&CONVOLUTION_INPUT_GRADIENT, with_shape(attrs, x), &[y])
}

fn filter_gradient<'g>(x: Var<'g>, y: Var<'g>, filter: &Shape, attrs: &Attrs) -> Var<'g> {
    x.op(&CONVOLUTION_FILTER_GRADIENT, with_shape(attrs, filter), &[y])
}

/// Convolution.
pub static CONVOLUTION: OpDef = OpDef {
    inputs: &["x", "filter"],
    outputs: &["y"],
    attrs: Sliding::SPECS,
    infer: |call| {
        let dtype = common_dtype(&call.inputs[0], &call.inputs[1])?;
        Ok(smallvec![Aval { dtype, shape: output(&convolution(call, both_given)?) }])
    },
    cost: |call, _| cost(call, both_given, Product::Output),
    samples: &[
        sample(&[uniform(&[2, 4, 2], -1.0, 1.0), uniform(&[3, 2, 3], -1.0, 1.0)]),
        sample_with(
            &[uniform(&[1, 4, 5, 2], -1.0, 1.0), uniform(&[3, 2, 2, 2], -1.0, 1.0)],
            || sliding(&[2, 1], &[1, 2], "SAME", false),
        ),
        sample_with(
            &[uniform(&[2, 4, 3, 4], -1.0, 1.0), uniform(&[2, 2, 2, 2], -1.0, 1.0)],
            || sliding(&[1, 2], &[1, 1], "EXPLICIT", true),
        ),
        sample_with(
            &[uniform(&[1, 3, 2, 3, 2], -1.0, 1.0), uniform(&[2, 1, 2, 1, 4], -1.0, 1.0)],
            || sliding(&[1, 1, 2], &[2, 1, 1], "SAME", false),
        ),
        // Large enough for Winograd's algorithm, with tiles that are cut and channels that fill no register.
        sample_with(
            &[uniform(&[2, 7, 9, 32], -1.0, 1.0), uniform(&[3, 3, 32, 33], -0.1, 0.1)],
            || sliding(&[1, 1], &[1, 1], "SAME", false),
        ),
        sample_with(
            &[uniform(&[2, 32, 9, 10], -1.0, 1.0), uniform(&[3, 3, 32, 32], -0.1, 0.1)],
            || sliding(&[1, 1], &[1, 1], "VALID", true),
        ),
    ],
    ..product(
        "convolution",
        "Correlation with a filter of shape [window, inputs, outputs] over one to three spatial axes; with as many groups as \
         the filter's inputs go into the channels.",
        "y[n, i, k] = sum_{j, c} x[n, i strides + j dilations, c] filter[j, c, k]",
        product!(both_given, Product::Output),
        |r, ct| {
            let (x, filter) = (r.x[0], r.x[1]);
            needed(
                r,
                || input_gradient(filter, ct[0], &x.shape(), r.attrs),
                || filter_gradient(x, ct[0], &filter.shape(), r.attrs),
            )
        },
    )
};

/// Transpose of a convolution with respect to its input.
pub static CONVOLUTION_INPUT_GRADIENT: OpDef = OpDef {
    inputs: &["filter", "y"],
    outputs: &["x"],
    attrs: GRADIENT_SPECS,
    infer: |call| infer_gradient(call, input_asked),
    cost: |call, _| cost(call, input_asked, Product::Input),
    samples: &[
        sample_with(&[uniform(&[3, 2, 2], -1.0, 1.0), uniform(&[2, 2, 2], -1.0, 1.0)], || {
            vec![ints("shape", &[2, 4, 2])]
        }),
        sample_with(
            &[uniform(&[2, 2, 1, 4], -1.0, 1.0), uniform(&[1, 4, 2, 2], -1.0, 1.0)],
            || {
                let mut attrs = sliding(&[2, 2], &[1, 1], "SAME", true);
                attrs.push(ints("shape", &[1, 2, 4, 3]));
                attrs
            },
        ),
        sample_with(
            &[uniform(&[3, 3, 33, 32], -0.1, 0.1), uniform(&[2, 7, 7, 32], -1.0, 1.0)],
            || vec![ints("shape", &[2, 9, 9, 33])],
        ),
    ],
    ..product(
        "convolution_input_gradient",
        "Transposed convolution: the transpose of `convolution` with respect to its input, whose shape is given.",
        "x[n, i strides + j dilations, c] += y[n, i, k] filter[j, c, k]",
        product!(input_asked, Product::Input),
        |r, ct| {
            let (filter, y, attrs) = (r.x[0], r.x[1], r.attrs.until(Sliding::SPECS));
            needed(
                r,
                || filter_gradient(ct[0], y, &filter.shape(), &attrs),
                || ct[0].op(&CONVOLUTION, attrs.clone(), &[filter]),
            )
        },
    )
};

/// Transpose of a convolution with respect to its filter.
pub static CONVOLUTION_FILTER_GRADIENT: OpDef = OpDef {
    inputs: &["x", "y"],
    outputs: &["filter"],
    attrs: GRADIENT_SPECS,
    infer: |call| infer_gradient(call, filter_asked),
    cost: |call, _| cost(call, filter_asked, Product::Filter),
    samples: &[
        sample_with(&[uniform(&[2, 4, 2], -1.0, 1.0), uniform(&[2, 2, 2], -1.0, 1.0)], || {
            vec![ints("shape", &[3, 2, 2])]
        }),
        sample_with(
            &[uniform(&[1, 2, 4, 3], -1.0, 1.0), uniform(&[1, 4, 2, 2], -1.0, 1.0)],
            || {
                let mut attrs = sliding(&[2, 2], &[1, 1], "SAME", true);
                attrs.push(ints("shape", &[2, 2, 1, 4]));
                attrs
            },
        ),
    ],
    ..product(
        "convolution_filter_gradient",
        "The transpose of `convolution` with respect to its filter, whose shape is given.",
        "filter[j, c, k] = sum_{n, i} x[n, i strides + j dilations, c] y[n, i, k]",
        product!(filter_asked, Product::Filter),
        |r, ct| {
            let (x, y, attrs) = (r.x[0], r.x[1], r.attrs.until(Sliding::SPECS));
            needed(
                r,
                || input_gradient(ct[0], y, &x.shape(), &attrs),
                || x.op(&CONVOLUTION, attrs.clone(), &[ct[0]]),
            )
        },
    )
};
