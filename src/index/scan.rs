//! Scores of a range of rows by an exact scan over their stored values.
//!
//! The scan computes; who is at either end is decided elsewhere. All sums are taken in f64 in the order that
//! [`kernels`](crate::kernels) fixes, so that scores have the same bits on every machine and in every chunking.

use std::error::Error;

use thiserror::Error;

use crate::base::limits::{SCAN_BLOCK_BYTES, SCAN_CHUNK_ROWS};
use crate::base::{ElementType, RowId};
use crate::kernels::{KernelError, Kernels, WideQuery};

/// Stored values of one column of one segment, as the scan reads them.
pub trait RowValues: Sync {
    /// What reading can fail with.
    type Error: Error + Send + Sync + 'static;

    /// How a value is stored.
    fn element(&self) -> ElementType;

    /// Values of a row.
    fn width(&self) -> usize;

    /// Rows of the column.
    fn row_count(&self) -> u32;

    /// The bytes of rows `first..first + count`, one after the other: `count * width * element.size_bytes()`,
    /// little-endian, at any address.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn values(&self, first: RowId, count: u32) -> Result<&[u8], Self::Error>;

    /// The scales of rows `first..first + count` as little-endian f32, `count * 4` bytes; `None` where the column has
    /// none, that is, is not int8.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn scales(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, Self::Error>;
}

/// What a row's score is, of query q and row x. A zero row, and with `Cosine` a zero query, scores 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowScore {
    /// q . x
    Dot,
    /// q . x / (||q|| ||x||)
    Cosine {
        /// ||q||, finite and not negative.
        query_norm: f64,
    },
    /// q . x / ||x||
    Relatif,
}

/// A scan that did not give all scores. Some of the output may have been written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScanError<E: Error + 'static> {
    /// Values could not be read.
    #[error("cannot read the values of {count} rows from row {first}: {source}")]
    Values {
        /// First row of the read.
        first: RowId,
        /// Rows of the read.
        count: u32,
        /// Why.
        source: E,
    },
    /// The query has another width than the column.
    #[error(
        "the query has {query} values, but the column has {column}; query with a vector of the column's encoder"
    )]
    Width {
        /// Values of the query.
        query: usize,
        /// Values of a row.
        column: usize,
    },
    /// Rows past the end of the column.
    #[error("{count} rows from row {first} are past the end of a column of {rows} rows")]
    Rows {
        /// First row asked for.
        first: RowId,
        /// Rows asked for.
        count: usize,
        /// Rows of the column.
        rows: u32,
    },
    /// A read gave another number of bytes than its rows have.
    #[error("rows from row {first}: {source}; run \"ascribe verify\"")]
    Length {
        /// First row of the read.
        first: RowId,
        /// The lengths.
        source: KernelError,
    },
    /// An int8 column without its scales, or with another number of them.
    #[error(
        "{count} int8 rows from row {first} have {bytes} bytes of scales instead of four a row; run \"ascribe verify\""
    )]
    Scales {
        /// First row of the read.
        first: RowId,
        /// Rows of the read.
        count: u32,
        /// Bytes of scales; 0 where there are none.
        bytes: usize,
    },
    /// The query or its norm is not finite.
    #[error("the query is not finite: {reason}; correct the query vector")]
    Query {
        /// What is wrong.
        reason: String,
    },
    /// A row's score is not finite although the query is: a stored value is not.
    #[error(
        "row {row} has a score of {score}: a stored value is not finite; run \"ascribe verify\" or restore a backup"
    )]
    NotFinite {
        /// The row.
        row: RowId,
        /// The score.
        score: f64,
    },
}

