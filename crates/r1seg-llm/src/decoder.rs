//! The decoder of the Llama family, without a tokenizer. Keys:
//! `model.{embed_tokens,layers.N.{input_layernorm,self_attn,post_attention_layernorm,mlp},norm}`,
//! `lm_head`. Port of `modeling_{phi3,llama,qwen2,mistral}.py`, transformers 4.46.3.

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use r1seg_nn::{
    Embedding, Linear, Probe, RmsNorm, Rotary, Weights, embedding, linear_no_bias, rms_norm,
};

use crate::attention::Attention;
use crate::cache::KvCache;
use crate::config::DecoderConfig;
use crate::mlp::Mlp;
use crate::rope::RotaryEmbedding;

/// A sequence's share of a pass over several.
pub(crate) struct Sequence<'a> {
    /// Number of its rows.
    pub(crate) len: usize,
    pub(crate) rotary: Rotary,
    pub(crate) cache: &'a mut KvCache,
}

/// Which positions of each sequence leave a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    All,
    Last,
}

impl Positions {
    /// How many of `len` these are.
    fn of(self, len: usize) -> usize {
        match self {
            Self::All => len,
            Self::Last => len.min(1),
        }
    }

    /// Of `[1, L, ..]`, the rows of one sequence.
    pub(crate) fn select(self, x: &Tensor) -> Result<Tensor> {
        let len = x.dim(1)?;
        x.narrow(1, len - self.of(len), self.of(len))
    }
}

/// The rows of each sequence, of so many one after the other.
///
/// # Shapes
/// - `x`: `[1, sum of lens, ..]`    - returns: `[1, len, ..]` each
pub(crate) fn split(x: &Tensor, lens: impl Iterator<Item = usize>) -> Result<Vec<Tensor>> {
    let mut first = 0;
    let of_one = lens.map(|len| {
        first += len;
        x.narrow(1, first - len, len)
    });
    of_one.collect()
}

/// A decoder-only language model: embeddings in, hidden states out.
///
/// The weights are read-only and shared by any number of threads; what a run changes is in the
/// [`KvCache`] that its caller owns.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    activation_dtype: DType,
    device: Device,
    /// `[V, hidden]`
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: RotaryEmbedding,
}

/// What one pass through a [`Decoder`] reads of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct DecoderInput<'a> {
    /// `[1, L, hidden]`: the embeddings of the positions that follow those in the cache.
    pub inputs_embeds: &'a Tensor,
    /// Length of the whole sequence that this pass is a part of, at least the filled positions
    /// plus `L`. Longrope chooses its frequencies by it, as transformers does for a prompt that it
    /// sees at once: a pass over the prefix of a known prompt is given the prompt's length. Keys
    /// that are already cached keep the frequencies they were made with.
    pub sequence_length: usize,
}

