//! The outline of an experiment on a terminal: aligned columns, no lines, nothing that wraps.

use std::fmt::Write as _;

use chimera_domain::plan::{Budget, Goal, Select, Topology};
use chimera_domain::spec::OptionKey;

use super::{AgentOutline, FIRST_LEGS, Outline, PhaseOutline, TestOutline};

pub(super) fn render(outline: &Outline) -> String {
    let mut text = format!(
        "{}: {}, {}, {}\n\n",
        outline.name,
        count(outline.tests, "test"),
        count(outline.runs, "run"),
        count(outline.legs, "leg")
    );
    let facts = facts(outline).into_iter();
    text.push_str(&aligned(
        facts.map(|(k, v)| vec![k.to_owned(), v]).collect(),
        &[],
    ));
    for each in &outline.phases {
        text.push('\n');
        phase(each, &mut text);
    }
    let first: Vec<&str> = outline
        .order
        .iter()
        .take(FIRST_LEGS)
        .map(String::as_str)
        .collect();
    let more = if outline.order.len() > FIRST_LEGS {
        ", ..."
    } else {
        ""
    };
    line(
        &mut text,
        &format!("\nFirst legs: {}{more}", first.join(", ")),
    );
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn count(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

fn facts(outline: &Outline) -> Vec<(&'static str, String)> {
    let engine = match outline.engine {
        Some(kind) => kind.to_owned(),
        None if outline.attached.is_empty() => {
            "found out at the start: a reachable or installed Ollama, else llama.cpp".to_owned()
        }
        None => "found out at the start: what answers".to_owned(),
    };
    let model = outline.model.clone();
    let instances = match outline.attached.as_slice() {
        [] => format!("{}, started for it and ended after it", outline.instances),
        urls => format!("{} of {}", outline.instances, urls.join(", ")),
    };
    let mut facts = vec![
        ("engine", engine),
        (
            "model",
            model.unwrap_or_else(|| "found out at the start: the engine's own".to_owned()),
        ),
        ("instances", instances),
        ("seed", outline.seed.to_string()),
        ("retries", retries(outline.budget)),
        ("gives up", gives_up(outline.budget)),
    ];
    if !outline.solo {
        facts.push(("solo", "no solo legs, so no concurrency gain".to_owned()));
    }
    if outline.budget.cool_down_s > 0 {
        let pause = format!(
            "{} s before each leg but the first",
            outline.budget.cool_down_s
        );
        facts.push(("cool-down", pause));
    }
    if let Some(slo) = &outline.slo {
        facts.push(("good is", slo.to_string()));
    }
    for rule in &outline.gate {
        facts.push(("gate", rule.to_string()));
    }
    if outline.most_runs > outline.runs {
        let most = format!(
            "up to {}, as long as intervals are wide",
            count(outline.most_runs, "run")
        );
        facts.push(("repeats", most));
    }
    facts
}

fn retries(budget: Budget) -> String {
    if budget.retries_per_leg == 0 || budget.retries_total == 0 {
        return "none".to_owned();
    }
    format!(
        "{} of an invalid leg, {} in all",
        budget.retries_per_leg, budget.retries_total
    )
}

fn gives_up(budget: Budget) -> String {
    let in_a_row = budget.consecutive_failures;
    let parts = [
        (in_a_row > 0).then(|| format!("after {in_a_row} invalid attempts in a row")),
        budget.failures.map(|most| {
            let most = count(u64::from(most), "leg");
            format!("when more than {most} stay invalid")
        }),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "never".to_owned()
    } else {
        parts.join(", or ")
    }
}

fn phase(phase: &PhaseOutline, text: &mut String) {
    let once = match &phase.waits_for {
        Some(select) => format!(", once phase {} is measured", select.from_phase),
        None => String::new(),
    };
    let mut scenarios: Vec<&str> = phase.tests.iter().map(|t| t.scenario.as_str()).collect();
    scenarios.dedup();
    let scenario = match scenarios.as_slice() {
        [only] => format!(" of {only}"),
        _ => String::new(),
    };
    line(
        text,
        &format!(
            "Phase {}: {}{scenario} x {}, {} in {} order{once}",
            phase.phase,
            count(phase.tests.len() as u64, "test"),
            count(u64::from(phase.runs_each), "run"),
            count(phase.legs, "leg"),
            phase.order
        ),
    );
    if let Some(select) = &phase.waits_for {
        line(text, &format!("  {}", taken_over(select)));
    }
    if let Some(goal) = &phase.until {
        line(text, &format!("  {}", until(goal)));
    }
    let agents: Vec<&AgentOutline> = phase.tests.iter().flat_map(|t| &t.agents).collect();
    let differs = Differs::among(&agents);
    if let Some(first) = agents.first() {
        let common = differs.common(first);
        if !common.is_empty() {
            line(text, &format!("  all agents: {common}"));
        }
    }
    text.push('\n');
    let header = ["test", "label", "legs", "agents"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    rows.extend(phase.tests.iter().map(|test| {
        vec![
            test.id.to_string(),
            test.label.clone(),
            test.legs.to_string(),
            who(test, &differs),
        ]
    }));
    text.push_str(&aligned(rows, &[0, 2]));
}

fn taken_over(select: &Select) -> String {
    let among = match &select.scenario {
        Some(scenario) => format!(", among {scenario}"),
        None => String::new(),
    };
    format!(
        "best {}: that of the test of phase {} with the best {}{among}",
        select.options.join(" and "),
        select.from_phase,
        select.by.name()
    )
}

fn until(goal: &Goal) -> String {
    format!(
        "each test is repeated until its {} is known to {} % (95 % interval), at most {}",
        goal.metric.name(),
        // Two digits are what a person writes; more would be those of the binary fraction.
        (goal.relative_half_width * 10_000.0).round() / 100.0,
        count(u64::from(goal.max_runs), "run")
    )
}

/// Which options tell the agents of a phase from each other.
struct Differs {
    options: Vec<OptionKey>,
    think: bool,
}

impl Differs {
    fn among(agents: &[&AgentOutline]) -> Self {
        let varies = |value: &dyn Fn(&AgentOutline) -> Option<String>| {
            let mut values = agents.iter().map(|a| value(a));
            let first = values.next();
            values.any(|v| Some(v) != first)
        };
        let option = |key: &OptionKey| varies(&|a| setting(*key, a));
        Self {
            options: OptionKey::ALL.into_iter().filter(option).collect(),
            think: varies(&|a| Some(a.think_ms.to_string())),
        }
    }

    /// What all have alike.
    fn common(&self, agent: &AgentOutline) -> String {
        let same = OptionKey::ALL.into_iter();
        let same = same.filter(|key| !self.options.contains(key));
        let mut parts: Vec<String> = same.filter_map(|key| setting(key, agent)).collect();
        if !self.think && agent.think_ms > 0 {
            parts.push(format!("think_ms={}", agent.think_ms));
        }
        parts.join(" ")
    }

    /// What one has of its own.
    fn own(&self, agent: &AgentOutline) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(agent.model.as_ref().map(|model| format!("model={model}")));
        parts.extend(self.options.iter().filter_map(|key| setting(*key, agent)));
        if self.think {
            parts.push(format!("think_ms={}", agent.think_ms));
        }
        parts.join(" ")
    }
}

fn setting(key: OptionKey, agent: &AgentOutline) -> Option<String> {
    let value = agent.options.get(key.as_str())?;
    let shown = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    Some(format!("{}={shown}", key.as_str()))
}

/// The agents of a test; those that are alike are counted.
fn who(test: &TestOutline, differs: &Differs) -> String {
    let own: Vec<String> = test.agents.iter().map(|a| differs.own(a)).collect();
    let mut text = match own.split_first() {
        Some((first, others)) if others.iter().all(|o| o == first) => {
            match (own.len(), first.as_str()) {
                (1, "") => "1 agent".to_owned(),
                (n, "") => format!("{n} alike"),
                (n, own) => format!("{n} x {own}"),
            }
        }
        _ => {
            let named = test.agents.iter().zip(&own);
            let named: Vec<String> = named
                .map(|(agent, own)| format!("{} {own}", agent.id).trim_end().to_owned())
                .collect();
            named.join(" | ")
        }
    };
    let agents = u32::try_from(test.agents.len()).unwrap_or(u32::MAX);
    let mut write = |what: std::fmt::Arguments<'_>| {
        // Writing to a text cannot fail.
        text.write_fmt(what).is_ok()
    };
    if let Topology::Shared { slots } = test.topology {
        let slots = count(u64::from(slots), "slot");
        write(format_args!(", on one instance with {slots}"));
    }
    if test.max_concurrent < agents {
        write(format_args!(", {} at once", test.max_concurrent));
    }
    text
}

/// Columns side by side, two spaces apart and indented; those listed in `right` end alike.
fn aligned(rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (i, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(i) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(i, (cell, width))| {
                if right.contains(&i) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        line(&mut text, format!("  {}", cells.join("  ")).trim_end());
    }
    text
}
