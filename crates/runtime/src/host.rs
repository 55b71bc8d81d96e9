//! What this host is.

use chimera_domain::ids::MAX_ID_LEN;

/// The host's name, as the kernel has it.
#[must_use]
pub fn name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Operating system and kernel release (`Linux 6.1.0`).
#[must_use]
pub fn os() -> String {
    let uname = rustix::system::uname();
    format!(
        "{} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    )
}

/// The processor's name; `None` where `/proc/cpuinfo` does not tell.
#[must_use]
pub fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

/// Processor cores that this process may use; `None` where the system does not tell.
#[must_use]
pub fn cores() -> Option<u32> {
    std::thread::available_parallelism()
        .ok()
        .and_then(|n| u32::try_from(n.get()).ok())
}

/// Memory of the host in bytes; `None` where `/proc/meminfo` does not tell.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A text as an id: what an id cannot hold becomes `-`, what is too long is cut.
#[must_use]
pub fn token(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let token: String = text.chars().map(plain).take(MAX_ID_LEN).collect();
    if token.is_empty() {
        "unnamed".to_owned()
    } else {
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_domain::ids::NodeId;

    #[test]
    fn any_text_makes_an_id() {
        for text in ["", "a.b", "ü", &"x".repeat(100), &name()] {
            assert!(NodeId::try_new(token(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn this_host_has_memory_and_cores() {
        assert!(memory_bytes().is_some_and(|b| b > 1 << 20));
        assert!(cores().is_some_and(|c| c > 0));
    }
}
