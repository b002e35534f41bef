//! Floor 1: dot products over stored values, and values to bytes and back.
//!
//! Every sum over stored values is taken in f64. The product of two f32 values (24 bits each) fits the 53 bits of an f64, so it is exact,
//! and a fused multiply-add rounds where a multiplication followed by an addition rounds. With one fixed layout of
//! partial sums, written down in `scalar.rs`, every back-end therefore gives the same bits on every machine.
//!
//! The algorithm for vector registers is written once in `tile.rs` over a small trait of sixteen lanes; `x86.rs` gives
//! the lanes of each instruction set behind a token that only detection hands out, and holds, with the other files of that
//! name, the room's only `unsafe`. Sums over codes are whole numbers, the same in any order.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `backend.rs` | the handle that callers use: detection once, length checks, the back-ends by name |
//! | `bilinear.rs` | what vectors in rows give with matrices between them |
//! | `coarse.rs` | sums of 4-bit codes times the steps of queries, in integers |
//! | `coarse_properties.rs` | tests: the same suite for sums over them |
//! | `codes.rs` | sums of 8-bit codes times the steps of queries, in integers |
//! | `codes_properties.rs` | tests: the same suite for sums over codes |
//! | `convert.rs` | values to bytes and back, int8 codes with a scale, the search for values that are not finite |
//! | `dense.rs` | products of f32 matrices and the functions between them, over sixteen lanes |
//! | `dense_properties.rs` | tests: the same suite for products and functions |
//! | `error.rs` | what a caller can get wrong |
//! | `form_tile.rs` | rows and panels as the inner loop of these takes them |
//! | `matrices.rs` | the handle's products of matrices and the functions between them |
//! | `pairs.rs` | sums of 8-bit codes of a row times those of others, in integers |
//! | `panels.rs` | matrices laid out for products |
//! | `properties.rs` | tests: one suite, stamped on every back-end |
//! | `scalar.rs` | the specification: order of sums; the back-end of machines without vector registers |
//! | `scalar_dense.rs` | lanes of f32 without vector registers |
//! | `signs.rs` | signs of values, a bit each, and sums of a query's values with them |
//! | `symmetric.rs` | products of symmetric matrices, of which half is read |
//! | `tile.rs` | the algorithm over sixteen lanes, for every instruction set |
//! | `wide.rs` | a query, widened to f64 once |
//! | `x86.rs` | lanes of AVX2 and AVX-512 |
//! | `x86_coarse.rs` | blocks of coarse codes |
//! | `x86_codes.rs` | their blocks of codes |
//! | `x86_dense.rs` | their f32 lanes |
//! | `x86_pairs.rs` | pairs of blocks of codes |

mod backend;
mod bilinear;
mod coarse;
#[cfg(test)]
mod coarse_properties;
mod codes;
#[cfg(test)]
mod codes_properties;
mod convert;
mod dense;
#[cfg(test)]
mod dense_properties;
mod error;
mod form_tile;
mod matrices;
mod pairs;
mod panels;
#[cfg(test)]
mod properties;
mod scalar;
mod scalar_dense;
mod signs;
mod symmetric;
#[cfg(target_arch = "x86_64")]
mod tile;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_coarse;
#[cfg(target_arch = "x86_64")]
mod x86_codes;
#[cfg(target_arch = "x86_64")]
mod x86_dense;
#[cfg(target_arch = "x86_64")]
mod x86_pairs;

pub use backend::{Kernels, stored_values};
pub use bilinear::BilinearPart;
pub use coarse::{
    COARSE_BLOCK_BYTES, COARSE_BLOCK_VALUES, COARSE_CODE_MAX, COARSE_OFFSET, CoarseNumbers, CoarseQueries,
    CoarseScore, CoarseTerms, ScaledCoarse, coarse_row_bytes, pack_coarse,
};
pub use codes::{CODE_BLOCK, CODE_QUERIES_MAX, CodeQueries, CodeQuery, code_row_bytes};
pub use convert::{ConvertError, decode, encode, encode_int8, first_non_finite};
pub use error::KernelError;
pub use panels::{Panels, StridedOutput, StridedRows};
pub use signs::{SignQuery, encode_signs, sign_row_bytes};
pub use wide::WideQuery;
