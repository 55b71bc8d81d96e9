//! Values that others have published, to the digits that they print.

use super::*;

/// Student's sleep data, as R ships it: extra hours with two drugs, ten patients.
const SLEEP_1: [f64; 10] = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
const SLEEP_2: [f64; 10] = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];

#[test]
fn welch_of_rs_sleep_example() {
    let test = welch_t(&SLEEP_1, &SLEEP_2).unwrap();
    near(Some(test.t), -1.8608, 5e-5);
    near(Some(test.freedom), 17.776, 5e-4);
    near(Some(test.p_two_sided), 0.07939, 5e-6);
    let (_, [low, high]) = welch_95(&SLEEP_1, &SLEEP_2).unwrap();
    near(Some(low), -3.365_483_2, 1e-6);
    near(Some(high), 0.205_483_2, 1e-6);
}

#[test]
fn paired_t_of_rs_sleep_example() {
    let test = paired_t(&SLEEP_1, &SLEEP_2).unwrap();
    near(Some(test.t), -4.0621, 5e-5);
    near(Some(test.freedom), 9.0, 0.0);
    near(Some(test.p_two_sided), 0.002_833, 5e-7);
    near(Some(test.difference), -1.58, 1e-9);
    near(Some(test.p_less), 0.001_416, 1e-6);
    near(Some(test.p_greater), 1.0 - 0.001_416, 1e-6);
}

#[test]
fn effects_of_the_sleep_data() {
    near(cohens_d(&SLEEP_1, &SLEEP_2), -0.832_181_1, 1e-6);
    near(cohens_dz(&SLEEP_2, &SLEEP_1), 1.284_558, 1e-5);
    // d (1 - 3 / (4 * 20 - 9)).
    near(
        hedges_g(&SLEEP_1, &SLEEP_2),
        -0.832_181_1 * 68.0 / 71.0,
        1e-6,
    );
}

#[test]
#[expect(clippy::approx_constant, reason = "a datum, not pi")]
fn signed_ranks_of_rs_depression_example() {
    let first = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
    let second = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
    let test = wilcoxon_signed_rank(&first, &second).unwrap();
    assert!(test.exact);
    near(Some(test.w_plus), 40.0, 0.0);
    near(Some(test.p_greater), 0.019_53, 5e-6);
    near(Some(test.p_two_sided), 0.039_06, 5e-6);
}

#[test]
fn signed_ranks_of_the_maize_that_scipy_documents() {
    let differences = [
        6.0, 8.0, 14.0, 16.0, 23.0, 24.0, 28.0, 29.0, 41.0, -48.0, 49.0, 56.0, 60.0, -67.0, 75.0,
    ];
    let test = wilcoxon_signed_rank(&differences, &[0.0; 15]).unwrap();
    assert!(test.exact);
    near(Some(120.0 - test.w_plus), 24.0, 0.0);
    near(Some(test.p_two_sided), 0.041_259_765_625, 1e-12);
}

#[test]
fn signed_ranks_with_ties_and_a_zero_as_r_warns_about() {
    let test = wilcoxon_signed_rank(&SLEEP_1, &SLEEP_2).unwrap();
    assert!(!test.exact);
    assert_eq!((test.n, test.zeros), (9, 1));
    near(Some(test.w_plus), 0.0, 0.0);
    near(Some(test.p_two_sided), 0.009_091, 5e-7);
}

#[test]
fn one_sample_by_hand() {
    // Mean 2, sd 1, n 4 against 1: t = 2 with 3 degrees of freedom, where P(T > t) has a closed form:
    // 1/2 - (atan(t / sqrt 3) + (t / sqrt 3) / (1 + t^2 / 3)) / pi.
    let test = one_sample_t(&[1.0, 1.5, 2.5, 3.0], 1.0).unwrap();
    let x = test.t / 3.0_f64.sqrt();
    let above = 0.5 - (x.atan() + x / (1.0 + x * x)) / std::f64::consts::PI;
    near(Some(test.p_greater), above, 1e-12);
    near(Some(test.p_two_sided), 2.0 * above, 1e-12);
    assert_eq!(one_sample_t(&[1.0], 1.0), None);
}

