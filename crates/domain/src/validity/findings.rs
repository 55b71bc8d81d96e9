//! What can be held against one agent, and in which order.

use super::reload::AtWork;
use super::watch::against_watch;
use crate::control::{Invalid, InvalidReason};
use crate::event::{AgentFailure, PinFacts, RequestErrorKind, RequestRecord};
use crate::plan::PlannedAgent;
use crate::timeline::AgentTimeline;
use crate::units::ns_to_ms;

/// Why something is invalid. *Shape*: at least one reason, the weightiest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    first: Invalid,
    rest: Vec<Invalid>,
}

impl Refusal {
    /// A refusal for one reason.
    #[must_use]
    pub fn one(reason: InvalidReason, detail: impl Into<String>) -> Self {
        Self {
            first: Invalid {
                reason,
                detail: detail.into(),
            },
            rest: Vec::new(),
        }
    }

    /// The weightiest reason.
    #[must_use]
    pub fn first(&self) -> &Invalid {
        &self.first
    }

    /// Every reason, the weightiest first.
    pub fn all(&self) -> impl Iterator<Item = &Invalid> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Orders findings; `verdict`, the coordinator's word, goes before them. `None` if there are none.
    pub(super) fn from_findings(verdict: Option<Invalid>, mut found: Vec<Invalid>) -> Option<Self> {
        found.sort_by_key(|invalid| weight(invalid.reason));
        found.dedup();
        let mut all = verdict.into_iter().chain(found);
        let first = all.next()?;
        Some(Self {
            first,
            rest: all.collect(),
        })
    }
}

/// Causes before their consequences: a worker that is lost also leaves records missing.
fn weight(reason: InvalidReason) -> u8 {
    match reason {
        InvalidReason::Cancelled => 0,
        InvalidReason::WorkerLost => 1,
        InvalidReason::LeaseLost => 2,
        InvalidReason::CoordinatorRestart => 3,
        InvalidReason::NoGang | InvalidReason::NoRoom => 4,
        InvalidReason::NotReady => 5,
        InvalidReason::Timeout => 6,
        InvalidReason::Storage => 7,
        InvalidReason::RequestFailed => 8,
        InvalidReason::Truncated => 9,
        InvalidReason::AgentFailed => 10,
        InvalidReason::DataLoss => 11,
        InvalidReason::Reload => 12,
        InvalidReason::PinChanged => 13,
        InvalidReason::OptionDrift => 14,
        InvalidReason::StartSkew => 15,
        InvalidReason::SoloInvalid => 16,
        InvalidReason::Missing => 17,
    }
}

pub(super) fn invalid(reason: InvalidReason, detail: String) -> Invalid {
    Invalid { reason, detail }
}

/// Everything to be said against one agent of a leg.
///
/// `digest` is what the plan wants the model's to be, if it wants one; `others` is what its instance
/// did for other agents, `ours` how many agents of the leg are on it.
pub(super) fn against(
    agent: &PlannedAgent,
    timeline: &AgentTimeline<'_>,
    digest: Option<&str>,
    others: &AtWork,
    ours: u32,
) -> Vec<Invalid> {
    let who = &agent.id;
    let mut found = Vec::new();
    for flaw in &timeline.flaws {
        found.push(invalid(InvalidReason::DataLoss, format!("{who}: {flaw}")));
    }
    if let Some(begin) = timeline.begin
        && begin.options != agent.options
    {
        found.push(invalid(
            InvalidReason::OptionDrift,
            format!("{who}: the options asked of the engine are not the planned ones"),
        ));
    }
    found.extend(against_pin(who.as_str(), timeline));
    found.extend(against_watch(who.as_str(), timeline, ours));
    if let (Some(wanted), Some(pin)) = (digest, timeline.pin_before)
        && pin.facts.model_digest.as_deref() != Some(wanted)
    {
        let found_digest = pin.facts.model_digest.as_deref().unwrap_or("none stated");
        found.push(invalid(
            InvalidReason::PinChanged,
            format!("{who}: the plan wants model digest {wanted}, the instance has {found_digest}"),
        ));
    }
    match timeline.finished {
        None if timeline.is_complete() => found.push(invalid(
            InvalidReason::AgentFailed,
            format!("{who}: the stream is complete, but the agent never finished"),
        )),
        None => {}
        Some(finished) => {
            if let Some(failure) = &finished.failure {
                found.push(invalid(
                    failure_reason(failure),
                    format!("{who}: {}: {}", failure.label, failure.detail),
                ));
            }
        }
    }
    if timeline.is_complete() && timeline.finished.is_some() {
        found.extend(against_times(who.as_str(), timeline));
    }
    if timeline.is_complete() && timeline.requests.is_empty() {
        found.push(invalid(
            InvalidReason::AgentFailed,
            format!("{who}: it asked the model nothing, so there is nothing to measure"),
        ));
    }
    let context = timeline
        .pin_before
        .and_then(|pin| pin.facts.context_length)
        .unwrap_or(agent.options.num_ctx);
    let warm = timeline.pin_before.and_then(|pin| pin.facts.warm_load_ns);
    let reload_limit = others.limit_ns(warm);
    for request in &timeline.requests {
        found.extend(against_request(who.as_str(), request, context));
        found.extend(against_load(who.as_str(), request, reload_limit, others));
    }
    found
}

fn failure_reason(failure: &AgentFailure) -> InvalidReason {
    match failure.label.as_str() {
        "request:truncated" => InvalidReason::Truncated,
        "request:cancelled" | "stopped" => InvalidReason::Cancelled,
        "storage" => InvalidReason::Storage,
        "option_drift" => InvalidReason::OptionDrift,
        "pin" => InvalidReason::PinChanged,
        "fenced" => InvalidReason::LeaseLost,
        label if label.starts_with("request:") => InvalidReason::RequestFailed,
        _ => InvalidReason::AgentFailed,
    }
}

