//! Steps of optimizers in loops are what they are one by one, and are done many at a time.

use super::{
    Driver,
    defined::{
        FAILING, FIRST, FUNCTION, OPTIMIZER, Show, Writer, X, furnished, optimizers, tensor,
    },
    drawn::DRAWING,
    looping::request,
};
use crate::{
    array::{Array, Tensor},
    attrs::Attr,
    command::{Answer, Handle, Kind, LoopRequest},
    dtype::DType,
    error::Error,
    optimizers::Given,
};

/// Bodies of loops.
const BODIES: &[(&str, Show)] = &[
    ("a step", |w, x| vec![w.step(x)]),
    ("two steps", |w, x| {
        let first = w.step(x);
        vec![w.step(x), first]
    }),
    ("numbers of the optimizer", |w, x| {
        let before = w.number("iterations");
        w.step(x);
        vec![before, w.number("learning_rate")]
    }),
    ("a step that draws", DRAWING),
];

/// A session whose data is eight examples.
fn with_examples(optimizer: usize) -> Driver {
    let mut driver = furnished(optimizer);
    driver.apply(Kind::Constant { output: X, value: tensor(&[8, 3], 0.3) }).unwrap();
    driver
}

fn set(driver: &mut Driver, hyperparameters: Given) -> Result<Answer, Error> {
    driver.apply(Kind::SetOptimizer { optimizer: OPTIMIZER, hyperparameters, schedule: None })
}

/// What is changed between loops: numbers of the step, and what it is. Where a schedule is, the first is refused.
fn changes() -> Vec<Given> {
    let given = |name: &str, value: f64| vec![(name.to_owned(), Attr::Double(value))];
    vec![
        vec![],
        given("learning_rate", 0.05),
        given("weight_decay", 0.2),
        given("weight_decay", 0.3),
    ]
}

/// Takes steps with batches of two, by loops or one by one, and gives all that is left after each lot.
fn train(
    optimizer: usize,
    show: Show,
    steps: i64,
    looped: bool,
) -> Vec<impl PartialEq + std::fmt::Debug> {
    let mut driver = with_examples(optimizer);
    if looped {
        driver.define(FUNCTION, show).unwrap();
    }
    let mut next = 10 * FIRST;
    let mut left = Vec::new();
    for change in changes() {
        let refused = set(&mut driver, change).is_err();
        let count = if looped {
            let (datasets, outputs, arguments) = (vec![X], vec![20, 21], vec![]);
            let outputs = outputs[..driver.count_results()].to_vec();
            let handles = outputs.clone();
            let batched =
                LoopRequest { datasets, batch_size: 2, arguments, outputs, ..request(steps) };
            let info = driver.run_loop(batched).unwrap();
            left.extend(handles.iter().map(|&handle| driver.bits(handle)));
            driver.apply(Kind::Release { handles }).unwrap();
            info.steps
        } else {
            let mut results = Vec::new();
            for step in 0..steps {
                let mut writer = Writer { driver: &mut driver, next };
                let begin = Attr::Ints([step % 4 * 2, 0].as_slice().into());
                let size = Attr::Ints([2, 3].as_slice().into());
                let batch = writer.op("slice", &[X], &[("begin", begin), ("size", size)]);
                results = show(&mut writer, batch);
                next += FIRST;
            }
            left.extend(results.iter().map(|&result| driver.bits(result)));
            steps
        };
        assert_eq!((count, refused), (steps, refused));
        left.extend(driver.state());
    }
    if optimizers()[optimizer].1.iter().any(|(name, _)| name == "dynamic_loss_scale") {
        assert!(driver.loss_scale() < 3e38, "no step was skipped");
    }
    left
}

#[test]
fn a_loop_of_steps_leaves_what_they_leave_one_by_one() {
    for optimizer in 0..optimizers().len() {
        for &(name, show) in BODIES {
            let (looped, eager) =
                (train(optimizer, show, 7, true), train(optimizer, show, 7, false));
            assert_eq!(looped, eager, "{name} with {:?}", optimizers()[optimizer]);
        }
    }
}

#[test]
fn steps_of_optimizers_are_done_many_at_a_time_and_can_be_stopped() {
    let shows = [BODIES[0].1, DRAWING];
    for (optimizer, show) in (0..optimizers().len()).flat_map(|i| shows.map(|show| (i, show))) {
        let mut driver = with_examples(optimizer);
        driver.define(FUNCTION, show).unwrap();
        let results: Vec<Handle> = (20..).take(driver.count_results()).collect();
        let batched = || LoopRequest {
            datasets: vec![X],
            batch_size: 2,
            arguments: vec![],
            outputs: results.clone(),
            report_every: 400,
            ..request(2000)
        };
        let mut working = driver.begin(batched());
        let mut turns = 0;
        // Steps of two kinds take turns, and one that is skipped ends a turn.
        let changing =
            ["gradient_accumulation_steps", "dynamic_loss_scale", "ema_overwrite_frequency"];
        let (name, given, _) = optimizers().swap_remove(optimizer);
        let alternates = given.iter().any(|(name, _)| changing.contains(&name.as_str()));
        while working.done() < 500 {
            assert!(driver.session.proceed(&mut working).is_none());
            turns += 1;
        }
        let done = working.done();
        assert!(turns <= if alternates { done } else { 9 }, "{name} {given:?} takes {turns} turns");
        working.stop();
        let outcome = driver.session.proceed(&mut working).unwrap();
        let Ok(Answer::Looped(info)) = outcome.result else { panic!("{outcome:?}") };
        assert_eq!((info.steps, info.stopped), (done, true));
        let mut again = with_examples(optimizer);
        again.define(FUNCTION, show).unwrap();
        // As a log tells of it.
        let mut working = again.begin(batched());
        working.end_after(done, None);
        while again.session.proceed(&mut working).is_none() {}
        assert_eq!(driver.state(), again.state(), "{:?}", optimizers()[optimizer]);
    }
}

#[test]
fn a_step_of_an_optimizer_that_fails_leaves_those_before_it() {
    let failing: Show = |w, x| {
        let loss = w.step(x);
        let integers = w.op("cast", &[x], &[("dtype", Attr::DType(DType::I32))]);
        vec![loss, w.op("floordiv", &[integers, integers], &[])]
    };
    let drawing: Show = |w, x| {
        let mut results = DRAWING(w, x);
        results.truncate(1);
        let integers = w.op("cast", &[x], &[("dtype", Attr::DType(DType::I32))]);
        results.push(w.op("floordiv", &[integers, integers], &[]));
        results
    };
    for optimizer in 0..optimizers().len() {
        for show in [failing, FAILING, drawing] {
            let run = |steps| {
                let mut driver = furnished(optimizer);
                driver.define(FUNCTION, show).unwrap();
                // The seventh batch has a zero.
                let mut examples = vec![2.0_f32; 48];
                examples[36] = 0.0;
                let array = Array::new(&[16, 3].into(), examples).unwrap();
                driver.apply(Kind::Constant { output: X, value: Tensor::unpaid(array) }).unwrap();
                let (datasets, outputs, arguments) = (vec![X], vec![20, 21], vec![]);
                let batched =
                    LoopRequest { datasets, batch_size: 2, arguments, outputs, ..request(steps) };
                let result = driver.run_loop(batched);
                (result, driver.state())
            };
            let (failed, left) = run(8);
            let Err(Error::LoopStep { step: 7, .. }) = failed else { panic!("{failed:?}") };
            let (done, expected) = run(6);
            assert_eq!(done.unwrap().steps, 6);
            assert_eq!(left, expected, "{:?}", optimizers()[optimizer]);
        }
    }
}
