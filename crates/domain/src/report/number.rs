//! Numbers for people: the one way in which a report writes them.

/// What stands for a number that is not there.
pub const NONE: &str = "-";

/// A number with three significant digits, and never fewer than its whole part.
///
/// ```
/// use chimera_domain::report::number::text;
/// assert_eq!(text(0.35964), "0.360");
/// assert_eq!(text(2.0), "2.00");
/// assert_eq!(text(41.26), "41.3");
/// assert_eq!(text(12345.6), "12346");
/// assert_eq!(text(0.0), "0");
/// ```
#[must_use]
pub fn text(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value.abs() < f64::MIN_POSITIVE {
        return "0".to_owned();
    }
    let asked = decimals(value);
    let written = format!("{value:.asked$}");
    // 9.996 becomes 10.00 by rounding, one magnitude up: one decimal less.
    let fitting = written.parse().map_or(asked, decimals).min(asked);
    format!("{value:.fitting$}")
}

/// Decimals that give three significant digits; below a hundred-millionth they would help no reader.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=10"
)]
fn decimals(value: f64) -> usize {
    (2.0 - value.abs().log10().floor()).clamp(0.0, 10.0) as usize
}

/// [`text`], or [`NONE`].
#[must_use]
pub fn opt(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), text)
}

/// A value with its 95 % interval: `1.85 (1.70 to 2.00)`; without an interval the value alone.
#[must_use]
pub fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => {
            format!("{} ({} to {})", text(value), text(low), text(high))
        }
        (value, _) => opt(value),
    }
}

/// A fraction as a whole percentage: `0.357` is `36 %`.
#[must_use]
pub fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

/// Small whole numbers as words.
#[must_use]
pub fn word(count: usize) -> String {
    let words = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    words
        .get(count)
        .map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_whole_part() {
        for (value, want) in [
            (9.996, "10.0"),
            (0.9996, "1.00"),
            (99.96, "100"),
            (999.6, "1000"),
            (-0.0425, "-0.0425"),
            (0.000_012_34, "0.0000123"),
            (1.0, "1.00"),
            (123.4, "123"),
            (-2.5, "-2.50"),
        ] {
            assert_eq!(text(value), want, "{value}");
        }
        assert_eq!(text(f64::NAN), NONE);
    }

    #[test]
    fn intervals_stand_behind_the_value() {
        assert_eq!(
            with_interval(Some(1.85), Some([1.7, 2.0])),
            "1.85 (1.70 to 2.00)"
        );
        assert_eq!(with_interval(Some(1.85), None), "1.85");
        assert_eq!(with_interval(None, None), "-");
    }
}
