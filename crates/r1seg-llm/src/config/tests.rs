use serde_json::{Value, json};

use super::*;

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn tiny() -> Value {
    json!({
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100,
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut config = tiny();
    config[field] = value;
    config
}

#[test]
fn phi3_files_are_read_with_their_names() {
    let config =
        DecoderConfig::phi3(&fixture(include_str!("../../tests/fixtures/phi3.json"))).unwrap();
    assert_eq!(config.attention, AttentionLayout::Fused);
    assert_eq!(config.mlp, MlpLayout::Fused);
    assert_eq!((config.head_dim, config.num_key_value_heads), (16, 4));
    assert_eq!((config.vocab_size, config.intermediate_size), (619, 96));
    assert_eq!(
        config.rope,
        RopeConfig { theta: 1e4, partial_rotary_factor: 1.0, scaling: RopeScaling::None }
    );
    assert_eq!(config.sliding_window, None);
    let long =
        DecoderConfig::phi3(&fixture(include_str!("../../tests/fixtures/phi3-longrope.json")))
            .unwrap();
    let RopeScaling::LongRope(scaling) = long.rope.scaling else { panic!("{:?}", long.rope) };
    assert_eq!(scaling.original_max_position_embeddings, 12);
    assert_eq!(scaling.long_factor[1], 1.35);
    assert_eq!(long.num_key_value_heads, 2);
}

#[test]
fn llama_qwen2_and_mistral_files_are_read_with_their_names() {
    let llama =
        DecoderConfig::llama(&fixture(include_str!("../../tests/fixtures/llama3.json"))).unwrap();
    assert_eq!(llama.rope.theta, 5e5);
    assert_eq!(llama.attention, AttentionLayout::Split { bias: AttentionBias::None });
    let llama31 =
        DecoderConfig::llama(&fixture(include_str!("../../tests/fixtures/llama31.json"))).unwrap();
    assert!(matches!(llama31.rope.scaling, RopeScaling::Llama3(s) if s.factor == 8.0));
    let qwen2 =
        DecoderConfig::qwen2(&fixture(include_str!("../../tests/fixtures/qwen2.json"))).unwrap();
    assert_eq!(qwen2.attention, AttentionLayout::Split { bias: AttentionBias::Qkv });
    assert_eq!((qwen2.rope.theta, qwen2.rms_norm_eps), (1e6, 1e-6));
    let mistral =
        DecoderConfig::mistral(&fixture(include_str!("../../tests/fixtures/mistral.json")))
            .unwrap();
    assert_eq!((mistral.sliding_window, mistral.num_key_value_heads), (None, 2));
}

#[test]
fn absent_fields_get_the_defaults_of_transformers() {
    let phi3 = DecoderConfig::phi3(&tiny()).unwrap();
    assert_eq!((phi3.rms_norm_eps, phi3.max_position_embeddings), (1e-5, 4096));
    assert_eq!((phi3.num_key_value_heads, phi3.head_dim), (4, 16));
    assert!(!phi3.tie_word_embeddings);
    let llama = DecoderConfig::llama(&tiny()).unwrap();
    assert_eq!((llama.rms_norm_eps, llama.rope.theta), (1e-6, 1e4));
    let qwen2 = DecoderConfig::qwen2(&tiny()).unwrap();
    assert_eq!((qwen2.sliding_window, qwen2.max_position_embeddings), (None, 32_768));
    let mut windowed = with("use_sliding_window", json!(true));
    assert_eq!(DecoderConfig::qwen2(&windowed).unwrap().sliding_window, Some(4096));
    windowed["sliding_window"] = json!(null);
    assert_eq!(DecoderConfig::qwen2(&windowed).unwrap().sliding_window, None);
    // Mistral's default is 8 key heads, which four query heads cannot share.
    let error = DecoderConfig::mistral(&tiny()).unwrap_err();
    assert!(error.to_string().contains("`num_key_value_heads` is 8"), "{error}");
    let mistral = DecoderConfig::mistral(&with("num_key_value_heads", json!(null))).unwrap();
    assert_eq!((mistral.num_key_value_heads, mistral.sliding_window), (4, Some(4096)));
}

#[test]
fn llama_biases_are_honored() {
    let config = DecoderConfig::llama(&with("attention_bias", json!(true))).unwrap();
    assert_eq!(config.attention, AttentionLayout::Split { bias: AttentionBias::All });
    let config = DecoderConfig::llama(&with("mlp_bias", json!(true))).unwrap();
    assert_eq!(config.mlp, MlpLayout::Split { bias: true });
}

#[test]
fn t3_values_out_of_range_are_refused_by_name() {
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-64)),
        ("hidden_size", json!("64")),
        ("hidden_size", json!(64.5)),
        ("hidden_size", json!(1u64 << 40)),
        ("intermediate_size", json!(0)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_hidden_layers", json!(0)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(5)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("head_dim", json!(7)),
        ("vocab_size", json!(0)),
        ("vocab_size", json!(1u64 << 33)),
        ("max_position_embeddings", json!(0)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!(-1e-5)),
        ("rms_norm_eps", json!("1e-5")),
        ("rope_theta", json!(-10_000.0)),
        ("rope_theta", json!(0)),
        ("tie_word_embeddings", json!("no")),
        ("hidden_act", json!("gelu")),
        ("partial_rotary_factor", json!(0.0)),
        ("partial_rotary_factor", json!(1.5)),
        // 16 * 0.7 elements are 11, which do not make pairs.
        ("partial_rotary_factor", json!(0.7)),
        ("sliding_window", json!(0)),
    ] {
        let error = DecoderConfig::phi3(&with(field, value.clone())).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")), "{field} = {value}: {error}");
    }
    let mut config = tiny();
    config.as_object_mut().unwrap().remove("vocab_size");
    let error = DecoderConfig::llama(&config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config field `vocab_size` is missing: expected a positive integer"
    );
    assert!(DecoderConfig::llama(&json!([])).is_err());
}

