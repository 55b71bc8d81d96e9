//! How an engine is launched: what it must be launched anew for, and the words that ask for it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chimera_domain::plan::{PlannedAgent, Topology};
use chimera_runtime::process::ChildSpec;

use super::LaunchError;

/// What an engine must be launched anew for.
///
/// Solo legs ask for the same as the together leg of their test, so that an agent is alone on the
/// very instance that it shares, with as many slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Launch {
    /// llama.cpp takes everything when it starts.
    Llama(LlamaLaunch),
    /// Ollama takes everything else per request.
    Ollama {
        /// Requests that one model works on at once.
        slots: u32,
    },
}

/// What a llama.cpp server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LlamaLaunch {
    pub(super) model: String,
    num_ctx: u32,
    num_batch: u32,
    num_thread: Option<u32>,
    num_gpu: Option<u32>,
    slots: u32,
}

impl Launch {
    pub(super) fn llama(agent: &PlannedAgent, topology: Topology) -> Self {
        let o = &agent.options;
        Self::Llama(LlamaLaunch {
            model: agent.model.clone(),
            num_ctx: o.num_ctx,
            num_batch: o.num_batch,
            num_thread: o.num_thread,
            num_gpu: o.num_gpu,
            slots: slots(topology),
        })
    }

    pub(super) fn ollama(topology: Topology) -> Self {
        Self::Ollama {
            slots: slots(topology),
        }
    }
}

/// One agent, one slot, unless the agents share the instance.
fn slots(topology: Topology) -> u32 {
    match topology {
        Topology::Pinned => 1,
        Topology::Shared { slots } => slots.max(1),
    }
}

impl LlamaLaunch {
    /// The server's arguments.
    pub(super) fn args(&self, model: &Path, address: SocketAddr) -> Vec<OsString> {
        // The server shares its context out over the slots: each is to have what an agent asks for.
        let context = self.num_ctx.saturating_mul(self.slots);
        // With the metrics it states what runs and what waits, for the watch. Every build has that flag;
        // `--slots` is on by itself in some builds, unknown to others, and says less.
        let mut args: Vec<OsString> = vec!["--metrics".into(), "--model".into(), model.into()];
        let mut add = |flag: &str, value: String| args.extend([flag.into(), value.into()]);
        add("--alias", self.model.clone());
        add("--host", address.ip().to_string());
        add("--port", address.port().to_string());
        add("--ctx-size", context.to_string());
        add("--batch-size", self.num_batch.to_string());
        add("--parallel", self.slots.to_string());
        if let Some(threads) = self.num_thread {
            add("--threads", threads.to_string());
            add("--threads-batch", threads.to_string());
        }
        if let Some(layers) = self.num_gpu {
            add("--n-gpu-layers", layers.to_string());
        }
        args
    }
}

pub(super) fn ollama_spec(spec: ChildSpec, address: SocketAddr, slots: u32) -> ChildSpec {
    spec.arg("serve")
        .env("OLLAMA_HOST", address.to_string())
        // Residency: one model, loaded until we say otherwise. It multiplies the context by the
        // slots itself.
        .env("OLLAMA_KEEP_ALIVE", "-1")
        .env("OLLAMA_MAX_LOADED_MODELS", "1")
        .env("OLLAMA_NUM_PARALLEL", slots.to_string())
        .env("OLLAMA_NOPRUNE", "1")
}

/// By UUID, since indices change with the driver's ordering.
pub(super) fn pin_gpu(spec: ChildSpec, gpu: Option<&str>) -> ChildSpec {
    match gpu {
        Some(uuid) => spec.env("CUDA_VISIBLE_DEVICES", uuid),
        None => spec,
    }
}

pub(super) fn model_file(models_dir: &Path, model: &str) -> Result<PathBuf, LaunchError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_');
    if model.is_empty() || model.starts_with('.') || !model.chars().all(plain) {
        return Err(LaunchError::BadModelName(model.to_owned()));
    }
    let path = models_dir.join(format!("{model}.gguf"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(LaunchError::NoModel {
            model: model.to_owned(),
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_domain::ids::{AgentId, Role};
    use chimera_domain::options::{EngineKind, EngineOptions};

    fn agent(id: &str) -> PlannedAgent {
        PlannedAgent {
            id: AgentId::try_new(id).unwrap(),
            role: Role::try_new("collector").unwrap(),
            engine: EngineKind::Openai,
            model: "m".into(),
            options: EngineOptions {
                num_ctx: 1024,
                ..EngineOptions::default()
            },
            instance: None,
            think_ms: 0,
        }
    }

    fn words(topology: Topology) -> Vec<String> {
        let Launch::Llama(launch) = Launch::llama(&agent("a"), topology) else {
            panic!("not llama.cpp");
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let args = launch.args(Path::new("m.gguf"), address);
        args.iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect()
    }

    fn after<'a>(words: &'a [String], flag: &str) -> &'a str {
        let at = words.iter().position(|w| w == flag).unwrap();
        &words[at + 1]
    }

    #[test]
    fn each_slot_has_the_context_that_an_agent_asks_for() {
        let pinned = words(Topology::Pinned);
        assert_eq!(after(&pinned, "--ctx-size"), "1024");
        assert_eq!(after(&pinned, "--parallel"), "1");
        assert!(pinned.contains(&"--metrics".to_owned()), "{pinned:?}");
        let shared = words(Topology::Shared { slots: 3 });
        assert_eq!(after(&shared, "--ctx-size"), "3072");
        assert_eq!(after(&shared, "--parallel"), "3");
    }

    #[test]
    fn agents_that_want_the_same_find_it_running() {
        let shared = Topology::Shared { slots: 2 };
        let one = Launch::llama(&agent("a"), shared);
        assert_eq!(one, Launch::llama(&agent("b"), shared));
        assert_ne!(one, Launch::llama(&agent("a"), Topology::Pinned));
        assert_ne!(Launch::ollama(shared), Launch::ollama(Topology::Pinned));
        let queues = Topology::Shared { slots: 1 };
        assert_eq!(Launch::ollama(queues), Launch::ollama(Topology::Pinned));
    }

    #[test]
    fn a_model_name_cannot_leave_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gemma3-270m.gguf"), b"GGUF").unwrap();
        assert!(model_file(dir.path(), "gemma3-270m").is_ok());
        for bad in ["../x", "a/b", "", ".hidden", "a b"] {
            let error = model_file(dir.path(), bad).unwrap_err();
            assert!(matches!(error, LaunchError::BadModelName(_)), "{bad}");
        }
        let error = model_file(dir.path(), "absent").unwrap_err();
        assert!(matches!(error, LaunchError::NoModel { .. }));
    }
}
