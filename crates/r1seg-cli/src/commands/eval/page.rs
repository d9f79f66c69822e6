//! report.html: one page that needs nothing else, for people.

use std::fmt::Write;
use std::path::Path;

use super::drawings::{boxes, calibration, clicks};
use super::metrics::{METRICS, Metric};
use super::score::Scored;
use super::summary::{Mean, Summary};

/// Cases that are shown with their pictures.
const WORST: usize = 8;
/// Rows of the table of all prompts; the others are in eval.csv.
const ROWS: usize = 1000;
/// The largest picture that is put into the page.
const MAX_PICTURE: u64 = 4 << 20;

const STYLE: &str = include_str!("page.css");

/// The page. Pictures are read from `out`.
pub(super) fn page(summary: &Summary, scored: &[Scored], out: &Path) -> String {
    let mut html = String::new();
    let title = format!("Evaluation of {}", summary.model);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>",
        escaped(&title)
    );
    let _ = write!(html, "<h1>{}</h1>", escaped(&title));
    head(&mut html, summary);
    let shown: Vec<&Metric> =
        METRICS.iter().filter(|metric| summary.overall.contains_key(metric.name)).collect();
    overall(&mut html, summary, &shown);
    by_group(&mut html, summary, &shown);
    for name in ["dice", "surface_dice", "hd95_mm", "bleu_1", "box_iou"] {
        if let Some(metric) = shown.iter().find(|metric| metric.name == name) {
            boxes(&mut html, metric, &summary.groups, scored);
        }
    }
    clicks(&mut html, &summary.clicks);
    calibration(&mut html, summary);
    worst(&mut html, scored, out);
    problems(&mut html, summary, scored);
    all(&mut html, &shown, scored);
    html.push_str("</main></body></html>\n");
    html
}

fn head(html: &mut String, summary: &Summary) {
    let counts = &summary.counts;
    let _ = write!(
        html,
        "<p class=\"lead\">{} prompts about {} volumes of <code>{}</code>: {} scored, {} failed, {} not \
         run, {} rows refused.</p>",
        counts.prompts,
        counts.cases,
        escaped(&summary.data),
        counts.scored,
        counts.failed,
        counts.missing,
        counts.refused
    );
    let tolerance = match summary.settings.tolerance_mm {
        Some(mm) => format!("surface Dice at {mm} mm"),
        None => "without surfaces".to_owned(),
    };
    let _ = write!(
        html,
        "<p class=\"note\">r1seg {}, layout {}, empty masks: {}, {}; intervals are of 95 % (bootstrap). \
         For research use only: not a medical device.</p>",
        summary.r1seg_version, summary.layout, summary.settings.empty, tolerance
    );
}

fn overall(html: &mut String, summary: &Summary, shown: &[&Metric]) {
    html.push_str("<h2>Overall</h2><div class=\"cards\">");
    for metric in shown {
        let Some(mean) = summary.overall.get(metric.name) else { continue };
        let _ = write!(
            html,
            "<div class=\"card\"><div class=\"name\">{}</div><div class=\"value\">{}{}</div>\
             <div class=\"range\">{} to {} · n = {}</div></div>",
            metric.title,
            number(mean.mean),
            unit(metric),
            number(mean.low),
            number(mean.high),
            mean.count
        );
    }
    html.push_str("</div>");
}

fn by_group(html: &mut String, summary: &Summary, shown: &[&Metric]) {
    html.push_str(
        "<h2>By group</h2><div class=\"wide\"><table><thead><tr><th>Group</th><th>n</th>",
    );
    html.push_str("<th>no mask</th>");
    for metric in shown {
        let _ = write!(html, "<th>{}</th>", metric.title);
    }
    html.push_str("</tr></thead><tbody>");
    for group in &summary.groups {
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td>",
            escaped(&group.name),
            group.prompts,
            group.without_mask
        );
        for metric in shown {
            html.push_str(&cell(group.scores.get(metric.name), metric));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody><tfoot><tr><th scope=\"row\">mean of groups</th><td></td><td></td>");
    for metric in shown {
        let mean = summary.mean_of_groups.get(metric.name).map(|mean| number(*mean));
        let _ = write!(html, "<td>{}</td>", mean.unwrap_or_default());
    }
    html.push_str("</tr></tfoot></table></div>");
}

