//! The area of the surface around a corner of voxels, by which of its eight voxels are in the mask.
//!
//! DeepMind's surface-distance defines it by triangles of marching cubes between the middles of the voxels,
//! and what counts of a triangle is its normal, whose length is its area. Turning and mirroring the eight
//! voxels, and swapping inside and outside, turns and mirrors the normals: thirteen cases are all there is.

/// The eight voxels of a case as bits (7 is the first along all axes, W runs fastest), and the normals of
/// its triangles along D, H and W, in eighths of a voxel's face and without their signs.
type Case = (u8, &'static [[u8; 3]]);

const CASES: [Case; 13] = [
    (0b0000_0001, &[[1, 1, 1]]),
    (0b0000_0011, &[[2, 2, 0], [2, 2, 0]]),
    (0b0000_0110, &[[1, 1, 1], [1, 1, 1]]),
    (0b0000_0111, &[[1, 1, 1], [2, 2, 2], [4, 0, 0]]),
    (0b0000_1111, &[[4, 0, 0], [4, 0, 0]]),
    (0b0001_0110, &[[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    (0b0001_0111, &[[1, 1, 1], [1, 1, 1], [2, 2, 2], [2, 2, 2]]),
    (0b0001_1000, &[[1, 1, 1], [1, 1, 1]]),
    (0b0001_1001, &[[0, 2, 2], [0, 2, 2], [1, 1, 1]]),
    (0b0001_1011, &[[0, 2, 2], [1, 1, 1], [2, 0, 2], [3, 3, 3]]),
    (0b0001_1110, &[[1, 1, 1], [1, 1, 1], [2, 2, 2], [4, 0, 0]]),
    (0b0011_1100, &[[2, 2, 0], [2, 2, 0], [2, 2, 0], [2, 2, 0]]),
    (0b0110_1001, &[[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]),
];

/// In which order axes may be taken.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The area in mm² of the surface at a corner, by the code of its voxels; 0 where all or none of them are
/// in the mask. `spacing_mm` is `[D, H, W]`.
pub(super) fn areas_mm2(spacing_mm: [f64; 3]) -> [f64; 256] {
    let [d, h, w] = spacing_mm;
    let faces = [h * w, d * w, d * h];
    let mut areas = [0.0; 256];
    for (code, normals) in CASES {
        for (order, mirrored) in ORDERS.iter().flat_map(|order| (0..8).map(move |m| (order, m))) {
            let turned = turned(code, *order, mirrored);
            let length = |normal: &[u8; 3]| {
                let along = |n: usize| f64::from(normal[order[n]]) / 8.0 * faces[n];
                (along(0).powi(2) + along(1).powi(2) + along(2).powi(2)).sqrt()
            };
            let area = normals.iter().map(length).sum();
            areas[usize::from(turned)] = area;
            areas[usize::from(!turned)] = area;
        }
    }
    areas
}

/// The code of the same voxels where axis `n` is what was axis `order[n]`, mirrored along the axes whose
/// bits (4, 2 and 1 for D, H and W) are set.
fn turned(code: u8, order: [usize; 3], mirrored: usize) -> u8 {
    let mut turned = 0;
    for bit in 0..8 {
        if code >> bit & 1 == 1 {
            let place = [bit >> 2 & 1, bit >> 1 & 1, bit & 1];
            let place = order.iter().fold(0, |all, axis| all << 1 | place[*axis]);
            turned |= 1 << (place ^ mirrored);
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_but_none_and_all_has_an_area() {
        let areas = areas_mm2([1.0; 3]);
        assert_eq!((areas[0], areas[255]), (0.0, 0.0));
        assert!(areas[1..255].iter().all(|area| 0.0 < *area));
        // A plane through the middle of four edges is as large as a face.
        assert_eq!(areas[0b0000_1111], 1.0);
        assert_eq!(areas[0b0101_0101], 1.0);
    }

    #[test]
    fn a_plane_is_as_large_as_the_face_that_it_is_parallel_to() {
        let areas = areas_mm2([5.0, 0.5, 2.0]);
        for (code, area) in [(0b0000_1111, 1.0), (0b0011_0011, 10.0), (0b0101_0101, 2.5)] {
            assert_eq!(areas[code], area, "{code:08b}");
            assert_eq!(areas[255 - code], area, "{code:08b}");
        }
    }
}
