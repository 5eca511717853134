//! A loop is its calls, one after the other, and can be stopped between them.

use std::sync::Arc;

use smallvec::smallvec;

use super::{
    Driver,
    defined::{
        B, FAILING, FIRST, FUNCTION, PARAMETER, Show, W, Writer, X, furnished, optimizers, tensor,
    },
};
use crate::{
    array::{Array, Tensor},
    attrs::Attr,
    aval::Aval,
    command::{Answer, AssignMode, Command, FunctionDefinition, Kind, LoopInfo, LoopRequest},
    dtype::DType,
    error::Error,
    ledger::Ledger,
    session::{Progress, Session, Working},
};

pub(super) fn request(steps: i64) -> LoopRequest {
    LoopRequest {
        function: FUNCTION,
        steps,
        datasets: vec![],
        batch_size: 0,
        shuffle_seed: None,
        arguments: vec![X],
        carried: 0,
        outputs: vec![20],
        report_every: 0,
        stream_reports: false,
        while_result: None,
    }
}

impl Driver {
    pub(super) fn run_loop(&mut self, request: LoopRequest) -> Result<LoopInfo, Error> {
        match self.apply(Kind::RunLoop(request))? {
            Answer::Looped(info) => Ok(info),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn begin(&mut self, request: LoopRequest) -> Box<Working> {
        self.sequence += 1;
        let kind = Kind::RunLoop(request);
        let command = Command { kind, tag: "".into(), scope: 0, source: None };
        match self.session.begin(self.sequence, command) {
            Progress::Working(working) => working,
            Progress::Done(outcome) => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn a_loop_is_its_calls() {
    let show: Show = |w, x| vec![w.step(x)];
    for optimizer in 0..optimizers().len() {
        let mut driver = furnished(optimizer);
        driver.define(FUNCTION, show).unwrap();
        driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 1.0) }).unwrap();
        let info = driver.run_loop(LoopRequest { report_every: 2, ..request(7) }).unwrap();
        assert_eq!((info.steps, info.stopped), (7, false));
        let mut single = furnished(optimizer);
        single.define(FUNCTION, show).unwrap();
        single.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 1.0) }).unwrap();
        let mut reports = Vec::new();
        for step in 1..=7 {
            single.call_defined(X, &[20 + step]).unwrap();
            if step % 2 == 0 {
                let value = f64::from(single.values(20 + step)[0]);
                reports.push((step.cast_signed(), vec![value]));
            }
        }
        let found: Vec<_> =
            info.reports.into_iter().map(|report| (report.step, report.values)).collect();
        assert_eq!(found, reports);
        assert_eq!(driver.bits(20), single.bits(27));
        assert_eq!(driver.state(), single.state());
    }
}

/// Loops that run in place, with an idea each: what is carried and what is a result.
const RESIDENT: &[(&str, Show)] = &[
    ("sums and a variable", |w, x| {
        let loss = w.loss(x);
        let shrunk = w.op("multiply", &[B, loss], &[]);
        w.tell(Kind::Assign { variable: B, value: shrunk, mode: AssignMode::Subtract });
        vec![loss]
    }),
    ("a variable as it was", |w, _| {
        let before = w.op("identity", &[B], &[]);
        let twice = w.op("add", &[B, B], &[]);
        w.tell(Kind::Assign { variable: B, value: twice, mode: AssignMode::Replace });
        vec![before]
    }),
    ("a variable as it becomes", |w, _| {
        let twice = w.op("add", &[B, B], &[]);
        w.tell(Kind::Assign { variable: B, value: twice, mode: AssignMode::Replace });
        vec![w.op("tanh", &[twice], &[])]
    }),
    ("what was read is read again", |w, _| {
        let twice = w.op("add", &[B, B], &[]);
        w.tell(Kind::Assign { variable: B, value: twice, mode: AssignMode::Add });
        let sum = w.op("reduce_sum", &[twice], &[]);
        let scaled = w.op("multiply", &[B, sum], &[]);
        w.tell(Kind::Assign { variable: B, value: scaled, mode: AssignMode::Replace });
        vec![sum]
    }),
    ("what is the same in each step", |w, x| {
        let curved = w.op("exp", &[x], &[]);
        let row = w.op("reduce_mean", &[curved], &[("axis", Attr::Ints(smallvec![0]))]);
        let gate = w.op("sigmoid", &[row], &[]);
        let columns = w.op("reduce_sum", &[row], &[]);
        let scaled = w.op("multiply", &[B, columns], &[]);
        w.tell(Kind::Assign { variable: B, value: scaled, mode: AssignMode::Subtract });
        vec![gate]
    }),
];

