//! How far an experiment is: bars on a terminal, one line per change elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::plan::{LegKind, PlannedLeg};
use chimera_domain::session::Progress;
use chimera_domain::units::MonoNs;
use chimera_runtime::clock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Reader};

/// Legs that must have closed before the rest can be foretold: the first one also loads the model.
const LEGS_BEFORE_ETA: u32 = 2;
/// How often the clock on the terminal moves. Seldom: the machine is being measured.
const TICK: Duration = Duration::from_millis(500);

/// Shows the progress of one experiment to a person.
///
/// On a terminal a bar on standard error; otherwise a line for each change. Nothing is written to
/// standard output, unless [`ProgressView::on_stdout`] says so.
pub(crate) struct ProgressView {
    tracker: Tracker,
    sink: Sink,
    last_line: String,
    reader: Reader,
}

enum Sink {
    Silent,
    Bar(ProgressBar),
    Lines(Lines),
}

/// Where plain lines go.
enum Lines {
    Stderr,
    Stdout,
    #[cfg(test)]
    Kept(Vec<String>),
}

impl ProgressView {
    /// A view on standard error; a disabled one shows nothing.
    pub(crate) fn new(enabled: bool) -> Self {
        let sink = if !enabled {
            Sink::Silent
        } else if std::io::stderr().is_terminal() {
            Sink::Bar(bar())
        } else {
            Sink::Lines(Lines::Stderr)
        };
        Self::with(sink)
    }

    /// A view that is itself what the person asked for: plain lines, where nobody looks at a
    /// terminal, go to standard output.
    pub(crate) fn on_stdout() -> Self {
        let watched = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self::with(if watched {
            Sink::Bar(bar())
        } else {
            Sink::Lines(Lines::Stdout)
        })
    }

    fn with(sink: Sink) -> Self {
        Self {
            tracker: Tracker::default(),
            sink,
            last_line: String::new(),
            reader: Reader::There,
        }
    }

    /// Whether anybody still reads what is shown.
    pub(crate) fn reader(&self) -> Reader {
        self.reader
    }

    /// Shows the newest picture.
    pub(crate) fn update(&mut self, progress: &Progress) {
        self.update_at(progress, clock::mono());
    }

    fn update_at(&mut self, progress: &Progress, now: MonoNs) {
        let seen = self.tracker.take(progress, now);
        if let Some(invalid) = seen.invalid {
            self.line(&invalid);
        }
        match &self.sink {
            Sink::Silent => {}
            Sink::Bar(bar) => {
                bar.set_length(u64::from(progress.legs_total));
                bar.set_position(u64::from(progress.legs_closed));
                let left = seen
                    .left
                    .map_or_else(String::new, |left| format!(", {left}"));
                bar.set_prefix(format!("{} valid{left}", progress.legs_valid));
                bar.set_message(seen.now);
            }
            Sink::Lines(_) => {
                let now = format!(
                    "{} of {} legs, {} valid: {}",
                    progress.legs_closed, progress.legs_total, progress.legs_valid, seen.now
                );
                if now != self.last_line {
                    let left = seen
                        .left
                        .map_or_else(String::new, |left| format!(", {left}"));
                    self.line(&format!("[{}{left}] {now}", clock_text(seen.elapsed)));
                    self.last_line = now;
                }
            }
        }
    }

    /// Shows a line that stays.
    pub(crate) fn note(&mut self, text: &str) {
        self.line(text);
    }

