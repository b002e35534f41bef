//! Similarities of a column's rows to each other, by their codes.
//!
//! The largest inner product is not a distance: rows of large norm are near to everything. So each row gets one value more,
//! sqrt(M^2 - |x|^2), with M the largest norm: all rows are then of norm M, and the row of largest inner product is the
//! nearest. A query gets the value 0, and its inner products stay what they were. The value stays f32 beside the codes; as a
//! code it would take their resolution away.
//!
//! References: Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation for inner-product
//! spaces", RecSys 2014, section 3.

use super::column::GraphRows;
use super::error::{BuildStop, GraphError};
use crate::kernels::{CodeQueries, Kernels, code_row_bytes};

/// What stands beside a row's codes, both in units of the largest norm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Weight {
    /// The value of code 1.
    pub(super) scale: f32,
    /// The value that brings the row's norm to the largest.
    pub(super) lift: f32,
}

/// Codes of all rows, checked, with what stands beside them.
#[derive(Debug)]
pub struct CodedSpace<'a> {
    kernels: Kernels,
    width: usize,
    codes: &'a [u8],
    weights: Vec<Weight>,
}

/// Rows whose bytes are checked at once.
const CHECKED_ROWS: u32 = 4096;

impl<'a> CodedSpace<'a> {
    /// The rows of a column, `norm` the largest norm among those that will stand in the graph.
    ///
    /// # Complexity
    /// O(rows): reads all codes once, to check them, and holds 8 bytes a row.
    pub(super) fn new<R: GraphRows>(
        kernels: Kernels,
        rows: &'a R,
        norm: f32,
    ) -> Result<Self, GraphError<R::Error>> {
        let (row_count, width) = (rows.row_count(), rows.width());
        let (mut codes, mut weights): (&[u8], _) = (&[], Vec::with_capacity(row_count as usize));
        for first in (0..row_count).step_by(CHECKED_ROWS as usize) {
            let chunk: Vec<u32> = (first..row_count.min(first + CHECKED_ROWS)).collect();
            codes = rows.codes_at(&chunk).map_err(GraphError::Read)?;
            let scales = numbers("scales", rows.scales_at(&chunk).map_err(GraphError::Read)?, row_count)?;
            let norms = numbers("norms", rows.norms_at(&chunk).map_err(GraphError::Read)?, row_count)?;
            let places = first as usize..first as usize + chunk.len();
            weights.extend(
                scales[places.clone()]
                    .iter()
                    .zip(&norms[places])
                    .map(|(scale, own)| weight(f32::from_le_bytes(*scale), f32::from_le_bytes(*own), norm)),
            );
        }
        if codes.len() != row_count as usize * code_row_bytes(width) {
            return Err(GraphError::Length { what: "codes", rows: row_count, bytes: codes.len() });
        }
        Ok(Self { kernels, width, codes, weights })
    }

    /// Rows of the column.
    pub fn row_count(&self) -> u32 {
        self.weights.len() as u32
    }

    /// Values of a row, without the one that brings its norm to the largest.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The codes of a row, padded; none of a row that is not there.
    pub fn codes(&self, row: u32) -> &'a [u8] {
        let bytes = code_row_bytes(self.width);
        self.codes.chunks_exact(bytes.max(1)).nth(row as usize).unwrap_or_default()
    }

    /// The values of a row in units of the largest norm, the one that brings its norm there at the end.
    pub fn values(&self, row: u32) -> Vec<f32> {
        let Weight { scale, lift } = self.weight(row);
        let codes = self.codes(row).iter().take(self.width);
        codes.map(|code| f32::from(*code as i8) * scale).chain([lift]).collect()
    }

    /// What stands beside the row's codes.
    pub(super) fn weight(&self, row: u32) -> Weight {
        self.weights.get(row as usize).copied().unwrap_or_default()
    }

    /// Asks memory for links that may be read soon.
    pub(super) fn ask_for(&self, links: &[u32]) {
        self.kernels.prefetch(links);
    }

    /// The similarity of `row` to each of `rows`.
    pub(super) fn similarities(
        &self,
        row: u32,
        rows: &[u32],
        sums: &mut Vec<i32>,
        similarities: &mut Vec<f32>,
    ) -> Result<(), BuildStop> {
        sums.resize(rows.len(), 0);
        self.kernels.row_dots_at(self.width, self.codes(row), self.codes, rows, sums)?;
        let own = self.weight(row);
        similarities.clear();
        similarities.extend(rows.iter().zip(sums).map(|(&row, sum)| {
            let other = self.weight(row);
            *sum as f32 * (own.scale * other.scale) + own.lift * other.lift
        }));
        Ok(())
    }

    /// Sums of the codes of `count` rows from `first` with up to four queries, row by row.
    pub(super) fn sums(&self, queries: &CodeQueries, first: u32, out: &mut [i32]) -> Result<(), BuildStop> {
        let bytes = code_row_bytes(self.width);
        let rows = out.len() / queries.queries().len().max(1);
        let codes = self.codes.get(first as usize * bytes..).unwrap_or_default();
        Ok(self.kernels.code_dots(queries, codes.get(..rows * bytes).unwrap_or_default(), out)?)
    }
}

fn weight(scale: f32, own: f32, norm: f32) -> Weight {
    if !(norm > 0.0 && scale.is_finite() && own.is_finite()) {
        return Weight::default();
    }
    let part = f64::from(own) / f64::from(norm);
    Weight { scale: scale / norm, lift: (1.0 - part * part).max(0.0).sqrt() as f32 }
}

/// One f32 a row.
pub(super) fn numbers<'a, E: std::error::Error>(
    what: &'static str,
    bytes: &'a [u8],
    rows: u32,
) -> Result<&'a [[u8; 4]], GraphError<E>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if numbers.len() == rows as usize && rest.is_empty() {
        Ok(numbers)
    } else {
        Err(GraphError::Length { what, rows, bytes: bytes.len() })
    }
}
