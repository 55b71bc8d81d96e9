//! Connection, deadlines and frames. Knows HTTP, and no engine.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use chimera_domain::event::{RequestError, RequestErrorKind};
use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use url::Url;

use super::answer::{Answer, failure};
use super::failures::{before_head, cancelled, error_text, inside_body, refusal_kind, words};
use super::lines::Lines;
use super::{ChatRequest, Decoder, EngineError, Limits, Question};

/// Most bytes read of the body of a refusal.
const REFUSAL_CAP: usize = 64 << 10;
/// Most bytes read of an answer about the instance (`/api/show` carries licences and templates).
const FACTS_CAP: usize = 16 << 20;
/// Longest wait for an answer about the instance.
const FACTS_LIMIT: Duration = Duration::from_secs(10);
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The HTTP client of one instance.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    /// Sent with every chat.
    headers: HeaderMap,
    line_cap: usize,
    body_cap: usize,
}

/// An answer about the instance, before it is known to be one.
pub(super) struct Reply {
    url: String,
    pub(super) status: StatusCode,
    body: Vec<u8>,
}

impl Transport {
    pub(super) fn new(url: &Url, limits: Limits, extra: &HeaderMap) -> Result<Self, EngineError> {
        // One provider for the process. Another part of it may have been faster: same provider.
        let already = rustls::crypto::ring::default_provider()
            .install_default()
            .is_err();
        tracing::trace!(already, "TLS provider is ring");
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .connect_timeout(limits.connect)
            // See the module: a connection for each request.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("chimera/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // Reading the system's certificates costs 10 ms and more and fails where there are
            // none (minimal containers); without TLS there is nothing to verify.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(EngineError::Setup)?;
        let mut headers = extra.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/x-ndjson, text/event-stream"),
        );
        Ok(Self {
            client,
            headers,
            line_cap: limits.line_cap,
            body_cap: limits.body_cap,
        })
    }

    /// Everything that is to be sent, made before the clock starts.
    pub(super) fn request(
        &self,
        question: Question,
        chat: &ChatRequest,
    ) -> Result<reqwest::Request, RequestError> {
        let mut request = reqwest::Request::new(Method::POST, question.url);
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        for (name, value) in &chat.headers {
            headers.insert(name, value.clone());
        }
        let id = HeaderValue::from_str(chat.request_id.as_str())
            .map_err(|e| failure(RequestErrorKind::Malformed, &e.to_string()))?;
        headers.insert(X_REQUEST_ID.clone(), id);
        *request.body_mut() = Some(question.body.into());
        Ok(request)
    }

    /// Sends, and feeds the answer's lines to `decoder` until the stream ends or fails.
    pub(super) async fn run(
        &self,
        request: reqwest::Request,
        mut watch: Watch<'_>,
        decoder: &mut Decoder,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        // Pinned here and polled by reference: one registration for the whole request.
        let mut send = pin!(self.client.execute(request));
        let mut response = loop {
            tokio::select! {
                biased;
                response = send.as_mut() => break response.map_err(|e| before_head(&e))?,
                () = watch.sleep.as_mut() => watch.expired()?,
                () = watch.cancelled.as_mut() => return Err(cancelled()),
            }
        };
        answer.head_ns = Some(watch.now_ns());
        if response.status() != StatusCode::OK {
            return Err(refusal(&mut response, &mut watch).await);
        }
        let mut lines = Lines::new(self.line_cap);
        let mut received = 0_usize;
        loop {
            // `chunk` is cancel-safe: it polls for one frame and holds nothing in between.
            let frame = tokio::select! {
                biased;
                frame = response.chunk() => frame,
                () = watch.sleep.as_mut() => {
                    watch.expired()?;
                    continue;
                }
                () = watch.cancelled.as_mut() => return Err(cancelled()),
            };
            let at_ns = watch.now_ns();
            let Some(frame) = frame.map_err(|e| inside_body(&e))? else {
                return decoder.end(lines.rest(), at_ns, answer);
            };
            received = received.saturating_add(frame.len());
            if received > self.body_cap {
                let detail = format!("the answer is longer than {} bytes", self.body_cap);
                return Err(failure(RequestErrorKind::LineTooLong, &detail));
            }
            lines.push(&frame, |line| decoder.line(line, at_ns, answer))?;
            watch.frame(at_ns, !answer.chunk_ns.is_empty())?;
        }
    }

    /// Asks for a document about the instance.
    pub(super) async fn get(&self, url: &Url) -> Result<Reply, EngineError> {
        self.fetch(reqwest::Request::new(Method::GET, url.clone()))
            .await
    }

    /// Asks for a document about the instance, with a JSON body.
    pub(super) async fn post(&self, url: &Url, body: Vec<u8>) -> Result<Reply, EngineError> {
        let mut request = reqwest::Request::new(Method::POST, url.clone());
        *request.body_mut() = Some(body.into());
        self.fetch(request).await
    }

    async fn fetch(&self, mut request: reqwest::Request) -> Result<Reply, EngineError> {
        let url = request.url().to_string();
        *request.headers_mut() = self.headers.clone();
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        let unreachable = |e: reqwest::Error| EngineError::Unreachable {
            url: url.clone(),
            reason: words(&e),
        };
        let whole = async {
            let mut response = self.client.execute(request).await.map_err(unreachable)?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await.map_err(unreachable)? {
                if body.len().saturating_add(part.len()) > FACTS_CAP {
                    let reason = format!("more than {FACTS_CAP} bytes");
                    return Err(EngineError::Malformed {
                        url: url.clone(),
                        reason,
                    });
                }
                body.extend_from_slice(&part);
            }
            Ok(Reply {
                url: url.clone(),
                status,
                body,
            })
        };
        match tokio::time::timeout(FACTS_LIMIT, whole).await {
            Ok(reply) => reply,
            Err(_) => Err(EngineError::Timeout {
                url,
                seconds: FACTS_LIMIT.as_secs(),
            }),
        }
    }
}

