//! Pairs of blocks of codes in registers of AVX2, with VNNI where the processor has it for those.
//!
//! Every `unsafe` block rests on the same fact as those of `x86.rs`: the token proves AVX2 (and VNNI), and memory is read
//! through references to arrays of the full width, unaligned.

#![allow(unsafe_code, reason = "intrinsics of instruction sets that are detected at run time")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_dpbusd_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi8,
    _mm256_xor_si256,
};

use super::codes::{CODE_BLOCK, CodeLanes};
use super::pairs::{self, PairLanes};
use super::x86::{Avx2, Avx2Vnni};

impl Avx2 {
    /// See [`row_dots_at`](pairs::row_dots_at).
    pub(super) fn row_dots_at(self, own: &[u8], rows: &[u8], named: &[u32], out: &mut [i32]) -> Option<u32> {
        #[target_feature(enable = "avx2")]
        fn compiled(lanes: Avx2, own: &[u8], rows: &[u8], named: &[u32], out: &mut [i32]) -> Option<u32> {
            pairs::row_dots_at(lanes, own, rows, named, out)
        }
        // SAFETY: the token proves AVX2.
        unsafe { compiled(self, own, rows, named, out) }
    }
}

/// Eight sums, of codes widened to 16 bits.
impl PairLanes for Avx2 {
    type Sums = __m256i;

    #[inline(always)]
    fn zero(self) -> __m256i {
        CodeLanes::zero(self)
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m256i, own: &[u8; CODE_BLOCK], other: &[u8; CODE_BLOCK]) -> __m256i {
        let (own, other) = (self.widen(own), self.widen(other));
        // SAFETY: the token proves AVX2.
        unsafe {
            let (low, high) = (_mm256_madd_epi16(own[0], other[0]), _mm256_madd_epi16(own[1], other[1]));
            _mm256_add_epi32(sums, _mm256_add_epi32(low, high))
        }
    }

    #[inline(always)]
    fn total(self, sums: __m256i) -> i32 {
        CodeLanes::total(self, sums)
    }

    #[inline(always)]
    fn excess(self, _own: &[[u8; CODE_BLOCK]]) -> i32 {
        0
    }

    #[inline(always)]
    fn prefetch(self, row: &[[u8; CODE_BLOCK]]) {
        CodeLanes::prefetch(self, row);
    }
}

impl Avx2Vnni {
    /// See [`row_dots_at`](pairs::row_dots_at).
    pub(super) fn row_dots_at(self, own: &[u8], rows: &[u8], named: &[u32], out: &mut [i32]) -> Option<u32> {
        #[target_feature(enable = "avx2,avx512vnni,avx512vl")]
        fn compiled(lanes: Avx2Vnni, own: &[u8], rows: &[u8], named: &[u32], out: &mut [i32]) -> Option<u32> {
            pairs::row_dots_at(lanes, own, rows, named, out)
        }
        // SAFETY: the token proves AVX2, VNNI and AVX-512 VL.
        unsafe { compiled(self, own, rows, named, out) }
    }
}

/// Eight sums of 128 more than each code of the other row, as VNNI takes one of its factors without a sign.
impl PairLanes for Avx2Vnni {
    type Sums = __m256i;

    #[inline(always)]
    fn zero(self) -> __m256i {
        PairLanes::zero(self.without())
    }

    #[inline(always)]
    fn multiply_add(self, sums: __m256i, own: &[u8; CODE_BLOCK], other: &[u8; CODE_BLOCK]) -> __m256i {
        // SAFETY: the token proves AVX2, VNNI and AVX-512 VL; each load reads the 32 bytes that an array holds.
        unsafe {
            let other = _mm256_loadu_si256(other.as_ptr().cast());
            let lifted = _mm256_xor_si256(other, _mm256_set1_epi8(i8::MIN));
            _mm256_dpbusd_epi32(sums, lifted, _mm256_loadu_si256(own.as_ptr().cast()))
        }
    }

    #[inline(always)]
    fn total(self, sums: __m256i) -> i32 {
        PairLanes::total(self.without(), sums)
    }

    #[inline(always)]
    fn excess(self, own: &[[u8; CODE_BLOCK]]) -> i32 {
        // 0 is lifted to 128.
        let sums = own.iter().fold(self.zero(), |sums, own| self.multiply_add(sums, own, &[0; CODE_BLOCK]));
        PairLanes::total(self, sums)
    }

    #[inline(always)]
    fn prefetch(self, row: &[[u8; CODE_BLOCK]]) {
        PairLanes::prefetch(self.without(), row);
    }
}
