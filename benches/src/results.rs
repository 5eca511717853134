//! What a bench found, as it is written to `target/bench/NAME.json`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::table::BENCHES;

/// Values by row.
pub(crate) type Values = BTreeMap<String, f64>;

/// A run of a bench.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Name of the bench.
    pub(crate) bench: String,
    /// When.
    pub(crate) date: String,
    /// Of what.
    pub(crate) commit: String,
    /// How to run it again.
    pub(crate) command: String,
    /// Where.
    pub(crate) machine: Machine,
    /// Of what else: versions by name.
    pub(crate) versions: BTreeMap<String, String>,
    /// Share of the machine's cores that others used just before: above a few per cent nothing can be trusted.
    pub(crate) busy: f64,
    /// Whether it was a quick run, which proves nothing.
    pub(crate) quick: bool,
    /// Whose outcome differs from whose, if so; then nothing is compared.
    pub(crate) disagreement: Option<String>,
    /// Who was measured, in the order of the table.
    pub(crate) contenders: Vec<Measured>,
}

/// Where it was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Its processor.
    pub(crate) processor: String,
    /// Its cores.
    pub(crate) cores: usize,
    /// Its memory.
    pub(crate) memory: String,
    /// Its kernel.
    pub(crate) system: String,
}

/// What was measured of a contender.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is ours.
    pub(crate) ours: bool,
    /// Warm-up, threads, scaling.
    pub(crate) note: String,
    /// What it computed.
    pub(crate) outcome: Vec<f64>,
    /// All samples, by row, in the order in which they were taken.
    pub(crate) samples: BTreeMap<String, Vec<f64>>,
}

impl Results {
    /// The median of a contender's row.
    pub(crate) fn median(&self, contender: &str, row: &str) -> Option<f64> {
        let measured = self.contenders.iter().find(|measured| measured.name == contender)?;
        measured.samples.get(row).and_then(|samples| quantile(samples, 0.5))
    }

    /// Writes the file.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.json", self.bench));
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

/// The newest results of every bench that has some, in the order of the table.
pub(crate) fn read(folder: &Path) -> Result<Vec<Results>> {
    let mut all = Vec::new();
    for bench in BENCHES {
        let path = folder.join(format!("{}.json", bench.name));
        if path.exists() {
            let text = fs::read_to_string(&path)?;
            let results = serde_json::from_str(&text);
            all.push(results.with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(all)
}

/// The sample below which a share of the samples lies; between two, the line that joins them. `None` without samples.
pub(crate) fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "there are few samples")]
    let place = sorted.len().checked_sub(1)? as f64 * share;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the number of samples"
    )]
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_samples() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.5), Some(3.0));
        assert_eq!(quantile(&[4.0, 1.0, 3.0], 0.5), Some(3.0));
        assert_eq!(quantile(&[4.0, 1.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[0.0, 10.0], 0.99), Some(9.9));
        assert_eq!(quantile(&[2.0, 1.0, 3.0], 0.0), Some(1.0));
        assert_eq!(quantile(&[2.0, 1.0, 3.0], 1.0), Some(3.0));
    }
}
