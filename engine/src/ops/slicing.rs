//! Cutting windows out of tensors, and changing them.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, Element, filled},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    batching::{Batch, Batching, prefixed},
    dtype::{DType, DTypes},
    error::Error,
    kernels::strided::{Walk, signed},
    op::{Derivative, Kernel, OpDef, Reads, cotangents},
    ops::{
        copied,
        family::{self, by_dtype, common_dtype, ints, sample_with, uniform},
        padding::pad_back,
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&SLICE, &STRIDED_SLICE, &STRIDED_SLICE_SCATTER, &TENSOR_STRIDED_SLICE_UPDATE];

const fn indexing(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "array",
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

// --- windows ---

attrs! {
    /// A window.
    Slice {
        /// First position along each axis.
        begin: Ints = Required,
        /// Extent along each axis; -1 for all that is left.
        size: Ints = Required,
    }
}

fn window(x: &Shape, attrs: &attrs::Attrs) -> Result<(SmallVec<[usize; 8]>, Shape), Error> {
    let Slice { begin, size } = Slice::read(attrs);
    if begin.len() != x.len() || size.len() != x.len() {
        return Err(Error::attribute("begin", format!("and size must have {} entries", x.len())));
    }
    let mut starts = SmallVec::new();
    let mut shape = Shape::scalar();
    for (axis, (&begin, &size)) in begin.iter().zip(&size).enumerate() {
        let out_of_range = || {
            Error::attribute("begin", format!("and size leave axis {axis} of extent {}", x[axis]))
        };
        let start = usize::try_from(begin)
            .ok()
            .filter(|&start| start <= x[axis])
            .ok_or_else(out_of_range)?;
        let rest = x[axis] - start;
        let size = if size == -1 {
            Some(rest)
        } else {
            usize::try_from(size).ok().filter(|&size| size <= rest)
        };
        starts.push(start);
        shape.push(size.ok_or_else(out_of_range)?);
    }
    Ok((starts, shape))
}

/// A window of a tensor.
pub static SLICE: OpDef = OpDef {
    batching: Batching::Rule(|b| {
        let begin = prefixed(b, "begin", &[0])?;
        b.apply(&b.x, vec![("begin", begin), ("size", prefixed(b, "size", &[-1])?)])
    }),
    attrs: Slice::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        Ok(smallvec![Aval { dtype: x.dtype, shape: window(&x.shape, call.attrs)?.1 }])
    },
    samples: &[sample_with(&[uniform(&[3, 4], -2.0, 2.0)], || {
        vec![ints("begin", &[1, 0]), ints("size", &[2, -1])]
    })],
    ..indexing(
        "slice",
        "Cuts a window out of a tensor.",
        "y[i] = x[begin + i]",
        Kernel::Run(|call, out, inputs| {
            let shape = &call.inputs[0].shape;
            let (starts, _) = window(shape, call.attrs)?;
            let strides = shape.strides();
            let offset =
                starts.iter().zip(&strides).map(|(&start, &stride)| start * stride).sum::<usize>();
            let walk = Walk::new(&out[0].shape, strides.iter().map(|&s| signed(s)), signed(offset));
            Ok(smallvec![copied(inputs[0], &walk, &out[0])?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let x = r.x[0].shape();
                let starts = window(&x, r.attrs).map(|(starts, _)| starts).unwrap_or_default();
                pad_back(&x, &starts, ct[0])
            },
        },
    )
};

attrs! {
    /// A window with steps, in TensorFlow's terms. Entry i of the lists is about the i-th index expression.
    Strided {
        /// First position; negative ones count from the end.
        begin: Ints = Required,
        /// Position to stop before; negative ones count from the end.
        end: Ints = Required,
        /// Step; not 0.
        strides: Ints = Required,
        /// Bits of the entries whose begin is the edge.
        begin_mask: i64 = Int(0),
        /// Bits of the entries whose end is the edge.
        end_mask: i64 = Int(0),
        /// Bit of the entry that stands for all axes not named.
        ellipsis_mask: i64 = Int(0),
        /// Bits of the entries that insert an axis of extent 1.
        new_axis_mask: i64 = Int(0),
        /// Bits of the entries that pick one position and remove the axis.
        shrink_axis_mask: i64 = Int(0),
    }
}

/// A resolved strided window: where each kept position lies in the input, and the shape it is shown in.
struct Window {
    walk: Walk,
    shape: Shape,
}

impl Window {
    fn new(x: &Shape, spec: &Strided) -> Result<Self, Error> {
        let count = spec.begin.len();
        if spec.end.len() != count || spec.strides.len() != count || count > 32 {
            return Err(Error::attribute(
                "begin",
                "end and strides must have the same length, at most 32",
            ));
        }
        let bit = |mask: i64, i: usize| mask >> i & 1 == 1;
        let named = (0..count)
            .filter(|&i| !bit(spec.ellipsis_mask, i) && !bit(spec.new_axis_mask, i))
            .count();
        if named > x.len() || spec.ellipsis_mask.count_ones() > 1 {
            return Err(Error::attribute("begin", format!("names {named} axes of {}", x.len())));
        }
        let strides = x.strides();
        let mut window = Self { walk: Walk::new(&[], [], 0), shape: Shape::scalar() };
        let mut axis = 0;
        for i in 0..count {
            if bit(spec.ellipsis_mask, i) {
                for _ in 0..x.len() - named {
                    window.keep(x[axis], signed(strides[axis]), 0);
                    axis += 1;
                }
            } else if bit(spec.new_axis_mask, i) {
                window.keep(1, 0, 0);
            } else {
                let step = spec.strides[i];
                if step == 0 {
                    return Err(Error::attribute("strides", "must not be 0"));
                }
                let edges = (bit(spec.begin_mask, i), bit(spec.end_mask, i));
                let range = (spec.begin[i], spec.end[i], step);
                window.named(
                    x[axis],
                    strides[axis],
                    range,
                    edges,
                    bit(spec.shrink_axis_mask, i),
                    axis,
                )?;
                axis += 1;
            }
        }
        for axis in axis..x.len() {
            window.keep(x[axis], signed(strides[axis]), 0);
        }
        Ok(window)
    }

    fn keep(&mut self, extent: usize, stride: isize, start: isize) {
        self.walk.shape.push(extent);
        self.walk.strides.push(stride);
        self.walk.offset += start;
        self.shape.push(extent);
    }

    fn named(
        &mut self,
        extent: usize,
        stride: usize,
        (begin, end, step): (i64, i64, i64),
        (from_edge, to_edge): (bool, bool),
        shrink: bool,
        axis: usize,
    ) -> Result<(), Error> {
        let n = Shape::from([extent]).to_i64()[0];
        let from_end =
            |position: i64| if position < 0 { position.saturating_add(n) } else { position };
        if shrink {
            let at = from_end(begin);
            let place = usize::try_from(at).ok().filter(|&at| at < extent);
            let place =
                place.ok_or(Error::IndexOutOfRange { index: begin, position: axis, extent })?;
            self.walk.offset += signed(place * stride);
            return Ok(());
        }
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let first = if from_edge {
            if step > 0 { 0 } else { n - 1 }
        } else {
            from_end(begin).clamp(low, high)
        };
        let last =
            if to_edge { if step > 0 { n } else { -1 } } else { from_end(end).clamp(low, high) };
        let span = if step > 0 { last - first } else { first - last };
        let steps = step.unsigned_abs();
        let count = if span > 0 { span.unsigned_abs().div_ceil(steps) } else { 0 };
        let count = usize::try_from(count).unwrap_or(0);
        // With one position left the step does not matter and may be larger than any memory.
        let jump = if count > 1 {
            isize::try_from(step).unwrap_or(0).saturating_mul(signed(stride))
        } else {
            0
        };
        let start =
            if count > 0 { isize::try_from(first).unwrap_or(0) * signed(stride) } else { 0 };
        self.keep(count, jump, start);
        Ok(())
    }
}

/// The window with the axis of a stack in front: one more entry that keeps everything, and masks moved by one bit.
fn strided_rows(b: &Batch) -> Option<Vec<(&'static str, Attr)>> {
    let mut changed = vec![
        ("begin", prefixed(b, "begin", &[0])?),
        ("end", prefixed(b, "end", &[0])?),
        ("strides", prefixed(b, "strides", &[1])?),
    ];
    let masks: [(&str, i64); 5] = [
        ("begin_mask", 1),
        ("end_mask", 1),
        ("ellipsis_mask", 0),
        ("new_axis_mask", 0),
        ("shrink_axis_mask", 0),
    ];
    for (name, first) in masks {
        let place = b.op.attrs.iter().position(|spec| spec.name == name)?;
        let Attr::Int(mask) = *b.attrs.values().get(place)? else { return None };
        changed.push((name, Attr::Int(mask.checked_mul(2)? | first)));
    }
    Some(changed)
}

const STRIDED_SAMPLES: &[crate::op::Sample] = &[
    sample_with(&[uniform(&[3, 4], -2.0, 2.0)], || {
        vec![ints("begin", &[0, 3]), ints("end", &[3, 0]), ints("strides", &[2, -2])]
    }),
    sample_with(&[uniform(&[3, 4], -2.0, 2.0)], || {
        vec![
            ints("begin", &[1, 0]),
            ints("end", &[2, 0]),
            ints("strides", &[1, 1]),
            ("shrink_axis_mask", Attr::Int(1)),
            ("new_axis_mask", Attr::Int(2)),
        ]
    }),
];

/// A window with steps.
pub static STRIDED_SLICE: OpDef = OpDef {
    batching: Batching::Rule(|b| b.apply(&b.x, strided_rows(b)?)),
    attrs: Strided::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        Ok(smallvec![Aval {
            dtype: x.dtype,
            shape: Window::new(&x.shape, &Strided::read(call.attrs))?.shape
        }])
    },
    samples: STRIDED_SAMPLES,
    ..indexing(
        "strided_slice",
        "Cuts a window with steps out of a tensor: what Python's x[begin:end:step, ...] means.",
        "y[i] = x[begin + i * stride]",
        Kernel::Run(|call, out, inputs| {
            let window = Window::new(&call.inputs[0].shape, &Strided::read(call.attrs))?;
            Ok(smallvec![copied(inputs[0], &window.walk, &out[0])?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let back = StridedScatter::new(&r.x[0].shape(), Strided::read(r.attrs));
                cotangents([ct[0].op(&STRIDED_SLICE_SCATTER, back.write(), &[])])
            },
        },
    )
};

attrs! {
    /// A window with steps in a larger tensor; the lists and masks are those of `strided_slice`.
    StridedScatter {
        /// Shape of the result.
        shape: Ints = Required,
        /// First position.
        begin: Ints = Required,
        /// Position to stop before.
        end: Ints = Required,
        /// Step; not 0.
        strides: Ints = Required,
        /// Bits of the entries whose begin is the edge.
        begin_mask: i64 = Int(0),
        /// Bits of the entries whose end is the edge.
        end_mask: i64 = Int(0),
        /// Bit of the entry that stands for all axes not named.
        ellipsis_mask: i64 = Int(0),
        /// Bits of the entries that insert an axis.
        new_axis_mask: i64 = Int(0),
        /// Bits of the entries that remove the axis.
        shrink_axis_mask: i64 = Int(0),
    }
}

impl StridedScatter {
    /// The window of a tensor of that shape.
    pub(super) fn new(shape: &Shape, spec: Strided) -> Self {
        let Strided {
            begin,
            end,
            strides,
            begin_mask,
            end_mask,
            ellipsis_mask,
            new_axis_mask,
            shrink_axis_mask,
        } = spec;
        let shape = shape.to_i64();
        Self {
            shape,
            begin,
            end,
            strides,
            begin_mask,
            end_mask,
            ellipsis_mask,
            new_axis_mask,
            shrink_axis_mask,
        }
    }

    fn window(self) -> (Ints, Strided) {
        let Self {
            shape,
            begin,
            end,
            strides,
            begin_mask,
            end_mask,
            ellipsis_mask,
            new_axis_mask,
            shrink_axis_mask,
        } = self;
        (
            shape,
            Strided {
                begin,
                end,
                strides,
                begin_mask,
                end_mask,
                ellipsis_mask,
                new_axis_mask,
                shrink_axis_mask,
            },
        )
    }
}

/// The transpose of a strided window.
pub static STRIDED_SLICE_SCATTER: OpDef = OpDef {
    batching: Batching::Rule(|b| {
        let mut changed = strided_rows(b)?;
        changed.push(("shape", prefixed(b, "shape", &[i64::try_from(b.rows).ok()?])?));
        b.apply(&b.x, changed)
    }),
    attrs: StridedScatter::SPECS,
    infer: |call| {
        let (shape, spec) = StridedScatter::read(call.attrs).window();
        let shape = Shape::checked(&shape)?;
        let x = &call.inputs[0];
        fits(x, &shape, &spec)?;
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample_with(&[uniform(&[2, 2], -2.0, 2.0)], || {
        vec![
            ints("shape", &[3, 4]),
            ints("begin", &[0, 3]),
            ints("end", &[3, 0]),
            ints("strides", &[2, -2]),
        ]
    })],
    ..indexing(
        "strided_slice_scatter",
        "Zeros with a tensor in a window with steps: the transpose of `strided_slice`.",
        "y[begin + i * stride] = x[i]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(x: &Array, walk: &Walk, out: &Aval) -> Result<Array, Error> {
                let mut result = filled(out.shape.elements(), T::default())?;
                let mut values = x.elements::<T>()?.iter();
                walk.each(|at| {
                    if let Some(&value) = values.next() {
                        result[at] = value;
                    }
                })?;
                Array::new(&out.shape, result)
            }
            let (_, spec) = StridedScatter::read(call.attrs).window();
            let walk = Window::new(&out[0].shape, &spec)?.walk;
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(inputs[0], &walk, &out[0]))?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let (_, spec) = StridedScatter::read(r.attrs).window();
                cotangents([ct[0].op(&STRIDED_SLICE, spec.write(), &[])])
            },
        },
    )
};

