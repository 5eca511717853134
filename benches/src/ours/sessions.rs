//! Many sessions on one server: what an idle one costs, and how long a step takes when many train at once.

use std::time::Instant;

use anyhow::{Context as _, Result};
use gradtape_client::{Level, Session};
use gradtape_proto::v1::{
    self, Command, command::Kind, session_service_client::SessionServiceClient,
    tape_service_client::TapeServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use super::{Contender, Setting, durability::confirm};
use crate::{
    results::{Values, quantile},
    server::Server,
};

const IDLE: u32 = 1_000;
const ACTIVE: usize = 64;

/// A server of its own for each sample: memory that a server once had it does not give back.
pub(super) fn sessions(setting: &Setting) -> Result<Contender> {
    let program = Setting::program()?;
    let steps = if setting.quick { 20 } else { 200 };
    let note = format!(
        "idle: a session with one variable, by unary calls, after 16 others warmed the server up; \
         active: {ACTIVE} clients, {steps} steps each of the tutorial's loop, reading a weight after every step"
    );
    let sample = move |setting: &Setting| {
        let server = Server::start(&program, &["--max-sessions", "2000"])?;
        let address = server.url();
        let idle = setting.runtime.block_on(idle(&server, &address))?;
        let mut times = setting.runtime.block_on(active(&address, steps))?;
        times.sort_by(f64::total_cmp);
        let at = |share| quantile(&times, share).context("no step was taken");
        Ok(Values::from([
            ("idle session".to_owned(), idle),
            ("step of 64, p50".to_owned(), at(0.5)?),
            ("step of 64, p99".to_owned(), at(0.99)?),
        ]))
    };
    Ok(Contender::new(note, sample))
}

/// Bytes of memory for each idle session.
async fn idle(server: &Server, address: &str) -> Result<f64> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    for _ in 0..16 {
        create(&channel).await?;
    }
    let before = server.resident_bytes()?;
    for _ in 0..IDLE {
        create(&channel).await?;
    }
    let grown = server.resident_bytes()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    Ok(grown as f64 / f64::from(IDLE))
}

/// Makes a session with a variable in it.
async fn create(channel: &Channel) -> Result<()> {
    let created = SessionServiceClient::new(channel.clone())
        .create_session(v1::CreateSessionRequest::default())
        .await?
        .into_inner();
    let tensor = v1::Tensor {
        dtype: v1::DataType::Float32.into(),
        shape: Vec::new(),
        data: 0.1f32.to_le_bytes().to_vec().into(),
    };
    let constant = v1::Constant { output: 1, source: Some(v1::constant::Source::Tensor(tensor)) };
    let variable = v1::CreateVariable {
        variable: 2,
        name: "w".to_owned(),
        initial_value: 1,
        trainable: Some(true),
    };
    let release = v1::Release { handles: vec![1] };
    let kinds = [Kind::Constant(constant), Kind::CreateVariable(variable), Kind::Release(release)];
    let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind), ..Command::default() });
    let batch = v1::Batch::new(1, commands);
    let request = v1::ExecuteRequest { credentials: created.credentials, batch: Some(batch) };
    TapeServiceClient::new(channel.clone()).execute(request).await?;
    Ok(())
}

/// The seconds of every step of every client.
async fn active(address: &str, steps: usize) -> Result<Vec<f64>> {
    let mut sessions = Vec::new();
    for _ in 0..ACTIVE {
        sessions.push(Session::connect(address).await?);
    }
    let clients: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::spawn(train(session, steps, Level::Applied)))
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    Ok(times)
}

/// The seconds of every step, which reads a weight and waits until it has reached a level.
pub(super) async fn train(session: Session, steps: usize, level: Level) -> Result<Vec<f64>> {
    let w = session.variable("w", 0.1f32);
    let b = session.variable("b", 0.1f32);
    let x = session.constant([0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let y = &x * 2.0 - 1.0;
    let mut times = Vec::with_capacity(steps);
    for _ in 0..steps {
        let start = Instant::now();
        let tape = session.tape();
        let loss = (&y - (&w * &x + &b)).abs();
        let gradients = tape.gradient([&loss], [&w, &b]);
        w.assign_sub(&gradients[0] * 0.001);
        b.assign_sub(&gradients[1] * 0.001);
        w.scalar::<f32>().await?;
        if level != Level::Applied {
            confirm(&session, level).await?;
        }
        times.push(start.elapsed().as_secs_f64());
    }
    session.close().await?;
    Ok(times)
}
