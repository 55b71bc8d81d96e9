//! The tables for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chimera_domain::attribution::{Attribution, Cause};
use chimera_testkit::simulated::causes;

use crate::observe::Seen;
use crate::score::{Outcome, Tally};

/// Everything of a result.
pub(crate) fn tables(outcome: &Outcome, worst: &[Seen]) -> String {
    // Writing to a string cannot fail.
    let mut text = String::new();
    write(&mut text, outcome, worst).map_or_else(|error| error.to_string(), |()| text)
}

fn write(text: &mut String, outcome: &Outcome, worst: &[Seen]) -> std::fmt::Result {
    writeln!(text, "seed {}: {}", outcome.seed, split(outcome.seed))?;
    if outcome.single_runs > 0 {
        writeln!(text, "\nSingle causes ({} runs)\n", outcome.single_runs)?;
        causes_table(text, &outcome.single)?;
        writeln!(text, "macro-F1 {}", number(outcome.macro_f1_single))?;
    }
    if outcome.pair_runs > 0 {
        writeln!(text, "\nPairs ({} runs)\n", outcome.pair_runs)?;
        causes_table(text, &outcome.pairs)?;
        writeln!(text, "macro-F1 {}", number(outcome.macro_f1_pairs))?;
    }
    if let (Some(rate), Some([low, high])) =
        (outcome.false_alarm_rate, outcome.false_alarm_interval)
    {
        writeln!(
            text,
            "\nFalse alarms: {} of {} clean runs, {:.1} % (95 % interval {:.1} to {:.1} %)",
            outcome.false_alarms,
            outcome.clean_runs,
            rate * 100.0,
            low * 100.0,
            high * 100.0
        )?;
    }
    writeln!(
        text,
        "\nWhat acted (rows) and what was named (columns), runs\n"
    )?;
    confusion(text, outcome)?;
    let bad: Vec<_> = outcome
        .cases
        .iter()
        .filter(|(_, named)| named.exact < named.runs)
        .collect();
    if !bad.is_empty() {
        writeln!(text, "\nCases not always named exactly as they were\n")?;
        for (case, named) in bad {
            writeln!(
                text,
                "  {case}: {} of {} runs{}{}",
                named.exact,
                named.runs,
                counts("missed", &named.missed),
                counts("wrong", &named.wrong)
            )?;
        }
    }
    for seen in worst {
        write!(text, "\n{}", explained(seen))?;
    }
    Ok(())
}

fn split(seed: u64) -> &'static str {
    if seed < 1000 {
        "for development"
    } else {
        "held out"
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn causes_table(text: &mut String, tallies: &BTreeMap<Cause, Tally>) -> std::fmt::Result {
    writeln!(
        text,
        "{:<26} {:>9} {:>9} {:>9} {:>6} {:>6} {:>6}",
        "cause", "precision", "recall", "F1", "hits", "false", "missed"
    )?;
    for (cause, tally) in tallies {
        writeln!(
            text,
            "{:<26} {:>9} {:>9} {:>9} {:>6} {:>6} {:>6}",
            cause.as_str(),
            number(tally.precision()),
            number(tally.recall()),
            number(tally.f1()),
            tally.hits,
            tally.false_hits,
            tally.misses
        )?;
    }
    Ok(())
}

/// Rows and columns in the order of reports; columns under short names.
fn confusion(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let mut columns: Vec<&str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    columns.push("nothing");
    write!(text, "{:<26} {:>5}", "", "runs")?;
    for column in &columns {
        write!(text, " {:>6}", short(column))?;
    }
    writeln!(text)?;
    let known = causes();
    let rows = known.iter().map(|cause| cause.as_str()).chain(["none"]);
    for row in rows {
        let Some(counts) = outcome.confusion.get(row) else {
            continue;
        };
        write!(
            text,
            "{row:<26} {:>5}",
            counts.get("runs").copied().unwrap_or(0)
        )?;
        for column in &columns {
            match counts.get(*column) {
                Some(count) => write!(text, " {count:>6}")?,
                None => write!(text, " {:>6}", ".")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn short(name: &str) -> &str {
    match name {
        "queueing" => "queue",
        "cpu_offload" => "offl",
        "vram_pressure" => "vram",
        "bandwidth_contention" => "bandw",
        "compute_contention" => "comp",
        "thermal_or_power_throttle" => "throt",
        "host_cpu" => "host",
        "foreign_process" => "forei",
        "client_overload" => "client",
        "network" => "netw",
        "length_imbalance" => "length",
        "unexplained" => "unexpl",
        "nothing" => "none",
        other => other,
    }
}

fn counts(what: &str, counts: &BTreeMap<Cause, u32>) -> String {
    let each: Vec<String> = counts
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    if each.is_empty() {
        String::new()
    } else {
        format!("; {what}: {}", each.join(", "))
    }
}

fn names(causes: &BTreeSet<Cause>) -> String {
    let names: Vec<&str> = causes.iter().map(|cause| cause.as_str()).collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// One run with all that was seen of it.
pub(crate) fn explained(seen: &Seen) -> String {
    let mut text = String::new();
    explain(&mut text, seen).map_or_else(|error| error.to_string(), |()| text)
}

fn explain(text: &mut String, seen: &Seen) -> std::fmt::Result {
    writeln!(
        text,
        "{} (case seed {}, {}), run {}",
        seen.case, seen.seed, seen.machine, seen.run
    )?;
    writeln!(
        text,
        "  acted: {}; named: {}",
        names(&seen.truth),
        names(&seen.named)
    )?;
    let cost: Vec<String> = seen
        .ledger
        .iter()
        .map(|(cause, ms)| format!("{cause} {ms:.0} ms"))
        .collect();
    writeln!(
        text,
        "  cost as simulated: {}",
        if cost.is_empty() {
            "none".to_owned()
        } else {
            cost.join(", ")
        }
    )?;
    let Some(attribution) = &seen.attribution else {
        return writeln!(text, "  the analysis said nothing of this run");
    };
    excess(text, attribution)?;
    for finding in &attribution.causes {
        writeln!(
            text,
            "  {} ({}): {}",
            finding.cause,
            finding.grade.as_str(),
            finding.sentence
        )?;
        for evidence in &finding.evidence {
            let against = evidence
                .against
                .map_or_else(String::new, |against| format!(" against {against:.3}"));
            writeln!(
                text,
                "    {} {:.3} {}{against} [{}]",
                evidence.what, evidence.value, evidence.unit, evidence.source
            )?;
        }
    }
    for missed in seen.truth.difference(&seen.named) {
        writeln!(text, "  missed: {missed}")?;
    }
    Ok(())
}

fn excess(text: &mut String, attribution: &Attribution) -> std::fmt::Result {
    for excess in &attribution.excess {
        let p = excess
            .p
            .map_or_else(|| "-".to_owned(), |p| format!("{p:.1e}"));
        writeln!(
            text,
            "  {}{} {}: {:.1} ms, alone {:.1} (sd {}, n {}), p {p}",
            if excess.beyond_chance { "* " } else { "  " },
            excess.agent,
            excess.part,
            excess.together_ms,
            excess.usual_ms,
            number(excess.usual_sd_ms),
            excess.usual_n
        )?;
    }
    Ok(())
}
