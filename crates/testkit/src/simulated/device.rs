//! What shares what: from who computes at this instant, how fast each can go.
//!
//! Rule. The host's threads share its cores evenly, and threads that wait for each other at every
//! step lose more than their share. Work on one device slows down when all that is wanted of its
//! compute time, or of its memory bandwidth, exceeds what it has; what saturates first decides.
//! Prefill hardly needs bandwidth. Lower clocks slow prefill in proportion, decode by less. Above
//! 83 % of its memory a GPU fetches pages over PCIe for every token.

use chimera_domain::attribution::Cause;

use super::scenario::{Instance, Scenario};
use super::trouble::{Foreign, Trouble};

/// How much more a layer takes on the processor than on the GPU.
const OFFLOAD_COST: f64 = 8.0;
/// What waiting for the slowest thread makes of a lost share of the cores.
const BARRIER: f64 = 1.25;
/// How far decode follows the clock of the processors on a GPU: its memory has a clock of its own.
const DECODE_BY_CLOCK: f64 = 0.7;
/// From this part of a GPU's memory on, allocations have to make room. *Source*: TR110 4.4.
pub(super) const PRESSURED: f64 = 0.67;
/// From this part on, what is needed does not stay. *Source*: TR110 4.4.
pub(super) const THRASHING: f64 = 0.83;

/// What an engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, or waiting.
    Idle,
    /// A model is read.
    Load,
    /// The prompt.
    Prefill,
    /// The answer.
    Decode,
}

/// What holds in a leg.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    /// What is wrong; nothing in solo legs.
    pub(super) trouble: Trouble,
    /// Speed of each instance in this leg, 1 as usual.
    pub(super) speed: Vec<f64>,
    /// Part of each GPU's memory in use with all models in memory.
    pub(super) full: Vec<f64>,
}

impl Conditions {
    pub(super) fn offloaded(&self, instance: usize) -> f64 {
        match &self.trouble.offload {
            Some(offload) if offload.instances.contains(&instance) => offload.part,
            _ => 0.0,
        }
    }

    pub(super) fn clock(&self, gpu: usize) -> f64 {
        match &self.trouble.throttle {
            Some(throttle) if throttle.gpu == gpu => throttle.clock,
            _ => 1.0,
        }
    }

    pub(super) fn foreign(&self, gpu: usize) -> Option<&Foreign> {
        self.trouble
            .foreign
            .as_ref()
            .filter(|foreign| foreign.gpu == gpu)
    }

    pub(super) fn full(&self, gpu: usize) -> f64 {
        self.full.get(gpu).copied().unwrap_or(0.0)
    }
}

/// How one engine goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Time that work takes, over what it takes alone and undisturbed.
    pub(super) stretch: f64,
    /// Cores that its threads want.
    pub(super) cores_wanted: f64,
    /// Part of the GPU's time that its kernels run.
    pub(super) compute: f64,
    /// Part of the time in which one of its kernels runs.
    pub(super) kernels: f64,
    /// Part of its device's bandwidth that it uses.
    pub(super) bandwidth: f64,
    /// Logarithms of the factors of `stretch` that are somebody's fault.
    pub(super) faults: [(Cause, f64); 7],
}

impl Pace {
    /// Nothing to do.
    pub(super) const STILL: Self = Self {
        stretch: 1.0,
        cores_wanted: 0.0,
        compute: 0.0,
        kernels: 0.0,
        bandwidth: 0.0,
        faults: [(Cause::Unexplained, 0.0); 7],
    };
}

/// Everything at an instant.
#[derive(Debug, Clone, Default)]
pub(super) struct Balance {
    /// By instance.
    pub(super) engines: Vec<Pace>,
    /// Part of what each thread wants that it gets.
    pub(super) share: f64,
    /// Cores that all threads of the host want.
    pub(super) wanted: f64,
    /// By GPU: part of the time that kernels of the foreign process run.
    pub(super) foreign: Vec<f64>,
}

