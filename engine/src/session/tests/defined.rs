//! A function is what its commands are: the same bits as without it, whatever the body, and nothing of a call that fails.

use smallvec::smallvec;

use super::Driver;
pub(super) use super::writer::Writer;
use crate::{
    array::{Array, Tensor},
    attrs::Attr,
    aval::{Aval, Shape},
    command::{
        Answer, AssignMode, Callee, CustomGradient, FunctionCall, FunctionDefinition,
        GradientOutput, GradientPair, GradientRequest, Handle, JacobianRequest, Kind,
    },
    dtype::DType,
    error::Error,
    jacobian::Layout,
    optimizers::{self, Given, schedules::Schedule},
    session::Slot,
};

pub(super) const W: Handle = 1;
pub(super) const B: Handle = 2;
pub(super) const OPTIMIZER: Handle = 3;
pub(super) const GENERATOR: Handle = 4;
const CAPTURED: Handle = 5;
pub(super) const FUNCTION: Handle = 6;
pub(super) const INNER: Handle = 7;
/// A second generator.
pub(super) const NOISE: Handle = 8;
pub(super) const X: Handle = 10;
const TAPE: Handle = 11;
pub(super) const PARAMETER: Handle = 50;
pub(super) const FIRST: Handle = 1000;

/// A body: from the argument to the results.
pub(super) type Show = fn(&mut Writer, Handle) -> Vec<Handle>;

