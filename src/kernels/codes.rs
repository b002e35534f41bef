//! Products of 8-bit codes with queries of 16-bit steps, in integers.
//!
//! A sum of integers has one value in any order, so every back-end gives the same. A query keeps as many bits as sums of
//! 32 bits admit: it is read from the nearest cache, and its error is then nothing beside that of the codes. Rejected:
//! 8-bit queries, whose error is as large as that of the rows, so that an exact scan has to look at more rows again.

use super::error::KernelError;

/// Codes of one block: rows of codes are padded with zeros to a whole number of blocks.
pub const CODE_BLOCK: usize = 32;

/// Queries that one pass over the codes serves at most: their sums and a block of codes fit the registers of AVX2.
pub const CODE_QUERIES_MAX: usize = 4;

/// Bytes of a row of `width` codes: whole blocks.
///
/// ```
/// assert_eq!(ascribe::kernels::code_row_bytes(33), 64);
/// ```
pub fn code_row_bytes(width: usize) -> usize {
    width.next_multiple_of(CODE_BLOCK)
}

/// How a query became steps: value j is `scale` times step j, to an error whose Euclidean norm is `error_norm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeQuery {
    /// The size of a step; 0 of a zero query.
    pub scale: f64,
    /// Euclidean norm of the query.
    pub norm: f64,
    /// Euclidean norm of what the steps leave of the query.
    pub error_norm: f64,
}

/// One to [`CODE_QUERIES_MAX`] queries of one width as whole numbers of steps, of at most 15 bits: fewer where the sum
/// over a long row would not fit 32 bits.
///
/// ```
/// use ascribe::kernels::{CodeQueries, Kernels, code_row_bytes};
/// let queries = CodeQueries::new(&[&[0.5, -1.0], &[1.0, 1.0]])?;
/// let mut rows = vec![0; 2 * code_row_bytes(2)]; // two rows of two codes: (3, 4) and (-1, 0)
/// (rows[0], rows[1], rows[32]) = (3, 4, 0xFF);
/// let mut sums = [0; 4];
/// Kernels::best().code_dots(&queries, &rows, &mut sums)?;
/// let score = |place: usize, query: usize| f64::from(sums[place]) * queries.queries()[query].scale;
/// assert!((score(0, 0) - (1.5 - 4.0)).abs() < 1e-4); // row 0, query 0
/// assert!((score(1, 1) - (3.0 + 4.0)).abs() < 1e-4); // row 0, query 1
/// assert!((score(2, 0) + 0.5).abs() < 1e-4); // row 1, query 0
/// # Ok::<(), ascribe::kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CodeQueries {
    /// Block by block, the queries' blocks side by side.
    steps: Vec<[i16; CODE_BLOCK]>,
    width: usize,
    queries: Vec<CodeQuery>,
}

impl CodeQueries {
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
        let mut steps = vec![[0; CODE_BLOCK]; width.div_ceil(CODE_BLOCK) * count];
        let described = queries.iter().enumerate().map(|(place, query)| {
            let to = steps.iter_mut().skip(place).step_by(count);
            quantise(query, steps_max(width), |bits| bits as i16, to)
        });
        let queries = described.collect();
        Ok(Self { steps, width, queries })
    }

    /// Several single queries as one set, for one pass over the codes.
    ///
    /// # Errors
    /// As for [`new`](Self::new), or one of them is a set itself.
    ///
    /// # Complexity
    /// O(queries x width)
    ///
    /// ```
    /// use ascribe::kernels::CodeQueries;
    /// let (one, other) = (CodeQueries::new(&[&[0.5, -1.0]])?, CodeQueries::new(&[&[1.0, 1.0]])?);
    /// assert_eq!(CodeQueries::join(&[&one, &other])?, CodeQueries::new(&[&[0.5, -1.0], &[1.0, 1.0]])?);
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn join(single: &[&Self]) -> Result<Self, KernelError> {
        let width = single.first().map_or(0, |query| query.width);
        if single.is_empty() || single.len() > CODE_QUERIES_MAX {
            return Err(KernelError::Queries { given: single.len(), most: CODE_QUERIES_MAX });
        }
        if let Some(set) = single.iter().find(|query| query.queries.len() != 1) {
            return Err(KernelError::Queries { given: set.queries.len(), most: 1 });
        }
        if let Some(other) = single.iter().find(|query| query.width != width) {
            return Err(KernelError::Widths { left: width, right: other.width });
        }
        let mut steps = vec![[0; CODE_BLOCK]; width.div_ceil(CODE_BLOCK) * single.len()];
        for (place, query) in single.iter().enumerate() {
            let to = steps.iter_mut().skip(place).step_by(single.len());
            to.zip(&query.steps).for_each(|(to, from)| *to = *from);
        }
        let queries = single.iter().flat_map(|query| query.queries.clone()).collect();
        Ok(Self { steps, width, queries })
    }

    /// Values of each query.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How each query became steps.
    pub fn queries(&self) -> &[CodeQuery] {
        &self.queries
    }

    /// The blocks of `Q` queries, side by side.
    pub(super) fn steps<const Q: usize>(&self) -> &[[[i16; CODE_BLOCK]; Q]] {
        self.steps.as_chunks().0
    }
}

