//! Average pools, and how the images of pools are shared among cores. Every window has a cell inside the input: `infer` sees to that.

use crate::{
    array::filled,
    compute::{self, Looks},
    error::Error,
    kernels::{
        real::{Number, Real},
        window::Windows,
    },
};

/// The mean of each window.
pub(crate) fn average<T: Real + Number + Send + Sync>(
    x: &[T],
    windows: &Windows,
    channels: usize,
) -> Result<Vec<T>, Error> {
    let mut result = zeros(windows.batch * windows.count() * channels)?;
    let parts = Parts::new(windows, channels);
    let outputs = parts.cut(&mut result);
    compute::each(parts.each(x).zip(outputs).collect(), |((windows, _, x), result)| {
        each(&windows, channels, |out, cells| {
            let count = cells.len();
            let sum: f64 = cells.map(|cell| x[cell].wide()).sum();
            result[out] = T::of(sum / wide(count));
        })
    })?;
    Ok(result)
}

/// Spreads each element evenly over the window that it is the mean of.
pub(crate) fn spread<T: Real + Number + Send + Sync>(
    y: &[T],
    windows: &Windows,
    channels: usize,
) -> Result<Vec<T>, Error> {
    let mut result = zeros::<T>(windows.batch * windows.positions() * channels)?;
    let parts = Parts::new(windows, channels);
    let outputs = parts.cut(&mut result);
    compute::each(parts.each(y).zip(outputs).collect(), |((windows, _, y), result)| {
        each(&windows, channels, |out, cells| {
            let share = T::of(y[out].wide() / wide(cells.len()));
            cells.for_each(|cell| result[cell] = Number::add(result[cell], share));
        })
    })?;
    Ok(result)
}

/// A batch cut into smaller ones: the images of a pool have nothing to do with each other.
pub(crate) struct Parts {
    windows: Windows,
    /// Images of a part.
    images: usize,
}

impl Parts {
    pub(crate) fn new(windows: &Windows, channels: usize) -> Self {
        let cells = windows.count() * windows.cells() * channels * windows.batch;
        // Windows are folded cell by cell.
        let parts = compute::parts(2 * compute::elements(cells), windows.batch);
        Self { windows: *windows, images: windows.batch.div_ceil(parts).max(1) }
    }

    /// Elements of a part of a tensor with so many.
    pub(crate) fn size(&self, elements: usize) -> usize {
        (elements / self.windows.batch.max(1) * self.images).max(1)
    }

    /// The elements of each part. None, if there are none.
    pub(crate) fn cut<'a, T>(&self, tensor: &'a mut [T]) -> std::slice::ChunksMut<'a, T> {
        tensor.chunks_mut(self.size(tensor.len()))
    }

    /// The windows of each part, its first element, and its elements.
    pub(crate) fn each<'a, T>(
        &self,
        tensor: &'a [T],
    ) -> impl Iterator<Item = (Windows, usize, &'a [T])> {
        let Self { windows, images } = *self;
        let size = tensor.len() / windows.batch.max(1);
        tensor.chunks((size * images).max(1)).enumerate().map(move |(i, part)| {
            (Windows { batch: part.len() / size, ..windows }, i * images * size, part)
        })
    }
}

/// Calls `visit(place in the output, places in the input)` for each window of each channel.
fn each(
    windows: &Windows,
    channels: usize,
    mut visit: impl FnMut(usize, &mut dyn ExactSizeIterator<Item = usize>),
) -> Result<(), Error> {
    let x = windows.layout(windows.positions(), channels);
    let y = windows.layout(windows.count(), channels);
    let mut looks = Looks::default();
    windows.each(|image, window, positions| {
        for channel in 0..channels {
            let start = image * x.image + channel * x.channel;
            let out = image * y.image + channel * y.channel + window * y.position;
            visit(out, &mut positions.iter().map(|position| start + position * x.position));
            looks.after(positions.len())?;
        }
        Ok(())
    })
}

#[expect(clippy::cast_precision_loss, reason = "a window has far fewer than 2^52 cells")]
fn wide(count: usize) -> f64 {
    count as f64
}

/// So many zeros.
pub(crate) fn zeros<T: Default + Clone>(count: usize) -> Result<Vec<T>, Error> {
    filled(count, T::default())
}
