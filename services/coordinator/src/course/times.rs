//! How long legs took, and for how long an experiment has been driven. From the log alone, so that
//! a coordinator that takes it over knows what its predecessor had measured.

use std::collections::BTreeMap;

use chimera_domain::ids::RunId;
use chimera_domain::plan::{LegKind, PlannedLeg};
use chimera_domain::units::MonoNs;

/// What makes legs alike in the time that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    test: u32,
    solo: bool,
}

impl Kind {
    pub(super) fn of(leg: &PlannedLeg) -> Self {
        Self {
            test: leg.test,
            solo: matches!(leg.kind, LegKind::Solo { .. }),
        }
    }
}

/// A leg under way.
#[derive(Debug, Clone, PartialEq)]
struct Begun {
    run: RunId,
    kind: Kind,
    epoch: u64,
    at: MonoNs,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Times {
    /// The coordinator whose records are read: its epoch, its first and its last record.
    epoch: Option<(u64, MonoNs, MonoNs)>,
    /// Time of the coordinators before it.
    before_ns: u64,
    /// The leg under way.
    begun: Option<Begun>,
    /// Count and sum of the valid legs.
    taken: BTreeMap<Kind, (u64, u64)>,
}

impl Times {
    /// A record was written. An epoch is one process on one boot, so that its stamps compare.
    pub(super) fn seen(&mut self, epoch: u64, at: MonoNs) {
        match &mut self.epoch {
            Some((current, _, last)) if *current == epoch => *last = (*last).max(at),
            other => {
                if let Some((_, first, last)) = *other {
                    let spent = last.since(first).unwrap_or(0);
                    self.before_ns = self.before_ns.saturating_add(spent);
                }
                *other = Some((epoch, at, at));
            }
        }
    }

    /// The gang of a leg is complete.
    pub(super) fn begun(&mut self, leg: &PlannedLeg, epoch: u64, at: MonoNs) {
        self.begun = Some(Begun {
            run: leg.run_id.clone(),
            kind: Kind::of(leg),
            epoch,
            at,
        });
    }

    /// The attempt under way came to nothing.
    pub(super) fn dropped(&mut self) {
        self.begun = None;
    }

    /// A leg ended well.
    pub(super) fn closed(&mut self, run: &RunId, epoch: u64, at: MonoNs) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        if begun.run != *run || begun.epoch != epoch {
            return;
        }
        let Some(took) = at.since(begun.at) else {
            return;
        };
        let (count, sum) = self.taken.entry(begun.kind).or_default();
        *count += 1;
        *sum = sum.saturating_add(took);
    }

    /// The leg under way, and what it has had; `None`: there is none.
    pub(super) fn under_way(&self, epoch: u64, now: MonoNs) -> Option<(Kind, u64)> {
        let begun = self.begun.as_ref().filter(|begun| begun.epoch == epoch)?;
        Some((begun.kind, now.since(begun.at).unwrap_or(0)))
    }

    /// The mean of the legs of this test and kind, else of this kind.
    ///
    /// *Undefined when* no leg of the kind has been measured.
    pub(super) fn expected_ns(&self, kind: Kind) -> Option<u64> {
        self.mean_of(|known| known == kind)
            .or_else(|| self.mean_of(|known| known.solo == kind.solo))
    }

    /// The mean of all legs.
    ///
    /// *Undefined when* none has been measured.
    pub(super) fn mean_ns(&self) -> Option<u64> {
        self.mean_of(|_| true)
    }

    fn mean_of(&self, wanted: impl Fn(Kind) -> bool) -> Option<u64> {
        let some = self.taken.iter().filter(|(kind, _)| wanted(**kind));
        let (count, sum) = some.fold((0_u64, 0_u64), |(n, all), (_, (count, sum))| {
            (n + count, all.saturating_add(*sum))
        });
        sum.checked_div(count)
    }

    /// Time for which coordinators have driven it, as seen by the one of this epoch.
    pub(super) fn elapsed_ns(&self, epoch: u64, now: MonoNs) -> u64 {
        let current = match self.epoch {
            Some((current, first, _)) if current == epoch => now.since(first),
            Some((_, first, last)) => last.since(first),
            None => None,
        };
        self.before_ns.saturating_add(current.unwrap_or(0))
    }
}
