//! The recorded vectors of the data folder, for the real tokenizers.

use std::collections::BTreeMap;
use std::path::Path;

use r1seg_tokenizer::{PromptTokenizer, Separator, TextTokenizer, TokenizerFiles, TokenizerKind};
use serde::Deserialize;

use super::{Result, json, load, real};

#[derive(Deserialize)]
struct R1SegVectors {
    texts: Vec<String>,
    #[serde(rename = "use_fast=False")]
    slow: Recording,
    fast: Recording,
}

#[derive(Deserialize)]
struct Recording {
    len_after: usize,
    special: BTreeMap<String, u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    ids: Vec<Vec<u32>>,
}

fn check(tokenizer: &PromptTokenizer, texts: &[String], recording: &Recording) -> Result<usize> {
    assert_eq!(texts.len(), recording.ids.len());
    assert_eq!(tokenizer.vocab_size(), recording.len_after);
    assert_eq!(tokenizer.eos_id(), recording.eos);
    assert_eq!(tokenizer.bos_id(), recording.bos);
    for (token, &id) in &recording.special {
        assert_eq!(tokenizer.added_token_id(token), Some(id), "{token}");
    }
    assert_eq!(tokenizer.appended_tokens(), ["<im_patch>", "<bx_start>", "<bx_end>", "[SEG]"]);
    let mut prompts = 0;
    for (text, ids) in texts.iter().zip(&recording.ids) {
        assert_eq!(&tokenizer.encode_raw(text)?, ids, "{text:?}");
        // The same through the prompt, for the texts that are one.
        let question = text.trim_start_matches("<im_patch>");
        let n = (text.len() - question.len()) / "<im_patch>".len();
        let plain =
            ["[SEG]", "<bx_", "<im_patch>", "</s>", "<|"].iter().all(|t| !question.contains(t));
        if n > 0 && plain {
            let prompt = tokenizer.encode_prompt(question, n, Separator::None)?;
            assert_eq!(prompt.ids(), ids, "{text:?}");
            if let Some(question) = question.strip_prefix(' ') {
                let prompt = tokenizer.encode_prompt(question, n, Separator::Space)?;
                assert_eq!(prompt.ids(), ids, "{text:?}");
            }
            prompts += 1;
        }
    }
    Ok(prompts)
}

fn vectors(name: &str) -> Result<Option<(R1SegVectors, std::path::PathBuf)>> {
    let (Some(file), Some(dir)) = (real(&format!("vectors/r1seg_{name}.json")), real(name)) else {
        return Ok(None);
    };
    Ok(Some((json(&file)?, dir)))
}

#[test]
fn r1seg_phi3_slow_ids_from_tokenizer_json_and_from_tokenizer_model() -> Result<()> {
    let Some((vectors, dir)) = vectors("phi-3-mini")? else {
        return Ok(());
    };
    let files = TokenizerFiles::from_dir(&dir)?;
    let json_only = TokenizerFiles { tokenizer_model: None, ..files.clone() };
    let model_only = TokenizerFiles { tokenizer_json: None, ..files.clone() };
    for files in [files, json_only, model_only] {
        let tokenizer = PromptTokenizer::new(&files)?;
        assert_eq!(tokenizer.kind(), TokenizerKind::Slow);
        assert_eq!(check(&tokenizer, &vectors.texts, &vectors.slow)?, 18);
        assert_eq!(tokenizer.encode_raw("[SEG]")?, [29871, 32014]);
        tokenizer.check_embedding_rows(32015)?;
        assert!(tokenizer.check_embedding_rows(32014).is_err());
    }
    Ok(())
}

#[test]
fn r1seg_phi3_fast_ids_where_the_config_says_fast() -> Result<()> {
    let Some((vectors, dir)) = vectors("phi-3-mini")? else {
        return Ok(());
    };
    let mut files = TokenizerFiles::from_dir(&dir)?;
    let config = files.tokenizer_config.take().unwrap_or_default();
    let config = String::from_utf8(config.into_owned())?;
    files.tokenizer_config =
        Some(config.replace("LlamaTokenizer", "LlamaTokenizerFast").into_bytes().into());
    let tokenizer = PromptTokenizer::new(&files)?;
    assert_eq!(tokenizer.kind(), TokenizerKind::Fast);
    assert_eq!(check(&tokenizer, &vectors.texts, &vectors.fast)?, 18);
    Ok(())
}

#[test]
fn r1seg_llama3_and_qwen_ids() -> Result<()> {
    for name in ["llama3", "qwen2.5"] {
        let Some((vectors, dir)) = vectors(name)? else {
            return Ok(());
        };
        let tokenizer = load(&dir)?;
        assert_eq!(tokenizer.kind(), TokenizerKind::Fast);
        assert_eq!(check(&tokenizer, &vectors.texts, &vectors.slow)?, 18);
        assert_eq!(check(&tokenizer, &vectors.texts, &vectors.fast)?, 18);
    }
    Ok(())
}

