//! Identities. Every id is a single NATS subject token, so that a subject can carry it unescaped.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest id accepted, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing between the delimiters.
    #[error("an id may not be empty")]
    Empty,
    /// More than [`MAX_ID_LEN`] bytes.
    #[error("the id '{0}' is longer than {MAX_ID_LEN} characters")]
    TooLong(String),
    /// A character that a subject token cannot carry.
    #[error("the id '{id}' may hold letters, digits, '-' and '_' only, not '{bad}'")]
    BadCharacter {
        /// The refused text.
        id: String,
        /// Its first character out of bounds.
        bad: char,
    },
}

fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_LEN {
        return Err(IdError::TooLong(id.chars().take(MAX_ID_LEN).collect()));
    }
    match id
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_'))
    {
        Some(bad) => Err(IdError::BadCharacter {
            id: id.to_owned(),
            bad,
        }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text and makes it an id.
            ///
            /// # Errors
            /// When the text is empty, too long or not a subject token.
            pub fn try_new(id: impl Into<String>) -> Result<Self, IdError> {
                let id = id.into();
                check(&id)?;
                Ok(Self(id))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(id: &str) -> Result<Self, IdError> {
                Self::try_new(id)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(id: String) -> Result<Self, IdError> {
                Self::try_new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id! {
    /// One submitted experiment.
    ExperimentId
}
id! {
    /// One leg as the run protocol sees it: a gang of one (solo) or of several agents.
    RunId
}
id! {
    /// One agent of a test; unique within the test (`collector`, `insight`, `collector-2`).
    AgentId
}
id! {
    /// What an agent is: names its prompt templates and its report file.
    Role
}
id! {
    /// One agent-worker process (or task of the local stack).
    WorkerId
}
id! {
    /// One engine instance.
    InstanceId
}
id! {
    /// One host that publishes telemetry.
    NodeId
}
id! {
    /// One request; sent to the engine as `X-Request-ID`.
    RequestId
}

/// What names a stream of agent records for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentKey {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The leg.
    pub run: RunId,
    /// Counts the tries at this leg from 1.
    pub attempt: u32,
    /// The agent.
    pub agent: AgentId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_subject_token() {
        assert_eq!(RunId::try_new("t1-r2_x").unwrap().as_str(), "t1-r2_x");
        assert_eq!(RunId::try_new(""), Err(IdError::Empty));
        for bad in ["a.b", "a b", "a*", "a>", "é"] {
            assert!(
                matches!(RunId::try_new(bad), Err(IdError::BadCharacter { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            RunId::try_new("x".repeat(65)),
            Err(IdError::TooLong(_))
        ));
    }

    #[test]
    fn serde_uses_the_same_door() {
        assert!(serde_json::from_str::<RunId>("\"a.b\"").is_err());
    }
}
