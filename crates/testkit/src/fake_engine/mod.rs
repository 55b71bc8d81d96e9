//! An engine without a model, for tests and calibration only: real TCP, both protocols, exact
//! timing, every bad stream on request, and its own record of what really happened.
//!
//! It exists because a client cannot be judged by its own stamps. Its times are kept by one
//! blocking thread per connection that sleeps to absolute instants, so that errors do not add up;
//! on a quiet machine a token is written within some 20 us of its instant, and in any case
//! [`RequestTruth`] holds when it really was.
//!
//! - `script`: what is played, and what goes wrong. `capacity`: what engines share.
//! - `truth`: what happened. `serve`: the routes. `protocol`: their words. `http`, `sleep`: means.

mod capacity;
mod http;
mod protocol;
mod script;
mod serve;
mod sleep;
mod truth;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use chimera_domain::options::EngineKind;
use chimera_domain::units::MonoNs;

pub use capacity::Capacity;
pub use script::{Cut, Fault, Script};
pub use truth::{Ended, RequestTruth};

use protocol::Runner;
use truth::Live;

/// Stack of a connection's thread: it holds a 16 KiB read buffer and little else.
const STACK: usize = 256 << 10;

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeFacts {
    /// Version of the engine.
    pub version: String,
    /// Digest of the model (Ollama).
    pub digest: String,
    /// Bytes of the loaded model.
    pub size_bytes: u64,
    /// Of these in GPU memory (Ollama).
    pub size_vram_bytes: u64,
    /// Layers of the model (Ollama).
    pub layers: u32,
    /// Context length stated. `None`: Ollama states the loaded `num_ctx`, `OpenAI` 4096.
    pub context_length: Option<u32>,
    /// How `/api/ps` answers (Ollama).
    pub resident: StateRoute,
    /// How `/metrics` answers (llama.cpp).
    pub metrics: StateRoute,
    /// How `/slots` answers (llama.cpp).
    pub slots: StateRoute,
}

/// How a route answers that tells the engine's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StateRoute {
    /// As it should.
    #[default]
    Answers,
    /// With this status.
    Refuses(u16),
    /// Never; the connection stays open.
    Hangs,
}

impl Default for FakeFacts {
    fn default() -> Self {
        Self {
            version: "0.0.0-fake".to_owned(),
            digest: "sha256:0123456789abcdef".to_owned(),
            size_bytes: 300 << 20,
            size_vram_bytes: 300 << 20,
            layers: 18,
            context_length: None,
            resident: StateRoute::Answers,
            metrics: StateRoute::Answers,
            slots: StateRoute::Answers,
        }
    }
}

/// How a fake engine starts.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// Which product it plays: Ollama (which has `/v1` too) or llama.cpp's server.
    pub kind: EngineKind,
    /// The one model it has.
    pub model: String,
    /// How answers go.
    pub script: Script,
    /// What it draws on; give clones of one to several engines to let them contend.
    pub capacity: Capacity,
    /// Requests served at once; more wait in order. `None`: no limit.
    pub slots: Option<u32>,
    /// What it says of itself.
    pub facts: FakeFacts,
    /// The port, 0 for a free one.
    pub port: u16,
    /// A connection is looked at this long after it was made.
    pub accept_delay: Duration,
}

impl FakeConfig {
    /// An engine of this kind with model `fake`, default script, and capacity of its own.
    #[must_use]
    pub fn new(kind: EngineKind) -> Self {
        Self {
            kind,
            model: "fake".to_owned(),
            script: Script::default(),
            capacity: Capacity::independent(),
            slots: None,
            facts: FakeFacts::default(),
            port: 0,
            accept_delay: Duration::ZERO,
        }
    }
}

