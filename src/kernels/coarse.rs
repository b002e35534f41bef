//! Products of 4-bit codes with queries of 8-bit steps, in integers: half the bytes of 8-bit codes, for a first look at
//! rows.
//!
//! The error of a row is some ten times what the steps leave of a query, so that 8 bits are enough for it, and two of the
//! products fit a sum of 16 bits. Rejected: 1 bit a value. Its pass is faster (half a millisecond for 100,000 rows of 384
//! values instead of two, on one core with AVX2), but for .999 of the ten lowest products it leaves 11,000 of 100,000
//! clustered rows and 3,500 of 30,000 sentences to be looked at again, where 4 bits leave 37 and 20; both ends come out of
//! one pass here.

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
            described.push(quantise(query, i8::MAX, |steps| steps as i8, to));
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
