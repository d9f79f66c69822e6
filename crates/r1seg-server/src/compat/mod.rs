//! The words of other servers, for plug-ins that viewers already have.

pub(crate) mod nninteractive;
