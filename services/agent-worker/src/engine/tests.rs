use chimera_domain::event::{FinishReason, RequestError, RequestErrorKind};
use proptest::prelude::*;

use super::answer::Answer;
use super::lines::Lines;
use super::{Decoder, Message, ollama, openai, prompt_sha256, transport};

const CAP: usize = 1 << 20;

fn decoder(kind: Kind) -> Decoder {
    match kind {
        Kind::Ollama => Decoder::Ollama(ollama::Decoder::default()),
        Kind::Openai => Decoder::Openai(openai::Decoder::default()),
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Ollama,
    Openai,
}

/// Feeds frames as the transport does; frame `i` is received at `i`.
fn read(kind: Kind, frames: &[&[u8]], cap: usize) -> (Result<(), RequestError>, Answer) {
    let mut decoder = decoder(kind);
    let mut lines = Lines::new(cap);
    let mut answer = Answer::default();
    let mut at = 0;
    for frame in frames {
        let result = lines.push(frame, |line| decoder.line(line, at, &mut answer));
        if result.is_err() {
            return (result, answer);
        }
        at += 1;
    }
    (decoder.end(lines.rest(), at, &mut answer), answer)
}

fn kind_of(kind: Kind, stream: &[u8]) -> Option<RequestErrorKind> {
    read(kind, &[stream], CAP).0.err().map(|e| e.kind)
}

const OLLAMA: &str = concat!(
    r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
    "\n",
    r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"a\"b\n"},"done":false}"#,
    "\n",
    r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"é\u00e9"},"done":false}"#,
    "\r\n",
    r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":9,"load_duration":1,"prompt_eval_count":5,"prompt_eval_duration":2,"eval_count":3,"eval_duration":4}"#,
    "\n",
);

const LLAMA_CPP: &str = concat!(
    r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"x","model":"m","object":"chat.completion.chunk"}"#,
    "\n\n",
    ": ping\n\n",
    r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a\"b\n"}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"é\u00e9"}}]}"#,
    "\r\n\r\n",
    r#"data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}]}"#,
    "\n\n",
    r#"data: {"choices":[],"usage":{"completion_tokens":3,"prompt_tokens":9,"total_tokens":12},"timings":{"cache_n":4,"prompt_n":5,"prompt_ms":2.5,"predicted_n":3,"predicted_ms":4.25}}"#,
    "\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn an_ollama_stream_is_read_whole() {
    let (result, answer) = read(Kind::Ollama, &[OLLAMA.as_bytes()], CAP);
    assert_eq!(result, Ok(()));
    assert_eq!(answer.text, "a\"b\néé");
    assert_eq!(answer.thinking, "hm");
    assert_eq!(answer.chunk_ns, [0, 0, 0]);
    assert_eq!(answer.done_ns, Some(0));
    assert_eq!(answer.finish, Some(FinishReason::Length));
    assert_eq!(
        (answer.prompt_tokens, answer.output_tokens),
        (Some(5), Some(3))
    );
    assert_eq!(answer.cached_tokens, None);
    let times = answer.times;
    assert_eq!(
        (
            times.total_ns,
            times.load_ns,
            times.prompt_eval_ns,
            times.eval_ns
        ),
        (Some(9), Some(1), Some(2), Some(4))
    );
}

#[test]
fn a_llama_cpp_stream_is_read_whole() {
    let (result, answer) = read(Kind::Openai, &[LLAMA_CPP.as_bytes()], CAP);
    assert_eq!(result, Ok(()));
    assert_eq!(answer.text, "a\"b\néé");
    assert_eq!(answer.thinking, "hm");
    assert_eq!(answer.chunk_ns.len(), 3, "the role delta is no token");
    assert_eq!(answer.finish, Some(FinishReason::Length));
    assert_eq!(
        (answer.prompt_tokens, answer.cached_tokens),
        (Some(9), Some(4))
    );
    assert_eq!(answer.output_tokens, Some(3));
    let times = answer.times;
    assert_eq!((times.total_ns, times.load_ns), (None, None));
    assert_eq!(
        (times.prompt_eval_ns, times.eval_ns),
        (Some(2_500_000), Some(4_250_000))
    );
}

