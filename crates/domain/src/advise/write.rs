//! A playbook as text that can be pasted: YAML for people and other tools, TOML for a spec of ours.
//! Texts are quoted as JSON has it, which both read.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Pick, Playbook, Recipe};
use crate::report::number::{text, with_interval};
use crate::stats::Summary;

/// The playbook as YAML: for each goal the phase to write into a spec, and what to expect.
#[must_use]
pub fn yaml(playbook: &Playbook) -> String {
    let mut out = head(playbook);
    for recipe in &playbook.recipes {
        let goal = recipe.goal.name();
        let Some(pick) = &recipe.pick else {
            line(
                &mut out,
                &format!("{goal}: null  # not measured: {}", why(recipe)),
            );
            continue;
        };
        line(&mut out, &format!("{goal}:"));
        for note in notes(recipe, pick) {
            line(&mut out, &format!("  # {note}"));
        }
        if let Some(fault) = &pick.refused {
            line(
                &mut out,
                &format!("  # A spec cannot repeat this test: {}", one_line(fault)),
            );
        }
        line(&mut out, "  phase:");
        let mut lead = "    - ";
        for (key, value) in &pick.phase.keys {
            line(&mut out, &format!("{lead}{key}: {}", plain(value)));
            lead = "      ";
        }
        if !pick.phase.agents.is_empty() {
            line(&mut out, "      agent:");
        }
        for agent in &pick.phase.agents {
            let mut lead = "        - ";
            for (key, value) in agent {
                line(&mut out, &format!("{lead}{key}: {}", plain(value)));
                lead = "          ";
            }
        }
        if !pick.phase.baseline.is_empty() {
            line(&mut out, "  baseline:");
            for (key, value) in &pick.phase.baseline {
                line(&mut out, &format!("    {key}: {}", plain(value)));
            }
        }
        line(&mut out, "  expected:");
        line(&mut out, &format!("    test: {}", quoted(&pick.test)));
        expected(&mut out, &recipe.by, &pick.value);
        if recipe.by != "concurrency_gain" {
            expected(&mut out, "concurrency_gain", &pick.gain);
        }
        expected(&mut out, "parallel_efficiency", &pick.efficiency);
    }
    out
}

fn expected(out: &mut String, name: &str, summary: &Summary) {
    let Some(value) = summary.value else {
        let reason = summary.reason.as_deref().unwrap_or("no valid run has it");
        line(
            out,
            &format!("    {name}: null  # not measured: {}", one_line(reason)),
        );
        return;
    };
    line(out, &format!("    {name}: {value}"));
    match summary.ci95 {
        Some([low, high]) => line(out, &format!("    {name}_ci95: [{low}, {high}]")),
        None => line(
            out,
            &format!("    {name}_ci95: null  # needs two valid runs"),
        ),
    }
    line(
        out,
        &format!(
            "    {name}_provenance: {}",
            quoted(summary.provenance.as_str())
        ),
    );
}

