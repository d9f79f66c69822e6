//! Whoever does what the tools are called for.

use std::future::Future;

use crate::args::{AskVolume, InspectVolume, SegmentVolume};
use crate::results::{Inspected, Models, Outcome};
use crate::{Call, Failure};

/// Does what the tools are called for. Calls may come at the same time; whoever computes decides how many
/// run at once. A call that is [cancelled](Call::cancel) or whose future is dropped stops soon.
pub trait Desk: Send + Sync + 'static {
    /// What volumes and results are called here.
    fn hints(&self) -> Hints;

    /// The models that are served to the caller.
    fn list_models(&self, call: Call) -> impl Future<Output = Result<Models, Failure>> + Send;

    /// Looks at a volume.
    fn inspect_volume(
        &self,
        args: InspectVolume,
        call: Call,
    ) -> impl Future<Output = Result<Inspected, Failure>> + Send;

    /// Asks questions about a volume.
    fn ask_volume(
        &self,
        args: AskVolume,
        call: Call,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;

    /// Segments what texts, organs, points, boxes or masks say.
    fn segment_volume(
        &self,
        args: SegmentVolume,
        call: Call,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;

    /// Waits until calls that were cancelled have really ended, so that the process may.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What volumes and results are called, for the descriptions of the tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hints {
    /// What the argument `volume` is, such as "A path within /data." or "The id of an uploaded volume."
    pub volume: String,
    /// What `mask.file` of a target is.
    pub mask: String,
    /// Where results go.
    pub results: String,
}
