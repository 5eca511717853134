//! Convolutions. Those of `float32` are computed by [Winograd's algorithm](Winograd) or [directly](Direct) where that is
//! possible, and all others as products of matrices, into whose rows the windows of a block of outputs are copied.
//!
//! All three products of an input, a filter and an output are the same loop over blocks. Images have nothing to do with each
//! other, but for the filter's gradient, to which they add in their order: there the rows of the product are split.

use std::ops::Range;

use ndarray::{
    ArrayView2, ArrayViewMut2, Axis, LinalgScalar, ShapeBuilder, ShapeError,
    linalg::general_mat_mul,
};

use crate::{
    array::{buffer, filled},
    compute::{self, MAX_WIDTH},
    error::Error,
    kernels::{
        direct::Direct,
        lanes,
        matmul::{ALIGNED, Entry},
        panel,
        panel::Matrix,
        real::Number,
        window::{self, Windows},
        winograd::Winograd,
    },
};

/// Most bytes of copied windows at a time, if one window is not more.
const BLOCK_BYTES: usize = 1 << 20;

/// Most arithmetic operations of a product, so that the flag that stops it is looked at every few milliseconds.
const BLOCK_WORK: usize = 1 << 27;

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

/// Which of input, filter and output is computed from the other two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Product {
    /// Outputs, from inputs and filter.
    Output,
    /// The inputs' cotangent, from the filter and the outputs' cotangent.
    Input,
    /// The filter's cotangent, from inputs and the outputs' cotangent.
    Filter,
}

/// How a product is computed.
#[derive(Debug)]
pub(crate) enum Form {
    /// With fewer products of numbers.
    Winograd(Winograd),
    /// From windows where they lie.
    Direct(Direct),
    /// From copied windows.
    Matrices,
}

/// An element of images. How a convolution is computed depends on it and on shapes.
pub(crate) trait Pixel: Entry + LinalgScalar {
    /// The best way to compute a product.
    fn form(_: &Convolution, _: Product) -> Form {
        Form::Matrices
    }

    /// Computes one of the three products.
    fn compute(
        convolution: &Convolution,
        product: Product,
        a: &[Self],
        b: &[Self],
    ) -> Result<Vec<Self>, Error> {
        convolution.as_matrices(product, a, b)
    }

    /// Bytes that this needs besides its operands and its result.
    fn workspace(convolution: &Convolution, product: Product) -> u64 {
        match (Self::form(convolution, product), product) {
            (Form::Winograd(winograd), _) => winograd.workspace(),
            (Form::Direct(direct), Product::Filter) => direct.filter_workspace(),
            (Form::Direct(direct), _) => direct.workspace(),
            (Form::Matrices, _) => convolution.workspace::<Self>(),
        }
    }
}

impl Pixel for f64 {}

impl Pixel for f32 {
    fn form(convolution: &Convolution, product: Product) -> Form {
        let direct = |convolution| Direct::of(convolution).map_or(Form::Matrices, Form::Direct);
        let best = |convolution| {
            Winograd::of(convolution).map_or_else(|| direct(convolution), Form::Winograd)
        };
        match product {
            Product::Output => best(*convolution),
            Product::Input => convolution.transposed().map_or(Form::Matrices, best),
            Product::Filter => direct(*convolution),
        }
    }

    fn compute(
        convolution: &Convolution,
        product: Product,
        a: &[Self],
        b: &[Self],
    ) -> Result<Vec<Self>, Error> {
        match (Self::form(convolution, product), product) {
            (Form::Winograd(winograd), Product::Input) => winograd.transposed(a, b),
            (Form::Winograd(winograd), _) => winograd.forward(a, b),
            (Form::Direct(direct), Product::Output) => direct.forward(a, b),
            (Form::Direct(direct), Product::Input) => direct.transposed(a, b),
            (Form::Direct(direct), Product::Filter) => direct.filter_gradient(a, b),
            (Form::Matrices, _) => convolution.as_matrices(product, a, b),
        }
    }
}