/// Puts `query` into blocks as whole numbers of steps, of which the largest value has `most`. `lowest` takes a number's lowest bits.
///
/// Written for processors that divide, round and add several numbers at once: a branch or a cast to integers would take as long
/// for each value as a division.
pub(super) fn quantise<'a, S: Copy + Into<f64> + 'a, const N: usize>(
    query: &[f32],
    most: S,
    lowest: impl Fn(u64) -> S,
    to: impl Iterator<Item = &'a mut [S; N]>,
) -> CodeQuery {
    let scale = largest(query) / most.into();
    // Of a zero query every step is 0 anyway.
    let divisor = if scale > 0.0 { scale } else { 1.0 };
    // Sums of every eighth value, which wait for each other less than one sum would.
    let (mut squares, mut error_squares) = ([0.0; QUANTISED_AT_ONCE], [0.0; QUANTISED_AT_ONCE]);
    for (steps, given) in to.zip(query.chunks(N)) {
        let mut values = [0.0; N];
        values.iter_mut().zip(given).for_each(|(value, given)| *value = finite(*given));
        let eights = steps.as_chunks_mut::<QUANTISED_AT_ONCE>().0.iter_mut();
        for (steps, values) in eights.zip(values.as_chunks::<QUANTISED_AT_ONCE>().0) {
            let values = values.map(f64::from);
            let rounded = values.map(|value| value / divisor + ROUNDING);
            for (place, step) in steps.iter_mut().enumerate() {
                *step = lowest(rounded[place].to_bits());
            }
            for place in 0..QUANTISED_AT_ONCE {
                let (value, error) = (values[place], values[place] - scale * (rounded[place] - ROUNDING));
                squares[place] += value * value;
                error_squares[place] += error * error;
            }
        }
    }
    let norm = |squares: [f64; QUANTISED_AT_ONCE]| squares.iter().sum::<f64>().sqrt();
    CodeQuery { scale, norm: norm(squares), error_norm: norm(error_squares) }
}

/// Values that become steps side by side.
const QUANTISED_AT_ONCE: usize = 8;

/// Added to a number below 2^51 it leaves no room behind the point, and the whole number, rounded to the nearest (half to even),
/// in the lowest bits.
const ROUNDING: f64 = 6_755_399_441_055_744.0; // 1.5 x 2^52

fn finite(value: f32) -> f32 {
    f32::from_bits(if value.to_bits() & INFINITE == INFINITE { 0 } else { value.to_bits() })
}

/// The bits of infinity, all of which are set in what is not finite.
const INFINITE: u32 = f32::INFINITY.to_bits();

/// The largest magnitude of the finite values. Bits of positive numbers are in the order of the numbers.
fn largest(values: &[f32]) -> f64 {
    let bits = values.iter().map(|value| finite(*value).abs().to_bits());
    f64::from(f32::from_bits(bits.max().unwrap_or(0)))
}

/// The most steps with which the sum over a row of codes, each of at most 128, still fits an i32.
fn steps_max(width: usize) -> i16 {
    let codes = code_row_bytes(width).max(CODE_BLOCK).saturating_mul(128);
    i16::try_from(i32::MAX as usize / codes).unwrap_or(i16::MAX)
}

/// Blocks of codes in registers of one instruction set. A value of the implementing type proves that the processor has
/// it.
pub(super) trait CodeLanes: Copy {
    /// 32 codes, widened to 16 bits.
    type Codes: Copy;
    /// Partial sums of one row and one query.
    type Sums: Copy;

    /// Sums of 0.
    fn zero(self) -> Self::Sums;

