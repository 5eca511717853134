//! Placeholders, custom gradients and functions whose intermediate values are computed again.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Session, Slot, forward::Pushed, values::Input};
use crate::{
    attrs::Attrs,
    aval::Aval,
    command::{Answer, Callee, CustomGradient, FunctionCall, Handle},
    error::Error,
    function::{Capture, Captured, Function},
    graph::{Graph, Operand, Value},
    jvp::Ran,
    ledger::Ledger,
    op::OpDef,
    tape::{Applied, pair},
};

/// Most handles of a kind in one of these commands.
const MAX_HANDLES_EACH: usize = 1024;

impl Session {
    /// Makes placeholders of one capture.
    pub(super) fn create_placeholders(
        &mut self,
        like: &[Handle],
        outputs: &[Handle],
    ) -> Result<Answer, Error> {
        self.check_free(outputs)?;
        check_count("placeholders", like.len(), outputs.len())?;
        let avals: Vec<Aval> =
            like.iter().map(|&handle| self.describe(handle)).collect::<Result<_, _>>()?;
        if avals.is_empty() {
            return Ok(Answer::Done);
        }
        let number = self.new_id().0;
        let mut capture = Capture::default();
        let slots: Vec<usize> = avals.into_iter().map(|aval| capture.parameter(aval)).collect();
        self.captures.insert(number, capture);
        self.bind_placeholders(number, outputs, &slots)
    }

    fn bind_placeholders(
        &mut self,
        capture: u64,
        outputs: &[Handle],
        slots: &[usize],
    ) -> Result<Answer, Error> {
        self.capture_mut(capture)?.bound += outputs.len();
        for (&output, &slot) in outputs.iter().zip(slots) {
            self.slots.insert(output, Slot::Placeholder { capture, slot });
        }
        Ok(Answer::Done)
    }

    /// Dtype and shape of a value, a variable or a placeholder.
    pub(super) fn describe(&self, handle: Handle) -> Result<Aval, Error> {
        match self.slot(handle)? {
            Slot::Placeholder { capture, slot } => Ok(self.capture(*capture)?.aval(*slot)),
            _ => self.peek(handle).map(|tensor| tensor.aval()),
        }
    }

    fn capture(&self, number: u64) -> Result<&Capture, Error> {
        self.captures.get(&number).ok_or_else(|| Error::bug("a placeholder without a capture"))
    }

    fn capture_mut(&mut self, number: u64) -> Result<&mut Capture, Error> {
        self.captures.get_mut(&number).ok_or_else(|| Error::bug("a placeholder without a capture"))
    }

    /// The capture that some handles belong to, if any is a placeholder.
    pub(super) fn capture_of(&self, handles: &[Handle]) -> Result<Option<u64>, Error> {
        let mut found = None;
        for handle in handles {
            if let Some(Slot::Placeholder { capture, .. }) = self.slots.get(handle) {
                if found.is_some_and(|other| other != *capture) {
                    return Err(Error::MixedPlaceholders { handle: *handle });
                }
                found = Some(*capture);
            }
        }
        Ok(found)
    }

    /// Forgets that a handle named something of a capture, and the capture with its last handle.
    pub(super) fn release_placeholder(&mut self, number: u64) {
        if let Some(capture) = self.captures.get_mut(&number) {
            capture.bound -= 1;
            if capture.bound == 0 {
                self.captures.remove(&number);
            }
        }
    }

