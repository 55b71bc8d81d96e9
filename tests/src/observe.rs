//! What the bus holds, read by the test itself: the witness that no service can talk to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chimera_domain::control::{ControlEvent, ControlRecord, LegVerdict};
use chimera_domain::event::{AgentEvent, AgentRecord};
use chimera_domain::ids::{AgentKey, ExperimentId, RunId};
use chimera_runtime::bus::{Bus, StoredMessage};
use chimera_wire::codec;
use chimera_wire::subject::{Filter, StreamName, Subject};
use futures::StreamExt as _;

/// Everything that a stream holds on a filter.
///
/// # Errors
/// When it cannot be read to its end.
pub async fn stored(bus: &Bus, stream: StreamName, filter: &Filter) -> Result<Vec<StoredMessage>> {
    let mut messages = bus.replay(stream, filter, 0);
    let mut all = Vec::new();
    while let Some(message) = messages.next().await {
        all.push(message?);
    }
    Ok(all)
}

/// The control log of an experiment.
///
/// # Errors
/// When it cannot be read, or holds what is no record.
pub async fn control(bus: &Bus, experiment: &ExperimentId) -> Result<Vec<ControlEvent>> {
    let filter = Filter::CtrlOf(experiment.clone());
    stored(bus, StreamName::Ctrl, &filter)
        .await?
        .iter()
        .map(decode_control)
        .collect()
}

/// Waits until the control log of an experiment holds a certain record.
///
/// # Errors
/// When it does not come in time; with what came.
pub async fn until_control(
    bus: &Bus,
    experiment: &ExperimentId,
    what: &str,
    limit: Duration,
    wanted: impl Fn(&ControlEvent) -> bool,
) -> Result<ControlEvent> {
    let mut log = bus.follow(StreamName::Ctrl, &Filter::CtrlOf(experiment.clone()), 0);
    let mut seen = Vec::new();
    let found = async {
        while let Some(message) = log.next().await {
            let event = decode_control(&message?)?;
            if wanted(&event) {
                return Ok(event);
            }
            seen.push(summary(&event));
        }
        bail!("the control log ended")
    };
    match tokio::time::timeout(limit, found).await {
        Ok(found) => found,
        Err(_) => bail!(
            "no {what} within {limit:?}; the log holds: {}",
            seen.join(", ")
        ),
    }
}

/// Waits until a leg has been committed: its agents have their start instants.
///
/// # Errors
/// When it is not in time.
pub async fn until_committed(
    bus: &Bus,
    experiment: &ExperimentId,
    run: &str,
    limit: Duration,
) -> Result<ControlEvent> {
    until_control(
        bus,
        experiment,
        &format!("commit of {run}"),
        limit,
        |event| is_of(event, run) && matches!(event.record, ControlRecord::Committed { .. }),
    )
    .await
}

/// Waits until a leg is closed, and gives the record and its verdict.
///
/// # Errors
/// When it is not in time.
pub async fn until_closed(
    bus: &Bus,
    experiment: &ExperimentId,
    run: &str,
    limit: Duration,
) -> Result<(ControlEvent, LegVerdict)> {
    let event = until_control(
        bus,
        experiment,
        &format!("close of {run}"),
        limit,
        |event| is_of(event, run) && matches!(event.record, ControlRecord::Closed { .. }),
    )
    .await?;
    match event.record.clone() {
        ControlRecord::Closed { verdict } => Ok((event, verdict)),
        _ => bail!("not a close"),
    }
}

fn is_of(event: &ControlEvent, run: &str) -> bool {
    event.run.as_ref().is_some_and(|id| id.as_str() == run)
}

/// Waits until an agent's stream of any leg holds a record as wanted.
///
/// # Errors
/// When none comes in time.
pub async fn until_record(
    bus: &Bus,
    experiment: &ExperimentId,
    what: &str,
    limit: Duration,
    wanted: impl Fn(&AgentEvent) -> bool,
) -> Result<AgentEvent> {
    let mut stream = bus.follow(StreamName::Ev, &Filter::EvOf(experiment.clone()), 0);
    let found = async {
        while let Some(message) = stream.next().await {
            let event = decode_agent(&message?)?;
            if wanted(&event) {
                return Ok(event);
            }
        }
        bail!("the stream ended")
    };
    match tokio::time::timeout(limit, found).await {
        Ok(found) => found,
        Err(_) => bail!("no {what} within {limit:?}"),
    }
}

