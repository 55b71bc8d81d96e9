use super::*;
use crate::clock;

fn sh(dir: &Path, script: &str) -> ChildSpec {
    ChildSpec::new("/bin/sh", dir.join("log")).args(["-c", script])
}

/// Waits until a process is gone, with a limit.
async fn gone(pid: i32) -> bool {
    let limit = clock::deadline(Duration::from_secs(10));
    while clock::mono() < limit {
        let alive = Pid::from_raw(pid).is_some_and(|pid| {
            rustix::process::test_kill_process(pid).is_ok()
                && !std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
                    .unwrap_or_default()
                    .contains(") Z ")
        });
        if !alive {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// The first line that a child wrote, once it is whole.
async fn first_line(child: &ChildProcess) -> String {
    let limit = clock::deadline(Duration::from_secs(10));
    while clock::mono() < limit {
        if let Some((line, _)) = child.log_tail().split_once('\n') {
            return line.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the child wrote nothing");
}

#[tokio::test]
async fn output_and_exit_status_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let spec = sh(dir.path(), "echo out; echo \"$WORD\" >&2; exit 3").env("WORD", "err");
    let mut child = ChildProcess::spawn(spec).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    assert_eq!(child.log_tail(), "out\nerr\n");
    assert_eq!(child.exited().and_then(|status| status.code()), Some(3));
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ChildSpec::new("/nonexistent/engine", dir.path().join("log"));
    let error = ChildProcess::spawn(spec).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/engine"), "{error}");
}

#[tokio::test]
async fn stop_asks_first() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let child = ChildProcess::spawn(sh(dir.path(), script)).await.unwrap();
    assert_eq!(first_line(&child).await, "ready");
    let log = child.log_path().to_owned();
    child.stop(Duration::from_secs(10)).await.unwrap();
    assert!(std::fs::read_to_string(log).unwrap().ends_with("asked\n"));
}

#[tokio::test]
async fn what_ignores_the_stop_is_killed_with_its_grandchildren() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; sleep 600 & echo $!; wait; sleep 600";
    let child = ChildProcess::spawn(sh(dir.path(), script)).await.unwrap();
    let grandchild: i32 = first_line(&child).await.parse().unwrap();
    child.stop(Duration::from_millis(100)).await.unwrap();
    assert!(gone(grandchild).await);
}

#[tokio::test]
async fn drop_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sleep 600 & echo $!; wait";
    let child = ChildProcess::spawn(sh(dir.path(), script)).await.unwrap();
    let grandchild: i32 = first_line(&child).await.parse().unwrap();
    let pid = i32::try_from(child.pid()).unwrap();
    drop(child);
    assert!(gone(pid).await && gone(grandchild).await);
}

#[test]
fn a_tail_starts_at_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "first line\nsecond\nthird\n").unwrap();
    assert_eq!(tail(&path, 10).unwrap(), "third\n");
    assert_eq!(tail(&path, 100).unwrap(), "first line\nsecond\nthird\n");
}

#[tokio::test]
async fn children_die_with_a_parent_that_is_killed() {
    if setpriv().is_none() {
        eprintln!("SKIPPED: setpriv (util-linux) is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let spec = ChildSpec::new(me, dir.path().join("log"))
        .args([
            "process::tests::a_parent_to_be_killed",
            "--exact",
            "--nocapture",
            "--ignored",
        ])
        .env("CHIMERA_TEST_DIR", dir.path());
    let parent = ChildProcess::spawn(spec).await.unwrap();
    let file = dir.path().join("grandchild");
    let limit = clock::deadline(Duration::from_secs(10));
    let grandchild: i32 = loop {
        if let Ok(pid) = std::fs::read_to_string(&file).unwrap_or_default().parse() {
            break pid;
        }
        assert!(
            clock::mono() < limit,
            "no grandchild: {}",
            parent.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // It leads a group of its own, so it does not go with the group of the one killed here.
    parent.kill();
    assert!(gone(grandchild).await);
}

#[tokio::test]
#[ignore = "run and killed by children_die_with_a_parent_that_is_killed"]
async fn a_parent_to_be_killed() {
    let Some(dir) = crate::config::env("CHIMERA_TEST_DIR").map(PathBuf::from) else {
        return;
    };
    let spec = ChildSpec::new("/bin/sleep", dir.join("sleep.log")).arg("600");
    let child = ChildProcess::spawn(spec).await.unwrap();
    let part = dir.join("part");
    std::fs::write(&part, child.pid().to_string()).unwrap();
    std::fs::rename(part, dir.join("grandchild")).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}
