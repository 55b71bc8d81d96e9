//! Which layers look back on a window only, and which keep no keys and values of their own.
//!
//! *Source*: `load_hparams` of llama.cpp: most files do not state the pattern, the engine knows it of
//! the architecture. A window that an architecture's engine code ignores (Mistral 7B's) is none.

use super::Provenance;
use super::facts::Keys;
use super::gguf::Value;

/// Layers of a gemma3n model with a cache of their own; the rest use those of earlier ones.
const GEMMA3N_OWN: u64 = 20;
/// Chunk of llama4, which the file does not state.
const LLAMA4_CHUNK: u64 = 8_192;
/// Window of gemma2 files that state none.
const GEMMA2_WINDOW: u64 = 4_096;

/// Of each `period` layers one looks back on everything: the last, or else the first.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    period: u64,
    first: bool,
}

const fn every(period: u64) -> Pattern {
    let first = false;
    Pattern { period, first }
}

/// The architecture's pattern; `None`: not known here.
fn known(architecture: &str) -> Option<Pattern> {
    Some(match architecture {
        "gemma3" | "gemma-embedding" => every(6),
        "gemma3n" => every(5),
        "gemma2" | "gpt-oss" | "gptoss" => every(2),
        "llama4" | "cohere2" | "olmo2" | "exaone4" | "afmoe" => every(4),
        "smallthinker" => Pattern {
            period: 4,
            first: true,
        },
        _ => return None,
    })
}

/// Architectures whose engine code never looks at a window, whatever the file says.
const WITHOUT: [&str; 12] = [
    "llama",
    "mistral3",
    "phi2",
    "phi3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "gemma",
    "granite",
    "stablelm",
    "starcoder2",
];

/// The window of each layer, and whether it is known or assumed to be none.
pub(super) fn of(keys: &Keys<'_>, layers: u64) -> (Vec<Option<u64>>, Provenance) {
    let none = || (0..layers).map(|_| None).collect::<Vec<_>>();
    if WITHOUT.contains(&keys.architecture) {
        return (none(), Provenance::Derived);
    }
    let stated = keys
        .largest("attention.sliding_window")
        .filter(|window| *window > 0);
    let window = match keys.architecture {
        "llama4" if keys.get("attention.sliding_window").is_none() => Some(LLAMA4_CHUNK),
        "gemma2" => stated.or(Some(GEMMA2_WINDOW)),
        _ => stated,
    };
    let Some(window) = window else {
        return (none(), Provenance::Derived);
    };
    let windowed = |inside: bool| inside.then_some(window);
    let by_pattern = |pattern: Pattern| {
        let full = if pattern.first {
            0
        } else {
            pattern.period.saturating_sub(1)
        };
        (0..layers)
            .map(|layer| windowed(layer.checked_rem(pattern.period) != Some(full)))
            .collect::<Vec<_>>()
    };
    match keys.get("attention.sliding_window_pattern") {
        Some(Value::List(list)) => {
            let listed = (0..layers)
                .zip(list.iter().map(Some).chain(std::iter::repeat(None)))
                .map(|(_, inside)| windowed(inside.is_some_and(|flag| *flag != 0)))
                .collect();
            return (listed, Provenance::Derived);
        }
        Some(Value::Whole(period)) if *period > 0 => {
            return (by_pattern(every(*period)), Provenance::Derived);
        }
        _ => {}
    }
    match known(keys.architecture) {
        Some(pattern) => (by_pattern(pattern), Provenance::Derived),
        None => (none(), Provenance::Estimated),
    }
}

/// How many layers, from the first, have a cache of their own.
pub(super) fn layers_with_cache(keys: &Keys<'_>, layers: u64) -> u64 {
    match (
        keys.architecture,
        keys.largest("attention.shared_kv_layers"),
    ) {
        ("gemma3n", _) => GEMMA3N_OWN.min(layers),
        (_, Some(shared)) => layers.saturating_sub(shared),
        (_, None) => layers,
    }
}
