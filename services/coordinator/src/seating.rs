//! Who sits where, and whether there is room: everything between "this leg is next" and its
//! reservation.
//!
//! A gang is seated by the workers' names, or where it sat in an earlier leg of its test. Where its
//! memory can be told and is not there, a test that has not begun is seated where it fits; a leg that
//! fits nowhere waits, and is refused in the end. See docs/adr/010-admission-by-memory.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chimera_domain::control::{ControlRecord, Invalid, InvalidReason};
use chimera_domain::ids::{AgentId, NodeId, WorkerId};
use chimera_domain::memory::admission::{
    Admission, Admit, Appraisal, Candidate, Claim, Decision, Item, MAX_AGE_NS, NodeRooms, Rooms,
    assess, judge, place,
};
use chimera_domain::plan::{LegKind, PlannedAgent, Topology};
use chimera_domain::session::{CoordinatorMessage, WorkerMessage};
use chimera_domain::telemetry::TelemetryBatch;
use chimera_runtime::bus::Bus;
use chimera_runtime::clock;
use chimera_wire::subject::{Filter, StreamName};
use tokio_util::sync::CancellationToken;

use crate::gang::Gang;
use crate::lifecycle::Seat;
use crate::log::Thread;
use crate::registry::Heard;
use crate::runner::Runner;

/// How long workers may take to say what agents need: they read a file's header, or ask their engine.
const APPRAISAL_LIMIT: Duration = Duration::from_secs(5);
/// How long telemetry may take to be read; what did not come in time is not known.
const TELEMETRY_LIMIT: Duration = Duration::from_secs(2);
/// How often a leg that waits for room looks again: a batch of telemetry comes each second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What agents need, or in words why that is not known.
type Needs = BTreeMap<AgentId, Result<Appraisal, String>>;

impl Runner {
    /// The seats of the leg, once every agent of its test has a worker and the leg's own have room.
    ///
    /// # Errors
    /// Why the leg cannot begin.
    pub(crate) async fn seats(
        &mut self,
        gang: &Gang<'_>,
        thread: &Thread,
        shutdown: &CancellationToken,
    ) -> Result<Vec<Seat>, Invalid> {
        let schedule = gang.plan.schedule;
        let since = clock::mono();
        loop {
            let seats = self.free_workers(gang, shutdown).await?;
            if schedule.admit == Admit::Always {
                return Ok(of_leg(gang, &seats));
            }
            let (placed, needs, rooms, moved) = self.fitting(gang, seats).await;
            let seats = of_leg(gang, &placed);
            let accounts = assess(&claims(&seats, gang, &needs), &rooms);
            let waited_ms = clock::mono().since(since).unwrap_or(0) / 1_000_000;
            let mut admission = Admission::decide(schedule.admit, accounts, waited_ms, moved);
            admission.seats = placed
                .iter()
                .map(|p| (p.member.agent.clone(), p.member.worker.clone()))
                .collect();
            let refused = admission.decision == Decision::Refused;
            if refused && waited_ms < u64::from(schedule.wait_s) * 1_000 {
                let words = format!("waiting for room: {}", admission.in_words());
                let attempt = gang.leg_ref.attempt;
                gang.experiment.show(gang.leg, attempt, &words, &[], &[]);
                self.rest(gang, shutdown).await?;
                continue;
            }
            let words = admission.in_words();
            match admission.decision {
                Decision::Admitted => tracing::debug!(admission = %words, "there is room"),
                Decision::Unchecked => tracing::info!(admission = %words, "room not checked"),
                Decision::Overridden | Decision::Refused => {
                    tracing::warn!(admission = %words, "there is no room");
                }
            }
            let record = ControlRecord::Admission { admission };
            self.record(gang.experiment, thread, record)
                .await
                .map_err(|detail| invalid(InvalidReason::Storage, &detail))?;
            if refused {
                return Err(invalid(InvalidReason::NoRoom, &words));
            }
            return Ok(seats
                .into_iter()
                .map(|mut seat| {
                    let need = needs.get(&seat.member.agent).and_then(|n| n.as_ref().ok());
                    seat.size_bytes = need.map_or(0, Appraisal::size_bytes);
                    seat
                })
                .collect());
        }
    }

