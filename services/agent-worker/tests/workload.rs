//! The workload from outside: data to aggregates, aggregates to prompts, all of it to a report.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use agent_worker::workload::data::{ColumnValues, MAX_FILES, MAX_ROWS};
use agent_worker::workload::prompt::{
    EXCERPT_TOKENS, EXCERPT_WORDS, MAX_PROMPT_TOKENS, NonceSource, excerpt,
};
use agent_worker::workload::tokens::estimate;
use agent_worker::workload::{
    Agent, Aggregates, DataError, DataSource, Nonce, PromptBudget, STEPS, StepKind, TemplateError,
    Templates, aggregate, ingest, scan, shipped_data, validate_data,
};
use chimera_domain::ids::{AgentId, Role, RunId};
use chimera_domain::options::EngineOptions;
use proptest::prelude::*;
use tempfile::TempDir;

const ROLES: [&str; 5] = ["collector", "insight", "critic", "planner", "auditor"];

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn read(dir: &Path) -> Result<Aggregates, DataError> {
    Ok(aggregate(&ingest(&scan(dir)?)?))
}

fn shipped() -> Aggregates {
    aggregate(&ingest(&DataSource::Shipped.files().unwrap()).unwrap())
}

fn nonces(attempt: u32) -> NonceSource {
    NonceSource {
        plan_seed: 42,
        run: RunId::try_new("t1-r1-together").unwrap(),
        attempt,
        agent: AgentId::try_new("collector").unwrap(),
    }
}

fn budget(num_ctx: u32, num_predict: u32) -> PromptBudget {
    PromptBudget::for_options(&EngineOptions {
        num_ctx,
        num_predict,
        ..EngineOptions::default()
    })
}

fn agent<'a>(
    role: &str,
    templates: &'a Templates,
    data: &Aggregates,
    b: PromptBudget,
) -> Agent<'a> {
    Agent::new(Role::try_new(role).unwrap(), templates, data, nonces(1), b)
}

// --- data -----------------------------------------------------------------------------------

#[test]
fn every_bad_input_has_its_message() {
    type Files = &'static [(&'static str, &'static [u8])];
    let cases: &[(&str, Files, &str)] = &[
        (
            "empty folder",
            &[],
            "is empty; put at least one .csv file into it",
        ),
        (
            "no csv",
            &[("notes.txt", b"hi"), (".hidden.csv", b"a\n1\n")],
            "holds no .csv file",
        ),
        (
            "non-utf8",
            &[("a.csv", b"x,y\n1,2\n3,\xff\n")],
            "a.csv: line 3, byte offset 10: not UTF-8 text; save the file as UTF-8",
        ),
        (
            "utf-16",
            &[("a.csv", b"x\0,\0y\0")],
            "a.csv: line 1, byte offset 1: not UTF-8",
        ),
        (
            "ragged",
            &[("a.csv", b"x,y\n1,2\n3\n")],
            "a.csv: line 3: 1 cells where the header has 2",
        ),
        (
            "no header",
            &[("a.csv", b"")],
            "a.csv: the header is missing: the file is empty",
        ),
        (
            "blank",
            &[("a.csv", b"\n\n")],
            "a.csv: the header is missing: the file is empty",
        ),
        (
            "data first",
            &[("a.csv", b"1,2\n3,4\n")],
            "the header is missing: line 1 holds only numbers",
        ),
        (
            "unnamed",
            &[("a.csv", b"x,,z\n1,2,3\n")],
            "column 2 of the header has no name",
        ),
        (
            "duplicate",
            &[("a.csv", b"x, x\n1,2\n")],
            "the header names the column 'x' twice",
        ),
        (
            "semicolons",
            &[("a.csv", b"x;y\n1;2\n")],
            "looks separated by semicolons",
        ),
        (
            "headers only",
            &[("a.csv", b"x\n"), ("b.csv", b"y\n")],
            "the data has no rows",
        ),
    ];
    for (name, files, message) in cases {
        let dir = folder(files);
        let error = read(dir.path()).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
        assert_eq!(
            validate_data(&DataSource::Folder(dir.path().to_owned()))
                .unwrap_err()
                .to_string(),
            error
        );
    }
}

#[test]
fn what_is_no_folder_is_said_so() {
    let dir = folder(&[("a.csv", b"x\n1\n")]);
    assert!(matches!(
        scan(&dir.path().join("a.csv")),
        Err(DataError::NotAFolder { .. })
    ));
    let missing = scan(&dir.path().join("none")).unwrap_err().to_string();
    assert!(
        missing.contains("cannot be read") && missing.contains("name a folder"),
        "{missing}"
    );
}

