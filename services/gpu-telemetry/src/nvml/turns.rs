//! What is read of one GPU at a time, in turn.

use chimera_domain::telemetry::{GpuSample, TelemetryField};
use nvml_wrapper::enum_wrappers::device::PcieUtilCounter;

use super::device::Reader;
use super::listing::{Place, instances};
use super::map::optional;
use super::{NvmlProbe, State};

impl NvmlProbe {
    /// Reads what changes seldom of the GPU for which it is due longest.
    pub(super) fn seldom(&mut self, gpus: &mut [GpuSample]) {
        let State::Open { nvml, present, .. } = &self.state else {
            return;
        };
        let due = |place: &&Place| self.ledgers.get(&place.uuid)?.seldom_due();
        let turn = present
            .iter()
            .filter(|place| place.instance.is_none())
            .filter_map(|place| Some((due(&place)?, place)))
            .min_by_key(|(since, _)| *since);
        let Some((_, place)) = turn else {
            return;
        };
        let (Some(ledger), Some(facts), Ok(gpu)) = (
            self.ledgers.get_mut(&place.uuid),
            self.facts.iter_mut().find(|known| known.uuid == place.uuid),
            place.open(nvml),
        ) else {
            return;
        };
        let sample = gpus.iter_mut().find(|sample| sample.uuid == place.uuid);
        Reader { gpu: &gpu, ledger }.seldom(sample, facts);
        let known: Vec<&str> = present
            .iter()
            .filter(|other| other.index == place.index && other.instance.is_some())
            .map(|instance| instance.uuid.0.as_str())
            .collect();
        let instances = instances(&gpu, facts.mig_enabled);
        if !instances
            .iter()
            .map(|(_, uuid, _)| uuid.0.as_str())
            .eq(known)
        {
            self.relist = true;
        }
    }

    /// Measures the PCIe traffic of one GPU in one direction.
    pub(super) fn traffic(&mut self, gpus: &mut [GpuSample]) {
        let State::Open { nvml, present, .. } = &self.state else {
            return;
        };
        let whole: Vec<&Place> = present
            .iter()
            .filter(|place| place.instance.is_none())
            .collect();
        if !self.pcie || whole.is_empty() {
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let Some(place) = whole.get((self.turn / 2) % whole.len()) else {
            return;
        };
        let Some(sample) = gpus.iter_mut().find(|sample| sample.uuid == place.uuid) else {
            return;
        };
        let receive = self.turn.is_multiple_of(2);
        let (field, counter) = if receive {
            (TelemetryField::PcieRx, PcieUtilCounter::Receive)
        } else {
            (TelemetryField::PcieTx, PcieUtilCounter::Send)
        };
        let ledger = self.ledgers.entry(place.uuid.clone()).or_default();
        if !ledger.asks(field) {
            return;
        }
        let rate = place
            .open(nvml)
            .and_then(|gpu| gpu.pcie_throughput(counter));
        // A lost device or driver is noticed, and told as such, by the next `sample`.
        let rate = match rate {
            Ok(kilobytes) => {
                ledger.had(field);
                Some(u64::from(kilobytes).saturating_mul(1000))
            }
            Err(error) => {
                ledger.lacks(field, optional(&error));
                None
            }
        };
        if receive {
            sample.pcie_rx_bytes_per_s = rate;
        } else {
            sample.pcie_tx_bytes_per_s = rate;
        }
    }
}
