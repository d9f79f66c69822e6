//! Sessions of nnInteractive's plug-ins, with the small models that others recorded.

mod hostile;
mod life;
mod models;
mod refusals;

use std::path::Path;
use std::sync::OnceLock;

use r1seg::volume::{Geometry, Orientation, ReadOptions, Region, Volume, read};
use r1seg::{Model, Prompt};
use r1seg_server::{Config, Protocol};

use crate::support::{Running, recorded};

/// Serves plug-ins of nnInteractive.
fn viewers(config: &mut Config) {
    config.viewers = vec![Protocol::NnInteractive];
}

/// With one of the recorded models, for tests that do not mind each other.
fn segvol() -> &'static Running {
    static SHARED: OnceLock<Running> = OnceLock::new();
    SHARED.get_or_init(|| {
        Running::of(vec![recorded("segvol")], |config| {
            viewers(config);
            config.sessions.max_sessions = 100;
        })
    })
}

/// A volume of the recorded models, as a viewer sends it: its voxels, and what is assumed of its place.
fn sent(file: &str, spacing: Option<[f64; 3]>) -> Volume {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(file);
    let (voxels, geometry) = read(path, &ReadOptions::default()).unwrap().volume.into_parts();
    let shape = geometry.shape();
    let geometry = match spacing {
        Some(mm) => Geometry::with_orientation(shape, mm, Orientation::RAS).unwrap(),
        None => Geometry::without_affine(shape),
    };
    Volume::new(voxels, geometry).unwrap()
}

/// What the library finds.
fn expected(model: &Model, volume: &Volume, prompt: &Prompt) -> Vec<u8> {
    let mask = model.encode(volume).unwrap().segment(prompt).unwrap().mask.unwrap();
    mask.data().iter().map(|voxel| u8::from(*voxel != 0)).collect()
}

/// The box around all voxels of a mask.
fn hull(mask: &[u8], [_, h, w]: [usize; 3]) -> Option<Region> {
    let set = (0..mask.len()).filter(|n| mask[*n] != 0);
    set.map(|n| Region::at([n / (h * w), n / w % h, n % w], [1; 3])).reduce(|a, b| Region {
        start: std::array::from_fn(|n| a.start[n].min(b.start[n])),
        end: std::array::from_fn(|n| a.end[n].max(b.end[n])),
    })
}

fn voxels(mask: &[u8]) -> usize {
    mask.iter().filter(|voxel| **voxel != 0).count()
}
