//! Convolutions as matrix products: the windows of a block of outputs are copied into the rows of a matrix.
//!
//! All three products of an input, a filter and an output are the same loop over blocks, in one fixed order.

use ndarray::{
    ArrayView2, ArrayViewMut2, LinalgScalar, ShapeBuilder, ShapeError, linalg::general_mat_mul,
};

use crate::{
    array::buffer,
    error::Error,
    kernels::{lanes, matmul::Entry, panel, real::Number, window::Windows},
};

/// Most bytes of copied windows at a time, if one window is not more.
const BLOCK_BYTES: usize = 4 << 20;

/// A convolution, checked by `infer`. The filter has shape `[cells of the window..., inputs, groups * outputs]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution {
    /// Where the filter is applied.
    pub(crate) windows: Windows,
    /// In how many groups the channels fall that have nothing to do with each other.
    pub(crate) groups: usize,
    /// Input channels of a group.
    pub(crate) inputs: usize,
    /// Output channels of a group.
    pub(crate) outputs: usize,
}

/// Windows of one group of channels, numbered through the batch.
#[derive(Clone, Copy, Debug)]
struct Block {
    group: usize,
    start: usize,
    rows: usize,
}

impl Convolution {
    /// Elements of a window in one group.
    fn columns(&self) -> usize {
        self.windows.cells() * self.inputs
    }

    /// Number of windows in the batch.
    fn rows(&self) -> usize {
        self.windows.batch * self.windows.count()
    }

    fn filter_size(&self) -> usize {
        self.columns() * self.groups * self.outputs
    }

    /// Windows in a block: within an image if its outputs do not follow on the next image's at one distance.
    fn block_rows<T>(&self) -> usize {
        let run = if self.windows.channels_first { self.windows.count() } else { self.rows() };
        run.min((BLOCK_BYTES / size_of::<T>() / self.columns().max(1)).max(1))
    }

    /// Bytes of the copied windows.
    pub(crate) fn workspace<T>(&self) -> u64 {
        (self.block_rows::<T>() as u64)
            .saturating_mul(self.columns() as u64)
            .saturating_mul(size_of::<T>() as u64)
            .saturating_add(self.panels())
    }

    /// Bytes of the panels of whichever product has more.
    fn panels(&self) -> u64 {
        let (columns, outputs) = (self.columns(), self.outputs);
        panel::workspace((0, columns, outputs)).max(panel::workspace((0, outputs, columns)))
    }

    /// Arithmetic operations, the same for all three products.
    pub(crate) fn flops(&self) -> u64 {
        let copies = (self.rows() as u64).saturating_mul((self.columns() * self.groups) as u64);
        copies.saturating_mul(2 * self.outputs as u64 + 1)
    }

    /// Outputs from inputs and filter.
    pub(crate) fn forward<T: Entry + LinalgScalar>(
        &self,
        x: &[T],
        filter: &[T],
    ) -> Result<Vec<T>, Error> {
        let mut y = zeros(self.rows() * self.groups * self.outputs)?;
        if y.is_empty() || filter.is_empty() {
            return Ok(y);
        }
        self.blocks(|block, patches| {
            self.gather(x, block, patches);
            let (rows, columns) = (block.rows, self.columns());
            let patches = ArrayView2::from_shape((rows, columns), patches).map_err(misshapen)?;
            let (shape, at) = self.output_view(block);
            let mut out = ArrayViewMut2::from_shape(shape, &mut y[at..]).map_err(misshapen)?;
            let (shape, at) = self.filter_view(block);
            let filter = ArrayView2::from_shape(shape, &filter[at..]).map_err(misshapen)?;
            T::product(&patches, &filter, &mut out)
        })?;
        Ok(y)
    }

    /// The filter's cotangent from inputs and the outputs' cotangent.
    pub(crate) fn filter_gradient<T: Entry + LinalgScalar>(
        &self,
        x: &[T],
        y: &[T],
    ) -> Result<Vec<T>, Error> {
        let mut filter = zeros(self.filter_size())?;
        if y.is_empty() || filter.is_empty() {
            return Ok(filter);
        }
        self.blocks(|block, patches| {
            self.gather(x, block, patches);
            let patches =
                ArrayView2::from_shape((block.rows, self.columns()), patches).map_err(misshapen)?;
            let (shape, at) = self.output_view(block);
            let y = ArrayView2::from_shape(shape, &y[at..]).map_err(misshapen)?;
            let (shape, at) = self.filter_view(block);
            let mut filter =
                ArrayViewMut2::from_shape(shape, &mut filter[at..]).map_err(misshapen)?;
            general_mat_mul(T::ONE, &patches.t(), &y, T::ONE, &mut filter);
            Ok(())
        })?;
        Ok(filter)
    }

