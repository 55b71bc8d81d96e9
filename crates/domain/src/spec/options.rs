//! The engine options that a spec may set: one table of names and bounds for every place.

use std::ops::RangeInclusive;

use super::error::Sink;
use super::node::Kind;
use super::reader::{Item, Table};
use crate::options::EngineOptions;

/// Most values of one axis of a grid.
pub(super) const MAX_AXIS: usize = 64;

/// Most threads of one engine.
pub(super) const MAX_THREADS: u32 = 1_024;

/// An engine option that a spec may set and vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OptionKey {
    /// [`EngineOptions::num_gpu`].
    NumGpu,
    /// [`EngineOptions::num_ctx`].
    NumCtx,
    /// [`EngineOptions::num_batch`].
    NumBatch,
    /// [`EngineOptions::num_predict`].
    NumPredict,
    /// [`EngineOptions::num_thread`].
    NumThread,
    /// [`EngineOptions::temperature`].
    Temperature,
    /// [`EngineOptions::top_p`].
    TopP,
    /// [`EngineOptions::top_k`].
    TopK,
    /// [`EngineOptions::repeat_penalty`].
    RepeatPenalty,
}

impl OptionKey {
    /// Every option, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::NumGpu,
        Self::NumCtx,
        Self::NumBatch,
        Self::NumPredict,
        Self::NumThread,
        Self::Temperature,
        Self::TopP,
        Self::TopK,
        Self::RepeatPenalty,
    ];

    /// The key in a spec; the same as Ollama's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NumGpu => "num_gpu",
            Self::NumCtx => "num_ctx",
            Self::NumBatch => "num_batch",
            Self::NumPredict => "num_predict",
            Self::NumThread => "num_thread",
            Self::Temperature => "temperature",
            Self::TopP => "top_p",
            Self::TopK => "top_k",
            Self::RepeatPenalty => "repeat_penalty",
        }
    }

    /// Its smallest and largest value, and how a value becomes a setting.
    fn bounds(self) -> Bounds {
        match self {
            Self::NumGpu => Bounds::Whole(0..=1_000, Setting::NumGpu),
            Self::NumCtx => Bounds::Whole(1..=1_048_576, Setting::NumCtx),
            Self::NumBatch => Bounds::Whole(1..=65_536, Setting::NumBatch),
            Self::NumPredict => Bounds::Whole(1..=65_536, Setting::NumPredict),
            Self::NumThread => Bounds::Whole(1..=MAX_THREADS, Setting::NumThread),
            Self::Temperature => Bounds::Real(0.0..=10.0, Setting::Temperature),
            Self::TopP => Bounds::Real(0.0..=1.0, Setting::TopP),
            Self::TopK => Bounds::Whole(0..=100_000, Setting::TopK),
            // 0 would divide by zero in the sampler.
            Self::RepeatPenalty => Bounds::Real(0.01..=10.0, Setting::RepeatPenalty),
        }
    }

    pub(super) fn read(self, item: &Item<'_>, sink: &mut Sink) -> Option<Setting> {
        match self.bounds() {
            Bounds::Whole(allowed, make) => item.whole(allowed, sink).map(make),
            Bounds::Real(allowed, make) => item.real(allowed, sink).map(make),
        }
    }

    /// The option of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// The option at this number. *Undefined when* that is out of bounds, or has a fraction where
    /// the option has none.
    #[must_use]
    pub fn at(self, number: f64) -> Option<Setting> {
        /// A product of decimals misses a whole number by less.
        const ROUNDING: f64 = 1e-6;
        match self.bounds() {
            Bounds::Whole(allowed, make) => {
                let whole = number.round();
                let fits = (number - whole).abs() < ROUNDING
                    && (f64::from(*allowed.start())..=f64::from(*allowed.end())).contains(&whole);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "lies between two numbers of the type"
                )]
                fits.then(|| make(whole as u32))
            }
            Bounds::Real(allowed, make) => allowed.contains(&number).then(|| make(number + 0.0)),
        }
    }

    /// Reads a value as [`Setting::value_text`] writes it. *Undefined when* it is no number, or not
    /// one that the option may have.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<Setting> {
        self.at(text.parse().ok()?)
    }

    /// What the option is set to. *Undefined when* it is left to the engine.
    #[must_use]
    pub fn of(self, options: &EngineOptions) -> Option<Setting> {
        Some(match self {
            Self::NumGpu => Setting::NumGpu(options.num_gpu?),
            Self::NumCtx => Setting::NumCtx(options.num_ctx),
            Self::NumBatch => Setting::NumBatch(options.num_batch),
            Self::NumPredict => Setting::NumPredict(options.num_predict),
            Self::NumThread => Setting::NumThread(options.num_thread?),
            Self::Temperature => Setting::Temperature(options.temperature),
            Self::TopP => Setting::TopP(options.top_p?),
            Self::TopK => Setting::TopK(options.top_k?),
            Self::RepeatPenalty => Setting::RepeatPenalty(options.repeat_penalty?),
        })
    }

    /// Whether engines fix it when they load a model, so that agents of one instance share it.
    #[must_use]
    pub fn is_of_the_instance(self) -> bool {
        match self {
            Self::NumGpu | Self::NumCtx | Self::NumBatch | Self::NumThread => true,
            Self::NumPredict
            | Self::Temperature
            | Self::TopP
            | Self::TopK
            | Self::RepeatPenalty => false,
        }
    }
}

