//! Words of the command line for what to do about an error or a warning.

use std::sync::atomic::{AtomicBool, Ordering};

use r1seg::{Purpose, Remedy, Rephrasing};

/// Whether what is read is lines of a conversation, which flags do not reach.
static LINES: AtomicBool = AtomicBool::new(false);

/// Lets [`spoken`] name commands of a conversation.
pub(crate) fn speak_of_lines() {
    LINES.store(true, Ordering::SeqCst);
}

/// What to do, to somebody who can do it now: in a conversation with its commands.
pub(crate) fn spoken(remedy: &Remedy) -> String {
    let in_a_line = LINES.load(Ordering::SeqCst).then(|| in_a_line(remedy)).flatten();
    in_a_line.unwrap_or_else(|| words(remedy))
}

/// What to type, where that is another thing than on the command line.
fn in_a_line(remedy: &Remedy) -> Option<String> {
    Some(match remedy {
        Remedy::Rephrase { questions, how } => {
            let questions = questions.join(" -- or: ");
            match how {
                Rephrasing::Example => {
                    format!("ask as the model was trained, for example: {questions}")
                }
                Rephrasing::Trained => format!("try: {questions} -- the model may also see none"),
                Rephrasing::Same => format!("try: {questions}"),
            }
        }
        Remedy::AllowLongerAnswer { rephrase } => {
            let longer = "begin the conversation with a larger --max-new-tokens";
            match rephrase.as_deref().and_then(in_a_line) {
                Some(rephrase) => format!("{rephrase}; or {longer}"),
                None => longer.to_string(),
            }
        }
        Remedy::UseLeadingSeg => {
            "begin the conversation with --first-seg, which makes a mask of it".to_string()
        }
        Remedy::GrowBeyondCrop => {
            "begin the conversation with --mode grow, which follows the mask beyond it".to_string()
        }
        Remedy::UseTrainedModel => "/model DIR with a trained checkpoint".to_string(),
        Remedy::AskQuestion => {
            "ask something, for example: Can you segment the liver in this image?".to_string()
        }
        Remedy::ReplaceFile => "choose another name".to_string(),
        Remedy::KeepInputs => "choose another place for the results".to_string(),
        Remedy::ReplaceResults | Remedy::ChooseResultFolder => {
            "choose another folder: /save DIR".to_string()
        }
        _ => return None,
    })
}

