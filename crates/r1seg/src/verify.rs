//! Whether the files of a model are those that were converted or published.

use crate::{CancelToken, CheckpointSource, Error, ModelName};

/// Hashes every file and reads all weights for NaN and infinity: of a converted folder by its
/// manifest.json, of a downloaded model by what the hub stated. The embedded model has no files.
///
/// # Errors
/// [`Error::Checkpoint`] and [`Error::Hub`] for what differs, or where there is nothing to compare with;
/// [`Error::Cancelled`] while files from the hub are hashed.
pub(crate) fn verify(
    source: &CheckpointSource,
    name: &ModelName,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let CheckpointSource::Folder(folder) = source else { return Ok(()) };
    match r1seg_checkpoint::verify(folder, true) {
        Err(r1seg_checkpoint::Error::NoManifest { .. }) if is_snapshot(name) => {
            verify_snapshot(folder, name, cancel)
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// Whether the folder lies in the cache of the hub.
fn is_snapshot(name: &ModelName) -> bool {
    cfg!(feature = "hub") && name.revision.is_some()
}

#[cfg(feature = "hub")]
fn verify_snapshot(
    folder: &std::path::Path,
    name: &ModelName,
    cancel: &CancelToken,
) -> Result<(), Error> {
    use r1seg_hub::{Hub, HubConfig, ModelId};

    // `CACHE/models--OWNER--NAME/snapshots/REVISION`, or a folder of that.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let snapshots = folder.ancestors().find(|path| path.ends_with("snapshots"));
    let cache = snapshots.and_then(|path| path.ancestors().nth(2)).unwrap_or(&folder);
    let hub = Hub::new(HubConfig::new(cache));
    let revision = name.revision.as_deref().unwrap_or_default();
    let snapshot = hub.resolve(&ModelId::parse(&format!("{}@{revision}", name.id))?)?;
    let checks = hub.verify(&snapshot, &cancel.clone().into(), &mut |_| {})?;
    snapshot.require_intact(&checks)?;
    cancel.check()?;
    r1seg_convert::check_tensors(&snapshot.path)?;
    Ok(())
}

#[cfg(not(feature = "hub"))]
fn verify_snapshot(
    _folder: &std::path::Path,
    _name: &ModelName,
    _cancel: &CancelToken,
) -> Result<(), Error> {
    Ok(())
}
