//! What the report draws: box plots, the curve of clicks, and the calibration of `[SEG]`, as SVG.

use std::fmt::Write as _;

use super::metrics::Metric;
use super::page::{escaped, number};
use super::score::Scored;
use super::summary::{Group, Summary, quantile};

/// A box for each group: quartiles, median, whiskers of 1.5 times the middle half, and points beyond.
pub(super) fn boxes(html: &mut String, metric: &Metric, groups: &[Group], scored: &[Scored]) {
    const LEFT: f64 = 190.0;
    const WIDTH: f64 = 560.0;
    const ROW: f64 = 26.0;
    let of = |group: &Group| -> Vec<f64> {
        let own = scored.iter().filter(|of| of.group == group.name);
        own.filter_map(|of| of.scores.get(metric.name).copied()).collect()
    };
    let rows: Vec<(&str, Vec<f64>)> = groups
        .iter()
        .map(|group| (group.name.as_str(), of(group)))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    if rows.is_empty() {
        return;
    }
    let largest = rows.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    let top = if metric.more_is_better { largest.max(1.0) } else { nice(largest) };
    let x = |value: f64| LEFT + WIDTH * (value / top).clamp(0.0, 1.0);
    let height = ROW * rows.len() as f64 + 40.0;
    let _ = write!(
        html,
        "<h2>{}{} by group</h2><svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"Box plots\">",
        metric.title,
        if metric.unit.is_empty() { String::new() } else { format!(", {},", metric.unit) }
    );
    for step in 0..=5 {
        let value = top * f64::from(step) / 5.0;
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"8\" y2=\"{1}\"/>\
             <text class=\"tick\" x=\"{0:.1}\" y=\"{2}\">{3}</text>",
            x(value),
            height - 26.0,
            height - 10.0,
            number(value)
        );
    }
    for (index, (name, values)) in rows.iter().enumerate() {
        let y = 20.0 + ROW * index as f64;
        let [q1, median, q3] = [0.25, 0.5, 0.75].map(|share| quantile(values, share));
        let reach = 1.5 * (q3 - q1);
        let inside = |v: &&f64| q1 - reach <= **v && **v <= q3 + reach;
        let low = values.iter().filter(inside).copied().fold(q1, f64::min);
        let high = values.iter().filter(inside).copied().fold(q3, f64::max);
        let shown: String = name.chars().take(26).collect();
        let _ = write!(
            html,
            "<text class=\"label\" x=\"{0}\" y=\"{1}\">{2}</text>\
             <line class=\"whisker\" x1=\"{3:.1}\" x2=\"{4:.1}\" y1=\"{5}\" y2=\"{5}\"/>\
             <rect class=\"box\" x=\"{6:.1}\" y=\"{7}\" width=\"{8:.1}\" height=\"14\">\
             <title>{9}: median {10}, quartiles {11} and {12}, n = {13}</title></rect>\
             <line class=\"median\" x1=\"{14:.1}\" x2=\"{14:.1}\" y1=\"{7}\" y2=\"{15}\"/>",
            LEFT - 10.0,
            y + 4.0,
            escaped(&shown),
            x(low),
            x(high),
            y,
            x(q1),
            y - 7.0,
            (x(q3) - x(q1)).max(1.0),
            escaped(name),
            number(median),
            number(q1),
            number(q3),
            values.len(),
            x(median),
            y + 7.0
        );
        for value in values.iter().filter(|v| !inside(v)) {
            let _ = write!(
                html,
                "<circle class=\"beyond\" cx=\"{:.1}\" cy=\"{y}\" r=\"2.2\"/>",
                x(*value)
            );
        }
    }
    html.push_str("</svg>");
}

pub(super) fn clicks(html: &mut String, curve: &[f64]) {
    let Some(last) = curve.len().checked_sub(1).filter(|last| 0 < *last) else { return };
    let at = |index: usize, dice: f64| {
        (60.0 + 680.0 * index as f64 / last as f64, 190.0 - 170.0 * dice.clamp(0.0, 1.0))
    };
    let points: Vec<String> = curve
        .iter()
        .enumerate()
        .map(|(index, dice)| at(index, *dice))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    html.push_str(
        "<h2>Dice by clicks</h2><svg viewBox=\"0 0 800 230\" role=\"img\" aria-label=\"Curve\">",
    );
    for step in 0..=5 {
        let dice = f64::from(step) / 5.0;
        let (_, y) = at(0, dice);
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"60\" x2=\"740\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"label\" x=\"50\" y=\"{}\">{}</text>",
            y + 4.0,
            number(dice)
        );
    }
    let _ = write!(html, "<polyline class=\"curve\" points=\"{}\"/>", points.join(" "));
    for (index, dice) in curve.iter().enumerate() {
        let (x, y) = at(index, *dice);
        let _ = write!(
            html,
            "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{} after {} \
             clicks</title></circle><text class=\"tick\" x=\"{x:.1}\" y=\"212\">{}</text>",
            number(*dice),
            index + 1,
            index + 1
        );
    }
    html.push_str("</svg>");
}

pub(super) fn calibration(html: &mut String, summary: &Summary) {
    if summary.calibration.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Calibration of [SEG]</h2><p class=\"note\">How good the mask was, by how sure the model was \
         that there is one.</p><svg viewBox=\"0 0 800 230\" role=\"img\" aria-label=\"Calibration\">",
    );
    for step in 0..=5 {
        let share = f64::from(step) / 5.0;
        let y = 190.0 - 170.0 * share;
        let x = 60.0 + 680.0 * share;
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"60\" x2=\"740\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"label\" x=\"50\" y=\"{}\">{label}</text>\
             <text class=\"tick\" x=\"{x}\" y=\"212\">{label}</text>",
            y + 4.0,
            label = number(share)
        );
    }
    for bin in &summary.calibration {
        let (x, width) = (60.0 + 680.0 * bin.low, 680.0 * (bin.high - bin.low));
        let height = 170.0 * bin.mean_dice.clamp(0.0, 1.0);
        let _ = write!(
            html,
            "<rect class=\"box\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>\
             probability {} on average, Dice {}, n = {}</title></rect>",
            x + 2.0,
            190.0 - height,
            width - 4.0,
            number(bin.mean_probability),
            number(bin.mean_dice),
            bin.count
        );
    }
    html.push_str("</svg>");
}

/// The next round number.
fn nice(largest: f64) -> f64 {
    if largest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(largest.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|n| largest <= *n)
        .unwrap_or(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 0.7, 3.0, 12.0, 60.0].map(nice), [1.0, 1.0, 5.0, 20.0, 100.0]);
    }
}
