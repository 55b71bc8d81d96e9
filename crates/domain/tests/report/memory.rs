//! GPU memory that telemetry sampled while the agents ran.

use chimera_domain::gate::{self, Threshold};
use chimera_domain::ids::NodeId;
use chimera_domain::render::{report_html, report_markdown, runs_csv};
use chimera_domain::report::{Input, Report, build};
use chimera_domain::stats::Provenance;
use chimera_domain::tables;
use chimera_domain::telemetry::{
    GpuFacts, GpuProcess, GpuProcessKind, GpuSample, GpuUuid, HostSample, Sample, TelemetryBatch,
};
use chimera_domain::units::MonoNs;

use crate::golden::contended;
use crate::support::{MS, World, clock, environment};

const GIB: u64 = 1 << 30;
const PERIOD: u64 = 100 * MS;

fn uuid() -> GpuUuid {
    GpuUuid("GPU-1".to_owned())
}

/// Somebody holds 1 GiB for ever, engine process 77 3 GiB at every even tick and 5 GiB at every odd.
fn sample(tick: u64) -> Sample {
    let own = if tick.is_multiple_of(2) { 3 } else { 5 } * GIB;
    let process = |pid, bytes| GpuProcess {
        pid,
        memory_used_bytes: Some(bytes),
        utilisation: None,
        memory_utilisation: None,
        kind: GpuProcessKind::Compute,
    };
    Sample {
        at: MonoNs(tick * PERIOD),
        took_ns: 1000,
        host: HostSample::default(),
        processes: Vec::new(),
        gpus: vec![GpuSample {
            memory_used_bytes: Some(own + GIB),
            processes: Some(vec![process(5, GIB), process(77, own)]),
            ..GpuSample::unmeasured(uuid())
        }],
    }
}

/// The experiment's whole time, but for the ticks that `lost` names.
fn telemetry(world: &World, lost: impl Fn(u64) -> bool) -> Vec<TelemetryBatch> {
    let ticks = 999_000 * MS / PERIOD..=(world.now + 1000 * MS) / PERIOD;
    vec![TelemetryBatch {
        node: NodeId::try_new("node-1").unwrap(),
        sampler_started: MonoNs(1),
        seq: 1,
        clock: clock(world.now),
        period_ns: PERIOD,
        gpus: vec![GpuFacts {
            uuid: uuid(),
            index: 0,
            name: Some("Test GPU".to_owned()),
            driver_version: None,
            memory_total_bytes: Some(8 * GIB),
            power_limit_watts: None,
            sm_clock_max_mhz: None,
            library_version: None,
            cuda_version: None,
            mig_enabled: None,
            mps_active: None,
            ecc_enabled: None,
            slowdown_celsius: None,
        }],
        probes: Vec::new(),
        samples: ticks.filter(|tick| !lost(*tick)).map(sample).collect(),
        gaps: Vec::new(),
        gpu_errors: Vec::new(),
    }]
}

fn report(world: &World, lost: impl Fn(u64) -> bool) -> Report {
    let batches = telemetry(world, lost);
    let input = Input::new(&world.control, &world.events, environment());
    build(&input.with_telemetry(&batches)).unwrap()
}

/// Ticks in the middle of the second run's together leg.
fn in_second_run(world: &World) -> (u64, u64) {
    use chimera_domain::event::AgentRecord;
    let starts = world.events.iter().filter_map(|event| match &event.record {
        AgentRecord::Started(started) if event.key.run.as_str() == "t1-r2-together" => {
            Some(started.actual.0)
        }
        _ => None,
    });
    let first = starts.min().unwrap() / PERIOD;
    (first + 20, first + 25)
}

#[test]
fn the_memory_of_a_run() {
    let report = report(&contended(), |_| false);
    let run = &report.tests[0].runs[0];
    let memory = run.gpu_memory.as_ref().unwrap();
    assert_eq!(memory.peak_bytes, Some(6 * GIB));
    assert_eq!(memory.peak_ratio, Some(0.75));
    assert_eq!(memory.engines_peak_bytes, Some(5 * GIB));
    assert_eq!(memory.provenance, Provenance::Measured);
    assert_eq!((&memory.reason, &memory.engines_reason), (&None, &None));
    // 8.7 s hold 87 or 88 readings, half of them high.
    let mean = memory.mean_bytes.unwrap() / GIB as f64;
    assert!((mean - 5.0).abs() < 0.02, "{mean}");
    let own = memory.engines_mean_bytes.unwrap() / GIB as f64;
    assert!((own - 4.0).abs() < 0.02, "{own}");
    let device = &memory.devices[0];
    assert_eq!(
        (device.total_bytes, device.peak_bytes),
        (Some(8 * GIB), Some(6 * GIB))
    );
    let aggregate = &report.tests[0].aggregate;
    assert_eq!(aggregate.gpu_memory_peak_ratio.value, Some(0.75));
    assert_eq!(aggregate.gpu_engines_peak_bytes.n, 3);
}

