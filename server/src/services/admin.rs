//! `AdminService`: lists and ends sessions, and says how the server is, as far as the caller's role allows.

use std::time::Duration;

use gradtape_proto::v1::{self, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

use super::{Caller, Context};
use crate::{
    principal::Action,
    session::{error::ProtocolError, registry::Overview},
    wire::server_info::duration,
};

/// Sessions in a page if the client does not say.
const DEFAULT_PAGE: usize = 100;
/// Most sessions in a page: about 150 KiB.
const MAX_PAGE: usize = 1000;

/// The service.
#[derive(Clone, Debug)]
pub struct Admin(pub Context);

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let caller = self.allowed(&request, Action::ListSessions)?;
        let v1::ListSessionsRequest { page_size, page_token } = request.into_inner();
        let size = page(page_size)?;
        let start = position(&page_token)?;
        let all = self.0.registry.list(&caller.principal);
        self.0.oversight.audit.record(&caller.did("list_sessions"));
        let end = start.saturating_add(size).min(all.len());
        let next_page_token = if end < all.len() { end.to_string() } else { String::new() };
        let sessions = all.iter().take(end).skip(start).map(overview).collect();
        Ok(Response::new(v1::ListSessionsResponse { sessions, next_page_token }))
    }

    async fn end_session(
        &self,
        request: Request<v1::EndSessionRequest>,
    ) -> Result<Response<v1::EndSessionResponse>, Status> {
        let caller = Caller::of(&request);
        let id = request.into_inner().session_id;
        let session = self.0.registry.find(&id, &caller.principal, Action::EndSession)?;
        self.0.registry.delete(&session);
        tracing::info!(session = %session.id(), by = %caller.principal, "end session");
        self.0.oversight.audit.record(&caller.did("end_session").session(session.id()));
        Ok(Response::new(v1::EndSessionResponse {}))
    }

    async fn get_statistics(
        &self,
        request: Request<v1::GetStatisticsRequest>,
    ) -> Result<Response<v1::GetStatisticsResponse>, Status> {
        self.allowed(&request, Action::ReadStatistics)?;
        let Context { registry, config, oversight, started, .. } = &self.0;
        let metrics = &oversight.metrics;
        let busy = Duration::try_from_secs_f64(metrics.compute_seconds.get()).unwrap_or_default();
        Ok(Response::new(v1::GetStatisticsResponse {
            uptime: Some(duration(started.elapsed())),
            sessions: registry.len() as u64,
            sessions_created: metrics.sessions_created.get(),
            connections: u64::try_from(metrics.connections.get()).unwrap_or_default(),
            memory_used_bytes: registry.ledger().used(),
            memory_limit_bytes: config.sessions.server_memory(),
            compute_threads: u32::try_from(config.compute.thread_count()).unwrap_or(u32::MAX),
            compute_busy: Some(duration(busy)),
            commands: metrics.commands.get(),
        }))
    }
}

impl Admin {
    /// The caller, if its role lets it do something.
    fn allowed<T>(&self, request: &Request<T>, action: Action) -> Result<Caller, ProtocolError> {
        let caller = Caller::of(request);
        if caller.principal.may(action) {
            return Ok(caller);
        }
        Err(self.0.oversight.refused(&caller.principal, ProtocolError::RoleMissing))
    }
}

fn overview(overview: &Overview) -> v1::SessionOverview {
    let Overview { session, owner, age, idle } = overview;
    let position = session.position();
    v1::SessionOverview {
        session_id: session.id().to_string(),
        owner: owner.to_string(),
        age: Some(duration(*age)),
        idle: Some(duration(*idle)),
        attached: position.attached,
        applied_commands: position.next_sequence.saturating_sub(1),
        memory_bytes: position.memory_bytes,
        handles: position.handles,
    }
}

fn page(size: i32) -> Result<usize, ProtocolError> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(ProtocolError::malformed("page_size", "is negative")),
    }
}

fn position(token: &str) -> Result<usize, ProtocolError> {
    if token.is_empty() {
        return Ok(0);
    }
    token.parse().map_err(|_| ProtocolError::malformed("page_token", "is not from this server"))
}
