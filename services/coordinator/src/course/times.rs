//! How long legs took, and for how long an experiment has been driven. From the log alone, so that
//! a coordinator that takes it over knows what its predecessor had measured.

use std::collections::BTreeMap;

use chimera_domain::ids::RunId;
use chimera_domain::units::MonoNs;

/// Test, and whether the leg is a solo one.
type Kind = (u32, bool);

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Times {
    /// The coordinator whose records are read: its epoch, its first and its last record.
    epoch: Option<(u64, MonoNs, MonoNs)>,
    /// Time of the coordinators before it.
    before_ns: u64,
    /// The leg under way.
    begun: Option<(RunId, u64, MonoNs)>,
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

    pub(super) fn begun(&mut self, run: &RunId, epoch: u64, at: MonoNs) {
        self.begun = Some((run.clone(), epoch, at));
    }

    /// The attempt under way came to nothing.
    pub(super) fn dropped(&mut self) {
        self.begun = None;
    }

    /// A leg ended well.
    pub(super) fn closed(&mut self, run: &RunId, kind: Kind, epoch: u64, at: MonoNs) {
        let Some((begun, begun_under, from)) = self.begun.take() else {
            return;
        };
        if begun != *run || begun_under != epoch {
            return;
        }
        let Some(took) = at.since(from) else { return };
        let (count, sum) = self.taken.entry(kind).or_default();
        *count += 1;
        *sum = sum.saturating_add(took);
    }

    /// What a leg under way has had; `None`: it is not under way.
    pub(super) fn had_ns(&self, run: &RunId, epoch: u64, now: MonoNs) -> Option<u64> {
        let (begun, under, from) = self.begun.as_ref()?;
        (begun == run && *under == epoch).then(|| now.since(*from).unwrap_or(0))
    }

    /// The mean of the legs of this test and kind, else of this kind.
    ///
    /// *Undefined when* no leg of the kind has been measured.
    pub(super) fn expected_ns(&self, kind: Kind) -> Option<u64> {
        self.mean_of(|known| known == kind)
            .or_else(|| self.mean_of(|known| known.1 == kind.1))
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
