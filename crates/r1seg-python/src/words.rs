//! Words for remedies, in terms of the package's functions and their arguments.

use r1seg::{Purpose, Remedy};

/// What to do about an error or a warning.
pub(crate) fn words(remedy: &Remedy) -> String {
    let words = match remedy {
        Remedy::Advice(advice) => advice,
        Remedy::CopyToFile => "copy it to a regular file first",
        Remedy::ChooseFrame { frames } => {
            return format!("choose one of them: frame=0 to {}", frames.saturating_sub(1));
        }
        Remedy::ChooseAlongFirstAxis => "choose one volume along its first axis: frame=0",
        Remedy::OmitFrame => "leave frame out",
        Remedy::ChooseArray => "choose one of them: key=NAME",
        Remedy::StateAxes => "axes=\"xyz\" if it is, axes=\"zyx\" if not",
        Remedy::ChooseSeries => {
            "choose one with series=, its number or at least 4 characters from the start of its id"
        }
        Remedy::AllowModality => "allow_modality=True; the model was trained on CT",
        Remedy::FillGaps => {
            "find the missing slices, or resample to equal distances with allow_gaps=True"
        }
        Remedy::ReplaceSlice => {
            "copy or export it again; allow_gaps=True would interpolate what it holds"
        }
        Remedy::GiveGeometry => "give affine=, spacing= in mm, or affine_from= another file",
        Remedy::CorrectGeometry => "give the true one: affine=, or affine_from= another file",
        Remedy::GiveOneGeometry => "give one of affine=, spacing= and affine_from=",
        Remedy::OmitSpacing => "leave spacing out",
        Remedy::GiveOrientation => {
            "give the affine of the CT with affine=, or show it as it is stored: orient=\"stored\""
        }
        Remedy::OrientToLps => {
            "orient=\"LPS\" shows the volume to the model as LPS; masks stay on the stored grid"
        }
        Remedy::OmitPreview => "write no preview: preview=False",
        Remedy::InspectVolume => {
            "look at the shape, the affine and the warnings of r1seg.Volume(..)"
        }
        Remedy::UseRecipe => "use preprocess=\"auto\"",
        Remedy::GrowBeyondCrop => "mode=\"grow\", which follows the mask beyond it",
        Remedy::AskQuestion => {
            "ask something, such as \"Can you segment the liver in this image?\""
        }
        Remedy::ConvertFirst { path } => {
            return format!("run `r1seg convert {} -o DIR`, and load that folder", path.display());
        }
        Remedy::ConvertWithCheckpoint { language_model: Some(path) } => {
            return format!(
                "run `r1seg convert CHECKPOINT --llm {} -o DIR`, and load that folder",
                path.display()
            );
        }
        Remedy::ConvertWithCheckpoint { language_model: None } => {
            "run `r1seg convert CHECKPOINT --llm FILE.gguf -o DIR`, and load that folder"
        }
        Remedy::GiveBaseModel => "name the folder of the base model: `r1seg convert .. --base DIR`",
        Remedy::GiveParts => "name the folders of the other parts: `r1seg convert .. --with DIR`",
        Remedy::ConvertOriginal => "convert the original checkpoint",
        Remedy::ReplaceFolder | Remedy::ReplaceFile => "choose another name",
        Remedy::ReplaceResults => "choose another folder, or overwrite=True",
        Remedy::ChooseResultFolder => "choose another folder",
        Remedy::NameResultsApart => "give each result a name of its own",
        Remedy::KeepInputs => "choose another place for the results: inputs are never replaced",
        Remedy::WriteMasksApart => "take each mask from the masks of the result, or from its files",
        Remedy::ListModels => "r1seg.models() lists the supported models",
        Remedy::UseModelFor { model, purpose } => {
            return match purpose {
                Purpose::Answer => format!("{model} answers: encode(..).ask(..)"),
                Purpose::Segment => format!("{model} segments: encode(..).segment(..)"),
                Purpose::Retrieve => format!("{model} embeds: embed(volume=..), embed(text=..)"),
            };
        }
        Remedy::Download { model } => return format!("run `r1seg download {model}`"),
        Remedy::DownloadOnline { model } => {
            return format!(
                "unset HF_HUB_OFFLINE and run `r1seg download {model}`, or copy the cache folder from \
                 a machine that has it"
            );
        }
        Remedy::CheckTensors => {
            "copy, download or convert the checkpoint again; `r1seg inspect MODEL --check-tensors` says \
             whether it is sound"
        }
        Remedy::UseTrainedModel => "load a model that was trained on CTs",
        Remedy::Rephrase { questions, how } => return how.words(&quoted(questions)),
        Remedy::AllowLongerAnswer { rephrase: None } => "raise max_new_tokens",
        Remedy::AllowLongerAnswer { rephrase: Some(other) } => {
            return format!("raise max_new_tokens, or {}", self::words(other));
        }
        Remedy::UseLeadingSeg => "first_seg=True makes a mask of it",
        Remedy::UseCpu => "device=\"cpu\", or device=\"auto\"",
        Remedy::BuildForGpu { capability } => {
            return format!(
                "device=\"cpu\", or a wheel that was built for this GPU (CUDA_COMPUTE_CAP={capability})"
            );
        }
        Remedy::UpdateDriver { driver: Some(driver) } => {
            return format!("update the NVIDIA driver to {driver} or later, or device=\"cpu\"");
        }
        Remedy::UpdateDriver { driver: None } => "update the NVIDIA driver, or device=\"cpu\"",
        Remedy::RaiseMemoryLimit => {
            "raise the memory limit of the process (`ulimit -v`), in which mapped weights count, or of \
             its container"
        }
        Remedy::FreeMemory => {
            "free memory, or raise its limit; `r1seg convert --quant q4k` makes a model that needs a \
             quarter of bf16's, dtype=\"bf16\" halves what f32 weights need, and device=\"cuda\" keeps \
             them on a GPU"
        }
        Remedy::ReduceMemory => "dtype=\"bf16\", another device, or a smaller model",
        Remedy::ChangeFormat { format, check_intensities } => {
            let words = match *format {
                "f16" => "f16 ends at 65504: use dtype=\"bf16\" or \"f32\"",
                "f32" => "take config.json and weights from the same checkpoint",
                _ => "use dtype=\"f32\", and take config.json and weights from the same checkpoint",
            };
            let other = "values far outside of 0 to 1 are another cause: use preprocess=\"auto\"";
            return match check_intensities {
                true => format!("{words}; {other}"),
                false => words.to_string(),
            };
        }
    };
    words.to_string()
}

fn quoted(questions: &[String]) -> Vec<String> {
    questions.iter().map(|question| format!("\"{question}\"")).collect()
}
