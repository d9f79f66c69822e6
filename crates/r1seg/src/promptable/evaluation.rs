//! The evaluation of SAM-Med3D's authors: clicks drawn from where a mask and the truth differ.

use r1seg_volume::{Mask, NearestMode, Region, Warning};

use super::PromptableVolume;
use super::encoded::{Found, PromptRun};
use super::simulate::{Click, RandomState, next_click};
use super::target::{Target, TargetPoint, signed};
use super::zoom::box_of;
use crate::encoded::not_clicked_in_crops;
use crate::{Error, Outcome, Prompt, PromptPoint, RunContext};

/// What simulated clicks came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Simulated {
    /// What the last click came to.
    pub outcome: Outcome,
    /// The clicks, in cells of the crop along the axes of the model: x, y, z.
    pub clicks: Vec<Click>,
    /// The clicks as voxels of the input, but for those in the padding of the crop. It leads to nearly
    /// the same mask: a voxel and a cell are not the same place.
    pub prompt: Prompt,
}

impl PromptableVolume {
    /// As [`EncodedVolume::simulate_clicks`](crate::EncodedVolume::simulate_clicks).
    pub(super) fn evaluate(
        &self,
        truth: &Mask,
        clicks: usize,
        random: &mut RandomState,
        context: &mut RunContext<'_>,
    ) -> Result<Simulated, Error> {
        let (map, size) = (&self.setup.map, self.setup.grid);
        self.setup.geometry.check_same_grid(truth.geometry())?;
        if clicks == 0 {
            return Err(Error::Prompt {
                message: "no click was asked for".to_string(),
                fix: "ask for one or more",
            });
        }
        if !self.looks_at_crops() {
            return Err(not_clicked_in_crops(self.setup.family));
        }
        let seen = map.gather(truth.data(), NearestMode::Nearest)?;
        let mut run = PromptRun::new(self, context);
        let Some(region) = box_of(&seen, map.shape(), Region::whole(map.shape())) else {
            return run.lost("the truth is too small to be seen at the model's spacing");
        };
        let mut target = Target { center: Some(region), ..Target::default() };
        let start = target.crop(size);
        let of_crop = map.clone().windowed(start, size);
        let truth = of_crop.gather(truth.data(), NearestMode::Nearest)?;
        let to_input = of_crop.inverse();
        let (mut mask, mut clicked) = (vec![0; truth.len()], None);
        let (mut simulated, mut prompt) = (Vec::with_capacity(clicks), Prompt::default());
        for _ in 0..clicks {
            let Some(click) = next_click(&mask, &truth, size, random) else { break };
            let Click { cell, positive } = click;
            simulated.push(click);
            if let Some(voxel) = to_input.cell_of(cell) {
                prompt = prompt.with_point(PromptPoint { voxel, positive });
            }
            let cell = signed(cell);
            let cell = std::array::from_fn(|n| cell[n].saturating_add(start[n]));
            target.points.push(TargetPoint { cell, positive });
            let next = run.click(&Prompt::default(), &target, clicked.as_ref(), false)?;
            mask = next.mask(self)?;
            clicked = Some(next);
        }
        let Some(clicked) = clicked else {
            return run.lost("the crop around the middle of the truth shows none of it");
        };
        let found = run.found(&Prompt::default(), &clicked, &target)?;
        Ok(Simulated { outcome: run.outcome(found)?, clicks: simulated, prompt })
    }
}

impl PromptRun<'_, '_> {
    /// Nothing was segmented, as in the authors' code, but not in silence.
    fn lost(self, why: &str) -> Result<Simulated, Error> {
        let found = Found {
            mask: vec![0; self.volume.setup.geometry.voxels()],
            windows: 0,
            zoomed: None,
            warnings: vec![Warning::new("W-LOST", format!("{why}: nothing was segmented"))],
        };
        let outcome = self.outcome(found)?;
        Ok(Simulated { outcome, clicks: Vec::new(), prompt: Prompt::default() })
    }
}
