//! The one engine instance of this worker: attached to, or spawned and owned.
//!
//! A spawned llama.cpp server takes context, batch, threads, layers and slots at launch, so an
//! assignment that asks for others gets a new server: before the barrier, in the WARM phase.
//! Ollama takes all but the slots per request and reloads by itself.

mod launch;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use chimera_domain::options::EngineKind;
use chimera_domain::plan::{PlannedAgent, Topology};
use chimera_runtime::process::{ChildProcess, ChildSpec, ProcessError};
use thiserror::Error;
use url::Url;

use crate::digest;
use launch::{Launch, model_file, ollama_spec, pin_gpu};

/// How long a spawned engine may take until it answers; loading a large model from disk fits in.
const START_LIMIT: Duration = Duration::from_secs(240);
/// How often its health is asked for meanwhile.
const HEALTH_PERIOD: Duration = Duration::from_millis(100);
/// How long an engine gets to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Tries at a free port: between finding one and the engine's bind another process may take it.
const PORT_TRIES: usize = 3;

/// Where the engine comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineSource {
    /// It runs already; this worker starts and stops nothing.
    Attach {
        /// Base URL.
        url: Url,
        /// Its protocol.
        kind: EngineKind,
    },
    /// `ollama serve` of our own, on a free port.
    SpawnOllama {
        /// The `ollama` program.
        program: PathBuf,
        /// The one GPU that it may see, by UUID; `None`: as the machine has it.
        gpu: Option<String>,
    },
    /// A `llama-server` of our own, on a free port.
    SpawnLlama {
        /// The `llama-server` program.
        program: PathBuf,
        /// Folder of `<model>.gguf`.
        models_dir: PathBuf,
        /// The one GPU that it may see, by UUID; `None`: as the machine has it.
        gpu: Option<String>,
    },
}

impl EngineSource {
    /// The protocol that it speaks.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        match self {
            Self::Attach { kind, .. } => *kind,
            Self::SpawnOllama { .. } => EngineKind::Ollama,
            Self::SpawnLlama { .. } => EngineKind::Openai,
        }
    }
}

