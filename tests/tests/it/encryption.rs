//! Connections that others cannot read, and addresses that must not be open.

use std::{net::SocketAddr, time::Duration};

use gradtape_client::{Error, Session, proto, proto::admin_service_client::AdminServiceClient};
use gradtape_server::{
    config::Config,
    principal::Role,
    server::{Error as ServerError, Server as Inner},
};
use gradtape_tests::{
    Server,
    access::{Authority, Folder, Identity, holder},
    raw::connection,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig},
};

/// The value of a small computation, to see that a session works.
async fn compute(session: &Session) -> Vec<f32> {
    let x = session.constant([2.0f32, 3.0]);
    (&x * &x).value::<f32>().await.expect("a value")
}

#[tokio::test]
async fn a_session_over_tls_needs_a_server_that_the_client_trusts() {
    let (folder, authority, stranger) = (Folder::new(), Authority::new(), Authority::new());
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        folder.encrypt(config, &authority);
    })
    .await;
    let address = server.address().to_string();
    let builder = || Session::builder().token(&token);
    // With and without the scheme, and by a name that the certificate has.
    for address in [address.clone(), format!("https://{address}")] {
        let session = builder().tls(authority.pem()).connect(address).await.expect("a session");
        assert_eq!(compute(&session).await, [4.0, 9.0]);
        session.close().await.expect("the end of a session");
    }
    let named = builder().tls(authority.pem()).server_name("localhost");
    named.connect(address.clone()).await.expect("a session");
    let misnamed = builder().tls(authority.pem()).server_name("elsewhere.example");
    let wrong = [
        misnamed.connect(address.clone()).await,
        builder().tls(stranger.pem()).connect(address.clone()).await,
        builder().connect(format!("http://{address}")).await,
    ];
    for session in wrong {
        assert!(matches!(session, Err(Error::Transport(_))), "{session:?}");
    }
    let unnamed = Session::builder().tls(authority.pem()).connect(address).await;
    let Err(Error::Refused(refusal)) = unnamed else { panic!("{unnamed:?}") };
    assert_eq!((refusal.code, &refusal.reason[..]), (Code::Unauthenticated, "UNAUTHENTICATED"));
}

async fn owners(server: &Server, authority: &Authority, token: &str) -> Vec<String> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let endpoint = Channel::from_shared(format!("https://{}", server.address())).expect("a URL");
    let channel = endpoint.tls_config(tls).expect("TLS").connect().await.expect("a connection");
    let mut admin = AdminServiceClient::new(connection(channel, Some(token)));
    let request = proto::ListSessionsRequest::default();
    let list = admin.list_sessions(request).await.expect("a list").into_inner();
    list.sessions.into_iter().map(|session| session.owner).collect()
}

#[tokio::test]
async fn a_clients_certificate_says_who_it_is() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let admin = folder.token_of(holder("admin", Role::Admin, None));
    let server = Server::start_with(|config| {
        folder.protect(config);
        folder.encrypt(config, &authority);
        let ca = authority.write(&folder);
        config.access.tls.as_mut().expect("TLS").client_ca = Some(ca);
    })
    .await;
    let people = [
        (authority.client(&["ada.example", "other.example"], "not this"), "cert:ada.example"),
        (authority.client(&[], "ben"), "cert:ben"),
    ];
    let mut sessions = Vec::new();
    for (Identity { certificate, key }, name) in people {
        let builder = Session::builder().tls(authority.pem()).identity(certificate, key);
        let session = builder.connect(server.address().to_string()).await.expect("a session");
        assert_eq!(compute(&session).await, [4.0, 9.0]);
        sessions.push(session);
        assert_eq!(owners(&server, &authority, &admin).await.last().expect("a session"), name);
    }
    let Identity { certificate, key } = Authority::new().client(&["ada.example"], "ada");
    let builder = Session::builder().tls(authority.pem()).identity(certificate, key);
    let forged = builder.connect(server.address().to_string()).await;
    assert!(matches!(forged, Err(Error::Transport(_))), "{forged:?}");
    let nobody = Session::builder().tls(authority.pem()).connect(server.address().to_string());
    let Err(Error::Refused(refusal)) = nobody.await else { panic!("nobody came in") };
    assert_eq!(refusal.code, Code::Unauthenticated);
}

