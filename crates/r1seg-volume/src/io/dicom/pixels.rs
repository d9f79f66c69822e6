//! The pixels of all slices, read in parallel, straight into the volume.

use std::io::{self, Read};

use rayon::prelude::*;

use super::codec;
use super::dataset::Input;
use super::fault::DicomFault;
use super::format::{AIR, FileStop, Format, Target, Voxel, convert};
use super::fragments::Fragments;
use super::geometry::{Grid, Mix, Slice};
use super::header::{self, Endian, Header, Syntax};
use super::series::Series;
use super::store::Store;
use crate::error::Detail;
use crate::io::voxels::make_finite;
use crate::{Error, ReadOptions, Scale, Voxels, Warning};

/// Most pixels of a compressed slice: a few bytes of codestream may claim any number.
const MOST_COMPRESSED: usize = 1 << 24;

enum Stop {
    /// A number does not fit the kind of voxel.
    TooLarge,
    Error(Error),
}

/// Reads the voxels of `grid`, `[D, H, W]`.
pub(super) fn read(
    store: &Store,
    series: &Series,
    grid: &Grid,
    options: &ReadOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Voxels, Error> {
    let formats: Vec<Format> = series
        .images
        .iter()
        .map(|image| Format::of(&image.header).map_err(|f| fault(store, image.file, f)))
        .collect::<Result<_, _>>()?;
    let source = Pixels { store, series, formats: &formats, grid, most: options.max_bytes };
    let whole = |s: &Slice| s.scale.slope.fract() == 0.0 && s.scale.inter.fract() == 0.0;
    let first = grid.slices.first().map_or(Scale::IDENTITY, |s| s.scale);
    let one_scale = grid.slices.iter().all(|s| s.scale == first);
    let padded = formats.iter().any(|f| f.padding.is_some());

    let read = if grid.mixes.is_some() {
        None
    } else if grid.slices.iter().all(whole) {
        source.fill::<i16>(|slice| slice.scale)?.map(|(v, n)| (Voxels::from(v), n))
    } else if one_scale && !padded {
        let stored = source.fill::<i16>(|_| Scale::IDENTITY)?;
        stored.map(|(stored, n)| (Voxels::I16 { stored, scale: first }, n))
    } else {
        None
    };
    let (voxels, padding) = match read {
        Some(read) => read,
        None => {
            let Some((data, n)) = source.fill::<f32>(|slice| slice.scale)? else {
                return Err(Detail::OutOfMemory { path: store.path.clone(), bytes: 0 }.into());
            };
            (data.into(), n)
        }
    };
    let mut voxels = make_finite(store.path.clone(), voxels, warnings)?;
    if let Some(mixes) = &grid.mixes {
        voxels = mix(store, &voxels.to_f32(), mixes, source.plane())?.into();
    }
    if 0 < padding {
        let all = source.plane() * grid.slices.len();
        let text = format!(
            "{padding} of {all} voxels are padding beyond the field of view (PixelPaddingValue): \
             they are read as {AIR} HU"
        );
        warnings.push(Warning::new("W-PADDING", text));
    }
    if formats.iter().any(|f| f.inverted.is_some()) {
        let text = "pixels are stored inverted (MONOCHROME1): the range of stored numbers is \
                    turned around before RescaleSlope and RescaleIntercept";
        warnings.push(
            Warning::new("W-INVERTED", text).with_remedy("check in a viewer that air is dark"),
        );
    }
    Ok(voxels)
}

fn fault(store: &Store, file: usize, fault: DicomFault) -> Error {
    Error::from(Detail::Dicom { path: store.name(file), fault })
}

/// Interpolates planes of `plane` voxels.
fn mix(store: &Store, data: &[f32], mixes: &[Mix], plane: usize) -> Result<Vec<f32>, Error> {
    let mut out: Vec<f32> = reserve(store, mixes.len().saturating_mul(plane))?;
    for (low, share) in mixes {
        let pair = data.get(low * plane..).unwrap_or_default();
        let (a, b) = pair.split_at(plane.min(pair.len()));
        // In f64, which holds the difference of any two.
        let mixed = |(a, b): (&f32, &f32)| {
            let [a, b, share] = [*a, *b, *share].map(f64::from);
            (a + (b - a) * share) as f32
        };
        out.extend(a.iter().zip(b).map(mixed));
    }
    Ok(out)
}

fn reserve<T>(store: &Store, count: usize) -> Result<Vec<T>, Error> {
    let mut data = Vec::new();
    data.try_reserve_exact(count).map_err(|_| {
        Error::from(Detail::OutOfMemory {
            path: store.path.clone(),
            bytes: (count as u64).saturating_mul(size_of::<T>() as u64),
        })
    })?;
    Ok(data)
}

/// Where pixels come from.
struct Pixels<'a> {
    store: &'a Store,
    series: &'a Series,
    formats: &'a [Format],
    grid: &'a Grid,
    most: u64,
}

