//! The agent's step machine: which prompt each step sends.

use std::fmt;

use chimera_domain::ids::{AgentId, Role, RunId};
use chimera_domain::options::EngineOptions;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::aggregate::Aggregates;
use super::facts::{Facts, List};
use super::template::{TemplateError, Templates};
use super::tokens::estimate;

/// How many words of the first answer the second prompt quotes: enough to build on, and few enough
/// that a long answer does not make the second step other work than a short one would.
pub const EXCERPT_WORDS: usize = 40;

/// Most tokens of that quote, estimated; the budget always sets as many aside, so that what else
/// the second prompt holds does not depend on what the model wrote.
pub const EXCERPT_TOKENS: u32 = 120;

/// Most tokens of a prompt, estimated, however large the context is: keeps the work of a step
/// bounded on an engine without a GPU.
pub const MAX_PROMPT_TOKENS: u32 = 1_024;

/// Tokens set aside for what the chat template puts around a message.
pub const FRAME_TOKENS: u32 = 16;

/// A full list that is shown takes at least this many tokens (of 48 rows); one that is not shown
/// takes at most the line that says that rows are left out.
const SHOWN_AT_LEAST: u32 = 48;

/// A step that asks the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKind {
    /// What do the numbers say?
    Analysis,
    /// Write it up, building on the analysis.
    Report,
}

/// The steps of every agent, in order.
pub const STEPS: [StepKind; 2] = [StepKind::Analysis, StepKind::Report];

impl StepKind {
    /// The name in template files, records and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Analysis => "analysis",
            Self::Report => "report",
        }
    }
}

/// Eight decimal digits that open a prompt and make the engine's prefix cache of no use.
///
/// Fixed width, leading zeros kept: a tokenizer that takes digits singly, in pairs or in threes
/// makes equally many tokens of every nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// The nonce of one request, from what names it: the same on every replay, and different (but
    /// for one chance in 10^8) wherever one of the parts is.
    #[must_use]
    pub fn derive(
        plan_seed: u64,
        run: &RunId,
        attempt: u32,
        agent: &AgentId,
        step: StepKind,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"chimera.nonce.1");
        hash.update(plan_seed.to_be_bytes());
        hash.update(attempt.to_be_bytes());
        for part in [run.as_str(), agent.as_str(), step.as_str()] {
            // Lengths in front, so that no two lists of parts run together into one text.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let number = hash
            .finalize()
            .iter()
            .take(8)
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Self(format!("{:08}", number % 100_000_000))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many tokens a prompt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptBudget {
    tokens: u32,
}

impl PromptBudget {
    /// What the context leaves once the answer (`num_predict`) and the chat frame have their
    /// places, at most [`MAX_PROMPT_TOKENS`].
    #[must_use]
    pub fn for_options(options: &EngineOptions) -> Self {
        let left = options
            .num_ctx
            .saturating_sub(options.num_predict)
            .saturating_sub(FRAME_TOKENS);
        Self {
            tokens: left.min(MAX_PROMPT_TOKENS),
        }
    }

    /// The budget in tokens.
    #[must_use]
    pub fn tokens(self) -> u32 {
        self.tokens
    }
}

/// A prompt ready to be sent as one user message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The text; begins with the nonce.
    pub content: String,
    /// Its tokens, estimated on the high side.
    pub estimated_tokens: u32,
    /// What was left out of it to fit the budget, in words; `None` if nothing was.
    pub note: Option<String>,
}

/// One agent's questions: pure, the same inputs always give the same prompts.
#[derive(Debug)]
pub struct Agent<'a> {
    role: Role,
    templates: &'a Templates,
    rows: u64,
    facts: Facts,
    nonce: NonceSource,
    budget: PromptBudget,
}

/// What the nonces of an agent's requests are derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonceSource {
    /// Seed of the plan.
    pub plan_seed: u64,
    /// The leg.
    pub run: RunId,
    /// The try at it.
    pub attempt: u32,
    /// The agent.
    pub agent: AgentId,
}

impl NonceSource {
    /// The nonce of a step.
    #[must_use]
    pub fn nonce(&self, step: StepKind) -> Nonce {
        Nonce::derive(self.plan_seed, &self.run, self.attempt, &self.agent, step)
    }
}

/// What a template sees.
#[derive(Serialize)]
struct View<'a> {
    role: &'a str,
    rows: u64,
    #[serde(flatten)]
    facts: &'a Facts,
    previous: &'a str,
}

