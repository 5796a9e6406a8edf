//! The one thread that writes, and its group commit.
//!
//! Requests wait in a bounded queue. The thread takes what is there, runs each job inside a savepoint
//! of its file's transaction, commits every touched file, calls the closures in the order of the
//! jobs, and then answers them all. One fsync serves up to [`BATCH_MAX`] jobs; when few are waiting,
//! commits keep [`COMMIT_SPACING`] apart, because an idle machine's fsyncs cost more than its work.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::id::MessageId;
use posthouse_core::port::store::AfterCommit;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::open::{OpenOptions, Role, Schema, open_for_writing};
use super::queue::Queue;
use super::rows::{Work, fault};
use super::shards::{FileKey, Shards};

/// How many requests may wait. More are refused as [`StoreFault::Busy`]: at a thousand commits a
/// second this is far above what clients wait for.
pub(super) const QUEUE_MAX: usize = 8_192;

/// Jobs in one commit; larger batches only lengthen the wait of the first.
const BATCH_MAX: usize = 1_024;

/// From so many jobs on, a commit is worth its fsync at once.
const CROWD: usize = 64;

/// Smaller batches begin at least this long after the commit before.
const COMMIT_SPACING: Duration = Duration::from_millis(1);

/// What can be asked of the writer.
pub(super) enum Request {
    /// Run this in a transaction.
    Write(Box<dyn Job>),
    /// Put away the buckets that are over; the files are then to be unlinked.
    Forget(oneshot::Sender<Vec<PathBuf>>),
    /// Everything before this is on disk when it is answered.
    Close(oneshot::Sender<()>),
}

/// What a transaction came to.
pub(super) enum Outcome<T> {
    /// Something was written: closures are called.
    Written(T),
    /// All was as wished already.
    Unchanged(T),
}

/// What work in a transaction sees.
pub(super) struct Tx<'a> {
    /// The file the job named.
    pub(super) db: &'a Connection,
    /// The other files it asked to read.
    pub(super) siblings: Vec<&'a Connection>,
    /// The time of this job.
    pub(super) now: Timestamp,
    options: &'a OpenOptions,
    patch_times: &'a mut HashMap<i64, Timestamp>,
}

impl Tx<'_> {
    /// The next message's id.
    pub(super) fn next_id(&self) -> MessageId {
        self.options.ids.next(self.now)
    }

    /// When something changed that clients ask for by time. Doesn't go back when the clock does.
    pub(super) fn cursor_time(&self) -> Timestamp {
        self.options.ids.time(self.now)
    }

    /// The time of a patch after one at `previous` in the same conversation. No two patches of an app
    /// have the same one, so that a client can go through them by time without missing any.
    pub(super) fn patch_time(&mut self, app: i64, previous: Timestamp) -> Timestamp {
        let now = self.cursor_time();
        let newest = self.patch_times.entry(app).or_insert(previous);
        *newest = posthouse_core::conversation::change_time(previous.max(*newest), now);
        *newest
    }
}

/// One caller's transaction, whatever its types.
pub(super) trait Job: Send {
    /// The file it writes to.
    fn file(&self) -> FileKey;
    /// Whether it may make the file's bucket.
    fn makes_bucket(&self) -> bool;
    /// Whether it reads every living bucket.
    fn reads_siblings(&self) -> bool;
    /// Does the work, and keeps the outcome. `false` if what was written must not stay.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Replaces the outcome.
    fn refuse(&mut self, error: Error);
    /// What the engine failed with, if it did.
    fn fault(&self) -> Option<StoreFault>;
    /// Calls the closure, if there is something to tell.
    fn publish(&mut self);
    /// Tells the caller.
    fn answer(self: Box<Self>);
}

