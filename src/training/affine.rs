//! A linear layer with its gradients.
//!
//! Why not the library's product: it hands work to the threads of whatever pool it is called in, so that a training that
//! waits for its half of a product may begin another training meanwhile. These products stay on the calling thread, have
//! the same bits on every machine, and leave out the gradient of the features, which nobody wants.

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor, WithDType};

use crate::encoder::head_affine;
use crate::kernels::{Kernels, Panels, StridedOutput, StridedRows};

/// W x + b of each row: of `x` [rows, inputs] and [W b], [outputs, inputs + 1], as [rows, outputs].
pub(super) struct Affine {
    /// Whether the gradient for x is wanted.
    pub(super) passes_on: bool,
}

/// Gradient of [`Affine`] for [W b], from x and the gradient g of its result: [g^T x, sum of g].
struct WeightGradient;

/// Gradient of [`Affine`] for x, from the gradient g of its result and [W b]: g W.
struct InputGradient;

/// Rows and their length, of a contiguous f32 matrix.
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    width: usize,
}

fn matrix<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Matrix<'a>> {
    let (rows, width) = layout.shape().dims2()?;
    let all = f32::cpu_storage_as_slice(storage)?;
    let values = layout.contiguous_offsets().and_then(|(start, end)| all.get(start..end));
    let values =
        values.ok_or_else(|| Error::msg("a linear layer needs values that lie one after the other"))?;
    Ok(Matrix { values, rows, width })
}

fn stored(values: Vec<f32>, rows: usize, width: usize) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), (rows, width).into()))
}

impl CustomOp2 for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        values_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weights) = (matrix(values, values_layout)?, matrix(weights, weights_layout)?);
        let out = head_affine(x.values, weights.values, x.width, weights.rows).map_err(Error::wrap)?;
        stored(out, x.rows, weights.rows)
    }

    fn bwd(
        &self,
        values: &Tensor,
        weights: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let of_weights = values.contiguous()?.apply_op2_no_bwd(&gradient, &WeightGradient)?;
        if !self.passes_on {
            return Ok((None, Some(of_weights)));
        }
        let of_values = gradient.apply_op2_no_bwd(&weights.contiguous()?, &InputGradient)?;
        Ok((Some(of_values), Some(of_weights)))
    }
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "affine-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        values_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, g) = (matrix(values, values_layout)?, matrix(gradient, gradient_layout)?);
        let stride = x.width + 1;
        let mut transposed = vec![0.0; g.values.len()];
        for (row, values) in g.values.chunks_exact(g.width.max(1)).enumerate() {
            let column = transposed.iter_mut().skip(row).step_by(g.rows.max(1));
            column.zip(values).for_each(|(to, from)| *to = *from);
        }
        let mut panels = Panels::default();
        panels.pack_rows(x.values, x.width, x.width, x.rows);
        let mut out = vec![0.0; g.width * stride];
        let rows = StridedRows { values: &transposed, stride: g.rows, count: g.width };
        Kernels::best()
            .product(rows, &panels, None, StridedOutput { values: &mut out, stride })
            .map_err(Error::wrap)?;
        for (out, column) in out.chunks_exact_mut(stride).zip(transposed.chunks_exact(g.rows.max(1))) {
            if let Some(bias) = out.last_mut() {
                *bias = column.iter().sum();
            }
        }
        stored(out, g.width, stride)
    }
}

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "affine-input-gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (g, weights) = (matrix(gradient, gradient_layout)?, matrix(weights, weights_layout)?);
        let inputs = weights.width.saturating_sub(1);
        let mut panels = Panels::default();
        panels.pack_rows(weights.values, weights.width, inputs, weights.rows);
        let mut out = vec![0.0; g.rows * inputs];
        let rows = StridedRows { values: g.values, stride: g.width, count: g.rows };
        Kernels::best()
            .product(rows, &panels, None, StridedOutput { values: &mut out, stride: inputs })
            .map_err(Error::wrap)?;
        stored(out, g.rows, inputs)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::base::RandomStream;

    fn random(stream: &mut RandomStream, rows: usize, columns: usize) -> Var {
        let values: Vec<f32> = (0..rows * columns).map(|_| stream.unit() as f32 - 0.5).collect();
        Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn farthest(left: &Tensor, right: &Tensor) -> f32 {
        assert_eq!(left.dims(), right.dims());
        (left - right).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn results_and_gradients_are_those_of_the_library() {
        let mut stream = RandomStream::new(21);
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 2), (33, 20, 17)] {
            let (x, weights) = (random(&mut stream, rows, inputs), random(&mut stream, outputs, inputs + 1));
            let pull = random(&mut stream, rows, outputs);
            let one = Tensor::ones((rows, 1), DType::F32, &Device::Cpu).unwrap();
            let extended = Tensor::cat(&[x.as_tensor(), &one], 1).unwrap();
            let expected = extended.matmul(&weights.t().unwrap()).unwrap();
            let found = x.apply_op2(&weights, Affine { passes_on: true }).unwrap();
            assert!(farthest(&found, &expected) < 1e-5, "{rows} {inputs} {outputs}");
            let store = |result: &Tensor| (result * pull.as_tensor()).unwrap().sum_all().unwrap().backward();
            let (found, expected) = (store(&found).unwrap(), store(&expected).unwrap());
            for variable in [&x, &weights] {
                let pair = (found.get(variable).unwrap(), expected.get(variable).unwrap());
                assert!(farthest(pair.0, pair.1) < 1e-5, "{rows} {inputs} {outputs}");
            }
            let first = x.apply_op2(&weights, Affine { passes_on: false }).unwrap();
            let first = store(&first).unwrap();
            assert!(first.get(&x).is_none());
            assert_eq!(farthest(first.get(&weights).unwrap(), found.get(&weights).unwrap()), 0.0);
        }
    }
}
