//! Who may come in, and what becomes of sessions when they no longer may.

use std::{collections::BTreeSet, time::Duration};

use gradtape_client::proto::{
    self, UploadTensorRequest, download_tensor_response, upload_tensor_request,
};
use gradtape_server::{access::tokens::Holder, config::access::Access, principal::Role};
use gradtape_tests::{
    Server,
    access::{Folder, Provider, claims, holder, jwt, now},
    raw::{Raw, Stream, channel, connection, constant, fetch, reason},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn unauthenticated(status: &Status) {
    let got = (status.code(), &reason(status)[..]);
    assert_eq!(got, (Code::Unauthenticated, "UNAUTHENTICATED"), "{status:?}");
}

/// How a stream ends that must not go on.
async fn end(mut stream: Stream) -> Status {
    let end = tokio::time::timeout(Duration::from_secs(30), stream.failure()).await;
    end.expect("the stream goes on")
}

// === tokens ===

#[tokio::test]
async fn only_a_known_token_opens_the_door_and_health_needs_none() {
    let folder = Folder::new();
    let token = folder.token("ada");
    let server = Server::start_with(|config| folder.protect(config)).await;
    Raw::connect_as(&server, &token).await.expect("a known token");
    let mut messages = BTreeSet::new();
    let other = format!("gt_{}", "0".repeat(64));
    for wrong in [None, Some(""), Some("gt_"), Some(&other[..]), Some(&token[3..]), Some("a.b.c")] {
        let raw = Raw::over(connection(channel(&server).await, wrong)).await;
        let status = raw.expect_err("a session without a token");
        unauthenticated(&status);
        messages.insert(format!("{} {:?}", status.message(), status.details()));
    }
    assert_eq!(messages.len(), 1, "the causes can be told apart: {messages:?}");
    let mut health = HealthClient::new(channel(&server).await);
    health.check(HealthCheckRequest::default()).await.expect("an answer to a probe");
}

#[tokio::test]
async fn reflection_is_for_whoever_may_use_the_server() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let folder = Folder::new();
    let token = folder.token("ada");
    let server = Server::start_with(|config| folder.protect(config)).await;
    let ask = async |token: Option<&str>| {
        let mut client = ServerReflectionClient::new(connection(channel(&server).await, token));
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answer = client.server_reflection_info(tokio_stream::once(request)).await?;
        answer.into_inner().message().await
    };
    unauthenticated(&ask(None).await.unwrap_err());
    ask(Some(&token)).await.expect("an answer").expect("a list");
}

#[tokio::test]
async fn a_revoked_token_ends_its_open_stream_and_no_other() {
    let interval = Access::default().reload_interval;
    assert!(
        interval < Duration::from_mins(1),
        "a revoked token stops within 60 s, not {interval:?}"
    );
    let folder = Folder::new();
    let (ada, ben) = (folder.token("ada"), folder.token("ben"));
    let server = Server::start_with(|config| folder.protect(config)).await;
    let [ada, ben] = [
        Raw::connect_as(&server, &ada).await.expect("ada's session"),
        Raw::connect_as(&server, &ben).await.expect("ben's session"),
    ];
    let (mut silent, mut other) = (ada.stream().await.unwrap(), ben.stream().await.unwrap());
    silent.execute(1, vec![constant(1, &[1.0])]).await.expect("a batch before the end");
    folder.revoke("ada");
    // It says nothing and is ended all the same.
    unauthenticated(&end(silent).await);
    unauthenticated(&ada.position().await.unwrap_err());
    other.execute(1, vec![constant(1, &[1.0])]).await.expect("a batch of somebody else");
}

#[tokio::test]
async fn a_token_that_expires_ends_its_open_stream() {
    let folder = Folder::new();
    let lifetime = Some(Duration::from_secs(3));
    let token = folder.token_of(Holder { lifetime, ..holder("ada", Role::User, None) });
    let server = Server::start_with(|config| folder.protect(config)).await;
    let raw = Raw::connect_as(&server, &token).await.expect("a session in time");
    let stream = raw.stream().await.expect("a stream in time");
    unauthenticated(&end(stream).await);
}

#[tokio::test]
async fn a_new_token_is_taken_without_a_restart() {
    let folder = Folder::new();
    folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.max_failures_per_minute = 0;
    })
    .await;
    let token = folder.token("ben");
    // Each try is a round trip; the file is read again each 10 ms.
    for _ in 0..100_000 {
        if Raw::connect_as(&server, &token).await.is_ok() {
            return;
        }
    }
    panic!("the new token is never taken");
}

