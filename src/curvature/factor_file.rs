//! Kronecker factors as a collector measured them, beside the gradients of a sketch file.

use super::error::CurvatureError;
use super::kronecker_factors::KroneckerFactors;
use crate::format::SketchModule;
use crate::sketch::{SketchFile, SketchFileError, SketchSchema, check_factors};
use crate::sources::{ForeignFactors, Tensor, TensorElement, TensorSet};

/// Factors of one member, module by module; `None` of a module that has none of its own.
pub type MemberFactors = Vec<Option<KroneckerFactors>>;

/// How far a matrix may be from symmetric, as a share of its largest value: sums in f32 round both triangles apart.
const SKEW_MAX: f64 = 1e-4;

impl KroneckerFactors {
    /// Factors of a module with this shape.
    ///
    /// # Errors
    /// They have other lengths, values that are not finite, or are no symmetric matrices with a diagonal of 0 or more; the text says
    /// which.
    pub fn checked(
        (out, input): (usize, usize),
        output_values: Vec<f64>,
        input_values: Vec<f64>,
    ) -> Result<Self, String> {
        Self::check_sides(out, input).map_err(|error: CurvatureError| error.to_string())?;
        for (side, size, values) in [("B", out, &output_values), ("A", input, &input_values)] {
            if values.len() != size * size {
                return Err(format!("{side} has {} values, {size} x {size} are needed", values.len()));
            }
            if !values.iter().all(|value| value.is_finite()) {
                return Err(format!("{side} has a value that is not finite"));
            }
            let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
            for (row, column) in (0..size).flat_map(|row| (0..=row).map(move |column| (row, column))) {
                let (value, other) = (values[row * size + column], values[column * size + row]);
                if (value - other).abs() > SKEW_MAX * largest {
                    return Err(format!("{side} is not symmetric at row {row} and column {column}"));
                }
                if row == column && value < 0.0 {
                    return Err(format!(
                        "{side} has the value {value} on its diagonal, which is a mean of squares"
                    ));
                }
            }
        }
        Ok(Self { output: output_values, input: input_values })
    }

    /// The factors of another tool, of one member, for a column of this schema. Tables have none.
    ///
    /// # Errors
    /// A module has no factors, or is projected; or they are none for its shape.
    pub fn of_foreign(
        factors: &ForeignFactors,
        schema: &SketchSchema,
    ) -> Result<MemberFactors, SketchFileError> {
        check_factors(factors, schema)?;
        let of_module = |module: &SketchModule| {
            let Some(own) = factors.modules.iter().find(|own| own.name == module.name) else {
                return Ok(None);
            };
            let shape = (module.out as usize, module.input as usize);
            let checked = Self::checked(shape, own.b.clone(), own.a.clone());
            checked.map(Some).map_err(|reason| SketchFileError::Tensor {
                tensor: format!("{}, module {:?}", factors.name, module.name),
                reason,
            })
        };
        schema.layout().modules().iter().map(of_module).collect()
    }

    /// The factors in a sketch file, for a column of this schema: tensors `m{member}.{module}.A` [in, in] and `.B` [out, out], widths after
    /// the projection. Modules without both have none. The file may hold gradients of rows beside them, or none.
    ///
    /// # Errors
    /// It is no sketch file or one of other members or modules, it has no factors at all, or some are not such.
    pub fn of_sketch_file(
        tensors: &TensorSet<'_>,
        schema: &SketchSchema,
    ) -> Result<Vec<MemberFactors>, SketchFileError> {
        let own = SketchFile::schema_of(tensors)?;
        let refuse = |reason: &str| {
            Err(SketchFileError::NotOne { input: tensors.name().to_owned(), reason: reason.to_owned() })
        };
        if own.members() != schema.members() || own.modules() != schema.modules() {
            return refuse(
                "its members or modules are not those of the column: give the file that the rows came from",
            );
        }
        let mut found = Vec::new();
        for member in 0..schema.members() {
            let mut own = Vec::new();
            for module in schema.layout().modules() {
                let shape = (module.out as usize, module.input as usize);
                let of = |side: &str| tensors.tensor(&format!("m{member}.{}.{side}", module.name));
                own.push(match (of("A"), of("B")) {
                    (Some(inputs), Some(outputs)) => {
                        let checked = Self::checked(shape, values(&outputs)?, values(&inputs)?);
                        Some(checked.map_err(|reason| SketchFileError::Tensor {
                            tensor: inputs.name().to_owned(),
                            reason: format!("and the one of the other side: {reason}"),
                        })?)
                    }
                    _ => None,
                });
            }
            found.push(own);
        }
        if found.iter().flatten().all(Option::is_none) {
            return refuse(
                "it has no factors (tensors \"m0.MODULE.A\" and \".B\"): collect with them, or fit without --factors",
            );
        }
        Ok(found)
    }
}

fn values(tensor: &Tensor<'_>) -> Result<Vec<f64>, SketchFileError> {
    let refuse = |reason: &str| SketchFileError::Tensor {
        tensor: tensor.name().to_owned(),
        reason: reason.to_owned(),
    };
    if !matches!(tensor.element(), TensorElement::Real(_)) {
        return Err(refuse("holds integers; write F32, F16 or BF16"));
    }
    if tensor.shape().len() != 2 || tensor.rows() != tensor.width() {
        return Err(refuse(&format!("has shape {:?}; a square matrix is needed", tensor.shape())));
    }
    let mut values = vec![0.0; tensor.width() * tensor.rows()];
    for (row, values) in values.chunks_mut(tensor.width().max(1)).enumerate() {
        tensor.read_row(row, values);
    }
    Ok(values.into_iter().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_that_are_no_factors_are_refused_with_the_reason() {
        let good = || (vec![1.0], vec![2.0, 0.5, 0.5, 1.0]);
        let (output, input) = good();
        let factors = KroneckerFactors::checked((1, 2), output.clone(), input.clone()).unwrap();
        assert_eq!((factors.output, factors.input), (output, input));
        let of = |change: &dyn Fn(&mut Vec<f64>, &mut Vec<f64>)| {
            let (mut output, mut input) = good();
            change(&mut output, &mut input);
            KroneckerFactors::checked((1, 2), output, input).unwrap_err()
        };
        assert!(of(&|output, _| output.push(1.0)).contains("B has 2 values, 1 x 1"));
        assert!(of(&|_, input| input[1] = f64::NAN).contains("A has a value that is not finite"));
        assert!(of(&|_, input| input[1] = 0.6).contains("A is not symmetric at row 1 and column 0"));
        assert!(of(&|output, _| output[0] = -1.0).contains("B has the value -1 on its diagonal"));
        let wide = KroneckerFactors::checked((1, 5000), vec![1.0], Vec::new()).unwrap_err();
        assert!(wide.contains("too wide"), "{wide}");
    }
}
