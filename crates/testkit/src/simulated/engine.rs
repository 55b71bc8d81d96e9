//! An engine instance: its queue, and the one request it works on.

use std::collections::VecDeque;

use chimera_domain::attribution::Cause;

use super::device::{PRESSURED, Pace, Phase, THRASHING};
use super::dice::Dice;
use super::scenario::{Instance, Noise};

/// One millisecond, ns.
pub(super) const MS: f64 = 1e6;

/// A request inside an engine. All instants are ns of the host's clock.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) agent: usize,
    pub(super) prompt: f64,
    pub(super) output: u32,
    pub(super) arrived: f64,
    /// When it may begin: the model is known to be in memory.
    pub(super) ready: f64,
    /// What the engine will state as its load.
    pub(super) load: f64,
    /// A load that is due before it, ns.
    pub(super) reload: Option<f64>,
    pub(super) work: Work,
    pub(super) prefill_began: f64,
    pub(super) prefill_ended: f64,
    /// When each token was written.
    pub(super) tokens: Vec<f64>,
}

/// What is left to do.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Reading the model, ns of wall time left.
    Load(f64),
    /// Template and tokens, ns of wall time left.
    Prepare(f64),
    /// Waiting for room in memory, then ns of undisturbed work left.
    Prefill { pause: f64, left: f64 },
    /// The next token: a pause, then ns of undisturbed work left.
    Decode { pause: f64, left: f64 },
}

impl Job {
    pub(super) fn phase(&self) -> Phase {
        match self.work {
            Work::Load(_) => Phase::Load,
            Work::Prepare(_) => Phase::Idle,
            Work::Prefill { pause, .. } | Work::Decode { pause, .. } if pause > 0.0 => Phase::Idle,
            Work::Prefill { .. } => Phase::Prefill,
            Work::Decode { .. } => Phase::Decode,
        }
    }
}

/// An instance at work.
#[derive(Debug, Clone, Default)]
pub(super) struct Engine {
    pub(super) queue: VecDeque<Job>,
    pub(super) active: Option<Job>,
    /// When its slot became free.
    free: f64,
    /// How often a model was loaded.
    pub(super) loads: u32,
    /// Time lost to whom, ns.
    pub(super) lost: Vec<(Cause, f64)>,
}

