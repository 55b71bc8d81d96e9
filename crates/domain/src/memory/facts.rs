//! What a model is, as far as memory goes: from a GGUF header, or from Ollama's `/api/show`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::gguf::{Header, TensorInfo, Value};
use super::tensor::TensorType;
use super::{Provenance, windows};

/// More layers than any model has: what a list of layers may be long.
const MAX_LAYERS: u64 = 4_096;

/// Why the facts of a model cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FactsError {
    /// The metadata lack a key without which nothing can be computed.
    #[error("the model's metadata lack {0}: it is no language model, or was converted wrongly")]
    Missing(String),
    /// A figure that no model has.
    #[error("the model's metadata state {key} = {value}, which cannot be")]
    Absurd {
        /// The key.
        key: String,
        /// What it says.
        value: u64,
    },
    /// Something that keeps its state otherwise than as keys and values per token.
    #[error("memory of {architecture} models is not modelled: {what}")]
    NotModelled {
        /// The architecture.
        architecture: String,
        /// What is different about it.
        what: &'static str,
    },
    /// One file of several.
    #[error("this file is one of {0} parts of a model: plan with a file that holds all of it")]
    Split(u64),
    /// `/api/show` without the list of tensors.
    #[error(
        "the engine did not list the model's tensors: it is older than Ollama 0.5, plan with the GGUF file instead"
    )]
    NoTensors,
    /// A tensor of a type that this program does not know, or larger than any.
    #[error("the size of tensor {0} cannot be told")]
    Tensor(String),
}

/// One layer's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerAttention {
    /// Heads that ask.
    pub heads: u64,
    /// Heads that are kept; 0: the layer keeps nothing of its own.
    pub kv_heads: u64,
    /// Values in a key.
    pub key_length: u64,
    /// Values in a value.
    pub value_length: u64,
    /// Tokens that it looks back on; `None`: all.
    pub window: Option<u64>,
}

/// Bytes of the tensors in the file, by where an engine puts them.
///
/// *Units*: bytes as stored, without alignment. *Provenance*: derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorBytes {
    /// Each repeating layer, in order.
    pub layers: Vec<u64>,
    /// Token embeddings, for the input.
    pub embeddings: u64,
    /// The output's own weights and its norm.
    pub output: u64,
    /// Whether the token embeddings serve as output too, because the file has no others.
    pub tied: bool,
    /// Everything else: rope factors, an image encoder.
    pub other: u64,
}

impl TensorBytes {
    /// All tensors in the file, each once.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.embeddings, self.output, self.other]
            .iter()
            .chain(&self.layers)
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// What goes where the output is computed: its weights, or a copy of the embeddings.
    #[must_use]
    pub fn output_group(&self) -> u64 {
        let copy = if self.tied { self.embeddings } else { 0 };
        self.output.saturating_add(copy)
    }
}

/// What must be known of a model to plan its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Architecture in the file, e.g. `gemma3`.
    pub architecture: String,
    /// Name in the file.
    pub name: Option<String>,
    /// Quantisation, e.g. `Q4_K_M`; `None` where the file does not state one that is known here.
    pub file_type: Option<String>,
    /// Context that it was trained for, tokens.
    pub trained_context: Option<u64>,
    /// Values in an embedding.
    pub embedding_length: u64,
    /// Values inside a feed-forward block, with all experts that work at once.
    pub feed_forward_length: Option<u64>,
    /// Tokens in the vocabulary.
    pub vocabulary: u64,
    /// Each repeating layer, in order.
    pub attention: Vec<LayerAttention>,
    /// Whether the windows are stated by the file or known of the architecture (derived), or every
    /// layer was taken for one without, which is an upper bound (estimated).
    pub windows: Provenance,
    /// Where its bytes are.
    pub bytes: TensorBytes,
}

impl ModelFacts {
    /// From the header of a GGUF file.
    ///
    /// # Errors
    /// When something is missing, absurd, or not modelled: see [`FactsError`].
    pub fn from_gguf(header: &Header) -> Result<Self, FactsError> {
        Self::build(&header.metadata, &header.tensors, None)
    }

