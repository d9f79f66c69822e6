//! Vectors as a file of numpy or safetensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::volume::npy_header;
use r1seg_results::Error;
use safetensors::tensor::{Dtype, TensorView};

use super::encoder::Embedded;
use crate::codes::Code;
use crate::exit::CliError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VectorFormat {
    Npy,
    Safetensors,
}

impl VectorFormat {
    pub(super) fn from_path(path: &Path) -> Result<Self> {
        let ends = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
        match () {
            () if ends("npy") => Ok(Self::Npy),
            () if ends("safetensors") => Ok(Self::Safetensors),
            () => {
                let endings = &[".npy", ".safetensors"];
                Err(Error::UnknownFormat { path: path.to_path_buf(), endings }.into())
            }
        }
    }

    /// The file that names the rows, where the format has no room for it.
    pub(super) fn sidecar(self, path: &Path) -> Option<PathBuf> {
        let mut name = path.as_os_str().to_os_string();
        name.push(".json");
        (self == Self::Npy).then(|| name.into())
    }

    /// The whole file; `names` is what it says about its rows.
    pub(super) fn bytes(self, rows: &[Embedded], width: usize, names: &str) -> Result<Vec<u8>> {
        let numbers = rows.iter().flat_map(|row| &row.vector);
        let numbers: Vec<u8> = numbers.flat_map(|x| x.to_le_bytes()).collect();
        let shape = [rows.len(), width];
        match self {
            Self::Npy => Ok([npy_header("<f4", false, &shape), numbers].concat()),
            Self::Safetensors => {
                let metadata = HashMap::from([("r1seg".to_string(), names.to_string())]);
                let view = TensorView::new(Dtype::F32, shape.to_vec(), &numbers);
                view.and_then(|view| safetensors::serialize([("embeddings", view)], Some(metadata)))
                    .map_err(|e| CliError::new(Code::Internal, format!("safetensors: {e}")).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        let of = |name: &str| VectorFormat::from_path(Path::new(name)).ok();
        assert_eq!(of("a.NPY"), Some(VectorFormat::Npy));
        assert_eq!(of("a.b.safetensors"), Some(VectorFormat::Safetensors));
        assert_eq!((of("a"), of("npy"), of("a.npz")), (None, None, None));
        let sidecar = VectorFormat::Npy.sidecar(Path::new("x/a.npy"));
        assert_eq!(sidecar, Some("x/a.npy.json".into()));
        assert_eq!(VectorFormat::Safetensors.sidecar(Path::new("a.safetensors")), None);
    }
}
