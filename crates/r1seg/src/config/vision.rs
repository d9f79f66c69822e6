//! The vision transformer in `config.json`.

use r1seg_vit3d::Vit3dConfig;
use serde_json::Value;

use super::{MAX_SIZE, field};

// The sizes of every published model. Published files leave most of them to the authors' code: the
// defaults of `R1Seg3DSAM_Config` and `M3DCLIPConfig`, and constants of M3D-LaMed and SegVol.
pub(crate) const IMAGE_SIZE: [usize; 3] = [32, 256, 256];
const PATCH_SIZE: [usize; 3] = [4, 16, 16];
const HIDDEN_SIZE: usize = 768;
const MLP_DIM: usize = 3072;
const NUM_LAYERS: usize = 12;
const NUM_HEADS: usize = 12;

/// The most layers.
const MAX_LAYERS: usize = 1024;
/// The most patches: attention among them takes the square of it, and published models have 2048.
const MAX_PATCHES: usize = 1 << 15;

/// What a family calls the fields whose names differ.
pub(crate) struct VisionFields {
    /// The first that is given counts.
    pub(crate) image_size: &'static [&'static str],
    pub(crate) in_channels: &'static str,
    pub(crate) hidden_size: &'static str,
    /// Whether the width has no default.
    pub(crate) needs_hidden_size: bool,
    /// Whether a class token stands before the patches.
    pub(crate) cls_token: bool,
    /// Whether slices guide the patches.
    pub(crate) slice_guided: bool,
}

impl VisionFields {
    /// # Errors
    /// The first field of which no vision transformer can be made, or only one of an absurd size.
    pub(crate) fn read(&self, config: &Value) -> Result<Vit3dConfig, String> {
        let mut image_size = (self.image_size.first().copied().unwrap_or_default(), IMAGE_SIZE);
        for name in self.image_size {
            if let Some(given) = field(config, name)? {
                image_size = (*name, given);
                break;
            }
        }
        let size =
            |name: &str, default: usize| Ok::<_, String>(field(config, name)?.unwrap_or(default));
        let hidden_size = match field(config, self.hidden_size)? {
            None if self.needs_hidden_size => {
                return Err(format!("missing field `{}`", self.hidden_size));
            }
            given => given.unwrap_or(HIDDEN_SIZE),
        };
        let vit = Vit3dConfig {
            image_size: image_size.1,
            patch_size: field(config, "patch_size")?.unwrap_or(PATCH_SIZE),
            in_channels: size(self.in_channels, 1)?,
            hidden_size,
            mlp_dim: size("mlp_dim", MLP_DIM)?,
            num_layers: size("num_layers", NUM_LAYERS)?,
            num_heads: size("num_heads", NUM_HEADS)?,
            cls_token: self.cls_token,
            slice_guided: self.slice_guided,
        };
        self.check(&vit, image_size.0)?;
        Ok(vit)
    }

    fn check(&self, vit: &Vit3dConfig, image_size_name: &str) -> Result<(), String> {
        let image_size @ [d, h, w] = vit.image_size;
        for (name, value, most) in [
            (image_size_name, d.max(h).max(w), MAX_SIZE),
            ("patch_size", vit.patch_size.into_iter().max().unwrap_or(0), MAX_SIZE),
            (self.hidden_size, vit.hidden_size, MAX_SIZE),
            ("mlp_dim", vit.mlp_dim, MAX_SIZE),
            ("num_heads", vit.num_heads, MAX_SIZE),
            ("num_layers", vit.num_layers, MAX_LAYERS),
        ] {
            if value == 0 || value > most {
                return Err(format!("{name} is {value}, expected 1 to {most}"));
            }
        }
        if d.saturating_mul(h).saturating_mul(w) > 1 << 30 {
            return Err(format!("{image_size_name} {image_size:?} is more than 2^30 voxels"));
        }
        if vit.in_channels != 1 {
            return Err(format!("{} is {}, expected 1", self.in_channels, vit.in_channels));
        }
        vit.validate()?;
        if vit.num_patches() > MAX_PATCHES {
            return Err(format!(
                "{image_size_name} and patch_size give {} patches, expected at most {MAX_PATCHES}",
                vit.num_patches()
            ));
        }
        Ok(())
    }
}
