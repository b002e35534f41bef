//! Factors and scores of kronfluence 1.0.1, all safetensors: a folder `factors_NAME` with sums of outer products and their
//! counts, a folder `scores_NAME` with `pairwise_scores.safetensors`, [queries, rows], whole or for each module.
//!
//! A score is g_q^T H^-1 g_x with g_q the gradient of the task's measurement: a proponent is positive where the measurement is
//! a loss, and negative where it is higher for better answers, such as a margin.

use super::file_names::kronfluence::{ACTIVATION_COUNTS, ACTIVATIONS, GRADIENT_COUNTS, GRADIENTS, SCORES};
use super::files::ForeignFile;
use super::scores::{ForeignScores, ScoreParts};
use super::{ForeignError, ForeignFiles, ForeignTool};
use crate::sources::error::{listed, shortened};
use crate::sources::tensor_set::{Tensor, TensorElement, TensorSet};

/// The tensor with the scores of all modules together.
const ALL_MODULES: &str = "all_modules";

/// How far an entry of a factor may lie from the one across the diagonal, as a share of the largest.
const SYMMETRY_TOLERANCE: f64 = 1e-3;

pub(super) fn scores<'a>(
    files: &ForeignFiles<'a>,
    higher_is_better: bool,
) -> Result<ForeignScores<'a>, ForeignError> {
    let file = files.only(SCORES, ForeignTool::Kronfluence)?;
    let tensors = file.tensors()?;
    let names = match tensors.names() {
        names if names.contains(&ALL_MODULES) => vec![ALL_MODULES],
        names => names,
    };
    let modules = names.len();
    let mut parts: Vec<Tensor<'a>> = Vec::new();
    for name in names {
        let tensor = real_tensor(&file, &tensors, name)?;
        let first = parts.first().map_or(tensor.shape(), Tensor::shape);
        if tensor.shape().len() != 2 || tensor.shape() != first {
            let reason = format!(
                "has shape {:?}; [queries, rows] is expected, the same for all modules (not scores of tokens)",
                tensor.shape()
            );
            return Err(file.refuse_field(&format!("tensor {:?}", shortened(name)), reason));
        }
        parts.push(tensor);
    }
    let Some(&[queries, rows]) = parts.first().map(Tensor::shape) else {
        return Err(file.refuse("holds no scores"));
    };
    let mut notes = vec![if higher_is_better {
        "signs turned: the queries' measurement is higher for better, so its proponents had negative scores"
            .to_owned()
    } else {
        "signs are as here where the task's measurement is a loss; say --higher-is-better where it is a margin or another value that is higher for better".to_owned()
    }];
    if modules > 1 {
        notes.push(format!("the scores of {modules} modules were added up"));
    }
    let factor = if higher_is_better { -1.0 } else { 1.0 };
    Ok(ForeignScores { name: file.name, queries, rows, parts: ScoreParts::Rows(parts), factor, notes })
}

fn real_tensor<'a>(
    file: &ForeignFile<'_>,
    tensors: &TensorSet<'a>,
    name: &str,
) -> Result<Tensor<'a>, ForeignError> {
    let tensor = tensors.tensor(name).filter(|tensor| matches!(tensor.element(), TensorElement::Real(_)));
    tensor.ok_or_else(|| {
        let place = format!("tensor {:?}", shortened(name));
        file.refuse_field(&place, "is missing, or not of type F32, F16 or BF16")
    })
}

/// The Kronecker factors of one module's curvature.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignFactor {
    /// The module.
    pub name: String,
    /// E[a a^T] over inputs, [input, input] in row-major order; the last input is the constant 1 of a bias, where there is one.
    pub a: Vec<f64>,
    /// Side of [`a`](Self::a).
    pub input: usize,
    /// E[d d^T] over gradients at the output, [out, out] in row-major order.
    pub b: Vec<f64>,
    /// Side of [`b`](Self::b).
    pub out: usize,
    /// Inputs that `a` is the mean of: examples, or tokens of them.
    pub activations: u64,
    /// Gradients that `b` is the mean of.
    pub gradients: u64,
}

/// The Kronecker factors of a model's curvature.
///
/// Source: Grosse et al., Studying Large Language Model Generalization with Influence Functions, arXiv 2308.03296, section 2.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignFactors {
    /// The folder, for messages.
    pub name: String,
    /// Modules, by name.
    pub modules: Vec<ForeignFactor>,
}

