//! The history on a real file.

use super::*;
use crate::sample::report;

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data").join(HISTORY_FILE);
    Place {
        _folder: folder,
        path,
    }
}

fn entry(experiment: &str, at: i64) -> Entry {
    Entry::of(
        &report(experiment, &[1.8, 0.6]),
        Path::new("/results/x"),
        at,
    )
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry.experiment.as_str())
        .collect()
}

#[test]
fn what_is_entered_is_found_again_by_id_and_by_its_begin() {
    let place = place();
    let history = History::open(&place.path).unwrap();
    for (id, at) in [("quick-100", 1), ("quick-110", 3), ("tr_110", 2)] {
        history.record(&entry(id, at)).unwrap();
    }
    drop(history);
    let history = History::open_existing(&place.path).unwrap().unwrap();
    assert_eq!(
        ids(&history.list(10).unwrap()),
        ["quick-110", "tr_110", "quick-100"]
    );
    assert_eq!(ids(&history.list(1).unwrap()), ["quick-110"]);
    let found = history.find("tr").unwrap();
    assert_eq!(found, entry("tr_110", 2));
    assert_eq!(
        (found.gain_best, found.gain_worst, found.tests),
        (Some(1.8), Some(0.6), 2)
    );
    assert_eq!(found.git_revision.as_deref(), Some("abc1234"));
    assert_eq!(history.find("quick-100").unwrap().experiment, "quick-100");
    let error = history.find("quick").unwrap_err();
    assert!(
        matches!(&error, HistoryError::Ambiguous { candidates, .. } if candidates.len() == 2),
        "{error}"
    );
    // _ is a letter, not a pattern; and nothing is not the begin of everything.
    for unknown in ["tr-", "quick%", ""] {
        assert!(
            matches!(history.find(unknown), Err(HistoryError::Unknown(_))),
            "{unknown}"
        );
    }
}

#[test]
fn entering_again_replaces() {
    let place = place();
    let history = History::open(&place.path).unwrap();
    history.record(&entry("a", 1)).unwrap();
    history.record(&entry("a", 7)).unwrap();
    let all = history.list(10).unwrap();
    assert_eq!((all.len(), all[0].finished_unix_ms), (1, 7));
}

#[test]
fn pruning_forgets_the_oldest_and_touches_no_folder() {
    let place = place();
    let mut history = History::open(&place.path).unwrap();
    for at in 1..=5 {
        history.record(&entry(&format!("e{at}"), at)).unwrap();
    }
    let old = history.beyond(Keep::Newest(3)).unwrap();
    assert_eq!(ids(&old), ["e2", "e1"]);
    history.forget(&old).unwrap();
    let old = history.beyond(Keep::Since(5)).unwrap();
    assert_eq!(ids(&old), ["e4", "e3"]);
    history.forget(&old).unwrap();
    assert_eq!(ids(&history.list(10).unwrap()), ["e5"]);
    assert!(history.beyond(Keep::Newest(1)).unwrap().is_empty());
}

#[test]
fn a_file_that_is_no_history_is_named_and_left_alone() {
    let place = place();
    std::fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    let garbage =
        b"this is no database, but it is longer than a header of SQLite, by far".repeat(20);
    std::fs::write(&place.path, &garbage).unwrap();
    let error = History::open(&place.path).unwrap_err();
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&place.path).unwrap(), garbage);
    assert!(
        History::open_existing(&place.path.with_extension("none"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn other_databases_and_newer_layouts_are_refused() {
    let place = place();
    drop(History::open(&place.path).unwrap());
    let connection = Connection::open(&place.path).unwrap();
    connection
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let error = History::open(&place.path).unwrap_err();
    assert!(
        matches!(error, HistoryError::Newer { found: 99, .. }),
        "{error:?}"
    );
    let other = place.path.with_file_name("other.sqlite");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE x (y)").unwrap();
    drop(connection);
    let error = History::open(&other).unwrap_err();
    assert!(matches!(error, HistoryError::Foreign { .. }), "{error:?}");
}

#[test]
fn several_may_write_at_once() {
    let place = place();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &place.path;
            scope.spawn(move || {
                let history = History::open(path).unwrap();
                for n in 0..5 {
                    history
                        .record(&entry(&format!("w{writer}-{n}"), n))
                        .unwrap();
                }
            });
        }
    });
    let history = History::open(&place.path).unwrap();
    assert_eq!(history.list(100).unwrap().len(), 20);
    let mode: String = history
        .connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}
