//! Element types of stored vectors.

use std::fmt;

/// How one value of an embedding or sketch is stored. Always little-endian.
///
/// ```
/// use ascribe::base::ElementType;
/// assert_eq!(ElementType::F16.size_bytes(), 2);
/// assert_eq!(ElementType::from_code(4), Some(ElementType::I8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum ElementType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single-precision value.
    BF16,
    /// Signed 8-bit codes in -127..=127 with one f32 scale a row: value = scale x code.
    I8,
}

impl ElementType {
    /// Every element type, in the order of its code.
    pub const ALL: [ElementType; 4] = [Self::F32, Self::F16, Self::BF16, Self::I8];

    /// Bytes of one value (a row's scale not counted).
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::I8 => 1,
        }
    }

    /// The number that stands for this type in files.
    pub fn code(self) -> u16 {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
            Self::BF16 => 3,
            Self::I8 => 4,
        }
    }

    /// The type that `code` stands for, if any.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.code() == code)
    }

    /// Name in settings and messages: `f32`, `f16`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "int8",
        }
    }

    /// The type of this [`name`](Self::name), if any.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.name() == name)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
