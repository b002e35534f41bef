//! Products of the 8-bit codes of one row with those of others, in integers: rows are compared with each other when a graph is
//! built, and none has to become a query first.

use super::backend::Kernels;
use super::codes::{CODE_BLOCK, ROWS_AHEAD, code_row_bytes};
use super::error::KernelError;

/// Blocks of codes, two at a time, in registers of one instruction set. A value of the implementing type proves that the
/// processor has it.
pub(super) trait PairLanes: Copy {
    /// Partial sums of two rows.
    type Sums: Copy;

    /// Sums of 0.
    fn zero(self) -> Self::Sums;

    /// sums + own * other, spread over the partial sums.
    fn multiply_add(self, sums: Self::Sums, own: &[u8; CODE_BLOCK], other: &[u8; CODE_BLOCK]) -> Self::Sums;

    /// Their total.
    fn total(self, sums: Self::Sums) -> i32;

    /// What [`multiply_add`](Self::multiply_add) adds too much over a whole row.
    fn excess(self, own: &[[u8; CODE_BLOCK]]) -> i32;

    /// Asks for a row that will be read soon.
    #[inline(always)]
    fn prefetch(self, _row: &[[u8; CODE_BLOCK]]) {}
}

/// Pairs of rows without vector registers: the specification.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScalarPairs;

impl PairLanes for ScalarPairs {
    type Sums = i32;

    #[inline(always)]
    fn zero(self) -> i32 {
        0
    }

    #[inline(always)]
    fn multiply_add(self, sums: i32, own: &[u8; CODE_BLOCK], other: &[u8; CODE_BLOCK]) -> i32 {
        let product = |(own, other): (&u8, &u8)| i32::from(*own as i8) * i32::from(*other as i8);
        own.iter().zip(other).map(product).fold(sums, |sum, product| sum + product)
    }

    #[inline(always)]
    fn total(self, sums: i32) -> i32 {
        sums
    }

    #[inline(always)]
    fn excess(self, _own: &[[u8; CODE_BLOCK]]) -> i32 {
        0
    }
}

/// The sum of `own` with each of the named rows. `rows` is all rows, one after the other; the first of `named` that is not
/// among them is given back, and what `out` then holds is of no use.
#[inline(always)]
pub(super) fn row_dots_at<L: PairLanes>(
    lanes: L,
    own: &[u8],
    rows: &[u8],
    named: &[u32],
    out: &mut [i32],
) -> Option<u32> {
    let (own, blocks) = (own.as_chunks::<CODE_BLOCK>().0, rows.as_chunks::<CODE_BLOCK>().0);
    let row_of = |row: u32| blocks.get(row as usize * own.len()..)?.get(..own.len());
    let prefetch = |row: &u32| {
        if let Some(row) = row_of(*row) {
            lanes.prefetch(row);
        }
    };
    named.iter().take(ROWS_AHEAD).for_each(prefetch);
    let excess = lanes.excess(own);
    for (place, (&name, out)) in named.iter().zip(out).enumerate() {
        named.get(place + ROWS_AHEAD).into_iter().for_each(prefetch);
        let Some(row) = row_of(name) else { return Some(name) };
        let pairs = own.iter().zip(row);
        let sums = pairs.fold(lanes.zero(), |sums, (own, other)| lanes.multiply_add(sums, own, other));
        *out = lanes.total(sums) - excess;
    }
    None
}

impl Kernels {
    /// Sum of the products of the codes of one row, of `width` values and padded, with those of each of the rows that `named`
    /// names, in that order, out of `rows`, the codes of all rows. Rows are asked of memory ahead of their turn.
    ///
    /// # Errors
    /// `own` is not the codes of a row, `sums` has not one place for each name, or a named row is not among `rows`; what `sums`
    /// holds is then of no use.
    ///
    /// # Complexity
    /// O(named x width), no allocation.
    ///
    /// ```
    /// let mut rows = [0; 64]; // two rows of one code: 3 and -2
    /// (rows[0], rows[32]) = (3, 0xFE);
    /// let mut sums = [0; 2];
    /// ascribe::kernels::Kernels::best().row_dots_at(1, &rows[32..], &rows, &[1, 0], &mut sums)?;
    /// assert_eq!(sums, [4, -6]);
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn row_dots_at(
        self,
        width: usize,
        own: &[u8],
        rows: &[u8],
        named: &[u32],
        sums: &mut [i32],
    ) -> Result<(), KernelError> {
        if own.len() != code_row_bytes(width) {
            return Err(KernelError::CodeBytes { width, rows: 1, given: own.len() });
        }
        if sums.len() != named.len() {
            return Err(KernelError::Places { named: named.len(), places: sums.len() });
        }
        let missing = 'found: {
            #[cfg(target_arch = "x86_64")]
            if let Some(lanes) = self.avx2() {
                break 'found match self.avx2_vnni() {
                    Some(lanes) => lanes.row_dots_at(own, rows, named, sums),
                    None => lanes.row_dots_at(own, rows, named, sums),
                };
            }
            row_dots_at(ScalarPairs, own, rows, named, sums)
        };
        missing.map_or(Ok(()), |row| {
            Err(KernelError::CodeRow { row, rows: rows.len() / code_row_bytes(width).max(1) })
        })
    }
}
