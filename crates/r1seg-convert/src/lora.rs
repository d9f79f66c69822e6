//! LoRA: low-rank updates in the checkpoint become part of the matrices they update.
//!
//! `W += alpha / r * B A`, where `W` is `[out, in]`, `B` is `[out, r]`, `A` is `[r, in]`, in f32. r is
//! the tensors'; alpha is the caller's, or `adapter_config.json`'s, or twice r, which is how
//! R1Seg-3D and M3D-LaMed are trained (r 16, alpha 32).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use r1seg_checkpoint::{AlphaSource, LoraRecord};
use rayon::prelude::*;
use serde::Deserialize;

use crate::pickle::sanitize;
use crate::source::{Stored, json, read_small};
use crate::{Error, TensorEntry};

/// What PEFT puts before every name of the model that it wraps.
const WRAPPER: &str = "base_model.model.";

/// The numbers of a LoRA training run, where the caller knows better than the files.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lora {
    /// The rank; checked against the tensors.
    pub r: Option<u64>,
    /// The numerator of the scale `alpha / r`.
    pub alpha: Option<f64>,
}

/// One matrix's update.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) a: Stored,
    pub(crate) b: Stored,
    pub(crate) scale: f64,
    /// The matrix is stored `[in, out]`.
    pub(crate) transposed: bool,
}

/// What `adapter_config.json` says, as far as it changes the arithmetic.
#[derive(Debug, Default, Deserialize)]
struct AdapterConfig {
    peft_type: Option<String>,
    r: Option<u64>,
    lora_alpha: Option<f64>,
    #[serde(default)]
    fan_in_fan_out: Option<bool>,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    use_dora: Option<bool>,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, serde_json::Value>>,
}

/// A checkpoint's tensors, sorted into the model's and its updates.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// The model's own tensors by their own names.
    pub(crate) plain: Vec<Stored>,
    /// Updates by the name of the tensor that they update.
    pub(crate) updates: BTreeMap<String, Update>,
    pub(crate) record: Option<LoraRecord>,
}

/// Whether a checkpoint holds updates.
pub(crate) fn is_lora(tensors: &[Stored]) -> bool {
    tensors.iter().any(|t| t.entry.name.contains(".lora_") || t.entry.name.starts_with(WRAPPER))
}

