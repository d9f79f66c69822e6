//! Multipart bodies: files to a private folder, and the fields beside them.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::StreamExt;
use multer::{Field, Multipart};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::Error;
use crate::body::{Bounded, Bounds, Broken, Unread};
use crate::budget::Reserved;
use crate::keys::Owner;
use crate::state::State;
use crate::volumes::{Reading, display_name};

/// What headers and voxels of a volume in two files end in: only there does a name say more than the
/// first bytes.
const HALVES: [&str; 4] = [".hdr", ".img", ".hdr.gz", ".img.gz"];
/// Field names and other small things.
const MAX_FIELD_BYTES: usize = 4096;
/// Bytes that are hashed and written at a time, so that other requests have their turns in between.
const PIECE_BYTES: usize = 1 << 16;

/// All of an upload. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) folder: TempDir,
    files: Vec<ReceivedFile>,
    pub(crate) reading: Reading,
    /// The field `request`, where one is expected.
    pub(crate) request: Option<Vec<u8>>,
    /// Whether its volume may go for the sake of a later one.
    pub(crate) may_yield: bool,
    pub(crate) disk: Reserved,
}

#[derive(Debug)]
struct ReceivedFile {
    /// What the client called it.
    name: String,
    path: PathBuf,
    sha256: [u8; 32],
}

/// A file of which more is to come.
struct Arriving {
    name: String,
    path: PathBuf,
    file: File,
    hash: Sha256,
}

impl Arriving {
    /// Adds a piece, for which there is room.
    async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.hash.update(piece);
        Ok(self.file.write_all(piece).await?)
    }
}

/// Where an upload goes, and what it may take.
pub(crate) struct Receiver<'a> {
    pub(crate) app: &'a State,
    /// Bytes of the field `request`; 0 where there is none.
    pub(crate) max_request: usize,
}

impl Receiver<'_> {
    /// Receives a whole upload.
    ///
    /// # Errors
    /// [`Error::MediaType`], [`Error::TooLarge`], [`Error::TooSlow`], [`Error::Malformed`],
    /// [`Error::Invalid`], [`Error::NoRoom`] and [`Error::Storage`]; nothing is left of it then.
    pub(crate) async fn receive(self, headers: &HeaderMap, body: Body) -> Result<Upload, Error> {
        let expected = Error::MediaType { expected: "multipart/form-data" };
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| expected)?;
        let (app, bounds) = (self.app, Bounds::of_upload(&self.app.config.limits));
        let stream = Bounded::new(headers, body, bounds)?;
        let steps = Steps { broken: stream.broken(), unread: stream.unread(), bounds };
        let mut parts = Multipart::new(stream, boundary);
        let mut upload = Upload::new(app)?;
        while let Some(mut field) = steps.field(&mut parts).await? {
            let name = field.name().unwrap_or_default().to_string();
            match name.as_str() {
                "file" | "files" => {
                    let limit = app.config.limits.max_files;
                    if upload.files.len() == limit {
                        let message = format!("there are more than {limit} files");
                        return Err(Error::invalid("file", message));
                    }
                    upload.save(&mut field, &steps, app).await?;
                }
                "request" if self.max_request > 0 => {
                    upload.request = Some(small(&mut field, self.max_request, &steps).await?);
                }
                _ => {
                    let value = small(&mut field, MAX_FIELD_BYTES, &steps).await?;
                    upload.set(&name, &value)?;
                }
            }
        }
        if upload.files.is_empty() {
            return Err(Error::invalid("file", "there is no part of this name"));
        }
        Ok(upload)
    }
}

impl Upload {
    fn new(app: &State) -> Result<Self, Error> {
        Ok(Self {
            folder: app.root.folder()?,
            files: Vec::new(),
            reading: Reading::default(),
            request: None,
            may_yield: false,
            disk: app.disk(),
        })
    }

    async fn save(
        &mut self,
        field: &mut Field<'_>,
        steps: &Steps,
        app: &State,
    ) -> Result<(), Error> {
        let mut file = self.begin(display_name(field.file_name())).await?;
        while let Some(chunk) = steps.chunk(field).await? {
            if !self.disk.grow(chunk.len() as u64) {
                return Err(app.full());
            }
            file.write(&chunk).await?;
        }
        self.end(file).await
    }

