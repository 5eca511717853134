//! Running programs on behalf of a session, and telling its tapes.

use smallvec::SmallVec;

use super::{Session, values::Input};
use crate::{
    array::Tensor,
    attrs::Attrs,
    error::Error,
    exec::{self, Recorder},
    graph::{Application, Program, Value, ValueId},
    op::OpDef,
    tape::pair,
};

/// What ran, kept until the command has succeeded: a tape must not know of a command that failed.
#[derive(Debug, Default)]
pub(super) struct Log {
    next_id: u64,
    wanted: bool,
    ran: Vec<Ran>,
}

#[derive(Debug)]
struct Ran {
    op: &'static OpDef,
    attrs: Attrs,
    inputs: SmallVec<[Value; 3]>,
    outputs: SmallVec<[Value; 1]>,
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
            self.ran.push(Ran {
                op: application.op,
                attrs: application.attrs.clone(),
                inputs: inputs.iter().map(|&value| value.clone()).collect(),
                outputs: ids
                    .iter()
                    .zip(outputs)
                    .map(|(&id, tensor)| Value { id, tensor: tensor.clone() })
                    .collect(),
            });
        }
        ids
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
        let heard = self.tapes.values().any(|tape| tape.hears(scope));
        let mut log = Log { next_id: self.next_id, wanted: heard, ran: Vec::new() };
        let values = exec::run_program(&self.ledger, program, wanted, &mut log)?;
        self.reserve_nodes(log.ran.len() + reads.len(), scope)?;
        self.record_reads(reads, scope);
        self.next_id = log.next_id;
        for ran in &log.ran {
            let inputs: SmallVec<[_; 4]> = ran.inputs.iter().map(pair).collect();
            let outputs: SmallVec<[_; 2]> = ran.outputs.iter().map(pair).collect();
            self.record(ran.op, &ran.attrs, &inputs, &outputs, false, scope);
        }
        for value in &values {
            self.hold(value.id, scope);
        }
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
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[(ValueId, &Tensor)],
        outputs: &[(ValueId, &Tensor)],
        held: bool,
        scope: u32,
    ) {
        for tape in self.tapes.values_mut().filter(|tape| tape.hears(scope)) {
            tape.trace_mut().record(op, attrs, inputs, outputs, held);
        }
    }

    fn hold(&mut self, id: ValueId, scope: u32) {
        for tape in self.tapes.values_mut().filter(|tape| tape.hears(scope)) {
            tape.trace_mut().hold(id);
        }
    }
}
