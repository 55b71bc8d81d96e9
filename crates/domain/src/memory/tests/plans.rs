//! Plans against what the engines themselves logged (docs/memory.md, "Measured").

use proptest::prelude::*;

use super::super::{AgentMemory, EngineSettings, KvType, Layout, Provenance};
use super::gemma;
use super::headers::small;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

fn cpu(layout: Layout, context: u64, slots: u64) -> EngineSettings {
    EngineSettings {
        slots,
        gpu_layers: Some(0),
        ..EngineSettings::new(layout, context)
    }
}

#[test]
fn facts_of_gemma_are_those_that_llama_cpp_prints() {
    let facts = gemma();
    assert_eq!(facts.architecture, "gemma3");
    assert_eq!(facts.file_type.as_deref(), Some("Q4_K_M"));
    assert_eq!((facts.layers(), facts.vocabulary), (18, 262_144));
    let full = facts.attention.iter().filter(|l| l.window.is_none());
    assert_eq!(full.count(), 3);
    assert_eq!(facts.attention[0].window, Some(512));
    assert_eq!(facts.windows, Provenance::Derived);
    assert!(facts.bytes.tied);
    // "file size = 235.16 MiB"
    assert_eq!(facts.bytes.total().div_ceil(KIB * 10), 24_081);
}

/// What the server logged as `llama_kv_cache: size`: cells and KiB of the layers that look back on
/// everything, and of those with a window.
#[test]
fn the_kv_cache_is_what_llama_cpp_logs() {
    let plain = cpu(Layout::LlamaCpp, 8192, 1);
    let with = |change: fn(&mut EngineSettings)| {
        let mut settings = plain;
        change(&mut settings);
        settings
    };
    let small = |context, slots| cpu(Layout::LlamaCpp, context, slots);
    for (settings, streams, full, window) in [
        (small(512, 1), 1, (512, 1_536), (512, 7_680)),
        (small(2048, 1), 1, (2048, 6_144), (1024, 15_360)),
        (plain, 1, (8192, 24_576), (1024, 15_360)),
        (small(2048, 2), 2, (1024, 6_144), (1024, 30_720)),
        (small(8192, 2), 2, (4096, 24_576), (1024, 30_720)),
        (small(512, 4), 4, (256, 3_072), (256, 15_360)),
        (small(1000, 3), 3, (512, 4_608), (512, 23_040)),
        (
            with(|s| (s.slots, s.cache.unified) = (2, true)),
            1,
            (8192, 24_576),
            (1536, 23_040),
        ),
        (
            with(|s| s.cache.kv_type = KvType::Q8_0),
            1,
            (8192, 13_056),
            (1024, 8_160),
        ),
        (
            with(|s| s.cache.kv_type = KvType::Q4_0),
            1,
            (8192, 6_912),
            (1024, 4_320),
        ),
        (
            with(|s| s.cache.swa_full = true),
            1,
            (8192, 24_576),
            (8192, 122_880),
        ),
        (with(|s| s.batch = 128), 1, (8192, 24_576), (768, 11_520)),
        (with(|s| s.batch = 1024), 1, (8192, 24_576), (1536, 23_040)),
    ] {
        let cache = AgentMemory::plan(&gemma(), &settings).kv_cache;
        assert_eq!(cache.streams, streams, "{settings:?}");
        assert_eq!(cache.cells, full.0, "{settings:?}");
        assert_eq!(cache.window_cells, Some(window.0), "{settings:?}");
        assert_eq!(cache.host.bytes, (full.1 + window.1) * KIB, "{settings:?}");
        assert_eq!(cache.host.provenance, Provenance::Derived);
        assert_eq!(cache.device.bytes, 0);
    }
}

/// What the server logged as `CPU compute buffer size`, in hundredths of a MiB.
#[test]
fn the_compute_buffer_is_within_five_percent_of_what_llama_cpp_logs() {
    let mut full = cpu(Layout::LlamaCpp, 8192, 1);
    full.cache.swa_full = true;
    let batch = |batch| EngineSettings {
        batch,
        ..cpu(Layout::LlamaCpp, 8192, 1)
    };
    for (settings, logged) in [
        (cpu(Layout::LlamaCpp, 512, 1), 1_928),
        (cpu(Layout::LlamaCpp, 2048, 1), 2_128),
        (cpu(Layout::LlamaCpp, 8192, 1), 2_728),
        (cpu(Layout::LlamaCpp, 8192, 2), 2_328),
        (cpu(Layout::LlamaCpp, 1000, 3), 1_932),
        (full, 3_428),
        (batch(128), 676),
        (batch(1024), 5_555),
    ] {
        let plan = AgentMemory::plan(&gemma(), &settings);
        let compute = plan.host_compute.bytes * 100 / MIB;
        let off = compute.abs_diff(logged) * 100;
        assert!(off <= logged * 5, "{compute}, not {logged}: {settings:?}");
        assert_eq!(plan.host_compute.provenance, Provenance::Estimated);
    }
}

