//! Configuration: flag > environment > file > default, and every look at the environment.
//!
//! A service's arguments are a clap `Args` struct whose fields are all `Option`s without defaults
//! (once parsed, a default could not be told from a choice), each with `long` and `env`. clap gives
//! flag > environment, [`load`] puts the result over the file, and the service turns the raw struct
//! into its validated `Config` with a [`Problems`] collector, so that a person sees every mistake at
//! once and before anything is connected.

mod layers;
mod text;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use layers::{ConfigErrors, Problem, Problems, load, log_resolved};
pub use text::{DurationText, Secret, SecretError, redact_url};

/// One environment variable; `None` if it is unset, empty or no UTF-8.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether an environment variable is set to something that means yes (`1`, `true`, `yes`).
#[must_use]
pub fn env_flag(name: &str) -> bool {
    env(name).is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes"))
}

/// Where tools and weights are kept: `$XDG_CACHE_HOME/chimera`, else `~/.cache/chimera`.
///
/// *Undefined when* neither variable is set (`None`). The folder may not exist.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    match env("XDG_CACHE_HOME") {
        Some(base) => Some(PathBuf::from(base).join("chimera")),
        None => env("HOME").map(|home| PathBuf::from(home).join(".cache").join("chimera")),
    }
}

/// Where what must outlive a cache is kept, such as the history of reports: `$XDG_DATA_HOME/chimera`,
/// else `~/.local/share/chimera`.
///
/// *Undefined when* neither variable is set (`None`). The folder may not exist.
#[must_use]
pub fn data_dir() -> Option<PathBuf> {
    match env("XDG_DATA_HOME") {
        Some(base) => Some(PathBuf::from(base).join("chimera")),
        None => env("HOME").map(|home| {
            let share = PathBuf::from(home).join(".local").join("share");
            share.join("chimera")
        }),
    }
}

/// Why a program cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramError {
    /// The variable names something that is no executable file.
    #[error("{variable} is set to '{}', which is not an executable file: correct or unset it", path.display())]
    BadOverride {
        /// The environment variable.
        variable: String,
        /// What it holds.
        path: PathBuf,
    },
    /// It is nowhere.
    #[error(
        "'{name}' was not found on PATH nor in the cache folder: run ./scripts/setup.sh, or set \
         {variable} to its path"
    )]
    NotFound {
        /// The program.
        name: String,
        /// The environment variable that may name it.
        variable: String,
    },
}

/// Finds a program: the environment variable `variable`, then `PATH`, then `bin/` in [`cache_dir`].
///
/// # Errors
/// When the variable is set to something else than an executable file (never silently passed
/// over), or the program is nowhere.
pub fn find_program(variable: &str, name: &str) -> Result<PathBuf, ProgramError> {
    find_in(variable, name, env(variable), env("PATH"), cache_dir())
}

fn find_in(
    variable: &str,
    name: &str,
    chosen: Option<String>,
    path: Option<String>,
    cache: Option<PathBuf>,
) -> Result<PathBuf, ProgramError> {
    if let Some(chosen) = chosen {
        let path = PathBuf::from(chosen);
        return if is_executable(&path) {
            Ok(path)
        } else {
            Err(ProgramError::BadOverride {
                variable: variable.to_owned(),
                path,
            })
        };
    }
    let on_path = path.iter().flat_map(std::env::split_paths);
    on_path
        .chain(cache.map(|cache| cache.join("bin")))
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| ProgramError::NotFound {
            name: name.to_owned(),
            variable: variable.to_owned(),
        })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests;