/// A [`Job`] made of two closures.
pub(super) struct Write<T, F> {
    pub(super) file: FileKey,
    pub(super) makes_bucket: bool,
    pub(super) reads_siblings: bool,
    pub(super) work: Option<F>,
    pub(super) after: Option<AfterCommit<T>>,
    pub(super) outcome: Option<Result<Outcome<T>>>,
    pub(super) reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Work<Outcome<T>> + Send + 'static,
{
    fn file(&self) -> FileKey {
        self.file
    }

    fn makes_bucket(&self) -> bool {
        self.makes_bucket
    }

    fn reads_siblings(&self) -> bool {
        self.reads_siblings
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let outcome = work(tx).map_err(Error::from);
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn refuse(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn fault(&self) -> Option<StoreFault> {
        match &self.outcome {
            Some(Err(Error::Store(fault))) => Some(*fault),
            Some(_) | None => None,
        }
    }

    fn publish(&mut self) {
        if let (Some(Ok(Outcome::Written(value))), Some(after)) = (&self.outcome, self.after.take()) {
            after(value);
        }
    }

    fn answer(self: Box<Self>) {
        let answer = match self.outcome {
            Some(Ok(Outcome::Written(value) | Outcome::Unchanged(value))) => Ok(value),
            Some(Err(error)) => Err(error),
            None => Err(StoreFault::Failed.into()),
        };
        // A caller that has given up needs no answer; its wish is granted all the same.
        drop(self.reply.send(answer));
    }
}

/// The thread's own things.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue<Request>>,
    pub(super) shards: Arc<Shards>,
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) options: OpenOptions,
    /// Called when buckets were put away, so that readers let go of them.
    pub(super) on_forget: Box<dyn Fn() + Send>,
    pub(super) files: HashMap<FileKey, Connection>,
    pub(super) patch_times: HashMap<i64, Timestamp>,
    pub(super) pages_max: u32,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut not_before = None;
        while let Some(requests) = self.queue.collect(BATCH_MAX, CROWD, not_before) {
            metrics::gauge!("posthouse_writer_queue").decrement(requests.len() as f64);
            let mut batch = Vec::with_capacity(requests.len());
            for request in requests {
                match request {
                    Request::Write(job) => batch.push(job),
                    Request::Forget(reply) => {
                        self.write(std::mem::take(&mut batch));
                        drop(reply.send(self.forget()));
                    }
                    Request::Close(reply) => {
                        self.write(std::mem::take(&mut batch));
                        self.check_point();
                        self.files.clear();
                        if reply.send(()).is_err() {
                            tracing::debug!("nobody waited for the store to close");
                        }
                    }
                }
            }
            self.write(batch);
            not_before = Some(Instant::now() + COMMIT_SPACING);
        }
    }

    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        let began = Instant::now();
        self.limit_pages();
        let mut touched: BTreeMap<FileKey, Result<()>> = BTreeMap::new();
        let files_of: Vec<Vec<FileKey>> =
            jobs.iter_mut().map(|job| self.run_job(&mut **job, &mut touched)).collect();
        {
            // Whoever lists unread messages sees all of a batch and its closures, or nothing of both.
            let gate = Arc::clone(&self.gate);
            let _gate = gate.write().unwrap_or_else(PoisonError::into_inner);
            for (file, state) in &mut touched {
                if state.is_ok() {
                    *state = self.commit(*file);
                } else {
                    self.roll_back(*file);
                }
            }
            for (job, files) in jobs.iter_mut().zip(&files_of) {
                if let Some(Err(error)) =
                    files.iter().filter_map(|file| touched.get(file)).find(|state| state.is_err())
                {
                    job.refuse(error.clone());
                } else if catch_unwind(AssertUnwindSafe(|| job.publish())).is_err() {
                    tracing::error!("a closure after a commit panicked; the commit stands");
                }
            }
        }
        metrics::histogram!("posthouse_commit_seconds").record(began.elapsed().as_secs_f64());
        metrics::histogram!("posthouse_commit_jobs").record(jobs.len() as f64);
        for job in jobs {
            job.answer();
        }
    }

    /// Runs one job in its file's transaction; returns the files whose commit it depends on.
    fn run_job(&mut self, job: &mut dyn Job, touched: &mut BTreeMap<FileKey, Result<()>>) -> Vec<FileKey> {
        let now = self.options.clock.now();
        let mut files = vec![job.file()];
        if job.reads_siblings() {
            let living = self.shards.living(now).into_iter().map(FileKey::Bucket);
            files.extend(living.filter(|file| *file != job.file()));
        }
        for file in &files {
            if let FileKey::Bucket(bucket) = file
                && !self.shards.has(*bucket)
                && !job.makes_bucket()
            {
                job.refuse(Error::TemporaryOver);
                return Vec::new();
            }
            let state = touched
                .entry(*file)
                .or_insert_with(|| begin(&mut self.files, &self.shards, &self.options, *file));
            if let Err(error) = state {
                job.refuse(error.clone());
                return Vec::new();
            }
        }
        let db = &self.files[&files[0]];
        let mut tx = Tx {
            db,
            siblings: files[1..].iter().map(|file| &self.files[file]).collect(),
            now,
            options: &self.options,
            patch_times: &mut self.patch_times,
        };
        let ran = savepoint(db, || match catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))) {
            Ok(keep) => keep,
            Err(_) => {
                tracing::error!("a transaction panicked; nothing of it was kept");
                job.refuse(StoreFault::Failed.into());
                false
            }
        });
        // Some errors make SQLite roll the whole transaction back, and without its savepoint a job can't be
        // undone alone: the jobs before are lost with it.
        if let Err(error) = ran {
            let error = Error::Store(fault(&error));
            job.refuse(error.clone());
            touched.insert(files[0], Err(error));
        } else if db.is_autocommit() {
            let error = job.fault().unwrap_or(StoreFault::Failed);
            touched.insert(files[0], Err(error.into()));
        }
        files
    }

    fn commit(&mut self, file: FileKey) -> Result<()> {
        let db = &self.files[&file];
        let Err(error) = db.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) else {
            return Ok(());
        };
        let found = fault(&error);
        self.roll_back(file);
        // After a failed write or sync nobody knows what the operating system has kept of the log;
        // a fresh connection reads it anew instead of trusting what it remembers.
        if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            self.files.remove(&file);
        }
        Err(found.into())
    }

    /// Ends what is left of the file's transaction.
    fn roll_back(&mut self, file: FileKey) {
        let Some(db) = self.files.get(&file) else { return };
        if db.is_autocommit() {
            return;
        }
        if let Err(error) = db.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a transaction can't be rolled back; its file is opened anew");
            self.files.remove(&file);
        }
    }

    fn forget(&mut self) -> Vec<PathBuf> {
        let over = self.shards.over(self.options.clock.now());
        let mut hidden = Vec::new();
        for bucket in over {
            if let Some(db) = self.files.remove(&FileKey::Bucket(bucket)) {
                // Its log is thrown away with it, so bringing it home first would be wasted.
                let skip = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
                if let Err(error) = db.set_db_config(skip, true) {
                    tracing::debug!(%error, "a forgotten bucket is checkpointed before it is dropped");
                }
            }
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            match self.shards.hide(bucket) {
                Ok(path) => hidden.push(path),
                Err(error) => {
                    tracing::error!(bucket = bucket.bits(), %error, "a bucket can't be put away; the next start tries again");
                }
            }
        }
        if !hidden.is_empty() {
            (self.on_forget)();
        }
        hidden
    }

    fn check_point(&self) {
        for db in self.files.values() {
            // A busy reader only means that the next start reads the log.
            if let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                tracing::warn!(%error, "the log stays for the next start");
            }
        }
    }

    /// Applies a changed limit of size to every open file.
    fn limit_pages(&mut self) {
        let wanted = self.options.pages_max.load(Ordering::Relaxed);
        if wanted != self.pages_max {
            self.pages_max = wanted;
            for db in self.files.values() {
                limit(db, wanted);
            }
        }
    }
}

