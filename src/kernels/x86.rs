//! Lanes of AVX2 and AVX-512.
//!
//! Every `unsafe` block rests on the same fact: a token ([`Avx2`], [`Avx512`]) has a private field and is made only by its
//! `detect`, after the processor said that it has every instruction set named in that token's `target_feature`
//! attributes. Memory is read and written through references to arrays of the full width, unaligned.
//! Rounding and the treatment of subnormal numbers are left as Rust requires them: to nearest even, none flushed.

#![allow(unsafe_code, reason = "intrinsics of instruction sets that are detected at run time")]

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m128i, __m256d, __m512d, _MM_HINT_T0, _mm_castsi128_ps, _mm_cvtepi8_epi32, _mm_cvtepu16_epi32,
    _mm_cvtph_ps, _mm_loadl_epi64, _mm_loadu_ps, _mm_loadu_si32, _mm_loadu_si128, _mm_prefetch,
    _mm_slli_epi32, _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_pd, _mm256_cvtepu16_epi32,
    _mm256_cvtph_ps, _mm256_cvtps_pd, _mm256_fmadd_pd, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_set1_pd,
    _mm256_setzero_pd, _mm256_slli_epi32, _mm256_storeu_pd, _mm512_cvtepi32_pd, _mm512_cvtps_pd,
    _mm512_fmadd_pd, _mm512_loadu_pd, _mm512_set1_pd, _mm512_setzero_pd, _mm512_storeu_pd,
};
use std::ops::Range;

