//! Gradients that are asked for again and again: their programs are written once and kept.
//!
//! Of what was asked only once a number is remembered, so a session that never repeats itself pays nothing.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::DefaultHashBuilder;

use crate::{
    exec::Prepared,
    gradient::{Found, Gradient},
    graph::Value,
    ledger::{Charge, Ledger},
    pattern::{Asked, Origin, Pattern},
};

/// Most gradients that are kept, and most that are remembered as asked once.
const MOST: usize = 16;

/// What a part of a pattern and an op of its program cost to keep, in bytes.
const PART_BYTES: u64 = 512;

/// Most bytes that are kept, so that a session that is done with its work holds little.
const MOST_BYTES: u64 = 1 << 20;

/// What a session remembers of its gradients.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    hasher: DefaultHashBuilder,
    /// Of what was asked once, the newest at the end.
    seen: VecDeque<u64>,
    /// The one that was used last at the end.
    kept: Vec<Arc<Kept>>,
}

/// A gradient that was asked for more than once.
#[derive(Debug)]
pub(super) struct Kept {
    fingerprint: u64,
    pattern: Pattern,
    pub(super) prepared: Prepared,
    pub(super) found: Vec<Found>,
    origins: Vec<(usize, Origin)>,
    charge: Charge,
}

/// What is known of a gradient that is asked for.
#[derive(Debug)]
pub(super) enum Sight {
    /// Nothing worth remembering.
    New,
    /// It was asked for before.
    Again(u64),
    /// Its program.
    Known(Arc<Kept>),
}

impl Repeated {
    /// Looks up what is asked, and remembers it.
    pub(super) fn look(&mut self, asked: &Asked) -> Sight {
        if !asked.is_repeatable() {
            return Sight::New;
        }
        let fingerprint = asked.fingerprint(&self.hasher);
        let fits = |kept: &Arc<Kept>| kept.fingerprint == fingerprint && kept.pattern.fits(asked);
        if let Some(position) = self.kept.iter().rposition(fits) {
            let kept = self.kept.remove(position);
            self.kept.push(Arc::clone(&kept));
            return Sight::Known(kept);
        }
        if self.seen.contains(&fingerprint) {
            return Sight::Again(fingerprint);
        }
        if self.seen.len() == MOST {
            self.seen.pop_front();
        }
        self.seen.push_back(fingerprint);
        Sight::New
    }

    /// Keeps the program that was written for what is asked. If that cannot be, or there is no memory for it, the gradient
    /// is given back to be run once.
    pub(super) fn keep(
        &mut self,
        fingerprint: u64,
        asked: &Asked,
        gradient: Gradient,
        ledger: &Arc<Ledger>,
    ) -> Result<Arc<Kept>, Gradient> {
        let Some(pattern) = Pattern::of(asked) else { return Err(gradient) };
        let parts = pattern.len() + gradient.program.avals.len();
        let bytes = (parts as u64).saturating_mul(PART_BYTES);
        if bytes > MOST_BYTES {
            return Err(gradient);
        }
        let Ok(charge) = ledger.reserve(bytes) else { return Err(gradient) };
        let Gradient { mut program, found, origins } = gradient;
        // The values of this time are not those of the next.
        program.operands.clear();
        let wanted = found.iter().flat_map(Found::slots).collect();
        let prepared = Prepared::new(program, wanted);
        let kept = Arc::new(Kept { fingerprint, pattern, prepared, found, origins, charge });
        let held = |kept: &[Arc<Kept>]| kept.iter().map(|kept| kept.charge.bytes()).sum::<u64>();
        while self.kept.len() == MOST || held(&self.kept) > MOST_BYTES - bytes {
            self.kept.remove(0);
        }
        self.kept.push(Arc::clone(&kept));
        Ok(kept)
    }
}

impl Kept {
    /// The values that its program begins with, for something that is asked like it.
    pub(super) fn inputs<'a>(
        &'a self,
        asked: Asked<'a>,
    ) -> impl Iterator<Item = (usize, Value)> + 'a {
        let input = move |&(slot, origin): &(usize, Origin)| Some((slot, asked.value(origin)?));
        self.origins.iter().filter_map(input)
    }
}
