//! From a report to what the template shows, in reading order.

use serde::Serialize;

use super::STYLE;
use super::goodput::{GoodputView, goodput};
use super::pictures;
use super::sections::{
    Line, TestView, data_lines, environment, instances, invalid, results, test_view,
};
use super::select;
use super::tr110::{Tr110Table, tr110};
use super::view::{Card, Cell, Figure, Key, Mark, Table, clean, interval, mark, percent, tone};
use super::why::{WhyView, why};
use crate::render::Derived;
use crate::report::number::{text, word};
use crate::report::{Engine, OutcomeState, Report, TestReport};
use crate::stats::{Provenance, Summary};

/// More tests than this and the statistics of each stand only in the test's own files.
const MAX_FULL_TESTS: usize = 40;

/// How to look at time lines with solo legs.
const SOLO_LEAD: &str = "The upper bar is the agents alone, one after the other; below it the same agents \
     together, on the same axis. The first length over the second is the gain. Solo legs are measured in \
     the same session, in random order; here they are laid end to end.";
/// How to look at time lines without.
const PLAIN_LEAD: &str = "The agents together, from their own start to their own end. No agent was run \
     alone, so there is nothing to hold these lengths against.";

/// The page.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    style: &'static str,
    name: String,
    /// What the data show of themselves.
    findings: Vec<FindingView>,
    /// One line below the name: where, with what, how much.
    context: Vec<String>,
    /// Set if the experiment did not end as planned.
    banner: Option<String>,
    /// The verdict's first part, large.
    verdict: String,
    /// Its second part.
    beside: Option<String>,
    cards: Vec<Card>,
    marks: Vec<Mark>,
    gain: Vec<Figure>,
    why: Option<WhyView>,
    runs: Vec<RunGroup>,
    runs_lead: &'static str,
    runs_note: Option<String>,
    times: Vec<Figure>,
    contention: Vec<Figure>,
    goodput: Option<GoodputView>,
    results: Option<Table>,
    tests: Vec<TestView>,
    tests_note: Option<String>,
    tr110: Vec<Tr110Table>,
    invalid: Option<Table>,
    validity: Vec<Line>,
    environment: Vec<Line>,
    instances: Option<Table>,
    spec: Option<String>,
    source: Vec<String>,
}

/// The time lines of a test.
#[derive(Debug, Serialize)]
struct RunGroup {
    label: String,
    verdict: String,
    /// The most typical run.
    first: Figure,
    /// The other ones.
    more: Vec<Figure>,
}

/// A finding with its evidence.
#[derive(Debug, Serialize)]
struct FindingView {
    sentence: String,
    table: Option<Table>,
}

/// Fills in the page.
pub(super) fn page(report: &Report, derived: &Derived) -> Page {
    let (rows, rows_note) = select::tests(&report.tests, select::MAX_ROWS);
    let (spreads, spreads_note) = select::tests(&report.tests, select::MAX_SPREADS);
    let (verdict, beside) = verdict(report);
    let (drawn, runs_note) = select::timelines(&report.tests);
    let mut known: Vec<Key> = Vec::new();
    let runs = drawn.into_iter().filter_map(|(test, runs)| {
        let mut figures = runs.into_iter().map(|run| {
            let mut figure = pictures::timeline(test, run);
            // What the marks mean is said once, until they change.
            if figure.keys == known {
                figure.keys.clear();
            } else {
                known.clone_from(&figure.keys);
            }
            figure
        });
        Some(RunGroup {
            label: clean(&test.label),
            verdict: clean(&test.verdict),
            first: figures.next()?,
            more: figures.collect(),
        })
    });
    let mut contention = vec![pictures::runs(&rows, rows_note.as_ref())];
    contention.extend(pictures::configurations(&report.tests));
    contention.push(pictures::memory(
        &spreads,
        &report.environment,
        spreads_note.as_ref(),
    ));
    contention.extend(pictures::sampled_memory(&spreads, spreads_note.as_ref()));
    let mut gain = vec![pictures::gain(&rows, rows_note.as_ref())];
    gain.extend(pictures::efficiency(&rows, rows_note.as_ref()));
    gain.extend(pictures::scaling(report, &derived.laws));
    let mut every = report.tests.iter().flat_map(|test| &test.runs);
    let has_solo = every.any(|run| run.solo_total_s.is_some());
    let full = report.tests.len() <= MAX_FULL_TESTS;
    Page {
        style: STYLE,
        name: clean(&report.name),
        findings: findings(report),
        context: context(report),
        banner: banner(report),
        verdict,
        beside,
        cards: cards(report),
        marks: [
            Provenance::Measured,
            Provenance::Derived,
            Provenance::Estimated,
            Provenance::Imported,
            Provenance::NotMeasured,
        ]
        .map(mark)
        .to_vec(),
        gain,
        why: why(report),
        runs: runs.collect(),
        runs_lead: if has_solo { SOLO_LEAD } else { PLAIN_LEAD },
        runs_note,
        times: vec![
            pictures::ttft(&spreads, spreads_note.as_ref()),
            pictures::tpot(&spreads, spreads_note.as_ref()),
        ],
        contention,
        goodput: goodput(report),
        results: results(&report.tests),
        tests: report.tests.iter().map(|test| test_view(test, full)).collect(),
        tests_note: (!full).then(|| {
            format!(
                "With more than {MAX_FULL_TESTS} tests, agents and statistics of each stand in its own \
                 summary.md and in report.json."
            )
        }),
        tr110: tr110(&derived.tables),
        invalid: invalid(&report.tests),
        validity: data_lines(report),
        environment: environment(&report.environment),
        instances: instances(&report.environment),
        spec: report
            .spec
            .as_ref()
            .map(|spec| spec.lines().map(clean).collect::<Vec<_>>().join("\n")),
        source: source(report),
    }
}

