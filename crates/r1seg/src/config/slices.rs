//! What `config.json` says of slices and of the encoder that describes them.

use r1seg_vit3d::SliceEncoderConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{MAX_SIZE, field};

/// The most slices.
const MAX_SLICES: usize = 1024;
/// The most patches of all slices: attention among those of one takes the square of theirs.
const MAX_PATCHES: usize = 1 << 12;
/// The number of slices of HSENet's authors.
const NUM_SLICES: usize = 32;
/// What CLIP and BiomedCLIP were trained with, for red, green and blue.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// The slices that a model reads beside a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceInputConfig {
    /// Number of slices.
    pub count: usize,
    /// Width of the features of a slice.
    pub width: usize,
    /// What describes them; absent where a checkpoint comes without, so that features have to be given.
    pub encoder: Option<SliceEncoderSettings>,
}

/// The encoder of slices, and what it is given.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceEncoderSettings {
    /// Its sizes.
    pub network: SliceEncoderConfig,
    /// Quality of the JPEG that slices went through in training.
    pub jpeg_quality: u8,
    /// What is subtracted from red, green and blue in 0..1.
    pub mean: [f32; 3],
    /// What they are divided by then.
    pub deviation: [f32; 3],
}

/// Slices whose features are of `width`.
///
/// # Errors
/// The first field of which no encoder can be made, or only one of an absurd size.
pub(crate) fn read(config: &Value, width: usize) -> Result<SliceInputConfig, String> {
    let count = given(config, "num_slices", NUM_SLICES, MAX_SLICES)?;
    let encoder = field::<Value>(config, "slice_encoder")?;
    let encoder = match &encoder {
        None => None,
        Some(encoder) => {
            Some(settings(encoder, width).map_err(|message| format!("slice_encoder: {message}"))?)
        }
    };
    Ok(SliceInputConfig { count, width, encoder })
}

/// timm's `vit_base_patch16_224` by default.
fn settings(encoder: &Value, width: usize) -> Result<SliceEncoderSettings, String> {
    let network = SliceEncoderConfig {
        image_size: given(encoder, "image_size", 224, MAX_SIZE)?,
        patch_size: given(encoder, "patch_size", 16, MAX_SIZE)?,
        hidden_size: given(encoder, "hidden_size", 768, MAX_SIZE)?,
        mlp_dim: given(encoder, "mlp_dim", 3072, MAX_SIZE)?,
        num_layers: given(encoder, "num_layers", 12, MAX_SLICES)?,
        num_heads: given(encoder, "num_heads", 12, MAX_SIZE)?,
        norm_eps: or(encoder, "layer_norm_eps", 1e-6)?,
    };
    network.validate()?;
    let patches = network.num_patches();
    if patches > MAX_PATCHES {
        return Err(format!(
            "image_size and patch_size give {patches} patches, expected at most {MAX_PATCHES}"
        ));
    }
    if network.hidden_size != width {
        return Err(format!(
            "hidden_size is {}, but the vision transformer reads features of {width}",
            network.hidden_size
        ));
    }
    let quality = given(encoder, "jpeg_quality", 95, 100)?;
    let (mean, deviation) =
        (or(encoder, "image_mean", MEAN)?, or(encoder, "image_std", DEVIATION)?);
    if !mean.iter().all(|v| v.is_finite()) || !deviation.iter().all(|v| v.is_finite() && 0.0 < *v) {
        return Err(format!("image_mean {mean:?} and image_std {deviation:?}"));
    }
    // From 1 to 100.
    Ok(SliceEncoderSettings { network, jpeg_quality: quality as u8, mean, deviation })
}

fn or<T: DeserializeOwned>(config: &Value, name: &str, default: T) -> Result<T, String> {
    Ok(field(config, name)?.unwrap_or(default))
}

/// A number from 1 to `most`.
fn given(config: &Value, name: &str, default: usize, most: usize) -> Result<usize, String> {
    let value = or(config, name, default)?;
    if value == 0 || value > most {
        return Err(format!("{name} is {value}, expected 1 to {most}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_are_those_of_biomedclip() {
        let config = read(&json!({"slice_encoder": {}}), 768).unwrap();
        let encoder = config.encoder.unwrap();
        assert_eq!((config.count, encoder.network.num_patches()), (32, 196));
        assert_eq!((encoder.network.norm_eps, encoder.jpeg_quality), (1e-6, 95));
        assert_eq!(read(&json!({}), 768).unwrap().encoder, None);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (key, value) in [
            ("image_size", json!(225)),
            ("image_size", json!(1600)),
            ("patch_size", json!(0)),
            ("hidden_size", json!(96)),
            ("num_heads", json!(7)),
            ("num_layers", json!(1_000_000_000)),
            ("layer_norm_eps", json!(0.0)),
            ("jpeg_quality", json!(101)),
            ("image_std", json!([1.0, 0.0, 1.0])),
        ] {
            let mut encoder = json!({});
            encoder[key] = value.clone();
            let error = read(&json!({"slice_encoder": encoder}), 768).unwrap_err();
            assert!(error.starts_with("slice_encoder: "), "{key} = {value}: {error}");
        }
        assert!(read(&json!({"num_slices": 0}), 768).unwrap_err().contains("num_slices"));
    }
}
