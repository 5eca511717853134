//! Steps along the gradient or its sign.

use smallvec::smallvec;

use super::{AS_GIVEN, OptimizerDef, SlotDef};
use crate::{attrs, ops::SIGN};

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
    formula: "m = mu m - lr g; theta = theta + m, or theta + mu m - lr g with nesterov. PyTorch: m = mu m + g; theta -= lr m",
    attrs: Sgd::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: false,
    slots: |role| {
        let momentum = Sgd::read(role.attrs).momentum;
        if momentum == 0.0 { smallvec![] } else { smallvec![SlotDef::zeros("momentum")] }
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
    /// Hyperparameters of Lion.
    Lion {
        /// Learning rate.
        learning_rate: f64 = Double(0.001),
        /// How much the momentum counts in a step.
        beta_1: f64 = Double(0.9),
        /// Decay of the momentum.
        beta_2: f64 = Double(0.99),
    }
}

/// Lion.
pub static LION: OptimizerDef = OptimizerDef {
    name: "lion",
    summary: "Lion: steps of one length along the sign of an interpolated momentum.",
    formula: "theta -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g (Chen et al. 2023, arXiv 2302.06675)",
    attrs: Lion::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: true,
    slots: |_| smallvec![SlotDef::zeros("momentum")],
    update: |s| {
        let Lion { beta_1, beta_2, .. } = Lion::read(s.attrs);
        let m = s.slots[0];
        let direction = (m * beta_1 + s.g * (1.0 - beta_1)).map(&SIGN);
        (s.theta - direction * s.lr, smallvec![m * beta_2 + s.g * (1.0 - beta_2)])
    },
};
