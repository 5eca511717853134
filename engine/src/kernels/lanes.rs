//! Loops over slices, compiled for each level of x86.
//!
//! The compiler makes vector instructions of them as wide as the processor has. Formulas must be of operations that IEEE 754
//! fixes, as those of [`vector`](super::vector) are; then every level gives the same bits, which a test holds them to.

use std::hint::black_box;

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

/// A function of an element, as a type: it is inlined into a loop over it, which a closure is only if it is short.
pub(crate) trait Function<T> {
    /// The function, without branches. Must be `#[inline(always)]`.
    fn of(x: T) -> T;
    /// Whether that is right here.
    fn holds(x: T) -> bool;
    /// The function where it is not.
    fn beyond(x: T) -> T;
}

/// A function of two elements, as a type.
pub(crate) trait Function2<T> {
    /// The function, without branches. Must be `#[inline(always)]`.
    fn of(x: T, y: T) -> T;
}

each_level! {
    /// A function of each element.
    pub(crate) fn map_by<T: Copy, F: Function<T>>(x: &[T], out: &mut [T]) {
        let mut holds = true;
        for (out, &x) in out.iter_mut().zip(x) {
            *out = F::of(x);
            holds &= F::holds(x);
        }
        // Few blocks have such elements.
        if !holds {
            for (out, &x) in out.iter_mut().zip(x).filter(|(_, x)| !F::holds(**x)) {
                *out = F::beyond(x);
            }
        }
    }
}

