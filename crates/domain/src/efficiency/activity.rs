//! How many agents are active when.

/// One agent's activity on the common axis: from its start to its finish, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// It left the barrier.
    pub start: i128,
    /// Its last step ended. Not before `start`.
    pub finish: i128,
}

/// What a set of spans adds up to, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// First start to last finish.
    pub wall: u64,
    /// Time with two or more agents active.
    pub overlap: u64,
    /// Time with at least one agent active.
    pub covered: u64,
    /// Time at the end in which fewer than `full` agents are active. With all agents released at
    /// once it is the time from the first finish to the last. If `full` agents were never active at
    /// once, it is that time too.
    pub tail: u64,
}

/// Adds up spans; `full` is how many agents may be active at once.
///
/// *Undefined when* there are no spans.
#[must_use]
pub fn activity(spans: &[Span], full: usize) -> Option<Activity> {
    let begin = spans.iter().map(|span| span.start).min()?;
    let end = spans.iter().map(|span| span.finish).max()?;
    let first_finish = spans.iter().map(|span| span.finish).min()?;
    // Finishes before starts at one instant: touching spans do not overlap.
    let mut edges: Vec<(i128, i32)> = spans
        .iter()
        .flat_map(|span| [(span.start, 1), (span.finish, -1)])
        .collect();
    edges.sort_unstable();
    let full = i32::try_from(full.min(spans.len())).unwrap_or(i32::MAX);
    let (mut active, mut last) = (0_i32, begin);
    let (mut overlap, mut covered, mut last_full) = (0_i128, 0_i128, None);
    for (at, change) in edges {
        let passed = at - last;
        if active >= 2 {
            overlap += passed;
        }
        if active >= 1 {
            covered += passed;
        }
        if active >= full && passed > 0 {
            last_full = Some(at);
        }
        active += change;
        last = at;
    }
    let ns = |time: i128| u64::try_from(time).ok();
    Some(Activity {
        wall: ns(end - begin)?,
        overlap: ns(overlap)?,
        covered: ns(covered)?,
        tail: ns(end - last_full.unwrap_or(first_finish))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(i128, i128)]) -> Vec<Span> {
        of.iter()
            .map(|(start, finish)| Span {
                start: *start,
                finish: *finish,
            })
            .collect()
    }

    #[test]
    fn two_agents_released_at_once() {
        let got = activity(&spans(&[(0, 100), (0, 80)]), 2).unwrap();
        assert_eq!(
            got,
            Activity {
                wall: 100,
                overlap: 80,
                covered: 100,
                tail: 20
            }
        );
    }

    #[test]
    fn one_after_the_other() {
        let got = activity(&spans(&[(0, 50), (50, 100)]), 2).unwrap();
        assert_eq!(
            got,
            Activity {
                wall: 100,
                overlap: 0,
                covered: 100,
                tail: 50
            }
        );
    }

    #[test]
    fn a_cap_of_two_over_three_agents_has_its_tail_when_only_one_is_left() {
        let got = activity(&spans(&[(0, 60), (0, 40), (42, 90)]), 2).unwrap();
        assert_eq!(
            got,
            Activity {
                wall: 90,
                overlap: 40 + 18,
                covered: 90,
                tail: 30
            }
        );
    }

    #[test]
    fn one_agent_is_never_idle() {
        let got = activity(&spans(&[(5, 9)]), 1).unwrap();
        assert_eq!(
            got,
            Activity {
                wall: 4,
                overlap: 0,
                covered: 4,
                tail: 0
            }
        );
        assert_eq!(activity(&[], 1), None);
    }
}
