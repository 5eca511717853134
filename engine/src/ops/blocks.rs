//! Positions of images and of other tensors that become batches, channels or patches.
//!
//! All are composed of reshapes, transposes and picks along axes, so none has a kernel or a derivative of its own.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs,
    attrs::{Attr, Attrs, Ints},
    aval::{Aval, Shape},
    dtype::DTypes,
    error::Error,
    graph::Var,
    op::{Derivative, Kernel, OpDef, Rule},
    ops::{
        PAD, Pad, Permutation, SLICE, Slice, TRANSPOSE,
        family::{self, ints, sample_with, uniform},
        image::{along, extents, float, pair},
        padding::padded,
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&SPACE_TO_BATCH_ND, &BATCH_TO_SPACE_ND, &SPACE_TO_DEPTH, &DEPTH_TO_SPACE, &EXTRACT_PATCHES];

const fn regrouping(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        family: "array",
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

/// Splits axes by a reshape, permutes them, and joins them by another.
fn regroup<'g>(x: Var<'g>, split: &Shape, perm: &[i64], joined: &Shape) -> Var<'g> {
    let perm = Permutation { perm: perm.into() };
    x.reshape(split).op(&TRANSPOSE, perm.write(), &[]).reshape(joined)
}

// --- batches and channels ---

attrs! {
    /// Blocks of positions that become batches.
    SpaceToBatch {
        /// Extent of the blocks along each axis behind the first.
        block_shape: Ints = Required,
        /// For each of these axes two numbers: how many zeros before and behind.
        paddings: Ints = Required,
    }
}

attrs! {
    /// Batches that become blocks of positions.
    BatchToSpace {
        /// Extent of the blocks along each axis behind the first.
        block_shape: Ints = Required,
        /// For each of these axes two numbers: how much to cut off at its begin and end.
        crops: Ints = Required,
    }
}

/// Checked extents of blocks.
fn blocks(x: &Shape, block_shape: &[i64]) -> Result<SmallVec<[usize; 8]>, Error> {
    let blocks: Option<SmallVec<[usize; 8]>> =
        block_shape.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n > 0)).collect();
    blocks.filter(|blocks| blocks.len() < x.len()).ok_or_else(|| {
        Error::attribute("block_shape", "must be numbers from 1 on, fewer than there are axes")
    })
}

/// Amounts at the begin and end of all axes, from those of the axes with blocks.
fn amounts(x: &Shape, blocks: usize, given: &[i64], name: &str) -> Result<Ints, Error> {
    if given.len() != 2 * blocks {
        return Err(Error::attribute(name, "must be two numbers for each block"));
    }
    let mut all: Ints = smallvec![0; 2 * x.len()];
    all[2..2 + given.len()].copy_from_slice(given);
    Ok(all)
}

