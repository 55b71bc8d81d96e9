use std::path::Path;

use super::*;

fn names() -> Vec<String> {
    ["ollama", "llama-server", "llama_server", "vllm", "sglang"]
        .map(String::from)
        .to_vec()
}

#[test]
fn engines_are_known_by_their_names() {
    let found =
        |command: &str, arguments: &[&str]| engine_name(command, &arguments.join("\0"), &names());
    let is = |name: &str| Some(name.to_owned());
    assert_eq!(found("ollama", &["/usr/bin/ollama", "serve"]), is("ollama"));
    assert_eq!(
        found("exe", &["/opt/llama-server", "--port", "1"]),
        is("llama-server")
    );
    assert_eq!(
        found("python3", &["python3", "-u", "/x/llama_server.py"]),
        is("llama_server.py")
    );
    assert_eq!(
        found("python3", &["/v/bin/python3", "/v/bin/vllm", "serve"]),
        is("vllm")
    );
    assert_eq!(
        found(
            "python",
            &["python3.12", "-X", "utf8", "-m", "sglang.launch_server"]
        ),
        is("sglang.launch_server")
    );
    assert_eq!(
        found("VLLM::EngineCor", &["VLLM::EngineCore"]),
        is("VLLM::EngineCor")
    );
    assert_eq!(found("runner", &["ollama runner --model x"]), is("ollama"));
}

#[test]
fn others_are_not() {
    let found =
        |command: &str, arguments: &[&str]| engine_name(command, &arguments.join("\0"), &names());
    assert_eq!(found("vim", &["vim", "llama_server.py"]), None);
    assert_eq!(found("grep", &["grep", "ollama"]), None);
    assert_eq!(found("python3", &["python3", "-c", "ollama"]), None);
    assert_eq!(found("python3", &["python3", "work.py", "ollama"]), None);
    assert_eq!(found("my-ollama", &["/x/my-ollama"]), None);
    assert_eq!(found("kthreadd", &[]), None);
}

#[test]
fn a_stat_line_with_any_name_is_read() {
    let line = "7 (a) b (c) S 3 7 7 0 -1 4194304 98 0 5 0 120 30 0 0 20 0 9 0 110953 3133440 381 \
                18446744073709551615 1 1";
    assert_eq!(
        Stat::parse(line),
        Some(Stat {
            state: 'S',
            parent: 3,
            minor_faults: 98,
            major_faults: 5,
            cpu_ticks: 150,
            threads: 9,
            start_ticks: 110_953,
            rss_pages: 381,
        })
    );
    assert_eq!(Stat::parse("7 (a) S 3"), None);
    assert_eq!(Stat::parse(""), None);
}

#[test]
fn ours_are_known_by_their_whole_names() {
    let is = |name: &str| Some(name.to_owned());
    assert_eq!(our_name("nats-server", ""), is("nats-server"));
    assert_eq!(
        our_name("tokio", "/opt/bin/chimera\0bench\0"),
        is("chimera")
    );
    assert_eq!(our_name("coordinator-x", "/usr/bin/coordinators"), None);
    assert_eq!(our_name("vim", "vim\0chimera"), None);
}

#[test]
fn this_process_is_no_engine_of_its_own() {
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let mut watch = ProcessWatch::new(Roots::system(), &[own.trim().to_owned()], false);
    let own_pid = std::process::id();
    let readings = watch.sample(MonoNs(1));
    let parts: Vec<_> = readings
        .processes
        .iter()
        .filter(|process| process.pid == own_pid)
        .map(|process| process.part)
        .collect();
    assert_eq!(parts, [ProcessPart::Harness]);
}

#[test]
fn a_real_process_has_waits_and_switches() {
    let mut watch = ProcessWatch::new(Roots::system(), &[], false);
    let readings = watch.sample(MonoNs(1));
    let own = std::process::id();
    let own = readings.processes.iter().find(|p| p.pid == own).unwrap();
    let ProbeState::Measured { missing } = watch.status().state else {
        panic!("{:?}", watch.status());
    };
    assert_eq!(own.run_delay_seconds.is_some(), missing.is_empty());
    assert!(own.voluntary_switches.is_some_and(|n| n > 0));
    // Between two searches, switches are not read.
    let next = watch.sample(MonoNs(2)).processes;
    assert!(next.iter().all(|p| p.voluntary_switches.is_none()));
}

const SECOND: u64 = 1_000_000_000;

