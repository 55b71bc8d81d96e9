use proptest::prelude::*;

use super::*;

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
        near(t_975(freedom), table, 1e-6);
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
    let half = t_975(50.0 / 17.0).unwrap() * (5.0_f64 / 3.0).sqrt();
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
}
