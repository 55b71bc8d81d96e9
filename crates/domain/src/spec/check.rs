//! A tree of values becomes a valid spec, or a list of every fault in it.

mod agents;
mod budget;
mod cross;
mod gate;
mod growth;
mod phase;
mod schedule;
mod sharing;
mod slo;

pub(crate) use agents::cycled_agents;

use super::error::{At, Sink};
use super::node::Node;
use super::options;
use super::phase::{Phase, Scenario};
use super::reader::{Item, Table};
use super::valid::{Backend, Instances, Model, Solo, ValidSpec};
use crate::ids::ExperimentId;
use crate::memory::admission::Schedule;
use crate::options::EngineKind;
use crate::plan::{Budget, Limits, Workload};

/// Longest experiment name: leaves room to make an id of it.
const MAX_NAME: usize = 40;
/// Longest model name: paths of models are long.
const MAX_MODEL: usize = 200;
/// Every engine takes a seed of 31 bits; llama.cpp reads the largest of 32 as "random".
const MAX_SEED: u32 = 2_147_483_647;
/// Most agents of a test.
pub(super) const MAX_AGENTS: u32 = 64;
/// Most repeats of a test.
const MAX_RUNS: u32 = 1_000;
/// Most tests of an experiment.
const MAX_TESTS: u64 = 10_000;
/// Most legs of an experiment, and most agents over all its tests.
const MAX_LEGS: u64 = 200_000;
/// Most phases of an experiment.
const MAX_PHASES: usize = 64;
/// Longest limit of a stage: a day.
const MAX_LIMIT_S: u32 = 86_400;
/// Template sets that the agents know.
const TEMPLATES: [(&str, &str); 1] = [("tr110-report", "tr110-report")];

const SCENARIO_USES_BASELINE: &str = "only scenario \"baseline_vs_chimera\" reads it";

/// Checks a spec. *Undefined when* anything is wrong: the sink then holds why. A value may come
/// back although there are faults; [`Sink::into_result`] drops it.
pub(super) fn spec(root: &Node, sink: &mut Sink) -> Option<ValidSpec> {
    let mut table = Table::root(root, sink)?;
    let name = table
        .need("name", "\"two-agents\"", sink)
        .and_then(|i| i.name(MAX_NAME, ExperimentId::try_new, sink));
    let seed = table
        .take("seed")
        .and_then(|i| i.whole(0..=MAX_SEED, sink))
        .unwrap_or(42);
    let model = table.need("model", "{ name = \"gemma3:270m\" }", sink);
    let model = model
        .and_then(|i| i.table(sink))
        .and_then(|t| self::model(t, sink));
    let (backend, instances_at) = match table.take("backend") {
        Some(item) => item
            .table(sink)
            .map(|t| self::backend(t, sink))
            .unwrap_or_default(),
        None => (
            Some(Backend {
                kind: None,
                instances: Instances::Spawn,
            }),
            None,
        ),
    };
    let workload = match table.take("workload") {
        Some(item) => item.table(sink).and_then(|t| self::workload(t, sink)),
        None => Some(Workload {
            template: "tr110-report".to_owned(),
            data: None,
        }),
    };
    let solo = match table.take("solo") {
        Some(item) => item.table(sink).and_then(|t| self::solo(t, sink)),
        None => Some(Solo {
            enabled: true,
            share_identical: false,
        }),
    };
    let limits = match table.take("limits") {
        Some(item) => item.table(sink).map(|t| self::limits(t, sink)),
        None => Some(Limits::default()),
    };
    let budget = match table.take("budget") {
        Some(item) => item.table(sink).map(|t| budget::read(t, sink)),
        None => Some(Budget::default()),
    };
    let schedule = match table.take("schedule") {
        Some(item) => item.table(sink).and_then(|t| schedule::read(t, sink)),
        None => Some(Schedule::default()),
    };
    let slo_at = table.take("slo");
    let slo = slo_at
        .as_ref()
        .map(|item| item.table(sink).and_then(|t| slo::read(t, sink)));
    // Whether there is one; nothing is said about what could not be read.
    let has_slo = match &slo {
        None => Some(false),
        Some(read) => read.map(|_| true),
    };
    let gate = match table.take("gate") {
        Some(item) => item.table(sink).map(|t| gate::read(t, has_slo, sink)),
        None => Some(Vec::new()),
    };
    let baseline_at = table.take("baseline");
    let baseline = match baseline_at.as_ref().and_then(|i| i.table(sink)) {
        Some(mut table) => {
            let found = options::settings(&mut table, sink);
            table.finish(sink);
            found
        }
        None => Vec::new(),
    };
    let instances = backend.as_ref().map(|b| &b.instances);
    let context = phase::Context {
        instances,
        instances_at,
        baseline: &baseline,
        solo: solo.map(Solo::enabled),
        slo: has_slo,
        number: 1,
        earlier: Vec::new(),
    };
    let phases = phases(&mut table, context, sink);
    table.finish(sink);

    let phases = phases?;
    if let Some(item) = baseline_at
        && !phases
            .iter()
            .any(|p| p.scenarios.contains(&Scenario::BaselineVsChimera))
    {
        item.fault("no phase reads this table", SCENARIO_USES_BASELINE, sink);
    }
    let solo = solo?;
    total(&phases, solo, sink);
    let backend = backend?;
    Some(ValidSpec {
        name: name?,
        seed: u64::from(seed),
        model: model?,
        backend,
        workload: workload?,
        solo,
        baseline,
        limits: limits?,
        budget: budget?,
        schedule: schedule?,
        slo: slo.flatten(),
        gate: gate?,
        phases,
    })
}

