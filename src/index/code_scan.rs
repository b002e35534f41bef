//! Scores of a range of rows from their codes, and how far each may be off.
//!
//! Of a row x = s c + e, with codes c and what they leave, e, and a query q = t d + f, with steps d and what they leave:
//! q . x = s t (c . d) + q . e + f . (s c), so that s t (c . d) is off by at most ||q|| ||e|| + ||f|| (||x|| + ||e||). The first factor
//! is a sum of whole numbers; the norms are stored, rounded up. Whoever keeps every row whose score could be among the
//! best, and scores those exactly, gives the answer of an exact scan from a quarter of the bytes.

use super::ScanError;
use super::scan::RowScore;
use crate::base::RowId;
use crate::kernels::{CodeQueries, Kernels};
use std::error::Error;

/// Codes of one column of one segment, as the scan reads them.
pub trait RowCodes: Sync {
    /// What reading can fail with.
    type Error: Error + Send + Sync + 'static;

    /// Values of a row.
    fn width(&self) -> usize;

    /// The codes of rows `first..first + count`, each row padded to
    /// [`code_row_bytes`](crate::kernels::code_row_bytes).
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn codes(&self, first: RowId, count: u32) -> Result<&[u8], Self::Error>;

    /// Scales, norms of what the codes leave, and norms of those rows, little-endian f32.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 3], Self::Error>;
}

/// Codes of rows that are named one by one.
pub trait NamedCodes: RowCodes {
    /// Codes, then the three numbers, of all rows, of which those of `rows` are checked.
    ///
    /// # Errors
    /// A row does not exist, or its bytes cannot be read or are damaged.
    fn at(&self, rows: &[u32]) -> Result<[&[u8]; 4], Self::Error>;
}

/// More than what is lost where numbers are rounded: norms to f32 (2^-24), products and sums in f64.
pub(super) const ROUNDING: f64 = 1e-6;

/// Scores rows by their codes, for several queries in one pass.
#[derive(Debug)]
pub struct CodeScorer<'a, C> {
    kernels: Kernels,
    queries: &'a CodeQueries,
    codes: &'a C,
    sums: Vec<i32>,
    first: RowId,
    rows: usize,
    /// Numbers of rows that were named one by one; empty if a range was read.
    named: [Vec<[u8; 4]>; 3],
}

impl<'a, C: RowCodes> CodeScorer<'a, C> {
    /// A scorer for all of `queries`.
    ///
    /// # Errors
    /// The queries have another width than the column.
    pub fn new(
        kernels: Kernels,
        queries: &'a CodeQueries,
        codes: &'a C,
    ) -> Result<Self, ScanError<C::Error>> {
        if queries.width() != codes.width() {
            return Err(ScanError::Width { query: queries.width(), column: codes.width() });
        }
        let named = Default::default();
        Ok(Self { kernels, queries, codes, sums: Vec::new(), first: RowId(0), rows: 0, named })
    }

    /// Reads the codes of `count` rows from `first`, once for all queries.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&mut self, first: RowId, count: u32) -> Result<(), ScanError<C::Error>> {
        (self.first, self.rows) = (first, count as usize);
        self.named.iter_mut().for_each(Vec::clear);
        let bytes =
            self.codes.codes(first, count).map_err(|source| ScanError::Values { first, count, source })?;
        self.sums.resize(count as usize * self.queries.queries().len(), 0);
        self.kernels
            .code_dots(self.queries, bytes, &mut self.sums)
            .map_err(|source| ScanError::Length { first, source })
    }

    /// Writes, for each of the rows that were read, the score of `query` by the codes, and by how much it may differ from
    /// the exact score: infinity where nothing is known.
    ///
    /// # Errors
    /// There is no such query, the outputs do not have one place a row, or numbers cannot be read.
    pub fn score(
        &self,
        query: usize,
        kind: RowScore,
        scores: &mut [f64],
        margins: &mut [f64],
    ) -> Result<(), ScanError<C::Error>> {
        let (first, count) = (self.first, self.rows as u32);
        let queries = self.queries.queries();
        let (Some(described), true) =
            (queries.get(query), scores.len() == self.rows && margins.len() == self.rows)
        else {
            return Err(ScanError::Rows { first, count: scores.len(), rows: count });
        };
        let [scales, errors, norms] = if self.named[0].is_empty() {
            let numbers = self.codes.numbers(first, count);
            let numbers = numbers.map_err(|source| ScanError::Values { first, count, source })?;
            numbers.map(|bytes| bytes.as_chunks::<4>().0)
        } else {
            self.named.each_ref().map(Vec::as_slice)
        };
        if [scales, errors, norms].iter().any(|numbers| numbers.len() != self.rows) {
            let bytes = 4 * scales.len().min(errors.len()).min(norms.len());
            return Err(ScanError::Scales { first, count, bytes });
        }
        let per_error = (described.norm + described.error_norm) * (1.0 + ROUNDING);
        let per_norm = described.error_norm * (1.0 + ROUNDING);
        let sums = self.sums[query..].iter().step_by(queries.len());
        let rows = sums.zip(scales).zip(errors.iter().zip(norms));
        for (((&sum, &scale), (&error, &norm)), (score, margin)) in
            rows.zip(scores.iter_mut().zip(margins.iter_mut()))
        {
            *score = f64::from(sum) * (number(scale) * described.scale);
            *margin = per_error * number(error) + per_norm * number(norm) + ROUNDING * score.abs();
            // A norm beyond f32 is stored as infinity, and infinity times 0 is no number.
            if margin.is_nan() {
                *margin = f64::INFINITY;
            }
        }
        over_norms(kind, norms, scores, margins);
        Ok(())
    }
}

