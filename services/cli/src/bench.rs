//! The main job: a local stack, an experiment on it, a report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use analyzer::{Finished, Target};
use anyhow::Context as _;
use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::report::OutcomeState;
use chimera_domain::session::Progress;
use chimera_runtime::config::cache_dir;
use chimera_runtime::exit::{self, UsageError};
use chimera_runtime::{process, shutdown};
use chimera_wire::api;
use tokio_util::sync::CancellationToken;

use crate::args::{BenchArgs, Rule, UpArgs};
use crate::engines::{self, Wanted};
use crate::job::Job;
use crate::output;
use crate::progress::ProgressView;
use crate::remote::Client;
use crate::report;
use crate::resume::Workplace;
use crate::stack::{Stack, StackConfig};
use crate::table;

/// How long the analysis may take after the last leg: the last telemetry, a replay, the disk.
const REPORT_LIMIT: Duration = Duration::from_secs(120);
/// The same where the experiment failed: its end may not have been recorded.
const FAILED_REPORT_LIMIT: Duration = Duration::from_secs(30);
/// How long a cancelled experiment may take to close.
const CANCEL_LIMIT: Duration = Duration::from_secs(30);

/// `chimera bench`.
pub(crate) async fn run(args: &BenchArgs, json: bool) -> anyhow::Result<()> {
    args.check()?;
    let (job, place) = match &args.resume {
        Some(out) => match resume(args, out).await? {
            Resumed::Finished(finished) => return conclude(&finished, args.rule, json),
            Resumed::Unfinished(job, place) => (*job, place),
        },
        None => {
            let job = Job::new(args).await?;
            let place = Workplace::create(&job.out)?;
            place.save(&job.saved(None)?)?;
            (job, place)
        }
    };
    let shutdown = shutdown::on_signals(process::kill_all)?;
    let mut view = ProgressView::new(!json);
    view.note(&format!("engine: {}", job.choice.why));
    view.note(&format!("model: {}", job.choice.model));
    let measured = measure(&job, &place, &mut view, &shutdown).await;
    view.finish();
    let finished = match measured {
        Ok(finished) => finished,
        Err(error) => return Err(cut_short(error, &job, place)),
    };
    let concluded = conclude(&finished, args.rule, json);
    match concluded {
        Err(error) if !shutdown.is_cancelled() => {
            let kept = place.keep_for_a_look();
            Err(error.context(format!("logs are in {}", kept.display())))
        }
        concluded => {
            place.remove();
            concluded
        }
    }
}

/// What becomes of the work folder when no report came of the job.
fn cut_short(error: anyhow::Error, job: &Job, place: Workplace) -> anyhow::Error {
    if exit::code(&error) == exit::USAGE {
        // Refused before anything was measured.
        place.remove();
        return error;
    }
    error.context(format!(
        "cut short; what was measured is kept: `chimera bench --resume {}` goes on with the next \
         leg, logs are in {}",
        job.out.display(),
        place.path().display()
    ))
}

/// What there is to go on with.
enum Resumed {
    Finished(Box<Finished>),
    Unfinished(Box<Job>, Workplace),
}

async fn resume(args: &BenchArgs, out: &Path) -> anyhow::Result<Resumed> {
    let left = Workplace::open(out)?;
    if out.exists() {
        let finished = finished(out)?;
        // Killed between the last word of the report and the end of its work.
        if let Some((place, _)) = left {
            place.remove();
        }
        output::hint(&format!(
            "{} is finished; there is nothing to go on with",
            out.display()
        ));
        return Ok(Resumed::Finished(Box::new(finished)));
    }
    let Some((place, saved)) = left else {
        return Err(UsageError(format!(
            "{out} was never begun, or its work folder is gone: begin with `chimera bench SPEC \
             --out {out}`",
            out = out.display()
        ))
        .into());
    };
    let job = Job::again(saved, out, args.spec.as_deref()).await?;
    Ok(Resumed::Unfinished(Box::new(job), place))
}

/// Results that are there. They have their name only once they are whole.
fn finished(out: &Path) -> anyhow::Result<Finished> {
    let file = out.join("report.json");
    let text = std::fs::read(&file).map_err(|error| {
        UsageError(format!(
            "{} is in the way and no result of chimera ({}: {error}): move it away, or choose \
             another folder",
            out.display(),
            file.display()
        ))
    })?;
    let report = report::parse(&text)
        .with_context(|| format!("{} is not a report of this version", file.display()))?;
    Ok(Finished {
        report,
        folder: out.to_owned(),
    })
}

