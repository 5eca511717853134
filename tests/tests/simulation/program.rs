//! Random programs, and what must come of them.
//!
//! A program is a list of commands, and the command at place `i` has sequence number `i + 1`, whoever sends it. So a client that
//! takes over from another goes on where the session stands.

use fastrand::Rng;
use gradtape_client::proto::{self, Command, Reply, command::Kind};
use gradtape_engine::{ledger::Ledger, session::Session as Engine};
use gradtape_server::{
    config::Limits,
    session::{core::SessionCore, uploads::Uploads},
};
use gradtape_tests::raw::{command, constant, fetch, op, tagged};

/// Variables have these handles.
const VARIABLES: [u64; 2] = [1, 2];

/// The optimizers.
const OPTIMIZERS: [(u64, &str); 2] = [(3, "sgd"), (4, "adam")];

/// A function that changes the first variable, for loops.
const BODY: u64 = 5;

/// A handle that nothing ever gets.
const NOTHING: u64 = 99;

/// What is made on the way has handles from here on.
const FIRST_FREE: u64 = 100;

/// A program and the answers that it must get.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) commands: Vec<Command>,
    /// The answer to each command, from an engine that nothing disturbs.
    pub(crate) answers: Vec<Reply>,
}

impl Program {
    /// A program of at least `length` commands. Different programs use the same handles.
    pub(crate) fn random(random: &mut Rng, length: usize) -> Self {
        let mut writer =
            Writer { random, commands: Vec::new(), values: Vec::new(), next: FIRST_FREE };
        writer.begin();
        while writer.commands.len() < length {
            match writer.random.u8(0..10) {
                0..=2 => writer.arithmetic(),
                3 | 4 => writer.assign(),
                5 | 6 => writer.train(),
                7 => writer.run_loop(),
                8 => writer.fail(),
                _ => writer.wait(),
            }
        }
        writer.end();
        let commands = writer.commands;
        let answers = undisturbed(&commands);
        Self { commands, answers }
    }
}

/// What an engine says to the commands, without a network, a disk and anybody else.
fn undisturbed(commands: &[Command]) -> Vec<Reply> {
    let limits = Limits::default();
    let engine = Engine::new(Ledger::new("reference", 1 << 30));
    let mut core = SessionCore::new(engine, Uploads::new(limits.max_uploads), &limits);
    let answer = |(place, command): (usize, &Command)| {
        let first_sequence = place as u64 + 1;
        let batch = proto::Batch::new(first_sequence, [command]);
        let replies = core.apply(batch).expect("a command in its place").replies;
        // What has nothing to say is not told of.
        let nothing = Reply { sequence: first_sequence, ..Reply::default() };
        replies.into_iter().next().unwrap_or(nothing)
    };
    commands.iter().enumerate().map(answer).collect()
}

struct Writer<'a> {
    random: &'a mut Rng,
    commands: Vec<Command>,
    /// Tensors that are there, all of one shape.
    values: Vec<u64>,
    next: u64,
}

