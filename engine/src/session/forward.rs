//! Forward accumulation: tangents that are pushed along as ops run.
//!
//! Tapes and accumulators nest in the order in which they started. What an accumulator computes is heard by those that
//! started before it and by no others, so a derivative of a derivative never mixes the two, whichever modes they are of.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::{MAX_TAPES, Session, Slot, program::Log, values::Input};
use crate::{
    aval::Aval,
    command::{AbsentReason, Answer, GradientInfo, GradientOutput, Handle, TangentRequest},
    error::Error,
    graph::{Graph, Operand, Value, ValueId},
    jvp::{self, Ran},
    ops::IDENTITY,
    tape::{Applied, MAX_NODES, pair},
};

/// Most accumulators that may record at once. Each hears what those inside it compute, so their work multiplies.
const MAX_NESTED: usize = 6;

/// Tangents of values, and of what is computed from them while it records.
#[derive(Debug)]
pub(super) struct Accumulator {
    pub(super) scope: u32,
    pub(super) recording: bool,
    pub(super) since: u64,
    pub(super) tangents: HashMap<ValueId, Value>,
}

/// What accumulators computed for one command, kept until the command has succeeded.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// What ran, each with the start of the accumulator that it ran for.
    ran: Vec<(Ran, u64)>,
    /// Tangents by accumulator and primal.
    tangents: BTreeMap<(Handle, ValueId), Value>,
    next_id: u64,
}

impl Pushed {
    /// Number of applications.
    pub(super) fn len(&self) -> usize {
        self.ran.len()
    }
}

impl Accumulator {
    fn hears(&self, scope: u32, before: u64) -> bool {
        self.recording && self.scope == scope && self.since < before
    }

    /// Stops recording. If it is not recording, it does nothing, or fails if `strict`.
    pub(super) fn stop(&mut self, strict: bool) -> Result<(), Error> {
        if strict && !self.recording {
            return Err(Error::TapeNotRecording);
        }
        self.recording = false;
        Ok(())
    }
}

