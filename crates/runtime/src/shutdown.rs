//! Stopping: signals trip one root token, tasks hang on it, and all end within a grace period.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit;

/// Trips a token on SIGINT (a person's Ctrl-C) or SIGTERM (an orchestrator's stop).
///
/// A second SIGINT means that the person no longer wants to wait: `emergency` runs (it should kill
/// children, see [`crate::process::kill_all`]) and the process exits at once with 130.
///
/// The signals have a thread and a runtime of their own, so that Ctrl-C works even when the
/// service's runtime is stuck. The thread lives as long as the process. Call it once.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signals(emergency: impl FnOnce() + Send + 'static) -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let tripped = token.clone();
    let (ready_tx, ready_rx) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => return report(&ready_tx, Err(error)),
            };
            runtime.block_on(async move {
                let listeners = signal(SignalKind::interrupt())
                    .and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
                let (mut interrupt, mut terminate) = match listeners {
                    Ok(listeners) => listeners,
                    Err(error) => return report(&ready_tx, Err(error)),
                };
                report(&ready_tx, Ok(()));
                // Both arms are cancel-safe: a signal that arrives meanwhile stays pending.
                tokio::select! {
                    _ = interrupt.recv() => {
                        tracing::info!("SIGINT: stopping; a second Ctrl-C exits at once");
                        tripped.cancel();
                    }
                    _ = terminate.recv() => {
                        tracing::info!("SIGTERM: stopping");
                        tripped.cancel();
                    }
                }
                interrupt.recv().await;
                emergency();
                std::process::exit(i32::from(exit::INTERRUPTED));
            });
        })?;
    match ready_rx.recv() {
        Ok(result) => result.map(|()| token),
        Err(_) => Err(io::Error::other(
            "the signal thread ended before it was ready",
        )),
    }
}

fn report(ready: &std::sync::mpsc::SyncSender<io::Result<()>>, result: io::Result<()>) {
    if ready.send(result).is_err() {
        tracing::debug!("nobody waits for the signal thread any more");
    }
}

/// Why a service did not end cleanly.
#[derive(Debug, Clone, Error)]
pub enum TaskFailure {
    /// A task panicked.
    #[error("the task '{task}' panicked: {message}")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// The panic's words.
        message: String,
    },
    /// A task returned an error.
    #[error("the task '{task}' failed: {message}")]
    Failed {
        /// Its name.
        task: &'static str,
        /// The error with its causes.
        message: String,
    },
    /// A task that should run until the stop returned before it.
    #[error("the task '{task}' ended although nothing had stopped the service")]
    EndedEarly {
        /// Its name.
        task: &'static str,
    },
    /// Tasks did not end within the grace period and were cut.
    #[error("still running {grace:?} after the stop, and cut: {}", tasks.join(", "))]
    GraceExpired {
        /// The limit.
        grace: Duration,
        /// Names of the tasks that were cut, sorted.
        tasks: Vec<&'static str>,
    },
}

/// The tasks of a service. A task that panics, fails or ends early stops the whole service: a
/// process that looks alive without one of its parts is worse than one that is restarted.
///
/// Cheap to clone; all clones are the same set.
#[derive(Debug, Clone)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    failure: Option<TaskFailure>,
    running: HashMap<u64, (&'static str, Option<AbortHandle>)>,
    next: u64,
}

impl Tasks {
    /// Tasks that end when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            tracker: TaskTracker::new(),
            shared: Arc::default(),
        }
    }

    /// The token that stops these tasks.
    #[must_use]
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task that must go on until the stop token is cancelled. Its panic, its error, or its
    /// return before that stops the service.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        self.start(name, true, task);
    }

    /// Runs a task that may end by itself (one connection, one run). Its panic or its error stops
    /// the service: an error that concerns only the task's own work is to be handled inside.
    pub fn spawn_finite<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        self.start(name, false, task);
    }

    fn start<F, E>(&self, name: &'static str, until_stop: bool, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let id = {
            let mut shared = self.lock();
            let id = shared.next;
            shared.next += 1;
            shared.running.insert(id, (name, None));
            id
        };
        let tasks = self.clone();
        let handle = self.tracker.spawn(async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            let failure = match result {
                Err(panic) => Some(TaskFailure::Panicked {
                    task: name,
                    message: words(&panic),
                }),
                Ok(Err(error)) => {
                    let message = format!("{:#}", error.into());
                    Some(TaskFailure::Failed {
                        task: name,
                        message,
                    })
                }
                Ok(Ok(())) if until_stop && !tasks.stop.is_cancelled() => {
                    Some(TaskFailure::EndedEarly { task: name })
                }
                Ok(Ok(())) => None,
            };
            tasks.ended(id, failure);
        });
        // The task may have ended already; then its entry is gone and stays gone.
        if let Some(entry) = self.lock().running.get_mut(&id) {
            entry.1 = Some(handle.abort_handle());
        }
    }

    fn ended(&self, id: u64, failure: Option<TaskFailure>) {
        let mut shared = self.lock();
        shared.running.remove(&id);
        if let Some(failure) = failure {
            tracing::error!(%failure, "stopping the service");
            shared.failure.get_or_insert(failure);
            drop(shared);
            self.stop.cancel();
        }
    }

    /// Waits for the stop, then for the tasks to end within `grace`; what still runs is cut.
    ///
    /// # Errors
    /// The first failure: the one that stopped the service, else the expired grace period.
    pub async fn wait(&self, grace: Duration) -> Result<(), TaskFailure> {
        self.stop.cancelled().await;
        self.tracker.close();
        let in_time = tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok();
        let mut shared = self.lock();
        if !in_time {
            let mut tasks: Vec<_> = shared.running.values().map(|(name, _)| *name).collect();
            tasks.sort_unstable();
            let late = TaskFailure::GraceExpired { grace, tasks };
            tracing::error!(failure = %late, "the grace period is over");
            for (_, handle) in shared.running.values() {
                if let Some(handle) = handle {
                    handle.abort();
                }
            }
            shared.failure.get_or_insert(late);
        }
        shared.failure.clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(panic: &Box<dyn std::any::Any + Send>) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "no message".to_owned())
}

/// Runs a binary's async part on a multi-threaded runtime and ends the process as [`exit`] says.
///
/// Blocking work that hangs is not waited for longer than `linger`.
pub fn run_main<F>(linger: Duration, main: F) -> ExitCode
where
    F: Future<Output = Result<(), anyhow::Error>>,
{
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let result = runtime.block_on(main);
            runtime.shutdown_timeout(linger);
            exit::report(result)
        }
        Err(error) => exit::report(Err(anyhow::Error::from(error).context("cannot start tokio"))),
    }
}

#[cfg(test)]
mod tests;
