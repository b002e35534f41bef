//! The functions between products, in the form that suits the device.

use candle_core::{D, DType, Result, Tensor};

use super::configuration::BertActivation;
use super::fused::{FusedGelu, FusedLayerNorm, FusedSoftmax};

/// How the functions are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BertFunctions {
    /// One operation each, with its gradient: on the processor, in f32.
    Fused,
    /// Put together from differentiable operations: on every device, in every precision.
    Composed,
    /// One operation each, without gradient: on a GPU.
    Inference,
}

impl BertFunctions {
    /// exp(x_j) / sum of exp(x_i) over the last dimension.
    pub(super) fn softmax(self, values: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fused => values.contiguous()?.apply_op1(FusedSoftmax),
            Self::Inference => candle_nn::ops::softmax_last_dim(&values.contiguous()?),
            Self::Composed => {
                // The largest value only keeps exp in range: it has no part in the gradient.
                let largest = values.max_keepdim(D::Minus1)?.detach();
                let powers = values.broadcast_sub(&largest)?.exp()?;
                powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
            }
        }
    }

    /// The function of a feed-forward layer.
    pub(super) fn activate(self, activation: BertActivation, values: &Tensor) -> Result<Tensor> {
        match activation {
            BertActivation::Gelu if self == Self::Fused => values.contiguous()?.apply_op1(FusedGelu),
            BertActivation::Gelu => values.gelu_erf(),
            BertActivation::GeluTanh => values.gelu(),
            BertActivation::Relu => values.relu(),
        }
    }

    /// (x - mean) / sqrt(variance + epsilon) * gain + shift over the last dimension, in f32 whatever the precision.
    pub(super) fn layer_norm(
        self,
        values: &Tensor,
        gain: &Tensor,
        shift: &Tensor,
        epsilon: f64,
    ) -> Result<Tensor> {
        match self {
            Self::Fused => {
                values.contiguous()?.apply_op3(gain, shift, FusedLayerNorm { epsilon: epsilon as f32 })
            }
            Self::Inference => candle_nn::ops::layer_norm(&values.contiguous()?, gain, shift, epsilon as f32),
            Self::Composed => {
                let wide = values.to_dtype(DType::F32)?;
                let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
                let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
                let scaled = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
                scaled.to_dtype(values.dtype())?.broadcast_mul(gain)?.broadcast_add(shift)
            }
        }
    }
}
