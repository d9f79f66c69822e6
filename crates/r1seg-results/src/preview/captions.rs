//! What the lines of the legend say.

use super::palette::{Color, color_of};
use super::raster::Field;
use super::{BoxMark, Coverage, Named, Scene};

/// More names without voxels than these are only counted.
const MAX_ABSENT: usize = 7;

/// A line of the legend.
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) sign: Sign,
}

/// What stands in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A color of the picture.
    Color(Color),
    /// Nothing that is in the picture.
    Absent,
    /// The dashes of a box that was asked about.
    Dashes,
    /// The cross of a point, by whether it is positive.
    Cross(bool),
}

/// All lines: labels, boxes that were found, and what was asked about. `counts` are the voxels of each
/// label that are drawn.
pub(super) fn of(scene: &Scene<'_>, field: &Field<'_>, counts: &[u64]) -> Vec<Entry> {
    let mut entries = entries(scene, &field.boxes, counts);
    entries.extend(boxes(scene.names, &field.boxes));
    entries.extend(asked(field));
    entries
}

/// The labels that the picture shows, then the names that it does not show, with the reason.
fn entries(scene: &Scene<'_>, boxes: &[BoxMark], counts: &[u64]) -> Vec<Entry> {
    let absent_entry = |text: String| Entry { text, sign: Sign::Absent };
    let is_shown = |label: u16| counts.get(usize::from(label)).is_some_and(|count| *count > 0);
    let shown = (1..=u16::MAX).filter(|label| is_shown(*label)).map(|label| {
        let named = scene.names.get(usize::from(label) - 1).filter(|n| !n.name.is_empty());
        let text = match named {
            None => format!("label {label}"),
            Some(Named { name, mask }) => {
                let covered = mask.as_ref().and_then(covered).map(|text| format!(": {text}"));
                format!("{label} {name}{}", covered.unwrap_or_default())
            }
        };
        Entry { text, sign: Sign::Color(color_of(label)) }
    });
    let mut entries: Vec<Entry> = shown.collect();
    // A label whose box was found, and of which no mask was given, is not missing.
    let has_box = |label: u16| boxes.iter().any(|mark| mark.label == label);
    let absent: Vec<(u16, &Named, Absence)> = (1..=u16::MAX)
        .zip(scene.names)
        .filter(|(label, named)| !is_shown(*label) && !named.name.is_empty())
        .map(|(label, named)| (label, named, Absence::of(named)))
        .filter(|(label, _, why)| *why != Absence::NoMask || !has_box(*label))
        .collect();
    if absent.len() > MAX_ABSENT {
        for why in [Absence::NoMask, Absence::Empty, Absence::Hidden] {
            let count = absent.iter().filter(|(_, _, other)| *other == why).count();
            if count > 0 {
                entries.push(absent_entry(format!("{count} {}", why.of_many())));
            }
        }
    } else {
        entries.extend(absent.iter().map(|(label, Named { name, mask }, why)| {
            let covered = mask.as_ref().and_then(covered);
            let why = covered.unwrap_or_else(|| why.text().to_owned());
            absent_entry(format!("{label} {name}: {why}"))
        }));
    }
    if entries.is_empty() && boxes.is_empty() {
        entries.push(absent_entry("no mask".to_owned()));
    }
    entries
}

/// Why a picture does not show a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    NoMask,
    Empty,
    Hidden,
}

impl Absence {
    fn of(named: &Named) -> Self {
        match &named.mask {
            None => Self::NoMask,
            Some(mask) if mask.hidden == 0 => Self::Empty,
            Some(_) => Self::Hidden,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NoMask => "no [SEG] in the answer",
            Self::Empty => "the mask has no voxel",
            Self::Hidden => "hidden under other labels",
        }
    }

    fn of_many(self) -> &'static str {
        match self {
            Self::NoMask => "without [SEG]",
            Self::Empty => "without a voxel",
            Self::Hidden => "hidden under other labels",
        }
    }
}

/// How much of a mask other labels leave to see, unless that is as good as all of it.
fn covered(mask: &Coverage) -> Option<String> {
    const NAMED: usize = 3;
    let percent = (mask.voxels - mask.hidden) * 100 / mask.voxels.max(1);
    if mask.hidden == 0 || percent == 100 {
        return None;
    }
    let under: Vec<String> = mask.under.iter().take(NAMED).map(u16::to_string).collect();
    let more = if mask.under.len() > NAMED { " .." } else { "" };
    let under = format!("under {}{more}", under.join(", "));
    Some(match (mask.voxels == mask.hidden, percent) {
        (true, _) => format!("hidden {under}"),
        (false, 0) => format!("less than 1 % visible, the rest {under}"),
        (false, _) => format!("{percent} % visible, the rest {under}"),
    })
}