/// Who goes how fast. `others`: cores that daemons and the harness want.
pub(super) fn balance(
    scenario: &Scenario,
    conditions: &Conditions,
    phases: &[Phase],
    others: f64,
    into: &mut Balance,
) {
    let engines = || scenario.instances.iter().zip(phases).enumerate();
    let cores = f64::from(scenario.host.cores);
    let hog = conditions.trouble.hog.as_ref().map_or(0.0, |hog| hog.cores);
    let engine_cores: f64 = engines()
        .map(|(place, (instance, phase))| {
            cores_wanted(instance, *phase, conditions.offloaded(place))
        })
        .sum();
    into.wanted = engine_cores + others + hog;
    into.share = (cores / into.wanted).min(1.0);
    let without_hog = (cores / (engine_cores + others)).min(1.0);
    let cpu = Cores {
        share: into.share,
        without_hog,
    };
    into.foreign.clear();
    into.foreign.resize(scenario.gpus.len(), 0.0);
    into.engines.clear();

    // First what each would use if nobody else used the device.
    let mut wants: [(Option<usize>, f64, f64); 8] = [(None, 0.0, 0.0); 8];
    for ((place, (instance, phase)), want) in engines().zip(&mut wants) {
        let alone = Alone::of(instance, *phase, conditions, place, cpu);
        *want = (instance.gpu, alone.compute, alone.bandwidth);
    }
    let sum = |gpu: Option<usize>| {
        let on_it = wants.iter().filter(move |(on, ..)| *on == gpu);
        on_it.fold((0.0, 0.0), |(c, b), (_, compute, bandwidth)| {
            (c + compute, b + bandwidth)
        })
    };
    for (place, (instance, phase)) in engines() {
        let alone = Alone::of(instance, *phase, conditions, place, cpu);
        let (compute, bandwidth) = sum(instance.gpu);
        let own = Demand { compute, bandwidth };
        let foreign = instance.gpu.and_then(|gpu| conditions.foreign(gpu));
        let all = Demand {
            compute: compute + foreign.map_or(0.0, |foreign| foreign.compute),
            bandwidth: bandwidth + foreign.map_or(0.0, |foreign| foreign.bandwidth),
        };
        let needs = need_of_bandwidth(*phase);
        let (by_own, by_all) = (own.stretch(needs), all.stretch(needs));
        // Only the part of the work that is on the device waits for the device.
        let stretch = alone.stretch + alone.on_device * (by_all - 1.0);
        let shared = ((alone.stretch + alone.on_device * (by_own - 1.0)) / alone.stretch).ln();
        let by_foreign = (stretch / alone.stretch).ln() - shared;
        let shared_by = if own.compute >= own.bandwidth {
            Cause::ComputeContention
        } else {
            Cause::BandwidthContention
        };
        into.engines.push(Pace {
            stretch,
            cores_wanted: cores_wanted(instance, *phase, conditions.offloaded(place)),
            compute: alone.compute / by_all,
            kernels: kernels(instance, *phase, alone.compute, by_all),
            bandwidth: alone.bandwidth / by_all,
            faults: [
                (shared_by, shared),
                (Cause::ComputeContention, alone.crowded),
                (Cause::ForeignProcess, by_foreign),
                (Cause::HostCpu, alone.hogged),
                (Cause::CpuOffload, alone.offloaded),
                (Cause::ThermalOrPowerThrottle, alone.throttled),
                (Cause::VramPressure, alone.paged),
            ],
        });
    }
    for (gpu, used) in into.foreign.iter_mut().enumerate() {
        if let Some(foreign) = conditions.foreign(gpu) {
            let (compute, _) = sum(Some(gpu));
            *used = foreign.compute / (compute + foreign.compute).max(1.0);
        }
    }
}

/// Part of the time in which a kernel runs: work that waits for bandwidth is a kernel that runs longer.
fn kernels(instance: &Instance, phase: Phase, compute: f64, stretch: f64) -> f64 {
    let alone = if phase == Phase::Decode && instance.compute_decode > 0.0 {
        compute * instance.kernels_decode / instance.compute_decode
    } else {
        compute
    };
    if instance.kernels_decode > instance.compute_decode {
        alone.min(1.0)
    } else {
        alone / stretch
    }
}

#[derive(Clone, Copy)]
struct Cores {
    share: f64,
    without_hog: f64,
}