/// Bodies, each with an idea of its own.
const BODIES: &[(&str, Show)] = &[
    ("identity", |_, x| vec![x]),
    ("the same result twice", |w, x| {
        let y = w.op("exp", &[x], &[]);
        vec![y, y]
    }),
    ("a captured value", |w, x| vec![w.op("multiply", &[x, CAPTURED], &[])]),
    ("a variable is a result", |_, _| vec![W]),
    ("reads between assignments", |w, x| {
        let before = w.op("multiply", &[B, B], &[]);
        let half = w.op("multiply", &[before, B], &[]);
        w.tell(Kind::Assign { variable: B, value: half, mode: AssignMode::Add });
        let after = w.op("multiply", &[B, before], &[]);
        let sum = w.op("add", &[after, half], &[]);
        w.tell(Kind::Assign { variable: B, value: sum, mode: AssignMode::Subtract });
        let all = w.op("add", &[sum, B], &[]);
        let scaled = w.op("reduce_mean", &[x], &[]);
        vec![w.op("multiply", &[all, scaled], &[])]
    }),
    ("rows of a variable", |w, x| {
        let rows = w.op(
            "reduce_sum",
            &[x],
            &[("axis", Attr::Ints(smallvec![0])), ("keepdims", Attr::Bool(true))],
        );
        let rows = w.op("transpose", &[rows], &[("perm", Attr::Ints(smallvec![1, 0]))]);
        let rows = w.op("concat", &[rows, rows], &[("axis", Attr::Int(1))]);
        let indices = w.fresh();
        let array = Array::new(&[3].into(), vec![1_i64, 0, 1]).unwrap();
        w.tell(Kind::Constant { output: indices, value: Tensor::unpaid(array) });
        for mode in [AssignMode::Add, AssignMode::Subtract, AssignMode::Replace] {
            w.tell(Kind::Scatter { variable: W, indices, updates: rows, mode });
        }
        vec![w.op("exp", &[W], &[])]
    }),
    ("a training step", |w, x| vec![w.step(x)]),
    ("two training steps", |w, x| vec![w.step(x), w.step(x)]),
    ("numbers of the optimizer", |w, x| {
        let before = ["iterations", "learning_rate", "loss_scale"].map(|name| w.number(name));
        let loss = w.step(x);
        let after = ["iterations", "learning_rate", "loss_scale"].map(|name| w.number(name));
        [&before[..], &[loss], &after].concat()
    }),
    ("a variable changes between steps", |w, x| {
        let first = w.step(x);
        w.tell(Kind::Assign { variable: W, value: W, mode: AssignMode::Add });
        vec![first, w.step(x)]
    }),
    ("rows of a gradient", |w, x| {
        let tape = w.tape(false);
        let indices = w.fresh();
        let array = Array::new(&[4].into(), vec![2_i64, 0, 2, 1]).unwrap();
        w.tell(Kind::Constant { output: indices, value: Tensor::unpaid(array) });
        let rows = w.op("gather", &[W, indices], &[]);
        let rows = w.op("multiply", &[rows, rows], &[]);
        let scale = w.op("reduce_mean", &[x], &[]);
        let loss = w.op("multiply", &[rows, scale], &[]);
        let loss = w.op("reduce_sum", &[loss], &[]);
        let (gradient, rows) = (w.fresh(), w.fresh());
        w.tell(Kind::Gradient(GradientRequest {
            tape,
            targets: vec![loss],
            sources: vec![W],
            outputs: vec![GradientOutput { gradient, indices: rows }],
            seeds: Vec::new(),
            zero_unconnected: false,
            expected: vec![],
        }));
        let pairs = vec![GradientPair {
            variable: W,
            gradient,
            indices: rows,
            exclude_from_weight_decay: true,
            exclude_from_orthogonalization: true,
        }];
        w.tell(Kind::ApplyOptimizer { optimizer: OPTIMIZER, pairs });
        vec![loss]
    }),
    ("a gradient that is absent", |w, x| {
        let tape = w.tape(false);
        let square = w.op("multiply", &[B, B], &[]);
        let loss = w.op("reduce_sum", &[square], &[]);
        let gradients = w.gradients(tape, loss, &[W, B]);
        w.minimize(&gradients);
        vec![loss, w.step(x)]
    }),
    ("dropout", |w, x| {
        let (state, again) = (w.draw(GENERATOR, 6), w.draw(GENERATOR, 1));
        let shape = ("shape", Attr::Ints(smallvec![2, 3]));
        let kept = w.op("random_uniform", &[state], std::slice::from_ref(&shape));
        let more = w.op("random_uniform", &[again], &[shape]);
        let kept = w.op("multiply", &[kept, more], &[]);
        let dropped = w.op("multiply", &[x, kept], &[]);
        vec![w.step(dropped), kept]
    }),
    ("nested tapes", |w, x| {
        let outer = w.tape(false);
        w.tell(Kind::WatchTape { tape: outer, values: vec![x] });
        let inner = w.tape(false);
        w.tell(Kind::WatchTape { tape: inner, values: vec![x] });
        let loss = w.loss(x);
        let first = w.gradients(inner, loss, &[x]).remove(0);
        let second = w.gradients(outer, first, &[x, W]);
        [vec![first], second].concat()
    }),
    ("a persistent tape", |w, x| {
        let tape = w.tape(true);
        let loss = w.loss(x);
        let more = w.op("multiply", &[loss, loss], &[]);
        let all = [w.gradients(tape, loss, &[W]), w.gradients(tape, more, &[W, B])].concat();
        w.tell(Kind::CloseTape { tape });
        all
    }),
    ("a Jacobian", |w, x| {
        let tape = w.tape(false);
        let product = w.op("matmul", &[x, W], &[]);
        let curved = w.op("sin", &[product], &[]);
        let output = w.fresh();
        w.tell(Kind::Jacobian(JacobianRequest {
            tape,
            target: curved,
            sources: vec![W],
            outputs: vec![output],
            layout: Layout::Full,
            zero_unconnected: false,
        }));
        vec![output]
    }),
    ("a custom gradient", |w, x| {
        let tape = w.tape(false);
        let loss = w.loss(x);
        let upstream = w.fresh();
        w.tell(Kind::CreatePlaceholders { like: vec![loss], outputs: vec![upstream] });
        let gradient = w.op("multiply", &[upstream, CAPTURED], &[]);
        let gradient = w.op("reduce_sum", &[gradient], &[]);
        let gradient = w.op("multiply", &[gradient, B], &[]);
        let output = w.fresh();
        w.tell(Kind::RecordCustomGradient(CustomGradient {
            inputs: vec![B],
            results: vec![loss],
            outputs: vec![output],
            upstream: vec![upstream],
            gradients: vec![gradient],
        }));
        w.gradients(tape, output, &[B])
    }),
];

