//! The nats-server of the local stack: a child process with a configuration that loses nothing.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use url::Url;

use crate::bus::{Auth, BusConfig};
use crate::clock;
use crate::config::{ProgramError, Secret, find_program};
use crate::process::{ChildProcess, ChildSpec, ProcessError};

/// Environment variable that names the program.
pub const PROGRAM_VARIABLE: &str = "CHIMERA_NATS_SERVER";
/// Store limit where the disk is large.
const MAX_FILE_STORE: u64 = 4 << 30;
/// Below this a run cannot be kept.
const MIN_FILE_STORE: u64 = 64 << 20;
/// Largest message the server takes, headers included. Above the streams' own limit, so that the
/// stream's clean refusal comes first.
const MAX_PAYLOAD: u64 = 8 << 20;
/// How often the ports file is looked for.
const POLL: Duration = Duration::from_millis(10);

/// Why the server does not run.
#[derive(Debug, Error)]
pub enum NatsServerError {
    /// The program is missing.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its folder cannot be used.
    #[error("cannot use '{}' as the folder of nats-server", dir.display())]
    Folder {
        /// Which folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too little space.
    #[error(
        "only {free_mib} MiB are free for the bus's store in '{}', {need_mib} are needed: free \
         space, or choose another folder",
        dir.display()
    )]
    NoSpace {
        /// Which folder.
        dir: PathBuf,
        /// MiB that are free.
        free_mib: u64,
        /// MiB that are needed.
        need_mib: u64,
    },
    /// It could not be started or stopped.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It ended instead of getting ready.
    #[error("nats-server ended at once ({status}); its last words:\n{log}")]
    Ended {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It did not get ready.
    #[error("nats-server was not ready within {limit:?}; its last words:\n{log}")]
    NotReady {
        /// The limit.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
}

/// How to run the server. It listens on loopback only.
#[derive(Debug, Clone)]
pub struct NatsServerConfig {
    /// Folder for its configuration, log and store; created if missing. One server per folder.
    pub dir: PathBuf,
    /// Port; `None` takes a free one.
    pub port: Option<u16>,
    /// Limit of the store, bytes; `None`: 70 % of the free space, 4 GiB at most.
    pub max_file_store: Option<u64>,
    /// Token that clients must show; `None` lets every local process in.
    pub token: Option<Secret>,
    /// Lines added to its configuration (users and their rights, for instance).
    pub extra: String,
    /// How long to wait until it is ready. Recovering a large store takes time. 30 s.
    pub ready_limit: Duration,
}

impl NatsServerConfig {
    /// The defaults: a free port, no token.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            port: None,
            max_file_store: None,
            token: None,
            extra: String::new(),
            ready_limit: Duration::from_secs(30),
        }
    }

    /// Asks for a fresh random token, so that other users of the machine cannot connect.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn with_random_token(mut self) -> io::Result<Self> {
        let mut bytes = [0_u8; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        self.token = Some(Secret::new(hex::encode(bytes)));
        Ok(self)
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct NatsServer {
    child: ChildProcess,
    url: String,
    monitor_url: String,
    port: u16,
    max_file_store: u64,
    token: Option<Secret>,
}

/// What the server writes once its listeners are open.
#[derive(Debug, Deserialize)]
struct Ports {
    #[serde(default)]
    nats: Vec<String>,
    #[serde(default)]
    monitoring: Vec<String>,
}

impl NatsServer {
    /// Starts a server and waits until it takes connections.
    ///
    /// # Errors
    /// When the program is missing, the folder or the port cannot be used, the disk is too full, or
    /// it does not get ready in time; with the end of its log.
    pub async fn start(config: &NatsServerConfig) -> Result<Self, NatsServerError> {
        let program = find_program(PROGRAM_VARIABLE, "nats-server")?;
        let folder = |source| NatsServerError::Folder {
            dir: config.dir.clone(),
            source,
        };
        let ports_dir = config.dir.join("ports");
        prepare(&config.dir, &ports_dir).map_err(folder)?;
        let dir = config.dir.canonicalize().map_err(folder)?;
        let ports_dir = dir.join("ports");
        let max_file_store = match config.max_file_store {
            Some(bytes) => bytes,
            None => default_file_store(&dir)?,
        };
        let file = dir.join("nats-server.conf");
        write_private(&file, &render(config, &dir, max_file_store)).map_err(folder)?;
        let spec = ChildSpec::new(program, dir.join("nats-server.log"))
            .arg("--config")
            .arg(&file)
            .arg("--ports_file_dir")
            .arg(&ports_dir);
        let child = ChildProcess::spawn(spec).await?;
        let limit = config.ready_limit;
        let deadline = clock::deadline(limit);
        loop {
            if let Some(status) = child.exited() {
                let log = child.log_tail();
                return Err(NatsServerError::Ended {
                    status: status.to_string(),
                    log,
                });
            }
            if let Some((url, port, monitor_url)) = read_ports(&ports_dir)
                && tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
            {
                let token = config.token.clone();
                tracing::info!(%url, pid = child.pid(), dir = %dir.display(), "nats-server is up");
                return Ok(Self {
                    child,
                    url,
                    monitor_url,
                    port,
                    max_file_store,
                    token,
                });
            }
            if clock::mono() >= deadline {
                return Err(NatsServerError::NotReady {
                    limit,
                    log: child.log_tail(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Where clients connect, without the token.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where `/healthz`, `/jsz` and the like are.
    #[must_use]
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// The port it got.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The limit of its store, bytes: what [`crate::bus::StreamLimits::within`] shares out.
    #[must_use]
    pub fn max_file_store(&self) -> u64 {
        self.max_file_store
    }

    /// How to connect to it.
    #[must_use]
    pub fn bus_config(&self, name: impl Into<String>) -> BusConfig {
        let mut config = BusConfig::new(self.url.clone(), name);
        if let Some(token) = &self.token {
            config.auth = Auth::Token(token.clone());
        }
        config
    }

    /// The process: to see how it ended ([`ChildProcess::wait`]), to signal it, to read its log.
    pub fn child(&mut self) -> &mut ChildProcess {
        &mut self.child
    }

    /// Ends it: SIGTERM (it closes its store), SIGKILL after `grace`.
    ///
    /// # Errors
    /// When it outlives SIGKILL.
    pub async fn stop(self, grace: Duration) -> Result<(), NatsServerError> {
        Ok(self.child.stop(grace).await?)
    }
}

/// Makes the folders and removes ports files of earlier servers, which would be taken for ours.
fn prepare(dir: &Path, ports_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    match fs::remove_dir_all(ports_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(ports_dir)
}

fn default_file_store(dir: &Path) -> Result<u64, NatsServerError> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| NatsServerError::Folder {
        dir: dir.to_owned(),
        source: error.into(),
    })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // The server's clean refusal must come before a full disk, from which it does not recover
    // without a restart.
    let limit = (free / 10 * 7).min(MAX_FILE_STORE);
    if limit < MIN_FILE_STORE {
        return Err(NatsServerError::NoSpace {
            dir: dir.to_owned(),
            free_mib: free >> 20,
            need_mib: (MIN_FILE_STORE / 7 * 10) >> 20,
        });
    }
    Ok(limit)
}

fn render(config: &NatsServerConfig, dir: &Path, max_file_store: u64) -> String {
    let port = config.port.map_or(-1, i32::from);
    let store = quoted(&dir.join("store").display().to_string());
    let extra = &config.extra;
    let authorization = config.token.as_ref().map_or_else(String::new, |token| {
        format!("authorization {{ token: {} }}\n", quoted(token.expose()))
    });
    format!(
        "# Written by chimera at every start; changes are lost.\n\
         server_name: \"chimera-local\"\n\
         listen: \"127.0.0.1:{port}\"\n\
         http: \"127.0.0.1:-1\"\n\
         max_payload: {MAX_PAYLOAD}\n\
         {authorization}\
         jetstream {{\n\
         \x20 store_dir: {store}\n\
         \x20 max_file_store: {max_file_store}\n\
         \x20 max_memory_store: 67108864\n\
         \x20 # Acked means on the disk. The default would sync every two minutes.\n\
         \x20 sync_interval: always\n\
         }}\n\
         {extra}\n"
    )
}

/// A string of the server's configuration language; the escapes used are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes a file that only its owner may read: it may hold a token.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// (client URL, client port, monitoring URL), once the server has written them whole.
fn read_ports(dir: &Path) -> Option<(String, u16, String)> {
    let file = fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "ports")
        })?;
    let ports: Ports = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let url = ports.nats.into_iter().next()?;
    let port = Url::parse(&url).ok()?.port()?;
    Some((url, port, ports.monitoring.into_iter().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_syncs_always_and_stays_on_loopback() {
        let config = NatsServerConfig::new("x").with_random_token().unwrap();
        let text = render(&config, Path::new("/tmp/with \"quotes\""), 1 << 30);
        for line in [
            "listen: \"127.0.0.1:-1\"",
            "sync_interval: always",
            "max_file_store: 1073741824",
            "store_dir: \"/tmp/with \\\"quotes\\\"/store\"",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(
            config.token.as_ref().map(|token| token.expose().len()),
            Some(64)
        );
        assert!(!format!("{config:?}").contains(config.token.as_ref().unwrap().expose()));
    }

    #[test]
    fn a_ports_file_counts_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_ports(dir.path()), None);
        let file = dir.path().join("nats-server_1.ports");
        fs::write(&file, "{\"nats\": [\"nats://127.0.0.1:42").unwrap();
        assert_eq!(read_ports(dir.path()), None);
        let whole = r#"{"nats":["nats://127.0.0.1:42"],"monitoring":["http://127.0.0.1:43"]}"#;
        fs::write(&file, whole).unwrap();
        let found = (
            "nats://127.0.0.1:42".to_owned(),
            42,
            "http://127.0.0.1:43".to_owned(),
        );
        assert_eq!(read_ports(dir.path()), Some(found));
    }
}
