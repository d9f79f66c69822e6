//! How a caller watches a forward pass, and stops it, without the network knowing why.

use std::fmt;

use candle_core::{Error, Result, Tensor};

/// Receives named intermediate tensors of a forward pass, and may end it.
pub trait Probe {
    /// Called once per named stage.
    ///
    /// # Errors
    /// What the implementation could not do with the tensor.
    fn record(&mut self, name: &str, tensor: &Tensor) -> Result<()>;

    /// Whether a stage that is computed for the record alone is worth computing.
    fn is_listening(&self) -> bool {
        true
    }

    /// Called between the parts of a network, none of which takes longer than a fraction of a second.
    ///
    /// # Errors
    /// [`Cancelled`] where the pass is to end.
    fn check_cancelled(&self) -> Result<()> {
        Ok(())
    }
}

/// Records nothing and never ends a pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn record(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    fn is_listening(&self) -> bool {
        false
    }
}

impl<P: Probe + ?Sized> Probe for &mut P {
    fn record(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        (**self).record(name, tensor)
    }

    fn is_listening(&self) -> bool {
        (**self).is_listening()
    }

    fn check_cancelled(&self) -> Result<()> {
        (**self).check_cancelled()
    }
}

/// `None` is [`NoProbe`].
impl<P: Probe> Probe for Option<P> {
    fn record(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        self.as_mut().map_or(Ok(()), |probe| probe.record(name, tensor))
    }

    fn is_listening(&self) -> bool {
        self.as_ref().is_some_and(Probe::is_listening)
    }

    fn check_cancelled(&self) -> Result<()> {
        self.as_ref().map_or(Ok(()), Probe::check_cancelled)
    }
}

/// Keeps every tensor that it is shown, in order.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Names and tensors, in the order in which they were computed.
    pub tensors: Vec<(String, Tensor)>,
}

impl Probe for Recording {
    fn record(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        self.tensors.push((name.to_string(), tensor.clone()));
        Ok(())
    }
}

/// The caller ended a forward pass. It travels as an error of the tensor library, in which
/// [`Cancelled::is_in`] finds it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        // Of candle's variants, this one keeps the type of what it wraps.
        Self::Io(std::io::Error::other(cancelled))
    }
}

impl Cancelled {
    /// Whether this is why an operation failed.
    pub fn is_in(error: &Error) -> bool {
        match error {
            Error::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<Self>()),
            Error::WithBacktrace { inner, .. }
            | Error::Context { inner, .. }
            | Error::WithPath { inner, .. } => Self::is_in(inner),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_cancelled_pass_is_told_from_a_failed_one() {
        let cancelled = Error::from(Cancelled);
        assert!(Cancelled::is_in(&cancelled));
        assert!(Cancelled::is_in(&cancelled.context("the encoder").with_path("ct.nii")));
        assert!(!Cancelled::is_in(&Error::msg("cancelled")));
        assert!(!Cancelled::is_in(&std::io::Error::other("cancelled").into()));
    }

    #[test]
    fn a_probe_that_may_be_missing_does_what_the_one_that_is_there_does() -> Result<()> {
        struct Stop;
        impl Probe for Stop {
            fn record(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
                Ok(())
            }

            fn check_cancelled(&self) -> Result<()> {
                Err(Cancelled.into())
            }
        }
        let tensor = Tensor::new(1f32, &Device::Cpu)?;
        let mut recording = Recording::default();
        let mut probe = Some(&mut recording);
        probe.record("stage", &tensor)?;
        assert!(probe.is_listening() && probe.check_cancelled().is_ok());
        assert_eq!(recording.tensors.len(), 1);
        let mut none: Option<Recording> = None;
        none.record("stage", &tensor)?;
        assert!(!none.is_listening() && none.check_cancelled().is_ok());
        assert!(Some(&mut Stop).check_cancelled().is_err());
        Ok(())
    }
}
