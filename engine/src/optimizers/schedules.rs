//! Learning-rate schedules: a table of formulas from the number of a step to a rate.
//!
//! Schedules are evaluated in `float64`, with the number of steps taken so far: the first step has number 0.

use std::f64::consts::PI;

use super::Given;
use crate::{
    attrs,
    attrs::{AttrSpec, Attrs, Doubles, Ints},
    error::Error,
};

/// The table, as the documentation lists it.
pub static ALL: &[&ScheduleDef] = &[
    &CONSTANT,
    &EXPONENTIAL,
    &PIECEWISE_CONSTANT,
    &POLYNOMIAL,
    &INVERSE_TIME,
    &INVERSE_SQRT,
    &COSINE,
    &COSINE_RESTARTS,
    &ONE_CYCLE,
];

/// All of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleDef {
    /// Name on the wire, never reused.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The formula, with s for the number of the step.
    pub formula: &'static str,
    /// Attributes besides those of [`Warmup`].
    pub attrs: &'static [AttrSpec],
    /// Whether attributes make sense together, beyond being finite.
    pub check: fn(&Attrs) -> Result<(), Error>,
    /// The rate at a step, which is not negative.
    pub rate: fn(&Attrs, f64) -> f64,
}

attrs! {
    /// Attributes that every schedule takes.
    Warmup {
        /// The rate rises linearly over so many steps to the schedule's first, and the schedule begins after them.
        warmup_steps: i64 = Int(0),
        /// The rate from which it rises.
        warmup_from: f64 = Double(0.0),
    }
}

/// A schedule with its attributes.
#[derive(Clone, Debug)]
pub struct Schedule {
    def: &'static ScheduleDef,
    own: Attrs,
    warmup: Attrs,
}

impl Schedule {
    /// A schedule by name.
    pub fn new(name: &str, given: Given) -> Result<Self, Error> {
        let def = ALL.iter().copied().find(|def| def.name == name).ok_or_else(|| {
            let known = ALL.iter().map(|def| def.name).collect::<Vec<_>>().join(", ");
            Error::attribute(
                "learning_rate_schedule",
                format!("{name} is unknown; there are: {known}"),
            )
        })?;
        let (warmup, own): (Given, Given) = given
            .into_iter()
            .partition(|(name, _)| Warmup::SPECS.iter().any(|spec| spec.name == name));
        let schedule = Self {
            def,
            own: Attrs::check(def.attrs, own)?,
            warmup: Attrs::check(Warmup::SPECS, warmup)?,
        };
        let specs = def.attrs.iter().chain(Warmup::SPECS);
        for (spec, value) in specs.zip(schedule.own.values().iter().chain(schedule.warmup.values()))
        {
            if !value.is_finite() {
                return Err(Error::attribute(spec.name, "must be finite"));
            }
        }
        if Warmup::read(&schedule.warmup).warmup_steps < 0 {
            return Err(Error::attribute("warmup_steps", "must not be negative"));
        }
        (def.check)(&schedule.own)?;
        Ok(schedule)
    }

    /// Its record.
    pub fn def(&self) -> &'static ScheduleDef {
        self.def
    }

    /// The attributes: its own, and those of the warmup.
    pub fn attrs(&self) -> impl Iterator<Item = (&'static str, &crate::attrs::Attr)> {
        let specs = self.def.attrs.iter().chain(Warmup::SPECS).map(|spec| spec.name);
        specs.zip(self.own.values().iter().chain(self.warmup.values()))
    }

    /// The rate at a step, from 0.
    #[expect(clippy::cast_precision_loss, reason = "2^53 steps are not taken")]
    pub fn rate(&self, step: i64) -> f64 {
        let Warmup { warmup_steps, warmup_from } = Warmup::read(&self.warmup);
        if step < warmup_steps {
            let risen = step as f64 / warmup_steps as f64;
            return warmup_from + ((self.def.rate)(&self.own, 0.0) - warmup_from) * risen;
        }
        (self.def.rate)(&self.own, (step - warmup_steps) as f64)
    }
}

/// Checks that something is more than 0.
fn positive(name: &'static str, value: f64) -> Result<(), Error> {
    if value > 0.0 { Ok(()) } else { Err(Error::attribute(name, "must be positive")) }
}

attrs! {
    /// Attributes of a constant rate.
    Constant {
        /// The rate.
        learning_rate: f64 = Required,
    }
}

static CONSTANT: ScheduleDef = ScheduleDef {
    name: "constant",
    summary: "One rate throughout: useful with a warmup.",
    formula: "lr",
    attrs: Constant::SPECS,
    check: |_| Ok(()),
    rate: |attrs, _| Constant::read(attrs).learning_rate,
};

attrs! {
    /// Attributes of exponential and inverse-time decay.
    Decay {
        /// The rate at step 0.
        initial_learning_rate: f64 = Required,
        /// After so many steps the rate has decayed once.
        decay_steps: f64 = Required,
        /// How much it decays.
        decay_rate: f64 = Required,
        /// Whether it decays all at once after `decay_steps` instead of a little each step.
        staircase: bool = Bool(false),
    }
}

