//! Tapes: recordings that answer gradients.

use std::{fmt, panic::Location, sync::Arc};

use gradtape_proto::v1::{self as proto, UnconnectedGradients, command::Kind, reply};

use crate::{
    Explanation, Gradient, Result, Tensor, Variable,
    core::{Core, unexpected},
    queue::Recorder,
};

/// How a tape is opened.
#[derive(Debug, Clone, Copy)]
pub struct TapeOptions {
    /// Whether it answers more than one gradient. Default false.
    pub persistent: bool,
    /// Whether trainable variables are watched when they are read. Default true.
    pub watch_accessed_variables: bool,
    /// Whether it waits for [`Tape::resume`] to start recording. Default false.
    pub paused: bool,
}

impl Default for TapeOptions {
    fn default() -> Self {
        Self { persistent: false, watch_accessed_variables: true, paused: false }
    }
}

/// What a source without a path to the target gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unconnected {
    /// Nothing: its gradient is [absent](crate::GradientKind::Absent).
    #[default]
    Absent,
    /// Zeros of the source's type and shape.
    Zero,
}

impl Unconnected {
    pub(crate) fn to_proto(self) -> i32 {
        match self {
            Self::Absent => UnconnectedGradients::None.into(),
            Self::Zero => UnconnectedGradients::Zero.into(),
        }
    }
}

/// How a gradient is computed.
#[derive(Debug, Clone, Default)]
pub struct GradientOptions<'a> {
    /// Upstream gradients: none, or one for each target; None among them means ones.
    pub seeds: Vec<Option<&'a Tensor>>,
    /// What a source without a path gets.
    pub unconnected: Unconnected,
    /// Whether a gradient may come as rows and their numbers, which saves work where few rows of a large table are
    /// used. Such a gradient stands for its rows alone in expressions. Default false: always dense.
    pub sparse: bool,
}

/// A recording on the server. It records until [stopped](Self::stop), used up or dropped.
///
/// Recording is on for everything in the tape's scope, whichever call enqueues it, not only inside a block.
pub struct Tape {
    core: Arc<Core>,
    scope: u32,
    id: u64,
    location: &'static Location<'static>,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tape({})", self.id)
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        let id = self.id;
        self.core.queue.record(self.scope, self.location, |recorder| recorder.close_tape(id));
    }
}

impl Tape {
    #[track_caller]
    pub(crate) fn open(core: &Arc<Core>, scope: u32, options: TapeOptions) -> Self {
        let location = Location::caller();
        let id = core.queue.record(scope, location, |recorder| {
            let tape = recorder.handle();
            recorder.push(Kind::OpenTape(proto::OpenTape {
                tape,
                persistent: options.persistent,
                watch_accessed_variables: Some(options.watch_accessed_variables),
                paused: options.paused,
            }));
            tape
        });
        Self { core: Arc::clone(core), scope, id, location }
    }

    /// Watches values or variables: what is computed from them later is recorded.
    #[track_caller]
    pub fn watch<T: AsRef<Tensor>>(&self, values: impl IntoIterator<Item = T>) {
        let values = self.ids(values);
        self.push(Kind::WatchTape(proto::WatchTape { tape: self.id, values }));
    }

    /// Stops recording. Stopping a stopped tape changes nothing.
    #[track_caller]
    pub fn stop(&self) {
        self.push(Kind::StopTape(proto::StopTape { tape: self.id, require_recording: false }));
    }

    /// Stops recording; fails in the session if the tape is not recording.
    #[track_caller]
    pub fn stop_recording(&self) {
        self.push(Kind::StopTape(proto::StopTape { tape: self.id, require_recording: true }));
    }

    /// Starts or continues recording. The trace grows on, unless a one-shot tape is used up: then a new one begins.
    #[track_caller]
    pub fn resume(&self) {
        self.push(Kind::ResumeTape(proto::ResumeTape { tape: self.id }));
    }

    /// Empties the tape, which must be recording. What it watched is forgotten.
    #[track_caller]
    pub fn reset(&self) {
        self.push(Kind::ResetTape(proto::ResetTape { tape: self.id }));
    }

    /// The variables that the tape watched, in the order of their creation, without those that this program dropped.
    #[track_caller]
    pub fn watched_variables(&self) -> impl Future<Output = Result<Vec<Variable>>> + Send + use<> {
        let kind = Kind::ListWatchedVariables(proto::ListWatchedVariables { tape: self.id });
        let record = |recorder: &mut Recorder<'_>| recorder.ask(kind);
        let answer = self.core.queue.record(self.scope, Location::caller(), record);
        let core = Arc::clone(&self.core);
        async move {
            let reply = core.answer(answer).await?;
            let Some(reply::Result::Variables(list)) = reply.result else {
                return Err(unexpected(&reply));
            };
            let known = list.variables.into_iter().filter_map(|handle| core.variable(handle));
            Ok(known.map(Variable::from_inner).collect())
        }
    }

    /// Differentiates one target with respect to one source.
    #[track_caller]
    pub fn derivative(&self, target: impl AsRef<Tensor>, source: impl AsRef<Tensor>) -> Gradient {
        self.gradient([target], [source]).remove(0)
    }

