use r1seg_diagnostic::{Diagnostic, ErrorKind, Remedy};

r1seg_diagnostic::opaque_error! {
    /// Why two things cannot be compared.
    pub struct Error(Detail);
}

/// The cases of [`Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Detail {
    #[error(
        "the grids differ: the truth has {} voxels (i, j, k), what is compared with it {}",
        in_file_order(truth),
        in_file_order(predicted)
    )]
    Shapes { truth: [usize; 3], predicted: [usize; 3] },
    #[error("{what} has {got} values, {expected} are needed")]
    Length { what: &'static str, got: usize, expected: usize },
}

fn in_file_order([d, h, w]: &[usize; 3]) -> String {
    format!("{w} x {h} x {d}")
}

impl Diagnostic for Detail {
    fn code(&self) -> &'static str {
        match self {
            Self::Shapes { .. } => "R-MET-01",
            Self::Length { .. } => "R-MET-02",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Shapes { .. } => ErrorKind::BadData,
            Self::Length { .. } => ErrorKind::Usage,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Shapes { .. } => Some("compare masks of the same volume".into()),
            Self::Length { .. } => None,
        }
    }
}

/// That `what` has one value for each of `expected`.
pub(crate) fn check_length(what: &'static str, got: usize, expected: usize) -> Result<(), Error> {
    match got == expected {
        true => Ok(()),
        false => Err(Detail::Length { what, got, expected }.into()),
    }
}
