//! All ways to compute a convolution against the sum that defines it, in `float64`, over a table of shapes.

use super::*;
use crate::{kernels::real::Real, kernels::window::Axis};

/// Images, extents, cells of the window, strides, dilations, padding before and after, groups, inputs and outputs of each,
/// and whether channels come first.
struct Case(
    usize,
    &'static [usize],
    &'static [usize],
    &'static [usize],
    &'static [usize],
    &'static [(usize, usize)],
    [usize; 3],
    bool,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // One axis.
    Case(2, &[9], &[3], &[1], &[1], &[(1, 1)], [1, 2, 5], false),
    Case(3, &[20], &[4], &[3], &[2], &[(2, 5)], [2, 3, 4], true),
    // Few and many channels, with sums longer than a block of terms.
    Case(2, &[28, 28], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 1, 32], false),
    Case(9, &[14, 14], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 32, 64], false),
    Case(1, &[7, 7], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 70, 33], false),
    Case(2, &[7, 6], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 70, 33], true),
    Case(2, &[6, 5], &[3, 2], &[1, 1], &[1, 1], &[(0, 0), (0, 0)], [1, 3, 16], false),
    Case(5, &[8, 8], &[1, 1], &[1, 1], &[1, 1], &[(0, 0), (0, 0)], [1, 24, 48], false),
    // Windows that leave out what is between them, and padding that they do not reach or that is all they see.
    Case(2, &[15, 14], &[3, 3], &[2, 2], &[1, 1], &[(0, 1), (0, 1)], [1, 4, 20], false),
    Case(2, &[15, 14], &[1, 1], &[2, 3], &[1, 1], &[(0, 0), (0, 0)], [1, 4, 20], false),
    Case(2, &[9, 10], &[2, 3], &[1, 1], &[3, 2], &[(2, 2), (3, 0)], [1, 3, 7], false),
    Case(1, &[2, 2], &[2, 2], &[1, 1], &[1, 1], &[(3, 4), (2, 5)], [1, 2, 3], false),
    // Groups.
    Case(2, &[6, 7], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [4, 2, 5], false),
    Case(2, &[6, 7], &[3, 3], &[1, 2], &[2, 1], &[(1, 1), (1, 1)], [3, 2, 17], true),
    Case(2, &[6, 7], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [6, 1, 1], false),
    // Several bands of an image.
    Case(1, &[70, 60], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 40, 8], false),
    Case(1, &[140, 60], &[3, 3], &[2, 2], &[1, 1], &[(1, 1), (1, 1)], [1, 40, 8], true),
    Case(1, &[70, 60], &[3, 3], &[1, 1], &[1, 1], &[(0, 0), (0, 0)], [1, 40, 8], false),
    // By Winograd's algorithm: odd and even sides, padding on any side, channels that fill no line, several blocks.
    Case(3, &[11, 12], &[3, 3], &[1, 1], &[1, 1], &[(0, 0), (0, 0)], [1, 32, 48], false),
    Case(2, &[13, 10], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 33, 37], false),
    Case(2, &[10, 13], &[3, 3], &[1, 1], &[1, 1], &[(2, 0), (1, 3)], [1, 40, 35], true),
    Case(1, &[4, 41], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (0, 2)], [1, 170, 32], false),
    // Three axes.
    Case(2, &[4, 5, 6], &[2, 3, 2], &[1, 1, 1], &[1, 1, 1], &[(1, 0), (1, 1), (0, 1)], [1, 3, 18], false),
    Case(1, &[5, 4, 6], &[2, 1, 3], &[2, 1, 1], &[1, 1, 2], &[(0, 0), (0, 0), (2, 2)], [2, 3, 4], true),
    // Nothing to sum up.
    Case(2, &[4, 4], &[3, 3], &[1, 1], &[1, 1], &[(1, 1), (1, 1)], [1, 0, 3], false),
];

impl Case {
    fn convolution(&self) -> Convolution {
        let &Self(batch, extents, sizes, strides, dilations, paddings, channels, first) = self;
        let mut axes = [Axis::MISSING; 3];
        let rank = extents.len();
        for (i, axis) in axes[3 - rank..].iter_mut().enumerate() {
            let (before, after) = paddings[i];
            let reach = (sizes[i] - 1) * dilations[i] + 1;
            let count = (before + extents[i] + after - reach) / strides[i] + 1;
            let (extent, size, stride, dilation) = (extents[i], sizes[i], strides[i], dilations[i]);
            *axis = Axis { extent, count, size, stride, dilation, before };
        }
        let windows = Windows { batch, rank, axes, channels_first: first };
        let [groups, inputs, outputs] = channels;
        Convolution { windows, groups, inputs, outputs }
    }
}

impl Convolution {
    /// Calls `visit(place in the input, in the filter, in the output)` for each term of the definition.
    fn each_term(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Self { windows, groups, inputs, outputs } = *self;
        let x = windows.layout(windows.positions(), groups * inputs);
        let y = windows.layout(windows.count(), groups * outputs);
        for image in 0..windows.batch {
            for window in 0..windows.count() {
                let mut cell = 0;
                windows.each_cell(window, |position| {
                    for i in 0..groups * inputs {
                        let (group, input) = (i / inputs, i % inputs);
                        for output in group * outputs..(group + 1) * outputs {
                            let Some(position) = position else { continue };
                            visit(
                                image * x.image + position * x.position + i * x.channel,
                                (cell * inputs + input) * groups * outputs + output,
                                image * y.image + window * y.position + output * y.channel,
                            );
                        }
                    }
                    cell += 1;
                });
            }
        }
    }

