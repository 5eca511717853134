//! The real program in a process of its own, which can be killed.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A running server that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
}

impl Process {
    /// Starts a server with these options besides the usual ones.
    pub fn start(options: &[&str]) -> Self {
        let mut child = command(options).spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut address = |before: &str, behind: &str| -> SocketAddr {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("it says where it listens");
            let address =
                line.trim().strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
            let address = address.and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| panic!("the server does not listen: {line:?}"))
        };
        let listens = address("listening on ", "");
        let metrics = options.contains(&"--metrics-address");
        let metrics = metrics.then(|| address("metrics on http://", "/metrics"));
        Self { child, address: listens, metrics }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its metrics: names with labels, and values. It was started with an address for them.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        metrics(self.metrics.expect("an address of metrics")).await
    }

    /// Bytes that the process has in memory.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the system tells of processes");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("a number of KiB") << 10
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Lets it drain and end.
    pub fn stop(mut self) -> ExitStatus {
        // It ends with its input.
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already if this fails.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The metrics that are served at an address: names with labels, and values.
pub(crate) async fn metrics(address: SocketAddr) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("a page");
    let number = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    page.lines().filter(|line| line.starts_with("gradtape_")).filter_map(number).collect()
}

/// A server on any free port, that ends with its standard input.
pub(crate) fn command(options: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--exit-with-parent"]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The program, of the profile that the tests have. `cargo test` of this package alone does not build it.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "gradtape-server", "--bin", "gradtape"]);
        build.args(["--features", "failpoints"]);
        build.arg("--message-format=json").stderr(Stdio::inherit());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let output = build.output().expect("cargo runs");
        assert!(output.status.success(), "the program builds");
        let messages = String::from_utf8(output.stdout).expect("JSON");
        let executable = messages.lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        executable.expect("cargo says where the program is")
    })
}
