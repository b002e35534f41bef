//! Sixteen f32 lanes of AVX2 and AVX-512, for products and the functions between them.
//!
//! Every `unsafe` block rests on the same fact as those of `x86.rs`: the token proves the instruction sets named beside
//! it, and memory is read and written through references to arrays of the full width, unaligned.

#![allow(unsafe_code, reason = "intrinsics of instruction sets that are detected at run time")]

use std::arch::x86_64::{
    __m256, __m512, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_div_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::bilinear::{self, BilinearPart};
use super::dense::{self, DenseLanes, POWER_OF_TWO_OFFSET, Tile};
use super::form_tile::FormTile;
use super::panels::{PanelRow, Panels, StridedOutput, StridedRows};
use super::x86::{Avx2, Avx512};

/// The functions of `dense.rs`, compiled for the instruction sets that a token proves. Last come the heights of tiles,
/// from 1 to the largest.
macro_rules! compiled_for {
    ($token:ident, $features:literal, $($rows:literal)+) => {
        impl $token {
            /// See [`tile`](dense::tile). Calls go through a table because functions that are named in the call are
            /// inlined again, `inline(never)` or not.
            #[inline(always)]
            fn compiled_tile(self, rows: usize, tile: Tile<'_>) {
                #[target_feature(enable = $features)]
                fn compiled<const R: usize>(lanes: $token, tile: Tile<'_>) {
                    dense::tile::<$token, R>(lanes, tile);
                }
                const TILES: &[unsafe fn($token, Tile<'_>)] = &[$(compiled::<$rows>),+];
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { TILES[rows - 1](self, tile) }
            }

            /// See [`form_tile`](bilinear::form_tile), and [`compiled_tile`](Self::compiled_tile).
            #[inline(always)]
            fn compiled_form_tile(self, rows: usize, tile: FormTile<'_>) {
                #[target_feature(enable = $features)]
                fn compiled<const R: usize>(lanes: $token, tile: FormTile<'_>) {
                    bilinear::form_tile::<$token, R>(lanes, tile);
                }
                const TILES: &[unsafe fn($token, FormTile<'_>)] = &[$(compiled::<$rows>),+];
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { TILES[rows - 1](self, tile) }
            }

            /// See [`add_forms`](bilinear::add_forms).
            pub(super) fn add_forms(
                self,
                rows: StridedRows<'_>,
                parts: &[BilinearPart<'_>],
                out: &mut [f64],
            ) {
                #[target_feature(enable = $features)]
                fn compiled(
                    lanes: $token,
                    rows: StridedRows<'_>,
                    parts: &[BilinearPart<'_>],
                    out: &mut [f64],
                ) {
                    bilinear::add_forms(lanes, rows, parts, out);
                }
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { compiled(self, rows, parts, out) }
            }

            /// See [`product`](dense::product).
            pub(super) fn product(
                self,
                rows: StridedRows<'_>,
                panels: &Panels,
                bias: Option<&[f32]>,
                out: &mut StridedOutput<'_>,
            ) {
                #[target_feature(enable = $features)]
                fn compiled(
                    lanes: $token,
                    rows: StridedRows<'_>,
                    panels: &Panels,
                    bias: Option<&[f32]>,
                    out: &mut StridedOutput<'_>,
                ) {
                    dense::product(lanes, rows, panels, bias, out);
                }
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { compiled(self, rows, panels, bias, out) }
            }

            /// See [`gelu`](dense::gelu).
            pub(super) fn gelu(self, values: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn compiled(lanes: $token, values: &mut [f32]) {
                    dense::gelu(lanes, values);
                }
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { compiled(self, values) }
            }

            /// See [`gelu_tanh`](dense::gelu_tanh).
            pub(super) fn gelu_tanh(self, values: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn compiled(lanes: $token, values: &mut [f32]) {
                    dense::gelu_tanh(lanes, values);
                }
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { compiled(self, values) }
            }

            /// See [`softmax`](dense::softmax).
            pub(super) fn softmax(self, row: &mut [f32], scale: f32) {
                #[target_feature(enable = $features)]
                fn compiled(lanes: $token, row: &mut [f32], scale: f32) {
                    dense::softmax(lanes, row, scale);
                }
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { compiled(self, row, scale) }
            }

            /// See [`layer_norm`](dense::layer_norm).
            pub(super) fn layer_norm(
                self,
                values: &mut [f32],
                residual: &[f32],
                gain: &[f32],
                shift: &[f32],
                epsilon: f32,
            ) {
                #[target_feature(enable = $features)]
                fn compiled(
                    lanes: $token,
                    values: &mut [f32],
                    residual: &[f32],
                    gain: &[f32],
                    shift: &[f32],
                    epsilon: f32,
                ) {
                    dense::layer_norm(lanes, values, residual, gain, shift, epsilon);
                }
                // SAFETY: the token proves that the processor has the features of `compiled`.
                unsafe { compiled(self, values, residual, gain, shift, epsilon) }
            }
        }
    };
}

compiled_for!(Avx2, "avx2,fma,f16c", 1 2 3 4 5 6);
compiled_for!(Avx512, "avx512f,avx2,fma,f16c", 1 2 3 4 5 6 7 8 9 10 11 12);

/// Lanes 0-7 and 8-15. Sixteen registers hold six rows of sums, a row of the panel and a factor.
impl DenseLanes for Avx2 {
    type Values = [__m256; 2];

    const ROWS: usize = 6;

    #[inline(always)]
    fn tile(self, rows: usize, tile: Tile<'_>) {
        self.compiled_tile(rows, tile);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, values: &PanelRow) -> Self::Values {
        let from = values.as_ptr();
        // SAFETY: the token proves AVX; two loads of eight f32 values read the sixteen that `values` holds.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    fn store(self, values: Self::Values, to: &mut PanelRow) {
        let to = to.as_mut_ptr();
        // SAFETY: the token proves AVX; two stores of eight f32 values write the sixteen that `to` holds.
        unsafe {
            _mm256_storeu_ps(to, values[0]);
            _mm256_storeu_ps(to.add(8), values[1]);
        }
    }

    #[inline(always)]
    fn add(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_add_ps(left[0], right[0]), _mm256_add_ps(left[1], right[1])] }
    }

    #[inline(always)]
    fn subtract(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_sub_ps(left[0], right[0]), _mm256_sub_ps(left[1], right[1])] }
    }

    #[inline(always)]
    fn multiply(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_mul_ps(left[0], right[0]), _mm256_mul_ps(left[1], right[1])] }
    }

    #[inline(always)]
    fn divide(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_div_ps(left[0], right[0]), _mm256_div_ps(left[1], right[1])] }
    }

    #[inline(always)]
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves FMA.
        unsafe { [_mm256_fmadd_ps(left[0], right[0], sums[0]), _mm256_fmadd_ps(left[1], right[1], sums[1])] }
    }

    #[inline(always)]
    fn minimum(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_min_ps(left[0], right[0]), _mm256_min_ps(left[1], right[1])] }
    }

    #[inline(always)]
    fn maximum(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX.
        unsafe { [_mm256_max_ps(left[0], right[0]), _mm256_max_ps(left[1], right[1])] }
    }

    #[inline(always)]
    fn power_of_two(self, values: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX2.
        unsafe { [power_of_two_avx2(values[0]), power_of_two_avx2(values[1])] }
    }

    #[inline(always)]
    fn form_tile(self, rows: usize, tile: FormTile<'_>) {
        self.compiled_form_tile(rows, tile);
    }

    #[inline(always)]
    fn prefetch<T>(self, line: &T) {
        // SAFETY: the token proves SSE, and a prefetch reads nothing that the program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()) }
    }
}

