/// Gives an error type the methods of [`Diagnostic`](crate::Diagnostic), so that callers need no
/// import of the trait.
#[macro_export]
macro_rules! diagnostic_methods {
    ($Error:ty) => {
        impl $Error {
            /// The stable code, such as `R-IN-01`. `docs/errors.md` lists all of them.
            #[must_use]
            pub fn code(&self) -> &'static str {
                $crate::Diagnostic::code(self)
            }

            /// Who must act.
            #[must_use]
            pub fn kind(&self) -> $crate::ErrorKind {
                $crate::Diagnostic::kind(self)
            }

            /// The file or folder at fault, where there is one.
            #[must_use]
            pub fn path(&self) -> Option<&::std::path::Path> {
                $crate::Diagnostic::path(self)
            }

            /// What to do about it, where something can be done.
            #[must_use]
            pub fn remedy(&self) -> Option<$crate::Remedy> {
                $crate::Diagnostic::remedy(self)
            }

            /// What is wrong, without the path that `Display` begins with.
            #[must_use]
            pub fn message(&self) -> String {
                $crate::Diagnostic::message(self)
            }
        }
    };
}

/// Defines the public error type of a crate around a private enum of its cases.
///
/// The enum implements [`Diagnostic`](crate::Diagnostic), and its `Display` is the message without
/// the path. A case that is added or renamed is then no change of the public interface.
#[macro_export]
macro_rules! opaque_error {
    ($(#[$attribute:meta])* pub struct $Error:ident($Detail:ty);) => {
        $(#[$attribute])*
        pub struct $Error(Box<$Detail>);

        $crate::diagnostic_methods!($Error);

        impl $crate::Diagnostic for $Error {
            fn code(&self) -> &'static str {
                $crate::Diagnostic::code(&*self.0)
            }

            fn kind(&self) -> $crate::ErrorKind {
                $crate::Diagnostic::kind(&*self.0)
            }

            fn path(&self) -> Option<&::std::path::Path> {
                $crate::Diagnostic::path(&*self.0)
            }

            fn remedy(&self) -> Option<$crate::Remedy> {
                $crate::Diagnostic::remedy(&*self.0)
            }

            fn message(&self) -> String {
                self.0.to_string()
            }
        }

        impl ::std::fmt::Display for $Error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                if let Some(path) = self.path() {
                    ::std::fmt::Display::fmt(&$crate::At(path), f)?;
                }
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl ::std::fmt::Debug for $Error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl ::std::error::Error for $Error {
            fn source(&self) -> Option<&(dyn ::std::error::Error + 'static)> {
                self.0.source()
            }
        }

        impl From<$Detail> for $Error {
            fn from(detail: $Detail) -> Self {
                Self(Box::new(detail))
            }
        }
    };
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro is for public types")]
mod tests {
    use std::error::Error as _;
    use std::fmt;
    use std::path::{Path, PathBuf};

    use crate::{Diagnostic, ErrorKind, Remedy};

    #[derive(Debug)]
    enum Detail {
        Unreadable { path: PathBuf, source: std::io::Error },
        Empty,
    }

    impl fmt::Display for Detail {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(match self {
                Self::Unreadable { .. } => "the file cannot be read",
                Self::Empty => "the question is empty",
            })
        }
    }

    impl std::error::Error for Detail {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            match self {
                Self::Unreadable { source, .. } => Some(source),
                Self::Empty => None,
            }
        }
    }

    impl Diagnostic for Detail {
        fn code(&self) -> &'static str {
            match self {
                Self::Unreadable { .. } => "X-01",
                Self::Empty => "X-02",
            }
        }

        fn kind(&self) -> ErrorKind {
            match self {
                Self::Unreadable { .. } => ErrorKind::Missing,
                Self::Empty => ErrorKind::Usage,
            }
        }

        fn path(&self) -> Option<&Path> {
            match self {
                Self::Unreadable { path, .. } => Some(path),
                Self::Empty => None,
            }
        }

        fn remedy(&self) -> Option<Remedy> {
            matches!(self, Self::Empty).then_some(Remedy::AskQuestion)
        }
    }

    opaque_error! {
        /// An error.
        pub struct Error(Detail);
    }

    #[test]
    fn an_opaque_error_names_its_file_and_keeps_what_its_case_carries() {
        let source = std::io::ErrorKind::PermissionDenied.into();
        let error = Error::from(Detail::Unreadable { path: "ct.nii".into(), source });
        assert_eq!(error.to_string(), "`ct.nii`: the file cannot be read");
        assert_eq!(error.message(), "the file cannot be read");
        assert_eq!(error.path(), Some(Path::new("ct.nii")));
        assert_eq!((error.code(), error.kind()), ("X-01", ErrorKind::Missing));
        assert!(error.source().is_some_and(|cause| cause.to_string() == "permission denied"));
        assert_eq!(error.remedy(), None);
    }

    #[test]
    fn an_error_without_a_path_begins_with_its_message() {
        let error: Box<dyn Diagnostic> = Box::new(Error::from(Detail::Empty));
        assert_eq!(error.to_string(), "the question is empty");
        assert_eq!((error.message(), error.path()), (error.to_string(), None));
        assert_eq!(error.remedy(), Some(Remedy::AskQuestion));
    }

    #[test]
    fn a_path_that_is_empty_is_not_written() {
        let source = std::io::ErrorKind::PermissionDenied.into();
        let error = Error::from(Detail::Unreadable { path: PathBuf::new(), source });
        assert_eq!(error.to_string(), "the file cannot be read");
    }
}
