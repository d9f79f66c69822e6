//! Where an answer ends.

use serde_json::Value;

use super::ConfigError;
use super::error::invalid;

const FIELD: &str = "eos_token_id";

/// The token ids that end an answer: those of `generation_config.json`, or, where it is absent or
/// names none, those of `config.json`. Empty when neither names one.
///
/// # Errors
/// [`ConfigError::Invalid`] when `eos_token_id` is neither a token id nor a list of them.
pub fn eos_token_ids(
    config: &Value,
    generation_config: Option<&Value>,
) -> Result<Vec<u32>, ConfigError> {
    let named = |config: &Value| config.get(FIELD).filter(|ids| !ids.is_null()).cloned();
    let Some(value) = generation_config.and_then(named).or_else(|| named(config)) else {
        return Ok(Vec::new());
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match &value {
        Value::Array(list) => list.iter().map(id).collect::<Option<Vec<u32>>>(),
        one => id(one).map(|id| vec![id]),
    };
    ids.ok_or_else(|| invalid(FIELD, &value, "a token id or a list of token ids"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn eos_of_the_generation_config_wins_over_the_config() -> Result<(), ConfigError> {
        let config = json!({ "eos_token_id": 2 });
        let generation = json!({ "eos_token_id": [32000, 32001, 32007] });
        assert_eq!(eos_token_ids(&config, Some(&generation))?, [32000, 32001, 32007]);
        assert_eq!(eos_token_ids(&config, None)?, [2]);
        assert_eq!(eos_token_ids(&config, Some(&json!({})))?, [2]);
        assert_eq!(eos_token_ids(&config, Some(&json!({ "eos_token_id": null })))?, [2]);
        assert!(eos_token_ids(&json!({}), None)?.is_empty());
        Ok(())
    }

    #[test]
    fn eos_that_is_no_token_id_is_refused_by_name() {
        for bad in [json!("</s>"), json!(-1), json!([2, null]), json!(1u64 << 40), json!(2.5)] {
            let error = eos_token_ids(&json!({ "eos_token_id": bad }), None).unwrap_err();
            assert!(error.to_string().contains("`eos_token_id`"), "{error}");
        }
    }
}
