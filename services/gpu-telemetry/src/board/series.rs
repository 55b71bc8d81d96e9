//! The names and units of every series: docs/telemetry.md lists them.
//!
//! Where DCGM has a name for a reading of a GPU, it is used, with DCGM's unit and labels, so that
//! dashboards made for its exporter work; everything else is `chimera_`, in base units.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use chimera_domain::telemetry::{
    GpuProcess, GpuProcessKind, GpuSample, HostSample, ProcessPart, ProcessSample,
};
use chimera_domain::units::ns_to_s;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Latest, Shown, lock};
use crate::proc::number;

const MEBIBYTE: f64 = 1_048_576.0;

/// All series, as OpenMetrics text.
pub(super) fn text(shown: &Shown, latest: Option<Latest>) -> String {
    let mut families = own(shown);
    if let Some(latest) = latest {
        sampler(&latest, &mut families);
        host(&latest.sample.host, &mut families);
        processes(&latest.sample.processes, &mut families);
        gpus(&latest, &mut families);
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::new();
    // Writing to a string does not fail.
    if let Err(error) = encode(&mut out, &registry) {
        tracing::error!(%error, "metrics cannot be written");
    }
    out
}

type Labels = Vec<(&'static str, String)>;

/// One name and its values; nothing is written of one without values.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Vec<(Labels, f64)>,
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.values.is_empty()) {
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.values {
                match (labels.as_slice(), family.kind) {
                    ([], MetricType::Counter) => {
                        metric.encode_counter::<Labels, _, f64>(value, None)?
                    }
                    ([], _) => metric.encode_gauge(value)?,
                    (_, MetricType::Counter) => {
                        ConstCounter::new(*value).encode(metric.encode_family(labels)?)?;
                    }
                    _ => ConstGauge::new(*value).encode(metric.encode_family(labels)?)?,
                }
            }
        }
        Ok(())
    }
}

fn family(
    kind: MetricType,
    (name, help): (&'static str, &'static str),
    values: impl IntoIterator<Item = (Labels, Option<f64>)>,
) -> Family {
    Family {
        name,
        help,
        kind,
        values: values
            .into_iter()
            .filter_map(|(labels, value)| value.map(|value| (labels, value)))
            .collect(),
    }
}

fn one(value: Option<f64>) -> [(Labels, Option<f64>); 1] {
    [(Vec::new(), value)]
}

fn count(value: Option<u64>) -> Option<f64> {
    value.map(number)
}

use MetricType::{Counter, Gauge};

fn own(shown: &Shown) -> Vec<Family> {
    let load = |counter: &AtomicU64| one(Some(number(counter.load(Ordering::Relaxed))));
    let reason =
        |reason: chimera_domain::telemetry::GapReason| vec![("reason", reason.as_str().to_owned())];
    let gaps = lock(&shown.gaps).clone();
    let lost = lock(&shown.lost).clone();
    vec![
        family(
            Counter,
            (
                "chimera_telemetry_ticks",
                "Ticks at which everything was read",
            ),
            load(&shown.ticks),
        ),
        family(
            Counter,
            (
                "chimera_telemetry_missed_ticks",
                "Ticks left out because the one before took too long or the sampler was not run",
            ),
            load(&shown.missed_ticks),
        ),
        family(
            Counter,
            (
                "chimera_telemetry_batches_stored",
                "Batches that the bus stored",
            ),
            load(&shown.stored),
        ),
        family(
            Counter,
            (
                "chimera_telemetry_publish_failures",
                "Offers of a batch that the bus did not take; it may have been offered again",
            ),
            load(&shown.publish_failures),
        ),
        family(
            Counter,
            (
                "chimera_telemetry_batches_lost",
                "Batches that nobody will have",
            ),
            lost.into_iter().map(|(r, n)| (reason(r), Some(number(n)))),
        ),
        family(
            Counter,
            (
                "chimera_telemetry_gaps",
                "Intervals without readings told in batches; one that goes on is told in each",
            ),
            gaps.iter()
                .map(|(r, g)| (reason(*r), Some(number(g.count)))),
        ),
        family(
            Counter,
            (
                "chimera_telemetry_gap_seconds",
                "Length of the intervals without readings",
            ),
            gaps.iter().map(|(r, g)| (reason(*r), Some(ns_to_s(g.ns)))),
        ),
    ]
}

