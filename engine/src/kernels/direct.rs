//! Convolutions of `float32` whose windows are read where they lie: in the image, or in a copy of it with its padding.
//!
//! The cells of a window are at the same distances from its first, whichever window it is; so where an element of the matrix
//! of windows is, is the sum of a number for its row and one for its column, and that is all that [`panel`] wants to know.
//! Images are gone through in bands of windows along their first axis, whose copies stay in the cache.
//!
//! Sums run over the cells of the window and then over channels. Those of the filter's gradient run over the windows of a band,
//! at most [`panel::MAX_TERMS`] at a time, over the images of a lot, and over the lots: all that follows from the shapes.

use std::ops::Range;

use crate::{
    array::{buffer, filled, overwritten},
    compute::{self, MAX_WIDTH},
    error::Error,
    kernels::{
        convolution::Convolution,
        lanes,
        panel::{self, First, Place, Second, WIDTH},
        window::{Axis, Layout},
    },
};

/// Elements that the copy of a band should have: half a megabyte, so that it stays in a cache of the second level.
const BAND: usize = 1 << 17;

/// Elements that it may have, if one row of windows needs more.
const MOST_COPIED: usize = 1 << 20;

/// Least output channels of several groups: for fewer, most of a panel would be empty.
const LEAST_OUTPUTS: usize = 4;

/// Arithmetic operations for which a lot of its own is worthwhile.
const WORTH_A_LOT: u64 = 4_000_000;

/// A convolution and how its images are read.
#[derive(Debug)]
pub(crate) struct Direct {
    convolution: Convolution,
    /// The axis along which images are cut into bands: the first that is there.
    axis: usize,
    /// Windows of a band along that axis.
    band: usize,
    /// Extents of what is read of an image for a band.
    extents: [usize; 3],
    /// Whether images are read where they are.
    in_place: bool,
}

/// The filter as the second factor of a product.
struct Panels {
    elements: Vec<f32>,
    /// Elements of a group.
    group: usize,
}

impl Direct {
    /// A convolution, if this is a good way to compute it. That depends on its shapes and on the processor having fused
    /// multiplication.
    pub(crate) fn of(convolution: Convolution) -> Option<Self> {
        let windows = &convolution.windows;
        let channels = convolution.groups.checked_mul(convolution.inputs)?;
        let enough = convolution.groups == 1 || convolution.outputs >= LEAST_OUTPUTS;
        let some = windows.batch * windows.count() * channels * convolution.outputs > 0;
        if !(panel::has_fused() && enough && some) {
            return None;
        }
        let axis = 3 - windows.rank;
        let inside = |axis: &Axis| axis.before == 0 && reach(axis, axis.count) <= axis.extent;
        let in_place = !windows.channels_first && windows.axes.iter().all(inside);
        let extents = |band| {
            let mut extents = windows.axes.map(|axis| reach(&axis, axis.count));
            extents[axis] = reach(&windows.axes[axis], band);
            extents
        };
        let size = |band| {
            let axes = extents(band);
            axes.iter().try_fold(channels, |size, &extent| size.checked_mul(extent))
        };
        if size(1).is_none_or(|size| size > MOST_COPIED) {
            return None;
        }
        let whole = windows.axes[axis].count;
        let mut band = whole;
        while band > 1 && size(band).is_none_or(|size| size > BAND) {
            band = band.div_ceil(2);
        }
        let mut extents = extents(band);
        if in_place {
            extents = windows.axes.map(|axis| axis.extent);
        }
        Some(Self { convolution, axis, band, extents, in_place })
    }

    fn channels(&self) -> usize {
        self.convolution.groups * self.convolution.inputs
    }

    /// Elements of the copy of a band.
    fn copied(&self) -> usize {
        if self.in_place { 0 } else { self.extents.iter().product::<usize>() * self.channels() }
    }

    /// Windows of a band for each along its axis.
    fn inner(&self) -> usize {
        self.convolution.windows.axes[self.axis + 1..].iter().map(|axis| axis.count).product()
    }

    /// Bytes for outputs: copies for each thread, panels, and where windows and cells are.
    pub(crate) fn workspace(&self) -> u64 {
        let Convolution { windows, groups, outputs, .. } = self.convolution;
        let columns = self.convolution.columns() as u64;
        let threads = windows.batch.min(MAX_WIDTH) as u64;
        let panels = columns * (groups * outputs.next_multiple_of(WIDTH)) as u64;
        let places = (self.band * self.inner()) as u64 + columns;
        4 * (self.copied() as u64 * threads + panels) + 8 * places
    }

