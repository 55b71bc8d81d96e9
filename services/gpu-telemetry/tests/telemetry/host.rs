//! Engine processes through the whole service: found by name, and charged for what they burn.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chimera_domain::telemetry::{ProcessPart, Series, Source};

use crate::service::{collect, config};

/// A shell under the name of an engine that burns CPU for 300 ms once it is told to, and then sleeps.
struct Burner {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Burner {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = folder.path().join("ollama-under-test");
        symlink("/bin/sh", &engine).unwrap();
        // The shell's own `times`-free way to measure: a deadline by the wall clock of `date`.
        let burn = "read go; end=$(($(date +%s%N) + 300000000)); n=0; \
                    while [ $n -lt 200 ]; do n=$((n+1)); i=0; \
                    while [ $i -lt 2000 ]; do i=$((i+1)); done; \
                    [ $(date +%s%N) -ge $end ] && break; done; echo burnt; read stop";
        let child = Command::new(&engine)
            .args(["-c", burn])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            _folder: folder,
        }
    }

    fn burn(&mut self) {
        use std::io::Write as _;
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"go\n").unwrap();
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "burnt\n");
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_is_found_and_charged_for_what_it_burns() {
    let mut burner = Burner::start();
    let pid = burner.child.id();
    let (batches, mut burner) = collect(config(), async move {
        // Until the sampler has looked for engines twice.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let burner = tokio::task::spawn_blocking(move || {
            burner.burn();
            burner
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        burner
    })
    .await;

    let series = Series::new(&batches);
    let all: Vec<_> = batches.iter().flat_map(|batch| &batch.samples).collect();
    let seen: Vec<_> = all
        .iter()
        .flat_map(|s| &s.processes)
        .filter(|process| process.pid == pid)
        .collect();
    let cpu: Vec<f64> = seen
        .iter()
        .map(|process| process.cpu_seconds.unwrap())
        .collect();
    assert!(cpu.is_sorted(), "{cpu:?}");
    let burnt = cpu.last().unwrap() - cpu.first().unwrap();
    // `date` runs in children, so the shell itself has less than the 300 ms.
    assert!(burnt > 0.05, "burnt {burnt} s");
    assert!(
        seen.iter()
            .any(|process| process.cores_used.is_some_and(|cores| cores > 0.2))
    );
    assert!(seen[0].name.starts_with("ollama-under"), "{}", seen[0].name);
    assert!(seen[0].rss_bytes.is_some_and(|bytes| bytes > 0));
    assert_eq!(seen[0].parent_pid, Some(std::process::id()));

    let holders: Vec<_> = all
        .iter()
        .filter(|s| s.processes.iter().any(|process| process.pid == pid))
        .collect();
    let (from, to) = (holders[0].at, holders.last().unwrap().at);
    let cores = series.cpu_cores_used(pid, from, to);
    let seconds = chimera_domain::units::ns_to_s(to.since(from).unwrap());
    if series.coverage(&Source::Processes, from, to).is_complete() {
        assert!((cores.unwrap() - burnt / seconds).abs() < 1e-6);
    }
    burner.child.kill().unwrap();
}

/// A shell that burns CPU under no engine's name until it is dropped.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_stranger_is_named_and_we_are_not() {
    let child = Command::new("/bin/sh")
        .args(["-c", "while :; do :; done"])
        .spawn()
        .unwrap();
    let stranger = Stranger(child);
    let pid = stranger.0.id();
    let (batches, ()) = collect(config(), tokio::time::sleep(Duration::from_millis(2500))).await;
    drop(stranger);
    let samples: Vec<_> = batches.iter().flat_map(|batch| &batch.samples).collect();
    let named: Vec<_> = samples
        .iter()
        .flat_map(|sample| sample.host.busy_others.iter().flatten())
        .collect();
    let own = std::process::id();
    assert!(named.iter().all(|other| other.pid != own), "{named:?}");
    let seen = named.iter().find(|other| other.pid == pid);
    // Where ten others are busier, five of them are named.
    let crowded = samples
        .iter()
        .filter_map(|sample| sample.host.busy_others.as_ref())
        .any(|others| others.len() == chimera_domain::telemetry::MAX_BUSY_OTHERS);
    assert!(
        seen.is_some_and(|other| other.cores_used >= 0.1) || crowded,
        "{named:?}"
    );
    assert!(
        samples
            .iter()
            .flat_map(|sample| &sample.processes)
            .any(|process| { process.pid == own && process.part == ProcessPart::Harness })
    );
}
