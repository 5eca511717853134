//! What operators see and set: limits of principals, the audit log, metrics.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use gradtape_client::proto::{
    DeleteSessionRequest, EndSessionRequest, admin_service_client::AdminServiceClient,
    command::Kind,
};
use gradtape_server::principal::Role;
use gradtape_tests::{
    Server,
    access::{Folder, holder},
    folder,
    raw::{Raw, channel, command, connection, constant, reason},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Fails unless a status says used, limit and how long to wait.
pub(crate) fn quota(status: &Status, name: &str, limit: usize) {
    let got = (status.code(), &reason(status)[..]);
    assert_eq!(got, (Code::ResourceExhausted, name), "{status:?}");
    let details = status.get_error_details();
    let metadata = &details.error_info().expect("a reason").metadata;
    let limit = limit.to_string();
    assert_eq!((&metadata["used"], &metadata["limit"]), (&limit, &limit));
    assert!(status.message().contains(&limit) && status.message().contains(": "), "{status:?}");
    let wait = details.retry_info().and_then(|info| info.retry_delay).expect("how long to wait");
    assert!(wait > Duration::ZERO && wait <= Duration::from_mins(1));
    assert_eq!(details.quota_failure().expect("a quota").violations.len(), 1);
}

#[tokio::test]
async fn a_principal_has_so_many_sessions_and_gets_back_what_it_ends() {
    let folder = Folder::new();
    let (ada, ben) = (folder.token("ada"), folder.token("ben"));
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.max_sessions = 2;
        config.access.quota.max_creations_per_minute = 4;
    })
    .await;
    let channel = channel(&server).await;
    let make = async |token: &str| Raw::over(connection(channel.clone(), Some(token))).await;
    let first = make(&ada).await.expect("the first");
    make(&ada).await.expect("the second");
    quota(&make(&ada).await.unwrap_err(), "PRINCIPAL_SESSIONS", 2);
    make(&ben).await.expect("somebody else's");
    let end = async |raw: &Raw| {
        let request = DeleteSessionRequest { credentials: Some(raw.credentials.clone()) };
        raw.sessions.clone().delete_session(request).await.expect("an end");
    };
    end(&first).await;
    let third = make(&ada).await.expect("in place of the first");
    end(&third).await;
    let fourth = make(&ada).await.expect("the fourth within a minute");
    end(&fourth).await;
    quota(&make(&ada).await.unwrap_err(), "PRINCIPAL_SESSION_RATE", 4);
}

#[tokio::test]
async fn a_principal_has_so_many_connections() {
    let folder = Folder::new();
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.max_connections = 1;
    })
    .await;
    let first = Raw::connect_as(&server, &token).await.expect("the first connection");
    first.position().await.expect("a second call over it");
    quota(&Raw::connect_as(&server, &token).await.unwrap_err(), "PRINCIPAL_CONNECTIONS", 1);
    first.position().await.expect("the first goes on");
}

#[tokio::test]
async fn a_class_shares_an_open_server_as_one_nobody() {
    let server = Server::start_with(|config| config.access.quota.max_sessions = 1).await;
    let channel = channel(&server).await;
    for _ in 0..60 {
        Raw::over(connection(channel.clone(), None)).await.expect("a student's session");
    }
}

// === audit ===