#[test]
fn heads_of_which_a_part_rotates_are_read_for_phi_and_refused_for_other_families() {
    let of = |part: f64| {
        let mut config = with("partial_rotary_factor", json!(part));
        config["num_key_value_heads"] = json!(4);
        config
    };
    let config = of(0.75);
    assert_eq!(DecoderConfig::phi3(&config).unwrap().rope.rotary_dim(16), 12);
    for read in [DecoderConfig::llama, DecoderConfig::qwen2, DecoderConfig::mistral] {
        let error = read(&config).unwrap_err().to_string();
        assert!(error.contains("`partial_rotary_factor`") && error.contains("0.75"), "{error}");
        assert_eq!(read(&of(1.0)).unwrap().rope.rotary_dim(16), 16);
    }
    // The factors of longrope are those of the part that rotates.
    let mut longrope = config;
    longrope["rope_scaling"] =
        json!({ "type": "longrope", "short_factor": vec![1.0; 6], "long_factor": vec![2.0; 6] });
    assert!(DecoderConfig::phi3(&longrope).is_ok());
    longrope["partial_rotary_factor"] = json!(1.0);
    assert!(DecoderConfig::phi3(&longrope).is_err());
}

#[test]
fn t3_numbers_that_json_cannot_hold_are_refused_too() {
    let good = DecoderConfig::phi3(&tiny()).unwrap();
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let mut config = good.clone();
        config.rope.theta = bad;
        assert!(config.validate().is_err(), "theta {bad}");
        let mut config = good.clone();
        config.rms_norm_eps = bad;
        assert!(config.validate().is_err(), "eps {bad}");
    }
}

#[test]
fn t3_rope_scalings_are_read_or_refused_by_name() {
    let longrope = |kind: &str, short: usize, long: usize| {
        let scaling = json!({ "type": kind, "short_factor": vec![1.0; short], "long_factor": vec![2.0; long] });
        DecoderConfig::phi3(&with("rope_scaling", scaling))
    };
    for kind in ["longrope", "su", "yarn"] {
        assert!(matches!(longrope(kind, 8, 8).unwrap().rope.scaling, RopeScaling::LongRope(_)));
    }
    let error = longrope("longrope", 8, 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config field `rope_scaling.long_factor` is a list of 7: expected a list of 8 numbers (half of what rotates)"
    );
    assert!(longrope("linear", 8, 8).unwrap_err().to_string().contains("\"linear\""));
    for kind in ["linear", "dynamic", "yarn", "longrope", "mrope"] {
        for key in ["type", "rope_type"] {
            let config = with("rope_scaling", json!({ key: kind, "factor": 2.0 }));
            for read in [DecoderConfig::llama, DecoderConfig::qwen2] {
                let error = read(&config).unwrap_err().to_string();
                assert!(error.contains(&format!("\"{kind}\"")), "{error}");
            }
        }
    }
    let default = with("rope_scaling", json!({ "rope_type": "default" }));
    assert_eq!(DecoderConfig::llama(&default).unwrap().rope.scaling, RopeScaling::None);
    for bad in [json!(3), json!({}), json!({ "type": 3 }), json!({ "rope_type": "llama3" })] {
        let error = DecoderConfig::llama(&with("rope_scaling", bad)).unwrap_err().to_string();
        assert!(error.contains("`rope_scaling"), "{error}");
    }
}

#[test]
fn t3_llama3_scaling_out_of_range_is_refused_by_name() {
    for (field, value) in [
        ("factor", json!(0.5)),
        ("low_freq_factor", json!(0)),
        ("high_freq_factor", json!(1.0)),
        ("original_max_position_embeddings", json!(0)),
        ("factor", json!("8")),
    ] {
        let mut scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        scaling[field] = value;
        let error = DecoderConfig::llama(&with("rope_scaling", scaling)).unwrap_err().to_string();
        assert!(error.contains(&format!("`rope_scaling.{field}`")), "{error}");
    }
}