/// One for each label that has boxes.
fn boxes(names: &[Named], boxes: &[BoxMark]) -> Vec<Entry> {
    let mut labels: Vec<u16> = boxes.iter().map(|mark| mark.label).collect();
    labels.dedup();
    labels
        .into_iter()
        .map(|label| {
            let name = names.get(usize::from(label).saturating_sub(1));
            let name = name.map_or_else(String::new, |Named { name, .. }| format!(" {name}"));
            Entry { text: format!("box {label}{name}"), sign: Sign::Color(color_of(label)) }
        })
        .collect()
}

/// The box and the points that were asked about.
fn asked(field: &Field<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    match field.asked_boxes.len() {
        0 => {}
        1 => entries.push(Entry { text: "box asked about".to_owned(), sign: Sign::Dashes }),
        count => {
            let text = format!("{count} boxes asked about");
            entries.push(Entry { text, sign: Sign::Dashes });
        }
    }
    for (positive, what) in [(true, "inside"), (false, "outside")] {
        let count = field.points.iter().filter(|point| point.positive == positive).count();
        let text = match count {
            0 => continue,
            1 => format!("point given as {what}"),
            _ => format!("{count} points given as {what}"),
        };
        entries.push(Entry { text, sign: Sign::Cross(positive) });
    }
    if !entries.is_empty() {
        let text = "faint: not on this slice".to_owned();
        entries.push(Entry { text, sign: Sign::Absent });
    }
    entries
}

#[cfg(test)]
mod tests {
    use r1seg::volume::{Geometry, LabelMap, Mask, Voxels};

    use super::*;

    fn mask(voxels: usize, hidden: usize, under: &[u16]) -> Option<Coverage> {
        Some(Coverage { voxels, hidden, under: under.to_vec() })
    }

    fn texts(names: &[(&str, Option<Coverage>)], present: &[u16]) -> Vec<String> {
        let names: Vec<Named> = names
            .iter()
            .map(|(name, mask)| Named { name: (*name).to_owned(), mask: mask.clone() })
            .collect();
        let mut counts = [0; 256];
        present.iter().for_each(|label| counts[usize::from(*label)] = 5);
        let volume = Voxels::from(vec![0_i16]);
        let scene = Scene { names: &names, ..Scene::new(&volume, [1; 3]) };
        entries(&scene, &[], &counts).into_iter().map(|entry| entry.text).collect()
    }

    #[test]
    fn legend_lists_labels_that_are_seen_before_others() {
        let expected = ["2 spleen", "label 9", "1 liver: the mask has no voxel"];
        let names = [("liver", mask(0, 0, &[])), ("spleen", mask(5, 0, &[]))];
        assert_eq!(texts(&names, &[9, 2]), expected);
    }

    #[test]
    fn legend_tells_no_seg_an_empty_mask_and_a_hidden_one_apart() {
        let names = [
            ("liver", mask(90, 90, &[3])),
            ("gallbladder", None),
            ("spleen", mask(90, 0, &[])),
            ("ureter", mask(0, 0, &[])),
            ("kidney", mask(90, 30, &[3, 2])),
            ("aorta", mask(1000, 999, &[3, 5, 1, 2])),
        ];
        let expected = [
            "3 spleen",
            "5 kidney: 66 % visible, the rest under 3, 2",
            "6 aorta: less than 1 % visible, the rest under 3, 5, 1 ..",
            "1 liver: hidden under 3",
            "2 gallbladder: no [SEG] in the answer",
            "4 ureter: the mask has no voxel",
        ];
        assert_eq!(texts(&names, &[3, 5, 6]), expected);
        assert_eq!(texts(&[("x", None)], &[]), ["1 x: no [SEG] in the answer"]);
        assert_eq!(texts(&[], &[]), ["no mask"]);
    }

    #[test]
    fn how_much_of_a_mask_is_seen_is_counted_in_the_mask() {
        let geometry = Geometry::without_affine([1, 1, 6]);
        let mut labels = LabelMap::new(geometry.clone());
        for mask in [[1, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0], [0; 6]] {
            labels.push(&Mask::new(mask.to_vec(), geometry.clone()).unwrap()).unwrap();
        }
        assert_eq!(Coverage::of(&labels, 1), Coverage { voxels: 4, hidden: 3, under: vec![3, 2] });
        assert_eq!(Coverage::of(&labels, 4), Coverage::default());
    }

    #[test]
    fn legend_counts_those_that_are_not_seen_of_many_names() {
        let mut names = vec![("x", None); 200];
        names.extend(vec![("x", mask(0, 0, &[])); 54]);
        names.push(("x", mask(5, 0, &[])));
        assert_eq!(texts(&names, &[255]), ["255 x", "200 without [SEG]", "54 without a voxel"]);
        let none = ("", None);
        let names = [("x", mask(0, 0, &[])), none, ("y", mask(5, 0, &[]))];
        assert_eq!(texts(&names, &[3]), ["3 y", "1 x: the mask has no voxel"]);
    }
}