#[tokio::test]
async fn what_was_done_is_in_the_audit_log_and_what_was_computed_is_not() {
    let folder = Folder::new();
    let ada = folder.token("ada");
    let ben = folder.token("ben");
    let admin = folder.token_of(holder("root", Role::Admin, None));
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.max_sessions = 1;
    })
    .await;
    let hers = Raw::connect_as(&server, &ada).await.expect("a session");
    let id = hers.credentials.session_id.clone();
    Raw::connect_as(&server, "gt_wrong").await.expect_err("a wrong token");
    Raw::connect_as(&server, &ada).await.expect_err("a second session");
    let stolen = hers.moved_to(connection(channel(&server).await, Some(&ben)));
    stolen.position().await.expect_err("somebody else's session");
    let mut stream = hers.stream().await.expect("a stream");
    let secret = Kind::CreateVariable(gradtape_client::proto::CreateVariable {
        variable: 2,
        name: "my-secret-name".into(),
        initial_value: 1,
        trainable: None,
    });
    stream.execute(1, vec![constant(1, &[1.0]), command(secret)]).await.expect("a batch");
    hers.stream().await.expect("another stream");
    let mut overseer = AdminServiceClient::new(connection(channel(&server).await, Some(&admin)));
    overseer.end_session(EndSessionRequest { session_id: id.clone() }).await.expect("an end");
    // Stopping writes what is left.
    server.stopped().await;
    let lines = folder.audit();
    let expected = [
        ("authenticate", "done", Some("token:ada"), false),
        ("create_session", "done", Some("token:ada"), true),
        ("authenticate", "refused", None, false),
        ("refuse", "refused", Some("token:ada"), false),
        ("use_session", "refused", Some("token:ben"), true),
        ("attach_session", "done", Some("token:ada"), true),
        ("resume_session", "done", Some("token:ada"), true),
        ("end_session", "done", Some("token:root"), true),
        ("drain", "done", None, false),
    ];
    for (event, outcome, principal, with_session) in expected {
        let found = lines.iter().any(|line| {
            line["event"] == event
                && line["outcome"] == outcome
                && line["principal"].as_str() == principal
                && line["session"].as_str() == with_session.then_some(&id[..])
        });
        assert!(found, "no {outcome} {event} of {principal:?} in {lines:#?}");
    }
    let text = std::fs::read_to_string(folder.audit_file()).expect("a log");
    let token_of_session = &hers.credentials.session_token[..];
    for secret in [&ada, &ben, &admin, "my-secret-name", "gt_wrong", token_of_session] {
        assert!(!text.contains(secret), "{secret} in the audit log");
    }
}

// === metrics ===

/// What a server shows to Prometheus: name with labels, and value.
pub(crate) async fn scrape(server: &Server) -> (String, HashMap<String, f64>) {
    let address = server.metrics_address().expect("an address of metrics");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("a page");
    let (head, body) = page.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    assert!(body.ends_with("# EOF\n"), "OpenMetrics ends with EOF");
    let numbers = body.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number in {line}")))
    });
    (body.to_owned(), numbers.collect())
}