impl Decoder {
    /// Loads the weights from the root of a checkpoint.
    ///
    /// The weights keep the dtype of `weights`. `activation` is the dtype of everything computed from
    /// them: [`DType::F32`] on a CPU, the dtype of the weights on a GPU.
    ///
    /// # Errors
    /// When the configuration does not [`validate`](DecoderConfig::validate), or a tensor is
    /// missing or misshaped.
    pub fn new(config: &DecoderConfig, weights: Weights, activation: DType) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let model = weights.pp("model");
        let table = model.pp("embed_tokens");
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::new(config, &model.pp("layers").pp(i)))
            .collect::<Result<Vec<_>>>()?;
        let (embed_tokens, lm_head) = if config.tie_word_embeddings {
            // One matrix for both: what is multiplied with has to be on the device.
            let both = table.matrix((vocabulary, hidden), "weight")?;
            (Embedding::new(both.clone(), &table), Linear::from_matrices(vec![both], None)?)
        } else {
            let lm_head = linear_no_bias(hidden, vocabulary, weights.pp("lm_head"))?;
            (embedding(vocabulary, hidden, table)?, lm_head)
        };
        Ok(Self {
            config: config.clone(),
            activation_dtype: activation,
            device: weights.device().clone(),
            embed_tokens,
            layers,
            norm: rms_norm(hidden, config.rms_norm_eps, model.pp("norm"))?,
            lm_head,
            rotary: RotaryEmbedding::new(config),
        })
    }

    /// The architecture.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The dtype of embeddings and hidden states.
    pub fn activation_dtype(&self) -> DType {
        self.activation_dtype
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether a row of a pass gets what it gets alone, to the last bit, as long as the pass has a few of them:
    /// then guesses of what comes next can be checked several at a time
    /// ([`GenerationOptions::drafts`](crate::GenerationOptions)). A GPU and activations in half precision
    /// take other products for several rows, which round differently.
    pub fn checks_drafts(&self) -> bool {
        self.device.is_cpu() && self.activation_dtype == DType::F32
    }

    /// Whether a token is in the vocabulary.
    pub(crate) fn knows(&self, id: u32) -> bool {
        usize::try_from(id).is_ok_and(|id| id < self.config.vocab_size)
    }

    /// By how many positions a sequence of `length` can grow until its positions rotate by other
    /// frequencies.
    pub(crate) fn alike_beyond(&self, length: usize) -> usize {
        self.rotary.alike_beyond(length)
    }

    /// An empty cache with room for `capacity` positions.
    pub fn new_cache(&self, capacity: usize) -> KvCache {
        KvCache::new(self.layers.len(), capacity)
    }

    /// The embeddings of token ids.
    ///
    /// # Shapes
    /// - `ids`: `L` of them    - returns: `[1, L, hidden]`, in the activation dtype
    ///
    /// # Errors
    /// When there is no id or one is not in the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let vocabulary = self.config.vocab_size;
        if ids.is_empty() {
            bail!("there are no token ids to embed")
        }
        if let Some(id) = ids.iter().find(|id| !self.knows(**id)) {
            bail!("token id {id} is outside the vocabulary of {vocabulary}")
        }
        self.embed_tokens.forward(ids)?.to_dtype(self.activation_dtype)?.unsqueeze(0)
    }

    /// Runs the layers and the final norm, and fills the cache: [`forward_many`](Self::forward_many)
    /// of one sequence.
    ///
    /// # Shapes
    /// - `input.inputs_embeds`: `[1, L, hidden]`
    /// - returns: `[1, L, hidden]`, hidden states after the final norm, in the activation dtype
    ///
    /// # Errors
    /// As [`forward_many`](Self::forward_many).
    pub fn forward(
        &self,
        input: DecoderInput<'_>,
        cache: &mut KvCache,
        probe: &dyn Probe,
    ) -> Result<Tensor> {
        let mut sequences = [self.sequence(&input, cache)?];
        self.pass(&[input.inputs_embeds], &mut sequences, Positions::All, probe)
    }

    /// Runs several sequences in one pass, each of its own length and with its own cache.
    ///
    /// Norms, linear layers and the MLP see the rows of all sequences as one matrix, so that the
    /// weights are read once for all; positions and attention are each sequence's own. A sequence
    /// gets what it gets alone, up to the order of f32 sums, as long as the others do not raise
    /// the rows of the pass above [`FEW_ROWS`](r1seg_nn::FEW_ROWS) when its own are not: only
    /// products of more rows may round activations.
    ///
    /// # Shapes
    /// - `inputs_embeds` of sequence i: `[1, L_i, hidden]`
    /// - returns: `[1, L_i, hidden]` each, hidden states after the final norm, in the activation
    ///   dtype
    ///
    /// # Errors
    /// When there is no sequence, the shapes do not fit, a cache is another decoder's, the backend
    /// cannot run an operation, or `probe` ends the pass within a layer. All caches are then as they
    /// were.
    pub fn forward_many(
        &self,
        batch: &mut [(DecoderInput<'_>, &mut KvCache)],
        probe: &dyn Probe,
    ) -> Result<Vec<Tensor>> {
        self.forward_positions(batch, Positions::All, probe)
    }

    /// As [`forward_many`](Self::forward_many), for the last position of each sequence alone: of the
    /// others the last layer computes keys and values only, for which a prompt is read.
    ///
    /// # Shapes
    /// - returns: `[1, 1, hidden]` each
    ///
    /// # Errors
    /// As [`forward_many`](Self::forward_many).
    pub fn forward_last(
        &self,
        batch: &mut [(DecoderInput<'_>, &mut KvCache)],
        probe: &dyn Probe,
    ) -> Result<Vec<Tensor>> {
        self.forward_positions(batch, Positions::Last, probe)
    }

    pub(crate) fn forward_positions(
        &self,
        batch: &mut [(DecoderInput<'_>, &mut KvCache)],
        positions: Positions,
        probe: &dyn Probe,
    ) -> Result<Vec<Tensor>> {
        let inputs: Vec<&Tensor> = batch.iter().map(|(input, _)| input.inputs_embeds).collect();
        let mut sequences = batch
            .iter_mut()
            .map(|(input, cache)| self.sequence(input, cache))
            .collect::<Result<Vec<_>>>()?;
        let hidden_states = self.pass(&inputs, &mut sequences, positions, probe)?;
        split(&hidden_states, sequences.iter().map(|sequence| positions.of(sequence.len)))
    }

    /// Checks what a pass is given of one sequence.
    fn sequence<'c>(
        &self,
        input: &DecoderInput<'_>,
        cache: &'c mut KvCache,
    ) -> Result<Sequence<'c>> {
        let (b, len, hidden) = input.inputs_embeds.dims3()?;
        if b != 1 || hidden != self.config.hidden_size || len == 0 {
            bail!(
                "expected embeddings of shape [1, L > 0, {}], got {:?}",
                self.config.hidden_size,
                input.inputs_embeds.dims()
            )
        }
        if cache.num_layers() != self.layers.len() {
            bail!(
                "a cache of {} layers was given to a decoder of {}",
                cache.num_layers(),
                self.layers.len()
            )
        }
        let past = cache.len();
        if input.sequence_length < past + len {
            bail!(
                "a sequence of {} tokens cannot hold {past} cached and {len} new positions",
                input.sequence_length
            )
        }
        let rotary = self.rotary.tables(past, len, input.sequence_length, &self.device)?;
        Ok(Sequence { len, rotary, cache })
    }

    /// # Shapes
    /// - `inputs`: `[1, L_i, hidden]` each    - returns: `[1, sum of positions, hidden]`
    fn pass(
        &self,
        inputs: &[&Tensor],
        sequences: &mut [Sequence<'_>],
        positions: Positions,
        probe: &dyn Probe,
    ) -> Result<Tensor> {
        let mut x = Tensor::cat(inputs, 1)?.to_dtype(self.activation_dtype)?;
        let last = self.layers.len().saturating_sub(1);
        for (i, layer) in self.layers.iter().enumerate() {
            let wanted = if i == last { positions } else { Positions::All };
            probe.check_cancelled()?;
            let attended = layer.attend(&x, i, sequences, wanted)?;
            probe.check_cancelled()?;
            x = layer.transform(&attended)?;
        }
        let hidden_states = self.norm.forward(&x)?;
        for sequence in sequences {
            sequence.cache.advance(sequence.len);
        }
        Ok(hidden_states)
    }

    /// The token logits of hidden states. Only rows that are needed should go through here: for
    /// a prompt that is the last one.
    ///
    /// # Shapes
    /// - `hidden_states`: `[.., hidden]`    - returns: `[.., V]`, in f32
    ///
    /// # Errors
    /// When the width does not fit or the backend cannot run the operation.
    pub fn logits(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.lm_head.forward_f32(hidden_states)
    }
}

#[derive(Debug, Clone)]
struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let norm = |key: &str| rms_norm(config.hidden_size, config.rms_norm_eps, weights.pp(key));
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::new(config, &weights.pp("self_attn"))?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::new(config, &weights.pp("mlp"))?,
        })
    }

    /// The first half: `x + attention(norm(x))`.
    ///
    /// # Shapes
    /// - `x`: `[1, R, hidden]`, the rows of all sequences
    /// - returns: `[1, sum of positions, hidden]`
    fn attend(
        &self,
        x: &Tensor,
        layer: usize,
        sequences: &mut [Sequence<'_>],
        positions: Positions,
    ) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(x)?;
        let residual = match positions {
            Positions::All => x.clone(),
            Positions::Last => {
                let rows = split(x, sequences.iter().map(|sequence| sequence.len))?;
                let rows = rows.iter().map(|rows| positions.select(rows));
                Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 1)?
            }
        };
        self.self_attn.forward_add(&normed, layer, sequences, positions, &residual)
    }

    /// The second half: `x + mlp(norm(x))`.
    ///
    /// # Shapes
    /// - `x`: `[1, R, hidden]`    - returns: the same
    fn transform(&self, x: &Tensor) -> Result<Tensor> {
        self.mlp.forward_add(&self.post_attention_layernorm.forward(x)?, x)
    }
}
