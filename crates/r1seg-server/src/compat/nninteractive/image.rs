//! Arrays of viewers as volumes and masks.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use r1seg::volume::{ArrayAxes, Geometry, Mask, ReadOptions, Volume, npy_header};
use r1seg_results::Input;
use r1seg_viewers::Array;
use serde::Deserialize;

use super::refusal::Refusal;
use super::settings::{ViewerAxes, ViewerSessions};
use crate::Error;
use crate::budget::Reserved;
use crate::keys::Owner;
use crate::shelf::Lease;
use crate::state::State;
use crate::volumes::{Origin, Stored, bytes_of};

/// What messages and reports call it: viewers send no name.
const NAME: &str = "image of a viewer";

/// What comes along with an image.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ImageMeta {
    image_properties: Option<Properties>,
}

#[derive(Debug, Default, Deserialize)]
struct Properties {
    spacing: Option<Vec<f64>>,
}

impl ImageMeta {
    /// Millimeters per voxel along the axes of the image. The sign is that of a direction, which says
    /// nothing without the others.
    ///
    /// # Errors
    /// For an invalid spacing.
    pub(super) fn spacing_mm(
        &self,
        settings: &ViewerSessions,
    ) -> Result<Option<[f64; 3]>, Refusal> {
        let given = self.image_properties.as_ref().and_then(|of| of.spacing.as_deref());
        let Some(given) = given else { return Ok(settings.spacing_mm) };
        let lengths = <[f64; 3]>::try_from(given).ok().map(|mm| mm.map(f64::abs));
        let lengths = lengths.filter(|mm| mm.iter().all(|mm| mm.is_finite() && 0.0 < *mm));
        let message =
            "the spacing of the image must be three numbers other than 0, one for each axis";
        lengths.map(Some).ok_or(Refusal::new(message))
    }

    /// What had to be assumed of the image, since the viewer does not say it.
    pub(super) fn assumptions(&self, settings: &ViewerSessions) -> Vec<String> {
        let axes = settings.axes;
        let placed = format!("viewers do not send an orientation: the axes are taken as {axes}");
        let has_spacing = self.image_properties.as_ref().is_some_and(|of| of.spacing.is_some());
        let spacing = match settings.spacing_mm {
            _ if has_spacing => None,
            Some([a, b, c]) => {
                Some(format!("the image came without a spacing: {a}, {b}, {c} mm are assumed"))
            }
            None => Some("the image came without a spacing".to_string()),
        };
        std::iter::once(placed).chain(spacing).collect()
    }
}

/// Makes a volume of an image; blocks.
///
/// # Errors
/// For an image with other axes than one channel and three of space, and for one that is not a volume.
pub(super) fn volume(
    app: &State,
    array: Array,
    (axes, spacing_mm): (ViewerAxes, Option<[f64; 3]>),
    owner: Owner,
) -> Result<Arc<Stored>, Refusal> {
    let &[channels, a, b, c] = array.shape() else {
        let axes = array.shape().len();
        return Err(Refusal::new(format!(
            "the image has {axes} axes: four are needed: channel, A, B, C"
        )));
    };
    if channels != 1 {
        let message = format!("the image has {channels} channels, and a CT has one");
        return Err(Refusal::new(message));
    }
    // At most four bytes for each voxel.
    let memory = reserved(app, owner, 4 * (a * b * c) as u64)?;
    let mut options = ReadOptions::default().with_max_bytes(app.config.limits.max_volume_bytes);
    options = options.with_axes(ArrayAxes::Zyx);
    options.spacing_mm = spacing_mm;
    let header = npy_header(array.element().descr(), false, &[a, b, c]);
    let stream = Cursor::new(header).chain(Cursor::new(array.into_bytes()));
    let mut input =
        Input::read_stream(stream, (Path::new(NAME), NAME), &options).map_err(Error::from)?;
    if let Some(spacing_mm) = spacing_mm {
        let (voxels, geometry) = input.volume.into_parts();
        let shape = geometry.shape();
        let geometry = Geometry::with_orientation(shape, spacing_mm, axes.orientation());
        let geometry = geometry.map_err(Error::from)?;
        input.volume = Volume::new(voxels, geometry).map_err(Error::from)?;
    }
    drop(memory);
    let kept = reserved(app, owner, bytes_of(&input))?;
    let origin = Origin {
        owner,
        name: NAME.to_string(),
        sha256: None,
        // Each image is one of its own, and ends with its session.
        content: rand::random(),
        lease: Lease::new(app.config.limits.ttl),
        folder: app.root.folder()?,
        disk: app.disk(),
        memory: kept,
        may_yield: false,
    };
    Ok(Stored::new(input, origin))
}

/// Memory, for which volumes that may go make room.
///
/// # Errors
/// Where there is not so much.
pub(super) fn reserved(app: &State, owner: Owner, bytes: u64) -> Result<Reserved, Refusal> {
    let mut memory = app.memory();
    app.reserve(&mut memory, bytes, owner)?;
    Ok(memory)
}

/// Makes a mask of an array; blocks.
///
/// # Errors
/// For a mask of another shape than its image.
pub(super) fn mask(array: &Array, of: &Geometry) -> Result<Mask, Refusal> {
    if array.shape() != of.shape() {
        return Err(Refusal::new("the mask is not of the shape of the image"));
    }
    let each = array.element().size();
    let is_set = |element: &[u8]| u8::from(element.iter().any(|byte| *byte != 0));
    let data = array.bytes().chunks_exact(each).map(is_set).collect();
    Ok(Mask::new(data, of.clone()).map_err(Error::from)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spacing_is_taken_without_its_sign_and_one_that_is_none_is_refused() {
        let settings = ViewerSessions::default();
        let spacing = |meta: serde_json::Value| {
            let meta: ImageMeta = serde_json::from_value(meta).unwrap();
            meta.spacing_mm(&settings)
        };
        let of = |spacing: serde_json::Value| json!({"image_properties": {"spacing": spacing}});
        assert_eq!(spacing(of(json!([-2.0, -0.8, 0.7]))).unwrap(), Some([2.0, 0.8, 0.7]));
        for absent in [json!({}), json!({"image_properties": {}}), of(json!(null))] {
            assert_eq!(spacing(absent).unwrap(), None);
        }
        for wrong in [json!([1.0, 1.0]), json!([0.0, 1.0, 1.0]), json!([1, 1, 1, 1]), json!([])] {
            assert!(spacing(of(wrong)).is_err());
        }
        let said = |settings| ImageMeta::default().assumptions(settings).join("; ");
        assert!(said(&settings).contains("SAR") && said(&settings).ends_with("without a spacing"));
        let assumed = ViewerSessions { spacing_mm: Some([3.0; 3]), ..ViewerSessions::default() };
        assert_eq!(ImageMeta::default().spacing_mm(&assumed).unwrap(), Some([3.0; 3]));
        assert!(said(&assumed).ends_with("3, 3, 3 mm are assumed"));
    }
}
