//! Scores of a range of rows from their coarse codes, and how far each may be off.
//!
//! Of a row x = m + s (c - u) + g + e, with the centre m, coarse codes c, their dither u and what they leave, g, and what the
//! 8-bit codes leave, e, and a query q = t d + f, with steps d and what they leave:
//! q . x = q . m + s (t (c . d) - q . u) + q . g + f . (s c) + q . e. The last two are at most ||f|| ||s c|| and ||q|| ||e||.
//! The values of g are uniform in a step s and independent, so that q . g has the standard deviation ||q|| s / sqrt(12), and
//! is beyond z of them with a probability of at most 2 exp(-z^2 / 2), as of a normal distribution. With z = [`DEVIATIONS`]
//! that is 1.3e-12 for each of the best rows, which could be missed by nothing else.
//!
//! # References
//! Arbel, Marchal and Nguyen, "On strict sub-Gaussianity, optimal proxy variance and symmetry for bounded random
//! variables", ESAIM: Probability and Statistics 24, 2020: uniform variables are strictly sub-Gaussian.

use std::error::Error;

use super::ScanError;
use super::code_scan::{ROUNDING, over_norms};
use super::scan::RowScore;
use crate::base::{ElementType, RowId, sum_of};
use crate::kernels::{CoarseQueries, CoarseScore, CoarseTerms, KernelError, Kernels};

/// Coarse codes of one column of one segment, as the scan reads them.
pub trait RowCoarseCodes: Sync {
    /// What reading can fail with.
    type Error: Error + Send + Sync + 'static;

    /// Values of a row.
    fn coarse_width(&self) -> usize;

    /// What codes are about, and the dither: rows of f32, little-endian.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn centre_and_dither(&self) -> Result<[&[u8]; 2], Self::Error>;

    /// The codes of rows `first..first + count`, each row of [`coarse_row_bytes`](crate::kernels::coarse_row_bytes).
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn coarse_codes(&self, first: RowId, count: u32) -> Result<&[u8], Self::Error>;

    /// Scales, norms of scale times codes, norms of what 8-bit codes leave, and norms of the rows, little-endian f32.
    ///
    /// # Errors
    /// The bytes cannot be read or are damaged.
    fn coarse_numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 4], Self::Error>;
}

/// Standard deviations of its error by which a score may be off.
pub const DEVIATIONS: f64 = 7.5;

/// By how much the score of a row with steps of 1 and a query of norm 1 may be off through the rounding of the row.
///
/// ```
/// assert!((ascribe::index::coarse_margin() - 2.165).abs() < 1e-3);
/// ```
pub fn coarse_margin() -> f64 {
    DEVIATIONS / 12.0_f64.sqrt()
}

/// Products of a query with what coarse codes are about, and with their dither.
pub(super) fn coarse_bases(
    kernels: Kernels,
    vector: &[f32],
    centre_and_dither: [&[u8]; 2],
) -> Result<[f64; 2], KernelError> {
    let mut bases = [0.0; 2];
    for (base, row) in bases.iter_mut().zip(centre_and_dither) {
        kernels.dots(ElementType::F32, vector, row, std::slice::from_mut(base))?;
    }
    Ok(bases)
}

/// Scores rows by their coarse codes, for several queries in one pass.
#[derive(Debug)]
pub struct CoarseScorer<'a, C> {
    kernels: Kernels,
    queries: &'a CoarseQueries,
    rows: &'a C,
    /// Products of the queries with the centre and with the dither.
    bases: Vec<[f64; 2]>,
    /// One after the other the sums of each query.
    sums: Vec<i32>,
    /// The sums, row by row.
    by_row: Vec<i32>,
    first: RowId,
    count: usize,
}

impl<'a, C: RowCoarseCodes> CoarseScorer<'a, C> {
    /// A scorer for all of `queries`, which were made of `vectors`.
    ///
    /// # Errors
    /// The queries have another width than the column, or its centre and dither cannot be read.
    pub fn new(
        kernels: Kernels,
        queries: &'a CoarseQueries,
        vectors: &[&[f32]],
        rows: &'a C,
    ) -> Result<Self, ScanError<C::Error>> {
        let (first, width) = (RowId(0), rows.coarse_width());
        if queries.width() != width {
            return Err(ScanError::Width { query: queries.width(), column: width });
        }
        let about = rows.centre_and_dither();
        let about = about.map_err(|source| ScanError::Values { first, count: 0, source })?;
        let mut bases = Vec::with_capacity(vectors.len());
        for vector in vectors {
            let base = coarse_bases(kernels, vector, about);
            bases.push(base.map_err(|source| ScanError::Length { first, source })?);
        }
        let (sums, by_row) = (Vec::new(), Vec::new());
        Ok(Self { kernels, queries, rows, bases, sums, by_row, first, count: 0 })
    }

