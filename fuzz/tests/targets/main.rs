//! The fuzz targets. `CONTRIBUTING.md` says how they are run for long, and how a finding is run again.

use bolero::check;
use gradtape_fuzz::{seeds, twins};

#[test]
fn sequences_of_commands() {
    let programs = seeds::programs();
    check!().for_each(|input: &[u8]| twins::sequence(input, &programs));
}
