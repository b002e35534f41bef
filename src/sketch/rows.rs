//! Rows of a column in memory.

use super::encode::decode_sketch_rows;
use super::layout::SketchLayout;
use crate::base::ElementType;
use crate::format::SPARSE_PADDING;

/// What was measured of a row when its gradients were taken; all are probabilities, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// 1 - p of the row's own label at each member's checkpoint.
    pub own: Vec<f32>,
    /// Mean over the logged epochs of the probability of the own label, weighted by learning rate; `None` if it was not
    /// logged.
    pub trained: Option<f32>,
    /// The same mean without weights.
    pub logged: Option<f32>,
}

/// Rows of a sketch column as they stand in its file, little-endian.
#[derive(Clone, Copy, Debug)]
pub struct StoredSketches<'a> {
    /// How a value is stored.
    pub element: ElementType,
    /// Values, row by row.
    pub values: &'a [u8],
    /// f32 scales of the parts, row by row; of element types that have them.
    pub scales: Option<&'a [u8]>,
    /// u32 terms, row by row; of columns with sparse modules.
    pub terms: Option<&'a [u8]>,
    /// f32 outcomes, row by row, where anything was measured.
    pub outcomes: Option<&'a [u8]>,
}

/// Decoded rows of a sketch column.
#[derive(Clone, Debug, Default)]
pub struct SketchRows {
    /// `rows` x width values.
    pub values: Vec<f32>,
    /// Places of sparse inputs, `rows` x terms.
    pub terms: Vec<u32>,
    /// As stored, `rows` x (members + 2); empty if nothing was measured.
    pub outcomes: Vec<f32>,
}

impl SketchRows {
    /// Refuses values that are not finite.
    ///
    /// # Errors
    /// Which row has one.
    pub fn check_finite(&self, layout: &SketchLayout) -> Result<(), String> {
        // No early end inside a block: that would keep the compiler from using vector registers.
        let is_bad = |values: &[f32]| values.iter().fold(false, |any, value| any | !value.is_finite());
        for (number, values) in self.values.chunks(layout.width().max(1)).enumerate() {
            if is_bad(values) {
                return Err(format!("row {number} of a block has a value that is not finite"));
            }
        }
        Ok(())
    }

    /// Refuses terms that name places which an input side does not have.
    ///
    /// # Errors
    /// Which row has one.
    pub fn check_terms(&self, layout: &SketchLayout) -> Result<(), String> {
        if self.terms.is_empty() {
            return Ok(());
        }
        let sparse: Vec<(std::ops::Range<usize>, u32)> = (0..layout.modules().len())
            .map(|number| (layout.terms_of(number), layout.modules()[number].input))
            .filter(|(range, _)| !range.is_empty())
            .collect();
        for (number, row) in self.terms.chunks(layout.terms_a_row().max(1)).enumerate() {
            for (range, input) in &sparse {
                let named = row.get(range.clone()).unwrap_or_default();
                let is_bad = |term: &&u32| **term != SPARSE_PADDING && **term >= *input;
                if let Some(term) = named.iter().find(is_bad) {
                    return Err(format!(
                        "row {number} of a block names place {term} of an input side of {input}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Takes stored rows in place of what was here; whether values are finite is not looked at.
    ///
    /// # Errors
    /// The bytes are not those of whole rows, or terms are beyond their input side: what is wrong.
    pub fn take(&mut self, layout: &SketchLayout, stored: StoredSketches<'_>) -> Result<(), String> {
        decode_sketch_rows(stored.element, layout, stored.values, stored.scales, &mut self.values)
            .map_err(|error| error.to_string())?;
        self.terms.clear();
        let (terms, _) = stored.terms.unwrap_or_default().as_chunks::<4>();
        self.terms.extend(terms.iter().map(|term| u32::from_le_bytes(*term)));
        self.check_terms(layout)?;
        self.outcomes.clear();
        let (outcomes, _) = stored.outcomes.unwrap_or_default().as_chunks::<4>();
        self.outcomes.extend(outcomes.iter().map(|value| f32::from_le_bytes(*value)));
        Ok(())
    }

    /// What was measured of row `row`, counted from the first of these; `None` if nothing was.
    pub fn outcome(&self, layout: &SketchLayout, row: usize) -> Option<Outcome> {
        let members = layout.members() as usize;
        let values = self.outcomes.get(row * (members + 2)..(row + 1) * (members + 2))?;
        let (own, logged) = values.split_at_checked(members)?;
        if own.iter().any(|value| !(0.0..=1.0).contains(value)) {
            return None;
        }
        let measured = |value: Option<&f32>| value.copied().filter(|value| (0.0..=1.0).contains(value));
        Some(Outcome {
            own: own.to_vec(),
            trained: measured(logged.first()),
            logged: measured(logged.get(1)),
        })
    }
}
