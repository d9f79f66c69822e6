//! What the GPU kernels of a build need, and whether a device has it.
//!
//! nvcc writes both needs at the head of every PTX file, so that this is what was built, whatever
//! the environment of the build said: `.version 9.0`, `.target sm_90a`.

use std::fmt;

use r1seg_diagnostic::Remedy;

use crate::Error;

/// PTX version, the first CUDA version that reads it, and the driver that brought that version.
const DRIVERS: [(Version, Version, u32); 11] = [
    (Version(8, 0), Version(12, 0), 525),
    (Version(8, 1), Version(12, 1), 530),
    (Version(8, 2), Version(12, 2), 535),
    (Version(8, 3), Version(12, 3), 545),
    (Version(8, 4), Version(12, 4), 550),
    (Version(8, 5), Version(12, 5), 555),
    (Version(8, 6), Version(12, 7), 565),
    (Version(8, 7), Version(12, 8), 570),
    (Version(8, 8), Version(12, 9), 575),
    (Version(9, 0), Version(13, 0), 580),
    (Version(9, 1), Version(13, 1), 590),
];

/// Major and minor: of CUDA, of PTX, or of a GPU (its compute capability).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// On which GPUs kernels run that were compiled for one compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// `sm_90a`: that capability alone.
    Alone,
    /// `sm_100f`: later ones with the same major number, too.
    Family,
    /// `sm_80`: all later ones, too.
    Later,
}

/// What kernels need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    capability: Version,
    reach: Reach,
    ptx: Version,
}

impl Needs {
    /// Those of a PTX file, if it has a header that can be read.
    pub(super) fn of(ptx: &str) -> Option<Self> {
        let directive = |name: &str| {
            let line = ptx.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
            line.split([',', ' ', '\t']).find(|word| !word.is_empty())
        };
        let (major, minor) = directive(".version ")?.trim().split_once('.')?;
        let target = directive(".target ")?.trim().strip_prefix("sm_")?;
        let (digits, reach) = match (target.strip_suffix('a'), target.strip_suffix('f')) {
            (Some(digits), _) => (digits, Reach::Alone),
            (_, Some(digits)) => (digits, Reach::Family),
            _ => (target, Reach::Later),
        };
        let capability: u32 = digits.parse().ok()?;
        Some(Self {
            capability: Version(capability / 10, capability % 10),
            reach,
            ptx: Version(major.parse().ok()?, minor.parse().ok()?),
        })
    }

    fn runs_on(&self, capability: Version) -> bool {
        match self.reach {
            Reach::Alone => capability == self.capability,
            Reach::Family => capability.0 == self.capability.0 && capability >= self.capability,
            Reach::Later => capability >= self.capability,
        }
    }

    /// The first CUDA version that reads the kernels, and the driver that brought it.
    fn driver(&self) -> Option<(Version, u32)> {
        DRIVERS.iter().find(|row| row.0 == self.ptx).map(|&(_, cuda, driver)| (cuda, driver))
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compute capability {}", self.capability)?;
        match self.reach {
            Reach::Alone => {}
            Reach::Family => write!(f, " or a later {}.x", self.capability.0)?,
            Reach::Later => write!(f, " or later")?,
        }
        match self.driver() {
            Some((cuda, driver)) => write!(f, " and a driver for CUDA {cuda} ({driver}) or later"),
            None => write!(f, " and a driver that reads PTX {}", self.ptx),
        }
    }
}

/// A GPU and its driver, as far as they tell.
#[derive(Debug, Clone)]
pub(super) struct Gpu {
    pub(super) name: String,
    pub(super) capability: Option<Version>,
    /// The newest CUDA version that the driver supports.
    pub(super) cuda: Option<Version>,
}

