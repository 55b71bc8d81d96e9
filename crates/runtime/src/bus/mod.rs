//! The bus: NATS with `JetStream`, with the traps of the client covered once.
//!
//! - A publish counts only when its ack is here; what is not acked is sent again with the same
//!   message id ([`Publisher`]).
//! - A read is by an ordered consumer that starts over where it stood ([`Bus::replay`],
//!   [`Bus::follow`]).
//! - Every event of the connection is seen: a dropped message (slow consumer) is counted, a refused
//!   right is an error of the publish that it concerns, not a timeout.

mod config;
mod error;
mod publish;
mod read;
mod streams;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerError};
use bytes::Bytes;
use chimera_wire::subject::{Filter, Subject};
use futures::stream::{BoxStream, StreamExt as _};
use percent_encoding::percent_decode_str;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use config::{Auth, BusConfig, NatsArgs};
pub use error::{BusError, PublishError, ReadError};
pub use publish::{Ack, Expect, Publisher};
pub use read::StoredMessage;
pub use streams::{StreamLimits, StreamState};

use crate::config::redact_url;
use crate::context;

/// Publishes whose ack may be outstanding at once. At one record per request this is far above what
/// a worker has; it bounds what a reconnect has to send again.
const MAX_IN_FLIGHT: usize = 256;
/// Refusals that a slow publisher may lag behind. They are rare; a missed one shows as a timeout.
const DENIALS: usize = 64;
/// Two pings without an answer mean a dead connection: 10 to 15 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Longest pause between two tries at the first connection.
const MAX_CONNECT_PAUSE: Duration = Duration::from_secs(1);

/// A connection to the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    monitor: Arc<Monitor>,
    config: Arc<BusConfig>,
}

/// What the connection has been through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusHealth {
    /// Whether the connection is up right now.
    pub connected: bool,
    /// Whether the last durable publish was refused for lack of storage.
    pub storage_full: bool,
    /// How often the connection broke.
    pub disconnects: u64,
    /// How often a subscription was so slow that the client dropped a message.
    pub slow_consumers: u64,
    /// The last error that the server or the client reported, in its words.
    pub last_error: Option<String>,
}

/// State of the link: up or down, and how often it broke, so that a break between two looks shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    up: bool,
    breaks: u64,
}

#[derive(Debug)]
struct Monitor {
    link: watch::Sender<Link>,
    denials: broadcast::Sender<String>,
    slow_consumers: AtomicU64,
    storage_full: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl Monitor {
    fn new() -> Self {
        Self {
            link: watch::Sender::new(Link {
                up: true,
                breaks: 0,
            }),
            denials: broadcast::Sender::new(DENIALS),
            slow_consumers: AtomicU64::new(0),
            storage_full: AtomicBool::new(false),
            last_error: Mutex::new(None),
        }
    }

    fn on(&self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to the bus");
                self.link.send_modify(|link| link.up = true);
            }
            Event::Disconnected => {
                tracing::warn!("the connection to the bus broke; reconnecting");
                self.link.send_modify(|link| {
                    *link = Link {
                        up: false,
                        breaks: link.breaks + 1,
                    }
                });
            }
            Event::SlowConsumer(subscription) => {
                self.slow_consumers.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    subscription,
                    "a subscription was too slow: a message was dropped"
                );
            }
            Event::ServerError(ServerError::SlowConsumer(subscription)) => {
                self.slow_consumers.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    subscription,
                    "the server calls this connection a slow consumer"
                );
            }
            Event::ServerError(error) => {
                let words = error.to_string();
                tracing::error!(error = %words, "the NATS server reports an error");
                self.note(words.clone());
                // Err: no publish is waiting that could take the refusal as its own.
                if self.denials.send(words).is_err() {
                    tracing::trace!("no publish is under way");
                }
            }
            Event::ClientError(error) => {
                tracing::warn!(%error, "the NATS client reports an error");
                self.note(error.to_string());
            }
            Event::LameDuckMode => tracing::warn!("the NATS server is about to stop"),
            Event::Draining => tracing::debug!("the connection to the bus is draining"),
            Event::Closed => {
                tracing::info!("the connection to the bus is closed");
                self.link.send_modify(|link| link.up = false);
            }
        }
    }

    fn note(&self, words: String) {
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(words);
    }
}

