//! M3D-LaMed: f32 weights in shards, and a slow tokenizer without `tokenizer.json`.

use serde_json::{Value, json};

use super::Twin;
use super::repository::{Repository, in_f32, recorded};
use super::vocabulary;

pub(super) const REPOSITORIES: &[&str] =
    &["GoodBaiBai88/M3D-LaMed-Phi-3-4B", "GoodBaiBai88/M3D-LaMed-Llama-2-7B"];

/// The files as they are published, with the weights of a recorded checkpoint.
fn twin(name: &'static str, case: &str, shards: usize, class: &str) -> Twin {
    let own = json!({
        "_name_or_path": name, "auto_map": {
            "AutoConfig": "modeling_lamed.LamedConfig", "AutoModelForCausalLM": format!("modeling_lamed.{class}"),
        },
        "torch_dtype": "float32", "transformers_version": "4.41.1", "use_cache": false,
        "tune_mm_mlp_adapter": false, "proj_out_num": 8,
    });
    let files = Repository::default()
        .config(case, own)
        .copy(case, "generation_config.json")
        .shards(&in_f32(recorded(case)), shards)
        .with(vocabulary::slow(case))
        .strays()
        // The whole of the model card, with the line ends of another system.
        .put("README.md", "---\r\nlicense: apache-2.0\r\n---\r\n")
        // All weights once more, as a pickle that nobody needs.
        .put("model.bin", "16 GB");
    Twin::publish(name, files)
}

const SMALL: [&str; 8] = [
    "README.md",
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer_config.json",
];

fn answers(twin: &Twin, case: &str, shards: usize) {
    let names: Vec<String> =
        (1..=shards).map(|i| format!("model-{i:05}-of-{shards:05}.safetensors")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(SMALL).collect();
    twin.download(&names);
    let found = twin.inspect(twin.alias());
    assert_eq!(found["tokenizer"]["seg"], 618);
    assert_eq!(found["tokenizer"]["appended"], json!([]));
    assert_eq!(found["license"]["name"], "apache-2.0");
    let stated = found["published_licenses"].as_array().unwrap().iter();
    let stated: Vec<[&Value; 2]> = stated.map(|row| [&row["part"], &row["license"]]).collect();
    assert_eq!(
        stated,
        [[&json!("code"), &json!("MIT")], [&json!(twin.name), &json!("apache-2.0")]]
    );
    twin.answers_as_recorded(twin.alias(), case, &[]);

    // The README's questions about boxes.
    let box_out = ["--box", "4,6,2,18,21,7", "-p", "What is in the region {box}?"];
    let box_in = ["-p", "Where is liver in this image? Please output the box."];
    for question in [&box_out[..], &box_in] {
        let args = ["infer", "-m", twin.alias(), "-i", "ct.nii.gz"];
        twin.run(args.into_iter().chain(question.iter().copied())).succeeds();
    }
}

#[test]
fn m3d_lamed_phi_3_answers_from_four_shards_and_a_slow_tokenizer() {
    let twin = twin(REPOSITORIES[0], "m3d-phi3", 4, "LamedPhi3ForCausalLM");
    answers(&twin, "m3d-phi3", 4);
    // Into 4.5 bits a weight: here, widths of less than a block stay as they are.
    let run = twin.run(["convert", twin.alias(), "--quant", "q4k", "-o", "./q4k"]);
    run.succeeds();
    twin.inspect("./q4k");
    twin.answers_as_recorded("./q4k", "m3d-phi3", &[]);
}

#[test]
fn m3d_lamed_llama_2_answers_from_six_shards_and_a_slow_tokenizer() {
    let twin = twin(REPOSITORIES[1], "m3d-llama2", 6, "LamedLlamaForCausalLM");
    answers(&twin, "m3d-llama2", 6);
}
