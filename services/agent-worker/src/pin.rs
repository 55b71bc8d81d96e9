//! Is the instance what was asked for? Asked before the ready vote, so that a wrong one costs no
//! run.

use chimera_domain::control::{Invalid, InvalidReason};
use chimera_domain::event::PinFacts;
use chimera_domain::options::EngineKind;
use chimera_domain::plan::{PlannedAgent, Topology};

use crate::launcher::EngineSource;

/// What the engine's launch cannot be asked for once it runs elsewhere.
fn launch_only(source: &EngineSource, agent: &PlannedAgent) -> Option<&'static str> {
    let EngineSource::Attach {
        kind: EngineKind::Openai,
        ..
    } = source
    else {
        return None;
    };
    if agent.options.num_thread.is_some() {
        return Some("num_thread");
    }
    agent.options.num_gpu.is_some().then_some("num_gpu")
}

/// Refuses options that this kind of instance cannot honour, before anything is loaded.
///
/// # Errors
/// Names the option and the way out.
pub(crate) fn check_options(source: &EngineSource, agent: &PlannedAgent) -> Result<(), Invalid> {
    match launch_only(source, agent) {
        None => Ok(()),
        Some(option) => Err(Invalid {
            reason: InvalidReason::OptionDrift,
            detail: format!(
                "{option} is fixed when an OpenAI-compatible server is launched and cannot be set \
                 on an attached one: leave it out, or let the worker spawn the server"
            ),
        }),
    }
}

/// Refuses an agent that would change the shared instance under the feet of another one: by a new
/// launch, or by a reload of the model.
///
/// # Errors
/// In words, what the two differ in and the way out.
pub(crate) fn check_company(
    source: &EngineSource,
    agent: &PlannedAgent,
    other: &PlannedAgent,
) -> Result<(), String> {
    let same_model = agent.model == other.model;
    let (a, b) = (&agent.options, &other.options);
    let differing = || {
        [
            ("num_ctx", a.num_ctx == b.num_ctx),
            ("num_batch", a.num_batch == b.num_batch),
            ("num_thread", a.num_thread == b.num_thread),
            ("num_gpu", a.num_gpu == b.num_gpu),
        ]
        .into_iter()
        .find_map(|(name, same)| (!same).then_some(name))
    };
    let differs = match source {
        EngineSource::SpawnOllama { .. } | EngineSource::SpawnLlama { .. } if !same_model => {
            Some("model")
        }
        EngineSource::SpawnOllama { .. } | EngineSource::SpawnLlama { .. } => differing(),
        // It may hold several models, but each of them once.
        EngineSource::Attach {
            kind: EngineKind::Ollama,
            ..
        } if same_model => differing(),
        // Nothing of this is sent to it; what it has is checked against each agent.
        EngineSource::Attach { .. } => None,
    };
    match differs {
        None => Ok(()),
        Some(what) => Err(format!(
            "{} and {} share an instance and ask for a different {what}, which would load the model              anew for each request: give both the same, or pin them to instances of their own",
            other.id, agent.id
        )),
    }
}

/// Compares what the engine says of itself with what was asked.
///
/// `gpu_here`: whether this host has a GPU. Without one a model on the CPU is in its right place;
/// with one it has silently fallen there.
///
/// # Errors
/// Says what differs.
pub(crate) fn check(
    agent: &PlannedAgent,
    topology: Topology,
    facts: &PinFacts,
    gpu_here: bool,
) -> Result<(), Invalid> {
    let not_ready = |detail| {
        Err(Invalid {
            reason: InvalidReason::NotReady,
            detail,
        })
    };
    let asked = agent.options.num_ctx;
    match (agent.engine, facts.context_length) {
        (EngineKind::Ollama, Some(has)) if has < asked && facts.train_context == Some(has) => {
            return not_ready(format!(
                "num_ctx {asked} is more than the {has} tokens that the model was trained with, and \
                 Ollama loads no more: the setting does nothing beyond; ask for at most {has}"
            ));
        }
        (EngineKind::Ollama, Some(has)) if has != asked => {
            return not_ready(format!(
                "the model is loaded with a context of {has} tokens, not {asked}: another client \
                 or an out-of-memory retry changed it"
            ));
        }
        (EngineKind::Openai, Some(has)) if has < asked => {
            return not_ready(format!(
                "the server has a context of {has} tokens per slot and the run asks for {asked}: \
                 start it with a larger --ctx-size, or ask for less with num_ctx"
            ));
        }
        _ => {}
    }
    // Pinned, the one agent asks for one thing at a time: further slots stay empty. An engine that
    // cannot say how many it has (Ollama) is taken as it is.
    if let (Topology::Shared { slots }, Some(has)) = (topology, facts.parallel_slots)
        && has != slots
    {
        return not_ready(format!(
            "the instance works on {has} requests at once and the test asks for {slots}: start it \
             with {slots} slots (--parallel {slots} and {slots} times the context), or ask for {has} \
             with slots = {has}"
        ));
    }
    if let (Some(size), Some(vram)) = (facts.size_bytes, facts.size_vram_bytes)
        && gpu_here
        && agent.options.num_gpu.is_none()
        && vram < size
    {
        return not_ready(format!(
            "only {vram} of {size} bytes of the model are in GPU memory: free memory on the GPU, \
             use a smaller model or context, or set num_gpu to accept a split"
        ));
    }
    Ok(())
}

