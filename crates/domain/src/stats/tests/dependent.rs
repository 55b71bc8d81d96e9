//! Values that depend on their neighbours.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;

/// A sequence in which each value keeps a part `keep` of the one before.
fn kept(keep: f64, count: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut last = 0.0;
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count + 100)
        .map(|_| {
            // Twelve uniforms make a good normal.
            let shock: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
            last = keep * last + shock;
            last
        })
        .skip(100)
        .collect()
}

#[test]
fn autocorrelation_by_hand() {
    // Mean 2.5; products -1.5*-0.5 + -0.5*0.5 + 0.5*1.5 = 1.25 over squares 5.
    let found = autocorrelation(&[1.0, 2.0, 3.0, 4.0], 1).unwrap();
    near(Some(found[0]), 1.0, 0.0);
    near(Some(found[1]), 0.25, 1e-12);
    assert_eq!(autocorrelation(&[1.0, 1.0, 1.0], 1), None);
}

#[test]
fn dependent_values_are_worth_fewer() {
    // An AR(1) of 0.8 is worth (1 - 0.8) / (1 + 0.8) = 1/9 of its length.
    let worth = effective_n(&kept(0.8, 9000, 7)).unwrap();
    assert!((800.0..1250.0).contains(&worth), "{worth}");
    let worth = effective_n(&kept(0.0, 9000, 7)).unwrap();
    assert!(worth > 8000.0, "{worth}");
    assert_eq!(effective_n(&[1.0, 2.0, 3.0]), None);
}

#[test]
fn the_more_dependence_the_longer_the_block() {
    let independent = block_length(&kept(0.0, 2000, 3)).unwrap();
    let some = block_length(&kept(0.5, 2000, 3)).unwrap();
    let much = block_length(&kept(0.9, 2000, 3)).unwrap();
    assert!(independent <= 4, "{independent}");
    assert!(
        independent < some && some < much,
        "{independent} {some} {much}"
    );
    // For an AR(1), G / g(0) is 2 rho / (1 - rho^2): at 0.5 the best block is
    // (1.5 * (4/3)^2 * 2000)^(1/3) = 17.5.
    assert!((10..=26).contains(&some), "{some}");
}

#[test]
fn dependence_widens_the_bootstrap() {
    let values = kept(0.7, 400, 11);
    let found = block_bootstrap(&values, 0.95, 42).unwrap();
    let [low, high] = found.interval;
    let [naive_low, naive_high] = t_interval_95(&values).unwrap();
    assert!(high - low > 1.5 * (naive_high - naive_low));
    assert!(low < found.mean && found.mean < high);
    assert!(found.effective_n < 200.0);
    // The same seed, the same interval; another seed, nearly the same.
    assert_eq!(block_bootstrap(&values, 0.95, 42), Some(found));
    let other = block_bootstrap(&values, 0.95, 43).unwrap();
    assert!((other.interval[1] - high).abs() < 0.15 * (high - low));
}

#[test]
fn independent_values_give_the_interval_of_t() {
    let values = kept(0.0, 200, 5);
    let [low, high] = block_bootstrap(&values, 0.95, 1).unwrap().interval;
    let [t_low, t_high] = t_interval_95(&values).unwrap();
    let width = t_high - t_low;
    assert!((low - t_low).abs() < 0.2 * width && (high - t_high).abs() < 0.2 * width);
    assert_eq!(block_bootstrap(&[1.0; 20], 0.95, 1), None);
    assert_eq!(block_bootstrap(&values, 1.0, 1), None);
}

#[test]
fn draws_are_even_and_repeatable() {
    let mut draws = Resampler::new(9);
    let mut counts = [0_u32; 7];
    for _ in 0..7000 {
        counts[draws.below(7)] += 1;
    }
    assert!(
        counts.iter().all(|count| (850..1150).contains(count)),
        "{counts:?}"
    );
    assert_eq!(
        Resampler::new(9).below(1 << 40),
        Resampler::new(9).below(1 << 40)
    );
    assert_eq!(draws.below(0), 0);
    assert_eq!(draws.pick(&[]), None);
}

proptest! {
    #[test]
    fn a_block_and_a_worth_stay_in_bounds(values in prop::collection::vec(-1e3_f64..1e3, 8..120)) {
        let count = values.len() as f64;
        if let (Some(block), Some(worth)) = (block_length(&values), effective_n(&values)) {
            prop_assert!(block >= 1 && block as f64 <= (count / 3.0).max(1.0));
            prop_assert!((1.0..=count).contains(&worth));
        }
    }
}
