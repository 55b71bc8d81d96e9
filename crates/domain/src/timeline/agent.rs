//! One agent's stream of records.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::event::{
    AgentEvent, AgentRecord, Begin, End, EngineWatch, Finished, LocalStep, Output, PinCheck,
    PinMoment, RequestRecord, Started,
};
use crate::ids::AgentKey;

/// A stream under one fencing token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Whose.
    pub key: AgentKey,
    /// Written under this epoch.
    pub epoch: u64,
}

/// What the caller found of a stream's bytes; this crate knows no encoding and cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamIntegrity {
    /// Whether the encoded payloads agree with the closing record's hash; `None`: not checked.
    pub hash_ok: Option<bool>,
    /// Messages of the agent that could not be decoded.
    pub dead_letters: u64,
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// No record 0.
    NoBegin,
    /// No closing record.
    NoEnd,
    /// Records missing, first and last of the hole.
    Missing {
        /// First missing number.
        from: u64,
        /// Last missing number.
        to: u64,
    },
    /// Two different records under one number.
    Conflict {
        /// The number.
        n: u64,
    },
    /// The closing record states another count.
    Count {
        /// What it states.
        stated: u64,
        /// What its own number implies.
        found: u64,
    },
    /// The closing record's hash is not that of the payloads.
    Hash,
    /// A record where its kind may not stand, or a second one of a kind that occurs once.
    Misplaced {
        /// The number.
        n: u64,
        /// The kind.
        kind: &'static str,
    },
    /// Messages on the stream's subject that could not be decoded and went to the dead letters.
    Undecodable {
        /// How many.
        count: u64,
    },
    /// Records after the closing one.
    AfterEnd {
        /// First such number.
        n: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBegin => f.write_str("the opening record is missing"),
            Self::NoEnd => f.write_str("the closing record is missing"),
            Self::Missing { from, to } if from == to => write!(f, "record {from} is missing"),
            Self::Missing { from, to } => write!(f, "records {from} to {to} are missing"),
            Self::Conflict { n } => write!(f, "two different records bear the number {n}"),
            Self::Count { stated, found } => {
                write!(
                    f,
                    "the closing record states {stated} records, its number says {found}"
                )
            }
            Self::Hash => f.write_str("the records disagree with the hash in the closing record"),
            Self::Misplaced { n, kind } => write!(f, "record {n} ({kind}) may not stand there"),
            Self::Undecodable { count } => write!(f, "{count} messages could not be decoded"),
            Self::AfterEnd { n } => write!(f, "record {n} follows the closing record"),
        }
    }
}

/// One agent in one attempt at one leg.
#[derive(Debug, Clone)]
pub struct AgentTimeline<'a> {
    /// Which stream.
    pub stream: StreamId,
    /// Opening record.
    pub begin: Option<&'a Begin>,
    /// The instance before the work.
    pub pin_before: Option<&'a PinCheck>,
    /// The instance after the work.
    pub pin_after: Option<&'a PinCheck>,
    /// When it left the barrier.
    pub started: Option<&'a Started>,
    /// Steps without the model, in order of their numbers.
    pub local: Vec<&'a LocalStep>,
    /// Requests, in order of their numbers.
    pub requests: Vec<&'a RequestRecord>,
    /// Texts, in order of their numbers.
    pub outputs: Vec<&'a Output>,
    /// The engine's states while it worked.
    pub engine: Option<&'a EngineWatch>,
    /// How it ended.
    pub finished: Option<&'a Finished>,
    /// Closing record.
    pub end: Option<&'a End>,
    /// Whether the caller found the payloads to agree with the closing hash; `None`: not checked.
    pub hash_ok: Option<bool>,
    /// What is wrong. Empty: the stream is complete.
    pub flaws: Vec<Flaw>,
    /// Further copies of records that were dropped.
    pub duplicates: u64,
}

impl<'a> AgentTimeline<'a> {
    /// Folds the records of one stream, in any order, with any duplicates.
    ///
    /// *Shape*: all of `events` are of `stream`.
    pub fn fold(
        stream: StreamId,
        events: impl IntoIterator<Item = &'a AgentEvent>,
        integrity: StreamIntegrity,
    ) -> Self {
        let mut timeline = Self::empty(stream, integrity.hash_ok);
        let mut records: BTreeMap<u64, &'a AgentRecord> = BTreeMap::new();
        let mut conflicts: BTreeSet<u64> = BTreeSet::new();
        for event in events {
            let Some(known) = records.get_mut(&event.n) else {
                records.insert(event.n, &event.record);
                continue;
            };
            if **known == event.record {
                timeline.duplicates = timeline.duplicates.saturating_add(1);
            } else {
                conflicts.insert(event.n);
                if text_order(&event.record, known) == Ordering::Less {
                    *known = &event.record;
                }
            }
        }
        timeline
            .flaws
            .extend(conflicts.into_iter().map(|n| Flaw::Conflict { n }));
        timeline.check_numbers(&records);
        for (n, record) in records {
            timeline.take(n, record);
        }
        if integrity.hash_ok == Some(false) {
            timeline.flaws.push(Flaw::Hash);
        }
        if integrity.dead_letters > 0 {
            timeline.flaws.push(Flaw::Undecodable {
                count: integrity.dead_letters,
            });
        }
        timeline
    }

