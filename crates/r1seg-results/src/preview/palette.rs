//! The colors of the sheet.

/// Red, green and blue.
pub(super) type Color = [u8; 3];

pub(super) const BACKGROUND: Color = [18, 20, 24];
/// Behind the image of a panel, where there is none.
pub(super) const EMPTY_PANEL: Color = [28, 31, 36];
pub(super) const SHADOW: Color = [0, 0, 0];
pub(super) const TEXT: Color = [232, 232, 232];
pub(super) const FAINT_TEXT: Color = [150, 154, 160];

/// The colors of Okabe and Ito (2008), which people with any common color blindness tell
/// apart, without black. Blue comes last, since it is the darkest.
const OKABE_ITO: [Color; 7] = [
    [230, 159, 0],   // orange
    [86, 180, 233],  // sky blue
    [0, 158, 115],   // bluish green
    [240, 228, 66],  // yellow
    [204, 121, 167], // reddish purple
    [213, 94, 0],    // vermilion
    [0, 114, 178],   // blue
];

/// Labels that are told apart by their colors alone.
pub(super) const PLAIN_COLORS: usize = OKABE_ITO.len();

/// The color of a label: red, green and blue. After seven labels they come again paler, then darker.
pub fn color_of(label: u16) -> Color {
    let index = usize::from(label.saturating_sub(1));
    let color = OKABE_ITO[index % OKABE_ITO.len()];
    match index / OKABE_ITO.len() % 3 {
        0 => color,
        1 => mix(color, [255; 3], 0.5),
        _ => mix(color, [0; 3], 0.3),
    }
}

/// `color` with a share of `other`, which is in `0..=1`.
pub(super) fn mix(color: Color, other: Color, share: f32) -> Color {
    std::array::from_fn(|i| {
        let mixed = f32::from(color[i]) * (1.0 - share) + f32::from(other[i]) * share;
        // A cast from float to integer saturates.
        mixed.round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_21_labels_have_colors_of_their_own() {
        let colors: Vec<Color> = (1..=21).map(color_of).collect();
        for (i, color) in colors.iter().enumerate() {
            assert!(!colors[..i].contains(color), "label {}", i + 1);
        }
    }

    #[test]
    fn every_label_has_a_color() {
        for label in 0..=u16::MAX {
            assert_ne!(color_of(label), BACKGROUND);
        }
    }

    #[test]
    fn mix_of_a_share_lies_between() {
        assert_eq!(mix([0, 100, 255], [255, 100, 0], 0.0), [0, 100, 255]);
        assert_eq!(mix([0, 100, 255], [255, 100, 0], 1.0), [255, 100, 0]);
        assert_eq!(mix([0, 100, 200], [100, 100, 0], 0.5), [50, 100, 100]);
    }
}
