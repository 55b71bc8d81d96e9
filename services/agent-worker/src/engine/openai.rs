//! `OpenAI`-compatible chat completions, streamed as server-sent events: llama.cpp's server, vLLM,
//! `SGLang`, Ollama's own route.
//!
//! *Source*: the `OpenAI` API reference (chat completions, streaming) and llama.cpp
//! `tools/server/README.md`. A document stands on one `data:` line, as all of these servers write
//! it; one that were spread over several would be reported as malformed.

use chimera_domain::event::{FinishReason, PinFacts, RequestError, RequestErrorKind};
use chimera_domain::options::EngineKind;
use serde::{Deserialize, Serialize};
use url::Url;

use super::answer::{Answer, count, failure, malformed, millis, nanos};
use super::text::{ErrorMember, First, Text};
use super::transport::{Transport, route};
use super::{ChatRequest, EngineConfig, EngineError, Message, Question};

/// The routes of one instance.
#[derive(Debug, Clone)]
pub(super) struct Api {
    base: Url,
    chat: Url,
    models: Url,
    /// llama.cpp.
    props: Url,
    /// vLLM.
    version: Url,
    /// `SGLang`.
    server_info: Url,
    /// Ollama.
    ollama_version: Url,
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    stream_options: StreamOptions,
    max_tokens: u32,
    temperature: f64,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    // Extensions of llama.cpp, vLLM and `SGLang`; a server that refuses unknown members names them
    // in its 400, which becomes the record's `status` error.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    /// llama.cpp's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f64>,
    /// vLLM's and `SGLang`'s name for the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignore_eos: Option<bool>,
    /// llama.cpp: no token comes from the slot's last prompt. A nonce alone leaves it what stands
    /// before the first message.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_prompt: Option<bool>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl Api {
    pub(super) fn new(base: &Url) -> Result<Self, EngineError> {
        Ok(Self {
            chat: route(base, "v1/chat/completions")?,
            models: route(base, "v1/models")?,
            props: route(base, "props")?,
            version: route(base, "version")?,
            server_info: route(base, "get_server_info")?,
            ollama_version: route(base, "api/version")?,
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
            stream_options: StreamOptions {
                include_usage: true,
            },
            max_tokens: num_predict,
            temperature: o.temperature,
            seed: o.seed,
            top_p: o.top_p,
            top_k: o.top_k,
            repeat_penalty: o.repeat_penalty,
            repetition_penalty: o.repeat_penalty,
            ignore_eos: config.forced_length.then_some(true),
            cache_prompt: config.forced_length.then_some(false),
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
        let models: Models = transport.get(&self.models).await?.json()?;
        let names: Vec<&str> = models.data.iter().map(|m| m.id.as_str()).collect();
        // A server with one model answers for any name (llama.cpp): what counts is what it has.
        let exact = models.data.iter().find(|m| m.id == config.model);
        let model = exact.or_else(|| models.data.first().filter(|m| m.serves_any_name()));
        let Some(model) = model else {
            return Err(EngineError::ModelNotFound {
                url: self.base.to_string(),
                model: config.model.clone(),
                offered: format!("it offers: {}", names.join(", ")),
                remedy: "name one of these, or start the engine with that model".to_owned(),
            });
        };
        let mut facts = PinFacts {
            url: config.url.to_string(),
            engine: Some(EngineKind::Openai),
            model: Some(model.id.clone()),
            context_length: count(model.max_model_len),
            size_bytes: model.meta.as_ref().and_then(|m| nanos(m.size)),
            train_context: model.meta.as_ref().and_then(|m| count(m.n_ctx_train)),
            ..PinFacts::default()
        };
        match model.owned_by.as_deref() {
            Some("llamacpp") => self.llama_cpp(transport, &mut facts).await?,
            Some("vllm") => {
                facts.product = Some("vllm".to_owned());
                facts.version = version(transport, &self.version).await;
            }
            Some("sglang") => {
                facts.product = Some("sglang".to_owned());
                facts.version = version(transport, &self.server_info).await;
            }
            Some("library") => {
                facts.product = Some("ollama".to_owned());
                facts.version = version(transport, &self.ollama_version).await;
            }
            _ => {}
        }
        Ok(facts)
    }

    async fn llama_cpp(
        &self,
        transport: &Transport,
        facts: &mut PinFacts,
    ) -> Result<(), EngineError> {
        let props: Props = transport.get(&self.props).await?.json()?;
        facts.product = Some("llama.cpp".to_owned());
        facts.version = props.build_info;
        facts.parallel_slots = count(props.total_slots);
        facts.context_length = props
            .default_generation_settings
            .and_then(|s| count(s.n_ctx));
        Ok(())
    }
}

/// A product's version; `None` where this build does not offer the route.
async fn version(transport: &Transport, url: &Url) -> Option<String> {
    let reply = transport.get(url).await.ok()?;
    reply.json::<Version>().ok()?.version
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    owned_by: Option<String>,
    /// vLLM, `SGLang`.
    max_model_len: Option<i64>,
    /// llama.cpp.
    meta: Option<Meta>,
}

impl Model {
    fn serves_any_name(&self) -> bool {
        self.owned_by.as_deref() == Some("llamacpp")
    }
}

#[derive(Deserialize)]
struct Meta {
    size: Option<i64>,
    n_ctx_train: Option<i64>,
}

#[derive(Deserialize)]
struct Props {
    default_generation_settings: Option<SlotSettings>,
    total_slots: Option<i64>,
    build_info: Option<String>,
}

#[derive(Deserialize)]
struct SlotSettings {
    /// Per slot, not for the whole server.
    n_ctx: Option<i64>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<First<Choice<'a>>>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<ErrorMember>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    /// llama.cpp, vLLM, `SGLang`.
    #[serde(borrow)]
    reasoning_content: Option<Text<'a>>,
    /// Ollama, newer vLLM.
    #[serde(borrow)]
    reasoning: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<i64>,
}

/// llama.cpp's own account.
#[derive(Deserialize)]
struct Timings {
    cache_n: Option<i64>,
    prompt_n: Option<i64>,
    prompt_ms: Option<f64>,
    predicted_n: Option<i64>,
    predicted_ms: Option<f64>,
}

/// Reads the lines of one stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    finished: bool,
    done: bool,
}

impl Decoder {
    pub(super) fn line(
        &mut self,
        line: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        // A comment (`: ping`) keeps a connection alive and may come at any time.
        if line.is_empty() || line.first() == Some(&b':') {
            return Ok(());
        }
        if self.done {
            return Err(after_done("[DONE]", line));
        }
        let (field, value) = split_field(line);
        match field {
            b"data" => self.data(value, at_ns, answer),
            // llama.cpp once wrote a failure as a field of its own.
            b"error" => Err(failure(
                RequestErrorKind::StreamError,
                &String::from_utf8_lossy(value),
            )),
            b"event" | b"id" | b"retry" => Ok(()),
            // A server that fails in the middle may write its error as a bare JSON line.
            _ if line.first() == Some(&b'{') => self.document(line, at_ns, answer),
            _ => Err(malformed(line, &"no field of a server-sent event")),
        }
    }

