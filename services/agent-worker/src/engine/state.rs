//! What an engine says of its state while it works for others: looked at beside the measuring path,
//! by a client of its own.
//!
//! Which route says something differs by product and build, so each is tried once in the order below,
//! and the first that answers is asked from then on. One that is not there, or says nothing that is
//! known, is not asked again by the same reader.
//!
//! - Ollama: `/api/ps`, the models in memory. It states neither slots nor a queue.
//! - llama.cpp: `/metrics` (where started with `--metrics`), else `/slots`, which does not state a
//!   queue. The server answers both between two batches, so a look may take as long as a batch.
//! - vLLM, `SGLang`: `/metrics`.

use std::time::Duration;

use chimera_domain::event::{EngineState, ResidentModel};
use chimera_domain::options::EngineKind;
use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use super::exposition::{Gauges, gauges};
use super::transport::{Reply, Transport, base_url, route};
use super::{EngineError, Limits, ollama};

/// Models of a reading that are kept; more than an engine has memory for.
const MAX_RESIDENT: usize = 32;

/// What a look came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The engine said something.
    State(EngineState),
    /// It did not answer in time, or failed.
    Missed,
    /// It has no route that says anything.
    Nothing,
}

/// Looks at the state of one instance, for all agents that share it.
#[derive(Debug)]
pub struct StateReader {
    transport: Transport,
    limit: Duration,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Routes that may say something, in the order in which they are tried.
    sources: Vec<Source>,
    /// The latest look, and when it began.
    latest: Option<(MonoNs, Look)>,
}

#[derive(Debug, Clone)]
struct Source {
    tells: Tells,
    url: Url,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    Resident,
    Metrics,
    Slots,
}

impl StateReader {
    /// Opens no connection yet. `limit` bounds each look.
    ///
    /// # Errors
    /// When the URL is not `http`/`https` with a host, or TLS cannot be set up.
    pub fn new(url: &Url, kind: EngineKind, limit: Duration) -> Result<Self, EngineError> {
        let limits = Limits {
            connect: limit,
            ..Limits::default()
        };
        let transport = Transport::new(url, limits, &HeaderMap::new())?;
        let base = base_url(url)?;
        let routes: &[(Tells, &str)] = match kind {
            EngineKind::Ollama => &[(Tells::Resident, "api/ps")],
            // The last is Ollama's own, behind its OpenAI route.
            EngineKind::Openai => &[
                (Tells::Metrics, "metrics"),
                (Tells::Slots, "slots"),
                (Tells::Resident, "api/ps"),
            ],
        };
        let sources = routes.iter().map(|(tells, path)| {
            Ok(Source {
                tells: *tells,
                url: route(&base, path)?,
            })
        });
        Ok(Self {
            transport,
            limit,
            known: Mutex::new(Known {
                sources: sources.collect::<Result<_, EngineError>>()?,
                latest: None,
            }),
        })
    }

    /// Looks, unless somebody has since `not_before`: agents that share an instance share its looks.
    ///
    /// Takes no longer than the limit, and as long again where another look is under way.
    pub async fn look(&self, not_before: MonoNs) -> Look {
        let Ok(mut known) = timeout(self.limit, self.known.lock()).await else {
            return Look::Missed;
        };
        if let Some((begun, look)) = &known.latest
            && *begun >= not_before
        {
            return look.clone();
        }
        let begun = mono();
        let look = timeout(self.limit, self.ask(&mut known.sources))
            .await
            .unwrap_or(Look::Missed);
        known.latest = Some((begun, look.clone()));
        look
    }

    async fn ask(&self, sources: &mut Vec<Source>) -> Look {
        while let Some(source) = sources.first() {
            match self.transport.get(&source.url).await {
                Ok(reply) if is_absent(reply.status) => {}
                Ok(reply) if reply.status != StatusCode::OK => return Look::Missed,
                Ok(reply) => {
                    if let Some(state) = read(source.tells, &reply) {
                        sources.truncate(1);
                        return Look::State(state);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "an engine's state could not be read");
                    return Look::Missed;
                }
            }
            tracing::debug!(url = %source.url, "says nothing of the engine's state; not asked again");
            sources.remove(0);
        }
        Look::Nothing
    }
}

/// The route is not there, not switched on (llama.cpp: 501), or not for us.
fn is_absent(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::GONE
    )
}

/// What an answer says, received just now. `None`: nothing that is known.
fn read(tells: Tells, reply: &Reply) -> Option<EngineState> {
    let state = EngineState {
        at: mono(),
        ..EngineState::default()
    };
    match tells {
        Tells::Resident => {
            let mut resident: Vec<ResidentModel> = ollama::resident(reply).ok()?;
            resident.truncate(MAX_RESIDENT);
            Some(EngineState {
                resident: Some(resident),
                ..state
            })
        }
        Tells::Metrics => {
            let Gauges {
                running,
                waiting,
                kv_cache_used,
            } = gauges(std::str::from_utf8(reply.body()).ok()?)?;
            Some(EngineState {
                requests_running: running,
                requests_waiting: waiting,
                kv_cache_used,
                ..state
            })
        }
        Tells::Slots => Some(EngineState {
            requests_running: Some(busy_slots(reply.body())?),
            ..state
        }),
    }
}

#[derive(Deserialize)]
struct Slot {
    is_processing: Option<bool>,
    /// Builds before November 2024: 0 idle, 1 busy.
    state: Option<i64>,
}

/// llama.cpp's busy slots. `None`: not its answer.
fn busy_slots(body: &[u8]) -> Option<u32> {
    let slots: Vec<Slot> = serde_json::from_slice(body).ok()?;
    let busy: Option<Vec<bool>> = slots
        .iter()
        .map(|slot| slot.is_processing.or_else(|| Some(slot.state? != 0)))
        .collect();
    u32::try_from(busy?.into_iter().filter(|busy| *busy).count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_new_and_old_builds_are_counted() {
        let new = br#"[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]"#;
        assert_eq!(busy_slots(new), Some(1));
        let old = br#"[{"id":0,"state":1},{"id":1,"state":1}]"#;
        assert_eq!(busy_slots(old), Some(2));
        assert_eq!(busy_slots(b"[]"), Some(0));
        assert_eq!(busy_slots(br#"[{"id":0}]"#), None);
        assert_eq!(busy_slots(br#"{"error":"not supported"}"#), None);
    }

    #[test]
    fn a_route_that_is_switched_off_is_absent_and_an_overloaded_one_is_not() {
        for status in [401, 403, 404, 405, 501] {
            assert!(is_absent(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 429, 500, 503] {
            assert!(
                !is_absent(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
    }
}
