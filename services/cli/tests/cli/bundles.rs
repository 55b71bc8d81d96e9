use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use analyzer::bundle;
use analyzer::records::Records;
use chimera_domain::event::{AgentEvent, AgentRecord};
use chimera_domain::render::File;
use chimera_runtime::version;
use chimera_wire::codec::StreamHash;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::{text, told};

#[path = "../../../../crates/domain/tests/report/support.rs"]
pub(crate) mod support;

use support::{MS, Pace, World, environment, experiment, planned_test};

/// An experiment of two runs as a bundle of this version.
fn bundle(dir: &Path) -> PathBuf {
    bundle_of(dir, &version::software(), |_| {})
}

/// The same as other software wrote it, whose files these changes bring about.
fn bundle_of(dir: &Path, software: &str, older: impl FnOnce(&mut Vec<File>)) -> PathBuf {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 2)]);
    for run in 1..=2 {
        let paces = [
            Pace::new(100 * MS, 20 * MS, 40),
            Pace::new(110 * MS, 20 * MS, 40),
        ];
        world.run(1, run, &paces, &paces);
    }
    world.close();
    let mut records = Records {
        control: world.control,
        events: world.events,
        ..Records::default()
    };
    seal(&mut records.events);
    let mut rendered = records.render(&environment()).unwrap();
    older(&mut rendered.files);
    let target = dir.join("bundle");
    bundle::write(
        &target,
        &experiment(),
        software,
        &environment(),
        &records,
        &rendered,
    )
    .unwrap();
    target
}

/// Gives every stream the hash that a worker would have put at its end.
fn seal(events: &mut [AgentEvent]) {
    let mut hashes: BTreeMap<String, StreamHash> = BTreeMap::new();
    for event in events {
        let hash = hashes.entry(format!("{:?}", event.key)).or_default();
        match &mut event.record {
            AgentRecord::End(end) => end.sha256 = hash.to_hex(),
            _ => hash.push_event(event),
        }
    }
}

/// Changes one of the files; it must be there and must really change.
fn edit(files: &mut [File], name: &str, from: &str, to: &str) {
    let (_, bytes) = files.iter_mut().find(|(path, _)| path == name).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    *bytes = text.replacen(from, to, 1).into_bytes();
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
    let verified = told(&["verify", &folder]).expect(0).out;
    for part in [
        "as it was written",
        "records: 8 of 8 agents\u{2019} streams are whole",
        "the records compute to every file, byte for byte",
    ] {
        assert!(verified.contains(part), "{part}: {verified}");
    }
    let verified = told(&["verify", &folder, "--json"]).expect(0).json();
    let (files, none) = (&verified["files"], json!([]));
    assert_eq!(files["listed"], files["unchanged"]);
    assert_eq!(
        verified,
        json!({
            "ok": true,
            "state": "same",
            "faults": [],
            "written_by": version::software(),
            "computed_by": version::software(),
            "files": files,
            "streams": { "total": 8, "whole": 8, "flawed": none },
            "recomputed": {
                "files_differ": none, "files_added": none, "files_gone": none,
                "fields_added": none, "sentences_reworded": none,
                "changed_total": 0, "changed": none,
            },
        })
    );
}

const OLDER: &str = "0.0.9 (0123456789ab)";

/// What an older version did not say yet, and said otherwise.
fn less(files: &mut Vec<File>) {
    edit(files, "report.json", "\"topology\": null,", "");
    edit(files, "report.md", "\n## ", "\n### ");
    files.retain(|(path, _)| path != "tables.json");
}

#[test]
fn a_bundle_of_another_version_that_said_less_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = text(&bundle_of(dir.path(), OLDER, less));
    let verified = told(&["verify", &folder]).expect(0).out;
    for part in [
        "every file is as it was written".to_owned(),
        "records: 8 of 8 agents".to_owned(),
        format!("{}, computes other bytes than {OLDER}", version::software()),
        "files that differ (2): report.json, report.md\n".to_owned(),
        "files that it adds (1): tables.json\n".to_owned(),
        "fields that it adds (1): report.json: ".to_owned(),
        "no figure differs".to_owned(),
    ] {
        assert!(verified.contains(&part), "{part}: {verified}");
    }
    let json = told(&["verify", &folder, "--json"]).expect(0).json();
    assert_eq!(
        (&json["ok"], &json["state"]),
        (&json!(true), &json!("grown"))
    );
    assert_eq!(json["faults"], json!([]));
    let replayed = told(&["replay", &folder]).expect(0).out;
    assert!(replayed.starts_with("the same figures: "), "{replayed}");
    let json = told(&["replay", &folder, "--json"]).expect(0).json();
    assert_eq!(
        (&json["equal"], &json["state"]),
        (&json!(false), &json!("grown"))
    );
}

