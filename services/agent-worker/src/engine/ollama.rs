//! Ollama's native API: `/api/chat` streamed as NDJSON, and what tells the pin.
//!
//! *Source*: Ollama `docs/api`, `api/types.go`, `server/routes.go`.

use std::collections::HashMap;

use chimera_domain::event::{
    FinishReason, PinFacts, RequestError, RequestErrorKind, ResidentModel,
};
use chimera_domain::memory;
use chimera_domain::options::EngineKind;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use url::Url;

use super::answer::{Answer, count, failure, malformed, nanos};
use super::text::{ErrorMember, Text};
use super::transport::{Reply, Transport, base_url, route};
use super::{ChatRequest, EngineConfig, EngineError, Limits, Message, Question};

/// The routes of one instance.
#[derive(Debug, Clone)]
pub(super) struct Api {
    base: Url,
    chat: Url,
    version: Url,
    ps: Url,
    show: Url,
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    /// Off: with it on, the server drops the oldest messages of a prompt that does not fit, without
    /// a word, and tokenises candidate prompts inside the measured path. Off, it answers 400.
    truncate: bool,
    /// Off: with it on, a full context is shifted during decode, which changes the work in the
    /// middle of a request. It is also a reload trigger, hence the same in every request.
    shift: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<KeepAlive<'a>>,
    options: Options,
}

/// Ollama takes a number of seconds or a duration text; `"-1"` as a text is refused.
#[derive(Serialize)]
#[serde(untagged)]
enum KeepAlive<'a> {
    Seconds(i64),
    Text(&'a str),
}

#[derive(Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_gpu: Option<u32>,
    num_ctx: u32,
    num_batch: u32,
    num_predict: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_thread: Option<u32>,
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f64>,
    seed: u64,
}

impl Api {
    pub(super) fn new(base: &Url) -> Result<Self, EngineError> {
        Ok(Self {
            chat: route(base, "api/chat")?,
            version: route(base, "api/version")?,
            ps: route(base, "api/ps")?,
            show: route(base, "api/show")?,
            base: base.clone(),
        })
    }

    pub(super) fn question(
        &self,
        config: &EngineConfig,
        request: &ChatRequest,
        num_predict: u32,
    ) -> Result<Question, serde_json::Error> {
        let o = &config.options;
        let body = ChatBody {
            model: &config.model,
            messages: &request.messages,
            stream: true,
            truncate: false,
            shift: false,
            keep_alive: o.keep_alive.as_deref().map(|text| match text.parse() {
                Ok(seconds) => KeepAlive::Seconds(seconds),
                Err(_) => KeepAlive::Text(text),
            }),
            options: Options {
                num_gpu: o.num_gpu,
                num_ctx: o.num_ctx,
                num_batch: o.num_batch,
                num_predict,
                num_thread: o.num_thread,
                temperature: o.temperature,
                top_p: o.top_p,
                top_k: o.top_k,
                repeat_penalty: o.repeat_penalty,
                seed: o.seed,
            },
        };
        Ok(Question {
            url: self.chat.clone(),
            body: serde_json::to_vec(&body)?,
        })
    }

    pub(super) async fn pin_facts(
        &self,
        transport: &Transport,
        config: &EngineConfig,
    ) -> Result<PinFacts, EngineError> {
        let version: Version = transport.get(&self.version).await?.json()?;
        let show = transport
            .post(&self.show, name_of(self, &config.model)?)
            .await?;
        if show.status == http::StatusCode::NOT_FOUND {
            return Err(EngineError::ModelNotFound {
                url: self.base.to_string(),
                model: config.model.clone(),
                offered: "see /api/tags for what it has".to_owned(),
                remedy: format!("fetch it with `ollama pull {}`", config.model),
            });
        }
        let show: Show = show.json()?;
        let loaded: Loaded = transport.get(&self.ps).await?.json()?;
        let found =
            loaded.models.unwrap_or_default().into_iter().find(|m| {
                same_model(&m.name, &config.model) || same_model(&m.model, &config.model)
            });
        let mut facts = PinFacts {
            url: config.url.to_string(),
            engine: Some(EngineKind::Ollama),
            product: Some("ollama".to_owned()),
            version: Some(version.version),
            model_layers: show.figure("block_count"),
            train_context: show.figure("context_length"),
            ..PinFacts::default()
        };
        if let Some(model) = found {
            facts.model = Some(model.name);
            facts.model_digest = Some(model.digest).filter(|d| !d.is_empty());
            facts.context_length = count(model.context_length);
            facts.size_bytes = nanos(model.size);
            facts.size_vram_bytes = nanos(model.size_vram);
        }
        Ok(facts)
    }
}

/// What an instance says of a model, and what it holds.
#[derive(Debug)]
pub(crate) struct ModelAccount {
    /// Its account of the model.
    pub(crate) show: memory::Show,
    /// What all its models take on GPUs, bytes.
    pub(crate) device_bytes: u64,
    /// What they take in the host's memory, bytes.
    pub(crate) host_bytes: u64,
}

/// Asks an instance what a model is made of, and what it holds now. Loads nothing.
///
/// # Errors
/// When it does not answer, or has no such model.
pub(crate) async fn model_account(base: &Url, model: &str) -> Result<ModelAccount, EngineError> {
    let transport = Transport::new(base, Limits::default(), &HeaderMap::new())?;
    let base = base_url(base)?;
    let api = Api::new(&base)?;
    let show = transport.post(&api.show, name_of(&api, model)?).await?;
    let held = resident(&transport.get(&api.ps).await?)?;
    let device = held.iter().filter_map(|m| m.size_vram_bytes);
    let device_bytes = device.fold(0_u64, u64::saturating_add);
    let all = held.iter().filter_map(|m| m.size_bytes);
    let all = all.fold(0_u64, u64::saturating_add);
    Ok(ModelAccount {
        show: show.json()?,
        device_bytes,
        host_bytes: all.saturating_sub(device_bytes),
    })
}

