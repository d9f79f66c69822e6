//! Typed access to a `config.json`, and what every family reads alike.

use serde_json::Value;

use super::error::{invalid, unsupported};
use super::{
    AttentionLayout, ConfigError, DecoderConfig, Llama3Scaling, MlpLayout, RopeConfig, RopeScaling,
};

/// One JSON object and the path to it.
pub(super) struct Fields<'a> {
    object: &'a Value,
    path: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn root(config: &'a Value) -> Result<Self, ConfigError> {
        if !config.is_object() {
            return Err(invalid("config.json", config, "a JSON object"));
        }
        Ok(Self { object: config, path: "" })
    }

    pub(super) fn nested(object: &'a Value, path: &'static str) -> Result<Self, ConfigError> {
        if !object.is_object() {
            return Err(invalid(path, object, "a JSON object or null"));
        }
        Ok(Self { object, path })
    }

    /// The field's full name, for a message.
    pub(super) fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_string() } else { format!("{}.{field}", self.path) }
    }

    /// Whether the field is there at all: families differ in what `null` means.
    pub(super) fn contains(&self, field: &str) -> bool {
        self.object.get(field).is_some()
    }

    /// The field, unless it is absent or null.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn size(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(invalid(self.name(field), value, "a non-negative integer")),
        }
    }

    pub(super) fn required_size(&self, field: &str) -> Result<usize, ConfigError> {
        self.size(field)?.ok_or_else(|| self.missing(field, "a positive integer"))
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| invalid(self.name(field), value, "a number"))
    }

    pub(super) fn required_number(&self, field: &str) -> Result<f64, ConfigError> {
        self.number(field)?.ok_or_else(|| self.missing(field, "a number"))
    }

    pub(super) fn numbers(&self, field: &str) -> Result<Vec<f64>, ConfigError> {
        let value = self.get(field).ok_or_else(|| self.missing(field, "a list of numbers"))?;
        value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect())
            .ok_or_else(|| invalid(self.name(field), value, "a list of numbers"))
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(false) };
        value.as_bool().ok_or_else(|| invalid(self.name(field), value, "true or false"))
    }

    pub(super) fn missing(&self, field: &str, expected: &str) -> ConfigError {
        ConfigError::Missing { field: self.name(field), expected: expected.to_string() }
    }
}

/// What a family does where its `config.json` says nothing.
pub(super) struct Defaults {
    pub(super) rms_norm_eps: f64,
    pub(super) max_position_embeddings: usize,
    pub(super) attention: AttentionLayout,
    pub(super) mlp: MlpLayout,
    /// Whether only a part of each head may rotate.
    pub(super) partial_rotary: bool,
}

/// transformers' default of `rope_theta` in all four families.
const ROPE_THETA: f64 = 10_000.0;

/// The fields that all families share; window and rope scaling are left unset.
pub(super) fn common(fields: &Fields, defaults: Defaults) -> Result<DecoderConfig, ConfigError> {
    if let Some(activation) = fields.get("hidden_act").filter(|a| a.as_str() != Some("silu")) {
        return Err(unsupported(fields.name("hidden_act"), activation, "\"silu\""));
    }
    if let Some(part) = rotary_part(fields)?.filter(|_| !defaults.partial_rotary) {
        return Err(unsupported(fields.name(ROTARY_PART), part, "1.0"));
    }
    let hidden_size = fields.required_size("hidden_size")?;
    let num_attention_heads = fields.required_size("num_attention_heads")?;
    let head_dim = match fields.size("head_dim")? {
        Some(head_dim) => head_dim,
        None if num_attention_heads != 0 && hidden_size.is_multiple_of(num_attention_heads) => {
            hidden_size / num_attention_heads
        }
        None => {
            return Err(invalid(
                fields.name("num_attention_heads"),
                num_attention_heads,
                format!("a divisor of hidden_size = {hidden_size}"),
            ));
        }
    };
    Ok(DecoderConfig {
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        num_hidden_layers: fields.required_size("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: fields.size("num_key_value_heads")?.unwrap_or(num_attention_heads),
        head_dim,
        vocab_size: fields.required_size("vocab_size")?,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps),
        max_position_embeddings: fields
            .size("max_position_embeddings")?
            .unwrap_or(defaults.max_position_embeddings),
        sliding_window: None,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?,
        attention: defaults.attention,
        mlp: defaults.mlp,
        rope: RopeConfig {
            theta: fields.number("rope_theta")?.unwrap_or(ROPE_THETA),
            partial_rotary_factor: rotary_part(fields)?.unwrap_or(1.0),
            scaling: RopeScaling::None,
        },
    })
}

const ROTARY_PART: &str = "partial_rotary_factor";

/// The part of each head that rotates, unless that is all of it.
fn rotary_part(fields: &Fields) -> Result<Option<f64>, ConfigError> {
    match fields.number(ROTARY_PART)? {
        Some(1.0) | None => Ok(None),
        Some(part) if 0.0 < part && part < 1.0 => Ok(Some(part)),
        Some(part) => Err(invalid(fields.name(ROTARY_PART), part, "a number above 0 and up to 1")),
    }
}

/// The `rope_scaling` object and its kind, unless it asks for nothing.
pub(super) fn rope_scaling<'a>(
    fields: &Fields<'a>,
) -> Result<Option<(Fields<'a>, &'a str)>, ConfigError> {
    let Some(value) = fields.get("rope_scaling") else { return Ok(None) };
    let scaling = Fields::nested(value, "rope_scaling")?;
    let (field, kind) = match scaling.get("rope_type") {
        Some(kind) => ("rope_type", kind),
        None => match scaling.get("type") {
            Some(kind) => ("type", kind),
            None => return Err(scaling.missing("rope_type", "the name of a scaling")),
        },
    };
    match kind.as_str() {
        Some("default") => Ok(None),
        Some(kind) => Ok(Some((scaling, kind))),
        None => Err(invalid(scaling.name(field), kind, "the name of a scaling")),
    }
}

/// The scalings that Llama and Qwen2 checkpoints may ask for.
pub(super) fn llama_scaling(fields: &Fields) -> Result<RopeScaling, ConfigError> {
    match rope_scaling(fields)? {
        None => Ok(RopeScaling::None),
        Some((scaling, "llama3")) => Ok(RopeScaling::Llama3(Llama3Scaling {
            factor: scaling.required_number("factor")?,
            low_freq_factor: scaling.required_number("low_freq_factor")?,
            high_freq_factor: scaling.required_number("high_freq_factor")?,
            original_max_position_embeddings: scaling
                .required_size("original_max_position_embeddings")?,
        })),
        Some((scaling, kind)) => Err(unsupported(
            scaling.name("rope_type"),
            format!("\"{kind}\""),
            "\"default\" or \"llama3\"",
        )),
    }
}
