//! Tokens that an answer probably goes on with: speculative decoding, with earlier text in place of a draft model.
//!
//! A pass over six rows takes 1.2 to 4 times as long as one over a single row, where six passes would take six times as
//! long: reading the weights is most of it.
//! So the tokens that probably come next are read along with the last one that was chosen, and are
//! checked by the pass itself: those that the model chooses anyway are kept, and the rest is forgotten. What is
//! guessed decides only how many passes an answer takes.
//!
//! Guesses are copied from texts that may hold the answer's next words: short answers that the model gave before,
//! which follow about a dozen forms, the question, and the answer itself. Where the longest run of the last
//! tokens occurs again, most of its occurrences must go on alike; otherwise nothing is guessed, since
//! rejected rows cost time on processors that multiply more slowly than memory reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tokens of the longest answer that is remembered. Longer ones are the findings of one patient, which tell little
/// about the next.
const MAX_TOKENS: usize = 32;

/// Answers that are remembered. Looking through all of them takes less than a thousandth of a pass.
const MAX_ANSWERS: usize = 256;

/// How many of the last tokens a question or the answer itself must hold once more. A single word of it is
/// followed by anything.
const MIN_COPIED: usize = 2;

/// Short answers that a model gave, in which further ones find their words: a handle, whose clones share them.
#[derive(Debug, Clone, Default)]
pub struct SeenAnswers(Arc<Mutex<Vec<Seen>>>);

/// An answer and how often it was given. The last of a list was the last to be given.
#[derive(Debug)]
struct Seen {
    ids: Vec<u32>,
    times: u32,
}

impl SeenAnswers {
    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an answer that was given so many times. Those of more than 32 tokens are left out, and so are those
    /// of fewer than two, which no token follows. Of more than 256 answers the one is forgotten that was not given for
    /// the longest time.
    pub fn remember(&self, ids: &[u32], times: u32) {
        if !(2..=MAX_TOKENS).contains(&ids.len()) {
            return;
        }
        let mut answers = self.lock();
        let known = answers.iter().position(|seen| seen.ids == ids);
        let before = known.map(|at| answers.remove(at));
        let (ids, before) = before.map_or_else(|| (ids.to_vec(), 0), |seen| (seen.ids, seen.times));
        answers.push(Seen { ids, times: before.saturating_add(times) });
        if answers.len() > MAX_ANSWERS {
            answers.remove(0);
        }
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// How many different answers are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().len()
    }
}

/// From what the next tokens of an answer are guessed.
#[derive(Debug, Clone, Default)]
pub struct Drafts {
    /// Earlier answers; this one is added when it ends.
    pub seen: SeenAnswers,
    /// The token ids of the question.
    pub question: Vec<u32>,
}

impl Drafts {
    /// Up to `most` tokens that probably follow `answer`; none where nothing speaks for one.
    pub(crate) fn propose(&self, answer: &[u32], most: usize) -> Vec<u32> {
        let seen = self.seen.lock();
        let mut text = answer.to_vec();
        while text.len() < answer.len() + most {
            let Some(id) = self.next(&seen, &text) else { break };
            text.push(id);
        }
        text.split_off(answer.len())
    }

    fn next(&self, seen: &[Seen], text: &[u32]) -> Option<u32> {
        let mut votes = Votes::default();
        for Seen { ids, times } in seen {
            for (at, &id) in ids.iter().enumerate().skip(1) {
                let common = common_end(&ids[..at], text);
                // Where both begin alike, the beginning itself is something that they share.
                let whole = usize::from(common == at && common == text.len());
                if common > 0 {
                    votes.add(common + whole, id, *times);
                }
            }
        }
        for copied in [&self.question, text] {
            for (at, &id) in copied.iter().enumerate().skip(MIN_COPIED) {
                let common = common_end(&copied[..at], text);
                if common >= MIN_COPIED {
                    votes.add(common, id, 1);
                }
            }
        }
        votes.winner()
    }
}