/// Positions to batches.
pub static SPACE_TO_BATCH_ND: OpDef = OpDef {
    attrs: SpaceToBatch::SPECS,
    infer: |call| {
        let SpaceToBatch { block_shape, paddings } = SpaceToBatch::read(call.attrs);
        let x = &call.inputs[0];
        let blocks = blocks(&x.shape, &block_shape)?;
        let paddings = amounts(&x.shape, blocks.len(), &paddings, "paddings")?;
        let (_, mut shape) = padded(&x.shape, &paddings)?;
        for (axis, &block) in (1..).zip(&blocks) {
            if !shape[axis].is_multiple_of(block) {
                let why = format!("must divide the padded axis {axis} of extent {}", shape[axis]);
                return Err(Error::attribute("block_shape", why));
            }
            shape.set(axis, shape[axis] / block);
            shape.set(0, shape[0].saturating_mul(block));
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample_with(&[uniform(&[1, 4, 3, 2], -2.0, 2.0)], || {
        vec![ints("block_shape", &[2, 2]), ints("paddings", &[0, 0, 1, 0])]
    })],
    ..regrouping(
        "space_to_batch_nd",
        "Moves the positions of each block into the batch, after padding with zeros.",
        "y[(p, q, b), i, j] = x[b, i * block + p, j * block + q]",
        Kernel::Composite(|r| {
            let SpaceToBatch { block_shape, paddings } = SpaceToBatch::read(r.attrs);
            let mut x = r.x[0];
            let blocks = blocks(&x.shape(), &block_shape).unwrap_or_default();
            let paddings = amounts(&x.shape(), blocks.len(), &paddings, "paddings");
            let pad = Pad { paddings: paddings.unwrap_or_default(), constant: 0.0 };
            x = x.op(&PAD, pad.write(), &[]);
            // One axis at a time, the last first, so that no rank grows beyond the limit.
            for (i, &block) in blocks.iter().enumerate().rev() {
                let (axis, mut shape) = (i + 1, x.shape());
                let (before, behind) =
                    (shape[1..axis].iter().product(), shape[axis + 1..].iter().product());
                let split = [shape[0], before, shape[axis] / block, block, behind];
                shape.set(axis, shape[axis] / block);
                shape.set(0, shape[0] * block);
                x = regroup(x, &split.into(), &[3, 0, 1, 2, 4], &shape);
            }
            smallvec![x]
        }),
    )
};

/// Batches to positions.
pub static BATCH_TO_SPACE_ND: OpDef = OpDef {
    attrs: BatchToSpace::SPECS,
    infer: |call| {
        let BatchToSpace { block_shape, crops } = BatchToSpace::read(call.attrs);
        let x = &call.inputs[0];
        let blocks = blocks(&x.shape, &block_shape)?;
        let crops = amounts(&x.shape, blocks.len(), &crops, "crops")?;
        let mut shape = x.shape.clone();
        for (axis, &block) in (1..).zip(&blocks) {
            if !shape[0].is_multiple_of(block) {
                return Err(Error::attribute("block_shape", "must divide the batch together"));
            }
            shape.set(0, shape[0] / block);
            shape.set(axis, shape[axis].saturating_mul(block));
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape: cropped(&shape, &crops)?.1 }])
    },
    samples: &[sample_with(&[uniform(&[4, 2, 2, 2], -2.0, 2.0)], || {
        vec![ints("block_shape", &[2, 2]), ints("crops", &[0, 0, 1, 0])]
    })],
    ..regrouping(
        "batch_to_space_nd",
        "Moves batches into the positions of blocks, and crops: the reverse of `space_to_batch_nd`.",
        "y[b, i * block + p, j * block + q] = x[(p, q, b), i, j]",
        Kernel::Composite(|r| {
            let BatchToSpace { block_shape, crops } = BatchToSpace::read(r.attrs);
            let mut x = r.x[0];
            let blocks = blocks(&x.shape(), &block_shape).unwrap_or_default();
            for (axis, &block) in (1..).zip(&blocks) {
                let mut shape = x.shape();
                let (before, behind) =
                    (shape[1..axis].iter().product(), shape[axis + 1..].iter().product());
                let split = [block, shape[0] / block, before, shape[axis], behind];
                shape.set(0, shape[0] / block);
                shape.set(axis, shape[axis] * block);
                x = regroup(x, &split.into(), &[1, 2, 3, 0, 4], &shape);
            }
            let crops = amounts(&x.shape(), blocks.len(), &crops, "crops").unwrap_or_default();
            let (begin, size) = cropped(&x.shape(), &crops).unwrap_or_default();
            let window = Slice { begin: begin.to_i64(), size: size.to_i64() };
            smallvec![x.op(&SLICE, window.write(), &[])]
        }),
    )
};

/// Where a cropped tensor begins, and its shape.
fn cropped(x: &Shape, crops: &[i64]) -> Result<(Shape, Shape), Error> {
    let (mut start, mut shape) = (Shape::scalar(), Shape::scalar());
    for (&extent, crop) in x.iter().zip(crops.chunks(2)) {
        let [begin, end] = [crop[0], crop[1]].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let rest = extent.checked_sub(begin).and_then(|rest| rest.checked_sub(end));
        start.push(begin);
        shape.push(rest.ok_or_else(|| {
            Error::attribute("crops", "must be numbers from 0 on that fit into their axes")
        })?);
    }
    Ok((start, shape))
}

