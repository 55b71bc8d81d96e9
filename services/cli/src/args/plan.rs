//! The command line of `chimera plan`.

use std::path::PathBuf;
use std::str::FromStr;

use chimera_domain::memory::KvType;
use chimera_domain::options::EngineKind;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// More agents than any machine runs.
const MAX_AGENTS: u64 = 64;
/// More context than any model has.
const MAX_CONTEXT: u64 = 16 << 20;
/// Contexts that a plan may list.
const MAX_CONTEXTS: usize = 16;

/// `chimera plan`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera plan --model gemma3.gguf --gpu 12GiB --agents 1..4 --ctx 512..8192
  chimera plan --model gemma3:latest --ollama http://127.0.0.1:11434 --gpu 12GiB --agents 2
  chimera plan --gpu 24GB --ctx 4096,32768 --kv-type q8_0 --slots 2
  chimera plan --gpu 12GiB --json | jq '.cells[] | select(.fit.fits) | {agents, context}'
  chimera plan --model gemma3.gguf --gpu 12GiB --against results/quick

Each agent has an engine of its own; --slots gives every engine that many. `derived` is computed from the
model's file by the engine's own rule, `estimated` is a rule of thumb: docs/memory.md has both.")]
pub struct PlanArgs {
    /// A GGUF file, the name of a model of Ollama, or `auto`: what `bench` would take [default: auto]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Memory of the GPU, e.g. 12GiB or 24GB [default: the first GPU of this machine, as it is now]
    #[arg(long, value_name = "SIZE")]
    pub gpu: Option<Size>,
    /// How many agents at once: N, or FROM..TO, both included [default: 1..4]
    #[arg(long, value_name = "RANGE")]
    pub agents: Option<Counts>,
    /// Contexts: N, N,M,..., or FROM..TO, each the double of the one before [default: 512..8192]
    #[arg(long, value_name = "RANGE")]
    pub ctx: Option<Contexts>,
    /// How the KV cache stores values [default: f16]
    #[arg(long, value_name = "TYPE", value_parser = kv_type())]
    pub kv_type: Option<KvType>,
    /// Requests that each engine serves at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: Option<u32>,
    /// Tokens that an engine computes at once [default: 512]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Layers of each agent on the GPU, the output counted as one [default: all]
    #[arg(long, value_name = "LAYERS")]
    pub num_gpu: Option<u32>,
    /// Whose rules hold: how llama.cpp or how Ollama lays memory out [default: of where the model is]
    #[arg(long, value_name = "ENGINE", value_parser = super::engine())]
    pub engine: Option<EngineKind>,
    /// Ask this Ollama about the model
    #[arg(long, value_name = "URL")]
    pub ollama: Option<String>,
    /// Keep the whole context in layers with a window (llama.cpp's --swa-full)
    #[arg(long)]
    pub swa_full: bool,
    /// One KV cache for all slots (llama.cpp's --kv-unified)
    #[arg(long)]
    pub kv_unified: bool,
    /// Without flash attention
    #[arg(long)]
    pub no_flash_attention: bool,
    /// Memory to keep free beside what the driver reserves [default: 3 % of the GPU]
    #[arg(long, value_name = "SIZE")]
    pub keep_free: Option<Size>,
    /// Compare with what was measured: the folder of a bundle
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
}

fn kv_type() -> impl TypedValueParser<Value = KvType> {
    PossibleValuesParser::new(KvType::ALL.map(KvType::name)).try_map(|name| {
        let all = KvType::ALL.into_iter();
        all.clone()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("there is no type '{name}'"))
    })
}

/// A size in bytes, as a person writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no size: give a number and a unit, e.g. 12GiB or 24GB");
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kib" => 1024.0,
            "mib" => f64::from(1_u32 << 20),
            "gib" => f64::from(1_u32 << 30),
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            _ => return Err(wrong()),
        };
        let bytes = number * unit;
        if !(1.0..1e15).contains(&bytes) {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be from 1 to 1e15"
        )]
        Ok(Self(bytes.round() as u64))
    }
}

/// Numbers of agents, rising.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(pub Vec<u64>);

impl FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = range(text, MAX_AGENTS)?;
        Ok(Self((from..=to).collect()))
    }
}

/// Contexts, rising.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts(pub Vec<u64>);

impl FromStr for Contexts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for part in text.split(',') {
            let (from, to) = range(part, MAX_CONTEXT)?;
            let doubled = std::iter::successors(Some(from), |n| n.checked_mul(2));
            all.extend(doubled.take_while(|n| *n < to));
            all.push(to);
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > MAX_CONTEXTS {
            return Err(format!("these are more than {MAX_CONTEXTS} contexts"));
        }
        Ok(Self(all))
    }
}

/// `N` or `FROM..TO`.
fn range(text: &str, most: u64) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| {
        text.trim()
            .parse::<u64>()
            .ok()
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| {
                format!("'{text}' is no whole number from 1 to {most}; a range is FROM..TO")
            })
    };
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        return Err(format!("{from}..{to} runs backwards"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_families_of_units() {
        let size = |text: &str| text.parse::<Size>().map(|s| s.0);
        assert_eq!(size("12GiB"), Ok(12 << 30));
        assert_eq!(size("12gb"), Ok(12_000_000_000));
        assert_eq!(size("0.5 MiB"), Ok(512 << 10));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "GiB", "12 apples", "-1GiB", "0", "1e40GiB", "1.2.3GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_hold_both_ends() {
        assert_eq!("1..4".parse(), Ok(Counts(vec![1, 2, 3, 4])));
        assert_eq!("3".parse(), Ok(Counts(vec![3])));
        assert_eq!(
            "512..8192".parse(),
            Ok(Contexts(vec![512, 1024, 2048, 4096, 8192]))
        );
        assert_eq!(
            "600..2000,512".parse(),
            Ok(Contexts(vec![512, 600, 1200, 2000]))
        );
        for bad in ["", "0", "4..1", "1..", "1...4", "65", "a"] {
            assert!(bad.parse::<Counts>().is_err(), "{bad}");
        }
        assert!("1..16777216".parse::<Contexts>().is_err());
    }
}
