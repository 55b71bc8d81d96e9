//! The main job: a local stack, an experiment on it, a report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_worker::workload::{self, DataSource};
use analyzer::{Finished, Target};
use anyhow::Context as _;
use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::plan;
use chimera_domain::session::Progress;
use chimera_domain::spec::{self, FlagSpec, Instances, ValidSpec};
use chimera_runtime::config::cache_dir;
use chimera_runtime::exit::{UsageError, chain};
use chimera_runtime::{clock, host, process, shutdown};
use chimera_wire::api;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio_util::sync::CancellationToken;

use crate::args::{BenchArgs, UpArgs};
use crate::engines::{self, Choice, Wanted};
use crate::output;
use crate::progress::ProgressView;
use crate::remote::Client;
use crate::spec_file;
use crate::stack::{Stack, StackConfig};
use crate::table;

/// How long the analysis may take after the last leg: the last telemetry, a replay, the disk.
const REPORT_LIMIT: Duration = Duration::from_secs(120);
/// How long a cancelled experiment may take to close.
const CANCEL_LIMIT: Duration = Duration::from_secs(30);

/// What is to be measured, all of it checked.
struct Job {
    spec: ValidSpec,
    choice: Choice,
    data_root: Option<PathBuf>,
    out: PathBuf,
}

/// `chimera bench`.
pub(crate) async fn run(args: &BenchArgs, json: bool) -> anyhow::Result<()> {
    let job = prepare(args).await?;
    let shutdown = shutdown::on_signals(process::kill_all)?;
    let mut view = ProgressView::new(!json);
    view.note(&format!("engine: {}", job.choice.why));
    view.note(&format!("model: {}", job.choice.model));
    let work = WorkDir::new()?;
    let measured = measure(&job, work.path(), &mut view, &shutdown).await;
    view.finish();
    let finished = match measured {
        Ok(finished) => finished,
        Err(error) => {
            let kept = work.keep();
            return Err(error.context(format!("logs are in {}", kept.display())));
        }
    };
    let valid: u32 = finished.report.tests.iter().map(|t| t.runs_valid).sum();
    if json {
        output::print_json(&finished.report)?;
    } else {
        let mut text = Vec::new();
        table::print_results(&finished.report, &mut text)?;
        table::print_files(&finished.folder, &mut text)?;
        output::print(&text)?;
    }
    if shutdown.is_cancelled() {
        work.discard();
        anyhow::bail!(
            "stopped; the runs so far are in {}",
            finished.folder.display()
        );
    }
    if valid == 0 {
        let kept = work.keep();
        anyhow::bail!(
            "no run is valid: {}; logs are in {}",
            first_reason(&finished),
            kept.display()
        );
    }
    work.discard();
    Ok(())
}

fn first_reason(finished: &Finished) -> String {
    let runs = finished.report.tests.iter().flat_map(|t| &t.runs);
    let reason = runs.flat_map(|r| &r.invalid).next();
    reason.map_or_else(
        || "no run was attempted".to_owned(),
        |r| format!("{}: {}", r.reason, r.detail),
    )
}

/// Checks everything that can be checked before anything is started.
async fn prepare(args: &BenchArgs) -> anyhow::Result<Job> {
    args.check()?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => Path::new("results").join(timestamp(clock::wall_unix_ns())?),
    };
    if out.exists() {
        return Err(UsageError(format!(
            "{} exists already; choose another folder with --out",
            out.display()
        ))
        .into());
    }
    let (spec, choice, data_root) = match &args.spec {
        Some(path) => from_file(path).await?,
        None => from_flags(args).await?,
    };
    let data = spec.workload().data.as_deref();
    let checked = DataSource::resolve(data_root.as_deref(), data)
        .and_then(|source| workload::validate_data(&source));
    checked.map_err(|e| UsageError(format!("the agents' data: {}", chain(&e))))?;
    if let Some(parent) = out.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the folder {}", parent.display()))?;
    }
    Ok(Job {
        spec,
        choice,
        data_root,
        out,
    })
}

/// Data folders of a spec lie beside it.
async fn from_file(path: &Path) -> anyhow::Result<(ValidSpec, Choice, Option<PathBuf>)> {
    let spec = spec_file::read(path)?.spec;
    let instances = match spec.backend().instances() {
        Instances::Spawn => Vec::new(),
        Instances::Attach(urls) => urls.clone(),
    };
    let wanted = Wanted {
        engine: spec.backend().kind(),
        instances,
        model: Some(spec.model().name().to_owned()),
    };
    let choice = engines::choose(&wanted).await?;
    let root = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((spec.with_engine(choice.kind), choice, Some(root.to_owned())))
}

