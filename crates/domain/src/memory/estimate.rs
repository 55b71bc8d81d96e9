//! What one engine process takes: weights, KV cache, compute buffer, and what its context costs.

use serde::{Deserialize, Serialize};

use super::facts::{LayerAttention, ModelFacts};
use super::tensor::TensorType;
use super::{Amount, Provenance};

/// What a process takes on a GPU beside the model: CUDA's context, its kernels, cuBLAS's workspace.
///
/// *Units*: bytes. *Provenance*: estimated. *Source*: Ollama sets 457 MiB aside per GPU for it
/// (`DeviceInfo.MinimumMemory` in `ml/device.go`).
pub const CONTEXT_OVERHEAD: u64 = 457 << 20;

/// Both engines round caches up to this many cells.
const PADDING: u64 = 256;
/// Tokens computed at once where nobody says otherwise, in both engines.
const BATCH: u64 = 512;
/// gpt-oss keeps more than its window in Ollama, so that a dialogue can go back.
const OLLAMA_GPTOSS_KEPT: u64 = 4_096;
/// Values per token of a batch that are alive at once, in feed-forward lengths and in embedding
/// lengths: fitted to llama.cpp's "compute buffer size", see docs/memory.md.
const LIVE_FEED_FORWARD: u64 = 3;
const LIVE_EMBEDDINGS: u64 = 5;
/// Feed-forward length in embedding lengths, where a file states none.
const USUAL_FEED_FORWARD: u64 = 4;

/// Who lays the memory out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// llama.cpp's server. Its context (`--ctx-size`) is shared out over the slots.
    LlamaCpp,
    /// Ollama. Its context (`num_ctx`) is each slot's own.
    Ollama,
}

/// How the KV cache stores a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    /// Two bytes: both engines' default.
    F16,
    /// 34 bytes per 32 values.
    Q8_0,
    /// 18 bytes per 32 values.
    Q4_0,
}

impl KvType {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// Its name, as both engines write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    fn row_bytes(self, values: u64) -> u64 {
        TensorType::from_name(self.name())
            .and_then(|kind| kind.row_bytes(values))
            .unwrap_or(u64::MAX)
    }
}

/// How the KV cache is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSettings {
    /// How it stores keys and values.
    pub kv_type: KvType,
    /// Keep the whole context in layers with a window too (`--swa-full` of llama.cpp).
    pub swa_full: bool,
    /// One cache for all slots (`--kv-unified` of llama.cpp).
    pub unified: bool,
}

/// How an engine is to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSettings {
    /// Which engine's rules hold.
    pub layout: Layout,
    /// Context as the engine is told, tokens; see [`Layout`].
    pub context: u64,
    /// Requests served at once.
    pub slots: u64,
    /// Tokens computed at once (`--ubatch-size`, Ollama's `num_batch`).
    pub batch: u64,
    /// Layers on the GPU as the engine is told (`--n-gpu-layers`, `num_gpu`): the repeating ones and
    /// one more for the output. `None`: all.
    pub gpu_layers: Option<u64>,
    /// Whether attention is computed without the whole score matrix (flash attention).
    pub flash_attention: bool,
    /// The KV cache.
    pub cache: CacheSettings,
}

impl EngineSettings {
    /// The engine's defaults with this context: one slot, every layer on the GPU.
    #[must_use]
    pub fn new(layout: Layout, context: u64) -> Self {
        Self {
            layout,
            context,
            slots: 1,
            batch: BATCH,
            gpu_layers: None,
            flash_attention: true,
            cache: CacheSettings {
                kv_type: KvType::F16,
                swa_full: false,
                unified: false,
            },
        }
    }
}

/// An amount on the GPU, and one in the host's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// On the GPU.
    pub device: Amount,
    /// In the host's memory.
    pub host: Amount,
}

/// The cache of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvCache {
    /// On the GPU.
    pub device: Amount,
    /// In the host's memory.
    pub host: Amount,
    /// Cells per stream of layers that look back on everything.
    pub cells: u64,
    /// Cells per stream of layers with a window; `None`: the model has no such layers.
    pub window_cells: Option<u64>,
    /// Caches side by side: one per slot, or one for all.
    pub streams: u64,
}

impl KvCache {
    /// On the GPU and in the host's memory together.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.device.plus(self.host)
    }
}

