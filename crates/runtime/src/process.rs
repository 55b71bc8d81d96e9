//! Child processes that cannot be left behind.
//!
//! Every child is the leader of a process group of its own. So a Ctrl-C on the terminal reaches only
//! us, who then stop children in order; and when a child ends or is killed, its whole group goes
//! with it (`ollama serve` starts runners of its own). Children die with us in four ways: [`stop`],
//! drop, [`kill_all`] (the second Ctrl-C), and, where `setpriv` of util-linux is installed, by the
//! kernel when we are killed without a chance to clean up (`PR_SET_PDEATHSIG`).
//!
//! [`stop`]: ChildProcess::stop

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use thiserror::Error;
use tokio::sync::watch;

/// Spawn requests that may wait for the spawner thread; more callers wait, which is harmless.
const SPAWN_QUEUE: usize = 16;
/// How long [`ChildProcess::stop`] waits for the kernel to reap after SIGKILL.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// Why a child could not be started or signalled.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The log file cannot be written.
    #[error("cannot write the log file '{}' of a child process", path.display())]
    Log {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be started.
    #[error("cannot start '{}'", program.display())]
    Spawn {
        /// Which program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The child outlived SIGKILL (stuck in the kernel).
    #[error("process {pid} did not end within {limit:?} after SIGKILL")]
    Unkillable {
        /// Which process.
        pid: u32,
        /// How long was waited.
        limit: Duration,
    },
}

/// What to start.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    dir: Option<PathBuf>,
    log: PathBuf,
}

impl ChildSpec {
    /// A program whose stdout and stderr go to `log` (created, or cut to zero length).
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            log: log.into(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; the rest of the environment is inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    fn command(&self, log: &File) -> io::Result<Command> {
        let mut command = match setpriv() {
            // setpriv sets the parent-death signal on itself and then becomes the program: same
            // pid, and the signal survives exec. Setting it ourselves would need unsafe code
            // between fork and exec.
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command
                    .args(["--pdeathsig", "KILL", "--"])
                    .arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        Ok(command)
    }
}

/// A running child. Dropping it kills its process group.
#[derive(Debug)]
pub struct ChildProcess {
    inner: Arc<Inner>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

#[derive(Debug)]
struct Inner {
    pid: u32,
    group: Pid,
    /// Names this very process: a recycled pid is never signalled by mistake.
    pidfd: OwnedFd,
    log: PathBuf,
}

impl ChildProcess {
    /// Starts a child. Does not wait for it to be ready.
    ///
    /// # Errors
    /// When the log file cannot be written or the program cannot be started.
    pub async fn spawn(spec: ChildSpec) -> Result<Self, ProcessError> {
        let program = spec.program.clone();
        let failed = |source| ProcessError::Spawn {
            program: program.clone(),
            source,
        };
        // A missing program must be told here: with setpriv in between it would only show in the log.
        if spec.program.components().count() > 1 && !spec.program.exists() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        let log = File::create(&spec.log).map_err(|source| ProcessError::Log {
            path: spec.log.clone(),
            source,
        })?;
        let command = spec.command(&log).map_err(failed)?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let job = Job {
            command,
            log: spec.log,
            reply,
        };
        let queue = spawner().map_err(failed)?;
        // The queue is drained by a thread that does nothing else; a full queue clears in
        // milliseconds, but must not block this runtime's thread.
        let sent = tokio::task::spawn_blocking(move || queue.send(job).is_ok())
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        if !sent {
            return Err(failed(io::Error::other("the spawner thread is gone")));
        }
        answer
            .await
            .map_err(|_| failed(io::Error::other("the spawner thread gave no answer")))?
            .map_err(failed)
    }

    /// The child's process id (the program itself, not the wrapper).
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.inner.log
    }

    /// The last lines of its output, at most 8 KiB: what to show when it failed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.inner.log, 8 * 1024).unwrap_or_default()
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for its end. Cancel-safe; may be called again.
    ///
    /// # Errors
    /// When the system could not say how it ended.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self.exit.wait_for(Option::is_some).await {
            Ok(status) => (*status).ok_or_else(|| io::Error::other("no exit status")),
            Err(_) => Err(io::Error::other("nobody could wait for the child")),
        }
    }

    /// Sends a signal to the child alone, not to its group. A child that has ended is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.inner.signal(signal)
    }

    /// SIGKILL to the child and its group, at once.
    pub fn kill(&self) {
        self.inner.kill();
    }

    /// SIGTERM, then SIGKILL to the whole group after `grace`; returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be signalled or outlives SIGKILL.
    pub async fn stop(mut self, grace: Duration) -> Result<(), ProcessError> {
        if let Err(error) = self.signal(Signal::TERM) {
            tracing::warn!(pid = self.pid(), %error, "SIGTERM failed; killing");
        } else if tokio::time::timeout(grace, self.wait()).await.is_ok() {
            return Ok(());
        }
        self.kill();
        match tokio::time::timeout(REAP_LIMIT, self.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ProcessError::Unkillable {
                pid: self.pid(),
                limit: REAP_LIMIT,
            }),
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.kill();
        }
    }
}

