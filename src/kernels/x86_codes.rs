//! Blocks of codes in registers of AVX2 and AVX-512, with VNNI where the processor has it.
//!
//! Every `unsafe` block rests on the same fact as those of `x86.rs`: the token proves the instruction sets named beside
//! it, and memory is read through references to arrays of the full width, unaligned.

#![allow(unsafe_code, reason = "intrinsics of instruction sets that are detected at run time")]

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m256i, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_prefetch,
    _mm_shuffle_epi32, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setzero_si256, _mm512_add_epi32,
    _mm512_cvtepi8_epi16, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_madd_epi16,
    _mm512_reduce_add_epi32, _mm512_setzero_si512,
};

use super::codes::{self, CODE_BLOCK, CodeLanes, CodeQueries};
use super::x86::{Avx2, Avx512};

impl Avx2 {
    /// See [`code_dots_of`](codes::code_dots_of).
    pub(super) fn code_dots(self, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) {
        #[target_feature(enable = "avx2")]
        fn compiled(lanes: Avx2, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) {
            codes::code_dots_of(lanes, queries, rows, out);
        }
        // SAFETY: the token proves AVX2.
        unsafe { compiled(self, queries, rows, out) }
    }

    /// See [`code_dots_at`](codes::code_dots_at).
    pub(super) fn code_dots_at(
        self,
        queries: &CodeQueries,
        rows: &[u8],
        named: &[u32],
        out: &mut [i32],
    ) -> Option<u32> {
        #[target_feature(enable = "avx2")]
        fn compiled(
            lanes: Avx2,
            queries: &CodeQueries,
            rows: &[u8],
            named: &[u32],
            out: &mut [i32],
        ) -> Option<u32> {
            codes::code_dots_at(lanes, queries, rows, named, out)
        }
        // SAFETY: the token proves AVX2.
        unsafe { compiled(self, queries, rows, named, out) }
    }
}

impl Avx512 {
    /// See [`code_dots_of`](codes::code_dots_of).
    pub(super) fn code_dots(self, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) {
        #[target_feature(enable = "avx512f,avx512bw,avx2")]
        fn compiled(lanes: Avx512, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) {
            codes::code_dots_of(lanes, queries, rows, out);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
        fn compiled_vnni(lanes: Vnni, queries: &CodeQueries, rows: &[u8], out: &mut [i32]) {
            codes::code_dots_of(lanes, queries, rows, out);
        }
        match Vnni::detect(self) {
            // SAFETY: the token proves AVX-512 F, BW and VNNI.
            Some(lanes) => unsafe { compiled_vnni(lanes, queries, rows, out) },
            // SAFETY: the token proves AVX-512 F and BW.
            None => unsafe { compiled(self, queries, rows, out) },
        }
    }

    /// See [`code_dots_at`](codes::code_dots_at).
    pub(super) fn code_dots_at(
        self,
        queries: &CodeQueries,
        rows: &[u8],
        named: &[u32],
        out: &mut [i32],
    ) -> Option<u32> {
        #[target_feature(enable = "avx512f,avx512bw,avx2")]
        fn compiled(
            lanes: Avx512,
            queries: &CodeQueries,
            rows: &[u8],
            named: &[u32],
            out: &mut [i32],
        ) -> Option<u32> {
            codes::code_dots_at(lanes, queries, rows, named, out)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
        fn compiled_vnni(
            lanes: Vnni,
            queries: &CodeQueries,
            rows: &[u8],
            named: &[u32],
            out: &mut [i32],
        ) -> Option<u32> {
            codes::code_dots_at(lanes, queries, rows, named, out)
        }
        match Vnni::detect(self) {
            // SAFETY: the token proves AVX-512 F, BW and VNNI.
            Some(lanes) => unsafe { compiled_vnni(lanes, queries, rows, named, out) },
            // SAFETY: the token proves AVX-512 F and BW.
            None => unsafe { compiled(self, queries, rows, named, out) },
        }
    }
}

/// Asks for each cache line of values that will be read soon.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T]) {
    let first = values.as_ptr().cast::<i8>();
    for offset in (0..size_of_val(values)).step_by(64) {
        // SAFETY: every x86-64 processor has the instruction, and it may be given any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(offset)) }
    }
}

/// Codes 0-15 and 16-31; eight sums.
impl CodeLanes for Avx2 {
    type Codes = [__m256i; 2];
    type Sums = __m256i;

    #[inline(always)]
    fn zero(self) -> __m256i {
        // SAFETY: the token proves AVX.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn widen(self, block: &[u8; CODE_BLOCK]) -> [__m256i; 2] {
        let from = block.as_ptr();
        // SAFETY: the token proves AVX2; two loads of 16 bytes read the 32 that `block` holds.
        unsafe {
            [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(16).cast())),
            ]
        }
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m256i, codes: [__m256i; 2], steps: &[i16; CODE_BLOCK]) -> __m256i {
        let from = steps.as_ptr();
        // SAFETY: the token proves AVX2; two loads of sixteen i16 values read the 32 that `steps` holds.
        unsafe {
            let low = _mm256_madd_epi16(codes[0], _mm256_loadu_si256(from.cast()));
            let high = _mm256_madd_epi16(codes[1], _mm256_loadu_si256(from.add(16).cast()));
            _mm256_add_epi32(sums, _mm256_add_epi32(low, high))
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

    #[inline(always)]
    fn prefetch(self, row: &[[u8; CODE_BLOCK]]) {
        prefetch(row);
    }
}

/// All 32 codes; sixteen sums.
impl CodeLanes for Avx512 {
    type Codes = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn widen(self, block: &[u8; CODE_BLOCK]) -> __m512i {
        // SAFETY: the token proves AVX-512 BW; the load reads the 32 bytes that `block` holds.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(block.as_ptr().cast())) }
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m512i, codes: __m512i, steps: &[i16; CODE_BLOCK]) -> __m512i {
        // SAFETY: the token proves AVX-512 F and BW; the load reads the 64 bytes that `steps` holds.
        unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(codes, _mm512_loadu_si512(steps.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn total(self, sums: __m512i) -> i32 {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_reduce_add_epi32(sums) }
    }

    #[inline(always)]
    fn prefetch(self, row: &[[u8; CODE_BLOCK]]) {
        prefetch(row);
    }
}

/// Proof that the processor has, beside AVX-512 F and BW, VNNI.
#[derive(Clone, Copy, Debug)]
struct Vnni(Avx512);

impl Vnni {
    fn detect(lanes: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512vnni").then_some(Self(lanes))
    }
}

/// As without VNNI, multiplied and added in one step.
impl CodeLanes for Vnni {
    type Codes = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    fn zero(self) -> __m512i {
        CodeLanes::zero(self.0)
    }

    #[inline(always)]
    fn widen(self, block: &[u8; CODE_BLOCK]) -> __m512i {
        CodeLanes::widen(self.0, block)
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m512i, codes: __m512i, steps: &[i16; CODE_BLOCK]) -> __m512i {
        // SAFETY: the token proves AVX-512 F and VNNI; the load reads the 64 bytes that `steps` holds.
        unsafe { _mm512_dpwssd_epi32(sums, codes, _mm512_loadu_si512(steps.as_ptr().cast())) }
    }

    #[inline(always)]
    fn total(self, sums: __m512i) -> i32 {
        self.0.total(sums)
    }

    #[inline(always)]
    fn prefetch(self, row: &[[u8; CODE_BLOCK]]) {
        prefetch(row);
    }
}