    /// From Ollama's answer to `POST /api/show`.
    ///
    /// # Errors
    /// When something is missing, absurd, or not modelled: see [`FactsError`].
    pub fn from_show(show: &Show) -> Result<Self, FactsError> {
        let mut tensors = Vec::new();
        for tensor in show.tensors.iter().flatten() {
            let kind = TensorType::from_name(&tensor.kind)
                .ok_or_else(|| FactsError::Tensor(tensor.name.clone()))?;
            tensors.push(TensorInfo {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                kind,
            });
        }
        if tensors.is_empty() {
            return Err(FactsError::NoTensors);
        }
        let metadata = show
            .model_info
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), from_json(value)?)))
            .collect();
        let quantisation = show
            .details
            .as_ref()
            .and_then(|d| d.quantization_level.clone());
        Self::build(&metadata, &tensors, quantisation)
    }

    /// Repeating layers.
    #[must_use]
    pub fn layers(&self) -> u64 {
        self.attention.len() as u64
    }

    fn build(
        metadata: &BTreeMap<String, Value>,
        tensors: &[TensorInfo],
        quantisation: Option<String>,
    ) -> Result<Self, FactsError> {
        let architecture = text(metadata, "general.architecture")
            .ok_or_else(|| FactsError::Missing("general.architecture".to_owned()))?;
        let keys = Keys {
            metadata,
            architecture: &architecture,
        };
        refuse_unmodelled(&keys, tensors)?;
        if let Some(parts) = whole(metadata, "split.count").filter(|parts| *parts > 1) {
            return Err(FactsError::Split(parts));
        }
        let layers = keys.needed("block_count")?;
        if layers == 0 || layers > MAX_LAYERS {
            let key = keys.name("block_count");
            return Err(FactsError::Absurd { key, value: layers });
        }
        let embedding_length = keys.needed("embedding_length")?;
        let (attention, windows) = attention(&keys, layers, embedding_length)?;
        let feed_forward = keys.largest("feed_forward_length");
        let experts = keys
            .largest("expert_feed_forward_length")
            .zip(keys.largest("expert_used_count"))
            .map(|(length, used)| length.saturating_mul(used));
        let embeddings = tensors.iter().find(|t| t.name == "token_embd.weight");
        let vocabulary = embeddings
            .and_then(|t| t.shape.get(1).copied())
            .or_else(|| keys.largest("vocab_size"))
            .ok_or_else(|| FactsError::Missing("token_embd.weight".to_owned()))?;
        Ok(Self {
            name: text(metadata, "general.name"),
            file_type: quantisation.or_else(|| {
                whole(metadata, "general.file_type")
                    .and_then(file_type)
                    .map(str::to_owned)
            }),
            trained_context: keys.largest("context_length"),
            embedding_length,
            feed_forward_length: feed_forward.max(experts),
            vocabulary,
            attention,
            windows,
            bytes: tensor_bytes(tensors, layers)?,
            architecture,
        })
    }
}

/// Ollama's answer to `POST /api/show`, as far as planning needs it.
///
/// *Source*: Ollama's API documentation, "Show Model Information"; `tensors` are listed with and
/// without `verbose`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Show {
    /// GGUF metadata; long lists are `null` unless `verbose` was asked for.
    pub model_info: BTreeMap<String, serde_json::Value>,
    /// Every tensor.
    pub tensors: Option<Vec<ShowTensor>>,
    /// What `ollama list` shows.
    pub details: Option<ShowDetails>,
}

/// A tensor in [`Show`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ShowTensor {
    /// Its name.
    pub name: String,
    /// Its type by name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The row's length first.
    pub shape: Vec<u64>,
}

/// Details in [`Show`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ShowDetails {
    /// E.g. `Q4_K_M`.
    pub quantization_level: Option<String>,
}

fn from_json(value: &serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    Some(match value {
        Json::Null | Json::Object(_) => return None,
        Json::Bool(flag) => Value::Flag(*flag),
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => match number.as_u64() {
            Some(whole) => Value::Whole(whole),
            None => Value::Number(number.as_f64()?),
        },
        Json::Array(list) => {
            let kept: Option<Vec<u64>> = list
                .iter()
                .map(|v| v.as_u64().or_else(|| v.as_bool().map(u64::from)))
                .collect();
            kept.map_or(Value::Counted(list.len() as u64), Value::List)
        }
    })
}

