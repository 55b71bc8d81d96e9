use chimera_domain::control::ExperimentOutcome;
use chimera_runtime::bus::StreamLimits;
use chimera_testkit::nats::TestNats;

use super::*;

fn experiment(name: &str) -> Thread {
    Thread::experiment(&ExperimentId::try_new(name).unwrap())
}

fn leg(name: &str, run: &str) -> Thread {
    let run = RunId::try_new(run).unwrap();
    Thread::leg(&ExperimentId::try_new(name).unwrap(), &run, 1)
}

fn closed() -> ControlRecord {
    ControlRecord::ExperimentClosed {
        outcome: ExperimentOutcome::Completed,
    }
}

async fn started(test: &str) -> Option<(TestNats, Bus)> {
    let nats = TestNats::start_or_skip(test).await?;
    let bus = nats.connect(test).await.unwrap();
    bus.ensure_streams(&StreamLimits::default()).await.unwrap();
    Some((nats, bus))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_replaced_writes_nothing_more_wherever_it_would() {
    let Some((_nats, bus)) = started("log-replaced").await else {
        return;
    };
    let (old, _) = ControlLog::open(&bus).await.unwrap();
    old.append(&leg("e", "t1-r1"), closed()).await.unwrap();
    let (new, read) = ControlLog::open(&bus).await.unwrap();
    assert_eq!(read.len(), 1);
    assert!(new.epoch() > old.epoch());
    // Subjects on which the new one has written nothing: the end of an experiment that goes on, a
    // leg that it has not begun, an experiment that it has never heard of.
    for thread in [
        experiment("e"),
        leg("e", "t1-r2"),
        experiment("submitted-to-the-old-one"),
    ] {
        assert!(!new.replaced().is_cancelled());
        let refused = old.append(&thread, closed()).await.unwrap_err();
        assert!(matches!(refused, LogError::Replaced), "{refused}");
        assert!(old.replaced().is_cancelled());
    }
    new.append(&leg("e", "t1-r2"), closed()).await.unwrap();
    let (_, read) = ControlLog::open(&bus).await.unwrap();
    let epochs: Vec<u64> = read.iter().map(|event| event.epoch).collect();
    assert_eq!(epochs, [old.epoch(), new.epoch()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_replaces_nobody() {
    let Some((_nats, bus)) = started("log-stranger").await else {
        return;
    };
    let (log, _) = ControlLog::open(&bus).await.unwrap();
    let stranger = bus.publisher(PATIENCE, CancellationToken::new());
    let subject = Subject::Ctrl {
        experiment: ExperimentId::try_new("e").unwrap(),
        run: None,
    };
    for n in 0..3 {
        let garbage = Bytes::from_static(b"\xff\xfe no record");
        let id = format!("poison-{n}");
        stranger.publish(&subject, &id, garbage).await.unwrap();
    }
    log.append(&experiment("e"), closed()).await.unwrap();
    log.append(&leg("e", "t1-r1"), closed()).await.unwrap();
    assert!(!log.replaced().is_cancelled());
    let (_, read) = ControlLog::open(&bus).await.unwrap();
    assert_eq!(read.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_claim_at_once_get_epochs_of_their_own_and_the_last_one_stays() {
    let Some((_nats, bus)) = started("log-claims").await else {
        return;
    };
    let open = |_| async { ControlLog::open(&bus).await.unwrap().0 };
    let mut logs = futures::future::join_all((0..4).map(open)).await;
    logs.sort_by_key(ControlLog::epoch);
    assert!(
        logs.windows(2)
            .all(|pair| pair[0].epoch() < pair[1].epoch())
    );
    let last = logs.pop().unwrap();
    for log in logs {
        let refused = log.append(&experiment("e"), closed()).await.unwrap_err();
        assert!(matches!(refused, LogError::Replaced), "{refused}");
    }
    last.append(&experiment("e"), closed()).await.unwrap();
}
