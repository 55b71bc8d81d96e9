//! The host and the processes of a batch.

use chimera_domain::telemetry as d;

use super::{all, finite_opt};
use crate::common::{enum_twins, finite, number, opt_enumeration};
use crate::error::WireError;
use crate::pb;

enum_twins!(d::ProcessPart { Engine, Harness });

impl From<&d::HostSample> for pb::HostSample {
    fn from(v: &d::HostSample) -> Self {
        Self {
            cpu_busy_fraction: v.cpu_busy_fraction,
            core_busy_fractions: v.core_busy_fractions.clone(),
            cpu_steal_fraction: v.cpu_steal_fraction,
            cpu_busy_core_seconds: v.cpu_busy_core_seconds,
            memory_total_bytes: v.memory_total_bytes,
            memory_available_bytes: v.memory_available_bytes,
            load1: v.load1,
            cpu_pressure_some_avg10: v.cpu_pressure_some_avg10,
            cpu_pressure_some_seconds: v.cpu_pressure_some_seconds,
            memory_pressure_some_seconds: v.memory_pressure_some_seconds,
            io_pressure_some_seconds: v.io_pressure_some_seconds,
            tasks_runnable: v.tasks_runnable,
            context_switches: v.context_switches,
            memory_traffic_bytes: v.memory_traffic_bytes,
            busy_others: v.busy_others.as_ref().map(|list| pb::BusyProcesses {
                processes: list.iter().map(Into::into).collect(),
            }),
        }
    }
}

impl TryFrom<pb::HostSample> for d::HostSample {
    type Error = WireError;
    fn try_from(v: pb::HostSample) -> Result<Self, WireError> {
        let cores = v.core_busy_fractions.into_iter();
        Ok(Self {
            cpu_busy_fraction: finite_opt(v.cpu_busy_fraction, "HostSample.cpu_busy_fraction")?,
            core_busy_fractions: cores
                .map(|busy| finite(busy, "HostSample.core_busy_fractions"))
                .collect::<Result<_, _>>()?,
            cpu_steal_fraction: finite_opt(v.cpu_steal_fraction, "HostSample.cpu_steal_fraction")?,
            cpu_busy_core_seconds: finite_opt(
                v.cpu_busy_core_seconds,
                "HostSample.cpu_busy_core_seconds",
            )?,
            memory_total_bytes: v.memory_total_bytes,
            memory_available_bytes: v.memory_available_bytes,
            load1: finite_opt(v.load1, "HostSample.load1")?,
            cpu_pressure_some_avg10: finite_opt(
                v.cpu_pressure_some_avg10,
                "HostSample.cpu_pressure_some_avg10",
            )?,
            cpu_pressure_some_seconds: finite_opt(
                v.cpu_pressure_some_seconds,
                "HostSample.cpu_pressure_some_seconds",
            )?,
            memory_pressure_some_seconds: finite_opt(
                v.memory_pressure_some_seconds,
                "HostSample.memory_pressure_some_seconds",
            )?,
            io_pressure_some_seconds: finite_opt(
                v.io_pressure_some_seconds,
                "HostSample.io_pressure_some_seconds",
            )?,
            tasks_runnable: v.tasks_runnable,
            context_switches: v.context_switches,
            memory_traffic_bytes: v.memory_traffic_bytes,
            busy_others: v.busy_others.map(busy).transpose()?,
        })
    }
}

impl From<&d::ProcessSample> for pb::ProcessSample {
    fn from(v: &d::ProcessSample) -> Self {
        Self {
            pid: v.pid,
            parent_pid: v.parent_pid,
            start_ticks: v.start_ticks,
            name: v.name.clone(),
            cpu_seconds: v.cpu_seconds,
            cores_used: v.cores_used,
            rss_bytes: v.rss_bytes,
            minor_faults: v.minor_faults,
            major_faults: v.major_faults,
            threads: v.threads,
            run_delay_seconds: v.run_delay_seconds,
            voluntary_switches: v.voluntary_switches,
            involuntary_switches: v.involuntary_switches,
            part: Some(number::<pb::ProcessPart, _>(v.part)),
        }
    }
}

impl TryFrom<pb::ProcessSample> for d::ProcessSample {
    type Error = WireError;
    fn try_from(v: pb::ProcessSample) -> Result<Self, WireError> {
        Ok(Self {
            pid: v.pid,
            parent_pid: v.parent_pid,
            start_ticks: v.start_ticks,
            name: v.name,
            cpu_seconds: finite_opt(v.cpu_seconds, "ProcessSample.cpu_seconds")?,
            cores_used: finite_opt(v.cores_used, "ProcessSample.cores_used")?,
            rss_bytes: v.rss_bytes,
            minor_faults: v.minor_faults,
            major_faults: v.major_faults,
            threads: v.threads,
            run_delay_seconds: finite_opt(v.run_delay_seconds, "ProcessSample.run_delay_seconds")?,
            voluntary_switches: v.voluntary_switches,
            involuntary_switches: v.involuntary_switches,
            part: opt_enumeration::<pb::ProcessPart, _>(v.part, "ProcessSample.part")?
                .unwrap_or_default(),
        })
    }
}

impl From<&d::BusyProcess> for pb::BusyProcess {
    fn from(v: &d::BusyProcess) -> Self {
        Self {
            pid: v.pid,
            name: v.name.clone(),
            cores_used: v.cores_used,
        }
    }
}

impl TryFrom<pb::BusyProcess> for d::BusyProcess {
    type Error = WireError;
    fn try_from(v: pb::BusyProcess) -> Result<Self, WireError> {
        Ok(Self {
            pid: v.pid,
            name: v.name,
            cores_used: finite(v.cores_used, "BusyProcess.cores_used")?,
        })
    }
}

fn busy(v: pb::BusyProcesses) -> Result<Vec<d::BusyProcess>, WireError> {
    if v.processes.len() > d::MAX_BUSY_OTHERS {
        return Err(WireError::OutOfRange {
            field: "HostSample.busy_others",
            why: "names more than 5 processes",
        });
    }
    all(v.processes)
}
