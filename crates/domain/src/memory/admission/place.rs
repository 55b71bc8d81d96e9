//! Seats where agents fit: first fit, the largest first.

use std::collections::BTreeMap;

use super::rooms::{Memory, Rooms};
use crate::ids::NodeId;

/// An agent that needs a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it needs on a GPU, bytes.
    pub device_bytes: u64,
    /// What it needs on a host without GPU, bytes.
    pub host_only_bytes: u64,
    /// Seats that it may take, as indices into the candidates.
    pub eligible: Vec<usize>,
}

/// A seat that one agent can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its host.
    pub node: NodeId,
    /// The one GPU that its instance sees; `None`: it sees what the host has.
    pub gpu: Option<String>,
    /// What its instance holds of its memory already, bytes.
    pub held_bytes: u64,
}

/// Seats for agents so that no memory is asked for more than is available there: each agent takes
/// its first eligible seat where it fits, the largest agents first; ties go by the order given.
/// Agents with a single eligible seat are seated before the others, so that nobody takes it from
/// them.
///
/// *Shape*: the index of a candidate for each item, no two alike. *Undefined when* an agent finds
/// none, or nothing is known of a memory: seats are then taken by name.
#[must_use]
pub fn place(items: &[Item], candidates: &[Candidate], rooms: &Rooms) -> Option<Vec<usize>> {
    let memories: Vec<Option<(&NodeId, Memory)>> = candidates
        .iter()
        .map(|c| Some((&c.node, rooms.locate(&c.node, c.gpu.as_deref()).ok()?)))
        .collect();
    // An instance lets go of what it holds only if it gets an agent: its bytes are no room of others.
    let mut left: BTreeMap<(&NodeId, Memory), u64> = BTreeMap::new();
    for memory in memories.iter().flatten() {
        let gpu = match &memory.1 {
            Memory::Gpu(uuid) => Some(uuid.as_str()),
            Memory::Host => None,
        };
        if let Some(room) = rooms.room(memory.0, gpu) {
            left.insert(memory.clone(), room.available_bytes(0));
        }
    }
    let mut order: Vec<(usize, &Item)> = items.iter().enumerate().collect();
    let size = |item: &Item| item.device_bytes.max(item.host_only_bytes);
    order.sort_by_key(|(_, item)| (item.eligible.len() != 1, std::cmp::Reverse(size(item))));
    let mut chosen: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, item) in order {
        let seat = item.eligible.iter().copied().find_map(|seat| {
            if chosen.values().any(|taken| *taken == seat) {
                return None;
            }
            let memory = memories.get(seat)?.as_ref()?;
            let needed = match memory.1 {
                Memory::Gpu(_) => item.device_bytes,
                Memory::Host => item.host_only_bytes,
            };
            let more = needed.saturating_sub(candidates.get(seat)?.held_bytes);
            let rest = left.get(memory)?.checked_sub(more)?;
            Some((seat, memory.clone(), rest))
        });
        let (seat, memory, rest) = seat?;
        left.insert(memory, rest);
        chosen.insert(index, seat);
    }
    Some(chosen.into_values().collect())
}
