use chimera_domain::units::{BootId, ClockReading};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Every finite number, subnormals and both zeros included.
fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |x| x.is_finite())
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é ./-]{0,12}"
}

prop_compose! {
    fn busy()(pid in any::<u32>(), name in text(), cores_used in number()) -> d::BusyProcess {
        d::BusyProcess { pid, name, cores_used }
    }
}

prop_compose! {
    fn host()(
        fractions in (of(number()), vec(number(), 0..4), of(number()), of(number())),
        memory in (of(any::<u64>()), of(any::<u64>())),
        rest in (of(number()), of(number()), of(number())),
        pressure in (of(number()), of(number())),
        counts in (of(any::<u32>()), of(any::<u64>()), of(any::<u64>())),
        busy_others in of(vec(busy(), 0..=d::MAX_BUSY_OTHERS)),
    ) -> d::HostSample {
        d::HostSample {
            cpu_busy_fraction: fractions.0,
            core_busy_fractions: fractions.1,
            cpu_steal_fraction: fractions.2,
            cpu_busy_core_seconds: fractions.3,
            memory_total_bytes: memory.0,
            memory_available_bytes: memory.1,
            load1: rest.0,
            cpu_pressure_some_avg10: rest.1,
            cpu_pressure_some_seconds: rest.2,
            memory_pressure_some_seconds: pressure.0,
            io_pressure_some_seconds: pressure.1,
            tasks_runnable: counts.0,
            context_switches: counts.1,
            memory_traffic_bytes: counts.2,
            busy_others,
        }
    }
}

prop_compose! {
    fn process()(
        identity in (any::<u32>(), of(any::<u32>()), any::<u64>(), text()),
        cpu in (of(number()), of(number())),
        memory in (of(any::<u64>()), of(any::<u64>()), of(any::<u64>()), of(any::<u32>())),
        waits in (of(number()), of(any::<u64>()), of(any::<u64>())),
        part in select(vec![d::ProcessPart::Engine, d::ProcessPart::Harness]),
    ) -> d::ProcessSample {
        d::ProcessSample {
            pid: identity.0,
            parent_pid: identity.1,
            start_ticks: identity.2,
            name: identity.3,
            cpu_seconds: cpu.0,
            cores_used: cpu.1,
            rss_bytes: memory.0,
            minor_faults: memory.1,
            major_faults: memory.2,
            threads: memory.3,
            run_delay_seconds: waits.0,
            voluntary_switches: waits.1,
            involuntary_switches: waits.2,
            part,
        }
    }
}

prop_compose! {
    fn gpu_process()(
        pid in any::<u32>(),
        memory_used_bytes in of(any::<u64>()),
        use_of in (of(number()), of(number())),
        kind in select(vec![d::GpuProcessKind::Compute, d::GpuProcessKind::Graphics]),
    ) -> d::GpuProcess {
        d::GpuProcess {
            pid,
            memory_used_bytes,
            utilisation: use_of.0,
            memory_utilisation: use_of.1,
            kind,
        }
    }
}

fn throttle() -> impl Strategy<Value = d::ThrottleReason> {
    use d::ThrottleReason as T;
    select(vec![
        T::GpuIdle,
        T::ApplicationClocks,
        T::SoftwarePowerCap,
        T::HardwareSlowdown,
        T::SyncBoost,
        T::SoftwareThermal,
        T::HardwareThermal,
        T::HardwarePowerBrake,
        T::DisplayClocks,
        T::Other,
    ])
}

prop_compose! {
    fn gpu()(
        uuid in text(),
        floats in (of(number()), of(number()), of(number()), of(number())),
        memory in (of(any::<u64>()), of(any::<u64>()), of(any::<u64>())),
        ecc in (of(any::<u64>()), of(any::<u64>())),
        clocks in (of(any::<u32>()), of(any::<u32>()), of(any::<u32>())),
        pcie in (of(any::<u64>()), of(any::<u64>())),
        throttle_reasons in of(vec(throttle(), 0..4)),
        processes in of(vec(gpu_process(), 0..3)),
    ) -> d::GpuSample {
        d::GpuSample {
            uuid: d::GpuUuid(uuid),
            utilisation: floats.0,
            memory_utilisation: floats.1,
            memory_used_bytes: memory.0,
            memory_free_bytes: memory.1,
            memory_reserved_bytes: memory.2,
            power_watts: floats.2,
            energy_joules: floats.3,
            sm_clock_mhz: clocks.0,
            memory_clock_mhz: clocks.1,
            throttle_reasons,
            pcie_rx_bytes_per_s: pcie.0,
            pcie_tx_bytes_per_s: pcie.1,
            temperature_celsius: clocks.2,
            ecc_corrected: ecc.0,
            ecc_uncorrected: ecc.1,
            processes,
        }
    }
}

