//! What a graph file says of itself, and the tags of its sections.

use thiserror::Error;

use super::{FileKind, Header, IndexHeader};
use crate::base::limits::{GRAPH_LEVELS_MAX, GRAPH_LINKS_MAX};
use crate::base::{ByteReader, BytesError, put_u32, put_u64};

/// Section tags of a graph file.
pub mod graph_section {
    /// The column file that the graph was made from: its length and root checksum.
    pub const ORIGIN: u32 = 1;
    /// How the graph was made, where a walk begins, what recall was measured.
    pub const HEAD: u32 = 2;
    /// For each row of the column the rows that it links to on the base level.
    pub const LINKS: u32 = 3;
    /// Level by level above the base: its rows, then for each of them the places of those that it links to.
    pub const UPPER: u32 = 4;
    /// Rows that every walk scores.
    pub const SCANNED: u32 = 5;
}

/// Bytes of the head section.
pub const GRAPH_HEAD_SIZE_BYTES: usize = 160;

/// Stands where there is no row: in a list of links behind the last, and as the entry of a graph without rows.
pub const GRAPH_NO_ROW: u32 = u32::MAX;

/// A head that no graph of that many rows can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GraphHeadError {
    /// Too few bytes.
    #[error("the head of the graph: {0}")]
    Bytes(#[from] BytesError),
    /// A value that is not possible.
    #[error("{field} of the graph is {value}, which is not possible")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value, a number as its bits.
        value: u64,
    },
}

/// Which code made a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphMaker {
    /// The builder on 8-bit codes.
    Native,
    /// The crate `hnsw_rs`, on f32 values.
    HnswRs,
}

impl GraphMaker {
    /// The number that stands for it in files.
    pub fn code(self) -> u32 {
        match self {
            Self::Native => 1,
            Self::HnswRs => 2,
        }
    }

    /// All makers.
    pub const ALL: [Self; 2] = [Self::Native, Self::HnswRs];

    /// Its name, as users give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::HnswRs => "hnsw_rs",
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|maker| maker.code() == code)
    }
}

/// What a beam of `beam` rows finds of the best rows, as measured when the graph was made: the least beam with the recall
/// that was wanted, or the best that there was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GraphRecall {
    /// Rows that the walk keeps; 0 if nothing was measured.
    pub beam: u32,
    /// The part of the best rows that were found, 0 to 1.
    pub recall: f32,
    /// Whether the walks went by coarse codes, which take less time; by 8-bit codes otherwise.
    pub is_coarse: bool,
}

/// How a graph was made, where a walk begins, and what recall was measured.
///
/// ```
/// use ascribe::format::{GRAPH_HEAD_SIZE_BYTES, GraphHead};
/// let head = GraphHead { entry: Some(3), graph_rows: 7, level_rows: vec![2, 1], ..GraphHead::default() };
/// let bytes = head.encode();
/// assert_eq!(bytes.len(), GRAPH_HEAD_SIZE_BYTES);
/// assert_eq!(GraphHead::decode(&bytes, 10), Ok(head));
/// assert!(GraphHead::decode(&bytes, 3).is_err()); // the entry is row 3
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GraphHead {
    /// Which code made it.
    pub maker: GraphMaker,
    /// The seed of its levels and of the order of its rows.
    pub seed: u64,
    /// Rows that were looked at to choose the links of one row.
    pub build_beam: u32,
    /// Most links of a row on the base level.
    pub base_links: u32,
    /// Most links of a row on a level above it.
    pub upper_links: u32,
    /// The row, of the highest level, where a walk begins; none in a graph without rows.
    pub entry: Option<u32>,
    /// Rows of the graph.
    pub graph_rows: u32,
    /// Rows that every walk scores.
    pub scanned_rows: u32,
    /// Rows that a walk on the base level can reach from the entry, and those that every walk scores.
    pub reachable_rows: u32,
    /// Largest norm among the rows of the graph.
    pub graph_norm: f32,
    /// Least norm of all rows.
    pub least_norm: f32,
    /// Largest norm of all rows; infinite where it is beyond f32.
    pub largest_norm: f32,
    /// Rows of each level above the base, lowest first.
    pub level_rows: Vec<u32>,
    /// Recall of the 10 and of the 100 best proponents, then of the opponents.
    pub recall: [GraphRecall; 4],
}