/// The sentence that a person would quote, and what TR110's formula says beside it.
fn verdict(report: &Report) -> (String, Option<String>) {
    let sentence = match (&report.contrast, report.tests.as_slice()) {
        (Some(contrast), _) => contrast.sentence.clone(),
        (None, []) => "The plan has no tests.".to_owned(),
        (None, tests) if tests.len() > 1 && !tests.iter().any(has_gain) => no_gain(tests),
        (None, tests) => tests
            .iter()
            .find(|test| test.aggregate.concurrency_gain.value.is_some())
            .or_else(|| tests.first())
            .map_or_else(String::new, |test| test.verdict.clone()),
    };
    let sentence = clean(&sentence);
    match sentence
        .split_once("; TR110\u{2019}s")
        .or_else(|| sentence.split_once("; TR110's"))
    {
        Some((first, rest)) => (format!("{first}."), Some(format!("TR110\u{2019}s{rest}"))),
        None => (sentence, None),
    }
}

fn has_gain(test: &TestReport) -> bool {
    test.aggregate.concurrency_gain.value.is_some()
}

/// What can be said of tests none of which has a gain.
fn no_gain(tests: &[TestReport]) -> String {
    let reasons = tests.iter().map(|test| &test.aggregate.concurrency_gain);
    let reason = reasons.filter_map(|gain| gain.reason.as_deref()).next();
    let balance = || {
        tests
            .iter()
            .filter_map(|test| test.aggregate.tr110_speedup.value)
    };
    let range = match (balance().reduce(f64::min), balance().reduce(f64::max)) {
        (Some(low), Some(high)) => format!(
            " TR110's formula gives {} over {} tests, which is balance, not gain.",
            interval(low, high),
            tests.len()
        ),
        _ => String::new(),
    };
    format!(
        "Whether running together gains anything cannot be told: {}.{range}",
        reason.unwrap_or("no reason is recorded")
    )
}

fn context(report: &Report) -> Vec<String> {
    let environment = &report.environment;
    let engine = environment.engine.as_ref();
    let engine = engine.filter(|e| e.name.is_some()).map(Engine::in_words);
    let cores = environment.cores.map(|cores| format!("{cores} cores"));
    let gpu = environment
        .gpu
        .as_ref()
        .and_then(|gpus| gpus.first())
        .map(|gpu| gpu.name.clone().unwrap_or_else(|| "unnamed GPU".to_owned()));
    let tests = report.tests.len();
    let plural = if tests == 1 { "" } else { "s" };
    let (valid, attempted) = report.tests.iter().fold((0_u32, 0_u32), |(v, a), t| {
        (v + t.runs_valid, a + t.runs_attempted)
    });
    let size = format!("{tests} test{plural}, {valid} valid of {attempted} runs attempted");
    [
        environment.model.clone(),
        engine,
        gpu,
        environment.cpu.clone(),
        cores,
        Some(size),
    ]
    .into_iter()
    .flatten()
    .map(|text| clean(&text))
    .collect()
}

fn findings(report: &Report) -> Vec<FindingView> {
    let views = report.findings.iter().map(|finding| {
        let mut table = Table::new(2, &["Where", "What", "Figure"]);
        for evidence in &finding.evidence {
            table.row([
                Cell::words(evidence.place.as_deref().unwrap_or("all valid runs")),
                Cell::words(&evidence.what),
                Cell::number(Some(evidence.value), evidence.provenance),
            ]);
        }
        FindingView {
            sentence: clean(&finding.sentence),
            table: table.filled(),
        }
    });
    views.collect()
}

