//! Findings about a model for a reader of a terminal.

use std::fmt::Write;

use r1seg::registry::MODELS;

use super::findings::{Findings, Language, Load, Tokenizer, Vision, Weights, WeightsFile};
use super::planned::Planned;
use crate::capabilities;
use crate::exit::one_line;
use crate::progress::{counted, gigabytes};

/// Names of tensors that are shown of a list.
const FIRST: usize = 5;

/// Lines of a name and what there is to say.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "  {name:<10} {}", one_line(text).trim_end());
    }
}

/// Ends with a line that says OK, or that the model cannot be used.
pub(super) fn render(findings: &Findings) -> String {
    let model = &findings.model;
    let mut lines = Lines(format!("{}\n", one_line(&model.path)));
    match &findings.file {
        Some(file) => {
            lines.add("file", &file_line(file));
            if let Some(name) = model.name {
                lines.add("model", &format!("{name}, by its tensors"));
            }
        }
        // Of a file that cannot be read there is nothing to say.
        None if findings.is_part && findings.weights.is_none() => {}
        None => lines.add("model", &what(findings)),
    }
    if let Some(vision) = &findings.vision {
        vision_lines(&mut lines, vision);
    }
    if let Some(language) = &findings.language {
        lines.add("language", &language_line(language));
    }
    if let Some(weights) = &findings.weights {
        weights_lines(&mut lines, weights);
    }
    if let Some(load) = &findings.load {
        load_lines(&mut lines, load);
    }
    for device in ["cpu", "cuda"] {
        let needs: Vec<String> = findings
            .memory
            .iter()
            .filter(|need| need.device == device)
            .map(|need| format!("{} as {}", gigabytes(need.bytes), need.dtype))
            .collect();
        if !needs.is_empty() {
            let name = if device == "cpu" { "memory" } else { "" };
            let about = if device == "cpu" { "on a CPU" } else { "on a GPU, about" };
            lines.add(name, &format!("{about} {}", needs.join(", ")));
        }
    }
    if let Some(need) = findings.memory.iter().find(|m| (m.device, m.dtype) == ("cpu", "f32")) {
        let (weights, pass) = (gigabytes(need.weights_bytes), gigabytes(need.pass_bytes));
        let per = if findings.has_windows { "each window" } else { "a pass" };
        lines.add("", &format!("on a CPU as f32: {weights} for weights, {pass} for {per}"));
    }
    if let Some(run) = &findings.run {
        run_lines(&mut lines, run);
    }
    // A file by itself says nothing of these, and has no files.
    if !findings.files.is_empty() {
        match &findings.tokenizer {
            Some(tokenizer) => tokenizer_lines(&mut lines, tokenizer),
            None => lines.add("tokenizer", "none that can be read"),
        }
        lines.add("license", &license(findings));
        for row in &findings.published_licenses {
            lines.add("", &format!("as published, {row}"));
        }
        lines.add("origin", &origin(findings));
    }
    for (number, file) in findings.files.iter().enumerate() {
        let name = if number == 0 { "files" } else { "" };
        lines.add(name, &format!("{:>10}  {}", gigabytes(file.bytes), file.name));
    }
    let command = MODELS.iter().find(|entry| Some(entry.name) == model.name);
    let command = command.map_or("infer", |entry| capabilities::command(&entry.capabilities));
    let verdict = match &findings.problem {
        None => format!("OK: `{command}` runs it"),
        Some(_) if findings.is_part => format!("UNUSABLE BY ITSELF: {}", user(findings)),
        Some(_) => format!("UNUSABLE: `{command}` refuses it"),
    };
    format!("{}\n{verdict}\n", lines.0)
}

fn file_line(file: &WeightsFile) -> String {
    let size = gigabytes(file.bytes);
    match (file.format, file.gguf_version) {
        ("gguf", Some(version)) => {
            let architecture = match &file.architecture {
                Some(architecture) => format!("architecture {architecture}"),
                None => "of no stated architecture".to_string(),
            };
            format!("GGUF version {version}, {architecture}, {size}")
        }
        ("pickle", _) => format!("Python pickle, {size}"),
        (format, _) => format!("{format}, {size}"),
    }
}

