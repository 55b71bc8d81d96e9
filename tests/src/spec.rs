//! Specs for tests: short work on fake engines, in a fixed order.

use chimera_domain::options::EngineKind;
use chimera_testkit::fake_engine::FakeEngine;

/// What to measure. The defaults suit tests that judge no times.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name of the experiment.
    pub name: String,
    /// Protocol of the engines.
    pub kind: EngineKind,
    /// The instances, one per agent unless they share.
    pub instances: Vec<String>,
    /// How many agents; `None`: one per instance.
    pub agents: Option<usize>,
    /// Further lines of the phase (`topology = "shared"`).
    pub phase: String,
    /// Repeats.
    pub runs: u32,
    /// Whether solo legs are run.
    pub solo: bool,
    /// Output tokens per request.
    pub tokens: u32,
    /// Agents that may run at once; `None`: all.
    pub max_concurrent: Option<u32>,
    /// Largest start skew, ms. Far above the default: a test beside which others compile must not
    /// fail for a late wake-up that it does not judge.
    pub start_skew_ms: u32,
}

impl Spec {
    /// One agent for each engine, together only, one run.
    #[must_use]
    pub fn on(name: &str, kind: EngineKind, engines: &[FakeEngine]) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            instances: engines.iter().map(FakeEngine::url).collect(),
            agents: None,
            phase: String::new(),
            runs: 1,
            solo: false,
            tokens: 5,
            max_concurrent: None,
            start_skew_ms: 2_000,
        }
    }

    /// The spec as a person would write it.
    #[must_use]
    pub fn toml(&self) -> String {
        let Self {
            name,
            runs,
            solo,
            tokens,
            start_skew_ms,
            ..
        } = self;
        let instances: Vec<String> = self
            .instances
            .iter()
            .map(|url| format!("\"{url}\""))
            .collect();
        let mut text = format!(
            "name = \"{name}\"\n\n[model]\nname = \"fake\"\n\n[backend]\nkind = \"{kind}\"\n\
             instances = [{instances}]\n\n[solo]\nenabled = {solo}\n\n[limits]\n\
             start_skew_ms = {start_skew_ms}\n\n[[phase]]\nscenario = \"chimera_homo\"\n\
             order = \"fixed\"\nagents = {agents}\nruns = {runs}\nnum_predict = {tokens}\n",
            kind = self.kind.as_str(),
            instances = instances.join(", "),
            agents = self.agents.unwrap_or(self.instances.len()),
        );
        text.push_str(&self.phase);
        if let Some(cap) = self.max_concurrent {
            text.push_str(&format!("max_concurrent = {cap}\n"));
        }
        text
    }
}
