//! What a plan holds for any spec: every leg once, every name unique, the order the seed's.

mod chosen;
mod study;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::options::EngineKind;
use crate::spec::{self, FlagSpec, SpecFormat, ValidSpec};

fn spec(text: &str) -> ValidSpec {
    spec::parse(text, SpecFormat::Toml)
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
        .with_engine(EngineKind::Openai)
}

fn plan(text: &str) -> Plan {
    build(&spec(text)).unwrap()
}

/// A spec with this phase.
fn phase(lines: &str) -> String {
    format!("name = \"x\"\nmodel.name = \"m\"\n[[phase]]\n{lines}\n")
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.legs.iter().map(|l| l.run_id.as_str()).collect()
}

#[test]
fn the_engine_must_be_known() {
    let open = spec::parse(&phase("scenario = \"custom\""), SpecFormat::Toml).unwrap();
    assert_eq!(build(&open), Err(PlanError::EngineOpen));
    let settled = open
        .with_engine(EngineKind::Ollama)
        .with_engine(EngineKind::Openai);
    assert_eq!(
        build(&settled).unwrap().tests[0].agents[0].engine,
        EngineKind::Ollama
    );
}

#[test]
fn fixed_order_runs_solo_legs_first_and_interleaves_the_tests() {
    let plan = plan(&phase(
        "scenario = \"custom\"\nruns = 2\norder = \"fixed\"\nnum_ctx = [512, 1024]",
    ));
    let block = |t: u32, r: u32| {
        ["solo-collector", "solo-insight", "together"].map(|what| format!("t{t}-r{r}-{what}"))
    };
    let expected = [block(1, 1), block(2, 1), block(1, 2), block(2, 2)].concat();
    assert_eq!(ids(&plan), expected);
}

#[test]
fn the_order_of_an_experiment_is_that_of_its_seed_for_ever() {
    // Stated in full: if this changes, repeating an old experiment gives another one.
    let text = phase("scenario = \"custom\"\nruns = 2\nnum_ctx = [512, 1024]");
    let expected = [
        "t2-r1-together",
        "t2-r1-solo-insight",
        "t2-r1-solo-collector",
        "t1-r1-solo-insight",
        "t1-r1-solo-collector",
        "t1-r1-together",
        "t2-r2-together",
        "t2-r2-solo-insight",
        "t2-r2-solo-collector",
        "t1-r2-solo-insight",
        "t1-r2-solo-collector",
        "t1-r2-together",
    ];
    assert_eq!(ids(&plan(&text)), expected);
    let other = format!("seed = 43\n{text}");
    assert_ne!(ids(&plan(&other)), expected);
}

#[test]
fn a_further_phase_leaves_the_order_of_the_first() {
    let one = phase("scenario = \"custom\"\nruns = 5\nnum_ctx = [512, 1024]");
    let two = format!("{one}[[phase]]\nscenario = \"custom\"\n");
    let (one, two) = (plan(&one), plan(&two));
    assert_eq!(two.legs[..one.legs.len()], one.legs);
    assert_eq!(
        two.tests
            .iter()
            .map(|t| (t.id, t.phase))
            .collect::<Vec<_>>(),
        [(1, 1), (2, 1), (100, 2)]
    );
}

#[test]
fn tr110s_first_phase_has_its_eighteen_tests_in_its_order() {
    let plan = plan(&phase(
        "scenario = [\"baseline_vs_chimera\", \"chimera_hetero\", \"chimera_homo\"]\nruns = 5\n\
         num_gpu = [60, 80, 120]\nnum_ctx = [512, 1024]\ntemperature = 0.8\n\
         [phase.hetero]\nnum_gpu = 80\nnum_ctx = 2048",
    ));
    assert_eq!(
        plan.tests.iter().map(|t| t.id).collect::<Vec<_>>(),
        (1..=18).collect::<Vec<_>>()
    );
    assert_eq!(plan.legs.len(), 18 * 5 * 3);
    let options = |id: u32, agent: usize| {
        let options = &plan.test(id).unwrap().agents[agent].options;
        (options.num_gpu, options.num_ctx, options.temperature)
    };
    let label = |id: u32| plan.test(id).unwrap().label.as_str();
    assert_eq!(label(1), "baseline_vs_chimera num_gpu=60 num_ctx=512");
    assert_eq!(
        (options(1, 0), options(1, 1)),
        ((None, 2048, 0.0), (Some(60), 512, 0.8))
    );
    assert_eq!(label(8), "chimera_hetero num_gpu=60 num_ctx=1024");
    assert_eq!(
        (options(8, 0), options(8, 1)),
        ((Some(60), 1024, 0.8), (Some(80), 2048, 0.8))
    );
    assert_eq!(label(18), "chimera_homo num_gpu=120 num_ctx=1024");
    assert_eq!(
        (options(18, 0), options(18, 1)),
        ((Some(120), 1024, 0.8), (Some(120), 1024, 0.8))
    );
}

