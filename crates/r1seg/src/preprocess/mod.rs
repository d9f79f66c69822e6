//! How a volume becomes a model's input: its intensities and its orientation.

mod recipe;

use r1seg_diagnostic::Remedy;
use r1seg_volume::intensity::min_max;
use r1seg_volume::{AxisMap, Orient, Orientation, Prepared, Volume, Warning};

use crate::slices::SliceMaterial;
use crate::{Error, Preprocess};

pub use recipe::Recipe;

/// A volume after its recipe.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) recipe: Recipe,
    /// In which the model sees it; `None` where that is not known.
    pub(crate) orientation: Option<Orientation>,
    /// What the model reads beside it.
    pub(crate) slices: Option<SliceMaterial>,
    prepared: Prepared,
    /// From the stored axes to those that the model sees.
    axes: AxisMap,
    warnings: Vec<Warning>,
}

/// Applies a recipe, or the one that the volume's values ask for, and turns the axes to the orientation
/// that the model is to see, that of the recipe unless it is given. `trained_on` is the orientation of a model that has seen only one.
///
/// # Errors
/// When the volume cannot be prepared.
pub(crate) fn prepare(
    volume: &Volume,
    preprocess: Preprocess,
    orient: Option<Orient>,
    trained_on: Option<Orientation>,
) -> Result<Preparation, Error> {
    let geometry = volume.geometry();
    let (recipe, unlike_hu) = match preprocess {
        Preprocess::Recipe(recipe) => (recipe, None),
        Preprocess::Auto => Recipe::auto(volume),
    };
    let seen = orient.unwrap_or(recipe.orient());
    let (axes, orientation) = (seen.axes(geometry)?, seen.orientation_of(geometry));
    let known = orientation.filter(|_| !geometry.has_guessed_sides());
    let doubt = known.and_then(|seen| seen.doubt(trained_on));
    let mut warnings: Vec<Warning> = doubt.into_iter().chain(unlike_hu).collect();
    let prepared = recipe.apply(volume, orient)?;
    if let Some((low, high)) = min_max(volume.voxels()).filter(|_| recipe == Recipe::None) {
        if low < 0.0 || 1.0 < high {
            let text = format!("values span {low}..{high}, but recipe `none` expects 0..1");
            warnings.push(Warning::new("W-RANGE", text).with_remedy(Remedy::UseRecipe));
        }
        if high <= low {
            let text = format!("no voxel stands out: all of them are {low}, and become 0");
            warnings.push(Warning::new("W-CONST", text));
        }
    }
    warnings.extend(prepared.warnings().iter().cloned());
    Ok(Preparation { recipe, orientation, slices: None, prepared, axes, warnings })
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

#[cfg(test)]
mod tests {
    use r1seg_volume::{Geometry, Region};

    use super::*;

    #[test]
    fn every_recipe_tells_of_a_constant_volume() {
        let v = Volume::new(vec![-1024_i16; 64], Geometry::without_affine([4; 3])).unwrap();
        for recipe in [Recipe::None, Recipe::M3dSeg, Recipe::M3dCap, Recipe::M3dRefSeg] {
            let prepared = prepare(&v, Preprocess::Recipe(recipe), None, None).unwrap();
            let warnings = prepared.warnings(None);
            let warning = warnings.iter().find(|warning| warning.code == "W-CONST").unwrap();
            let text = "no voxel stands out: all of them are -1024, and become 0";
            assert_eq!((&*warning.text, prepared.crop()), (text, Region::whole([4; 3])));
        }
        let zeros = Recipe::Window { level: 40.0, width: 400.0 };
        let prepared = zeros.apply(&v, None).unwrap();
        assert_eq!(
            prepared.warnings()[0].text,
            "no voxel stands out: all of them are -160 or less, and become 0"
        );
    }

    #[test]
    fn a_model_sees_the_orientation_of_its_recipe_unless_another_one_is_asked_for() {
        let affine = [
            [0.0, -3.0, 0.0, 9.0],
            [-2.0, 0.0, 0.0, 8.0],
            [0.0, 0.0, 4.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let geometry = Geometry::with_affine([4, 6, 8], affine).unwrap();
        let v = Volume::new((0..192).collect::<Vec<i16>>(), geometry).unwrap();
        let seen = |recipe, orient| {
            let prepared = prepare(&v, Preprocess::Recipe(recipe), orient, None).unwrap();
            prepared.orientation.unwrap().to_string()
        };
        let lps = Some(Orient::To(Orientation::LPS));
        for (recipe, own) in [(Recipe::M3dSeg, "PLS"), (Recipe::SamMed3d, "RAS")] {
            assert_eq!(seen(recipe, None), own);
            assert_eq!(seen(recipe, Some(Orient::Stored)), "PLS");
            assert_eq!(seen(recipe, lps), "LPS");
        }
        let doubtful = |orient| {
            let sam = Preprocess::Recipe(Recipe::SamMed3d);
            let prepared = prepare(&v, sam, orient, Some(Orientation::RAS)).unwrap();
            prepared.warnings(None).iter().any(|warning| warning.code == "W-ORIENT")
        };
        assert_eq!((doubtful(None), doubtful(lps)), (false, true));
    }
}
