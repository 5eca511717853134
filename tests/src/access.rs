//! What tests of access share: a certificate authority, an identity provider, and a folder for their files.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use gradtape_server::{
    access::tokens::{self, Holder},
    config::{
        Config,
        access::{AuditLog, Jwt, Tls},
    },
    principal::Role,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that goes with the test.
#[derive(Debug)]
pub struct Folder(TempDir);

/// Whoever signs certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Whoever signs JWTs.
pub struct Provider {
    /// The name of its key.
    pub key_id: &'static str,
    key: EncodingKey,
    jwk: Jwk,
}

/// The issuer that servers of tests trust.
pub const ISSUER: &str = "https://id.example";

/// What servers of tests are called.
pub const AUDIENCE: &str = "gradtape-test";

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a writable folder");
        path
    }

    /// Makes a token in the token file of this folder.
    pub fn token(&self, name: &str) -> String {
        self.token_of(holder(name, Role::User, None))
    }

    /// Makes a token for somebody.
    pub fn token_of(&self, holder: Holder) -> String {
        tokens::create(&self.token_file(), holder).expect("a token").1
    }

    /// Revokes tokens.
    pub fn revoke(&self, which: &str) {
        tokens::revoke(&self.token_file(), which).expect("a known token");
    }

    /// The token file of this folder.
    pub fn token_file(&self) -> PathBuf {
        self.path("tokens.json")
    }

    /// The audit log of this folder.
    pub fn audit_file(&self) -> PathBuf {
        self.path("audit.log")
    }

    /// The audit log as it is now.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Lets a server take the tokens of this folder, and write its audit log there.
    pub fn protect(&self, config: &mut Config) {
        config.access.token_file = Some(self.token_file());
        config.access.audit = Some(AuditLog::File(self.audit_file()));
        // Tests wait for changes to be seen.
        config.access.reload_interval = std::time::Duration::from_millis(10);
    }

    /// Lets a server take the JWTs of a provider.
    pub fn trust(&self, config: &mut Config, provider: &Provider) {
        let keys = self.write("jwks.json", &provider.document());
        config.access.jwt = Some(jwt(keys.to_str().expect("a plain path")));
    }

    /// Gives a server a certificate for `localhost` and 127.0.0.1.
    pub fn encrypt(&self, config: &mut Config, authority: &Authority) {
        let Identity { certificate, key } = authority.server();
        config.access.tls = Some(Tls {
            certificate: self.write("server.pem", &certificate),
            key: self.write("server.key", &key),
            client_ca: None,
        });
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Whom a token is for.
pub fn holder(name: &str, role: Role, class: Option<&str>) -> Holder {
    Holder { name: name.to_owned(), role, class: class.map(str::to_owned), lifetime: None }
}

/// Where keys are, and what tokens must say.
pub fn jwt(keys: &str) -> Jwt {
    Jwt {
        keys: gradtape_server::access::jwks::Source::parse(keys).expect("a file or an address"),
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes its certificate into a folder.
    pub fn write(&self, folder: &Folder) -> PathBuf {
        folder.write("ca.pem", &self.pem())
    }

    /// A certificate of a server on this machine.
    pub fn server(&self) -> Identity {
        self.sign(&CertificateParams::new(names(&["localhost", "127.0.0.1"])).expect("names"))
    }

    /// A certificate of a client: alternative names, which may be none, and a common name.
    pub fn client(&self, alternatives: &[&str], common: &str) -> Identity {
        let mut params = CertificateParams::new(names(alternatives)).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl Provider {
    /// A new one, whose key has a name.
    pub fn new(key_id: &'static str) -> Self {
        let pair = KeyPair::generate().expect("a key");
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
        jwk.common.key_id = Some(key_id.to_owned());
        Self { key_id, key, jwk }
    }

    /// Its public keys, as it publishes them.
    pub fn document(&self) -> String {
        json!({ "keys": [self.jwk] }).to_string()
    }

    /// The public key's coordinates, which somebody might mistake for a secret.
    pub fn public_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.jwk).expect("a key")
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).expect("a token")
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({})", self.key_id)
    }
}

/// Claims that are in order, of a token from a minute ago until in an hour.
pub fn claims(subject: &str) -> Value {
    let now = now();
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "nbf": now - 60,
        "exp": now + 3600,
    })
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
