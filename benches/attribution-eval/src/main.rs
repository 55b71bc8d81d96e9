//! Measures attribution on simulated experiments of which it is known what was wrong.
//!
//! Each case is simulated (`chimera_testkit::simulated`), its records go through the same functions
//! that make the report of a real experiment, and what the report names is held against what was
//! injected. What strengths mean, and what came out: `docs/attribution.md`.
//!
//! - `suite`: which cases. `observe`: one case through the analysis. `score`: precision, recall and F1.
//!   `show`: the tables.

mod observe;
mod score;
mod show;
mod suite;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use chimera_domain::attribution::Cause;
use chimera_testkit::simulated::{MAX_STRENGTH, MIN_STRENGTH};
use clap::Parser;

use observe::observe;
use score::Score;
use suite::Strength;

/// Measures how well attribution names what is known to be wrong.
#[derive(Debug, Parser)]
#[command(name = "attribution-eval", version)]
struct Args {
    /// Seed of everything. 1 to 999 are for development; from 1000 on they are held out.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// weak, medium, strong, or a number from 0.3 to 3; without it all three.
    #[arg(long, value_parser = strength)]
    strength: Option<Strength>,
    /// Runs with nothing wrong.
    #[arg(long, default_value_t = 500)]
    clean_runs: u32,
    /// Experiments of each single cause at each strength.
    #[arg(long, default_value_t = 6)]
    repeats: u32,
    /// One case alone, and nothing else: a cause, or two as `reload+network`. `none`: clean runs alone.
    #[arg(long, value_parser = cause)]
    cause: Option<Only>,
    /// Print the evidence of every run, not of the worst alone.
    #[arg(long)]
    explain: bool,
    /// Print one JSON value and nothing else.
    #[arg(long)]
    json: bool,
    /// Exit 1 below macro-F1 0.95 of single causes, 0.85 of pairs, or above 1 % of false alarms.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            error.print().context("cannot write the usage")?;
            // 64: bad usage, as everywhere in chimera.
            return Ok(ExitCode::from(if error.use_stderr() { 64 } else { 0 }));
        }
    };
    let plan = suite::Plan {
        seed: args.seed,
        strengths: args
            .strength
            .map_or_else(Strength::all, |strength| vec![strength]),
        repeats: args.repeats,
        clean_runs: args.clean_runs,
        only: args.cause.map(|Only(causes)| causes),
    };
    let mut score = Score::new(args.seed);
    for part in suite::parts() {
        let mut runs = 0;
        for labelled in plan.cases(part) {
            if part == suite::Part::Clean && runs >= plan.clean_runs {
                break;
            }
            let seen = observe(&labelled).with_context(|| {
                format!(
                    "cannot simulate {} of seed {}",
                    labelled.name(),
                    labelled.case.seed
                )
            })?;
            for run in seen {
                if part == suite::Part::Clean && runs >= plan.clean_runs {
                    break;
                }
                runs += 1;
                if args.explain && !args.json {
                    print(&show::explained(&run))?;
                }
                score.take(part, run);
            }
        }
    }
    let result = score.result();
    if args.json {
        print(&serde_json::to_string_pretty(&result).context("cannot write the result")?)?;
    } else {
        print(&show::tables(&result, score.worst()))?;
    }
    let failed = args.check && !result.is_good_enough();
    Ok(ExitCode::from(u8::from(failed)))
}

/// A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn strength(text: &str) -> Result<Strength, String> {
    Strength::from_text(text).ok_or_else(|| {
        format!("take weak, medium, strong or a number from {MIN_STRENGTH} to {MAX_STRENGTH}")
    })
}

/// Causes that act together, one or two; none: nothing is wrong.
#[derive(Debug, Clone)]
struct Only(Vec<Cause>);

fn cause(text: &str) -> Result<Only, String> {
    if text == "none" {
        return Ok(Only(Vec::new()));
    }
    let known = chimera_testkit::simulated::causes();
    let find = |name: &str| known.iter().copied().find(|cause| cause.as_str() == name);
    let found: Option<Vec<Cause>> = text.split('+').map(find).collect();
    found
        .filter(|found| found.len() < 3)
        .map(Only)
        .ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|cause| cause.as_str()).collect();
            format!(
                "take none, a cause, or two with + between them: {}",
                names.join(", ")
            )
        })
}
