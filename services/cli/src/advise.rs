//! `advise`: which configuration to take for which goal.

use chimera_domain::advise;

use crate::args::{AdviseArgs, PlaybookFormat};
use crate::{output, report};

/// `chimera advise`.
pub(crate) fn run(args: &AdviseArgs, json: bool) -> anyhow::Result<()> {
    let report = report::read(&args.target)?;
    let playbook = advise::playbook(&report);
    if json {
        return output::print_json(&playbook);
    }
    let text = match args.format.unwrap_or(PlaybookFormat::Yaml) {
        PlaybookFormat::Yaml => advise::yaml(&playbook),
        PlaybookFormat::Toml => advise::toml(&playbook),
    };
    output::print(text.as_bytes()).map(|_| ())
}
