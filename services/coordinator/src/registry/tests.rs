use chimera_domain::ids::{InstanceId, NodeId, Role};
use chimera_domain::options::{EngineKind, EngineOptions};

use super::*;

fn reading(boot: &str, ns: u64) -> ClockReading {
    ClockReading {
        boot_id: BootId(boot.into()),
        mono_ns: MonoNs(ns),
        wall_unix_ns: 0,
    }
}

fn hello(worker: &str, instance: &str, boot: &str) -> Hello {
    Hello {
        worker: WorkerId::try_new(worker).unwrap(),
        instance: InstanceId::try_new(instance).unwrap(),
        url: format!("http://127.0.0.1/{instance}"),
        engine: EngineKind::Openai,
        node: NodeId::try_new("n").unwrap(),
        clock: reading(boot, 0),
        software: "test".into(),
        gpu: None,
        appraises: false,
    }
}

fn planned(id: &str, instance: Option<&str>) -> PlannedAgent {
    PlannedAgent {
        id: AgentId::try_new(id).unwrap(),
        role: Role::try_new("collector").unwrap(),
        engine: EngineKind::Openai,
        model: "m".into(),
        options: EngineOptions::default(),
        instance: instance.map(str::to_owned),
        think_ms: 0,
    }
}

fn registry() -> (Registry, mpsc::Receiver<Heard>) {
    let (tx, rx) = mpsc::channel(16);
    (Registry::new(BootId("here".into()), 5_000, tx), rx)
}

async fn join(r: &Registry, h: Hello) -> Result<u64, String> {
    r.join(h, mpsc::channel(COMMAND_CAPACITY).0, MonoNs(0))
        .await
}

#[tokio::test]
async fn an_instance_has_one_claim() {
    let (r, _rx) = registry();
    join(&r, hello("w1", "i1", "here")).await.unwrap();
    let refused = join(&r, hello("w2", "i1", "here")).await.unwrap_err();
    assert!(refused.contains("claimed by worker 'w1'"), "{refused}");
    let refused = join(&r, hello("w1", "i2", "here")).await.unwrap_err();
    assert!(refused.contains("connected already"), "{refused}");
}

#[tokio::test]
async fn a_session_that_left_frees_its_claim_but_an_old_one_cannot_evict_a_new_one() {
    let (r, mut rx) = registry();
    let first = join(&r, hello("w1", "i1", "here")).await.unwrap();
    let w1 = WorkerId::try_new("w1").unwrap();
    r.leave(&w1, first, "eof").await;
    let second = join(&r, hello("w1", "i1", "here")).await.unwrap();
    r.leave(&w1, first, "eof").await;
    assert!(r.renew(&w1, second, MonoNs(1)));
    assert!(!r.renew(&w1, first, MonoNs(1)));
    assert!(matches!(rx.recv().await, Some(Heard::Joined)));
    assert!(matches!(rx.recv().await, Some(Heard::Lost(..))));
}

#[tokio::test]
async fn a_silent_worker_expires() {
    let (r, mut rx) = registry();
    let serial = join(&r, hello("w1", "i1", "here")).await.unwrap();
    let w1 = WorkerId::try_new("w1").unwrap();
    r.expire(MonoNs(5_000)).await;
    assert!(r.renew(&w1, serial, MonoNs(5_000)));
    r.expire(MonoNs(10_001)).await;
    assert!(!r.renew(&w1, serial, MonoNs(10_002)));
    assert!(matches!(rx.recv().await, Some(Heard::Joined)));
    assert!(matches!(rx.recv().await, Some(Heard::Expired(..))));
}

#[tokio::test]
async fn agents_keep_their_workers_and_pins_are_honoured() {
    let (r, _rx) = registry();
    for w in ["w2", "w1", "w3"] {
        join(&r, hello(w, &format!("i-{w}"), "here")).await.unwrap();
    }
    let order = |agents: &[PlannedAgent]| -> Vec<String> {
        r.seats(agents, Topology::Pinned, &BTreeMap::new())
            .unwrap()
            .iter()
            .map(|s| s.member.worker.to_string())
            .collect()
    };
    assert_eq!(
        order(&[planned("a", None), planned("b", None)]),
        ["w1", "w2"]
    );
    let pinned = planned("a", Some("http://127.0.0.1/i-w3"));
    assert_eq!(order(&[pinned.clone(), planned("b", None)]), ["w3", "w1"]);
    let free_first = [
        planned("b", None),
        planned("a", Some("http://127.0.0.1/i-w1")),
    ];
    assert_eq!(order(&free_first), ["w2", "w1"]);
    let twice = r
        .seats(
            &[pinned.clone(), pinned],
            Topology::Pinned,
            &BTreeMap::new(),
        )
        .unwrap_err();
    assert!(twice.contains("1 of 2 agents"), "{twice}");
}

