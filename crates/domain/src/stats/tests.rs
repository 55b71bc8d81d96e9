use proptest::prelude::*;

use super::student::{noncentral_t_cdf, t_quantile};
use super::*;

mod dependent;
mod published;

fn near(got: Option<f64>, want: f64, tolerance: f64) {
    let got = got.unwrap();
    assert!(
        (got - want).abs() <= tolerance,
        "{got} is not {want} within {tolerance}"
    );
}

#[test]
fn quantile_is_type_7() {
    let values = [1.0, 2.0, 3.0, 4.0];
    near(quantile(&values, 0.0), 1.0, 0.0);
    near(quantile(&values, 0.25), 1.75, 1e-12);
    near(quantile(&values, 0.5), 2.5, 1e-12);
    near(quantile(&values, 0.95), 3.85, 1e-12);
    near(quantile(&values, 1.0), 4.0, 0.0);
    assert_eq!(quantile(&values, 1.1), None);
    assert_eq!(quantile(&values, f64::NAN), None);
    near(quantile(&[7.0], 0.99), 7.0, 0.0);
}

#[test]
fn t_agrees_with_the_printed_tables() {
    for (freedom, table) in [
        (1.0, 12.706_204_7),
        (2.0, 4.302_652_7),
        (4.0, 2.776_445_1),
        (9.0, 2.262_157_2),
        (120.0, 1.979_930_4),
    ] {
        near(t_quantile(0.975, freedom), table, 1e-6);
    }
}

#[test]
fn interval_of_a_hand_computed_sample() {
    // mean 2, sd 1, n 3: half width 4.302653 / sqrt(3).
    let [low, high] = t_interval_95(&[1.0, 2.0, 3.0]).unwrap();
    near(Some(low), 2.0 - 2.484_138, 1e-5);
    near(Some(high), 2.0 + 2.484_138, 1e-5);
}

#[test]
fn one_repeat_has_a_value_and_no_spread() {
    let one = Summary::of(&[5.0], Provenance::Measured, "");
    assert_eq!(
        (one.value, one.sd, one.n, one.cv, one.ci95),
        (Some(5.0), None, 1, None, None)
    );
    let none = Summary::of(&[], Provenance::Measured, "no valid run");
    assert_eq!(none.provenance, Provenance::NotMeasured);
    assert_eq!(none.reason.as_deref(), Some("no valid run"));
}

#[test]
fn welch_of_a_hand_computed_pair() {
    // Means 2 and 6, variances 1 and 4, n 3 each: se = sqrt(5/3), df = (25/9)/(1/18 + 16/18) = 50/17.
    let (difference, [low, high]) = welch_95(&[1.0, 2.0, 3.0], &[4.0, 6.0, 8.0]).unwrap();
    near(Some(difference), -4.0, 1e-12);
    let half = t_quantile(0.975, 50.0 / 17.0).unwrap() * (5.0_f64 / 3.0).sqrt();
    near(Some(high - low), 2.0 * half, 1e-9);
    assert_eq!(welch_95(&[1.0], &[2.0, 3.0]), None);
}

