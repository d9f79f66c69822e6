//! Where to compute: a device by name, opened, and proven to run what this build brings.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(any(feature = "cuda", test))]
mod kernels;

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::Error;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or_else(
                    || Error::BadChoice {
                        what: "device",
                        value: text.to_string(),
                        expected: "auto, cpu, cuda or cuda:N",
                    },
                )
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// A device that can compute.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// Why it is the CPU, where [`DeviceChoice::Auto`] would have had a GPU.
    pub(crate) fallback: Option<Error>,
}

impl DeviceChoice {
    /// # Errors
    /// [`Error::DeviceUnavailable`] when a CUDA device was chosen by name and cannot be used, and
    /// [`Error::DeviceUnfit`] when this build is for other devices or drivers.
    pub(crate) fn open(self) -> Result<Opened, Error> {
        match self {
            Self::Cpu => Ok(Opened { device: Device::Cpu, fallback: None }),
            Self::Auto => Ok(or_cpu(cfg!(feature = "cuda").then(|| cuda(0)))),
            Self::Cuda(n) => Ok(Opened { device: cuda(n)?, fallback: None }),
        }
    }
}

/// A device as [`DeviceChoice`] spells it.
pub(crate) fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_string(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The GPU that was tried, or the CPU and the reason.
fn or_cpu(tried: Option<Result<Device, Error>>) -> Opened {
    match tried {
        Some(Ok(device)) => Opened { device, fallback: None },
        Some(Err(error)) => Opened { device: Device::Cpu, fallback: Some(error) },
        None => Opened { device: Device::Cpu, fallback: None },
    }
}

#[cfg(feature = "cuda")]
use cuda::open as cuda;

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize) -> Result<Device, Error> {
    Err(Error::DeviceUnavailable {
        device: DeviceChoice::Cuda(ordinal).to_string(),
        reason: "this r1seg was built without CUDA".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_fails_leaves_the_cpu_and_the_reason() {
        let reason = "CUDA_ERROR_NO_DEVICE".to_string();
        let error = Error::DeviceUnavailable { device: "cuda:0".to_string(), reason };
        let opened = or_cpu(Some(Err(error)));
        assert!(opened.device.is_cpu());
        assert_eq!(opened.fallback.map(|error| error.code()), Some("R-DEV-01"));
        assert!(or_cpu(None).fallback.is_none(), "a build without CUDA tried nothing");
    }
}
