//! How sessions of viewers are held.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use r1seg::volume::Orientation;
use r1seg::{Error, InferenceMode};

/// Plug-ins send a sign of life every 5 s at most often.
const SHORTEST_LIVENESS: Duration = Duration::from_secs(10);

/// How sessions of nnInteractive's plug-ins are held.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ViewerSessions {
    /// Sessions at a time.
    pub max_sessions: usize,
    /// How long a session is kept after its user last did something.
    pub idle: Duration,
    /// How long a session is kept after its viewer was last heard of: 10 s at least.
    pub liveness: Duration,
    /// Where the axes of images run in the body, which viewers do not say.
    pub axes: ViewerAxes,
    /// Millimeters per voxel along the axes of an image, the first one first, where the viewer does not say
    /// it. Without them, models that need a spacing refuse such an image.
    pub spacing_mm: Option<[f64; 3]>,
    /// How the model looks at volumes, if not as its authors do.
    pub mode: Option<InferenceMode>,
}

impl Default for ViewerSessions {
    fn default() -> Self {
        Self {
            max_sessions: 3,
            idle: Duration::from_secs(600),
            liveness: Duration::from_secs(60),
            axes: ViewerAxes::default(),
            spacing_mm: None,
            mode: None,
        }
    }
}

impl ViewerSessions {
    /// Whether sessions can be held like this.
    ///
    /// # Errors
    /// [`crate::Error::Setting`].
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        let refused =
            |what, message: &str| Err(crate::Error::Setting { what, message: message.to_string() });
        if self.liveness < SHORTEST_LIVENESS {
            let message = "plug-ins are heard of every 5 s at most: 10 s are needed at least";
            return refused("liveness of sessions", message);
        }
        let is_length = |mm: &f64| mm.is_finite() && 0.0 < *mm;
        if self.spacing_mm.is_some_and(|mm| !mm.iter().all(is_length)) {
            return refused("spacing of images", "three numbers above 0 are needed");
        }
        match self.max_sessions {
            0 => refused("sessions", "one is needed at least"),
            _ => Ok(()),
        }
    }
}

/// The directions in the body that the three axes of an array grow to, the first axis first: `SAR` is
/// superior, anterior, right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerAxes(Orientation);

impl ViewerAxes {
    /// The same as directions of i, j and k, of which the last axis of an array is the first.
    pub fn orientation(self) -> Orientation {
        self.0
    }
}

/// `SAR`: what napari's reader of NIfTI makes of most files.
impl Default for ViewerAxes {
    fn default() -> Self {
        Self(Orientation::RAS)
    }
}

impl FromStr for ViewerAxes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let reversed: String = text.chars().rev().collect();
        // What is wrong is said about the text as it was given.
        let orientation = reversed.parse().or_else(|_| text.parse::<Orientation>())?;
        Ok(Self(orientation))
    }
}

impl fmt::Display for ViewerAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = self.0.to_string();
        codes.chars().rev().try_for_each(|code| write!(f, "{code}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_named_in_the_order_of_the_array() {
        let axes: ViewerAxes = "SPL".parse().unwrap();
        assert_eq!(axes.orientation(), Orientation::LPS);
        assert_eq!(
            (axes.to_string(), ViewerAxes::default().to_string()),
            ("SPL".into(), "SAR".into())
        );
        for wrong in ["", "SAS", "SA", "xyz", "SARS"] {
            let error = wrong.parse::<ViewerAxes>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }

    #[test]
    fn settings_that_no_plug_in_lives_with_are_refused() {
        let refused = |set: fn(&mut ViewerSessions)| {
            let mut settings = ViewerSessions::default();
            set(&mut settings);
            settings.check().map_err(|error| error.code()).err()
        };
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|s| s.liveness = Duration::from_secs(8)), Some("R-SRV-24"));
        assert_eq!(refused(|s| s.max_sessions = 0), Some("R-SRV-24"));
        assert_eq!(refused(|s| s.spacing_mm = Some([1.0, -1.0, 1.0])), Some("R-SRV-24"));
    }
}