use super::symmetric;
use super::tile::{self, Lanes};
use super::wide::{LANES, WideQuery};
use crate::base::ElementType;

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The token, where the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    /// See [`dots`](super::scalar::dots).
    pub(super) fn dots(self, element: ElementType, query: &WideQuery, rows: &[u8], out: &mut [f64]) {
        // SAFETY: the token proves that the processor has the features of `dots_avx2`.
        unsafe { dots_avx2(self, element, query, rows, out) }
    }

    /// See [`squared_norms`](super::scalar::squared_norms).
    pub(super) fn squared_norms(self, element: ElementType, width: usize, rows: &[u8], out: &mut [f64]) {
        // SAFETY: the token proves that the processor has the features of `squared_norms_avx2`.
        unsafe { squared_norms_avx2(self, element, width, rows, out) }
    }

    /// See [`scalar_times`](super::symmetric::scalar_times).
    pub(super) fn symmetric_times(
        self,
        matrix: &[u8],
        rows: Range<usize>,
        vector: &WideQuery,
        out: &mut [f64],
    ) {
        // SAFETY: the token proves that the processor has the features of `symmetric_times_avx2`.
        unsafe { symmetric_times_avx2(self, matrix, rows, vector, out) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_avx2(lanes: Avx2, element: ElementType, query: &WideQuery, rows: &[u8], out: &mut [f64]) {
    tile::dots(lanes, element, query, rows, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn squared_norms_avx2(lanes: Avx2, element: ElementType, width: usize, rows: &[u8], out: &mut [f64]) {
    tile::squared_norms(lanes, element, width, rows, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn symmetric_times_avx2(lanes: Avx2, matrix: &[u8], rows: Range<usize>, vector: &WideQuery, out: &mut [f64]) {
    symmetric::times(lanes, matrix, rows, vector, out);
}

/// Lanes 0-3, 4-7, 8-11 and 12-15.
impl Lanes for Avx2 {
    type Values = [__m256d; 4];

    #[inline(always)]
    fn zero(self) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_setzero_pd(); 4] }
    }

    #[inline(always)]
    fn splat(self, value: f64) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_set1_pd(value); 4] }
    }

    #[inline(always)]
    fn load(self, values: &[f64; LANES]) -> Self::Values {
        let from = values.as_ptr();
        // SAFETY: the token proves AVX; four loads of four f64 values read the sixteen that `values` holds.
        unsafe {
            [
                _mm256_loadu_pd(from),
                _mm256_loadu_pd(from.add(4)),
                _mm256_loadu_pd(from.add(8)),
                _mm256_loadu_pd(from.add(12)),
            ]
        }
    }

    #[inline(always)]
    fn widen_f32(self, bytes: &[u8; 64]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX; four loads of 16 bytes read the 64 that `bytes` holds. x86-64 is little-endian.
        unsafe {
            [
                _mm256_cvtps_pd(_mm_loadu_ps(from.cast())),
                _mm256_cvtps_pd(_mm_loadu_ps(from.add(16).cast())),
                _mm256_cvtps_pd(_mm_loadu_ps(from.add(32).cast())),
                _mm256_cvtps_pd(_mm_loadu_ps(from.add(48).cast())),
            ]
        }
    }

    #[inline(always)]
    fn widen_f16(self, bytes: &[u8; 32]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX and F16C; four loads of 8 bytes read the 32 that `bytes` holds.
        unsafe {
            [
                _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(from.cast()))),
                _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(from.add(8).cast()))),
                _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(from.add(16).cast()))),
                _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64(from.add(24).cast()))),
            ]
        }
    }

    #[inline(always)]
    fn widen_bf16(self, bytes: &[u8; 32]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX2; four loads of 8 bytes read the 32 that `bytes` holds.
        unsafe {
            [
                bf16_to_f64x4(_mm_loadl_epi64(from.cast())),
                bf16_to_f64x4(_mm_loadl_epi64(from.add(8).cast())),
                bf16_to_f64x4(_mm_loadl_epi64(from.add(16).cast())),
                bf16_to_f64x4(_mm_loadl_epi64(from.add(24).cast())),
            ]
        }
    }

    #[inline(always)]
    fn widen_i8(self, bytes: &[u8; 16]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX2; four loads of 4 bytes read the 16 that `bytes` holds.
        unsafe {
            [
                i8_to_f64x4(_mm_loadu_si32(from)),
                i8_to_f64x4(_mm_loadu_si32(from.add(4))),
                i8_to_f64x4(_mm_loadu_si32(from.add(8))),
                i8_to_f64x4(_mm_loadu_si32(from.add(12))),
            ]
        }
    }

    #[inline(always)]
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves FMA.
        unsafe {
            [
                _mm256_fmadd_pd(left[0], right[0], sums[0]),
                _mm256_fmadd_pd(left[1], right[1], sums[1]),
                _mm256_fmadd_pd(left[2], right[2], sums[2]),
                _mm256_fmadd_pd(left[3], right[3], sums[3]),
            ]
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a prefetch reads nothing that the program sees, and no address makes it fail; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn store(self, values: Self::Values, to: &mut [f64; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: the token proves AVX; four stores of four f64 values write the sixteen that `to` holds.
        unsafe {
            _mm256_storeu_pd(to, values[0]);
            _mm256_storeu_pd(to.add(4), values[1]);
            _mm256_storeu_pd(to.add(8), values[2]);
            _mm256_storeu_pd(to.add(12), values[3]);
        }
    }
}

/// The four bf16 values in the low half of `narrow`: each is the upper half of an f32.
#[inline]
#[target_feature(enable = "avx2")]
fn bf16_to_f64x4(narrow: __m128i) -> __m256d {
    _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32::<16>(_mm_cvtepu16_epi32(narrow))))
}

/// The four signed codes in the low quarter of `narrow`.
#[inline]
#[target_feature(enable = "avx2")]
fn i8_to_f64x4(narrow: __m128i) -> __m256d {
    _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(narrow))
}

/// Proof that the processor has, beside AVX2, VNNI for its registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2Vnni(Avx2);

impl Avx2Vnni {
    /// The token, where the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl");
        Avx2::detect().filter(|_| has).map(Self)
    }

    /// The token without VNNI.
    pub(super) fn without(self) -> Avx2 {
        self.0
    }
}

/// Proof that the processor has AVX-512 F and BW and, beside them, AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The token, where the processor has the instructions (and the system saves the registers).
    pub(super) fn detect() -> Option<Self> {
        let has = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        has.then_some(Self(()))
    }

    /// See [`dots`](super::scalar::dots).
    pub(super) fn dots(self, element: ElementType, query: &WideQuery, rows: &[u8], out: &mut [f64]) {
        // SAFETY: the token proves that the processor has the features of `dots_avx512`.
        unsafe { dots_avx512(self, element, query, rows, out) }
    }

    /// See [`squared_norms`](super::scalar::squared_norms).
    pub(super) fn squared_norms(self, element: ElementType, width: usize, rows: &[u8], out: &mut [f64]) {
        // SAFETY: the token proves that the processor has the features of `squared_norms_avx512`.
        unsafe { squared_norms_avx512(self, element, width, rows, out) }
    }

    /// See [`scalar_times`](super::symmetric::scalar_times).
    pub(super) fn symmetric_times(
        self,
        matrix: &[u8],
        rows: Range<usize>,
        vector: &WideQuery,
        out: &mut [f64],
    ) {
        // SAFETY: the token proves that the processor has the features of `symmetric_times_avx512`.
        unsafe { symmetric_times_avx512(self, matrix, rows, vector, out) }
    }
}

