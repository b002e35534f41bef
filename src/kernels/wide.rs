//! A query, widened once for many rows.

/// Partial sums of one dot product: value j goes to sum j mod 16. Sixteen fill four AVX2 registers or two of AVX-512:
/// enough independent additions to stay ahead of memory.
pub(super) const LANES: usize = 16;

/// A query of f32 values as f64, in blocks of sixteen; the last block is padded with zeros.
///
/// Widening is exact. Made once for a query, it saves every row the conversion of the query's side; it takes two times
/// the bytes of the query.
///
/// ```
/// let query = ascribe::kernels::WideQuery::new(&[1.0, -2.0]);
/// assert_eq!(query.width(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WideQuery {
    blocks: Vec<[f64; LANES]>,
    width: usize,
}

impl WideQuery {
    /// `query`, widened.
    pub fn new(query: &[f32]) -> Self {
        let mut blocks = vec![[0.0; LANES]; query.len().div_ceil(LANES)];
        for (wide, &narrow) in blocks.as_flattened_mut().iter_mut().zip(query) {
            *wide = f64::from(narrow);
        }
        Self { blocks, width: query.len() }
    }

    /// Values of the query.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The values without the padding.
    pub(super) fn values(&self) -> &[f64] {
        &self.blocks.as_flattened()[..self.width]
    }

    /// The padded values.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn blocks(&self) -> &[[f64; LANES]] {
        &self.blocks
    }
}
