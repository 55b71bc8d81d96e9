use chimera_domain::memory::Show;

use super::*;

fn gemma() -> ModelFacts {
    let show: Show = serde_json::from_str(include_str!(
        "../../../../crates/domain/src/memory/fixtures/gemma3-270m.show.json"
    ))
    .unwrap();
    ModelFacts::from_show(&show).unwrap()
}

fn planned(args: &PlanArgs, gpu: &Device) -> Plan {
    let facts = gemma();
    Plan {
        model_from: "gemma3-270m of Ollama".to_owned(),
        gpu_from: "as given, empty".to_owned(),
        ..plan(&facts, &settings(args, Layout::Ollama), args, gpu)
    }
}

#[test]
fn a_plan_for_a_person() {
    let args = PlanArgs {
        agents: Some("1..3".parse().unwrap()),
        ctx: Some("2048,8192".parse().unwrap()),
        slots: Some(2),
        ..PlanArgs::default()
    };
    insta::assert_snapshot!(paper::text(&planned(&args, &Device::new(2 << 30))));
}

#[test]
fn agents_and_contexts_are_planned_for_each_other() {
    let plan = planned(&PlanArgs::default(), &Device::new(12 << 30));
    assert_eq!(plan.agents.len(), CONTEXTS.len());
    assert_eq!(plan.cells.len(), CONTEXTS.len() * AGENTS.len());
    let most = plan.agents.iter().map(|agent| agent.largest_count.unwrap());
    assert!(
        most.clone()
            .zip(most.skip(1))
            .all(|(less, more)| less >= more)
    );
    for cell in &plan.cells {
        assert_eq!(cell.fit.fits, cell.layer_budget.is_none());
    }
}
