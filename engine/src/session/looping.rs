//! Loops that the server runs: a function is called again and again, with batches of datasets that the session holds.
//!
//! A loop is executed step by step ([`Session::proceed`]), so that whoever runs the session can serve others in between, and
//! stop it. Each step is a call: it takes effect as a whole or not at all, and those before it stay.

use std::sync::Arc;

use super::{
    Session, Slot,
    defining::Body,
    functions::{check_count, fits},
    resident::Residents,
    values::Input,
};
use crate::{
    array::{Array, Tensor},
    aval::{Aval, Shape},
    command::{Answer, Command, Handle, Kind, LoopInfo, LoopReport, LoopRequest, Outcome},
    dtype::DType,
    error::Error,
    exec,
    graph::Value,
    ledger::Charge,
    ops::{GATHER, Gather},
    random::State,
};

/// Most steps of one loop.
pub(super) const MAX_STEPS: i64 = 1 << 40;

/// Most reports of one loop: they come together in its reply.
pub(super) const MAX_REPORTS: i64 = 4096;

/// How far the random numbers of two epochs are apart: more than a tensor has elements.
const EPOCH_NUMBERS: i64 = 1 << 32;

/// What became of a command.
#[derive(Debug)]
pub enum Progress {
    /// It is done.
    Done(Outcome),
    /// It is a loop, and has more steps to do.
    Working(Box<Working>),
}

/// A loop that is being executed.
#[derive(Debug)]
pub struct Working {
    sequence: u64,
    command: Command,
    body: Arc<Body>,
    batches: Option<Batches>,
    arguments: Vec<Input>,
    results: Vec<Value>,
    done: i64,
    stopped: bool,
    /// After how many steps it ends early, and with what error, if with one.
    ends_after: Option<(i64, Option<Error>)>,
    reports: Vec<LoopReport>,
    /// The newest report, until it is taken.
    fresh: Option<LoopReport>,
    /// Where steps are done in place.
    pub(super) residents: Residents,
}

/// What a loop begins with.
type Prepared = (Arc<Body>, Option<Batches>, Vec<Input>);

impl Working {
    /// Lets the loop end before its next step.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Lets the loop end after so many steps, as it did before: as if it had been stopped, or with an error.
    pub fn end_after(&mut self, steps: i64, error: Option<Error>) {
        self.ends_after = Some((steps, error));
    }

    /// Sequence number of the command.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The newest report, if it was not taken before and its client wants it at once.
    pub fn take_report(&mut self) -> Option<LoopReport> {
        self.fresh.take()
    }

    /// The scope of its command.
    pub(super) fn scope(&self) -> u32 {
        self.command.scope
    }

    /// What is called.
    pub(super) fn body(&self) -> &Arc<Body> {
        &self.body
    }

    /// How many datasets there are.
    pub(super) fn datasets(&self) -> usize {
        self.batches.as_ref().map_or(0, |batches| batches.datasets.len())
    }

    /// How many results become arguments of the next step.
    pub(super) fn carried(&self) -> usize {
        self.request().map_or(0, |request| request.carried)
    }

    /// An argument of the next step, counted behind the datasets.
    pub(super) fn argument(&self, position: usize) -> Option<&Tensor> {
        self.arguments.get(position).map(|argument| &argument.value.tensor)
    }

    /// The result that says whether there is a next step.
    pub(super) fn condition(&self) -> Option<usize> {
        self.request().ok().and_then(|request| request.while_result)
    }

    /// Steps that were done.
    pub fn done(&self) -> i64 {
        self.done
    }

    /// Another step was done.
    pub(super) fn count_step(&mut self) {
        self.done += 1;
    }

    /// The step after which there is something to do: a report, or the end.
    pub(super) fn pause(&self) -> Result<i64, Error> {
        let LoopRequest { steps, report_every: every, .. } = *self.request()?;
        let report = if every > 0 { (self.done / every + 1).saturating_mul(every) } else { steps };
        let end = self.ends_after.as_ref().map_or(steps, |(end, _)| *end);
        Ok(report.min(steps).min(end))
    }