#[test]
fn the_same_version_must_compute_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = text(&bundle_of(dir.path(), &version::software(), less));
    let verified = told(&["verify", &folder]).expect(1);
    for part in [
        "report.json: the records compute to other bytes",
        "report.md: the records compute to other bytes",
        "tables.json: the records compute to it, the bundle lacks it",
    ] {
        assert!(verified.out.contains(part), "{part}: {}", verified.out);
    }
    assert!(verified.err.contains("3 faults"), "{}", verified.err);
    told(&["replay", &folder]).expect(1);
}

#[test]
fn a_figure_that_another_version_finds_otherwise_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = text(&bundle_of(dir.path(), OLDER, |files| {
        less(files);
        edit(files, "report.json", "\"seed\": 7", "\"seed\": 8");
    }));
    let verified = told(&["verify", &folder]).expect(1);
    assert!(
        verified
            .out
            .contains("figures and labels that it changes (1): report.json: seed was 8, is 7"),
        "{}",
        verified.out
    );
    assert!(
        verified.err.contains("is as it was written") && verified.err.contains("other figures"),
        "{}",
        verified.err
    );
    let json = told(&["verify", &folder, "--json"]).expect(1).json();
    assert_eq!(
        (&json["ok"], &json["state"]),
        (&json!(false), &json!("changed"))
    );
    assert_eq!(
        json["recomputed"]["changed"],
        json!([{ "file": "report.json", "place": "seed", "was": "8", "is": "7" }])
    );
    let replayed = told(&["replay", &folder]).expect(1).err;
    assert!(replayed.contains("no file was damaged"), "{replayed}");
}

#[test]
fn a_file_that_a_newer_version_does_not_write_is_no_growth() {
    let dir = tempfile::tempdir().unwrap();
    let folder = text(&bundle_of(dir.path(), OLDER, |files| {
        files.push(("extra.json".to_owned(), b"{}\n".to_vec()));
    }));
    let verified = told(&["verify", &folder]).expect(1).out;
    assert!(
        verified.contains("files that it does not write any more (1): extra.json"),
        "{verified}"
    );
}

#[test]
fn damage_is_damage_whoever_wrote_the_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle_of(dir.path(), OLDER, less);
    // A space more changes no value.
    let path = bundle.join("report.json");
    let report = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{report} ")).unwrap();
    let verified = told(&["verify", &text(&bundle)]).expect(1);
    assert!(
        verified.out.starts_with("report.json: changed"),
        "{}",
        verified.out
    );
    let replayed = told(&["replay", &text(&bundle)]).expect(1).err;
    assert!(replayed.contains("which files are at fault"), "{replayed}");
}

#[test]
fn records_that_another_version_writes_otherwise_are_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle_of(dir.path(), OLDER, |_| {});
    // The kind of a record that this version does not know, with its right hash.
    let path = bundle.join("records/events.ndjson");
    let events = std::fs::read_to_string(&path).unwrap();
    let foreign = events.replacen("begin", "begun", 1);
    assert_ne!(events, foreign);
    let hash = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    std::fs::write(&path, &foreign).unwrap();
    let path = bundle.join("bundle.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, manifest.replace(&hash(&events), &hash(&foreign))).unwrap();
    let refused = told(&["verify", &text(&bundle)]).expect(1).err;
    assert!(
        refused.contains(&format!("every file is as {OLDER} wrote it"))
            && refused.contains("line 1: not a record of this version"),
        "{refused}"
    );
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
fn a_run_is_explained_and_another_rule_stands_beside_ours() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let folder = text(&bundle);
    let why = told(&["report", &folder, "--why"]).expect(0).out;
    assert!(why.contains("Where the wall time of"), "{why}");
    assert!(why.contains("The requests, ms:"), "{why}");
    let json = told(&["report", &folder, "--why", "--run", "1", "--json"]).expect(0);
    let runs: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(runs[0]["run"], 1);
    assert!(runs[0]["attribution"]["decomposition"]["wall_ms"].is_f64());
    let table = told(&["report", &folder, "--rule", "tr110"]).expect(0).out;
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("TR110's rule (speed-up below 1.5): contended in"),
        "{table}"
    );
    let refused = told(&["report", &folder, "--why", "--test", "99"]).expect(64);
    assert!(
        refused.err.contains("no test has the id or the label '99'"),
        "{}",
        refused.err
    );
    let refused = told(&["report", &folder, "--why", "--run", "99"]).expect(64);
    assert!(refused.err.contains("run 99"), "{}", refused.err);
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