impl ForeignFactors {
    /// The factors in a folder of kronfluence: means, of sums and counts.
    ///
    /// # Errors
    /// A file is missing, cut off or no such one; a matrix is not square, symmetric and finite, or has no count; modules of
    /// the files differ.
    ///
    /// # Complexity
    /// Twice the memory of the files.
    pub fn read(files: &ForeignFiles<'_>) -> Result<Self, ForeignError> {
        let tool = ForeignTool::Kronfluence;
        let inputs = files.only(ACTIVATIONS, tool)?;
        let beside = |name: &str| {
            let path = inputs.name.strip_prefix(&format!("{}/", files.folder())).unwrap_or_default();
            let folder = path.strip_suffix(ACTIVATIONS).unwrap_or_default();
            files.required(&format!("{folder}{name}"), tool)
        };
        let (outputs, input_counts, output_counts) =
            (beside(GRADIENTS)?, beside(ACTIVATION_COUNTS)?, beside(GRADIENT_COUNTS)?);
        let (a, b) = (Sums::read(&inputs, &input_counts)?, Sums::read(&outputs, &output_counts)?);
        let names = a.tensors.names();
        if names.is_empty() {
            return Err(inputs.refuse("holds no modules"));
        }
        if names != b.tensors.names() {
            let reason =
                format!("has modules {}, {} has {}", listed(b.tensors.names()), inputs.name, listed(names));
            return Err(outputs.refuse(reason));
        }
        let mut modules = Vec::new();
        for name in a.tensors.names() {
            let (input, activations, of_inputs) = a.mean(name)?;
            let (out, gradients, of_outputs) = b.mean(name)?;
            modules.push(ForeignFactor {
                name: name.to_owned(),
                a: of_inputs,
                input,
                b: of_outputs,
                out,
                activations,
                gradients,
            });
        }
        Ok(Self { name: files.folder().to_owned(), modules })
    }
}

/// A file of sums, and the one of their counts.
struct Sums<'f, 'a> {
    file: &'f ForeignFile<'a>,
    tensors: TensorSet<'a>,
    count_file: &'f ForeignFile<'a>,
    counts: TensorSet<'a>,
}

impl<'f, 'a> Sums<'f, 'a> {
    fn read(file: &'f ForeignFile<'a>, count_file: &'f ForeignFile<'a>) -> Result<Self, ForeignError> {
        Ok(Self { file, tensors: file.tensors()?, count_file, counts: count_file.tensors()? })
    }

    /// Side, count and mean of the matrix of a module.
    fn mean(&self, name: &str) -> Result<(usize, u64, Vec<f64>), ForeignError> {
        let place = format!("tensor {:?}", shortened(name));
        let tensor = real_tensor(self.file, &self.tensors, name)?;
        let refuse = |reason: String| Err(self.file.refuse_field(&place, reason));
        let side = match *tensor.shape() {
            [rows, columns] if rows == columns && rows > 0 => rows,
            ref shape => return refuse(format!("has shape {shape:?}; a square matrix is expected")),
        };
        let count = self.count(name)?;
        let mut mean = Vec::with_capacity(side * side);
        let mut values = vec![0.0; side];
        for row in 0..side {
            tensor.read_row(row, &mut values);
            mean.extend(values.iter().map(|value| f64::from(*value) / count as f64));
        }
        if let Some(at) = mean.iter().position(|value| !value.is_finite()) {
            return refuse(format!("entry ({}, {}) is not a finite number", at / side, at % side));
        }
        let largest = mean.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        for (row, column) in (0..side).flat_map(|row| (0..row).map(move |column| (row, column))) {
            let difference = mean[row * side + column] - mean[column * side + row];
            if difference.abs() > SYMMETRY_TOLERANCE * largest {
                return refuse(format!(
                    "is not symmetric: entries ({row}, {column}) and ({column}, {row}) differ"
                ));
            }
        }
        Ok((side, count, mean))
    }

    fn count(&self, name: &str) -> Result<u64, ForeignError> {
        let place = format!("tensor {:?}", shortened(name));
        let tensor = self.counts.tensor(name).filter(|tensor| {
            tensor.element() == TensorElement::I64 && tensor.shape().iter().all(|size| *size == 1)
        });
        let tensor = tensor
            .ok_or_else(|| self.count_file.refuse_field(&place, "is missing, or not one I64 number"))?;
        let mut count = [0];
        tensor.read_integers(0, &mut count);
        u64::try_from(count[0]).ok().filter(|count| *count > 0).ok_or_else(|| {
            let reason = format!("is {}; a count above 0 is expected", count[0]);
            self.count_file.refuse_field(&place, reason)
        })
    }
}
