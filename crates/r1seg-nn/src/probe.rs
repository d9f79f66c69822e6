//! How a caller looks inside a forward pass without the model knowing why.

use candle_core::{Result, Tensor};

/// Receives named intermediate tensors of a forward pass.
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
}

/// Looks at nothing.
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
