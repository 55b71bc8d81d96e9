use super::*;
use chimera_domain::spec::FlagSpec;
use clap::CommandFactory as _;

fn bench(arguments: &[&str]) -> BenchArgs {
    let cli = Cli::try_parse_from([&["chimera", "bench"], arguments].concat()).unwrap();
    match cli.command {
        Command::Bench(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_sound_and_every_command_shows_examples() {
    let command = Cli::command();
    command.clone().debug_assert();
    for sub in command.get_subcommands() {
        let help = sub
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(help.starts_with("Examples:"), "{}", sub.get_name());
        assert!(sub.get_about().is_some(), "{}", sub.get_name());
        // clap would take the one for the other, and panic where their types differ.
        for global in command.get_arguments().filter(|arg| arg.is_global_set()) {
            let twin = sub
                .get_arguments()
                .find(|arg| arg.get_id() == global.get_id());
            assert!(twin.is_none(), "{}: {}", sub.get_name(), global.get_id());
        }
    }
}

#[test]
fn a_spec_and_options_that_describe_one_are_refused_by_name() {
    let error = bench(&["a.toml", "--quick", "--agents", "3"])
        .check()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "--quick, --agents cannot be combined with a spec file: write it into a.toml, or leave \
         the file out"
    );
    bench(&["a.toml", "--out", "results"]).check().unwrap();
    bench(&["--quick", "--agents", "3"]).check().unwrap();
}

#[test]
fn every_option_reaches_the_spec() {
    let args = [
        "--engine",
        "ollama",
        "--instance",
        "http://a",
        "--instance",
        "http://b",
        "--model",
        "m",
        "--agents",
        "2",
        "--runs",
        "3",
        "--num-ctx",
        "4",
        "--num-gpu",
        "5",
        "--num-thread",
        "6",
        "--num-predict",
        "7",
        "--temperature",
        "-0.5",
        "--seed",
        "8",
        "--data",
        "d",
        "--name",
        "n",
    ];
    let args = bench(&args);
    assert_eq!(args.flags.given().len(), 13);
    let want = FlagSpec {
        engine: Some(EngineKind::Ollama),
        instances: vec!["http://a".to_owned(), "http://b".to_owned()],
        model: Some("m".to_owned()),
        agents: Some(2),
        runs: Some(3),
        num_ctx: Some(4),
        num_gpu: Some(5),
        num_thread: Some(6),
        num_predict: Some(7),
        temperature: Some(-0.5),
        seed: Some(8),
        data: Some("d".to_owned()),
        name: Some("n".to_owned()),
    };
    assert_eq!(args.flags.spec(), want);
}