impl Bus {
    /// Connects, trying again until `config.connect_limit` is over. Wrong credentials and a URL
    /// that cannot be right fail at once.
    ///
    /// # Errors
    /// With the URL and the remedy: not reachable, refused, bad URL, bad credentials file.
    pub async fn connect(config: BusConfig) -> Result<Self, BusError> {
        let url = redact_url(&config.url);
        let monitor = Arc::new(Monitor::new());
        let limit = tokio::time::Instant::now() + config.connect_limit;
        let mut pause = Duration::from_millis(50);
        let client = loop {
            let options = options(&config, &monitor).await?;
            let error = match options.connect(&config.url).await {
                Ok(client) => break client,
                Err(error) => error,
            };
            match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    return Err(BusError::Unauthorized { url, source: error });
                }
                ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
                    return Err(BusError::BadServer { url, source: error });
                }
                _ if tokio::time::Instant::now() + pause >= limit => {
                    let limit = config.connect_limit;
                    return Err(BusError::Unreachable {
                        url,
                        limit,
                        source: error,
                    });
                }
                _ => tracing::debug!(%url, %error, "the bus is not reachable yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_CONNECT_PAUSE);
        };
        let jetstream = ContextBuilder::new()
            .timeout(config.ack_timeout)
            .max_ack_inflight(MAX_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Self {
            client,
            jetstream,
            monitor,
            config: Arc::new(config),
        })
    }

    /// A publisher of durable facts. It gives up `limit` after each call, or when `cancel` trips.
    #[must_use]
    pub fn publisher(&self, limit: Duration, cancel: CancellationToken) -> Publisher {
        Publisher::new(self.clone(), limit, cancel)
    }

    /// Publishes for display only: no ack, no retry; dropped while the connection is down.
    pub async fn live(&self, subject: &Subject, payload: Bytes) {
        // The client would queue it and then, at 2048, wait: display must not hold work up.
        if !self.is_connected() {
            return;
        }
        let mut headers = async_nats::HeaderMap::new();
        context::inject(&mut headers);
        let sent = self
            .client
            .publish_with_headers(subject.to_string(), headers, payload)
            .await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a display message was dropped");
        }
    }

    /// Subscribes to display messages. What is missed is missed.
    ///
    /// # Errors
    /// When the client is closed or refuses the filter.
    pub async fn live_messages(
        &self,
        filter: &Filter,
    ) -> Result<BoxStream<'static, (String, Bytes)>, BusError> {
        let subscription = self
            .client
            .subscribe(filter.to_string())
            .await
            .map_err(BusError::Subscribe)?;
        Ok(subscription
            .map(|message| (message.subject.to_string(), message.payload))
            .boxed())
    }

    /// Whether durable facts can be stored right now, as far as this process knows: connected, and
    /// the last publish was not refused for lack of storage.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.is_connected() && !self.monitor.storage_full.load(Ordering::Relaxed)
    }

    /// What the connection has been through.
    #[must_use]
    pub fn health(&self) -> BusHealth {
        let monitor = &self.monitor;
        BusHealth {
            connected: self.is_connected(),
            storage_full: monitor.storage_full.load(Ordering::Relaxed),
            disconnects: monitor.link.borrow().breaks,
            slow_consumers: monitor.slow_consumers.load(Ordering::Relaxed),
            last_error: monitor
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Sends what is queued, ends subscriptions, closes. Waits `limit` at most.
    pub async fn close(self, limit: Duration) {
        let mut link = self.monitor.link.subscribe();
        let drained = async {
            if let Err(error) = self.client.drain().await {
                tracing::debug!(%error, "the bus cannot be drained");
                return;
            }
            // `drain` returns before it is done; the Closed event says when it is.
            if link.wait_for(|link| !link.up).await.is_err() {
                tracing::debug!("the connection ended before it was drained");
            }
        };
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(?limit, "the bus was not drained in time");
        }
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The link, once it is up.
    async fn connected(&self) -> Link {
        let mut link = self.monitor.link.subscribe();
        let up = link.wait_for(|link| link.up).await.map(|link| *link);
        match up {
            Ok(link) => link,
            // The sender lives in self, so this cannot be; waiting lets the caller's limit decide.
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns when the link breaks for the next time after `seen`.
    async fn broken_since(&self, seen: Link) {
        let mut link = self.monitor.link.subscribe();
        let gone = link
            .wait_for(|link| link.breaks > seen.breaks || !link.up)
            .await
            .is_err();
        if gone {
            std::future::pending::<()>().await;
        }
    }
}

async fn options(config: &BusConfig, monitor: &Arc<Monitor>) -> Result<ConnectOptions, BusError> {
    let monitor = Arc::clone(monitor);
    let options = ConnectOptions::new()
        .name(&config.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(config.connect_limit.min(Duration::from_secs(5)))
        .request_timeout(Some(config.ack_timeout))
        .event_callback(move |event| {
            monitor.on(&event);
            std::future::ready(())
        });
    let options = match &config.inbox_prefix {
        Some(prefix) => options.custom_inbox_prefix(prefix),
        None => options,
    };
    match &config.auth {
        Auth::None => Ok(with_url_credentials(options, &config.url)),
        Auth::Token(token) => Ok(options.token(token.expose().to_owned())),
        Auth::NKeySeed(seed) => Ok(options.nkey(seed.expose().to_owned())),
        Auth::CredentialsFile(path) => {
            options
                .credentials_file(path)
                .await
                .map_err(|source| BusError::Credentials {
                    path: path.clone(),
                    source,
                })
        }
    }
}

/// The library takes no notice of credentials inside the URL. `user:password`, or a token alone.
fn with_url_credentials(options: ConnectOptions, url: &str) -> ConnectOptions {
    let Ok(url) = url::Url::parse(url) else {
        return options;
    };
    let plain = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    match (url.username(), url.password()) {
        ("", _) => options,
        (token, None) => options.token(plain(token)),
        (user, Some(password)) => options.user_and_password(plain(user), plain(password)),
    }
}
