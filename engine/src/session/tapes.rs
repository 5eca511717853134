//! Tapes and gradients.

use super::{
    Session, Slot,
    program::Log,
    repeated::{Repeated, Sight},
};
use crate::{
    array::Tensor,
    aval::Aval,
    command::{AbsentReason, Answer, GradientInfo, GradientOutput, GradientRequest, Handle},
    error::Error,
    explain::explain,
    gradient::{Found, Gradient, Source, Target, gradient},
    graph::{Operand, Value, ValueId},
    ops::{FULL, Full},
    pattern::Asked,
    session::MAX_TAPES,
    tape::Tape,
};

/// Gradients that were computed.
struct Computed {
    found: Vec<Found>,
    values: Vec<Value>,
    zeros: Vec<Tensor>,
}

impl Session {
    pub(super) fn tape(&mut self, handle: Handle) -> Result<&mut Tape, Error> {
        match self.slots.get(&handle) {
            None => Err(Error::UnknownHandle { handle }),
            Some(Slot::Tape) => self.tapes.get_mut(&handle).ok_or(Error::UnknownHandle { handle }),
            Some(other) => Err(other.refuse(handle, "tape")),
        }
    }

    pub(super) fn open_tape(
        &mut self,
        handle: Handle,
        mut tape: Tape,
        paused: bool,
    ) -> Result<Answer, Error> {
        self.check_free(&[handle])?;
        if self.tapes.len() >= MAX_TAPES {
            return Err(Error::TooMany { what: "tapes", limit: MAX_TAPES });
        }
        if !paused {
            self.starts += 1;
            tape.resume(tape.scope, self.starts)?;
        }
        self.tapes.insert(handle, tape);
        self.bind(handle, Slot::Tape)
    }

    pub(super) fn close_tape(&mut self, handle: Handle) -> Result<Answer, Error> {
        match self.slots.get(&handle) {
            None => return Ok(Answer::Done),
            Some(Slot::Tape | Slot::Accumulator | Slot::Poisoned(_)) => {}
            Some(other) => return Err(other.refuse(handle, "tape")),
        }
        self.slots.remove(&handle);
        self.tapes.remove(&handle);
        self.close_accumulator(handle);
        self.forget_repeated();
        Ok(Answer::Done)
    }

    /// A session that holds nothing pays for nothing.
    pub(super) fn forget_repeated(&mut self) {
        if self.slots.is_empty() {
            self.repeated = Repeated::default();
        }
    }

    pub(super) fn stop(&mut self, handle: Handle, strict: bool) -> Result<Answer, Error> {
        match self.accumulators.get_mut(&handle) {
            Some(accumulator) => accumulator.stop(strict)?,
            None => self.tape(handle)?.stop(strict)?,
        }
        Ok(Answer::Done)
    }

    pub(super) fn resume(&mut self, handle: Handle, scope: u32) -> Result<Answer, Error> {
        if self.accumulators.contains_key(&handle) {
            return self.resume_accumulator(handle, scope);
        }
        let since = self.starts + 1;
        self.tape(handle)?.resume(scope, since)?;
        self.starts = since;
        Ok(Answer::Done)
    }

    pub(super) fn reset(&mut self, handle: Handle) -> Result<Answer, Error> {
        self.tape(handle)?.reset()?;
        self.forget_tangents();
        Ok(Answer::Done)
    }

    /// Who a target or source is: a variable is itself and not a reading of it.
    pub(super) fn identify(&self, handle: Handle) -> Result<(ValueId, Aval, bool), Error> {
        match self.slot(handle)? {
            Slot::Value(value) => Ok((value.id, value.tensor.aval(), false)),
            Slot::Variable(variable) => Ok((variable.id, variable.tensor.aval(), true)),
            other => Err(other.refuse(handle, "value or variable")),
        }
    }