fn against_pin(who: &str, timeline: &AgentTimeline<'_>) -> Vec<Invalid> {
    let changed = |detail| vec![invalid(InvalidReason::PinChanged, detail)];
    match (timeline.pin_before, timeline.pin_after) {
        (Some(before), Some(after)) => {
            let changes = pin_changes(&before.facts, &after.facts);
            if changes.is_empty() {
                return Vec::new();
            }
            changed(format!(
                "{who}: not the same after the work: {}",
                changes.join(", ")
            ))
        }
        // An incomplete stream says by itself what is missing.
        _ if !timeline.is_complete() => Vec::new(),
        (None, _) => changed(format!(
            "{who}: its instance was not looked at before the work"
        )),
        (_, None) => changed(format!(
            "{who}: its instance was not looked at after the work"
        )),
    }
}

/// Names and values of what two looks at one instance disagree in.
fn pin_changes(before: &PinFacts, after: &PinFacts) -> Vec<String> {
    fn differs<T: PartialEq + std::fmt::Debug>(name: &str, a: &T, b: &T) -> Option<String> {
        (a != b).then(|| format!("{name} {a:?} -> {b:?}"))
    }
    [
        differs("url", &before.url, &after.url),
        differs("product", &before.product, &after.product),
        differs("version", &before.version, &after.version),
        differs("model", &before.model, &after.model),
        differs("digest", &before.model_digest, &after.model_digest),
        differs("context", &before.context_length, &after.context_length).map(|change| {
            named(
                change,
                before.context_length > after.context_length,
                "it was cut",
            )
        }),
        differs("slots", &before.parallel_slots, &after.parallel_slots),
        differs(
            "bytes in VRAM",
            &before.size_vram_bytes,
            &after.size_vram_bytes,
        )
        .map(|change| {
            let fell = before.size_vram_bytes > after.size_vram_bytes;
            named(
                change,
                fell && after.model.is_some(),
                "layers fell to the CPU",
            )
        }),
        differs("pid", &before.pid, &after.pid),
        differs(
            "process start",
            &before.instance_epoch,
            &after.instance_epoch,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A change with what it means, where that is so.
fn named(change: String, is_so: bool, meaning: &str) -> String {
    if is_so {
        format!("{change} ({meaning})")
    } else {
        change
    }
}

/// What an agent's two legs must have in common for a ratio of their times to mean anything.
pub(super) fn model_changes(solo: &PinFacts, together: &PinFacts) -> Vec<&'static str> {
    [
        ("product", solo.product == together.product),
        ("version", solo.version == together.version),
        ("model", solo.model == together.model),
        ("digest", solo.model_digest == together.model_digest),
        ("context", solo.context_length == together.context_length),
        ("slots", solo.parallel_slots == together.parallel_slots),
    ]
    .into_iter()
    .filter_map(|(name, same)| (!same).then_some(name))
    .collect()
}

fn against_times(who: &str, timeline: &AgentTimeline<'_>) -> Vec<Invalid> {
    let broken = |detail| vec![invalid(InvalidReason::DataLoss, detail)];
    let (Some(started), Some(finished)) = (timeline.started, timeline.finished) else {
        return broken(format!("{who}: it finished and never started"));
    };
    let within = |from, to| from >= started.actual && to >= from && to <= finished.at;
    let steps = timeline
        .local
        .iter()
        .all(|step| within(step.start, step.end));
    let requests = timeline.requests.iter().all(|request| {
        let last = request
            .chunk_ns
            .last()
            .copied()
            .max(request.done_ns)
            .unwrap_or(0);
        within(request.sent, request.sent.plus(last)) && request.chunk_ns.is_sorted()
    });
    if finished.at < started.actual || !steps || !requests {
        return broken(format!(
            "{who}: its stamps run backwards or lie outside its own run"
        ));
    }
    Vec::new()
}

fn against_load(
    who: &str,
    request: &RequestRecord,
    limit: u64,
    others: &AtWork,
) -> Option<Invalid> {
    let load = others.loading_ns(request).filter(|load| *load > limit)?;
    Some(invalid(
        InvalidReason::Reload,
        format!(
            "{who}, {}: the engine loaded for {:.0} ms; a warm request takes less than {:.0} ms",
            request.step,
            ns_to_ms(load),
            ns_to_ms(limit)
        ),
    ))
}

fn against_request(who: &str, request: &RequestRecord, context: u32) -> Vec<Invalid> {
    let step = &request.step;
    let mut found = Vec::new();
    if let Some(error) = &request.error {
        let reason = match error.kind {
            RequestErrorKind::Truncated => InvalidReason::Truncated,
            RequestErrorKind::Cancelled => InvalidReason::Cancelled,
            _ => InvalidReason::RequestFailed,
        };
        let detail = format!("{who}, {step}: {}: {}", error.kind.as_str(), error.detail);
        found.push(invalid(reason, detail));
    } else if request.chunk_ns.is_empty() {
        found.push(invalid(
            InvalidReason::RequestFailed,
            format!("{who}, {step}: the engine reported success and sent no content"),
        ));
    }
    if let (Some(prompt), Some(output)) = (request.prompt_tokens, request.output_tokens)
        && u64::from(prompt) + u64::from(output) > u64::from(context)
    {
        found.push(invalid(
            InvalidReason::Truncated,
            format!(
                "{who}, {step}: {prompt} prompt and {output} output tokens do not fit {context} tokens \
                 of context; raise num_ctx or lower num_predict"
            ),
        ));
    }
    found
}