/// Writes the scores of rows `first..first + out.len()` to `out`, all finite.
///
/// The caller scans in chunks of [`SCAN_CHUNK_ROWS`]; the scores do not depend on how it does.
///
/// # Errors
/// The query has another width or is not finite, the rows are past the end, or their values cannot be read, are of the
/// wrong length or not finite.
///
/// # Complexity
/// O(out.len() x width); one allocation of the query's size, none per row.
///
/// # References
/// Kinds of scores: Barshan, Brunet, Dziugaite: RelatIF, AISTATS 2020 (`Relatif` is its l-RelatIF); Chang et al.:
/// TrackStar, arXiv 2410.17413 (`Cosine`). The caller has already applied the curvature to query and rows.
///
/// ```
/// use ascribe::base::{ElementType, RowId};
/// use ascribe::index::{RowScore, RowValues, score_rows};
/// use ascribe::kernels::Kernels;
///
/// struct Codes;
/// impl RowValues for Codes {
///     type Error = std::io::Error;
///     fn element(&self) -> ElementType { ElementType::I8 }
///     fn width(&self) -> usize { 2 }
///     fn row_count(&self) -> u32 { 2 }
///     fn values(&self, first: RowId, count: u32) -> std::io::Result<&[u8]> {
///         Ok(&[3, 4, 0, 0xFF][first.0 as usize * 2..][..count as usize * 2])
///     }
///     fn scales(&self, first: RowId, count: u32) -> std::io::Result<Option<&[u8]>> {
///         Ok(Some(&[0, 0, 0, 0x3F, 0, 0, 0, 0x40][first.0 as usize * 4..][..count as usize * 4]))
///     }
/// }
/// let mut scores = [0.0; 2];
/// score_rows(Kernels::best(), &[1.0, 2.0], RowScore::Dot, &Codes, RowId(0), &mut scores)?;
/// assert_eq!(scores, [5.5, -4.0]);
/// score_rows(Kernels::best(), &[1.0, 2.0], RowScore::Relatif, &Codes, RowId(0), &mut scores)?;
/// assert_eq!(scores, [2.2, -2.0]);
/// # Ok::<(), ascribe::index::ScanError<std::io::Error>>(())
/// ```
pub fn score_rows<V: RowValues>(
    kernels: Kernels,
    query: &[f32],
    kind: RowScore,
    values: &V,
    first: RowId,
    out: &mut [f64],
) -> Result<(), ScanError<V::Error>> {
    RowScorer::new(kernels, query, kind, values)?.score(first, out)
}

/// Rows read at once: their bytes stay in the second-level cache for a second pass that takes norms.
fn block_rows(width: usize, element: ElementType) -> usize {
    let row_bytes = width.saturating_mul(element.size_bytes()).max(1);
    (SCAN_BLOCK_BYTES / row_bytes).clamp(1, SCAN_CHUNK_ROWS as usize)
}

fn check_query<E: Error>(query: &[f32], kind: RowScore, column: usize) -> Result<(), ScanError<E>> {
    if query.len() != column {
        return Err(ScanError::Width { query: query.len(), column });
    }
    if let Some(index) = query.iter().position(|value| !value.is_finite()) {
        return Err(ScanError::Query { reason: format!("value {index} is {}", query[index]) });
    }
    match kind {
        RowScore::Cosine { query_norm } if !(query_norm.is_finite() && query_norm >= 0.0) => {
            Err(ScanError::Query { reason: format!("its norm is {query_norm}") })
        }
        _ => Ok(()),
    }
}

/// Scores rows of one column for one query, a range at a time: what [`score_rows`] does, with the query made ready once.
#[derive(Debug)]
pub struct RowScorer<'a, V> {
    kernels: Kernels,
    query: WideQuery,
    kind: RowScore,
    values: &'a V,
    block_rows: usize,
    norms: Vec<f64>,
}

impl<'a, V: RowValues> RowScorer<'a, V> {
    /// A scorer for `query`.
    ///
    /// # Errors
    /// The query has another width than the column, or is not finite.
    pub fn new(
        kernels: Kernels,
        query: &[f32],
        kind: RowScore,
        values: &'a V,
    ) -> Result<Self, ScanError<V::Error>> {
        check_query(query, kind, values.width())?;
        let block_rows = block_rows(values.width(), values.element());
        Ok(Self { kernels, query: WideQuery::new(query), kind, values, block_rows, norms: Vec::new() })
    }

