//! Good bytes, spoiled.

use arbitrary::{Result, Unstructured};

/// Most changes to one input: with more, nothing of the original would be left.
const MOST_CHANGES: usize = 8;

/// Bytes that mean something to many formats: ends of ranges, lengths, signs, brackets.
const TELLING: &[u8] = &[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'}', b'[', b'0', b'-', b'.', b','];

/// Either the input as it is, or one of the seeds with some changes that the input chooses.
pub fn bytes(input: &[u8], seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut choices = Unstructured::new(input);
    if seeds.is_empty() || choices.ratio(1, 8).unwrap_or(true) {
        return choices.take_rest().to_vec();
    }
    let mut bytes = choices.choose(seeds).cloned().unwrap_or_default();
    let changes = choices.int_in_range(0..=MOST_CHANGES).unwrap_or(0);
    for _ in 0..changes {
        // An input that ends leaves the bytes as they are.
        let _ = change(&mut bytes, seeds, &mut choices);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], choices: &mut Unstructured) -> Result<()> {
    let at = choices.int_in_range(0..=bytes.len())?;
    let length = choices.int_in_range(0..=16)?;
    let end = (at + length).min(bytes.len());
    match choices.int_in_range(0..=7)? {
        0 => {
            let bit = choices.int_in_range(0..=7)?;
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        }
        1 => {
            let byte = *choices.choose(TELLING)?;
            bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
        }
        2 => bytes.insert(at, choices.arbitrary()?),
        3 => drop(bytes.drain(at..end)),
        4 => bytes.truncate(at),
        5 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        6 => {
            let other = choices.choose(seeds)?;
            let from = choices.int_in_range(0..=other.len())?;
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        _ => {
            let number: u64 = 1 << choices.int_in_range(0..=63)?;
            let number = number.wrapping_sub(choices.int_in_range(0..=2)?);
            bytes.splice(at..end, number.to_le_bytes());
        }
    }
    Ok(())
}
