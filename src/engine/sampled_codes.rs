//! Codes of some rows of a segment, side by side: what mean and deviation are estimated from.
//!
//! Read where they stand, each of these rows would cost a query a trip to memory; here all of them fit a nearby cache.

use std::convert::Infallible;

use super::segment::ScannedCodes;
use super::target::Question;
use crate::base::RowId;
use crate::index::{CodeScorer, NamedCodes, RowCoarseCodes, RowCodes, RowScore, coarse_margin};
use crate::kernels::{Kernels, code_row_bytes};
use crate::storage::FileError;

/// Codes of some rows, and their scales, errors and norms.
#[derive(Debug)]
pub(super) struct SampledCodes {
    width: usize,
    rows: u32,
    codes: Vec<u8>,
    numbers: [Vec<u8>; 3],
    /// For a query of norm 1 the margin of the coarse score of each row; `None` if these codes are damaged.
    pub(super) coarse_margins: Option<Vec<f64>>,
}

impl SampledCodes {
    /// Gathers the codes of `rows`.
    pub(super) fn of(from: &ScannedCodes<'_>, rows: &[u32]) -> Result<Self, FileError> {
        let (width, [codes, numbers @ ..]) = (from.width(), from.at(rows)?);
        let gather = |all: &[u8], bytes: usize| {
            let row = |row: &u32| all.chunks_exact(bytes.max(1)).nth(*row as usize).unwrap_or_default();
            rows.iter().flat_map(row).copied().collect()
        };
        let margin =
            |row: &u32| from.coarse_numbers(RowId(*row), 1).map(|numbers| coarse_margin_of(&numbers));
        let coarse_margins = rows.iter().map(margin).collect::<Result<_, _>>().ok();
        let codes = gather(codes, code_row_bytes(width));
        let numbers = numbers.map(|all| gather(all, 4));
        Ok(Self { width, rows: rows.len() as u32, codes, numbers, coarse_margins })
    }

    /// The products of the rows with a vector.
    pub(super) fn products(&self, kernels: Kernels, question: &Question<'_>) -> Option<Vec<f64>> {
        let mut scorer = CodeScorer::new(kernels, &question.codes, self).ok()?;
        scorer.read(RowId(0), self.rows).ok()?;
        let (mut scores, mut margins) = (vec![0.0; self.rows as usize], vec![0.0; self.rows as usize]);
        scorer.score(0, RowScore::Dot, &mut scores, &mut margins).ok()?;
        Some(scores)
    }

    /// For each of at most four questions the score of each row by its codes; none if the codes cannot be scored.
    pub(super) fn scores(&self, kernels: Kernels, questions: &[Question<'_>]) -> Option<Vec<Vec<f64>>> {
        let codes = Question::joined_codes(questions).ok()?;
        let mut scorer = CodeScorer::new(kernels, &codes, self).ok()?;
        scorer.read(RowId(0), self.rows).ok()?;
        let mut margins = vec![0.0; self.rows as usize];
        let scores = questions.iter().enumerate().map(|(number, question)| {
            let mut scores = vec![0.0; self.rows as usize];
            scorer.score(number, question.kind, &mut scores, &mut margins).ok()?;
            Some(scores)
        });
        scores.collect()
    }
}

impl RowCodes for SampledCodes {
    type Error = Infallible;

    fn width(&self) -> usize {
        self.width
    }

    fn codes(&self, first: RowId, count: u32) -> Result<&[u8], Infallible> {
        Ok(part(&self.codes, code_row_bytes(self.width), first, count))
    }

    fn numbers(&self, first: RowId, count: u32) -> Result<[&[u8]; 3], Infallible> {
        Ok(self.numbers.each_ref().map(|all| part(all, 4, first, count)))
    }
}

/// About the margin of a row's coarse score, for a query of norm 1.
fn coarse_margin_of(numbers: &[&[u8]; 4]) -> f64 {
    let [scale, _, error, _] =
        numbers.map(|bytes| bytes.first_chunk().map_or(0.0, |number| f32::from_le_bytes(*number)));
    coarse_margin() * f64::from(scale) + f64::from(error)
}

/// Some rows of all; none if they are not all there, which those who read them see.
fn part(all: &[u8], bytes: usize, first: RowId, count: u32) -> &[u8] {
    let start = first.0 as usize * bytes;
    all.get(start..start + count as usize * bytes).unwrap_or_default()
}
