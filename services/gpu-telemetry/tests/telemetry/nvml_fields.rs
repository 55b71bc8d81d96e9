//! Fields of [`NvmlProbe`](gpu_telemetry::nvml::NvmlProbe) that not every driver or GPU has.

use chimera_domain::telemetry::{
    Absence, GpuProcess, GpuSample, MissingField, ProbeState, TelemetryField as Field,
};
use gpu_telemetry::probe::GpuProbe as _;
use serde_json::{Value, json};

use crate::fake::{FakeDriver, gpu, script};
use crate::nvml::{TICK, Ticks, uuid};

#[test]
fn memory_errors_versions_and_limits_are_read_beside_the_rest() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let mut ticks = Ticks::of(&driver);
    let sample = ticks.next().gpus.remove(0);
    assert_eq!(
        (sample.memory_free_bytes, sample.memory_reserved_bytes),
        (Some(84_288_733_184), Some(536_870_912))
    );
    assert_eq!(
        (sample.ecc_corrected, sample.ecc_uncorrected),
        (Some(3), Some(0))
    );
    let facts = &ticks.probe.facts()[0];
    assert_eq!(facts.cuda_version.as_deref(), Some("12.8"));
    assert_eq!(facts.library_version, None, "it is the driver's");
    assert_eq!(
        (facts.ecc_enabled, facts.mig_enabled),
        (Some(true), Some(false))
    );
    assert_eq!(
        (facts.mps_active, facts.slowdown_celsius),
        (Some(false), Some(87))
    );
    assert_eq!(ticks.next().gpus[0].ecc_corrected, None, "once a second");
}

#[test]
fn a_library_of_another_version_is_told() {
    let mut script = script(0, &[gpu("GPU-1", &json!({}))]);
    script["library_version"] = json!("12.560.28");
    let driver = FakeDriver::new(&script);
    let facts = &Ticks::of(&driver).probe.facts()[0].clone();
    assert_eq!(facts.library_version.as_deref(), Some("12.560.28"));
}

#[test]
fn a_limit_that_a_person_changes_is_seen_within_a_second() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let mut ticks = Ticks::of(&driver);
    ticks.next();
    let lower = json!({"power_limit_milliwatts": 300_000});
    driver.play(&script(0, &[gpu("GPU-1", &lower)]));
    (0..11).for_each(|_| drop(ticks.next()));
    assert_eq!(ticks.probe.facts()[0].power_limit_watts, Some(300.0));
}

fn used(sample: &GpuSample) -> Vec<(u32, Option<f64>, Option<f64>)> {
    let of = |p: &GpuProcess| (p.pid, p.utilisation, p.memory_utilisation);
    sample.processes.iter().flatten().map(of).collect()
}

#[test]
fn what_processes_used_is_of_new_windows_only() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let mut ticks = Ticks::of(&driver);
    let first = ticks.next().gpus.remove(0);
    let nobody = [(7, None, None), (9, None, None), (42, None, None)];
    assert_eq!(used(&first), nobody, "the driver's past is not ours");
    // Lists are read every 250 ms: not at the next two ticks of 100 ms.
    assert_eq!(ticks.next().gpus[0].processes, None);
    assert_eq!(ticks.next().gpus[0].processes, None);
    assert_eq!(used(&ticks.next().gpus[0]), nobody, "no new window");

    let windows = json!([
        {"pid": 42, "timestamp": 1, "sm_percent": 99, "memory_percent": 99},
        {"pid": 42, "timestamp": 2, "sm_percent": 40, "memory_percent": 10},
        {"pid": 42, "timestamp": 3, "sm_percent": 60, "memory_percent": 30},
    ]);
    driver.play(&script(
        0,
        &[gpu("GPU-1", &json!({"process_utilisation": windows}))],
    ));
    let busy = ticks.until(|readings| readings.gpus[0].processes.is_some());
    let zero = Some(0.0);
    assert_eq!(
        used(&busy.gpus[0]),
        [(7, zero, zero), (9, zero, zero), (42, Some(0.5), Some(0.2))]
    );

    // Nothing new, and the whole GPU is idle: that is known to be nothing.
    let idle = json!({"process_utilisation": windows, "utilisation_percent": 0});
    driver.play(&script(0, &[gpu("GPU-1", &idle)]));
    let idle = ticks.until(|readings| readings.gpus[0].processes.is_some());
    assert!(used(&idle.gpus[0]).iter().all(|(_, part, _)| *part == zero));
    assert_eq!(ticks.missing(0), []);
}

