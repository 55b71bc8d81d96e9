use std::fs;
use std::path::Path;

use chimera_domain::telemetry::{
    Absence, GpuProcess, GpuProcessKind, MissingField, TelemetryField as Field,
};
use tempfile::TempDir;

use super::*;

const TICK: u64 = 50_000_000;

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{content}\n")).unwrap();
}

/// An Instinct that has a file for everything.
fn instinct(root: &Path, card: u32, unique: &str) {
    let files = [
        ("vendor", "0x1002"),
        ("unique_id", unique),
        (
            "uevent",
            "DRIVER=amdgpu\nPCI_ID=1002:740F\nPCI_SLOT_NAME=0000:03:00.0",
        ),
        ("product_name", "AMD Instinct MI210"),
        ("gpu_busy_percent", "87"),
        ("mem_busy_percent", "40"),
        ("mem_info_vram_total", "68702699520"),
        ("mem_info_vram_used", "2699520"),
        ("pp_dpm_sclk", "0: 500Mhz\n1: 1200Mhz *\n2: 1700Mhz"),
        ("pp_dpm_mclk", "0: 400Mhz\n1: 1600Mhz *"),
        ("ras/umc_err_count", "ue: 1\nce: 3"),
        ("hwmon/hwmon3/power1_average", "250500000"),
        ("hwmon/hwmon3/power1_cap", "300000000"),
        ("hwmon/hwmon3/energy1_input", "71000000"),
        ("hwmon/hwmon3/temp1_input", "61500"),
        ("hwmon/hwmon3/temp1_crit", "100000"),
        ("hwmon/hwmon3/freq1_input", "1650000000"),
        ("drm/renderD128/dev", "226:128"),
    ];
    for (name, content) in files {
        write(
            root,
            &format!("class/drm/card{card}/device/{name}"),
            content,
        );
    }
    let node = "class/kfd/kfd/topology/nodes";
    write(root, &format!("{node}/0/properties"), "cpu_cores_count 64");
    write(root, &format!("{node}/0/gpu_id"), "0");
    write(
        root,
        &format!("{node}/1/properties"),
        "simd_count 416\ndrm_render_minor 128",
    );
    write(root, &format!("{node}/1/gpu_id"), "51110");
    write(root, "class/kfd/kfd/proc/42/vram_51110", "1048576");
    write(root, "class/kfd/kfd/proc/7/vram_51110", "0");
    write(root, "class/kfd/kfd/proc/9/vram_777", "5");
    write(root, "module/amdgpu/version", "6.8.5");
}

struct Ticks {
    probe: AmdProbe,
    now: u64,
}

impl Ticks {
    fn of(root: &TempDir) -> Self {
        Self {
            probe: AmdProbe::open(root.path(), MonoNs(1)),
            now: 1,
        }
    }

    fn next(&mut self) -> GpuReadings {
        self.now += TICK;
        let mut readings = self.probe.sample(MonoNs(self.now));
        self.probe.sample_slow(&mut readings.gpus);
        readings
    }

    /// Ticks until the next search, and past it.
    fn search(&mut self) -> GpuReadings {
        self.now += SEARCH_NS;
        self.next()
    }

    fn missing(&self) -> Vec<(Field, Absence)> {
        match &self.probe.status()[0].state {
            ProbeState::Measured { missing } => missing
                .iter()
                .map(|MissingField { field, reason }| (*field, *reason))
                .collect(),
            ProbeState::NotMeasured { detail, .. } => panic!("{detail}"),
        }
    }
}

const NEVER: [(Field, Absence); 6] = [
    (Field::ThrottleReasons, Absence::NotSupported),
    (Field::PcieRx, Absence::NotSupported),
    (Field::PcieTx, Absence::NotSupported),
    (Field::GpuMemoryDetail, Absence::NotSupported),
    (Field::GpuProcessUtilisation, Absence::NotSupported),
    (Field::GpuErrors, Absence::NotSupported),
];

#[test]
fn a_gpu_that_has_every_file_is_read_whole_and_in_our_units() {
    let root = tempfile::tempdir().unwrap();
    instinct(root.path(), 1, "5e1c2f3a4b5c6d7e");
    let mut ticks = Ticks::of(&root);
    let facts = &ticks.probe.facts()[0];
    assert_eq!(
        (facts.uuid.0.as_str(), facts.index),
        ("AMD-5e1c2f3a4b5c6d7e", 1)
    );
    assert_eq!(facts.name.as_deref(), Some("AMD Instinct MI210"));
    assert_eq!(facts.driver_version.as_deref(), Some("6.8.5"));
    assert_eq!(facts.memory_total_bytes, Some(68_702_699_520));
    assert_eq!(
        (facts.power_limit_watts, facts.sm_clock_max_mhz),
        (Some(300.0), Some(1700))
    );
    assert_eq!(
        (facts.ecc_enabled, facts.slowdown_celsius),
        (Some(true), Some(100))
    );

    let readings = ticks.next();
    assert!(readings.away.is_empty());
    let expected = GpuSample {
        utilisation: Some(0.87),
        memory_utilisation: Some(0.4),
        memory_used_bytes: Some(2_699_520),
        memory_free_bytes: Some(68_700_000_000),
        power_watts: Some(250.5),
        energy_joules: Some(71.0),
        sm_clock_mhz: Some(1650),
        memory_clock_mhz: Some(1600),
        temperature_celsius: Some(61),
        ecc_corrected: Some(3),
        ecc_uncorrected: Some(1),
        processes: Some(vec![GpuProcess {
            pid: 42,
            memory_used_bytes: Some(1_048_576),
            utilisation: None,
            memory_utilisation: None,
            kind: GpuProcessKind::Compute,
        }]),
        ..GpuSample::unmeasured(GpuUuid("AMD-5e1c2f3a4b5c6d7e".to_owned()))
    };
    assert_eq!(readings.gpus, [expected]);
    assert_eq!(ticks.missing(), NEVER);

    write(root.path(), "class/drm/card1/device/gpu_busy_percent", "3");
    let next = ticks.next().gpus.remove(0);
    assert_eq!(next.utilisation, Some(0.03), "read anew at each tick");
    assert_eq!(
        (next.processes, next.ecc_corrected),
        (None, None),
        "these every 250 ms"
    );
    assert_eq!(ticks.missing(), NEVER);
}

