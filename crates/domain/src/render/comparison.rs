//! A comparison of two reports for people.

use super::table::Table;
use crate::compare::{
    Comparison, MatchedBy, Pairing, TestComparison, Verdict, probability, signed_percent,
};
use crate::report::number::{NONE, opt, with_interval};

/// The comparison as Markdown: the verdict, what to beware of, and a table for each test.
#[must_use]
pub fn comparison_markdown(comparison: &Comparison) -> String {
    let (a, b) = (&comparison.a, &comparison.b);
    let mut out = format!(
        "# {} (b) against {} (a)\n\n**{}** {}\n\n",
        b.name,
        a.name,
        capital(comparison.verdict.as_str()),
        comparison.sentence
    );
    line(
        &mut out,
        &format!(
            "a: experiment `{}`, seed {}. b: experiment `{}`, seed {}. Differences are b minus a.\n",
            a.experiment,
            seed(a.seed),
            b.experiment,
            seed(b.seed)
        ),
    );
    for caveat in &comparison.caveats {
        line(&mut out, &format!("- {caveat}"));
    }
    if !comparison.caveats.is_empty() {
        out.push('\n');
    }
    for test in &comparison.tests {
        out.push_str(&test_markdown(test));
    }
    for (which, ids) in [("a", &comparison.only_in_a), ("b", &comparison.only_in_b)] {
        if !ids.is_empty() {
            line(
                &mut out,
                &format!("Only in {which}: test {}.\n", ids.join(", ")),
            );
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn seed(seed: Option<u64>) -> String {
    seed.map_or_else(|| NONE.to_owned(), |seed| seed.to_string())
}

fn test_markdown(test: &TestComparison) -> String {
    let how = match test.matched_by {
        MatchedBy::Configuration => "the same configuration",
        MatchedBy::IdAndLabel => "the same id and label",
        MatchedBy::Label => "the same label only",
        MatchedBy::Id => "the same id only: the configurations differ",
    };
    let runs = match &test.pairing {
        Pairing::Paired { pairs } => format!("{pairs} pairs of runs"),
        Pairing::Independent { reason } => format!("independent runs, since {reason}"),
    };
    let mut table = Table::new(&[
        "metric",
        "a",
        "b",
        "b - a",
        "in %",
        "p",
        "adjusted p",
        "effect",
        "detectable",
        "verdict",
    ]);
    for metric in &test.metrics {
        let p = |p: Option<f64>| p.map_or_else(|| NONE.to_owned(), probability);
        let unit = metric.metric.unit();
        let name = if unit.is_empty() {
            metric.metric.name().to_owned()
        } else {
            format!("{} ({unit})", metric.metric.name())
        };
        table.row([
            name,
            opt(metric.mean_a),
            opt(metric.mean_b),
            with_interval(metric.difference, metric.interval),
            metric
                .relative
                .map_or_else(|| NONE.to_owned(), signed_percent),
            p(metric.p),
            p(metric.p_adjusted),
            opt(metric.effect),
            opt(metric.detectable),
            metric.verdict.as_str().to_owned(),
        ]);
    }
    let mut out = format!("## Test {}: {}\n\n", test.b, test.label);
    line(
        &mut out,
        &format!("Test {} of a, matched by {how}; {runs}.\n", test.a),
    );
    out.push_str(&table.finish("No metric was asked for."));
    for metric in &test.metrics {
        if metric.verdict != Verdict::NotMeasurable {
            line(
                &mut out,
                &format!("- {}: {}", metric.verdict.as_str(), metric.evidence),
            );
        }
    }
    out.push('\n');
    out
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}
