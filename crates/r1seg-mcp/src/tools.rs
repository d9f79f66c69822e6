//! The tools as clients see them: names, descriptions, schemas and annotations.

use std::sync::Arc;

use rmcp::handler::server::tool::{schema_for_input, schema_for_output};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::Hints;
use crate::args::{AskVolume, InspectVolume, ListModels, SegmentVolume};
use crate::results::{Inspected, Models, Outcome};

pub(crate) const LIST_MODELS: &str = "list_models";
pub(crate) const INSPECT_VOLUME: &str = "inspect_volume";
pub(crate) const ASK_VOLUME: &str = "ask_volume";
pub(crate) const SEGMENT_VOLUME: &str = "segment_volume";

const LIST: &str = "List the 3D CT models that are served here: what each takes (questions, texts, organs, \
                    points, boxes, masks), what it gives back, and prompts as it was trained with. Call \
                    this first.";
const INSPECT: &str = "Look at a CT volume before a model reads it: voxels, spacing in mm, orientation, \
                       whether the values are Hounsfield units, and what must be fixed or chosen first \
                       (such as one of several DICOM series). Reads only; no model runs. Voxels are \
                       (i, j, k), i fastest, from 0.";
const ASK: &str = "Ask a language model questions about a CT volume. Answers in words and, where a question \
                   asks to segment something, with a mask on the volume's own grid, measured in mL and \
                   written to files. Several questions share one reading of the volume: ask them in one \
                   call. Takes seconds to minutes. Voxels are (i, j, k), i fastest, from 0. Research use \
                   only: answers can be wrong, and nothing is a diagnosis; check the mask and the warnings.";
const SEGMENT: &str = "Segment structures in a CT volume by an organ's name, a text, points, a box or an \
                       earlier mask that is to be corrected; what a model takes, list_models says. Gives \
                       masks on the volume's own grid, measured in mL and written to files. Takes seconds \
                       to minutes. Voxels are (i, j, k), i fastest, from 0. Research use only: masks can be \
                       wrong; check them and the warnings.";

/// What a client hears about the server as a whole.
pub(crate) fn instructions(hints: &Hints) -> String {
    format!(
        "r1seg answers questions about 3D CT volumes and segments them, on the machine of this server. \
         Call {LIST_MODELS} first, {INSPECT_VOLUME} on a volume that you do not know, then {ASK_VOLUME} or \
         {SEGMENT_VOLUME}. {} {} For research use only: r1seg is not a medical device; report what it \
         gives as a model's output that a person must check, never as a diagnosis.",
        hints.volume, hints.results
    )
}

/// All tools, with descriptions of the arguments that suit the desk.
///
/// # Errors
/// What is wrong with the schema of an argument: a fault of this crate.
pub(crate) fn tools(hints: &Hints) -> Result<Vec<Tool>, String> {
    Ok(vec![
        tool::<ListModels, Models>((LIST_MODELS, "List models", LIST), true, hints)?,
        tool::<InspectVolume, Inspected>(
            (INSPECT_VOLUME, "Inspect a volume", INSPECT),
            true,
            hints,
        )?,
        tool::<AskVolume, Outcome>((ASK_VOLUME, "Ask about a volume", ASK), false, hints)?,
        tool::<SegmentVolume, Outcome>(
            (SEGMENT_VOLUME, "Segment a volume", SEGMENT),
            false,
            hints,
        )?,
    ])
}

fn tool<A: JsonSchema + 'static, R: JsonSchema + 'static>(
    (name, title, description): (&'static str, &str, &'static str),
    reads_only: bool,
    hints: &Hints,
) -> Result<Tool, String> {
    let mut schema = schema_for_input::<A>()?.as_ref().clone();
    describe(&mut schema, hints);
    let annotations = ToolAnnotations::with_title(title).read_only(reads_only).open_world(false);
    let annotations = match reads_only {
        true => annotations.idempotent(true),
        // Files are added in a folder of their own, each time again.
        false => annotations.destructive(false).idempotent(false),
    };
    Ok(Tool::new(name, description, Arc::new(schema))
        .with_title(title)
        .with_raw_output_schema(schema_for_output::<R>())
        .with_annotations(annotations))
}

/// Says what volumes and masks are called.
fn describe(schema: &mut JsonObject, hints: &Hints) {
    let mut set = |pointer: &[&str], text: &str| {
        let mut at = schema.get_mut(pointer[0]);
        for key in &pointer[1..] {
            at = at.and_then(|value| value.get_mut(key));
        }
        if let Some(Value::Object(property)) = at {
            property.insert("description".to_string(), json!(text));
        }
    };
    set(&["properties", "volume"], &hints.volume);
    set(&["$defs", "EarlierMask", "properties", "file"], &hints.mask);
}