/// A stored number.
fn number(bytes: [u8; 4]) -> f64 {
    f64::from(f32::from_le_bytes(bytes))
}

/// Makes scores of the given kind, with their margins, of products and theirs.
pub(super) fn over_norms(kind: RowScore, norms: &[[u8; 4]], scores: &mut [f64], margins: &mut [f64]) {
    let query_norm = match kind {
        RowScore::Dot => return,
        RowScore::Cosine { query_norm } => query_norm,
        RowScore::Relatif => 1.0,
    };
    for ((score, margin), &norm) in scores.iter_mut().zip(margins).zip(norms) {
        let norm = f32::from_le_bytes(norm);
        let divisor = query_norm * f64::from(norm);
        if divisor == 0.0 {
            (*score, *margin) = (0.0, 0.0);
        } else if norm.is_normal() {
            *score /= divisor;
            *margin = *margin / divisor * (1.0 + ROUNDING) + ROUNDING * score.abs();
        } else {
            // Too small or too large for f32 to hold with all its digits.
            (*score, *margin) = (0.0, f64::INFINITY);
        }
    }
}

impl<C: NamedCodes> CodeScorer<'_, C> {
    /// Reads the codes of some rows for the one query.
    ///
    /// # Errors
    /// They cannot be read, or there are several queries.
    pub fn read_at(&mut self, rows: &[u32]) -> Result<(), ScanError<C::Error>> {
        let first = RowId(rows.first().copied().unwrap_or(0));
        (self.first, self.rows) = (first, rows.len());
        let count = rows.len() as u32;
        let [codes, numbers @ ..] =
            self.codes.at(rows).map_err(|source| ScanError::Values { first, count, source })?;
        let numbers = numbers.map(|all| all.as_chunks::<4>().0);
        numbers.iter().for_each(|all| self.kernels.prefetch_at(all, rows));
        self.sums.resize(rows.len(), 0);
        self.kernels
            .code_dots_at(self.queries, codes, rows, &mut self.sums)
            .map_err(|source| ScanError::Length { first, source })?;
        for (named, all) in self.named.iter_mut().zip(numbers) {
            named.clear();
            named.reserve(rows.len());
            named.extend(rows.iter().filter_map(|row| all.get(*row as usize)));
            if named.len() != rows.len() {
                return Err(ScanError::Scales { first, count, bytes: 4 * named.len() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_column::{Damaged, SampleColumn, vector};
    use super::super::{CodedRows, RowScorer, RowValues, quantise_rows};
    use super::*;
    use crate::base::{ElementType, RandomStream};
    use crate::kernels::code_row_bytes;

    #[derive(Debug)]
    struct Codes {
        width: usize,
        codes: Vec<u8>,
        numbers: [Vec<u8>; 3],
    }

    impl Codes {
        fn of(column: &SampleColumn) -> Self {
            let mut coded = CodedRows::default();
            quantise_rows(column, RowId(0), column.row_count(), &mut coded).unwrap();
            let bytes = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let numbers = [&coded.scales, &coded.errors, &coded.norms].map(|numbers| bytes(numbers));
            Self { width: column.width, codes: coded.codes, numbers }
        }
    }

    impl RowCodes for Codes {
        type Error = Damaged;

        fn width(&self) -> usize {
            self.width
        }

        fn codes(&self, first: RowId, count: u32) -> Result<&[u8], Damaged> {
            let row_bytes = code_row_bytes(self.width);
            Ok(&self.codes[first.0 as usize * row_bytes..][..count as usize * row_bytes])
        }

        fn numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 3], Damaged> {
            let (from, bytes) = (4 * first.0 as usize, 4 * count as usize);
            Ok(self.numbers.each_ref().map(|numbers| &numbers[from..][..bytes]))
        }
    }

    impl NamedCodes for Codes {
        fn at(&self, _: &[u32]) -> Result<[&[u8]; 4], Damaged> {
            let [scales, errors, norms] = &self.numbers;
            Ok([&self.codes, scales, errors, norms])
        }
    }

    /// The exact score of every row lies within its margin; returns the largest margin over the largest score.
    fn check(column: &SampleColumn, queries: &[Vec<f32>]) -> f64 {
        let codes = Codes::of(column);
        let borrowed: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
        let coded = CodeQueries::new(&borrowed).unwrap();
        let mut scorer = CodeScorer::new(Kernels::best(), &coded, &codes).unwrap();
        let rows = column.row_count() as usize - 3;
        scorer.read(RowId(3), rows as u32).unwrap();
        let mut worst = 0.0_f64;
        for (place, query) in queries.iter().enumerate() {
            let query_norm = Kernels::best().dot(query, query).unwrap().sqrt();
            for kind in [RowScore::Dot, RowScore::Cosine { query_norm }, RowScore::Relatif] {
                let (mut scores, mut margins) = (vec![f64::NAN; rows], vec![f64::NAN; rows]);
                scorer.score(place, kind, &mut scores, &mut margins).unwrap();
                let mut exact = vec![0.0; rows];
                RowScorer::new(Kernels::best(), query, kind, column)
                    .unwrap()
                    .score(RowId(3), &mut exact)
                    .unwrap();
                for row in 0..rows {
                    assert!(
                        (scores[row] - exact[row]).abs() <= margins[row],
                        "{kind:?} row {row}: {} is not within {} of {}",
                        scores[row],
                        margins[row],
                        exact[row]
                    );
                }
                let most = |values: &[f64]| values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
                if most(&exact) > 0.0 && kind == RowScore::Dot {
                    worst = worst.max(most(&margins) / most(&exact));
                }
            }
        }
        worst
    }

    #[test]
    fn exact_scores_lie_within_the_margins() {
        let mut stream = RandomStream::new(5);
        for element in ElementType::ALL {
            for width in [1, 33, 384] {
                let column = SampleColumn::random(element, width, 80);
                let queries: Vec<Vec<f32>> = (0..3).map(|_| vector(width, &mut stream)).collect();
                let worst = check(&column, &queries);
                // A row of int8 values is its codes: only the query is rounded.
                let limit = if element == ElementType::I8 { 1e-3 } else { 0.3 };
                assert!(worst < limit, "{element} {width}: {worst}");
            }
        }
    }

    #[test]
    fn margins_hold_for_values_at_the_ends_of_f32() {
        let mut stream = RandomStream::new(6);
        for size in [f32::MAX / 2.0, 1e30, 1e-30, f32::MIN_POSITIVE, f32::MIN_POSITIVE / 1024.0] {
            let values: Vec<f32> = vector(40 * 20, &mut stream).iter().map(|value| value * size).collect();
            let column = SampleColumn::of_rows(40, &values);
            let query: Vec<f32> = vector(40, &mut stream);
            check(&column, &[query.clone(), query.iter().map(|value| value * 1e-20).collect()]);
        }
        let column = SampleColumn::random(ElementType::F32, 40, 20);
        check(&column, &[vec![0.0; 40]]);
    }

    #[test]
    fn rows_named_one_by_one_have_the_scores_of_a_range() {
        let codes = Codes::of(&SampleColumn::random(ElementType::F32, 40, 60));
        let queries = CodeQueries::new(&[&vector(40, &mut RandomStream::new(3))]).unwrap();
        let mut scorer = CodeScorer::new(Kernels::best(), &queries, &codes).unwrap();
        let ranged: Vec<[f64; 2]> = {
            let (mut scores, mut margins) = ([0.0; 60], [0.0; 60]);
            scorer.read(RowId(0), 60).unwrap();
            scorer.score(0, RowScore::Relatif, &mut scores, &mut margins).unwrap();
            scores.into_iter().zip(margins).map(|(score, margin)| [score, margin]).collect()
        };
        let rows = [7, 59, 0, 7];
        let (mut scores, mut margins) = ([0.0; 4], [0.0; 4]);
        scorer.read_at(&rows).unwrap();
        scorer.score(0, RowScore::Relatif, &mut scores, &mut margins).unwrap();
        for (place, row) in rows.into_iter().enumerate() {
            assert_eq!([scores[place], margins[place]], ranged[row as usize]);
        }
        assert!(scorer.read_at(&[60]).is_err());
    }

    #[test]
    fn another_width_and_outputs_of_another_length_are_refused() {
        let codes = Codes::of(&SampleColumn::random(ElementType::F32, 40, 20));
        let queries = CodeQueries::new(&[&[1.0; 39]]).unwrap();
        let error = CodeScorer::new(Kernels::best(), &queries, &codes).unwrap_err();
        assert!(matches!(error, ScanError::Width { query: 39, column: 40 }));
        let queries = CodeQueries::new(&[&[1.0; 40]]).unwrap();
        let mut scorer = CodeScorer::new(Kernels::best(), &queries, &codes).unwrap();
        scorer.read(RowId(0), 20).unwrap();
        for (query, rows) in [(0, 19), (1, 20)] {
            let (mut scores, mut margins) = (vec![0.0; rows], vec![0.0; rows]);
            let error = scorer.score(query, RowScore::Dot, &mut scores, &mut margins).unwrap_err();
            assert!(matches!(error, ScanError::Rows { .. }), "{error}");
        }
    }
}
