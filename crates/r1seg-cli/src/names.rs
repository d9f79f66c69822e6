//! Models by name, in the cache that `r1seg download` fills; in a build without the hub there are
//! none.

use std::path::PathBuf;

use anyhow::Result;

/// The folder of a downloaded model; `None` if this is no name of one.
#[cfg(feature = "hub")]
pub(crate) fn resolve(name: &str) -> Result<Option<PathBuf>> {
    use r1seg::hub::{Hub, ModelId};

    let Ok(id) = ModelId::parse(name) else {
        return Ok(None);
    };
    Ok(Some(Hub::from_env()?.resolve(&id)?.path))
}

#[cfg(not(feature = "hub"))]
pub(crate) fn resolve(_name: &str) -> Result<Option<PathBuf>> {
    Ok(None)
}

/// What to do about a name of which there is no model: the published names that look like it.
#[cfg(feature = "hub")]
pub(crate) fn did_you_mean(name: &str) -> Option<String> {
    use r1seg::hub::ModelId;

    match ModelId::parse(name) {
        Err(error) if !error.similar_names().is_empty() => {
            Some(format!("did you mean {}?", error.similar_names().join(" or ")))
        }
        _ => None,
    }
}

#[cfg(not(feature = "hub"))]
pub(crate) fn did_you_mean(_name: &str) -> Option<String> {
    None
}

/// The short name of a published repository.
#[cfg(feature = "hub")]
pub(crate) fn alias(repository: &str) -> Option<&'static str> {
    r1seg::hub::ModelId::parse(repository).ok()?.alias()
}

#[cfg(not(feature = "hub"))]
pub(crate) fn alias(_repository: &str) -> Option<&'static str> {
    None
}

/// As [`resolve`], where OWNER/NAME may be a path as well: then it must be in the cache.
#[cfg(feature = "hub")]
pub(crate) fn resolve_if_there(name: &str) -> Result<Option<PathBuf>> {
    let is_short_name = r1seg::hub::ModelId::parse(name).is_ok_and(|id| id.alias().is_some());
    if is_short_name { resolve(name) } else { Ok(resolve(name).ok().flatten()) }
}

#[cfg(not(feature = "hub"))]
pub(crate) fn resolve_if_there(_name: &str) -> Result<Option<PathBuf>> {
    Ok(None)
}

/// Why there is no such model, or no such command.
#[cfg(not(feature = "hub"))]
pub(crate) fn without_hub(what: &str) -> anyhow::Error {
    crate::exit::CliError::usage(
        format!("{what}: this r1seg was built without the hub"),
        "build it with the feature `hub`, or name the folder of a checkpoint",
    )
}