enum Bounds {
    Whole(RangeInclusive<u32>, fn(u32) -> Setting),
    Real(RangeInclusive<f64>, fn(f64) -> Setting),
}

/// One option set to one value within its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    /// [`EngineOptions::num_gpu`].
    NumGpu(u32),
    /// [`EngineOptions::num_ctx`].
    NumCtx(u32),
    /// [`EngineOptions::num_batch`].
    NumBatch(u32),
    /// [`EngineOptions::num_predict`].
    NumPredict(u32),
    /// [`EngineOptions::num_thread`].
    NumThread(u32),
    /// [`EngineOptions::temperature`].
    Temperature(f64),
    /// [`EngineOptions::top_p`].
    TopP(f64),
    /// [`EngineOptions::top_k`].
    TopK(u32),
    /// [`EngineOptions::repeat_penalty`].
    RepeatPenalty(f64),
}

impl Setting {
    /// Which option it sets.
    #[must_use]
    pub fn key(self) -> OptionKey {
        match self {
            Self::NumGpu(_) => OptionKey::NumGpu,
            Self::NumCtx(_) => OptionKey::NumCtx,
            Self::NumBatch(_) => OptionKey::NumBatch,
            Self::NumPredict(_) => OptionKey::NumPredict,
            Self::NumThread(_) => OptionKey::NumThread,
            Self::Temperature(_) => OptionKey::Temperature,
            Self::TopP(_) => OptionKey::TopP,
            Self::TopK(_) => OptionKey::TopK,
            Self::RepeatPenalty(_) => OptionKey::RepeatPenalty,
        }
    }

    /// The value as a number.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::NumGpu(value)
            | Self::NumCtx(value)
            | Self::NumBatch(value)
            | Self::NumPredict(value)
            | Self::NumThread(value)
            | Self::TopK(value) => f64::from(value),
            Self::Temperature(value) | Self::TopP(value) | Self::RepeatPenalty(value) => value,
        }
    }

    /// Puts the value into `options`.
    pub fn apply(self, options: &mut EngineOptions) {
        match self {
            Self::NumGpu(value) => options.num_gpu = Some(value),
            Self::NumCtx(value) => options.num_ctx = value,
            Self::NumBatch(value) => options.num_batch = value,
            Self::NumPredict(value) => options.num_predict = value,
            Self::NumThread(value) => options.num_thread = Some(value),
            Self::Temperature(value) => options.temperature = value,
            Self::TopP(value) => options.top_p = Some(value),
            Self::TopK(value) => options.top_k = Some(value),
            Self::RepeatPenalty(value) => options.repeat_penalty = Some(value),
        }
    }

    /// The value, as TOML writes it.
    #[must_use]
    pub fn value_text(self) -> String {
        match self {
            Self::NumGpu(value)
            | Self::NumCtx(value)
            | Self::NumBatch(value)
            | Self::NumPredict(value)
            | Self::NumThread(value)
            | Self::TopK(value) => value.to_string(),
            Self::Temperature(value) | Self::TopP(value) | Self::RepeatPenalty(value) => {
                toml::Value::Float(value).to_string()
            }
        }
    }
}

