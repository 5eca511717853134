//! Maximum pools, their transposes and what else follows from where a window's largest element is.
//!
//! The first of equals wins, and NaN is above all. A row of windows is gone through cell by cell, in the order of cells: for
//! each, the loops run over the channels of all windows of the row.

use std::ops::Range;

use crate::{
    array::{buffer, filled},
    compute::{self, Looks, MAX_WIDTH},
    error::Error,
    kernels::{
        lanes::each_level,
        pool::{Parts, zeros},
        real::Number,
        window::Windows,
    },
};

/// A pool over an input whose channels come last: where they come first, each is an image of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxPool {
    windows: Windows,
    channels: usize,
}

/// A cell of the windows of a row.
struct Cell {
    /// Its number among those that are inside for some window of the row.
    number: u32,
    /// The windows for which it is inside the image.
    windows: Range<usize>,
    /// Its position in the first of them.
    first: usize,
}

/// The number of no cell.
const NONE: u32 = u32::MAX;

/// Whether an element takes the place of the largest so far.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn wins<T: Number>(x: T, best: T) -> bool {
    (x > best) | (x.is_nan() & !best.is_nan())
}

each_level! {
    /// Takes over the larger elements of a cell, whose elements are `width` next to each other and then `step` further on.
    fn take_larger<T: Number>(x: &[T], step: usize, width: usize, best: &mut [T]) {
        for (best, x) in best.chunks_exact_mut(width).zip(x.chunks(step)) {
            for (best, &x) in best.iter_mut().zip(x) {
                *best = if wins(x, *best) { x } else { *best };
            }
        }
    }
}

each_level! {
    /// The same with the number of the cell that wins.
    fn take_winner<T: Number>(
        x: &[T],
        (step, width): (usize, usize),
        number: u32,
        best: &mut [T],
        winner: &mut [u32],
    ) {
        let winner = winner.chunks_exact_mut(width);
        for ((best, winner), x) in best.chunks_exact_mut(width).zip(winner).zip(x.chunks(step)) {
            for ((best, winner), &x) in best.iter_mut().zip(winner).zip(x) {
                let better = wins(x, *best) || *winner == NONE;
                *best = if better { x } else { *best };
                *winner = if better { number } else { *winner };
            }
        }
    }
}

each_level! {
    /// Adds the values of windows in which a cell has won to its elements.
    fn give<T: Number>(
        values: &[T],
        winner: &[u32],
        number: u32,
        (step, width): (usize, usize),
        x: &mut [T],
    ) {
        let winner = winner.chunks_exact(width);
        for ((x, values), winner) in x.chunks_mut(step).zip(values.chunks_exact(width)).zip(winner) {
            for ((x, &value), &winner) in x.iter_mut().zip(values).zip(winner) {
                *x = Number::add(*x, if winner == number { value } else { T::ZERO });
            }
        }
    }
}

impl MaxPool {
    pub(crate) fn new(windows: Windows, channels: usize) -> Self {
        if windows.channels_first {
            let (batch, channels_first) = (windows.batch * channels, false);
            return Self { windows: Windows { batch, channels_first, ..windows }, channels: 1 };
        }
        Self { windows, channels }
    }

    /// Bytes of the cells of a row of windows and of its winners, for each thread. No other pool needs more.
    pub(crate) fn workspace(&self) -> u64 {
        let cells = (self.windows.cells_inside() * size_of::<Cell>()) as u64;
        let row = (self.windows.axes[2].count * self.channels) as u64;
        (cells + row * (size_of::<f64>() + size_of::<u32>()) as u64) * MAX_WIDTH as u64
    }

    /// The largest element of each window.
    pub(crate) fn largest<T: Number + Send + Sync>(&self, x: &[T]) -> Result<Vec<T>, Error> {
        let mut best = filled(self.outputs(), T::LOWEST)?;
        let parts = Parts::new(&self.windows, self.channels);
        let outputs = parts.cut(&mut best);
        compute::each(parts.each(x).zip(outputs).collect(), |((windows, _, x), best)| {
            let (part, mut looks) = (Self { windows, ..*self }, Looks::default());
            part.each_row(|x_at, y_at, cells| {
                for cell in cells {
                    let x = &x[x_at + cell.first * self.channels..];
                    let best = &mut best[self.elements(y_at, &cell.windows)];
                    let (step, width) = self.steps();
                    take_larger(x, step, width, best);
                    looks.after(best.len())?;
                }
                Ok(())
            })
        })?;
        Ok(best)
    }