impl Reply {
    /// The answer's bytes, whatever it is.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The document, if the instance gave one.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        if self.status != StatusCode::OK {
            return Err(EngineError::Status {
                url: self.url.clone(),
                status: self.status.as_u16(),
                message: error_text(&self.body).message,
            });
        }
        serde_json::from_slice(&self.body).map_err(|e| EngineError::Malformed {
            url: self.url.clone(),
            reason: e.to_string(),
        })
    }
}

/// The deadlines of one request, behind one timer.
///
/// The timer is not set anew for every frame: it fires at the earliest instant that could be too
/// late as seen when it was set, and then looks at what has arrived since.
pub(super) struct Watch<'a> {
    sent: MonoNs,
    first_ns: u64,
    gap_ns: u64,
    total_ns: u64,
    last_ns: u64,
    flowing: bool,
    sleep: Pin<Box<Sleep>>,
    cancelled: Pin<Box<WaitForCancellationFuture<'a>>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(sent: MonoNs, limits: Limits, cancel: &'a CancellationToken) -> Self {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Self {
            sent,
            first_ns: ns(limits.first_byte),
            gap_ns: ns(limits.gap),
            total_ns: ns(limits.total),
            last_ns: 0,
            flowing: false,
            sleep: Box::pin(sleep(limits.first_byte.min(limits.total))),
            cancelled: Box::pin(cancel.cancelled()),
        }
    }

    fn now_ns(&self) -> u64 {
        mono().since(self.sent).unwrap_or_default()
    }

    /// The next instant that is too late, and as what.
    fn due(&self) -> (u64, RequestErrorKind) {
        let step = if self.flowing {
            (
                self.last_ns.saturating_add(self.gap_ns),
                RequestErrorKind::GapTimeout,
            )
        } else {
            (self.first_ns, RequestErrorKind::FirstByteTimeout)
        };
        if self.total_ns < step.0 {
            (self.total_ns, RequestErrorKind::TotalTimeout)
        } else {
            step
        }
    }

    /// Takes note of a frame. Checks the total limit too: a stream that never pauses would not let
    /// the timer have its turn.
    fn frame(&mut self, at_ns: u64, flowing: bool) -> Result<(), RequestError> {
        self.last_ns = at_ns;
        if flowing && !self.flowing {
            // The only deadline that can come closer: from the first-byte limit to the gap.
            self.flowing = true;
            self.rearm(at_ns);
        }
        if at_ns > self.total_ns {
            return Err(self.late(RequestErrorKind::TotalTimeout, self.total_ns));
        }
        Ok(())
    }

    /// The timer fired: too late, or set to the next instant.
    fn expired(&mut self) -> Result<(), RequestError> {
        let now_ns = self.now_ns();
        let (due_ns, kind) = self.due();
        if now_ns >= due_ns {
            return Err(self.late(kind, due_ns));
        }
        self.rearm(now_ns);
        Ok(())
    }

    fn rearm(&mut self, now_ns: u64) {
        let left = Duration::from_nanos(self.due().0.saturating_sub(now_ns));
        // A century, where the limits are "never": the timer refuses instants past its horizon.
        let left = left.min(Duration::from_secs(100 * 365 * 86_400));
        self.sleep.as_mut().reset(Instant::now() + left);
    }

    fn late(&self, kind: RequestErrorKind, due_ns: u64) -> RequestError {
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        let detail = match kind {
            RequestErrorKind::FirstByteTimeout => {
                format!(
                    "no content within {:.3} s of the send",
                    seconds(self.first_ns)
                )
            }
            RequestErrorKind::GapTimeout => format!(
                "nothing for {:.3} s, {:.3} s after the send",
                seconds(self.gap_ns),
                seconds(due_ns)
            ),
            _ => format!("not finished within {:.3} s", seconds(self.total_ns)),
        };
        failure(kind, &detail)
    }
}

/// Checks the base URL and brings it into one form: no query, no trailing slash, no `/v1`.
pub(super) fn base_url(url: &Url) -> Result<Url, EngineError> {
    let bad = |reason: &str| EngineError::BadUrl {
        url: url.to_string(),
        reason: reason.to_owned(),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("the scheme is neither http nor https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    let mut base = url.clone();
    base.set_query(None);
    base.set_fragment(None);
    let path = base.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    base.set_path(&format!("{path}/"));
    Ok(base)
}

/// A route below the base.
pub(super) fn route(base: &Url, path: &str) -> Result<Url, EngineError> {
    base.join(path).map_err(|e| EngineError::BadUrl {
        url: base.to_string(),
        reason: e.to_string(),
    })
}

/// A status other than 200, with what the engine says about it.
async fn refusal(response: &mut reqwest::Response, watch: &mut Watch<'_>) -> RequestError {
    let status = response.status();
    let mut body: Vec<u8> = Vec::new();
    while body.len() < REFUSAL_CAP {
        let part: Option<Bytes> = tokio::select! {
            biased;
            part = response.chunk() => part.ok().flatten(),
            () = watch.sleep.as_mut() => match watch.expired() {
                Ok(()) => continue,
                // The status is the news; a body that does not come changes nothing.
                Err(_) => None,
            },
            () = watch.cancelled.as_mut() => return cancelled(),
        };
        let Some(part) = part else { break };
        body.extend_from_slice(part.get(..REFUSAL_CAP).unwrap_or(&part));
    }
    let error = error_text(&body);
    let kind = refusal_kind(status, &error);
    failure(
        kind,
        &format!("status {}: {}", status.as_u16(), error.message),
    )
}
