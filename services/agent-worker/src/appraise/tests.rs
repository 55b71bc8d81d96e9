use chimera_domain::ids::{AgentId, Role};
use chimera_domain::options::EngineOptions;

use super::*;

fn agent(num_ctx: u32, num_gpu: Option<u32>) -> PlannedAgent {
    PlannedAgent {
        id: AgentId::try_new("a").unwrap(),
        role: Role::try_new("collector").unwrap(),
        engine: EngineKind::Openai,
        model: "m".into(),
        options: EngineOptions {
            num_ctx,
            num_gpu,
            ..EngineOptions::default()
        },
        instance: None,
        think_ms: 0,
    }
}

/// A model of one layer: 64 values wide, one head, 8 tokens, all of it in half precision.
fn model_file(dir: &Path) -> std::path::PathBuf {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    let tensors: [(&str, [u64; 2]); 2] = [
        ("token_embd.weight", [64, 8]),
        ("blk.0.attn_k.weight", [64, 64]),
    ];
    let numbers = [
        ("llama.block_count", 1_u32),
        ("llama.embedding_length", 64),
        ("llama.feed_forward_length", 128),
        ("llama.attention.head_count", 1),
        ("llama.attention.head_count_kv", 1),
    ];
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((numbers.len() as u64 + 1).to_le_bytes());
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    text(&mut bytes, "llama");
    for (key, value) in numbers {
        text(&mut bytes, key);
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    for (name, shape) in tensors {
        text(&mut bytes, name);
        bytes.extend(2_u32.to_le_bytes());
        for length in shape {
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
    }
    let path = dir.join("m.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn file(model: &Path, running: Option<Box<crate::launcher::Held>>) -> Subject {
    Subject::File {
        model: model.to_owned(),
        running,
    }
}

#[tokio::test]
async fn a_model_file_tells_what_an_agent_takes_with_its_context() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_file(dir.path());
    let ask = |ctx, layers, topology| {
        let model = model.clone();
        async move {
            appraise(file(&model, None), &agent(ctx, layers), topology)
                .await
                .unwrap()
        }
    };
    let short = ask(1024, None, Topology::Pinned).await;
    let long = ask(2048, None, Topology::Pinned).await;
    // A key and a value of 64 halves for each of 1024 tokens more, and what masks take.
    assert!(long.host_only.bytes >= short.host_only.bytes + 1024 * 2 * 64 * 2);
    assert!(long.device.bytes > short.device.bytes);
    let mapped = short.mapped.clone().unwrap();
    assert_eq!(
        mapped.bytes,
        (64 * 8 + 64 * 64) * 2,
        "the tensors of the file"
    );
    assert!(mapped.file.ends_with("m.gguf"));
    // Two slots have a context each.
    let shared = ask(1024, None, Topology::Shared { slots: 2 }).await;
    assert!(shared.host_only.bytes >= short.host_only.bytes + 1024 * 2 * 64 * 2);
    let on_host = ask(1024, Some(0), Topology::Pinned).await;
    assert_eq!(on_host.device.bytes, 0);
}

#[tokio::test]
async fn what_the_server_that_runs_holds_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_file(dir.path());
    let running = crate::launcher::Held {
        model: model.clone(),
        agent: agent(1024, None),
        topology: Topology::Pinned,
    };
    let asked = agent(1024, None);
    let need = appraise(
        file(&model, Some(Box::new(running))),
        &asked,
        Topology::Pinned,
    )
    .await
    .unwrap();
    assert_eq!(need.held_device_bytes, need.device.bytes);
    let mapped = need.mapped.unwrap().bytes;
    assert_eq!(need.held_host_bytes, need.host_only.bytes - mapped);
}

#[tokio::test]
async fn what_cannot_be_told_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    std::fs::write(&path, b"no model").unwrap();
    let asked = agent(1024, None);
    let pinned = Topology::Pinned;
    let why = appraise(file(&path, None), &asked, pinned)
        .await
        .unwrap_err();
    assert!(why.contains("no GGUF file"), "{why}");
    let attached = Subject::Asked {
        url: Url::parse("http://127.0.0.1:9/").unwrap(),
        kind: EngineKind::Openai,
    };
    let why = appraise(attached, &asked, pinned).await.unwrap_err();
    assert!(why.contains("OpenAI-compatible"), "{why}");
    let why = appraise(Subject::NotStarted, &asked, pinned)
        .await
        .unwrap_err();
    assert!(why.contains("not been started"), "{why}");
}
