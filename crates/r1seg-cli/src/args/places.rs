//! Points, boxes and centers as typed, in the groups that `--target` begins.

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind};
use r1seg::volume::{Geometry, Region};
use r1seg::{Prompt, PromptPoint};

use super::boxes::{self, Millimeters};
use super::points::{Point, center_voxel, point_millimeters, point_voxels, voxel};

/// Where it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Points and boxes (SegVol, SAM-Med3D, NeuroSAM3D; points: VISTA3D)")]
struct PlaceArgs {
    /// Begin another object of this name: the points, the box and the center behind it are its own, and
    /// so is a label of the mask. May be given several times.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// A voxel of what is sought, as viewers show it (i, j, k from 0, in the order of the file); with
    /// `:neg` one beside it. May be given several times: SAM-Med3D and NeuroSAM3D read points one after
    /// the other.
    #[arg(
        long,
        value_name = "I,J,K[:pos|neg]",
        allow_hyphen_values = true,
        value_parser = point_voxels
    )]
    point: Vec<Point<i64>>,
    /// The same in mm, as viewers show positions (RAS+).
    #[arg(
        long,
        value_name = "X,Y,Z[:pos|neg]",
        allow_hyphen_values = true,
        value_parser = point_millimeters
    )]
    point_mm: Vec<Point<f64>>,
    /// A box around what is sought: the first and the last voxel, both inside. Not for SAM-Med3D, and
    /// not together with points in mode zoom.
    #[arg(
        long = "box",
        value_name = "I0,J0,K0,I1,J1,K1",
        allow_hyphen_values = true,
        value_parser = boxes::voxels
    )]
    region: Vec<Region>,
    /// The same in mm (RAS+): the smallest and the largest corner.
    #[arg(
        long,
        value_name = "X0,Y0,Z0,X1,Y1,Z1",
        allow_hyphen_values = true,
        value_parser = boxes::millimeters
    )]
    box_mm: Vec<Millimeters>,
    /// The voxel in the middle of what SAM-Med3D and NeuroSAM3D look at [default: the first positive
    /// point, else the middle of the box or of the mask].
    #[arg(long, value_name = "I,J,K", allow_hyphen_values = true, value_parser = center_voxel)]
    center: Vec<Point<i64>>,
}

/// The objects that places were given for, in the order in which they were typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    groups: Vec<Group>,
}

/// The places of one object.
#[derive(Debug, Clone, Default)]
struct Group {
    name: Option<String>,
    points: Vec<TypedPoint>,
    region: Option<TypedBox>,
    center: Option<[i64; 3]>,
}

#[derive(Debug, Clone, Copy)]
enum TypedPoint {
    Voxel(Point<i64>),
    Millimeters(Point<f64>),
}

#[derive(Debug, Clone, Copy)]
enum TypedBox {
    Voxels(Region),
    Millimeters(Millimeters),
}

/// What stands at a place of the command line.
enum Item {
    Target(String),
    Point(TypedPoint),
    Box(TypedBox),
    Center([i64; 3]),
}

