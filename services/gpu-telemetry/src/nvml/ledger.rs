//! What is remembered of a device between two readings: what it lacks, and what is due.

use std::collections::BTreeMap;

use chimera_domain::telemetry::{Absence, MissingField, TelemetryField};
use chimera_domain::units::MonoNs;

/// Time between two lists of processes: longer than the driver's window for their utilisation on
/// most products (1/6 s), and asking costs more than all else together.
const PROCESSES_NS: u64 = 250_000_000;
/// Time between two readings of what changes seldom.
const SELDOM_NS: u64 = 1_000_000_000;
/// How long a device is not asked again for what it said it cannot give. It may be able to later: a
/// person switched ECC or MIG, or gave permission.
const ASK_AGAIN_NS: u64 = 60_000_000_000;
/// What a MIG instance never has: it is of the whole GPU.
const NOT_OF_INSTANCES: [TelemetryField; 12] = [
    TelemetryField::GpuUtilisation,
    TelemetryField::Power,
    TelemetryField::Energy,
    TelemetryField::SmClock,
    TelemetryField::MemoryClock,
    TelemetryField::ThrottleReasons,
    TelemetryField::PcieRx,
    TelemetryField::PcieTx,
    TelemetryField::Temperature,
    TelemetryField::GpuProcessUtilisation,
    TelemetryField::Ecc,
    TelemetryField::GpuErrors,
];

/// The book of one device; new with every initialisation.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    now: MonoNs,
    missing: BTreeMap<TelemetryField, Lack>,
    processes_due: MonoNs,
    seldom_due: MonoNs,
    /// End of the last window of which the utilisation of processes is known, in the driver's time.
    /// `None`: not asked yet.
    pub(super) window_seen: Option<u64>,
    /// Whether clients of an MPS daemon were seen.
    pub(super) mps_active: Option<bool>,
    /// The device does not know MPS.
    pub(super) no_mps: bool,
}

#[derive(Debug, Clone, Copy)]
struct Lack {
    reason: Absence,
    /// When it was told; `None`: it is so for good.
    told: Option<MonoNs>,
}

impl Ledger {
    /// The book of a MIG instance: only its memory and its processes are asked for.
    pub(super) fn of_instance() -> Self {
        let mut ledger = Self::default();
        for field in NOT_OF_INSTANCES {
            ledger.never(field, Absence::NotSupported);
        }
        ledger
    }

    /// A tick begins.
    pub(super) fn tick(&mut self, now: MonoNs) {
        self.now = now;
    }

    /// Whether to ask for `field`. What a device once said it cannot give, or not to us, is not asked
    /// at every tick.
    pub(super) fn asks(&self, field: TelemetryField) -> bool {
        let Some(lack) = self.missing.get(&field) else {
            return true;
        };
        match lack.reason {
            Absence::NotSupported | Absence::NoPermission | Absence::TooOld => {
                let ago = lack.told.and_then(|told| self.now.since(told));
                ago.is_some_and(|ns| ns >= ASK_AGAIN_NS)
            }
            _ => lack.told.is_some(),
        }
    }

    /// `field` was read.
    pub(super) fn had(&mut self, field: TelemetryField) {
        self.missing.remove(&field);
    }

    /// `field` could not be read.
    pub(super) fn lacks(&mut self, field: TelemetryField, reason: Absence) {
        let told = Some(self.now);
        self.missing.insert(field, Lack { reason, told });
    }

    /// `field` cannot be had until NVML is initialised again.
    pub(super) fn never(&mut self, field: TelemetryField, reason: Absence) {
        self.missing.insert(field, Lack { reason, told: None });
    }

    /// Says of `field` what is said of `like`, which came from the same call.
    pub(super) fn same(&mut self, field: TelemetryField, like: TelemetryField) {
        match self.missing.get(&like).copied() {
            Some(lack) => self.missing.insert(field, lack),
            None => self.missing.remove(&field),
        };
    }

    /// What is missing, by rising field.
    pub(super) fn missing(&self) -> impl Iterator<Item = MissingField> {
        self.missing.iter().map(|(field, lack)| MissingField {
            field: *field,
            reason: lack.reason,
        })
    }

    /// Whether it is time to list processes; if so, the next time is set.
    pub(super) fn processes_due(&mut self) -> bool {
        let due = self.now >= self.processes_due;
        if due {
            self.processes_due = self.now.plus(PROCESSES_NS);
        }
        due
    }

    /// Since when it is time to read what changes seldom, if it is.
    pub(super) fn seldom_due(&self) -> Option<MonoNs> {
        (self.now >= self.seldom_due).then_some(self.seldom_due)
    }

    /// It is read now.
    pub(super) fn seldom_read(&mut self) {
        self.seldom_due = self.now.plus(SELDOM_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_asked_again_after_a_minute_and_what_failed_at_once() {
        let mut ledger = Ledger::default();
        ledger.tick(MonoNs(1));
        ledger.lacks(TelemetryField::Power, Absence::NotSupported);
        ledger.lacks(TelemetryField::Energy, Absence::Unreadable);
        ledger.never(TelemetryField::GpuErrors, Absence::Unreadable);
        ledger.tick(MonoNs(ASK_AGAIN_NS));
        let asks = |ledger: &Ledger| {
            [
                TelemetryField::Power,
                TelemetryField::Energy,
                TelemetryField::GpuErrors,
            ]
            .map(|field| ledger.asks(field))
        };
        assert_eq!(asks(&ledger), [false, true, false]);
        ledger.tick(MonoNs(ASK_AGAIN_NS + 1));
        assert_eq!(asks(&ledger), [true, true, false]);
        ledger.had(TelemetryField::Power);
        assert_eq!(ledger.missing().count(), 2);
    }

    #[test]
    fn processes_are_due_four_times_a_second() {
        let mut ledger = Ledger::default();
        let due = (0..40).filter(|tick| {
            ledger.tick(MonoNs(tick * 50_000_000));
            ledger.processes_due()
        });
        assert_eq!(due.count(), 8);
    }
}
