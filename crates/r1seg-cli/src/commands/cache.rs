//! `r1seg cache`: the models that were downloaded.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::Drafts;
use r1seg::hub::{CachedModel, Hub, ModelId};
use r1seg::registry;
use serde::Serialize;

use crate::args::{CacheAction, CacheArgs};
use crate::exit::{Exit, say};
use crate::model;
use crate::progress::{counted, gigabytes};

#[derive(Serialize)]
struct Model {
    model: String,
    bytes: u64,
    incomplete_bytes: u64,
    revisions: Vec<Revision>,
}

#[derive(Serialize)]
struct Revision {
    commit: String,
    refs: Vec<String>,
    path: String,
    files: usize,
    bytes: u64,
}

pub(crate) fn run(args: &CacheArgs) -> Result<Exit> {
    let hub = registry::hub()?;
    let mut out = std::io::stdout().lock();
    match &args.action {
        CacheAction::Path => writeln!(out, "{}", hub.config().cache.display())?,
        CacheAction::Remove { model } => {
            let id = registry::model_id(model)?;
            // Without @REV all revisions go, although `main` is what the name alone means elsewhere.
            let freed = if model.contains('@') {
                hub.remove(&id)?
            } else {
                let freed = remove_all(&hub, &id)?;
                forget(Some(&id.repository()))?;
                freed
            };
            say!("r1seg: {} freed", gigabytes(freed));
        }
        CacheAction::Forget { model } => {
            let forgotten = forget(model.as_deref().map(name_of).as_deref())?;
            say!("r1seg: answers of {} forgotten", counted(forgotten as u64, ["model", "models"]));
        }
        CacheAction::List { json: true } => {
            let models: Vec<Model> = hub.list()?.into_iter().map(Model::from).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&models)?)?;
        }
        CacheAction::List { json: false } => {
            let models = hub.list()?;
            if models.is_empty() {
                say!("r1seg: no models in {}", hub.config().cache.display());
            }
            for model in &models {
                list(&mut out, model)?;
            }
        }
    }
    Ok(Exit::Answered)
}

/// The name under which the answers of a model are kept, which need not be there any more.
fn name_of(model: &str) -> String {
    match model::source_of(Path::new(model)) {
        Ok((_, name)) => name.id,
        Err(_) => registry::model_id(model).map_or_else(|_| model.into(), |id| id.repository()),
    }
}

/// Deletes the answers that are kept of a model, or of all, and returns of how many models there were some.
fn forget(model: Option<&str>) -> Result<usize> {
    let folder = model::kept_answers();
    Ok(folder.map_or(Ok(0), |folder| Drafts::forget_kept(&folder, model))?)
}

/// Removes every revision; the first that is not there is an error.
fn remove_all(hub: &Hub, id: &ModelId) -> Result<u64> {
    let repository = id.repository();
    let cached = hub.list()?.into_iter().find(|model| model.id.repository() == repository);
    let Some(cached) = cached.filter(|model| !model.revisions.is_empty()) else {
        return Ok(hub.remove(id)?);
    };
    let mut freed = 0;
    for revision in &cached.revisions {
        freed += hub.remove(&ModelId::parse(&format!("{repository}@{}", revision.commit))?)?;
    }
    Ok(freed)
}

fn list(out: &mut impl Write, model: &CachedModel) -> Result<()> {
    writeln!(out, "{}  {}", model.id.repository(), gigabytes(model.bytes))?;
    for revision in &model.revisions {
        let refs = revision.refs.join(", ");
        let refs = if refs.is_empty() { refs } else { format!("  ({refs})") };
        writeln!(out, "  @{}  {} files{refs}", revision.commit, revision.files)?;
    }
    if 0 < model.incomplete_bytes {
        writeln!(out, "  {} of broken downloads", gigabytes(model.incomplete_bytes))?;
    }
    Ok(())
}

impl From<CachedModel> for Model {
    fn from(model: CachedModel) -> Self {
        let revision = |r: r1seg::hub::CachedRevision| Revision {
            commit: r.commit,
            refs: r.refs,
            path: r.path.display().to_string(),
            files: r.files,
            bytes: r.bytes,
        };
        Self {
            model: model.id.repository(),
            bytes: model.bytes,
            incomplete_bytes: model.incomplete_bytes,
            revisions: model.revisions.into_iter().map(revision).collect(),
        }
    }
}
