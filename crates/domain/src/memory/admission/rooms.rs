//! What is free where, as telemetry last said.

use std::collections::BTreeMap;

use crate::ids::NodeId;
use crate::memory::Device;
use crate::telemetry::TelemetryBatch;

/// How old telemetry may be to say what is free, ns: a few batches.
pub const MAX_AGE_NS: u64 = 10_000_000_000;

/// One memory's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All of it, bytes.
    pub total_bytes: u64,
    /// What nobody uses, bytes.
    pub free_bytes: u64,
    /// What is to stay free, bytes.
    pub margin_bytes: u64,
}

impl Room {
    /// A memory with the margin that is kept free everywhere ([`MARGIN_SHARE`](crate::memory::MARGIN_SHARE)).
    #[must_use]
    pub fn new(total_bytes: u64, free_bytes: u64) -> Self {
        Self {
            total_bytes,
            free_bytes: free_bytes.min(total_bytes),
            margin_bytes: Device::new(total_bytes).margin_bytes,
        }
    }

    /// What agents may take whose own instances hold `held` bytes of it already.
    #[must_use]
    pub fn available_bytes(&self, held: u64) -> u64 {
        self.free_bytes
            .saturating_add(held)
            .min(self.total_bytes)
            .saturating_sub(self.margin_bytes)
    }
}

/// Which memory an instance's model is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// A GPU's, by UUID.
    Gpu(String),
    /// The host's: it has no GPU.
    Host,
}

/// The memory of an instance, or in words why it cannot be told.
pub type Located = Result<Memory, String>;

/// What is free on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeRooms {
    host: Option<Room>,
    /// By UUID; `None`: what is free on it is not known.
    gpus: BTreeMap<String, Option<Room>>,
}

impl NodeRooms {
    /// What the newest sample of a batch says.
    ///
    /// *Undefined when* a figure was not read. What is free on a GPU that is split by MIG says nothing
    /// about one of its parts, and is not known either.
    #[must_use]
    pub fn of(batch: &TelemetryBatch) -> Self {
        let newest = batch.samples.iter().max_by_key(|sample| sample.at);
        let host = newest.and_then(|sample| {
            let host = &sample.host;
            Some(Room::new(
                host.memory_total_bytes?,
                host.memory_available_bytes?,
            ))
        });
        let gpus = batch.gpus.iter().map(|facts| {
            let sample = newest.and_then(|s| s.gpus.iter().find(|gpu| gpu.uuid == facts.uuid));
            let room = sample.and_then(|sample| {
                let total = facts.memory_total_bytes?;
                let free = sample
                    .memory_free_bytes
                    .or_else(|| total.checked_sub(sample.memory_used_bytes?))?;
                (facts.mig_enabled != Some(true)).then(|| Room::new(total, free))
            });
            (facts.uuid.0.clone(), room)
        });
        Self {
            host,
            gpus: gpus.collect(),
        }
    }

    /// A host with this memory and these GPUs, by UUID.
    #[must_use]
    pub fn new(host: Option<Room>, gpus: impl IntoIterator<Item = (String, Option<Room>)>) -> Self {
        Self {
            host,
            gpus: gpus.into_iter().collect(),
        }
    }
}

/// What is free on every host of which telemetry is fresh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rooms(BTreeMap<NodeId, NodeRooms>);

impl Rooms {
    /// Takes in what is known of a host.
    pub fn insert(&mut self, node: NodeId, rooms: NodeRooms) {
        self.0.insert(node, rooms);
    }

    /// The memory that an instance's model is in: the GPU that it was given, the only one, or the
    /// host's where there is none.
    ///
    /// # Errors
    /// In words, when there is no telemetry of the host, or several GPUs and none was given.
    pub fn locate(&self, node: &NodeId, gpu: Option<&str>) -> Located {
        let Some(rooms) = self.0.get(node) else {
            return Err(format!(
                "no telemetry of {node} in the last {} s: run gpu-telemetry there",
                MAX_AGE_NS / 1_000_000_000
            ));
        };
        match gpu {
            Some(uuid) if rooms.gpus.contains_key(uuid) => Ok(Memory::Gpu(uuid.to_owned())),
            Some(uuid) => Err(format!("telemetry of {node} has no GPU {uuid}")),
            None if rooms.gpus.len() > 1 => Err(format!(
                "{node} has {} GPUs and the worker was given none: start it with --gpu UUID",
                rooms.gpus.len()
            )),
            None => Ok(rooms
                .gpus
                .keys()
                .next()
                .map_or(Memory::Host, |uuid| Memory::Gpu(uuid.clone()))),
        }
    }

    /// What is free in a memory: a GPU's, or without a UUID the host's.
    #[must_use]
    pub fn room(&self, node: &NodeId, gpu: Option<&str>) -> Option<Room> {
        let rooms = self.0.get(node)?;
        match gpu {
            Some(uuid) => rooms.gpus.get(uuid).copied().flatten(),
            None => rooms.host,
        }
    }
}
