//! What a case runs on: a machine, its engines and agents, and what is wrong with them, drawn from
//! the seed.

use chimera_domain::attribution::Cause;

use super::case::Case;
use super::dice::Dice;
use super::trouble::Trouble;

/// One GiB, bytes.
pub(super) const GIB: f64 = 1_073_741_824.0;

/// Which engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// States load, prefill, decode and total; says what is resident, not who waits.
    Ollama,
    /// States prefill and decode; says who runs and waits.
    LlamaCpp,
}

/// What the host is.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) cores: u32,
    pub(super) memory_bytes: f64,
    /// Memory bandwidth, bytes a second.
    pub(super) bandwidth: f64,
    /// Whether it counts memory traffic (resctrl).
    pub(super) counts_traffic: bool,
    /// Whether the kernel tells the run delay of the agent's thread.
    pub(super) tells_client_wait: bool,
    /// Cores that small daemons use on average.
    pub(super) background: f64,
    /// A daemon large enough to be named. It was there in solo legs too.
    pub(super) daemon: Option<(&'static str, f64)>,
}

/// What a GPU is.
#[derive(Debug, Clone)]
pub(super) struct Gpu {
    pub(super) memory_bytes: f64,
    /// Held by driver, display and contexts with no model in memory.
    pub(super) base_bytes: f64,
    pub(super) clock_mhz: f64,
    pub(super) power_limit: f64,
    pub(super) power_idle: f64,
    pub(super) ambient_celsius: f64,
    pub(super) mps: bool,
    /// Whether the driver tells each process's use.
    pub(super) tells_processes_use: bool,
    /// A display server holds memory on it.
    pub(super) display: bool,
    /// Part of busy time in which the power limit takes a few MHz although all is well.
    pub(super) flicker: f64,
}

/// What an engine instance needs, as parts of its device at full speed.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    /// On which GPU. `None`: on the processor.
    pub(super) gpu: Option<usize>,
    /// Threads that compute on the processor; of a GPU engine those for offloaded layers.
    pub(super) threads: f64,
    pub(super) compute_prefill: f64,
    pub(super) compute_decode: f64,
    /// Part of the time in which one of its kernels runs while it writes, however little of the GPU
    /// it fills: what a driver calls utilisation.
    pub(super) kernels_decode: f64,
    pub(super) bandwidth_prefill: f64,
    pub(super) bandwidth_decode: f64,
    /// Part of a token's time that the host needs to feed the GPU.
    pub(super) host_part: f64,
    pub(super) size_bytes: f64,
    /// Alone and undisturbed, ms a token.
    pub(super) token_ms: f64,
    /// Alone and undisturbed, ms a prompt token.
    pub(super) prefill_ms: f64,
}

/// One agent.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) instance: usize,
    pub(super) local_ms: f64,
    /// It writes more than the others.
    pub(super) longer: bool,
    /// Prompt and output tokens of each request.
    pub(super) requests: Vec<(f64, f64)>,
}

/// How much everything varies with nothing wrong.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    pub(super) token: f64,
    pub(super) prefill: f64,
    /// Speed from run to run, and from leg to leg.
    pub(super) run: f64,
    pub(super) leg: f64,
    /// Stalls of 5 to 20 ms, per second of a request.
    pub(super) hiccups: f64,
    /// Part by which the length of an answer varies, where it is not forced.
    pub(super) length: f64,
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) product: Product,
    pub(super) shared: bool,
    pub(super) host: Host,
    pub(super) gpus: Vec<Gpu>,
    pub(super) instances: Vec<Instance>,
    pub(super) agents: Vec<Agent>,
    pub(super) noise: Noise,
    /// Load duration that Ollama states with nothing to load, ms.
    pub(super) warm_load_ms: f64,
    pub(super) loopback_ms: f64,
    pub(super) runs: u32,
    pub(super) trouble: Trouble,
    /// The machine in a few words.
    pub(super) words: String,
}

/// What the agents of a case compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    OneGpu,
    TwoGpus,
    Processor,
}