    /// Reads the codes of `count` rows from `first`, once for all queries.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&mut self, first: RowId, count: u32) -> Result<(), ScanError<C::Error>> {
        (self.first, self.count) = (first, count as usize);
        let bytes = self.rows.coarse_codes(first, count).map_err(|source| ScanError::Values {
            first,
            count,
            source,
        })?;
        let queries = self.queries.queries().len();
        self.by_row.resize(self.count * queries, 0);
        self.kernels
            .coarse_dots(self.queries, bytes, &mut self.by_row)
            .map_err(|source| ScanError::Length { first, source })?;
        if queries == 1 {
            std::mem::swap(&mut self.sums, &mut self.by_row);
        } else {
            self.sums.resize(self.by_row.len(), 0);
            for (query, sums) in self.sums.chunks_exact_mut(self.count.max(1)).enumerate() {
                for (sum, row) in sums.iter_mut().zip(self.by_row.chunks_exact(queries)) {
                    *sum = row[query];
                }
            }
        }
        Ok(())
    }

    /// Writes, for each of the rows that were read, the score of `query` by the coarse codes, and by how much it may differ
    /// from the exact score, but for the probability that is told above: infinity where nothing is known. Gives the mean
    /// square of their errors, 0 without rows.
    ///
    /// # Errors
    /// There is no such query, the outputs do not have one place a row, or numbers cannot be read.
    pub fn score(
        &self,
        query: usize,
        kind: RowScore,
        scores: &mut [f64],
        margins: &mut [f64],
    ) -> Result<f64, ScanError<C::Error>> {
        let (first, count) = (self.first, self.count as u32);
        let described = self.queries.queries().get(query).zip(self.bases.get(query));
        let sums = self.sums.get(query * self.count..).and_then(|sums| sums.get(..self.count));
        let (Some((described, &[base, dithered])), Some(sums), true) =
            (described, sums, scores.len() == self.count && margins.len() == self.count)
        else {
            return Err(ScanError::Rows { first, count: scores.len(), rows: count });
        };
        let numbers = self.rows.coarse_numbers(first, count);
        let numbers = numbers.map_err(|source| ScanError::Values { first, count, source })?;
        let [scales, coded_norms, errors, norms] = numbers.map(|bytes| bytes.as_chunks::<4>().0);
        if [scales, coded_norms, errors, norms].iter().any(|numbers| numbers.len() != self.count) {
            let bytes = 4 * scales.len().min(errors.len()).min(coded_norms.len()).min(norms.len());
            return Err(ScanError::Scales { first, count, bytes });
        }
        let per_error = described.norm * (1.0 + ROUNDING);
        let per_norm = described.error_norm * (1.0 + ROUNDING);
        let per_scale = per_error * coarse_margin() + ROUNDING * dithered.abs();
        let terms = CoarseTerms {
            score: CoarseScore { base, step: described.scale, dithered },
            margins: [per_scale, per_norm, per_error, ROUNDING],
            lost: 2.0 * ROUNDING * base.abs(),
        };
        self.kernels
            .coarse_scores(&terms, sums, [scales, coded_norms, errors], scores, margins)
            .map_err(|source| ScanError::Length { first, source })?;
        over_norms(kind, norms, scores, margins);
        Ok(described.norm * described.norm * mean_square(kind, scales, norms) / 12.0)
    }
}

/// Mean square of the rows' scales, each over what the score of its row is divided by.
fn mean_square(kind: RowScore, scales: &[[u8; 4]], norms: &[[u8; 4]]) -> f64 {
    let square = |scale: &[u8; 4]| f64::from(f32::from_le_bytes(*scale)).powi(2);
    let sum = match kind {
        RowScore::Dot => sum_of([scales], |[scale]| square(scale)),
        RowScore::Cosine { query_norm } => {
            sum_of([scales, norms], |[scale, norm]| ratio(square(scale), query_norm, norm))
        }
        RowScore::Relatif => sum_of([scales, norms], |[scale, norm]| ratio(square(scale), 1.0, norm)),
    };
    let mean = sum / scales.len().max(1) as f64;
    if mean.is_finite() { mean } else { 0.0 }
}

