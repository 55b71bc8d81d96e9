use chimera_domain::event::PinFacts;
use chimera_domain::memory::Show;
use chimera_domain::options::EngineOptions;

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

/// What Ollama 0.17.4 stated in `/api/ps` of this model, all of it in the host's memory.
#[test]
fn a_pin_is_set_beside_the_plan_of_what_it_ran() {
    let settings = settings(&PlanArgs::default(), Layout::LlamaCpp);
    for (context, size) in [(512, 452_633_088), (2048, 467_313_152), (8192, 494_576_128)] {
        let pin = PinFacts {
            engine: Some(EngineKind::Ollama),
            context_length: Some(context),
            size_bytes: Some(size),
            size_vram_bytes: Some(0),
            ..PinFacts::default()
        };
        let rows = against::of_pin(&pin, &EngineOptions::default(), None, &gemma(), &settings);
        assert_eq!(rows.len(), 1, "nothing is on a GPU: {rows:?}");
        assert_eq!(rows[0].what, against::What::Loaded);
        assert_eq!(rows[0].measured_bytes, size);
        assert!(rows[0].error.abs() < 0.005, "{rows:?}");
    }
}

#[test]
fn what_the_driver_saw_is_set_beside_everything_on_the_gpu() {
    let settings = settings(&PlanArgs::default(), Layout::LlamaCpp);
    let pin = PinFacts {
        engine: Some(EngineKind::Openai),
        context_length: Some(1024),
        parallel_slots: Some(2),
        size_bytes: Some(gemma().bytes.total()),
        ..PinFacts::default()
    };
    let asked = EngineOptions::default();
    let rows = against::of_pin(&pin, &asked, Some(1 << 30), &gemma(), &settings);
    let whats: Vec<_> = rows.iter().map(|row| row.what).collect();
    assert_eq!(whats, [against::What::Tensors, against::What::Process]);
    // llama.cpp is told the context of all slots together.
    assert!(rows.iter().all(|row| (row.context, row.slots) == (2048, 2)));
    assert!(rows[0].error.abs() < 1e-9);
    let plan = AgentMemory::plan(
        &gemma(),
        &EngineSettings {
            context: 2048,
            slots: 2,
            ..settings
        },
    );
    assert_eq!(rows[1].planned, plan.device_total());
}