#[test]
fn clients_of_mps_are_seen_and_so_is_that_it_is_on() {
    let clients = json!({"mps": [{"pid": 42, "memory_bytes": 1_048_576}, {"pid": 50}]});
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &clients)]));
    let mut ticks = Ticks::of(&driver);
    let pids: Vec<u32> = used(&ticks.next().gpus[0])
        .iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(pids, [7, 9, 42, 50], "none twice");
    assert_eq!(ticks.probe.facts()[0].mps_active, Some(true));
    driver.play(&script(0, &[gpu("GPU-1", &json!({}))]));
    (0..4).for_each(|_| drop(ticks.next()));
    assert_eq!(ticks.probe.facts()[0].mps_active, Some(false));
    driver.play(&script(
        0,
        &[gpu("GPU-1", &json!({"mps": {"error": "NOT_SUPPORTED"}}))],
    ));
    (0..4).for_each(|_| drop(ticks.next()));
    assert_eq!(ticks.missing(0), [], "MPS is a fact, not a field");
}

/// Which fields lack what, when each call fails by itself.
fn lacking(call: &str, error: &str) -> (Vec<MissingField>, GpuSample) {
    let driver = FakeDriver::new(&script(
        0,
        &[gpu("GPU-1", &json!({call: {"error": error}}))],
    ));
    let mut ticks = Ticks::of(&driver);
    let first = ticks.next();
    let second = ticks.next();
    assert!(
        first.away.is_empty() && second.away.is_empty(),
        "{call} {error}"
    );
    let mut sample = first.gpus[0].clone();
    let of_second = &second.gpus[0];
    sample.pcie_rx_bytes_per_s = sample.pcie_rx_bytes_per_s.or(of_second.pcie_rx_bytes_per_s);
    sample.pcie_tx_bytes_per_s = sample.pcie_tx_bytes_per_s.or(of_second.pcie_tx_bytes_per_s);
    (ticks.missing(0), sample)
}

/// Names of the readings of a sample that are absent.
fn absent(sample: &GpuSample) -> Vec<String> {
    let Value::Object(fields) = serde_json::to_value(sample).unwrap() else {
        panic!("a sample is an object")
    };
    let absent = fields.into_iter().filter(|(_, value)| value.is_null());
    absent.map(|(name, _)| name).collect()
}

#[test]
fn every_call_can_fail_by_itself_and_only_its_fields_are_missing() {
    let calls: [(&str, &[Field], &[&str]); 15] = [
        (
            "utilisation_percent",
            &[Field::GpuUtilisation],
            &["memory_utilisation", "utilisation"],
        ),
        (
            "memory_used_bytes",
            &[Field::GpuMemory, Field::GpuMemoryDetail],
            &[
                "memory_free_bytes",
                "memory_reserved_bytes",
                "memory_used_bytes",
            ],
        ),
        ("power_milliwatts", &[Field::Power], &["power_watts"]),
        ("energy_millijoules", &[Field::Energy], &["energy_joules"]),
        ("sm_clock_mhz", &[Field::SmClock], &["sm_clock_mhz"]),
        (
            "memory_clock_mhz",
            &[Field::MemoryClock],
            &["memory_clock_mhz"],
        ),
        (
            "throttle_bits",
            &[Field::ThrottleReasons],
            &["throttle_reasons"],
        ),
        (
            "pcie_rx_kb_per_s",
            &[Field::PcieRx],
            &["pcie_rx_bytes_per_s"],
        ),
        (
            "pcie_tx_kb_per_s",
            &[Field::PcieTx],
            &["pcie_tx_bytes_per_s"],
        ),
        (
            "temperature_celsius",
            &[Field::Temperature],
            &["temperature_celsius"],
        ),
        (
            "ecc_uncorrected",
            &[Field::Ecc],
            &["ecc_corrected", "ecc_uncorrected"],
        ),
        ("compute", &[Field::GpuProcesses], &["processes"]),
        ("graphics", &[Field::GpuProcesses], &["processes"]),
        ("process_utilisation", &[Field::GpuProcessUtilisation], &[]),
        ("event_types", &[Field::GpuErrors], &[]),
    ];
    let errors = [
        ("NOT_SUPPORTED", Absence::NotSupported),
        ("NO_PERMISSION", Absence::NoPermission),
        ("FUNCTION_NOT_FOUND", Absence::TooOld),
        ("UNKNOWN", Absence::Unreadable),
    ];
    for (call, fields, readings) in calls {
        for (error, reason) in errors {
            let (missing, sample) = lacking(call, error);
            let expected: Vec<MissingField> = fields
                .iter()
                .map(|&field| MissingField { field, reason })
                .collect();
            assert_eq!(missing, expected, "{call} {error}");
            assert_eq!(absent(&sample), readings, "{call} {error}");
        }
    }
}

#[test]
fn facts_that_cannot_be_had_are_none_and_stop_nothing() {
    let bare = json!({
        "slowdown_celsius": {"error": "NOT_SUPPORTED"},
        "ecc_mode": {"error": "NOT_SUPPORTED"},
        "mig_mode": {"error": "INVALID_ARGUMENT"},
        "mps": {"error": "FUNCTION_NOT_FOUND"},
    });
    let mut script = script(0, &[gpu("GPU-1", &bare)]);
    script["cuda_version"] = Value::Null;
    let driver = FakeDriver::new(&script);
    let mut ticks = Ticks::of(&driver);
    for _ in 0..30 {
        let readings = ticks.next();
        assert_eq!((readings.gpus.len(), readings.away.len()), (1, 0));
    }
    let facts = &ticks.probe.facts()[0];
    assert_eq!((facts.mps_active, facts.mig_enabled), (None, None));
    assert_eq!((facts.ecc_enabled, facts.slowdown_celsius), (None, None));
    assert_eq!(facts.cuda_version, None);
}

