//! From values to positions.

/// Most ticks an axis can have, whatever it is asked for.
const MAX_TICKS: u32 = 12;
/// Room above the largest value, as a part of the range.
const ROOM: f64 = 0.03;
/// A range over more than this factor is drawn on a logarithmic axis.
const LOG_FROM: f64 = 40.0;

/// An axis: a range of values laid over a range of positions.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<f64>,
    decimals: usize,
}

impl Scale {
    /// A linear axis from `low` to a little over `high`.
    ///
    /// *Shape*: about `about` ticks at 1, 2 or 5 times a power of ten. A range that is empty or not
    /// finite becomes 0 to 1.
    pub(in super::super) fn linear(
        low: f64,
        high: f64,
        (from, to): (f64, f64),
        about: u32,
    ) -> Self {
        let (low, high) = if low.is_finite() && high.is_finite() && high > low {
            (low, high)
        } else {
            (0.0, 1.0)
        };
        let high = high + (high - low) * ROOM;
        let step = step(high - low, about);
        let first = (low / step).ceil();
        let ticks: Vec<f64> = (0..=MAX_TICKS)
            .map(|k| (first + f64::from(k)) * step)
            .take_while(|tick| *tick <= high + step * 1e-6)
            .collect();
        Self {
            low,
            high,
            from,
            to,
            log: false,
            ticks,
            decimals: decimals(step),
        }
    }

    /// An axis for times: from 0 if they are of one magnitude, else logarithmic from the smallest.
    pub(in super::super) fn times(
        smallest: f64,
        largest: f64,
        span: (f64, f64),
        about: u32,
    ) -> Self {
        if !(smallest > 0.0 && largest.is_finite() && largest / smallest > LOG_FROM) {
            return Self::linear(0.0, largest, span, about);
        }
        let low = 10_f64.powf(smallest.log10().floor());
        let high = largest * 1.1;
        let decades = (high / low).log10();
        let steps: &[f64] = if decades > 3.0 {
            &[1.0]
        } else if decades > 1.6 || about < 5 {
            &[1.0, 3.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let ticks: Vec<f64> = (0..=MAX_TICKS)
            .flat_map(|k| {
                steps
                    .iter()
                    .map(move |s| s * low * 10_f64.powf(f64::from(k)))
            })
            .take_while(|tick| *tick <= high)
            .collect();
        Self {
            low,
            high,
            from: span.0,
            to: span.1,
            log: true,
            ticks,
            decimals: decimals(low),
        }
    }

    /// Where a value lies; values outside are held at the ends.
    pub(in super::super) fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if part.is_nan() {
            return self.from;
        }
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Upper end.
    pub(in super::super) fn high(&self) -> f64 {
        self.high
    }

    /// Whether distances are ratios.
    pub(in super::super) fn is_log(&self) -> bool {
        self.log
    }

    /// The round values, rising.
    pub(in super::super) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// A tick as text, with no more decimals than the distance of two ticks needs.
    pub(in super::super) fn tick_text(&self, tick: f64) -> String {
        let decimals = if self.log {
            decimals(tick)
        } else {
            self.decimals
        };
        let tick = if tick.abs() < 1e-12 { 0.0 } else { tick };
        format!("{tick:.decimals$}")
    }
}

/// Distance of two ticks: 1, 2 or 5 times a power of ten.
fn step(span: f64, about: u32) -> f64 {
    let raw = span / f64::from(about.clamp(2, MAX_TICKS - 2));
    let magnitude = 10_f64.powf(raw.log10().floor());
    let factor = match raw / magnitude {
        n if n <= 1.0 => 1.0,
        n if n <= 2.0 => 2.0,
        n if n <= 5.0 => 5.0,
        _ => 10.0,
    };
    magnitude * factor
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=9"
)]
fn decimals(step: f64) -> usize {
    (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize
}

/// The unit in which an axis up to `largest_ms` reads best: milliseconds over it, and its name.
pub(in super::super) fn time_unit(largest_ms: f64) -> (f64, &'static str) {
    if largest_ms >= 10_000.0 {
        (1e3, "s")
    } else {
        (1.0, "ms")
    }
}