/// Sorts the tensors of a checkpoint with LoRA updates. `folder` may hold `adapter_config.json`.
pub(crate) fn sort(tensors: Vec<Stored>, folder: &Path, lora: Lora) -> Result<Sorted, Error> {
    let path = || folder.to_owned();
    let refuse = |message: String| Err(Error::Lora { path: path(), message });
    let config = adapter_config(folder)?;
    if let Some(alpha) = lora.alpha
        && !(alpha.is_finite() && alpha > 0.0)
    {
        return Err(Error::Option { what: format!("alpha is {alpha}; more than 0 is needed") });
    }

    let mut sorted = Sorted::default();
    let mut halves: BTreeMap<String, (Option<Stored>, Option<Stored>)> = BTreeMap::new();
    let mut adapters = BTreeSet::new();
    for mut stored in tensors {
        let name = std::mem::take(&mut stored.entry.name);
        let bare = name.strip_prefix(WRAPPER).unwrap_or(&name);
        match part(bare) {
            Part::Plain(own) => {
                stored.entry.name = own;
                sorted.plain.push(stored);
            }
            Part::Half { matrix, is_a, adapter } => {
                adapters.insert(adapter.to_owned());
                let (a, b) = halves.entry(matrix.to_owned()).or_default();
                let half = if is_a { a } else { b };
                stored.entry.name.clone_from(&name);
                if half.replace(stored).is_some() && adapters.len() == 1 {
                    return refuse(format!("`{}` is there twice", sanitize(&name)));
                }
            }
            Part::Original => {}
            Part::Unknown => {
                return refuse(format!("`{}` is of a kind that is not merged", sanitize(&name)));
            }
        }
    }
    if adapters.len() > 1 {
        return refuse(format!("there are {} adapters; one can be merged", adapters.len()));
    }

    let alpha_from = match (lora.alpha, config.lora_alpha) {
        (Some(_), _) => AlphaSource::Option,
        (None, Some(_)) => AlphaSource::AdapterConfig,
        (None, None) => AlphaSource::TwiceTheRank,
    };
    let (mut ranks, mut alphas) = (BTreeSet::new(), Vec::new());
    for (matrix, halves) in halves {
        let (Some(a), Some(b)) = halves else {
            return refuse(format!("the update of `{}` lacks one half", sanitize(&matrix)));
        };
        let ([r, _], [_, r_of_b]) = (&a.entry.shape[..], &b.entry.shape[..]) else {
            return refuse(format!("the update of `{}` is not of matrices", sanitize(&matrix)));
        };
        let r = *r;
        let wanted = lora.r.or(config.r).unwrap_or(r);
        if *r_of_b != r || r == 0 || wanted != r {
            let matrix = sanitize(&matrix);
            return refuse(format!(
                "the update of `{matrix}` has ranks {r} and {r_of_b}, expected {wanted}"
            ));
        }
        let rank = as_f64(r);
        let alpha = lora.alpha.or(config.lora_alpha).unwrap_or(2.0 * rank);
        let divisor = if config.use_rslora == Some(true) { rank.sqrt() } else { rank };
        ranks.insert(r);
        alphas.push(alpha);
        let transposed = config.fan_in_fan_out == Some(true);
        let update = Update { a, b, scale: alpha / divisor, transposed };
        sorted.updates.insert(format!("{matrix}.weight"), update);
    }
    if let Some(alpha) = alphas.first() {
        sorted.record = Some(LoraRecord {
            merged: sorted.updates.len(),
            ranks: ranks.into_iter().collect(),
            alpha: *alpha,
            alpha_from,
        });
    }
    Ok(sorted)
}

#[expect(clippy::cast_precision_loss, reason = "a rank is small")]
fn as_f64(rank: u64) -> f64 {
    rank as f64
}

enum Part<'a> {
    Plain(String),
    Half {
        matrix: &'a str,
        is_a: bool,
        adapter: &'a str,
    },
    /// Superseded by a copy that was trained.
    Original,
    Unknown,
}

/// What a name, without the wrapper's prefix, stands for.
fn part(name: &str) -> Part<'_> {
    for (marker, is_a) in [(".lora_A.", true), (".lora_B.", false)] {
        if let Some((matrix, rest)) = name.split_once(marker) {
            // In memory an adapter has a name, in its own file it has none.
            let adapter = match rest.strip_suffix("weight") {
                Some(adapter) => adapter.strip_suffix('.').unwrap_or(adapter),
                None => return Part::Unknown,
            };
            return Part::Half { matrix, is_a, adapter };
        }
    }
    if name.contains(".lora_") {
        return Part::Unknown;
    }
    if name.contains(".original_module.") {
        return Part::Original;
    }
    if let Some((module, rest)) = name.split_once(".modules_to_save.") {
        return match rest.split_once('.') {
            Some((_adapter, rest)) => Part::Plain(format!("{module}.{rest}")),
            None => Part::Unknown,
        };
    }
    Part::Plain(name.replace(".base_layer.", "."))
}

