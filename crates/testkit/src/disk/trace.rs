//! The watcher's record of what a program did to its files, in order.

use std::ops::Range;
use std::path::Path;

/// A whole record.
pub struct Trace {
    /// The operations.
    pub records: Vec<Record>,
    bytes: Vec<u8>,
}

/// One operation that succeeded, or that was made to fail.
pub struct Record {
    /// What it was.
    pub what: Operation,
    /// How long the trace was after it.
    pub end: u64,
}

/// What can be done to files. Paths are below the watched directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A file that was there before the watcher gets its number.
    Known(u32, String),
    /// A file is made.
    Made(u32, String),
    /// A folder is made.
    FolderMade(String),
    /// Bytes are written; the range is where they stand in the trace.
    Write(u32, u64, Range<usize>),
    /// A file is made shorter or longer.
    Resize(u32, u64),
    /// What was done to a file is on the disk.
    Sync(u32),
    /// The same failed: what was done to the file may never get to the disk, whatever later syncs say.
    SyncFailed(u32),
    /// The names in a folder are on the disk.
    FolderSync(String),
    /// A name is taken away.
    Gone(String),
    /// A name is changed.
    Renamed(String, String),
    /// A fault was played.
    Fault(String),
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Panics
    /// If the program did something to its files that the watcher can't follow.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut records = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap());
            let file = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap());
            let (offset, length) = (number(at + 5), usize::try_from(number(at + 13)).unwrap());
            let range = at + 21..at + 21 + length;
            let text = || String::from_utf8(bytes[range.clone()].to_vec()).unwrap();
            let what = match bytes[at] {
                b'P' => Operation::Known(file, text()),
                b'C' => Operation::Made(file, text()),
                b'D' => Operation::FolderMade(text()),
                b'W' => Operation::Write(file, offset, range.clone()),
                b'T' => Operation::Resize(file, offset),
                b'S' => Operation::Sync(file),
                b'E' => Operation::SyncFailed(file),
                b'Y' => Operation::FolderSync(text()),
                b'U' => Operation::Gone(text()),
                b'R' => {
                    let both = text();
                    let (from, to) = both.split_once('\n').unwrap();
                    Operation::Renamed(from.to_owned(), to.to_owned())
                }
                b'F' => Operation::Fault(text()),
                kind => panic!("the watcher can't follow operation {}: {}", char::from(kind), text()),
            };
            at = range.end;
            records.push(Record { what, end: at as u64 });
        }
        Self { records, bytes }
    }

    /// What a write wrote.
    #[must_use]
    pub fn written(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// How many faults were played.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.records.iter().filter(|record| matches!(record.what, Operation::Fault(_))).count()
    }
}
