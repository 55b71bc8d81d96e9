//! What `chimera up` is told, and what it takes where nothing is said.

use std::net::SocketAddr;
use std::path::PathBuf;

use chimera_domain::options::EngineKind;
use clap::Args;

use super::engine;
use crate::engines::{Choice, Sources};

/// `chimera up`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera up --workers 2                      two workers, each with an engine of its own
  chimera up --instance http://127.0.0.1:11434 --engine ollama
  chimera up --listen 127.0.0.1:7070 --dir ./stack

Then, in another terminal: chimera submit examples/two-agents.toml")]
pub struct UpArgs {
    /// Workers, each with an engine of its own [default: 2, or one per --instance]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=MAX_WORKERS)
    )]
    pub workers: Option<u32>,
    /// Protocol of the engines [default: what this machine has]
    #[arg(long, value_name = "ENGINE", value_parser = engine())]
    pub engine: Option<EngineKind>,
    /// Attach a worker to an engine that runs already; repeatable
    #[arg(long = "instance", value_name = "URL")]
    pub instances: Vec<String>,
    /// Model whose weights must be there before anything starts
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Address of the coordinator; the analyzer takes the next port [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Folder for streams, spools, logs and results; kept [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Workers that one machine can be asked for: more than any has GPUs or cores for.
const MAX_WORKERS: i64 = 256;
/// Workers where nobody says otherwise.
const WORKERS: u32 = 2;

impl UpArgs {
    /// How many workers: as asked, or one per instance that runs already, or two.
    pub(crate) fn workers(&self, choice: &Choice) -> u32 {
        let instances = match &choice.sources {
            Sources::Attach(urls) => u32::try_from(urls.len()).ok(),
            Sources::Spawn(_) => None,
        };
        self.workers.or(instances).unwrap_or(WORKERS)
    }

    /// Where the coordinator listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7070)))
    }

    /// Where the analyzer listens: the coordinator's next port, or any free one if it takes one too.
    pub(crate) fn analyzer_listen(&self) -> SocketAddr {
        let mut address = self.listen();
        let port = if address.port() == 0 {
            0
        } else {
            address.port().wrapping_add(1)
        };
        address.set_port(port);
        address
    }
}
