use std::path::{Path, PathBuf};

use analyzer::bundle;
use analyzer::records::Records;

use crate::support::{text, told};

#[path = "../../../../crates/domain/tests/report/support.rs"]
pub(crate) mod support;

use support::{MS, Pace, World, environment, experiment, planned_test};

/// An experiment of two runs as a bundle.
fn bundle(dir: &Path) -> PathBuf {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 2)]);
    for run in 1..=2 {
        let paces = [
            Pace::new(100 * MS, 20 * MS, 40),
            Pace::new(110 * MS, 20 * MS, 40),
        ];
        world.run(1, run, &paces, &paces);
    }
    world.close();
    let records = Records {
        control: world.control,
        events: world.events,
        ..Records::default()
    };
    let rendered = records.render(&environment()).unwrap();
    let target = dir.join("bundle");
    bundle::write(
        &target,
        &experiment(),
        "test",
        &environment(),
        &records,
        &rendered,
    )
    .unwrap();
    target
}

#[test]
fn a_whole_bundle_replays_to_the_same_bytes_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let (folder, again) = (text(&bundle), dir.path().join("again.json"));
    let replayed = told(&["replay", &folder, "--out", &text(&again)]).expect(0);
    assert!(replayed.out.starts_with("equal: "), "{}", replayed.out);
    assert_eq!(
        std::fs::read(&again).unwrap(),
        std::fs::read(bundle.join("report.json")).unwrap()
    );
    let json = told(&["replay", &folder, "--json"]).expect(0).json();
    assert_eq!(json["equal"], true);
    assert_eq!(json["computed"], json["bundle"]);
    assert!(
        told(&["verify", &folder])
            .expect(0)
            .out
            .contains("as it was written")
    );
    let verified = told(&["verify", &folder, "--json"]).expect(0).json();
    assert_eq!(verified, serde_json::json!({ "ok": true, "faults": [] }));
}

#[test]
fn a_changed_report_is_found_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let path = bundle.join("report.json");
    let changed = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"seed\": 7", "\"seed\": 8");
    std::fs::write(&path, changed).unwrap();
    let replayed = told(&["replay", &text(&bundle)]).expect(1);
    assert!(
        replayed
            .err
            .contains("`\"seed\": 7,` instead of `\"seed\": 8,`"),
        "{}",
        replayed.err
    );
    assert!(replayed.out.is_empty());
    let verified = told(&["verify", &text(&bundle)]).expect(1);
    assert!(
        verified.out.contains("report.json: changed"),
        "{}",
        verified.out
    );
    assert!(verified.err.contains("1 fault"), "{}", verified.err);
}

#[test]
fn a_bundle_is_read_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let folder = text(&bundle);
    let file = |name: &str| std::fs::read_to_string(bundle.join(name)).unwrap();
    let shown = |form: &[&str]| told(&[&["report", &folder], form].concat()).expect(0).out;
    assert_eq!(shown(&["--format", "json"]), file("report.json"));
    assert_eq!(shown(&["--json"]), file("report.json"));
    assert_eq!(shown(&["--format", "md"]), file("report.md"));
    assert_eq!(shown(&["--format", "csv"]), file("runs.csv"));
    let table = shown(&[]);
    assert!(
        table.contains("concurrency gain") && table.contains("chimera verify"),
        "{table}"
    );
    // Without its report it is computed from the records.
    let written = file("report.json");
    std::fs::remove_file(bundle.join("report.json")).unwrap();
    let computed = told(&["report", &folder, "--json"]).expect(0);
    assert_eq!(computed.out, written);
    assert!(
        computed.err.contains("computed from the records"),
        "{}",
        computed.err
    );
}

#[test]
fn what_is_no_bundle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = text(dir.path());
    for call in ["replay", "verify"] {
        let refused = told(&[call, &folder]).expect(1);
        assert!(refused.err.contains("is no bundle"), "{}", refused.err);
    }
    assert!(
        told(&["report", &folder])
            .expect(64)
            .err
            .contains("holds neither report.json nor")
    );
}
