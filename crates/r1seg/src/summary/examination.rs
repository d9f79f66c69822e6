//! A checkpoint as loading would see it, without its weights.

use std::collections::BTreeMap;

use candle_core::DType;
use r1seg_convert::Sandbox;
use r1seg_tokenizer::{PromptTokenizer, TextTokenizer};
use serde_json::Value;

use super::{Errors, LanguageSummary, MemoryNeed, TokenizerSummary, VisionSummary, WeightsSummary};
use crate::checkpoint::Found;
use crate::config::ConfigFile;
use crate::load::Loadable;
use crate::{
    AutomaticConfig, CheckpointSource, Error, LoadReport, M3dClipConfig, ModelConfig, PromptKind,
    PromptableConfig, memory,
};

/// What the configuration, the tokenizer and the weights say together.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) vision: Option<VisionSummary>,
    pub(super) language: Option<LanguageSummary>,
    pub(super) tokenizer: Option<TokenizerSummary>,
    pub(super) weights: Option<WeightsSummary>,
    pub(super) load: Option<LoadReport>,
    pub(super) memory: Vec<MemoryNeed>,
}

/// How the parts of a model are described.
pub(super) trait Described: Loadable {
    /// Absent where no vision transformer reads the volume.
    fn vision(&self) -> Option<VisionSummary>;
    /// Absent for a model that reads no words.
    fn language(&self) -> Option<LanguageSummary>;
    /// `raw` is config.json, which names tokens that no configuration needs.
    fn describe_tokenizer(
        &self,
        tokenizer: &Self::Tokenizer,
        raw: &Value,
    ) -> Option<TokenizerSummary>;
}

impl Described for ModelConfig {
    fn vision(&self) -> Option<VisionSummary> {
        let first = self.branches.first()?;
        Some(VisionSummary::of(&first.vit.clone().into(), Some(self.visual_tokens())))
    }

    fn language(&self) -> Option<LanguageSummary> {
        Some(LanguageSummary::of(self))
    }

    fn describe_tokenizer(
        &self,
        tokenizer: &PromptTokenizer,
        _raw: &Value,
    ) -> Option<TokenizerSummary> {
        Some(TokenizerSummary::new(tokenizer, Some(self.eos_token_ids.clone())))
    }
}

impl Described for PromptableConfig {
    fn vision(&self) -> Option<VisionSummary> {
        Some(VisionSummary::of(&self.image_encoder, None))
    }

    fn language(&self) -> Option<LanguageSummary> {
        self.text.as_ref().map(LanguageSummary::of_clip)
    }

    fn describe_tokenizer(
        &self,
        tokenizer: &Option<TextTokenizer>,
        raw: &Value,
    ) -> Option<TokenizerSummary> {
        tokenizer.as_ref().map(|tokenizer| TokenizerSummary::of_text_encoder(tokenizer, raw))
    }
}

impl Described for AutomaticConfig {
    fn vision(&self) -> Option<VisionSummary> {
        None
    }

    fn language(&self) -> Option<LanguageSummary> {
        None
    }

    fn describe_tokenizer(&self, _tokenizer: &(), _raw: &Value) -> Option<TokenizerSummary> {
        None
    }
}

impl Described for M3dClipConfig {
    fn vision(&self) -> Option<VisionSummary> {
        Some(VisionSummary::of(&self.vit.clone().into(), None))
    }

    fn language(&self) -> Option<LanguageSummary> {
        Some(LanguageSummary::of_bert(&self.text))
    }

    fn describe_tokenizer(
        &self,
        tokenizer: &TextTokenizer,
        raw: &Value,
    ) -> Option<TokenizerSummary> {
        Some(TokenizerSummary::of_text_encoder(tokenizer, raw))
    }
}

/// A checkpoint that is looked at as loading would.
pub(super) struct Examination<'a> {
    pub(super) source: &'a CheckpointSource,
    pub(super) raw: &'a Value,
    pub(super) sandbox: Option<&'a Sandbox>,
    pub(super) errors: &'a mut Errors,
}