impl Pixels<'_> {
    fn plane(&self) -> usize {
        self.formats.first().map_or(0, Format::pixels)
    }

    /// All slices, and how many voxels are padding; `None` if a number does not fit `T`.
    fn fill<T: Voxel>(
        &self,
        scale: impl Fn(&Slice) -> Scale,
    ) -> Result<Option<(Vec<T>, u64)>, Error> {
        let count = self.plane().saturating_mul(self.grid.slices.len());
        drop(reserve::<T>(self.store, count)?);
        // Zeroed by the system, and not touched before there are pixels for it.
        let mut data = vec![T::default(); count];
        let mut files: Vec<Vec<Target<'_, T>>> =
            self.series.images.iter().map(|_| Vec::new()).collect();
        for (voxels, slice) in data.chunks_mut(self.plane().max(1)).zip(&self.grid.slices) {
            let target = Target { frame: slice.frame, scale: scale(slice), voxels };
            if let Some(targets) = files.get_mut(slice.image) {
                targets.push(target);
            }
        }
        let images = self.series.images.par_iter().zip(self.formats).zip(files);
        let padding = images
            .filter(|(_, targets)| !targets.is_empty())
            .map(|((image, format), mut targets)| {
                targets.sort_by_key(|target| target.frame);
                self.store
                    .with(image.file, |reader| {
                        self.fill_file(&image.header, reader, format, targets)
                    })
                    .map_err(Stop::Error)?
                    .map_err(|stop| match stop {
                        FileStop::TooLarge => Stop::TooLarge,
                        FileStop::Fault(f) => Stop::Error(fault(self.store, image.file, f)),
                    })
            })
            .try_reduce(|| 0, |a, b| Ok(a + b));
        match padding {
            Ok(padding) => Ok(Some((data, padding))),
            Err(Stop::TooLarge) => Ok(None),
            Err(Stop::Error(e)) => Err(e),
        }
    }

    /// `targets` are in the order of frames.
    fn fill_file<T: Voxel>(
        &self,
        seen: &Header,
        mut reader: Box<dyn Read + '_>,
        format: &Format,
        targets: Vec<Target<'_, T>>,
    ) -> Result<u64, FileStop> {
        Input::new(&mut reader).skip(132)?;
        let mut opened = header::open(reader, self.most).map_err(|broken| broken.fault)?;
        let h = &opened.header;
        let same = (h.rows, h.columns, &h.syntax) == (seen.rows, seen.columns, &seen.syntax);
        let Some(pixels) = h.pixels.filter(|_| same) else {
            return Err(DicomFault::Malformed("the file has changed while it was read").into());
        };
        let padding = match (format.syntax.clone(), pixels.length) {
            (Syntax::Native(_) | Syntax::Deflated, Some(length)) => {
                let endian = if format.syntax == Syntax::Native(Endian::Big) {
                    Endian::Big
                } else {
                    Endian::Little
                };
                native(&mut opened.rest, length, endian, format, targets)
            }
            (Syntax::Native(_) | Syntax::Deflated, None) => {
                Err(DicomFault::Malformed("uncompressed pixels have no length").into())
            }
            (_, Some(_)) => Err(DicomFault::Malformed("compressed pixels are no fragments").into()),
            (_, None) => self.encapsulated(&mut opened.rest, h.frames()?, format, targets),
        }?;
        if self.store.has_checksums() && io::copy(&mut opened.rest, &mut io::sink()).is_err() {
            return Err(DicomFault::Zip("data of a member is corrupt").into());
        }
        Ok(padding)
    }

    fn encapsulated<T: Voxel>(
        &self,
        reader: &mut dyn Read,
        frames: usize,
        format: &Format,
        targets: Vec<Target<'_, T>>,
    ) -> Result<u64, FileStop> {
        if MOST_COMPRESSED < format.pixels() {
            let (what, count) = ("pixels of a compressed slice", format.pixels() as u64);
            return Err(DicomFault::TooMany { what, count, most: MOST_COMPRESSED as u64 }.into());
        }
        let fragments = Fragments::read(reader, self.most)?;
        targets
            .into_par_iter()
            .map(|target| {
                let data = fragments.frame(target.frame, frames)?;
                let pixels =
                    codec::decode(&format.syntax, &data, format.size, format.bytes_per_pixel)?;
                convert(pixels.into_iter(), format, target)
            })
            .try_reduce(|| 0, |a, b| Ok(a + b))
    }
}

fn native<T: Voxel>(
    reader: &mut dyn Read,
    length: u32,
    endian: Endian,
    format: &Format,
    targets: Vec<Target<'_, T>>,
) -> Result<u64, FileStop> {
    let frame_bytes = format.pixels() * format.bytes_per_pixel;
    let (mut at, mut padding) = (0_u64, 0);
    let mut bytes = vec![0; frame_bytes];
    for target in targets {
        let start = target.frame as u64 * frame_bytes as u64;
        let expected = start + frame_bytes as u64;
        let short = |got: u64| DicomFault::PixelsShort { expected, got };
        if u64::from(length) < expected {
            return Err(short(length.into()).into());
        }
        let mut input = Input::new(reader);
        input.skip(start - at).map_err(|_| short(at))?;
        input.fill(&mut bytes).map_err(|f| match f {
            DicomFault::EndsEarly { at } => short(start + at.saturating_sub(start)),
            f => f,
        })?;
        at = expected;
        padding += match (format.bytes_per_pixel, endian) {
            (1, _) => convert(bytes.iter().map(|b| u16::from(*b)), format, target)?,
            (_, Endian::Little) => {
                let words = bytes.as_chunks::<2>().0;
                convert(words.iter().map(|w| u16::from_le_bytes(*w)), format, target)?
            }
            (_, Endian::Big) => {
                let words = bytes.as_chunks::<2>().0;
                convert(words.iter().map(|w| u16::from_be_bytes(*w)), format, target)?
            }
        };
    }
    Ok(padding)
}
