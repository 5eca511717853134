//! Random identifiers, from the operating system's generator.

use std::fmt::Write;

/// Random bytes.
///
/// # Panics
///
/// If the operating system has none: such a machine cannot keep any secret.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A name for one thing that went wrong, for the log and for the client.
pub fn incident() -> String {
    hex(&random::<8>())
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from exactly twice as many hexadecimal digits.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit =
        |i: usize| char::from(digits[i]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * i)? << 4 | digit(2 * i + 1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back() {
        assert_eq!(hex(&[0x01, 0xab]), "01ab");
        assert_eq!(from_hex::<2>("01aB"), Some([0x01, 0xab]));
        for wrong in ["", "01a", "01abc", "01ag", "01é"] {
            assert_eq!(from_hex::<2>(wrong), None, "{wrong}");
        }
    }
}
