//! What makes a spec a study: budgets, gates, topologies, pauses, and phases that wait for others.

use super::*;
use crate::metric::Metric;
use crate::plan::{Budget, Goal};

/// Two phases, the second with these lines.
fn second(lines: &str) -> String {
    with_phase(&format!(
        "num_gpu = [60, 80]\nnum_ctx = [512, 1024]\n[[phase]]\nscenario = \"chimera_homo\"\n{lines}"
    ))
}

fn faults(cases: &[(&str, &str)], text: impl Fn(&str) -> String) {
    for (lines, expected) in cases {
        let said = fault(&text(lines));
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

fn round_trip(text: &str) -> ValidSpec {
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
fn gates_are_kept_as_written_once_they_are_rules() {
    let spec = round_trip(&with_phase(
        "[gate]\nconcurrency_gain = \">= 1.5 ci\"\nwall_s = \"<30\"\ncontention_rate = \"<= 0.1\"",
    ));
    let gate: Vec<(&str, &str)> = spec
        .gate()
        .iter()
        .map(|(name, rule)| (name.as_str(), rule.as_str()))
        .collect();
    assert_eq!(
        gate,
        [
            ("concurrency_gain", ">= 1.5 ci"),
            ("wall_s", "<30"),
            ("contention_rate", "<= 0.1")
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
            "\"30\" is not a rule (a comparison and a number",
        ),
        ("wall_s = \"< nan\"", "is not a rule"),
        ("wall_s = \"< inf\"", "is not a rule"),
        ("wall_s = \"< 1e999\"", "is not a rule"),
        ("wall_s = \"< 3 s\"", "is not a rule"),
        ("wall_s = \"< 3 ci ci\"", "is not a rule"),
        ("wall_s = \"= 3\"", "is not a rule"),
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
fn topologies_and_slots() {
    use Placement::{Pinned, Shared};
    let of = |lines: &str| {
        round_trip(&with_phase(lines)).phases()[0]
            .placements()
            .to_vec()
    };
    assert_eq!(of(""), [Pinned]);
    assert_eq!(of("topology = \"shared\""), [Shared(None)]);
    assert_eq!(
        of("topology = [\"pinned\", \"shared\"]\nslots = [2, 1]"),
        [Pinned, Shared(Some(2)), Shared(Some(1))]
    );
    assert_eq!(
        of("topology = [\"shared\", \"pinned\"]\nslots = 64"),
        [Shared(Some(64)), Pinned]
    );
    let cases = [
        ("slots = 2", "no agents of this phase share an instance"),
        ("topology = \"shard\"", "did you mean \"shared\"?"),
        (
            "topology = [\"shared\", \"shared\"]",
            "\"shared\" is listed twice",
        ),
        ("topology = []", "the list has 0 entries"),
        ("topology = \"shared\"\nslots = 0", "allowed: 1 to 64"),
        ("topology = \"shared\"\nslots = 65", "allowed: 1 to 64"),
        ("topology = \"shared\"\nslots = [2, 2]", "2 is listed twice"),
        (
            "[phase.shared]\nnum_thread = 2",
            "no agents of this phase share an instance",
        ),
        (
            "topology = \"shared\"\n[phase.shared]\nnum_thread = \"x2\"",
            "counts from nothing",
        ),
    ];
    faults(&cases, with_phase);
}

#[test]
fn agents_that_share_need_one_instance_and_want_the_same_of_it() {
    let attach = |lines: &str| {
        SMALL.replace(
            "[[phase]]",
            "[backend]\ninstances = [\"http://a\"]\n[[phase]]",
        ) + lines
    };
    let spec = toml(&attach("agents = 8\ntopology = \"shared\"\n")).unwrap();
    assert_eq!((spec.max_agents(), spec.max_instances()), (8, 1));
    let spec = toml(&with_phase(
        "agents = [1, 8]\ntopology = [\"shared\", \"pinned\"]",
    ))
    .unwrap();
    assert_eq!((spec.max_agents(), spec.max_instances()), (8, 8));
    assert!(
        fault(&attach("topology = [\"shared\", \"pinned\"]\n"))
            .contains("2 agents for 1 instances")
    );

    let two = |topology: &str, a: &str, b: &str| {
        SMALL.replace("chimera_homo", "custom").replace(
            "[[phase]]",
            "[backend]\ninstances = [\"http://a\", \"http://b\"]\n[[phase]]",
        ) + &format!("topology = {topology}\n[[phase.agent]]\n{a}\n[[phase.agent]]\n{b}\n")
    };
    let (a, b) = ("instance = \"http://a\"", "instance = \"http://b\"");
    assert!(toml(&two("\"shared\"", a, a)).is_ok());
    assert!(toml(&two("\"shared\"", a, "")).is_ok());
    assert!(toml(&two("\"shared\"", "num_predict = 8", "temperature = 1")).is_ok());
    let both = "[\"shared\", \"pinned\"]";
    assert!(fault(&two("\"shared\"", a, b)).contains("the agents name several instances"));
    assert!(fault(&two(both, a, b)).contains("the agents name several instances"));
    assert!(fault(&two(both, a, a)).contains("two agents are pinned to http://a"));
    let said = fault(&two("\"shared\"", "model = \"big\"", ""));
    assert!(
        said.contains("agents on one instance differ in their model"),
        "{said}"
    );
    let said = fault(&two("\"shared\"", "num_ctx = 512", ""));
    assert!(
        said.contains("agents on one instance differ in num_ctx"),
        "{said}"
    );

    let scenario = |name: &str, lines: &str| SMALL.replace("chimera_homo", name) + lines;
    let shared = "topology = \"shared\"\n";
    assert!(
        toml(&scenario(
            "baseline_vs_chimera",
            &format!("{shared}temperature = 1\n")
        ))
        .is_ok()
    );
    let said = fault(&scenario(
        "baseline_vs_chimera",
        &format!("{shared}num_thread = 1\n"),
    ));
    assert!(said.contains("differ in num_thread"), "{said}");
    let lines = format!("{shared}num_thread = 1\n[baseline]\nnum_thread = 1\n");
    assert!(toml(&scenario("baseline_vs_chimera", &lines)).is_ok());
    let said = fault(&scenario(
        "chimera_hetero",
        &format!("{shared}[phase.hetero]\nnum_ctx = 512\n"),
    ));
    assert!(said.contains("differ in num_ctx"), "{said}");
}

#[test]
fn think_time_and_sizes_are_axes() {
    let spec = round_trip(&with_phase("think_ms = [0, 600000]\nagents = [1, 2, 4]"));
    let phase = &spec.phases()[0];
    assert_eq!(phase.think_ms(), [0, 600_000]);
    assert_eq!(phase.agent_counts(), [1, 2, 4]);
    assert_eq!(phase.test_count(), 6);
    let cases = [
        ("think_ms = 600001", "allowed: 0 to 600000"),
        ("think_ms = [5, 5]", "5 is listed twice"),
        ("think_ms = \"1s\"", "expected a whole number"),
        (
            "agents = [1, 65]",
            "phase[0].agents[1]: 65 is out of bounds",
        ),
        ("agents = [2, 2]", "2 is listed twice"),
        (
            "agents = [1, 2]\nmax_concurrent = 3",
            "3 of 2 agents cannot run at once",
        ),
    ];
    faults(&cases, with_phase);
    let custom = SMALL.replace("chimera_homo", "custom");
    let spec = round_trip(&format!(
        "{custom}[[phase.agent]]\nthink_ms = 7\n[[phase.agent]]\n"
    ));
    let Agents::Listed(list) = spec.phases()[0].agents() else {
        panic!("listed")
    };
    assert_eq!((list[0].think_ms(), list[1].think_ms()), (Some(7), None));
    let said = fault(&format!(
        "{custom}think_ms = 1\n[[phase.agent]]\nthink_ms = 7\n"
    ));
    assert!(said.contains("every agent overrides think_ms"), "{said}");
    let alone = SMALL.replace("chimera_homo", "baseline_vs_chimera") + "agents = [1, 2]\n";
    assert!(fault(&alone).contains("\"baseline_vs_chimera\" has one agent"));
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
