//! What a person and a program are told about an experiment before it begins.

use super::*;

fn outline(text: &str) -> Outline {
    let spec = spec::parse(text, spec::SpecFormat::Toml).unwrap_or_else(|e| panic!("{e}"));
    Outline::of(&spec).unwrap()
}

#[test]
fn the_study_of_tr110() {
    let outline = outline(include_str!("../../../../examples/tr110.toml"));
    assert_eq!((outline.tests, outline.runs, outline.legs), (30, 150, 450));
    insta::assert_snapshot!(paper::render(&outline));
}

#[test]
fn topologies_and_sizes() {
    insta::assert_snapshot!(paper::render(&outline(include_str!(
        "../../../../examples/topology.toml"
    ))));
    insta::assert_snapshot!(paper::render(&outline(include_str!(
        "../../../../examples/scale.toml"
    ))));
}

#[test]
fn everything_that_can_be_said_is_said() {
    let text = "name = \"all\"\nseed = 7\n[model]\nname = \"m\"\n[backend]\nkind = \"ollama\"\n\
        instances = [\"http://a\", \"http://b\", \"http://c\"]\n[solo]\nenabled = false\n\
        [budget]\nretries_per_leg = 2\nfailures = 3\ncool_down_s = 30\n\
        [[phase]]\nscenario = \"custom\"\nmax_concurrent = 2\nruns = 2\norder = \"fixed\"\n\
        num_thread = 2\n[phase.until]\nmetric = \"wall_s\"\nrelative_half_width = 0.05\n\
        max_runs = 12\n[[phase.agent]]\nrole = \"planner\"\nthink_ms = 250\n[[phase.agent]]\n\
        role = \"critic\"\nmodel = \"big\"\n[[phase.agent]]\ninstance = \"http://a\"\n\
        [[phase]]\nscenario = \"chimera_homo\"\nselect = \"best of previous by wall_s\"\n\
        num_thread = \"best\"\n[gate]\nwall_s = \"< 30 ci\"\n[slo]\nttft_ms = 1500\nitl_ms = 80.5\n";
    insta::assert_snapshot!(paper::render(&outline(text)));
}

#[test]
fn a_program_gets_every_leg_and_no_engine_that_is_not_known() {
    let outline = outline(include_str!("../../../../examples/tr110-reduced.toml"));
    let json = serde_json::to_value(&outline).unwrap();
    assert_eq!(json["engine"], serde_json::Value::Null);
    assert_eq!(json["model"], serde_json::Value::Null);
    assert_eq!(json["order"].as_array().unwrap().len(), 6 * 3 * 3);
    assert_eq!((&json["tests"], &json["runs"]), (&11.into(), &33.into()));
    assert_eq!(json["phases"][1]["waits_for"]["by"], "concurrency_gain");
    let agent = &json["phases"][1]["tests"][1]["agents"][0]["options"];
    assert_eq!(
        (&agent["num_thread"], &agent["num_ctx"]),
        (&"best".into(), &1024.into())
    );
    let agents = &json["phases"][2]["tests"][1]["agents"];
    assert_eq!(agents[0]["options"]["num_ctx"], "best");
    assert_eq!(agents[1]["options"]["num_ctx"], "bestx2");
    let agents = &json["phases"][0]["tests"][2]["agents"];
    assert_eq!(agents[0]["options"]["num_thread"], 1);
    assert_eq!(agents[1]["options"]["num_thread"], 2);
    assert_eq!(agents[1]["options"]["num_ctx"], 1024);
    assert_eq!(agents[1]["model"], serde_json::Value::Null);
}

#[test]
fn flags_are_outlined_too_without_an_engine() {
    let mut args = BenchArgs {
        quick: true,
        ..BenchArgs::default()
    };
    let quick = Outline::of(&from_flags(&args).unwrap()).unwrap();
    assert_eq!((quick.tests, quick.runs, quick.legs), (2, 6, 18));
    args.quick = false;
    args.flags.agents = Some(65);
    let said = from_flags(&args).unwrap_err().to_string();
    assert!(said.starts_with("--agents: 65 is out of bounds"), "{said}");
    args.flags.agents = None;
    args.flags.data = Some("/no/such/folder".to_owned());
    assert!(from_flags(&args).is_err());
}