fn sampler(latest: &Latest, families: &mut Vec<Family>) {
    families.extend([
        family(
            Gauge,
            (
                "chimera_telemetry_period_seconds",
                "Intended distance of two samples",
            ),
            one(Some(ns_to_s(latest.period_ns))),
        ),
        family(
            Gauge,
            (
                "chimera_telemetry_tick_seconds",
                "How long the readings of the last tick took",
            ),
            one(Some(ns_to_s(latest.sample.took_ns))),
        ),
    ]);
}

fn host(host: &HostSample, families: &mut Vec<Family>) {
    let cores = host.core_busy_fractions.iter().enumerate();
    let resource = |name: &str| vec![("resource", name.to_owned())];
    let others = host.busy_others.iter().flatten();
    families.extend([
        family(
            Gauge,
            (
                "chimera_host_cpu_busy_ratio",
                "Part of all cores' time spent working",
            ),
            one(host.cpu_busy_fraction),
        ),
        family(
            Gauge,
            (
                "chimera_host_core_busy_ratio",
                "Part of one core's time spent working",
            ),
            cores.map(|(core, busy)| (vec![("core", core.to_string())], Some(*busy))),
        ),
        family(
            Gauge,
            (
                "chimera_host_cpu_steal_ratio",
                "Part of all cores' time that the hypervisor gave away",
            ),
            one(host.cpu_steal_fraction),
        ),
        family(
            Counter,
            (
                "chimera_host_cpu_busy_seconds",
                "Core-seconds of work since boot",
            ),
            one(host.cpu_busy_core_seconds),
        ),
        family(
            Gauge,
            ("chimera_host_memory_size_bytes", "Memory of the host"),
            one(count(host.memory_total_bytes)),
        ),
        family(
            Gauge,
            (
                "chimera_host_memory_available_bytes",
                "Memory that new work could have",
            ),
            one(count(host.memory_available_bytes)),
        ),
        family(
            Gauge,
            ("chimera_host_load1", "Load average over one minute"),
            one(host.load1),
        ),
        family(
            Counter,
            (
                "chimera_host_pressure_seconds",
                "Time in which some task waited for the resource (PSI)",
            ),
            [
                (resource("cpu"), host.cpu_pressure_some_seconds),
                (resource("memory"), host.memory_pressure_some_seconds),
                (resource("io"), host.io_pressure_some_seconds),
            ],
        ),
        family(
            Gauge,
            ("chimera_host_tasks_runnable", "Tasks that ran or wanted to"),
            one(host.tasks_runnable.map(f64::from)),
        ),
        family(
            Counter,
            (
                "chimera_host_context_switches",
                "Context switches since boot",
            ),
            one(count(host.context_switches)),
        ),
        family(
            Counter,
            (
                "chimera_host_memory_traffic_bytes",
                "Bytes between memory and processor (resctrl)",
            ),
            one(count(host.memory_traffic_bytes)),
        ),
        family(
            Gauge,
            (
                "chimera_host_busy_other_cores",
                "Cores used by a busy process that is no engine and not ours",
            ),
            others.map(|other| {
                let labels = vec![("pid", other.pid.to_string()), ("name", other.name.clone())];
                (labels, Some(other.cores_used))
            }),
        ),
    ]);
}