#[test]
fn a_gap_takes_the_figure_from_its_run_alone() {
    let world = contended();
    let (from, to) = in_second_run(&world);
    let report = report(&world, |tick| (from..to).contains(&tick));
    let test = &report.tests[0];
    let memory = test.runs[1].gpu_memory.as_ref().unwrap();
    assert_eq!((memory.peak_bytes, memory.mean_bytes), (None, None));
    assert_eq!((memory.peak_ratio, memory.engines_peak_bytes), (None, None));
    assert_eq!(memory.provenance, Provenance::NotMeasured);
    let why = memory.reason.as_ref().unwrap();
    assert!(why.contains("0.60 s") && why.contains("GPU-1"), "{why}");
    assert!(
        test.runs[0]
            .gpu_memory
            .as_ref()
            .unwrap()
            .peak_bytes
            .is_some()
    );
    assert_eq!(test.aggregate.gpu_memory_peak_bytes.n, 2);
    // Two missing ticks are a hole of three periods, one is none.
    let one = self::report(&world, |tick| tick == from);
    assert_eq!(one.tests[0].aggregate.gpu_memory_peak_bytes.n, 3);
}

#[test]
fn without_samples_there_is_a_reason_and_no_zero() {
    let world = contended();
    let report = world.report();
    let memory = report.tests[0].runs[0].gpu_memory.as_ref().unwrap();
    assert_eq!((memory.peak_bytes, memory.peak_ratio), (None, None));
    assert!(memory.reason.as_ref().unwrap().contains("node-1"));
    let summary = &report.tests[0].aggregate.gpu_memory_peak_bytes;
    assert_eq!(
        (summary.value, summary.provenance),
        (None, Provenance::NotMeasured)
    );
}

#[test]
fn a_gate_judges_the_highest() {
    let judge = |report: &Report, rule: &str| {
        let rule: Threshold = rule.parse().unwrap();
        gate::judge(report, None, &[rule], &Default::default())
    };
    let measured = report(&contended(), |_| false);
    let found = judge(&measured, "vram_used_ratio <= 0.8");
    assert!(found.passed, "{found:?}");
    assert_eq!(found.results[1].value, Some(0.75));
    assert!(
        found.results[1].detail.contains("the highest"),
        "{}",
        found.results[1].detail
    );
    assert!(!judge(&measured, "vram_used_ratio <= 70 %").passed);
    assert!(!judge(&contended().report(), "vram_used_ratio <= 0.8").passed);
    let refused = "vram_used_ratio <= 0.8 ci"
        .parse::<Threshold>()
        .unwrap_err();
    assert!(refused.contains("no interval"), "{refused}");
}

#[test]
fn every_document_has_it() {
    let world = contended();
    let report = report(&world, |_| false);
    let csv = String::from_utf8(runs_csv(&report).unwrap()).unwrap();
    let [head, row] = [0, 1].map(|line| {
        csv.lines()
            .nth(line)
            .unwrap()
            .split(',')
            .collect::<Vec<_>>()
    });
    let place = head
        .iter()
        .position(|name| *name == "gpu_memory_peak_bytes")
        .unwrap();
    assert_eq!(row[place], (6 * GIB).to_string());
    let markdown = report_markdown(&report);
    assert!(markdown.contains("GPU memory while the agents ran"));
    assert!(
        markdown.contains("| GPU-1 | node-1 | 8.00 | 6.00 |"),
        "{markdown}"
    );
    assert!(
        report_html(&report)
            .unwrap()
            .contains("id=\"memory-in-use\"")
    );
    let table = |id: &str| {
        let all = tables::all(&report);
        all.into_iter().find(|table| table.id == id).unwrap()
    };
    let vram: Vec<String> = table("4.3").rows[0]
        .iter()
        .map(|cell| cell.shown())
        .collect();
    assert!(
        vram.ends_with(&["5.37".to_owned(), "6.44".to_owned(), "2.15".to_owned()]),
        "{vram:?}"
    );
    let bands = table("6.5").rows;
    assert!(
        bands.iter().any(|row| row[1].shown().contains("telemetry")),
        "{bands:?}"
    );
}
