//! NVIDIA GPUs. The binary links the driver's library, so that on a machine without driver it does not even start.

use super::super::{Device, DeviceError};

/// Opens the GPU of this number.
///
/// # Errors
/// The driver is a stub, too old, or sees no such GPU; or the GPU's memory is taken.
pub(super) fn open_gpu(number: usize) -> Result<candle_core::Device, DeviceError> {
    candle_core::Device::new_cuda(number).map_err(|error| DeviceError::Unavailable {
        device: Device::Cuda(number),
        // The library adds a trace in some builds: the first line says what the driver answered.
        reason: format!(
            "{}; \"nvidia-smi\" lists the GPUs that the driver sees, and --device cpu needs none",
            error.to_string().lines().next().unwrap_or("the driver refuses")
        ),
    })
}
