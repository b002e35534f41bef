//! Gradients of rows, converted, row by row.

use std::collections::HashMap;
use std::ops::Range;

use super::files::refused;
use super::{ForeignError, ForeignTool};
use crate::sources::error::shortened;
use crate::sources::matrix::Stored;

/// A module whose gradients are there, as a matrix in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignModule {
    /// Name in the model.
    pub name: String,
    /// Rows of the matrix.
    pub out: u32,
    /// Columns of the matrix.
    pub input: u32,
}

/// How gradients came about: what two sets of them must have in common to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignOrigin {
    /// The loss, in words.
    pub loss: String,
    /// Whether the labels are the true ones or drawn by the model.
    pub labels: String,
    /// The tool, its projection and the scale.
    pub origin: String,
    /// What the tool divided gradients by, such as second moments of an optimiser.
    pub scaling: Option<String>,
}

/// Gradients of rows in a folder of another tool, converted to gradients of the loss.
#[derive(Clone, Debug)]
pub struct ForeignGradients<'a> {
    pub(super) name: String,
    pub(super) tool: ForeignTool,
    pub(super) modules: Vec<ForeignModule>,
    /// Number of the training run of each member.
    pub(super) runs: Vec<u32>,
    pub(super) members: Vec<GradientBytes<'a>>,
    pub(super) rows: usize,
    pub(super) origin: ForeignOrigin,
    pub(super) keys: Option<Vec<String>>,
    pub(super) notes: Vec<String>,
    /// For each member 1 - p of each row's own label, in the order of the folder; none where the tool does not keep it.
    pub(super) own: Vec<Vec<f32>>,
    /// For each row its number in the folder; `None`: as they are.
    pub(super) order: Option<Vec<usize>>,
}

/// Where the rows of one member stand.
#[derive(Clone, Debug)]
pub(super) struct GradientBytes<'a> {
    pub(super) files: Vec<&'a [u8]>,
    pub(super) stored: Stored,
    pub(super) starts: RowStarts,
    /// Where values stand behind a row's start, in bytes.
    pub(super) runs: Vec<Range<usize>>,
    /// What the gradients of a row are multiplied by: one number for each row, or one for all.
    pub(super) factors: Vec<f32>,
}

/// Where rows begin.
#[derive(Clone, Debug)]
pub(super) enum RowStarts {
    /// One after the other in the only file.
    Every(usize),
    /// File and byte of each row.
    Listed(Vec<(u32, usize)>),
}

impl<'a> GradientBytes<'a> {
    /// Rows of `row_bytes` bytes, one after the other.
    pub(super) fn in_sequence(data: &'a [u8], stored: Stored, row_bytes: usize, factors: Vec<f32>) -> Self {
        let runs = std::iter::once(0..row_bytes).collect();
        Self { files: vec![data], stored, starts: RowStarts::Every(row_bytes), runs, factors }
    }

    fn append(&self, row: usize, out: &mut Vec<f32>) {
        let (file, start) = match &self.starts {
            RowStarts::Every(bytes) => (0, row * bytes),
            RowStarts::Listed(starts) => (starts[row].0 as usize, starts[row].1),
        };
        let from = out.len();
        for run in &self.runs {
            self.stored.append(&self.files[file][start + run.start..start + run.end], out);
        }
        let factor = if self.factors.len() == 1 { self.factors[0] } else { self.factors[row] };
        if factor != 1.0 {
            out[from..].iter_mut().for_each(|value| *value *= factor);
        }
    }
}

impl ForeignGradients<'_> {
    /// The folder, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tool that wrote it.
    pub fn tool(&self) -> ForeignTool {
        self.tool
    }

    /// Modules, in the order of a row's values.
    pub fn modules(&self) -> &[ForeignModule] {
        &self.modules
    }

    /// Number of the training run of each member; each is a model of its own.
    pub fn runs(&self) -> &[u32] {
        &self.runs
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How the gradients came about.
    pub fn origin(&self) -> &ForeignOrigin {
        &self.origin
    }

    /// Keys of the rows, where the tool keeps any.
    pub fn keys(&self) -> Option<&[String]> {
        self.keys.as_deref()
    }

    /// What was converted, and what could not be known, for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether 1 - p of each row's own label is known.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Appends 1 - p of the own label of row `row` (from 0) at each member's checkpoint, where it is known.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn read_own(&self, row: usize, out: &mut Vec<f32>) {
        let row = self.number(row);
        out.extend(self.own.iter().map(|own| own[row]));
    }

    /// Appends the gradients of row `row` (from 0): member by member, module by module, each matrix in row-major order.
    ///
    /// Whether values are finite is for who stores them to check.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn read_row(&self, row: usize, out: &mut Vec<f32>) {
        let row = self.number(row);
        self.members.iter().for_each(|member| member.append(row, out));
    }

    /// Number in the folder of a row.
    fn number(&self, row: usize) -> usize {
        self.order.as_ref().map_or(row, |order| order[row])
    }

    /// The rows in the order of `keys`, of which each must be the key of one row and no row may be left.
    ///
    /// # Errors
    /// The tool keeps no keys, or others.
    pub fn ordered_by(mut self, keys: &[String]) -> Result<Self, ForeignError> {
        let Some(own) = &self.keys else {
            return Err(refused(&self.name, format!("{} keeps no keys of rows", self.tool.name())));
        };
        let numbers: HashMap<&str, usize> =
            own.iter().enumerate().map(|(number, key)| (key.as_str(), number)).collect();
        let mut order = Vec::with_capacity(keys.len());
        let mut taken = vec![false; own.len()];
        for key in keys {
            let number = numbers.get(key.as_str()).ok_or_else(|| {
                let example = own.first().map(|own| shortened(own));
                let reason = format!(
                    "no row has the data id {:?}, which stands in the keys (its data ids are such as {example:?}); write the data ids as keys, or leave the keys out",
                    shortened(key)
                );
                refused(&self.name, reason)
            })?;
            if std::mem::replace(&mut taken[*number], true) {
                let reason = format!("the key {:?} stands twice in the keys", shortened(key));
                return Err(refused(&self.name, reason));
            }
            order.push(*number);
        }
        if let Some(left) = taken.iter().position(|taken| !taken) {
            let reason = format!(
                "the row with data id {:?} is not in the keys ({} rows, {} keys)",
                shortened(&own[left]),
                own.len(),
                keys.len()
            );
            return Err(refused(&self.name, reason));
        }
        self.keys = Some(keys.to_vec());
        self.order = Some(order);
        Ok(self)
    }

    /// With all signs turned.
    pub(super) fn turned(mut self) -> Self {
        for member in &mut self.members {
            member.factors.iter_mut().for_each(|factor| *factor = -*factor);
        }
        self.notes
            .push("signs turned: they were gradients of a measurement that is higher for better".to_owned());
        self
    }
}
