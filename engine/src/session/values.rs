//! Values, variables and generators.

use smallvec::SmallVec;

use super::{
    Session, Slot, Variable,
    forward::Pushed,
    tracing::{Reading, Source},
};
use crate::{
    array::{Array, Tensor},
    attrs::Attrs,
    aval::{Aval, Shape},
    command::{Answer, AssignMode, Handle},
    dtype::DType,
    error::Error,
    graph::{Graph, Operand, Value, ValueId},
    jvp::Ran,
    op::{Kernel, OpDef},
    ops::{
        ADD, ADD_IN_ORDER, GATHER, Gather, RESHAPE, SUBTRACT, SUBTRACT_IN_ORDER,
        TENSOR_SCATTER_ND_UPDATE, ToShape,
    },
    tape::{Applied, pair},
};

/// Most elements that one state may be drawn for.
const MAX_DRAWS: i64 = 1 << 40;

/// An input of a command: a value, or a variable read at this moment.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) value: Value,
    /// The variable that was read, and whether it is trainable.
    pub(super) read: Option<(ValueId, bool)>,
}

impl Session {
    pub(super) fn constant(&mut self, output: Handle, tensor: &Tensor) -> Result<Answer, Error> {
        self.check_free(&[output])?;
        let mut value = Value { id: self.new_id(), tensor: tensor.clone() };
        if let Some(tracer) = &self.tracer {
            value.tensor = tracer.constant(&value)?;
        }
        self.bind(output, Slot::Value(value))
    }

    pub(super) fn op(
        &mut self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[Handle],
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        self.check_free(outputs)?;
        let expected = op.output_count(attrs);
        if outputs.len() != expected {
            return Err(Error::OutputCount { expected, given: outputs.len() });
        }
        if let Some(capture) = self.capture_of(inputs)? {
            return self.capture_op(capture, (op, attrs), inputs, outputs, scope);
        }
        let inputs = self.inputs(inputs)?;
        let values = self.applied(op, attrs, &inputs, scope)?;
        for (&output, value) in outputs.iter().zip(values) {
            self.slots.insert(output, Slot::Value(value));
        }
        Ok(Answer::Done)
    }

    /// Applies an op, and tells tapes and accumulators.
    pub(super) fn applied(
        &mut self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[Input],
        scope: u32,
    ) -> Result<SmallVec<[Value; 1]>, Error> {
        Ok(if let Kernel::Composite(_) = op.kernel {
            self.composite(op, attrs, inputs, scope)?
        } else {
            let tensors: SmallVec<[&Tensor; 4]> =
                inputs.iter().map(|input| &input.value.tensor).collect();
            let heard = self.is_heard(scope);
            if heard {
                self.reserve_nodes(attrs.weight().saturating_add(1 + inputs.len()), scope)?;
            }
            let tensors = self.run_op(op, attrs, &tensors)?;
            let values: SmallVec<[Value; 1]> =
                tensors.into_iter().map(|tensor| Value { id: self.new_id(), tensor }).collect();
            if heard {
                self.tell_applied(&Applied::Op(op, attrs.clone()), inputs, &values, scope)?;
            }
            values
        })
    }

    /// Tells tapes and accumulators of one application. Nothing changes if it fails.
    fn tell_applied(
        &mut self,
        applied: &Applied,
        inputs: &[Input],
        values: &[Value],
        scope: u32,
    ) -> Result<(), Error> {
        let pushed = if self.accumulates(scope) {
            let read = inputs.iter().map(|input| input.value.clone());
            let ran = [Ran::new(applied.clone(), read, values.iter().cloned())];
            self.push(inputs, &ran, self.next_id, scope)?
        } else {
            Pushed::default()
        };
        let nodes = 1 + inputs.len() + pushed.len();
        self.reserve_nodes(applied.weight().saturating_add(nodes), scope)?;
        self.record_reads(inputs, scope);
        let read: SmallVec<[_; 4]> = inputs.iter().map(|input| pair(&input.value)).collect();
        let made: SmallVec<[_; 2]> = values.iter().map(pair).collect();
        self.record(applied, &read, &made, true, scope);
        self.settle(pushed, values.iter().map(|value| value.id), scope);
        Ok(())
    }

    fn composite(
        &mut self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[Input],
        scope: u32,
    ) -> Result<SmallVec<[Value; 1]>, Error> {
        let graph = Graph::default();
        let wanted: Vec<usize> = {
            let operands: SmallVec<[_; 4]> = inputs
                .iter()
                .map(|Input { value, .. }| {
                    let operand = Operand { id: value.id, tensor: Some(value.tensor.clone()) };
                    graph.operand(value.tensor.aval(), operand)
                })
                .collect();
            graph.apply(op, attrs.clone(), &operands)?.iter().map(|var| var.slot()).collect()
        };
        let program = graph.finish()?;
        Ok(self.run(program, &wanted, inputs, scope)?.into())
    }

