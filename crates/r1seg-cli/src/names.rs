//! Models by name, in the cache that `r1seg download` fills; in a build without the hub there are
//! none.

use std::path::PathBuf;

use anyhow::Result;
use r1seg::registry::MODELS;

/// The folder of a downloaded model, where OWNER/NAME may be a path as well: then it must be in the
/// cache. `None` if this names none of them.
pub(crate) fn resolve_if_there(name: &str) -> Result<Option<PathBuf>> {
    let found = r1seg::downloaded(name);
    if is_published(name) { Ok(found?) } else { Ok(found.ok().flatten()) }
}

/// Whether it is the short name or the repository of a model that r1seg knows, at any revision.
fn is_published(name: &str) -> bool {
    let name = name.split('@').next().unwrap_or_default();
    let names = MODELS.iter().flat_map(|entry| entry.published);
    let mut names = names.flat_map(|published| [published.alias, published.repository]);
    names.any(|known| known.eq_ignore_ascii_case(name))
}

/// Why there is no such model, or no such command.
#[cfg(not(feature = "hub"))]
pub(crate) fn without_hub(what: &str) -> anyhow::Error {
    crate::exit::CliError::usage(
        format!("{what}: this r1seg was built without the hub"),
        "build it with the feature `hub`, or name the folder of a checkpoint",
    )
}
