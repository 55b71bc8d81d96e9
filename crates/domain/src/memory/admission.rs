//! Whether the agents of a leg fit in the memory that is free where they are to run, and where they
//! would.
//!
//! A worker says what an agent takes ([`Appraisal`]), telemetry what is free ([`Rooms`]). [`assess`]
//! adds up per memory, [`judge`] decides, [`place`] looks for seats where agents fit. What is not
//! known is never taken for enough nor for too little: the leg is admitted, and its record says what
//! could not be checked. See docs/adr/010-admission-by-memory.md.

mod place;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Amount;
use crate::ids::{AgentId, InstanceId, NodeId, WorkerId};

pub use place::{Candidate, Item, place};
pub use rooms::{Located, MAX_AGE_NS, Memory, NodeRooms, Room, Rooms};

/// What an agent takes where it runs, as its worker tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appraisal {
    /// On the engine's GPU.
    pub device: Amount,
    /// In the host's memory, beside what is on the GPU.
    pub host: Amount,
    /// In the host's memory where the engine has no GPU: everything.
    pub host_only: Amount,
    /// What of `host_only` is a mapped file, which all engines on the host have once together.
    pub mapped: Option<Mapped>,
    /// What the agent's instance holds on the GPU already, and lets go of or goes on with, bytes.
    pub held_device_bytes: u64,
    /// The same in the host's memory, mapped files not counted: they are available all the time.
    pub held_host_bytes: u64,
}

impl Appraisal {
    /// What agents are ordered by, bytes: larger ones are placed and warmed first.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.device.bytes.max(self.host_only.bytes)
    }
}

/// A file that engines map instead of reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Names it on its host.
    pub file: String,
    /// Bytes of it that are needed.
    pub bytes: u64,
}

/// One agent with its seat.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// The agent.
    pub agent: &'a AgentId,
    /// Model that it asks for.
    pub model: &'a str,
    /// Where it would run.
    pub instance: &'a InstanceId,
    /// On which host.
    pub node: &'a NodeId,
    /// The one GPU that the instance sees; `None`: it sees what the host has.
    pub gpu: Option<&'a str>,
    /// What it takes, or in words why that is not known.
    pub appraisal: Result<&'a Appraisal, &'a str>,
}

/// What agents need of one memory, beside what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// The host.
    #[schemars(with = "String")]
    pub node: NodeId,
    /// UUID of the GPU; `None`: the host's own memory, or no memory could be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Agents that need some of it, in pin order.
    #[schemars(with = "Vec<String>")]
    pub agents: Vec<AgentId>,
    /// What those of them need together of which it is known, bytes.
    pub needed_bytes: u64,
    /// Whether a rule of thumb is part of `needed_bytes`.
    pub estimated: bool,
    /// What they may take: free, and what their own instances hold already, less a margin, bytes.
    /// `None`: it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// Why it could not be checked whether they fit. `None`: it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Account {
    /// Whether the agents fit. What is known to be needed can be too much already.
    ///
    /// *Undefined when* it could not be checked.
    #[must_use]
    pub fn fits(&self) -> Option<bool> {
        let available = self.available_bytes?;
        if self.needed_bytes > available {
            Some(false)
        } else {
            self.unknown.is_none().then_some(true)
        }
    }

    /// The memory's name in a sentence.
    #[must_use]
    pub fn memory(&self) -> String {
        match &self.gpu {
            Some(gpu) => format!("GPU {gpu} of {}", self.node),
            None => format!("the memory of {}", self.node),
        }
    }
}

/// When a gang is admitted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Admit {
    /// If it fits, or nobody can tell.
    #[default]
    Fits,
    /// Always; what does not fit is recorded and said.
    Warn,
    /// Always, and nobody asks.
    Always,
}

impl Admit {
    /// Its name in a spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Warn => "warn",
            Self::Always => "always",
        }
    }
}

/// How legs are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Schedule {
    /// When.
    pub admit: Admit,
    /// Longest wait for room, seconds; 0: refused at once.
    pub wait_s: u32,
}

impl Schedule {
    /// Whether it is what a spec that says nothing of it asks for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            admit: Admit::Fits,
            wait_s: 30,
        }
    }
}