impl Gpu {
    /// Why kernels with these needs failed on this GPU with the driver's `status`, if it is because
    /// they were built for another GPU or a newer driver.
    pub(super) fn unfit(&self, device: String, needs: &Needs, status: &str) -> Option<Error> {
        let other_gpu = self.capability.filter(|&capability| !needs.runs_on(capability));
        let older = needs.driver().zip(self.cuda).is_some_and(|((cuda, _), has)| has < cuda);
        let remedy = match (other_gpu, needs.driver()) {
            (Some(Version(major, minor)), _) => {
                Remedy::BuildForGpu { capability: format!("{major}{minor}") }
            }
            (None, driver) if older || status.contains("UNSUPPORTED_PTX_VERSION") => {
                Remedy::UpdateDriver { driver: driver.map(|(_, driver)| driver) }
            }
            _ => return None,
        };
        let or_unknown =
            |version: Option<Version>| version.map_or("unknown".to_string(), |v| v.to_string());
        let (capability, cuda) = (or_unknown(self.capability), or_unknown(self.cuda));
        let reason = format!(
            "they need {needs}, but `{}` has compute capability {capability} and a driver for CUDA \
             {cuda} ({status})",
            self.name
        );
        Some(Error::DeviceUnfit { device, reason, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOPPER: &str = "//\n// Generated by NVIDIA NVVM Compiler\n//\n\n.version 9.0\n\
                          .target sm_90a\n.address_size 64\n";

    fn gpu(capability: Version, cuda: Version) -> Gpu {
        Gpu { name: "A GPU".to_string(), capability: Some(capability), cuda: Some(cuda) }
    }

    /// What is said about kernels on a GPU: the message and the remedy.
    fn verdict(ptx: &str, gpu: &Gpu, status: &str) -> Option<(String, Remedy)> {
        let error = gpu.unfit("cuda:0".to_string(), &Needs::of(ptx).unwrap(), status)?;
        assert_eq!((error.code(), error.kind()), ("R-DEV-02", crate::ErrorKind::Device));
        Some((error.to_string(), error.remedy().unwrap()))
    }

    #[test]
    fn the_needs_of_kernels_are_read_from_their_ptx() {
        let needs = Needs::of(HOPPER).unwrap();
        let expected = "compute capability 9.0 and a driver for CUDA 13.0 (580) or later";
        assert_eq!(needs.to_string(), expected);
        let needs = Needs::of(".version 8.5\n.target sm_80, debug\n").unwrap();
        let expected = "compute capability 8.0 or later and a driver for CUDA 12.5 (555) or later";
        assert_eq!(needs.to_string(), expected);
        let needs = Needs::of(".version 42.1\n.target sm_103f\n").unwrap();
        let expected = "compute capability 10.3 or a later 10.x and a driver that reads PTX 42.1";
        assert_eq!(needs.to_string(), expected);
        assert_eq!(Needs::of("no header"), None);
        assert_eq!(Needs::of(".version 9.0\n.target gfx942\n"), None);
    }

    #[test]
    fn kernels_run_on_the_gpus_that_their_target_reaches() {
        let reach = |target: &str| {
            let needs = Needs::of(&format!(".version 9.0\n.target {target}\n")).unwrap();
            let all = [(8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)];
            let runs = |(major, minor): &(u32, u32)| needs.runs_on(Version(*major, *minor));
            all.into_iter().filter(runs).collect::<Vec<_>>()
        };
        assert_eq!(reach("sm_90a"), [(9, 0)]);
        assert_eq!(reach("sm_89"), [(8, 9), (9, 0), (10, 0), (10, 3), (12, 0)]);
        assert_eq!(reach("sm_100f"), [(10, 0), (10, 3)]);
    }

    #[test]
    fn a_gpu_of_another_capability_is_told_for_which_the_build_is() {
        let ampere = gpu(Version(8, 0), Version(13, 0));
        let (message, remedy) = verdict(HOPPER, &ampere, "CUDA_ERROR_INVALID_PTX").unwrap();
        assert_eq!(
            message,
            "device `cuda:0` cannot run the kernels of this build of r1seg: they need compute \
             capability 9.0 and a driver for CUDA 13.0 (580) or later, but `A GPU` has compute \
             capability 8.0 and a driver for CUDA 13.0 (CUDA_ERROR_INVALID_PTX)"
        );
        assert_eq!(remedy, Remedy::BuildForGpu { capability: "80".to_string() });
    }

    #[test]
    fn an_older_driver_is_told_from_which_on_the_build_runs() {
        let old = gpu(Version(9, 0), Version(12, 8));
        let (message, remedy) =
            verdict(HOPPER, &old, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION").unwrap();
        assert!(message.contains("9.0 and a driver for CUDA 12.8 ("), "{message}");
        assert_eq!(remedy, Remedy::UpdateDriver { driver: Some(580) });
    }

    #[test]
    fn other_failures_of_a_gpu_that_fits_are_not_blamed_on_the_build() {
        let fits = gpu(Version(9, 0), Version(13, 2));
        assert_eq!(verdict(HOPPER, &fits, "CUDA_ERROR_OUT_OF_MEMORY"), None);
    }
}
