//! The few attributes that are read, typed. Nothing else of a header is kept.

use std::io::Read;

use flate2::read::DeflateDecoder;
use sha2::{Digest, Sha256};

use super::dataset::{Encoding, Input, PixelElement, Step, Tag, Value, Visitor, Walked, walk};
use super::fault::DicomFault;

/// Most frames of a multi-frame file, and files of a folder.
pub(super) const MOST_SLICES: usize = 100_000;

const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
const MODALITY_LUT: Tag = Tag(0x0028, 0x3000);
const FRAME_GROUPS: Tag = Tag(0x5200, 0x9230);

/// How pixels are stored (PS3.6 annex A).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Syntax {
    Native(Endian),
    Deflated,
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
    /// Something else, by its UID where that is a registered one.
    Other(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Syntax {
    fn of(uid: &str) -> (Self, Encoding) {
        let explicit = Encoding { implicit_vr: false, big_endian: false };
        let implicit = Encoding { implicit_vr: true, big_endian: false };
        let big = Encoding { implicit_vr: false, big_endian: true };
        match uid.strip_prefix("1.2.840.10008.1.2") {
            Some("") => (Self::Native(Endian::Little), implicit),
            Some(".1") => (Self::Native(Endian::Little), explicit),
            Some(".1.99") => (Self::Deflated, explicit),
            Some(".2") => (Self::Native(Endian::Big), big),
            Some(".5") => (Self::Rle, explicit),
            Some(".4.50" | ".4.51" | ".4.57" | ".4.70") => (Self::Jpeg, explicit),
            Some(".4.80" | ".4.81") => (Self::JpegLs, explicit),
            Some(".4.90" | ".4.91") => (Self::Jpeg2000, explicit),
            rest => {
                let registered = rest.is_some_and(|rest| {
                    rest.len() < 20 && rest.bytes().all(|b| b == b'.' || b.is_ascii_digit())
                });
                let name = if registered { uid } else { "of a private kind" };
                (Self::Other(name.to_owned()), explicit)
            }
        }
    }
}

/// Attributes that may stand in the data set itself or in functional groups, of all frames or one.
#[derive(Clone, Copy, Default)]
pub(super) struct Plane {
    pub(super) position: Option<[f64; 3]>,
    pub(super) orientation: Option<[f64; 6]>,
    /// Between rows, then between columns.
    pub(super) pixel_spacing: Option<[f64; 2]>,
    pub(super) slice_spacing: Option<f64>,
    pub(super) thickness: Option<f64>,
    /// NaN where it is given and is not a number.
    pub(super) slope: Option<f64>,
    /// As `slope`.
    pub(super) inter: Option<f64>,
}

impl Plane {
    fn or(self, other: &Self) -> Self {
        Self {
            position: self.position.or(other.position),
            orientation: self.orientation.or(other.orientation),
            pixel_spacing: self.pixel_spacing.or(other.pixel_spacing),
            slice_spacing: self.slice_spacing.or(other.slice_spacing),
            thickness: self.thickness.or(other.thickness),
            slope: self.slope.or(other.slope),
            inter: self.inter.or(other.inter),
        }
    }
}

/// Not `Debug`: UIDs must not reach a message.
#[derive(Clone)]
pub(super) struct Header {
    pub(super) syntax: Syntax,
    /// `SOPClassUID`, or `MediaStorageSOPClassUID` in front of the data set.
    class_uid: String,
    pub(super) series_uid: String,
    pub(super) study_uid: String,
    pub(super) frame_of_reference_uid: String,
    pub(super) series_number: Option<f64>,
    /// SHA-256 of `PatientID`, which itself is not kept.
    pub(super) patient: Option<[u8; 32]>,
    pub(super) instance_uid: String,
    pub(super) modality: Option<String>,
    pub(super) localizer: bool,
    pub(super) burned_in: bool,
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) samples_per_pixel: u16,
    pub(super) photometric: String,
    pub(super) bits_allocated: u16,
    pub(super) bits_stored: Option<u16>,
    pub(super) high_bit: Option<u16>,
    pub(super) signed: bool,
    pub(super) number_of_frames: Option<f64>,
    /// `PixelPaddingValue` as stored, of either sign.
    pub(super) padding: Option<u16>,
    pub(super) padding_limit: Option<u16>,
    pub(super) modality_lut: bool,
    plane: Plane,
    shared: Plane,
    per_frame: Vec<Plane>,
    pub(super) pixels: Option<PixelElement>,
}

