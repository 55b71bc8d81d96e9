//! Input meant to break the door: it must answer, quickly, and never with a panic.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::*;

fn answers(text: &str) {
    for format in [SpecFormat::Toml, SpecFormat::Json] {
        if let Err(errors) = parse(text, format) {
            assert!(!errors.as_slice().is_empty());
            assert!(errors.as_slice().len() <= MAX_ERRORS);
            assert!(errors.to_string().len() < 200_000);
        }
    }
}

#[test]
fn shapes_known_to_hurt_parsers_are_answered() {
    let n = 250_000;
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    let mut keys = String::new();
    let mut tables = String::new();
    let mut phases = String::new();
    for i in 0..16_000 {
        writeln!(keys, "key{i} = 1").unwrap();
        writeln!(tables, "[t{i}]\na = 1").unwrap();
        phases.push_str("[[phase]]\n");
    }
    let texts = [
        String::new(),
        "\u{feff}name = 1".to_owned(),
        "\0".repeat(n),
        "[".repeat(n),
        "{".repeat(n),
        deep("[", "]", 100_000),
        format!("a = {}", deep("[", "]", 100_000)),
        deep("{\"a\":", "}", 40_000),
        format!("a = {}", "{a=".repeat(80_000)),
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
        format!("name = \"{}\"", "x".repeat(n)),
        format!("name = {}", "9".repeat(n)),
        format!("name = 1e{}", "9".repeat(n)),
        format!("{{\"name\": {}}}", "9".repeat(n)),
        format!("{{\"name\": 1e{}}}", "9".repeat(n)),
        format!("phase = [{}]", "1,".repeat(100_000)),
        format!("{{\"phase\": [{}1]}}", "1,".repeat(100_000)),
        "= =\n".repeat(50_000),
        "a = 1\n".repeat(40_000),
        "\"".repeat(n),
        "\n".repeat(n),
        keys,
        tables,
        phases,
        "x".repeat(MAX_TEXT_BYTES + 1),
        "\u{1F980}".repeat(60_000),
    ];
    for text in &texts {
        answers(text);
    }
}

#[test]
fn a_text_too_long_is_refused_unread() {
    let long = "#".repeat(MAX_TEXT_BYTES + 1);
    let errors = parse(&long, SpecFormat::Toml).unwrap_err();
    assert!(errors.to_string().contains("at most 262144"), "{errors}");
    assert!(parse(&"#".repeat(MAX_TEXT_BYTES), SpecFormat::Toml).is_err());
}

#[test]
fn nesting_has_a_limit_of_its_own() {
    let deep = |n: usize| format!("a = {}1{}", "[".repeat(n), "]".repeat(n));
    let said = parse(&deep(20), SpecFormat::Toml).unwrap_err().to_string();
    assert_eq!(said, "line 1: nested too deeply (at most 16 levels)");
}

#[test]
fn faults_beyond_the_list_are_counted() {
    let text: String = (0..500).map(|i| format!("k{i} = 1\n")).collect();
    let errors = parse(&text, SpecFormat::Toml).unwrap_err();
    assert_eq!(errors.as_slice().len(), MAX_ERRORS);
    assert_eq!(errors.unlisted(), 500 + 3 - MAX_ERRORS);
    assert!(errors.to_string().ends_with("and 403 more"));
}

#[test]
fn data_folders_cannot_leave_the_data_root() {
    let spec = |data: &str| {
        let data = toml::Value::String(data.to_owned());
        let text = format!(
            "name = \"x\"\nmodel.name = \"m\"\nworkload.data = {data}\nphase.scenario = \"custom\"\n"
        );
        parse(&text, SpecFormat::Toml)
    };
    for bad in [
        "", "/", "/etc", "..", "a/..", "../a", "a/../b", "a//b", "./a", "a/.", "a\\b", "C:x",
        "a\0b", "a\nb", "//", "a/..//",
    ] {
        assert!(spec(bad).is_err(), "{bad:?}");
    }
    for (good, kept) in [
        ("a", "a"),
        ("a/b", "a/b"),
        (".", "."),
        ("a/", "a"),
        ("..a/b..", "..a/b.."),
    ] {
        assert_eq!(spec(good).unwrap().workload().data.as_deref(), Some(kept));
    }
}