    /// The batches of the next step.
    pub(super) fn next_batches(&mut self, session: &Session) -> Result<Vec<Tensor>, Error> {
        let Some(batches) = &mut self.batches else { return Ok(Vec::new()) };
        let indices = match batches.repeated.take() {
            Some(indices) => indices,
            None => batches.next(session)?,
        };
        let gather = Gather { axis: 0, batch_dims: 0 }.write();
        let mut taken = Vec::with_capacity(batches.datasets.len());
        for dataset in &batches.datasets {
            taken.extend(exec::run(&session.ledger, &GATHER, &gather, &[dataset, &indices])?);
        }
        batches.last = Some(indices);
        Ok(taken)
    }

    /// The next step takes the batches of the last one again.
    pub(super) fn repeat_batches(&mut self) {
        if let Some(batches) = &mut self.batches {
            batches.repeated = batches.last.take();
        }
    }

    /// Results become arguments of the next step.
    pub(super) fn carry(&mut self, results: &[Value]) {
        let carried = self.carried();
        for (argument, result) in self.arguments.iter_mut().zip(results).take(carried) {
            argument.value = result.clone();
        }
    }

    fn request(&self) -> Result<&LoopRequest, Error> {
        match &self.command.kind {
            Kind::RunLoop(request) => Ok(request),
            _ => Err(Error::bug("another command works on")),
        }
    }
}

impl Session {
    /// Begins a command. All but loops are done at once.
    pub fn begin(&mut self, sequence: u64, command: Command) -> Progress {
        match &command.kind {
            Kind::RunLoop(request) if !self.definitions.contains_key(&command.scope) => {
                let prepared = self.prepare_loop(request);
                self.begin_loop(sequence, command, prepared)
            }
            _ => Progress::Done(self.apply(sequence, command)),
        }
    }

    /// All steps of a loop.
    pub(super) fn run_loop(&mut self, sequence: u64, command: Command) -> Outcome {
        match self.begin(sequence, command) {
            Progress::Done(outcome) => outcome,
            Progress::Working(mut working) => loop {
                if let Some(outcome) = self.proceed(&mut working) {
                    return outcome;
                }
            },
        }
    }

    fn begin_loop(
        &mut self,
        sequence: u64,
        command: Command,
        prepared: Result<Prepared, Error>,
    ) -> Progress {
        self.tag = Arc::clone(&command.tag);
        match prepared {
            Ok((body, batches, arguments)) => Progress::Working(Box::new(Working {
                sequence,
                command,
                body,
                batches,
                arguments,
                results: Vec::new(),
                done: 0,
                stopped: false,
                ends_after: None,
                reports: Vec::new(),
                fresh: None,
                residents: Residents::default(),
            })),
            Err(error) => Progress::Done(self.fail_loop(sequence, &command, error)),
        }
    }

    /// Does the next step of a loop. Gives the outcome after the last.
    pub fn proceed(&mut self, working: &mut Working) -> Option<Outcome> {
        self.tag = Arc::clone(&working.command.tag);
        let result = self.next_step(working);
        match result {
            Ok(None) => None,
            Ok(Some(answer)) => Some(Outcome { result: Ok(answer), warnings: Vec::new() }),
            Err(error) => Some(self.fail_loop(working.sequence, &working.command, error)),
        }
    }

    fn fail_loop(&mut self, sequence: u64, command: &Command, error: Error) -> Outcome {
        let Command { kind, tag, .. } = command;
        let (op, outputs) = (kind.verb().into(), kind.outputs());
        let failure = self.fail(sequence, tag, error, op, &outputs, self.known(kind));
        Outcome { result: Err(failure), warnings: Vec::new() }
    }

