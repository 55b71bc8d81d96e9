//! [`NvmlProbe`] through the real nvml-wrapper.

use chimera_domain::telemetry::{
    Absence, GapReason, GpuProcess, GpuProcessKind, GpuUuid, MissingField, ProbeState, Source,
    TelemetryField, ThrottleReason,
};
use chimera_domain::units::MonoNs;
use gpu_telemetry::nvml::NvmlProbe;
use gpu_telemetry::probe::{GpuProbe, GpuReadings};
use serde_json::json;

use crate::fake::{FakeDriver, gpu, script};

pub(crate) const TICK: u64 = 100_000_000;

/// Calls a probe as the sampler does.
pub(crate) struct Ticks {
    pub(crate) probe: NvmlProbe,
    pub(crate) now: u64,
}

impl Ticks {
    pub(crate) fn of(driver: &FakeDriver) -> Self {
        Self {
            probe: NvmlProbe::open(Some(driver.library()), true, MonoNs(1)),
            now: 1,
        }
    }

    pub(crate) fn next(&mut self) -> GpuReadings {
        self.now += TICK;
        let mut readings = self.probe.sample(MonoNs(self.now));
        self.probe.sample_slow(&mut readings.gpus);
        readings
    }

    /// Ticks until `wanted`, for 40 s at most: longer than the longest pause between two tries.
    pub(crate) fn until(&mut self, wanted: impl Fn(&GpuReadings) -> bool) -> GpuReadings {
        let mut readings = self.next();
        for _ in 0..400 {
            if wanted(&readings) {
                return readings;
            }
            readings = self.next();
        }
        panic!("never came: {readings:?}");
    }

    pub(crate) fn missing(&self, position: usize) -> Vec<MissingField> {
        match &self.probe.status()[position].state {
            ProbeState::Measured { missing } => missing.clone(),
            ProbeState::NotMeasured { detail, .. } => panic!("{detail}"),
        }
    }
}

pub(crate) fn uuid(name: &str) -> GpuUuid {
    GpuUuid(name.to_owned())
}

#[test]
fn a_healthy_gpu_is_read_whole_and_in_our_units() {
    let driver = FakeDriver::new(&script(
        0,
        &[gpu("GPU-1", &json!({"throttle_bits": 4 + 64}))],
    ));
    let mut ticks = Ticks::of(&driver);

    let facts = &ticks.probe.facts()[0];
    assert_eq!((facts.uuid.clone(), facts.index), (uuid("GPU-1"), 0));
    assert_eq!(facts.name.as_deref(), Some("Fake H100"));
    assert_eq!(facts.driver_version.as_deref(), Some("570.00"));
    assert_eq!(facts.memory_total_bytes, Some(85_899_345_920));
    assert_eq!(facts.power_limit_watts, Some(700.0));
    assert_eq!(facts.sm_clock_max_mhz, Some(1980));

    let first = ticks.next();
    assert!(first.away.is_empty());
    let sample = &first.gpus[0];
    assert_eq!(sample.utilisation, Some(0.87));
    assert_eq!(sample.memory_utilisation, Some(0.4));
    assert_eq!(sample.memory_used_bytes, Some(1_073_741_824));
    assert_eq!(sample.power_watts, Some(350.5));
    assert_eq!(sample.energy_joules, Some(1.0));
    assert_eq!(
        (sample.sm_clock_mhz, sample.memory_clock_mhz),
        (Some(1980), Some(2619))
    );
    assert_eq!(sample.temperature_celsius, Some(61));
    assert_eq!(
        sample.throttle_reasons.as_deref(),
        Some(
            [
                ThrottleReason::SoftwarePowerCap,
                ThrottleReason::HardwareThermal
            ]
            .as_slice()
        )
    );
    let process = |pid, memory_used_bytes, kind| GpuProcess {
        pid,
        memory_used_bytes,
        utilisation: None,
        memory_utilisation: None,
        kind,
    };
    assert_eq!(
        sample.processes.as_deref(),
        Some(
            [
                process(7, None, GpuProcessKind::Compute),
                process(9, Some(5), GpuProcessKind::Graphics),
                process(42, Some(1_048_576), GpuProcessKind::Compute),
            ]
            .as_slice()
        )
    );

    // Values over time, and PCIe in turn: one direction per tick.
    let second = &ticks.next().gpus[0];
    assert_eq!(second.energy_joules, Some(36.0));
    let pcie = [&first.gpus[0], second].map(|s| (s.pcie_rx_bytes_per_s, s.pcie_tx_bytes_per_s));
    assert_eq!(pcie, [(None, Some(50_000)), (Some(100_000), None)]);
    assert_eq!(ticks.missing(0), []);
}

