//! The gamma distribution: the incomplete gamma function, its derivatives with respect to the shape, and its inverse.
//!
//! Derivatives come from the same series and fractions, computed on truncated Taylor series ("jets") in the shape: the k-th
//! number of a jet is the k-th derivative divided by k!.

use crate::kernels::special::{ndtri, number, polygamma, stirling_rest};

/// Numbers of a jet: derivatives up to the fourth.
const ORDERS: usize = 5;

/// Highest derivative with respect to the shape.
pub(crate) const MAX_ORDER: usize = ORDERS - 1;

/// Most terms of a series or fraction: where the argument is near a shape `a` about 9 sqrt(a) are needed.
pub(crate) const MAX_TERMS: u32 = 5_000;

/// Most steps of the inverse; it converges quadratically.
pub(crate) const MAX_STEPS: u32 = 30;

type Jet<const N: usize> = [f64; N];

/// The `order`-th derivative of the regularized lower incomplete gamma function P(a, x) with respect to a; NaN outside
/// a > 0 and x >= 0, and where the series are too long, at x near an a of more than about 300,000.
pub(crate) fn lower(a: f64, x: f64, order: usize) -> f64 {
    if order == 0 {
        return sides::<1>(a, x).0[0];
    }
    let factorial: f64 = (1..=order).map(number).product();
    sides::<ORDERS>(a, x).0[order] * factorial
}

/// The complement Q(a, x) = 1 - P(a, x), accurate where it is small.
pub(crate) fn upper(a: f64, x: f64) -> f64 {
    sides::<1>(a, x).1[0]
}

/// P and Q as jets.
fn sides<const N: usize>(a: f64, x: f64) -> (Jet<N>, Jet<N>) {
    let constant = |value: f64| std::array::from_fn(|k| if k == 0 { value } else { 0.0 });
    if !(a > 0.0 && a < f64::INFINITY && x >= 0.0) {
        return ([f64::NAN; N], [f64::NAN; N]);
    }
    if x == 0.0 || x == f64::INFINITY {
        let below = if x == 0.0 { 0.0 } else { 1.0 };
        return (constant(below), constant(1.0 - below));
    }
    let one = constant(1.0);
    let rest = |side: Jet<N>| std::array::from_fn(|k| one[k] - side[k]);
    if x < a + 1.0 {
        let lower = multiply(density(a, x), series(a, x));
        (lower, rest(lower))
    } else {
        // x^a exp(-x) / gamma(a) is that with gamma(a + 1), times a.
        let shape = std::array::from_fn(|k| [a, 1.0].get(k).copied().unwrap_or(0.0));
        let upper = multiply(multiply(density(a, x), shape), fraction(a, x));
        (rest(upper), upper)
    }
}

/// x^a exp(-x) / gamma(a + 1).
fn density<const N: usize>(a: f64, x: f64) -> Jet<N> {
    let mut factorial = 1.0;
    let log: Jet<N> = std::array::from_fn(|k| match k {
        0 => log_density(a, x),
        1 => libm::log(x) - polygamma(0, a + 1.0),
        _ => {
            factorial *= number(k);
            -polygamma(k - 1, a + 1.0) / factorial
        }
    });
    // From exp(f)' = f' exp(f).
    let mut exp = [0.0; N];
    exp[0] = libm::exp(log[0]);
    for n in 1..N {
        let sum: f64 = (1..=n).map(|k| number(k) * log[k] * exp[n - k]).sum();
        exp[n] = sum / number(n);
    }
    exp
}

/// a ln x - x - ln gamma(a + 1), which is also the logarithm of the Poisson probability of `a` at the rate `x`.
pub(crate) fn log_density(a: f64, x: f64) -> f64 {
    if a < 10.0 {
        return a * libm::log(x) - x - libm::lgamma(a + 1.0);
    }
    // By Stirling's formula, so that no large numbers cancel.
    let far = (x - a) / a;
    let log_tau = libm::log(2.0 * std::f64::consts::PI * a);
    a * (libm::log1p(far) - far) - 0.5 * log_tau - stirling_rest(a)
}

/// The sum of x^n / ((a + 1) ... (a + n)), DLMF 8.11.4.
fn series<const N: usize>(a: f64, x: f64) -> Jet<N> {
    let mut term = [0.0; N];
    term[0] = 1.0;
    let mut sum = term;
    for n in 1..=MAX_TERMS {
        let shape = a + f64::from(n);
        let mut last = 0.0;
        for (term, sum) in term.iter_mut().zip(&mut sum) {
            // Division by shape + e, e being the variable of the jet.
            last = (*term * x - last) / shape;
            *term = last;
            *sum += last;
        }
        if term.iter().zip(&sum).all(|(term, sum)| term.abs() <= sum.abs() * f64::EPSILON / 4.0) {
            return sum;
        }
    }
    [f64::NAN; N]
}