/// Shows the results, and says whether they are what was asked for.
fn conclude(finished: &Finished, rule: Option<Rule>, json: bool) -> anyhow::Result<()> {
    if json {
        output::print_json(&finished.report)?;
    } else {
        let mut text = Vec::new();
        table::print_results(&finished.report, rule, &mut text)?;
        table::print_files(&finished.folder, &mut text)?;
        output::print(&text)?;
    }
    let folder = finished.folder.display();
    let outcome = &finished.report.outcome;
    match outcome.state {
        OutcomeState::Cancelled => anyhow::bail!(
            "stopped; the runs so far are in {folder}. What is stopped is closed: --resume goes on \
             only with what was cut short"
        ),
        OutcomeState::Failed => anyhow::bail!(
            "the experiment failed: {}; the runs so far are in {folder}",
            outcome.detail.as_deref().unwrap_or("it is not known why")
        ),
        OutcomeState::Running | OutcomeState::Completed => {}
    }
    let valid: u32 = finished.report.tests.iter().map(|t| t.runs_valid).sum();
    anyhow::ensure!(valid > 0, "no run is valid: {}", first_reason(finished));
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

async fn measure(
    job: &Job,
    place: &Workplace,
    view: &mut ProgressView,
    shutdown: &CancellationToken,
) -> anyhow::Result<Finished> {
    let later: usize = job.plan.later.iter().map(|later| later.tests.len()).sum();
    view.note(&format!(
        "{} tests, {} legs{}",
        job.plan.tests.len(),
        job.plan.legs.len(),
        if later > 0 {
            format!("; {later} tests more wait for what these show")
        } else {
            String::new()
        }
    ));
    let stack = Stack::start(StackConfig {
        dir: place.path().to_owned(),
        target: Target::Exactly(job.out.clone()),
        engines: job.choice.for_workers(job.spec.max_instances())?,
        data_root: job.data_root.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
        analyzer_listen: ([127, 0, 0, 1], 0).into(),
        max_file_store: job.max_file_store,
    })
    .await?;
    let measured = on_stack(job, place, &stack, view, shutdown).await;
    let stopped = stack.stop().await;
    let finished = measured?;
    stopped?;
    Ok(finished)
}

async fn on_stack(
    job: &Job,
    place: &Workplace,
    stack: &Stack,
    view: &mut ProgressView,
    shutdown: &CancellationToken,
) -> anyhow::Result<Finished> {
    // The streams were made to fit this store; whoever goes on needs one of the same size.
    place.save(&job.saved(Some(stack.max_file_store()))?)?;
    let client = Client::connect(&format!("http://{}", stack.coordinator)).await?;
    match client.progress(&job.experiment).await? {
        Some(picture) => view.note(&format!(
            "going on with {}: {} of {} legs are closed",
            job.experiment, picture.legs_closed, picture.legs_total
        )),
        None => {
            let document = api::SpecDocument {
                format: api::SpecFormat::Toml,
                text: job.spec.to_toml(),
            };
            let named = Some(job.experiment.clone());
            client.submit(document, named).await?;
            view.note(&format!(
                "if it is cut short: chimera bench --resume {}",
                job.out.display()
            ));
        }
    }
    let outcome = follow(&client, &job.experiment, stack, view, shutdown).await?;
    view.note("analysing");
    let (limit, failed) = match &outcome {
        ExperimentOutcome::Failed { detail } => (FAILED_REPORT_LIMIT, Some(detail)),
        ExperimentOutcome::Completed | ExperimentOutcome::Cancelled => (REPORT_LIMIT, None),
    };
    let report = tokio::time::timeout(limit, stack.store.wait_for(&job.experiment));
    let finished = tokio::select! {
        report = report => report.with_context(|| match failed {
            Some(detail) => format!("the experiment failed: {detail}"),
            None => "the analysis took too long".to_owned(),
        })?,
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
) -> anyhow::Result<ExperimentOutcome> {
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
                view.note(
                    "stopping; the leg under way is closed as cancelled, and the experiment with it \
                     (Ctrl-C again: at once)",
                );
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
        if let Some(outcome) = picture.outcome {
            return Ok(outcome);
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
        None => work_dir()?,
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
        max_file_store: None,
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

/// A fresh folder for the store, spools and engine logs of a stack.
fn work_dir() -> anyhow::Result<PathBuf> {
    let base = cache_dir()
        .unwrap_or_else(std::env::temp_dir)
        .join("stacks");
    std::fs::create_dir_all(&base)
        .with_context(|| format!("cannot make the folder {}", base.display()))?;
    let dir = tempfile::Builder::new()
        .prefix("stack-")
        .tempdir_in(&base)
        .with_context(|| format!("cannot make a folder in {}", base.display()))?;
    Ok(dir.keep())
}
