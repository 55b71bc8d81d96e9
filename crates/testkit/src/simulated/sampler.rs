//! What the telemetry service would write of the machine: the same fields, in the same steps.

mod gpu;

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry::{
    Absence, BusyProcess, HostSample, MissingField, ProbeState, ProbeStatus, ProcessPart,
    ProcessSample, Sample, Source, TelemetryBatch, TelemetryField,
};
use chimera_domain::units::MonoNs;

use super::device::Conditions;
use super::dice::Dice;
use super::engine::Engine;
use super::meter::{Meters, Process, has_server};
use super::records::clock;
use super::scenario::Scenario;
use gpu::{card_sample, facts, uuid};

/// Distance of two samples, ns.
pub(super) const PERIOD: f64 = 50e6;
/// Samples in a batch.
const BATCH: usize = 20;
/// Process ids. A runner that was loaded anew has the next one.
pub(super) const FIRST_SERVER: u32 = 2_000;
const FIRST_RUNNER: u32 = 3_000;
const FIRST_WORKER: u32 = 1_500;
const HOG: u32 = 7_000;
const DAEMON: u32 = 700;

/// Samples a machine and keeps the batches.
#[derive(Debug)]
pub(super) struct Sampler {
    node: NodeId,
    pub(super) batches: Vec<TelemetryBatch>,
    samples: Vec<Sample>,
    pub(super) due: f64,
    last: Option<Last>,
    /// Processes of others as counted a second ago, and what is said of them until the next look.
    second: (f64, f64, f64),
    others: Option<Vec<BusyProcess>>,
    ticks: usize,
    load1: f64,
}

#[derive(Debug, Clone)]
struct Last {
    at: f64,
    busy_core_s: f64,
    engines: Vec<f64>,
    workers: Vec<f64>,
}

/// The process that computes for an instance.
pub(super) fn runner(scenario: &Scenario, instance: usize, loads: u32) -> u32 {
    let place = u32::try_from(instance).unwrap_or(0);
    if has_server(scenario.product) {
        FIRST_RUNNER + 100 * place + loads
    } else {
        FIRST_SERVER + place
    }
}

impl Sampler {
    pub(super) fn new(node: NodeId, from: f64) -> Self {
        Self {
            node,
            batches: Vec::new(),
            samples: Vec::with_capacity(BATCH),
            due: from,
            last: None,
            second: (from, 0.0, 0.0),
            others: None,
            ticks: 0,
            load1: 0.4,
        }
    }

    pub(super) fn tick(
        &mut self,
        scenario: &Scenario,
        conditions: &Conditions,
        engines: &[Engine],
        resident: &[bool],
        meters: &Meters,
        dice: &mut Dice,
    ) {
        let at = self.due + dice.between(0.05, 0.4) * 1e6;
        let host = self.host(scenario, meters, at, dice);
        let processes = self.processes(scenario, engines, resident, meters, at);
        let gpus = scenario.gpus.iter().zip(&meters.cards).enumerate();
        let count = scenario.gpus.len().max(1);
        let gpus = gpus
            .map(|(place, (gpu, card))| {
                let turn = self.ticks % (2 * count);
                let turn = (turn / 2 == place).then_some(turn.is_multiple_of(2));
                card_sample(
                    scenario,
                    conditions,
                    engines,
                    resident,
                    (place, gpu, card),
                    turn,
                    dice,
                )
            })
            .collect();
        self.samples.push(Sample {
            at: mono(at),
            took_ns: whole(dice.between(0.2, 1.2) * 1e6),
            host,
            processes,
            gpus,
        });
        self.last = Some(Last {
            at,
            busy_core_s: steps(meters.busy_core_s),
            engines: meters
                .engines
                .iter()
                .map(|process| steps(process.cpu_s))
                .collect(),
            workers: meters
                .workers
                .iter()
                .map(|process| steps(process.cpu_s))
                .collect(),
        });
        self.due += PERIOD;
        self.ticks += 1;
        if self.samples.len() >= BATCH {
            self.close(scenario);
        }
    }

    /// Hands over what is left.
    pub(super) fn close(&mut self, scenario: &Scenario) {
        let Some(last) = self.samples.last() else {
            return;
        };
        let at = last.at.plus(last.took_ns);
        let seq = self.batches.len() as u64 + 1;
        self.batches.push(TelemetryBatch {
            node: self.node.clone(),
            sampler_started: MonoNs(1_000_000),
            seq,
            clock: clock(at),
            period_ns: whole(PERIOD),
            gpus: scenario.gpus.iter().enumerate().map(facts).collect(),
            probes: probes(scenario),
            samples: std::mem::take(&mut self.samples),
            gaps: Vec::new(),
            gpu_errors: Vec::new(),
        });
    }

