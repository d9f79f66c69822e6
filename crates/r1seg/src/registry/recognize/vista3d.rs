//! VISTA3D: the network of a published checkpoint follows from its tensors, and its authors' configuration
//! of inference is the same for all.
//!
//! NV-Segment-CTMR has the same tensors of the same axes, and other labels, intensities and windows. Only
//! the name of the repository tells the two apart: a checkpoint without it is taken for NV-Segment-CT.

use r1seg_convert::Shapes;
use serde_json::json;

use super::{Fields, axis, count};

/// VISTA3D's, of NV-Segment-CT. Lists of classes are left to the table of labels.
pub(in crate::registry) fn vista3d(shapes: &Shapes) -> Result<Fields, String> {
    let block =
        |i: usize, j: usize| format!("image_encoder.encoder.layers.{i}.blocks.{j}.norm1.weight");
    let first = "image_encoder.encoder.conv_init.weight";
    let classes = "class_head.class_embeddings.weight";
    let levels = count(shapes, |i| block(i, 0));
    let blocks: Vec<usize> = (0..levels).map(|i| count(shapes, |j| block(i, j))).collect();
    Ok(vec![
        ("in_channels", axis(shapes, first, 1)?.into()),
        ("init_filters", axis(shapes, first, 0)?.into()),
        ("feature_size", axis(shapes, classes, 1)?.into()),
        ("blocks_down", blocks.into()),
        ("n_classes", axis(shapes, classes, 0)?.into()),
        ("last_supported", 132.into()),
        ("max_prompt", 32.into()),
        ("patch_size", json!([128, 128, 128])),
        ("resample_spacing", json!([1.5, 1.5, 1.5])),
        // The HU that become 0 and 1.
        ("intensity_range", json!([-963.8247715525971, 1053.678477684517])),
        ("foreground_margin", 10.into()),
        ("overlap", 0.25.into()),
        ("blend", "constant".into()),
        ("padding", "replicate".into()),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::super::tests::{case, tensors};
    use super::*;

    const WEIGHTS: &str = "vista3d/model.safetensors";

    fn fields(shapes: &Shapes) -> Result<Map<String, Value>, String> {
        let fields = vista3d(shapes)?.into_iter();
        Ok(fields.map(|(field, value)| (field.to_owned(), value)).collect())
    }

    #[test]
    fn the_recorded_configuration_is_recovered_but_for_its_small_window_and_lists_of_classes() {
        let json = std::fs::read(case("vista3d/config.json")).unwrap();
        let mut recorded: Map<String, Value> = serde_json::from_slice(&json).unwrap();
        for of_the_table in ["model_type", "special_point_classes", "everything_labels"] {
            assert!(recorded.remove(of_the_table).is_some(), "{of_the_table}");
        }
        // Cut down for the recordings, as the numbers of filters are; no tensor has them.
        recorded.insert("patch_size".to_owned(), json!([128, 128, 128]));
        for file in [WEIGHTS, "vista3d/published/model_monai1.3.pt"] {
            // Through text, since reading a number may move its last bit.
            let json = serde_json::to_vec(&fields(&tensors(file)).unwrap()).unwrap();
            let read: Map<String, Value> = serde_json::from_slice(&json).unwrap();
            assert_eq!(read, recorded, "{file}");
        }
    }

    #[test]
    fn vista3d_at_full_size_has_the_numbers_of_its_authors_code() {
        let mut shapes = Shapes::new();
        let mut add = |name: String, shape: &[usize]| drop(shapes.insert(name, shape.to_vec()));
        add("image_encoder.encoder.conv_init.weight".into(), &[48, 1, 3, 3, 3]);
        add("class_head.class_embeddings.weight".into(), &[512, 48]);
        for (i, blocks) in [1, 2, 2, 4, 4].into_iter().enumerate() {
            for j in 0..blocks {
                add(
                    format!("image_encoder.encoder.layers.{i}.blocks.{j}.norm1.weight"),
                    &[48 << i],
                );
            }
        }
        let fields = fields(&shapes).unwrap();
        for (field, value) in [
            ("in_channels", json!(1)),
            ("init_filters", json!(48)),
            ("feature_size", json!(48)),
            ("blocks_down", json!([1, 2, 2, 4, 4])),
            ("n_classes", json!(512)),
        ] {
            assert_eq!(fields[field], value, "{field}");
        }
    }

    #[test]
    fn a_tensor_without_the_axes_that_would_tell_is_named() {
        for name in ["image_encoder.encoder.conv_init.weight", "class_head.class_embeddings.weight"]
        {
            for shape in [vec![4], vec![4, 0]] {
                let mut shapes = tensors(WEIGHTS);
                shapes.insert(name.to_owned(), shape);
                let error = fields(&shapes).unwrap_err();
                assert!(error.contains(name), "{error}");
            }
        }
    }
}
