//! The measuring path: one request to one engine instance, every chunk stamped on receipt.
//!
//! - `transport`: connection, deadlines, frames and how they fail; knows no engine.
//! - `lines`: frames to lines. `text`: borrowed JSON strings.
//! - `answer`: what a stream amounts to.
//! - `ollama`, `openai`: each the only file that knows that API.
//! - `wait`: what the thread waited for a core. `state`, `exposition`: what the engine says of itself
//!   beside the work; no part of the measuring path.
//!
//! A stamp is taken when the frame is received, before it is looked at, and belongs to every line
//! that the frame *completes*. Between two stamps of a stream there is no lock, no log and no
//! await but the one on the body.
//!
//! Nothing is retried: a retry inside a measured run hides the failure that it measures. Each
//! request has a connection of its own, whose set-up counts into it (some 0.1 ms on loopback, a
//! round trip elsewhere): a kept one may be closing just then, and telling that from an engine that
//! fails would take a retry. llama.cpp's server closes after every streamed answer, although it
//! says `Keep-Alive`.

mod answer;
mod error;
mod exposition;
mod failures;
mod lines;
mod ollama;
mod openai;
mod state;
mod text;
mod transport;
mod wait;

#[cfg(test)]
mod tests;

use std::time::Duration;

use chimera_domain::event::{PinFacts, RequestError, RequestErrorKind, RequestRecord};
use chimera_domain::ids::RequestId;
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_runtime::clock::mono;
use http::HeaderMap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use url::Url;

use answer::Answer;
pub use error::EngineError;
pub(crate) use ollama::model_account;
pub use state::{Look, StateReader};
use transport::Transport;
use wait::ThreadWait;

/// How long each phase of a request may take, and how much an answer may hold.
///
/// All of them hold at every moment, also while a frame is awaited; the timer behind them has a
/// resolution of 1 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Name lookup, TCP and TLS.
    pub connect: Duration,
    /// Send to first content: connect, queue, load and prefill together.
    pub first_byte: Duration,
    /// Between two frames once content flows, and from the last one to the end of the stream.
    pub gap: Duration,
    /// The whole request; for [`EngineClient::warm`] also its limit on the first byte.
    pub total: Duration,
    /// Longest line of a stream, in bytes. Ollama's own cap upstream is 8 MB.
    pub line_cap: usize,
    /// Longest answer in bytes as received; bounds the memory that one request can take.
    pub body_cap: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(120),
            gap: Duration::from_secs(30),
            total: Duration::from_secs(600),
            line_cap: 8 << 20,
            body_cap: 128 << 20,
        }
    }
}

/// Which instance is asked, for what, within which limits: frozen for a run.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Base URL of the instance (`http://127.0.0.1:11434`); a trailing `/v1` is accepted.
    pub url: Url,
    /// The protocol to speak.
    pub kind: EngineKind,
    /// Model name as the engine knows it.
    pub model: String,
    /// Sent with every request; a difference between requests would reload the model.
    pub options: EngineOptions,
    /// Deadlines and caps.
    pub limits: Limits,
    /// Makes the engine write exactly `num_predict` tokens (`ignore_eos`), where it can: llama.cpp,
    /// vLLM, `SGLang`. Ollama has no such option.
    pub forced_length: bool,
    /// Sent with every request to the instance (authorization, for one).
    pub headers: HeaderMap,
}

impl EngineConfig {
    /// A configuration with default limits, forced length and no extra headers.
    #[must_use]
    pub fn new(
        url: Url,
        kind: EngineKind,
        model: impl Into<String>,
        options: EngineOptions,
    ) -> Self {
        Self {
            url,
            kind,
            model: model.into(),
            options,
            limits: Limits::default(),
            forced_length: true,
            headers: HeaderMap::new(),
        }
    }
}

/// Who speaks a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Standing instructions.
    System,
    /// The question.
    User,
}

impl Speaker {
    fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Speaker,
    /// What is said.
    pub content: String,
}

