//! The stages of a step, in the order of Keras 3: loss scale, accumulation, clipping, weight decay, update, average.
//!
//! A step is one program for all variables, so it happens for all of them or for none.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    ALL, Given, OptimizerDef, Role, Step,
    clipping::clip,
    numbers::{Pace, Sheet},
    schedules::Schedule,
};
use crate::{
    attrs,
    attrs::{Attr, Attrs},
    error::Error,
    graph::{Graph, Var},
    optimizers::{Initial, SlotDef, Slots},
};

/// Hyperparameters that say how much of the old stays: beyond 1 or below 0 they mean nothing.
const SHARES: &[&str] =
    &["beta_1", "beta_2", "adam_beta_1", "adam_beta_2", "ema_momentum", "momentum", "rho"];

attrs! {
    /// Hyperparameters that every optimizer takes.
    Common {
        /// Decoupled weight decay: the variable shrinks by learning rate times this. With compat "torch" it is added to the
        /// gradient instead, except by optimizers that are defined with a decoupled one.
        weight_decay: Option<f64> = Unset,
        /// Largest norm of each gradient.
        clipnorm: Option<f64> = Unset,
        /// Largest norm of all gradients together.
        global_clipnorm: Option<f64> = Unset,
        /// Largest magnitude of a gradient's element.
        clipvalue: Option<f64> = Unset,
        /// What the loss was multiplied by; gradients are divided by it.
        loss_scale_factor: Option<f64> = Unset,
        /// Whether to divide gradients by a loss scale that adapts: a step whose gradients are not all finite is skipped and
        /// halves the scale. Read it by `ReadOptimizer` and multiply the loss by it.
        dynamic_loss_scale: bool = Bool(false),
        /// What the adapting loss scale begins with.
        initial_scale: f64 = Double(32768.0),
        /// After so many finite steps in a row the adapting loss scale doubles.
        dynamic_growth_steps: i64 = Int(2000),
        /// Gradients are averaged over so many steps before one update.
        gradient_accumulation_steps: i64 = Int(1),
        /// Whether to keep a moving average of each variable, in the slot "average".
        use_ema: bool = Bool(false),
        /// Decay of that average.
        ema_momentum: f64 = Double(0.99),
        /// After so many updates the variable takes the value of its average. 0 never.
        ema_overwrite_frequency: i64 = Int(0),
        /// Whose formulas to use where libraries differ: "keras" or "torch".
        compat: String = Text("keras"),
    }
}

const ACCUMULATOR: SlotDef = SlotDef::zeros("accumulated_gradient");
const AVERAGE: SlotDef = SlotDef { initial: Initial::Variable, ..SlotDef::zeros("average") };

/// An optimizer of a session: its hyperparameters and how far it is.
#[derive(Clone, Debug)]
pub struct Optimizer {
    def: &'static OptimizerDef,
    own: Attrs,
    common: Attrs,
    /// What `common` says.
    stages: Arc<Common>,
    schedule: Option<Schedule>,
    counters: Counters,
}

/// How far an optimizer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counters {
    /// Steps taken, accumulating ones included.
    pub iterations: i64,
    /// The adapting loss scale.
    pub loss_scale: f64,
    /// Finite steps in a row since the loss scale last changed.
    pub finite_steps: i64,
}

/// What kind of step is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Whether variables move, and gradients are not only accumulated.
    updates: bool,
    /// Whether variables take the values of their averages.
    overwrites: bool,
}

/// A variable in a step, before it.
#[derive(Debug)]
pub struct Member<'g> {
    /// The variable's value.
    pub theta: Var<'g>,
    /// Its dense gradient.
    pub gradient: Var<'g>,
    /// Its state, in the order of [`Optimizer::slots`]; what is not there yet begins.
    pub state: SmallVec<[Option<Var<'g>>; 4]>,
    /// Whether weight decay leaves it alone.
    pub keeps_weight: bool,
    /// Whether it must not be treated as a matrix.
    pub plain: bool,
}

