//! What was measured on this machine: `chimera list` and `chimera history`.

use chimera_runtime::config::DurationText;
use clap::{ArgGroup, Args, Subcommand};

use super::ServerArgs;

/// `chimera list`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera list                                what was measured on this machine, the newest first
  chimera list --last 5 --json
  chimera list --server http://10.0.0.5:7070  the experiments of a coordinator

The list is one SQLite file in the user's data folder; CHIMERA_HISTORY names another file, or `off`.")]
pub struct ListArgs {
    /// The coordinator.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Most entries [default: 50]
    #[arg(long, value_name = "N", conflicts_with = "server")]
    pub last: Option<u32>,
}

/// `chimera history`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera history prune --keep 100
  chimera history prune --older-than 30d --delete-files")]
pub struct HistoryArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: HistoryCommand,
}

/// What can be done with the history.
#[derive(Debug, Clone, Subcommand)]
pub enum HistoryCommand {
    /// Forget old entries; their folders stay unless asked otherwise
    Prune(PruneArgs),
}

/// `chimera history prune`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera history prune --keep 100
  chimera history prune --older-than 30d
  chimera history prune --older-than 30d --delete-files

With --delete-files the results are lost for good. Only folders that hold the very bundle of the entry
are deleted.")]
#[group(skip)]
#[command(group = ArgGroup::new("rule").required(true).args(["keep", "older_than"]))]
pub struct PruneArgs {
    /// Keep the newest so many
    #[arg(long, value_name = "N")]
    pub keep: Option<u32>,
    /// Forget what was written longer ago than this, e.g. 30d
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<DurationText>,
    /// Delete the result folders of what is forgotten, too
    #[arg(long)]
    pub delete_files: bool,
}
