//! Adam and its kin: steps by a mean of gradients over the root of their mean square.

use smallvec::smallvec;

use super::{
    AS_GIVEN, Initial, Number, OptimizerDef, SlotDef, SlotShape, Slots, Step, Updated, average,
};
use crate::{
    attrs,
    graph::Var,
    ops::{ABS, GREATER, LOGICAL_AND, MAXIMUM, REDUCE_SUM, Reduce, SQRT, SQUARE},
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

fn moments() -> Slots {
    smallvec![SlotDef::zeros("momentum"), SlotDef::zeros("velocity")]
}

/// The new mean and mean square.
fn next_moments<'g>(s: &Step<'g, '_>, beta_1: f64, beta_2: f64) -> [Var<'g>; 2] {
    [average(s.slots[0], s.g, beta_1), average(s.slots[1], s.g.map(&SQUARE), beta_2)]
}

/// One step of Adam.
pub(super) fn adam<'g>(
    s: &Step<'g, '_>,
    (beta_1, beta_2): (f64, f64),
    epsilon: f64,
) -> Updated<'g> {
    let [m, v] = next_moments(s, beta_1, beta_2);
    let (c1, c2) = (s.correction(beta_1), s.correction(beta_2).sqrt());
    let largest = s.slots.get(2).map(|hat| hat.zip(&MAXIMUM, v));
    let root = largest.unwrap_or(v).map(&SQRT);
    let step = if s.torch {
        m * (s.lr / c1) / (root / c2 + epsilon)
    } else {
        m * (s.lr * c2 / c1) / (root + epsilon)
    };
    (s.theta - step, [m, v].into_iter().chain(largest).collect())
}

/// Adam.
pub static ADAM: OptimizerDef = OptimizerDef {
    name: "adam",
    summary: "Adam: steps by the mean of gradients over the root of their mean square.",
    formula: "m += (g - m)(1 - b1); v += (g^2 - v)(1 - b2); theta -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps). \
              PyTorch: theta -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) (Kingma and Ba 2015; AMSGrad: Reddi et al. 2018)",
    attrs: Adam::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |role| {
        let mut slots = moments();
        if Adam::read(role.attrs).amsgrad {
            slots.push(SlotDef::zeros("velocity_hat"));
        }
        slots
    },
    update: |s| {
        let Adam { beta_1, beta_2, epsilon, .. } = Adam::read(s.attrs);
        adam(s, (beta_1, beta_2), epsilon)
    },
};

/// Adam with decoupled weight decay.
pub static ADAMW: OptimizerDef = OptimizerDef {
    name: "adamw",
    summary: "Adam with decoupled weight decay, of 0.004 unless another is given. PyTorch's default is 0.01.",
    formula: "theta -= lr w theta; then as adam (Loshchilov and Hutter 2019)",
    weight_decay: |_, given| given.or(Some(0.004)),
    decoupled: true,
    ..ADAM
};

attrs! {
    /// Hyperparameters of Adamax.
    Adamax {
        /// Learning rate. PyTorch's default is 0.002.
        learning_rate: f64 = Double(0.001),
        /// Decay of the mean.
        beta_1: f64 = Double(0.9),
        /// Decay of the largest magnitude.
        beta_2: f64 = Double(0.999),
        /// Keeps the quotient finite. Keras adds it to the largest magnitude, PyTorch to the gradient's; PyTorch's default
        /// is 1e-8.
        epsilon: f64 = Double(1e-7),
    }
}

/// Adamax.
pub static ADAMAX: OptimizerDef = OptimizerDef {
    name: "adamax",
    summary: "Adam with the largest magnitude in place of the root mean square.",
    formula: "m += (g - m)(1 - b1); u = max(b2 u, |g|); theta -= lr m / ((1 - b1^t)(u + eps)). \
              PyTorch: u = max(b2 u, |g| + eps); theta -= lr m / ((1 - b1^t) u)",
    attrs: Adamax::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |_| smallvec![SlotDef::zeros("momentum"), SlotDef::zeros("norm")],
    update: |s| {
        let Adamax { beta_1, beta_2, epsilon, .. } = Adamax::read(s.attrs);
        let m = average(s.slots[0], s.g, beta_1);
        let size = s.g.map(&ABS);
        let size = if s.torch { size + epsilon } else { size };
        let u = (s.slots[1] * beta_2).zip(&MAXIMUM, size);
        let divisor = if s.torch { u } else { u + epsilon };
        (s.theta - m * (s.lr / s.correction(beta_1)) / divisor, smallvec![m, u])
    },
};

attrs! {
    /// Hyperparameters of Nadam.
    Nadam {
        /// Learning rate. PyTorch's default is 0.002.
        learning_rate: f64 = Double(0.001),
        /// Decay of the mean.
        beta_1: f64 = Double(0.9),
        /// Decay of the mean square.
        beta_2: f64 = Double(0.999),
        /// Keeps the quotient finite. PyTorch's default is 1e-8.
        epsilon: f64 = Double(1e-7),
        /// How fast the momentum rises: by 0.96^(t times this). 1 with Keras' formulas and 0.004 with PyTorch's unless given.
        momentum_decay: Option<f64> = Unset,
    }
}

