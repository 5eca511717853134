//! Images of shape [batch, height, width, channels]: other sizes and crops.
//!
//! Positions are those of TensorFlow 2's `tf.image`: pixels have half-integer centres, and nothing is antialiased.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{real::Real, resample::Taps},
    op::{Call, Cost, Derivative, Kernel, OpDef, Reads, Rule, Sample, cotangents},
    ops::{
        CEIL, CONCAT, FLOOR, FLOORDIV, GATHER, GATHER_ND, GREATER_EQUAL, Gather, GatherNd, Join,
        LESS_EQUAL, LOGICAL_AND, MAXIMUM, MINIMUM,
        family::{self, by_dtype, common_dtype, index, integer, ints, sample_with, uniform},
        rearrange::part,
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&RESIZE, &RESIZE_SCATTER, &RESIZE_NEAREST, &CROP_AND_RESIZE];

const fn imaging(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef { family: "image", ..family::unary(name, summary, formula, kernel, derivative) }
}

/// The extents of images, which must have pixels.
pub(super) fn extents(x: &Shape) -> Result<[usize; 4], Error> {
    match x[..] {
        [n, h, w, c] if h > 0 && w > 0 => Ok([n, h, w, c]),
        _ => Err(Error::InvalidShape {
            shape: x.to_i64().as_slice().into(),
            why: "images have the shape [batch, height, width, channels], with one pixel or more",
        }),
    }
}

/// Two numbers from 1 on.
pub(super) fn pair(name: &str, values: &[i64]) -> Result<[usize; 2], Error> {
    let positive = |&n: &i64| usize::try_from(n).ok().filter(|&n| n > 0);
    match values {
        [a, b] => positive(a).zip(positive(b)).map(|(a, b)| [a, b]),
        _ => None,
    }
    .ok_or_else(|| Error::attribute(name, "must be two numbers from 1 on"))
}

// --- resizing ---

attrs! {
    /// Attributes of resizing by weighted sums.
    Resize {
        /// Height and width of the result.
        size: Ints = Required,
        /// "bilinear", or "bicubic" after Keys with a = -0.5.
        method: String = Text("bilinear"),
    }
}

fn check_method(method: &str) -> Result<(), Error> {
    if matches!(method, "bilinear" | "bicubic") {
        return Ok(());
    }
    Err(Error::attribute("method", "must be \"bilinear\" or \"bicubic\""))
}

/// The taps of an axis. Positions are computed in `float32`, as in TensorFlow, whose numbers these are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "positions lie between -1 and the extent, and are clamped"
)]
fn taps(method: &str, from: usize, to: usize) -> Result<Taps, Error> {
    let scale = from as f32 / to as f32;
    let position = |i: usize| (i as f32 + 0.5) * scale - 0.5;
    let clamped = |at: f32| (at.max(0.0) as usize).min(from - 1);
    if method == "bilinear" {
        return Taps::new(to, |i| {
            let at = position(i);
            let share = f64::from(at - at.floor());
            [(clamped(at.floor()), 1.0 - share), (clamped(at.ceil()), share)]
        });
    }
    Taps::new(to, |i| -> [(usize, f64); 4] {
        let at = position(i);
        let whole = at.floor();
        // TensorFlow reads its weights from a table with 1,024 steps.
        let share = f64::from(((at - whole) * 1024.0).round_ties_even()) / 1024.0;
        let distances = [1.0 + share, share, 1.0 - share, 2.0 - share];
        let places = [-1.0, 0.0, 1.0, 2.0].map(|step| whole + step);
        // A neighbour outside the image has no weight, and the others make up for it.
        let weights: [f64; 4] = std::array::from_fn(|tap| {
            let inside = (0.0..from as f32).contains(&places[tap]);
            if inside { keys(distances[tap]) } else { 0.0 }
        });
        let sum: f64 = weights.iter().sum();
        std::array::from_fn(|tap| (clamped(places[tap]), weights[tap] / sum))
    })
}

/// Keys' cubic convolution kernel with a = -0.5: "Cubic convolution interpolation for digital image processing", 1981.
fn keys(x: f64) -> f64 {
    if x <= 1.0 { (1.5 * x - 2.5) * x * x + 1.0 } else { ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 }
}