#[test]
fn timings_stand_in_for_missing_usage() {
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"timings\":{\"cache_n\":2,",
        "\"prompt_n\":3,\"prompt_ms\":-1.0,\"predicted_n\":1,\"predicted_ms\":1.0}}\n\ndata: [DONE]",
    );
    let (result, answer) = read(Kind::Openai, &[stream.as_bytes()], CAP);
    assert_eq!(result, Ok(()));
    assert_eq!(
        (answer.prompt_tokens, answer.output_tokens),
        (Some(5), Some(1))
    );
    assert_eq!(
        answer.times.prompt_eval_ns, None,
        "a negative time was not measured"
    );
}

#[test]
fn a_line_has_the_stamp_of_the_frame_that_completed_it() {
    let (head, tail) = OLLAMA.as_bytes().split_at(40);
    let (result, answer) = read(Kind::Ollama, &[b"", head, tail], CAP);
    assert_eq!(result, Ok(()));
    assert_eq!(answer.chunk_ns, [2, 2, 2]);
}

#[test]
fn ollama_failures_have_their_classes() {
    use RequestErrorKind as K;
    let token = r#"{"message":{"content":"x"},"done":false}"#;
    let done = r#"{"message":{"content":""},"done":true}"#;
    let cases: [(String, Option<K>); 12] = [
        (format!("{token}\n{done}\n"), None),
        (format!("{token}\n{done}"), None),
        (format!("{token}\n"), Some(K::NoDone)),
        (format!("{token}\n{{\"mess"), Some(K::NoDone)),
        (String::new(), Some(K::NoDone)),
        (format!("{done}\n{done}\n"), Some(K::AfterDone)),
        (format!("{done}\n{token}\n"), Some(K::AfterDone)),
        (
            format!("{token}\n{{\"error\":\"boom\"}}\n"),
            Some(K::StreamError),
        ),
        (
            format!("{token}\n{{\"error\":{{\"message\":\"boom\"}}}}\n"),
            Some(K::StreamError),
        ),
        (format!("{token}{token}\n"), Some(K::Malformed)),
        (format!("{token}\n{{}}\n{done}\n"), Some(K::Malformed)),
        (format!("{token}\n[1]\n"), Some(K::Malformed)),
    ];
    for (stream, expected) in cases {
        assert_eq!(
            kind_of(Kind::Ollama, stream.as_bytes()),
            expected,
            "{stream}"
        );
    }
    // Also where the bad bytes lie in a member that nobody reads.
    let bad = b"{\"message\":{\"content\":\"x\"},\"done\":false,\"other\":\"\xff\"}\n";
    assert_eq!(kind_of(Kind::Ollama, bad), Some(K::Malformed));
}

#[test]
fn openai_failures_have_their_classes() {
    use RequestErrorKind as K;
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let done = "data: [DONE]\n\n";
    let cases: [(String, Option<K>); 14] = [
        (format!("{token}{finish}{done}"), None),
        (format!("{token}{finish}{done}: bye\n\n"), None),
        (format!("{token}{finish}"), Some(K::NoDone)),
        (format!("{token}{done}"), Some(K::NoDone)),
        (token.to_owned(), Some(K::NoDone)),
        (format!("{token}data: {{\"cho"), Some(K::NoDone)),
        (format!("{token}{finish}{done}{done}"), Some(K::AfterDone)),
        (format!("{token}{finish}{finish}{done}"), Some(K::AfterDone)),
        (format!("{token}{finish}{token}{done}"), Some(K::AfterDone)),
        (format!("{token}{finish}{done}{token}"), Some(K::AfterDone)),
        (
            format!("{token}data: {{\"error\":{{\"message\":\"boom\"}}}}\n\n"),
            Some(K::StreamError),
        ),
        (
            format!("{token}error: {{\"message\":\"boom\"}}\n\n"),
            Some(K::StreamError),
        ),
        (format!("{token}data: {{]\n\n"), Some(K::Malformed)),
        (format!("{token}nonsense\n\n"), Some(K::Malformed)),
    ];
    for (stream, expected) in cases {
        assert_eq!(
            kind_of(Kind::Openai, stream.as_bytes()),
            expected,
            "{stream}"
        );
    }
}

