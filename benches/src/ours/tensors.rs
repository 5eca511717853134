//! 64 MiB to the server and back.

use std::{hint::black_box, time::Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::stream;
use gradtape_client::{DType, Spec, TensorData};

use super::{
    Contender, Setting,
    bare::{self, Answers, Raw},
};
use crate::results::Values;

const BYTES: usize = 64 << 20;
const CHUNK: usize = 1 << 20;
const NOTE: &str = "warm-up one transfer each way";

/// Our server, through the client.
pub(super) fn client(setting: &Setting) -> Result<Contender> {
    let session = setting.session()?;
    let spec = Spec { dtype: DType::F32, shape: vec![16 << 20] };
    let data = TensorData::from_bytes(spec, vec![1; BYTES].into());
    let sample = move |setting: &Setting| {
        let work = async {
            let start = Instant::now();
            let tensor = session.constant(data.clone());
            session.sync().await?;
            let sent = Instant::now();
            let received = tensor.data().await?;
            ensure!(received.bytes().len() == BYTES, "the tensor came back with another size");
            Ok(rates(start, sent, Instant::now()))
        };
        setting.runtime.block_on(work)
    };
    sample(setting)?;
    Ok(Contender::new(NOTE, sample))
}

/// A bare service in this process, in chunks of the same size.
pub(super) fn bare(setting: &Setting) -> Result<Contender> {
    let answers = Answers { bytes: CHUNK, count: BYTES / CHUNK };
    let mut client = setting.runtime.block_on(async {
        let endpoint = bare::start(answers).await?;
        bare::connect(&endpoint).await
    })?;
    let chunk = Raw::of(vec![1; CHUNK]);
    let mut sample = move |setting: &Setting| {
        let work = async {
            let start = Instant::now();
            client.upload(stream::iter(vec![chunk.clone(); BYTES / CHUNK])).await?;
            let sent = Instant::now();
            let mut chunks = client.download(Raw::default()).await?.into_inner();
            let mut received: Vec<Bytes> = Vec::new();
            while let Some(chunk) = chunks.message().await? {
                received.push(chunk.payload);
            }
            // In one piece, as our client hands it over.
            ensure!(received.concat().len() == BYTES, "chunks are missing");
            Ok(rates(start, sent, Instant::now()))
        };
        setting.runtime.block_on(work)
    };
    sample(setting)?;
    Ok(Contender::new(NOTE, sample))
}

/// A copy within memory that was written before.
pub(super) fn memcpy(setting: &Setting) -> Result<Contender> {
    let source = vec![1u8; BYTES];
    let mut target = vec![0u8; BYTES];
    let mut sample = move |_: &Setting| {
        let mut copy = || {
            black_box(&mut target[..]).copy_from_slice(black_box(&source));
            Instant::now()
        };
        let start = Instant::now();
        let (sent, received) = (copy(), copy());
        Ok(rates(start, sent, received))
    };
    sample(setting)?;
    Ok(Contender::new("warm-up one copy each way", sample))
}

#[expect(clippy::cast_precision_loss, reason = "2^26 is exact")]
fn rates(start: Instant, sent: Instant, received: Instant) -> Values {
    let rate = |from, to: Instant| BYTES as f64 / to.duration_since(from).as_secs_f64();
    Values::from([
        ("upload".to_owned(), rate(start, sent)),
        ("download".to_owned(), rate(sent, received)),
    ])
}