/// An option and the values it takes in turn, or `best`: the value that an earlier phase shows to
/// be best. *Shape*: one value or more, no two alike; none for `best`.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub(super) key: OptionKey,
    pub(super) values: Vec<Setting>,
}

impl Axis {
    /// Which option.
    #[must_use]
    pub fn key(&self) -> OptionKey {
        self.key
    }

    /// Its values, in the order written; none if it is `best`.
    #[must_use]
    pub fn values(&self) -> &[Setting] {
        &self.values
    }

    /// Whether its value is taken over from an earlier phase.
    #[must_use]
    pub fn is_best(&self) -> bool {
        self.values.is_empty()
    }
}

/// Stands for the value that an earlier phase shows to be best.
pub(super) const BEST: &str = "best";

/// Whether the value is `best`.
pub(super) fn is_best(item: &Item<'_>) -> bool {
    matches!(&item.node.kind, Kind::Text(text) if text == BEST)
}

const BEST_STANDS: &str = "it is an option of [[phase]] itself, beside [phase.select]";

/// Reads the options set in a table, each to one value, in the order written.
pub(super) fn settings(table: &mut Table<'_>, sink: &mut Sink) -> Vec<Setting> {
    each(table, sink, OptionKey::read)
}

/// Reads the options set in a table as `read` does it, in the order written. None may be `best`.
pub(super) fn each<T>(
    table: &mut Table<'_>,
    sink: &mut Sink,
    read: impl Fn(OptionKey, &Item<'_>, &mut Sink) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for key in in_order(table) {
        let Some(item) = table.take(key.as_str()) else {
            continue;
        };
        if is_best(&item) {
            item.fault("best cannot stand here", BEST_STANDS, sink);
        } else {
            found.extend(read(key, &item, sink));
        }
    }
    found
}

/// Reads the options varied in a table, in the order written.
pub(super) fn grid(table: &mut Table<'_>, sink: &mut Sink) -> Vec<Axis> {
    let mut axes = Vec::new();
    for key in in_order(table) {
        let Some(item) = table.take(key.as_str()) else {
            continue;
        };
        if is_best(&item) {
            axes.push(Axis {
                key,
                values: Vec::new(),
            });
            continue;
        }
        let Some(items) = item.list_or_one(MAX_AXIS, sink) else {
            continue;
        };
        let mut values: Vec<Setting> = Vec::with_capacity(items.len());
        for item in &items {
            if is_best(item) {
                let hint = "best is one value: write it alone, without a list";
                item.fault("best stands in a list", hint, sink);
                continue;
            }
            let Some(value) = key.read(item, sink) else {
                continue;
            };
            if values.contains(&value) {
                let problem = format!("{} is listed twice", value.value_text());
                item.fault(problem, "to repeat a test, raise runs", sink);
            } else {
                values.push(value);
            }
        }
        if !values.is_empty() {
            axes.push(Axis { key, values });
        }
    }
    axes
}

/// All options: those given first and in the order written, then the others, so that each is
/// asked for and thereby known.
pub(super) fn in_order(table: &Table<'_>) -> Vec<OptionKey> {
    let given = table.keys().filter_map(OptionKey::from_name);
    let mut order: Vec<OptionKey> = Vec::with_capacity(OptionKey::ALL.len());
    for key in given.chain(OptionKey::ALL) {
        if !order.contains(&key) {
            order.push(key);
        }
    }
    order
}
