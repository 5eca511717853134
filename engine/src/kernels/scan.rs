//! Running results: going along an axis from one end.

use crate::{
    array::{Element, overwritten},
    aval::Shape,
    compute::{self, Looks},
    error::Error,
    kernels::{lanes, order::around, rows},
};

/// Columns that are gone down together: what they accumulated lies in the first-level cache.
const BLOCK: usize = 512;

/// How a scan goes: from the end if `reverse`, and beginning with `init`. `step` takes what was accumulated so far and an
/// element of each input, and gives what is accumulated now and the result for that place.
pub(crate) struct Scan<A, S> {
    pub(crate) reverse: bool,
    pub(crate) init: A,
    pub(crate) step: S,
}

impl<A: Copy + Sync, S: Sync> Scan<A, S> {
    /// The results along an axis of inputs of this shape.
    pub(crate) fn run<const N: usize, T: Element, U: Element>(
        &self,
        x: [&[T]; N],
        shape: &Shape,
        axis: usize,
    ) -> Result<Vec<U>, Error>
    where
        S: Fn(A, [T; N]) -> (A, U),
    {
        let mut out = overwritten(shape.elements())?;
        let (matrices, rows, width) = around(shape, axis);
        if out.is_empty() {
            // The other extents may be huge beside a zero.
            return Ok(out);
        }
        // An element waits for the one before.
        let work = 2 * compute::elements(out.len());
        let size = rows::in_part(matrices, work) * rows * width;
        let tasks = out.chunks_mut(size).zip((0..).step_by(size));
        compute::each(tasks.collect(), |(out, first)| {
            let mut looks = Looks::default();
            for (out, start) in out.chunks_mut(rows * width).zip((first..).step_by(rows * width)) {
                let x = x.map(|x| &x[start..start + out.len()]);
                if width == 1 {
                    self.line(x, out, &mut looks)?;
                } else {
                    self.columns(x, width, out, &mut looks)?;
                }
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Elements that follow on each other.
    fn line<const N: usize, T: Copy, U>(
        &self,
        x: [&[T]; N],
        out: &mut [U],
        looks: &mut Looks,
    ) -> Result<(), Error>
    where
        S: Fn(A, [T; N]) -> (A, U),
    {
        let Self { reverse, init, step } = self;
        let (mut accumulated, count) = (*init, out.len());
        for range in compute::ranges(count) {
            let range = range?;
            let range = if *reverse { count - range.end..count - range.start } else { range };
            let (x, out) = (x.map(|x| &x[range.clone()]), &mut out[range]);
            let mut next = |i: usize| (accumulated, out[i]) = step(accumulated, x.map(|x| x[i]));
            let count = x.first().map_or(0, |x| x.len());
            if *reverse {
                (0..count).rev().for_each(&mut next);
            } else {
                (0..count).for_each(&mut next);
            }
        }
        looks.after(count)
    }

    /// Columns of rows of so many elements: those that lie side by side are gone down together.
    fn columns<const N: usize, T: Copy, U>(
        &self,
        x: [&[T]; N],
        width: usize,
        out: &mut [U],
        looks: &mut Looks,
    ) -> Result<(), Error>
    where
        S: Fn(A, [T; N]) -> (A, U),
    {
        let rows = out.len() / width;
        for first in (0..width).step_by(BLOCK) {
            let mut accumulated = [self.init; BLOCK];
            let accumulated = &mut accumulated[..BLOCK.min(width - first)];
            for row in 0..rows {
                let row = if self.reverse { rows - 1 - row } else { row };
                let start = row * width + first;
                let piece = start..start + accumulated.len();
                let x = x.map(|x| &x[piece.clone()]);
                lanes::step_columns(x, accumulated, &mut out[piece], &self.step);
                looks.after(accumulated.len())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Cancel, Context, Crew};

    /// The order of additions is that of the elements, and it does not matter who makes them: extents that are no multiple
    /// of anything, a single row and a single column, more columns than are gone down together, a line in pieces, many lines;
    /// and none.
    #[test]
    fn every_line_is_gone_along_in_its_order() {
        let step = |sum: f64, [x, y]: [f32; 2]| {
            let sum = sum * f64::from(y) + f64::from(x);
            #[expect(clippy::cast_possible_truncation, reason = "as kernels round")]
            (sum, sum as f32)
        };
        let context =
            Context { crew: Crew::new(3).unwrap(), cancel: Cancel::default(), turns: None };
        for extents in [
            &[1][..],
            &[1, 9],
            &[9, 1],
            &[33, 7],
            &[3, 5, 7],
            &[4, 1030],
            &[70_001],
            &[3000, 101],
            &[0, 4],
            &[4, 0],
        ] {
            let shape = Shape::from(extents);
            let number = |i: usize| f32::from(u16::try_from(i * 7919 % 1009).unwrap()) / 700.0;
            let x: Vec<f32> = (0..shape.elements()).map(number).collect();
            let y: Vec<f32> = (0..shape.elements()).map(|i| number(i + 1)).collect();
            for (axis, reverse) in (0..shape.len()).flat_map(|i| [(i, false), (i, true)]) {
                let (before, extent, behind) = around(&shape, axis);
                let mut expected = vec![0.0; x.len()];
                for (block, place) in (0..before).flat_map(|i| (0..behind).map(move |j| (i, j))) {
                    let mut sum = 1.0;
                    for i in 0..extent {
                        let i = if reverse { extent - 1 - i } else { i };
                        let at = (block * extent + i) * behind + place;
                        (sum, expected[at]) = step(sum, [x[at], y[at]]);
                    }
                }
                let scan = Scan { reverse, init: 1.0, step };
                let alone = scan.run([&x[..], &y[..]], &shape, axis).unwrap();
                assert!(alone == expected, "{shape:?} along {axis}, reverse: {reverse}");
                let helped = context.enter(|| scan.run([&x[..], &y[..]], &shape, axis)).unwrap();
                assert!(helped == expected, "{shape:?} along {axis}, reverse: {reverse}, helped");
            }
        }
    }
}
