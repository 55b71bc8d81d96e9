//! Programs and models.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chimera_runtime::config::{cache_dir, env, find_program};
use chimera_runtime::nats_server;
use serde::Deserialize;
use tokio::process::Command;

use super::Check;
use crate::engines::{self, LLAMA_MODEL, Sources, Wanted};

/// The version that RELIABILITY asks for: the first whose streams keep what they acknowledge.
const NATS_NEEDED: [u32; 3] = [2, 15, 1];
/// A program says its version within that; a Python wrapper on a cold disk takes seconds.
const VERSION_LIMIT: Duration = Duration::from_secs(20);
/// A server on this machine answers within that.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Where Ollama listens.
const OLLAMA_URL: &str = "http://127.0.0.1:11434";
/// The way to all that `chimera bench` needs.
const SETUP: &str = "run ./scripts/setup.sh, which puts it into the cache folder";

/// nats-server, of a version whose streams can be trusted.
pub(super) async fn nats_server() -> Check {
    const NAME: &str = "nats-server";
    let program = match find_program(nats_server::PROGRAM_VARIABLE, NAME) {
        Ok(program) => program,
        Err(error) => return Check::missing(NAME, error.to_string(), SETUP),
    };
    let said = match version(&program).await {
        Ok(said) => said,
        Err(why) => return Check::missing(NAME, why, SETUP),
    };
    let found = format!("{said} ({})", program.display());
    match numbers(&said) {
        Some(numbers) if numbers >= NATS_NEEDED => Check::ok(NAME, found),
        Some(_) => {
            let [major, minor, patch] = NATS_NEEDED;
            Check::missing(
                NAME,
                found,
                format!("{major}.{minor}.{patch} is needed: {SETUP}"),
            )
        }
        None => Check::missing(NAME, format!("{found} is no version"), SETUP),
    }
}

/// Which engine `chimera bench` would take, by its own choice.
pub(super) async fn engine() -> Check {
    const NAME: &str = "engine";
    match engines::choose(&Wanted::default()).await {
        Ok(choice) => {
            let found = format!("{}; model {}", choice.why, choice.model);
            match &choice.sources {
                Sources::Spawn(_) => Check::ok(NAME, found),
                Sources::Attach(urls) if urls.len() > 1 => Check::ok(NAME, found),
                Sources::Attach(_) => Check::missing(
                    NAME,
                    found,
                    "two agents need two instances: install Ollama here, start a second server and \
                     give both with --instance, or run ./scripts/setup.sh and use --engine openai",
                ),
            }
        }
        Err(error) => Check::missing(NAME, format!("{error:#}"), SETUP),
    }
}

/// Ollama, installed or answering.
pub(super) async fn ollama() -> Check {
    const NAME: &str = "ollama";
    let url = env("OLLAMA_HOST").map_or_else(
        || OLLAMA_URL.to_owned(),
        |host| {
            if host.contains("://") {
                host
            } else {
                format!("http://{host}")
            }
        },
    );
    let program = find_program("CHIMERA_OLLAMA", NAME);
    let installed = match &program {
        Ok(program) => format!("installed ({})", program.display()),
        Err(error) => error.to_string(),
    };
    let answers = ollama_version(&url).await;
    let server = match &answers {
        Some(version) => format!("version {version} answers at {url}"),
        None => format!("nothing answers at {url}"),
    };
    if program.is_ok() || answers.is_some() {
        return Check::ok(NAME, format!("{installed}; {server}"));
    }
    Check::missing(
        NAME,
        format!("not installed; {server}"),
        "to measure Ollama, install it (https://ollama.com/download), then `ollama pull gemma3:270m`",
    )
}

async fn ollama_version(url: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(ASK_LIMIT)
        .build()
        .ok()?;
    let base = url.trim_end_matches('/');
    let answer = http.get(format!("{base}/api/version")).send().await.ok()?;
    answer.json::<Version>().await.ok().map(|v| v.version)
}

/// llama.cpp's server.
pub(super) async fn llama_server() -> Check {
    const NAME: &str = "llama-server";
    let program = match find_program("CHIMERA_LLAMA_SERVER", NAME) {
        Ok(program) => program,
        Err(error) => return Check::missing(NAME, error.to_string(), SETUP),
    };
    match version(&program).await {
        Ok(said) => Check::ok(NAME, format!("{said} ({})", program.display())),
        Err(why) => Check::missing(NAME, why, SETUP),
    }
}