impl Args for Places {
    fn augment_args(command: Command) -> Command {
        PlaceArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        PlaceArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for Places {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = PlaceArgs::from_arg_matches(matches)?;
        let mut items = Vec::new();
        let mut add = |id: &str, of: Vec<Item>| {
            items.extend(matches.indices_of(id).into_iter().flatten().zip(of));
        };
        add("target", given.target.into_iter().map(Item::Target).collect());
        let voxels = given.point.into_iter().map(|point| Item::Point(TypedPoint::Voxel(point)));
        add("point", voxels.collect());
        let mm = given.point_mm.into_iter();
        add("point_mm", mm.map(|point| Item::Point(TypedPoint::Millimeters(point))).collect());
        let voxels = given.region.into_iter();
        add("region", voxels.map(|region| Item::Box(TypedBox::Voxels(region))).collect());
        let mm = given.box_mm.into_iter();
        add("box_mm", mm.map(|corners| Item::Box(TypedBox::Millimeters(corners))).collect());
        add("center", given.center.into_iter().map(|point| Item::Center(point.at)).collect());
        items.sort_by_key(|(index, _)| *index);
        let groups = grouped(items.into_iter().map(|(_, item)| item))
            .map_err(|text| Error::raw(ErrorKind::ArgumentConflict, format!("{text}\n")))?;
        Ok(Self { groups })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn grouped(items: impl Iterator<Item = Item>) -> Result<Vec<Group>, String> {
    let mut groups: Vec<Group> = Vec::new();
    for item in items {
        if let Item::Target(name) = item {
            if groups.iter().any(|group| group.name.is_none()) {
                return Err("--target comes before the points and the box of its object".to_owned());
            }
            if name.trim().is_empty() {
                return Err("a --target is empty: give a name such as liver".to_owned());
            }
            if groups.iter().any(|group| group.name.as_ref() == Some(&name)) {
                return Err(format!("--target {name} is given twice"));
            }
            groups.push(Group { name: Some(name), ..Group::default() });
            continue;
        }
        if groups.is_empty() {
            groups.push(Group::default());
        }
        let Some(group) = groups.last_mut() else { continue };
        match item {
            Item::Target(_) => {}
            Item::Point(point) => group.points.push(point),
            Item::Box(region) => {
                if group.region.replace(region).is_some() {
                    return Err("an object has one box: --target NAME begins another".to_owned());
                }
            }
            Item::Center(voxel) => {
                if group.center.replace(voxel).is_some() {
                    return Err("an object has one --center".to_owned());
                }
            }
        }
    }
    Ok(groups)
}

/// The places of one object, each as text, as its flag takes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlaceTexts {
    pub(crate) points: Vec<String>,
    pub(crate) points_mm: Vec<String>,
    pub(crate) voxels: Option<String>,
    pub(crate) box_mm: Option<String>,
    pub(crate) center: Option<String>,
}

impl PlaceTexts {
    /// What they say; no object if there are none.
    pub(crate) fn places(&self) -> Result<Places, String> {
        let mut items = Vec::new();
        for text in &self.points {
            items.push(Item::Point(TypedPoint::Voxel(point_voxels(text)?)));
        }
        for text in &self.points_mm {
            items.push(Item::Point(TypedPoint::Millimeters(point_millimeters(text)?)));
        }
        if let Some(text) = &self.voxels {
            items.push(Item::Box(TypedBox::Voxels(boxes::voxels(text)?)));
        }
        if let Some(text) = &self.box_mm {
            items.push(Item::Box(TypedBox::Millimeters(boxes::millimeters(text)?)));
        }
        if let Some(text) = &self.center {
            items.push(Item::Center(center_voxel(text)?.at));
        }
        Ok(Places { groups: grouped(items.into_iter())? })
    }
}

impl Places {
    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// An object that has a name alone.
    pub(crate) fn bare(&self) -> Option<&str> {
        let is_bare = |group: &&Group| group.points.is_empty() && group.region.is_none();
        self.groups.iter().find(is_bare).and_then(|group| group.name.as_deref())
    }

    /// What is meant, as far as that can be told without the volume.
    pub(crate) fn outlines(&self) -> Vec<Prompt> {
        self.groups.iter().map(Group::outline).collect()
    }

    /// The objects' names, where they were given, and their places in voxels of this volume.
    pub(crate) fn prompts(
        &self,
        geometry: &Geometry,
    ) -> Result<Vec<(Option<String>, Prompt)>, r1seg::Error> {
        let prompt = |group: &Group| Ok((group.name.clone(), group.prompt(geometry)?));
        self.groups.iter().map(prompt).collect()
    }
}

impl Group {
    fn outline(&self) -> Prompt {
        let mut prompt = Prompt::default();
        for point in &self.points {
            let positive = match point {
                TypedPoint::Voxel(point) => point.positive,
                TypedPoint::Millimeters(point) => point.positive,
            };
            prompt = prompt.with_point(PromptPoint { voxel: [0; 3], positive });
        }
        prompt.center = self.center.map(|_| [0; 3]);
        match self.region {
            Some(_) => prompt.with_region(Region { start: [0; 3], end: [1; 3] }),
            None => prompt,
        }
    }

    fn prompt(&self, geometry: &Geometry) -> Result<Prompt, r1seg::Error> {
        let mut prompt = Prompt::default();
        for point in &self.points {
            let (voxel, positive) = match point {
                TypedPoint::Voxel(point) => (voxel(point.at), point.positive),
                TypedPoint::Millimeters(point) => {
                    (geometry.voxel_from_mm(point.at)?, point.positive)
                }
            };
            prompt = prompt.with_point(PromptPoint { voxel, positive });
        }
        let (voxels, mm) = match self.region {
            Some(TypedBox::Voxels(region)) => (Some(region), None),
            Some(TypedBox::Millimeters(corners)) => (None, Some(corners)),
            None => (None, None),
        };
        prompt.region = boxes::region(voxels, mm, geometry)?;
        prompt.center = self.center.map(voxel);
        prompt.check_in(geometry)?;
        Ok(prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Places, Error> {
        let command = Places::augment_args(Command::new("segment").no_binary_name(true));
        Places::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn voxels_are_in_the_order_of_the_file() {
        let places = parsed(&["--point", "1,2,3", "--center", "3,2,1"]).unwrap();
        let prompts = places.prompts(&Geometry::without_affine([4, 5, 6])).unwrap();
        let (name, prompt) = &prompts[0];
        assert_eq!((name, prompt.points[0].voxel), (&None, [3, 2, 1]));
        assert_eq!(prompt.center, Some([1, 2, 3]));
        let error = places.prompts(&Geometry::without_affine([3, 5, 6])).unwrap_err();
        assert_eq!(error.code(), "R-PNT-01");
    }

    #[test]
    fn points_of_both_kinds_keep_the_order_in_which_they_were_typed() {
        let places =
            parsed(&["--point-mm=2,2,2", "--point", "1,1,1:neg", "--point-mm=3,3,3"]).unwrap();
        let geometry = Geometry::with_spacing([5; 3], [1.0; 3]).unwrap();
        let (_, prompt) = places.prompts(&geometry).unwrap().remove(0);
        let voxels: Vec<usize> = prompt.points.iter().map(|point| point.voxel[0]).collect();
        assert_eq!(voxels, [2, 1, 3]);
        assert!(!prompt.points[1].positive);
    }

    #[test]
    fn every_target_has_the_places_behind_it() {
        assert_eq!(parsed(&["--target", "liver"]).unwrap().bare(), Some("liver"));
        let places = parsed(&[
            "--target",
            "liver",
            "--point",
            "1,1,1",
            "--point",
            "2,2,2:neg",
            "--target",
            "spleen",
            "--box",
            "0,0,0,3,3,3",
            "--center",
            "2,2,2",
        ])
        .unwrap();
        let prompts = places.prompts(&Geometry::without_affine([5; 3])).unwrap();
        let names: Vec<_> = prompts.iter().map(|(name, _)| name.as_deref()).collect();
        assert_eq!(names, [Some("liver"), Some("spleen")]);
        assert_eq!((prompts[0].1.points.len(), prompts[0].1.region), (2, None));
        let region = Region { start: [0; 3], end: [4; 3] };
        assert_eq!((prompts[1].1.points.len(), prompts[1].1.region), (0, Some(region)));
        assert_eq!((prompts[0].1.center, prompts[1].1.center), (None, Some([2; 3])));
    }

    #[test]
    fn places_that_belong_to_no_target_or_to_too_many_are_refused() {
        for (arguments, says) in [
            (&["--point", "1,1,1", "--target", "liver", "--point", "2,2,2"][..], "comes before"),
            (&["--target", " ", "--point", "1,1,1"], "is empty"),
            (
                &["--target", "a", "--point", "1,1,1", "--target", "a", "--point", "1,1,1"],
                "given twice",
            ),
            (&["--box", "0,0,0,1,1,1", "--box", "0,0,0,1,1,1"], "one box"),
            (&["--box", "0,0,0,1,1,1", "--box-mm", "0,0,0,1,1,1"], "one box"),
            (&["--point", "1,1,1", "--center", "1,1,1", "--center", "1,1,1"], "one --center"),
        ] {
            let error = parsed(arguments).unwrap_err().to_string();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