/// What to do, with the flags and subcommands that do it.
pub(crate) fn words(remedy: &Remedy) -> String {
    let words = match remedy {
        Remedy::Advice(advice) => advice,
        Remedy::CopyToFile => "copy it to a file first, or send it to standard input with `-i -`",
        Remedy::ChooseFrame { frames } => {
            return format!("choose one of them: --frame 0..{}", frames.saturating_sub(1));
        }
        Remedy::ChooseAlongFirstAxis => "choose one volume along its first axis: --frame 0",
        Remedy::OmitFrame => "leave --frame out",
        Remedy::ChooseArray => "choose one of them: --key NAME",
        Remedy::StateAxes => "--axes xyz if it is (--axes zyx if not)",
        Remedy::ChooseSeries => {
            "choose one with --series N, or at least 4 characters from the start of its id"
        }
        Remedy::AllowModality => "allow it with --allow-modality; the model was trained on CT",
        Remedy::FillGaps => {
            "find the missing slices, or resample to equal distances with --allow-gaps"
        }
        Remedy::ReplaceSlice => {
            "copy or export it again; --allow-gaps would interpolate what it holds"
        }
        Remedy::GiveGeometry => "--spacing Z,Y,X in mm, or --affine-from a NIfTI file",
        Remedy::CorrectGeometry => {
            "give the true one: --spacing Z,Y,X in mm, or --affine-from another volume"
        }
        Remedy::GiveOneGeometry => "leave --spacing or --affine-from out",
        Remedy::OmitSpacing => "leave --spacing out",
        Remedy::GiveOrientation => {
            "take the geometry of the CT that it was made from: --affine-from FILE; or show it as it \
             is stored: --orient stored"
        }
        Remedy::OrientToLps => {
            "--orient LPS shows the volume to the model as LPS; masks stay on the stored grid"
        }
        Remedy::OmitPreview => "write no preview: --no-preview",
        Remedy::InspectVolume => {
            "`r1seg inspect` shows the shape and the position of the volume, and what the model \
             sees of it"
        }
        Remedy::UseRecipe => "use --preprocess auto",
        Remedy::GrowBeyondCrop => "use --mode grow, which follows the mask beyond it",
        Remedy::AskQuestion => "ask something, for example --prompt \"Can you segment the liver?\"",
        Remedy::ConvertFirst { path } => {
            return format!("r1seg convert {} -o DIR, and then --model DIR", path.display());
        }
        Remedy::ConvertWithCheckpoint { language_model: Some(path) } => {
            return format!(
                "r1seg convert CHECKPOINT --llm {} -o DIR, and then --model DIR",
                path.display()
            );
        }
        Remedy::ConvertWithCheckpoint { language_model: None } => {
            "convert the checkpoint that it belongs to, and name the GGUF file with --llm: \
             r1seg convert CHECKPOINT --llm FILE.gguf -o DIR"
        }
        Remedy::GiveBaseModel => "name the folder of the base model: --base DIR",
        Remedy::GiveParts => {
            "name the language model with --base DIR, and each further part with --with DIR"
        }
        Remedy::ConvertOriginal => {
            "convert the original checkpoint, or name the folder's GGUF file with --llm"
        }
        Remedy::ReplaceFolder => "choose another folder, or --force to replace it",
        Remedy::ReplaceFile => "choose another name, or --force to replace it",
        Remedy::ReplaceResults => "choose another --out, or --force to replace it",
        Remedy::ChooseResultFolder => "name another folder with --out",
        Remedy::NameResultsApart => "give --mask, --preview, --report and --trace a name each",
        Remedy::KeepInputs => {
            "choose another place for the results; --force replaces no input and no model"
        }
        Remedy::WriteMasksApart => "write a file for each of them with --mask FILE or --out",
        Remedy::ListModels => "`r1seg models` lists the supported models, with their model_type",
        Remedy::UseModelFor { model, purpose } => {
            return format!("{model} runs with `r1seg {}`", command(*purpose));
        }
        Remedy::Download { model } => return format!("r1seg download {model}"),
        Remedy::DownloadOnline { model } => {
            return format!(
                "unset HF_HUB_OFFLINE and run `r1seg download {model}`, or copy the cache folder \
                 from a machine that has it"
            );
        }
        Remedy::CheckTensors => {
            "copy, download or convert the checkpoint again; `r1seg inspect MODEL \
             --check-tensors` says whether it is sound"
        }
        Remedy::UseTrainedModel => "use --model DIR with a trained checkpoint",
        Remedy::Rephrase { questions, how } => return rephrase(questions, *how),
        Remedy::AllowLongerAnswer { rephrase: None } => "raise --max-new-tokens",
        Remedy::AllowLongerAnswer { rephrase: Some(rephrase) } => {
            return format!("raise --max-new-tokens, or {}", self::words(rephrase));
        }
        Remedy::UseLeadingSeg => "--first-seg makes a mask of it",
        Remedy::UseCpu => "use --device cpu, or --device auto",
        Remedy::BuildForGpu { capability } => {
            return format!(
                "use --device cpu, or build r1seg for this GPU: CUDA_COMPUTE_CAP={capability} \
                 scripts/build-cuda.sh"
            );
        }
        Remedy::UpdateDriver { driver: Some(driver) } => {
            return format!("update the NVIDIA driver to {driver} or later, or use --device cpu");
        }
        Remedy::UpdateDriver { driver: None } => "update the NVIDIA driver, or use --device cpu",
        Remedy::RaiseMemoryLimit => {
            "raise the memory limit of the process (`ulimit -v`), in which mapped weights count, or \
             of its container"
        }
        Remedy::FreeMemory => {
            "free memory, or raise the limit of the process (`ulimit -v`) or of its container; \
             `r1seg convert --quant q4k` makes a model that needs a quarter of bf16's, \
             --dtype bf16 halves what f32 weights need, and --device cuda keeps them on a GPU"
        }
        Remedy::ReduceMemory => "use --dtype bf16, another device, or a smaller model",
        Remedy::ChangeFormat { format, check_intensities } => {
            return change_format(format, *check_intensities);
        }
    };
    words.to_string()
}

fn change_format(format: &str, check_intensities: bool) -> String {
    let words = match format {
        "f16" => "f16 ends at 65504: use --dtype bf16 or f32",
        "f32" => "take config.json and weights from the same checkpoint",
        _ => "use --dtype f32, and take config.json and weights from the same checkpoint",
    };
    match check_intensities {
        true => format!(
            "{words}; values far outside of 0 to 1 are another cause: use --preprocess auto"
        ),
        false => words.to_string(),
    }
}

/// The subcommand that serves a purpose.
pub(crate) fn command(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Answer => "infer",
        Purpose::Segment => "segment",
        Purpose::Retrieve => "retrieve",
    }
}

/// Questions to paste into the shell.
fn rephrase(questions: &[String], how: Rephrasing) -> String {
    let options: Vec<String> =
        questions.iter().map(|question| format!("-p {}", quoted(question))).collect();
    how.words(&options)
}

