//! What a session holds: an image, its mask, what was asked for, and what can be taken back.

use std::sync::Arc;

use r1seg::volume::Mask;
use r1seg::{Clicks, Prompt};

use super::refusal::Refusal;
use super::target::{Change, Patch, Target};
use crate::cache::Cache;
use crate::shelf::Kept;
use crate::volumes::Stored;

/// Of one object: more than anybody clicks, and each keeps logits.
const MOST_POINTS: usize = 256;

/// The state of a session; the default has no image.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    image: Option<Image>,
    target: Option<Target>,
    /// What was run.
    clicks: Clicks,
    /// What waits to be run.
    pending: Prompt,
    undo: Option<Undo>,
}

/// A volume of a session, whose end is the end of all that was made of it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) volume: Arc<Stored>,
    pub(super) cache: Arc<Cache>,
}

impl Drop for Image {
    fn drop(&mut self) {
        self.volume.wipe();
        self.cache.forget(&self.volume.content, self.volume.owner());
    }
}

/// How it was before the last prompt.
#[derive(Debug)]
struct Undo {
    clicks: Clicks,
    pending: Prompt,
    /// What the mask had where it has changed since.
    before: Option<Patch>,
}

impl Workspace {
    /// Begins with an image, and forgets all else.
    pub(super) fn load(&mut self, image: Image) {
        *self = Self { image: Some(image), ..Self::default() };
    }

    pub(super) fn volume(&self) -> Result<&Arc<Stored>, Refusal> {
        let image = self.image.as_ref().ok_or(Refusal::new("no image was sent yet"))?;
        Ok(&image.volume)
    }

    pub(super) fn set_target(&mut self, target: Target) {
        self.target = Some(target);
        self.reset();
    }

    pub(super) fn target(&mut self) -> Result<&mut Target, Refusal> {
        self.target.as_mut().ok_or(Refusal::new("no target buffer was set yet"))
    }

    /// Begins another object.
    pub(super) fn reset(&mut self) {
        self.target.iter_mut().for_each(Target::clear);
        (self.clicks, self.pending, self.undo) = (Clicks::default(), Prompt::default(), None);
    }

    /// The plug-in has written something into its mask that is not in this one.
    pub(super) fn doubt(&mut self) {
        self.target.iter_mut().for_each(Target::doubt);
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending != Prompt::default()
    }

    /// What was run, and what would be run now.
    ///
    /// # Errors
    /// For more points than anybody clicks.
    pub(super) fn with(&self, more: Option<&Prompt>) -> Result<(Clicks, Prompt), Refusal> {
        let pending = self.pending.clone();
        let pending = more.map_or(pending.clone(), |more| pending.and(more.clone()));
        match self.clicks.prompt().points.len() + pending.points.len() {
            0..=MOST_POINTS => Ok((self.clicks.clone(), pending)),
            _ => Err(Refusal::new(format!(
                "an object takes {MOST_POINTS} points: reset, or go on with the next object"
            ))),
        }
    }

    /// Keeps a prompt for later.
    ///
    /// # Errors
    /// For more points than anybody clicks.
    pub(super) fn queue(&mut self, more: Prompt) -> Result<(), Refusal> {
        let (clicks, pending) = self.with(Some(&more))?;
        let earlier = std::mem::replace(&mut self.pending, pending);
        self.undo = Some(Undo { clicks, pending: earlier, before: None });
        Ok(())
    }

    /// Takes over what a model found. `is_prompt` unless it ran only what had waited, which is then a part
    /// of the prompt before it.
    ///
    /// # Errors
    /// For a mask of another size.
    pub(super) fn found(
        &mut self,
        clicks: Clicks,
        mask: Mask,
        is_prompt: bool,
    ) -> Result<Option<Patch>, Refusal> {
        let Change { now, before } = self.target()?.replace(mask.into_parts().0)?;
        let earlier = std::mem::replace(&mut self.clicks, clicks);
        let pending = std::mem::take(&mut self.pending);
        match &mut self.undo {
            // Prompts that waited changed nothing until now.
            Some(undo) if !is_prompt && undo.before.is_none() => undo.before = before,
            None if !is_prompt => {}
            // A prompt, or a mask to correct, which had changed the target before it was run.
            _ => self.undo = Some(Undo { clicks: earlier, pending, before }),
        }
        Ok(now)
    }

    /// Begins another object with a mask that is to be corrected, and that the plug-in has already.
    ///
    /// # Errors
    /// For a mask of another size.
    pub(super) fn seed(&mut self, mask: Arc<Mask>) -> Result<(), Refusal> {
        let Change { before, .. } = self.target()?.replace(mask.data().to_vec())?;
        let clicks = std::mem::take(&mut self.clicks);
        let seeded = Prompt::default().with_mask(mask);
        let pending = std::mem::replace(&mut self.pending, seeded);
        self.undo = Some(Undo { clicks, pending, before });
        Ok(())
    }

