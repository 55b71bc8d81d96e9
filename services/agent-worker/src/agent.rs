//! The agent loop: one assignment from its data to its report.
//!
//! Scan, ingest, aggregate; then for each step a prompt, a request, a text, with the planned pause
//! between two; then the report file.
//! Everything runs inline on the agent's own thread: the local steps are part of the agent's work
//! and are stamped as such.

use std::path::Path;

use chimera_domain::event::{
    AgentFailure, AgentRecord, LocalStep, Output, RequestError, RequestErrorKind,
};
use chimera_domain::session::Assignment;
use chimera_runtime::clock;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::engine::{ChatRequest, EngineClient, Message};
use crate::lease::LeaseEnd;
use crate::request_name;
use crate::workload::prompt::NonceSource;
use crate::workload::{
    self, Agent, AgentReport, Aggregates, DataError, DataSource, PromptBudget, STEPS, StepKind,
    StepReport, TemplateError, Templates,
};

/// Largest text of one `Output`, bytes: with the record around it, below the bus's 1 MiB.
pub const MAX_OUTPUT_BYTES: usize = 256 << 10;

/// Name of the output that holds the agent's report file.
pub const REPORT_OUTPUT: &str = "report";
/// Name of the output that holds the aggregates as JSON.
pub const AGGREGATES_OUTPUT: &str = "aggregates";

/// Name of the local step that is the pause before a request.
pub const THINK_STEP: &str = "think";

/// What an agent runs with.
#[derive(Debug)]
pub struct AgentContext<'a> {
    /// What it is to do.
    pub assignment: &'a Assignment,
    /// The one instance it may ask.
    pub engine: &'a EngineClient,
    /// Where data folders named in specs lie; `None`: only the shipped data can be had.
    pub data_root: Option<&'a Path>,
    /// A user's prompt templates, over the built-in ones.
    pub templates_dir: Option<&'a Path>,
    /// Once it has passed, nothing more is asked of the engine.
    pub lease: LeaseEnd,
    /// Ends the agent early.
    pub cancel: CancellationToken,
}

/// Name of the output that holds what the model wrote in a step.
///
/// The report step's text is not named after its step, because `report` is the report file.
#[must_use]
pub fn text_output(step: StepKind) -> &'static str {
    match step {
        StepKind::Analysis => "analysis",
        StepKind::Report => "report_text",
    }
}

/// Runs the agent to its end.
///
/// Records are handed to `emit` in the order in which they happen: `Local` for scan, ingest,
/// aggregate, each pause, each prompt and the writing of the report; `Request` for each request, also a failed
/// one; `Output` for the aggregates, each step's text, and the report. `emit` must not wait.
///
/// # Errors
/// The first failure ends the agent: `data` for the data, the templates and an unknown workload,
/// `request:<kind>` for a request (`request:truncated` for a prompt that cannot fit), `stopped`
/// when `cancel` was tripped, `fenced` when the lease had run out before a request.
pub async fn run_agent(
    context: &AgentContext<'_>,
    emit: &mut impl FnMut(AgentRecord),
) -> Result<(), AgentFailure> {
    let mut run = Run {
        context,
        emit,
        local: Vec::new(),
    };
    let (templates, aggregates) = run.prepare()?;
    let Assignment {
        leg_ref,
        agent: planned,
        plan_seed,
        ..
    } = context.assignment;
    let nonce = NonceSource {
        plan_seed: *plan_seed,
        run: leg_ref.run.clone(),
        attempt: leg_ref.attempt,
        agent: planned.id.clone(),
    };
    let budget = PromptBudget::for_options(&planned.options);
    let agent = Agent::new(planned.role.clone(), &templates, &aggregates, nonce, budget);
    let mut steps: Vec<StepReport> = Vec::with_capacity(STEPS.len());
    for step in STEPS {
        if !steps.is_empty() {
            run.think().await?;
        }
        let previous = steps.last().map(|done| done.text.clone());
        let done = run.ask(&agent, step, previous.as_deref()).await?;
        steps.push(done);
    }
    run.write(&aggregates, &steps)
}

/// An agent under way.
struct Run<'a, E> {
    context: &'a AgentContext<'a>,
    emit: &'a mut E,
    local: Vec<LocalStep>,
}