/// What a file that is not a whole model is good for.
fn user(findings: &Findings) -> &'static str {
    let has_weights = findings.weights.as_ref().is_some_and(|weights| 0 < weights.tensors);
    match findings.problem.as_ref().map(|problem| problem.code) {
        Some("R-WGT-04") if has_weights => {
            "`convert --llm` joins this language model to a checkpoint"
        }
        Some("R-WGT-04") => "there are no weights in it",
        Some("R-WGT-02") => "`convert` makes a model of it",
        _ if has_weights => "a model is the whole folder",
        _ => "it cannot be read",
    }
}

fn what(findings: &Findings) -> String {
    let model = &findings.model;
    let model_type = match &model.model_type {
        Some(model_type) => format!("model_type {model_type}"),
        None => "no model_type in config.json".to_string(),
    };
    match model.name {
        Some(name) if model.supported => format!("{name} ({model_type})"),
        Some(name) => format!("{name} ({model_type}), which this version does not run"),
        None => format!("unknown ({model_type})"),
    }
}

fn vision_lines(lines: &mut Lines, vision: &Vision) {
    let (image, patch, grid) = (by(vision.image_size), by(vision.patch_size), by(vision.grid));
    let text = format!("{image} voxels (slices first), patches of {patch}, {grid} of them");
    lines.add("vision", &text);
    let number = |n: usize| Some(n as u64);
    let widths = numbers(&[
        ("width", number(vision.hidden_size)),
        ("mlp", number(vision.mlp_dim)),
        ("layers", number(vision.num_layers)),
        ("heads", number(vision.num_heads)),
        ("visual tokens", vision.visual_tokens.and_then(number)),
    ]);
    lines.add("", &widths);
}

fn language_line(language: &Language) -> String {
    let widths = numbers(&[
        ("width", language.hidden_size),
        ("mlp", language.intermediate_size),
        ("layers", language.num_layers),
        ("heads", language.num_heads),
        ("of keys", language.num_key_value_heads),
        ("vocabulary", language.vocab_size),
        ("positions", language.max_positions),
    ]);
    format!("{}, {widths}", language.family.as_deref().unwrap_or("unknown family"))
}

/// `width 64, layers 2`, of what is known.
fn numbers(named: &[(&str, Option<u64>)]) -> String {
    let known = named.iter().filter_map(|(name, n)| n.map(|n| format!("{name} {n}")));
    known.collect::<Vec<_>>().join(", ")
}

fn weights_lines(lines: &mut Lines, weights: &Weights) {
    let pickle = if weights.is_pickle { ", in Python pickles" } else { "" };
    let text = format!(
        "{} parameters in {}, {}{pickle}",
        count(weights.parameters),
        tensors(weights.tensors),
        gigabytes(weights.bytes)
    );
    lines.add("weights", &text);
    for dtype in &weights.dtypes {
        let (held, size) = (tensors(dtype.tensors), gigabytes(dtype.bytes));
        let text = format!("{}: {held}, {size}", dtype.dtype);
        lines.add("", &text);
    }
}

fn load_lines(lines: &mut Lines, load: &Load) {
    let unused = match load.unused.len() {
        0 => String::new(),
        n => format!(", {n} that the authors' code never reads either"),
    };
    lines.add("fit", &format!("{} as the configuration says{unused}", tensors(load.loaded)));
    let misshaped: Vec<String> = load
        .misshaped
        .iter()
        .map(|t| format!("{}: expected {}, got {}", t.name, t.expected, t.found))
        .collect();
    for (what, names) in
        [("missing", &load.missing), ("unexpected", &load.unexpected), ("misshaped", &misshaped)]
    {
        if !names.is_empty() {
            lines.add("", &format!("{} {what}:", names.len()));
            names.iter().take(FIRST).for_each(|name| lines.add("", &format!("  {name}")));
            if FIRST < names.len() {
                lines.add("", "  ..");
            }
        }
    }
}