    fn host(
        &mut self,
        scenario: &Scenario,
        meters: &Meters,
        at: f64,
        dice: &mut Dice,
    ) -> HostSample {
        let cores = scenario.host.cores;
        let busy_core_s = steps(meters.busy_core_s);
        let span = self.last.as_ref().map(|last| (at - last.at) / 1e9);
        let used = self
            .last
            .as_ref()
            .map(|last| busy_core_s - last.busy_core_s);
        let fraction = used
            .zip(span)
            .map(|(used, span)| (used / span / f64::from(cores)).clamp(0.0, 1.0));
        let (since, hog, daemon) = self.second;
        if at - since >= 1e9 {
            let seconds = (at - since) / 1e9;
            self.others = Some(others(scenario, meters, (hog, daemon), seconds));
            self.second = (at, meters.hog.cpu_s, meters.daemon.cpu_s);
        }
        self.load1 += (meters.wanted - self.load1) * (0.05 / 60.0);
        let available = scenario.host.memory_bytes * 0.6;
        HostSample {
            cpu_busy_fraction: fraction,
            core_busy_fractions: fraction
                .map_or_else(Vec::new, |fraction| per_core(cores, fraction, dice)),
            cpu_steal_fraction: fraction.map(|_| 0.0),
            cpu_busy_core_seconds: Some(busy_core_s),
            memory_total_bytes: Some(whole(scenario.host.memory_bytes)),
            memory_available_bytes: Some(whole(available)),
            load1: Some((self.load1 * 100.0).round() / 100.0),
            cpu_pressure_some_avg10: Some(0.0),
            cpu_pressure_some_seconds: Some((meters.pressure_s * 1e6).floor() / 1e6),
            memory_pressure_some_seconds: Some(0.0),
            io_pressure_some_seconds: Some(1.5),
            tasks_runnable: Some(small(meters.wanted + dice.between(0.5, 2.0))),
            context_switches: Some(whole(meters.switches)),
            memory_traffic_bytes: scenario
                .host
                .counts_traffic
                .then(|| whole(meters.traffic_bytes)),
            busy_others: self.others.clone(),
        }
    }

    fn processes(
        &self,
        scenario: &Scenario,
        engines: &[Engine],
        resident: &[bool],
        meters: &Meters,
        at: f64,
    ) -> Vec<ProcessSample> {
        let span = self.last.as_ref().map(|last| (at - last.at) / 1e9);
        let cores = |before: Option<&f64>, process: &Process| {
            Some((steps(process.cpu_s) - before?).max(0.0) / span?)
        };
        let before = |list: fn(&Last) -> &Vec<f64>, place: usize| {
            self.last.as_ref().and_then(|last| list(last).get(place))
        };
        let mut all = Vec::with_capacity(meters.workers.len() + 2 * engines.len());
        for (place, process) in meters.workers.iter().enumerate() {
            let pid = FIRST_WORKER + u32::try_from(place).unwrap_or(0);
            let used = cores(before(|last| &last.workers, place), process);
            let mut sample = told(pid, "agent-worker", process, used, 6, 60e6);
            sample.part = ProcessPart::Harness;
            all.push(sample);
        }
        for (place, (engine, process)) in engines.iter().zip(&meters.engines).enumerate() {
            let server = FIRST_SERVER + u32::try_from(place).unwrap_or(0);
            let pid = runner(scenario, place, engine.loads);
            let name = if has_server(scenario.product) {
                "ollama"
            } else {
                "llama-server"
            };
            if pid != server {
                all.push(told(
                    server,
                    name,
                    &Process::default(),
                    span.map(|_| 0.0),
                    18,
                    45e6,
                ));
            }
            if pid == server || resident.get(place) == Some(&true) {
                let used = cores(before(|last| &last.engines, place), process);
                let mut sample = told(pid, name, process, used, 24, 9e8);
                sample.parent_pid = (pid != server).then_some(server);
                all.push(sample);
            }
        }
        all.sort_by_key(|process| process.pid);
        all
    }
}