/// What was decided of a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It fits.
    Admitted,
    /// Admitted although it could not be told whether all of it fits.
    Unchecked,
    /// Admitted although it does not fit, because the spec says so.
    Overridden,
    /// It does not fit.
    Refused,
}

impl Decision {
    /// Its name in a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Unchecked => "admitted unchecked",
            Self::Overridden => "admitted although it does not fit",
            Self::Refused => "refused",
        }
    }
}

/// A decision on a gang, with its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admission {
    /// What.
    pub decision: Decision,
    /// Every memory that the gang needs something of, by node and GPU.
    pub accounts: Vec<Account>,
    /// How long it waited for room, ms.
    pub waited_ms: u64,
    /// Which worker every agent of the test has, also those that are not in this leg.
    #[schemars(with = "BTreeMap<String, String>")]
    pub seats: BTreeMap<AgentId, WorkerId>,
    /// Whether its agents were seated otherwise than by the workers' names, because they fit there.
    pub moved: bool,
}

impl Admission {
    /// Decides.
    #[must_use]
    pub fn decide(admit: Admit, accounts: Vec<Account>, waited_ms: u64, moved: bool) -> Self {
        Self {
            decision: judge(admit, &accounts),
            accounts,
            waited_ms,
            seats: BTreeMap::new(),
            moved,
        }
    }

    /// The decision in a sentence, with the figures behind it and, where it was refused, the way out.
    #[must_use]
    pub fn in_words(&self) -> String {
        let worst: Vec<String> = self.accounts.iter().map(in_words).collect();
        let mut words = format!("{}: {}", self.decision.name(), worst.join("; "));
        if self.waited_ms > 0 {
            words.push_str(&format!(" (waited {} ms)", self.waited_ms));
        }
        if self.decision == Decision::Refused {
            words.push_str(
                "; lower num_ctx, num_gpu or the number of agents, free memory there, or set \
                 [schedule] admit = \"warn\"",
            );
        }
        words
    }
}

fn in_words(account: &Account) -> String {
    let agents: Vec<&str> = account.agents.iter().map(AgentId::as_str).collect();
    let agents = agents.join(", ");
    let about = if account.estimated { "about " } else { "" };
    let (verb, memory) = (
        if account.agents.len() == 1 {
            "needs"
        } else {
            "need"
        },
        account.memory(),
    );
    match (account.available_bytes, &account.unknown) {
        (Some(available), None) => format!(
            "{agents} {verb} {about}{} bytes of {memory}, which has {available} for them",
            account.needed_bytes
        ),
        (Some(available), Some(why)) => format!(
            "{agents} {verb} at least {} bytes of {memory}, which has {available} for them; the rest \
             is not known: {why}",
            account.needed_bytes
        ),
        (None, why) => format!(
            "what {agents} {verb} of {memory} could not be checked: {}",
            why.as_deref().unwrap_or("what is free is not known")
        ),
    }
}

/// Decides by the accounts.
#[must_use]
pub fn judge(admit: Admit, accounts: &[Account]) -> Decision {
    let fits = || accounts.iter().map(Account::fits);
    if fits().any(|fits| fits == Some(false)) {
        match admit {
            Admit::Fits => Decision::Refused,
            Admit::Warn | Admit::Always => Decision::Overridden,
        }
    } else if fits().all(|fits| fits == Some(true)) && !accounts.is_empty() {
        Decision::Admitted
    } else {
        Decision::Unchecked
    }
}

