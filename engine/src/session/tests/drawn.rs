//! Loops whose steps draw random numbers draw what calls draw one by one, and leave generators where those do.

use std::slice::from_ref;

use smallvec::smallvec;

use super::{
    Driver,
    defined::{
        B, FIRST, FUNCTION, GENERATOR, NOISE, Show, Writer, X, furnished, optimizers, tensor,
    },
    looping::request,
};
use crate::{
    array::{Array, Tensor},
    attrs::Attr,
    command::{Answer, AssignMode, Handle, Kind, LoopRequest},
    dtype::DType,
    error::Error,
    snapshot::RestoreRequest,
};

fn shape() -> (&'static str, Attr) {
    ("shape", Attr::Ints(smallvec![2, 3]))
}

/// A step on what dropout leaves of its examples and noise makes of that, by numbers of two generators.
pub(super) const DRAWING: Show = |w, x| {
    let (first, second, third) = (w.draw(GENERATOR, 6), w.draw(NOISE, 6), w.draw(GENERATOR, 2));
    let chances = w.op("sigmoid", &[x], &[]);
    let kept = w.op("random_bernoulli", &[first, chances], &[]);
    let kept = w.op("cast", &[kept], &[("dtype", Attr::DType(DType::F32))]);
    let noise = w.op("random_normal", &[second], &[shape()]);
    let dropped = w.op("multiply", &[x, kept], &[]);
    let noisy = w.op("add", &[dropped, noise], &[]);
    let rows = w.op("random_permutation", &[third], &[("n", Attr::Int(2))]);
    let shuffled = w.op("gather", &[noisy, rows], &[]);
    vec![w.step(shuffled), shuffled]
};

/// The one whose steps may take so long that each has a turn of its own.
const SLOW: &str = "gamma and Poisson variables";

/// Loops, with an idea each: what is drawn, and what becomes of it.
const BODIES: &[(&str, Show)] = &[
    ("a step", DRAWING),
    ("numbers and choices", |w, x| {
        let mut results = Vec::new();
        for name in ["random_uniform", "random_normal"] {
            for dtype in [DType::F32, DType::F64, DType::F16] {
                let state = w.draw(GENERATOR, 6);
                let attrs = [shape(), ("dtype", Attr::DType(dtype))];
                results.push(w.op(name, &[state], &attrs));
            }
        }
        let chances = w.op("sigmoid", &[x], &[]);
        let state = w.draw(NOISE, 6);
        results.push(w.op("random_bernoulli", &[state, chances], &[]));
        let state = w.draw(GENERATOR, 8);
        results.push(w.op("random_categorical", &[state, x], &[("num_samples", Attr::Int(4))]));
        let state = w.draw(GENERATOR, 5);
        results.push(w.op("random_permutation", &[state], &[("n", Attr::Int(5))]));
        results
    }),
    (SLOW, |w, x| {
        let positive = w.op("exp", &[x], &[]);
        let (first, second) = (w.draw(GENERATOR, 6), w.draw(NOISE, 6));
        let gamma = w.op("random_gamma", &[first, positive], &[]);
        vec![gamma, w.op("random_poisson", &[second, positive], &[])]
    }),
    ("a variable takes a walk", |w, _| {
        let state = w.draw(GENERATOR, 2);
        let noise = w.op("random_normal", &[state], &[("shape", Attr::Ints(smallvec![2]))]);
        w.tell(Kind::Assign { variable: B, value: noise, mode: AssignMode::Add });
        vec![w.op("tanh", &[B], &[])]
    }),
    ("states are results", |w, _| vec![w.draw(GENERATOR, 3), w.draw(NOISE, 1)]),
    ("numbers that nobody reads", |w, x| {
        let state = w.draw(GENERATOR, 6);
        w.op("random_uniform", &[state], &[shape()]);
        vec![w.op("exp", &[x], &[])]
    }),
    ("one state twice", |w, _| {
        let state = w.draw(NOISE, 6);
        let uniform = w.op("random_uniform", &[state], &[shape()]);
        let normal = w.op("random_normal", &[state], &[shape()]);
        vec![w.op("multiply", &[uniform, normal], &[])]
    }),
    ("numbers that stay beside numbers that change", |w, _| {
        let seed = w.fresh();
        let array = Array::new(&[2].into(), vec![3_i64, 8]).unwrap();
        w.tell(Kind::Constant { output: seed, value: Tensor::unpaid(array) });
        let same = w.op("random_uniform", &[seed], &[shape()]);
        let state = w.draw(GENERATOR, 6);
        let other = w.op("random_uniform", &[state], &[shape()]);
        vec![w.op("subtract", &[same, other], &[]), same]
    }),
    ("more numbers than registers hold", |w, _| {
        let state = w.draw(GENERATOR, 1200);
        let shape = ("shape", Attr::Ints(smallvec![12, 100]));
        let numbers = w.op("random_uniform", &[state], from_ref(&shape));
        let mean = w.op("reduce_mean", &[numbers], &[]);
        vec![numbers, mean]
    }),
    ("numbers of a function that is called twice", |w, x| {
        let noise = w.within(|w, x| {
            let state = w.draw(GENERATOR, 6);
            let noise = w.op("random_normal", &[state], &[shape()]);
            vec![w.op("add", &[x, noise], &[])]
        });
        let first = w.call(noise, x);
        let state = w.draw(GENERATOR, 6);
        let between = w.op("random_uniform", &[state], &[shape()]);
        let second = w.call(noise, first);
        vec![between, second]
    }),
];

