//! An agent stood idle because its peer wrote more.
//!
//! Rule. At the end of the run fewer agents are active than may be, for at least [`TAIL_SHARE`] of the
//! wall time, and the tokens that the last agent wrote beyond its peers, at its own pace, account for
//! at least [`EXPLAINED_SHARE`] of that tail. No request needs to be slow: nothing is, and time is lost
//! all the same.

use super::super::run::decompose;
use super::super::types::{Cause, CauseFinding, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::words;
use crate::latency::output_tokens;

/// A tail below this share of the wall time is no loss worth a cause.
const TAIL_SHARE: f64 = 0.10;

/// The surplus of tokens must account for at least this share of the tail.
const EXPLAINED_SHARE: f64 = 0.5;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    (scene.agents.len() > 1).then_some(())?;
    let time = decompose(scene.test, &scene.run.together, &scene.agents)?;
    (time.idle_tail_ms >= TAIL_SHARE * time.wall_ms).then_some(())?;
    let finished: Vec<(&AgentScene<'_>, f64)> = scene
        .agents
        .iter()
        .zip(&time.agents)
        .map(|(agent, time)| (agent, time.idle_tail_ms))
        .collect();
    let (last, _) = finished.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let idle: Vec<&AgentScene<'_>> = finished
        .iter()
        .filter(|(_, tail)| *tail >= TAIL_SHARE * time.wall_ms)
        .map(|(agent, _)| *agent)
        .collect();
    let (wrote, decode_ms) = written(last)?;
    let peers: Vec<u32> = idle
        .iter()
        .filter_map(|agent| Some(written(agent)?.0))
        .collect();
    let most = *peers.iter().max()?;
    let surplus = wrote.checked_sub(most).filter(|surplus| *surplus > 0)?;
    let cost = (f64::from(surplus) * decode_ms / f64::from(wrote)).min(time.idle_tail_ms);
    (cost >= EXPLAINED_SHARE * time.idle_tail_ms && cost >= TAIL_SHARE * time.wall_ms)
        .then_some(())?;
    let agents: Vec<_> = idle.iter().map(|agent| words::id(agent)).collect();
    let source = || "requests of the run".to_owned();
    let who = &last.view.planned.id;
    Some(CauseFinding {
        cause: Cause::LengthImbalance,
        grade: Grade::Supported,
        sentence: format!(
            "{} stood idle for {} at the end because {who} wrote {wrote} tokens and no peer more \
             than {most}.",
            words::agents(&agents),
            words::duration(time.idle_tail_ms)
        ),
        agents,
        cost_ms: Some(cost),
        evidence: vec![
            words::ms(
                "time at the end with fewer agents active than may be",
                time.idle_tail_ms,
                Some(TAIL_SHARE * time.wall_ms),
                "starts and finishes of the agents".to_owned(),
            ),
            words::plain(format!("tokens written by {who}"), wrote.into(), Some(most.into()), source()),
            words::ms(format!("{who}'s time for the surplus, at its pace"), cost, None, source()),
        ],
        settle: Some(
            "give the agents equal token budgets, start the longest first, or let a free agent take \
             the next job"
                .to_owned(),
        ),
    })
}

/// Output tokens of an agent's requests and the time of writing them, ms. *Undefined when* a request
/// has no count.
fn written(agent: &AgentScene<'_>) -> Option<(u32, f64)> {
    let tokens: Option<u32> = agent
        .requests
        .iter()
        .map(|request| Some(output_tokens(request.record)?.0))
        .sum();
    let decode = agent
        .requests
        .iter()
        .filter_map(|request| request.parts.get(Part::Decode));
    tokens
        .filter(|tokens| *tokens > 0)
        .map(|tokens| (tokens, decode.sum()))
}
