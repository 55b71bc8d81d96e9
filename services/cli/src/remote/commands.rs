//! The commands that ask a coordinator.

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::plan;
use chimera_domain::session::Progress;
use chimera_domain::spec::SpecFormat;
use chimera_runtime::exit::UsageError;
use chimera_wire::api;
use serde_json::json;

use super::{Client, experiment_id};
use crate::args::{ExperimentArgs, ServerArgs, SubmitArgs};
use crate::output::{self, Reader};
use crate::progress::{ProgressView, outcome_text};
use crate::{spec_file, table};

/// `chimera submit`.
pub(crate) async fn submit(args: &SubmitArgs, json: bool) -> anyhow::Result<()> {
    let spec_file::Checked { text, format, spec } = spec_file::read(&args.spec)?;
    // What the coordinator would refuse is told without one.
    let plan = plan::build(&spec).map_err(|error| UsageError(error.to_string()))?;
    let format = match format {
        SpecFormat::Toml => api::SpecFormat::Toml,
        SpecFormat::Json => api::SpecFormat::Json,
    };
    let client = Client::connect(args.server.url()).await?;
    let id = client
        .submit(api::SpecDocument { format, text }, None)
        .await?;
    if json {
        return output::print_json(&json!({ "experiment": id }));
    }
    output::print(format!("{id}\n").as_bytes())?;
    let (tests, legs) = (plan.tests.len(), plan.legs.len());
    output::hint(&format!(
        "submitted, {legs} legs of {tests} test(s); follow it with: chimera watch {id}"
    ));
    Ok(())
}

/// `chimera list`.
pub(crate) async fn list(args: &ServerArgs, json: bool) -> anyhow::Result<()> {
    let all = Client::connect(args.url()).await?.list().await?;
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|e| {
                json!({
                    "experiment": e.experiment,
                    "name": e.name,
                    "legs_total": e.legs_total,
                    "legs_closed": e.legs_closed,
                    "legs_valid": e.legs_valid,
                    "outcome": e.outcome,
                })
            })
            .collect();
        return output::print_json(&all);
    }
    if all.is_empty() {
        output::hint("no experiments yet; `chimera submit SPEC` hands one in");
        return Ok(());
    }
    let rows = all.into_iter().map(|e| {
        let state = e
            .outcome
            .as_ref()
            .map_or_else(|| "under way".to_owned(), outcome_text);
        let legs = format!("{} of {}", e.legs_closed, e.legs_total);
        vec![
            e.experiment.to_string(),
            e.name,
            legs,
            e.legs_valid.to_string(),
            state,
        ]
    });
    let text = table::plain(&["EXPERIMENT", "NAME", "LEGS", "VALID", "STATE"], rows);
    output::print(text.as_bytes()).map(|_| ())
}

/// `chimera workers`.
pub(crate) async fn workers(args: &ServerArgs, json: bool) -> anyhow::Result<()> {
    let all = Client::connect(args.url()).await?.workers().await?;
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|w| {
                json!({
                    "worker": w.worker,
                    "instance": w.instance,
                    "url": Some(&w.url).filter(|url| !url.is_empty()),
                    "engine": w.engine,
                    "node": w.node,
                    "busy_with": w.busy_with,
                    "rtt_ns": w.rtt_ns,
                })
            })
            .collect();
        return output::print_json(&all);
    }
    if all.is_empty() {
        output::hint("no workers; `agent-worker --coordinator-url URL` joins one");
        return Ok(());
    }
    let rows = all.into_iter().map(|w| {
        let rtt = w
            .rtt_ns
            .map_or_else(|| "-".to_owned(), |ns| format!("{} us", ns / 1000));
        let url = if w.url.is_empty() {
            "not started yet".to_owned()
        } else {
            w.url
        };
        let busy = w
            .busy_with
            .map_or_else(|| "free".to_owned(), |run| run.to_string());
        let instance = w.instance.to_string();
        let (worker, node) = (w.worker.to_string(), w.node.to_string());
        vec![
            worker,
            node,
            instance,
            w.engine.as_str().to_owned(),
            url,
            busy,
            rtt,
        ]
    });
    let header = [
        "WORKER",
        "NODE",
        "INSTANCE",
        "ENGINE",
        "URL",
        "BUSY WITH",
        "ROUND TRIP",
    ];
    output::print(table::plain(&header, rows).as_bytes()).map(|_| ())
}

