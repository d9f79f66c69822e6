//! What stored numbers mean, and their conversion to HU.

use super::codec::Size;
use super::fault::DicomFault;
use super::header::{Header, Syntax};
use crate::Scale;

/// What lies outside of the scanner's field of view is given the HU of air.
pub(super) const AIR: f32 = -1024.0;
/// HU of tissue, as 12 bits hold them; a padding value among them cannot be told from tissue.
const TISSUE: std::ops::RangeInclusive<f64> = -1024.0..=3071.0;

/// How a stored number is to be understood.
#[derive(Clone)]
pub(super) struct Format {
    pub(super) syntax: Syntax,
    pub(super) size: Size,
    pub(super) bytes_per_pixel: usize,
    /// Shifts that leave the stored bits alone, at the bottom.
    left: u32,
    right: u32,
    signed: bool,
    /// The sum of the smallest and the largest number, for MONOCHROME1.
    pub(super) inverted: Option<i32>,
    /// Stored numbers that stand for no measurement, from and to.
    pub(super) padding: Option<[i32; 2]>,
}

impl Format {
    pub(super) fn of(h: &Header) -> Result<Self, DicomFault> {
        if let Syntax::Other(uid) = &h.syntax {
            return Err(DicomFault::TransferSyntax { uid: uid.clone() });
        }
        if h.samples_per_pixel != 1 {
            return Err(DicomFault::NotGrey("it has several samples a pixel"));
        }
        let inverted = match h.photometric.as_str() {
            "MONOCHROME1" => true,
            "MONOCHROME2" => false,
            "PALETTECOLOR" => return Err(DicomFault::NotGrey("it has a color palette")),
            _ => return Err(DicomFault::NotGrey("PhotometricInterpretation is not MONOCHROME")),
        };
        if h.modality_lut {
            return Err(DicomFault::Layout("a table gives the HU (ModalityLUTSequence)"));
        }
        let allocated = u32::from(h.bits_allocated);
        if allocated != 8 && allocated != 16 {
            return Err(DicomFault::Layout("BitsAllocated is neither 8 nor 16"));
        }
        let stored = h.bits_stored.map_or(allocated, u32::from);
        let high_bit = h.high_bit.map_or(stored.wrapping_sub(1), u32::from);
        if !(1..=allocated).contains(&stored) || !(stored - 1..allocated).contains(&high_bit) {
            return Err(DicomFault::Layout("BitsStored and HighBit contradict BitsAllocated"));
        }
        let mut format = Self {
            syntax: h.syntax.clone(),
            size: (h.rows, h.columns),
            bytes_per_pixel: if allocated == 8 { 1 } else { 2 },
            left: 15 - high_bit,
            right: 16 - stored,
            signed: h.signed,
            inverted: None,
            padding: None,
        };
        format.padding = h.padding.filter(|_| h.modality.as_deref() == Some("CT")).map(|from| {
            // The value may use more bits than pixels do: it is only extended.
            let number = |v: u16| if h.signed { i32::from(v.cast_signed()) } else { i32::from(v) };
            let (a, b) = (number(from), number(h.padding_limit.unwrap_or(from)));
            [a.min(b), a.max(b)]
        });
        if inverted {
            format.inverted = Some(if h.signed { -1 } else { (1 << stored) - 1 });
        }
        Ok(format)
    }

    pub(super) fn pixels(&self) -> usize {
        usize::from(self.size.0) * usize::from(self.size.1)
    }

    fn number(&self, raw: u16) -> i32 {
        let top = raw << self.left;
        if self.signed {
            i32::from(top.cast_signed() >> self.right)
        } else {
            i32::from(top >> self.right)
        }
    }
}

/// A kind of voxel that stored numbers are converted to.
pub(super) trait Voxel: Copy + Send + Default {
    const AIR: Self;
    /// `None` if it does not fit.
    fn of(intensity: f64) -> Option<Self>;
}

impl Voxel for f32 {
    const AIR: Self = AIR;
    fn of(intensity: f64) -> Option<Self> {
        Some(intensity as f32)
    }
}

impl Voxel for i16 {
    const AIR: Self = -1024;
    fn of(intensity: f64) -> Option<Self> {
        let fits = (f64::from(Self::MIN)..=f64::from(Self::MAX)).contains(&intensity);
        fits.then_some(intensity as Self)
    }
}

/// The part of the volume that one frame fills.
pub(super) struct Target<'a, T> {
    pub(super) frame: usize,
    pub(super) scale: Scale,
    pub(super) voxels: &'a mut [T],
}

/// Why a file could not be converted.
pub(super) enum FileStop {
    /// A number does not fit the kind of voxel.
    TooLarge,
    Fault(DicomFault),
}

impl From<DicomFault> for FileStop {
    fn from(fault: DicomFault) -> Self {
        Self::Fault(fault)
    }
}

/// Writes the intensities of one frame; returns how many are padding.
pub(super) fn convert<T: Voxel>(
    raw: impl Iterator<Item = u16>,
    format: &Format,
    target: Target<'_, T>,
) -> Result<u64, FileStop> {
    let Scale { slope, inter } = target.scale;
    let intensity = |stored: i32| f64::from(stored) * slope + inter;
    let mut padding = 0;
    for (voxel, raw) in target.voxels.iter_mut().zip(raw) {
        let stored = format.number(raw);
        if let Some([from, to]) = format.padding
            && (from..=to).contains(&stored)
            && !TISSUE.contains(&intensity(stored))
        {
            *voxel = T::AIR;
            padding += 1;
            continue;
        }
        let stored = format.inverted.map_or(stored, |sum| sum - stored);
        *voxel = T::of(intensity(stored)).ok_or(FileStop::TooLarge)?;
    }
    Ok(padding)
}