    /// Where in the input each window's largest element is.
    pub(crate) fn places<T: Number + Send + Sync>(&self, x: &[T]) -> Result<Vec<i64>, Error> {
        self.outputs_by(x, |at| i64::try_from(at).unwrap_or(i64::MAX))
    }

    /// The values at which the windows' largest elements are.
    pub(crate) fn gather<T: Number + Send + Sync>(
        &self,
        x: &[T],
        values: &[T],
    ) -> Result<Vec<T>, Error> {
        self.outputs_by(x, |at| values[at])
    }

    /// Something of the place of each window's largest element.
    fn outputs_by<T: Number + Send + Sync, U: Copy + Default + Send>(
        &self,
        x: &[T],
        of: impl Fn(usize) -> U + Sync,
    ) -> Result<Vec<U>, Error> {
        let mut result = zeros(self.outputs())?;
        let parts = Parts::new(&self.windows, self.channels);
        let outputs = parts.cut(&mut result);
        compute::each(parts.each(x).zip(outputs).collect(), |((windows, start, x), result)| {
            let (part, mut looks) = (Self { windows, ..*self }, Looks::default());
            part.each_winner(x, |x_at, y_at, cells, winner| {
                let (step, width) = self.steps();
                for cell in cells {
                    let elements = self.elements(y_at, &cell.windows);
                    let winners = &winner[self.elements(0, &cell.windows)];
                    for (i, (result, &winner)) in
                        result[elements].iter_mut().zip(winners).enumerate()
                    {
                        if winner == cell.number {
                            let at = x_at + cell.first * width + i / width * step + i % width;
                            *result = of(start + at);
                        }
                    }
                    looks.after(winners.len())?;
                }
                Ok(())
            })
        })?;
        Ok(result)
    }

    /// Adds each value to where its window's largest element is.
    pub(crate) fn scatter<T: Number + Send + Sync>(
        &self,
        x: &[T],
        values: &[T],
    ) -> Result<Vec<T>, Error> {
        let mut result: Vec<T> = zeros(x.len())?;
        let parts = Parts::new(&self.windows, self.channels);
        let outputs = parts.cut(&mut result);
        let values = values.chunks(parts.size(self.outputs()));
        compute::each(
            parts.each(x).zip(values).zip(outputs).collect(),
            |(((windows, _, x), values), result)| {
                let (part, mut looks) = (Self { windows, ..*self }, Looks::default());
                part.each_winner(x, |x_at, y_at, cells, winner| {
                    for cell in cells {
                        let values = &values[self.elements(y_at, &cell.windows)];
                        let winner = &winner[self.elements(0, &cell.windows)];
                        let result = &mut result[x_at + cell.first * self.channels..];
                        give(values, winner, cell.number, self.steps(), result);
                        looks.after(values.len())?;
                    }
                    Ok(())
                })
            },
        )?;
        Ok(result)
    }

    /// Elements of the output.
    fn outputs(&self) -> usize {
        self.windows.batch * self.windows.count() * self.channels
    }

    /// Elements from a cell of one window to that of the next, and of the cell of each.
    fn steps(&self) -> (usize, usize) {
        (self.windows.axes[2].stride * self.channels, self.channels)
    }

    /// The elements of some windows of a row that begins somewhere.
    fn elements(&self, start: usize, windows: &Range<usize>) -> Range<usize> {
        start + windows.start * self.channels..start + windows.end * self.channels
    }

