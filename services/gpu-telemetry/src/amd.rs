//! AMD GPUs through the files of the kernel's driver amdgpu, `/sys/class/drm/card*/device`.
//!
//! Nothing is linked or loaded: a node without such a GPU has no such files. A GPU is known by the
//! number that its maker gave it, or, for products without one, by its PCI address. What a product has
//! no file for is said to be missing when the GPU is found; a file that fails is tried again. GPUs are
//! looked for every two seconds: one that was unplugged is away, and comes back without a restart.
//!
//! Not read here: what holds the clocks down (`gpu_metrics` has a layout per product), PCIe traffic
//! (`pcie_bw` blocks for a second), and processes that use the GPU without ROCm (Vulkan): the kernel
//! tells of them only in every open file of every process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chimera_domain::telemetry::{
    GapReason, GpuFacts, GpuSample, GpuUuid, ProbeState, ProbeStatus, Source,
};
use chimera_domain::units::MonoNs;

use crate::probe::{Away, GpuProbe, GpuReadings};

mod card;
mod kfd;

use card::{Card, Identity};

/// Time between two searches for GPUs.
const SEARCH_NS: u64 = 2_000_000_000;
/// Most GPUs of one node: a bound, far above what a host holds.
const MAX_CARDS: usize = 64;

/// Reads AMD's GPUs.
pub struct AmdProbe {
    sys: PathBuf,
    cards: Vec<Card>,
    /// Of every GPU seen so far.
    facts: Vec<GpuFacts>,
    /// GPUs seen before that are away.
    away: BTreeMap<GpuUuid, String>,
    search_due: MonoNs,
}

impl AmdProbe {
    /// Looks for GPUs. Never fails: [`GpuProbe::status`] says what came of it.
    ///
    /// `sys`: `/sys`, or in tests a folder laid out like it.
    #[must_use]
    pub fn open(sys: &Path, now: MonoNs) -> Self {
        let mut probe = Self {
            sys: sys.to_owned(),
            cards: Vec::new(),
            facts: Vec::new(),
            away: BTreeMap::new(),
            search_due: now,
        };
        probe.search(now);
        probe
    }

    /// Finds GPUs that are new or back, and notes which are gone.
    fn search(&mut self, now: MonoNs) {
        self.search_due = now.plus(SEARCH_NS);
        let found = identities(&self.sys);
        self.cards.retain(|card| found.contains(card.identity()));
        for identity in found {
            if self.cards.iter().any(|card| *card.identity() == identity) {
                continue;
            }
            if self.away.remove(&identity.uuid).is_some() {
                tracing::info!(gpu = %identity.uuid, "a GPU is back");
            }
            let (card, facts) = Card::open(&self.sys, identity);
            match self.facts.iter_mut().find(|known| known.uuid == facts.uuid) {
                Some(known) => *known = facts,
                None => self.facts.push(facts),
            }
            self.cards.push(card);
        }
        // In the order of the facts, as samples are.
        let place = |uuid: &GpuUuid| self.facts.iter().position(|known| known.uuid == *uuid);
        self.cards.sort_by_key(|card| place(&card.identity().uuid));
        for known in &self.facts {
            let there = self
                .cards
                .iter()
                .any(|card| card.identity().uuid == known.uuid);
            if !there && !self.away.contains_key(&known.uuid) {
                tracing::warn!(gpu = %known.uuid, "a GPU is away; it is looked for");
                let detail = "the kernel no longer lists it".to_owned();
                self.away.insert(known.uuid.clone(), detail);
            }
        }
    }
}

impl GpuProbe for AmdProbe {
    fn sample(&mut self, now: MonoNs) -> GpuReadings {
        if now >= self.search_due {
            self.search(now);
        }
        let mut readings = GpuReadings::default();
        let mut silent = Vec::new();
        for card in &mut self.cards {
            match card.sample(now) {
                Ok(sample) if sample.is_unmeasured() => silent.push((
                    card.identity().uuid.clone(),
                    GapReason::ReadFailed,
                    "not one of its values could be read".to_owned(),
                )),
                Ok(sample) => readings.gpus.push(sample),
                Err(error) => silent.push((
                    card.identity().uuid.clone(),
                    GapReason::GpuLost,
                    format!("its files answer that it is gone ({error})"),
                )),
            }
        }
        for (uuid, reason, detail) in silent {
            if reason == GapReason::GpuLost {
                // Found anew, with new files, when it is back.
                self.cards.retain(|card| card.identity().uuid != uuid);
                self.away.insert(uuid, detail);
            } else {
                readings.away.push(Away {
                    source: Source::Gpu(uuid),
                    reason,
                    detail,
                });
            }
        }
        readings
            .away
            .extend(self.away.iter().map(|(uuid, detail)| Away {
                source: Source::Gpu(uuid.clone()),
                reason: GapReason::GpuLost,
                detail: detail.clone(),
            }));
        readings
    }

    fn sample_slow(&mut self, _gpus: &mut [GpuSample]) {}

    fn facts(&self) -> &[GpuFacts] {
        &self.facts
    }

    /// One per GPU; none if there is no GPU of AMD's: that is not worth a word.
    fn status(&self) -> Vec<ProbeStatus> {
        let of = |known: &GpuFacts| {
            let card = self
                .cards
                .iter()
                .find(|card| card.identity().uuid == known.uuid);
            ProbeStatus {
                source: Source::Gpu(known.uuid.clone()),
                state: ProbeState::Measured {
                    missing: card.map(Card::missing).unwrap_or_default(),
                },
            }
        };
        self.facts.iter().map(of).collect()
    }
}

/// The GPUs of AMD's that the kernel lists, by rising number.
fn identities(sys: &Path) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir(sys.join("class/drm")) else {
        return Vec::new();
    };
    let number = |name: &str| name.strip_prefix("card")?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| number(entry.ok()?.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .take(MAX_CARDS)
        .filter_map(|number| Identity::read(sys, number))
        .collect()
}

#[cfg(test)]
mod tests;
