use std::sync::{Arc, Mutex};

use chimera_domain::ids::{ExperimentId, Role, RunId};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::plan::{LegKind, PlannedLeg, Workload};

use super::*;

const SHARED: Topology = Topology::Shared { slots: 2 };

fn id(agent: &str) -> AgentId {
    AgentId::try_new(agent).unwrap()
}

fn leg(run: &str, epoch: u64) -> LegRef {
    LegRef {
        experiment: ExperimentId::try_new("e").unwrap(),
        run: RunId::try_new(run).unwrap(),
        attempt: 1,
        epoch,
    }
}

fn assignment(leg: &LegRef, agent: &str, topology: Topology) -> Assignment {
    Assignment {
        leg_ref: leg.clone(),
        leg: PlannedLeg {
            run_id: leg.run.clone(),
            test: 1,
            run: 1,
            kind: LegKind::Together,
        },
        agent: PlannedAgent {
            id: id(agent),
            role: Role::try_new("collector").unwrap(),
            engine: EngineKind::Ollama,
            model: "m".into(),
            options: EngineOptions::default(),
            instance: None,
            think_ms: 0,
        },
        workload: Workload {
            template: "tr110-report".into(),
            data: None,
        },
        topology,
        plan_seed: 1,
    }
}

/// What the drivers say, in the order in which they say it.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn say(&self, words: String) {
        self.0.lock().unwrap().push(words);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// A driver that tells its orders and lets go of the engine when `slow` lets it.
    fn take(&self, hold: &mut Hold, assignment: &Assignment, slow: &CancellationToken) {
        let (heard, slow) = (self.clone(), slow.clone());
        hold.take(
            assignment.clone(),
            async move |assignment, orders: Orders| {
                let agent = assignment.agent.id;
                tokio::select! {
                    Ok(()) = orders.warm => heard.say(format!("{agent} warm")),
                    () = orders.cancel.cancelled() => {}
                }
                tokio::select! {
                    Ok(at) = orders.commit => heard.say(format!("{agent} at {}", at.0)),
                    () = orders.cancel.cancelled() => {}
                }
                orders.cancel.cancelled().await;
                slow.cancelled().await;
                let how = match orders.closed.await {
                    Ok(()) => "closed",
                    Err(_) => "stopped",
                };
                heard.say(format!("{agent} {how}"));
            },
        );
    }

    async fn until(&self, words: &[&str]) {
        for _ in 0..10_000 {
            if self.all() == words {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{:?} is not {words:?}", self.all());
    }
}

fn at_once() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

#[tokio::test]
async fn each_agent_of_a_shared_instance_hears_its_own_orders() {
    let (mut hold, heard) = (Hold::default(), Heard::default());
    let run = leg("t1-r1-together", 1);
    for agent in ["a", "b"] {
        let assignment = assignment(&run, agent, SHARED);
        assert_eq!(hold.admits(&assignment), Ok(true));
        heard.take(&mut hold, &assignment, &at_once());
        assert_eq!(hold.admits(&assignment), Ok(false), "twice is once");
    }
    assert_eq!(hold.company(&run).count(), 2);
    hold.warm(&run, &id("b"));
    heard.until(&["b warm"]).await;
    hold.warm(&run, &id("a"));
    heard.until(&["b warm", "a warm"]).await;
    hold.commit(&run, &id("a"), MonoNs(7));
    // A release would overtake it: an agent that is told to stop need not start first.
    heard.until(&["b warm", "a warm", "a at 7"]).await;
    hold.commit(&leg("t1-r1-together", 2), &id("b"), MonoNs(8));
    assert!(!hold.release(&leg("t1-r2-together", 1), &id("a")));
    assert!(hold.release(&run, &id("b")));
    assert!(hold.release(&run, &id("a")));
    hold.stop().await;
    let mut all = heard.all();
    all.sort();
    assert_eq!(
        all,
        ["a at 7", "a closed", "a warm", "b closed", "b warm"],
        "orders of another attempt reach nobody"
    );
}

#[tokio::test]
async fn a_pinned_instance_is_one_agents_alone() {
    let (mut hold, heard) = (Hold::default(), Heard::default());
    let run = leg("t1-r1-together", 1);
    heard.take(
        &mut hold,
        &assignment(&run, "a", Topology::Pinned),
        &at_once(),
    );
    let why = hold
        .admits(&assignment(&run, "b", Topology::Pinned))
        .unwrap_err();
    assert!(why.contains("pinned to a in t1-r1-together"), "{why}");
    let why = hold.admits(&assignment(&run, "b", SHARED)).unwrap_err();
    assert!(why.contains("pinned to a"), "{why}");
    assert!(hold.release(&run, &id("a")));
    let why = hold
        .admits(&assignment(&run, "a", Topology::Pinned))
        .unwrap_err();
    assert!(why.contains("released"), "{why}");
}

#[tokio::test]
async fn another_leg_waits_until_this_one_is_released_unless_its_coordinator_is_newer() {
    let (mut hold, heard) = (Hold::default(), Heard::default());
    let first = leg("t1-r1-together", 1);
    for agent in ["a", "b"] {
        heard.take(&mut hold, &assignment(&first, agent, SHARED), &at_once());
    }
    let next = assignment(&leg("t1-r2-together", 1), "a", SHARED);
    hold.release(&first, &id("a"));
    let why = hold.admits(&next).unwrap_err();
    assert!(
        why.contains("holds t1-r1-together (attempt 1) for a, b"),
        "{why}"
    );
    let newer = assignment(&leg("t1-r2-together", 2), "a", SHARED);
    assert_eq!(hold.admits(&newer), Ok(true));
    hold.release(&first, &id("b"));
    assert_eq!(hold.admits(&next), Ok(true));
}

#[tokio::test]
async fn the_agents_of_a_leg_wait_for_all_of_the_leg_before_and_the_session_for_none() {
    let (mut hold, heard) = (Hold::default(), Heard::default());
    let (first, second) = (leg("t1-r1-together", 1), leg("t1-r2-together", 1));
    let slow = CancellationToken::new();
    heard.take(&mut hold, &assignment(&first, "a", SHARED), &at_once());
    heard.take(&mut hold, &assignment(&first, "b", SHARED), &slow);
    for agent in ["a", "b"] {
        hold.warm(&first, &id(agent));
    }
    heard.until(&["a warm", "b warm"]).await;
    for agent in ["a", "b"] {
        hold.release(&first, &id(agent));
    }
    for agent in ["a", "b"] {
        heard.take(&mut hold, &assignment(&second, agent, SHARED), &at_once());
        hold.warm(&second, &id(agent));
    }
    let so_far = ["a warm", "b warm", "a closed"];
    heard.until(&so_far).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(heard.all(), so_far, "b still has the engine");
    slow.cancel();
    heard
        .until(&[
            "a warm", "b warm", "a closed", "b closed", "a warm", "b warm",
        ])
        .await;
    hold.stop().await;
    assert_eq!(heard.all().len(), 8, "{:?}", heard.all());
}

#[tokio::test]
async fn whoever_is_stopped_keeps_its_spool() {
    let (mut hold, heard) = (Hold::default(), Heard::default());
    let run = leg("t1-r1-together", 1);
    heard.take(&mut hold, &assignment(&run, "a", SHARED), &at_once());
    hold.stop().await;
    assert_eq!(heard.all(), ["a stopped"]);
    assert_eq!(hold.company(&run).count(), 0);
}
