//! Segmentations with their names: what 3D Slicer and this crate write as `.seg.nrrd`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Grid, KIND, grid, stored};
use crate::error::Detail;
use crate::io::source::Source;
use crate::io::{LoadedLabels, ReadOptions, overrides};
use crate::{Error, LabelMap, Loaded, Mask, Volume, Voxels};

/// Longest name that is kept, in characters.
const MAX_NAME: usize = 256;
/// No file has more segments.
const MAX_SEGMENTS: usize = LabelMap::MAX_LABELS;

/// What the header says of a segment (`Segment3_Name` and so on).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    /// On one line.
    pub(super) name: String,
    /// The value of its voxels.
    pub(super) value: u16,
    /// In which of the values of each voxel it is.
    pub(super) layer: usize,
}

/// All segments of the lines of a header, in their order.
pub(super) fn segment_entries(lines: &[String]) -> Vec<SegmentEntry> {
    let mut found: BTreeMap<usize, SegmentEntry> = BTreeMap::new();
    for line in lines {
        let Some((key, value)) = line.split_once(":=") else { continue };
        let field = key.strip_prefix("Segment").and_then(|rest| rest.split_once('_'));
        let Some((number, field)) = field else { continue };
        let Some(number) = number.parse().ok().filter(|n| *n < MAX_SEGMENTS) else { continue };
        let default = || SegmentEntry { name: String::new(), value: 1, layer: 0 };
        match field {
            "Name" => found.entry(number).or_insert_with(default).name = plain(value),
            "LabelValue" => {
                let value = value.trim().parse().unwrap_or(1);
                found.entry(number).or_insert_with(default).value = value;
            }
            "Layer" => {
                let layer = value.trim().parse().unwrap_or(0);
                found.entry(number).or_insert_with(default).layer = layer;
            }
            _ => {}
        }
    }
    found.into_values().collect()
}

/// A value without its escapes, on one line.
fn plain(value: &str) -> String {
    let text = value.replace("\\\\", "\u{0}").replace("\\n", " ").replace('\u{0}', "\\");
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().chars().take(MAX_NAME).collect()
}

/// Reads the labels of a file that begins with [`MAGIC`](super::MAGIC).
///
/// Labels keep their values. Where several layers use the same value for different segments, segments are
/// numbered in their order instead.
pub(in crate::io) fn read_labels(
    mut source: Source<'_>,
    options: &ReadOptions,
) -> Result<LoadedLabels, Error> {
    let path = source.path();
    let (header, Grid { geometry, layers, mut warnings }) = grid(&mut source, options)?;
    let count = geometry.voxels();
    let values = count.saturating_mul(layers);
    let data = stored(source, &header, values, options, &mut warnings)?;
    let placed = |voxels: Voxels, warnings| {
        let volume = Volume::new(voxels, geometry)?;
        let loaded = Loaded { volume, warnings, kind: KIND, series: None };
        overrides::apply(loaded, &path, options)
    };
    if layers == 1 {
        let Loaded { volume, warnings, .. } = placed(data, warnings)?;
        let labels = LabelMap::from_volume(&volume)?;
        let mut names = BTreeMap::new();
        for segment in header.segments {
            names.entry(segment.value).or_insert(segment.name);
        }
        return Ok(LoadedLabels { labels, names: named(names), warnings, kind: KIND });
    }
    let labels = data.iter().map(label).collect::<Result<Vec<u16>, Error>>()?;
    let numbered = numbers(&labels, layers, &header.segments);
    let first = Voxels::F32(data.iter().step_by(layers).collect());
    let Loaded { volume, warnings, .. } = placed(first, warnings)?;
    let mut map = LabelMap::new(volume.geometry().clone());
    let mut names = BTreeMap::new();
    for (number, ((layer, value), name)) in numbered {
        let of_layer = labels.iter().skip(layer).step_by(layers);
        let mask = of_layer.map(|label| u8::from(*label == value)).collect();
        map.push_as(number, &Mask::new(mask, volume.geometry().clone())?)?;
        names.insert(number, name);
    }
    Ok(LoadedLabels { labels: map, names: named(names), warnings, kind: KIND })
}

/// Those that have a name, and are not the background.
fn named(mut names: BTreeMap<u16, String>) -> BTreeMap<u16, String> {
    names.retain(|label, name| *label != 0 && !name.is_empty());
    names
}

fn label(value: f32) -> Result<u16, Error> {
    // A cast from float to integer saturates, and NaN becomes 0.
    let whole = value as u16;
    if f32::from(whole) == value { Ok(whole) } else { Err(Detail::NotALabel { value }.into()) }
}

