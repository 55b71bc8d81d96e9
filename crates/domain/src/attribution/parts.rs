//! One request taken apart.
//!
//! Rule. The window of a request runs from `sent` to its last content chunk; without content, or for
//! one that failed, to its last stamp. The window falls into what lies before the first chunk and what
//! lies after it. *Before*: prefill and load as the engine states them, cut to what fits; of the load
//! duration, the time in which the instance worked for other agents is [`Part::Queue`] (Ollama's also
//! holds the wait for its scheduler); of what is left, the time in which others held every slot is
//! queue, too, or all that the engine had it if its own state says that a request waited meanwhile. *After*:
//! [`Part::Stall`] is what a gap exceeds [`STALL_FACTOR`] times the usual pace by, the rest is
//! [`Part::Decode`]. What then is left before the first chunk is client, transport or unsplit:
//!
//! - [`Part::Client`] is a share of the thread's wait for a core. A wait while the engine worked costs
//!   nothing, because the engine does not wait for the reader: so it is taken out of what no part of
//!   the engine's account covers, first before the first chunk, then from stalls and, only where the
//!   engine states its eval time and the chunks took longer, from decode. A wait beyond that was
//!   hidden and is in no part.
//! - [`Part::Transport`] is what the stream took beyond the engine's own total, after the client's part.
//! - [`Part::Unsplit`] is the rest.
//!
//! All is counted in whole nanoseconds, and each part is taken from what the earlier ones left: parts
//! are never negative and sum to the window. Non-goal: an engine that states nothing is not guessed at.

use super::types::Parts;
use super::view::{AgentView, LegView};
use crate::event::{EngineState, RequestRecord};
use crate::plan::Topology;
use crate::units::{MonoNs, ns_to_ms};

/// A gap between arrivals is a stall from this many times the usual one on.
///
/// Speculative decoding writes up to about four tokens at once, and two agents that take turns on a
/// core double a gap: neither is a stall.
pub const STALL_FACTOR: u64 = 5;

/// Chunks closer together than this came in one read, ns: tokens that had piled up.
const ONE_READ_NS: u64 = 500_000;

/// From `sent` to the last content chunk; for a request that failed or wrote nothing, to its last
/// stamp (the end of its stream, else its last chunk, else its head), ns. 0 if it has none.
#[must_use]
pub fn window_ns(request: &RequestRecord) -> u64 {
    let last = request.chunk_ns.last().copied();
    if request.error.is_none()
        && let Some(last) = last
    {
        return last;
    }
    let stamps = [request.done_ns, last, request.head_ns];
    stamps.into_iter().flatten().max().unwrap_or(0)
}

/// What an instance did for other agents, and said of itself, while an agent worked.
#[derive(Debug, Clone, Default)]
pub(super) struct Around<'a> {
    /// From the start of a request's prefill to its last chunk, on the agent's own clock.
    served: Vec<(MonoNs, MonoNs)>,
    /// Requests that the instance works on at once.
    slots: usize,
    /// Whether others were on the instance whose instants do not compare with the agent's.
    out_of_sight: bool,
    states: &'a [EngineState],
}

impl<'a> Around<'a> {
    /// What is known around an agent of a leg.
    ///
    /// Instants of another boot do not compare without a bound on their error, and a wait of
    /// milliseconds is below most bounds: other agents there are out of sight.
    pub(super) fn of(leg: &LegView<'a>, agent: &AgentView<'a>, topology: Topology) -> Self {
        let timeline = agent.timeline;
        let boot = |view: &AgentView<'a>| view.timeline.begin.map(|begin| &begin.clock.boot_id);
        let others = leg
            .agents
            .iter()
            .filter(|other| other.timeline.stream != timeline.stream)
            .filter(|other| one_instance(other, agent));
        let (mut served, mut out_of_sight) = (Vec::new(), false);
        for other in others {
            if boot(other) == boot(agent) {
                served.extend(
                    other
                        .timeline
                        .requests
                        .iter()
                        .filter_map(|r| served_span(r)),
                );
            } else {
                out_of_sight = true;
            }
        }
        served.sort_unstable();
        let stated = timeline.pin_before.and_then(|pin| pin.facts.parallel_slots);
        let slots = match (stated, topology) {
            (Some(slots), _) | (None, Topology::Shared { slots }) => slots,
            (None, Topology::Pinned) => 1,
        };
        Self {
            served,
            slots: usize::try_from(slots).unwrap_or(usize::MAX).max(1),
            out_of_sight,
            states: timeline.engine.map_or(&[], |watch| watch.states.as_slice()),
        }
    }

    /// Time in `from..to` in which the instance worked on `count` requests of others or more, ns.
    fn busy_ns(&self, from: MonoNs, to: MonoNs, count: usize) -> u64 {
        let mut edges: Vec<(MonoNs, bool)> = self
            .served
            .iter()
            .map(|(begin, end)| ((*begin).max(from), (*end).min(to)))
            .filter(|(begin, end)| begin < end)
            .flat_map(|(begin, end)| [(begin, true), (end, false)])
            .collect();
        edges.sort_unstable();
        let (mut active, mut last, mut busy) = (0_usize, from, 0_u64);
        for (at, opens) in edges {
            if active >= count {
                busy = busy.saturating_add(at.since(last).unwrap_or(0));
            }
            active = if opens {
                active.saturating_add(1)
            } else {
                active.saturating_sub(1)
            };
            last = at;
        }
        busy
    }

    /// Whether the engine said inside `from..to` that a request waited: there, that was this one.
    fn told_to_wait(&self, from: MonoNs, to: MonoNs) -> bool {
        self.states.iter().any(|state| {
            (from..to).contains(&state.at) && state.requests_waiting.is_some_and(|n| n > 0)
        })
    }
}