    /// Takes the last prompt back. Returns whether there was one, and what has changed.
    pub(super) fn undo(&mut self) -> (bool, Option<Patch>) {
        let Some(Undo { clicks, pending, before }) = self.undo.take() else { return (false, None) };
        (self.clicks, self.pending) = (clicks, pending);
        if let (Some(target), Some(before)) = (&mut self.target, &before) {
            target.restore(before);
        }
        (true, before)
    }
}

#[cfg(test)]
mod tests {
    use r1seg::PromptPoint;
    use r1seg::volume::Geometry;

    use super::*;
    use crate::compat::nninteractive::target::tests::target;

    const SHAPE: [usize; 3] = [4, 4, 4];

    fn workspace() -> Workspace {
        let mut workspace = Workspace::default();
        workspace.set_target(target(SHAPE));
        workspace
    }

    fn mask(voxels: &[usize]) -> Mask {
        let mut data = vec![0; 64];
        voxels.iter().for_each(|n| data[*n] = 1);
        Mask::new(data, Geometry::without_affine(SHAPE)).unwrap()
    }

    fn point(n: usize) -> Prompt {
        Prompt::default().with_point(PromptPoint::positive([n; 3]))
    }

    fn all(workspace: &mut Workspace) -> Vec<u8> {
        let target = workspace.target().unwrap();
        target.doubt();
        let empty = target.replace(vec![0; 64]).unwrap().before.unwrap().voxels;
        workspace.target().unwrap().replace(empty.clone()).unwrap();
        empty
    }

    #[test]
    fn a_prompt_is_taken_back_once() {
        let mut w = workspace();
        assert_eq!(w.undo(), (false, None));
        w.found(Clicks::default(), mask(&[1, 2]), true).unwrap();
        w.found(Clicks::default(), mask(&[2, 3]), true).unwrap();
        let (was, patch) = w.undo();
        assert!(was && patch.unwrap().voxels == [1, 1, 0]);
        assert_eq!(all(&mut w), mask(&[1, 2]).data());
        assert_eq!(w.undo(), (false, None));
    }

    #[test]
    fn prompts_that_wait_run_together_and_the_last_one_is_taken_back_with_their_mask() {
        let mut w = workspace();
        w.queue(point(0)).unwrap();
        w.queue(point(1)).unwrap();
        let (_, pending) = w.with(None).unwrap();
        assert_eq!(pending.points.len(), 2);
        w.found(Clicks::default(), mask(&[5]), false).unwrap();
        assert!(!w.has_pending());
        let (was, patch) = w.undo();
        assert!(was && patch.unwrap().voxels == [0]);
        assert_eq!(w.with(None).unwrap().1, point(0), "the first one waits again");
        // As with the publishers' server, what is run then cannot be taken back.
        w.found(Clicks::default(), mask(&[5]), false).unwrap();
        assert_eq!(w.undo(), (false, None));
    }

    #[test]
    fn a_prompt_that_waits_is_taken_back_without_a_change() {
        let mut w = workspace();
        w.queue(point(0)).unwrap();
        assert_eq!(w.undo(), (true, None));
        assert!(!w.has_pending());
    }

    #[test]
    fn a_mask_to_correct_begins_another_object_and_is_taken_back() {
        let mut w = workspace();
        w.found(Clicks::default(), mask(&[1]), true).unwrap();
        w.seed(Arc::new(mask(&[8, 9]))).unwrap();
        assert!(w.with(None).unwrap().1.mask.is_some());
        assert_eq!(all(&mut w), mask(&[8, 9]).data());
        assert!(w.undo().0);
        assert_eq!((all(&mut w).as_slice(), w.has_pending()), (mask(&[1]).data(), false));
        w.reset();
        assert_eq!(all(&mut w), [0; 64]);
    }

    #[test]
    fn a_mask_to_correct_that_was_run_is_there_again_when_that_is_taken_back() {
        let mut w = workspace();
        w.seed(Arc::new(mask(&[8, 9]))).unwrap();
        w.found(Clicks::default(), mask(&[9, 10]), false).unwrap();
        assert!(w.undo().0 && w.has_pending());
        assert_eq!(all(&mut w), mask(&[8, 9]).data());
    }

    #[test]
    fn an_object_takes_so_many_points() {
        let mut w = workspace();
        for _ in 0..MOST_POINTS {
            w.queue(point(0)).unwrap();
        }
        assert!(w.queue(point(0)).is_err());
        w.reset();
        w.queue(point(0)).unwrap();
        assert!(Workspace::default().volume().is_err() && Workspace::default().target().is_err());
    }
}
