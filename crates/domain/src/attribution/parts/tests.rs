#![expect(clippy::float_cmp, reason = "whole milliseconds are exact in a double")]

use proptest::prelude::*;

use super::*;
use crate::event::{EngineTimes, RequestError, RequestErrorKind};
use crate::ids::RequestId;

const MS: u64 = 1_000_000;

/// Chunks in ms after `sent`.
fn request(chunks: &[u64]) -> RequestRecord {
    RequestRecord {
        request_id: RequestId::try_new("r").unwrap(),
        step: "analysis".to_owned(),
        sent: MonoNs(1_000 * MS),
        head_ns: None,
        chunk_ns: chunks.iter().map(|at| at * MS).collect(),
        done_ns: chunks.last().map(|last| (last + 3) * MS),
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

fn stated(load: u64, prefill: u64, eval: u64) -> EngineTimes {
    EngineTimes {
        total_ns: None,
        load_ns: Some(load * MS),
        prompt_eval_ns: Some(prefill * MS),
        eval_ns: Some(eval * MS),
    }
}

/// Others at work on the instance, ms on the clock on which the request is sent at 1000.
fn others(spans: &[(u64, u64)], slots: usize) -> Around<'static> {
    Around {
        served: spans
            .iter()
            .map(|(begin, end)| (MonoNs(begin * MS), MonoNs(end * MS)))
            .collect(),
        slots,
        ..Around::default()
    }
}

fn alone() -> Around<'static> {
    others(&[], 1)
}

#[test]
fn an_engine_that_states_all_leaves_transport_and_little_else() {
    let mut full = request(&[100, 120, 140, 160]);
    full.engine_times = stated(10, 70, 60);
    full.engine_times.total_ns = Some(150 * MS);
    let parts = take_apart(&full, &alone());
    assert_eq!(parts.load_ms, Some(10.0));
    assert_eq!(parts.prefill_ms, Some(70.0));
    assert_eq!(parts.decode_ms, Some(60.0));
    assert_eq!(parts.stall_ms, Some(0.0));
    assert_eq!(parts.queue_ms, Some(0.0));
    // Done at 163, of which the engine knows 150.
    assert_eq!(parts.transport_ms, Some(13.0));
    assert_eq!(parts.unsplit_ms, 7.0);
    assert_eq!(parts.client_ms, None);
    assert_eq!(parts.total_ms(), 160.0);
}

#[test]
fn an_engine_that_states_nothing_leaves_the_time_before_the_first_token_unsplit() {
    let parts = take_apart(&request(&[100, 120]), &alone());
    assert_eq!(parts.unsplit_ms, 100.0);
    assert_eq!(parts.decode_ms, Some(20.0));
    assert_eq!((parts.load_ms, parts.prefill_ms), (None, None));
    assert_eq!((parts.transport_ms, parts.stall_ms), (None, None));
}

#[test]
fn a_wait_while_others_hold_every_slot_is_queue() {
    let mut late = request(&[500, 520, 540]);
    late.engine_times.prompt_eval_ns = Some(100 * MS);
    // Others at work until 300 ms after the sending; from there to the prefill at 400 nobody is.
    let one = take_apart(&late, &others(&[(900, 1_300)], 1));
    assert_eq!(one.queue_ms, Some(300.0));
    assert_eq!(one.unsplit_ms, 100.0);
    let free_slot = take_apart(&late, &others(&[(900, 1_300)], 2));
    assert_eq!(free_slot.queue_ms, Some(0.0));
    let both = take_apart(&late, &others(&[(900, 1_300), (1_200, 1_350)], 2));
    assert_eq!(both.queue_ms, Some(100.0));
    assert_eq!(both.total_ms(), 540.0);
}

#[test]
fn a_load_duration_holds_the_wait_for_the_others_too() {
    // Ollama with another context length: the scheduler waits for the other request, then loads.
    let mut reload = request(&[1_000, 1_020, 1_040]);
    reload.engine_times = stated(900, 100, 40);
    let parts = take_apart(&reload, &others(&[(800, 1_250)], 4));
    assert_eq!(parts.queue_ms, Some(250.0));
    assert_eq!(parts.load_ms, Some(650.0));
    assert_eq!(parts.unsplit_ms, 0.0);
}

#[test]
fn the_engines_own_queue_tells_of_waits_for_strangers() {
    let mut late = request(&[500, 520]);
    late.engine_times.prompt_eval_ns = Some(100 * MS);
    let states = [EngineState {
        at: MonoNs(1_200 * MS),
        requests_waiting: Some(1),
        ..EngineState::default()
    }];
    let around = Around {
        states: &states,
        ..alone()
    };
    let parts = take_apart(&late, &around);
    assert_eq!((parts.queue_ms, parts.unsplit_ms), (Some(400.0), 0.0));
}

#[test]
fn others_whose_clock_is_another_leave_the_queue_unknown() {
    let around = Around {
        out_of_sight: true,
        ..alone()
    };
    let parts = take_apart(&request(&[500, 520]), &around);
    assert_eq!((parts.queue_ms, parts.unsplit_ms), (None, 500.0));
}