/// A session with a batch, and a function if a body is to be one.
fn with_body(optimizer: usize, show: Option<Show>) -> Driver {
    let mut driver = furnished(optimizer);
    if let Some(show) = show {
        driver.define(FUNCTION, show).unwrap();
    }
    driver.apply(Kind::Constant { output: X, value: tensor(&[2, 3], 1.0) }).unwrap();
    driver
}

fn results(driver: &Driver) -> Vec<Handle> {
    (20..).take(driver.count_results()).collect()
}

#[test]
fn a_loop_that_draws_is_its_calls_and_their_commands() {
    for &(name, show) in BODIES {
        let mut driver = with_body(0, Some(show));
        let outputs = results(&driver);
        let handles = outputs.clone();
        driver.run_loop(LoopRequest { outputs, report_every: 3, ..request(7) }).unwrap();
        let looped: Vec<_> = handles.iter().map(|&result| driver.bits(result)).collect();
        let mut called = with_body(0, Some(show));
        let mut eager = with_body(0, None);
        let mut last = Vec::new();
        for step in 1..=7 {
            if step > 1 {
                called.apply(Kind::Release { handles: handles.clone() }).unwrap();
            }
            called.call_defined(X, &handles).unwrap();
            last = show(&mut Writer { driver: &mut eager, next: 10 * FIRST * step }, X);
        }
        let called_last: Vec<_> = handles.iter().map(|&result| called.bits(result)).collect();
        let eager_last: Vec<_> = last.iter().map(|&result| eager.bits(result)).collect();
        assert_eq!(looped, called_last, "{name}");
        assert_eq!(looped, eager_last, "{name}");
        let state = driver.state();
        assert_eq!(state, called.state(), "{name}");
        assert_eq!(state, eager.state(), "{name}");
    }
}

#[test]
fn steps_that_draw_are_done_many_at_a_time() {
    for &(name, show) in BODIES.iter().filter(|(name, _)| *name != SLOW) {
        let mut driver = with_body(0, Some(show));
        let outputs = results(&driver);
        let mut working = driver.begin(LoopRequest { outputs, ..request(6) });
        let mut turns = 1;
        while driver.session.proceed(&mut working).is_none() {
            turns += 1;
        }
        // The first step of an optimizer is a call.
        assert!(turns <= 2, "{name} takes {turns} turns");
    }
}

