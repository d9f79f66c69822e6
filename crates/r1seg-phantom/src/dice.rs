//! The Dice coefficient of two masks.

/// Twice the common voxels over the sum of both: 1 for equal masks, 0 for disjoint ones.
///
/// A voxel is inside where its value is not 0.
/// Returns `None` where there is no such number: for two empty masks, and for masks of
/// different length.
///
/// ```
/// use r1seg_phantom::dice;
///
/// assert_eq!(dice(&[1, 1, 0, 0], &[0, 1, 1, 0]), Some(0.5));
/// ```
#[must_use]
pub fn dice(mask: &[u8], truth: &[u8]) -> Option<f64> {
    if mask.len() != truth.len() {
        return None;
    }
    dice_of(mask.iter().map(|&v| v != 0).zip(truth.iter().map(|&v| v != 0)))
}

/// [`dice`] over pairs of (inside the mask, inside the truth).
pub(crate) fn dice_of(voxels: impl Iterator<Item = (bool, bool)>) -> Option<f64> {
    let (mut common, mut sum) = (0_u64, 0_u64);
    for (in_mask, in_truth) in voxels {
        common += u64::from(in_mask && in_truth);
        sum += u64::from(in_mask) + u64::from(in_truth);
    }
    // Voxel counts are far below 2^53, so that both are exact in f64.
    (sum != 0).then(|| 2.0 * common as f64 / sum as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_of_two_boxes_is_the_closed_form() {
        // [0, 60) and [20, 100) share 40 of 60 and 80 voxels: 80 / 140.
        let a: Vec<u8> = (0..120).map(|i| u8::from(i < 60)).collect();
        let b: Vec<u8> = (0..120).map(|i| u8::from((20..100).contains(&i))).collect();
        assert_eq!(dice(&a, &b), Some(80.0 / 140.0));
        assert_eq!(dice(&b, &a), dice(&a, &b));
    }

    #[test]
    fn dice_counts_every_value_but_zero_as_inside() {
        assert_eq!(dice(&[0, 255, 1], &[0, 1, 7]), Some(1.0));
    }

    #[test]
    fn dice_of_an_empty_and_a_full_mask_is_zero() {
        assert_eq!(dice(&[0, 0], &[1, 1]), Some(0.0));
    }

    #[test]
    fn dice_without_voxels_or_of_unequal_lengths_is_none() {
        assert_eq!(dice(&[], &[]), None);
        assert_eq!(dice(&[0, 0], &[0, 0]), None);
        assert_eq!(dice(&[1, 1], &[1]), None);
    }
}
