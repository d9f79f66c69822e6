//! What loading did.

/// What loading did with every tensor of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors that the model reads.
    pub loaded: usize,
    /// Bytes of these in the files.
    pub bytes: u64,
    /// Bytes of those that each token of an answer reads: the language model's layers and its
    /// output.
    pub bytes_per_token: u64,
    /// Tensors that the model needs and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors that the checkpoint has and no model of its kind knows.
    pub unexpected: Vec<String>,
    /// Tensors of another shape or dtype than the configuration says: key, expected, found.
    pub misshaped: Vec<(String, String, String)>,
    /// Tensors that published checkpoints carry and the authors' code never uses.
    pub unused: Vec<String>,
}

impl LoadReport {
    /// Whether every tensor is accounted for.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }

    /// One line: how many of each, and the first five by name.
    pub fn summary(&self) -> String {
        let list = |what: &str, names: &[String]| {
            let first = names.iter().take(5).map(|n| format!("`{n}`")).collect::<Vec<_>>();
            let more = if names.len() > 5 { ", .." } else { "" };
            format!("{} {what} ({}{more})", names.len(), first.join(", "))
        };
        let misshaped: Vec<String> = self
            .misshaped
            .iter()
            .map(|(key, expected, found)| format!("{key}: expected {expected}, got {found}"))
            .collect();
        [("missing", &self.missing), ("unexpected", &self.unexpected), ("misshaped", &misshaped)]
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| list(what, names))
            .collect::<Vec<_>>()
            .join("; ")
    }
}
