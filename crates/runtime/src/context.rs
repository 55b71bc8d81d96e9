//! Trace context across processes: W3C `traceparent` in HTTP headers, gRPC metadata and NATS
//! headers, by the same two functions.

use async_nats::HeaderMap as NatsHeaders;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::service::Interceptor;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A set of headers that can carry trace context.
pub trait Carrier {
    /// Sets a header, in place of what was there.
    fn put(&mut self, key: &str, value: String);
    /// A header's value, if it is text.
    fn value(&self, key: &str) -> Option<&str>;
}

impl Carrier for http::HeaderMap {
    fn put(&mut self, key: &str, value: String) {
        let name = http::HeaderName::try_from(key);
        let value = http::HeaderValue::try_from(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            self.insert(name, value);
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| value.to_str().ok())
    }
}

impl Carrier for MetadataMap {
    fn put(&mut self, key: &str, value: String) {
        let name = MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value.parse()) {
            self.insert(name, value);
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|value| value.to_str().ok())
    }
}

impl Carrier for NatsHeaders {
    fn put(&mut self, key: &str, value: String) {
        self.insert(key, value);
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(async_nats::HeaderValue::as_str)
    }
}

/// Puts the trace context of the current span into headers. Without one, nothing is added.
pub fn inject(carrier: &mut impl Carrier) {
    let context = tracing::Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Adapter(carrier));
}

/// Makes a fresh span a child of the trace context that headers carry. Call it before the span is
/// entered. Without context, or if the span is not recorded, nothing happens.
pub fn adopt(span: &tracing::Span, carrier: &impl Carrier) {
    let context = TraceContextPropagator::new().extract(&ReadAdapter(carrier));
    if let Err(error) = span.set_parent(context) {
        tracing::trace!(%error, "the span takes no parent");
    }
}

/// A tonic client interceptor that puts the current trace context into each request.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceInterceptor;

impl Interceptor for TraceInterceptor {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        inject(request.metadata_mut());
        Ok(request)
    }
}

struct Adapter<'a, C>(&'a mut C);

impl<C: Carrier> Injector for Adapter<'_, C> {
    fn set(&mut self, key: &str, value: String) {
        // An empty tracestate is legal and says nothing.
        if !value.is_empty() {
            self.0.put(key, value);
        }
    }
}

struct ReadAdapter<'a, C>(&'a C);

impl<C: Carrier> Extractor for ReadAdapter<'_, C> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.value(key)
    }

    fn keys(&self) -> Vec<&str> {
        ["traceparent", "tracestate"]
            .into_iter()
            .filter(|key| self.0.value(key).is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{TraceId, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::prelude::*;

    /// Keeps finished spans. (The SDK's own needs a feature that would rebuild it for tests.)
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// Sends a span's context through a carrier and returns the trace ids of (sender, receiver) and
    /// whether the receiver's parent is the sender.
    fn through<C: Carrier + Default>() -> (TraceId, TraceId, bool) {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let mut carrier = C::default();
            tracing::info_span!("sender").in_scope(|| inject(&mut carrier));
            assert!(carrier.value("traceparent").is_some());
            let receiver = tracing::info_span!("receiver");
            adopt(&receiver, &carrier);
            receiver.in_scope(|| {});
        });
        provider.force_flush().unwrap();
        let spans = exporter.0.lock().unwrap().clone();
        let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
        let (sender, receiver) = (find("sender"), find("receiver"));
        (
            sender.span_context.trace_id(),
            receiver.span_context.trace_id(),
            receiver.parent_span_id == sender.span_context.span_id(),
        )
    }

    #[test]
    fn context_survives_http_grpc_and_nats() {
        let trips = [
            through::<http::HeaderMap>(),
            through::<MetadataMap>(),
            through::<NatsHeaders>(),
        ];
        for (sent, received, is_parent) in trips {
            assert_ne!(sent, TraceId::INVALID);
            assert_eq!(sent, received);
            assert!(is_parent);
        }
    }

    #[test]
    fn without_a_span_nothing_is_added() {
        let mut headers = http::HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn the_interceptor_fills_metadata() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _entered = tracing::info_span!("call").entered();
            let request = TraceInterceptor.call(tonic::Request::new(())).unwrap();
            let value = request.metadata().value("traceparent").unwrap();
            assert!(
                value.starts_with("00-") && value.ends_with("-01"),
                "{value}"
            );
        });
    }
}
