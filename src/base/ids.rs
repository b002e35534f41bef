//! Numbers that name things. Newtypes, so that a row number is never taken for a segment number.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id! {
    /// Position of a row inside its segment, from 0. Internal: users name rows by key, never by position.
    RowId, u32
}
id! {
    /// Number of a segment, from 1; never used twice in the life of a store.
    SegmentId, u64
}
id! {
    /// Number of a column, from 1; never used twice, so that a dropped and re-added name is another column.
    ColumnId, u32
}
id! {
    /// Number of a commit, from 1, increasing by 1.
    CommitSeq, u64
}
