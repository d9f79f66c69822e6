//! What `segment` takes.

use std::ffi::OsString;

use clap::Args;
use r1seg::volume::{Geometry, Region};
use r1seg::{InferenceMode, Prompt, PromptPoint};

use super::boxes::{self, Millimeters};
use super::infer::OutputArgs;
use super::{ImageArg, ModelArgs, PrepareArgs, RefineArgs, VolumeArgs};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SegmentArgs {
    #[command(flatten)]
    pub(crate) image: ImageArg,
    /// What to segment, in words. May be given several times: text K becomes label K of the mask.
    ///
    /// SegVol wants the name of an organ or a lesion, and sets it into the sentence that it was
    /// trained with: "liver". R1Seg-3D-SAM wants a whole sentence: "A computerized tomography of a
    /// liver." `@FILE` takes every line of a text file that is not blank as a text of its own, `-`
    /// reads one text from standard input.
    #[arg(short, long, value_name = "TEXT|@FILE|-")]
    pub(crate) text: Vec<OsString>,
    /// Segment this organ, by a name in one of seven languages: the text is the one that the model was
    /// trained with. May be given several times, or with commas; each organ becomes a label of its own
    /// name, after the texts.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) organ: Vec<String>,
    /// How the model looks at the volume: `zoom` once at the whole and again at full resolution where
    /// that found something; `resize` once only; `sliding` windows at full resolution, which takes a
    /// text alone [default: as the model's authors: zoom for SegVol, sliding for R1Seg-3D-SAM].
    #[arg(long, value_name = "zoom|resize|sliding")]
    pub(crate) mode: Option<InferenceMode>,
    #[command(flatten)]
    pub(crate) prepare: PrepareArgs,
    #[command(flatten)]
    pub(crate) places: PlaceArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) refine: RefineArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const EXAMPLES: &str = "\
Examples:
  r1seg segment -m ./SegVol ct.nii.gz --text liver
  r1seg segment -m ./SegVol ct.nii.gz --text liver --text spleen -o organs
  r1seg segment -m ./R1Seg-3D-SAM ct.nii.gz --organ Leber,Milz
  r1seg segment -m ./SegVol ct.nii.gz \\
    --point 210,180,40 --point 150,180,40:neg
  r1seg segment -m ./SegVol ct.nii.gz --text liver \\
    --box-mm -140,-80,910,60,90,1080
  r1seg segment -m ./R1Seg-3D-SAM ct.nii.gz \\
    -t \"A computerized tomography of a liver.\"

SegVol is published as pickles: `r1seg convert SegVol -o ./SegVol` makes a folder that loads. What \
was found is printed on standard output, one line for each text. `r1seg --help` lists the exit codes. \
For research use only: not a medical device.";

/// Where it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Points and boxes (SegVol)")]
pub(crate) struct PlaceArgs {
    /// A voxel of what is sought, as viewers show it (i, j, k from 0, in the order of the file); with
    /// `:neg` one beside it. May be given several times.
    #[arg(
        long,
        value_name = "I,J,K[:pos|neg]",
        allow_hyphen_values = true,
        value_parser = point_voxels
    )]
    pub(crate) point: Vec<Point<i64>>,
    /// The same in mm, as viewers show positions (RAS+).
    #[arg(
        long,
        value_name = "X,Y,Z[:pos|neg]",
        allow_hyphen_values = true,
        value_parser = point_millimeters
    )]
    pub(crate) point_mm: Vec<Point<f64>>,
    /// A box around what is sought: the first and the last voxel, both inside. Not together with
    /// points in mode zoom.
    #[arg(
        long = "box",
        value_name = "I0,J0,K0,I1,J1,K1",
        allow_hyphen_values = true,
        value_parser = boxes::voxels
    )]
    pub(crate) voxels: Option<Region>,
    /// The same in mm (RAS+): the smallest and the largest corner.
    #[arg(
        long,
        value_name = "X0,Y0,Z0,X1,Y1,Z1",
        allow_hyphen_values = true,
        value_parser = boxes::millimeters,
        conflicts_with = "voxels"
    )]
    pub(crate) box_mm: Option<Millimeters>,
}

/// A point as typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point<T> {
    at: [T; 3],
    positive: bool,
}

impl PlaceArgs {
    /// Whether there is any.
    pub(crate) fn is_given(&self) -> bool {
        !self.point.is_empty()
            || !self.point_mm.is_empty()
            || self.voxels.is_some()
            || self.box_mm.is_some()
    }

