//! Functions that the server traces once and runs as one command, and loops of them.
//!
//! The body is a closure that is called at once. What it does in the session's scope is shown to the server and computes
//! nothing; its tensors have a type and a shape and no elements yet.

use std::{fmt, panic::Location, pin::Pin, sync::Arc};

use gradtape_proto::v1::{self as proto, command::Kind, reply};

use crate::{
    DType, Result, Session, Spec, Tensor,
    core::{Core, Handle, unexpected},
    queue::{AnswerReceiver, Reports},
};

/// A function on the server. Cloning copies the handle; the server forgets the function with the last copy.
#[derive(Debug, Clone)]
pub struct Function {
    handle: Arc<Handle>,
    results: Vec<Option<DType>>,
}

impl Session {
    /// Defines a function: `body` is called at once, with tensors that stand for the arguments.
    ///
    /// The body may do what a program may: read and assign variables, open tapes and ask them for gradients, step
    /// optimizers, draw random numbers, call other functions. It may not ask for elements, and not make variables,
    /// optimizers or generators. Values from outside belong to the function as they are now. As with a tape, what other
    /// threads do meanwhile in this session's scope belongs to it too.
    ///
    /// If anything is wrong with the body, what is computed with the function fails and says why.
    ///
    /// ```
    /// # use gradtape_client::{DType, Session, Spec};
    /// # async fn example(session: &Session) -> gradtape_client::Result<()> {
    /// let w = session.variable("w", [1.0_f32, 2.0]);
    /// let spec = Spec { dtype: DType::F32, shape: vec![2] };
    /// let step = session.function([spec], |x| {
    ///     let tape = session.tape();
    ///     let loss = (&x[0] * &w).reduce_sum();
    ///     w.assign_sub(&(tape.derivative(&loss, &w) * 0.5));
    ///     vec![loss]
    /// });
    /// let x = session.constant([2.0_f32, 4.0]);
    /// assert_eq!(step.call([&x])[0].scalar::<f32>().await?, 10.0);
    /// assert_eq!(w.value::<f32>().await?, [0.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn function(
        &self,
        parameters: impl IntoIterator<Item = Spec>,
        body: impl FnOnce(&[Tensor]) -> Vec<Tensor>,
    ) -> Function {
        let caller = Location::caller();
        let specs: Vec<Spec> = parameters.into_iter().collect();
        let (function, ids) = self.record(caller, |recorder| {
            let function = recorder.handle();
            let ids: Vec<u64> = specs.iter().map(|_| recorder.handle()).collect();
            recorder.begin_body(proto::DefineFunction {
                function,
                parameters: ids.clone(),
                specs: specs.iter().map(Into::into).collect(),
            });
            (function, ids)
        });
        let parameters: Vec<Tensor> =
            ids.iter().zip(&specs).map(|(&id, spec)| self.tensor(id, Some(spec.dtype))).collect();
        // If the body panics, the session must not go on showing.
        let mut open = Open { session: self, caller, function, finished: false };
        let results = body(&parameters);
        open.finish(results.iter().map(|result| result.id_in(self.core())).collect(), false);
        let results = results.iter().map(Tensor::dtype).collect();
        Function { handle: Handle::own(self.core(), self.scope(), function), results }
    }
}

/// A body that is being shown.
struct Open<'a> {
    session: &'a Session,
    caller: &'static Location<'static>,
    function: u64,
    finished: bool,
}

impl Open<'_> {
    fn finish(&mut self, results: Vec<u64>, abandon: bool) {
        self.finished = true;
        let finish = proto::FinishFunction { function: self.function, results, abandon };
        self.session.record(self.caller, |recorder| recorder.finish_body(finish));
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(Vec::new(), true);
        }
    }
}

impl Function {
    /// Its handle.
    pub(crate) fn id(&self) -> u64 {
        self.handle.id
    }

    /// The dtypes of its results, as far as they are known.
    pub(crate) fn results(&self) -> impl Iterator<Item = Option<DType>> + '_ {
        self.results.iter().copied()
    }

    /// Calls the function. It takes effect as a whole or, if anything is wrong, not at all.
    #[track_caller]
    pub fn call<A: AsRef<Tensor>>(&self, arguments: impl IntoIterator<Item = A>) -> Vec<Tensor> {
        let core = &self.handle.core;
        let arguments: Vec<u64> =
            arguments.into_iter().map(|argument| argument.as_ref().id_in(core)).collect();
        let function = self.handle.id;
        let outputs = core.queue.record(self.handle.scope, Location::caller(), |recorder| {
            let outputs: Vec<u64> = self.results.iter().map(|_| recorder.handle()).collect();
            recorder.push(Kind::CallFunction(proto::CallFunction {
                function,
                arguments,
                outputs: outputs.clone(),
                ..proto::CallFunction::default()
            }));
            outputs
        });
        self.tensors(&outputs)
    }

    /// A loop that calls the function so many times on the server; [`Loop::start`] begins it.
    pub fn repeat(&self, steps: i64) -> Loop {
        let run = proto::RunLoop { function: self.handle.id, steps, ..proto::RunLoop::default() };
        Loop { function: self.clone(), run, kept: Vec::new() }
    }

    fn tensors(&self, ids: &[u64]) -> Vec<Tensor> {
        let session = Session::from_handle(&self.handle);
        ids.iter().zip(&self.results).map(|(&id, &dtype)| session.tensor(id, dtype)).collect()
    }
}

