//! Where it was measured.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::Member;
use crate::event::PinFacts;
use crate::ids::{InstanceId, NodeId};
use crate::options::EngineKind;
use crate::telemetry::GpuFacts;

/// The machine, the engines and the software.
///
/// The caller states what it knows of the host; engine, model and instances are filled from the pins
/// in the control log, the GPUs from telemetry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Environment {
    /// Name of the host.
    pub host: Option<String>,
    /// Operating system and kernel.
    pub os: Option<String>,
    /// Processor model.
    pub cpu: Option<String>,
    /// Processor cores that the software may use.
    pub cores: Option<u32>,
    /// Memory of the host.
    pub memory_bytes: Option<u64>,
    /// The engine, if all instances ran the same one.
    pub engine: Option<Engine>,
    /// The model, if all instances had the same one loaded.
    pub model: Option<String>,
    /// Its digest, if all instances stated the same one.
    pub model_digest: Option<String>,
    /// Every instance that took part, by rising id, and every state in which it was found.
    pub instances: Vec<Instance>,
    /// GPUs seen by telemetry. `null`: none was seen; `gpu_absent` says why.
    pub gpu: Option<Vec<GpuFacts>>,
    /// Why there is no GPU in this report.
    pub gpu_absent: Option<String>,
    /// Version of Chimera.
    pub software: Option<String>,
    /// Git revision of Chimera.
    pub git_revision: Option<String>,
}

/// An engine product.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// Product (`ollama`, `llama.cpp`), or the protocol where the product is unknown.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// What llama.cpp says of its build where it was compiled without its repository.
const LLAMA_CPP_UNKNOWN_BUILD: &str = "b0-unknown";

impl Engine {
    /// Product and version for a person (`llama.cpp b6840-5a91109a`, `llama.cpp (build not stated)`).
    #[must_use]
    pub fn in_words(&self) -> String {
        let name = self.name.as_deref().unwrap_or("unnamed");
        match self.version.as_deref() {
            Some(LLAMA_CPP_UNKNOWN_BUILD) => format!("{name} (build not stated)"),
            Some(version) => format!("{name} {version}"),
            None => format!("{name} (version not stated)"),
        }
    }
}

/// An instance as it stated itself when it voted ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Which.
    pub instance: InstanceId,
    /// Its worker's host.
    pub node: NodeId,
    /// What it said.
    pub facts: PinFacts,
}

impl Environment {
    /// Fills in what the instances said of themselves.
    pub(super) fn with_pins<'a>(
        mut self,
        pins: impl IntoIterator<Item = (&'a Member, &'a PinFacts)>,
    ) -> Self {
        // Keyed by the text of the facts: they hold no order of their own.
        let mut distinct: BTreeMap<(InstanceId, String), Instance> = BTreeMap::new();
        for (member, facts) in pins {
            // How long a warm request took differs from leg to leg; the instance does not.
            let facts = PinFacts {
                warm_load_ns: None,
                ..facts.clone()
            };
            let key = (member.instance.clone(), format!("{facts:?}"));
            distinct.entry(key).or_insert_with(|| Instance {
                instance: member.instance.clone(),
                node: member.node.clone(),
                facts,
            });
        }
        self.instances = distinct.into_values().collect();
        let engines = self.instances.iter().map(|instance| Engine {
            name: instance.facts.product.clone().or_else(|| {
                instance
                    .facts
                    .engine
                    .map(|kind: EngineKind| kind.as_str().to_owned())
            }),
            version: instance.facts.version.clone(),
        });
        self.engine = agreed(engines);
        self.model = agreed(self.instances.iter().map(|i| i.facts.model.clone())).flatten();
        self.model_digest =
            agreed(self.instances.iter().map(|i| i.facts.model_digest.clone())).flatten();
        self
    }
}

/// The one value that all have. `None` if there is none, or they differ.
fn agreed<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_does_not_know_its_build_is_said_to_be_one() {
        let words = |version: Option<&str>| {
            let engine = Engine {
                name: Some("llama.cpp".to_owned()),
                version: version.map(str::to_owned),
            };
            engine.in_words()
        };
        assert_eq!(words(Some("b0-unknown")), "llama.cpp (build not stated)");
        assert_eq!(words(Some("b6840-5a91109a")), "llama.cpp b6840-5a91109a");
        assert_eq!(words(None), "llama.cpp (version not stated)");
    }
}
