//! A real nats-server for a test: own port, own store, gone at the end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chimera_runtime::bus::{Bus, BusConfig};
use chimera_runtime::config;
use chimera_runtime::nats_server::{NatsServer, NatsServerConfig, PROGRAM_VARIABLE};
use chimera_runtime::process::ChildProcess;
use rustix::process::Signal;
use tempfile::TempDir;

/// A nats-server with `JetStream` on a free port of loopback, its store in a temporary folder.
/// Dropping it kills the server and removes the folder.
#[derive(Debug)]
pub struct TestNats {
    server: Option<NatsServer>,
    config: NatsServerConfig,
    // Declared last: the server is killed before its folder goes.
    dir: TempDir,
}

impl TestNats {
    /// Starts a server with the same configuration as the local stack's.
    ///
    /// # Errors
    /// When the program is missing or does not get ready.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// Starts a server whose configuration the caller adjusts (token, store limit).
    ///
    /// # Errors
    /// When the program is missing or does not get ready.
    pub async fn start_with(adjust: impl FnOnce(&mut NatsServerConfig)) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a folder for nats-server")?;
        let mut config = NatsServerConfig::new(dir.path());
        adjust(&mut config);
        let mut nats = Self {
            server: None,
            config,
            dir,
        };
        nats.restart().await?;
        Ok(nats)
    }

    /// Starts a server, or prints why not and gives `None`, upon which the test returns.
    ///
    /// # Panics
    /// When the program is missing and the environment says that it must not be
    /// (`CHIMERA_REQUIRE_NATS=1` or `CI=true`), and when it is there but does not start: a test that
    /// did not run must never look like one that passed.
    pub async fn start_or_skip(test: &str) -> Option<Self> {
        if let Err(error) = config::find_program(PROGRAM_VARIABLE, "nats-server") {
            let required = config::env_flag("CHIMERA_REQUIRE_NATS") || config::env_flag("CI");
            assert!(!required, "{test} needs nats-server: {error}");
            eprintln!("SKIPPED {test}: {error}");
            return None;
        }
        match Self::start().await {
            Ok(nats) => Some(nats),
            #[expect(clippy::panic, reason = "a helper of tests")]
            Err(error) => panic!("{test}: {error:#}"),
        }
    }

    /// Kills the server without a chance to close its store (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for. A server that is not running is no error.
    pub async fn kill9(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            // The next start takes the same port, so that clients find it again.
            self.config.port = Some(server.port());
            server.child().kill();
            server
                .child()
                .wait()
                .await
                .context("cannot wait for nats-server")?;
        }
        Ok(())
    }

    /// Starts the server again after [`Self::kill9`], on the same port and store.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9().await?;
        self.server = Some(NatsServer::start(&self.config).await?);
        Ok(())
    }

    /// Freezes the server (SIGSTOP): connections stay up, nothing is answered.
    ///
    /// # Errors
    /// When the server is not running or cannot be signalled.
    pub fn freeze(&mut self) -> Result<()> {
        Ok(self.child()?.signal(Signal::STOP)?)
    }

    /// Ends [`Self::freeze`].
    ///
    /// # Errors
    /// When the server is not running or cannot be signalled.
    pub fn thaw(&mut self) -> Result<()> {
        Ok(self.child()?.signal(Signal::CONT)?)
    }

    fn child(&mut self) -> Result<&mut ChildProcess> {
        Ok(self
            .server
            .as_mut()
            .context("nats-server is not running")?
            .child())
    }

    /// The running server.
    ///
    /// # Errors
    /// Between [`Self::kill9`] and [`Self::restart`].
    pub fn server(&self) -> Result<&NatsServer> {
        self.server.as_ref().context("nats-server is not running")
    }

    /// Where clients connect; the same after a restart.
    ///
    /// # Errors
    /// Between [`Self::kill9`] and [`Self::restart`].
    pub fn url(&self) -> Result<String> {
        Ok(self.server()?.url().to_owned())
    }

    /// How to connect to it: [`NatsServer::bus_config`], with short limits that suit a test.
    ///
    /// # Errors
    /// Between [`Self::kill9`] and [`Self::restart`].
    pub fn bus_config(&self, name: &str) -> Result<BusConfig> {
        let mut config = self.server()?.bus_config(name);
        config.connect_limit = Duration::from_secs(5);
        config.ack_timeout = Duration::from_secs(2);
        Ok(config)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self, name: &str) -> Result<Bus> {
        Ok(Bus::connect(self.bus_config(name)?).await?)
    }

    /// The folder with its configuration, log and store.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}
