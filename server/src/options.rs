//! The options of `gradtape serve` about who may come in and what is seen of it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use gradtape_server::{
    access::jwks::Source,
    config::access::{Access, AuditLog, Jwt, Quota, Reflection, Tls},
};

/// Who may come in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessOptions {
    /// File of the server's certificate and those that lead to a root, in PEM.
    #[arg(long, env = "GRADTAPE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File of the certificate's private key, in PEM.
    #[arg(long, env = "GRADTAPE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File of the certificates that sign those of clients; a client's first alternative name, or else its common name,
    /// says who it is. With tokens too, a client may have either.
    #[arg(long, env = "GRADTAPE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// File of the tokens that are taken; `gradtape token` makes it. It is read again when it changes.
    #[arg(long, env = "GRADTAPE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File or https:// address of the keys (JWKS) of an identity provider whose tokens (JWT) are taken.
    #[arg(
        long,
        env = "GRADTAPE_JWKS",
        value_name = "FILE|URL",
        requires_all = ["jwt_issuer", "jwt_audience"]
    )]
    jwks: Option<String>,
    /// Who must have issued such a token: its claim `iss`.
    #[arg(long, env = "GRADTAPE_JWT_ISSUER", value_name = "TEXT", requires = "jwks")]
    jwt_issuer: Option<String>,
    /// Whom such a token must be for: its claim `aud`.
    #[arg(long, env = "GRADTAPE_JWT_AUDIENCE", value_name = "TEXT", requires = "jwks")]
    jwt_audience: Option<String>,
    /// Who may ask for the schema by reflection.
    #[arg(long, env = "GRADTAPE_REFLECTION", value_enum, default_value_t)]
    reflection: Reflection,
    /// Failed authentications of one address in a minute before it has to wait; 0 for any number.
    #[arg(long, value_name = "COUNT", default_value_t = Access::default().max_failures_per_minute)]
    max_auth_failures: u32,
    /// Sessions of one principal at one time. Like the five below, not for callers without a name.
    #[arg(long, value_name = "COUNT", default_value_t = Quota::default().max_sessions)]
    max_principal_sessions: usize,
    /// Sessions that one principal may make in a minute; 0 for any number.
    #[arg(long, value_name = "COUNT", default_value_t = Quota::default().max_creations_per_minute)]
    max_principal_creations: u32,
    /// Connections of one principal at one time.
    #[arg(long, value_name = "COUNT", default_value_t = Quota::default().max_connections)]
    max_principal_connections: usize,
    /// Calls and batches of one principal in a minute; 0 for any number.
    #[arg(long, value_name = "COUNT", default_value_t = Quota::default().max_requests_per_minute)]
    max_principal_requests: u32,
    /// Seconds that the sessions of one principal may compute in a minute before they are delayed; 0 for any time.
    #[arg(long, value_name = "SECONDS", default_value_t = Quota::default().compute_per_minute.as_secs())]
    principal_compute: u64,
    /// Memory of the sessions of one principal together, for example 512MiB.
    #[arg(long, value_parser = crate::parse_bytes, value_name = "BYTES", default_value = "4GiB")]
    principal_memory: u64,
    /// Where to append what was done by whom, as JSON lines; `-` is standard output.
    #[arg(long, env = "GRADTAPE_AUDIT_LOG", value_name = "FILE|-")]
    audit_log: Option<PathBuf>,
    /// Address and port to serve metrics for Prometheus on, as in 127.0.0.1:9464. They name nobody, and are not encrypted.
    #[arg(long, env = "GRADTAPE_METRICS_ADDRESS", value_name = "ADDRESS")]
    metrics_address: Option<SocketAddr>,
}

impl AccessOptions {
    /// The configuration that they mean.
    pub(crate) fn config(&self) -> anyhow::Result<Access> {
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        let jwt = match (&self.jwks, &self.jwt_issuer, &self.jwt_audience) {
            (Some(keys), Some(issuer), Some(audience)) => Some(Jwt {
                keys: Source::parse(keys).context("--jwks")?,
                issuer: issuer.clone(),
                audience: audience.clone(),
            }),
            _ => None,
        };
        let audit = self.audit_log.as_ref().map(|path| {
            if path.as_os_str() == "-" {
                AuditLog::StandardOutput
            } else {
                AuditLog::File(path.clone())
            }
        });
        Ok(Access {
            tls: tls.map(|(certificate, key)| Tls {
                certificate,
                key,
                client_ca: self.tls_client_ca.clone(),
            }),
            token_file: self.token_file.clone(),
            jwt,
            reflection: self.reflection,
            max_failures_per_minute: self.max_auth_failures,
            quota: Quota {
                max_sessions: self.max_principal_sessions,
                max_creations_per_minute: self.max_principal_creations,
                max_connections: self.max_principal_connections,
                max_requests_per_minute: self.max_principal_requests,
                compute_per_minute: Duration::from_secs(self.principal_compute),
                memory_bytes: self.principal_memory,
            },
            audit,
            metrics_address: self.metrics_address,
            ..Access::default()
        })
    }
}
