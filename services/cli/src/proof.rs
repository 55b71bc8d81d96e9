//! `replay` and `verify`: whether a result is as it was written, and as its records compute.
//!
//! A bundle that another version wrote may compute to more than it holds: reports grow. That is no
//! fault of the bundle, and told apart from another figure.

use std::fmt::Write as _;

use analyzer::bundle::{self, Recomputed, State, Verification};
use anyhow::Context as _;
use chimera_runtime::version;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::args::{ReplayArgs, VerifyArgs};
use crate::output;
use crate::report::{REPORT, computed};

/// Files, places and figures that are named one by one for a person; the rest is counted.
const NAMED: usize = 5;
/// The same for a program: a report of thousands of requests could differ in each.
const NAMED_JSON: usize = 100;

/// `chimera replay`.
pub(crate) fn replay(args: &ReplayArgs, json: bool) -> anyhow::Result<()> {
    let computed = computed(&args.bundle)?;
    if let Some(out) = &args.out {
        output::write_file(out, &computed)?;
    }
    let path = args.bundle.join(REPORT);
    let written =
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (ours, theirs) = (hash(&computed), hash(&written));
    let equal = computed == written;
    // Only an undamaged bundle of another version may compute to other bytes.
    let found = if equal {
        None
    } else {
        Some(bundle::verify(&args.bundle, &version::software())?)
    };
    let state = found.as_ref().map_or(State::Same, Verification::state);
    if json {
        output::print_json(&json!({
            "equal": equal,
            "state": state.as_str(),
            "computed": { "bytes": computed.len(), "sha256": ours },
            "bundle": { "bytes": written.len(), "sha256": theirs },
        }))?;
    } else if equal {
        let text = format!(
            "equal: the records compute to the {} bytes of {} (SHA-256 {ours})\n",
            computed.len(),
            path.display()
        );
        output::print(text.as_bytes())?;
    } else if let (Some(found), State::Grown) = (&found, state) {
        let text = format!(
            "the same figures: {}\n{}",
            other_bytes(found),
            found.recomputed.as_ref().map(details).unwrap_or_default()
        );
        output::print(text.as_bytes())?;
    }
    let why = match (&found, state) {
        (None, _) | (_, State::Same | State::Grown) => return Ok(()),
        (Some(found), State::Changed) => format!(
            "no file was damaged; {}, and finds other figures, which `chimera verify` names",
            other_bytes(found)
        ),
        (Some(_), State::Faulty) => "`chimera verify` says which files are at fault".to_owned(),
    };
    anyhow::bail!(
        "the records compute to another report than {}: {}\n  computed: {} bytes, SHA-256 {ours}\n  \
         bundle:   {} bytes, SHA-256 {theirs}\n{why}",
        path.display(),
        difference(&computed, &written),
        computed.len(),
        written.len(),
    )
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where two texts begin to differ.
fn difference(ours: &[u8], theirs: &[u8]) -> String {
    let (mut one, mut other) = (ours.split(|b| *b == b'\n'), theirs.split(|b| *b == b'\n'));
    let show = |line: Option<&[u8]>| {
        line.map_or_else(
            || "nothing".to_owned(),
            |line| format!("`{}`", String::from_utf8_lossy(line).trim()),
        )
    };
    for number in 1_u64.. {
        let (a, b) = (one.next(), other.next());
        if a != b {
            return format!("from line {number}, {} instead of {}", show(a), show(b));
        }
        if a.is_none() {
            break;
        }
    }
    "nowhere".to_owned()
}

/// `chimera verify`.
pub(crate) fn verify(args: &VerifyArgs, json: bool) -> anyhow::Result<()> {
    let found = bundle::verify(&args.bundle, &version::software())?;
    let (folder, state, faults) = (args.bundle.display(), found.state(), found.faults());
    if json {
        output::print_json(&document(&found))?;
    } else {
        let text = if state == State::Faulty {
            faults.iter().map(|fault| format!("{fault}\n")).collect()
        } else {
            told(&folder.to_string(), &found)
        };
        output::print(text.as_bytes())?;
    }
    match state {
        State::Same | State::Grown => Ok(()),
        State::Changed => anyhow::bail!(
            "{folder} is as it was written, and {}, and finds other figures: read it with the version \
             that wrote it, or compare results that one version computed",
            other_bytes(&found)
        ),
        State::Faulty => {
            let plural = if faults.len() == 1 { "" } else { "s" };
            anyhow::bail!(
                "{folder} is not as it was written: {} fault{plural}",
                faults.len()
            )
        }
    }
}

/// What is to be said of a bundle that is undamaged.
fn told(folder: &str, found: &Verification) -> String {
    let mut text = format!(
        "{folder}: every file is as it was written: {} of {} match their SHA-256\n",
        found.files_unchanged, found.files
    );
    if let Some(streams) = &found.streams {
        let whole = streams.whole();
        _ = writeln!(
            text,
            "records: {whole} of {} agents\u{2019} streams are whole: every record, in sequence, as the \
             hash at their end says",
            streams.total
        );
        if whole < streams.total {
            let flawed = named(&streams.flawed);
            _ = writeln!(text, "  not whole since they were measured: {flawed}");
        }
    }
    match (&found.recomputed, found.state()) {
        (_, State::Same) => text.push_str("the records compute to every file, byte for byte\n"),
        (Some(recomputed), _) => {
            _ = writeln!(text, "{}", other_bytes(found));
            text.push_str(&details(recomputed));
        }
        (None, _) => {}
    }
    text
}

fn other_bytes(found: &Verification) -> String {
    format!(
        "this chimera, {}, computes other bytes than {}, which wrote it",
        found.computed_by, found.written_by
    )
}

/// What this version computes otherwise, a line each.
fn details(found: &Recomputed) -> String {
    let mut text = String::new();
    let mut line = |what: &str, items: &[String]| {
        if !items.is_empty() {
            _ = writeln!(text, "  {what} ({}): {}", items.len(), named(items));
        }
    };
    line("files that differ", &found.differ);
    line("files that it adds", &found.new);
    line("files that it does not write any more", &found.gone);
    line("fields that it adds", &found.added);
    line("sentences that it puts otherwise", &found.reworded);
    let changed: Vec<String> = found
        .changed
        .iter()
        .map(|(path, c)| format!("{path}: {} was {}, is {}", c.place, c.was, c.is))
        .collect();
    line("figures and labels that it changes", &changed);
    if changed.is_empty() {
        text.push_str("  no figure differs\n");
    }
    text
}

fn named(items: &[String]) -> String {
    let shown: Vec<&str> = items.iter().take(NAMED).map(String::as_str).collect();
    let shown = shown.join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

fn document(found: &Verification) -> serde_json::Value {
    let state = found.state();
    let streams = found.streams.as_ref().map(|streams| {
        json!({ "total": streams.total, "whole": streams.whole(), "flawed": streams.flawed })
    });
    let first = |items: &[String]| items.iter().take(NAMED_JSON).cloned().collect::<Vec<_>>();
    let recomputed = found.recomputed.as_ref().map(|r| {
        let changed =
            r.changed.iter().take(NAMED_JSON).map(
                |(path, c)| json!({ "file": path, "place": c.place, "was": c.was, "is": c.is }),
            );
        json!({
            "files_differ": r.differ,
            "files_added": r.new,
            "files_gone": r.gone,
            "fields_added": first(&r.added),
            "sentences_reworded": first(&r.reworded),
            "changed_total": r.changed.len(),
            "changed": changed.collect::<Vec<_>>(),
        })
    });
    json!({
        "ok": matches!(state, State::Same | State::Grown),
        "state": state.as_str(),
        "faults": found.faults(),
        "written_by": found.written_by,
        "computed_by": found.computed_by,
        "files": { "listed": found.files, "unchanged": found.files_unchanged },
        "streams": streams,
        "recomputed": recomputed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told_by_line() {
        assert_eq!(
            difference(b"a\nb\n", b"a\nc\n"),
            "from line 2, `b` instead of `c`"
        );
        assert_eq!(
            difference(b"a", b"a\nc"),
            "from line 2, nothing instead of `c`"
        );
        assert_eq!(difference(b"a", b"a"), "nowhere");
    }
}
