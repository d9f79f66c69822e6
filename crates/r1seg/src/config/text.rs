//! The text encoder in `config.json`.

use r1seg_text_encoder::{BertConfig, ClipTextConfig};
use serde_json::Value;

use super::field;

/// `text_config`, which published files leave to CLIP ViT-B/32's own.
pub(crate) fn clip(config: &Value) -> Result<ClipTextConfig, String> {
    let text: ClipTextConfig = field(config, "text_config")?.unwrap_or_default();
    text.validate()?;
    Ok(text)
}

/// `text_config`, which published files leave to `language_model_name_or_path`, bert-base-uncased.
pub(crate) fn bert(config: &Value) -> Result<BertConfig, String> {
    let text: BertConfig = field(config, "text_config")?.unwrap_or_default();
    text.validate()?;
    Ok(text)
}