#[tokio::test]
async fn metrics_count_what_happened_and_name_nobody() {
    let folder = Folder::new();
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.max_sessions = 1;
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let raw = Raw::connect_as(&server, &token).await.expect("a session");
    Raw::connect_as(&server, &token).await.expect_err("a second session");
    Raw::connect_as(&server, "gt_wrong").await.expect_err("a wrong token");
    raw.execute(1, vec![constant(1, &[1.0]), constant(2, &[2.0])]).await.expect("two commands");
    // An answer leaves before the thread that made it has added up its time.
    let (text, numbers) = loop {
        let (text, numbers) = scrape(&server).await;
        if numbers.get("gradtape_compute_seconds_total").is_some_and(|busy| *busy > 0.0) {
            break (text, numbers);
        }
    };
    let call = |method: &str, code: &str| {
        format!("gradtape_requests_total{{method=\"/gradtape.v1.{method}\",code=\"{code}\"}}")
    };
    let expected = [
        (call("SessionService/CreateSession", "OK"), 1.0),
        (call("SessionService/CreateSession", "RESOURCE_EXHAUSTED"), 1.0),
        (call("SessionService/CreateSession", "UNAUTHENTICATED"), 1.0),
        (call("TapeService/Execute", "OK"), 1.0),
        ("gradtape_refusals_total{reason=\"PRINCIPAL_SESSIONS\"}".to_owned(), 1.0),
        ("gradtape_authentication_failures_total".to_owned(), 1.0),
        ("gradtape_commands_total".to_owned(), 2.0),
        ("gradtape_sessions".to_owned(), 1.0),
        ("gradtape_sessions_created_total".to_owned(), 1.0),
        ("gradtape_queue_seconds_count".to_owned(), 1.0),
        ("gradtape_execution_seconds_count".to_owned(), 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(numbers.get(&name), Some(&value), "{name} in\n{text}");
    }
    for name in [
        "gradtape_received_bytes_total",
        "gradtape_sent_bytes_total",
        "gradtape_connections",
        "gradtape_memory_used_bytes",
        "gradtape_memory_limit_bytes",
    ] {
        assert!(numbers.get(name).is_some_and(|value| *value > 0.0), "{name} in\n{text}");
    }
    for secret in [&raw.credentials.session_id[..], "ada", &token] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}

#[tokio::test]
async fn a_command_beyond_the_memory_limit_is_counted() {
    let server = Server::start_with(|config| {
        config.sessions.session_memory_bytes = 1 << 20;
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let session = server.session().await;
    // A million products of two thousand numbers.
    let numbers = session.constant(vec![1.0f32; 1000]);
    let expand = |axis: i64| session.op("expand_dims", [&numbers], [("axis", axis.into())]);
    let products = &expand(0) * &expand(1);
    let error = products.value::<f32>().await.expect_err("too much");
    let cause = error.failure().and_then(|failure| failure.cause.as_ref()).expect("a cause");
    assert_eq!(cause.reason, "MEMORY_LIMIT");
    let (text, numbers) = scrape(&server).await;
    let name = "gradtape_refusals_total{reason=\"MEMORY_LIMIT\"}";
    assert_eq!(numbers.get(name), Some(&1.0), "{text}");
}

/// Names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    // The manual also names a crate, for the log.
    words.filter(|word| word.starts_with("gradtape_") && *word != "gradtape_server").collect()
}

#[tokio::test]
async fn the_dashboard_and_the_manual_ask_only_for_metrics_that_there_are() {
    let server = Server::start_with(|config| {
        config.sessions.max_sessions = 1;
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    // Metrics with labels are there once something was counted.
    let raw = Raw::connect(&server).await;
    raw.execute(1, vec![constant(1, &[1.0])]).await.expect("a command");
    Raw::over(connection(channel(&server).await, None)).await.expect_err("a second session");
    let (text, _) = scrape(&server).await;
    let served = metrics_in(&text);
    for path in ["../deploy/grafana/dashboards/gradtape.json", "../docs/operations.md"] {
        let page = std::fs::read_to_string(folder(path)).expect("a file of the repository");
        let asked = metrics_in(&page);
        assert!(asked.len() >= 8, "{path} asks for {asked:?}");
        let missing: Vec<_> = asked.difference(&served).collect();
        assert!(missing.is_empty(), "{path} asks for {missing:?}");
    }
}

/// Method names that callers make up would be labels without end.
#[tokio::test]
async fn made_up_methods_are_counted_as_one() {
    let server = Server::start_with(|config| {
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let mut client = tonic::client::Grpc::new(channel(&server).await);
    for name in ["/a.B/C", "/gradtape.v1.TapeService/Nothing"] {
        client.ready().await.expect("a connection");
        let request = tonic::Request::new(gradtape_client::proto::GetServerInfoRequest {});
        let codec: tonic_prost::ProstCodec<_, gradtape_client::proto::GetServerInfoResponse> =
            tonic_prost::ProstCodec::default();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(name);
        let status = client.unary(request, path, codec).await.expect_err("no such method");
        assert_eq!(status.code(), Code::Unimplemented);
    }
    let (text, numbers) = scrape(&server).await;
    let name = "gradtape_requests_total{method=\"other\",code=\"UNIMPLEMENTED\"}";
    assert_eq!(numbers.get(name), Some(&2.0), "{text}");
    assert!(!text.contains("a.B"));
}
