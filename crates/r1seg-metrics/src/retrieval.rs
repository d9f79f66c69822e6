//! How often what is looked for is found among the best.

use rayon::prelude::*;

use crate::Error;
use crate::error::check_length;

/// The similarities of queries (rows) and of what is searched (columns).
#[derive(Debug, Clone, Copy)]
pub struct Similarities<'a> {
    scores: &'a [f32],
    candidates: usize,
}

impl<'a> Similarities<'a> {
    /// Row by row: `scores[q * candidates + c]` is how well candidate c fits query q.
    ///
    /// # Errors
    /// `R-MET-02` unless the scores are whole rows.
    pub fn new(scores: &'a [f32], candidates: usize) -> Result<Self, Error> {
        let queries = scores.len().checked_div(candidates).unwrap_or(0);
        check_length("the matrix of similarities", scores.len(), queries * candidates)?;
        Ok(Self { scores, candidates })
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.scores.len().checked_div(self.candidates).unwrap_or(0)
    }

    /// Candidates of a query, the best first; of equal ones the first. NaN is worse than any number.
    fn ranked(&self, query: usize) -> Vec<usize> {
        let row = &self.scores[query * self.candidates..][..self.candidates];
        let mut order: Vec<usize> = (0..row.len()).collect();
        let key = |n: usize| if row[n].is_nan() { f32::NEG_INFINITY } else { row[n] };
        order.sort_by(|a, b| key(*b).total_cmp(&key(*a)));
        order
    }

    /// Of each query that has a right candidate at all, how many are ranked before the first right one.
    /// `is_right` is asked with a query and a candidate.
    pub fn places(&self, is_right: impl Fn(usize, usize) -> bool + Sync) -> Vec<usize> {
        let place = |query: usize| {
            self.ranked(query).iter().position(|candidate| is_right(query, *candidate))
        };
        (0..self.queries()).into_par_iter().filter_map(place).collect()
    }
}

/// Recall at k: the share of queries whose right candidate is among the best k, 0..1. `places` are those of
/// [`Similarities::places`]; `None` without any.
///
/// ```
/// use r1seg_metrics::retrieval::{Similarities, recall_at};
///
/// // Query n belongs to candidate n, as in M3D-Bench.
/// let scores = [0.9, 0.1, 0.3, 0.8, 0.2, 0.4, 0.1, 0.7, 0.6];
/// let places = Similarities::new(&scores, 3)?.places(|query, candidate| query == candidate);
/// assert_eq!(places, [0, 2, 1]);
/// assert_eq!([1, 2, 3].map(|k| recall_at(&places, k)), [Some(1.0 / 3.0), Some(2.0 / 3.0), Some(1.0)]);
/// # Ok::<(), r1seg_metrics::Error>(())
/// ```
pub fn recall_at(places: &[usize], k: usize) -> Option<f64> {
    let found = places.iter().filter(|place| **place < k).count();
    (!places.is_empty()).then(|| found as f64 / places.len() as f64)
}

/// HSENet's score of volumes that are searched by volumes: how much the findings of the best k have in common
/// with those of the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedFindings {
    /// How many of the best are looked at.
    pub k: usize,
    /// The mean over queries of the mean over the best k of |A and B| / |A or B| of their findings.
    pub score: f64,
    /// What the published script prints for this k: it goes on with the ratios of all smaller k, so that this
    /// is the mean over queries and over all k up to here.
    pub as_published: f64,
}

/// The score for each of the `ks`, in their order. `findings` has a row of 0 and 1 for each volume; those
/// with at least one are the gallery, and every volume is a query, which finds itself first if it is in the
/// gallery. Fewer are looked at where the gallery has fewer than k. Empty for an empty gallery.
///
/// # Errors
/// `R-MET-02` unless `similarities` compare each volume with each.
pub fn shared_findings(
    similarities: Similarities<'_>,
    findings: &[Vec<bool>],
    ks: &[usize],
) -> Result<Vec<SharedFindings>, Error> {
    let volumes = findings.len();
    check_length("a row of similarities", similarities.candidates, volumes)?;
    check_length("the matrix of similarities", similarities.scores.len(), volumes * volumes)?;
    let is_in_gallery: Vec<bool> = findings.iter().map(|row| row.contains(&true)).collect();
    if !is_in_gallery.contains(&true) {
        return Ok(Vec::new());
    }
    let ratio = |a: &[bool], b: &[bool]| {
        let count =
            |is: fn(bool, bool) -> bool| a.iter().zip(b).filter(|(a, b)| is(**a, **b)).count();
        // The gallery has a finding each, so that there is no division by 0.
        count(|a, b| a && b) as f64 / count(|a, b| a || b).max(1) as f64
    };
    let of_query = |query: usize| -> Vec<f64> {
        let mut ratios = similarities.ranked(query);
        ratios.retain(|candidate| is_in_gallery[*candidate]);
        let ratios: Vec<f64> =
            ratios.iter().map(|candidate| ratio(&findings[query], &findings[*candidate])).collect();
        let mean = |k: usize| {
            let best = &ratios[..k.clamp(1, ratios.len())];
            best.iter().sum::<f64>() / best.len() as f64
        };
        ks.iter().map(|k| mean(*k)).collect()
    };
    let of_queries: Vec<Vec<f64>> = (0..volumes).into_par_iter().map(of_query).collect();
    let mut scores: Vec<SharedFindings> = Vec::new();
    let mut sum = 0.0;
    for (n, k) in ks.iter().enumerate() {
        let score = of_queries.iter().map(|means| means[n]).sum::<f64>() / volumes as f64;
        sum += score;
        scores.push(SharedFindings { k: *k, score, as_published: sum / (n + 1) as f64 });
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_are_ranked_in_order_and_nan_is_last() {
        let scores = [0.5, 0.5, f32::NAN, f32::NAN, 0.1, 0.5];
        let similarities = Similarities::new(&scores, 3).unwrap();
        assert_eq!(similarities.ranked(0), [0, 1, 2]);
        assert_eq!(similarities.ranked(1), [2, 1, 0]);
        // A query without anything right is not asked.
        assert_eq!(similarities.places(|query, candidate| query == 0 && candidate == 1), [1]);
        assert_eq!(recall_at(&[], 5), None);
        assert!(Similarities::new(&scores, 4).is_err());
    }

    #[test]
    fn shared_findings_are_averaged_clean_and_as_published() {
        let findings = [vec![true, true], vec![true, false], vec![false, false]];
        // Volume 0 is nearest to itself, then to 1; 2 has no findings and is in no gallery.
        let scores = [1.0, 0.5, 0.9, 0.5, 1.0, 0.0, 0.1, 0.9, 1.0];
        let similarities = Similarities::new(&scores, 3).unwrap();
        let found = shared_findings(similarities, &findings, &[1, 2]).unwrap();
        let (first, second) = ((1.0 + 1.0 + 0.0) / 3.0, (0.75 + 0.75 + 0.0) / 3.0);
        assert_eq!((found[0].score, found[0].as_published), (first, first));
        assert_eq!((found[1].score, found[1].as_published), (second, (first + second) / 2.0));
        let none = [vec![false], vec![false], vec![false]];
        assert!(shared_findings(similarities, &none, &[1]).unwrap().is_empty());
        assert!(shared_findings(similarities, &findings[..2], &[1]).is_err());
    }
}
