//! Which engine: a reachable or installed Ollama, else llama.cpp; and the model on it.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_worker::launcher::EngineSource;
use anyhow::Context as _;
use chimera_domain::options::EngineKind;
use chimera_runtime::config::{ProgramError, cache_dir, env, find_program};
use chimera_runtime::exit::UsageError;
use serde::{Deserialize, Serialize};
use url::Url;

/// The model that Ollama is asked for where nobody says otherwise.
pub(crate) const OLLAMA_MODEL: &str = "gemma3:270m";
/// The model file of the cache folder that llama.cpp serves where nobody says otherwise.
pub(crate) const LLAMA_MODEL: &str = "gemma3-270m-q4_k_m";
/// A server on this machine answers within that.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What a person asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) engine: Option<EngineKind>,
    pub(crate) instances: Vec<String>,
    pub(crate) model: Option<String>,
}

/// What it comes to.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) kind: EngineKind,
    pub(crate) model: String,
    pub(crate) sources: Sources,
    /// One sentence for the person.
    pub(crate) why: String,
}

/// Where the instances come from.
#[derive(Debug, Clone)]
pub(crate) enum Sources {
    /// They run already.
    Attach(Vec<Url>),
    /// Each worker starts one like this.
    Spawn(EngineSource),
}

impl Choice {
    /// One source per worker.
    ///
    /// # Errors
    /// When fewer instances run than are needed.
    pub(crate) fn for_workers(&self, workers: u32) -> anyhow::Result<Vec<EngineSource>> {
        let count = usize::try_from(workers).unwrap_or(usize::MAX);
        match &self.sources {
            Sources::Spawn(source) => Ok(vec![source.clone(); count]),
            Sources::Attach(urls) if urls.len() < count => Err(UsageError(format!(
                "{workers} engine instances are needed, one for each agent that has its own, and {} \
                 given: repeat --instance once for each, lower --agents, or let the agents share one \
                 (topology = \"shared\" in a spec)",
                if urls.len() == 1 {
                    "1 is".to_owned()
                } else {
                    format!("{} are", urls.len())
                }
            ))
            .into()),
            Sources::Attach(urls) => Ok(urls
                .iter()
                .take(count)
                .map(|url| EngineSource::Attach {
                    url: url.clone(),
                    kind: self.kind,
                })
                .collect()),
        }
    }
}

/// Looks at what the machine has and chooses.
pub(crate) async fn choose(wanted: &Wanted) -> anyhow::Result<Choice> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(ASK_LIMIT)
        .build()?;
    if !wanted.instances.is_empty() {
        return attached(wanted, &http).await;
    }
    if let Some(file) = wanted.model.as_deref().filter(|m| m.ends_with(".gguf")) {
        if wanted.engine == Some(EngineKind::Ollama) {
            return Err(UsageError(format!(
                "Ollama serves models by name, not files: run `ollama create NAME` from {file} \
                 and give --model NAME, or leave --engine out to use llama.cpp"
            ))
            .into());
        }
        return llama(Some(file), "a model file was named");
    }
    match wanted.engine {
        Some(EngineKind::Ollama) => ollama(wanted, &http).await.map_err(anyhow::Error::from),
        Some(EngineKind::Openai) => llama(wanted.model.as_deref(), "as asked"),
        None => match ollama(wanted, &http).await {
            Ok(choice) => Ok(choice),
            Err(not_ollama) => llama(wanted.model.as_deref(), &not_ollama.0)
                .with_context(|| format!("no engine can be used; Ollama: {}", not_ollama.0)),
        },
    }
}