    /// A block, widened.
    fn widen(self, block: &[u8; CODE_BLOCK]) -> Self::Codes;

    /// sums + codes * steps, spread over the partial sums.
    fn multiply_add(self, sums: Self::Sums, codes: Self::Codes, steps: &[i16; CODE_BLOCK]) -> Self::Sums;

    /// Their total.
    fn total(self, sums: Self::Sums) -> i32;

    /// Asks for a row that will be read soon.
    #[inline(always)]
    fn prefetch(self, _row: &[[u8; CODE_BLOCK]]) {}
}

/// Codes without vector registers: the specification.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScalarCodes;

impl CodeLanes for ScalarCodes {
    type Codes = [i16; CODE_BLOCK];
    type Sums = i32;

    #[inline(always)]
    fn zero(self) -> i32 {
        0
    }

    #[inline(always)]
    fn widen(self, block: &[u8; CODE_BLOCK]) -> [i16; CODE_BLOCK] {
        block.map(|byte| i16::from(byte as i8))
    }

    #[inline(always)]
    fn multiply_add(self, sums: i32, codes: [i16; CODE_BLOCK], steps: &[i16; CODE_BLOCK]) -> i32 {
        codes.iter().zip(steps).fold(sums, |sum, (&code, &step)| sum + i32::from(code) * i32::from(step))
    }

    #[inline(always)]
    fn total(self, sums: i32) -> i32 {
        sums
    }
}

/// The sum of each row with each of `Q` queries, row by row. `rows` is a whole number of rows, and `out` has room.
#[inline(always)]
pub(super) fn code_dots<L: CodeLanes, const Q: usize>(
    lanes: L,
    steps: &[[[i16; CODE_BLOCK]; Q]],
    rows: &[u8],
    out: &mut [i32],
) {
    let blocks = rows.as_chunks::<CODE_BLOCK>().0;
    for (row, out) in blocks.chunks_exact(steps.len()).zip(out.as_chunks_mut::<Q>().0) {
        let mut sums = [lanes.zero(); Q];
        for (block, steps) in row.iter().zip(steps) {
            let codes = lanes.widen(block);
            for query in 0..Q {
                sums[query] = lanes.multiply_add(sums[query], codes, &steps[query]);
            }
        }
        for query in 0..Q {
            out[query] = lanes.total(sums[query]);
        }
    }
}

/// Rows that are asked for ahead of the one that is read. Of 3, 8 and all, walks over a graph of 30,000 rows were fastest
/// with 8: with all a processor has more requests than it can hold.
pub(super) const ROWS_AHEAD: usize = 8;

/// The sum of each of the named rows with the one query. `rows` is all rows, one after the other; the first of `named`
/// that is not among them is given back, and what `out` then holds is of no use.
#[inline(always)]
pub(super) fn code_dots_at<L: CodeLanes>(
    lanes: L,
    queries: &CodeQueries,
    rows: &[u8],
    named: &[u32],
    out: &mut [i32],
) -> Option<u32> {
    let blocks = rows.as_chunks::<CODE_BLOCK>().0;
    let steps = queries.steps::<1>();
    let row_of = |row: u32| blocks.get(row as usize * steps.len()..)?.get(..steps.len());
    let prefetch = |row: &u32| {
        if let Some(row) = row_of(*row) {
            lanes.prefetch(row);
        }
    };
    named.iter().take(ROWS_AHEAD).for_each(prefetch);
    for (place, (&name, out)) in named.iter().zip(out).enumerate() {
        named.get(place + ROWS_AHEAD).into_iter().for_each(prefetch);
        let Some(row) = row_of(name) else { return Some(name) };
        let mut sums = lanes.zero();
        for (block, steps) in row.iter().zip(steps) {
            sums = lanes.multiply_add(sums, lanes.widen(block), &steps[0]);
        }
        *out = lanes.total(sums);
    }
    None
}

/// [`code_dots`] for the number of queries that there are.
#[inline(always)]
pub(super) fn code_dots_of<L: CodeLanes>(lanes: L, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) {
    match queries.queries.len() {
        1 => code_dots::<L, 1>(lanes, queries.steps(), rows, out),
        2 => code_dots::<L, 2>(lanes, queries.steps(), rows, out),
        3 => code_dots::<L, 3>(lanes, queries.steps(), rows, out),
        _ => code_dots::<L, 4>(lanes, queries.steps(), rows, out),
    }
}