/// Name, hyperparameters and schedule of an optimizer.
type Recipe = (&'static str, Given, Option<Schedule>);

/// Optimizers, each with something of its own that changes from step to step.
pub(super) fn optimizers() -> Vec<Recipe> {
    let given = |given: &[(&str, Attr)]| -> Given {
        given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let decay = given(&[
        ("initial_learning_rate", Attr::Double(0.1)),
        ("decay_steps", Attr::Int(2)),
        ("decay_rate", Attr::Double(0.5)),
    ]);
    let schedule = Schedule::new("exponential_decay", decay).unwrap();
    let double = |name, value| (name, Attr::Double(value));
    let int = |name, value| (name, Attr::Int(value));
    let ema = ("use_ema", Attr::Bool(true));
    let torch = ("compat", Attr::Text("torch".into()));
    // The scale is soon too large for the gradients, and grows again when it is small enough.
    let adapts = ("dynamic_loss_scale", Attr::Bool(true));
    let adapts = [adapts, double("initial_scale", 3e38), int("dynamic_growth_steps", 2)];
    let adapting = |more: &[(&str, Attr)]| given(&[&adapts[..], more].concat());
    let mut all = vec![
        ("sgd", given(&[double("momentum", 0.9), ("nesterov", Attr::Bool(true))]), None),
        ("adam", given(&[double("global_clipnorm", 0.01)]), Some(schedule.clone())),
        ("nadam", given(&[int("gradient_accumulation_steps", 3)]), None),
        ("adamw", given(&[ema.clone(), int("ema_overwrite_frequency", 2)]), None),
        ("sgd", given(&[double("clipnorm", 0.01), double("weight_decay", 0.1)]), None),
        ("adam", given(&[torch.clone(), double("weight_decay", 0.1)]), None),
        ("rmsprop", given(&[torch, double("clipvalue", 0.01)]), Some(schedule.clone())),
        ("lamb", given(&[double("loss_scale_factor", 8.0)]), None),
        ("muon", given(&[int("gradient_accumulation_steps", 2), ema.clone()]), None),
        ("schedule_free_adamw", given(&[int("warmup_steps", 4)]), None),
        ("adam", adapting(&[]), None),
        ("sgd", adapting(&[double("momentum", 0.9), ema]), Some(schedule)),
        ("ftrl", adapting(&[int("gradient_accumulation_steps", 2)]), None),
        ("schedule_free_adamw", adapting(&[double("global_clipnorm", 0.01)]), None),
    ];
    all.extend(optimizers::ALL.iter().map(|def| (def.name, Vec::new(), None)));
    all
}

#[expect(clippy::cast_precision_loss, reason = "a few elements")]
pub(super) fn tensor(shape: &[usize], from: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + from).sin()).collect();
    Tensor::unpaid(Array::new(&Shape::from(shape), values).unwrap())
}

/// A session with variables, an optimizer and a generator.
pub(super) fn furnished(optimizer: usize) -> Driver {
    let mut driver = Driver::new(1 << 30);
    let (name, hyperparameters, schedule) = optimizers().swap_remove(optimizer);
    for (variable, shape, from) in [(W, &[3, 2][..], 1.5), (B, &[2], 2.5)] {
        let value = tensor(shape, from);
        driver.apply(Kind::Constant { output: variable + 100, value }).unwrap();
        let (initial, name) = (variable + 100, "v".into());
        let kind = Kind::CreateVariable { variable, name, initial, trainable: true };
        driver.apply(kind).unwrap();
    }
    let name = name.into();
    let kind = Kind::CreateOptimizer { optimizer: OPTIMIZER, name, hyperparameters, schedule };
    driver.apply(kind).unwrap();
    for (generator, seed) in [(GENERATOR, 5), (NOISE, i64::MIN + 3)] {
        driver.apply(Kind::CreateGenerator { generator, seed }).unwrap();
    }
    driver.apply(Kind::Constant { output: CAPTURED, value: tensor(&[2, 3], 0.2) }).unwrap();
    driver
}