/// `chimera cancel`.
pub(crate) async fn cancel(args: &ExperimentArgs, json: bool) -> anyhow::Result<()> {
    let id = experiment_id(&args.experiment)?;
    let already = Client::connect(args.server.url())
        .await?
        .cancel(&id)
        .await?;
    if json {
        return output::print_json(&json!({ "experiment": id, "already": already }));
    }
    let text = match already {
        None => format!("{id} is being cancelled; its closed runs are kept\n"),
        Some(outcome) => format!("{id} had ended before: {}\n", outcome_text(&outcome)),
    };
    output::print(text.as_bytes()).map(|_| ())
}

/// `chimera watch`: until the experiment has ended; well if it was completed.
pub(crate) async fn watch(args: &ExperimentArgs, json: bool) -> anyhow::Result<()> {
    let id = experiment_id(&args.experiment)?;
    let client = Client::connect(args.server.url()).await?;
    let mut pictures = client.watch(&id).await?;
    let mut view = (!json).then(ProgressView::on_stdout);
    let outcome = loop {
        let Some(picture) = pictures.next().await? else {
            break None;
        };
        let reader = match &mut view {
            Some(view) => {
                view.update(&picture);
                view.reader()
            }
            None => output::print_json_line(&progress_json(&picture))?,
        };
        if reader == Reader::Gone {
            return Ok(());
        }
        if picture.outcome.is_some() {
            break picture.outcome;
        }
    };
    if let Some(view) = &mut view {
        view.finish();
    }
    match outcome {
        Some(ExperimentOutcome::Completed) => {
            output::hint(&format!("completed; read it with: chimera report {id}"));
            Ok(())
        }
        Some(other) => anyhow::bail!("the experiment was not completed: {}", outcome_text(&other)),
        None => anyhow::bail!(
            "the coordinator at {} stopped before the experiment had ended; it goes on when the \
             coordinator is back: watch it again then",
            args.server.url()
        ),
    }
}

/// A picture as NDJSON has it.
fn progress_json(p: &Progress) -> serde_json::Value {
    json!({
        "experiment": p.experiment,
        "name": p.name,
        "legs_total": p.legs_total,
        "legs_closed": p.legs_closed,
        "legs_valid": p.legs_valid,
        "phase": p.phase,
        "leg": p.leg,
        "about": p.about.as_ref().map(|about| json!({
            "label": about.label,
            "phase": about.phase,
            "runs": about.runs,
            "attempt": about.attempt,
        })),
        "members": p.members,
        "agents_done": p.agents_done,
        "last_invalid": p.last_invalid.as_ref().map(|(run, why)| {
            json!({ "leg": run, "reason": why.reason, "detail": why.detail })
        }),
        "phases": p.tally.phases,
        "tests": p.tally.tests,
        "tests_done": p.tally.tests_done,
        "runs": p.tally.runs,
        "runs_valid": p.tally.runs_valid,
        "runs_invalid": p.tally.runs_invalid,
        "invalid_attempts": p.tally.invalid_attempts,
        "retried": p.tally.retried,
        "elapsed_ms": p.tally.elapsed_ms,
        "left_ms": p.tally.left_ms,
        "left_at_most_ms": p.tally.left_at_most_ms,
        "rates": p.rates.iter().map(|rate| json!({
            "agent": rate.agent,
            "tokens_per_s": rate.tokens_per_s,
        })).collect::<Vec<_>>(),
        "outcome": p.outcome,
    })
}
