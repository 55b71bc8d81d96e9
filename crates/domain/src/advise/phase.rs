//! A test written as the `[[phase]]` of a spec.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::report::{AgentConfig, AgentOptions, TestReport};

/// Most characters of a label in a spec.
const MAX_LABEL: usize = 120;

/// What a phase of a spec says, in the order in which people write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub struct PhaseTable {
    /// Keys of `[[phase]]`.
    pub(super) keys: Vec<(String, Value)>,
    /// Keys of each `[[phase.agent]]`. Empty: the phase says how many agents there are.
    pub(super) agents: Vec<Vec<(String, Value)>>,
    /// Keys of the spec's `[baseline]`. Empty: the engine's defaults.
    pub(super) baseline: Vec<(String, Value)>,
}

impl PhaseTable {
    /// The phase that repeats a test.
    pub(super) fn of(test: &TestReport) -> Self {
        let mut keys = Vec::new();
        let label = label(&test.label);
        if !label.is_empty() {
            keys.push(("label".to_owned(), json!(label)));
        }
        let (mut agents, mut baseline) = (Vec::new(), Vec::new());
        let shared = |of: Option<&AgentConfig>| of.map(|agent| options(&agent.options));
        match test.scenario.as_str() {
            "chimera_homo" => {
                keys.push(("scenario".to_owned(), json!("chimera_homo")));
                keys.push(("agents".to_owned(), json!(test.agents.len())));
                keys.extend(shared(test.agents.first()).unwrap_or_default());
            }
            "baseline_vs_chimera" => {
                keys.push(("scenario".to_owned(), json!("baseline_vs_chimera")));
                keys.push(("agents".to_owned(), json!(test.agents.len())));
                keys.extend(shared(test.agents.last()).unwrap_or_default());
                baseline = shared(test.agents.first()).unwrap_or_default();
                // The token budget of the baseline is the phase's.
                baseline.retain(|(key, _)| key != "num_predict");
            }
            other => {
                let scenario = if other == "chimera_hetero" {
                    other
                } else {
                    "custom"
                };
                keys.push(("scenario".to_owned(), json!(scenario)));
                agents = listed(&test.agents);
            }
        }
        if (test.max_concurrent as usize) < test.agents.len() {
            keys.push(("max_concurrent".to_owned(), json!(test.max_concurrent)));
        }
        keys.push(("runs".to_owned(), json!(test.runs_planned.max(1))));
        Self {
            keys,
            agents,
            baseline,
        }
    }
}

/// A label as a spec takes it: one line of so many characters. That of an import may hold anything.
fn label(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_LABEL)
        .collect();
    line.trim().to_owned()
}

/// Every agent by itself; the model only where they differ.
fn listed(agents: &[AgentConfig]) -> Vec<Vec<(String, Value)>> {
    let models = agents
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.model != b.model));
    agents
        .iter()
        .map(|agent| {
            let mut keys = vec![
                ("id".to_owned(), json!(agent.agent)),
                ("role".to_owned(), json!(agent.role)),
            ];
            if let Some(model) = agent.model.as_ref().filter(|_| models) {
                keys.push(("model".to_owned(), json!(model)));
            }
            keys.extend(options(&agent.options));
            keys
        })
        .collect()
}

/// Options that are known, under their names in a spec.
fn options(options: &AgentOptions) -> Vec<(String, Value)> {
    let whole = |value: Option<u32>| value.map(|value| json!(value));
    let real = |value: Option<f64>| value.map(|value| json!(value));
    [
        ("num_gpu", whole(options.num_gpu)),
        ("num_ctx", whole(options.num_ctx)),
        ("num_batch", whole(options.num_batch)),
        ("num_predict", whole(options.num_predict)),
        ("num_thread", whole(options.num_thread)),
        ("temperature", real(options.temperature)),
        ("top_p", real(options.top_p)),
        ("top_k", whole(options.top_k)),
        ("repeat_penalty", real(options.repeat_penalty)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

impl From<PhaseTable> for Value {
    fn from(phase: PhaseTable) -> Self {
        let object = |keys: Vec<(String, Self)>| Self::Object(keys.into_iter().collect());
        let mut table: Map<String, Self> = phase.keys.into_iter().collect();
        if !phase.agents.is_empty() {
            let agents = phase.agents.into_iter().map(object).collect();
            table.insert("agent".to_owned(), Self::Array(agents));
        }
        let mut whole = Map::new();
        whole.insert("phase".to_owned(), Self::Array(vec![Self::Object(table)]));
        if !phase.baseline.is_empty() {
            whole.insert("baseline".to_owned(), object(phase.baseline));
        }
        Self::Object(whole)
    }
}

impl TryFrom<Value> for PhaseTable {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let keys = |value: &Value| -> Vec<(String, Value)> {
            let object = value.as_object().into_iter().flatten();
            object.map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let phase = value
            .pointer("/phase/0")
            .ok_or("a phase needs the key 'phase' with one table")?;
        let mut own = keys(phase);
        own.retain(|(key, _)| key != "agent");
        let agents = phase.get("agent").and_then(Value::as_array);
        Ok(Self {
            keys: own,
            agents: agents.into_iter().flatten().map(keys).collect(),
            baseline: value.get("baseline").map(keys).unwrap_or_default(),
        })
    }
}
