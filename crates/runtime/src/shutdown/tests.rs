use std::path::PathBuf;

use rustix::process::Signal;

use super::*;
use crate::process::{ChildProcess, ChildSpec, kill_all};
use crate::{clock, config};

const GRACE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn tasks_that_obey_the_stop_are_no_failure() {
    let tasks = Tasks::new(CancellationToken::new());
    let stop = tasks.stop_token().clone();
    tasks.spawn("obedient", async move {
        stop.cancelled().await;
        anyhow::Ok(())
    });
    tasks.spawn_finite("short", async { anyhow::Ok(()) });
    tasks.stop_token().cancel();
    tasks.wait(GRACE).await.unwrap();
}

#[tokio::test]
async fn an_early_return_stops_the_service() {
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("quitter", async { anyhow::Ok(()) });
    let failure = tasks.wait(GRACE).await.unwrap_err();
    assert!(
        matches!(failure, TaskFailure::EndedEarly { task: "quitter" }),
        "{failure}"
    );
}

#[tokio::test]
async fn a_panic_stops_the_service_and_keeps_its_words() {
    let tasks = Tasks::new(CancellationToken::new());
    let go = true;
    tasks.spawn_finite("clumsy", async move {
        assert!(!go, "dropped the vase");
        anyhow::Ok(())
    });
    let failure = tasks.wait(GRACE).await.unwrap_err();
    assert!(
        failure.to_string().contains("dropped the vase"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_error_stops_the_service_with_its_causes() {
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn_finite("store", async {
        Err::<(), _>(anyhow::anyhow!("disk full").context("cannot store"))
    });
    let failure = tasks.wait(GRACE).await.unwrap_err();
    assert!(
        failure.to_string().ends_with("cannot store: disk full"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_ignores_the_stop_is_cut_and_named() {
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("deaf", async {
        std::future::pending::<()>().await;
        anyhow::Ok(())
    });
    tasks.stop_token().cancel();
    let failure = tasks.wait(GRACE).await.unwrap_err();
    assert!(
        matches!(&failure, TaskFailure::GraceExpired { tasks, .. } if tasks == &["deaf"]),
        "{failure}"
    );
}

/// Waits until the child's log holds a text.
async fn wrote(child: &ChildProcess, text: &str) {
    let limit = clock::deadline(Duration::from_secs(10));
    while !child.log_tail().contains(text) {
        assert!(
            clock::mono() < limit,
            "no '{text}' in: {}",
            child.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn this_test_as_child(name: &str, dir: &std::path::Path) -> ChildSpec {
    ChildSpec::new(std::env::current_exe().unwrap(), dir.join("log"))
        .args([name, "--exact", "--nocapture", "--ignored"])
        .env("CHIMERA_TEST_DIR", dir)
}

#[tokio::test]
async fn the_first_signal_stops_and_the_second_ctrl_c_exits_130_without_children() {
    for first in [Signal::INT, Signal::TERM] {
        let dir = tempfile::tempdir().unwrap();
        let spec = this_test_as_child("shutdown::tests::a_service_that_hangs", dir.path());
        let mut child = ChildProcess::spawn(spec).await.unwrap();
        wrote(&child, "ready").await;
        child.signal(first).unwrap();
        wrote(&child, "tripped").await;
        assert!(child.exited().is_none(), "the first signal only asks");
        child.signal(Signal::INT).unwrap();
        let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
        assert_eq!(status.unwrap().unwrap().code(), Some(130));
        let grandchild: i32 = std::fs::read_to_string(dir.path().join("pid"))
            .unwrap()
            .parse()
            .unwrap();
        let limit = clock::deadline(Duration::from_secs(10));
        let pid = rustix::process::Pid::from_raw(grandchild).unwrap();
        while rustix::process::test_kill_process(pid).is_ok() {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            if stat.is_ok_and(|stat| stat.contains(") Z ")) {
                break;
            }
            assert!(clock::mono() < limit, "the grandchild lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
#[ignore = "run and signalled by the test above"]
async fn a_service_that_hangs() {
    let Some(dir) = config::env("CHIMERA_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let spec = ChildSpec::new("/bin/sleep", dir.join("sleep.log")).arg("600");
    let child = ChildProcess::spawn(spec).await.unwrap();
    std::fs::write(dir.join("pid"), child.pid().to_string()).unwrap();
    let token = on_signals(kill_all).unwrap();
    println!("ready");
    token.cancelled().await;
    println!("tripped");
    // The runtime is stuck: the signals must work all the same.
    let limit = clock::deadline(Duration::from_secs(60));
    while clock::mono() < limit {
        std::hint::spin_loop();
    }
}