/// The walk of a variable goes on while a number is small, and carries what it has seen.
#[test]
fn a_loop_ends_by_chance_where_its_calls_do() {
    let show: Show = |w, x| {
        let state = w.draw(GENERATOR, 6);
        let numbers = w.op("random_uniform", &[state], &[shape()]);
        let sum = w.op("add", &[x, numbers], &[]);
        let largest = w.op("reduce_max", &[numbers], &[]);
        let limit =
            w.op("full", &[], &[("shape", Attr::Ints(smallvec![])), ("value", Attr::Double(0.99))]);
        vec![sum, w.op("less", &[largest, limit], &[])]
    };
    let mut driver = with_body(0, Some(show));
    let mut single = with_body(0, Some(show));
    let (carried, while_result) = (1, Some(1));
    let request = LoopRequest { carried, while_result, outputs: vec![20, 21], ..request(1000) };
    let info = driver.run_loop(request).unwrap();
    let (mut steps, mut x, mut goes_on) = (0, X, true);
    while goes_on {
        let outputs = [FIRST + 2 * steps, FIRST + 2 * steps + 1];
        single.call_defined(x, &outputs).unwrap();
        goes_on = single.bits(outputs[1]).1 == [1];
        (x, steps) = (outputs[0], steps + 1);
    }
    assert!((2..1000).contains(&steps), "{steps} steps show nothing");
    assert_eq!(info.steps, steps.cast_signed());
    assert_eq!(driver.bits(20), single.bits(x));
    assert_eq!(driver.state(), single.state());
}

/// Batches of two, in another order in each epoch.
fn shuffled(steps: i64) -> LoopRequest {
    LoopRequest {
        datasets: vec![X],
        batch_size: 2,
        shuffle_seed: Some(3),
        arguments: vec![],
        outputs: vec![20, 21],
        ..request(steps)
    }
}

fn with_examples(optimizer: usize, show: Show) -> Driver {
    let mut driver = furnished(optimizer);
    driver.define(FUNCTION, show).unwrap();
    driver.apply(Kind::Constant { output: X, value: tensor(&[8, 3], 0.3) }).unwrap();
    driver
}

/// Wherever the steps of different kinds that some optimizers take change.
#[test]
fn a_loop_that_is_stopped_leaves_and_gives_what_its_last_step_does() {
    let numbers: Show = |w, x| {
        let before = w.number("iterations");
        w.step(x);
        vec![before, w.number("learning_rate")]
    };
    for optimizer in 0..optimizers().len() {
        for show in [DRAWING, numbers] {
            for least in 3..=6 {
                let mut driver = with_examples(optimizer, show);
                let mut working = driver.begin(LoopRequest { report_every: 10, ..shuffled(400) });
                while working.done() < least {
                    assert!(driver.session.proceed(&mut working).is_none());
                }
                let done = working.done();
                working.stop();
                let outcome = driver.session.proceed(&mut working).unwrap();
                let Ok(Answer::Looped(info)) = outcome.result else { panic!("{outcome:?}") };
                assert_eq!((info.steps, info.stopped), (done, true));
                let mut whole = with_examples(optimizer, show);
                whole.run_loop(shuffled(done)).unwrap();
                let recipe = &optimizers()[optimizer];
                for result in [20, 21] {
                    assert_eq!(driver.bits(result), whole.bits(result), "{done} of {recipe:?}");
                }
                assert_eq!(driver.state(), whole.state(), "{done} of {recipe:?}");
            }
        }
    }
}

/// Another session goes on from a snapshot between two loops.
#[test]
fn a_loop_that_draws_goes_on_from_a_snapshot() {
    for optimizer in 0..optimizers().len() {
        let mut driver = with_examples(optimizer, DRAWING);
        driver.run_loop(shuffled(8)).unwrap();
        let snapshot = driver.session.snapshot(&[]).unwrap();
        let mut other = with_examples(optimizer, DRAWING);
        // It has been elsewhere.
        other.run_loop(shuffled(3)).unwrap();
        other
            .apply(Kind::Restore(Box::new(RestoreRequest {
                snapshot,
                entries: vec![],
                weights_only: false,
                partial: false,
            })))
            .unwrap();
        for driver in [&mut driver, &mut other] {
            driver.apply(Kind::Release { handles: vec![20, 21] }).unwrap();
            driver.run_loop(shuffled(4)).unwrap();
        }
        assert_eq!(driver.bits(21), other.bits(21), "{:?}", optimizers()[optimizer]);
        assert_eq!(driver.state(), other.state(), "{:?}", optimizers()[optimizer]);
    }
}

#[test]
fn a_generator_that_is_gone_ends_no_loop_but_refuses_the_next() {
    let mut driver = with_examples(0, DRAWING);
    driver.run_loop(shuffled(3)).unwrap();
    driver.apply(Kind::Release { handles: vec![NOISE, 20, 21] }).unwrap();
    let error = driver.run_loop(shuffled(3)).unwrap_err();
    assert!(matches!(&error, Error::LoopStep { step: 1, .. }), "{error}");
}