/// What an engine needs to know to go on.
pub(super) struct Step<'a> {
    pub(super) instance: &'a Instance,
    pub(super) noise: &'a Noise,
    pub(super) pace: Pace,
    /// Speed in this leg.
    pub(super) speed: f64,
    /// Part of the GPU's memory in use; 0 on the processor.
    pub(super) full: f64,
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Engine {
    pub(super) fn phase(&self) -> Phase {
        self.active.as_ref().map_or(Phase::Idle, Job::phase)
    }

    /// Takes the next request of the queue, if one is there before `to`.
    pub(super) fn admit(&mut self, to: f64, dice: &mut Dice) {
        if self.active.is_some() || self.queue.front().is_none_or(|job| job.ready > to) {
            return;
        }
        let Some(mut job) = self.queue.pop_front() else {
            return;
        };
        job.ready = job.ready.max(self.free);
        job.work = match job.reload {
            Some(load) => {
                self.loads += 1;
                // The scheduler's wait for work under way counts as load.
                job.load = (job.ready - job.arrived) + load;
                Work::Load(load)
            }
            None => Work::Prepare(dice.between(1.5, 5.0) * MS),
        };
        self.active = Some(job);
    }

    /// Works until `step.to`; the request, if it ends before.
    pub(super) fn work(&mut self, step: &Step<'_>, dice: &mut Dice) -> Option<Job> {
        let mut job = self.active.take()?;
        let mut now = step.from.max(job.ready);
        while now < step.to {
            let room = step.to - now;
            let (used, ended) = self.advance(&mut job, room, step, dice);
            now += used;
            if ended {
                let finished = self.next(&mut job, now, step, dice);
                if finished {
                    self.free = now;
                    return Some(job);
                }
            }
        }
        self.active = Some(job);
        None
    }

    /// Goes on with what is at hand for at most `room`; the time it took, and whether it is done.
    fn advance(
        &mut self,
        job: &mut Job,
        room: f64,
        step: &Step<'_>,
        dice: &mut Dice,
    ) -> (f64, bool) {
        let rate = step.speed / step.pace.stretch.max(1e-6);
        match &mut job.work {
            Work::Load(left) | Work::Prepare(left) => {
                let used = left.min(room);
                *left -= used;
                (used, *left <= 0.0)
            }
            Work::Prefill { pause, left } | Work::Decode { pause, left } => {
                if *pause > 0.0 {
                    let used = pause.min(room);
                    *pause -= used;
                    return (used, false);
                }
                let needed = *left / rate;
                let used = needed.min(room);
                *left -= used * rate;
                self.book(used, &step.pace);
                if needed > room {
                    // A stall of the system: rare, short, nobody's fault.
                    if dice.chance(step.noise.hiccups * used / 1e9) {
                        *pause = dice.between(5.0, 20.0) * MS;
                    }
                    return (used, false);
                }
                (used, true)
            }
        }
    }

    /// What comes next; whether that was all.
    fn next(&mut self, job: &mut Job, now: f64, step: &Step<'_>, dice: &mut Dice) -> bool {
        match job.work {
            Work::Load(_) => job.work = Work::Prepare(dice.between(1.5, 5.0) * MS),
            Work::Prepare(_) => {
                job.prefill_began = now;
                let pause = self.room_for_prompt(step.full, dice);
                let left =
                    job.prompt * step.instance.prefill_ms * MS * dice.factor(step.noise.prefill);
                job.work = Work::Prefill { pause, left };
            }
            Work::Prefill { .. } => {
                job.prefill_ended = now;
                job.tokens.push(now);
                job.work = self.token(step, dice);
                return job.output <= 1;
            }
            Work::Decode { .. } => {
                job.tokens.push(now);
                if job.tokens.len() >= job.output as usize {
                    return true;
                }
                job.work = self.token(step, dice);
            }
        }
        false
    }

    fn token(&mut self, step: &Step<'_>, dice: &mut Dice) -> Work {
        let mut pause = 0.0;
        if step.full >= PRESSURED {
            // What was put out of memory to make room is needed again.
            let depth = ((step.full - PRESSURED) / (THRASHING - PRESSURED)).min(1.0);
            if dice.chance(0.02 + 0.05 * depth) {
                pause = dice.between(15.0, 60.0) * MS;
                self.blame(Cause::VramPressure, pause);
            }
        }
        Work::Decode {
            pause,
            left: step.instance.token_ms * MS * dice.factor(step.noise.token),
        }
    }

    /// How long the buffers of a prompt wait for room.
    fn room_for_prompt(&mut self, full: f64, dice: &mut Dice) -> f64 {
        if full < PRESSURED {
            return 0.0;
        }
        let depth = ((full - PRESSURED) / (THRASHING - PRESSURED)).min(1.0);
        let thrashing = if full >= THRASHING {
            400.0 + 5_000.0 * (full - THRASHING)
        } else {
            0.0
        };
        let wait = (80.0 + 370.0 * depth + thrashing) * dice.factor(0.25) * MS;
        self.blame(Cause::VramPressure, wait);
        wait
    }

    /// Notes whose fault how much of `used` is.
    fn book(&mut self, used: f64, pace: &Pace) {
        let total: f64 = pace.faults.iter().map(|(_, log)| log).sum();
        if total <= 1e-9 {
            return;
        }
        let lost = used * (1.0 - (-total).exp());
        for (cause, log) in pace.faults {
            if log > 1e-9 {
                self.blame(cause, lost * log / total);
            }
        }
    }

    pub(super) fn blame(&mut self, cause: Cause, ns: f64) {
        match self.lost.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, lost)) => *lost += ns,
            None => self.lost.push((cause, ns)),
        }
    }
}
