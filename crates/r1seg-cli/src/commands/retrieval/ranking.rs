//! What fits best, and how often that is right.

use r1seg::M3dClip;
use serde::Serialize;

use super::encoder::Embedded;

/// One of those that were searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hit {
    pub(super) index: usize,
    pub(super) score: f32,
}

/// All `items`, the most similar first; of equal ones the first given.
pub(super) fn rank(query: &[f32], items: &[Embedded]) -> Vec<Hit> {
    let score = |(index, item): (usize, &Embedded)| {
        let score = M3dClip::similarity(query, &item.vector);
        Hit { index, score }
    };
    let mut hits: Vec<Hit> = items.iter().enumerate().map(score).collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits
}

/// Numbers of the best that are looked at (M3D-Bench).
pub(super) const DEPTHS: [usize; 3] = [1, 5, 10];

/// How often the right one is among the best.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Recall {
    /// What is given, and what is found: `volume -> text`.
    pub(super) direction: &'static str,
    pub(super) queries: usize,
    pub(super) candidates: usize,
    pub(super) at: Vec<At>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct At {
    pub(super) k: usize,
    /// The share of queries, 0..1.
    pub(super) recall: f64,
}

/// `pairs` are indices of queries and of the items that are right for them; a query with several
/// right items is content with any. One without any, since its volume failed, is not asked.
pub(super) fn recall(
    direction: &'static str,
    queries: &[Embedded],
    items: &[Embedded],
    pairs: &[(usize, usize)],
) -> Recall {
    let first_right = |(query, embedded): (usize, &Embedded)| {
        let hits = rank(&embedded.vector, items);
        hits.iter().position(|hit| pairs.contains(&(query, hit.index)))
    };
    let is_asked =
        |(query, _): &(usize, &Embedded)| pairs.iter().any(|(paired, _)| paired == query);
    let places: Vec<Option<usize>> =
        queries.iter().enumerate().filter(is_asked).map(first_right).collect();
    let at = DEPTHS.map(|k| {
        let found = places.iter().filter(|place| place.is_some_and(|place| place < k)).count();
        At { k, recall: found as f64 / places.len().max(1) as f64 }
    });
    Recall { direction, queries: places.len(), candidates: items.len(), at: at.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(degrees: &[f32]) -> Vec<Embedded> {
        let point = |degrees: &f32| {
            let (y, x) = degrees.to_radians().sin_cos();
            Embedded { name: degrees.to_string(), recipe: None, vector: vec![x, y] }
        };
        degrees.iter().map(point).collect()
    }

    #[test]
    fn the_most_similar_is_first_and_ties_keep_their_order() {
        let items = points(&[90.0, 10.0, 180.0, 10.0]);
        let order: Vec<usize> = rank(&[1.0, 0.0], &items).iter().map(|hit| hit.index).collect();
        assert_eq!(order, [1, 3, 0, 2]);
    }

    #[test]
    fn recall_counts_queries_whose_right_item_is_near_enough() {
        let queries = points(&[0.0, 20.0, 40.0, 60.0]);
        // The third is third for its query, the others are first.
        let items = points(&[0.0, 20.0, 75.0, 60.0, 45.0]);
        let pairs = [(0, 0), (1, 1), (2, 2), (3, 3)];
        let recall = recall("volume -> text", &queries, &items, &pairs);
        let at: Vec<(usize, f64)> = recall.at.iter().map(|at| (at.k, at.recall)).collect();
        assert_eq!(at, [(1, 0.75), (5, 1.0), (10, 1.0)]);
        assert_eq!((recall.queries, recall.candidates), (4, 5));
    }

    #[test]
    fn a_query_without_a_right_item_is_not_counted() {
        let (queries, items) = (points(&[0.0, 90.0]), points(&[1.0]));
        let recall = recall("text -> volume", &queries, &items, &[(0, 0)]);
        assert_eq!((recall.queries, recall.at[0].recall), (1, 1.0));
    }

    #[test]
    fn any_of_several_right_items_counts() {
        let (queries, items) = (points(&[0.0]), points(&[50.0, 1.0]));
        let recall = recall("text -> volume", &queries, &items, &[(0, 0), (0, 1)]);
        assert_eq!(recall.at[0].recall, 1.0);
    }
}
