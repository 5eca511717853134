//! The benches as data: their rows, their contenders and the goals. A new contender is a line here and an entry in
//! `ours` or in a script of `peers/`.

use crate::ours::ops;

/// Something to measure.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it measures, in one line.
    pub(crate) about: &'static str,
    /// The unit of rows that `units` does not name.
    pub(crate) unit: Unit,
    /// Units of other rows.
    pub(crate) units: &'static [(&'static str, Unit)],
    /// Samples of each contender.
    pub(crate) repeats: usize,
    /// How far outcomes may differ, relative to the larger one; beyond it the comparison is void.
    pub(crate) tolerance: f64,
    /// Who is measured.
    pub(crate) contenders: &'static [Contender],
    /// What is compared.
    pub(crate) goals: &'static [Goal],
    /// Arithmetic and memory traffic of a row, where a share of the machine's peak makes sense.
    pub(crate) work: Option<fn(&str) -> Option<ops::Work>>,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds; less is better.
    Seconds,
    /// Bytes; less is better.
    Bytes,
    /// A number without a unit; less is better.
    Ratio,
    /// What is left of a whole; more is better.
    Share,
    /// Things a second; more is better.
    PerSecond,
    /// Bytes a second; more is better.
    BytesPerSecond,
}

/// Who is measured.
#[derive(Debug)]
pub(crate) struct Contender {
    /// Its name within the bench.
    pub(crate) name: &'static str,
    /// Ours or theirs.
    pub(crate) side: Side,
    /// What runs it.
    pub(crate) program: Program,
}

/// Whose a contender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Ours.
    Ours,
    /// What we compare with.
    Theirs,
}

/// What runs a contender.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// This program.
    Rust,
    /// A script of `peers/`.
    Python(&'static str),
}

/// A comparison, and what it should come out as.
#[derive(Debug)]
pub(crate) struct Goal {
    /// The row.
    pub(crate) row: &'static str,
    /// Our contender.
    pub(crate) ours: &'static str,
    /// The best of these is compared with; with none, our number itself.
    pub(crate) theirs: &'static [&'static str],
    /// What is aimed for.
    pub(crate) bound: Bound,
}

/// What is aimed for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// Nothing: it is shown.
    Shown,
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Bench {
    /// The unit of a row.
    pub(crate) fn unit(&self, row: &str) -> Unit {
        self.units.iter().find(|(name, _)| *name == row).map_or(self.unit, |(_, unit)| *unit)
    }
}

impl Unit {
    /// Whether the smaller number is the better one.
    pub(crate) fn less_is_better(self) -> bool {
        match self {
            Self::Seconds | Self::Bytes | Self::Ratio => true,
            Self::Share | Self::PerSecond | Self::BytesPerSecond => false,
        }
    }
}

const fn ours(name: &'static str, program: Program) -> Contender {
    Contender { name, side: Side::Ours, program }
}

const fn theirs(name: &'static str, script: &'static str) -> Contender {
    Contender { name, side: Side::Theirs, program: Program::Python(script) }
}

/// A contender in Rust that is not ours in what it measures: memcpy, bare tonic.
const fn floor(name: &'static str) -> Contender {
    Contender { name, side: Side::Theirs, program: Program::Rust }
}

const fn goal(
    row: &'static str,
    ours: &'static str,
    theirs: &'static [&'static str],
    bound: Bound,
) -> Goal {
    Goal { row, ours, theirs, bound }
}

const OURS: &str = "with_gradtape.py";
const TENSORFLOW: &str = "with_tensorflow.py";
const TORCH: &str = "with_torch.py";
const JAX: &str = "with_jax.py";

const LOOP: &str = "1000 steps";
const STEP: &str = "step";

/// What a bench has where it does not say otherwise.
const PLAIN: Bench = Bench {
    name: "",
    about: "",
    unit: Unit::Seconds,
    units: &[],
    repeats: 11,
    // Losses of five steps agree to five digits or so: Adam's first steps have nearly the size of the learning rate
    // whatever the gradient, and Keras rounds their correction to float32 as PyTorch and JAX do not.
    tolerance: 1e-4,
    contenders: &[],
    goals: &[],
    work: None,
};

/// The same contenders train each of the models.
const MODEL: &[Contender] = &[
    ours("python-eager", Program::Python(OURS)),
    ours("python-function", Program::Python(OURS)),
    ours("rust-eager", Program::Rust),
    ours("rust-function", Program::Rust),
    theirs("tensorflow-function", TENSORFLOW),
    theirs("torch-eager", TORCH),
    theirs("jax-step", JAX),
];

