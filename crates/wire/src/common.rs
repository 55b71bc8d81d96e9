//! Parts shared by several messages, and the checks that every conversion uses.

use chimera_domain::event::{AgentFailure, PinFacts};
use chimera_domain::ids::IdError;
use chimera_domain::options::{EngineKind, EngineOptions};
use chimera_domain::units::{BootId, ClockReading, MonoNs};

use crate::error::WireError;
use crate::pb;

/// Takes a required message field.
pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::MissingField { field })
}

/// Takes a required message field and converts it.
pub(crate) fn convert<P, D>(value: Option<P>, field: &'static str) -> Result<D, WireError>
where
    D: TryFrom<P, Error = WireError>,
{
    D::try_from(required(value, field)?)
}

/// Checks an id.
pub(crate) fn id<T>(text: String, field: &'static str) -> Result<T, WireError>
where
    T: TryFrom<String, Error = IdError>,
{
    T::try_from(text).map_err(|source| WireError::BadId { field, source })
}

/// Reads an enumeration: a number that is unknown, or stands for "unspecified", is refused.
pub(crate) fn enumeration<P, D>(value: i32, field: &'static str) -> Result<D, WireError>
where
    P: TryFrom<i32> + Named<D>,
{
    P::try_from(value)
        .ok()
        .and_then(Named::named)
        .ok_or(WireError::UnknownEnum { field, value })
}

/// Reads an optional enumeration.
pub(crate) fn opt_enumeration<P, D>(
    value: Option<i32>,
    field: &'static str,
) -> Result<Option<D>, WireError>
where
    P: TryFrom<i32> + Named<D>,
{
    value.map(|v| enumeration::<P, D>(v, field)).transpose()
}

/// A generated enumeration and what its values mean; `None` for "unspecified".
pub(crate) trait Named<D> {
    fn named(self) -> Option<D>;
}

/// Ties a domain enumeration to its generated twin, value by value; a value added on either side
/// alone does not compile.
macro_rules! enum_twins {
    ($domain:ident :: $name:ident { $($value:ident),+ $(,)? }) => {
        impl From<$domain::$name> for $crate::pb::$name {
            fn from(value: $domain::$name) -> Self {
                match value { $($domain::$name::$value => Self::$value,)+ }
            }
        }

        impl $crate::common::Named<$domain::$name> for $crate::pb::$name {
            fn named(self) -> Option<$domain::$name> {
                match self {
                    Self::Unspecified => None,
                    $(Self::$value => Some($domain::$name::$value),)+
                }
            }
        }
    };
}
pub(crate) use enum_twins;

mod engine {
    use chimera_domain::options;
    enum_twins!(options::EngineKind { Ollama, Openai });
}

/// A domain enumeration as the number that protobuf carries.
pub(crate) fn number<P: From<D> + Into<i32>, D>(value: D) -> i32 {
    P::from(value).into()
}

pub(crate) fn engine_number(kind: EngineKind) -> i32 {
    number::<pb::EngineKind, _>(kind)
}

pub(crate) fn engine_kind(value: i32, field: &'static str) -> Result<EngineKind, WireError> {
    enumeration::<pb::EngineKind, _>(value, field)
}

/// NaN and infinities cannot be asked of an engine.
pub(crate) fn finite(value: f64, field: &'static str) -> Result<f64, WireError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(WireError::OutOfRange {
            field,
            why: "must be a finite number",
        })
    }
}

/// A try at a leg counts from 1.
pub(crate) fn attempt(value: u32, field: &'static str) -> Result<u32, WireError> {
    if value == 0 {
        return Err(WireError::OutOfRange {
            field,
            why: "attempts count from 1",
        });
    }
    Ok(value)
}

impl From<&ClockReading> for pb::ClockReading {
    fn from(v: &ClockReading) -> Self {
        Self {
            boot_id: v.boot_id.0.clone(),
            mono_ns: v.mono_ns.0,
            wall_unix_ns: v.wall_unix_ns,
        }
    }
}

impl TryFrom<pb::ClockReading> for ClockReading {
    type Error = WireError;
    fn try_from(v: pb::ClockReading) -> Result<Self, WireError> {
        Ok(Self {
            boot_id: BootId(v.boot_id),
            mono_ns: MonoNs(v.mono_ns),
            wall_unix_ns: v.wall_unix_ns,
        })
    }
}

impl From<&EngineOptions> for pb::EngineOptions {
    fn from(v: &EngineOptions) -> Self {
        Self {
            num_gpu: v.num_gpu,
            num_ctx: v.num_ctx,
            num_batch: v.num_batch,
            num_predict: v.num_predict,
            num_thread: v.num_thread,
            temperature: v.temperature,
            top_p: v.top_p,
            top_k: v.top_k,
            repeat_penalty: v.repeat_penalty,
            seed: v.seed,
            keep_alive: v.keep_alive.clone(),
        }
    }
}

impl TryFrom<pb::EngineOptions> for EngineOptions {
    type Error = WireError;
    fn try_from(v: pb::EngineOptions) -> Result<Self, WireError> {
        Ok(Self {
            num_gpu: v.num_gpu,
            num_ctx: v.num_ctx,
            num_batch: v.num_batch,
            num_predict: v.num_predict,
            num_thread: v.num_thread,
            temperature: finite(v.temperature, "EngineOptions.temperature")?,
            top_p: v
                .top_p
                .map(|x| finite(x, "EngineOptions.top_p"))
                .transpose()?,
            top_k: v.top_k,
            repeat_penalty: v
                .repeat_penalty
                .map(|x| finite(x, "EngineOptions.repeat_penalty"))
                .transpose()?,
            seed: v.seed,
            keep_alive: v.keep_alive,
        })
    }
}

impl From<&PinFacts> for pb::PinFacts {
    fn from(v: &PinFacts) -> Self {
        Self {
            url: v.url.clone(),
            engine: v.engine.map(engine_number),
            product: v.product.clone(),
            version: v.version.clone(),
            model: v.model.clone(),
            model_digest: v.model_digest.clone(),
            context_length: v.context_length,
            parallel_slots: v.parallel_slots,
            model_layers: v.model_layers,
            size_bytes: v.size_bytes,
            size_vram_bytes: v.size_vram_bytes,
            pid: v.pid,
            instance_epoch: v.instance_epoch.clone(),
            warm_load_ns: v.warm_load_ns,
            train_context: v.train_context,
        }
    }
}

impl TryFrom<pb::PinFacts> for PinFacts {
    type Error = WireError;
    fn try_from(v: pb::PinFacts) -> Result<Self, WireError> {
        Ok(Self {
            url: v.url,
            engine: opt_enumeration::<pb::EngineKind, _>(v.engine, "PinFacts.engine")?,
            product: v.product,
            version: v.version,
            model: v.model,
            model_digest: v.model_digest,
            context_length: v.context_length,
            parallel_slots: v.parallel_slots,
            model_layers: v.model_layers,
            size_bytes: v.size_bytes,
            size_vram_bytes: v.size_vram_bytes,
            pid: v.pid,
            instance_epoch: v.instance_epoch,
            warm_load_ns: v.warm_load_ns,
            train_context: v.train_context,
        })
    }
}

impl From<&AgentFailure> for pb::AgentFailure {
    fn from(v: &AgentFailure) -> Self {
        Self {
            label: v.label.clone(),
            detail: v.detail.clone(),
        }
    }
}

impl TryFrom<pb::AgentFailure> for AgentFailure {
    type Error = WireError;
    fn try_from(v: pb::AgentFailure) -> Result<Self, WireError> {
        Ok(Self {
            label: v.label,
            detail: v.detail,
        })
    }
}
