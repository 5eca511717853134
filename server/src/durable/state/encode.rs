//! From a session to messages and buffers.

use std::collections::HashMap;

use bytes::Bytes;
use gradtape_engine::{
    array,
    aval::Aval,
    command::{Command, Kind as Verb},
    graph,
    image::{
        AccumulatorImage, BodyImage, CaptureImage, Captures, Image, OptimizerImage, TapeImage,
        TapeStatus, Thing as Engine, VariableImage,
    },
    optimizers::Counters,
};
use gradtape_proto::v1::{self, command::Kind as Wire};
use prost::Message;

use super::{
    Accumulator, Body, Captive, Capture, Captured, Generator, Kind, Optimizer, Poisoned, Slots,
    State, Status, Step, Tape, Tensor, Thing, Value, Variable,
};
use crate::{checkpoints::contents, session::replies::Replies, wire::encode};

/// A session's state before its next command, if all of it can be written.
pub fn capture(image: Image, replies: &Replies, next_sequence: u64) -> Option<Captured> {
    let Image { next_id, starts, things, bodies } = image;
    let mut buffers = Buffers::default();
    let things = things
        .into_iter()
        .map(|(handle, thing)| Some(Thing { handle, kind: Some(buffers.thing(thing)?) }));
    let things = things.collect::<Option<_>>()?;
    let bodies = bodies.into_iter().map(|body| buffers.body(body)).collect::<Option<_>>()?;
    let (first_reply, replies) = replies.kept();
    let Buffers { specs, elements, .. } = buffers;
    let state = State {
        next_sequence,
        next_id,
        starts,
        things,
        bodies,
        buffers: specs,
        first_reply,
        replies: replies
            .map(|(digest, reply)| super::Reply { digest, reply: reply.cloned() })
            .collect(),
    };
    Some(Captured { state, buffers: elements })
}

/// Memory that tensors share is written once.
#[derive(Default)]
struct Buffers {
    /// By address and length. All of it stays where it is for as long as this is there.
    known: HashMap<(*const u8, usize), u64>,
    specs: Vec<v1::TensorSpec>,
    elements: Vec<Bytes>,
}

impl Buffers {
    fn tensor(&mut self, tensor: array::Tensor) -> Option<Tensor> {
        let bytes = tensor.array().as_bytes().ok()?;
        let aval = tensor.aval();
        let next = self.elements.len() as u64;
        // Tensors without elements may be of any dtype at one address.
        let key = (bytes.as_ptr(), bytes.len());
        let known = self.known.get(&key).filter(|_| !bytes.is_empty());
        let buffer = known.copied().unwrap_or(next);
        if buffer == next {
            self.known.insert(key, next);
            self.specs.push(encode::spec(&aval));
            self.elements.push(encode::elements(tensor));
        }
        Some(Tensor { buffer, shape: aval.shape.to_i64().to_vec() })
    }

    fn value(&mut self, value: graph::Value) -> Option<Value> {
        Some(Value { id: value.id.0, tensor: Some(self.tensor(value.tensor)?) })
    }

    fn thing(&mut self, thing: Engine) -> Option<Kind> {
        Some(match thing {
            Engine::Value(value) => Kind::Value(self.value(value)?),
            Engine::Absent(reason) => Kind::Absent(encode::absent_reason(reason).into()),
            Engine::Variable(VariableImage { id, name, tensor, trainable }) => {
                let value = Some(self.value(graph::Value { id, tensor })?);
                Kind::Variable(Variable { value, name: name.into(), trainable })
            }
            Engine::Tape(image) => Kind::Tape(tape(image)),
            Engine::Accumulator(image) => Kind::Accumulator(self.accumulator(image)?),
            Engine::Optimizer(image) => Kind::Optimizer(self.optimizer(*image)?),
            Engine::Generator { id, seed, counter } => {
                Kind::Generator(Generator { id: id.0, seed, counter })
            }
            Engine::Function(body) => Kind::Function(body as u64),
            Engine::Poisoned { sequence, tag, reason } => {
                Kind::Poisoned(Poisoned { sequence, tag: tag.into(), reason: reason.into() })
            }
        })
    }

