//! How far an experiment is: bars on a terminal, one line per change elsewhere.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use chimera_domain::control::ExperimentOutcome;
use chimera_domain::plan::LegKind;
use chimera_domain::session::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Reader};

/// How far.
const LEGS_TEMPLATE: &str = "{spinner} [{elapsed_precise}] [{bar:24}] {msg}";
/// What now; how fast.
const LINE_TEMPLATE: &str = "  {wide_msg}";
/// How often the clock on the terminal moves. Seldom: the machine is being measured.
const TICK: Duration = Duration::from_millis(500);

/// Shows the progress of one experiment to a person.
///
/// On a terminal bars on standard error; otherwise a line for each change. Nothing is written to
/// standard output, unless [`ProgressView::on_stdout`] says so.
pub(crate) struct ProgressView {
    invalid: Invalid,
    sink: Sink,
    last_line: String,
    reader: Reader,
}

enum Sink {
    Silent,
    Bars(Bars),
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
            Sink::Bars(Bars::new(ProgressDrawTarget::stderr()))
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
            Sink::Bars(Bars::new(ProgressDrawTarget::stderr()))
        } else {
            Sink::Lines(Lines::Stdout)
        })
    }

    fn with(sink: Sink) -> Self {
        Self {
            invalid: Invalid::default(),
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
        if let Some(invalid) = self.invalid.take(progress) {
            self.line(&invalid);
        }
        match &self.sink {
            Sink::Silent => {}
            Sink::Bars(bars) => bars.update(progress),
            Sink::Lines(_) => {
                let now = format!("{}: {}", counts(progress), describe(progress));
                if now != self.last_line {
                    let elapsed = clock_text(Duration::from_millis(progress.tally.elapsed_ms));
                    let left = left(progress).map_or_else(String::new, |left| format!(", {left}"));
                    self.line(&format!("[{elapsed}{left}] {now}"));
                    self.last_line = now;
                }
            }
        }
    }

    /// Shows a line that stays.
    pub(crate) fn note(&mut self, text: &str) {
        self.line(text);
    }

    /// Takes the bars away, and says what could not be shown.
    pub(crate) fn finish(&mut self) {
        if let Some(more) = self.invalid.unseen() {
            self.line(&more);
        }
        if let Sink::Bars(bars) = &self.sink {
            bars.finish();
        }
    }

    fn line(&mut self, text: &str) {
        match &mut self.sink {
            Sink::Silent => {}
            Sink::Bars(bars) => bars.all.suspend(|| output::hint(text)),
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

/// Three lines of a terminal: how far, what now, how fast.
struct Bars {
    all: MultiProgress,
    legs: ProgressBar,
    now: ProgressBar,
    rates: ProgressBar,
    /// Whether there was a picture. Before it nothing is drawn: an empty bar would look full.
    begun: Cell<bool>,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let add = |template: &str| {
            let bar = all.add(ProgressBar::new(0));
            // The templates are constants, tested below; without them the default style serves.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        };
        let legs = add(LEGS_TEMPLATE);
        let now = add(LINE_TEMPLATE);
        let rates = add(LINE_TEMPLATE);
        Self {
            all,
            legs,
            now,
            rates,
            begun: Cell::new(false),
        }
    }

    fn update(&self, progress: &Progress) {
        if !self.begun.replace(true) {
            self.legs.enable_steady_tick(TICK);
        }
        self.legs.set_length(u64::from(progress.legs_total));
        self.legs.set_position(u64::from(progress.legs_closed));
        self.legs
            .set_elapsed(Duration::from_millis(progress.tally.elapsed_ms));
        let left = left(progress).map_or_else(String::new, |left| format!(", {left}"));
        self.legs.set_message(format!("{}{left}", counts(progress)));
        self.now.set_message(describe(progress));
        self.rates.set_message(rates(progress).unwrap_or_default());
    }

    fn finish(&self) {
        for bar in [&self.rates, &self.now, &self.legs] {
            bar.finish_and_clear();
        }
    }
}

/// `3 of 6 legs (1 of 2 tests), 2 valid, 1 tried again`.
fn counts(progress: &Progress) -> String {
    let tally = &progress.tally;
    let mut text = format!("{} of {} legs", progress.legs_closed, progress.legs_total);
    if tally.tests > 1 {
        text.push_str(&format!(" ({} of {} tests)", tally.tests_done, tally.tests));
    }
    text.push_str(&format!(", {} valid", progress.legs_valid));
    if tally.retried > 0 {
        text.push_str(&format!(", {} tried again", tally.retried));
    }
    text
}

/// How long it will take, in words. `None`: not known yet, or over.
fn left(progress: &Progress) -> Option<String> {
    if progress.outcome.is_some() {
        return None;
    }
    let tally = &progress.tally;
    let some = |ms: u64| Some(Duration::from_millis(ms)).filter(|time| time.as_secs() > 0);
    let planned = some(tally.left_ms?).map(clock_text);
    // Whether tests are repeated is not known before their intervals are.
    let repeated = tally.left_at_most_ms.and_then(some).map(clock_text);
    match (planned, repeated) {
        (None, None) => None,
        (Some(planned), None) => Some(format!("about {planned} left")),
        (Some(planned), Some(repeated)) => Some(format!(
            "about {planned} left, up to {repeated} if intervals stay wide"
        )),
        (None, Some(repeated)) => Some(format!("up to {repeated} left if intervals stay wide")),
    }
}

/// How fast the agents of the last leg wrote.
fn rates(progress: &Progress) -> Option<String> {
    let rate = |r: &chimera_domain::session::AgentRate| {
        format!("{} {:.1} tokens/s", r.agent, r.tokens_per_s)
    };
    let all: Vec<String> = progress.rates.iter().map(rate).collect();
    (!all.is_empty()).then(|| format!("last leg: {}", all.join(", ")))
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
    let kind = match &leg.kind {
        LegKind::Together => "all together".to_owned(),
        LegKind::Solo { agent } => format!("{agent} alone"),
    };
    let Some(about) = &progress.about else {
        return format!("test {}, run {}, {kind}: {stage}{done}", leg.test, leg.run);
    };
    let phase = match progress.tally.phases {
        0 | 1 => String::new(),
        phases => format!("phase {} of {phases}, ", about.phase),
    };
    let again = match about.attempt {
        0 | 1 => String::new(),
        attempt => format!(", attempt {attempt}"),
    };
    format!(
        "{phase}test {} ({}), run {} of {}, {kind}{again}: {stage}{done}",
        leg.test, about.label, leg.run, about.runs
    )
}

/// How an experiment ended, in words.
pub(crate) fn outcome_text(outcome: &ExperimentOutcome) -> String {
    match outcome {
        ExperimentOutcome::Completed => "completed".to_owned(),
        ExperimentOutcome::Cancelled => "cancelled".to_owned(),
        ExperimentOutcome::Failed { detail } => format!("failed: {detail}"),
    }
}

/// Invalid attempts: each is a line once; a slow watcher skips pictures, and is told how many.
#[derive(Debug, Default)]
struct Invalid {
    /// Attempts that had been invalid before the first picture.
    before: Option<u32>,
    shown: u32,
    total: u32,
    last_at: Option<u32>,
}

impl Invalid {
    fn take(&mut self, progress: &Progress) -> Option<String> {
        let count = progress.tally.invalid_attempts;
        let told = u32::from(progress.last_invalid.is_some());
        // What happened before somebody looked is told by the count of valid legs alone.
        self.before.get_or_insert(count.saturating_sub(told));
        self.total = count;
        let (run, why) = progress.last_invalid.as_ref()?;
        // One verdict stands in several pictures; the count tells verdicts apart.
        if self.last_at == Some(count) {
            return None;
        }
        self.last_at = Some(count);
        self.shown += 1;
        let reason = why.reason.as_str();
        Some(format!("invalid: {run}: {reason} ({})", why.detail))
    }

    fn unseen(&self) -> Option<String> {
        let seen = self.shown.saturating_add(self.before.unwrap_or(0));
        match self.total.saturating_sub(seen) {
            0 => None,
            1 => Some("1 more attempt was invalid; the report says why".to_owned()),
            more => Some(format!(
                "{more} more attempts were invalid; the report says why"
            )),
        }
    }
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
mod tests;
