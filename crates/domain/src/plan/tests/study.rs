//! Plans that wait, and grow when it is chosen what they waited for.

use proptest::prelude::*;

use super::super::*;
use super::{phase, plan, spec};
use crate::spec::{OptionKey, ValidSpec};

pub(super) fn example(name: &str) -> ValidSpec {
    let (_, text) = examples().into_iter().find(|(n, _)| *n == name).unwrap();
    spec(text).with_model("m")
}

fn choice(options: &[(&str, &str)]) -> Choice {
    let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    Choice {
        test: 1,
        value: 1.0,
        runner_up: None,
        clear: None,
        options: options.iter().map(pair).collect(),
    }
}

/// Everything unfolded: each later phase takes the first value that it may come to.
fn whole(spec: &ValidSpec) -> Plan {
    let mut plan = build(spec).unwrap();
    for later in plan.later.clone() {
        let options = later.select.options.iter().map(|name| {
            let key = OptionKey::from_name(name).unwrap();
            let value = spec.candidates(later.phase, key)[0].value_text();
            (name.clone(), value)
        });
        let mut choice = choice(&[]);
        choice.options = options.collect();
        let (tests, legs) = super::super::later(spec, later.phase, &choice).unwrap();
        let why = Extension::Selected {
            phase: later.phase,
            choice,
        };
        plan.extend(&why, &tests, &legs);
    }
    plan
}

#[test]
fn every_example_unfolds() {
    let sizes: Vec<(&str, usize, u32, usize)> = examples()
        .into_iter()
        .map(|(name, _)| {
            let plan = whole(&example(name));
            assert_eq!(plan.later, []);
            let runs = plan.tests.iter().map(|t| t.runs).sum();
            (name, plan.tests.len(), runs, plan.legs.len())
        })
        .collect();
    assert_eq!(
        sizes,
        [
            ("quick", 2, 6, 18),
            ("two-agents", 7, 35, 105),
            ("tr110", 30, 150, 450),
            ("tr110-reduced", 11, 33, 99),
            ("scale", 4, 12, 42),
            ("think-time", 3, 9, 27),
            ("mixed-models", 2, 6, 18),
            ("topology", 3, 9, 27),
        ]
    );
}

#[test]
fn the_study_is_numbered_and_configured_as_tr110_did() {
    let spec = example("tr110");
    let submitted = build(&spec).unwrap();
    assert_eq!(submitted.tests.len(), 18);
    let waiting: Vec<(u32, Vec<u32>, u32)> = submitted
        .later
        .iter()
        .map(|l| (l.phase, l.tests.iter().map(|t| t.0).collect(), l.legs))
        .collect();
    assert_eq!(
        waiting,
        [
            (2, (100..=108).collect(), 135),
            (3, vec![200, 201, 202], 45)
        ]
    );
    assert_eq!(
        submitted.later[0].tests[3].1,
        "num_gpu=best num_ctx=1024 temperature=0.6"
    );

    let mut plan = submitted;
    for phase in [2, 3] {
        let choice = choice(&[("num_gpu", "80")]);
        let (tests, legs) = later(&spec, phase, &choice).unwrap();
        plan.extend(&Extension::Selected { phase, choice }, &tests, &legs);
    }
    // Layers, context and temperature of both agents: TR110, sections 3.1 to 3.3; the temperatures
    // of test 201 are those of its raw runs.
    let configuration = |id: u32, agent: usize| {
        let options = &plan.test(id).unwrap().agents[agent].options;
        (options.num_gpu, options.num_ctx, options.temperature)
    };
    for (id, gpu, ctx) in [(1, 60, 512), (2, 60, 1024), (3, 80, 512), (6, 120, 1024)] {
        assert_eq!(plan.test(id).unwrap().scenario, "baseline_vs_chimera");
        assert_eq!(configuration(id, 0), (None, 2048, 0.8));
        assert_eq!(configuration(id, 1), (Some(gpu), ctx, 0.8));
    }
    for (id, gpu, ctx, gpu_2, ctx_2) in [
        (7, 60, 512, 80, 1024),
        (8, 60, 1024, 80, 2048),
        (9, 80, 512, 100, 1024),
        (10, 80, 1024, 100, 2048),
        (11, 120, 512, 140, 1024),
        (12, 120, 1024, 140, 2048),
    ] {
        assert_eq!(plan.test(id).unwrap().scenario, "chimera_hetero");
        assert_eq!(configuration(id, 0), (Some(gpu), ctx, 0.8));
        assert_eq!(configuration(id, 1), (Some(gpu_2), ctx_2, 0.8));
    }
    for (id, gpu, ctx) in [(13, 60, 512), (16, 80, 1024), (18, 120, 1024)] {
        assert_eq!(plan.test(id).unwrap().scenario, "chimera_homo");
        assert_eq!(configuration(id, 0), (Some(gpu), ctx, 0.8));
        assert_eq!(configuration(id, 1), configuration(id, 0));
    }
    for (id, ctx, temperature) in [(100, 512, 0.6), (105, 1024, 1.0), (108, 2048, 1.0)] {
        assert_eq!(configuration(id, 0), (Some(80), ctx, temperature));
        assert_eq!(configuration(id, 1), configuration(id, 0));
    }
    assert_eq!(
        plan.test(103).unwrap().label,
        "num_gpu=80 num_ctx=1024 temperature=0.6"
    );
    let third = [200, 201, 202].map(|id| (configuration(id, 0), configuration(id, 1)));
    assert_eq!(
        third,
        [
            ((Some(80), 512, 0.8), (Some(80), 512, 0.8)),
            ((Some(80), 512, 0.8), (Some(80), 1024, 0.6)),
            ((None, 2048, 0.8), (Some(80), 512, 0.8)),
        ]
    );
}