    /// Waits until every agent of the test has a worker: also for a solo leg, since an agent must be
    /// alone on the very instance that it has together with the others.
    async fn free_workers(
        &mut self,
        gang: &Gang<'_>,
        shutdown: &CancellationToken,
    ) -> Result<Vec<Seat>, Invalid> {
        let (experiment, test) = (gang.experiment, gang.test);
        let gang_wait = gang.plan.limits.gang_wait_s;
        let give_up = tokio::time::sleep(Duration::from_secs(u64::from(gang_wait)));
        tokio::pin!(give_up);
        loop {
            let before = experiment.seats(test.id);
            let missing = match self.registry.seats(&test.agents, test.topology, &before) {
                Ok(seats) => return Ok(seats),
                Err(missing) => missing,
            };
            let waiting = format!("waiting for workers: {missing}");
            experiment.show(gang.leg, gang.leg_ref.attempt, &waiting, &[], &[]);
            tokio::select! {
                () = &mut give_up => {
                    let detail = format!("{missing} after {gang_wait} s");
                    return Err(invalid(InvalidReason::NoGang, &detail));
                }
                () = experiment.cancel.cancelled() => return Err(by_a_person()),
                () = shutdown.cancelled() => return Err(by_a_stop()),
                _ = self.heard.recv() => {}
            }
        }
    }

    /// A pause before the next look at what is free.
    async fn rest(&mut self, gang: &Gang<'_>, shutdown: &CancellationToken) -> Result<(), Invalid> {
        let pause = tokio::time::sleep(LOOK_AGAIN);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Ok(()),
                () = gang.experiment.cancel.cancelled() => return Err(by_a_person()),
                () = shutdown.cancelled() => return Err(by_a_stop()),
                // Nobody waits for a session's words, and it must not wait either.
                _ = self.heard.recv() => {}
            }
        }
    }

    /// The seats with what their agents need and what is free: those given, or where the test has not
    /// begun and does not fit there, others in which it does.
    async fn fitting(
        &mut self,
        gang: &Gang<'_>,
        seats: Vec<Seat>,
    ) -> (Vec<Seat>, Needs, Rooms, bool) {
        let test = gang.test;
        let begun = !gang.experiment.seats(test.id).is_empty();
        let may_move = !begun && test.topology == Topology::Pinned && test.agents.len() > 1;
        let asked: Vec<&Seat> = seats
            .iter()
            .filter(|p| may_move || in_leg(gang, &p.member.agent))
            .collect();
        let needs = self.appraise(&asked, gang).await;
        let candidates = if may_move {
            self.registry.everyone(&test.agents)
        } else {
            Vec::new()
        };
        let nodes: BTreeSet<NodeId> = seats
            .iter()
            .map(|p| p.member.node.clone())
            .chain(candidates.iter().map(|(p, _)| p.member.node.clone()))
            .collect();
        let rooms = rooms(&self.bus, nodes).await;
        let together = assess(&claims(&seats, gang, &needs), &rooms);
        if !may_move || judge(Admit::Fits, &together) != Decision::Refused {
            return (seats, needs, rooms, false);
        }
        let Some(elsewhere) = elsewhere(&test.agents, &seats, &candidates, &needs, &rooms) else {
            return (seats, needs, rooms, false);
        };
        // What an instance holds already is its own worker's to say.
        let asked: Vec<&Seat> = elsewhere.iter().collect();
        let needs = self.appraise(&asked, gang).await;
        (elsewhere, needs, rooms, true)
    }

    /// Asks the workers what their agents would take.
    async fn appraise(&mut self, seats: &[&Seat], gang: &Gang<'_>) -> Needs {
        let mut needs = Needs::new();
        let mut open: BTreeMap<(WorkerId, u64), AgentId> = BTreeMap::new();
        for placed in seats {
            let member = &placed.member;
            let agent = gang.test.agents.iter().find(|a| a.id == member.agent);
            let mut unknown = format!("worker {} does not say what agents take", member.worker);
            if let (true, Some(agent)) = (placed.appraises, agent) {
                self.questions += 1;
                let question = CoordinatorMessage::Appraise {
                    id: self.questions,
                    agent: Box::new(agent.clone()),
                    topology: gang.test.topology,
                };
                match self.registry.send(&member.worker, question).await {
                    Ok(()) => {
                        let key = (member.worker.clone(), self.questions);
                        open.insert(key, member.agent.clone());
                        unknown = format!("worker {} did not answer in time", member.worker);
                    }
                    Err(detail) => unknown = detail,
                }
            }
            needs.insert(member.agent.clone(), Err(unknown));
        }
        let limit = tokio::time::sleep(APPRAISAL_LIMIT);
        tokio::pin!(limit);
        while !open.is_empty() {
            let heard = tokio::select! {
                () = &mut limit => return needs,
                () = gang.experiment.cancel.cancelled() => return needs,
                heard = self.heard.recv() => heard,
            };
            match heard {
                None => return needs,
                Some(Heard::Message(worker, message)) => {
                    if let WorkerMessage::Appraisal { id, appraisal } = *message
                        && let Some(agent) = open.remove(&(worker, id))
                    {
                        needs.insert(agent, appraisal.map(|known| *known));
                    }
                }
                Some(Heard::Lost(gone, _) | Heard::Expired(gone, _)) => {
                    open.retain(|(worker, _), _| *worker != gone);
                }
                Some(Heard::Joined) => {}
            }
        }
        needs
    }
}

