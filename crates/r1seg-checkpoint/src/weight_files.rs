//! The weights of a checkpoint: all of its files, and where each tensor lies in them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::keys;
use crate::keys::llama_cpp::RowOrder;
use crate::layout::{self, LANGUAGE_MODEL, WEIGHTS};
use crate::mapped::{FileBytes, on_network_drive};
use crate::weight_file::WeightFile;
use crate::{Error, MAX_TENSORS, NumberFormat, StoredTensor};

/// How the weights of a folder are opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether files are mapped rather than read into memory. `None` leaves it to where they lie:
    /// those on network drives are read.
    pub mmap: Option<bool>,
    /// Width of a head of the language model, by which llama.cpp orders rows; 0 where there is none.
    pub head_dim: usize,
}

/// The weights of a checkpoint. Only headers have been read.
pub struct WeightFiles {
    files: Vec<FileBytes>,
    tensors: HashMap<String, StoredTensor>,
    path: PathBuf,
}

/// A tensor of a checkpoint, as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How its numbers are stored.
    pub format: NumberFormat,
    /// Its axes, row-major.
    pub shape: Vec<usize>,
    /// How many bytes it has in the file.
    pub bytes: u64,
}

impl Found {
    /// How many numbers it has.
    pub fn numbers(&self) -> u64 {
        self.shape.iter().fold(1, |n, axis| n.saturating_mul(*axis as u64))
    }

    /// Memory that they take on a CPU as numbers of `size` bytes: blocks stay blocks.
    pub fn bytes_as(&self, size: u64) -> u64 {
        match self.format.is_plain() {
            true => self.numbers().saturating_mul(size),
            false => self.bytes,
        }
    }
}

impl WeightFiles {
    /// Opens the weights of a folder and reads their headers. A file must not be changed while it is
    /// mapped, which is for as long as these weights or any slice of them are in use.
    ///
    /// # Errors
    /// Those of [`layout::weight_names`], [`Error::WeightFile`] and [`Error::Gguf`] for a header that
    /// is not usable, and [`Error::Read`].
    pub fn open(folder: &Path, options: OpenOptions) -> Result<Self, Error> {
        let mmap = options.mmap.unwrap_or_else(|| !on_network_drive(folder));
        let open = if mmap { FileBytes::map } else { FileBytes::read };
        let mut files = Vec::new();
        for name in layout::weight_names(folder)? {
            let bytes = open(&folder.join(&name))?;
            files.push(WeightFile::safetensors(name, bytes, folder)?);
        }
        if folder.join(LANGUAGE_MODEL).is_file() {
            let bytes = open(&folder.join(LANGUAGE_MODEL))?;
            let name = LANGUAGE_MODEL.to_string();
            files.push(WeightFile::gguf(name, bytes, folder, options.head_dim)?);
        }
        Self::new(files, folder)
    }

    /// Weights that are part of the program: the bytes of a file of safetensors. `path` is for
    /// messages.
    ///
    /// # Errors
    /// [`Error::WeightFile`].
    pub fn embedded(bytes: &'static [u8], path: &Path) -> Result<Self, Error> {
        let bytes = FileBytes::embedded(bytes);
        Self::new(vec![WeightFile::safetensors(WEIGHTS.to_string(), bytes, path)?], path)
    }

    fn new(files: Vec<WeightFile>, path: &Path) -> Result<Self, Error> {
        let broken = |file: &str, message: String| Error::WeightFile {
            path: path.to_path_buf(),
            file: file.to_string(),
            message,
        };
        let mut tensors: HashMap<String, StoredTensor> = HashMap::new();
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let mut contents = Vec::new();
        for (i, file) in files.into_iter().enumerate() {
            contents.push(file.bytes);
            for (name, tensor) in file.tensors {
                if let Some(first) =
                    tensors.insert(name.clone(), StoredTensor { file: i, ..tensor })
                {
                    let message = format!("tensor `{name}` is in {} too", names[first.file]);
                    return Err(broken(&file.name, message));
                }
            }
            if tensors.len() > MAX_TENSORS {
                return Err(broken(&file.name, format!("more than {MAX_TENSORS} tensors")));
            }
        }
        let mut tensors: Vec<(String, StoredTensor)> = tensors.into_iter().collect();
        keys::strip_wrappers(&mut tensors, |(name, _)| name);
        let tensors = tensors.into_iter().collect();
        Ok(Self { files: contents, tensors, path: path.to_path_buf() })
    }

    /// Where the weights lie, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor, as the headers describe it, in no order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Every tensor by name.
    pub fn found(&self) -> BTreeMap<String, Found> {
        let found = self.tensors().map(|(name, tensor)| {
            let (shape, bytes) = (tensor.shape.clone(), tensor.range.len() as u64);
            (name.to_string(), Found { format: tensor.format, shape, bytes })
        });
        found.collect()
    }

