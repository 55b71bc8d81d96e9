//! What was measured on this machine: entered, listed, found, forgotten.

use std::path::{Path, PathBuf};

use analyzer::history::{Entry, History};
use serde_json::json;

use crate::support::{Told, chimera, text};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn history(&self) -> PathBuf {
        self.path("history.sqlite")
    }

    fn ask(&self, arguments: &[&str]) -> Told {
        let mut command = chimera(arguments);
        Told::of(
            &command
                .env("CHIMERA_HISTORY", self.history())
                .output()
                .unwrap(),
        )
    }

    fn enter(&self, experiment: &str, at: i64, folder: &Path) {
        let entry = Entry {
            experiment: experiment.to_owned(),
            name: "quick".to_owned(),
            finished_unix_ms: at,
            outcome: "completed".to_owned(),
            host: None,
            model: None,
            tests: 2,
            runs_valid: 5,
            runs_attempted: 6,
            gain_best: Some(1.83),
            gain_worst: Some(0.561),
            folder: folder.to_owned(),
            git_revision: None,
            software: None,
        };
        History::open(&self.history())
            .unwrap()
            .record(&entry)
            .unwrap();
    }
}

/// One run in TR110's layout, imported.
fn imported(place: &Place) -> PathBuf {
    let run = place.path("raw/phase_1_test_001/run_1");
    std::fs::create_dir_all(&run).unwrap();
    let agent = json!({"agent_type": "chimera", "aggregate_metrics": {"total_requests": 2}});
    let file = json!({
        "collector": agent,
        "insight": agent,
        "summary": {"concurrent_wall_time": 10.0, "concurrency_speedup": 1.9},
        "collector_execution_time": 10.0,
        "insight_execution_time": 9.0,
    });
    std::fs::write(run.join("metrics.json"), file.to_string()).unwrap();
    let out = place.path("out");
    let (raw, to) = (text(&place.path("raw")), text(&out));
    place
        .ask(&["import", "tr110", &raw, "--out", &to])
        .expect(0);
    out
}

#[test]
fn without_a_history_there_is_nothing_to_list_or_forget() {
    let place = Place::new();
    let told = place.ask(&["list"]).expect(0);
    assert!(
        told.out.is_empty() && told.err.contains("chimera bench"),
        "{}",
        told.err
    );
    assert_eq!(place.ask(&["list", "--json"]).expect(0).json(), json!([]));
    place.ask(&["history", "prune", "--keep", "1"]).expect(0);
    assert!(!place.history().exists(), "looking must not make a file");
}

#[test]
fn what_is_written_is_listed_and_shown_by_the_begin_of_its_id() {
    let place = Place::new();
    let out = imported(&place);
    let listed = place.ask(&["list", "--json"]).expect(0).json();
    let id = listed[0]["experiment"].as_str().unwrap().to_owned();
    assert_eq!(listed[0]["folder"], json!(out));
    let table = place.ask(&["list"]).expect(0).out;
    assert!(table.contains(&id) && table.contains("1 of 1"), "{table}");
    let begin = id.get(..id.len() - 3).unwrap();
    let page = place
        .ask(&["report", begin, "--format", "html"])
        .expect(0)
        .out;
    assert_eq!(
        page,
        std::fs::read_to_string(out.join("report.html")).unwrap()
    );
    // Its files are not there any more, and the answer says what to do.
    std::fs::remove_dir_all(&out).unwrap();
    let gone = place.ask(&["report", begin]).expect(64);
    assert!(gone.err.contains("is gone"), "{}", gone.err);
}

#[test]
fn a_begin_that_is_not_enough_names_the_candidates() {
    let place = Place::new();
    place.enter("quick-100", 1, &place.path("a"));
    place.enter("quick-200", 2, &place.path("b"));
    let told = place.ask(&["report", "quick"]).expect(64);
    assert!(told.err.contains("quick-200, quick-100"), "{}", told.err);
    let table = place.ask(&["list", "--last", "1"]).expect(0).out;
    assert!(
        table.contains("quick-200") && table.contains("0.561 to 1.83"),
        "{table}"
    );
    assert!(
        table.contains("1970-01-01 00:00") && !table.contains("quick-100"),
        "{table}"
    );
}

#[test]
fn pruning_deletes_nothing_unasked_and_never_what_is_not_the_bundle() {
    let place = Place::new();
    let bundle = |name: &str, experiment: &str| {
        let folder = place.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        let manifest = json!({
            "bundle_version": 1, "experiment": experiment, "software": "test", "environment": {}, "files": {},
        });
        std::fs::write(folder.join("bundle.json"), manifest.to_string()).unwrap();
        folder
    };
    let (own, other) = (bundle("own", "own"), bundle("other", "somebody-elses"));
    let plain = place.path("plain");
    std::fs::create_dir_all(&plain).unwrap();
    place.enter("kept", 9, &bundle("kept", "kept"));
    place.enter("first", 1, &bundle("first", "first"));
    let told = place
        .ask(&["history", "prune", "--older-than", "30d", "--json"])
        .expect(0)
        .json();
    assert_eq!(told["forgotten"], json!(["kept", "first"]));
    assert!(place.path("kept").is_dir() && place.path("first").is_dir());

    place.enter("newest", 9, &place.path("kept"));
    for (id, folder) in [("own", &own), ("other", &other), ("plain", &plain)] {
        place.enter(id, 1, folder);
    }
    let told = place
        .ask(&["history", "prune", "--keep", "1", "--delete-files"])
        .expect(0);
    assert!(
        told.out.contains("1 entry forgotten, 1 folder(s) deleted"),
        "{}",
        told.out
    );
    assert!(
        told.err.contains("holds another experiment") && told.err.contains("is no bundle"),
        "{}",
        told.err
    );
    assert!(!own.exists() && other.is_dir() && plain.is_dir());
    let left = place.ask(&["list", "--json"]).expect(0).json();
    let ids: Vec<&str> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["experiment"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["newest", "other", "plain"]);
}

#[test]
fn a_damaged_history_is_named_with_its_remedy() {
    let place = Place::new();
    std::fs::write(
        place.history(),
        "no database at all, and long enough to be read as one".repeat(40),
    )
    .unwrap();
    let told = place.ask(&["list"]).expect(1);
    assert!(told.err.contains("move it away"), "{}", told.err);
    let told = place.ask(&["history", "prune"]).expect(64);
    assert!(told.err.contains("--keep"), "{}", told.err);
}
