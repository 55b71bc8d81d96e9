//! Topologies, sizes and pauses: what varies beside the options.

use super::study::{faults, round_trip};
use super::*;

#[test]
fn topologies_and_slots() {
    use Placement::{Pinned, Shared};
    let of = |lines: &str| {
        round_trip(&with_phase(lines)).phases()[0]
            .placements()
            .to_vec()
    };
    assert_eq!(of(""), [Pinned]);
    assert_eq!(of("topology = \"shared\""), [Shared(None)]);
    assert_eq!(
        of("topology = [\"pinned\", \"shared\"]\nslots = [2, 1]"),
        [Pinned, Shared(Some(2)), Shared(Some(1))]
    );
    assert_eq!(
        of("topology = [\"shared\", \"pinned\"]\nslots = 64"),
        [Shared(Some(64)), Pinned]
    );
    let cases = [
        ("slots = 2", "no agents of this phase share an instance"),
        ("topology = \"shard\"", "did you mean \"shared\"?"),
        (
            "topology = [\"shared\", \"shared\"]",
            "\"shared\" is listed twice",
        ),
        ("topology = []", "the list has 0 entries"),
        ("topology = \"shared\"\nslots = 0", "allowed: 1 to 64"),
        ("topology = \"shared\"\nslots = 65", "allowed: 1 to 64"),
        ("topology = \"shared\"\nslots = [2, 2]", "2 is listed twice"),
        (
            "[phase.shared]\nnum_thread = 2",
            "no agents of this phase share an instance",
        ),
        (
            "topology = \"shared\"\n[phase.shared]\nnum_thread = \"x2\"",
            "counts from nothing",
        ),
    ];
    faults(&cases, with_phase);
}

#[test]
fn agents_that_share_need_one_instance_and_want_the_same_of_it() {
    let attach = |lines: &str| {
        SMALL.replace(
            "[[phase]]",
            "[backend]\ninstances = [\"http://a\"]\n[[phase]]",
        ) + lines
    };
    let spec = toml(&attach("agents = 8\ntopology = \"shared\"\n")).unwrap();
    assert_eq!((spec.max_agents(), spec.max_instances()), (8, 1));
    let spec = toml(&with_phase(
        "agents = [1, 8]\ntopology = [\"shared\", \"pinned\"]",
    ))
    .unwrap();
    assert_eq!((spec.max_agents(), spec.max_instances()), (8, 8));
    assert!(
        fault(&attach("topology = [\"shared\", \"pinned\"]\n"))
            .contains("2 agents for 1 instances")
    );

    let two = |topology: &str, a: &str, b: &str| {
        SMALL.replace("chimera_homo", "custom").replace(
            "[[phase]]",
            "[backend]\ninstances = [\"http://a\", \"http://b\"]\n[[phase]]",
        ) + &format!("topology = {topology}\n[[phase.agent]]\n{a}\n[[phase.agent]]\n{b}\n")
    };
    let (a, b) = ("instance = \"http://a\"", "instance = \"http://b\"");
    assert!(toml(&two("\"shared\"", a, a)).is_ok());
    assert!(toml(&two("\"shared\"", a, "")).is_ok());
    assert!(toml(&two("\"shared\"", "num_predict = 8", "temperature = 1")).is_ok());
    let both = "[\"shared\", \"pinned\"]";
    assert!(fault(&two("\"shared\"", a, b)).contains("the agents name several instances"));
    assert!(fault(&two(both, a, b)).contains("the agents name several instances"));
    assert!(fault(&two(both, a, a)).contains("two agents are pinned to http://a"));
    let said = fault(&two("\"shared\"", "model = \"big\"", ""));
    assert!(
        said.contains("agents on one instance differ in their model"),
        "{said}"
    );
    let said = fault(&two("\"shared\"", "num_ctx = 512", ""));
    assert!(
        said.contains("agents on one instance differ in num_ctx"),
        "{said}"
    );

    let scenario = |name: &str, lines: &str| SMALL.replace("chimera_homo", name) + lines;
    let shared = "topology = \"shared\"\n";
    assert!(
        toml(&scenario(
            "baseline_vs_chimera",
            &format!("{shared}temperature = 1\n")
        ))
        .is_ok()
    );
    let said = fault(&scenario(
        "baseline_vs_chimera",
        &format!("{shared}num_thread = 1\n"),
    ));
    assert!(said.contains("differ in num_thread"), "{said}");
    let lines = format!("{shared}num_thread = 1\n[baseline]\nnum_thread = 1\n");
    assert!(toml(&scenario("baseline_vs_chimera", &lines)).is_ok());
    let said = fault(&scenario(
        "chimera_hetero",
        &format!("{shared}[phase.hetero]\nnum_ctx = 512\n"),
    ));
    assert!(said.contains("differ in num_ctx"), "{said}");
}

#[test]
fn think_time_and_sizes_are_axes() {
    let spec = round_trip(&with_phase("think_ms = [0, 600000]\nagents = [1, 2, 4]"));
    let phase = &spec.phases()[0];
    assert_eq!(phase.think_ms(), [0, 600_000]);
    assert_eq!(phase.agent_counts(), [1, 2, 4]);
    assert_eq!(phase.test_count(), 6);
    let cases = [
        ("think_ms = 600001", "allowed: 0 to 600000"),
        ("think_ms = [5, 5]", "5 is listed twice"),
        ("think_ms = \"1s\"", "expected a whole number"),
        (
            "agents = [1, 65]",
            "phase[0].agents[1]: 65 is out of bounds",
        ),
        ("agents = [2, 2]", "2 is listed twice"),
        (
            "agents = [1, 2]\nmax_concurrent = 3",
            "3 of 2 agents cannot run at once",
        ),
    ];
    faults(&cases, with_phase);
    let custom = SMALL.replace("chimera_homo", "custom");
    let spec = round_trip(&format!(
        "{custom}[[phase.agent]]\nthink_ms = 7\n[[phase.agent]]\n"
    ));
    let Agents::Listed(list) = spec.phases()[0].agents() else {
        panic!("listed")
    };
    assert_eq!((list[0].think_ms(), list[1].think_ms()), (Some(7), None));
    let said = fault(&format!(
        "{custom}think_ms = 1\n[[phase.agent]]\nthink_ms = 7\n"
    ));
    assert!(said.contains("every agent overrides think_ms"), "{said}");
    let alone = SMALL.replace("chimera_homo", "baseline_vs_chimera") + "agents = [1, 2]\n";
    assert!(fault(&alone).contains("\"baseline_vs_chimera\" has one agent"));
}