fn summary(event: &ControlEvent) -> String {
    let run = event.run.as_ref().map_or("experiment", RunId::as_str);
    let what = match &event.record {
        ControlRecord::Submitted { .. } => "submitted",
        ControlRecord::Reserved { .. } => "reserved",
        ControlRecord::Ready { .. } => "ready",
        ControlRecord::Committed { .. } => "committed",
        ControlRecord::Dequeued { .. } => "dequeued",
        ControlRecord::Admission { .. } => "assessed",
        ControlRecord::Closed { .. } => "closed",
        ControlRecord::Extended { .. } => "extended",
        ControlRecord::ExperimentClosed { .. } => "ended",
    };
    format!("{run} {what}")
}

fn decode_control(message: &StoredMessage) -> Result<ControlEvent> {
    match message.subject.parse()? {
        Subject::Ctrl { experiment, run } => {
            codec::decode_control_event(&experiment, run.as_ref(), &message.payload)
                .with_context(|| format!("message {} on {}", message.sequence, message.subject))
        }
        _ => bail!("{} is no subject of a control record", message.subject),
    }
}

fn decode_agent(message: &StoredMessage) -> Result<AgentEvent> {
    let key = key_of(message)?;
    codec::decode_agent_event(&key, &message.payload)
        .with_context(|| format!("message {} on {}", message.sequence, message.subject))
}

/// Whose stream a message belongs to.
///
/// # Errors
/// When its subject names none.
pub fn key_of(message: &StoredMessage) -> Result<AgentKey> {
    match message.subject.parse()? {
        Subject::Ev(key) => Ok(key),
        _ => bail!("{} is no subject of an agent", message.subject),
    }
}

/// One agent's stream as the bus holds it.
#[derive(Debug, Clone, Default)]
pub struct AgentStream {
    /// Records and their payloads by number. The first copy stands.
    pub records: BTreeMap<u64, (AgentEvent, Vec<u8>)>,
    /// Further copies.
    pub duplicates: u64,
    /// Messages that are no records.
    pub undecodable: u64,
}

impl AgentStream {
    /// Whether records 0 to the end are all there, the end states their number, and the hash in it
    /// is that of the payloads, byte for byte.
    ///
    /// # Errors
    /// In words, what is missing or differs.
    pub fn check_whole(&self) -> Result<()> {
        let numbers: Vec<u64> = self.records.keys().copied().collect();
        let wanted: Vec<u64> = (0..numbers.len() as u64).collect();
        if numbers != wanted {
            bail!("the numbers are {numbers:?}");
        }
        let Some((_, (last, _))) = self.records.last_key_value() else {
            bail!("it is empty")
        };
        let AgentRecord::End(end) = &last.record else {
            bail!("it has no end")
        };
        if end.records != last.n.saturating_sub(1) {
            bail!(
                "the end states {} records and is number {}",
                end.records,
                last.n
            );
        }
        let mut hash = codec::StreamHash::new();
        for (event, payload) in self.records.values() {
            if event.n < last.n {
                hash.push_payload(payload);
            }
        }
        if hash.to_hex() != end.sha256 {
            bail!("the hash is not that of the payloads");
        }
        Ok(())
    }
}

/// All agents' streams of an experiment, by key and epoch.
///
/// # Errors
/// When the stream cannot be read.
pub async fn agent_streams(
    bus: &Bus,
    experiment: &ExperimentId,
) -> Result<BTreeMap<(AgentKey, u64), AgentStream>> {
    let mut streams: BTreeMap<(AgentKey, u64), AgentStream> = BTreeMap::new();
    let mut bad: BTreeMap<AgentKey, u64> = BTreeMap::new();
    for message in stored(bus, StreamName::Ev, &Filter::EvOf(experiment.clone())).await? {
        let key = key_of(&message)?;
        let Ok(event) = codec::decode_agent_event(&key, &message.payload) else {
            *bad.entry(key).or_default() += 1;
            continue;
        };
        let stream = streams.entry((key, event.epoch)).or_default();
        match stream.records.entry(event.n) {
            std::collections::btree_map::Entry::Occupied(_) => stream.duplicates += 1,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert((event, message.payload.to_vec()));
            }
        }
    }
    for ((key, _), stream) in &mut streams {
        stream.undecodable = bad.get(key).copied().unwrap_or(0);
    }
    Ok(streams)
}
