//! The handle's products of matrices, and the functions between them.

use std::ops::Range;

use super::backend::{Backend, Kernels, check_matrix};
use super::bilinear::{self, BilinearPart};
use super::dense;
use super::error::KernelError;
use super::panels::{Panels, StridedOutput, StridedRows};
use super::scalar_dense::Scalar;
use super::symmetric::{scalar_times, square_bytes};
use super::wide::WideQuery;

impl Kernels {
    /// Adds to `out` the product of a symmetric matrix with a vector, as far as rows `rows` of its lower triangle say it. The
    /// matrix has `vector.width()` rows and columns of f32 values, little-endian, row by row; what stands above its diagonal
    /// is not read. Rows in parts, each into values of its own, may be summed apart.
    ///
    /// # Errors
    /// The matrix, `rows` or `out` do not fit the vector; `out` is unchanged.
    ///
    /// # Complexity
    /// Reads each value of these rows up to the diagonal once.
    ///
    /// ```
    /// use ascribe::kernels::{Kernels, WideQuery};
    /// let matrix: Vec<u8> = [2.0_f32, 1.0, 1.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    /// let mut out = [0.0; 2];
    /// Kernels::best().symmetric_times(&matrix, 0..2, &WideQuery::new(&[1.0, -1.0]), &mut out)?;
    /// assert_eq!(out, [1.0, -2.0]);
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn symmetric_times(
        self,
        matrix: &[u8],
        rows: Range<usize>,
        vector: &WideQuery,
        out: &mut [f64],
    ) -> Result<(), KernelError> {
        let size = vector.width();
        check_matrix("symmetric matrix", matrix.len(), square_bytes(size).unwrap_or(usize::MAX), true)?;
        check_matrix("output of a symmetric matrix", out.len(), size, true)?;
        check_matrix("rows of a symmetric matrix", size, rows.end.max(rows.start), false)?;
        match self.backend {
            Backend::Scalar => scalar_times(matrix, rows, vector, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.symmetric_times(matrix, rows, vector, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.symmetric_times(matrix, rows, vector, out),
        }
        Ok(())
    }

    /// Product of `rows` and `panels`, plus `bias` in every row: `out[i][j] = bias[j] + sum over s of rows[i][s]
    /// panels[s][j]`, each sum one chain of fused multiply-adds in ascending order. A row's result does not depend on
    /// the other rows of the call, and all back-ends give the same bits.
    ///
    /// # Errors
    /// A length does not fit the shapes; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x depth x columns), no allocation. The back-end `scalar` is slow where the processor has no fused
    /// multiply-add.
    ///
    /// ```
    /// use ascribe::kernels::{Kernels, Panels, StridedOutput, StridedRows};
    /// let weights = Panels::of_weights(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
    /// let rows = StridedRows { values: &[1.0, 0.0, -1.0], stride: 3, count: 1 };
    /// let mut out = [0.0; 2];
    /// Kernels::best().product(rows, &weights, Some(&[10.0, 20.0]), StridedOutput { values: &mut out, stride: 2 })?;
    /// assert_eq!(out, [8.0, 18.0]);
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn product(
        self,
        rows: StridedRows<'_>,
        panels: &Panels,
        bias: Option<&[f32]>,
        mut out: StridedOutput<'_>,
    ) -> Result<(), KernelError> {
        if rows.count == 0 || panels.columns() == 0 {
            return Ok(());
        }
        let needed =
            |stride: usize, width: usize| (rows.count - 1).saturating_mul(stride).saturating_add(width);
        check_matrix("left factor", rows.values.len(), needed(rows.stride, panels.depth()), false)?;
        check_matrix("product", out.values.len(), needed(out.stride, panels.columns()), false)?;
        if let Some(bias) = bias {
            check_matrix("bias", bias.len(), panels.columns(), true)?;
        }
        match self.backend {
            Backend::Scalar => dense::product(Scalar, rows, panels, bias, &mut out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.product(rows, panels, bias, &mut out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.product(rows, panels, bias, &mut out),
        }
        Ok(())
    }

    /// Adds to `out`, a value a row, the sum over `parts` of u^T W v, where u and v are vectors in the row and W is the matrix of
    /// the part. A row's result does not depend on the other rows of the call, and all back-ends give the same bits.
    ///
    /// # Errors
    /// A length does not fit the others; `out` is unchanged.
    ///
    /// # Complexity
    /// O(rows x values of the matrices) multiply-adds in f32, each matrix read once for some rows. Rows may come straight from
    /// memory: the next ones are asked for while some are taken.
    ///
    /// ```
    /// use ascribe::kernels::{BilinearPart, Kernels, Panels, StridedRows};
    /// // u = (1, 2), v = (3, -1), W = (1 0; 2 5): u^T W v = 1 * 3 + 2 * (6 - 5).
    /// let matrix = Panels::of_weights(&[1.0, 0.0, 2.0, 5.0], 2, 2);
    /// let rows = StridedRows { values: &[1.0, 2.0, 3.0, -1.0], stride: 4, count: 1 };
    /// let mut out = [0.5];
    /// Kernels::best().add_forms(rows, &[BilinearPart { matrix: &matrix, left: 0, right: 2 }], &mut out)?;
    /// assert_eq!(out, [5.5]);
    /// # Ok::<(), ascribe::kernels::KernelError>(())
    /// ```
    pub fn add_forms(
        self,
        rows: StridedRows<'_>,
        parts: &[BilinearPart<'_>],
        out: &mut [f64],
    ) -> Result<(), KernelError> {
        check_matrix("forms", out.len(), rows.count, true)?;
        if rows.count == 0 {
            return Ok(());
        }
        let before = (rows.count - 1).saturating_mul(rows.stride);
        for part in parts {
            for (first, width) in [(part.left, part.matrix.columns()), (part.right, part.matrix.depth())] {
                let needed = before.saturating_add(first).saturating_add(width);
                check_matrix("rows of vectors", rows.values.len(), needed, false)?;
            }
        }
        match self.backend {
            Backend::Scalar => bilinear::add_forms(Scalar, rows, parts, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.add_forms(rows, parts, out),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.add_forms(rows, parts, out),
        }
        Ok(())
    }

    /// Puts GELU(x) = x (1 + erf(x / sqrt 2)) / 2 in place of each x, to 4e-7 max(1, |x|).
    ///
    /// # References
    /// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
    ///
    /// ```
    /// # use ascribe::kernels::Kernels;
    /// let mut values = [0.0, 1.0, -10.0];
    /// Kernels::best().gelu(&mut values);
    /// assert!(values[0] == 0.0 && (values[1] - 0.841_344_7).abs() < 1e-6 && values[2].abs() < 4e-6);
    /// ```
    pub fn gelu(self, values: &mut [f32]) {
        match self.backend {
            Backend::Scalar => dense::gelu(Scalar, values),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.gelu(values),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.gelu(values),
        }
    }

    /// Puts x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 in place of each x, to 4e-7 max(1, |x|).
    ///
    /// # References
    /// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2: the approximation that some models were
    /// trained with.
    pub fn gelu_tanh(self, values: &mut [f32]) {
        match self.backend {
            Backend::Scalar => dense::gelu_tanh(Scalar, values),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.gelu_tanh(values),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.gelu_tanh(values),
        }
    }

    /// Puts exp(scale x_j) / sum of exp(scale x_i) in place of each x_j of one row; `scale` is positive.
    ///
    /// ```
    /// # use ascribe::kernels::Kernels;
    /// let mut row = [0.0, 3.0_f32.ln()];
    /// Kernels::best().softmax(&mut row, 1.0);
    /// assert!((row[0] - 0.25).abs() < 1e-6 && (row[1] - 0.75).abs() < 1e-6);
    /// ```
    pub fn softmax(self, row: &mut [f32], scale: f32) {
        if row.is_empty() {
            return;
        }
        match self.backend {
            Backend::Scalar => dense::softmax(Scalar, row, scale),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.softmax(row, scale),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.softmax(row, scale),
        }
    }

    /// Puts (x - mean) / sqrt(variance + epsilon) * gain + shift in place of each row of x = `values` + `residual`, rows
    /// of `gain.len()` values. An empty `residual` adds nothing.
    ///
    /// # Errors
    /// A length does not fit the others; `values` is unchanged.
    ///
    /// # References
    /// Ba, Kiros and Hinton, "Layer Normalization", 2016, section 3.
    pub fn layer_norm(
        self,
        values: &mut [f32],
        residual: &[f32],
        gain: &[f32],
        shift: &[f32],
        epsilon: f32,
    ) -> Result<(), KernelError> {
        check_matrix("shift", shift.len(), gain.len(), true)?;
        check_matrix("rows", values.len(), values.len() / gain.len().max(1) * gain.len(), true)?;
        if !residual.is_empty() {
            check_matrix("residual", residual.len(), values.len(), true)?;
        }
        match self.backend {
            Backend::Scalar => dense::layer_norm(Scalar, values, residual, gain, shift, epsilon),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(lanes) => lanes.layer_norm(values, residual, gain, shift, epsilon),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512(lanes) => lanes.layer_norm(values, residual, gain, shift, epsilon),
        }
        Ok(())
    }
}
