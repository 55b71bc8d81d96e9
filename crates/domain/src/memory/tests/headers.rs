//! Headers of GGUF files: read as written, and never a panic or more memory than they justify.

use proptest::prelude::*;

use super::super::gguf::{GgufError, Header, Value};
use super::super::{FactsError, ModelFacts, Provenance, TensorType};

/// Writes headers.
#[derive(Clone)]
pub(super) struct Writer {
    values: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Writer {
    pub(super) fn new(architecture: &str) -> Self {
        let none = Self {
            values: Vec::new(),
            tensors: Vec::new(),
        };
        none.raw("general.architecture", 8, &text(architecture))
    }

    pub(super) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let mut bytes = text(key);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        self.values.push(bytes);
        self
    }

    pub(super) fn whole(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(super) fn list(self, key: &str, kind: u32, count: u64, items: &[u8]) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(items);
        self.raw(key, 9, &bytes)
    }

    pub(super) fn tensor(mut self, name: &str, shape: &[u64], kind: u32) -> Self {
        let mut bytes = text(name);
        bytes.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        self.values.iter().for_each(|v| bytes.extend(v));
        self.tensors.iter().for_each(|t| bytes.extend(t));
        bytes
    }

    pub(super) fn facts(&self) -> Result<ModelFacts, FactsError> {
        ModelFacts::from_gguf(&Header::parse(&self.bytes()).unwrap())
    }
}

/// A model of this architecture with four layers.
pub(super) fn small(architecture: &str) -> Writer {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut writer = Writer::new(architecture)
        .whole(&key("block_count"), 4)
        .whole(&key("embedding_length"), 64)
        .whole(&key("attention.head_count"), 4)
        .whole(&key("attention.head_count_kv"), 2)
        .tensor("token_embd.weight", &[64, 100], 1);
    for layer in 0..4 {
        writer = writer.tensor(&format!("blk.{layer}.ffn_up.weight"), &[64, 32], 2);
    }
    writer
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let flags = [1_u8, 0, 1];
    let writer = Writer::new("llama")
        .whole("a", 7)
        .raw("negative", 5, &(-3_i32).to_le_bytes())
        .raw("yes", 7, &[1])
        .list("flags", 7, 3, &flags)
        .list("words", 8, 2, &[text("x"), text("yz")].concat())
        .list("scores", 6, 1, &1.5_f32.to_le_bytes())
        .list("many", 0, 5_000, &[9; 5_000])
        .tensor("t", &[32, 3], 8);
    let header = Header::parse(&writer.bytes()).unwrap();
    let value = |key: &str| header.metadata.get(key).cloned().unwrap();
    assert_eq!(value("a"), Value::Whole(7));
    assert_eq!(value("negative"), Value::Number(-3.0));
    assert_eq!(value("yes"), Value::Flag(true));
    assert_eq!(value("flags"), Value::List(vec![1, 0, 1]));
    assert_eq!(value("words"), Value::Counted(2));
    assert_eq!(value("scores"), Value::Counted(1));
    assert_eq!(value("many"), Value::Counted(5_000));
    assert_eq!(header.tensors[0].shape, [32, 3]);
    assert_eq!(header.tensors[0].kind.name(), "Q8_0");
}

#[test]
fn every_begin_of_a_header_asks_for_more_of_it() {
    let bytes = small("llama").list("words", 8, 1, &text("x")).bytes();
    for end in 0..bytes.len() {
        assert_eq!(
            Header::parse(&bytes[..end]),
            Err(GgufError::Truncated(end as u64)),
            "of {end} bytes"
        );
    }
}