impl Message {
    /// Standing instructions.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self {
            role: Speaker::System,
            content: content.into(),
        }
    }

    /// The question.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: Speaker::User,
            content: content.into(),
        }
    }
}

/// One question to the engine.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// Sent as `X-Request-ID`.
    pub request_id: RequestId,
    /// The agent's step that asks.
    pub step: String,
    /// The prompt, in order.
    pub messages: Vec<Message>,
    /// Trace context (`traceparent`, `tracestate`) and whatever else this one request carries.
    pub headers: HeaderMap,
}

/// What came of a request. There is always a record; a failure stands inside it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatOutcome {
    /// The facts, without the text.
    pub record: RequestRecord,
    /// The text received, whole or up to the failure.
    pub text: String,
    /// The thinking that the engine reported apart from the text; empty if none.
    pub thinking: String,
}

/// What warming took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warm {
    /// The engine's own load time; `None` where it does not state one.
    pub load: Option<Duration>,
    /// Send to end of the warming request, as the client saw it.
    pub wall: Duration,
}

/// A client of exactly one engine instance.
///
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineClient {
    api: Api,
    transport: Transport,
    config: EngineConfig,
}

#[derive(Debug, Clone)]
enum Api {
    Ollama(ollama::Api),
    Openai(openai::Api),
}

/// Per-stream state of one protocol.
enum Decoder {
    Ollama(ollama::Decoder),
    Openai(openai::Decoder),
}

impl Decoder {
    /// Takes one whole line, received `at_ns` after the send.
    fn line(&mut self, line: &[u8], at_ns: u64, answer: &mut Answer) -> Result<(), RequestError> {
        match self {
            Self::Ollama(decoder) => decoder.line(line, at_ns, answer),
            Self::Openai(decoder) => decoder.line(line, at_ns, answer),
        }
    }

    /// Takes the clean end of the stream, with what was left after the last line feed.
    fn end(&mut self, rest: &[u8], at_ns: u64, answer: &mut Answer) -> Result<(), RequestError> {
        match self {
            Self::Ollama(decoder) => decoder.end(rest, at_ns, answer),
            Self::Openai(decoder) => decoder.end(rest, at_ns, answer),
        }
    }
}

/// The words in which one protocol asks for a chat, made before the clock starts.
struct Question {
    url: Url,
    body: Vec<u8>,
}

