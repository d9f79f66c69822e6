//! Which way the axes of an array run through the patient, and through a picture.
//!
//! Pictures follow the radiological convention: they show the patient from the feet, from
//! the front and from the left, so that the screen runs from right to left, from anterior
//! to posterior and from superior to inferior: always against the RAS+ axes.

/// Steps that no scanner makes tell of a broken header.
const STEPS_MM: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// The array axes of unknown geometry are taken as those of most CTs: D upwards, H to the
/// back and W to the patient's left, all steps alike.
const UNKNOWN: Anatomy = Anatomy {
    axes: [
        BodyAxis { axis: 2, along: false, step_mm: 1.0 },
        BodyAxis { axis: 1, along: false, step_mm: 1.0 },
        BodyAxis { axis: 0, along: true, step_mm: 1.0 },
    ],
    tilt_degrees: 0.0,
    is_known: false,
};

/// The array axes matched to the right-left, anterior-posterior and superior-inferior axes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Anatomy {
    /// In the order of the world: R, A, S.
    axes: [BodyAxis; 3],
    /// The largest angle between an array axis and the world axis that it is matched to.
    pub(super) tilt_degrees: f64,
    /// Whether the array's place in the world is known.
    pub(super) is_known: bool,
}

/// The array axis that runs along an axis of the world.
#[derive(Debug, Clone, Copy, PartialEq)]
struct BodyAxis {
    /// 0, 1, 2: D, H, W.
    axis: usize,
    /// Whether its index grows to R, A or S, rather than to L, P or I.
    along: bool,
    step_mm: f64,
}

impl Anatomy {
    /// Matches each array axis to the world axis that it follows most closely; two never
    /// share one. `axes` are the world steps (RAS+ mm) of a voxel along D, H and W.
    pub(super) fn new(axes: Option<[[f64; 3]; 3]>) -> Self {
        axes.and_then(Self::matched).unwrap_or(UNKNOWN)
    }

    fn matched(axes: [[f64; 3]; 3]) -> Option<Self> {
        let steps_mm = axes.map(|step| step.iter().map(|mm| mm * mm).sum::<f64>().sqrt());
        if !steps_mm.iter().all(|mm| STEPS_MM.contains(mm)) {
            return None;
        }
        let cosine = |axis: usize, world: usize| axes[axis][world] / steps_mm[axis];
        let fit = |order: &[usize; 3]| -> f64 {
            (0..3).map(|world| cosine(order[world], world).abs()).product()
        };
        // The array axes along R, A and S, the most common order first, which wins a tie.
        let orders = [[2, 1, 0], [2, 0, 1], [1, 2, 0], [1, 0, 2], [0, 2, 1], [0, 1, 2]];
        let best = orders.iter().rev().max_by(|a, b| fit(a).total_cmp(&fit(b)))?;
        if fit(best) <= 0.0 {
            return None;
        }

        let matched = std::array::from_fn(|world| {
            let axis = best[world];
            BodyAxis { axis, along: cosine(axis, world) > 0.0, step_mm: steps_mm[axis] }
        });
        let tilts = (0..3).map(|world| cosine(best[world], world).abs().min(1.0).acos());
        let tilt_degrees = tilts.fold(0.0, f64::max).to_degrees();
        Some(Self { axes: matched, tilt_degrees, is_known: true })
    }

    /// The steps of a voxel along D, H and W; of unknown geometry all 1.
    pub(super) fn steps_mm(&self) -> [f64; 3] {
        let mut steps_mm = [1.0; 3];
        self.axes.iter().for_each(|axis| steps_mm[axis.axis] = axis.step_mm);
        steps_mm
    }

    /// The middle voxel, which is the same one however the array is stored.
    pub(super) fn middle(&self, shape: [usize; 3]) -> [usize; 3] {
        let mut middle = [0; 3];
        for axis in [0, 1, 2].map(|world| self.screen_axis(world, shape)) {
            middle[axis.axis] = axis.mirrored(axis.count / 2);
        }
        middle
    }

    /// The array's axis from superior to inferior.
    pub(super) fn downwards(&self, shape: [usize; 3]) -> ScreenAxis {
        self.screen_axis(2, shape)
    }

    /// The axes of a cut in an array of `shape` (`[D, H, W]`).
    pub(super) fn view(&self, plane: Plane, shape: [usize; 3]) -> View {
        let [across, down, through] = match plane {
            Plane::Axial => [0, 1, 2],
            Plane::Coronal => [0, 2, 1],
            Plane::Sagittal => [1, 2, 0],
        };
        View {
            across: self.screen_axis(across, shape),
            down: self.screen_axis(down, shape),
            through: self.axes[through].axis,
        }
    }

    fn screen_axis(&self, world: usize, shape: [usize; 3]) -> ScreenAxis {
        let BodyAxis { axis, along, step_mm } = self.axes[world];
        let letters = [['R', 'L'], ['A', 'P'], ['S', 'I']][world];
        ScreenAxis {
            axis,
            count: shape[axis],
            step_mm,
            is_reversed: along,
            letters: self.is_known.then_some(letters),
        }
    }
}

/// A cut through the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// Seen from the feet.
    Axial,
    /// Seen from the front.
    Coronal,
    /// Seen from the patient's left.
    Sagittal,
}