fn told(
    pid: u32,
    name: &str,
    process: &Process,
    used: Option<f64>,
    threads: u32,
    rss: f64,
) -> ProcessSample {
    ProcessSample {
        parent_pid: Some(1),
        cpu_seconds: Some(steps(process.cpu_s)),
        cores_used: used,
        rss_bytes: Some(whole(rss)),
        minor_faults: Some(20_000),
        major_faults: Some(12),
        threads: Some(threads),
        run_delay_seconds: Some((process.delay_s * 1e9).floor() / 1e9),
        voluntary_switches: Some(whole(process.cpu_s * 300.0)),
        involuntary_switches: Some(whole(process.delay_s * 250.0)),
        ..ProcessSample::unmeasured(pid, u64::from(pid) * 10, name)
    }
}

/// Processes of others that kept a tenth of a core busy over the last second.
fn others(
    scenario: &Scenario,
    meters: &Meters,
    (hog, daemon): (f64, f64),
    seconds: f64,
) -> Vec<BusyProcess> {
    let hog_name = |busy: &mut Vec<BusyProcess>| {
        let name = meters.hog_name.unwrap_or("ffmpeg");
        let cores = (meters.hog.cpu_s - hog) / seconds;
        // One process of a few threads, or several of one name.
        let count = small((cores / 4.0).ceil().max(1.0)).min(4);
        let each = cores / f64::from(count);
        busy.extend((0..count).map(|place| BusyProcess {
            pid: HOG + place,
            name: name.to_owned(),
            cores_used: (each * 100.0).round() / 100.0,
        }));
    };
    let mut busy = Vec::new();
    hog_name(&mut busy);
    if let Some((name, _)) = scenario.host.daemon {
        busy.push(BusyProcess {
            pid: DAEMON,
            name: name.to_owned(),
            cores_used: ((meters.daemon.cpu_s - daemon) / seconds * 100.0).round() / 100.0,
        });
    }
    busy.retain(|process| process.cores_used >= 0.1);
    busy.sort_by(|a, b| b.cores_used.total_cmp(&a.cores_used));
    busy
}

/// Whole cores busy, then one in part, beginning anywhere; in the steps of the kernel's clock.
fn per_core(cores: u32, fraction: f64, dice: &mut Dice) -> Vec<f64> {
    let first = small(dice.between(0.0, f64::from(cores)).floor());
    let mut left = fraction * f64::from(cores);
    let mut all = vec![0.0; cores as usize];
    for place in 0..cores {
        let part = left.clamp(0.0, 1.0);
        left -= part;
        if let Some(core) = all.get_mut(((first + place) % cores) as usize) {
            *core = (part * 5.0).round() / 5.0;
        }
    }
    all
}

fn probes(scenario: &Scenario) -> Vec<ProbeStatus> {
    let missing = |fields: &[TelemetryField]| ProbeState::Measured {
        missing: fields
            .iter()
            .map(|field| MissingField {
                field: *field,
                reason: Absence::NotSupported,
            })
            .collect(),
    };
    let traffic: &[TelemetryField] = if scenario.host.counts_traffic {
        &[]
    } else {
        &[TelemetryField::MemoryTraffic]
    };
    let mut all = vec![
        ProbeStatus {
            source: Source::Host,
            state: missing(traffic),
        },
        ProbeStatus {
            source: Source::Processes,
            state: missing(&[]),
        },
    ];
    if scenario.gpus.is_empty() {
        let state = ProbeState::NotMeasured {
            reason: Absence::NoLibrary,
            detail: "no NVIDIA driver on this node".to_owned(),
        };
        all.push(ProbeStatus {
            source: Source::Gpus,
            state,
        });
    }
    for (place, gpu) in scenario.gpus.iter().enumerate() {
        let mut absent = vec![];
        if !gpu.tells_processes_use {
            absent.push(TelemetryField::GpuProcessUtilisation);
        }
        absent.push(TelemetryField::Ecc);
        all.push(ProbeStatus {
            source: Source::Gpu(uuid(place)),
            state: missing(&absent),
        });
    }
    all
}

/// In the kernel's steps of 10 ms.
fn steps(seconds: f64) -> f64 {
    (seconds * 100.0).floor() / 100.0
}

pub(super) fn mono(ns: f64) -> MonoNs {
    MonoNs(whole(ns))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that is not negative, far below 2^53"
)]
pub(super) fn whole(number: f64) -> u64 {
    number.max(0.0).round() as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small count that is not negative"
)]
fn small(number: f64) -> u32 {
    number.max(0.0) as u32
}
