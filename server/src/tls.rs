//! Encrypted connections: the server's certificate, and who a client's certificate names.
//!
//! The handshake itself happens in [`accept`](crate::accept), within its deadline. Certificates are read again while the
//! server runs, so that renewing one needs no restart.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, UNIX_EPOCH},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{
    config::access::Tls,
    principal::{Principal, Role},
};

/// Longest name of a certificate that is taken, in bytes: it goes into logs.
const MAX_NAME: usize = 256;

/// Encrypts connections.
#[derive(Debug)]
pub struct Acceptor {
    certificate: Arc<Certificate>,
    config: Arc<ServerConfig>,
}

/// The certificate in use.
#[derive(Debug)]
struct Certificate {
    files: Tls,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

/// Why connections cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read certificates or a key from {0}")]
    File(PathBuf, #[source] pem::Error),
    /// Certificate and key do not fit, or are of a kind that is not taken.
    #[error("cannot use certificate {0}")]
    Certificate(PathBuf, #[source] rustls::Error),
    /// The certificates that sign those of clients are none.
    #[error("cannot use client CA {0}")]
    ClientCa(PathBuf, #[source] VerifierBuilderError),
    /// The library has no usable versions of the protocol.
    #[error("cannot set up TLS")]
    Library(#[from] rustls::Error),
}

impl Acceptor {
    /// Reads the files. Clients need no certificate if they may prove who they are in other ways.
    pub fn open(files: &Tls, others: bool) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = RwLock::new(Arc::new(load(files, &provider)?));
        let certificate = Arc::new(Certificate {
            files: files.clone(),
            provider: Arc::clone(&provider),
            current,
        });
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let failed = |error| Error::ClientCa(path.clone(), error);
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).map_err(|error| Error::Certificate(path.clone(), error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if others { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(failed)?)
            }
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificate>::clone(&certificate);
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { certificate, config: Arc::new(config) })
    }

    /// Reads certificate and key again. Connections that exist keep theirs.
    pub fn reload(&self) -> Result<(), Error> {
        let Certificate { files, provider, current } = self.certificate.as_ref();
        let fresh = Arc::new(load(files, provider)?);
        *current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Makes a connection an encrypted one. Takes as long as the client does.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn load(files: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| Error::File(files.key.clone(), error))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| Error::Certificate(files.certificate.clone(), error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |error| Error::File(path.to_owned(), error);
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

/// Who a client's certificate names: its first alternative name that is a URI, a mail address or a host, else its common
/// name. The certificate has been verified. Certificates make users; teachers and admins need a token.
pub fn principal(certificates: Option<&[CertificateDer<'_>]>) -> Option<Principal> {
    let (_, certificate) = X509Certificate::from_der(certificates?.first()?).ok()?;
    let name = name(&certificate)?;
    let printable = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(end))?;
    printable.then(|| Principal::new(format!("cert:{name}"), Role::User, None, Some(end)))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are no names of somebody")]
fn name(certificate: &X509Certificate<'_>) -> Option<String> {
    let alternatives = certificate.subject_alternative_name().ok()?;
    let first = alternatives.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(text) | GeneralName::RFC822Name(text) | GeneralName::DNSName(text) => {
                Some((*text).to_owned())
            }
            _ => None,
        })
    });
    first.or_else(|| {
        let common = certificate.subject().iter_common_name().next()?;
        common.as_str().ok().map(str::to_owned)
    })
}
