//! Who comes in: tokens of our own, tokens of an identity provider, and certificates of clients.
//!
//! Whatever is wrong with a credential, the answer is the same; the log says no more, and never the credential.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tonic::codegen::http::{HeaderMap, header::AUTHORIZATION};

use self::{
    failures::Failures,
    jwks::{Fetcher, Source},
    jwt::Verifier,
    tokens::Tokens,
};
use crate::{
    accept::Peer,
    audit::{Audit, Event, Outcome},
    config::access::{Access as Config, Reflection},
    principal::Principal,
    session::error::ProtocolError,
    tls::{self, Acceptor},
};

mod failures;
pub mod jwks;
pub mod jwt;
pub mod tokens;

/// Calls that nobody has to say a name for: an orchestrator's probe has none.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Calls that show the schema, in both versions.
const REFLECTION: &str = "/grpc.reflection.";

/// Decides who a caller is.
#[derive(Debug)]
pub struct Access {
    config: Config,
    tokens: Option<Tokens>,
    verifier: Option<Arc<Verifier>>,
    /// Until somebody runs it.
    fetcher: Mutex<Option<Fetcher>>,
    tls: Option<Arc<Acceptor>>,
    failures: Failures,
    audit: Audit,
}

/// Why nobody could come in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token file cannot be used.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// The keys of the identity provider cannot be had.
    #[error(transparent)]
    Keys(#[from] jwks::Error),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Access {
    /// Reads everything that is configured.
    pub fn open(config: &Config, audit: Audit) -> Result<Arc<Self>, Error> {
        let tokens = config.token_file.as_deref().map(Tokens::open).transpose()?;
        let verifier = config
            .jwt
            .as_ref()
            .map(|jwt| Arc::new(Verifier::new(jwt.issuer.clone(), jwt.audience.clone())));
        if let (Some(verifier), Some(path)) = (&verifier, key_file(config)) {
            verifier.set_keys(jwks::read(path)?);
        }
        let fetcher = match config.jwt.as_ref().map(|jwt| &jwt.keys) {
            Some(Source::Url(uri)) => Some(Fetcher::new(uri.clone())?),
            Some(Source::File(_)) | None => None,
        };
        let others = tokens.is_some() || verifier.is_some();
        let tls = config.tls.as_ref().map(|files| Acceptor::open(files, others)).transpose()?;
        Ok(Arc::new(Self {
            tokens,
            verifier,
            fetcher: Mutex::new(fetcher),
            tls: tls.map(Arc::new),
            failures: Failures::new(config.max_failures_per_minute),
            audit,
            config: config.clone(),
        }))
    }

    /// What encrypts connections, if they are.
    pub fn tls(&self) -> Option<Arc<Acceptor>> {
        self.tls.clone()
    }

    /// Who makes a call. `peer` is missing only where no connection is, as in tests.
    pub fn identify(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Principal, ProtocolError> {
        let public = path.starts_with(HEALTH)
            || (path.starts_with(REFLECTION) && self.config.reflection == Reflection::Public);
        if public || !self.config.is_required() {
            return Ok(Principal::anonymous());
        }
        let address = peer.map(|peer| peer.address().ip());
        if let Some(wait) = address.and_then(|address| self.failures.blocked(address)) {
            return Err(ProtocolError::AuthenticationBlocked { wait });
        }
        let found = match bearer(headers) {
            Bearer::Token(token) => self.find(token),
            Bearer::Malformed => None,
            Bearer::Absent => peer.and_then(Peer::certified).filter(|one| one.is_valid()).cloned(),
        };
        found.ok_or_else(|| {
            if let Some(address) = address {
                self.failures.count(address);
            }
            self.audit.record(&Event::new("authenticate", Outcome::Refused).peer(peer));
            ProtocolError::Unauthenticated
        })
    }

    fn find(&self, token: &str) -> Option<Principal> {
        if Tokens::looks_like(token) {
            return self.tokens.as_ref()?.find(token);
        }
        self.verifier.as_ref()?.find(token)
    }

    /// Follows changes of files and keys for as long as somebody runs it.
    pub async fn follow(self: Arc<Self>) {
        let fetcher = self.fetcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fetching = async {
            if let (Some(fetcher), Some(verifier)) = (fetcher, &self.verifier) {
                fetcher.run(Arc::clone(verifier)).await;
            }
        };
        tokio::join!(fetching, self.reload_forever());
    }

    async fn reload_forever(&self) {
        let mut ticks = tokio::time::interval(self.config.reload_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Small local files: not worth a thread.
            self.reload();
        }
    }

    fn reload(&self) {
        if let Some(tokens) = &self.tokens {
            match tokens.reload() {
                Ok(true) => tracing::info!("read the token file again"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "keep the tokens that are known"),
            }
        }
        if let (Some(verifier), Some(path)) = (&self.verifier, key_file(&self.config)) {
            match jwks::read(path) {
                Ok(keys) => verifier.set_keys(keys),
                Err(error) => tracing::error!(%error, "keep the keys that are known"),
            }
        }
        if let Some(tls) = &self.tls
            && let Err(error) = tls.reload()
        {
            tracing::error!(%error, "keep the certificate that is known");
        }
    }
}

fn key_file(config: &Config) -> Option<&PathBuf> {
    match &config.jwt.as_ref()?.keys {
        Source::File(path) => Some(path),
        Source::Url(_) => None,
    }
}

/// What a call's `authorization` says.
enum Bearer<'a> {
    Token(&'a str),
    Malformed,
    Absent,
}

/// The token of a call: one header, of one scheme.
fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Bearer::Absent };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (token, values.next()) {
        (Some(token), None) => Bearer::Token(token),
        _ => Bearer::Malformed,
    }
}
