//! One run on a time axis: the agents alone, one after the other, above the agents together.
//!
//! The lengths of the two are numerator and denominator of the gain, so the picture is its
//! definition. Inside an agent's bar each request shows its prefill (sent to first token) and its
//! decode (first to last token); what is neither is the agent's own work.

use super::super::chart::{Anchor, Layout, Scale, Svg, fit, width};
use super::super::view::{Cell, Figure, Key, Table};
use super::plot::both;
use crate::efficiency::GainRule;
use crate::report::number::text;
use crate::report::{AgentRun, RequestReport, RunReport, TestReport};

/// Most agents drawn as lanes.
const MAX_LANES: usize = 16;
/// Most requests drawn in a lane.
const MAX_REQUESTS: usize = 120;
/// Height of a bar.
const BAR: f64 = 16.0;
/// Width of the label column of the wide drawing.
const LABELS: f64 = 150.0;
/// Width of the column of durations.
const DURATIONS: f64 = 76.0;

/// The picture of one run.
pub(in super::super) fn timeline(test: &TestReport, run: &RunReport) -> Figure {
    let mut notes = Vec::new();
    if let Some(reason) = run.invalid.first() {
        notes.push(format!(
            "Invalid run, shown and never averaged. {}: {}",
            reason.reason, reason.detail
        ));
    }
    if run.agents.len() > MAX_LANES {
        notes.push(format!(
            "{MAX_LANES} of {} agents are drawn.",
            run.agents.len()
        ));
    }
    if run
        .agents
        .iter()
        .any(|agent| agent.requests.len() > MAX_REQUESTS)
    {
        notes.push(format!(
            "The first {MAX_REQUESTS} requests of each agent are drawn."
        ));
    }
    let has_requests = run.agents.iter().any(|agent| !agent.requests.is_empty());
    if !has_requests {
        notes.push(
            "The records hold no single requests: bars show the agents\u{2019} whole time."
                .to_owned(),
        );
    }
    let shared: Vec<String> = run
        .agents
        .iter()
        .filter_map(|agent| {
            let twin = agent.solo_shared_with.as_ref()?;
            Some(format!("{} (leg of {twin})", agent.agent))
        })
        .collect();
    if !shared.is_empty() {
        notes.push(format!(
            "Alone as measured on an identical agent: {}.",
            shared.join(", ")
        ));
    }
    Figure {
        id: format!("run-{}-{}", test.id, run.run),
        title: format!("Test {}, run {}", test.id, run.run),
        lead: lead(run),
        drawings: both(|layout| draw(layout, test, run)),
        keys: keys(has_requests, run.solo_total_s.is_some()),
        notes,
        table: table(run),
    }
}

fn lead(run: &RunReport) -> String {
    match (run.solo_reference_s, run.wall_s, run.concurrency_gain) {
        (Some(reference), Some(wall), Some(gain)) => {
            let what = if run.gain_rule == Some(GainRule::PerUnitOfWork) {
                "alone, for the same work"
            } else {
                "one after the other"
            };
            format!(
                "{} s {what}, {} s together: {}\u{d7}.",
                text(reference),
                text(wall),
                text(gain)
            )
        }
        (_, Some(wall), _) => format!("{} s together; no gain is stated.", text(wall)),
        _ => "Not every agent finished.".to_owned(),
    }
}

fn keys(has_requests: bool, has_solo: bool) -> Vec<Key> {
    let mut keys = Vec::new();
    if has_requests {
        keys.push(Key {
            class: "k-prefill",
            text: "waiting for the first token (TTFT)",
        });
        keys.push(Key {
            class: "k-decode",
            text: "receiving tokens",
        });
    }
    if has_requests {
        keys.push(Key {
            class: "k-track",
            text: "the agent\u{2019}s own time",
        });
    } else {
        keys.push(Key {
            class: "k-prefill",
            text: "the agent\u{2019}s whole time",
        });
    }
    if has_solo && has_requests {
        keys.push(Key {
            class: "k-alone",
            text: "the same, alone",
        });
    }
    keys
}

/// Positions of one drawing.
struct Plot {
    layout: Layout,
    scale: Scale,
    /// Lanes together.
    lanes: usize,
    /// Whether there is a lane of solo legs.
    solo: bool,
}

const TOP: f64 = 34.0;

impl Plot {
    fn step(&self) -> f64 {
        if self.layout.is_narrow() { 42.0 } else { 30.0 }
    }

    /// Upper end of the bar of lane `index`, the solo lane being 0.
    fn bar(&self, index: usize) -> f64 {
        let gap = if self.solo && index > 0 { 14.0 } else { 0.0 };
        let label = if self.layout.is_narrow() { 18.0 } else { 6.0 };
        TOP + index as f64 * self.step() + gap + label
    }

    fn bottom(&self) -> f64 {
        let count = self.lanes + usize::from(self.solo);
        self.bar(count.saturating_sub(1)) + BAR + 12.0
    }
}