    /// What is meant, as far as that can be told without the volume.
    pub(crate) fn outline(&self) -> Prompt {
        let mut prompt = Prompt::default();
        let signs = self.point.iter().map(|point| point.positive);
        for positive in signs.chain(self.point_mm.iter().map(|point| point.positive)) {
            prompt = prompt.with_point(PromptPoint { voxel: [0; 3], positive });
        }
        match self.voxels.is_some() || self.box_mm.is_some() {
            true => prompt.with_region(Region { start: [0; 3], end: [1; 3] }),
            false => prompt,
        }
    }

    /// The points and the box in voxels of this volume.
    pub(crate) fn prompt(&self, geometry: &Geometry) -> Result<Prompt, r1seg::Error> {
        let mut prompt = Prompt::default();
        for Point { at: [i, j, k], positive } in &self.point {
            // A point before the first voxel is as far outside as any.
            let index = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
            prompt = prompt.with_point(PromptPoint {
                voxel: [index(*k), index(*j), index(*i)],
                positive: *positive,
            });
        }
        for Point { at, positive } in &self.point_mm {
            prompt = prompt.with_point(PromptPoint {
                voxel: geometry.voxel_from_mm(*at)?,
                positive: *positive,
            });
        }
        prompt.region = boxes::region(self.voxels, self.box_mm, geometry)?;
        prompt.check_in(geometry)?;
        Ok(prompt)
    }
}

fn point_voxels(text: &str) -> Result<Point<i64>, String> {
    let point = point(text, |number| number.parse::<i64>().ok(), "a whole number")?;
    match point.at.iter().find(|n| **n < 0) {
        Some(n) => Err(format!("{n} is not a voxel index: indices begin at 0")),
        None => Ok(point),
    }
}

fn point_millimeters(text: &str) -> Result<Point<f64>, String> {
    let finite = |number: &str| number.parse::<f64>().ok().filter(|n| n.is_finite());
    point(text, finite, "a finite number")
}

fn point<T: Copy>(
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
    what: &str,
) -> Result<Point<T>, String> {
    let (numbers, positive) = match text.rsplit_once(':') {
        None => (text, true),
        Some((numbers, "pos")) => (numbers, true),
        Some((numbers, "neg")) => (numbers, false),
        Some((_, sign)) => return Err(format!("`{sign}` is neither pos nor neg")),
    };
    let numbers: Vec<T> = numbers
        .split(',')
        .map(|part| parse(part.trim()).ok_or_else(|| format!("`{}` is not {what}", part.trim())))
        .collect::<Result<_, _>>()?;
    let at = numbers.try_into().map_err(|given: Vec<T>| {
        format!("a point has three numbers; {} were given", given.len())
    })?;
    Ok(Point { at, positive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_three_numbers_and_a_sign() {
        assert_eq!(point_voxels("1,2,3"), Ok(Point { at: [1, 2, 3], positive: true }));
        assert_eq!(point_voxels("1, 2, 3:pos"), Ok(Point { at: [1, 2, 3], positive: true }));
        assert_eq!(point_voxels("1,2,3:neg"), Ok(Point { at: [1, 2, 3], positive: false }));
        let mm = point_millimeters("-1.5,2,3e1:neg");
        assert_eq!(mm, Ok(Point { at: [-1.5, 2.0, 30.0], positive: false }));
        for (text, says) in [
            ("1,2", "2 were given"),
            ("1,2,3,4", "4 were given"),
            ("", "`` is not a whole number"),
            ("1,2,x", "`x` is not a whole number"),
            ("1,2,3.5", "`3.5` is not a whole number"),
            ("-1,2,3", "-1 is not a voxel index"),
            ("1,2,3:maybe", "`maybe` is neither pos nor neg"),
            ("1,2,3:", "`` is neither"),
        ] {
            let error = point_voxels(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(point_millimeters("1,2,nan").unwrap_err().contains("finite"));
    }

    #[test]
    fn voxels_are_in_the_order_of_the_file() {
        let args = PlaceArgs {
            point: vec![Point { at: [1, 2, 3], positive: true }],
            point_mm: Vec::new(),
            voxels: None,
            box_mm: None,
        };
        let prompt = args.prompt(&Geometry::without_affine([4, 5, 6])).unwrap();
        assert_eq!(prompt.points[0].voxel, [3, 2, 1]);
        let error = args.prompt(&Geometry::without_affine([3, 5, 6])).unwrap_err();
        assert_eq!(error.code(), "R-PNT-01");
    }
}