#[tokio::test]
async fn agents_that_share_an_instance_get_one_worker_and_never_two() {
    const SHARED: Topology = Topology::Shared { slots: 2 };
    let (r, _rx) = registry();
    for w in ["w2", "w1"] {
        join(&r, hello(w, &format!("i-{w}"), "here")).await.unwrap();
    }
    let on = |agents: &[PlannedAgent]| -> Vec<(String, String)> {
        let seats = r.seats(agents, SHARED, &BTreeMap::new()).unwrap();
        let member = |s: &Seat| (s.member.agent.to_string(), s.member.worker.to_string());
        seats.iter().map(member).collect()
    };
    let pairs = |worker: &str| ["a", "b", "c"].map(|a| (a.to_owned(), worker.to_owned()));
    let agents = ["a", "b", "c"].map(|a| planned(a, None));
    assert_eq!(on(&agents), pairs("w1"), "the first by name");
    let mut named = agents.clone();
    named[1].instance = Some("http://127.0.0.1/i-w2".into());
    assert_eq!(on(&named), pairs("w2"), "one that names an instance leads");
    named[2].instance = Some("http://127.0.0.1/i-w1".into());
    let refused = r.seats(&named, SHARED, &BTreeMap::new()).unwrap_err();
    assert!(
        refused.contains("3 agents share one instance") && refused.contains("i-w2"),
        "{refused}"
    );
    // The instance is one worker's, so the worker is busy once, for all of them.
    r.set_busy(
        &WorkerId::try_new("w1").unwrap(),
        Some(RunId::try_new("t1-r1-together").unwrap()),
    );
    let busy = r.list().iter().filter(|w| w.busy_with.is_some()).count();
    assert_eq!(busy, 1);
}

#[tokio::test]
async fn one_boot_needs_no_offset_and_another_keeps_its_best_exchange() {
    let (r, _rx) = registry();
    join(&r, hello("w1", "i1", "here")).await.unwrap();
    join(&r, hello("w2", "i2", "elsewhere")).await.unwrap();
    for w in ["w1", "w2"] {
        let w = WorkerId::try_new(w).unwrap();
        r.clock_exchange(&w, MonoNs(1_000), MonoNs(1_400), &reading("x", 200));
        r.clock_exchange(&w, MonoNs(2_000), MonoNs(4_000), &reading("x", 9_999));
    }
    let seats = r
        .seats(
            &[planned("a", None), planned("b", None)],
            Topology::Pinned,
            &BTreeMap::new(),
        )
        .unwrap();
    let found: Vec<_> = seats
        .iter()
        .map(|s| (s.member.clock_offset_ns, s.member.clock_error_ns, s.rtt_ns))
        .collect();
    assert_eq!(found, [(0, 0, 400), (1_000, 200, 400)]);
}

#[tokio::test]
async fn an_instance_is_known_by_every_spelling_of_its_address() {
    let (r, _rx) = registry();
    let at = |worker: &str, instance: &str, url: &str| Hello {
        url: url.to_owned(),
        ..hello(worker, instance, "here")
    };
    join(&r, at("w1", "i1", "http://127.0.0.1:11434/"))
        .await
        .unwrap();
    join(&r, at("w2", "i2", "http://localhost:11435/"))
        .await
        .unwrap();
    let pinned = |url| planned("a", Some(url));
    for (url, worker) in [
        ("http://127.0.0.1:11435", "w2"),
        ("http://localhost:11434", "w1"),
    ] {
        let seats = r
            .seats(&[pinned(url)], Topology::Pinned, &BTreeMap::new())
            .unwrap();
        assert_eq!(seats[0].member.worker.as_str(), worker, "{url}");
    }
    r.seats(
        &[pinned("http://localhosting:11434")],
        Topology::Pinned,
        &BTreeMap::new(),
    )
    .unwrap_err();
    join(&r, at("w3", "i3", "http://localhost:11434"))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_worker_that_joins_between_two_legs_moves_nobody() {
    let (r, _rx) = registry();
    for w in ["w2", "w3"] {
        join(&r, hello(w, &format!("i-{w}"), "here")).await.unwrap();
    }
    let agents = [planned("a", None), planned("b", None)];
    let seated = |before: &BTreeMap<AgentId, WorkerId>, topology| -> BTreeMap<AgentId, WorkerId> {
        let seats = r.seats(&agents, topology, before).unwrap();
        let pair = |s: Seat| (s.member.agent, s.member.worker);
        seats.into_iter().map(pair).collect()
    };
    let shared = Topology::Shared { slots: 1 };
    let nothing = BTreeMap::new();
    let first = seated(&nothing, Topology::Pinned);
    let first_shared = seated(&nothing, shared);
    join(&r, hello("w1", "i-w1", "here")).await.unwrap();
    assert_ne!(seated(&nothing, Topology::Pinned), first, "by name alone");
    assert_eq!(seated(&first, Topology::Pinned), first);
    assert_eq!(seated(&first_shared, shared), first_shared);
    // Only b is known to have been anywhere: a does not take its worker from it.
    let b = AgentId::try_new("b").unwrap();
    let one = BTreeMap::from([(b.clone(), WorkerId::try_new("w1").unwrap())]);
    let again = seated(&one, Topology::Pinned);
    assert_eq!(again.get(&b), one.get(&b));
    // Who is gone is missed by nobody.
    let gone = BTreeMap::from([(b, WorkerId::try_new("w9").unwrap())]);
    assert_eq!(seated(&gone, Topology::Pinned).len(), 2);
}

#[tokio::test]
async fn everyone_lists_the_seats_that_agents_could_take() {
    let (r, _rx) = registry();
    let on_gpu = Hello {
        gpu: Some("GPU-1".into()),
        ..hello("w1", "i1", "here")
    };
    join(&r, on_gpu).await.unwrap();
    join(&r, hello("w2", "i2", "here")).await.unwrap();
    let agents = [
        planned("a", Some("http://127.0.0.1/i2")),
        planned("b", None),
    ];
    let seats = r.everyone(&agents);
    let found: Vec<_> = seats
        .iter()
        .map(|(s, serves)| {
            (
                s.member.worker.as_str(),
                s.gpu.as_deref(),
                serves.as_slice(),
            )
        })
        .collect();
    let (one, both): (&[usize], &[usize]) = (&[1], &[0, 1]);
    assert_eq!(found, [("w1", Some("GPU-1"), one), ("w2", None, both)]);
}