fn phases(
    table: &mut Table<'_>,
    mut context: phase::Context<'_>,
    sink: &mut Sink,
) -> Option<Vec<Phase>> {
    let example = "[{ scenario = \"chimera_homo\" }]";
    let items = table
        .need("phase", example, sink)?
        .list_or_one(MAX_PHASES, sink)?;
    let mut used = phase::UsedIds::default();
    for item in items {
        let read = item
            .table(sink)
            .and_then(|t| phase::read(t, &context, sink));
        let phase = read.map(|(mut phase, first)| {
            phase.first_test_id = used.claim(&item, first, phase.test_count(), sink);
            phase
        });
        context.earlier.push(phase);
        context.number += 1;
    }
    // With a phase missing, sums over the phases would mislead.
    context.earlier.into_iter().collect()
}

fn total(phases: &[Phase], solo: Solo, sink: &mut Sink) {
    let mut tests = 0_u64;
    let mut legs = 0_u64;
    let mut agents = 0_u64;
    for phase in phases {
        let most_runs = phase.until.map_or(phase.runs, |goal| goal.max_runs);
        for each in phase.agent_counts() {
            let each = u64::from(each);
            let in_phase = phase.tests_of_a_size();
            let legs_each = if solo.enabled { each + 1 } else { 1 };
            tests = tests.saturating_add(in_phase);
            agents = agents.saturating_add(in_phase.saturating_mul(each));
            let runs = in_phase.saturating_mul(u64::from(most_runs));
            legs = legs.saturating_add(runs.saturating_mul(legs_each));
        }
    }
    let mut refuse = |what: &str, found: u64, most: u64, remedy: &str| {
        if found > most {
            let hint = format!("allowed: at most {most}; {remedy}");
            sink.push(
                At::Nowhere,
                "phase",
                format!("the phases unfold to {found} {what}"),
                &hint,
            );
        }
    };
    refuse("tests", tests, MAX_TESTS, "shorten the lists");
    refuse("legs", legs, MAX_LEGS, "shorten the lists or lower runs");
    refuse(
        "agents over all tests",
        agents,
        MAX_LEGS,
        "shorten the lists or lower agents",
    );
}

fn model(mut table: Table<'_>, sink: &mut Sink) -> Option<Model> {
    let name = table.need("name", "\"gemma3:270m\"", sink);
    let name = name.and_then(|i| i.line(MAX_MODEL, sink));
    let digest = table.take("digest").map(|i| digest(&i, sink));
    table.finish(sink);
    Some(Model {
        name: name?,
        digest: match digest {
            Some(read) => Some(read?),
            None => None,
        },
    })
}

fn digest(item: &Item<'_>, sink: &mut Sink) -> Option<String> {
    let given = item.text(sink)?;
    let digits = given.strip_prefix("sha256:").unwrap_or(given);
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(digits.to_ascii_lowercase());
    }
    item.fault(
        "is not a SHA-256",
        "64 hexadecimal digits, as the engine shows them",
        sink,
    );
    None
}

/// The backend, and the place of its list of instances.
fn backend<'n>(mut table: Table<'n>, sink: &mut Sink) -> (Option<Backend>, Option<Item<'n>>) {
    let kinds = [
        ("auto", None),
        ("ollama", Some(EngineKind::Ollama)),
        ("openai", Some(EngineKind::Openai)),
    ];
    let kind = match table.take("kind") {
        Some(item) => item.one_of(&kinds, sink),
        None => Some(None),
    };
    let listed = table.take("instances");
    let spawn = table.take("spawn");
    let instances = match (&listed, &spawn) {
        (Some(_), Some(item)) => {
            item.fault(
                "spawn and instances exclude each other",
                "keep one of the two",
                sink,
            );
            None
        }
        (Some(item), None) => instances(item, sink).map(Instances::Attach),
        (None, Some(item)) => match item.flag(sink) {
            Some(true) => Some(Instances::Spawn),
            Some(false) => {
                item.fault(
                    "spawn = false leaves no engine",
                    "list the instances instead",
                    sink,
                );
                None
            }
            None => None,
        },
        (None, None) => Some(Instances::Spawn),
    };
    table.finish(sink);
    let both = kind.zip(instances);
    (
        both.map(|(kind, instances)| Backend { kind, instances }),
        listed,
    )
}

