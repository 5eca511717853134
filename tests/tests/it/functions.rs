//! Functions and loops through the client: the same bits, exactly once, stoppable, and fair.

use gradtape_client::{
    DType, Error, Function, Optimizer, Scan, Session, Spec, Tensor, TensorData, Variable,
    proto::{self, Command, command::Kind, reply::Result as Answer},
};
use gradtape_tests::{Server, proxy::Proxy, raw::Raw};

/// So many steps take far longer than a test has time, unless the loop is stopped.
const ENDLESS: i64 = 1 << 40;

fn scalar() -> Spec {
    Spec { dtype: DType::F32, shape: vec![] }
}

/// The tutorial's step as a function, with its two variables.
fn tutorial(session: &Session) -> (Function, Variable, Variable) {
    let w = session.variable("w", 0.1f32);
    let b = session.variable("b", 0.1f32);
    let x = session.constant([0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let y = session.constant([-1.0f32, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0]);
    let step = session.function([], |_| {
        let tape = session.persistent_tape();
        let loss = (&y - (&w * &x + &b)).abs();
        let dw = tape.derivative(&loss, &w);
        let db = tape.derivative(&loss, &b);
        w.assign_sub(dw * 0.001);
        b.assign_sub(db * 0.001);
        vec![loss.reduce_mean()]
    });
    (step, w, b)
}

/// What TensorFlow 2.21 prints on a CPU after a thousand steps.
const TENSORFLOWS: (f64, f64) = (2.008_003_473_281_860_4, -0.991_999_387_741_088_9);

async fn numbers(w: &Variable, b: &Variable) -> (f64, f64) {
    let w = w.scalar::<f32>().await.expect("a number");
    (w.into(), b.scalar::<f32>().await.expect("a number").into())
}

#[tokio::test]
async fn a_thousand_calls_give_tensorflows_bits() {
    let server = Server::start().await;
    let session = server.session().await;
    let (step, w, b) = tutorial(&session);
    for _ in 0..1000 {
        step.call::<&Tensor>([]);
    }
    assert_eq!(numbers(&w, &b).await, TENSORFLOWS);
    session.close().await.expect("nothing failed");
}

#[tokio::test]
async fn a_loop_of_a_thousand_steps_gives_tensorflows_bits() {
    let server = Server::start().await;
    let session = server.session().await;
    let (step, w, b) = tutorial(&session);
    let running = step.repeat(1000).report_every(250).start();
    let last = running.results()[0].clone();
    let outcome = running.await.expect("a loop");
    assert_eq!((outcome.steps, outcome.stopped), (1000, false));
    let steps: Vec<_> = outcome.reports.iter().map(|report| report.step).collect();
    assert_eq!(steps, [250, 500, 750, 1000]);
    let loss: f64 = last.scalar::<f32>().await.expect("a loss").into();
    assert_eq!(outcome.reports[3].values, [loss]);
    assert_eq!(numbers(&w, &b).await, TENSORFLOWS);
}

#[tokio::test]
async fn numbers_in_a_body_do_not_leak_out_of_it() {
    let server = Server::start().await;
    let session = server.session().await;
    let x = session.constant(3.0f32);
    let inside = session.function([scalar()], |p| vec![&p[0] * 7.0]);
    // The same number outside is another constant.
    let outside = &x * 7.0;
    let again = session.function([scalar()], |p| vec![&p[0] * 7.0 + &outside]);
    assert_eq!(inside.call([&x])[0].scalar::<f32>().await.expect("a number"), 21.0);
    assert_eq!(again.call([&x])[0].scalar::<f32>().await.expect("a number"), 42.0);
}

/// One compute thread, a loop without end in one session, and work in another.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_loop_reports_leaves_others_their_turn_and_stops() {
    let server = Server::start_with(|config| config.compute.threads = 1).await;
    let looping = server.session().await;
    let count = looping.variable("count", 0.0f32);
    let step = looping.function([], |_| {
        count.assign_add(looping.constant(1.0f32));
        vec![&count + 0.0]
    });
    let mut running = step.repeat(4_096_000).report_every(1000).start();
    let first = running.report().await.expect("a report");
    assert_eq!((first.step, first.values), (1000, vec![1000.0]));

    let other = server.session().await;
    let mut x = other.constant(0.0f32);
    for i in 1..=20_u8 {
        x = x + 1.0;
        assert_eq!(x.scalar::<f32>().await.expect("a number"), f32::from(i));
    }
    running.stop().await.expect("the wish is noted");
    let outcome = running.await.expect("a loop");
    assert!(outcome.stopped, "the loop ended before the other session's work");
    let counted: f64 = count.scalar::<f32>().await.expect("a number").into();
    assert_eq!(counted.to_string(), outcome.steps.to_string());
    let reports: Vec<_> = outcome.reports.iter().map(|report| report.step).collect();
    assert_eq!(reports, (1..=outcome.steps / 1000).map(|i| i * 1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_loop_that_was_stopped_before_it_began_fails() {
    let server = Server::start().await;
    let session = server.session().await;
    let step = session.function([], |_| vec![session.constant(1.0f32) + 0.0]);
    let (first, second) = (step.repeat(ENDLESS).start(), step.repeat(ENDLESS).start());
    // Both, since it is of the later one.
    second.stop().await.expect("the wish is noted");
    let ends = (first.await, second.await);
    let cancelled = |error: Error| error.failure().is_some_and(|one| one.reason == "CANCELLED");
    assert!(ends.0.map_or_else(cancelled, |outcome| outcome.stopped));
    assert!(ends.1.is_err_and(cancelled));
}

/// A loop is sent again by whoever lost its answer, and is not run again.
#[tokio::test]
async fn a_loop_that_is_sent_again_gets_its_stored_reply() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let kinds = [
        Kind::Constant(proto::Constant {
            output: 1,
            source: Some(proto::constant::Source::Tensor(TensorData::from(1.0f32).into())),
        }),
        Kind::CreateVariable(proto::CreateVariable {
            variable: 2,
            initial_value: 1,
            ..proto::CreateVariable::default()
        }),
        Kind::DefineFunction(proto::DefineFunction { function: 3, ..Default::default() }),
        Kind::AssignVariable(proto::AssignVariable {
            variable: 2,
            value: 1,
            mode: proto::AssignMode::Add.into(),
        }),
        Kind::FinishFunction(proto::FinishFunction {
            function: 3,
            results: vec![2],
            ..Default::default()
        }),
        Kind::RunLoop(proto::RunLoop {
            function: 3,
            steps: 5,
            outputs: vec![4],
            report_every: 2,
            ..Default::default()
        }),
        Kind::Fetch(proto::Fetch { value: 2 }),
    ];
    let commands: Vec<_> =
        kinds.into_iter().map(|kind| Command { kind: Some(kind), ..Command::default() }).collect();
    let first = raw.execute(1, commands.clone()).await.expect("an answer");
    let again = raw.execute(1, commands).await.expect("an answer");
    assert_eq!(first.replies, again.replies);
    let Some(Answer::Loop(reply)) = &first.replies[1].result else { panic!("{first:?}") };
    assert_eq!((reply.steps, reply.reports.len()), (5, 2));
    let Some(Answer::Tensor(tensor)) = first.replies[2].result.clone() else { panic!("{first:?}") };
    assert_eq!(
        TensorData::try_from(tensor).expect("a tensor").to_scalar::<f32>().expect("one"),
        6.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_whose_connection_is_cut_goes_on_and_is_not_run_twice() {
    let server = Server::start().await;
    for cut in [500, 5_000, 50_000] {
        let proxy = Proxy::start(server.address()).await.expect("a proxy");
        let session = Session::connect(proxy.url()).await.expect("a session");
        let count = session.variable("count", 0.0f32);
        let one = session.constant(1.0f32);
        let step = session.function([], |_| {
            count.assign_add(&one);
            vec![&count + 0.0]
        });
        session.sync().await.expect("a function");
        proxy.cut_after(cut);
        let outcome = step.repeat(40_960).report_every(10).start().await.expect("a loop");
        assert!(proxy.has_cut(), "nothing was cut after {cut} bytes");
        assert_eq!((outcome.steps, outcome.reports.len()), (40_960, 4_096));
        assert_eq!(count.scalar::<f32>().await.expect("a number"), 40_960.0);
    }
}

/// Shuffled batches of data that the session holds: no upload a step.
#[tokio::test]
async fn a_loop_trains_on_shuffled_batches() {
    let server = Server::start().await;
    let session = server.session().await;
    let generator = session.generator(11);
    let x = generator.normal([64, 3]);
    let truth = session.constant([[1.0f32], [-2.0], [0.5]]);
    let y = x.matmul(&truth);
    let w = session.variable("w", [[0.0f32], [0.0], [0.0]]);
    let optimizer = Optimizer::adam(&session).learning_rate(0.05).create();
    let spec = |shape: &[i64]| Spec { dtype: DType::F32, shape: shape.to_vec() };
    let step = session.function([spec(&[16, 3]), spec(&[16, 1])], |batch| {
        let tape = session.tape();
        let loss = (batch[0].matmul(&w) - &batch[1]).square().reduce_mean();
        let gradients = tape.gradient([&loss], [&w]);
        optimizer.apply(gradients.iter().zip([&w]));
        vec![loss]
    });
    let epochs = step.repeat(400).dataset(&x).dataset(&y).batch_size(16).shuffle(5);
    let outcome = epochs.report_every(100).start().await.expect("a loop");
    let losses: Vec<f64> = outcome.reports.iter().map(|report| report.values[0]).collect();
    assert!(losses[3] < 1e-3, "{losses:?}");
    let found = w.value::<f32>().await.expect("weights");
    let near = |(found, truth): (&f32, &f32)| (found - truth).abs() < 0.05;
    assert!(found.iter().zip(&[1.0, -2.0, 0.5]).all(near), "{found:?}");
}

/// The numbers of Collatz by a branch in a loop, in a function whose body defines what they run.
#[tokio::test]
async fn control_flow_nests_in_a_function() {
    let server = Server::start().await;
    let session = server.session().await;
    let steps = session.function([scalar()], |start| {
        let (zero, one) = (&start[0] * 0.0, &start[0] * 0.0 + 1.0);
        let goes_on = session.function([scalar(), scalar()], |s| vec![s[0].greater(&one)]);
        let step = session.function([scalar(), scalar()], |s| {
            let odd = &s[0] - (&s[0] * 0.5).floor() * 2.0;
            let up = session.function([scalar()], |n| vec![&n[0] * 3.0 + &one]);
            let half = session.function([scalar()], |n| vec![&n[0] * 0.5]);
            let next = session.cond(odd.greater(0.5), &up, &half, [&s[0]]).remove(0);
            vec![next, &s[1] + &one]
        });
        session.while_loop(&goes_on, &step, [&start[0], &zero], None)
    });
    for (start, expected) in [(1.0f32, 0.0), (6.0, 8.0), (27.0, 111.0)] {
        let count = steps.call([&session.constant(start)]).remove(1);
        assert_eq!(count.scalar::<f32>().await.expect("a number"), expected);
    }
    session.close().await.expect("nothing failed");
}

#[tokio::test]
async fn a_scan_has_a_gradient() {
    let server = Server::start().await;
    let session = server.session().await;
    let product = session.function([scalar(), scalar()], |s| {
        let next = &s[0] * &s[1];
        vec![next.clone(), next]
    });
    let (x, factors) = (session.constant(2.0f32), session.constant([1.0f32, 3.0, -2.0]));
    let tape = session.tape();
    tape.watch([&x, &factors]);
    let results = session.scan(&product, [&x], [&factors], Scan::over(3));
    let gradients = tape.gradient([&results[0]], [&x, &factors]);
    assert_eq!(results[1].value::<f32>().await.expect("products"), [2.0, 6.0, -12.0]);
    assert_eq!(gradients[0].scalar::<f32>().await.expect("a slope"), -6.0);
    assert_eq!(gradients[1].value::<f32>().await.expect("slopes"), [-12.0, -4.0, 6.0]);
}