fn ratio(square: f64, query_norm: f64, norm: &[u8; 4]) -> f64 {
    let norm = f32::from_le_bytes(*norm);
    let divisor = query_norm * f64::from(norm);
    if norm.is_normal() && divisor != 0.0 { square / (divisor * divisor) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::sample_column::{Damaged, SampleColumn, vector};
    use super::super::{
        CentreSum, CoarseRows, Coarsener, CodedRows, RowScorer, RowValues, dither, quantise_rows,
    };
    use super::*;
    use crate::base::RandomStream;
    use crate::kernels::{coarse_row_bytes, code_row_bytes};

    #[derive(Debug)]
    struct Codes {
        width: usize,
        about: [Vec<u8>; 2],
        codes: Vec<u8>,
        numbers: [Vec<u8>; 4],
    }

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    impl Codes {
        fn of(column: &SampleColumn) -> Self {
            let mut coded = CodedRows::default();
            quantise_rows(column, RowId(0), column.row_count(), &mut coded).unwrap();
            let mut sum = CentreSum::new(column.width);
            let rows = || coded.codes.chunks_exact(code_row_bytes(column.width)).zip(&coded.scales);
            rows().for_each(|(codes, &scale)| sum.add(codes, scale));
            let centre = sum.centre();
            let dither = dither(column.width, 9);
            let (mut coarse, mut coarsener) = (CoarseRows::default(), Coarsener::new(&centre, &dither));
            rows().for_each(|(codes, &scale)| coarsener.append(codes, scale, &mut coarse));
            let CoarseRows { codes, scales, norms } = coarse;
            let numbers = [scales, norms, coded.errors.clone(), coded.norms.clone()];
            let about = [bytes(&centre), bytes(&dither)];
            Self { width: column.width, about, codes, numbers: numbers.map(|numbers| bytes(&numbers)) }
        }
    }

    impl RowCoarseCodes for Codes {
        type Error = Damaged;

        fn coarse_width(&self) -> usize {
            self.width
        }

        fn centre_and_dither(&self) -> Result<[&[u8]; 2], Damaged> {
            Ok(self.about.each_ref().map(Vec::as_slice))
        }

        fn coarse_codes(&self, first: RowId, count: u32) -> Result<&[u8], Damaged> {
            let row_bytes = coarse_row_bytes(self.width);
            Ok(&self.codes[first.0 as usize * row_bytes..][..count as usize * row_bytes])
        }

        fn coarse_numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 4], Damaged> {
            let (from, bytes) = (4 * first.0 as usize, 4 * count as usize);
            Ok(self.numbers.each_ref().map(|numbers| &numbers[from..][..bytes]))
        }
    }

    /// The exact score of every row lies within its margin; returns the largest margin over the largest score.
    fn check(column: &SampleColumn, queries: &[Vec<f32>]) -> f64 {
        let codes = Codes::of(column);
        let borrowed: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
        let coarse = CoarseQueries::new(&borrowed).unwrap();
        let mut scorer = CoarseScorer::new(Kernels::best(), &coarse, &borrowed, &codes).unwrap();
        let rows = column.row_count() as usize - 3;
        let mut worst = 0.0_f64;
        for (place, query) in queries.iter().enumerate() {
            // Read anew: a scorer is used for many ranges.
            scorer.read(RowId(0), 2).unwrap();
            scorer.read(RowId(3), rows as u32).unwrap();
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
                    let (score, margin, exact) = (scores[row], margins[row], exact[row]);
                    let is_within = (score - exact).abs() <= margin || margin == f64::INFINITY;
                    assert!(is_within, "{kind:?} row {row}: {score} is not within {margin} of {exact}");
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
                check(&column, &queries[..1]);
                assert!(worst < 1.5, "{element} {width}: {worst}");
            }
        }
    }

    #[test]
    fn rows_that_lie_in_one_direction_have_small_margins() {
        let mut stream = RandomStream::new(7);
        let centre = vector(384, &mut stream);
        let row = |stream: &mut RandomStream| -> Vec<f32> {
            centre.iter().zip(vector(384, stream)).map(|(centre, value)| 10.0 * centre + value).collect()
        };
        let rows: Vec<f32> = (0..60).flat_map(|_| row(&mut stream)).collect();
        let worst = check(&SampleColumn::of_rows(384, &rows), std::slice::from_ref(&centre));
        assert!(worst < 0.03, "{worst}");
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
    fn another_width_and_outputs_of_another_length_are_refused() {
        let codes = Codes::of(&SampleColumn::random(ElementType::F32, 40, 20));
        let (short, fit) = ([1.0; 39], [1.0; 40]);
        let queries = CoarseQueries::new(&[&short]).unwrap();
        let error = CoarseScorer::new(Kernels::best(), &queries, &[&short], &codes).unwrap_err();
        assert!(matches!(error, ScanError::Width { query: 39, column: 40 }));
        let queries = CoarseQueries::new(&[&fit]).unwrap();
        let mut scorer = CoarseScorer::new(Kernels::best(), &queries, &[&fit], &codes).unwrap();
        scorer.read(RowId(0), 20).unwrap();
        for (query, rows) in [(0, 19), (1, 20)] {
            let (mut scores, mut margins) = (vec![0.0; rows], vec![0.0; rows]);
            let error = scorer.score(query, RowScore::Dot, &mut scores, &mut margins).unwrap_err();
            assert!(matches!(error, ScanError::Rows { .. }), "{error}");
        }
    }
}
