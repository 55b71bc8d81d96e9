//! The door: what is let in, what is refused and in which words, and that nothing breaks it.

mod hostile;
mod slo;
mod study;
mod topology;

use super::*;
use crate::options::EngineKind;

/// The smallest spec.
const SMALL: &str = "name = \"x\"\n[model]\nname = \"m\"\n[[phase]]\nscenario = \"chimera_homo\"\n";

fn toml(text: &str) -> Result<ValidSpec, SpecErrors> {
    parse(text, SpecFormat::Toml)
}

/// The message about the only fault.
fn fault(text: &str) -> String {
    let errors = toml(text).unwrap_err();
    assert_eq!(errors.as_slice().len(), 1, "{errors}");
    errors.to_string()
}

/// The small spec with lines put into its phase, which begins on line 4.
fn with_phase(lines: &str) -> String {
    format!("{SMALL}{lines}\n")
}

#[test]
fn the_examples_are_valid_and_survive_their_canonical_form() {
    let examples = crate::plan::examples();
    for text in examples.into_iter().map(|(_, text)| text).chain([SMALL]) {
        let spec = toml(text).unwrap_or_else(|e| panic!("{e}"));
        let again = spec.to_toml();
        assert_eq!(
            toml(&again).unwrap_or_else(|e| panic!("{e}\n{again}")),
            spec,
            "{again}"
        );
    }
}

