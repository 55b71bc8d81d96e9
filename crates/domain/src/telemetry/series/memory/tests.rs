use super::super::tests::{GPU, at, batch};
use super::*;
use crate::telemetry::{
    Gap, GapReason, GpuFacts, GpuProcess, GpuProcessKind, HostSample, MissingField, ProbeStatus,
    ProcessSample, TelemetryBatch,
};

const GIB: u64 = 1 << 30;

fn uuid(name: &str) -> GpuUuid {
    GpuUuid(name.to_owned())
}

fn holds(pid: u32, bytes: Option<u64>, kind: GpuProcessKind) -> GpuProcess {
    GpuProcess {
        pid,
        memory_used_bytes: bytes,
        utilisation: None,
        memory_utilisation: None,
        kind,
    }
}

fn engine(pid: u32, parent: u32) -> ProcessSample {
    ProcessSample {
        parent_pid: Some(parent),
        ..ProcessSample::unmeasured(pid, 1, "ollama")
    }
}

/// Server 7 with runner 8 below it on the GPU, and 99 of somebody else. The runner grows by 1 GiB a
/// tick, the other holds 2 GiB.
fn sample(tick: u64) -> Sample {
    let own = (1 + tick) * GIB;
    Sample {
        at: at(tick),
        took_ns: 1000,
        host: HostSample::default(),
        processes: vec![engine(7, 1), engine(8, 7)],
        gpus: vec![GpuSample {
            memory_used_bytes: Some(own + 2 * GIB),
            processes: Some(vec![
                holds(8, Some(own), GpuProcessKind::Compute),
                holds(8, Some(own), GpuProcessKind::Graphics),
                holds(99, Some(2 * GIB), GpuProcessKind::Compute),
            ]),
            ..GpuSample::unmeasured(uuid(GPU))
        }],
    }
}

fn facts(name: &str) -> GpuFacts {
    GpuFacts {
        uuid: uuid(name),
        index: 0,
        name: None,
        driver_version: None,
        memory_total_bytes: Some(24 * GIB),
        power_limit_watts: None,
        sm_clock_max_mhz: None,
        library_version: None,
        cuda_version: None,
        mig_enabled: None,
        mps_active: None,
        ecc_enabled: None,
        slowdown_celsius: None,
    }
}

fn batches(samples: Vec<Sample>) -> Vec<TelemetryBatch> {
    let mut one = batch(1, samples);
    one.gpus = vec![facts(GPU)];
    vec![one]
}

fn near(got: f64, gib: f64) {
    assert!(
        (got / GIB as f64 - gib).abs() < 1e-9,
        "{got} is not {gib} GiB"
    );
}

#[test]
fn readings_outside_the_interval_do_not_count() {
    let all = batches((0..=9).map(sample).collect());
    let series = Series::new(&all);
    let used = series.gpu_memory(&uuid(GPU), at(2), at(4)).unwrap();
    // Ticks 2, 3, 4: 5, 6 and 7 GiB.
    assert_eq!((used.peak_bytes, used.readings), (7 * GIB, 3));
    near(used.mean_bytes, 6.0);
}

#[test]
fn the_engines_part_is_that_of_the_runner_below_the_server() {
    let all = batches((0..=9).map(sample).collect());
    let found = Series::new(&all)
        .engine_gpu_memory(&[7], at(2), at(4))
        .unwrap();
    let own = found.get(&uuid(GPU)).unwrap();
    // Listed twice, counted once; 99 is not the engine's.
    assert_eq!(own.peak_bytes, 5 * GIB);
    near(own.mean_bytes, 4.0);
}

#[test]
fn a_hole_of_more_than_two_periods_leaves_no_figure() {
    let kept = |missing: std::ops::Range<u64>| -> Vec<Sample> {
        (0..=9)
            .filter(|tick| !missing.contains(tick))
            .map(sample)
            .collect()
    };
    let one = batches(kept(4..5));
    assert!(
        Series::new(&one)
            .gpu_memory(&uuid(GPU), at(1), at(8))
            .is_ok()
    );
    let two = batches(kept(4..6));
    let series = Series::new(&two);
    let why = series.gpu_memory(&uuid(GPU), at(1), at(8)).unwrap_err();
    assert!(
        matches!(&why, NoMemory::Gap { seconds, .. } if (seconds - 0.3).abs() < 1e-9),
        "{why}"
    );
    assert!(series.engine_gpu_memory(&[7], at(1), at(8)).is_err());
    // Outside the interval it does not matter.
    assert!(series.gpu_memory(&uuid(GPU), at(6), at(9)).is_ok());
}