    /// Bytes for the filter's gradient: copies and turned outputs for each thread, sums of lots, and where windows and cells
    /// are.
    pub(crate) fn filter_workspace(&self) -> u64 {
        let outputs = self.convolution.outputs.next_multiple_of(WIDTH);
        let turned = outputs * panel::MAX_TERMS.min(self.band * self.inner());
        let sums = self.lots() * self.convolution.filter_size();
        let places = (self.band * self.inner() + self.convolution.columns()) as u64;
        4 * ((self.copied() + turned) as u64 * MAX_WIDTH as u64 + sums as u64) + 8 * places
    }

    /// Outputs from inputs and filter.
    pub(crate) fn forward(&self, x: &[f32], filter: &[f32]) -> Result<Vec<f32>, Error> {
        let Convolution { groups, inputs, outputs, .. } = self.convolution;
        let row = groups * outputs;
        let terms = (0..self.convolution.windows.cells() * inputs).map(|term| term * row);
        self.products(x, &self.pack(filter, &terms, outputs, 1)?)
    }

    /// The inputs' cotangent of the convolution that this one is the transpose of, from its filter and its outputs'
    /// cotangent: the cells of the filter backwards, and inputs for outputs.
    pub(crate) fn transposed(&self, filter: &[f32], y: &[f32]) -> Result<Vec<f32>, Error> {
        let Convolution { groups, inputs, outputs, .. } = self.convolution;
        let row = groups * inputs;
        let cells = (0..self.convolution.windows.cells()).rev();
        let terms =
            cells.flat_map(|cell| (0..inputs).map(move |channel| cell * outputs * row + channel));
        self.products(y, &self.pack(filter, &terms, inputs, row)?)
    }

    /// Packs the filter: the terms of the first group, the distance between groups and that between columns.
    fn pack(
        &self,
        filter: &[f32],
        terms: &(impl Iterator<Item = usize> + Clone),
        group: usize,
        column: usize,
    ) -> Result<Panels, Error> {
        let Convolution { groups, outputs, .. } = self.convolution;
        let size = self.convolution.columns() * outputs.next_multiple_of(WIDTH);
        let mut elements = buffer(groups * size)?;
        for first in (0..groups).map(|i| i * group) {
            panel::pack(&filter[first..], terms, column, outputs, &mut elements)?;
        }
        Ok(Panels { elements, group: size })
    }

    /// The product of windows and panels, image by image.
    fn products(&self, x: &[f32], panels: &Panels) -> Result<Vec<f32>, Error> {
        let Convolution { windows, groups, inputs, outputs } = self.convolution;
        let layout = windows.layout(windows.count(), groups * outputs);
        let (starts, cells) = (self.starts()?, self.cells()?);
        let mut y = overwritten(windows.batch * layout.image)?;
        compute::each(self.convolution.images(&mut y), |(images, y)| {
            let mut copy = buffer(self.copied())?;
            for (image, y) in images.zip(y.chunks_exact_mut(layout.image)) {
                for band in self.bands() {
                    let band_x = self.read(x, image, band.start, &mut copy);
                    let windows = band.start * self.inner()..band.end * self.inner();
                    let mut window = windows.start;
                    for starts in starts[..windows.len()].chunks(panel::BLOCK) {
                        for group in 0..groups {
                            let a = First {
                                elements: &band_x[group * inputs..],
                                rows: starts,
                                terms: &cells,
                            };
                            let panels = &panels.elements[group * panels.group..];
                            let b = Second::packed(panels, cells.len());
                            let at = window * layout.position + group * outputs * layout.channel;
                            panel::multiply(a, b, place(&mut y[at..], layout, outputs))?;
                        }
                        window += starts.len();
                    }
                }
            }
            Ok(())
        })?;
        Ok(y)
    }

