//! Checks on voxels that every format shares.

use std::path::PathBuf;

use super::ReadOptions;
use crate::error::Detail;
use crate::{Error, Voxels, Warning};

pub(super) fn check_axes(
    path: PathBuf,
    shape: [usize; 3],
    options: &ReadOptions,
) -> Result<(), Error> {
    let least = options.min_axis.max(1);
    if shape.iter().any(|size| *size < least) {
        return Err(Detail::TooFewVoxels { path, shape, least }.into());
    }
    Ok(())
}

/// Replaces NaN and -infinity by the smallest finite voxel and +infinity by the largest, since one
/// NaN would spread over the whole answer of a transformer.
pub(super) fn make_finite(
    path: PathBuf,
    voxels: Voxels,
    warnings: &mut Vec<Warning>,
) -> Result<Voxels, Error> {
    let mut data = match voxels {
        // The ends of what is stored are finite, unless the scale takes them beyond f32.
        Voxels::I16 { scale, .. }
            if [i16::MIN, i16::MAX].iter().all(|v| scale.apply(*v).is_finite()) =>
        {
            return Ok(voxels);
        }
        Voxels::I16 { .. } => voxels.to_f32().into_owned(),
        Voxels::F32(data) => data,
    };
    replace(path, &mut data, warnings)?;
    Ok(data.into())
}

fn replace(path: PathBuf, voxels: &mut [f32], warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let (mut low, mut high, mut nan, mut infinite) = (f32::INFINITY, f32::NEG_INFINITY, 0, 0);
    for v in voxels.iter() {
        if v.is_finite() {
            low = low.min(*v);
            high = high.max(*v);
        } else if v.is_nan() {
            nan += 1;
        } else {
            infinite += 1;
        }
    }
    if high < low {
        return Err(Detail::NoFiniteVoxel { path, voxels: voxels.len() }.into());
    }
    if nan + infinite == 0 {
        return Ok(());
    }
    for v in voxels.iter_mut().filter(|v| !v.is_finite()) {
        *v = if *v == f32::INFINITY { high } else { low };
    }
    let all = voxels.len();
    warnings.push(Warning::new(
        "W-NAN",
        format!(
            "{nan} NaN and {infinite} infinite of {all} voxels: replaced by the smallest finite \
             value {low} (+infinity by the largest, {high})"
        ),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_becomes_the_minimum_and_infinities_the_ends() {
        let voxels = vec![1.0, f32::NAN, f32::INFINITY, -3.0, f32::NEG_INFINITY, 7.0];
        let mut warnings = Vec::new();
        let voxels = make_finite(PathBuf::new(), voxels.into(), &mut warnings).unwrap();
        assert_eq!(*voxels.to_f32(), [1.0, -3.0, 7.0, -3.0, -3.0, 7.0]);
        assert_eq!(warnings[0].code, "W-NAN");
        assert!(warnings[0].text.starts_with("1 NaN and 2 infinite of 6 voxels"));
    }

    #[test]
    fn finite_voxels_are_left_alone_without_a_warning() {
        for voxels in [Voxels::from(vec![1.0_f32, -2.0]), Voxels::from(vec![1_i16, -2])] {
            let mut warnings = Vec::new();
            let finite = make_finite(PathBuf::new(), voxels, &mut warnings).unwrap();
            assert_eq!((&*finite.to_f32(), warnings.len()), ([1.0, -2.0].as_slice(), 0));
        }
    }

    #[test]
    fn a_scale_beyond_f32_gives_finite_voxels_all_the_same() {
        let scale = crate::Scale { slope: 1e38, inter: 0.0 };
        let voxels = Voxels::I16 { stored: vec![0, 1, 9000, -9000], scale };
        let finite = make_finite(PathBuf::new(), voxels, &mut Vec::new()).unwrap();
        assert_eq!(*finite.to_f32(), [0.0, 1e38, 1e38, 0.0]);
    }

    #[test]
    fn voxels_without_one_finite_value_are_an_error() {
        let voxels = vec![f32::NAN, f32::INFINITY].into();
        let error = make_finite("x.npy".into(), voxels, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "`x.npy`: none of the 2 voxels is a finite number");
        assert_eq!(error.code(), "R-IN-09");
    }
}
