//! What a gate found: Markdown for a summary page, `JUnit` XML for systems that read test results.

use super::table::Table;
use crate::gate::{Gate, GateResult, GateState};
use crate::report::number::{NONE, with_interval};

/// The gate as Markdown: the outcome, a table of what was judged, why each missed rule was missed, and
/// what was not judged.
#[must_use]
pub fn gate_markdown(gate: &Gate) -> String {
    let mut table = Table::new(&["rule", "test", "figure", "provenance", "state"]);
    let of = |state| gate.results.iter().filter(move |r| r.state == state);
    for result in gate
        .results
        .iter()
        .filter(|r| r.state != GateState::Skipped)
    {
        table.row([
            result.rule.clone(),
            place(result).unwrap_or_else(|| NONE.to_owned()),
            with_interval(result.value, result.interval),
            result.provenance.as_str().to_owned(),
            result.state.as_str().to_owned(),
        ]);
    }
    let mut out = format!(
        "# Gate: {}\n\n**{}**\n\n{}",
        gate.name,
        gate.sentence,
        table.finish("No rule was judged.")
    );
    for result in of(GateState::Missed) {
        let at = place(result).map_or_else(String::new, |test| format!(" ({test})"));
        line(
            &mut out,
            &format!("- missed: `{}`{at}: {}", result.rule, result.detail),
        );
    }
    // A rule is often skipped at every test, for one reason.
    let mut skipped: Vec<(&GateResult, Vec<&str>)> = Vec::new();
    for result in of(GateState::Skipped) {
        let id = result.test.as_deref().unwrap_or(NONE);
        let alike = |(known, _): &&mut (&GateResult, Vec<&str>)| {
            known.rule == result.rule && known.detail == result.detail
        };
        match skipped.iter_mut().find(alike) {
            Some((_, tests)) => tests.push(id),
            None => skipped.push((result, vec![id])),
        }
    }
    for (result, tests) in skipped {
        let (rule, detail, tests) = (&result.rule, &result.detail, tests.join(", "));
        line(
            &mut out,
            &format!("- skipped: `{rule}` (test {tests}): {detail}"),
        );
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// The test of a result, by id and label.
fn place(result: &GateResult) -> Option<String> {
    let id = result.test.as_ref()?;
    Some(match &result.label {
        Some(label) if label != id => format!("{id}: {label}"),
        _ => id.clone(),
    })
}

/// The gate as `JUnit` XML: one test case for each rule at each test. What was not judged and did not
/// have to be is `skipped`.
#[must_use]
pub fn gate_junit(gate: &Gate) -> String {
    let count = |state| gate.results.iter().filter(|r| r.state == state).count();
    // A gate in which nothing could be judged fails, and the file must say so too.
    let empty = !gate.passed && count(GateState::Missed) == 0;
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\"",
        gate.results.len() + usize::from(empty),
        count(GateState::Missed) + usize::from(empty),
        count(GateState::Skipped)
    );
    let name = escape(&gate.name);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"chimera gate\" {counts}>\n  \
         <testsuite name=\"{name}\" {counts}>\n"
    );
    for result in &gate.results {
        let detail = escape(&result.detail);
        let body = match result.state {
            GateState::Met => format!("<system-out>{detail}</system-out>"),
            GateState::Missed => {
                format!("<failure type=\"missed\" message=\"{detail}\">{detail}</failure>")
            }
            GateState::Skipped => format!("<skipped message=\"{detail}\"/>"),
        };
        let class =
            place(result).map_or_else(|| gate.name.clone(), |test| format!("{}.{test}", gate.name));
        case(&mut out, &class, &result.rule, &body);
    }
    if empty {
        let why = escape(&gate.sentence);
        let body = format!("<failure type=\"missed\" message=\"{why}\">{why}</failure>");
        case(&mut out, &gate.name, "at least one rule was judged", &body);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(out: &mut String, class: &str, name: &str, body: &str) {
    let (class, name) = (escape(class), escape(name));
    out.push_str(&format!(
        "    <testcase classname=\"{class}\" name=\"{name}\" time=\"0\">{body}</testcase>\n"
    ));
}

/// Text that may stand in an element or in an attribute. What XML 1.0 has no way to write is left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => {}
            other if other < ' ' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place_in_the_xml() {
        assert_eq!(
            escape("a <b> & \"c\" 'd'\n\u{1}\u{7}e"),
            "a &lt;b&gt; &amp; &quot;c&quot; &apos;d&apos;&#10;e"
        );
    }
}