impl Driver {
    pub(super) fn define(&mut self, function: Handle, show: Show) -> Result<Answer, Error> {
        let specs = Ok(vec![Aval::new(DType::F32, [2, 3])]);
        let parameters = vec![PARAMETER];
        self.apply(Kind::DefineFunction(FunctionDefinition { function, parameters, specs }))?;
        let results = show(&mut Writer { driver: self, next: FIRST }, PARAMETER);
        self.apply(Kind::FinishFunction { function, results, abandon: false })
    }

    pub(super) fn call_defined(&mut self, x: Handle, outputs: &[Handle]) -> Result<Answer, Error> {
        self.apply(Kind::CallFunction(FunctionCall {
            callee: Callee::Defined(FUNCTION),
            arguments: vec![x],
            outputs: outputs.to_vec(),
        }))
    }

    /// The optimizer's loss scale.
    pub(super) fn loss_scale(&self) -> f64 {
        match &self.session.slots[&OPTIMIZER] {
            Slot::Optimizer(state) => state.optimizer.loss_scale(),
            other => panic!("{other:?} is no optimizer"),
        }
    }

    /// How many results the function has.
    pub(super) fn count_results(&self) -> usize {
        match &self.session.slots[&FUNCTION] {
            Slot::Function(defined) => defined.body.results.len(),
            other => panic!("{other:?} is no function"),
        }
    }

    pub(super) fn bits(&mut self, handle: Handle) -> (Aval, Vec<u8>) {
        let tensor = self.session.peek(handle).unwrap();
        (tensor.aval(), tensor.array().as_bytes().unwrap().to_vec())
    }

    /// All of the state that bodies change.
    pub(super) fn state(&mut self) -> Vec<(Aval, Vec<u8>)> {
        let mut state = [W, B].map(|handle| self.bits(handle)).to_vec();
        for generator in [GENERATOR, NOISE] {
            let output = FIRST - 1;
            self.apply(Kind::NextGeneratorState { generator, output, draws: 1 }).unwrap();
            state.push(self.bits(output));
            self.apply(Kind::Release { handles: vec![output] }).unwrap();
        }
        let Slot::Optimizer(optimizer) = &self.session.slots[&OPTIMIZER] else {
            panic!("the optimizer is gone")
        };
        let counters = format!("{:?}", optimizer.optimizer.counters());
        state.push((Aval::scalar(DType::Bool), counters.into_bytes()));
        let mut states: Vec<_> = optimizer.states.iter().collect();
        states.sort_unstable_by_key(|(variable, _)| **variable);
        for (name, tensor) in states.into_iter().flat_map(|(_, kept)| kept) {
            let bits = [name.as_bytes(), tensor.array().as_bytes().unwrap()].concat();
            state.push((tensor.aval(), bits));
        }
        state
    }
}

