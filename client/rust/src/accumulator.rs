//! Accumulators: tangents that follow values as ops run.

use std::{fmt, panic::Location, sync::Arc};

use gradtape_proto::v1::{self as proto, command::Kind};

use crate::{Gradient, Tensor, Unconnected, core::Core, queue::Recorder};

/// Forward mode on the server: it computes tangents of everything in its scope until [stopped](Self::stop) or dropped.
///
/// Tapes and accumulators nest in the order in which they last started: an outer one sees what an inner one computes,
/// never the other way round.
pub struct Accumulator {
    core: Arc<Core>,
    scope: u32,
    id: u64,
    location: &'static Location<'static>,
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accumulator({})", self.id)
    }
}

impl Drop for Accumulator {
    fn drop(&mut self) {
        let id = self.id;
        self.core.queue.record(self.scope, self.location, |recorder| recorder.close_tape(id));
    }
}

impl Accumulator {
    #[track_caller]
    pub(crate) fn open<P: AsRef<Tensor>, T: AsRef<Tensor>>(
        core: &Arc<Core>,
        scope: u32,
        directions: impl IntoIterator<Item = (P, T)>,
    ) -> Self {
        let location = Location::caller();
        let (mut primals, mut tangents) = (Vec::new(), Vec::new());
        for (primal, tangent) in directions {
            primals.push(primal.as_ref().id_in(core));
            tangents.push(tangent.as_ref().id_in(core));
        }
        let id = core.queue.record(scope, location, |recorder| {
            let accumulator = recorder.handle();
            let paused = false;
            recorder.push(Kind::OpenAccumulator(proto::OpenAccumulator {
                accumulator,
                primals,
                tangents,
                paused,
            }));
            accumulator
        });
        Self { core: Arc::clone(core), scope, id, location }
    }

    /// Stops accumulating. Stopping a stopped accumulator changes nothing.
    #[track_caller]
    pub fn stop(&self) {
        self.push(Kind::StopTape(proto::StopTape { tape: self.id, require_recording: false }));
    }

    /// Starts again after a stop.
    #[track_caller]
    pub fn resume(&self) {
        self.push(Kind::ResumeTape(proto::ResumeTape { tape: self.id }));
    }

    /// The tangent of a value, which is absent where the value does not depend on the primals.
    #[track_caller]
    pub fn tangent(&self, value: impl AsRef<Tensor>) -> Gradient {
        self.tangents([value], Unconnected::Absent).remove(0)
    }

    /// The tangents of values. They can be read at any time, running or not.
    #[track_caller]
    pub fn tangents<T: AsRef<Tensor>>(
        &self,
        values: impl IntoIterator<Item = T>,
        unconnected: Unconnected,
    ) -> Vec<Gradient> {
        let values: Vec<T> = values.into_iter().collect();
        let dtypes = values.iter().map(|value| value.as_ref().dtype()).collect();
        let values: Vec<u64> =
            values.iter().map(|value| value.as_ref().id_in(&self.core)).collect();
        let record = |recorder: &mut Recorder<'_>| {
            let outputs: Vec<u64> = values.iter().map(|_| recorder.handle()).collect();
            let answer = recorder.listen(Kind::ReadTangent(proto::ReadTangent {
                accumulator: self.id,
                values,
                outputs: outputs.clone(),
                unconnected_gradients: unconnected.to_proto(),
            }));
            (outputs, answer)
        };
        let (outputs, answer) = self.core.queue.record(self.scope, Location::caller(), record);
        Gradient::make_dense(&self.core, self.scope, &outputs, dtypes, answer)
    }

    #[track_caller]
    fn push(&self, kind: Kind) {
        self.core.queue.record(self.scope, Location::caller(), |recorder| recorder.push(kind));
    }
}