async fn from_flags(args: &BenchArgs) -> anyhow::Result<(ValidSpec, Choice, Option<PathBuf>)> {
    let mut flags = args.flags.spec();
    let data_root = split_data(&mut flags)?;
    // Numbers are judged before a single engine is asked anything.
    FlagSpec {
        model: Some("any".to_owned()),
        ..flags.clone()
    }
    .to_valid()
    .map_err(|e| UsageError(e.to_string()))?;
    let wanted = Wanted {
        engine: flags.engine,
        instances: flags.instances.clone(),
        model: flags.model.clone(),
    };
    let choice = engines::choose(&wanted).await?;
    flags.engine = Some(choice.kind);
    flags.model = Some(choice.model.clone());
    let spec = if args.quick {
        if !flags.instances.is_empty() {
            return Err(UsageError(
                "--quick compares two thread counts, which an attached engine may not change: \
                 leave out --quick or --instance"
                    .to_owned(),
            )
            .into());
        }
        let cores = host::cores().unwrap_or(1);
        spec::quick(cores, choice.kind, &choice.model, &flags)
    } else {
        flags.to_valid()
    };
    Ok((
        spec.map_err(|e| UsageError(e.to_string()))?,
        choice,
        data_root,
    ))
}

/// `--data` may name any folder; a spec names one below a root, so the folder's parent becomes it.
fn split_data(flags: &mut FlagSpec) -> anyhow::Result<Option<PathBuf>> {
    let Some(data) = &flags.data else {
        return Ok(None);
    };
    let path = Path::new(data)
        .canonicalize()
        .map_err(|e| UsageError(format!("--data: cannot open {data}: {e}")))?;
    let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    match (path.parent(), name) {
        (Some(parent), Some(name)) if path.is_dir() => {
            let parent = parent.to_owned();
            flags.data = Some(name);
            Ok(Some(parent))
        }
        _ => Err(UsageError(format!("--data: {data} is no folder of CSV files")).into()),
    }
}

async fn measure(
    job: &Job,
    work: &Path,
    view: &mut ProgressView,
    shutdown: &CancellationToken,
) -> anyhow::Result<Finished> {
    let plan = plan::build(&job.spec).map_err(|e| UsageError(e.to_string()))?;
    view.note(&format!(
        "{} tests, {} legs",
        plan.tests.len(),
        plan.legs.len()
    ));
    let stack = Stack::start(StackConfig {
        dir: work.to_owned(),
        target: Target::Exactly(job.out.clone()),
        engines: job.choice.for_workers(job.spec.max_agents())?,
        data_root: job.data_root.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
        analyzer_listen: ([127, 0, 0, 1], 0).into(),
    })
    .await?;
    let measured = on_stack(job, &stack, view, shutdown).await;
    let stopped = stack.stop().await;
    let finished = measured?;
    stopped?;
    Ok(finished)
}

async fn on_stack(
    job: &Job,
    stack: &Stack,
    view: &mut ProgressView,
    shutdown: &CancellationToken,
) -> anyhow::Result<Finished> {
    let client = Client::connect(&format!("http://{}", stack.coordinator)).await?;
    let document = api::SpecDocument {
        format: api::SpecFormat::Toml,
        text: job.spec.to_toml(),
    };
    let experiment = client.submit(document).await?;
    follow(&client, &experiment, stack, view, shutdown).await?;
    view.note("analysing");
    let report = tokio::time::timeout(REPORT_LIMIT, stack.store.wait_for(&experiment));
    let finished = tokio::select! {
        report = report => report.context("the analysis took too long")?,
        () = stack.failed().cancelled() => anyhow::bail!("a part of the local stack failed"),
    };
    match finished {
        Ok(finished) => Ok(finished.as_ref().clone()),
        Err(detail) => anyhow::bail!("{detail}"),
    }
}

