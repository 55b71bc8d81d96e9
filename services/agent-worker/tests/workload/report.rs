//! Everything to the report file.

use agent_worker::workload::{AgentReport, StepKind, StepReport, report_markdown};
use chimera_domain::event::{EngineTimes, LocalStep, RequestRecord};
use chimera_domain::ids::{AgentId, ExperimentId, RequestId, Role, RunId};
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::plan::PlannedAgent;
use chimera_domain::session::LegRef;
use chimera_domain::units::MonoNs;

use crate::shipped;

fn request(step: StepKind, measured: bool) -> RequestRecord {
    RequestRecord {
        request_id: RequestId::try_new("r1").unwrap(),
        step: step.as_str().to_owned(),
        sent: MonoNs(1_000),
        head_ns: measured.then_some(90_000_000),
        chunk_ns: if measured {
            vec![100_000_000, 120_000_000, 140_000_000]
        } else {
            Vec::new()
        },
        done_ns: measured.then_some(141_000_000),
        prompt_sha256: String::new(),
        prompt_tokens: measured.then_some(445),
        cached_tokens: None,
        output_tokens: measured.then_some(3),
        output_sha256: String::new(),
        finish: None,
        engine_times: EngineTimes {
            prompt_eval_ns: measured.then_some(80_000_000),
            eval_ns: measured.then_some(60_000_000),
            ..EngineTimes::default()
        },
        client_wait_ns: None,
        error: None,
    }
}

#[test]
fn golden_report() {
    let planned = PlannedAgent {
        id: AgentId::try_new("collector").unwrap(),
        role: Role::try_new("collector").unwrap(),
        engine: EngineKind::Openai,
        model: "gemma|3".to_owned(),
        options: EngineOptions::default(),
        instance: None,
        think_ms: 0,
    };
    let leg = LegRef {
        experiment: ExperimentId::try_new("e1").unwrap(),
        run: RunId::try_new("t1-r1-together").unwrap(),
        attempt: 1,
        epoch: 1,
    };
    let local = [LocalStep {
        step: "scan".to_owned(),
        start: MonoNs(0),
        end: MonoNs(1_500_000),
        detail: "4 files, 14594 bytes".to_owned(),
    }];
    let steps = [
        StepReport {
            step: StepKind::Analysis,
            request: request(StepKind::Analysis, true),
            text: "# Not a heading of ours\n\n| nor | a table |\n".to_owned(),
            note: Some("left out to fit the context: 2 columns".to_owned()),
        },
        StepReport {
            step: StepKind::Report,
            request: request(StepKind::Report, false),
            text: " ".to_owned(),
            note: None,
        },
    ];
    let report = report_markdown(&AgentReport {
        leg: &leg,
        agent: &planned,
        aggregates: &shipped(),
        local: &local,
        steps: &steps,
    });
    insta::assert_snapshot!("report", report);
}
