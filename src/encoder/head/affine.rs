//! The product of a linear layer with its bias.

use crate::kernels::{KernelError, Kernels, Panels, StridedOutput, StridedRows};

/// W x + b of each of the rows `values`, which are [rows, `inputs`], as [rows, `outputs`]. A row of `weights`, [`outputs`,
/// `inputs` + 1], holds the weights of one output and then its bias.
///
/// The sums are taken in one order on every machine and on the calling thread, so that a row has the same result, bit for
/// bit, alone or among others. What a head computes and what its training computes is therefore the same.
///
/// # Errors
/// A length does not fit the shapes.
///
/// # Complexity
/// O(rows x inputs x outputs) time; packs the weights once.
///
/// ```
/// let weights = [1.0, 2.0, 0.5, 3.0, 4.0, -0.5];
/// assert_eq!(ascribe::encoder::head_affine(&[1.0, 10.0], &weights, 2, 2)?, [21.5, 42.5]);
/// # Ok::<(), ascribe::kernels::KernelError>(())
/// ```
pub fn head_affine(
    values: &[f32],
    weights: &[f32],
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    let wrong = |left: usize, right: usize| Err(KernelError::Widths { left, right });
    if inputs == 0 || !values.len().is_multiple_of(inputs) {
        return wrong(values.len(), inputs);
    }
    if weights.len() != outputs.saturating_mul(inputs + 1) {
        return wrong(weights.len(), outputs.saturating_mul(inputs + 1));
    }
    let mut panels = Panels::default();
    panels.pack_transposed(weights, inputs + 1, outputs, inputs);
    let bias: Vec<f32> = weights.iter().skip(inputs).step_by(inputs + 1).copied().collect();
    let rows = StridedRows { values, stride: inputs, count: values.len() / inputs };
    let mut out = vec![0.0; rows.count * outputs];
    Kernels::best().product(
        rows,
        &panels,
        Some(&bias),
        StridedOutput { values: &mut out, stride: outputs },
    )?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn a_product_is_that_of_its_definition_and_a_row_does_not_depend_on_the_others() {
        let mut stream = RandomStream::new(4);
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 2), (7, 16, 17), (20, 40, 33)] {
            let mut draw =
                |count: usize| (0..count).map(|_| stream.unit() as f32 - 0.5).collect::<Vec<f32>>();
            let (values, weights) = (draw(rows * inputs), draw(outputs * (inputs + 1)));
            let all = head_affine(&values, &weights, inputs, outputs).unwrap();
            for (row, found) in values.chunks(inputs).zip(all.chunks(outputs)) {
                for (output, found) in weights.chunks(inputs + 1).zip(found) {
                    let sum = output.iter().zip(row).map(|(w, x)| f64::from(w * x)).sum::<f64>();
                    assert!((sum + f64::from(output[inputs]) - f64::from(*found)).abs() < 1e-5);
                }
                assert_eq!(head_affine(row, &weights, inputs, outputs).unwrap(), found);
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        assert!(head_affine(&[1.0; 3], &[1.0; 3], 2, 1).is_err());
        assert!(head_affine(&[1.0; 4], &[1.0; 4], 2, 1).is_err());
        assert!(head_affine(&[], &[1.0], 0, 1).is_err());
        assert_eq!(head_affine(&[], &[1.0; 3], 2, 1), Ok(Vec::new()));
    }
}