#[test]
fn a_later_phase_is_what_it_would_have_been_if_written_down() {
    let written = phase("scenario = \"custom\"\nruns = 2\nnum_gpu = [60, 80]")
        + "[[phase]]\nscenario = \"custom\"\nruns = 4\nnum_gpu = 80\nnum_ctx = [512, 1024]\n";
    let asked = written.replace(
        "num_gpu = 80\n",
        "num_gpu = \"best\"\nselect = \"best of previous by concurrency_gain\"\n",
    );
    let (written, asked) = (spec(&written), spec(&asked));
    let submitted = build(&asked).unwrap();
    let (tests, legs) = later(&asked, 2, &choice(&[("num_gpu", "80")])).unwrap();
    let full = build(&written).unwrap();
    assert_eq!(submitted.legs[..], full.legs[..submitted.legs.len()]);
    assert_eq!(legs[..], full.legs[submitted.legs.len()..]);
    assert_eq!(legs.len(), submitted.later[0].legs as usize);
    let agents = |tests: &[PlannedTest]| -> Vec<Vec<PlannedAgent>> {
        tests
            .iter()
            .filter(|t| t.phase == 2)
            .map(|t| t.agents.clone())
            .collect()
    };
    assert_eq!(agents(&tests), agents(&full.tests));
    // Not sent, where the chosen test did not send it.
    let (tests, _) = later(&asked, 2, &choice(&[])).unwrap();
    assert_eq!(tests[0].agents[0].options.num_gpu, None);
    assert_eq!(tests[0].label, "num_gpu=unset num_ctx=512");
}

