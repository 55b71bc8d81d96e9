//! What agents on one instance must have in common: its model and what it was launched with.

use super::cross::Places;
use super::phase::Context;
use crate::options::EngineOptions;
use crate::spec::error::Sink;
use crate::spec::options::{OptionKey, Setting};
use crate::spec::phase::{Agents, Phase, Scenario};

/// Notes agents that are to share an instance and ask different things of it: the engine would
/// load the model anew at each of their requests.
pub(super) fn check(phase: &Phase, places: &Places<'_>, context: &Context<'_>, sink: &mut Sink) {
    if !phase.placements.iter().any(|p| p.is_shared()) {
        if let Some(item) = &places.shared {
            let hint = "only topology \"shared\" reads it";
            item.fault("no agents of this phase share an instance", hint, sink);
        }
        return;
    }
    if let Some(what) = difference(phase, context) {
        let item = places.or_phase([&places.topology, &None]);
        let problem = format!("agents on one instance differ in {what}");
        let hint = "they share its model and what it is launched with: use topology = \"pinned\"";
        item.fault(problem, hint, sink);
    }
}

fn difference(phase: &Phase, context: &Context<'_>) -> Option<&'static str> {
    let mut fixed = OptionKey::ALL
        .into_iter()
        .filter(|key| key.is_of_the_instance());
    match &phase.agents {
        Agents::Listed(list) => {
            let (first, others) = list.split_first()?;
            if others.iter().any(|a| a.model != first.model) {
                return Some("their model");
            }
            let of = |settings: &[Setting], key| settings.iter().copied().find(|s| s.key() == key);
            fixed
                .find(|key| {
                    let own = of(&first.options, *key);
                    others.iter().any(|a| of(&a.options, *key) != own)
                })
                .map(OptionKey::as_str)
        }
        Agents::Alike(_) => {
            let hetero = phase.scenarios.contains(&Scenario::ChimeraHetero);
            let baseline = phase.scenarios.contains(&Scenario::BaselineVsChimera);
            let default = EngineOptions::default();
            fixed
                .find(|key| {
                    let changed = phase.hetero.iter().any(|change| change.key() == *key);
                    let stated = context.baseline.iter().copied().find(|s| s.key() == *key);
                    let first = stated.or_else(|| key.of(&default));
                    let grid = context.candidates(phase, *key);
                    let others = if grid.is_empty() {
                        vec![key.of(&default)]
                    } else {
                        grid.into_iter().map(Some).collect()
                    };
                    (hetero && changed) || (baseline && others.iter().any(|o| *o != first))
                })
                .map(OptionKey::as_str)
        }
    }
}
