//! What counters of the host and its GPUs have counted.

use super::device::{Balance, Conditions, Phase};
use super::engine::Engine;
use super::scenario::{Gpu, Product, Scenario};

/// Length of the window over which a driver states utilisation, ns.
const WINDOW: f64 = 1e9 / 6.0;

/// A process's own counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    pub(super) cpu_s: f64,
    pub(super) delay_s: f64,
    /// Core-seconds a second at this instant.
    pub(super) cores: f64,
}

/// Part of a window in use, summed while it lasts and stated when it is over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    compute: f64,
    memory: f64,
    pub(super) stated: (f64, f64),
}

impl Use {
    fn add(&mut self, compute: f64, memory: f64, part: f64) {
        self.compute += compute.min(1.0) * part;
        self.memory += memory.min(1.0) * part;
    }

    fn close(&mut self) {
        self.stated = (self.compute.min(1.0), self.memory.min(1.0));
        (self.compute, self.memory) = (0.0, 0.0);
    }
}

/// One GPU.
#[derive(Debug, Clone, Default)]
pub(super) struct Card {
    pub(super) used: Use,
    /// By instance, then the foreign process.
    pub(super) by_process: Vec<Use>,
    pub(super) energy_j: f64,
    /// Mean over about a second.
    pub(super) power: f64,
    pub(super) celsius: f64,
    pub(super) memory_bytes: f64,
    /// To the GPU and from it, bytes a second at this instant.
    pub(super) pcie: (f64, f64),
    pub(super) busy: f64,
}

/// Everything that counts.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    pub(super) busy_core_s: f64,
    pub(super) pressure_s: f64,
    pub(super) switches: f64,
    pub(super) traffic_bytes: f64,
    pub(super) wanted: f64,
    /// Cores in use at this instant.
    pub(super) busy: f64,
    /// By instance.
    pub(super) engines: Vec<Process>,
    /// By agent.
    pub(super) workers: Vec<Process>,
    pub(super) hog: Process,
    pub(super) hog_name: Option<&'static str>,
    pub(super) daemon: Process,
    pub(super) cards: Vec<Card>,
    window_ends: f64,
    /// Slow variation of the background.
    pub(super) background: f64,
}

impl Meters {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let card = |gpu: &Gpu| Card {
            by_process: vec![Use::default(); scenario.instances.len() + 1],
            power: gpu.power_idle,
            celsius: gpu.ambient_celsius + 8.0,
            energy_j: 1.0e5,
            ..Card::default()
        };
        Self {
            busy_core_s: 4_000.0,
            pressure_s: 30.0,
            switches: 1.0e6,
            traffic_bytes: 1.0e12,
            wanted: 0.0,
            busy: 0.0,
            engines: vec![Process::default(); scenario.instances.len()],
            workers: vec![Process::default(); scenario.agents.len()],
            hog: Process::default(),
            hog_name: scenario.trouble.hog.as_ref().map(|hog| hog.name),
            daemon: Process::default(),
            cards: scenario.gpus.iter().map(card).collect(),
            window_ends: WINDOW,
            background: scenario.host.background,
        }
    }

    /// Counts on over `dt` ns that end at `now`.
    pub(super) fn count(
        &mut self,
        scenario: &Scenario,
        conditions: &Conditions,
        engines: &[Engine],
        resident: &[bool],
        balance: &Balance,
        (now, dt): (f64, f64),
    ) {
        let seconds = dt / 1e9;
        let cores = f64::from(scenario.host.cores);
        let crowd = (balance.wanted / cores).min(1.0);
        // Even with cores free a thread sometimes wakes up on a busy one.
        let unlucky = 0.002 + 0.02 * crowd.powi(6);
        let spent = |process: &mut Process, wanted: f64| {
            process.cores = wanted * balance.share;
            process.cpu_s += process.cores * seconds;
            process.delay_s += wanted * (1.0 - balance.share + unlucky) * seconds;
        };
        for (process, pace) in self.engines.iter_mut().zip(&balance.engines) {
            spent(process, pace.cores_wanted);
        }
        let stalled = conditions.trouble.stall.as_ref();
        for (place, process) in self.workers.iter_mut().enumerate() {
            let busy = stalled.is_some_and(|stall| stall.agents.contains(&place));
            spent(process, if busy { 0.95 } else { 0.01 });
            if let Some(stall) = stalled.filter(|_| busy) {
                process.delay_s += stall.duty * seconds;
            }
        }
        let hog = conditions.trouble.hog.as_ref().map_or(0.0, |hog| hog.cores);
        spent(&mut self.hog, hog);
        let daemon = scenario.host.daemon.map_or(0.0, |(_, cores)| cores);
        spent(&mut self.daemon, daemon);
        self.busy = balance.wanted * balance.share;
        self.wanted = balance.wanted;
        self.busy_core_s += self.busy * seconds;
        let over = (balance.wanted / cores - 1.0).max(0.0);
        let waiting = if over > 0.0 {
            0.5 + 0.5 * (over * 4.0).min(1.0)
        } else {
            0.03 * crowd.powi(6)
        };
        self.pressure_s += waiting * seconds;
        self.switches += (400.0 + 300.0 * balance.wanted) * seconds;
        let on_host: f64 = scenario
            .instances
            .iter()
            .zip(&balance.engines)
            .filter(|(instance, _)| instance.gpu.is_none())
            .map(|(_, pace)| pace.bandwidth)
            .sum();
        self.traffic_bytes += (on_host.min(1.0) * scenario.host.bandwidth * 0.92 + 3e8) * seconds;
        let close = now >= self.window_ends;
        for (place, (card, gpu)) in self.cards.iter_mut().zip(&scenario.gpus).enumerate() {
            card.count(
                scenario, gpu, place, conditions, engines, resident, balance, seconds,
            );
            if close {
                card.used.close();
                card.by_process.iter_mut().for_each(Use::close);
            }
        }
        if close {
            self.window_ends = now + WINDOW;
        }
    }
}

