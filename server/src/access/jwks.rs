//! Where an issuer's keys come from: a file or a URL, read again while the server runs.
//!
//! The URL is the operator's and never a client's. A fetch is bounded in time and size, follows no redirect, and happens
//! at most once a minute, however many tokens name keys that nobody knows. When it fails, the keys that are known stay.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::time::Instant;
use tonic::codegen::{Bytes, http::Uri};

use super::jwt::{self, Keys, Verifier};

/// How often keys are fetched without being asked for: providers announce new keys for longer than this.
const REFRESH_INTERVAL: Duration = Duration::from_mins(10);

/// Shortest time between two fetches.
const SHORTEST_INTERVAL: Duration = Duration::from_mins(1);

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest document, in bytes. A key has about 1 KiB.
const MAX_DOCUMENT: usize = 256 << 10;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A document that is fetched by HTTPS, or by HTTP from this machine.
    Url(Uri),
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no place that we would fetch keys from.
    #[error("{0:?} is neither a file nor an https:// address; http:// is for loopback only")]
    Source(String),
    /// The file cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// The document cannot be fetched.
    #[error("cannot fetch {0}: {1}")]
    Fetch(Uri, String),
    /// The document is not what it should be.
    #[error("cannot use {0}")]
    Document(String, #[source] jwt::Error),
}

impl Source {
    /// An address if it has a scheme, else the name of a file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let wrong = || Error::Source(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
        let local = host == "localhost"
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(Self::Url(uri)),
            Some("http") if local => Ok(Self::Url(uri)),
            _ => Err(wrong()),
        }
    }
}

/// Reads keys from a file.
pub(super) fn read(path: &Path) -> Result<Keys, Error> {
    let document = std::fs::read(path).map_err(|error| Error::File(path.to_owned(), error))?;
    Keys::parse(&document).map_err(|error| Error::Document(path.display().to_string(), error))
}

/// Fetches keys for as long as somebody runs it.
#[derive(Debug)]
pub(super) struct Fetcher {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// Trusts what this machine trusts (`SSL_CERT_FILE` names another set of certificates).
    pub(super) fn new(uri: Uri) -> Result<Self, Error> {
        let builder = HttpsConnectorBuilder::new();
        let builder = if uri.scheme_str() == Some("https") {
            let failed = |error: std::io::Error| Error::Fetch(uri.clone(), error.to_string());
            builder.with_native_roots().map_err(failed)?
        } else {
            // Nobody has to be trusted, and a small container may have no certificates.
            builder.with_tls_config(
                ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .map_err(|error| Error::Fetch(uri.clone(), error.to_string()))?
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth(),
            )
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), uri })
    }

    /// Keeps the keys fresh.
    pub(super) async fn run(self, verifier: Arc<Verifier>) {
        loop {
            let began = Instant::now();
            match self.fetch().await {
                Ok(keys) => {
                    tracing::debug!(uri = %self.uri, "fetched keys");
                    verifier.set_keys(keys);
                    let wanted = verifier.wanted.notified();
                    let _ = tokio::time::timeout(REFRESH_INTERVAL, wanted).await;
                }
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::warn!(error, "fetch keys; those that are known stay");
                }
            }
            tokio::time::sleep_until(began + SHORTEST_INTERVAL).await;
        }
    }

    async fn fetch(&self) -> Result<Keys, Error> {
        let failed = |why: String| Error::Fetch(self.uri.clone(), why);
        let fetch = async {
            let response = self.client.get(self.uri.clone()).await;
            let response = response.map_err(|error| failed(error.to_string()))?;
            if !response.status().is_success() {
                return Err(failed(response.status().to_string()));
            }
            let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
            let document = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Keys::parse(&document).map_err(|error| Error::Document(self.uri.to_string(), error))
        };
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetch).await;
        fetched.unwrap_or_else(|_| Err(failed("it takes too long".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machine_itself_is_asked_without_encryption() {
        for good in ["https://id.example/keys", "http://127.0.0.1:8080/k", "http://[::1]/k"] {
            assert!(matches!(Source::parse(good), Ok(Source::Url(_))), "{good}");
        }
        for wrong in ["http://id.example/keys", "file:///etc/keys", "ftp://a/b", "https://"] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Source::parse("keys.json").unwrap(), Source::File("keys.json".into()));
    }
}