    /// The inputs of a command.
    pub(super) fn inputs(&mut self, handles: &[Handle]) -> Result<SmallVec<[Input; 3]>, Error> {
        handles.iter().map(|&handle| self.input(handle)).collect()
    }

    fn input(&mut self, handle: Handle) -> Result<Input, Error> {
        match self.slot(handle)? {
            Slot::Value(value) => Ok(Input { value: value.clone(), read: None }),
            Slot::Variable(variable) => {
                let read = Some((variable.id, variable.trainable));
                let tensor = self.reading(variable)?;
                Ok(Input { value: Value { id: self.new_id(), tensor }, read })
            }
            other => Err(other.refuse(handle, "value")),
        }
    }

    /// The value of a variable, read at this moment.
    fn reading(&self, variable: &Variable) -> Result<Tensor, Error> {
        let Variable { id, tensor, trainable, .. } = variable;
        let Some(tracer) = &self.tracer else { return Ok(tensor.clone()) };
        let reading = Reading { variable: *id, aval: tensor.aval(), trainable: *trainable };
        tracer.reading(tensor, reading)
    }

    /// Tells the tapes of the variables that a command read.
    pub(super) fn record_reads(&mut self, inputs: &[Input], scope: u32) {
        for Input { value, read } in inputs {
            if let Some((variable, trainable)) = *read {
                self.record_read(variable, trainable, value, false, scope);
            }
        }
    }

    fn record_read(
        &mut self,
        variable: ValueId,
        trainable: bool,
        value: &Value,
        held: bool,
        scope: u32,
    ) {
        for tape in self.tapes.values_mut().filter(|tape| tape.hears(scope)) {
            tape.accessed(variable, &value.tensor.aval(), trainable);
        }
        let read = [(variable, &value.tensor)];
        self.record(&Applied::identity(), &read, &[pair(value)], held, scope);
    }

    pub(super) fn release(&mut self, handles: &[Handle]) -> Result<Answer, Error> {
        let listener = handles.iter().find_map(|&handle| match self.slots.get(&handle) {
            Some(slot @ (Slot::Tape | Slot::Accumulator)) => Some((handle, slot.kind())),
            _ => None,
        });
        if let Some((handle, found)) = listener {
            let expected = "value, variable, optimizer or generator";
            return Err(Error::WrongKind { handle, expected, found });
        }
        let mut ids = Vec::new();
        for handle in handles {
            let id = match self.slots.remove(handle) {
                Some(Slot::Value(value)) => value.id,
                Some(Slot::Variable(variable)) => {
                    self.forget_variable(variable.id);
                    variable.id
                }
                Some(Slot::Placeholder { capture, .. }) => {
                    self.release_placeholder(capture);
                    continue;
                }
                Some(_) | None => continue,
            };
            for tape in self.tapes.values_mut() {
                tape.trace_mut().release(id);
            }
            ids.push(id);
        }
        if self.has_tangents(&ids) {
            self.forget_tangents();
        }
        self.forget_repeated();
        Ok(Answer::Done)
    }

    // --- variables ---

    pub(super) fn create_variable(
        &mut self,
        handle: Handle,
        name: &str,
        initial: Handle,
        trainable: bool,
    ) -> Result<Answer, Error> {
        self.check_free(&[handle])?;
        let tensor = self.peek(initial)?;
        let variable = Variable { id: self.new_id(), name: name.into(), tensor, trainable };
        self.bind(handle, Slot::Variable(variable))
    }

    pub(super) fn read_variable(
        &mut self,
        handle: Handle,
        output: Handle,
        scope: u32,
    ) -> Result<Answer, Error> {
        self.check_free(&[output])?;
        let variable = self.variable(handle)?;
        let (id, trainable, tensor) = (variable.id, variable.trainable, self.reading(variable)?);
        let value = Value { id: self.new_id(), tensor };
        let input = Input { value: value.clone(), read: Some((id, trainable)) };
        let pushed = self.push(&[input], &[], self.next_id, scope)?;
        self.reserve_nodes(1 + pushed.len(), scope)?;
        self.record_read(id, trainable, &value, true, scope);
        self.settle(pushed, [value.id], scope);
        self.bind(output, Slot::Value(value))
    }

    pub(super) fn variable(&self, handle: Handle) -> Result<&Variable, Error> {
        match self.slot(handle)? {
            Slot::Variable(variable) => Ok(variable),
            other => Err(other.refuse(handle, "variable")),
        }
    }

    pub(super) fn set_variable(&mut self, handle: Handle, tensor: Tensor) {
        if let Some(Slot::Variable(variable)) = self.slots.get_mut(&handle) {
            variable.tensor = tensor;
        }
    }