    /// Looks everything up and checks it, before the first step.
    fn prepare_loop(&mut self, request: &LoopRequest) -> Result<Prepared, Error> {
        self.check_free(&request.outputs)?;
        let body = match self.slot(request.function)? {
            Slot::Function(defined) => Arc::clone(&defined.body),
            other => return Err(other.refuse(request.function, "function")),
        };
        let malformed =
            |what: &str, why: String| Err(Error::Malformed { what: what.into(), why: why.into() });
        if !(1..=MAX_STEPS).contains(&request.steps) {
            return malformed("steps", format!("must be from 1 to {MAX_STEPS}"));
        }
        let every = request.report_every;
        if every < 0 || every > 0 && request.steps / every > MAX_REPORTS {
            return malformed(
                "report_every",
                format!("must be 0, or so large that there are at most {MAX_REPORTS} reports"),
            );
        }
        let given = request.datasets.len() + request.arguments.len();
        check_count("datasets and arguments", body.parameters.len(), given)?;
        check_count("outputs", body.results.len(), request.outputs.len())?;
        let batches = self.batches(request)?;
        let mut expected = body.parameters.iter().map(|(_, aval)| aval);
        if let Some(batches) = &batches {
            for (&handle, expected) in request.datasets.iter().zip(expected.by_ref()) {
                let Aval { dtype, shape } = self.describe(handle)?;
                let examples = shape.iter().skip(1).copied();
                let shape = std::iter::once(batches.size).chain(examples).collect();
                let batch = Aval { dtype, shape };
                fits("datasets", handle, &batch, expected)?;
            }
        }
        for (&handle, expected) in request.arguments.iter().zip(expected) {
            fits("arguments", handle, &self.describe(handle)?, expected)?;
        }
        let arguments = self.inputs(&request.arguments)?.into_vec();
        check_carried(request, &body, &arguments)?;
        let condition = request.while_result.map(|result| body.specs.get(result));
        if condition.is_some_and(|spec| spec != Some(&Aval::scalar(DType::Bool))) {
            return malformed("while_result", "is no result that is a bool scalar".into());
        }
        Ok((body, batches, arguments))
    }

    fn batches(&self, request: &LoopRequest) -> Result<Option<Batches>, Error> {
        let mut datasets = Vec::new();
        for &handle in &request.datasets {
            datasets.push(self.peek(handle)?);
        }
        let Some(first) = datasets.first() else { return Ok(None) };
        let malformed =
            |why: &str| Err(Error::Malformed { what: "datasets".into(), why: why.into() });
        let Some(&examples) = first.aval().shape.first() else {
            return malformed("need a first axis, of examples");
        };
        if datasets.iter().any(|set| set.aval().shape.first() != Some(&examples)) {
            return malformed("must have the same first extent");
        }
        let size = match usize::try_from(request.batch_size) {
            Ok(0) => examples,
            Ok(size) => size,
            Err(_) => return malformed("batch_size must not be negative"),
        };
        if size == 0 || size > examples {
            return malformed("have fewer examples than a batch");
        }
        let charge = self.ledger.reserve(size_of::<i64>() as u64 * examples as u64)?;
        let order = (0_i64..).take(examples).collect();
        let seed = request.shuffle_seed;
        Ok(Some(Batches {
            datasets,
            size,
            order,
            seed,
            next: 0,
            epoch: 0,
            last: None,
            repeated: None,
            _charge: charge,
        }))
    }

    /// One step, and the answer if it was the last.
    fn next_step(&mut self, working: &mut Working) -> Result<Option<Answer>, Error> {
        let request = working.request()?;
        let (function, steps) = (request.function, request.steps);
        let every = request.report_every;
        let (streams, condition) = (request.stream_reports, request.while_result);
        if let Some((_, error)) = working.ends_after.take_if(|(end, _)| working.done >= *end) {
            working.stopped = true;
            if let Some(error) = error {
                return Err(at_step(working.done + 1, error));
            }
        }
        if !working.stopped {
            let results = self.some_steps(working, function)?;
            working.carry(&results);
            let step = working.done;
            if every > 0 && step % every == 0 {
                let values = results.iter().filter_map(|result| scalar(&result.tensor)).collect();
                let report = LoopReport { step, values };
                working.fresh = streams.then(|| report.clone());
                working.reports.push(report);
            }
            let holds = |&result: &usize| results.get(result).is_some_and(is_true);
            let ends = condition.as_ref().is_some_and(|result| !holds(result));
            working.results = results;
            if step < steps && !ends {
                return Ok(None);
            }
        }
        if working.done == 0 {
            return Err(Error::Cancelled);
        }
        let outputs: Vec<Handle> = working.request()?.outputs.clone();
        for (output, value) in outputs.into_iter().zip(std::mem::take(&mut working.results)) {
            self.slots.insert(output, Slot::Value(value));
        }
        Ok(Some(Answer::Looped(LoopInfo {
            steps: working.done,
            stopped: working.stopped && working.done < steps,
            reports: std::mem::take(&mut working.reports),
        })))
    }

