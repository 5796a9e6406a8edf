//! A disk that loses power: what a program writes is watched ([`Watch`]), read back as a list of
//! operations ([`trace`]), and replayed up to any point in any way that a disk may have kept it ([`cut`]).
//! The same watcher plays faults: full disks, failing writes and syncs, stalls, wrong clocks.
//!
//! Two scenarios are run on it: [`steps`], every use case once and one after the other, and [`load`],
//! many at once. The program `disk_scenario` runs them under the watcher; `tests/disk` cuts the power.

#![allow(clippy::unwrap_used, reason = "tests")]

pub mod cut;
pub mod first_release;
pub mod load;
pub mod steps;
pub mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The watcher's source: a library that is loaded into the program before the C library.
const SHIM: &str = include_str!("shim.c");

/// A directory in memory if the machine has one: thousands of images are made and none is to last.
#[must_use]
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// One directory that is watched while a program uses it.
pub struct Watch {
    scratch: TempDir,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// Builds the watcher and makes an empty directory for it to watch.
    #[must_use]
    pub fn new() -> Self {
        let scratch = scratch();
        let source = scratch.path().join("shim.c");
        fs::write(&source, SHIM).unwrap();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&scratch.path().join("shim.so"), &source])
            .output()
            .expect("there is a C compiler, for SQLite needs one");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let watch = Self { scratch };
        fs::create_dir(watch.root()).unwrap();
        for empty in [watch.trace(), watch.control(), watch.clock()] {
            fs::write(empty, "").unwrap();
        }
        watch
    }

    /// The watched directory. It stands for the whole disk: the data directory is [`Self::data`] below it, so
    /// that its own name is something a power cut can take.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("disk")
    }

    /// The data directory to use.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Where operations are written down.
    #[must_use]
    pub fn trace(&self) -> PathBuf {
        self.scratch.path().join("trace")
    }

    /// A place for what a scenario wants to tell.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.scratch.path().join("journal")
    }

    fn control(&self) -> PathBuf {
        self.scratch.path().join("control")
    }

    fn clock(&self) -> PathBuf {
        self.scratch.path().join("clock")
    }

    /// From now on these faults are played, each line one; the form is in `shim.c`.
    pub fn play(&self, faults: &str) {
        replace(&self.control(), faults);
    }

    /// From now on the program's wall clock is what this says; the form is in `shim.c`.
    pub fn set_clock(&self, clock: &str) {
        replace(&self.clock(), clock);
    }

    /// How long the trace is: whatever happened until now lies before it.
    #[must_use]
    pub fn now(&self) -> u64 {
        fs::metadata(self.trace()).unwrap().len()
    }

    /// Calls `program` under the watcher.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_PRELOAD", self.scratch.path().join("shim.so"))
            .env("DISK_ROOT", self.root())
            .env("DISK_TRACE", self.trace())
            .env("DISK_CONTROL", self.control())
            .env("DISK_CLOCK", self.clock());
        command
    }
}

/// A reader sees the old text or the new one, never half of it.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// A number from the environment, with which a run is made longer or repeated.
#[must_use]
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}