    /// Takes the bar away, and says what could not be shown.
    pub(crate) fn finish(&mut self) {
        if let Some(more) = self.tracker.invalid_unseen() {
            self.line(&more);
        }
        if let Sink::Bar(bar) = &self.sink {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        match &mut self.sink {
            Sink::Silent => {}
            Sink::Bar(bar) => bar.suspend(|| output::hint(text)),
            Sink::Lines(Lines::Stderr) => output::hint(text),
            Sink::Lines(Lines::Stdout) => {
                // A full disk behind standard output is met again, and said, by whoever prints next.
                let written = output::print(format!("{text}\n").as_bytes());
                self.reader = written.unwrap_or(Reader::Gone);
            }
            #[cfg(test)]
            Sink::Lines(Lines::Kept(lines)) => lines.push(text.to_owned()),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template =
        "{spinner} [{elapsed_precise}] [{bar:24}] {pos} of {len} legs, {prefix}\n  {wide_msg}";
    // The template is a constant, tested below; without it the default style serves.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TICK);
    bar
}

/// What there is to say about a picture.
struct Seen {
    /// What happens now.
    now: String,
    /// Since the first picture.
    elapsed: Duration,
    /// How long it will take, in words. `None`: not known yet, or over.
    left: Option<String>,
    /// A leg that has just turned out invalid.
    invalid: Option<String>,
}

/// Follows pictures; knows no terminal.
#[derive(Debug, Default)]
struct Tracker {
    first: Option<(MonoNs, u32)>,
    last_close: Option<(MonoNs, u32)>,
    invalid_shown: u32,
    invalid_total: u32,
    last_invalid_at: Option<u32>,
}

impl Tracker {
    fn take(&mut self, progress: &Progress, now: MonoNs) -> Seen {
        let closed = progress.legs_closed;
        let (begin, closed_then) = *self.first.get_or_insert((now, closed));
        if self.last_close.is_none_or(|(_, at)| at != closed) {
            self.last_close = Some((now, closed));
        }
        self.invalid_total = closed.saturating_sub(progress.legs_valid);
        let elapsed = between(begin, now);
        Seen {
            now: describe(progress),
            elapsed,
            left: self.left(progress, begin, closed.saturating_sub(closed_then), now),
            invalid: self.invalid(progress),
        }
    }

    /// The mean time of a leg so far times the legs that are left, less what the leg under way has had.
    fn left(&self, p: &Progress, begin: MonoNs, closed: u32, now: MonoNs) -> Option<String> {
        let open = p
            .legs_total
            .checked_sub(p.legs_closed)
            .filter(|open| *open > 0)?;
        if closed < LEGS_BEFORE_ETA || p.outcome.is_some() {
            return None;
        }
        let (last, _) = self.last_close?;
        let all = between(begin, last)
            .checked_div(closed)?
            .saturating_mul(open);
        // A leg that takes longer than the others did leaves nothing to foretell.
        let left = all.saturating_sub(between(last, now)).as_secs();
        (left > 0).then(|| format!("about {} left", clock_text(Duration::from_secs(left))))
    }

    fn invalid(&mut self, progress: &Progress) -> Option<String> {
        let (run, why) = progress.last_invalid.as_ref()?;
        // One verdict stands in several pictures; the count of closed legs tells verdicts apart.
        if self.last_invalid_at == Some(progress.legs_closed) {
            return None;
        }
        self.last_invalid_at = Some(progress.legs_closed);
        self.invalid_shown += 1;
        Some(format!(
            "invalid: {run}: {} ({})",
            why.reason.as_str(),
            why.detail
        ))
    }

    /// Pictures may be skipped: invalid legs that none of them showed.
    fn invalid_unseen(&self) -> Option<String> {
        match self.invalid_total.saturating_sub(self.invalid_shown) {
            0 => None,
            1 => Some("1 more leg is invalid; the report says why".to_owned()),
            more => Some(format!("{more} more legs are invalid; the report says why")),
        }
    }
}

fn describe(progress: &Progress) -> String {
    if let Some(outcome) = &progress.outcome {
        return outcome_text(outcome);
    }
    let Some(leg) = &progress.leg else {
        return progress.phase.clone();
    };
    let stage = progress
        .phase
        .strip_prefix(leg.run_id.as_str())
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(&progress.phase);
    let done = match progress.agents_done.len() {
        0 => String::new(),
        done => format!(", {done} of {} agents done", progress.members.len()),
    };
    format!("{}: {stage}{done}", leg_text(leg))
}

/// A leg in words.
pub(crate) fn leg_text(leg: &PlannedLeg) -> String {
    let kind = match &leg.kind {
        LegKind::Together => "all together".to_owned(),
        LegKind::Solo { agent } => format!("{agent} alone"),
    };
    format!("test {}, run {}, {kind}", leg.test, leg.run)
}

/// How an experiment ended, in words.
pub(crate) fn outcome_text(outcome: &ExperimentOutcome) -> String {
    match outcome {
        ExperimentOutcome::Completed => "completed".to_owned(),
        ExperimentOutcome::Cancelled => "cancelled".to_owned(),
        ExperimentOutcome::Failed { detail } => format!("failed: {detail}"),
    }
}

fn between(from: MonoNs, to: MonoNs) -> Duration {
    Duration::from_nanos(to.0.saturating_sub(from.0))
}

/// Minutes and seconds; hours where there are any.
fn clock_text(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_domain::control::{Invalid, InvalidReason};
    use chimera_domain::ids::{AgentId, ExperimentId, RunId};

    const S: u64 = 1_000_000_000;

    fn progress(closed: u32, valid: u32, stage: &str) -> Progress {
        let run_id = RunId::try_new("t1-r2-solo-insight").unwrap();
        Progress {
            experiment: ExperimentId::try_new("e-1").unwrap(),
            name: "e".to_owned(),
            legs_total: 6,
            legs_closed: closed,
            legs_valid: valid,
            phase: format!("{run_id}: {stage}"),
            leg: Some(PlannedLeg {
                run_id,
                test: 1,
                run: 2,
                kind: LegKind::Solo {
                    agent: AgentId::try_new("insight").unwrap(),
                },
            }),
            members: Vec::new(),
            agents_done: Vec::new(),
            last_invalid: None,
            outcome: None,
        }
    }

    fn kept(view: &ProgressView) -> &[String] {
        match &view.sink {
            Sink::Lines(Lines::Kept(lines)) => lines,
            _ => panic!("another sink"),
        }
    }

    fn view() -> ProgressView {
        ProgressView::with(Sink::Lines(Lines::Kept(Vec::new())))
    }

    #[test]
    fn a_line_per_change_and_the_rest_is_foretold_after_two_legs() {
        let mut view = view();
        view.update_at(&progress(0, 0, "warming"), MonoNs(S));
        view.update_at(&progress(0, 0, "warming"), MonoNs(2 * S));
        view.update_at(&progress(1, 1, "running"), MonoNs(11 * S));
        view.update_at(&progress(2, 2, "running"), MonoNs(21 * S));
        view.update_at(&progress(2, 2, "closed"), MonoNs(26 * S));
        view.finish();
        assert_eq!(
            kept(&view),
            [
                "[0:00] 0 of 6 legs, 0 valid: test 1, run 2, insight alone: warming",
                "[0:10] 1 of 6 legs, 1 valid: test 1, run 2, insight alone: running",
                "[0:20, about 0:40 left] 2 of 6 legs, 2 valid: test 1, run 2, insight alone: running",
                "[0:25, about 0:35 left] 2 of 6 legs, 2 valid: test 1, run 2, insight alone: closed",
            ]
        );
    }

    #[test]
    fn a_leg_that_takes_longer_than_all_that_was_foretold_is_no_news() {
        let mut view = view();
        view.update_at(&progress(3, 3, "running"), MonoNs(0));
        view.update_at(&progress(5, 5, "running"), MonoNs(10 * S));
        view.update_at(&progress(5, 5, "draining"), MonoNs(20 * S));
        assert_eq!(
            kept(&view)[2],
            "[0:20] 5 of 6 legs, 5 valid: test 1, run 2, insight alone: draining"
        );
    }

    #[test]
    fn each_invalid_leg_is_a_line_once_and_the_unseen_are_counted() {
        let mut view = view();
        let invalid = |closed| {
            let mut picture = progress(closed, 0, "closed");
            let why = Invalid {
                reason: InvalidReason::WorkerLost,
                detail: "w1 went away".to_owned(),
            };
            picture.last_invalid = Some((RunId::try_new("t1-r2-together").unwrap(), why));
            picture
        };
        view.update_at(&invalid(1), MonoNs(0));
        view.update_at(&invalid(1), MonoNs(1));
        view.update_at(&invalid(2), MonoNs(2));
        view.update_at(&progress(4, 0, "closed"), MonoNs(3));
        view.finish();
        let lines = kept(&view);
        let told = "invalid: t1-r2-together: worker_lost (w1 went away)";
        assert_eq!(lines.iter().filter(|line| *line == told).count(), 2);
        assert_eq!(
            lines.last().unwrap(),
            "2 more legs are invalid; the report says why"
        );
    }

    #[test]
    fn the_end_is_said_and_a_disabled_view_is_silent() {
        let mut picture = progress(6, 6, "closed");
        picture.outcome = Some(ExperimentOutcome::Failed {
            detail: "no disk".to_owned(),
        });
        let mut shown = view();
        shown.update_at(&picture, MonoNs(3_700 * S));
        assert_eq!(
            kept(&shown),
            ["[0:00] 6 of 6 legs, 6 valid: failed: no disk"]
        );
        let mut silent = ProgressView::new(false);
        silent.update(&picture);
        silent.note("nothing");
        silent.finish();
        assert!(matches!(silent.sink, Sink::Silent));
        assert_eq!(clock_text(Duration::from_secs(3_725)), "1:02:05");
    }

    #[test]
    fn the_bar_has_a_valid_template() {
        let bar = bar();
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar.disable_steady_tick();
        let mut view = ProgressView::with(Sink::Bar(bar));
        view.update_at(&progress(2, 1, "running"), MonoNs(0));
        let Sink::Bar(bar) = &view.sink else {
            panic!("another sink")
        };
        assert_eq!(bar.position(), 2);
        assert_eq!(bar.prefix(), "1 valid");
        assert_eq!(bar.message(), "test 1, run 2, insight alone: running");
        view.finish();
    }
}