    pub(super) fn assign(
        &mut self,
        handle: Handle,
        value: Handle,
        mode: AssignMode,
        scope: u32,
    ) -> Result<Answer, Error> {
        let old = self.variable(handle)?.tensor.clone();
        let inputs = self.inputs(&[value])?;
        let new = inputs[0].value.tensor.clone();
        if new.aval() != old.aval() {
            return Err(Error::VariableMismatch { given: new.aval(), variable: old.aval() });
        }
        let combined = self.combine(mode, &old, &new)?;
        self.reserve_nodes(1, scope)?;
        self.record_reads(&inputs, scope);
        self.set_variable(handle, combined);
        Ok(Answer::Done)
    }

    fn combine(&self, mode: AssignMode, old: &Tensor, new: &Tensor) -> Result<Tensor, Error> {
        let op = match mode {
            AssignMode::Replace => return Ok(new.clone()),
            AssignMode::Add => &ADD,
            AssignMode::Subtract => &SUBTRACT,
        };
        Ok(self.run_op_unheard(op, &Attrs::default(), &[old, new])?.remove(0))
    }

    pub(super) fn scatter(
        &mut self,
        handle: Handle,
        indices: Handle,
        updates: Handle,
        mode: AssignMode,
        scope: u32,
    ) -> Result<Answer, Error> {
        let old = self.variable(handle)?.tensor.clone();
        let inputs = self.inputs(&[indices, updates])?;
        let (indices, updates) = (inputs[0].value.tensor.clone(), inputs[1].value.tensor.clone());
        let gather = Gather { axis: 0, batch_dims: 0 }.write();
        // Gathering checks dtype, rank and range of the indices, and says what the updates must look like.
        let rows = self.run_op_unheard(&GATHER, &gather, &[&old, &indices])?.remove(0);
        if rows.aval() != updates.aval() {
            return Err(Error::VariableMismatch { given: updates.aval(), variable: rows.aval() });
        }
        let combined = self.update_rows(&old, &indices, &updates, mode)?;
        self.reserve_nodes(2, scope)?;
        self.record_reads(&inputs, scope);
        self.set_variable(handle, combined);
        Ok(Answer::Done)
    }

    /// The variable's value with rows changed, in the order of the indices.
    fn update_rows(
        &self,
        old: &Tensor,
        indices: &Tensor,
        updates: &Tensor,
        mode: AssignMode,
    ) -> Result<Tensor, Error> {
        let op = match mode {
            AssignMode::Replace => &TENSOR_SCATTER_ND_UPDATE,
            AssignMode::Add => &ADD_IN_ORDER,
            AssignMode::Subtract => &SUBTRACT_IN_ORDER,
        };
        let mut column = indices.aval().shape.to_i64();
        column.push(1);
        let column = ToShape { shape: column }.write();
        let indices = self.run_op_unheard(&RESHAPE, &column, &[indices])?.remove(0);
        Ok(self.run_op_unheard(op, &Attrs::default(), &[old, &indices, updates])?.remove(0))
    }

    // --- generators ---

    pub(super) fn create_generator(&mut self, handle: Handle, key: i64) -> Result<Answer, Error> {
        let id = self.new_id();
        self.bind(handle, Slot::Generator { id, key, counter: 0 })
    }

    pub(super) fn next_state(
        &mut self,
        generator: Handle,
        output: Handle,
        draws: i64,
    ) -> Result<Answer, Error> {
        self.check_free(&[output])?;
        if !(1..=MAX_DRAWS).contains(&draws) {
            return Err(Error::Malformed {
                what: "draws".into(),
                why: "must be from 1 to 2^40".into(),
            });
        }
        let (_, _, counter) = self.generator(generator)?;
        let tensor = self.state_tensor(generator, 0)?;
        self.set_counter(generator, counter.wrapping_add(draws));
        let value = Value { id: self.new_id(), tensor };
        self.bind(output, Slot::Value(value))
    }

    /// Identity, key and counter of a generator. In the body of a function the counter counts from the beginning of a call.
    pub(super) fn generator(&self, handle: Handle) -> Result<(ValueId, i64, i64), Error> {
        match self.slot(handle)? {
            Slot::Generator { id, key, counter } => Ok((*id, *key, *counter)),
            other => Err(other.refuse(handle, "generator")),
        }
    }

    pub(super) fn set_counter(&mut self, handle: Handle, to: i64) {
        if let Some(Slot::Generator { counter, .. }) = self.slots.get_mut(&handle) {
            *counter = to;
        }
    }

    /// The state of a generator, so many draws ahead, as the random ops take it.
    pub(super) fn state_tensor(&self, handle: Handle, ahead: i64) -> Result<Tensor, Error> {
        let (_, key, counter) = self.generator(handle)?;
        let counter = counter.wrapping_add(ahead);
        if let Some(tracer) = &self.tracer {
            let aval = Aval::new(DType::I64, [2]);
            return tracer.input(aval, Source::Generator { handle, ahead: counter });
        }
        let charge = self.ledger.reserve(16)?;
        Ok(Tensor::paid(Array::new(&Shape::from([2]), vec![key, counter])?, charge))
    }
}
