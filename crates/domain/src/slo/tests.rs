//! Who is good, and how much of it there is.

use proptest::prelude::*;

use super::*;

const LIMITS: Slo = Slo {
    ttft_ms: Some(500.0),
    tpot_ms: Some(50.0),
    itl_ms: Some(80.0),
    e2e_ms: Some(2_000.0),
};

fn fast() -> Figures {
    Figures {
        failed: false,
        ttft_ms: Some(500.0),
        tpot_ms: Some(50.0),
        itl_ms: Some(80.0),
        e2e_ms: Some(2_000.0),
    }
}

#[test]
fn a_limit_is_kept_up_to_itself_and_every_one_must_be() {
    assert_eq!(LIMITS.judge(&fast()), Standing::Good);
    let over = |change: fn(&mut Figures)| {
        let mut slow = fast();
        change(&mut slow);
        LIMITS.judge(&slow)
    };
    assert_eq!(over(|f| f.ttft_ms = Some(500.1)), Standing::Missed);
    assert_eq!(over(|f| f.tpot_ms = Some(50.1)), Standing::Missed);
    assert_eq!(over(|f| f.itl_ms = Some(80.1)), Standing::Missed);
    assert_eq!(over(|f| f.e2e_ms = Some(2_000.1)), Standing::Missed);
}

#[test]
fn what_is_not_limited_is_not_judged() {
    let first_token = Slo {
        ttft_ms: Some(500.0),
        ..Slo::default()
    };
    let slow_after_it = Figures {
        ttft_ms: Some(1.0),
        tpot_ms: Some(1e9),
        ..Figures::default()
    };
    assert_eq!(first_token.judge(&slow_after_it), Standing::Good);
}

#[test]
fn a_failed_request_is_never_good() {
    let failed = Figures {
        failed: true,
        ..fast()
    };
    assert_eq!(LIMITS.judge(&failed), Standing::Missed);
}

#[test]
fn a_figure_that_nobody_saw_keeps_no_limit() {
    // One token: no time between two.
    let one_token = Figures {
        tpot_ms: None,
        itl_ms: None,
        ..fast()
    };
    assert_eq!(LIMITS.judge(&one_token), Standing::Undefined);
    // It is no excuse for what was seen to be exceeded, whatever the order of the limits.
    let slow = Figures {
        e2e_ms: Some(9_999.0),
        ..one_token
    };
    assert_eq!(LIMITS.judge(&slow), Standing::Missed);
    let without = Slo {
        tpot_ms: None,
        itl_ms: None,
        ..LIMITS
    };
    assert_eq!(without.judge(&one_token), Standing::Good);
}

#[test]
fn goodput_is_good_requests_over_the_time_together() {
    let slow = Figures {
        ttft_ms: Some(900.0),
        ..fast()
    };
    let one_token = Figures {
        tpot_ms: None,
        ..fast()
    };
    let found = Goodput::of(
        &LIMITS,
        [fast(), slow, one_token, fast()],
        [fast(), fast(), slow],
        4.0,
    )
    .unwrap();
    assert_eq!((found.requests, found.good, found.undefined), (4, 2, 1));
    assert_eq!((found.goodput_rps, found.good_ratio), (0.5, 0.5));
    assert_eq!((found.solo_requests, found.solo_good), (3, 2));
    assert_eq!(found.good_solo_ratio, Some(2.0 / 3.0));
}

#[test]
fn no_limit_no_request_or_no_time_is_no_goodput() {
    assert_eq!(Goodput::of(&Slo::default(), [fast()], [], 1.0), None);
    assert_eq!(Goodput::of(&LIMITS, [], [fast()], 1.0), None);
    assert_eq!(Goodput::of(&LIMITS, [fast()], [], 0.0), None);
    assert_eq!(Goodput::of(&LIMITS, [fast()], [], f64::NAN), None);
    let alone = Goodput::of(&LIMITS, [fast()], [], 1.0).unwrap();
    assert_eq!((alone.good_solo_ratio, alone.solo_requests), (None, 0));
}