/// A loop in the making.
#[derive(Debug, Clone)]
#[must_use]
pub struct Loop {
    function: Function,
    run: proto::RunLoop,
    /// What the loop uses lives at least until it is started.
    kept: Vec<Tensor>,
}

impl Loop {
    /// Gives the function's next parameter a batch of this tensor, whose first axis is the examples.
    pub fn dataset(mut self, examples: &Tensor) -> Self {
        self.run.datasets.push(examples.id_in(&self.function.handle.core));
        self.kept.push(examples.clone());
        self
    }

    /// Sets how many examples a batch has. Without it, a batch is all of them.
    pub fn batch_size(mut self, examples: i64) -> Self {
        self.run.batch_size = examples;
        self
    }

    /// Shuffles the examples, each epoch anew. The same seed gives the same order on every machine.
    pub fn shuffle(mut self, seed: i64) -> Self {
        self.run.shuffle_seed = Some(seed);
        self
    }

    /// Gives the function's next parameter, after those of datasets, this value in every step.
    pub fn argument(mut self, value: impl AsRef<Tensor>) -> Self {
        self.run.arguments.push(value.as_ref().id_in(&self.function.handle.core));
        self.kept.push(value.as_ref().clone());
        self
    }

    /// Replaces so many of the arguments by the first results after each step.
    pub fn carried(mut self, arguments: u32) -> Self {
        self.run.carried = arguments;
        self
    }

    /// Goes on only while the result with this number, a boolean scalar, is true.
    pub fn while_result(mut self, result: u32) -> Self {
        self.run.while_result = Some(result);
        self
    }

    /// Reports the results that are scalars every so many steps.
    pub fn report_every(mut self, steps: i64) -> Self {
        self.run.report_every = steps;
        self.run.stream_reports = true;
        self
    }

    /// Begins the loop. Nothing waits.
    #[track_caller]
    pub fn start(self) -> Running {
        let Self { function, mut run, kept } = self;
        let core = Arc::clone(&function.handle.core);
        let scope = function.handle.scope;
        let (outputs, (sequence, answer, reports)) =
            core.queue.record(scope, Location::caller(), |recorder| {
                let outputs: Vec<u64> =
                    function.results.iter().map(|_| recorder.handle()).collect();
                run.outputs.clone_from(&outputs);
                (outputs, recorder.run_loop(run))
            });
        drop(kept);
        let results = function.tensors(&outputs);
        Running { core, sequence, answer, reports, results }
    }
}

/// A loop that the server runs. Await it for its end; dropping it lets it run on.
#[must_use = "await it to know how it ended"]
pub struct Running {
    core: Arc<Core>,
    sequence: u64,
    answer: AnswerReceiver,
    reports: Reports,
    results: Vec<Tensor>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({})", self.sequence)
    }
}

impl Running {
    /// The results of the last step.
    pub fn results(&self) -> &[Tensor] {
        &self.results
    }

    /// The next report as it comes, or none after the last. A lost connection may lose some; the outcome has all.
    pub async fn report(&mut self) -> Option<Report> {
        self.reports.recv().await.map(Report::from)
    }

    /// Ends the loop after the step that it is at.
    pub async fn stop(&self) -> Result<()> {
        self.core.remote.stop_loop(self.sequence).await
    }
}

impl IntoFuture for Running {
    type Output = Result<LoopOutcome>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.core.answer(self.answer).await? {
                proto::Reply { result: Some(reply::Result::Loop(reply)), .. } => Ok(LoopOutcome {
                    steps: reply.steps,
                    stopped: reply.stopped,
                    reports: reply.reports.into_iter().map(Report::from).collect(),
                }),
                reply => Err(unexpected(&reply)),
            }
        })
    }
}

/// The scalar results of one step of a loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Number of the step, from 1.
    pub step: i64,
    /// The results that are scalars, in order.
    pub values: Vec<f64>,
}

impl From<proto::LoopReport> for Report {
    fn from(report: proto::LoopReport) -> Self {
        Self { step: report.step, values: report.values }
    }
}

/// How a loop ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopOutcome {
    /// Steps done.
    pub steps: i64,
    /// Whether it was stopped before the last.
    pub stopped: bool,
    /// All reports.
    pub reports: Vec<Report>,
}
