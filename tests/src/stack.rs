//! All services together, each its own process, on a nats-server of their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chimera_domain::control::ExperimentOutcome;
use chimera_domain::ids::ExperimentId;
use chimera_domain::options::EngineKind;
use chimera_domain::report::Report;
use chimera_domain::session::{Progress, WorkerInfo};
use chimera_domain::spec;
use chimera_runtime::bus::Bus;
use chimera_runtime::{clock, config};
use chimera_testkit::nats::TestNats;
use chimera_wire::analysis_client::AnalysisClient;
use chimera_wire::api::{ReportDocument, ReportRequest, SpecDocument, SpecFormat, Submission};
use chimera_wire::control_client::ControlClient;
use chimera_wire::pb;
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;

use crate::process::{self, PATIENCE, Service};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(10);
/// Set: the folders of stacks stay, for a look at logs and stores.
const KEEP_VARIABLE: &str = "CHIMERA_E2E_KEEP";
/// Largest report.
const MAX_ANSWER: usize = 64 << 20;

/// How a worker is started.
#[derive(Debug, Clone, Default)]
pub struct WorkerOptions {
    /// Further arguments.
    pub args: Vec<String>,
    /// Where it finds the coordinator, if not at the coordinator itself.
    pub through: Option<SocketAddr>,
    /// Cache folder of its own, so that it does not see the claims of the others.
    pub own_cache: bool,
}

/// A running stack. Dropping it kills everything; when a test fails, the ends of all logs are shown.
pub struct Stack {
    // In this order: first those that would log the loss of the others.
    workers: BTreeMap<String, Service>,
    telemetry: Option<Service>,
    analyzer: Option<Service>,
    coordinator: Option<Service>,
    /// The test's own connection to the bus.
    pub bus: Bus,
    /// The bus.
    pub nats: TestNats,
    coordinator_address: SocketAddr,
    analyzer_address: SocketAddr,
    coordinator_args: Vec<String>,
    /// Whether a coordinator that is started from now on may ask the analyzer.
    pub asks_analyzer: bool,
    starts: u32,
    dir: TempDir,
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
    }
}

impl Stack {
    /// Starts bus, coordinator, analyzer and telemetry; `None`, said aloud, where there is no
    /// nats-server and none is required.
    ///
    /// # Errors
    /// When a service does not get ready.
    pub async fn start(test: &str) -> Result<Option<Self>> {
        Self::start_with(test, &[]).await
    }

    /// The same with further arguments for the coordinator.
    ///
    /// # Errors
    /// When a service does not get ready.
    pub async fn start_with(test: &str, coordinator_args: &[&str]) -> Result<Option<Self>> {
        let Some(nats) = TestNats::start_or_skip(test).await else {
            return Ok(None);
        };
        let dir = tempfile::Builder::new()
            .prefix(&format!("e2e-{test}-"))
            .disable_cleanup(config::env(KEEP_VARIABLE).is_some())
            .tempdir()
            .context("no folder for a stack")?;
        let bus = nats.connect("test").await?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut stack = Self {
            workers: BTreeMap::new(),
            telemetry: None,
            analyzer: None,
            coordinator: None,
            bus,
            nats,
            coordinator_address: nowhere,
            analyzer_address: nowhere,
            coordinator_args: coordinator_args.iter().map(|&a| a.to_owned()).collect(),
            asks_analyzer: true,
            starts: 0,
            dir,
        };
        stack.start_analyzer().await?;
        stack.start_coordinator().await?;
        stack.telemetry = Some(
            stack
                .spawn("gpu-telemetry", "gpu-telemetry", &[], true)
                .await?,
        );
        Ok(Some(stack))
    }

    /// The stack's folder: everything that its services write lies in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Folder of an experiment's bundle.
    #[must_use]
    pub fn bundle(&self, experiment: &ExperimentId) -> PathBuf {
        self.dir().join("results").join(experiment.as_str())
    }

    /// URL of the coordinator; the same after a restart.
    #[must_use]
    pub fn server(&self) -> String {
        format!("http://{}", self.coordinator_address)
    }

    /// Address of the coordinator; the same after a restart.
    #[must_use]
    pub fn coordinator_address(&self) -> SocketAddr {
        self.coordinator_address
    }