impl Session {
    pub(super) fn open_accumulator(
        &mut self,
        handle: Handle,
        (primals, tangents): (&[Handle], &[Handle]),
        paused: bool,
        scope: u32,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Error> {
        self.check_free(&[handle])?;
        if self.accumulators.len() >= MAX_TAPES {
            return Err(Error::TooMany { what: "accumulators", limit: MAX_TAPES });
        }
        if primals.len() != tangents.len() {
            let (targets, seeds) = (primals.len(), tangents.len());
            return Err(Error::SeedCount { targets, seeds });
        }
        if !paused {
            self.check_nesting()?;
        }
        let known: Vec<(ValueId, Aval, bool)> =
            primals.iter().map(|&primal| self.identify(primal)).collect::<Result<_, _>>()?;
        let inputs = self.inputs(tangents)?;
        let mut seen = HashSet::new();
        for (position, ((id, aval, _), tangent)) in known.iter().zip(&inputs).enumerate() {
            if !seen.insert(*id) {
                let what = format!("primals[{position}]").into();
                return Err(Error::Malformed { what, why: "is named twice".into() });
            }
            let given = tangent.value.tensor.aval();
            if given != *aval {
                return Err(Error::SeedMismatch { position, given, target: aval.clone() });
            }
        }
        let values = self.copies(&inputs, scope)?;
        let mut known_tangents = HashMap::new();
        for (((id, aval, _), value), primal) in known.into_iter().zip(values).zip(primals) {
            if aval.dtype.is_differentiable() {
                known_tangents.insert(id, value);
            } else {
                warnings.push(format!("handle {primal} is {aval}: it has no tangent"));
            }
        }
        self.starts += 1;
        let (since, recording) = (self.starts, !paused);
        let accumulator = Accumulator { scope, recording, since, tangents: known_tangents };
        self.accumulators.insert(handle, accumulator);
        self.bind(handle, Slot::Accumulator)
    }

    /// The inputs as values of their own, so that an accumulator's tangents are nobody else's.
    fn copies(&mut self, inputs: &[Input], scope: u32) -> Result<Vec<Value>, Error> {
        let graph = Graph::default();
        let wanted: Vec<usize> = inputs
            .iter()
            .map(|Input { value, .. }| {
                let operand = Operand { id: value.id, tensor: Some(value.tensor.clone()) };
                graph.operand(value.tensor.aval(), operand).map(&IDENTITY).slot()
            })
            .collect();
        self.run(graph.finish()?, &wanted, inputs, scope)
    }

    fn check_nesting(&self) -> Result<(), Error> {
        if self.accumulators.values().filter(|accumulator| accumulator.recording).count()
            >= MAX_NESTED
        {
            return Err(Error::TooMany { what: "accumulators recording", limit: MAX_NESTED });
        }
        Ok(())
    }

    /// Starts an accumulator again.
    pub(super) fn resume_accumulator(
        &mut self,
        handle: Handle,
        scope: u32,
    ) -> Result<Answer, Error> {
        self.check_nesting()?;
        self.starts += 1;
        let since = self.starts;
        let accumulator =
            self.accumulators.get_mut(&handle).ok_or(Error::UnknownHandle { handle })?;
        if accumulator.recording {
            return Err(Error::TapeRecording);
        }
        (accumulator.recording, accumulator.scope, accumulator.since) = (true, scope, since);
        Ok(Answer::Done)
    }

    /// Whether an accumulator records what happens in a scope.
    pub(super) fn accumulates(&self, scope: u32) -> bool {
        self.accumulators.values().any(|accumulator| accumulator.hears(scope, u64::MAX))
    }

    // --- pushing ---

    /// Computes the tangents of what a command made, reads of variables first. Changes nothing.
    pub(super) fn push(
        &self,
        reads: &[Input],
        ran: &[Ran],
        next_id: u64,
        scope: u32,
    ) -> Result<Pushed, Error> {
        let mut pushed = Pushed { next_id, ..Pushed::default() };
        if !self.accumulates(scope) {
            return Ok(pushed);
        }
        let reads = reads.iter().filter_map(|Input { value, read }| {
            let (variable, _) = (*read)?;
            let input = Value { id: variable, tensor: value.tensor.clone() };
            Some(Ran::new(Applied::identity(), [input], [value.clone()]))
        });
        let mut done = 0;
        for ran in reads.chain(ran.iter().cloned()) {
            self.push_one(&ran, u64::MAX, scope, &mut pushed)?;
            while let Some((ran, before)) = pushed.ran.get(done).cloned() {
                self.push_one(&ran, before, scope, &mut pushed)?;
                done += 1;
            }
        }
        Ok(pushed)
    }

    /// Sends tangents through one application, for each accumulator that started before `before`.
    fn push_one(
        &self,
        ran: &Ran,
        before: u64,
        scope: u32,
        pushed: &mut Pushed,
    ) -> Result<(), Error> {
        let hearing = self.accumulators.iter().filter(|(_, a)| a.hears(scope, before));
        for (&handle, accumulator) in hearing {
            let known = |value: &Value| {
                let fresh = pushed.tangents.get(&(handle, value.id));
                fresh.or_else(|| accumulator.tangents.get(&value.id)).cloned()
            };
            let tangents: SmallVec<[Option<Value>; 4]> = ran.inputs.iter().map(known).collect();
            if tangents.iter().all(Option::is_none) {
                continue;
            }
            if pushed.ran.len() >= MAX_NODES {
                return Err(Error::TooMany { what: "ops in one command", limit: MAX_NODES });
            }
            let (program, found) = jvp::through(ran, &tangents)?;
            let wanted: SmallVec<[usize; 2]> = found.iter().copied().flatten().collect();
            let mut log = Log::new(pushed.next_id, true);
            let values = self.compute(program, &wanted, &mut log)?;
            pushed.next_id = log.next_id;
            pushed.ran.extend(log.ran.into_iter().map(|ran| (ran, accumulator.since)));
            let outputs = ran.outputs.iter().zip(&found).filter(|(_, found)| found.is_some());
            for ((output, _), value) in outputs.zip(values) {
                pushed.tangents.insert((handle, output.id), value);
            }
        }
        Ok(())
    }

    /// Keeps what a command pushed, once the command has succeeded. `results` are what clients can name of it; tangents
    /// of anything else are kept only where a tape may ask for them.
    pub(super) fn settle(
        &mut self,
        pushed: Pushed,
        results: impl IntoIterator<Item = ValueId>,
        scope: u32,
    ) {
        self.next_id = self.next_id.max(pushed.next_id);
        if pushed.ran.is_empty() && pushed.tangents.is_empty() {
            return;
        }
        for (ran, before) in &pushed.ran {
            let inputs: SmallVec<[_; 4]> = ran.inputs.iter().map(pair).collect();
            let outputs: SmallVec<[_; 2]> = ran.outputs.iter().map(pair).collect();
            for tape in self.tapes.values_mut().filter(|t| t.hears(scope) && t.since() < *before) {
                tape.trace_mut().record((&ran.applied, &self.tag), &inputs, &outputs, false);
            }
        }
        let taped = self.tapes.values().any(|tape| tape.hears(scope));
        let mut kept: HashSet<ValueId> = results.into_iter().collect();
        kept.extend(pushed.tangents.values().map(|tangent| tangent.id));
        for ((handle, primal), tangent) in pushed.tangents {
            if let Some(accumulator) = self.accumulators.get_mut(&handle)
                && (taped || kept.contains(&primal))
            {
                accumulator.tangents.insert(primal, tangent);
            }
        }
    }

    // --- reading ---

    pub(super) fn read_tangents(&mut self, request: &TangentRequest) -> Result<Answer, Error> {
        let TangentRequest { accumulator, values, outputs, zero_unconnected } = request;
        self.check_free(outputs)?;
        if outputs.len() != values.len() {
            return Err(Error::OutputCount { expected: values.len(), given: outputs.len() });
        }
        match self.slot(*accumulator)? {
            Slot::Accumulator => {}
            other => return Err(other.refuse(*accumulator, "accumulator")),
        }
        let mut found = Vec::new();
        for &value in values {
            let (id, aval, _) = self.identify(value)?;
            let tangent = self.accumulators.get(accumulator).and_then(|a| a.tangents.get(&id));
            let tangent = tangent.cloned();
            let zeros = match &tangent {
                None if *zero_unconnected => Some(self.zeros_of(&aval)?),
                _ => None,
            };
            found.push((aval, tangent, zeros));
        }
        let ledger = &self.ledger;
        self.tapes.values_mut().try_for_each(|t| t.trace_mut().reserve(ledger, values.len()))?;
        let mut infos = Vec::new();
        for ((aval, tangent, zeros), &gradient) in found.into_iter().zip(outputs) {
            let Some(tangent) = tangent else {
                let reason = if aval.dtype.is_differentiable() {
                    AbsentReason::NoPath
                } else {
                    AbsentReason::DType
                };
                let output = GradientOutput { gradient, indices: 0 };
                infos.push(self.absent(output, reason, aval, zeros));
                continue;
            };
            let value = self.alias(&tangent);
            self.slots.insert(gradient, Slot::Value(value));
            infos.push(GradientInfo::Dense(aval));
        }
        Ok(Answer::Gradients(infos))
    }

    /// A tangent as a value that a client may release. Whoever knows the one knows the other, recording or not.
    fn alias(&mut self, tangent: &Value) -> Value {
        let value = Value { id: self.new_id(), tensor: tangent.tensor.clone() };
        for tape in self.tapes.values_mut() {
            let (input, output) = ([pair(tangent)], [pair(&value)]);
            tape.trace_mut().record((&Applied::identity(), &self.tag), &input, &output, true);
        }
        for accumulator in self.accumulators.values_mut() {
            if let Some(second) = accumulator.tangents.get(&tangent.id).cloned() {
                accumulator.tangents.insert(value.id, second);
            }
        }
        value
    }

    // --- forgetting ---

    /// Whether any of these values has a tangent.
    pub(super) fn has_tangents(&self, ids: &[ValueId]) -> bool {
        let has =
            |accumulator: &Accumulator| ids.iter().any(|id| accumulator.tangents.contains_key(id));
        self.accumulators.values().any(has)
    }

    /// Forgets tangents whose primal neither a client can name nor a tape can ask for.
    pub(super) fn forget_tangents(&mut self) {
        if self.accumulators.values().all(|accumulator| accumulator.tangents.is_empty()) {
            return;
        }
        let mut alive: HashSet<ValueId> = HashSet::new();
        for slot in self.slots.values() {
            match slot {
                Slot::Value(value) => alive.insert(value.id),
                Slot::Variable(variable) => alive.insert(variable.id),
                _ => false,
            };
        }
        for tape in self.tapes.values() {
            alive.extend(tape.trace().kept());
        }
        // A tangent is itself the primal of an outer accumulator's tangent.
        loop {
            let before = alive.len();
            for accumulator in self.accumulators.values() {
                let known = accumulator.tangents.iter().filter(|(id, _)| alive.contains(*id));
                let tangents: SmallVec<[ValueId; 16]> = known.map(|(_, t)| t.id).collect();
                alive.extend(tangents);
            }
            if alive.len() == before {
                break;
            }
        }
        let mut dropped = Vec::new();
        for accumulator in self.accumulators.values_mut() {
            accumulator.tangents.retain(|id, tangent| {
                let keep = alive.contains(id);
                if !keep {
                    dropped.push(tangent.id);
                }
                keep
            });
        }
        self.release_tangents(dropped);
    }

    /// Ends an accumulator.
    pub(super) fn close_accumulator(&mut self, handle: Handle) {
        let closed = self.accumulators.remove(&handle);
        let tangents = closed.into_iter().flat_map(|accumulator| accumulator.tangents);
        self.release_tangents(tangents.map(|(_, tangent)| tangent.id).collect());
        self.forget_tangents();
    }

    /// Tells the tapes that tangents are gone.
    fn release_tangents(&mut self, ids: Vec<ValueId>) {
        if self.tapes.is_empty() {
            return;
        }
        let left = self.accumulators.values().flat_map(|a| a.tangents.values());
        let left: HashSet<ValueId> = left.map(|tangent| tangent.id).collect();
        for id in ids.into_iter().filter(|id| !left.contains(id)) {
            for tape in self.tapes.values_mut() {
                tape.trace_mut().release(id);
            }
        }
    }
}