#[test]
fn without_spread_a_difference_is_certain_and_equality_is_no_find() {
    let same = paired_t(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!((same.t, same.p_two_sided), (0.0, 1.0));
    let apart = welch_t(&[2.0, 2.0], &[1.0, 1.0]).unwrap();
    assert_eq!((apart.p_two_sided, apart.p_greater), (0.0, 0.0));
    near(Some(apart.p_less), 1.0, 0.0);
    assert_eq!(cohens_d(&[2.0, 2.0], &[1.0, 1.0]), None);
    assert_eq!(wilcoxon_signed_rank(&[1.0, 2.0], &[1.0, 2.0]), None);
}

#[test]
fn holm_as_rs_p_adjust() {
    let adjusted = holm(&[0.04, 0.01, 0.03, 0.02]);
    for (got, want) in adjusted.iter().zip([0.06, 0.04, 0.06, 0.06]) {
        near(Some(*got), want, 1e-12);
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn power_as_rs_power_t_test() {
    // power.t.test(n = 20, delta = 1, sd = 1): 0.8689528.
    let delta = 1.0 / (2.0_f64 / 20.0).sqrt();
    near(power_of_t(delta, 38.0, 0.05), 0.868_952_8, 1e-6);
    // power.t.test(n = 10, type = "paired", delta = 1): 0.8030969 on the upper side alone.
    near(power_of_t(10.0_f64.sqrt(), 9.0, 0.05), 0.803_096_9, 1e-6);
    // Without a difference it finds alpha.
    near(power_of_t(0.0, 7.0, 0.05), 0.05, 1e-9);
    // power.t.test(power = .90, delta = 1): n = 22.02110.
    let error = (2.0_f64 / 22.021_10).sqrt();
    near(
        minimum_detectable(error, 2.0 * 21.021_10, 0.05, 0.9),
        1.0,
        1e-5,
    );
}

#[test]
fn noncentral_t_as_scipy_has_it() {
    // scipy.stats.nct.cdf(t, df, nc), scipy 1.17.
    for (t, freedom, noncentrality, below) in [
        (2.1009, 18.0, 2.2, 0.451_463_276_880_089_6),
        (-2.0, 3.0, 1.5, 0.002_880_830_072_061_5),
        (12.706, 1.0, 16.0, 0.209_346_058_484_661_7),
        (4.3, 2.0, 0.5, 0.949_101_595_087_357_9),
        (2.0, 30.0, 5.0, 0.001_755_606_507_655_1),
    ] {
        near(noncentral_t_cdf(t, freedom, noncentrality), below, 1e-9);
    }
}

#[test]
fn noncentral_t_without_noncentrality_is_students() {
    for t in [-3.0, -0.5, 0.0, 0.7, 2.5] {
        let central = noncentral_t_cdf(t, 5.0, 0.0).unwrap();
        let below = 1.0 - student::t_above(t, 5.0).unwrap();
        near(Some(central), below, 1e-11);
    }
    assert_eq!(noncentral_t_cdf(1.0, 5.0, 38.0), None);
    assert_eq!(noncentral_t_cdf(1.0, 0.0, 1.0), None);
}

#[test]
fn cohens_words_begin_at_his_thresholds() {
    for (effect, word) in [
        (0.19, "negligible"),
        (-0.2, "small"),
        (0.5, "medium"),
        (-0.8, "large"),
        (7.4, "large"),
    ] {
        assert_eq!(Magnitude::of(effect).as_str(), word);
    }
}

#[test]
fn three_sigma_is_blind_below_eleven_values_and_mad_is_not() {
    let values = [1.0, 1.1, 0.9, 1.05, 0.95, 50.0];
    let found = outliers(&values).unwrap();
    assert_eq!(found.by_sigma, Vec::<usize>::new());
    assert_eq!(found.by_mad, vec![5]);
    // Half the values are equal: no scale.
    let flat = outliers(&[2.0, 2.0, 2.0, 2.0, 9.0]).unwrap();
    assert!(flat.by_mad.is_empty());
    assert_eq!(outliers(&[1.0, 9.0]), None);
}

#[test]
fn wilson_as_newcombe_prints_it() {
    // Newcombe (1998), table I, score method without continuity correction.
    for (hits, n, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ] {
        let [got_low, got_high] = wilson_interval(hits, n, 0.95).unwrap();
        near(Some(got_low), low, 5e-5);
        near(Some(got_high), high, 5e-5);
    }
    assert_eq!(wilson_interval(0, 0, 0.95), None);
    assert_eq!(wilson_interval(3, 2, 0.95), None);
}
