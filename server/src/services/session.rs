//! `SessionService`: makes, describes and ends sessions.

use gradtape_proto::v1::{self, session_service_server::SessionService};
use tonic::{Request, Response, Status};

use super::{Caller, Context, principal};
use crate::{
    session::error::ProtocolError,
    wire::{PROTOCOL_VERSION, truncated},
};

/// Longest name of a client that is logged, in bytes.
const MAX_CLIENT_NAME: usize = 256;

/// The service.
#[derive(Clone, Debug)]
pub struct Sessions(pub Context);

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let caller = Caller::of(&request);
        let owner = caller.principal.clone();
        let v1::CreateSessionRequest { client, protocol_version } = request.into_inner();
        check_version(protocol_version)?;
        let (session, token) = self.0.registry.create_kept(&owner).await?;
        let client = truncated(&client, MAX_CLIENT_NAME);
        tracing::info!(session = %session.id(), %owner, client, "create session");
        self.0.oversight.audit.record(&caller.did("create_session").session(session.id()));
        Ok(Response::new(v1::CreateSessionResponse {
            credentials: Some(v1::SessionCredentials {
                session_id: session.id().to_string(),
                session_token: token.reveal(),
            }),
            server: Some(self.0.server_info.as_ref().clone()),
        }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let principal = principal(&request);
        let credentials = request.into_inner().credentials;
        let session = self.0.session(&principal, credentials.as_ref()).await?;
        let position = session.position();
        Ok(Response::new(v1::GetSessionResponse {
            next_sequence: position.next_sequence,
            attached: position.attached,
            memory_bytes: position.memory_bytes,
            handles: position.handles,
            durable_sequence: position.durable_sequence,
            server: Some(self.0.server_info.as_ref().clone()),
        }))
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::DeleteSessionResponse>, Status> {
        let caller = Caller::of(&request);
        let credentials = request.into_inner().credentials;
        let session = self.0.locate(&caller.principal, credentials.as_ref()).await?;
        self.0.registry.delete(&session);
        tracing::info!(session = %session.id(), "delete session");
        self.0.oversight.audit.record(&caller.did("delete_session").session(session.id()));
        Ok(Response::new(v1::DeleteSessionResponse {}))
    }

    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let server = Some(self.0.server_info.as_ref().clone());
        Ok(Response::new(v1::GetServerInfoResponse { server }))
    }
}

/// A client may be older than the server, not newer.
fn check_version(client: u32) -> Result<(), ProtocolError> {
    if client > PROTOCOL_VERSION {
        return Err(ProtocolError::VersionUnsupported { client, server: PROTOCOL_VERSION });
    }
    Ok(())
}