attrs! {
    /// Blocks of an image.
    Block {
        /// Height and width of a block, from 1 on.
        block_size: i64 = Required,
    }
}

/// An image's extents and the side of its blocks.
fn image(x: &Shape, attrs: &attrs::Attrs) -> Result<([usize; 4], usize), Error> {
    let block = usize::try_from(Block::read(attrs).block_size).ok().filter(|&n| n > 0);
    let block = block.ok_or_else(|| Error::attribute("block_size", "must be from 1 on"))?;
    let extents = <[usize; 4]>::try_from(&x[..]).map_err(|_| Error::InvalidShape {
        shape: x.to_i64().as_slice().into(),
        why: "images have the shape [batch, height, width, channels]",
    })?;
    Ok((extents, block))
}

/// Blocks to channels.
pub static SPACE_TO_DEPTH: OpDef = OpDef {
    family: "nn",
    attrs: Block::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let ([n, h, w, c], k) = image(&x.shape, call.attrs)?;
        if !(h.is_multiple_of(k) && w.is_multiple_of(k)) {
            return Err(Error::attribute("block_size", "must divide height and width"));
        }
        let depth = c.saturating_mul(k).saturating_mul(k);
        Ok(smallvec![Aval::new(x.dtype, [n, h / k, w / k, depth])])
    },
    samples: &[sample_with(&[uniform(&[1, 4, 2, 2], -2.0, 2.0)], || {
        vec![("block_size", Attr::Int(2))]
    })],
    ..regrouping(
        "space_to_depth",
        "Moves each block of an image [batch, height, width, channels] into the channels.",
        "y[b, i, j, (p, q, c)] = x[b, i * block + p, j * block + q, c]",
        Kernel::Composite(|r| {
            let ([n, h, w, c], k) = image(&r.x[0].shape(), r.attrs).unwrap_or(([0; 4], 1));
            let split = [n, h / k, k, w / k, k, c].into();
            let joined = [n, h / k, w / k, k * k * c].into();
            smallvec![regroup(r.x[0], &split, &[0, 1, 3, 2, 4, 5], &joined)]
        }),
    )
};

/// Channels to blocks.
pub static DEPTH_TO_SPACE: OpDef = OpDef {
    family: "nn",
    attrs: Block::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let ([n, h, w, c], k) = image(&x.shape, call.attrs)?;
        let area = k.checked_mul(k).filter(|&area| c.is_multiple_of(area));
        let area =
            area.ok_or_else(|| Error::attribute("block_size", "squared must divide the channels"))?;
        Ok(smallvec![Aval::new(x.dtype, [n, h.saturating_mul(k), w.saturating_mul(k), c / area])])
    },
    samples: &[sample_with(&[uniform(&[1, 2, 1, 8], -2.0, 2.0)], || {
        vec![("block_size", Attr::Int(2))]
    })],
    ..regrouping(
        "depth_to_space",
        "Moves channels of an image [batch, height, width, channels] into blocks: the reverse of `space_to_depth`.",
        "y[b, i * block + p, j * block + q, c] = x[b, i, j, (p, q, c)]",
        Kernel::Composite(|r| {
            let ([n, h, w, c], k) = image(&r.x[0].shape(), r.attrs).unwrap_or(([0; 4], 1));
            let depth = c / (k * k);
            let (split, joined) = ([n, h, w, k, k, depth].into(), [n, h * k, w * k, depth].into());
            smallvec![regroup(r.x[0], &split, &[0, 1, 3, 2, 4, 5], &joined)]
        }),
    )
};

// --- patches ---

attrs! {
    /// Attributes of patches.
    Patches {
        /// Height and width of a patch.
        sizes: Ints = Required,
        /// Steps from patch to patch, down and across.
        strides: Ints = Required,
        /// Steps from pixel to pixel within a patch, down and across.
        rates: Ints = Ints(&[1, 1]),
        /// "VALID" for patches inside the image, "SAME" for zeros around it so that only the strides divide its size.
        padding: String = Text("VALID"),
    }
}