#[test]
fn the_reference_names_every_option_and_its_examples_are_valid() {
    let reference = include_str!("../../../../docs/spec.md");
    let examples = reference
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for text in examples {
        toml(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        seen += 1;
    }
    assert_eq!(seen, 3);
    for key in OptionKey::ALL {
        assert!(
            reference.contains(&format!("| `{}` |", key.as_str())),
            "{key:?}"
        );
    }
    for metric in crate::metric::Metric::ALL {
        assert!(
            reference.contains(&format!("`{}`", metric.name())),
            "{metric:?}"
        );
    }
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let spec = toml(SMALL).unwrap();
    assert_eq!(spec.seed(), 42);
    assert_eq!(spec.backend().kind(), None);
    assert_eq!(spec.backend().instances(), &Instances::Spawn);
    assert_eq!(spec.workload().template, "tr110-report");
    assert!(spec.solo().enabled() && !spec.solo().share_identical());
    let phase = &spec.phases()[0];
    assert_eq!(
        (phase.most_agents(), phase.runs(), phase.first_test_id()),
        (2, 3, 1)
    );
    assert_eq!(phase.order(), Order::Randomized);
}

#[test]
fn json_says_the_same_as_toml() {
    let json = r#"{"name": "x", "model": {"name": "m"}, "phase": [{"scenario": "chimera_homo"}]}"#;
    assert_eq!(SpecFormat::of(json), SpecFormat::Json);
    assert_eq!(SpecFormat::of(SMALL), SpecFormat::Toml);
    assert_eq!(parse(json, SpecFormat::Json).unwrap(), toml(SMALL).unwrap());
}

#[test]
fn all_faults_come_at_once_each_with_its_line() {
    let text = "\
name = \"two agents\"
sed = 1
[model]
name = 7
[backend]
kind = \"olama\"
instances = [\"ftp://x\", \"http://u:p@h\", \"http://h/v1\", \"http://h?x\", \"http:///\"]
[workload]
data = \"../etc\"
[[phase]]
scenario = \"chimera_homogen\"
agents = 0
runs = 1_000_000_000
temperature = nan
num_context = 5
";
    let errors = toml(text).unwrap_err();
    let said: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
    let expected = [
        r#"line 1: name: "two agents" is not a name (1 to 40 letters, digits, '-' or '_')"#,
        "line 2: sed: unknown key (did you mean seed?)",
        "line 4: model.name: expected a text, found 7",
        r#"line 6: backend.kind: "olama" is not known (did you mean "ollama"? Allowed: "auto", "ollama", "openai")"#,
        r#"line 7: backend.instances[0]: "ftp://x" does not start with http:// or https:// (scheme, host and port only, as in http://127.0.0.1:11434)"#,
        r#"line 7: backend.instances[1]: "http://u:p@h" holds user information (scheme, host and port only, as in http://127.0.0.1:11434)"#,
        r#"line 7: backend.instances[2]: "http://h/v1" holds a path (scheme, host and port only, as in http://127.0.0.1:11434)"#,
        r#"line 7: backend.instances[3]: "http://h?x" holds a query or a fragment (scheme, host and port only, as in http://127.0.0.1:11434)"#,
        r#"line 7: backend.instances[4]: "http:///" is not a URL: empty host (scheme, host and port only, as in http://127.0.0.1:11434)"#,
        r#"line 9: workload.data: "../etc" holds empty parts, '.' or '..' (a folder relative to the worker's data root, as in "sales/2026")"#,
        r#"line 11: phase[0].scenario: "chimera_homogen" is not known (did you mean "chimera_homo"? Allowed: "baseline_vs_chimera", "chimera_hetero", "chimera_homo", "custom")"#,
        "line 12: phase[0].agents: 0 is out of bounds (allowed: 1 to 64)",
        "line 13: phase[0].runs: 1000000000 is out of bounds (allowed: 1 to 1000)",
        "line 14: phase[0].temperature: NaN is not a number to measure with (allowed: 0 to 10)",
        "line 15: phase[0].num_context: unknown key (did you mean num_ctx?)",
    ];
    assert_eq!(said, expected);
}

#[test]
fn json_faults_have_lines_and_paths_too() {
    let json = "{\"name\": \"x\",\n \"model\": {\"name\": \"m\"},\n \"phase\": [\n  {\"scenario\": \"custom\",\n   \"agents\": 1e9, \"ctx\": null}]}";
    let errors = parse(json, SpecFormat::Json).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "line 5: phase[0].agents: expected a whole number, found 1000000000.0\n\
         line 5: phase[0].ctx: unknown key (did you mean num_ctx?)"
    );
    let twice =
        r#"{"name": "x", "name": "y", "model": {"name": "m"}, "phase": [{"scenario": "custom"}]}"#;
    let said = parse(twice, SpecFormat::Json).unwrap_err().to_string();
    assert_eq!(said, "line 1: name: is given twice (keep one)");
}

#[test]
fn what_is_not_well_formed_is_said_with_its_line() {
    assert!(fault("name = \"x\"\nseed = = 3\n").starts_with("line 2: not valid TOML: "));
    let json = parse("{\n\"name\": x\n}", SpecFormat::Json)
        .unwrap_err()
        .to_string();
    assert!(
        json.starts_with("line 2: not valid JSON: expected value"),
        "{json}"
    );
    let json = parse("{}{}", SpecFormat::Json).unwrap_err().to_string();
    assert!(
        json.starts_with("line 1: not valid JSON: trailing"),
        "{json}"
    );
    let json = parse("{\"name\":\n\"\\ud800\"}", SpecFormat::Json)
        .unwrap_err()
        .to_string();
    assert!(json.starts_with("line 2: not valid JSON: "), "{json}");
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    let said = toml("").unwrap_err().to_string();
    assert!(
        said.contains("name: is required (for example name = \"two-agents\")"),
        "{said}"
    );
    assert!(said.contains("model: is required"), "{said}");
    assert!(said.contains("phase: is required"), "{said}");
    let said = fault(&SMALL.replace("scenario = \"chimera_homo\"", "runs = 1"));
    assert_eq!(
        said,
        "line 4: phase[0].scenario: is required (for example scenario = \"chimera_homo\")"
    );
}

#[test]
fn values_that_do_not_fit_each_other_are_refused() {
    let cases = [
        ("max_concurrent = 3", "3 of 2 agents cannot run at once"),
        (
            "num_predict = 2048",
            "num_predict = 2048 leaves no room for a prompt in num_ctx = 2048",
        ),
        (
            "num_ctx = [64, 4096]",
            "num_predict = 128 leaves no room for a prompt in num_ctx = 64",
        ),
        ("num_ctx = [512, 512]", "512 is listed twice"),
        ("label = [\"a\", \"b\"]", "2 labels for 1 tests"),
        ("num_ctx = []", "the list has 0 entries"),
        (
            "[phase.hetero]\nnum_ctx = 512",
            "no scenario of this phase reads this table",
        ),
        (
            "[[phase.agent]]\nrole = \"collector\"",
            "\"chimera_homo\" does not take listed agents",
        ),
        ("[baseline]\nnum_ctx = 512", "no phase reads this table"),
        (
            "[solo]\nenabled = false\nshare_identical = true",
            "there are no solo legs to share",
        ),
        ("[backend]\nspawn = false", "spawn = false leaves no engine"),
        (
            "[backend]\nspawn = true\ninstances = [\"http://a\"]",
            "exclude each other",
        ),
        (
            "[backend]\ninstances = [\"http://a\"]",
            "2 agents for 1 instances",
        ),
        (
            "[backend]\ninstances = [\"http://a\", \"http://A:80/\"]",
            "http://a is listed twice",
        ),
        (
            "[[phase]]\nscenario = \"custom\"\nfirst_test_id = 1",
            "are also those of phase[0]",
        ),
    ];
    for (lines, expected) in cases {
        let said = fault(&with_phase(lines));
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

#[test]
fn listed_agents_are_checked_one_by_one_and_together() {
    let custom = SMALL.replace("chimera_homo", "custom");
    let cases = [
        (
            "[[phase.agent]]\nid = \"a\"\n[[phase.agent]]\nid = \"a\"",
            "two agents are called \"a\"",
        ),
        (
            "[[phase.agent]]\nid = \"combined\"",
            "is the report of all agents",
        ),
        (
            "[[phase.agent]]\ninstance = \"http://a\"",
            "spawned engines have no address yet",
        ),
        ("[[phase.agent]]\nrole = \"a.b\"", "\"a.b\" is not a name"),
        (
            "[[phase.agent]]\nnum_ctxx = 1",
            "unknown key (did you mean num_ctx?)",
        ),
        (
            "agents = 1\n[[phase.agent]]\nrole = \"a\"",
            "agents are counted here and listed too",
        ),
        (
            "num_ctx = 512\n[[phase.agent]]\nnum_ctx = 1024",
            "every agent overrides num_ctx",
        ),
        (
            "[[phase.agent]]\nnum_predict = 4096",
            "leaves no room for a prompt",
        ),
    ];
    for (lines, expected) in cases {
        let said = fault(&format!("{custom}{lines}\n"));
        assert!(said.contains(expected), "{lines}: {said}");
    }
    let attach = "[backend]\ninstances = [\"http://a\", \"http://b\"]\n[[phase]]";
    let base = custom.replace("[[phase]]", attach);
    for (lines, expected) in [
        (
            "[[phase.agent]]\ninstance = \"http://c\"",
            "is not one of backend.instances",
        ),
        (
            "[[phase.agent]]\ninstance = \"http://a/\"\n[[phase.agent]]\ninstance = \"http://a\"",
            "two agents are pinned to http://a",
        ),
    ] {
        let said = fault(&format!("{base}{lines}\n"));
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

#[test]
fn scenarios_that_compare_need_something_to_compare() {
    let hetero = SMALL.replace("chimera_homo", "chimera_hetero");
    assert!(fault(&hetero).contains("all agents of \"chimera_hetero\" are alike"));
    let alone = SMALL.replace("chimera_homo", "baseline_vs_chimera") + "agents = 1\n";
    assert!(fault(&alone).contains("\"baseline_vs_chimera\" has one agent"));
}

#[test]
fn an_experiment_too_large_is_refused_before_anything_is_built() {
    let axis = |name: &str, n: u32| {
        let values: Vec<String> = (1..=n).map(|v| v.to_string()).collect();
        format!("{name} = [{}]\n", values.join(", "))
    };
    let tests = axis("num_gpu", 64) + &axis("num_thread", 64) + &axis("top_k", 64);
    let said = toml(&with_phase(&tests)).unwrap_err().to_string();
    assert!(
        said.contains("the phases unfold to 262144 tests (allowed: at most 10000"),
        "{said}"
    );
    let legs = axis("num_gpu", 64) + &axis("top_k", 64) + "runs = 1000\n";
    let said = fault(&with_phase(&legs));
    assert!(
        said.contains("the phases unfold to 12288000 legs"),
        "{said}"
    );
}

#[test]
fn phases_number_their_tests_as_tr110_did() {
    let text = with_phase("[[phase]]\nscenario = \"custom\"\n[[phase]]\nscenario = \"custom\"");
    let firsts = |text: &str| -> Vec<u32> {
        toml(text)
            .unwrap()
            .phases()
            .iter()
            .map(Phase::first_test_id)
            .collect()
    };
    assert_eq!(firsts(&text), [1, 100, 200]);
    let many: Vec<String> = (0..12).map(|v| v.to_string()).collect();
    let many = many.join(", ");
    let long = with_phase(&format!(
        "num_gpu = [{many}]\ntop_k = [{many}]\n[[phase]]\nscenario = \"custom\"\n[[phase]]\nscenario = \"custom\"\nfirst_test_id = 7000"
    ));
    assert_eq!(firsts(&long), [1, 200, 7000]);
}

#[test]
fn ids_that_are_not_given_are_made_of_roles_and_never_clash() {
    let custom = SMALL.replace("chimera_homo", "custom");
    let agents = "[[phase.agent]]\nrole = \"a\"\n[[phase.agent]]\nid = \"a-2\"\nrole = \"a\"\n\
                  [[phase.agent]]\nrole = \"a\"\n[[phase.agent]]\nrole = \"combined\"\n";
    let spec = toml(&(custom + agents)).unwrap();
    let Agents::Listed(list) = spec.phases()[0].agents() else {
        panic!("listed")
    };
    let ids: Vec<&str> = list.iter().map(|a| a.id().as_str()).collect();
    assert_eq!(ids, ["a", "a-2", "a-3", "combined-2"]);
}

#[test]
fn flags_pass_the_same_checks_and_faults_name_the_flag() {
    let flags = FlagSpec {
        agents: Some(1_000_000_000),
        runs: Some(0),
        temperature: Some(f64::NAN),
        data: Some("/etc".to_owned()),
        instances: vec!["localhost:11434".to_owned()],
        ..FlagSpec::default()
    };
    let errors = flags.to_valid().unwrap_err();
    let mut keys: Vec<&str> = errors.as_slice().iter().map(|e| e.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "--agents",
            "--data",
            "--instance",
            "--model",
            "--runs",
            "--temperature"
        ]
    );
    assert!(
        errors
            .to_string()
            .contains("--model: is required (for example gemma3:270m)")
    );
    assert!(errors.as_slice().iter().all(|e| e.line.is_none()));

    let model = Some("m".to_owned());
    let few = FlagSpec {
        model: model.clone(),
        instances: vec!["http://a".into()],
        ..flags.clone()
    };
    let few = FlagSpec {
        agents: None,
        runs: None,
        temperature: None,
        data: None,
        ..few
    };
    assert_eq!(
        few.to_valid().unwrap_err().to_string(),
        "--instance: 2 agents for 1 instances (each agent owns one: add instances or lower agents)"
    );
    let full = FlagSpec {
        model,
        num_predict: Some(4096),
        ..FlagSpec::default()
    };
    let said = full.to_valid().unwrap_err().to_string();
    assert!(
        said.starts_with("--num-predict: num_predict = 4096 leaves no room"),
        "{said}"
    );
}

#[test]
fn flags_that_are_right_give_a_spec_that_can_be_written_down() {
    let flags = FlagSpec {
        engine: Some(EngineKind::Ollama),
        model: Some("gemma3:270m".to_owned()),
        instances: vec![
            "http://127.0.0.1:11434/".into(),
            "http://127.0.0.1:11435".into(),
        ],
        num_thread: Some(1),
        temperature: Some(-0.0),
        ..FlagSpec::default()
    };
    let spec = flags.to_valid().unwrap();
    assert_eq!(toml(&spec.to_toml()).unwrap(), spec);
    let Instances::Attach(urls) = spec.backend().instances() else {
        panic!("attach")
    };
    assert_eq!(urls, &["http://127.0.0.1:11434", "http://127.0.0.1:11435"]);
}

#[test]
fn quick_contrasts_threads_that_fit_with_threads_that_do_not() {
    let base = FlagSpec::default();
    let spec = |cores, base: &FlagSpec| quick(cores, EngineKind::Openai, "gemma3:270m", base);
    let threads = |spec: &ValidSpec| -> Vec<String> {
        let axis = spec.phases()[0]
            .grid()
            .iter()
            .find(|a| a.key() == OptionKey::NumThread);
        axis.unwrap()
            .values()
            .iter()
            .map(|v| v.value_text())
            .collect()
    };
    let labels = |spec: &ValidSpec| match spec.phases()[0].labels() {
        Labels::PerTest(labels) => labels.clone(),
        other => panic!("{other:?}"),
    };
    let two = spec(2, &base).unwrap();
    assert_eq!(threads(&two), ["1", "2"]);
    assert_eq!(
        labels(&two),
        [
            "threads fit: 1 thread each on 2 cores",
            "threads oversubscribed: 2 threads each on 2 cores"
        ]
    );
    let shipped = toml(include_str!("../../../../examples/quick.toml")).unwrap();
    assert_eq!(shipped.phases()[0].labels(), two.phases()[0].labels());
    assert_eq!(
        two.to_toml(),
        shipped
            .with_engine(EngineKind::Openai)
            .with_model("gemma3:270m")
            .to_toml()
    );

    assert_eq!(threads(&spec(16, &base).unwrap()), ["8", "16"]);
    let one = spec(1, &base).unwrap();
    assert_eq!(threads(&one), ["1", "2"]);
    assert!(labels(&one)[0].starts_with("threads oversubscribed: 1 thread each on 1 core"));
    assert_eq!(threads(&spec(0, &base).unwrap()), ["1", "2"]);
    assert_eq!(threads(&spec(u32::MAX, &base).unwrap()), ["512", "1024"]);
    let four = FlagSpec {
        agents: Some(4),
        ..FlagSpec::default()
    };
    assert_eq!(threads(&spec(8, &four).unwrap()), ["2", "8"]);
    let alone = FlagSpec {
        agents: Some(1),
        ..FlagSpec::default()
    };
    assert_eq!(threads(&spec(4, &alone).unwrap()), ["4", "8"]);

    let bad = FlagSpec {
        num_thread: Some(2),
        runs: Some(0),
        ..FlagSpec::default()
    };
    let said = spec(2, &bad).unwrap_err().to_string();
    assert!(said.contains("--num-thread: --quick compares"), "{said}");
    assert!(said.contains("--runs: 0 is out of bounds"), "{said}");
}
