//! `CatalogService`: lists the tables of ops, optimizers and schedules.

use gradtape_engine::ops;
use gradtape_proto::v1::{self, catalog_service_server::CatalogService};
use tonic::{Request, Response, Status};

use crate::{session::error::ProtocolError, wire::catalog};

/// Ops in a page if the client does not say.
const DEFAULT_PAGE: usize = 100;
/// Most ops in a page: about 300 KiB.
const MAX_PAGE: usize = 1000;

/// The service.
#[derive(Clone, Debug)]
pub struct Catalog;

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn list_ops(
        &self,
        request: Request<v1::ListOpsRequest>,
    ) -> Result<Response<v1::ListOpsResponse>, Status> {
        let v1::ListOpsRequest { page_size, page_token } = request.into_inner();
        let start = position(&page_token)?;
        let end = start.saturating_add(page(page_size)?).min(ops::ALL.len());
        let next_page_token = if end < ops::ALL.len() { end.to_string() } else { String::new() };
        let ops = ops::ALL[start..end].iter().map(|op| catalog::op_info(op)).collect();
        Ok(Response::new(v1::ListOpsResponse { ops, next_page_token }))
    }

    async fn list_optimizers(
        &self,
        _: Request<v1::ListOptimizersRequest>,
    ) -> Result<Response<v1::ListOptimizersResponse>, Status> {
        Ok(Response::new(catalog::optimizers()))
    }
}

fn page(size: i32) -> Result<usize, ProtocolError> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(ProtocolError::malformed("page_size", "is negative")),
    }
}

/// Tokens are positions in the table, which never changes while the server runs.
fn position(token: &str) -> Result<usize, ProtocolError> {
    if token.is_empty() {
        return Ok(0);
    }
    let position = token.parse().ok().filter(|&position| position <= ops::ALL.len());
    position.ok_or_else(|| ProtocolError::malformed("page_token", "is not from this server"))
}
