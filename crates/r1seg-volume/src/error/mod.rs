//! The crate's error type.

mod detail;

use std::io;
use std::path::{Path, PathBuf};

pub use r1seg_diagnostic::ErrorKind;

pub(crate) use self::detail::{Detail, in_file_order, join};
use crate::SeriesSummary;
use crate::io::dicom::DicomFault;

r1seg_diagnostic::opaque_error! {
    /// Everything that can go wrong in this crate.
    ///
    /// `Display` says which file is at fault and what is wrong with it, with numbers. No text of a
    /// file header enters a message, since it may name a patient.
    pub struct Error(Detail);
}

impl Error {
    /// That the file or folder at `path` could not be read (`R-IN-02`).
    pub fn unreadable(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Detail::Unreadable { path: path.into(), source }.into()
    }

    /// That the output at `path` could not be created (`R-OUT-02`).
    pub fn cannot_create(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Detail::CannotCreate { path: path.into(), source }.into()
    }

    /// That what lies at `path` is nothing that a file replaces (`R-OUT-03`).
    pub fn not_replaceable(path: impl Into<PathBuf>) -> Self {
        Detail::NotReplaceable { path: path.into() }.into()
    }

    /// That a box is not one of voxels that can be used (`R-BOX-01`).
    pub fn invalid_box(message: impl Into<String>) -> Self {
        Detail::Box { message: message.into() }.into()
    }

    /// That a point is not one that can be used (`R-PNT-01`).
    pub fn invalid_point(message: impl Into<String>) -> Self {
        Detail::Point { message: message.into() }.into()
    }

    /// The series of which one must be chosen (`R-DCM-02`), where that is the error.
    pub fn series(&self) -> Option<&[SeriesSummary]> {
        match &*self.0 {
            Detail::Dicom { fault: DicomFault::SeveralSeries { series }, .. } => Some(series),
            _ => None,
        }
    }

    /// The same error about `path`, where a file that was written in its place could not be created
    /// or written.
    #[must_use]
    pub fn with_output(mut self, path: &Path) -> Self {
        if let Detail::CannotCreate { path: output, .. }
        | Detail::WriteFailed { path: output, .. } = &mut *self.0
        {
            *output = path.to_path_buf();
        }
        self
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(*self.0, Detail::NotFound { .. })
    }

    pub(crate) fn detail(&self) -> &Detail {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_writing_names_the_output_and_not_the_file_in_its_place() {
        let source = || io::ErrorKind::StorageFull.into();
        let written = Detail::WriteFailed { path: ".ct.part".into(), source: source() };
        let error = Error::from(written).with_output(Path::new("ct.nii"));
        assert_eq!(error.to_string(), "`ct.nii`: writing failed");

        let read = Error::unreadable("in.nii", source()).with_output(Path::new("ct.nii"));
        assert_eq!(read.path(), Some(Path::new("in.nii")));
    }
}