impl Scenario {
    pub(super) fn draw(case: &Case) -> Self {
        let mut dice = Dice::new(case.seed);
        let machine = machine(case, &mut dice);
        let shared = case.has(Cause::Queueing);
        let product = product(case, machine, &mut dice);
        let agents = agents(case, machine, &mut dice);
        let host = host(machine, agents, &mut dice);
        let instances = instances(
            case,
            machine,
            &host,
            if shared { 1 } else { agents },
            &mut dice,
        );
        let gpus = gpus(case, machine, &instances, &mut dice);
        let agents = work(case, shared, agents, machine, &mut dice);
        let trouble = Trouble::draw(case, &host, &gpus, &instances, &agents, &mut dice);
        let noise = Noise {
            token: dice.between(0.03, 0.08),
            prefill: dice.between(0.01, 0.03),
            run: dice.between(0.004, 0.012),
            leg: dice.between(0.003, 0.008),
            hiccups: dice.log_between(0.005, 0.06),
            length: match product {
                Product::Ollama => dice.between(0.0, 0.05),
                // `ignore_eos`: the length is forced.
                Product::LlamaCpp => 0.0,
            },
        };
        let words = format!(
            "{} {}{} on {}",
            agents.len(),
            match product {
                Product::Ollama => "agents, Ollama",
                Product::LlamaCpp => "agents, llama.cpp",
            },
            if shared { ", one shared instance" } else { "" },
            match machine {
                Machine::OneGpu => "one GPU".to_owned(),
                Machine::TwoGpus => "two GPUs".to_owned(),
                Machine::Processor => format!("{} cores", host.cores),
            }
        );
        Self {
            product,
            shared,
            gpus,
            instances,
            agents,
            noise,
            // Mostly a few ms; up to 200 on a machine that does other things too.
            warm_load_ms: dice.log_between(1.0, 80.0),
            loopback_ms: dice.log_between(0.05, 0.4),
            runs: dice.pick(&[4, 5, 5, 6]).unwrap_or(5),
            host,
            trouble,
            words,
        }
    }
}

fn machine(case: &Case, dice: &mut Dice) -> Machine {
    use Cause::{
        BandwidthContention, ComputeContention, CpuOffload, ForeignProcess, HostCpu, Queueing,
        Reload, ThermalOrPowerThrottle, VramPressure,
    };
    // A shared instance is on one device.
    if case.has(Cause::VramPressure) {
        return Machine::OneGpu;
    }
    // An engine that computes on the processor hardly meets who else is on its GPU.
    if case.has(CpuOffload) && case.has(ForeignProcess) {
        return Machine::TwoGpus;
    }
    let gpu = case.has_any(&[
        Reload,
        CpuOffload,
        ForeignProcess,
        ThermalOrPowerThrottle,
        VramPressure,
    ]);
    // Without cores engines move fewer bytes: on the processor the bandwidth would suffice again.
    if case.has(HostCpu) && case.has(BandwidthContention) {
        return Machine::OneGpu;
    }
    let contended = case.has_any(&[BandwidthContention, ComputeContention, Queueing]);
    let choice: &[Machine] = match (gpu, contended) {
        (true, true) => &[Machine::OneGpu],
        (true, false) => &[Machine::OneGpu, Machine::TwoGpus],
        (false, true) => &[Machine::OneGpu, Machine::Processor],
        (false, false) => &[Machine::OneGpu, Machine::TwoGpus, Machine::Processor],
    };
    dice.pick(choice).unwrap_or(Machine::OneGpu)
}

fn product(case: &Case, machine: Machine, dice: &mut Dice) -> Product {
    // Only Ollama loads and unloads by itself, and chooses by itself what goes onto the GPU.
    if case.has_any(&[Cause::Reload, Cause::CpuOffload, Cause::VramPressure]) {
        return Product::Ollama;
    }
    let ollama = match machine {
        Machine::OneGpu => 0.8,
        Machine::TwoGpus => 0.6,
        Machine::Processor => 0.15,
    };
    if dice.chance(ollama) {
        Product::Ollama
    } else {
        Product::LlamaCpp
    }
}

