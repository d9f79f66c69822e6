//! What a prompt has changed, as plug-ins read it.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use r1seg_viewers::{Array, ElementType, nnia};
use serde::Serialize;

use super::refusal::Refusal;
use super::target::Patch;

/// JSON beside an array, in both directions.
pub(super) const META: HeaderName = HeaderName::from_static("x-meta");

/// The change of a mask: the part of it that has changed.
#[derive(Debug)]
pub(super) struct Answer {
    meta: String,
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Meta {
    ran_prediction: bool,
    /// Half-open.
    bbox: Option<[[usize; 2]; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<[usize; 3]>,
}

impl Answer {
    /// Nothing was run.
    pub(super) fn nothing() -> Self {
        Self::new(&Meta { ran_prediction: false, bbox: None, dtype: None, shape: None }, Vec::new())
    }

    /// Something was run, or taken back, and has changed a part of the mask or nothing of it.
    ///
    /// # Errors
    /// If the array cannot be written.
    pub(super) fn of(patch: Option<&Patch>, element: ElementType) -> Result<Self, Refusal> {
        let Some(Patch { region, voxels }) = patch else {
            let meta = Meta { ran_prediction: true, bbox: None, dtype: None, shape: None };
            return Ok(Self::new(&meta, Vec::new()));
        };
        let shape = region.shape();
        let meta = Meta {
            ran_prediction: true,
            bbox: Some(std::array::from_fn(|n| [region.start[n], region.end[n]])),
            dtype: Some(element.name()),
            shape: Some(shape),
        };
        let wide = widened(voxels, element.size());
        let fault = |error: r1seg_viewers::Error| Refusal::fault(error.to_string());
        let array = Array::new(element, shape.to_vec(), wide).map_err(fault)?;
        let mut body = Vec::new();
        nnia::write(&mut body, &array).map_err(fault)?;
        Ok(Self::new(&meta, body))
    }

    fn new(meta: &Meta, body: Vec<u8>) -> Self {
        // Numbers and names alone: it can be written, and in ASCII.
        Self { meta: serde_json::to_string(meta).unwrap_or_default(), body }
    }
}

/// Whole numbers of so many bytes, the lowest first.
fn widened(voxels: &[u8], size: usize) -> Vec<u8> {
    if size == 1 {
        return voxels.to_vec();
    }
    let mut wide = vec![0; voxels.len() * size];
    for (number, voxel) in wide.chunks_exact_mut(size).zip(voxels) {
        number[0] = *voxel;
    }
    wide
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let meta = HeaderValue::try_from(self.meta);
        let meta = meta.unwrap_or(HeaderValue::from_static("{}"));
        let kind = HeaderValue::from_static("application/octet-stream");
        ([(META, meta), (CONTENT_TYPE, kind)], self.body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use r1seg::volume::Region;

    use super::*;

    #[test]
    fn a_patch_has_the_numbers_that_the_plug_in_has() {
        let region = Region { start: [1, 2, 3], end: [2, 3, 6] };
        let patch = Patch { region, voxels: vec![1, 0, 1] };
        for (element, bytes) in [
            (ElementType::U8, vec![1, 0, 1]),
            (ElementType::Bool, vec![1, 0, 1]),
            (ElementType::I32, vec![1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
        ] {
            let answer = Answer::of(Some(&patch), element).unwrap();
            let name = element.name();
            let meta = format!(
                "{{\"ran_prediction\":true,\"bbox\":[[1,2],[2,3],[3,6]],\"dtype\":\"{name}\",\"shape\":[1,1,3]}}"
            );
            assert_eq!(answer.meta, meta);
            let array = nnia::read(&mut answer.body.as_slice(), 100).unwrap();
            assert_eq!((array.shape(), array.bytes()), (&[1, 1, 3][..], bytes.as_slice()));
        }
        let nothing = Answer::nothing();
        assert_eq!(nothing.meta, "{\"ran_prediction\":false,\"bbox\":null}");
        assert!(nothing.body.is_empty());
        let same = Answer::of(None, ElementType::U8).unwrap();
        assert_eq!(same.meta, "{\"ran_prediction\":true,\"bbox\":null}");
    }
}