#[test]
fn the_line_cap_is_known_before_the_line_is_whole() {
    let long = [b'x'; 100];
    let (result, _) = read(Kind::Ollama, &[&long, &long, &long], 250);
    assert_eq!(result.unwrap_err().kind, RequestErrorKind::LineTooLong);
    let (result, _) = read(
        Kind::Ollama,
        &[&[OLLAMA.as_bytes(), &long[..]].concat()],
        50,
    );
    assert_eq!(result.unwrap_err().kind, RequestErrorKind::LineTooLong);
}

#[test]
fn a_prompt_hash_tells_roles_and_borders() {
    let one = prompt_sha256(&[Message::system("a"), Message::user("b")]);
    assert_eq!(
        one,
        prompt_sha256(&[Message::system("a"), Message::user("b")])
    );
    assert_ne!(
        one,
        prompt_sha256(&[Message::user("a"), Message::system("b")])
    );
    assert_ne!(
        one,
        prompt_sha256(&[Message::system("ab"), Message::user("")])
    );
    assert_eq!(one.len(), 64);
}

#[test]
fn base_urls_come_into_one_form() {
    for (given, expected) in [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/"),
        ("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/"),
        ("https://h/gate/v1?x=1#y", "https://h/gate/"),
    ] {
        let base = transport::base_url(&given.parse().unwrap()).unwrap();
        assert_eq!(base.as_str(), expected);
    }
    for bad in ["ftp://h/", "unix:/x", "data:x"] {
        assert!(transport::base_url(&bad.parse().unwrap()).is_err(), "{bad}");
    }
}

/// Cuts `bytes` at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|p| p.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    let mut frames = Vec::new();
    let mut from = 0;
    for to in at {
        frames.push(&bytes[from..to]);
        from = to;
    }
    frames.push(&bytes[from..]);
    frames
}

proptest! {
    #[test]
    fn frames_do_not_matter(
        openai in any::<bool>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let (kind, stream) =
            if openai { (Kind::Openai, LLAMA_CPP) } else { (Kind::Ollama, OLLAMA) };
        let (_, whole) = read(kind, &[stream.as_bytes()], CAP);
        let (result, answer) = read(kind, &cut(stream.as_bytes(), &places), CAP);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(&answer.text, &whole.text);
        prop_assert_eq!(&answer.thinking, &whole.thinking);
        prop_assert_eq!(answer.chunk_ns.len(), whole.chunk_ns.len());
        prop_assert!(answer.chunk_ns.is_sorted());
        prop_assert_eq!(answer.times, whole.times);
        prop_assert_eq!(answer.output_tokens, whole.output_tokens);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_succeed_by_chance(
        openai in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let kind = if openai { Kind::Openai } else { Kind::Ollama };
        let (result, answer) = read(kind, &cut(&bytes, &places), 128);
        prop_assert!(result.is_err());
        prop_assert!(answer.text.len() <= bytes.len());
    }

    #[test]
    fn a_damaged_stream_has_the_same_class_in_any_frames(
        openai in any::<bool>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let (kind, stream) =
            if openai { (Kind::Openai, LLAMA_CPP) } else { (Kind::Ollama, OLLAMA) };
        let mut bytes = stream.as_bytes().to_vec();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        let whole = read(kind, &[&bytes], CAP).0.map_err(|e| e.kind);
        let split = read(kind, &cut(&bytes, &places), CAP).0.map_err(|e| e.kind);
        prop_assert_eq!(whole, split);
    }
}
