//! The threads that read. Each has its own connections, opened when first needed.
//!
//! A read is one short transaction on one of these threads; nothing is ever left open while a caller
//! waits, because an old snapshot keeps the log from being reused.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use posthouse_core::expiry::Bucket;
use posthouse_core::id::{ClientId, ConversationId};
use posthouse_core::time::{Clock, Timestamp};
use rusqlite::{Connection, ErrorCode, Transaction};

use super::open::open_for_reading;
use super::overlay::{fill, open_overlaid};
use super::queue::{Queue, Woken};
use super::rows::{Work, conversation_of};
use super::shards::{FileKey, Shards};
use super::tail::{Entry, Late, Tails};

/// How many reads may wait. More are refused as `Busy`: the threads serve some thousands a second.
pub(super) const QUEUE_MAX: usize = 1_024;

/// How many queries that may take long may wait; each takes two seconds at worst.
pub(super) const SEARCHES_MAX: usize = 32;

/// Comings and goings of one client in the time of one read, after which all that is late is taken into account.
const SETTLED_AFTER: usize = 4;

/// One read, whatever its types.
pub(super) type Read = Box<dyn FnOnce(&mut Reader) + Send>;

/// A reading thread's own things.
pub(super) struct Reader {
    shards: Arc<Shards>,
    gate: Arc<RwLock<()>>,
    clock: Arc<dyn Clock>,
    tails: Arc<Tails>,
    /// What the read at hand must know beside the rows.
    pub(super) late: Late,
    main: Connections,
    /// With the number of the file's making.
    buckets: HashMap<Bucket, (u64, Connections)>,
}

/// The connections to one file.
struct Connections {
    /// To its rows as they are.
    plain: Connection,
    /// To its rows as they would be with the tails in the index.
    overlaid: Connection,
}

impl Connections {
    /// A snapshot in which `late` is in the index.
    fn snapshot(&self, late: &[(ConversationId, Vec<Arc<Entry>>)]) -> Work<Transaction<'_>> {
        if late.is_empty() {
            return Ok(self.plain.unchecked_transaction()?);
        }
        let snapshot = self.overlaid.unchecked_transaction()?;
        fill(&snapshot, late)?;
        Ok(snapshot)
    }

    fn open(path: &Path) -> rusqlite::Result<Self> {
        Ok(Self { plain: open_for_reading(path)?, overlaid: open_overlaid(path)? })
    }
}

impl Reader {
    pub(super) fn new(
        shards: Arc<Shards>,
        gate: Arc<RwLock<()>>,
        clock: Arc<dyn Clock>,
        tails: Arc<Tails>,
    ) -> rusqlite::Result<Self> {
        let main = Connections::open(&shards.path(FileKey::Main))?;
        Ok(Self { shards, gate, clock, tails, late: Late::Nothing, main, buckets: HashMap::new() })
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue<Read>) {
        let mut nudges = 0;
        loop {
            match queue.next(&mut nudges) {
                Woken::Item(read) => {
                    self.late = Late::Nothing;
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
            FileKey::Main => Ok(Some(self.begin(&self.main, None)?)),
            FileKey::Bucket(bucket) => {
                if bucket.ends() <= self.now() || !self.open(bucket)? {
                    return Ok(None);
                }
                Ok(Some(self.begin(&self.buckets[&bucket].1, Some(bucket))?))
            }
        }
    }

    /// Snapshots of every file in which something is alive, of slightly different moments.
    pub(super) fn snapshots(&mut self) -> Work<Vec<Transaction<'_>>> {
        let living = self.open_living()?;
        self.begin_all(&living)
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
        let snapshots = self.begin_all(&opened)?;
        for snapshot in &snapshots {
            // A transaction's snapshot is taken by its first read, not by its beginning.
            snapshot.prepare_cached("SELECT 1 FROM head LIMIT 1")?.exists([])?;
        }
        Ok(snapshots)
    }

    fn begin_all(&self, living: &[Bucket]) -> Work<Vec<Transaction<'_>>> {
        let mut snapshots = vec![self.begin(&self.main, None)?];
        for bucket in living {
            snapshots.push(self.begin(&self.buckets[bucket].1, Some(*bucket))?);
        }
        Ok(snapshots)
    }

    /// A snapshot of a file with what is late. The tails are taken first: what is in the index by the time
    /// of the snapshot is told by the head's last place, and nothing is in neither.
    fn begin<'a>(&self, file: &'a Connections, bucket: Option<Bucket>) -> Work<Transaction<'a>> {
        if self.tails.is_empty() {
            return Ok(file.plain.unchecked_transaction()?);
        }
        match &self.late {
            Late::Nothing => file.snapshot(&[]),
            Late::Conversations(ids) => file.snapshot(&self.tails.late(ids, bucket)),
            Late::All => file.snapshot(&self.tails.all_late(bucket)),
            Late::OfClient(app, client) => {
                let mut ids = memberships(&file.plain, *app, client)?;
                for _ in 0..SETTLED_AFTER {
                    let snapshot = file.snapshot(&self.tails.late(&ids, bucket))?;
                    let there = memberships(&snapshot, *app, client)?;
                    if there == ids {
                        return Ok(snapshot);
                    }
                    // It came or went in between: what is late of a new conversation must not be missing.
                    ids = there;
                }
                file.snapshot(&self.tails.all_late(bucket))
            }
        }
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
            match Connections::open(&self.shards.path(FileKey::Bucket(bucket))) {
                Ok(db) => self.buckets.insert(bucket, (making, db)),
                // It was put away a moment ago.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(true)
    }
}

/// The conversations of a file that a client of an app is in, in order.
pub(super) fn memberships(db: &Connection, app: i64, client: &ClientId) -> Work<Vec<ConversationId>> {
    Ok(db
        .prepare_cached(
            "SELECT conversation FROM main.member INDEXED BY member_client WHERE app = ?1 AND client = ?2 \
             ORDER BY conversation",
        )?
        .query_map((app, client.as_str()), |row| conversation_of(row, 0))?
        .collect::<rusqlite::Result<_>>()?)
}
