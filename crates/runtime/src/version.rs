//! Which Chimera this is.

/// Version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Git revision at build time; `None` for a build outside a checkout and for debug builds.
pub const GIT_REVISION: Option<&str> = option_env!("CHIMERA_REVISION");

/// Version and revision in one text: `0.1.0 (0123456789ab)`.
#[must_use]
pub fn software() -> String {
    match GIT_REVISION {
        Some(revision) => format!("{VERSION} ({revision})"),
        None => VERSION.to_owned(),
    }
}