impl Decay {
    fn periods(&self, step: f64) -> f64 {
        let periods = step / self.decay_steps;
        if self.staircase { periods.floor() } else { periods }
    }
}

static EXPONENTIAL: ScheduleDef = ScheduleDef {
    name: "exponential_decay",
    summary: "A rate that is multiplied by the same factor again and again.",
    formula: "lr r^(s / d), with staircase lr r^floor(s / d)",
    attrs: Decay::SPECS,
    check: |attrs| {
        positive("decay_steps", Decay::read(attrs).decay_steps)?;
        positive("decay_rate", Decay::read(attrs).decay_rate)
    },
    rate: |attrs, step| {
        let decay = Decay::read(attrs);
        decay.initial_learning_rate * libm::pow(decay.decay_rate, decay.periods(step))
    },
};

static INVERSE_TIME: ScheduleDef = ScheduleDef {
    name: "inverse_time_decay",
    summary: "A rate that decays as one over time.",
    formula: "lr / (1 + r s / d), with staircase lr / (1 + r floor(s / d))",
    attrs: Decay::SPECS,
    check: |attrs| {
        positive("decay_steps", Decay::read(attrs).decay_steps)?;
        positive("decay_rate", Decay::read(attrs).decay_rate)
    },
    rate: |attrs, step| {
        let decay = Decay::read(attrs);
        decay.initial_learning_rate / (1.0 + decay.decay_rate * decay.periods(step))
    },
};

attrs! {
    /// Attributes of inverse-root decay.
    InverseSqrt {
        /// The rate at step 0.
        initial_learning_rate: f64 = Required,
        /// After three times so many steps the rate has halved.
        decay_steps: f64 = Required,
    }
}

static INVERSE_SQRT: ScheduleDef = ScheduleDef {
    name: "inverse_sqrt_decay",
    summary: "A rate that decays as one over the root of time; with a warmup, that of the first transformers.",
    formula: "lr / sqrt(1 + s / d)",
    attrs: InverseSqrt::SPECS,
    check: |attrs| positive("decay_steps", InverseSqrt::read(attrs).decay_steps),
    rate: |attrs, step| {
        let InverseSqrt { initial_learning_rate, decay_steps } = InverseSqrt::read(attrs);
        initial_learning_rate / (1.0 + step / decay_steps).sqrt()
    },
};

attrs! {
    /// Attributes of piecewise constant rates.
    Piecewise {
        /// Steps up to and including which each value holds, ascending.
        boundaries: Ints = Required,
        /// The rates: one more than boundaries.
        values: Doubles = Required,
    }
}

static PIECEWISE_CONSTANT: ScheduleDef = ScheduleDef {
    name: "piecewise_constant_decay",
    summary: "A list of rates, each up to a step.",
    formula: "values[i] while s <= boundaries[i]",
    attrs: Piecewise::SPECS,
    check: |attrs| {
        let Piecewise { boundaries, values } = Piecewise::read(attrs);
        if values.len() != boundaries.len() + 1 {
            return Err(Error::attribute("values", "must be one more than boundaries"));
        }
        if !boundaries.is_sorted() {
            return Err(Error::attribute("boundaries", "must ascend"));
        }
        Ok(())
    },
    #[expect(clippy::cast_precision_loss, reason = "2^53 steps are not taken")]
    rate: |attrs, step| {
        let Piecewise { boundaries, values } = Piecewise::read(attrs);
        let at = boundaries.iter().take_while(|&&boundary| step > boundary as f64).count();
        values.get(at).copied().unwrap_or(0.0)
    },
};

attrs! {
    /// Attributes of polynomial decay.
    Polynomial {
        /// The rate at step 0.
        initial_learning_rate: f64 = Required,
        /// The step at which the end is reached.
        decay_steps: f64 = Required,
        /// The last rate.
        end_learning_rate: f64 = Double(0.0001),
        /// The exponent; 1 is linear.
        power: f64 = Double(1.0),
        /// Whether to begin again after `decay_steps`, with a multiple of them.
        cycle: bool = Bool(false),
    }
}

static POLYNOMIAL: ScheduleDef = ScheduleDef {
    name: "polynomial_decay",
    summary: "A rate that decays to another along a polynomial.",
    formula: "(lr - e) (1 - min(s, d) / d)^p + e; with cycle d is the next multiple of decay_steps",
    attrs: Polynomial::SPECS,
    check: |attrs| positive("decay_steps", Polynomial::read(attrs).decay_steps),
    rate: |attrs, step| {
        let Polynomial { initial_learning_rate, decay_steps, end_learning_rate, power, cycle } =
            Polynomial::read(attrs);
        let all =
            if cycle { decay_steps * (step / decay_steps).ceil().max(1.0) } else { decay_steps };
        let left = 1.0 - step.min(all) / all;
        (initial_learning_rate - end_learning_rate) * libm::pow(left, power) + end_learning_rate
    },
};

/// From 1 at 0 to 0 at 1, as a cosine.
fn cosine(done: f64) -> f64 {
    0.5 * (1.0 + libm::cos(PI * done))
}

