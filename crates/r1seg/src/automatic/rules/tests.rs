use super::*;

pub(super) fn click(at: [f64; 3], label: i64) -> Click {
    let label = match label {
        -1 => PointTag::None,
        0 => PointTag::Negative,
        1 => PointTag::Positive,
        2 => PointTag::NegativeSpecial,
        3 => PointTag::PositiveSpecial,
        _ => panic!("{label}"),
    };
    Click { at, label }
}

#[test]
fn a_window_of_several_clicks_is_told_once_with_their_number() {
    let at = |x: f64| click([10.0, 10.0, x], 1);
    let found = click_windows(&[at(3.0), at(40.0), at(7.0), at(-2.0)], [32, 32, 64], [32; 3]);
    let window = |start: usize| Region::at([0, 0, start], [32; 3]);
    assert_eq!(found, [(window(0), 3), (window(24), 1)]);
    assert_eq!(click_windows(&[], [32; 3], [32; 3]), []);
}

#[test]
fn a_click_just_below_the_upper_face_is_in_the_last_voxel() {
    assert_eq!(click([31.7, 31.0, 0.5], 1).voxel([32, 48, 64]), Some([31, 31, 0]));
    assert_eq!(click([1.5, 2.5, 63.999], 1).voxel([32, 48, 64]), Some([2, 2, 63]));
    assert_eq!(click([-0.5, 2.5, 0.0], 1).voxel([32, 48, 64]), Some([0, 2, 0]));
    assert_eq!(click([-0.6, 2.5, 0.0], 1).voxel([32, 48, 64]), None);
    assert_eq!(click([32.0, 2.5, 0.0], 1).voxel([32, 48, 64]), None);
    assert_eq!(click([f64::NAN, 2.5, 0.0], 1).voxel([32, 48, 64]), None);
    // The authors' code fails here.
    let mut logits = vec![-1.0; 8];
    correct(&mut logits, &[1.0; 8], [1, 1, 8], &[click([0.2, 0.2, 7.7], 1)]).unwrap();
    assert_eq!(logits, [1.0; 8]);
}

#[test]
fn a_click_inside_lets_parts_run_through_the_mask() {
    let shape = [1, 1, 9];
    let before = [-1.0, -1.0, -1.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0];
    let clicked = [-3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, -3.0];
    let after = |clicks: &[Click]| {
        let mut logits = before;
        correct(&mut logits, &clicked, shape, clicks).unwrap();
        logits
    };
    // Beside the mask the part that is added ends at it, and clicks that exclude count as inside, too.
    let outside = click([0.0, 0.0, 1.2], 1);
    assert_eq!(after(&[outside]), [-1.0, 3.0, 3.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0]);
    let through = [-1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, -1.0];
    assert_eq!(after(&[click([0.0, 0.0, 4.0], 1)]), through);
    assert_eq!(after(&[outside, click([0.0, 0.0, 4.0], 0)]), through);
    assert_eq!(after(&[click([0.0, 0.0, 4.0], 0)]), before);
    assert_eq!(after(&[]), before);
}

#[test]
fn of_several_parts_as_near_the_one_with_the_highest_number_is_taken() {
    let shape = [1, 1, 9];
    let mut logits = [-1.0; 9];
    let clicked = [-3.0, 3.0, -3.0, -3.0, -3.0, 3.0, -3.0, 3.0, -3.0];
    // Two voxels to the left and to the right.
    correct(&mut logits, &clicked, shape, &[click([0.0, 0.0, 3.0], 3)]).unwrap();
    assert_eq!(logits, [-1.0, -1.0, -1.0, -1.0, -1.0, 3.0, -1.0, -1.0, -1.0]);
    // Three away is too far.
    let (mut logits, clicked) = ([-1.0; 9], [3.0, -1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    correct(&mut logits, &clicked, shape, &[click([0.0, 0.0, 3.0], 1)]).unwrap();
    assert_eq!(logits, [-1.0; 9]);
}

#[test]
fn logits_that_are_not_one_a_voxel_are_refused() {
    let clicks = [click([1.0; 3], 1)];
    assert_eq!(correct(&mut [0.0; 7], &[0.0; 8], [2; 3], &clicks).unwrap_err().code(), "R-GEO-01");
    assert_eq!(correct(&mut [0.0; 8], &[0.0; 7], [2; 3], &clicks).unwrap_err().code(), "R-GEO-01");
    assert_eq!(keep_clicked(&mut [0.0; 7], [2; 3], &clicks).unwrap_err().code(), "R-GEO-01");
}

#[test]
fn labels_of_clicks_become_those_of_a_special_class() {
    let of = |label: i64| click([0.0; 3], label).label;
    let special = |label: i64| of(label).special();
    for (label, expected) in [(-1, -1), (0, 2), (1, 3), (2, 2), (3, 3)] {
        assert_eq!(special(label), of(expected));
        assert_eq!(of(label).is_positive(), special(label).is_positive());
        assert_eq!(of(label).is_negative(), special(label).is_negative());
    }
}
