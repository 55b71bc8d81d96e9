use chimera_domain::telemetry::{GpuSample, GpuUuid, HostSample};
use chimera_domain::units::BootId;

use super::*;

const PERIOD: u64 = 100;

fn assembler() -> Assembler {
    Assembler::new(NodeId::try_new("n1").unwrap(), MonoNs(1), PERIOD)
}

fn gpu(name: &str) -> GpuUuid {
    GpuUuid(name.to_owned())
}

fn sample(at: u64, gpus: &[&str]) -> Sample {
    Sample {
        at: MonoNs(at),
        took_ns: 1,
        host: HostSample::default(),
        processes: Vec::new(),
        gpus: gpus
            .iter()
            .map(|name| GpuSample::unmeasured(gpu(name)))
            .collect(),
    }
}

fn away(name: &str, reason: GapReason) -> Away {
    Away {
        source: Source::Gpu(gpu(name)),
        reason,
        detail: reason.as_str().to_owned(),
    }
}

fn close(assembler: &mut Assembler, at: u64) -> TelemetryBatch {
    let boot_id = BootId("b".to_owned());
    let clock = ClockReading {
        boot_id,
        mono_ns: MonoNs(at),
        wall_unix_ns: 0,
    };
    assembler.close(clock, Vec::new(), Vec::new())
}

fn ends(batch: &TelemetryBatch) -> Vec<(u64, u64, GapReason)> {
    batch
        .gaps
        .iter()
        .map(|gap| (gap.from.0, gap.to.0, gap.reason))
        .collect()
}

#[test]
fn steady_ticks_make_batches_without_gaps_numbered_from_1() {
    let mut assembler = assembler();
    for at in [100, 200, 300] {
        assembler.tick(sample(at, &["a"]), Vec::new());
    }
    let first = close(&mut assembler, 310);
    assert_eq!(
        (first.seq, first.samples.len(), first.gaps.len()),
        (1, 3, 0)
    );
    assert!(assembler.is_empty());
    assembler.tick(sample(400, &["a"]), Vec::new());
    assert_eq!(close(&mut assembler, 410).seq, 2);
}

#[test]
fn an_absence_runs_from_the_last_reading_to_the_next_and_over_batches() {
    let mut assembler = assembler();
    assembler.tick(sample(100, &["a", "b"]), Vec::new());
    assembler.tick(sample(200, &["b"]), vec![away("a", GapReason::GpuLost)]);
    assembler.tick(sample(300, &["b"]), vec![away("a", GapReason::GpuLost)]);
    assert_eq!(
        ends(&close(&mut assembler, 310)),
        [(100, 310, GapReason::GpuLost)]
    );
    assembler.tick(sample(400, &["b"]), vec![away("a", GapReason::GpuLost)]);
    assembler.tick(sample(500, &["a", "b"]), Vec::new());
    assembler.tick(sample(600, &["a", "b"]), Vec::new());
    assert_eq!(
        ends(&close(&mut assembler, 610)),
        [(310, 500, GapReason::GpuLost)]
    );
    assert!(ends(&close(&mut assembler, 710)).is_empty());
}

#[test]
fn a_new_reason_is_a_new_gap() {
    let mut assembler = assembler();
    assembler.tick(sample(100, &["a"]), Vec::new());
    assembler.tick(sample(200, &[]), vec![away("a", GapReason::GpuLost)]);
    assembler.tick(sample(300, &[]), vec![away("a", GapReason::ResetRequired)]);
    assembler.tick(sample(400, &["a"]), Vec::new());
    assert_eq!(
        ends(&close(&mut assembler, 410)),
        [
            (100, 300, GapReason::GpuLost),
            (300, 400, GapReason::ResetRequired)
        ]
    );
}

#[test]
fn late_ticks_are_a_gap_of_everything() {
    let mut assembler = assembler();
    assembler.tick(sample(100, &[]), Vec::new());
    assembler.tick(sample(300, &[]), Vec::new());
    assembler.tick(sample(501, &[]), Vec::new());
    let batch = close(&mut assembler, 510);
    assert_eq!(
        ends(&batch),
        [(300, 501, GapReason::Stalled)],
        "two periods are still in time"
    );
    assert_eq!(batch.gaps[0].source, Source::Sampler);
}

#[test]
fn a_batch_that_is_discarded_leaves_the_span_that_is_unknown() {
    let mut assembler = assembler();
    assembler.tick(sample(100, &["a"]), Vec::new());
    close(&mut assembler, 110);
    assembler.tick(sample(200, &[]), vec![away("a", GapReason::GpuLost)]);
    assembler.tick(sample(300, &[]), vec![away("a", GapReason::GpuLost)]);
    assert_eq!(assembler.discard(MonoNs(310)), (MonoNs(100), MonoNs(310)));
    assert!(assembler.is_empty());
    assembler.tick(sample(400, &["a"]), Vec::new());
    let next = close(&mut assembler, 410);
    assert_eq!(
        (next.seq, next.samples.len()),
        (2, 1),
        "a batch never sent has no number"
    );
    assert_eq!(ends(&next), [(310, 400, GapReason::GpuLost)]);
}