attrs! {
    /// Attributes of cosine decay.
    Cosine {
        /// The rate at step 0.
        initial_learning_rate: f64 = Required,
        /// The step at which the end is reached.
        decay_steps: f64 = Required,
        /// The last rate, as a fraction of the first.
        alpha: f64 = Double(0.0),
    }
}

static COSINE: ScheduleDef = ScheduleDef {
    name: "cosine_decay",
    summary: "A rate that decays along half a wave.",
    formula: "lr ((1 - a) (1 + cos(pi min(s, d) / d)) / 2 + a) (Loshchilov and Hutter 2017)",
    attrs: Cosine::SPECS,
    check: |attrs| positive("decay_steps", Cosine::read(attrs).decay_steps),
    rate: |attrs, step| {
        let Cosine { initial_learning_rate, decay_steps, alpha } = Cosine::read(attrs);
        let done = step.min(decay_steps) / decay_steps;
        initial_learning_rate * ((1.0 - alpha) * cosine(done) + alpha)
    },
};

attrs! {
    /// Attributes of cosine decay with restarts.
    CosineRestarts {
        /// The rate at step 0.
        initial_learning_rate: f64 = Required,
        /// Length of the first period.
        first_decay_steps: f64 = Required,
        /// Each period is so many times as long as the last, at least 1.
        t_mul: f64 = Double(2.0),
        /// Each period begins with so many times the rate of the last.
        m_mul: f64 = Double(1.0),
        /// The last rate of a period, as a fraction of the first rate of all.
        alpha: f64 = Double(0.0),
    }
}

static COSINE_RESTARTS: ScheduleDef = ScheduleDef {
    name: "cosine_decay_restarts",
    summary: "Half waves that begin again, each longer than the last.",
    formula: "lr ((1 - a) m^i (1 + cos(pi c)) / 2 + a), c the completed share of period i (Loshchilov and Hutter 2017)",
    attrs: CosineRestarts::SPECS,
    check: |attrs| {
        let CosineRestarts { first_decay_steps, t_mul, m_mul, .. } = CosineRestarts::read(attrs);
        positive("first_decay_steps", first_decay_steps)?;
        positive("m_mul", m_mul)?;
        if t_mul >= 1.0 { Ok(()) } else { Err(Error::attribute("t_mul", "must be at least 1")) }
    },
    rate: |attrs, step| {
        let CosineRestarts { initial_learning_rate, first_decay_steps, t_mul, m_mul, alpha } =
            CosineRestarts::read(attrs);
        let done = step / first_decay_steps;
        let (period, done) = if t_mul > 1.0 {
            // Periods before this one took (t^i - 1) / (t - 1) first periods.
            let period = (libm::log(1.0 + done * (t_mul - 1.0)) / libm::log(t_mul)).floor();
            let length = libm::pow(t_mul, period);
            (period, (done - (length - 1.0) / (t_mul - 1.0)) / length)
        } else {
            (done.floor(), done - done.floor())
        };
        let height = libm::pow(m_mul, period) * cosine(done);
        initial_learning_rate * ((1.0 - alpha) * height + alpha)
    },
};

attrs! {
    /// Attributes of the one-cycle policy.
    OneCycle {
        /// The highest rate.
        max_learning_rate: f64 = Required,
        /// Steps of the whole cycle.
        total_steps: f64 = Required,
        /// Share of the steps in which the rate rises.
        pct_start: f64 = Double(0.3),
        /// The first rate is the highest divided by this.
        div_factor: f64 = Double(25.0),
        /// The last rate is the first divided by this.
        final_div_factor: f64 = Double(10000.0),
    }
}

static ONE_CYCLE: ScheduleDef = ScheduleDef {
    name: "one_cycle",
    summary: "A rate that rises along half a wave and falls along another, as PyTorch's OneCycleLR.",
    formula: "from max / div to max in the first pct_start of the steps, then to max / div / final_div (Smith and Topin 2018)",
    attrs: OneCycle::SPECS,
    check: |attrs| {
        let OneCycle { total_steps, pct_start, div_factor, final_div_factor, .. } =
            OneCycle::read(attrs);
        positive("div_factor", div_factor)?;
        positive("final_div_factor", final_div_factor)?;
        if !(0.0..=1.0).contains(&pct_start) {
            return Err(Error::attribute("pct_start", "must be from 0 to 1"));
        }
        if total_steps >= 1.0 {
            Ok(())
        } else {
            Err(Error::attribute("total_steps", "must be at least 1"))
        }
    },
    rate: |attrs, step| {
        let OneCycle { max_learning_rate, total_steps, pct_start, div_factor, final_div_factor } =
            OneCycle::read(attrs);
        let first = max_learning_rate / div_factor;
        let last = first / final_div_factor;
        let (peak, end) = (pct_start * total_steps - 1.0, total_steps - 1.0);
        if step <= peak && peak > 0.0 {
            return max_learning_rate + (first - max_learning_rate) * cosine(step / peak);
        }
        let done = if end > peak { ((step - peak) / (end - peak)).clamp(0.0, 1.0) } else { 1.0 };
        last + (max_learning_rate - last) * cosine(done)
    },
};
