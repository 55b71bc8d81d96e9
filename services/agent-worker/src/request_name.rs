//! What a request is called in the engine's log: its `X-Request-ID`.
//!
//! The name is a function of what is asked for by whom: the same question of the same attempt always
//! has the same one, and no other question has it, of this experiment or of another one on the same
//! engine. It begins with what a person looks for and ends with what makes it unique.

use chimera_domain::ids::{AgentId, IdError, MAX_ID_LEN, RequestId};
use chimera_domain::session::LegRef;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of the digest: 64 bits, with which a billion requests collide once in forty
/// tries.
const DIGEST_DIGITS: usize = 16;

/// Names a measured request of an agent: `<run>-a<attempt>-<agent>-<step>-<digest>`.
///
/// *Shape*: at most [`MAX_ID_LEN`] characters; what is readable is cut where it is longer. The digest
/// is over the experiment and over all that is cut.
///
/// # Errors
/// When `step` is no part of an id.
pub(crate) fn measured(leg: &LegRef, agent: &AgentId, step: &str) -> Result<RequestId, IdError> {
    name("", leg, agent, step)
}

/// Names the `nth` request that only warms: as [`measured`], with `warm-` before it, so that nobody
/// takes it for one that counts.
///
/// # Errors
/// As [`measured`], which no number makes happen.
pub(crate) fn warming(leg: &LegRef, agent: &AgentId, nth: u32) -> Result<RequestId, IdError> {
    name("warm-", leg, agent, &nth.to_string())
}

fn name(kind: &str, leg: &LegRef, agent: &AgentId, what: &str) -> Result<RequestId, IdError> {
    let LegRef {
        experiment,
        run,
        attempt,
        // An attempt is of one epoch: it adds nothing.
        epoch: _,
    } = leg;
    // An id holds no dot, so that no two lists of parts give one text.
    let whole = format!("{kind}.{experiment}.{run}.{attempt}.{agent}.{what}");
    let mut digest = hex::encode(Sha256::digest(whole.as_bytes()));
    digest.truncate(DIGEST_DIGITS);
    let readable: String = format!("{kind}{run}-a{attempt}-{agent}-{what}")
        .chars()
        .take(MAX_ID_LEN - DIGEST_DIGITS - 1)
        .collect();
    RequestId::try_new(format!("{readable}-{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use chimera_domain::ids::{ExperimentId, RunId};

    fn leg(experiment: &str, run: &str, attempt: u32) -> LegRef {
        LegRef {
            experiment: ExperimentId::try_new(experiment).unwrap(),
            run: RunId::try_new(run).unwrap(),
            attempt,
            epoch: 7,
        }
    }

    fn agent(name: &str) -> AgentId {
        AgentId::try_new(name).unwrap()
    }

    #[test]
    fn a_name_is_stable_and_says_first_what_a_person_looks_for() {
        let leg = leg("study-1", "t1-r2-together", 2);
        let one = measured(&leg, &agent("insight"), "analysis").unwrap();
        assert_eq!(one, measured(&leg, &agent("insight"), "analysis").unwrap());
        let readable = "t1-r2-together-a2-insight-analysis-";
        assert!(one.as_str().starts_with(readable), "{one}");
        assert_eq!(one.as_str().len(), readable.len() + DIGEST_DIGITS);
        let warm = warming(&leg, &agent("insight"), 1).unwrap();
        assert!(
            warm.as_str()
                .starts_with("warm-t1-r2-together-a2-insight-1-")
        );
    }

    #[test]
    fn whatever_differs_the_names_differ() {
        let mut names = BTreeSet::new();
        let mut count = 0;
        // Parts whose readable forms are the same text, and parts that are cut away.
        let long = "x".repeat(MAX_ID_LEN);
        let longer = format!("{}y", "x".repeat(MAX_ID_LEN - 1));
        for experiment in ["e", "e-2", long.as_str(), longer.as_str()] {
            for run in ["t1-r1", "t1-r1-a1-a", long.as_str(), longer.as_str()] {
                for attempt in [1, 2, 11, u32::MAX] {
                    for who in ["a", "a-a1-a", long.as_str(), longer.as_str()] {
                        let leg = leg(experiment, run, attempt);
                        let who = agent(who);
                        for id in [
                            measured(&leg, &who, "analysis").unwrap(),
                            measured(&leg, &who, "report").unwrap(),
                            warming(&leg, &who, 1).unwrap(),
                            warming(&leg, &who, 2).unwrap(),
                        ] {
                            assert!(id.as_str().len() <= MAX_ID_LEN, "{id}");
                            names.insert(id);
                            count += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(names.len(), count);
    }
}