/// A running fake engine; stops when dropped.
#[derive(Debug)]
pub struct FakeEngine {
    address: SocketAddr,
    core: Arc<Core>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Core {
    kind: EngineKind,
    model: String,
    capacity: Capacity,
    slots: Slots,
    accept_delay: Duration,
    stop: AtomicBool,
    play: Mutex<Play>,
    truth: Mutex<Vec<Live>>,
    /// Requests by path that were no chats.
    asked: Mutex<BTreeMap<String, u32>>,
    connections: Mutex<Vec<Held>>,
}

/// What the next request meets.
#[derive(Debug)]
struct Play {
    script: Script,
    fault: Option<Fault>,
    next_faults: VecDeque<Option<Fault>>,
    facts: FakeFacts,
    loaded: Option<Loaded>,
}

/// The model as it was asked for, and from when on it serves.
#[derive(Debug)]
struct Loaded {
    runner: Runner,
    ready: MonoNs,
}

/// A connection's thread, and the socket by which it is woken. Weak: a second descriptor would keep
/// a connection open that the thread has closed, and turn a reset into nothing.
#[derive(Debug)]
struct Held {
    thread: JoinHandle<()>,
    socket: Weak<TcpStream>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeEngine {
    /// Listens on the loopback interface and serves.
    ///
    /// # Errors
    /// When the port is taken or no thread can be started.
    pub fn start(config: FakeConfig) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))?;
        let address = listener.local_addr()?;
        let core = Arc::new(Core {
            kind: config.kind,
            model: config.model,
            capacity: config.capacity,
            slots: Slots::new(config.slots),
            accept_delay: config.accept_delay,
            stop: AtomicBool::new(false),
            play: Mutex::new(Play {
                script: config.script,
                fault: None,
                next_faults: VecDeque::new(),
                facts: config.facts,
                loaded: None,
            }),
            truth: Mutex::default(),
            asked: Mutex::default(),
            connections: Mutex::default(),
        });
        let acceptor = std::thread::Builder::new()
            .name("fake-accept".to_owned())
            .spawn({
                let core = Arc::clone(&core);
                move || accept(&listener, &core)
            })?;
        Ok(Self {
            address,
            core,
            acceptor: Some(acceptor),
        })
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All chat requests so far, in order of receipt; those under way included.
    #[must_use]
    pub fn truth(&self) -> Vec<RequestTruth> {
        lock(&self.core.truth).iter().map(Live::copy).collect()
    }

    /// The first chat request whose `X-Request-ID` is this or begins so.
    #[must_use]
    pub fn truth_of(&self, request_id: &str) -> Option<RequestTruth> {
        let all = lock(&self.core.truth);
        all.iter().map(Live::copy).find(|t| {
            let id = t.request_id.as_deref();
            id.is_some_and(|id| id.starts_with(request_id))
        })
    }

    /// How often this path was asked for; chats are not counted.
    #[must_use]
    pub fn asked(&self, path: &str) -> u32 {
        lock(&self.core.asked).get(path).copied().unwrap_or(0)
    }

    /// Forgets the requests so far.
    pub fn clear_truth(&self) {
        lock(&self.core.truth).clear();
    }

    /// How answers go from the next request on.
    pub fn set_script(&self, script: Script) {
        lock(&self.core.play).script = script;
    }

    /// What goes wrong from the next request on, until changed.
    pub fn set_fault(&self, fault: Option<Fault>) {
        lock(&self.core.play).fault = fault;
    }

    /// What goes wrong in one coming request; calls queue up. `None` lets one go well, also where
    /// [`set_fault`](Self::set_fault) says otherwise.
    pub fn fault_next(&self, fault: Option<Fault>) {
        lock(&self.core.play).next_faults.push_back(fault);
    }

    /// Changes what the engine says of itself.
    pub fn edit_facts(&self, edit: impl FnOnce(&mut FakeFacts)) {
        edit(&mut lock(&self.core.play).facts);
    }

    /// Throws the model out: the next request loads it again (Ollama).
    pub fn unload(&self) {
        lock(&self.core.play).loaded = None;
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.core.stop.store(true, Ordering::Relaxed);
        // The acceptor blocks in accept: a connection lets it see the stop.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            join(acceptor);
        }
        let held = std::mem::take(&mut *lock(&self.core.connections));
        for connection in &held {
            if let Some(socket) = connection.socket.upgrade() {
                // An error means that it is closed already.
                drop(socket.shutdown(std::net::Shutdown::Both));
            }
        }
        for connection in held {
            join(connection.thread);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the fake engine panicked");
    }
}

