//! Gradients in memory, of which some may be imported.

use ascribe::sketch::{GradientSource, SketchFile, SketchFileError, SketchSchema};
use ascribe::sources::{Place, TensorSet};

/// Rows of a sketch file, held in memory with their keys.
#[derive(Clone, Debug)]
pub(crate) struct Gradients {
    pub(crate) keys: Vec<String>,
    pub(crate) schema: SketchSchema,
    pub(crate) values: Vec<Vec<f32>>,
    pub(crate) terms: Vec<Vec<u32>>,
    pub(crate) outcomes: Vec<Vec<f32>>,
}

impl Gradients {
    /// All rows of a file, whose keys are `r0`, `r1` and so on.
    pub(crate) fn of_file(bytes: &[u8]) -> Self {
        let tensors = TensorSet::new(bytes, "sketches").unwrap();
        let file = SketchFile::new(&tensors).unwrap();
        let mut all = Self {
            keys: Vec::new(),
            schema: file.schema().clone(),
            values: Vec::new(),
            terms: Vec::new(),
            outcomes: Vec::new(),
        };
        for row in 0..file.rows() {
            let (mut values, mut terms, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
            file.read_row(row, &mut values, &mut terms, &mut outcomes).unwrap();
            all.keys.push(format!("r{row}"));
            all.values.push(values);
            all.terms.push(terms);
            all.outcomes.push(outcomes);
        }
        all
    }

    /// These rows, in this order.
    pub(crate) fn of_rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut chosen = Self {
            keys: Vec::new(),
            schema: self.schema.clone(),
            values: Vec::new(),
            terms: Vec::new(),
            outcomes: Vec::new(),
        };
        for row in rows {
            chosen.keys.push(self.keys[row].clone());
            chosen.values.push(self.values[row].clone());
            chosen.terms.push(self.terms[row].clone());
            chosen.outcomes.push(self.outcomes[row].clone());
        }
        chosen
    }

    /// The same gradients, of which nothing was measured.
    pub(crate) fn unmeasured(mut self) -> Self {
        self.outcomes.iter_mut().for_each(Vec::clear);
        self
    }

    /// The row with this key.
    pub(crate) fn row(&self, key: &str) -> usize {
        self.keys.iter().position(|own| own == key).unwrap()
    }
}

impl GradientSource for Gradients {
    fn name(&self) -> &str {
        "gradients"
    }

    fn schema(&self) -> &SketchSchema {
        &self.schema
    }

    fn rows(&self) -> usize {
        self.values.len()
    }

    fn has_outcomes(&self) -> bool {
        self.outcomes.first().is_some_and(|outcomes| !outcomes.is_empty())
    }

    fn place(&self, row: usize) -> Place {
        Place { input: self.name().to_owned(), unit: "row", number: row as u64 + 1 }
    }

    fn read_row(
        &self,
        row: usize,
        values: &mut Vec<f32>,
        terms: &mut Vec<u32>,
        outcomes: &mut Vec<f32>,
    ) -> Result<(), SketchFileError> {
        values.extend_from_slice(&self.values[row]);
        terms.extend_from_slice(&self.terms[row]);
        outcomes.extend_from_slice(&self.outcomes[row]);
        Ok(())
    }
}
