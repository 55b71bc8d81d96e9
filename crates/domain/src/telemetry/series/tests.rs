use proptest::prelude::*;

use super::*;
use crate::ids::NodeId;
use crate::telemetry::HostSample;
use crate::units::ClockReading;

const PERIOD: u64 = 100_000_000;
pub(super) const GPU: &str = "GPU-1";

pub(super) fn at(tick: u64) -> MonoNs {
    MonoNs(1_000_000_000 + tick * PERIOD)
}

/// A process that uses one core and a half, a host that is busy with two, a GPU at 300 W.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn sample(tick: u64) -> Sample {
    let seconds = tick as f64 / 10.0;
    Sample {
        at: at(tick),
        took_ns: 1000,
        host: HostSample {
            cpu_busy_core_seconds: Some(2.0 * seconds),
            ..HostSample::default()
        },
        processes: vec![ProcessSample {
            parent_pid: Some(1),
            cpu_seconds: Some(1.5 * seconds),
            cores_used: Some(1.5),
            ..ProcessSample::unmeasured(7, 5, "ollama")
        }],
        gpus: vec![GpuSample {
            energy_joules: Some(300.0 * seconds),
            ..GpuSample::unmeasured(GpuUuid(GPU.to_owned()))
        }],
    }
}

pub(super) fn batch(seq: u64, samples: Vec<Sample>) -> TelemetryBatch {
    TelemetryBatch {
        node: NodeId::try_new("n1").unwrap(),
        sampler_started: MonoNs(1),
        seq,
        clock: ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: samples.last().map_or(MonoNs(0), |s| s.at),
            wall_unix_ns: 0,
        },
        period_ns: PERIOD,
        gpus: Vec::new(),
        probes: Vec::new(),
        samples,
        gaps: Vec::new(),
        gpu_errors: Vec::new(),
    }
}

fn steady(ticks: u64) -> Vec<TelemetryBatch> {
    let samples: Vec<Sample> = (0..ticks).map(sample).collect();
    samples
        .chunks(10)
        .zip(1..)
        .map(|(chunk, seq)| batch(seq, chunk.to_vec()))
        .collect()
}

#[test]
fn our_own_processes_are_no_engines() {
    let mut samples: Vec<Sample> = (0..10).map(sample).collect();
    for (tick, sample) in samples.iter_mut().enumerate() {
        sample.processes.push(ProcessSample {
            parent_pid: Some(7),
            cpu_seconds: Some(f64::from(u32::try_from(tick).unwrap())),
            part: ProcessPart::Harness,
            ..ProcessSample::unmeasured(9, 6, "agent-worker")
        });
    }
    let batches = [batch(1, samples)];
    let series = Series::new(&batches);
    let names: Vec<_> = series.processes(at(0), at(9)).into_iter().collect();
    assert_eq!(names, [(7, "ollama")]);
    // The tree of an engine holds engines.
    close(series.tree_cores_used(7, at(0), at(9)), 1.5);
}

fn close(value: Option<f64>, truth: f64) {
    let value = value.expect("measured");
    assert!((value - truth).abs() < 1e-9, "{value} is not {truth}");
}

#[test]
fn a_steady_load_is_found_between_and_on_samples() {
    let batches = steady(50);
    close(cpu_cores_used(&batches, 7, at(3), at(40)), 1.5);
    close(
        cpu_cores_used(&batches, 7, at(3).plus(33_000_000), at(3).plus(71_000_000)),
        1.5,
    );
    let series = Series::new(&batches);
    close(series.host_cores_used(at(0), at(49)), 2.0);
    close(
        series.gpu_energy_joules(&GpuUuid(GPU.to_owned()), at(10), at(20)),
        300.0,
    );
    assert_eq!(series.between(at(3), at(5)).len(), 3);
    assert_eq!(
        series.processes(at(3), at(5)),
        BTreeSet::from([(7, "ollama")])
    );
}

#[test]
fn an_end_outside_the_readings_is_not_guessed() {
    let batches = steady(50);
    assert_eq!(cpu_cores_used(&batches, 7, at(40), at(49).plus(1)), None);
    assert_eq!(cpu_cores_used(&batches, 7, MonoNs(0), at(5)), None);
    assert_eq!(cpu_cores_used(&batches, 7, at(5), at(5)), None);
    assert_eq!(cpu_cores_used(&batches, 8, at(5), at(9)), None);
    assert_eq!(cpu_cores_used(&[], 7, at(5), at(9)), None);
}

#[test]
fn a_counter_is_bridged_over_a_hole_but_no_end_may_lie_in_one() {
    let mut batches = steady(50);
    batches.remove(2);
    close(cpu_cores_used(&batches, 7, at(5), at(45)), 1.5);
    assert_eq!(cpu_cores_used(&batches, 7, at(25), at(45)), None);
}

#[test]
fn a_reused_pid_is_not_the_same_process() {
    let mut batches = steady(20);
    for late in batches
        .iter_mut()
        .skip(1)
        .flat_map(|b| &mut b.samples)
        .flat_map(|s| &mut s.processes)
    {
        late.start_ticks = 99;
    }
    close(cpu_cores_used(&batches, 7, at(2), at(8)), 1.5);
    assert_eq!(cpu_cores_used(&batches, 7, at(2), at(15)), None);
}

