//! The floor: the smallest hyper client that stamps what it receives, and nothing more.
//!
//! It sends the requests that `chimera probe` sends, reads every frame of the answers, takes one
//! stamp per frame and counts. No JSON is parsed, no deadline kept, no line split, no failure told
//! from another. What the probe costs beyond this is the price of what it does beyond this.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Stamps the frames of streamed answers and says what that cost.
///
/// Example: floor --url http://127.0.0.1:8080 --model m -c 64 -n 256 --tokens 1000
#[derive(Debug, Parser)]
struct Args {
    /// Base URL of the engine.
    #[arg(long)]
    url: Uri,
    /// Protocol: ollama or openai.
    #[arg(long, default_value = "openai", value_parser = ["ollama", "openai"])]
    engine: String,
    /// Model.
    #[arg(long)]
    model: String,
    /// Streams at once.
    #[arg(short, default_value_t = 1)]
    concurrency: u64,
    /// Requests in all.
    #[arg(short = 'n', default_value_t = 1)]
    requests: u64,
    /// Tokens per request.
    #[arg(long, default_value_t = 64)]
    tokens: u64,
}

/// What one stream saw.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    frames: u64,
    bytes: u64,
    /// The stamps of the latest answer: kept, as a client that reports them must.
    stamps: Vec<u64>,
}

fn main() -> anyhow::Result<()> {
    let args = Arc::new(Args::parse());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(run(args))
}

async fn run(args: Arc<Args>) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let (cpu, wall) = (now(ClockId::ProcessCPUTime), now(ClockId::Monotonic));
    let mut streams = JoinSet::new();
    for _ in 0..args.concurrency {
        streams.spawn(stream(Arc::clone(&args), Arc::clone(&next)));
    }
    let mut seen = Seen::default();
    while let Some(one) = streams.join_next().await {
        let one = one??;
        seen.requests += one.requests;
        seen.frames += one.frames;
        seen.bytes += one.bytes;
    }
    let report = json!({
        "requests": seen.requests,
        "frames": seen.frames,
        "bytes": seen.bytes,
        "cpu_ns": now(ClockId::ProcessCPUTime) - cpu,
        "wall_ns": now(ClockId::Monotonic) - wall,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

async fn stream(args: Arc<Args>, next: Arc<AtomicU64>) -> anyhow::Result<Seen> {
    let authority = args
        .url
        .authority()
        .context("the URL names no host")?
        .clone();
    let mut drivers = JoinSet::new();
    let (path, length) = match args.engine.as_str() {
        "ollama" => (
            "/api/chat",
            json!({"options": {"num_predict": args.tokens}}),
        ),
        _ => (
            "/v1/chat/completions",
            json!({"max_tokens": args.tokens, "ignore_eos": true}),
        ),
    };
    let mut seen = Seen {
        stamps: Vec::with_capacity(usize::try_from(args.tokens)? + 16),
        ..Seen::default()
    };
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= args.requests {
            return Ok(seen);
        }
        let mut body = json!({
            "model": args.model, "stream": true,
            "messages": [{"role": "user", "content": format!("{n:08} What rises with load?")}],
        });
        if let (Some(body), Some(length)) = (body.as_object_mut(), length.as_object()) {
            body.extend(length.clone());
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", authority.as_str())
            .header("content-type", "application/json")
            .header("x-request-id", format!("floor-{n}"))
            .body(Full::new(Bytes::from(body.to_string())))?;
        // A connection for each request, as the probe has it.
        let socket = TcpStream::connect(authority.as_str()).await?;
        socket.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        drivers.spawn(connection);
        let mut response = sender.send_request(request).await?;
        if !response.status().is_success() {
            bail!("the engine answered with status {}", response.status());
        }
        seen.stamps.clear();
        while let Some(frame) = response.frame().await {
            let at = now(ClockId::Monotonic);
            let frame = frame?;
            seen.stamps.push(at);
            seen.frames += 1;
            let length = frame.data_ref().map_or(0, Bytes::len);
            seen.bytes += u64::try_from(length)?;
        }
        seen.requests += 1;
    }
}

fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}
