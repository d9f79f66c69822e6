//! NRRD: attached (`.nrrd`) and detached (`.nhdr` with its voxels in a file beside it).
//!
//! The first axis of a file runs fastest, which makes it i: the file order is C order of
//! `[D, H, W]` as it stands.

mod header;
mod labels;
mod segmentation;
mod text;
mod values;

use std::path::{Path, PathBuf};

use super::scalar::{Decoder, Endian};
use super::source::{Rest, Source, check_size};
use super::{Loaded, ReadOptions, SourceKind, findings, frames, open_file, overrides, voxels};
use crate::error::Detail;
use crate::error::join;
use crate::{AffineSource, Error, Geometry, Volume, Voxels, Warning, affine};
use header::{ByteSkip, Encoding, Header, Space};
pub(super) use labels::read_labels;
pub use segmentation::{Segment, Segmentation, write_segmentation, write_segmentation_to};

pub(super) const MAGIC: &[u8] = b"NRRD000";
const KIND: SourceKind = SourceKind::Nrrd;

/// Reads a volume from the start of `source`, which begins with [`MAGIC`].
pub(super) fn read(mut source: Source<'_>, options: &ReadOptions) -> Result<Loaded, Error> {
    let path = source.path();
    let (header, grid) = grid(&mut source, options)?;
    if grid.layers != 1 {
        return Err(Detail::NrrdShape { path, shape: join(&header.sizes) }.into());
    }
    let Grid { geometry, mut warnings, .. } = grid;
    let data = stored(source, &header, geometry.voxels(), options, &mut warnings)?;
    Ok(Loaded { volume: Volume::new(data, geometry)?, warnings, kind: KIND, series: None })
}