fn cell(mean: Option<&Mean>, metric: &Metric) -> String {
    let Some(mean) = mean else { return "<td class=\"none\">–</td>".to_owned() };
    // Shares of 1 are shown as how much of the cell is filled.
    let fill = match metric.more_is_better {
        true => format!(" style=\"--fill-to:{:.1}%\"", 100.0 * mean.mean.clamp(0.0, 1.0)),
        false => String::new(),
    };
    let (low, high) = (number(mean.low), number(mean.high));
    format!("<td{fill} title=\"{low} to {high}, n = {}\">{}</td>", mean.count, number(mean.mean))
}

fn worst(html: &mut String, scored: &[Scored], out: &Path) {
    let mut worst: Vec<(&Scored, f64)> = scored
        .iter()
        .filter_map(|of| Some((of, *of.scores.get("dice").or(of.scores.get("box_iou"))?)))
        .collect();
    worst.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    if worst.is_empty() {
        return;
    }
    html.push_str("<h2>Worst cases</h2><div class=\"cases\">");
    for (of, score) in worst.into_iter().take(WORST) {
        let _ = write!(
            html,
            "<figure><figcaption><b>{}</b> · {} · {}</figcaption>",
            escaped(&of.id),
            escaped(&of.group),
            number(score)
        );
        match of.preview.as_ref().and_then(|path| picture(&out.join(path))) {
            Some(data) => {
                let alt = format!("Preview of {}", of.id);
                let _ = write!(
                    html,
                    "<img loading=\"lazy\" alt=\"{}\" src=\"data:image/png;base64,{data}\">",
                    escaped(&alt)
                );
            }
            None => html.push_str("<p class=\"note\">no picture was drawn</p>"),
        }
        if let Some(answer) = &of.answer {
            let _ = write!(html, "<p class=\"answer\">{}</p>", escaped(answer));
        }
        html.push_str("</figure>");
    }
    html.push_str("</div>");
}

fn picture(path: &Path) -> Option<String> {
    use base64::Engine;
    let bytes = r1seg::files::read(path, MAX_PICTURE).ok()?;
    Some(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn problems(html: &mut String, summary: &Summary, scored: &[Scored]) {
    let with: Vec<&Scored> = scored.iter().filter(|of| of.problem.is_some()).collect();
    if with.is_empty() && summary.refused.is_empty() {
        return;
    }
    html.push_str("<h2>Without scores</h2><ul>");
    for of in with.into_iter().take(ROWS) {
        let problem = of.problem.as_deref().unwrap_or_default();
        let _ = write!(html, "<li><b>{}</b>: {}</li>", escaped(&of.id), escaped(problem));
    }
    for refused in summary.refused.iter().take(ROWS) {
        let _ = write!(html, "<li>row {}: {}</li>", refused.line, escaped(&refused.why));
    }
    html.push_str("</ul>");
}

fn all(html: &mut String, shown: &[&Metric], scored: &[Scored]) {
    html.push_str("<h2>All prompts</h2>");
    if scored.len() > ROWS {
        let _ = write!(html, "<p class=\"note\">The first {ROWS}; eval.csv has all.</p>");
    }
    html.push_str(
        "<details><summary>Show the table</summary><div class=\"wide\"><table><thead><tr>",
    );
    html.push_str("<th>Volume</th><th>Group</th><th>Status</th><th>Answer</th>");
    for metric in shown {
        let _ = write!(html, "<th>{}</th>", metric.title);
    }
    html.push_str("</tr></thead><tbody>");
    for of in scored.iter().take(ROWS) {
        let answer: String = of.answer.as_deref().unwrap_or_default().chars().take(120).collect();
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"text\">{}</td>",
            escaped(&of.id),
            escaped(&of.group),
            escaped(&of.status),
            escaped(&answer)
        );
        for metric in shown {
            let score = of.scores.get(metric.name).map(|score| number(*score)).unwrap_or_default();
            let _ = write!(html, "<td>{score}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div></details>");
}

fn unit(metric: &Metric) -> String {
    if metric.unit.is_empty() { String::new() } else { format!(" {}", metric.unit) }
}

/// Three decimals, of large numbers fewer.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Text of files and of models, in which nothing is markup.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"x\">&\u{1b}"), "&lt;b a=&quot;x&quot;&gt;&amp; ");
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.12345, 12.345, 12345.6].map(number), ["0.123", "12.3", "12346"]);
    }
}
