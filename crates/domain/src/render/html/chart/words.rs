//! How much room words take, without a font: enough to break lines and to keep labels apart.

/// Width of a text in a humanist sans, in the unit of `size`. Rounded up rather than down.
pub(in super::super) fn width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '\'' | '!' | '|' => 0.28,
            'f' | 't' | 'r' | ' ' | '(' | ')' | '[' | ']' | '/' | '-' => 0.37,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.92,
            'A'..='Z' | '&' | '_' => 0.68,
            c if c.is_ascii() => 0.57,
            '\u{2026}' => 0.9,
            '\u{2013}' | '\u{2009}' => 0.5,
            _ => 1.0,
        })
        .sum();
    ems * size
}

/// A text that fits, cut with an ellipsis if it must be.
pub(in super::super) fn fit(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let room = room - width("\u{2026}", size);
    let mut kept = String::new();
    let mut taken = 0.0;
    for c in text.chars() {
        taken += width(c.encode_utf8(&mut [0; 4]), size);
        if taken > room {
            break;
        }
        kept.push(c);
    }
    format!("{}\u{2026}", kept.trim_end())
}

/// A text over at most `lines` lines, broken at spaces; the last one is cut if it must be.
pub(in super::super) fn wrap(text: &str, size: f64, room: f64, lines: usize) -> Vec<String> {
    let mut done: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if line.is_empty() || width(&longer, size) <= room || done.len() + 1 >= lines {
            line = longer;
        } else {
            done.push(std::mem::replace(&mut line, word.to_owned()));
        }
    }
    if !line.is_empty() {
        done.push(line);
    }
    done.iter().map(|line| fit(line, size, room)).collect()
}
