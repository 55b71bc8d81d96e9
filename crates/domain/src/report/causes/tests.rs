use serde_json::{Value, json};

use super::*;

fn run(number: u32, attribution: Value) -> RunReport {
    let run = json!({
        "run": number, "valid": true, "invalid": [], "gain_provenance": "measured",
        "agents": [], "legs": [], "attribution": attribution,
    });
    serde_json::from_value(run).unwrap()
}

fn finding(cause: &str, grade: &str, agents: &[&str], cost: Option<f64>) -> Value {
    json!({
        "cause": cause, "grade": grade, "agents": agents, "cost_ms": cost,
        "evidence": [], "sentence": format!("{cause} {cost:?}"), "settle": null,
    })
}

fn time(agent: &str, decode: f64, queue: Option<f64>) -> Value {
    json!({
        "agent": agent, "start_ms": 0.0, "local_ms": 10.0, "think_ms": 0.0, "closing_ms": 0.0,
        "idle_tail_ms": 0.0, "harness_ms": 0.0, "residual_ms": 0.0,
        "requests": {"decode_ms": decode, "queue_ms": queue, "unsplit_ms": 0.0},
    })
}

fn attribution(slow: Option<bool>, tr110: Option<bool>, causes: &[Value]) -> Value {
    json!({
        "leg": "t001-r001-together", "decomposition": null, "requests": [], "slow": slow,
        "excess": [], "causes": causes, "tr110_contention": tr110,
    })
}

#[test]
fn the_cause_of_most_runs_comes_first_and_its_best_run_speaks() {
    let runs = [
        run(
            1,
            attribution(
                Some(true),
                Some(false),
                &[
                    finding("reload", "supported", &["b"], Some(9_000.0)),
                    finding("compute_contention", "consistent", &["a"], Some(900.0)),
                ],
            ),
        ),
        run(
            2,
            attribution(
                Some(true),
                Some(true),
                &[finding(
                    "compute_contention",
                    "supported",
                    &["b"],
                    Some(100.0),
                )],
            ),
        ),
        run(
            3,
            attribution(
                Some(true),
                None,
                &[
                    finding("compute_contention", "supported", &["a"], Some(200.0)),
                    finding("network", "not_tested", &[], None),
                ],
            ),
        ),
    ];
    let found = causes(&runs);
    let order: Vec<&str> = found.iter().map(|cause| cause.cause.as_str()).collect();
    assert_eq!(order, ["compute_contention", "reload", "network"]);
    let compute = &found[0];
    assert_eq!(compute.grade, Grade::Supported);
    assert_eq!((compute.runs_supported, compute.runs_consistent), (2, 1));
    assert_eq!((compute.runs_named(), compute.runs), (3, 3));
    // The better grade before the larger cost, then the larger cost.
    assert_eq!(compute.run, 3);
    assert_eq!(compute.sentence, "compute_contention Some(200.0)");
    assert_eq!(compute.cost_ms, Some(400.0));
    let agents: Vec<&str> = compute.agents.iter().map(AgentId::as_str).collect();
    assert_eq!(agents, ["a", "b"]);
    assert_eq!(found[2].runs_not_tested, 1);
    assert!(!found[2].is_named());
    let slow = slow(&runs).unwrap();
    assert_eq!((slow.runs_compared, slow.runs_slow), (3, 3));
    assert_eq!((slow.runs_tr110, slow.runs_tr110_contended), (2, 1));
}

#[test]
fn a_cause_that_struck_everybody_once_names_no_agents() {
    let runs = [
        run(
            1,
            attribution(
                Some(true),
                None,
                &[finding("host_cpu", "supported", &[], None)],
            ),
        ),
        run(
            2,
            attribution(
                Some(true),
                None,
                &[finding("host_cpu", "supported", &["a"], None)],
            ),
        ),
    ];
    let found = causes(&runs);
    assert!(found[0].agents.is_empty());
    assert_eq!(found[0].cost_ms, None);
}

#[test]
fn mean_parts_sum_to_the_mean_wall_even_where_one_run_could_not_tell_them_apart() {
    let with = |decode: f64, queue: Option<f64>| {
        let mut found = attribution(Some(false), None, &[]);
        let wall = decode + queue.unwrap_or(0.0) + 10.0;
        found["decomposition"] = json!({
            "wall_ms": wall, "overlap_ms": 0.0, "idle_tail_ms": 0.0, "barrier_ms": 0.0,
            "agents": [time("a", decode, queue)], "residual_share": 0.0,
        });
        found["excess"] = json!([{
            "agent": "a", "part": "decode", "together_ms": decode, "usual_ms": 80.0,
            "usual_sd_ms": null, "usual_n": 1, "excess_ms": decode - 80.0, "p": null,
            "beyond_chance": false,
        }]);
        found
    };
    let runs = [run(1, with(100.0, Some(30.0))), run(2, with(90.0, None))];
    let found = times(&runs);
    assert_eq!(found.len(), 1);
    let own = &found[0];
    assert_eq!(own.runs, 2);
    assert!((own.wall_ms - 120.0).abs() < 1e-9);
    assert_eq!(own.together.requests.queue_ms, Some(15.0));
    assert_eq!(own.together.requests.load_ms, None);
    let sum = own.together.requests.total_ms() + own.together.local_ms;
    assert!((sum - own.wall_ms).abs() < 1e-9);
    assert_eq!(own.alone.decode_ms, Some(80.0));
    assert!(own.has_alone());
}

#[test]
fn a_test_without_attribution_says_nothing() {
    let run = run(1, Value::Null);
    assert_eq!(slow(std::slice::from_ref(&run)), None);
    assert!(causes(std::slice::from_ref(&run)).is_empty());
    assert!(times(&[run]).is_empty());
}