#[target_feature(enable = "avx512f,avx2,fma,f16c")]
fn dots_avx512(lanes: Avx512, element: ElementType, query: &WideQuery, rows: &[u8], out: &mut [f64]) {
    tile::dots(lanes, element, query, rows, out);
}

#[target_feature(enable = "avx512f,avx2,fma,f16c")]
fn squared_norms_avx512(lanes: Avx512, element: ElementType, width: usize, rows: &[u8], out: &mut [f64]) {
    tile::squared_norms(lanes, element, width, rows, out);
}

#[target_feature(enable = "avx512f,avx2,fma,f16c")]
fn symmetric_times_avx512(
    lanes: Avx512,
    matrix: &[u8],
    rows: Range<usize>,
    vector: &WideQuery,
    out: &mut [f64],
) {
    symmetric::times(lanes, matrix, rows, vector, out);
}

/// Lanes 0-7 and 8-15.
impl Lanes for Avx512 {
    type Values = [__m512d; 2];

    #[inline(always)]
    fn zero(self) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { [_mm512_setzero_pd(); 2] }
    }

    #[inline(always)]
    fn splat(self, value: f64) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { [_mm512_set1_pd(value); 2] }
    }

    #[inline(always)]
    fn load(self, values: &[f64; LANES]) -> Self::Values {
        let from = values.as_ptr();
        // SAFETY: the token proves AVX-512 F; two loads of eight f64 values read the sixteen that `values` holds.
        unsafe { [_mm512_loadu_pd(from), _mm512_loadu_pd(from.add(8))] }
    }

    #[inline(always)]
    fn widen_f32(self, bytes: &[u8; 64]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX and AVX-512 F; two loads of 32 bytes read the 64 that `bytes` holds.
        unsafe {
            [
                _mm512_cvtps_pd(_mm256_loadu_ps(from.cast())),
                _mm512_cvtps_pd(_mm256_loadu_ps(from.add(32).cast())),
            ]
        }
    }

    #[inline(always)]
    fn widen_f16(self, bytes: &[u8; 32]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves F16C and AVX-512 F; two loads of 16 bytes read the 32 that `bytes` holds.
        unsafe {
            [
                _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128(from.cast()))),
                _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast()))),
            ]
        }
    }

    #[inline(always)]
    fn widen_bf16(self, bytes: &[u8; 32]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX2 and AVX-512 F; two loads of 16 bytes read the 32 that `bytes` holds.
        unsafe {
            [bf16_to_f64x8(_mm_loadu_si128(from.cast())), bf16_to_f64x8(_mm_loadu_si128(from.add(16).cast()))]
        }
    }

    #[inline(always)]
    fn widen_i8(self, bytes: &[u8; 16]) -> Self::Values {
        let from = bytes.as_ptr();
        // SAFETY: the token proves AVX2 and AVX-512 F; two loads of 8 bytes read the 16 that `bytes` holds.
        unsafe {
            [i8_to_f64x8(_mm_loadl_epi64(from.cast())), i8_to_f64x8(_mm_loadl_epi64(from.add(8).cast()))]
        }
    }

    #[inline(always)]
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { [_mm512_fmadd_pd(left[0], right[0], sums[0]), _mm512_fmadd_pd(left[1], right[1], sums[1])] }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a prefetch reads nothing that the program sees, and no address makes it fail; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn store(self, values: Self::Values, to: &mut [f64; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: the token proves AVX-512 F; two stores of eight f64 values write the sixteen that `to` holds.
        unsafe {
            _mm512_storeu_pd(to, values[0]);
            _mm512_storeu_pd(to.add(8), values[1]);
        }
    }
}

/// Eight bf16 values: each is the upper half of an f32.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn bf16_to_f64x8(narrow: __m128i) -> __m512d {
    _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(narrow))))
}

/// The eight signed codes in the low half of `narrow`.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn i8_to_f64x8(narrow: __m128i) -> __m512d {
    _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(narrow))
}
