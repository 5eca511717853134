//! The tutorial's numbers, through the client and a real server.

use gradtape_client::{AbsentReason, GradientKind, Optimizer};
use gradtape_tests::Server;

#[tokio::test]
async fn a_persistent_tape_answers_twice() {
    let server = Server::start().await;
    let session = server.session().await;
    let (x, y) = (session.constant(2.0f32), session.constant(3.0f32));
    let tape = session.persistent_tape();
    tape.watch([&x, &y]);
    let z = &x * &y;
    assert_eq!(tape.derivative(&z, &x).scalar::<f32>().await.unwrap(), 3.0);
    assert_eq!(tape.derivative(&z, &y).scalar::<f32>().await.unwrap(), 2.0);
}

#[tokio::test]
async fn a_thousand_steps_give_tensorflows_bits() {
    let server = Server::start().await;
    let session = server.session().await;
    let w = session.variable("w", 0.1f32);
    let b = session.variable("b", 0.1f32);
    let x = session.constant([0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let y = session.constant([-1.0f32, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0]);
    for _ in 0..1000 {
        let tape = session.persistent_tape();
        let loss = (&y - (&w * &x + &b)).abs();
        let dw = tape.derivative(&loss, &w);
        let db = tape.derivative(&loss, &b);
        w.assign_sub(dw * 0.001);
        b.assign_sub(db * 0.001);
    }
    let w: f64 = w.scalar::<f32>().await.unwrap().into();
    let b: f64 = b.scalar::<f32>().await.unwrap().into();
    // What TensorFlow 2.21 prints on a CPU.
    assert_eq!((w, b), (2.008_003_473_281_860_4, -0.991_999_387_741_088_9));
    session.close().await.unwrap();
}

#[tokio::test]
async fn one_gradient_serves_all_variables_of_a_model() {
    let server = Server::start().await;
    let session = server.session().await;
    let w = session.variable("w", [[1.0f32], [1.0]]);
    let b = session.variable("b", [0.0f32]);
    let x = session.constant([[1.0f32, 2.0], [3.0, 4.0]]);
    let optimizer = Optimizer::sgd(&session).learning_rate(0.5).create();
    let tape = session.tape();
    let loss = (x.matmul(&w) + &b).reduce_sum();
    let gradients = tape.gradient([&loss], [&w, &b]);
    assert_eq!(optimizer.apply(gradients.iter().zip([&w, &b])).await.unwrap(), 1);
    // The sum of the columns of x is (4, 6), and b is added twice.
    assert_eq!(gradients[0].value::<f32>().await.unwrap(), [4.0, 6.0]);
    assert_eq!(w.value::<f32>().await.unwrap(), [-1.0, -2.0]);
    assert_eq!(b.value::<f32>().await.unwrap(), [-1.0]);
}

#[tokio::test]
async fn nested_tapes_differentiate_twice() {
    let server = Server::start().await;
    let session = server.session().await;
    let x = session.constant(2.0f32);
    let outer = session.tape();
    outer.watch([&x]);
    let inner = session.tape();
    inner.watch([&x]);
    let y = x.pow(3.0);
    let first = inner.derivative(&y, &x);
    let second = outer.derivative(&first, &x);
    assert_eq!(first.scalar::<f32>().await.unwrap(), 12.0);
    assert_eq!(second.scalar::<f32>().await.unwrap(), 12.0);
}

#[tokio::test]
async fn an_absent_gradient_says_why() {
    let server = Server::start().await;
    let session = server.session().await;
    let (x, y) = (session.constant(2.0f32), session.constant(3.0f32));
    let tape = session.tape();
    tape.watch([&x]);
    let z = x.square();
    let gradients = tape.gradient([&z], [&x, &y]);
    assert!(gradients[0].is_present().await.unwrap());
    let absent = gradients[1].kind().await.unwrap();
    assert_eq!(absent, GradientKind::Absent(AbsentReason::NotWatched));
    let error = gradients[1].scalar::<f32>().await.unwrap_err();
    assert_eq!(error.reason(), Some("GRADIENT_ABSENT"));
}

#[tokio::test]
async fn large_tensors_go_in_chunks() {
    let server = Server::start().await;
    let session = server.session().await;
    // Five megabytes: more than one message may hold.
    let elements: Vec<i32> = (0..1_250_000).collect();
    let x = session.constant(&elements);
    let y = &x + 1;
    let values = y.value::<i32>().await.unwrap();
    assert!(values.iter().copied().eq(1..=1_250_000));
}

#[tokio::test]
async fn the_clients_idea_of_types_is_the_servers() {
    let server = Server::start().await;
    let session = server.session().await;
    let x = session.constant([[1.0f64, 2.0], [3.0, 4.0]]);
    let labels = session.constant([0i64, 1]);
    // Each expression ends with a plain number, which must take the type of what it stands beside.
    let sums = [
        (&x + 1.0).reduce_sum() + 1.0,
        x.greater(2.0).where_(&x, 0.0).reduce_sum() + 1.0,
        labels.sparse_softmax_cross_entropy_with_logits(&x).reduce_sum() * 0.0 + 15.0,
    ];
    for (sum, expected) in sums.iter().zip([15.0, 8.0, 15.0]) {
        assert_eq!(sum.scalar::<f64>().await.unwrap(), expected);
    }
    assert_eq!((x.argmax() + 1).value::<i64>().await.unwrap(), [2, 2]);
}
