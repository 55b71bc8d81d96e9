//! The life of one leg as a pure machine: what was heard, and the time, give what to do next.
//!
//! RESERVE (all or none) -> WARM -> READY votes -> COMMIT -> RUN -> DRAIN -> CLOSE. Nothing here
//! waits, sends or reads a clock, so every order of messages can be tested.

mod messages;

use std::collections::VecDeque;

use chimera_domain::control::{ControlRecord, Invalid, InvalidReason, LegVerdict, Member};
use chimera_domain::event::{AgentFailure, PinFacts};
use chimera_domain::ids::{AgentId, WorkerId};
use chimera_domain::plan::PlannedLeg;
use chimera_domain::units::MonoNs;

pub use messages::{Effect, Input, LegLimits, Seat};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Reserving,
    Warming,
    Running,
    Draining,
    Closed,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Reserving => "reserving",
            Self::Warming => "warming",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }
}

#[derive(Debug, Clone)]
struct SeatState {
    seat: Seat,
    leased: bool,
    ready: bool,
    released_at: Option<MonoNs>,
    first_wave: bool,
    deviation_ns: Option<i128>,
    idle: bool,
    finished: bool,
}

/// The machine of one attempt at one leg.
#[derive(Debug, Clone)]
pub struct LegMachine {
    leg: PlannedLeg,
    limits: LegLimits,
    max_concurrent: usize,
    seats: Vec<SeatState>,
    queue: VecDeque<usize>,
    stage: Stage,
    deadline: MonoNs,
}

impl LegMachine {
    /// Opens the leg: the reservations go out in worker order, so that two coordinators could
    /// never hold half a gang each for ever.
    #[must_use]
    pub fn open(
        leg: PlannedLeg,
        seats: Vec<Seat>,
        max_concurrent: usize,
        limits: LegLimits,
        now: MonoNs,
    ) -> (Self, Vec<Effect>) {
        let mut order: Vec<(WorkerId, AgentId)> = seats
            .iter()
            .map(|s| (s.member.worker.clone(), s.member.agent.clone()))
            .collect();
        order.sort();
        let effects = order
            .into_iter()
            .map(|(_, agent)| Effect::Reserve(agent))
            .collect();
        let machine = Self {
            leg,
            max_concurrent: max_concurrent.max(1),
            seats: seats
                .into_iter()
                .map(|seat| SeatState {
                    seat,
                    leased: false,
                    ready: false,
                    released_at: None,
                    first_wave: false,
                    deviation_ns: None,
                    idle: false,
                    finished: false,
                })
                .collect(),
            queue: VecDeque::new(),
            stage: Stage::Reserving,
            deadline: now.plus(limits.reserve_ns),
            limits,
        };
        (machine, effects)
    }

    /// The instant by which [`Input::Tick`] must be given.
    #[must_use]
    pub fn deadline(&self) -> MonoNs {
        self.deadline
    }

