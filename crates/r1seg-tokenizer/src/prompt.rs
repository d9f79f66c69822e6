//! What goes into the language model: image placeholders, a separator, the question.

use std::ops::Range;

use crate::Error;
use crate::error::Detail;

/// What stands between the image placeholders and the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Separator {
    /// One space: how R1Seg was trained and evaluated.
    #[default]
    Space,
    /// Nothing: the published quickstart, and M3D's captions.
    None,
}

impl Separator {
    /// The text itself.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Separator::Space => " ",
            Separator::None => "",
        }
    }
}

/// A piece of a prompt that the program puts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptPart<'a> {
    /// Words, from wherever they come: nothing in them becomes an added token.
    Text(&'a str),
    /// An added token, by its text, that the program itself put here: `<bx_start>`.
    Token(&'a str),
}

/// The token ids of a prompt, with the places where the image goes.
///
/// The reference embeds all ids to `E[0..L]` and feeds the model `[E[0], V[0..n], E[n+1..L]]`: `n`
/// visual tokens take the places `1..n+1`, *whatever ids stand there*. With a BOS those are the
/// `n` placeholders. Without one (Phi-3-mini since July 2024, Qwen2.5) `ids[0]` is a placeholder
/// that is embedded as text, and the first token of the question is overwritten. The models were
/// trained that way, so that [`Prompt::image_span`] is the same for both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub(crate) ids: Vec<u32>,
    pub(crate) n_image_tokens: usize,
}

impl Prompt {
    /// Checks that the placeholders stand where the splice expects them.
    pub(crate) fn new(ids: Vec<u32>, n_image_tokens: usize, im_patch: u32) -> Result<Self, Error> {
        let len = ids.len();
        let start = ids.iter().position(|&id| id == im_patch).unwrap_or(len);
        let found = ids[start..].iter().take_while(|&&id| id == im_patch).count();
        let misplaced = n_image_tokens > 0 && (start > 1 || found != n_image_tokens);
        if misplaced || len < n_image_tokens + 1 {
            return Err(Detail::PromptLayout { n_image_tokens, found, start, len }.into());
        }
        Ok(Self { ids, n_image_tokens })
    }

    /// All ids, placeholders included. Never empty.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The id that is embedded in front of the image: BOS, or the first placeholder.
    #[must_use]
    pub fn head(&self) -> u32 {
        self.ids[0]
    }

    /// The positions whose embeddings the visual tokens replace: `1..n+1`.
    #[must_use]
    pub fn image_span(&self) -> Range<usize> {
        1..self.n_image_tokens + 1
    }

    /// The ids that are embedded behind the image: `ids[n+1..]`.
    #[must_use]
    pub fn tail(&self) -> &[u32] {
        &self.ids[self.n_image_tokens + 1..]
    }

    /// Visual tokens that the prompt has room for.
    #[must_use]
    pub fn n_image_tokens(&self) -> usize {
        self.n_image_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: u32 = 9;

    #[test]
    fn splice_replaces_the_placeholders_behind_a_bos() -> Result<(), Error> {
        let prompt = Prompt::new(vec![1, 9, 9, 9, 5, 6], 3, PATCH)?;
        assert_eq!((prompt.head(), prompt.image_span(), prompt.tail()), (1, 1..4, &[5, 6][..]));
        Ok(())
    }

    #[test]
    fn splice_overwrites_the_first_question_token_without_a_bos() -> Result<(), Error> {
        let prompt = Prompt::new(vec![9, 9, 9, 5, 6], 3, PATCH)?;
        assert_eq!((prompt.head(), prompt.image_span(), prompt.tail()), (9, 1..4, &[6][..]));
        Ok(())
    }

    #[test]
    fn misplaced_placeholders_are_an_error() {
        for (ids, n) in [(vec![], 0), (vec![9, 9], 2), (vec![1, 2, 9, 5], 1), (vec![1, 9, 5, 9], 2)]
        {
            let prompt = Prompt::new(ids, n, PATCH);
            assert_eq!(prompt.err().map(|e| e.code()), Some("R-TOK-14"));
        }
        assert!(Prompt::new(vec![1], 0, PATCH).is_ok());
    }
}