    /// How most bytes of the checkpoint are stored, of the formats that `is_used`.
    pub fn dominant_format(&self, is_used: impl Fn(NumberFormat) -> bool) -> Option<NumberFormat> {
        let mut totals: BTreeMap<NumberFormat, usize> = BTreeMap::new();
        for tensor in self.tensors.values().filter(|tensor| is_used(tensor.format)) {
            *totals.entry(tensor.format).or_default() += tensor.range.len();
        }
        totals.into_iter().max_by_key(|(_, total)| *total).map(|(format, _)| format)
    }

    /// The bytes of a tensor of these weights, rows in published order: a slice of the file unless
    /// they lie there in another order.
    pub fn bytes(&self, tensor: &StoredTensor) -> Bytes {
        self.part(tensor, 0..tensor.range.len())
    }

    /// A range of [`bytes`](Self::bytes), of which nothing else is copied.
    ///
    /// # Panics
    /// When the range ends behind the tensor.
    pub fn part(&self, tensor: &StoredTensor, range: Range<usize>) -> Bytes {
        let bytes = self.stored_bytes(tensor);
        let rows = tensor.shape.first().copied().unwrap_or(0);
        if tensor.rows == RowOrder::Same || rows == 0 {
            return bytes.slice(range);
        }
        let width = (bytes.len() / rows).max(1);
        let mut ordered = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let (row, within) = (at / width, at % width);
            let len = (width - within).min(range.end - at);
            let stored = tensor.rows.stored_row(row as u64) as usize * width + within;
            ordered.extend_from_slice(&bytes[stored..][..len]);
            at += len;
        }
        Bytes::from(ordered)
    }

    /// The bytes of a tensor in the order in which they lie in the file.
    pub(crate) fn stored_bytes(&self, tensor: &StoredTensor) -> Bytes {
        self.files[tensor.file].slice(tensor.range.clone())
    }

    /// Brings the bytes of a tensor into memory at once: page by page, as the first product touches
    /// it, would be slower.
    pub fn populate(&self, tensor: &StoredTensor) {
        self.files[tensor.file].populate(tensor.range.clone());
    }

    /// [`populate`](Self::populate) for a range of the bytes of a tensor.
    pub fn populate_part(&self, tensor: &StoredTensor, range: Range<usize>) {
        self.files[tensor.file].populate(within(&tensor.range, range));
    }

    /// [`release`](Self::release) for a range of the bytes of a tensor whose rows are in their order.
    pub fn release_part(&self, tensor: &StoredTensor, range: Range<usize>) {
        if tensor.rows == RowOrder::Same {
            self.files[tensor.file].release(within(&tensor.range, range));
        }
    }

    /// Drops the pages of a tensor that was copied, so that a loading process never holds its
    /// weights twice.
    pub fn release(&self, tensor: &StoredTensor) {
        self.files[tensor.file].release(tensor.range.clone());
    }
}

/// A range of what lies at `all`, in the file.
fn within(all: &Range<usize>, part: Range<usize>) -> Range<usize> {
    let at = |i: usize| all.start.saturating_add(i).min(all.end);
    at(part.start)..at(part.end)
}

impl std::fmt::Debug for WeightFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeightFiles").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;

    fn names(shards: [&[&str]; 2]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut weight_map = BTreeMap::new();
        for (shard, names) in ["1.safetensors", "2.safetensors"].into_iter().zip(shards) {
            let view = || TensorView::new(Dtype::U8, vec![1], &[7]).unwrap();
            let bytes = safetensors::serialize(names.iter().map(|name| (*name, view())), None);
            std::fs::write(folder.path().join(shard), bytes.unwrap()).unwrap();
            weight_map.extend(names.iter().map(|name| (name.to_string(), shard)));
        }
        let index = serde_json::json!({ "weight_map": weight_map }).to_string();
        std::fs::write(folder.path().join(layout::INDEX), index).unwrap();
        let files = WeightFiles::open(folder.path(), OpenOptions::default()).unwrap();
        for (name, tensor) in files.tensors() {
            assert_eq!(files.bytes(tensor).as_ref(), [7], "{name}");
        }
        files.found().into_keys().collect()
    }

    #[test]
    fn a_prefix_of_every_name_in_every_file_is_that_of_a_wrapper() {
        assert_eq!(names([&["network.a", "network.c"], &["network.b"]]), ["a", "b", "c"]);
        assert_eq!(names([&["module.network.a"], &["module.network.b"]]), ["a", "b"]);
        assert_eq!(names([&["network.a"], &["b"]]), ["b", "network.a"]);
    }
}
