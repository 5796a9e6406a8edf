//! The threads that read. Each has its own connections, opened when first needed.
//!
//! A read is one short transaction on one of these threads; nothing is ever left open while a caller
//! waits, because an old snapshot keeps the log from being reused.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use posthouse_core::expiry::Bucket;
use posthouse_core::time::{Clock, Timestamp};
use rusqlite::{Connection, ErrorCode, Transaction};

use super::open::open_for_reading;
use super::queue::{Queue, Woken};
use super::rows::Work;
use super::shards::{FileKey, Shards};

/// How many reads may wait. More are refused as `Busy`: the threads serve some thousands a second.
pub(super) const QUEUE_MAX: usize = 1_024;

/// How many queries that may take long may wait; each takes two seconds at worst.
pub(super) const SEARCHES_MAX: usize = 32;

/// One read, whatever its types.
pub(super) type Read = Box<dyn FnOnce(&mut Reader) + Send>;

/// A reading thread's own things.
pub(super) struct Reader {
    shards: Arc<Shards>,
    gate: Arc<RwLock<()>>,
    clock: Arc<dyn Clock>,
    main: Connection,
    /// With the number of the file's making.
    buckets: HashMap<Bucket, (u64, Connection)>,
}

impl Reader {
    pub(super) fn new(
        shards: Arc<Shards>,
        gate: Arc<RwLock<()>>,
        clock: Arc<dyn Clock>,
    ) -> rusqlite::Result<Self> {
        let main = open_for_reading(&shards.path(FileKey::Main))?;
        Ok(Self { shards, gate, clock, main, buckets: HashMap::new() })
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue<Read>) {
        let mut nudges = 0;
        loop {
            match queue.next(&mut nudges) {
                Woken::Item(read) => {
                    if catch_unwind(AssertUnwindSafe(|| read(&mut self))).is_err() {
                        tracing::error!("a read panicked");
                    }
                }
                Woken::Nudge => {
                    self.buckets.retain(|bucket, (making, _)| self.shards.making(*bucket) == Some(*making));
                }
                Woken::Closed => return,
            }
        }
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A snapshot of one file; `None` if it isn't there, or if everything in it is over.
    pub(super) fn snapshot(&mut self, file: FileKey) -> Work<Option<Transaction<'_>>> {
        match file {
            FileKey::Main => Ok(Some(self.main.unchecked_transaction()?)),
            FileKey::Bucket(bucket) => {
                if bucket.ends() <= self.now() || !self.open(bucket)? {
                    return Ok(None);
                }
                Ok(Some(self.buckets[&bucket].1.unchecked_transaction()?))
            }
        }
    }

    /// Snapshots of every file in which something is alive, of slightly different moments.
    pub(super) fn snapshots(&mut self) -> Work<Vec<Transaction<'_>>> {
        let living = self.open_living()?;
        self.begin(&living)
    }

    /// Snapshots of every file in which something is alive, all of the same moment: of exactly those
    /// commits whose closures have run.
    pub(super) fn published(&mut self) -> Work<Vec<Transaction<'_>>> {
        let gate = Arc::clone(&self.gate);
        let (opened, _gate) = loop {
            let considered = self.shards.making_of_living(self.now());
            let opened = self.open_living()?;
            let gate = gate.read().unwrap_or_else(PoisonError::into_inner);
            // A bucket made in between may hold commits that have been told of already.
            if self.shards.making_of_living(self.now()) == considered {
                break (opened, gate);
            }
        };
        let snapshots = self.begin(&opened)?;
        for snapshot in &snapshots {
            // A transaction's snapshot is taken by its first read, not by its beginning.
            snapshot.prepare_cached("SELECT 1 FROM head LIMIT 1")?.exists([])?;
        }
        Ok(snapshots)
    }

    fn begin(&self, living: &[Bucket]) -> Work<Vec<Transaction<'_>>> {
        let mut snapshots = vec![self.main.unchecked_transaction()?];
        for bucket in living {
            snapshots.push(self.buckets[bucket].1.unchecked_transaction()?);
        }
        Ok(snapshots)
    }

    fn open_living(&mut self) -> Work<Vec<Bucket>> {
        let mut living = self.shards.living(self.now());
        let mut opened = Vec::with_capacity(living.len());
        for bucket in living.drain(..) {
            if self.open(bucket)? {
                opened.push(bucket);
            }
        }
        Ok(opened)
    }

    fn open(&mut self, bucket: Bucket) -> Work<bool> {
        let Some(making) = self.shards.making(bucket) else {
            self.buckets.remove(&bucket);
            return Ok(false);
        };
        if self.buckets.get(&bucket).is_none_or(|(opened, _)| *opened != making) {
            match open_for_reading(&self.shards.path(FileKey::Bucket(bucket))) {
                Ok(db) => self.buckets.insert(bucket, (making, db)),
                // It was put away a moment ago.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(true)
    }
}
