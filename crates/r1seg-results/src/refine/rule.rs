//! The rule by which what one model found becomes the prompt of another.

use std::sync::Arc;

use r1seg::registry::Family;
use r1seg::volume::{Geometry, Mask, Part, Region};
use r1seg::{
    Capabilities, Error, InferenceMode, Prompt, PromptKind, PromptPoint, Purpose, phrasing,
};

/// Where a model found something.
#[derive(Debug, Clone)]
pub enum FoundAt {
    /// A mask with voxels.
    Mask(Arc<Mask>),
    /// The box of an answer without a mask.
    Box(Region),
}

impl FoundAt {
    /// What a prompt got: its mask if that has voxels, else the first box of its answer, else nothing.
    pub fn of(mask: Option<Mask>, boxes: &[Region]) -> Option<Self> {
        match mask.filter(|mask| mask.data().iter().any(|voxel| *voxel != 0)) {
            Some(mask) => Some(Self::Mask(Arc::new(mask))),
            None => boxes.first().copied().map(Self::Box),
        }
    }
}

/// The model that refines.
#[derive(Debug, Clone, Copy)]
pub struct Second<'a> {
    /// Which of the models it is.
    pub family: Family,
    /// What its checkpoint takes: not every checkpoint of a family takes the same.
    pub takes: &'a Capabilities,
    /// How it looks at the volume.
    pub mode: InferenceMode,
}

/// The mode in which a model refines what another one found: the one that was chosen, or its own. To be
/// asked before anything is read. `takes` is what its checkpoint takes.
///
/// # Errors
/// [`Error::Prompt`] for a model that takes neither points nor boxes, in this mode or at all, nor classes;
/// [`Error::InvalidOption`] for a mode that it does not have.
pub fn refining_mode(
    family: Family,
    takes: &Capabilities,
    chosen: Option<InferenceMode>,
) -> Result<InferenceMode, Error> {
    let mode = family.mode(chosen)?;
    let anywhere = FoundAt::Box(Region::at([0; 3], [1; 3]));
    let geometry = Geometry::without_affine([1; 3]);
    let second = Second { family, takes, mode };
    let prompt = refining_prompt(&anywhere, &geometry, &second, None);
    match prompt.filter(|_| takes.purpose() == Purpose::Segment) {
        Some(prompt) => prompt.check(family, mode)?,
        // It draws the classes that questions name.
        None if takes.classes.is_some() => {}
        None => {
            return Err(Error::Prompt {
                message: format!(
                    "{} takes no points, boxes or masks, so it cannot refine",
                    family.name()
                ),
                fix: "refine with a model that takes points, boxes or masks, such as SAM-Med3D",
            });
        }
    }
    Ok(mode)
}

/// What a model is prompted with to draw again, at its own resolution, what another one found in a place.
///
/// | a model that takes | gets |
/// |---|---|
/// | a box | the box around the largest part of the mask, or the box of the answer, one voxel wider on each side and cut at the ends of the volume |
/// | points | one positive point: of the mask's largest part the voxel that is farthest from everything outside of it ([`Part::deepest`]), of a box its middle; beside a box only where the mode takes both |
/// | an earlier mask | the whole mask |
/// | a text | the organ that was asked for, if one was named, as `term` in the model's own sentence |
/// | classes | the class that `term` names, and nothing else; without one, the point alone |
///
/// Parts hang together by faces, edges and corners. A point so chosen is inside of the mask, where a
/// centroid need not be.
///
/// `None` for a model that takes none of these, or knows classes alone where `term` names none.
pub fn refining_prompt(
    place: &FoundAt,
    geometry: &Geometry,
    second: &Second<'_>,
    term: Option<&str>,
) -> Option<Prompt> {
    let Second { family, mode, .. } = *second;
    let takes = |kind| second.takes.takes(kind);
    if let (true, Some(term)) = (family.has_classes(), term) {
        return Some(Prompt::of_text(phrasing::sentence(family, term)));
    }
    let part = match place {
        FoundAt::Mask(mask) => Part::largest(mask),
        FoundAt::Box(_) => None,
    };
    let region = match (place, &part) {
        (FoundAt::Box(region), _) => *region,
        (FoundAt::Mask(_), Some(part)) => part.region(),
        (FoundAt::Mask(_), None) => Region::whole(geometry.shape()),
    };
    let mut prompt = Prompt::default();
    if takes(PromptKind::Box) {
        prompt = prompt.with_region(widened(region, geometry.shape()));
    }
    let both = prompt.region.is_none() || mode != InferenceMode::Zoom;
    if takes(PromptKind::Points) && both {
        let voxel = match &part {
            Some(part) => part.deepest(geometry),
            None => middle(region),
        };
        prompt = prompt.with_point(PromptPoint::positive(voxel));
    }
    // Beside a mask, points of a model with classes only correct it.
    let takes_mask = takes(PromptKind::Mask) && !family.has_classes();
    if let (true, FoundAt::Mask(mask)) = (takes_mask, place) {
        prompt = prompt.with_mask(Arc::clone(mask));
    }
    if let (true, Some(term)) = (takes(PromptKind::Text), term) {
        prompt.text = Some(phrasing::sentence(family, term));
    }
    (prompt != Prompt::default()).then_some(prompt)
}