#[test]
fn a_csv_that_is_no_file_or_leads_out_is_refused() {
    let outside = folder(&[("secret.csv", b"x\n1\n")]);
    let dir = folder(&[("a.csv", b"x\n1\n")]);
    fs::create_dir(dir.path().join("b.csv")).unwrap();
    assert!(matches!(scan(dir.path()), Err(DataError::NotAFile { .. })));
    fs::remove_dir(dir.path().join("b.csv")).unwrap();

    let link = dir.path().join("link.csv");
    std::os::unix::fs::symlink(outside.path().join("secret.csv"), &link).unwrap();
    let error = scan(dir.path()).unwrap_err().to_string();
    assert!(error.contains("leads out of"), "{error}");
    fs::remove_file(&link).unwrap();

    // A link that stays inside is only another name.
    std::os::unix::fs::symlink(dir.path().join("a.csv"), &link).unwrap();
    assert_eq!(scan(dir.path()).unwrap().len(), 2);
}

#[test]
fn bounds_hold() {
    let dir = folder(&[]);
    for i in 0..=MAX_FILES {
        fs::write(dir.path().join(format!("{i}.csv")), "x\n1\n").unwrap();
    }
    assert!(matches!(
        scan(dir.path()),
        Err(DataError::TooManyFiles { .. })
    ));

    let big = folder(&[]);
    let sparse = fs::File::create(big.path().join("a.csv")).unwrap();
    sparse.set_len((64 << 20) + 1).unwrap();
    let error = scan(big.path()).unwrap_err().to_string();
    assert!(
        error.contains("67108865 bytes, more than the 67108864 allowed"),
        "{error}"
    );

    let wide = (0..129)
        .map(|i| format!("c{i}"))
        .collect::<Vec<_>>()
        .join(",");
    let wide = folder(&[("a.csv", wide.as_bytes())]);
    assert!(matches!(
        read(wide.path()),
        Err(DataError::TooManyColumns { columns: 129, .. })
    ));

    let names = |from: usize| {
        (from..from + 100)
            .map(|i| format!("c{i}"))
            .collect::<Vec<_>>()
            .join(",")
            .into_bytes()
    };
    let many = folder(&[
        ("a.csv", &names(0)),
        ("b.csv", &names(100)),
        ("c.csv", &names(200)),
    ]);
    assert!(matches!(
        read(many.path()),
        Err(DataError::TooManyNames { .. })
    ));
}

#[test]
fn a_million_rows_and_no_more() {
    let mut text = String::from("x\n");
    text.push_str(&"7\n".repeat(usize::try_from(MAX_ROWS).unwrap()));
    let dir = folder(&[("a.csv", text.as_bytes())]);
    let aggregates = read(dir.path()).unwrap();
    let ColumnValues::Numeric(x) = &aggregates.columns[0].values else {
        panic!()
    };
    assert_eq!(
        (x.count, x.mean, x.sd, x.median),
        (MAX_ROWS, Some(7.0), Some(0.0), None)
    );
    fs::write(dir.path().join("b.csv"), "x\n1\n").unwrap();
    assert!(matches!(
        read(dir.path()),
        Err(DataError::TooManyRows { .. })
    ));
}

#[test]
fn quotes_blanks_line_ends_and_a_byte_order_mark_are_read() {
    let dir = folder(&[(
        "a.csv",
        "\u{feff}x, y \r\n\"1\",\" a,\nb \"\r\n2,c\r\n".as_bytes(),
    )]);
    let aggregates = read(dir.path()).unwrap();
    assert_eq!(aggregates.rows, 2);
    let names: Vec<&str> = aggregates.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
    assert!(matches!(
        aggregates.columns[0].values,
        ColumnValues::Numeric(_)
    ));
}

#[test]
fn a_column_is_pooled_over_the_files_that_have_it() {
    let dir = folder(&[
        ("a.csv", b"x,y\n1,5\n3,\n"),
        ("b.csv", b"x\n5\n"),
        ("c.csv", b"y\nOOM\n"),
    ]);
    let aggregates = read(dir.path()).unwrap();
    let x = &aggregates.columns[0];
    let ColumnValues::Numeric(numbers) = &x.values else {
        panic!()
    };
    assert_eq!((x.files, numbers.count, numbers.mean), (2, 3, Some(3.0)));
    let y = &aggregates.columns[1];
    assert_eq!((y.files, y.empty), (2, 1));
    let ColumnValues::Text(text) = &y.values else {
        panic!("{y:?}")
    };
    assert_eq!((text.count, text.numeric_cells), (2, 1));
}