prop_compose! {
    fn sample()(
        at in any::<u64>(),
        took_ns in any::<u64>(),
        host in host(),
        processes in vec(process(), 0..3),
        gpus in vec(gpu(), 0..3),
    ) -> d::Sample {
        d::Sample { at: MonoNs(at), took_ns, host, processes, gpus }
    }
}

prop_compose! {
    fn facts()(
        uuid in text(),
        index in any::<u32>(),
        names in (of(text()), of(text()), of(text()), of(text())),
        switches in (of(any::<bool>()), of(any::<bool>()), of(any::<bool>())),
        memory_total_bytes in of(any::<u64>()),
        power_limit_watts in of(number()),
        sm_clock_max_mhz in of(any::<u32>()),
        slowdown_celsius in of(any::<u32>()),
    ) -> d::GpuFacts {
        d::GpuFacts {
            uuid: d::GpuUuid(uuid),
            index,
            name: names.0,
            driver_version: names.1,
            memory_total_bytes,
            power_limit_watts,
            sm_clock_max_mhz,
            library_version: names.2,
            cuda_version: names.3,
            mig_enabled: switches.0,
            mps_active: switches.1,
            ecc_enabled: switches.2,
            slowdown_celsius,
        }
    }
}

fn source() -> impl Strategy<Value = d::Source> {
    prop_oneof![
        Just(d::Source::Sampler),
        Just(d::Source::Host),
        Just(d::Source::Processes),
        Just(d::Source::Gpus),
        text().prop_map(|uuid| d::Source::Gpu(d::GpuUuid(uuid))),
    ]
}

fn absence() -> impl Strategy<Value = d::Absence> {
    use d::Absence as A;
    select(vec![
        A::NoLibrary,
        A::NoDriver,
        A::NoDevice,
        A::NotSupported,
        A::NoPermission,
        A::TooOld,
        A::Unreadable,
        A::Disabled,
    ])
}

fn field() -> impl Strategy<Value = d::TelemetryField> {
    use d::TelemetryField as F;
    select(vec![
        F::Cpu,
        F::Memory,
        F::Load,
        F::Pressure,
        F::GpuUtilisation,
        F::GpuMemory,
        F::GpuProcesses,
        F::Power,
        F::Energy,
        F::SmClock,
        F::MemoryClock,
        F::ThrottleReasons,
        F::PcieRx,
        F::PcieTx,
        F::Temperature,
        F::GpuMemoryDetail,
        F::GpuProcessUtilisation,
        F::Ecc,
        F::GpuErrors,
        F::RunDelay,
        F::MemoryTraffic,
        F::BusyOthers,
    ])
}

fn state() -> impl Strategy<Value = d::ProbeState> {
    let missing =
        (field(), absence()).prop_map(|(field, reason)| d::MissingField { field, reason });
    prop_oneof![
        vec(missing, 0..4).prop_map(|missing| d::ProbeState::Measured { missing }),
        (absence(), text())
            .prop_map(|(reason, detail)| d::ProbeState::NotMeasured { reason, detail }),
    ]
}

fn gap_reason() -> impl Strategy<Value = d::GapReason> {
    use d::GapReason as G;
    select(vec![
        G::GpuLost,
        G::ResetRequired,
        G::DriverReset,
        G::DriverError,
        G::ReadFailed,
        G::Stalled,
        G::QueueFull,
        G::PublishFailed,
    ])
}

prop_compose! {
    fn gap()(
        ends in (any::<u64>(), any::<u64>()),
        source in source(),
        reason in gap_reason(),
        detail in text(),
    ) -> d::Gap {
        d::Gap { from: MonoNs(ends.0), to: MonoNs(ends.1), source, reason, detail }
    }
}

prop_compose! {
    fn gpu_error()(at in any::<u64>(), uuid in text(), xid in any::<u64>()) -> d::GpuError {
        d::GpuError { at: MonoNs(at), uuid: d::GpuUuid(uuid), xid }
    }
}

prop_compose! {
    fn batch()(
        node in "[a-z0-9_-]{1,8}",
        counts in (any::<u64>(), any::<u64>(), any::<u64>()),
        clock in (text(), any::<u64>(), any::<u64>()),
        gpus in vec(facts(), 0..3),
        probes in vec((source(), state()), 0..3),
        samples in vec(sample(), 0..3),
        gaps in vec(gap(), 0..3),
        gpu_errors in vec(gpu_error(), 0..3),
    ) -> d::TelemetryBatch {
        d::TelemetryBatch {
            node: NodeId::try_new(node).unwrap(),
            sampler_started: MonoNs(counts.0),
            seq: counts.1,
            clock: ClockReading {
                boot_id: BootId(clock.0),
                mono_ns: MonoNs(clock.1),
                wall_unix_ns: clock.2,
            },
            period_ns: counts.2,
            gpus,
            probes: probes
                .into_iter()
                .map(|(source, state)| d::ProbeStatus { source, state })
                .collect(),
            samples,
            gaps,
            gpu_errors,
        }
    }
}

