//! Headers and pixels as the `dicom-object` crate reads them, put together here by the rules of the
//! standard, are the volume that r1seg makes of the same files.

use std::path::PathBuf;

use dicom_object::{DefaultDicomObject, Tag, from_reader, open_file};
use r1seg_volume::Volume;

use crate::builder::{BIG_ENDIAN, Dcm, EXPLICIT, IMPLICIT, Value, load, series};
use crate::real;

fn floats(object: &DefaultDicomObject, tag: Tag) -> Vec<f64> {
    object.element(tag).map_or(Vec::new(), |element| element.to_multi_float64().unwrap())
}

fn int(object: &DefaultDicomObject, tag: Tag) -> u16 {
    object.element(tag).unwrap().to_int().unwrap()
}

struct Slice {
    /// Where the first pixel is, and along the normal of the slice, in mm (LPS).
    position: [f64; 3],
    along: f64,
    /// Rows and columns, their spacing, and the steps along a row and a column in mm.
    size: [usize; 2],
    steps: [[f64; 3]; 2],
    hu: Vec<f32>,
}

impl Slice {
    fn new(object: &DefaultDicomObject) -> Self {
        let position: [f64; 3] = floats(object, Tag(0x20, 0x32)).try_into().unwrap();
        let cosines: [f64; 6] = floats(object, Tag(0x20, 0x37)).try_into().unwrap();
        let [between_rows, between_columns] = floats(object, Tag(0x28, 0x30)).try_into().unwrap();
        let [a, b, c, d, e, f] = cosines;
        let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
        let along = normal.iter().zip(position).map(|(n, p)| n * p).sum();
        let (bits, signed) = (int(object, Tag(0x28, 0x101)), int(object, Tag(0x28, 0x103)) == 1);
        let number = |word: u16| {
            let high = word << (16 - bits);
            if signed {
                f64::from(high as i16 >> (16 - bits))
            } else {
                f64::from(high >> (16 - bits))
            }
        };
        let one = |tag, default| floats(object, tag).first().copied().unwrap_or(default);
        let (slope, intercept) = (one(Tag(0x28, 0x1053), 1.0), one(Tag(0x28, 0x1052), 0.0));
        let words = object.element(Tag(0x7fe0, 0x10)).unwrap().to_multi_int::<u16>().unwrap();
        Self {
            position,
            along,
            size: [int(object, Tag(0x28, 0x10)), int(object, Tag(0x28, 0x11))].map(usize::from),
            steps: [[a, b, c].map(|x| x * between_columns), [d, e, f].map(|x| x * between_rows)],
            hu: words.into_iter().map(|word| (slope * number(word) + intercept) as f32).collect(),
        }
    }
}

fn assert_same(ours: &Volume, objects: &[DefaultDicomObject]) {
    let mut slices: Vec<Slice> = objects.iter().map(Slice::new).collect();
    slices.sort_by(|a, b| a.along.total_cmp(&b.along));
    let (first, last) = (&slices[0], &slices[slices.len() - 1]);
    let [rows, columns] = first.size;
    assert_eq!(ours.shape(), [slices.len(), rows, columns]);

    let hu = slices.iter().flat_map(|slice| &slice.hu);
    let differ = ours.voxels().iter().zip(hu).filter(|(a, b)| a != *b).count();
    assert_eq!(differ, 0, "voxels");

    let most = (slices.len() - 1) as f64;
    let between: [f64; 3] = std::array::from_fn(|i| (last.position[i] - first.position[i]) / most);
    let columns = [first.steps[0], first.steps[1], between, first.position];
    let affine = ours.geometry().affine().unwrap();
    for (n, column) in columns.into_iter().enumerate() {
        // RAS+, where DICOM has LPS+.
        for (row, expected) in [-column[0], -column[1], column[2]].into_iter().enumerate() {
            assert!((affine[row][n] - expected).abs() < 1e-5, "{affine:?}: {row}, {n}: {expected}");
        }
    }
}

#[test]
fn series_of_every_uncompressed_syntax_are_what_dicom_object_reads() {
    for syntax in [IMPLICIT, EXPLICIT, BIG_ENDIAN] {
        for undefined_lengths in [false, true] {
            let mut files = series(5);
            for (k, file) in (0_i32..).zip(&mut files) {
                file.syntax = syntax;
                file.undefined_lengths = undefined_lengths;
                // A private sequence within a sequence, and pixels with a sign.
                let inner = Dcm::slice(0).elements;
                file.set((0x9, 0x1010), "SQ", Value::Sequence(vec![inner]));
                let words: Vec<u16> = (0..24).map(|n| (900 * (k - 2) - 50 * n) as u16).collect();
                file.bits(16, 16, true).pixels(&words);
                file.orientation([0.0, 1.0, 0.0, 0.0, 0.0, -1.0]);
                file.position([f64::from(3 * k), 7.5, -20.0]);
            }
            let read = |file: &Dcm| from_reader(file.file().as_slice()).unwrap();
            assert_same(&load(&files).volume, &files.iter().map(read).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_series_of_a_scanner_is_what_dicom_object_reads() {
    let name = "dicom/ibsi1_lung/image";
    let (Some(folder), Some(ours)) = (real::data(name), real::load(name)) else { return };
    let paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let objects: Vec<_> = paths.into_iter().map(|path| open_file(path).unwrap()).collect();
    assert_same(&ours.volume, &objects);
}
