//! What nnInteractive's plug-ins do, over the same words.

use r1seg::volume::{Region, Volume, Voxels};
use r1seg_viewers::{Array, ElementType, nnia};
use serde_json::{Value, json};

use super::{Client, Reply};

/// A viewer with a session.
#[derive(Debug)]
pub(crate) struct Viewer {
    client: Client,
    pub(crate) shape: [usize; 3],
    /// As the plug-in keeps it.
    pub(crate) buffer: Vec<u8>,
}

/// An array as it is sent.
pub(crate) fn array(element: ElementType, shape: &[usize], bytes: Vec<u8>) -> Vec<u8> {
    let array = Array::new(element, shape.to_vec(), bytes).unwrap();
    let mut out = Vec::new();
    nnia::write(&mut out, &array).unwrap();
    out
}

impl Viewer {
    /// Opens a session.
    pub(crate) fn claim(client: &Client) -> Self {
        let reply = client.send("POST", "/claim", "", b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let token = reply.json()["lease_token"].as_str().unwrap().to_string();
        let client = client.clone().with_header("X-Lease-Token", &token);
        Self { client, shape: [0; 3], buffer: Vec::new() }
    }

    /// Another connection of the same session.
    pub(crate) fn twin(&self) -> Self {
        Self { client: self.client.clone(), shape: self.shape, buffer: Vec::new() }
    }

    /// Opens a session with an image and an empty mask.
    pub(crate) fn with_image(client: &Client, volume: &Volume, spacing: Option<[f64; 3]>) -> Self {
        let mut viewer = Self::claim(client);
        let reply = viewer.set_image(volume, spacing);
        viewer.shape = volume.shape();
        assert_eq!(reply.status, 200, "{} {}", reply.reason, reply.text());
        viewer.set_target("uint8");
        viewer
    }

    pub(crate) fn set_image(&self, volume: &Volume, spacing: Option<[f64; 3]>) -> Reply {
        let [a, b, c] = volume.shape();
        // Whole numbers are resampled as such.
        let (element, bytes) = match volume.voxels() {
            Voxels::I16 { stored, .. } => {
                (ElementType::I16, stored.iter().flat_map(|n| n.to_le_bytes()).collect())
            }
            Voxels::F32(data) => {
                (ElementType::F32, data.iter().flat_map(|n| n.to_le_bytes()).collect())
            }
        };
        let body = array(element, &[1, a, b, c], bytes);
        let properties = spacing.map_or(json!({}), |spacing| json!({"spacing": spacing}));
        self.send("/set_image", &json!({"image_properties": properties}), &body)
    }

    pub(crate) fn set_target(&mut self, dtype: &str) {
        let reply = self.post("/set_target_buffer", &json!({"shape": self.shape, "dtype": dtype}));
        assert_eq!(reply.status, 200, "{} {}", reply.reason, reply.text());
        self.buffer = vec![0; self.shape.iter().product()];
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.client.get(path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.client.post(path, body)
    }

    /// An array with what stands beside it.
    pub(crate) fn send(&self, path: &str, meta: &Value, body: &[u8]) -> Reply {
        let client = self.client.clone().with_header("X-Meta", &meta.to_string());
        client.send("POST", path, "application/octet-stream", body)
    }

    /// Takes over what an answer says has changed. Whether anything was run, and where it has changed.
    pub(crate) fn apply(&mut self, reply: &Reply) -> (bool, Option<Region>) {
        assert_eq!(reply.status, 200, "{} {}", reply.reason, reply.text());
        let meta: Value = serde_json::from_str(reply.header("x-meta").unwrap()).unwrap();
        let ran = meta["ran_prediction"].as_bool().unwrap();
        if meta["bbox"].is_null() {
            assert!(reply.body.is_empty());
            return (ran, None);
        }
        let bounds: [[usize; 2]; 3] = serde_json::from_value(meta["bbox"].clone()).unwrap();
        let region = Region { start: bounds.map(|b| b[0]), end: bounds.map(|b| b[1]) };
        let patch = nnia::read(&mut reply.body.as_slice(), 1 << 30).unwrap();
        assert_eq!(patch.shape(), region.shape());
        let each = patch.element().size();
        let mut numbers = patch.bytes().chunks_exact(each).map(|number| number[0]);
        let [_, h, w] = self.shape;
        for z in region.start[0]..region.end[0] {
            for y in region.start[1]..region.end[1] {
                for x in region.start[2]..region.end[2] {
                    self.buffer[(z * h + y) * w + x] = numbers.next().unwrap();
                }
            }
        }
        (ran, Some(region))
    }

    pub(crate) fn try_point(&self, at: [f64; 3], positive: bool) -> Reply {
        let body = json!({"coordinates": at, "include_interaction": positive});
        self.post("/add_point_interaction", &body)
    }

    pub(crate) fn point(&mut self, at: [f64; 3], positive: bool) -> (bool, Option<Region>) {
        let reply = self.try_point(at, positive);
        self.apply(&reply)
    }

    pub(crate) fn try_box(&self, bounds: [[f64; 2]; 3], positive: bool) -> Reply {
        let body = json!({"bbox_coords": bounds, "include_interaction": positive});
        self.post("/add_bbox_interaction", &body)
    }

    pub(crate) fn seed(&self, mask: &[u8], run: bool) -> Reply {
        let body = array(ElementType::U8, &self.shape, mask.to_vec());
        self.send("/add_initial_seg_interaction", &json!({"run_prediction": run}), &body)
    }

    pub(crate) fn undo(&mut self) -> bool {
        let reply = self.post("/undo", &json!({}));
        self.apply(&reply).0
    }

    pub(crate) fn predict(&mut self) -> (bool, Option<Region>) {
        let reply = self.post("/predict", &json!({"force_full_refine": false}));
        self.apply(&reply)
    }

    pub(crate) fn reset(&mut self) {
        self.buffer.fill(0);
        assert_eq!(self.post("/reset_interactions", &json!({})).status, 200);
    }
}
