//! Trains for some steps, from where the last run left off: the state is in a checkpoint on the server, and so outlives
//! this program and the server too.
//!
//! ```sh
//! cargo run --package gradtape-client --example keep -- http://127.0.0.1:50051 line 50
//! ```
#![expect(clippy::print_stdout, reason = "it talks to whoever runs it")]

use gradtape_client::{Optimizer, RestoreOptions, SaveOptions, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(name), Some(steps)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: keep ADDRESS CHECKPOINT STEPS".into());
    };
    let session = Session::connect(address).await?;
    let checkpoints = session.checkpoints();

    let (w, b) = (session.variable("w", 0.1f32), session.variable("b", 0.1f32));
    let adam = Optimizer::adam(&session).learning_rate(0.05).create();
    if checkpoints.list().await?.iter().any(|checkpoint| checkpoint.name == name) {
        checkpoints.restore(&name, RestoreOptions::default()).await?;
    }

    let points: Vec<f32> = (0_u8..10).map(f32::from).collect();
    let line: Vec<f32> = points.iter().map(|x| 2.0 * x - 1.0).collect();
    let (x, y) = (session.constant(points), session.constant(line));
    for _ in 0..steps.parse()? {
        let tape = session.tape();
        let loss = (&y - (&w * &x + &b)).square().reduce_mean();
        let gradients = tape.gradient([&loss], [&w, &b]);
        adam.apply(gradients.iter().zip([&w, &b]));
    }
    checkpoints.save(&name, SaveOptions::default().overwrite()).await?;

    let (w, b) = (w.scalar::<f32>().await?, b.scalar::<f32>().await?);
    println!("w = {w}, b = {b}; bits {:08x} {:08x}", w.to_bits(), b.to_bits());
    Ok(session.close().await?)
}