#[test]
fn what_stays_in_place_is_what_calls_leave() {
    for &(name, show) in RESIDENT {
        let mut driver = furnished(0);
        driver.define(FUNCTION, show).unwrap();
        driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 1.0) }).unwrap();
        driver.run_loop(request(7)).unwrap();
        let mut single = furnished(0);
        single.define(FUNCTION, show).unwrap();
        single.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 1.0) }).unwrap();
        for step in 1..=7 {
            single.call_defined(X, &[20 + step]).unwrap();
        }
        assert_eq!(driver.bits(20), single.bits(27), "{name}");
        assert_eq!(driver.state(), single.state(), "{name}");
    }
}

/// The variable's new value is computed before what fails.
#[test]
fn a_step_in_place_that_fails_leaves_those_before_it() {
    let show: Show = |w, x| {
        let twice = w.op("add", &[B, B], &[]);
        w.tell(Kind::Assign { variable: B, value: twice, mode: AssignMode::Replace });
        let integers = w.op("cast", &[x], &[("dtype", Attr::DType(DType::I32))]);
        vec![w.op("floordiv", &[integers, integers], &[])]
    };
    let mut driver = furnished(0);
    driver.define(FUNCTION, show).unwrap();
    let mut examples = vec![2.0_f32; 24];
    examples[12] = 0.0;
    let array = Array::new(&[8, 3].into(), examples).unwrap();
    driver.apply(Kind::Constant { output: X, value: Tensor::unpaid(array) }).unwrap();
    let (datasets, arguments) = (vec![X], vec![]);
    let batched = LoopRequest { datasets, batch_size: 2, arguments, ..request(4) };
    let error = driver.run_loop(batched).unwrap_err();
    assert!(matches!(error, Error::LoopStep { step: 3, .. }), "{error}");
    let mut single = furnished(0);
    single.define(FUNCTION, show).unwrap();
    let array = Array::new(&[2, 3].into(), vec![2.0_f32; 6]).unwrap();
    single.apply(Kind::Constant { output: X, value: Tensor::unpaid(array) }).unwrap();
    single.call_defined(X, &[20]).unwrap();
    single.call_defined(X, &[21]).unwrap();
    assert_eq!(driver.state(), single.state());
}

#[test]
fn every_example_comes_once_an_epoch_and_each_epoch_is_another_order() {
    let mut driver = Driver::new(1 << 30);
    let examples: Vec<f32> = (0..10_u8).map(f32::from).collect();
    driver.constant(X, &examples);
    driver.constant(W, &[0.0; 40]);
    let (initial, name) = (W, "seen".into());
    driver.apply(Kind::CreateVariable { variable: B, name, initial, trainable: false }).unwrap();
    // A batch pushes what was seen before out of the variable.
    let specs = Ok(vec![Aval::new(DType::F32, [5])]);
    let (function, parameters) = (FUNCTION, vec![PARAMETER]);
    driver.apply(Kind::DefineFunction(FunctionDefinition { function, parameters, specs })).unwrap();
    let mut writer = Writer { driver: &mut driver, next: FIRST };
    let shape =
        |begin: i64| [("begin", Attr::Ints(smallvec![begin])), ("size", Attr::Ints(smallvec![35]))];
    let rest = writer.op("slice", &[B], &shape(5));
    let all = writer.op("concat", &[rest, PARAMETER], &[("axis", Attr::Int(0))]);
    writer.tell(Kind::Assign { variable: B, value: all, mode: AssignMode::Replace });
    let results = vec![PARAMETER];
    writer.tell(Kind::FinishFunction { function: FUNCTION, results, abandon: false });
    let seen = |driver: &mut Driver, seed| {
        let datasets = vec![X];
        let shuffled = LoopRequest {
            datasets,
            batch_size: 5,
            shuffle_seed: seed,
            arguments: vec![],
            ..request(8)
        };
        driver.run_loop(shuffled).unwrap();
        driver.apply(Kind::Release { handles: vec![20] }).unwrap();
        driver.session.peek(B).unwrap().array().elements::<f32>().unwrap().to_vec()
    };
    let orders = seen(&mut driver, Some(3));
    let mut epochs: Vec<&[f32]> = orders.chunks(10).collect();
    for epoch in &epochs {
        let mut sorted = epoch.to_vec();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted, examples);
        assert_ne!(*epoch, examples);
    }
    epochs.sort_by(|one, other| one.partial_cmp(other).unwrap());
    epochs.dedup();
    assert_eq!(epochs.len(), 4);
    assert_eq!(seen(&mut driver, Some(3)), orders, "the same seed gives the same order");
    assert_ne!(seen(&mut driver, Some(4)), orders);
    assert_eq!(seen(&mut driver, None), examples.repeat(4));
}

