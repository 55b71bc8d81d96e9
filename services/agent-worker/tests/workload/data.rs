//! Files to aggregates.

use std::fs;
use std::path::{Path, PathBuf};

use agent_worker::workload::data::{ColumnValues, MAX_FILES, MAX_ROWS};
use agent_worker::workload::{
    Aggregates, DataError, DataSource, aggregate, ingest, scan, shipped_data, validate_data,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{folder, read, shipped};

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
