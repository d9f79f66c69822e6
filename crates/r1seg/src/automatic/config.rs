//! `config.json` of a VISTA3D.

use r1seg_mask_decoder::PointHeadConfig;
use r1seg_segresnet::SegResNetConfig;
use serde_json::Value;

use super::classes::{ClassStatus, ClassTable, Scan};
use crate::config::{ConfigFile, MAX_SIZE, field};
use crate::registry::Family;
use crate::{CheckpointSource, Error, Recipe};

/// Everything that the `config.json` of a VISTA3D decides.
#[derive(Debug, Clone)]
pub struct AutomaticConfig {
    /// `model_type`, as published.
    pub model_type: String,
    /// Which of the models it is.
    pub family: Family,
    /// The encoder with its two decoders, and the class head.
    pub network: SegResNetConfig,
    /// The last class that the network was trained on. Beside a later one, points are encoded as those of an
    /// unknown object.
    pub last_supported: u16,
    /// Voxels of a window, `[D, H, W]` of the model's grid, whose axes are x, y, z.
    pub patch_size: [usize; 3],
    /// By how much of its length a window overlaps the next one.
    pub overlap: f64,
    /// The classes of "everything": those that `config.json` lists, or else those of a CT.
    pub everything: Vec<u16>,
    /// Whether `config.json` lists them.
    pub(crate) lists_everything: bool,
    /// The classes whose points are marked as such.
    pub special_point_classes: Vec<u16>,
    pub(crate) recipe: Recipe,
    pub(crate) classes: &'static ClassTable,
    /// Whether the branch for points was trained.
    pub(crate) takes_points: bool,
}

/// Where the two models differ, beside their window.
pub(crate) struct Rules {
    pub(crate) recipe: Recipe,
    pub(crate) classes: fn() -> &'static ClassTable,
    pub(crate) patch_size: [usize; 3],
    pub(crate) takes_points: bool,
    pub(crate) last_supported: u16,
}

pub(crate) const VISTA3D: Rules = Rules {
    recipe: Recipe::Vista3d,
    classes: ClassTable::ct,
    patch_size: [128; 3],
    takes_points: true,
    last_supported: 132,
};

pub(crate) const VISTA3D_CTMR: Rules = Rules {
    recipe: Recipe::Vista3dCtmr,
    classes: ClassTable::ctmr,
    patch_size: [192, 192, 128],
    takes_points: false,
    last_supported: 345,
};

/// Fields of which r1seg supports one value only, and that value.
const FIXED: [(&str, &str); 4] = [
    ("resample_spacing", "[1.5,1.5,1.5]"),
    ("foreground_margin", "10"),
    ("blend", "\"constant\""),
    ("padding", "\"replicate\""),
];

/// The reader of both.
///
/// # Errors
/// [`Error::Config`] naming the field.
pub(crate) fn read_config(file: &ConfigFile, rules: &Rules) -> Result<AutomaticConfig, Error> {
    from_parts(file, rules).map_err(|message| file.wrong(message))
}

fn from_parts(file: &ConfigFile, rules: &Rules) -> Result<AutomaticConfig, String> {
    let config = &file.value;
    for (name, expected) in FIXED {
        check_fixed(config, name, expected)?;
    }
    check_intensities(config, rules.recipe)?;
    let count = |name: &str, default: usize| {
        let count = field(config, name)?.unwrap_or(default);
        match (1..=MAX_SIZE).contains(&count) {
            true => Ok(count),
            false => Err(format!("{name} is {count}, expected 1 to {MAX_SIZE}")),
        }
    };
    let network = SegResNetConfig {
        in_channels: count("in_channels", 1)?,
        init_filters: count("init_filters", 48)?,
        feature_size: count("feature_size", 48)?,
        blocks_down: field(config, "blocks_down")?.unwrap_or_else(|| vec![1, 2, 2, 4, 4]),
        n_classes: count("n_classes", 512)?,
    };
    network.validate()?;
    if network.blocks_down.len() < 2 {
        return Err("blocks_down has a single level, which leaves a decoder nothing to join".into());
    }
    let points =
        PointHeadConfig { feature_size: network.feature_size, ..PointHeadConfig::default() };
    points.validate().map_err(|message| format!("feature_size: {message}"))?;
    if network.in_channels != 1 {
        return Err(format!("in_channels is {}, and a CT has 1", network.in_channels));
    }
    let patch_size: [usize; 3] = field(config, "patch_size")?.unwrap_or(rules.patch_size);
    if let Some(side) = patch_size.iter().find(|side| **side > MAX_SIZE) {
        return Err(format!("patch_size has {side}, expected {MAX_SIZE} at most"));
    }
    network.check_window(patch_size).map_err(|message| format!("patch_size: {message}"))?;
    let overlap: f64 = field(config, "overlap")?.unwrap_or(0.25);
    if !(0.0..1.0).contains(&overlap) {
        return Err(format!("overlap is {overlap}, expected 0 to less than 1"));
    }
    let classes = (rules.classes)();
    let ids = |name: &str, default: Vec<u16>| -> Result<Vec<u16>, String> {
        let ids = field(config, name)?.unwrap_or(default);
        match ids.iter().find(|id| usize::from(**id) >= network.n_classes) {
            Some(id) => {
                Err(format!("{name} has {id}, and there are {} classes", network.n_classes))
            }
            None => Ok(ids),
        }
    };
    let last = classes.classes().iter().map(|class| class.id).max().unwrap_or_default();
    if network.n_classes <= usize::from(last) {
        return Err(format!("n_classes is {}, and the last class is {last}", network.n_classes));
    }
    let everything = ids("everything_labels", classes.everything().to_vec())?;
    let is_usable = |id: u16| {
        let status = classes.get(id).map(|class| class.status);
        status.is_some_and(|s| !matches!(s, ClassStatus::Group | ClassStatus::Unsupported))
    };
    let mut unique = everything.clone();
    unique.sort_unstable();
    unique.dedup();
    if everything.is_empty() || unique.len() != everything.len() {
        return Err("everything_labels is empty, or names a class twice".to_string());
    }
    if let Some(id) = everything.iter().find(|id| !is_usable(**id)) {
        return Err(format!("everything_labels has {id}, which cannot be segmented"));
    }
    let special = classes.special_for_points().to_vec();
    Ok(AutomaticConfig {
        model_type: file.model_type.name.to_string(),
        family: file.entry.family,
        everything,
        lists_everything: config.get("everything_labels").is_some_and(|ids| !ids.is_null()),
        special_point_classes: ids("special_point_classes", special)?,
        last_supported: field(config, "last_supported")?.unwrap_or(rules.last_supported),
        network,
        patch_size,
        overlap,
        recipe: rules.recipe,
        classes,
        takes_points: rules.takes_points,
    })
}

