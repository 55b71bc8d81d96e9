//! What the coordinator can fail at.

use chimera_domain::ids::{ExperimentId, IdError};
use chimera_runtime::bus::PublishError;
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
    /// The plan is larger than one message of the bus.
    #[error(
        "the plan has {legs} legs and makes a record of {bytes} bytes, more than the bus takes in \
         one message: make several experiments of it, with fewer tests or fewer runs each"
    )]
    TooLarge {
        /// Legs of the plan.
        legs: usize,
        /// Size of the record.
        bytes: usize,
    },
    /// The plan depends on results, and nobody is there to ask for them.
    #[error(
        "{what}, and for that the coordinator must ask an analyzer: start it with --analyzer URL \
         (CHIMERA_ANALYZER_URL)"
    )]
    NoAnalyzer {
        /// What depends on results.
        what: String,
    },
    /// The log refused it.
    #[error("the control log could not be written")]
    Log(#[source] LogError),
}

impl SubmitError {
    /// Why the record of a plan was not taken.
    pub(crate) fn refused(error: LogError, legs: usize) -> Self {
        match error {
            LogError::Publish(PublishError::TooLarge { bytes, .. }) => {
                Self::TooLarge { legs, bytes }
            }
            other => Self::Log(other),
        }
    }
}

impl SubmitError {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Spec(_) | Self::Id(_) | Self::TooLarge { .. } => {
                Status::invalid_argument(self.to_string())
            }
            Self::NoAnalyzer { .. } => Status::failed_precondition(self.to_string()),
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
    /// An experiment of the log depends on results, and nobody is there to ask for them.
    #[error(
        "experiment '{experiment}' goes on by what its runs show, and for that the coordinator must \
         ask an analyzer: start it with --analyzer URL (CHIMERA_ANALYZER_URL)"
    )]
    NoAnalyzer {
        /// Which experiment.
        experiment: ExperimentId,
    },
    /// The analyzer's address is none.
    #[error("'{url}' is no address of an analyzer: give one like http://127.0.0.1:7071")]
    AnalyzerUrl {
        /// What was given.
        url: String,
        /// Why it cannot be used.
        #[source]
        source: tonic::transport::Error,
    },
    /// The address is taken, or the gRPC server failed.
    #[error(transparent)]
    Server(#[from] chimera_runtime::server::ServerError),
}
