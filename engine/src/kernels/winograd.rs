//! Convolutions of `float32` with windows of 3 x 3 cells at every position, by Winograd's algorithm F(2 x 2, 3 x 3): four
//! outputs take sixteen products of numbers instead of thirty-six.
//!
//! A tile of 2 x 2 outputs reads 4 x 4 inputs `d`. With the filter `g` they are `A^T ((G g G^T) * (B^T d B)) A`, where `*` is
//! taken element by element and
//!
//! ```text
//! B^T = 1  0 -1  0     G = 1    0    0      A^T = 1  1  1  0
//!       0  1  1  0         1/2  1/2  1/2          0  1 -1 -1
//!       0 -1  1  0         1/2 -1/2  1/2
//!       0  1  0 -1         0    0    1
//! ```
//!
//! (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.) Over many tiles and channels each of the
//! sixteen elements is a product of matrices: tiles by inputs, and inputs by outputs.
//!
//! It rounds otherwise than the sum that defines a convolution, and in most cases less, since sums of products are shorter. An
//! infinity becomes a NaN, though, and a NaN is one in all outputs of a tile that reads it.

use std::ops::Range;

use crate::{
    array::{buffer, filled, overwritten},
    compute::{self, Looks, MAX_WIDTH},
    error::Error,
    kernels::{
        convolution::Convolution,
        lanes::each_level,
        panel::{self, First, Place, Second, WIDTH},
        window::Axis,
    },
};

/// Inputs and outputs from which on the products take so long that transforming what they read and write pays.
const LEAST_CHANNELS: usize = 32;

/// Inputs and outputs up to which a block of tiles and what they are multiplied by stay in the caches.
const MOST_CHANNELS: usize = 512;

/// Tiles of an image from which on it pays to transform the filter for it, also if the batch has no other.
const LEAST_TILES: usize = 16;

/// Tiles that are computed at a time, of one image or of several.
const BLOCK: usize = 32;

/// Longest sum in registers. Longer ones would round more than those of the direct form.
const TERMS: usize = 64;

/// Elements of a transformed tile.
const POSITIONS: usize = 16;

/// A register of some channels.
type Line = [f32; WIDTH];

/// A convolution that is computed so.
#[derive(Debug)]
pub(crate) struct Winograd {
    convolution: Convolution,
}

/// One matrix for each element of a transformed tile. Between them is a line, so that the elements of a tile do not push each
/// other out of the cache of the first level.
struct Matrices {
    elements: Vec<f32>,
    /// From a matrix to the next.
    distance: usize,
}

impl Matrices {
    /// Matrices of so many elements each.
    fn new(size: usize) -> Result<Self, Error> {
        Ok(Self { elements: filled(Self::elements(size), 0.0)?, distance: size + WIDTH })
    }

    /// How many elements there are of all together.
    fn elements(size: usize) -> usize {
        POSITIONS * (size + WIDTH)
    }
}

impl Winograd {
    /// A convolution, if this is a good way to compute it. That depends on its shapes, without the batch, and on the processor
    /// having fused multiplication.
    pub(crate) fn of(convolution: Convolution) -> Option<Self> {
        let Convolution { windows, groups, inputs, outputs } = convolution;
        let is_near = |axis: &Axis| (axis.size, axis.stride, axis.dilation) == (3, 1, 1);
        let channels = LEAST_CHANNELS..=MOST_CHANNELS;
        let fits = windows.rank == 2
            && windows.axes[1..].iter().all(is_near)
            && groups == 1
            && channels.contains(&inputs)
            && channels.contains(&outputs);
        let this = Self { convolution };
        (fits && panel::has_fused() && this.tiles() >= LEAST_TILES).then_some(this)
    }

    /// Tiles of an image along a column and along a row; the last ones may be cut.
    fn grid(&self) -> [usize; 2] {
        let [_, rows, columns] = self.convolution.windows.axes;
        [rows.count.div_ceil(2), columns.count.div_ceil(2)]
    }

    /// Tiles of an image.
    fn tiles(&self) -> usize {
        self.grid().iter().product()
    }

    /// Tiles of a block, of so many images.
    fn block(&self, images: usize) -> usize {
        BLOCK.min(self.tiles() * images)
    }

