//! Small ops through one stream and through several. The client sends bytes that were made beforehand, so that what is
//! measured is the server's side and the transport's, and the bare service gets the same bytes.

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use gradtape_proto::v1::{
    self, Command, command::Kind, session_service_client::SessionServiceClient, stream_response,
};
use prost::Message as _;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{
    Contender, Setting,
    bare::{self, Answers, Raw},
    seconds,
};
use crate::results::Values;

/// Commands of a batch.
const BATCH: u64 = 256;
/// Batches on their way: the credit that the server gives.
const IN_FLIGHT: usize = 4;
/// What our server answers to a batch without fetches takes about so many bytes.
const ANSWER_BYTES: usize = 24;
const STREAMS: [usize; 2] = [1, 4];

/// Something that batches go into and answers come out of.
struct Pipe<A> {
    requests: Sender<Raw>,
    answers: Streaming<A>,
    next_sequence: u64,
    /// The commands of a batch, encoded.
    commands: Bytes,
}

/// Our server.
pub(super) fn stream(setting: &Setting) -> Result<Contender> {
    let address = Setting::address()?;
    let mut pipes = Vec::new();
    for _ in 0..STREAMS.iter().copied().max().unwrap_or(1) {
        pipes.push(setting.runtime.block_on(attach(&address))?);
    }
    contender(setting, pipes, |reply: &v1::StreamResponse| match &reply.kind {
        // A multiplication that failed would be quick.
        Some(stream_response::Kind::Batch(batch)) => batch.replies.is_empty(),
        _ => false,
    })
}

/// The bare service, in this process, which spares it the switches between two.
pub(super) fn bare(setting: &Setting) -> Result<Contender> {
    let mut pipes = Vec::new();
    let answers = Answers { bytes: ANSWER_BYTES, count: 0 };
    let endpoint = setting.runtime.block_on(bare::start(answers))?;
    for _ in 0..STREAMS.iter().copied().max().unwrap_or(1) {
        let open = async {
            let mut client = bare::connect(&endpoint).await?;
            let (requests, receiver) = mpsc::channel(IN_FLIGHT);
            let answers = client.exchange(ReceiverStream::new(receiver)).await?.into_inner();
            let commands = multiplications(1 << 40, 2 << 40);
            Ok::<_, anyhow::Error>(Pipe { requests, answers, next_sequence: 1, commands })
        };
        pipes.push(setting.runtime.block_on(open)?);
    }
    contender(setting, pipes, |answer: &Raw| answer.payload.len() == ANSWER_BYTES)
}

fn contender<A: Send + 'static>(
    setting: &Setting,
    mut pipes: Vec<Pipe<A>>,
    fine: fn(&A) -> bool,
) -> Result<Contender> {
    let batches = if setting.quick { 200 } else { 1000 };
    let mut sample = move |setting: &Setting| {
        let mut values = Values::new();
        for streams in STREAMS {
            let work = async {
                let pumps = pipes.iter_mut().take(streams).map(|pipe| pump(pipe, batches, fine));
                futures::future::try_join_all(pumps).await
            };
            let taken = seconds(|| setting.runtime.block_on(work))?;
            #[expect(clippy::cast_precision_loss, reason = "there are few commands")]
            let commands = (streams as u64 * batches * BATCH) as f64;
            let row = if streams == 1 { "1 stream" } else { "4 streams" };
            values.insert(row.to_owned(), commands / taken);
        }
        Ok(values)
    };
    sample(setting)?;
    let note = format!(
        "warm-up and samples of {batches} batches of {BATCH} commands a stream, {IN_FLIGHT} batches on their way, a connection a stream"
    );
    Ok(Contender::new(note, sample))
}

/// Sends batches and takes their answers.
async fn pump<A>(pipe: &mut Pipe<A>, batches: u64, fine: fn(&A) -> bool) -> Result<()> {
    let (mut sent, mut answered) = (0, 0);
    while answered < batches {
        while sent < batches && sent - answered < IN_FLIGHT as u64 {
            let batch = pipe.batch();
            pipe.requests.send(batch).await.context("the stream is closed")?;
            sent += 1;
        }
        let answer = pipe.answers.message().await?.context("the stream ended")?;
        anyhow::ensure!(fine(&answer), "the answer to a batch reports a failure");
        answered += 1;
    }
    Ok(())
}

impl<A> Pipe<A> {
    /// The next batch: a header with its sequence number, and the same commands as ever.
    fn batch(&mut self) -> Raw {
        let first_sequence = self.next_sequence;
        self.next_sequence += BATCH;
        let acknowledged_sequence = first_sequence.saturating_sub(BATCH * IN_FLIGHT as u64 + 1);
        let header = v1::Batch { first_sequence, acknowledged_sequence, commands: Vec::new() };
        let mut bytes = BytesMut::with_capacity(header.encoded_len() + self.commands.len());
        bytes.put(header.encode_to_vec().as_slice());
        bytes.put(&self.commands[..]);
        Raw::of(bytes.freeze())
    }
}

/// Opens a session and a stream of it, on a connection of its own.
async fn attach(address: &str) -> Result<Pipe<v1::StreamResponse>> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    let created = SessionServiceClient::new(channel.clone())
        .create_session(v1::CreateSessionRequest::default())
        .await?
        .into_inner();
    let hello = v1::Hello { credentials: created.credentials, notices: false };
    let (requests, receiver) = mpsc::channel(IN_FLIGHT);
    let first = Raw { first: hello.encode_to_vec().into(), payload: Bytes::new() };
    requests.send(first).await?;
    let mut answers = open(channel, receiver).await?;
    let welcome = answers.message().await?.and_then(|response| response.kind);
    let Some(stream_response::Kind::Welcome(welcome)) = welcome else {
        anyhow::bail!("the server does not welcome a stream");
    };
    let x = welcome.handle_base;
    let constant = v1::Batch::new(
        1,
        [command(Kind::Constant(v1::Constant {
            output: x,
            source: Some(v1::constant::Source::Tensor(v1::Tensor {
                dtype: v1::DataType::Float32.into(),
                shape: vec![2],
                data: [1.0f32.to_le_bytes(), (-1.0f32).to_le_bytes()].concat().into(),
            })),
        }))],
    );
    requests.send(Raw::of(constant.encode_to_vec())).await?;
    answers.message().await?.context("the stream ended")?;
    Ok(Pipe { requests, answers, next_sequence: 2, commands: multiplications(x, x + 1) })
}

/// The call itself, with requests that stay bytes.
async fn open(
    channel: Channel,
    requests: mpsc::Receiver<Raw>,
) -> Result<Streaming<v1::StreamResponse>> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::from_static("/gradtape.v1.TapeService/Stream");
    let codec = ProstCodec::<Raw, v1::StreamResponse>::default();
    let requests = Request::new(ReceiverStream::new(requests));
    Ok(grpc.streaming(requests, path, codec).await?.into_inner())
}

/// A batch that squares `x` over and over and forgets the results.
fn multiplications(x: u64, first_output: u64) -> Bytes {
    let outputs = first_output..first_output + BATCH - 1;
    let multiply = |output| {
        command(Kind::Op(v1::Op {
            name: "multiply".to_owned(),
            inputs: vec![x, x],
            outputs: vec![output],
            attributes: Vec::new(),
        }))
    };
    let release = command(Kind::Release(v1::Release { handles: outputs.clone().collect() }));
    v1::Batch::new(0, outputs.map(multiply).chain([release])).encode_to_vec().into()
}

fn command(kind: Kind) -> Command {
    Command { kind: Some(kind), ..Command::default() }
}
