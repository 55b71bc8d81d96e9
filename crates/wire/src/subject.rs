//! Subjects, stream names, consumer filters and message ids: the only place where one is built or
//! parsed.
//!
//! ```
//! use chimera_wire::subject::Subject;
//! let subject: Subject = "chimera.ev.e1.t1-r2-together.1.collector".parse()?;
//! assert_eq!(subject.to_string(), "chimera.ev.e1.t1-r2-together.1.collector");
//! # Ok::<(), chimera_wire::WireError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use chimera_domain::control::ControlEvent;
use chimera_domain::ids::{AgentId, AgentKey, ExperimentId, IdError, NodeId, RunId};

use crate::error::{SubjectError, WireError};

/// Stands for "no run" in a control subject. Legal in a NATS subject and no legal [`RunId`], so
/// the two cannot be mistaken.
const NO_RUN: &str = "~";

/// Longest subject quoted in an error, in characters.
const QUOTED: usize = 120;

/// Header of a dead letter: the subject on which it had come.
pub const DLQ_SUBJECT_HEADER: &str = "Chimera-Dlq-Subject";
/// Header of a dead letter: its sequence number in the stream it came from.
pub const DLQ_SEQUENCE_HEADER: &str = "Chimera-Dlq-Sequence";
/// Header of a dead letter: [`WireError::kind`] and its words.
pub const DLQ_REASON_HEADER: &str = "Chimera-Dlq-Reason";

/// A `JetStream` stream of Chimera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamName {
    /// The coordinator's log.
    Ctrl,
    /// Agent records.
    Ev,
    /// Telemetry.
    Tel,
    /// Dead letters: what could not be decoded.
    Dlq,
}

impl StreamName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ctrl, Self::Ev, Self::Tel, Self::Dlq];

    /// The stream's name on the server.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ctrl => "CTRL",
            Self::Ev => "EV",
            Self::Tel => "TEL",
            Self::Dlq => "DLQ",
        }
    }

    /// Every subject that the stream keeps.
    #[must_use]
    pub fn filter(self) -> Filter {
        match self {
            Self::Ctrl => Filter::Ctrl,
            Self::Ev => Filter::Ev,
            Self::Tel => Filter::Tel,
            Self::Dlq => Filter::Dlq,
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StreamName {
    type Err = SubjectError;
    fn from_str(name: &str) -> Result<Self, SubjectError> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == name)
            .ok_or(SubjectError::Stream)
    }
}

/// A subject on which Chimera publishes. `Display` gives its text, `FromStr` takes it apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// `chimera.ctrl.<experiment>.<run>`; `~` in place of the run for the whole experiment.
    Ctrl {
        /// Which experiment.
        experiment: ExperimentId,
        /// Which leg; `None` for what concerns the whole experiment.
        run: Option<RunId>,
    },
    /// `chimera.ctrl.epoch`: claims of coordinators; the place of a claim in the stream is the
    /// epoch. Two tokens after `chimera`, so that no experiment's subject can be it.
    Epoch,
    /// `chimera.ev.<experiment>.<run>.<attempt>.<agent>`.
    Ev(AgentKey),
    /// `chimera.tel.<node>`.
    Tel(NodeId),
    /// `chimera.dlq.<stream>`: what came on that stream and could not be decoded.
    Dlq(StreamName),
    /// `chimera.live.<experiment>`: display only, kept by no stream.
    Live(ExperimentId),
}

impl Subject {
    /// Where a control event belongs.
    #[must_use]
    pub fn of_control(event: &ControlEvent) -> Self {
        Self::Ctrl {
            experiment: event.experiment.clone(),
            run: event.run.clone(),
        }
    }

