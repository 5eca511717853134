//! Running programs on behalf of a session, and telling its tapes.

use smallvec::SmallVec;

use super::{
    Session,
    tracing::{Hearing, Reading},
    values::Input,
};
use crate::{
    array::Tensor,
    attrs::Attrs,
    error::Error,
    exec::{self, Recorder, Tensors},
    graph::{Application, Program, Value, ValueId},
    jvp::Ran,
    op::OpDef,
    tape::{Applied, pair},
};

/// What ran, kept until the command has succeeded: a tape must not know of a command that failed.
#[derive(Debug, Default)]
pub(super) struct Log<'a> {
    /// The last identity given.
    pub(super) next_id: u64,
    wanted: bool,
    /// The applications, if they are wanted.
    pub(super) ran: Vec<Ran>,
    /// What is to be heard of the program, if it is not all of it.
    hearing: Option<&'a Hearing>,
}

impl<'a> Log<'a> {
    /// A log that gives identities from the next one on, and remembers what ran if it is wanted.
    pub(super) fn new(next_id: u64, wanted: bool) -> Self {
        Self { next_id, wanted, ran: Vec::new(), hearing: None }
    }

    /// The log of a function's program.
    pub(super) fn of(self, hearing: &'a Hearing) -> Self {
        Self { hearing: Some(hearing), ..self }
    }
}

impl Recorder for Log<'_> {
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
        let slot = application.outputs[0];
        if self.wanted && self.hearing.is_none_or(|hearing| !hearing.silent.contains(&slot)) {
            let value = |(&id, tensor): (&ValueId, &Tensor)| Value { id, tensor: tensor.clone() };
            let mut inputs: SmallVec<[Value; 3]> =
                inputs.iter().map(|&value| value.clone()).collect();
            let reading = self.hearing.and_then(|hearing| hearing.readings.get(&slot));
            if let (Some(reading), Some(input)) = (reading, inputs.first_mut()) {
                input.id = reading.variable;
            }
            self.ran.push(Ran {
                applied: Applied::Op(application.op, application.attrs.clone()),
                inputs,
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
    /// Runs one application of an op that is not a composite; in the body of a function, writes it down.
    pub(super) fn run_op(
        &self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[&Tensor],
    ) -> Result<Tensors, Error> {
        match &self.tracer {
            None => exec::run(&self.ledger, op, attrs, inputs),
            Some(tracer) => tracer.run(op, attrs, inputs),
        }
    }

    /// The same for an application of which no tape hears.
    pub(super) fn run_op_unheard(
        &self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[&Tensor],
    ) -> Result<Tensors, Error> {
        match &self.tracer {
            None => exec::run(&self.ledger, op, attrs, inputs),
            Some(tracer) => tracer.run_silently(op, attrs, inputs),
        }
    }

    /// Runs a program; in the body of a function, writes it down.
    pub(super) fn compute(
        &self,
        program: Program,
        wanted: &[usize],
        recorder: &mut dyn Recorder,
    ) -> Result<Vec<Value>, Error> {
        match &self.tracer {
            None => exec::run_program(&self.ledger, program, wanted, recorder),
            Some(tracer) => tracer.run_program(&program, wanted, recorder),
        }
    }

    /// Whether a tape or an accumulator listens to a scope.
    pub(super) fn is_heard(&self, scope: u32) -> bool {
        self.tapes.values().any(|tape| tape.hears(scope)) || self.accumulates(scope)
    }

    /// Runs a program for the given slots, after the reads that feed it. Nothing changes if it fails.
    pub(super) fn run(
        &mut self,
        program: Program,
        wanted: &[usize],
        reads: &[Input],
        scope: u32,
    ) -> Result<Vec<Value>, Error> {
        let mut log = Log::new(self.next_id, self.is_heard(scope));
        let values = self.compute(program, wanted, &mut log)?;
        self.tell(&log, &values, reads, scope)?;
        Ok(values)
    }

    /// Tells tapes and accumulators what ran. Nothing changes if it fails.
    pub(super) fn tell(
        &mut self,
        log: &Log,
        values: &[Value],
        reads: &[Input],
        scope: u32,
    ) -> Result<(), Error> {
        let pushed = self.push(reads, &log.ran, log.next_id, scope)?;
        let weight = log.ran.iter().map(|ran| ran.applied.weight()).fold(0, usize::saturating_add);
        let nodes = log.ran.len() + reads.len() + pushed.len();
        self.reserve_nodes(nodes.saturating_add(weight), scope)?;
        self.record_reads(reads, scope);
        self.next_id = log.next_id;
        for Reading { variable, aval, trainable } in
            log.hearing.into_iter().flat_map(|hearing| hearing.readings.values())
        {
            for tape in self.tapes.values_mut().filter(|tape| tape.hears(scope)) {
                tape.accessed(*variable, aval, *trainable);
            }
        }
        for ran in &log.ran {
            let inputs: SmallVec<[_; 4]> = ran.inputs.iter().map(pair).collect();
            let outputs: SmallVec<[_; 2]> = ran.outputs.iter().map(pair).collect();
            self.record(&ran.applied, &inputs, &outputs, false, scope);
        }
        for value in values {
            self.hold(value.id, scope);
        }
        self.settle(pushed, values.iter().map(|value| value.id), scope);
        Ok(())
    }

    /// Runs a program of which no tape hears.
    pub(super) fn run_unheard(
        &mut self,
        program: Program,
        wanted: &[usize],
    ) -> Result<Vec<Value>, Error> {
        let mut log = Log::new(self.next_id, false);
        let values = self.compute(program, wanted, &mut log)?;
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