/// Where imported figures come from, a sentence each.
fn source(report: &Report) -> Vec<String> {
    let Some(source) = &report.source else {
        return Vec::new();
    };
    let read = format!(
        "Imported: {} files of the layout {} were read. Another tool measured these figures; they stand as \
         its files state them.",
        source.files,
        clean(&source.layout)
    );
    [read]
        .into_iter()
        .chain(source.notes.iter().map(|note| clean(note)))
        .collect()
}

fn banner(report: &Report) -> Option<String> {
    let state = match report.outcome.state {
        OutcomeState::Completed => return None,
        OutcomeState::Running => "This experiment has not ended: the page shows a part.",
        OutcomeState::Cancelled => {
            "This experiment was cancelled: the page shows what was done before."
        }
        OutcomeState::Failed => "This experiment failed: the page shows what was done before.",
    };
    Some(match &report.outcome.detail {
        Some(detail) => format!("{state} ({})", clean(detail)),
        None => state.to_owned(),
    })
}

/// The numbers worth a card: the two ends of the gain, and what they rest on.
fn cards(report: &Report) -> Vec<Card> {
    let by_id = |id: &str| report.tests.iter().find(|test| test.id == id);
    let gain = |test: &TestReport| test.aggregate.concurrency_gain.value;
    let (best, worst) = match &report.contrast {
        Some(contrast) => (by_id(&contrast.best), by_id(&contrast.worst)),
        None => (report.tests.iter().find(|test| gain(test).is_some()), None),
    };
    let mut cards = Vec::new();
    if let Some(best) = best {
        let name = if worst.is_some() {
            "Highest gain"
        } else {
            "Gain"
        };
        cards.push(gain_card(name, best));
    }
    cards.extend(worst.map(|worst| gain_card("Lowest gain", worst)));
    if let Some(best) = best {
        let a = &best.aggregate;
        let who = word(best.agents.len());
        let mut card = card(
            "Parallel efficiency",
            &a.parallel_efficiency,
            percent,
            "",
            best,
        );
        card.of = Some(format!(
            "of what {who} undisturbed agents would gain: {}",
            clean(&best.label)
        ));
        cards.push(card);
    }
    let shown = worst.or(best).or_else(|| report.tests.first());
    if let Some(test) = shown {
        let a = &test.aggregate;
        let mut balance = card("TR110\u{2019}s formula", &a.tr110_speedup, text, "", test);
        balance.of = Some(format!("balance, no gain: {}", clean(&test.label)));
        cards.push(balance);
        cards.push(change_card(
            "TTFT together",
            &a.ttft_ms,
            &a.ttft_solo_ms,
            "ms",
            test,
        ));
        cards.push(change_card(
            "Tokens/s together",
            &a.aggregate_tokens_per_s,
            &a.solo_tokens_per_s,
            "",
            test,
        ));
    }
    cards
}

fn gain_card(name: &'static str, test: &TestReport) -> Card {
    let gain = &test.aggregate.concurrency_gain;
    Card {
        tone: tone(gain.value, gain.ci95),
        ..card(name, gain, text, "\u{d7}", test)
    }
}

fn card(
    name: &'static str,
    summary: &Summary,
    show: fn(f64) -> String,
    unit: &'static str,
    test: &TestReport,
) -> Card {
    let detail = match (summary.value, summary.ci95) {
        (None, _) => summary
            .reason
            .clone()
            .unwrap_or_else(|| "no reason is recorded".to_owned()),
        (Some(_), None) => format!("n\u{a0}=\u{a0}{}, no interval", summary.n),
        (Some(_), Some([low, high])) => {
            format!(
                "95\u{a0}%: {} to {}, n\u{a0}=\u{a0}{}",
                show(low),
                show(high),
                summary.n
            )
        }
    };
    Card {
        name,
        value: summary.value.map_or_else(|| "\u{2013}".to_owned(), show),
        unit,
        detail: clean(&detail),
        of: Some(clean(&test.label)),
        mark: Some(mark(summary.provenance)),
        tone: "",
    }
}

/// A card whose detail is what one agent has alone.
fn change_card(
    name: &'static str,
    together: &Summary,
    alone: &Summary,
    unit: &'static str,
    test: &TestReport,
) -> Card {
    let mut card = card(name, together, text, unit, test);
    if let (Some(_), Some(solo)) = (together.value, alone.value) {
        let interval = together.ci95.map_or_else(String::new, |[low, high]| {
            format!("95\u{a0}%: {}, ", interval(low, high))
        });
        card.detail = format!(
            "{interval}n\u{a0}=\u{a0}{}; alone {} {unit}",
            together.n,
            text(solo)
        )
        .trim_end()
        .to_owned();
    }
    card
}
