//! What the model takes, in the words of plug-ins.

use r1seg::PromptKind;
use serde_json::{Map, Value, json};

use super::host::NnInteractive;
use crate::models::Entry;
use crate::state::State;

impl NnInteractive {
    /// Adds what plug-ins read of `/capabilities`.
    pub(crate) fn capabilities(&self, app: &State, all: &mut Map<String, Value>) {
        if let Some(entry) = app.models.get(self.model) {
            all.extend(of(entry));
        }
    }
}

fn of(entry: &Entry) -> Map<String, Value> {
    let takes = |kind| entry.takes(kind);
    let value = json!({
        "supported_interactions": {
            "points": takes(PromptKind::Points),
            // A rectangle in one slice prompts none of the models.
            "bbox2d": false,
            "bbox3d": takes(PromptKind::Box),
            "scribble": false,
            "lasso": false,
        },
        // Plug-ins keep these and look at none of them.
        "channel_mapping": {"prev_seg": 0, "points": [1, 2], "bbox3d": [3, 4]},
        "num_interaction_channels": 5,
        "preferred_scribble_thickness": [2, 2, 2],
        "interaction_decay": null,
        "supports_initial_label": takes(PromptKind::Mask),
        "supports_zero_shot_label_refinement": false,
        "supports_undo": true,
        "do_autozoom": false,
        "patch_size": entry.model.input_shape(),
        "inference_session_version": concat!("r1seg ", env!("CARGO_PKG_VERSION")),
        "license": license(entry),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What the publishers of the model say about its use, which plug-ins show.
fn license(entry: &Entry) -> String {
    let row = entry.model.family().entry();
    let id = &entry.model.name().id;
    let own =
        row.published.iter().find(|of| of.repository == id || of.alias.eq_ignore_ascii_case(id));
    let statement = |part: &str| {
        let known = row.licenses.iter().find(|statement| statement.part == part);
        known.and_then(|statement| statement.license).unwrap_or("not stated")
    };
    let weights = own.map_or("see their publisher", |of| statement(of.repository));
    format!("weights of {id}: {weights}; for research use only")
}
