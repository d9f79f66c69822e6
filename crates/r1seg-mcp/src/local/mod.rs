//! A desk for the programs of one person: volumes are paths, and results are files.

mod asked;
mod cache;
mod job;
mod lane;
mod models;
mod options;
mod roots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use r1seg::Remedy;
use r1seg::volume::read;
use r1seg_results::inspection::{Inspection, SourceFile};

use crate::args::{AskVolume, InspectVolume, SegmentVolume};
use crate::results::{Inspected, Models, Outcome, Series, Warning};
use crate::{Call, Desk, Error, Failure, Hints, Step, words};
use cache::EncodedVolumes;
use job::Job;
use lane::Lane;
use models::ServedModels;
pub use options::LocalOptions;
use roots::Roots;

/// Reads volumes within the folders that are served, and writes results below one folder, each call into a
/// new one. Models are loaded when they are first called for and kept, and so are the volumes that they
/// have encoded last, by their content. One call computes at a time; others wait.
#[derive(Debug)]
pub struct LocalDesk {
    shared: Arc<Shared>,
    /// Where models compute.
    computing: Lane,
    /// Where volumes are only looked at.
    looking: Lane,
}

#[derive(Debug)]
struct Shared {
    options: LocalOptions,
    roots: Roots,
    /// Where an earlier mask may be: what is served, and results.
    masks: Roots,
    models: ServedModels,
    encoded: EncodedVolumes,
}

impl LocalDesk {
    /// Looks at the folders and at the configurations of the models; loads no weights.
    ///
    /// # Errors
    /// [`Error::Root`] for a folder that cannot be served, [`Error::SameName`] for two models of one
    /// name, [`Error::Arguments`] for a model that no tool is for or where none is given, and those of
    /// models whose configuration cannot be read.
    pub fn new(mut options: LocalOptions) -> Result<Self, Error> {
        let roots = Roots::new(&options.roots)?;
        options.out = std::path::absolute(&options.out)
            .map_err(|source| Error::Root { path: options.out.clone(), source })?;
        let masks = roots.clone().with(options.out.clone());
        let models = ServedModels::new(std::mem::take(&mut options.models))?;
        let encoded = EncodedVolumes::new(options.kept_volumes);
        Ok(Self {
            shared: Arc::new(Shared { options, roots, masks, models, encoded }),
            computing: Lane::default(),
            looking: Lane::default(),
        })
    }

    /// Does a piece of work on a thread of its own, when its turn has come.
    async fn work<T: Send + 'static>(
        &self,
        lane: &Lane,
        call: Call,
        work: impl FnOnce(&Shared, &Call) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = Arc::clone(&self.shared);
        let done = lane.run(call, move |call| work(&shared, call)).await;
        done.map_err(|error| Failure::of_error(&error, |remedy| self.shared.words(remedy)))
    }
}

impl Desk for LocalDesk {
    fn hints(&self) -> Hints {
        let served = self.shared.roots.listed();
        let out = self.shared.options.out.display();
        Hints {
            volume: format!(
                "A CT volume: the path of a file (NIfTI, NRRD, numpy, a .zip of DICOM) or of a DICOM \
                 folder, within {served}; relative paths are relative to it."
            ),
            mask: format!("The path of a mask or a label map, within {served} or {out}."),
            results: format!("Results go to a new folder below {out} for each call."),
        }
    }

    async fn list_models(&self, _: Call) -> Result<Models, Failure> {
        let Hints { volume, results, .. } = self.hints();
        let models = self.shared.models.listed();
        Ok(Models { models, volumes: volume, results, research_use_only: true })
    }

    async fn inspect_volume(&self, args: InspectVolume, call: Call) -> Result<Inspected, Failure> {
        self.work(&self.looking, call, move |shared, call| shared.inspect(&args, call)).await
    }

    async fn ask_volume(&self, args: AskVolume, call: Call) -> Result<Outcome, Failure> {
        let run = move |shared: &Shared, call: &Call| {
            let job = Job::to_ask(shared, &args)?;
            job.run(shared, call)
        };
        self.work(&self.computing, call, run).await
    }

    async fn segment_volume(&self, args: SegmentVolume, call: Call) -> Result<Outcome, Failure> {
        let run = move |shared: &Shared, call: &Call| {
            let job = Job::to_segment(shared, &args)?;
            job.run(shared, call)
        };
        self.work(&self.computing, call, run).await
    }

    async fn finish(&self) {
        self.computing.idle().await;
        self.looking.idle().await;
    }
}

impl Shared {
    /// What to do about an error or a warning: what an agent can do, or else whoever started the server.
    fn words(&self, remedy: &Remedy) -> String {
        words(remedy).unwrap_or_else(|| (self.options.words)(remedy))
    }

    fn warnings(&self, warnings: &[r1seg::volume::Warning]) -> Vec<Warning> {
        let warning = |warning: &r1seg::volume::Warning| Warning {
            code: warning.code.to_string(),
            text: warning.text.clone(),
            fix: warning.remedy.as_ref().map(|remedy| self.words(remedy)),
        };
        warnings.iter().map(warning).collect()
    }

    fn inspect(&self, args: &InspectVolume, call: &Call) -> Result<Inspected, Error> {
        let path = self.roots.find(&args.volume)?;
        let options = asked::reading(args.read.as_ref(), &self.options.read)?;
        call.progress.report(Step::Reading);
        let loaded = match read(&path, &options) {
            Ok(loaded) => loaded,
            Err(error) => return several_series(&args.volume, error),
        };
        call.cancel.check()?;
        let (found, warnings) =
            Inspection::new(SourceFile::at(&path), &loaded, None, self.options.words)?;
        Ok(Inspected::of(&args.volume, &found, self.warnings(&warnings)))
    }
}

/// A folder of several series is not a failure: that is what there is to see.
fn several_series(volume: &str, error: r1seg::volume::Error) -> Result<Inspected, Error> {
    let Some(series) = error.series() else { return Err(error.into()) };
    Ok(Inspected {
        volume: volume.to_string(),
        kind: "dicom".to_string(),
        verdict: "choose".to_string(),
        looks_like: format!("a study of {} series", series.len()),
        series: series.iter().map(Series::from).collect(),
        research_use_only: true,
        ..Inspected::default()
    })
}

/// The name of a folder of results: that of the volume without its ending.
fn name_of(path: &Path) -> PathBuf {
    // Of a folder that the current one lies in, which results must not go into; here they go elsewhere.
    let own = || path.file_name().unwrap_or("volume".as_ref()).into();
    r1seg_results::folder_for(path).unwrap_or_else(|_| own())
}