/// A changed window.
pub static TENSOR_STRIDED_SLICE_UPDATE: OpDef = OpDef {
    inputs: &["input", "value"],
    attrs: Strided::SPECS,
    infer: |call| {
        let [x, value] = call.inputs else {
            return Err(Error::bug("tensor_strided_slice_update takes two inputs"));
        };
        common_dtype(x, value)?;
        fits(value, &x.shape, &Strided::read(call.attrs))?;
        Ok(smallvec![x.clone()])
    },
    samples: &[sample_with(&[uniform(&[3, 4], -2.0, 2.0), uniform(&[2, 2], -2.0, 2.0)], || {
        vec![ints("begin", &[0, 3]), ints("end", &[3, 0]), ints("strides", &[2, -2])]
    })],
    ..indexing(
        "tensor_strided_slice_update",
        "A tensor with another window with steps.",
        "y = input, but y[begin + i * stride] = value[i]",
        Kernel::Composite(|r| {
            let (x, value) = (r.x[0], r.x[1]);
            let window = StridedScatter::new(&x.shape(), Strided::read(r.attrs)).write();
            let all = x.graph().full(&Aval { dtype: DType::Bool, shape: value.shape() }, 1.0);
            let inside = all.op(&STRIDED_SLICE_SCATTER, window.clone(), &[]);
            smallvec![value.op(&STRIDED_SLICE_SCATTER, window, &[]).select(inside, x)]
        }),
        Derivative::None,
    )
};

/// Checks a value against a window of a tensor.
fn fits(value: &Aval, tensor: &Shape, spec: &Strided) -> Result<(), Error> {
    let expected = Window::new(tensor, spec)?.shape;
    if value.shape == expected {
        return Ok(());
    }
    let lhs = value.shape.clone();
    Err(Error::ShapeMismatch { lhs, rhs: expected, expected: "the window's shape" })
}