#[test]
fn what_is_no_header_is_told_by_its_kind() {
    assert_eq!(Header::parse(b"PK\x03\x04 a zip"), Err(GgufError::NotGguf));
    let mut other = small("llama").bytes();
    other[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert_eq!(Header::parse(&other), Err(GgufError::Version(3 << 24)));
    let unknown = Writer::new("llama").tensor("t", &[1], 4);
    assert!(matches!(
        Header::parse(&unknown.bytes()),
        Err(GgufError::UnknownType { number: 4, .. })
    ));
    for bad in [
        Writer::new("llama").raw("k", 13, &[]),
        Writer::new("llama").list("k", 9, 1, &[]),
        Writer::new("llama").list("k", 12, u64::MAX, &[]),
        Writer::new("llama").tensor("t", &[1; 5], 0),
        Writer::new("llama").raw("k", 8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
    ] {
        let read = Header::parse(&bad.bytes());
        assert!(matches!(read, Err(GgufError::Damaged { .. })), "{read:?}");
    }
}

#[test]
fn lengths_beyond_the_file_set_nothing_aside() {
    for kind in [0, 4, 7, 8] {
        let liar = Writer::new("llama").list("k", kind, 1 << 58, &[]);
        let read = Header::parse(&liar.bytes());
        assert!(matches!(read, Err(GgufError::Truncated(_))), "{read:?}");
    }
    let mut liar = Writer::new("llama").bytes();
    liar[8..24].fill(0xff);
    assert!(matches!(Header::parse(&liar), Err(GgufError::Truncated(_))));
}

#[test]
fn bytes_of_tensors_are_those_of_ggml() {
    let bytes =
        |name: &str, shape: &[u64]| TensorType::from_name(name).unwrap().tensor_bytes(shape);
    assert_eq!(bytes("F32", &[640]), Some(2_560));
    assert_eq!(bytes("q8_0", &[640, 262_144]), Some(178_257_920));
    assert_eq!(bytes("Q4_K", &[256, 10]), Some(1_440));
    assert_eq!(bytes("Q5_0", &[33]), Some(44), "a started block counts");
    assert_eq!(bytes("F16", &[]), Some(2));
    assert_eq!(bytes("F32", &[u64::MAX, u64::MAX]), None);
}

#[test]
fn facts_say_what_is_missing_or_not_modelled() {
    let missing = Writer::new("llama").facts();
    assert_eq!(
        missing,
        Err(FactsError::Missing("llama.block_count".to_owned()))
    );
    let absurd = small("llama").whole("llama.block_count", u32::MAX).facts();
    assert!(matches!(absurd, Err(FactsError::Absurd { .. })));
    let no_heads = small("llama")
        .whole("llama.attention.head_count", 0)
        .facts();
    assert!(matches!(no_heads, Err(FactsError::Absurd { .. })));
    let split = small("llama").whole("split.count", 3).facts();
    assert_eq!(split, Err(FactsError::Split(3)));
    for other in [
        small("deepseek2").whole("deepseek2.attention.kv_lora_rank", 512),
        small("jamba").tensor("blk.0.ssm_a", &[1], 0),
    ] {
        let facts = other.facts();
        assert!(matches!(facts, Err(FactsError::NotModelled { .. })));
    }
    let huge = small("llama").tensor("output.weight", &[u64::MAX, 9], 0);
    let huge = huge.facts();
    assert_eq!(huge, Err(FactsError::Tensor("output.weight".to_owned())));
}

#[test]
fn windows_are_those_that_the_engine_knows_of_the_architecture() {
    let windows = |facts: &ModelFacts| {
        let windows = facts.attention.iter().map(|l| l.window.unwrap_or(0));
        (windows.collect::<Vec<_>>(), facts.windows)
    };
    let stated = |architecture: &str| {
        let key = format!("{architecture}.attention.sliding_window");
        small(architecture).whole(&key, 8)
    };
    let of = |writer: Writer| windows(&writer.facts().unwrap());
    let (derived, estimated) = (Provenance::Derived, Provenance::Estimated);
    assert_eq!(of(stated("gpt-oss")), (vec![8, 0, 8, 0], derived));
    assert_eq!(of(stated("cohere2")), (vec![8, 8, 8, 0], derived));
    assert_eq!(of(stated("smallthinker")), (vec![0, 8, 8, 8], derived));
    // Mistral 7B states a window; its engine code takes no notice.
    assert_eq!(of(stated("llama")), (vec![0; 4], derived));
    assert_eq!(of(small("gemma2")), (vec![4096, 0, 4096, 0], derived));
    // Of an architecture that nobody here knows, the upper bound.
    assert_eq!(of(stated("new")), (vec![0; 4], estimated));
    let listed = stated("new").list("new.attention.sliding_window_pattern", 7, 4, &[1, 0, 0, 1]);
    assert_eq!(of(listed), (vec![8, 0, 0, 8], derived));
    let counted = stated("new").whole("new.attention.sliding_window_pattern", 2);
    assert_eq!(of(counted), (vec![8, 0, 8, 0], derived));
}

#[test]
fn heads_may_differ_by_layer_and_layers_may_share_a_cache() {
    let four = |counts: [u32; 4]| counts.map(u32::to_le_bytes).concat();
    let facts = small("openelm")
        .list("openelm.attention.head_count_kv", 4, 4, &four([1, 2, 3, 4]))
        .whole("openelm.attention.shared_kv_layers", 1)
        .facts()
        .unwrap();
    let kept: Vec<_> = facts.attention.iter().map(|l| l.kv_heads).collect();
    assert_eq!(kept, [1, 2, 3, 0]);
    assert!(facts.attention.iter().all(|l| l.key_length == 16));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        magic: bool,
    ) {
        let mut all = if magic { b"GGUF\x03\0\0\0".to_vec() } else { Vec::new() };
        all.extend(bytes);
        if let Ok(header) = Header::parse(&all) {
            let _facts = ModelFacts::from_gguf(&header);
        }
    }

    #[test]
    fn a_damaged_header_gives_an_error_or_no_more_than_it_holds(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = small("gemma3")
            .whole("gemma3.attention.sliding_window", 8)
            .list("words", 8, 3, &[text("x"), text("yz"), text("")].concat())
            .list("numbers", 4, 6, &[1; 24])
            .bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(header) = Header::parse(&bytes) {
            let kept: usize = header
                .metadata
                .iter()
                .map(|(key, value)| key.len() + match value {
                    Value::Text(text) => text.len(),
                    Value::List(list) => list.len(),
                    _ => 1,
                })
                .chain(header.tensors.iter().map(|t| t.name.len() + t.shape.len()))
                .sum();
            prop_assert!(kept <= bytes.len(), "{kept} of {}", bytes.len());
            let _facts = ModelFacts::from_gguf(&header);
        }
    }
}