/// Whether two agents of a leg are on one engine: the same claim, or the same address of one host.
fn one_instance(a: &AgentView<'_>, b: &AgentView<'_>) -> bool {
    let (Some(left), Some(right)) = (a.timeline.begin, b.timeline.begin) else {
        return false;
    };
    let url = |view: &AgentView<'_>| {
        let pin = view.timeline.pin_before?;
        Some(pin.facts.url.clone()).filter(|url| !url.is_empty())
    };
    left.instance == right.instance
        || (left.clock.boot_id == right.clock.boot_id && url(a).is_some() && url(a) == url(b))
}

/// From the start of a request's prefill to its last chunk. Where the engine states no prefill, from
/// the first chunk: before it the request may itself have waited.
fn served_span(request: &RequestRecord) -> Option<(MonoNs, MonoNs)> {
    let (first, last) = (request.chunk_ns.first()?, request.chunk_ns.last()?);
    let prefill = request.engine_times.prompt_eval_ns.unwrap_or(0);
    let begin = first.saturating_sub(prefill);
    Some((request.sent.plus(begin), request.sent.plus(*last)))
}

/// Takes a request apart. See the rule of this module.
pub(super) fn take_apart(request: &RequestRecord, around: &Around<'_>) -> Parts {
    let engine = &request.engine_times;
    let window = window_ns(request);
    let first = request
        .chunk_ns
        .first()
        .map_or(window, |first| (*first).min(window));

    let prefill = engine.prompt_eval_ns.map(|ns| ns.min(first));
    let before = first - prefill.unwrap_or(0);
    let stated_load = engine.load_ns.map(|ns| ns.min(before));
    let loaded = request.sent.plus(stated_load.unwrap_or(0));
    let begun = request.sent.plus(before);
    let behind = around
        .busy_ns(request.sent, loaded, 1)
        .min(stated_load.unwrap_or(0));
    let mut rest = before - stated_load.unwrap_or(0);
    let mut queue = around.busy_ns(loaded, begun, around.slots).min(rest);
    rest -= queue;

    let after = window - first;
    let mut stall = (request.chunk_ns.len() > 2).then(|| stall_ns(&request.chunk_ns).min(after));
    let mut decode = (request.chunk_ns.len() > 1).then(|| after - stall.unwrap_or(0));
    // Below two chunks there is no decode to hold what a failed request took after the first.
    if decode.is_none() {
        rest += after;
    }

    let mut waited = request.client_wait_ns.unwrap_or(0);
    let mut client = take(&mut rest, &mut waited, u64::MAX);
    // After the first chunk only what the engine's own account does not cover can be the client's.
    let mut uncovered = engine
        .eval_ns
        .map_or_else(|| stall.unwrap_or(0), |eval| after.saturating_sub(eval));
    for part in [&mut stall, &mut decode].into_iter().flatten() {
        let taken = take(part, &mut waited, uncovered);
        uncovered -= taken;
        client += taken;
    }

    let transport = engine.total_ns.zip(request.done_ns).map(|(total, done)| {
        let mut outside = done.saturating_sub(total).saturating_sub(client);
        take(&mut rest, &mut outside, u64::MAX)
    });
    if around.told_to_wait(loaded, begun) {
        queue += rest;
        rest = 0;
    }
    let queue = queue + behind;
    let ms = |part: Option<u64>| part.map(ns_to_ms);
    Parts {
        client_ms: request.client_wait_ns.map(|_| ns_to_ms(client)),
        transport_ms: ms(transport),
        queue_ms: (queue > 0 || !around.out_of_sight).then(|| ns_to_ms(queue)),
        load_ms: ms(stated_load.map(|load| load - behind)),
        prefill_ms: ms(prefill),
        decode_ms: ms(decode),
        stall_ms: ms(stall),
        unsplit_ms: ns_to_ms(rest),
    }
}

/// Moves as much as there is and may be from a part; gives what was moved.
fn take(part: &mut u64, wanted: &mut u64, most: u64) -> u64 {
    let taken = (*wanted).min(*part).min(most);
    *part -= taken;
    *wanted -= taken;
    taken
}

/// What the gaps between arrivals exceed [`STALL_FACTOR`] times the usual pace by, ns.
///
/// Chunks that came in one read are one arrival of so many tokens, and may have taken so many times
/// the pace: tokens that piled up while nobody read are late, but the engine did not stall. The pace
/// is the median over the arrivals of gap per chunk, which a few long gaps do not move. 0 below three
/// arrivals.
fn stall_ns(chunks: &[u64]) -> u64 {
    let mut arrivals: Vec<(u64, u64)> = Vec::new();
    let (mut opened, mut last) = (None::<u64>, 0);
    for at in chunks.iter().copied() {
        let piled = opened.is_some() && at.saturating_sub(last) < ONE_READ_NS;
        last = at;
        if piled {
            arrivals
                .iter_mut()
                .last()
                .into_iter()
                .for_each(|(_, count)| *count += 1);
            continue;
        }
        let gap = opened.map_or(0, |opened| at.saturating_sub(opened));
        arrivals.push((gap, 1));
        opened = Some(at);
    }
    // The first arrival opens the answer: no gap lies before it.
    let gaps = arrivals.get(1..).unwrap_or_default();
    let mut paces: Vec<u64> = gaps.iter().map(|(gap, count)| gap / count).collect();
    paces.sort_unstable();
    if paces.len() < 2 {
        return 0;
    }
    let Some(pace) = paces.get((paces.len() - 1) / 2) else {
        return 0;
    };
    gaps.iter()
        .map(|(gap, count)| {
            let usual = pace.saturating_mul(*count).saturating_mul(STALL_FACTOR);
            gap.saturating_sub(usual)
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