#[test]
fn a_counter_that_fell_gives_nothing() {
    let mut batches = steady(20);
    for gpu in batches
        .iter_mut()
        .skip(1)
        .flat_map(|b| &mut b.samples)
        .flat_map(|s| &mut s.gpus)
    {
        gpu.energy_joules = gpu.energy_joules.map(|joules| joules - 280.0);
    }
    let series = Series::new(&batches);
    assert_eq!(
        series.gpu_energy_joules(&GpuUuid(GPU.to_owned()), at(2), at(15)),
        None
    );
}

#[test]
fn coverage_tells_gaps_and_holes() {
    let mut batches = steady(50);
    assert!(coverage(&batches, &Source::Host, at(2), at(45)).is_complete());

    batches.remove(2);
    let seen = coverage(&batches, &Source::Host, at(2), at(45));
    assert_eq!(seen.samples, 34);
    assert_eq!(seen.gaps.len(), 1);
    assert_eq!((seen.gaps[0].from, seen.gaps[0].to), (at(19), at(30)));

    let lost = Gap {
        from: at(19),
        to: at(30),
        source: Source::Sampler,
        reason: GapReason::QueueFull,
        detail: "1 batch".to_owned(),
    };
    batches[2].gaps.push(lost);
    let told = coverage(&batches, &Source::Host, at(22), at(45));
    assert_eq!(told.gaps.len(), 1, "told once, not again as a hole");
    assert_eq!(told.gaps[0].from, at(22), "clipped to what was asked");
    assert_eq!(told.gaps[0].reason, GapReason::QueueFull);
    assert!(coverage(&batches, &Source::Host, at(31), at(45)).is_complete());
}

#[test]
fn coverage_is_per_source() {
    let mut batches = steady(20);
    let gpu = Source::Gpu(GpuUuid(GPU.to_owned()));
    for late in batches.iter_mut().skip(1).flat_map(|b| &mut b.samples) {
        late.gpus.clear();
    }
    assert!(coverage(&batches, &Source::Host, at(0), at(19)).is_complete());
    assert!(!coverage(&batches, &gpu, at(0), at(19)).is_complete());
    assert!(coverage(&batches, &gpu, at(0), at(9)).is_complete());
    assert!(!coverage(&[], &Source::Host, at(0), at(9)).is_complete());
    assert!(
        Source::Gpus.covers(&gpu) && Source::Sampler.covers(&gpu) && !gpu.covers(&Source::Gpus)
    );
}

#[test]
fn batches_of_another_boot_are_left_out() {
    let mut batches = steady(20);
    batches[1].clock.boot_id = BootId("another".to_owned());
    assert_eq!(Series::new(&batches).between(at(0), at(99)).len(), 10);
}

#[test]
fn a_batch_is_one_line_of_json() {
    let batch = steady(10).remove(0);
    let line = serde_json::to_string(&batch).unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(
        serde_json::from_str::<TelemetryBatch>(&line).unwrap(),
        batch
    );
}

proptest! {
    #[test]
    fn order_and_repetition_of_batches_change_nothing(
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in 0..6_usize,
        from in 0_u64..5_900,
        length in 1_u64..3_000,
    ) {
        let batches = steady(60);
        let mut arrived: Vec<TelemetryBatch> = order.iter().map(|i| batches[*i].clone()).collect();
        arrived.push(batches[again].clone());
        let from = at(0).plus(from * 1_000_000);
        let to = from.plus(length * 1_000_000);
        prop_assert_eq!(
            cpu_cores_used(&batches, 7, from, to),
            cpu_cores_used(&arrived, 7, from, to)
        );
        prop_assert_eq!(
            coverage(&batches, &Source::Host, from, to),
            coverage(&arrived, &Source::Host, from, to)
        );
    }
}

/// The server (7) starts a runner (8), which starts a helper (9); 10 is somebody else's.
fn with_children(tick: u64, from: u64, to: u64) -> Sample {
    let mut sample = sample(tick);
    let server = sample.processes[0].clone();
    let child = |pid, parent, cores: f64| ProcessSample {
        pid,
        parent_pid: Some(parent),
        cpu_seconds: server.cpu_seconds.map(|seconds| seconds / 1.5 * cores),
        ..server.clone()
    };
    sample
        .processes
        .extend([child(8, 7, 0.75), child(10, 1, 4.0)]);
    if (from..to).contains(&tick) {
        sample.processes.push(child(9, 8, 0.5));
    }
    sample
}

#[test]
fn an_engine_is_its_process_and_all_below_it() {
    let whole: Vec<Sample> = (0..50).map(|tick| with_children(tick, 0, 50)).collect();
    let batches = [batch(1, whole)];
    let series = Series::new(&batches);
    close(series.cpu_cores_used(7, at(3), at(40)), 1.5);
    close(series.tree_cores_used(7, at(3), at(40)), 2.75);
    close(series.tree_cores_used(8, at(3), at(40)), 1.25);
    close(series.tree_cores_used(10, at(3), at(40)), 4.0);
    assert_eq!(series.tree_cores_used(11, at(3), at(40)), None);
}

#[test]
fn a_child_of_a_part_of_the_time_leaves_its_engine_unmeasured() {
    let part: Vec<Sample> = (0..50).map(|tick| with_children(tick, 10, 20)).collect();
    let batches = [batch(1, part)];
    let series = Series::new(&batches);
    assert_eq!(series.tree_cores_used(7, at(3), at(40)), None);
    close(series.tree_cores_used(7, at(25), at(40)), 2.25);
}
