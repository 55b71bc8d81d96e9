//! The fake `libnvidia-ml.so`, built once and copied per test.
//!
//! It is a cdylib, which cargo cannot link as a dependency, and artifact dependencies are not stable;
//! so the test builds it itself, with the same cargo, and learns from cargo's messages where it lies.
//! Cargo holds no lock while tests run. A copy in a folder of its own is another library to the
//! loader, with a state and a script of its own, so tests run side by side in one process, and no
//! environment variable is set (which edition 2024 rightly calls unsafe).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A fake driver of this test's own.
pub(crate) struct FakeDriver {
    folder: TempDir,
}

impl FakeDriver {
    pub(crate) fn new(script: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let driver = Self { folder };
        fs::copy(built(), driver.library()).unwrap();
        driver.play(script);
        driver
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// Replaces the script in one step, so that no call sees half of it.
    pub(crate) fn play(&self, script: &Value) {
        let beside = self.folder.path().join("next.json");
        fs::write(&beside, script.to_string()).unwrap();
        fs::rename(&beside, self.folder.path().join("fake-nvml.json")).unwrap();
    }
}

fn built() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args([
                "build",
                "--package",
                "fake-nvml",
                "--message-format",
                "json",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let messages = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let library = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "fake_nvml")
            .filter_map(|message| {
                Some(
                    message["filenames"]
                        .as_array()?
                        .first()?
                        .as_str()?
                        .to_owned(),
                )
            })
            .next_back();
        PathBuf::from(library.expect("cargo names the library"))
    })
}

/// A GPU that can do everything; `changes` replace top-level keys, or fields by their names.
pub(crate) fn gpu(uuid: &str, changes: &Value) -> Value {
    let mut gpu = json!({
        "uuid": uuid,
        "name": "Fake H100",
        "fields": {
            "utilisation_percent": 87,
            "memory_utilisation_percent": 40,
            "memory_total_bytes": 85_899_345_920_u64,
            "memory_used_bytes": 1_073_741_824,
            "memory_reserved_bytes": 536_870_912,
            "power_milliwatts": 350_500,
            "power_limit_milliwatts": 700_000,
            "energy_millijoules": [1_000, 36_000, 71_000],
            "sm_clock_mhz": 1980,
            "sm_clock_max_mhz": 1980,
            "memory_clock_mhz": 2619,
            "throttle_bits": 0,
            "pcie_rx_kb_per_s": 100,
            "pcie_tx_kb_per_s": 50,
            "temperature_celsius": 61,
            "slowdown_celsius": 87,
            "ecc_mode": 1,
            "ecc_corrected": 3,
            "ecc_uncorrected": 0,
            "mig_mode": 0,
            "event_types": 8
        },
        "compute": [{"pid": 42, "memory_bytes": 1_048_576}, {"pid": 7}],
        "graphics": [{"pid": 9, "memory_bytes": 5}],
        "mps": [],
        "process_utilisation": [
            {"pid": 42, "timestamp": 1, "sm_percent": 99, "memory_percent": 99}
        ]
    });
    for (key, value) in changes.as_object().unwrap() {
        if gpu.get(key).is_some() || ["state", "mig", "xids"].contains(&key.as_str()) {
            gpu[key] = value.clone();
        } else {
            gpu["fields"][key] = value.clone();
        }
    }
    gpu
}

pub(crate) fn script(generation: u64, gpus: &[Value]) -> Value {
    json!({
        "driver_version": "570.00",
        "library_version": "12.570.00",
        "cuda_version": 12_080,
        "generation": generation,
        "gpus": gpus,
    })
}