/// So many voxels, which the file has behind its header or beside it.
fn stored(
    mut source: Source<'_>,
    header: &Header,
    count: usize,
    options: &ReadOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Voxels, Error> {
    let path = source.path();
    if let Some(name) = &header.data_file {
        source = detached(&source, name)?;
    }
    for _ in 0..header.line_skip {
        skip_line(&mut source)?;
    }
    if header.encoding == Encoding::Gzip {
        source = source.inflate();
    }
    let size = header.scalar.size();
    match header.byte_skip {
        ByteSkip::Count(bytes) if MAX_SKIP < bytes => {
            let reason = "byte skip is more than 256 MiB";
            return Err(Detail::NrrdHeader { path, reason }.into());
        }
        ByteSkip::Count(bytes) => source.skip(bytes)?,
        ByteSkip::FromEnd => {
            let left = source.left().filter(|_| header.encoding == Encoding::Raw);
            let reason = "byte skip -1 needs raw voxels in a file that is not compressed";
            let left =
                left.ok_or(Error::from(Detail::NrrdHeader { path: path.clone(), reason }))?;
            source.skip(left.saturating_sub(count as u64 * size as u64))?;
        }
    }

    let mut decoder = Decoder { scalar: header.scalar, endian: header.endian, scale: None };
    let (data, rest) = if header.encoding == Encoding::Text {
        let (bytes, more) = text::stored_bytes(&mut source, count, header.scalar, options)?;
        decoder.endian = Endian::Little;
        let data = Source::plain(bytes.as_slice(), &path, None).voxels(KIND, count, &decoder)?;
        (data, if more { Rest::MoreData } else { Rest::Nothing })
    } else {
        (source.voxels(KIND, count, &decoder)?, source.rest()?)
    };
    warnings.extend(findings::rest(&rest));
    voxels::make_finite(path, data, warnings)
}

/// Only the geometry, with the warnings about it.
pub(super) fn geometry(
    mut source: Source<'_>,
    options: &ReadOptions,
) -> Result<(Geometry, Vec<Warning>), Error> {
    let (_, Grid { geometry, warnings, .. }) = grid(&mut source, options)?;
    Ok((geometry, warnings))
}

/// Where the voxels lie.
struct Grid {
    geometry: Geometry,
    /// How many values each voxel has, one after the other: layers of a segmentation.
    layers: usize,
    warnings: Vec<Warning>,
}

/// Most bytes that are passed over on the way to the voxels.
const MAX_SKIP: u64 = 256 << 20;
/// Most bytes of lines, which are passed over one by one, and of the header before them.
const MAX_LINES: u64 = 4 << 20;

/// The header, the grid and its place, before any voxel is read.
fn grid(source: &mut Source<'_>, options: &ReadOptions) -> Result<(Header, Grid), Error> {
    let path = source.path();
    source.set_kind(KIND);
    let header = Header::read(source)?;
    let size = header.scalar.size();
    check_size(&path, KIND, &header.sizes, size, options)?;
    frames::chosen(&path, 1, options)?;
    let axes = axes(&header).ok_or_else(|| {
        Error::from(Detail::NrrdShape { path: path.clone(), shape: join(&header.sizes) })
    })?;
    // `check_size` has shown that the product, hence each size, fits.
    let [w, h, d] = axes.map(|n| usize::try_from(header.sizes[n]).unwrap_or(usize::MAX));
    voxels::check_axes(path.clone(), [d, h, w], options)?;
    let mut warnings = Vec::new();
    let geometry = match place(&header, axes, [d, h, w], &path, &mut warnings) {
        Ok(geometry) => geometry,
        Err(error) => match error.detail() {
            Detail::NrrdAffine { reason, .. } if overrides::replace_geometry(options) => {
                warnings.push(overrides::replaced("space directions", reason));
                Geometry::without_affine([d, h, w])
            }
            _ => return Err(error),
        },
    };
    // All other axes have one voxel, but perhaps the first.
    let layers = if axes.contains(&0) { 1 } else { header.sizes[0] };
    let layers = usize::try_from(layers).unwrap_or(usize::MAX);
    Ok((header, Grid { geometry, layers, warnings }))
}

/// The three axes of the file that make the volume; all others have one voxel, but the first may be a list.
fn axes(header: &Header) -> Option<[usize; 3]> {
    let in_world = |n: usize| match (&header.directions, &header.domains) {
        (Some(directions), _) => directions.get(n).is_some_and(Option::is_some),
        (None, Some(domains)) => domains.get(n) == Some(&true),
        (None, None) => true,
    };
    let mut axes: Vec<usize> = (0..header.sizes.len()).filter(|n| in_world(*n)).collect();
    // Where nothing says which axis of one voxel is the odd one, it is the last.
    while 3 < axes.len() {
        let odd = axes.iter().rposition(|n| header.sizes.get(*n) == Some(&1))?;
        axes.remove(odd);
    }
    let outside = |n: &usize| !axes.contains(n);
    let is_single = |n: usize| n == 0 || header.sizes.get(n) == Some(&1);
    let single = (0..header.sizes.len()).filter(outside).all(is_single);
    axes.try_into().ok().filter(|_| single)
}

fn place(
    header: &Header,
    axes: [usize; 3],
    shape: [usize; 3],
    path: &Path,
    warnings: &mut Vec<Warning>,
) -> Result<Geometry, Error> {
    let mut guess = |text: &str| {
        warnings.push(
            Warning::new("W-GEOM-GUESS", text)
                .with_remedy("export the volume again with its position"),
        );
    };
    // Where the file does not say, its world is taken for LPS, as ITK takes it.
    const LPS: [f64; 3] = [-1.0, -1.0, 1.0];
    let signs = match header.space {
        Some(Space::Anatomical(signs)) => signs,
        _ => LPS,
    };
    let (columns, origin) = if let Some(directions) = &header.directions {
        match (header.space, header.origin) {
            (Some(Space::Anatomical(_)), Some(_)) => {}
            (Some(Space::Anatomical(_)), None) => {
                guess("there is no space origin: the position is a guess")
            }
            _ => guess("the space is not an anatomical one: position and left/right are guessed"),
        }
        // `axes` took axes with a direction only.
        let step = |n: usize| directions.get(n).copied().flatten().unwrap_or([f64::NAN; 3]);
        (axes.map(step), header.origin.unwrap_or_default())
    } else if let Some(spacings) = &header.spacings {
        guess("there are spacings, but no directions: position and left/right are guessed");
        let mm = axes.map(|n| spacings.get(n).copied().unwrap_or(f64::NAN));
        ([[mm[0], 0.0, 0.0], [0.0, mm[1], 0.0], [0.0, 0.0, mm[2]]], [0.0; 3])
    } else {
        warnings.push(findings::no_spacing("the NRRD header"));
        return Ok(Geometry::without_affine(shape));
    };
    let row = |r: usize| {
        [columns[0][r], columns[1][r], columns[2][r], origin[r]]
            .map(|v| v * signs[r] + /* no -0 */ 0.0)
    };
    let affine = affine::from_rows([row(0), row(1), row(2)]);
    if !header.in_mm {
        let text = "the space units are not mm: distances are taken for mm";
        warnings.push(Warning::new("W-UNITS", text));
    }
    if let Some(reason) = affine::defect(&affine) {
        return Err(Detail::NrrdAffine { path: path.to_owned(), reason }.into());
    }
    warnings.extend(findings::shear(&affine));
    let sides_are_known =
        header.directions.is_some() && matches!(header.space, Some(Space::Anatomical(_)));
    let geometry = Geometry::with_affine(shape, affine)?.with_source(AffineSource::Nrrd);
    Ok(geometry.with_guessed_sides(!sides_are_known))
}

/// The file with the voxels, which a detached header names.
fn detached(header: &Source<'_>, name: &str) -> Result<Source<'static>, Error> {
    let path = header.path();
    let refused = |reason| Error::from(Detail::NrrdDataFile { path: path.clone(), reason });
    if name == "LIST" || name.starts_with("LIST ") || name.contains('%') {
        return Err(refused("the voxels are spread over several files"));
    }
    if name.is_empty() || name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
        return Err(refused("the voxels are not in a file of the header's own folder"));
    }
    if !header.is_file() {
        return Err(refused("the voxels are in another file, which a stream does not have"));
    }
    let data: PathBuf = path.with_file_name(name);
    // Errors name the header: the other name is text of its.
    let (file, length) = open_file(&data, &path).map_err(|e| match e {
        e if e.is_not_found() => Error::from(Detail::NrrdDataMissing { path: path.clone() }),
        e => e,
    })?;
    if length == 0 {
        return Err(refused("the file with the voxels is empty (0 bytes)"));
    }
    let mut source = Source::plain(file, &path, Some(length));
    source.set_kind(KIND);
    Ok(source)
}

fn skip_line(source: &mut Source<'_>) -> Result<(), Error> {
    let mut byte = [0];
    while byte != *b"\n" {
        let reason = if MAX_LINES < source.got() {
            "line skip goes over more than 4 MiB"
        } else if source.fill(&mut byte)? == 0 {
            "line skip goes beyond the lines that there are"
        } else {
            continue;
        };
        return Err(Detail::NrrdHeader { path: source.path(), reason }.into());
    }
    Ok(())
}