/// A header, and the stream behind it: the pixels.
pub(super) struct Opened<'a> {
    pub(super) header: Header,
    pub(super) rest: Box<dyn Read + 'a>,
}

/// What was known when a file turned out to be broken.
pub(super) struct Broken {
    pub(super) series_uid: String,
    pub(super) study_uid: String,
    pub(super) fault: DicomFault,
}

/// Whether these first 132 bytes are of a DICOM file.
pub(in crate::io) fn is_dicom(start: &[u8]) -> bool {
    start.get(128..132) == Some(b"DICM")
}

/// Reads up to the pixels; `reader` stands behind the `DICM` mark. At most `most` bytes are inflated.
pub(super) fn open<'a>(
    mut reader: Box<dyn Read + 'a>,
    most: u64,
) -> Result<Opened<'a>, Box<Broken>> {
    let Meta { syntax_uid, class_uid, next_group } =
        meta(&mut reader).map_err(|fault| Box::new(Broken::unplaced(fault)))?;
    let (syntax, encoding) = Syntax::of(&syntax_uid);
    let mut rest: Box<dyn Read + 'a> = Box::new(std::io::Cursor::new(next_group).chain(reader));
    if syntax == Syntax::Deflated {
        rest = Box::new(DeflateDecoder::new(rest).take(most));
    }
    let mut header = Header::new(syntax, class_uid);
    let fault = match walk(&mut rest, encoding, &mut header) {
        Ok(Walked::Pixels(pixels)) => {
            header.pixels = Some(pixels);
            return Ok(Opened { header, rest });
        }
        Ok(Walked::End(at)) if header.lacks_pixels() => DicomFault::EndsEarly { at },
        Ok(Walked::End(_)) => return Ok(Opened { header, rest }),
        Err(fault) => fault,
    };
    Err(Box::new(Broken { series_uid: header.series_uid, study_uid: header.study_uid, fault }))
}

/// What stands in front of a data set.
struct Meta {
    syntax_uid: String,
    class_uid: String,
    /// The bytes of the next tag, which were read to see the end.
    next_group: Vec<u8>,
}

fn meta(reader: &mut dyn Read) -> Result<Meta, DicomFault> {
    const EXPLICIT: Encoding = Encoding { implicit_vr: false, big_endian: false };
    let (mut syntax_uid, mut class_uid) = (None, String::new());
    let mut input = Input::new(reader);
    loop {
        let mut group = [0; 2];
        input.fill(&mut group)?;
        if group != [2, 0] {
            let missing = DicomFault::Missing { attribute: "TransferSyntaxUID" };
            let (syntax_uid, next_group) = (syntax_uid.ok_or(missing)?, group.to_vec());
            return Ok(Meta { syntax_uid, class_uid, next_group });
        }
        let mut element = [0; 2];
        input.fill(&mut element)?;
        let (_, length) = input.vr_and_length(EXPLICIT)?;
        if [[0x10, 0], [2, 0]].contains(&element) && length <= 64 {
            let mut text = vec![0; length as usize];
            input.fill(&mut text)?;
            let text = String::from_utf8_lossy(&text);
            let uid = text.trim_matches(['\0', ' ']).to_owned();
            match element {
                [0x10, 0] => syntax_uid = Some(uid),
                _ => class_uid = uid,
            }
        } else {
            input.skip(u64::from(length))?;
        }
    }
}

impl Broken {
    /// A file of which nothing was read that says where it belongs.
    pub(super) fn unplaced(fault: DicomFault) -> Self {
        Self { series_uid: String::new(), study_uid: String::new(), fault }
    }
}