/// Instances that run already.
async fn attached(wanted: &Wanted, http: &reqwest::Client) -> anyhow::Result<Choice> {
    let mut urls = Vec::new();
    for text in &wanted.instances {
        let url = Url::parse(text)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .ok_or_else(|| {
                UsageError(format!(
                    "--instance: '{text}' is no address like http://127.0.0.1:11434"
                ))
            })?;
        if urls.contains(&url) {
            return Err(UsageError(format!(
                "--instance: {url} is given twice; each agent needs an instance of its own"
            ))
            .into());
        }
        urls.push(url);
    }
    let mut kind = wanted.engine;
    let mut model = wanted.model.clone();
    for url in &urls {
        let found = look(url, kind, http).await?;
        kind = Some(found.kind);
        if model.is_none() {
            let listed = found.models.join(", ");
            model = match found.models.as_slice() {
                [only] => Some(only.clone()),
                [] => {
                    return Err(UsageError(format!(
                        "{url} has no model: give --model, or load one"
                    ))
                    .into());
                }
                _ => {
                    return Err(UsageError(format!(
                        "{url} has several models: choose one with --model ({listed})"
                    ))
                    .into());
                }
            };
        } else if let Some(name) = &model
            && !has_model(&found, name)
        {
            anyhow::bail!(
                "{url} lacks the model '{name}'; it has: {}{}",
                found.models.join(", "),
                if found.kind == EngineKind::Ollama {
                    "; `ollama pull` fetches one"
                } else {
                    ""
                }
            );
        }
    }
    let (Some(kind), Some(model)) = (kind, model) else {
        return Err(UsageError("no instance was given".to_owned()).into());
    };
    let why = format!("attached to {} {} instance(s)", urls.len(), kind.as_str());
    Ok(Choice {
        kind,
        model,
        sources: Sources::Attach(urls),
        why,
    })
}

struct Found {
    kind: EngineKind,
    models: Vec<String>,
}

/// Ollama adds `:latest` where no tag is named.
fn has_model(found: &Found, name: &str) -> bool {
    found
        .models
        .iter()
        .any(|m| m == name || (found.kind == EngineKind::Ollama && *m == format!("{name}:latest")))
}

#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
}

/// What answers at an address.
async fn look(
    url: &Url,
    kind: Option<EngineKind>,
    http: &reqwest::Client,
) -> anyhow::Result<Found> {
    let base = url.as_str().trim_end_matches('/').trim_end_matches("/v1");
    let mut last = None;
    if kind != Some(EngineKind::Openai) {
        match ask::<Tags>(http, &format!("{base}/api/tags")).await {
            Ok(tags) => {
                let models = tags.models.into_iter().map(|t| t.name).collect();
                return Ok(Found {
                    kind: EngineKind::Ollama,
                    models,
                });
            }
            Err(error) => last = Some(error),
        }
    }
    if kind != Some(EngineKind::Ollama) {
        match ask::<ModelList>(http, &format!("{base}/v1/models")).await {
            Ok(list) => {
                let models = list.data.into_iter().map(|m| m.id).collect();
                return Ok(Found {
                    kind: EngineKind::Openai,
                    models,
                });
            }
            Err(error) => last = Some(error),
        }
    }
    let asked = kind.map_or("Ollama or OpenAI-compatible", EngineKind::as_str);
    let error = last.map_or_else(|| anyhow::anyhow!("nothing was asked"), anyhow::Error::from);
    Err(error.context(format!(
        "no {asked} engine answers at {url}: start it there, or correct --instance"
    )))
}

async fn ask<T: serde::de::DeserializeOwned>(
    http: &reqwest::Client,
    url: &str,
) -> reqwest::Result<T> {
    http.get(url).send().await?.error_for_status()?.json().await
}

/// Why it is not Ollama.
#[derive(Debug)]
struct NotOllama(String);

impl From<NotOllama> for anyhow::Error {
    fn from(why: NotOllama) -> Self {
        anyhow::anyhow!("{}", why.0)
    }
}

/// Ollama, if it is installed and has the model: each worker then owns an `ollama serve`.
async fn ollama(wanted: &Wanted, http: &reqwest::Client) -> Result<Choice, NotOllama> {
    let program = match find_program("CHIMERA_OLLAMA", "ollama") {
        Ok(program) => program,
        Err(ProgramError::NotFound { .. }) => return running_ollama(wanted, http).await,
        // Set to something that is no program: a mistake that a fall-back would hide.
        Err(error) => return Err(NotOllama(error.to_string())),
    };
    let model = wanted
        .model
        .clone()
        .unwrap_or_else(|| OLLAMA_MODEL.to_owned());
    if !has_ollama_manifest(&model) {
        return Err(NotOllama(format!(
            "Ollama is installed but has no model '{model}' (`ollama pull {model}` fetches it)"
        )));
    }
    Ok(Choice {
        kind: EngineKind::Ollama,
        model,
        why: format!(
            "Ollama is installed ({}): one instance per agent",
            program.display()
        ),
        sources: Sources::Spawn(EngineSource::SpawnOllama { program, gpu: None }),
    })
}