    /// Whether every record is there and agrees with the closing one.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.flaws.is_empty()
    }

    /// From leaving the barrier to the end of the last step, ns of the worker's own clock.
    ///
    /// *Undefined when* either is missing, or the stamps run backwards.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        self.finished?.at.since(self.started?.actual)
    }

    fn empty(stream: StreamId, hash_ok: Option<bool>) -> Self {
        Self {
            stream,
            begin: None,
            pin_before: None,
            pin_after: None,
            started: None,
            local: Vec::new(),
            requests: Vec::new(),
            outputs: Vec::new(),
            engine: None,
            finished: None,
            end: None,
            hash_ok,
            flaws: Vec::new(),
            duplicates: 0,
        }
    }

    fn check_numbers(&mut self, records: &BTreeMap<u64, &'a AgentRecord>) {
        let mut next = 0_u64;
        for n in records.keys().copied() {
            // Record 0 has a flaw of its own name.
            let from = next.max(1);
            if n > from {
                self.flaws.push(Flaw::Missing { from, to: n - 1 });
            }
            next = n.saturating_add(1);
        }
        if !matches!(records.get(&0), Some(AgentRecord::Begin(_))) {
            self.flaws.push(Flaw::NoBegin);
        }
        let end = records.iter().find_map(|(n, record)| match record {
            AgentRecord::End(end) => Some((*n, end)),
            _ => None,
        });
        match end {
            None => self.flaws.push(Flaw::NoEnd),
            Some((n, end)) => {
                let found = n.saturating_sub(1);
                if end.records != found {
                    self.flaws.push(Flaw::Count {
                        stated: end.records,
                        found,
                    });
                }
                if let Some((after, _)) = records.range(n.saturating_add(1)..).next() {
                    self.flaws.push(Flaw::AfterEnd { n: *after });
                }
            }
        }
    }

    fn take(&mut self, n: u64, record: &'a AgentRecord) {
        let fresh = match record {
            AgentRecord::Begin(begin) => n == 0 && set(&mut self.begin, begin),
            AgentRecord::Pin(pin) => match pin.moment {
                PinMoment::Before => set(&mut self.pin_before, pin),
                PinMoment::After => set(&mut self.pin_after, pin),
            },
            AgentRecord::Started(started) => set(&mut self.started, started),
            AgentRecord::Finished(finished) => set(&mut self.finished, finished),
            AgentRecord::End(end) => set(&mut self.end, end),
            AgentRecord::Local(step) => {
                self.local.push(step);
                true
            }
            AgentRecord::Request(request) => {
                self.requests.push(request);
                true
            }
            AgentRecord::Output(output) => {
                self.outputs.push(output);
                true
            }
            AgentRecord::Engine(watch) => set(&mut self.engine, watch),
        };
        if !fresh {
            self.flaws.push(Flaw::Misplaced {
                n,
                kind: kind(record),
            });
        }
    }
}

fn set<'a, T>(slot: &mut Option<&'a T>, value: &'a T) -> bool {
    let fresh = slot.is_none();
    if fresh {
        *slot = Some(value);
    }
    fresh
}

fn kind(record: &AgentRecord) -> &'static str {
    match record {
        AgentRecord::Begin(_) => "begin",
        AgentRecord::Pin(_) => "pin",
        AgentRecord::Started(_) => "started",
        AgentRecord::Local(_) => "local",
        AgentRecord::Request(_) => "request",
        AgentRecord::Output(_) => "output",
        AgentRecord::Engine(_) => "engine",
        AgentRecord::Finished(_) => "finished",
        AgentRecord::End(_) => "end",
    }
}

/// Any total order will do: it only makes the choice between two conflicting records, both of which
/// are refused in the end, independent of which came first.
fn text_order(a: &AgentRecord, b: &AgentRecord) -> Ordering {
    format!("{a:?}").cmp(&format!("{b:?}"))
}

/// All streams of an experiment.
#[derive(Debug, Clone, Default)]
pub struct Streams<'a> {
    by_id: BTreeMap<StreamId, Vec<&'a AgentEvent>>,
}

impl<'a> Streams<'a> {
    /// Sorts records into their streams.
    #[must_use]
    pub fn sort(events: &'a [AgentEvent]) -> Self {
        // Neighbours mostly share a stream: looking the same key up again would compare four strings
        // per record.
        let mut by_key: BTreeMap<&'a AgentKey, BTreeMap<u64, Vec<&'a AgentEvent>>> =
            BTreeMap::new();
        for run in events.chunk_by(|a, b| a.epoch == b.epoch && a.key == b.key) {
            if let Some(first) = run.first() {
                by_key
                    .entry(&first.key)
                    .or_default()
                    .entry(first.epoch)
                    .or_default()
                    .extend(run);
            }
        }
        let by_id = by_key
            .into_iter()
            .flat_map(|(key, epochs)| {
                epochs.into_iter().map(move |(epoch, events)| {
                    (
                        StreamId {
                            key: key.clone(),
                            epoch,
                        },
                        events,
                    )
                })
            })
            .collect();
        Self { by_id }
    }

    /// Records of one stream, in the order of the input. Empty if there is no such stream.
    #[must_use]
    pub fn records(&self, stream: &StreamId) -> &[&'a AgentEvent] {
        self.by_id
            .get(stream)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Every stream, by rising id.
    pub fn ids(&self) -> impl Iterator<Item = &StreamId> {
        self.by_id.keys()
    }

    /// How many records of a stream bear different numbers.
    #[must_use]
    pub fn distinct(&self, stream: &StreamId) -> u64 {
        let mut numbers: Vec<u64> = self.records(stream).iter().map(|event| event.n).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len() as u64
    }
}
