//! The masks of several prompts as one, where that is possible.

use r1seg::volume::{Error, Geometry, LabelMap, Mask};

/// A mask that a prompt got; an empty one counts.
pub(crate) struct Found<'a> {
    /// The number of the prompt.
    pub(crate) label: u8,
    pub(crate) mask: &'a Mask,
}

/// The masks of `prompts` prompts, of which some got none.
pub(crate) fn joined(
    found: &[Found<'_>],
    prompts: usize,
    geometry: &Geometry,
) -> Result<LabelMap, Error> {
    let mut labels = LabelMap::new(geometry.clone());
    for number in 1..=prompts {
        match found.iter().find(|found| usize::from(found.label) == number) {
            Some(found) => labels.push(found.mask)?,
            None => labels.push_empty()?,
        };
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_a_mask_keeps_its_label() {
        let geometry = Geometry::without_affine([1, 1, 4]);
        let masks = [[1, 0, 0, 0], [0, 0, 1, 1]]
            .map(|data| Mask::new(data.to_vec(), geometry.clone()).unwrap());
        let found = [Found { label: 1, mask: &masks[0] }, Found { label: 3, mask: &masks[1] }];
        let labels = joined(&found, 4, &geometry).unwrap();
        assert_eq!((labels.labels(), labels.len()), (&[1, 0, 3, 3][..], 4));
    }
}
