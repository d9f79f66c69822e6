//! DICOM files, written element by element, so that every one of them can be wrong on purpose.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::DeflateEncoder};
use r1seg_volume::{Error, Loaded, ReadOptions, read};

pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
pub(crate) const RLE: &str = "1.2.840.10008.1.2.5";
pub(crate) const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
pub(crate) const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
pub(crate) const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
/// Stands in every attribute that may name a patient.
pub(crate) const PATIENT: &str = "CANARY";

pub(crate) type Tag = (u16, u16);
pub(crate) type Items = BTreeMap<Tag, (&'static str, Value)>;

#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    Words(Vec<u16>),
    Bytes(Vec<u8>),
    Sequence(Vec<Items>),
    Fragments(Vec<Vec<u8>>),
}

/// A CT slice of 4 rows and 6 columns; `set` and `remove` change anything about it.
#[derive(Clone)]
pub(crate) struct Dcm {
    pub(crate) syntax: &'static str,
    /// Writes sequences with delimiters instead of lengths.
    pub(crate) undefined_lengths: bool,
    pub(crate) elements: Items,
}

pub(crate) const ROWS: u16 = 4;
pub(crate) const COLUMNS: u16 = 6;

fn join(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join("\\")
}

impl Dcm {
    /// Slice `k` of an axial series: voxel `(i, j, k)` is stored as `1000 + 100 k + 10 j + i` and
    /// lies at `(-20 + 0.7 i, -30 + 0.8 j, 40 + 2.5 k)` mm, LPS; HU are 1024 less.
    pub(crate) fn slice(k: u16) -> Self {
        let pixels = (0..ROWS * COLUMNS).map(|n| 1000 + 100 * k + 10 * (n / COLUMNS) + n % COLUMNS);
        let mut dcm = Self { syntax: EXPLICIT, undefined_lengths: false, elements: Items::new() };
        let name = format!("{PATIENT}^NAME");
        dcm.text((8, 8), "CS", "ORIGINAL\\PRIMARY\\AXIAL")
            .text((8, 0x16), "UI", "1.2.840.10008.5.1.4.1.1.2")
            .text((8, 0x18), "UI", &format!("1.2.3.{k}"))
            .text((8, 0x20), "DA", PATIENT)
            .text((8, 0x60), "CS", "CT")
            .text((8, 0x103e), "LO", &name)
            .text((0x10, 0x10), "PN", &name)
            .text((0x10, 0x20), "LO", PATIENT)
            .text((0x18, 0x50), "DS", "2.5")
            .text((0x20, 0xe), "UI", "1.2.3.4.987654321")
            .position([-20.0, -30.0, 40.0 + 2.5 * f64::from(k)])
            .orientation([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
            .words((0x28, 2), &[1])
            .text((0x28, 4), "CS", "MONOCHROME2")
            .words((0x28, 0x10), &[ROWS])
            .words((0x28, 0x11), &[COLUMNS])
            .text((0x28, 0x30), "DS", "0.8\\0.7")
            .bits(16, 12, false)
            .text((0x28, 0x1052), "DS", "-1024")
            .text((0x28, 0x1053), "DS", "1")
            .pixels(&pixels.collect::<Vec<_>>());
        dcm
    }

    pub(crate) fn set(&mut self, tag: Tag, vr: &'static str, value: Value) -> &mut Self {
        self.elements.insert(tag, (vr, value));
        self
    }

    pub(crate) fn text(&mut self, tag: Tag, vr: &'static str, text: &str) -> &mut Self {
        self.set(tag, vr, Value::Text(text.to_owned()))
    }

    pub(crate) fn words(&mut self, tag: Tag, words: &[u16]) -> &mut Self {
        self.set(tag, "US", Value::Words(words.to_vec()))
    }

    pub(crate) fn remove(&mut self, tag: Tag) -> &mut Self {
        self.elements.remove(&tag);
        self
    }

    pub(crate) fn position(&mut self, mm: [f64; 3]) -> &mut Self {
        self.text((0x20, 0x32), "DS", &join(&mm))
    }

    pub(crate) fn orientation(&mut self, cosines: [f64; 6]) -> &mut Self {
        self.text((0x20, 0x37), "DS", &join(&cosines))
    }

    pub(crate) fn series(&mut self, uid: &str) -> &mut Self {
        self.text((0x20, 0xe), "UI", uid)
    }

    pub(crate) fn instance(&mut self, uid: &str) -> &mut Self {
        self.text((8, 0x18), "UI", uid)
    }

    pub(crate) fn bits(&mut self, allocated: u16, stored: u16, signed: bool) -> &mut Self {
        self.words((0x28, 0x100), &[allocated])
            .words((0x28, 0x101), &[stored])
            .words((0x28, 0x102), &[stored - 1])
            .words((0x28, 0x103), &[signed.into()])
    }

    pub(crate) fn pixels(&mut self, words: &[u16]) -> &mut Self {
        self.set((0x7fe0, 0x10), "OW", Value::Words(words.to_vec()))
    }

    /// The stored numbers, if they are not compressed.
    pub(crate) fn stored(&self) -> Vec<u16> {
        match self.elements.get(&(0x7fe0, 0x10)) {
            Some((_, Value::Words(words))) => words.clone(),
            _ => panic!(),
        }
    }

    /// Compressed pixels, behind an empty offset table.
    pub(crate) fn fragments(&mut self, syntax: &'static str, parts: &[Vec<u8>]) -> &mut Self {
        self.syntax = syntax;
        let parts = [&[vec![]], parts].concat();
        self.set((0x7fe0, 0x10), "OB", Value::Fragments(parts))
    }

    /// The file: preamble, meta group, data set.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        let meta = Writer { implicit: false, big: false, undefined_lengths: false };
        let mut group = Vec::new();
        let uid = Value::Text(self.syntax.to_owned());
        meta.element(&mut group, (2, 0x10), "UI", &uid);
        let length = (group.len() as u32).to_le_bytes().to_vec();
        meta.element(&mut out, (2, 0), "UL", &Value::Bytes(length));
        out.extend(group);
        let writer = Writer {
            implicit: self.syntax == IMPLICIT,
            big: self.syntax == BIG_ENDIAN,
            undefined_lengths: self.undefined_lengths,
        };
        let mut set = Vec::new();
        writer.items(&mut set, &self.elements);
        if self.syntax == DEFLATED {
            let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
            deflate.write_all(&set).unwrap();
            set = deflate.finish().unwrap();
        }
        out.extend(set);
        out
    }
}

struct Writer {
    implicit: bool,
    big: bool,
    undefined_lengths: bool,
}

impl Writer {
    fn u16(&self, out: &mut Vec<u8>, v: u16) {
        out.extend(if self.big { v.to_be_bytes() } else { v.to_le_bytes() });
    }

