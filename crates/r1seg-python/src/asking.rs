//! How a question is asked, as keywords of Python.

use pyo3::prelude::*;
use r1seg::{AskOptions, Sampling, Separator};
use r1seg_results::report::separator_name;

use crate::error::usage;

/// Tokens among which a draw is made, as in transformers.
const TOP_K: usize = 50;

/// The keywords of `ask` and `ask_many`.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) max_new_tokens: Option<usize>,
    pub(crate) temperature: f64,
    pub(crate) top_k: Option<usize>,
    pub(crate) top_p: Option<f64>,
    pub(crate) seed: Option<u64>,
    pub(crate) separator: Option<&'a str>,
    pub(crate) first_seg: bool,
    pub(crate) abstain: bool,
    pub(crate) drafts: bool,
}

impl Asking<'_> {
    pub(crate) fn options(&self, py: Python<'_>) -> PyResult<AskOptions> {
        let mut options = AskOptions::default().with_first_seg(self.first_seg);
        options.abstain = self.abstain;
        options.drafts = self.drafts;
        options.sampling = self.sampling(py)?;
        options.max_new_tokens = match self.max_new_tokens {
            Some(0) => {
                return Err(usage(py, "max_new_tokens is 0", "give at least 1"));
            }
            tokens => tokens.unwrap_or(options.max_new_tokens),
        };
        options.separator = self.separator.map(|name| separator(py, name)).transpose()?;
        Ok(options)
    }

    fn sampling(&self, py: Python<'_>) -> PyResult<Sampling> {
        let Self { temperature, top_k, top_p, seed, .. } = *self;
        if !(temperature.is_finite() && 0.0 <= temperature) {
            let message = format!("temperature is {temperature}");
            return Err(usage(
                py,
                message,
                "give 0 for the most likely answer, or a positive number",
            ));
        }
        if top_p.is_some_and(|top_p| !(0.0 < top_p && top_p <= 1.0)) {
            return Err(usage(py, "top_p is not a probability", "give a number above 0, up to 1"));
        }
        if temperature > 0.0 {
            let (top_k, top_p) = (top_k.unwrap_or(TOP_K), top_p.unwrap_or(1.0));
            return Ok(Sampling::Random { temperature, top_k, top_p, seed: seed.unwrap_or(0) });
        }
        if top_k.is_some() || top_p.is_some() || seed.is_some() {
            let message = "top_k, top_p and seed are for draws, and temperature 0 draws nothing";
            return Err(usage(py, message, "give temperature, such as 1.0, or leave them out"));
        }
        Ok(Sampling::Greedy)
    }
}

fn separator(py: Python<'_>, name: &str) -> PyResult<Separator> {
    let known = [Separator::None, Separator::Space];
    known.into_iter().find(|known| separator_name(*known) == name).ok_or_else(|| {
        let message = format!("separator is \"{name}\"");
        usage(py, message, "give \"none\" or \"space\", or leave it out")
    })
}