/// Why there is no engine.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The program could not be started.
    #[error("cannot start the engine {program}")]
    Spawn {
        /// Which program.
        program: PathBuf,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// It ended before it answered.
    #[error(
        "the engine {program} ended while starting ({status}); its log {log} ends with: {tail}"
    )]
    Ended {
        /// Which program.
        program: PathBuf,
        /// How it ended.
        status: String,
        /// Where its output went.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// It never answered.
    #[error("the engine {program} did not answer on {url} within {limit_s} s; see its log {log}")]
    Silent {
        /// Which program.
        program: PathBuf,
        /// Where it should listen.
        url: String,
        /// The limit.
        limit_s: u64,
        /// Where its output went.
        log: PathBuf,
    },
    /// No model file of that name.
    #[error(
        "no model '{model}': {path} is missing; put the GGUF file there, \
         or name another with --model"
    )]
    NoModel {
        /// The name asked for.
        model: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A name that would leave the models folder.
    #[error("'{0}' is no model name: letters, digits, '.', ':', '-' and '_' only")]
    BadModelName(String),
    /// The folder of the engine's log could not be made.
    #[error("cannot make the folder of the engine's log")]
    Log(#[source] std::io::Error),
    /// Asked to launch what is attached to.
    #[error("an attached engine is not launched by its worker")]
    NotOurs,
    /// No loopback port.
    #[error("no free port on the loopback interface")]
    NoPort(#[source] std::io::Error),
    /// The model file could not be read.
    #[error("cannot read the model file {path}")]
    Model {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A running engine as the worker knows it from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Base URL.
    pub url: Url,
    /// Its process, if spawned here.
    pub pid: Option<u32>,
    /// SHA-256 of the model file, if the worker chose the file.
    pub model_digest: Option<String>,
    /// Changes with every launch.
    pub launch: Option<u64>,
}

/// What can be looked at to tell what an agent would take.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The model file that a server of our own would be started with.
    File {
        /// Which file.
        model: PathBuf,
        /// What the server that runs now was started for.
        running: Option<Box<Held>>,
    },
    /// An engine that runs.
    Asked {
        /// Its base URL.
        url: Url,
        /// Its protocol.
        kind: EngineKind,
    },
    /// An engine of our own that does not run yet.
    NotStarted,
}

/// What a server of our own was started for.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Its model file.
    pub(crate) model: PathBuf,
    /// The agent that asked for it.
    pub(crate) agent: PlannedAgent,
    /// That agent's place in its test.
    pub(crate) topology: Topology,
}

#[derive(Debug)]
struct Running {
    child: ChildProcess,
    launch: Launch,
    /// Who it was started for.
    first: (PlannedAgent, Topology),
    endpoint: Endpoint,
}

/// Owner of the instance.
#[derive(Debug)]
pub struct Launcher {
    source: EngineSource,
    log_dir: PathBuf,
    name: String,
    http: reqwest::Client,
    launches: u64,
    running: Option<Running>,
}

impl Launcher {
    /// Starts nothing yet. `name` goes into the names of the log files.
    #[must_use]
    pub fn new(
        source: EngineSource,
        log_dir: PathBuf,
        name: String,
        http: reqwest::Client,
    ) -> Self {
        Self {
            source,
            log_dir,
            name,
            http,
            launches: 0,
            running: None,
        }
    }

    /// The engine for this agent: as it runs, or launched for the agent's options and its place in
    /// the test. Agents that want the same find it running.
    ///
    /// # Errors
    /// When the engine or its model is not there or does not come up.
    pub async fn ensure(
        &mut self,
        agent: &PlannedAgent,
        topology: Topology,
    ) -> Result<Endpoint, LaunchError> {
        let launch = match &self.source {
            EngineSource::Attach { url, .. } => {
                return Ok(Endpoint {
                    url: url.clone(),
                    pid: None,
                    model_digest: None,
                    launch: None,
                });
            }
            EngineSource::SpawnOllama { .. } => Launch::ollama(topology),
            EngineSource::SpawnLlama { .. } => Launch::llama(agent, topology),
        };
        if let Some(running) = &mut self.running {
            let alive = running.child.exited().is_none();
            if alive && running.launch == launch {
                return Ok(running.endpoint.clone());
            }
        }
        self.stop().await;
        let mut last = None;
        for _ in 0..PORT_TRIES {
            match self.launch(&launch, (agent.clone(), topology)).await {
                Ok(endpoint) => return Ok(endpoint),
                Err(LaunchError::Ended { tail, .. }) if port_was_taken(&tail) => {
                    last = Some(tail);
                }
                Err(error) => return Err(error),
            }
        }
        let detail = last.unwrap_or_default();
        Err(LaunchError::NoPort(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            detail,
        )))
    }

    /// What can be looked at to tell what an agent would take.
    ///
    /// # Errors
    /// When there is no model file of that name.
    pub(crate) fn subject(&mut self, agent: &PlannedAgent) -> Result<Subject, LaunchError> {
        // What has ended holds nothing.
        let running = self.running.as_mut();
        let running = running.filter(|running| running.child.exited().is_none());
        Ok(match &self.source {
            EngineSource::Attach { url, kind } => Subject::Asked {
                url: url.clone(),
                kind: *kind,
            },
            EngineSource::SpawnOllama { .. } => match running {
                Some(running) => Subject::Asked {
                    url: running.endpoint.url.clone(),
                    kind: EngineKind::Ollama,
                },
                None => Subject::NotStarted,
            },
            EngineSource::SpawnLlama { models_dir, .. } => Subject::File {
                model: model_file(models_dir, &agent.model)?,
                running: match running {
                    Some(running) => Some(Box::new(Held {
                        model: model_file(models_dir, &running.first.0.model)?,
                        agent: running.first.0.clone(),
                        topology: running.first.1,
                    })),
                    None => None,
                },
            },
        })
    }

    async fn launch(
        &mut self,
        launch: &Launch,
        first: (PlannedAgent, Topology),
    ) -> Result<Endpoint, LaunchError> {
        let port = free_port().map_err(LaunchError::NoPort)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.launches += 1;
        let log = self
            .log_dir
            .join(format!("{}-engine-{}.log", self.name, self.launches));
        std::fs::create_dir_all(&self.log_dir).map_err(LaunchError::Log)?;
        let (program, spec, model_digest, health) = match (&self.source, launch) {
            (
                EngineSource::SpawnLlama {
                    program,
                    models_dir,
                    gpu,
                },
                Launch::Llama(options),
            ) => {
                let model = model_file(models_dir, &options.model)?;
                let digest =
                    digest::sha256_of_file(&model)
                        .await
                        .map_err(|source| LaunchError::Model {
                            path: model.clone(),
                            source,
                        })?;
                let spec = ChildSpec::new(program, &log).args(options.args(&model, address));
                (
                    program.clone(),
                    pin_gpu(spec, gpu.as_deref()),
                    Some(digest),
                    "health",
                )
            }
            (EngineSource::SpawnOllama { program, gpu }, Launch::Ollama { slots }) => {
                let spec = ollama_spec(ChildSpec::new(program, &log), address, *slots);
                (
                    program.clone(),
                    pin_gpu(spec, gpu.as_deref()),
                    None,
                    "api/version",
                )
            }
            (
                EngineSource::Attach { .. }
                | EngineSource::SpawnLlama { .. }
                | EngineSource::SpawnOllama { .. },
                _,
            ) => {
                return Err(LaunchError::NotOurs);
            }
        };
        let mut child = ChildProcess::spawn(spec)
            .await
            .map_err(|source| LaunchError::Spawn {
                program: program.clone(),
                source,
            })?;
        let url = base_url(address);
        tracing::info!(program = %program.display(), %url, log = %log.display(), "starting the engine");
        let started = tokio::time::timeout(
            START_LIMIT,
            wait_healthy(&self.http, &url, health, &mut child),
        )
        .await;
        match started {
            Ok(Ok(())) => {}
            Ok(Err(status)) => {
                let tail = last_lines(&child.log_tail());
                return Err(LaunchError::Ended {
                    program,
                    status,
                    log,
                    tail,
                });
            }
            Err(_) => {
                stop(child).await;
                let limit_s = START_LIMIT.as_secs();
                return Err(LaunchError::Silent {
                    program,
                    url: url.to_string(),
                    limit_s,
                    log,
                });
            }
        }
        let endpoint = Endpoint {
            url,
            pid: Some(child.pid()),
            model_digest,
            launch: Some(self.launches),
        };
        self.running = Some(Running {
            child,
            launch: launch.clone(),
            first,
            endpoint: endpoint.clone(),
        });
        Ok(endpoint)
    }

    /// Ends the engine that this worker owns; an attached one goes on.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            stop(running.child).await;
        }
    }
}