/// What Ollama logged as `model weights` and `kv cache`, MiB.
#[test]
fn ollama_copies_tied_embeddings_and_keeps_one_cache_for_all_slots() {
    for (context, kv) in [(512, 9), (2048, 21), (8192, 39)] {
        let plan = AgentMemory::plan(&gemma(), &cpu(Layout::Ollama, context, 1));
        assert_eq!(plan.weights.host.bytes.div_ceil(MIB / 10), 4_052);
        assert_eq!(plan.kv_cache.total().bytes, kv * MIB);
    }
    let two = AgentMemory::plan(&gemma(), &cpu(Layout::Ollama, 2048, 2)).kv_cache;
    // Two windows of 512 and one more each for the token that ends an answer, and a batch.
    assert_eq!((two.cells, two.window_cells), (4096, Some(1792)));
}

#[test]
fn the_output_comes_first_in_llama_cpp_and_last_in_ollama() {
    let facts = gemma();
    let on = |layout, layers| {
        let settings = EngineSettings {
            gpu_layers: Some(layers),
            ..EngineSettings::new(layout, 2048)
        };
        AgentMemory::plan(&facts, &settings)
    };
    let output = facts.bytes.output_group();
    let last = *facts.bytes.layers.last().unwrap();
    let device = |layout, layers| on(layout, layers).weights.device.bytes;
    assert_eq!(device(Layout::LlamaCpp, 1), output);
    assert_eq!(device(Layout::LlamaCpp, 2), output + last);
    assert_eq!(device(Layout::Ollama, 1), last);
    let repeating: u64 = facts.bytes.layers.iter().sum();
    assert_eq!(device(Layout::Ollama, 18), repeating);
    assert_eq!(device(Layout::Ollama, 19), repeating + output);
    assert_eq!(device(Layout::LlamaCpp, 19), device(Layout::Ollama, 19));
    // More than there are is all of them; none is nothing on the GPU at all.
    assert_eq!(on(Layout::Ollama, 80), on(Layout::Ollama, 19));
    assert_eq!(on(Layout::Ollama, 0).device_total().bytes, 0);
    // The embeddings for the input stay with the host.
    let host = on(Layout::LlamaCpp, 19).weights.host.bytes;
    assert_eq!(host, facts.bytes.embeddings);
}

#[test]
fn without_flash_attention_the_scores_count() {
    let facts = gemma();
    let flash = EngineSettings::new(Layout::LlamaCpp, 8192);
    let without = EngineSettings {
        flash_attention: false,
        ..flash
    };
    let more = AgentMemory::plan(&facts, &without).compute.bytes
        - AgentMemory::plan(&facts, &flash).compute.bytes;
    assert_eq!(more, 4 * 8192 * 512 * 4);
}

proptest! {
    #[test]
    fn what_leaves_the_host_arrives_on_the_gpu(
        layers in 0_u64..25, context in 1_u64..100_000, slots in 1_u64..9, ollama: bool,
    ) {
        let layout = if ollama { Layout::Ollama } else { Layout::LlamaCpp };
        let facts = gemma();
        let plan = |gpu_layers| AgentMemory::plan(&facts, &EngineSettings {
            gpu_layers: Some(gpu_layers),
            slots,
            ..EngineSettings::new(layout, context)
        });
        let (none, some, one_more) = (plan(0), plan(layers), plan(layers + 1));
        prop_assert_eq!(some.kv_cache.total(), none.kv_cache.total());
        let weights = some.weights.device.bytes + some.weights.host.bytes;
        let all = facts.bytes.total();
        prop_assert!(weights == all || weights == all + facts.bytes.embeddings);
        prop_assert!(one_more.device_total().bytes >= some.device_total().bytes);
        prop_assert!(one_more.host_total().bytes <= some.host_total().bytes.max(none.host_total().bytes));
    }

    #[test]
    fn more_context_or_slots_never_take_less(
        context in 1_u64..200_000, more in 0_u64..50_000, slots in 1_u64..9,
    ) {
        let facts = small("llama").facts().unwrap();
        let plan = |context, slots| AgentMemory::plan(&facts, &EngineSettings {
            slots,
            ..EngineSettings::new(Layout::Ollama, context)
        }).device_total().bytes;
        prop_assert!(plan(context + more, slots) >= plan(context, slots));
        prop_assert!(plan(context, slots + 1) >= plan(context, slots));
    }

    #[test]
    fn no_settings_overflow(context: u64, slots: u64, batch: u64, layers: u64, full: bool) {
        let mut settings = EngineSettings {
            slots,
            batch,
            gpu_layers: Some(layers),
            ..EngineSettings::new(Layout::LlamaCpp, context)
        };
        settings.cache.swa_full = full;
        let plan = AgentMemory::plan(&gemma(), &settings);
        prop_assert!(plan.device_total().bytes >= plan.compute.bytes);
    }
}