    /// At least one step, if none fails. Gives the results of the last.
    fn some_steps(&mut self, working: &mut Working, function: Handle) -> Result<Vec<Value>, Error> {
        if let Some(mut resident) = self.resident(working, function) {
            let results = self.steps_in_place(working, &mut resident);
            working.residents.put(resident);
            if let Some(results) = results? {
                return Ok(results);
            }
        }
        working.residents.call();
        let results = self.loop_step(working, function);
        let results = results.map_err(|error| at_step(working.done + 1, error))?;
        working.done += 1;
        Ok(results)
    }

    fn loop_step(&mut self, working: &mut Working, function: Handle) -> Result<Vec<Value>, Error> {
        let mut inputs = Vec::new();
        for tensor in working.next_batches(self)? {
            inputs.push(Input { value: Value { id: self.new_id(), tensor }, read: None });
        }
        // A variable is read before the first step, and not again.
        inputs.extend(
            working.arguments.iter_mut().map(|argument| Input {
                value: argument.value.clone(),
                read: argument.read.take(),
            }),
        );
        self.invoke(function, &working.body, &inputs, working.command.scope)
    }
}

/// The error of a step.
pub(super) fn at_step(step: i64, error: Error) -> Error {
    Error::LoopStep { step, error: Box::new(error) }
}

/// Checks that the results that are carried on fit where they go.
fn check_carried(request: &LoopRequest, body: &Body, arguments: &[Input]) -> Result<(), Error> {
    let carried = request.carried;
    if carried > arguments.len() || carried > body.results.len() {
        return Err(Error::Malformed {
            what: "carried".into(),
            why: "there are fewer arguments or results".into(),
        });
    }
    let pairs = body.specs.iter().zip(arguments).zip(&request.arguments).take(carried);
    for ((given, argument), &handle) in pairs {
        fits("carried", handle, given, &argument.value.tensor.aval())?;
    }
    Ok(())
}

/// The batches of datasets, epoch after epoch.
#[derive(Debug)]
struct Batches {
    datasets: Vec<Tensor>,
    size: usize,
    /// The examples in the order of this epoch.
    order: Vec<i64>,
    seed: Option<i64>,
    /// Place in `order` of the next batch.
    next: usize,
    epoch: i64,
    /// The numbers of the last step's examples.
    last: Option<Tensor>,
    /// The numbers of the next step's examples, if it is the last one done again.
    repeated: Option<Tensor>,
    _charge: Charge,
}

impl Batches {
    /// The numbers of the next batch's examples. Examples that do not fill a batch are left out of the epoch.
    fn next(&mut self, session: &Session) -> Result<Tensor, Error> {
        let fresh = self.next == 0;
        let full = self.next + self.size <= self.order.len();
        if !full {
            self.next = 0;
            self.epoch += 1;
        }
        if (fresh || !full)
            && let Some(seed) = self.seed
        {
            shuffle(&mut self.order, State::new(seed, self.epoch.wrapping_mul(EPOCH_NUMBERS)));
        }
        let charge = session.ledger.reserve(Aval::new(DType::I64, [self.size]).bytes())?;
        let indices = self.order[self.next..self.next + self.size].to_vec();
        self.next += self.size;
        Ok(Tensor::paid(Array::new(&Shape::from([self.size]), indices)?, charge))
    }
}

/// Orders the numbers from 0 on by chance (Fisher and Yates), the same for the same state.
fn shuffle(order: &mut [i64], state: State) {
    order.iter_mut().zip(0..).for_each(|(place, number)| *place = number);
    for last in (1..order.len()).rev() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a tensor has fewer than 2^53 elements"
        )]
        let other = (state.uniform(last as u64) * (last + 1) as f64) as usize;
        order.swap(last, other.min(last));
    }
}

/// Whether a result says that a loop goes on.
fn is_true(result: &Value) -> bool {
    scalar(&result.tensor).is_some_and(|number| number > 0.0)
}

/// The element of a scalar, as reports carry it.
fn scalar(tensor: &Tensor) -> Option<f64> {
    if tensor.array().shape() != [0; 0] {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "reports are floating-point")]
    match tensor.array() {
        Array::F32(a) => a.first().map(|&x| x.into()),
        Array::F64(a) => a.first().copied(),
        Array::I32(a) => a.first().map(|&x| x.into()),
        Array::I64(a) => a.first().map(|&x| x as f64),
        Array::Bool(a) => a.first().map(|&x| u8::from(x).into()),
        Array::F16(a) => a.first().map(|&x| x.into()),
        Array::BF16(a) => a.first().map(|&x| x.into()),
    }
}
