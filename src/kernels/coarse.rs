//! Products of 4-bit codes with queries of 8-bit steps, in integers: half the bytes of 8-bit codes, for a first look at
//! rows.
//!
//! The error of a row is some ten times what the steps leave of a query, so that 8 bits are enough for it, and two of the
//! products fit a sum of 16 bits. Rejected: 1 bit a value. Its pass is faster (half a millisecond for 100,000 rows of 384
//! values instead of two, on one core with AVX2), but for .999 of the ten lowest products it leaves 11,000 of 100,000
//! clustered rows and 3,500 of 30,000 sentences to be looked at again, where 4 bits leave 37 and 20; both ends come out of
//! one pass here.

use std::ops::Neg;

use super::backend::Kernels;
use super::codes::{CODE_QUERIES_MAX, CodeQuery, quantise};
use super::error::KernelError;

/// Values of a block of coarse codes.
pub const COARSE_BLOCK_VALUES: usize = 64;

/// Bytes of a block: byte j holds value j in its low half and value 32 + j in its high half.
pub const COARSE_BLOCK_BYTES: usize = 32;

/// A half of a byte is the code plus this.
pub const COARSE_OFFSET: u8 = 8;

/// The largest code; the least is its negative.
pub const COARSE_CODE_MAX: i8 = 7;

/// Bytes of a row of `width` coarse codes: whole blocks.
///
/// ```
/// assert_eq!(ascribe::kernels::coarse_row_bytes(65), 64);
/// ```
pub fn coarse_row_bytes(width: usize) -> usize {
    width.div_ceil(COARSE_BLOCK_VALUES) * COARSE_BLOCK_BYTES
}

/// Appends the codes of a row, -7 to 7 each, two a byte and padded with code 0 to [`coarse_row_bytes`].
///
/// ```
/// let mut row = Vec::new();
/// ascribe::kernels::pack_coarse(&[-7, 1], &mut row);
/// assert_eq!((row[0], row[1], row[2], row.len()), (0x81, 0x89, 0x88, 32));
/// ```
pub fn pack_coarse(codes: &[i8], row: &mut Vec<u8>) {
    for block in codes.chunks(COARSE_BLOCK_VALUES) {
        let half = |place: usize| {
            let code = block.get(place).copied().unwrap_or(0).clamp(-COARSE_CODE_MAX, COARSE_CODE_MAX);
            code.wrapping_add_unsigned(COARSE_OFFSET) as u8
        };
        row.extend((0..COARSE_BLOCK_BYTES).map(|place| half(place) | half(place + COARSE_BLOCK_BYTES) << 4));
    }
}

/// One to [`CODE_QUERIES_MAX`] queries of one width as whole numbers of steps, of at most 7 bits and a sign.
///
/// ```
/// use ascribe::kernels::{CoarseQueries, Kernels, pack_coarse};
/// let queries = CoarseQueries::new(&[&[0.5, -1.0]])?;
/// let mut rows = Vec::new();
/// pack_coarse(&[3, 4], &mut rows);
/// pack_coarse(&[-1, 0], &mut rows);
/// let mut sums = [0; 2];
/// Kernels::best().coarse_dots(&queries, &rows, &mut sums)?;
/// let score = |place: usize| f64::from(sums[place]) * queries.queries()[0].scale;
/// assert!((score(0) - (1.5 - 4.0)).abs() < 0.02);
/// assert!((score(1) + 0.5).abs() < 0.02);
/// # Ok::<(), ascribe::kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CoarseQueries {
    /// Block by block, the queries' blocks side by side.
    steps: Vec<[i8; COARSE_BLOCK_VALUES]>,
    /// For each query what the offset of the codes adds to a sum.
    offsets: Vec<i32>,
    width: usize,
    queries: Vec<CodeQuery>,
}

impl CoarseQueries {
    /// The steps of `queries`, each a fraction of its own largest magnitude. Values that are not finite count as 0.
    ///
    /// # Errors
    /// The number of queries is 0 or above [`CODE_QUERIES_MAX`], or their widths differ.
    ///
    /// # Complexity
    /// O(queries x width)
    pub fn new(queries: &[&[f32]]) -> Result<Self, KernelError> {
        let width = queries.first().map_or(0, |query| query.len());
        if queries.is_empty() || queries.len() > CODE_QUERIES_MAX {
            return Err(KernelError::Queries { given: queries.len(), most: CODE_QUERIES_MAX });
        }
        if let Some(other) = queries.iter().find(|query| query.len() != width) {
            return Err(KernelError::Widths { left: width, right: other.len() });
        }
        let count = queries.len();
        let mut steps = vec![[0; COARSE_BLOCK_VALUES]; width.div_ceil(COARSE_BLOCK_VALUES) * count];
        let mut described = Vec::with_capacity(count);
        let mut offsets = Vec::with_capacity(count);
        for (place, query) in queries.iter().enumerate() {
            let to = steps.iter_mut().skip(place).step_by(count);
            described.push(quantise(query, i8::MAX, |bits| bits as i8, to));
            let own = steps.iter().skip(place).step_by(count).flatten();
            offsets.push(i32::from(COARSE_OFFSET) * own.map(|step| i32::from(*step)).sum::<i32>());
        }
        Ok(Self { steps, offsets, width, queries: described })
    }