    /// The stream that keeps this subject; `None` for live subjects.
    #[must_use]
    pub fn stream(&self) -> Option<StreamName> {
        match self {
            Self::Ctrl { .. } | Self::Epoch => Some(StreamName::Ctrl),
            Self::Ev(_) => Some(StreamName::Ev),
            Self::Tel(_) => Some(StreamName::Tel),
            Self::Dlq(_) => Some(StreamName::Dlq),
            Self::Live(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ctrl { experiment, run } => {
                let run = run.as_ref().map_or(NO_RUN, RunId::as_str);
                write!(f, "chimera.ctrl.{experiment}.{run}")
            }
            Self::Epoch => f.write_str("chimera.ctrl.epoch"),
            Self::Ev(AgentKey {
                experiment,
                run,
                attempt,
                agent,
            }) => {
                write!(f, "chimera.ev.{experiment}.{run}.{attempt}.{agent}")
            }
            Self::Tel(node) => write!(f, "chimera.tel.{node}"),
            Self::Dlq(stream) => write!(f, "chimera.dlq.{stream}"),
            Self::Live(experiment) => write!(f, "chimera.live.{experiment}"),
        }
    }
}

fn token<T: FromStr<Err = IdError>>(text: &str) -> Result<T, SubjectError> {
    Ok(text.parse()?)
}

fn parse_attempt(text: &str) -> Result<u32, SubjectError> {
    // `u32::from_str` takes "+1" and "01" as well; each attempt must have one spelling only.
    match text.parse::<u32>() {
        Ok(attempt) if attempt > 0 && attempt.to_string() == text => Ok(attempt),
        _ => Err(SubjectError::Attempt),
    }
}

fn parse(subject: &str) -> Result<Subject, SubjectError> {
    let mut tokens = subject.split('.');
    if tokens.next() != Some("chimera") {
        return Err(SubjectError::Foreign);
    }
    let kind = tokens.next().ok_or(SubjectError::Foreign)?;
    // One more than the longest kind has, so that a surplus is seen and an endless subject is not
    // collected.
    let rest: Vec<&str> = tokens.take(5).collect();
    match (kind, rest.as_slice()) {
        ("ctrl", [experiment, run]) => Ok(Subject::Ctrl {
            experiment: token(experiment)?,
            run: if *run == NO_RUN {
                None
            } else {
                Some(token(run)?)
            },
        }),
        ("ctrl", ["epoch"]) => Ok(Subject::Epoch),
        ("ev", [experiment, run, attempt, agent]) => Ok(Subject::Ev(AgentKey {
            experiment: token(experiment)?,
            run: token(run)?,
            attempt: parse_attempt(attempt)?,
            agent: token::<AgentId>(agent)?,
        })),
        ("tel", [node]) => Ok(Subject::Tel(token(node)?)),
        ("dlq", [stream]) => Ok(Subject::Dlq(stream.parse()?)),
        ("live", [experiment]) => Ok(Subject::Live(token(experiment)?)),
        ("ctrl" | "ev" | "tel" | "dlq" | "live", _) => Err(SubjectError::TokenCount),
        _ => Err(SubjectError::Foreign),
    }
}

impl FromStr for Subject {
    type Err = WireError;
    fn from_str(subject: &str) -> Result<Self, WireError> {
        parse(subject).map_err(|why| WireError::Subject {
            subject: subject.chars().take(QUOTED).collect(),
            why,
        })
    }
}

/// What a consumer or a stream takes in. `Display` gives the text for the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The whole control log.
    Ctrl,
    /// Control events of one experiment, those of the whole experiment included.
    CtrlOf(ExperimentId),
    /// All agent records.
    Ev,
    /// Agent records of one experiment.
    EvOf(ExperimentId),
    /// Agent records of one leg, all attempts.
    EvOfRun(ExperimentId, RunId),
    /// Agent records of one attempt at one leg.
    EvOfAttempt(ExperimentId, RunId, u32),
    /// Telemetry of all nodes.
    Tel,
    /// Telemetry of one node.
    TelOf(NodeId),
    /// All dead letters.
    Dlq,
    /// Live progress of all experiments.
    Live,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ctrl => f.write_str("chimera.ctrl.>"),
            Self::CtrlOf(experiment) => write!(f, "chimera.ctrl.{experiment}.>"),
            Self::Ev => f.write_str("chimera.ev.>"),
            Self::EvOf(experiment) => write!(f, "chimera.ev.{experiment}.>"),
            Self::EvOfRun(experiment, run) => write!(f, "chimera.ev.{experiment}.{run}.>"),
            Self::EvOfAttempt(experiment, run, attempt) => {
                write!(f, "chimera.ev.{experiment}.{run}.{attempt}.>")
            }
            Self::Tel => f.write_str("chimera.tel.>"),
            Self::TelOf(node) => write!(f, "chimera.tel.{node}"),
            Self::Dlq => f.write_str("chimera.dlq.>"),
            Self::Live => f.write_str("chimera.live.>"),
        }
    }
}

/// The message id of record `n` of an agent's stream: the same for every retry.
///
/// The server drops a second message of the same id on one stream whatever its subject and body,
/// so the id holds everything that tells two records apart.
#[must_use]
pub fn msg_id_agent(key: &AgentKey, n: u64) -> String {
    let AgentKey {
        experiment,
        run,
        attempt,
        agent,
    } = key;
    format!("ev.{experiment}.{run}.{attempt}.{agent}.{n}")
}

/// The message id of a control event: `sequence` counts what a coordinator of this `epoch` writes
/// on this experiment.
#[must_use]
pub fn msg_id_ctrl(experiment: &ExperimentId, epoch: u64, sequence: u64) -> String {
    format!("ctrl.{experiment}.{epoch}.{sequence}")
}

/// The message id of a telemetry batch: `session` is new for every start of the sampler, within
/// which `sequence` counts its batches.
#[must_use]
pub fn msg_id_tel(node: &NodeId, session: &str, sequence: u64) -> String {
    format!("tel.{node}.{session}.{sequence}")
}

/// The message id of a dead letter: where it came from, so that a redelivery is kept once.
#[must_use]
pub fn msg_id_dlq(stream: StreamName, stream_sequence: u64) -> String {
    format!("dlq.{stream}.{stream_sequence}")
}
