//! JSON strings borrowed where they can be.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A string that borrows from the line unless it holds escapes.
///
/// serde borrows a plain `Cow` field when told to, but not one inside an `Option`; this type does
/// in both places.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The first item of an array, without a vector for it; `None` if the array is empty or null.
#[derive(Debug)]
pub(super) struct First<T>(pub(super) Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
            type Value = First<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_unit<E: de::Error>(self) -> Result<First<T>, E> {
                Ok(First(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<First<T>, A::Error> {
                let first = items.next_element()?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_any(FirstVisitor(std::marker::PhantomData))
    }
}

/// The `error` member of an answer: a text (Ollama), an object with a `message` (`OpenAI`,
/// llama.cpp), or whatever else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorMember {
    pub(super) message: String,
    pub(super) code: Option<String>,
}

impl<'de> Deserialize<'de> for ErrorMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ErrorVisitor;
        impl<'de> Visitor<'de> for ErrorVisitor {
            type Value = ErrorMember;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an error")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ErrorMember, E> {
                Ok(ErrorMember {
                    message: text.to_owned(),
                    code: None,
                })
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<ErrorMember, E> {
                Ok(ErrorMember {
                    message: value.to_string(),
                    code: None,
                })
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ErrorMember, E> {
                Ok(ErrorMember {
                    message: value.to_string(),
                    code: None,
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ErrorMember, A::Error> {
                let (mut message, mut code) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value::<serde_json::Value>()?;
                    let plain = match value {
                        serde_json::Value::String(text) => Some(text),
                        serde_json::Value::Null => None,
                        other => Some(other.to_string()),
                    };
                    match key.as_str() {
                        "message" => message = plain,
                        // llama.cpp puts the HTTP status into `code` and the class into `type`.
                        "code" => code = plain.or(code),
                        _ => {}
                    }
                }
                let message = message.unwrap_or_else(|| "an error without a message".to_owned());
                Ok(ErrorMember { message, code })
            }
        }
        deserializer.deserialize_any(ErrorVisitor)
    }
}
