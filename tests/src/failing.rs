//! The real program with [failpoints](gradtape_server::failpoints): it dies where it is told to, and says what was hit.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Stdio},
};

use gradtape_server::failpoints::Point;
use tokio::sync::mpsc;

use crate::process::{command, metrics};

/// Options that all of them have.
const USUAL: &[&str] = &["--log", "off", "--metrics-address", "127.0.0.1:0"];

/// The signal that `abort` ends a process with.
const SIGABRT: i32 = 6;

/// The status of a server that ends because it does not know what is on its disk.
const STORE_FAILED: i32 = 70;

/// A running server that is killed when it is dropped.
#[derive(Debug)]
pub struct Failing {
    child: Child,
    address: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    /// The lines of its standard output, until it ends.
    lines: mpsc::UnboundedReceiver<String>,
    hits: Vec<String>,
}

/// What befalls a server at a point, and when.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where.
    pub point: Point,
    /// `die`, `panic` or `fail`.
    pub what: &'static str,
    /// How often it passes the point before.
    pub after: usize,
    /// How often it happens.
    pub times: usize,
}

impl Fault {
    /// The process dies when it comes to a point after having passed it so often.
    pub fn death(point: Point, after: usize) -> Self {
        Self { point, what: "die", after, times: 1 }
    }

    /// Something goes wrong, once.
    pub fn once(point: Point, what: &'static str) -> Self {
        Self { point, what, after: 0, times: 1 }
    }

    fn line(self) -> String {
        let Self { point, what, after, times } = self;
        let skip = if after == 0 { String::new() } else { format!("{after}*off->") };
        format!("{point}={skip}{times}*return({what})")
    }
}

impl Failing {
    /// Starts a server with a store and these options, in which something may go wrong from the beginning. It may die before
    /// it listens.
    pub async fn start(store: &Path, options: &[&str], fault: Option<Fault>) -> Self {
        let store = store.to_str().expect("a path in UTF-8");
        let options = [USUAL, &["--session-store", store], options].concat();
        let mut command = command(&options);
        // Panics are meant to happen.
        command.stderr(Stdio::null()).env("RUST_BACKTRACE", "0");
        command.env("FAILPOINTS", fault.map(Fault::line).unwrap_or_default());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
        let (said, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            // The test may have ended before the server.
            stdout.lines().map_while(Result::ok).for_each(|line| drop(said.send(line)));
        });
        let mut server = Self { child, address: None, metrics: None, lines, hits: Vec::new() };
        let address = |line: String| line.parse().expect("an address");
        server.address = server.line("listening on ").await.map(address);
        if server.address.is_some() {
            let page = server.line("metrics on http://").await;
            server.metrics = page.map(|page| address(page.replace("/metrics", "")));
        }
        server
    }

    /// Where it listens, unless it died before.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address.expect("it listens"))
    }

    /// One of its metrics, by its name and labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let numbers = metrics(self.metrics.expect("it serves metrics")).await;
        numbers.get(name).copied().unwrap_or_else(|| panic!("no {name} in {numbers:?}"))
    }

    /// Lets something go wrong from now on.
    pub async fn arm(&mut self, fault: Fault) {
        let line = fault.line();
        let stdin = self.child.stdin.as_mut().expect("its input is piped");
        writeln!(stdin, "{line}").expect("it reads its input");
        assert_eq!(self.line("armed ").await.as_deref(), Some(&*line));
    }

    /// Completes when a point was hit.
    pub async fn hits(&mut self, point: Point) {
        let was_hit = |hits: &[String]| hits.iter().any(|hit| hit == point.name());
        while !was_hit(&self.hits) {
            let line = self.lines.recv().await;
            self.note(&line.unwrap_or_else(|| panic!("it ended, and nothing hit {point}")));
        }
    }

    /// Completes when it has ended by what went wrong at a point, and nowhere else.
    pub async fn ends_of(&mut self, Fault { point, what, .. }: Fault) {
        while let Some(line) = self.lines.recv().await {
            self.note(&line);
        }
        let status = self.child.wait().expect("it ends");
        assert_eq!(self.hits, [point.name()], "what was hit");
        let end = (status.signal(), status.code());
        let expected =
            if what == "die" { (Some(SIGABRT), None) } else { (None, Some(STORE_FAILED)) };
        assert_eq!(end, expected, "{point}");
    }

    /// Lets it drain.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// The rest of the next line that begins so; `None` if it ends before.
    async fn line(&mut self, beginning: &str) -> Option<String> {
        loop {
            let line = self.lines.recv().await?;
            match line.strip_prefix(beginning) {
                Some(rest) => return Some(rest.to_owned()),
                None => self.note(&line),
            }
        }
    }

    fn note(&mut self, line: &str) {
        self.hits.extend(line.strip_prefix("hit ").map(str::to_owned));
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // It is gone already if this fails.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
