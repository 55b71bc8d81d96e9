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
fn this_process_is_no_engine_of_its_own() {
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let mut watch = ProcessWatch::new(&[own.trim().to_owned()]);
    let own_pid = std::process::id();
    assert!(
        watch
            .sample(MonoNs(1))
            .iter()
            .all(|process| process.pid != own_pid)
    );
}
