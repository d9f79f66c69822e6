//! How a volume becomes a model's input: its intensities and its orientation.

use r1seg_volume::intensity::min_max;
use r1seg_volume::{AxisMap, Orient, Orientation, Prepared, Recipe, Volume, Warning};

use crate::{Error, Preprocess};

/// A volume after its recipe.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) recipe: Recipe,
    /// In which the model sees it; `None` where that is not known.
    pub(crate) orientation: Option<Orientation>,
    prepared: Prepared,
    /// From the stored axes to those that the model sees.
    axes: AxisMap,
    warnings: Vec<Warning>,
}

/// Applies a recipe, or the one that the volume's values ask for, and turns the axes to the orientation
/// that the model is to see. `trained_on` is the orientation of a model that has seen only one.
///
/// # Errors
/// When the volume cannot be prepared.
pub(crate) fn prepare(
    volume: &Volume,
    preprocess: Preprocess,
    orient: Orient,
    trained_on: Option<Orientation>,
) -> Result<Preparation, Error> {
    let geometry = volume.geometry();
    let (axes, orientation) = (orient.axes(geometry)?, orient.seen(geometry));
    let known = orientation.filter(|_| !geometry.has_guessed_sides());
    let mut warnings: Vec<Warning> =
        known.and_then(|seen| seen.doubt(trained_on)).into_iter().collect();
    let recipe = match preprocess {
        Preprocess::Recipe(recipe) => recipe,
        Preprocess::Auto => {
            let (recipe, warning) = Recipe::auto(volume);
            warnings.extend(warning);
            recipe
        }
    };
    if recipe == Recipe::None
        && let Some((low, high)) = min_max(volume.voxels()).filter(|(l, h)| *l < 0.0 || 1.0 < *h)
    {
        let text = format!("values span {low}..{high}, but recipe `none` expects 0..1");
        warnings.push(Warning::new("W-RANGE", text).with_fix("use --preprocess auto"));
    }
    let prepared = recipe.apply(volume)?.reoriented(axes);
    warnings.extend(prepared.warnings().iter().cloned());
    Ok(Preparation { recipe, orientation, prepared, axes, warnings })
}

impl Preparation {
    /// What a person should know; `grid` is what the volume was resized to, if it was.
    pub(crate) fn warnings(&self, grid: Option<[usize; 3]>) -> Vec<Warning> {
        let mut warnings = self.warnings.clone();
        let shape = self.prepared.shape();
        if let Some(grid) = grid.filter(|grid| self.recipe == Recipe::None && shape != *grid) {
            // Along the axes of the file, as everything that is said about a volume.
            let ijk = |shape| {
                let [d, h, w] = self.axes.inverse().shape(shape);
                format!("{w} x {h} x {d}")
            };
            let (shape, grid) = (ijk(shape), ijk(grid));
            let text = format!("the volume of {shape} voxels (i, j, k) was resized to {grid}");
            warnings.push(Warning::new("W-GRID", text));
        }
        warnings
    }
}

impl std::ops::Deref for Preparation {
    type Target = Prepared;

    fn deref(&self) -> &Prepared {
        &self.prepared
    }
}