#[test]
fn a_data_path_stays_below_its_root() {
    let outside = folder(&[("a.csv", b"x\n1\n")]);
    let root = folder(&[]);
    fs::create_dir(root.path().join("set")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
    assert_eq!(
        DataSource::resolve(Some(root.path()), None).unwrap(),
        DataSource::Shipped
    );
    assert_eq!(
        DataSource::resolve(Some(root.path()), Some("set")).unwrap(),
        DataSource::Folder(root.path().join("set"))
    );
    for bad in ["", "/etc", "../x", "set/../../x", "out"] {
        let error = DataSource::resolve(Some(root.path()), Some(bad)).unwrap_err();
        assert!(matches!(error, DataError::Escapes { .. }), "{bad}: {error}");
    }
    assert!(matches!(
        DataSource::resolve(None, Some("set")),
        Err(DataError::NoRoot { .. })
    ));
    assert!(matches!(
        DataSource::resolve(Some(root.path()), Some("none")),
        Err(DataError::Folder { .. })
    ));
}

// --- shipped data ---------------------------------------------------------------------------

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data")
}

#[test]
fn the_shipped_data_is_the_example_folder() {
    let files = scan(&examples()).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        shipped_data()
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
    );
    assert_eq!(read(&examples()).unwrap(), shipped());
    for (name, text) in shipped_data() {
        let rows = text.lines().count() - 1;
        assert!((40..=120).contains(&rows), "{name}: {rows} rows");
    }
}

#[test]
fn the_shipped_data_comes_out_of_its_script() {
    let dir = folder(&[]);
    let script = examples().join("generate.py");
    let output = match std::process::Command::new("python3")
        .arg(script)
        .arg(dir.path())
        .output()
    {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: python3 cannot be started: {error}");
            return;
        }
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (name, text) in shipped_data() {
        assert_eq!(
            &fs::read_to_string(dir.path().join(name)).unwrap(),
            text,
            "{name}"
        );
    }
}

#[test]
fn aggregates_survive_json() {
    let aggregates = shipped();
    let json = aggregates.to_json().unwrap();
    assert_eq!(
        serde_json::from_str::<Aggregates>(&json).unwrap(),
        aggregates
    );
    insta::assert_snapshot!("aggregates", json);
}

// --- prompts --------------------------------------------------------------------------------

/// What a model might have written, longer than the quote.
fn answer() -> String {
    (1..=EXCERPT_WORDS + 20)
        .map(|i| format!("word{}", i % 10))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn golden_prompts() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    for role in ROLES {
        let agent = agent(role, &templates, &data, budget(2048, 128));
        for step in STEPS {
            let previous = (step == StepKind::Report).then(answer);
            let prompt = agent.prompt(step, previous.as_deref()).unwrap();
            assert_eq!(prompt.note, None, "{role}");
            println!(
                "{role} {}: {} characters, at most {} tokens",
                step.as_str(),
                prompt.content.chars().count(),
                prompt.estimated_tokens
            );
            insta::assert_snapshot!(format!("{role}.{}", step.as_str()), prompt.content);
        }
    }
}

#[test]
fn legs_differ_in_the_nonce_alone() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    let role = || Role::try_new("insight").unwrap();
    let solo = NonceSource {
        run: RunId::try_new("t1-r1-solo-insight").unwrap(),
        ..nonces(1)
    };
    let alone = Agent::new(role(), &templates, &data, solo, budget(2048, 128));
    let together = Agent::new(role(), &templates, &data, nonces(1), budget(2048, 128));
    for step in STEPS {
        let a = alone.prompt(step, Some("the same")).unwrap();
        let b = together.prompt(step, Some("the same")).unwrap();
        assert_ne!(a.content, b.content);
        assert_eq!(a.estimated_tokens, b.estimated_tokens);
        let head = "[session 00000000]\n".len();
        assert!(a.content.starts_with("[session "));
        assert_eq!(&a.content[head..], &b.content[head..]);
    }
}

