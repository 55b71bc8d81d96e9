//! A valid spec as canonical TOML: what a person would have written, defaults left out.

use super::change::Override;
use super::options::{Axis, BEST, Setting};
use super::phase::{AgentSpec, Agents, Labels, Order, Phase, Placement};
use super::valid::{Instances, Solo, ValidSpec};
use crate::memory::admission::Schedule;
use crate::plan::{Budget, Goal, Limits, Select};

pub(super) fn spec(spec: &ValidSpec) -> String {
    let mut out = Out::default();
    out.pair("name", text(spec.name.as_str()));
    out.pair("seed", spec.seed.to_string());
    out.header("model");
    out.pair("name", text(&spec.model.name));
    out.some("digest", spec.model.digest.as_deref().map(text));
    out.header("backend");
    out.pair(
        "kind",
        text(
            spec.backend
                .kind
                .map_or("auto", crate::options::EngineKind::as_str),
        ),
    );
    match &spec.backend.instances {
        Instances::Spawn => out.pair("spawn", "true".to_owned()),
        Instances::Attach(urls) => out.pair("instances", list(urls.iter().map(|u| text(u)))),
    }
    out.header("workload");
    out.pair("template", text(&spec.workload.template));
    out.some("data", spec.workload.data.as_deref().map(text));
    if spec.solo
        != (Solo {
            enabled: true,
            share_identical: false,
        })
    {
        out.header("solo");
        out.pair("enabled", spec.solo.enabled.to_string());
        out.pair("share_identical", spec.solo.share_identical.to_string());
    }
    limits(spec.limits, &mut out);
    budget(spec.budget, &mut out);
    schedule(spec.schedule, &mut out);
    if let Some(slo) = spec.slo {
        out.header("slo");
        for (of, limit) in slo.limits() {
            out.pair(of.key(), toml::Value::Float(limit).to_string());
        }
    }
    if !spec.gate.is_empty() {
        out.header("gate");
        for threshold in &spec.gate {
            out.pair(threshold.quantity.name(), text(&threshold.rule()));
        }
    }
    if !spec.baseline.is_empty() {
        out.header("baseline");
        out.settings(&spec.baseline);
    }
    for each in &spec.phases {
        phase(each, &mut out);
    }
    out.text
}

fn limits(limits: Limits, out: &mut Out) {
    let default = Limits::default();
    if limits == default {
        return;
    }
    out.header("limits");
    let pairs = [
        ("gang_wait_s", limits.gang_wait_s, default.gang_wait_s),
        ("warm_s", limits.warm_s, default.warm_s),
        ("run_s", limits.run_s, default.run_s),
        ("drain_s", limits.drain_s, default.drain_s),
        ("start_skew_ms", limits.start_skew_ms, default.start_skew_ms),
    ];
    for (key, value, default) in pairs {
        out.some(key, (value != default).then(|| value.to_string()));
    }
}

fn budget(budget: Budget, out: &mut Out) {
    let default = Budget::default();
    if budget == default {
        return;
    }
    out.header("budget");
    let pairs = [
        (
            "retries_per_leg",
            budget.retries_per_leg,
            default.retries_per_leg,
        ),
        ("retries_total", budget.retries_total, default.retries_total),
        (
            "consecutive_failures",
            budget.consecutive_failures,
            default.consecutive_failures,
        ),
        ("cool_down_s", budget.cool_down_s, default.cool_down_s),
    ];
    for (key, value, default) in pairs {
        out.some(key, (value != default).then(|| value.to_string()));
    }
    out.some("failures", budget.failures.map(|n| n.to_string()));
}

fn schedule(schedule: Schedule, out: &mut Out) {
    let default = Schedule::default();
    if schedule == default {
        return;
    }
    out.header("schedule");
    let admit = schedule.admit;
    out.some(
        "admit",
        (admit != default.admit).then(|| text(admit.as_str())),
    );
    out.some(
        "wait_s",
        (admit == default.admit && schedule.wait_s != default.wait_s)
            .then(|| schedule.wait_s.to_string()),
    );
}