/// A process of one thread in a `/proc` of our own.
fn put(root: &Path, pid: u32, name: &str, ticks: u64, wait_ns: u64) {
    let folder = root.join("proc").join(pid.to_string());
    let thread = folder.join("task").join(pid.to_string());
    fs::create_dir_all(&thread).unwrap();
    fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
    let stat = format!(
        "{pid} ({name}) S 1 7 7 0 -1 4194304 98 0 5 0 {ticks} 0 0 0 20 0 1 0 {pid} 3133440 381 0\n"
    );
    fs::write(folder.join("stat"), stat).unwrap();
    fs::write(thread.join("schedstat"), format!("1 {wait_ns} 1\n")).unwrap();
    let status = "voluntary_ctxt_switches:\t4\nnonvoluntary_ctxt_switches:\t5\n";
    fs::write(thread.join("status"), status).unwrap();
}

#[test]
fn engines_ours_and_busy_others_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, 10, "ollama", 100, 2 * SECOND);
    put(root, 11, "nats-server", 100, 0);
    put(root, 12, "make", 100, 0);
    put(root, 13, "idle", 100, 0);
    let mut watch = ProcessWatch::new(Roots::below(root), &names(), true);
    let first = watch.sample(MonoNs(SECOND));
    assert_eq!(first.busy_others, None, "nothing to compare with");

    put(root, 10, "ollama", 150, 3 * SECOND);
    put(root, 12, "make", 180, 0);
    put(root, 13, "idle", 101, 0);
    assert_eq!(
        watch.sample(MonoNs(SECOND + 50_000_000)).busy_others,
        None,
        "looked for once a second"
    );
    let second = watch.sample(MonoNs(2 * SECOND));
    assert_eq!(
        second.busy_others,
        Some(vec![BusyProcess {
            pid: 12,
            name: "make".to_owned(),
            cores_used: 0.8
        }])
    );
    let told: Vec<_> = second
        .processes
        .iter()
        .map(|p| (p.pid, p.name.as_str(), p.part, p.run_delay_seconds))
        .collect();
    assert_eq!(
        told,
        [
            (10, "ollama", ProcessPart::Engine, Some(3.0)),
            (11, "nats-server", ProcessPart::Harness, Some(0.0)),
        ]
    );
    assert_eq!(second.processes[0].involuntary_switches, Some(5));
    assert_eq!(watch.no_busy_others(), None);
}

#[test]
fn a_search_that_is_not_wanted_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), 12, "make", 100, 0);
    let mut watch = ProcessWatch::new(Roots::below(folder.path()), &names(), false);
    watch.sample(MonoNs(SECOND));
    put(folder.path(), 12, "make", 900, 0);
    assert_eq!(watch.sample(MonoNs(2 * SECOND)).busy_others, None);
    assert_eq!(watch.no_busy_others(), Some(Absence::Disabled));
}

#[test]
fn a_kernel_that_does_not_tell_waits_is_named_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), 10, "ollama", 100, 0);
    fs::write(folder.path().join("proc/10/task/10/schedstat"), "").unwrap();
    let mut watch = ProcessWatch::new(Roots::below(folder.path()), &names(), true);
    let engine = &watch.sample(MonoNs(SECOND)).processes[0];
    assert_eq!(
        (engine.run_delay_seconds, engine.cpu_seconds),
        (None, Some(1.0))
    );
    let ProbeState::Measured { missing } = watch.status().state else {
        panic!("{:?}", watch.status());
    };
    assert_eq!(
        missing,
        [MissingField {
            field: TelemetryField::RunDelay,
            reason: Absence::NotSupported
        }]
    );
}

#[test]
fn with_very_many_threads_they_are_read_at_some_ticks_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(root, 10, "ollama", 100, 0);
    for thread in 100..100 + 150 {
        let folder = root.join("proc/10/task").join(thread.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("schedstat"), "1 5000000 1\n").unwrap();
        fs::write(folder.join("status"), "").unwrap();
    }
    let stat = root.join("proc/10/stat");
    let line = fs::read_to_string(&stat).unwrap();
    fs::write(&stat, line.replace(" 20 0 1 0 ", " 20 0 151 0 ")).unwrap();
    let mut watch = ProcessWatch::new(Roots::below(root), &names(), false);
    let mut delay = |tick: u64| watch.sample(MonoNs(tick)).processes[0].run_delay_seconds;
    let told = [1, 2, 3, 4].map(&mut delay);
    assert_eq!(told, [Some(0.75), None, Some(0.75), None]);
}