impl Card {
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of one card: what it is and what is done on it"
    )]
    fn count(
        &mut self,
        scenario: &Scenario,
        gpu: &Gpu,
        place: usize,
        conditions: &Conditions,
        engines: &[Engine],
        resident: &[bool],
        balance: &Balance,
        seconds: f64,
    ) {
        let part = seconds * 1e9 / WINDOW;
        // Kernels in turns add up; beside each other they cover the same time.
        let (mut compute, mut still, mut memory) = (0.0, 1.0, 0.0);
        let (mut rx, mut tx) = (2e5, 2e5);
        self.memory_bytes = gpu.base_bytes;
        let all = scenario
            .instances
            .iter()
            .zip(engines)
            .zip(resident)
            .zip(&balance.engines)
            .enumerate();
        for (instance_place, (((instance, engine), resident), pace)) in all {
            if instance.gpu != Some(place) {
                continue;
            }
            compute += pace.kernels;
            still *= 1.0 - pace.kernels.min(1.0);
            memory += pace.bandwidth;
            if let Some(process) = self.by_process.get_mut(instance_place) {
                process.add(pace.kernels, pace.bandwidth, part);
            }
            let phase = engine.phase();
            let held = instance.size_bytes * (1.0 - conditions.offloaded(instance_place));
            if phase == Phase::Load {
                rx += 2.5e9;
                self.memory_bytes += held * 0.4;
            } else if *resident {
                self.memory_bytes += held;
            }
            if pace.compute > 0.0 {
                rx += 4e6;
                tx += 2e6;
                if conditions.offloaded(instance_place) > 0.0 {
                    rx += 6e7;
                    tx += 6e7;
                }
                let full = conditions.full(place);
                if full >= super::device::THRASHING {
                    rx += 9e9;
                    tx += 3e9;
                } else if full >= super::device::PRESSURED {
                    rx += 4e8;
                    tx += 4e8;
                }
            }
        }
        if let Some(foreign) = conditions.foreign(place) {
            let used = balance.foreign.get(place).copied().unwrap_or(0.0);
            compute += used;
            memory += foreign.bandwidth * used;
            self.memory_bytes += super::trouble::Trouble::FOREIGN_BYTES;
            if let Some(process) = self.by_process.last_mut() {
                process.add(used, foreign.bandwidth * used, part);
            }
        }
        let beside = instances_beside(scenario);
        let compute = if beside && conditions.foreign(place).is_none() {
            1.0 - still
        } else {
            compute
        };
        self.used.add(compute, memory, part);
        self.busy = compute.min(1.0);
        self.pcie = (rx, tx);
        let clock = conditions.clock(place);
        let load = 0.35 * compute.min(1.0) + 0.45 * memory.min(1.0);
        let capped = conditions
            .trouble
            .throttle
            .as_ref()
            .is_some_and(|t| t.gpu == place && !t.heat);
        let draw = gpu.power_idle
            + (gpu.power_limit - gpu.power_idle)
                * (0.12 * f64::from(u8::from(compute > 0.0)) + load * clock.powi(2));
        let draw = if capped {
            draw.min(gpu.power_limit * 0.6 * clock.max(0.4))
        } else {
            draw
        };
        self.energy_j += draw * seconds;
        self.power += (draw - self.power) * (seconds / 0.6).min(1.0);
        let heated = conditions
            .trouble
            .throttle
            .as_ref()
            .is_some_and(|t| t.gpu == place && t.heat);
        let settles = if heated {
            87.0
        } else {
            gpu.ambient_celsius + 0.1 * draw
        };
        let pace = if heated { 0.4 } else { 12.0 };
        self.celsius += (settles - self.celsius) * (seconds / pace).min(1.0);
    }
}

/// Whether kernels of the engines run beside each other.
fn instances_beside(scenario: &Scenario) -> bool {
    scenario
        .instances
        .iter()
        .any(|instance| instance.kernels_decode > instance.compute_decode)
}

/// Whether the product's own server stands above the process that computes.
pub(super) fn has_server(product: Product) -> bool {
    product == Product::Ollama
}