/// What one engine process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentMemory {
    /// Layers on the GPU, the output counted as one.
    pub layers_on_device: u64,
    /// Layers that could be there.
    pub layers_offloadable: u64,
    /// The model's weights.
    pub weights: Weights,
    /// Keys and values.
    pub kv_cache: KvCache,
    /// Intermediate values on the GPU.
    pub compute: Amount,
    /// Intermediate values in the host's memory.
    pub host_compute: Amount,
    /// See [`CONTEXT_OVERHEAD`].
    pub overhead: Amount,
}

impl AgentMemory {
    /// Plans one engine process that serves this model in this way.
    ///
    /// *Source*: docs/memory.md, "Formulas".
    #[must_use]
    pub fn plan(facts: &ModelFacts, settings: &EngineSettings) -> Self {
        let offloadable = facts.layers().saturating_add(1);
        let layers = settings.gpu_layers.unwrap_or(offloadable).min(offloadable);
        let split = Split::of(facts, settings.layout, layers);
        let kv_cache = kv_cache(facts, settings, split);
        let compute = compute(facts, settings, &kv_cache);
        let nothing = Amount::derived(0);
        let on_device = layers > 0;
        Self {
            layers_on_device: layers,
            layers_offloadable: offloadable,
            weights: weights(facts, settings.layout, split),
            kv_cache,
            compute: if on_device { compute } else { nothing },
            host_compute: if layers == offloadable {
                nothing
            } else {
                compute
            },
            overhead: if on_device {
                Amount::estimated(CONTEXT_OVERHEAD)
            } else {
                nothing
            },
        }
    }

    /// All of it on the GPU.
    #[must_use]
    pub fn device_total(&self) -> Amount {
        self.weights
            .device
            .plus(self.kv_cache.device)
            .plus(self.compute)
            .plus(self.overhead)
    }

    /// All of it in the host's memory.
    #[must_use]
    pub fn host_total(&self) -> Amount {
        self.weights
            .host
            .plus(self.kv_cache.host)
            .plus(self.host_compute)
    }
}

/// Which layers are on the GPU: the last ones.
#[derive(Debug, Clone, Copy)]
struct Split {
    /// The first repeating layer on the GPU.
    first: u64,
    /// Whether the output is there.
    output: bool,
}

impl Split {
    /// llama.cpp begins with the output and goes backwards; Ollama takes the output last, once every
    /// repeating layer is there.
    fn of(facts: &ModelFacts, layout: Layout, layers: u64) -> Self {
        let repeating = facts.layers();
        match layout {
            Layout::LlamaCpp => Self {
                first: repeating.saturating_sub(layers.saturating_sub(1)),
                output: layers > 0,
            },
            Layout::Ollama => Self {
                first: repeating.saturating_sub(layers),
                output: layers > repeating,
            },
        }
    }

    fn has(self, layer: u64) -> bool {
        layer >= self.first
    }
}

/// Weights: each layer where it is offloaded to, the embeddings always in the host's memory, and the
/// output with what goes with it. Tied embeddings are copied when the output is on the GPU; Ollama
/// copies them in any case.
fn weights(facts: &ModelFacts, layout: Layout, split: Split) -> Weights {
    let bytes = &facts.bytes;
    let (mut device, mut host) = (0_u64, bytes.embeddings);
    for (layer, size) in (0..).zip(&bytes.layers) {
        let side = if split.has(layer) {
            &mut device
        } else {
            &mut host
        };
        *side = side.saturating_add(*size);
    }
    let (side, output) = if split.output {
        (&mut device, bytes.output_group())
    } else if layout == Layout::Ollama {
        (&mut host, bytes.output_group())
    } else {
        (&mut host, bytes.output)
    };
    *side = side.saturating_add(output).saturating_add(bytes.other);
    Weights {
        device: Amount::derived(device),
        host: Amount::derived(host),
    }
}

fn padded(cells: u64) -> u64 {
    cells.checked_next_multiple_of(PADDING).unwrap_or(u64::MAX)
}

/// How many cells a layer has that looks back on everything, how many one with a window, and how many
/// such caches there are.
#[derive(Debug, Clone, Copy)]
struct Cells {
    full: u64,
    window: u64,
    streams: u64,
}

impl Cells {
    /// *Source*: `llama_kv_cache_iswa` and `llama_context` of llama.cpp.
    fn llama_cpp(settings: &EngineSettings, context: u64, window: u64) -> Self {
        let slots = settings.slots.max(1);
        let all = padded(context);
        let unified = settings.cache.unified;
        let full = if unified {
            all
        } else {
            padded(all.checked_div(slots).unwrap_or(all))
        };
        let windows = window.saturating_mul(if unified { slots } else { 1 });
        Self {
            full,
            window: if settings.cache.swa_full {
                full
            } else {
                padded(full.min(windows.saturating_add(settings.batch)))
            },
            streams: if unified { 1 } else { slots },
        }
    }

