//! Logs to stderr, spans to an OpenTelemetry collector if one is configured.

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};
use url::Url;

/// What is logged if nobody says otherwise: our own news, and only trouble of the libraries.
const DEFAULT_FILTER: &str = "info,async_nats=warn,h2=warn,hyper=warn,tonic=warn,tower=warn,\
                              opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry_otlp=warn";
/// How long a dropped [`Telemetry`] may take to send the last spans.
const DROP_LIMIT: Duration = Duration::from_secs(2);
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The log part of a service's arguments: `#[command(flatten)] #[serde(default)] log: LogArgs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Logs and traces")]
pub struct LogArgs {
    /// What to log, e.g. "debug" or "warn,chimera_runtime=debug" [default: info]
    #[arg(long = "log", env = "RUST_LOG", value_name = "FILTER", global = true)]
    pub filter: Option<String>,
    /// How to write logs [default: text]
    #[arg(
        long = "log-format",
        env = "CHIMERA_LOG_FORMAT",
        value_name = "FORMAT",
        global = true
    )]
    pub format: Option<LogFormat>,
    /// Send traces to this OpenTelemetry collector (gRPC), e.g. http://127.0.0.1:4317
    #[arg(
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        global = true
    )]
    pub otlp_endpoint: Option<String>,
}

/// How logs are written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry cannot start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is no filter.
    #[error("'{text}' is no log filter: write it like \"debug\" or \"info,chimera_runtime=debug\"")]
    Filter {
        /// What was given.
        text: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The endpoint is no URL.
    #[error("'{0}' is no OTLP endpoint: write it like http://127.0.0.1:4317")]
    Endpoint(String),
    /// The exporter cannot be built.
    #[error("cannot build the OTLP exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// Telemetry was started before in this process.
    #[error("logging is already set up in this process")]
    AlreadyStarted(#[source] tracing_subscriber::util::TryInitError),
}

/// Keeps telemetry going; sends the last spans when dropped or shut down.
#[derive(Debug)]
#[must_use = "dropping it ends the export of spans"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logs and spans for this process; once, inside a tokio runtime.
///
/// Spans always have ids, so that trace context reaches other processes and the engine even where
/// nothing is exported; they are exported only if an endpoint is configured.
///
/// # Errors
/// A filter or an endpoint that cannot be parsed; a second call.
pub fn init(
    args: &LogArgs,
    service: &'static str,
    version: &'static str,
) -> Result<Telemetry, TelemetryError> {
    let text = args.filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(text).map_err(|source| TelemetryError::Filter {
        text: text.to_owned(),
        source,
    })?;
    let provider = provider(args.otlp_endpoint.as_deref(), service, version)?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        // The exporter's own transport must not make spans that it then exports.
        .with_filter(FilterFn::new(|meta| {
            const OWN: [&str; 5] = ["opentelemetry", "h2", "hyper", "tonic", "tower"];
            meta.is_span() && !OWN.iter().any(|target| meta.target().starts_with(target))
        }));
    let lines = match args.format.unwrap_or_default() {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .compact()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(TelemetryError::AlreadyStarted)?;
    Ok(Telemetry {
        provider: Some(provider),
    })
}

fn provider(
    endpoint: Option<&str>,
    service: &'static str,
    version: &'static str,
) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", version))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = endpoint else {
        return Ok(builder.build());
    };
    let well_formed = Url::parse(endpoint)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !well_formed {
        return Err(TelemetryError::Endpoint(crate::config::redact_url(
            endpoint,
        )));
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(TelemetryError::Exporter)?;
    Ok(builder.with_batch_exporter(exporter).build())
}

impl Telemetry {
    /// Sends the last spans, for `limit` at most. A collector that is away costs a warning.
    pub async fn shutdown(mut self, limit: Duration) {
        let Some(provider) = self.provider.take() else {
            return;
        };
        // The processor blocks its caller while the export runs on this runtime.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        match flushed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(DROP_LIMIT)
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_endpoint_is_refused_before_anything_is_sent() {
        for bad in ["collector", "127.0.0.1:4317", "ftp://host"] {
            let error = provider(Some(bad), "test", "0").unwrap_err();
            assert!(
                matches!(error, TelemetryError::Endpoint(_)),
                "{bad}: {error}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_collector_that_is_away_does_not_hold_the_process() {
        // Port 9 (discard) of loopback: nothing listens there.
        let provider = provider(Some("http://127.0.0.1:9"), "test", "0").unwrap();
        let tracer = provider.tracer("test");
        opentelemetry::trace::Tracer::start(&tracer, "lost");
        let before = crate::clock::mono();
        Telemetry {
            provider: Some(provider),
        }
        .shutdown(Duration::from_millis(500))
        .await;
        assert!(crate::clock::elapsed(before) < Duration::from_secs(10));
    }

    #[test]
    fn the_default_filter_parses() {
        EnvFilter::try_new(DEFAULT_FILTER).unwrap();
    }
}
