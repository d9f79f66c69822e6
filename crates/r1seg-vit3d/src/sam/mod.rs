//! The encoder of SAM-Med3D.
//!
//! # Attention
//!
//! Blocks attend within windows of `n x n x n` cells of the grid; a global block has one window that
//! is as large as the grid. Where windows do not divide the grid it is filled up with zeros, and the
//! cells of the filling are attended to like all others: their query, key and value are the biases of
//! the projections.
//!
//! The score of the query at `(a, b, w)` and the key at `(i, j, l)` is
//!
//! ```text
//! scale q[a, b, w] · k[i, j, l] + q[a, b, w] · D[a - l] + q[a, b, i] · H[b - l] + q[a, b, j] · W[j - l]
//! ```
//!
//! with one table of relative positions per axis. Published weights were trained with these indices:
//! all tables are read with the *last* axis of the key, and the second and the third with the query
//! of another cell.
//!
//! Cells of the filling share one key and one value, and their tables depend on `l`, `(i, l)` and
//! `(j, l)` alone. So they are one key, whose score is the logarithm of what all of them weigh.

mod attention;
mod block;
mod config;
mod encoder;
mod neck;
mod positions;

pub use config::SamVitConfig;
pub use encoder::SamVit;

/// Of all norms; no config.json names it.
const NORM_EPS: f64 = 1e-6;
