use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry::{GpuFacts, GpuSample, GpuUuid, ProbeStatus};
use chimera_domain::units::BootId;

use super::*;
use crate::probe::GpuReadings;
use crate::proc::Roots;

const PERIOD: u64 = 100_000_000;
const START: u64 = 5_000_000_000;

/// A clock that stands still between ticks, comes late where told to, and stops after some ticks.
struct Driven {
    now: Cell<u64>,
    ticks: u32,
    /// (tick, how late).
    late: Vec<(u32, u64)>,
    end: u32,
}

impl Driven {
    fn new(end: u32, late: &[(u32, u64)]) -> Self {
        Self {
            now: Cell::new(START),
            ticks: 0,
            late: late.to_vec(),
            end,
        }
    }
}

impl Pace for Driven {
    fn wait_until(&mut self, deadline: MonoNs) -> Option<MonoNs> {
        if self.ticks == self.end {
            return None;
        }
        let late = self
            .late
            .iter()
            .find(|(tick, _)| *tick == self.ticks)
            .map_or(0, |(_, ns)| *ns);
        self.ticks += 1;
        self.now.set(deadline.0.max(self.now.get()) + late);
        Some(MonoNs(self.now.get()))
    }

    fn reading(&self) -> ClockReading {
        ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: MonoNs(self.now.get()),
            wall_unix_ns: 0,
        }
    }
}

/// One GPU, away at the ticks named.
struct FakeProbe {
    tick: u32,
    away: std::ops::Range<u32>,
    facts: Vec<GpuFacts>,
}

impl FakeProbe {
    fn new(away: std::ops::Range<u32>) -> Self {
        let facts = GpuFacts::unknown(GpuUuid("GPU-1".to_owned()), 0);
        Self {
            tick: 0,
            away,
            facts: vec![facts],
        }
    }
}

impl GpuProbe for FakeProbe {
    fn sample(&mut self, now: MonoNs) -> GpuReadings {
        let away = self.away.contains(&self.tick);
        self.tick += 1;
        let uuid = self.facts[0].uuid.clone();
        if away {
            let reason = GapReason::GpuLost;
            let lost = Away {
                source: Source::Gpu(uuid),
                reason,
                detail: "lost".to_owned(),
            };
            return GpuReadings {
                gpus: Vec::new(),
                away: vec![lost],
                errors: Vec::new(),
            };
        }
        GpuReadings {
            gpus: vec![GpuSample::unmeasured(uuid)],
            away: Vec::new(),
            errors: vec![GpuError {
                at: now,
                uuid: self.facts[0].uuid.clone(),
                xid: u64::from(self.tick),
            }],
        }
    }

    fn sample_slow(&mut self, gpus: &mut [GpuSample]) {
        for gpu in gpus {
            gpu.pcie_rx_bytes_per_s = Some(1);
        }
    }

    fn facts(&self) -> &[GpuFacts] {
        &self.facts
    }

    fn status(&self) -> Vec<ProbeStatus> {
        Vec::new()
    }
}

fn batches(mut pace: Driven, probe: FakeProbe, room: usize) -> Vec<TelemetryBatch> {
    let (out, mut taken) = mpsc::channel(room);
    let mut sources = Sources {
        host: HostReader::open(&Roots::system()),
        processes: ProcessWatch::new(Roots::system(), &[], false),
        gpus: Box::new(probe),
    };
    let mut assembler = Assembler::new(NodeId::try_new("n1").unwrap(), MonoNs(START), PERIOD);
    let losses = Losses::default();
    sample_until_stopped(
        &mut pace,
        &mut sources,
        &mut assembler,
        PERIOD,
        &out,
        &losses,
    );
    drop(out);
    std::iter::from_fn(|| taken.try_recv().ok()).collect()
}

fn instants(batch: &TelemetryBatch) -> Vec<u64> {
    batch
        .samples
        .iter()
        .map(|sample| (sample.at.0 - START) / 1_000_000)
        .collect()
}

