use super::*;

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
