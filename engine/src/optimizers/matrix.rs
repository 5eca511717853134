//! Optimizers that know matrices.

use smallvec::smallvec;

use super::{
    AS_GIVEN, OptimizerDef, Role, SlotDef, SlotShape, Step, Updated,
    adam::{adam, norm},
};
use crate::{
    attrs,
    graph::Var,
    ops::{MAXIMUM, REDUCE_MEAN, SQRT, SQUARE},
};

attrs! {
    /// Hyperparameters of Adafactor.
    Adafactor {
        /// Largest learning rate.
        learning_rate: f64 = Double(0.001),
        /// How the decay of the mean squares approaches 1: it is 1 - t^this.
        beta_2_decay: f64 = Double(-0.8),
        /// Keeps the mean squares positive.
        epsilon_1: f64 = Double(1e-30),
        /// Smallest scale of a variable.
        epsilon_2: f64 = Double(1e-3),
        /// Largest root mean square of a step before scaling.
        clip_threshold: f64 = Double(1.0),
        /// Whether the rate is at most 1/sqrt(t). Keras takes that minimum in any case, so this changes nothing.
        relative_step: bool = Bool(true),
    }
}

/// Adafactor.
pub static ADAFACTOR: OptimizerDef = OptimizerDef {
    name: "adafactor",
    summary: "Adam without momentum that keeps the mean squares of a matrix by rows and columns only.",
    formula: "b = 1 - t^d; q = g^2 + eps1; r, c: means of q by rows and columns, decayed by b; v = r c / mean(r); \
              u = g / sqrt(v); u /= max(1, rms(u) / clip); theta -= max(eps2, rms(theta)) min(lr, 1/sqrt(t)) u \
              (Shazeer and Stern 2018)",
    attrs: Adafactor::SPECS,
    weight_decay: AS_GIVEN,
    decoupled: true,
    slots: |role| {
        if role.shape.len() < 2 {
            return smallvec![SlotDef::zeros("velocity")];
        }
        smallvec![
            SlotDef { shape: SlotShape::Rows, ..SlotDef::zeros("r") },
            SlotDef { shape: SlotShape::Columns, ..SlotDef::zeros("c") }
        ]
    },
    update: |s| {
        let Adafactor { beta_2_decay, epsilon_1, epsilon_2, clip_threshold, .. } =
            Adafactor::read(s.attrs);
        let beta = 1.0 - s.power(s.t, s.t.constant(beta_2_decay));
        let q = s.g.map(&SQUARE) + epsilon_1;
        let rank = s.theta.shape().len();
        let (v, slots) = if rank < 2 {
            let v = s.slots[0] * beta + q * (1.0 - beta);
            (v, smallvec![v])
        } else {
            let mean = |axis| q.reduce(&REDUCE_MEAN, &[axis], false);
            let r = s.slots[0] * beta + mean(rank - 1) * (1.0 - beta);
            let c = s.slots[1] * beta + mean(rank - 2) * (1.0 - beta);
            let share = r / r.reduce(&REDUCE_MEAN, &[rank - 2], true);
            let keep = |x: Var<'_>, axis: usize| {
                let mut shape = x.shape();
                shape.insert(axis, 1);
                shape
            };
            let rows = share.reshape(&keep(share, rank - 1));
            let columns = c.reshape(&keep(c, rank - 2));
            (rows * columns, smallvec![r, c])
        };
        let u = s.g / v.map(&SQRT);
        let u = u / (rms(u) / clip_threshold).zip(&MAXIMUM, u.scalar(1.0));
        let scale = rms(s.theta).zip(&MAXIMUM, u.scalar(epsilon_2));
        (s.theta - u * scale * s.lr.min(1.0 / s.t.sqrt()), slots)
    },
};