fn draw(layout: Layout, test: &TestReport, run: &RunReport) -> String {
    let drawn: Vec<&AgentRun> = run.agents.iter().take(MAX_LANES).collect();
    let ends = drawn.iter().filter_map(|agent| {
        let last = agent.requests.iter().filter_map(end_s).reduce(f64::max);
        Some(agent.start_offset_s.unwrap_or(0.0) + agent.duration_s.or(last)?)
    });
    let solo: Option<f64> = run.solo_total_s;
    let longest = ends
        .chain(run.wall_s)
        .chain(solo)
        .chain(run.solo_reference_s)
        .fold(0.0, f64::max);
    let span = match layout {
        Layout::Wide => (LABELS, layout.width() - DURATIONS),
        Layout::Narrow => (4.0, layout.width() - 8.0),
    };
    let about = if layout.is_narrow() { 5 } else { 9 };
    let plot = Plot {
        layout,
        scale: Scale::linear(0.0, longest.max(1e-6), span, about),
        lanes: drawn.len(),
        solo: solo.is_some(),
    };
    let label = format!("{}, run {}: {}", test.label, run.run, lead(run));
    let mut svg = Svg::new(layout, &label);
    axis(&mut svg, &plot);
    difference(&mut svg, &plot, run);
    if solo.is_some() {
        alone(&mut svg, &plot, run);
    }
    for (index, agent) in drawn.iter().enumerate() {
        together(&mut svg, &plot, index + usize::from(plot.solo), agent);
    }
    svg.finish(plot.bottom() + 30.0)
}

fn axis(svg: &mut Svg, plot: &Plot) {
    let bottom = plot.bottom();
    let last = plot.scale.ticks().len().saturating_sub(1);
    for (index, tick) in plot.scale.ticks().iter().enumerate() {
        let x = plot.scale.place(*tick);
        svg.line("g", (x, TOP - 6.0), (x, bottom));
        let anchor = match (plot.layout, index) {
            (Layout::Narrow, 0) => Anchor::Start,
            (Layout::Narrow, index) if index == last => Anchor::End,
            _ => Anchor::Middle,
        };
        let words = plot.scale.tick_text(*tick);
        let words = if index == last {
            format!("{words} s")
        } else {
            words
        };
        svg.text("t", (x, bottom + 16.0), anchor, &words);
    }
}

/// The time saved or lost, as a band between the two ends.
fn difference(svg: &mut Svg, plot: &Plot, run: &RunReport) {
    let (Some(reference), Some(wall)) = (run.solo_reference_s, run.wall_s) else {
        return;
    };
    let (class, word) = if reference >= wall {
        ("band gain", "saved")
    } else {
        ("band loss", "lost")
    };
    let (from, to) = (
        plot.scale.place(reference.min(wall)),
        plot.scale.place(reference.max(wall)),
    );
    let top = TOP - 6.0;
    svg.rect(
        class,
        (from, top),
        (to - from, plot.bottom() - top),
        0.0,
        None,
    );
    let words = format!("{} s {word}", text((reference - wall).abs()));
    let half = width(&words, 12.0) / 2.0;
    let right = plot.layout.width() - half - 2.0;
    let x = f64::midpoint(from, to).clamp(half + 2.0, right);
    let class = if reference >= wall {
        "v gain"
    } else {
        "v loss"
    };
    svg.text(class, (x, TOP - 14.0), Anchor::Middle, &words);
}

/// The solo legs end to end.
fn alone(svg: &mut Svg, plot: &Plot, run: &RunReport) {
    let y = plot.bar(0);
    name(svg, plot, 0, "one after the other", run.solo_total_s);
    let mut from = 0.0;
    for agent in &run.agents {
        let Some(duration) = agent.solo_duration_s else {
            return;
        };
        let (start, end) = (plot.scale.place(from), plot.scale.place(from + duration));
        let tip = format!("{} alone: {} s", agent.agent, text(duration));
        svg.rect(
            "track",
            (start + 0.5, y),
            (end - start - 1.0, BAR),
            3.0,
            Some(&tip),
        );
        for request in agent.solo_requests.iter().take(MAX_REQUESTS) {
            bars(svg, plot, (from, y), request, (agent, "alone"));
        }
        let words = fit(agent.agent.as_str(), 10.5, end - start - 8.0);
        if words.chars().count() > 2 && plot.layout == Layout::Wide {
            svg.text("s", (start + 2.0, y + BAR + 11.0), Anchor::Start, &words);
        }
        from += duration;
    }
}