#[test]
fn a_field_that_cannot_be_had_is_none_with_its_reason_and_the_others_are_there() {
    let broken = json!({
        "power_milliwatts": {"error": "NOT_SUPPORTED"},
        "temperature_celsius": {"error": "NO_PERMISSION"},
        "sm_clock_mhz": [{"error": "TIMEOUT"}, 1500],
        "pcie_tx_kb_per_s": {"error": "NOT_SUPPORTED"},
        "graphics": {"error": "FUNCTION_NOT_FOUND"},
    });
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &broken)]));
    let mut ticks = Ticks::of(&driver);

    let sample = ticks.next().gpus.remove(0);
    assert_eq!(
        (sample.power_watts, sample.temperature_celsius),
        (None, None)
    );
    assert_eq!(
        (sample.sm_clock_mhz, sample.processes.clone()),
        (None, None)
    );
    assert!(sample.utilisation.is_some() && sample.energy_joules.is_some());
    let missing = |field, reason| MissingField { field, reason };
    let lasting = [
        missing(TelemetryField::GpuProcesses, Absence::TooOld),
        missing(TelemetryField::Power, Absence::NotSupported),
        missing(TelemetryField::PcieTx, Absence::NotSupported),
        missing(TelemetryField::Temperature, Absence::NoPermission),
    ];
    let mut at_first = lasting.to_vec();
    at_first.push(missing(TelemetryField::SmClock, Absence::Unreadable));
    at_first.sort();
    assert_eq!(ticks.missing(0), at_first);

    let sample = ticks.next().gpus.remove(0);
    assert_eq!(
        sample.sm_clock_mhz,
        Some(1500),
        "what fails once is asked again"
    );
    assert_eq!(ticks.missing(0), lasting);
}

#[test]
fn nothing_throttling_is_an_empty_list_and_an_unknown_reason_is_not_lost() {
    let bits = json!({"throttle_bits": [0, 1_u64 << 40]});
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &bits)]));
    let mut ticks = Ticks::of(&driver);
    assert_eq!(ticks.next().gpus[0].throttle_reasons, Some(Vec::new()));
    assert_eq!(
        ticks.next().gpus[0].throttle_reasons,
        Some(vec![ThrottleReason::Other])
    );
}

#[test]
fn a_lost_gpu_is_away_while_the_other_is_read_and_comes_back() {
    let healthy = script(0, &[gpu("GPU-1", &json!({})), gpu("GPU-2", &json!({}))]);
    let lost = script(
        0,
        &[
            gpu("GPU-1", &json!({"state": "GPU_IS_LOST"})),
            gpu("GPU-2", &json!({})),
        ],
    );
    let driver = FakeDriver::new(&healthy);
    let mut ticks = Ticks::of(&driver);
    assert_eq!(ticks.next().gpus.len(), 2);

    driver.play(&lost);
    for _ in 0..25 {
        let readings = ticks.next();
        assert_eq!(readings.gpus.len(), 1);
        assert_eq!(readings.gpus[0].uuid, uuid("GPU-2"));
        assert_eq!(readings.away.len(), 1);
        assert_eq!(readings.away[0].source, Source::Gpu(uuid("GPU-1")));
        assert_eq!(readings.away[0].reason, GapReason::GpuLost);
    }
    assert_eq!(ticks.probe.facts().len(), 2, "it is still known");

    driver.play(&healthy);
    let back = ticks.until(|readings| readings.gpus.len() == 2);
    assert!(back.away.is_empty());
    // And again: the second loss is found as fast as the first.
    driver.play(&lost);
    assert_eq!(ticks.next().away.len(), 1);
    driver.play(&healthy);
    assert_eq!(
        ticks.until(|readings| readings.away.is_empty()).gpus.len(),
        2
    );
}

#[test]
fn a_gpu_that_vanishes_from_the_list_is_away_too() {
    let both = script(0, &[gpu("GPU-1", &json!({})), gpu("GPU-2", &json!({}))]);
    let driver = FakeDriver::new(&both);
    let mut ticks = Ticks::of(&driver);
    assert_eq!(ticks.next().gpus.len(), 2);
    // After a reset only the second is left, at another index.
    driver.play(&script(1, &[gpu("GPU-2", &json!({}))]));
    assert_eq!(ticks.next().away[0].source, Source::Gpus);
    let readings = ticks.until(|readings| !readings.gpus.is_empty());
    assert_eq!(readings.gpus[0].uuid, uuid("GPU-2"));
    assert_eq!(readings.away[0].source, Source::Gpu(uuid("GPU-1")));
}

