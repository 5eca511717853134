//! The `gradtape` program: configuration, signals, and nothing else.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{
    Args, CommandFactory, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};
use etcetera::BaseStrategy;
use gradtape_server::{
    config::{self, Config},
    server::{self, Server},
    telemetry::{self, LogFormat},
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

mod options;
mod settings;
mod token;

/// Tensors of a megabyte come and go with every step. The system's allocator gives such memory back and takes each page
/// anew; this one keeps it for a while.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a health check may take: below the interval of every orchestrator's probe.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Exit status after the store of sessions has failed: a supervisor starts the server again, which then reads what the disk
/// holds. It is `EX_SOFTWARE` of `sysexits.h`.
const STORE_FAILED: u8 = 70;

/// A gradient tape as a service.
///
/// Clients in any language stream tensor operations to the server; it records them on tapes and answers with gradients
/// and optimizer updates.
#[derive(Debug, Parser)]
#[command(
    name = "gradtape",
    version,
    after_help = "Examples:\n  \
    gradtape serve                               serve on 127.0.0.1:50051\n  \
    gradtape serve --listen 127.0.0.1:0          serve on a free port and print it\n  \
    gradtape healthcheck                         exit 0 if that server is well"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    #[command(after_help = "Examples:\n  \
        gradtape serve\n  \
        gradtape serve --listen 127.0.0.1:0 --session-memory 256MiB\n  \
        gradtape serve --checkpoint-store /srv/checkpoints --session-store /srv/sessions\n  \
        gradtape serve --log info,gradtape_server=debug --log-format json\n\n\
        The first line on standard output is `listening on ADDRESS:PORT`. The log goes to standard error.\n\
        SIGTERM and SIGINT drain: open streams finish what they have sent.")]
    Serve(Box<Serve>),
    /// Ask a running server whether it is well; exit 0 if it is and 1 if not.
    #[command(after_help = "Examples:\n  \
        gradtape healthcheck\n  \
        gradtape healthcheck 127.0.0.1:50052")]
    Healthcheck {
        /// Address of the server, as HOST:PORT or as a URL; https:// asks over TLS.
        #[arg(default_value = "127.0.0.1:50051")]
        address: String,
        /// File of certificates that are trusted instead of the machine's [implies https://].
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// Make, list and revoke the tokens of a token file.
    #[command(after_help = "Examples:\n  \
        gradtape token --file tokens.json create ada\n  \
        gradtape token --file tokens.json create mr-gauss --role teacher --class 7a --expires 90d\n  \
        gradtape token --file tokens.json list\n  \
        gradtape token --file tokens.json revoke ada\n\n\
        A running server follows the file: what is revoked stops within seconds, also where streams are open.")]
    Token(token::Token),
    /// Print every setting as Markdown, for docs/operations.md.
    #[command(hide = true)]
    Settings,
}

#[derive(Debug, Args)]
struct Serve {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, env = "GRADTAPE_LISTEN", default_value_t = config::Listen::default().address)]
    listen: SocketAddr,
    /// Allow an address that other machines can reach without TLS or without authentication. Warns each minute.
    #[arg(long)]
    insecure_bind: bool,
    #[command(flatten)]
    access: options::AccessOptions,
    /// Memory of one session, for example 256MiB.
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES", default_value = "1GiB")]
    session_memory: u64,
    /// Memory of all sessions together [default: three quarters of the machine's or container's].
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    server_memory: Option<u64>,
    /// Sessions at one time.
    #[arg(long, value_name = "COUNT", default_value_t = config::Sessions::default().max_sessions)]
    max_sessions: usize,
    /// Seconds that a session without a connection is kept.
    #[arg(long, value_name = "SECONDS", default_value_t = config::Sessions::default().time_to_live.as_secs())]
    session_ttl: u64,
    /// Seconds that a session is kept whose connection is open and sends nothing; its client is told before.
    #[arg(long, value_name = "SECONDS", default_value_t = config::Sessions::default().max_silence.as_secs())]
    max_silence: u64,
    /// Where checkpoints are: a folder, or the URL of a store, as in `s3://bucket/folder` if the build has the feature
    /// aws [default: gradtape/checkpoints in the user's data folder].
    #[arg(long, env = "GRADTAPE_CHECKPOINT_STORE", value_name = "URL")]
    checkpoint_store: Option<String>,
    /// Folder of the logs by which sessions survive the death of the server; on a local disk. Without it, or
    /// if it is empty, they are in memory only.
    #[arg(long, env = "GRADTAPE_SESSION_STORE", value_name = "FOLDER", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    session_store: Option<PathBuf>,
    /// Where sessions are copied to for the level PORTABLE, which survives the loss of the machine: a folder on another
    /// one, or a URL as for checkpoints. It takes a session store too.
    #[arg(long, env = "GRADTAPE_PORTABLE_STORE", value_name = "URL")]
    portable_store: Option<String>,
    /// How long a session's log may become before it is shortened with a snapshot, for example 64MiB; if the snapshot is
    /// larger, as long as that.
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES", default_value = "64MiB")]
    max_session_log: u64,
    /// Seconds of computing that may have to be done again for a session to come back, before its log is shortened.
    #[arg(long, value_name = "SECONDS", default_value_t = config::Durability::default().max_replay.as_secs())]
    max_session_replay: u64,
    /// Seconds without a command after which a session leaves memory for its log; 0 for never.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    hibernate_after: u64,
    /// Threads that compute; 0 takes one for each core.
    #[arg(long, value_name = "COUNT", default_value_t = config::Compute::default().threads)]
    threads: usize,
    /// Seconds that draining may take.
    #[arg(long, value_name = "SECONDS", default_value_t = config::Drain::default().timeout.as_secs())]
    drain_timeout: u64,
    /// Drain when standard input ends, so that a server never outlives the program that started it.
    #[arg(long)]
    exit_with_parent: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// What to log: a level, or a list as in `info,gradtape_server=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
    /// Where to send traces by OTLP over gRPC, as in `http://localhost:4317`. The client's `traceparent` is carried through.
    #[arg(long, env = "GRADTAPE_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