/// What is wanted of a device, as parts of what it has.
struct Demand {
    compute: f64,
    bandwidth: f64,
}

impl Demand {
    fn stretch(&self, need_of_bandwidth: f64) -> f64 {
        let bandwidth = 1.0 + (self.bandwidth - 1.0).max(0.0) * need_of_bandwidth;
        self.compute.max(bandwidth).max(1.0)
    }
}

/// How far a phase slows down where bandwidth is short.
fn need_of_bandwidth(phase: Phase) -> f64 {
    match phase {
        Phase::Decode => 1.0,
        Phase::Prefill => 0.15,
        Phase::Idle | Phase::Load => 0.0,
    }
}

fn cores_wanted(instance: &Instance, phase: Phase, offloaded: f64) -> f64 {
    match (phase, instance.gpu) {
        (Phase::Idle, _) => 0.0,
        (Phase::Load, _) => 1.0,
        (_, None) => instance.threads,
        // The thread that feeds the GPU waits for it without sleeping.
        (_, Some(_)) => 1.0 + instance.threads * on_processor(offloaded),
    }
}

/// Part of a token's time in which offloaded layers compute.
fn on_processor(offloaded: f64) -> f64 {
    offloaded * OFFLOAD_COST / (1.0 - offloaded + offloaded * OFFLOAD_COST)
}

/// An engine with its device for itself.
#[derive(Default)]
struct Alone {
    stretch: f64,
    on_device: f64,
    compute: f64,
    bandwidth: f64,
    crowded: f64,
    hogged: f64,
    offloaded: f64,
    throttled: f64,
    paged: f64,
}

impl Alone {
    fn of(
        instance: &Instance,
        phase: Phase,
        conditions: &Conditions,
        place: usize,
        cpu: Cores,
    ) -> Self {
        let (compute, bandwidth) = match phase {
            Phase::Prefill => (instance.compute_prefill, instance.bandwidth_prefill),
            Phase::Decode => (instance.compute_decode, instance.bandwidth_decode),
            Phase::Idle | Phase::Load => {
                return Self {
                    stretch: 1.0,
                    ..Self::default()
                };
            }
        };
        let Some(gpu) = instance.gpu else {
            let stretch = cpu.share.powf(-BARRIER);
            let crowded = -BARRIER * cpu.without_hog.ln();
            return Self {
                stretch,
                on_device: 1.0,
                bandwidth: bandwidth / stretch,
                crowded,
                hogged: stretch.ln() - crowded,
                ..Self::default()
            };
        };
        let part = conditions.offloaded(place);
        let by_clock = if phase == Phase::Decode {
            DECODE_BY_CLOCK
        } else {
            1.0
        };
        let clock = conditions.clock(gpu).powf(by_clock);
        let paging = paging(conditions.full(gpu), phase);
        let host = instance.host_part;
        let time = |part: f64, clock: f64, paging: f64, share: f64| {
            (1.0 - host) * ((1.0 - part) / clock * paging + part * OFFLOAD_COST / share)
                + host / share
        };
        let stretch = time(part, clock, paging, cpu.share);
        let without =
            |part, clock, paging, share| (stretch / time(part, clock, paging, share)).ln().max(0.0);
        let crowded =
            without(part, clock, paging, 1.0) - without(part, clock, paging, cpu.without_hog);
        Self {
            stretch,
            on_device: (1.0 - host) * (1.0 - part) / clock * paging,
            compute: compute * (1.0 - part) / clock / stretch,
            bandwidth: bandwidth * (1.0 - part) / stretch,
            crowded,
            hogged: without(part, clock, paging, cpu.without_hog),
            offloaded: without(0.0, clock, paging, cpu.share),
            throttled: without(part, 1.0, paging, cpu.share),
            paged: without(part, clock, 1.0, cpu.share),
        }
    }
}

/// What fetching pages makes of the work on the GPU.
fn paging(full: f64, phase: Phase) -> f64 {
    if full < THRASHING {
        return 1.0;
    }
    let depth = (full - THRASHING) / (1.0 - THRASHING);
    match phase {
        Phase::Decode => 1.4 + 2.0 * depth,
        _ => 1.2 + depth,
    }
}
