//! Jacobians, forward mode and Hessian-vector products through the Rust client.

use gradtape_client::{GradientKind, Session, Tensor, Unconnected};
use gradtape_tests::Server;

/// The sum of the cubes of a vector.
fn cubes(v: &Tensor) -> Tensor {
    (v * v * v).reduce_sum()
}

async fn vectors(server: &Server) -> (Session, Tensor, Tensor) {
    let session = server.session().await;
    let (v, u) = (session.constant([1.0f32, 2.0]), session.constant([1.0f32, 0.0]));
    (session, v, u)
}

#[tokio::test]
async fn a_jacobian_by_two_sources() {
    let server = Server::start().await;
    let (session, v, u) = vectors(&server).await;
    let tape = session.tape();
    tape.watch([&v, &u]);
    let y = &v * &v;
    let found = tape.jacobian(&y, [&v, &u], Unconnected::Absent);
    assert_eq!(found[0].value::<f32>().await.unwrap(), [2.0, 0.0, 0.0, 4.0]);
    assert!(
        matches!(found[0].kind().await.unwrap(), GradientKind::Dense(spec) if spec.shape == [2, 2])
    );
    assert!(!found[1].is_present().await.unwrap());
}

#[tokio::test]
async fn a_batch_jacobian() {
    let server = Server::start().await;
    let session = server.session().await;
    let x = session.constant([[1.0f32, 2.0], [3.0, 4.0]]);
    let tape = session.tape();
    tape.watch([&x]);
    let y = &x * &x;
    let found = tape.batch_jacobian(&y, &x);
    assert_eq!(found.value::<f32>().await.unwrap(), [2.0, 0.0, 0.0, 4.0, 6.0, 0.0, 0.0, 8.0]);
}

#[tokio::test]
async fn hessian_vector_products_by_every_pair_of_modes() {
    let server = Server::start().await;
    let (session, v, u) = vectors(&server).await;

    let outer = session.accumulator([(&v, &u)]);
    let tape = session.tape();
    tape.watch([&v]);
    let gradient = tape.derivative(cubes(&v), &v);
    let forward_over_back = outer.tangent(&gradient);
    assert_eq!(forward_over_back.value::<f32>().await.unwrap(), [6.0, 0.0]);
    drop(outer);

    let tape = session.tape();
    tape.watch([&v]);
    let inner = session.accumulator([(&v, &u)]);
    let slope = inner.tangent(cubes(&v));
    let back_over_forward = tape.derivative(&slope, &v);
    assert_eq!(back_over_forward.value::<f32>().await.unwrap(), [6.0, 0.0]);

    inner.stop();
    let unseen = cubes(&v);
    assert!(!inner.tangent(&unseen).is_present().await.unwrap());
    let zeros = inner.tangents([&unseen], Unconnected::Zero).remove(0);
    assert_eq!(zeros.scalar::<f32>().await.unwrap(), 0.0);
    inner.resume();
    assert_eq!(inner.tangent(cubes(&v)).scalar::<f32>().await.unwrap(), 3.0);
}

#[tokio::test]
async fn a_full_hessian() {
    let server = Server::start().await;
    let (session, v, _) = vectors(&server).await;
    let outer = session.tape();
    outer.watch([&v]);
    let inner = session.tape();
    inner.watch([&v]);
    let gradient = inner.derivative(cubes(&v), &v);
    let hessian = outer.jacobian(&gradient, [&v], Unconnected::Absent).remove(0);
    assert_eq!(hessian.value::<f32>().await.unwrap(), [6.0, 0.0, 0.0, 12.0]);
}

#[tokio::test]
async fn a_gradient_of_ones_own() {
    let server = Server::start().await;
    let (session, v, _) = vectors(&server).await;
    let tape = session.tape();
    tape.watch([&v]);
    let forgotten = cubes(&v);
    let y = session
        .custom_gradient([&v], [&forgotten], |upstream| vec![Some(&v * &upstream[0])])
        .remove(0);
    assert_eq!(y.scalar::<f32>().await.unwrap(), 9.0);
    let explained = tape.explain(&y, &v).await.unwrap();
    assert_eq!(explained.path[0].op, "custom_gradient");
    assert!(explained.path[0].tag.contains("derivatives.rs"), "{explained}");
    assert_eq!(tape.derivative(&y, &v).value::<f32>().await.unwrap(), [1.0, 2.0]);
}

#[tokio::test]
async fn a_function_that_is_computed_again() {
    let server = Server::start().await;
    let (session, v, u) = vectors(&server).await;
    let tape = session.persistent_tape();
    tape.watch([&v]);
    let y = session.recomputed([&v], |placeholders| vec![cubes(&placeholders[0])]).remove(0);
    assert_eq!(tape.derivative(&y, &v).value::<f32>().await.unwrap(), [3.0, 12.0]);
    let explained = tape.explain(&y, &u).await.unwrap();
    assert_eq!(explained.reason, Some(gradtape_client::AbsentReason::NotWatched), "{explained}");
}
