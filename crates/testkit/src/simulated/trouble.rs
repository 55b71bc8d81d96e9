//! What is wrong: the injected causes as physical quantities.

use chimera_domain::attribution::Cause;

use super::case::Case;
use super::dice::Dice;
use super::scenario::{Agent, GIB, Gpu, Host, Instance};

/// A model is loaded anew at one request.
#[derive(Debug, Clone)]
pub(super) struct Reload {
    pub(super) agent: usize,
    pub(super) request: usize,
    pub(super) load_ms: f64,
}

/// Layers of an instance are on the processor.
#[derive(Debug, Clone)]
pub(super) struct Offload {
    pub(super) instances: Vec<usize>,
    /// Part of the layers.
    pub(super) part: f64,
}

/// A GPU's clocks are held down.
#[derive(Debug, Clone)]
pub(super) struct Throttle {
    pub(super) gpu: usize,
    /// Clock over what it would be.
    pub(super) clock: f64,
    /// By heat; else by a power cap.
    pub(super) heat: bool,
}

/// Another process computes on a GPU.
#[derive(Debug, Clone)]
pub(super) struct Foreign {
    pub(super) gpu: usize,
    pub(super) compute: f64,
    pub(super) bandwidth: f64,
}

/// Another process computes on the host.
#[derive(Debug, Clone)]
pub(super) struct Hog {
    pub(super) name: &'static str,
    /// Cores that it would use.
    pub(super) cores: f64,
}

/// The worker cannot run when it wants to.
#[derive(Debug, Clone)]
pub(super) struct Stall {
    pub(super) agents: Vec<usize>,
    /// Mean length of a stall, ms.
    pub(super) ms: f64,
    /// Part of the time that is stalled.
    pub(super) duty: f64,
}

/// The way between agent and engine is long.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) agents: Vec<usize>,
    pub(super) one_way_ms: f64,
    pub(super) jitter_ms: f64,
    /// Part of the packets that must be sent again.
    pub(super) loss: f64,
    pub(super) resend_ms: f64,
}

/// Everything that is wrong in the together legs.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    pub(super) reload: Option<Reload>,
    pub(super) offload: Option<Offload>,
    pub(super) throttle: Option<Throttle>,
    pub(super) foreign: Option<Foreign>,
    pub(super) hog: Option<Hog>,
    pub(super) stall: Option<Stall>,
    pub(super) network: Option<Network>,
}

impl Trouble {
    /// What a foreign process holds of a GPU's memory.
    pub(super) const FOREIGN_BYTES: f64 = GIB;

    pub(super) fn draw(
        case: &Case,
        host: &Host,
        gpus: &[Gpu],
        instances: &[Instance],
        agents: &[Agent],
        dice: &mut Dice,
    ) -> Self {
        let some_gpu = (dice.unit() * 2.0).floor();
        // What slows the agent with less to do down only fills its idle time.
        let longer = agents.iter().position(|agent| agent.longer);
        let one = longer.unwrap_or_else(|| usize::from(dice.chance(0.5)));
        let agents = agents.len();
        let apart = case.has(Cause::CpuOffload) && case.has(Cause::ForeignProcess);
        let gpu = match (gpus.len() > 1, apart, longer) {
            (false, ..) => 0,
            (true, true, _) => 1 - one.min(1),
            (true, false, Some(longer)) => longer.min(1),
            (true, false, None) => usize::from(some_gpu > 0.5),
        };
        let struck = |all: bool, count: usize| -> Vec<usize> {
            if all || count < 2 {
                (0..count).collect()
            } else {
                vec![one.min(count - 1)]
            }
        };
        let (all_agents, all_instances) = (dice.chance(0.5), dice.chance(0.4) && !apart);
        // What the engines want of a resource while all of them write.
        let on_gpu = || {
            instances
                .iter()
                .filter(|instance| instance.gpu == Some(gpu))
        };
        let compute: f64 = on_gpu().map(|instance| instance.compute_decode).sum();
        let of_cores: f64 = instances
            .iter()
            .map(|instance| {
                if instance.gpu.is_some() {
                    1.0
                } else {
                    instance.threads
                }
            })
            .sum();
        let cores = f64::from(host.cores);
        Self {
            reload: case.strength(Cause::Reload).map(|strength| Reload {
                agent: one.min(agents - 1),
                request: usize::from(dice.chance(0.5)),
                load_ms: 1_500.0 * strength,
            }),
            offload: case.strength(Cause::CpuOffload).map(|strength| Offload {
                instances: struck(all_instances, instances.len()),
                // Of 32 layers, one at least.
                part: (32.0_f64 * 0.15 * strength).round().max(1.0) / 32.0,
            }),
            throttle: case
                .strength(Cause::ThermalOrPowerThrottle)
                .map(|strength| Throttle {
                    gpu,
                    clock: (-0.29 * strength).exp(),
                    heat: dice.chance(0.5),
                }),
            foreign: case
                .strength(Cause::ForeignProcess)
                .map(|strength| Foreign {
                    gpu,
                    compute: (1.0 - compute).max(0.0) + 0.35 * strength,
                    bandwidth: 0.25 + 0.15 * strength,
                }),
            hog: case.strength(Cause::HostCpu).map(|strength| Hog {
                name: dice
                    .pick(&["ffmpeg", "rustc", "python3", "stress-ng"])
                    .unwrap_or("ffmpeg"),
                cores: if gpus.is_empty() {
                    // Together with the engines, this much more than there are cores.
                    (cores - of_cores).max(0.0) + 0.35 * strength * cores.max(of_cores)
                } else {
                    cores * (0.9 + 0.6 * strength)
                },
            }),
            stall: case.strength(Cause::ClientOverload).map(|strength| Stall {
                agents: struck(all_agents, agents),
                ms: 300.0 * strength.powf(0.7),
                duty: 0.6,
            }),
            network: case.strength(Cause::Network).map(|strength| Network {
                agents: struck(all_agents, agents),
                one_way_ms: 50.0 * strength,
                jitter_ms: 6.0 * strength,
                loss: 0.01,
                resend_ms: 200.0 * strength.min(1.0),
            }),
        }
    }
}