fn in_leg(gang: &Gang<'_>, agent: &AgentId) -> bool {
    match &gang.leg.kind {
        LegKind::Together => true,
        LegKind::Solo { agent: alone } => alone == agent,
    }
}

fn of_leg(gang: &Gang<'_>, seats: &[Seat]) -> Vec<Seat> {
    seats
        .iter()
        .filter(|p| in_leg(gang, &p.member.agent))
        .cloned()
        .collect()
}

fn claims<'a>(seats: &'a [Seat], gang: &'a Gang<'_>, needs: &'a Needs) -> Vec<Claim<'a>> {
    seats
        .iter()
        .map(|seat| {
            let member = &seat.member;
            let agent = gang.test.agents.iter().find(|a| a.id == member.agent);
            Claim {
                agent: &member.agent,
                model: agent.map_or("", |agent| agent.model.as_str()),
                instance: &member.instance,
                node: &member.node,
                gpu: seat.gpu.as_deref(),
                appraisal: match needs.get(&member.agent) {
                    Some(Ok(known)) => Ok(known),
                    Some(Err(why)) => Err(why.as_str()),
                    None => Err("its worker was not asked"),
                },
            }
        })
        .collect()
}

/// Seats for all agents where they fit; `None`: nowhere, or one's need is not known.
fn elsewhere(
    agents: &[PlannedAgent],
    seats: &[Seat],
    candidates: &[(Seat, Vec<usize>)],
    needs: &Needs,
    rooms: &Rooms,
) -> Option<Vec<Seat>> {
    let held = |worker: &WorkerId| {
        let agent = seats.iter().find(|p| p.member.worker == *worker)?;
        let need = needs.get(&agent.member.agent)?.as_ref().ok()?;
        Some(need.held_device_bytes.max(need.held_host_bytes))
    };
    let items: Option<Vec<Item>> = agents
        .iter()
        .enumerate()
        .map(|(index, agent)| {
            let need = needs.get(&agent.id)?.as_ref().ok()?;
            Some(Item {
                device_bytes: need.device.bytes,
                host_only_bytes: need.host_only.bytes,
                eligible: (0..)
                    .zip(candidates)
                    .filter(|(_, (_, serves))| serves.contains(&index))
                    .map(|(seat, _)| seat)
                    .collect(),
            })
        })
        .collect();
    let desks: Vec<Candidate> = candidates
        .iter()
        .map(|(placed, _)| Candidate {
            node: placed.member.node.clone(),
            gpu: placed.gpu.clone(),
            held_bytes: held(&placed.member.worker).unwrap_or(0),
        })
        .collect();
    let chosen = place(&items?, &desks, rooms)?;
    agents
        .iter()
        .zip(chosen)
        .map(|(agent, seat)| {
            let mut placed = candidates.get(seat)?.0.clone();
            placed.member.agent = agent.id.clone();
            Some(placed)
        })
        .collect()
}

/// What telemetry last said of these hosts; those of which it says nothing, or nothing new, are absent.
async fn rooms(bus: &Bus, nodes: BTreeSet<NodeId>) -> Rooms {
    let mut rooms = Rooms::default();
    for node in nodes {
        let filter = Filter::TelOf(node.clone());
        let read = bus.last(StreamName::Tel, &filter);
        let Ok(Ok(Some(message))) = tokio::time::timeout(TELEMETRY_LIMIT, read).await else {
            continue;
        };
        match chimera_wire::telemetry::decode_batch(&node, &message.payload) {
            Ok(batch) if is_fresh(&batch) => rooms.insert(node, NodeRooms::of(&batch)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%node, %error, "telemetry cannot be read"),
        }
    }
    rooms
}

/// By the monotonic clock within one boot; else by wall clocks, which differ by less than the limit
/// on hosts that keep time.
fn is_fresh(batch: &TelemetryBatch) -> bool {
    let now = clock::reading();
    let age = if now.boot_id == batch.clock.boot_id {
        now.mono_ns.0.saturating_sub(batch.clock.mono_ns.0)
    } else {
        now.wall_unix_ns.abs_diff(batch.clock.wall_unix_ns)
    };
    age <= MAX_AGE_NS
}

fn invalid(reason: InvalidReason, detail: &str) -> Invalid {
    Invalid {
        reason,
        detail: detail.to_owned(),
    }
}

fn by_a_person() -> Invalid {
    invalid(InvalidReason::Cancelled, "stopped by a person")
}

fn by_a_stop() -> Invalid {
    invalid(InvalidReason::Cancelled, "the coordinator was stopped")
}
