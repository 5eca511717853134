//! The keys of an identity provider come over HTTPS, from a server that the machine trusts.

#![expect(clippy::unwrap_used, reason = "in a test, panicking is how to fail")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use gradtape_proto::v1::{GetServerInfoRequest, session_service_client::SessionServiceClient};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, transport::Endpoint};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A provider of one page. It tells of each request that got through, and of handshakes that failed.
async fn provide(authority: &Authority, page: String) -> (String, mpsc::UnboundedReceiver<bool>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                sender.send(false).unwrap();
                continue;
            };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let length = page.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{page}");
            // Whether the other end got it shows in what it does then.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.flush().await;
            sender.send(!request.is_empty()).unwrap();
        }
    });
    (url, asked)
}

/// A server that trusts one authority and ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(jwks: &str, trusted: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gradtape"))
            .args(["serve", "--listen", "127.0.0.1:0", "--exit-with-parent", "--jwks", jwks])
            .args(["--jwt-issuer", "issuer", "--jwt-audience", "us", "--max-auth-failures", "0"])
            .env("SSL_CERT_FILE", trusted)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = format!("http://{}", line.trim().strip_prefix("listening on ").unwrap());
        Self { child, url }
    }

    async fn ask(&self, token: &str) -> Result<(), Code> {
        let channel = Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        let mut request = Request::new(GetServerInfoRequest {});
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let answer = SessionServiceClient::new(channel).get_server_info(request).await;
        answer.map(drop).map_err(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn keys_are_taken_from_a_trusted_server_and_from_no_other() {
    let key = EncodingKey::from_ec_der(KeyPair::generate().unwrap().serialized_der());
    let page = json!({ "keys": [Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()] });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims =
        json!({ "iss": "issuer", "aud": "us", "sub": "ada", "nbf": now, "exp": now + 600 });
    let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();

    let (folder, known, stranger) = (tempfile::tempdir().unwrap(), authority(), authority());
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, known.pem()).unwrap();

    let (url, mut asked) = provide(&known, page.to_string()).await;
    let server = Server::start(&url, &trusted);
    assert!(asked.recv().await.unwrap(), "the server does not get through");
    // The keys are on their way; each try is a round trip.
    let mut answer = Err(Code::Unauthenticated);
    for _ in 0..100_000 {
        answer = server.ask(&token).await;
        if answer != Err(Code::Unauthenticated) {
            break;
        }
    }
    assert_eq!(answer, Ok(()));

    let (url, mut asked) = provide(&stranger, page.to_string()).await;
    let server = Server::start(&url, &trusted);
    assert!(!asked.recv().await.unwrap(), "the server trusts a stranger");
    assert_eq!(server.ask(&token).await, Err(Code::Unauthenticated));
}
