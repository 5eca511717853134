//! Training steps of four models as a session's commands, without a network: what the engine itself costs.
//!
//! `cargo run --release -p gradtape-engine --example steps [MODEL [STEPS]]` prints the median and the best time of a step. With
//! a model it runs that one only, which is what a profiler wants to see.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(missing_docs, reason = "nothing uses it")]

mod models;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gradtape_engine::{
    array::{Array, Tensor},
    attrs::{Attr, Attrs},
    command::{
        Answer, Command, GradientOutput, GradientPair, GradientRequest, Handle, Handles, Kind,
    },
    ledger::Ledger,
    ops,
    session::Session,
};
use ndarray::{ArcArray, IxDyn};

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A session, and the handles that one step leaves behind.
struct Client {
    session: Session,
    sequence: u64,
    next: Handle,
    /// First handle of the step.
    step: Handle,
    variables: Vec<Handle>,
    optimizer: Handle,
}

impl Client {
    fn new() -> Self {
        let session = Session::new(Ledger::new("steps", 8 << 30));
        let mut client =
            Self { session, sequence: 0, next: 0, step: 0, variables: vec![], optimizer: 0 };
        client.optimizer = client.handle();
        client
    }

    fn handle(&mut self) -> Handle {
        self.next += 1;
        self.next
    }

    fn apply(&mut self, kind: Kind) -> Answer {
        self.sequence += 1;
        let command = Command { kind, tag: Arc::from(""), scope: 0 };
        match self.session.apply(self.sequence, command).result {
            Ok(answer) => answer,
            Err(failure) => panic!("{}: {}", failure.op, failure.error),
        }
    }

    fn constant(&mut self, array: Array) -> Handle {
        let output = self.handle();
        self.apply(Kind::Constant { output, value: Tensor::unpaid(array) });
        output
    }

    fn floats(&mut self, shape: &[usize], scale: f32) -> Handle {
        let mut state = 7_u32.wrapping_add(u32::try_from(self.next).unwrap_or(0));
        let elements = (0..shape.iter().product()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = u16::try_from(state >> 16).unwrap_or(0);
            scale * (f32::from(number) / 32768.0 - 1.0)
        });
        let elements = elements.collect();
        let array = ArcArray::from_shape_vec(IxDyn(shape), elements).expect("as many as asked for");
        self.constant(Array::F32(array))
    }

    fn classes(&mut self, shape: &[usize], classes: i64) -> Handle {
        let elements = (0_i64..).take(shape.iter().product()).map(|i| i * 7 % classes);
        let elements = elements.collect();
        let array = ArcArray::from_shape_vec(IxDyn(shape), elements).expect("as many as asked for");
        self.constant(Array::I64(array))
    }

    fn variable(&mut self, shape: &[usize], scale: f32) -> Handle {
        let initial = self.floats(shape, scale);
        let variable = self.handle();
        let name = format!("v{variable}").into();
        self.apply(Kind::CreateVariable { variable, name, initial, trainable: true });
        self.variables.push(variable);
        variable
    }

    fn optimizer(&mut self, name: &str) {
        let (optimizer, name) = (self.optimizer, name.into());
        let hyperparameters = vec![("learning_rate".to_owned(), Attr::Double(0.001))];
        self.apply(Kind::CreateOptimizer { optimizer, name, hyperparameters, schedule: None });
    }

    fn op(&mut self, name: &str, inputs: &[Handle], attrs: Vec<(&str, Attr)>) -> Handle {
        let op = ops::find(name).expect("an op of that name");
        let attrs = attrs.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect();
        let attrs = Attrs::check(op.attrs, attrs).expect("its attributes");
        let output = self.handle();
        let (inputs, outputs) = (Handles::from(inputs), Handles::from_slice(&[output]));
        self.apply(Kind::Op { op, attrs, inputs, outputs });
        output
    }

    fn open(&mut self, persistent: bool) -> Handle {
        let tape = self.handle();
        let watch_accessed_variables = true;
        self.apply(Kind::OpenTape { tape, persistent, watch_accessed_variables, paused: false });
        tape
    }

    fn gradients(&mut self, tape: Handle, loss: Handle, sources: &[Handle]) -> Vec<Handle> {
        let gradients: Vec<Handle> = sources.iter().map(|_| self.handle()).collect();
        let outputs = gradients.iter().map(|&gradient| GradientOutput { gradient, indices: 0 });
        self.apply(Kind::Gradient(GradientRequest {
            tape,
            targets: vec![loss],
            sources: sources.to_vec(),
            outputs: outputs.collect(),
            seeds: vec![],
            zero_unconnected: false,
        }));
        gradients
    }

    /// Gradients of the loss with respect to all variables, and an optimizer step with them.
    fn train(&mut self, tape: Handle, loss: Handle) {
        let variables = self.variables.clone();
        let gradients = self.gradients(tape, loss, &variables);
        let pair = |(&variable, gradient)| GradientPair {
            variable,
            gradient,
            indices: 0,
            exclude_from_weight_decay: false,
            exclude_from_orthogonalization: false,
        };
        let pairs = variables.iter().zip(gradients).map(pair).collect();
        self.apply(Kind::ApplyOptimizer { optimizer: self.optimizer, pairs });
        self.finish(tape);
    }

    /// Closes a tape and releases all handles of the step.
    fn finish(&mut self, tape: Handle) {
        self.apply(Kind::CloseTape { tape });
        let handles = (self.step..=self.next).filter(|&handle| handle != tape).collect();
        self.apply(Kind::Release { handles });
    }

    fn begin(&mut self) {
        self.step = self.next + 1;
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next();
    let steps: Option<usize> = arguments.next().map(|n| n.parse().expect("a number of steps"));
    println!("{:10} {:>6} {:>12} {:>12}", "model", "steps", "median", "best");
    for model in models::ALL {
        if only.as_deref().is_some_and(|name| name != model.name) {
            continue;
        }
        let mut client = Client::new();
        let mut step = (model.build)(&mut client);
        let steps = steps.unwrap_or(model.steps);
        let mut times: Vec<Duration> = (0..steps)
            .map(|_| {
                client.begin();
                let start = Instant::now();
                step(&mut client);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let (median, best) = (times[steps / 2], times[0]);
        println!("{:10} {steps:6} {median:12.1?} {best:12.1?}", model.name);
    }
}