/// Shows progress until the experiment has ended; a Ctrl-C cancels it and waits for its close.
async fn follow(
    client: &Client,
    experiment: &ExperimentId,
    stack: &Stack,
    view: &mut ProgressView,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut pictures = client.watch(experiment).await?;
    let mut asked_to_stop = false;
    let give_up = tokio::time::sleep(Duration::MAX);
    tokio::pin!(give_up);
    loop {
        // A dropped `next` loses nothing: the stream keeps a message that is half read.
        let picture: Option<Progress> = tokio::select! {
            picture = pictures.next() => picture?,
            () = stack.failed().cancelled() => anyhow::bail!("a part of the local stack failed"),
            () = shutdown.cancelled(), if !asked_to_stop => {
                asked_to_stop = true;
                view.note("stopping; the leg under way is closed as cancelled (Ctrl-C again: at once)");
                give_up.as_mut().reset(tokio::time::Instant::now() + CANCEL_LIMIT);
                client.cancel(experiment).await?;
                continue;
            }
            () = &mut give_up => anyhow::bail!("the experiment did not close within {CANCEL_LIMIT:?}"),
        };
        let Some(picture) = picture else {
            anyhow::bail!("the coordinator ended the watch")
        };
        view.update(&picture);
        match &picture.outcome {
            None => {}
            Some(ExperimentOutcome::Failed { detail }) => {
                anyhow::bail!("the experiment failed: {detail}")
            }
            Some(ExperimentOutcome::Completed | ExperimentOutcome::Cancelled) => return Ok(()),
        }
    }
}

/// `chimera up`.
pub(crate) async fn up(args: &UpArgs) -> anyhow::Result<()> {
    let wanted = Wanted {
        engine: args.engine,
        instances: args.instances.clone(),
        model: args.model.clone(),
    };
    let choice = engines::choose(&wanted).await?;
    let workers = args.workers(&choice);
    let shutdown = shutdown::on_signals(process::kill_all)?;
    let kept = args.dir.is_some();
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => WorkDir::new()?.keep(),
    };
    let results = dir.join("results");
    std::fs::create_dir_all(&results)
        .with_context(|| format!("cannot make the folder {}", results.display()))?;
    let stack = Stack::start(StackConfig {
        dir: dir.clone(),
        target: Target::Under(results.clone()),
        engines: choice.for_workers(workers)?,
        data_root: std::env::current_dir().ok(),
        listen: args.listen(),
        analyzer_listen: args.analyzer_listen(),
    })
    .await?;
    output::hint(&format!("engine: {}", choice.why));
    output::hint(&format!("model: {} (name it in the spec)", choice.model));
    output::hint(&format!("coordinator: http://{}", stack.coordinator));
    output::hint(&format!("analyzer: http://{}", stack.analyzer));
    output::hint(&format!("results: {}", results.display()));
    output::hint(&format!(
        "submit with: chimera submit SPEC --server http://{}   (Ctrl-C stops)",
        stack.coordinator
    ));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = stack.failed().cancelled() => {}
    }
    stack.stop().await?;
    if !kept {
        output::hint(&format!("results and logs stay in {}", dir.display()));
    }
    Ok(())
}

/// `20261124-080500`, UTC.
fn timestamp(wall_unix_ns: u64) -> anyhow::Result<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_unix_ns))?;
    Ok(time.format(format_description!(
        "[year][month][day]-[hour][minute][second]"
    ))?)
}

/// Bus store, spools and engine logs of one local stack. Removed unless it is worth a look.
struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    fn new() -> anyhow::Result<Self> {
        let base = cache_dir()
            .unwrap_or_else(std::env::temp_dir)
            .join("stacks");
        std::fs::create_dir_all(&base)
            .with_context(|| format!("cannot make the folder {}", base.display()))?;
        let dir = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(&base)
            .with_context(|| format!("cannot make a folder in {}", base.display()))?;
        Ok(Self { path: dir.keep() })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn keep(&self) -> PathBuf {
        self.path.clone()
    }

    fn discard(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a work folder stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_folder_name() {
        assert_eq!(timestamp(0).unwrap(), "19700101-000000");
        assert_eq!(
            timestamp(951_827_696_000_000_000).unwrap(),
            "20000229-123456"
        );
        assert_eq!(
            timestamp(1_795_507_499_000_000_000).unwrap(),
            "20261124-080459"
        );
    }

    #[test]
    fn any_folder_can_be_data() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("csv");
        std::fs::create_dir(&data).unwrap();
        let mut flags = FlagSpec {
            data: Some(data.display().to_string()),
            ..FlagSpec::default()
        };
        let root = split_data(&mut flags).unwrap().unwrap();
        assert_eq!(flags.data.as_deref(), Some("csv"));
        assert_eq!(root, dir.path().canonicalize().unwrap());
        let mut flags = FlagSpec {
            data: Some("/no/such".into()),
            ..FlagSpec::default()
        };
        assert!(split_data(&mut flags).is_err());
    }
}