/// The playbook as TOML: each recipe a `[[phase]]` that pastes into a spec, with what to expect above it.
#[must_use]
pub fn toml(playbook: &Playbook) -> String {
    let mut out = head(playbook);
    for recipe in &playbook.recipes {
        let goal = recipe.goal.name();
        out.push('\n');
        let Some(pick) = &recipe.pick else {
            line(
                &mut out,
                &format!("# {goal}: not measured: {}", why(recipe)),
            );
            continue;
        };
        line(&mut out, &format!("# {goal}"));
        for note in notes(recipe, pick) {
            line(&mut out, &format!("# {note}"));
        }
        if let Some(fault) = &pick.refused {
            line(&mut out, "# A spec cannot repeat this test:");
            for fault in fault.lines() {
                line(&mut out, &format!("#   {}", one_line(fault)));
            }
            continue;
        }
        if pick.phase.reads_baseline() {
            line(
                &mut out,
                "# Its first agent has the options of the spec's [baseline].",
            );
        }
        line(&mut out, "[[phase]]");
        for (key, value) in &pick.phase.keys {
            line(&mut out, &format!("{key} = {}", plain(value)));
        }
        for agent in &pick.phase.agents {
            out.push('\n');
            line(&mut out, "[[phase.agent]]");
            for (key, value) in agent {
                line(&mut out, &format!("{key} = {}", plain(value)));
            }
        }
    }
    // All picks that read it have the same, and a spec has it once.
    let mut phases = playbook
        .recipes
        .iter()
        .filter_map(|recipe| recipe.pick.as_ref());
    let first = phases.find(|pick| pick.refused.is_none() && !pick.phase.baseline.is_empty());
    if let Some(pick) = first {
        line(
            &mut out,
            "\n# What the first agent of baseline_vs_chimera has: once in a spec.",
        );
        line(&mut out, "[baseline]");
        for (key, value) in &pick.phase.baseline {
            line(&mut out, &format!("{key} = {}", plain(value)));
        }
    }
    out
}

fn head(playbook: &Playbook) -> String {
    let mut out = String::new();
    let name = one_line(&playbook.name);
    line(
        &mut out,
        &format!("# What to take for which goal, from the measured results of '{name}'."),
    );
    match (&playbook.model, &playbook.spec_model) {
        (Some(model), _) => line(&mut out, &format!("# Model: {}", one_line(model))),
        (None, Some(model)) => line(
            &mut out,
            &format!(
                "# [model] of the spec: {}; agents with another state it.",
                one_line(model)
            ),
        ),
        (None, None) => {}
    }
    out
}

fn why(recipe: &Recipe) -> String {
    one_line(
        recipe
            .not_measured
            .as_deref()
            .unwrap_or("no valid run has it"),
    )
}

/// What a person should know of a pick before using it.
fn notes(recipe: &Recipe, pick: &Pick) -> Vec<String> {
    let mut notes = vec![format!(
        "Test {} ('{}'), by {}: {}, {}.",
        pick.test,
        one_line(&pick.label),
        recipe.by,
        with_interval(pick.value.value, pick.value.ci95),
        pick.value.provenance.as_str()
    )];
    notes.push(match (pick.gain.value, pick.gain.ci95) {
        (Some(gain), Some([low, high])) => format!(
            "Expected concurrency gain {} (95 % interval {} to {}).",
            text(gain),
            text(low),
            text(high)
        ),
        (Some(gain), None) => format!(
            "Expected concurrency gain {} (one run, no interval).",
            text(gain)
        ),
        (None, _) => format!(
            "Expected concurrency gain: not measured ({}).",
            one_line(pick.gain.reason.as_deref().unwrap_or("no valid run has it"))
        ),
    });
    notes.push(match (&pick.runner_up, pick.clear) {
        (None, _) => "No other test to compare it with.".to_owned(),
        (Some((test, value)), Some(true)) => format!(
            "Clearly better than the next best (test {test}: {}).",
            text(*value)
        ),
        (Some((test, value)), Some(false)) => format!(
            "No difference to the next best is shown (test {test}: {}): these runs do not tell which is better.",
            text(*value)
        ),
        (Some((test, value)), None) => format!(
            "Too few runs to tell it from the next best (test {test}: {}).",
            text(*value)
        ),
    });
    notes.extend(
        pick.caveats
            .iter()
            .map(|caveat| format!("Beware: {}", one_line(caveat))),
    );
    notes
}

/// A scalar as both TOML and YAML read it. A fraction keeps its point: TOML tells 1 from 1.0.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    // TOML knows no \u001f-free way for DEL; neither does a label need it.
    let text: String = text.chars().filter(|c| *c != '\u{7f}').collect();
    Value::String(text).to_string()
}

/// Text that cannot leave its comment.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    if writeln!(out, "{text}").is_err() {
        out.push('\n');
    }
}
