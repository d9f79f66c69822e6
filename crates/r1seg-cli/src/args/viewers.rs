//! How sessions of plug-ins for viewers are held.

use std::time::Duration;

use clap::Args;
use r1seg::InferenceMode;
use r1seg_server::{ViewerAxes, ViewerSessions};

use super::segment::mode;
use super::serve::duration;
use super::volume::spacing;

#[derive(Debug, Args)]
#[command(next_help_heading = "Sessions of nnInteractive's plug-ins")]
pub(crate) struct ViewerArgs {
    /// How many there may be at a time.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_sessions: u16,
    /// How long one is kept after its user last did something.
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
    session_idle: Duration,
    /// How long one is kept without a sign of life from its viewer; at least 10s, since plug-ins send one
    /// every 5 s at most often.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    session_liveness: Duration,
    /// The directions in the body that the three axes of an image grow to, which viewers do not send: SAR is
    /// superior, anterior, right. It matters to models that were trained on one orientation.
    #[arg(long, default_value_t, value_name = "AXES", value_parser = axes)]
    viewer_axes: ViewerAxes,
    /// Size of a voxel in mm along these axes, for images that come without one: --viewer-spacing
    /// 5,0.8,0.8 [default: none, so that models that need one refuse such an image].
    #[arg(long, value_name = "A,B,C", value_parser = spacing)]
    viewer_spacing: Option<[f64; 3]>,
    /// The inference mode, as for `segment --mode` [default: the model's own].
    #[arg(long, value_name = "resize|zoom|crop|grow", value_parser = mode)]
    viewer_mode: Option<InferenceMode>,
}

fn axes(text: &str) -> Result<ViewerAxes, String> {
    text.parse().map_err(|error: r1seg::Error| error.to_string())
}

impl ViewerArgs {
    pub(crate) fn sessions(&self) -> ViewerSessions {
        let mut sessions = ViewerSessions::default();
        sessions.max_sessions = self.max_sessions.into();
        sessions.idle = self.session_idle;
        sessions.liveness = self.session_liveness;
        sessions.axes = self.viewer_axes;
        sessions.spacing_mm = self.viewer_spacing;
        sessions.mode = self.viewer_mode;
        sessions
    }
}
