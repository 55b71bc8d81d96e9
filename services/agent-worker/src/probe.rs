//! A quick look at one instance by the same measuring path as a run: closed loop, no services.
//!
//! Each of `concurrency` users asks, follows its answer to the end, hands the record over and asks
//! again, until `requests` have been asked in all. A closed loop measures an engine under a fixed
//! number of users, not at a fixed rate: a slow engine is asked less often.
//!
//! Serialising, writing and summing up are done by a thread of their own (`writer`), so that they
//! do not stand between the stamps of the other users' streams. Run it on a current-thread runtime:
//! one thread is enough for thousands of tokens per second, and there is no second one to wake.

mod summary;
mod writer;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chimera_domain::event::{RequestError, RequestRecord};
use chimera_domain::ids::{IdError, RequestId};
use chimera_domain::units::{MonoNs, ns_to_s};
use chimera_runtime::clock::mono;
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::{ChatRequest, EngineClient, EngineConfig, EngineError, Message};

pub use summary::{ProbeSummary, Quantiles};

/// Most users at once.
pub const MAX_CONCURRENCY: u32 = 4096;
/// Most tokens asked for in all: every gap is kept for exact quantiles, 8 bytes each.
pub const MAX_TOKENS: u64 = 20_000_000;
/// The prompt where none is given: long enough to make prefill visible, of no particular subject.
pub const PROMPT: &str = "A machine serves several language models at once. Explain to an \
    engineer how the memory, the compute and the queues that they share shape the time to the \
    first token and the time between tokens, and how to tell these causes apart.";

/// What is probed, and how hard.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// The instance, the model, and what it is asked; `options.num_predict` tokens per request.
    pub engine: EngineConfig,
    /// Users at once.
    pub concurrency: u32,
    /// Requests in all.
    pub requests: u32,
    /// What is asked, after the nonce. `None`: [`PROMPT`].
    pub prompt: Option<String>,
    /// Ask once for a single token before, unmeasured, so that no request pays for the load.
    pub warm: bool,
}

/// Why a probe could not be carried out. A request that fails is no such reason: it is counted.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A number out of bounds.
    #[error("{what} is {value}, but must be {bounds}")]
    OutOfBounds {
        /// The flag's meaning.
        what: &'static str,
        /// What was given.
        value: u64,
        /// What is allowed.
        bounds: String,
    },
    /// The instance cannot be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The warming request failed.
    #[error("warming the model failed ({}): {}", .0.kind.as_str(), .0.detail)]
    Warm(RequestError),
    /// The results could not be written.
    #[error("the results could not be written; is the disk full?")]
    Write(#[source] std::io::Error),
    /// A request id could not be made.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A user's task or the writer's thread ended early: a bug.
    #[error("a part of the probe ended early: {0}")]
    Broken(String),
}

/// Probes, handing each request's JSON line to `sink` as it completes.
///
/// `shutdown` cancels what is under way (those requests are counted as cancelled) and ends the
/// probe with the summary so far.
///
/// # Errors
/// When the configuration is out of bounds, the client cannot be built, warming fails, or the
/// results cannot be written.
pub async fn run(
    config: ProbeConfig,
    sink: impl Write + Send + 'static,
    shutdown: &CancellationToken,
) -> Result<ProbeSummary, ProbeError> {
    check(&config)?;
    let client = EngineClient::new(config.engine.clone())?;
    let run = format!("probe-{:x}", mono().0);
    if config.warm {
        let id = RequestId::try_new(format!("{run}-warm"))?;
        client.warm(id, shutdown).await.map_err(ProbeError::Warm)?;
    }
    // Full-queue policy: wait. A user whose record cannot be taken asks later; nothing is lost and
    // nobody else waits. Two per user, so that one can be written while the next comes.
    let capacity = usize::try_from(config.concurrency)
        .unwrap_or(usize::MAX)
        .saturating_mul(2);
    let (records, received) = mpsc::channel(capacity);
    let writer = writer::start(sink, received).map_err(ProbeError::Write)?;
    let cpu_before = cpu_ns();
    let users = users(&config, &client, &run, records, shutdown);
    let broken = join(users).await;
    let cpu_s = ns_to_s(cpu_ns().saturating_sub(cpu_before));
    // The users are gone and with them the channel: the writer finishes.
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    let tally = match joined {
        Ok(Ok(result)) => result.map_err(ProbeError::Write)?,
        Ok(Err(_)) => return Err(ProbeError::Broken("the writer panicked".to_owned())),
        Err(error) => return Err(ProbeError::Broken(error.to_string())),
    };
    broken?;
    Ok(tally.summary(cpu_s))
}

