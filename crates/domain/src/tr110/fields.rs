//! Fields of a JSON object, each checked: absent and `null` are nothing, what cannot be is a fault.

use serde_json::{Map, Value};

use super::faults::Fault;

/// Most characters of a refused value that an error repeats.
const SHOWN: usize = 40;

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A time, a rate, a count of bytes.
    NotNegative,
    /// A difference.
    Any,
}

/// Reads the objects of one file and keeps what is wrong with them.
#[derive(Debug)]
pub(super) struct Fields<'f> {
    file: &'f str,
    faults: Vec<Fault>,
}

impl<'f> Fields<'f> {
    pub(super) fn new(file: &'f str) -> Self {
        Self {
            file,
            faults: Vec::new(),
        }
    }

    /// What was wrong.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Keeps what is wrong with a field; an empty name is the file as a whole.
    pub(super) fn fault(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        let field = field.into();
        self.faults.push(if field.is_empty() {
            Fault::of_file(self.file, problem)
        } else {
            Fault::of_field(self.file, field, problem)
        });
    }

    /// The object under a name; nothing where it is absent or `null`.
    pub(super) fn object<'v>(
        &mut self,
        parent: &'v Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Option<&'v Map<String, Value>> {
        match parent.get(name)? {
            Value::Null => None,
            Value::Object(object) => Some(object),
            other => {
                let problem = format!("{} is no object", shown(other));
                self.fault(join(path, name), problem);
                None
            }
        }
    }

    /// A finite number.
    pub(super) fn number(
        &mut self,
        object: &Map<String, Value>,
        path: &str,
        name: &str,
        sign: Sign,
    ) -> Option<f64> {
        let value = match object.get(name)? {
            Value::Null => return None,
            value => value,
        };
        let number = value.as_f64().filter(|number| number.is_finite());
        match number {
            None => {
                let problem = format!("{} is no finite number", shown(value));
                self.fault(join(path, name), problem);
                None
            }
            Some(number) if sign == Sign::NotNegative && number < 0.0 => {
                self.fault(
                    join(path, name),
                    format!("{number} is negative, which it cannot be"),
                );
                None
            }
            number => number,
        }
    }

    /// A whole number that is not negative. A float without a fraction is one: JSON writers differ.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and in the range of u32"
    )]
    pub(super) fn whole(
        &mut self,
        object: &Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Option<u32> {
        let number = self.number(object, path, name, Sign::NotNegative)?;
        if number.fract() > 0.0 || number > f64::from(u32::MAX) {
            let problem = format!("{number} is no whole number of up to {}", u32::MAX);
            self.fault(join(path, name), problem);
            return None;
        }
        Some(number as u32)
    }

    /// A text.
    pub(super) fn text(
        &mut self,
        object: &Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Option<String> {
        match object.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => {
                let problem = format!("{} is no text", shown(other));
                self.fault(join(path, name), problem);
                None
            }
        }
    }

    pub(super) fn flag(
        &mut self,
        object: &Map<String, Value>,
        path: &str,
        name: &str,
    ) -> Option<bool> {
        match object.get(name)? {
            Value::Null => None,
            Value::Bool(flag) => Some(*flag),
            other => {
                let problem = format!("{} is neither true nor false", shown(other));
                self.fault(join(path, name), problem);
                None
            }
        }
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start}...")
}
