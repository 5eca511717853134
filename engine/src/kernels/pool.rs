//! Folding the windows of a pool. Every window has a cell inside the input: `infer` sees to that.

use crate::{
    array::buffer,
    error::Error,
    kernels::{
        lanes,
        real::{Number, Real},
        window::Windows,
    },
};

/// Whether an element takes the place of the largest so far: the first of equals stays, and NaN is above all.
fn wins<T: Number>(x: T, best: T) -> bool {
    x > best || (x.is_nan() && !best.is_nan())
}

/// For each output element the place in the input of the window's largest element, and that element.
pub(crate) fn argmax<T: Number>(
    x: &[T],
    windows: &Windows,
    channels: usize,
) -> Result<(Vec<usize>, Vec<T>), Error> {
    let count = windows.batch * windows.count() * channels;
    let (mut places, mut best) = (zeros(count)?, zeros::<T>(count)?);
    if count == 0 {
        return Ok((places, best));
    }
    if windows.channels_first {
        each(windows, channels, false, |out, cells| {
            let better = |best, next| if wins::<T>(x[next], x[best]) { next } else { best };
            places[out] = cells.reduce(better).unwrap_or_default();
            best[out] = x[places[out]];
        })?;
        return Ok((places, best));
    }
    let image_size = windows.positions() * channels;
    let mut outputs = places.chunks_exact_mut(channels).zip(best.chunks_exact_mut(channels));
    windows.each(|image, _, positions| {
        let Some((places, best)) = outputs.next() else { return };
        for (i, position) in positions.iter().enumerate() {
            let at = image * image_size + position * channels;
            let cell = &x[at..at + channels];
            if i == 0 {
                best.copy_from_slice(cell);
                places.iter_mut().enumerate().for_each(|(channel, place)| *place = at + channel);
            } else {
                lanes::take_better(cell, at, best, places, wins::<T>);
            }
        }
    })?;
    Ok((places, best))
}

/// The mean of each window.
pub(crate) fn average<T: Real + Number>(
    x: &[T],
    windows: &Windows,
    channels: usize,
) -> Result<Vec<T>, Error> {
    let mut result = zeros(windows.batch * windows.count() * channels)?;
    each(windows, channels, result.is_empty(), |out, cells| {
        let count = cells.len();
        let sum: f64 = cells.map(|cell| x[cell].wide()).sum();
        result[out] = T::of(sum / wide(count));
    })?;
    Ok(result)
}

/// Spreads each element evenly over the window that it is the mean of.
pub(crate) fn spread<T: Real + Number>(
    y: &[T],
    windows: &Windows,
    channels: usize,
) -> Result<Vec<T>, Error> {
    let mut result = zeros::<T>(windows.batch * windows.positions() * channels)?;
    each(windows, channels, y.is_empty(), |out, cells| {
        let share = T::of(y[out].wide() / wide(cells.len()));
        cells.for_each(|cell| result[cell] = Number::add(result[cell], share));
    })?;
    Ok(result)
}

/// Calls `visit(place in the output, places in the input)` for each window of each channel.
fn each(
    windows: &Windows,
    channels: usize,
    nothing: bool,
    mut visit: impl FnMut(usize, &mut dyn ExactSizeIterator<Item = usize>),
) -> Result<(), Error> {
    if nothing {
        return Ok(());
    }
    let x = windows.layout(windows.positions(), channels);
    let y = windows.layout(windows.count(), channels);
    windows.each(|image, window, positions| {
        for channel in 0..channels {
            let start = image * x.image + channel * x.channel;
            let out = image * y.image + channel * y.channel + window * y.position;
            visit(out, &mut positions.iter().map(|position| start + position * x.position));
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a window has far fewer than 2^52 cells")]
fn wide(count: usize) -> f64 {
    count as f64
}

fn zeros<T: Default + Clone>(count: usize) -> Result<Vec<T>, Error> {
    let mut zeros = buffer(count)?;
    zeros.resize(count, T::default());
    Ok(zeros)
}
