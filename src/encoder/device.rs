//! Where an encoder computes.

use std::fmt;

use thiserror::Error;

/// A processor or a GPU, as users name it: `cpu`, `cuda:0`.
///
/// ```
/// use ascribe::encoder::Device;
/// assert_eq!(Device::parse("cpu"), Ok(Device::Cpu));
/// assert_eq!(Device::parse("cuda:1")?.to_string(), "cuda:1");
/// assert!(Device::parse("tpu").is_err());
/// # Ok::<(), ascribe::encoder::DeviceError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The processor, with the threads of the store's pool.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, from 0.
    Cuda(usize),
}

/// A device that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A text that names no device.
    #[error("there is no device {text:?}: use cpu, or cuda:N for the NVIDIA GPU of number N, such as cuda:0")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// A GPU, in a build without CUDA.
    #[error(
        "device {device} needs a build with CUDA, and this one has none: build with --features cuda, or use --device cpu"
    )]
    NotBuilt {
        /// What was asked for.
        device: Device,
    },
    /// A GPU that this machine does not have or cannot use.
    #[error("device {device} cannot be used: {reason}")]
    Unavailable {
        /// What was asked for.
        device: Device,
        /// Why, and what to do.
        reason: String,
    },
}

impl Device {
    /// Reads `cpu`, `cuda` (the first GPU) or `cuda:N`.
    ///
    /// # Errors
    /// The text is none of them.
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { text: text.to_owned() };
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            // Digits only: a number would take a sign.
            Some(("cuda", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_back_as_they_are_written() {
        for text in ["cpu", "cuda:0", "cuda:15"] {
            assert_eq!(Device::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Device::parse("cuda"), Ok(Device::Cuda(0)));
        for text in ["", "CPU", "cuda:", "cuda:+1", "cuda:x", "cpu:0", "cuda:99999999999999999999999"] {
            let message = Device::parse(text).unwrap_err().to_string();
            assert!(message.contains("use cpu, or cuda:N"), "{message}");
        }
    }
}