impl<'a> Agent<'a> {
    /// An agent of `role` that knows `aggregates`.
    #[must_use]
    pub fn new(
        role: Role,
        templates: &'a Templates,
        aggregates: &Aggregates,
        nonce: NonceSource,
        budget: PromptBudget,
    ) -> Self {
        let facts = Facts::new(aggregates);
        Self {
            role,
            templates,
            rows: aggregates.rows,
            facts,
            nonce,
            budget,
        }
    }

    /// The prompt of a step; `previous` is the answer to the step before, if there was one.
    ///
    /// *Rule*: the template is filled with all facts. If that is over the budget, lists lose rows
    /// from their ends, one list after the other in the order of [`List::BY_WORTH`], until it
    /// fits; lists that the template does not show are left alone. The prompt says how many rows
    /// are left out, and so does [`Prompt::note`].
    ///
    /// # Errors
    /// When the template cannot be filled, or does not fit with every list emptied.
    pub fn prompt(&self, step: StepKind, previous: Option<&str>) -> Result<Prompt, TemplateError> {
        let name = self.templates.name(&self.role, step);
        let head = format!("[session {}]\n", self.nonce.nonce(step));
        let render = |facts: &Facts, previous: &str| {
            let view = View {
                role: self.role.as_str(),
                rows: self.rows,
                facts,
                previous,
            };
            self.templates
                .render(&name, view)
                .map(|body| format!("{head}{body}"))
        };
        // A stand-in for the quote, so that the words around it count too.
        let (quote, reserve) = match step {
            StepKind::Analysis => ("", 0),
            StepKind::Report => ("x", EXCERPT_TOKENS),
        };
        let size = |facts: &Facts| {
            render(facts, quote).map(|text| estimate(&text).saturating_add(reserve))
        };
        let facts = self.fit(step, size)?;
        let content = render(&facts, &previous.map(excerpt).unwrap_or_default())?;
        Ok(Prompt {
            estimated_tokens: estimate(&content),
            note: note(&facts),
            content,
        })
    }

    /// The facts that fit, by the sizes that `size` gives.
    fn fit(
        &self,
        step: StepKind,
        size: impl Fn(&Facts) -> Result<u32, TemplateError>,
    ) -> Result<Facts, TemplateError> {
        let budget = self.budget.tokens;
        let mut facts = self.facts.clone();
        for list in List::BY_WORTH {
            if facts.left_out(list) == 0 {
                continue;
            }
            // Longer than a list may be. If the template shows it, taking it away is a great loss.
            let mut without = facts.clone();
            without.forget(list);
            if size(&facts)?.saturating_sub(size(&without)?) < SHOWN_AT_LEAST {
                facts = without;
            }
        }
        let mut needed = size(&facts)?;
        for list in List::BY_WORTH {
            if needed <= budget {
                return Ok(facts);
            }
            let mut emptied = facts.clone();
            emptied.keep(list, 0);
            let least = size(&emptied)?;
            if least >= needed {
                continue;
            }
            if least > budget {
                (facts, needed) = (emptied, least);
                continue;
            }
            // At most `MAX_ROWS_PER_LIST` renderings; at 0 rows it fits.
            for rows in (0..facts.len(list)).rev() {
                let mut shorter = facts.clone();
                shorter.keep(list, rows);
                if size(&shorter)? <= budget {
                    return Ok(shorter);
                }
            }
        }
        if needed <= budget {
            return Ok(facts);
        }
        Err(TemplateError::TooLong {
            step: step.as_str(),
            needed,
            budget,
        })
    }
}

/// The first [`EXCERPT_WORDS`] words, single blanks between them, of at most [`EXCERPT_TOKENS`]
/// tokens by estimate.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut kept = String::new();
    for word in text.split_whitespace().take(EXCERPT_WORDS) {
        let before = kept.len();
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(word);
        if estimate(&kept) > EXCERPT_TOKENS {
            kept.truncate(before);
            break;
        }
    }
    kept
}

fn note(facts: &Facts) -> Option<String> {
    let parts: Vec<String> = List::BY_WORTH
        .into_iter()
        .filter(|list| facts.left_out(*list) > 0)
        .map(|list| format!("{} {}", facts.left_out(list), list.as_str()))
        .collect();
    (!parts.is_empty()).then(|| format!("left out to fit the context: {}", parts.join(", ")))
}
