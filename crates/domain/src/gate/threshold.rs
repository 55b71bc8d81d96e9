//! A rule that a report must meet, as a person writes it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;

/// A figure and the limit that it must keep.
///
/// Written as name and rule: `concurrency_gain` and `>= 1.5 ci optional in 108`. The rule is an
/// operator (`>=`, `>`, `<=`, `<`) and a number, `%` allowed for a ratio, then in any order
/// - `ci`: the end of the 95 % interval on the side of the limit must keep it, not just the mean;
/// - `optional`: a figure that was not measured does not fail the gate;
///
/// and last `in` with the id or the label of the only test that it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Threshold {
    /// What is judged.
    pub quantity: Quantity,
    /// On which side of the limit it must lie.
    pub operator: Operator,
    /// The limit, in the unit of the quantity.
    pub limit: f64,
    /// Whether the whole interval must keep the limit, or the mean only.
    pub by_interval: bool,
    /// Whether a figure that was not measured fails the gate.
    pub required: bool,
    /// Id or label of the test; `None`: every test.
    pub test: Option<String>,
}

/// On which side of a limit a figure must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The limit or more.
    AtLeast,
    /// More than the limit.
    Above,
    /// The limit or less.
    AtMost,
    /// Less than the limit.
    Below,
}

impl Operator {
    const ALL: [Self; 4] = [Self::AtLeast, Self::AtMost, Self::Above, Self::Below];

    /// As written in a rule.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }

    /// Whether a value lies on the right side.
    #[must_use]
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => value >= limit,
            Self::Above => value > limit,
            Self::AtMost => value <= limit,
            Self::Below => value < limit,
        }
    }

    /// The end of an interval that decides.
    #[must_use]
    pub fn weak_end(self, [low, high]: [f64; 2]) -> f64 {
        match self {
            Self::AtLeast | Self::Above => low,
            Self::AtMost | Self::Below => high,
        }
    }
}

impl Threshold {
    /// Reads a rule as it stands in the `[gate]` table of a spec: key and value.
    ///
    /// # Errors
    /// When no quantity has this name, or the rule cannot be read; the text names the cause and what
    /// would be right.
    ///
    /// ```
    /// use chimera_domain::gate::Threshold;
    /// let rule = Threshold::parse("parallel_efficiency", ">= 95 % ci").unwrap();
    /// assert_eq!(rule.to_string(), "parallel_efficiency >= 0.95 ci");
    /// assert!(Threshold::parse("speed", ">= 2").is_err());
    /// ```
    pub fn parse(name: &str, rule: &str) -> Result<Self, String> {
        let quantity = Quantity::from_name(name)?;
        let wrong = |why: &str| {
            format!("the rule '{rule}' of {name} {why}; write it like \">= 1.5\" or \"<= 10 % ci\"")
        };
        let text = rule.trim();
        let operator = Operator::ALL
            .into_iter()
            .find(|operator| text.starts_with(operator.as_str()))
            .ok_or_else(|| wrong("does not begin with >=, >, <= or <"))?;
        let text = text
            .get(operator.as_str().len()..)
            .unwrap_or_default()
            .trim_start();
        let end = text.find(|c: char| c.is_whitespace() || c == '%');
        let (number, mut rest) = text.split_at(end.unwrap_or(text.len()));
        let mut limit = f64::from_str(number)
            .ok()
            .filter(|limit| limit.is_finite())
            .ok_or_else(|| wrong(&format!("has '{number}' where a number should stand")))?;
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('%') {
            if !quantity.is_ratio() {
                return Err(wrong(&format!(
                    "has a percentage, but the figure is in {}",
                    quantity.unit()
                )));
            }
            limit /= 100.0;
            rest = after.trim_start();
        }
        let mut threshold = Self {
            quantity,
            operator,
            limit,
            by_interval: false,
            required: true,
            test: None,
        };
        while !rest.is_empty() {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim();
            match word {
                "ci" if !quantity.has_interval() => {
                    return Err(wrong(
                        "has 'ci', but the figure is the highest over the runs, which has no interval",
                    ));
                }
                "ci" => threshold.by_interval = true,
                "optional" => threshold.required = false,
                "in" if rest.is_empty() => return Err(wrong("names no test after 'in'")),
                "in" => {
                    threshold.test = Some(rest.to_owned());
                    break;
                }
                other => {
                    return Err(wrong(&format!(
                        "has '{other}' after the number, where only 'ci', 'optional' or 'in TEST' may stand"
                    )));
                }
            }
        }
        Ok(threshold)
    }
}

impl Threshold {
    /// The rule without the name of its quantity, as it stands in a spec.
    #[must_use]
    pub fn rule(&self) -> String {
        let mut rule = format!("{} {}", self.operator.as_str(), self.limit);
        if self.by_interval {
            rule.push_str(" ci");
        }
        if !self.required {
            rule.push_str(" optional");
        }
        if let Some(test) = &self.test {
            rule.push_str(" in ");
            rule.push_str(test);
        }
        rule
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.quantity.name(), self.rule())
    }
}

impl FromStr for Threshold {
    type Err = String;

    /// Name and rule in one text: `concurrency_gain >= 1.2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(text.len());
        let (name, rule) = text.split_at(end);
        Self::parse(name, rule)
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}