/// The continued fraction 1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / (x + 5 - a - ...))), DLMF 8.9.2 in its
/// even form, from its beginning by Lentz's method as changed by Thompson and Barnett, 1986.
fn fraction<const N: usize>(a: f64, x: f64) -> Jet<N> {
    let linear = |value: f64, slope: f64| {
        std::array::from_fn::<_, N, _>(|k| [value, slope].get(k).copied().unwrap_or(0.0))
    };
    let mut below = linear(x + 1.0 - a, -1.0);
    let mut ratio = divide(linear(1.0, 0.0), below);
    let mut result = ratio;
    let mut numerator = linear(f64::INFINITY, 0.0);
    for n in 1..=MAX_TERMS {
        let n = f64::from(n);
        let factor = linear(n * (a - n), n);
        below[0] += 2.0;
        ratio = divide(linear(1.0, 0.0), add(below, multiply(factor, ratio)));
        numerator = if numerator[0].is_finite() {
            add(below, divide(factor, numerator))
        } else {
            // The numerator before the first is infinite.
            below
        };
        let change = multiply(numerator, ratio);
        result = multiply(result, change);
        if (0..N).all(|k| (change[k] - linear(1.0, 0.0)[k]).abs() <= f64::EPSILON) {
            return result;
        }
    }
    [f64::NAN; N]
}

fn add<const N: usize>(x: Jet<N>, y: Jet<N>) -> Jet<N> {
    std::array::from_fn(|k| x[k] + y[k])
}

fn multiply<const N: usize>(x: Jet<N>, y: Jet<N>) -> Jet<N> {
    std::array::from_fn(|n| (0..=n).map(|k| x[k] * y[n - k]).sum())
}

fn divide<const N: usize>(x: Jet<N>, y: Jet<N>) -> Jet<N> {
    let mut z = [0.0; N];
    for n in 0..N {
        let known: f64 = (1..=n).map(|k| y[k] * z[n - k]).sum();
        z[n] = (x[n] - known) / y[0];
    }
    z
}

/// The number below which a gamma variable of shape `a` and scale 1 lies with probability `p` from [0, 1).
pub(crate) fn quantile(a: f64, p: f64) -> f64 {
    if !(a > 0.0 && a < f64::INFINITY && (0.0..1.0).contains(&p)) {
        return f64::NAN;
    }
    if p == 0.0 {
        return 0.0;
    }
    let mut x = guess(a, p);
    for _ in 0..MAX_STEPS {
        let (below, above) = sides::<1>(a, x);
        let density = libm::exp(log_density(a, x)) * a;
        // Newton's method on the logarithm of the smaller side, which is nearly straight.
        let next = if p < 0.5 {
            x * libm::exp((libm::log(p) - libm::log(below[0])) * below[0] / density)
        } else {
            let step = (libm::log(above[0]) - libm::log(1.0 - p)) * above[0] / density * x;
            (x + step).max(x / 8.0)
        };
        if !next.is_finite() || next == 0.0 {
            // Below the smallest number, or beyond the series: there the guess is good.
            break;
        }
        let done = (next - x).abs() <= 4.0 * f64::EPSILON * x;
        x = next;
        if done {
            break;
        }
    }
    x
}

/// A first guess of the quantile.
fn guess(a: f64, p: f64) -> f64 {
    // Wilson and Hilferty, 1931: the cube root is nearly normal.
    let root = 1.0 - 1.0 / (9.0 * a) + ndtri(p) / (3.0 * libm::sqrt(a));
    if a >= 1.0 && root > 0.3 {
        return a * root * root * root;
    }
    // The first term of the series.
    libm::exp((libm::log(p) + libm::lgamma(a + 1.0)) / a)
}

/// The largest rate whose Poisson quantile is searched for, and not approximated.
const LARGEST_RATE: f64 = 1e5;

/// The smallest k such that a Poisson variable is at most k with probability above `p` from [0, 1).
pub(crate) fn poisson_quantile(rate: f64, p: f64) -> f64 {
    if !(0.0..f64::INFINITY).contains(&rate) {
        return f64::NAN;
    }
    if rate > LARGEST_RATE {
        // Cornish and Fisher, 1937, with the skewness: wrong by less than 1 / sqrt(rate).
        let z = ndtri(p.max(f64::EPSILON / 4.0));
        return (rate + libm::sqrt(rate) * z + (z * z - 1.0) / 6.0).round_ties_even().max(0.0);
    }
    // From the mode outwards, with P(K <= k) = Q(k + 1, rate).
    let mut k = rate.floor();
    let mut probability = libm::exp(log_density(k, rate));
    let mut sum = upper(k + 1.0, rate);
    if rate == 0.0 {
        return 0.0;
    }
    while sum <= p && probability > 0.0 {
        k += 1.0;
        probability *= rate / k;
        sum += probability;
    }
    while k > 0.0 && sum - probability > p {
        sum -= probability;
        probability *= k / rate;
        k -= 1.0;
    }
    k
}