impl Serve {
    fn config(&self) -> anyhow::Result<Config> {
        let access = self.access.config()?;
        Ok(Config {
            listen: config::Listen { address: self.listen, insecure: self.insecure_bind },
            access,
            sessions: config::Sessions {
                max_sessions: self.max_sessions,
                time_to_live: Duration::from_secs(self.session_ttl),
                max_silence: Duration::from_secs(self.max_silence),
                server_memory_bytes: self.server_memory,
                session_memory_bytes: self.session_memory,
                ..Default::default()
            },
            checkpoints: config::Checkpoints {
                store: self.checkpoint_store.clone().or_else(default_store),
                ..Default::default()
            },
            durability: config::Durability {
                store: self.session_store.clone().filter(|folder| !folder.as_os_str().is_empty()),
                portable: self.portable_store.clone().filter(|place| !place.is_empty()),
                max_log_bytes: self.max_session_log,
                max_replay: Duration::from_secs(self.max_session_replay),
                hibernate_after: Some(Duration::from_secs(self.hibernate_after))
                    .filter(|after| !after.is_zero()),
                ..Default::default()
            },
            compute: config::Compute { threads: self.threads, ..Default::default() },
            drain: config::Drain { timeout: Duration::from_secs(self.drain_timeout) },
            ..Config::default()
        })
    }
}

/// The folder for checkpoints, if the user has one for data.
fn default_store() -> Option<String> {
    let folder = etcetera::choose_base_strategy().ok()?.data_dir().join("gradtape/checkpoints");
    folder.to_str().map(str::to_owned)
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve(&options).await,
        Command::Healthcheck { address, ca } => healthcheck(&address, ca.as_deref()).await,
        Command::Token(token) => token.run(&mut std::io::stdout()),
        Command::Settings => settings::print(&Cli::command(), &mut std::io::stdout()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gradtape: {error:#}");
            match error.downcast_ref() {
                Some(server::Error::SessionStoreFailed) => ExitCode::from(STORE_FAILED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn serve(options: &Serve) -> anyhow::Result<()> {
    let collector = options.otlp_endpoint.as_deref();
    let traces =
        telemetry::init(options.log_format, &options.log, collector).context("start the log")?;
    #[cfg(feature = "failpoints")]
    gradtape_server::failpoints::arm_by_environment()?;
    let server = Server::bind(options.config()?).await?;
    // Before anybody can know that we are here, and send a signal.
    let stop = shutdown(options.exit_with_parent)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", server.local_addr())?;
    if let Some(address) = server.metrics_addr() {
        writeln!(stdout, "metrics on http://{address}/metrics")?;
    }
    stdout.flush()?;
    let served = server.run(stop).await;
    // It blocks, and what it waits for runs on these threads.
    tokio::task::spawn_blocking(|| traces.finish()).await?;
    Ok(served?)
}

/// Completes when the server should stop.
fn shutdown(exit_with_parent: bool) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let (orphaned, parent) = tokio::sync::oneshot::channel();
    if exit_with_parent {
        // A thread of its own: a blocking read in tokio's pool would keep the runtime from ending.
        std::thread::spawn(move || {
            #[cfg(feature = "failpoints")]
            gradtape_server::failpoints::obey(std::io::stdin().lock());
            let mut ignored = [0; 256];
            while std::io::stdin().read(&mut ignored).is_ok_and(|n| n > 0) {}
            let _ = orphaned.send(());
        });
    } else {
        // Nobody is watched: this sender never sends and never goes.
        std::mem::forget(orphaned);
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = parent => {}
        }
    })
}

async fn healthcheck(address: &str, ca: Option<&Path>) -> anyhow::Result<()> {
    let url = match (address.contains("://"), ca) {
        (true, _) => address.to_owned(),
        (false, None) => format!("http://{address}"),
        (false, Some(_)) => format!("https://{address}"),
    };
    let mut endpoint = Endpoint::from_shared(url.clone())?;
    if url.starts_with("https://") {
        let mut tls = ClientTlsConfig::new();
        tls = match ca {
            Some(path) => {
                let pem = std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls)?;
    }
    let check = async {
        let mut client = HealthClient::new(endpoint.connect().await?);
        let response = client.check(HealthCheckRequest::default()).await?;
        anyhow::Ok(response.into_inner().status())
    };
    let status = tokio::time::timeout(HEALTHCHECK_TIMEOUT, check)
        .await
        .with_context(|| format!("{address} does not answer"))?
        .with_context(|| format!("cannot ask {address}"))?;
    match status {
        ServingStatus::Serving => Ok(()),
        status @ (ServingStatus::Unknown
        | ServingStatus::NotServing
        | ServingStatus::ServiceUnknown) => bail!("{address} is {}", status.as_str_name()),
    }
}

/// A number of bytes, with an optional unit: `1048576`, `512KiB`, `256MiB`, `2GiB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("{other:?} is no unit: B, KiB, MiB or GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text:?} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("12"), Ok(12));
        assert_eq!(parse_bytes("2KiB"), Ok(2048));
        assert_eq!(parse_bytes("1 GiB"), Ok(1 << 30));
        for wrong in ["", "MiB", "-1", "1.5GiB", "1GB", "99999999999GiB", "é"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
