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

/// What a shared instance did for the other agents of a leg, by its own account and their stamps.
///
/// Ollama's load duration counts from the arrival of a request until a runner is handed over, so it
/// also holds the wait for a scheduler that is busy with the requests of others, and what the warm
/// request took says nothing about that. But an engine that loads a model writes for nobody: the
/// part of a load duration in which it wrote, or prefilled, for another agent was a wait. What counts
/// against a request is the longest stretch in which it worked for nobody.
///
/// The warm requests of all agents are the instance's: requests that come at once wait for each other
/// in the scheduler with nothing to load (three at once were seen to state 1.8 s each on busy cores,
/// where one alone stated 0.4), so the longest of them sets the limit.
#[derive(Debug, Clone, Default)]
pub(super) struct AtWork {
    /// From the start of a request's prefill to its last chunk, rising.
    spans: Vec<(MonoNs, MonoNs)>,
    /// Longest load duration of another agent's warm request, ns.
    warm_ns: Option<u64>,
}

impl AtWork {
    /// From the requests of the others, and the load durations of their warm requests. Prefill counts
    /// as far as the engine states how long it took: without that, the time before a first token may
    /// have been a wait of its own.
    pub(super) fn on<'a>(
        requests: impl Iterator<Item = &'a RequestRecord>,
        warm: impl Iterator<Item = u64>,
    ) -> Self {
        let mut spans: Vec<_> = requests
            .filter_map(|request| {
                let first = request.sent.plus(*request.chunk_ns.first()?);
                let prefill = request.engine_times.prompt_eval_ns.unwrap_or(0);
                let last = request.sent.plus(*request.chunk_ns.last()?);
                Some((MonoNs(first.0.saturating_sub(prefill)), last))
            })
            .collect();
        spans.sort();
        Self {
            spans,
            warm_ns: warm.max(),
        }
    }

    /// The limit for an agent whose own warm request stated `own`.
    pub(super) fn limit_ns(&self, own: Option<u64>) -> u64 {
        reload_limit_ns(own.max(self.warm_ns))
    }

    /// The longest stretch of a request's load duration without such work, ns; all of it on an
    /// instance that works for no other agent. *Undefined when* the engine states none.
    pub(super) fn loading_ns(&self, request: &RequestRecord) -> Option<u64> {
        let load = request.engine_times.load_ns?;
        let (mut idle_from, until) = (request.sent, request.sent.plus(load));
        let mut longest = 0;
        for (begin, end) in &self.spans {
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
            client_wait_ns: None,
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
        let at_work = AtWork::on([&theirs].into_iter(), [].into_iter());
        assert_eq!(at_work.loading_ns(&mine), Some(100 * MS));
    }

    #[test]
    fn the_slowest_warm_request_of_the_instance_sets_the_limit_for_all_its_agents() {
        let others = AtWork::on([].into_iter(), [100 * MS, 400 * MS].into_iter());
        assert_eq!(others.limit_ns(Some(90 * MS)), 2_000 * MS);
        assert_eq!(others.limit_ns(Some(500 * MS)), 2_500 * MS);
        assert_eq!(AtWork::default().limit_ns(Some(90 * MS)), 450 * MS);
    }

    #[test]
    fn a_load_stands_out_although_the_engine_worked_before_and_after() {
        // Theirs until 300 and from 1500 on; between them the engine loads for me.
        let before = request(0, 100, 300, 50, 1);
        let after = request(1_600, 1_900, 2_400, 200, 1);
        let mine = request(200, 1_650, 2_000, 50, 1_400);
        let at_work = AtWork::on([&after, &before].into_iter(), [].into_iter());
        assert_eq!(at_work.loading_ns(&mine), Some(1_300 * MS));
    }
}
