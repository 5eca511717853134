//! Who may come in and how much each may have, with defaults and their reasons.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::access::jwks::Source;

/// Who may come in.
#[derive(Clone, Debug)]
pub struct Access {
    /// Encryption; none means that what goes over the network can be read.
    pub tls: Option<Tls>,
    /// The file of tokens that are taken.
    pub token_file: Option<PathBuf>,
    /// The identity provider whose tokens are taken.
    pub jwt: Option<Jwt>,
    /// Who may ask for the schema.
    pub reflection: Reflection,
    /// Failed authentications of one address in a minute, before it is not listened to for a while. A person with a wrong
    /// token stays below it, and a guesser of 256 bits is not helped by it: it keeps the log and the processor free.
    pub max_failures_per_minute: u32,
    /// How often tokens, keys and certificates are read again: well below the minute within which a revoked token stops.
    pub reload_interval: Duration,
    /// What one principal may have.
    pub quota: Quota,
    /// Where the audit log goes.
    pub audit: Option<AuditLog>,
    /// Where metrics are served.
    pub metrics_address: Option<SocketAddr>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            tls: None,
            token_file: None,
            jwt: None,
            reflection: Reflection::default(),
            max_failures_per_minute: 30,
            reload_interval: Duration::from_secs(5),
            quota: Quota::default(),
            audit: None,
            metrics_address: None,
        }
    }
}

impl Access {
    /// Whether callers have to say who they are.
    pub fn is_required(&self) -> bool {
        let certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        certificates || self.token_file.is_some() || self.jwt.is_some()
    }

    /// Whether an address that other machines can reach may be used.
    pub fn is_fit_for_the_network(&self) -> bool {
        self.tls.is_some() && self.is_required()
    }
}

/// Files of certificates and keys, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate, followed by those between it and a root.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Who signs certificates of clients. With it, and without another way to say who one is, a client must have one.
    pub client_ca: Option<PathBuf>,
}

/// An identity provider.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Its keys.
    pub keys: Source,
    /// Its name, as its tokens have it.
    pub issuer: String,
    /// Our name, as its tokens must have it.
    pub audience: String,
}

/// Who may ask for the schema. It is public in our repository; what is hidden is only which version runs here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reflection {
    /// Whoever may use the server: everybody if nobody has to say who they are.
    #[default]
    Authenticated,
    /// Everybody.
    Public,
    /// Nobody.
    Off,
}

/// What one principal may have at one time. The anonymous principal is exempt: everybody on an open server is the same
/// one, so a class of sixty on a teacher's machine would share its eight sessions. There the server's own limits hold.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Sessions: a few notebooks, and one that was left behind by each until it expires.
    pub max_sessions: usize,
    /// Sessions made in a minute: a person who restarts a failing program stays below it, a loop does not.
    pub max_creations_per_minute: u32,
    /// Connections: two for each session, since one that broke may not be noticed for a while.
    pub max_connections: usize,
    /// Calls, and batches of streams, in a minute; 0 for any number. Beyond it they are refused. Each takes the threads of the
    /// network some 30 µs, so this is a third of a core; clients batch, and stay a hundred times below it.
    pub max_requests_per_minute: u32,
    /// How long its sessions may compute in a minute, summed over the threads that they run on; zero for any time. Beyond it
    /// they are delayed. One session that never rests takes 60 s, so this delays only those who keep several busy.
    pub compute_per_minute: Duration,
    /// Memory of its sessions together, in bytes: half of what they might take if each took all that it may.
    pub memory_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            max_sessions: 8,
            max_creations_per_minute: 20,
            max_connections: 16,
            max_requests_per_minute: 600_000,
            compute_per_minute: Duration::from_mins(1),
            memory_bytes: 4 << 30,
        }
    }
}

/// Where the audit log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLog {
    /// To standard output.
    StandardOutput,
    /// To the end of a file.
    File(PathBuf),
}
