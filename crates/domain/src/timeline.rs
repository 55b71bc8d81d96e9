//! Records folded into facts: one agent's stream, one leg's decisions, and the clocks they share.
//!
//! Rules. A record's identity is its stream and number for ever: a second copy is dropped, a second
//! *different* one is a flaw. A stream counts only under the attempt and epoch that the control log
//! names; other records are stale, dropped and counted. Gaps are named, never bridged. Input may come
//! in any order and any number of times; the result depends on the set alone.

mod agent;
mod leg;
mod timebase;

pub use agent::{AgentTimeline, Flaw, StreamId, StreamIntegrity, Streams};
pub use leg::{EarlierAttempt, LegLog, Log, LogError};
pub use timebase::Timebase;
