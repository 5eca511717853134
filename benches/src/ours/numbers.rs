//! Weights and data, the same numbers as in `peers/_models.py`, which says how they come about.

use gradtape_client::TensorData;

/// A pseudo-random number by its place: the finaliser of `MurmurHash3`.
pub(super) fn hashed(salt: u32, place: u32) -> u32 {
    let mut h = place.wrapping_add(salt.wrapping_mul(0x9E37_79B9));
    h ^= h >> 16;
    h = h.wrapping_mul(0x85EB_CA6B);
    h ^= h >> 13;
    h = h.wrapping_mul(0xC2B2_AE35);
    h ^ (h >> 16)
}

/// Numbers between plus and minus `scale`.
pub(super) fn uniform(salt: u32, shape: &[i64], scale: f64) -> TensorData {
    #[expect(clippy::cast_possible_truncation, reason = "the peers round to float32 here too")]
    let number = |place| {
        ((f64::from(hashed(salt, place)) / f64::from(1u32 << 16) / f64::from(1u32 << 16) - 0.5)
            * (2.0 * scale)) as f32
    };
    TensorData::new(shape, &places(shape).map(number).collect::<Vec<f32>>())
}

/// Class numbers below `count`.
pub(super) fn classes(salt: u32, shape: &[i64], count: u32) -> Vec<i32> {
    places(shape).map(|place| (hashed(salt, place) % count).cast_signed()).collect()
}

/// First values of parameters: shapes with their fan-in, where 0 stands for zeros and -1 for ones.
pub(super) fn parameters(specification: &[(Vec<i64>, i32)]) -> Vec<TensorData> {
    let one = |(salt, (shape, fan_in)): (u32, &(Vec<i64>, i32))| match fan_in {
        1.. => uniform(salt, shape, 1.0 / f64::from(*fan_in).sqrt()),
        #[expect(clippy::cast_precision_loss, reason = "0 or 1")]
        _ => TensorData::new(shape.clone(), &vec![-*fan_in as f32; places(shape).len()]),
    };
    (1..).zip(specification).map(one).collect()
}

fn places(shape: &[i64]) -> std::ops::Range<u32> {
    0..u32::try_from(shape.iter().product::<i64>()).expect("the shapes of the benches are small")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What NumPy computed in `peers/_models.py`.
    #[test]
    fn the_numbers_are_those_of_the_peers() {
        assert_eq!(
            (0..4).map(|i| hashed(1, i)).collect::<Vec<_>>(),
            [2_462_723_854, 2_527_132_011, 3_024_231_355, 3_984_711_379]
        );
        let found = uniform(3, &[2, 2], 0.5).to_vec::<f32>().unwrap();
        assert_eq!(found, [-0.394_218_56, 0.090_310_656, -0.427_454_02, -0.243_258_1]);
        assert_eq!(classes(2000, &[6], 10), [6, 6, 0, 8, 1, 9]);
    }
}
