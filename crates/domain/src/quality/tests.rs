//! What the rules see, and what they do not.

use proptest::prelude::*;

use super::facts::{Stated, citations, numbers};
use super::*;
use crate::event::FinishReason;

const DATA: &str = r#"{
    "schema_version": 1, "rows": 264, "abridged": false,
    "files": [
        {"name": "cold_start.csv", "rows": 48, "columns": []},
        {"name": "quantization.csv", "rows": 216, "columns": []}
    ],
    "columns": [
        {"name": "ttft_ms", "files": 2, "kind": "numeric", "count": 264, "mean": 542.21, "sd": 825.52,
         "min": 74.0, "median": 142.6, "max": 3824.0},
        {"name": "vram_mb", "files": 1, "kind": "numeric", "count": 216, "mean": 4108.4, "sd": null,
         "min": 3042.0, "median": null, "max": 8390.0},
        {"name": "model", "files": 2, "kind": "text", "count": 264, "distinct": 3}
    ]
}"#;

const GOOD: &str = "\
## Summary
The 264 rows of `cold_start.csv` and `quantization.csv` show a mean `ttft_ms` of 542.2 ms.

## Key figures
| column | mean | max |
|---|---|---|
| ttft_ms | 542.2 | 3,824 |
| vram_mb | 4108 | 8390 |

## Next measurements
1. Repeat the cold start: its median is 142.6 ms, its latency unstable.
2. Measure VRAM by quantization.
";

fn facts() -> Facts {
    Facts::from_json(DATA).unwrap()
}

fn values(text: &str) -> Vec<f64> {
    numbers(text)
        .into_iter()
        .map(|number| number.value)
        .collect()
}

#[test]
fn a_faithful_report_beats_one_that_repeats_its_prompt() {
    let good = judge(GOOD, Some(&facts()), Some(FinishReason::Stop));
    assert_eq!(
        good.structure,
        Structure {
            headings: 3,
            sections: 3,
            list_items: 2,
            tables: 1
        }
    );
    assert_eq!((good.numbers_stated, good.numbers_in_data), (7, Some(7)));
    assert_eq!(good.columns_covered, Some(1.0));
    assert!(good.citations >= 4, "{}", good.citations);
    assert_eq!(good.cut_at_budget, Some(false));
    assert!(good.composite > 0.8, "{good:?}");
    let echo = judge(
        "[session 51341641]\nYou are a performance engineer who reads benchmarks of language models.",
        Some(&facts()),
        Some(FinishReason::Length),
    );
    assert!(echo.composite < 0.3, "{echo:?}");
    assert_eq!(echo.cut_at_budget, Some(true));
}

#[test]
fn figures_are_found_and_names_are_not() {
    assert_eq!(
        values("mean 542.2 ms, -3.5 and 1,234.5; 12% of 80ms"),
        [542.2, -3.5, 1234.5, 12.0, 80.0]
    );
    assert_eq!(
        values("gemma3-270m q4_K_M v1.2.3 phase2 [12] 7"),
        Vec::<f64>::new()
    );
    assert_eq!(values("10. ten\n11) eleven"), Vec::<f64>::new());
    assert_eq!(
        values("60/80/120 and n=48 (264 rows)"),
        [60.0, 80.0, 120.0, 48.0, 264.0]
    );
    assert_eq!(
        values("[session 51341641] 264 rows [see 99] x [77"),
        [264.0]
    );
    assert_eq!(values("**542.2** `142.6` 1,23"), [542.2, 142.6]);
}

#[test]
fn a_figure_is_in_the_data_at_the_digits_it_is_printed_with() {
    let stated = |value, decimals| Stated { value, decimals };
    assert!(stated(542.0, 0).is(542.21));
    assert!(stated(542.2, 1).is(542.21));
    assert!(!stated(542.3, 1).is(542.21));
    assert!(stated(0.69, 2).is(0.6852));
    // Rounding alone would let 1 pass for 0.6.
    assert!(!stated(1.0, 0).is(0.6));
    assert!(stated(0.0, 1).is(0.0));
}

#[test]
fn references_are_counted() {
    assert_eq!(
        citations(
            "see [1] and [a](b), `ttft_ms`, cold_start.csv.",
            Some(&facts())
        ),
        4
    );
    assert_eq!(citations("see [session 12] and [x", None), 0);
}

#[test]
fn without_the_data_the_overlap_is_unknown_and_does_not_count() {
    let quality = judge(GOOD, None, None);
    assert_eq!(
        (quality.numbers_in_data, quality.columns_covered),
        (None, None)
    );
    assert_eq!(quality.scores.facts, None);
    assert_eq!(quality.cut_at_budget, None);
    assert_eq!(Facts::from_json("not json"), None);
}

#[test]
fn an_agent_without_a_text_has_no_quality_but_a_reason() {
    let judged = Judged::of([].iter(), None);
    assert_eq!((judged.value, judged.adjusted_tokens_per_s), (None, None));
    assert!(judged.reason.unwrap().contains("no text"));
    let outputs = [(REPORT_TEXT, GOOD), (AGGREGATES, DATA)].map(|(name, text)| Output {
        name: name.to_owned(),
        media_type: "text/markdown".to_owned(),
        text: text.to_owned(),
    });
    let mut judged = Judged::of(outputs.iter(), Some(FinishReason::Stop));
    judged.adjust(Some(10.0));
    let composite = judged.value.unwrap().composite;
    assert!((judged.adjusted_tokens_per_s.unwrap() - 10.0 * composite).abs() < 1e-12);
}

#[test]
fn the_weights_are_a_whole() {
    let sum =
        WEIGHTS.facts + WEIGHTS.structure + WEIGHTS.depth + WEIGHTS.citations + WEIGHTS.length;
    assert!((sum - 1.0).abs() < 1e-12);
    assert!(score::is_technical("ttft", None) && score::is_technical("tokens/s", None));
    assert!(!score::is_technical("the", None));
}

proptest! {
    #[test]
    fn any_text_has_a_quality_from_0_to_1(text in "(?s).{0,400}", with in any::<bool>()) {
        let facts = facts();
        let quality = judge(&text, with.then_some(&facts), None);
        prop_assert!((0.0..=1.0).contains(&quality.composite));
        prop_assert!(quality.numbers_in_data.is_none_or(|n| n <= quality.numbers_stated));
        prop_assert!(quality.columns_covered.is_none_or(|part| (0.0..=1.0).contains(&part)));
        prop_assert!(quality.structure.sections <= quality.structure.headings);
    }

    #[test]
    fn stating_one_more_fact_never_lowers_the_score_of_facts(extra in 0_usize..6) {
        let figures = ["542.2", "825.5", "142.6", "3824", "4108", "8390"];
        let text = |n: usize| figures[..n].join(" ms and ");
        let facts = facts();
        let score = |n| judge(&text(n), Some(&facts), None).scores.facts.unwrap();
        prop_assert!(score(extra) <= score(extra + 1).max(score(extra)));
        prop_assert!(extra == 0 || score(extra) <= score((extra + 1).min(6)));
    }

    #[test]
    fn an_invented_figure_never_raises_the_composite(text in "[a-z ]{0,80}", figure in 100_000_u32..999_999) {
        let facts = facts();
        let stated = format!("{text} 542.2 ms and 142.6 ms");
        let before = judge(&stated, Some(&facts), None);
        let after = judge(&format!("{stated} {figure}"), Some(&facts), None);
        prop_assert!(after.scores.facts <= before.scores.facts);
    }
}
