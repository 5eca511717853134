//! What a machine does to the program: its descriptors run out, and somebody sets its clock.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in a test, panicking is how to fail")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use gradtape_proto::v1::{
    self, command::Kind, session_service_client::SessionServiceClient,
    tape_service_client::TapeServiceClient,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rcgen::KeyPair;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sets what the program takes for the time of day. It is a C library's function, so it is written in C.
const WALL_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    char seconds[32] = "";
    if (result == 0 && clock == CLOCK_REALTIME) {
        int file = open(getenv("WALL_CLOCK"), O_RDONLY);
        if (file < 0 || read(file, seconds, sizeof seconds - 1) < 0) abort();
        close(file);
        time->tv_sec += atoll(seconds);
    }
    return result;
}
"#;

/// A running program that ends with the test, and the lines of its log.
struct Server {
    child: Child,
    address: String,
    log: mpsc::UnboundedReceiver<String>,
}

impl Server {
    /// Starts it by a command that ends in the program.
    fn start(command: &mut Command, options: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--exit-with-parent"])
            .args(["--log-format", "json", "--log", "info"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = mpsc::unbounded_channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                // Nobody may be listening any more.
                let _ = sender.send(line);
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address, log }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Waits until the log says something.
    async fn says(&mut self, what: &str) {
        let found = async { while !self.log.recv().await.unwrap().contains(what) {} };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {what:?}"));
    }

    /// A call with a token.
    async fn ask(&self, token: &str) -> Result<(), Code> {
        let mut request = Request::new(v1::GetServerInfoRequest {});
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut sessions = SessionServiceClient::new(self.channel().await);
        sessions.get_server_info(request).await.map(drop).map_err(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn create(channel: &Channel) -> v1::SessionCredentials {
    let mut sessions = SessionServiceClient::new(channel.clone());
    let created = sessions.create_session(v1::CreateSessionRequest::default()).await.unwrap();
    created.into_inner().credentials.unwrap()
}

/// One command of a session. Answers with the number of the last that was executed.
async fn work(
    channel: &Channel,
    credentials: &v1::SessionCredentials,
    first_sequence: u64,
) -> Result<u64, Status> {
    let command = v1::Command { kind: Some(Kind::Sync(v1::Sync::default())), ..Default::default() };
    let batch = v1::Batch::new(first_sequence, vec![command]);
    let request = v1::ExecuteRequest { credentials: Some(credentials.clone()), batch: Some(batch) };
    let reply = TapeServiceClient::new(channel.clone()).execute(request).await?;
    Ok(reply.into_inner().batch.unwrap().applied_sequence)
}

#[tokio::test]
async fn d9_without_descriptors_those_inside_go_on_and_newcomers_come_in_later() {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 48 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_gradtape")]);
    let mut server = Server::start(&mut limited, &[]);
    let inside = server.channel().await;
    let credentials = create(&inside).await;

    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(TcpStream::connect(&server.address).await.unwrap());
    }
    server.says("Too many open files").await;
    for sequence in 1..=100 {
        assert_eq!(work(&inside, &credentials, sequence).await.unwrap(), sequence);
    }

    drop(crowd);
    let newcomer = tokio::time::timeout(PATIENCE, server.channel()).await.expect("a place");
    assert_eq!(work(&newcomer, &credentials, 101).await.unwrap(), 101);
    assert!(server.child.try_wait().unwrap().is_none(), "the program runs on");
}

/// The time of day of the programs that it starts.
struct WallClock {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl WallClock {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        fs::write(&source, WALL_CLOCK).unwrap();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        assert!(compile.status().unwrap().success());
        let clock = Self { folder, library };
        clock.jump(0);
        clock
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }

    /// Lets the programs' clock be off by so many seconds.
    fn jump(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn start(&self, options: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gradtape"));
        command.env("LD_PRELOAD", &self.library).env("WALL_CLOCK", self.path());
        Server::start(&mut command, options)
    }
}

const YEAR: i64 = 365 * 24 * 3600;

/// A session that nobody uses ends when its time is over, and not with the clock.
async fn expires_in_its_time(jump: i64) {
    let clock = WallClock::new();
    let mut server = clock.start(&["--session-ttl", "2"]);
    let channel = server.channel().await;
    let since = Instant::now();
    let credentials = create(&channel).await;
    clock.jump(jump);
    server.says("end expired session").await;
    assert!(since.elapsed() >= Duration::from_secs(2), "the clock ended it");
    assert_eq!(work(&channel, &credentials, 1).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn e12_a_jump_of_the_clock_neither_ends_a_session_nor_keeps_it() {
    tokio::join!(expires_in_its_time(10 * YEAR), expires_in_its_time(-10 * YEAR));
}

#[tokio::test]
async fn e12_a_jump_of_the_clock_does_not_end_a_handshake() {
    let clock = WallClock::new();
    let server = clock.start(&[]);
    let mut begun = TcpStream::connect(&server.address).await.unwrap();
    // Connections are accepted in turn, so that one has been.
    let _ = create(&server.channel().await).await;
    for jump in [10 * YEAR, -10 * YEAR] {
        clock.jump(jump);
        let _ = create(&server.channel().await).await;
    }
    // The preface of HTTP/2 and an empty SETTINGS frame, which the server answers with its own.
    begun.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut header = [0; 9];
    begun.read_exact(&mut header).await.expect("the server still listens");
    assert_eq!(header[3], 4, "a SETTINGS frame");
}

/// Writes the keys of an issuer into a folder. Gives their path, and a token that holds for an hour from a time on.
fn issue(folder: &Path, from: i64) -> (PathBuf, String) {
    let key = EncodingKey::from_ec_der(KeyPair::generate().unwrap().serialized_der());
    let keys = folder.join("keys.json");
    let page = json!({ "keys": [Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()] });
    fs::write(&keys, page.to_string()).unwrap();
    let claims =
        json!({ "iss": "issuer", "aud": "us", "sub": "ada", "nbf": from, "exp": from + 3600 });
    (keys, jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap())
}

#[tokio::test]
async fn e12_tokens_hold_by_the_time_of_day_give_or_take_a_minute() {
    let clock = WallClock::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (keys, token) = issue(clock.folder.path(), i64::try_from(now).unwrap());
    let options =
        ["--jwt-issuer", "issuer", "--jwt-audience", "us", "--jwks", keys.to_str().unwrap()];
    let server = clock.start(&options);
    // The test itself takes some seconds, never twenty.
    let (early, late) = (-60, 3600 + 60);
    for (jump, expected) in [
        (0, Ok(())),
        (late - 20, Ok(())),
        (late + 1, Err(Code::Unauthenticated)),
        (10 * YEAR, Err(Code::Unauthenticated)),
        (early + 1, Ok(())),
        (early - 20, Err(Code::Unauthenticated)),
        (-10 * YEAR, Err(Code::Unauthenticated)),
        (0, Ok(())),
    ] {
        clock.jump(jump);
        assert_eq!(server.ask(&token).await, expected, "{jump} seconds from now");
    }
}