impl Header {
    fn new(syntax: Syntax, class_uid: String) -> Self {
        Self {
            syntax,
            class_uid,
            series_uid: String::new(),
            study_uid: String::new(),
            frame_of_reference_uid: String::new(),
            series_number: None,
            patient: None,
            instance_uid: String::new(),
            modality: None,
            localizer: false,
            burned_in: false,
            rows: 0,
            columns: 0,
            samples_per_pixel: 1,
            photometric: String::new(),
            bits_allocated: 0,
            bits_stored: None,
            high_bit: None,
            signed: false,
            number_of_frames: None,
            padding: None,
            padding_limit: None,
            modality_lut: false,
            plane: Plane::default(),
            shared: Plane::default(),
            per_frame: Vec::new(),
            pixels: None,
        }
    }

    /// Whether the file holds grey or color pixels of a patient, not marks, plans or reports.
    pub(super) fn is_image(&self) -> bool {
        const OTHER: [&str; 5] = ["SEG", "RTDOSE", "RTSTRUCT", "PR", "RWV"];
        let modality = self.modality.as_deref().unwrap_or_default();
        self.pixels.is_some() && !OTHER.contains(&modality)
    }

    /// Whether the file is a CT image that ends before its pixels.
    fn lacks_pixels(&self) -> bool {
        // CT Image Storage, Enhanced CT, and Legacy Converted Enhanced CT.
        let is_ct_class = match self.class_uid.strip_prefix("1.2.840.10008.5.1.4.1.1.2") {
            Some(rest) => ["", ".1", ".2"].contains(&rest),
            None => false,
        };
        match self.modality.as_deref() {
            Some("CT") => is_ct_class || self.class_uid.is_empty(),
            // A file may end before it says its modality.
            None => is_ct_class,
            Some(_) => false,
        }
    }

    /// Frames that the header describes.
    pub(super) fn frames(&self) -> Result<usize, DicomFault> {
        let groups = self.per_frame.len();
        let frames = self.number_of_frames.unwrap_or(1.0);
        if frames.fract() != 0.0 || !(1.0..=MOST_SLICES as f64).contains(&frames) {
            return Err(DicomFault::Missing { attribute: "NumberOfFrames" });
        }
        let frames = frames as usize;
        if frames != groups && (1 < frames || 0 < groups) {
            let attribute = "PerFrameFunctionalGroupsSequence of every frame";
            return Err(DicomFault::Missing { attribute });
        }
        Ok(frames)
    }

    /// Where frame `n` lies, and its scaling.
    pub(super) fn plane(&self, n: usize) -> Plane {
        let own = self.per_frame.get(n).copied().unwrap_or_default();
        own.or(&self.shared).or(&self.plane)
    }

    fn plane_at(&mut self, path: &[Step]) -> Result<Option<&mut Plane>, DicomFault> {
        Ok(match path {
            [] => Some(&mut self.plane),
            [Step { sequence: SHARED_GROUPS, item: 1 }, _] => Some(&mut self.shared),
            [Step { sequence: FRAME_GROUPS, item }, _] => {
                if MOST_SLICES < *item {
                    let (count, most) = (*item as u64, MOST_SLICES as u64);
                    return Err(DicomFault::TooMany { what: "frames of one file", count, most });
                }
                self.per_frame.resize(self.per_frame.len().max(*item), Plane::default());
                self.per_frame.last_mut()
            }
            _ => None,
        })
    }
}

impl Visitor for Header {
    fn wants(&self, path: &[Step], Tag(group, element): Tag) -> bool {
        let placing = matches!(
            (group, element),
            (0x0018, 0x0050 | 0x0088)
                | (0x0020, 0x0032 | 0x0037)
                | (0x0028, 0x0030 | 0x1052 | 0x1053)
        );
        match path {
            [] => {
                placing
                    || matches!(
                        (group, element),
                        (0x0008, 0x0008 | 0x0016 | 0x0018 | 0x0060)
                            | (0x0010, 0x0020)
                            | (0x0020, 0x000d | 0x000e | 0x0011 | 0x0052)
                            | (0x0028, 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0011)
                            | (0x0028, 0x0100..=0x0103 | 0x0120 | 0x0121 | 0x0301 | 0x3000)
                            | (0x5200, 0x9229 | 0x9230)
                    )
            }
            [Step { sequence: SHARED_GROUPS | FRAME_GROUPS, .. }] => {
                matches!((group, element), (0x0020, 0x9113 | 0x9116) | (0x0028, 0x9110 | 0x9145))
            }
            [Step { sequence: SHARED_GROUPS | FRAME_GROUPS, .. }, _] => placing,
            _ => false,
        }
    }