/// What one memory is asked for.
#[derive(Debug, Default)]
struct Sum<'a> {
    agents: Vec<&'a AgentId>,
    /// Per instance and model, what the hungriest of its agents needs: agents that share an instance
    /// share what it has loaded. Bytes, and whether a rule of thumb is in them.
    needs: BTreeMap<(&'a InstanceId, &'a str), (u64, bool)>,
    /// Per instance, what it holds already.
    held: BTreeMap<&'a InstanceId, u64>,
    /// Per mapped file, what is needed of it.
    files: BTreeMap<&'a str, u64>,
    unknown: BTreeSet<String>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, claim: &Claim<'a>, amount: Amount, held: u64, mapped: Option<&'a Mapped>) {
        self.agents.push(claim.agent);
        let own = mapped.map_or(0, |mapped| mapped.bytes);
        let estimated = amount.provenance == super::Provenance::Estimated;
        let need = (amount.bytes.saturating_sub(own), estimated);
        let most = self
            .needs
            .entry((claim.instance, claim.model))
            .or_insert(need);
        *most = (most.0.max(need.0), most.1 || need.1);
        let holds = self.held.entry(claim.instance).or_insert(held);
        *holds = held.max(*holds);
        if let Some(mapped) = mapped {
            let most = self.files.entry(mapped.file.as_str()).or_insert(0);
            *most = mapped.bytes.max(*most);
        }
    }

    fn account(self, node: &NodeId, gpu: Option<&str>, room: Option<Room>) -> Account {
        let total = |parts: &mut dyn Iterator<Item = u64>| parts.fold(0_u64, u64::saturating_add);
        let held = total(&mut self.held.values().copied());
        let needed = total(&mut self.needs.values().map(|need| need.0))
            .saturating_add(total(&mut self.files.values().copied()));
        let mut unknown = self.unknown;
        if room.is_none() && unknown.is_empty() {
            unknown.insert("no telemetry of the last seconds says what is free".to_owned());
        }
        let words: Vec<String> = unknown.into_iter().collect();
        Account {
            node: node.clone(),
            gpu: gpu.map(str::to_owned),
            agents: self.agents.into_iter().cloned().collect(),
            needed_bytes: needed,
            estimated: self.needs.values().any(|need| need.1),
            available_bytes: room.map(|room| room.available_bytes(held)),
            unknown: (!words.is_empty()).then(|| words.join("; ")),
        }
    }
}

/// Adds up what agents need of each memory, beside what is free there.
///
/// *Shape*: one account for each memory, by node and GPU; every agent is in one or more.
#[must_use]
pub fn assess(claims: &[Claim<'_>], rooms: &Rooms) -> Vec<Account> {
    // A memory that cannot be named has an account of its own: `Err` sorts after the others.
    let mut sums: BTreeMap<(&NodeId, Option<String>, bool), Sum<'_>> = BTreeMap::new();
    for claim in claims {
        let located = rooms.locate(claim.node, claim.gpu);
        let (gpu, nowhere) = match &located {
            Ok(Memory::Gpu(uuid)) => (Some(uuid.clone()), None),
            Ok(Memory::Host) => (None, None),
            Err(why) => (claim.gpu.map(str::to_owned), Some(why.clone())),
        };
        let appraisal = match (&claim.appraisal, nowhere) {
            (Ok(appraisal), None) => *appraisal,
            (why, nowhere) => {
                let why = nowhere.or_else(|| why.err().map(str::to_owned));
                let is_lost = located.is_err();
                let sum = sums.entry((claim.node, gpu, is_lost)).or_default();
                sum.agents.push(claim.agent);
                sum.unknown.extend(why);
                continue;
            }
        };
        let on_host = (claim.node, None, false);
        match located {
            Ok(Memory::Gpu(uuid)) => {
                // An agent whose layers are all on the host needs nothing of the GPU.
                if appraisal.device.bytes > 0 {
                    sums.entry((claim.node, Some(uuid), false))
                        .or_default()
                        .add(claim, appraisal.device, appraisal.held_device_bytes, None);
                }
                sums.entry(on_host).or_default().add(
                    claim,
                    appraisal.host,
                    appraisal.held_host_bytes,
                    None,
                );
            }
            Ok(Memory::Host) | Err(_) => {
                let held = appraisal.held_host_bytes;
                let mapped = appraisal.mapped.as_ref();
                let sum = sums.entry(on_host).or_default();
                sum.add(claim, appraisal.host_only, held, mapped);
            }
        }
    }
    sums.into_iter()
        .map(|((node, gpu, is_lost), sum)| {
            let room = if is_lost {
                None
            } else {
                rooms.room(node, gpu.as_deref())
            };
            sum.account(node, gpu.as_deref(), room)
        })
        .collect()
}

#[cfg(test)]
mod tests;