fn adapter_config(folder: &Path) -> Result<AdapterConfig, Error> {
    let path = folder.join("adapter_config.json");
    let Some(bytes) = read_small(&path)? else {
        return Ok(AdapterConfig::default());
    };
    let config = serde_json::from_slice(json(&path, &bytes)?);
    let config: AdapterConfig = config.map_err(|error| Error::Config {
        path: path.clone(),
        what: format!("is not JSON of an adapter, line {}", error.line()),
    })?;
    let unsupported = [
        (
            "a kind of adapter other than LoRA",
            config.peft_type.as_deref().is_some_and(|t| t != "LORA"),
        ),
        ("weight decomposition (DoRA)", config.use_dora == Some(true)),
        ("ranks of single matrices", config.rank_pattern.as_ref().is_some_and(|p| !p.is_empty())),
        ("alphas of single matrices", config.alpha_pattern.as_ref().is_some_and(|p| !p.is_empty())),
    ];
    if let Some((what, _)) = unsupported.iter().find(|(_, found)| *found) {
        return Err(Error::Lora { path, message: format!("{what} is not merged") });
    }
    if config.lora_alpha.is_some_and(|alpha| !alpha.is_finite() || alpha <= 0.0) {
        let message = "lora_alpha is not a number above 0".to_owned();
        return Err(Error::Lora { path, message });
    }
    Ok(config)
}

/// Both halves of an update in memory.
#[derive(Debug)]
pub(crate) struct Factors {
    /// `[r, in]`.
    pub(crate) a: Vec<f32>,
    /// `[out, r]`.
    pub(crate) b: Vec<f32>,
    pub(crate) rank: usize,
    pub(crate) inputs: usize,
    pub(crate) scale: f32,
    pub(crate) transposed: bool,
}

impl Update {
    /// Checks that the update fits the matrix.
    pub(crate) fn check(&self, matrix: &TensorEntry, folder: &Path) -> Result<(), Error> {
        let ([r, inputs], [outputs, _]) = (&self.a.entry.shape[..], &self.b.entry.shape[..]) else {
            return Err(Error::Lora {
                path: folder.to_owned(),
                message: "an update is not of matrices".to_owned(),
            });
        };
        let expected = if self.transposed { [*inputs, *outputs] } else { [*outputs, *inputs] };
        if matrix.shape != expected || !matrix.dtype.is_float() {
            return Err(Error::Lora {
                path: folder.to_owned(),
                message: format!(
                    "`{}` is {:?}, its update of rank {r} is {expected:?}",
                    sanitize(&matrix.name),
                    matrix.shape
                ),
            });
        }
        Ok(())
    }
}

/// Columns of A that fit the cache with a rank of 16.
const COLUMNS: usize = 2048;

impl Factors {
    /// Adds the update to whole rows of the matrix; the first is row `first_row`.
    pub(crate) fn add_to(&self, rows: &mut [f32], first_row: usize, row_length: usize) {
        rows.par_chunks_mut(row_length).enumerate().for_each(|(i, row)| {
            if self.transposed {
                self.add_column(row, first_row + i);
            } else {
                self.add_row(row, first_row + i);
            }
        });
    }

    fn add_row(&self, row: &mut [f32], index: usize) {
        let factors = self.b.chunks_exact(self.rank).nth(index).unwrap_or_default();
        let mut delta = [0.0f32; COLUMNS];
        for (block, row) in row.chunks_mut(COLUMNS).enumerate() {
            let delta = delta.get_mut(..row.len()).unwrap_or_default();
            delta.fill(0.0);
            for (factor, a) in factors.iter().zip(self.a.chunks_exact(self.inputs)) {
                let a = a.get(block * COLUMNS..).unwrap_or_default();
                for (delta, a) in delta.iter_mut().zip(a) {
                    *delta += factor * a;
                }
            }
            for (weight, delta) in row.iter_mut().zip(&*delta) {
                *weight += self.scale * delta;
            }
        }
    }

    /// A row of the transposed matrix: one column of A against all of B.
    fn add_column(&self, row: &mut [f32], index: usize) {
        let a: Vec<f32> =
            self.a.chunks_exact(self.inputs).filter_map(|a| a.get(index).copied()).collect();
        for (weight, b) in row.iter_mut().zip(self.b.chunks_exact(self.rank)) {
            let delta: f32 = b.iter().zip(&a).map(|(b, a)| b * a).sum();
            *weight += self.scale * delta;
        }
    }
}