fn check(config: &ProbeConfig) -> Result<(), ProbeError> {
    let bound = |what, value: u64, min: u64, max: u64| {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(ProbeError::OutOfBounds {
            what,
            value,
            bounds: format!("{min} to {max}"),
        })
    };
    let tokens = u64::from(config.engine.options.num_predict);
    let requests = u64::from(config.requests);
    bound(
        "concurrency",
        u64::from(config.concurrency),
        1,
        u64::from(MAX_CONCURRENCY),
    )?;
    bound("requests", requests, 1, NONCES)?;
    bound("tokens per request", tokens, 1, MAX_TOKENS)?;
    bound(
        "requests times tokens",
        requests.saturating_mul(tokens),
        1,
        MAX_TOKENS,
    )
}

/// Nonces have eight digits.
const NONCES: u64 = 100_000_000;

/// The nonce of request `n` in a run that began at `start`.
///
/// Always eight digits: the same length, hence the same token count, for every request. Prime to
/// ten, the factor makes a permutation: no nonce comes twice in a run, and neighbours differ in
/// their first digits, before anything that a prefix cache could hold. The start makes runs differ.
fn nonce(start: MonoNs, n: u64) -> u64 {
    let offset = (start.0 / 1000) % NONCES;
    (offset + (n % NONCES) * 61_803_399) % NONCES
}

fn users(
    config: &ProbeConfig,
    client: &EngineClient,
    run: &str,
    records: mpsc::Sender<RequestRecord>,
    shutdown: &CancellationToken,
) -> JoinSet<Result<(), IdError>> {
    let next = Arc::new(AtomicU64::new(0));
    let prompt: Arc<str> = config.prompt.as_deref().unwrap_or(PROMPT).into();
    let run: Arc<str> = run.into();
    let start = mono();
    let mut users = JoinSet::new();
    for _ in 0..config.concurrency.min(config.requests) {
        let (next, prompt, run) = (Arc::clone(&next), Arc::clone(&prompt), Arc::clone(&run));
        let (client, records, shutdown) = (client.clone(), records.clone(), shutdown.clone());
        let requests = u64::from(config.requests);
        users.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= requests || shutdown.is_cancelled() {
                    return Ok(());
                }
                let request = ChatRequest {
                    request_id: RequestId::try_new(format!("{run}-{n}"))?,
                    step: "probe".to_owned(),
                    messages: vec![Message::user(format!("{:08} {prompt}", nonce(start, n)))],
                    headers: http::HeaderMap::new(),
                };
                let record = client.chat(&request, &shutdown).await.record;
                if records.send(record).await.is_err() {
                    // The writer failed, and says why when it is joined.
                    return Ok(());
                }
            }
        });
    }
    users
}

async fn join(mut users: JoinSet<Result<(), IdError>>) -> Result<(), ProbeError> {
    let mut result = Ok(());
    while let Some(user) = users.join_next().await {
        match user {
            Ok(Ok(())) => {}
            Ok(Err(error)) => result = Err(ProbeError::Id(error)),
            Err(error) => result = Err(ProbeError::Broken(error.to_string())),
        }
    }
    result
}

/// CPU time of this process so far.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}
