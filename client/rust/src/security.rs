//! How a connection is encrypted and who it says it is.

use std::{fmt, net::IpAddr};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Identity, Uri},
};

use crate::{Error, Result};

/// A connection that says who it is.
pub(crate) type Connection = InterceptedService<Channel, Bearer>;

/// Names the token of programs that give none.
const TOKEN_VARIABLE: &str = "GRADTAPE_TOKEN";

/// Names the file of trusted certificates of programs that give none.
const CA_VARIABLE: &str = "GRADTAPE_CA";

/// What a program said about encryption and its name.
#[derive(Clone, Default)]
pub(crate) struct Security {
    pub(crate) token: Option<String>,
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) server_name: Option<String>,
}

/// Adds the token to every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

/// An address with everything that a connection to it needs.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) tls: Option<ClientTlsConfig>,
    pub(crate) bearer: Bearer,
}

impl Security {
    /// What to connect to. An address without a scheme is encrypted if there is anything to do with it.
    pub(crate) fn target(&self, address: &str) -> Result<Target> {
        let encrypted = self.ca.is_some() || self.identity.is_some();
        let url = match (address.contains("://"), encrypted) {
            (true, _) => address.to_owned(),
            (false, true) => format!("https://{address}"),
            (false, false) => format!("http://{address}"),
        };
        let invalid = |why: &dyn fmt::Display| Error::Transport(format!("{address}: {why}"));
        let uri: Uri = url.parse().map_err(|error| invalid(&error))?;
        let secure = uri.scheme_str() == Some("https");
        if encrypted && !secure {
            return Err(invalid(&"certificates are for https:// addresses"));
        }
        let token = match &self.token {
            Some(token) => Some(token.clone()),
            // What a program did not say itself must not leave this machine readable.
            None if secure || is_local(&uri) => std::env::var(TOKEN_VARIABLE).ok(),
            None => None,
        };
        let bearer = Bearer::new(token.filter(|token| !token.is_empty()))
            .ok_or_else(|| invalid(&"the token has characters that no token has"))?;
        let tls = secure.then(|| self.tls()).transpose()?;
        Ok(Target { uri, tls, bearer })
    }

    fn tls(&self) -> Result<ClientTlsConfig> {
        let named = || std::env::var_os(CA_VARIABLE).filter(|path| !path.is_empty());
        let ca = match (&self.ca, named()) {
            (Some(pem), _) => Some(pem.clone()),
            (None, Some(path)) => Some(std::fs::read(&path).map_err(|error| {
                Error::Transport(format!("cannot read {}: {error}", path.display()))
            })?),
            (None, None) => None,
        };
        let mut tls = ClientTlsConfig::new();
        tls = match ca {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }
}

impl Bearer {
    fn new(token: Option<String>) -> Option<Self> {
        let Some(token) = token else { return Some(Self(None)) };
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
        // Keeps it out of logs and of HTTP/2's compression table.
        value.set_sensitive(true);
        Some(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, ca, identity, server_name } = self;
        f.debug_struct("Security")
            .field("token", &token.is_some())
            .field("ca", &ca.is_some())
            .field("identity", &identity.is_some())
            .field("server_name", server_name)
            .finish()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(..)" } else { "Bearer(none)" })
    }
}

fn is_local(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_encrypted_if_it_says_so_or_if_there_is_a_certificate() {
        let plain = Security::default();
        let trusted = Security { ca: Some(b"pem".to_vec()), ..Security::default() };
        let table = [
            (&plain, "localhost:1", "http://localhost:1/"),
            (&plain, "https://localhost:1", "https://localhost:1/"),
            (&trusted, "localhost:1", "https://localhost:1/"),
        ];
        for (security, address, expected) in table {
            let target = security.target(address).unwrap();
            assert_eq!(target.uri.to_string(), expected);
            assert_eq!(target.tls.is_some(), expected.starts_with("https"));
        }
        assert!(trusted.target("http://localhost:1").is_err(), "a CA that would not be used");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let security = Security { token: Some("hunter2".into()), ..Security::default() };
        let target = security.target("127.0.0.1:1").unwrap();
        assert!(!format!("{security:?} {target:?}").contains("hunter2"));
        let broken = Security { token: Some("a\nb".into()), ..Security::default() };
        assert!(broken.target("127.0.0.1:1").is_err());
    }
}