/// By label, the layer and the value of its voxels, and its name, which is empty if the header has none.
fn numbers(
    labels: &[u16],
    layers: usize,
    segments: &[SegmentEntry],
) -> BTreeMap<u16, ((usize, u16), String)> {
    let mut places: Vec<((usize, u16), String)> = Vec::new();
    let mut known = BTreeSet::new();
    for segment in segments.iter().filter(|segment| segment.value != 0 && segment.layer < layers) {
        if known.insert((segment.layer, segment.value)) {
            places.push(((segment.layer, segment.value), segment.name.clone()));
        }
    }
    let mut found = BTreeSet::new();
    for (n, value) in labels.iter().enumerate().filter(|(_, value)| **value != 0) {
        found.insert((n % layers, *value));
    }
    places.extend(found.difference(&known).map(|place| (*place, String::new())));
    let values: BTreeSet<u16> = places.iter().map(|((_, value), _)| *value).collect();
    let is_unique = values.len() == places.len();
    let number = |n: usize, value: u16| match is_unique {
        true => value,
        false => u16::try_from(n + 1).unwrap_or(u16::MAX),
    };
    let numbered = places.into_iter().enumerate();
    numbered.map(|(n, (place, name))| (number(n, place.1), (place, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Overwrite, Segment, Segmentation, write_segmentation};

    /// Writes labels of which each has a name, and reads them again.
    fn written_and_read(labels: &LabelMap, names: &[&str]) -> LoadedLabels {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.seg.nrrd");
        let segments = names.iter().map(|name| Segment::new(*name, [1, 2, 3])).collect();
        let segmentation = Segmentation::new(labels, segments).unwrap();
        write_segmentation(&path, &segmentation, Overwrite::Refuse).unwrap();
        // One slice is a mask, but no volume that a model reads.
        crate::read_labels(&path, &ReadOptions::default().with_min_axis(1)).unwrap()
    }

    #[test]
    fn names_and_segments_that_overlap_are_read_as_they_were_written() {
        let geometry = Geometry::with_spacing([2, 3, 4], [5.0, 0.7, 0.7]).unwrap();
        let mask = |from: usize, to: usize| {
            let data = (0..24).map(|n| u8::from((from..to).contains(&n))).collect();
            Mask::new(data, geometry.clone()).unwrap()
        };
        let mut apart = LabelMap::new(geometry.clone());
        let mut over = LabelMap::new(geometry.clone());
        for (from, to) in [(0, 5), (5, 9)] {
            apart.push(&mask(from, to)).unwrap();
            over.push(&mask(from, to + 3)).unwrap();
        }
        for labels in [apart, over] {
            let read = written_and_read(&labels, &["liver", "a\\b\nc"]);
            assert_eq!(read.labels.labels(), labels.labels());
            assert_eq!(read.labels.overlap(), labels.overlap());
            assert_eq!(
                read.labels.label_mask(1),
                Mask::new(labels.label_mask(1).into_parts().0, read.labels.geometry().clone())
                    .unwrap()
            );
            assert_eq!(read.names[&1], "liver");
            assert_eq!(read.names[&2], "a\\b c");
            assert_eq!(read.labels.geometry().spacing_mm(), geometry.spacing_mm());
        }
    }

    fn entries(lines: &[&str]) -> Vec<SegmentEntry> {
        segment_entries(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn segments_are_read_out_of_key_value_pairs() {
        let found = entries(&[
            "Segment0_Name:=a\\\\b\\nc",
            "Segment0_LabelValue:=7",
            "Segment10_Name:= liver ",
            "Segment10_Layer:=1",
            "Segment2_LabelValue:=x",
            "Segmentation_ReferenceImageExtentOffset:=0 0 0",
            "SegmentX_Name:=no",
            "Segment99999999_Name:=no",
            "Segment1_Color:=0 0 0",
        ]);
        let entry = |name: &str, value, layer| SegmentEntry { name: name.to_owned(), value, layer };
        assert_eq!(found, [entry("a\\b c", 7, 0), entry("", 1, 0), entry("liver", 1, 1)]);
    }

    #[test]
    fn values_that_two_layers_share_are_numbered_anew() {
        let segment =
            |value, layer, name: &str| SegmentEntry { name: name.to_owned(), value, layer };
        let labels = [1, 0, 1, 2, 0, 3];
        let shared = [segment(1, 0, "a"), segment(2, 1, "b"), segment(3, 1, "c")];
        let found = numbers(&labels, 2, &shared);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found[&3], ((1, 3), "c".to_owned()));
        let twice = [segment(1, 0, "a"), segment(1, 1, "b")];
        let found = numbers(&[1, 1, 0, 1, 0, 4], 2, &twice);
        assert_eq!(found[&2], ((1, 1), "b".to_owned()));
        // A value that no segment has keeps its voxels, without a name.
        assert_eq!(found[&3], ((1, 4), String::new()));
    }
}