/// How many tokens at the ends of both are the same.
fn common_end(a: &[u32], b: &[u32]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// What followed the longest run of tokens that was found.
#[derive(Debug, Default)]
struct Votes {
    longest: usize,
    followed: Vec<(u32, u32)>,
}

impl Votes {
    fn add(&mut self, length: usize, id: u32, times: u32) {
        if length < self.longest {
            return;
        }
        if length > self.longest {
            self.longest = length;
            self.followed.clear();
        }
        match self.followed.iter_mut().find(|(known, _)| *known == id) {
            Some((_, votes)) => *votes = votes.saturating_add(times),
            None => self.followed.push((id, times)),
        }
    }

    /// What followed more often than everything else together.
    fn winner(self) -> Option<u32> {
        let all: u64 = self.followed.iter().map(|(_, votes)| u64::from(*votes)).sum();
        let winner = self.followed.iter().find(|(_, votes)| 2 * u64::from(*votes) > all);
        winner.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(seen: &[&[u32]], question: &[u32]) -> Drafts {
        let drafts = Drafts { question: question.to_vec(), ..Drafts::default() };
        seen.iter().for_each(|ids| drafts.seen.remember(ids, 1));
        drafts
    }

    #[test]
    fn an_answer_that_begins_like_an_earlier_one_goes_on_like_it() {
        let drafts = drafts(&[&[1, 2, 3, 4, 5, 6, 7, 8]], &[]);
        assert_eq!(drafts.propose(&[1], 5), [2, 3, 4, 5, 6]);
        assert_eq!(drafts.propose(&[1, 2, 3, 4, 5, 6], 5), [7, 8]);
        assert!(drafts.propose(&[1, 2, 3, 4, 5, 6, 7, 8], 5).is_empty());
        assert!(drafts.propose(&[9], 5).is_empty());
        assert!(drafts.propose(&[1], 0).is_empty());
    }

    #[test]
    fn the_longest_run_decides_and_the_beginning_belongs_to_it() {
        // After 1 at the beginning comes 2, elsewhere mostly 5.
        let drafts = drafts(&[&[1, 2, 3], &[8, 1, 5], &[9, 1, 5]], &[]);
        assert_eq!(drafts.propose(&[1], 1), [2]);
        assert_eq!(drafts.propose(&[7, 1], 1), [5]);
        assert_eq!(drafts.propose(&[9, 1], 1), [5]);
    }

    #[test]
    fn another_word_in_a_known_form_leaves_the_rest_of_the_form() {
        let drafts = drafts(&[&[1, 20, 3, 4, 5], &[1, 21, 3, 4, 5]], &[]);
        // Which word it will be, nothing tells.
        assert!(drafts.propose(&[1], 5).is_empty());
        assert!(drafts.propose(&[1, 22], 5).is_empty());
        assert_eq!(drafts.propose(&[1, 22, 3], 5), [4, 5]);
    }

    #[test]
    fn what_was_said_more_often_than_all_else_is_guessed() {
        let drafts = drafts(&[&[1, 2, 3], &[1, 4, 5], &[1, 2, 3]], &[]);
        assert_eq!(drafts.propose(&[1], 5), [2, 3]);
        drafts.seen.remember(&[1, 4, 5], 2);
        assert_eq!(drafts.propose(&[1], 5), [4, 5]);
        drafts.seen.remember(&[1, 2, 3], 1);
        assert!(drafts.propose(&[1], 5).is_empty(), "three times each");
    }

    #[test]
    fn two_tokens_of_the_question_or_of_the_answer_are_copied_on_and_one_is_not() {
        let drafts = drafts(&[], &[10, 11, 12, 13]);
        assert_eq!(drafts.propose(&[5, 10, 11], 5), [12, 13]);
        assert!(drafts.propose(&[5, 11], 5).is_empty());
        assert_eq!(drafts.propose(&[1, 2, 3, 4, 1, 2], 2), [3, 4]);
        assert!(drafts.propose(&[2, 3, 4, 2], 2).is_empty());
    }

    #[test]
    fn long_answers_and_those_without_a_second_token_are_not_remembered() {
        let seen = SeenAnswers::default();
        seen.remember(&[1], 1);
        seen.remember(&[7; MAX_TOKENS + 1], 1);
        assert_eq!(seen.len(), 0);
        seen.remember(&[7; MAX_TOKENS], 1);
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn answers_that_were_not_given_for_long_make_room() {
        let drafts = drafts(&[&[1, 2, 3]], &[]);
        for i in 0..MAX_ANSWERS as u32 - 1 {
            drafts.seen.remember(&[1000 + i, 5], 1);
        }
        drafts.seen.remember(&[1, 2, 3], 1);
        drafts.seen.remember(&[4, 5, 6], 1);
        assert_eq!(drafts.seen.len(), MAX_ANSWERS);
        assert_eq!(drafts.propose(&[1], 2), [2, 3]);
        assert!(drafts.propose(&[1000], 1).is_empty());
        drafts.seen.forget();
        assert_eq!(drafts.seen.len(), 0);
    }

    #[test]
    fn clones_share_what_they_remember() {
        let drafts = drafts(&[], &[]);
        drafts.clone().seen.remember(&[1, 2], 1);
        assert_eq!(drafts.propose(&[1], 1), [2]);
    }
}