/// Metadata under the architecture's name.
pub(super) struct Keys<'a> {
    metadata: &'a BTreeMap<String, Value>,
    pub(super) architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&self.name(key))
    }

    /// The number, or the largest of one per layer.
    pub(super) fn largest(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Whole(number) => Some(*number),
            Value::List(list) => list.iter().max().copied(),
            _ => None,
        }
    }

    fn needed(&self, key: &str) -> Result<u64, FactsError> {
        self.largest(key)
            .ok_or_else(|| FactsError::Missing(self.name(key)))
    }

    /// The number of this layer: the one for all, or the layer's own.
    fn of_layer(&self, key: &str, layer: usize) -> Option<u64> {
        match self.get(key)? {
            Value::Whole(number) => Some(*number),
            Value::List(list) => list.get(layer).copied(),
            _ => None,
        }
    }
}

fn text(metadata: &BTreeMap<String, Value>, key: &str) -> Option<String> {
    match metadata.get(key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

fn whole(metadata: &BTreeMap<String, Value>, key: &str) -> Option<u64> {
    match metadata.get(key) {
        Some(Value::Whole(number)) => Some(*number),
        _ => None,
    }
}

/// States that are not a key and a value per token need formulas of their own: better none than wrong.
fn refuse_unmodelled(keys: &Keys<'_>, tensors: &[TensorInfo]) -> Result<(), FactsError> {
    let what = if keys.get("attention.kv_lora_rank").is_some() {
        "it keeps keys and values compressed (multi-head latent attention)"
    } else if tensors.iter().any(|t| t.name.contains(".ssm_"))
        || keys.get("wkv.head_size").is_some()
    {
        "it has recurrent layers, whose state does not grow with the context"
    } else {
        return Ok(());
    };
    Err(FactsError::NotModelled {
        architecture: keys.architecture.to_owned(),
        what,
    })
}

fn attention(
    keys: &Keys<'_>,
    layers: u64,
    embedding_length: u64,
) -> Result<(Vec<LayerAttention>, Provenance), FactsError> {
    let heads_key = "attention.head_count";
    let most = keys.needed(heads_key)?;
    if most == 0 {
        let key = keys.name(heads_key);
        return Err(FactsError::Absurd { key, value: most });
    }
    // llama.cpp's own default, where the file states no length.
    let head = embedding_length / most;
    let (windows, provenance) = windows::of(keys, layers);
    let own = windows::layers_with_cache(keys, layers);
    let mut attention = Vec::new();
    for (layer, window) in windows.into_iter().enumerate() {
        let heads = keys.of_layer(heads_key, layer).unwrap_or(most);
        let kv_heads = keys
            .of_layer("attention.head_count_kv", layer)
            .unwrap_or(heads);
        let length = |key: &str| {
            window
                .and_then(|_| keys.largest(&format!("{key}_swa")))
                .or_else(|| keys.largest(key))
                .unwrap_or(head)
        };
        attention.push(LayerAttention {
            heads,
            kv_heads: if (layer as u64) < own { kv_heads } else { 0 },
            key_length: length("attention.key_length"),
            value_length: length("attention.value_length"),
            window,
        });
    }
    Ok((attention, provenance))
}

fn tensor_bytes(tensors: &[TensorInfo], layers: u64) -> Result<TensorBytes, FactsError> {
    let mut bytes = TensorBytes {
        layers: vec![0; usize::try_from(layers).unwrap_or(0)],
        embeddings: 0,
        output: 0,
        tied: true,
        other: 0,
    };
    for tensor in tensors {
        let unknown = || FactsError::Tensor(tensor.name.clone());
        let size = tensor
            .kind
            .tensor_bytes(&tensor.shape)
            .ok_or_else(unknown)?;
        let layer = tensor
            .name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
        let own = layer.and_then(|layer| bytes.layers.get_mut(layer));
        let place = match (own, tensor.name.as_str()) {
            (Some(place), _) => place,
            (None, "token_embd.weight") => &mut bytes.embeddings,
            (None, name) if name == "output.weight" || name == "output.bias" => {
                bytes.tied = false;
                &mut bytes.output
            }
            (None, name) if name.starts_with("output_norm.") => &mut bytes.output,
            (None, _) => &mut bytes.other,
        };
        *place = place.checked_add(size).ok_or_else(unknown)?;
    }
    Ok(bytes)
}

/// *Source*: `enum llama_ftype` of `llama.h`; the numbers that are still made.
fn file_type(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        25 => "IQ4_NL",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4",
        _ => return None,
    })
}