#[test]
fn a_hole_in_one_reading_is_one_though_the_gpu_answered() {
    let mut samples: Vec<Sample> = (0..=9).map(sample).collect();
    for sample in &mut samples[4..6] {
        sample.gpus[0].memory_used_bytes = None;
    }
    let all = batches(samples);
    let series = Series::new(&all);
    assert!(series.gpu_memory(&uuid(GPU), at(1), at(8)).is_err());
    assert!(series.engine_gpu_memory(&[7], at(1), at(8)).is_ok());
}

#[test]
fn a_recorded_gap_says_why_there_is_no_figure() {
    let mut all = batches((0..=9).map(sample).collect());
    all[0].gaps.push(Gap {
        from: at(3),
        to: at(4),
        source: Source::Gpus,
        reason: GapReason::DriverReset,
        detail: "the driver was replaced".to_owned(),
    });
    let why = Series::new(&all)
        .gpu_memory(&uuid(GPU), at(1), at(8))
        .unwrap_err();
    assert!(why.to_string().contains("the driver was replaced"), "{why}");
}

#[test]
fn what_the_driver_cannot_tell_is_no_zero() {
    let mut samples: Vec<Sample> = (0..=9).map(sample).collect();
    for sample in &mut samples {
        sample.gpus[0].memory_used_bytes = None;
    }
    let mut all = batches(samples);
    all[0].probes.push(ProbeStatus {
        source: Source::Gpu(uuid(GPU)),
        state: ProbeState::Measured {
            missing: vec![MissingField {
                field: TelemetryField::GpuMemory,
                reason: Absence::NotSupported,
            }],
        },
    });
    let why = Series::new(&all)
        .gpu_memory(&uuid(GPU), at(1), at(8))
        .unwrap_err();
    assert!(
        matches!(
            why,
            NoMemory::NotRead {
                why: Absence::NotSupported,
                ..
            }
        ),
        "{why}"
    );
    // An interval shorter than a period may hold no reading.
    let all = batches((0..=9).map(sample).collect());
    let (from, to) = (MonoNs(at(3).0 + 1), MonoNs(at(4).0 - 1));
    let why = Series::new(&all)
        .gpu_memory(&uuid(GPU), from, to)
        .unwrap_err();
    assert!(matches!(why, NoMemory::NoReading { .. }), "{why}");
}

#[test]
fn an_engine_that_no_gpu_lists_has_no_part_rather_than_none() {
    let all = batches((0..=9).map(sample).collect());
    let series = Series::new(&all);
    let ask = |pids: &[u32]| series.engine_gpu_memory(pids, at(1), at(8)).unwrap_err();
    assert_eq!(ask(&[]), NoMemory::NoPid);
    assert_eq!(ask(&[7, 55]), NoMemory::NotListed(55));
    let mut samples: Vec<Sample> = (0..=9).map(sample).collect();
    samples[3].gpus[0].processes = Some(vec![holds(8, None, GpuProcessKind::Compute)]);
    let all = batches(samples);
    let series = Series::new(&all);
    let why = series.engine_gpu_memory(&[7], at(1), at(8)).unwrap_err();
    assert_eq!(why, NoMemory::Unstated(8));
}

#[test]
fn a_second_gpu_without_the_engine_holds_nothing_of_it() {
    let mut samples: Vec<Sample> = (0..=9).map(sample).collect();
    for sample in &mut samples {
        sample.gpus.push(GpuSample {
            memory_used_bytes: Some(GIB),
            processes: Some(Vec::new()),
            ..GpuSample::unmeasured(uuid("GPU-2"))
        });
    }
    let mut all = batches(samples);
    all[0].gpus.push(facts("GPU-2"));
    let series = Series::new(&all);
    let found = series.engine_gpu_memory(&[7], at(0), at(9)).unwrap();
    assert_eq!(found.get(&uuid("GPU-2")).unwrap().peak_bytes, 0);
    assert_eq!(found.get(&uuid(GPU)).unwrap().peak_bytes, 10 * GIB);
}
