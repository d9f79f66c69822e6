//! Weights on their way: one thread reads, one converts, one writes, a few megabytes at a time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use r1seg_checkpoint::keys::llama_cpp::RowOrder;
use r1seg_checkpoint::{FileRecord, HashingReader, HashingWriter};

use crate::Error;
use crate::llm::GgufTarget;
use crate::pickle::sanitize;
use crate::plan::{Planned, Target};
use crate::source::{Stored, open_regular};
use crate::strided::Strided;

/// Bytes that travel together.
pub(crate) const CHUNK: usize = 8 << 20;
/// Chunks that wait between two threads.
pub(crate) const QUEUE: usize = 3;

/// Buffers that are used again: fresh memory costs more than the conversion.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A buffer of any length and contents: clearing it here, to be filled again, would cost as much
    /// as the conversion.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.buffers().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers();
        if buffers.len() < 2 * QUEUE + 4 {
            buffers.push(buffer);
        }
    }
}

/// The files of a checkpoint, open for reading.
#[derive(Debug)]
pub(crate) struct Sources {
    files: Vec<(PathBuf, HashingReader)>,
}

impl Sources {
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let open = |path: &PathBuf| {
            let file = open_regular(path)?;
            let read = |source| Error::Read { path: path.clone(), source };
            Ok((path.clone(), HashingReader::new(file).map_err(read)?))
        };
        Ok(Self { files: paths.iter().map(open).collect::<Result<_, Error>>()? })
    }

    fn read_at(&mut self, file: usize, position: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let Some((path, reader)) = self.files.get_mut(file) else {
            return Err(Error::Changed { path: PathBuf::new() });
        };
        reader.read_at(position, buffer).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Changed { path: path.clone() },
            _ => Error::Read { path: path.clone(), source },
        })
    }

    /// Hands the numbers of a tensor over in their order, `chunk` bytes at a time.
    ///
    /// `deliver` says whether to go on.
    pub(crate) fn stream(
        &mut self,
        tensor: &Stored,
        chunk: usize,
        pool: &Pool,
        mut deliver: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<bool, Error> {
        let entry = &tensor.entry;
        if !entry.is_contiguous() {
            return self.stream_strided(tensor, chunk, pool, deliver);
        }
        let mut left = entry.bytes().unwrap_or(0);
        let mut done = 0u64;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk);
            let mut buffer = pool.take();
            buffer.resize(length, 0);
            self.read_at(tensor.file, entry.start + done, &mut buffer)?;
            done += length as u64;
            left -= length as u64;
            if !deliver(buffer) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// [`stream`](Self::stream) for numbers that do not lie in order.
    fn stream_strided(
        &mut self,
        tensor: &Stored,
        chunk: usize,
        pool: &Pool,
        mut deliver: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<bool, Error> {
        let strided = Strided::new(&tensor.entry);
        if !strided.can_be_read() {
            return Err(Error::Strided {
                path: self.files.get(tensor.file).map(|f| f.0.clone()).unwrap_or_default(),
                name: sanitize(&tensor.entry.name),
            });
        }
        let fresh = || {
            let mut buffer = pool.take();
            buffer.clear();
            buffer
        };
        let mut buffer = fresh();
        let mut read_at = |position, bytes: &mut [u8]| self.read_at(tensor.file, position, bytes);
        let go_on = strided.stream(&mut read_at, &mut |mut band| {
            while !band.is_empty() {
                let (now, later) = band.split_at(band.len().min(chunk - buffer.len()));
                buffer.extend_from_slice(now);
                band = later;
                if buffer.len() == chunk && !deliver(std::mem::replace(&mut buffer, fresh())) {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(go_on && (buffer.is_empty() || deliver(buffer)))
    }

    /// A small tensor at once.
    pub(crate) fn read_whole(&mut self, tensor: &Stored) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        self.stream(tensor, CHUNK, &Pool::default(), |chunk| {
            whole.extend_from_slice(&chunk);
            true
        })?;
        Ok(whole)
    }

    /// The length of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, reader)| reader.length()).sum()
    }

    /// Hashes what was not read, and says what every file was.
    pub(crate) fn finish(self) -> Result<Vec<FileRecord>, Error> {
        let finish = |(path, reader): (PathBuf, HashingReader)| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let record = reader.finish(name.unwrap_or_default());
            record.map_err(|source| Error::Read { path, source })
        };
        self.files.into_iter().map(finish).collect()
    }
}

/// What the reader hands to the converter.
pub(crate) enum Read {
    /// The next numbers of the tensor at hand.
    Chunk(Vec<u8>),
    /// The files are hashed.
    Finished(Vec<FileRecord>),
    Failed(Error),
}

/// The reading thread: every tensor in order, then the hashes.
pub(crate) fn read_all<'a>(
    mut sources: Sources,
    tensors: impl Iterator<Item = &'a Planned>,
    pool: &Pool,
    out: &SyncSender<Read>,
) {
    for tensor in tensors {
        let deliver = |chunk| out.send(Read::Chunk(chunk)).is_ok();
        match sources.stream(&tensor.from, chunk_bytes(tensor), pool, deliver) {
            Ok(true) => {}
            // Nobody listens any more: the error is the converter's.
            Ok(false) => return,
            Err(error) => {
                let _ = out.send(Read::Failed(error));
                return;
            }
        }
    }
    let last = match sources.finish() {
        Ok(records) => Read::Finished(records),
        Err(error) => Read::Failed(error),
    };
    let _ = out.send(last);
}

/// Whole numbers; where an update is merged or numbers become blocks, whole rows; and where rows
/// move, whole heads.
pub(crate) fn chunk_bytes(tensor: &Planned) -> usize {
    let entry = &tensor.from.entry;
    let rows = match &tensor.to {
        Target::Gguf(GgufTarget { order: RowOrder::Interleaved { head_dim }, .. }) => *head_dim,
        Target::Gguf(_) => 1,
        Target::Numbers(_) if tensor.update.is_some() || tensor.from.mean_rows > 0 => 1,
        Target::Numbers(_) => return CHUNK,
    };
    let columns = entry.shape.last().copied().unwrap_or(1);
    let unit = usize::try_from(columns.saturating_mul(rows)).unwrap_or(usize::MAX);
    let unit = unit.saturating_mul(entry.dtype.size()).max(1);
    (CHUNK / unit).max(1).saturating_mul(unit)
}

/// What the converter hands to the writer.
pub(crate) enum Write {
    /// A new shard, with its header.
    Shard {
        name: String,
        header: Vec<u8>,
    },
    Chunk(Vec<u8>),
    /// That was all. Without it the rest is given up, and nothing waits for the disk.
    Finish,
}

/// Written bytes after which the disk is told to begin.
const SYNC_EVERY: u64 = 256 << 20;

/// The writing thread: shards one after another, each hashed as it is written.
///
/// A thread of its own brings what is written to the disk meanwhile, so that the end of a shard does
/// not wait for all of it.
pub(crate) fn write_all(
    folder: &Path,
    input: &Receiver<Write>,
    pool: &Pool,
) -> Result<Vec<FileRecord>, Error> {
    std::thread::scope(|scope| {
        let (to_disk, written) = sync_channel::<std::fs::File>(1);
        let syncing = scope.spawn(move || written.iter().try_for_each(|file| file.sync_data()));
        let records = write_shards(folder, input, pool, &to_disk);
        drop(to_disk);
        // An error of the disk is told once: here or to the writer.
        let synced = syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let records = records?;
        synced.map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        Ok(records)
    })
}

fn write_shards(
    folder: &Path,
    input: &Receiver<Write>,
    pool: &Pool,
    to_disk: &SyncSender<std::fs::File>,
) -> Result<Vec<FileRecord>, Error> {
    let mut records = Vec::new();
    let mut shard: Option<(String, HashingWriter)> = None;
    let failed = |name: &str, source| Error::Write { path: folder.join(name), source };
    while let Ok(message) = input.recv() {
        match message {
            Write::Shard { name, header } => {
                records.extend(finish_shard(folder, shard.take())?);
                let file = std::fs::File::create_new(folder.join(&name));
                let mut writer = HashingWriter::new(file.map_err(|e| failed(&name, e))?);
                writer.write(&header).map_err(|e| failed(&name, e))?;
                shard = Some((name, writer));
            }
            Write::Chunk(bytes) => {
                if let Some((name, writer)) = &mut shard {
                    let before = writer.bytes();
                    writer.write(&bytes).map_err(|e| failed(name, e))?;
                    if before / SYNC_EVERY != writer.bytes() / SYNC_EVERY {
                        let handle = writer.handle().map_err(|e| failed(name, e))?;
                        // A disk that is still busy hears of it the next time.
                        let _ = to_disk.try_send(handle);
                    }
                }
                pool.give(bytes);
            }
            Write::Finish => {
                records.extend(finish_shard(folder, shard.take())?);
                return Ok(records);
            }
        }
    }
    Ok(records)
}

fn finish_shard(
    folder: &Path,
    shard: Option<(String, HashingWriter)>,
) -> Result<Option<FileRecord>, Error> {
    let Some((name, writer)) = shard else {
        return Ok(None);
    };
    let path = folder.join(&name);
    writer.finish(name).map(Some).map_err(|source| Error::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorEntry;
    use r1seg_checkpoint::NumberFormat;

    /// 3 MB that repeat nowhere within a tensor.
    fn storage() -> Vec<u8> {
        (0..1_500_000u32).flat_map(|i| (i.wrapping_mul(40_503) as u16).to_le_bytes()).collect()
    }

    #[test]
    fn tensors_that_share_a_storage_are_read_slice_by_slice_and_never_the_storage_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pretrained_ViT.bin");
        let bytes = storage();
        std::fs::write(&path, &bytes).unwrap();
        let view = |offset: u64, shape: [u64; 2], strides: [u64; 2]| Stored {
            file: 0,
            entry: TensorEntry {
                name: "x".to_owned(),
                dtype: NumberFormat::Bf16,
                shape: shape.to_vec(),
                strides: strides.to_vec(),
                start: 2 * offset,
                storage: [0, bytes.len() as u64],
            },
            mean_rows: 0,
        };
        let number = |at: u64| bytes[2 * at as usize..][..2].to_vec();
        // The first half is nobody's, as a publisher left it; then slices, and one of them transposed.
        let slices = (0..100).map(|i| view(750_000 + i * 7_000, [70, 100], [100, 1]));
        let views: Vec<Stored> = slices.chain([view(1_460_000, [100, 300], [1, 100])]).collect();
        let mut sources = Sources::open(&[path]).unwrap();
        for tensor in &views {
            let mut got = Vec::new();
            let mut deliver = |chunk: Vec<u8>| {
                assert!(chunk.len() <= 1000);
                got.extend(chunk);
                true
            };
            assert!(sources.stream(tensor, 1000, &Pool::default(), &mut deliver).unwrap());
            let TensorEntry { shape, strides, start, .. } = &tensor.entry;
            let rows = (0..shape[0]).flat_map(|row| {
                (0..shape[1]).map(move |column| row * strides[0] + column * strides[1])
            });
            let expected: Vec<u8> = rows.flat_map(|at| number(start / 2 + at)).collect();
            assert!(got == expected, "{start}");
        }
        // Each byte once, for its tensor or for the hash of the file.
        sources.files[0].1.hash_rest().unwrap();
        assert_eq!(sources.files[0].1.bytes_read(), bytes.len() as u64);
    }
}
