//! Where the facts of a model come from: a GGUF file, a running Ollama, or Ollama's folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_worker::launcher::EngineSource;
use anyhow::Context as _;
use chimera_domain::memory::{Layout, ModelFacts, Show};
use chimera_domain::options::EngineKind;
use chimera_runtime::exit::UsageError;
use chimera_runtime::gguf::{self, HeaderError};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::args::PlanArgs;
use crate::engines::{self, Sources, Wanted};

/// Ollama reads the model's header to answer.
const SHOW_LIMIT: Duration = Duration::from_secs(30);
/// Longest answer of `/api/show` that is read: templates and licences are in it.
const SHOW_BYTES: usize = 64 << 20;

/// A model, and where it was found.
pub(super) struct Source {
    pub(super) facts: ModelFacts,
    /// The layout of the engine that would serve it.
    pub(super) layout: Layout,
    /// For the person.
    pub(super) from: String,
}

/// Finds the model that the options name.
pub(super) async fn find(args: &PlanArgs) -> anyhow::Result<Source> {
    let named = args.model.as_deref().filter(|name| *name != "auto");
    if let Some(file) = named.filter(|name| is_file(name)) {
        if args.ollama.is_some() {
            let why =
                format!("--ollama asks for a model by name, and --model names the file {file}");
            return Err(UsageError(why).into());
        }
        return from_file(Path::new(file), Layout::LlamaCpp);
    }
    if let Some(url) = &args.ollama {
        let name = named.unwrap_or(engines::OLLAMA_MODEL);
        return from_ollama(&address(url)?, name).await;
    }
    let wanted = Wanted {
        engine: args.engine,
        instances: Vec::new(),
        model: named.map(str::to_owned),
    };
    let choice = engines::choose(&wanted).await.with_context(|| {
        "no model was found to plan for: give --model FILE.gguf, or --ollama URL with --model NAME"
    })?;
    match &choice.sources {
        Sources::Attach(urls) => match urls.first() {
            Some(url) if choice.kind == EngineKind::Ollama => from_ollama(url, &choice.model).await,
            _ => anyhow::bail!(
                "an OpenAI-compatible engine does not say what its model is made of: give --model FILE.gguf"
            ),
        },
        Sources::Spawn(EngineSource::SpawnLlama { models_dir, .. }) => {
            let file = models_dir.join(format!("{}.gguf", choice.model));
            from_file(&file, Layout::LlamaCpp)
        }
        Sources::Spawn(_) => {
            let file = ollama_file(&choice.model)?;
            let mut source = from_file(&file, Layout::Ollama)?;
            source.from = format!("{} of Ollama", choice.model);
            Ok(source)
        }
    }
}

/// A name with a slash may be a model of Ollama's; one that ends in `.gguf` or is there is a file.
fn is_file(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
        || Path::new(name).is_file()
}

fn address(text: &str) -> Result<Url, UsageError> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            UsageError(format!(
                "--ollama: '{text}' is no address like http://127.0.0.1:11434"
            ))
        })
}

/// Reads the header of a GGUF file, and no more of it than the header needs.
fn from_file(path: &Path, layout: Layout) -> anyhow::Result<Source> {
    let name = path.display();
    let header = match gguf::read_header(path) {
        Ok(header) => header,
        Err(HeaderError::Read(error)) => {
            return Err(UsageError(format!("--model: cannot read {name}: {error}")).into());
        }
        Err(HeaderError::Gguf(error)) => {
            return Err(error).with_context(|| format!("cannot use {name}"));
        }
    };
    let facts = ModelFacts::from_gguf(&header).with_context(|| format!("cannot use {name}"))?;
    let from = name.to_string();
    Ok(Source {
        facts,
        layout,
        from,
    })
}

async fn from_ollama(url: &Url, model: &str) -> anyhow::Result<Source> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(SHOW_LIMIT)
        .build()?;
    let base = url.as_str().trim_end_matches('/');
    let asked = || format!("Ollama at {url} was asked about '{model}'");
    let mut answer = http
        .post(format!("{base}/api/show"))
        .json(&json!({ "model": model }))
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(asked)?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        anyhow::bail!(
            "the Ollama at {url} has no model '{model}': `ollama pull {model}` fetches it, `ollama list` \
             shows what it has"
        );
    }
    answer.error_for_status_ref().with_context(asked)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.with_context(asked)? {
        body.extend_from_slice(&chunk);
        anyhow::ensure!(
            body.len() <= SHOW_BYTES,
            "{}: its answer has no end",
            asked()
        );
    }
    let show: Show = serde_json::from_slice(&body).with_context(asked)?;
    let facts = ModelFacts::from_show(&show).with_context(asked)?;
    Ok(Source {
        facts,
        layout: Layout::Ollama,
        from: format!("{model} of the Ollama at {url}"),
    })
}

/// The GGUF file of a model in Ollama's folder, which needs no running server.
fn ollama_file(model: &str) -> anyhow::Result<PathBuf> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        media_type: String,
        digest: String,
    }
    let lost = || {
        format!(
            "the files of '{model}' in Ollama's folder cannot be read: start Ollama and give --ollama URL, \
             or give --model FILE.gguf"
        )
    };
    let (models, manifest) = engines::ollama_manifest(model).with_context(lost)?;
    let text = std::fs::read(&manifest).with_context(lost)?;
    let manifest: Manifest = serde_json::from_slice(&text).with_context(lost)?;
    let layer = manifest
        .layers
        .into_iter()
        .find(|layer| layer.media_type == "application/vnd.ollama.image.model")
        .with_context(lost)?;
    Ok(models.join("blobs").join(layer.digest.replace(':', "-")))
}