fn processes(processes: &[ProcessSample], families: &mut Vec<Family>) {
    let labels = |process: &ProcessSample, kind: Option<&str>| {
        let part = match process.part {
            ProcessPart::Engine => "engine",
            ProcessPart::Harness => "harness",
        };
        let mut labels = vec![
            ("pid", process.pid.to_string()),
            ("name", process.name.clone()),
            ("part", part.to_owned()),
        ];
        labels.extend(kind.map(|kind| ("kind", kind.to_owned())));
        labels
    };
    let each = |value: fn(&ProcessSample) -> Option<f64>| {
        processes
            .iter()
            .map(move |process| (labels(process, None), value(process)))
    };
    let kinds = |a: (&'static str, fn(&ProcessSample) -> Option<u64>),
                 b: (&'static str, fn(&ProcessSample) -> Option<u64>)| {
        processes.iter().flat_map(move |process| {
            [a, b].map(|(kind, value)| (labels(process, Some(kind)), count(value(process))))
        })
    };
    families.extend([
        family(
            Counter,
            (
                "chimera_process_cpu_seconds",
                "Processor time of all its threads",
            ),
            each(|p| p.cpu_seconds),
        ),
        family(
            Gauge,
            (
                "chimera_process_cores_used",
                "Cores in use since the sample before",
            ),
            each(|p| p.cores_used),
        ),
        family(
            Counter,
            (
                "chimera_process_run_delay_seconds",
                "Time its threads waited for a free core",
            ),
            each(|p| p.run_delay_seconds),
        ),
        family(
            Gauge,
            (
                "chimera_process_resident_memory_bytes",
                "Memory resident in RAM",
            ),
            each(|p| count(p.rss_bytes)),
        ),
        family(
            Gauge,
            ("chimera_process_threads", "Threads"),
            each(|p| p.threads.map(f64::from)),
        ),
        family(
            Counter,
            (
                "chimera_process_page_faults",
                "Page faults; major ones waited for a disk",
            ),
            kinds(("minor", |p| p.minor_faults), ("major", |p| p.major_faults)),
        ),
        family(
            Counter,
            (
                "chimera_process_context_switches",
                "Switches away from a core; involuntary ones took it away",
            ),
            kinds(
                ("voluntary", |p| p.voluntary_switches),
                ("involuntary", |p| p.involuntary_switches),
            ),
        ),
    ]);
}

/// A sample of a GPU with the labels of DCGM's exporter.
struct Gpu<'a> {
    labels: Labels,
    sample: &'a GpuSample,
    power_limit_watts: Option<f64>,
    slowdown_celsius: Option<u32>,
    memory_total_bytes: Option<u64>,
    xid: Option<u64>,
}

impl Gpu<'_> {
    fn with(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
        let mut labels = self.labels.clone();
        labels.extend(more);
        labels
    }
}

fn gpus(latest: &Latest, families: &mut Vec<Family>) {
    let all: Vec<Gpu<'_>> = latest
        .sample
        .gpus
        .iter()
        .map(|sample| {
            let facts = latest.facts.iter().find(|facts| facts.uuid == sample.uuid);
            let mut labels = vec![("UUID", sample.uuid.0.clone())];
            if let Some(facts) = facts {
                labels.insert(0, ("gpu", facts.index.to_string()));
                let name = facts.name.clone();
                labels.extend(name.map(|name| ("modelName", name)));
            }
            labels.push(("Hostname", latest.node.to_string()));
            Gpu {
                labels,
                sample,
                power_limit_watts: facts.and_then(|facts| facts.power_limit_watts),
                slowdown_celsius: facts.and_then(|facts| facts.slowdown_celsius),
                memory_total_bytes: facts.and_then(|facts| facts.memory_total_bytes),
                xid: latest.xids.get(&sample.uuid).copied(),
            }
        })
        .collect();
    dcgm(&all, families);
    beyond_dcgm(&all, families);
}

