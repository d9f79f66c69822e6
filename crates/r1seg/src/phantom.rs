//! Synthetic phantoms, which the demonstration model knows: the crate `r1seg-phantom`, and how a phantom
//! lies in the world.

pub use r1seg_phantom::{CAPTION_QUESTION, Organ, Phantom, checkpoint_files, dice};
use r1seg_volume::{Error, Geometry, Volume};

/// mm along D, H, W: a trunk as of a person, with a liver of about 1.7 L.
const SPACING_MM: [f64; 3] = [8.0, 1.3, 1.3];

/// A phantom as a volume that lies as a CT does: W runs to the left, H to the back, D to the head.
///
/// ```
/// use r1seg::phantom::{Phantom, volume};
///
/// # fn main() -> Result<(), r1seg::volume::Error> {
/// let ct = volume(&Phantom::draw(7))?;
/// assert_eq!(ct.shape(), [32, 256, 256]);
/// assert_eq!(ct.geometry().orientation().map(|o| o.to_string()).as_deref(), Some("LPS"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When a phantom has more voxels than a volume may have, which none does.
pub fn volume(phantom: &Phantom) -> Result<Volume, Error> {
    let shape = phantom.shape;
    let [d, h, w] = SPACING_MM;
    let affine = [
        [-w, 0.0, 0.0, w * (shape[2] as f64 - 1.0) / 2.0],
        [0.0, -h, 0.0, h * (shape[1] as f64 - 1.0) / 2.0],
        [0.0, 0.0, d, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    Volume::new(phantom.volume.clone(), Geometry::with_affine(shape, affine)?)
}
