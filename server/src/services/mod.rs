//! The gRPC services. Each method decodes, authenticates, delegates and encodes, and does nothing else.

pub mod admin;
pub mod catalog;
pub mod checkpoint;
pub mod session;
pub mod tape;

use std::{sync::Arc, time::Instant};

use gradtape_proto::v1;

use crate::{
    accept::Peer,
    audit::{Event, Outcome},
    checkpoints::store::Store,
    config::{Config, Limits},
    oversight::Oversight,
    principal::Principal,
    session::{error::ProtocolError, inbox::Session, registry::Registry},
};

/// What every service needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// All sessions.
    pub registry: Arc<Registry>,
    /// All checkpoints, if the server keeps any.
    pub checkpoints: Option<Arc<Store>>,
    /// Limits of the transport.
    pub config: Arc<Config>,
    /// What handshakes say about the server.
    pub server_info: Arc<v1::ServerInfo>,
    /// Quotas, audit log and metrics.
    pub oversight: Arc<Oversight>,
    /// When the server began to run.
    pub started: Instant,
}

impl Context {
    /// The session that credentials name, if `principal` may use it.
    pub fn authenticate(
        &self,
        principal: &Principal,
        credentials: Option<&v1::SessionCredentials>,
    ) -> Result<Arc<Session>, ProtocolError> {
        let credentials = required("credentials", credentials)?;
        self.registry.authenticate(&credentials.session_id, &credentials.session_token, principal)
    }
}

impl Context {
    /// The same, wherever it is: one that is in the portable store alone comes here first.
    pub async fn locate(
        &self,
        principal: &Principal,
        credentials: Option<&v1::SessionCredentials>,
    ) -> Result<Arc<Session>, ProtocolError> {
        let v1::SessionCredentials { session_id, session_token } =
            required("credentials", credentials)?;
        self.registry.fetch_if_absent(session_id, session_token, principal).await?;
        self.authenticate(principal, credentials)
    }

    /// The session that credentials name, if `principal` may use it, with all that it holds: one that is in a log alone comes
    /// back first, unless another server has it by now.
    pub async fn session(
        &self,
        principal: &Principal,
        credentials: Option<&v1::SessionCredentials>,
    ) -> Result<Arc<Session>, ProtocolError> {
        let session = self.locate(principal, credentials).await?;
        if let Some(journal) = session.journal().filter(|journal| !journal.is_open()) {
            journal.confirm().await?;
        }
        session.ready().await?;
        Ok(session)
    }
}

/// Who sent a request, and from where; for the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    peer: Option<Peer>,
}

impl Caller {
    fn of<T>(request: &tonic::Request<T>) -> Self {
        let extensions = request.extensions();
        let principal = extensions.get().cloned().unwrap_or_else(Principal::anonymous);
        Self { principal, peer: extensions.get().cloned() }
    }

    /// Something that this caller did.
    fn did<'a>(&self, event: &'static str) -> Event<'a> {
        Event::new(event, Outcome::Done).principal(&self.principal).peer(self.peer.as_ref())
    }
}

/// A field that must be given.
fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ProtocolError> {
    value.ok_or_else(|| ProtocolError::malformed(field, "must be given"))
}

/// Checks the size of a part of an upload.
fn check_chunk(chunk: &[u8], limits: &Limits) -> Result<(), ProtocolError> {
    if chunk.is_empty() || chunk.len() > limits.max_chunk_bytes {
        let why = format!("has {} bytes; 1 to {}", chunk.len(), limits.max_chunk_bytes);
        return Err(ProtocolError::malformed("chunk", why));
    }
    Ok(())
}

/// Who sent a request.
fn principal<T>(request: &tonic::Request<T>) -> Principal {
    request.extensions().get().cloned().unwrap_or_else(Principal::anonymous)
}
