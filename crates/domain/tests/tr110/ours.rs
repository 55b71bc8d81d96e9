//! TR110's tables and the playbook of our own runs: any scenario, any number of agents.

use chimera_domain::advise::{self, Goal, Playbook};
use chimera_domain::plan::PlannedTest;
use chimera_domain::report::Report;
use chimera_domain::spec;
use chimera_domain::stats::Provenance;
use chimera_domain::tables::{self, Cell};

use crate::round_trip::world::{MS, Pace, World, planned_test};
use crate::support::{row, table};

const TWO: [&str; 2] = ["collector", "insight"];

fn planned(
    id: u32,
    scenario: &str,
    agents: &[&str],
    change: impl Fn(&mut PlannedTest),
) -> PlannedTest {
    let mut test = planned_test(id, agents, 3);
    test.scenario = scenario.to_owned();
    for agent in &mut test.agents {
        agent.options.num_gpu = Some(20);
    }
    change(&mut test);
    test
}

/// A study of all scenarios; each test is run at its own pace: (alone, together) time per token, ms.
fn study() -> Report {
    let mut tests = vec![
        planned(1, "chimera_homo", &TWO, |_| {}),
        planned(2, "chimera_homo", &TWO, |test| {
            test.agents
                .iter_mut()
                .for_each(|agent| agent.options.num_ctx = 4096);
        }),
        planned(3, "chimera_homo", &TWO, |test| {
            test.agents
                .iter_mut()
                .for_each(|agent| agent.options.temperature = 0.8);
        }),
        planned(4, "chimera_hetero", &TWO, |test| {
            test.agents[1].options.num_gpu = Some(40)
        }),
        planned(5, "baseline_vs_chimera", &TWO, |test| {
            test.agents[0].options.num_gpu = None
        }),
        planned(6, "custom", &["a", "b", "c"], |_| {}),
        planned(7, "custom", &["a"], |_| {}),
    ];
    tests[0].label = "the \"first\"\n# of them".to_owned();
    let mut world = World::new(tests);
    let paces = [
        (10, 11),
        (10, 30),
        (10, 12),
        (10, 13),
        (10, 14),
        (10, 15),
        (10, 10),
    ];
    for run in 1..=3 {
        for (id, (alone, together)) in (1..).zip(paces) {
            let count = world.test(id).agents.len();
            // A little noise, so that intervals have a width.
            let pace = |gap: u64| Pace::new((100 + u64::from(run)) * MS, gap * MS, 40);
            let (solo, among) = (vec![pace(alone); count], vec![pace(together); count]);
            world.run(id, run, &solo, &among);
        }
    }
    world.close();
    world.report()
}

#[test]
fn every_table_is_there_once_and_sound() {
    for report in [study(), World::new(vec![planned_test(1, &TWO, 2)]).report()] {
        let tables = tables::all(&report);
        let mut ids: Vec<&str> = tables.iter().map(|table| table.id.as_str()).collect();
        for id in [
            "3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "5.1", "5.2", "5.3", "6.1", "6.2", "6.3",
            "6.4", "6.5", "7.1", "C.2", "D.1", "D.2", "D.3",
        ] {
            assert!(ids.contains(&id), "{id}");
        }
        ids.dedup();
        assert_eq!(ids.len(), tables.len());
        for table in &tables {
            assert_eq!(table.rows.is_empty(), table.empty.is_some(), "{}", table.id);
            assert!(!table.note.is_empty() && !table.title.is_empty());
            for row in &table.rows {
                assert_eq!(row.len(), table.columns.len(), "{}: {row:?}", table.id);
                for cell in row {
                    if let Cell::Number {
                        value,
                        provenance,
                        reason,
                        ..
                    } = cell
                    {
                        let absent = *provenance == Provenance::NotMeasured;
                        assert_eq!(value.is_none(), absent, "{}: {cell:?}", table.id);
                        assert!(
                            value.is_some() || reason.is_some(),
                            "{}: {cell:?}",
                            table.id
                        );
                    }
                }
            }
        }
        let json = serde_json::to_string(&tables).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<tables::Table>>(&json).unwrap(),
            tables
        );
    }
}

