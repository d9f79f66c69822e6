//! Chat completions in OpenAI's form: what clients send, and what they get.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::results::{ResultReply, Tokens};

/// A question about a volume, in OpenAI's form. Fields that are not listed are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    /// The id of a model that takes questions.
    #[schema(example = "demo")]
    pub(super) model: String,
    /// The text of the last one of the user is the question. The volume is the latest in any of them.
    #[schema(min_items = 1)]
    pub(super) messages: Vec<Message>,
    /// Whether chunks are sent as the answer is generated.
    #[serde(default)]
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    /// The longest answer, in tokens.
    #[schema(minimum = 1, maximum = 4096)]
    pub(super) max_tokens: Option<usize>,
    /// As `max_tokens`, which it replaces.
    #[schema(minimum = 1, maximum = 4096)]
    pub(super) max_completion_tokens: Option<usize>,
    /// 0, the default here, for the most likely tokens.
    #[schema(minimum = 0, maximum = 2)]
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) seed: Option<u64>,
    /// Only 1.
    #[schema(minimum = 1, maximum = 1)]
    pub(super) n: Option<usize>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// Whether a last chunk counts tokens.
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Message {
    /// `user`; those of others are read for volumes alone.
    pub(super) role: String,
    pub(super) content: Option<Content>,
}

/// A text, or parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A text or a volume.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part {
    Text { text: String },
    Volume { volume: VolumePart },
}

/// A volume that was uploaded, or one that comes along.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumePart {
    /// `vol_..`
    pub(super) id: Option<String>,
    /// The bytes of a file, in base64.
    pub(super) data: Option<String>,
    /// What the file is called.
    pub(super) name: Option<String>,
}

impl ChatRequest {
    /// The text of the last message of the user.
    pub(super) fn question(&self) -> Option<String> {
        let last = self.messages.iter().rev().find(|message| message.role == "user")?;
        let text = match last.content.as_ref()? {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => {
                let texts = parts.iter().filter_map(|part| match part {
                    Part::Text { text } => Some(text.as_str()),
                    Part::Volume { .. } => None,
                });
                texts.collect::<Vec<_>>().join("\n")
            }
        };
        Some(text).filter(|text| !text.trim().is_empty())
    }

    /// The latest volume of any message.
    pub(super) fn take_volume(&mut self) -> Option<VolumePart> {
        let parts =
            self.messages.iter_mut().rev().filter_map(|message| match &mut message.content {
                Some(Content::Parts(parts)) => Some(parts),
                _ => None,
            });
        for parts in parts {
            let last = parts.iter().rposition(|part| matches!(part, Part::Volume { .. }));
            if let Some(last) = last
                && let Part::Volume { volume } = parts.remove(last)
            {
                return Some(volume);
            }
        }
        None
    }
}

/// An answer in OpenAI's form, with the result of r1seg beside it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    pub(super) id: String,
    /// Always `chat.completion`.
    pub(super) object: &'static str,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Usage,
    pub(super) r1seg: Extra,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Choice {
    /// Always 0.
    pub(super) index: usize,
    pub(super) message: Reply,
    /// `stop` or `length`.
    pub(super) finish_reason: &'static str,
    /// Always null.
    pub(super) logprobs: Option<u8>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reply {
    /// Always `assistant`.
    pub(super) role: &'static str,
    pub(super) content: String,
    /// Always null.
    pub(super) refusal: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Usage {
    /// Those of the image included.
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl From<Tokens> for Usage {
    fn from(Tokens { prompt, generated }: Tokens) -> Self {
        let (prompt_tokens, completion_tokens) = (prompt, generated);
        Self { prompt_tokens, completion_tokens, total_tokens: prompt + generated }
    }
}

/// What OpenAI's form has no place for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Extra {
    pub(super) result: ResultReply,
}

/// A part of an answer that is streamed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Chunk {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r1seg: Option<Extra>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    finish_reason: Option<&'static str>,
}

/// What is new.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
}

/// What all chunks of an answer have in common.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

impl Head {
    fn chunk(&self, choices: Vec<ChunkChoice>) -> Chunk {
        let Self { id, created, model } = self.clone();
        let object = "chat.completion.chunk";
        Chunk { id, object, created, model, choices, usage: None, r1seg: None }
    }

    pub(super) fn delta(&self, delta: Delta, finish_reason: Option<&'static str>) -> Chunk {
        self.chunk(vec![ChunkChoice { index: 0, delta, finish_reason }])
    }

    pub(super) fn mask(&self, result: ResultReply) -> Chunk {
        Chunk { r1seg: Some(Extra { result }), ..self.delta(Delta::default(), None) }
    }

    pub(super) fn usage(&self, tokens: Tokens) -> Chunk {
        Chunk { usage: Some(tokens.into()), ..self.chunk(Vec::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_question_is_asked_about_the_latest_volume() {
        let mut request: ChatRequest = serde_json::from_str(
            r#"{"model": "demo", "foo": 1, "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "volume", "volume": {"id": "vol_a"}},
                    {"type": "volume", "volume": {"id": "vol_b"}},
                    {"type": "text", "text": "Liver?"}]},
                {"role": "assistant", "content": "It is there."},
                {"role": "user", "content": [{"type": "text", "text": "And"},
                                             {"type": "text", "text": "the spleen?"}]}]}"#,
        )
        .unwrap();
        assert_eq!(request.question().as_deref(), Some("And\nthe spleen?"));
        assert_eq!(request.take_volume().and_then(|volume| volume.id).as_deref(), Some("vol_b"));
    }

    #[test]
    fn s4_a_picture_by_its_address_is_no_part_that_is_read() {
        let text = r#"{"model": "demo", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}}]}]}"#;
        assert!(serde_json::from_str::<ChatRequest>(text).is_err());
        let text = r#"{"model": "demo", "messages": [{"role": "user", "content": [
            {"type": "volume", "volume": {"url": "file:///etc/passwd"}}]}]}"#;
        assert!(serde_json::from_str::<ChatRequest>(text).is_err());
    }
}
