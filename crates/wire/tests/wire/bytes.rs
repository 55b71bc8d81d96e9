//! The bytes themselves. A change here makes bundles written before unreadable, or their hashes
//! wrong: it needs a new version of the package, not a new expectation.

use chimera_domain::event::{AgentEvent, AgentRecord, EngineTimes, RequestRecord, Started};
use chimera_domain::ids::{AgentId, AgentKey, ExperimentId, RequestId, RunId};
use chimera_domain::units::MonoNs;
use chimera_wire::codec::{self, StreamHash};
use chimera_wire::pb;

pub(crate) fn key() -> AgentKey {
    AgentKey {
        experiment: ExperimentId::try_new("e1").unwrap(),
        run: RunId::try_new("t1-r1-together").unwrap(),
        attempt: 1,
        agent: AgentId::try_new("collector").unwrap(),
    }
}

pub(crate) fn started() -> AgentEvent {
    AgentEvent {
        key: key(),
        epoch: 3,
        n: 1,
        record: AgentRecord::Started(Started {
            planned: MonoNs(5),
            actual: MonoNs(6),
        }),
    }
}

pub(crate) fn request(chunk_ns: Vec<u64>) -> RequestRecord {
    RequestRecord {
        request_id: RequestId::try_new("r1").unwrap(),
        step: "analysis".to_owned(),
        sent: MonoNs(1_000),
        head_ns: None,
        chunk_ns,
        done_ns: None,
        prompt_sha256: String::new(),
        prompt_tokens: None,
        cached_tokens: None,
        output_tokens: None,
        output_sha256: String::new(),
        finish: None,
        engine_times: EngineTimes::default(),
        client_wait_ns: None,
        error: None,
    }
}

#[test]
fn an_event_is_these_bytes() {
    assert_eq!(
        codec::encode_agent_event(&started()),
        [0x08, 3, 0x10, 1, 0x1a, 6, 0x1a, 4, 0x08, 5, 0x10, 6]
    );
}

#[test]
fn identity_is_not_in_the_payload() {
    let mut other = started();
    other.key.agent = AgentId::try_new("insight").unwrap();
    assert_eq!(
        codec::encode_agent_event(&other),
        codec::encode_agent_event(&started())
    );
}

#[test]
fn the_hash_of_a_stream_is_the_hash_of_its_payloads_joined() {
    // printf '\x08\x03\x10\x01\x1a\x06\x1a\x04\x08\x05\x10\x06' twice | sha256sum
    let mut hash = StreamHash::new();
    hash.push_event(&started());
    hash.push_payload(&codec::encode_agent_event(&started()));
    assert_eq!(
        hash.to_hex(),
        "b0b38b9640f2eb13667ecad0eac21c7a7b2548363263e9230a972ebf00e7874a"
    );
}

#[test]
fn chunk_times_travel_as_differences() {
    let message = pb::RequestRecord::from(&request(vec![100, 120, 120, 150]));
    assert_eq!(message.chunk_delta_ns, [100, 20, 0, 30]);
    assert_eq!(
        RequestRecord::try_from(message).unwrap().chunk_ns,
        [100, 120, 120, 150]
    );
}

#[test]
fn a_token_of_a_second_long_answer_costs_four_bytes() {
    // 20 ms apart: a difference of 2*10^7 ns fits four varint bytes, an offset soon needs five.
    let times: Vec<u64> = (1..=100).map(|i| i * 20_000_000).collect();
    let record = |chunk_ns| AgentRecord::Request(request(chunk_ns));
    let with = codec::encode_agent_record(1, 1, &record(times)).len();
    let without = codec::encode_agent_record(1, 1, &record(Vec::new())).len();
    assert!(
        with - without <= 100 * 4 + 8,
        "{} bytes for 100 tokens",
        with - without
    );
}
