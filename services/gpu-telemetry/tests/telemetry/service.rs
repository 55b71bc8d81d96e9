//! The whole service, with a sink that collects.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chimera_domain::ids::NodeId;
use chimera_domain::telemetry::{GapReason, GpuUuid, ProbeState, Source, TelemetryBatch};
use chimera_runtime::bus::PublishError;
use gpu_telemetry::publish::BatchSink;
use gpu_telemetry::{Config, run_with};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeDriver, gpu, script};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<TelemetryBatch>>>);

impl BatchSink for Collector {
    async fn store(&self, batch: &TelemetryBatch) -> Result<(), PublishError> {
        self.0.lock().unwrap().push(batch.clone());
        Ok(())
    }
}

pub(crate) fn config() -> Config {
    Config::local(NodeId::try_new("n1").unwrap())
}

/// Runs the service while `work` goes on; its batches, and what `work` gave.
pub(crate) async fn collect<T>(
    config: Config,
    work: impl Future<Output = T>,
) -> (Vec<TelemetryBatch>, T) {
    let shutdown = CancellationToken::new();
    let collector = Collector::default();
    let service = run_with(config, collector.clone(), shutdown.clone());
    let (ended, value) = tokio::join!(service, async {
        let value = work.await;
        shutdown.cancel();
        value
    });
    ended.unwrap();
    let batches = collector.0.lock().unwrap().clone();
    (batches, value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_whole_and_the_last_one_is_stored_after_the_stop() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let config = Config {
        nvml_library: Some(driver.library()),
        ..config()
    };
    let (batches, ()) = collect(config, tokio::time::sleep(Duration::from_millis(2300))).await;

    let numbers: Vec<u64> = batches.iter().map(|batch| batch.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let samples: Vec<_> = batches.iter().flat_map(|batch| &batch.samples).collect();
    assert!(samples.is_sorted_by_key(|sample| sample.at));
    // 23 if the machine is idle; a busy one may miss ticks, and says so.
    let stalled = batches
        .iter()
        .flat_map(|b| &b.gaps)
        .any(|gap| gap.reason == GapReason::Stalled);
    assert!(samples.len() >= 18 || stalled, "{} samples", samples.len());
    assert!(samples.iter().all(|sample| sample.gpus.len() == 1));
    assert!(
        samples
            .iter()
            .all(|sample| sample.host.memory_total_bytes.is_some())
    );
    let first = &batches[0];
    assert_eq!(first.gpus[0].uuid.0, "GPU-1");
    let sources: Vec<_> = first
        .probes
        .iter()
        .map(|probe| probe.source.to_string())
        .collect();
    assert_eq!(sources, ["host", "engine processes", "GPU-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_reset_is_one_gap_in_the_batches() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    let config = Config {
        nvml_library: Some(driver.library()),
        ..config()
    };
    let (batches, ()) = collect(config, async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        driver.play(&script(1, &[gpu("GPU-1", &json!({}))]));
        tokio::time::sleep(Duration::from_millis(400)).await;
    })
    .await;
    let resets: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.gaps)
        .filter(|gap| gap.reason == GapReason::DriverReset)
        .collect();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert_eq!(resets[0].source, Source::Gpus);
    let last = batches
        .iter()
        .flat_map(|batch| &batch.samples)
        .next_back()
        .unwrap();
    assert_eq!(last.gpus.len(), 1, "and it is read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gpu_that_is_unplugged_is_a_gap_of_its_own_and_its_error_is_told() {
    let two = |first| script(0, &[gpu("GPU-1", &first), gpu("GPU-2", &json!({}))]);
    let driver = FakeDriver::new(&two(json!({})));
    let config = Config {
        nvml_library: Some(driver.library()),
        ..config()
    };
    let (batches, ()) = collect(config, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        driver.play(&two(json!({"state": "GPU_IS_LOST", "xids": [79]})));
        tokio::time::sleep(Duration::from_millis(500)).await;
        driver.play(&two(json!({})));
        tokio::time::sleep(Duration::from_millis(2000)).await;
    })
    .await;
    let first = GpuUuid("GPU-1".to_owned());
    let gaps: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.gaps)
        .filter(|gap| gap.reason == GapReason::GpuLost)
        .collect();
    assert!(
        gaps.iter()
            .all(|gap| gap.source == Source::Gpu(first.clone()))
    );
    assert!(gaps.windows(2).all(|pair| pair[0].to == pair[1].from));
    let (from, to) = (gaps[0].from, gaps[gaps.len() - 1].to);
    for sample in batches.iter().flat_map(|batch| &batch.samples) {
        let there = |uuid: &str| sample.gpus.iter().any(|gpu| gpu.uuid.0 == uuid);
        let outside = sample.at <= from || sample.at >= to;
        assert_eq!(there("GPU-1"), outside, "{:?}", sample.at);
        assert!(there("GPU-2"), "the other one is read on");
    }
    let last = batches.iter().flat_map(|batch| &batch.samples).next_back();
    assert!(last.unwrap().at > to, "and it is back");
    let errors: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.gpu_errors)
        .map(|error| (&error.uuid, error.xid))
        .collect();
    assert_eq!(errors, [(&first, 79)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gpu_the_host_is_recorded_all_the_same() {
    let nowhere = std::path::PathBuf::from("/nonexistent/libnvidia-ml.so.1");
    let config = Config {
        nvml_library: Some(nowhere),
        ..config()
    };
    let (batches, ()) = collect(config, tokio::time::sleep(Duration::from_millis(500))).await;
    let batch = &batches[0];
    assert!(batch.gpus.is_empty() && batch.samples.len() >= 2);
    let gpus = batch
        .probes
        .iter()
        .find(|probe| probe.source == Source::Gpus)
        .unwrap();
    assert!(matches!(gpus.state, ProbeState::NotMeasured { .. }));
    assert!(
        batch
            .samples
            .iter()
            .any(|sample| sample.host.cpu_busy_fraction.is_some())
    );
}

/// What the endpoint at `address` answers, once it is there.
async fn scrape(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for _ in 0..100 {
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        return answer;
    }
    panic!("nobody listens at {address}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_are_served_for_prometheus() {
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    // A free port, as nearly as one can know it beforehand.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = Config {
        nvml_library: Some(driver.library()),
        metrics_listen: Some(address),
        ..config()
    };
    let (_, answer) = collect(config, async {
        let mut answer = scrape(address).await;
        // The first batch is closed after a second.
        for _ in 0..100 {
            if answer.contains("DCGM_FI_DEV_GPU_UTIL{") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = scrape(address).await;
        }
        answer
    })
    .await;
    assert!(answer.contains("UUID=\"GPU-1\""), "{answer}");
    assert!(
        answer.contains("chimera_host_memory_size_bytes "),
        "{answer}"
    );
    assert!(answer.contains("part=\"harness\""), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test]
async fn a_port_for_metrics_that_is_taken_stops_the_service_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config {
        metrics_listen: Some(taken.local_addr().unwrap()),
        ..config()
    };
    let error = run_with(config, Collector::default(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--metrics-listen"), "{error}");
}

/// Engines that do nothing, for as long as this lives.
struct Engines {
    children: Vec<std::process::Child>,
    _folder: tempfile::TempDir,
}

impl Engines {
    fn start(count: usize, threads: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = folder.path().join("ollama-under-test");
        std::os::unix::fs::symlink("/usr/bin/python3", &engine).unwrap();
        let idle = format!(
            "import threading, time\nfor _ in range({}): \
             threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\ntime.sleep(600)",
            threads - 1
        );
        let start = |_| {
            std::process::Command::new(&engine)
                .args(["-c", &idle])
                .spawn()
                .unwrap()
        };
        Self {
            children: (0..count).map(start).collect(),
            _folder: folder,
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Prints what sampling costs: CPU time of this whole process (sampling, collecting, the fake driver)
/// per second of wall time, with four engines of 16 threads each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, 36 s, needs /usr/bin/python3: run with --ignored --nocapture"]
async fn what_sampling_costs() {
    let _engines = Engines::start(4, 16);
    let driver = FakeDriver::new(&script(0, &[gpu("GPU-1", &json!({}))]));
    for library in [None, Some(driver.library())] {
        for period in [100, 50, 10] {
            let config = Config {
                nvml_library: library.clone(),
                period: Duration::from_millis(period),
                ..config()
            };
            let before = own_cpu_seconds();
            let wall = chimera_runtime::clock::mono();
            let (batches, ()) = collect(config, tokio::time::sleep(Duration::from_secs(5))).await;
            let wall = chimera_runtime::clock::elapsed(wall).as_secs_f64();
            let cpu = own_cpu_seconds() - before;
            let mut took: Vec<u64> = batches
                .iter()
                .flat_map(|b| &b.samples)
                .map(|sample| sample.took_ns)
                .collect();
            took.sort_unstable();
            println!(
                "period {period} ms, fake GPU {}: {:.4} CPU s per wall s, {} samples, a tick takes \
                 {} us in the median, {} us at most",
                library.is_some(),
                cpu / wall,
                took.len(),
                took[took.len() / 2] / 1000,
                took.last().unwrap() / 1000,
            );
        }
    }
}

/// CPU time of this process.
fn own_cpu_seconds() -> f64 {
    let time = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID.now().unwrap();
    std::time::Duration::from(time).as_secs_f64()
}