#[tokio::test]
async fn where_only_certificates_count_a_client_without_one_is_cut_off() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let server = Server::start_with(|config| {
        folder.encrypt(config, &authority);
        let ca = authority.write(&folder);
        config.access.tls.as_mut().expect("TLS").client_ca = Some(ca);
    })
    .await;
    let nobody = Session::builder().tls(authority.pem()).connect(server.address().to_string());
    let nobody = nobody.await;
    assert!(matches!(nobody, Err(Error::Transport(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let (folder, old, new) = (Folder::new(), Authority::new(), Authority::new());
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        folder.encrypt(config, &old);
    })
    .await;
    folder.encrypt(&mut Config::default(), &new);
    for _ in 0..10_000 {
        let builder = Session::builder().token(&token).tls(new.pem());
        if builder.connect(server.address().to_string()).await.is_ok() {
            return;
        }
    }
    panic!("the new certificate is never used");
}

/// Silence, half a preface, and half a handshake: each is closed in time, and delays nobody.
#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off_and_delays_nobody() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let token = folder.token("ada");
    let server = Server::start_with(|config| {
        folder.protect(config);
        folder.encrypt(config, &authority);
        config.transport.handshake_timeout = Duration::from_secs(2);
    })
    .await;
    // The beginning of a ClientHello: a record of 512 bytes of which five are there.
    let beginnings: [&[u8]; 3] = [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", b"PRI * HTT"];
    let mut silent = Vec::new();
    for beginning in beginnings {
        let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
        stream.write_all(beginning).await.expect("a few bytes");
        silent.push(stream);
    }
    let session = Session::builder().token(&token).tls(authority.pem());
    let session = session.connect(server.address().to_string()).await.expect("a session");
    assert_eq!(compute(&session).await, [4.0, 9.0]);
    for mut stream in silent {
        let mut rest = Vec::new();
        // Closed or reset, after an alert or without.
        let end =
            tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "still open");
    }
}

/// Rows: encrypted, authenticated, a flag with a frightening name; whether other machines may reach it.
#[tokio::test]
async fn an_address_of_the_network_needs_encryption_and_authentication() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.token("ada");
    let table = [
        (false, false, false, false),
        (true, false, false, false),
        (false, true, false, false),
        (true, true, false, true),
        (false, false, true, true),
    ];
    for (encrypted, authenticated, insecure, allowed) in table {
        let mut config = Config::default();
        config.listen.address = SocketAddr::from(([0, 0, 0, 0], 0));
        config.listen.insecure = insecure;
        if encrypted {
            folder.encrypt(&mut config, &authority);
        }
        if authenticated {
            folder.protect(&mut config);
        }
        match Inner::bind(config).await {
            Ok(_) => assert!(allowed, "{encrypted} {authenticated} {insecure}"),
            Err(ServerError::InsecureAddress(_)) => {
                assert!(!allowed, "{encrypted} {authenticated} {insecure}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let changes: [fn(&mut Config, &Folder); 4] = [
        |config, folder| config.access.token_file = Some(folder.path("missing")),
        |config, folder| config.access.token_file = Some(folder.write("broken", "{")),
        |config, folder| {
            config.access.tls.as_mut().expect("TLS").key = folder.path("missing");
        },
        |config, folder| {
            config.access.tls.as_mut().expect("TLS").certificate = folder.write("broken", "x");
        },
    ];
    for change in changes {
        let mut config = Config::default();
        config.listen.address = SocketAddr::from(([127, 0, 0, 1], 0));
        folder.encrypt(&mut config, &authority);
        change(&mut config, &folder);
        let error = Inner::bind(config).await.map(drop).expect_err("a server");
        assert!(matches!(error, ServerError::Access(_)), "{error}");
    }
}