impl Default for GraphHead {
    /// Of a graph without rows.
    fn default() -> Self {
        Self {
            maker: GraphMaker::Native,
            seed: 0,
            build_beam: 0,
            base_links: 1,
            upper_links: 1,
            entry: None,
            graph_rows: 0,
            scanned_rows: 0,
            reachable_rows: 0,
            graph_norm: 0.0,
            least_norm: 0.0,
            largest_norm: 0.0,
            level_rows: Vec::new(),
            recall: [GraphRecall::default(); 4],
        }
    }
}

impl GraphHead {
    /// What was measured of the best proponents (end 0) or opponents (end 1): of the 10 best, or of the 100 best for more.
    pub fn measured(&self, end: usize, best: usize) -> GraphRecall {
        self.recall.get(2 * end + usize::from(best > 10)).copied().unwrap_or_default()
    }

    /// The bytes of a head section. Levels beyond [`GRAPH_LEVELS_MAX`] are left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(GRAPH_HEAD_SIZE_BYTES);
        put_u64(&mut bytes, self.seed);
        let norms = [self.graph_norm, self.least_norm, self.largest_norm];
        for number in [
            self.maker.code(),
            self.build_beam,
            self.base_links,
            self.upper_links,
            self.entry.unwrap_or(GRAPH_NO_ROW),
            self.graph_rows,
            self.scanned_rows,
            self.reachable_rows,
        ] {
            put_u32(&mut bytes, number);
        }
        norms.iter().for_each(|norm| put_u32(&mut bytes, norm.to_bits()));
        put_u32(&mut bytes, self.level_rows.len().min(GRAPH_LEVELS_MAX) as u32);
        for level in 0..GRAPH_LEVELS_MAX {
            put_u32(&mut bytes, self.level_rows.get(level).copied().unwrap_or(0));
        }
        for measured in &self.recall {
            put_u32(&mut bytes, measured.beam);
            put_u32(&mut bytes, measured.recall.to_bits());
        }
        let coarse =
            self.recall.iter().rev().fold(0, |bits, measured| bits << 1 | u32::from(measured.is_coarse));
        put_u32(&mut bytes, coarse);
        put_u32(&mut bytes, 0);
        bytes
    }

    /// Reads a head section of a graph of a column of `row_count` rows.
    ///
    /// # Errors
    /// The bytes are too few, or say something that cannot be of such a graph.
    pub fn decode(bytes: &[u8], row_count: u32) -> Result<Self, GraphHeadError> {
        let mut reader = ByteReader::new(bytes);
        let field = |field, value: u32| GraphHeadError::Field { field, value: u64::from(value) };
        let seed = reader.u64()?;
        let maker = reader.u32()?;
        let maker = GraphMaker::from_code(maker).ok_or_else(|| field("builder", maker))?;
        let build_beam = reader.u32()?;
        let [base_links, upper_links] = [reader.u32()?, reader.u32()?];
        for links in [base_links, upper_links] {
            if links == 0 || links > GRAPH_LINKS_MAX {
                return Err(field("number of links", links));
            }
        }
        let entry = Some(reader.u32()?).filter(|entry| *entry != GRAPH_NO_ROW);
        if let Some(entry) = entry.filter(|entry| *entry >= row_count) {
            return Err(field("entry", entry));
        }
        let [graph_rows, scanned_rows, reachable_rows] = [reader.u32()?, reader.u32()?, reader.u32()?];
        if let Some(rows) = [graph_rows, scanned_rows, reachable_rows].iter().find(|rows| **rows > row_count)
        {
            return Err(field("number of rows", *rows));
        }
        let mut norms = [0.0; 3];
        for norm in &mut norms {
            let bits = reader.u32()?;
            *norm = f32::from_bits(bits);
            if norm.is_nan() {
                return Err(field("norm", bits));
            }
        }
        let [graph_norm, least_norm, largest_norm] = norms;
        let level_rows = decode_levels(&mut reader, row_count)?;
        let mut recall = [GraphRecall::default(); 4];
        for measured in &mut recall {
            let [beam, bits] = [reader.u32()?, reader.u32()?];
            *measured = GraphRecall { beam, recall: f32::from_bits(bits), is_coarse: false };
            if !(0.0..=1.0).contains(&measured.recall) {
                return Err(field("recall", bits));
            }
        }
        let coarse = reader.u32()?;
        if coarse >> recall.len() != 0 {
            return Err(field("mark of coarse codes", coarse));
        }
        for (place, measured) in recall.iter_mut().enumerate() {
            measured.is_coarse = coarse >> place & 1 == 1;
        }
        reader.u32()?;
        Ok(Self {
            maker,
            seed,
            build_beam,
            base_links,
            upper_links,
            entry,
            graph_rows,
            scanned_rows,
            reachable_rows,
            graph_norm,
            least_norm,
            largest_norm,
            level_rows,
            recall,
        })
    }

    /// Bytes of the links section of a graph of a column of `row_count` rows.
    pub fn links_length(&self, row_count: u32) -> u64 {
        4 * u64::from(row_count) * u64::from(self.base_links)
    }

    /// Bytes of the section of levels above the base.
    pub fn upper_length(&self) -> u64 {
        self.level_start(self.level_rows.len())
    }

    /// Where level `place`, 0 the lowest above the base, begins in the section of levels.
    pub fn level_start(&self, place: usize) -> u64 {
        let rows: u64 = self.level_rows.iter().take(place).map(|rows| u64::from(*rows)).sum();
        4 * rows * (1 + u64::from(self.upper_links))
    }

    /// Bytes of the section of rows that every walk scores.
    pub fn scanned_length(&self) -> u64 {
        4 * u64::from(self.scanned_rows)
    }
}