    /// The filter's cotangent from inputs and the outputs' cotangent.
    pub(crate) fn filter_gradient(&self, x: &[f32], y: &[f32]) -> Result<Vec<f32>, Error> {
        let Convolution { windows, groups, outputs, .. } = self.convolution;
        let (starts, cells) = (self.starts()?, self.cells()?);
        let (size, row, lots) = (self.convolution.filter_size(), groups * outputs, self.lots());
        let mut sums = filled(lots * size, 0.0)?;
        // Lots can be computed apart; if they are fewer than the cores, so can be the rows of the filter.
        let work = compute::products(self.convolution.flops());
        let pieces = compute::parts(work, lots * cells.len()).div_ceil(lots);
        let rows = cells.len().div_ceil(pieces);
        let images = windows.batch.div_ceil(lots);
        let lots = sums.chunks_exact_mut(size).enumerate().flat_map(|(lot, sums)| {
            let images = lot * images..((lot + 1) * images).min(windows.batch);
            let pieces = cells.chunks(rows).zip(sums.chunks_mut(rows * row));
            pieces.map(move |(cells, sums)| (images.clone(), cells, sums))
        });
        compute::each(lots.collect(), |(images, cells, sums)| {
            self.filter_sums(x, y, images, (&starts, cells), sums)
        })?;
        let (filter, rest) = sums.split_at_mut(size);
        for sums in rest.chunks_exact(size) {
            lanes::update(filter, sums, |a, b| a + b);
        }
        sums.truncate(size);
        Ok(sums)
    }

    /// How many lots of images have sums of their own.
    fn lots(&self) -> usize {
        let Convolution { windows, groups, inputs, outputs } = self.convolution;
        let operands =
            windows.batch * (windows.positions() * inputs + windows.count() * outputs) * groups;
        let worth = usize::try_from(self.convolution.flops() / WORTH_A_LOT).unwrap_or(usize::MAX);
        // The sums should be few compared with what is summed up.
        let few = operands / (4 * self.convolution.filter_size()).max(1);
        let lots = windows.batch.min(MAX_WIDTH).min(worth).min(few).max(1);
        // None of them should be empty.
        windows.batch.div_ceil(windows.batch.div_ceil(lots))
    }

    /// Adds the products of some images to some rows of the filter.
    fn filter_sums(
        &self,
        x: &[f32],
        y: &[f32],
        images: Range<usize>,
        (starts, cells): (&[usize], &[usize]),
        sums: &mut [f32],
    ) -> Result<(), Error> {
        let Convolution { windows, groups, inputs, outputs } = self.convolution;
        let layout = windows.layout(windows.count(), groups * outputs);
        let (mut copy, mut turned) = (buffer(self.copied())?, Vec::new());
        for image in images {
            for band in self.bands() {
                let band_x = self.read(x, image, band.start, &mut copy);
                let windows = band.start * self.inner()..band.end * self.inner();
                let mut window = windows.start;
                for starts in starts[..windows.len()].chunks(panel::MAX_TERMS) {
                    for group in 0..groups {
                        let from = image * layout.image
                            + window * layout.position
                            + group * outputs * layout.channel;
                        let b = self.outputs(&y[from..], layout, starts.len(), &mut turned)?;
                        let elements = &band_x[group * inputs..];
                        let row = groups * outputs;
                        let blocks = sums.chunks_mut(panel::BLOCK * row);
                        for (rows, sums) in cells.chunks(panel::BLOCK).zip(blocks) {
                            let a = First { elements, rows, terms: starts };
                            let out = &mut sums[group * outputs..];
                            panel::add(a, b, Place { out, row, column: 1, columns: outputs })?;
                        }
                    }
                    window += starts.len();
                }
            }
        }
        Ok(())
    }