impl Convolution {
    /// Elements of a window in one group.
    pub(crate) fn columns(&self) -> usize {
        self.windows.cells() * self.inputs
    }

    /// Number of windows in the batch.
    fn rows(&self) -> usize {
        self.windows.batch * self.windows.count()
    }

    /// Elements of the filter.
    pub(crate) fn filter_size(&self) -> usize {
        self.columns() * self.groups * self.outputs
    }

    /// Windows in a block: within an image if its outputs do not follow on the next image's at one distance.
    fn block_rows<T>(&self) -> usize {
        let run = if self.windows.channels_first { self.windows.count() } else { self.rows() };
        let row = self.columns().max(1);
        let work = BLOCK_WORK / row.saturating_mul(2 * self.outputs.max(1));
        run.min((BLOCK_BYTES / size_of::<T>() / row).min(work).max(1))
    }

    /// Bytes of the copied windows, for each thread that may work on them.
    fn workspace<T>(&self) -> u64 {
        (self.block_rows::<T>() as u64)
            .saturating_mul(self.columns() as u64)
            .saturating_mul(size_of::<T>() as u64)
            .saturating_add(self.panels())
            .saturating_mul(self.windows.batch.min(MAX_WIDTH) as u64)
    }

    /// Splits the batch, and tensors of it, into the images of each part.
    pub(crate) fn images<'a, T>(&self, tensor: &'a mut [T]) -> Vec<(Range<usize>, &'a mut [T])> {
        let batch = self.windows.batch;
        let copies = self.rows() * self.columns() * self.groups;
        let work = compute::products(self.flops()) + compute::elements(copies);
        let images = batch.div_ceil(compute::parts(work, batch));
        let size = tensor.len() / batch.max(1) * images;
        let starts = (0..batch).step_by(images.max(1));
        let parts = tensor.chunks_mut(size.max(1)).zip(starts);
        parts.map(|(part, start)| (start..(start + images).min(batch), part)).collect()
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

    /// The convolution that computes this one's cotangent of the inputs, if windows are at every position and the padding is
    /// no more than a window reaches.
    fn transposed(&self) -> Option<Self> {
        let mut windows = self.windows;
        for axis in &mut windows.axes {
            let reach = (axis.size - 1).checked_mul(axis.dilation)?;
            let before = reach.checked_sub(axis.before).filter(|_| axis.stride == 1)?;
            *axis = window::Axis { extent: axis.count, count: axis.extent, before, ..*axis };
        }
        Some(Self { windows, inputs: self.outputs, outputs: self.inputs, ..*self })
    }

    /// Computes one of the three products by products of matrices.
    fn as_matrices<T: Pixel>(&self, product: Product, a: &[T], b: &[T]) -> Result<Vec<T>, Error> {
        match product {
            Product::Output => self.forward(a, b),
            Product::Input => self.input_gradient(a, b),
            Product::Filter => self.filter_gradient(a, b),
        }
    }

    /// Outputs from inputs and filter.
    fn forward<T: Entry + LinalgScalar>(&self, x: &[T], filter: &[T]) -> Result<Vec<T>, Error> {
        let mut y = zeros(self.rows() * self.groups * self.outputs)?;
        if y.is_empty() || filter.is_empty() {
            return Ok(y);
        }
        let size = y.len() / self.windows.batch;
        compute::each(self.images(&mut y), |(images, y)| {
            let first = images.start * size;
            self.blocks(images, |block, patches| {
                patches.resize(block.rows * self.columns(), T::ZERO);
                self.gather(x, block, patches);
                let (rows, columns) = (block.rows, self.columns());
                let patches =
                    ArrayView2::from_shape((rows, columns), patches).map_err(misshapen)?;
                let (shape, at) = self.output_view(block);
                let out = ArrayViewMut2::from_shape(shape, &mut y[at - first..]);
                let (shape, at) = self.filter_view(block);
                let filter = ArrayView2::from_shape(shape, &filter[at..]).map_err(misshapen)?;
                product(&patches, &filter, &mut out.map_err(misshapen)?)
            })
        })?;
        Ok(y)
    }

    /// The filter's cotangent from inputs and the outputs' cotangent.
    fn filter_gradient<T: Entry + LinalgScalar>(&self, x: &[T], y: &[T]) -> Result<Vec<T>, Error> {
        let mut filter = zeros(self.filter_size())?;
        if y.is_empty() || filter.is_empty() {
            return Ok(filter);
        }
        self.blocks(0..self.windows.batch, |block, patches| {
            self.gather_all(x, block, patches)?;
            let patches =
                ArrayView2::from_shape((block.rows, self.columns()), patches).map_err(misshapen)?;
            let (shape, at) = self.output_view(block);
            let y = ArrayView2::from_shape(shape, &y[at..]).map_err(misshapen)?;
            let (shape, at) = self.filter_view(block);
            let mut filter =
                ArrayViewMut2::from_shape(shape, &mut filter[at..]).map_err(misshapen)?;
            let flops = 2 * (block.rows * self.columns() * self.outputs) as u64;
            let pieces = self.columns().div_ceil(ALIGNED);
            let parts = compute::parts(compute::products(flops), pieces);
            let rows = self.columns().div_ceil(parts).next_multiple_of(ALIGNED);
            let parts = filter.axis_chunks_iter_mut(Axis(0), rows);
            let parts = parts.zip(patches.axis_chunks_iter(Axis(1), rows)).collect();
            compute::each(parts, |(mut filter, patches)| {
                general_mat_mul(T::ONE, &patches.t(), &y, T::ONE, &mut filter);
                Ok(())
            })
        })?;
        Ok(filter)
    }

    /// The inputs' cotangent from the filter and the outputs' cotangent.
    fn input_gradient<T: Entry + LinalgScalar>(
        &self,
        filter: &[T],
        y: &[T],
    ) -> Result<Vec<T>, Error> {
        let channels = self.groups * self.inputs;
        let mut x = zeros(self.windows.batch * self.windows.positions() * channels)?;
        if y.is_empty() || filter.is_empty() {
            return Ok(x);
        }
        let size = x.len() / self.windows.batch;
        compute::each(self.images(&mut x), |(images, x)| {
            let first = images.start * size;
            self.blocks(images, |block, patches| {
                patches.clear();
                patches.resize(block.rows * self.columns(), T::ZERO);
                let (shape, at) = self.output_view(block);
                let y = ArrayView2::from_shape(shape, &y[at..]).map_err(misshapen)?;
                let (shape, at) = self.filter_view(block);
                let filter = ArrayView2::from_shape(shape, &filter[at..]).map_err(misshapen)?;
                let rows = ArrayViewMut2::from_shape((block.rows, self.columns()), patches);
                product(&y, &filter.t(), &mut rows.map_err(misshapen)?)?;
                self.scatter(patches, block, first, x);
                Ok(())
            })
        })?;
        Ok(x)
    }

    /// Calls `visit(block, memory for its windows)` for each block of some images.
    fn blocks<T>(
        &self,
        images: Range<usize>,
        mut visit: impl FnMut(Block, &mut Vec<T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let most = self.block_rows::<T>();
        let run = if self.windows.channels_first { self.windows.count() } else { self.rows() };
        let mut patches = buffer(most * self.columns())?;
        let rows = images.start * self.windows.count()..images.end * self.windows.count();
        for group in 0..self.groups {
            let mut start = rows.start;
            while start < rows.end {
                let rows = most.min(run - start % run).min(rows.end - start);
                compute::check()?;
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

    /// Copies the windows of a block into rows, in parts.
    fn gather_all<T: Number + Send + Sync>(
        &self,
        x: &[T],
        block: Block,
        patches: &mut Vec<T>,
    ) -> Result<(), Error> {
        patches.resize(block.rows * self.columns(), T::ZERO);
        let parts = compute::parts(compute::elements(patches.len()), block.rows);
        let rows = block.rows.div_ceil(parts);
        let starts = (block.start..).step_by(rows);
        let parts = patches.chunks_mut(rows * self.columns()).zip(starts).collect();
        compute::each(parts, |(part, start)| {
            let rows = part.len() / self.columns();
            self.gather(x, Block { start, rows, ..block }, part);
            Ok(())
        })
    }

    /// Copies the windows of a block into rows.
    fn gather<T: Number>(&self, x: &[T], block: Block, patches: &mut [T]) {
        let mut rest = patches;
        let mut next = |count: usize| {
            let (next, after) = std::mem::take(&mut rest).split_at_mut(count);
            rest = after;
            next
        };
        if self.has_runs() {
            return self.each_run(block, |before, start, count, after| {
                next(before).fill(T::ZERO);
                next(count).copy_from_slice(&x[start..start + count]);
                next(after).fill(T::ZERO);
            });
        }
        let layout = self.windows.layout(self.windows.positions(), self.groups * self.inputs);
        self.each_cell(block, |start| match start {
            None => next(self.inputs).fill(T::ZERO),
            Some(start) if layout.channel == 1 => {
                next(self.inputs).copy_from_slice(&x[start..start + self.inputs]);
            }
            Some(start) => {
                let channels = x[start..].iter().step_by(layout.channel);
                next(self.inputs).iter_mut().zip(channels).for_each(|(cell, &x)| *cell = x);
            }
        });
    }

    /// Adds the rows of a block to where `gather` takes them from; `x` begins at element `first`.
    fn scatter<T: Number>(&self, patches: &[T], block: Block, first: usize, x: &mut [T]) {
        if self.has_runs() {
            let mut rest = patches;
            return self.each_run(block, |before, start, count, after| {
                let run = &rest[before..before + count];
                // A run without cells begins nowhere.
                if count > 0 {
                    let start = start - first;
                    lanes::update(&mut x[start..start + count], run, Number::add);
                }
                rest = &rest[before + count + after..];
            });
        }
        let layout = self.windows.layout(self.windows.positions(), self.groups * self.inputs);
        let mut cells = patches.chunks_exact(self.inputs);
        self.each_cell(block, |start| {
            if let (Some(cell), Some(start)) = (cells.next(), start) {
                for (channel, &value) in cell.iter().enumerate() {
                    let at = start - first + channel * layout.channel;
                    x[at] = Number::add(x[at], value);
                }
            }
        });
    }
}

/// Writes the product of two matrices.
fn product<T: Entry + LinalgScalar>(
    a: &ArrayView2<T>,
    b: &ArrayView2<T>,
    c: &mut ArrayViewMut2<T>,
) -> Result<(), Error> {
    let extents = (a.nrows(), a.ncols(), b.ncols());
    if let (Some(a), Some(b)) = (matrix(a), matrix(b))
        && let Some(out) = c.as_slice_mut()
    {
        return T::product(a, b, extents, out);
    }
    general_mat_mul(T::ONE, a, b, T::ZERO, c);
    Ok(())
}

/// A view as elements and distances, unless there is something between its elements.
fn matrix<'a, T>(view: &'a ArrayView2<T>) -> Option<Matrix<'a, T>> {
    let elements = view.as_slice_memory_order()?;
    let [row, column] = [view.strides()[0], view.strides()[1]].map(isize::unsigned_abs);
    Some(Matrix { elements, row, column })
}

#[expect(clippy::needless_pass_by_value, reason = "as errors are mapped")]
fn misshapen(error: ShapeError) -> Error {
    Error::bug(format!("convolution: {error}"))
}

fn zeros<T: Number>(count: usize) -> Result<Vec<T>, Error> {
    filled(count, T::ZERO)
}

#[cfg(test)]
mod tests;
