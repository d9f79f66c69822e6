//! The handle of a loaded model, whichever network it has: how it is loaded, and how it encodes a volume.
#![expect(private_bounds, reason = "only the configurations of this crate can be loaded")]

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use r1seg_volume::Volume;

use crate::encoded::{Answering, Setup};
use crate::load::{Loadable, Loaded, Loader};
use crate::preprocess::Preparation;
use crate::{
    EncodeOptions, EncodedVolume, Error, LoadOptions, LoadedModel, ModelSource, RunContext,
};

/// A loaded model with the configuration `C`: [`R1SegModel`](crate::R1SegModel),
/// [`PromptableModel`](crate::PromptableModel), [`AutomaticModel`](crate::AutomaticModel) or
/// [`M3dClip`](crate::M3dClip).
///
/// A handle: clones share the weights, which are read-only, so that one model serves any number of
/// volumes and threads at once. The files of a checkpoint are used where they lie: they must not
/// change while a model uses them.
pub struct ModelHandle<C: Loadable> {
    pub(crate) inner: Arc<Loaded<C>>,
}

impl<C: Loadable> Clone for ModelHandle<C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<C: Loadable> fmt::Debug for ModelHandle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelHandle").field("inner", &self.inner).finish()
    }
}

impl<C: Loadable> Deref for ModelHandle<C> {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.inner.model
    }
}

impl<C: Loadable> ModelHandle<C> {
    /// Loads a model with automatic device and dtype: a checkpoint folder, or the name of a
    /// downloaded model ([`ModelSource`]). Models that are published as pickles are turned into a folder
    /// by [`convert`](crate::convert) first.
    ///
    /// # Errors
    /// As [`load_with`](Self::load_with).
    pub fn load(source: impl Into<ModelSource>) -> Result<Self, Error> {
        Self::load_with(source, &LoadOptions::default())
    }

    /// Loads a model with chosen device, dtype and limits.
    ///
    /// # Errors
    /// As [`load`](crate::load()), and [`Error::OtherFamily`] for a model of another kind.
    pub fn load_with(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        Loader::new(source, options)?.load()
    }

    /// What the checkpoint's `config.json` decided.
    pub fn config(&self) -> &C {
        &self.inner.config
    }
}

/// The configuration of a model that encodes volumes for prompts.
pub(crate) trait Encodes: Loadable {
    /// What a volume becomes.
    type Volume: Answering + 'static;

    /// Does what is done once for all prompts about a volume.
    fn encode(
        model: ModelHandle<Self>,
        prepared: (Setup, Preparation),
        options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Self::Volume, Error>;
}

impl<C: Encodes> ModelHandle<C> {
    /// Encodes a volume once, for any number of prompts.
    ///
    /// # Errors
    /// As [`encode_with`](Self::encode_with).
    pub fn encode(&self, volume: &Volume) -> Result<EncodedVolume, Error> {
        self.encode_with(volume, &EncodeOptions::default(), &mut RunContext::default())
    }

    /// Encodes a volume once, for any number of prompts, with options.
    ///
    /// # Errors
    /// When the volume cannot be prepared ([`Error::Volume`]) or the computation fails;
    /// [`Error::InvalidOption`] for a mode or a recipe of other models; [`Error::Cancelled`].
    pub fn encode_with(
        &self,
        volume: &Volume,
        options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<EncodedVolume, Error> {
        run.check()?;
        let prepared = Setup::prepare(self, volume, options)?;
        Ok(EncodedVolume::new(C::encode(self.clone(), prepared, options, run)?))
    }
}