    /// *Source*: `Causal.Init` in `kvcache/causal.go` of Ollama; the engine's own cache is one for all
    /// slots.
    fn ollama(settings: &EngineSettings, architecture: &str, window: u64) -> Self {
        let slots = settings.slots.max(1);
        let full = settings.context.saturating_mul(slots);
        let kept = match architecture {
            "gpt-oss" | "gptoss" => OLLAMA_GPTOSS_KEPT.max(window),
            _ => window,
        };
        // One more for the token that ends an answer, where slots share the cache.
        let kept = kept.max(window.saturating_add(u64::from(slots > 1)));
        let batch = settings.batch.min(settings.context);
        Self {
            full: padded(full),
            window: padded(if kept >= settings.context {
                full
            } else {
                slots.saturating_mul(kept).saturating_add(batch)
            }),
            streams: 1,
        }
    }
}

/// Architectures that Ollama runs on its own engine with a cache for windows; the others go through
/// the llama.cpp inside it.
const OLLAMA_WINDOWS: [&str; 6] = ["gemma2", "gemma3", "gemma3n", "gptoss", "gpt-oss", "olmo3"];

fn kv_cache(facts: &ModelFacts, settings: &EngineSettings, split: Split) -> KvCache {
    let window = facts.attention.iter().filter_map(|l| l.window).max();
    let cells = match settings.layout {
        Layout::LlamaCpp => Cells::llama_cpp(settings, settings.context, window.unwrap_or(0)),
        Layout::Ollama
            if window.is_none() || OLLAMA_WINDOWS.contains(&facts.architecture.as_str()) =>
        {
            Cells::ollama(settings, &facts.architecture, window.unwrap_or(0))
        }
        Layout::Ollama => {
            let context = settings.context.saturating_mul(settings.slots.max(1));
            Cells::llama_cpp(settings, context, window.unwrap_or(0))
        }
    };
    let of_layer = |layer: &LayerAttention| {
        let row = |length: u64| {
            settings
                .cache
                .kv_type
                .row_bytes(layer.kv_heads.saturating_mul(length))
        };
        let depth = if layer.window.is_some() {
            cells.window
        } else {
            cells.full
        };
        row(layer.key_length)
            .saturating_add(row(layer.value_length))
            .saturating_mul(depth)
            .saturating_mul(cells.streams)
    };
    let (mut device, mut host) = (0_u64, 0_u64);
    for (number, layer) in (0..).zip(&facts.attention) {
        let side = if split.has(number) {
            &mut device
        } else {
            &mut host
        };
        *side = side.saturating_add(of_layer(layer));
    }
    let amount = |bytes| Amount {
        bytes,
        provenance: facts.windows,
    };
    KvCache {
        device: amount(device),
        host: amount(host),
        cells: cells.full,
        window_cells: window.map(|_| cells.window),
        streams: cells.streams,
    }
}

/// The buffer that both engines set aside for the largest graph: what is alive at once of a batch, the
/// masks (half precision, one row per token of the batch), without flash attention the scores too; or
/// one row of logits per slot, if that is more.
fn compute(facts: &ModelFacts, settings: &EngineSettings, cache: &KvCache) -> Amount {
    let feed_forward = facts
        .feed_forward_length
        .unwrap_or_else(|| facts.embedding_length.saturating_mul(USUAL_FEED_FORWARD));
    let live = LIVE_FEED_FORWARD
        .saturating_mul(feed_forward)
        .saturating_add(LIVE_EMBEDDINGS.saturating_mul(facts.embedding_length))
        .saturating_mul(4);
    let masks = cache
        .cells
        .saturating_add(cache.window_cells.unwrap_or(0))
        .saturating_mul(2);
    let scores = if settings.flash_attention {
        0
    } else {
        let heads = facts.attention.iter().map(|l| l.heads).max().unwrap_or(0);
        heads.saturating_mul(cache.cells).saturating_mul(4)
    };
    let prefill = live
        .saturating_add(masks)
        .saturating_add(scores)
        .saturating_mul(settings.batch.min(settings.context));
    let logits = facts
        .vocabulary
        .saturating_mul(settings.slots)
        .saturating_mul(4);
    Amount {
        bytes: prefill.max(logits),
        provenance: Provenance::Estimated,
    }
}