    fn enter(&mut self, path: &[Step], sequence: Tag) {
        self.modality_lut |= path.is_empty() && sequence == MODALITY_LUT;
    }

    fn visit(&mut self, path: &[Step], tag: Tag, value: Value<'_>) -> Result<(), DicomFault> {
        let Some(plane) = self.plane_at(path)? else { return Ok(()) };
        match (tag.0, tag.1) {
            (0x0018, 0x0050) => plane.thickness = value.number(),
            (0x0018, 0x0088) => plane.slice_spacing = value.number(),
            (0x0020, 0x0032) => plane.position = value.numbers(),
            (0x0020, 0x0037) => plane.orientation = value.numbers(),
            (0x0028, 0x0030) => plane.pixel_spacing = value.numbers(),
            (0x0028, 0x1052) => plane.inter = number_or_nan(&value),
            (0x0028, 0x1053) => plane.slope = number_or_nan(&value),
            _ if !path.is_empty() => {}
            (0x0008, 0x0008) => self.localizer = value.text().split('\\').any(|t| t == "LOCALIZER"),
            (0x0008, 0x0016) => self.class_uid = value.text().to_owned(),
            (0x0008, 0x0018) => self.instance_uid = value.text().to_owned(),
            (0x0008, 0x0060) => self.modality = modality(value.text()),
            (0x0010, 0x0020) => self.patient = Some(Sha256::digest(value.text()).into()),
            (0x0020, 0x000d) => self.study_uid = value.text().to_owned(),
            (0x0020, 0x000e) => self.series_uid = value.text().to_owned(),
            (0x0020, 0x0011) => self.series_number = value.number(),
            (0x0020, 0x0052) => self.frame_of_reference_uid = value.text().to_owned(),
            (0x0028, 0x0002) => self.samples_per_pixel = value.u16().unwrap_or(0),
            (0x0028, 0x0004) => self.photometric = code(value.text()).unwrap_or_default(),
            (0x0028, 0x0008) => self.number_of_frames = value.number(),
            (0x0028, 0x0010) => self.rows = value.u16().unwrap_or(0),
            (0x0028, 0x0011) => self.columns = value.u16().unwrap_or(0),
            (0x0028, 0x0100) => self.bits_allocated = value.u16().unwrap_or(0),
            (0x0028, 0x0101) => self.bits_stored = value.u16(),
            (0x0028, 0x0102) => self.high_bit = value.u16(),
            (0x0028, 0x0103) => self.signed = value.u16() == Some(1),
            (0x0028, 0x0120) => self.padding = value.u16(),
            (0x0028, 0x0121) => self.padding_limit = value.u16(),
            (0x0028, 0x0301) => self.burned_in = value.text() == "YES",
            _ => {}
        }
        Ok(())
    }
}

/// A number, if there is one; NaN for anything else but padding.
fn number_or_nan(value: &Value<'_>) -> Option<f64> {
    (!value.is_blank()).then(|| value.number().unwrap_or(f64::NAN))
}

/// A defined term, of which only what such terms may hold is kept (PS3.5 section 6.2, CS).
fn code(text: &str) -> Option<String> {
    let kept = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let code: String = text.chars().filter(kept).take(16).collect();
    (!code.is_empty()).then_some(code)
}

/// A modality; one that is not in common use is `OTHER`, since it might be anything.
fn modality(text: &str) -> Option<String> {
    const COMMON: &str = "CR CT DX ES IO KO MG MR NM OCT OP OT PR PT PX REG RF RTDOSE RTIMAGE RTPLAN \
                          RTRECORD RTSTRUCT RWV SC SEG SM SR US XA XC";
    let code = code(text)?;
    Some(if COMMON.split(' ').any(|known| known == code) { code } else { "OTHER".to_owned() })
}
