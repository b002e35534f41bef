//! Softmax, GELU and layer normalisation as one operation each, with gradients, on the processor in f32. The gradient
//! of the library's own fused operations is missing, which would cut a model in two without an error.

use std::f32::consts::FRAC_1_SQRT_2;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor, WithDType,
};

use crate::kernels::Kernels;

/// exp(x_j) / sum of exp(x_i) over the last dimension.
///
/// With y the result and g its gradient, that of x is y (g - sum of g_i y_i).
pub(super) struct FusedSoftmax;

/// x (1 + erf(x / sqrt 2)) / 2.
///
/// Its derivative is (1 + erf(x / sqrt 2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi).
pub(super) struct FusedGelu;

/// (x - mean) / sqrt(variance + epsilon) * gain + shift over the last dimension, x of n values.
///
/// With z = (x - mean) r, r = 1 / sqrt(variance + epsilon), and g the gradient of the result: that of the shift is the sum
/// of g over all rows, that of the gain the sum of g z, and that of x is r (h - mean of h - z mean of (h z)), h = g gain.
///
/// # References
/// Ba, Kiros and Hinton, "Layer Normalization", 2016, section 3.
pub(super) struct FusedLayerNorm {
    pub(super) epsilon: f32,
}

/// Gradient of [`FusedSoftmax`] from its result and the gradient of that.
struct SoftmaxGradient;

/// Gradient of [`FusedGelu`] from its argument and the gradient of its result.
struct GeluGradient;

/// Gradient of [`FusedLayerNorm`] for x, from x, the gain and the gradient of the result.
struct NormGradient {
    epsilon: f32,
}

/// Gradients of [`FusedLayerNorm`] for gain and shift, one after the other, from x and the gradient of the result.
struct GainAndShiftGradient {
    epsilon: f32,
}

/// Values of a contiguous f32 tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = f32::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => all.get(start..end).ok_or_else(|| Error::msg("a tensor beyond its storage")),
        None => Err(Error::msg("a fused function needs values that lie one after the other")),
    }
}

/// Length of the last dimension; at least 1, so that rows can be cut.
fn row_length(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1).max(1)
}

fn stored(values: Vec<f32>, layout: &Layout) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), layout.shape().clone()))
}

impl CustomOp1 for FusedSoftmax {
    fn name(&self) -> &'static str {
        "fused-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut result = values(storage, layout)?.to_vec();
        let kernels = Kernels::best();
        result.chunks_exact_mut(row_length(layout)).for_each(|row| kernels.softmax(row, 1.0));
        stored(result, layout)
    }

    fn bwd(&self, _argument: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        result.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &SoftmaxGradient).map(Some)
    }
}

impl CustomOp2 for SoftmaxGradient {
    fn name(&self) -> &'static str {
        "fused-softmax-gradient"
    }

    fn cpu_fwd(
        &self,
        result: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (result, gradient) = (values(result, layout)?, values(gradient, gradient_layout)?);
        let mut out = vec![0.0; result.len()];
        let length = row_length(layout);
        let rows = result.chunks_exact(length).zip(gradient.chunks_exact(length));
        for (out, (y, g)) in out.chunks_exact_mut(length).zip(rows) {
            let inner = dot(y, g);
            for ((out, y), g) in out.iter_mut().zip(y).zip(g) {
                *out = y * (g - inner);
            }
        }
        stored(out, layout)
    }
}

impl CustomOp1 for FusedGelu {
    fn name(&self) -> &'static str {
        "fused-gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut result = values(storage, layout)?.to_vec();
        Kernels::best().gelu(&mut result);
        stored(result, layout)
    }

    fn bwd(&self, argument: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        argument.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &GeluGradient).map(Some)
    }
}

impl CustomOp2 for GeluGradient {
    fn name(&self) -> &'static str {
        "fused-gelu-gradient"
    }

    fn cpu_fwd(
        &self,
        argument: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (argument, gradient) = (values(argument, layout)?, values(gradient, gradient_layout)?);
        let out = argument.iter().zip(gradient).map(|(x, g)| g * gelu_derivative(*x)).collect();
        stored(out, layout)
    }
}

