//! Whether agents fit on a GPU, how many do, and how many layers each may put there.

use serde::{Deserialize, Serialize};

use super::estimate::{AgentMemory, EngineSettings};
use super::facts::ModelFacts;
use super::{Amount, Provenance};

/// Share of a GPU's memory that is left free: allocation in steps of 2 MiB, fragmentation, and what
/// else a desktop does meanwhile.
pub const MARGIN_SHARE: f64 = 0.03;
/// What the driver keeps for itself where it was not read.
///
/// *Units*: bytes. *Provenance*: estimated; NVML's `reserved` says it for a GPU at hand.
pub const RESERVED_ESTIMATE: u64 = 256 << 20;
/// Share of a GPU's memory from which TR110 4.4 calls it pressured: 8 of its 12 GB.
pub const TR110_PRESSURED: f64 = 0.67;
/// Share of a GPU's memory above which TR110 4.4 calls it thrashing: 10 of its 12 GB.
pub const TR110_THRASHING: f64 = 0.83;
/// What TR110 6.2 keeps free, bytes: its "4.4 GB".
const TR110_HEADROOM: f64 = 4.4e9;

/// A GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// All of it, bytes.
    pub total_bytes: u64,
    /// What the driver keeps for itself.
    pub reserved: Amount,
    /// What others use already, bytes; 0 where the GPU is planned for as an empty one.
    pub others_bytes: u64,
    /// What is to stay free, bytes.
    pub margin_bytes: u64,
}

impl Device {
    /// An empty GPU of this size, with what a driver usually keeps and [`MARGIN_SHARE`].
    #[must_use]
    pub fn new(total_bytes: u64) -> Self {
        Self {
            total_bytes,
            reserved: Amount::estimated(RESERVED_ESTIMATE.min(total_bytes)),
            others_bytes: 0,
            margin_bytes: share_of(total_bytes, MARGIN_SHARE),
        }
    }

    /// A GPU as its driver reports it: what is neither free nor reserved belongs to others.
    ///
    /// `reserved_bytes` is `None` where the driver does not say; it then counts among the others'.
    #[must_use]
    pub fn measured(total_bytes: u64, free_bytes: u64, reserved_bytes: Option<u64>) -> Self {
        let reserved = reserved_bytes.unwrap_or(0);
        Self {
            reserved: Amount::derived(reserved),
            others_bytes: total_bytes
                .saturating_sub(free_bytes)
                .saturating_sub(reserved),
            ..Self::new(total_bytes)
        }
    }

    /// What agents may take together.
    ///
    /// `total - reserved - others - margin`, never below 0.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.total_bytes
            .saturating_sub(self.reserved.bytes)
            .saturating_sub(self.others_bytes)
            .saturating_sub(self.margin_bytes)
    }

    /// Share of the memory in use once agents take this much beside what is in use anyway; above 1 if
    /// it exceeds the GPU.
    ///
    /// *Undefined when* the GPU has no memory; it is then infinite.
    #[must_use]
    pub fn share(&self, agents_bytes: u64) -> f64 {
        let used = self
            .reserved
            .bytes
            .saturating_add(self.others_bytes)
            .saturating_add(agents_bytes);
        if self.total_bytes == 0 {
            f64::INFINITY
        } else {
            as_f64(used) / as_f64(self.total_bytes)
        }
    }
}

/// What TR110 4.4 says of a share of memory in use.
///
/// The names are TR110's; that memory is moved to the host above 83 % is its claim, not this
/// program's. Attribution tests it on measured runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// Below 67 %.
    Comfortable,
    /// From 67 % to 83 %.
    Pressured,
    /// Above 83 %.
    Thrashing,
}

impl Regime {
    /// The regime of a share of memory in use.
    #[must_use]
    pub fn of(share: f64) -> Self {
        if share < TR110_PRESSURED {
            Self::Comfortable
        } else if share <= TR110_THRASHING {
            Self::Pressured
        } else {
            Self::Thrashing
        }
    }

