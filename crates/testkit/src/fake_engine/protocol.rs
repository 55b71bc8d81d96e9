//! The words of both protocols.

use serde_json::{Value, json};

/// Which chat route was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Ollama,
    Openai,
}

/// What is asked, as far as the fake heeds it.
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) tokens: u32,
    pub(super) forced: bool,
    pub(super) prompt_words: u32,
    pub(super) runner: Runner,
}

/// The options whose change makes Ollama load the model anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) num_ctx: Option<u64>,
    num_batch: Option<u64>,
    num_gpu: Option<u64>,
    num_thread: Option<u64>,
}

/// What the final record states.
pub(super) struct Account {
    pub(super) output: u32,
    pub(super) prompt: u32,
    pub(super) cached: u32,
    pub(super) cut_by_length: bool,
    pub(super) total_ns: u64,
    pub(super) load_ns: u64,
    pub(super) prefill_ns: u64,
    pub(super) decode_ns: u64,
}

/// Words of an answer, taken in turn.
const WORDS: [&str; 12] = [
    "load ", "rises ", "with ", "each ", "agent, ", "and ", "latency ", "follows ", "when ",
    "they ", "share ", "memory. ",
];

impl Protocol {
    pub(super) fn head(self) -> &'static [u8] {
        match self {
            Self::Ollama => {
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
            }
            Self::Openai => {
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            }
        }
    }

    pub(super) fn ask(self, body: &Value) -> Option<Ask> {
        let model = body.get("model")?.as_str()?.to_owned();
        let number = |v: Option<&Value>| v.and_then(Value::as_u64);
        let small = |v: Option<u64>, default: u32| {
            v.map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX))
        };
        let options = body.get("options");
        let option = |name: &str| number(options.and_then(|o| o.get(name)));
        let words: usize = body
            .get("messages")?
            .as_array()?
            .iter()
            .filter_map(|m| m.get("content")?.as_str())
            .map(|text| text.split_whitespace().count())
            .sum();
        Some(Ask {
            model,
            tokens: match self {
                Self::Ollama => small(option("num_predict"), 128),
                Self::Openai => small(number(body.get("max_tokens")), 16),
            },
            forced: body.get("ignore_eos").and_then(Value::as_bool) == Some(true),
            prompt_words: u32::try_from(words).unwrap_or(u32::MAX),
            runner: Runner {
                num_ctx: option("num_ctx"),
                num_batch: option("num_batch"),
                num_gpu: option("num_gpu"),
                num_thread: option("num_thread"),
            },
        })
    }

    /// The line of token `n`, with what stands around it in the stream.
    pub(super) fn token(self, model: &str, n: u32, thinking: bool) -> Vec<u8> {
        let word = usize::try_from(n)
            .ok()
            .and_then(|n| WORDS.get(n % WORDS.len()));
        self.text(model, word.copied().unwrap_or("x "), thinking)
    }

    pub(super) fn text(self, model: &str, text: &str, thinking: bool) -> Vec<u8> {
        let (content, thought) = if thinking { ("", text) } else { (text, "") };
        match self {
            Self::Ollama => {
                let message = if thinking {
                    json!({"role": "assistant", "content": content, "thinking": thought})
                } else {
                    json!({"role": "assistant", "content": content})
                };
                ndjson(
                    &json!({"model": model, "created_at": CREATED, "message": message, "done": false}),
                )
            }
            Self::Openai if thinking => {
                self.event(model, &json!({"reasoning_content": thought}), None)
            }
            Self::Openai => self.event(model, &json!({"content": content}), None),
        }
    }

    /// What comes before the first token: `OpenAI`'s delta that names the role.
    pub(super) fn opening(self, model: &str) -> Vec<u8> {
        match self {
            Self::Ollama => Vec::new(),
            Self::Openai => self.event(model, &json!({"role": "assistant", "content": null}), None),
        }
    }

    fn event(self, model: &str, delta: &Value, finish: Option<&str>) -> Vec<u8> {
        sse(&json!({
            "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }))
    }

    /// The final record, in the pieces of which the end of a stream consists.
    pub(super) fn done(self, model: &str, account: &Account) -> Vec<u8> {
        let reason = if account.cut_by_length {
            "length"
        } else {
            "stop"
        };
        match self {
            Self::Ollama => ndjson(&json!({
                "model": model, "created_at": CREATED,
                "message": {"role": "assistant", "content": ""},
                "done": true, "done_reason": reason,
                "total_duration": account.total_ns, "load_duration": account.load_ns,
                "prompt_eval_count": account.prompt, "prompt_eval_duration": account.prefill_ns,
                "eval_count": account.output, "eval_duration": account.decode_ns,
            })),
            Self::Openai => {
                let mut out = self.event(model, &json!({}), Some(reason));
                out.extend_from_slice(&sse(&json!({
                    "id": "chatcmpl-fake", "object": "chat.completion.chunk",
                    "created": 1_700_000_000, "model": model, "choices": [],
                    "usage": {
                        "prompt_tokens": account.prompt, "completion_tokens": account.output,
                        "total_tokens": account.prompt.saturating_add(account.output),
                        "prompt_tokens_details": {"cached_tokens": account.cached},
                    },
                    "timings": {
                        "cache_n": account.cached,
                        "prompt_n": account.prompt.saturating_sub(account.cached),
                        "prompt_ms": ms(account.prefill_ns),
                        "predicted_n": account.output, "predicted_ms": ms(account.decode_ns),
                    },
                })));
                out.extend_from_slice(Self::DONE);
                out
            }
        }
    }

    /// `OpenAI`'s mark of the end.
    pub(super) const DONE: &'static [u8] = b"data: [DONE]\n\n";

    /// A failure inside a stream.
    pub(super) fn error_line(self, message: &str) -> Vec<u8> {
        match self {
            Self::Ollama => ndjson(&json!({"error": message})),
            Self::Openai => sse(&json!({
                "error": {"code": 500, "message": message, "type": "server_error"}
            })),
        }
    }

    /// The body of a refusal.
    pub(super) fn refusal(self, status: u16, message: &str) -> String {
        match self {
            Self::Ollama => json!({"error": message}).to_string(),
            Self::Openai => json!({
                "error": {"code": status, "message": message, "type": "invalid_request_error"}
            })
            .to_string(),
        }
    }

    pub(super) fn garbage(self) -> &'static [u8] {
        match self {
            Self::Ollama => b"{\"message\":{\"content\":}}\n",
            Self::Openai => b"data: {\"choices\":[}\n\n",
        }
    }

    pub(super) fn bad_utf8(self) -> &'static [u8] {
        match self {
            Self::Ollama => b"{\"message\":{\"content\":\"\xff\xfe\"},\"done\":false}\n",
            Self::Openai => b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n",
        }
    }

    /// Half a line: the beginning of a token that never ends.
    pub(super) fn half_line(self) -> &'static [u8] {
        match self {
            Self::Ollama => b"{\"message\":{\"content\":\"",
            Self::Openai => b"data: {\"choices\":[{\"delta\":{\"content\":\"",
        }
    }
}

const CREATED: &str = "2026-01-01T00:00:00Z";

fn ndjson(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn sse(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
