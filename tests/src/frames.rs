//! HTTP/2 without manners: frames written by hand, for what no library would send.
//!
//! Numbers of frames, flags, settings and errors are those of RFC 9113; header blocks are HPACK literals (RFC 7541).

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long an attack waits for its outcome. The server's own deadlines are shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 9113, section 6, documents the frames")]
pub enum Frame {
    Data = 0,
    Headers = 1,
    Priority = 2,
    Reset = 3,
    Settings = 4,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

/// The flag that ends a stream, and an answer to SETTINGS or PING.
pub const END_STREAM: u8 = 1;
/// The flag that ends a header block.
pub const END_HEADERS: u8 = 4;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server said goodbye, with this error.
    GoAway {
        /// The error: 1 is `PROTOCOL_ERROR`, 11 is `ENHANCE_YOUR_CALM`.
        code: u32,
        /// The server's word for it.
        why: String,
    },
    /// The server closed or reset it without a word.
    Closed,
    /// It was open until our patience ended.
    Open,
}

/// A connection: what is written, and a task that reads until it ends.
#[derive(Debug)]
pub struct Frames {
    writer: OwnedWriteHalf,
    headers: watch::Receiver<usize>,
    end: tokio::task::JoinHandle<Seen>,
}

/// What the server sent.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How it ended.
    pub end: End,
    /// Streams that the server reset.
    pub resets: usize,
    /// Header frames: answers, and ends of answers.
    pub headers: usize,
}

impl Frames {
    /// Connects and says hello, with these settings.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        let (reader, mut writer) = socket.into_split();
        writer.write_all(PREFACE).await?;
        let (told, headers) = watch::channel(0);
        let end = tokio::spawn(read(reader, told));
        let mut this = Self { writer, headers, end };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        this.send(Frame::Settings, 0, 0, &payload).await?;
        Ok(this)
    }

    /// Sends a frame.
    pub async fn send(
        &mut self,
        frame: Frame,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.writer.write_all(&bytes(frame, flags, stream, payload)).await
    }

    /// Sends many frames at once.
    pub async fn send_all(&mut self, frames: &[u8]) -> io::Result<()> {
        self.writer.write_all(frames).await
    }

    /// Waits until the server has answered with so many header frames.
    pub async fn answered(&mut self, headers: usize) {
        let answered = self.headers.wait_for(|&seen| seen >= headers);
        timeout(PATIENCE, answered).await.expect("an answer in time").expect("an answer");
    }

    /// Keeps the connection and says how it ended.
    pub async fn end(self) -> Seen {
        let Self { writer, mut end, .. } = self;
        let seen = timeout(PATIENCE, &mut end).await;
        drop(writer);
        if let Ok(seen) = seen {
            return seen.expect("the reader does not panic");
        }
        end.abort();
        Seen { end: End::Open, resets: 0, headers: 0 }
    }

    /// Closes our side, and says what the server had sent by then.
    pub async fn finish(mut self) -> Seen {
        // A connection that the server closed needs no goodbye.
        let _ = self.writer.shutdown().await;
        self.end().await
    }
}

/// A frame's bytes.
pub fn bytes(frame: Frame, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let head = [length[1], length[2], length[3], frame as u8, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a call.
pub fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // :method POST and :scheme http by their indices, the rest as literals.
    let mut block = vec![0x83, 0x86];
    let fixed = [
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fixed.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The length of a literal: seven bits, or a run of them after 127.
fn length(block: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    if rest >= 127 {
        block.push(127);
        rest -= 127;
        while rest > 127 {
            block.push(128 | seven_bits(rest));
            rest >>= 7;
        }
    }
    block.push(seven_bits(rest));
}

fn seven_bits(number: usize) -> u8 {
    u8::try_from(number & 127).expect("seven bits")
}

async fn read(mut reader: OwnedReadHalf, told: watch::Sender<usize>) -> Seen {
    let mut seen = Seen { end: End::Closed, resets: 0, headers: 0 };
    loop {
        let mut head = [0; 9];
        if reader.read_exact(&mut head).await.is_err() {
            return seen;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if reader.read_exact(&mut payload).await.is_err() {
            return seen;
        }
        match head[3] {
            1 => {
                seen.headers += 1;
                // Few attacks wait for answers.
                let _ = told.send(seen.headers);
            }
            3 => seen.resets += 1,
            7 if payload.len() >= 8 => {
                let code = u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]);
                let why = String::from_utf8_lossy(&payload[8..]).into_owned();
                if code != 0 {
                    seen.end = End::GoAway { code, why };
                    return seen;
                }
            }
            _ => {}
        }
    }
}