#[test]
fn a_step_that_fails_leaves_those_before_it() {
    let mut driver = furnished(1);
    driver.define(FUNCTION, FAILING).unwrap();
    // The third batch has a zero.
    let mut examples = vec![2.0_f32; 24];
    examples[12] = 0.0;
    let array = Array::new(&[8, 3].into(), examples).unwrap();
    driver.apply(Kind::Constant { output: X, value: Tensor::unpaid(array) }).unwrap();
    let batched = LoopRequest {
        datasets: vec![X],
        batch_size: 2,
        arguments: vec![],
        outputs: vec![20, 21],
        ..request(4)
    };
    let error = driver.run_loop(batched).unwrap_err();
    let Error::LoopStep { step: 3, error } = error else { panic!("{error}") };
    assert!(matches!(*error, Error::DivisionByZero { .. }), "{error}");
    let mut single = furnished(1);
    single.define(FUNCTION, FAILING).unwrap();
    let array = Array::new(&[2, 3].into(), vec![2.0_f32; 6]).unwrap();
    single.apply(Kind::Constant { output: X, value: Tensor::unpaid(array) }).unwrap();
    single.call_defined(X, &[20, 21]).unwrap();
    single.call_defined(X, &[22, 23]).unwrap();
    assert_eq!(driver.state(), single.state());
}

#[test]
fn a_loop_carries_results_on_and_stops_when_it_is_told() {
    let ledger = Ledger::new("test", 1 << 30);
    let mut driver = Driver { session: Session::new(Arc::clone(&ledger)), ledger, sequence: 0 };
    driver.constant(X, &[1.0]);
    let (function, parameters) = (FUNCTION, vec![PARAMETER]);
    let specs = Ok(vec![Aval::new(DType::F32, [1])]);
    driver.apply(Kind::DefineFunction(FunctionDefinition { function, parameters, specs })).unwrap();
    let mut writer = Writer { driver: &mut driver, next: FIRST };
    let twice = writer.op("add", &[PARAMETER, PARAMETER], &[]);
    let results = vec![twice];
    writer.tell(Kind::FinishFunction { function: FUNCTION, results, abandon: false });
    let begin = |driver: &mut Driver, output| {
        // As many steps as come before the next report may be done at once.
        let (carried, report_every, outputs) = (1, 6, vec![output]);
        driver.begin(LoopRequest { carried, outputs, report_every, ..request(100) })
    };
    let mut working = begin(&mut driver, 20);
    assert!(driver.session.proceed(&mut working).is_none());
    working.stop();
    let outcome = driver.session.proceed(&mut working).unwrap();
    let Ok(Answer::Looped(info)) = outcome.result else { panic!("{outcome:?}") };
    assert_eq!((info.steps, info.stopped), (6, true));
    assert_eq!(driver.values(20), [64.0]);

    let mut working = begin(&mut driver, 21);
    working.stop();
    let outcome = driver.session.proceed(&mut working).unwrap();
    assert_eq!(outcome.result.unwrap_err().error, Error::Cancelled);
    let error = driver.apply(Kind::Fetch { value: 21 }).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
}