    /// An upload of one file that is the body of a request of a viewer. Earlier ones of the same owner make
    /// room for it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::TooSlow`], [`Error::Malformed`], [`Error::NoRoom`] and
    /// [`Error::Storage`].
    pub(crate) async fn of_body(
        app: &State,
        owner: Owner,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Self, Error> {
        let bounds = Bounds::of_upload(&app.config.limits);
        let mut stream = Bounded::new(headers, body, bounds)?;
        let (broken, unread) = (stream.broken(), stream.unread());
        let mut upload = Self { may_yield: true, ..Self::new(app)? };
        let mut file = upload.begin(display_name(None)).await?;
        while let Some(chunk) = stream.next().await {
            unread.clear();
            let chunk = chunk.map_err(|_| {
                broken.why(bounds).unwrap_or_else(|| Error::malformed("the body breaks off"))
            })?;
            while !upload.disk.grow(chunk.len() as u64) {
                if !app.make_room(owner) {
                    return Err(app.full());
                }
            }
            file.write(&chunk).await?;
        }
        upload.end(file).await?;
        Ok(upload)
    }

    /// An upload of one file that was inside of another request, or made here.
    ///
    /// # Errors
    /// [`Error::NoRoom`] and [`Error::Storage`].
    pub(crate) async fn of_bytes(
        app: &State,
        name: Option<&str>,
        bytes: &[u8],
    ) -> Result<Self, Error> {
        let mut upload = Self::new(app)?;
        if !upload.disk.grow(bytes.len() as u64) {
            return Err(app.full());
        }
        let mut file = upload.begin(display_name(name)).await?;
        for piece in bytes.chunks(PIECE_BYTES) {
            file.write(piece).await?;
        }
        upload.end(file).await?;
        Ok(upload)
    }

    async fn begin(&self, name: String) -> Result<Arriving, Error> {
        let path = self.folder.path().join(format!("{:06}", self.files.len()));
        Ok(Arriving { name, file: create(&path).await?, path, hash: Sha256::new() })
    }

    async fn end(&mut self, mut arrived: Arriving) -> Result<(), Error> {
        arrived.file.flush().await?;
        let Arriving { name, path, hash, .. } = arrived;
        self.files.push(ReceivedFile { name, path, sha256: hash.finalize().into() });
        Ok(())
    }

    fn set(&mut self, field: &str, value: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(value);
        let text = text.map_err(|_| Error::malformed("a field is not UTF-8"))?.trim();
        match field {
            _ if text.is_empty() => {}
            "series" => self.reading.series = Some(text.to_string()),
            "frame" => {
                let frame = text.parse();
                let frame = frame.map_err(|_| Error::invalid("frame", "a number from 0 is needed"));
                self.reading.frame = Some(frame?);
            }
            "spacing" => self.reading.spacing_mm = Some(spacing(text)?),
            _ => return Err(Error::malformed("there is a field of an unknown name")),
        }
        Ok(())
    }

    /// What the client called it.
    pub(crate) fn name(&self) -> String {
        match self.files.as_slice() {
            [file] => file.name.clone(),
            files => match files.iter().find(|file| HALVES[..1].iter().any(|e| ends(file, e))) {
                Some(header) => header.name.clone(),
                None => format!("{} files", files.len()),
            },
        }
    }

    /// In lower-case hexadecimal, of one file.
    pub(crate) fn sha256(&self) -> Option<String> {
        match self.files.as_slice() {
            [file] => Some(file.sha256.iter().map(|byte| format!("{byte:02x}")).collect()),
            _ => None,
        }
    }

    /// Of all files in any order, and of how they are read.
    pub(crate) fn content(&self) -> [u8; 32] {
        let mut hashes: Vec<_> = self.files.iter().map(|file| file.sha256).collect();
        hashes.sort_unstable();
        let mut all = Sha256::new();
        hashes.iter().for_each(|hash| all.update(hash));
        all.update(format!("{:?}", self.reading));
        all.finalize().into()
    }

    /// What is to be read: the one file, the header of a pair, or the folder of slices.
    pub(crate) fn source(&self) -> Result<PathBuf, Error> {
        match self.files.as_slice() {
            [file] => Ok(file.path.clone()),
            files @ [_, _] if files.iter().all(|file| HALVES.iter().any(|e| ends(file, e))) => {
                let renamed = |file: &ReceivedFile| -> Result<PathBuf, Error> {
                    let ending = HALVES.iter().find(|e| ends(file, e)).copied().unwrap_or_default();
                    let path = self.folder.path().join(format!("volume{ending}"));
                    std::fs::rename(&file.path, &path)?;
                    Ok(path)
                };
                let paths = files.iter().map(renamed).collect::<Result<Vec<_>, _>>()?;
                let is_header = |path: &&PathBuf| path.to_string_lossy().contains(".hdr");
                paths.iter().find(is_header).or(paths.first()).cloned().ok_or(Error::Panicked)
            }
            _ => Ok(self.folder.path().to_path_buf()),
        }
    }
}

fn ends(file: &ReceivedFile, ending: &str) -> bool {
    file.name.to_ascii_lowercase().ends_with(ending)
}

/// A new file that only this user reads.
async fn create(path: &Path) -> Result<File, Error> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    Ok(options.open(path).await?)
}

