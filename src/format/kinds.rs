//! What a sealed file holds, and what the values of a column file are.

/// What a sealed file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Keys, texts, metadata and key index of a segment.
    Rows,
    /// One embedding or sketch column of a segment.
    Column,
    /// State of an encoder.
    Encoder,
    /// What was computed from a column file to find its rows faster.
    Index,
    /// Links between the rows of a column file, along which its rows are found faster still.
    Graph,
    /// What was computed from the gradients of a sketch column to weigh them against each other.
    Curvature,
    /// What the gradients of a column file add up to.
    Sums,
}

impl FileKind {
    /// The number that stands for this kind in files.
    pub fn code(self) -> u16 {
        match self {
            Self::Rows => 1,
            Self::Column => 2,
            Self::Encoder => 3,
            Self::Index => 4,
            Self::Graph => 5,
            Self::Curvature => 6,
            Self::Sums => 7,
        }
    }
}

/// What the values of a column file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not a column file.
    None,
    /// One vector a row.
    Embedding,
    /// One compressed gradient a row, laid out by a module table.
    Sketch,
}

impl Encoding {
    /// The number that stands for this encoding in files.
    pub fn code(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Embedding => 1,
            Self::Sketch => 2,
        }
    }

    pub(super) fn from_code(code: u16) -> Option<Self> {
        [Self::None, Self::Embedding, Self::Sketch].into_iter().find(|encoding| encoding.code() == code)
    }
}