proptest! {
    #[test]
    fn a_batch_round_trips_and_its_bytes_are_its_own(batch in batch()) {
        let bytes = encode_batch(&batch);
        let back = decode_batch(&batch.node, &bytes).unwrap();
        prop_assert_eq!(&back, &batch);
        prop_assert_eq!(encode_batch(&back), bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read_but_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let node = NodeId::try_new("n1").unwrap();
        prop_assert!(decode_batch(&node, &bytes).is_err());
    }
}

fn small() -> d::TelemetryBatch {
    d::TelemetryBatch {
        node: NodeId::try_new("n1").unwrap(),
        sampler_started: MonoNs(5),
        seq: 1,
        clock: ClockReading {
            boot_id: BootId("b".to_owned()),
            mono_ns: MonoNs(9),
            wall_unix_ns: 1,
        },
        period_ns: 100,
        gpus: Vec::new(),
        probes: Vec::new(),
        samples: Vec::new(),
        gaps: Vec::new(),
        gpu_errors: Vec::new(),
    }
}

#[test]
fn a_batch_of_another_node_is_refused() {
    let other = NodeId::try_new("n2").unwrap();
    let error = decode_batch(&other, &encode_batch(&small())).unwrap_err();
    assert_eq!(error.kind(), "out_of_range");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let broken = |change: fn(&mut pb::TelemetryBatch)| {
        let mut message = pb::TelemetryBatch::from(&small());
        change(&mut message);
        d::TelemetryBatch::try_from(message).unwrap_err().kind()
    };
    assert_eq!(broken(|b| b.clock = None), "missing_field");
    assert_eq!(broken(|b| b.node_id = "a.b".to_owned()), "bad_id");
    assert_eq!(
        broken(|b| b.gaps = vec![pb::TelemetryGap::default()]),
        "missing_field"
    );
    assert_eq!(
        broken(|b| {
            let power_watts = Some(f64::NAN);
            let gpu = pb::GpuSample {
                power_watts,
                ..pb::GpuSample::default()
            };
            let host = Some(pb::HostSample::default());
            let sample = pb::TelemetrySample {
                host,
                gpus: vec![gpu],
                ..pb::TelemetrySample::default()
            };
            b.samples = vec![sample];
        }),
        "out_of_range"
    );
    assert_eq!(
        broken(|b| {
            let process = pb::GpuProcess::default();
            let processes = Some(pb::GpuProcesses {
                processes: vec![process],
            });
            let gpu = pb::GpuSample {
                processes,
                ..pb::GpuSample::default()
            };
            let host = Some(pb::HostSample::default());
            let sample = pb::TelemetrySample {
                host,
                gpus: vec![gpu],
                ..pb::TelemetrySample::default()
            };
            b.samples = vec![sample];
        }),
        "unknown_enum"
    );
}

fn one_sample(host: pb::HostSample, processes: Vec<pb::ProcessSample>) -> pb::TelemetryBatch {
    pb::TelemetryBatch {
        samples: vec![pb::TelemetrySample {
            host: Some(host),
            processes,
            ..pb::TelemetrySample::default()
        }],
        ..pb::TelemetryBatch::from(&small())
    }
}

#[test]
fn a_sixth_busy_process_is_refused() {
    let read = |n| {
        let processes = vec![pb::BusyProcess::default(); n];
        let host = pb::HostSample {
            busy_others: Some(pb::BusyProcesses { processes }),
            ..pb::HostSample::default()
        };
        d::TelemetryBatch::try_from(one_sample(host, Vec::new()))
    };
    assert!(read(d::MAX_BUSY_OTHERS).is_ok());
    let error = read(d::MAX_BUSY_OTHERS + 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "HostSample.busy_others: names more than 5 processes"
    );
}

#[test]
fn an_older_sampler_read_engines_only() {
    let read = |part| {
        let process = pb::ProcessSample {
            part,
            ..pb::ProcessSample::default()
        };
        let batch = one_sample(pb::HostSample::default(), vec![process]);
        d::TelemetryBatch::try_from(batch).map(|batch| batch.samples[0].processes[0].part)
    };
    assert_eq!(read(None).unwrap(), d::ProcessPart::Engine);
    assert_eq!(read(Some(2)).unwrap(), d::ProcessPart::Harness);
    assert_eq!(read(Some(0)).unwrap_err().kind(), "unknown_enum");
}

#[test]
fn a_sampler_that_starts_again_has_another_session() {
    let first = small();
    let second = d::TelemetryBatch {
        sampler_started: MonoNs(6),
        ..small()
    };
    assert_ne!(sampler_session(&first), sampler_session(&second));
}
