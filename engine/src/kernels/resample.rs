//! Weighted sums of neighbours along an axis, and their transpose.

use crate::{
    array::{buffer, filled},
    compute::Looks,
    error::Error,
    kernels::real::Real,
};

/// For each output position of an axis the input positions that it is a weighted sum of: `width` of each.
#[derive(Debug)]
pub(crate) struct Taps {
    width: usize,
    taps: Vec<(usize, f64)>,
}

impl Taps {
    /// Taps of `count` positions, as `of` gives them.
    pub(crate) fn new<const N: usize>(
        count: usize,
        of: impl Fn(usize) -> [(usize, f64); N],
    ) -> Result<Self, Error> {
        let mut taps = buffer(count.saturating_mul(N))?;
        taps.extend((0..count).flat_map(of));
        Ok(Self { width: N, taps })
    }

    fn count(&self) -> usize {
        self.taps.len() / self.width
    }

    /// Resamples the middle axis of [before, extent, behind].
    pub(crate) fn apply<T: Real>(
        &self,
        x: &[T],
        [before, extent, behind]: [usize; 3],
    ) -> Result<Vec<T>, Error> {
        let mut out = buffer(before * self.count() * behind)?;
        if behind == 0 {
            return Ok(out);
        }
        let mut looks = Looks::default();
        for block in 0..before {
            for taps in self.taps.chunks_exact(self.width) {
                looks.after(behind)?;
                out.extend((0..behind).map(|i| {
                    let term = |&(at, weight): &(usize, f64)| {
                        x[(block * extent + at) * behind + i].wide() * weight
                    };
                    T::of(taps.iter().map(term).sum())
                }));
            }
        }
        Ok(out)
    }

    /// The transpose: sends the middle axis of [before, count, behind] back to `extent` positions.
    pub(crate) fn transpose<T: Real>(
        &self,
        x: &[T],
        [before, extent, behind]: [usize; 3],
    ) -> Result<Vec<T>, Error> {
        let total = before * extent * behind;
        let mut out = buffer(total)?;
        if behind == 0 {
            return Ok(out);
        }
        let mut sums: Vec<f64> = filled(extent * behind, 0.0)?;
        let (count, mut looks) = (self.count(), Looks::default());
        for block in 0..before {
            sums.fill(0.0);
            for (place, taps) in self.taps.chunks_exact(self.width).enumerate() {
                looks.after(behind)?;
                let row = &x[(block * count + place) * behind..][..behind];
                for &(at, weight) in taps {
                    for (sum, x) in sums[at * behind..][..behind].iter_mut().zip(row) {
                        *sum += x.wide() * weight;
                    }
                }
            }
            out.extend(sums.iter().map(|&sum| T::of(sum)));
        }
        Ok(out)
    }
}
