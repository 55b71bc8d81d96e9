//! Specs made of command-line flags. They take the same way as a file's text, so that a flag and
//! a key can never mean two things; faults name the flag.

use super::check;
use super::error::{At, Sink, SpecErrors};
use super::node::{Entry, Kind, Node};
use super::options::MAX_THREADS;
use super::valid::ValidSpec;
use crate::options::EngineKind;

/// What may be said without a spec file. `None`: not said.
///
/// Numbers are as wide as a person can type them: bounds are checked here, not by the parser of
/// the flags, so that all faults come at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlagSpec {
    /// `--engine`; `None`: found out by whoever starts the workers.
    pub engine: Option<EngineKind>,
    /// `--instance`, repeated. Empty: engines are spawned.
    pub instances: Vec<String>,
    /// `--model`.
    pub model: Option<String>,
    /// `--agents`.
    pub agents: Option<u64>,
    /// `--runs`.
    pub runs: Option<u64>,
    /// `--num-ctx`.
    pub num_ctx: Option<u64>,
    /// `--num-gpu`.
    pub num_gpu: Option<u64>,
    /// `--num-thread`.
    pub num_thread: Option<u64>,
    /// `--num-predict`.
    pub num_predict: Option<u64>,
    /// `--temperature`.
    pub temperature: Option<f64>,
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--data`: a folder relative to the worker's data root.
    pub data: Option<String>,
    /// `--name`; `None`: `bench`.
    pub name: Option<String>,
}

impl FlagSpec {
    /// One test of agents that are all alike, under the checks of [`super::parse`].
    ///
    /// # Errors
    /// Everything that is wrong with the flags; each fault names its flag.
    pub fn to_valid(&self) -> Result<ValidSpec, SpecErrors> {
        let mut sink = Sink::new("");
        let spec = check::spec(&self.root(None), &mut sink);
        sink.into_result(spec)
    }

    /// The flags as the tree that a spec file would have given.
    fn root(&self, contrast: Option<&Contrast>) -> Node {
        let mut phase = Fields::default();
        phase.put(
            "scenario",
            At::Nowhere,
            Kind::Text("chimera_homo".to_owned()),
        );
        phase.number("agents", "--agents", self.agents);
        phase.number("runs", "--runs", self.runs);
        phase.number("num_ctx", "--num-ctx", self.num_ctx);
        phase.number("num_gpu", "--num-gpu", self.num_gpu);
        phase.number("num_predict", "--num-predict", self.num_predict);
        match contrast {
            Some(contrast) => contrast.put_into(&mut phase),
            None => phase.number("num_thread", "--num-thread", self.num_thread),
        }
        if let Some(temperature) = self.temperature {
            phase.put(
                "temperature",
                At::Flag("--temperature"),
                Kind::Real(temperature),
            );
        }

        let mut model = Fields::default();
        if let Some(name) = &self.model {
            model.put("name", At::Flag("--model"), Kind::Text(name.clone()));
        }
        let mut backend = Fields::default();
        if let Some(engine) = self.engine {
            backend.put(
                "kind",
                At::Flag("--engine"),
                Kind::Text(engine.as_str().to_owned()),
            );
        }
        if !self.instances.is_empty() {
            let at = At::Flag("--instance");
            let urls = self.instances.iter().map(|u| Node {
                at,
                kind: Kind::Text(u.clone()),
            });
            backend.put("instances", at, Kind::List(urls.collect()));
        }
        let mut workload = Fields::default();
        if let Some(data) = &self.data {
            workload.put("data", At::Flag("--data"), Kind::Text(data.clone()));
        }

        let mut root = Fields::default();
        let name = self.name.clone().unwrap_or_else(|| "bench".to_owned());
        root.put("name", At::Flag("--name"), Kind::Text(name));
        root.number("seed", "--seed", self.seed);
        root.put("model", At::Flag("--model"), Kind::Table(model.0));
        root.put("backend", At::Nowhere, Kind::Table(backend.0));
        root.put("workload", At::Nowhere, Kind::Table(workload.0));
        root.put("phase", At::Nowhere, Kind::Table(phase.0));
        Node {
            at: At::Nowhere,
            kind: Kind::Table(root.0),
        }
    }
}

/// Two thread counts side by side: one that the cores can serve and one that they cannot.
struct Contrast {
    threads: [u32; 2],
    labels: [String; 2],
}

impl Contrast {
    fn new(cores: u32, agents: u64) -> Self {
        let cores = cores.clamp(1, MAX_THREADS);
        let share = u64::from(cores) / agents.max(1);
        let few = u32::try_from(share)
            .unwrap_or(cores)
            .clamp(1, MAX_THREADS / 2);
        // With one agent, or one core, the machine's cores are no contrast: ask for twice the few.
        let many = if cores > few { cores } else { few * 2 };
        let label = |threads: u32| {
            let asked = u64::from(threads).saturating_mul(agents);
            let verdict = if asked <= u64::from(cores) {
                "fit"
            } else {
                "oversubscribed"
            };
            let each = if threads == 1 {
                "1 thread"
            } else {
                &format!("{threads} threads")
            };
            let on = if cores == 1 {
                "1 core"
            } else {
                &format!("{cores} cores")
            };
            format!("threads {verdict}: {each} each on {on}")
        };
        Self {
            threads: [few, many],
            labels: [label(few), label(many)],
        }
    }

    fn put_into(&self, phase: &mut Fields) {
        let at = At::Nowhere;
        let node = |kind| Node { at, kind };
        let threads = self.threads.iter().map(|t| node(Kind::Int(i128::from(*t))));
        let labels = self.labels.iter().map(|l| node(Kind::Text(l.clone())));
        phase.put("num_thread", at, Kind::List(threads.collect()));
        phase.put("label", at, Kind::List(labels.collect()));
    }
}

/// The product's first picture, for a machine with this many cores: two tests side by side, whose
/// engines ask together for no more threads than there are cores, and for all cores each.
///
/// Everything that `base` says holds, save its engine and model; what it leaves open is sized for
/// three minutes on two cores with a model of 270M parameters (about 48 tokens/s per core).
///
/// # Errors
/// Everything that is wrong with the flags of `base`, and `--num-thread`, which is what is varied.
pub fn quick(
    cores: u32,
    engine: EngineKind,
    model: &str,
    base: &FlagSpec,
) -> Result<ValidSpec, SpecErrors> {
    let mut sink = Sink::new("");
    if base.num_thread.is_some() {
        let hint = "drop --num-thread or --quick";
        sink.push(
            At::Flag("--num-thread"),
            "",
            "--quick compares two thread counts itself",
            hint,
        );
    }
    let flags = FlagSpec {
        engine: Some(engine),
        model: Some(model.to_owned()),
        runs: base.runs.or(Some(3)),
        agents: base.agents.or(Some(2)),
        num_ctx: base.num_ctx.or(Some(1_024)),
        num_predict: base.num_predict.or(Some(32)),
        name: base.name.clone().or_else(|| Some("quick".to_owned())),
        ..base.clone()
    };
    let contrast = Contrast::new(cores, flags.agents.unwrap_or(2));
    let spec = check::spec(&flags.root(Some(&contrast)), &mut sink);
    sink.into_result(spec)
}

#[derive(Default)]
struct Fields(Vec<Entry>);

impl Fields {
    fn put(&mut self, key: &str, at: At, kind: Kind) {
        self.0.push(Entry {
            key: key.to_owned(),
            at,
            node: Node { at, kind },
        });
    }

    fn number(&mut self, key: &str, flag: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.put(key, At::Flag(flag), Kind::Int(i128::from(value)));
        }
    }
}
