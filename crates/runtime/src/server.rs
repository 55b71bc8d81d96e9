//! A gRPC server as every service runs it: health, reflection, trace context, a clean stop.

use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::context;

/// A connection that does not answer a ping is closed after interval plus timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// See [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls under way on one connection; more wait in HTTP/2.
const MAX_CALLS_PER_CONNECTION: u32 = 256;

/// Why a server ended or could not start.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: is another process using it? give another --listen")]
    Bind {
        /// What was asked for.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The descriptors for reflection are damaged.
    #[error("the message descriptors cannot be used for reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Tells the health service whether this process is ready. "Serving" (the port answers) and
/// "ready" are different: a service is not ready until [`Self::set_ready`] says so.
#[derive(Debug, Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Sets the health of the whole server (`""` of `grpc.health.v1.Health`).
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.0.set_service_status("", status).await;
    }
}

/// A gRPC server that is not running yet.
///
/// ```no_run
/// # async fn f(listener: tokio::net::TcpListener, stop: tokio_util::sync::CancellationToken)
/// # -> Result<(), chimera_runtime::server::ServerError> {
/// use chimera_runtime::server::GrpcServer;
/// use std::time::Duration;
///
/// let (mut server, health) = GrpcServer::new(chimera_wire::FILE_DESCRIPTOR_SET).await?;
/// // server.routes().add_service(ControlServer::new(control));
/// health.set_ready(true).await;
/// server.serve(listener, stop, Duration::from_secs(5)).await
/// # }
/// ```
#[derive(Debug)]
pub struct GrpcServer {
    routes: RoutesBuilder,
}

impl GrpcServer {
    /// A server with health (not ready yet) and reflection over the given `FileDescriptorSet`.
    ///
    /// # Errors
    /// When the descriptors cannot be decoded.
    pub async fn new(descriptors: &[u8]) -> Result<(Self, Health), ServerError> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health(reporter);
        health.set_ready(false).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(ServerError::Reflection)?;
        let mut routes = Routes::builder();
        routes.add_service(health_service).add_service(reflection);
        Ok((Self { routes }, health))
    }

    /// Where services are added: `server.routes().add_service(ControlServer::new(control))`.
    pub fn routes(&mut self) -> &mut RoutesBuilder {
        &mut self.routes
    }

    /// Serves on a listener until `stop` trips, then waits for the calls under way, `grace` at
    /// most. Streams must end by themselves when the service stops; what does not is cut when the
    /// runtime ends.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), ServerError> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
            .trace_fn(|request| {
                let path = request.uri().path();
                if path.starts_with("/grpc.") {
                    return tracing::Span::none();
                }
                let span = tracing::info_span!("grpc.server.call", method = path);
                context::adopt(&span, request.headers());
                span
            })
            .add_routes(self.routes.routes())
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        // Cutting the server is what the grace period is for.
        tokio::select! {
            result = serving => result.map_err(ServerError::Transport),
            () = cut => {
                tracing::warn!(?grace, "calls were still under way when the server was cut");
                Ok(())
            }
        }
    }
}

/// Binds a listener; port 0 takes a free one (see [`TcpListener::local_addr`]).
///
/// # Errors
/// With the address, when it is taken or not ours.
pub async fn bind(address: &str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServerError::Bind {
            address: address.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Wire;
    use tonic_health::pb::health_client::HealthClient;

    async fn status(address: &str) -> Wire {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let request = HealthCheckRequest {
            service: String::new(),
        };
        let answer = HealthClient::new(channel).check(request).await.unwrap();
        answer.into_inner().status()
    }

    #[tokio::test]
    async fn serving_is_not_ready_and_the_stop_ends_it() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let (server, health) = GrpcServer::new(chimera_wire::FILE_DESCRIPTOR_SET)
            .await
            .unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(server.serve(listener, stop.clone(), Duration::from_secs(5)));
        assert_eq!(status(&address).await, Wire::NotServing);
        health.set_ready(true).await;
        assert_eq!(status(&address).await, Wire::Serving);
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let error = bind(&address).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