/// All benches.
pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "seed",
        about: "the tutorial's loop: 1000 steps of two gradients and two updates",
        contenders: &[
            ours("python-eager", Program::Python(OURS)),
            ours("python-function", Program::Python(OURS)),
            ours("python-loop", Program::Python(OURS)),
            ours("rust-eager", Program::Rust),
            ours("rust-function", Program::Rust),
            ours("rust-loop", Program::Rust),
            theirs("tensorflow-eager", TENSORFLOW),
            theirs("tensorflow-remote", TENSORFLOW),
            theirs("tensorflow-function", TENSORFLOW),
            theirs("tensorflow-loop", TENSORFLOW),
            theirs("torch-eager", TORCH),
            theirs("jax-step", JAX),
            theirs("jax-loop", JAX),
        ],
        goals: &[
            goal(LOOP, "python-eager", &["tensorflow-remote"], Bound::AtMost(0.005)),
            goal(LOOP, "python-eager", &["tensorflow-eager"], Bound::AtMost(0.05)),
            goal(LOOP, "python-eager", &["torch-eager"], Bound::AtMost(1.0)),
            goal(LOOP, "rust-eager", &["torch-eager"], Bound::Shown),
            goal(LOOP, "python-function", &["tensorflow-function"], Bound::Shown),
            goal(LOOP, "rust-function", &["jax-step"], Bound::Shown),
            goal(LOOP, "python-loop", &["tensorflow-loop"], Bound::AtMost(0.02)),
            goal(LOOP, "rust-loop", &["tensorflow-loop"], Bound::AtMost(0.02)),
            goal(LOOP, "rust-loop", &["jax-loop"], Bound::AtMost(5.0)),
        ],
        ..PLAIN
    },
    Bench {
        name: "mlp",
        about: "a training step of 784-128-10, batch 128, Adam",
        contenders: MODEL,
        goals: &[
            goal(STEP, "python-function", &["jax-step", "torch-eager"], Bound::AtMost(0.8)),
            goal(STEP, "rust-function", &["jax-step", "torch-eager"], Bound::AtMost(0.8)),
            goal(STEP, "rust-eager", &["jax-step", "torch-eager"], Bound::Shown),
            goal(STEP, "rust-eager", &["tensorflow-function"], Bound::Shown),
        ],
        ..PLAIN
    },
    Bench {
        name: "cnn",
        about: "a training step of two 3x3 convolutions, pools and a dense layer, batch 64, 28x28, Adam",
        contenders: MODEL,
        goals: MODEL_GOALS,
        ..PLAIN
    },
    Bench {
        name: "gpt",
        about: "a training step of a transformer: 2 layers, 64 wide, 4 heads, context 64, batch 16, Adam",
        contenders: MODEL,
        goals: MODEL_GOALS,
        ..PLAIN
    },
    Bench {
        name: "ops",
        about: "kernels by op and size, with the share of the machine's measured peak",
        units: &[("peak arithmetic", Unit::PerSecond), ("peak memory", Unit::BytesPerSecond)],
        contenders: &[
            ours("engine", Program::Rust),
            theirs("torch", TORCH),
            theirs("machine", TORCH),
        ],
        work: Some(ops::work),
        ..PLAIN
    },
    Bench {
        name: "commands",
        about: "small ops a second, batches of 256, against a bare tonic stream of the same bytes",
        unit: Unit::PerSecond,
        contenders: &[ours("stream", Program::Rust), floor("bare-tonic")],
        goals: &[
            goal("1 stream", "stream", &["bare-tonic"], Bound::AtLeast(0.5)),
            goal("1 stream", "stream", &[], Bound::AtLeast(1e6)),
            goal("4 streams", "stream", &["bare-tonic"], Bound::AtLeast(0.5)),
        ],
        ..PLAIN
    },
    Bench {
        name: "tensors",
        about: "64 MiB to the server and back, against bare tonic and memcpy",
        unit: Unit::BytesPerSecond,
        contenders: &[
            ours("python", Program::Python(OURS)),
            ours("rust", Program::Rust),
            floor("bare-tonic"),
            floor("memcpy"),
        ],
        goals: &[
            goal("upload", "rust", &["bare-tonic"], Bound::AtLeast(0.7)),
            goal("upload", "rust", &[], Bound::AtLeast(1e9)),
            goal("download", "rust", &["bare-tonic"], Bound::AtLeast(0.7)),
            goal("download", "rust", &[], Bound::AtLeast(1e9)),
            goal("upload", "python", &["bare-tonic"], Bound::Shown),
            goal("download", "python", &["bare-tonic"], Bound::Shown),
            goal("upload", "rust", &["memcpy"], Bound::Shown),
        ],
        ..PLAIN
    },
    Bench {
        name: "sessions",
        about: "memory of each of 1,000 idle sessions; a step's latency when 64 sessions train at once",
        units: &[("idle session", Unit::Bytes)],
        repeats: 5,
        contenders: &[ours("sessions", Program::Rust)],
        goals: &[
            goal("idle session", "sessions", &[], Bound::AtMost(16.0 * 1024.0)),
            goal("step of 64, p50", "sessions", &[], Bound::Shown),
            goal("step of 64, p99", "sessions", &[], Bound::Shown),
        ],
        ..PLAIN
    },
    Bench {
        name: "fairness",
        about: "what light sessions wait for beside heavy ones, and what those lose by it",
        units: &[
            ("heavy, alone", Unit::PerSecond),
            ("heavy, with light ones", Unit::PerSecond),
            ("heavy, what is left", Unit::Share),
        ],
        repeats: 3,
        contenders: &[ours("sessions", Program::Rust)],
        goals: &[
            goal("light, p50", "sessions", &[], Bound::Shown),
            goal("light, p99", "sessions", &[], Bound::AtMost(0.025)),
            goal("light, max", "sessions", &[], Bound::Shown),
            goal("heavy, what is left", "sessions", &[], Bound::AtLeast(0.8)),
        ],
        ..PLAIN
    },
    Bench {
        name: "cancel",
        about: "from the wish to stop a command to its end, at random moments: by op, and through a client",
        repeats: 3,
        contenders: &[ours("cancel", Program::Rust)],
        goals: &[
            goal("all ops, p99", "cancel", &[], Bound::AtMost(0.05)),
            goal("all ops, max", "cancel", &[], Bound::AtMost(0.1)),
            goal("through a client, p99", "cancel", &[], Bound::AtMost(0.05)),
            goal("through a client, max", "cancel", &[], Bound::AtMost(0.1)),
        ],
        ..PLAIN
    },
    Bench {
        name: "durability",
        about: "what a log costs a step, and what 200 kills under load lose of what was confirmed",
        units: &[("lost or done twice", Unit::Ratio)],
        repeats: 1,
        contenders: &[ours("sessions", Program::Rust)],
        goals: &[
            goal("lost or done twice", "sessions", &[], Bound::AtMost(0.0)),
            goal("step without a log", "sessions", &[], Bound::Shown),
            goal("step with a log", "sessions", &[], Bound::Shown),
            goal("durable step", "sessions", &[], Bound::Shown),
            goal("durable again after a kill, p50", "sessions", &[], Bound::Shown),
            goal("durable again after a kill, max", "sessions", &[], Bound::Shown),
        ],
        ..PLAIN
    },
    Bench {
        name: "memory",
        about: "least session memory in which a model trains, against the sum of what must live",
        unit: Unit::Bytes,
        units: &[
            ("mlp: needed / must live", Unit::Ratio),
            ("cnn: needed / must live", Unit::Ratio),
            ("gpt: needed / must live", Unit::Ratio),
        ],
        // It is counted, not timed: every sample is the same.
        repeats: 1,
        contenders: &[ours("session", Program::Rust)],
        goals: &[
            goal("mlp: needed / must live", "session", &[], Bound::Shown),
            goal("cnn: needed / must live", "session", &[], Bound::Shown),
            goal("gpt: needed / must live", "session", &[], Bound::Shown),
        ],
        ..PLAIN
    },
];

