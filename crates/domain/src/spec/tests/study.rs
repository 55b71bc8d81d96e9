//! What makes a spec a study: budgets, gates, repeats, and phases that wait for others.

use super::*;
use crate::memory::admission::Admit;
use crate::metric::Metric;
use crate::options::EngineKind;
use crate::plan::{Budget, Goal};

/// Two phases, the second with these lines.
fn second(lines: &str) -> String {
    with_phase(&format!(
        "num_gpu = [60, 80]\nnum_ctx = [512, 1024]\n[[phase]]\nscenario = \"chimera_homo\"\n{lines}"
    ))
}

pub(super) fn faults(cases: &[(&str, &str)], text: impl Fn(&str) -> String) {
    for (lines, expected) in cases {
        let said = fault(&text(lines));
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

pub(super) fn round_trip(text: &str) -> ValidSpec {
    let spec = toml(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let again = spec.to_toml();
    assert_eq!(
        toml(&again).unwrap_or_else(|e| panic!("{e}\n{again}")),
        spec
    );
    spec
}

#[test]
fn budgets_have_bounds_and_defaults() {
    assert_eq!(round_trip(SMALL).budget(), Budget::default());
    let spec = round_trip(&with_phase(
        "[budget]\nretries_per_leg = 10\nretries_total = 10000\nfailures = 0\n\
         consecutive_failures = 0\ncool_down_s = 86400",
    ));
    let expected = Budget {
        retries_per_leg: 10,
        retries_total: 10_000,
        failures: Some(0),
        consecutive_failures: 0,
        cool_down_s: 86_400,
    };
    assert_eq!(spec.budget(), expected);
    let cases = [
        (
            "retries_per_leg = 11",
            "11 is out of bounds (allowed: 0 to 10)",
        ),
        ("retries_total = 10001", "allowed: 0 to 10000"),
        ("consecutive_failures = 1001", "allowed: 0 to 1000"),
        ("cool_down_s = -1", "allowed: 0 to 86400"),
        ("failures = 0.5", "expected a whole number"),
        ("retries = 1", "unknown key (did you mean retries_"),
    ];
    faults(&cases, |lines| with_phase(&format!("[budget]\n{lines}")));
}

#[test]
fn a_schedule_says_when_a_gang_is_admitted() {
    let with = |lines: &str| with_phase(&format!("[schedule]\n{lines}"));
    let default = round_trip(SMALL).schedule();
    assert_eq!((default.admit, default.wait_s), (Admit::Fits, 30));
    assert_eq!(round_trip(&with("wait_s = 0")).schedule().wait_s, 0);
    for (word, admit) in [("warn", Admit::Warn), ("always", Admit::Always)] {
        let spec = round_trip(&with(&format!("admit = \"{word}\"")));
        assert_eq!(spec.schedule().admit, admit);
        let plan = crate::plan::build(&spec.with_engine(EngineKind::Ollama)).unwrap();
        assert_eq!(plan.schedule.admit, admit, "the plan carries it");
    }
    let cases = [
        ("admit = \"maybe\"", "\"fits\""),
        ("wait_s = 86401", "allowed: 0 to 86400"),
        ("admit = \"warn\"\nwait_s = 5", "nothing waits for room"),
        ("mode = \"adaptive\"", "unknown key"),
    ];
    faults(&cases, with);
}

#[test]
fn gates_are_rules_and_mean_what_is_written() {
    let rules = [
        ("concurrency_gain", ">= 1.5 ci"),
        ("wall_s", "<30"),
        ("contention_rate", "<= 10 % optional ci"),
        ("parallel_efficiency", ">95% in one of 'us' in here"),
        ("ttft_delta_ms", "< -1.5e3"),
    ];
    let lines = rules.map(|(name, rule)| format!("{name} = \"{rule}\"\n"));
    let spec = round_trip(&with_phase(&format!("[gate]\n{}", lines.concat())));
    let kept: Vec<String> = spec.gate().iter().map(ToString::to_string).collect();
    assert_eq!(
        kept,
        [
            "concurrency_gain >= 1.5 ci",
            "wall_s < 30",
            "contention_rate <= 0.1 ci optional",
            "parallel_efficiency > 0.95 in one of 'us' in here",
            "ttft_delta_ms < -1500",
        ]
    );
    let cases = [
        (
            "concurrency_gains = \"> 1\"",
            "did you mean concurrency_gain?",
        ),
        ("wall_s = 30", "expected a text, found 30"),
        (
            "wall_s = \"30\"",
            "does not begin with >=, >, <= or <; write it like",
        ),
        ("wall_s = \"= 3\"", "does not begin with"),
        ("wall_s = \"<\"", "where a number should stand"),
        ("wall_s = \"< nan\"", "where a number should stand"),
        ("wall_s = \"< inf\"", "where a number should stand"),
        ("wall_s = \"< 1e999\"", "where a number should stand"),
        ("wall_s = \"< 3 s\"", "has 's' after the number"),
        ("wall_s = \"< 3 ci in\"", "names no test after 'in'"),
        (
            "wall_s = \"< 3 %\"",
            "has a percentage, but the figure is in s",
        ),
        ("wall_s = \"\"", "cannot be used here"),
    ];
    faults(&cases, |lines| with_phase(&format!("[gate]\n{lines}")));
}

#[test]
fn a_phase_may_take_over_the_best_of_an_earlier_one() {
    let short = round_trip(&second(
        "num_gpu = \"best\"\nselect = \"best of previous by concurrency_gain\"",
    ));
    let long = round_trip(&second(
        "num_gpu = \"best\"\n[phase.select]\nby = \"concurrency_gain\"",
    ));
    assert_eq!(short, long);
    let select = short.phases()[1].select().unwrap();
    assert_eq!((select.from_phase, select.by), (1, Metric::ConcurrencyGain));
    assert_eq!(select.options, ["num_gpu"]);
    let full = round_trip(&second(
        "num_ctx = \"best\"\nnum_gpu = \"best\"\n[phase.select]\nfrom = 1\nby = \"wall_s\"\n\
         scenario = \"chimera_homo\"",
    ));
    let select = full.phases()[1].select().unwrap();
    assert_eq!(select.options, ["num_ctx", "num_gpu"]);
    assert_eq!(select.scenario.as_deref(), Some("chimera_homo"));
    assert_eq!(
        full.candidates(2, OptionKey::NumGpu),
        [Setting::NumGpu(60), Setting::NumGpu(80)]
    );
    assert!(full.candidates(2, OptionKey::TopK).is_empty());
}

#[test]
fn what_cannot_be_taken_over_is_refused() {
    let by = "\nselect = \"best of previous by wall_s\"";
    let best = "num_gpu = \"best\"\n";
    let cases = [
        (best.to_owned(), "best of which phase, by which metric?"),
        (by.to_owned(), "no option of this phase is \"best\""),
        (
            format!("top_k = \"best\"{by}"),
            "phase 1 neither varies nor sets top_k",
        ),
        (
            format!("num_gpu = [\"best\", 1]\nnum_ctx = \"best\"{by}"),
            "best stands in a list",
        ),
        (
            format!("num_gpu = \"bests\"{by}"),
            "expected a whole number, found the text",
        ),
        (
            format!("{best}[phase.select]\nfrom = 2\nby = \"wall_s\""),
            "2 is out of bounds (allowed: 1 to 1)",
        ),
        (
            format!("{best}[phase.select]\nfrom = 0\nby = \"wall_s\""),
            "0 is out of bounds",
        ),
        (
            format!("{best}[phase.select]\nfrom = 1"),
            "phase[1].select.by: is required",
        ),
        (
            format!("{best}[phase.select]\nby = \"wall\""),
            "did you mean \"wall_s\"?",
        ),
        (
            format!("{best}[phase.select]\nby = \"wall_s\"\nscenario = \"custom\""),
            "phase 1 has no \"custom\" (it has: chimera_homo)",
        ),
        (
            format!("{best}[phase.select]\nby = \"wall_s\"\nfor = 1"),
            "unknown key",
        ),
        (
            format!("{best}select = \"best of phase 2 by wall_s\""),
            "\"2\" is not an earlier phase",
        ),
        (
            format!("{best}select = \"best of phase 99999999999 by wall_s\""),
            "is not an earlier phase",
        ),
        (
            format!("{best}select = \"best of previous by speedup\""),
            "did you mean \"tr110_speedup\"?",
        ),
        (
            format!("{best}select = \"the best\""),
            "\"the best\" cannot be read",
        ),
        (format!("{best}select = 1"), "expected a table, found 1"),
        (
            format!("num_ctx = \"best\"\nnum_predict = 600{by}"),
            "num_predict = 600 leaves no room for a prompt in num_ctx = 512",
        ),
    ];
    for (lines, expected) in cases {
        let said = fault(&second(&lines));
        assert!(said.contains(expected), "{lines}: {said}");
    }
    let said = toml(&with_phase(&format!("{best}{by}")))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("the first phase has none before it"),
        "{said}"
    );
    let solo = format!(
        "{SMALL}num_gpu = 1\n[solo]\nenabled = false\n[[phase]]\nscenario = \"custom\"\n{best}"
    );
    let said = fault(&format!(
        "{solo}select = \"best of previous by concurrency_gain\""
    ));
    assert!(
        said.contains("concurrency_gain compares with solo legs"),
        "{said}"
    );
    assert!(
        toml(&format!(
            "{solo}select = \"best of previous by tr110_speedup\""
        ))
        .is_ok()
    );
    for place in ["[baseline]", "[phase.hetero]", "[[phase.agent]]"] {
        let said = toml(&second(&format!("{by}\n{place}\nnum_gpu = \"best\"")))
            .unwrap_err()
            .to_string();
        assert!(said.contains("best cannot stand here"), "{place}: {said}");
    }
}

#[test]
fn the_agent_that_is_read_must_have_the_grids_value() {
    let text = |scenario: &str, first: &str, last: &str| {
        format!(
            "{}num_gpu = [1, 2]\n[[phase.agent]]\n{first}\n[[phase.agent]]\n{last}\n[[phase]]\n\
             scenario = \"custom\"\nnum_gpu = \"best\"\nselect = \"best of previous by wall_s\"\n",
            SMALL.replace("chimera_homo", scenario)
        )
    };
    assert!(toml(&text("custom", "num_gpu = 3", "")).is_ok());
    assert!(fault(&text("custom", "", "num_gpu = 3")).contains("overrides it"));
    assert!(toml(&text("chimera_hetero", "", "num_gpu = 3")).is_ok());
    assert!(fault(&text("chimera_hetero", "num_gpu = 3", "")).contains("overrides it"));
}

#[test]
fn repeats_need_a_goal_and_a_cap() {
    let until = |lines: &str| with_phase(&format!("runs = 5\n[phase.until]\n{lines}"));
    let good = "metric = \"wall_s\"\nrelative_half_width = 0.05\nmax_runs = 6";
    let expected = Goal {
        metric: Metric::WallS,
        relative_half_width: 0.05,
        max_runs: 6,
    };
    assert_eq!(round_trip(&until(good)).phases()[0].until(), Some(expected));
    let cases = [
        (
            good.replace("= 6", "= 5"),
            "max_runs = 5 leaves nothing to repeat after runs = 5",
        ),
        (good.replace("= 6", "= 1001"), "1001 is out of bounds"),
        (good.replace("0.05", "0.0009"), "allowed: 0.001 to 1"),
        (
            good.replace("0.05", "nan"),
            "is not a number to measure with",
        ),
        (
            good.replace("wall_s", "gain"),
            "did you mean \"concurrency_gain\"?",
        ),
        (good.replace("max_runs = 6", ""), "max_runs: is required"),
    ];
    for (lines, expected) in cases {
        let said = fault(&until(&lines));
        assert!(said.contains(expected), "{lines}: {said}");
    }
    let solo = format!(
        "[solo]\nenabled = false\n{}",
        good.replace("wall_s", "slowdown")
    );
    let said = fault(&with_phase(
        &solo.replace("metric", "[phase.until]\nmetric"),
    ));
    assert!(said.contains("slowdown compares with solo legs"), "{said}");
    // What may still be repeated counts too.
    let many: Vec<String> = (1..=60).map(|n| n.to_string()).collect();
    let many = format!(
        "num_gpu = [{0}]\n[phase.until]\n{1}",
        many.join(","),
        good.replace("= 6", "= 1000")
    );
    assert!(toml(&with_phase(&many)).is_ok());
    let more = many.replace("num_gpu", "top_p = [0.1, 0.2]\nnum_gpu");
    assert!(fault(&with_phase(&more)).contains("unfold to 360000 legs"));
}

#[test]
fn a_heterogeneous_agent_may_step_from_the_first() {
    let hetero = |lines: &str| SMALL.replace("chimera_homo", "chimera_hetero") + lines;
    let spec = round_trip(&hetero(
        "num_gpu = [60, 80]\nnum_ctx = 512\ntemperature = 0.8\nrepeat_penalty = 1.5\n[phase.hetero]\nnum_gpu = \"-20\"\n\
         num_ctx = \"x1.5\"\ntemperature = \"+0.25\"\nrepeat_penalty = 1\n",
    ));
    let on = |key: OptionKey, grid: Setting| {
        let change = spec.phases()[0].hetero().iter().find(|c| c.key() == key);
        change.unwrap().on(Some(grid))
    };
    assert_eq!(
        on(OptionKey::NumGpu, Setting::NumGpu(60)),
        Some(Setting::NumGpu(40))
    );
    assert_eq!(on(OptionKey::NumGpu, Setting::NumGpu(10)), None);
    assert_eq!(
        on(OptionKey::NumCtx, Setting::NumCtx(512)),
        Some(Setting::NumCtx(768))
    );
    assert_eq!(on(OptionKey::NumCtx, Setting::NumCtx(513)), None);
    assert_eq!(
        on(OptionKey::RepeatPenalty, Setting::RepeatPenalty(3.0)),
        Some(Setting::RepeatPenalty(1.0))
    );
    let cases = [
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"20\"",
            "\"20\" is neither a value nor a step",
        ),
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"\"",
            "is neither a value nor a step",
        ),
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"\u{e9}\"",
            "is neither a value nor a step",
        ),
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"x0\"",
            "is neither a value nor a step",
        ),
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"+-1\"",
            "is neither a value nor a step",
        ),
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"+1e9\"",
            "is neither a value nor a step",
        ),
        (
            "num_gpu = 1\n[phase.hetero]\nnum_gpu = \"+inf\"",
            "is neither a value nor a step",
        ),
        (
            "[phase.hetero]\nnum_gpu = \"+1\"",
            "num_gpu = \"+1\" counts from nothing (set num_gpu in the phase",
        ),
        (
            "num_gpu = [5, 999]\n[phase.hetero]\nnum_gpu = \"+2\"",
            "leads from 999 to a value that num_gpu cannot have",
        ),
        (
            "num_ctx = 513\n[phase.hetero]\nnum_ctx = \"x1.5\"",
            "leads from 513",
        ),
        (
            "num_ctx = 512\n[phase.hetero]\nnum_ctx = \"x0.25\"",
            "num_predict = 128 leaves no room for a prompt in num_ctx = 128",
        ),
    ];
    faults(&cases, hetero);
    let over =
        "num_gpu = \"best\"\nselect = \"best of previous by wall_s\"\n[phase.hetero]\nnum_gpu = ";
    let text = |step: &str| {
        second("").replace(
            "\n[[phase]]\nscenario = \"chimera_homo\"\n\n",
            "\n[[phase]]\nscenario = \"chimera_hetero\"\n",
        ) + &format!("{over}{step}\n")
    };
    assert!(toml(&text("\"+920\"")).is_ok());
    assert!(fault(&text("\"+921\"")).contains("leads from 80"));
}

