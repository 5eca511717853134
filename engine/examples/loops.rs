//! The tutorial's loop without a network: what a loop of a function costs in the engine.
//!
//! `cargo run --release -p gradtape-engine --example loops [STEPS [LOOPS [OPTIMIZER [dropout]]]]` prints the plan of the step, and the
//! first, the median and the best time of a loop. Without an optimizer, or with `none`, the step subtracts its gradients itself, as
//! the tutorial's does. With `dropout` it leaves out half of its examples by chance.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(missing_docs, reason = "nothing uses it")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gradtape_engine::{
    array::{Array, Tensor},
    attrs::{Attr, Attrs},
    command::{
        Answer, AssignMode, Command, FunctionDefinition, GradientOutput, GradientPair,
        GradientRequest, Handle, Kind, LoopRequest,
    },
    compute::{Cancel, Context, Crew},
    ledger::Ledger,
    ops,
    session::Session,
};
use ndarray::{ArcArray, IxDyn};
use smallvec::SmallVec;

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A session, and the handle that was given last.
struct Client {
    session: Session,
    sequence: u64,
    last: Handle,
}

impl Client {
    fn handle(&mut self) -> Handle {
        self.last += 1;
        self.last
    }

    fn apply(&mut self, kind: Kind) -> Answer {
        self.sequence += 1;
        let command = Command { kind, tag: Arc::from(""), scope: 0, source: None };
        match self.session.apply(self.sequence, command).result {
            Ok(answer) => answer,
            Err(failure) => panic!("{}: {}", failure.op, failure.error),
        }
    }

    fn constant(&mut self, shape: &[usize], elements: &[f32]) -> Handle {
        let output = self.handle();
        let array = ArcArray::from_shape_vec(IxDyn(shape), elements.to_vec());
        let value = Tensor::unpaid(Array::F32(array.expect("as many as the shape says")));
        self.apply(Kind::Constant { output, value });
        output
    }

    fn variable(&mut self, name: &str) -> Handle {
        let (initial, variable) = (self.constant(&[], &[0.1]), self.handle());
        let name = name.into();
        self.apply(Kind::CreateVariable { variable, name, initial, trainable: true });
        variable
    }

    fn op(&mut self, name: &str, inputs: &[Handle]) -> Handle {
        self.op_with(name, inputs, vec![])
    }

    fn op_with(&mut self, name: &str, inputs: &[Handle], attrs: Vec<(String, Attr)>) -> Handle {
        let op = ops::find(name).expect("an op of that name");
        let attrs = Attrs::check(op.attrs, attrs).expect("attributes of the op");
        let output = self.handle();
        let (inputs, outputs) = (SmallVec::from(inputs), SmallVec::from_slice(&[output]));
        self.apply(Kind::Op { op, attrs, inputs, outputs });
        output
    }

    fn derivative(&mut self, tape: Handle, target: Handle, source: Handle) -> Handle {
        let gradient = self.handle();
        self.apply(Kind::Gradient(GradientRequest {
            tape,
            targets: vec![target],
            sources: vec![source],
            outputs: vec![GradientOutput { gradient, indices: 0 }],
            seeds: vec![],
            zero_unconnected: false,
            expected: vec![],
        }));
        gradient
    }

    /// Ten numbers that are 0 or 2 by chance.
    fn mask(&mut self, generator: Handle) -> Handle {
        let (state, draws) = (self.handle(), 10);
        self.apply(Kind::NextGeneratorState { generator, output: state, draws });
        let shape = ("shape".to_owned(), Attr::Ints(SmallVec::from_slice(&[10])));
        let numbers = self.op_with("random_uniform", &[state], vec![shape]);
        let twice = self.op("add", &[numbers, numbers]);
        let whole = self.op("floor", &[twice]);
        self.op("add", &[whole, whole])
    }