/// The price of resizing between two shapes, one axis after the other.
fn resize_cost(small: &Shape, large: &Shape) -> Cost {
    let ([n, h, _, c], [_, height, width, _]) = (
        <[usize; 4]>::try_from(&small[..]).unwrap_or_default(),
        <[usize; 4]>::try_from(&large[..]).unwrap_or_default(),
    );
    let product = |extents: [usize; 4]| {
        extents.iter().fold(1_u64, |product, &extent| product.saturating_mul(extent as u64))
    };
    let between = product([n, h, width, c]);
    let all = between.saturating_add(product([n, height, width, c]));
    let taps =
        [h, height, small.get(2).copied().unwrap_or(0), width].iter().map(|&n| n as u64).sum();
    Cost {
        flops: all.saturating_mul(8),
        workspace: between
            .saturating_mul(8)
            .saturating_add(product([8, 8, 1, 1]).saturating_mul(taps)),
    }
}

const RESIZES: &[Sample] = &[
    sample_with(&[uniform(&[1, 3, 2, 2], -2.0, 2.0)], || vec![ints("size", &[5, 4])]),
    sample_with(&[uniform(&[2, 4, 3, 1], -2.0, 2.0)], || {
        vec![ints("size", &[3, 5]), ("method", Attr::Text("bicubic".into()))]
    }),
    sample_with(&[uniform(&[0, 3, 2, 2], -2.0, 2.0)], || vec![ints("size", &[2, 2])]),
];

/// Images of another size.
pub static RESIZE: OpDef = OpDef {
    attrs: Resize::SPECS,
    infer: |call| {
        let Resize { size, method } = Resize::read(call.attrs);
        check_method(&method)?;
        let ([n, _, _, c], [h, w]) = (extents(&call.inputs[0].shape)?, pair("size", &size)?);
        Ok(smallvec![Aval::new(call.inputs[0].dtype, [n, h, w, c])])
    },
    cost: |call, out| resize_cost(&out[0].shape, &call.inputs[0].shape),
    samples: RESIZES,
    ..imaging(
        "resize",
        "Images in another size, bilinear or bicubic.",
        "y[i, j] = sum of weights[i, p] * weights[j, q] * x[p, q]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real>(call: &Call, out: &Aval, x: &Array) -> Result<Array, Error> {
                let method = Resize::read(call.attrs).method;
                let ([n, h, w, c], x) = (extents(&call.inputs[0].shape)?, x.elements::<T>()?);
                let (height, width) = (out.shape[1], out.shape[2]);
                if x.is_empty() {
                    return Array::new(&out.shape, Vec::<T>::new());
                }
                let rows = taps(&method, h, height)?.apply(x, [n, h, w * c])?;
                let all = taps(&method, w, width)?.apply(&rows, [n * height, w, c])?;
                Array::new(&out.shape, all)
            }
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => typed::<T>(call, &out[0], inputs[0]))?
            ])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([resized(r, ct[0], &RESIZE_SCATTER)]),
        },
    )
};

/// Applies a resize or its transpose to get back to the size of the input.
fn resized<'g>(r: &Rule<'g>, ct: Var<'g>, op: &'static OpDef) -> Var<'g> {
    let size = r.x[0].shape().to_i64()[1..3].into();
    ct.op(op, Resize { size, method: Resize::read(r.attrs).method }.write(), &[])
}

/// The transpose of a resize.
pub static RESIZE_SCATTER: OpDef = OpDef {
    attrs: Resize::SPECS,
    infer: |call| {
        let Resize { size, method } = Resize::read(call.attrs);
        check_method(&method)?;
        let ([n, _, _, c], [h, w]) = (extents(&call.inputs[0].shape)?, pair("size", &size)?);
        Ok(smallvec![Aval::new(call.inputs[0].dtype, [n, h, w, c])])
    },
    cost: |call, out| resize_cost(&call.inputs[0].shape, &out[0].shape),
    samples: RESIZES,
    ..imaging(
        "resize_scatter",
        "Adds each pixel to those that `resize` to its image's size would take it from: the transpose of that.",
        "y[p, q] = sum of weights[i, p] * weights[j, q] * x[i, j]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real>(call: &Call, out: &Aval, x: &Array) -> Result<Array, Error> {
                let method = Resize::read(call.attrs).method;
                let ([n, height, width, c], x) =
                    (extents(&call.inputs[0].shape)?, x.elements::<T>()?);
                let (h, w) = (out.shape[1], out.shape[2]);
                if x.is_empty() {
                    return Array::new(&out.shape, Vec::<T>::new());
                }
                let rows = taps(&method, w, width)?.transpose(x, [n * height, w, c])?;
                let all = taps(&method, h, height)?.transpose(&rows, [n, h, w * c])?;
                Array::new(&out.shape, all)
            }
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => typed::<T>(call, &out[0], inputs[0]))?
            ])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([resized(r, ct[0], &RESIZE)]),
        },
    )
};

