//! The `gradtape` program as people and containers run it: tokens, a server with TLS, and its health check.

#![expect(clippy::unwrap_used, reason = "in a test, panicking is how to fail")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

fn gradtape() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gradtape"));
    // What the machine says must not reach the tests.
    for name in ["GRADTAPE_TOKEN_FILE", "GRADTAPE_LISTEN", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

fn token(file: &Path, arguments: &[&str]) -> Output {
    gradtape().arg("token").arg("--file").arg(file).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = gradtape()
            .args(["serve", "--listen", "127.0.0.1:0", "--exit-with-parent"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_token_is_shown_once_listed_without_its_secret_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.json");
    let created =
        token(&file, &["create", "ada", "--role", "teacher", "--class", "7a", "--expires", "1d"]);
    assert!(created.status.success(), "{created:?}");
    let secret = text(&created.stdout);
    assert_eq!(secret.trim().len(), "gt_".len() + 64);
    let listed = text(&token(&file, &["list"]).stdout);
    let row: Vec<_> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..4], ["ada", "teacher", "7a"]);
    assert!(humantime::parse_rfc3339(row[4]).is_ok(), "{listed}");
    assert!(!listed.contains(secret.trim()));
    let revoked = token(&file, &["revoke", row[0]]);
    assert!(revoked.status.success() && text(&revoked.stdout).contains("ada"), "{revoked:?}");
    assert_eq!(text(&token(&file, &["list"]).stdout).lines().count(), 1);
    let again = token(&file, &["revoke", "ada"]);
    assert!(!again.status.success() && text(&again.stderr).contains("no token"), "{again:?}");
}

#[test]
fn a_health_check_goes_over_tls_and_trusts_whom_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    assert!(token(&folder.path().join("tokens"), &["create", "ada"]).status.success());
    let server = Server::start(&[
        "--tls-cert",
        &path("cert.pem"),
        "--tls-key",
        &path("key.pem"),
        "--token-file",
        &path("tokens"),
    ]);
    let check = |arguments: &[&str]| {
        gradtape().arg("healthcheck").args(arguments).output().unwrap().status.success()
    };
    let url = format!("https://{}", server.address);
    assert!(check(&[&server.address, "--ca", &path("ca.pem")]));
    assert!(check(&[&url, "--ca", &path("ca.pem")]));
    assert!(!check(&[&server.address]), "plain text to a server with TLS");
    assert!(!check(&[&url]), "a certificate that the machine does not trust");
}

#[test]
fn an_open_address_is_warned_of() {
    let mut server = gradtape()
        .args(["serve", "--listen", "0.0.0.0:0", "--insecure-bind", "--exit-with-parent"])
        .args(["--log-format", "json"])
        // As if it were not there: so a container goes without the store that its image names.
        .env("GRADTAPE_SESSION_STORE", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(server.stderr.take().unwrap()).lines();
    let warned = log.map(Result::unwrap).any(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "WARN" && message.contains("can be reached by others")
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(warned);
}

#[test]
fn an_address_of_the_network_is_refused_with_the_way_out() {
    let output = gradtape().args(["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    let message = text(&output.stderr);
    assert!(!output.status.success());
    for option in ["--tls-cert", "--token-file", "--insecure-bind"] {
        assert!(message.contains(option), "{option} in {message}");
    }
}