    fn u32(&self, out: &mut Vec<u8>, v: u32) {
        out.extend(if self.big { v.to_be_bytes() } else { v.to_le_bytes() });
    }

    fn tag(&self, out: &mut Vec<u8>, (group, element): Tag) {
        self.u16(out, group);
        self.u16(out, element);
    }

    fn items(&self, out: &mut Vec<u8>, items: &Items) {
        for (tag, (vr, value)) in items {
            self.element(out, *tag, vr, value);
        }
    }

    fn element(&self, out: &mut Vec<u8>, tag: Tag, vr: &str, value: &Value) {
        let mut bytes = Vec::new();
        let mut undefined = false;
        match value {
            Value::Text(text) => {
                bytes.extend(text.as_bytes());
                if bytes.len() % 2 == 1 {
                    bytes.push(if vr == "UI" { 0 } else { b' ' });
                }
            }
            Value::Words(words) => words.iter().for_each(|w| self.u16(&mut bytes, *w)),
            Value::Bytes(raw) => bytes.extend(raw),
            Value::Sequence(items) => {
                undefined = self.undefined_lengths;
                for item in items {
                    let mut inner = Vec::new();
                    self.items(&mut inner, item);
                    self.tag(&mut bytes, (0xfffe, 0xe000));
                    self.u32(&mut bytes, if undefined { u32::MAX } else { inner.len() as u32 });
                    bytes.extend(inner);
                    if undefined {
                        self.tag(&mut bytes, (0xfffe, 0xe00d));
                        self.u32(&mut bytes, 0);
                    }
                }
            }
            Value::Fragments(parts) => {
                undefined = true;
                for part in parts {
                    self.tag(&mut bytes, (0xfffe, 0xe000));
                    self.u32(&mut bytes, part.len() as u32);
                    bytes.extend(part);
                }
            }
        }
        if undefined {
            self.tag(&mut bytes, (0xfffe, 0xe0dd));
            self.u32(&mut bytes, 0);
        }
        let length = if undefined { u32::MAX } else { bytes.len() as u32 };
        self.tag(out, tag);
        if self.implicit {
            self.u32(out, length);
        } else {
            out.extend(vr.as_bytes());
            if ["OB", "OW", "SQ", "UN", "UT"].contains(&vr) {
                self.u16(out, 0);
                self.u32(out, length);
            } else {
                self.u16(out, length as u16);
            }
        }
        out.extend(bytes);
    }
}

/// An axial series of `count` slices.
pub(crate) fn series(count: u16) -> Vec<Dcm> {
    (0..count).map(Dcm::slice).collect()
}

/// The HU of [`series`].
pub(crate) fn expected_hu(count: u16) -> Vec<f32> {
    let voxel = |n: u16| {
        let (k, n) = (n / (ROWS * COLUMNS), n % (ROWS * COLUMNS));
        f32::from(100 * k + 10 * (n / COLUMNS) + n % COLUMNS) - 24.0
    };
    (0..count * ROWS * COLUMNS).map(voxel).collect()
}

/// Writes files under names that sort in another order than they are given.
pub(crate) fn write(folder: &Path, files: &[Dcm]) {
    for (n, file) in files.iter().enumerate() {
        let shuffled = (n * 7 + 3) % 11;
        fs::write(folder.join(format!("{PATIENT}_{shuffled:02}_{n}")), file.file()).unwrap();
    }
}

/// Reads files as the folder that holds them.
pub(crate) fn load_with(files: &[Dcm], options: &ReadOptions) -> Result<Loaded, Error> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    read(folder.path(), options)
}

pub(crate) fn load(files: &[Dcm]) -> Loaded {
    load_with(files, &ReadOptions::default()).unwrap()
}

/// The error that these files give.
pub(crate) fn error(files: &[Dcm]) -> Error {
    load_with(files, &ReadOptions::default()).unwrap_err()
}

pub(crate) fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.warnings.iter().map(|w| w.code).collect()
}

/// A zip archive of files that are stored or deflated.
pub(crate) fn zip(members: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