/// What DCGM has a name for. Its totals have no suffix, hence no type of their own here.
fn dcgm(all: &[Gpu<'_>], families: &mut Vec<Family>) {
    let each = |value: fn(&Gpu<'_>) -> Option<f64>| {
        all.iter().map(move |gpu| (gpu.labels.clone(), value(gpu)))
    };
    let mebibytes = |name, help, value: fn(&Gpu<'_>) -> Option<u64>| {
        let values = all.iter().map(move |gpu| {
            let bytes = count(value(gpu));
            (gpu.labels.clone(), bytes.map(|bytes| bytes / MEBIBYTE))
        });
        family(Gauge, (name, help), values)
    };
    let gauge = |name, help, value| family(Gauge, (name, help), each(value));
    let total = |name, help, value| family(MetricType::Unknown, (name, help), each(value));
    families.extend([
        gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)", |gpu| {
            gpu.sample.utilisation.map(|part| part * 100.0)
        }),
        gauge(
            "DCGM_FI_DEV_MEM_COPY_UTIL",
            "Memory utilization (in %)",
            |gpu| gpu.sample.memory_utilisation.map(|part| part * 100.0),
        ),
        mebibytes(
            "DCGM_FI_DEV_FB_USED",
            "Framebuffer memory used (in MiB)",
            |gpu| gpu.sample.memory_used_bytes,
        ),
        mebibytes(
            "DCGM_FI_DEV_FB_FREE",
            "Framebuffer memory free (in MiB)",
            |gpu| gpu.sample.memory_free_bytes,
        ),
        mebibytes(
            "DCGM_FI_DEV_FB_RESERVED",
            "Framebuffer memory reserved (in MiB)",
            |gpu| gpu.sample.memory_reserved_bytes,
        ),
        mebibytes(
            "DCGM_FI_DEV_FB_TOTAL",
            "Framebuffer memory in all (in MiB)",
            |gpu| gpu.memory_total_bytes,
        ),
        gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)", |gpu| {
            gpu.sample.power_watts
        }),
        gauge(
            "DCGM_FI_DEV_POWER_MGMT_LIMIT",
            "Power limit (in W)",
            |gpu| gpu.power_limit_watts,
        ),
        total(
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
            "Total energy consumption since the driver was loaded (in mJ)",
            |gpu| gpu.sample.energy_joules.map(|joules| joules * 1e3),
        ),
        gauge(
            "DCGM_FI_DEV_SM_CLOCK",
            "SM clock frequency (in MHz)",
            |gpu| gpu.sample.sm_clock_mhz.map(f64::from),
        ),
        gauge(
            "DCGM_FI_DEV_MEM_CLOCK",
            "Memory clock frequency (in MHz)",
            |gpu| gpu.sample.memory_clock_mhz.map(f64::from),
        ),
        gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C)", |gpu| {
            gpu.sample.temperature_celsius.map(f64::from)
        }),
        gauge(
            "DCGM_FI_DEV_SLOWDOWN_TEMP",
            "Temperature at which the GPU slows down (in C)",
            |gpu| gpu.slowdown_celsius.map(f64::from),
        ),
        total(
            "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
            "Memory errors corrected since the driver was loaded",
            |gpu| count(gpu.sample.ecc_corrected),
        ),
        total(
            "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
            "Memory errors not corrected since the driver was loaded",
            |gpu| count(gpu.sample.ecc_uncorrected),
        ),
        gauge(
            "DCGM_FI_DEV_XID_ERRORS",
            "Value of the last XID error since telemetry started",
            |gpu| count(gpu.xid),
        ),
    ]);
}

fn beyond_dcgm(all: &[Gpu<'_>], families: &mut Vec<Family>) {
    let each = |value: fn(&GpuSample) -> Option<u64>| {
        all.iter()
            .map(move |gpu| (gpu.labels.clone(), count(value(gpu.sample))))
    };
    let throttled = all.iter().flat_map(|gpu| {
        let reasons = gpu.sample.throttle_reasons.iter().flatten();
        reasons.map(|reason| {
            let labels = gpu.with([("reason", reason.as_str().to_owned())]);
            (labels, Some(1.0))
        })
    });
    let of_processes = |value: fn(&GpuProcess) -> Option<f64>| {
        all.iter().flat_map(move |gpu| {
            let processes = gpu.sample.processes.iter().flatten();
            processes.map(move |process| {
                let kind = match process.kind {
                    GpuProcessKind::Compute => "compute",
                    GpuProcessKind::Graphics => "graphics",
                };
                let more = [("pid", process.pid.to_string()), ("kind", kind.to_owned())];
                (gpu.with(more), value(process))
            })
        })
    };
    families.extend([
        family(
            Gauge,
            (
                "chimera_gpu_throttled",
                "1 for every reason that holds the clocks down; none: no series",
            ),
            throttled,
        ),
        family(
            Gauge,
            (
                "chimera_gpu_pcie_receive_bytes_per_second",
                "From the host to the GPU, over 20 ms",
            ),
            each(|gpu| gpu.pcie_rx_bytes_per_s),
        ),
        family(
            Gauge,
            (
                "chimera_gpu_pcie_transmit_bytes_per_second",
                "From the GPU to the host, over 20 ms",
            ),
            each(|gpu| gpu.pcie_tx_bytes_per_s),
        ),
        family(
            Gauge,
            (
                "chimera_gpu_process_memory_bytes",
                "Device memory that a process holds",
            ),
            of_processes(|process| count(process.memory_used_bytes)),
        ),
        family(
            Gauge,
            (
                "chimera_gpu_process_busy_ratio",
                "Part of the driver's window in which its kernels ran",
            ),
            of_processes(|process| process.utilisation),
        ),
    ]);
}
