//! `import`: what another tool measured, in the form of our own results.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chimera_domain::ids::ExperimentId;
use chimera_domain::render;
use chimera_domain::report::Report;
use chimera_domain::tables::{self, Cell};
use chimera_domain::tr110::{self, About, Fault, ImportError, MAX_FILE_BYTES, RunFile, RunPath};
use chimera_runtime::exit::UsageError;
use chimera_runtime::version;
use sha2::{Digest as _, Sha256};

use crate::args::{ImportArgs, ImportLayout, Tr110Args};
use crate::{history, output, table};

/// Name of the file of a run.
const METRICS: &str = "metrics.json";
/// Most runs of an import: a hundred times TR110.
const MAX_RUNS: usize = 15_000;
/// Digits of the files' hash in the id of an import: enough to tell imports apart.
const ID_DIGITS: usize = 16;
/// Name of an import whose folder has none.
const UNNAMED: &str = "tr110";

/// `chimera import`.
pub(crate) fn run(args: &ImportArgs, json: bool) -> anyhow::Result<()> {
    match &args.layout {
        ImportLayout::Tr110(args) => tr110(args, json),
    }
}

fn tr110(args: &Tr110Args, json: bool) -> anyhow::Result<()> {
    if let Some(out) = &args.out {
        // Before the work, not after it.
        output::refuse_existing(out)?;
    }
    let report = read(&args.folder)?;
    if let Some(out) = &args.out {
        output::write_folder(out, &render::files(&report, &[])?)?;
        history::enter(&report, out);
    }
    if json {
        return output::print(&render::report_json(&report)?).map(|_| ());
    }
    let mut text = results(&report).into_bytes();
    table::print_findings(&report, &mut text)?;
    if let Some(out) = &args.out {
        text.extend_from_slice(
            format!("\nFiles: {} (start with report.html)\n", out.display()).as_bytes(),
        );
    }
    output::print(&text).map(|_| ())
}

/// Every test in a line: TR110's figures with its signs, and the gain where the files state one.
///
/// The table of our own results would be mostly dashes here.
fn results(report: &Report) -> String {
    let header = [
        "test",
        "scenario",
        "num_gpu",
        "num_ctx",
        "temperature",
        "runs",
        "speed-up",
        "efficiency",
        "TTFT delta ms",
        "tokens/s delta",
        "contention",
        "gain",
    ];
    let mut rows = Vec::new();
    let sections = ["3.1", "3.2", "3.3", "3.x"];
    for shown in tables::all(report)
        .iter()
        .filter(|table| sections.contains(&table.id.as_str()))
    {
        for row in &shown.rows {
            let mut cells = row.iter().map(Cell::shown);
            let id = cells.next().unwrap_or_default();
            let test = report.tests.iter().find(|test| test.id == id);
            let mut line = vec![id];
            line.push(test.map_or_else(String::new, |test| test.scenario.clone()));
            line.extend(cells.by_ref().take(3));
            line.push(test.map_or_else(String::new, |test| {
                format!("{}/{}", test.runs_valid, test.runs_attempted)
            }));
            line.extend(cells.take(6));
            rows.push(line);
        }
    }
    let invalid: usize = report
        .tests
        .iter()
        .flat_map(|test| &test.runs)
        .filter(|run| !run.valid)
        .count();
    let mut text = table::plain(&header, rows);
    text.push_str(
        "\nSpeed-up and efficiency are TR110's and measure balance. TTFT delta: first agent minus second; \
         tokens/s\ndelta: second minus first. Gain: a dash where the files state no time alone.\n",
    );
    if invalid > 0 {
        text.push_str(&format!(
            "Runs that state another configuration than their test are not counted: {invalid}, see report.md.\n"
        ));
    }
    for note in report.source.iter().flat_map(|source| &source.notes) {
        text.push_str(&format!("Note: {note}\n"));
    }
    text
}