/// One voxel wider on each side, within a volume of this shape.
fn widened(Region { start, end }: Region, shape: [usize; 3]) -> Region {
    Region {
        start: start.map(|n| n.saturating_sub(1)),
        end: std::array::from_fn(|n| end[n].saturating_add(1).min(shape[n])),
    }
}

/// The voxel in the middle; of two the one with the lower index.
fn middle(Region { start, end }: Region) -> [usize; 3] {
    std::array::from_fn(|n| start[n] + (end[n] - start[n]).saturating_sub(1) / 2)
}

#[cfg(test)]
mod tests {
    use r1seg::ClassTable;

    use super::*;

    const SHAPE: [usize; 3] = [4, 24, 24];

    fn geometry() -> Geometry {
        Geometry::with_spacing(SHAPE, [5.0, 0.8, 0.8]).unwrap()
    }

    /// Two arms that meet in a corner, a speck apart from them, and whether a voxel is in the arms.
    fn l() -> (FoundAt, impl Fn([usize; 3]) -> bool) {
        let is_in = |[z, y, x]: [usize; 3]| {
            (1..3).contains(&z) && (2..22).contains(&y) && (2..22).contains(&x) && (y < 5 || x < 5)
        };
        let at = |n: usize| [n / (24 * 24), n / 24 % 24, n % 24];
        let voxels = (0..4 * 24 * 24).map(|n| u8::from(is_in(at(n)) || at(n) == [3, 23, 23]));
        let mask = Mask::new(voxels.collect(), geometry()).unwrap();
        (FoundAt::of(Some(mask), &[]).unwrap(), is_in)
    }

    fn prompt(place: &FoundAt, family: Family, mode: InferenceMode, term: Option<&str>) -> Prompt {
        let second = Second { family, takes: family.capabilities(), mode };
        let prompt = refining_prompt(place, &geometry(), &second, term).unwrap();
        prompt.check(family, mode).unwrap();
        prompt.check_in(&geometry()).unwrap();
        prompt
    }

    #[test]
    fn a_model_of_points_gets_one_inside_of_an_l_whose_centroid_is_outside_and_the_mask() {
        let (place, is_in) = l();
        let prompt = prompt(&place, Family::SamMed3d, InferenceMode::Crop, Some("liver"));
        let [point] = prompt.points.as_slice() else { panic!("{prompt:?}") };
        assert!(point.positive && is_in(point.voxel), "{point:?}");
        assert!(!is_in([1, 7, 7]), "that is about where the centroid is");
        let FoundAt::Mask(mask) = &place else { panic!() };
        assert_eq!(prompt.mask.as_ref(), Some(mask));
        assert_eq!((prompt.region, prompt.text), (None, None));
    }

