use proptest::prelude::*;

use super::*;

/// Four runs at each number of agents, `spread` of the total to either side.
fn series_of(levels: &[u32], spread: f64, total: impl Fn(f64) -> f64) -> Vec<Point> {
    levels
        .iter()
        .map(|agents| {
            let centre = total(f64::from(*agents));
            Point {
                agents: *agents,
                values: [-1.0, -0.4, 0.4, 1.0]
                    .iter()
                    .map(|at| centre * (1.0 + at * spread))
                    .collect(),
            }
        })
        .collect()
}

/// The value that was measured with `n` agents.
fn at(values: &[f64], n: f64) -> f64 {
    let mut counted = (1_u32..).zip(values);
    *counted
        .find(|(agents, _)| f64::from(*agents) >= n)
        .unwrap()
        .1
}

fn parameter(scaling: &Scaling, law: Law, name: &str) -> f64 {
    let fits = &scaling.fits;
    let fit = fits.iter().find(|fit| fit.law == law).unwrap();
    let mut named = fit.parameters.iter();
    named.find(|p| p.name == name).unwrap().value
}

const EIGHT: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// The laws as their sources write them, apart from the code that is tested: name, parameters, total.
type Truth = (Law, Vec<(&'static str, f64)>, Box<dyn Fn(f64) -> f64>);

fn truths() -> Vec<Truth> {
    vec![
        (
            Law::ClosedQueue,
            vec![("d", 0.005), ("z", 0.012)],
            Box::new(|n| (n / 0.017_f64).min(200.0)),
        ),
        (
            Law::ClosedQueueMva,
            vec![("d", 0.005), ("z", 0.012)],
            // One queue and a delay is the machine repairman: 1/d (1 - probability of an idle server).
            Box::new(|n| {
                let (mut weight, mut sum) = (1.0, 1.0);
                let mut left = n;
                while left > 0.5 {
                    weight *= left * 0.005 / 0.012;
                    sum += weight;
                    left -= 1.0;
                }
                200.0 * (1.0 - 1.0 / sum)
            }),
        ),
        (
            Law::Amdahl,
            vec![("x1", 50.0), ("sigma", 0.3)],
            Box::new(|n| 50.0 * n / (1.0 + 0.3 * (n - 1.0))),
        ),
        (
            Law::Usl,
            vec![("x1", 80.0), ("sigma", 0.1), ("kappa", 0.02)],
            Box::new(|n| 80.0 * n / (1.0 + 0.1 * (n - 1.0) + 0.02 * n * (n - 1.0))),
        ),
        (
            Law::Power,
            vec![("x1", 120.0), ("alpha", 0.65)],
            Box::new(|n| 120.0 * n.powf(0.65)),
        ),
        (
            Law::Exponential,
            vec![("c", 300.0), ("tau", 2.5)],
            Box::new(|n| 300.0 * (1.0 - (-n / 2.5).exp())),
        ),
    ]
}

#[test]
fn every_law_is_found_in_its_own_data() {
    for (law, parameters, total) in truths() {
        // Without scatter, and with runs of two percent.
        for (spread, tolerance) in [(0.0, 1e-4), (0.02, 0.05)] {
            let scaling = fit(&series_of(&EIGHT, spread, &total), Settings::default()).unwrap();
            assert_eq!(scaling.law, law, "{spread}: {:#?}", scaling.fits);
            for (name, truth) in &parameters {
                let got = parameter(&scaling, law, name);
                let off = (got - truth).abs() / truth;
                assert!(off < tolerance, "{law:?} {name}: {got}, not {truth}");
                let fit = scaling.fits.first().unwrap();
                let named = fit.parameters.iter().find(|p| p.name == *name).unwrap();
                let [low, high] = named.ci95.unwrap();
                let slack = 1e-4 * truth;
                assert!(
                    low - slack <= *truth && *truth <= high + slack,
                    "{law:?} {name}"
                );
            }
        }
    }
}

#[test]
fn a_plateau_after_the_second_agent_is_a_closed_queue() {
    // The shape of TR129's llama 1B: 117.8 and 185.3, then flat up to 187.9 tokens per second.
    let means = [117.8, 185.3, 187.0, 187.4, 187.2, 187.8, 187.5, 187.9];
    let points = series_of(&EIGHT, 0.01, |n| at(&means, n));
    let scaling = fit(&points, Settings::default()).unwrap();
    assert_eq!(scaling.law, Law::ClosedQueue);
    let ceiling = scaling.plateau.ceiling.unwrap();
    assert!((ceiling - 187.4).abs() < 1.0, "{ceiling}");
    assert_eq!(scaling.plateau.from_agents, Some(2));
    assert_eq!(
        (scaling.worth.agents, scaling.worth.ci95),
        (2, Some([2, 2]))
    );
    // Amdahl is far off where it matters.
    let amdahl = scaling
        .fits
        .iter()
        .find(|fit| fit.law == Law::Amdahl)
        .unwrap();
    assert!(amdahl.weight < 1e-6, "{amdahl:?}");
    assert!(amdahl.predicted[1] < 0.92 * 185.3);
    assert!(
        scaling.sentence.contains("2 agents are worth running"),
        "{}",
        scaling.sentence
    );
}

#[test]
fn what_an_agent_adds_is_as_uncertain_as_what_one_does_alone() {
    // Two agents do twice as much; the spread of one agent's runs is in the ratio twice over.
    let points = vec![
        Point {
            agents: 1,
            values: vec![9.0, 10.0, 11.0],
        },
        Point {
            agents: 2,
            values: vec![20.0, 20.0, 20.0],
        },
        Point {
            agents: 3,
            values: vec![29.0, 30.0, 31.0],
        },
    ];
    let scaling = fit(&points, Settings::default()).unwrap();
    let second = &scaling.levels[1];
    assert!((second.added.unwrap() - 1.0).abs() < 1e-12);
    // By hand: gradient -20/100 of a mean with error 1/sqrt(3), t(0.9875, 2) = 6.205347
    // (two steps).
    let half = 6.205_347 * 0.2 / 3.0_f64.sqrt();
    let [low, high] = second.added_ci95.unwrap();
    assert!(
        (low - (1.0 - half)).abs() < 1e-5 && (high - (1.0 + half)).abs() < 1e-5,
        "{low} {high}"
    );
}

#[test]
fn gains_that_fall_say_that_one_agent_is_enough() {
    // Two cores, two threads each: together slower than one after the other.
    let points = series_of(&[1, 2, 3, 4], 0.02, |n| at(&[1.0, 0.36, 0.33, 0.31], n));
    let scaling = fit(&points, Settings::default()).unwrap();
    assert_eq!(scaling.worth.agents, 1);
    assert!(scaling.levels[1].added.unwrap() < -0.6);
    assert!(
        scaling.sentence.contains("No agent beyond 1"),
        "{}",
        scaling.sentence
    );
}

#[test]
fn growth_to_the_end_promises_nothing_beyond_it() {
    let scaling = fit(
        &series_of(&[1, 2, 4, 8], 0.01, |n| 30.0 * n.powf(0.9)),
        Settings::default(),
    );
    let scaling = scaling.unwrap();
    assert_eq!((scaling.law, scaling.range), (Law::Power, [1, 8]));
    assert!(scaling.worth.at_end_of_range);
    assert_eq!(
        (scaling.plateau.ceiling, scaling.plateau.from_agents),
        (None, None)
    );
    assert_eq!(scaling.worth.marginal.len(), 7);
}

#[test]
fn too_little_gives_a_reason() {
    let settings = Settings::default();
    let two = series_of(&[1, 2], 0.01, |n| n);
    assert_eq!(fit(&two, settings), Err(NoFit::TooFewLevels(2)));
    let four: Vec<Point> = [1, 2, 3, 4]
        .map(|agents| Point {
            agents,
            values: vec![f64::from(agents)],
        })
        .to_vec();
    assert_eq!(fit(&four, settings), Err(NoFit::TooFewRuns(4)));
    let three = fit(&series_of(&[1, 2, 4], 0.01, |n| n.sqrt()), settings).unwrap();
    assert_eq!(three.skipped.len(), 1);
    assert_eq!(three.skipped[0].law, Law::Usl);
    let bad = [Point {
        agents: 1,
        values: vec![0.0],
    }];
    assert!(matches!(fit(&bad, settings), Err(NoFit::BadValue { .. })));
    let none = [Point {
        agents: 0,
        values: vec![1.0],
    }];
    assert_eq!(fit(&none, settings), Err(NoFit::BadAgents(0)));
}

#[test]
fn one_run_a_level_has_a_fit_and_no_interval() {
    let points: Vec<Point> = (1..=6)
        .map(|agents| Point {
            agents,
            values: vec![100.0 * f64::from(agents).min(2.5)],
        })
        .collect();
    let scaling = fit(&points, Settings::default()).unwrap();
    assert_eq!((scaling.law, scaling.resamples), (Law::ClosedQueue, 0));
    assert_eq!((scaling.worth.agents, scaling.worth.ci95), (3, None));
    assert!(scaling.fits[0].parameters.iter().all(|p| p.ci95.is_none()));
}

#[test]
fn it_stands_in_json_and_returns() {
    let scaling = fit(
        &series_of(&EIGHT, 0.02, |n| n.min(3.3)),
        Settings::default(),
    )
    .unwrap();
    let text = serde_json::to_string(&scaling).unwrap();
    assert_eq!(serde_json::from_str::<Scaling>(&text).unwrap(), scaling);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn the_order_of_the_points_changes_nothing(
        values in prop::collection::vec((1_u32..6, 1.0_f64..100.0), 12..24),
        seed in 0_u64..1000,
    ) {
        let points: Vec<Point> = values
            .iter()
            .map(|(agents, value)| Point { agents: *agents, values: vec![*value] })
            .collect();
        let mut turned = points.clone();
        turned.reverse();
        let settings = Settings { worth: 0.1, seed };
        prop_assert_eq!(fit(&points, settings), fit(&turned, settings));
    }

    #[test]
    fn the_unit_changes_no_choice(scale in 0.001_f64..1000.0, ceiling in 1.5_f64..6.0) {
        let points = series_of(&EIGHT, 0.01, |n| n.min(ceiling));
        let scaled = series_of(&EIGHT, 0.01, |n| scale * n.min(ceiling));
        let (one, other) = (fit(&points, Settings::default()), fit(&scaled, Settings::default()));
        let (one, other) = (one.unwrap(), other.unwrap());
        prop_assert_eq!(one.law, other.law);
        prop_assert_eq!(one.worth.agents, other.worth.agents);
    }
}