    async fn spawn(
        &mut self,
        program: &str,
        name: &str,
        args: &[String],
        shared_cache: bool,
    ) -> Result<Service> {
        self.starts += 1;
        // Numbered: a service that is started again must not overwrite its last words.
        let log = self.dir().join(format!("{:02}-{name}.log", self.starts));
        let mut spec = process::spec(program, self.dir(), &log)?
            .args(["--nats-url", &self.nats.url()?])
            .args(["--log-format", "json", "--log"])
            .arg("info,async_nats=warn,agent_worker::recorder=debug")
            .args(args);
        if !shared_cache {
            spec = spec.env(
                "XDG_CACHE_HOME",
                self.dir().join(format!("cache-of-{name}")),
            );
        }
        Service::start(name, spec).await
    }

    /// Starts the coordinator (again): on the port that it had before, if it had one.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_coordinator(&mut self) -> Result<()> {
        let mut args = vec!["--listen".to_owned(), self.coordinator_address.to_string()];
        if self.asks_analyzer {
            let analyzer = format!("http://{}", self.analyzer_address);
            args.extend(["--analyzer".to_owned(), analyzer]);
        }
        args.extend(self.coordinator_args.iter().cloned());
        let service = self
            .spawn("coordinator", "coordinator", &args, true)
            .await?;
        self.coordinator_address = address(&service, "coordinator ready").await?;
        self.coordinator = Some(service);
        Ok(())
    }

    async fn start_analyzer(&mut self) -> Result<()> {
        let results = self.dir().join("results").display().to_string();
        let args = [
            "--listen",
            &self.analyzer_address.to_string(),
            "--out-dir",
            &results,
        ]
        .map(str::to_owned);
        let service = self.spawn("analyzer", "analyzer", &args, true).await?;
        self.analyzer_address = address(&service, "analyzer ready").await?;
        self.analyzer = Some(service);
        Ok(())
    }

    /// Attaches a worker to an engine and waits until the coordinator knows it.
    ///
    /// # Errors
    /// When it does not join.
    pub async fn start_worker(&mut self, name: &str, kind: EngineKind, url: &str) -> Result<()> {
        self.start_worker_with(name, kind, url, &WorkerOptions::default())
            .await?;
        self.until_workers(|all| all.iter().any(|w| w.worker.as_str() == name))
            .await
    }

    /// Attaches a worker to an engine; does not wait until it has joined.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_worker_with(
        &mut self,
        name: &str,
        kind: EngineKind,
        url: &str,
        options: &WorkerOptions,
    ) -> Result<()> {
        let coordinator = options.through.unwrap_or(self.coordinator_address);
        let state = self.dir().join("workers").display().to_string();
        let mut args = [
            "--worker-id",
            name,
            "--instance",
            url,
            "--engine",
            kind.as_str(),
        ]
        .map(str::to_owned)
        .to_vec();
        args.extend([
            "--coordinator-url".to_owned(),
            format!("http://{coordinator}"),
        ]);
        args.extend(["--state-dir".to_owned(), state]);
        args.extend(options.args.iter().cloned());
        let service = self
            .spawn("agent-worker", name, &args, !options.own_cache)
            .await?;
        self.workers.insert(name.to_owned(), service);
        Ok(())
    }

    /// A worker that was started here.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn worker(&mut self, name: &str) -> Result<&mut Service> {
        self.workers
            .get_mut(name)
            .with_context(|| format!("no worker {name} was started"))
    }

    /// SIGKILL to a worker; returns when it is gone.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn kill_worker(&mut self, name: &str) -> Result<()> {
        let worker = self
            .workers
            .remove(name)
            .with_context(|| format!("no worker {name}"))?;
        worker.kill9().await
    }

    /// SIGKILL to the coordinator; returns when it is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill_coordinator(&mut self) -> Result<()> {
        self.coordinator
            .take()
            .context("no coordinator runs")?
            .kill9()
            .await
    }

    /// SIGTERM to the coordinator; returns when it has ended by itself.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub async fn stop_coordinator(&mut self) -> Result<()> {
        let mut coordinator = self.coordinator.take().context("no coordinator runs")?;
        coordinator.signal(Signal::TERM)?;
        coordinator.ended(PATIENCE).await.map(|_| ())
    }

    async fn control(&self) -> Result<ControlClient<Channel>> {
        ControlClient::connect(self.server())
            .await
            .context("no connection to the coordinator")
    }

    /// Hands a spec in as it is, past the command line's own check.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn submit(&self, spec: &str) -> Result<ExperimentId> {
        let spec = SpecDocument {
            format: match spec::SpecFormat::of(spec) {
                spec::SpecFormat::Toml => SpecFormat::Toml,
                spec::SpecFormat::Json => SpecFormat::Json,
            },
            text: spec.to_owned(),
        };
        let request = pb::SubmitRequest::from(Submission {
            spec,
            experiment: None,
        });
        let answer = self.control().await?.submit(request).await?;
        Ok(answer.into_inner().try_into()?)
    }

    /// Asks for an experiment to be stopped.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn cancel(&self, experiment: &ExperimentId) -> Result<()> {
        self.control()
            .await?
            .cancel(pb::CancelRequest::from(experiment.clone()))
            .await?;
        Ok(())
    }

    /// How far an experiment is.
    ///
    /// # Errors
    /// When the coordinator does not know it.
    pub async fn progress(&self, experiment: &ExperimentId) -> Result<Progress> {
        let request = pb::GetRequest::from(experiment.clone());
        Ok(self
            .control()
            .await?
            .get(request)
            .await?
            .into_inner()
            .try_into()?)
    }

    /// Workers with a session.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        let answer = self.control().await?.workers(pb::WorkersRequest {}).await?;
        Ok(answer.into_inner().try_into()?)
    }

    /// Waits until the coordinator's list of workers is as wanted.
    ///
    /// # Errors
    /// When it does not become so; with the list.
    pub async fn until_workers(&self, wanted: impl Fn(&[WorkerInfo]) -> bool) -> Result<()> {
        let deadline = clock::deadline(PATIENCE);
        loop {
            let all = self.workers().await?;
            if wanted(&all) {
                return Ok(());
            }
            if clock::mono() >= deadline {
                bail!("the workers are not as wanted after {PATIENCE:?}: {all:#?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until an experiment has ended.
    ///
    /// # Errors
    /// When it does not end in time; with where it stands.
    pub async fn outcome(
        &self,
        experiment: &ExperimentId,
        limit: Duration,
    ) -> Result<ExperimentOutcome> {
        let deadline = clock::deadline(limit);
        loop {
            let progress = self.progress(experiment).await?;
            if let Some(outcome) = progress.outcome {
                return Ok(outcome);
            }
            if clock::mono() >= deadline {
                bail!(
                    "{experiment} has not ended after {limit:?}: {}, {} of {} legs closed",
                    progress.phase,
                    progress.legs_closed,
                    progress.legs_total
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The report of an experiment, from the analyzer; waits until it is written.
    ///
    /// # Errors
    /// When it is not written in time.
    pub async fn report(&self, experiment: &ExperimentId) -> Result<Report> {
        let address = format!("http://{}", self.analyzer_address);
        let mut client = AnalysisClient::connect(address)
            .await
            .context("no connection to the analyzer")?
            .max_decoding_message_size(MAX_ANSWER);
        let request = ReportRequest {
            experiment: experiment.clone(),
            wait: PATIENCE,
        };
        let answer = client.get_report(pb::GetReportRequest::from(request)).await;
        let document: ReportDocument = match answer {
            Ok(answer) => answer.into_inner().into(),
            Err(status) if status.code() == Code::NotFound => {
                bail!("no report of {experiment} after {PATIENCE:?}")
            }
            Err(status) => return Err(status.into()),
        };
        serde_json::from_str(&document.json).context("the report cannot be read")
    }

    /// Writes the ends of all logs to standard error.
    pub fn show_logs(&self) {
        let services = self
            .coordinator
            .iter()
            .chain(&self.analyzer)
            .chain(self.workers.values());
        for service in services {
            let tail = service.tail();
            // What a test reads of a worker at level debug would bury the rest.
            let is_debug = |line: &&str| line.contains("\"level\":\"DEBUG\"");
            let lines: Vec<&str> = tail.lines().filter(|line| !is_debug(line)).collect();
            eprintln!(
                "---- end of the log of {}:\n{}",
                service.name(),
                lines.join("\n")
            );
        }
    }
}

/// Where a service listens, by its own word.
async fn address(service: &Service, ready: &str) -> Result<SocketAddr> {
    let fields = service.says(ready, PATIENCE).await?;
    let text = fields
        .get("address")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    text.parse()
        .with_context(|| format!("{} told no address but '{text}'", service.name()))
}