proptest! {
    #[test]
    fn quantiles_are_monotone_and_inside(
        mut values in prop::collection::vec(-1e9_f64..1e9, 1..60),
        a in 0.0_f64..=1.0,
        b in 0.0_f64..=1.0,
    ) {
        values.sort_by(f64::total_cmp);
        let (low, high) = (a.min(b), a.max(b));
        let (at_low, at_high) = (quantile(&values, low).unwrap(), quantile(&values, high).unwrap());
        prop_assert!(at_low <= at_high + 1e-6);
        prop_assert!(values[0] <= at_low && at_high <= values[values.len() - 1] + 1e-6);
    }

    #[test]
    fn the_interval_holds_the_mean(values in prop::collection::vec(-1e6_f64..1e6, 2..30)) {
        let [low, high] = t_interval_95(&values).unwrap();
        let centre = mean(&values).unwrap();
        prop_assert!(low <= centre && centre <= high);
    }

    #[test]
    fn a_wider_level_holds_a_narrower_one(values in prop::collection::vec(-1e6_f64..1e6, 2..30)) {
        let [low, high] = t_interval(&values, 0.99).unwrap();
        let [inner_low, inner_high] = t_interval(&values, 0.5).unwrap();
        prop_assert!(low <= inner_low && inner_high <= high);
    }

    #[test]
    fn a_test_agrees_with_its_interval(
        a in prop::collection::vec(-1e3_f64..1e3, 2..20),
        b in prop::collection::vec(-1e3_f64..1e3, 2..20),
    ) {
        let test = welch_t(&a, &b).unwrap();
        let (difference, [low, high]) = welch_95(&a, &b).unwrap();
        prop_assert!((test.difference - difference).abs() < 1e-9);
        prop_assert!((test.p_two_sided - 2.0 * test.p_greater.min(test.p_less)).abs() < 1e-9);
        // Leave out what lies on the border to rounding.
        if (test.p_two_sided - 0.05).abs() > 1e-6 {
            prop_assert_eq!(test.p_two_sided < 0.05, low > 0.0 || high < 0.0);
        }
    }

    #[test]
    fn swapping_the_sides_turns_the_sign(
        pairs in prop::collection::vec((-1e3_f64..1e3, -1e3_f64..1e3), 2..20),
    ) {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let near = |x: f64, y: f64| (x - y).abs() < 1e-9;
        for test in [welch_t, paired_t] {
            let (one, other) = (test(&a, &b).unwrap(), test(&b, &a).unwrap());
            prop_assert!(near(one.t, -other.t) && near(one.p_greater, other.p_less));
            prop_assert!(near(one.p_two_sided, other.p_two_sided));
        }
        let (one, other) = (wilcoxon_signed_rank(&a, &b), wilcoxon_signed_rank(&b, &a));
        if let (Some(one), Some(other)) = (one, other) {
            prop_assert!(near(one.p_greater, other.p_less) && near(one.p_two_sided, other.p_two_sided));
        }
        if let (Some(one), Some(other)) = (cohens_d(&a, &b), cohens_d(&b, &a)) {
            prop_assert!(near(one, -other));
        }
    }

    #[test]
    fn neither_shift_nor_scale_changes_a_test(
        pairs in prop::collection::vec((-1e3_f64..1e3, -1e3_f64..1e3), 3..20),
        shift in -1e3_f64..1e3,
        scale in 0.01_f64..100.0,
    ) {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let moved = |values: &[f64]| values.iter().map(|v| v * scale + shift).collect::<Vec<_>>();
        let (moved_a, moved_b) = (moved(&a), moved(&b));
        let (one, other) = (welch_t(&a, &b).unwrap(), welch_t(&moved_a, &moved_b).unwrap());
        prop_assert!((one.p_two_sided - other.p_two_sided).abs() < 1e-6);
        let (one, other) = (hedges_g(&a, &b), hedges_g(&moved_a, &moved_b));
        prop_assert!((one.unwrap() - other.unwrap()).abs() < 1e-6);
    }

    #[test]
    fn holm_adjusts_up_and_keeps_the_order(p_values in prop::collection::vec(0.0_f64..=1.0, 0..30)) {
        let adjusted = holm(&p_values);
        prop_assert_eq!(adjusted.len(), p_values.len());
        for (p, q) in p_values.iter().zip(&adjusted) {
            prop_assert!(p <= q && *q <= 1.0);
            for (other_p, other_q) in p_values.iter().zip(&adjusted) {
                prop_assert!(p > other_p || q <= other_q);
            }
        }
        // Never harsher than Bonferroni.
        let count = p_values.len() as f64;
        prop_assert!(p_values.iter().zip(&adjusted).all(|(p, q)| *q <= (p * count).min(1.0) + 1e-12));
    }

    #[test]
    fn more_repeats_detect_less_and_more_power_needs_more(
        freedom in 1.0_f64..200.0,
        alpha in 0.001_f64..0.2,
        power in 0.3_f64..0.95,
    ) {
        let needed = minimum_detectable(1.0, freedom, alpha, power);
        if let Some(needed) = needed {
            let found = power_of_t(needed, freedom, alpha).unwrap();
            prop_assert!((found - power).abs() < 1e-6);
            prop_assert!(minimum_detectable(1.0, freedom + 5.0, alpha, power).unwrap() <= needed + 1e-9);
            prop_assert!(minimum_detectable(1.0, freedom, alpha, power * 0.9).unwrap() <= needed);
        }
    }

    #[test]
    fn an_outlier_is_flagged_wherever_it_stands(
        mut values in prop::collection::vec(99.0_f64..101.0, 20..40),
        at in 0_usize..20,
    ) {
        values[at] = 1000.0;
        let found = outliers(&values).unwrap();
        prop_assert_eq!(found.by_sigma, vec![at]);
        prop_assert!(found.by_mad.contains(&at));
    }
}

#[test]
fn equal_values_have_no_spread_and_no_difference_by_rounding() {
    for value in [0.1, 0.7, 1.1, 2.3, 1e300] {
        for n in 2..40 {
            let values = vec![value; n];
            assert_eq!(mean(&values), Some(value));
            assert_eq!(sd(&values), Some(0.0));
            assert_eq!(t_interval_95(&values), Some([value, value]));
            let same = one_sample_t(&values, value).unwrap();
            assert_eq!((same.t, same.p_two_sided), (0.0, 1.0));
            let more = vec![value; n + 1];
            near(welch_t(&values, &more).map(|t| t.p_two_sided), 1.0, 0.0);
            assert_eq!(welch_95(&values, &more), Some((0.0, [0.0, 0.0])));
        }
    }
}