#[test]
fn a_gpu_with_few_files_says_which_readings_it_lacks() {
    let root = tempfile::tempdir().unwrap();
    let device = "class/drm/card0/device";
    for (name, content) in [
        ("vendor", "0x1002"),
        ("uevent", "PCI_ID=1002:1681\nPCI_SLOT_NAME=0000:c4:00.0"),
        ("gpu_busy_percent", "12"),
        ("mem_info_vram_total", "nonsense"),
        ("mem_info_vram_used", "5"),
        ("pp_dpm_sclk", "0: 200Mhz\n1: 800Mhz *"),
        ("hwmon/hwmon0/power1_input", "9000000"),
    ] {
        write(root.path(), &format!("{device}/{name}"), content);
    }
    let mut ticks = Ticks::of(&root);
    let facts = &ticks.probe.facts()[0];
    assert_eq!(facts.uuid.0, "AMD-0000:c4:00.0");
    assert_eq!(facts.name.as_deref(), Some("AMD GPU 1002:1681"));
    assert_eq!(
        (facts.ecc_enabled, facts.driver_version.as_deref()),
        (None, None)
    );
    let sample = ticks.next().gpus.remove(0);
    assert_eq!(
        (sample.utilisation, sample.power_watts),
        (Some(0.12), Some(9.0))
    );
    assert_eq!(
        (sample.memory_used_bytes, sample.memory_free_bytes),
        (Some(5), None)
    );
    assert_eq!(
        (sample.sm_clock_mhz, sample.memory_clock_mhz),
        (Some(800), None)
    );
    assert_eq!((sample.energy_joules, sample.processes), (None, None));
    let mut expected = NEVER.to_vec();
    expected.extend([
        (Field::GpuUtilisation, Absence::NotSupported),
        (Field::GpuMemory, Absence::Unreadable),
        (Field::GpuProcesses, Absence::NotSupported),
        (Field::Energy, Absence::NotSupported),
        (Field::MemoryClock, Absence::NotSupported),
        (Field::Temperature, Absence::NotSupported),
        (Field::Ecc, Absence::NotSupported),
    ]);
    expected.sort();
    assert_eq!(ticks.missing(), expected);
}

#[test]
fn a_gpu_that_is_unplugged_is_away_and_comes_back_without_a_restart() {
    let root = tempfile::tempdir().unwrap();
    instinct(root.path(), 0, "1111111111111111");
    instinct(root.path(), 1, "2222222222222222");
    let mut ticks = Ticks::of(&root);
    assert_eq!(ticks.next().gpus.len(), 2);
    fs::remove_dir_all(root.path().join("class/drm/card0")).unwrap();
    for _ in 0..3 {
        let readings = ticks.search();
        assert_eq!(readings.gpus.len(), 1);
        assert_eq!(readings.gpus[0].uuid.0, "AMD-2222222222222222");
        let away: Vec<_> = readings
            .away
            .iter()
            .map(|a| (a.source.to_string(), a.reason))
            .collect();
        assert_eq!(
            away,
            [("AMD-1111111111111111".to_owned(), GapReason::GpuLost)]
        );
    }
    assert_eq!(ticks.probe.facts().len(), 2, "it is still known");
    // It may come back under another number.
    instinct(root.path(), 5, "1111111111111111");
    let back = ticks.search();
    assert!(back.away.is_empty());
    let names: Vec<_> = back.gpus.iter().map(|gpu| gpu.uuid.0.as_str()).collect();
    assert_eq!(names, ["AMD-1111111111111111", "AMD-2222222222222222"]);
    assert_eq!(ticks.probe.facts()[0].index, 5);
}

#[test]
fn other_makers_and_connectors_are_left_alone_and_a_late_gpu_is_found() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "class/drm/card0/device/vendor", "0x10de");
    write(root.path(), "class/drm/card0-HDMI-A-1/status", "connected");
    write(root.path(), "class/drm/version", "drm 1.1.0");
    let mut ticks = Ticks::of(&root);
    assert_eq!(ticks.next(), GpuReadings::default());
    assert_eq!(ticks.probe.status(), []);
    instinct(root.path(), 1, "5e1c2f3a4b5c6d7e");
    assert!(ticks.next().gpus.is_empty(), "not looked for at every tick");
    assert_eq!(ticks.search().gpus.len(), 1);
}

#[test]
fn a_node_without_sysfs_has_none() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(Ticks::of(&root).next(), GpuReadings::default());
}

#[test]
fn a_gpu_that_gives_nothing_is_away() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "class/drm/card0/device/vendor", "0x1002");
    write(
        root.path(),
        "class/drm/card0/device/unique_id",
        "00000000000000ab",
    );
    let mut ticks = Ticks::of(&root);
    let readings = ticks.next();
    assert!(readings.gpus.is_empty());
    assert_eq!(readings.away[0].reason, GapReason::ReadFailed);
}