    /// The step of the tutorial, as a function.
    fn step(
        &mut self,
        w: Handle,
        b: Handle,
        optimizer: Option<Handle>,
        generator: Option<Handle>,
    ) -> Handle {
        let x = self.constant(&[10], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let y = self.constant(&[10], &[-1.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0]);
        let rate = self.constant(&[], &[0.001]);
        let function = self.handle();
        let (parameters, specs) = (vec![], Ok(vec![]));
        self.apply(Kind::DefineFunction(FunctionDefinition { function, parameters, specs }));
        let tape = self.handle();
        let (persistent, watch_accessed_variables, paused) = (true, true, false);
        self.apply(Kind::OpenTape { tape, persistent, watch_accessed_variables, paused });
        let product = self.op("multiply", &[w, x]);
        let line = self.op("add", &[product, b]);
        let difference = self.op("subtract", &[y, line]);
        let mut loss = self.op("abs", &[difference]);
        if let Some(generator) = generator {
            let mask = self.mask(generator);
            loss = self.op("multiply", &[loss, mask]);
        }
        let gradients = [w, b].map(|variable| self.derivative(tape, loss, variable));
        if let Some(optimizer) = optimizer {
            let pair = |(variable, gradient)| GradientPair {
                variable,
                gradient,
                indices: 0,
                exclude_from_weight_decay: false,
                exclude_from_orthogonalization: false,
            };
            let pairs = [w, b].into_iter().zip(gradients).map(pair).collect();
            self.apply(Kind::ApplyOptimizer { optimizer, pairs });
        } else {
            for (variable, gradient) in [w, b].into_iter().zip(gradients) {
                let value = self.op("multiply", &[gradient, rate]);
                self.apply(Kind::Assign { variable, value, mode: AssignMode::Subtract });
            }
        }
        self.apply(Kind::CloseTape { tape });
        self.apply(Kind::FinishFunction { function, results: vec![], abandon: false });
        function
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| -> usize {
        arguments.get(i).map_or(default, |n| n.parse().expect("a number"))
    };
    let (steps, loops) = (number(0, 1000), number(1, 1000));
    let session = Session::new(Ledger::new("loops", 1 << 30));
    let mut client = Client { session, sequence: 0, last: 0 };
    let (w, b) = (client.variable("w"), client.variable("b"));
    let optimizer = arguments.get(2).filter(|name| *name != "none").map(|name| {
        let (optimizer, name) = (client.handle(), name.as_str().into());
        let hyperparameters = vec![("learning_rate".to_owned(), Attr::Double(0.001))];
        client.apply(Kind::CreateOptimizer { optimizer, name, hyperparameters, schedule: None });
        optimizer
    });
    let generator = arguments.get(3).map(|what| {
        assert_eq!(what, "dropout", "unknown");
        let generator = client.handle();
        client.apply(Kind::CreateGenerator { generator, seed: 1 });
        generator
    });
    let function = client.step(w, b, optimizer, generator);
    let run = |client: &mut Client| {
        client.apply(Kind::RunLoop(LoopRequest {
            function,
            steps: i64::try_from(steps).expect("a number of steps"),
            datasets: vec![],
            batch_size: 0,
            shuffle_seed: None,
            arguments: vec![],
            carried: 0,
            outputs: vec![],
            report_every: 0,
            stream_reports: false,
            while_result: None,
        }));
    };
    let crew = Crew::new(1).expect("threads");
    let context = Context { crew, cancel: Cancel::default(), turns: None };
    let mut times: Vec<Duration> = (0..loops)
        .map(|_| {
            let start = Instant::now();
            context.enter(|| run(&mut client));
            start.elapsed()
        })
        .collect();
    if let Answer::Planned(plan) = client.apply(Kind::ExplainFunction { function }) {
        plan.steps.iter().for_each(|step| println!("{step:?}"));
    }
    let first = times[0];
    times.sort_unstable();
    println!(
        "{steps} steps: first {first:.1?}, median {:.1?}, best {:.1?}",
        times[loops / 2],
        times[0]
    );
}
