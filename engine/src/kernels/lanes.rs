//! Loops over slices, compiled for each level of x86.
//!
//! The compiler makes vector instructions of them as wide as the processor has. Formulas must be of operations that IEEE 754
//! fixes, as those of [`vector`](super::vector) are; then every level gives the same bits, which a test holds them to.

/// Compiles a function for AVX-512, AVX2 and the baseline; which one runs is decided at each call, by two loads and a branch.
macro_rules! each_level {
    ($($function:tt)*) => {
        #[multiversion::multiversion(
            targets(
                "x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+bmi1+bmi2",
                "x86_64+avx2+bmi1+bmi2",
            ),
            dispatcher = "direct"
        )]
        $($function)*
    };
}

pub(crate) use each_level;

each_level! {
    /// `f` of each element.
    pub(crate) fn map<T: Copy, U>(x: &[T], out: &mut [U], f: impl Fn(T) -> U) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x);
        }
    }
}

each_level! {
    /// `f` of each pair of elements.
    pub(crate) fn zip<T: Copy, V: Copy, U>(
        x: &[T],
        y: &[V],
        out: &mut [U],
        f: impl Fn(T, V) -> U,
    ) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = f(x, y);
        }
    }
}

each_level! {
    /// `f` of each three elements.
    pub(crate) fn zip3<T: Copy, V: Copy, W: Copy, U>(
        x: &[T],
        y: &[V],
        z: &[W],
        out: &mut [U],
        f: impl Fn(T, V, W) -> U,
    ) {
        for (((out, &x), &y), &z) in out.iter_mut().zip(x).zip(y).zip(z) {
            *out = f(x, y, z);
        }
    }
}

each_level! {
    /// `f` of each element, in its place.
    pub(crate) fn replace<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
        for x in x {
            *x = f(*x);
        }
    }
}

/// In how many parts a row is folded, so that one addition need not wait for the last. Two registers of AVX-512.
const PARTS: usize = 16;

each_level! {
    /// Folds a row: element i goes into part i modulo 16, and then the parts are merged by halves. Rows shorter than that are
    /// folded from the first element to the last. `init` must be neutral.
    pub(crate) fn fold<T: Copy, A: Copy>(
        x: &[T],
        init: A,
        step: impl Fn(A, T) -> A,
        merge: impl Fn(A, A) -> A,
    ) -> A {
        fold_here(x, init, &step, &merge)
    }
}

each_level! {
    /// The same of each row of so many elements, at least one.
    pub(crate) fn fold_rows<T: Copy, A: Copy>(
        x: &[T],
        width: usize,
        init: A,
        step: impl Fn(A, T) -> A,
        merge: impl Fn(A, A) -> A,
        mut visit: impl FnMut(A),
    ) {
        for row in x.chunks_exact(width) {
            visit(fold_here(row, init, &step, &merge));
        }
    }
}

/// [`fold`] within a function that is compiled for each level.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
pub(crate) fn fold_here<T: Copy, A: Copy>(
    x: &[T],
    init: A,
    step: &impl Fn(A, T) -> A,
    merge: &impl Fn(A, A) -> A,
) -> A {
    if x.len() < PARTS {
        return x.iter().fold(init, |acc, &x| step(acc, x));
    }
    let mut parts = [init; PARTS];
    let (rows, rest) = x.as_chunks::<PARTS>();
    for row in rows {
        for (part, &x) in parts.iter_mut().zip(row) {
            *part = step(*part, x);
        }
    }
    for (part, &x) in parts.iter_mut().zip(rest) {
        *part = step(*part, x);
    }
    halves(parts, merge)
}

/// Merges parts by halves. Not in sight of the loops that fill them: there the compiler would choose vectors for these that
/// are as narrow as the last halves.
#[inline(never)]
fn halves<A: Copy>(mut parts: [A; PARTS], merge: &impl Fn(A, A) -> A) -> A {
    let mut half = PARTS / 2;
    while half > 0 {
        let (low, high) = parts.split_at_mut(half);
        for (low, &mut high) in low.iter_mut().zip(high) {
            *low = merge(*low, high);
        }
        half /= 2;
    }
    parts[0]
}

