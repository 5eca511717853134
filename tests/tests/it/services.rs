//! The services around the tape: health, reflection, catalogue, versions.

use std::collections::BTreeSet;

use gradtape_client::proto::{
    CreateSessionRequest, ListOpsRequest, catalog_service_client::CatalogServiceClient,
    session_service_client::SessionServiceClient,
};
use gradtape_tests::{
    Server,
    raw::{channel, reason},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

#[tokio::test]
async fn health_says_serving_for_the_server_and_each_service() {
    let server = Server::start().await;
    let mut health = HealthClient::new(channel(&server).await);
    let services =
        ["", "gradtape.v1.SessionService", "gradtape.v1.TapeService", "gradtape.v1.CatalogService"];
    for service in services {
        let request = HealthCheckRequest { service: service.to_owned() };
        let response = health.check(request).await.expect("a known service").into_inner();
        assert_eq!(response.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "gradtape.v1.Nothing".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}

/// Asks one version of reflection for the services; both have the same messages in packages of their own.
macro_rules! reflected_services {
    ($server:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let mut client = ServerReflectionClient::new(channel($server).await);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let responses = client.server_reflection_info(tokio_stream::once(request)).await;
        let mut responses = responses.expect("reflection").into_inner();
        let response = responses.message().await.expect("an answer").expect("one answer");
        let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else {
            panic!("no list of services")
        };
        list.service.into_iter().map(|service| service.name).collect::<BTreeSet<_>>()
    }};
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let server = Server::start().await;
    let listed = reflected_services!(&server, v1);
    assert_eq!(listed, reflected_services!(&server, v1alpha));
    for service in ["CatalogService", "SessionService", "TapeService"] {
        assert!(listed.contains(&format!("gradtape.v1.{service}")), "{service} in {listed:?}");
    }
    assert!(listed.contains("grpc.health.v1.Health"));
}

#[tokio::test]
async fn the_pages_of_the_catalogue_are_the_catalogue() {
    let server = Server::start().await;
    let mut catalog = CatalogServiceClient::new(channel(&server).await);
    let request = ListOpsRequest { page_size: 1_000, page_token: String::new() };
    let whole = catalog.list_ops(request).await.expect("a page").into_inner();
    assert!(whole.next_page_token.is_empty());
    let mut paged = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListOpsRequest { page_size: 7, page_token };
        let page = catalog.list_ops(request).await.expect("a page").into_inner();
        assert!(page.ops.len() <= 7);
        paged.extend(page.ops);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole.ops);
    assert!(paged.len() >= 50, "only {} ops", paged.len());
    for op in &paged {
        assert!(!op.summary.is_empty() && !op.dtypes.is_empty(), "{} is not documented", op.name);
    }
}

#[tokio::test]
async fn a_page_token_that_was_never_given_is_refused() {
    let server = Server::start().await;
    let mut catalog = CatalogServiceClient::new(channel(&server).await);
    let request = ListOpsRequest { page_size: 7, page_token: "!".to_owned() };
    assert_eq!(catalog.list_ops(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_client_from_the_future_is_refused() {
    let server = Server::start().await;
    let mut sessions = SessionServiceClient::new(channel(&server).await);
    let request = CreateSessionRequest { client: "tomorrow".to_owned(), protocol_version: 1_000 };
    let status = sessions.create_session(request).await.unwrap_err();
    assert_eq!((status.code(), &reason(&status)[..]), (Code::FailedPrecondition, "VERSION_UNSUPPORTED"));
    let request = CreateSessionRequest::default();
    let response = sessions.create_session(request).await.expect("an old client").into_inner();
    let credentials = response.credentials.expect("credentials");
    assert_eq!((credentials.session_id.len(), credentials.session_token.len()), (32, 64));
    let limits = response.server.and_then(|server| server.limits).expect("limits");
    assert!(limits.max_unapplied_commands > 0 && limits.max_inline_tensor_bytes > 0);
}
