//! Scores put together: by group and over all, with how sure they are.

use std::collections::{BTreeMap, HashMap};

use r1seg_metrics::{Bootstrap, Interval};
use serde::Serialize;

use super::case::Refused;
use super::metrics::METRICS;
use super::score::Scored;

/// Bins of the calibration of `[SEG]`.
const BINS: usize = 10;

/// What an evaluation came to.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) schema_version: u32,
    pub(super) r1seg_version: &'static str,
    pub(super) model: String,
    pub(super) data: String,
    pub(super) layout: String,
    pub(super) settings: Settings,
    pub(super) counts: Counts,
    /// Over all prompts.
    pub(super) overall: BTreeMap<&'static str, Mean>,
    /// The mean of the means of groups, in which each counts the same.
    pub(super) mean_of_groups: BTreeMap<&'static str, f64>,
    pub(super) groups: Vec<Group>,
    pub(super) calibration: Vec<Bin>,
    /// Mean Dice after each click.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) clicks: Vec<f64>,
    pub(super) refused: Vec<Refused>,
    pub(super) research_use_only: bool,
}

/// How it was scored.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) empty: &'static str,
    pub(super) tolerance_mm: Option<f64>,
    pub(super) draw: u64,
    pub(super) confidence: f64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) cases: usize,
    pub(super) prompts: usize,
    pub(super) scored: usize,
    pub(super) failed: usize,
    pub(super) missing: usize,
    pub(super) refused: usize,
}

/// A mean, and the interval that it lies in with 95 % confidence.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Mean {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) median: f64,
    pub(super) count: usize,
}

/// The prompts of one organ, task or type of question.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) prompts: usize,
    pub(super) without_mask: usize,
    pub(super) scores: BTreeMap<&'static str, Mean>,
}

/// Prompts whose `[SEG]` had about the same probability.
#[derive(Debug, Serialize)]
pub(super) struct Bin {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) count: usize,
    pub(super) mean_probability: f64,
    pub(super) mean_dice: f64,
}

/// Means by metric, and of each group.
pub(super) fn groups(scored: &[Scored]) -> (BTreeMap<&'static str, Mean>, Vec<Group>) {
    let all: Vec<&Scored> = scored.iter().collect();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut members: Vec<(&str, Vec<&Scored>)> = Vec::new();
    for of in scored {
        let place = *places.entry(&of.group).or_insert(members.len());
        match members.get_mut(place) {
            Some((_, own)) => own.push(of),
            None => members.push((&of.group, vec![of])),
        }
    }
    let group = |(name, own): (&str, Vec<&Scored>)| {
        let without = own.iter().filter(|of| of.status == "not_found").count();
        Group {
            name: name.to_owned(),
            prompts: own.len(),
            without_mask: without,
            scores: means(&own),
        }
    };
    (means(&all), members.into_iter().map(group).collect())
}

/// Of each metric the mean of the groups' means.
pub(super) fn mean_of_groups(groups: &[Group]) -> BTreeMap<&'static str, f64> {
    let mean = |name: &'static str| {
        let means: Vec<f64> =
            groups.iter().filter_map(|of| Some(of.scores.get(name)?.mean)).collect();
        (!means.is_empty()).then(|| (name, means.iter().sum::<f64>() / means.len() as f64))
    };
    METRICS.iter().filter_map(|metric| mean(metric.name)).collect()
}

fn means(scored: &[&Scored]) -> BTreeMap<&'static str, Mean> {
    let mean = |name: &'static str| {
        let values: Vec<f64> =
            scored.iter().filter_map(|of| of.scores.get(name).copied()).collect();
        let Interval { value, low, high } =
            Bootstrap::default().mean(values.iter().copied().map(Some))?;
        Some((
            name,
            Mean { mean: value, low, high, median: quantile(&values, 0.5), count: values.len() },
        ))
    };
    METRICS.iter().filter_map(|metric| mean(metric.name)).collect()
}

/// By linear interpolation, as numpy's default; NaN of nothing.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

/// How Dice follows from the probability of `[SEG]`.
pub(super) fn calibration(scored: &[Scored]) -> Vec<Bin> {
    let pairs: Vec<(f64, f64)> = scored
        .iter()
        .filter_map(|of| Some((of.seg_probability?, *of.scores.get("dice")?)))
        .collect();
    (0..BINS)
        .filter_map(|bin| {
            let (low, high) = (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64);
            let is_last = bin + 1 == BINS;
            let own: Vec<(f64, f64)> = pairs
                .iter()
                .copied()
                .filter(|(p, _)| low <= *p && (*p < high || is_last))
                .collect();
            let mean =
                |of: fn(&(f64, f64)) -> f64| own.iter().map(of).sum::<f64>() / own.len() as f64;
            (!own.is_empty()).then(|| Bin {
                low,
                high,
                count: own.len(),
                mean_probability: mean(|pair| pair.0),
                mean_dice: mean(|pair| pair.1),
            })
        })
        .collect()
}

/// The rows of eval.csv.
pub(super) fn csv(scored: &[Scored]) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let fixed = ["id", "dataset", "group", "status", "problem", "prompt", "answer", "expected"];
    let metrics = METRICS.iter().map(|metric| metric.name);
    table.write_record(fixed.into_iter().chain(["seg_probability"]).chain(metrics))?;
    for of in scored {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let number = |number: Option<f64>| number.map(|n| n.to_string()).unwrap_or_default();
        let mut row = vec![
            of.id.clone(),
            text(&of.dataset),
            of.group.clone(),
            of.status.clone(),
            text(&of.problem),
            text(&of.prompt),
            text(&of.answer),
            text(&of.expected),
            number(of.seg_probability),
        ];
        row.extend(METRICS.iter().map(|metric| number(of.scores.get(metric.name).copied())));
        table.write_record(row)?;
    }
    table.into_inner().map_err(|e| csv::Error::from(e.into_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(group: &str, dice: f64, probability: f64) -> Scored {
        Scored {
            group: group.to_owned(),
            status: "found".to_owned(),
            scores: BTreeMap::from([("dice", dice)]),
            seg_probability: Some(probability),
            ..Scored::default()
        }
    }

    #[test]
    fn groups_keep_their_order_and_count_the_same_in_their_mean() {
        let all = [
            scored("spleen", 1.0, 0.95),
            scored("liver", 0.5, 0.95),
            scored("spleen", 0.8, 0.15),
            scored("spleen", 0.9, 1.0),
        ];
        let (overall, groups) = groups(&all);
        assert!((overall["dice"].mean - 0.8).abs() < 1e-12);
        let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["spleen", "liver"]);
        assert!((groups[0].scores["dice"].mean - 0.9).abs() < 1e-12);
        assert!((mean_of_groups(&groups)["dice"] - 0.7).abs() < 1e-12);
        let bins = calibration(&all);
        assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [1, 3]);
        assert!((bins[1].mean_dice - 0.8).abs() < 1e-12);
        let text = String::from_utf8(csv(&all).unwrap()).unwrap();
        assert!(text.lines().next().unwrap().starts_with("id,dataset,group,status"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[4.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.25), 1.25);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