    /// Writes the scores of rows `first..first + out.len()` to `out`.
    ///
    /// # Errors
    /// As [`score_rows`].
    pub fn score(&mut self, first: RowId, out: &mut [f64]) -> Result<(), ScanError<V::Error>> {
        let rows = self.values.row_count();
        let fits = u32::try_from(out.len())
            .is_ok_and(|count| first.0.checked_add(count).is_some_and(|end| end <= rows));
        if !fits {
            return Err(ScanError::Rows { first, count: out.len(), rows });
        }
        let mut norms = std::mem::take(&mut self.norms);
        if self.kind != RowScore::Dot {
            norms.resize(self.block_rows.min(out.len()), 0.0);
        }
        let mut block_first = first;
        for scores in out.chunks_mut(self.block_rows) {
            self.block(block_first, scores, &mut norms)?;
            block_first = RowId(block_first.0 + scores.len() as u32);
        }
        self.norms = norms;
        Ok(())
    }

    /// Scores of at most a block of rows. `norms` has room for them unless the score is a plain dot product.
    fn block(&self, first: RowId, scores: &mut [f64], norms: &mut [f64]) -> Result<(), ScanError<V::Error>> {
        let count = scores.len() as u32;
        let unreadable = |source| ScanError::Values { first, count, source };
        let element = self.values.element();
        let bytes = self.values.values(first, count).map_err(unreadable)?;
        let wrong_length = |source| ScanError::Length { first, source };
        self.kernels.dots_wide(element, &self.query, bytes, scores).map_err(wrong_length)?;
        let norms = if self.kind == RowScore::Dot {
            None
        } else {
            let norms = &mut norms[..scores.len()];
            let width = self.query.width();
            self.kernels.squared_norms(element, width, bytes, norms).map_err(wrong_length)?;
            norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
            Some(norms)
        };
        let norms = if element == ElementType::I8 {
            let scales = self.values.scales(first, count).map_err(unreadable)?;
            scale(scales, first, scores, norms)?
        } else {
            norms
        };
        if let Some(norms) = norms {
            divide(self.kind, scores, norms);
        }
        let bad = scores.iter().zip(first.0..).find(|(score, _)| !score.is_finite());
        bad.map_or(Ok(()), |(&score, row)| Err(ScanError::NotFinite { row: RowId(row), score }))
    }
}

/// Multiplies the sums over int8 codes by the scale of their row.
fn scale<'n, E: Error>(
    scales: Option<&[u8]>,
    first: RowId,
    scores: &mut [f64],
    mut norms: Option<&'n mut [f64]>,
) -> Result<Option<&'n mut [f64]>, ScanError<E>> {
    let bytes = scales.unwrap_or_default();
    let (scales, rest) = bytes.as_chunks::<4>();
    if scales.len() != scores.len() || !rest.is_empty() {
        return Err(ScanError::Scales { first, count: scores.len() as u32, bytes: bytes.len() });
    }
    for (index, (score, &scale)) in scores.iter_mut().zip(scales).enumerate() {
        let scale = f64::from(f32::from_le_bytes(scale));
        *score *= scale;
        if let Some(norms) = norms.as_deref_mut() {
            norms[index] *= scale.abs();
        }
    }
    Ok(norms)
}

