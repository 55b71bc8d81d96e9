//! Why a message or a subject is refused.

use chimera_domain::ids::IdError;
use thiserror::Error;

/// What is wrong with something that came over the wire, or was about to go over it.
#[derive(Debug, Error)]
pub enum WireError {
    /// The bytes are no protobuf message of the expected type, or a text in them is no UTF-8.
    #[error(
        "not a {message}: {source}; the sender speaks another protocol or the bytes are damaged"
    )]
    Malformed {
        /// The message expected.
        message: &'static str,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// A required field, or every alternative of a choice, is absent.
    #[error("{field} is missing; sender and receiver may be of different versions")]
    MissingField {
        /// Message and field.
        field: &'static str,
    },
    /// A text is no id.
    #[error("{field}: {source}")]
    BadId {
        /// Message and field.
        field: &'static str,
        /// What is wrong with it.
        source: IdError,
    },
    /// An enumeration holds a number that this version does not know.
    #[error(
        "{field} holds the unknown value {value}; sender and receiver may be of different versions"
    )]
    UnknownEnum {
        /// Message and field.
        field: &'static str,
        /// The number.
        value: i32,
    },
    /// A value breaks the bounds of its field.
    #[error("{field}: {why}")]
    OutOfRange {
        /// Message and field.
        field: &'static str,
        /// The bound broken.
        why: &'static str,
    },
    /// A field that carries JSON does not hold the value expected.
    #[error("{field} does not hold the JSON expected: {source}")]
    BadJson {
        /// Message and field.
        field: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A subject that is none of ours.
    #[error("the subject '{subject}' is refused: {why}")]
    Subject {
        /// The subject, shortened.
        subject: String,
        /// What is wrong with it.
        why: SubjectError,
    },
}

/// What is wrong with a subject.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectError {
    /// It does not begin with `chimera.` and a known kind.
    #[error("it is not one of Chimera's")]
    Foreign,
    /// It has too few or too many tokens for its kind.
    #[error("it has the wrong number of tokens for its kind")]
    TokenCount,
    /// A token is no id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The attempt is no number from 1 to 2^32 - 1 written without leading zeros.
    #[error("its attempt is no number from 1")]
    Attempt,
    /// It names no stream.
    #[error("it names no stream")]
    Stream,
}

impl WireError {
    /// The closed label used in logs and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::MissingField { .. } => "missing_field",
            Self::BadId { .. } => "bad_id",
            Self::UnknownEnum { .. } => "unknown_enum",
            Self::OutOfRange { .. } => "out_of_range",
            Self::BadJson { .. } => "bad_json",
            Self::Subject { .. } => "subject",
        }
    }
}

/// A peer that sent what cannot be understood gets `INVALID_ARGUMENT` and the reason.
impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
