//! The header of a GGUF file: metadata and the list of tensors, without their values.
//!
//! The bytes may come from anybody. Every length is checked against the bytes that are there before
//! anything is set aside for it, so the header takes no more memory than a small multiple of the input,
//! and no input makes the reader panic. Long lists (a vocabulary has 262 144 entries) are counted, not
//! kept.
//!
//! *Source*: the GGUF specification, `docs/gguf.md` of ggml, versions 2 and 3.

use std::collections::BTreeMap;

use thiserror::Error;

use super::tensor::TensorType;

/// Lists of numbers up to this length are kept: one entry for each layer. Longer ones are counted.
const MAX_KEPT: u64 = 4_096;
/// ggml's own limit on dimensions.
const MAX_DIMENSIONS: u32 = 4;

/// Why a header cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GgufError {
    /// It does not begin as one.
    #[error("this is no GGUF file: it does not begin with \"GGUF\"")]
    NotGguf,
    /// Of a version that was never common, or byte-swapped.
    #[error(
        "GGUF version {0} cannot be read, only 2 and 3 (a very large number means that the file was \
         made for a big-endian machine): convert the model again"
    )]
    Version(u32),
    /// The bytes end before the header does.
    #[error("the GGUF header goes on after byte {0}, where the data end: the file is cut short")]
    Truncated(u64),
    /// Something in it is no GGUF.
    #[error("the GGUF header is damaged at byte {at}: {what}")]
    Damaged {
        /// Offset of the offending bytes.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A tensor type that is newer than this program.
    #[error("tensor {tensor} has the type number {number}, which is not known here")]
    UnknownType {
        /// The tensor's name.
        tensor: String,
        /// Its type in the file.
        number: u32,
    },
}

/// A metadata value, as far as planning needs it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any whole number that is not negative.
    Whole(u64),
    /// A number that is negative or has a fraction.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(String),
    /// Numbers or flags (0 and 1), one for each layer; only short lists of whole numbers are kept.
    List(Vec<u64>),
    /// A list of something else, or a long one: only its length is known.
    Counted(u64),
}

/// A tensor in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, e.g. `blk.0.attn_k.weight`.
    pub name: String,
    /// The row's length first.
    pub shape: Vec<u64>,
    /// How its values are stored.
    pub kind: TensorType,
}

/// Everything before the values.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors in the file's order.
    pub tensors: Vec<TensorInfo>,
}

impl Header {
    /// Reads a header from the begin of a file.
    ///
    /// # Errors
    /// [`GgufError::Truncated`] when the bytes end before the header does: give more of the file.
    /// The others mean that no more bytes would help.
    pub fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        let mut reader = Reader { bytes, at: 0 };
        // A short begin that may still become the magic is worth another read.
        if !b"GGUF".starts_with(bytes.get(..4).unwrap_or(bytes)) {
            return Err(GgufError::NotGguf);
        }
        reader.take(4)?;
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = reader.u64()?;
        let value_count = reader.u64()?;
        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let key = reader.text()?;
            let at = reader.at;
            let kind = reader.u32()?;
            let value = reader.value(kind, at)?;
            metadata.insert(key, value);
        }
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(reader.tensor()?);
        }
        Ok(Self {
            version,
            metadata,
            tensors,
        })
    }
}

/// What has been read of the bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], GgufError> {
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count));
        let taken = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?)));
        let Some((end, taken)) = taken else {
            return Err(GgufError::Truncated(self.bytes.len() as u64));
        };
        self.at = end;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let taken = self.take(N as u64)?;
        // `take` gave exactly N bytes.
        taken
            .try_into()
            .map_err(|_| GgufError::Truncated(self.at as u64))
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.fixed().map(u64::from_le_bytes)
    }

    fn damaged(at: usize, what: &'static str) -> GgufError {
        let at = at as u64;
        GgufError::Damaged { at, what }
    }

    fn text(&mut self) -> Result<String, GgufError> {
        let at = self.at;
        let length = self.u64()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Self::damaged(at, "text that is not UTF-8"))
    }

    /// A value of one of the format's types; `at` is where its type stands.
    fn value(&mut self, kind: u32, at: usize) -> Result<Value, GgufError> {
        let value = match kind {
            0 => Value::Whole(u64::from(u8::from_le_bytes(self.fixed()?))),
            1 => signed(i64::from(i8::from_le_bytes(self.fixed()?))),
            2 => Value::Whole(u64::from(u16::from_le_bytes(self.fixed()?))),
            3 => signed(i64::from(i16::from_le_bytes(self.fixed()?))),
            4 => Value::Whole(u64::from(self.u32()?)),
            5 => signed(i64::from(i32::from_le_bytes(self.fixed()?))),
            6 => Value::Number(f64::from(f32::from_le_bytes(self.fixed()?))),
            7 => Value::Flag(u8::from_le_bytes(self.fixed()?) != 0),
            8 => Value::Text(self.text()?),
            9 => self.list()?,
            10 => Value::Whole(self.u64()?),
            11 => signed(i64::from_le_bytes(self.fixed()?)),
            12 => Value::Number(f64::from_le_bytes(self.fixed()?)),
            _ => return Err(Self::damaged(at, "a value of an unknown type")),
        };
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, GgufError> {
        let at = self.at;
        let kind = self.u32()?;
        let count = self.u64()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                // Each takes at least its eight bytes of length: the input bounds the loop.
                for _ in 0..count {
                    let length = self.u64()?;
                    self.take(length)?;
                }
                return Ok(Value::Counted(count));
            }
            9 => return Err(Self::damaged(at, "a list of lists")),
            _ => return Err(Self::damaged(at, "a list of an unknown type")),
        };
        let bytes = count
            .checked_mul(size)
            .ok_or_else(|| Self::damaged(at, "a list longer than any file"))?;
        let begin = self.at;
        self.take(bytes)?;
        if count > MAX_KEPT {
            return Ok(Value::Counted(count));
        }
        let end = self.at;
        self.at = begin;
        let mut kept = Vec::new();
        for _ in 0..count {
            match self.value(kind, at)? {
                Value::Whole(number) => kept.push(number),
                Value::Flag(flag) => kept.push(u64::from(flag)),
                _ => {
                    self.at = end;
                    return Ok(Value::Counted(count));
                }
            }
        }
        Ok(Value::List(kept))
    }

    fn tensor(&mut self) -> Result<TensorInfo, GgufError> {
        let name = self.text()?;
        let at = self.at;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Self::damaged(at, "a tensor of more than four dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        let number = self.u32()?;
        // Where its values begin.
        self.u64()?;
        match TensorType::from_number(number) {
            Some(kind) => Ok(TensorInfo { name, shape, kind }),
            None => Err(GgufError::UnknownType {
                tensor: name,
                number,
            }),
        }
    }
}

fn signed(number: i64) -> Value {
    match u64::try_from(number) {
        Ok(whole) => Value::Whole(whole),
        #[expect(
            clippy::cast_precision_loss,
            reason = "no negative number is used in planning"
        )]
        Err(_) => Value::Number(number as f64),
    }
}
