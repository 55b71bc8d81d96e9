//! How fast the agents of a leg wrote, for the picture of it: read once, between two legs, from
//! the records that the workers stored. Display only; the report computes its own.

use std::collections::BTreeMap;
use std::time::Duration;

use chimera_domain::event::{AgentEvent, AgentRecord};
use chimera_domain::ids::AgentId;
use chimera_domain::latency::output_tokens;
use chimera_domain::session::AgentRate;
use chimera_domain::units::{MonoNs, ns_to_s};
use chimera_runtime::bus::Bus;
use chimera_wire::codec;
use chimera_wire::subject::{Filter, StreamName, Subject};
use futures::StreamExt as _;

use crate::gang::Gang;

/// A picture is not worth a longer pause between two legs.
const LIMIT: Duration = Duration::from_secs(2);

/// The rates of the leg that has just closed, in pin order. *Shape*: agents that are not known to
/// have written anything are absent; empty when the bus is slow.
pub(crate) async fn of_attempt(bus: &Bus, gang: &Gang<'_>) -> Vec<AgentRate> {
    let found = tokio::time::timeout(LIMIT, read(bus, gang)).await;
    let by_agent = found.unwrap_or_else(|_| {
        tracing::debug!("the rates of a leg could not be read in time");
        BTreeMap::new()
    });
    let rate = |agent: &AgentId| {
        let tokens_per_s = by_agent.get(agent)?.tokens_per_s()?;
        Some(AgentRate {
            agent: agent.clone(),
            tokens_per_s,
        })
    };
    gang.members.iter().filter_map(|m| rate(&m.agent)).collect()
}

async fn read(bus: &Bus, gang: &Gang<'_>) -> BTreeMap<AgentId, Written> {
    let leg = &gang.leg_ref;
    let filter = Filter::EvOfAttempt(leg.experiment.clone(), leg.run.clone(), leg.attempt);
    let mut messages = bus.replay(StreamName::Ev, &filter, 0);
    let mut found: BTreeMap<AgentId, Written> = BTreeMap::new();
    while let Some(Ok(message)) = messages.next().await {
        let Ok(Subject::Ev(key)) = message.subject.parse() else {
            continue;
        };
        // What cannot be read is the analyzer's business.
        if let Ok(event) = codec::decode_agent_event(&key, &message.payload)
            && event.epoch == leg.epoch
        {
            found.entry(key.agent).or_default().take(&event);
        }
    }
    found
}

/// What an agent wrote, and when.
#[derive(Debug, Default, PartialEq)]
struct Written {
    tokens: u64,
    from: Option<MonoNs>,
    until: Option<MonoNs>,
}

impl Written {
    fn take(&mut self, event: &AgentEvent) {
        match &event.record {
            AgentRecord::Started(started) => self.from = Some(started.actual),
            AgentRecord::Finished(finished) => self.until = Some(finished.at),
            AgentRecord::Request(request) => {
                let tokens = output_tokens(request).map_or(0, |(tokens, _)| tokens);
                self.tokens = self.tokens.saturating_add(u64::from(tokens));
            }
            _ => {}
        }
    }

    /// *Undefined when* it wrote nothing, or its start or end is not known.
    #[expect(clippy::cast_precision_loss, reason = "display only")]
    fn tokens_per_s(&self) -> Option<f64> {
        let took = ns_to_s(self.until?.since(self.from?)?);
        (self.tokens > 0 && took > 0.0).then(|| self.tokens as f64 / took)
    }
}
