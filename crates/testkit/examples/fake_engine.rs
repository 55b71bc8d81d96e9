//! The fake engine as a process: for calibration by hand and for `benches/probe_cpu.sh`.
//!
//! Prints its URL, serves until its standard input ends, then writes its truth.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use chimera_domain::options::EngineKind;
use chimera_testkit::fake_engine::{Capacity, FakeConfig, FakeEngine, Script};
use clap::{Parser, ValueEnum};

/// An engine without a model, with exact timing.
///
/// Example: fake_engine --ttft-ms 200 --gap-ms 20 --truth truth.jsonl
#[derive(Debug, Parser)]
struct Args {
    /// Which product it plays.
    #[arg(long, value_enum, default_value = "openai")]
    engine: Engine,
    /// The model's name.
    #[arg(long, default_value = "fake")]
    model: String,
    /// Port on the loopback interface; 0 for a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Request received to first token, milliseconds.
    #[arg(long, default_value_t = 200.0)]
    ttft_ms: f64,
    /// Between two tokens, milliseconds.
    #[arg(long, default_value_t = 20.0)]
    gap_ms: f64,
    /// Streams at full speed; more share. Default: no limit.
    #[arg(long)]
    capacity: Option<f64>,
    /// Requests served at once; more wait. Default: no limit.
    #[arg(long)]
    slots: Option<u32>,
    /// File for the truth, one JSON line per request.
    #[arg(long)]
    truth: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Engine {
    Ollama,
    Openai,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let kind = match args.engine {
        Engine::Ollama => EngineKind::Ollama,
        Engine::Openai => EngineKind::Openai,
    };
    let ms = |value: f64| Duration::try_from_secs_f64(value / 1e3).context("a time out of bounds");
    let engine = FakeEngine::start(FakeConfig {
        model: args.model,
        port: args.port,
        script: Script::timed(ms(args.ttft_ms)?, ms(args.gap_ms)?),
        capacity: args
            .capacity
            .map_or_else(Capacity::independent, Capacity::shared),
        slots: args.slots,
        ..FakeConfig::new(kind)
    })
    .with_context(|| format!("port {} cannot be served", args.port))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", engine.url())?;
    stdout.flush()?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    if let Some(path) = args.truth {
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut out = BufWriter::new(file);
        for truth in engine.truth() {
            serde_json::to_writer(&mut out, &truth)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    Ok(())
}
