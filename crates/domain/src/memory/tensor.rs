//! How many bytes a tensor takes, by its type.

/// One of ggml's tensor types: values are stored in blocks of a fixed size.
///
/// *Source*: the `type_traits` table of `ggml.c` and the block structures of `ggml-common.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType {
    number: u32,
    name: &'static str,
    values_per_block: u64,
    bytes_per_block: u64,
}

/// Every type that a file may hold: its number in GGUF, name, values and bytes per block. The gaps
/// are types that ggml has withdrawn.
const TYPES: [TensorType; 33] = [
    of(0, "F32", 1, 4),
    of(1, "F16", 1, 2),
    of(2, "Q4_0", 32, 18),
    of(3, "Q4_1", 32, 20),
    of(6, "Q5_0", 32, 22),
    of(7, "Q5_1", 32, 24),
    of(8, "Q8_0", 32, 34),
    of(9, "Q8_1", 32, 36),
    of(10, "Q2_K", 256, 84),
    of(11, "Q3_K", 256, 110),
    of(12, "Q4_K", 256, 144),
    of(13, "Q5_K", 256, 176),
    of(14, "Q6_K", 256, 210),
    of(15, "Q8_K", 256, 292),
    of(16, "IQ2_XXS", 256, 66),
    of(17, "IQ2_XS", 256, 74),
    of(18, "IQ3_XXS", 256, 98),
    of(19, "IQ1_S", 256, 50),
    of(20, "IQ4_NL", 32, 18),
    of(21, "IQ3_S", 256, 110),
    of(22, "IQ2_S", 256, 82),
    of(23, "IQ4_XS", 256, 136),
    of(24, "I8", 1, 1),
    of(25, "I16", 1, 2),
    of(26, "I32", 1, 4),
    of(27, "I64", 1, 8),
    of(28, "F64", 1, 8),
    of(29, "IQ1_M", 256, 56),
    of(30, "BF16", 1, 2),
    of(34, "TQ1_0", 256, 54),
    of(35, "TQ2_0", 256, 66),
    of(39, "MXFP4", 32, 17),
    of(40, "NVFP4", 64, 36),
];

const fn of(
    number: u32,
    name: &'static str,
    values_per_block: u64,
    bytes_per_block: u64,
) -> TensorType {
    TensorType {
        number,
        name,
        values_per_block,
        bytes_per_block,
    }
}

impl TensorType {
    /// By its number in a GGUF file; `None` for a type that this table does not know.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        TYPES.into_iter().find(|t| t.number == number)
    }

    /// By its name, as Ollama's `/api/show` writes it; letter case does not matter.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TYPES
            .into_iter()
            .find(|t| t.name.eq_ignore_ascii_case(name))
    }

    /// Its name, e.g. `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Bytes of one row of this many values; a started block counts whole.
    ///
    /// `ceil(values / values per block) * bytes per block`. *Undefined when* it exceeds 64 bits.
    #[must_use]
    pub fn row_bytes(self, values: u64) -> Option<u64> {
        values
            .div_ceil(self.values_per_block)
            .checked_mul(self.bytes_per_block)
    }

    /// Bytes of a tensor, its shape given with the row's length first as ggml does.
    ///
    /// *Undefined when* it exceeds 64 bits: no real tensor does.
    #[must_use]
    pub fn tensor_bytes(self, shape: &[u64]) -> Option<u64> {
        let (row, rows) = match shape.split_first() {
            Some((row, rest)) => (*row, rest),
            None => (1, shape),
        };
        rows.iter()
            .try_fold(self.row_bytes(row)?, |bytes, n| bytes.checked_mul(*n))
    }
}