fn run_lines(lines: &mut Lines, run: &Planned) {
    let windows = run.windows.map(|windows| format!(", at most {windows} windows"));
    let windows = windows.unwrap_or_default();
    lines.add("run", &format!("{} in mode {}{windows}", run.image, run.mode));
    let totals = run.memory.iter().map(|m| format!("{} as {}", gigabytes(m.bytes), m.dtype));
    lines.add("", &format!("on a CPU {} in all", totals.collect::<Vec<_>>().join(", ")));
    let stitching = match run.stitching_bytes {
        0 => String::new(),
        bytes => format!("{} to stitch windows, ", gigabytes(bytes)),
    };
    let (volume, results) = (gigabytes(run.volume_bytes), gigabytes(run.results_bytes));
    lines.add("", &format!("beside the model: {volume} volume, {stitching}{results} masks"));
    if let Some(bytes) = run.overlaps_bytes {
        let more = gigabytes(bytes);
        lines.add("", &format!("{more} more where all classes keep the voxels that they share"));
    }
}

fn tokenizer_lines(lines: &mut Lines, tokenizer: &Tokenizer) {
    let ids = |ids: &[u32]| match ids {
        [] => "none".to_string(),
        ids => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    };
    let one = |id: Option<u32>| ids(id.as_slice());
    let text = format!(
        "{} ids, vocabulary {}, BOS {}, EOS {}",
        tokenizer.kind,
        tokenizer.vocab_size,
        one(tokenizer.bos),
        ids(&tokenizer.eos)
    );
    lines.add("tokenizer", &text);
    if let (Some(seg), Some(patch)) = (tokenizer.seg, tokenizer.im_patch) {
        let appended = match tokenizer.appended.as_slice() {
            [] => String::new(),
            tokens => format!("; no file lists {}", tokens.join(", ")),
        };
        lines.add("", &format!("[SEG] {seg}, <im_patch> {patch}{appended}"));
    }
}

fn license(findings: &Findings) -> String {
    let Some(license) = &findings.license else {
        return "the folder does not say".to_string();
    };
    let title = license.text.as_deref().and_then(|text| {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().take(60).collect::<String>())
    });
    let file = license.file.as_ref().map(|file| match title {
        Some(title) => format!("{file} ({title})"),
        None => file.clone(),
    });
    [license.name.clone(), file].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn origin(findings: &Findings) -> String {
    let made = findings.provenance.as_ref().map(|made| {
        let lora = match made.lora_merged {
            Some(merged) => {
                let matrices = counted(merged as u64, ["matrix", "matrices"]);
                format!(", LoRA merged into {matrices}")
            }
            None => String::new(),
        };
        let sources: Vec<&str> = made.sources.iter().map(|s| s.name.as_str()).collect();
        format!("converted by r1seg {} from {}{lora}; ", made.r1seg_version, sources.join(", "))
    });
    let checked = match findings.verified_by {
        Some("program") => "part of r1seg, trained on synthetic phantoms",
        Some("manifest") => "`r1seg verify` compares it with manifest.json",
        Some(_) => "`r1seg verify` compares it with the hashes of the hub",
        None => "unknown; there is nothing that `r1seg verify` could compare it with",
    };
    made.unwrap_or_default() + checked
}

fn tensors(count: usize) -> String {
    counted(count as u64, ["tensor", "tensors"])
}

fn by(axes: [usize; 3]) -> String {
    axes.map(|n| n.to_string()).join(" x ")
}

/// `3.82 G`, or smaller units for less.
fn count(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} G", n as f64 / 1e9),
        1_000_000.. => format!("{:.1} M", n as f64 / 1e6),
        1_000.. => format!("{:.0} k", n as f64 / 1e3),
        _ => n.to_string(),
    }
}