#[tokio::test]
async fn an_address_that_fails_too_often_has_to_wait() {
    let folder = Folder::new();
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.max_failures_per_minute = 3;
    })
    .await;
    let channel = channel(&server).await;
    for _ in 0..4 {
        let raw = Raw::over(connection(channel.clone(), Some("gt_wrong"))).await;
        unauthenticated(&raw.unwrap_err());
    }
    let status = Raw::over(connection(channel, Some(&token))).await.unwrap_err();
    let got = (status.code(), &reason(&status)[..]);
    assert_eq!(got, (Code::ResourceExhausted, "AUTHENTICATION_BLOCKED"));
    let wait =
        tonic_types::StatusExt::get_details_retry_info(&status).and_then(|info| info.retry_delay);
    // Three failures a minute are one in 20 s.
    assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(20)), "{wait:?}");
}

// === sessions of others ===

/// Whatever ben tries with ada's session, even with its secret, he learns nothing: not that it exists, and nothing of
/// the server.
#[tokio::test]
async fn a_session_is_unknown_to_everybody_else() {
    let folder = Folder::new();
    let (ada, ben) = (folder.token("ada"), folder.token("ben"));
    let server = Server::start_with(|config| folder.protect(config)).await;
    let hers = Raw::connect_as(&server, &ada).await.expect("ada's session");
    hers.execute(1, vec![constant(1, &[1.0])]).await.expect("a value");
    let stolen = hers.moved_to(connection(channel(&server).await, Some(&ben)));
    let credentials = Some(hers.credentials.clone());
    let mut seen = vec![
        stolen.position().await.unwrap_err(),
        stolen.execute(2, vec![fetch(1)]).await.unwrap_err(),
        stolen.stream().await.unwrap_err(),
    ];
    let delete = proto::DeleteSessionRequest { credentials: credentials.clone() };
    seen.push(stolen.sessions.clone().delete_session(delete).await.unwrap_err());
    let download = proto::DownloadTensorRequest {
        credentials: credentials.clone(),
        value: 1,
        after_sequence: 0,
    };
    seen.push(stolen.tapes.clone().download_tensor(download).await.unwrap_err());
    let header = proto::UploadHeader { credentials, upload: 1, spec: None };
    let kind = Some(upload_tensor_request::Kind::Header(header));
    let upload = tokio_stream::once(UploadTensorRequest { kind });
    seen.push(stolen.tapes.clone().upload_tensor(upload).await.unwrap_err());
    for status in &seen {
        assert_eq!((status.code(), &reason(status)[..]), (Code::NotFound, "UNKNOWN_SESSION"));
        tells_nothing(status, &[&hers.credentials.session_id, "token:"]);
    }
    let reply = hers.execute(2, vec![fetch(1)]).await.expect("ada's session goes on");
    assert_eq!(reply.replies.len(), 1);
    let download = proto::DownloadTensorRequest {
        credentials: Some(hers.credentials.clone()),
        value: 1,
        after_sequence: 0,
    };
    let mut parts = hers.tapes.clone().download_tensor(download).await.unwrap().into_inner();
    let first = parts.message().await.unwrap().and_then(|part| part.kind);
    assert!(matches!(first, Some(download_tensor_response::Kind::Spec(_))), "{first:?}");
}

/// Fails if an error says what it should not: words of others, or of how the server is made.
fn tells_nothing(status: &Status, words: &[&str]) {
    let text = format!(
        "{} {} {:?}",
        status.message(),
        String::from_utf8_lossy(status.details()),
        status.metadata()
    );
    let internals = [".rs", "src/", "panick", "unwrap", "Mutex", "/tmp", ".json", "0x"];
    for word in words.iter().chain(&internals) {
        assert!(!text.contains(word), "{word:?} in {text}");
    }
}

// === JWT ===

struct Tried {
    what: &'static str,
    token: String,
    accepted: bool,
}

fn changed(subject: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims(subject);
    change(&mut claims);
    claims
}

/// Every way in which a token may be wrong that we could think of, between two that are right.
fn table(provider: &Provider) -> Vec<Tried> {
    let now = now();
    let sign = |what, accepted, change: &dyn Fn(&mut Value)| Tried {
        what,
        token: provider.sign(&changed("ada", |claims| change(claims))),
        accepted,
    };
    let without = |what, claim: &'static str| {
        sign(what, false, &|claims| {
            claims.as_object_mut().expect("claims").remove(claim);
        })
    };
    let mut table = vec![
        sign("in order", true, &|_| {}),
        sign("for several", true, &|claims| claims["aud"] = json!(["others", "gradtape-test"])),
        sign("over for less than the leeway", true, &|claims| claims["exp"] = json!(now - 30)),
        sign("over", false, &|claims| claims["exp"] = json!(now - 120)),
        sign("not yet", false, &|claims| claims["nbf"] = json!(now + 120)),
        sign("another issuer", false, &|claims| claims["iss"] = json!("https://evil.example")),
        sign("another audience", false, &|claims| claims["aud"] = json!("others")),
        sign("an unknown role", false, &|claims| claims["role"] = json!("king")),
        sign("a subject with a line break", false, &|claims| claims["sub"] = json!("a\nb")),
        sign("no subject at all", false, &|claims| claims["sub"] = json!("")),
        without("no iss", "iss"),
        without("no aud", "aud"),
        without("no sub", "sub"),
        without("no exp", "exp"),
        without("no nbf", "nbf"),
    ];
    table.extend(forged(provider));
    table
}