#[test]
fn after_a_driver_reset_reading_goes_on_without_a_restart() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let mut ticks = Ticks::of(&driver);
    assert_eq!(ticks.next().gpus.len(), 1);

    driver.play(&script(1, &[gpu("GPU-1", &json!({}))]));
    let lost = ticks.next();
    assert!(lost.gpus.is_empty());
    assert_eq!(
        (&lost.away[0].source, lost.away[0].reason),
        (&Source::Gpus, GapReason::DriverReset)
    );
    let back = ticks.next();
    assert_eq!(
        (back.gpus.len(), back.away.len()),
        (1, 0),
        "initialised again at once"
    );
}

#[test]
fn a_driver_that_is_away_for_longer_is_tried_again() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let mut ticks = Ticks::of(&driver);
    ticks.next();
    let mut unloaded = script(1, &[gpu("GPU-1", &json!({}))]);
    unloaded["init"] = json!("DRIVER_NOT_LOADED");
    driver.play(&unloaded);
    for _ in 0..50 {
        let away = ticks.next().away;
        assert_eq!(
            (&away[0].source, away[0].reason),
            (&Source::Gpus, GapReason::DriverReset)
        );
    }
    driver.play(&script(1, &[gpu("GPU-1", &json!({}))]));
    assert!(
        ticks
            .until(|readings| readings.gpus.len() == 1)
            .away
            .is_empty()
    );
}

#[test]
fn without_a_library_it_says_so_and_has_no_gaps() {
    let nowhere = tempfile::tempdir()
        .unwrap()
        .path()
        .join("libnvidia-ml.so.1");
    let mut probe = NvmlProbe::open(Some(nowhere), true, MonoNs(1));
    assert_eq!(probe.sample(MonoNs(TICK)), GpuReadings::default());
    let status = &probe.status()[0];
    assert_eq!(status.source, Source::Gpus);
    let ProbeState::NotMeasured { reason, detail } = &status.state else {
        panic!("{status:?}")
    };
    assert_eq!(*reason, Absence::NoLibrary);
    assert!(
        detail.starts_with(
            "NVML not found: no GPU figures will be recorded; host and engine-process figures are"
        ),
        "{detail}"
    );
}

#[test]
fn a_file_that_is_no_nvml_is_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libnvidia-ml.so.1");
    std::fs::write(&path, "not a library").unwrap();
    let status = NvmlProbe::open(Some(path), true, MonoNs(1)).status();
    assert!(matches!(
        status[0].state,
        ProbeState::NotMeasured {
            reason: Absence::NoLibrary,
            ..
        }
    ));
}

#[test]
fn a_driver_without_gpus_or_not_loaded_is_no_gap_either() {
    let driver = FakeDriver::new(&script(0, &[]));
    let mut ticks = Ticks::of(&driver);
    assert_eq!(ticks.next(), GpuReadings::default());
    let state = &ticks.probe.status()[0].state;
    assert!(
        matches!(
            state,
            ProbeState::NotMeasured {
                reason: Absence::NoDevice,
                ..
            }
        ),
        "{state:?}"
    );

    let mut unloaded = script(0, &[gpu("GPU-1", &json!({}))]);
    unloaded["init"] = json!("DRIVER_NOT_LOADED");
    let driver = FakeDriver::new(&unloaded);
    let mut ticks = Ticks::of(&driver);
    assert_eq!(ticks.next(), GpuReadings::default());
    let state = &ticks.probe.status()[0].state;
    assert!(
        matches!(
            state,
            ProbeState::NotMeasured {
                reason: Absence::NoDriver,
                ..
            }
        ),
        "{state:?}"
    );
    // The driver is loaded later: the GPU appears without a restart.
    driver.play(&script(0, &[gpu("GPU-1", &json!({}))]));
    assert_eq!(
        ticks.until(|readings| !readings.gpus.is_empty()).gpus.len(),
        1
    );
}

#[test]
fn a_gpu_that_gives_nothing_at_all_is_away() {
    let fields = json!({"fields": {}, "compute": {"error": "UNKNOWN"}, "graphics": []});
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &fields)]));
    let mut ticks = Ticks::of(&driver);
    let readings = ticks.next();
    assert!(readings.gpus.is_empty());
    assert_eq!(readings.away[0].reason, GapReason::ReadFailed);
}
