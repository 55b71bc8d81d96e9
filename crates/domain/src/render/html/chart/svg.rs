//! Writes SVG. Everything that is not a number passes through [`escape`].

use std::fmt;
use std::fmt::Write as _;

use super::Layout;

/// Which point of a text its position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Anchor {
    /// Its begin.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

impl Anchor {
    fn attribute(self) -> &'static str {
        match self {
            Self::Start => "",
            Self::Middle => " text-anchor=\"middle\"",
            Self::End => " text-anchor=\"end\"",
        }
    }
}

/// A drawing under construction.
#[derive(Debug)]
pub(in super::super) struct Svg {
    layout: Layout,
    label: String,
    body: String,
}

impl Svg {
    /// Starts a drawing; `label` says what it shows to whoever cannot see it.
    pub(in super::super) fn new(layout: Layout, label: &str) -> Self {
        Self {
            layout,
            label: label.to_owned(),
            body: String::new(),
        }
    }

    fn put(&mut self, part: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        if self.body.write_fmt(part).is_err() {
            self.body.clear();
        }
    }

    /// A straight line between two points.
    pub(in super::super) fn line(
        &mut self,
        class: &str,
        (x1, y1): (f64, f64),
        (x2, y2): (f64, f64),
    ) {
        self.put(format_args!(
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
            Num(x1),
            Num(y1),
            Num(x2),
            Num(y2)
        ));
    }

    /// A path of given commands.
    pub(in super::super) fn path(&mut self, class: &str, commands: &str) {
        self.put(format_args!("<path class=\"{class}\" d=\"{commands}\"/>"));
    }

    /// Many points at once, as round dots of the class's stroke width: ten bytes a point.
    pub(in super::super) fn dots(
        &mut self,
        class: &str,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) {
        let mut commands = String::new();
        for (x, y) in points {
            if write!(commands, "M{} {}h0", Num(x), Num(y)).is_err() {
                return;
            }
        }
        if !commands.is_empty() {
            self.path(class, &commands);
        }
    }

    /// A line through points.
    pub(in super::super) fn polyline(
        &mut self,
        class: &str,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) {
        let mut commands = String::new();
        for (index, (x, y)) in points.into_iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            if write!(commands, "{command}{} {}", Num(x), Num(y)).is_err() {
                return;
            }
        }
        if !commands.is_empty() {
            self.path(class, &commands);
        }
    }

    /// A box with corners of radius `round`; `tip` shows on hover.
    pub(in super::super) fn rect(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (wide, high): (f64, f64),
        round: f64,
        tip: Option<&str>,
    ) {
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
            Num(x),
            Num(y),
            Num(wide.max(0.0)),
            Num(high.max(0.0))
        ));
        if round > 0.0 {
            self.put(format_args!(" rx=\"{}\"", Num(round)));
        }
        self.close("rect", tip);
    }

    /// A circle; `tip` shows on hover.
    pub(in super::super) fn circle(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        radius: f64,
        tip: Option<&str>,
    ) {
        self.put(format_args!(
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"",
            Num(x),
            Num(y),
            Num(radius)
        ));
        self.close("circle", tip);
    }

    fn close(&mut self, element: &str, tip: Option<&str>) {
        match tip {
            None => self.body.push_str("/>"),
            Some(tip) => {
                let tip = escape(tip);
                self.put(format_args!("><title>{tip}</title></{element}>"));
            }
        }
    }

    /// Words at a point.
    pub(in super::super) fn text(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        anchor: Anchor,
        words: &str,
    ) {
        let words = escape(words);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\"{}>{words}</text>",
            Num(x),
            Num(y),
            anchor.attribute()
        ));
    }

    /// The drawing, of this height.
    pub(in super::super) fn finish(self, height: f64) -> String {
        let Self {
            layout,
            label,
            body,
        } = self;
        format!(
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{body}</svg>",
            layout.class(),
            Num(layout.width()),
            Num(height),
            escape(&label)
        )
    }
}

/// A coordinate: one decimal, none where it would be 0.
struct Num(f64);

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() {
            return f.write_str("0");
        }
        let text = format!("{:.1}", self.0);
        let text = text.strip_suffix(".0").unwrap_or(&text);
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

/// Text as element or attribute content. What XML cannot hold becomes a replacement mark.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
