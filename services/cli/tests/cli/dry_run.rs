//! What would be done is told on a machine that has nothing to do it with.

use std::path::Path;

use crate::support::{Told, chimera, text};

/// Without engines, weights or a bus: no program can be found.
fn bare(arguments: &[&str]) -> Told {
    let mut command = chimera(arguments);
    command.env_clear();
    Told::of(&command.output().unwrap())
}

#[test]
fn every_example_is_told_without_anything_installed() {
    let examples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"));
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "toml") {
            continue;
        }
        let told = bare(&["bench", &text(&path), "--dry-run"]).expect(0);
        assert!(told.err.is_empty(), "{}", told.err);
        let (head, rest) = told.out.split_once('\n').unwrap();
        assert!(head.ends_with(" legs"), "{head}");
        assert!(rest.contains("\nPhase 1: "), "{rest}");
        let json = bare(&["bench", &text(&path), "--dry-run", "--json"])
            .expect(0)
            .json();
        let counts = format!(
            "{}: {} tests, {} runs, {} legs",
            json["name"].as_str().unwrap(),
            json["tests"],
            json["runs"],
            json["legs"]
        );
        assert_eq!(head, counts);
        let opening = std::fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(opening.starts_with("# Question: "), "{file}");
        let command = format!("#   chimera bench examples/{file}");
        assert!(opening.contains(&command), "{file}");
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn what_is_wrong_is_told_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("bad.toml");
    std::fs::write(
        &spec,
        "name = \"x\"\nmodel.name = \"m\"\n[[phase]]\nscenario = \"custom\"\nnum_gpu = \"best\"\n",
    )
    .unwrap();
    let told = bare(&["bench", &text(&spec), "--dry-run"]).expect(64);
    assert!(
        told.err
            .contains("line 5: phase[0].num_gpu: best of which phase, by which metric?"),
        "{}",
        told.err
    );
    for with in [&["--quick"][..], &["--resume", "somewhere"]] {
        let arguments = [&["bench", "x.toml", "--dry-run"], with].concat();
        bare(&arguments).expect(64);
    }
    let quick = bare(&["bench", "--quick", "--dry-run", "--runs", "2"]).expect(0);
    assert!(
        quick.out.starts_with("quick: 2 tests, 4 runs, 12 legs\n"),
        "{}",
        quick.out
    );
}
