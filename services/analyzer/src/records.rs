//! The records of one experiment, whole: what a report is made of, live or from a bundle.

use std::collections::{BTreeMap, BTreeSet};

use chimera_domain::control::{ControlEvent, ControlRecord};
use chimera_domain::event::{AgentEvent, AgentRecord};
use chimera_domain::ids::AgentKey;
use chimera_domain::render::{self, File};
use chimera_domain::report::{self, Environment, Input, Integrity, Report};
use chimera_domain::telemetry::TelemetryBatch;
use chimera_domain::timeline::{AgentTimeline, StreamId, StreamIntegrity, Streams};
use chimera_wire::codec::StreamHash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::table::{EVENTS_PARQUET, events_parquet};

/// Why no report came of the records.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The records are no experiment.
    #[error("the records make no report")]
    Build(#[from] report::BuildError),
    /// A part has no textual form.
    #[error("the report cannot be written out")]
    Render(#[from] render::RenderError),
    /// The table of requests cannot be written.
    #[error("the table of requests cannot be written")]
    Table(#[from] parquet::errors::ParquetError),
}

/// A message that could not be decoded. It is kept in the dead-letter stream, here only counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it had come.
    pub subject: String,
    /// Whose stream it belongs to, if the subject says.
    pub key: Option<AgentKey>,
    /// Why it could not be read.
    pub reason: String,
}

/// Everything that was said about one experiment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// The coordinator's log.
    pub control: Vec<ControlEvent>,
    /// The agents' records.
    pub events: Vec<AgentEvent>,
    /// Telemetry of the time of the experiment.
    pub telemetry: Vec<TelemetryBatch>,
    /// What could not be read.
    pub dead: Vec<DeadLetter>,
}

/// A report with all its files.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The report.
    pub report: Report,
    /// Its files by path, `report.json` among them.
    pub files: Vec<File>,
    /// Further copies of records that were dropped; true of this delivery only.
    pub duplicates: u64,
}

/// The agents' streams of an experiment, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamCount {
    /// All of them, those of attempts that were given up too.
    pub total: usize,
    /// Those that are not whole, by rising id, with what is wrong. A stream that was cut short when it
    /// was measured is one, and the report holds it against its leg.
    pub flawed: Vec<String>,
}

impl StreamCount {
    /// Streams with every record, in sequence, as their closing hash says.
    #[must_use]
    pub fn whole(&self) -> usize {
        self.total.saturating_sub(self.flawed.len())
    }
}

impl Records {
    /// Checks every agent's stream by itself: its sequence, its end, and the hash in that.
    #[must_use]
    pub fn streams(&self) -> StreamCount {
        let integrity = self.integrity();
        let streams = Streams::sort(&self.events);
        let flawed = streams.ids().filter_map(|id| {
            let found = StreamIntegrity {
                hash_ok: integrity.hashes.get(id).copied(),
                dead_letters: integrity
                    .dead_letters
                    .get(&id.key)
                    .copied()
                    .unwrap_or_default(),
            };
            let events = streams.records(id).iter().copied();
            let stream = AgentTimeline::fold(id.clone(), events, found);
            let (run, agent) = (&id.key.run, &id.key.agent);
            let flaws: Vec<String> = stream.flaws.iter().map(ToString::to_string).collect();
            let attempt = id.key.attempt;
            (!flaws.is_empty())
                .then(|| format!("{run}, attempt {attempt}, {agent}: {}", flaws.join("; ")))
        });
        StreamCount {
            total: streams.ids().count(),
            flawed: flawed.collect(),
        }
    }

    /// Computes the report. The same records give the same bytes, in any order.
    ///
    /// # Errors
    /// When the records are no experiment.
    pub fn render(&self, environment: &Environment) -> Result<Rendered, ReportError> {
        let built = report::build_counted(&self.input(environment))?;
        let outputs = report::outputs(&self.control, &self.events)?;
        let mut files = render::files(&built.report, &outputs)?;
        files.push((EVENTS_PARQUET.to_owned(), events_parquet(&built.report)?));
        files.sort();
        Ok(Rendered {
            report: built.report,
            files,
            duplicates: built.duplicates,
        })
    }

    /// Computes the report alone, of an experiment that may still go on.
    ///
    /// # Errors
    /// When the records are no experiment.
    pub fn report(&self, environment: &Environment) -> Result<Report, ReportError> {
        Ok(report::build(&self.input(environment))?)
    }

    /// Verdicts on attempts at legs.
    #[must_use]
    pub fn verdicts(&self) -> u32 {
        let closed = self.control.iter().filter_map(|event| match &event.record {
            ControlRecord::Closed { .. } => Some((event.run.as_ref()?, event.attempt)),
            _ => None,
        });
        u32::try_from(closed.collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX)
    }

    fn input(&self, environment: &Environment) -> Input<'_> {
        Input::new(&self.control, &self.events, environment.clone())
            .with_telemetry(&self.telemetry)
            .with_integrity(self.integrity())
    }

    fn integrity(&self) -> Integrity {
        let mut integrity = Integrity {
            hashes: self.hashes(),
            ..Integrity::default()
        };
        for letter in &self.dead {
            match &letter.key {
                Some(key) => *integrity.dead_letters.entry(key.clone()).or_default() += 1,
                None => integrity.stray_dead_letters += 1,
            }
        }
        integrity
    }

    /// Encodes every stream again and compares with the hash at its end. A stream without an end
    /// has nothing to compare with; its gap is found elsewhere.
    fn hashes(&self) -> BTreeMap<StreamId, bool> {
        let mut streams: BTreeMap<StreamId, BTreeMap<u64, &AgentEvent>> = BTreeMap::new();
        for event in &self.events {
            let id = StreamId {
                key: event.key.clone(),
                epoch: event.epoch,
            };
            // The first copy stands; another content under one number is a flaw of its own.
            streams
                .entry(id)
                .or_default()
                .entry(event.n)
                .or_insert(event);
        }
        streams
            .into_iter()
            .filter_map(|(id, stream)| {
                let end = stream.values().find_map(|event| match &event.record {
                    AgentRecord::End(end) => Some(end),
                    _ => None,
                })?;
                let mut hash = StreamHash::new();
                for event in stream.values() {
                    if !matches!(event.record, AgentRecord::End(_)) {
                        hash.push_event(event);
                    }
                }
                Some((id, hash.to_hex() == end.sha256))
            })
            .collect()
    }
}