#[test]
fn the_model_may_be_left_to_whoever_starts_the_engine() {
    let spec = round_trip(&SMALL.replace("\"m\"", "\"auto\""));
    assert!(spec.model().is_auto());
    let settled = spec.with_model("x").with_model("y");
    assert_eq!(settled.model().name(), "x");
    assert_eq!(toml(&settled.to_toml()).unwrap(), settled);
    let custom = SMALL.replace("chimera_homo", "custom");
    let said = fault(&format!("{custom}[[phase.agent]]\nmodel = \"auto\"\n"));
    assert!(said.contains("only [model] can be \"auto\""), "{said}");
}

#[test]
fn tests_have_labels_of_their_own() {
    let said = fault(&with_phase("num_gpu = [1, 2]\nlabel = [\"a\", \"a\"]"));
    assert!(
        said.contains("two tests are called \"a\" (labels must differ)"),
        "{said}"
    );
}

#[test]
fn a_phase_that_cannot_be_read_spoils_no_other() {
    // One fault is told, not what follows from it.
    let text = with_phase(
        "num_gpu = 5000\n[[phase]]\nscenario = \"chimera_homo\"\nnum_gpu = \"best\"\n\
         select = \"best of previous by wall_s\"",
    );
    assert!(fault(&text).contains("5000 is out of bounds"));
}