    /// Outputs in whole lines.
    fn columns(&self) -> usize {
        self.convolution.outputs.next_multiple_of(WIDTH)
    }

    /// Elements of a tile's inputs or outputs with the channels of each side by side, if they are not so in memory.
    fn turned(&self) -> usize {
        let Convolution { windows, inputs, outputs, .. } = self.convolution;
        if windows.channels_first { (16 * inputs).max(4 * outputs) } else { 0 }
    }

    /// Bytes of the filter, of a block for each thread, and of where terms are.
    pub(crate) fn workspace(&self) -> u64 {
        let Convolution { windows, inputs, .. } = self.convolution;
        let tiles = self.block(windows.batch);
        let read = Matrices::elements(tiles * inputs);
        let block = read + Matrices::elements(tiles * self.columns()) + self.turned();
        let filter = Matrices::elements(inputs * self.columns());
        let threads = windows.batch.min(MAX_WIDTH);
        (4 * (filter + block * threads) + 8 * inputs) as u64
    }

    /// Outputs from inputs and filter.
    pub(crate) fn forward(&self, x: &[f32], filter: &[f32]) -> Result<Vec<f32>, Error> {
        let Convolution { inputs, outputs, .. } = self.convolution;
        let cells = std::array::from_fn(|cell| cell * inputs * outputs);
        self.products(x, &self.filter(filter, cells, outputs, 1)?)
    }

    /// The inputs' cotangent of the convolution that this one is the transpose of, from its filter and its outputs'
    /// cotangent: the cells of the filter backwards, and inputs for outputs.
    pub(crate) fn transposed(&self, filter: &[f32], y: &[f32]) -> Result<Vec<f32>, Error> {
        let Convolution { inputs, outputs, .. } = self.convolution;
        let cells = std::array::from_fn(|cell| (8 - cell) * inputs * outputs);
        self.products(y, &self.filter(filter, cells, 1, inputs)?)
    }

    /// Transforms the filter: sixteen matrices in panels. Given where its cells begin and the distances between terms and
    /// between columns.
    fn filter(
        &self,
        filter: &[f32],
        cells: [usize; 9],
        term: usize,
        column: usize,
    ) -> Result<Matrices, Error> {
        let Convolution { inputs, outputs, .. } = self.convolution;
        let mut matrices = Matrices::new(inputs * self.columns())?;
        let mut looks = Looks::default();
        for first in (0..outputs).step_by(WIDTH) {
            let width = WIDTH.min(outputs - first);
            for i in 0..inputs {
                let from = &filter[i * term + first * column..];
                let into = &mut matrices.elements[first * inputs + i * WIDTH..];
                transform_filter(from, &cells, (column, width), into, matrices.distance);
            }
            looks.after(POSITIONS * inputs * WIDTH)?;
        }
        Ok(matrices)
    }

    /// The products of tiles and filter, block by block.
    fn products(&self, x: &[f32], filter: &Matrices) -> Result<Vec<f32>, Error> {
        let Convolution { windows, inputs, outputs, .. } = self.convolution;
        let columns = self.columns();
        let rows: [usize; BLOCK] = std::array::from_fn(|tile| tile * inputs);
        let mut terms = buffer(inputs)?;
        terms.extend(0..inputs);
        let mut y = overwritten(windows.batch * windows.count() * outputs)?;
        compute::each(self.convolution.images(&mut y), |(images, y)| {
            let (all, most) = (images.len() * self.tiles(), self.block(images.len()));
            let mut turned = filled(self.turned(), 0.0)?;
            let mut read = Matrices::new(most * inputs)?;
            let mut product = Matrices::new(most * columns)?;
            for first in (0..all).step_by(most) {
                let tiles = first..(first + most).min(all);
                self.read(x, images.start, tiles.clone(), &mut turned, &mut read);
                for position in 0..POSITIONS {
                    let elements = &read.elements[position * read.distance..];
                    let filter = &filter.elements[position * filter.distance..];
                    let product = &mut product.elements[position * product.distance..];
                    for (i, terms) in terms.chunks(TERMS).enumerate() {
                        let a = First { elements, rows: &rows[..tiles.len()], terms };
                        let elements = &filter[i * TERMS * WIDTH..];
                        let b = Second { elements, ..Second::packed(filter, inputs) };
                        let place = Place { out: product, row: columns, column: 1, columns };
                        if i == 0 {
                            panel::multiply(a, b, place)?;
                        } else {
                            panel::add(a, b, place)?;
                        }
                    }
                }
                self.write(&product, tiles, &mut turned, y);
            }
            Ok(())
        })?;
        Ok(y)
    }