each_level! {
    /// A function of each pair of elements.
    pub(crate) fn zip_by<T: Copy, F: Function2<T>>(x: &[T], y: &[T], out: &mut [T]) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = F::of(x, y);
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
pub(crate) const PARTS: usize = 16;

/// How a fold takes in elements. A function does it one by one.
pub(crate) trait Step<A, T> {
    /// Whether elements may be compared with each other first: see [`Choice`].
    const CHOOSES: bool;
    /// Takes in an element. Must be `#[inline(always)]`.
    fn one(&self, acc: A, x: T) -> A;
    /// Takes in four, from the first on. Must be `#[inline(always)]`.
    fn four(&self, acc: A, x: [T; 4]) -> A;
}

impl<A, T, F: Fn(A, T) -> A> Step<A, T> for F {
    const CHOOSES: bool = false;
    #[expect(clippy::inline_always, reason = "the trait wants it")]
    #[inline(always)]
    fn one(&self, acc: A, x: T) -> A {
        self(acc, x)
    }
    #[expect(clippy::inline_always, reason = "the trait wants it")]
    #[inline(always)]
    fn four(&self, acc: A, x: [T; 4]) -> A {
        x.into_iter().fold(acc, self)
    }
}

/// A rule that chooses one of two elements, and of more the same one in whatever groups they are compared as long as they
/// keep their order, as "the first of the largest" does. A fold then waits for one comparison of four.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<F>(pub(crate) F);

impl<T, F: Fn(T, T) -> T> Step<T, T> for Choice<F> {
    const CHOOSES: bool = true;
    #[expect(clippy::inline_always, reason = "the trait wants it")]
    #[inline(always)]
    fn one(&self, acc: T, x: T) -> T {
        self.0(acc, x)
    }
    #[expect(clippy::inline_always, reason = "the trait wants it")]
    #[inline(always)]
    fn four(&self, acc: T, [a, b, c, d]: [T; 4]) -> T {
        let Self(choose) = self;
        choose(acc, choose(choose(a, b), choose(c, d)))
    }
}

each_level! {
    /// Folds a row: element i goes into part i modulo 16, and then the parts are merged by halves. Rows shorter than that are
    /// folded from the first element to the last. `init` must be neutral.
    pub(crate) fn fold<T: Copy, A: Copy>(
        x: &[T],
        init: A,
        step: &impl Step<A, T>,
        merge: impl Fn(A, A) -> A,
    ) -> A {
        fold_here(x, init, step, &merge)
    }
}

each_level! {
    /// The same of each row of so many elements, at least one.
    pub(crate) fn fold_rows<T: Copy, A: Copy>(
        x: &[T],
        width: usize,
        init: A,
        step: &impl Step<A, T>,
        merge: impl Fn(A, A) -> A,
        mut visit: impl FnMut(A),
    ) {
        for row in x.chunks_exact(width) {
            visit(fold_here(row, init, step, &merge));
        }
    }
}

each_level! {
    /// Takes elements into the parts of a fold, from the first part on.
    pub(crate) fn fold_into_parts<T: Copy, A: Copy>(
        x: &[T],
        parts: &mut [A; PARTS],
        step: &impl Step<A, T>,
    ) {
        parts_here(x, parts, step);
    }
}

#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
fn parts_here<T: Copy, A: Copy, S: Step<A, T>>(mut x: &[T], parts: &mut [A; PARTS], step: &S) {
    // Of integers the compiler would make vectors that go from line to line, and gather them: ten times as long. What it
    // cannot see through keeps it from that, and costs nothing.
    // Lines of eight bytes an element are two registers, which wait for each other little; memory is read in its order then.
    if S::CHOOSES && size_of::<T>() <= 4 {
        let (fours, rest) = x.as_chunks::<{ 4 * PARTS }>();
        for lines in fours {
            black_box(());
            for (i, part) in parts.iter_mut().enumerate() {
                *part = step.four(*part, std::array::from_fn(|line| lines[line * PARTS + i]));
            }
        }
        x = rest;
    }
    let (lines, rest) = x.as_chunks::<PARTS>();
    for line in lines {
        black_box(());
        for (part, &x) in parts.iter_mut().zip(line) {
            *part = step.one(*part, x);
        }
    }
    for (part, &x) in parts.iter_mut().zip(rest) {
        *part = step.one(*part, x);
    }
}

/// [`fold`] within a function that is compiled for each level.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
pub(crate) fn fold_here<T: Copy, A: Copy>(
    x: &[T],
    init: A,
    step: &impl Step<A, T>,
    merge: &impl Fn(A, A) -> A,
) -> A {
    if x.len() < PARTS {
        return x.iter().fold(init, |acc, &x| step.one(acc, x));
    }
    let mut parts = [init; PARTS];
    parts_here(x, &mut parts, step);
    halves(parts, merge)
}

each_level! {
    /// Merges parts by halves. Not in sight of the loops that fill them: there the compiler would choose vectors for these
    /// that are as narrow as the last halves.
    #[inline(never)]
    pub(crate) fn halves<A: Copy>(parts: [A; PARTS], merge: &impl Fn(A, A) -> A) -> A {
        // Arrays of known lengths, so that each level is a few instructions without a loop.
        let eight: [A; 8] = std::array::from_fn(|i| merge(parts[i], parts[i + 8]));
        let four: [A; 4] = std::array::from_fn(|i| merge(eight[i], eight[i + 4]));
        let two: [A; 2] = std::array::from_fn(|i| merge(four[i], four[i + 2]));
        merge(two[0], two[1])
    }
}

/// Two sums over three rows of one length, in the order of [`fold`], within a function that is compiled for each level.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
pub(crate) fn sums_here<T: Copy>(
    [x, y, z]: [&[T]; 3],
    terms: impl Fn([T; 3]) -> [f64; 2],
) -> [f64; 2] {
    if x.len() < PARTS {
        return x.iter().zip(y).zip(z).fold([0.0; 2], |[a, b], ((&x, &y), &z)| {
            let [c, d] = terms([x, y, z]);
            [a + c, b + d]
        });
    }
    let [mut first, mut second] = [[0.0; PARTS]; 2];
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
    [first, second].map(|parts| halves(parts, &|a, b| a + b))
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
    /// A step of each column: from what it has accumulated and its element in each input to what it accumulates and its
    /// result.
    pub(crate) fn step_columns<const N: usize, T: Copy, A: Copy, U>(
        x: [&[T]; N],
        accumulated: &mut [A],
        out: &mut [U],
        step: impl Fn(A, [T; N]) -> (A, U),
    ) {
        // Of one length that the compiler knows of, so that it need not look at each element's place.
        let count = out.len();
        let (x, accumulated) = (x.map(|x| &x[..count]), &mut accumulated[..count]);
        for i in 0..count {
            (accumulated[i], out[i]) = step(accumulated[i], x.map(|x| x[i]));
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

each_level! {
    /// Combines each element with the two at its place.
    pub(crate) fn update2<A: Copy, T: Copy>(
        out: &mut [A],
        x: &[T],
        y: &[T],
        f: impl Fn(A, T, T) -> A,
    ) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = f(*out, x, y);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::inline_always, reason = "the traits want it")]

    use super::{Function, Function2, map_by, zip_by};
    use crate::kernels::vector::{double, single};

    #[multiversion::multiversion(targets("x86_64+avx2+bmi1+bmi2"), dispatcher = "direct")]
    fn avx2<T: Copy, F: Function2<T>>(x: &[T], y: &[T], out: &mut [T]) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = F::of(x, y);
        }
    }

    fn baseline<T: Copy, F: Function2<T>>(x: &[T], y: &[T], out: &mut [T]) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = F::of(x, y);
        }
    }

    /// Which NaN it is may depend on the order of operands that the compiler chose.
    macro_rules! bits {
        ($numbers:expr) => {
            $numbers.iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }).collect::<Vec<_>>()
        };
    }

    /// Compares the levels, and vectors with one element alone. On a machine without AVX-512 these are fewer.
    macro_rules! check {
        ($ty:ident $x:ident $y:ident: $($function:path: |$a:ident, $b:ident| $body:expr;)*) => {$({
            struct F;
            impl Function2<$ty> for F {
                #[inline(always)]
                fn of($a: $ty, $b: $ty) -> $ty {
                    let _ = $b;
                    $body
                }
            }
            let mut out = vec![$ty::NAN; $x.len()];
            baseline::<$ty, F>(&$x, &$y, &mut out);
            let low = bits!(out);
            avx2::<$ty, F>(&$x, &$y, &mut out);
            assert!(low == bits!(out), "avx2 {}", stringify!($function));
            zip_by::<$ty, F>(&$x, &$y, &mut out);
            assert!(low == bits!(out), "best {}", stringify!($function));
            for ((x, y), out) in $x.chunks(1).zip($y.chunks(1)).zip(out.chunks_mut(1)) {
                zip_by::<$ty, F>(x, y, out);
            }
            assert!(low == bits!(out), "alone {}", stringify!($function));
        })*};
        ($ty:ident $module:ident $x:ident $y:ident: $($unary:ident)*; $($binary:ident)*) => {
            check!($ty $x $y: $($module::$unary: |a, b| $module::$unary(a);)*);
            check!($ty $x $y: $($module::$binary: |a, b| $module::$binary(a, b);)*);
        };
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = (0..=u32::MAX).step_by(16_411).map(f32::from_bits).collect();
        let y: Vec<f32> =
            x.iter().map(|x| x.to_bits().wrapping_mul(0x9e37_79b1)).map(f32::from_bits).collect();
        check!(f32 single x y:
            exp exp_m1 ln ln_1p sin cos tan atan sinh cosh tanh asinh acosh atanh erf erfc sigmoid normal_cdf; pow atan2);
        let x: Vec<f64> =
            (0..=u64::MAX).step_by(0x0001_0000_5bd1_e995).map(f64::from_bits).collect();
        let y: Vec<f64> = x
            .iter()
            .map(|x| x.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .map(f64::from_bits)
            .collect();
        check!(f64 double x y: exp exp_m1 ln ln_1p sin cos tan tanh erf erfc sigmoid; pow);
        // Powers of most such pairs are 0 or infinite.
        let y: Vec<f64> = y.iter().map(|y| y.clamp(-300.0, 300.0)).collect();
        check!(f64 double x y: ; pow);
    }

    #[test]
    fn elements_beyond_a_formula_are_computed_apart() {
        struct Doubled;
        impl Function<i32> for Doubled {
            #[inline(always)]
            fn of(x: i32) -> i32 {
                x * 2
            }
            fn holds(x: i32) -> bool {
                x < 3
            }
            fn beyond(x: i32) -> i32 {
                -x
            }
        }
        let mut out = [0; 5];
        map_by::<i32, Doubled>(&[1, 2, 3, 0, 4], &mut out);
        assert_eq!(out, [2, 4, -3, 0, -4]);
    }
}