fn instances(item: &Item<'_>, sink: &mut Sink) -> Option<Vec<String>> {
    let items = item.list(MAX_AGENTS as usize, sink)?;
    let mut found: Vec<String> = Vec::with_capacity(items.len());
    for item in &items {
        match instance_url(item, sink) {
            Some(url) if found.contains(&url) => {
                let hint = "one agent owns an instance: each must be another one";
                item.fault(format!("{url} is listed twice"), hint, sink);
            }
            Some(url) => found.push(url),
            None => {}
        }
    }
    (found.len() == items.len()).then_some(found)
}

/// The origin of an engine instance, in its canonical form.
fn instance_url(item: &Item<'_>, sink: &mut Sink) -> Option<String> {
    const LONGEST: usize = 256;
    let given = item.text(sink)?;
    let problem = match url::Url::parse(given) {
        _ if given.len() > LONGEST => "is too long".to_owned(),
        // The parser forgives these; what is sent must be what was written.
        _ if given.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') => {
            "holds white space, control characters or '\\'".to_owned()
        }
        _ if !given.starts_with("http://") && !given.starts_with("https://") => {
            "does not start with http:// or https://".to_owned()
        }
        Err(error) => format!("is not a URL: {error}"),
        Ok(_) if given.contains('@') => "holds user information".to_owned(),
        Ok(_) if given.contains(['?', '#']) => "holds a query or a fragment".to_owned(),
        // Not the parsed path: the parser resolves `/..` to `/`.
        Ok(_) if given.trim_end_matches('/').matches('/').count() > 2 || given.ends_with("//") => {
            "holds a path".to_owned()
        }
        Ok(url) if url.port() == Some(0) => "has port 0".to_owned(),
        Ok(url) => match url.host_str() {
            Some(host) if !host.is_empty() => return Some(url.origin().ascii_serialization()),
            _ => "has no host".to_owned(),
        },
    };
    let hint = "scheme, host and port only, as in http://127.0.0.1:11434";
    item.fault(
        format!("{} {problem}", super::node::quote(given)),
        hint,
        sink,
    );
    None
}

fn workload(mut table: Table<'_>, sink: &mut Sink) -> Option<Workload> {
    let template = match table.take("template") {
        Some(item) => item.one_of(&TEMPLATES, sink),
        None => Some("tr110-report"),
    };
    let data = table.take("data").map(|i| data_folder(&i, sink));
    table.finish(sink);
    Some(Workload {
        template: template?.to_owned(),
        data: match data {
            Some(read) => Some(read?),
            None => None,
        },
    })
}

/// A folder below the worker's data root, and nowhere else.
fn data_folder(item: &Item<'_>, sink: &mut Sink) -> Option<String> {
    const LONGEST: usize = 255;
    let given = item.text(sink)?;
    let escapes = |part: &str| part.is_empty() || part == "." || part == "..";
    let problem = if given.is_empty() || given.len() > LONGEST {
        "is empty or too long"
    } else if given.contains(|c: char| c.is_control() || c == '\\' || c == ':') {
        "holds control characters, '\\' or ':'"
    } else if given.starts_with('/') {
        "is absolute"
    } else if given != "." && given.trim_end_matches('/').split('/').any(escapes) {
        "holds empty parts, '.' or '..'"
    } else {
        return Some(given.trim_end_matches('/').to_owned());
    };
    let hint = "a folder relative to the worker's data root, as in \"sales/2026\"";
    item.fault(
        format!("{} {problem}", super::node::quote(given)),
        hint,
        sink,
    );
    None
}

fn solo(mut table: Table<'_>, sink: &mut Sink) -> Option<Solo> {
    let enabled = match table.take("enabled") {
        Some(item) => item.flag(sink),
        None => Some(true),
    };
    let shared_at = table.take("share_identical");
    let share_identical = match &shared_at {
        Some(item) => item.flag(sink),
        None => Some(false),
    };
    table.finish(sink);
    if let (Some(item), Some(false), Some(true)) = (&shared_at, enabled, share_identical) {
        item.fault(
            "there are no solo legs to share",
            "set enabled = true or drop it",
            sink,
        );
    }
    Some(Solo {
        enabled: enabled?,
        share_identical: share_identical?,
    })
}

fn limits(mut table: Table<'_>, sink: &mut Sink) -> Limits {
    let default = Limits::default();
    let mut read = |key: &'static str, most: u32, default: u32| {
        table
            .take(key)
            .and_then(|i| i.whole(1..=most, sink))
            .unwrap_or(default)
    };
    let limits = Limits {
        gang_wait_s: read("gang_wait_s", MAX_LIMIT_S, default.gang_wait_s),
        warm_s: read("warm_s", MAX_LIMIT_S, default.warm_s),
        run_s: read("run_s", MAX_LIMIT_S, default.run_s),
        drain_s: read("drain_s", MAX_LIMIT_S, default.drain_s),
        start_skew_ms: read("start_skew_ms", 10_000, default.start_skew_ms),
    };
    table.finish(sink);
    limits
}
