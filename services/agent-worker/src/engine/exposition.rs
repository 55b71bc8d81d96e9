//! The few gauges of interest in an engine's Prometheus text.
//!
//! *Source*: llama.cpp `tools/server/server.cpp` (`/metrics`), vLLM `vllm/v1/metrics/loggers.py`,
//! `SGLang` `srt/metrics/collector.py`, and the Prometheus text exposition format.

/// What the text says. `None`: it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Gauges {
    /// Requests being served.
    pub(super) running: Option<u32>,
    /// Requests waiting for a slot.
    pub(super) waiting: Option<u32>,
    /// Part of the KV cache in use, 0 to 1.
    pub(super) kv_cache_used: Option<f64>,
}

const RUNNING: [&str; 3] = [
    "llamacpp:requests_processing",
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
];
const WAITING: [&str; 3] = [
    "llamacpp:requests_deferred",
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
];
/// vLLM's percentages are parts: 1 means all of it.
const KV_CACHE: [&str; 4] = [
    "llamacpp:kv_cache_usage_ratio",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
];

/// Reads the text. A server that works with several engines states a figure for each: requests are
/// added up, and of the caches the fullest counts. `None`: it names no number of requests.
pub(super) fn gauges(text: &str) -> Option<Gauges> {
    let mut found = Gauges::default();
    for line in text.lines() {
        let Some((name, value)) = sample(line) else {
            continue;
        };
        if RUNNING.contains(&name) {
            add(&mut found.running, value);
        } else if WAITING.contains(&name) {
            add(&mut found.waiting, value);
        } else if KV_CACHE.contains(&name) && (0.0..=1.0).contains(&value) {
            let most = found.kv_cache_used.map_or(value, |used| used.max(value));
            found.kv_cache_used = Some(most);
        }
    }
    (found.running.is_some() || found.waiting.is_some()).then_some(found)
}

/// Name and value of a line that is a sample.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    // A label's value may hold any character, what follows the labels no brace.
    let rest = rest
        .rfind('}')
        .and_then(|at| rest.get(at + 1..))
        .unwrap_or(rest);
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, value))
}

fn add(sum: &mut Option<u32>, value: f64) {
    if !(0.0..=f64::from(u32::MAX)).contains(&value) {
        return;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie within a u32"
    )]
    let value = value.round() as u32;
    *sum = Some(sum.unwrap_or(0).saturating_add(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_cpp_states_slots_and_queue() {
        let text = "# HELP llamacpp:requests_processing Number of requests processing.\n\
             # TYPE llamacpp:requests_processing gauge\n\
             llamacpp:requests_processing 1\n\
             # TYPE llamacpp:requests_deferred gauge\n\
             llamacpp:requests_deferred 3\n\
             llamacpp:kv_cache_usage_ratio 0.25\n\
             llamacpp:n_decode_total 17\n";
        let expected = Gauges {
            running: Some(1),
            waiting: Some(3),
            kv_cache_used: Some(0.25),
        };
        assert_eq!(gauges(text), Some(expected));
    }

    #[test]
    fn vllm_states_each_engine_and_the_fullest_cache_counts() {
        let text = "vllm:num_requests_running{engine=\"0\",model_name=\"a}b c\"} 2.0\n\
             vllm:num_requests_running{engine=\"1\",model_name=\"a}b c\"} 1.0 1700000000\n\
             vllm:num_requests_waiting{engine=\"0\",model_name=\"a}b c\"} 0.0\n\
             vllm:kv_cache_usage_perc{engine=\"0\"} 0.1\n\
             vllm:kv_cache_usage_perc{engine=\"1\"} 0.7\n\
             vllm:num_requests_running_bucket{le=\"1\"} 99\n";
        let expected = Gauges {
            running: Some(3),
            waiting: Some(0),
            kv_cache_used: Some(0.7),
        };
        assert_eq!(gauges(text), Some(expected));
    }

    #[test]
    fn a_text_without_requests_says_nothing_and_nonsense_is_not_measured() {
        assert_eq!(gauges(""), None);
        assert_eq!(gauges("<html>not found</html>"), None);
        assert_eq!(gauges("process_cpu_seconds_total 12.5\n"), None);
        assert_eq!(gauges("vllm:num_requests_running NaN\n"), None);
        let text = "llamacpp:requests_processing 0\nllamacpp:requests_deferred -1\n\
             llamacpp:kv_cache_usage_ratio 7\n";
        let expected = Gauges {
            running: Some(0),
            ..Gauges::default()
        };
        assert_eq!(gauges(text), Some(expected));
    }
}
