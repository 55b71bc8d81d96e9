//! Which of TR110's scenarios a test is, and what a person calls it. Neither stands in its files.

use super::layout::StatedAgent;
use crate::report::AgentOptions;
use crate::spec::Scenario;

/// The scenario of a test, from the kinds and configurations of its agents.
///
/// Rule: an agent that is not optimised beside one that is makes `baseline_vs_chimera`; two or more
/// optimised ones make `chimera_homo` if their configurations are equal, else `chimera_hetero`;
/// anything else is `custom`. A file that Chimera wrote states its scenario itself.
pub(super) fn scenario(agents: &[StatedAgent], stated: Option<&str>) -> String {
    if let Some(stated) = stated.filter(|stated| !stated.is_empty()) {
        return stated.to_owned();
    }
    let optimised = agents.iter().filter(|agent| is_optimised(agent)).count();
    let alike = agents
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a.options == b.options && a.model == b.model));
    let found = match (optimised, agents.len() - optimised) {
        (1.., 1..) => Scenario::BaselineVsChimera,
        (2.., 0) if alike => Scenario::ChimeraHomo,
        (2.., 0) => Scenario::ChimeraHetero,
        _ => Scenario::Custom,
    };
    found.as_str().to_owned()
}

/// Whether an agent ran TR110's optimised configuration: its kind says so, or, where no kind is stated,
/// it has what only such an agent has.
fn is_optimised(agent: &StatedAgent) -> bool {
    match &agent.kind {
        Some(kind) => kind.to_ascii_lowercase().contains("chimera"),
        None => {
            agent.optimised
                || agent
                    .options
                    .as_ref()
                    .is_some_and(|options| *options != AgentOptions::default())
        }
    }
}

/// What the agents were asked for, in a line: `num_gpu 60 / 80, num_ctx 512 / 1024, temperature 0.8`.
///
/// Options that no agent states are left out; one that states none reads `default`.
pub(super) fn label(agents: &[AgentOptions]) -> String {
    let whole = |value: Option<u32>| value.map(|value| value.to_string());
    let real = |value: Option<f64>| value.map(|value| value.to_string());
    type Written<'a> = (&'a str, Vec<Option<String>>);
    let each = |of: &dyn Fn(&AgentOptions) -> Option<String>| -> Vec<Option<String>> {
        agents.iter().map(of).collect()
    };
    let options: [Written<'_>; 5] = [
        ("num_gpu", each(&|o| whole(o.num_gpu))),
        ("num_ctx", each(&|o| whole(o.num_ctx))),
        ("num_thread", each(&|o| whole(o.num_thread))),
        ("num_predict", each(&|o| whole(o.num_predict))),
        ("temperature", each(&|o| real(o.temperature))),
    ];
    let parts: Vec<String> = options
        .into_iter()
        .filter(|(_, values)| values.iter().any(Option::is_some))
        .map(|(name, values)| {
            let mut words: Vec<String> = values
                .into_iter()
                .map(|value| value.unwrap_or_else(|| "default".to_owned()))
                .collect();
            if words
                .windows(2)
                .all(|pair| matches!(pair, [a, b] if a == b))
            {
                words.truncate(1);
            }
            format!("{name} {}", words.join(" / "))
        })
        .collect();
    if parts.is_empty() {
        return "engine defaults".to_owned();
    }
    parts.join(", ")
}