    /// Values of each query.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How each query became steps.
    pub fn queries(&self) -> &[CodeQuery] {
        &self.queries
    }
}

/// What turns the sum over a row of coarse codes into its score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoarseScore {
    /// Score of a row whose scale is 0.
    pub base: f64,
    /// Score of a sum of 1 in a row whose scale is 1.
    pub step: f64,
    /// What is taken off that score.
    pub dithered: f64,
}

impl CoarseScore {
    /// The score of a row with this sum and scale, the latter little-endian f32. Each operation is rounded by itself, so that
    /// it has the same bits for any instruction set it is compiled for.
    #[inline(always)]
    fn of(self, sum: i32, scale: [u8; 4]) -> f64 {
        self.base + f64::from(f32::from_le_bytes(scale)) * (f64::from(sum) * self.step - self.dithered)
    }
}

impl Neg for CoarseScore {
    type Output = Self;

    /// The negatives of the scores.
    fn neg(self) -> Self {
        Self { base: -self.base, step: -self.step, dithered: -self.dithered }
    }
}

/// What turns the sum over a row of coarse codes into its score, and tells by how much that may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoarseTerms {
    /// The score.
    pub score: CoarseScore,
    /// Margins for a scale of 1, for a norm of 1, for an error of 1, and for a score of 1.
    pub margins: [f64; 4],
    /// Margin of every row.
    pub lost: f64,
}

/// Numbers of some rows with coarse codes, little-endian f32: scales, norms of scale times codes, errors.
pub type CoarseNumbers<'a> = [&'a [[u8; 4]]; 3];

/// Coarse codes of all rows, one after the other, and their scales, little-endian f32.
pub type ScaledCoarse<'a> = (&'a [u8], &'a [[u8; 4]]);

/// Writes the score of each row, and its margin: 0 and infinity instead of what is not a number. One row after the other, each
/// operation rounded by itself.
#[inline(always)]
pub(super) fn coarse_scores(
    terms: &CoarseTerms,
    sums: &[i32],
    [scales, norms, errors]: CoarseNumbers<'_>,
    scores: &mut [f64],
    margins: &mut [f64],
) {
    let number = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
    let [per_scale, per_norm, per_error, per_score] = terms.margins;
    let rows = sums.iter().zip(scales).zip(norms.iter().zip(errors));
    for (((sum, scale), (norm, error)), (score, margin)) in rows.zip(scores.iter_mut().zip(margins)) {
        *score = terms.score.of(*sum, *scale);
        let off = per_scale * number(scale)
            + per_norm * number(norm)
            + per_error * number(error)
            + (terms.lost + per_score * score.abs());
        // A row of which nothing is known may be anything: it must not be passed over.
        let is_known = !off.is_nan();
        *margin = if is_known { off } else { f64::INFINITY };
        *score = if is_known { *score } else { 0.0 };
    }
}

/// Blocks of coarse codes in registers of one instruction set. A value of the implementing type proves that the processor
/// has it.
pub(super) trait CoarseLanes: Copy {
    /// The low and the high halves of a block's bytes, offset and all.
    type Codes: Copy;
    /// Partial sums of one row and one query.
    type Sums: Copy;

    /// Sums of 0.
    fn zero(self) -> Self::Sums;

    /// A block, halved.
    fn halve(self, block: &[u8; COARSE_BLOCK_BYTES]) -> Self::Codes;

    /// sums + codes * steps, spread over the partial sums.
    fn multiply_add(
        self,
        sums: Self::Sums,
        codes: Self::Codes,
        steps: &[i8; COARSE_BLOCK_VALUES],
    ) -> Self::Sums;

    /// Their total.
    fn total(self, sums: Self::Sums) -> i32;
}

/// Coarse codes without vector registers: the specification.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScalarCoarse;

impl CoarseLanes for ScalarCoarse {
    type Codes = [u8; COARSE_BLOCK_VALUES];
    type Sums = i32;

    #[inline(always)]
    fn zero(self) -> i32 {
        0
    }