const MODEL_GOALS: &[Goal] = &[
    goal(STEP, "python-function", &["torch-eager"], Bound::AtMost(0.8)),
    goal(STEP, "rust-function", &["torch-eager"], Bound::AtMost(0.8)),
    goal(STEP, "rust-eager", &["torch-eager"], Bound::Shown),
    goal(STEP, "rust-function", &["tensorflow-function"], Bound::Shown),
    goal(STEP, "rust-function", &["jax-step"], Bound::Shown),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_name_contenders_of_their_bench() {
        for bench in BENCHES {
            for goal in bench.goals {
                for name in goal.theirs.iter().chain([&goal.ours]) {
                    assert!(
                        bench.contenders.iter().any(|contender| contender.name == *name),
                        "{}: {name}",
                        bench.name
                    );
                }
            }
        }
    }

    #[test]
    fn contenders_in_python_are_in_their_script() {
        let peers = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        for contender in BENCHES.iter().flat_map(|bench| bench.contenders) {
            if let Program::Python(script) = contender.program {
                let text = std::fs::read_to_string(peers.join(script)).unwrap();
                assert!(text.contains(&format!(", \"{}\")", contender.name)), "{}", contender.name);
            }
        }
    }

    #[test]
    fn our_contenders_in_rust_exist_and_no_others() {
        let mut listed: Vec<(&str, &str)> = BENCHES
            .iter()
            .flat_map(|bench| bench.contenders.iter().map(move |contender| (bench.name, contender)))
            .filter(|(_, contender)| matches!(contender.program, Program::Rust))
            .map(|(bench, contender)| (bench, contender.name))
            .collect();
        let mut there: Vec<(&str, &str)> =
            crate::ours::CONTENDERS.iter().map(|(bench, name, _)| (*bench, *name)).collect();
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there);
    }
}
