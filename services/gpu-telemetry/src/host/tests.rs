use std::fs;
use std::path::Path;

use super::cpu::Ticks;
use super::*;

const BEFORE: &str = "cpu  100 10 50 1000 40 5 5 20 7 0\n\
    cpu0 50 5 25 500 20 3 2 10 7 0\n\
    cpu1 50 5 25 500 20 2 3 10 0 0\n\
    intr 5 0 0\nctxt 7\n";
// cpu0 worked 10 ticks of 10; cpu1 idled 6, waited 2 and lost 2 to the hypervisor.
const AFTER: &str = "cpu  110 10 50 1006 42 5 5 22 7 0\n\
    cpu0 60 5 25 500 20 3 2 10 7 0\n\
    cpu1 50 5 25 506 22 2 3 12 0 0\n";

#[test]
fn fractions_are_of_the_time_between_two_readings() {
    let before = CpuTimes::parse(BEFORE).unwrap();
    let after = CpuTimes::parse(AFTER).unwrap();
    assert_eq!(
        before.all,
        Ticks {
            busy: 170,
            steal: 20,
            total: 1230
        }
    );
    assert_eq!(after.all.busy_since(&before.all), Some(0.5));
    assert_eq!(after.all.steal_since(&before.all), Some(0.1));
    assert_eq!(after.cores_since(&before), [1.0, 0.0]);
}

#[test]
fn what_cannot_be_told_is_not_told() {
    let before = CpuTimes::parse(BEFORE).unwrap();
    assert_eq!(before.all.busy_since(&before.all), None, "no time passed");
    assert!(before.cores_since(&before).is_empty());
    let mut one_core = before.clone();
    one_core.cores.pop();
    assert!(before.cores_since(&one_core).is_empty(), "a core came");
    for bad in ["", "intr 5\n", "cpu  1 2 3\n", "cpu a b c d e f g h\n"] {
        assert_eq!(CpuTimes::parse(bad), None, "{bad}");
    }
    assert_eq!(memory("MemTotal: 5 kB\n"), (Some(5120), None));
    assert_eq!(load1("nan 1 1"), None);
    assert_eq!(pressure("full avg10=0.00 total=0\n"), None);
}

#[test]
fn a_counter_that_stepped_back_is_no_negative_share() {
    let before = Ticks {
        busy: 100,
        steal: 3,
        total: 200,
    };
    let after = Ticks {
        busy: 99,
        steal: 3,
        total: 210,
    };
    assert_eq!(after.busy_since(&before), Some(0.0));
}

#[test]
fn small_files_are_read() {
    assert_eq!(
        memory("MemTotal:  2 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n"),
        (Some(2048), Some(1024))
    );
    assert_eq!(load1("1.08 1.06 0.60 2/109 17353\n"), Some(1.08));
    assert_eq!(
        pressure("some avg10=25.00 avg60=21.46 avg300=11.62 total=2500000\nfull avg10=0.00\n"),
        Some((0.25, 2.5))
    );
}

#[test]
fn this_host_is_read() {
    let mut host = HostReader::open(&Roots::system());
    let first = host.sample();
    assert_eq!(
        first.cpu_busy_fraction, None,
        "there is nothing to compare with yet"
    );
    assert!(
        first
            .cpu_busy_core_seconds
            .is_some_and(|seconds| seconds > 0.0)
    );
    let total = first.memory_total_bytes.unwrap();
    assert!(
        first
            .memory_available_bytes
            .is_some_and(|free| free > 0 && free <= total)
    );
    let second = host.sample();
    assert!(second.cpu_busy_core_seconds >= first.cpu_busy_core_seconds);
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn missing(host: &HostReader) -> Vec<(TelemetryField, Absence)> {
    let ProbeState::Measured { missing } = host.status(None).state else {
        panic!("the host is always measured");
    };
    missing.into_iter().map(|m| (m.field, m.reason)).collect()
}

#[test]
fn a_whole_host_is_read_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let stat =
        format!("{BEFORE}btime 1\nprocesses 9\nprocs_running 3\nprocs_blocked 0\nsoftirq 9 1 2\n");
    write(root, "proc/stat", &stat);
    write(root, "proc/meminfo", "MemTotal: 4 kB\nMemAvailable: 1 kB\n");
    write(root, "proc/loadavg", "1.50 1 1 2/3 4\n");
    for (kind, total) in [("cpu", 1_000_000), ("memory", 2_000_000), ("io", 3_500_000)] {
        write(
            root,
            &format!("proc/pressure/{kind}"),
            &format!("some avg10=1.00 avg60=0.00 avg300=0.00 total={total}\n"),
        );
    }
    let bytes = "sys/fs/resctrl/mon_data/mon_L3_00/mbm_total_bytes";
    write(root, bytes, "1000\n");

    let mut host = HostReader::open(&Roots::below(root));
    let first = host.sample();
    assert_eq!(first.tasks_runnable, Some(3));
    assert_eq!(first.context_switches, Some(7));
    assert_eq!(first.cpu_pressure_some_seconds, Some(1.0));
    assert_eq!(first.memory_pressure_some_seconds, Some(2.0));
    assert_eq!(first.io_pressure_some_seconds, Some(3.5));
    assert_eq!(missing(&host), []);
    write(root, bytes, "4000\n");
    let second = host.sample();
    let moved = second.memory_traffic_bytes.unwrap() - first.memory_traffic_bytes.unwrap();
    assert_eq!(moved, 3000);
}

#[test]
fn a_host_without_its_files_says_what_is_missing_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = HostReader::open(&Roots::below(folder.path()));
    assert_eq!(host.sample(), HostSample::default());
    assert_eq!(
        missing(&host),
        [
            (TelemetryField::Cpu, Absence::Unreadable),
            (TelemetryField::Memory, Absence::Unreadable),
            (TelemetryField::Load, Absence::Unreadable),
            (TelemetryField::Pressure, Absence::Unreadable),
            (TelemetryField::MemoryTraffic, Absence::NotSupported),
        ]
    );
    let status = host.status(Some(Absence::Disabled));
    let ProbeState::Measured { missing } = status.state else {
        panic!("{status:?}");
    };
    assert_eq!(
        missing.last().map(|m| (m.field, m.reason)),
        Some((TelemetryField::BusyOthers, Absence::Disabled))
    );
}

#[test]
fn tasks_are_counted_where_the_kernel_counts_them() {
    assert_eq!(Tasks::parse(AFTER), Tasks::default());
    assert_eq!(
        Tasks::parse("intr 1 2\nctxt 12\nprocs_running 2\n"),
        Tasks {
            switches: Some(12),
            runnable: Some(2)
        }
    );
}