/// Calls a function five times, or shows its body as often, and gives all that can be seen of it.
fn calls(optimizer: usize, show: Show, defined: bool, watched: bool) -> Vec<(Aval, Vec<u8>)> {
    let mut driver = furnished(optimizer);
    if defined {
        driver.define(FUNCTION, show).unwrap();
    }
    let mut seen = Vec::new();
    let mut next = 10 * FIRST;
    for i in 0..5_u8 {
        driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], f32::from(i)) }).unwrap();
        if watched {
            driver.open(TAPE, true);
            driver.apply(Kind::WatchTape { tape: TAPE, values: vec![X, CAPTURED] }).unwrap();
        }
        let results = if defined {
            let results: Vec<Handle> = (next + 500..).take(driver.count_results()).collect();
            driver.call_defined(X, &results).unwrap();
            results
        } else {
            show(&mut Writer { driver: &mut driver, next }, X)
        };
        seen.extend(results.iter().map(|&result| driver.bits(result)));
        if watched {
            let mut writer = Writer { driver: &mut driver, next: next + 700 };
            for &result in &results {
                let sources = [X, W, B, CAPTURED];
                for gradient in writer.gradients(TAPE, result, &sources) {
                    if writer.driver.session.peek(gradient).is_ok() {
                        seen.push(writer.driver.bits(gradient));
                    } else {
                        seen.push((Aval::scalar(DType::Bool), Vec::new()));
                    }
                }
            }
            driver.apply(Kind::CloseTape { tape: TAPE }).unwrap();
        }
        driver.apply(Kind::Release { handles: vec![X] }).unwrap();
        seen.extend(driver.state());
        next += FIRST;
    }
    seen
}

#[test]
fn a_function_gives_the_bits_that_its_commands_give() {
    for optimizer in 0..optimizers().len() {
        for &(name, show) in BODIES {
            let eager = calls(optimizer, show, false, false);
            let defined = calls(optimizer, show, true, false);
            assert_eq!(defined, eager, "{name} with {}", optimizers()[optimizer].0);
        }
    }
}

#[test]
fn a_tape_outside_hears_what_the_body_computes() {
    for &(name, show) in BODIES.iter().filter(|(name, _)| *name != "a custom gradient") {
        let eager = calls(0, show, false, true);
        let defined = calls(0, show, true, true);
        assert_eq!(defined, eager, "{name}");
    }
}

#[test]
fn a_tape_outside_hears_nothing_of_assignments_and_steps() {
    let nodes = |defined: bool| {
        let mut driver = furnished(0);
        let show: Show = |w, x| vec![w.step(x)];
        if defined {
            driver.define(FUNCTION, show).unwrap();
        }
        driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 0.5) }).unwrap();
        driver.open(TAPE, true);
        driver.apply(Kind::WatchTape { tape: TAPE, values: vec![X] }).unwrap();
        if defined {
            driver.call_defined(X, &[20]).unwrap();
        } else {
            show(&mut Writer { driver: &mut driver, next: 10 * FIRST }, X);
        }
        driver.session.trace(TAPE).len()
    };
    // One more: the result of a function is a value of its own.
    assert!(nodes(true) <= nodes(false) + 1, "{} and {}", nodes(true), nodes(false));
}

#[test]
fn a_tape_outside_cannot_hear_of_a_custom_gradient() {
    let mut driver = furnished(0);
    let (_, show) = *BODIES.iter().find(|(name, _)| *name == "a custom gradient").unwrap();
    driver.define(FUNCTION, show).unwrap();
    driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 0.0) }).unwrap();
    driver.open(TAPE, true);
    let error = driver.call_defined(X, &[FIRST]).unwrap_err();
    assert!(matches!(error, Error::NotInFunction { .. }), "{error}");
}

#[test]
fn a_function_calls_a_function() {
    let inner: Show = |w, x| vec![w.step(x)];
    let outer: Show = |w, x| {
        let result = w.call(INNER, x);
        let tape = w.tape(false);
        let more = w.op("multiply", &[result, CAPTURED], &[]);
        let loss = w.loss(more);
        let gradients = w.gradients(tape, loss, &[W, B]);
        w.minimize(&gradients);
        vec![result, loss]
    };
    let flat: Show = |w, x| {
        let result = w.step(x);
        let tape = w.tape(false);
        let more = w.op("multiply", &[result, CAPTURED], &[]);
        let loss = w.loss(more);
        let gradients = w.gradients(tape, loss, &[W, B]);
        w.minimize(&gradients);
        vec![result, loss]
    };
    are_alike(&[(INNER, inner), (FUNCTION, outer)], flat);
}