attrs! {
    /// A size.
    ToSize {
        /// Height and width of the result.
        size: Ints = Required,
    }
}

/// Images of another size by picking pixels.
pub static RESIZE_NEAREST: OpDef = OpDef {
    dtypes: DTypes::ANY,
    attrs: ToSize::SPECS,
    infer: |call| {
        let ([n, _, _, c], [h, w]) =
            (extents(&call.inputs[0].shape)?, pair("size", &ToSize::read(call.attrs).size)?);
        Ok(smallvec![Aval::new(call.inputs[0].dtype, [n, h, w, c])])
    },
    samples: &[sample_with(&[uniform(&[1, 3, 2, 2], -2.0, 2.0)], || vec![ints("size", &[5, 3])])],
    ..imaging(
        "resize_nearest",
        "Images in another size, each pixel that of the input whose centre is nearest.",
        "y[i, j] = x[floor((i + 0.5) * h / height), floor((j + 0.5) * w / width)]",
        Kernel::Composite(|r| {
            let size = pair("size", &ToSize::read(r.attrs).size).unwrap_or([1; 2]);
            let shape = r.x[0].shape();
            smallvec![size.iter().zip(1..).fold(r.x[0], |x, (&to, axis)| {
                // In integers, so that nothing is rounded: floor((2 i + 1) from / (2 to)).
                let numerator = (x.graph().positions(to) * 2.0 + 1.0) * float(shape[axis]);
                let picks = numerator.zip(&FLOORDIV, numerator.scalar(2.0 * float(to)));
                along(x, picks, axis)
            })]
        }),
        Derivative::None,
    )
};

#[expect(clippy::cast_precision_loss, reason = "extents are far below 2^52")]
pub(super) fn float(extent: usize) -> f64 {
    extent as f64
}

/// Slices picked along an axis.
pub(super) fn along<'g>(x: Var<'g>, picks: Var<'g>, axis: usize) -> Var<'g> {
    let axis = Shape::from([axis]).to_i64()[0];
    x.op(&GATHER, Gather { axis, batch_dims: 0 }.write(), &[picks])
}

// --- crops ---

attrs! {
    /// Attributes of crops.
    CropAndResize {
        /// Height and width of the crops.
        crop_size: Ints = Required,
        /// "bilinear" or "nearest".
        method: String = Text("bilinear"),
        /// What a position outside the image holds.
        extrapolation_value: f64 = Double(0.0),
    }
}

/// Resized crops.
pub static CROP_AND_RESIZE: OpDef = OpDef {
    inputs: &["image", "boxes", "box_indices"],
    attrs: CropAndResize::SPECS,
    infer: |call| {
        let [image, boxes, indices] = call.inputs else {
            return Err(Error::bug("crop_and_resize takes three inputs"));
        };
        let CropAndResize { crop_size, method, .. } = CropAndResize::read(call.attrs);
        let ([_, _, _, c], [h, w]) = (extents(&image.shape)?, pair("crop_size", &crop_size)?);
        let dtype = common_dtype(image, boxes)?;
        integer(indices)?;
        if !matches!(&method[..], "bilinear" | "nearest") {
            return Err(Error::attribute("method", "must be \"bilinear\" or \"nearest\""));
        }
        match (&boxes.shape[..], &indices.shape[..]) {
            (&[n, 4], &[m]) if n == m => Ok(smallvec![Aval::new(dtype, [n, h, w, c])]),
            _ => Err(Error::ShapeMismatch {
                lhs: boxes.shape.clone(),
                rhs: indices.shape.clone(),
                expected: "the first must be [boxes, 4] and the second [boxes]",
            }),
        }
    },
    samples: &[
        sample_with(
            &[uniform(&[2, 4, 5, 2], -2.0, 2.0), uniform(&[3, 4], 0.1, 0.9), index(&[3], 0, 2)],
            || vec![ints("crop_size", &[3, 2])],
        ),
        sample_with(
            &[uniform(&[2, 4, 5, 1], -2.0, 2.0), uniform(&[2, 4], -0.6, 1.4), index(&[2], 0, 2)],
            || vec![ints("crop_size", &[1, 4]), ("extrapolation_value", Attr::Double(0.5))],
        ),
        sample_with(
            &[uniform(&[1, 4, 5, 1], -2.0, 2.0), uniform(&[2, 4], 0.1, 0.9), index(&[2], 0, 1)],
            || vec![ints("crop_size", &[2, 3]), ("method", Attr::Text("nearest".into()))],
        ),
    ],
    ..imaging(
        "crop_and_resize",
        "Crops boxes [y1, x1, y2, x2] out of images, in shares of their extents, and resizes them.",
        "y[n, i, j] = image[box_indices[n], y1 + i * (y2 - y1) / (h - 1), x1 + j * (x2 - x1) / (w - 1)]",
        Kernel::Composite(|r| smallvec![crop_and_resize(r)]),
        Derivative::None,
    )
};