    /// Whether the leg is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// The stage in a word, for people.
    #[must_use]
    pub fn stage_name(&self) -> &'static str {
        self.stage.name()
    }

    /// Agents whose last step has ended.
    pub fn agents_done(&self) -> impl Iterator<Item = &AgentId> {
        self.seats
            .iter()
            .filter(|s| s.idle)
            .map(|s| &s.seat.member.agent)
    }

    /// Takes one input. After the leg is closed nothing has an effect.
    pub fn step(&mut self, input: Input, now: MonoNs) -> Vec<Effect> {
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        match input {
            Input::LeaseReply {
                agent,
                refused: Some(why),
            } => self.close_invalid(
                InvalidReason::NoGang,
                format!("{agent}: worker refused: {why}"),
            ),
            Input::LeaseReply {
                agent,
                refused: None,
            } => self.leased(&agent, now),
            Input::Ready {
                agent,
                pin,
                warm_ns,
            } => self.ready(&agent, *pin, warm_ns, now),
            Input::NotReady { agent, why } => {
                self.close_invalid(why.reason, format!("{agent}: {}", why.detail))
            }
            Input::Started {
                agent,
                planned,
                actual,
            } => {
                if let Some(seat) = self.seat_mut(&agent) {
                    seat.deviation_ns = Some(i128::from(actual.0) - i128::from(planned.0));
                }
                Vec::new()
            }
            Input::Idle { agent } => self.idle(&agent, now),
            Input::Finished {
                agent,
                failure: Some(failure),
            } => {
                let reason = reason_of(&failure);
                self.close_invalid(
                    reason,
                    format!("{agent}: {}: {}", failure.label, failure.detail),
                )
            }
            Input::Finished {
                agent,
                failure: None,
            } => self.finished(&agent, now),
            Input::WorkerLost { worker, detail } => {
                self.worker_gone(&worker, InvalidReason::WorkerLost, &detail)
            }
            Input::LeaseLost { worker, detail } => {
                self.worker_gone(&worker, InvalidReason::LeaseLost, &detail)
            }
            Input::Tick if now >= self.deadline => self.timed_out(),
            Input::Tick => Vec::new(),
            Input::Cancel => {
                self.close_invalid(InvalidReason::Cancelled, "stopped by a person".to_owned())
            }
            Input::Shutdown => self.close_invalid(
                InvalidReason::CoordinatorRestart,
                "the coordinator was stopped during the leg".to_owned(),
            ),
            Input::LogFailed { detail } => self.close_invalid(
                InvalidReason::Storage,
                format!("the control log could not be written: {detail}"),
            ),
        }
    }

    /// Takes the failure of an effect. Where it closes the leg, what was still to be done falls away:
    /// it followed from what was not done, and nobody may warm or start on a record that is not in
    /// the log.
    pub fn failed(&mut self, failure: Input, todo: &mut VecDeque<Effect>, now: MonoNs) {
        let instead = self.step(failure, now);
        if !instead.is_empty() {
            todo.clear();
        }
        todo.extend(instead);
    }

    fn seat_mut(&mut self, agent: &AgentId) -> Option<&mut SeatState> {
        self.seats
            .iter_mut()
            .find(|s| s.seat.member.agent == *agent)
    }

    fn leased(&mut self, agent: &AgentId, now: MonoNs) -> Vec<Effect> {
        if let Some(seat) = self.seat_mut(agent) {
            seat.leased = true;
        }
        if self.stage != Stage::Reserving || !self.seats.iter().all(|s| s.leased) {
            return Vec::new();
        }
        self.enter(Stage::Warming, now.plus(self.limits.warm_ns));
        let members = self.seats.iter().map(|s| s.seat.member.clone()).collect();
        let mut effects = vec![Effect::record(ControlRecord::Reserved {
            leg: self.leg.clone(),
            members,
        })];
        // The largest first: it needs the room most. Of one size: in pin order.
        let mut order: Vec<&Seat> = self.seats.iter().map(|s| &s.seat).collect();
        order.sort_by_key(|seat| std::cmp::Reverse(seat.size_bytes));
        let warm = |seat: &Seat| Effect::Warm(seat.member.agent.clone());
        effects.extend(order.into_iter().map(warm));
        effects
    }

    fn ready(&mut self, agent: &AgentId, pin: PinFacts, warm_ns: u64, now: MonoNs) -> Vec<Effect> {
        if self.stage != Stage::Warming {
            return Vec::new();
        }
        let Some(seat) = self.seat_mut(agent) else {
            return Vec::new();
        };
        if std::mem::replace(&mut seat.ready, true) {
            return Vec::new();
        }
        let mut effects = vec![Effect::record(ControlRecord::Ready {
            agent: agent.clone(),
            pin,
            warm_ns,
        })];
        if self.seats.iter().all(|s| s.ready) {
            effects.extend(self.commit(now));
        }
        effects
    }

    /// Everyone voted ready: the first wave gets a common instant, the rest queue in pin order.
    fn commit(&mut self, now: MonoNs) -> Vec<Effect> {
        let slowest_rtt = self.seats.iter().map(|s| s.seat.rtt_ns).max().unwrap_or(0);
        let start = now.plus(
            self.limits
                .start_lead_ns
                .max(slowest_rtt.saturating_mul(10)),
        );
        self.enter(Stage::Running, start.plus(self.limits.run_ns));
        let mut start_at = Vec::new();
        let mut queued = Vec::new();
        for (index, state) in self.seats.iter_mut().enumerate() {
            let agent = state.seat.member.agent.clone();
            if index < self.max_concurrent {
                state.first_wave = true;
                state.released_at = Some(start);
                start_at.push((agent, on_worker_clock(start, &state.seat.member)));
            } else {
                self.queue.push_back(index);
                queued.push(agent);
            }
        }
        let commits: Vec<_> = start_at
            .iter()
            .map(|(agent, at)| Effect::Commit(agent.clone(), *at))
            .collect();
        let mut effects = vec![Effect::record(ControlRecord::Committed {
            start_at,
            queued,
        })];
        effects.extend(commits);
        effects
    }

    fn idle(&mut self, agent: &AgentId, now: MonoNs) -> Vec<Effect> {
        let Some(seat) = self.seat_mut(agent) else {
            return Vec::new();
        };
        if seat.released_at.is_none() || std::mem::replace(&mut seat.idle, true) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if let Some(next) = self.queue.pop_front()
            && let Some(state) = self.seats.get_mut(next)
        {
            // No lead: the worker is already warm and waiting, and nobody waits for it in turn.
            state.released_at = Some(now);
            let agent = state.seat.member.agent.clone();
            let at = on_worker_clock(now, &state.seat.member);
            effects.push(Effect::record(ControlRecord::Dequeued {
                agent: agent.clone(),
                start_at: at,
            }));
            effects.push(Effect::Commit(agent, at));
        }
        if self.stage == Stage::Running && self.seats.iter().all(|s| s.idle) {
            self.enter(Stage::Draining, now.plus(self.limits.drain_ns));
        }
        effects
    }

    fn finished(&mut self, agent: &AgentId, now: MonoNs) -> Vec<Effect> {
        // `Finished` implies `Idle`; a worker that says only the former is still heard.
        let mut effects = self.idle(agent, now);
        if let Some(seat) = self.seat_mut(agent) {
            seat.finished = seat.idle;
        }
        if !self.seats.iter().all(|s| s.finished) {
            return effects;
        }
        let verdict = match self.skew_ns() {
            Some(skew) if skew > i128::from(self.limits.start_skew_ns) => {
                LegVerdict::Invalid(Invalid {
                    reason: InvalidReason::StartSkew,
                    detail: format!(
                        "agents started {:.3} ms apart; the limit is {:.3} ms",
                        ms(skew),
                        ms(i128::from(self.limits.start_skew_ns))
                    ),
                })
            }
            _ => LegVerdict::Valid,
        };
        effects.extend(
            self.seats
                .iter()
                .map(|s| Effect::Release(s.seat.member.agent.clone(), "run closed".to_owned())),
        );
        effects.extend(self.close(verdict));
        effects
    }

    /// Spread of the deviations from the planned instants among the agents released together.
    fn skew_ns(&self) -> Option<i128> {
        let deviations = || {
            self.seats
                .iter()
                .filter(|s| s.first_wave)
                .filter_map(|s| s.deviation_ns)
        };
        Some(deviations().max()? - deviations().min()?)
    }

    fn worker_gone(
        &mut self,
        worker: &WorkerId,
        reason: InvalidReason,
        detail: &str,
    ) -> Vec<Effect> {
        // Agents that share an instance share its worker: all of them are gone with it.
        let lost: Vec<&str> = self
            .seats
            .iter()
            .filter(|s| s.seat.member.worker == *worker && !s.finished)
            .map(|s| s.seat.member.agent.as_str())
            .collect();
        if lost.is_empty() {
            return Vec::new();
        }
        let detail = format!(
            "{} on worker {worker} while {}: {detail}",
            lost.join(", "),
            self.stage.name()
        );
        self.close_invalid(reason, detail)
    }

    fn timed_out(&mut self) -> Vec<Effect> {
        let missing: Vec<&str> = self
            .seats
            .iter()
            .filter(|s| match self.stage {
                Stage::Reserving => !s.leased,
                Stage::Warming => !s.ready,
                Stage::Running => !s.idle,
                Stage::Draining | Stage::Closed => !s.finished,
            })
            .map(|s| s.seat.member.agent.as_str())
            .collect();
        let limit_ns = match self.stage {
            Stage::Reserving => self.limits.reserve_ns,
            Stage::Warming => self.limits.warm_ns,
            Stage::Running => self.limits.run_ns,
            Stage::Draining | Stage::Closed => self.limits.drain_ns,
        };
        let detail = format!(
            "{} took longer than {} s; still waiting for {}",
            self.stage.name(),
            limit_ns / 1_000_000_000,
            missing.join(", ")
        );
        self.close_invalid(InvalidReason::Timeout, detail)
    }

    fn close_invalid(&mut self, reason: InvalidReason, detail: String) -> Vec<Effect> {
        let words = format!("run invalid ({}): {detail}", reason.as_str());
        let mut effects: Vec<_> = self
            .seats
            .iter()
            .map(|s| Effect::Release(s.seat.member.agent.clone(), words.clone()))
            .collect();
        effects.extend(self.close(LegVerdict::Invalid(Invalid { reason, detail })));
        effects
    }

    fn close(&mut self, verdict: LegVerdict) -> [Effect; 2] {
        self.stage = Stage::Closed;
        [
            Effect::record(ControlRecord::Closed {
                verdict: verdict.clone(),
            }),
            Effect::Close(verdict),
        ]
    }

    fn enter(&mut self, stage: Stage, deadline: MonoNs) {
        self.stage = stage;
        self.deadline = deadline;
    }
}

/// Our instant on the member's own clock.
fn on_worker_clock(at: MonoNs, member: &Member) -> MonoNs {
    MonoNs(at.0.saturating_add_signed(member.clock_offset_ns.saturating_neg()))
}

#[expect(clippy::cast_precision_loss, reason = "display only")]
fn ms(ns: i128) -> f64 {
    ns as f64 / 1e6
}

/// An agent's failure label says what kind of invalid run it makes.
fn reason_of(failure: &AgentFailure) -> InvalidReason {
    match failure.label.as_str() {
        "storage" => InvalidReason::Storage,
        "option_drift" => InvalidReason::OptionDrift,
        "pin" => InvalidReason::PinChanged,
        "fenced" => InvalidReason::LeaseLost,
        "request:truncated" => InvalidReason::Truncated,
        label if label.starts_with("request:") => InvalidReason::RequestFailed,
        _ => InvalidReason::AgentFailed,
    }
}

#[cfg(test)]
mod tests;