#[test]
fn our_figures_stand_beside_tr110s() {
    let report = study();
    let homo = table(&report, "3.3");
    let name = |id: &str| {
        let test = report.tests.iter().find(|test| test.id == id).unwrap();
        format!("{id}: {}", test.label)
    };
    // 3 x slower together: TR110 sees two agents that are equally long.
    let slow = row(&homo, &name("2"));
    assert_eq!((slow[4].as_str(), slow[5].as_str()), ("2.000", "100.0 %"));
    assert_eq!(slow[8], "0/3 (0 %)");
    assert!(slow[9].starts_with("0.8"), "{slow:?}");
    let contention = row(&table(&report, "4.1"), "chimera_homo");
    assert_eq!(
        (contention[2].as_str(), contention[4].as_str()),
        ("0/9 (0 %)", "3/9 (33 %)")
    );
    let context = table(&report, "6.3");
    assert_eq!(context.rows.len(), 2);
    let temperature = table(&report, "5.3");
    assert_eq!(temperature.rows.len(), 2);
    let hypothesis = row(
        &table(&report, "C.2"),
        "chimera_homo, num_gpu 20, num_ctx 4096",
    );
    assert_eq!(
        (hypothesis[5].as_str(), hypothesis[9].as_str()),
        ("rejected", "not rejected")
    );
    let hidden = report
        .findings
        .iter()
        .find(|finding| finding.id == "hidden_loss")
        .unwrap();
    assert!(
        hidden.sentence.contains("In 1 of 6 tests"),
        "{}",
        hidden.sentence
    );
    let three = row(&table(&report, "3.x"), &name("6"));
    assert!(
        three[4] == "3.000" && three[9].starts_with("2."),
        "{three:?}"
    );
    // Three estimates of distinct demands, nothing measured.
    assert_eq!(table(&report, "4.3").rows.len(), 4);
    assert!(row(&table(&report, "4.3"), "20")[5] == "-");
}

fn recipe(playbook: &Playbook, goal: Goal) -> &advise::Recipe {
    playbook
        .recipes
        .iter()
        .find(|recipe| recipe.goal == goal)
        .unwrap()
}

#[test]
fn advice_picks_what_was_measured_and_says_what_was_not() {
    let report = study();
    let playbook = advise::playbook(&report);
    let picked = |goal| {
        recipe(&playbook, goal)
            .pick
            .as_ref()
            .map(|pick| pick.test.as_str())
    };
    assert_eq!(picked(Goal::Throughput), Some("6"));
    assert_eq!(picked(Goal::Mixed), Some("5"));
    assert_eq!(picked(Goal::Heterogeneous), Some("4"));
    let memory = recipe(&playbook, Goal::Memory);
    assert!(memory.pick.is_none());
    assert!(
        memory
            .not_measured
            .as_ref()
            .unwrap()
            .contains("no engine stated memory")
    );
    let mixed = recipe(&playbook, Goal::Mixed).pick.as_ref().unwrap();
    let [low, high] = mixed.gain.ci95.unwrap();
    assert!(low < mixed.gain.value.unwrap() && mixed.gain.value.unwrap() < high);
    assert_eq!((mixed.runner_up.as_ref(), mixed.clear), (None, None));
    let throughput = recipe(&playbook, Goal::Throughput).pick.as_ref().unwrap();
    assert_eq!(throughput.runner_up.as_ref().unwrap().0, "1");
    assert_eq!(throughput.clear, Some(true));
    let yaml = advise::yaml(&playbook);
    assert!(
        yaml.contains("memory_constrained: null  # not measured: "),
        "{yaml}"
    );
    let json = serde_json::to_string(&playbook).unwrap();
    let back: Playbook = serde_json::from_str(&json).unwrap();
    assert_eq!(back.recipes.len(), 5);
}

#[test]
fn advice_pastes_into_a_spec() {
    let report = study();
    let playbook = advise::playbook(&report);
    let text = advise::toml(&playbook);
    let whole = format!("name = \"advised\"\n\n[model]\nname = \"gemma3:270m\"\n\n{text}");
    let spec = spec::parse(&whole, spec::SpecFormat::Toml)
        .unwrap_or_else(|error| panic!("{error}\n{whole}"));
    assert_eq!(spec.phases().len(), 4);
    assert_eq!(spec.phases()[0].most_agents(), 3);
    // A label cannot leave its place, whatever it holds.
    assert!(!whole.contains("\n# of them\""), "{whole}");
    // The same as JSON.
    for recipe in playbook
        .recipes
        .iter()
        .filter_map(|recipe| recipe.pick.as_ref())
    {
        let mut value = serde_json::to_value(&recipe.phase).unwrap();
        value["name"] = "advised".into();
        value["model"] = serde_json::json!({"name": "gemma3:270m"});
        spec::parse(&value.to_string(), spec::SpecFormat::Json)
            .unwrap_or_else(|error| panic!("{error}\n{value:#}"));
    }
}