/// The positions of a crop's rows or columns in an image, each in a shape that broadcasts to [boxes, height, width, 1].
struct Line<'g> {
    positions: Var<'g>,
    extent: usize,
}

impl<'g> Line<'g> {
    /// Rows if `axis` is 0, columns if it is 1.
    fn new(boxes: Var<'g>, axis: usize, extent: usize, count: usize) -> Self {
        let last = float(extent - 1);
        let (start, end) = (part(boxes, 1, axis, 1) * last, part(boxes, 1, axis + 2, 1) * last);
        let positions = if count > 1 {
            let steps = boxes.graph().positions(count).cast(boxes.dtype());
            let steps = steps.reshape(&[1, count].into());
            start + steps * ((end - start) / (float(count) - 1.0))
        } else {
            (start + end) * 0.5
        };
        let mut shape = Shape::from([boxes.shape()[0], 1, 1, 1]);
        shape.set(axis + 1, count);
        Self { positions: positions.reshape(&shape), extent }
    }

    /// Whether positions lie within the image.
    fn within(&self) -> Var<'g> {
        let at = self.positions;
        let from = at.zip(&GREATER_EQUAL, at.scalar(0.0));
        from.zip(&LOGICAL_AND, at.zip(&LESS_EQUAL, at.scalar(float(self.extent - 1))))
    }

    /// Whole positions as indices.
    fn indices(&self, whole: Var<'g>) -> Var<'g> {
        let whole = whole.cast(DType::I64);
        let last = whole.scalar(float(self.extent - 1));
        whole.zip(&MAXIMUM, whole.scalar(0.0)).zip(&MINIMUM, last)
    }
}

fn crop_and_resize<'g>(r: &Rule<'g>) -> Var<'g> {
    let CropAndResize { crop_size, method, extrapolation_value } = CropAndResize::read(r.attrs);
    let (image, boxes) = (r.x[0], r.x[1]);
    let ([_, h, w, _], [height, width]) = (
        extents(&image.shape()).unwrap_or([1; 4]),
        pair("crop_size", &crop_size).unwrap_or([1; 2]),
    );
    let (rows, columns) = (Line::new(boxes, 0, h, height), Line::new(boxes, 1, w, width));
    let count = boxes.shape()[0];
    let numbers = r.x[2].cast(DType::I64).reshape(&[count, 1, 1, 1].into());
    let pixels = |y: Var<'g>, x: Var<'g>| {
        let wide = |v: Var<'g>| v.broadcast_to(&[count, height, width, 1].into());
        let parts = [wide(rows.indices(y)), wide(columns.indices(x))];
        let tuples = wide(numbers).op(&CONCAT, Join { axis: -1 }.write(), &parts);
        image.op(&GATHER_ND, GatherNd { batch_dims: 0 }.write(), &[tuples])
    };
    let [y, x] = [rows.positions, columns.positions];
    let value = if method == "nearest" {
        pixels((y + 0.5).map(&FLOOR), (x + 0.5).map(&FLOOR))
    } else {
        let [(top, bottom), (left, right)] = [y, x].map(|at| (at.map(&FLOOR), at.map(&CEIL)));
        let between = |a: Var<'g>, b: Var<'g>, share: Var<'g>| a + (b - a) * share;
        let row = |y| between(pixels(y, left), pixels(y, right), x - left);
        between(row(top), row(bottom), y - top)
    };
    let within = rows.within().zip(&LOGICAL_AND, columns.within());
    value.select(within, value.scalar(extrapolation_value))
}
