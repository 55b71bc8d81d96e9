//! How to reach the bus.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{ConfigErrors, DurationText, Problems, Secret};

/// Where a NATS server listens if nobody says otherwise.
const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// The bus part of a service's arguments: `#[command(flatten)] #[serde(default)] nats: NatsArgs`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Bus")]
pub struct NatsArgs {
    /// Address of the NATS server [default: nats://127.0.0.1:4222]
    #[arg(long = "nats-url", env = "CHIMERA_NATS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Credentials file (JWT and key) for the NATS server
    #[arg(
        long = "nats-creds-file",
        env = "CHIMERA_NATS_CREDS_FILE",
        value_name = "FILE"
    )]
    pub creds_file: Option<PathBuf>,
    /// File with the `NKey` seed for the NATS server
    #[arg(
        long = "nats-nkey-seed-file",
        env = "CHIMERA_NATS_NKEY_SEED_FILE",
        value_name = "FILE"
    )]
    pub nkey_seed_file: Option<PathBuf>,
    /// File with the token for the NATS server
    #[arg(
        long = "nats-token-file",
        env = "CHIMERA_NATS_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
    /// How long to try the first connection [default: 10s]
    #[arg(
        long = "nats-connect-limit",
        env = "CHIMERA_NATS_CONNECT_LIMIT",
        value_name = "DURATION"
    )]
    pub connect_limit: Option<DurationText>,
}

impl NatsArgs {
    /// Checks the arguments. `name` is shown in the server's connection list.
    ///
    /// # Errors
    /// Every mistake: a bad URL, more than one kind of credentials, an unreadable secret.
    pub fn validate(&self, name: &str) -> Result<BusConfig, ConfigErrors> {
        let mut problems = Problems::default();
        let url = self.url.clone().unwrap_or_else(|| DEFAULT_URL.to_owned());
        match Url::parse(&url) {
            Ok(parsed) if matches!(parsed.scheme(), "nats" | "tls") && parsed.has_host() => {}
            _ => problems.add(
                "nats.url",
                format!(
                    "'{}' is no NATS address: write it like {DEFAULT_URL}",
                    crate::config::redact_url(&url)
                ),
            ),
        }
        let files = [&self.creds_file, &self.nkey_seed_file, &self.token_file];
        if files.iter().filter(|file| file.is_some()).count() > 1 {
            problems.add(
                "nats",
                "give one of creds_file, nkey_seed_file and token_file only",
            );
        }
        let secret = |problems: &mut Problems, key, file: &PathBuf| {
            // The file's own error has the system's words as its source; a person needs both.
            let read = Secret::from_file(file)
                .map_err(|error| format!("{:#}", anyhow::Error::from(error)));
            problems.take(key, read)
        };
        let mut auth = Auth::None;
        if let Some(file) = &self.creds_file {
            auth = Auth::CredentialsFile(file.clone());
        } else if let Some(file) = &self.nkey_seed_file {
            if let Some(seed) = secret(&mut problems, "nats.nkey_seed_file", file) {
                auth = Auth::NKeySeed(seed);
            }
        } else if let Some(file) = &self.token_file
            && let Some(token) = secret(&mut problems, "nats.token_file", file)
        {
            auth = Auth::Token(token);
        }
        problems.finish()?;
        let mut config = BusConfig::new(url, name);
        config.auth = auth;
        if let Some(limit) = self.connect_limit {
            config.connect_limit = limit.0;
        }
        Ok(config)
    }
}

/// Who we are to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// Nobody in particular: a loopback server without accounts.
    #[default]
    None,
    /// A shared token.
    Token(Secret),
    /// An `NKey`, by its seed.
    NKeySeed(Secret),
    /// A credentials file: JWT and seed.
    CredentialsFile(PathBuf),
}

/// How to reach the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusConfig {
    /// Address of the server; may hold credentials, so show it through
    /// [`redact_url`](crate::config::redact_url) only.
    pub url: String,
    /// Name of this connection in the server's lists.
    pub name: String,
    /// Who we are.
    pub auth: Auth,
    /// How long to try the first connection. 10 s.
    pub connect_limit: Duration,
    /// How long to wait for one ack or answer before it is sent again. 5 s.
    pub ack_timeout: Duration,
    /// How long a read may find no server before it fails. 60 s.
    pub read_limit: Duration,
    /// Reply inbox of this client, where rights are given per client; `None`: the library's.
    pub inbox_prefix: Option<String>,
}

impl BusConfig {
    /// The defaults, without credentials.
    #[must_use]
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            auth: Auth::None,
            connect_limit: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(5),
            read_limit: Duration::from_secs(60),
            inbox_prefix: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_loopback_without_credentials() {
        let config = NatsArgs::default().validate("test").unwrap();
        assert_eq!(config, BusConfig::new(DEFAULT_URL, "test"));
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_no_secret_is_shown() {
        let args = NatsArgs {
            url: Some("http://me:hunter2@host".into()),
            nkey_seed_file: Some("/nonexistent/seed".into()),
            token_file: Some("/nonexistent/token".into()),
            ..NatsArgs::default()
        };
        let errors = args.validate("test").unwrap_err();
        let text = errors.to_string();
        assert_eq!(errors.problems.len(), 3, "{text}");
        assert!(
            text.contains("/nonexistent/seed") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