/// A variable after a step: its value, and its state.
pub type Moved<'g> = (Var<'g>, SmallVec<[Var<'g>; 4]>);

impl Optimizer {
    /// An optimizer by name.
    pub fn new(name: &str, given: Given, schedule: Option<Schedule>) -> Result<Self, Error> {
        let def = ALL.iter().copied().find(|def| def.name == name).ok_or_else(|| {
            Error::UnknownOptimizer {
                name: name.into(),
                known: ALL.iter().map(|def| def.name).collect::<Vec<_>>().join(", ").into(),
            }
        })?;
        let (own, common) = split(def, given);
        let (own, common) = (Attrs::check(def.attrs, own)?, Attrs::check(Common::SPECS, common)?);
        let stages = Arc::new(Common::read(&common));
        let counters =
            Counters { iterations: 0, loss_scale: stages.initial_scale, finite_steps: 0 };
        let optimizer = Self { def, own, common, stages, schedule, counters };
        optimizer.check()?;
        Ok(optimizer)
    }

    /// Changes hyperparameters from the next step on, and replaces the schedule if one is given. Another `initial_scale`
    /// begins the adapting of the loss scale anew.
    pub fn set(&mut self, given: Given, schedule: Option<Schedule>) -> Result<(), Error> {
        let scheduled = schedule.is_some() || self.schedule.is_some();
        if scheduled && given.iter().any(|(name, _)| name == "learning_rate") {
            return Err(Error::attribute(
                "learning_rate",
                "comes from the schedule; to change it, give another schedule",
            ));
        }
        let (own, common) = split(self.def, given);
        let mut changed = self.clone();
        let rescaled = common.iter().any(|(name, _)| name == "initial_scale");
        changed.own.update(self.def.attrs, own)?;
        if !common.is_empty() {
            changed.common.update(Common::SPECS, common)?;
            changed.stages = Arc::new(Common::read(&changed.common));
        }
        if rescaled {
            changed.counters.loss_scale = changed.stages.initial_scale;
            changed.counters.finite_steps = 0;
        }
        changed.schedule = schedule.or(changed.schedule);
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// Its record.
    pub fn def(&self) -> &'static OptimizerDef {
        self.def
    }

    /// Every hyperparameter that has a value.
    pub fn hyperparameters(&self) -> impl Iterator<Item = (&'static str, &Attr)> {
        let specs = self.def.attrs.iter().chain(Common::SPECS).map(|spec| spec.name);
        let values = self.own.values().iter().chain(self.common.values());
        specs.zip(values).filter(|(_, value)| **value != Attr::Unset)
    }

    /// Where the learning rate comes from, if not from the hyperparameter.
    pub fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// How far it is.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The same optimizer at another point of its way.
    pub fn resumed(self, counters: Counters) -> Result<Self, Error> {
        let Counters { iterations, loss_scale, finite_steps } = counters;
        let scale = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
        let scale_fits = scale.contains(&loss_scale)
            || loss_scale.to_bits() == self.stages.initial_scale.to_bits();
        if iterations < 0 || finite_steps < 0 || !scale_fits {
            let why = format!(
                "{iterations} iterations, {finite_steps} finite steps and the loss scale \
                 {loss_scale} cannot be"
            );
            return Err(Error::Malformed { what: "optimizer".into(), why: why.into() });
        }
        Ok(Self { counters, ..self })
    }

    /// Goes back to where it was.
    pub(crate) fn rewind(&mut self, counters: Counters) {
        self.counters = counters;
    }

    /// Steps taken, accumulating ones included.
    pub fn iterations(&self) -> i64 {
        self.counters.iterations
    }

    /// What the loss should be multiplied by before its gradients are taken.
    pub fn loss_scale(&self) -> f64 {
        if self.adapts() {
            return self.counters.loss_scale;
        }
        self.stages.loss_scale_factor.unwrap_or(1.0)
    }

    /// Whether gradients must be looked at before a step: the loss scale adapts to them.
    pub fn adapts(&self) -> bool {
        self.stages.dynamic_loss_scale
    }

    /// Counts a step that succeeded.
    pub fn advance(&mut self) {
        let Counters { iterations, loss_scale, finite_steps } = &mut self.counters;
        *iterations = iterations.saturating_add(1);
        if self.stages.dynamic_loss_scale {
            *finite_steps = finite_steps.saturating_add(1);
            if *finite_steps >= self.stages.dynamic_growth_steps {
                *loss_scale = (*loss_scale * 2.0).min(f64::from(f32::MAX));
                *finite_steps = 0;
            }
        }
    }

    /// Takes note of a step that was skipped because its gradients were not finite.
    pub fn skip(&mut self) {
        let Counters { loss_scale, finite_steps, .. } = &mut self.counters;
        *loss_scale = (*loss_scale * 0.5).max(f64::from(f32::MIN_POSITIVE));
        *finite_steps = 0;
    }

    /// Whether its next step has the program that the next step of another has, but for the numbers. `true` is certain.
    pub(crate) fn writes_like(&self, other: &Self) -> bool {
        // The first attribute is the learning rate, a number of the step.
        std::ptr::eq(self.def, other.def)
            && self.form() == other.form()
            && self.own.same_bits_from(1, &other.own)
            && self.common.same_bits_from(0, &other.common)
    }

    /// What the next step is, besides its hyperparameters and numbers.
    pub(crate) fn form(&self) -> Form {
        let Common { gradient_accumulation_steps: k, use_ema, ema_overwrite_frequency, .. } =
            *self.stages;
        let updates = k == 1 || (self.counters.iterations + 1) % k == 0;
        let overwrites = use_ema
            && ema_overwrite_frequency > 0
            && self.update_number() % ema_overwrite_frequency == 0;
        Form { updates, overwrites: updates && overwrites }
    }

    /// What the numbers of the next step depend on.
    pub(crate) fn pace(&self) -> Pace {
        #[expect(clippy::cast_precision_loss, reason = "2^53 steps are not taken")]
        let update = self.update_number() as f64;
        Pace { rate: self.learning_rate(), update, scale: self.loss_scale() }
    }

    /// Where the formulas of its next step are written.
    pub fn sheet(&self) -> Sheet {
        Sheet::new(self.pace())
    }

    /// The number of the next update, from 1.
    fn update_number(&self) -> i64 {
        self.counters.iterations / self.stages.gradient_accumulation_steps + 1
    }

    /// The learning rate of the next step. Schedules see every step, accumulating ones included.
    pub fn learning_rate(&self) -> f64 {
        if let Some(schedule) = &self.schedule {
            return schedule.rate(self.counters.iterations);
        }
        match self.own.values().first() {
            Some(&Attr::Double(lr)) => lr,
            Some(_) | None => 0.0,
        }
    }

    /// The state that a variable has: that of the stages first, then the rule's own.
    pub fn slots(&self, theta: &crate::aval::Aval, plain: bool) -> Slots {
        let common = &self.stages;
        let role = Role { attrs: &self.own, shape: &theta.shape, plain };
        let accumulator = (common.gradient_accumulation_steps > 1).then_some(ACCUMULATOR);
        let average = common.use_ema.then_some(AVERAGE);
        accumulator.into_iter().chain(average).chain((self.def.slots)(&role)).collect()
    }

    fn check(&self) -> Result<(), Error> {
        let common = &self.stages;
        let given = self
            .def
            .attrs
            .iter()
            .chain(Common::SPECS)
            .zip(self.own.values().iter().chain(self.common.values()));
        for (spec, value) in given {
            if !value.is_finite() {
                return Err(Error::attribute(spec.name, "must be finite"));
            }
            if let (true, Attr::Double(share)) = (SHARES.contains(&spec.name), value)
                && !(0.0..=1.0).contains(share)
            {
                return Err(Error::attribute(spec.name, "must be from 0 to 1"));
            }
        }
        let clips = [
            ("clipnorm", common.clipnorm),
            ("global_clipnorm", common.global_clipnorm),
            ("clipvalue", common.clipvalue),
        ];
        if clips.iter().filter(|(_, limit)| limit.is_some()).count() > 1 {
            return Err(Error::attribute(
                "clipnorm",
                "global_clipnorm and clipvalue exclude each other",
            ));
        }
        let positive = clips.into_iter().chain([("initial_scale", Some(common.initial_scale))]);
        for (name, value) in positive {
            if value.is_some_and(|value| value <= 0.0) {
                return Err(Error::attribute(name, "must be positive"));
            }
        }
        if common.loss_scale_factor == Some(0.0) {
            return Err(Error::attribute("loss_scale_factor", "must not be 0"));
        }
        for (name, value, least) in [
            ("gradient_accumulation_steps", common.gradient_accumulation_steps, 1),
            ("dynamic_growth_steps", common.dynamic_growth_steps, 1),
            ("ema_overwrite_frequency", common.ema_overwrite_frequency, 0),
        ] {
            if !(least..=1 << 20).contains(&value) {
                return Err(Error::attribute(name, format!("must be from {least} to 1048576")));
            }
        }
        if !matches!(common.compat.as_str(), "keras" | "torch") {
            return Err(Error::attribute("compat", "must be \"keras\" or \"torch\""));
        }
        Ok(())
    }

    /// Writes one step for all members.
    pub fn step<'g>(
        &self,
        graph: &'g Graph,
        sheet: &'g Sheet,
        members: &[Member<'g>],
    ) -> Vec<Moved<'g>> {
        let common = &*self.stages;
        let (form, torch) = (self.form(), common.compat == "torch");
        let k = common.gradient_accumulation_steps;
        let widened = |var: Var<'g>| var.cast(var.dtype().widened());
        let mut gradients: Vec<Var> = members.iter().map(|m| widened(m.gradient)).collect();
        if self.adapts() || self.loss_scale().to_bits() != 1.0_f64.to_bits() {
            for g in &mut gradients {
                *g = *g / sheet.scale();
            }
        }
        let mut states: Vec<SmallVec<[Var; 4]>> =
            members.iter().map(|member| self.state(graph, member)).collect();
        if k > 1 {
            for (g, state) in gradients.iter_mut().zip(&mut states) {
                let sum = state[0] + *g;
                #[expect(clippy::cast_precision_loss, reason = "at most 2^20")]
                let mean = sum / k as f64;
                (*g, state[0]) = (mean, if form.updates { sum.zeros() } else { sum });
            }
            if !form.updates {
                return members.iter().map(|member| member.theta).zip(states).collect();
            }
        }
        clip(common, torch, &mut gradients);
        members
            .iter()
            .zip(gradients)
            .zip(states)
            .map(|((member, g), state)| self.update(form, sheet, member, (g, state)))
            .collect()
    }

    /// Weight decay, the rule, and the average, for one variable.
    fn update<'g>(
        &self,
        form: Form,
        sheet: &'g Sheet,
        member: &Member<'g>,
        (mut g, mut state): (Var<'g>, SmallVec<[Var<'g>; 4]>),
    ) -> Moved<'g> {
        let common = &*self.stages;
        let torch = common.compat == "torch";
        let (dtype, shape) = (member.theta.dtype(), member.theta.shape());
        let mut theta = member.theta.cast(dtype.widened());
        let (lr, t) = (sheet.rate(), sheet.update());
        let role = Role { attrs: &self.own, shape: &shape, plain: member.plain };
        match (self.def.weight_decay)(&role, common.weight_decay) {
            Some(_) if member.keeps_weight => {}
            Some(decay) if torch && !self.def.decoupled => g = g + theta * decay,
            Some(decay) => theta = theta - theta * (lr * decay),
            None => {}
        }
        let own = usize::from(common.gradient_accumulation_steps > 1) + usize::from(common.use_ema);
        let step = Step { attrs: &self.own, torch, theta, g, slots: &state[own..], lr, t };
        let (mut theta, slots) = (self.def.update)(&step);
        state.truncate(own);
        if common.use_ema {
            // The first average is the first value.
            let momentum = sheet.constant(common.ema_momentum).after_first();
            let average = state[own - 1] * momentum + theta * (1.0 - momentum);
            if form.overwrites {
                theta = average;
            }
            state[own - 1] = average;
        }
        state.extend(slots);
        (theta.cast(dtype), state)
    }

    fn state<'g>(&self, graph: &'g Graph, member: &Member<'g>) -> SmallVec<[Var<'g>; 4]> {
        let theta = member.theta.cast(member.theta.dtype().widened());
        let slots = self.slots(&member.theta.aval(), member.plain);
        let known = member.state.iter().copied().chain(std::iter::repeat(None));
        slots
            .iter()
            .zip(known)
            .map(|(slot, var)| var.unwrap_or_else(|| slot.create(graph, theta)))
            .collect()
    }
}

fn split(def: &OptimizerDef, given: Given) -> (Given, Given) {
    let is_common = |name: &str| {
        Common::SPECS.iter().any(|spec| spec.name == name)
            && !def.attrs.iter().any(|spec| spec.name == name)
    };
    given.into_iter().partition(|(name, _)| !is_common(name))
}
