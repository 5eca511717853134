//! Windows that slide over the spatial axes of a batch: the geometry of convolutions and pools.
//!
//! One to three spatial axes are treated as three; those that are missing have extent 1.

use std::ops::Range;

use smallvec::SmallVec;

use crate::{array::buffer, aval::Shape, error::Error};

/// How a window slides along one axis, checked by `infer`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// Extent of the input.
    pub(crate) extent: usize,
    /// How many windows there are.
    pub(crate) count: usize,
    /// Cells of a window.
    pub(crate) size: usize,
    /// From one window to the next.
    pub(crate) stride: usize,
    /// From one cell of a window to the next.
    pub(crate) dilation: usize,
    /// Padding before the input.
    pub(crate) before: usize,
}

impl Axis {
    /// An axis that is not there.
    pub(crate) const MISSING: Self =
        Self { extent: 1, count: 1, size: 1, stride: 1, dilation: 1, before: 0 };

    /// Where in the input a cell of a window is, unless it is padding.
    pub(crate) fn position(&self, window: usize, cell: usize) -> Option<usize> {
        let at = (window * self.stride + cell * self.dilation).checked_sub(self.before)?;
        (at < self.extent).then_some(at)
    }

    /// The cells of a window that are not padding.
    fn cells(&self, window: usize) -> Range<usize> {
        let start = window * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.before + self.extent).saturating_sub(start).div_ceil(self.dilation);
        first..end.min(self.size)
    }

    /// The windows in which a cell is not padding.
    pub(crate) fn windows(&self, cell: usize) -> Range<usize> {
        let at = cell * self.dilation;
        let first = self.before.saturating_sub(at).div_ceil(self.stride);
        let end = (self.before + self.extent).saturating_sub(at).div_ceil(self.stride);
        first..end.min(self.count)
    }

    /// Where in the input the cells of a window are that are not padding.
    pub(crate) fn positions(self, window: usize) -> impl Iterator<Item = usize> {
        self.cells(window).filter_map(move |cell| self.position(window, cell))
    }
}

/// All windows over a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Number of images.
    pub(crate) batch: usize,
    /// Number of spatial axes.
    pub(crate) rank: usize,
    /// The spatial axes; the missing ones come first.
    pub(crate) axes: [Axis; 3],
    /// Whether the channels come before the spatial axes.
    pub(crate) channels_first: bool,
}

/// Distances in memory between images, between positions in an image, and between channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) image: usize,
    pub(crate) position: usize,
    pub(crate) channel: usize,
}

/// Cells of a window that follow on each other along the last axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Cells of padding before.
    pub(crate) before: usize,
    /// The first position that is not padding.
    pub(crate) first: usize,
    /// How many are not padding.
    pub(crate) cells: usize,
    /// Cells of padding after.
    pub(crate) after: usize,
}

impl Windows {
    /// Number of positions in an image of the input.
    pub(crate) fn positions(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Number of windows in an image.
    pub(crate) fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }

    /// Number of cells in a window.
    pub(crate) fn cells(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// Most cells of a window that are not padding.
    pub(crate) fn cells_inside(&self) -> usize {
        self.axes.iter().map(|axis| axis.size.min(axis.extent)).product()
    }

    /// The shape of a tensor with one element for each window and channel.
    pub(crate) fn shape(&self, channels: usize) -> Shape {
        let counts = self.axes[3 - self.rank..].iter().map(|axis| axis.count);
        let mut shape: Shape = std::iter::once(self.batch).chain(counts).collect();
        shape.insert(if self.channels_first { 1 } else { shape.len() }, channels);
        shape
    }

    /// How a tensor with so many positions and channels lies in memory.
    pub(crate) fn layout(&self, positions: usize, channels: usize) -> Layout {
        let image = positions * channels;
        if self.channels_first {
            Layout { image, position: 1, channel: positions }
        } else {
            Layout { image, position: channels, channel: 1 }
        }
    }

    /// The place of a window along each axis.
    fn place(&self, window: usize) -> [usize; 3] {
        let [_, rows, columns] = self.axes.map(|axis| axis.count);
        [window / (rows * columns), window / columns % rows, window % columns]
    }

    /// Calls `visit(position)` for each cell of a window in row-major order, without a position where the cell is padding.
    pub(crate) fn each_cell(&self, window: usize, mut visit: impl FnMut(Option<usize>)) {
        let [depths, rows, columns] = &self.axes;
        let place = self.place(window);
        for i in 0..depths.size {
            let depth = depths.position(place[0], i);
            for j in 0..rows.size {
                let row = depth.zip(rows.position(place[1], j));
                let row = row.map(|(depth, row)| (depth * rows.extent + row) * columns.extent);
                for k in 0..columns.size {
                    let column = columns.position(place[2], k);
                    visit(row.zip(column).map(|(row, column)| row + column));
                }
            }
        }
    }

    /// Calls `visit(image, run)` for each run along the last axis of the cells of some windows, which are numbered through the
    /// batch; all in row-major order. That axis must not be dilated: so the positions of a run follow on each other.
    pub(crate) fn each_run(&self, windows: Range<usize>, mut visit: impl FnMut(usize, Run)) {
        let [depths, rows, columns] = &self.axes;
        let mut starts: SmallVec<[Option<usize>; 16]> = SmallVec::new();
        let mut next = windows.start;
        while next < windows.end {
            let (image, place) = (next / self.count(), self.place(next % self.count()));
            // What lies in the same row of windows has the same rows of cells.
            let ahead = (windows.end - next).min(columns.count - place[2]);
            starts.clear();
            for i in 0..depths.size {
                let depth = depths.position(place[0], i);
                starts.extend((0..rows.size).map(|j| {
                    let (depth, row) = depth.zip(rows.position(place[1], j))?;
                    Some((depth * rows.extent + row) * columns.extent)
                }));
            }
            for column in place[2]..place[2] + ahead {
                let start = column * columns.stride;
                let before = columns.before.saturating_sub(start).min(columns.size);
                let end = (columns.before + columns.extent).saturating_sub(start);
                let cells = end.min(columns.size).saturating_sub(before);
                for row in &starts {
                    visit(
                        image,
                        match row {
                            Some(row) if cells > 0 => Run {
                                before,
                                first: row + start + before - columns.before,
                                cells,
                                after: columns.size - before - cells,
                            },
                            _ => Run { before: columns.size, first: 0, cells: 0, after: 0 },
                        },
                    );
                }
            }
            next += ahead;
        }
    }

    /// Calls `visit(image, window, positions)` for each window, with the positions of the cells that are not padding, all
    /// in row-major order.
    pub(crate) fn each(
        &self,
        mut visit: impl FnMut(usize, usize, &[usize]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let [depths, rows, columns] = self.axes;
        let mut cells = buffer(self.cells_inside())?;
        for image in 0..self.batch {
            for window in 0..self.count() {
                let place = self.place(window);
                cells.clear();
                for depth in depths.positions(place[0]) {
                    for row in rows.positions(place[1]) {
                        let start = (depth * rows.extent + row) * columns.extent;
                        cells.extend(columns.positions(place[2]).map(|column| start + column));
                    }
                }
                visit(image, window, &cells)?;
            }
        }
        Ok(())
    }
}