    fn size(&self, product: Product) -> usize {
        let windows = &self.windows;
        match product {
            Product::Output => self.rows() * self.groups * self.outputs,
            Product::Input => windows.batch * windows.positions() * self.groups * self.inputs,
            Product::Filter => self.filter_size(),
        }
    }
}

const PRODUCTS: [Product; 3] = [Product::Output, Product::Input, Product::Filter];

/// Both operands of a product, and its elements with the sums of their terms' magnitudes.
fn defined(convolution: &Convolution, product: Product) -> ([Vec<f64>; 2], Vec<(f64, f64)>) {
    let mut state = 7_u32;
    let mut numbers = |product| -> Vec<f64> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Exact in both types.
            f64::from(state >> 16) / 32768.0 - 1.0
        };
        (0..convolution.size(product)).map(|_| next()).collect()
    };
    let [a, b] = match product {
        Product::Output => [Product::Input, Product::Filter],
        Product::Input => [Product::Filter, Product::Output],
        Product::Filter => [Product::Input, Product::Output],
    }
    .map(&mut numbers);
    let mut sums = vec![(0.0, 0.0); convolution.size(product)];
    convolution.each_term(|x, filter, y| {
        let (at, term) = match product {
            Product::Output => (y, a[x] * b[filter]),
            Product::Input => (x, a[filter] * b[y]),
            Product::Filter => (filter, a[x] * b[y]),
        };
        sums[at].0 += term;
        sums[at].1 += term.abs();
    });
    ([a, b], sums)
}

fn close<T: Real>(found: &[T], expected: &[(f64, f64)], unit: f64) -> bool {
    let holds =
        |(found, &(sum, terms)): (&T, &(f64, f64))| (found.wide() - sum).abs() <= unit * terms;
    found.len() == expected.len() && found.iter().zip(expected).all(holds)
}

/// The root of the mean square of the errors.
#[expect(clippy::cast_precision_loss, reason = "cases are small")]
fn error(found: &[f32], expected: &[(f64, f64)]) -> f64 {
    let errors = found.iter().zip(expected).map(|(found, (sum, _))| found.wide() - sum);
    (errors.map(|error| error * error).sum::<f64>() / found.len() as f64).sqrt()
}

/// What Winograd's algorithm is chosen instead of.
fn as_direct(convolution: &Convolution, product: Product, a: &[f32], b: &[f32]) -> Vec<f32> {
    let products = match product {
        Product::Input => Direct::of(convolution.transposed().unwrap()).unwrap().transposed(a, b),
        Product::Output | Product::Filter => Direct::of(*convolution).unwrap().forward(a, b),
    };
    products.unwrap()
}

#[test]
fn every_product_is_the_sum_that_defines_it() {
    let (mut direct, mut winograd) = (0, 0);
    for (i, case) in CASES.iter().enumerate() {
        let convolution = case.convolution();
        for product in PRODUCTS {
            let ([a, b], expected) = defined(&convolution, product);
            let wide = f64::compute(&convolution, product, &a, &b).unwrap();
            assert!(close(&wide, &expected, 1e-15), "float64, case {i}, {product:?}");
            let [a, b] = [a, b].map(|x| x.iter().map(|&x| f32::of(x)).collect::<Vec<_>>());
            let matrices = convolution.as_matrices(product, &a, &b).unwrap();
            assert!(close(&matrices, &expected, 1e-6), "matrices, case {i}, {product:?}");
            let best = f32::compute(&convolution, product, &a, &b).unwrap();
            assert!(close(&best, &expected, 1e-6), "best, case {i}, {product:?}");
            match f32::form(&convolution, product) {
                Form::Winograd(_) => {
                    winograd += 1;
                    let direct = as_direct(&convolution, product, &a, &b);
                    let [best, direct] = [best, direct].map(|y| error(&y, &expected));
                    assert!(
                        best < direct,
                        "case {i}, {product:?}: {best:e} is not below {direct:e}"
                    );
                }
                Form::Direct(_) => {
                    direct += 1;
                    if matches!(product, Product::Output) {
                        let mut pairs = best.iter().zip(&matrices);
                        let equal = pairs.all(|(x, y)| x.to_bits() == y.to_bits());
                        assert!(equal, "case {i}: the order of sums is not that of matrices");
                    }
                }
                Form::Matrices => {}
            }
        }
    }
    assert!(!panel::has_fused() || direct > 40, "only {direct} were computed directly");
    assert!(!panel::has_fused() || winograd >= 8, "only {winograd} by Winograd's algorithm");
}

/// Whether an image comes alone or with others must not change a bit, and neither must its place in a block.
#[test]
fn the_batch_changes_no_bit() {
    for case in CASES {
        let mut convolution = case.convolution();
        let batch = convolution.windows.batch;
        for product in [Product::Output, Product::Input] {
            let ([a, b], _) = defined(&convolution, product);
            let [a, b] = [a, b].map(|x| x.iter().map(|&x| f32::of(x)).collect::<Vec<_>>());
            let all = f32::compute(&convolution, product, &a, &b).unwrap();
            convolution.windows.batch = 1;
            for image in 0..batch {
                let last = |x: &[f32]| x[x.len() / batch * image..][..x.len() / batch].to_vec();
                let alone = match product {
                    Product::Input => f32::compute(&convolution, product, &a, &last(&b)),
                    Product::Output | Product::Filter => {
                        f32::compute(&convolution, product, &last(&a), &b)
                    }
                };
                assert_eq!(alone.unwrap(), last(&all), "{convolution:?}, {product:?}");
            }
            convolution.windows.batch = batch;
        }
    }
}
