//! Volumes that are stored in another order than viewers show them in.

use r1seg::volume::{Geometry, ReadOptions, Volume, read_from};
use r1seg_viewers::ElementType;
use serde_json::json;

use super::*;

/// Voxels of a stored grid in the order of viewers, by where each of them lies: Z, Y and X are the ranks of
/// its place along the axes of the world that its own axes follow.
pub(super) fn canonical<T: Copy>(stored: &[T], geometry: &Geometry) -> Vec<T> {
    let affine = geometry.affine().unwrap();
    let [_, h, w] = geometry.shape();
    let mut placed: Vec<([i64; 3], T)> = Vec::new();
    for (n, value) in stored.iter().enumerate() {
        let ijk = [n % w, n / w % h, n / (h * w)].map(|index| index as f64);
        // The axes of these tests' grids are oblique by little, so that the sign tells the direction.
        let rank = |world: usize| {
            let along =
                (0..3).max_by(|a, b| affine[world][*a].abs().total_cmp(&affine[world][*b].abs()));
            let axis = along.unwrap();
            (ijk[axis] * affine[world][axis].signum()) as i64
        };
        placed.push(([rank(2), rank(1), rank(0)], *value));
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, value)| value).collect()
}

/// The phantom with its axes in another order and turned: i to the posterior, j to the inferior, k to the
/// right, and a little askew.
fn turned() -> Volume {
    let drawn =
        r1seg::phantom::volume(&r1seg::phantom::Phantom::draw_sized(7, [16, 64, 64])).unwrap();
    let voxels = drawn.voxels().to_f32();
    let at = |z: usize, y: usize, x: usize| voxels[(z * 64 + y) * 64 + x] as i16;
    let mut stored = Vec::new();
    for k in 0..64 {
        for j in 0..16 {
            stored.extend((0..64).map(|i| at(15 - j, 63 - i, k)));
        }
    }
    let affine = [
        [0.02, 0.0, 0.75, -20.0],
        [-0.75, 0.01, 0.02, 30.0],
        [0.0, -2.5, 0.03, 40.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let geometry = Geometry::with_affine([64, 16, 64], affine).unwrap();
    Volume::new(stored, geometry).unwrap()
}

#[test]
fn a_volume_is_shown_and_segmented_in_the_order_of_viewers_whatever_its_own_is() {
    let running = serving(vec![recorded("segvol")]);
    let client = running.client();
    let model = client.get("/capabilities").json()["model"].clone();
    let volume = turned();
    // As it is on disk, compressed or not.
    for name in ["ct.nii", "ct.nii.gz"] {
        let file = file_of(&volume, name);
        let reply = client.send("POST", "/images", "application/octet-stream", &file);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let meta = meta(reply.header("x-meta"));
        assert_eq!(meta["shape"], json!([16, 64, 64]));
        let spacing: Vec<f64> = (0..3).map(|n| meta["spacing"][n].as_f64().unwrap()).collect();
        for (own, expected) in spacing.iter().zip([2.5, 0.75, 0.75]) {
            // The axes are askew by some percent.
            assert!((own - expected).abs() < 1e-2, "{spacing:?}");
        }
        let shown = vxa2::read(&mut reply.body.as_slice(), LIMIT).unwrap();
        assert_eq!((shown.element(), shown.shape()), (ElementType::F32, &[16, 64, 64][..]));
        let expected = canonical(&volume.voxels().to_f32(), volume.geometry());
        let bytes: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert!(shown.bytes() == bytes);

        let id = meta["image_id"].as_str().unwrap();
        assert_eq!(id.len(), 32);
        let (_, masks) = run(&client, id, json!(["liver"]));
        assert_eq!(masks.shape(), [1, 16, 64, 64]);
        let expected = of_the_api(&client, &model, &file, json!([{"text": "liver"}]));
        assert!(expected[0].contains(&1));
        assert!(masks.bytes() == expected[0]);
    }
}

#[test]
fn a_volume_without_a_place_in_the_world_is_shown_as_it_is_stored() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let geometry = Geometry::without_affine([16, 64, 64]);
    let values: Vec<f32> = (0..16 * 64 * 64).map(|n| (n % 1000) as f32).collect();
    let file = file_of(&Volume::new(values.clone(), geometry).unwrap(), "ct.npy");
    let reply = client.send("POST", "/images?include_image=true", "", &file);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let meta = meta(reply.header("x-meta"));
    assert_eq!((&meta["shape"], &meta["spacing"]), (&json!([16, 64, 64]), &json!([1.0, 1.0, 1.0])));
    let shown = vxa2::read(&mut reply.body.as_slice(), LIMIT).unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(shown.bytes() == bytes);
    let (_, masks) = run(&client, meta["image_id"].as_str().unwrap(), json!("Where is it?"));
    assert_eq!(masks.shape(), [1, 16, 64, 64]);
}

#[test]
fn labels_are_exported_to_the_grid_of_the_file() {
    let running = serving(vec![demo()]);
    let client = running.client();
    let volume = turned();
    let image = image(&client, &file_of(&volume, "ct.nii.gz"));
    let count = 16 * 64 * 64;
    for (top, element, datatype) in
        [(300_u16, ElementType::U16, 512_i16), (7, ElementType::U16, 2), (7, ElementType::U8, 2)]
    {
        let label = |n: usize| (n % usize::from(top + 1)) as u16;
        let bytes: Vec<u8> =
            (0..count).flat_map(|n| label(n).to_le_bytes()[..element.size()].to_vec()).collect();
        let array = Array::new(element, vec![16, 64, 64], bytes).unwrap();
        let mut body = Vec::new();
        vxa2::write(&mut body, &array).unwrap();
        let path = format!("/images/{image}/export");
        let reply = client.send("POST", &path, "application/octet-stream", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut plain = Vec::new();
        std::io::copy(&mut flate2::read::GzDecoder::new(&reply.body[..]), &mut plain).unwrap();
        assert_eq!(i16::from_le_bytes([plain[70], plain[71]]), datatype);
        let options = ReadOptions::default();
        let exported = read_from(&reply.body[..], "labels.nii.gz", &options).unwrap().volume;
        // NIfTI has the affine in single precision.
        let (own, expected) = (exported.geometry().affine(), volume.geometry().affine());
        for (own, expected) in own.unwrap().iter().flatten().zip(expected.unwrap().iter().flatten())
        {
            assert!((own - expected).abs() < 1e-5);
        }
        assert_eq!(exported.shape(), volume.shape());
        let back = canonical(&exported.voxels().to_f32(), exported.geometry());
        assert!(back.iter().enumerate().all(|(n, value)| *value == f32::from(label(n))));
    }
}
