use std::ops::Range;

/// Which voxels hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbors {
    /// Those that share a face: 6 of each.
    Faces,
    /// Those that share a face, an edge or a corner: 26 of each.
    All,
}

/// Counts connected components from the runs of foreground along W, in storage order.
pub(crate) struct Components {
    neighbors: Neighbors,
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
    pub(crate) fn new(height: usize, neighbors: Neighbors) -> Self {
        let rows = || (0..height).map(|_| Vec::new()).collect();
        Self { neighbors, before: rows(), slice: rows(), parents: Vec::new(), count: 0 }
    }

    /// Adds a run of row `y`, and returns its number, counted from 0; runs come from left to right, rows
    /// from top to bottom.
    pub(crate) fn add_run(&mut self, y: usize, columns: Range<usize>) -> usize {
        let id = self.parents.len();
        self.parents.push(id);
        self.count += 1;
        // How far a neighbor may be away beyond its own row and column.
        let reach = match self.neighbors {
            Neighbors::Faces => 0,
            Neighbors::All => 1,
        };
        let rows = y.saturating_sub(reach)..(y + 1 + reach).min(self.before.len());
        let above = y.saturating_sub(1)..y;
        for row in self.before[rows].iter().chain(&self.slice[above]) {
            // Runs are disjoint and sorted: skip those that end before this one begins.
            let first = row.partition_point(|run| run.columns.end + reach <= columns.start);
            for run in &row[first..] {
                if columns.end + reach <= run.columns.start {
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
        id
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

    /// By run, the number of its component, once all of them are added. Components are numbered from 1
    /// by their first runs.
    pub(crate) fn into_numbers(self) -> Vec<usize> {
        let (mut numbers, mut last) = (self.parents, 0);
        for id in 0..numbers.len() {
            // A parent comes before its children, so that its place already holds a number.
            let parent = numbers[id];
            numbers[id] = if parent == id {
                last += 1;
                last
            } else {
                numbers[parent]
            };
        }
        numbers
    }
}

/// The runs of a row whose voxels are `inside`, from left to right.
pub(crate) fn runs<T: Copy>(
    row: &[T],
    inside: impl Fn(T) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    let mut x = 0;
    std::iter::from_fn(move || {
        let start = x + row[x..].iter().position(|v| inside(*v))?;
        x = start + row[start..].iter().take_while(|v| inside(**v)).count();
        Some(start..x)
    })
}

fn root(parents: &mut [usize], mut id: usize) -> usize {
    while parents[id] != id {
        parents[id] = parents[parents[id]];
        id = parents[id];
    }
    id
}
