//! Words for remedies, in terms of the tools' arguments.

use r1seg::{Purpose, Remedy};

/// What an agent can do about an error or a warning; absent where only whoever started the server can do
/// something.
pub fn words(remedy: &Remedy) -> Option<String> {
    let words = match remedy {
        Remedy::Advice(advice) => advice,
        Remedy::CopyToFile => "copy it to a regular file first",
        Remedy::ChooseFrame { frames } => {
            let last = frames.saturating_sub(1);
            return Some(format!("choose one of them with `read.frame`, from 0 to {last}"));
        }
        Remedy::ChooseAlongFirstAxis => "choose one along the first axis with `read.frame`",
        Remedy::OmitFrame => "leave `read.frame` out",
        Remedy::ChooseArray => "choose one of them with `read.key`",
        Remedy::StateAxes => "`read.axes` \"xyz\" if it is, \"zyx\" if not",
        Remedy::ChooseSeries => {
            "choose one with `read.series`: its number, or at least 4 characters from the start of its \
             id; inspect_volume lists them"
        }
        Remedy::AllowModality => "`read.allow_modality` true; the model was trained on CT",
        Remedy::FillGaps => {
            "find the missing slices, or resample to equal distances with `read.allow_gaps` true"
        }
        Remedy::ReplaceSlice => {
            "copy or export it again; `read.allow_gaps` true would interpolate what it holds"
        }
        Remedy::GiveGeometry => "`read.spacing_mm` [i, j, k], from somebody who knows it",
        Remedy::CorrectGeometry | Remedy::GiveOneGeometry => {
            "give the true one with `read.spacing_mm` [i, j, k]"
        }
        Remedy::OmitSpacing => "leave `read.spacing_mm` out",
        Remedy::GiveOrientation => "show it to the model as it is stored: leave `orient` out",
        Remedy::OrientToLps => {
            "`orient` \"LPS\" shows the volume to the model as LPS; masks stay on the stored grid"
        }
        Remedy::InspectVolume => "inspect_volume shows the shape and the position of the volume",
        Remedy::GrowBeyondCrop => "`mode` \"grow\", which follows the mask beyond it",
        Remedy::AskQuestion => {
            "ask something, such as \"Can you segment the liver in this image?\""
        }
        Remedy::ListModels => "list_models says which models are served",
        Remedy::UseModelFor { model, purpose } => {
            return Some(match purpose {
                Purpose::Answer => format!("{model} answers questions: use ask_volume"),
                Purpose::Segment => format!("{model} segments: use segment_volume"),
                Purpose::Retrieve => {
                    format!("{model} compares volumes with texts, which no tool does")
                }
            });
        }
        Remedy::UseTrainedModel => {
            "use another model of list_models; where there is no other, one has to be served"
        }
        Remedy::Rephrase { questions, how } => return Some(how.words(&quoted(questions))),
        Remedy::AllowLongerAnswer { rephrase: None } => "raise `max_new_tokens`",
        Remedy::AllowLongerAnswer { rephrase: Some(other) } => {
            let other = words(other).unwrap_or_default();
            return Some(format!("raise `max_new_tokens`, or {other}"));
        }
        Remedy::UseLeadingSeg => "`first_seg` true makes a mask of it",
        Remedy::OmitPreview
        | Remedy::UseRecipe
        | Remedy::ConvertFirst { .. }
        | Remedy::ConvertWithCheckpoint { .. }
        | Remedy::GiveBaseModel
        | Remedy::GiveParts
        | Remedy::ConvertOriginal
        | Remedy::ReplaceFolder
        | Remedy::ReplaceFile
        | Remedy::ReplaceResults
        | Remedy::ChooseResultFolder
        | Remedy::NameResultsApart
        | Remedy::KeepInputs
        | Remedy::WriteMasksApart
        | Remedy::Download { .. }
        | Remedy::DownloadOnline { .. }
        | Remedy::CheckTensors
        | Remedy::UseCpu
        | Remedy::BuildForGpu { .. }
        | Remedy::UpdateDriver { .. }
        | Remedy::RaiseMemoryLimit
        | Remedy::FreeMemory
        | Remedy::ReduceMemory
        | Remedy::ChangeFormat { .. } => return None,
    };
    Some(words.to_string())
}

/// In quotes.
fn quoted(questions: &[String]) -> Vec<String> {
    questions.iter().map(|question| format!("\"{question}\"")).collect()
}