/// Levels grow smaller from the base on, and none is empty.
fn decode_levels(reader: &mut ByteReader<'_>, row_count: u32) -> Result<Vec<u32>, GraphHeadError> {
    let count = reader.u32()?;
    if count as usize > GRAPH_LEVELS_MAX {
        return Err(GraphHeadError::Field { field: "number of levels", value: u64::from(count) });
    }
    let mut levels = Vec::with_capacity(GRAPH_LEVELS_MAX);
    let mut most = row_count;
    for place in 0..GRAPH_LEVELS_MAX as u32 {
        let rows = reader.u32()?;
        let is_possible = if place < count { rows > 0 && rows <= most } else { rows == 0 };
        if !is_possible {
            return Err(GraphHeadError::Field { field: "number of rows of a level", value: u64::from(rows) });
        }
        if place < count {
            most = rows;
            levels.push(rows);
        }
    }
    Ok(levels)
}

/// The container header of the graph file of a column whose index file is about `column`.
pub fn graph_header(column: &IndexHeader) -> Header {
    Header { kind: FileKind::Graph, ..column.to_header() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let head = GraphHead {
            entry: Some(9),
            graph_rows: 8,
            scanned_rows: 2,
            level_rows: vec![4, 4, 1],
            ..GraphHead::default()
        };
        let bytes = head.encode();
        assert_eq!(GraphHead::decode(&bytes, 10), Ok(head));
        for (offset, value) in [
            (8, 0),
            (8, 3),
            (16, 0),
            (16, GRAPH_LINKS_MAX + 1),
            (20, 0),
            (24, 10),
            (28, 11),
            (32, 11),
            (36, 11),
            (40, f32::NAN.to_bits()),
            (52, 17),
            (52, 2),
            (52, 4),
            (56, 11),
            (60, 5),
            (64, 0),
            (124, 1.5_f32.to_bits()),
            (124, f32::NAN.to_bits()),
            (152, 16),
        ] {
            let mut changed = bytes.clone();
            changed[offset..offset + 4].copy_from_slice(&u32::to_le_bytes(value));
            let result = GraphHead::decode(&changed, 10);
            assert!(matches!(result, Err(GraphHeadError::Field { .. })), "{offset} {value}: {result:?}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(GraphHead::decode(&bytes[..length], 10), Err(GraphHeadError::Bytes(_))));
        }
    }
}
