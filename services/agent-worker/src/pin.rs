//! Is the instance what was asked for? Asked before the ready vote, so that a wrong one costs no
//! run.

use chimera_domain::control::{Invalid, InvalidReason};
use chimera_domain::event::PinFacts;
use chimera_domain::options::EngineKind;
use chimera_domain::plan::PlannedAgent;

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

/// Compares what the engine says of itself with what was asked.
///
/// `gpu_here`: whether this host has a GPU. Without one a model on the CPU is in its right place;
/// with one it has silently fallen there.
///
/// # Errors
/// Says what differs.
pub(crate) fn check(agent: &PlannedAgent, facts: &PinFacts, gpu_here: bool) -> Result<(), Invalid> {
    let not_ready = |detail| {
        Err(Invalid {
            reason: InvalidReason::NotReady,
            detail,
        })
    };
    let asked = agent.options.num_ctx;
    match (agent.engine, facts.context_length) {
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
        assert!(check(&ollama, &facts(Some(1024), None, None), false).is_ok());
        assert!(check(&ollama, &facts(Some(2048), None, None), false).is_err());
        let openai = agent(EngineKind::Openai);
        assert!(check(&openai, &facts(Some(2048), None, None), false).is_ok());
        let why = check(&openai, &facts(Some(512), None, None), false).unwrap_err();
        assert!(why.detail.contains("512"), "{}", why.detail);
        assert!(
            check(&openai, &facts(None, None, None), false).is_ok(),
            "the engine can't say"
        );
    }

    #[test]
    fn the_cpu_is_wrong_only_where_a_gpu_is() {
        let on_cpu = facts(Some(1024), Some(100), Some(0));
        let mut agent = agent(EngineKind::Ollama);
        assert!(check(&agent, &on_cpu, false).is_ok());
        assert!(check(&agent, &on_cpu, true).is_err());
        agent.options.num_gpu = Some(0);
        assert!(check(&agent, &on_cpu, true).is_ok(), "asked for");
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