impl EngineClient {
    /// Builds the client; opens no connection.
    ///
    /// # Errors
    /// When the URL is not `http`/`https` with a host, or TLS cannot be set up.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let transport = Transport::new(&config.url, config.limits, &config.headers)?;
        let base = transport::base_url(&config.url)?;
        let api = match config.kind {
            EngineKind::Ollama => Api::Ollama(ollama::Api::new(&base)?),
            EngineKind::Openai => Api::Openai(openai::Api::new(&base)?),
        };
        Ok(Self {
            api,
            transport,
            config,
        })
    }

    /// What this client was built from.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Asks once and follows the answer to its end, a failure, or `cancel`.
    ///
    /// Dropping the future, a failure and `cancel` all close the connection, so that the engine
    /// stops working for nobody.
    pub async fn chat(&self, request: &ChatRequest, cancel: &CancellationToken) -> ChatOutcome {
        self.ask(
            request,
            self.config.options.num_predict,
            self.config.limits,
            cancel,
        )
        .await
    }

    /// Loads the model by one request for a single token with the frozen options.
    ///
    /// # Errors
    /// The request's own failure.
    pub async fn warm(
        &self,
        request_id: RequestId,
        cancel: &CancellationToken,
    ) -> Result<Warm, RequestError> {
        let request = ChatRequest {
            request_id,
            step: "warm".to_owned(),
            messages: vec![Message::user("Say hello.")],
            headers: HeaderMap::new(),
        };
        // A cold load may take minutes (Ollama allows itself five), so only the total limit holds.
        let limits = Limits {
            first_byte: self.config.limits.total,
            ..self.config.limits
        };
        let record = self.ask(&request, 1, limits, cancel).await.record;
        match (record.error, record.done_ns) {
            (None, Some(wall)) => Ok(Warm {
                load: record.engine_times.load_ns.map(Duration::from_nanos),
                wall: Duration::from_nanos(wall),
            }),
            (Some(error), _) => Err(error),
            (None, None) => Err(answer::failure(
                RequestErrorKind::NoDone,
                "the stream had no final record",
            )),
        }
    }

    /// Asks the instance what it is and what it has loaded.
    ///
    /// What the engine cannot say stays `None`; a model that is not loaded has no
    /// [`PinFacts::model`].
    ///
    /// # Errors
    /// When the instance cannot be reached, does not know the model, or answers nonsense.
    pub async fn pin_facts(&self) -> Result<PinFacts, EngineError> {
        match &self.api {
            Api::Ollama(api) => api.pin_facts(&self.transport, &self.config).await,
            Api::Openai(api) => api.pin_facts(&self.transport, &self.config).await,
        }
    }

    async fn ask(
        &self,
        request: &ChatRequest,
        num_predict: u32,
        limits: Limits,
        cancel: &CancellationToken,
    ) -> ChatOutcome {
        let mut answer = Answer::with_room_for(num_predict);
        let prepared = self.prepare(request, num_predict);
        let sent;
        let mut client_wait_ns = None;
        let result = match prepared {
            Ok((question, mut decoder)) => {
                let http = self.transport.request(question, request);
                // Read outside of all stamps: before the send, and after the end of the stream.
                let wait = ThreadWait::now();
                sent = mono();
                match http {
                    Ok(http) => {
                        let watch = transport::Watch::new(sent, limits, cancel);
                        let result = self
                            .transport
                            .run(http, watch, &mut decoder, &mut answer)
                            .await;
                        client_wait_ns = wait.and_then(ThreadWait::since);
                        result
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => {
                sent = mono();
                Err(error)
            }
        };
        let prompt_sha256 = prompt_sha256(&request.messages);
        let output_sha256 = hex::encode(Sha256::digest(answer.text.as_bytes()));
        let error = result.err();
        ChatOutcome {
            record: RequestRecord {
                request_id: request.request_id.clone(),
                step: request.step.clone(),
                sent,
                head_ns: answer.head_ns,
                chunk_ns: answer.chunk_ns,
                // The final record of a stream that then went wrong is not the end of a request.
                done_ns: answer.done_ns.filter(|_| error.is_none()),
                prompt_sha256,
                prompt_tokens: answer.prompt_tokens,
                cached_tokens: answer.cached_tokens,
                output_tokens: answer.output_tokens,
                output_sha256,
                finish: answer.finish,
                engine_times: answer.times,
                client_wait_ns,
                error,
            },
            text: answer.text,
            thinking: answer.thinking,
        }
    }

    fn prepare(
        &self,
        request: &ChatRequest,
        num_predict: u32,
    ) -> Result<(Question, Decoder), RequestError> {
        let unserialisable =
            |e: serde_json::Error| answer::failure(RequestErrorKind::Malformed, &e.to_string());
        match &self.api {
            Api::Ollama(api) => {
                let question = api
                    .question(&self.config, request, num_predict)
                    .map_err(unserialisable)?;
                Ok((question, Decoder::Ollama(ollama::Decoder::default())))
            }
            Api::Openai(api) => {
                let question = api
                    .question(&self.config, request, num_predict)
                    .map_err(unserialisable)?;
                Ok((question, Decoder::Openai(openai::Decoder::default())))
            }
        }
    }
}

/// SHA-256 over all messages, hex: for each its role, a line feed, its text and a NUL.
#[must_use]
pub fn prompt_sha256(messages: &[Message]) -> String {
    let mut hash = Sha256::new();
    for message in messages {
        hash.update(message.role.as_str());
        hash.update(b"\n");
        hash.update(message.content.as_bytes());
        hash.update(b"\0");
    }
    hex::encode(hash.finalize())
}
