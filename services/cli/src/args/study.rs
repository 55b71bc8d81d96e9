//! What can be asked of results as a whole: `chimera import` and `chimera advise`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `chimera import`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera import tr110 comprehensive_test_results --out results/tr110
  chimera import tr110 comprehensive_test_results --json | jq '.findings[].sentence'")]
pub struct ImportArgs {
    /// Whose files.
    #[command(subcommand)]
    pub layout: ImportLayout,
}

/// Layouts that can be read.
#[derive(Debug, Clone, Subcommand)]
pub enum ImportLayout {
    /// Raw runs of Technical Report 110, and what Chimera wrote in its layout
    Tr110(Tr110Args),
}

/// `chimera import tr110`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera import tr110 comprehensive_test_results
  chimera import tr110 results/quick --out results/again

Reads phase_P_test_TTT/run_R/metrics.json below DIR. What the files do not state stays absent; a file
that states what cannot be refuses the whole import, and every such file is named. With --out the same
files are written as for a run of ours.")]
pub struct Tr110Args {
    /// Folder that holds the tests
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Folder for the results; must not exist yet [default: only print them]
    #[arg(long, value_name = "OUT")]
    pub out: Option<PathBuf>,
}

/// `chimera advise`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera advise results/quick
  chimera advise results/quick --format toml >> examples/mine.toml
  chimera advise results/tr110/report.json --json | jq '.recipes[] | {goal, pick}'

Only what was measured picks; where the report cannot answer, it says so.")]
pub struct AdviseArgs {
    /// A report.json, or the folder that holds one
    #[arg(value_name = "REPORT|DIR")]
    pub target: PathBuf,
    /// How to write the playbook [default: yaml]
    // An id of its own: that of --log-format is `format`, and global.
    #[arg(id = "playbook_format", long = "format", value_name = "FORMAT")]
    pub format: Option<PlaybookFormat>,
}

/// How a playbook is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlaybookFormat {
    /// YAML: each goal's phase, and what to expect
    Yaml,
    /// TOML: a `[[phase]]` for each goal, to paste into a spec
    Toml,
}
