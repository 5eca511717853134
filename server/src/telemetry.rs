//! Logs: structured, on stderr, for people or for machines; and traces, for a collector. Tokens and tensors are in
//! neither.

use std::io::IsTerminal;

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::codegen::http::{HeaderMap, HeaderName};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What still has to be sent when the program ends.
#[derive(Debug)]
#[must_use]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends what is left; blocks for up to five seconds if the collector does not answer.
    pub fn finish(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "send the last traces");
        }
    }
}

/// Starts logging, and sending traces if there is a collector. `filter` is a level or a list of directives as in
/// `RUST_LOG`, for example `info,gradtape=debug`; it holds for both. Must be called within the runtime.
pub fn init(format: LogFormat, filter: &str, collector: Option<&str>) -> anyhow::Result<Traces> {
    let filter = EnvFilter::try_new(filter)?;
    // Colours are for people at a terminal, not for files.
    let colours = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let provider = collector.map(provider).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer().with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
    });
    let registry = tracing_subscriber::registry().with(filter).with(spans);
    match format {
        LogFormat::Pretty => registry.with(lines.with_target(false)).try_init()?,
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
    }
    Ok(Traces(provider))
}

/// Sends spans to a collector over gRPC, in batches and from a thread of its own. A call whose client is traced is
/// traced if the client's part is.
fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(collector).build()?;
    let resource = Resource::builder().with_service_name("gradtape").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .build())
}

/// The client's place in a trace, as the header `traceparent` says it.
pub(crate) fn parent(headers: &HeaderMap) -> opentelemetry::Context {
    TraceContextPropagator::new().extract(&Headers(headers))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
