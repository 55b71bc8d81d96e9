//! What the coordinator can fail at.

use chimera_domain::ids::{ExperimentId, IdError};
use thiserror::Error;
use tonic::Status;

use crate::log::LogError;

/// Why an experiment was not taken.
#[derive(Debug, Error)]
pub(crate) enum SubmitError {
    /// The spec is wrong; all that is wrong with it, one a line.
    #[error("{0}")]
    Spec(String),
    /// No id could be made from the name.
    #[error("the experiment's name makes no id")]
    Id(#[from] IdError),
    /// The id is taken.
    #[error("an experiment '{0}' exists already")]
    Taken(ExperimentId),
    /// Too many wait.
    #[error("too many experiments wait already; cancel one or try again later")]
    QueueFull,
    /// The log refused it.
    #[error("the control log could not be written")]
    Log(#[source] LogError),
}

impl SubmitError {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Spec(_) | Self::Id(_) => Status::invalid_argument(self.to_string()),
            Self::Taken(_) => Status::already_exists(self.to_string()),
            Self::QueueFull => Status::resource_exhausted(self.to_string()),
            Self::Log(source) => Status::unavailable(format!("{self}: {source}")),
        }
    }
}

/// Why the coordinator could not start or go on.
#[derive(Debug, Error)]
pub enum CoordinatorError {
    /// The bus failed.
    #[error("the message bus failed")]
    Bus(#[from] chimera_runtime::bus::BusError),
    /// The control log failed.
    #[error("the control log failed")]
    Log(#[from] LogError),
    /// The address is taken, or the gRPC server failed.
    #[error(transparent)]
    Server(#[from] chimera_runtime::server::ServerError),
}
