//! Scenes built from records, and what the report shows of them.

use super::parts::{Around, take_apart};
use super::types::{Attribution, Excess, RequestParts};
use super::usual::{Alone, Requests, Taken, compare, sort};
use super::view::{AgentScene, RequestScene, RunView, Scene, TestView};
use super::{cause, run};

/// TR110 calls a run contended below this speed-up.
///
/// *Source*: Technical Report 110; its data flag exactly the runs below it.
pub const TR110_CONTENTION_SPEEDUP: f64 = 1.5;

/// The runs of a test, taken apart and compared.
///
/// *Shape*: one per run, in the order of the view.
#[must_use]
pub fn scenes<'a>(test: &'a TestView<'a>) -> Vec<Scene<'a>> {
    let alone = Alone::of(test);
    test.runs
        .iter()
        .map(|run| scene(test, run, &alone))
        .collect()
}

/// Where the time of each run of a test went, and why.
///
/// *Shape*: one per run, in the order of the view.
#[must_use]
pub fn attribute(test: &TestView<'_>) -> Vec<Attribution> {
    scenes(test).iter().map(attribution).collect()
}

fn scene<'a>(test: &'a TestView<'a>, run: &'a RunView<'a>, alone: &Alone<'a>) -> Scene<'a> {
    let leg = &run.together;
    let taken: Vec<Requests<'a>> = leg
        .agents
        .iter()
        .map(|agent| {
            let around = Around::of(leg, agent, test.test.topology);
            let requests = agent.timeline.requests.iter();
            requests
                .map(|record| Taken {
                    record,
                    parts: take_apart(record, &around),
                })
                .collect()
        })
        .collect();
    let compared: Vec<_> = leg
        .agents
        .iter()
        .map(|agent| agent.planned)
        .zip(taken)
        .collect();
    let excess = compare(test.test, alone, &compared);
    let agents = leg.agents.iter().zip(compared).zip(excess);
    let agents = agents.map(|((view, (planned, taken)), excess)| AgentScene {
        view: *view,
        solo: run
            .solo
            .get(&planned.id)
            .and_then(|leg| leg.agents.first().copied()),
        requests: taken
            .iter()
            .enumerate()
            .map(|(place, taken)| RequestScene {
                record: taken.record,
                parts: taken.parts,
                usual: alone.of_request(test.test, planned, place, taken),
            })
            .collect(),
        excess,
    });
    Scene {
        test: test.test,
        run,
        agents: agents.collect(),
    }
}

fn attribution(scene: &Scene<'_>) -> Attribution {
    let leg = &scene.run.together;
    let mut excess: Vec<Excess> = scene
        .agents
        .iter()
        .flat_map(|agent| agent.excess.iter().cloned())
        .collect();
    sort(&mut excess);
    let tested = excess.iter().any(|excess| excess.p.is_some());
    let requests = scene.agents.iter().flat_map(|agent| &agent.requests);
    Attribution {
        leg: leg.log.leg.run_id.clone(),
        decomposition: run::decompose(scene.test, leg, &scene.agents),
        requests: requests
            .map(|request| RequestParts {
                request_id: request.record.request_id.clone(),
                parts: request.parts,
            })
            .collect(),
        slow: tested.then(|| excess.iter().any(|excess| excess.beyond_chance)),
        excess,
        causes: cause::findings(scene),
        tr110_contention: scene
            .run
            .tr110_speedup
            .filter(|_| scene.test.agents.len() > 1)
            .map(|speedup| speedup < TR110_CONTENTION_SPEEDUP),
    }
}
