//! Checks generated from the tables of optimizers and schedules: no test names an optimizer.

#![expect(
    clippy::float_cmp,
    clippy::wildcard_enum_match_arm,
    reason = "tests know what they expect"
)]

use super::{ALL, Common, Given, schedules};
use crate::{
    array::{Array, Tensor},
    attrs::{Attr, AttrType, Fallback},
    aval::Shape,
    command::{Answer, Command, GradientPair, Handle, Kind, StepInfo},
    dtype::DType,
    error::Error,
    ledger::Ledger,
    optimizers::schedules::Schedule,
    session::Session,
};

const OPTIMIZER: Handle = 1;
const VARIABLE: Handle = 2;

/// A session with one optimizer and variables, to be stepped by hand.
struct Trial {
    session: Session,
    sequence: u64,
    next: Handle,
}

impl Trial {
    fn new() -> Self {
        Self { session: Session::new(Ledger::new("test", 1 << 24)), sequence: 0, next: 100 }
    }

    fn with(name: &str, given: Given) -> Self {
        let mut trial = Self::new();
        let (hyperparameters, name) = (given, name.into());
        let schedule = None;
        trial
            .apply(Kind::CreateOptimizer { optimizer: OPTIMIZER, name, hyperparameters, schedule })
            .unwrap_or_else(|error| panic!("{error}"));
        trial
    }

    fn apply(&mut self, kind: Kind) -> Result<Answer, Error> {
        self.sequence += 1;
        let command = Command { kind, tag: "".into(), scope: 0, source: None };
        self.session.apply(self.sequence, command).result.map_err(|failure| failure.error)
    }

    fn constant(&mut self, array: Array) -> Handle {
        self.next += 1;
        let value = Tensor::unpaid(array);
        self.apply(Kind::Constant { output: self.next, value }).unwrap();
        self.next
    }

    fn variable(&mut self, variable: Handle, array: Array) {
        let initial = self.constant(array);
        let name = "v".into();
        self.apply(Kind::CreateVariable { variable, name, initial, trainable: true }).unwrap();
    }

    fn step(&mut self, pairs: Vec<GradientPair>) -> Result<StepInfo, Error> {
        match self.apply(Kind::ApplyOptimizer { optimizer: OPTIMIZER, pairs })? {
            Answer::Stepped(info) => Ok(info),
            other => panic!("{other:?}"),
        }
    }