    fn data(&mut self, value: &[u8], at_ns: u64, answer: &mut Answer) -> Result<(), RequestError> {
        if value != b"[DONE]" {
            return self.document(value, at_ns, answer);
        }
        if !self.finished {
            return Err(failure(
                RequestErrorKind::NoDone,
                "[DONE] came without a finish_reason",
            ));
        }
        self.done = true;
        answer.done_ns = Some(at_ns);
        Ok(())
    }

    fn document(
        &mut self,
        json: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        // Once for the line: the parser then need not look at each string, and skipped members
        // are checked too.
        let text = std::str::from_utf8(json).map_err(|e| malformed(json, &e))?;
        let chunk: Chunk<'_> = serde_json::from_str(text).map_err(|e| malformed(json, &e))?;
        if let Some(error) = chunk.error {
            return Err(failure(RequestErrorKind::StreamError, &error.message));
        }
        if chunk.choices.is_none() && chunk.usage.is_none() && chunk.timings.is_none() {
            return Err(malformed(
                json,
                &"neither choices, usage, timings nor error",
            ));
        }
        if let Some(First(Some(choice))) = &chunk.choices {
            self.choice(choice, json, at_ns, answer)?;
        }
        if let Some(usage) = &chunk.usage {
            answer.prompt_tokens = count(usage.prompt_tokens);
            answer.output_tokens = count(usage.completion_tokens);
            let cached = usage
                .prompt_tokens_details
                .as_ref()
                .and_then(|d| count(d.cached_tokens));
            answer.cached_tokens = cached.or(answer.cached_tokens);
        }
        if let Some(timings) = &chunk.timings {
            take_timings(timings, answer);
        }
        Ok(())
    }

    fn choice(
        &mut self,
        choice: &Choice<'_>,
        json: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        let (mut content, mut thinking) = ("", "");
        if let Some(delta) = &choice.delta {
            content = delta.content.as_ref().map_or("", Text::as_str);
            let reasoning = delta
                .reasoning_content
                .as_ref()
                .or(delta.reasoning.as_ref());
            thinking = reasoning.map_or("", Text::as_str);
        }
        let more = !content.is_empty() || !thinking.is_empty() || choice.finish_reason.is_some();
        if self.finished && more {
            return Err(after_done("the finish_reason", json));
        }
        answer.content(content, thinking, at_ns);
        if let Some(reason) = &choice.finish_reason {
            self.finished = true;
            answer.finish = Some(match reason.as_str() {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                _ => FinishReason::Other,
            });
        }
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        rest: &[u8],
        at_ns: u64,
        answer: &mut Answer,
    ) -> Result<(), RequestError> {
        // The last line may lack its line feed; any other rest is half a line, and then the
        // stream lacks its end.
        if rest == b"data: [DONE]" || self.done {
            self.line(rest, at_ns, answer)?;
        }
        if self.done {
            return Ok(());
        }
        let state = if self.finished {
            "after its finish_reason"
        } else {
            "in the middle"
        };
        Err(failure(
            RequestErrorKind::NoDone,
            &format!("the stream ended cleanly {state}, but without [DONE]"),
        ))
    }
}

fn take_timings(timings: &Timings, answer: &mut Answer) {
    answer.cached_tokens = count(timings.cache_n).or(answer.cached_tokens);
    answer.times.prompt_eval_ns = millis(timings.prompt_ms);
    answer.times.eval_ns = millis(timings.predicted_ms);
    // Usage is asked for and comes last; these stand in where a server leaves it out.
    if answer.output_tokens.is_none() {
        answer.output_tokens = count(timings.predicted_n);
    }
    if answer.prompt_tokens.is_none() {
        let cached = timings.cache_n.unwrap_or(0);
        answer.prompt_tokens = count(timings.prompt_n.and_then(|n| n.checked_add(cached)));
    }
}

fn after_done(what: &str, line: &[u8]) -> RequestError {
    let detail = format!("after {what} came '{}'", String::from_utf8_lossy(line));
    failure(RequestErrorKind::AfterDone, &detail)
}

/// `field: value`, the space being optional.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        None => (line, b""),
        Some(at) => {
            let (field, value) = line.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            (field, value.strip_prefix(b" ").unwrap_or(value))
        }
    }
}