impl<E: FnMut(AgentRecord)> Run<'_, E> {
    /// Does a local step between two stamps; `work` gives its result and one line on it.
    fn local<T>(
        &mut self,
        step: &str,
        work: impl FnOnce() -> Result<(T, String), AgentFailure>,
    ) -> Result<T, AgentFailure> {
        if self.context.cancel.is_cancelled() {
            return Err(stopped(step));
        }
        let start = clock::mono();
        let (result, detail) = work()?;
        let end = clock::mono();
        self.record(LocalStep {
            step: step.to_owned(),
            start,
            end,
            detail,
        });
        Ok(result)
    }

    fn output(&mut self, name: &str, media_type: &str, text: &str) {
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        let text = bounded(text);
        (self.emit)(AgentRecord::Output(Output {
            name,
            media_type,
            text,
        }));
    }

    /// Templates and data: everything before the first request.
    fn prepare(&mut self) -> Result<(Templates, Aggregates), AgentFailure> {
        let context = self.context;
        let workload = &context.assignment.workload;
        if workload.template != workload::TR110_REPORT {
            return Err(failure(
                "data",
                format!(
                    "the workload '{}' is not known; this worker has '{}'",
                    workload.template,
                    workload::TR110_REPORT
                ),
            ));
        }
        let files = self.local("scan", || {
            let source = DataSource::resolve(context.data_root, workload.data.as_deref())
                .map_err(|error| data_failure(&error))?;
            let files = source.files().map_err(|error| data_failure(&error))?;
            let bytes: u64 = files.iter().map(|file| file.bytes).sum();
            let detail = format!("{} files, {bytes} bytes", files.len());
            Ok((files, detail))
        })?;
        let dataset = self.local("ingest", || {
            let dataset = workload::ingest(&files).map_err(|error| data_failure(&error))?;
            let detail = format!("{} files, {} rows", dataset.files().len(), dataset.rows());
            Ok((dataset, detail))
        })?;
        let (aggregates, json) = self.local("aggregate", || {
            let aggregates = workload::aggregate(&dataset);
            let json = bounded_json(&aggregates)?;
            let detail = format!("{} columns over all files", aggregates.columns.len());
            Ok(((aggregates, json), detail))
        })?;
        self.output(AGGREGATES_OUTPUT, "application/json", &json);
        let templates = self.local("templates", || {
            let (templates, from) = match context.templates_dir {
                Some(folder) => (
                    Templates::with_user_folder(folder),
                    "a user's over built-in",
                ),
                None => (Templates::builtin(), "built-in"),
            };
            Ok((
                templates.map_err(|error| prompt_failure(&error))?,
                from.to_owned(),
            ))
        })?;
        Ok((templates, aggregates))
    }

    /// The agent waits for its tools: the engine hears nothing of it meanwhile.
    ///
    /// It counts into the agent's duration and its local steps, alone and together, and into no
    /// request. It happens before the prompt is made, so that the prompt goes out as soon as it is.
    async fn think(&mut self) -> Result<(), AgentFailure> {
        let planned = self.context.assignment.agent.think_ms;
        if planned == 0 {
            return Ok(());
        }
        let start = clock::mono();
        let until = start.plus(u64::from(planned) * 1_000_000);
        let end = tokio::select! {
            end = clock::rest_until(until) => end,
            () = self.context.cancel.cancelled() => return Err(stopped(THINK_STEP)),
        };
        self.record(LocalStep {
            step: THINK_STEP.to_owned(),
            start,
            end,
            detail: format!("{planned} ms as planned"),
        });
        Ok(())
    }

    fn record(&mut self, step: LocalStep) {
        self.local.push(step.clone());
        (self.emit)(AgentRecord::Local(step));
    }

    /// One step with the model.
    async fn ask(
        &mut self,
        agent: &Agent<'_>,
        step: StepKind,
        previous: Option<&str>,
    ) -> Result<StepReport, AgentFailure> {
        let prompt = self.local("prompt", || {
            let prompt = agent
                .prompt(step, previous)
                .map_err(|error| prompt_failure(&error))?;
            let tokens = prompt.estimated_tokens;
            let note = prompt.note.as_deref().unwrap_or("nothing left out");
            let detail = format!("{}: at most {tokens} tokens, {note}", step.as_str());
            Ok((prompt, detail))
        })?;
        let Assignment {
            leg_ref,
            agent: planned,
            ..
        } = self.context.assignment;
        let request_id = request_name::measured(leg_ref, &planned.id, step.as_str())
            .map_err(|error| failure("data", error.to_string()))?;
        // Held, not entered: entering it on every poll would cost time between two stamps.
        let span = tracing::info_span!(
            "worker.request.generate",
            run_id = %leg_ref.run,
            agent_id = %planned.id,
            request_id = %request_id,
            step = step.as_str(),
        );
        let mut headers = HeaderMap::new();
        span.in_scope(|| chimera_runtime::context::inject(&mut headers));
        if !self.context.lease.is_ahead() {
            let detail = format!("the lease had run out before the {} request", step.as_str());
            return Err(failure("fenced", detail));
        }
        let request = ChatRequest {
            request_id,
            step: step.as_str().to_owned(),
            messages: vec![Message::user(prompt.content)],
            headers,
        };
        let outcome = self
            .context
            .engine
            .chat(&request, &self.context.cancel)
            .await;
        drop(span);
        (self.emit)(AgentRecord::Request(outcome.record.clone()));
        if let Some(error) = &outcome.record.error {
            return Err(request_failure(step, error));
        }
        self.output(text_output(step), "text/markdown", &outcome.text);
        Ok(StepReport {
            step,
            request: outcome.record,
            text: outcome.text,
            note: prompt.note,
        })
    }

    /// The report file.
    fn write(&mut self, aggregates: &Aggregates, steps: &[StepReport]) -> Result<(), AgentFailure> {
        let Assignment { leg_ref, agent, .. } = self.context.assignment;
        let so_far = self.local.clone();
        let report = self.local("write", || {
            let report = workload::report_markdown(&AgentReport {
                leg: leg_ref,
                agent,
                aggregates,
                local: &so_far,
                steps,
            });
            let detail = format!("{} bytes", report.len());
            Ok((report, detail))
        })?;
        self.output(REPORT_OUTPUT, "text/markdown", &report);
        Ok(())
    }
}

