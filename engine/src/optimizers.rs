//! The table of optimizers, and the stages of one step.
//!
//! A rule is written in the op language, like a derivative: it is priced, run and freed by the same code. The stages run in
//! the order of Keras 3: loss scale, accumulation, clipping, weight decay, update. A step is one program for all
//! variables, so it happens for all of them or for none.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs,
    attrs::{Attr, AttrSpec, Attrs},
    dtype::DType,
    error::Error,
    graph::{Graph, Var},
    ops::{
        math::{CLIP_BY_VALUE, Clip, MAXIMUM, MINIMUM, RECIPROCAL, SQRT, SQUARE},
        reduce::REDUCE_SUM,
    },
};

/// The table, as the documentation lists it.
pub static ALL: &[&OptimizerDef] = &[&SGD, &ADAM, &ADAGRAD];

/// All of an optimizer.
#[derive(Clone, Copy, Debug)]
pub struct OptimizerDef {
    /// Name on the wire.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The formula.
    pub formula: &'static str,
    /// Hyperparameters besides those of [`Common`].
    pub attrs: &'static [AttrSpec],
    /// Names of the slots, in order, and the element that each begins with.
    pub slots: fn(&Attrs) -> SmallVec<[(&'static str, f64); 3]>,
    /// From a variable, its gradient and its slots to the new variable and slots.
    pub update: for<'g> fn(&Step<'g, '_>) -> Updated<'g>,
}

/// What an update rule sees.
#[derive(Debug)]
pub struct Step<'g, 'a> {
    /// The optimizer's own hyperparameters.
    pub attrs: &'a Attrs,
    /// Whether PyTorch's formula is wanted where it differs.
    pub torch: bool,
    /// The variable.
    pub theta: Var<'g>,
    /// Its gradient, after the global stages.
    pub g: Var<'g>,
    /// The slots.
    pub slots: &'a [Var<'g>],
    /// Learning rate.
    pub lr: f64,
    /// Number of this update, from 1.
    pub t: i32,
}

impl Step<'_, '_> {
    /// What a bias correction divides by: 1 - beta^t. Keras computes it in the variable's dtype, which for `float32`
    /// moves the first steps of Adam by up to 1e-5 of their length; so do we, except with PyTorch's formulas.
    fn correction(&self, beta: f64) -> f64 {
        if self.torch || self.theta.dtype() != DType::F32 {
            return 1.0 - libm::pow(beta, f64::from(self.t));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "Keras rounds here")]
        let power = libm::powf(beta as f32, self.t as f32);
        f64::from(1.0 - power)
    }
}

