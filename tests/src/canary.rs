//! A well-behaved session beside an attack: its results must stay the same to the bit, and it must get on.

use gradtape_client::Session;
use tokio::{sync::watch, task::JoinHandle};

use crate::Server;

/// A session that trains over and over.
#[derive(Debug)]
pub struct Canary {
    rounds: watch::Receiver<usize>,
    task: JoinHandle<Session>,
}

impl Canary {
    /// Starts to train, and waits for the first result, by which the others are measured.
    pub async fn start(server: &Server) -> Self {
        let session = server.session().await;
        let (told, mut rounds) = watch::channel(0);
        let task = tokio::spawn(async move {
            let expected = train(&session).await;
            let mut round = 0;
            while told.send(round + 1).is_ok() {
                round += 1;
                assert_eq!(train(&session).await, expected, "round {round} has other bits");
            }
            session
        });
        rounds.wait_for(|&round| round > 0).await.expect("the canary trains");
        Self { rounds, task }
    }

    /// Two more rounds were trained from here on, so one of them entirely.
    pub async fn sings(&mut self) {
        let from = *self.rounds.borrow_and_update();
        let more = self.rounds.wait_for(|&round| round >= from + 2).await.map(|_| ());
        assert!(more.is_ok(), "the canary is not well: {:?}", (&mut self.task).await);
    }

    /// Ends its session after the round that it is in. Without this it ends with its server.
    pub async fn ends(self) {
        let Self { rounds, task } = self;
        drop(rounds);
        task.await.expect("the canary is well").close().await.expect("an end");
    }
}

/// Fifty steps of the tutorial. Gives the bits of w and b.
pub async fn train(session: &Session) -> [u32; 2] {
    let points: Vec<f32> = (0_u8..10).map(f32::from).collect();
    let line: Vec<f32> = points.iter().map(|x| 2.0 * x - 1.0).collect();
    let (x, y) = (session.constant(&points[..]), session.constant(&line[..]));
    let rate = session.constant(0.001_f32);
    let (w, b) = (session.variable("w", 0.1_f32), session.variable("b", 0.1_f32));
    for _ in 0..50 {
        let tape = session.tape();
        let loss = (&y - (&w * &x + &b)).abs();
        let gradients = tape.gradient([&loss], [&w, &b]);
        w.assign_sub(&(&rate * &gradients[0]));
        b.assign_sub(&(&rate * &gradients[1]));
    }
    let [w, b] = [w.read(), b.read()];
    [w.scalar::<f32>().await.expect("w").to_bits(), b.scalar::<f32>().await.expect("b").to_bits()]
}