    /// A group's outputs of some windows as the second factor of a product: where they are, or turned.
    fn outputs<'a>(
        &self,
        y: &'a [f32],
        layout: Layout,
        windows: usize,
        turned: &'a mut Vec<f32>,
    ) -> Result<Second<'a>, Error> {
        let outputs = self.convolution.outputs;
        if layout.channel == 1 && outputs.is_multiple_of(WIDTH) {
            return Ok(Second { elements: y, term: layout.position, panel: WIDTH });
        }
        if turned.capacity() == 0 {
            let windows = panel::MAX_TERMS.min(self.band * self.inner());
            *turned = buffer(windows * outputs.next_multiple_of(WIDTH))?;
        }
        turned.clear();
        let terms = (0..windows).map(|window| window * layout.position);
        panel::pack(y, &terms, layout.channel, outputs, turned)?;
        Ok(Second::packed(turned, windows))
    }

    /// The bands: windows along the axis.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let (count, band) = (self.convolution.windows.axes[self.axis].count, self.band);
        (0..count).step_by(band).map(move |start| start..(start + band).min(count))
    }

    /// Where the windows of a band begin.
    fn starts(&self) -> Result<Vec<usize>, Error> {
        let mut counts = self.convolution.windows.axes.map(|axis| axis.count);
        counts[self.axis] = self.band;
        let strides = self.convolution.windows.axes.map(|axis| axis.stride);
        let mut starts = buffer(counts.iter().product())?;
        self.places(counts, strides, |start| starts.push(start));
        Ok(starts)
    }

    /// Where the elements of a window are from where it begins.
    fn cells(&self) -> Result<Vec<usize>, Error> {
        let axes = &self.convolution.windows.axes;
        let mut cells = buffer(self.convolution.columns())?;
        self.places(axes.map(|axis| axis.size), axes.map(|axis| axis.dilation), |start| {
            cells.extend(start..start + self.convolution.inputs);
        });
        Ok(cells)
    }

    /// Calls `visit` with the places of so many positions at such distances.
    fn places(&self, counts: [usize; 3], steps: [usize; 3], mut visit: impl FnMut(usize)) {
        let [_, rows, columns] = self.extents;
        for depth in (0..counts[0]).map(|i| i * steps[0]) {
            for row in (0..counts[1]).map(|i| i * steps[1]) {
                for column in (0..counts[2]).map(|i| i * steps[2]) {
                    visit(((depth * rows + row) * columns + column) * self.channels());
                }
            }
        }
    }

    /// What is read of an image for the band that begins with this window.
    fn read<'a>(
        &self,
        x: &'a [f32],
        image: usize,
        window: usize,
        copy: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let windows = &self.convolution.windows;
        let size = windows.positions() * self.channels();
        let image = &x[image * size..(image + 1) * size];
        let first = window * windows.axes[self.axis].stride;
        if self.in_place {
            let inner: usize = self.extents[self.axis + 1..].iter().product();
            return &image[first * inner * self.channels()..];
        }
        let mut origin = [0; 3];
        origin[self.axis] = first;
        self.copy(image, origin, copy);
        copy
    }

    /// Copies what windows reach of an image from some place on, with zeros where it is padding.
    fn copy(&self, image: &[f32], origin: [usize; 3], copy: &mut Vec<f32>) {
        let windows = &self.convolution.windows;
        let channels = self.channels();
        let layout = windows.layout(windows.positions(), channels);
        let [depths, rows, columns] = &windows.axes;
        let line = self.extents[2] * channels;
        // Of a line, what is padding before, what is not, and where that begins.
        let left = columns.before.saturating_sub(origin[2]).min(self.extents[2]);
        let from = (origin[2] + left).saturating_sub(columns.before);
        let inside = columns.extent.saturating_sub(from).min(self.extents[2] - left);
        copy.clear();
        for depth in 0..self.extents[0] {
            let depth = inside_of(depths, origin[0] + depth);
            for row in 0..self.extents[1] {
                let end = copy.len() + line;
                if let Some((depth, row)) = depth.zip(inside_of(rows, origin[1] + row)) {
                    let at = (depth * rows.extent + row) * columns.extent + from;
                    copy.resize(copy.len() + left * channels, 0.0);
                    if layout.channel == 1 {
                        let at = at * channels;
                        copy.extend_from_slice(&image[at..at + inside * channels]);
                    } else {
                        for position in at..at + inside {
                            copy.extend(image[position..].iter().step_by(layout.channel));
                        }
                    }
                }
                copy.resize(end, 0.0);
            }
        }
    }
}

/// How far windows reach along an axis, if there are so many. There is one at least.
fn reach(axis: &Axis, count: usize) -> usize {
    let last = (count - 1).saturating_mul(axis.stride);
    last.saturating_add((axis.size - 1).saturating_mul(axis.dilation)).saturating_add(1)
}

/// The position in the input of one in the padded input, unless it is padding.
fn inside_of(axis: &Axis, padded: usize) -> Option<usize> {
    padded.checked_sub(axis.before).filter(|&at| at < axis.extent)
}

/// Where the columns of a group go.
fn place(out: &mut [f32], layout: Layout, columns: usize) -> Place<'_> {
    Place { out, row: layout.position, column: layout.channel, columns }
}