/// The integer in the lowest bits, moved to the exponent.
#[inline]
#[target_feature(enable = "avx2")]
fn power_of_two_avx2(values: __m256) -> __m256 {
    let bits = _mm256_add_epi32(_mm256_castps_si256(values), _mm256_set1_epi32(POWER_OF_TWO_OFFSET));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
}

/// One register. Thirty-two hold twelve rows of sums and what they need.
impl DenseLanes for Avx512 {
    type Values = __m512;

    const ROWS: usize = 12;

    #[inline(always)]
    fn tile(self, rows: usize, tile: Tile<'_>) {
        self.compiled_tile(rows, tile);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, values: &PanelRow) -> Self::Values {
        // SAFETY: the token proves AVX-512 F; the load reads the sixteen f32 values that `values` holds.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: Self::Values, to: &mut PanelRow) {
        // SAFETY: the token proves AVX-512 F; the store writes the sixteen f32 values that `to` holds.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
    }

    #[inline(always)]
    fn add(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_add_ps(left, right) }
    }

    #[inline(always)]
    fn subtract(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_sub_ps(left, right) }
    }

    #[inline(always)]
    fn multiply(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_mul_ps(left, right) }
    }

    #[inline(always)]
    fn divide(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_div_ps(left, right) }
    }

    #[inline(always)]
    fn multiply_add(self, sums: Self::Values, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_fmadd_ps(left, right, sums) }
    }

    #[inline(always)]
    fn minimum(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_min_ps(left, right) }
    }

    #[inline(always)]
    fn maximum(self, left: Self::Values, right: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe { _mm512_max_ps(left, right) }
    }

    #[inline(always)]
    fn power_of_two(self, values: Self::Values) -> Self::Values {
        // SAFETY: the token proves AVX-512 F.
        unsafe {
            let bits = _mm512_add_epi32(_mm512_castps_si512(values), _mm512_set1_epi32(POWER_OF_TWO_OFFSET));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits))
        }
    }

    #[inline(always)]
    fn form_tile(self, rows: usize, tile: FormTile<'_>) {
        self.compiled_form_tile(rows, tile);
    }

    #[inline(always)]
    fn prefetch<T>(self, line: &T) {
        // SAFETY: the token proves SSE, and a prefetch reads nothing that the program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()) }
    }
}