async fn small(field: &mut Field<'_>, limit: usize, steps: &Steps) -> Result<Vec<u8>, Error> {
    let mut value = Vec::new();
    while let Some(chunk) = steps.chunk(field).await? {
        value.extend_from_slice(&chunk);
        if value.len() > limit {
            return Err(Error::TooLarge { limit: limit as u64 });
        }
    }
    Ok(value)
}

/// `0.8,0.8,2.5`, in millimeters along i, j and k.
fn spacing(text: &str) -> Result<[f64; 3], Error> {
    let numbers: Option<Vec<f64>> = text
        .split(',')
        .map(|number| number.trim().parse().ok().filter(|mm: &f64| mm.is_finite() && *mm > 0.0))
        .collect();
    let three = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
    three.ok_or_else(|| Error::invalid("spacing", "three numbers above 0 are needed: 0.8,0.8,2.5"))
}

/// Reads a form step by step, and returns why a step failed.
struct Steps {
    broken: Broken,
    unread: Unread,
    bounds: Bounds,
}

impl Steps {
    async fn field(&self, parts: &mut Multipart<'static>) -> Result<Option<Field<'static>>, Error> {
        let field = parts.next_field().await.map_err(|error| self.reason(error))?;
        self.unread.clear();
        Ok(field)
    }

    async fn chunk(&self, field: &mut Field<'_>) -> Result<Option<Bytes>, Error> {
        let chunk = field.chunk().await.map_err(|error| self.reason(error))?;
        self.unread.clear();
        Ok(chunk)
    }

    fn reason(&self, error: multer::Error) -> Error {
        self.broken.why(self.bounds).unwrap_or_else(|| match error {
            multer::Error::StreamReadFailed(_)
            | multer::Error::IncompleteStream
            | multer::Error::IncompleteHeaders
            | multer::Error::IncompleteFieldData { .. } => Error::malformed("the body breaks off"),
            _ => Error::malformed("the body is not a multipart body"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    /// The bytes of all parts of a body that comes in one piece.
    async fn read(body: Vec<u8>) -> Result<usize, Error> {
        let bounds = Bounds::of_upload(&Limits::default());
        let stream = Bounded::new(&HeaderMap::new(), Body::from(body), bounds)?;
        let steps = Steps { broken: stream.broken(), unread: stream.unread(), bounds };
        let mut parts = Multipart::new(stream, "xYx");
        let mut bytes = 0;
        while let Some(mut field) = steps.field(&mut parts).await? {
            while let Some(chunk) = steps.chunk(&mut field).await? {
                bytes += chunk.len();
            }
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn s1_a_part_begins_soon_and_may_be_large() {
        let head = "Content-Disposition: form-data; name=\"file\"";
        let large = vec![b'7'; 1 << 20];
        let start = format!("--xYx\r\n{head}\r\n\r\n\r\n--xYx\r\n{head}\r\n\r\n");
        let fine = [start.as_bytes(), large.as_slice(), b"\r\n--xYx--\r\n"].concat();
        assert_eq!(read(fine).await.unwrap(), large.len());
        let start = format!("--xYx\r\n{head}\r\nX-Long: ");
        let in_header = [start.as_bytes(), large.as_slice()].concat();
        for endless in [large, in_header] {
            let error = read(endless).await.unwrap_err();
            assert_eq!(error.status(), 400);
            assert!(error.to_string().contains("65536 bytes"), "{error}");
        }
    }

    #[test]
    fn spacings_are_three_lengths() {
        assert_eq!(spacing("0.8, 0.8,2.5").unwrap(), [0.8, 0.8, 2.5]);
        for bad in ["", "1", "1,2", "1,2,3,4", "1,2,0", "1,2,-3", "1,2,nan", "1,2,inf", "a,b,c"] {
            assert_eq!(spacing(bad).unwrap_err().status(), 422, "{bad}");
        }
    }
}