    #[inline(always)]
    fn halve(self, block: &[u8; COARSE_BLOCK_BYTES]) -> [u8; COARSE_BLOCK_VALUES] {
        let mut codes = [0; COARSE_BLOCK_VALUES];
        let (low, high) = codes.split_at_mut(COARSE_BLOCK_BYTES);
        for ((byte, low), high) in block.iter().zip(low).zip(high) {
            (*low, *high) = (byte & 0x0F, byte >> 4);
        }
        codes
    }

    #[inline(always)]
    fn multiply_add(
        self,
        sums: i32,
        codes: [u8; COARSE_BLOCK_VALUES],
        steps: &[i8; COARSE_BLOCK_VALUES],
    ) -> i32 {
        codes.iter().zip(steps).fold(sums, |sum, (&code, &step)| sum + i32::from(code) * i32::from(step))
    }

    #[inline(always)]
    fn total(self, sums: i32) -> i32 {
        sums
    }
}

/// The sum of each row with each of `Q` queries, row by row. `rows` is a whole number of rows, and `out` has room. Of the
/// longest row no sum exceeds 2^27.
#[inline(always)]
fn coarse_dots<L: CoarseLanes, const Q: usize>(
    lanes: L,
    queries: &CoarseQueries,
    rows: &[u8],
    out: &mut [i32],
) {
    let steps: &[[[i8; COARSE_BLOCK_VALUES]; Q]] = queries.steps.as_chunks().0;
    let blocks = rows.as_chunks::<COARSE_BLOCK_BYTES>().0;
    for (row, out) in blocks.chunks_exact(steps.len()).zip(out.as_chunks_mut::<Q>().0) {
        let mut sums = [lanes.zero(); Q];
        for (block, steps) in row.iter().zip(steps) {
            let codes = lanes.halve(block);
            for query in 0..Q {
                sums[query] = lanes.multiply_add(sums[query], codes, &steps[query]);
            }
        }
        for query in 0..Q {
            out[query] = lanes.total(sums[query]) - queries.offsets[query];
        }
    }
}

/// [`coarse_dots`] for the number of queries that there are.
#[inline(always)]
pub(super) fn coarse_dots_of<L: CoarseLanes>(
    lanes: L,
    queries: &CoarseQueries,
    rows: &[u8],
    out: &mut [i32],
) {
    match queries.queries.len() {
        1 => coarse_dots::<L, 1>(lanes, queries, rows, out),
        2 => coarse_dots::<L, 2>(lanes, queries, rows, out),
        3 => coarse_dots::<L, 3>(lanes, queries, rows, out),
        _ => coarse_dots::<L, 4>(lanes, queries, rows, out),
    }
}

/// The score of each of the named rows for the one query. `rows` and `scales` are those of all rows; the first of `named`
/// that is not among them is given back, and what `out` then holds is of no use.
#[inline(always)]
pub(super) fn coarse_scores_at<L: CoarseLanes>(
    lanes: L,
    queries: &CoarseQueries,
    score: CoarseScore,
    (rows, scales): ScaledCoarse<'_>,
    named: &[u32],
    out: &mut [f32],
) -> Option<u32> {
    let steps = queries.steps.as_slice();
    let offset = queries.offsets.first().copied().unwrap_or(0);
    let blocks = rows.as_chunks::<COARSE_BLOCK_BYTES>().0;
    for (&name, out) in named.iter().zip(out) {
        let place = name as usize;
        let row = blocks.get(place * steps.len()..).and_then(|rows| rows.get(..steps.len()));
        let (Some(row), Some(scale)) = (row, scales.get(place)) else { return Some(name) };
        let mut sums = lanes.zero();
        for (block, steps) in row.iter().zip(steps) {
            sums = lanes.multiply_add(sums, lanes.halve(block), steps);
        }
        *out = score.of(lanes.total(sums) - offset, *scale) as f32;
    }
    None
}