fn together(svg: &mut Svg, plot: &Plot, index: usize, agent: &AgentRun) {
    let y = plot.bar(index);
    name(svg, plot, index, agent.agent.as_str(), agent.duration_s);
    let from = agent.start_offset_s.unwrap_or(0.0);
    let requests = || agent.requests.iter().take(MAX_REQUESTS);
    let duration = agent
        .duration_s
        .or_else(|| requests().filter_map(end_s).reduce(f64::max));
    if let Some(duration) = duration {
        let (start, end) = (plot.scale.place(from), plot.scale.place(from + duration));
        let slowdown = agent.slowdown.map_or_else(String::new, |slowdown| {
            format!(", slowdown {}", text(slowdown))
        });
        let tip = format!("{} together: {} s{slowdown}", agent.agent, text(duration));
        // A bar that holds nothing is itself what is to be seen.
        let class = if agent.requests.is_empty() {
            "whole"
        } else {
            "track"
        };
        svg.rect(class, (start, y), (end - start, BAR), 3.0, Some(&tip));
    }
    for request in requests() {
        bars(svg, plot, (from, y), request, (agent, "together"));
    }
    if let Some(failure) = &agent.failure {
        let x = plot.scale.place(from + duration.unwrap_or(0.0)) + 8.0;
        svg.text(
            "v loss",
            (x, y + 13.0),
            Anchor::Start,
            &format!("\u{d7} {}", failure.label),
        );
    }
}

/// Name and duration of a lane.
fn name(svg: &mut Svg, plot: &Plot, index: usize, name: &str, duration: Option<f64>) {
    let y = plot.bar(index);
    let length = duration.map_or_else(|| "not finished".to_owned(), |d| format!("{} s", text(d)));
    let right = plot.layout.width();
    if plot.layout.is_narrow() {
        let room = right - width(&length, 12.0) - 16.0;
        svg.text("s", (4.0, y - 5.0), Anchor::Start, &fit(name, 12.0, room));
        svg.text("t", (right - 8.0, y - 5.0), Anchor::End, &length);
    } else {
        svg.text(
            "l",
            (0.0, y + 13.0),
            Anchor::Start,
            &fit(name, 13.0, LABELS - 14.0),
        );
        svg.text("t", (right, y + 13.0), Anchor::End, &length);
    }
}

/// Prefill and decode of one request.
fn bars(
    svg: &mut Svg,
    plot: &Plot,
    (from, y): (f64, f64),
    request: &RequestReport,
    (agent, how): (&AgentRun, &str),
) {
    let Some(sent) = request.sent_s else { return };
    let place = |ms: f64| plot.scale.place(from + sent + ms / 1e3);
    let (start, first) = (place(0.0), request.ttft_ms.map(place));
    let last = request.e2e_ms.map(place);
    let number = |value: Option<f64>| value.map_or_else(|| "not measured".to_owned(), text);
    let tip = format!(
        "{} {how}, {}: sent at {} s, TTFT {} ms, E2E {} ms{}",
        agent.agent,
        request.step,
        text(sent),
        number(request.ttft_ms),
        number(request.e2e_ms),
        request
            .output_tokens
            .map_or_else(String::new, |n| format!(", {n} tokens"))
    );
    let solo = if how == "alone" { " solo" } else { "" };
    let waited = first.or(last).or_else(|| request.done_ms.map(place));
    if let Some(end) = waited {
        svg.rect(
            &format!("prefill{solo}"),
            (start, y),
            (end - start, BAR),
            0.0,
            Some(&tip),
        );
    }
    if let (Some(first), Some(last)) = (first, last) {
        svg.rect(
            &format!("decode{solo}"),
            (first, y),
            (last - first, BAR),
            0.0,
            Some(&tip),
        );
    }
    if let Some(error) = &request.error {
        let x = waited.unwrap_or(start);
        let tip = format!("{}: {}", error.kind.as_str(), error.detail);
        svg.circle("fault", (x, y + BAR / 2.0), 4.0, Some(&tip));
    }
}

fn end_s(request: &RequestReport) -> Option<f64> {
    Some(request.sent_s? + request.done_ms.or(request.e2e_ms)? / 1e3)
}

fn table(run: &RunReport) -> Option<Table> {
    let mut table = Table::new(
        3,
        &[
            "Agent",
            "Leg",
            "Request",
            "Sent s",
            "TTFT ms",
            "E2E ms",
            "TPOT ms",
            "Output tokens",
        ],
    );
    for agent in run.agents.iter().take(MAX_LANES) {
        let legs = [
            ("together", &agent.requests),
            ("alone", &agent.solo_requests),
        ];
        for (leg, requests) in legs {
            for request in requests.iter().take(MAX_REQUESTS) {
                table.row([
                    Cell::words(agent.agent.as_str()),
                    Cell::words(leg),
                    Cell::words(&request.step),
                    Cell::measured(request.sent_s),
                    Cell::measured(request.ttft_ms),
                    Cell::measured(request.e2e_ms),
                    Cell::measured(request.tpot_ms),
                    Cell::plain(
                        request
                            .output_tokens
                            .map_or_else(|| "-".to_owned(), |n| n.to_string()),
                    ),
                ]);
            }
        }
    }
    table.filled()
}
