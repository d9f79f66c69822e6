//! Words for remedies, for somebody who talks to the server and cannot see its files.

use r1seg_diagnostic::{Purpose, Remedy};

/// What to do about an error or a warning; `None` where only the operator of the server can do something.
pub(crate) fn fix(remedy: &Remedy) -> Option<String> {
    let words = match remedy {
        Remedy::Advice(advice) => return Some(advice.to_string()),
        Remedy::ChooseFrame { frames } => {
            return Some(format!(
                "send the field `frame` with a number from 0 to {}",
                frames.saturating_sub(1)
            ));
        }
        Remedy::ChooseAlongFirstAxis => "send the field `frame` with an index of the first axis",
        Remedy::OmitFrame => "send no field `frame`: the file holds one volume",
        Remedy::ChooseArray => "send one array as .npy",
        Remedy::StateAxes => "send the array with its axes in the order slices, rows, columns",
        Remedy::ChooseSeries => "send the field `series` with the number or the id of one of them",
        Remedy::AllowModality => "send a CT",
        Remedy::FillGaps => "send the missing slices, too",
        Remedy::ReplaceSlice => "send the broken slice again",
        Remedy::GiveGeometry | Remedy::CorrectGeometry => {
            "send the field `spacing` with the millimeters of a voxel, i,j,k"
        }
        Remedy::GiveOneGeometry | Remedy::OmitSpacing => {
            "send no field `spacing`: the file has one of its own"
        }
        Remedy::UseRecipe => "send the volume in Hounsfield units",
        Remedy::GrowBeyondCrop => "send `\"mode\": \"grow\"`",
        Remedy::AskQuestion => "ask something",
        Remedy::UseTrainedModel => "choose a model that was trained on CTs",
        Remedy::Rephrase { questions, how } => return Some(how.words(&quoted(questions))),
        Remedy::AllowLongerAnswer { rephrase } => {
            let instead = rephrase.as_deref().and_then(fix);
            let instead = instead.map(|instead| format!(", or {instead}")).unwrap_or_default();
            return Some(format!("raise `max_new_tokens`{instead}"));
        }
        Remedy::UseModelFor { purpose, .. } => match purpose {
            Purpose::Answer => "ask this model a question",
            Purpose::Segment => "name what to segment, or send points or a box",
            Purpose::Retrieve => "choose another model: this one compares volumes with texts",
        },
        Remedy::ListModels => "choose one of /v1/models",
        Remedy::ReduceMemory => "send a smaller volume, or fewer prompts",
        Remedy::WriteMasksApart => "ask in several requests",
        // For the operator of the server, or about files that no client has.
        Remedy::CopyToFile
        | Remedy::GiveOrientation
        | Remedy::OrientToLps
        | Remedy::OmitPreview
        | Remedy::InspectVolume
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
        | Remedy::Download { .. }
        | Remedy::DownloadOnline { .. }
        | Remedy::CheckTensors
        | Remedy::UseLeadingSeg
        | Remedy::UseCpu
        | Remedy::BuildForGpu { .. }
        | Remedy::UpdateDriver { .. }
        | Remedy::RaiseMemoryLimit
        | Remedy::FreeMemory
        | Remedy::ChangeFormat { .. } => return None,
    };
    Some(words.to_string())
}

/// In quotes.
fn quoted(questions: &[String]) -> Vec<String> {
    questions.iter().map(|question| format!("\"{question}\"")).collect()
}

/// As [`fix`], for reports, which say something in any case.
pub(crate) fn words(remedy: &Remedy) -> String {
    fix(remedy).unwrap_or_else(|| "ask the operator of this server".to_string())
}