impl Plane {
    pub(super) const ALL: [Plane; 3] = [Plane::Axial, Plane::Coronal, Plane::Sagittal];

    pub(super) fn name(self) -> &'static str {
        match self {
            Plane::Axial => "axial",
            Plane::Coronal => "coronal",
            Plane::Sagittal => "sagittal",
        }
    }
}

/// How a cut lies on the screen.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// From left to right.
    pub(super) across: ScreenAxis,
    /// From top to bottom.
    pub(super) down: ScreenAxis,
    /// The array axis that the cut is normal to.
    pub(super) through: usize,
}

impl View {
    /// The largest `[width, height]` in pixels within `limit` that has the true aspect ratio.
    pub(super) fn size_within(&self, limit: [usize; 2]) -> [usize; 2] {
        let lengths_mm = [self.across.length_mm(), self.down.length_mm()];
        if lengths_mm.contains(&0.0) || limit.contains(&0) {
            return [0, 0];
        }
        let pixels_per_mm = (limit[0] as f64 / lengths_mm[0]).min(limit[1] as f64 / lengths_mm[1]);
        std::array::from_fn(|i| {
            // A cast from float to integer saturates.
            ((lengths_mm[i] * pixels_per_mm).round() as usize).clamp(1, limit[i])
        })
    }
}

/// An array axis on the screen.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScreenAxis {
    /// 0, 1, 2: D, H, W.
    pub(super) axis: usize,
    /// Voxels along it.
    pub(super) count: usize,
    pub(super) step_mm: f64,
    /// Whether the first voxel on the screen is the last one of the array.
    pub(super) is_reversed: bool,
    /// What lies at its first and at its last end on the screen.
    pub(super) letters: Option<[char; 2]>,
}

impl ScreenAxis {
    /// The voxel at a position on the screen, or the position of a voxel.
    pub(super) fn mirrored(&self, index: usize) -> usize {
        if self.is_reversed { self.count.saturating_sub(index + 1) } else { index }
    }

    /// From the first edge of the first voxel to the last edge of the last one.
    pub(super) fn length_mm(&self) -> f64 {
        self.count as f64 * self.step_mm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oblique_axes_go_to_the_nearest_anatomical_ones() {
        let (sin, cos) = 20_f64.to_radians().sin_cos();
        let anatomy =
            Anatomy::new(Some([[0.0, 2.0 * sin, 2.0 * cos], [0.0, -cos, sin], [-0.5, 0.0, 0.0]]));
        assert!((anatomy.tilt_degrees - 20.0).abs() < 1e-9);
        let view = anatomy.view(Plane::Coronal, [5, 6, 7]);
        assert_eq!((view.across.axis, view.across.is_reversed), (2, false));
        assert_eq!((view.down.axis, view.down.is_reversed), (0, true));
        assert_eq!(view.through, 1);
        assert!((view.down.step_mm - 2.0).abs() < 1e-12);
    }

    #[test]
    fn axes_between_two_anatomical_ones_are_never_matched_to_the_same() {
        let anatomy = Anatomy::new(Some([[0.0, 0.0, 1.0], [0.6, -0.8, 0.0], [0.8, 0.9, 0.0]]));
        let mut axes = anatomy.axes.map(|axis| axis.axis);
        axes.sort_unstable();
        assert_eq!(axes, [0, 1, 2]);
    }

    #[test]
    fn middle_is_the_same_voxel_in_a_mirrored_array() {
        let axes = |sign: f64| Some([[0.0, 0.0, sign], [0.0, sign, 0.0], [sign, 0.0, 0.0]]);
        assert_eq!(Anatomy::new(axes(1.0)).middle([4, 5, 64]), [1, 2, 31]);
        assert_eq!(Anatomy::new(axes(-1.0)).middle([4, 5, 64]), [2, 2, 32]);
        assert_eq!(Anatomy::new(None).middle([0, 1, 2]), [0, 0, 1]);
    }

    #[test]
    fn broken_axes_are_unknown_geometry() {
        let good = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        assert!(Anatomy::new(Some(good)).is_known);
        for bad in [[0.0; 3], [f64::NAN, 0.0, 0.0], [f64::INFINITY; 3], [1e300; 3], [0.0, 0.0, 1.0]]
        {
            assert_eq!(Anatomy::new(Some([good[0], good[1], bad])), UNKNOWN);
        }
    }

    #[test]
    fn size_keeps_the_physical_aspect_ratio() {
        let axes = [[0.0, 0.0, 10.0], [0.0, -1.5, 0.0], [-1.5, 0.0, 0.0]];
        let view = |plane| Anatomy::new(Some(axes)).view(plane, [32, 256, 200]);
        assert_eq!(view(Plane::Axial).size_within([384, 384]), [300, 384]);
        assert_eq!(view(Plane::Coronal).size_within([300, 400]), [300, 320]);
        assert_eq!(view(Plane::Sagittal).size_within([384, 384]), [384, 320]);
    }

    #[test]
    fn size_of_a_single_slice_is_a_line_and_of_nothing_is_nothing() {
        let view = |shape| Anatomy::new(None).view(Plane::Coronal, shape);
        assert_eq!(view([1, 9, 4000]).size_within([300, 300]), [300, 1]);
        assert_eq!(view([0, 9, 9]).size_within([300, 300]), [0, 0]);
    }
}
