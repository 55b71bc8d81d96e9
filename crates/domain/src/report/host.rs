//! What telemetry adds to a report.

use std::collections::{BTreeMap, BTreeSet};

use super::environment::Environment;
use super::types::{EngineHost, RunHost};
use crate::control::Member;
use crate::ids::NodeId;
use crate::telemetry::{GpuFacts, GpuUuid, ProbeState, Series, Source, TelemetryBatch};
use crate::units::{BootId, MonoNs};
use crate::validity::ValidRun;

/// Telemetry of every node and boot.
pub(super) struct Nodes<'a> {
    pub(super) series: BTreeMap<(&'a NodeId, &'a BootId), Series<'a>>,
}

impl<'a> Nodes<'a> {
    /// Sorts batches by node and boot.
    pub(super) fn sort(batches: &'a [TelemetryBatch]) -> Self {
        let mut by_node: BTreeMap<(&'a NodeId, &'a BootId), Vec<&'a TelemetryBatch>> =
            BTreeMap::new();
        for batch in batches {
            by_node
                .entry((&batch.node, &batch.clock.boot_id))
                .or_default()
                .push(batch);
        }
        let series = by_node
            .into_iter()
            .map(|(key, batches)| (key, Series::of_boot(batches, key.1)))
            .collect();
        Self { series }
    }

    /// What was sampled on the host of a member of a gang, in its boot.
    pub(super) fn series<'s>(&'s self, member: &'s Member) -> Option<&'s Series<'a>> {
        self.series.get(&(&member.node, &member.clock.boot_id))
    }

    /// Fills in the GPUs, or why there are none.
    pub(super) fn describe(&self, mut environment: Environment) -> Environment {
        if environment.gpu.is_some() {
            return environment;
        }
        let mut gpus: BTreeMap<&GpuUuid, &GpuFacts> = BTreeMap::new();
        for facts in self.series.values().flat_map(Series::gpus) {
            gpus.entry(&facts.uuid).or_insert(facts);
        }
        if !gpus.is_empty() {
            environment.gpu = Some(gpus.into_values().cloned().collect());
            return environment;
        }
        if environment.gpu_absent.is_none() {
            let told = self
                .series
                .values()
                .flat_map(Series::probes)
                .find_map(|probe| match (&probe.source, &probe.state) {
                    (Source::Gpus, ProbeState::NotMeasured { detail, .. }) => Some(detail.clone()),
                    _ => None,
                });
            let silent = || "no telemetry was recorded".to_owned();
            environment.gpu_absent = Some(told.unwrap_or_else(silent));
        }
        environment
    }

    /// Processor use during the together leg of a run.
    ///
    /// *Undefined when* the agents are on several hosts, or nothing sampled theirs.
    pub(super) fn run_host(&self, run: &ValidRun<'_>) -> Option<RunHost> {
        let leg = run.together();
        let first = leg.log().members.first()?;
        let one_host = leg
            .log()
            .members
            .iter()
            .all(|m| m.node == first.node && m.clock.boot_id == first.clock.boot_id);
        one_host.then_some(())?;
        let series = self.series.get(&(&first.node, &first.clock.boot_id))?;
        let from: MonoNs = leg
            .agents()
            .iter()
            .map(|agent| agent.started().actual)
            .min()?;
        let to: MonoNs = leg.agents().iter().map(|agent| agent.finished().at).max()?;
        // Agents that share an instance share its process: it is named once, with the first of them.
        let mut seen = BTreeSet::new();
        let engines = leg.agents().iter().filter_map(|agent| {
            let pid = agent.pin().pid.filter(|pid| seen.insert(*pid))?;
            Some(EngineHost {
                agent: agent.id().clone(),
                pid,
                cores_used: series.tree_cores_used(pid, from, to),
            })
        });
        Some(RunHost {
            cores_used: series.host_cores_used(from, to),
            complete: series.coverage(&Source::Host, from, to).is_complete(),
            engines: engines.collect(),
        })
    }
}
