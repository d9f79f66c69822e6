//! CT volumes with their geometry: NIfTI, DICOM, NRRD and numpy I/O, steps of preparation, resampling.
//!
//! How a volume goes through r1seg, and which types hand it over:
//!
//! 1. [`read`] makes a [`Volume`] of a file: its [`Voxels`] as they are stored and their
//!    [`Geometry`], in a [`Loaded`] beside the [`Warning`]s about what was repaired or guessed.
//! 2. [`prepare`] takes it through the [`Step`]s of a model's recipe, which normalize, crop, turn and
//!    resample it; the [`Prepared`] grid is resized for the model.
//! 3. Its [`GridMap`] brings boxes and points to the model's grid, and mask logits back to the
//!    volume's.
//! 4. A [`Mask`] joins them with the geometry of the volume; [`write_mask`] writes it so that it
//!    lies on the volume in every viewer, [`mask_stats`] measures it. A [`LabelMap`] holds several:
//!    [`write_labels`] writes them, [`write_segmentation`] with names and colors for 3D Slicer.
//!
//! ```
//! use r1seg_volume::{
//!     Ends, Geometry, Mask, Overwrite, ReadOptions, Step, Volume, mask_stats, prepare, read,
//!     write_mask,
//! };
//!
//! // A bright ball in dark air, voxels of 5 x 1 x 1 mm (D, H, W).
//! let shape = [12, 40, 48];
//! let ball = |n: usize| {
//!     let [z, y, x] = [n / (40 * 48), n / 48 % 40, n % 48].map(|v| v as f32);
//!     (5.0 * (z - 6.0)).hypot(y - 20.0).hypot(x - 24.0) < 12.0
//! };
//! let data: Vec<i16> = (0..12 * 40 * 48).map(|n| if ball(n) { 60 } else { -1000 }).collect();
//! let volume = Volume::new(data, Geometry::with_spacing(shape, [5.0, 1.0, 1.0])?)?;
//!
//! // To the model: HU to 0..=1, cropped and resized.
//! let window = Step::Rescale(Ends::Fixed { low: -160.0, high: 240.0 });
//! let prepared = prepare(&volume, &[window, Step::CropForeground { margin: 0 }])?;
//! let input = prepared.resize([8, 32, 32])?;
//!
//! // A model that finds whatever is bright; then back to the volume and into a file.
//! let logits: Vec<f32> = input.iter().map(|v| v - 0.25).collect();
//! let found = prepared.map().mask_from_logits(&logits, [8, 32, 32])?;
//! let mask = Mask::new(found, volume.geometry().clone())?;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("mask.nii.gz");
//! write_mask(&path, &mask, Overwrite::Refuse)?;
//!
//! let again = read(&path, &ReadOptions::default())?.volume;
//! assert_eq!(again.geometry().affine(), volume.geometry().affine());
//! let stats = mask_stats(&mask, 1, &volume)?;
//! assert_eq!((stats.components, stats.touches_border), (1, false));
//! let sphere_ml = 4.0 / 3.0 * std::f64::consts::PI * 12.0_f64.powi(3) / 1000.0;
//! assert!((stats.volume_ml.unwrap_or(0.0) / sphere_ml - 1.0).abs() < 0.15);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Formats
//!
//! | format | files | read | written |
//! |---|---|---|---|
//! | NIfTI-1, NIfTI-2 | `.nii`, `.nii.gz`, `.hdr` + `.img` | one frame of any | masks, volumes |
//! | DICOM | a folder, a `.zip` or one file of a CT series | uncompressed, deflated, RLE, JPEG, JPEG-LS, JPEG 2000 | |
//! | NRRD | `.nrrd`, `.nhdr` + data file | raw, gzip, ascii | [`write_segmentation`] |
//! | numpy | `.npy`, `.npz` | any number type, order and version | masks, volumes (`.npy`) |
//!
//! [`ReadOptions`] says which volume is meant, and what is known beyond the file.
//!
//! # Axes
//!
//! `[D, H, W]`, slowest first, is the order of every shape and array. A NIfTI voxel index
//! `(i, j, k)` is `(W, H, D)`: the file order, `i` fastest, is C order of `[D, H, W]` as it stands,
//! so that nothing is reoriented. Arrays that lie otherwise are transposed, and their masks back.
//! [`Orient`] says in which [`Orientation`] a model sees a volume; masks stay on the stored grid.
//! World coordinates are RAS+ millimeters.
//!
//! # Warnings
//!
//! | code | meaning |
//! |---|---|
//! | `W-AFFINE` | sform and qform differ by more than 1e-3; the sform is used |
//! | `W-AXES` | the last axis of an array looks like its slices |
//! | `W-CONST` | no voxel stands out; the prepared volume is 0 everywhere |
//! | `W-DUPLICATE` | DICOM files are copies of others and left out |
//! | `W-GAPS` | DICOM slices were missing or unequally far apart and have been interpolated |
//! | `W-GEOM` | the file carries no spacing: nothing is known in mm or mL |
//! | `W-GEOM-GIVEN` | the header's geometry is unusable; the given one is used |
//! | `W-GEOM-GUESS` | the header does not place the volume; position and sides are a guess |
//! | `W-HU-01`, `W-HU-02` | values span 0..255, or a range unlike HU |
//! | `W-INVERTED` | stored numbers were inverted (MONOCHROME1) |
//! | `W-NAN` | voxels were NaN or infinite and have been replaced |
//! | `W-ORIENT` | a model sees the volume in an orientation that it was not trained on |
//! | `W-PADDING` | voxels beyond the field of view are read as -1024 HU |
//! | `W-PHI` | the pixels may show a name |
//! | `W-SHEAR` | the voxel axes are not at right angles |
//! | `W-SKIPPED` | DICOM files are broken and belong to no series |
//! | `W-SLOPE` | the scaling in the header is not usable and is ignored |
//! | `W-TRAILING` | the file goes on after the voxels |
//! | `W-UNITS` | the header is not in mm; NIfTI is converted, NRRD is taken for mm |
//!
//! # Deliberately absent
//!
//! Tensors, models and printing. Text of a file's header never reaches a message or a mask, since it
//! may name a patient. Arrays of Python objects are never unpickled.

