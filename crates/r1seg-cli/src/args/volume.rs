//! Which volume of a file is meant, what is known about it beyond the file, and which way a model sees
//! it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use r1seg::volume::{ArrayAxes, ReadOptions};
use r1seg::{EncodeOptions, Orient};

use crate::hints;

/// What `infer` and `inspect` take to read a volume.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading the volume")]
pub(crate) struct VolumeArgs {
    /// Which 3D volume of a 4D file, counted from 0.
    #[arg(long, value_name = "K")]
    pub(crate) frame: Option<usize>,
    /// Which array of an .npz archive, by name.
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    /// Which DICOM series of a folder: its number in the list that r1seg shows, or at least 4
    /// characters from the start of its id there.
    #[arg(long, value_name = "N|ID")]
    pub(crate) series: Option<String>,
    /// Order of the axes of a numpy array: zyx (slices first, as SimpleITK gives it) or xyz (slices
    /// last, as nibabel gives it) [default: zyx].
    #[arg(long, value_name = "zyx|xyz", hide_possible_values = true)]
    pub(crate) axes: Option<Axes>,
    /// Size of a voxel in mm, slices first, for a file that does not say it: --spacing 5,0.8,0.8.
    #[arg(
        long,
        value_name = "Z,Y,X",
        value_parser = spacing,
        allow_hyphen_values = true,
        conflicts_with = "affine_from"
    )]
    pub(crate) spacing: Option<[f64; 3]>,
    /// Take position and voxel size from another file of the same shape, such as the CT that an
    /// array was made from.
    #[arg(long, value_name = "FILE")]
    pub(crate) affine_from: Option<PathBuf>,
    /// Orientation in which the model sees the volume: stored, or LPS, RAS or other axis codes, the
    /// directions that i, j and k grow to. Nothing is resampled for it; masks, boxes and points stay on
    /// the stored grid [default: stored, as the models' authors do; RAS for SAM-Med3D and NeuroSAM3D].
    #[arg(long, value_name = "stored|LPS|RAS", value_parser = orient)]
    pub(crate) orient: Option<Orient>,
    /// Read a DICOM series with missing or uneven slices, resampled to even distances.
    #[arg(long)]
    pub(crate) allow_gaps: bool,
    /// Read DICOM that is not CT, such as MR. Most of the models know CT only.
    #[arg(long)]
    pub(crate) allow_modality: bool,
    /// Largest volume that is read, in bytes of its voxels: a number, or one with a unit such as MB or
    /// GiB.
    #[arg(long, default_value = "4GiB", value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_input_bytes: u64,
    /// Largest volume that is read, in voxels.
    #[arg(long, default_value_t = 1 << 30, value_name = "N", hide_default_value = true)]
    pub(crate) max_voxels: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Axes {
    Zyx,
    Xyz,
}

impl From<Axes> for ArrayAxes {
    fn from(axes: Axes) -> Self {
        match axes {
            Axes::Zyx => Self::Zyx,
            Axes::Xyz => Self::Xyz,
        }
    }
}

impl VolumeArgs {
    /// The same options with the orientation that is asked for.
    pub(crate) fn with_orient(&self, options: EncodeOptions) -> EncodeOptions {
        match self.orient {
            Some(orient) => options.with_orient(orient),
            None => options,
        }
    }

    /// Whether an orientation other than the stored one is asked for.
    pub(crate) fn turns(&self) -> bool {
        self.orient.is_some_and(|orient| orient != Orient::Stored)
    }

    pub(crate) fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default()
            .with_max_bytes(self.max_input_bytes)
            .with_max_voxels(self.max_voxels)
            .with_allow_gaps(self.allow_gaps)
            .with_allow_modality(self.allow_modality);
        if let Some(frame) = self.frame {
            options = options.with_frame(frame);
        }
        if let Some(key) = &self.key {
            options = options.with_key(key);
        }
        if let Some(series) = &self.series {
            options = options.with_series(series);
        }
        if let Some(axes) = self.axes {
            options = options.with_axes(axes.into());
        }
        if let Some(spacing) = self.spacing {
            options = options.with_spacing_mm(spacing);
        }
        if let Some(path) = &self.affine_from {
            options = options.with_affine_from(path);
        }
        options
    }
}

pub(super) fn spacing(text: &str) -> Result<[f64; 3], String> {
    let numbers: Option<Vec<f64>> = text
        .split(',')
        .map(|part| part.trim().parse().ok().filter(|mm: &f64| mm.is_finite() && 0.0 < *mm))
        .collect();
    numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| {
        "three numbers above 0 are needed, slices first, with points in them and commas between: \
         5,0.8,0.8"
            .to_owned()
    })
}

fn orient(text: &str) -> Result<Orient, String> {
    text.parse().map_err(|e: r1seg::volume::Error| match e.remedy() {
        Some(remedy) => format!("{e}; {}", hints::words(&remedy)),
        None => e.to_string(),
    })
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
    ];
    let lower = text.to_ascii_lowercase();
    let (number, unit) = UNITS
        .into_iter()
        .find_map(|(name, unit)| Some((lower.strip_suffix(name)?, unit)))
        .unwrap_or((&lower, 1));
    let number: Option<u64> = number.trim_end().parse().ok();
    number.and_then(|n| n.checked_mul(unit)).filter(|n| 0 < *n).ok_or_else(|| {
        "a whole number is needed, alone or with KiB, MiB, GiB, kB, MB or GB: 4GiB".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_or_without_a_unit() {
        for (text, size) in [
            ("1", Ok(1)),
            ("4GiB", Ok(4 << 30)),
            ("512 MiB", Ok(512 << 20)),
            ("7kib", Ok(7 << 10)),
            ("0", Err(())),
            ("4GB", Ok(4_000_000_000)),
            ("2 mb", Ok(2_000_000)),
            ("4G", Err(())),
            ("-1", Err(())),
            ("", Err(())),
            ("GiB", Err(())),
            ("1.5GiB", Err(())),
            ("17179869184GiB", Err(())),
        ] {
            assert_eq!(bytes(text).map_err(|_| ()), size, "{text}");
        }
    }

    #[test]
    fn spacing_is_three_positive_numbers() {
        assert_eq!(spacing("5,0.8,0.75"), Ok([5.0, 0.8, 0.75]));
        assert_eq!(spacing(" 5, 1,1 "), Ok([5.0, 1.0, 1.0]));
        for text in ["", "5", "5,1", "5,1,1,1", "5,0,8,0,8", "5;1;1", "0,1,1", "-5,1,1", "nan,1,1"]
        {
            assert!(spacing(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_option_reaches_the_reader() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            volume: VolumeArgs,
        }
        let parse = |line: &str| {
            let line = format!("x {line}");
            <Line as clap::Parser>::parse_from(line.split(' ')).volume.read_options()
        };
        assert_eq!(parse("--max-voxels 1073741824"), ReadOptions::default());
        let options = parse(
            "--frame 2 --key ct --axes xyz --spacing 5,1,1 --series 3 --allow-gaps \
             --allow-modality --max-input-bytes 1KiB --max-voxels 9",
        );
        let expected = ReadOptions::default()
            .with_frame(2)
            .with_key("ct")
            .with_axes(ArrayAxes::Xyz)
            .with_spacing_mm([5.0, 1.0, 1.0])
            .with_series("3")
            .with_allow_gaps(true)
            .with_allow_modality(true)
            .with_max_bytes(1024)
            .with_max_voxels(9);
        assert_eq!(options, expected);
        assert_eq!(
            parse("--affine-from ct.nii.gz"),
            ReadOptions::default().with_affine_from("ct.nii.gz")
        );
    }
}