    pub(super) fn watch(
        &mut self,
        tape: Handle,
        handles: &[Handle],
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Error> {
        self.tape(tape)?.check_usable()?;
        let watched: Vec<_> =
            handles.iter().map(|&handle| self.identify(handle)).collect::<Result<_, _>>()?;
        let tape = self.tape(tape)?;
        for ((id, aval, is_variable), handle) in watched.into_iter().zip(handles) {
            if !aval.dtype.is_differentiable() {
                warnings.push(format!("handle {handle} is {aval}: watching it gives no gradient"));
            }
            tape.watch(id, &aval)?;
            if is_variable {
                tape.watched_variable(id);
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn watched_variables(&mut self, tape: Handle) -> Result<Answer, Error> {
        let ids: Vec<ValueId> = self.tape(tape)?.variables().collect();
        let mut handles: Vec<(ValueId, Handle)> = self
            .slots
            .iter()
            .filter_map(|(&handle, slot)| match slot {
                Slot::Variable(variable) if ids.contains(&variable.id) => {
                    Some((variable.id, handle))
                }
                _ => None,
            })
            .collect();
        handles.sort_unstable();
        Ok(Answer::Variables(handles.into_iter().map(|(_, handle)| handle).collect()))
    }

    pub(super) fn gradient(
        &mut self,
        request: &GradientRequest,
        scope: u32,
    ) -> Result<Answer, Error> {
        let outputs: Vec<Handle> = request
            .outputs
            .iter()
            .flat_map(|output| {
                [Some(output.gradient), Some(output.indices).filter(|&handle| handle != 0)]
            })
            .flatten()
            .collect();
        self.check_free(&outputs)?;
        if request.outputs.len() != request.sources.len() {
            return Err(Error::OutputCount {
                expected: request.sources.len(),
                given: request.outputs.len(),
            });
        }
        self.tape(request.tape)?.check_usable()?;
        let targets = self.targets(request)?;
        let sources = self.sources(request)?;
        let infos = self.answer_from(request.tape, |session| {
            session.differentiate(request, &targets, &sources, scope)
        })?;
        let kinds = request.expected.iter().copied();
        let expected =
            !request.expected.is_empty() && infos.iter().map(GradientInfo::kind).eq(kinds);
        Ok(if expected { Answer::Done } else { Answer::Gradients(infos) })
    }

    /// Asks a tape for derivatives: a one-shot tape stops recording before and is used up after, unless that fails.
    pub(super) fn answer_from<T>(
        &mut self,
        tape: Handle,
        derive: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.tape(tape)?.check_usable()?;
        let paused = self.tape(tape)?.pause_for_gradient();
        let result = derive(self);
        let tape = self.tape(tape)?;
        match &result {
            Ok(_) => {
                tape.consume();
                self.forget_tangents();
            }
            Err(_) if paused => tape.resume(tape.scope, tape.since())?,
            Err(_) => {}
        }
        result
    }

    /// Says why there is a gradient, or none. Changes nothing.
    pub(super) fn explain(
        &mut self,
        tape: Handle,
        target: Handle,
        source: Handle,
    ) -> Result<Answer, Error> {
        let (target, target_aval, _) = self.identify(target)?;
        let (source, source_aval, _) = self.identify(source)?;
        let tape = self.tape(tape)?;
        tape.check_usable()?;
        let found = explain(tape.trace(), (target, &target_aval), (source, &source_aval));
        Ok(Answer::Explanation(found))
    }

    fn targets(&self, request: &GradientRequest) -> Result<Vec<Target>, Error> {
        let (targets, seeds) = (&request.targets, &request.seeds);
        if !seeds.is_empty() && seeds.len() != targets.len() {
            return Err(Error::SeedCount { targets: targets.len(), seeds: seeds.len() });
        }
        let target = |(position, &handle): (usize, &Handle)| {
            let (id, aval, _) = self.identify(handle)?;
            let seed = match seeds.get(position) {
                None | Some(0) => None,
                Some(&seed) => {
                    let (id, tensor) = self.seed(seed)?;
                    if tensor.aval() != aval {
                        return Err(Error::SeedMismatch {
                            position,
                            given: tensor.aval(),
                            target: aval,
                        });
                    }
                    Some(Operand { id, tensor: Some(tensor) })
                }
            };
            Ok(Target { id, aval, seed })
        };
        targets.iter().enumerate().map(target).collect()
    }

    fn seed(&self, handle: Handle) -> Result<(ValueId, Tensor), Error> {
        let (id, ..) = self.identify(handle)?;
        Ok((id, self.peek(handle)?))
    }

    fn sources(&self, request: &GradientRequest) -> Result<Vec<Source>, Error> {
        let source = |(&handle, output): (&Handle, &GradientOutput)| {
            let (id, aval, _) = self.identify(handle)?;
            Ok(Source { id, aval, sparse: output.indices != 0 })
        };
        request.sources.iter().zip(&request.outputs).map(source).collect()
    }

    fn differentiate(
        &mut self,
        request: &GradientRequest,
        targets: &[Target],
        sources: &[Source],
        scope: u32,
    ) -> Result<Vec<GradientInfo>, Error> {
        let Computed { found, values, zeros } =
            self.computed(request, (targets, sources), scope)?;
        let mut values = values.into_iter();
        let mut zeros = zeros.into_iter();
        let mut infos = Vec::new();
        let missing = || Error::bug("a gradient is missing");
        for ((found, source), output) in found.into_iter().zip(sources).zip(&request.outputs) {
            let aval = source.aval.clone();
            let info = match found {
                Found::Dense(_) => {
                    let value = values.next().ok_or_else(missing)?;
                    self.slots.insert(output.gradient, Slot::Value(value));
                    GradientInfo::Dense(aval)
                }
                Found::Rows { .. } => {
                    for handle in [output.gradient, output.indices] {
                        let value = values.next().ok_or_else(missing)?;
                        self.slots.insert(handle, Slot::Value(value));
                    }
                    GradientInfo::Sparse(aval)
                }
                Found::Absent(reason) => self.absent(*output, reason, aval, zeros.next()),
            };
            infos.push(info);
        }
        Ok(infos)
    }

    /// The gradients that exist, and zeros for the others if they are asked for: made before, so that lacking memory changes
    /// nothing.
    fn computed(
        &mut self,
        request: &GradientRequest,
        (targets, sources): (&[Target], &[Source]),
        scope: u32,
    ) -> Result<Computed, Error> {
        let tape =
            self.tapes.get(&request.tape).ok_or(Error::UnknownHandle { handle: request.tape })?;
        let asked = Asked { trace: tape.trace(), targets, sources };
        // What the body of a function asks for is written once anyway.
        let sight = if self.tracer.is_none() { self.repeated.look(&asked) } else { Sight::New };
        let gradient = match sight {
            Sight::Known(kept) => Ok(kept),
            Sight::New => Err(gradient(asked.trace, targets, sources)?),
            Sight::Again(fingerprint) => {
                let gradient = gradient(asked.trace, targets, sources)?;
                self.repeated.keep(fingerprint, &asked, gradient, &self.ledger)
            }
        };
        match gradient {
            Ok(kept) => {
                let zeros = self.zeros(request, &kept.found, sources)?;
                let mut log = Log::new(self.next_id, self.is_heard(scope));
                let values = kept.prepared.run(&self.ledger, kept.inputs(asked), &mut log)?;
                self.tell(&log, &values, &[], scope)?;
                Ok(Computed { found: kept.found.clone(), values, zeros })
            }
            Err(Gradient { program, found, .. }) => {
                let zeros = self.zeros(request, &found, sources)?;
                let wanted: Vec<usize> = found.iter().flat_map(Found::slots).collect();
                let values = self.run(program, &wanted, &[], scope)?;
                Ok(Computed { found, values, zeros })
            }
        }
    }

    fn zeros(
        &self,
        request: &GradientRequest,
        found: &[Found],
        sources: &[Source],
    ) -> Result<Vec<Tensor>, Error> {
        if !request.zero_unconnected {
            return Ok(Vec::new());
        }
        let absent =
            found.iter().zip(sources).filter(|(found, _)| matches!(found, Found::Absent(_)));
        absent.map(|(_, source)| self.zeros_of(&source.aval)).collect()
    }

    pub(super) fn zeros_of(&self, aval: &Aval) -> Result<Tensor, Error> {
        let attrs = Full { shape: aval.shape.to_i64(), dtype: aval.dtype, value: 0.0 }.write();
        Ok(self.run_op_unheard(&FULL, &attrs, &[])?.remove(0))
    }

    pub(super) fn absent(
        &mut self,
        output: GradientOutput,
        reason: AbsentReason,
        aval: Aval,
        zeros: Option<Tensor>,
    ) -> GradientInfo {
        let Some(tensor) = zeros else {
            self.slots.insert(output.gradient, Slot::Absent(reason));
            return GradientInfo::Absent(reason);
        };
        let value = Value { id: self.new_id(), tensor };
        self.slots.insert(output.gradient, Slot::Value(value));
        GradientInfo::ZeroFilled(reason, aval)
    }
}