mod affine;
mod components;
mod connected;
mod crop;
mod distance;
mod error;
mod geometry;
mod grid_map;
pub mod intensity;
mod io;
mod label_map;
mod lattice;
mod orientation;
mod part;
mod places;
mod prepared;
mod regrid;
pub mod resample;
mod selection;
mod slices;
pub mod sliding;
mod stats;
mod steps;
mod volume;
mod voxels;
mod warning;

pub use affine::Affine;
pub use connected::ConnectedComponents;
pub use crop::{Padding, Region, crop, crop_around, foreground_box, paste};
pub use distance::{Beyond, Column, DistanceTransform};
pub use error::{Error, ErrorKind};
pub use geometry::{AffineSource, Geometry};
pub use grid_map::{GridMap, NearestMode, RegionRule};
pub use intensity::IntensityRange;
pub use io::dicom::{ChosenSeries, SeriesSummary, list_series};
pub use io::nifti::{NiftiFields, NiftiVersion};
pub use io::{
    ArrayAxes, Loaded, LoadedLabels, MaskFormat, Overwrite, ReadOptions, Segment, Segmentation,
    SourceKind, nifti_geometry, npy_header, read, read_from, read_labels, read_matrix,
    write_atomically, write_labels, write_labels_to, write_mask, write_mask_to, write_segmentation,
    write_segmentation_to, write_volume,
};
pub use label_map::LabelMap;
pub use lattice::{Lattice, SpacingConvention};
pub use orientation::{AxisMap, Orient, Orientation};
pub use part::Part;
pub use prepared::Prepared;
pub use r1seg_diagnostic::Remedy;
pub use slices::{SliceRecipe, Slices, slices};
pub use stats::{MaskStats, mask_stats};
pub use steps::{Ends, Step, prepare};
pub use volume::{Mask, Volume};
pub use voxels::{Scale, Voxels};
pub use warning::Warning;
