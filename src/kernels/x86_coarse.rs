//! Blocks of coarse codes in registers of AVX2, with VNNI where the processor has it for those.
//!
//! Every `unsafe` block rests on the same fact as those of `x86.rs`: the token proves AVX2 (and VNNI), and memory is read
//! through references to arrays of the full width, unaligned. Wider registers would hold two blocks, whose steps then had to
//! lie in another order; memory is read no faster by them.

#![allow(unsafe_code, reason = "intrinsics of instruction sets that are detected at run time")]

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_castsi256_si128, _mm256_dpbusd_epi32, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_srli_epi16,
};

use super::coarse::{
    self, COARSE_BLOCK_BYTES, COARSE_BLOCK_VALUES, CoarseLanes, CoarseNumbers, CoarseQueries, CoarseScore,
    CoarseTerms, ScaledCoarse,
};
use super::x86::{Avx2, Avx2Vnni};

impl Avx2 {
    /// See [`coarse_dots_of`](coarse::coarse_dots_of).
    pub(super) fn coarse_dots(self, queries: &CoarseQueries, rows: &[u8], out: &mut [i32]) {
        #[target_feature(enable = "avx2")]
        fn compiled(lanes: Avx2, queries: &CoarseQueries, rows: &[u8], out: &mut [i32]) {
            coarse::coarse_dots_of(lanes, queries, rows, out);
        }
        // SAFETY: the token proves AVX2.
        unsafe { compiled(self, queries, rows, out) }
    }

    /// See [`coarse_scores_at`](coarse::coarse_scores_at).
    pub(super) fn coarse_scores_at(
        self,
        queries: &CoarseQueries,
        score: CoarseScore,
        rows: ScaledCoarse<'_>,
        named: &[u32],
        out: &mut [f32],
    ) -> Option<u32> {
        #[target_feature(enable = "avx2")]
        fn compiled(
            lanes: Avx2,
            queries: &CoarseQueries,
            score: CoarseScore,
            rows: ScaledCoarse<'_>,
            named: &[u32],
            out: &mut [f32],
        ) -> Option<u32> {
            coarse::coarse_scores_at(lanes, queries, score, rows, named, out)
        }
        // SAFETY: the token proves AVX2.
        unsafe { compiled(self, queries, score, rows, named, out) }
    }

    /// See [`coarse_scores`](coarse::coarse_scores).
    pub(super) fn coarse_scores(
        self,
        terms: &CoarseTerms,
        sums: &[i32],
        numbers: CoarseNumbers<'_>,
        scores: &mut [f64],
        margins: &mut [f64],
    ) {
        #[target_feature(enable = "avx2")]
        fn compiled(
            terms: &CoarseTerms,
            sums: &[i32],
            numbers: CoarseNumbers<'_>,
            scores: &mut [f64],
            margins: &mut [f64],
        ) {
            coarse::coarse_scores(terms, sums, numbers, scores, margins);
        }
        // SAFETY: the token proves AVX2.
        unsafe { compiled(terms, sums, numbers, scores, margins) }
    }
}

/// Eight sums.
impl CoarseLanes for Avx2 {
    type Codes = [__m256i; 2];
    type Sums = __m256i;

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn halve(self, block: &[u8; COARSE_BLOCK_BYTES]) -> [__m256i; 2] {
        // SAFETY: the token proves AVX2; the load reads the 32 bytes that `block` holds.
        unsafe {
            let bytes = _mm256_loadu_si256(block.as_ptr().cast());
            let low = _mm256_set1_epi8(0x0F);
            [_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low)]
        }
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m256i, codes: [__m256i; 2], steps: &[i8; COARSE_BLOCK_VALUES]) -> __m256i {
        let from = steps.as_ptr();
        // SAFETY: the token proves AVX2; two loads of 32 bytes read the 64 that `steps` holds. A sum of four products of at
        // most 15 and 127 fits 16 bits.
        unsafe {
            let low = _mm256_maddubs_epi16(codes[0], _mm256_loadu_si256(from.cast()));
            let high = _mm256_maddubs_epi16(codes[1], _mm256_loadu_si256(from.add(32).cast()));
            let pairs = _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1));
            _mm256_add_epi32(sums, pairs)
        }
    }

    #[inline(always)]
    fn total(self, sums: __m256i) -> i32 {
        // SAFETY: the token proves AVX2.
        unsafe {
            let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
    }
}

impl Avx2Vnni {
    /// See [`coarse_dots_of`](coarse::coarse_dots_of).
    pub(super) fn coarse_dots(self, queries: &CoarseQueries, rows: &[u8], out: &mut [i32]) {
        #[target_feature(enable = "avx2,avx512vnni,avx512vl")]
        fn compiled(lanes: Avx2Vnni, queries: &CoarseQueries, rows: &[u8], out: &mut [i32]) {
            coarse::coarse_dots_of(lanes, queries, rows, out);
        }
        // SAFETY: the token proves AVX2, VNNI and AVX-512 VL.
        unsafe { compiled(self, queries, rows, out) }
    }

    /// See [`coarse_scores_at`](coarse::coarse_scores_at).
    pub(super) fn coarse_scores_at(
        self,
        queries: &CoarseQueries,
        score: CoarseScore,
        rows: ScaledCoarse<'_>,
        named: &[u32],
        out: &mut [f32],
    ) -> Option<u32> {
        #[target_feature(enable = "avx2,avx512vnni,avx512vl")]
        fn compiled(
            lanes: Avx2Vnni,
            queries: &CoarseQueries,
            score: CoarseScore,
            rows: ScaledCoarse<'_>,
            named: &[u32],
            out: &mut [f32],
        ) -> Option<u32> {
            coarse::coarse_scores_at(lanes, queries, score, rows, named, out)
        }
        // SAFETY: the token proves AVX2, VNNI and AVX-512 VL.
        unsafe { compiled(self, queries, score, rows, named, out) }
    }
}

/// As without VNNI, four products added in one step.
impl CoarseLanes for Avx2Vnni {
    type Codes = [__m256i; 2];
    type Sums = __m256i;

    #[inline(always)]
    fn zero(self) -> __m256i {
        CoarseLanes::zero(self.without())
    }

    #[inline(always)]
    fn halve(self, block: &[u8; COARSE_BLOCK_BYTES]) -> [__m256i; 2] {
        CoarseLanes::halve(self.without(), block)
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m256i, codes: [__m256i; 2], steps: &[i8; COARSE_BLOCK_VALUES]) -> __m256i {
        let from = steps.as_ptr();
        // SAFETY: the token proves AVX2, VNNI and AVX-512 VL; two loads of 32 bytes read the 64 that `steps` holds.
        unsafe {
            let low = _mm256_dpbusd_epi32(sums, codes[0], _mm256_loadu_si256(from.cast()));
            _mm256_dpbusd_epi32(low, codes[1], _mm256_loadu_si256(from.add(32).cast()))
        }
    }

    #[inline(always)]
    fn total(self, sums: __m256i) -> i32 {
        CoarseLanes::total(self.without(), sums)
    }
}