impl Inner {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other.map_err(Into::into),
        }
    }

    fn kill(&self) {
        // The leader first, by its pidfd; its waiter sweeps the group before it reaps the leader,
        // while the group's id cannot have been given to anyone else.
        if let Err(error) = self.signal(Signal::KILL) {
            tracing::warn!(pid = self.pid, %error, "cannot kill a child process");
        }
    }
}

/// Kills every child of this process and their groups, at once: the hook for a second Ctrl-C.
pub fn kill_all() {
    for child in registry()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .values()
    {
        // The process is about to exit, so the group is swept here and not by the waiter.
        if let Err(error) = kill_process_group(child.group, Signal::KILL) {
            tracing::warn!(pid = child.pid, %error, "cannot kill a child's group");
        }
    }
}

/// Children that are not reaped yet, by pid.
fn registry() -> &'static Mutex<BTreeMap<u32, Arc<Inner>>> {
    static CHILDREN: OnceLock<Mutex<BTreeMap<u32, Arc<Inner>>>> = OnceLock::new();
    CHILDREN.get_or_init(Mutex::default)
}

struct Job {
    command: Command,
    log: PathBuf,
    reply: tokio::sync::oneshot::Sender<io::Result<ChildProcess>>,
}

/// The thread that starts all children. The parent-death signal fires when the *thread* that forked
/// ends, so children must not be started from tokio's threads, which come and go.
fn spawner() -> io::Result<SyncSender<Job>> {
    static SPAWNER: Mutex<Option<SyncSender<Job>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(queue) = spawner.as_ref() {
        return Ok(queue.clone());
    }
    let (queue, jobs) = sync_channel(SPAWN_QUEUE);
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || serve(&jobs))?;
    *spawner = Some(queue.clone());
    Ok(queue)
}

fn serve(jobs: &Receiver<Job>) {
    while let Ok(Job {
        mut command,
        log,
        reply,
    }) = jobs.recv()
    {
        let started = command.spawn().and_then(|child| adopt(child, log));
        // A caller who gave up drops the child, which kills it.
        if reply.send(started).is_err() {
            tracing::debug!("nobody waits for the child any more; it was killed");
        }
    }
}

/// Registers a fresh child and starts the thread that reaps it.
fn adopt(mut child: Child, log: PathBuf) -> io::Result<ChildProcess> {
    let named = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the child has no valid pid"))
        .and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
    let (group, pidfd) = match named {
        Ok(named) => named,
        Err(error) => {
            child.kill().and_then(|()| child.wait())?;
            return Err(error);
        }
    };
    let inner = Arc::new(Inner {
        pid: child.id(),
        group,
        pidfd,
        log,
    });
    registry()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(inner.pid, Arc::clone(&inner));
    let (ended, exit) = watch::channel(None);
    let process = ChildProcess {
        inner: Arc::clone(&inner),
        exit,
    };
    std::thread::Builder::new()
        .name("reaper".to_owned())
        .spawn(move || {
            if let Some(status) = reap(child, &inner) {
                ended.send_replace(Some(status));
            }
        })?;
    Ok(process)
}

/// Waits for the child's end, sweeps its group, reaps it.
fn reap(mut child: Child, inner: &Inner) -> Option<ExitStatus> {
    // NOWAIT leaves the zombie in place: as long as it is there, its pid, which is also the group's
    // id, cannot be recycled.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(error) = waitid(WaitId::Pid(inner.group), look) {
        if error != rustix::io::Errno::INTR {
            tracing::warn!(pid = inner.pid, %error, "cannot wait for a child");
            break;
        }
    }
    // Refused with EPERM on some systems, or ESRCH, when only the zombie is left: nothing to sweep.
    if let Err(error) = kill_process_group(inner.group, Signal::KILL) {
        tracing::trace!(pid = inner.pid, %error, "no group left to sweep");
    }
    let status = child.wait();
    registry()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&inner.pid);
    match status {
        Ok(status) => Some(status),
        Err(error) => {
            tracing::warn!(pid = inner.pid, %error, "cannot reap a child");
            None
        }
    }
}

fn setpriv() -> Option<&'static Path> {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    SETPRIV
        .get_or_init(|| {
            let found = crate::config::find_program("CHIMERA_SETPRIV", "setpriv").ok();
            if found.is_none() {
                tracing::warn!(
                    "setpriv (util-linux) is not installed: children will outlive this process if \
                     it is killed with SIGKILL"
                );
            }
            found
        })
        .as_deref()
}

/// The last lines of a file, at most `limit` bytes.
fn tail(path: &Path, limit: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let skip = size.saturating_sub(limit);
    file.seek(SeekFrom::Start(skip))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        // Cut inside a line: the rest of it says little.
        Some((_, rest)) if skip > 0 => rest.to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests;
