//! What the recipes make of a real CT, against the authors' steps run with MONAI.

use std::path::PathBuf;

use r1seg::Recipe;
use r1seg::volume::{ReadOptions, Region, Volume, intensity, read};

/// The path of a data file, or `None` with a line that says so.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn data(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("R1SEG_DATA") else {
        eprintln!("skipped: R1SEG_DATA is not set, so that {name} cannot be read");
        return None;
    };
    Some(PathBuf::from(folder).join(name))
}

fn load(path: PathBuf) -> Volume {
    read(path, &ReadOptions::default().with_min_axis(1)).unwrap().volume
}

#[test]
fn m3d_seg_is_what_monai_made_of_the_same_ct() {
    // m3d_npy: M3D's published steps, run with MONAI 1.3.0 and torch on the same file.
    let Some(ct) = data("ct/totalseg/example_ct.nii.gz") else { return };
    let Some(reference) = data("m3d_npy/totalseg/image.npy.gz") else { return };
    let volume = load(ct);
    assert_eq!(Recipe::auto(&volume), (Recipe::M3dSeg, None));
    let prepared = Recipe::M3dSeg.apply(&volume, None).unwrap();
    assert_eq!(prepared.crop(), Region { start: [0; 3], end: [112, 97, 122] });
    let ours = prepared.resize([32, 256, 256]).unwrap();

    let reference = load(reference);
    assert_eq!(reference.shape(), [32, 256, 256]);
    let apart = |(a, b): (&f32, &f32)| (a - b).abs();
    let reference = reference.voxels().to_f32();
    assert!(ours.iter().zip(&*reference).map(apart).all(|gap| gap <= 2.0 * f32::EPSILON));
}

#[test]
fn m3d_refseg_is_what_monai_makes_of_the_same_ct() {
    // x = nib.load(ct).get_fdata().transpose(2, 0, 1)[None].astype("f4")
    // x = ScaleIntensityRangePercentiles(0.5, 99.5, 0, 1, clip=True)(x)
    // x = Resize([32, 256, 256], mode="bilinear")(CropForeground()(x))[0]
    let Some(ct) = data("ct/totalseg/example_ct.nii.gz") else { return };
    let volume = load(ct);
    let prepared = Recipe::M3dRefSeg.apply(&volume, None).unwrap();
    assert_eq!(prepared.shape(), [112, 122, 101]);
    let ours = prepared.resize([32, 256, 256]).unwrap();
    assert!((intensity::mean(&ours.clone().into()).unwrap() - 0.454_759_39).abs() < 1e-7);
    for (z, expected) in [(0, 0.715_862_63), (16, 0.702_755_5), (31, 0.716_092_8)] {
        assert!((ours[(z * 256 + 100) * 256 + 100] - expected).abs() < 1e-6);
    }
}
