//! M3D-CLIP against the authors' code: four volumes, four texts, and all their logits.

use candle_core::{Device, Tensor};
use r1seg::volume::{Geometry, Volume};
use r1seg::{
    CheckpointSource, DeviceChoice, DtypeChoice, EncodeOptions, Error, LoadOptions, M3dClip,
    Preprocess, Recipe, RunContext,
};

use crate::case::{F32_TOLERANCE, data, deviation, device};

fn load(dtype: DtypeChoice) -> M3dClip {
    let source = CheckpointSource::Folder(data("m3d-clip"));
    let options = LoadOptions::default().with_device(device()).with_dtype(dtype);
    M3dClip::load_with(&source, &options).unwrap()
}

/// Embeddings of the recorded volumes and texts, `[4, E]` each.
fn embeddings(clip: &M3dClip) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let volumes = Tensor::read_npy(data("m3d-clip/golden/volumes.npy")).unwrap();
    let shape = clip.config().vit.image_size;
    let options = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
    let images = (0..4).map(|i| {
        let voxels: Vec<f32> = volumes.get(i).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let volume = Volume::new(voxels, Geometry::without_affine(shape)).unwrap();
        let image = clip.embed_volume_with(&volume, &options, &mut RunContext::default()).unwrap();
        assert!(image.warnings.is_empty(), "{:?}", image.warnings);
        image.embedding
    });
    let json = std::fs::read(data("m3d-clip/golden/case.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let texts = json["texts"].as_array().unwrap().iter().map(|text| {
        let text = clip.embed_text(text.as_str().unwrap()).unwrap();
        assert_eq!(text.dropped_tokens, 0);
        text.embedding
    });
    (images.collect(), texts.collect())
}

fn logits(clip: &M3dClip, images: &[Vec<f32>], texts: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let scale = clip.logit_scale();
    let row = |image: &Vec<f32>| {
        texts.iter().map(|text| scale * M3dClip::similarity(image, text)).collect()
    };
    images.iter().map(row).collect()
}

#[test]
fn m3d_clip_f32_matches_the_authors() {
    let clip = load(DtypeChoice::F32);
    assert!(clip.load_report().is_clean());
    assert_eq!(clip.load_report().unused.len(), 2, "BERT's pooler");
    let expected = data("m3d-clip/golden/expected.safetensors");
    let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
    let (images, texts) = embeddings(&clip);
    let logits = logits(&clip, &images, &texts);
    for (name, got) in
        [("image_embeddings", images), ("text_embeddings", texts), ("logits_per_image", logits)]
    {
        let gap = deviation(&Tensor::new(got, &Device::Cpu).unwrap(), &expected[name]);
        assert!(gap <= F32_TOLERANCE, "{name}: {gap:e}");
    }
}

#[test]
fn m3d_clip_with_the_weights_as_stored_stays_near() {
    let clip = load(DtypeChoice::Auto);
    let expected = data("m3d-clip/golden/expected.safetensors");
    let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
    let (images, texts) = embeddings(&clip);
    for (name, got) in [("image_embeddings", images), ("text_embeddings", texts)] {
        let expected = expected[name].to_vec2::<f32>().unwrap();
        for (got, expected) in got.iter().zip(&expected) {
            // Where bf16 is multiplied in hardware, activations of products are rounded to it.
            let cosine = M3dClip::similarity(got, expected);
            assert!(cosine > 0.999, "{name}: {cosine}");
        }
    }
}

/// The tokenizer files that are published with M3D-CLIP: a vocabulary, and no `tokenizer.json`.
fn with_a_published_tokenizer() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(data("m3d-clip").join(file), folder.path().join(file)).unwrap();
    }
    let json = std::fs::read(data("m3d-clip/tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let ids = json["model"]["vocab"].as_object().unwrap();
    let mut pieces: Vec<(u64, &String)> =
        ids.iter().map(|(piece, id)| (id.as_u64().unwrap(), piece)).collect();
    pieces.sort_unstable();
    let lines: String = pieces.iter().map(|(_, piece)| format!("{piece}\n")).collect();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    write("vocab.txt", &lines);
    write(
        "tokenizer_config.json",
        r#"{"cls_token": "[CLS]", "do_basic_tokenize": true, "do_lower_case": true,
            "mask_token": "[MASK]", "model_max_length": 512, "never_split": null,
            "pad_token": "[PAD]", "sep_token": "[SEP]", "strip_accents": null,
            "tokenize_chinese_chars": true, "tokenizer_class": "BertTokenizer",
            "unk_token": "[UNK]"}"#,
    );
    write(
        "special_tokens_map.json",
        r#"{"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]",
            "sep_token": "[SEP]", "unk_token": "[UNK]"}"#,
    );
    folder
}

#[test]
fn a_vocabulary_alone_gives_the_texts_that_tokenizer_json_gives() {
    let folder = with_a_published_tokenizer();
    let options = LoadOptions::default().with_device(device()).with_dtype(DtypeChoice::F32);
    let published =
        M3dClip::load_with(CheckpointSource::Folder(folder.path().to_path_buf()), &options)
            .unwrap();
    let recorded = load(DtypeChoice::F32);
    for text in ["No abnormality is seen in the spleen.", "Größe: 3,5 cm (L4/L5)"] {
        let [a, b] = [&published, &recorded].map(|clip| clip.embed_text(text).unwrap());
        assert_eq!(a, b, "{text}");
    }
}

#[test]
fn a_long_text_is_cut_where_the_encoder_ends() {
    let clip = load(DtypeChoice::F32);
    let text = clip.embed_text(&"liver ".repeat(600)).unwrap();
    assert_eq!(text.dropped_tokens, 600 + 2 - 512);
    let rest = clip.embed_text(&"liver ".repeat(510)).unwrap();
    assert_eq!(text.embedding, rest.embedding);
}

#[test]
fn an_empty_text_is_refused() {
    let error = load(DtypeChoice::F32).embed_text(" ").unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-TOK-15", r1seg::ErrorKind::Usage));
}

#[test]
fn r1_a_clip_is_loaded_exactly_if_the_limit_allows_what_it_needs() {
    let source = CheckpointSource::Folder(data("m3d-clip"));
    let load = |limit| {
        let options = LoadOptions::default().with_device(DeviceChoice::Cpu);
        M3dClip::load_with(&source, &options.with_memory_limit(limit))
    };
    let Err(Error::NotEnoughMemory { needed, .. }) = load(1) else { panic!("it is not enough") };
    assert!(matches!(load(needed - 1), Err(Error::NotEnoughMemory { .. })));
    assert!(load(needed).is_ok());
}