fn agents(case: &Case, machine: Machine, dice: &mut Dice) -> usize {
    let contention = [Cause::BandwidthContention, Cause::ComputeContention];
    let strongest = contention.iter().filter_map(|cause| case.strength(*cause));
    let few = if machine == Machine::TwoGpus {
        &[2_usize] as &[usize]
    } else {
        &[2, 2, 2, 2, 3, 3, 4]
    };
    let drawn = dice.pick(few).unwrap_or(2);
    // Two agents slow each other down to half at most; beyond that it takes a third.
    match strongest.fold(0.0_f64, f64::max) {
        strength if strength > 1.8 => drawn.max(3),
        _ => drawn,
    }
}

fn host(machine: Machine, agents: usize, dice: &mut Dice) -> Host {
    let cores: &[u32] = match machine {
        // One core each would leave none for anything else.
        Machine::Processor if agents > 3 => &[8, 8, 16],
        Machine::Processor => &[4, 8, 8, 16],
        Machine::OneGpu | Machine::TwoGpus => &[8, 12, 16],
    };
    let cores = dice.pick(cores).unwrap_or(8);
    Host {
        cores,
        memory_bytes: f64::from(cores) * 4.0 * GIB,
        bandwidth: dice.between(30e9, 80e9),
        counts_traffic: dice.chance(0.5),
        tells_client_wait: dice.chance(0.85),
        background: f64::from(cores) * dice.log_between(0.002, 0.015),
        daemon: dice
            .chance(0.25)
            .then(|| ("dockerd", dice.between(0.08, 0.2))),
    }
}

/// The work of one token costs `1 + overlap` of the device when all agents want it at once.
fn instances(
    case: &Case,
    machine: Machine,
    host: &Host,
    count: usize,
    dice: &mut Dice,
) -> Vec<Instance> {
    let agents = as_f64(count.max(2));
    let cores = f64::from(host.cores);
    // Where each has a device of its own, or there is one alone, nothing is shared.
    let apart = machine == Machine::TwoGpus || count == 1;
    // With a good margin: in the clean case all together need less than the device has.
    let light = if apart {
        dice.between(0.45, 0.8)
    } else {
        dice.between(0.55, 0.85) / agents
    };
    let bandwidth = case.strength(Cause::BandwidthContention);
    let compute = case.strength(Cause::ComputeContention);
    let wanted = |strength: f64| (1.0 + 0.5 * strength) / agents;
    let (token_ms, prefill_ms, prompt_cost) = match machine {
        Machine::Processor => (dice.between(15.0, 30.0), dice.between(1.5, 4.0), 0.3),
        _ => (dice.between(7.0, 16.0), dice.between(0.25, 0.6), 0.5),
    };
    let threads = match (machine, compute) {
        (Machine::Processor, Some(strength)) => (cores * wanted(strength)).ceil().min(cores),
        (Machine::Processor, None) if apart => (cores * 0.75).floor().max(1.0),
        (Machine::Processor, None) => (cores * 0.8 / agents).floor().max(1.0),
        _ => (cores / 5.0).floor().max(2.0),
    };
    let compute_decode = match (machine, compute) {
        (Machine::Processor, _) => 0.0,
        (_, Some(strength)) => wanted(strength).min(1.0),
        // With the kernels of all in one context (MPS) they run beside each other.
        (_, None) => {
            if bandwidth.is_some() {
                0.6 / agents
            } else {
                light
            }
        }
    };
    let compute_prefill = match (machine, compute) {
        (Machine::Processor, _) => 0.0,
        (_, Some(_)) => 1.0,
        (_, None) => {
            if apart {
                0.95
            } else {
                0.9 / agents
            }
        }
    };
    // Beside each other in one context kernels run most of the time and fill little; in turns each
    // has the whole GPU while it runs.
    let kernels_decode = if bandwidth.is_some() && machine != Machine::Processor {
        dice.between(0.8, 0.95)
    } else {
        compute_decode
    };
    let bandwidth_decode = match bandwidth {
        Some(strength) => wanted(strength).min(0.98),
        None if compute.is_some() => 0.6 / agents,
        None => light,
    };
    let size_bytes = dice.between(1.2, 3.2) * GIB;
    (0..count)
        .map(|place| Instance {
            gpu: match machine {
                Machine::Processor => None,
                Machine::OneGpu => Some(0),
                Machine::TwoGpus => Some(place),
            },
            threads,
            compute_prefill,
            compute_decode,
            kernels_decode,
            bandwidth_prefill: bandwidth_decode * prompt_cost * 0.5,
            bandwidth_decode,
            host_part: if machine == Machine::Processor {
                0.0
            } else {
                0.3
            },
            size_bytes: size_bytes * dice.between(0.95, 1.05),
            token_ms: token_ms * dice.between(0.97, 1.03),
            prefill_ms: prefill_ms * dice.between(0.97, 1.03),
        })
        .collect()
}

