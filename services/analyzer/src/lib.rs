//! The analyzer: follows the control log, and when an experiment ends recomputes it from the
//! streams alone and writes its bundle.
//!
//! - [`ingest`]: streams to records. [`records`]: records to a report.
//! - [`table`]: its requests as Parquet.
//! - [`bundle`]: both in a folder that can be verified and replayed offline.
//! - [`history`]: which reports this machine has written, in SQLite.
//! - `watcher`: when to analyse. `store`, `grpc`: who asks for reports.

pub mod bundle;
mod config;
mod error;
mod grpc;
pub mod history;
pub mod ingest;
pub mod records;
mod store;
pub mod table;
mod watcher;

#[cfg(test)]
mod sample;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chimera_runtime::bus::Bus;
use chimera_runtime::server::{self, GrpcServer};
use chimera_wire::analysis_server::AnalysisServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Args, Config};
pub use error::AnalyzerError;
pub use store::{Finished, Store};
pub use watcher::Target;

use grpc::AnalysisService;
use ingest::Ingest;
use watcher::Watcher;

/// How long calls may go on after the stop; a caller that waits for a report is cut.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// An analyzer that owns its address and analyses nothing yet.
pub struct Analyzer {
    listener: TcpListener,
    address: SocketAddr,
    watcher: Watcher,
    store: Arc<Store>,
    ingest: Ingest,
}

impl Analyzer {
    /// Takes the address and checks the streams.
    ///
    /// # Errors
    /// When the address is taken or the bus cannot be had.
    pub async fn bind(config: Config, bus: &Bus) -> Result<Self, AnalyzerError> {
        let listener = server::bind(&config.listen.to_string()).await?;
        let address = listener.local_addr().unwrap_or(config.listen);
        bus.ensure_streams(&config.streams).await?;
        let store = Arc::new(Store::default());
        let ingest = Ingest::new(bus.clone());
        let watcher = Watcher {
            bus: bus.clone(),
            ingest: ingest.clone(),
            store: store.clone(),
            target: config.target,
            history: config.history,
            software: config.software,
        };
        Ok(Self {
            listener,
            address,
            watcher,
            store,
            ingest,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reports, for a caller in the same process.
    #[must_use]
    pub fn store(&self) -> Arc<Store> {
        self.store.clone()
    }

    /// Follows and serves until told to stop.
    ///
    /// # Errors
    /// When the control log can no longer be followed, or the gRPC server fails.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), AnalyzerError> {
        let Self {
            listener,
            address,
            watcher,
            store,
            ingest,
        } = self;
        let (mut server, health) = GrpcServer::new(chimera_wire::FILE_DESCRIPTOR_SET).await?;
        server
            .routes()
            .add_service(AnalysisServer::new(AnalysisService { store, ingest }));
        health.set_ready(true).await;
        tracing::info!(%address, "analyzer ready");
        // One failing stops the other: half an analyzer would leave people waiting.
        let stop = shutdown.child_token();
        let (watched, served) = tokio::join!(
            async {
                let watched = watcher.run(stop.clone()).await;
                stop.cancel();
                watched
            },
            async {
                let served = server.serve(listener, stop.clone(), DRAIN_GRACE).await;
                stop.cancel();
                served
            }
        );
        watched?;
        Ok(served?)
    }
}
