use std::fmt;

use r1seg_diagnostic::Remedy;

/// Something a person should know about a volume that was nevertheless read or prepared.
///
/// Warnings are data, so that a report can list them; the library prints nothing.
/// The codes of this crate are listed in the crate documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// A stable code such as `W-GEOM`.
    pub code: &'static str,
    /// What was found and what was done about it: lowercase, no trailing period, no header text.
    pub text: String,
    /// What to do about it, where something can be done.
    pub remedy: Option<Remedy>,
}

impl Warning {
    /// A warning without a remedy.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), remedy: None }
    }

    /// The same warning with a remedy.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// `warning[CODE]: text`, on one line, without the remedy.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning[{}]: {}", self.code, self.text)
    }
}
