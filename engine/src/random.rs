//! Counter-based random numbers: Philox 4x32-10.
//!
//! A state is a key and a counter. The same state gives the same numbers on every machine, in any order, so a generator is
//! only a counter that moves on. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The block of four numbers at a counter.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [high(b) ^ counter[1] ^ key[0], low(b), high(a) ^ counter[3] ^ key[1], low(a)];
    }
    counter
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half was shifted out")]
fn high(x: u64) -> u32 {
    (x >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
fn low(x: u64) -> u32 {
    x as u32
}

/// A stream of numbers from a state on. Element `i` always uses block `counter + i`, so a draw can be cut anywhere.
#[derive(Clone, Copy, Debug)]
pub struct State {
    key: u64,
    counter: u64,
}

impl State {
    /// The stream at a key and a counter, as the state tensor of the random ops holds them.
    pub fn new(key: i64, counter: i64) -> Self {
        Self { key: key.cast_unsigned(), counter: counter.cast_unsigned() }
    }

    fn block(self, i: u64) -> [u32; 4] {
        let at = self.counter.wrapping_add(i);
        philox([low(at), high(at), 0, 0], [low(self.key), high(self.key)])
    }

    /// The i-th number, uniform in [0, 1), with 53 random bits.
    pub fn uniform(self, i: u64) -> f64 {
        let [a, b, ..] = self.block(i);
        unit(a, b)
    }

    /// The i-th number, standard normal, by Box and Muller.
    pub fn normal(self, i: u64) -> f64 {
        let [a, b, c, e] = self.block(i);
        // 1 - u is in (0, 1], so the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(a, b)));
        radius * libm::cos(2.0 * std::f64::consts::PI * unit(c, e))
    }
}

/// A number in [0, 1) from 53 of 64 bits.
fn unit(a: u32, b: u32) -> f64 {
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let number = bits as f64;
    number / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the reference implementation, Random123's `kat_vectors`.
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(
            philox(pi, [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
