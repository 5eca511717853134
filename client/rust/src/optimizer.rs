//! Optimizers: rules that change variables by gradients, with their state on the server.

use std::{
    fmt,
    future::{Future, IntoFuture},
    panic::Location,
    pin::Pin,
    sync::Arc,
};

use gradtape_proto::v1::{self as proto, command::Kind, reply};

use crate::{
    Attribute, Gradient, Result, Session, Tensor, Variable,
    core::{Core, Handle, unexpected},
    queue::AnswerReceiver,
};

/// An optimizer on the server.
///
/// ```
/// # use gradtape_client::{Optimizer, Session};
/// # fn example(session: &Session) {
/// let optimizer = Optimizer::adam(session).learning_rate(1e-3).clipnorm(1.0).create();
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Optimizer {
    handle: Arc<Handle>,
}

/// What an optimizer may apply to a variable: a gradient of a tape, or any tensor of the variable's shape.
pub trait AsGradient {
    /// The values and, where the gradient may be sparse, the row numbers.
    fn parts(&self) -> (&Tensor, Option<&Tensor>);
}

impl AsGradient for Gradient {
    fn parts(&self) -> (&Tensor, Option<&Tensor>) {
        (self, self.indices())
    }
}

impl AsGradient for Tensor {
    fn parts(&self) -> (&Tensor, Option<&Tensor>) {
        (self, None)
    }
}

impl<T: AsGradient + ?Sized> AsGradient for &T {
    fn parts(&self) -> (&Tensor, Option<&Tensor>) {
        (**self).parts()
    }
}

/// An optimizer step on its way. Awaiting it gives the number of steps taken so far, or why none was taken; nobody
/// has to: the failure of a step that nobody awaits is told by [`Session::sync`].
pub struct Step {
    core: Arc<Core>,
    answer: AnswerReceiver,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

impl IntoFuture for Step {
    type Output = Result<i64>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.core.answer(self.answer).await? {
                proto::Reply { result: Some(reply::Result::Optimizer(reply)), .. } => {
                    Ok(reply.iterations)
                }
                reply => Err(unexpected(&reply)),
            }
        })
    }
}

impl Optimizer {
    /// Any optimizer of the server by name, with the hyperparameters that differ from their defaults and, if the learning
    /// rate changes, its schedule.
    #[track_caller]
    pub fn named(
        session: &Session,
        name: &str,
        hyperparameters: impl IntoIterator<Item = (impl AsRef<str>, Attribute)>,
        schedule: Option<Schedule>,
    ) -> Self {
        let mut optimizer = Hyperparameters::of(session, name);
        for (name, value) in hyperparameters {
            optimizer.set(name.as_ref(), value);
        }
        optimizer.schedule = schedule;
        optimizer.create()
    }

    pub(crate) fn id(&self) -> u64 {
        self.handle.id
    }

    /// Takes a step: for all variables or, if anything is wrong, for none. Absent gradients are skipped.
    ///
    /// Takes pairs as `gradients.iter().zip(&variables)` makes them.
    #[track_caller]
    pub fn apply<G: AsGradient, V: AsRef<Variable>>(
        &self,
        pairs: impl IntoIterator<Item = (G, V)>,
    ) -> Step {
        let core = &self.handle.core;
        let pair = |(gradient, variable): (G, V)| {
            let (values, indices) = gradient.parts();
            proto::GradientPair {
                variable: variable.as_ref().id_in(core),
                gradient: values.id_in(core),
                indices: indices.map_or(0, |indices| indices.id_in(core)),
                exclude_from_weight_decay: false,
                exclude_from_orthogonalization: false,
            }
        };
        let pairs = pairs.into_iter().map(pair).collect();
        let optimizer = self.handle.id;
        let kind = Kind::ApplyOptimizer(proto::ApplyOptimizer { optimizer, pairs });
        let answer = core
            .queue
            .record(self.handle.scope, Location::caller(), |recorder| recorder.listen(kind));
        Step { core: Arc::clone(core), answer }
    }