#[test]
fn instance_urls_name_an_origin_and_nothing_else() {
    let spec = |url: &str| {
        let flags = FlagSpec {
            model: Some("m".to_owned()),
            agents: Some(1),
            instances: vec![url.to_owned()],
            ..FlagSpec::default()
        };
        flags.to_valid().map(|s| s.to_toml())
    };
    for bad in [
        "",
        "http://",
        "http:a",
        "http:\\\\a",
        "HTTP//a",
        "file:///etc/passwd",
        "http://a/..",
        "http://a//",
        "http://a@b",
        "http://@b",
        "http://a#",
        "http://a?",
        "http://a b",
        " http://a",
        "http://a\n",
        "http://a:0",
        "http://a:70000",
        "http://a:x",
        "http://a/%2e%2e/x",
        "javascript:1",
        "http://[::1",
        "http://a\u{7f}",
        "unix:/run/x",
    ] {
        assert!(spec(bad).is_err(), "{bad:?}");
    }
    for good in [
        "http://a",
        "https://a:8080",
        "http://127.0.0.1:11434/",
        "http://[::1]:1",
    ] {
        assert!(spec(good).is_ok(), "{good:?}");
    }
}

/// Texts that hold what specs hold, in no sensible order.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[[phase]]\n".to_owned()),
        Just("[phase.hetero]\n".to_owned()),
        Just("[[phase.agent]]\n".to_owned()),
        "\\[(model|backend|workload|solo|limits|baseline|budget|gate|phase)\\]\n",
        "\\[phase\\.(select|until|shared)\\]\n",
        "(by|metric) = \"(wall_s|concurrency_gain|ttft_ms)\"\n",
        "(from|max_runs|retries_per_leg|failures|cool_down_s) = -?[0-9]{1,6}\n",
        "select = \"best of (previous|phase [0-9]{1,11}) by [a-z_]{1,16}\"\n",
        "(num_gpu|num_ctx|temperature) = \"(best|[+x-][0-9.]{0,6})\"\n",
        "topology = (\"pinned\"|\"shared\"|\\[\"shared\", \"pinned\"\\])\n",
        "(slots|think_ms|agents) = (\\[[0-9]{1,2}, [0-9]{1,2}\\]|[0-9]{1,7})\n",
        "wall_s = \"(<|<=|>=) [0-9.e+-]{0,8}( ci)?\"\n",
        "(name|seed|kind|template|scenario|role|id|label|order|data|digest) = \"[a-z0-9_./-]{0,12}\"\n",
        "scenario = \"(custom|chimera_homo|chimera_hetero|baseline_vs_chimera)\"\n",
        "(agents|runs|max_concurrent|first_test_id|num_ctx|num_predict|top_k) = -?[0-9]{1,12}\n",
        "(num_gpu|num_ctx|num_batch|temperature) = \\[[0-9]{1,4}(, ?[0-9]{1,4}){0,4}\\]\n",
        "(temperature|top_p|repeat_penalty) = (nan|inf|-inf|-?[0-9]\\.[0-9]{1,3}e?[0-9]?)\n",
        "\\PC{0,20}\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "(?s).{0,400}") {
        answers(&text);
    }

    #[test]
    fn any_mix_of_known_pieces_is_answered(parts in prop::collection::vec(fragment(), 0..24)) {
        let text = parts.concat();
        answers(&text);
        let base = "name = \"x\"\nmodel.name = \"m\"\n".to_owned() + &text;
        if let Ok(spec) = parse(&base, SpecFormat::Toml) {
            prop_assert_eq!(parse(&spec.to_toml(), SpecFormat::Toml).unwrap(), spec);
        }
    }

    #[test]
    fn a_damaged_spec_is_answered(at in 0_usize..1_900, cut in 0_usize..30, put in "\\PC{0,8}") {
        for whole in [
            include_str!("../../../../../examples/quick.toml"),
            include_str!("../../../../../examples/two-agents.toml"),
            include_str!("../../../../../examples/tr110-reduced.toml"),
            include_str!("../../../../../examples/topology.toml"),
        ] {
            let mut chars: Vec<char> = whole.chars().collect();
            let from = at.min(chars.len());
            let to = (from + cut).min(chars.len());
            chars.splice(from..to, put.chars());
            let text: String = chars.into_iter().collect();
            answers(&text);
        }
    }
}
