//! A column in memory for the tests of this room.

use thiserror::Error;

use super::RowValues;
use crate::base::{ElementType, RandomStream, RowId};
use crate::kernels::{decode, encode, encode_int8};

#[derive(Debug, Error)]
#[error("block {0} is damaged")]
pub(super) struct Damaged(u32);

pub(super) struct SampleColumn {
    pub(super) element: ElementType,
    pub(super) width: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) scales: Option<Vec<u8>>,
    /// Rows from here on cannot be read.
    pub(super) damaged_from: u32,
}

impl RowValues for SampleColumn {
    type Error = Damaged;

    fn element(&self) -> ElementType {
        self.element
    }

    fn width(&self) -> usize {
        self.width
    }

    fn row_count(&self) -> u32 {
        (self.bytes.len() / self.row_bytes()) as u32
    }

    fn values(&self, first: RowId, count: u32) -> Result<&[u8], Damaged> {
        if first.0 + count > self.damaged_from {
            return Err(Damaged(7));
        }
        let row_bytes = self.row_bytes();
        Ok(&self.bytes[first.0 as usize * row_bytes..][..count as usize * row_bytes])
    }

    fn scales(&self, first: RowId, count: u32) -> Result<Option<&[u8]>, Damaged> {
        let (from, bytes) = (first.0 as usize * 4, count as usize * 4);
        Ok(self.scales.as_ref().map(|scales| &scales[from..][..bytes]))
    }
}

impl SampleColumn {
    /// `rows` random rows; every tenth is zero.
    pub(super) fn random(element: ElementType, width: usize, rows: usize) -> Self {
        let mut stream = RandomStream::new(width as u64);
        let (mut bytes, mut scales) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let values = if row % 10 == 3 { vec![0.0; width] } else { vector(width, &mut stream) };
            if element == ElementType::I8 {
                scales.extend(encode_int8(&values, &mut bytes).unwrap().to_le_bytes());
            } else {
                encode(element, &values, &mut bytes).unwrap();
            }
        }
        let scales = (element == ElementType::I8).then_some(scales);
        Self { element, width, bytes, scales, damaged_from: u32::MAX }
    }

    /// Rows of `width` f32 values each.
    pub(super) fn of_rows(width: usize, values: &[f32]) -> Self {
        let mut bytes = Vec::new();
        encode(ElementType::F32, values, &mut bytes).unwrap();
        Self { element: ElementType::F32, width, bytes, scales: None, damaged_from: u32::MAX }
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.width * self.element.size_bytes()
    }

    /// The stored values of a row in f64, scale and all.
    pub(super) fn row(&self, row: usize) -> Vec<f64> {
        let mut values = vec![0.0; self.width];
        let bytes = &self.bytes[row * self.row_bytes()..][..self.row_bytes()];
        decode(self.element, bytes, &mut values).unwrap();
        let scale = self.scales.as_ref().map_or(1.0, |scales| {
            let bytes = [scales[row * 4], scales[row * 4 + 1], scales[row * 4 + 2], scales[row * 4 + 3]];
            f64::from(f32::from_le_bytes(bytes))
        });
        values.into_iter().map(|value| f64::from(value) * scale).collect()
    }
}

pub(super) fn vector(width: usize, stream: &mut RandomStream) -> Vec<f32> {
    (0..width).map(|_| (stream.unit() * 4.0 - 2.0) as f32).collect()
}
