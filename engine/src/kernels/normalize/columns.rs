//! Columns normalised by their mean and variance, and the gradients of that: what the module above does along the last axes,
//! along others. Memory is gone through row by row, some times over, and nothing is copied to where it would be a row.

use super::Moments;
use crate::{
    array::{buffer, filled, overwritten},
    error::Error,
    kernels::{
        columns::{Columns, Piece},
        lanes::{self, PARTS, each_level},
        real::Real,
    },
};

/// The moments of each column.
#[expect(clippy::cast_precision_loss, reason = "a column has far fewer than 2^52 elements")]
fn moments<T: Real>(x: &[T], columns: Columns, epsilon: f64) -> Result<Vec<Moments>, Error> {
    let count = columns.rows as f64;
    let mut means = columns.fold(0.0, |piece, sums| {
        lanes::fold_columns(&x[piece.elements], sums, |sum, x: T| sum + x.wide());
    })?;
    lanes::replace(&mut means, |sum| sum / count);
    let squares = columns.fold(0.0, |piece, squares| {
        add_squares(&x[piece.elements], &means[piece.columns], squares);
    })?;
    let mut moments = buffer(means.len())?;
    moments.extend(means.into_iter().zip(squares).map(|(mean, squares)| Moments {
        mean,
        factor: (squares / count + epsilon).sqrt().recip(),
    }));
    Ok(moments)
}

each_level! {
    fn add_squares<T: Real>(x: &[T], means: &[f64], squares: &mut [f64]) {
        for ((&x, &mean), squares) in x.iter().zip(means).zip(squares) {
            let distance = x.wide() - mean;
            *squares += distance * distance;
        }
    }
}

/// `(x - mean) scale / sqrt(variance + epsilon) + offset` of columns as long as scale and offset.
pub(crate) fn columns<T: Real>(
    x: &[T],
    columns: Columns,
    [scale, offset]: [&[T]; 2],
    epsilon: f64,
) -> Result<Vec<T>, Error> {
    let moments = moments(x, columns, epsilon)?;
    let mut out = overwritten(x.len())?;
    columns.rows(&mut out, |Piece { elements, columns, row, .. }, out| {
        normalized(&x[elements], &moments[columns], [scale[row], offset[row]], out);
    })?;
    Ok(out)
}

each_level! {
    fn normalized<T: Real>(x: &[T], moments: &[Moments], [scale, offset]: [T; 2], out: &mut [T]) {
        for ((out, &x), moments) in out.iter_mut().zip(x).zip(moments) {
            *out = T::of((x.wide() - moments.mean) * moments.factor) * scale + offset;
        }
    }
}

/// The gradients with respect to x, scale and offset of what flows into the result of [`columns`]. Each of so many batches
/// has a scale of its own.
#[expect(clippy::cast_precision_loss, reason = "a column has far fewer than 2^52 elements")]
pub(crate) fn gradients<T: Real>(
    columns: Columns,
    batches: usize,
    [x, scale, flow]: [&[T]; 3],
    epsilon: f64,
) -> Result<[Vec<T>; 3], Error> {
    let Columns { matrices, rows, .. } = columns;
    let of_batch = matrices / batches.max(1);
    let scale = |piece: &Piece| scale[piece.matrix / of_batch * rows + piece.row].wide();
    let moments = moments(x, columns, epsilon)?;
    let mut all = columns.fold(0.0, |piece, sums| {
        let scale = scale(&piece);
        lanes::fold_columns(&flow[piece.elements], sums, |sum, flow: T| sum + scale * flow.wide());
    })?;
    let mut along = columns.fold(0.0, |piece, sums| {
        let (scale, elements) = (scale(&piece), piece.elements);
        add_along([&x[elements.clone()], &flow[elements]], scale, &moments[piece.columns], sums);
    })?;
    for sums in [&mut all, &mut along] {
        lanes::replace(sums, |sum| sum / rows as f64);
    }
    let mut result = overwritten(x.len())?;
    columns.rows(&mut result, |piece, out| {
        let (scale, Piece { elements, columns, .. }) = (scale(&piece), piece);
        let sums = [&all[columns.clone()], &along[columns.clone()]];
        gradient([&x[elements.clone()], &flow[elements]], scale, &moments[columns], sums, out);
    })?;
    // A row has one number of scale and of offset. Those of the matrices of a batch are added from the first to the last.
    let mut sums = filled(matrices * rows, [0.0; 2])?;
    columns.rows(&mut sums, |Piece { elements, columns, .. }, out| {
        out[0] = row_sums([&x[elements.clone()], &flow[elements]], &moments[columns]);
    })?;
    let mut parameters = [buffer(batches * rows)?, buffer(batches * rows)?];
    for batch in 0..batches {
        let batch = &sums[batch * of_batch * rows..(batch + 1) * of_batch * rows];
        for (i, parameters) in parameters.iter_mut().enumerate() {
            parameters.extend((0..rows).map(|row| {
                T::of(batch.iter().skip(row).step_by(rows).fold(0.0, |sum, sums| sum + sums[i]))
            }));
        }
    }
    let [scales, offsets] = parameters;
    Ok([result, scales, offsets])
}