/// The new variable, and the new slots.
pub type Updated<'g> = (Var<'g>, SmallVec<[Var<'g>; 3]>);

attrs! {
    /// Hyperparameters that every optimizer takes.
    Common {
        /// Decoupled weight decay: the variable shrinks by learning rate times this. With compat "torch" it is added to the
        /// gradient instead.
        weight_decay: Option<f64> = Unset,
        /// Largest norm of each gradient.
        clipnorm: Option<f64> = Unset,
        /// Largest norm of all gradients together.
        global_clipnorm: Option<f64> = Unset,
        /// Largest magnitude of a gradient's element.
        clipvalue: Option<f64> = Unset,
        /// What the loss was multiplied by; gradients are divided by it.
        loss_scale_factor: Option<f64> = Unset,
        /// Gradients are averaged over so many steps before one update.
        gradient_accumulation_steps: i64 = Int(1),
        /// Whose formulas to use where libraries differ: "keras" or "torch".
        compat: String = Text("keras"),
    }
}

/// An optimizer of a session: its hyperparameters and how far it is.
#[derive(Clone, Debug)]
pub struct Optimizer {
    def: &'static OptimizerDef,
    own: Attrs,
    common: Attrs,
    iterations: i64,
}

/// A variable in a step, before it.
#[derive(Debug)]
pub struct Member<'g> {
    /// The variable's value.
    pub theta: Var<'g>,
    /// Its dense gradient.
    pub gradient: Var<'g>,
    /// Its state; empty if the optimizer never met it.
    pub state: SmallVec<[Var<'g>; 4]>,
}

/// A variable after a step: its value, and its state.
pub type Moved<'g> = (Var<'g>, SmallVec<[Var<'g>; 4]>);

impl Optimizer {
    /// An optimizer by name.
    pub fn new(name: &str, given: Vec<(String, Attr)>) -> Result<Self, Error> {
        let def = ALL.iter().copied().find(|def| def.name == name).ok_or_else(|| {
            Error::UnknownOptimizer {
                name: name.into(),
                known: ALL.iter().map(|def| def.name).collect::<Vec<_>>().join(", ").into(),
            }
        })?;
        let (own, common) = split(def, given);
        let own = Attrs::check(def.attrs, own)?;
        let optimizer =
            Self { def, own, common: Attrs::check(Common::SPECS, common)?, iterations: 0 };
        optimizer.check()?;
        Ok(optimizer)
    }

    /// Changes hyperparameters from the next step on.
    pub fn set(&mut self, given: Vec<(String, Attr)>) -> Result<(), Error> {
        let (own, common) = split(self.def, given);
        let mut changed = self.clone();
        changed.own.update(self.def.attrs, own)?;
        changed.common.update(Common::SPECS, common)?;
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// Its record.
    pub fn def(&self) -> &'static OptimizerDef {
        self.def
    }

    /// Steps taken, accumulating ones included.
    pub fn iterations(&self) -> i64 {
        self.iterations
    }

    /// Counts a step that succeeded.
    pub fn advance(&mut self) {
        self.iterations = self.iterations.saturating_add(1);
    }

    /// The learning rate.
    fn learning_rate(&self) -> f64 {
        let at = self.def.attrs.iter().position(|spec| spec.name == "learning_rate");
        match at.and_then(|at| self.own.values().get(at)) {
            Some(&Attr::Double(lr)) => lr,
            Some(_) | None => 0.0,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let Common {
            clipnorm,
            global_clipnorm,
            clipvalue,
            loss_scale_factor,
            gradient_accumulation_steps,
            compat,
            ..
        } = Common::read(&self.common);
        let given = self
            .def
            .attrs
            .iter()
            .chain(Common::SPECS)
            .zip(self.own.values().iter().chain(self.common.values()));
        for (spec, value) in given {
            if matches!(value, Attr::Double(value) if !value.is_finite()) {
                return Err(Error::attribute(spec.name, "must be finite"));
            }
        }
        if [clipnorm, global_clipnorm, clipvalue].iter().flatten().count() > 1 {
            return Err(Error::attribute(
                "clipnorm",
                "global_clipnorm and clipvalue exclude each other",
            ));
        }
        for (name, value) in
            [("clipnorm", clipnorm), ("global_clipnorm", global_clipnorm), ("clipvalue", clipvalue)]
        {
            if value.is_some_and(|value| value <= 0.0) {
                return Err(Error::attribute(name, "must be positive"));
            }
        }
        if loss_scale_factor == Some(0.0) {
            return Err(Error::attribute("loss_scale_factor", "must not be 0"));
        }
        if !(1..=1 << 20).contains(&gradient_accumulation_steps) {
            return Err(Error::attribute(
                "gradient_accumulation_steps",
                "must be from 1 to 1048576",
            ));
        }
        if !matches!(compat.as_str(), "keras" | "torch") {
            return Err(Error::attribute("compat", "must be \"keras\" or \"torch\""));
        }
        Ok(())
    }

    /// Writes one step for all members. With accumulation the first entry of each state is the accumulator.
    pub fn step<'g>(&self, graph: &'g Graph, members: &[Member<'g>]) -> Vec<Moved<'g>> {
        let common = Common::read(&self.common);
        let torch = common.compat == "torch";
        let k = common.gradient_accumulation_steps;
        let mut gradients: Vec<Var> = members.iter().map(|member| member.gradient).collect();
        if let Some(factor) = common.loss_scale_factor {
            gradients.iter_mut().for_each(|g| *g = *g / factor);
        }
        let mut states: Vec<SmallVec<[Var; 4]>> =
            members.iter().map(|member| self.state(graph, member, k)).collect();
        if k > 1 {
            let last = (self.iterations + 1) % k == 0;
            for (g, state) in gradients.iter_mut().zip(&mut states) {
                let sum = state[0] + *g;
                #[expect(clippy::cast_precision_loss, reason = "at most 2^20")]
                let mean = sum / k as f64;
                (*g, state[0]) = (mean, if last { sum.zeros() } else { sum });
            }
            if !last {
                return members
                    .iter()
                    .zip(states)
                    .map(|(member, state)| (member.theta, state))
                    .collect();
            }
        }
        clip(&common, torch, &mut gradients);
        let t = i32::try_from(self.iterations / k + 1).unwrap_or(i32::MAX);
        let lr = self.learning_rate();
        let first = usize::from(k > 1);
        let update =
            |((member, mut g), mut state): ((&Member<'g>, Var<'g>), SmallVec<[Var<'g>; 4]>)| {
                let mut theta = member.theta;
                match common.weight_decay {
                    Some(decay) if torch => g = g + theta * decay,
                    Some(decay) => theta = theta - theta * (lr * decay),
                    None => {}
                }
                let step =
                    Step { attrs: &self.own, torch, theta, g, slots: &state[first..], lr, t };
                let (theta, slots) = (self.def.update)(&step);
                state.truncate(first);
                state.extend(slots);
                (theta, state)
            };
        members.iter().zip(gradients).zip(states).map(update).collect()
    }

    fn state<'g>(&self, graph: &'g Graph, member: &Member<'g>, k: i64) -> SmallVec<[Var<'g>; 4]> {
        if !member.state.is_empty() {
            return member.state.clone();
        }
        let aval = member.theta.aval();
        let accumulator = (k > 1).then_some(("accumulated_gradient", 0.0));
        accumulator
            .into_iter()
            .chain((self.def.slots)(&self.own))
            .map(|(_, initial)| graph.full(&aval, initial))
            .collect()
    }
}

fn split(
    def: &OptimizerDef,
    given: Vec<(String, Attr)>,
) -> (Vec<(String, Attr)>, Vec<(String, Attr)>) {
    let is_common = |name: &str| {
        Common::SPECS.iter().any(|spec| spec.name == name)
            && !def.attrs.iter().any(|spec| spec.name == name)
    };
    given.into_iter().partition(|(name, _)| !is_common(name))
}

fn squared_norm(g: Var<'_>) -> Var<'_> {
    g.map(&SQUARE).op(
        &REDUCE_SUM,
        crate::ops::reduce::Reduce { axis: smallvec![], keepdims: false }.write(),
        &[],
    )
}

/// Clips gradients by at most one of the three ways.
fn clip(common: &Common, torch: bool, gradients: &mut [Var<'_>]) {
    if let Some(limit) = common.clipvalue {
        let bounds = Clip { clip_value_min: -limit, clip_value_max: limit }.write();
        gradients.iter_mut().for_each(|g| *g = g.op(&CLIP_BY_VALUE, bounds.clone(), &[]));
    }
    if let Some(limit) = common.clipnorm {
        for g in gradients.iter_mut() {
            let norm = squared_norm(*g).map(&SQRT);
            *g = *g * shrink(norm, limit, torch);
        }
    }
    if let Some(limit) = common.global_clipnorm {
        // Summed in the first gradient's dtype; the others of another dtype are converted.
        let Some(dtype) = gradients.first().map(|g| g.dtype()) else { return };
        let total =
            gradients.iter().map(|&g| squared_norm(g).cast(dtype)).reduce(|sum, next| sum + next);
        let Some(scale) = total.map(|total| shrink(total.map(&SQRT), limit, torch)) else { return };
        gradients.iter_mut().for_each(|g| *g = *g * scale.cast(g.dtype()));
    }
}

/// What to multiply a gradient of this norm by so that the norm is at most the limit.
fn shrink(norm: Var<'_>, limit: f64, torch: bool) -> Var<'_> {
    if torch {
        ((norm + 1e-6).map(&RECIPROCAL) * limit).zip(&MINIMUM, norm.scalar(1.0))
    } else {
        norm.zip(&MAXIMUM, norm.scalar(limit)).map(&RECIPROCAL) * limit
    }
}

// --- the table ---

attrs! {
    /// Hyperparameters of gradient descent.
    Sgd {
        /// Learning rate.
        learning_rate: f64 = Double(0.01),
        /// How much of the last step goes on.
        momentum: f64 = Double(0.0),
        /// Whether to look ahead along the momentum.
        nesterov: bool = Bool(false),
    }
}

/// Gradient descent.
pub static SGD: OptimizerDef = OptimizerDef {
    name: "sgd",
    summary: "Gradient descent with momentum.",
    formula: "m = mu m - lr g; theta = theta + m, or theta + mu m - lr g with nesterov",
    attrs: Sgd::SPECS,
    slots: |attrs| {
        if Sgd::read(attrs).momentum == 0.0 { smallvec![] } else { smallvec![("momentum", 0.0)] }
    },
    update: |s| {
        let Sgd { momentum, nesterov, .. } = Sgd::read(s.attrs);
        let Some(&m) = s.slots.first() else { return (s.theta - s.g * s.lr, smallvec![]) };
        if s.torch {
            // PyTorch keeps the learning rate out of the velocity, and starts it with the first gradient.
            let m = m * momentum + s.g;
            let direction = if nesterov { s.g + m * momentum } else { m };
            return (s.theta - direction * s.lr, smallvec![m]);
        }
        let m = m * momentum - s.g * s.lr;
        let step = if nesterov { m * momentum - s.g * s.lr } else { m };
        (s.theta + step, smallvec![m])
    },
};

attrs! {
    /// Hyperparameters of Adam.
    Adam {
        /// Learning rate.
        learning_rate: f64 = Double(0.001),
        /// Decay of the mean.
        beta_1: f64 = Double(0.9),
        /// Decay of the mean square.
        beta_2: f64 = Double(0.999),
        /// Keeps the quotient finite. Keras adds it before the bias correction, PyTorch after; PyTorch's default is 1e-8.
        epsilon: f64 = Double(1e-7),
        /// Whether to divide by the largest mean square so far.
        amsgrad: bool = Bool(false),
    }
}

/// Adam.
pub static ADAM: OptimizerDef = OptimizerDef {
    name: "adam",
    summary: "Adam: steps by the mean of gradients over the root of their mean square.",
    formula: "m += (g - m)(1 - b1); v += (g^2 - v)(1 - b2); theta -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)",
    attrs: Adam::SPECS,
    slots: |attrs| {
        let mut slots = smallvec![("momentum", 0.0), ("velocity", 0.0)];
        if Adam::read(attrs).amsgrad {
            slots.push(("velocity_hat", 0.0));
        }
        slots
    },
    update: |s| {
        let Adam { beta_1, beta_2, epsilon, .. } = Adam::read(s.attrs);
        let m = s.slots[0] + (s.g - s.slots[0]) * (1.0 - beta_1);
        let v = s.slots[1] + (s.g.map(&SQUARE) - s.slots[1]) * (1.0 - beta_2);
        let (c1, c2) = (s.correction(beta_1), s.correction(beta_2).sqrt());
        let largest = s.slots.get(2).map(|hat| hat.zip(&MAXIMUM, v));
        let root = largest.unwrap_or(v).map(&SQRT);
        let step = if s.torch {
            m * (s.lr / c1) / (root / c2 + epsilon)
        } else {
            m * (s.lr * c2 / c1) / (root + epsilon)
        };
        (s.theta - step, [m, v].into_iter().chain(largest).collect())
    },
};

attrs! {
    /// Hyperparameters of Adagrad.
    Adagrad {
        /// Learning rate.
        learning_rate: f64 = Double(0.001),
        /// What the sum of squares begins with.
        initial_accumulator_value: f64 = Double(0.1),
        /// Keeps the quotient finite. Keras adds it under the root, PyTorch outside.
        epsilon: f64 = Double(1e-7),
    }
}

/// Adagrad.
pub static ADAGRAD: OptimizerDef = OptimizerDef {
    name: "adagrad",
    summary: "Adagrad: steps by the gradient over the root of the sum of its squares.",
    formula: "s += g^2; theta -= lr g / sqrt(s + eps)",
    attrs: Adagrad::SPECS,
    slots: |attrs| smallvec![("accumulator", Adagrad::read(attrs).initial_accumulator_value)],
    update: |s| {
        let Adagrad { epsilon, .. } = Adagrad::read(s.attrs);
        let sum = s.slots[0] + s.g.map(&SQUARE);
        let root = if s.torch { sum.map(&SQRT) + epsilon } else { (sum + epsilon).map(&SQRT) };
        (s.theta - s.g * s.lr / root, smallvec![sum])
    },
};
