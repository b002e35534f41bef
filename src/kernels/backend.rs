//! The handle that callers use: detection once, length checks, the back-ends by name.

use std::fmt;
use std::sync::OnceLock;

use super::codes::{self, CodeQueries, ScalarCodes, code_row_bytes};
use super::error::KernelError;
use super::scalar;
use super::wide::WideQuery;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx2Vnni, Avx512};
#[cfg(target_arch = "x86_64")]
use super::x86_codes;
use crate::base::ElementType;

/// Back-ends. A variant for an instruction set holds the proof that the processor has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backend {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Sums over rows of stored values, by one back-end. All back-ends give the same bits for finite values.
///
/// Rows are bytes: little-endian values one after the other, one row after the other, at any address.
///
/// ```
/// use ascribe::base::ElementType;
/// use ascribe::kernels::Kernels;
///
/// let rows: Vec<u8> = [1.0_f32, 2.0, -3.0, 0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
/// let mut scores = [0.0; 2];
/// Kernels::best().dots(ElementType::F32, &[10.0, 1.0], &rows, &mut scores)?;
/// assert_eq!(scores, [12.0, -29.5]);
/// # Ok::<(), ascribe::kernels::KernelError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Kernels {
    pub(super) backend: Backend,
}

impl Kernels {
    /// The fastest back-end that this machine admits.
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self { backend: Backend::Scalar })
    }

    /// Every back-end that this machine admits, slowest first: `scalar`, then what the processor has.
    pub fn available() -> &'static [Kernels] {
        static AVAILABLE: OnceLock<Vec<Kernels>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let mut backends = vec![Backend::Scalar];
            #[cfg(target_arch = "x86_64")]
            {
                backends.extend(Avx2::detect().map(Backend::Avx2));
                backends.extend(Avx512::detect().map(Backend::Avx512));
            }
            backends.into_iter().map(|backend| Self { backend }).collect()
        })
    }

    /// The back-end `scalar`, `avx2` or `avx512`; `None` for another name or where the processor lacks it.
    ///
    /// ```
    /// use ascribe::kernels::Kernels;
    /// assert_eq!(Kernels::by_name("scalar").map(|kernels| kernels.name()), Some("scalar"));
    /// assert!(Kernels::by_name("abacus").is_none());
    /// ```
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().iter().find(|kernels| kernels.name() == name).copied()
    }

    /// Name of the back-end: `scalar`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.backend {
            Backend::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(_) => "avx512",
        }
    }

    /// Dot product of `query` with each of `out.len()` rows, in f64. Of int8 rows the codes are taken: the caller
    /// multiplies by the row's scale.
    ///
    /// # Errors
    /// `rows` is not `out.len()` rows of `query.len()` values; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x width); the query is widened on each call, which [`dots_wide`](Self::dots_wide) saves.
    pub fn dots(
        self,
        element: ElementType,
        query: &[f32],
        rows: &[u8],
        out: &mut [f64],
    ) -> Result<(), KernelError> {
        self.dots_wide(element, &WideQuery::new(query), rows, out)
    }

    /// [`dots`](Self::dots) with a query that was widened before.
    ///
    /// # Errors
    /// `rows` is not `out.len()` rows of `query.width()` values; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x width), no allocation.
    pub fn dots_wide(
        self,
        element: ElementType,
        query: &WideQuery,
        rows: &[u8],
        out: &mut [f64],
    ) -> Result<(), KernelError> {
        check_rows(element, query.width(), rows, out.len())?;
        if rows.is_empty() {
            out.fill(0.0);
            return Ok(());
        }
        match self.backend {
            Backend::Scalar => scalar::dots(element, query, rows, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.dots(element, query, rows, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.dots(element, query, rows, out),
        }
        Ok(())
    }

    /// Sum of squares of each of `out.len()` rows of `width` values, in f64. Of int8 rows the codes are taken: the
    /// caller multiplies by the square of the row's scale.
    ///
    /// # Errors
    /// `rows` is not `out.len()` rows of `width` values; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x width), no allocation.
    pub fn squared_norms(
        self,
        element: ElementType,
        width: usize,
        rows: &[u8],
        out: &mut [f64],
    ) -> Result<(), KernelError> {
        check_rows(element, width, rows, out.len())?;
        if rows.is_empty() {
            out.fill(0.0);
            return Ok(());
        }
        match self.backend {
            Backend::Scalar => scalar::squared_norms(element, width, rows, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.squared_norms(element, width, rows, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.squared_norms(element, width, rows, out),
        }
        Ok(())
    }

    /// Dot product of `query` with each of `out.len()` rows of f32 values, with the bits of [`dots_wide`](Self::dots_wide).
    ///
    /// # Errors
    /// `rows` is not `out.len()` rows of `query.width()` values; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x width), no allocation.
    ///
    /// ```
    /// use ascribe::kernels::{Kernels, WideQuery};
    /// let mut out = [0.0; 2];
    /// Kernels::best().dots_of(&WideQuery::new(&[1.0, 10.0]), &[1.0, 2.0, 3.0, 4.0], &mut out)?;
    /// assert_eq!(out, [21.0, 43.0]);
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn dots_of(self, query: &WideQuery, rows: &[f32], out: &mut [f64]) -> Result<(), KernelError> {
        self.dots_wide(ElementType::F32, query, stored(rows), out)
    }

    /// Dot product of two vectors in f64, with the bits that [`dots`](Self::dots) gives for `other` stored as f32.
    ///
    /// # Errors
    /// The vectors have different lengths.
    ///
    /// ```
    /// # use ascribe::kernels::Kernels;
    /// assert_eq!(Kernels::best().dot(&[3.0, 4.0], &[3.0, 4.0]), Ok(25.0));
    /// assert!(Kernels::best().dot(&[3.0], &[3.0, 4.0]).is_err());
    /// ```
    pub fn dot(self, query: &[f32], other: &[f32]) -> Result<f64, KernelError> {
        if query.len() != other.len() {
            return Err(KernelError::Widths { left: query.len(), right: other.len() });
        }
        let mut score = [0.0];
        self.dots(ElementType::F32, query, stored(other), &mut score)?;
        Ok(score[0])
    }

    /// Sum of codes times steps for each row of codes and each query: that of row r and query j of n goes to
    /// `out[r * n + j]`. A row is [`code_row_bytes`] signed bytes, those beyond the width 0.
    ///
    /// # Errors
    /// `rows` is not a whole number of rows, or `out` has not one place for each row and query; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x width x queries), no allocation.
    pub fn code_dots(self, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) -> Result<(), KernelError> {
        let (width, count) = (queries.width(), out.len() / queries.queries().len());
        let needed = code_row_bytes(width).checked_mul(count);
        if needed != Some(rows.len()) || !out.len().is_multiple_of(queries.queries().len()) {
            return Err(KernelError::CodeBytes { width, rows: count, given: rows.len() });
        }
        if rows.is_empty() {
            out.fill(0);
            return Ok(());
        }
        match self.backend {
            Backend::Scalar => codes::code_dots_of(ScalarCodes, queries, rows, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.code_dots(queries, rows, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.code_dots(queries, rows, out),
        }
        Ok(())
    }

    /// [`code_dots`](Self::code_dots) of one query with the rows that `named` names, in that order, out of `rows`, the codes
    /// of all rows. Rows are asked of memory ahead of their turn.
    ///
    /// # Errors
    /// There is more than one query, `sums` has not one place for each name, or a named row is not among `rows`; what
    /// `sums` holds is then of no use.
    ///
    /// # Complexity
    /// O(named x width), no allocation.
    pub fn code_dots_at(
        self,
        queries: &CodeQueries,
        rows: &[u8],
        named: &[u32],
        sums: &mut [i32],
    ) -> Result<(), KernelError> {
        let (width, count) = (queries.width(), queries.queries().len());
        if count != 1 {
            return Err(KernelError::Queries { given: count, most: 1 });
        }
        if sums.len() != named.len() {
            return Err(KernelError::Places { named: named.len(), places: sums.len() });
        }
        let missing = match self.backend {
            Backend::Scalar => codes::code_dots_at(ScalarCodes, queries, rows, named, sums),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.code_dots_at(queries, rows, named, sums),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.code_dots_at(queries, rows, named, sums),
        };
        missing.map_or(Ok(()), |row| {
            let rows = rows.len() / code_row_bytes(width).max(1);
            Err(KernelError::CodeRow { row, rows })
        })
    }

    /// The lanes of AVX2, unless the processor or the caller has none.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn avx2(self) -> Option<Avx2> {
        match self.backend {
            Backend::Scalar => None,
            Backend::Avx2(lanes) => Some(lanes),
            Backend::Avx512(_) => Avx2::detect(),
        }
    }

    /// The lanes of VNNI in registers of AVX2, unless the processor or the caller has none.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn avx2_vnni(self) -> Option<Avx2Vnni> {
        match self.backend {
            Backend::Scalar | Backend::Avx2(_) => None,
            Backend::Avx512(_) => Avx2Vnni::detect(),
        }
    }

    /// Asks memory for values that will be read soon, so that they are near by then. Their content is not looked at.
    ///
    /// # Complexity
    /// An instruction for each 64 bytes; nothing on processors of other kinds than x86-64.
    #[inline]
    pub fn prefetch<T>(self, values: &[T]) {
        #[cfg(target_arch = "x86_64")]
        if !matches!(self.backend, Backend::Scalar) {
            x86_codes::prefetch(values);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = values;
    }

    /// [`prefetch`](Self::prefetch) for some of many values; a number beyond them is passed over.
    #[inline]
    pub fn prefetch_at<T>(self, values: &[T], named: &[u32]) {
        let value = |name: &u32| values.get(*name as usize);
        named.iter().filter_map(value).for_each(|value| self.prefetch(std::slice::from_ref(value)));
    }

    /// [`prefetch`](Self::prefetch) for some of many rows of `row_length` values each; a number beyond them is passed over.
    #[inline]
    pub fn prefetch_rows<T>(self, values: &[T], row_length: usize, named: &[u32]) {
        let row = |name: &u32| values.get(*name as usize * row_length..)?.get(..row_length);
        named.iter().filter_map(row).for_each(|row| self.prefetch(row));
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Kernels({})", self.name())
    }
}

/// Values as they are stored. The order of bytes is that of the machine, as is that of every stored row which is read where it
/// lies.
fn stored(values: &[f32]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "stored values are little-endian") };
    bytemuck::cast_slice(values)
}

/// Stored f32 values where they lie, if they begin where an f32 may: those of a file that is mapped do.
///
/// ```
/// let values = [1.5_f32, -2.0];
/// let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
/// let found = ascribe::kernels::stored_values(&bytes);
/// assert!(found.is_none_or(|found| found == values));
/// assert!(ascribe::kernels::stored_values(&bytes[..7]).is_none(), "half a value");
/// ```
pub fn stored_values(bytes: &[u8]) -> Option<&[f32]> {
    const { assert!(cfg!(target_endian = "little"), "stored values are little-endian") };
    bytemuck::try_cast_slice(bytes).ok()
}

/// That `bytes` are `rows` rows of `width` values. The product may not fit: a width can come from a file.
fn check_rows(element: ElementType, width: usize, bytes: &[u8], rows: usize) -> Result<(), KernelError> {
    let needed = width.checked_mul(element.size_bytes()).and_then(|row_bytes| row_bytes.checked_mul(rows));
    if needed == Some(bytes.len()) {
        Ok(())
    } else {
        Err(KernelError::RowBytes { element, width, rows, given: bytes.len() })
    }
}

pub(super) fn check_matrix(
    what: &'static str,
    given: usize,
    needed: usize,
    exact: bool,
) -> Result<(), KernelError> {
    if given == needed || (given > needed && !exact) {
        Ok(())
    } else {
        Err(KernelError::Matrix { what, given, needed })
    }
}
