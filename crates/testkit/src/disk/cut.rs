//! What a disk may hold after the power was cut.
//!
//! What was synced is there. Of everything else, each write may be there, or not, or some of its sectors;
//! a file may have its new length without the bytes; names that were made, changed or taken away may be
//! so or not until their folder is synced. A write that a failed sync has covered may be missing for ever.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::path::Path;

use posthouse_core::time::Chance as _;

use super::trace::{Operation, Trace};
use crate::time::SeededChance;

/// Disks write so many bytes at once.
const SECTOR: u64 = 512;

/// A disk that is brought forward through a trace.
pub struct Disk<'a> {
    trace: &'a Trace,
    /// How many records it has seen.
    position: usize,
    files: HashMap<u32, Content>,
    /// Files that got another number by another process.
    also: HashMap<u32, u32>,
    names: Names,
}

/// A file's bytes.
#[derive(Default)]
struct Content {
    /// What is certainly there.
    kept: Vec<u8>,
    /// What was done since, in order.
    waiting: Vec<Waiting>,
}

struct Waiting {
    change: Change,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not synced.
    Open,
    /// Synced, but something before it is doubtful.
    Certain,
    /// Covered by a sync that failed.
    Doubtful,
}

enum Change {
    Write(u64, Range<usize>),
    Resize(u64),
}

/// What the folders hold.
#[derive(Default)]
struct Names {
    kept: BTreeMap<String, Node>,
    waiting: Vec<NameChange>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u32),
    Folder,
}

#[derive(Clone)]
enum NameChange {
    Made(String, Node),
    Gone(String),
    Renamed(String, String),
}

impl NameChange {
    fn folder(&self) -> &str {
        let (Self::Made(path, _) | Self::Gone(path) | Self::Renamed(_, path)) = self;
        path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Made(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Gone(path) => drop(names.remove(path)),
            Self::Renamed(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// How a disk treats what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// All of it is gone.
    Lost,
    /// All of it is there, as when only the program dies.
    Kept,
    /// Each file and each write fares differently, as the seed says.
    Drawn(u64),
}

/// A file's bytes and names as they may be found: path to bytes, `None` for folders.
pub type Image = BTreeMap<String, Option<Vec<u8>>>;

impl<'a> Disk<'a> {
    /// The disk before the first operation, with the files of an image.
    #[must_use]
    pub fn new(trace: &'a Trace, before: &Image) -> Self {
        let (files, also) = (HashMap::new(), HashMap::new());
        let mut disk = Self { trace, position: 0, files, also, names: Names::default() };
        // The watcher gives numbers from below.
        let mut file = u32::MAX;
        for (path, bytes) in before {
            let node = match bytes {
                None => Node::Folder,
                Some(bytes) => {
                    file -= 1;
                    disk.files.insert(file, Content { kept: bytes.clone(), waiting: Vec::new() });
                    Node::File(file)
                }
            };
            disk.names.kept.insert(path.clone(), node);
        }
        disk
    }

    /// Brings the disk to the moment after `records` operations.
    pub fn forward(&mut self, records: usize) {
        assert!(self.position <= records, "a disk doesn't go back");
        while self.position < records {
            let trace = self.trace;
            self.apply(&trace.records[self.position].what);
            self.position += 1;
        }
    }

    /// How long the trace was at this moment.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position.checked_sub(1).map_or(0, |last| self.trace.records[last].end)
    }

    fn apply(&mut self, what: &Operation) {
        let number = |file: &u32| self.also.get(file).copied().unwrap_or(*file);
        let mut change = |file: &u32, change: Change| {
            let content = self.files.entry(number(file)).or_default();
            content.waiting.push(Waiting { change, state: State::Open });
        };
        match what {
            Operation::Known(file, path) => {
                let mut names = self.names.kept.clone();
                self.names.waiting.iter().for_each(|change| change.apply(&mut names));
                if let Some(Node::File(known)) = names.get(path) {
                    self.also.insert(*file, *known);
                }
            }
            Operation::Made(file, path) => {
                self.names.waiting.push(NameChange::Made(path.clone(), Node::File(*file)));
            }
            Operation::FolderMade(path) => {
                self.names.waiting.push(NameChange::Made(path.clone(), Node::Folder));
            }
            Operation::Write(file, at, range) => change(file, Change::Write(*at, range.clone())),
            Operation::Resize(file, length) => change(file, Change::Resize(*length)),
            Operation::Sync(file) => {
                if let Some(content) = self.files.get_mut(&number(file)) {
                    content.sync(self.trace);
                }
            }
            Operation::SyncFailed(file) => {
                for waiting in &mut self.files.entry(number(file)).or_default().waiting {
                    if waiting.state == State::Open {
                        waiting.state = State::Doubtful;
                    }
                }
            }
            Operation::FolderSync(folder) => {
                let (synced, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.names.waiting)
                    .into_iter()
                    .partition(|change| change.folder() == folder);
                synced.iter().for_each(|change| change.apply(&mut self.names.kept));
                self.names.waiting = waiting;
            }
            Operation::Gone(path) => self.names.waiting.push(NameChange::Gone(path.clone())),
            Operation::Renamed(from, to) => {
                self.names.waiting.push(NameChange::Renamed(from.clone(), to.clone()));
            }
            Operation::Fault(_) => {}
        }
    }

    /// What is found after a power cut at this moment.
    #[must_use]
    pub fn image(&self, fate: Fate) -> Image {
        let chance = SeededChance::new(match fate {
            Fate::Lost | Fate::Kept => 0,
            Fate::Drawn(seed) => seed ^ (self.position as u64) << 40,
        });
        let mut names = self.names.kept.clone();
        let ways = self.names.waiting.len() as u64 + 1;
        // A disk with a journal keeps names in order, up to some moment; another one keeps any of them.
        let until = chance.bits() % ways;
        let in_order = coin(&chance);
        for (number, change) in self.names.waiting.iter().enumerate() {
            let keep = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Drawn(_) if in_order => (number as u64) < until,
                Fate::Drawn(_) => coin(&chance),
            };
            if keep {
                change.apply(&mut names);
            }
        }
        let mut image = Image::new();
        for (path, node) in &names {
            let mut above = path.rsplit_once('/').map(|(folder, _)| folder);
            let reachable = loop {
                match above {
                    None => break true,
                    Some(folder) if names.get(folder) != Some(&Node::Folder) => break false,
                    Some(folder) => above = folder.rsplit_once('/').map(|(folder, _)| folder),
                }
            };
            if !reachable {
                continue;
            }
            let bytes = match node {
                Node::Folder => None,
                Node::File(file) => {
                    let empty = Content::default();
                    Some(self.files.get(file).unwrap_or(&empty).found(self.trace, fate, &chance))
                }
            };
            image.insert(path.clone(), bytes);
        }
        image
    }
}

impl Content {
    fn sync(&mut self, trace: &Trace) {
        if self.waiting.iter().any(|waiting| waiting.state == State::Doubtful) {
            for waiting in &mut self.waiting {
                if waiting.state == State::Open {
                    waiting.state = State::Certain;
                }
            }
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            waiting.change.apply(trace, &mut self.kept);
        }
    }