fn phase(phase: &Phase, out: &mut Out) {
    out.line("\n[[phase]]");
    match &phase.labels {
        Labels::Derived => {}
        Labels::Common(label) => out.pair("label", text(label)),
        Labels::PerTest(labels) => out.pair("label", list(labels.iter().map(|l| text(l)))),
    }
    match phase.scenarios.as_slice() {
        [only] => out.pair("scenario", text(only.as_str())),
        several => out.pair("scenario", list(several.iter().map(|s| text(s.as_str())))),
    }
    placements(&phase.placements, out);
    if let Agents::Alike(counts) = &phase.agents {
        out.pair("agents", numbers(counts));
    }
    if phase.think_ms != [0] {
        out.pair("think_ms", numbers(&phase.think_ms));
    }
    out.pair("runs", phase.runs.to_string());
    out.some(
        "max_concurrent",
        phase.max_concurrent.map(|n| n.to_string()),
    );
    if phase.order != Order::Randomized {
        out.pair("order", text(phase.order.as_str()));
    }
    out.pair("first_test_id", phase.first_test_id.to_string());
    for axis in &phase.grid {
        out.pair(axis.key.as_str(), values(axis));
    }
    if let Some(each) = &phase.select {
        select(each, out);
    }
    if let Some(goal) = phase.until {
        until(goal, out);
    }
    if !phase.hetero.is_empty() {
        out.header("phase.hetero");
        out.overrides(&phase.hetero);
    }
    if !phase.shared.is_empty() {
        out.header("phase.shared");
        out.overrides(&phase.shared);
    }
    if let Agents::Listed(agents) = &phase.agents {
        for each in agents {
            agent(each, out);
        }
    }
}

fn placements(placements: &[Placement], out: &mut Out) {
    if placements == [Placement::Pinned] {
        return;
    }
    let mut kinds: Vec<&str> = Vec::new();
    let mut slots = Vec::new();
    for placement in placements {
        let kind = match placement {
            Placement::Pinned => "pinned",
            Placement::Shared(stated) => {
                slots.extend(*stated);
                "shared"
            }
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    match kinds.as_slice() {
        [only] => out.pair("topology", text(only)),
        several => out.pair("topology", list(several.iter().map(|k| text(k)))),
    }
    if !slots.is_empty() {
        out.pair("slots", numbers(&slots));
    }
}

fn select(select: &Select, out: &mut Out) {
    out.header("phase.select");
    out.pair("from", select.from_phase.to_string());
    out.pair("by", text(select.by.name()));
    out.some("scenario", select.scenario.as_deref().map(text));
}

fn until(goal: Goal, out: &mut Out) {
    out.header("phase.until");
    out.pair("metric", text(goal.metric.name()));
    out.pair(
        "relative_half_width",
        toml::Value::Float(goal.relative_half_width).to_string(),
    );
    out.pair("max_runs", goal.max_runs.to_string());
}

fn agent(agent: &AgentSpec, out: &mut Out) {
    out.line("\n[[phase.agent]]");
    out.pair("id", text(agent.id.as_str()));
    out.pair("role", text(agent.role.as_str()));
    out.some("model", agent.model.as_deref().map(text));
    out.some("instance", agent.instance.as_deref().map(text));
    out.some("think_ms", agent.think_ms.map(|ms| ms.to_string()));
    out.settings(&agent.options);
}

fn values(axis: &Axis) -> String {
    match axis.values.as_slice() {
        [] => text(BEST),
        [only] => only.value_text(),
        several => list(several.iter().map(|v| v.value_text())),
    }
}

fn numbers(numbers: &[u32]) -> String {
    match numbers {
        [only] => only.to_string(),
        several => list(several.iter().map(u32::to_string)),
    }
}

fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn header(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    fn pair(&mut self, key: &str, value: String) {
        self.line(&format!("{key} = {value}"));
    }

    fn some(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.pair(key, value);
        }
    }

    fn overrides(&mut self, overrides: &[Override]) {
        for change in overrides {
            self.pair(change.key().as_str(), change.value_text());
        }
    }

    fn settings(&mut self, settings: &[Setting]) {
        for setting in settings {
            self.pair(setting.key().as_str(), setting.value_text());
        }
    }
}