/// Functions that call each other give what one body without them gives, step by step.
fn are_alike(functions: &[(Handle, Show)], flat: Show) {
    for optimizer in 0..optimizers().len() {
        let mut nested = furnished(optimizer);
        for (function, show) in functions {
            nested.define(*function, *show).unwrap();
        }
        let mut plain = furnished(optimizer);
        for i in 0..5_u8 {
            for driver in [&mut nested, &mut plain] {
                let value = tensor(&[2, 3], f32::from(i));
                driver.apply(Kind::Constant { output: X, value }).unwrap();
            }
            nested.call_defined(X, &[20, 21]).unwrap();
            let next = 10 * FIRST * (Handle::from(i) + 1);
            let results = flat(&mut Writer { driver: &mut plain, next }, X);
            for (one, other) in [20, 21].into_iter().zip(results) {
                assert_eq!(nested.bits(one), plain.bits(other), "step {i}");
            }
            assert_eq!(nested.state(), plain.state(), "step {i}");
            nested.apply(Kind::Release { handles: vec![20, 21, X] }).unwrap();
            plain.apply(Kind::Release { handles: vec![X] }).unwrap();
        }
    }
}

#[test]
fn a_function_within_a_function_calls_another_that_captured_what_is_around_both() {
    let outer: Show = |w, x| {
        let around = w.op("multiply", &[x, x], &[]);
        let capturing = w.within(|w, x| {
            let more = w.op("multiply", &[x, around], &[]);
            vec![w.step(more)]
        });
        let calling = w.within(|w, x| {
            // One more in between.
            let calling = w.within(|w, x| vec![w.call(capturing, x)]);
            let loss = w.call(calling, x);
            vec![w.op("multiply", &[around, loss], &[])]
        });
        vec![w.call(calling, x), w.call(capturing, x)]
    };
    let flat: Show = |w, x| {
        let around = w.op("multiply", &[x, x], &[]);
        let more = w.op("multiply", &[x, around], &[]);
        let loss = w.step(more);
        let scaled = w.op("multiply", &[around, loss], &[]);
        let more = w.op("multiply", &[x, around], &[]);
        vec![scaled, w.step(more)]
    };
    are_alike(&[(FUNCTION, outer)], flat);
}

/// Divides integers after a step: fails where the argument has a zero.
pub(super) const FAILING: Show = |w, x| {
    let loss = w.step(x);
    w.draw(GENERATOR, 3);
    let integers = w.op("cast", &[x], &[("dtype", Attr::DType(DType::I32))]);
    vec![loss, w.op("floordiv", &[integers, integers], &[])]
};

#[test]
fn a_call_that_fails_changes_nothing() {
    let mut driver = furnished(1);
    driver.define(FUNCTION, FAILING).unwrap();
    let array = Array::new(&[2, 3].into(), vec![3.0_f32; 6]).unwrap();
    driver.apply(Kind::Constant { output: X, value: Tensor::unpaid(array) }).unwrap();
    driver.call_defined(X, &[20, 21]).unwrap();
    let array = Array::new(&[2, 3].into(), vec![0.0_f32; 6]).unwrap();
    driver.apply(Kind::Constant { output: X + 1, value: Tensor::unpaid(array) }).unwrap();
    let iterations = |driver: &mut Driver| {
        let (optimizer, name, variable) = (OPTIMIZER, "iterations".into(), 0);
        driver.apply(Kind::ReadOptimizer { optimizer, name, variable, output: 30 }).unwrap();
        let found = driver.bits(30);
        driver.apply(Kind::Release { handles: vec![30] }).unwrap();
        found
    };
    let before = ([W, B].map(|handle| driver.bits(handle)), iterations(&mut driver));
    let error = driver.call_defined(X + 1, &[22, 23]).unwrap_err();
    assert!(matches!(error, Error::DivisionByZero { .. }), "{error}");
    let after = ([W, B].map(|handle| driver.bits(handle)), iterations(&mut driver));
    assert_eq!(after, before);
    let error = driver.apply(Kind::Fetch { value: 22 }).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
}
