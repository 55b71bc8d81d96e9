use chimera_domain::telemetry::{
    BusyProcess, Gap, GpuError, GpuProcess, GpuProcessKind, GpuSample, HostSample, ProcessPart,
    ProcessSample, Source, ThrottleReason,
};
use chimera_domain::units::{BootId, ClockReading};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn batch(samples: Vec<Sample>) -> TelemetryBatch {
    TelemetryBatch {
        node: NodeId::try_new("n1").unwrap(),
        sampler_started: MonoNs(1),
        seq: 1,
        clock: ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: MonoNs(10 * SECOND),
            wall_unix_ns: 0,
        },
        period_ns: 50_000_000,
        gpus: Vec::new(),
        probes: Vec::new(),
        samples,
        gaps: Vec::new(),
        gpu_errors: Vec::new(),
    }
}

fn sample(at: u64) -> Sample {
    Sample {
        at: MonoNs(at),
        took_ns: 500_000,
        host: HostSample::default(),
        processes: Vec::new(),
        gpus: Vec::new(),
    }
}

fn uuid() -> GpuUuid {
    GpuUuid("GPU-1".to_owned())
}

/// Everything that can be measured, measured.
fn whole() -> TelemetryBatch {
    let mut earlier = sample(9 * SECOND);
    earlier.host.busy_others = Some(vec![BusyProcess {
        pid: 12,
        name: "a \"quoted\" \\ name".to_owned(),
        cores_used: 0.75,
    }]);
    let engine = || ProcessSample::unmeasured(7, 5, "ollama");
    earlier.processes = vec![ProcessSample {
        voluntary_switches: Some(10),
        involuntary_switches: Some(2),
        ..engine()
    }];
    earlier.gpus = vec![GpuSample {
        pcie_rx_bytes_per_s: Some(1_000_000),
        ..GpuSample::unmeasured(uuid())
    }];
    let last = Sample {
        host: HostSample {
            cpu_busy_fraction: Some(0.5),
            core_busy_fractions: vec![1.0, 0.0],
            cpu_steal_fraction: Some(0.25),
            cpu_busy_core_seconds: Some(100.5),
            memory_total_bytes: Some(4096),
            memory_available_bytes: Some(1024),
            load1: Some(1.5),
            cpu_pressure_some_avg10: Some(0.5),
            cpu_pressure_some_seconds: Some(2.5),
            memory_pressure_some_seconds: Some(0.0),
            io_pressure_some_seconds: Some(1.0),
            tasks_runnable: Some(3),
            context_switches: Some(77),
            memory_traffic_bytes: Some(9000),
            busy_others: None,
        },
        processes: vec![
            ProcessSample {
                cpu_seconds: Some(1.25),
                cores_used: Some(1.5),
                rss_bytes: Some(8192),
                minor_faults: Some(4),
                major_faults: Some(1),
                threads: Some(9),
                run_delay_seconds: Some(0.125),
                ..engine()
            },
            ProcessSample {
                cpu_seconds: Some(0.5),
                part: ProcessPart::Harness,
                ..ProcessSample::unmeasured(9, 6, "nats-server")
            },
        ],
        gpus: vec![GpuSample {
            utilisation: Some(0.5),
            memory_utilisation: Some(0.25),
            memory_used_bytes: Some(3 << 20),
            memory_free_bytes: Some(12 << 20),
            memory_reserved_bytes: Some(1 << 20),
            power_watts: Some(250.5),
            energy_joules: Some(10.0),
            sm_clock_mhz: Some(1410),
            memory_clock_mhz: Some(1593),
            throttle_reasons: Some(vec![ThrottleReason::SoftwarePowerCap]),
            temperature_celsius: Some(65),
            ecc_corrected: Some(1),
            ecc_uncorrected: Some(0),
            processes: Some(vec![GpuProcess {
                pid: 7,
                memory_used_bytes: Some(2048),
                utilisation: Some(0.5),
                memory_utilisation: None,
                kind: GpuProcessKind::Compute,
            }]),
            ..GpuSample::unmeasured(uuid())
        }],
        ..sample(10 * SECOND)
    };
    TelemetryBatch {
        gpus: vec![GpuFacts {
            name: Some("H100".to_owned()),
            memory_total_bytes: Some(16 << 20),
            power_limit_watts: Some(700.0),
            slowdown_celsius: Some(87),
            ..GpuFacts::unknown(uuid(), 0)
        }],
        gaps: vec![Gap {
            from: MonoNs(SECOND),
            to: MonoNs(SECOND + SECOND / 2),
            source: Source::Sampler,
            reason: GapReason::Stalled,
            detail: String::new(),
        }],
        gpu_errors: vec![GpuError {
            at: MonoNs(5),
            uuid: uuid(),
            xid: 79,
        }],
        ..batch(vec![earlier, last])
    }
}

/// The names are a contract with dashboards: a change of this text is a change of that.
#[test]
fn every_series_has_its_name_and_unit() {
    let board = Board::default();
    board.ticked(1);
    board.ticked(4);
    board.stored();
    board.publish_failed();
    board.lost(GapReason::QueueFull);
    board.show(&whole());
    let golden = include_str!("golden.txt");
    let text = board.render(MonoNs(11 * SECOND));
    assert!(text == golden, "{text}");
}

#[test]
fn what_is_absent_has_no_series() {
    let board = Board::default();
    board.show(&batch(vec![sample(10 * SECOND)]));
    let text = board.render(MonoNs(10 * SECOND));
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert_eq!(
        names,
        [
            "chimera_telemetry_ticks",
            "chimera_telemetry_missed_ticks",
            "chimera_telemetry_batches_stored",
            "chimera_telemetry_publish_failures",
            "chimera_telemetry_period_seconds",
            "chimera_telemetry_tick_seconds",
        ]
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn readings_of_a_sampler_that_hangs_are_not_shown() {
    let board = Board::default();
    board.show(&whole());
    let shows = |at: u64| board.render(MonoNs(at)).contains("chimera_host_load1");
    assert!(shows(15 * SECOND));
    assert!(!shows(15 * SECOND + 1));
    // Three periods, where they are longer.
    board.show(&TelemetryBatch {
        period_ns: 10 * SECOND,
        ..whole()
    });
    assert!(shows(40 * SECOND));
}

#[test]
fn the_last_error_of_a_gpu_stays() {
    let board = Board::default();
    board.show(&whole());
    board.show(&TelemetryBatch {
        gpu_errors: Vec::new(),
        ..whole()
    });
    let text = board.render(MonoNs(10 * SECOND));
    assert!(text.contains("DCGM_FI_DEV_XID_ERRORS{"), "{text}");
    assert!(
        text.contains("gap_seconds_total{reason=\"stalled\"} 1.0"),
        "{text}"
    );
}
