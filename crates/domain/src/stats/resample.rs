//! Intervals by drawing the data again, from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::dependence::{block_length, effective_n};
use super::interval::t_two_sided;
use super::quantile::quantile;
use super::student::normal_below;
use super::summary::mean;

/// Resamples behind an interval unless the caller asks for another number: the ends of a 95 %
/// interval then move by a few percent of its width from seed to seed.
const RESAMPLES: usize = 2000;

/// Draws indices, the same for the same seed on every machine.
#[derive(Debug, Clone)]
pub struct Resampler(ChaCha8Rng);

impl Resampler {
    /// Starts the draws of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// An index below `count`, all alike; 0 where `count` is 0.
    ///
    /// By the upper half of a product, whose bias is below count / 2^64. *Source*: Lemire (2019).
    pub fn below(&mut self, count: usize) -> usize {
        let wide = u128::from(self.0.next_u64()) * count as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// One of the values, all alike. *Undefined when* there are none.
    pub fn pick(&mut self, values: &[f64]) -> Option<f64> {
        values.get(self.below(values.len())).copied()
    }
}

/// What a block bootstrap found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockBootstrap {
    /// Mean of the values.
    pub mean: f64,
    /// Interval of the mean.
    pub interval: [f64; 2],
    /// Values in a block.
    pub block: usize,
    /// How many independent values would tell as much: [`effective_n`].
    pub effective_n: f64,
    /// Resamples drawn.
    pub resamples: usize,
}

/// Interval of the mean of values that depend on their neighbours, such as the requests of one agent.
///
/// Whole blocks of neighbours are drawn, from the values closed to a ring, so that each resample keeps
/// the dependence. The block length is [`block_length`]. The ends are percentiles of the resampled
/// means, taken so far out as a t of as many repeats as there are blocks in the values would be: plain
/// percentiles are too narrow, by a third at five blocks. With blocks of one this is the interval of
/// independent values.
///
/// *Shape*: values in the order of measurement; `level` inside (0, 1). *Undefined* below eight values,
/// without any spread, or for another level. *Source*: Politis and Romano (1992), circular blocks;
/// Hesterberg (2015), expanded percentiles. Its coverage by simulation stands in `docs/metrics.md`: it
/// still falls short where the values are worth few independent ones, so look at `effective_n` before
/// relying on it.
#[must_use]
pub fn block_bootstrap(values: &[f64], level: f64, seed: u64) -> Option<BlockBootstrap> {
    let block = block_length(values)?;
    let blocks = values.len() as f64 / block as f64;
    let reach = (blocks / (blocks - 1.0)).sqrt() * t_two_sided(level, blocks - 1.0)?;
    let tail = normal_below(-reach);
    let mut draws = Resampler::new(seed);
    let sums = ring_sums(values, block);
    let whole = values.len() / block;
    let rest = ring_sums(values, values.len() % block);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut sum = 0.0;
            for _ in 0..whole {
                sum += draws.pick(&sums).unwrap_or(0.0);
            }
            // A last block cut short makes every resample as long as the data.
            sum += draws.pick(&rest).unwrap_or(0.0);
            sum / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(BlockBootstrap {
        mean: mean(values)?,
        interval: [quantile(&means, tail)?, quantile(&means, 1.0 - tail)?],
        block,
        effective_n: effective_n(values)?,
        resamples: RESAMPLES,
    })
}

/// Sum of each block of this length on the ring, by its first value.
fn ring_sums(values: &[f64], block: usize) -> Vec<f64> {
    let ring = || values.iter().cycle();
    (0..values.len())
        .map(|start| ring().skip(start).take(block).sum())
        .collect()
}