/// The aggregates as JSON that one message can carry.
fn bounded_json(aggregates: &Aggregates) -> Result<String, AgentFailure> {
    let json = |value: &Aggregates| {
        value
            .to_json()
            .map_err(|error| failure("data", format!("aggregates as JSON: {error}")))
    };
    let whole = json(aggregates)?;
    if whole.len() <= MAX_OUTPUT_BYTES {
        Ok(whole)
    } else {
        json(&aggregates.abridge())
    }
}

/// A text of at most [`MAX_OUTPUT_BYTES`], which says so where it was cut.
fn bounded(text: &str) -> String {
    if text.len() <= MAX_OUTPUT_BYTES {
        return text.to_owned();
    }
    let mut kept = text.to_owned();
    kept.truncate(text.floor_char_boundary(MAX_OUTPUT_BYTES));
    kept.push_str(&format!("\n\n[cut here: {} bytes in all]\n", text.len()));
    kept
}

fn failure(label: &str, detail: String) -> AgentFailure {
    AgentFailure {
        label: label.to_owned(),
        detail,
    }
}

fn stopped(step: &str) -> AgentFailure {
    failure("stopped", format!("stopped before the step '{step}'"))
}

fn request_failure(step: StepKind, error: &RequestError) -> AgentFailure {
    let step = step.as_str();
    match error.kind {
        RequestErrorKind::Cancelled => {
            failure("stopped", format!("stopped during the {step} request"))
        }
        kind => failure(
            &format!("request:{}", kind.as_str()),
            format!("the {step} request failed: {}", error.detail),
        ),
    }
}

fn data_failure(error: &DataError) -> AgentFailure {
    failure("data", error.to_string())
}

fn prompt_failure(error: &TemplateError) -> AgentFailure {
    let label = match error {
        TemplateError::TooLong { .. } => {
            format!("request:{}", RequestErrorKind::Truncated.as_str())
        }
        _ => "data".to_owned(),
    };
    failure(&label, error.to_string())
}