#[test]
fn a_choice_that_does_not_fit_is_refused() {
    let spec = example("tr110");
    assert_eq!(later(&spec, 1, &choice(&[])), Err(PlanError::NotLater(1)));
    assert_eq!(later(&spec, 0, &choice(&[])), Err(PlanError::NotLater(0)));
    assert_eq!(later(&spec, 9, &choice(&[])), Err(PlanError::NotLater(9)));
    for (option, value) in [
        ("num_ctx", "512"),
        ("num_gpu", "many"),
        ("num_gpu", "1001"),
        ("x", "1"),
        ("num_gpu", "1.5"),
    ] {
        let said = later(&spec, 2, &choice(&[(option, value)]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            said,
            format!(
                "the choice for phase 2 gives {option} = {value:?}, which the phase cannot take"
            )
        );
    }
    assert_eq!(
        build(&super::spec(
            &phase("scenario = \"custom\"").replace("\"m\"", "\"auto\"")
        )),
        Err(PlanError::ModelOpen)
    );
}

#[test]
fn topologies_pin_as_they_say() {
    let text = "backend.instances = [\"http://a\", \"http://b\"]\n".to_owned()
        + &phase(
            "scenario = \"custom\"\nnum_thread = 1\ntopology = [\"pinned\", \"shared\"]\nslots = [2, 1]\n\
             think_ms = [0, 5]\n[phase.shared]\nnum_thread = \"x2\"",
        );
    let plan = plan(&text);
    let shown: Vec<String> = plan
        .tests
        .iter()
        .map(|t| {
            let at: Vec<&str> = t
                .agents
                .iter()
                .filter_map(|a| a.instance.as_deref())
                .collect();
            let (first, at) = (&t.agents[0], at.join(" "));
            let threads = first.options.num_thread.unwrap();
            format!(
                "{}: {:?} {at} {threads} {}",
                t.label, t.topology, first.think_ms
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "pinned think_ms=0: Pinned http://a http://b 1 0",
            "pinned think_ms=5: Pinned http://a http://b 1 5",
            "shared slots=2 think_ms=0: Shared { slots: 2 } http://a http://a 2 0",
            "shared slots=2 think_ms=5: Shared { slots: 2 } http://a http://a 2 5",
            "shared slots=1 think_ms=0: Shared { slots: 1 } http://a http://a 2 0",
            "shared slots=1 think_ms=5: Shared { slots: 1 } http://a http://a 2 5",
        ]
    );
    let sizes = super::plan(&phase(
        "scenario = \"custom\"\nagents = [1, 3]\ntopology = \"shared\"\nmax_concurrent = 2",
    ));
    let sizes: Vec<_> = sizes
        .tests
        .iter()
        .map(|t| {
            (
                t.label.as_str(),
                t.topology,
                t.max_concurrent,
                t.agents.len(),
            )
        })
        .collect();
    assert_eq!(
        sizes,
        [
            ("agents=1", Topology::Shared { slots: 1 }, 1, 1),
            ("agents=3", Topology::Shared { slots: 3 }, 2, 3)
        ]
    );
    let named = "backend.instances = [\"http://a\", \"http://b\"]\n".to_owned()
        + &phase(
            "scenario = \"custom\"\ntopology = \"shared\"\nthink_ms = 4\n[[phase.agent]]\nthink_ms = 9\n[[phase.agent]]\ninstance = \"http://b\"",
        );
    let agents = super::plan(&named).tests.remove(0).agents;
    assert!(
        agents
            .iter()
            .all(|a| a.instance.as_deref() == Some("http://b"))
    );
    assert_eq!((agents[0].think_ms, agents[1].think_ms), (9, 4));
}

#[test]
fn labels_of_later_phases_differ_from_those_before() {
    let text = phase("scenario = \"custom\"") + "[[phase]]\nscenario = \"custom\"\nnum_ctx = 512\n";
    let labels: Vec<String> = plan(&text).tests.into_iter().map(|t| t.label).collect();
    assert_eq!(labels, ["custom", "custom (phase 2)"]);
    let text = phase("scenario = \"custom\"\nnum_gpu = [1, 2]")
        + "[[phase]]\nscenario = \"custom\"\nnum_gpu = \"best\"\nselect = \"best of previous by wall_s\"\n";
    let spec = spec(&text);
    assert_eq!(build(&spec).unwrap().later[0].tests[0].1, "num_gpu=best");
    let (tests, _) = later(&spec, 2, &choice(&[("num_gpu", "2")])).unwrap();
    assert_eq!(tests[0].label, "num_gpu=2 (phase 2)");
}

fn any_study() -> impl Strategy<Value = String> {
    let counts = prop::collection::btree_set(1_u32..6, 1..3);
    let gpus = prop::collection::btree_set(1_u32..900, 1..4);
    let flags = any::<(bool, bool, bool)>();
    (counts, gpus, 1_u32..4, 1_u32..4, 0_u32..1_000, flags).prop_map(
        |(counts, gpus, runs, more, seed, (shared, alike, fixed))| {
            let list = |numbers: &std::collections::BTreeSet<u32>| {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                numbers.join(", ")
            };
            let topology = if shared {
                "[\"pinned\", \"shared\"]"
            } else {
                "\"pinned\""
            };
            let order = if fixed { "fixed" } else { "randomized" };
            let head = format!(
                "name = \"x\"\nseed = {seed}\nmodel.name = \"m\"\nsolo.share_identical = {alike}\n"
            );
            let phase = |gpu: &str, runs: u32, counts: &str| {
                format!(
                    "[[phase]]\nscenario = \"custom\"\nagents = [{counts}]\nruns = {runs}\n\
                     order = \"{order}\"\ntopology = {topology}\nnum_gpu = {gpu}\n"
                )
            };
            head + &phase(&format!("[{}]", list(&gpus)), runs, &list(&counts))
                + &phase("\"best\"", more, "1, 2")
                + "select = \"best of previous by wall_s\"\n"
                + &phase("\"best\"", runs, "3")
                + "select = \"best of phase 2 by wall_s\"\n"
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_that_has_grown_is_whole_and_grows_once(text in any_study(), last_first in any::<bool>()) {
        let spec = spec(&text);
        let submitted = build(&spec).unwrap();
        let previews: BTreeMap<u32, LaterPhase> =
            submitted.later.iter().map(|l| (l.phase, l.clone())).collect();
        let gpu = spec.candidates(3, OptionKey::NumGpu)[0].value_text();
        let choice = choice(&[("num_gpu", &gpu)]);
        let mut order = vec![2, 3];
        if last_first {
            order.reverse();
        }
        let mut plan = submitted.clone();
        for phase in order {
            let (tests, legs) = later(&spec, phase, &choice).unwrap();
            prop_assert_eq!(&later(&spec, phase, &choice).unwrap(), &(tests.clone(), legs.clone()));
            let preview = &previews[&phase];
            let ids: Vec<u32> = tests.iter().map(|t| t.id).collect();
            let previewed: Vec<u32> = preview.tests.iter().map(|t| t.0).collect();
            prop_assert_eq!(ids, previewed);
            prop_assert_eq!(legs.len(), preview.legs as usize);
            let before = plan.legs.clone();
            let why = Extension::Selected { phase, choice: choice.clone() };
            plan.extend(&why, &tests, &legs);
            prop_assert_eq!(&plan.legs[..before.len()], &before[..]);
            let once = plan.clone();
            plan.extend(&why, &tests, &legs);
            prop_assert_eq!(&plan, &once);
        }
        for test in plan.tests.clone() {
            let legs = repeat(&plan, &spec, test.id).unwrap();
            prop_assert_eq!(legs.len(), plan.legs.iter().filter(|l| l.test == test.id && l.run == 1).count());
            plan.extend(&Extension::Repeated { test: test.id, relative_half_width: None }, &[], &legs);
            prop_assert_eq!(plan.test(test.id).unwrap().runs, test.runs + 1);
        }
        prop_assert!(plan.later.is_empty());
        prop_assert!(plan.tests.windows(2).all(|pair| pair[0].id < pair[1].id));
        let names: std::collections::BTreeSet<&str> = plan.legs.iter().map(|l| l.run_id.as_str()).collect();
        prop_assert_eq!(names.len(), plan.legs.len());
        let labels: std::collections::BTreeSet<&str> = plan.tests.iter().map(|t| t.label.as_str()).collect();
        prop_assert_eq!(labels.len(), plan.tests.len());
        for test in &plan.tests {
            for run in 1..=test.runs {
                let solo = plan.solo_legs(test.id, run);
                prop_assert_eq!(solo.len(), test.agents.len());
                prop_assert!(solo.iter().all(|(_, leg)| leg.is_some()));
            }
        }
    }
}