    /// The image of a tile, counted from that of the first, and its first output's place.
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let [_, columns] = self.grid();
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        (image, [2 * (tile / columns), 2 * (tile % columns)])
    }

    /// Transforms what tiles read, which are numbered from an image on.
    fn read(
        &self,
        x: &[f32],
        first: usize,
        tiles: Range<usize>,
        turned: &mut [f32],
        into: &mut Matrices,
    ) {
        let Convolution { windows, inputs, .. } = self.convolution;
        let layout = windows.layout(windows.positions(), inputs);
        let [_, rows, columns] = windows.axes;
        for (at, tile) in tiles.enumerate() {
            let (image, [row, column]) = self.place(tile);
            let image = &x[(first + image) * layout.image..][..layout.image];
            let places: [[Option<usize>; 4]; 4] = std::array::from_fn(|i| {
                let row = rows.position(row + i, 0);
                std::array::from_fn(|j| {
                    let (row, column) = row.zip(columns.position(column + j, 0))?;
                    Some((row * columns.extent + column) * layout.position)
                })
            });
            let row = &mut into.elements[at * inputs..];
            if windows.channels_first {
                let cells = turned.chunks_exact_mut(inputs).zip(places.as_flattened());
                for (cell, place) in cells {
                    match *place {
                        None => cell.fill(0.0),
                        Some(place) => {
                            let channels = image[place..].iter().step_by(layout.channel);
                            cell.iter_mut().zip(channels).for_each(|(cell, &x)| *cell = x);
                        }
                    }
                }
                let places =
                    std::array::from_fn(|i| std::array::from_fn(|j| Some((4 * i + j) * inputs)));
                transform_input(turned, &places, inputs, row, into.distance);
            } else {
                transform_input(image, &places, inputs, row, into.distance);
            }
        }
    }

    /// Writes the outputs of tiles, which are numbered from the first image of `y` on.
    fn write(&self, product: &Matrices, tiles: Range<usize>, turned: &mut [f32], y: &mut [f32]) {
        let Convolution { windows, outputs, .. } = self.convolution;
        let layout = windows.layout(windows.count(), outputs);
        let [_, rows, columns] = windows.axes;
        for (at, tile) in tiles.enumerate() {
            let (image, [row, column]) = self.place(tile);
            let image = &mut y[image * layout.image..][..layout.image];
            let places: [[Option<usize>; 2]; 2] = std::array::from_fn(|i| {
                std::array::from_fn(|j| {
                    let inside = row + i < rows.count && column + j < columns.count;
                    inside.then(|| ((row + i) * columns.count + column + j) * layout.position)
                })
            });
            let row = &product.elements[at * self.columns()..];
            if windows.channels_first {
                let all = [[Some(0), Some(outputs)], [Some(2 * outputs), Some(3 * outputs)]];
                transform_output(row, product.distance, &all, outputs, turned);
                let cells = turned.chunks_exact(outputs).zip(places.as_flattened());
                for (cell, place) in cells {
                    if let Some(place) = *place {
                        let channels = image[place..].iter_mut().step_by(layout.channel);
                        channels.zip(cell).for_each(|(y, &cell)| *y = cell);
                    }
                }
            } else {
                transform_output(row, product.distance, &places, outputs, image);
            }
        }
    }
}