/// Patches along one axis.
struct Patch {
    /// How many pixels a patch has.
    size: usize,
    /// From patch to patch.
    stride: usize,
    /// From pixel to pixel.
    rate: usize,
    /// How many patches there are.
    count: usize,
    /// Zeros before and behind the image.
    padding: [usize; 2],
}

/// The patches along both axes.
fn patches(x: &Shape, attrs: &Attrs) -> Result<[Patch; 2], Error> {
    let Patches { sizes, strides, rates, padding } = Patches::read(attrs);
    let [_, h, w, _] = extents(x)?;
    let (sizes, strides) = (pair("sizes", &sizes)?, pair("strides", &strides)?);
    let rates = pair("rates", &rates)?;
    if !matches!(&padding[..], "VALID" | "SAME") {
        return Err(Error::attribute("padding", "must be \"VALID\" or \"SAME\""));
    }
    Ok(std::array::from_fn(|axis| {
        let (extent, size) = ([h, w][axis], sizes[axis]);
        let (stride, rate) = (strides[axis], rates[axis]);
        let span = (size - 1).saturating_mul(rate).saturating_add(1);
        if padding == "VALID" {
            let count = extent.checked_sub(span).map_or(0, |rest| rest / stride + 1);
            return Patch { size, stride, rate, count, padding: [0; 2] };
        }
        let count = extent.div_ceil(stride);
        let missing =
            (count - 1).saturating_mul(stride).saturating_add(span).saturating_sub(extent);
        Patch { size, stride, rate, count, padding: [missing / 2, missing - missing / 2] }
    }))
}

/// Patches of images.
pub static EXTRACT_PATCHES: OpDef = OpDef {
    family: "image",
    attrs: Patches::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let [n, _, _, c] = extents(&x.shape)?;
        let [rows, columns] = patches(&x.shape, call.attrs)?;
        let depth = rows.size.saturating_mul(columns.size).saturating_mul(c);
        Ok(smallvec![Aval::new(x.dtype, [n, rows.count, columns.count, depth])])
    },
    samples: &[
        sample_with(&[uniform(&[1, 4, 5, 2], -2.0, 2.0)], || {
            vec![ints("sizes", &[2, 3]), ints("strides", &[1, 2])]
        }),
        sample_with(&[uniform(&[1, 4, 3, 1], -2.0, 2.0)], || {
            vec![
                ints("sizes", &[3, 2]),
                ints("strides", &[2, 1]),
                ints("rates", &[1, 2]),
                ("padding", Attr::Text("SAME".into())),
            ]
        }),
    ],
    ..regrouping(
        "extract_patches",
        "Lays the pixels of each patch of an image into the channels.",
        "y[b, i, j, (p, q, c)] = x[b, i * stride + p * rate, j * stride + q * rate, c]",
        Kernel::Composite(|r| smallvec![extract_patches(r)]),
    )
};

fn extract_patches<'g>(r: &Rule<'g>) -> Var<'g> {
    let shape = r.x[0].shape();
    let Ok([rows, columns]) = patches(&shape, r.attrs) else { return r.x[0] };
    let ([top, bottom], [left, right]) = (rows.padding, columns.padding);
    let paddings = Shape::from([0, 0, top, bottom, left, right, 0, 0]).to_i64();
    let padded = r.x[0].op(&PAD, Pad { paddings, constant: 0.0 }.write(), &[]);
    let picks = |patch: &Patch| {
        let steps = |count: usize, step: usize| padded.graph().positions(count) * float(step);
        let starts = steps(patch.count, patch.stride).reshape(&[patch.count, 1].into());
        starts + steps(patch.size, patch.rate).reshape(&[1, patch.size].into())
    };
    let picked = along(along(padded, picks(&columns), 2), picks(&rows), 1);
    let (n, c) = (shape[0], shape[3]);
    let split = [n, rows.count, rows.size, columns.count, columns.size, c].into();
    let joined = [n, rows.count, columns.count, rows.size * columns.size * c].into();
    regroup(picked, &split, &[0, 1, 3, 2, 4, 5], &joined)
}
