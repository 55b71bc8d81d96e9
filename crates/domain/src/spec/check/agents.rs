//! The agents of a phase: who they are, and what each is called.

use std::collections::BTreeSet;

use super::phase::MAX_THINK_MS;
use super::{MAX_AGENTS, MAX_MODEL, instance_url};
use crate::ids::{AgentId, Role};
use crate::spec::error::Sink;
use crate::spec::options::{self, Setting};
use crate::spec::phase::{AgentSpec, Placement};
use crate::spec::reader::Item;
use crate::spec::valid::{Instances, Model};

/// Longest agent id: `t1000000-r1000-solo-` before it must leave a run id of 64 bytes.
const MAX_AGENT_ID: usize = 40;
/// Longest role: a number may be put behind it to make an id.
const MAX_ROLE: usize = 32;
/// Roles that agents take in turn where none is given.
const ROLES: [&str; 2] = ["collector", "insight"];
/// The report of all agents is called so: an agent of this name would overwrite it.
const RESERVED_ID: &str = "combined";

/// Reads `[[phase.agent]]`.
pub(super) fn read(
    item: &Item<'_>,
    instances: Option<&Instances>,
    placements: &[Placement],
    sink: &mut Sink,
) -> Option<Vec<AgentSpec>> {
    struct Read {
        id: Option<AgentId>,
        role: Role,
        model: Option<String>,
        instance: Option<String>,
        think_ms: Option<u32>,
        options: Vec<Setting>,
    }
    let before = sink.count();
    let mut read = Vec::new();
    let mut ids = BTreeSet::new();
    let mut pinned = BTreeSet::new();
    let owns = placements.contains(&Placement::Pinned);
    let shares = placements.iter().any(|p| p.is_shared());
    for (i, item) in item.list(MAX_AGENTS as usize, sink)?.iter().enumerate() {
        let Some(mut table) = item.table(sink) else {
            continue;
        };
        let id_at = table.take("id");
        let id = id_at
            .as_ref()
            .and_then(|i| i.name(MAX_AGENT_ID, AgentId::try_new, sink));
        let role = match table.take("role") {
            Some(item) => item.name(MAX_ROLE, Role::try_new, sink),
            None => cycled_role(i),
        };
        let model_at = table.take("model");
        let model = model_at.as_ref().and_then(|i| i.line(MAX_MODEL, sink));
        if let (Some(item), Some(Model::AUTO)) = (&model_at, model.as_deref()) {
            let hint = "leave it out: the agent then has the model of [model]";
            item.fault("only [model] can be \"auto\"", hint, sink);
        }
        let think_ms = table
            .take("think_ms")
            .and_then(|i| i.whole(0..=MAX_THINK_MS, sink));
        let instance_at = table.take("instance");
        let instance = instance_at.as_ref().and_then(|i| instance_url(i, sink));
        let options = options::settings(&mut table, sink);
        table.finish(sink);
        if let (Some(id), Some(item)) = (&id, &id_at) {
            if id.as_str() == RESERVED_ID {
                item.fault(
                    "\"combined\" is the report of all agents",
                    "choose another id",
                    sink,
                );
            } else if !ids.insert(id.clone()) {
                item.fault(
                    format!("two agents are called \"{id}\""),
                    "ids must differ",
                    sink,
                );
            }
        }
        if let (Some(url), Some(item)) = (&instance, &instance_at) {
            match instances {
                Some(Instances::Attach(urls)) if !urls.contains(url) => {
                    item.fault(
                        format!("{url} is not one of backend.instances"),
                        "add it there",
                        sink,
                    );
                }
                Some(Instances::Spawn) => {
                    let hint = "list backend.instances, or drop instance";
                    item.fault("spawned engines have no address yet", hint, sink);
                }
                _ if shares && pinned.iter().any(|other| other != url) => {
                    let hint = "agents that share an instance name the same, or none";
                    item.fault("the agents name several instances", hint, sink);
                }
                _ if !pinned.insert(url.clone()) && owns => {
                    let hint = "one agent owns an instance: each must be another one";
                    item.fault(format!("two agents are pinned to {url}"), hint, sink);
                }
                _ => {}
            }
        }
        if let Some(role) = role {
            read.push(Read {
                id,
                role,
                model,
                instance,
                think_ms,
                options,
            });
        }
    }
    if sink.count() > before {
        return None;
    }
    let named = read.into_iter().map(|r| {
        let id = r.id.or_else(|| free_id(&r.role, &mut ids))?;
        Some(AgentSpec {
            id,
            role: r.role,
            model: r.model,
            instance: r.instance,
            think_ms: r.think_ms,
            options: r.options,
        })
    });
    named.collect()
}

fn cycled_role(i: usize) -> Option<Role> {
    ROLES
        .get(i % ROLES.len())
        .and_then(|role| Role::try_new(*role).ok())
}

/// The first `n` agents where none is listed: the roles in turn, each with an id of its own.
pub(crate) fn cycled_agents(n: u32) -> Vec<(AgentId, Role)> {
    let mut taken = BTreeSet::new();
    let roles = (0..n as usize).filter_map(cycled_role);
    roles
        .filter_map(|role| Some((free_id(&role, &mut taken)?, role)))
        .collect()
}

/// An id made of a role: the role itself, or the role with the lowest number that is free.
fn free_id(role: &Role, taken: &mut BTreeSet<AgentId>) -> Option<AgentId> {
    // One more than the agents there can be is always free.
    let id = (1..=MAX_AGENTS + 1)
        .filter(|n| *n > 1 || role.as_str() != RESERVED_ID)
        .filter_map(|n| match n {
            1 => AgentId::try_new(role.as_str()).ok(),
            n => AgentId::try_new(format!("{role}-{n}")).ok(),
        })
        .find(|id| !taken.contains(id))?;
    taken.insert(id.clone());
    Some(id)
}