each_level! {
    /// `G g G^T` for some columns of a term: line by line, a matrix apart.
    #[expect(clippy::needless_range_loop, reason = "rows and columns, as in the formulas")]
    fn transform_filter(
        filter: &[f32],
        cells: &[usize; 9],
        (column, width): (usize, usize),
        into: &mut [f32],
        matrix: usize,
    ) {
        let mut g = [[[0.0; WIDTH]; 3]; 3];
        for (g, &cell) in g.as_flattened_mut().iter_mut().zip(cells) {
            if column == 1 && width == WIDTH {
                g.copy_from_slice(&filter[cell..cell + WIDTH]);
            } else {
                for (i, g) in g[..width].iter_mut().enumerate() {
                    *g = filter[cell + i * column];
                }
            }
        }
        let mut half = [[[0.0; WIDTH]; 3]; 4];
        for j in 0..3 {
            let column = expand([g[0][j], g[1][j], g[2][j]]);
            for i in 0..4 {
                half[i][j] = column[i];
            }
        }
        for i in 0..4 {
            let row = expand(half[i]);
            for j in 0..4 {
                let at = (4 * i + j) * matrix;
                into[at..at + WIDTH].copy_from_slice(&row[j]);
            }
        }
    }
}

each_level! {
    /// `B^T d B` of one tile for each channel: a row of each of sixteen matrices. Cells that are padding are not there.
    #[expect(clippy::needless_range_loop, reason = "rows and columns, as in the formulas")]
    fn transform_input(
        x: &[f32],
        places: &[[Option<usize>; 4]; 4],
        channels: usize,
        into: &mut [f32],
        matrix: usize,
    ) {
        for first in (0..channels).step_by(WIDTH) {
            // The last line begins early enough to be whole.
            let first = first.min(channels - WIDTH);
            let mut half = [[[0.0; WIDTH]; 4]; 4];
            for j in 0..4 {
                let mut d = [[0.0; WIDTH]; 4];
                for i in 0..4 {
                    if let Some(place) = places[i][j] {
                        d[i] = load(x, place + first);
                    }
                }
                let column = differences(d);
                for i in 0..4 {
                    half[i][j] = column[i];
                }
            }
            for i in 0..4 {
                let row = differences(half[i]);
                for j in 0..4 {
                    let at = (4 * i + j) * matrix + first;
                    into[at..at + WIDTH].copy_from_slice(&row[j]);
                }
            }
        }
    }
}

each_level! {
    /// `A^T m A` of one tile for each channel, from a row of each of sixteen matrices, to where its outputs are; some may not
    /// be there.
    #[expect(clippy::needless_range_loop, reason = "rows and columns, as in the formulas")]
    fn transform_output(
        from: &[f32],
        matrix: usize,
        places: &[[Option<usize>; 2]; 2],
        channels: usize,
        y: &mut [f32],
    ) {
        for first in (0..channels).step_by(WIDTH) {
            let first = first.min(channels - WIDTH);
            let mut half = [[[0.0; WIDTH]; 4]; 2];
            for j in 0..4 {
                let mut m = [[0.0; WIDTH]; 4];
                for i in 0..4 {
                    m[i] = load(from, (4 * i + j) * matrix + first);
                }
                let column = contract(m);
                for i in 0..2 {
                    half[i][j] = column[i];
                }
            }
            for i in 0..2 {
                let row = contract(half[i]);
                for j in 0..2 {
                    if let Some(place) = places[i][j] {
                        let at = place + first;
                        y[at..at + WIDTH].copy_from_slice(&row[j]);
                    }
                }
            }
        }
    }
}

/// `G g` of three numbers.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn expand([a, b, c]: [Line; 3]) -> [Line; 4] {
    let ends = add(a, c);
    [a, halved(add(ends, b)), halved(sub(ends, b)), c]
}

/// `B^T d` of four numbers.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn differences([a, b, c, d]: [Line; 4]) -> [Line; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// `A^T m` of four numbers.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn contract([a, b, c, d]: [Line; 4]) -> [Line; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn add(mut a: Line, b: Line) -> Line {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
    a
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn sub(mut a: Line, b: Line) -> Line {
    for (a, b) in a.iter_mut().zip(b) {
        *a -= b;
    }
    a
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn halved(mut a: Line) -> Line {
    for a in &mut a {
        *a *= 0.5;
    }
    a
}

/// Some channels from the first on.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn load(x: &[f32], first: usize) -> Line {
    let mut line = [0.0; WIDTH];
    line.copy_from_slice(&x[first..first + WIDTH]);
    line
}
