//! The classes of VISTA3D by name and by number.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

use crate::Error;
use crate::terms;
use crate::terms::spelling::{fold, nearest, normalize};

/// Suggestions that an error makes.
const MOST_SUGGESTIONS: usize = 3;

/// What a model makes of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassStatus {
    /// Segmented on request, and a part of what is segmented when no class is asked for.
    Everything,
    /// Segmented on request only: tumors, vessels of the liver, lesions of bones and the airway lie
    /// within other classes.
    OnRequest,
    /// Stands for several other classes, its parts.
    Group,
    /// Has a number, and was not trained.
    Unsupported,
}

/// What a scan shows, for models that segment other classes in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scan {
    /// A CT of any part of the body.
    CtBody,
    /// An MRI of the trunk.
    MriBody,
    /// An MRI of the brain.
    MriBrain,
}

impl Scan {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::CtBody, Self::MriBody, Self::MriBrain];

    /// Such as `mri-body`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CtBody => "ct-body",
            Self::MriBody => "mri-body",
            Self::MriBrain => "mri-brain",
        }
    }
}

impl fmt::Display for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As [`as_str`](Scan::as_str) has it, or as the publisher writes it: `MRI_BODY`.
impl FromStr for Scan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text.to_ascii_lowercase().replace('_', "-");
        Self::ALL.into_iter().find(|scan| scan.as_str() == name).ok_or_else(|| Error::BadChoice {
            what: "scan",
            value: text.to_string(),
            expected: "ct-body, mri-body or mri-brain",
        })
    }
}

/// An organ, a vessel, a bone, a lesion, or a group of these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Class {
    /// Its number in the network, and its label in masks.
    pub id: u16,
    /// As the publisher of the weights spells it.
    pub name: &'static str,
    /// What the model makes of it.
    pub status: ClassStatus,
    /// The classes that a group stands for, in order; empty for all others.
    pub parts: Vec<u16>,
}

/// The classes of a model.
#[derive(Clone, PartialEq, Eq)]
pub struct ClassTable {
    classes: Vec<Class>,
    everything: Vec<(Scan, Vec<u16>)>,
    special: Vec<u16>,
    zero_shot: Option<RangeInclusive<u16>>,
    /// Indices of classes by [`words`] of their names.
    by_words: HashMap<String, usize>,
}

static CT: LazyLock<ClassTable> =
    LazyLock::new(|| ClassTable::parse(include_str!("ct.tsv"), Some(133..=254)));
static CTMR: LazyLock<ClassTable> =
    LazyLock::new(|| ClassTable::parse(include_str!("ctmr.tsv"), None));

/// Hundreds of names would hide what else a model is shown with.
impl fmt::Debug for ClassTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.classes.len();
        f.debug_struct("ClassTable").field("classes", &count).finish_non_exhaustive()
    }
}

