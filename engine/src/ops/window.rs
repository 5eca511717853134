//! What convolutions and pools share: the attributes of windows that slide over spatial axes, and their shape rules.

use smallvec::SmallVec;

use crate::{
    attrs,
    attrs::{Attr, Attrs, Ints},
    aval::{MAX_ELEMENTS, Shape},
    error::Error,
    kernels::window::{Axis, Windows},
    ops::family::ints,
};

attrs! {
    /// How windows slide over one to three spatial axes.
    Sliding {
        /// Steps of the window, one for each spatial axis; empty for 1 each.
        strides: Ints = Ints(&[]),
        /// Distances between cells of a window, one for each spatial axis; empty for 1 each.
        dilations: Ints = Ints(&[]),
        /// "VALID" for windows inside the input, "SAME" for padding so that the output is the input divided by the strides, or "EXPLICIT".
        padding: String = Text("VALID"),
        /// For "EXPLICIT" the padding before and after each spatial axis, in pairs.
        explicit_paddings: Ints = Ints(&[]),
        /// `"channels_last"` for [batch, spatial axes, channels], or `"channels_first"` for [batch, channels, spatial axes].
        data_format: String = Text("channels_last"),
    }
}

attrs! {
    /// The shape that an op undoes the reduction of.
    InputShape {
        /// Shape of the result.
        shape: Ints = Required,
    }
}

/// Numbers so large cannot be of use, and their products are far from overflow.
const LARGEST: usize = MAX_ELEMENTS;

/// One number for each spatial axis, at least `least`.
fn numbers(name: &str, values: &Ints, count: usize, least: usize) -> Result<Vec<usize>, Error> {
    if values.len() != count {
        let why = format!("must have {count} numbers for this input, not {}", values.len());
        return Err(Error::attribute(name, why));
    }
    let number = |&value: &i64| {
        usize::try_from(value)
            .ok()
            .filter(|value| (least..=LARGEST).contains(value))
            .ok_or_else(|| Error::attribute(name, format!("must be from {least} to {LARGEST}")))
    };
    values.iter().map(number).collect()
}

/// Steps or distances: ones if they are not given.
fn steps(name: &str, values: &Ints, rank: usize) -> Result<Vec<usize>, Error> {
    if values.is_empty() { Ok(vec![1; rank]) } else { numbers(name, values, rank, 1) }
}

/// Extents of a window that an attribute gives.
pub(super) fn extents(name: &str, values: &Ints, x: &Shape) -> Result<Vec<usize>, Error> {
    numbers(name, values, spatial(x)?, 1)
}

/// Number of spatial axes.
pub(super) fn spatial(x: &Shape) -> Result<usize, Error> {
    x.len().checked_sub(2).filter(|rank| (1..=3).contains(rank)).ok_or_else(|| {
        Error::InvalidShape {
            shape: x.to_i64().as_slice().into(),
            why: "windows slide over one to three spatial axes, beside those of batch and channels",
        }
    })
}

fn channels_first(sliding: &Sliding) -> Result<bool, Error> {
    match sliding.data_format.as_str() {
        "channels_last" => Ok(false),
        "channels_first" => Ok(true),
        _ => {
            Err(Error::attribute("data_format", "must be \"channels_last\" or \"channels_first\""))
        }
    }
}

/// Number of channels of an input of a rank that [`spatial`] accepts.
pub(super) fn channels(x: &Shape, sliding: &Sliding) -> Result<usize, Error> {
    Ok(x[if channels_first(sliding)? { 1 } else { x.len() - 1 }])
}

/// The windows of so many cells over an input.
pub(super) fn windows(x: &Shape, size: &[usize], sliding: &Sliding) -> Result<Windows, Error> {
    let rank = spatial(x)?;
    let strides = steps("strides", &sliding.strides, rank)?;
    let dilations = steps("dilations", &sliding.dilations, rank)?;
    let explicit = sliding.padding == "EXPLICIT";
    let pads = numbers(
        "explicit_paddings",
        &sliding.explicit_paddings,
        if explicit { 2 * rank } else { 0 },
        0,
    )?;
    let channels_first = channels_first(sliding)?;
    let mut axes = [Axis::MISSING; 3];
    for i in 0..rank {
        let (extent, stride, dilation) =
            (x[1 + i + usize::from(channels_first)], strides[i], dilations[i]);
        // Extents of empty tensors may be so large that this overflows; none of their cells is ever read.
        let reach = size[i].saturating_sub(1).saturating_mul(dilation).saturating_add(1);
        let (count, before) = match sliding.padding.as_str() {
            "VALID" => (count(extent, reach, stride)?, 0),
            "SAME" => {
                let count = extent.div_ceil(stride);
                let covered = (count.saturating_sub(1) * stride).saturating_add(reach);
                (count, covered.saturating_sub(extent) / 2)
            }
            "EXPLICIT" => {
                (count(extent + pads[2 * i] + pads[2 * i + 1], reach, stride)?, pads[2 * i])
            }
            _ => {
                return Err(Error::attribute(
                    "padding",
                    "must be \"VALID\", \"SAME\" or \"EXPLICIT\"",
                ));
            }
        };
        axes[3 - rank + i] = Axis { extent, count, size: size[i], stride, dilation, before };
    }
    Ok(Windows { batch: x[0], rank, axes, channels_first })
}

/// Number of windows that fit. As in TensorFlow there may be none, but not fewer.
fn count(extent: usize, reach: usize, stride: usize) -> Result<usize, Error> {
    (extent + stride).checked_sub(reach).map(|room| room / stride).ok_or_else(|| {
        Error::attribute("padding", format!("leaves {extent} cells for a window of {reach}"))
    })
}

/// Refuses windows that may lie in the padding with all of their cells.
pub(super) fn none_outside(windows: &Windows) -> Result<(), Error> {
    let outside = windows.axes.iter().any(|axis| {
        let reach = (axis.size - 1) * axis.dilation + 1;
        let last = axis.count.saturating_sub(1) * axis.stride;
        axis.count > 0
            && (axis.dilation > axis.extent
                || axis.before >= reach
                || last >= axis.before + axis.extent)
    });
    if outside {
        return Err(Error::attribute("padding", "has room for a window without any element"));
    }
    Ok(())
}

/// Attributes of samples: each of the ways to slide over so many axes.
pub(super) fn sliding(
    strides: &[i64],
    dilations: &[i64],
    padding: &str,
    channels_first: bool,
) -> Vec<(&'static str, Attr)> {
    let mut all = vec![
        ints("strides", strides),
        ints("dilations", dilations),
        ("padding", Attr::Text(padding.into())),
    ];
    if padding == "EXPLICIT" {
        let pads: SmallVec<[i64; 6]> = strides.iter().flat_map(|_| [1, 0]).collect();
        all.push(ints("explicit_paddings", &pads));
    }
    if channels_first {
        all.push(("data_format", Attr::Text("channels_first".into())));
    }
    all
}

/// The attributes of an op that undoes the reduction of one with these.
pub(super) fn with_shape(attrs: &Attrs, shape: &Shape) -> Attrs {
    attrs.and(&InputShape { shape: shape.to_i64() }.write())
}
