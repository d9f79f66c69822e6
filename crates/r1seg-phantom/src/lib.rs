//! The embedded demonstration model and the synthetic phantoms that it knows.
//!
//! [`checkpoint_files`] is a complete R1Seg-3D checkpoint in the published layout,
//! small enough to be compiled in. [`Phantom::draw`] makes the volumes that it was
//! trained on: six ellipsoid [`Organ`]s in an elliptic body, with their truth.
//! [`Organ::questions`] are questions that it was taught, and [`dice`] says how
//! well its mask fits.
//!
//! It is no medical model: it has never seen a patient.
//!
//! ```
//! use r1seg_phantom::{Organ, Phantom, dice};
//!
//! let phantom = Phantom::draw_sized(7, [16, 64, 64]);
//! assert_eq!(phantom.volume.len(), 16 * 64 * 64);
//!
//! let liver = phantom.mask(Organ::Liver);
//! assert_eq!(dice(&liver, &liver), Some(1.0));
//! assert_eq!(phantom.dice(&liver, Organ::Spleen), Some(0.0));
//! ```

mod dice;
mod organ;
mod phantom;

pub use crate::dice::dice;
pub use crate::organ::{CAPTION_QUESTION, Organ};
pub use crate::phantom::Phantom;

/// A static has one address. Bytes in an expression would be copied into every crate that the
/// function below is inlined into, 6 MB each.
static FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../model/config.json")),
    ("generation_config.json", include_bytes!("../model/generation_config.json")),
    ("model.safetensors", include_bytes!("../model/model.safetensors")),
    ("special_tokens_map.json", include_bytes!("../model/special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("../model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../model/tokenizer_config.json")),
];

/// The files of the demonstration checkpoint, as `(name, content)`.
///
/// The names and contents are those of a checkpoint folder in the published layout.
pub fn checkpoint_files() -> &'static [(&'static str, &'static [u8])] {
    &FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> &'static [u8] {
        checkpoint_files().iter().find(|(n, _)| *n == name).map_or(&[], |(_, content)| content)
    }

    #[test]
    fn checkpoint_files_hold_a_whole_safetensors_file() {
        let weights = file("model.safetensors");
        let mut length = [0; 8];
        length.copy_from_slice(&weights[..8]);
        let header_end = 8 + usize::try_from(u64::from_le_bytes(length)).unwrap();
        let header = std::str::from_utf8(&weights[8..header_end]).unwrap();

        let data_end = header
            .split("\"data_offsets\":[")
            .skip(1)
            .map(|rest| rest.split([',', ']']).nth(1).unwrap().trim().parse::<usize>().unwrap())
            .max()
            .unwrap();
        assert_eq!(weights.len(), header_end + data_end);
    }

    #[test]
    fn checkpoint_config_has_the_shape_of_the_phantoms() {
        let config: String =
            std::str::from_utf8(file("config.json")).unwrap().split_whitespace().collect();
        let [d, h, w] = Phantom::SHAPE;
        assert!(config.contains(&format!("\"img_size\":[{d},{h},{w}]")));
    }

    #[test]
    fn checkpoint_tokenizer_knows_the_seg_token() {
        let tokenizer = std::str::from_utf8(file("tokenizer.json")).unwrap();
        assert!(tokenizer.contains("\"[SEG]\""));
    }
}