#[derive(Deserialize)]
struct LlamaCpp {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

fn check_llama_cpp(name: &str, tokenizer: &PromptTokenizer, bos: &[u32]) -> Result<()> {
    let Some(file) = real(&format!("vectors/llama_cpp_{name}.json")) else {
        return Ok(());
    };
    let vectors: LlamaCpp = json(&file)?;
    assert_eq!(vectors.cases.len(), 47);
    for Case { text, ids } in vectors.cases {
        assert_eq!(tokenizer.encode_raw(&text)?, [bos, &ids].concat(), "{name}: {text:?}");
    }
    Ok(())
}

fn load_if_real(name: &str) -> Result<Option<PromptTokenizer>> {
    real(name).map(|dir| load(&dir).map_err(Into::into)).transpose()
}

#[test]
fn llama_cpp_phi3_vectors() -> Result<()> {
    let Some(dir) = real("phi-3-mini") else {
        return Ok(());
    };
    let files = TokenizerFiles::from_dir(&dir)?;
    let json_only = TokenizerFiles { tokenizer_model: None, ..files.clone() };
    check_llama_cpp("phi-3", &PromptTokenizer::new(&files)?, &[])?;
    check_llama_cpp("phi-3", &PromptTokenizer::new(&json_only)?, &[])
}

#[test]
fn llama_cpp_llama_spm_vectors_from_a_lone_tokenizer_model() -> Result<()> {
    let Some(tokenizer) = load_if_real("llama2-spm")? else {
        return Ok(());
    };
    assert_eq!(tokenizer.kind(), TokenizerKind::Slow);
    assert_eq!(tokenizer.seg_token_id(), 32003);
    check_llama_cpp("llama-spm", &tokenizer, &[1])
}

#[test]
fn llama_cpp_byte_level_vectors() -> Result<()> {
    for (folder, name) in [("llama3", "llama-bpe"), ("qwen2.5", "qwen2")] {
        let Some(tokenizer) = load_if_real(folder)? else {
            return Ok(());
        };
        check_llama_cpp(name, &tokenizer, &[])?;
    }
    Ok(())
}

/// Fast ids of Microsoft's Phi-3 tests, the chat markers among them.
#[test]
fn onnxruntime_extensions_phi3_vectors() -> Result<()> {
    let Some(file) = real("vectors/onnxruntime_extensions_phi3.json") else {
        return Ok(());
    };
    let all: BTreeMap<String, serde_json::Value> = json(&file)?;
    let mut checked = 0;
    for (name, cases) in all.into_iter().filter(|(_, cases)| cases.is_array()) {
        let folder = if name.starts_with("phi-3-mini") { "phi-3-mini" } else { "phi-3" };
        let tokenizer = load_fast(&real(folder).ok_or("checked above")?)?;
        for Case { text, ids } in serde_json::from_value::<Vec<Case>>(cases)? {
            assert_eq!(tokenizer.encode_raw(&text)?, ids, "{name}: {text:?}");
            checked += 1;
        }
    }
    assert_eq!(checked, 4);
    Ok(())
}

fn load_fast(dir: &Path) -> Result<PromptTokenizer> {
    let mut files = TokenizerFiles::from_dir(dir)?;
    let config = files.tokenizer_config.take().unwrap_or_default();
    let config = String::from_utf8(config.into_owned())?;
    files.tokenizer_config =
        Some(config.replace("\"LlamaTokenizer\"", "\"LlamaTokenizerFast\"").into_bytes().into());
    Ok(PromptTokenizer::new(&files)?)
}

#[derive(Deserialize)]
struct LlamaCppVectors {
    cases: Vec<LlamaCppCase>,
}

#[derive(Deserialize)]
struct LlamaCppCase {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn bert_from_vocab_txt_alone_gives_the_ids_of_llama_cpps_vectors() -> Result<()> {
    let (Some(file), Some(folder)) =
        (real("vectors/llama_cpp_bert-bge.json"), real("bert-base-uncased"))
    else {
        return Ok(());
    };
    let mut files = TokenizerFiles::from_dir(&folder)?;
    assert!(files.vocab_txt.is_some());
    files.tokenizer_json = None;
    let bert = TextTokenizer::new(&files)?;
    let vectors: LlamaCppVectors = json(&file)?;
    let cases = vectors.cases.iter().filter(|case| !case.text.trim().is_empty());
    let mut compared = 0;
    for LlamaCppCase { text, ids } in cases {
        let whole = bert.encode(text, 512)?;
        assert_eq!(&whole[1..whole.len() - 1], ids, "{text:?}");
        compared += 1;
    }
    assert!(20 < compared, "{compared} texts");
    Ok(())
}

#[derive(Deserialize)]
struct ClipVectors {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

#[test]
fn clip_gives_the_ids_of_transformers() -> Result<()> {
    let (Some(file), Some(folder)) = (real("vectors/clip.json"), real("clip")) else {
        return Ok(());
    };
    let clip = TextTokenizer::new(&TokenizerFiles::from_dir(&folder)?)?;
    let vectors: ClipVectors = json(&file)?;
    for (text, ids) in vectors.texts.iter().zip(&vectors.ids).filter(|(text, _)| !text.is_empty()) {
        assert_eq!(&clip.encode(text, 512)?, ids, "{text:?}");
    }
    Ok(())
}
