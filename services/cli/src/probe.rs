//! `probe`: one instance, the measuring path of a run, no services.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agent_worker::engine::EngineConfig;
use agent_worker::probe::{self, ProbeConfig, ProbeError, ProbeSummary, Quantiles};
use anyhow::Context as _;
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::report::number::opt;
use chimera_runtime::exit::UsageError;
use chimera_runtime::shutdown;
use url::Url;

use crate::args::ProbeArgs;
use crate::{output, table};

/// Requests where nobody says otherwise.
const REQUESTS: u32 = 10;
/// Output tokens per request where nobody says otherwise.
const TOKENS: u32 = 64;

/// Probes, on the current-thread runtime that this is called from.
pub(crate) async fn run(args: &ProbeArgs, json: bool) -> anyhow::Result<()> {
    let config = config(args)?;
    let stop = shutdown::on_signals(|| {}).context("cannot listen for Ctrl-C")?;
    let mut lines = args.out.as_deref().map(Lines::create).transpose()?;
    let sink: Box<dyn Write + Send> = match &lines {
        Some(lines) => Box::new(lines.file.try_clone().context("cannot write the results")?),
        None => Box::new(io::sink()),
    };
    let summary = match probe::run(config, sink, &stop).await {
        Ok(summary) => summary,
        Err(error) => return Err(failed(error, args, lines)),
    };
    let interrupted = stop.is_cancelled();
    if let Some(lines) = lines.take() {
        lines.finish()?;
    }
    if json {
        output::print_json(&summary)?;
    } else {
        output::print(text(&summary).as_bytes())?;
    }
    if interrupted {
        let wanted = args.requests.unwrap_or(REQUESTS);
        let file = args.out.as_ref().map_or_else(String::new, |out| {
            format!("; {} holds what was asked until then", out.display())
        });
        anyhow::bail!(
            "stopped after {} of {wanted} requests{file}",
            summary.requests
        );
    }
    let failures = summary.requests.saturating_sub(summary.succeeded);
    if failures == 0 {
        return Ok(());
    }
    let first = summary.first_error.as_deref().unwrap_or("no words");
    anyhow::bail!(
        "{failures} of {} requests failed ({}); the first said: {first}",
        summary.requests,
        classes(&summary)
    )
}

fn config(args: &ProbeArgs) -> Result<ProbeConfig, UsageError> {
    let url = Url::parse(&args.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| {
        UsageError(format!(
            "'{}' is no engine URL; give one like http://127.0.0.1:11434",
            args.url
        ))
    })?;
    let default = EngineOptions::default();
    let options = EngineOptions {
        num_predict: args.tokens.unwrap_or(TOKENS),
        num_ctx: args.num_ctx.unwrap_or(default.num_ctx),
        ..default
    };
    Ok(ProbeConfig {
        engine: EngineConfig::new(url, args.engine, args.model.clone(), options),
        concurrency: args.concurrency.unwrap_or(1),
        requests: args.requests.unwrap_or(REQUESTS),
        prompt: args.prompt.clone(),
        warm: true,
    })
}

/// Why there is no summary, with the way out.
fn failed(error: ProbeError, args: &ProbeArgs, lines: Option<Lines>) -> anyhow::Error {
    let written = matches!(error, ProbeError::Write(_));
    match lines {
        // What could be written may still be wanted; it does not look whole.
        Some(lines) if written => output::hint(&format!("left as {}", lines.draft.display())),
        Some(lines) => lines.discard(),
        None => {}
    }
    match error {
        ProbeError::OutOfBounds { .. } => UsageError(error.to_string()).into(),
        ProbeError::Warm(_) => {
            let way = match args.engine {
                EngineKind::Ollama => {
                    format!(
                        "is Ollama running there (`ollama serve`), with this model (`ollama pull {}`)",
                        args.model
                    )
                }
                EngineKind::Openai => "is the server running there, with this model".to_owned(),
            };
            anyhow::Error::from(error).context(format!("{} cannot be measured; {way}?", args.url))
        }
        other => other.into(),
    }
}

/// The file of JSON lines: it grows under another name, and gets its own at the end.
struct Lines {
    path: PathBuf,
    draft: PathBuf,
    file: File,
}

impl Lines {
    fn create(path: &Path) -> anyhow::Result<Self> {
        // Now rather than after minutes of measuring.
        if path.is_dir() || path.file_name().is_none() {
            let words = format!("--out: {} is a folder; name a file", path.display());
            return Err(UsageError(words).into());
        }
        let draft = output::partial(path);
        let file = File::create(&draft)
            .with_context(|| format!("--out: cannot create {}", draft.display()))?;
        Ok(Self {
            path: path.to_owned(),
            draft,
            file,
        })
    }

    fn finish(self) -> anyhow::Result<()> {
        self.file
            .sync_all()
            .and_then(|()| std::fs::rename(&self.draft, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.draft) {
            tracing::warn!(file = %self.draft.display(), %error, "an empty draft is left");
        }
    }
}

fn classes(summary: &ProbeSummary) -> String {
    let each = summary
        .errors
        .iter()
        .map(|(kind, count)| format!("{}: {count}", kind.as_str()));
    each.collect::<Vec<_>>().join(", ")
}

fn text(summary: &ProbeSummary) -> String {
    let header = ["", "n", "p50", "p90", "p99"];
    let row = |name: &str, found: Option<Quantiles>| {
        let cells = found.map_or_else(
            || ["0", "-", "-", "-"].map(str::to_owned),
            |q| {
                let ms = |value| opt(Some(value));
                [q.n.to_string(), ms(q.p50), ms(q.p90), ms(q.p99)]
            },
        );
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    let mut text = table::plain(
        &header,
        [
            row("first token (TTFT), ms", summary.ttft_ms),
            row("per further token (TPOT), ms", summary.tpot_ms),
            row("gap between chunks (ITL), ms", summary.itl_ms),
            row("whole answer (E2E), ms", summary.e2e_ms),
        ],
    );
    let failed = summary.requests.saturating_sub(summary.succeeded);
    let errors = if failed == 0 {
        String::new()
    } else {
        format!(" ({})", classes(summary))
    };
    let unit = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |_| format!("{} {unit}", opt(value)))
    };
    text.push_str(&format!(
        "\nrequests   {} whole, {failed} failed{errors}\noutput     {} tokens, {}\nwall       {}\n\
         client     {} of CPU\n",
        summary.succeeded,
        summary.output_tokens,
        unit(summary.tokens_per_s, "tokens/s"),
        unit(summary.wall_s, "s"),
        unit(Some(summary.client_cpu_s), "s"),
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_domain::event::RequestErrorKind;

    #[test]
    fn what_was_not_measured_is_a_dash_and_failures_are_told_by_class() {
        let quantiles = Quantiles {
            n: 3,
            p50: 20.04,
            p90: 21.5,
            p99: 22.0,
        };
        let summary = ProbeSummary {
            requests: 5,
            succeeded: 3,
            errors: [(RequestErrorKind::Status, 2)].into(),
            first_error: Some("503".to_owned()),
            wall_s: Some(1.5),
            output_tokens: 30,
            tokens_per_s: Some(20.0),
            ttft_ms: Some(quantiles),
            tpot_ms: None,
            itl_ms: None,
            e2e_ms: Some(quantiles),
            client_cpu_s: 0.0123,
        };
        insta::assert_snapshot!(text(&summary));
    }
}