impl CustomOp3 for FusedLayerNorm {
    fn name(&self) -> &'static str {
        "fused-layer-norm"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut result = values(storage, layout)?.to_vec();
        let (gain, shift) = (values(gain, gain_layout)?, values(shift, shift_layout)?);
        Kernels::best()
            .layer_norm(&mut result, &[], gain, shift, self.epsilon)
            .map_err(|error| Error::msg(error.to_string()))?;
        stored(result, layout)
    }

    fn bwd(
        &self,
        argument: &Tensor,
        gain: &Tensor,
        _shift: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (argument, gradient) = (argument.contiguous()?, gradient.contiguous()?);
        let epsilon = self.epsilon;
        let inner = argument.apply_op3_no_bwd(&gain.contiguous()?, &gradient, &NormGradient { epsilon })?;
        let outer = argument.apply_op2_no_bwd(&gradient, &GainAndShiftGradient { epsilon })?;
        Ok((Some(inner), Some(outer.get(0)?), Some(outer.get(1)?)))
    }
}

impl CustomOp3 for NormGradient {
    fn name(&self) -> &'static str {
        "fused-layer-norm-gradient"
    }

    fn cpu_fwd(
        &self,
        argument: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (argument, gain) = (values(argument, layout)?, values(gain, gain_layout)?);
        let gradient = values(gradient, gradient_layout)?;
        let length = row_length(layout);
        let mut out = vec![0.0; argument.len()];
        let (mut inner, mut scaled) = (vec![0.0; length], vec![0.0; length]);
        let rows = argument.chunks_exact(length).zip(gradient.chunks_exact(length));
        for (out, (x, g)) in out.chunks_exact_mut(length).zip(rows) {
            let factor = standardise(x, self.epsilon, &mut scaled);
            for ((inner, g), gain) in inner.iter_mut().zip(g).zip(gain) {
                *inner = g * gain;
            }
            let mean = sum(&inner) / length as f32;
            let along = dot(&inner, &scaled) / length as f32;
            for ((out, inner), z) in out.iter_mut().zip(&inner).zip(&scaled) {
                *out = factor * (inner - mean - z * along);
            }
        }
        stored(out, layout)
    }
}

impl CustomOp2 for GainAndShiftGradient {
    fn name(&self) -> &'static str {
        "fused-gain-and-shift-gradient"
    }

    fn cpu_fwd(
        &self,
        argument: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (argument, gradient) = (values(argument, layout)?, values(gradient, gradient_layout)?);
        let length = row_length(layout);
        let mut sums = vec![0.0; 2 * length];
        let (gain, shift) = sums.split_at_mut(length);
        let mut scaled = vec![0.0; length];
        for (x, g) in argument.chunks_exact(length).zip(gradient.chunks_exact(length)) {
            standardise(x, self.epsilon, &mut scaled);
            for (((gain, shift), g), z) in gain.iter_mut().zip(shift.iter_mut()).zip(g).zip(&scaled) {
                *gain += g * z;
                *shift += g;
            }
        }
        Ok((CpuStorage::F32(sums), Shape::from((2, length))))
    }
}

/// Writes (x - mean) r to `out` and gives r = 1 / sqrt(variance + epsilon).
fn standardise(x: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    let mean = sum(x) / x.len() as f32;
    for (out, x) in out.iter_mut().zip(x) {
        *out = x - mean;
    }
    let factor = 1.0 / (dot(out, out) / x.len() as f32 + epsilon).sqrt();
    for out in out.iter_mut() {
        *out *= factor;
    }
    factor
}

/// Partial sums that a register can hold: one chain of additions would wait for itself.
const LANES: usize = 16;

fn sum(values: &[f32]) -> f32 {
    let (rows, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for row in rows {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left_rows, left_rest) = left.as_chunks::<LANES>();
    let (right_rows, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (left, right) in left_rows.iter().zip(right_rows) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

/// 1 / sqrt(2 pi).
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// Derivative of GELU. Branchless, so that it runs in vector registers; erf by the rational approximation of Abramowitz
/// and Stegun, which shares the one exponential: with z = |x| / sqrt 2 it is off by 1.5e-7 at most.
///
/// # References
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", formula 7.1.26.
fn gelu_derivative(x: f32) -> f32 {
    let power = exp_negative(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs() * FRAC_1_SQRT_2);
    let series =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let tail = 0.5 * series * power;
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    distribution + x * DENSITY_AT_ZERO * power
}

/// exp(x) for x <= 0, to 3e-7 of its value; below -87 it is that of -87.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2: 2^n, put together from its bits, times the Taylor polynomial of degree 6.
fn exp_negative(x: f32) -> f32 {
    let x = x.max(-87.0);
    // ln 2 in two parts, the first of few digits, so that its product with n is exact. Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let polynomial = 1.0
        + r * (1.0
            + r * (0.5
                + r * (0.166_666_67 + r * (0.041_666_668 + r * (0.008_333_334 + r * 0.001_388_888_9)))));
    polynomial * f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23))
}
