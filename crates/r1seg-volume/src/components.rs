use std::ops::Range;

/// Counts 26-connected components from the runs of foreground along W, in storage order.
pub(crate) struct Components {
    /// Runs of each row of the slice before, and of this slice.
    before: Vec<Vec<Run>>,
    slice: Vec<Vec<Run>>,
    parents: Vec<usize>,
    count: usize,
}

struct Run {
    columns: Range<usize>,
    id: usize,
}

impl Components {
    /// For slices of `height` rows.
    pub(crate) fn new(height: usize) -> Self {
        let rows = || (0..height).map(|_| Vec::new()).collect();
        Self { before: rows(), slice: rows(), parents: Vec::new(), count: 0 }
    }

    /// Adds a run of row `y`; runs come from left to right, rows from top to bottom.
    pub(crate) fn add_run(&mut self, y: usize, columns: Range<usize>) {
        let id = self.parents.len();
        self.parents.push(id);
        self.count += 1;
        let rows = y.saturating_sub(1)..(y + 2).min(self.before.len());
        let above = rows.start..y;
        for row in self.before[rows].iter().chain(&self.slice[above]) {
            // Runs are disjoint and sorted: skip those that end before this one begins.
            let first = row.partition_point(|run| run.columns.end < columns.start);
            for run in &row[first..] {
                if columns.end < run.columns.start {
                    break;
                }
                let (a, b) = (root(&mut self.parents, id), root(&mut self.parents, run.id));
                if a != b {
                    self.parents[a.max(b)] = a.min(b);
                    self.count -= 1;
                }
            }
        }
        self.slice[y].push(Run { columns, id });
    }

    /// Moves on to the next slice.
    pub(crate) fn end_slice(&mut self) {
        std::mem::swap(&mut self.before, &mut self.slice);
        for row in &mut self.slice {
            row.clear();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

fn root(parents: &mut [usize], mut id: usize) -> usize {
    while parents[id] != id {
        parents[id] = parents[parents[id]];
        id = parents[id];
    }
    id
}