/// The report of a folder in TR110's layout.
fn read(folder: &Path) -> anyhow::Result<Report> {
    let refused = |error: ImportError| {
        UsageError(format!("{} cannot be imported: {error}", folder.display()))
    };
    let mut faults = Vec::new();
    let mut runs: Vec<RunFile> = Vec::new();
    let mut hash = Sha256::new();
    for (path, file) in find(folder, &mut faults)? {
        let name = name_of(folder, &file);
        let bytes = match load(&file) {
            Ok(bytes) => bytes,
            Err(problem) => {
                faults.push(Fault::of_file(&name, problem));
                continue;
            }
        };
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(&bytes));
        match tr110::parse(&name, path, &bytes) {
            Ok(mut run) => {
                texts(&mut run, &file, folder, &mut hash, &mut faults);
                runs.push(run);
            }
            Err(found) => faults.extend(found),
        }
    }
    if !faults.is_empty() {
        return Err(refused(ImportError::new(faults)).into());
    }
    let digest = hex::encode(hash.finalize());
    let id = format!("tr110-{}", digest.get(..ID_DIGITS).unwrap_or(&digest));
    let about = About {
        experiment: ExperimentId::try_new(id).context("cannot name the import")?,
        name: folder
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or(UNNAMED)
            .to_owned(),
        software: Some(version::software()),
        git_revision: version::GIT_REVISION.map(ToOwned::to_owned),
    };
    tr110::report(runs, about).map_err(|error| refused(error).into())
}

/// Judges the texts that lie beside a run's figures. One that cannot be read is a fault, one that is
/// not there is none.
fn texts(
    run: &mut RunFile,
    metrics: &Path,
    folder: &Path,
    hash: &mut Sha256,
    faults: &mut Vec<Fault>,
) {
    for (agent, name) in run.text_files().into_iter().enumerate() {
        let file = metrics.with_file_name(name);
        if !file.exists() {
            continue;
        }
        let name = name_of(folder, &file);
        let text = load(&file).and_then(|bytes| {
            let digest = Sha256::digest(&bytes);
            let text = String::from_utf8(bytes).map_err(|_| "is no text in UTF-8".to_owned())?;
            Ok((digest, text))
        });
        match text {
            Ok((digest, text)) => {
                hash.update(name.as_bytes());
                hash.update([0]);
                hash.update(digest);
                run.judge(agent, &text);
            }
            Err(problem) => faults.push(Fault::of_file(&name, problem)),
        }
    }
}

/// The runs below a folder, by rising path; folders that should be one and are not become faults.
fn find(folder: &Path, faults: &mut Vec<Fault>) -> anyhow::Result<Vec<(RunPath, PathBuf)>> {
    let mut found = Vec::new();
    let tests = folders(folder).map_err(|error| {
        UsageError(format!(
            "cannot read the folder {}: {error}",
            folder.display()
        ))
    })?;
    for (name, test) in tests {
        let Some((phase, number)) = RunPath::of_test(&name) else {
            if name.starts_with("phase_") {
                let problem = "is no phase_P_test_TTT with numbers: rename or move it away";
                faults.push(Fault::of_file(&name, problem));
            }
            continue;
        };
        let runs = match folders(&test) {
            Ok(runs) => runs,
            Err(error) => {
                faults.push(Fault::of_file(&name, format!("cannot be read: {error}")));
                continue;
            }
        };
        if !runs.iter().any(|(name, _)| name.starts_with("run_")) {
            let problem = "holds no run_R: complete it or move it away";
            faults.push(Fault::of_file(&name, problem));
        }
        for (run_name, run) in runs {
            let Some(run_number) = RunPath::of_run(&run_name) else {
                if run_name.starts_with("run_") {
                    let problem = "is no run_R with a number: rename or move it away";
                    faults.push(Fault::of_file(&format!("{name}/{run_name}"), problem));
                }
                continue;
            };
            let path = RunPath {
                test: number,
                run: run_number,
                phase,
            };
            found.push((path, run.join(METRICS)));
            if found.len() > MAX_RUNS {
                return Err(UsageError(format!(
                    "{} holds more than {MAX_RUNS} runs: import it in parts",
                    folder.display()
                ))
                .into());
            }
        }
    }
    Ok(found)
}

/// Folders in a folder by rising name. Names that are no text are none of TR110's.
fn folders(folder: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_dir()
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of a file, never more than may be; else what is wrong.
fn load(file: &Path) -> Result<Vec<u8>, String> {
    let what = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    if !what.is_file() {
        return Err("is no file".to_owned());
    }
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(file)
        // One byte more than allowed shows that there is more.
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    Ok(bytes)
}

/// Path of a file below the folder, as errors and reports name it.
fn name_of(folder: &Path, file: &Path) -> String {
    file.strip_prefix(folder)
        .unwrap_or(file)
        .display()
        .to_string()
}