/// Two sums over three rows of one length, in the order of [`fold`].
pub(crate) fn sums<T: Copy>(rows: [&[T]; 3], terms: impl Fn([T; 3]) -> [f64; 2]) -> [f64; 2] {
    let [x, y, z] = rows;
    if x.len() < PARTS {
        return x.iter().zip(y).zip(z).fold([0.0; 2], |[a, b], ((&x, &y), &z)| {
            let [c, d] = terms([x, y, z]);
            [a + c, b + d]
        });
    }
    let mut parts = [[0.0; PARTS]; 2];
    sum_parts(rows, &mut parts, terms);
    parts.map(|parts| halves(parts, &|a, b| a + b))
}

each_level! {
    fn sum_parts<T: Copy>(
        [x, y, z]: [&[T]; 3],
        parts: &mut [[f64; PARTS]; 2],
        terms: impl Fn([T; 3]) -> [f64; 2],
    ) {
        let [mut first, mut second] = *parts;
        let ((x, rest_x), (y, rest_y), (z, rest_z)) =
            (x.as_chunks::<PARTS>(), y.as_chunks::<PARTS>(), z.as_chunks::<PARTS>());
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            for i in 0..PARTS {
                let [a, b] = terms([x[i], y[i], z[i]]);
                first[i] += a;
                second[i] += b;
            }
        }
        for (i, ((&x, &y), &z)) in rest_x.iter().zip(rest_y).zip(rest_z).enumerate() {
            let [a, b] = terms([x, y, z]);
            first[i] += a;
            second[i] += b;
        }
        *parts = [first, second];
    }
}

each_level! {
    /// Folds each column of rows, from the first row to the last. There is at least one column.
    pub(crate) fn fold_columns<T: Copy, A: Copy>(
        x: &[T],
        columns: &mut [A],
        step: impl Fn(A, T) -> A,
    ) {
        for row in x.chunks_exact(columns.len()) {
            for (column, &x) in columns.iter_mut().zip(row) {
                *column = step(*column, x);
            }
        }
    }
}

each_level! {
    /// Takes over what wins against the best so far, and where it is: element i of `x` is at `at + i`.
    pub(crate) fn take_better<T: Copy>(
        x: &[T],
        at: usize,
        best: &mut [T],
        places: &mut [usize],
        wins: impl Fn(T, T) -> bool,
    ) {
        for (i, ((best, place), &x)) in best.iter_mut().zip(places).zip(x).enumerate() {
            let better = wins(x, *best);
            *best = if better { x } else { *best };
            *place = if better { at + i } else { *place };
        }
    }
}

each_level! {
    /// Combines each element with the one at its place.
    pub(crate) fn update<T: Copy>(out: &mut [T], x: &[T], f: impl Fn(T, T) -> T) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(*out, x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::map;
    use crate::kernels::vector;

    #[multiversion::multiversion(targets("x86_64+avx2+bmi1+bmi2"), dispatcher = "direct")]
    fn avx2<U>(x: &[f32], out: &mut [U], f: impl Fn(f32) -> U) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x);
        }
    }

    fn baseline<U>(x: &[f32], out: &mut [U], f: impl Fn(f32) -> U) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x);
        }
    }

    /// On a machine without AVX-512 this compares the levels that there are.
    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = (0..=u32::MAX).step_by(4_099).map(f32::from_bits).collect();
        macro_rules! check {
            ($($f:ident)*) => {$(
                let f = |x| {
                    let y = vector::$f(x);
                    // Which NaN it is may depend on the order of operands that the compiler chose.
                    if y.is_nan() { u32::MAX } else { y.to_bits() }
                };
                let (mut low, mut high) = (vec![0; x.len()], vec![0; x.len()]);
                baseline(&x, &mut low, f);
                avx2(&x, &mut high, f);
                assert!(low == high, "avx2 {}", stringify!($f));
                map(&x, &mut high, f);
                assert!(low == high, "best {}", stringify!($f));
            )*};
        }
        check!(exp exp_m1 ln ln_1p tanh sigmoid erf normal_cdf);
    }
}