/// The question for a model.
fn name_of(api: &Api, model: &str) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(&HashMap::from([("model", model)])).map_err(|e| EngineError::Malformed {
        url: api.show.to_string(),
        reason: e.to_string(),
    })
}

/// The models in memory, of an answer of `/api/ps`.
pub(super) fn resident(reply: &Reply) -> Result<Vec<ResidentModel>, EngineError> {
    let loaded: Loaded = reply.json()?;
    let models = loaded.models.unwrap_or_default().into_iter();
    let resident = models.map(|model| ResidentModel {
        size_bytes: nanos(model.size),
        size_vram_bytes: nanos(model.size_vram),
        context_length: count(model.context_length),
        model: Some(model.name)
            .filter(|name| !name.is_empty())
            .unwrap_or(model.model),
    });
    Ok(resident.collect())
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Loaded {
    /// May be null, and must be there: an answer of another kind is no server without a model.
    #[serde(deserialize_with = "Option::deserialize")]
    models: Option<Vec<LoadedModel>>,
}

#[derive(Deserialize)]
struct LoadedModel {
    #[serde(default)]
    name: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    digest: String,
    size: Option<i64>,
    size_vram: Option<i64>,
    context_length: Option<i64>,
}

#[derive(Deserialize)]
struct Show {
    model_info: Option<HashMap<String, serde_json::Value>>,
}

impl Show {
    /// `<architecture>.<what>` (`block_count`, the number of repeating layers; `context_length`, the
    /// context of the training). A model with a vision part has a second such key, hence the look at
    /// the architecture first.
    fn figure(&self, what: &str) -> Option<u32> {
        let info = self.model_info.as_ref()?;
        let by_architecture = info
            .get("general.architecture")
            .and_then(serde_json::Value::as_str)
            .and_then(|name| info.get(&format!("{name}.{what}")));
        let ending = format!(".{what}");
        let value = by_architecture.or_else(|| {
            info.iter()
                .find(|(k, _)| k.ends_with(&ending))
                .map(|(_, v)| v)
        })?;
        u32::try_from(value.as_u64()?).ok()
    }
}

/// Ollama completes a name without a tag with `:latest`.
fn same_model(a: &str, b: &str) -> bool {
    let bare = |name: &str| {
        name.strip_suffix(":latest")
            .unwrap_or(name)
            .to_ascii_lowercase()
    };
    bare(a) == bare(b)
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    message: Option<Delta<'a>>,
    #[serde(default)]
    done: bool,
    error: Option<ErrorMember>,
    #[serde(borrow)]
    done_reason: Option<Text<'a>>,
    total_duration: Option<i64>,
    load_duration: Option<i64>,
    prompt_eval_count: Option<i64>,
    prompt_eval_duration: Option<i64>,
    eval_count: Option<i64>,
    eval_duration: Option<i64>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
}

/// Reads the lines of one stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    done: bool,
}

impl Decoder {
    pub(super) fn line(
        &mut self,
        line: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if self.done {
            return Err(failure(
                RequestErrorKind::AfterDone,
                &format!("after done:true came '{}'", String::from_utf8_lossy(line)),
            ));
        }
        // Once for the line: the parser then need not look at each string, and skipped members
        // are checked too.
        let text = std::str::from_utf8(line).map_err(|e| malformed(line, &e))?;
        let parsed: Line<'_> = serde_json::from_str(text).map_err(|e| malformed(line, &e))?;
        self.take(parsed, line, at_ns, answer)
    }

    fn take(
        &mut self,
        parsed: Line<'_>,
        line: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        if let Some(error) = parsed.error {
            return Err(failure(RequestErrorKind::StreamError, &error.message));
        }
        if parsed.message.is_none() && !parsed.done {
            return Err(malformed(line, &"neither message, done nor error"));
        }
        if let Some(delta) = &parsed.message {
            let content = delta.content.as_ref().map_or("", Text::as_str);
            let thinking = delta.thinking.as_ref().map_or("", Text::as_str);
            answer.content(content, thinking, at_ns);
        }
        if parsed.done {
            self.done = true;
            answer.done_ns = Some(at_ns);
            answer.finish = parsed
                .done_reason
                .as_ref()
                .map(|reason| match reason.as_str() {
                    "stop" => FinishReason::Stop,
                    "length" => FinishReason::Length,
                    _ => FinishReason::Other,
                });
            answer.prompt_tokens = count(parsed.prompt_eval_count);
            answer.output_tokens = count(parsed.eval_count);
            answer.times.total_ns = nanos(parsed.total_duration);
            answer.times.load_ns = nanos(parsed.load_duration);
            answer.times.prompt_eval_ns = nanos(parsed.prompt_eval_duration);
            answer.times.eval_ns = nanos(parsed.eval_duration);
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        rest: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        // The last line may lack its line feed. Half a line is a stream without its end, not a
        // malformed one: the engine stopped in the middle of a word.
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(rest);
        if !rest.is_empty() && !whole.is_err_and(|e| e.is_eof()) {
            self.line(rest, at_ns, answer)?;
        }
        if self.done {
            return Ok(());
        }
        // Ollama does this itself: its guard against repeated tokens ends the stream without an
        // error, and so does an end of the runner's stream without a final event.
        Err(failure(
            RequestErrorKind::NoDone,
            "the stream ended cleanly, but without done:true (repeated tokens, or the runner went)",
        ))
    }
}
