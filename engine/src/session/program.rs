//! Running programs on behalf of a session, and telling its tapes.

use smallvec::SmallVec;

use super::{Session, values::Input};
use crate::{
    array::Tensor,
    error::Error,
    exec::{self, Recorder},
    graph::{Application, Program, Value, ValueId},
    jvp::Ran,
    tape::{Applied, pair},
};

/// What ran, kept until the command has succeeded: a tape must not know of a command that failed.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The last identity given.
    pub(super) next_id: u64,
    wanted: bool,
    /// The applications, if they are wanted.
    pub(super) ran: Vec<Ran>,
}

impl Log {
    /// A log that gives identities from the next one on, and remembers what ran if it is wanted.
    pub(super) fn new(next_id: u64, wanted: bool) -> Self {
        Self { next_id, wanted, ran: Vec::new() }
    }
}

impl Recorder for Log {
    fn ran(
        &mut self,
        application: &Application,
        inputs: &[&Value],
        outputs: &[Tensor],
    ) -> SmallVec<[ValueId; 1]> {
        let ids: SmallVec<[ValueId; 1]> = outputs
            .iter()
            .map(|_| {
                self.next_id += 1;
                ValueId(self.next_id)
            })
            .collect();
        if self.wanted {
            let value = |(&id, tensor): (&ValueId, &Tensor)| Value { id, tensor: tensor.clone() };
            self.ran.push(Ran {
                applied: Applied::Op(application.op, application.attrs.clone()),
                inputs: inputs.iter().map(|&value| value.clone()).collect(),
                outputs: ids.iter().zip(outputs).map(value).collect(),
            });
        }
        ids
    }

    fn hears(&self) -> bool {
        self.wanted
    }

    fn name(&mut self) -> ValueId {
        self.next_id += 1;
        ValueId(self.next_id)
    }
}

impl Session {
    /// Runs a program for the given slots, after the reads that feed it. Nothing changes if it fails.
    pub(super) fn run(
        &mut self,
        program: Program,
        wanted: &[usize],
        reads: &[Input],
        scope: u32,
    ) -> Result<Vec<Value>, Error> {
        let heard = self.tapes.values().any(|tape| tape.hears(scope)) || self.accumulates(scope);
        let mut log = Log::new(self.next_id, heard);
        let values = exec::run_program(&self.ledger, program, wanted, &mut log)?;
        let pushed = self.push(reads, &log.ran, log.next_id, scope)?;
        self.reserve_nodes(log.ran.len() + reads.len() + pushed.len(), scope)?;
        self.record_reads(reads, scope);
        self.next_id = log.next_id;
        for ran in &log.ran {
            let inputs: SmallVec<[_; 4]> = ran.inputs.iter().map(pair).collect();
            let outputs: SmallVec<[_; 2]> = ran.outputs.iter().map(pair).collect();
            self.record(&ran.applied, &inputs, &outputs, false, scope);
        }
        for value in &values {
            self.hold(value.id, scope);
        }
        self.settle(pushed, values.iter().map(|value| value.id), scope);
        Ok(values)
    }

    /// Runs a program of which no tape hears.
    pub(super) fn run_unheard(
        &mut self,
        program: Program,
        wanted: &[usize],
    ) -> Result<Vec<Value>, Error> {
        let mut log = Log::new(self.next_id, false);
        let values = exec::run_program(&self.ledger, program, wanted, &mut log)?;
        self.next_id = log.next_id;
        Ok(values)
    }

    /// Makes room on the tapes that listen.
    pub(super) fn reserve_nodes(&mut self, nodes: usize, scope: u32) -> Result<(), Error> {
        let ledger = &self.ledger;
        self.tapes
            .values_mut()
            .filter(|tape| tape.hears(scope))
            .try_for_each(|tape| tape.trace_mut().reserve(ledger, nodes))
    }

    /// Tells the tapes that listen.
    pub(super) fn record(
        &mut self,
        applied: &Applied,
        inputs: &[(ValueId, &Tensor)],
        outputs: &[(ValueId, &Tensor)],
        held: bool,
        scope: u32,
    ) {
        for tape in self.tapes.values_mut().filter(|tape| tape.hears(scope)) {
            tape.trace_mut().record((applied, &self.tag), inputs, outputs, held);
        }
    }

    fn hold(&mut self, id: ValueId, scope: u32) {
        for tape in self.tapes.values_mut().filter(|tape| tape.hears(scope)) {
            tape.trace_mut().hold(id);
        }
    }
}
