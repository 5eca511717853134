//! Training steps of four models without a network: what the engine itself costs, with a session's commands and as one plan.
//!
//! `cargo run --release -p gradtape-engine --example steps [MODEL [STEPS [eager | plan | explain | profile]]]` prints the median and the
//! best time of a step, on all cores or as many as `CORES` says. With a model it runs that one only, which is what a profiler wants to see; `explain` prints its plan,
//! and `profile` that with the median time of each step.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(missing_docs, reason = "nothing uses it")]

mod models;
mod planned;

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
    compute::{Cancel, Context, Crew},
    ledger::Ledger,
    op::OpDef,
    ops,
    session::Session,
};
use ndarray::{ArcArray, IxDyn};

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a model is written with.
trait Client {
    fn constant(&mut self, array: Array) -> Handle;
    fn variable(&mut self, shape: &[usize], scale: f32) -> Handle;
    fn optimizer(&mut self, name: &str);
    fn open(&mut self) -> Handle;
    /// Applies an op; gives as many results as are asked for.
    fn ops(
        &mut self,
        name: &str,
        inputs: &[Handle],
        attrs: Vec<(&str, Attr)>,
        count: usize,
    ) -> Vec<Handle>;
    /// Gradients of the loss with respect to all variables, and an optimizer step with them.
    fn train(&mut self, tape: Handle, loss: Handle);

    fn op(&mut self, name: &str, inputs: &[Handle], attrs: Vec<(&str, Attr)>) -> Handle {
        self.ops(name, inputs, attrs, 1)[0]
    }

    fn floats(&mut self, shape: &[usize], scale: f32) -> Handle {
        self.constant(floats(shape, scale))
    }

    fn classes(&mut self, shape: &[usize], classes: i64) -> Handle {
        let elements = (0_i64..).take(shape.iter().product()).map(|i| i * 7 % classes);
        let elements = elements.collect();
        let array = ArcArray::from_shape_vec(IxDyn(shape), elements).expect("as many as asked for");
        self.constant(Array::I64(array))
    }
}

/// Numbers between minus and plus the scale.
fn floats(shape: &[usize], scale: f32) -> Array {
    let mut state = u32::try_from(shape.len()).unwrap_or(0) + 7;
    let elements = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let number = u16::try_from(state >> 16).unwrap_or(0);
        scale * (f32::from(number) / 32768.0 - 1.0)
    });
    let elements = elements.collect();
    Array::F32(ArcArray::from_shape_vec(IxDyn(shape), elements).expect("as many as asked for"))
}

/// An op of the table and its attributes.
fn find(name: &str, attrs: Vec<(&str, Attr)>) -> (&'static OpDef, Attrs) {
    let op = ops::find(name).expect("an op of that name");
    let attrs = attrs.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect();
    (op, Attrs::check(op.attrs, attrs).expect("its attributes"))
}

/// A session, and the handles that one step leaves behind.
struct Eager {
    session: Session,
    sequence: u64,
    next: Handle,
    /// First handle of the step.
    step: Handle,
    variables: Vec<Handle>,
    optimizer: Handle,
}

impl Eager {
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
        let command = Command { kind, tag: Arc::from(""), scope: 0, source: None };
        match self.session.apply(self.sequence, command).result {
            Ok(answer) => answer,
            Err(failure) => panic!("{}: {}", failure.op, failure.error),
        }
    }

    fn begin(&mut self) {
        self.step = self.next + 1;
    }
}

impl Client for Eager {
    fn constant(&mut self, array: Array) -> Handle {
        let output = self.handle();
        self.apply(Kind::Constant { output, value: Tensor::unpaid(array) });
        output
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

    fn open(&mut self) -> Handle {
        let tape = self.handle();
        let (persistent, watch_accessed_variables, paused) = (false, true, false);
        self.apply(Kind::OpenTape { tape, persistent, watch_accessed_variables, paused });
        tape
    }

    fn ops(
        &mut self,
        name: &str,
        inputs: &[Handle],
        attrs: Vec<(&str, Attr)>,
        count: usize,
    ) -> Vec<Handle> {
        let (op, attrs) = find(name, attrs);
        let made: Vec<Handle> = (0..count).map(|_| self.handle()).collect();
        let (inputs, outputs) = (Handles::from(inputs), Handles::from_slice(&made));
        self.apply(Kind::Op { op, attrs, inputs, outputs });
        made
    }

    fn train(&mut self, tape: Handle, loss: Handle) {
        let variables = self.variables.clone();
        let gradients: Vec<Handle> = variables.iter().map(|_| self.handle()).collect();
        let outputs = gradients.iter().map(|&gradient| GradientOutput { gradient, indices: 0 });
        self.apply(Kind::Gradient(GradientRequest {
            tape,
            targets: vec![loss],
            sources: variables.clone(),
            outputs: outputs.collect(),
            seeds: vec![],
            zero_unconnected: false,
            expected: vec![],
        }));
        let pair = |(&variable, gradient)| GradientPair {
            variable,
            gradient,
            indices: 0,
            exclude_from_weight_decay: false,
            exclude_from_orthogonalization: false,
        };
        let pairs = variables.iter().zip(gradients).map(pair).collect();
        self.apply(Kind::ApplyOptimizer { optimizer: self.optimizer, pairs });
        self.apply(Kind::CloseTape { tape });
        let handles = (self.step..=self.next).filter(|&handle| handle != tape).collect();
        self.apply(Kind::Release { handles });
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize| arguments.get(i).map(String::as_str);
    let steps: Option<usize> = argument(1).map(|n| n.parse().expect("a number of steps"));
    println!("{:10} {:6} {:>6} {:>12} {:>12}", "model", "how", "steps", "median", "best");
    for model in models::ALL {
        if argument(0).is_some_and(|name| name != model.name) {
            continue;
        }
        let steps = steps.unwrap_or(model.steps);
        if matches!(argument(2), None | Some("eager")) {
            let mut client = Eager::new();
            let mut step = (model.build)(&mut client);
            time(model.name, "eager", steps, || {
                client.begin();
                step(&mut client);
            });
        }
        if argument(2) != Some("eager") {
            let mut planned = planned::Planned::new(model.build);
            match argument(2) {
                Some("explain") => println!("{}", planned.plan()),
                Some("profile") => profile(&mut planned, steps),
                _ => time(model.name, "plan", steps, || planned.run()),
            }
        }
    }
}

fn context() -> Context {
    let cores = std::env::var("CORES").ok().and_then(|cores| cores.parse().ok());
    let cores = cores.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
    Context { crew: Crew::new(cores).expect("threads"), cancel: Cancel::default(), turns: None }
}

fn profile(planned: &mut planned::Planned, steps: usize) {
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); planned.plan().len()];
    let context = context();
    for _ in 0..steps {
        context.enter(|| planned.run_watched(&mut times));
    }
    let plan = planned.plan().to_string();
    for (line, times) in plan.lines().skip(1).zip(&mut times) {
        times.sort_unstable();
        println!("{:>9.1?} {line}", times[steps / 2]);
    }
}

fn time(model: &str, how: &str, steps: usize, mut step: impl FnMut()) {
    let context = context();
    let mut times: Vec<Duration> = (0..steps)
        .map(|_| {
            let start = Instant::now();
            context.enter(&mut step);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{model:10} {how:6} {steps:6} {:12.1?} {:12.1?}", times[steps / 2], times[0]);
}