fn check_fixed(config: &Value, name: &str, expected: &str) -> Result<(), String> {
    let Some(given) = config.get(name).filter(|given| !given.is_null()) else { return Ok(()) };
    // Whole numbers may be written as either kind.
    let expected: Value = serde_json::from_str(expected).unwrap_or_default();
    match same(given, &expected) {
        true => Ok(()),
        false => Err(format!("{name} is {given}, expected {expected}")),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// The two ends of intensities are those of the recipe.
fn check_intensities(config: &Value, recipe: Recipe) -> Result<(), String> {
    let given: Option<[f64; 2]> = field(config, "intensity_range")?;
    match (given, recipe.hu_range()) {
        (Some(given), Some(expected)) if given.map(|v| v as f32) != expected => {
            Err(format!("intensity_range is {given:?}, expected {expected:?}"))
        }
        _ => Ok(()),
    }
}

impl AutomaticConfig {
    /// Reads `config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Config`] naming the field, [`Error::UnsupportedModel`], or
    /// [`Error::OtherFamily`] where the checkpoint is of another model.
    pub fn read(source: &CheckpointSource) -> Result<Self, Error> {
        ConfigFile::read(source)?.read_as()
    }

    /// The classes of "everything" in a scan of this kind, or where none is named, those that `config.json`
    /// lists, or those of a model for one kind of scan.
    ///
    /// # Errors
    /// [`Error::Prompt`] for a kind of scan that the model is not for, and for none where it segments other
    /// classes in each.
    pub fn everything_in(&self, scan: Option<Scan>) -> Result<&[u16], Error> {
        let mut scans = self.classes.scans();
        match scan {
            Some(scan) => self.classes.everything_in(scan).ok_or_else(|| {
                let known: Vec<&str> = scans.map(Scan::as_str).collect();
                let known = known.join(", ");
                Error::Prompt {
                    message: format!(
                        "the model has no list of classes for {scan}, only for {known}"
                    ),
                    fix: "name the classes, or use NV-Segment-CTMR for MRI",
                }
            }),
            None if self.lists_everything || scans.nth(1).is_none() => Ok(&self.everything),
            None => Err(Error::Prompt {
                message:
                    "the model segments other classes in a CT than in an MRI of the body or of \
                          the brain, and a volume does not show what it is"
                        .to_string(),
                fix: "say which it is: ct-body, mri-body or mri-brain",
            }),
        }
    }

    /// The names of its classes.
    pub fn classes(&self) -> &'static ClassTable {
        self.classes
    }
}

#[cfg(test)]
mod tests {
    use r1seg_volume::Geometry;
    use serde_json::json;

    use super::*;
    use crate::load::Loadable;

    fn read(config: &Value) -> Result<AutomaticConfig, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        AutomaticConfig::read(&CheckpointSource::Folder(folder.path().to_path_buf()))
    }

    #[test]
    fn absent_fields_are_those_of_the_published_models() {
        let ct = read(&json!({"model_type": "vista3d"})).unwrap();
        assert_eq!((ct.patch_size, ct.everything.len()), ([128; 3], 117));
        assert_eq!(ct.network.blocks_down, [1, 2, 2, 4, 4]);
        assert_eq!(ct.special_point_classes, [25, 26, 27, 28, 29, 117]);
        let ctmr = read(&json!({"model_type": "vista3d_ctmr"})).unwrap();
        assert_eq!((ctmr.patch_size, ctmr.recipe), ([192, 192, 128], Recipe::Vista3dCtmr));
    }

    #[test]
    fn values_that_cannot_be_used_are_refused_by_name() {
        for (key, value) in [
            ("in_channels", json!(2)),
            ("init_filters", json!(0)),
            ("blocks_down", json!([])),
            ("patch_size", json!([100, 128, 128])),
            ("patch_size", json!([16, 16, 16])),
            ("overlap", json!(1.0)),
            ("resample_spacing", json!([1.0, 1.5, 1.5])),
            ("intensity_range", json!([-1000.0, 1000.0])),
            ("foreground_margin", json!(5)),
            ("blend", json!("gaussian")),
            ("everything_labels", json!([1, 512])),
            ("everything_labels", json!([1, 1])),
            ("everything_labels", json!([2])),
            ("everything_labels", json!([])),
            ("feature_size", json!(50)),
            ("blocks_down", json!([2])),
            ("n_classes", json!(100)),
            ("patch_size", json!([1u64 << 40, 128, 128])),
        ] {
            let mut config = json!({"model_type": "vista3d"});
            config[key] = value.clone();
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-CFG-01", "{key} = {value}: {error}");
            assert!(error.to_string().contains(key), "{key} = {value}: {error}");
        }
    }

    #[test]
    fn windows_and_memory_follow_from_the_grid_of_a_volume() {
        let ct = read(&json!({"model_type": "vista3d"})).unwrap();
        let geometry = Geometry::with_spacing([603, 333, 333], [1.5; 3]).unwrap();
        // Windows begin at 0, 96 .. 475 along the longest axis, and at 0, 96, 192 and 205 across it.
        assert_eq!(ct.most_windows(&geometry), 6 * 4 * 4);
        let voxels: u64 = 603 * 333 * 333;
        // Sums of 48 features in 128 planes, f32; a value and a class for each voxel.
        let sums = 4 * 48 * 128 * 333 * 333;
        assert_eq!(ct.stitching_bytes(&geometry, 0), sums + 6 * voxels);
        assert_eq!(ct.stitched_bytes(&geometry, 0), 6 * voxels);
        // In voxels of another size, the same part of the body takes the same memory.
        let thick = Geometry::with_spacing([201, 666, 999], [4.5, 0.75, 0.5]).unwrap();
        assert_eq!(ct.stitching_bytes(&thick, 0), ct.stitching_bytes(&geometry, 0));
        assert_eq!(ct.most_windows(&thick), ct.most_windows(&geometry));
        // Kernels are f32 whatever they are stored as; the features of small volumes are kept.
        assert_eq!(ct.weight_bytes(1), ct.network.kernel_bytes());
        assert_eq!(ct.weight_bytes(u64::MAX), u64::MAX);
        let small = Geometry::with_spacing([128; 3], [1.5; 3]).unwrap();
        assert_eq!(ct.stitched_bytes(&small, 0), ct.stitching_bytes(&small, 0));
    }

    #[test]
    fn everything_is_that_of_the_kind_of_scan_where_there_are_several() {
        let ct = read(&json!({"model_type": "vista3d"})).unwrap();
        let ctmr = read(&json!({"model_type": "vista3d_ctmr"})).unwrap();
        let count = |config: &AutomaticConfig, scan| config.everything_in(scan).map(<[u16]>::len);
        assert_eq!(count(&ct, None).unwrap(), 117);
        assert_eq!(count(&ct, Some(Scan::CtBody)).unwrap(), 117);
        let error = count(&ct, Some(Scan::MriBody)).unwrap_err();
        assert!(error.to_string().contains("no list of classes for mri-body, only for ct-body"));
        let error = count(&ctmr, None).unwrap_err();
        assert!(error.to_string().contains("a volume does not show what it is"), "{error}");
        for (scan, expected) in [("CT_BODY", 117), ("mri-body", 50), ("MRI_brain", 132)] {
            assert_eq!(count(&ctmr, Some(scan.parse().unwrap())).unwrap(), expected, "{scan}");
        }
        assert_eq!("pet".parse::<Scan>().unwrap_err().code(), "R-ARG-01");
        // A list of its own is what everything is.
        let own = json!({"model_type": "vista3d_ctmr", "everything_labels": [1, 3]});
        assert_eq!(read(&own).unwrap().everything_in(None).unwrap(), [1, 3]);
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_fraction() {
        let config = json!({"model_type": "vista3d", "foreground_margin": 10.0});
        assert!(read(&config).is_ok());
    }
}
