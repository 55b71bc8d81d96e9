//! What the analyzer can fail at.

use thiserror::Error;

/// Why the analyzer could not start, go on, or analyse.
#[derive(Debug, Error)]
pub enum AnalyzerError {
    /// A stream could not be followed.
    #[error("the control log cannot be followed")]
    Follow(#[from] chimera_runtime::bus::ReadError),
    /// The records could not be collected.
    #[error("the records cannot be collected")]
    Ingest(#[from] crate::ingest::IngestError),
    /// The records make no report.
    #[error(transparent)]
    Report(#[from] crate::records::ReportError),
    /// The bundle could not be written.
    #[error("the bundle cannot be written")]
    Bundle(#[from] crate::bundle::BundleError),
    /// The bus failed.
    #[error("the message bus failed")]
    Bus(#[from] chimera_runtime::bus::BusError),
    /// The address is taken, or the gRPC server failed.
    #[error(transparent)]
    Server(#[from] chimera_runtime::server::ServerError),
}
