//! The six organs: names, labels, the questions taught about them, their atlas.

use std::fmt;

/// The question for a caption; the answer names the organs of the phantom.
pub const CAPTION_QUESTION: &str =
    "Can you provide a caption consists of findings for this medical image?";

/// An organ of the phantom: an ellipsoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Organ {
    /// Label 1, the largest.
    Liver,
    /// Label 2.
    Spleen,
    /// Label 3, at a large x: the patient's left is on the right of the picture.
    LeftKidney,
    /// Label 4, at a small x.
    RightKidney,
    /// Label 5, the brightest: a tube through all slices.
    Aorta,
    /// Label 6, in the lowest slices.
    Bladder,
}

impl Organ {
    /// All organs, in the order of their labels.
    pub const ALL: [Organ; 6] = [
        Organ::Liver,
        Organ::Spleen,
        Organ::LeftKidney,
        Organ::RightKidney,
        Organ::Aorta,
        Organ::Bladder,
    ];

    /// The name as the model reads and writes it, for example `left kidney`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Organ::Liver => "liver",
            Organ::Spleen => "spleen",
            Organ::LeftKidney => "left kidney",
            Organ::RightKidney => "right kidney",
            Organ::Aorta => "aorta",
            Organ::Bladder => "bladder",
        }
    }

    /// The value of the organ's voxels in the truth: `1..=6`.
    #[must_use]
    pub const fn label(self) -> u8 {
        match self {
            Organ::Liver => 1,
            Organ::Spleen => 2,
            Organ::LeftKidney => 3,
            Organ::RightKidney => 4,
            Organ::Aorta => 5,
            Organ::Bladder => 6,
        }
    }

    /// The organ with this [name](Organ::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Organ> {
        Organ::ALL.into_iter().find(|organ| organ.name() == name)
    }

    /// The organ in words that do not name it.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Organ::Liver => "The largest solid organ of the abdomen, which makes bile.",
            Organ::Spleen => "The organ on the left that filters blood and stores platelets.",
            Organ::LeftKidney => "The organ on the left that makes urine.",
            Organ::RightKidney => "The organ on the right that makes urine.",
            Organ::Aorta => "The largest artery of the body.",
            Organ::Bladder => "The hollow organ that stores urine.",
        }
    }

    /// Questions whose answer is this organ's mask: four that name it, then two that
    /// describe it.
    #[must_use]
    pub fn questions(self) -> Vec<String> {
        let (organ, description) = (self.name(), self.description());
        vec![
            format!("Can you segment the {organ} in this image?"),
            format!("Please segment the {organ} in this image."),
            format!("What is {organ} in this image? Please output the segmentation mask."),
            format!("Segment the {organ} and provide the mask, please."),
            format!("{description} Please answer and segment."),
            format!(
                "Description: {description} Please answer and segment based on the above description."
            ),
        ]
    }

    /// Where the organ lies before a phantom's own variation.
    pub(crate) const fn atlas(self) -> Atlas {
        let (center_zyx, radii_zyx, intensity) = match self {
            Organ::Liver => ([0.62, 0.42, 0.30], [0.30, 0.20, 0.19], 0.62),
            Organ::Spleen => ([0.66, 0.50, 0.76], [0.16, 0.12, 0.09], 0.56),
            Organ::LeftKidney => ([0.42, 0.62, 0.70], [0.16, 0.09, 0.07], 0.72),
            Organ::RightKidney => ([0.40, 0.62, 0.31], [0.16, 0.09, 0.07], 0.72),
            Organ::Aorta => ([0.50, 0.56, 0.52], [0.55, 0.035, 0.035], 0.88),
            Organ::Bladder => ([0.14, 0.40, 0.50], [0.13, 0.11, 0.12], 0.42),
        };
        Atlas { center_zyx, radii_zyx, intensity }
    }
}

impl fmt::Display for Organ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An organ's place and size as fractions of the volume, and its intensity.
pub(crate) struct Atlas {
    pub(crate) center_zyx: [f64; 3],
    pub(crate) radii_zyx: [f64; 3],
    pub(crate) intensity: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organ_labels_count_from_one_in_order() {
        assert_eq!(Organ::ALL.map(Organ::label), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn organ_names_lead_back_to_the_organ() {
        for organ in Organ::ALL {
            assert_eq!(Organ::from_name(organ.name()), Some(organ));
            assert_eq!(organ.to_string(), organ.name());
        }
        assert_eq!(Organ::from_name("kidney"), None);
    }

    #[test]
    fn questions_name_the_organ_or_describe_it() {
        let [named @ .., described, with_heading] = &Organ::RightKidney.questions()[..] else {
            panic!("too few questions");
        };
        assert_eq!(named.len(), 4);
        assert!(named.iter().all(|question| question.contains("right kidney")));
        assert_eq!(
            described,
            "The organ on the right that makes urine. Please answer and segment."
        );
        assert_eq!(
            with_heading,
            "Description: The organ on the right that makes urine. \
             Please answer and segment based on the above description."
        );
    }
}