#[test]
fn the_baseline_agent_writes_as_much_as_the_other_unless_told_otherwise() {
    let text = phase("scenario = \"baseline_vs_chimera\"\nnum_predict = 40\nnum_thread = 2");
    let budget = |plan: &Plan| {
        plan.tests[0]
            .agents
            .iter()
            .map(|a| a.options.num_predict)
            .collect::<Vec<_>>()
    };
    let plain = plan(&text);
    assert_eq!(budget(&plain), [40, 40]);
    assert_eq!(plain.tests[0].agents[0].options.num_thread, None);
    let told = plan(&format!(
        "{text}[baseline]\nnum_predict = 10\nnum_thread = 1\n"
    ));
    assert_eq!(budget(&told), [10, 40]);
    assert_eq!(told.tests[0].agents[0].options.num_thread, Some(1));
}

#[test]
fn agents_take_their_roles_in_turn_and_their_instances_in_order() {
    let urls: Vec<String> = (1..=5).map(|i| format!("\"http://h:{i}\"")).collect();
    let text = format!(
        "backend.instances = [{}]\n{}",
        urls.join(","),
        phase("scenario = \"custom\"\nagents = 5")
    );
    let agents = plan(&text).tests.remove(0).agents;
    let names: Vec<_> = agents
        .iter()
        .map(|a| (a.id.as_str(), a.role.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("collector", "collector"),
            ("insight", "insight"),
            ("collector-2", "collector"),
            ("insight-2", "insight"),
            ("collector-3", "collector")
        ]
    );
    assert!(
        agents
            .iter()
            .zip(1..)
            .all(|(a, i)| a.instance == Some(format!("http://h:{i}")))
    );
}

#[test]
fn an_agent_that_names_an_instance_gets_it_and_the_others_share_the_rest() {
    let text = format!(
        "backend.instances = [\"http://a\", \"http://b\", \"http://c\"]\n{}",
        phase(
            "scenario = \"custom\"\n[[phase.agent]]\n[[phase.agent]]\ninstance = \"http://a\"\nmodel = \"big\"\n[[phase.agent]]"
        )
    );
    let agents = plan(&text).tests.remove(0).agents;
    let got: Vec<_> = agents
        .iter()
        .map(|a| (a.instance.as_deref().unwrap(), a.model.as_str()))
        .collect();
    assert_eq!(
        got,
        [("http://b", "m"), ("http://a", "big"), ("http://c", "m")]
    );
}

#[test]
fn alike_agents_share_a_solo_leg_only_when_allowed() {
    let text = phase("scenario = \"custom\"\nagents = 4\nruns = 1\norder = \"fixed\"");
    assert_eq!(plan(&text).legs.len(), 5);
    let shared = plan(&format!("solo.share_identical = true\n{text}"));
    assert_eq!(
        ids(&shared),
        [
            "t1-r1-solo-collector",
            "t1-r1-solo-insight",
            "t1-r1-together"
        ]
    );
    let compared: Vec<(&str, String, bool)> = shared
        .solo_legs(1, 1)
        .into_iter()
        .map(|(agent, leg)| (agent.id.as_str(), leg.unwrap()))
        .map(|(agent, leg)| (agent, leg.run_id.to_string(), leg.shared))
        .collect();
    let (c, i) = (
        "t1-r1-solo-collector".to_owned(),
        "t1-r1-solo-insight".to_owned(),
    );
    assert_eq!(
        compared,
        [
            ("collector", c.clone(), false),
            ("insight", i.clone(), false),
            ("collector-2", c, true),
            ("insight-2", i, true)
        ]
    );
    let none = plan(&format!("solo.enabled = false\n{text}"));
    assert_eq!(ids(&none), ["t1-r1-together"]);
    assert!(none.solo_legs(1, 1).iter().all(|(_, leg)| leg.is_none()));
    assert!(none.solo_legs(1, 9).iter().all(|(_, leg)| leg.is_none()));
    assert!(none.solo_legs(2, 1).is_empty());
}

#[test]
fn a_digest_is_asked_of_the_model_that_states_it() {
    let digest = "AB".repeat(32);
    let text = phase("scenario = \"custom\"").replace(
        "model.name = \"m\"",
        &format!("model = {{ name = \"m\", digest = \"sha256:{digest}\" }}"),
    );
    assert_eq!(
        plan(&text).model_digests.get("m"),
        Some(&digest.to_lowercase())
    );
}

#[test]
fn labels_are_those_given_or_what_varies() {
    let labels = |lines: &str| -> Vec<String> {
        plan(&phase(&format!("scenario = \"custom\"\n{lines}")))
            .tests
            .into_iter()
            .map(|t| t.label)
            .collect()
    };
    assert_eq!(labels(""), ["custom"]);
    assert_eq!(labels("label = \"a\"\nnum_ctx = 512"), ["a"]);
    assert_eq!(
        labels("label = \"a\"\ntemperature = [0, 0.5]"),
        ["a: temperature=0.0", "a: temperature=0.5"]
    );
    assert_eq!(
        labels("label = [\"a\", \"b\"]\nnum_gpu = [0, 99]"),
        ["a", "b"]
    );
}