/// Whether this host has an NVIDIA GPU with its driver loaded.
#[must_use]
pub(crate) fn gpu_here() -> bool {
    std::fs::read_dir("/proc/driver/nvidia/gpus").is_ok_and(|mut gpus| gpus.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_domain::ids::{AgentId, Role};
    use chimera_domain::options::EngineOptions;

    const PINNED: Topology = Topology::Pinned;

    fn agent(engine: EngineKind) -> PlannedAgent {
        PlannedAgent {
            id: AgentId::try_new("a").unwrap(),
            role: Role::try_new("collector").unwrap(),
            engine,
            model: "m".into(),
            options: EngineOptions {
                num_ctx: 1024,
                ..EngineOptions::default()
            },
            instance: None,
            think_ms: 0,
        }
    }

    fn facts(context: Option<u32>, size: Option<u64>, vram: Option<u64>) -> PinFacts {
        PinFacts {
            context_length: context,
            size_bytes: size,
            size_vram_bytes: vram,
            ..PinFacts::default()
        }
    }

    #[test]
    fn a_context_that_is_not_what_was_asked_is_refused() {
        let ollama = agent(EngineKind::Ollama);
        assert!(check(&ollama, PINNED, &facts(Some(1024), None, None), false).is_ok());
        assert!(check(&ollama, PINNED, &facts(Some(2048), None, None), false).is_err());
        let openai = agent(EngineKind::Openai);
        assert!(check(&openai, PINNED, &facts(Some(2048), None, None), false).is_ok());
        let why = check(&openai, PINNED, &facts(Some(512), None, None), false).unwrap_err();
        assert!(why.detail.contains("512"), "{}", why.detail);
        assert!(
            check(&openai, PINNED, &facts(None, None, None), false).is_ok(),
            "the engine can't say"
        );
    }

    #[test]
    fn a_context_beyond_the_training_is_told_from_one_that_was_cut() {
        let asked = agent(EngineKind::Ollama);
        let trained = |context, train_context| PinFacts {
            train_context,
            ..facts(Some(context), None, None)
        };
        let why = |facts: &PinFacts| check(&asked, PINNED, facts, false).unwrap_err().detail;
        let beyond = why(&trained(512, Some(512)));
        assert!(beyond.contains("ask for at most 512"), "{beyond}");
        let cut = why(&trained(512, Some(32_768)));
        assert!(cut.contains("another client"), "{cut}");
        assert!(check(&asked, PINNED, &trained(1024, Some(512)), false).is_ok());
    }

    #[test]
    fn the_cpu_is_wrong_only_where_a_gpu_is() {
        let on_cpu = facts(Some(1024), Some(100), Some(0));
        let mut agent = agent(EngineKind::Ollama);
        assert!(check(&agent, PINNED, &on_cpu, false).is_ok());
        assert!(check(&agent, PINNED, &on_cpu, true).is_err());
        agent.options.num_gpu = Some(0);
        assert!(check(&agent, PINNED, &on_cpu, true).is_ok(), "asked for");
    }

    #[test]
    fn a_shared_instance_must_have_the_slots_that_the_test_asks_for_where_it_can_say() {
        let openai = agent(EngineKind::Openai);
        let with = |slots| PinFacts {
            parallel_slots: slots,
            ..facts(Some(1024), None, None)
        };
        let shared = Topology::Shared { slots: 2 };
        assert!(check(&openai, shared, &with(Some(2)), false).is_ok());
        assert!(
            check(&openai, shared, &with(None), false).is_ok(),
            "it can't say"
        );
        assert!(
            check(&openai, PINNED, &with(Some(4)), false).is_ok(),
            "empty"
        );
        let why = check(&openai, shared, &with(Some(1)), false).unwrap_err();
        assert_eq!(why.reason, InvalidReason::NotReady);
        assert!(why.detail.contains("--parallel 2"), "{}", why.detail);
    }

    #[test]
    fn agents_that_share_must_not_change_the_engine_under_each_other() {
        let attach = |kind| EngineSource::Attach {
            url: url::Url::parse("http://127.0.0.1:1").unwrap(),
            kind,
        };
        let spawn = EngineSource::SpawnOllama {
            program: "ollama".into(),
            gpu: None,
        };
        let one = agent(EngineKind::Ollama);
        let mut two = one.clone();
        two.options.seed = 9;
        two.options.temperature = 1.0;
        assert_eq!(check_company(&spawn, &one, &two), Ok(()), "per request");
        two.options.num_ctx = 2048;
        for source in [&spawn, &attach(EngineKind::Ollama)] {
            let why = check_company(source, &one, &two).unwrap_err();
            assert!(why.contains("num_ctx"), "{why}");
        }
        assert_eq!(
            check_company(&attach(EngineKind::Openai), &one, &two),
            Ok(())
        );
        let mut other = one.clone();
        other.model = "another".into();
        assert!(check_company(&spawn, &one, &other).is_err());
        assert_eq!(
            check_company(&attach(EngineKind::Ollama), &one, &other),
            Ok(())
        );
    }

    #[test]
    fn an_attached_server_cannot_be_given_threads() {
        let source = EngineSource::Attach {
            url: url::Url::parse("http://127.0.0.1:1").unwrap(),
            kind: EngineKind::Openai,
        };
        let mut agent = agent(EngineKind::Openai);
        assert!(check_options(&source, &agent).is_ok());
        agent.options.num_thread = Some(2);
        let why = check_options(&source, &agent).unwrap_err();
        assert_eq!(why.reason, InvalidReason::OptionDrift);
    }
}
