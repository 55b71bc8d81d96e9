use std::path::{Path, PathBuf};

use crate::bundles::support::{MS, Pace, World, planned_test};
use crate::support::{text, told};

/// A spec with these lines in its `[gate]` table.
fn with(rules: &str) -> String {
    format!(
        "name = \"small\"\n[model]\nname = \"m\"\n[[phase]]\nscenario = \"chimera_homo\"\n[gate]\n{rules}"
    )
}

/// The report of six runs of two agents, each `slower` times the usual and a little uneven.
fn report(dir: &Path, name: &str, slower: u64) -> PathBuf {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 6)]);
    for run in 1..=6 {
        let pace = |own: u64| {
            let uneven = (u64::from(run) * 7 + own) % 5;
            Pace::new(
                (100 + uneven) * MS * slower,
                (200 + uneven) * MS * slower / 10,
                40,
            )
        };
        let paces = [pace(1), pace(3)];
        world.run(1, run, &paces, &paces);
    }
    world.close();
    let path = dir.join(name);
    let mut report = world.report();
    report.spec = Some(with(""));
    let report = chimera_domain::render::report_json(&report).unwrap();
    std::fs::write(&path, report).unwrap();
    path
}

#[test]
fn two_results_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        report(dir.path(), "a.json", 1),
        report(dir.path(), "b.json", 2),
    );
    let (a, b) = (text(&a), text(&b));
    let slower = told(&["compare", &a, &b]).expect(0);
    assert!(
        slower.out.contains("**Worse.**") && slower.out.contains("wall_s"),
        "{}",
        slower.out
    );
    let json = told(&["compare", &b, &a, "--json", "--metric", "wall_s"])
        .expect(0)
        .json();
    assert_eq!(
        (&json["verdict"], &json["family"]),
        (&"better".into(), &1.into())
    );
    let same = told(&["compare", &a, &a]).expect(0);
    assert!(
        same.out.contains("**No difference shown.**"),
        "{}",
        same.out
    );
    let file = dir.path().join("found.md");
    let told_of_it = told(&["compare", &a, &b, "--out", &text(&file)]).expect(0);
    assert!(
        told_of_it.out.starts_with("b is worse: "),
        "{}",
        told_of_it.out
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), slower.out);
    for wrong in [
        &["compare", &a][..],
        &["compare", &a, "no/such/report.json"],
        &["compare", &a, &b, "--metric", "speed"],
    ] {
        assert!(told(wrong).expect(64).out.is_empty());
    }
}

#[test]
fn a_result_is_held_to_rules() {
    let dir = tempfile::tempdir().unwrap();
    let good = text(&report(dir.path(), "good.json", 1));
    // Alone as together: two agents gain two.
    let passed = told(&["gate", &good, "--rule", "concurrency_gain >= 1.9 ci"]).expect(0);
    assert!(
        passed.out.contains("**Passed: 1 met, 0 skipped.**"),
        "{}",
        passed.out
    );
    let (junit, markdown) = (dir.path().join("gate.xml"), dir.path().join("gate.md"));
    let files = ["--junit", &text(&junit), "--markdown", &text(&markdown)];
    let rules = [
        "gate",
        &good,
        "--rule",
        "wall_s < 0.5 in 1",
        "--rule",
        "valid_rate >= 90 %",
    ];
    let missed = told(&[&rules[..], &files].concat()).expect(1);
    assert!(
        missed.err.contains("Failed: 1 missed of 2 judged"),
        "{}",
        missed.err
    );
    assert_eq!(std::fs::read_to_string(&markdown).unwrap(), missed.out);
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(
        xml.contains("failures=\"1\"") && xml.contains("wall_s &lt; 0.5"),
        "{xml}"
    );
    let json = told(&["gate", &good, "--preset", "tr110", "--json"])
        .expect(0)
        .json();
    assert_eq!(json["passed"], true);
}

#[test]
fn a_result_is_held_to_a_baseline_and_to_a_spec() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (
        report(dir.path(), "good.json", 1),
        report(dir.path(), "bad.json", 2),
    );
    let (good, bad) = (text(&good), text(&bad));
    told(&["gate", &good, "--baseline", &good]).expect(0);
    told(&["gate", &good, "--baseline", &bad]).expect(0);
    let missed = told(&["gate", &bad, "--baseline", &good]).expect(1);
    assert!(
        missed
            .out
            .contains("wall_s not shown worse than the baseline"),
        "{}",
        missed.out
    );
    let spec = dir.path().join("spec.toml");
    std::fs::write(&spec, with("wall_s = \"< 0.5\"\n")).unwrap();
    told(&["gate", &good, "--spec", &text(&spec)]).expect(1);
    std::fs::write(&spec, with("wal_s = \"< 0.5\"\nttft_ms = 3\n")).unwrap();
    let wrong = told(&["gate", &good, "--spec", &text(&spec)]).expect(64);
    assert!(
        wrong.err.contains("did you mean wall_s") && wrong.err.contains("expected a text"),
        "{}",
        wrong.err
    );
    // The report's own spec has no rules.
    let nothing = told(&["gate", &good]).expect(64);
    assert!(nothing.err.contains("--baseline"), "{}", nothing.err);
    told(&["gate", &good, "--rule", "speed >= 1"]).expect(64);
}
