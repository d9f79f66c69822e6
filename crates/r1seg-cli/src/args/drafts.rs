//! Whether, and from what, the next tokens of answers are guessed.

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Answering")]
pub(crate) struct DraftArgs {
    /// Guess the next tokens from earlier answers, and check several in one pass: keep, memory or off. The answer
    /// does not change, only the time it takes.
    ///
    /// `keep` remembers answers for later runs, too: short ones with [SEG] that were given twice, in the
    /// folder `r1seg` beside that of `r1seg cache path`. `memory` remembers them while the program runs, and
    /// `off` guesses nothing. On a GPU nothing is guessed. docs/drafts.md tells what is kept.
    #[arg(
        long,
        default_value = "keep",
        env = "R1SEG_DRAFTS",
        hide_env_values = true,
        value_name = "keep|memory|off",
        value_parser = drafts
    )]
    pub(crate) drafts: Remembering,
}

/// How long answers are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembering {
    /// For later runs.
    Keep,
    /// While the program runs.
    Memory,
    /// Not at all.
    Off,
}

/// As typed; an empty variable leaves the choice to the program.
fn drafts(text: &str) -> Result<Remembering, String> {
    match text {
        "" | "keep" => Ok(Remembering::Keep),
        "memory" => Ok(Remembering::Memory),
        "off" => Ok(Remembering::Off),
        _ => Err("keep, memory or off is needed".to_string()),
    }
}