/// Root of the mean square of all elements; 0 if there are none.
#[expect(clippy::cast_precision_loss, reason = "tensors have fewer elements than 2^53")]
fn rms(x: Var<'_>) -> Var<'_> {
    norm(x) / (x.shape().elements().max(1) as f64).sqrt()
}

attrs! {
    /// Hyperparameters of Muon.
    Muon {
        /// Learning rate.
        learning_rate: f64 = Double(0.001),
        /// Decay of Adam's mean, for what is no matrix.
        adam_beta_1: f64 = Double(0.9),
        /// Decay of Adam's mean square, for what is no matrix.
        adam_beta_2: f64 = Double(0.999),
        /// Keeps Adam's quotient finite.
        epsilon: f64 = Double(1e-7),
        /// Weight decay of what is no matrix.
        adam_weight_decay: f64 = Double(0.004),
        /// First coefficient of the iteration.
        muon_a: f64 = Double(3.4445),
        /// Second coefficient of the iteration.
        muon_b: f64 = Double(-4.775),
        /// Third coefficient of the iteration.
        muon_c: f64 = Double(2.0315),
        /// Adam's learning rate is the learning rate times this.
        adam_lr_ratio: f64 = Double(1.0),
        /// How much of the last step goes on.
        momentum: f64 = Double(0.95),
        /// Number of iterations, at most 32.
        ns_steps: i64 = Int(5),
        /// Whether to look ahead along the momentum.
        nesterov: bool = Bool(true),
        /// A step's root mean square, in units of the learning rate; 0 leaves the orthogonal matrix as it is.
        rms_rate: f64 = Double(0.2),
    }
}

/// Most iterations of Newton and Schulz.
const MAX_ITERATIONS: i64 = 32;

/// Muon.
pub static MUON: OptimizerDef = OptimizerDef {
    name: "muon",
    summary: "Steps of matrices along the nearest orthogonal matrix of the momentum; everything else steps by AdamW.",
    formula: "m = mu m + g; x = (g + mu m) / ||.||; 5 times x = a x + (b x x' + c (x x')^2) x; \
              theta -= lr 0.2 sqrt(max(rows, columns)) x (Jordan et al. 2024; scale of Liu et al. 2025, arXiv 2502.16982)",
    attrs: Muon::SPECS,
    weight_decay: |role, given| {
        let plain = Muon::read(role.attrs).adam_weight_decay;
        Some(if is_matrix(role) { given.unwrap_or(0.004) } else { plain })
    },
    decoupled: true,
    slots: |role| {
        let names: &[_] = if is_matrix(role) { &["momentum"] } else { &["momentum", "velocity"] };
        names.iter().copied().map(SlotDef::zeros).collect()
    },
    update: |s| {
        let muon = Muon::read(s.attrs);
        if s.slots.len() > 1 {
            let step = Step { lr: s.lr * muon.adam_lr_ratio, slots: s.slots, ..*s };
            return adam(&step, (muon.adam_beta_1, muon.adam_beta_2), muon.epsilon);
        }
        step_matrix(s, &muon)
    },
};

fn is_matrix(role: &Role) -> bool {
    role.shape.len() == 2 && !role.plain
}

#[expect(clippy::cast_precision_loss, reason = "extents are below 2^53")]
fn step_matrix<'g>(s: &Step<'g, '_>, muon: &Muon) -> Updated<'g> {
    let m = s.slots[0] * muon.momentum + s.g;
    let ahead = if muon.nesterov { s.g + m * muon.momentum } else { m };
    let shape = s.theta.shape();
    let (rows, columns) = (shape[0], shape[1]);
    // The smaller product of the two is computed: of a tall matrix x' x, of a wide one x x'.
    let tall = rows > columns;
    let mut x = ahead / (norm(ahead) + 1e-7);
    for _ in 0..muon.ns_steps.clamp(0, MAX_ITERATIONS) {
        let a = x.matmul(x, tall, !tall);
        let b = a * muon.muon_b + a.matmul(a, false, false) * muon.muon_c;
        let bx = if tall { x.matmul(b, false, false) } else { b.matmul(x, false, false) };
        x = x * muon.muon_a + bx;
    }
    let root = (rows.max(columns) as f64).sqrt();
    let length = if muon.rms_rate == 0.0 { 1.0 } else { muon.rms_rate * root };
    (s.theta - x * (s.lr * length), smallvec![m])
}