#[test]
fn nonces_are_eight_digits_and_all_parts_count() {
    let run = |id: &str| RunId::try_new(id).unwrap();
    let who = |id: &str| AgentId::try_new(id).unwrap();
    let base = Nonce::derive(42, &run("r"), 1, &who("a"), StepKind::Analysis);
    // Pinned: a change would make old runs impossible to replay.
    insta::assert_snapshot!(base, @"49930599");
    let others = [
        Nonce::derive(43, &run("r"), 1, &who("a"), StepKind::Analysis),
        Nonce::derive(42, &run("ra"), 1, &who("a"), StepKind::Analysis),
        Nonce::derive(42, &run("r"), 2, &who("a"), StepKind::Analysis),
        Nonce::derive(42, &run("r"), 1, &who("b"), StepKind::Analysis),
        Nonce::derive(42, &run("r"), 1, &who("a"), StepKind::Report),
    ];
    for other in others {
        assert_ne!(other, base);
        assert!(other.as_str().len() == 8 && other.as_str().bytes().all(|b| b.is_ascii_digit()));
    }
}

#[test]
fn a_small_context_costs_rows_and_the_prompt_says_so() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    let mut shorter = usize::MAX;
    for num_ctx in [640, 560, 512, 480, 440] {
        let agent = agent("collector", &templates, &data, budget(num_ctx, 128));
        let prompt = agent.prompt(StepKind::Analysis, None).unwrap();
        assert!(
            prompt.estimated_tokens <= budget(num_ctx, 128).tokens(),
            "{num_ctx}"
        );
        assert!(prompt.content.len() <= shorter);
        shorter = prompt.content.len();
        assert_eq!(
            prompt.note.is_some(),
            prompt.content.contains("left out to fit"),
            "{num_ctx}"
        );
    }
    let agent = agent("collector", &templates, &data, budget(440, 128));
    let prompt = agent.prompt(StepKind::Analysis, None).unwrap();
    insta::assert_snapshot!(
        "trimmed",
        format!("{}\n\nnote: {}", prompt.content, prompt.note.unwrap())
    );
}