#[test]
fn ten_ticks_a_second_make_one_batch_and_the_rest_follows_the_stop() {
    let batches = batches(Driven::new(23, &[]), FakeProbe::new(0..0), 10);
    assert_eq!(
        batches.iter().map(|b| b.samples.len()).collect::<Vec<_>>(),
        [10, 10, 3]
    );
    assert_eq!(batches.iter().map(|b| b.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        instants(&batches[1]),
        [1000, 1100, 1200, 1300, 1400, 1500, 1600, 1700, 1800, 1900]
    );
    assert!(batches.iter().all(|batch| batch.gaps.is_empty()));
    let sample = &batches[0].samples[0];
    assert_eq!(
        sample.gpus[0].pcie_rx_bytes_per_s,
        Some(1),
        "slow readings are added"
    );
    assert_eq!(batches[0].probes.len(), 2, "host and processes");
    let errors =
        |batch: &TelemetryBatch| batch.gpu_errors.iter().map(|e| e.xid).collect::<Vec<_>>();
    assert_eq!(errors(&batches[2]), [21, 22, 23], "each error is told once");
}

#[test]
fn a_late_tick_shifts_no_other_and_missed_ticks_are_a_gap() {
    let late = [(2, 30_000_000), (5, 330_000_000)];
    let batches = batches(Driven::new(9, &late), FakeProbe::new(0..0), 10);
    assert_eq!(instants(&batches[0]), [0, 100, 230, 300, 400, 830, 900]);
    let gap = &batches[0].gaps[0];
    assert_eq!(
        (gap.from.0 - START, gap.to.0 - START),
        (400_000_000, 830_000_000)
    );
    assert_eq!(
        (&gap.source, gap.reason),
        (&Source::Sampler, GapReason::Stalled)
    );
    assert_eq!(batches[0].gaps.len(), 1);
}

#[test]
fn a_lost_gpu_is_a_gap_and_the_host_goes_on() {
    let batches = batches(Driven::new(10, &[]), FakeProbe::new(3..6), 10);
    assert_eq!(batches[0].samples.len(), 10);
    let gap = &batches[0].gaps[0];
    assert_eq!(
        (gap.from.0 - START, gap.to.0 - START),
        (200_000_000, 600_000_000)
    );
    assert_eq!(gap.reason, GapReason::GpuLost);
    assert_eq!(batches[0].gaps.len(), 1);
}

#[test]
fn a_full_queue_drops_counts_and_tells() {
    // Room for two; nobody takes any until the end.
    let stored = batches(Driven::new(45, &[]), FakeProbe::new(0..0), 2);
    assert_eq!(stored.iter().map(|b| b.seq).collect::<Vec<_>>(), [1, 2]);

    // Room for one, and emptied later.
    let (out, mut taken) = mpsc::channel(1);
    let losses = Losses::default();
    let mut assembler = Assembler::new(NodeId::try_new("n1").unwrap(), MonoNs(START), PERIOD);
    let mut sources = Sources {
        host: HostReader::open(&Roots::system()),
        processes: ProcessWatch::new(Roots::system(), &[], false),
        gpus: Box::new(FakeProbe::new(0..0)),
    };
    let mut pace = Driven::new(30, &[]);
    sample_until_stopped(
        &mut pace,
        &mut sources,
        &mut assembler,
        PERIOD,
        &out,
        &losses,
    );
    assert_eq!(taken.try_recv().unwrap().seq, 1);
    let mut later = Driven::new(10, &[]);
    later.now.set(pace.now.get() + PERIOD);
    sample_until_stopped(
        &mut later,
        &mut sources,
        &mut assembler,
        PERIOD,
        &out,
        &losses,
    );
    let batch = taken.try_recv().unwrap();
    let full = batch
        .gaps
        .iter()
        .find(|gap| gap.reason == GapReason::QueueFull)
        .unwrap();
    assert_eq!(full.detail, "2 batches were lost");
    assert_eq!(full.from.0 - START, 900_000_000);
    assert_eq!(full.to.0 - START, 2_900_000_000);
    assert_eq!(batch.seq, 2, "what was never sent has no number");
}

/// A clock that goes on while a probe reads.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>, u32);

impl Pace for Clock {
    fn wait_until(&mut self, deadline: MonoNs) -> Option<MonoNs> {
        self.1 = self.1.checked_sub(1)?;
        let now = self.0.fetch_max(deadline.0, Ordering::Relaxed);
        Some(MonoNs(now.max(deadline.0)))
    }

    fn reading(&self) -> ClockReading {
        ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: MonoNs(self.0.load(Ordering::Relaxed)),
            wall_unix_ns: 0,
        }
    }
}