#[test]
fn a_large_experiment_unfolds() {
    let axis = |n: u32| {
        (1..=n)
            .map(|v| v.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let text = phase(&format!(
        "scenario = \"custom\"\nagents = 19\nruns = 1\nfirst_test_id = 1000000\n\
         num_gpu = [{}]\ntop_k = [{}]\n[[phase]]\nscenario = \"custom\"\nruns = 10",
        axis(50),
        axis(50)
    ));
    let plan = plan(&text);
    assert_eq!(plan.legs.len(), 2_500 * 20 + 30);
    assert_eq!(plan.tests.last().unwrap().id, 1_002_500);
}

fn any_spec() -> impl Strategy<Value = (String, u32)> {
    let axis = prop::collection::btree_set(1_u32..900, 1..4);
    (
        1_u32..=8,
        1_u32..=6,
        axis,
        0_u32..1_000,
        any::<(bool, bool)>(),
    )
        .prop_map(|(agents, runs, gpus, seed, (share, fixed))| {
            let gpus: Vec<String> = gpus.iter().map(ToString::to_string).collect();
            let order = if fixed { "fixed" } else { "randomized" };
            let text = format!(
                "name = \"x\"\nseed = {seed}\nmodel.name = \"m\"\nsolo.share_identical = {share}\n\
                 [[phase]]\nscenario = \"custom\"\nagents = {agents}\nruns = {runs}\n\
                 order = \"{order}\"\nnum_gpu = [{}]\n",
                gpus.join(", ")
            );
            (text, seed)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_has_one_together_leg_and_a_solo_leg_for_each_agent((text, _) in any_spec()) {
        let plan = plan(&text);
        let names: BTreeSet<&str> = ids(&plan).into_iter().collect();
        prop_assert_eq!(names.len(), plan.legs.len());
        let mut together: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for leg in &plan.legs {
            *together.entry((leg.test, leg.run)).or_default() += u32::from(leg.kind == LegKind::Together);
        }
        for test in &plan.tests {
            for run in 1..=test.runs {
                prop_assert_eq!(together.remove(&(test.id, run)), Some(1));
                let solo = plan.solo_legs(test.id, run);
                prop_assert_eq!(solo.len(), test.agents.len());
                for (agent, leg) in solo {
                    let leg = leg.unwrap();
                    let planned = plan.legs.iter().find(|l| l.run_id == leg.run_id).unwrap();
                    prop_assert_eq!((planned.test, planned.run), (test.id, run));
                    let LegKind::Solo { agent: measured } = &planned.kind else { panic!("solo") };
                    let measured = test.agents.iter().find(|a| a.id == *measured).unwrap();
                    prop_assert!(measured.is_like(agent));
                    prop_assert_eq!(leg.shared, measured.id != agent.id);
                }
            }
        }
        prop_assert!(together.is_empty());
    }

    #[test]
    fn legs_of_a_run_stay_together_and_rounds_follow_each_other((text, _) in any_spec()) {
        let plan = plan(&text);
        let mut blocks: Vec<(u32, u32)> = plan.legs.iter().map(|l| (l.test, l.run)).collect();
        blocks.dedup();
        let distinct: BTreeSet<_> = blocks.iter().collect();
        prop_assert_eq!(distinct.len(), blocks.len());
        prop_assert!(blocks.is_sorted_by_key(|(_, run)| *run));
    }

    #[test]
    fn a_seed_gives_one_order((text, _) in any_spec()) {
        prop_assert_eq!(plan(&text), plan(&text));
    }

    #[test]
    fn flags_give_plans_too(agents in 1_u64..=64, runs in 1_u64..=20) {
        let flags = FlagSpec {
            engine: Some(EngineKind::Openai),
            model: Some("m".to_owned()),
            agents: Some(agents),
            runs: Some(runs),
            ..FlagSpec::default()
        };
        let plan = build(&flags.to_valid().unwrap()).unwrap();
        prop_assert_eq!(plan.legs.len() as u64, runs * (agents + 1));
        prop_assert_eq!(plan.tests[0].agents.len() as u64, agents);
    }
}

#[test]
fn seeds_give_different_orders() {
    let text = |seed: u32| {
        format!(
            "seed = {seed}\n{}",
            phase("scenario = \"custom\"\nruns = 3\nnum_ctx = [512, 1024]")
        )
    };
    let orders: BTreeSet<Vec<String>> = (0..50)
        .map(|seed| {
            ids(&plan(&text(seed)))
                .into_iter()
                .map(str::to_owned)
                .collect()
        })
        .collect();
    // 18 legs have (2! * 3! * 3!)^3 orders.
    assert!(orders.len() >= 49, "{}", orders.len());
}