/// Nadam.
pub static NADAM: OptimizerDef = OptimizerDef {
    name: "nadam",
    summary: "Adam that looks ahead along the momentum.",
    formula: "mu_t = b1 (1 - 0.96^(d t) / 2); p_t = p mu_t; \
              theta -= lr (mu_{t+1} m / (1 - p_t mu_{t+1}) + (1 - mu_t) g / (1 - p_t)) / (sqrt(v / (1 - b2^t)) + eps) \
              (Dozat 2016)",
    attrs: Nadam::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |_| {
        let product = SlotDef {
            name: "momentum_product",
            shape: SlotShape::Scalar,
            initial: Initial::Value(1.0),
        };
        moments().into_iter().chain([product]).collect()
    },
    update: |s| {
        let Nadam { beta_1, beta_2, epsilon, momentum_decay, .. } = Nadam::read(s.attrs);
        let decay = momentum_decay.unwrap_or(if s.torch { 0.004 } else { 1.0 });
        let (now, next) = (rise(s, beta_1, decay, s.t), rise(s, beta_1, decay, s.t + 1.0));
        let [m, v] = next_moments(s, beta_1, beta_2);
        let product = s.slots[2] * now;
        let one = product.ones();
        let ahead = m * next / (one - product * next) + s.g * (1.0 - now) / (one - product);
        let root = (v / s.correction(beta_2)).map(&SQRT);
        (s.theta - ahead * s.lr / (root + epsilon), smallvec![m, v, product])
    },
};

/// The momentum of an update.
fn rise<'g>(s: &Step<'g, '_>, beta_1: f64, decay: f64, t: Number<'g>) -> Number<'g> {
    beta_1 * (1.0 - 0.5 * s.power(t.constant(0.96), t * decay))
}

attrs! {
    /// Hyperparameters of Lamb.
    Lamb {
        /// Learning rate.
        learning_rate: f64 = Double(0.001),
        /// Decay of the mean.
        beta_1: f64 = Double(0.9),
        /// Decay of the mean square.
        beta_2: f64 = Double(0.999),
        /// Keeps the quotient finite.
        epsilon: f64 = Double(1e-7),
    }
}

/// The Euclidean norm of all elements.
pub(super) fn norm(x: Var<'_>) -> Var<'_> {
    let all = Reduce { axis: smallvec![], keepdims: false }.write();
    x.map(&SQUARE).op(&REDUCE_SUM, all, &[]).map(&SQRT)
}

/// Lamb.
pub static LAMB: OptimizerDef = OptimizerDef {
    name: "lamb",
    summary: "Adam whose step for each variable is as long as the variable, for large batches.",
    formula: "r = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps); theta -= lr r ||theta|| / ||r||, or lr r where a norm is 0 \
              (You et al. 2020)",
    attrs: Lamb::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: true,
    slots: |_| moments(),
    update: |s| {
        let Lamb { beta_1, beta_2, epsilon, .. } = Lamb::read(s.attrs);
        let [m, v] = next_moments(s, beta_1, beta_2);
        let root = (v / s.correction(beta_2)).map(&SQRT);
        let r = m / s.correction(beta_1) / (root + epsilon);
        let (long, short) = (norm(s.theta), norm(r));
        (s.theta - r * trust(long, short) * s.lr, smallvec![m, v])
    },
};

/// The quotient of two norms, and 1 where one of them is 0.
fn trust<'g>(long: Var<'g>, short: Var<'g>) -> Var<'g> {
    let zero = long.zeros();
    let both = long.zip(&GREATER, zero).zip(&LOGICAL_AND, short.zip(&GREATER, zero));
    (long / short.select(both, short.ones())).select(both, long.ones())
}

attrs! {
    /// Hyperparameters of schedule-free `AdamW`.
    ScheduleFree {
        /// Learning rate.
        learning_rate: f64 = Double(0.0025),
        /// How near to the average the gradient is taken.
        beta_1: f64 = Double(0.9),
        /// Decay of the mean square.
        beta_2: f64 = Double(0.999),
        /// Keeps the quotient finite.
        epsilon: f64 = Double(1e-8),
        /// The learning rate rises linearly over so many steps.
        warmup_steps: i64 = Int(0),
    }
}

/// Schedule-free `AdamW`.
pub static SCHEDULE_FREE_ADAMW: OptimizerDef = OptimizerDef {
    name: "schedule_free_adamw",
    summary: "AdamW on an average of its iterates, so that it needs no schedule. Keras 3.15 recovers the average from the wrong \
              iterate; this does as the paper.",
    formula: "x = (theta - (1 - b1) z) / b1; z -= lr g / (sqrt(v / (1 - b2^t)) + eps); x += (z - x) / t; \
              theta = (1 - b1) z + b1 x (Defazio et al. 2024, arXiv 2405.15682)",
    attrs: ScheduleFree::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: true,
    slots: |_| {
        smallvec![
            SlotDef { initial: Initial::Variable, ..SlotDef::zeros("momentum") },
            SlotDef::zeros("velocity")
        ]
    },
    #[expect(clippy::cast_precision_loss, reason = "2^53 steps are not taken")]
    update: |s| {
        let ScheduleFree { beta_1, beta_2, epsilon, warmup_steps, .. } =
            ScheduleFree::read(s.attrs);
        let one = s.t.constant(1.0);
        let risen = if warmup_steps > 0 { (s.t / warmup_steps as f64).min(one) } else { one };
        let v = average(s.slots[1], s.g.map(&SQUARE), beta_2);
        let root = (v / s.correction(beta_2)).map(&SQRT);
        let before = s.slots[0];
        let z = before - s.g * (s.lr * risen) / (root + epsilon);
        let x = (s.theta - before * (1.0 - beta_1)) / beta_1;
        let x = x + (z - x) / s.t;
        (z * (1.0 - beta_1) + x * beta_1, smallvec![z, v])
    },
};