/// As a shell reads it as one argument.
fn quoted(text: &str) -> String {
    let is_special = |c: char| matches!(c, '"' | '$' | '`' | '\\' | '!');
    match text.contains(is_special) {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    /// A remedy of each kind.
    fn in_words(how: Rephrasing) -> Remedy {
        Remedy::Rephrase { questions: vec!["Where is the liver?".to_string()], how }
    }

    fn remedies() -> Vec<Remedy> {
        let (path, model) = (std::path::PathBuf::from("x"), "x".to_string());
        vec![
            "x".into(),
            Remedy::CopyToFile,
            Remedy::ChooseFrame { frames: 2 },
            Remedy::ChooseAlongFirstAxis,
            Remedy::OmitFrame,
            Remedy::ChooseArray,
            Remedy::StateAxes,
            Remedy::ChooseSeries,
            Remedy::AllowModality,
            Remedy::FillGaps,
            Remedy::ReplaceSlice,
            Remedy::GiveGeometry,
            Remedy::CorrectGeometry,
            Remedy::GiveOneGeometry,
            Remedy::OmitSpacing,
            Remedy::GiveOrientation,
            Remedy::OrientToLps,
            Remedy::OmitPreview,
            Remedy::InspectVolume,
            Remedy::UseRecipe,
            Remedy::AskQuestion,
            Remedy::ConvertFirst { path: path.clone() },
            Remedy::ConvertWithCheckpoint { language_model: None },
            Remedy::ConvertWithCheckpoint { language_model: Some(path) },
            Remedy::GiveBaseModel,
            Remedy::GiveParts,
            Remedy::ConvertOriginal,
            Remedy::ReplaceFolder,
            Remedy::ReplaceFile,
            Remedy::ReplaceResults,
            Remedy::ChooseResultFolder,
            Remedy::NameResultsApart,
            Remedy::KeepInputs,
            Remedy::WriteMasksApart,
            Remedy::ListModels,
            Remedy::UseModelFor { model: "x", purpose: Purpose::Answer },
            Remedy::UseModelFor { model: "x", purpose: Purpose::Segment },
            Remedy::UseModelFor { model: "x", purpose: Purpose::Retrieve },
            Remedy::Download { model: model.clone() },
            Remedy::DownloadOnline { model },
            Remedy::CheckTensors,
            Remedy::UseTrainedModel,
            in_words(Rephrasing::Example),
            in_words(Rephrasing::Trained),
            in_words(Rephrasing::Same),
            Remedy::AllowLongerAnswer { rephrase: None },
            Remedy::AllowLongerAnswer { rephrase: Some(Box::new(in_words(Rephrasing::Same))) },
            Remedy::UseLeadingSeg,
            Remedy::UseCpu,
            Remedy::BuildForGpu { capability: "80".to_string() },
            Remedy::UpdateDriver { driver: None },
            Remedy::UpdateDriver { driver: Some(580) },
            Remedy::RaiseMemoryLimit,
            Remedy::FreeMemory,
            Remedy::ReduceMemory,
            Remedy::ChangeFormat { format: "f16", check_intensities: true },
            Remedy::ChangeFormat { format: "bf16", check_intensities: false },
            Remedy::ChangeFormat { format: "f32", check_intensities: false },
        ]
    }

    #[test]
    fn a_suggestion_survives_the_shell() {
        assert_eq!(quoted("What's in it?"), "\"What's in it?\"");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn a_trained_question_without_a_mask_may_be_about_something_absent() {
        let questions = ["Please segment the pancreas in this image.".to_string()];
        assert_eq!(
            rephrase(&questions, Rephrasing::Trained),
            "try -p \"Please segment the pancreas in this image.\"; the model may also see none"
        );
        assert!(
            rephrase(&questions, Rephrasing::Example)
                .starts_with("ask as the model was trained, for example -p \"Please")
        );
    }

    #[test]
    fn what_is_said_in_a_conversation_can_be_typed_there() {
        let same = in_a_line(&in_words(Rephrasing::Same));
        assert_eq!(same.as_deref(), Some("try: Where is the liver?"));
        for words in remedies().iter().filter_map(in_a_line) {
            assert!(!words.contains("--force") && !words.contains(" -p "), "{words}");
        }
    }

    #[test]
    fn every_flag_and_command_in_a_hint_exists() {
        let cli = Cli::command();
        let has_flag = |flag: &str| {
            let flags = |command: &clap::Command| {
                command.get_arguments().any(|argument| argument.get_long() == Some(flag))
            };
            flags(&cli) || cli.get_subcommands().any(flags)
        };
        for remedy in remedies() {
            let words = words(&remedy);
            assert!(!words.is_empty() && !words.ends_with('.'), "{remedy:?}: {words}");
            for (at, _) in words.match_indices("--") {
                let flag = words[at + 2..].split(|c: char| !(c.is_alphanumeric() || c == '-'));
                let flag = flag.into_iter().next().unwrap();
                assert!(has_flag(flag), "{remedy:?}: --{flag}");
            }
            for (at, _) in words
                .match_indices("r1seg ")
                .filter(|(at, _)| words[..*at].is_empty() || words[..*at].ends_with(['`', ' ']))
            {
                let name = words[at + 6..].split([' ', '`']).next().unwrap();
                let is_command = cli.find_subcommand(name).is_some() || name == "for";
                assert!(is_command, "{remedy:?}: {name}");
            }
        }
    }
}