    /// Differentiates the sum of the targets with respect to each source; one gradient for each, in their order.
    #[track_caller]
    pub fn gradient<T: AsRef<Tensor>, S: AsRef<Tensor>>(
        &self,
        targets: impl IntoIterator<Item = T>,
        sources: impl IntoIterator<Item = S>,
    ) -> Vec<Gradient> {
        self.gradient_with(targets, sources, &GradientOptions::default())
    }

    /// Differentiates with options.
    #[track_caller]
    pub fn gradient_with<T: AsRef<Tensor>, S: AsRef<Tensor>>(
        &self,
        targets: impl IntoIterator<Item = T>,
        sources: impl IntoIterator<Item = S>,
        options: &GradientOptions<'_>,
    ) -> Vec<Gradient> {
        let targets = self.ids(targets);
        let sources: Vec<S> = sources.into_iter().collect();
        let dtypes = sources.iter().map(|source| source.as_ref().dtype()).collect();
        let sources = self.ids(sources);
        let seeds = options.seeds.iter();
        let output_gradients =
            seeds.map(|seed| seed.map_or(0, |tensor| tensor.id_in(&self.core))).collect();
        let record = |recorder: &mut Recorder<'_>| {
            let mut output = || proto::GradientOutput {
                gradient: recorder.handle(),
                indices: if options.sparse { recorder.handle() } else { 0 },
            };
            let outputs: Vec<_> = sources.iter().map(|_| output()).collect();
            let answer = recorder.listen(Kind::ComputeGradient(proto::ComputeGradient {
                tape: self.id,
                targets,
                sources,
                outputs: outputs.clone(),
                output_gradients,
                expected_kinds: vec![],
                unconnected_gradients: options.unconnected.to_proto(),
            }));
            (outputs, answer)
        };
        let (outputs, answer) = self.core.queue.record(self.scope, Location::caller(), record);
        Gradient::make_all(&self.core, self.scope, &outputs, dtypes, answer)
    }

    /// Differentiates each element of a target with respect to each element of each source. A Jacobian has the target's
    /// shape and then the source's.
    #[track_caller]
    pub fn jacobian<S: AsRef<Tensor>>(
        &self,
        target: impl AsRef<Tensor>,
        sources: impl IntoIterator<Item = S>,
        unconnected: Unconnected,
    ) -> Vec<Gradient> {
        let target = target.as_ref().id_in(&self.core);
        let sources: Vec<S> = sources.into_iter().collect();
        let dtypes = sources.iter().map(|source| source.as_ref().dtype()).collect();
        let sources = self.ids(sources);
        let record = |recorder: &mut Recorder<'_>| {
            let outputs: Vec<u64> = sources.iter().map(|_| recorder.handle()).collect();
            let answer = recorder.listen(Kind::ComputeJacobian(proto::ComputeJacobian {
                tape: self.id,
                target,
                sources,
                outputs: outputs.clone(),
                unconnected_gradients: unconnected.to_proto(),
            }));
            (outputs, answer)
        };
        let (outputs, answer) = self.core.queue.record(self.scope, Location::caller(), record);
        Gradient::make_dense(&self.core, self.scope, &outputs, dtypes, answer)
    }

    /// Differentiates each element of a target with respect to the elements of a source in the same example, examples
    /// lying along the first axis of both. Shape: examples, the target's other extents, the source's other extents.
    /// Without a path it is zeros.
    #[track_caller]
    pub fn batch_jacobian(
        &self,
        target: impl AsRef<Tensor>,
        source: impl AsRef<Tensor>,
    ) -> Gradient {
        let (target, source) = (target.as_ref(), source.as_ref());
        let dtype = source.dtype();
        let (target, source) = (target.id_in(&self.core), source.id_in(&self.core));
        let record = |recorder: &mut Recorder<'_>| {
            let output = recorder.handle();
            let message = proto::ComputeBatchJacobian { tape: self.id, target, source, output };
            (output, recorder.listen(Kind::ComputeBatchJacobian(message)))
        };
        let (output, answer) = self.core.queue.record(self.scope, Location::caller(), record);
        Gradient::make_dense(&self.core, self.scope, &[output], vec![dtype], answer).remove(0)
    }

    /// Says why a target has a gradient with respect to a source, or why it has none.
    #[track_caller]
    pub fn explain<T: AsRef<Tensor>, S: AsRef<Tensor>>(
        &self,
        target: T,
        source: S,
    ) -> impl Future<Output = Result<Explanation>> + Send + use<T, S> {
        let (target, source) =
            (target.as_ref().id_in(&self.core), source.as_ref().id_in(&self.core));
        let kind = Kind::Explain(proto::Explain { tape: self.id, target, source });
        let answer = self
            .core
            .queue
            .record(self.scope, Location::caller(), |recorder| recorder.listen(kind));
        let core = Arc::clone(&self.core);
        async move {
            match core.answer(answer).await? {
                proto::Reply { result: Some(reply::Result::Explanation(reply)), .. } => {
                    Explanation::from_proto(reply)
                }
                reply => Err(unexpected(&reply)),
            }
        }
    }

    #[track_caller]
    fn ids<T: AsRef<Tensor>>(&self, tensors: impl IntoIterator<Item = T>) -> Vec<u64> {
        tensors.into_iter().map(|tensor| tensor.as_ref().id_in(&self.core)).collect()
    }

    #[track_caller]
    fn push(&self, kind: Kind) {
        self.core.queue.record(self.scope, Location::caller(), |recorder| recorder.push(kind));
    }
}