/// Begins the file's transaction, opening the file first if it isn't.
fn begin(
    files: &mut HashMap<FileKey, Connection>,
    shards: &Shards,
    options: &OpenOptions,
    file: FileKey,
) -> Result<()> {
    if let Entry::Vacant(vacant) = files.entry(file) {
        let schema = match file {
            FileKey::Main => Schema::Main,
            FileKey::Bucket(_) => Schema::Bucket,
        };
        let db = open_for_writing(&shards.path(file), schema, Role::Writer).map_err(|error| {
            metrics::counter!("posthouse_store_failures_total", "kind" => "open").increment(1);
            tracing::error!(%error, "a file of the store can't be opened");
            Error::Store(StoreFault::Failed)
        })?;
        limit(&db, options.pages_max.load(Ordering::Relaxed));
        vacant.insert(db);
        if let FileKey::Bucket(bucket) = file {
            shards.add(bucket);
        }
    }
    let begun = files[&file].prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
    begun.map(drop).map_err(|error| Error::Store(fault(&error)))
}

/// Runs `work` so that nothing of it stays if it returns `false`.
fn savepoint(db: &Connection, work: impl FnOnce() -> bool) -> rusqlite::Result<()> {
    db.prepare_cached("SAVEPOINT job")?.execute([])?;
    if !work() && !db.is_autocommit() {
        db.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    if !db.is_autocommit() {
        db.prepare_cached("RELEASE job")?.execute([])?;
    }
    Ok(())
}

fn limit(db: &Connection, pages: u32) {
    // SQLite's own limit, 2^32 - 2 pages, is the value for "none".
    let pages = if pages == 0 { u32::MAX - 1 } else { pages };
    if let Err(error) = db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())) {
        tracing::error!(%error, "the limit of a file's size can't be set");
    }
}