    /// The inputs' cotangent from the filter and the outputs' cotangent.
    pub(crate) fn input_gradient<T: Entry + LinalgScalar>(
        &self,
        filter: &[T],
        y: &[T],
    ) -> Result<Vec<T>, Error> {
        let channels = self.groups * self.inputs;
        let mut x = zeros(self.windows.batch * self.windows.positions() * channels)?;
        if y.is_empty() || filter.is_empty() {
            return Ok(x);
        }
        self.blocks(|block, patches| {
            patches.clear();
            patches.resize(block.rows * self.columns(), T::ZERO);
            let (shape, at) = self.output_view(block);
            let y = ArrayView2::from_shape(shape, &y[at..]).map_err(misshapen)?;
            let (shape, at) = self.filter_view(block);
            let filter = ArrayView2::from_shape(shape, &filter[at..]).map_err(misshapen)?;
            let mut rows = ArrayViewMut2::from_shape((block.rows, self.columns()), patches)
                .map_err(misshapen)?;
            T::product(&y, &filter.t(), &mut rows)?;
            self.scatter(patches, block, &mut x);
            Ok(())
        })?;
        Ok(x)
    }

    /// Calls `visit(block, memory for its windows)` for each block.
    fn blocks<T>(
        &self,
        mut visit: impl FnMut(Block, &mut Vec<T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let most = self.block_rows::<T>();
        let run = if self.windows.channels_first { self.windows.count() } else { self.rows() };
        let mut patches = buffer(most * self.columns())?;
        for group in 0..self.groups {
            let mut start = 0;
            while start < self.rows() {
                let rows = most.min(run - start % run);
                visit(Block { group, start, rows }, &mut patches)?;
                start += rows;
            }
        }
        Ok(())
    }

    /// Extents, strides and start of a block's outputs.
    fn output_view(&self, block: Block) -> (ndarray::StrideShape<ndarray::Ix2>, usize) {
        let count = self.windows.count();
        let layout = self.windows.layout(count, self.groups * self.outputs);
        let at = block.start / count * layout.image
            + block.start % count * layout.position
            + block.group * self.outputs * layout.channel;
        ((block.rows, self.outputs).strides((layout.position, layout.channel)), at)
    }

    /// Extents, strides and start of a group's filter.
    fn filter_view(&self, block: Block) -> (ndarray::StrideShape<ndarray::Ix2>, usize) {
        let shape = (self.columns(), self.outputs).strides((self.groups * self.outputs, 1));
        (shape, block.group * self.outputs)
    }

    /// Calls `visit(start of the channels)` for each cell of each window of a block, without a start where it is padding.
    fn each_cell(&self, block: Block, mut visit: impl FnMut(Option<usize>)) {
        let layout = self.windows.layout(self.windows.positions(), self.groups * self.inputs);
        for row in block.start..block.start + block.rows {
            let (image, window) = (row / self.windows.count(), row % self.windows.count());
            let start = image * layout.image + block.group * self.inputs * layout.channel;
            self.windows.each_cell(window, |at| visit(at.map(|at| start + at * layout.position)));
        }
    }

    /// Whether the elements of neighbouring cells follow on each other in memory.
    fn has_runs(&self) -> bool {
        self.groups == 1 && !self.windows.channels_first && self.windows.axes[2].dilation == 1
    }

    /// Calls `visit(elements of padding before, first element, elements, elements of padding after)` for each run of
    /// neighbouring cells of each window of a block.
    fn each_run(&self, block: Block, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (image_size, inputs) = (self.windows.positions() * self.inputs, self.inputs);
        self.windows.each_run(block.start..block.start + block.rows, |image, run| {
            let start = image * image_size + run.first * inputs;
            visit(run.before * inputs, start, run.cells * inputs, run.after * inputs);
        });
    }

    /// Copies the windows of a block into rows.
    fn gather<T: Number>(&self, x: &[T], block: Block, patches: &mut Vec<T>) {
        if self.has_runs() {
            patches.clear();
            return self.each_run(block, |before, start, count, after| {
                patches.extend(std::iter::repeat_n(T::ZERO, before));
                patches.extend_from_slice(&x[start..start + count]);
                patches.extend(std::iter::repeat_n(T::ZERO, after));
            });
        }
        let layout = self.windows.layout(self.windows.positions(), self.groups * self.inputs);
        patches.clear();
        self.each_cell(block, |start| match start {
            None => patches.resize(patches.len() + self.inputs, T::ZERO),
            Some(start) if layout.channel == 1 => {
                patches.extend_from_slice(&x[start..start + self.inputs]);
            }
            Some(start) => {
                patches.extend((0..self.inputs).map(|channel| x[start + channel * layout.channel]));
            }
        });
    }

    /// Adds the rows of a block to where `gather` takes them from.
    fn scatter<T: Number>(&self, patches: &[T], block: Block, x: &mut [T]) {
        if self.has_runs() {
            let mut rest = patches;
            return self.each_run(block, |before, start, count, after| {
                let run = &rest[before..before + count];
                lanes::update(&mut x[start..start + count], run, Number::add);
                rest = &rest[before + count + after..];
            });
        }
        let layout = self.windows.layout(self.windows.positions(), self.groups * self.inputs);
        let mut cells = patches.chunks_exact(self.inputs);
        self.each_cell(block, |start| {
            if let (Some(cell), Some(start)) = (cells.next(), start) {
                for (channel, &value) in cell.iter().enumerate() {
                    let at = start + channel * layout.channel;
                    x[at] = Number::add(x[at], value);
                }
            }
        });
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as errors are mapped")]
fn misshapen(error: ShapeError) -> Error {
    Error::bug(format!("convolution: {error}"))
}

fn zeros<T: Number>(count: usize) -> Result<Vec<T>, Error> {
    let mut zeros = buffer(count)?;
    zeros.resize(count, T::ZERO);
    Ok(zeros)
}