impl Kernels {
    /// Sum of coarse codes times steps for each row and each query: that of row r and query j of n goes to
    /// `out[r * n + j]`. A row is what [`pack_coarse`](super::pack_coarse) makes of its codes.
    ///
    /// # Errors
    /// `rows` is not a whole number of rows, or `out` has not one place for each row and query; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x width x queries), no allocation.
    pub fn coarse_dots(
        self,
        queries: &CoarseQueries,
        rows: &[u8],
        out: &mut [i32],
    ) -> Result<(), KernelError> {
        let (width, count) = (queries.width(), out.len() / queries.queries().len());
        let needed = coarse_row_bytes(width).checked_mul(count);
        if needed != Some(rows.len()) || !out.len().is_multiple_of(queries.queries().len()) {
            return Err(KernelError::CodeBytes { width, rows: count, given: rows.len() });
        }
        if rows.is_empty() {
            out.fill(0);
            return Ok(());
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.avx2() {
            match self.avx2_vnni() {
                Some(lanes) => lanes.coarse_dots(queries, rows, out),
                None => lanes.coarse_dots(queries, rows, out),
            }
            return Ok(());
        }
        coarse_dots_of(ScalarCoarse, queries, rows, out);
        Ok(())
    }

    /// Scores of one query with the rows that `named` names, in that order, in f32. `rows` are the codes and scales of all
    /// rows.
    ///
    /// # Errors
    /// There is more than one query, `scores` has not one place for each name, or a named row is not among the rows; what
    /// `scores` holds is then of no use.
    ///
    /// # Complexity
    /// O(named x width), no allocation.
    ///
    /// ```
    /// use ascribe::kernels::{CoarseQueries, CoarseScore, Kernels, pack_coarse};
    /// let queries = CoarseQueries::new(&[&[0.5, -1.0]])?;
    /// let mut rows = Vec::new();
    /// pack_coarse(&[3, 4], &mut rows);
    /// pack_coarse(&[-1, 0], &mut rows);
    /// let scales = [2.0_f32.to_le_bytes(), 4.0_f32.to_le_bytes()];
    /// let score = CoarseScore { base: 10.0, step: queries.queries()[0].scale, dithered: 0.0 };
    /// let mut scores = [0.0; 2];
    /// Kernels::best().coarse_scores_at(&queries, score, (&rows, &scales), &[1, 0], &mut scores)?;
    /// assert!((scores[0] - (10.0 - 4.0 * 0.5)).abs() < 0.05); // row 1
    /// assert!((scores[1] - (10.0 + 2.0 * (1.5 - 4.0))).abs() < 0.05); // row 0
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn coarse_scores_at(
        self,
        queries: &CoarseQueries,
        score: CoarseScore,
        rows: ScaledCoarse<'_>,
        named: &[u32],
        scores: &mut [f32],
    ) -> Result<(), KernelError> {
        let (width, count) = (queries.width(), queries.queries().len());
        if count != 1 {
            return Err(KernelError::Queries { given: count, most: 1 });
        }
        if scores.len() != named.len() {
            return Err(KernelError::Places { named: named.len(), places: scores.len() });
        }
        let missing = self.coarse_scores_of(queries, score, rows, named, scores);
        missing.map_or(Ok(()), |row| {
            let rows = (rows.0.len() / coarse_row_bytes(width).max(1)).min(rows.1.len());
            Err(KernelError::CodeRow { row, rows })
        })
    }

    fn coarse_scores_of(
        self,
        queries: &CoarseQueries,
        score: CoarseScore,
        rows: ScaledCoarse<'_>,
        named: &[u32],
        scores: &mut [f32],
    ) -> Option<u32> {
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.avx2() {
            return match self.avx2_vnni() {
                Some(lanes) => lanes.coarse_scores_at(queries, score, rows, named, scores),
                None => lanes.coarse_scores_at(queries, score, rows, named, scores),
            };
        }
        coarse_scores_at(ScalarCoarse, queries, score, rows, named, scores)
    }

    /// Scores of rows from their sums of coarse codes, and by how much each may be off; 0 and infinity instead of what is not
    /// a number.
    ///
    /// # Errors
    /// There is not one number of each kind and one place for each sum; scores and margins are unchanged.
    ///
    /// # Complexity
    /// O(rows), no allocation.
    ///
    /// ```
    /// use ascribe::kernels::{CoarseScore, CoarseTerms, Kernels};
    /// let margins = [0.5, 0.0, 1.0, 0.0];
    /// let score = CoarseScore { base: 1.0, step: 0.25, dithered: 0.5 };
    /// let terms = CoarseTerms { score, margins, lost: 0.0 };
    /// let number = |value: f32| [value.to_le_bytes()];
    /// let numbers = [&number(2.0)[..], &number(9.0), &number(0.125)];
    /// let (mut scores, mut off) = ([0.0], [0.0]);
    /// Kernels::best().coarse_scores(&terms, &[6], numbers, &mut scores, &mut off)?;
    /// assert_eq!((scores, off), ([1.0 + 2.0 * (1.5 - 0.5)], [1.125]));
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn coarse_scores(
        self,
        terms: &CoarseTerms,
        sums: &[i32],
        numbers: CoarseNumbers<'_>,
        scores: &mut [f64],
        margins: &mut [f64],
    ) -> Result<(), KernelError> {
        let rows = sums.len();
        let lengths = numbers.iter().map(|numbers| numbers.len()).chain([scores.len(), margins.len()]);
        if let Some(places) = lengths.into_iter().find(|length| *length != rows) {
            return Err(KernelError::Places { named: rows, places });
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.avx2() {
            lanes.coarse_scores(terms, sums, numbers, scores, margins);
            return Ok(());
        }
        coarse_scores(terms, sums, numbers, scores, margins);
        Ok(())
    }
}
