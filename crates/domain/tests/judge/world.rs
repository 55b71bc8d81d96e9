//! Reports of experiments whose legs scatter like those of a real machine.

use chimera_domain::report::Report;
use chimera_domain::slo::Slo;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::support::{MS, Pace, World, planned_test};

/// How an experiment goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth {
    /// Runs of each test.
    pub(crate) runs: u32,
    /// Spread of a leg's speed, as a part of it.
    pub(crate) cv: f64,
    /// How much longer everything takes.
    pub(crate) slower: f64,
    /// How much longer two agents together take than one alone.
    pub(crate) contention: f64,
    /// Seed of the scatter.
    pub(crate) seed: u64,
    /// What a request must keep to be good.
    pub(crate) slo: Option<Slo>,
}

impl Default for Truth {
    fn default() -> Self {
        Self {
            runs: 10,
            cv: 0.025,
            slower: 1.0,
            contention: 1.3,
            seed: 1,
            slo: None,
        }
    }
}

/// A standard normal: twelve uniforms.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let uniform = |rng: &mut ChaCha8Rng| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time of seconds, and a positive factor"
)]
fn times(ns: u64, factor: f64) -> u64 {
    (ns as f64 * factor).round() as u64
}

impl Truth {
    /// The report of one experiment: two tests, of two agents and of one.
    pub(crate) fn report(self) -> Report {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let tests = [&["collector", "insight"][..], &["collector"]];
        let mut world = World::new(
            (1..)
                .zip(tests)
                .map(|(id, agents)| planned_test(id, agents, self.runs))
                .collect(),
        );
        if self.slo.is_some() {
            world.plan.slo = self.slo;
            world.submit();
        }
        let pace = Pace {
            local: 20 * MS,
            ..Pace::new(200 * MS, 20 * MS, 40)
        };
        for run in 1..=self.runs {
            for (id, agents) in (1..).zip(tests) {
                let mut leg = |factor: f64| {
                    let factor = factor * self.slower * (1.0 + self.cv * normal(&mut rng));
                    // What a machine shares moves all agents of a leg alike; a little is their own.
                    let mut agent = || {
                        let own = factor * (1.0 + 0.2 * self.cv * normal(&mut rng));
                        Pace {
                            ttft: times(pace.ttft, own),
                            gap: times(pace.gap, own),
                            ..pace.clone()
                        }
                    };
                    agents.iter().map(|_| agent()).collect::<Vec<Pace>>()
                };
                let solo = leg(1.0);
                let together = leg(if agents.len() > 1 {
                    self.contention
                } else {
                    1.0
                });
                world.run(id, run, &solo, &together);
            }
        }
        world.close();
        world.report()
    }
}
