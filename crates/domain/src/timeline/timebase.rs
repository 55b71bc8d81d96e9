//! One time axis for the agents of a leg, and how well it is known.

use std::collections::BTreeMap;

use crate::control::Member;
use crate::units::{BootId, MonoNs};

/// Brings instants of several workers onto one axis.
///
/// Rule: within one boot all processes read the same clock, and instants compare as they are, without
/// error. Across boots each is moved by the offset that the coordinator measured at reservation, and a
/// difference of two boots' instants is uncertain by the sum of the two bounds. Of several workers in
/// one boot the best measured offset serves all. Non-goal: drift within a leg is not modelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timebase<'a> {
    /// Per boot: what to add, and by how much it may be wrong.
    shifts: BTreeMap<&'a BootId, (i64, u64)>,
}

impl<'a> Timebase<'a> {
    /// The axis of a gang.
    #[must_use]
    pub fn of(members: &'a [Member]) -> Self {
        let mut shifts: BTreeMap<&'a BootId, (i64, u64)> = BTreeMap::new();
        for member in members {
            let measured = (member.clock_offset_ns, member.clock_error_ns);
            let known = shifts.entry(&member.clock.boot_id).or_insert(measured);
            if (measured.1, measured.0) < (known.1, known.0) {
                *known = measured;
            }
        }
        if shifts.len() == 1 {
            shifts.values_mut().for_each(|shift| *shift = (0, 0));
        }
        Self { shifts }
    }

    /// An instant on the common axis, ns. *Undefined when* the boot is not one of the gang's.
    #[must_use]
    pub fn place(&self, boot: &BootId, at: MonoNs) -> Option<i128> {
        let (shift, _) = self.shifts.get(boot)?;
        Some(i128::from(at.0) + i128::from(*shift))
    }

    /// Bound on the error of a difference between instants of two boots, ns.
    #[must_use]
    pub fn error_ns(&self, a: &BootId, b: &BootId) -> u64 {
        if a == b {
            return 0;
        }
        let error = |boot| self.shifts.get(boot).map_or(0, |(_, error)| *error);
        error(a).saturating_add(error(b))
    }
}
