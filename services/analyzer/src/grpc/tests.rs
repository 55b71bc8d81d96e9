use super::*;

#[path = "../../../../crates/domain/tests/report/support.rs"]
mod support;

use support::{MS, Pace, World, planned_test};

/// One run together and alone, closed as valid; its streams have the hashes of other bytes.
fn records() -> Records {
    let mut world = World::new(vec![planned_test(1, &["collector", "insight"], 1)]);
    let paces = [
        Pace::new(100 * MS, 20 * MS, 40),
        Pace::new(110 * MS, 20 * MS, 40),
    ];
    world.run(1, 1, &paces, &paces);
    Records {
        control: world.control,
        events: world.events,
        ..Records::default()
    }
}

/// The same with the right hashes.
fn sealed() -> Records {
    use chimera_domain::event::AgentRecord;
    use chimera_wire::codec::StreamHash;
    let mut records = records();
    let mut hashes: BTreeMap<String, StreamHash> = BTreeMap::new();
    for event in &mut records.events {
        let hash = hashes.entry(format!("{:?}", event.key)).or_default();
        match &mut event.record {
            AgentRecord::End(end) => end.sha256 = hash.to_hex(),
            _ => hash.push_event(event),
        }
    }
    records
}

#[test]
fn evidence_is_what_the_valid_runs_show_as_of_the_same_records() {
    let asked = BTreeSet::from([Metric::ConcurrencyGain, Metric::WallS]);
    let found = evidence(&sealed(), &asked).unwrap();
    assert_eq!(found.verdicts, 3);
    assert_eq!(found.refused, []);
    assert_eq!(
        found.metrics.keys().copied().collect::<BTreeSet<_>>(),
        asked
    );
    for (metric, values) in &found.metrics {
        assert!(
            matches!(&values[..], [RunValue { test: 1, run: 1, value }] if *value > 0.0),
            "{metric:?}: {values:?}"
        );
    }
    let none = evidence(&sealed(), &BTreeSet::new()).unwrap();
    assert_eq!(none.metrics, BTreeMap::new());
}

#[test]
fn legs_whose_records_do_not_stand_up_are_refused_and_their_runs_show_nothing() {
    let found = evidence(&records(), &BTreeSet::from([Metric::WallS])).unwrap();
    assert_eq!(found.metrics[&Metric::WallS], []);
    assert_eq!(found.refused.len(), 3);
    let first = &found.refused[0];
    assert_eq!((first.attempt, first.why.detail.is_empty()), (1, false));
}