/// GPUs whose memory is as full as the case wants it.
fn gpus(case: &Case, machine: Machine, instances: &[Instance], dice: &mut Dice) -> Vec<Gpu> {
    let count = match machine {
        Machine::Processor => return Vec::new(),
        Machine::OneGpu => 1,
        Machine::TwoGpus => 2,
    };
    // Below the first regime with all in memory, or well inside one of them.
    let full = match case.strength(Cause::VramPressure) {
        Some(strength) => (0.67 + 0.19 * strength).min(0.97),
        None => dice.between(0.35, 0.6),
    };
    let bandwidth = case.has(Cause::BandwidthContention);
    let display = dice.chance(0.3);
    let base = dice.between(0.3, 0.5) * GIB + if display { 0.25 * GIB } else { 0.0 };
    let foreign = if case.has(Cause::ForeignProcess) {
        Trouble::FOREIGN_BYTES
    } else {
        0.0
    };
    let template = Gpu {
        memory_bytes: 0.0,
        base_bytes: base,
        clock_mhz: dice.pick(&[1_980.0, 2_520.0, 1_740.0]).unwrap_or(1_980.0),
        power_limit: dice.pick(&[220.0, 320.0, 350.0]).unwrap_or(320.0),
        power_idle: dice.between(15.0, 40.0),
        ambient_celsius: dice.between(30.0, 42.0),
        mps: bandwidth || dice.chance(0.15),
        tells_processes_use: dice.chance(0.85),
        display,
        flicker: if dice.chance(0.3) {
            dice.between(0.02, 0.15)
        } else {
            0.0
        },
    };
    (0..count)
        .map(|gpu| {
            let on_it = instances
                .iter()
                .filter(|instance| instance.gpu == Some(gpu));
            let models: f64 = on_it.map(|instance| instance.size_bytes).sum();
            Gpu {
                memory_bytes: (base + foreign + models) / full,
                ..template.clone()
            }
        })
        .collect()
}

/// What the agents do: as much as each other, unless the case wants it otherwise.
fn work(case: &Case, shared: bool, count: usize, machine: Machine, dice: &mut Dice) -> Vec<Agent> {
    let roles = ["collector", "insight", "critic", "planner"];
    let prompt = match machine {
        Machine::Processor => dice.between(150.0, 350.0),
        _ => dice.between(300.0, 800.0),
    };
    let output = match case.strength(Cause::Queueing) {
        // What the one waits is what the other takes.
        Some(strength) => (55.0 * strength.sqrt()).clamp(20.0, 100.0),
        None => dice.between(50.0, 100.0),
    };
    let longer = case
        .strength(Cause::LengthImbalance)
        .map_or(1.0, |strength| 1.0 + 1.5 * strength);
    // On a shared instance the one that comes last ends last.
    let long_one = if shared || dice.chance(0.5) {
        count - 1
    } else {
        0
    };
    let output = if longer > 2.0 { output * 0.6 } else { output };
    let local = dice.between(60.0, 150.0);
    roles
        .iter()
        .take(count)
        .enumerate()
        .map(|(place, role)| {
            let factor = if place == long_one { longer } else { 1.0 };
            let requests = [dice.between(0.95, 1.05), dice.between(0.95, 1.05)].map(|near| {
                (
                    (prompt * near).round(),
                    (output * factor * dice.between(0.97, 1.03)).round(),
                )
            });
            Agent {
                name: format!("{role}-{}", place + 1),
                role,
                instance: if shared { 0 } else { place },
                local_ms: local * dice.between(0.95, 1.05),
                longer: factor > 1.0,
                requests: requests.to_vec(),
            }
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a count of a few")]
pub(super) fn as_f64(count: usize) -> f64 {
    count as f64
}
