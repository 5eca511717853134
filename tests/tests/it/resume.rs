//! A training run survives the loss of its connection at any point, to the bit.

use gradtape_client::{Optimizer, Session};
use gradtape_tests::{Server, proxy::Proxy};

/// Steps of the run: enough for several batches and for Adam's state to matter.
const STEPS: usize = 40;

/// Points at which the connection is killed, by the issue.
const CUTS: usize = 200;

/// The seed of the points. A failure names the point, so one can be run alone.
const SEED: u64 = 2_026;

/// A small model's training; the bits of its final weights.
async fn train(session: &Session) -> Vec<u32> {
    let generator = session.generator(3);
    let x = generator.normal([16, 4]);
    let y = generator.normal([16, 2]);
    let w = session.variable("w", [[0.1f32, -0.2], [0.3, 0.4], [-0.5, 0.6], [0.7, -0.8]]);
    let b = session.variable("b", [0.0f32, 0.0]);
    let optimizer = Optimizer::adam(session).learning_rate(0.05).create();
    for step in 0..STEPS {
        let tape = session.tape();
        let loss = (x.matmul(&w) + &b - &y).square().reduce_mean();
        let gradients = tape.gradient([&loss], [&w, &b]);
        optimizer.apply(gradients.iter().zip([&w, &b]));
        // Some answers are waited for, so that connections are also lost with a reply on its way.
        if step % 10 == 0 {
            assert!(loss.scalar::<f32>().await.expect("a loss").is_finite());
        }
    }
    session.sync().await.expect("nothing failed");
    let mut weights = w.value::<f32>().await.expect("weights");
    weights.extend(b.value::<f32>().await.expect("a bias"));
    weights.into_iter().map(f32::to_bits).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cut_at_any_of_200_points_ends_with_the_same_bits() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await.expect("a proxy");
    let session = Session::connect(proxy.url()).await.expect("a session");
    let before = proxy.passed();
    let undisturbed = train(&session).await;
    let length = proxy.passed() - before;
    session.close().await.expect("an orderly end");

    let mut random = fastrand::Rng::with_seed(SEED);
    let mut cuts = 0;
    for _ in 0..CUTS {
        let point = random.u64(1..length);
        let proxy = Proxy::start(server.address()).await.expect("a proxy");
        let session = Session::connect(proxy.url()).await.expect("a session");
        proxy.cut_after(point);
        assert_eq!(train(&session).await, undisturbed, "cut after {point} of {length} bytes");
        cuts += usize::from(proxy.has_cut());
        // The cut may still come if the run happened to pack its commands better; closing survives it too.
        session.close().await.expect("an orderly end");
    }
    assert!(cuts > CUTS * 9 / 10, "only {cuts} of {CUTS} runs were cut");
}

#[tokio::test]
async fn an_upload_survives_the_loss_of_its_connection() {
    let server = Server::start().await;
    let elements: Vec<i32> = (0..600_000).collect();
    for point in [1_000, 300_000, 2_000_000] {
        let proxy = Proxy::start(server.address()).await.expect("a proxy");
        let session = Session::connect(proxy.url()).await.expect("a session");
        proxy.cut_after(point);
        let x = session.constant(&elements) + 0;
        assert_eq!(x.value::<i32>().await.expect("the elements"), elements, "cut at {point}");
        assert!(proxy.has_cut());
    }
}

#[tokio::test]
async fn a_session_whose_connection_is_lost_as_it_ends_is_deleted_all_the_same() {
    let server = Server::start().await;
    for point in (0..400).step_by(20) {
        let proxy = Proxy::start(server.address()).await.expect("a proxy");
        let session = Session::connect(proxy.url()).await.expect("a session");
        session.sync().await.expect("nothing failed");
        let credentials = session.credentials();
        proxy.cut_after(point);
        session.close().await.expect("an orderly end");
        let found = Session::builder().attach(server.url(), credentials).await;
        let why = found.err().unwrap_or_else(|| panic!("it is there, cut at {point}"));
        assert_eq!(why.reason(), Some("UNKNOWN_SESSION"), "cut at {point}: {why}");
    }
}