    /// Changes a hyperparameter from the next step on.
    #[track_caller]
    pub fn set(&self, name: &str, value: impl Into<Attribute>) {
        let kind = Kind::SetOptimizer(proto::SetOptimizer {
            optimizer: self.handle.id,
            hyperparameters: vec![value.into().named(name)],
            learning_rate_schedule: None,
        });
        self.handle.push(Location::caller(), kind);
    }

    /// Takes the learning rate from a schedule from the next step on.
    #[track_caller]
    pub fn set_schedule(&self, schedule: Schedule) {
        let kind = Kind::SetOptimizer(proto::SetOptimizer {
            optimizer: self.handle.id,
            hyperparameters: Vec::new(),
            learning_rate_schedule: Some(schedule.message),
        });
        self.handle.push(Location::caller(), kind);
    }

    /// Reads a number: `iterations`, `learning_rate` or `loss_scale`.
    #[track_caller]
    pub fn read(&self, name: &str) -> Tensor {
        self.read_at(Location::caller(), name, 0)
    }

    /// Reads the optimizer's state for a variable, for example `momentum`.
    #[track_caller]
    pub fn slot(&self, name: &str, variable: &Variable) -> Tensor {
        self.read_at(Location::caller(), name, variable.id_in(&self.handle.core))
    }

    fn read_at(&self, caller: &'static Location<'static>, name: &str, variable: u64) -> Tensor {
        let (optimizer, name) = (self.handle.id, name.to_owned());
        let read = |output| proto::ReadOptimizer { optimizer, name, variable, output };
        let session = Session::from_handle(&self.handle);
        Tensor::new(session.make(caller, |output| Kind::ReadOptimizer(read(output))), None)
    }

    /// Changes the learning rate from the next step on.
    #[track_caller]
    pub fn set_learning_rate(&self, learning_rate: f64) {
        self.set("learning_rate", learning_rate);
    }
}

/// A learning rate that depends on the number of steps taken.
///
/// ```
/// # use gradtape_client::{Optimizer, Schedule, Session};
/// # fn example(session: &Session) {
/// let schedule = Schedule::cosine_decay(1e-3, 1000.0).with("warmup_steps", 100);
/// let optimizer = Optimizer::adam(session).schedule(schedule).create();
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    message: proto::LearningRateSchedule,
}

impl Schedule {
    /// Any schedule of the server by name.
    pub fn named(name: &str) -> Self {
        let message = proto::LearningRateSchedule { name: name.to_owned(), attributes: Vec::new() };
        Self { message }
    }

    /// Sets an attribute. Every schedule takes "`warmup_steps`" and "`warmup_from`" besides its own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Attribute>) -> Self {
        self.message.attributes.push(value.into().named(name));
        self
    }
}

/// An optimizer in the making.
#[derive(Debug, Clone)]
pub(crate) struct Hyperparameters {
    session: Session,
    name: String,
    values: Vec<proto::Attribute>,
    schedule: Option<Schedule>,
}

impl Hyperparameters {
    pub(crate) fn of(session: &Session, name: &str) -> Self {
        let (session, name) = (session.clone(), name.to_owned());
        Self { session, name, values: Vec::new(), schedule: None }
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<Attribute>) {
        self.values.push(value.into().named(name));
    }

    pub(crate) fn schedule(&mut self, schedule: Schedule) {
        self.schedule = Some(schedule);
    }

    #[track_caller]
    pub(crate) fn create(self) -> Optimizer {
        let Self { session, name, values: hyperparameters, schedule } = self;
        let learning_rate_schedule = schedule.map(|schedule| schedule.message);
        let handle = session.make(Location::caller(), |optimizer| {
            Kind::CreateOptimizer(proto::CreateOptimizer {
                optimizer,
                name,
                hyperparameters,
                learning_rate_schedule,
            })
        });
        Optimizer { handle }
    }
}