impl Writer<'_> {
    fn begin(&mut self) {
        for variable in VARIABLES {
            let initial_value = self.constant();
            self.push(Kind::CreateVariable(proto::CreateVariable {
                variable,
                name: format!("v{variable}"),
                initial_value,
                trainable: None,
            }));
        }
        for (optimizer, name) in OPTIMIZERS {
            let name = name.to_owned();
            let create = proto::CreateOptimizer { optimizer, name, ..Default::default() };
            self.push(Kind::CreateOptimizer(create));
        }
        let [first, second] = VARIABLES;
        self.push(Kind::DefineFunction(proto::DefineFunction {
            function: BODY,
            ..Default::default()
        }));
        let (product, sum) = (self.fresh(), self.fresh());
        self.commands.push(op("multiply", &[first, second], product));
        self.commands.push(op("tanh", &[product], sum));
        self.push(Kind::AssignVariable(proto::AssignVariable {
            variable: first,
            value: sum,
            mode: proto::AssignMode::Add.into(),
        }));
        self.push(Kind::FinishFunction(proto::FinishFunction {
            function: BODY,
            results: vec![first],
            abandon: false,
        }));
    }

    /// Asks for all that is left, and that it be kept.
    fn end(&mut self) {
        self.commands.extend(VARIABLES.map(fetch));
        self.sync(proto::Level::Durable);
    }

    /// Calculates and asks, and forgets something.
    fn arithmetic(&mut self) {
        for _ in 0..self.random.usize(1..4) {
            let name = ["add", "multiply", "subtract", "maximum"][self.random.usize(0..4)];
            let (a, b) = (self.operand(), self.operand());
            let output = self.fresh();
            self.commands.push(op(name, &[a, b], output));
            // Bounded, whatever came before.
            let bounded = self.fresh();
            self.commands.push(op("sin", &[output], bounded));
            self.values.push(bounded);
        }
        if let Some(&last) = self.values.last() {
            self.commands.push(fetch(last));
        }
        if self.values.len() > 4 {
            let handles = vec![self.values.swap_remove(self.random.usize(0..3))];
            self.push(Kind::Release(proto::Release { handles }));
        }
    }

    /// Changes a variable by something: twice would be something else.
    fn assign(&mut self) {
        let variable = self.variable();
        let value = self.operand();
        let mode = [proto::AssignMode::Add, proto::AssignMode::Subtract][self.random.usize(0..2)];
        self.push(Kind::AssignVariable(proto::AssignVariable {
            variable,
            value,
            mode: mode.into(),
        }));
        if self.random.bool() {
            self.commands.push(fetch(variable));
        }
    }

    /// A training step.
    fn train(&mut self) {
        let (tape, persistent) = (self.fresh(), self.random.bool());
        self.push(Kind::OpenTape(proto::OpenTape { tape, persistent, ..Default::default() }));
        let (variable, other) = (self.variable(), self.operand());
        let [difference, loss, gradient] = [self.fresh(), self.fresh(), self.fresh()];
        self.commands.push(op("subtract", &[variable, other], difference));
        self.commands.push(op("square", &[difference], loss));
        self.push(Kind::ComputeGradient(proto::ComputeGradient {
            tape,
            targets: vec![loss],
            sources: vec![variable],
            outputs: vec![proto::GradientOutput { gradient, indices: 0 }],
            ..Default::default()
        }));
        let (optimizer, _) = OPTIMIZERS[self.random.usize(0..2)];
        let pairs = vec![proto::GradientPair { variable, gradient, ..Default::default() }];
        self.push(Kind::ApplyOptimizer(proto::ApplyOptimizer { optimizer, pairs }));
        self.push(Kind::CloseTape(proto::CloseTape { tape }));
        if self.random.bool() {
            self.commands.push(fetch(gradient));
        }
        let handles = vec![difference, loss, gradient];
        self.push(Kind::Release(proto::Release { handles }));
    }

    fn run_loop(&mut self) {
        let (steps, output) = (self.random.i64(1..9), self.fresh());
        self.push(Kind::RunLoop(proto::RunLoop {
            function: BODY,
            steps,
            outputs: vec![output],
            ..Default::default()
        }));
        self.values.push(output);
        self.commands.push(fetch(output));
    }

    /// Something that fails, what comes of it, and that it changed nothing.
    fn fail(&mut self) {
        let (bad, worse) = (self.fresh(), self.fresh());
        let (name, input) =
            [("add", NOTHING), ("no_such_op", VARIABLES[0])][self.random.usize(0..2)];
        self.commands.push(tagged(
            "bad",
            op(name, &[input, input], bad).kind.unwrap_or_else(|| unreachable!()),
        ));
        self.commands.push(op("exp", &[bad], worse));
        let variable = self.variable();
        self.push(Kind::AssignVariable(proto::AssignVariable {
            variable,
            value: worse,
            mode: proto::AssignMode::Replace.into(),
        }));
        self.commands.push(fetch(worse));
        self.commands.push(fetch(variable));
    }

    fn wait(&mut self) {
        let level = [proto::Level::Applied, proto::Level::Durable][self.random.usize(0..2)];
        self.sync(level);
    }

    fn sync(&mut self, level: proto::Level) {
        self.push(Kind::Sync(proto::Sync { level: level.into(), timeout_ms: 0 }));
    }

    fn constant(&mut self) -> u64 {
        let handle = self.fresh();
        let elements = [(); 4].map(|()| self.random.f32() * 2.0 - 1.0);
        self.commands.push(constant(handle, &elements));
        handle
    }

    /// Something to calculate with.
    fn operand(&mut self) -> u64 {
        match (self.random.u8(0..4), self.values.len()) {
            (0, _) | (_, 0) => self.constant(),
            (1, _) => self.variable(),
            (_, count) => self.values[self.random.usize(0..count)],
        }
    }

    fn variable(&mut self) -> u64 {
        VARIABLES[self.random.usize(0..2)]
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn push(&mut self, kind: Kind) {
        self.commands.push(command(kind));
    }
}