#[test]
fn the_clients_wait_is_what_the_engine_does_not_account_for() {
    let mut slow = request(&[200, 300, 400, 500]);
    slow.engine_times = stated(0, 150, 120);
    slow.client_wait_ns = Some(400 * MS);
    let parts = take_apart(&slow, &alone());
    // 50 before the first token, and of the 300 after it what is beyond the engine's 120.
    assert_eq!(parts.client_ms, Some(230.0));
    assert_eq!(parts.decode_ms, Some(120.0));
    assert_eq!(parts.unsplit_ms, 0.0);
    assert_eq!(parts.total_ms(), 500.0);
    // Without the engine's account the decode is not the client's.
    slow.engine_times = EngineTimes::default();
    let parts = take_apart(&slow, &alone());
    assert_eq!(parts.client_ms, Some(200.0));
    assert_eq!(parts.decode_ms, Some(300.0));
}

#[test]
fn stated_times_longer_than_the_window_are_cut() {
    let mut odd = request(&[100, 120]);
    odd.engine_times = stated(50, 101, 90);
    odd.engine_times.total_ns = Some(900 * MS);
    let parts = take_apart(&odd, &alone());
    assert_eq!((parts.load_ms, parts.prefill_ms), (Some(0.0), Some(100.0)));
    assert_eq!(parts.transport_ms, Some(0.0));
    assert_eq!(parts.total_ms(), 120.0);
}

#[test]
fn a_gap_far_above_the_pace_is_a_stall() {
    let mut chunks: Vec<u64> = (0..20).map(|token| 100 + token * 20).collect();
    chunks.iter_mut().skip(10).for_each(|at| *at += 1_000);
    let parts = take_apart(&request(&chunks), &alone());
    // A gap of 1020 ms, 100 ms of which are within the usual.
    assert_eq!(parts.stall_ms, Some(920.0));
    assert_eq!(parts.decode_ms, Some(460.0));
    let even: Vec<u64> = (0..20).map(|token| 100 + token * 20).collect();
    assert_eq!(take_apart(&request(&even), &alone()).stall_ms, Some(0.0));
    assert_eq!(take_apart(&request(&[1, 900]), &alone()).stall_ms, None);
}

#[test]
fn tokens_that_piled_up_did_not_stall() {
    // Nobody read for 400 ms: 20 tokens come at once, and the pace goes on.
    let mut chunks: Vec<u64> = (0..60).map(|token| 100 + token * 20).collect();
    let read_at = chunks[39];
    chunks[20..40].iter_mut().for_each(|at| *at = read_at);
    assert_eq!(take_apart(&request(&chunks), &alone()).stall_ms, Some(0.0));
    // Chunks of eight tokens, one by one.
    let coarse: Vec<u64> = (0..10).map(|chunk| 100 + chunk * 160).collect();
    assert_eq!(take_apart(&request(&coarse), &alone()).stall_ms, Some(0.0));
    // All in one read.
    assert_eq!(
        take_apart(&request(&[100; 8]), &alone()).stall_ms,
        Some(0.0)
    );
}

#[test]
fn a_failed_request_ends_at_its_last_stamp() {
    let mut failed = request(&[]);
    failed.done_ns = None;
    failed.head_ns = Some(40 * MS);
    failed.error = Some(RequestError {
        kind: RequestErrorKind::GapTimeout,
        detail: String::new(),
    });
    assert_eq!(take_apart(&failed, &alone()).total_ms(), 40.0);
    failed.chunk_ns = vec![50 * MS, 90 * MS];
    assert_eq!(take_apart(&failed, &alone()).total_ms(), 90.0);
    failed.chunk_ns.clear();
    failed.head_ns = None;
    assert_eq!(take_apart(&failed, &alone()).total_ms(), 0.0);
    // Without an error and without a token, the end of the stream counts.
    failed.error = None;
    failed.done_ns = Some(70 * MS);
    assert_eq!(take_apart(&failed, &alone()).unsplit_ms, 70.0);
}

prop_compose! {
    fn any_time()(known in any::<bool>(), ns in 0_u64..5_000 * MS) -> Option<u64> {
        known.then_some(ns)
    }
}

proptest! {
    #[test]
    fn parts_sum_to_the_window_and_none_is_negative(
        gaps in prop::collection::vec(0_u64..300 * MS, 0..40),
        done in any_time(), head in any_time(), load in any_time(), prefill in any_time(),
        eval in any_time(), total in any_time(), wait in any_time(), failed in any::<bool>(),
        served in prop::collection::vec((0_u64..4_000 * MS, 0_u64..2_000 * MS), 0..6),
        slots in 1_usize..4, waiting in any::<bool>(),
    ) {
        let mut at = 0;
        let chunk_ns = gaps.iter().map(|gap| { at += gap; at }).collect();
        let record = RequestRecord {
            chunk_ns,
            done_ns: done,
            head_ns: head,
            engine_times: EngineTimes {
                total_ns: total, load_ns: load, prompt_eval_ns: prefill, eval_ns: eval,
            },
            client_wait_ns: wait,
            error: failed.then(|| RequestError {
                kind: RequestErrorKind::CutStream,
                detail: String::new(),
            }),
            ..request(&[])
        };
        let states = [EngineState {
            at: MonoNs(1_100 * MS),
            requests_waiting: Some(u32::from(waiting)),
            ..EngineState::default()
        }];
        let around = Around {
            served: served.iter().map(|(at, ns)| (MonoNs(*at), MonoNs(at + ns))).collect(),
            slots,
            out_of_sight: false,
            states: &states,
        };
        let parts = take_apart(&record, &around);
        let window = ns_to_ms(window_ns(&record));
        prop_assert!((parts.total_ms() - window).abs() <= 1e-9 * window.max(1.0));
        for part in super::super::types::Part::ALL {
            prop_assert!(parts.get(part).is_none_or(|ms| ms >= 0.0), "{part}");
        }
    }
}