impl ClassTable {
    /// The 132 of NV-Segment-CT (VISTA3D), 127 of which can be asked for.
    pub fn ct() -> &'static Self {
        &CT
    }

    /// The 345 of NV-Segment-CTMR.
    pub fn ctmr() -> &'static Self {
        &CTMR
    }

    /// That of a published repository, such as `nvidia/NV-Segment-CT`.
    pub fn of_repository(repository: &str) -> Option<&'static Self> {
        match repository {
            "nvidia/NV-Segment-CT" => Some(Self::ct()),
            "nvidia/NV-Segment-CTMR" => Some(Self::ctmr()),
            _ => None,
        }
    }

    fn parse(table: &'static str, zero_shot: Option<RangeInclusive<u16>>) -> Self {
        let mut parsed = Self {
            classes: Vec::new(),
            everything: Vec::new(),
            special: Vec::new(),
            zero_shot,
            by_words: HashMap::new(),
        };
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let mut cells = line.split('\t');
            let mut cell = || cells.next().unwrap_or_default();
            let (kind, name, status, listed) = (cell(), cell(), cell(), ids(cell()));
            match kind {
                "everything" => parsed.everything.extend(name.parse().map(|scan| (scan, listed))),
                "special" => parsed.special = listed,
                id => {
                    if let (Ok(id), Some(status)) = (id.parse(), class_status(status)) {
                        parsed.by_words.insert(words(name), parsed.classes.len());
                        parsed.classes.push(Class { id, name, status, parts: listed });
                    }
                }
            }
        }
        parsed
    }

    /// All classes, in ascending order of their numbers, with groups and those that are not supported.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of a number.
    pub fn get(&self, id: u16) -> Option<&Class> {
        let at = self.classes.binary_search_by_key(&id, |class| class.id).ok()?;
        self.classes.get(at)
    }

    /// The name of a number.
    pub fn name(&self, id: u16) -> Option<&'static str> {
        self.get(id).map(|class| class.name)
    }

    /// The kinds of scans that the model has a list of everything for.
    pub fn scans(&self) -> impl Iterator<Item = Scan> + '_ {
        self.everything.iter().map(|(scan, _)| *scan)
    }

    /// What is segmented in a CT when no class is asked for.
    pub fn everything(&self) -> &[u16] {
        self.everything_in(Scan::CtBody).unwrap_or_default()
    }

    /// What is segmented in a scan of this kind when no class is asked for; `None` where the model is
    /// not for such scans.
    pub fn everything_in(&self, scan: Scan) -> Option<&[u16]> {
        self.everything.iter().find(|(known, _)| *known == scan).map(|(_, ids)| ids.as_slice())
    }

    /// Whether points that come with this class are marked as those of a special class, as the
    /// publisher's program marks them. (The list that the network was trained with is another.)
    pub fn is_special_for_points(&self, id: u16) -> bool {
        self.special.contains(&id)
    }

    /// The classes whose points are marked so, in ascending order.
    pub fn special_for_points(&self) -> &[u16] {
        &self.special
    }

    /// Whether it is one of the numbers for objects that only points describe.
    pub fn is_zero_shot(&self, id: u16) -> bool {
        self.zero_shot.as_ref().is_some_and(|ids| ids.contains(&id))
    }

    /// The classes that a text asks for: one, or the parts of a group in their order.
    ///
    /// The text is a number, or a name in any case, in any order of its words, with spaces, underscores
    /// or hyphens between them, or a [term](terms::lookup) for the same in any language.
    ///
    /// # Errors
    /// `R-PRM-05` if it names no class, or one that is not supported; the message says which may be
    /// meant.
    pub fn find(&self, text: &str) -> Result<Vec<u16>, Error> {
        if let Some(id) = number(text).filter(|id| self.is_zero_shot(*id)) {
            return Err(Error::Prompt {
                message: format!(
                    "class {id} is for an object that points are on, and not for an organ"
                ),
                fix: "add points, or name a class",
            });
        }
        let class = self.class(text)?;
        Ok(if class.parts.is_empty() { vec![class.id] } else { class.parts.clone() })
    }

    /// The one class that points are to be understood with, or a number that stands for whatever is
    /// pointed at.
    ///
    /// # Errors
    /// As [`find`](Self::find), and `R-PRM-05` for a group.
    pub fn find_for_points(&self, text: &str) -> Result<u16, Error> {
        if let Some(id) = number(text).filter(|id| self.is_zero_shot(*id)) {
            return Ok(id);
        }
        let class = self.class(text)?;
        if class.status == ClassStatus::Group {
            let parts = class.parts.iter().filter_map(|id| self.name(*id));
            let some: Vec<&str> = parts.take(MOST_SUGGESTIONS).collect();
            return Err(Error::Prompt {
                message: format!(
                    "`{}` stands for {} classes, and points belong to one: did you mean {}?",
                    class.name,
                    class.parts.len(),
                    some.join(" or "),
                ),
                fix: "name one class beside the points, or none",
            });
        }
        Ok(class.id)
    }

    /// The classes that several texts ask for, each once, in the order of the texts: as
    /// [`find`](Self::find), or beside points as [`find_for_points`](Self::find_for_points).
    ///
    /// # Errors
    /// As these.
    pub fn find_all<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t str>,
        beside_points: bool,
    ) -> Result<Vec<u16>, Error> {
        let mut ids = Vec::new();
        for text in texts {
            let found = match beside_points {
                true => vec![self.find_for_points(text)?],
                false => self.find(text)?,
            };
            for id in found {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        Ok(ids)
    }

    /// What asks for a class: its name, or the number of one that stands for whatever is pointed at.
    pub fn text(&self, id: u16) -> String {
        self.name(id).map_or_else(|| id.to_string(), str::to_owned)
    }

    /// The class, or the group, that a text names.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn class(&self, text: &str) -> Result<&Class, Error> {
        let found = match number(text) {
            Some(id) => self.get(id),
            None => self.by_name(text).or_else(|| self.by_term(text)),
        };
        match found {
            Some(class) if class.status != ClassStatus::Unsupported => Ok(class),
            Some(class) => {
                let (name, id) = (class.name, class.id);
                let same = self.by_term(name).filter(|c| c.status != ClassStatus::Unsupported);
                let hint = hint(&same.map(|class| class.name).into_iter().collect::<Vec<_>>());
                Err(Error::Prompt {
                    message: format!("the model was not trained on class {id}, `{name}`{hint}"),
                    fix: "name another class, or point at what to segment without a class",
                })
            }
            None => {
                let hint = hint(&self.suggestions(text));
                Err(Error::Prompt {
                    message: format!("`{}` is not a class of the model{hint}", text.trim()),
                    fix: "use the name or the number of one of its classes",
                })
            }
        }
    }

    fn by_name(&self, name: &str) -> Option<&Class> {
        self.by_words.get(&words(name)).and_then(|at| self.classes.get(*at))
    }

    /// The class that is another name for the same term: one that is supported if there is one.
    fn by_term(&self, text: &str) -> Option<&Class> {
        let term = terms::lookup(text)?;
        let spellings = [term.english].into_iter().chain(term.spellings.iter().copied());
        let mut classes = spellings.filter_map(|spelling| self.by_name(spelling)).peekable();
        let first = classes.peek().copied();
        classes.find(|class| class.status != ClassStatus::Unsupported).or(first)
    }

    /// Names of classes that may be meant by a text that names none, the best first.
    fn suggestions(&self, text: &str) -> Vec<&'static str> {
        if number(text).is_some() {
            return Vec::new();
        }
        let typed = fold(&normalize(text));
        let usable = || self.classes.iter().filter(|c| c.status != ClassStatus::Unsupported);
        let holds_all = |name: &str| {
            let of_name = normalize(name);
            let in_name = |word: &str| of_name.split(' ').any(|other| other == word);
            !typed.is_empty() && typed.split(' ').all(in_name)
        };
        let mut near: Vec<&str> = usable().map(|c| c.name).filter(|name| holds_all(name)).collect();
        // Another organ is not meant by the right word for one that the model does not know.
        if near.is_empty() && terms::lookup(text).is_none() {
            let names: Vec<(String, u16)> = usable().map(|c| (normalize(c.name), c.id)).collect();
            let spelled = nearest(&typed, names.iter().map(|(name, id)| (name.as_str(), *id)));
            near.extend(spelled.into_iter().filter_map(|id| self.name(id)));
            let terms = terms::nearest(text).into_iter().filter_map(|term| self.by_term(term));
            near.extend(terms.filter(|c| c.status != ClassStatus::Unsupported).map(|c| c.name));
        }
        let mut best: Vec<&str> = Vec::new();
        for name in near {
            if best.len() < MOST_SUGGESTIONS && !best.contains(&name) {
                best.push(name);
            }
        }
        best
    }
}

fn hint(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        names => format!(": did you mean {}?", names.join(" or ")),
    }
}

/// The number in a text of digits; 0, which no class has, where it is too large.
fn number(text: &str) -> Option<u16> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(0))
}

/// The words of a name in alphabetical order, so that those of `left kidney` and `kidney_left` are one.
fn words(name: &str) -> String {
    let name = fold(&normalize(name));
    let mut words: Vec<&str> = name.split(' ').collect();
    words.sort_unstable();
    words.join(" ")
}

/// `14 5` and `28-32`.
fn ids(cell: &str) -> Vec<u16> {
    let ends = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    cell.split_whitespace().filter_map(ends).flatten().collect()
}

fn class_status(name: &str) -> Option<ClassStatus> {
    match name {
        "everything" => Some(ClassStatus::Everything),
        "on request" => Some(ClassStatus::OnRequest),
        "group" => Some(ClassStatus::Group),
        "unsupported" => Some(ClassStatus::Unsupported),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
