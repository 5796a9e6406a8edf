//! An engine of the contract suite on a scratch directory.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use posthouse_core::idgen::IdGen;
use posthouse_core::port::store::Store;
use posthouse_store::{OpenOptions, SqliteStore};
use posthouse_testkit::store_suite::Engine;
use posthouse_testkit::time::ManualClock;
use tempfile::TempDir;

#[allow(dead_code, reason = "not every test file runs the suite")]
pub(crate) struct Sqlite {
    dir: TempDir,
    tail_max: Option<usize>,
}

#[allow(dead_code, reason = "not every test file runs the suite")]
impl Sqlite {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), tail_max: None }
    }

    /// An engine whose index waits for at most so many messages.
    pub(crate) fn with_tail_max(tail_max: usize) -> Self {
        Self { tail_max: Some(tail_max), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn open(&self, clock: Arc<ManualClock>) -> Arc<dyn Store> {
        let mut options = options(clock);
        options.tail_max = self.tail_max.unwrap_or(options.tail_max);
        Arc::new(SqliteStore::open(self.dir.path(), options).unwrap())
    }

    async fn audit(&self) -> Vec<String> {
        posthouse_store::audit(self.dir.path()).unwrap()
    }
}

pub(crate) fn options(clock: Arc<ManualClock>) -> OpenOptions {
    OpenOptions::new(clock, Arc::new(IdGen::new(1)))
}

#[allow(dead_code, reason = "not every test file opens a directory of its own")]
pub(crate) fn open(dir: &Path, clock: &Arc<ManualClock>) -> SqliteStore {
    SqliteStore::open(dir, options(Arc::clone(clock))).unwrap()
}