/// Divides dot products by the norms that `kind` asks for; a zero norm gives 0.
fn divide(kind: RowScore, scores: &mut [f64], norms: &[f64]) {
    let query_norm = match kind {
        RowScore::Cosine { query_norm } => query_norm,
        RowScore::Dot | RowScore::Relatif => 1.0,
    };
    for (score, norm) in scores.iter_mut().zip(norms) {
        let divisor = query_norm * norm;
        *score = if divisor == 0.0 { 0.0 } else { *score / divisor };
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_column::{Damaged, SampleColumn, vector};
    use super::*;
    use crate::base::RandomStream;

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn scores_are_the_formulas_for_every_element_and_kind() {
        for element in ElementType::ALL {
            let column = SampleColumn::random(element, 37, 60);
            let query = vector(37, &mut RandomStream::new(99));
            let wide: Vec<f64> = query.iter().map(|&value| f64::from(value)).collect();
            let kinds = [RowScore::Dot, RowScore::Cosine { query_norm: norm(&wide) }, RowScore::Relatif];
            for kind in kinds {
                let mut scores = vec![f64::NAN; 50];
                score_rows(Kernels::best(), &query, kind, &column, RowId(5), &mut scores).unwrap();
                for (index, score) in scores.into_iter().enumerate() {
                    let row = column.row(index + 5);
                    let dot: f64 = row.iter().zip(&wide).map(|(x, q)| x * q).sum();
                    let divisor = match kind {
                        RowScore::Dot => 1.0,
                        RowScore::Cosine { query_norm } => query_norm * norm(&row),
                        RowScore::Relatif => norm(&row),
                    };
                    let expected = if norm(&row) == 0.0 { 0.0 } else { dot / divisor };
                    let error = (score - expected).abs();
                    assert!(
                        error < 1e-12 * expected.abs().max(1.0),
                        "{element} {kind:?} {index}: {score} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn scores_have_the_same_bits_in_every_chunking_and_back_end() {
        // 900 values of f32: a block holds 36 rows, so that one call takes several blocks.
        for element in ElementType::ALL {
            let column = SampleColumn::random(element, 900, 130);
            let query = vector(900, &mut RandomStream::new(5));
            let mut whole = vec![f64::NAN; 130];
            score_rows(Kernels::best(), &query, RowScore::Relatif, &column, RowId(0), &mut whole).unwrap();
            for kernels in Kernels::available() {
                for size in [1, 7, 130] {
                    let mut parts = vec![f64::NAN; 130];
                    for (index, part) in parts.chunks_mut(size).enumerate() {
                        let first = RowId((index * size) as u32);
                        score_rows(*kernels, &query, RowScore::Relatif, &column, first, part).unwrap();
                    }
                    let bits =
                        |scores: &[f64]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&parts), bits(&whole), "{element} {kernels:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_zero_query_scores_zero() {
        let column = SampleColumn::random(ElementType::F32, 8, 4);
        let mut scores = [f64::NAN; 4];
        let kind = RowScore::Cosine { query_norm: 0.0 };
        score_rows(Kernels::best(), &[0.0; 8], kind, &column, RowId(0), &mut scores).unwrap();
        assert_eq!(scores, [0.0; 4]);
    }

    fn error_of(
        column: &SampleColumn,
        query: &[f32],
        kind: RowScore,
        first: u32,
        rows: usize,
    ) -> ScanError<Damaged> {
        score_rows(Kernels::best(), query, kind, column, RowId(first), &mut vec![0.0; rows]).unwrap_err()
    }

    #[test]
    fn what_cannot_be_scored_is_named() {
        let mut column = SampleColumn::random(ElementType::F32, 8, 20);
        let query = [1.0; 8];
        let dot = RowScore::Dot;
        assert!(matches!(error_of(&column, &[1.0; 7], dot, 0, 1), ScanError::Width { query: 7, column: 8 }));
        for (first, rows) in [(19, 2), (21, 0), (u32::MAX, 1)] {
            assert!(matches!(error_of(&column, &query, dot, first, rows), ScanError::Rows { rows: 20, .. }));
        }
        let infinite = [1.0, 1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1.0, 1.0];
        let text = error_of(&column, &infinite, dot, 0, 1).to_string();
        assert!(text.contains("value 2 is inf"), "{text}");
        for query_norm in [f64::NAN, -1.0, f64::INFINITY] {
            let error = error_of(&column, &query, RowScore::Cosine { query_norm }, 0, 1);
            assert!(matches!(error, ScanError::Query { .. }));
        }
        column.bytes[13 * 32..13 * 32 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        for kind in [dot, RowScore::Relatif, RowScore::Cosine { query_norm: 1.0 }] {
            let error = error_of(&column, &query, kind, 2, 18);
            assert!(matches!(error, ScanError::NotFinite { row: RowId(13), .. }), "{error}");
        }
        column.damaged_from = 10;
        let text = error_of(&column, &query, dot, 5, 9).to_string();
        assert_eq!(text, "cannot read the values of 9 rows from row 5: block 7 is damaged");
    }

    #[test]
    fn int8_rows_need_a_scale_each() {
        let mut column = SampleColumn::random(ElementType::I8, 8, 20);
        column.scales = None;
        let error = error_of(&column, &[1.0; 8], RowScore::Dot, 4, 3);
        assert!(matches!(error, ScanError::Scales { first: RowId(4), count: 3, bytes: 0 }), "{error}");
    }
}
