//! Codes of coordinates: how they stand in a row, how they are made and compared.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::kernels::{
    CodeQueries, KernelError, Kernels, SignQuery, code_row_bytes, encode_int8, encode_signs, sign_row_bytes,
};

/// Rows of codes that a thread goes over at a time.
const CHUNK_ROWS: usize = 4096;

/// What is kept of a coordinate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum CodeBits {
    /// Its sign.
    One,
    /// A whole number of steps, -127 to 127.
    #[default]
    Eight,
}

impl TryFrom<u8> for CodeBits {
    type Error = String;

    fn try_from(bits: u8) -> Result<Self, String> {
        [Self::One, Self::Eight]
            .into_iter()
            .find(|known| u8::from(*known) == bits)
            .ok_or_else(|| format!("codes of {bits} bits are not known: 1 and 8 are"))
    }
}

impl From<CodeBits> for u8 {
    fn from(bits: CodeBits) -> Self {
        match bits {
            CodeBits::One => 1,
            CodeBits::Eight => 8,
        }
    }
}

/// How a row's codes stand: blocks of coordinates, each with a scale of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeLayout {
    bits: CodeBits,
    /// Coordinates of each block.
    blocks: Vec<usize>,
}

/// A gradient whose coordinates rows are compared with.
pub(super) enum CodeQuestion {
    Eight(CodeQueries),
    /// Block by block.
    One(Vec<SignQuery>),
}

impl CodeLayout {
    /// Coordinates that share one scale.
    pub(super) fn joint(bits: CodeBits, coordinates: usize) -> Self {
        Self { bits, blocks: vec![coordinates] }
    }

    /// Signs of the coordinates of each module, of which there are so many.
    pub(super) fn signs_of_modules(modules: impl IntoIterator<Item = usize>) -> Self {
        Self { bits: CodeBits::One, blocks: modules.into_iter().collect() }
    }

    /// What is kept of each.
    pub(super) fn bits(&self) -> CodeBits {
        self.bits
    }

    /// Coordinates of a row.
    pub(super) fn coordinates(&self) -> usize {
        self.blocks.iter().sum()
    }

    /// Scales of a row.
    pub(super) fn scales_a_row(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        let of_block = |coordinates: &usize| match self.bits {
            CodeBits::One => sign_row_bytes(*coordinates),
            CodeBits::Eight => code_row_bytes(*coordinates),
        };
        self.blocks.iter().map(of_block).sum()
    }

    /// Codes and scales of rows of coordinates, each row times its factor; otherwise the row that no f32 holds.
    pub(super) fn encode(
        &self,
        mut coordinates: Vec<f32>,
        factors: &[f64],
    ) -> Result<(Vec<u8>, Vec<f32>), usize> {
        let (mut codes, mut scales) = (Vec::new(), Vec::with_capacity(factors.len() * self.scales_a_row()));
        let width = self.coordinates().max(1);
        for (row, (own, factor)) in coordinates.chunks_exact_mut(width).zip(factors).enumerate() {
            own.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
            let mut rest = &*own;
            for block in &self.blocks {
                let (values, after) = rest.split_at(*block);
                rest = after;
                scales.push(match self.bits {
                    CodeBits::One => encode_signs(values, &mut codes).map_err(|_| row)?,
                    CodeBits::Eight => encode_int8(values, &mut codes).map_err(|_| row)?,
                });
            }
            codes.resize((row + 1) * self.row_bytes(), 0);
        }
        Ok((codes, scales))
    }

    /// The gradient with these coordinates.
    pub(super) fn question(&self, coordinates: &[f32]) -> Result<CodeQuestion, KernelError> {
        if self.bits == CodeBits::Eight {
            return CodeQueries::new(&[coordinates]).map(CodeQuestion::Eight);
        }
        let mut rest = coordinates;
        let blocks = self.blocks.iter().map(|block| {
            let (own, after) = rest.split_at_checked(*block).unwrap_or((rest, &[]));
            rest = after;
            SignQuery::new(own)
        });
        Ok(CodeQuestion::One(blocks.collect()))
    }

    /// What the codes of so many rows say their inner products with a question are; `scale` tells the scale of a row and block.
    ///
    /// # Complexity
    /// Reads all codes once, in parallel.
    pub(super) fn products(
        &self,
        question: &CodeQuestion,
        codes: &[u8],
        rows: usize,
        scale: impl Fn(usize) -> f64 + Sync,
    ) -> Result<Vec<f64>, KernelError> {
        let mut products = vec![0.0; rows];
        let chunks = codes.par_chunks(CHUNK_ROWS * self.row_bytes().max(1));
        let done = chunks.zip(products.par_chunks_mut(CHUNK_ROWS)).enumerate();
        done.try_for_each(|(chunk, (codes, products))| {
            let first = chunk * CHUNK_ROWS;
            match question {
                CodeQuestion::Eight(queries) => {
                    let mut sums = vec![0; products.len()];
                    Kernels::best().code_dots(queries, codes, &mut sums)?;
                    let own = queries.queries().first().map_or(0.0, |query| query.scale);
                    for (row, (product, sum)) in products.iter_mut().zip(sums).enumerate() {
                        *product = own * f64::from(sum) * scale(first + row);
                    }
                }
                CodeQuestion::One(blocks) => {
                    let rows = products.iter_mut().zip(codes.chunks(self.row_bytes().max(1)));
                    for (row, (product, mut signs)) in rows.enumerate() {
                        for (number, (query, width)) in blocks.iter().zip(&self.blocks).enumerate() {
                            let (own, after) =
                                signs.split_at_checked(sign_row_bytes(*width)).unwrap_or((signs, &[]));
                            signs = after;
                            let scale = scale((first + row) * blocks.len() + number);
                            *product += query.scale() * query.sum(own) as f64 * scale;
                        }
                    }
                }
            }
            Ok(())
        })?;
        Ok(products)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_scales_of_their_own() {
        let layout = CodeLayout::signs_of_modules([3, 9]);
        assert_eq!((layout.coordinates(), layout.row_bytes(), layout.scales_a_row()), (12, 3, 2));
        let row: Vec<f32> = [2.0, -2.0, 2.0].into_iter().chain([0.5; 9]).collect();
        let (codes, scales) = layout.encode([row.clone(), row.clone()].concat(), &[1.0, 3.0]).unwrap();
        assert_eq!(scales, [2.0, 0.5, 6.0, 1.5]);
        let question = layout.question(&row).unwrap();
        let products = layout.products(&question, &codes, 2, |scale| f64::from(scales[scale])).unwrap();
        let exact: f64 = row.iter().map(|value| f64::from(value * value)).sum();
        assert!((products[0] - exact).abs() < 1e-9 && (products[1] - 3.0 * exact).abs() < 1e-9);
    }

    #[test]
    fn a_row_that_no_number_holds_is_named() {
        for layout in [CodeLayout::joint(CodeBits::Eight, 2), CodeLayout::joint(CodeBits::One, 2)] {
            assert_eq!(layout.encode(vec![1.0, 2.0, 3.0, f32::INFINITY], &[1.0; 2]), Err(1));
            assert_eq!(layout.encode(vec![1.0, 2.0, 3.0, 1e38], &[1.0, 1e9]), Err(1));
        }
        assert_eq!(CodeBits::try_from(1), Ok(CodeBits::One));
        assert!(CodeBits::try_from(4).is_err());
    }
}
