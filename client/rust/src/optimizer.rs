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
    /// Stochastic gradient descent, with momentum if asked for.
    pub fn sgd(session: &Session) -> Sgd {
        Sgd(Hyperparameters::of(session, "sgd"))
    }

    /// Adam: steps of adaptive size from running means of the gradient and its square.
    pub fn adam(session: &Session) -> Adam {
        Adam(Hyperparameters::of(session, "adam"))
    }

    /// Adagrad: steps that shrink with the sum of all squared gradients.
    pub fn adagrad(session: &Session) -> Adagrad {
        Adagrad(Hyperparameters::of(session, "adagrad"))
    }

    /// Any optimizer of the server by name, with the hyperparameters that differ from their defaults.
    #[track_caller]
    pub fn named(
        session: &Session,
        name: &str,
        hyperparameters: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> Self {
        let values = hyperparameters.into_iter().collect();
        let name = name.to_owned();
        Hyperparameters { session: session.clone(), name, values }.create()
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
        });
        self.handle.push(Location::caller(), kind);
    }

    /// Changes the learning rate from the next step on.
    #[track_caller]
    pub fn set_learning_rate(&self, learning_rate: f64) {
        self.set("learning_rate", learning_rate);
    }
}

/// An optimizer in the making.
#[derive(Debug, Clone)]
struct Hyperparameters {
    session: Session,
    name: String,
    values: Vec<(&'static str, Attribute)>,
}

impl Hyperparameters {
    fn of(session: &Session, name: &str) -> Self {
        let name = name.to_owned();
        Self { session: session.clone(), name, values: Vec::new() }
    }

    #[track_caller]
    fn create(self) -> Optimizer {
        let Self { session, name, values } = self;
        let hyperparameters = values.into_iter().map(|(name, value)| value.named(name)).collect();
        let handle = session.make(Location::caller(), |optimizer| {
            Kind::CreateOptimizer(proto::CreateOptimizer { optimizer, name, hyperparameters })
        });
        Optimizer { handle }
    }
}

/// A builder for each optimizer: its own hyperparameters and those that all have.
macro_rules! builder {
    ($(#[$docs:meta])* $builder:ident { $($(#[$doc:meta])* $name:ident: $type:ty,)* }) => {
        builder! {
            @all
            $(#[$docs])*
            $builder {
                $($(#[$doc])* $name: $type,)*
                /// Decay of the variables themselves, apart from the gradient. Default none.
                weight_decay: f64,
                /// Largest norm of each gradient. Default none.
                clipnorm: f64,
                /// Largest norm of all gradients together. Default none.
                global_clipnorm: f64,
                /// Largest absolute value of each element of a gradient. Default none.
                clipvalue: f64,
                /// What the loss was multiplied by, which the gradients are divided by. Default none.
                loss_scale_factor: f64,
                /// Steps whose gradients are averaged before the variables change. Default none.
                gradient_accumulation_steps: i64,
                /// Whose formulas to follow where they differ: "keras" or "torch". Default "keras".
                compat: &str,
            }
        }
    };
    (@all $(#[$docs:meta])* $builder:ident { $($(#[$doc:meta])* $name:ident: $type:ty,)* }) => {
        $(#[$docs])*
        #[derive(Debug, Clone)]
        #[must_use]
        pub struct $builder(Hyperparameters);

        impl $builder {
            $(
                $(#[$doc])*
                pub fn $name(mut self, $name: $type) -> Self {
                    self.0.values.push((stringify!($name), $name.into()));
                    self
                }
            )*

            /// Creates the optimizer. What was not set keeps the server's default, which is Keras'.
            #[track_caller]
            pub fn create(self) -> Optimizer {
                self.0.create()
            }
        }
    };
}

builder! {
    /// Stochastic gradient descent in the making. Made by [`Optimizer::sgd`].
    Sgd {
        /// Size of a step. Default 0.01.
        learning_rate: f64,
        /// How much of the last step goes into this one. Default 0.
        momentum: f64,
        /// Whether the momentum looks ahead, after Nesterov. Default false.
        nesterov: bool,
    }
}

builder! {
    /// Adam in the making. Made by [`Optimizer::adam`].
    Adam {
        /// Size of a step. Default 0.001.
        learning_rate: f64,
        /// Decay of the running mean of the gradient. Default 0.9.
        beta_1: f64,
        /// Decay of the running mean of its square. Default 0.999.
        beta_2: f64,
        /// Keeps the division from zero. Default 1e-7.
        epsilon: f64,
        /// Whether the mean of the square never falls. Default false.
        amsgrad: bool,
    }
}

builder! {
    /// Adagrad in the making. Made by [`Optimizer::adagrad`].
    Adagrad {
        /// Size of a step. Default 0.001.
        learning_rate: f64,
        /// What the sum of squares begins with. Default 0.1.
        initial_accumulator_value: f64,
        /// Keeps the division from zero. Default 1e-7.
        epsilon: f64,
    }
}
