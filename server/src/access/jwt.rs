//! Bearer tokens that an identity provider signed (JWT), checked against its published keys (JWKS).
//!
//! Which algorithm a key may be used with is decided by the key and never by the token: a token cannot ask for `none`,
//! nor for a public key to be taken as a shared secret. Issuer, audience, subject, start and end are required.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::principal::{Principal, Role};

/// How far clocks may differ.
const LEEWAY: Duration = Duration::from_mins(1);

/// Longest subject that is taken, in bytes: it goes into logs.
const MAX_SUBJECT: usize = 256;

/// Longest token that is looked at, in bytes. Headers may have 16 KiB.
const MAX_TOKEN: usize = 8 << 10;

/// Keys that are taken from a set; providers publish two or three.
const MAX_KEYS: usize = 64;

/// The algorithms of RSA keys that do not name theirs.
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Checks tokens of one issuer.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    keys: RwLock<Arc<Keys>>,
    /// Wakes whoever fetches keys: a token named one that we do not have.
    pub(super) wanted: Notify,
}

/// The keys of an issuer that can check signatures.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    allowed: Vec<Algorithm>,
    material: DecodingKey,
}

/// What we read of a token; `jsonwebtoken` checks the rest.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    class: Option<String>,
}

/// Why a set of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JWKS document.
    #[error("the document is no set of keys")]
    Malformed(#[from] serde_json::Error),
    /// No key in it can check signatures.
    #[error("the document has no public key for signatures")]
    Empty,
}

impl Keys {
    /// The usable keys of a JWKS document.
    pub fn parse(document: &[u8]) -> Result<Self, Error> {
        let set: JwkSet = serde_json::from_slice(document)?;
        let keys: Vec<_> = set.keys.iter().filter_map(Key::new).take(MAX_KEYS).collect();
        if keys.is_empty() { Err(Error::Empty) } else { Ok(Self(keys)) }
    }

    /// The key that a token names; one without a name can only mean the only key.
    fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, &self.0[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
        }
    }
}

impl Key {
    fn new(jwk: &Jwk) -> Option<Self> {
        use jsonwebtoken::jwk::PublicKeyUse;
        let for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|use_| *use_ == PublicKeyUse::Signature);
        let mut allowed = algorithms(&jwk.algorithm);
        if let Some(named) = jwk.common.key_algorithm {
            allowed.retain(|algorithm| Algorithm::try_from(named).ok() == Some(*algorithm));
        }
        if allowed.is_empty() || !for_signatures {
            return None;
        }
        let material = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), allowed, material })
    }
}

/// What a key of some kind can be used with. Shared secrets can be used with nothing: whoever checks could also sign.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is not trusted")]
fn algorithms(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => RSA.to_vec(),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
        _ => Vec::new(),
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.allowed)
    }
}

impl Verifier {
    /// Checks tokens of `issuer` that are meant for `audience`. Without keys it knows nobody.
    pub fn new(issuer: String, audience: String) -> Self {
        Self { issuer, audience, keys: RwLock::default(), wanted: Notify::new() }
    }

    /// Replaces the keys.
    pub fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Who a token speaks for. `None` for whatever is wrong with it.
    pub fn find(&self, token: &str) -> Option<Principal> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let header = decode_header(token).ok()?;
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let Some(key) = keys.find(header.kid.as_deref()) else {
            self.wanted.notify_one();
            return None;
        };
        if !key.allowed.contains(&header.alg) {
            return None;
        }
        let claims =
            decode::<Claims>(token, &key.material, &self.validation(header.alg)).ok()?.claims;
        principal(claims)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["aud", "exp", "iss", "nbf", "sub"]);
        validation
    }
}

/// Who verified claims speak for.
fn principal(claims: Claims) -> Option<Principal> {
    let Claims { sub, exp, role, class } = claims;
    let printable = |text: &str| text.len() <= MAX_SUBJECT && !text.contains(char::is_control);
    if sub.is_empty() || !printable(&sub) || !class.as_deref().is_none_or(printable) {
        return None;
    }
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(exp))?.checked_add(LEEWAY)?;
    Some(Principal::new(format!("jwt:{sub}"), role, class, Some(end)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The RSA key of RFC 7517, appendix A.1.
    fn rsa() -> Value {
        json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB\
                  ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
                  KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_\
                  xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
        })
    }

    /// The P-256 key there, without its use.
    fn p256() -> Value {
        json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        })
    }

    fn with(mut key: Value, name: &str, value: &str) -> Value {
        key[name] = json!(value);
        key
    }

    fn allowed(key: &Value) -> Option<Vec<Algorithm>> {
        let document = json!({ "keys": [key] }).to_string();
        Some(Keys::parse(document.as_bytes()).ok()?.0.remove(0).allowed)
    }

    #[test]
    fn a_key_is_used_with_its_own_algorithms_only() {
        let shared = json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ" });
        let table = [
            (rsa(), Some(RSA.to_vec())),
            (with(rsa(), "alg", "RS256"), Some(vec![Algorithm::RS256])),
            (with(rsa(), "use", "sig"), Some(RSA.to_vec())),
            (with(rsa(), "use", "enc"), None),
            (with(rsa(), "alg", "RSA-OAEP"), None),
            (with(rsa(), "alg", "HS256"), None),
            (with(rsa(), "alg", "ES256"), None),
            (with(rsa(), "alg", "none"), None),
            (p256(), Some(vec![Algorithm::ES256])),
            (with(p256(), "alg", "ES384"), None),
            (with(p256(), "crv", "P-521"), None),
            (shared.clone(), None),
            (with(shared, "alg", "HS256"), None),
        ];
        for (key, expected) in table {
            assert_eq!(allowed(&key), expected, "{key}");
        }
    }

    #[test]
    fn a_token_without_a_key_id_means_the_only_key() {
        let named = |key, id| with(key, "kid", id);
        let parse = |keys: Value| Keys::parse(json!({ "keys": keys }).to_string().as_bytes());
        let one = parse(json!([named(rsa(), "a")])).unwrap();
        let two = parse(json!([named(rsa(), "a"), named(p256(), "b")])).unwrap();
        let found = |keys: &Keys, id| keys.find(id).map(|key| key.id.clone().unwrap());
        assert_eq!(found(&one, None).as_deref(), Some("a"));
        assert_eq!(found(&two, None), None);
        assert_eq!(found(&two, Some("b")).as_deref(), Some("b"));
        assert_eq!(found(&two, Some("c")), None);
        assert!(matches!(parse(json!([])), Err(Error::Empty)));
        assert!(matches!(Keys::parse(b"<html>"), Err(Error::Malformed(_))));
    }
}
