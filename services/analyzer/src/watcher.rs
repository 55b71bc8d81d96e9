//! Follows the control log and analyses each experiment when it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chimera_domain::control::{ControlEvent, ControlRecord, LegVerdict};
use chimera_domain::ids::ExperimentId;
use chimera_domain::report::{Environment, Report};
use chimera_runtime::bus::Bus;
use chimera_runtime::host;
use chimera_wire::subject::{Filter, StreamName};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::bundle::{self, MANIFEST};
use crate::error::AnalyzerError;
use crate::history;
use crate::ingest::{Ingest, decode_control};
use crate::store::{Finished, Store};

/// Tries at an analysis whose streams or disk failed.
const TRIES: u32 = 3;
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Where bundles go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `<folder>/<experiment>`, for every experiment.
    Under(PathBuf),
    /// This very folder, for the one experiment of a local stack.
    Exactly(PathBuf),
}

impl Target {
    fn folder(&self, experiment: &ExperimentId) -> PathBuf {
        match self {
            Self::Under(dir) => dir.join(experiment.as_str()),
            Self::Exactly(dir) => dir.clone(),
        }
    }
}

/// The follower.
pub(crate) struct Watcher {
    pub(crate) bus: Bus,
    pub(crate) ingest: Ingest,
    pub(crate) store: Arc<Store>,
    pub(crate) target: Target,
    pub(crate) history: Option<PathBuf>,
    pub(crate) software: String,
}

impl Watcher {
    /// Follows until told to stop.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), AnalyzerError> {
        let mut log = self.bus.follow(StreamName::Ctrl, &Filter::Ctrl, 0);
        loop {
            let message = tokio::select! {
                message = log.next() => message,
                () = shutdown.cancelled() => return Ok(()),
            };
            let Some(message) = message else {
                return Ok(());
            };
            let message = message?;
            match decode_control(&message) {
                Ok(Some(event)) => self.heard(&event).await,
                Ok(None) => {}
                // It is buried when its experiment is analysed.
                Err(error) => tracing::warn!(subject = %message.subject, %error, "unreadable"),
            }
        }
    }

    async fn heard(&self, event: &ControlEvent) {
        match &event.record {
            ControlRecord::Closed {
                verdict: LegVerdict::Invalid(why),
            } => {
                tracing::info!(
                    experiment = %event.experiment,
                    reason = why.reason.as_str(),
                    detail = %why.detail,
                    "a leg closed invalid"
                );
            }
            ControlRecord::ExperimentClosed { .. } if !self.store.has(&event.experiment) => {
                let span = tracing::info_span!("analyzer.experiment.analyse", experiment = %event.experiment);
                self.analyse_with_patience(&event.experiment)
                    .instrument(span)
                    .await;
            }
            _ => {}
        }
    }

    async fn analyse_with_patience(&self, experiment: &ExperimentId) {
        let mut last = String::new();
        for attempt in 1..=TRIES {
            match self.analyse(experiment).await {
                Ok(finished) => {
                    self.store.put(experiment.clone(), Ok(Arc::new(finished)));
                    return;
                }
                Err(error) => {
                    last = chimera_runtime::exit::chain(&error);
                    tracing::error!(attempt, %last, "the analysis failed");
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.store.put(experiment.clone(), Err(last));
    }

    async fn analyse(&self, experiment: &ExperimentId) -> Result<Finished, AnalyzerError> {
        let folder = self.target.folder(experiment);
        if let Some(finished) = self.earlier(experiment, &folder)? {
            return Ok(finished);
        }
        let records = self.ingest.collect(experiment).await?;
        let environment = environment();
        let rendered = records.render(&environment)?;
        if rendered.duplicates > 0 {
            tracing::info!(
                duplicates = rendered.duplicates,
                "further copies of records were dropped"
            );
        }
        bundle::write(
            &folder,
            experiment,
            &self.software,
            &environment,
            &records,
            &rendered,
        )?;
        tracing::info!(folder = %folder.display(), "report written");
        self.enter(&rendered.report, &folder).await;
        Ok(Finished {
            report: rendered.report,
            folder,
        })
    }

    /// Enters a report into the history. The report stands without it, so trouble is only told.
    async fn enter(&self, report: &Report, folder: &Path) {
        let Some(path) = self.history.clone() else {
            return;
        };
        let (report, folder) = (report.clone(), folder.to_owned());
        // SQLite waits for other processes, which must not hold up the services beside this one.
        let work = move || history::enter(&path, &report, &folder);
        let entered = tokio::task::spawn_blocking(work).await;
        let trouble = match entered {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chimera_runtime::exit::chain(&error),
            Err(error) => error.to_string(),
        };
        tracing::warn!(%trouble, "the report is written, but not in the history");
    }

    /// The bundle of an analyzer that ran before this one.
    fn earlier(
        &self,
        experiment: &ExperimentId,
        folder: &Path,
    ) -> Result<Option<Finished>, AnalyzerError> {
        if matches!(self.target, Target::Exactly(_)) || !folder.join(MANIFEST).is_file() {
            return Ok(None);
        }
        let bundle = bundle::read(folder)?;
        if bundle.manifest.experiment != *experiment {
            return Ok(None);
        }
        let report = bundle.replay()?.report;
        Ok(Some(Finished {
            report,
            folder: folder.to_owned(),
        }))
    }
}

/// What this host is. Engines, model and GPUs come from the records.
fn environment() -> Environment {
    Environment {
        host: Some(host::name()),
        os: Some(host::os()),
        cpu: host::cpu_model(),
        cores: host::cores(),
        memory_bytes: host::memory_bytes(),
        ..Environment::default()
    }
}
