//! A test written as the `[[phase]]` of a spec.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::options::EngineOptions;
use crate::plan::Topology;
use crate::report::{AgentConfig, AgentOptions, TestReport};
use crate::spec::{self, Scenario, SpecFormat, cycled_agents};

/// Keys and their values, in the order in which people write them.
type Keys = Vec<(String, Value)>;

/// Most characters of a label in a spec.
const MAX_LABEL: usize = 120;

/// What a phase of a spec says, in the order in which people write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub struct PhaseTable {
    /// Keys of `[[phase]]`.
    pub(super) keys: Keys,
    /// Keys of each `[[phase.agent]]`. Empty: the phase says how many agents there are.
    pub(super) agents: Vec<Keys>,
    /// Keys of the spec's `[baseline]`. Empty: the engine's defaults.
    pub(super) baseline: Keys,
}

impl PhaseTable {
    /// The phase that repeats a test, in a spec whose `[model]` is `model`.
    ///
    /// The scenarios that give agents their names and options are written as people write them; a test
    /// that they cannot express (an import may hold any) lists its agents.
    pub(super) fn of(test: &TestReport, model: Option<&str>) -> Self {
        let short = [
            Scenario::ChimeraHomo,
            Scenario::BaselineVsChimera,
            Scenario::Custom,
        ];
        let short = short
            .into_iter()
            .find(|scenario| test.scenario == scenario.as_str() && unlisted(test, model));
        let (scenario, agents) = match (short, test.agents.as_slice()) {
            (Some(Scenario::BaselineVsChimera), [_, others @ ..]) if alike(others) => {
                (Scenario::BaselineVsChimera, others.first())
            }
            (Some(scenario @ (Scenario::ChimeraHomo | Scenario::Custom)), all) if alike(all) => {
                (scenario, all.first())
            }
            _ => return Self::listing(test, model),
        };
        let mut keys = head(test, scenario);
        keys.push(("agents".to_owned(), json!(test.agents.len())));
        keys.extend(think(agents.map_or(0, |agent| agent.think_ms)));
        keys.extend(
            agents
                .map(|agent| options(&agent.options))
                .into_iter()
                .flatten(),
        );
        let mut baseline = Vec::new();
        if let (Scenario::BaselineVsChimera, [first, ..]) = (scenario, test.agents.as_slice()) {
            baseline = options(&first.options);
            // The token budget is the phase's, unless the baseline has its own.
            baseline.retain(|stated| stated.0 != "num_predict" || !keys.contains(stated));
        }
        keys.extend(foot(test));
        Self {
            keys,
            agents: Vec::new(),
            baseline,
        }
    }

    /// The same with every agent by itself: needs no `[baseline]`.
    pub(super) fn listing(test: &TestReport, model: Option<&str>) -> Self {
        let hetero = test.scenario == Scenario::ChimeraHetero.as_str();
        let mut keys = head(
            test,
            if hetero {
                Scenario::ChimeraHetero
            } else {
                Scenario::Custom
            },
        );
        keys.extend(foot(test));
        Self {
            keys,
            agents: test
                .agents
                .iter()
                .map(|agent| listed(agent, model))
                .collect(),
            baseline: Vec::new(),
        }
    }

    /// Whether the phase reads the spec's `[baseline]`.
    pub(super) fn reads_baseline(&self) -> bool {
        let scenario = json!(Scenario::BaselineVsChimera.as_str());
        self.keys.contains(&("scenario".to_owned(), scenario))
    }

    /// Why no spec takes the phase. An import may hold what none of ours may.
    pub(super) fn fault(&self, model: Option<&str>) -> Option<String> {
        let mut spec = Value::from(self.clone());
        if let Value::Object(spec) = &mut spec {
            spec.insert("name".to_owned(), json!("advised"));
            spec.insert(
                "model".to_owned(),
                json!({ "name": model.unwrap_or("auto") }),
            );
        }
        let parsed = spec::parse(&spec.to_string(), SpecFormat::Json);
        parsed.err().map(|error| error.to_string())
    }
}

/// What stands before a phase's agents.
fn head(test: &TestReport, scenario: Scenario) -> Keys {
    let mut keys = Vec::new();
    let label = label(&test.label);
    if !label.is_empty() {
        keys.push(("label".to_owned(), json!(label)));
    }
    keys.push(("scenario".to_owned(), json!(scenario.as_str())));
    if let Topology::Shared { slots } = test.topology {
        keys.push(("topology".to_owned(), json!("shared")));
        keys.push(("slots".to_owned(), json!(slots)));
    }
    keys
}

/// What stands after a phase's options.
fn foot(test: &TestReport) -> Keys {
    let mut keys = Vec::new();
    if (test.max_concurrent as usize) < test.agents.len() {
        keys.push(("max_concurrent".to_owned(), json!(test.max_concurrent)));
    }
    keys.push(("runs".to_owned(), json!(test.runs_planned.max(1))));
    keys
}

/// Whether a spec that only counts the agents gives them these names, roles, models and pauses.
fn unlisted(test: &TestReport, model: Option<&str>) -> bool {
    let count = u32::try_from(test.agents.len()).unwrap_or(u32::MAX);
    let own = test.agents.iter().map(|agent| (&agent.agent, &agent.role));
    let named = cycled_agents(count);
    let pauses = test.agents.windows(2);
    own.eq(named.iter().map(|(id, role)| (id, role)))
        && test.agents.iter().all(|agent| !is_other(agent, model))
        && pauses
            .into_iter()
            .all(|pair| matches!(pair, [a, b] if a.think_ms == b.think_ms))
}

fn alike(agents: &[AgentConfig]) -> bool {
    agents
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a.options == b.options))
}

/// Whether an agent's model is known and not the spec's.
fn is_other(agent: &AgentConfig, model: Option<&str>) -> bool {
    agent.model.is_some() && agent.model.as_deref() != model
}

/// No pause is not written.
fn think(think_ms: u32) -> Option<(String, Value)> {
    (think_ms > 0).then(|| ("think_ms".to_owned(), json!(think_ms)))
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

/// One agent by itself; its model only where it is not the spec's.
fn listed(agent: &AgentConfig, model: Option<&str>) -> Keys {
    let mut keys = vec![
        ("id".to_owned(), json!(agent.agent)),
        ("role".to_owned(), json!(agent.role)),
    ];
    if is_other(agent, model) {
        keys.push(("model".to_owned(), json!(agent.model)));
    }
    keys.extend(think(agent.think_ms));
    keys.extend(options(&agent.options));
    keys
}

/// Options that some agent does not state, though a spec always has them.
pub(super) fn left_open(agents: &[AgentConfig]) -> Vec<String> {
    let defaults = options(&AgentOptions::from(&EngineOptions::default()));
    let names = defaults.into_iter().map(|(name, _)| name);
    let states = |agent: &AgentConfig, name: &String| {
        let stated = options(&agent.options);
        stated.iter().any(|(key, _)| key == name)
    };
    names
        .filter(|name| !agents.iter().all(|agent| states(agent, name)))
        .collect()
}

/// Options that are known, under their names in a spec.
fn options(options: &AgentOptions) -> Keys {
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
        let object = |keys: Keys| Self::Object(keys.into_iter().collect());
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
        let keys = |value: &Value| -> Keys {
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
