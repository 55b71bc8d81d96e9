//! What a driver would say of a GPU.

use chimera_domain::telemetry::{
    GpuFacts, GpuProcess, GpuProcessKind, GpuSample, GpuUuid, ThrottleReason,
};

use super::{runner, small, whole};
use crate::simulated::device::Conditions;
use crate::simulated::dice::Dice;
use crate::simulated::engine::Engine;
use crate::simulated::meter::{Card, Use};
use crate::simulated::scenario::{GIB, Gpu, Scenario};
use crate::simulated::trouble::Trouble;

/// Process ids of those who are no engines of ours.
const DISPLAY: u32 = 900;
const FOREIGN: u32 = 8_000;

pub(super) fn card_sample(
    scenario: &Scenario,
    conditions: &Conditions,
    engines: &[Engine],
    resident: &[bool],
    (place, gpu, card): (usize, &Gpu, &Card),
    turn: Option<bool>,
    dice: &mut Dice,
) -> GpuSample {
    let percent = |part: f64| (part * 100.0).round() / 100.0;
    let noisy = |part: f64, dice: &mut Dice| {
        if part <= 0.0 {
            0.0
        } else {
            percent((part + 0.015 * dice.normal()).clamp(0.0, 1.0))
        }
    };
    let (compute, memory) = card.used.stated;
    let idle = card.busy <= 0.0 && compute <= 0.0;
    let (clock, reasons) = clocks(conditions, place, gpu, idle, dice);
    let total = gpu.memory_bytes;
    let reserved = 0.02 * total;
    let pcie = |to: bool, dice: &mut Dice| {
        let (rx, tx) = card.pcie;
        (turn == Some(to)).then(|| whole((if to { rx } else { tx }) * dice.factor(0.2)))
    };
    GpuSample {
        utilisation: Some(noisy(compute, dice)),
        memory_utilisation: Some(noisy(memory, dice)),
        memory_used_bytes: Some(mebibytes(card.memory_bytes)),
        memory_free_bytes: Some(mebibytes((total - card.memory_bytes - reserved).max(0.0))),
        memory_reserved_bytes: Some(mebibytes(reserved)),
        power_watts: Some((card.power * 100.0).round() / 100.0),
        energy_joules: Some((card.energy_j * 1e3).round() / 1e3),
        sm_clock_mhz: Some(clock),
        memory_clock_mhz: Some(if idle { 405 } else { 9_501 }),
        throttle_reasons: Some(reasons),
        pcie_rx_bytes_per_s: pcie(true, dice),
        pcie_tx_bytes_per_s: pcie(false, dice),
        temperature_celsius: Some(small(card.celsius)),
        ecc_corrected: None,
        ecc_uncorrected: None,
        processes: Some(on_gpu(
            scenario,
            conditions,
            engines,
            resident,
            (place, gpu, card),
        )),
        ..GpuSample::unmeasured(uuid(place))
    }
}

/// The clock in the driver's steps of 15 MHz, and what holds it down.
fn clocks(
    conditions: &Conditions,
    place: usize,
    gpu: &Gpu,
    idle: bool,
    dice: &mut Dice,
) -> (u32, Vec<ThrottleReason>) {
    if idle {
        return (210, vec![ThrottleReason::GpuIdle]);
    }
    let held = conditions
        .trouble
        .throttle
        .as_ref()
        .filter(|throttle| throttle.gpu == place);
    let mut reasons = Vec::new();
    let mut clock = gpu.clock_mhz * conditions.clock(place);
    if let Some(throttle) = held {
        // The governor swings about its limit.
        clock *= dice.between(0.97, 1.03);
        if dice.chance(0.92) {
            reasons.push(match (throttle.heat, throttle.clock < 0.6) {
                (false, _) => ThrottleReason::SoftwarePowerCap,
                (true, false) => ThrottleReason::SoftwareThermal,
                (true, true) => ThrottleReason::HardwareThermal,
            });
        }
        if throttle.heat && throttle.clock < 0.6 {
            reasons.push(ThrottleReason::HardwareSlowdown);
        }
    } else if dice.chance(gpu.flicker) {
        clock *= 0.985;
        reasons.push(ThrottleReason::SoftwarePowerCap);
    }
    (15 * small((clock / 15.0).round()), reasons)
}

fn on_gpu(
    scenario: &Scenario,
    conditions: &Conditions,
    engines: &[Engine],
    resident: &[bool],
    (place, gpu, card): (usize, &Gpu, &Card),
) -> Vec<GpuProcess> {
    let process = |pid: u32, bytes: f64, used: Option<&Use>, kind| {
        let used = used
            .filter(|_| gpu.tells_processes_use)
            .map(|used| used.stated);
        GpuProcess {
            pid,
            memory_used_bytes: Some(mebibytes(bytes)),
            utilisation: used.map(|(compute, _)| (compute * 100.0).round() / 100.0),
            memory_utilisation: used.map(|(_, memory)| (memory * 100.0).round() / 100.0),
            kind,
        }
    };
    let mut all = Vec::new();
    if gpu.display {
        all.push(process(
            DISPLAY,
            0.25 * GIB,
            Some(&Use::default()),
            GpuProcessKind::Graphics,
        ));
    }
    let instances = scenario
        .instances
        .iter()
        .zip(engines)
        .zip(resident)
        .enumerate();
    for (instance_place, ((instance, engine), resident)) in instances {
        if instance.gpu == Some(place) && *resident {
            let held = instance.size_bytes * (1.0 - conditions.offloaded(instance_place));
            all.push(process(
                runner(scenario, instance_place, engine.loads),
                held,
                card.by_process.get(instance_place),
                GpuProcessKind::Compute,
            ));
        }
    }
    if conditions.foreign(place).is_some() {
        let bytes = Trouble::FOREIGN_BYTES;
        all.push(process(
            FOREIGN,
            bytes,
            card.by_process.last(),
            GpuProcessKind::Compute,
        ));
    }
    all.sort_by_key(|process| process.pid);
    all
}

pub(super) fn facts((place, gpu): (usize, &Gpu)) -> GpuFacts {
    let index = u32::try_from(place).unwrap_or(0);
    GpuFacts {
        name: Some("Simulated GPU".to_owned()),
        driver_version: Some("570.00".to_owned()),
        memory_total_bytes: Some(mebibytes(gpu.memory_bytes)),
        power_limit_watts: Some(gpu.power_limit),
        sm_clock_max_mhz: Some(small(gpu.clock_mhz) + 120),
        mps_active: Some(gpu.mps),
        ecc_enabled: Some(false),
        slowdown_celsius: Some(95),
        ..GpuFacts::unknown(uuid(place), index)
    }
}

pub(super) fn uuid(place: usize) -> GpuUuid {
    GpuUuid(format!("GPU-5e5e0000-0000-0000-0000-00000000000{place}"))
}

fn mebibytes(bytes: f64) -> u64 {
    whole(bytes / 1_048_576.0) * 1_048_576
}
