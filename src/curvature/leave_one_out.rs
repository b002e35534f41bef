//! What the other rows say of each row's label.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

use super::damping::damping_of;
use super::error::CurvatureError;
use super::symmetric::inverse;

/// For each row and class what kernel ridge regression predicts when it is fitted to all rows but this one: [rows, classes],
/// about 1 for the class that the other rows say, about 0 for the rest.
///
/// `kernel` is [rows, rows], symmetric, row by row; the labels become one-hot vectors Y, from which the mean over all
/// rows, the own one among them, is taken away and added again. With C = (K + c I)^-1 and c = `ratio` x trace of K, no
/// fit is repeated: f = Y - (C (Y - mean Y)) / diag(C).
///
/// # Errors
/// The kernel is zero or of another size, or not positive once it is damped, or `ratio` is not a number above 0.
///
/// # Complexity
/// O(rows^3 + rows^2 x classes) time; memory for three matrices of rows x rows.
///
/// # References
/// Rifkin, Lippert: Notes on regularized least squares, MIT-CSAIL-TR-2007-025 (2007), section 4: leave-one-out values of
/// kernel ridge regression in closed form.
///
/// ```
/// use ascribe::curvature::leave_one_out_ridge;
/// // Three rows that are alike, of which the last has another label, and one that is like none of them.
/// let kernel = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
/// let f = leave_one_out_ridge(&kernel, &[0, 0, 1, 1], 2, 0.001)?;
/// assert!(f[4] > 0.9 && f[5] < 0.1);
/// assert_eq!([f[6], f[7]], [0.5, 0.5]);
/// # Ok::<(), ascribe::curvature::CurvatureError>(())
/// ```
pub fn leave_one_out_ridge(
    kernel: &[f64],
    labels: &[u32],
    classes: usize,
    ratio: f64,
) -> Result<Vec<f64>, CurvatureError> {
    let rows = labels.len();
    if kernel.len() != rows * rows {
        return Err(CurvatureError::KernelSize { values: kernel.len(), rows });
    }
    let damping = damping_of((0..rows).map(|row| kernel[row * rows + row]).sum(), ratio)?;
    let damped = Mat::from_fn(rows, rows, |row, column| {
        kernel[row * rows + column] + if row == column { damping } else { 0.0 }
    });
    let inverse = inverse(&damped)?;
    drop(damped);
    let one_hot = |row: usize, class: usize| if labels[row] as usize == class { 1.0 } else { 0.0 };
    let mut means = vec![0.0; classes];
    for label in labels {
        if let Some(mean) = means.get_mut(*label as usize) {
            *mean += 1.0 / rows as f64;
        }
    }
    let centred = Mat::from_fn(rows, classes, |row, class| one_hot(row, class) - means[class]);
    let mut solved = Mat::zeros(rows, classes);
    matmul(&mut solved, Accum::Replace, &inverse, &centred, 1.0, Par::Seq);
    let cells = (0..rows).flat_map(|row| (0..classes).map(move |class| (row, class)));
    Ok(cells.map(|(row, class)| one_hot(row, class) - solved[(row, class)] / inverse[(row, row)]).collect())
}

#[cfg(test)]
mod tests {
    use faer::linalg::solvers::Solve;

    use super::super::symmetric::factorised;
    use super::*;
    use crate::base::RandomStream;

    /// Inner products of random points, and labels that follow them loosely.
    fn points(rows: usize, width: usize, classes: u64, seed: u64) -> (Vec<f64>, Vec<u32>) {
        let mut stream = RandomStream::new(seed);
        let points: Vec<Vec<f64>> =
            (0..rows).map(|_| (0..width).map(|_| stream.unit() - 0.4).collect()).collect();
        let dot = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f64>();
        let kernel = points.iter().flat_map(|row| points.iter().map(|other| dot(row, other)));
        (kernel.collect(), (0..rows).map(|_| stream.below(classes) as u32).collect())
    }

    /// The prediction for a row by a fit to the others: m + k (K + c I)^-1 (Y - m), with m and c of all rows.
    fn refitted(kernel: &[f64], labels: &[u32], class: u32, left_out: usize, ratio: f64) -> f64 {
        let rows = labels.len();
        let damping = ratio * (0..rows).map(|row| kernel[row * rows + row]).sum::<f64>();
        let kept: Vec<usize> = (0..rows).filter(|row| *row != left_out).collect();
        let target = |row: usize| f64::from(u8::from(labels[row] == class));
        let mean = (0..rows).map(target).sum::<f64>() / rows as f64;
        let matrix = Mat::from_fn(rows - 1, rows - 1, |row, column| {
            kernel[kept[row] * rows + kept[column]] + if row == column { damping } else { 0.0 }
        });
        let right = Mat::from_fn(rows - 1, 1, |row, _| target(kept[row]) - mean);
        let weights = factorised(&matrix).unwrap().solve(&right);
        let products =
            kept.iter().enumerate().map(|(at, row)| kernel[left_out * rows + row] * weights[(at, 0)]);
        mean + products.sum::<f64>()
    }

    #[test]
    fn values_are_those_of_fits_without_the_row() {
        for (rows, width, classes, ratio) in
            [(2, 3, 2, 0.1), (7, 3, 2, 5.86e-4), (24, 30, 4, 5.86e-4), (24, 5, 3, 1e-2)]
        {
            let (kernel, labels) = points(rows, width, classes, rows as u64);
            let found = leave_one_out_ridge(&kernel, &labels, classes as usize, ratio).unwrap();
            assert_eq!(found.len(), rows * classes as usize);
            for (at, found) in found.into_iter().enumerate() {
                let (row, class) = (at / classes as usize, at % classes as usize);
                let expected = refitted(&kernel, &labels, class as u32, row, ratio);
                assert!((found - expected).abs() < 1e-9, "{rows} {row} {class}: {found} {expected}");
            }
        }
    }

    #[test]
    fn what_cannot_be_solved_is_refused() {
        assert_eq!(leave_one_out_ridge(&[0.0; 4], &[0, 1], 2, 0.1), Err(CurvatureError::Zero));
        let sizes = CurvatureError::KernelSize { values: 3, rows: 2 };
        assert_eq!(leave_one_out_ridge(&[1.0; 3], &[0, 1], 2, 0.1), Err(sizes));
        assert_eq!(
            leave_one_out_ridge(&[1.0; 4], &[0, 1], 2, 0.0),
            Err(CurvatureError::Damping { damping: 0.0 })
        );
        let not_finite = [1.0, f64::NAN, f64::NAN, 1.0];
        assert!(leave_one_out_ridge(&not_finite, &[0, 1], 2, 0.1).is_err());
        assert_eq!(
            leave_one_out_ridge(&[1.0, 9.0, 9.0, 1.0], &[0, 1], 2, 0.1),
            Err(CurvatureError::NotPositive { row: 1 })
        );
    }
}
