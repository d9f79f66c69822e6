//! The names of published models on the hub.

use std::sync::LazyLock;

use r1seg_hub::{Aliases, Error, Hub, HubConfig, ModelId};

use super::MODELS;

static ALIASES: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let published = MODELS.iter().flat_map(|entry| entry.published);
    published.map(|published| (published.alias, published.repository)).collect()
});

/// The short names of all rows.
pub fn aliases() -> Aliases {
    Aliases(&ALIASES)
}

/// A model on the hub by its short name or `OWNER/NAME`, either with `@REVISION`.
///
/// # Errors
/// `R-HUB-04`, with the short names that look alike.
pub fn model_id(text: &str) -> Result<ModelId, Error> {
    aliases().parse(text)
}

/// The hub as the environment says, which knows the short names.
///
/// # Errors
/// As [`HubConfig::from_env`].
pub fn hub() -> Result<Hub, Error> {
    let mut config = HubConfig::from_env()?;
    config.aliases = aliases();
    Ok(Hub::new(config))
}