    /// Calls `visit(first element of the image, first element of the row of windows, cells, winners)` for each row, with the
    /// number of the cell that wins for each element of the row.
    fn each_winner<T: Number>(
        &self,
        x: &[T],
        mut visit: impl FnMut(usize, usize, &[Cell], &[u32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let row = self.windows.axes[2].count * self.channels;
        let (mut best, mut winner): (Vec<T>, Vec<u32>) = (buffer(row)?, buffer(row)?);
        let mut looks = Looks::default();
        self.each_row(|x_at, y_at, cells| {
            best.clear();
            best.resize(row, T::LOWEST);
            winner.clear();
            winner.resize(row, NONE);
            for cell in cells {
                let elements = self.elements(0, &cell.windows);
                let x = &x[x_at + cell.first * self.channels..];
                let (best, winner) = (&mut best[elements.clone()], &mut winner[elements]);
                take_winner(x, self.steps(), cell.number, best, winner);
                looks.after(best.len())?;
            }
            visit(x_at, y_at, cells, &winner)
        })
    }

    /// Calls `visit(first element of the image, first element of the row of windows, cells)` for each row.
    fn each_row(
        &self,
        mut visit: impl FnMut(usize, usize, &[Cell]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let [depths, rows, columns] = &self.windows.axes;
        let mut cells = buffer(self.windows.cells_inside())?;
        let image_size = self.windows.positions() * self.channels;
        let mut y_at = 0;
        for image in 0..self.windows.batch {
            for window in 0..depths.count * rows.count {
                let (depth, row) = (window / rows.count, window % rows.count);
                cells.clear();
                for depth in depths.positions(depth) {
                    for row in rows.positions(row) {
                        let start = (depth * rows.extent + row) * columns.extent;
                        for column in 0..columns.size {
                            let windows = columns.windows(column);
                            if let Some(first) = columns.position(windows.start, column)
                                && !windows.is_empty()
                            {
                                let number = u32::try_from(cells.len()).unwrap_or(NONE - 1);
                                cells.push(Cell { number, windows, first: start + first });
                            }
                        }
                    }
                }
                visit(image * image_size, y_at, &cells)?;
                y_at += columns.count * self.channels;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::window::Axis;

    /// Extent, cells, stride, dilation, padding before and after.
    type Along = (usize, usize, usize, usize, usize, usize);

    fn windows(batch: usize, along: &[Along], channels_first: bool) -> Windows {
        let mut axes = [Axis::MISSING; 3];
        let rank = along.len();
        for (axis, &(extent, size, stride, dilation, before, after)) in
            axes[3 - rank..].iter_mut().zip(along)
        {
            let count = (before + extent + after - (size - 1) * dilation - 1) / stride + 1;
            *axis = Axis { extent, count, size, stride, dilation, before };
        }
        Windows { batch, rank, axes, channels_first }
    }

    #[test]
    fn winners_are_those_of_each_window_alone() {
        let cases: &[(&[Along], usize, bool)] = &[
            (&[(8, 2, 2, 1, 0, 0), (6, 2, 2, 1, 0, 0)], 32, false),
            (&[(7, 3, 2, 1, 1, 1), (6, 3, 1, 1, 1, 1)], 3, false),
            (&[(7, 3, 2, 1, 1, 1), (6, 3, 1, 1, 1, 1)], 3, true),
            (&[(9, 2, 3, 3, 2, 1)], 5, false),
            (&[(4, 2, 2, 1, 0, 0), (5, 2, 1, 2, 1, 1), (6, 3, 3, 1, 1, 2)], 2, false),
        ];
        for &(along, channels, channels_first) in cases {
            let windows = windows(3, along, channels_first);
            let count = windows.batch * windows.positions() * channels;
            // Few different numbers, so that many are equal; some are NaN and some the lowest there is.
            let numbers = [0.0, -0.0, 1.0, f32::NEG_INFINITY, f32::NAN, -3.0, f32::NEG_INFINITY];
            let x: Vec<f32> = (0..count).map(|i| numbers[i * i / 3 % 7]).collect();
            let (input, output) = (
                windows.layout(windows.positions(), channels),
                windows.layout(windows.count(), channels),
            );
            let mut places = vec![0; windows.batch * windows.count() * channels];
            let all = windows.each(|image, window, positions| {
                for channel in 0..channels {
                    let at = |&position: &usize| {
                        image * input.image + position * input.position + channel * input.channel
                    };
                    let first =
                        |best: usize, next| if wins(x[next], x[best]) { next } else { best };
                    let best = positions.iter().map(at).reduce(first).unwrap();
                    let y = image * output.image + window * output.position;
                    places[y + channel * output.channel] = best;
                }
                Ok(())
            });
            all.unwrap();
            let values: Vec<f32> = (0_u16..).map(f32::from).take(places.len()).collect();
            let mut scattered = vec![0.0; count];
            places.iter().zip(&values).for_each(|(&at, value)| scattered[at] += value);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let gathered: Vec<f32> = places.iter().map(|&at| x[at]).collect();
            let pool = MaxPool::new(windows, channels);
            let found: Vec<usize> =
                pool.places(&x).unwrap().iter().map(|&at| usize::try_from(at).unwrap()).collect();
            assert_eq!(found, places, "{along:?}");
            assert_eq!(bits(&pool.gather(&x, &x).unwrap()), bits(&gathered), "{along:?}");
            assert_eq!(bits(&pool.largest(&x).unwrap()), bits(&gathered), "{along:?}");
            assert_eq!(bits(&pool.scatter(&x, &values).unwrap()), bits(&scattered), "{along:?}");
        }
    }
}
