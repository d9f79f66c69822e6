//! Scores of masks, boxes, answers and rankings, as the field defines them and, by other names, as the
//! published evaluations of CT models compute them.
//!
//! | to score | use |
//! |---|---|
//! | two masks by their voxels: Dice, IoU, precision, recall, volume | [`Overlap`] |
//! | two masks by their surfaces, in mm: surface Dice, Hausdorff distances, ASSD | [`surface::Pair`] |
//! | all labels of two label maps at once | [`compare_labels`] |
//! | masks as R1Seg-3D, M3D-LaMed and SegVol do | [`published`] |
//! | two boxes | [`box_iou`], [`box_iou_m3d`] |
//! | a text: BLEU, ROUGE, METEOR, accuracy | [`text`] |
//! | a ranking: recall at k, shared findings | [`retrieval`] |
//! | a mask that gets better by clicks | [`ClickCurves`] |
//! | how sure a mean over cases is | [`Bootstrap`] |
//!
//! What a score is where a mask has no voxels is chosen by [`Empties`], and nothing is implied: a score that
//! does not exist is `None`, and is left out of means.
//!
//! ```
//! use r1seg_metrics::surface::Pair;
//! use r1seg_metrics::Empties;
//!
//! // Two cubes of 10 voxels a side, the second one voxel to the right; voxels of 2 x 1 x 1 mm.
//! let shape = [14, 14, 14];
//! let cube = |x: usize| {
//!     let inside = |n: usize| {
//!         let place = [n / 196, n / 14 % 14, n % 14];
//!         place.iter().zip([2, 2, x]).all(|(at, from)| (from..from + 10).contains(at))
//!     };
//!     (0..14 * 14 * 14).map(|n| u8::from(inside(n))).collect::<Vec<u8>>()
//! };
//! let pair = Pair::new(&cube(2), &cube(3), shape, [2.0, 1.0, 1.0])?;
//! assert_eq!(pair.overlap().dice(Empties::Formula), Some(0.9));
//! let scores = pair.scores(/* tolerance_mm */ 1.0, Empties::Formula);
//! assert_eq!((scores.surface_dice, scores.hausdorff_mm), (Some(1.0), Some(1.0)));
//! # Ok::<(), r1seg_metrics::Error>(())
//! ```
//!
//! # Deliberately absent
//!
//! Tensors, files and printing. BERTScore and the synonyms of METEOR, which need a network's weights and
//! WordNet.

mod bits;
mod bootstrap;
mod boxes;
mod clicks;
mod empties;
mod error;
mod labels;
mod overlap;
pub mod published;
pub mod retrieval;
pub mod surface;
pub mod text;

pub use bootstrap::{Bootstrap, Interval};
pub use boxes::{Corners, NO_BOX, box_iou, box_iou_m3d};
pub use clicks::ClickCurves;
pub use empties::Empties;
pub use error::Error;
pub use labels::{LabelComparison, LabelOptions, compare_labels, label_overlaps};
pub use overlap::Overlap;
