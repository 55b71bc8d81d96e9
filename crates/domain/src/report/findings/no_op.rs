//! Settings that ask for more than there is, and so for nothing.

use std::collections::BTreeSet;

use super::super::types::Report;
use super::{Evidence, Finding};
use crate::stats::Provenance;

/// Settings of `num_gpu` above the layers that the model has: one is as good as another.
pub(super) fn layers(report: &Report) -> Option<Finding> {
    let asked: BTreeSet<u32> = report
        .tests
        .iter()
        .flat_map(|test| &test.agents)
        .filter_map(|agent| agent.options.num_gpu)
        .collect();
    let largest = *asked.iter().next_back()?;
    let list = |values: &mut dyn Iterator<Item = &u32>| {
        values.map(u32::to_string).collect::<Vec<_>>().join(", ")
    };
    let layers: BTreeSet<u32> = report
        .environment
        .instances
        .iter()
        .filter_map(|instance| instance.facts.model_layers)
        .collect();
    let Some(known) = layers.iter().next_back().copied() else {
        if report.source.is_none() && asked.len() < 2 {
            return None;
        }
        return Some(Finding::new(
            "no_op_layers",
            format!(
                "num_gpu was asked as {}. How many layers the model has is not known from these data, so \
                 whether these settings differ in anything is not known either: every value from the \
                 number of layers on places the same layers.",
                list(&mut asked.iter())
            ),
            Vec::new(),
        ));
    };
    if largest <= known {
        return None;
    }
    let above: Vec<&u32> = asked.iter().filter(|asked| **asked > known).collect();
    Some(Finding::new(
        "no_op_layers",
        format!(
            "num_gpu was asked as {}, which is more than the {known} layers of the model: these settings \
             place the same layers and differ in nothing but that changing them loads the model again.",
            list(&mut above.iter().copied())
        ),
        vec![Evidence {
            what: "layers of the model".to_owned(),
            place: None,
            value: f64::from(known),
            provenance: Provenance::Measured,
        }],
    ))
}

/// Settings of `num_ctx` above the context that the model was trained with.
///
/// Models are told apart by name. An engine that loads no more than the training's context refuses
/// such a run before it starts; what is found here was loaded as asked.
pub(super) fn context(report: &Report) -> Option<Finding> {
    let mut above: BTreeSet<(&str, u32, u32)> = BTreeSet::new();
    for instance in &report.environment.instances {
        let facts = &instance.facts;
        let (Some(model), Some(trained)) = (facts.model.as_deref(), facts.train_context) else {
            continue;
        };
        let agents = report.tests.iter().flat_map(|test| &test.agents);
        let asked = agents
            .filter(|agent| agent.model.as_deref() == Some(model))
            .filter_map(|agent| agent.options.num_ctx);
        above.extend(
            asked
                .filter(|asked| *asked > trained)
                .map(|asked| (model, asked, trained)),
        );
    }
    if above.is_empty() {
        return None;
    }
    let told: Vec<String> = above
        .iter()
        .map(|(model, asked, trained)| format!("{asked} for {model}, trained with {trained}"))
        .collect();
    let evidence = above.iter().map(|(model, _, trained)| Evidence {
        what: format!("tokens of context that {model} was trained with"),
        place: None,
        value: f64::from(*trained),
        provenance: Provenance::Measured,
    });
    Some(Finding::new(
        "no_op_context",
        format!(
            "num_ctx was asked beyond the context of the model's training: {}. What lies beyond takes \
             memory, and the model was never taught to use it.",
            told.join("; ")
        ),
        evidence.collect(),
    ))
}
