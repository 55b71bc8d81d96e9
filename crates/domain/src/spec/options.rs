//! The engine options that a spec may set: one table of names and bounds for every place.

use super::error::Sink;
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

    fn read(self, item: &Item<'_>, sink: &mut Sink) -> Option<Setting> {
        match self {
            Self::NumGpu => item.whole(0..=1_000, sink).map(Setting::NumGpu),
            Self::NumCtx => item.whole(1..=1_048_576, sink).map(Setting::NumCtx),
            Self::NumBatch => item.whole(1..=65_536, sink).map(Setting::NumBatch),
            Self::NumPredict => item.whole(1..=65_536, sink).map(Setting::NumPredict),
            Self::NumThread => item.whole(1..=MAX_THREADS, sink).map(Setting::NumThread),
            Self::Temperature => item.real(0.0..=10.0, sink).map(Setting::Temperature),
            Self::TopP => item.real(0.0..=1.0, sink).map(Setting::TopP),
            Self::TopK => item.whole(0..=100_000, sink).map(Setting::TopK),
            // 0 would divide by zero in the sampler.
            Self::RepeatPenalty => item.real(0.01..=10.0, sink).map(Setting::RepeatPenalty),
        }
    }
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

/// An option and the values it takes in turn. *Shape*: one value or more, no two alike.
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

    /// Its values, in the order written.
    #[must_use]
    pub fn values(&self) -> &[Setting] {
        &self.values
    }
}

/// Reads the options set in a table, each to one value, in the order written.
pub(super) fn settings(table: &mut Table<'_>, sink: &mut Sink) -> Vec<Setting> {
    let mut found = Vec::new();
    for key in in_order(table) {
        if let Some(item) = table.take(key.as_str())
            && let Some(setting) = key.read(&item, sink)
        {
            found.push(setting);
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
        let Some(items) = item.list_or_one(MAX_AXIS, sink) else {
            continue;
        };
        let mut values: Vec<Setting> = Vec::with_capacity(items.len());
        for item in &items {
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
fn in_order(table: &Table<'_>) -> Vec<OptionKey> {
    let given = table
        .keys()
        .filter_map(|k| OptionKey::ALL.into_iter().find(|o| o.as_str() == k));
    let mut order: Vec<OptionKey> = Vec::with_capacity(OptionKey::ALL.len());
    for key in given.chain(OptionKey::ALL) {
        if !order.contains(&key) {
            order.push(key);
        }
    }
    order
}
