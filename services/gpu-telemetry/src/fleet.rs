//! All GPUs of a node, whoever made them, as one probe.

use chimera_domain::telemetry::{Absence, GpuFacts, GpuSample, ProbeState, ProbeStatus, Source};
use chimera_domain::units::MonoNs;

use crate::probe::{Away, GpuProbe, GpuReadings};

/// Several probes as one.
pub struct Fleet {
    probes: Vec<Box<dyn GpuProbe>>,
    /// Of all of them, in their order.
    facts: Vec<GpuFacts>,
}

impl Fleet {
    /// Asks all of `probes`, in this order.
    #[must_use]
    pub fn new(probes: Vec<Box<dyn GpuProbe>>) -> Self {
        let mut fleet = Self {
            probes,
            facts: Vec::new(),
        };
        fleet.gather();
        fleet
    }

    /// Copies the facts of all, if they have changed.
    fn gather(&mut self) {
        let now = || self.probes.iter().flat_map(|probe| probe.facts());
        if !now().eq(&self.facts) {
            self.facts = now().cloned().collect();
        }
    }

    /// How many of the probes have GPUs.
    fn makers(&self) -> usize {
        let with = self.probes.iter().filter(|probe| !probe.facts().is_empty());
        with.count()
    }
}

impl GpuProbe for Fleet {
    fn sample(&mut self, now: MonoNs) -> GpuReadings {
        let mut all = GpuReadings::default();
        let alone = self.makers() <= 1;
        for probe in &mut self.probes {
            let readings = probe.sample(now);
            all.gpus.extend(readings.gpus);
            all.errors.extend(readings.errors);
            for away in readings.away {
                if alone || away.source != Source::Gpus {
                    all.away.push(away);
                    continue;
                }
                // "All GPUs" are those of one maker's driver; the others are read.
                all.away.extend(probe.facts().iter().map(|facts| Away {
                    source: Source::Gpu(facts.uuid.clone()),
                    reason: away.reason,
                    detail: away.detail.clone(),
                }));
            }
        }
        all.errors.sort_by_key(|error| error.at);
        self.gather();
        all
    }

    fn sample_slow(&mut self, gpus: &mut [GpuSample]) {
        for probe in &mut self.probes {
            probe.sample_slow(gpus);
        }
        self.gather();
    }

    fn facts(&self) -> &[GpuFacts] {
        &self.facts
    }

    fn status(&self) -> Vec<ProbeStatus> {
        let makers = self.makers();
        // That one maker's driver is not on the node is no news where another's is.
        let news = |status: &ProbeStatus| {
            let nothing_there = matches!(
                status.state,
                ProbeState::NotMeasured {
                    reason: Absence::NoLibrary | Absence::NoDevice,
                    ..
                }
            );
            makers == 0 || status.source != Source::Gpus || !nothing_there
        };
        let all = self.probes.iter().flat_map(|probe| probe.status());
        all.filter(news).collect()
    }
}

#[cfg(test)]
mod tests {
    use chimera_domain::telemetry::{GapReason, GpuUuid};

    use super::*;

    /// A probe that says what it is told to.
    struct Told {
        facts: Vec<GpuFacts>,
        status: Vec<ProbeStatus>,
        readings: GpuReadings,
    }

    impl Told {
        fn with(uuids: &[&str]) -> Self {
            let facts =
                |(uuid, index): (&&str, u32)| GpuFacts::unknown(GpuUuid((*uuid).to_owned()), index);
            Self {
                facts: uuids.iter().zip(0..).map(facts).collect(),
                status: Vec::new(),
                readings: GpuReadings::default(),
            }
        }

        fn all_away(mut self) -> Self {
            self.readings.away.push(Away {
                source: Source::Gpus,
                reason: GapReason::DriverReset,
                detail: String::new(),
            });
            self
        }

        fn without(mut self, reason: Absence) -> Self {
            self.status.push(ProbeStatus {
                source: Source::Gpus,
                state: ProbeState::NotMeasured {
                    reason,
                    detail: String::new(),
                },
            });
            self
        }
    }

    impl GpuProbe for Told {
        fn sample(&mut self, _now: MonoNs) -> GpuReadings {
            self.readings.clone()
        }
        fn sample_slow(&mut self, _gpus: &mut [GpuSample]) {}
        fn facts(&self) -> &[GpuFacts] {
            &self.facts
        }
        fn status(&self) -> Vec<ProbeStatus> {
            self.status.clone()
        }
    }

    fn fleet(first: Told, second: Told) -> Fleet {
        Fleet::new(vec![Box::new(first), Box::new(second)])
    }

    fn away(mut fleet: Fleet) -> Vec<String> {
        let readings = fleet.sample(MonoNs(1));
        let name = |away: &Away| away.source.to_string();
        readings.away.iter().map(name).collect()
    }

    #[test]
    fn the_driver_of_one_maker_that_is_away_takes_only_its_own_gpus() {
        let both = fleet(Told::with(&["a", "b"]).all_away(), Told::with(&["c"]));
        assert_eq!(both.facts().len(), 3);
        assert_eq!(away(both), ["a", "b"]);
        let one = fleet(Told::with(&["a", "b"]).all_away(), Told::with(&[]));
        assert_eq!(away(one), ["all GPUs"]);
    }

    #[test]
    fn a_driver_that_is_not_there_is_told_only_where_no_other_is() {
        let count = |first, second| fleet(first, second).status().len();
        let none = || Told::with(&[]).without(Absence::NoLibrary);
        assert_eq!(count(none(), Told::with(&["c"])), 0);
        assert_eq!(count(none(), Told::with(&[])), 1);
        // One that is broken is.
        let broken = Told::with(&[]).without(Absence::NoDriver);
        assert_eq!(count(broken, Told::with(&["c"])), 1);
    }
}