#[test]
fn what_is_not_supported_is_asked_once_and_again_after_a_minute() {
    // The second answer would be a value.
    let later = json!({"power_milliwatts": [{"error": "NOT_SUPPORTED"}, 5_000]});
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &later)]));
    let mut ticks = Ticks::of(&driver);
    for _ in 0..20 {
        assert_eq!(ticks.next().gpus[0].power_watts, None);
    }
    ticks.now += 600 * TICK;
    assert_eq!(ticks.next().gpus[0].power_watts, Some(5.0));
    assert_eq!(ticks.missing(0), []);
}

fn instance(uuid: &str, used: u64) -> Value {
    json!({
        "uuid": uuid,
        "name": "Fake H100 1g.10gb",
        "fields": {"memory_total_bytes": 10_737_418_240_u64, "memory_used_bytes": used},
        "compute": [{"pid": 42, "memory_bytes": used}]
    })
}

#[test]
fn in_mig_mode_each_instance_has_its_memory_and_the_gpu_says_what_it_lacks() {
    let on = |instances: &[Value]| {
        let changes = json!({
            "utilisation_percent": {"error": "NOT_SUPPORTED"},
            "process_utilisation": {"error": "NOT_SUPPORTED"},
            "mig": instances,
        });
        script(0, &[gpu("GPU-1", &changes), gpu("GPU-2", &json!({}))])
    };
    let driver = FakeDriver::new(&on(&[instance("MIG-1", 5), instance("MIG-2", 6)]));
    let mut ticks = Ticks::of(&driver);
    let readings = ticks.next();
    let names =
        |gpus: &[GpuSample]| -> Vec<String> { gpus.iter().map(|gpu| gpu.uuid.0.clone()).collect() };
    assert_eq!(names(&readings.gpus), ["GPU-1", "MIG-1", "MIG-2", "GPU-2"]);
    assert!(readings.away.is_empty());
    let facts = ticks.probe.facts();
    let order: Vec<_> = facts.iter().map(|facts| facts.uuid.0.as_str()).collect();
    assert_eq!(
        order,
        ["GPU-1", "MIG-1", "MIG-2", "GPU-2"],
        "as the samples"
    );
    assert_eq!(
        (facts[0].mig_enabled, facts[3].mig_enabled),
        (Some(true), Some(false))
    );
    assert_eq!(facts[1].memory_total_bytes, Some(10_737_418_240));

    let whole = &readings.gpus[0];
    assert_eq!((whole.utilisation, whole.power_watts), (None, Some(350.5)));
    let missing = |field| MissingField {
        field,
        reason: Absence::NotSupported,
    };
    assert_eq!(
        ticks.missing(0),
        [
            missing(Field::GpuUtilisation),
            missing(Field::GpuProcessUtilisation)
        ]
    );
    let one = &readings.gpus[2];
    assert_eq!(one.memory_used_bytes, Some(6));
    assert_eq!(used(one), [(42, None, None)]);
    let lacks = ticks.missing(2);
    assert_eq!(lacks.len(), 12, "{lacks:?}");
    assert!(!lacks.contains(&missing(Field::GpuMemory)));

    // An administrator makes one instance anew while we look: the one is forgotten, no gap.
    driver.play(&on(&[instance("MIG-1", 5), instance("MIG-3", 7)]));
    let changed = ticks.until(|readings| {
        assert!(readings.away.is_empty(), "{readings:?}");
        readings.gpus.iter().any(|gpu| gpu.uuid == uuid("MIG-3"))
    });
    assert_eq!(names(&changed.gpus), ["GPU-1", "MIG-1", "MIG-3", "GPU-2"]);
    driver.play(&on(&[]));
    let none = ticks.until(|readings| readings.gpus.len() == 2);
    assert!(none.away.is_empty());
    assert!(ticks.next().away.is_empty());
    assert_eq!(ticks.probe.facts().len(), 2);

    // MIG mode is switched off: the GPU's utilisation is asked for again within a minute.
    driver.play(&script(
        0,
        &[gpu("GPU-1", &json!({})), gpu("GPU-2", &json!({}))],
    ));
    ticks.now += 600 * TICK;
    assert_eq!(ticks.next().gpus[0].utilisation, Some(0.87));
    (0..20).for_each(|_| drop(ticks.next()));
    assert_eq!(ticks.probe.facts()[0].mig_enabled, Some(false));
    assert!(matches!(
        &ticks.probe.status()[0].state,
        ProbeState::Measured { missing } if missing.is_empty()
    ));
}