    /// An op of which an input is a placeholder: appended to the capture, and not computed.
    pub(super) fn capture_op(
        &mut self,
        number: u64,
        (op, attrs): (&'static OpDef, &Attrs),
        inputs: &[Handle],
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        let (inputs, reads) = self.captured(inputs)?;
        let slots = self.extend_capture(number, &reads, scope, |capture, ledger| {
            capture.apply(ledger, (op, attrs), &inputs)
        })?;
        self.bind_placeholders(number, outputs, &slots)
    }

    /// Appends something to a capture, which reads variables now. Nothing changes if that fails.
    fn extend_capture<T>(
        &mut self,
        number: u64,
        reads: &[Input],
        scope: u32,
        extend: impl FnOnce(&mut Capture, &Arc<Ledger>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ledger = Arc::clone(&self.ledger);
        let capture = self.capture_mut(number)?;
        let mark = capture.mark();
        let extended = extend(capture, &ledger)
            .and_then(|extended| self.read_now(reads, scope).map(|()| extended));
        if extended.is_err() {
            self.capture_mut(number)?.rewind(&mark);
        }
        extended
    }

    /// Handles as a capture takes them, and the values among them.
    fn captured(
        &mut self,
        handles: &[Handle],
    ) -> Result<(SmallVec<[Captured; 4]>, Vec<Input>), Error> {
        let mut reads = Vec::new();
        let mut all = SmallVec::new();
        for &handle in handles {
            if let Slot::Placeholder { slot, .. } = self.slot(handle)? {
                all.push(Captured::Slot(*slot));
                continue;
            }
            let input = self.inputs(&[handle])?.remove(0);
            all.push(Captured::Value(input.value.clone()));
            reads.push(input);
        }
        Ok((all, reads))
    }

    /// Tells tapes and accumulators of the variables among inputs.
    fn read_now(&mut self, reads: &[Input], scope: u32) -> Result<(), Error> {
        let pushed = self.push(reads, &[], self.next_id, scope)?;
        self.reserve_nodes(reads.len() + pushed.len(), scope)?;
        self.record_reads(reads, scope);
        self.settle(pushed, reads.iter().map(|input| input.value.id), scope);
        Ok(())
    }

    /// The function from placeholders to results, which may be values, or 0 for none.
    fn function(&mut self, parameters: &[Handle], results: &[Handle]) -> Result<Function, Error> {
        let ledger = Arc::clone(&self.ledger);
        let all: Vec<Handle> = parameters.iter().chain(results).copied().collect();
        let number = self.capture_of(&all)?;
        let mut slots = Vec::new();
        for &handle in parameters {
            match self.slot(handle)? {
                Slot::Placeholder { slot, .. } => slots.push(*slot),
                other => return Err(other.refuse(handle, "placeholder")),
            }
        }
        let mut found = Vec::new();
        for &handle in results {
            let captured =
                if handle == 0 { None } else { Some(self.captured(&[handle])?.0.remove(0)) };
            found.push(captured);
        }
        let mut constant = Capture::default();
        let capture = match number {
            Some(number) => self.captures.get_mut(&number),
            None => Some(&mut constant),
        };
        let capture = capture.ok_or_else(|| Error::bug("a placeholder without a capture"))?;
        // Values among the results are the function's and not the capture's.
        let mark = capture.mark();
        let found = found.iter().map(|one| one.as_ref().map(|one| capture.slot(one))).collect();
        let function = capture.function(&ledger, slots, found);
        capture.rewind(&mark);
        function
    }

    /// Gives results that a client computed a gradient of the client's own.
    pub(super) fn record_custom_gradient(
        &mut self,
        request: &CustomGradient,
        scope: u32,
    ) -> Result<Answer, Error> {
        let CustomGradient { inputs, results, outputs, upstream, gradients } = request;
        self.check_free(outputs)?;
        check_count("results", results.len(), outputs.len())?;
        check_count("upstream", results.len(), upstream.len())?;
        check_count("gradients", inputs.len(), gradients.len())?;
        let input = |&handle: &Handle| {
            let (id, ..) = self.identify(handle)?;
            Ok(Value { id, tensor: self.peek(handle)? })
        };
        let mut read: Vec<Value> = inputs.iter().map(input).collect::<Result<_, Error>>()?;
        let results = self.inputs(results)?;
        for (result, &handle) in results.iter().zip(upstream) {
            fits("upstream", handle, &self.describe(handle)?, &result.value.tensor.aval())?;
        }
        for (input, &handle) in read.iter().zip(gradients).filter(|(_, handle)| **handle != 0) {
            fits("gradients", handle, &self.describe(handle)?, &input.tensor.aval())?;
        }
        let function = Arc::new(self.function(upstream, gradients)?);
        let made: SmallVec<[Value; 1]> = results
            .iter()
            .map(|result| Value { id: self.new_id(), tensor: result.value.tensor.clone() })
            .collect();
        self.read_now(&results, scope)?;
        read.extend(function.operands().map(|(_, value)| value));
        self.record_function(&Applied::Custom(function), &read, &made, scope)?;
        for (&output, value) in outputs.iter().zip(made) {
            self.slots.insert(output, Slot::Value(value));
        }
        Ok(Answer::Done)
    }

    /// Runs a function, and lets tapes remember its inputs alone.
    pub(super) fn call_function(
        &mut self,
        request: &FunctionCall,
        scope: u32,
    ) -> Result<Answer, Error> {
        let FunctionCall { callee, arguments, outputs } = request;
        self.check_free(outputs)?;
        let (parameters, results) = match callee {
            Callee::Defined(function) => {
                return self.call_defined(*function, arguments, outputs, scope);
            }
            Callee::Shown { parameters, results } => (parameters, results),
        };
        check_count("results", results.len(), outputs.len())?;
        check_count("arguments", parameters.len(), arguments.len())?;
        for (&parameter, &argument) in parameters.iter().zip(arguments) {
            fits("arguments", argument, &self.describe(argument)?, &self.describe(parameter)?)?;
        }
        if results.contains(&0) {
            return Err(Error::ZeroHandle);
        }
        let function = Arc::new(self.function(parameters, results)?);
        if let Some(outer) = self.capture_of(arguments)? {
            return self.inline(outer, &function, arguments, outputs, scope);
        }
        let arguments = self.inputs(arguments)?;
        let graph = Graph::default();
        let wanted: Vec<usize> = {
            let operands: SmallVec<[_; 4]> = arguments
                .iter()
                .map(|Input { value, .. }| {
                    let operand = Operand { id: value.id, tensor: Some(value.tensor.clone()) };
                    graph.operand(value.tensor.aval(), operand)
                })
                .collect();
            let written = function.write(&graph, &operands);
            let found = function.results().iter().map(|result| written.0[(*result)?]);
            let found: Option<Vec<_>> = found.collect();
            found
                .ok_or_else(|| Error::bug("a result is missing"))?
                .iter()
                .map(|var| var.slot())
                .collect()
        };
        let program = graph.finish()?;
        let made = if self.accumulates(scope) {
            // Tangents need every intermediate value anyway.
            self.run(program, &wanted, &arguments, scope)?
        } else {
            let ran = self.run_unheard(program, &wanted)?;
            let made: Vec<Value> =
                ran.into_iter().map(|v| Value { id: self.new_id(), tensor: v.tensor }).collect();
            self.read_now(&arguments, scope)?;
            let mut read: Vec<Value> = arguments.iter().map(|input| input.value.clone()).collect();
            read.extend(function.operands().map(|(_, value)| value));
            self.record_function(&Applied::Recomputed(function), &read, &made, scope)?;
            made
        };
        for (&output, value) in outputs.iter().zip(made) {
            self.slots.insert(output, Slot::Value(value));
        }
        Ok(Answer::Done)
    }

    /// A call within another capture: the ops become that capture's own.
    fn inline(
        &mut self,
        outer: u64,
        function: &Function,
        arguments: &[Handle],
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        let (arguments, reads) = self.captured(arguments)?;
        let slots = self.extend_capture(outer, &reads, scope, |capture, ledger| {
            capture.call(ledger, function, &arguments)
        })?;
        self.bind_placeholders(outer, outputs, &slots)
    }

    /// Tells tapes and accumulators of a function.
    fn record_function(
        &mut self,
        applied: &Applied,
        inputs: &[Value],
        outputs: &[Value],
        scope: u32,
    ) -> Result<(), Error> {
        if let Some(tracer) = &self.tracer {
            tracer.note_own_gradient();
        }
        let pushed = if self.accumulates(scope) {
            let ran = [Ran::new(applied.clone(), inputs.iter().cloned(), outputs.iter().cloned())];
            self.push(&[], &ran, self.next_id, scope)?
        } else {
            Pushed::default()
        };
        self.reserve_nodes(1 + pushed.len(), scope)?;
        let read: SmallVec<[_; 4]> = inputs.iter().map(pair).collect();
        let made: SmallVec<[_; 2]> = outputs.iter().map(pair).collect();
        self.record(applied, &read, &made, true, scope);
        self.settle(pushed, outputs.iter().map(|value| value.id), scope);
        Ok(())
    }
}

pub(super) fn check_count(what: &'static str, expected: usize, given: usize) -> Result<(), Error> {
    if expected > MAX_HANDLES_EACH {
        return Err(Error::TooMany { what: "handles in one list", limit: MAX_HANDLES_EACH });
    }
    if expected != given {
        return Err(Error::HandleCount { what, expected, given });
    }
    Ok(())
}

pub(super) fn fits(
    what: &'static str,
    handle: Handle,
    given: &Aval,
    expected: &Aval,
) -> Result<(), Error> {
    if given == expected {
        return Ok(());
    }
    Err(Error::FunctionMismatch { what, handle, given: given.clone(), expected: expected.clone() })
}