async fn stop(child: ChildProcess) {
    if let Err(error) = child.stop(STOP_GRACE).await {
        tracing::warn!(%error, "an engine did not end");
    }
}

/// llama.cpp and Ollama cannot say which port they took, so one is found for them.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn port_was_taken(log_tail: &str) -> bool {
    let tail = log_tail.to_ascii_lowercase();
    tail.contains("address already in use") || tail.contains("couldn't bind")
}

#[expect(clippy::expect_used, reason = "a socket address always makes a URL")]
fn base_url(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}/")).expect("http://IP:PORT/ is a URL")
}

/// Waits until the engine answers 200; `Err` says how its process ended instead.
async fn wait_healthy(
    http: &reqwest::Client,
    url: &Url,
    path: &str,
    child: &mut ChildProcess,
) -> Result<(), String> {
    let health = format!("{url}{path}");
    loop {
        if let Some(status) = child.exited() {
            return Err(status.to_string());
        }
        let answer = http
            .get(&health)
            .timeout(Duration::from_secs(2))
            .send()
            .await;
        // 503 while the model loads; no connection before the server listens.
        if answer.is_ok_and(|a| a.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
}

/// The last few lines of a log, on one line.
fn last_lines(tail: &str) -> String {
    let lines: Vec<&str> = tail.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(4);
    lines.get(from..).unwrap_or_default().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_from_a_real_failure() {
        assert!(port_was_taken(
            "listen tcp 127.0.0.1:1: bind: address already in use"
        ));
        assert!(!port_was_taken("error loading model"));
    }
}
