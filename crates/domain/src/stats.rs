//! The only statistics in the product. Each is one function, with its source and when it is undefined.
//!
//! Rules. A quantity that was not measured is left out and the count says so; it is never taken as
//! zero. Spread and interval describe *runs*, which are independent repeats; the requests inside a
//! run are not, so they are averaged within their run first, or resampled in blocks. Nothing is
//! trimmed: outliers are pointed at and stay in.
//!
//! - [`Summary`], [`Distribution`], [`quantile`], [`mean`], [`sd`], [`cv`]: what was seen.
//! - [`t_interval`], [`welch_95`], [`wilson_interval`], [`block_bootstrap`]: how far it may be off.
//! - [`effective_n`], [`block_length`]: how much dependent values are worth.
//! - [`one_sample_t`], [`welch_t`], [`paired_t`], [`wilcoxon_signed_rank`], [`holm`]: whether it is
//!   more than noise; [`prediction_t`]: whether one new value is.
//! - [`cohens_d`], [`cohens_dz`], [`minimum_detectable`]: how large it is, and how large it would
//!   have had to be.
//! - [`outliers`]: what to look at.

mod dependence;
mod effect;
mod hypothesis;
mod interval;
mod multiplicity;
mod outlier;
mod power;
mod quantile;
mod rank;
mod resample;
mod student;
mod summary;

pub use dependence::{autocorrelation, block_length, effective_n};
pub use effect::{Magnitude, cohens_d, cohens_dz, hedges_g};
pub use hypothesis::{TTest, one_sample_t, paired_t, prediction_t, welch_t};
pub use interval::{
    t_interval, t_interval_95, weighted_interval, welch_95, welch_interval, wilson_interval,
};
pub use multiplicity::holm;
pub use outlier::{MAD_LIMIT, Outliers, SIGMA_LIMIT, outliers};
pub use power::{minimum_detectable, power_of_t};
pub use quantile::{Distribution, median, quantile};
pub use rank::{SignedRank, wilcoxon_signed_rank};
pub use resample::{BlockBootstrap, Resampler, block_bootstrap};
pub use summary::{Provenance, Summary, cv, mean, sd};

#[cfg(test)]
mod tests;
