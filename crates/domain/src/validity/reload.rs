//! What tells a reload from the engine's ordinary overhead, and from a place in its queue.

use crate::event::RequestRecord;
use crate::units::MonoNs;

/// A `load` duration below this is no reload, whatever was seen before, ns.
///
/// Ollama states a load duration for warm requests too: the wait for its scheduler and a health ping
/// of the runner. It is about a millisecond on an idle machine, and was seen at up to a second on one
/// with more threads than cores, where loading the same small model took four. So the limit of an
/// agent follows what its own warm request took just before the run: [`reload_limit_ns`].
pub const RELOAD_FLOOR_NS: u64 = 250_000_000;

/// How many times the warm request's `load` duration makes a reload.
const RELOAD_FACTOR: u64 = 5;

/// Longest `load` duration of a request to a loaded model, ns; `warm`: what the engine stated for a
/// request that had nothing to load, before the work.
///
/// *Source*: the engine; an engine that states no load durations cannot be checked this way, and the
/// pin is what tells.
#[must_use]
pub fn reload_limit_ns(warm: Option<u64>) -> u64 {
    warm.map_or(0, |ns| ns.saturating_mul(RELOAD_FACTOR))
        .max(RELOAD_FLOOR_NS)
}

/// When a shared instance was at work for others, by its own account and their stamps.
///
/// Ollama's load duration counts from the arrival of a request until a runner is handed over, so it
/// also holds the wait for a scheduler that is busy with the requests of others, and what the warm
/// request took says nothing about that. But an engine that loads a model writes for nobody: the
/// part of a load duration in which it wrote, or prefilled, for another agent was a wait. What counts
/// against a request is the longest stretch in which it worked for nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct AtWork(Vec<(MonoNs, MonoNs)>);

impl AtWork {
    /// From these requests. Prefill counts as far as the engine states how long it took: without
    /// that, the time before a first token may have been a wait of its own.
    pub(super) fn on<'a>(requests: impl Iterator<Item = &'a RequestRecord>) -> Self {
        let mut spans: Vec<_> = requests
            .filter_map(|request| {
                let first = request.sent.plus(*request.chunk_ns.first()?);
                let prefill = request.engine_times.prompt_eval_ns.unwrap_or(0);
                let last = request.sent.plus(*request.chunk_ns.last()?);
                Some((MonoNs(first.0.saturating_sub(prefill)), last))
            })
            .collect();
        spans.sort();
        Self(spans)
    }

    /// The longest stretch of a request's load duration without such work, ns; all of it on an
    /// instance that works for no other agent. *Undefined when* the engine states none.
    pub(super) fn loading_ns(&self, request: &RequestRecord) -> Option<u64> {
        let load = request.engine_times.load_ns?;
        let (mut idle_from, until) = (request.sent, request.sent.plus(load));
        let mut longest = 0;
        for (begin, end) in &self.0 {
            if *begin >= until {
                break;
            }
            longest = longest.max(begin.since(idle_from).unwrap_or(0));
            idle_from = idle_from.max(*end);
        }
        Some(longest.max(until.since(idle_from).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EngineTimes;
    use crate::ids::RequestId;

    const MS: u64 = 1_000_000;

    /// Sent, first and last chunk, stated prefill and load, all in ms.
    fn request(sent: u64, first: u64, last: u64, prefill: u64, load: u64) -> RequestRecord {
        RequestRecord {
            request_id: RequestId::try_new("r").unwrap(),
            step: "analysis".into(),
            sent: MonoNs(sent * MS),
            head_ns: None,
            chunk_ns: vec![(first - sent) * MS, (last - sent) * MS],
            done_ns: None,
            prompt_sha256: String::new(),
            prompt_tokens: None,
            cached_tokens: None,
            output_tokens: None,
            output_sha256: String::new(),
            finish: None,
            engine_times: EngineTimes {
                load_ns: Some(load * MS),
                prompt_eval_ns: Some(prefill * MS),
                ..EngineTimes::default()
            },
            error: None,
        }
    }

    #[test]
    fn the_limit_follows_the_warm_request_and_has_a_floor() {
        assert_eq!(reload_limit_ns(None), RELOAD_FLOOR_NS);
        assert_eq!(reload_limit_ns(Some(1_000_000)), RELOAD_FLOOR_NS);
        assert_eq!(reload_limit_ns(Some(400_000_000)), 2_000_000_000);
        assert_eq!(reload_limit_ns(Some(u64::MAX)), u64::MAX);
    }

    #[test]
    fn on_an_instance_of_its_own_all_of_it_is_loading() {
        let mine = request(100, 2_000, 3_000, 10, 900);
        assert_eq!(AtWork::default().loading_ns(&mine), Some(900 * MS));
        let mut silent = mine;
        silent.engine_times.load_ns = None;
        assert_eq!(AtWork::default().loading_ns(&silent), None);
    }

    #[test]
    fn time_in_which_the_engine_worked_for_others_is_a_wait() {
        // Theirs: prefill 200 to 600, decode to 1000. Mine waits from 100 to 1000.
        let theirs = request(50, 600, 1_000, 400, 1);
        let mine = request(100, 1_100, 2_000, 100, 900);
        let at_work = AtWork::on([&theirs].into_iter());
        assert_eq!(at_work.loading_ns(&mine), Some(100 * MS));
    }

    #[test]
    fn a_load_stands_out_although_the_engine_worked_before_and_after() {
        // Theirs until 300 and from 1500 on; between them the engine loads for me.
        let before = request(0, 100, 300, 50, 1);
        let after = request(1_600, 1_900, 2_400, 200, 1);
        let mine = request(200, 1_650, 2_000, 50, 1_400);
        let at_work = AtWork::on([&after, &before].into_iter());
        assert_eq!(at_work.loading_ns(&mine), Some(1_300 * MS));
    }
}
