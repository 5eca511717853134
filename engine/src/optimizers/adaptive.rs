//! Steps divided by the root of squared gradients.

use smallvec::smallvec;

use super::{AS_GIVEN, Initial, OptimizerDef, SlotDef};
use crate::{
    attrs,
    graph::Var,
    ops::{CLIP_BY_VALUE, Clip, POW, SQRT, SQUARE},
};

attrs! {
    /// Hyperparameters of `RMSprop`.
    RmsProp {
        /// Learning rate. PyTorch's default is 0.01.
        learning_rate: f64 = Double(0.001),
        /// Decay of the mean square. PyTorch calls it alpha; its default is 0.99.
        rho: f64 = Double(0.9),
        /// How much of the last step goes on.
        momentum: f64 = Double(0.0),
        /// Keeps the quotient finite. Keras adds it under the root, PyTorch outside; PyTorch's default is 1e-8.
        epsilon: f64 = Double(1e-7),
        /// Whether to divide by the standard deviation instead.
        centered: bool = Bool(false),
    }
}

/// `RMSprop`.
pub static RMSPROP: OptimizerDef = OptimizerDef {
    name: "rmsprop",
    summary: "RMSprop: steps by the gradient over the root of its mean square.",
    formula: "v = rho v + (1 - rho) g^2; d = lr g / sqrt(v - a^2 + eps) with a = rho a + (1 - rho) g if centered; \
              b = mu b + d; theta -= b. PyTorch: b = mu b + g / (sqrt(v - a^2) + eps); theta -= lr b",
    attrs: RmsProp::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |role| {
        let RmsProp { momentum, centered, .. } = RmsProp::read(role.attrs);
        let optional = [("momentum", momentum > 0.0), ("average_gradient", centered)];
        let optional = optional.into_iter().filter(|&(_, wanted)| wanted);
        std::iter::once("velocity")
            .chain(optional.map(|(name, _)| name))
            .map(SlotDef::zeros)
            .collect()
    },
    update: |s| {
        let RmsProp { rho, momentum, epsilon, centered, .. } = RmsProp::read(s.attrs);
        let v = s.slots[0] * rho + s.g.map(&SQUARE) * (1.0 - rho);
        let mean = s.slots.last().filter(|_| centered).map(|&a| a * rho + s.g * (1.0 - rho));
        let spread = mean.map_or(v, |mean| v - mean.map(&SQUARE));
        let quotient = if s.torch {
            s.g / (spread.map(&SQRT) + epsilon)
        } else {
            s.g * s.lr / (spread + epsilon).map(&SQRT)
        };
        let moved = s.slots.get(1).filter(|_| momentum > 0.0).map(|&b| b * momentum + quotient);
        let step = moved.unwrap_or(quotient);
        let step = if s.torch { step * s.lr } else { step };
        let slots = std::iter::once(v).chain(moved).chain(mean).collect();
        (s.theta - step, slots)
    },
};

attrs! {
    /// Hyperparameters of Adagrad.
    Adagrad {
        /// Learning rate. PyTorch's default is 0.01.
        learning_rate: f64 = Double(0.001),
        /// What the sum of squares begins with. PyTorch's default is 0.
        initial_accumulator_value: f64 = Double(0.1),
        /// Keeps the quotient finite. Keras adds it under the root, PyTorch outside; PyTorch's default is 1e-10.
        epsilon: f64 = Double(1e-7),
    }
}

fn accumulator(name: &'static str, value: f64) -> SlotDef {
    SlotDef { initial: Initial::Value(value), ..SlotDef::zeros(name) }
}

/// Adagrad.
pub static ADAGRAD: OptimizerDef = OptimizerDef {
    name: "adagrad",
    summary: "Adagrad: steps by the gradient over the root of the sum of its squares.",
    formula: "s += g^2; theta -= lr g / sqrt(s + eps). PyTorch: theta -= lr g / (sqrt(s) + eps)",
    attrs: Adagrad::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |role| {
        let initial = Adagrad::read(role.attrs).initial_accumulator_value;
        smallvec![accumulator("accumulator", initial)]
    },
    update: |s| {
        let Adagrad { epsilon, .. } = Adagrad::read(s.attrs);
        let sum = s.slots[0] + s.g.map(&SQUARE);
        let root = if s.torch { sum.map(&SQRT) + epsilon } else { (sum + epsilon).map(&SQRT) };
        (s.theta - s.g * s.lr / root, smallvec![sum])
    },
};

