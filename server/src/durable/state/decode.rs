//! From messages and buffers to a session.

use std::sync::Arc;

use gradtape_engine::{
    array,
    aval::{Aval, Shape},
    command::AbsentReason,
    error::Error,
    graph::{self, ValueId},
    image::{
        AccumulatorImage, BodyImage, CaptureImage, Captures, Image, OptimizerImage, TapeImage,
        TapeStatus, Thing as Engine, VariableImage,
    },
    ledger::Ledger,
    optimizers::Counters,
};
use gradtape_proto::v1;
use prost::Message;

use super::{
    Accumulator, Body, Captive, Capture, Kind, Optimizer, Slots, State, Status, Step, Tape, Tensor,
    Thing, Value, Variable,
};
use crate::{
    checkpoints::contents,
    session::{
        error::ProtocolError,
        replies::Replies,
        uploads::{Staging, Uploads},
    },
    wire::decode,
};

/// A snapshot whose elements are being read.
#[derive(Debug)]
pub struct Loading {
    state: State,
    ledger: Arc<Ledger>,
    tensors: Vec<array::Tensor>,
    /// The buffer whose elements come next.
    current: Option<Staging>,
}

impl Loading {
    /// Begins to read what follows. `ledger` pays for the tensors.
    pub fn new(state: State, ledger: &Arc<Ledger>) -> Result<Self, ProtocolError> {
        let mut loading =
            Self { state, ledger: Arc::clone(ledger), tensors: Vec::new(), current: None };
        loading.advance()?;
        Ok(loading)
    }

    /// Takes the next elements.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        while !bytes.is_empty() {
            let current = self.current.as_mut().ok_or_else(malformed)?;
            let room = usize::try_from(current.missing()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            current.append(now)?;
            bytes = later;
            self.advance()?;
        }
        Ok(())
    }

    /// Whether all elements are there.
    pub fn is_complete(&self) -> bool {
        self.current.is_none()
    }

    /// Makes tensors of buffers that are complete, and room for the first that is not.
    fn advance(&mut self) -> Result<(), ProtocolError> {
        loop {
            if let Some(staging) = self.current.take_if(|staging| staging.is_complete()) {
                self.tensors.push(staging.finish()?);
            }
            if self.current.is_some() {
                return Ok(());
            }
            let Some(spec) = self.state.buffers.get(self.tensors.len()) else { return Ok(()) };
            self.current = Some(Staging::new(&self.ledger, decode::aval(spec)?)?);
        }
    }

    /// The state, and what its messages say beside it.
    pub fn finish(self) -> Result<(Image, State), ProtocolError> {
        let Self { mut state, ledger, tensors, .. } = self;
        let tensors = Tensors(&tensors);
        let things = std::mem::take(&mut state.things);
        let things = things.into_iter().map(|thing| tensors.thing(thing));
        let things = things.collect::<Result<_, _>>()?;
        let bodies = std::mem::take(&mut state.bodies);
        let bodies = bodies.into_iter().map(|body| tensors.body(&ledger, body));
        let bodies = bodies.collect::<Result<_, _>>()?;
        let (next_id, starts) = (state.next_id, state.starts);
        Ok((Image { next_id, starts, things, bodies }, state))
    }
}

/// The replies that a state keeps, in place of none.
pub fn replies(state: State, into: &mut Replies) {
    into.restore(
        state.first_reply,
        state.replies.into_iter().map(|kept| (kept.digest, kept.reply)),
    );
}

struct Tensors<'a>(&'a [array::Tensor]);

