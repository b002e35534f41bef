//! From a device as users name it to the library's.

use super::super::{Device, DeviceError};

/// Opens `device`.
///
/// # Errors
/// The build has no CUDA, or the machine no such GPU.
pub(super) fn open_device(device: Device) -> Result<candle_core::Device, DeviceError> {
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => super::cuda::open_gpu(number),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(DeviceError::NotBuilt { device }),
    }
}