fn accept(listener: &TcpListener, core: &Arc<Core>) {
    for stream in listener.incoming() {
        if core.stop.load(Ordering::Relaxed) {
            return;
        }
        let result = stream.and_then(|stream| {
            let stream = Arc::new(stream);
            let socket = Arc::downgrade(&stream);
            let thread = std::thread::Builder::new()
                .name("fake-conn".to_owned())
                .stack_size(STACK)
                .spawn({
                    let core = Arc::clone(core);
                    move || serve::connection(stream, &core)
                })?;
            let mut held = lock(&core.connections);
            held.retain(|h| !h.thread.is_finished());
            held.push(Held { thread, socket });
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!(%error, "the fake engine could not take a connection");
        }
    }
}

/// Requests served at once, first come first served.
#[derive(Debug)]
struct Slots {
    limit: Option<u64>,
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    came: u64,
    left: u64,
}

impl Slots {
    fn new(limit: Option<u32>) -> Self {
        Self {
            limit: limit.map(u64::from),
            line: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Requests that have a place, and requests that wait for one.
    fn load(&self) -> (u64, u64) {
        let line = lock(&self.line);
        let there = line.came.saturating_sub(line.left);
        let running = self.limit.map_or(there, |limit| there.min(limit));
        (running, there - running)
    }

    /// Waits for a place; `None` if `stop` was set meanwhile.
    fn enter(&self, stop: &AtomicBool) -> Option<Place<'_>> {
        let mut line = lock(&self.line);
        let ticket = line.came;
        line.came = line.came.saturating_add(1);
        let place = Place(self);
        while self
            .limit
            .is_some_and(|limit| ticket >= line.left.saturating_add(limit))
        {
            if stop.load(Ordering::Relaxed) {
                drop(line);
                drop(place);
                return None;
            }
            let waited = self.changed.wait_timeout(line, Duration::from_millis(50));
            line = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(place)
    }
}

/// A place in the line, given back when dropped.
#[derive(Debug)]
struct Place<'a>(&'a Slots);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = lock(&self.0.line);
        line.left = line.left.saturating_add(1);
        drop(line);
        self.0.changed.notify_all();
    }
}

/// An address on loopback that takes no connection: a connect to it hangs until it gives up.
///
/// A listener with the smallest backlog, filled by connections that nobody accepts; further ones
/// get no answer. Linux only, as is the rest of the kit.
#[derive(Debug)]
pub struct DeafListener {
    address: SocketAddr,
    _listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl DeafListener {
    /// Listens and fills the backlog.
    ///
    /// # Errors
    /// When no socket can be had, or the backlog does not fill.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // A second listen() on a listening socket changes its backlog.
        rustix::net::listen(&listener, 0)?;
        let address = listener.local_addr()?;
        let mut fill = Vec::new();
        for _ in 0..16 {
            match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => fill.push(stream),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Self {
                        address,
                        _listener: listener,
                        _fill: fill,
                    });
                }
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("the backlog did not fill"))
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a place on a thread of its own and says so; the place is given back with the sender.
    fn enter(slots: &Arc<Slots>, name: u32, said: &std::sync::mpsc::Sender<u32>) -> Give {
        let (give, given) = std::sync::mpsc::channel::<()>();
        let (slots, said) = (Arc::clone(slots), said.clone());
        let came = lock(&slots.line).came;
        let line = Arc::clone(&slots);
        let thread = std::thread::spawn(move || {
            let stop = AtomicBool::new(false);
            let _place = slots.enter(&stop);
            said.send(name).unwrap();
            // An error is the sender's end.
            assert!(given.recv().is_err());
        });
        // In line before the next one comes.
        while lock(&line.line).came == came {
            std::thread::yield_now();
        }
        Give(Some(give), Some(thread))
    }

    struct Give(Option<std::sync::mpsc::Sender<()>>, Option<JoinHandle<()>>);

    impl Drop for Give {
        fn drop(&mut self) {
            drop(self.0.take());
            if let Some(thread) = self.1.take() {
                join(thread);
            }
        }
    }

    #[test]
    fn as_many_as_there_are_slots_and_the_others_in_the_order_in_which_they_came() {
        let slots = Arc::new(Slots::new(Some(2)));
        let (said, heard) = std::sync::mpsc::channel();
        let next = || heard.recv_timeout(Duration::from_secs(10)).unwrap();
        let mut all: VecDeque<Give> = (0..5).map(|n| enter(&slots, n, &said)).collect();
        let mut first = [next(), next()];
        first.sort_unstable();
        assert_eq!(first, [0, 1]);
        for expected in 2..5 {
            assert!(heard.try_recv().is_err(), "nobody else has a place");
            drop(all.pop_front());
            assert_eq!(next(), expected);
        }
    }
}