    fn accumulator(&mut self, image: AccumulatorImage) -> Option<Accumulator> {
        let AccumulatorImage { scope, recording, since, tangents } = image;
        let (primals, tangents): (Vec<_>, Vec<_>) =
            tangents.into_iter().map(|(primal, tangent)| (primal.0, tangent)).unzip();
        let tangents = tangents.into_iter().map(|tangent| self.value(tangent));
        let tangents = tangents.collect::<Option<_>>()?;
        Some(Accumulator { scope, recording, since, primals, tangents })
    }

    fn optimizer(&mut self, image: OptimizerImage) -> Option<Optimizer> {
        let OptimizerImage { id, optimizer, states } = image;
        let Counters { iterations, loss_scale, finite_steps } = optimizer.counters();
        let states = states.into_iter().map(|(variable, slots)| {
            let (names, tensors): (Vec<_>, Vec<_>) =
                slots.into_iter().map(|(name, tensor)| (name.into_string(), tensor)).unzip();
            let tensors = tensors.into_iter().map(|tensor| self.tensor(tensor));
            Some(Slots { variable: variable.0, names, tensors: tensors.collect::<Option<_>>()? })
        });
        let states = states.collect::<Option<_>>()?;
        let description = contents::describe_optimizer(&optimizer).ok()?;
        Some(Optimizer { id: id.0, description, iterations, loss_scale, finite_steps, states })
    }

    fn body(&mut self, image: BodyImage) -> Option<Body> {
        let BodyImage { parameters, steps, results, specs, last, references, depth } = image;
        let (parameters, avals): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let (references, ids): (Vec<_>, Vec<_>) = references.into_iter().unzip();
        let specs_of = |avals: &[Aval]| avals.iter().map(encode::spec).collect();
        let steps = steps.into_iter().map(|(captures, command)| {
            let command = source(&command)?;
            Some(Step { captures: self.captures(captures)?, command })
        });
        Some(Body {
            parameters,
            parameter_specs: specs_of(&avals),
            steps: steps.collect::<Option<_>>()?,
            results,
            result_specs: specs_of(&specs),
            last: self.captures(last)?,
            references,
            reference_ids: ids.into_iter().map(|id| id.0).collect(),
            depth: depth as u64,
        })
    }

    fn captures(&mut self, captures: Captures) -> Option<Vec<Capture>> {
        let captures = captures.into_iter().map(|(handle, capture)| {
            let captive = match capture {
                CaptureImage::Value(value) => Captive::Value(self.value(value)?),
                CaptureImage::Absent(reason) => {
                    Captive::Absent(encode::absent_reason(reason).into())
                }
                CaptureImage::Reference(id) => Captive::Reference(id.0),
                CaptureImage::Function(body) => Captive::Function(body as u64),
            };
            Some(Capture { handle, captive: Some(captive) })
        });
        captures.collect()
    }
}

fn tape(image: TapeImage) -> Tape {
    let status = match image.status {
        TapeStatus::Fresh => Status::Fresh,
        TapeStatus::Recording => Status::Recording,
        TapeStatus::Stopped => Status::Stopped,
        TapeStatus::Consumed => Status::Consumed,
    };
    Tape {
        persistent: image.persistent,
        watch_accessed_variables: image.watch_accessed_variables,
        scope: image.scope,
        since: image.since,
        status: status.into(),
        variables: image.variables.into_iter().map(|id| id.0).collect(),
    }
}

/// A command of a body as a message. What a session makes itself, and constants, which may have been uploaded, are written
/// anew; a checkpoint that was restored in a body is gone, so a function that does that cannot be written.
fn source(command: &Command) -> Option<Vec<u8>> {
    let kind = if let Verb::Constant { output, value } = &command.kind {
        let v1::TensorSpec { dtype, shape } = encode::spec(&value.aval());
        let tensor = v1::Tensor { dtype, shape, data: encode::elements(value.clone()) };
        let source = Some(v1::constant::Source::Tensor(tensor));
        Wire::Constant(v1::Constant { output: *output, source })
    } else if let Verb::Release { handles } = &command.kind {
        Wire::Release(v1::Release { handles: handles.clone() })
    } else {
        return command.source.as_ref().map(|source| source.to_vec());
    };
    let (tag, scope) = (command.tag.to_string(), command.scope);
    Some(v1::Command { kind: Some(kind), tag, scope }.encode_to_vec())
}