fn forged(provider: &Provider) -> Vec<Tried> {
    let good = provider.sign(&claims("ada"));
    let parts: Vec<&str> = good.split('.').collect();
    let other = Provider::new(provider.key_id).sign(&claims("ada"));
    let unknown = Provider::new("unknown").sign(&claims("ada"));
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(provider.key_id.to_owned());
    let secret = EncodingKey::from_secret(&provider.public_bytes());
    let confused = jsonwebtoken::encode(&header, &claims("ada"), &secret).expect("a token");
    let admin = provider.sign(&changed("ada", |claims| claims["role"] = json!("admin")));
    let swapped = format!("{}.{}.{}", parts[0], admin.split('.').nth(1).expect("claims"), parts[2]);
    // {"alg":"none"} and {"alg":"NONE","kid":"key"}, in base64.
    let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    let shouted = format!("eyJhbGciOiJOT05FIiwia2lkIjoia2V5In0.{}.", parts[1]);
    let tried = |what, token| Tried { what, token, accepted: false };
    vec![
        tried("signed by another key", other),
        tried("signed by an unknown key", unknown),
        tried("the public key as a shared secret", confused),
        tried("claims of another token", swapped),
        tried("no algorithm", none),
        tried("no algorithm, loudly", shouted),
        tried("no signature", format!("{}.{}.", parts[0], parts[1])),
        tried("too long", "a".repeat(9000)),
    ]
}

#[tokio::test]
async fn a_jwt_must_be_right_in_everything() {
    let (folder, provider) = (Folder::new(), Provider::new("key"));
    let server = Server::start_with(|config| {
        folder.trust(config, &provider);
        config.access.max_failures_per_minute = 0;
    })
    .await;
    let channel = channel(&server).await;
    for Tried { what, token, accepted } in table(&provider) {
        match Raw::over(connection(channel.clone(), Some(&token))).await {
            Ok(_) => assert!(accepted, "taken although: {what}"),
            Err(status) => {
                assert!(!accepted, "refused although: {what}: {status:?}");
                unauthenticated(&status);
            }
        }
    }
}

#[tokio::test]
async fn a_jwt_that_expires_ends_its_open_stream() {
    let (folder, provider) = (Folder::new(), Provider::new("key"));
    let server = Server::start_with(|config| folder.trust(config, &provider)).await;
    // The leeway of 60 s is over in three seconds.
    let token = provider.sign(&changed("ada", |claims| claims["exp"] = json!(now() - 57)));
    let raw = Raw::connect_as(&server, &token).await.expect("a session in time");
    let stream = raw.stream().await.expect("a stream in time");
    unauthenticated(&end(stream).await);
}

#[tokio::test]
async fn one_name_from_two_sources_is_two_principals() {
    let (folder, provider) = (Folder::new(), Provider::new("key"));
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        folder.trust(config, &provider);
    })
    .await;
    let raw = Raw::connect_as(&server, &token).await.expect("a session of token:ada");
    let jwt = provider.sign(&claims("ada"));
    let stolen = raw.moved_to(connection(channel(&server).await, Some(&jwt)));
    assert_eq!(stolen.position().await.unwrap_err().code(), Code::NotFound);
}

/// Keys by HTTP: a server of one page on loopback.
#[tokio::test]
async fn keys_are_fetched_from_an_address() {
    let provider = Provider::new("key");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let document = provider.document();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a whole request"));
            }
            let length = document.len();
            let page = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{document}");
            stream.write_all(page.as_bytes()).await.expect("a client that waits");
        }
    });
    let server = Server::start_with(|config| {
        config.access.jwt = Some(jwt(&url));
        config.access.max_failures_per_minute = 0;
    })
    .await;
    let token = provider.sign(&claims("ada"));
    for _ in 0..100_000 {
        if Raw::connect_as(&server, &token).await.is_ok() {
            return;
        }
    }
    panic!("the keys are never there");
}
