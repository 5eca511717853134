//! The tutorial's four programs.

use anyhow::Result;
use gradtape_client::{Optimizer, Session};

use crate::{
    model::{Activation, Model},
    progress::Progress,
};

/// Runs them, each in a session of its own.
pub(crate) async fn run(address: &str, progress: &Progress) -> Result<()> {
    progress.say(&persistent(&Session::connect(address).await?).await?);
    progress.say(&line(&Session::connect(address).await?).await?);
    progress.say(&train_step(&Session::connect(address).await?).await?);
    progress.say(&nested(&Session::connect(address).await?).await?);
    Ok(())
}

/// A persistent tape answers one gradient after the other.
async fn persistent(session: &Session) -> Result<String> {
    let x = session.constant(2.0f32);
    let y = session.constant(3.0f32);
    let tape = session.persistent_tape();
    tape.watch([&x, &y]);
    let z = &x * &y;
    let dx = tape.derivative(&z, &x).scalar::<f32>().await?;
    let dy = tape.derivative(&z, &y).scalar::<f32>().await?;
    Ok(format!("1. z = x·y at x = 2, y = 3: dz/dx = {dx}, dz/dy = {dy}"))
}

/// A line through ten points by gradient descent on the absolute error.
async fn line(session: &Session) -> Result<String> {
    let w = session.variable("w", 0.1f32);
    let b = session.variable("b", 0.1f32);
    let x = session.constant([0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let y = &x * 2.0 - 1.0;
    for _ in 0..1000 {
        let tape = session.persistent_tape();
        let loss = (&y - (&w * &x + &b)).abs();
        let dw = tape.derivative(&loss, &w);
        let db = tape.derivative(&loss, &b);
        w.assign_sub(dw * 0.001);
        b.assign_sub(db * 0.001);
    }
    let (w, b) = (w.scalar::<f32>().await?, b.scalar::<f32>().await?);
    session.sync().await?;
    Ok(format!("2. y = w·x + b after 1000 steps: w = {w:.4}, b = {b:.4}"))
}

/// One gradient for all variables of a model, one optimizer step for all of them.
async fn train_step(session: &Session) -> Result<String> {
    let generator = session.generator(1);
    let model = Model::default().dense(session, &generator, [2, 8], Activation::Relu).dense(
        session,
        &generator,
        [8, 1],
        Activation::Linear,
    );
    let optimizer = Optimizer::sgd(session).learning_rate(0.1).create();
    let x = session.constant([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
    let y = session.constant([[0.0f32], [1.0], [1.0], [2.0]]);
    let variables = model.trainable_variables();
    let mut losses = Vec::new();
    for _ in 0..5 {
        let tape = session.tape();
        let loss = (model.call(&x) - &y).square().reduce_mean();
        let gradients = tape.gradient([&loss], &variables);
        optimizer.apply(gradients.iter().zip(&variables)).await?;
        losses.push(format!("{:.4}", loss.scalar::<f32>().await?));
    }
    Ok(format!(
        "3. five steps of a model with {} variables: {}",
        variables.len(),
        losses.join(", ")
    ))
}

/// A tape that records another tape's gradient.
async fn nested(session: &Session) -> Result<String> {
    let x = session.constant(2.0f32);
    let outer = session.tape();
    outer.watch([&x]);
    let inner = session.tape();
    inner.watch([&x]);
    let y = x.pow(3.0);
    let first = inner.derivative(&y, &x);
    let second = outer.derivative(&first, &x);
    let (first, second) = (first.scalar::<f32>().await?, second.scalar::<f32>().await?);
    Ok(format!("4. x³ at x = 2: first derivative {first}, second {second}\n"))
}
