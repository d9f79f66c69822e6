//! Whether answers are right.

/// M3D-Bench's closed questions: the chosen letter with a period, such as `B.`, stands in the answer; case
/// matters.
pub fn has_choice(answer: &str, choice: &str) -> bool {
    answer.contains(&format!("{choice}."))
}

/// HSENet's text accuracy: both are the same without spaces around them, whatever their case.
pub fn is_same_text(prediction: &str, reference: &str) -> bool {
    prediction.trim().to_lowercase() == reference.trim().to_lowercase()
}

/// HSENet's class accuracy: what the prediction says before its first `/` stands in the reference, whatever
/// the case. As published, a prediction without words counts as right; [`has_class`] refuses it.
pub fn has_class_as_published(prediction: &str, reference: &str) -> bool {
    reference.to_lowercase().contains(&class(prediction))
}

/// The same where a prediction without words is wrong.
pub fn has_class(prediction: &str, reference: &str) -> bool {
    !class(prediction).trim().is_empty() && has_class_as_published(prediction, reference)
}

fn class(prediction: &str) -> String {
    prediction.split('/').next().unwrap_or_default().to_lowercase()
}

/// The regions that HSENet sorts answers about chest CTs into, in the order in which they are looked for.
pub const REGIONS: [&str; 10] = [
    "Lung",
    "Trachea and Bronchie",
    "Mediastinum",
    "Heart",
    "Esophagus",
    "Pleura",
    "Bone",
    "Thyroid",
    "Breast",
    "Abdomen",
];

/// The first of [`REGIONS`] that the text names, whatever the case; `Others` if it names none.
pub fn region(text: &str) -> &'static str {
    let text = text.to_lowercase();
    REGIONS.into_iter().find(|name| text.contains(&name.to_lowercase())).unwrap_or("Others")
}

/// The share of cases that are right, 0..1; `None` without cases.
pub fn share(right: impl IntoIterator<Item = bool>) -> Option<f64> {
    let (mut cases, mut hits) = (0_u64, 0_u64);
    for is_right in right {
        cases += 1;
        hits += u64::from(is_right);
    }
    (0 < cases).then(|| hits as f64 / cases as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_counts_with_its_period_and_case() {
        assert!(has_choice("The answer is B. Portal venous", "B"));
        assert!(!has_choice("B", "B") && !has_choice("b. x", "B"));
    }

    #[test]
    fn classes_and_texts_are_compared_as_published() {
        assert!(has_class_as_published("Lung/left", "left lung, upper lobe"));
        assert!(has_class_as_published("", "anything") && !has_class("", "anything"));
        assert!(!has_class("Heart/x", "left lung"));
        assert!(is_same_text(" Lung ", "lung") && !is_same_text("lungs", "lung"));
        assert_eq!((region("right LUNG and heart"), region("skin")), ("Lung", "Others"));
        assert_eq!((share([true, false, true, true]), share([])), (Some(0.75), None));
    }
}