    fn found(&self, trace: &Trace, fate: Fate, chance: &SeededChance) -> Vec<u8> {
        let mut bytes = self.kept.clone();
        let open = self.waiting.iter().filter(|waiting| waiting.state == State::Open).count() as u64;
        let (mode, until) = (chance.bits() % 5, chance.bits() % (open + 1));
        let mut number = 0;
        for waiting in &self.waiting {
            match (waiting.state, fate) {
                (State::Certain, _) | (_, Fate::Kept) => waiting.change.apply(trace, &mut bytes),
                (_, Fate::Lost) => {}
                (State::Doubtful, Fate::Drawn(_)) => {
                    if coin(chance) {
                        waiting.change.apply(trace, &mut bytes);
                    }
                }
                (State::Open, Fate::Drawn(_)) => {
                    number += 1;
                    match mode {
                        // In order up to some moment, the last one torn.
                        0 if number < until => waiting.change.apply(trace, &mut bytes),
                        0 if number == until => waiting.change.tear(trace, &mut bytes, chance),
                        // Only what came last.
                        1 if number > until => waiting.change.apply(trace, &mut bytes),
                        // Any.
                        2 if coin(chance) => waiting.change.apply(trace, &mut bytes),
                        // Any, torn.
                        3 => waiting.change.tear(trace, &mut bytes, chance),
                        // The length without the bytes.
                        4 if coin(chance) => waiting.change.lengthen(&mut bytes),
                        _ => {}
                    }
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, trace: &Trace, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, range) => put(bytes, *at, trace.written(range)),
            Self::Resize(length) => bytes.resize(index(*length), 0),
        }
    }

    /// Some of the sectors.
    fn tear(&self, trace: &Trace, bytes: &mut Vec<u8>, chance: &SeededChance) {
        match self {
            Self::Write(at, range) => {
                let written = trace.written(range);
                let mut from = 0;
                while from < written.len() {
                    let room = SECTOR - (at + from as u64) % SECTOR;
                    let to = written.len().min(from + index(room));
                    if coin(chance) {
                        put(bytes, at + from as u64, &written[from..to]);
                    }
                    from = to;
                }
            }
            Self::Resize(_) if coin(chance) => self.apply(trace, bytes),
            Self::Resize(_) => {}
        }
    }

    fn lengthen(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, range) => {
                let end = index(*at) + range.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
            }
            Self::Resize(length) => bytes.resize(index(*length), 0),
        }
    }
}

fn coin(chance: &SeededChance) -> bool {
    chance.bits() & 1 == 0
}

fn put(bytes: &mut Vec<u8>, at: u64, written: &[u8]) {
    let at = index(at);
    if bytes.len() < at + written.len() {
        bytes.resize(at + written.len(), 0);
    }
    bytes[at..at + written.len()].copy_from_slice(written);
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Writes an image to an empty place.
pub fn write(image: &Image, root: &Path) {
    for (path, bytes) in image {
        let path = root.join(path);
        match bytes {
            None => fs::create_dir_all(path).unwrap(),
            Some(bytes) => fs::write(path, bytes).unwrap(),
        }
    }
}

/// The files below `root` as they are, without those that live in memory only.
#[must_use]
pub fn read(root: &Path) -> Image {
    let mut image = Image::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                image.insert(name, None);
                folders.push(path);
            } else if !name.ends_with("-shm") {
                image.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    image
}

/// A number that differs between images that differ.
#[must_use]
pub fn fingerprint(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}