    #[test]
    fn a_model_of_boxes_gets_the_one_around_the_largest_part_a_voxel_wider() {
        let (place, _) = l();
        let found = prompt(&place, Family::SegVol, InferenceMode::Zoom, Some("liver"));
        let region = Region { start: [0, 1, 1], end: [4, 23, 23] };
        assert_eq!((found.region, found.text.as_deref()), (Some(region), Some("liver")));
        // In mode zoom, SegVol takes either points or a box.
        assert!(found.points.is_empty() && found.mask.is_none());
        let found = prompt(&place, Family::SegVol, InferenceMode::Resize, None);
        assert_eq!((found.region, found.points.len(), found.text), (Some(region), 1, None));
    }

    #[test]
    fn a_model_of_classes_gets_the_class_or_else_a_point() {
        let (place, is_in) = l();
        let (vista, sliding) = (Family::Vista3d, InferenceMode::Sliding);
        assert_eq!(prompt(&place, vista, sliding, Some("liver")), Prompt::of_text("liver"));
        let found = prompt(&place, vista, sliding, None);
        let [point] = found.points.as_slice() else { panic!("{found:?}") };
        assert!(point.positive && is_in(point.voxel), "{point:?}");
        assert_eq!((found.mask, found.text), (None, None));
    }

    #[test]
    fn a_model_of_everything_gets_the_box_the_point_and_the_mask() {
        let (place, _) = l();
        let prompt = prompt(&place, Family::NeuroSam3d, InferenceMode::Grow, None);
        assert!(prompt.region.is_some() && prompt.points.len() == 1 && prompt.mask.is_some());
    }

    #[test]
    fn a_box_of_an_answer_is_widened_within_the_volume_and_clicked_in_its_middle() {
        let region = Region { start: [0, 4, 20], end: [3, 8, 24] };
        let empty = Mask::new(vec![0; 4 * 24 * 24], geometry()).unwrap();
        assert!(
            FoundAt::of(Some(empty.clone()), &[]).is_none() && FoundAt::of(None, &[]).is_none()
        );
        let place = FoundAt::of(Some(empty), &[region]).unwrap();
        let sam = prompt(&place, Family::SamMed3d, InferenceMode::Crop, None);
        assert_eq!((sam.points[0].voxel, sam.mask, sam.region), ([1, 5, 21], None, None));
        let segvol = prompt(&place, Family::SegVol, InferenceMode::Zoom, None);
        assert_eq!(segvol.region, Some(Region { start: [0, 3, 19], end: [4, 9, 24] }));
    }

    #[test]
    fn a_checkpoint_that_takes_no_points_is_asked_for_classes_alone() {
        let (place, _) = l();
        let mut takes = *Family::Vista3d.capabilities();
        (takes.prompts, takes.classes) = (&[PromptKind::Text], Some(ClassTable::ctmr()));
        let mode = refining_mode(Family::Vista3d, &takes, None).unwrap();
        let second = Second { family: Family::Vista3d, takes: &takes, mode };
        let prompt = |term| refining_prompt(&place, &geometry(), &second, term);
        assert_eq!(prompt(Some("liver")), Some(Prompt::of_text("liver")));
        assert_eq!(prompt(None), None);
    }

    #[test]
    fn what_takes_no_place_cannot_refine() {
        for (family, mode, says) in [
            (Family::R1Seg3dSam, None, "cannot refine"),
            (Family::M3dLamed, None, "cannot refine"),
            (Family::M3dClip, None, "cannot refine"),
            (Family::SegVol, Some(InferenceMode::Sliding), "in windows"),
            (Family::SamMed3d, Some(InferenceMode::Zoom), "mode"),
        ] {
            let error = refining_mode(family, family.capabilities(), mode);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(says), "{family:?}: {error}");
        }
        let mode = |family: Family| refining_mode(family, family.capabilities(), None).unwrap();
        assert_eq!(mode(Family::SamMed3d), InferenceMode::Crop);
        assert_eq!(mode(Family::SegVol), InferenceMode::Zoom);
    }
}