/// A server that runs though no program is here (a container, another host) serves one agent.
async fn running_ollama(wanted: &Wanted, http: &reqwest::Client) -> Result<Choice, NotOllama> {
    let address = env("OLLAMA_HOST").unwrap_or_else(|| "127.0.0.1:11434".to_owned());
    let text = if address.contains("://") {
        address
    } else {
        format!("http://{address}")
    };
    let absent = || {
        NotOllama(format!(
            "Ollama is not installed and none answers at {text} (see https://ollama.com/download, \
             or give --instance URL)"
        ))
    };
    let url = Url::parse(&text).map_err(|_| absent())?;
    if !reachable(&url) {
        return Err(absent());
    }
    let found = look(&url, Some(EngineKind::Ollama), http)
        .await
        .map_err(|_| absent())?;
    let model = wanted
        .model
        .clone()
        .unwrap_or_else(|| OLLAMA_MODEL.to_owned());
    if !has_model(&found, &model) {
        return Err(NotOllama(format!(
            "the Ollama at {url} has no model '{model}'"
        )));
    }
    Ok(Choice {
        kind: EngineKind::Ollama,
        model,
        why: format!(
            "an Ollama answers at {url}; it can serve one agent, or several that share it"
        ),
        sources: Sources::Attach(vec![url]),
    })
}

fn reachable(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let port = url.port_or_known_default().unwrap_or(11_434);
    let addresses = (host, port).to_socket_addrs();
    addresses.is_ok_and(|mut all| {
        all.any(|a: SocketAddr| std::net::TcpStream::connect_timeout(&a, ASK_LIMIT).is_ok())
    })
}

/// Ollama keeps a manifest per model, so that its models can be known without starting it.
fn has_ollama_manifest(model: &str) -> bool {
    ollama_manifest(model).is_some_and(|(_, manifest)| manifest.is_file())
}

/// Ollama's folder of models, and where in it the manifest of this one is. `None`: there is no home.
pub(crate) fn ollama_manifest(model: &str) -> Option<(PathBuf, PathBuf)> {
    let models = env("OLLAMA_MODELS")
        .map(PathBuf::from)
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".ollama/models")))?;
    let (name, tag) = model.split_once(':').unwrap_or((model, "latest"));
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        format!("library/{name}")
    };
    let manifest = models
        .join("manifests/registry.ollama.ai")
        .join(path)
        .join(tag);
    Some((models, manifest))
}

/// llama.cpp's server with a GGUF file.
fn llama(model: Option<&str>, why: &str) -> anyhow::Result<Choice> {
    let program = find_program("CHIMERA_LLAMA_SERVER", "llama-server")?;
    let (models_dir, name) = match model {
        Some(file) if file.ends_with(".gguf") => {
            let path = Path::new(file);
            let path = path
                .canonicalize()
                .map_err(|e| UsageError(format!("--model: cannot open {file}: {e}")))?;
            let stem = path.file_stem().and_then(|s| s.to_str());
            match (path.parent(), stem) {
                (Some(dir), Some(stem)) => (dir.to_owned(), stem.to_owned()),
                _ => return Err(UsageError(format!("--model: {file} names no file")).into()),
            }
        }
        named => {
            let name = named.unwrap_or(LLAMA_MODEL).to_owned();
            let chosen = env("CHIMERA_MODEL_GGUF").map(PathBuf::from);
            let fits = |p: &PathBuf| p.file_stem().is_some_and(|s| s == name.as_str());
            let dir = match chosen
                .filter(fits)
                .and_then(|p| p.parent().map(Path::to_owned))
            {
                Some(dir) => dir,
                None => cache_dir()
                    .map(|c| c.join("models"))
                    .context("neither HOME nor XDG_CACHE_HOME is set: give --model FILE.gguf")?,
            };
            (dir, name)
        }
    };
    let file = models_dir.join(format!("{name}.gguf"));
    anyhow::ensure!(
        file.is_file(),
        "the model file {} is missing: run ./scripts/setup.sh, or give --model FILE.gguf",
        file.display()
    );
    Ok(Choice {
        kind: EngineKind::Openai,
        model: name,
        why: format!(
            "llama.cpp's server ({}), one per agent: {why}",
            program.display()
        ),
        sources: Sources::Spawn(EngineSource::SpawnLlama {
            program,
            models_dir,
            gpu: None,
        }),
    })
}
