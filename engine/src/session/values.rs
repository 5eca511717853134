//! Values, variables and generators.

use smallvec::SmallVec;

use super::{Session, Slot, Variable, forward::Pushed};
use crate::{
    array::{Array, Tensor},
    attrs::Attrs,
    aval::Shape,
    command::{Answer, AssignMode, Handle},
    dtype::{DType, DTypes},
    error::Error,
    exec,
    graph::{Graph, Operand, Value, ValueId},
    half_precision::{copies, narrow, widen},
    jvp::Ran,
    kernels::{real::Number, scatter},
    op::{Kernel, OpDef},
    ops::{ADD, GATHER, Gather, SUBTRACT, family::positions},
    tape::{Applied, pair},
};

/// Most elements that one state may be drawn for.
const MAX_DRAWS: i64 = 1 << 40;

/// An input of a command: a value, or a variable read at this moment.
pub(super) struct Input {
    pub(super) value: Value,
    /// The variable that was read, and whether it is trainable.
    pub(super) read: Option<(ValueId, bool)>,
}

impl Session {
    pub(super) fn constant(&mut self, output: Handle, tensor: &Tensor) -> Result<Answer, Error> {
        self.check_free(&[output])?;
        let value = Value { id: self.new_id(), tensor: tensor.clone() };
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
        let values = if let Kernel::Composite(_) = op.kernel {
            self.composite(op, attrs, &inputs, scope)?
        } else {
            let tensors: SmallVec<[&Tensor; 4]> =
                inputs.iter().map(|input| &input.value.tensor).collect();
            let applied = Applied::Op(op, attrs.clone());
            self.reserve_nodes(1 + inputs.len(), scope)?;
            let tensors = exec::run(&self.ledger, op, attrs, &tensors)?;
            let values: SmallVec<[Value; 1]> =
                tensors.into_iter().map(|tensor| Value { id: self.new_id(), tensor }).collect();
            let pushed = if self.accumulates(scope) {
                let read = inputs.iter().map(|input| input.value.clone());
                let ran = [Ran::new(applied.clone(), read, values.iter().cloned())];
                self.push(&inputs, &ran, self.next_id, scope)?
            } else {
                Pushed::default()
            };
            self.reserve_nodes(1 + inputs.len() + pushed.len(), scope)?;
            self.record_reads(&inputs, scope);
            {
                let read: SmallVec<[_; 4]> =
                    inputs.iter().map(|input| pair(&input.value)).collect();
                let made: SmallVec<[_; 2]> = values.iter().map(pair).collect();
                self.record(&applied, &read, &made, true, scope);
            }
            self.settle(pushed, values.iter().map(|value| value.id), scope);
            values
        };
        for (&output, value) in outputs.iter().zip(values) {
            self.slots.insert(output, Slot::Value(value));
        }
        Ok(Answer::Done)
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
                let (tensor, read) =
                    (variable.tensor.clone(), Some((variable.id, variable.trainable)));
                Ok(Input { value: Value { id: self.new_id(), tensor }, read })
            }
            other => Err(other.refuse(handle, "value")),
        }
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
        let Variable { id, tensor, trainable, .. } = self.variable(handle)?.clone();
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
        Ok(exec::run(&self.ledger, op, &Attrs::default(), &[old, new])?.remove(0))
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
        let rows = exec::run(&self.ledger, &GATHER, &gather, &[&old, &indices])?.remove(0);
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
        let aval = old.aval();
        let places = positions(indices.array(), aval.shape[0])?;
        let charge = self.ledger.reserve(aval.bytes())?;
        let _copies = self.ledger.reserve(copies(&[aval.clone(), updates.aval()]))?;
        let (old, updates) = (widen(old.array())?, widen(updates.array())?);
        macro_rules! changed {
            ($ty:ty) => {{
                let combine = match mode {
                    AssignMode::Replace => |_: $ty, new: $ty| new,
                    AssignMode::Add => |old: $ty, new: $ty| Number::add(old, new),
                    AssignMode::Subtract => |old: $ty, new: $ty| Number::sub(old, new),
                };
                let rows = (old.elements()?, updates.elements()?);
                Array::new(&aval.shape, scatter::update(rows, &places, combine)?)?
            }};
        }
        let array = match aval.dtype.widened() {
            DType::F32 => changed!(f32),
            DType::F64 => changed!(f64),
            DType::I32 => changed!(i32),
            DType::I64 => changed!(i64),
            DType::Bool if mode == AssignMode::Replace => {
                let rows = (old.elements()?, updates.elements()?);
                Array::new(&aval.shape, scatter::update(rows, &places, |_: bool, new| new)?)?
            }
            DType::Bool => {
                return Err(Error::UnsupportedDType {
                    dtype: DType::Bool,
                    accepted: DTypes::NUMERIC,
                });
            }
            DType::F16 | DType::BF16 => return Err(Error::bug("a widened dtype is narrow")),
        };
        let array = if aval.dtype.is_half() { narrow(&array, aval.dtype)? } else { array };
        Ok(Tensor::paid(array, charge))
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
        let (id, key, counter) = match self.slot(generator)? {
            Slot::Generator { id, key, counter } => (*id, *key, *counter),
            other => return Err(other.refuse(generator, "generator")),
        };
        let charge = self.ledger.reserve(16)?;
        let tensor = Tensor::paid(Array::new(&Shape::from([2]), vec![key, counter])?, charge);
        let next = Slot::Generator { id, key, counter: counter.wrapping_add(draws) };
        self.slots.insert(generator, next);
        let value = Value { id: self.new_id(), tensor };
        self.bind(output, Slot::Value(value))
    }
}