/// What a test asks of its agents, as far as a spec says it.
fn asked(test: &PlannedTest) -> impl PartialEq + std::fmt::Debug + use<> {
    let agent = |a: &chimera_domain::plan::PlannedAgent| {
        let mut options = a.options.clone();
        // The seed is the spec's.
        options.seed = 0;
        (
            a.id.clone(),
            a.role.clone(),
            a.model.clone(),
            options,
            a.think_ms,
        )
    };
    let agents: Vec<_> = test.agents.iter().map(agent).collect();
    (test.topology, test.max_concurrent, test.runs, agents)
}

/// Tests as they were planned, one for each way in which a spec can say them; the first is the fastest.
fn placed_tests() -> Vec<Vec<PlannedTest>> {
    let pair = |change: &dyn Fn(&mut PlannedTest), scenario| {
        vec![planned(1, scenario, &TWO, |test| change(test))]
    };
    let shared = |slots| chimera_domain::plan::Topology::Shared { slots };
    let think = |test: &mut PlannedTest, each: [u32; 2]| {
        for (agent, think_ms) in test.agents.iter_mut().zip(each) {
            agent.think_ms = think_ms;
        }
    };
    vec![
        pair(&|test| test.topology = shared(2), "chimera_homo"),
        pair(&|test| test.topology = shared(1), "custom"),
        pair(&|test| think(test, [250, 250]), "chimera_homo"),
        pair(&|test| think(test, [0, 400]), "custom"),
        pair(&|test| think(test, [70, 70]), "baseline_vs_chimera"),
        pair(
            &|test| {
                think(test, [30, 0]);
                test.agents[1].model = "other:1b".to_owned();
                test.agents[1].options.num_predict = 64;
            },
            "chimera_hetero",
        ),
        pair(
            &|test| {
                test.topology = shared(2);
                think(test, [20, 20]);
                test.max_concurrent = 1;
                test.agents[1].options.temperature = 0.7;
            },
            "chimera_hetero",
        ),
        pair(
            &|test| {
                test.agents[0].options.num_gpu = Some(3);
                test.agents[0].options.num_predict = 32;
            },
            "baseline_vs_chimera",
        ),
    ]
}

#[test]
fn what_is_advised_is_what_a_spec_of_it_measures() {
    for tests in placed_tests() {
        let advised = tests[0].clone();
        let model = advised.agents[0].model.clone();
        let mut world = World::new(tests);
        for run in 1..=2 {
            let pace = Pace::new(100 * MS, 10 * MS, 40);
            let paces = [pace.clone(), pace];
            world.run(1, run, &paces, &paces);
        }
        world.close();
        let playbook = advise::playbook(&world.report());
        assert_eq!(playbook.spec_model.as_deref(), Some(model.as_str()));
        let printed = advise::toml(&playbook);
        let whole = format!("name = \"advised\"\nmodel = {{ name = \"{model}\" }}\n{printed}");
        let spec = spec::parse(&whole, spec::SpecFormat::Toml)
            .unwrap_or_else(|error| panic!("{error}\n{whole}"));
        let plan =
            chimera_domain::plan::build(&spec.with_engine(advised.agents[0].engine)).unwrap();
        assert!(plan.tests.len() >= 2, "{whole}");
        for test in &plan.tests {
            assert_eq!(asked(test), asked(&advised), "{whole}");
        }
    }
}

#[test]
fn an_imported_report_advises_without_a_gain() {
    let values: Vec<_> = (1..=3)
        .map(|run| crate::support::metrics(run, [50.0, 60.0], [500.0, 480.0], [42.0, 41.0]))
        .collect();
    let playbook = advise::playbook(&crate::support::of_test_one(&values).unwrap());
    let mixed = recipe(&playbook, Goal::Mixed);
    assert_eq!(mixed.by, "aggregate_tokens_per_s");
    assert_eq!(mixed.pick.as_ref().unwrap().gain.value, None);
    let yaml = advise::yaml(&playbook);
    assert!(
        yaml.contains("concurrency_gain: null  # not measured: no agent was run alone"),
        "{yaml}"
    );
}
