//! R1Seg-3D: no list of its files is known, so that every list which the authors' code can have written
//! must answer.

use serde_json::{Value, json};

use super::Twin;
use super::repository::{Repository, in_f32, recorded};
use super::vocabulary;

pub(super) const REPOSITORIES: &[&str] =
    &["lihao0011/R1Seg-3D-Phi-3-4B", "lihao0011/R1Seg-3D-llama-3-8B"];

const QUESTION: &str = "Which organ makes bile? Please segment it.";

fn config(case: &str, class: &str) -> Repository {
    let own = json!({
        "architectures": [class], "torch_dtype": "float32", "use_cache": false,
        "transformers_version": "4.41.2",
    });
    Repository::default().config(case, own).copy(case, "generation_config.json").strays()
}

const SMALL: [&str; 3] = ["README.md", "config.json", "generation_config.json"];

/// A list of files: the tokenizer's, which of its files there are, and whether it is a slow one.
struct Words {
    files: Repository,
    names: &'static [&'static str],
    is_slow: bool,
}

/// Downloads, inspects, converts where needed, asks as the README does and as it was recorded.
#[track_caller]
fn answers(name: &'static str, case: &str, files: Repository, weights: &[&str], words: &Words) {
    // A failure says which list it was.
    eprintln!("{weights:?} {:?}", words.names);
    let twin = Twin::publish(name, files.with(words.files.clone()));
    twin.download(&[&SMALL[..], weights, words.names].concat());
    let is_pickle = weights[0].contains(".bin");
    let model = if is_pickle { twin.convert() } else { twin.alias().to_owned() };
    let found = twin.inspect(&model);
    assert_eq!(found["tokenizer"]["seg"], 618, "{:?}", words.names);
    // A fast tokenizer writes a space of its own in front of the question.
    let own: &[&str] = if words.is_slow { &[] } else { &["--separator", "none"] };
    twin.answers_as_recorded(&model, case, own);
    let run = twin.run(["infer", "--model", &model, "--image", "ct.nii.gz", "--prompt", QUESTION]);
    run.succeeds();
}

const INDEX: &str = "model.safetensors.index.json";
const TWO: [&str; 3] =
    ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX];
const TWO_PICKLES: [&str; 3] = [
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model-00002-of-00002.bin",
    "pytorch_model.bin.index.json",
];

#[test]
fn r1seg_3d_phi_3_answers_from_every_list_of_tokenizer_files() {
    let case = "phi3";
    let without = |mut config: Value, fields: &[&str]| {
        for field in fields {
            config.as_object_mut().unwrap().remove(*field);
        }
        config
    };
    let model = || Repository::default().put("tokenizer.model", vocabulary::tokenizer_model(case));
    let config_of = |config: &Value| Repository::default().json("tokenizer_config.json", config);
    let slow_config = vocabulary::slow_config(case);
    let bare = without(slow_config.clone(), &["added_tokens_decoder", "additional_special_tokens"]);
    let added = Repository::default().json("added_tokens.json", &vocabulary::added_tokens(case));
    let json = Repository::default().copy(case, "tokenizer.json");
    let lists = [
        Words {
            files: vocabulary::slow(case),
            names: &[
                "tokenizer.model",
                "added_tokens.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
            ],
            is_slow: true,
        },
        Words {
            files: model().with(config_of(&slow_config)),
            names: &["tokenizer.model", "tokenizer_config.json"],
            is_slow: true,
        },
        Words {
            files: model().with(config_of(&bare)).with(added.clone()),
            names: &["tokenizer.model", "tokenizer_config.json", "added_tokens.json"],
            is_slow: true,
        },
        // No file lists the authors' tokens: they are the next free ids.
        Words {
            files: model().with(config_of(&bare)),
            names: &["tokenizer.model", "tokenizer_config.json"],
            is_slow: true,
        },
        Words {
            files: json.clone().with(config_of(&slow_config)),
            names: &["tokenizer.json", "tokenizer_config.json"],
            is_slow: true,
        },
        Words {
            files: vocabulary::slow(case).with(json.clone()),
            names: &[
                "tokenizer.model",
                "tokenizer.json",
                "added_tokens.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
            ],
            is_slow: true,
        },
        Words {
            files: vocabulary::fast(case),
            names: &["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"],
            is_slow: false,
        },
        Words {
            files: vocabulary::fast(case).with(added),
            names: &[
                "tokenizer.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
                "added_tokens.json",
            ],
            is_slow: false,
        },
        Words { files: json, names: &["tokenizer.json"], is_slow: false },
    ];
    let weights = recorded(case);
    for words in &lists {
        let files = config(case, "LamedPhi3ForCausalLMCrossA").whole(&weights);
        answers(REPOSITORIES[0], case, files, &["model.safetensors"], words);
    }
}

#[test]
fn r1seg_3d_phi_3_answers_from_every_list_of_weights() {
    let case = "phi3";
    let weights = recorded(case);
    let words = Words {
        files: vocabulary::slow(case),
        names: &[
            "tokenizer.model",
            "added_tokens.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ],
        is_slow: true,
    };
    let config = || config(case, "LamedPhi3ForCausalLMCrossA");
    let one = config().pickle("pytorch_model.bin", &weights);
    answers(REPOSITORIES[0], case, one, &["pytorch_model.bin"], &words);
    // The name in the authors' merging script.
    let merged = config().pickle("merged_model.bin", &weights);
    answers(REPOSITORIES[0], case, merged, &["merged_model.bin"], &words);
    answers(REPOSITORIES[0], case, config().shards(&weights, 2), &TWO, &words);
    answers(REPOSITORIES[0], case, config().pickles(&weights, 2), &TWO_PICKLES, &words);
    // Of both kinds, the pickles stay on the hub.
    let both = config().shards(&weights, 2).pickles(&weights, 2);
    answers(REPOSITORIES[0], case, both, &TWO, &words);
}

#[test]
fn r1seg_3d_llama_3_answers_from_every_list_of_files() {
    let case = "llama31";
    let weights = in_f32(recorded(case));
    let config = || config(case, "LamedLlamaForCausalLM");
    let fast = Words {
        files: vocabulary::fast(case),
        names: &["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"],
        is_slow: false,
    };
    answers(REPOSITORIES[1], case, config().whole(&weights), &["model.safetensors"], &fast);
    answers(REPOSITORIES[1], case, config().shards(&weights, 2), &TWO, &fast);
    answers(REPOSITORIES[1], case, config().pickles(&weights, 2), &TWO_PICKLES, &fast);
    let slow = Words {
        files: vocabulary::slow(case),
        names: &[
            "tokenizer.model",
            "added_tokens.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ],
        is_slow: true,
    };
    answers(REPOSITORIES[1], case, config().whole(&weights), &["model.safetensors"], &slow);
}

#[test]
fn r1seg_3d_without_a_tokenizer_says_which_files_are_missing() {
    let files = config("phi3", "LamedPhi3ForCausalLMCrossA").whole(&recorded("phi3"));
    let twin = Twin::publish(REPOSITORIES[0], files);
    twin.download(&[&SMALL[..], &["model.safetensors"]].concat());
    twin.take_ct("phi3");
    let run = twin.run(["infer", "-m", twin.alias(), "-i", "ct.nii.gz", "-p", QUESTION]);
    run.fails(78, "R-TOK-03").says("tokenizer.model").says("tokenizer.json");
}