each_level! {
    /// Adds a row's part to the sums of `g h`, with `g = scale flow` and the normalised `h`.
    fn add_along<T: Real>(
        [x, flow]: [&[T]; 2],
        scale: f64,
        moments: &[Moments],
        sums: &mut [f64],
    ) {
        for (((&x, &flow), moments), sum) in x.iter().zip(flow).zip(moments).zip(sums) {
            *sum += scale * flow.wide() * ((x.wide() - moments.mean) * moments.factor);
        }
    }
}

each_level! {
    /// The gradient of a row's elements: `factor (g - mean of g - h mean of g h)`.
    fn gradient<T: Real>(
        [x, flow]: [&[T]; 2],
        scale: f64,
        moments: &[Moments],
        [all, along]: [&[f64]; 2],
        out: &mut [T],
    ) {
        let inputs = x.iter().zip(flow).zip(moments).zip(all.iter().zip(along));
        for (out, (((&x, &flow), moments), (&all, &along))) in out.iter_mut().zip(inputs) {
            let h = (x.wide() - moments.mean) * moments.factor;
            *out = T::of(moments.factor * (scale * flow.wide() - all - h * along));
        }
    }
}

each_level! {
    /// A row's part in the gradients of scale and offset. Element i goes into part i modulo the number of parts.
    fn row_sums<T: Real>([x, flow]: [&[T]; 2], moments: &[Moments]) -> [f64; 2] {
        let (mut scales, mut offsets) = ([0.0; PARTS], [0.0; PARTS]);
        let pieces = x.chunks(PARTS).zip(flow.chunks(PARTS)).zip(moments.chunks(PARTS));
        for ((x, flow), moments) in pieces {
            let inputs = x.iter().zip(flow).zip(moments);
            for (((&x, &flow), moments), (scale, offset)) in
                inputs.zip(scales.iter_mut().zip(&mut offsets))
            {
                *scale += flow.wide() * ((x.wide() - moments.mean) * moments.factor);
                *offset += flow.wide();
            }
        }
        [scales, offsets].map(|parts| lanes::halves(parts, &|a, b| a + b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::normalize::{self, Layout};

    /// Both ways to go through memory normalise the same numbers, up to the last bits of their sums.
    #[test]
    fn columns_are_normalised_as_rows_are() {
        // More columns than are gone down together, and rows that are no multiple of what is summed apart.
        let (matrices, rows, width) = (4, 5, 1030);
        let number = |i: usize| f64::from(u32::try_from(i * 7919 % 1009).unwrap()) / 300.0 - 1.5;
        let numbers =
            |count: usize, from: usize| -> Vec<f64> { (from..from + count).map(number).collect() };
        let turned = |x: &[f64]| -> Vec<f64> {
            let places = (0..matrices).flat_map(|matrix| {
                (0..width).flat_map(move |column| {
                    (0..rows).map(move |row| (matrix * rows + row) * width + column)
                })
            });
            places.map(|place| x[place]).collect()
        };
        let near = |x: &[f64], y: &[f64]| {
            assert_eq!(x.len(), y.len());
            for (x, y) in x.iter().zip(y) {
                assert!((x - y).abs() < 1e-9, "{x} {y}");
            }
        };
        let (x, flow) = (numbers(matrices * rows * width, 0), numbers(matrices * rows * width, 11));
        let (x_rows, flow_rows) = (turned(&x), turned(&flow));
        let columns = Columns { matrices, rows, width };
        let (scale, offset) = (numbers(rows, 3), numbers(rows, 8));
        let ours = super::columns(&x, columns, [&scale, &offset], 0.1).unwrap();
        near(&turned(&ours), &normalize::rows(&x_rows, &scale, &offset, 0.1).unwrap());
        for batches in [1, 2] {
            let scale = numbers(batches * rows, 5);
            let layout = Layout { batches, rows: matrices / batches * width, width: rows };
            let ours = gradients(columns, batches, [&x, &scale, &flow], 0.1).unwrap();
            let theirs = [&x_rows[..], &scale, &flow_rows];
            let theirs = normalize::gradients(layout, theirs, 0.1).unwrap();
            near(&turned(&ours[0]), &theirs[0]);
            near(&ours[1], &theirs[1]);
            near(&ours[2], &theirs[2]);
        }
        let none = Columns { matrices: 0, ..columns };
        let [x, scales, offsets] = gradients(none, 1, [&[], &scale, &[]], 0.1).unwrap();
        assert_eq!((x, scales, offsets), (vec![], vec![0.0; rows], vec![0.0; rows]));
    }
}