#[test]
fn a_context_too_small_for_the_question_is_an_error_with_a_remedy() {
    let templates = Templates::builtin().unwrap();
    let agent = agent("collector", &templates, &shipped(), budget(160, 128));
    let error = agent.prompt(StepKind::Analysis, None).unwrap_err();
    assert!(
        matches!(error, TemplateError::TooLong { budget: 16, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("raise num_ctx or lower num_predict")
    );
    assert_eq!(budget(100, 128).tokens(), 0);
    assert_eq!(budget(1 << 20, 128).tokens(), MAX_PROMPT_TOKENS);
}

#[test]
fn many_columns_are_cut_to_the_bound() {
    let names: Vec<String> = (0..120).map(|i| format!("metric_{i}_ms")).collect();
    let cells: Vec<String> = (0..120).map(|i| format!("{i}.25")).collect();
    let text = format!("{}\n{}\n", names.join(","), cells.join(","));
    let dir = folder(&[("a.csv", text.as_bytes())]);
    let templates = Templates::builtin().unwrap();
    let agent = agent(
        "collector",
        &templates,
        &read(dir.path()).unwrap(),
        budget(32_768, 128),
    );
    let prompt = agent.prompt(StepKind::Analysis, None).unwrap();
    assert!(prompt.estimated_tokens <= MAX_PROMPT_TOKENS);
    assert!(prompt.note.unwrap().contains("columns"));
}

#[test]
fn the_quote_is_bounded_in_words_and_tokens() {
    assert_eq!(excerpt("  a\n\nb  c "), "a b c");
    assert_eq!(
        excerpt(&answer()).split(' ').count(),
        EXCERPT_WORDS.min(excerpt(&answer()).split(' ').count())
    );
    assert_eq!(
        excerpt(&"the ".repeat(500)).split(' ').count(),
        EXCERPT_WORDS
    );
    assert!(estimate(&excerpt(&"0123456789 ".repeat(500))) <= EXCERPT_TOKENS);
    assert_eq!(excerpt(&"9".repeat(10_000)), "");
}

#[test]
fn what_the_model_wrote_changes_no_other_line() {
    let templates = Templates::builtin().unwrap();
    let data = shipped();
    let agent = agent("collector", &templates, &data, budget(700, 128));
    let lines = |previous: &str| -> Vec<String> {
        let prompt = agent.prompt(StepKind::Report, Some(previous)).unwrap();
        let tokens = prompt.estimated_tokens;
        assert!(
            tokens <= budget(700, 128).tokens(),
            "{tokens}: {}",
            prompt.content
        );
        prompt
            .content
            .lines()
            .filter(|l| !l.starts_with("Your analysis"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines("short"), lines(&answer()));
}

// --- user templates -------------------------------------------------------------------------

#[test]
fn a_users_template_wins_and_may_include_ours() {
    let dir = folder(&[
        (
            "collector.analysis.md.j2",
            b"Mine, {{ role }}.\n{% include \"facts.md.j2\" %}",
        ),
        ("auditor.report.md.j2", b"Audit of {{ rows }} rows."),
        ("notes.txt", b"{{ not a template"),
    ]);
    let templates = Templates::with_user_folder(dir.path()).unwrap();
    let data = shipped();
    let of = |role: &str, step| {
        agent(role, &templates, &data, budget(2048, 128))
            .prompt(step, None)
            .unwrap()
            .content
    };
    assert!(of("collector", StepKind::Analysis).contains("Mine, collector.\nData: 264 rows"));
    assert!(of("collector", StepKind::Report).contains("collection report"));
    assert!(of("auditor", StepKind::Report).ends_with("Audit of 264 rows."));
    assert!(of("auditor", StepKind::Analysis).contains("You are the auditor"));
}

#[test]
fn a_users_bad_template_is_named() {
    let load = |text: &[u8]| {
        let dir = folder(&[("x.analysis.md.j2", text)]);
        match Templates::with_user_folder(dir.path()) {
            Err(error) => error.to_string(),
            Ok(templates) => agent("x", &templates, &shipped(), budget(2048, 128))
                .prompt(StepKind::Analysis, None)
                .unwrap_err()
                .to_string(),
        }
    };
    for (text, message) in [
        (&b"{% if %}"[..], "'x.analysis.md.j2' is not valid"),
        (b"{{ typo }}", "'x.analysis.md.j2' cannot be filled"),
        (b"{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}", "cannot be filled"),
        (b"  \n ", "gives an empty prompt"),
        (b"\xff", "cannot be read"),
    ] {
        let error = load(text);
        assert!(error.contains(message), "{error}");
    }
    let large = vec![b'a'; (64 << 10) + 1];
    assert!(load(&large).contains("too large"));
    let missing = Templates::with_user_folder(Path::new("/nonexistent")).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("name a readable folder or none"),
        "{missing}"
    );
}

// --- properties -----------------------------------------------------------------------------

/// Writes the rows as one file per group.
fn table(groups: &[Vec<(f64, String)>]) -> TempDir {
    let dir = folder(&[]);
    for (i, rows) in groups.iter().enumerate() {
        let mut text = String::from("number,word\n");
        for (number, word) in rows {
            text.push_str(&format!("{number},{word}\n"));
        }
        fs::write(dir.path().join(format!("f{i}.csv")), text).unwrap();
    }
    dir
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_order_of_rows_and_files_changes_nothing(
        rows in prop::collection::vec((-1e9..1e9_f64, "[a-c]{0,2}"), 1..40),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut shuffled = rows.clone();
        let turn = seed.index(rows.len());
        shuffled.rotate_left(turn);
        shuffled.reverse();
        let (a, b) = (table(std::slice::from_ref(&rows)), table(&[shuffled]));
        prop_assert_eq!(read(a.path()).unwrap(), read(b.path()).unwrap());

        // The same files handed over in another order.
        let split = turn.clamp(1, rows.len());
        let halves = table(&[rows[..split].to_vec(), rows[split..].to_vec()]);
        let files = scan(halves.path()).unwrap();
        let mut turned = files.clone();
        turned.reverse();
        let one = aggregate(&ingest(&files).unwrap());
        prop_assert_eq!(&one, &aggregate(&ingest(&turned).unwrap()));
        // And however the rows lie in files, the numbers over all of them are the same.
        prop_assert_eq!(
            &one.columns[0].values,
            &read(a.path()).unwrap().columns[0].values
        );
    }

    #[test]
    fn the_mean_and_the_median_lie_within_the_range(
        rows in prop::collection::vec((any::<f64>(), "[a-c]{0,2}"), 1..40),
    ) {
        let dir = table(&[rows]);
        if let ColumnValues::Numeric(s) = &read(dir.path()).unwrap().columns[0].values {
            for value in [s.mean, s.median].into_iter().flatten() {
                prop_assert!(s.min <= value && value <= s.max, "{s:?}");
            }
            prop_assert!(s.sd.is_none_or(|sd| sd >= 0.0));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = folder(&[("a.csv", &bytes)]);
        if let Err(error) = read(dir.path()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
