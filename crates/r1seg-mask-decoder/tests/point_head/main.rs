//! VISTA3D's point head against recordings of the authors' code: every kind of click, alone and in groups.

mod features;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use r1seg_mask_decoder::{ObjectPoints, PointHead, PointHeadConfig, PointTag};
use r1seg_nn::{Recording, Weights};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Of the largest number of an array.
const TOLERANCE: f32 = 1e-4;

const WINDOW: [usize; 3] = [32, 48, 64];

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vista3d").join(path)
}

fn json(path: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(data(path))?)?)
}

fn weights() -> Result<Weights> {
    let tensors = candle_core::safetensors::load(data("model.safetensors"), &Device::Cpu)?;
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu).into())
}

/// The recorded arrays, and which of them were compared.
struct Recorded {
    arrays: HashMap<String, Tensor>,
    compared: Vec<String>,
}

impl Recorded {
    /// Compares a whole array, or the sample that was recorded of it, and the signs of logits.
    fn check(&mut self, name: &str, got: &Tensor) -> Result<()> {
        let got = got.flatten_all()?.to_vec1::<f32>()?;
        let chosen = match self.arrays.get(&format!("{name}.sample")) {
            None => got.clone(),
            Some(_) => {
                let index = self.arrays[&format!("index.{}", got.len())].to_vec1::<i32>()?;
                index.iter().map(|i| got[*i as usize]).collect()
            }
        };
        let key = [format!("{name}.sample"), name.to_owned()]
            .into_iter()
            .find(|key| self.arrays.contains_key(key))
            .ok_or_else(|| format!("nothing was recorded of {name}"))?;
        let reference = self.arrays[&key].flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(chosen.len(), reference.len(), "{key}");
        let largest = reference.iter().fold(0f32, |most, x| most.max(x.abs()));
        let gaps = chosen.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        let gap = gaps.fold(0f32, |most, gap| if gap.is_nan() { gap } else { most.max(gap) });
        assert!(gap <= TOLERANCE * largest, "{key} deviates by {:e}", gap / largest);
        self.compared.push(key);
        let key = format!("{name}.packed");
        if let Some(signs) = self.arrays.get(&key) {
            let signs = signs.to_vec1::<u8>()?;
            let largest = got.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (i, logit) in got.iter().enumerate() {
                let is_set = signs[i / 8] & (0x80 >> (i % 8)) != 0;
                let is_close = logit.abs() <= TOLERANCE * largest;
                assert!(is_close || is_set == (*logit > 0.0), "{key}: voxel {i}: {logit}");
            }
            self.compared.push(key);
        }
        Ok(())
    }
}

/// The clicks of a case, an object each.
fn objects(case: &Value, config: &PointHeadConfig) -> Result<Vec<ObjectPoints>> {
    let points: Vec<Vec<[f32; 3]>> = serde_json::from_value(case["points"].clone())?;
    let labels: Vec<Vec<i64>> = serde_json::from_value(case["labels"].clone())?;
    let classes: Option<Vec<usize>> = serde_json::from_value(case["prompt_class"].clone())?;
    let tag = |label: &i64| {
        Ok(match label {
            -1 => PointTag::None,
            0 => PointTag::Negative,
            1 => PointTag::Positive,
            2 => PointTag::NegativeSpecial,
            3 => PointTag::PositiveSpecial,
            _ => return Err(format!("label {label}")),
        })
    };
    let object = |(number, (points, labels)): (usize, (&Vec<[f32; 3]>, &Vec<i64>))| {
        let tags = labels.iter().map(tag).collect::<std::result::Result<Vec<_>, String>>()?;
        let class = classes.as_ref().map(|classes| classes[number]);
        Ok(ObjectPoints {
            points: points.iter().copied().zip(tags).collect(),
            zero_shot: class.is_some_and(|class| config.is_zero_shot(class)),
        })
    };
    points.iter().zip(&labels).enumerate().map(object).collect()
}

#[test]
fn the_point_head_equals_its_authors_code_with_every_kind_of_click() -> Result<()> {
    let sizes = json("config.json")?;
    let size = |name: &str| sizes[name].as_u64().ok_or_else(|| format!("no {name}"));
    let config = PointHeadConfig {
        feature_size: size("feature_size")? as usize,
        last_supported: size("last_supported")? as usize,
    };
    let arrays = candle_core::safetensors::load(data("golden/patch.safetensors"), &Device::Cpu)?;
    let mut recorded = Recorded { arrays, compared: Vec::new() };
    let patch = recorded.arrays["patch"].unsqueeze(0)?.unsqueeze(0)?;
    let features = features::of_points(&patch, &sizes, &weights()?.pp("image_encoder"))?;
    recorded.check("decoder.point", &features)?;

    let head = PointHead::new(&config, weights()?.pp("point_head"))?;
    let cases = json("golden/patch.json")?;
    let cases = cases["points"].as_array().ok_or("no cases")?;
    for case in cases {
        let name = case["name"].as_str().ok_or("a case without a name")?;
        let mut all: Vec<_> = objects(case, &config)?.into_iter().enumerate().collect();
        if all.len() > 1 {
            // Objects without points stay out, and those with fewer are filled up again.
            all.retain(|(_, object)| object.has_points());
            for (_, object) in &mut all {
                while object.points.last().is_some_and(|(_, tag)| *tag == PointTag::None) {
                    object.points.pop();
                }
            }
        }
        let (numbers, clicks): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut probe = Recording::default();
        let masks = head.forward(&features, &clicks, WINDOW, &mut probe)?;
        assert_eq!(masks.dims(), [clicks.len(), 1, 32, 48, 64]);
        for (row, number) in numbers.iter().enumerate() {
            recorded.check(&format!("points.{name}.{number}"), &masks.get(row)?)?;
        }
        for (stage, tensor) in &probe.tensors {
            let part = stage.trim_start_matches("point_head.").trim_end_matches(".0");
            let of_case = format!("points.{name}.{part}");
            let known = [stage, &of_case, &format!("{of_case}.sample"), &format!("{stage}.sample")];
            let known = known.map(|key| recorded.arrays.contains_key(key));
            match known {
                [true, ..] | [.., true] => recorded.check(stage, tensor)?,
                [_, true, ..] | [_, _, true, _] => recorded.check(&of_case, tensor)?,
                _ => {}
            }
        }
    }

    // Of an object without points the authors recorded a constant.
    let of_head = |key: &&String| {
        (key.starts_with("points.") || key.starts_with("point_head."))
            && !key.starts_with("points.batch.2.")
    };
    let missing: Vec<_> = recorded
        .arrays
        .keys()
        .filter(of_head)
        .filter(|key| !recorded.compared.contains(key))
        .collect();
    assert!(missing.is_empty(), "not compared: {missing:?}");
    Ok(())
}