/// A probe that takes long at some ticks: (tick, how long).
struct SlowProbe(FakeProbe, Arc<AtomicU64>, Vec<(u32, u64)>);

impl GpuProbe for SlowProbe {
    fn sample(&mut self, now: MonoNs) -> GpuReadings {
        let tick = self.0.tick;
        let took = self.2.iter().find(|(slow, _)| *slow == tick);
        self.1
            .fetch_add(took.map_or(1_000_000, |(_, ns)| *ns), Ordering::Relaxed);
        self.0.sample(now)
    }

    fn sample_slow(&mut self, gpus: &mut [GpuSample]) {
        self.0.sample_slow(gpus);
    }

    fn facts(&self) -> &[GpuFacts] {
        self.0.facts()
    }

    fn status(&self) -> Vec<ProbeStatus> {
        self.0.status()
    }
}

#[test]
fn a_reading_that_overruns_its_tick_leaves_ticks_out_and_none_pile_up() {
    let now = Arc::new(AtomicU64::new(START));
    // Tick 2 takes 3.5 periods, tick 4 a little more than one.
    let slow = vec![(2, 350_000_000), (4, 110_000_000)];
    let mut sources = Sources {
        host: HostReader::open(&Roots::system()),
        processes: ProcessWatch::new(Roots::system(), &[], false),
        gpus: Box::new(SlowProbe(FakeProbe::new(0..0), Arc::clone(&now), slow)),
    };
    let (out, mut taken) = mpsc::channel(9);
    let mut assembler = Assembler::new(NodeId::try_new("n1").unwrap(), MonoNs(START), PERIOD);
    let losses = Losses::default();
    sample_until_stopped(
        &mut Clock(Arc::clone(&now), 6),
        &mut sources,
        &mut assembler,
        PERIOD,
        &out,
        &losses,
    );
    let batch = taken.try_recv().unwrap();
    assert_eq!(instants(&batch), [0, 100, 200, 600, 700, 900]);
    assert_eq!(batch.samples[2].took_ns, 350_000_000);
    // One gap, where two samples are more than two periods apart.
    let gaps: Vec<_> = batch
        .gaps
        .iter()
        .map(|gap| (gap.from.0 - START, gap.to.0 - START, gap.reason))
        .collect();
    assert_eq!(gaps, [(200_000_000, 600_000_000, GapReason::Stalled)]);
    let text = losses.board.render(MonoNs(now.load(Ordering::Relaxed)));
    assert!(
        text.contains("chimera_telemetry_missed_ticks_total 4.0"),
        "{text}"
    );
    assert!(text.contains("chimera_telemetry_ticks_total 6.0"), "{text}");
}

#[test]
fn the_grid_is_kept() {
    let at = |last, now| next_on_grid(MonoNs(last), 10, MonoNs(now)).0;
    assert_eq!(at(100, 100), 110);
    assert_eq!(at(100, 109), 110);
    assert_eq!(at(100, 110), 120);
    assert_eq!(at(100, 135), 140);
    assert_eq!(at(100, 90), 110);
}