/// Weights for llama.cpp's server.
pub(super) fn model() -> Check {
    const NAME: &str = "model file";
    if let Some(file) = env("CHIMERA_MODEL_GGUF").map(PathBuf::from) {
        return match std::fs::metadata(&file) {
            Ok(facts) if facts.is_file() => Check::ok(NAME, describe(&file, facts.len())),
            _ => Check::missing(
                NAME,
                format!("CHIMERA_MODEL_GGUF is {}, which is no file", file.display()),
                "correct it, or unset it and run ./scripts/setup.sh",
            ),
        };
    }
    let Some(folder) = cache_dir().map(|cache| cache.join("models")) else {
        let remedy = "set HOME or XDG_CACHE_HOME";
        return Check::missing(NAME, "there is no cache folder", remedy);
    };
    let files = weights(&folder);
    let wanted = format!("{LLAMA_MODEL}.gguf");
    let list: Vec<String> = files
        .iter()
        .map(|(path, size)| describe(path, *size))
        .collect();
    if files
        .iter()
        .any(|(path, _)| path.file_name().is_some_and(|n| n == wanted.as_str()))
    {
        return Check::ok(NAME, list.join(", "));
    }
    let found = if list.is_empty() {
        format!("none in {}", folder.display())
    } else {
        format!(
            "not {wanted}, but {} (name it with --model)",
            list.join(", ")
        )
    };
    Check::missing(NAME, found, SETUP)
}

/// GGUF files of a folder, by rising path, with their sizes.
fn weights(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<(PathBuf, u64)> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .filter_map(|path| {
            std::fs::metadata(&path)
                .ok()
                .map(|facts| (path, facts.len()))
        })
        .collect();
    files.sort();
    files
}

fn describe(path: &Path, bytes: u64) -> String {
    format!("{} ({} MiB)", path.display(), bytes >> 20)
}

/// `setpriv` ties children to the life of their parent.
pub(super) fn setpriv() -> Check {
    const NAME: &str = "setpriv";
    match find_program("CHIMERA_SETPRIV", NAME) {
        Ok(program) => Check::ok(NAME, program.display().to_string()),
        Err(_) => Check::warning(
            NAME,
            "not found: if chimera is killed with SIGKILL, its engines stay behind",
            "install util-linux (on Debian: apt-get install util-linux)",
        ),
    }
}

/// The first line that a program says of its version, on either stream.
async fn version(program: &Path) -> Result<String, String> {
    let shown = program.display();
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(VERSION_LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{shown} cannot be run: {error}")),
        Err(_) => return Err(format!("{shown} --version took over {VERSION_LIMIT:?}")),
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    match line {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        Some(line) => Err(format!(
            "{shown} --version failed ({}): {line}",
            output.status
        )),
        None => Err(format!(
            "{shown} --version said nothing ({})",
            output.status
        )),
    }
}

/// The first three numbers with dots between in a text: `nats-server: v2.15.1` is `[2, 15, 1]`.
fn numbers(text: &str) -> Option<[u32; 3]> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let mut parts = word.split('.').map(str::parse);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some([major, minor, patch]),
                _ => None,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(numbers("nats-server: v2.15.1"), Some([2, 15, 1]));
        assert_eq!(numbers("nats-server: v2.9.25-beta.1"), Some([2, 9, 25]));
        assert!(numbers("v2.9.25") < Some(NATS_NEEDED) && numbers("v2.100.0") > Some(NATS_NEEDED));
        assert_eq!(numbers("no version"), None);
    }

    #[tokio::test]
    async fn a_program_that_is_none_is_told_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let script = "#!/bin/sh\necho broken >&2\nexit 3\n";
        std::fs::write(&path, script).unwrap();
        let why = version(&path).await.unwrap_err();
        assert!(why.contains("cannot be run"), "{why}");
        let shell = version(Path::new("/bin/false")).await.unwrap_err();
        assert!(shell.contains("--version"), "{shell}");
    }

    #[test]
    fn weights_are_listed_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.gguf", "a.gguf", "c.txt"] {
            std::fs::write(dir.path().join(name), vec![0; 3 << 20]).unwrap();
        }
        let files = weights(dir.path());
        assert_eq!(
            files,
            [
                (dir.path().join("a.gguf"), 3 << 20),
                (dir.path().join("b.gguf"), 3 << 20)
            ]
        );
        assert!(weights(&dir.path().join("none")).is_empty());
    }
}
