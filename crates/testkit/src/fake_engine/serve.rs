//! The routes, and one chat from receipt to end.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use chimera_domain::options::EngineKind;
use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;
use serde_json::{Value, json};

use super::http::{Connection, END, Request, chunk};
use super::protocol::{Account, Ask, Protocol};
use super::script::{Cut, Fault, Script};
use super::sleep::{sharpen, sleep_until};
use super::truth::{Ended, Live, RequestTruth};
use super::{Core, Loaded, StateRoute, lock};

/// Serves one connection until it closes.
pub(super) fn connection(stream: Arc<TcpStream>, core: &Core) {
    sharpen();
    if !core.accept_delay.is_zero() && !sleep_until(after(core.accept_delay), &core.stop) {
        return;
    }
    let result = Connection::new(stream).and_then(|connection| serve(connection, core));
    if let Err(error) = result {
        // The client went; its own test says whether it should have.
        tracing::debug!(%error, "a connection of the fake engine ended");
    }
}

fn after(d: Duration) -> MonoNs {
    mono().plus(ns(d))
}

fn ns(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

fn serve(mut connection: Connection, core: &Core) -> io::Result<()> {
    while let Some(request) = connection.next(&core.stop)? {
        let protocol = match (request.method.as_str(), request.path.as_str(), core.kind) {
            ("POST", "/api/chat", EngineKind::Ollama) => Protocol::Ollama,
            ("POST", "/v1/chat/completions", _) => Protocol::Openai,
            _ => {
                let asked = request.path.clone();
                *lock(&core.asked).entry(asked).or_default() += 1;
                match state_route(core, &request) {
                    StateRoute::Hangs => {
                        connection.hang(&core.stop);
                        return Ok(());
                    }
                    StateRoute::Refuses(status) => connection.json(status, "{}")?,
                    StateRoute::Answers => {
                        let (status, body) = document(core, &request);
                        connection.json(status, &body)?;
                    }
                }
                continue;
            }
        };
        match chat(connection, core, protocol, &request)? {
            Some(open) => connection = open,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn state_route(core: &Core, request: &Request) -> StateRoute {
    let facts = &lock(&core.play).facts;
    match request.path.as_str() {
        "/api/ps" => facts.resident,
        "/metrics" => facts.metrics,
        "/slots" => facts.slots,
        _ => StateRoute::Answers,
    }
}

/// Everything that is not a chat.
fn document(core: &Core, request: &Request) -> (u16, String) {
    if core.kind == EngineKind::Openai && request.path == "/metrics" {
        let (running, waiting) = core.slots.load();
        let text = format!(
            "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing {running}\n\
             # TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred {waiting}\n"
        );
        return (200, text);
    }
    let (status, value) = json_document(core, request);
    (status, value.to_string())
}

fn json_document(core: &Core, request: &Request) -> (u16, Value) {
    let play = lock(&core.play);
    let facts = &play.facts;
    let ollama = core.kind == EngineKind::Ollama;
    let model = &core.model;
    let answer = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/version") if ollama => json!({"version": facts.version}),
        ("GET", "/api/ps") if ollama => {
            let models: Vec<Value> = play
                .loaded
                .iter()
                .map(|loaded| {
                    let asked = loaded.runner.num_ctx;
                    let context = facts.context_length.map(u64::from).or(asked);
                    json!({
                        "name": model, "model": model, "digest": facts.digest,
                        "size": facts.size_bytes, "size_vram": facts.size_vram_bytes,
                        "context_length": context, "expires_at": "2318-01-01T00:00:00Z",
                    })
                })
                .collect();
            json!({"models": models})
        }
        ("GET", "/api/tags") if ollama => {
            json!({"models": [{"name": model, "model": model, "digest": facts.digest}]})
        }
        ("POST", "/api/show") if ollama => {
            let asked = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
            if asked.get("model").and_then(Value::as_str) != Some(model) {
                return (404, json!({"error": "model not found"}));
            }
            json!({"model_info": {
                "general.architecture": "fake", "fake.block_count": facts.layers,
                "fake.context_length": 32_768,
            }})
        }
        ("GET", "/v1/models") => {
            let owner = if ollama { "library" } else { "llamacpp" };
            json!({"object": "list", "data": [{
                "id": model, "object": "model", "owned_by": owner,
                "meta": {"size": facts.size_bytes, "n_ctx_train": 32_768},
            }]})
        }
        ("GET", "/props") if !ollama => json!({
            "default_generation_settings": {"n_ctx": facts.context_length.unwrap_or(4096)},
            "total_slots": core.slots.limit.unwrap_or(1),
            "model_path": format!("/models/{model}.gguf"), "build_info": facts.version,
        }),
        ("GET", "/slots") if !ollama => {
            let (running, _) = core.slots.load();
            let slots = core.slots.limit.unwrap_or(running).max(1);
            (0..slots)
                .map(|id| json!({"id": id, "is_processing": id < running}))
                .collect()
        }
        ("GET", "/health") if !ollama => json!({"status": "ok"}),
        _ => {
            return (
                404,
                json!({"error": format!("no route {} {}", request.method, request.path)}),
            );
        }
    };
    (200, answer)
}

/// One chat. The connection comes back if it can serve another.
fn chat(
    mut connection: Connection,
    core: &Core,
    protocol: Protocol,
    request: &Request,
) -> io::Result<Option<Connection>> {
    let body = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
    let ask = protocol.ask(&body);
    let truth = Live::new(RequestTruth {
        request_id: request.header("x-request-id").map(str::to_owned),
        path: request.path.clone(),
        headers: request.headers.clone(),
        body,
        received: request.received,
        started: None,
        tokens: Vec::new(),
        done: None,
        loaded: false,
        ended: Ended::Open,
    });
    lock(&core.truth).push(truth.clone());
    let (script, fault) = {
        let mut play = lock(&core.play);
        let fault = play
            .next_faults
            .pop_front()
            .unwrap_or_else(|| play.fault.clone());
        (play.script.clone(), fault)
    };
    let ask = match ask {
        Some(ask) => ask,
        None => {
            truth.edit().ended = Ended::Refused;
            connection.json(400, &protocol.refusal(400, "the body is no chat request"))?;
            return Ok(Some(connection));
        }
    };
    if let Some((status, message)) = refuses(core, &script, &ask) {
        truth.edit().ended = Ended::Refused;
        connection.json(status, &protocol.refusal(status, &message))?;
        return Ok(Some(connection));
    }
    match fault {
        Some(Fault::Status { status, body }) => {
            truth.edit().ended = Ended::Fault;
            connection.json(status, &body)?;
            Ok(Some(connection))
        }
        Some(Fault::NoHttp) => {
            truth.edit().ended = Ended::Fault;
            connection.write(b"this is no HTTP\r\n\r\n")?;
            connection.finish().map(|()| None)
        }
        Some(Fault::CloseBeforeHead) => {
            truth.edit().ended = Ended::Fault;
            connection.reset().map(|()| None)
        }
        Some(Fault::HangBeforeHead) => {
            truth.edit().ended = Ended::Fault;
            connection.hang(&core.stop);
            Ok(None)
        }
        fault => {
            let chat = Chat {
                core,
                protocol,
                script,
                fault,
                ask,
                truth: &truth,
            };
            let played = chat.play(connection);
            let mut truth = truth.edit();
            if truth.ended == Ended::Open {
                truth.ended = match &played {
                    Ok(_) => Ended::Stopped,
                    Err(_) => Ended::ClientGone,
                };
            }
            played
        }
    }
}

/// What the engine refuses by itself.
fn refuses(core: &Core, script: &Script, ask: &Ask) -> Option<(u16, String)> {
    if ask.model != core.model {
        return Some((404, format!("model '{}' not found", ask.model)));
    }
    let context = lock(&core.play)
        .facts
        .context_length
        .map(u64::from)
        .or(ask.runner.num_ctx);
    let prompt = u64::from(script.prompt_tokens.unwrap_or(ask.prompt_words));
    if context.is_some_and(|context| prompt > context) {
        return Some((
            400,
            "the input length exceeds the context length".to_owned(),
        ));
    }
    None
}

struct Chat<'a> {
    core: &'a Core,
    protocol: Protocol,
    script: Script,
    fault: Option<Fault>,
    ask: Ask,
    truth: &'a Live,
}

impl Chat<'_> {
    fn play(&self, mut connection: Connection) -> io::Result<Option<Connection>> {
        let core = self.core;
        if self.script.early_head {
            connection.write(self.protocol.head())?;
        }
        let Some(place) = core.slots.enter(&core.stop) else {
            return Ok(None);
        };
        // Without a queue the prefill begins with the receipt, not when this thread got so far.
        let queued = core.slots.limit.is_some();
        let from = if queued {
            mono()
        } else {
            self.truth.edit().received
        };
        let Some((started, load_ns)) = self.load(from) else {
            return Ok(None);
        };
        self.truth.edit().started = Some(started);

        let wanted = self.length();
        let tokens = self
            .fault
            .as_ref()
            .and_then(Fault::after)
            .map_or(wanted, |a| a.min(wanted));
        let work = self.script.ttft + self.script.gap * tokens.saturating_sub(1);
        let compute = core.capacity.begin(started, work);
        let mut opened = false;
        let mut out = Vec::with_capacity(1024);
        for n in 0..tokens {
            out.clear();
            self.open(&mut out, &mut opened);
            let thinking = n < self.script.thinking;
            chunk(&mut out, &self.protocol.token(&self.ask.model, n, thinking));
            if !compute.wait(self.script.ttft + self.script.gap * n, &core.stop) {
                return Ok(None);
            }
            // Before the write: on loopback the client may be running before write() returns.
            self.truth.edit().tokens.push(mono());
            connection.write(&out)?;
        }
        if tokens == 0 && !compute.wait(self.script.ttft, &core.stop) {
            return Ok(None);
        }
        drop(compute);
        out.clear();
        self.open(&mut out, &mut opened);
        if let Some(fault) = &self.fault {
            self.truth.edit().ended = Ended::Fault;
            return self.fail(connection, fault, out, load_ns);
        }
        chunk(
            &mut out,
            &self.protocol.done(&self.ask.model, &self.account(load_ns)),
        );
        out.extend_from_slice(END);
        {
            let mut truth = self.truth.edit();
            truth.done = Some(mono());
            truth.ended = Ended::Whole;
        }
        // Before the client can know: its next request must not meet this one in the engine.
        drop(place);
        connection.write(&out)?;
        if core.kind == EngineKind::Openai {
            // As llama.cpp's server does after a streamed answer, `Keep-Alive` or not.
            connection.finish()?;
            return Ok(None);
        }
        Ok(Some(connection))
    }

    /// Head (unless it went ahead) and opening, once.
    fn open(&self, out: &mut Vec<u8>, opened: &mut bool) {
        if std::mem::replace(opened, true) {
            return;
        }
        if !self.script.early_head {
            out.extend_from_slice(self.protocol.head());
        }
        let opening = self.protocol.opening(&self.ask.model);
        if !opening.is_empty() {
            chunk(out, &opening);
        }
    }

    /// Loads the model where Ollama would, or waits while another request loads it; both are in the
    /// load duration that Ollama states. `None` if stopped meanwhile.
    fn load(&self, from: MonoNs) -> Option<(MonoNs, u64)> {
        let warm = ns(self.script.warm_load);
        if self.core.kind != EngineKind::Ollama {
            return Some((from, warm));
        }
        let (ready, loads) = {
            let mut play = lock(&self.core.play);
            let wanted = &self.ask.runner;
            match &play.loaded {
                // Ollama's own OpenAI route carries no runner options: whatever is loaded serves.
                Some(loaded) if loaded.runner == *wanted || self.protocol == Protocol::Openai => {
                    (loaded.ready, false)
                }
                _ => {
                    let ready = from.plus(ns(self.script.load));
                    play.loaded = Some(Loaded {
                        runner: wanted.clone(),
                        ready,
                    });
                    (ready, true)
                }
            }
        };
        self.truth.edit().loaded = loads;
        match ready.since(from) {
            None | Some(0) if !loads => Some((from, warm)),
            wait => {
                sleep_until(ready, &self.core.stop).then_some((ready, wait.unwrap_or_default()))
            }
        }
    }

    fn length(&self) -> u32 {
        match self.script.tokens {
            Some(natural) if !self.ask.forced => natural.min(self.ask.tokens),
            _ => self.ask.tokens,
        }
    }

    fn account(&self, load_ns: u64) -> Account {
        let now = mono();
        let truth = self.truth.edit();
        let between = |a: Option<&MonoNs>, b: Option<&MonoNs>| match (a, b) {
            (Some(a), Some(b)) => b.since(*a).unwrap_or_default(),
            _ => 0,
        };
        let output = u32::try_from(truth.tokens.len()).unwrap_or(u32::MAX);
        Account {
            output,
            prompt: self.script.prompt_tokens.unwrap_or(self.ask.prompt_words),
            cached: self.script.cached_tokens,
            cut_by_length: output >= self.ask.tokens,
            total_ns: now.since(truth.received).unwrap_or_default(),
            load_ns,
            prefill_ns: between(truth.started.as_ref(), truth.tokens.first()),
            decode_ns: between(truth.tokens.first(), truth.tokens.last()),
        }
    }

    /// Strikes after the tokens are written; `out` may hold a head that is still to go.
    fn fail(
        &self,
        mut connection: Connection,
        fault: &Fault,
        mut out: Vec<u8>,
        load_ns: u64,
    ) -> io::Result<Option<Connection>> {
        let words = self.protocol;
        let model = &self.ask.model;
        let done = words.done(model, &self.account(load_ns));
        match fault {
            Fault::HangAfter { .. } | Fault::HangBeforeFirstByte => {
                // The opening would be a byte of the body.
                if !out.is_empty() && !self.script.early_head {
                    connection.write(words.head())?;
                }
                connection.hang(&self.core.stop);
                return Ok(None);
            }
            Fault::HangAfterDone => {
                chunk(&mut out, &done);
                connection.write(&out)?;
                connection.hang(&self.core.stop);
                return Ok(None);
            }
            Fault::CutAfter { how, .. } => {
                connection.write(&out)?;
                match how {
                    Cut::Rst => connection.reset()?,
                    Cut::Fin => connection.finish()?,
                }
                return Ok(None);
            }
            Fault::BadChunk { .. } => {
                out.extend_from_slice(b"zz\r\n{}\r\n");
                connection.write(&out)?;
                connection.hang(&self.core.stop);
                return Ok(None);
            }
            Fault::LongLine { bytes, .. } => {
                chunk(&mut out, words.half_line());
                connection.write(&out)?;
                out.clear();
                // In pieces: what is never whole here cannot be mistaken for the client's memory.
                let piece = [b'x'; 16 << 10];
                let mut frame = Vec::new();
                chunk(&mut frame, &piece);
                for _ in 0..bytes.div_ceil(piece.len()) {
                    connection.write(&frame)?;
                }
            }
            Fault::ErrorLine { message, .. } => chunk(&mut out, &words.error_line(message)),
            Fault::EofWithoutDone { .. } => {}
            Fault::EofInsideLine { .. } => chunk(&mut out, words.half_line()),
            Fault::Garbage { .. } => chunk(&mut out, words.garbage()),
            Fault::BadUtf8 { .. } => chunk(&mut out, words.bad_utf8()),
            Fault::TwoDone => {
                chunk(&mut out, &done);
                chunk(
                    &mut out,
                    if words == Protocol::Openai {
                        Protocol::DONE
                    } else {
                        &done
                    },
                );
            }
            Fault::DataAfterDone => {
                chunk(&mut out, &done);
                chunk(&mut out, &words.text(model, "late ", false));
            }
            Fault::DoneWithoutFinish => match words {
                Protocol::Ollama => {}
                Protocol::Openai => chunk(&mut out, Protocol::DONE),
            },
            // Struck before the head.
            Fault::Status { .. }
            | Fault::NoHttp
            | Fault::CloseBeforeHead
            | Fault::HangBeforeHead => return Ok(None),
        }
        out.extend_from_slice(END);
        connection.write(&out)?;
        Ok(Some(connection))
    }
}
