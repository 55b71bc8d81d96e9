//! GPUs that fall off the bus, drivers that go away, errors that GPUs report: nothing crashes, what is
//! away is said to be, and comes back without a restart.

use std::time::Duration;

use chimera_domain::telemetry::{GapReason, GpuError, Source};
use gpu_telemetry::probe::GpuReadings;
use serde_json::{Value, json};

use crate::fake::{FakeDriver, gpu, script};
use crate::nvml::{Ticks, uuid};

/// Ticks in real time until an error is told, 5 s at most: errors are heard on another thread.
fn until_errors(ticks: &mut Ticks) -> GpuReadings {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    for _ in 0..250 {
        let readings = ticks.next();
        if !readings.errors.is_empty() {
            return readings;
        }
        assert!(never.recv_timeout(Duration::from_millis(20)).is_err());
    }
    panic!("no error was told");
}

fn xids(errors: &[GpuError]) -> Vec<(&str, u64)> {
    errors
        .iter()
        .map(|error| (error.uuid.0.as_str(), error.xid))
        .collect()
}

fn two(first: &Value) -> Value {
    script(0, &[gpu("GPU-1", first), gpu("GPU-2", &json!({}))])
}

#[test]
fn an_error_that_a_gpu_reports_is_told_once_with_its_number() {
    let driver = FakeDriver::new(&two(&json!({})));
    let mut ticks = Ticks::of(&driver);
    assert!(ticks.next().errors.is_empty());
    driver.play(&two(&json!({"xids": [31, 43]})));
    let readings = until_errors(&mut ticks);
    assert_eq!(xids(&readings.errors), [("GPU-1", 31), ("GPU-1", 43)]);
    assert_eq!(readings.gpus.len(), 2);
    assert!(ticks.next().errors.is_empty());
    assert_eq!(ticks.missing(0), []);
}

#[test]
fn a_gpu_that_falls_off_the_bus_says_why_and_is_heard_again_when_it_is_back() {
    let driver = FakeDriver::new(&two(&json!({})));
    let mut ticks = Ticks::of(&driver);
    ticks.next();
    driver.play(&two(&json!({"state": "GPU_IS_LOST", "xids": [79]})));
    let lost = until_errors(&mut ticks);
    assert_eq!(xids(&lost.errors), [("GPU-1", 79)]);
    let away: Vec<_> = lost
        .away
        .iter()
        .map(|away| (&away.source, away.reason))
        .collect();
    assert_eq!(away, [(&Source::Gpu(uuid("GPU-1")), GapReason::GpuLost)]);
    assert_eq!(lost.gpus.len(), 1);

    driver.play(&two(&json!({})));
    ticks.until(|readings| readings.gpus.len() == 2);
    driver.play(&two(&json!({"xids": [13]})));
    assert_eq!(xids(&until_errors(&mut ticks).errors), [("GPU-1", 13)]);
}

#[test]
fn after_a_reset_of_the_driver_everything_is_read_again() {
    let healthy = |generation| script(generation, &[gpu("GPU-1", &json!({}))]);
    let driver = FakeDriver::new(&healthy(0));
    let mut ticks = Ticks::of(&driver);
    for generation in 1..4 {
        let before = ticks.until(|readings| !readings.gpus.is_empty());
        assert!(before.away.is_empty());
        driver.play(&healthy(generation));
        let lost = ticks.next();
        assert_eq!(lost.away[0].source, Source::Gpus);
        assert_eq!(lost.away[0].reason, GapReason::DriverReset);
        let back = ticks
            .until(|readings| !readings.gpus.is_empty())
            .gpus
            .remove(0);
        assert!(back.processes.is_some(), "everything is due after a reset");
        assert_eq!(back.ecc_corrected, Some(3));
        assert_eq!(ticks.missing(0), []);
    }
    let mut with_error = healthy(3);
    with_error["gpus"][0]["xids"] = json!([48]);
    driver.play(&with_error);
    assert_eq!(xids(&until_errors(&mut ticks).errors), [("GPU-1", 48)]);
}

#[test]
fn a_gpu_that_needs_a_reset_is_away_with_that_reason() {
    let driver = FakeDriver::new(&two(&json!({})));
    let mut ticks = Ticks::of(&driver);
    ticks.next();
    driver.play(&two(&json!({"state": "RESET_REQUIRED"})));
    let lost = ticks.next();
    assert_eq!(lost.away[0].reason, GapReason::ResetRequired);
    assert_eq!(lost.gpus.len(), 1);
    driver.play(&two(&json!({})));
    assert_eq!(
        ticks.until(|readings| readings.away.is_empty()).gpus.len(),
        2
    );
}

#[test]
fn a_gpu_whose_every_call_is_refused_is_away_and_nothing_crashes() {
    let refused = json!({"state": "NO_PERMISSION"});
    let driver = FakeDriver::new(&two(&json!({})));
    let mut ticks = Ticks::of(&driver);
    ticks.next();
    driver.play(&two(&refused));
    let lost = ticks.next();
    assert_eq!((lost.gpus.len(), lost.away.len()), (1, 1));
    driver.play(&two(&json!({})));
    assert_eq!(
        ticks.until(|readings| readings.away.is_empty()).gpus.len(),
        2
    );
}