    fn numbers(&self, handle: Handle) -> Vec<f64> {
        match self.session.peek(handle).unwrap().array() {
            Array::F32(a) => a.iter().map(|&x| f64::from(x)).collect(),
            Array::F64(a) => a.iter().copied().collect(),
            Array::F16(a) => a.iter().map(|&x| f64::from(x)).collect(),
            Array::BF16(a) => a.iter().map(|&x| f64::from(x)).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn dense(variable: Handle, gradient: Handle) -> GradientPair {
    GradientPair {
        variable,
        gradient,
        indices: 0,
        exclude_from_weight_decay: false,
        exclude_from_orthogonalization: false,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what the dtype is for")]
fn array(dtype: DType, shape: &[usize], number: impl Fn(usize) -> f64) -> Array {
    let numbers = (0..shape.iter().product()).map(number);
    let shape = Shape::from(shape);
    match dtype {
        DType::F64 => Array::new(&shape, numbers.collect()),
        DType::F16 => Array::new(&shape, numbers.map(half::f16::from_f64).collect()),
        DType::BF16 => Array::new(&shape, numbers.map(half::bf16::from_f64).collect()),
        DType::F32 | DType::I32 | DType::I64 | DType::Bool => {
            Array::new(&shape, numbers.map(|x| x as f32).collect())
        }
    }
    .unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn wave(seed: usize) -> impl Fn(usize) -> f64 {
    move |i| ((i * 7 + seed * 3) % 11) as f64 / 11.0 - 0.45
}

/// What every optimizer is tried with: each of the formulas, and everything that changes the stages.
fn variants() -> Vec<Given> {
    let text = |name: &str, value: &str| (name.to_owned(), Attr::Text(value.into()));
    let number = |name: &str, value: f64| (name.to_owned(), Attr::Double(value));
    let flag = |name: &str| (name.to_owned(), Attr::Bool(true));
    vec![
        vec![],
        vec![text("compat", "torch"), number("weight_decay", 0.01)],
        vec![number("weight_decay", 0.01), number("clipnorm", 0.5)],
        vec![number("global_clipnorm", 0.5), flag("use_ema")],
        vec![number("clipvalue", 0.2), flag("dynamic_loss_scale")],
        vec![("gradient_accumulation_steps".to_owned(), Attr::Int(2)), flag("use_ema")],
    ]
}

fn each(mut check: impl FnMut(&'static str, Given)) {
    for def in ALL {
        for given in variants() {
            check(def.name, given);
        }
    }
}

/// The variable after some steps.
fn trained(name: &str, given: Given, dtype: DType, shape: &[usize]) -> Vec<f64> {
    let mut trial = Trial::with(name, given);
    trial.variable(VARIABLE, array(dtype, shape, wave(0)));
    for step in 1..=4 {
        // Mostly of one sign, so that no rule comes back to where it began.
        let gradient = trial.constant(array(dtype, shape, |i| wave(step)(i) + 0.3));
        trial.step(vec![dense(VARIABLE, gradient)]).unwrap();
    }
    trial.numbers(VARIABLE)
}

fn close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{name}: {found}, not {expected}");
    }
}

#[test]
fn every_record_is_documented_and_begins_with_a_learning_rate() {
    for def in ALL {
        assert!(!def.summary.is_empty() && !def.formula.is_empty(), "{}", def.name);
        assert_eq!((def.attrs[0].name, def.attrs[0].ty), ("learning_rate", AttrType::Double));
        let mut names: Vec<_> = def.attrs.iter().map(|spec| spec.name).collect();
        names.extend(Common::SPECS.iter().map(|spec| spec.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}: a hyperparameter has two meanings", def.name);
    }
}

#[test]
fn every_shape_and_dtype_is_stepped() {
    each(|name, given| {
        for shape in [&[][..], &[3], &[4, 2], &[2, 3, 2], &[0], &[0, 3]] {
            let exact = trained(name, given.clone(), DType::F64, shape);
            assert!(exact.iter().all(|x| x.is_finite()), "{name}: {exact:?}");
            let moved = exact.iter().enumerate().any(|(i, &x)| (x - wave(0)(i)).abs() > 1e-9);
            assert!(exact.is_empty() || moved, "{name} does not move");
            for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F16, 4e-3), (DType::BF16, 4e-2)]
            {
                let found = trained(name, given.clone(), dtype, shape);
                close(&format!("{name} {given:?} {dtype}"), &found, &exact, tolerance);
            }
        }
    });
}

/// From the second one on, a step that is like one before runs as a plan that was made then.
#[test]
fn steps_that_are_taken_again_give_the_same_bits() {
    each(|name, given| {
        let run = |known: bool| {
            let mut trial = Trial::with(name, given.clone());
            trial.variable(VARIABLE, array(DType::F32, &[4, 2], wave(0)));
            for step in 1..=9 {
                if !known {
                    trial.session.forget_steps();
                }
                if step == 5 || step == 7 {
                    let rate = Attr::Double(1e-3 * f64::from(step));
                    let hyperparameters = vec![("learning_rate".to_owned(), rate)];
                    let (optimizer, schedule) = (OPTIMIZER, None);
                    let set = Kind::SetOptimizer { optimizer, hyperparameters, schedule };
                    trial.apply(set).unwrap();
                }
                let wave = wave(usize::try_from(step).unwrap());
                let gradient = trial.constant(array(DType::F32, &[4, 2], |i| wave(i) + 0.3));
                trial.step(vec![dense(VARIABLE, gradient)]).unwrap();
            }
            trial.numbers(VARIABLE).into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(run(true), run(false), "{name} {given:?}");
    });
}

#[test]
fn sparse_gradients_step_as_dense_ones_do() {
    each(|name, given| {
        let rows = |step: usize| [step % 3, 2, step % 3];
        let mut trial = Trial::with(name, given.clone());
        trial.variable(VARIABLE, array(DType::F64, &[3, 2], wave(0)));
        let mut other = Trial::with(name, given);
        other.variable(VARIABLE, array(DType::F64, &[3, 2], wave(0)));
        for step in 1..=4 {
            let values = wave(step);
            let gradient = trial.constant(array(DType::F64, &[3, 2], &values));
            let numbers = rows(step).map(|row| i64::try_from(row).unwrap()).to_vec();
            let indices = trial.constant(Array::new(&Shape::from([3]), numbers).unwrap());
            trial.step(vec![GradientPair { indices, ..dense(VARIABLE, gradient) }]).unwrap();
            let mut sum = [0.0; 6];
            for (i, row) in rows(step).into_iter().enumerate() {
                for column in 0..2 {
                    sum[row * 2 + column] += values(i * 2 + column);
                }
            }
            let gradient = other.constant(array(DType::F64, &[3, 2], |i| sum[i]));
            other.step(vec![dense(VARIABLE, gradient)]).unwrap();
        }
        close(name, &trial.numbers(VARIABLE), &other.numbers(VARIABLE), 1e-12);
    });
}

#[test]
fn a_step_changes_all_variables_or_none() {
    each(|name, given| {
        let mut trial = Trial::with(name, given);
        trial.variable(VARIABLE, array(DType::F32, &[2], wave(0)));
        trial.variable(3, array(DType::F32, &[2], wave(1)));
        let before = (trial.numbers(VARIABLE), trial.numbers(3));
        let right = trial.constant(array(DType::F32, &[2], wave(2)));
        let wrong = trial.constant(array(DType::F32, &[3], wave(3)));
        trial.step(vec![dense(VARIABLE, right), dense(3, wrong)]).unwrap_err();
        assert_eq!((trial.numbers(VARIABLE), trial.numbers(3)), before, "{name}");
        let info = trial.step(vec![dense(VARIABLE, right), dense(3, right)]).unwrap();
        assert_eq!(info.iterations, 1, "{name}: a failed step was counted");
    });
}

#[test]
fn a_step_without_room_changes_nothing() {
    for def in ALL {
        let mut trial = Trial::with(def.name, vec![]);
        trial.session = Session::new(Ledger::new("test", 1200));
        let create = Kind::CreateOptimizer {
            optimizer: OPTIMIZER,
            name: def.name.into(),
            hyperparameters: vec![],
            schedule: None,
        };
        trial.apply(create).unwrap();
        trial.variable(VARIABLE, array(DType::F32, &[10, 25], wave(0)));
        let gradient = trial.constant(array(DType::F32, &[10, 25], wave(1)));
        let before = trial.numbers(VARIABLE);
        let error = trial.step(vec![dense(VARIABLE, gradient)]).unwrap_err();
        assert!(matches!(error, Error::MemoryLimit { .. }), "{}: {error}", def.name);
        assert_eq!(trial.numbers(VARIABLE), before, "{}", def.name);
    }
}

#[test]
fn gradients_that_are_not_finite_are_skipped_and_halve_the_scale() {
    let flag = ("dynamic_loss_scale".to_owned(), Attr::Bool(true));
    let growth = ("dynamic_growth_steps".to_owned(), Attr::Int(2));
    for def in ALL {
        let mut trial = Trial::with(def.name, vec![flag.clone(), growth.clone()]);
        trial.variable(VARIABLE, array(DType::F16, &[2], wave(0)));
        let before = trial.numbers(VARIABLE);
        let bad = trial.constant(array(DType::F16, &[2], |_| f64::INFINITY));
        let info = trial.step(vec![dense(VARIABLE, bad)]).unwrap();
        assert!(info.skipped && info.iterations == 0, "{}", def.name);
        assert_eq!((info.loss_scale, trial.numbers(VARIABLE)), (16384.0, before), "{}", def.name);
        let good = trial.constant(array(DType::F16, &[2], |_| 100.0));
        for scale in [16384.0, 32768.0] {
            let info = trial.step(vec![dense(VARIABLE, good)]).unwrap();
            assert_eq!((info.skipped, info.loss_scale), (false, scale), "{}", def.name);
        }
    }
}

#[test]
fn another_initial_scale_begins_anew() {
    let flag = ("dynamic_loss_scale".to_owned(), Attr::Bool(true));
    for def in ALL {
        let mut optimizer = super::Optimizer::new(def.name, vec![flag.clone()], None).unwrap();
        optimizer.skip();
        optimizer.set(vec![("clipvalue".to_owned(), Attr::Double(1.0))], None).unwrap();
        assert_eq!(optimizer.loss_scale(), 16384.0, "{}", def.name);
        optimizer.set(vec![("initial_scale".to_owned(), Attr::Double(8.0))], None).unwrap();
        assert_eq!(optimizer.loss_scale(), 8.0, "{}", def.name);
    }
}

#[test]
fn hyperparameters_that_are_no_numbers_are_refused() {
    for def in ALL {
        for spec in def.attrs.iter().chain(Common::SPECS) {
            if spec.ty == AttrType::Double {
                for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let given = vec![(spec.name.to_owned(), Attr::Double(value))];
                    let refused = super::Optimizer::new(def.name, given, None);
                    assert!(refused.is_err(), "{}: {} = {value}", def.name, spec.name);
                }
            }
        }
    }
}

#[test]
fn slots_come_and_go_with_hyperparameters() {
    each(|name, given| {
        let mut trial = Trial::with(name, given);
        trial.variable(VARIABLE, array(DType::F32, &[2, 2], wave(0)));
        let gradient = trial.constant(array(DType::F32, &[2, 2], wave(1)));
        for (average, steps) in [(true, 2), (false, 1), (true, 3)] {
            trial.step(vec![dense(VARIABLE, gradient)]).unwrap();
            let hyperparameters = vec![
                ("use_ema".to_owned(), Attr::Bool(average)),
                ("gradient_accumulation_steps".to_owned(), Attr::Int(steps)),
            ];
            let set = Kind::SetOptimizer { optimizer: OPTIMIZER, hyperparameters, schedule: None };
            trial.apply(set).unwrap();
            trial.step(vec![dense(VARIABLE, gradient)]).unwrap();
            assert!(trial.numbers(VARIABLE).iter().all(|x| x.is_finite()), "{name}");
        }
    });
}

/// Attributes for a schedule that has required ones.
fn example(def: &schedules::ScheduleDef) -> Given {
    let required = def.attrs.iter().filter(|spec| spec.fallback == Fallback::Required);
    required
        .map(|spec| {
            let value = match spec.ty {
                AttrType::Ints => Attr::Ints([10, 20].as_slice().into()),
                AttrType::Doubles => Attr::Doubles([0.3, 0.2, 0.1].as_slice().into()),
                _ if spec.name.ends_with("steps") => Attr::Double(50.0),
                _ => Attr::Double(0.25),
            };
            (spec.name.to_owned(), value)
        })
        .collect()
}

#[test]
fn schedules_give_finite_rates_forever_and_begin_after_their_warmup() {
    for def in schedules::ALL {
        assert!(!def.summary.is_empty() && !def.formula.is_empty(), "{}", def.name);
        let plain = Schedule::new(def.name, example(def)).unwrap();
        let mut given = example(def);
        given.push(("warmup_steps".to_owned(), Attr::Int(4)));
        let warm = Schedule::new(def.name, given).unwrap();
        assert_eq!(warm.rate(0), 0.0, "{}", def.name);
        assert!((warm.rate(2) - plain.rate(0) / 2.0).abs() < 1e-15, "{}", def.name);
        for step in [0, 1, 7, 49, 50, 51, 1000, i64::MAX / 2] {
            assert!(
                plain.rate(step).is_finite() && plain.rate(step) >= 0.0,
                "{} at {step}",
                def.name
            );
            assert_eq!(warm.rate(step + 4).to_bits(), plain.rate(step).to_bits(), "{}", def.name);
        }
    }
}

#[test]
fn schedules_refuse_what_is_missing_or_makes_no_sense() {
    for def in schedules::ALL {
        for (i, (name, value)) in example(def).into_iter().enumerate() {
            let mut given = example(def);
            given.remove(i);
            assert!(Schedule::new(def.name, given.clone()).is_err(), "{} without {name}", def.name);
            let bad = match value {
                Attr::Double(_) => Attr::Double(f64::NAN),
                Attr::Doubles(_) => Attr::Doubles([f64::NAN; 3].as_slice().into()),
                _ => Attr::Ints([2, 1].as_slice().into()),
            };
            given.push((name.clone(), bad));
            assert!(Schedule::new(def.name, given).is_err(), "{} with a wrong {name}", def.name);
        }
    }
}