impl Tensors<'_> {
    fn tensor(&self, tensor: Option<Tensor>) -> Result<array::Tensor, ProtocolError> {
        let Tensor { buffer, shape } = tensor.ok_or_else(malformed)?;
        let buffer = usize::try_from(buffer).ok().and_then(|buffer| self.0.get(buffer));
        let buffer = buffer.ok_or_else(malformed)?;
        let shape = Shape::checked(&shape)?;
        if buffer.aval().shape == shape {
            return Ok(buffer.clone());
        }
        Ok(buffer.reshaped(&shape)?)
    }

    fn value(&self, value: Option<Value>) -> Result<graph::Value, ProtocolError> {
        let Value { id, tensor } = value.ok_or_else(malformed)?;
        Ok(graph::Value { id: ValueId(id), tensor: self.tensor(tensor)? })
    }

    fn thing(&self, thing: Thing) -> Result<(u64, Engine), ProtocolError> {
        let Thing { handle, kind } = thing;
        let thing = match kind.ok_or_else(malformed)? {
            Kind::Value(value) => Engine::Value(self.value(Some(value))?),
            Kind::Absent(reason) => Engine::Absent(absent_reason(reason)?),
            Kind::Variable(Variable { value, name, trainable }) => {
                let graph::Value { id, tensor } = self.value(value)?;
                Engine::Variable(VariableImage { id, name: name.into(), tensor, trainable })
            }
            Kind::Tape(tape) => Engine::Tape(read_tape(tape)?),
            Kind::Accumulator(accumulator) => Engine::Accumulator(self.accumulator(accumulator)?),
            Kind::Optimizer(optimizer) => Engine::Optimizer(Box::new(self.optimizer(optimizer)?)),
            Kind::Generator(generator) => {
                let super::Generator { id, seed, counter } = generator;
                Engine::Generator { id: ValueId(id), seed, counter }
            }
            Kind::Function(body) => {
                Engine::Function(usize::try_from(body).map_err(|_| malformed())?)
            }
            Kind::Poisoned(super::Poisoned { sequence, tag, reason }) => {
                Engine::Poisoned { sequence, tag: tag.into(), reason: reason.into() }
            }
        };
        Ok((handle, thing))
    }

    fn accumulator(&self, accumulator: Accumulator) -> Result<AccumulatorImage, ProtocolError> {
        let Accumulator { scope, recording, since, primals, tangents } = accumulator;
        same(primals.len(), tangents.len())?;
        let tangents = primals
            .into_iter()
            .zip(tangents)
            .map(|(primal, tangent)| Ok((ValueId(primal), self.value(Some(tangent))?)));
        let tangents = tangents.collect::<Result<_, ProtocolError>>()?;
        Ok(AccumulatorImage { scope, recording, since, tangents })
    }

    fn optimizer(&self, optimizer: Optimizer) -> Result<OptimizerImage, ProtocolError> {
        let Optimizer { id, description, iterations, loss_scale, finite_steps, states } = optimizer;
        let counters = Counters { iterations, loss_scale, finite_steps };
        let optimizer = contents::read_optimizer(&description)?.resumed(counters)?;
        let states = states.into_iter().map(|Slots { variable, names, tensors }| {
            same(names.len(), tensors.len())?;
            let slots = names.into_iter().zip(tensors);
            let slots = slots.map(|(name, tensor)| Ok((name.into(), self.tensor(Some(tensor))?)));
            Ok((ValueId(variable), slots.collect::<Result<_, ProtocolError>>()?))
        });
        let states = states.collect::<Result<_, ProtocolError>>()?;
        Ok(OptimizerImage { id: ValueId(id), optimizer, states })
    }

    fn body(&self, ledger: &Arc<Ledger>, body: Body) -> Result<BodyImage, ProtocolError> {
        same(body.parameters.len(), body.parameter_specs.len())?;
        same(body.references.len(), body.reference_ids.len())?;
        let specs = avals(&body.parameter_specs)?;
        let uploads = Uploads::new(0);
        let context = decode::Context {
            ledger,
            uploads: &uploads,
            max_inline_bytes: usize::MAX,
            has_log: true,
            is_portable: true,
        };
        let steps = body.steps.into_iter().map(|Step { captures, command }| {
            let mut message = v1::Command::decode(&*command).map_err(|_| malformed())?;
            let tag = decode::tag(&message).into();
            let decoded = decode::command(&context, &mut message, &tag);
            let mut decoded = decoded.map_err(|rejected| rejected.error)?;
            decoded.source = decode::keeps_source(&decoded).then(|| command.into());
            Ok((self.captures(captures)?, Arc::new(decoded)))
        });
        Ok(BodyImage {
            parameters: body.parameters.into_iter().zip(specs).collect(),
            steps: steps.collect::<Result<_, ProtocolError>>()?,
            results: body.results,
            specs: avals(&body.result_specs)?,
            last: self.captures(body.last)?,
            references: body
                .references
                .into_iter()
                .zip(body.reference_ids.into_iter().map(ValueId))
                .collect(),
            depth: usize::try_from(body.depth).map_err(|_| malformed())?,
        })
    }

    fn captures(&self, captures: Vec<Capture>) -> Result<Captures, ProtocolError> {
        let captures = captures.into_iter().map(|Capture { handle, captive }| {
            let capture = match captive.ok_or_else(malformed)? {
                Captive::Value(value) => CaptureImage::Value(self.value(Some(value))?),
                Captive::Absent(reason) => CaptureImage::Absent(absent_reason(reason)?),
                Captive::Reference(id) => CaptureImage::Reference(ValueId(id)),
                Captive::Function(body) => {
                    CaptureImage::Function(usize::try_from(body).map_err(|_| malformed())?)
                }
            };
            Ok((handle, capture))
        });
        captures.collect()
    }
}

fn avals(specs: &[v1::TensorSpec]) -> Result<Vec<Aval>, ProtocolError> {
    Ok(specs.iter().map(decode::aval).collect::<Result<_, Error>>()?)
}

fn read_tape(tape: Tape) -> Result<TapeImage, ProtocolError> {
    let status = match tape.status() {
        Status::Unspecified => return Err(malformed()),
        Status::Fresh => TapeStatus::Fresh,
        Status::Recording => TapeStatus::Recording,
        Status::Stopped => TapeStatus::Stopped,
        Status::Consumed => TapeStatus::Consumed,
    };
    Ok(TapeImage {
        persistent: tape.persistent,
        watch_accessed_variables: tape.watch_accessed_variables,
        scope: tape.scope,
        since: tape.since,
        status,
        variables: tape.variables.into_iter().map(ValueId).collect(),
    })
}

fn absent_reason(reason: i32) -> Result<AbsentReason, ProtocolError> {
    Ok(match v1::AbsentReason::try_from(reason) {
        Ok(v1::AbsentReason::NotWatched) => AbsentReason::NotWatched,
        Ok(v1::AbsentReason::Dtype) => AbsentReason::DType,
        Ok(v1::AbsentReason::StopGradient) => AbsentReason::StopGradient,
        Ok(v1::AbsentReason::NoDerivative) => AbsentReason::NoDerivative,
        Ok(v1::AbsentReason::NoPath) => AbsentReason::NoPath,
        Ok(v1::AbsentReason::Unspecified) | Err(_) => return Err(malformed()),
    })
}

fn same(one: usize, other: usize) -> Result<(), ProtocolError> {
    if one == other { Ok(()) } else { Err(malformed()) }
}

fn malformed() -> ProtocolError {
    ProtocolError::malformed("snapshot", "cannot be read")
}
