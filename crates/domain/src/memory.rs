//! How much memory agents need, before anything is started.
//!
//! - [`ModelFacts`]: what a model is, from a [`gguf`] header or Ollama's [`Show`].
//! - [`EngineSettings`]: how an engine runs it. [`AgentMemory::plan`]: what that takes, part by part.
//! - [`Device`]: a GPU. [`fit`]: whether agents fit on it; [`largest_count`]: how many do;
//!   [`layer_budget`]: how many layers each may put there.
//! - [`admission`]: whether the agents of a leg fit in what is free, and where they would.
//!
//! Every figure says whether it was derived or estimated ([`Provenance`]). `docs/memory.md` has the
//! formulas, their sources, and how far they were off where they could be checked.
//!
//! ```
//! use chimera_domain::memory::{AgentMemory, Device, EngineSettings, Layout, ModelFacts, fit};
//! # fn plan(facts: &ModelFacts) {
//! let settings = EngineSettings::new(Layout::LlamaCpp, 2048);
//! let agent = AgentMemory::plan(facts, &settings);
//! let device = Device::new(12 << 30);
//! let two = fit(&[agent.device_total(), agent.device_total()], &device);
//! println!("{} bytes, {}", two.needed.bytes, two.regime.name());
//! # }
//! ```

pub mod admission;
mod estimate;
mod facts;
mod fit;
pub mod gguf;
mod tensor;
mod windows;

pub use estimate::{
    AgentMemory, CONTEXT_OVERHEAD, CacheSettings, EngineSettings, KvCache, KvType, Layout, Weights,
};
pub use facts::{
    FactsError, LayerAttention, ModelFacts, Show, ShowDetails, ShowTensor, TensorBytes,
};
pub use fit::{
    Device, Fit, LayerBudget, MARGIN_SHARE, RESERVED_ESTIMATE, Regime, TR110_PRESSURED,
    TR110_THRASHING, fit, largest_count, layer_budget, tr110_layer_budget,
};
pub use tensor::TensorType;

use serde::{Deserialize, Serialize};

/// How a figure came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Computed from the model's own file by the engine's own rule: exact but for alignment.
    Derived,
    /// A rule of thumb, fitted to measurements: it may be off.
    Estimated,
}

impl Provenance {
    /// Its name in a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Derived => "derived",
            Self::Estimated => "estimated",
        }
    }
}

/// An amount of memory, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// How they are known.
    pub provenance: Provenance,
}

impl Amount {
    /// Computed from the file.
    #[must_use]
    pub fn derived(bytes: u64) -> Self {
        let provenance = Provenance::Derived;
        Self { bytes, provenance }
    }

    /// By a rule of thumb.
    #[must_use]
    pub fn estimated(bytes: u64) -> Self {
        let provenance = Provenance::Estimated;
        Self { bytes, provenance }
    }

    /// Both together: estimated as soon as one is and takes any memory.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let known = |amount: Self| {
            if amount.bytes == 0 {
                Provenance::Derived
            } else {
                amount.provenance
            }
        };
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            provenance: known(self).max(known(other)),
        }
    }
}

#[cfg(test)]
mod tests;