impl Examination<'_> {
    pub(super) fn model<C: Described>(&mut self, mut config: C) -> Facts {
        let source = self.source;
        let tokenizer = self.errors.note(config.read_tokenizer(source));
        let (found, weights) = self.weights(config.head_dim());
        let mut facts = Facts { weights, ..Facts::default() };
        if let Some(found) = &found {
            config.adapt(found);
            if let Some(tokenizer) = &tokenizer {
                self.errors.note(config.check_tokenizer(tokenizer, source));
            }
            facts.load = self.errors.note(config.dry_load(found, source));
            self.errors.note(facts.load.as_ref().map_or(Ok(()), |report| source.clean(report)));
            facts.memory = memory_needs(found, &config);
        }
        let describe = |tokenizer| config.describe_tokenizer(tokenizer, self.raw);
        facts.tokenizer = tokenizer.as_ref().and_then(describe);
        (facts.vision, facts.language) = (config.vision(), config.language());
        facts
    }

    /// Where config.json cannot be used: what tokenizer and weights say by themselves.
    pub(super) fn without_config(&mut self, file: Option<&ConfigFile>) -> Facts {
        let entry = file.map(|file| file.entry);
        let reads_texts =
            entry.is_some_and(|entry| !entry.capabilities.takes(PromptKind::Question));
        let tokenizer = if reads_texts {
            let tokenizer = self.errors.note(self.source.text_tokenizer());
            tokenizer.map(|tokenizer| TokenizerSummary::of_text_encoder(&tokenizer, self.raw))
        } else {
            let files = self.errors.note(self.source.tokenizer_files());
            let read = |files| PromptTokenizer::new(&files).map_err(Error::from);
            let tokenizer = files.and_then(|files| self.errors.note(read(files)));
            tokenizer.map(|tokenizer| TokenizerSummary::new(&tokenizer, None))
        };
        let (_, weights) = self.weights(0);
        Facts { tokenizer, weights, ..Facts::default() }
    }

    fn weights(
        &mut self,
        head_dim: usize,
    ) -> (Option<BTreeMap<String, Found>>, Option<WeightsSummary>) {
        let found = self.errors.note(self.source.found(head_dim));
        let is_pickle = found.is_none();
        let found = found.or_else(|| self.source.found_in_pickles(self.sandbox));
        let weights = found.as_ref().map(|found| WeightsSummary::new(found, is_pickle));
        (found, weights)
    }
}

fn memory_needs(found: &BTreeMap<String, Found>, config: &impl Loadable) -> Vec<MemoryNeed> {
    let is_used = |name: &str| !config.keys().never_used(name);
    let used = || found.iter().filter(|(name, _)| is_used(name)).map(|(_, tensor)| tensor);
    let sum = |bytes: &dyn Fn(&Found) -> u64| used().map(bytes).fold(0u64, u64::saturating_add);
    let mut needs = Vec::new();
    for (device, dtypes) in [
        ("cpu", &[DType::BF16, DType::F16, DType::F32][..]),
        ("cuda", &[DType::BF16, DType::F16, DType::F32]),
    ] {
        for dtype in dtypes {
            let size = dtype.size_in_bytes() as u64;
            let pass = config.pass_bytes(1);
            let (weights, pass) = match device {
                "cpu" => (config.weight_bytes(sum(&|tensor| tensor.bytes_as(size))), pass),
                _ => {
                    let weights = sum(&|tensor| memory::bytes_on_gpu(tensor, size));
                    let widened = used().map(|tensor| memory::widened_on_gpu(tensor, size));
                    (weights, memory::on_gpu(pass, size).saturating_add(widened.max().unwrap_or(0)))
                }
            };
            let (bytes, dtype) = (weights.saturating_add(pass), dtype.as_str());
            needs.push(MemoryNeed { device, dtype, bytes, weights, pass });
        }
    }
    needs
}
