//! What is asked of an engine. One value is frozen for a run: changing any of it reloads a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The wire protocol an engine speaks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Ollama's native API (`/api/chat`).
    Ollama,
    /// `OpenAI`-compatible chat completions: llama.cpp's server, vLLM, `SGLang`, Ollama's own route.
    Openai,
}

impl EngineKind {
    /// The name used in specs, flags and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::Openai => "openai",
        }
    }
}

/// Options of one agent, the same for all its requests in a run.
///
/// `None` means "the engine's own default": never sent. `num_ctx`, `num_batch`, `num_predict`,
/// `temperature` and `seed` are always set, because an engine that chooses them itself may choose
/// differently on the next load (Ollama sizes `num_ctx` by free memory).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineOptions {
    /// Layers asked onto the GPU. On a spawned llama.cpp server a launch option.
    pub num_gpu: Option<u32>,
    /// Context length in tokens. On a spawned llama.cpp server a launch option.
    pub num_ctx: u32,
    /// Prompt batch size in tokens.
    pub num_batch: u32,
    /// Most output tokens per request. Forced (`ignore_eos`) where the engine can.
    pub num_predict: u32,
    /// Threads of the engine. On a spawned llama.cpp server a launch option.
    pub num_thread: Option<u32>,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Nucleus sampling mass.
    pub top_p: Option<f64>,
    /// Sampling candidates.
    pub top_k: Option<u32>,
    /// Penalty on repeated tokens.
    pub repeat_penalty: Option<f64>,
    /// Sampling seed.
    pub seed: u64,
    /// How long Ollama keeps the model loaded after a request, in its own notation (`-1`, `5m`).
    pub keep_alive: Option<String>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            num_gpu: None,
            num_ctx: 2048,
            num_batch: 512,
            num_predict: 128,
            num_thread: None,
            temperature: 0.0,
            top_p: None,
            top_k: None,
            repeat_penalty: None,
            seed: 42,
            keep_alive: Some("-1".to_owned()),
        }
    }
}