#[test]
fn a_person_reads_the_limits() {
    assert_eq!(
        LIMITS.to_string(),
        "TTFT <= 500 ms, TPOT <= 50 ms, longest gap <= 80 ms, E2E <= 2000 ms"
    );
    let one = Slo {
        tpot_ms: Some(0.5),
        ..Slo::default()
    };
    assert_eq!(one.to_string(), "TPOT <= 0.5 ms");
}

fn figure() -> impl Strategy<Value = Option<f64>> {
    proptest::option::weighted(0.9, 0.0..100.0)
}

fn figures() -> impl Strategy<Value = Figures> {
    let times = [figure(), figure(), figure(), figure()];
    (proptest::bool::weighted(0.1), times).prop_map(
        |(failed, [ttft_ms, tpot_ms, itl_ms, e2e_ms])| Figures {
            failed,
            ttft_ms,
            tpot_ms,
            itl_ms,
            e2e_ms,
        },
    )
}

fn slo() -> impl Strategy<Value = Slo> {
    let limit = || proptest::option::of(0.1..100.0);
    let stated = |slo: &Slo| slo.limits().next().is_some();
    [limit(), limit(), limit(), limit()]
        .prop_map(|[ttft_ms, tpot_ms, itl_ms, e2e_ms]| Slo {
            ttft_ms,
            tpot_ms,
            itl_ms,
            e2e_ms,
        })
        .prop_filter("one or more limits", stated)
}

proptest! {
    #[test]
    fn good_requests_are_some_of_all_in_any_order(
        slo in slo(),
        together in proptest::collection::vec(figures(), 1..20),
        alone in proptest::collection::vec(figures(), 0..20),
        wall in 0.1_f64..100.0,
    ) {
        let found = Goodput::of(&slo, together.clone(), alone.clone(), wall).unwrap();
        prop_assert!(found.good + found.undefined <= found.requests);
        prop_assert!((0.0..=1.0).contains(&found.good_ratio));
        let rate = found.good_ratio * f64::from(found.requests) / wall;
        prop_assert!((found.goodput_rps - rate).abs() <= 1e-9 * rate.max(1.0));
        prop_assert_eq!(found.good_solo_ratio.is_none(), alone.is_empty());
        let mut turned = together;
        turned.reverse();
        prop_assert_eq!(Goodput::of(&slo, turned, alone, wall).unwrap(), found);
    }

    #[test]
    fn wider_limits_lose_nobody(
        slo in slo(),
        request in figures(),
        more in 0.0_f64..50.0,
    ) {
        let widen = |limit: Option<f64>| limit.map(|limit| limit + more);
        let wider = Slo {
            ttft_ms: widen(slo.ttft_ms),
            tpot_ms: widen(slo.tpot_ms),
            itl_ms: widen(slo.itl_ms),
            e2e_ms: widen(slo.e2e_ms),
        };
        if slo.judge(&request) == Standing::Good {
            prop_assert_eq!(wider.judge(&request), Standing::Good);
        }
    }

    #[test]
    fn a_further_limit_wins_nobody(slo in slo(), request in figures(), further in 0.1_f64..100.0) {
        let stricter = Slo { e2e_ms: Some(slo.e2e_ms.map_or(further, |limit| limit.min(further))), ..slo };
        if stricter.judge(&request) == Standing::Good {
            prop_assert_eq!(slo.judge(&request), Standing::Good);
        }
    }

    #[test]
    fn the_good_and_the_rest_are_all(slo in slo(), request in figures()) {
        let standing = slo.judge(&request);
        let figures = [
            (slo.ttft_ms, request.ttft_ms),
            (slo.tpot_ms, request.tpot_ms),
            (slo.itl_ms, request.itl_ms),
            (slo.e2e_ms, request.e2e_ms),
        ];
        let limited = || figures.iter().filter_map(|(limit, figure)| Some(((*limit)?, *figure)));
        let kept = !request.failed && limited().all(|(limit, figure)| figure.is_some_and(|f| f <= limit));
        prop_assert_eq!(standing == Standing::Good, kept);
    }
}