attrs! {
    /// Hyperparameters of Adadelta.
    Adadelta {
        /// Learning rate. PyTorch's default is 1.
        learning_rate: f64 = Double(0.001),
        /// Decay of the mean squares. PyTorch's default is 0.9.
        rho: f64 = Double(0.95),
        /// Keeps the quotient finite. PyTorch's default is 1e-6.
        epsilon: f64 = Double(1e-7),
    }
}

/// Adadelta.
pub static ADADELTA: OptimizerDef = OptimizerDef {
    name: "adadelta",
    summary: "Adadelta: steps by the gradient, scaled by the ratio of mean squares of steps and gradients.",
    formula: "e = rho e + (1 - rho) g^2; d = g sqrt(f + eps) / sqrt(e + eps); f = rho f + (1 - rho) d^2; \
              theta -= lr d",
    attrs: Adadelta::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |_| {
        ["accumulated_grad", "accumulated_delta_var"].into_iter().map(SlotDef::zeros).collect()
    },
    update: |s| {
        let Adadelta { rho, epsilon, .. } = Adadelta::read(s.attrs);
        let e = s.slots[0] * rho + s.g.map(&SQUARE) * (1.0 - rho);
        let delta = s.g * (s.slots[1] + epsilon).map(&SQRT) / (e + epsilon).map(&SQRT);
        let f = s.slots[1] * rho + delta.map(&SQUARE) * (1.0 - rho);
        (s.theta - delta * s.lr, smallvec![e, f])
    },
};

attrs! {
    /// Hyperparameters of Ftrl.
    Ftrl {
        /// Learning rate.
        learning_rate: f64 = Double(0.001),
        /// How the rate decreases with the accumulated squares; at most 0.
        learning_rate_power: f64 = Double(-0.5),
        /// What the sum of squares begins with.
        initial_accumulator_value: f64 = Double(0.1),
        /// Strength of the absolute penalty, which makes weights exactly 0.
        l1_regularization_strength: f64 = Double(0.0),
        /// Strength of the squared penalty.
        l2_regularization_strength: f64 = Double(0.0),
        /// Strength of the squared penalty that is added to the gradient.
        l2_shrinkage_regularization_strength: f64 = Double(0.0),
        /// Steadies the first rates.
        beta: f64 = Double(0.0),
    }
}

/// Ftrl.
pub static FTRL: OptimizerDef = OptimizerDef {
    name: "ftrl",
    summary: "Follow the regularised leader: sparse weights for linear models.",
    formula: "n' = n + g^2; z += g + 2 s theta - theta (n'^-p - n^-p) / lr; \
              theta = (clip(z, -l1, l1) - z) / (n'^-p / lr + 2 (l2 + beta / (2 lr))) (McMahan et al. 2013)",
    attrs: Ftrl::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: true,
    slots: |role| {
        let initial = Ftrl::read(role.attrs).initial_accumulator_value;
        smallvec![accumulator("accumulator", initial), SlotDef::zeros("linear")]
    },
    update: |s| {
        let Ftrl {
            learning_rate_power,
            l1_regularization_strength: l1,
            l2_regularization_strength: l2,
            l2_shrinkage_regularization_strength: shrinkage,
            beta,
            ..
        } = Ftrl::read(s.attrs);
        let raised = |n| Var::zip(n, &POW, s.theta.scalar(-learning_rate_power));
        let (old, linear) = (s.slots[0], s.slots[1]);
        let new = old + s.g.map(&SQUARE);
        let curvature = raised(new);
        let pull = s.theta * (curvature - raised(old)) / s.lr;
        let z = linear + s.g + s.theta * (2.0 * shrinkage) - pull;
        let quadratic = curvature / s.lr + 2.0 * (l2 + beta / (2.0 * s.lr));
        let bounds = Clip { clip_value_min: -l1, clip_value_max: l1 }.write();
        ((z.op(&CLIP_BY_VALUE, bounds, &[]) - z) / quadratic, smallvec![new, z])
    },
};