    /// Its name in a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Comfortable => "comfortable",
            Self::Pressured => "pressured",
            Self::Thrashing => "thrashing",
        }
    }
}

/// Whether agents fit on a GPU together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// What they take together.
    pub needed: Amount,
    /// What they may take, bytes.
    pub available_bytes: u64,
    /// Share of the GPU's memory in use with them.
    pub share: f64,
    /// What TR110 calls it.
    pub regime: Regime,
    /// Whether `needed` is within `available_bytes`.
    pub fits: bool,
}

/// Whether agents that take these amounts fit on a GPU together.
#[must_use]
pub fn fit(agents: &[Amount], device: &Device) -> Fit {
    let needed = agents
        .iter()
        .fold(Amount::derived(0), |sum, agent| sum.plus(*agent));
    let available_bytes = device.available_bytes();
    let share = device.share(needed.bytes);
    Fit {
        needed,
        available_bytes,
        share,
        regime: Regime::of(share),
        fits: needed.bytes <= available_bytes,
    }
}

/// How many agents that each take this much fit on a GPU; `None`: they take none of its memory.
#[must_use]
pub fn largest_count(agent: Amount, device: &Device) -> Option<u64> {
    device.available_bytes().checked_div(agent.bytes)
}

/// How many layers each agent may put on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBudget {
    /// The most with which all agents fit, the output counted as one layer; 0: none of them may use
    /// the GPU.
    pub layers: u64,
    /// Layers that could be there.
    pub of: u64,
    /// How the memory behind it is known.
    pub provenance: Provenance,
    /// What TR110 6.2's formula gives for this model, which counts repeating layers only.
    pub tr110: u64,
}

/// The largest number of layers per agent with which `agents` engines of their own fit on a GPU.
///
/// Unlike TR110's formula it counts what does not shrink with the layers (context, compute buffer,
/// reserved memory) and what does beside weights (the KV cache), and each layer at its own size.
#[must_use]
pub fn layer_budget(
    facts: &ModelFacts,
    settings: &EngineSettings,
    agents: u64,
    device: &Device,
) -> LayerBudget {
    let offloadable = facts.layers().saturating_add(1);
    let available = device.available_bytes();
    let with = |layers| {
        let settings = EngineSettings {
            gpu_layers: Some(layers),
            ..*settings
        };
        AgentMemory::plan(facts, &settings).device_total()
    };
    let layers = (1..=offloadable)
        .rev()
        .find(|layers| with(*layers).bytes.saturating_mul(agents) <= available)
        .unwrap_or(0);
    let weights = facts
        .bytes
        .layers
        .iter()
        .fold(0_u64, |sum, layer| sum.saturating_add(*layer));
    let mean = as_f64(weights) / as_f64(facts.layers().max(1));
    LayerBudget {
        layers,
        of: offloadable,
        provenance: with(layers).provenance,
        tr110: tr110_layer_budget(device.total_bytes, mean, facts.layers(), agents),
    }
}

/// TR110 6.2's formula: `min(layers, (VRAM - 4.4 GB) / (VRAM per layer * agents))`.
///
/// *Units*: bytes; the quotient is rounded down. 0 where nothing is left after the 4.4 GB.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate, and negative ones are cut off before"
)]
pub fn tr110_layer_budget(vram_bytes: u64, bytes_per_layer: f64, layers: u64, agents: u64) -> u64 {
    let room = (as_f64(vram_bytes) - TR110_HEADROOM).max(0.0);
    let quotient = room / (bytes_per_layer * as_f64(agents));
    if quotient.is_finite() {
        layers.min(quotient as u64)
    } else {
        layers
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 petabytes")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number that fits"
)]
fn share_of(bytes: u64, share: f64) -> u64 {
    (as_f64(bytes) * share) as u64
}
