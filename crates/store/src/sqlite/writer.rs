//! The one thread that writes, and its group commit.
//!
//! Requests wait in a bounded queue. The thread takes what is there, runs each job inside a savepoint
//! of its file's transaction, commits every touched file, calls the closures in the order of the
//! jobs, and then answers them all. One fsync serves up to [`BATCH_MAX`] jobs; when few are waiting,
//! commits keep [`COMMIT_SPACING`] apart, because an idle machine's fsyncs cost more than its work.
//!
//! A message is only written into the log; its conversation's [`tail`] is brought into the
//! index before a job that needs the rows ([`Touches`]), or in runs over all conversations that ride along
//! in later commits, one begun each [`RUN_EVERY_MS`] or when the tails are long.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::id::{ClientId, ConversationId, MessageId};
use posthouse_core::port::store::AfterCommit;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answers::{Answers, Change};
use super::hot::{Hot, Hots};
use super::open::{OpenOptions, Role, Schema, open_for_writing};
use super::queue::Queue;
use super::rows::{Work, fault, members, place};
use super::shards::{FileKey, Shards};
use super::tail::{self, Tails};

/// How many requests may wait. More are refused as [`StoreFault::Busy`]: at a thousand commits a
/// second this is far above what clients wait for.
pub(super) const QUEUE_MAX: usize = 8_192;

/// Jobs in one commit; larger batches only lengthen the wait of the first.
const BATCH_MAX: usize = 1_024;

/// From so many jobs on, a commit is worth its fsync at once.
const CROWD: usize = 64;

/// Smaller batches begin at least this long after the commit before.
const COMMIT_SPACING: Duration = Duration::from_millis(1);

/// How long a message may wait for the index while nobody asks for it. Longer runs share more pages;
/// what waits is read again after a crash. In milliseconds of the store's clock.
const RUN_EVERY_MS: i64 = 10_000;

/// And how much memory may wait.
const TAIL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Messages that a commit brings into the index for each job it serves: more than one, so that runs keep up, and few,
/// because a commit that takes long makes the next batch larger.
const INDEXED_PER_JOB: usize = 2;

/// And at least so many, or so many when nobody waits.
const INDEXED_PER_COMMIT: usize = 64;
const INDEXED_WHEN_IDLE: usize = 1_024;

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
    /// What is in the log and not in the index.
    pub(super) tails: &'a Tails,
    options: &'a OpenOptions,
    patch_times: &'a mut HashMap<i64, Timestamp>,
    hots: &'a mut Hots,
    /// Conversations taken into `hots` by this job.
    warmed: Vec<ConversationId>,
    said: Option<tail::Entry>,
    /// What else changes in lists.
    changes: Vec<Change>,
}

/// What of the index a job reads or changes, so that it is up to date before.
pub(super) enum Touches {
    /// Nothing that is ever late: other tables, or the log and its tails.
    Log,
    /// The same, in this conversation.
    LogOf(ConversationId),
    /// All rows of these conversations.
    Conversations(Vec<ConversationId>),
    /// All rows of a client's lasting conversations.
    Client {
        /// The app's key.
        app: i64,
        /// Whose.
        client: ClientId,
    },
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

    /// A living conversation of the app as it is with its tail, and its members.
    pub(super) fn hot(&mut self, app: i64, id: ConversationId) -> Work<Hot> {
        if let Some(hot) = self.hots.get(app, id) {
            hot.place.kind.ensure_alive(self.now)?;
            return Ok(hot);
        }
        let place = self.tails.applied(place(self.db, app, id, self.now)?);
        let hot = Hot { app, place, members: members(self.db, id)?.into() };
        self.warmed.push(id);
        self.hots.insert(hot.clone());
        Ok(hot)
    }

    /// Reads a conversation anew the next time: its row has changed.
    pub(super) fn cool(&mut self, id: ConversationId) {
        self.hots.remove(id);
        self.changes.push(Change::Conversation(id));
    }

    /// Notes that a client comes into a conversation.
    pub(super) fn comes(&mut self, app: i64, client: &ClientId) {
        self.changes.push(Change::Came(app, client.clone()));
    }

    /// Notes that a message is in the log, as the last thing that a job does.
    pub(super) fn said(&mut self, entry: tail::Entry) {
        self.said = Some(entry);
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
    /// What must be in the index before it runs.
    fn touches(&self) -> &Touches;
    /// Whether it writes by one statement and nothing else can fail after it. Such a job needs no
    /// savepoint.
    fn is_single(&self) -> bool;
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
    pub(super) touches: Touches,
    pub(super) single: bool,
    pub(super) work: Option<F>,
    pub(super) after: Option<AfterCommit<T>>,
    pub(super) outcome: Option<Result<Outcome<T>>>,
    pub(super) reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Write<T, F> {
    /// A job of one file that is there.
    pub(super) fn new(
        file: FileKey,
        touches: Touches,
        after: AfterCommit<T>,
        work: F,
        reply: oneshot::Sender<Result<T>>,
    ) -> Self {
        Self {
            file,
            makes_bucket: false,
            reads_siblings: false,
            touches,
            single: false,
            work: Some(work),
            after: Some(after),
            outcome: None,
            reply,
        }
    }
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

    fn touches(&self) -> &Touches {
        &self.touches
    }

    fn is_single(&self) -> bool {
        self.single
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
    pub(super) tails: Arc<Tails>,
    pub(super) answers: Arc<Answers>,
    pub(super) hots: Hots,
    pub(super) run: Run,
}

/// Runs over all tails.
pub(super) struct Run {
    /// What the run that is under way has still to index, the next one last.
    conversations: Vec<ConversationId>,
    /// The newest id when it began: when it is done, everything up to here is in the index of these files.
    until: Option<MessageId>,
    files: Vec<FileKey>,
    /// Files in which something was said since it began.
    spoken: HashSet<FileKey>,
    /// When the first of that was said.
    since: Timestamp,
}

impl Run {
    /// The next run begins with what the log of these files holds.
    pub(super) fn after_start(files: impl Iterator<Item = FileKey>) -> Self {
        Self {
            conversations: Vec::new(),
            until: None,
            files: Vec::new(),
            spoken: files.collect(),
            since: Timestamp(i64::MIN),
        }
    }

    fn is_under_way(&self) -> bool {
        self.until.is_some()
    }

    fn said_in(&mut self, file: FileKey, now: Timestamp) {
        if self.spoken.is_empty() {
            self.since = now;
        }
        self.spoken.insert(file);
    }

    /// Gives up; the next run does it all.
    fn stop(&mut self, now: Timestamp) {
        self.until = None;
        self.conversations.clear();
        for file in std::mem::take(&mut self.files) {
            self.said_in(file, now);
        }
    }

    /// How long the next run can wait, in milliseconds. A clock that was set back makes nobody wait longer.
    fn due_in_ms(&self, now: Timestamp) -> i64 {
        let waited = now.0.saturating_sub(self.since.0);
        if waited < 0 { 0 } else { (RUN_EVERY_MS - waited).max(0) }
    }
}

/// One commit in the making.
#[derive(Default)]
struct Batch {
    /// The files begun, and what has gone wrong with them.
    touched: BTreeMap<FileKey, Result<()>>,
    /// What changes in conversation lists.
    changes: Vec<Change>,
    /// Messages added to tails, by conversation.
    said: HashMap<ConversationId, usize>,
    /// The oldest messages of tails that are in the index with this commit, by conversation.
    indexed: HashMap<ConversationId, usize>,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut not_before = None;
        while let Some(requests) = self.queue.collect(BATCH_MAX, CROWD, not_before, self.next_run()) {
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
                        self.index_everything();
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

    /// When the index wants attention even if nobody asks for anything.
    fn next_run(&self) -> Option<Instant> {
        if self.run.is_under_way() {
            return Some(Instant::now());
        }
        let due_in = self.run.due_in_ms(self.options.clock.now()).unsigned_abs();
        (!self.run.spoken.is_empty()).then(|| Instant::now() + Duration::from_millis(due_in))
    }

    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        self.begin_run();
        if jobs.is_empty() && !self.run.is_under_way() {
            return;
        }
        let began = Instant::now();
        self.limit_pages();
        let mut batch = Batch::default();
        let files_of: Vec<Vec<FileKey>> =
            jobs.iter_mut().map(|job| self.run_job(&mut **job, &mut batch)).collect();
        if self.options.tail_max == 0 {
            self.index_what_was_said(&mut batch);
        }
        let most = match jobs.len() {
            0 => INDEXED_WHEN_IDLE,
            jobs => (jobs * INDEXED_PER_JOB).max(INDEXED_PER_COMMIT),
        };
        self.go_on_with_run(most, &mut batch);
        {
            // Whoever lists unread messages sees all of a batch and its closures, or nothing of both.
            let gate = Arc::clone(&self.gate);
            let _gate = gate.write().unwrap_or_else(PoisonError::into_inner);
            self.finish(&mut batch);
            for (job, files) in jobs.iter_mut().zip(&files_of) {
                if let Some(Err(error)) =
                    files.iter().filter_map(|file| batch.touched.get(file)).find(|state| state.is_err())
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

    /// Commits every file of the batch, or rolls it back, and corrects what memory knows.
    fn finish(&mut self, batch: &mut Batch) {
        for (file, state) in &mut batch.touched {
            if state.is_ok() {
                *state = self.commit(*file);
            } else {
                self.roll_back(*file);
            }
            if state.is_err() {
                self.hots.clear();
                let now = self.options.clock.now();
                self.run.said_in(*file, now);
                self.run.stop(now);
            }
        }
        let is_kept = |id: ConversationId| batch.touched.get(&FileKey::of(id)).is_some_and(Result::is_ok);
        // In this order: nobody is to see what a member who came in between must not.
        for (id, count) in &batch.indexed {
            if is_kept(*id) {
                self.tails.drop_oldest(*id, *count);
            }
        }
        for (id, count) in &batch.said {
            if is_kept(*id) {
                self.tails.committed(*id);
            } else {
                self.tails.drop_newest(*id, *count);
            }
        }
        // After the tails: a list read in between would lack what is late, and be kept for good. Of a commit
        // that failed nobody knows whether it stands.
        self.answers.change(std::mem::take(&mut batch.changes));
    }

    /// Runs one job in its file's transaction; returns the files whose commit it depends on.
    fn run_job(&mut self, job: &mut dyn Job, batch: &mut Batch) -> Vec<FileKey> {
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
            if let Err(error) = self.begin(*file, batch) {
                job.refuse(error);
                return Vec::new();
            }
        }
        if let Err(error) = self.index_for(job, batch) {
            job.refuse(error);
            return files;
        }
        let db = &self.files[&files[0]];
        let mut tx = Tx {
            db,
            siblings: files[1..].iter().map(|file| &self.files[file]).collect(),
            now,
            tails: &self.tails,
            options: &self.options,
            patch_times: &mut self.patch_times,
            hots: &mut self.hots,
            warmed: Vec::new(),
            said: None,
            changes: Vec::new(),
        };
        let single = job.is_single();
        let mut panicked = false;
        let mut run = || match catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))) {
            Ok(keep) => keep,
            Err(_) => {
                tracing::error!("a transaction panicked; nothing of it was kept");
                job.refuse(StoreFault::Failed.into());
                panicked = true;
                false
            }
        };
        let mut keep = false;
        let ran = if single {
            keep = run();
            Ok(())
        } else {
            savepoint(db, || {
                keep = run();
                keep
            })
        };
        let (said, warmed) = (tx.said.take(), std::mem::take(&mut tx.warmed));
        let changes = std::mem::take(&mut tx.changes);
        // Some errors make SQLite roll the whole transaction back, and without its savepoint a job can't be
        // undone alone: the jobs before are lost with it.
        if let Err(error) = ran {
            let error = Error::Store(fault(&error));
            job.refuse(error.clone());
            batch.touched.insert(files[0], Err(error));
        } else if db.is_autocommit() || (panicked && single) {
            let error = job.fault().unwrap_or(StoreFault::Failed);
            batch.touched.insert(files[0], Err(error.into()));
        }
        if !keep {
            for id in warmed {
                self.hots.remove(id);
            }
            return files;
        }
        batch.changes.extend(changes);
        match job.touches() {
            Touches::Log => {}
            Touches::LogOf(id) => batch.changes.push(Change::Conversation(*id)),
            Touches::Conversations(ids) => {
                batch.changes.extend(ids.iter().copied().map(Change::Conversation));
            }
            Touches::Client { .. } => batch.changes.push(Change::Everything),
        }
        if let Some(entry) = said {
            let id = entry.message.conversation;
            batch.changes.push(Change::Conversation(id));
            let hot = self.hots.said(&entry);
            self.tails.push(entry.with_own_bytes(), hot);
            *batch.said.entry(id).or_default() += 1;
            self.run.said_in(files[0], now);
        }
        files
    }

    /// Begins the file's transaction, unless this batch has.
    fn begin(&mut self, file: FileKey, batch: &mut Batch) -> Result<()> {
        if let Some(state) = batch.touched.get(&file) {
            return state.clone();
        }
        let begun = begin(&mut self.files, &self.shards, &self.options, &self.tails, file);
        batch.touched.insert(file, begun.clone());
        begun
    }

    /// Brings what the job is going to look at into the index.
    fn index_for(&mut self, job: &dyn Job, batch: &mut Batch) -> Result<()> {
        match job.touches() {
            Touches::Log | Touches::LogOf(_) => Ok(()),
            Touches::Conversations(conversations) => {
                for id in conversations {
                    self.hots.remove(*id);
                    self.index(*id, batch)?;
                }
                Ok(())
            }
            Touches::Client { app, client } => {
                self.hots.clear();
                let dirty = self.tails.conversations();
                let lasting = dirty.into_iter().filter(|id| !id.is_temporary());
                let db = &self.files[&FileKey::Main];
                let mine =
                    super::index::of_client(db, *app, client, lasting.collect()).map_err(Error::from)?;
                mine.into_iter().try_for_each(|id| self.index(id, batch).map(drop))
            }
        }
    }

    /// Brings the tail of a conversation into the index; returns how many messages it had.
    fn index(&mut self, id: ConversationId, batch: &mut Batch) -> Result<usize> {
        let done = batch.indexed.get(&id).copied().unwrap_or(0);
        let entries = self.tails.after(id, done);
        if entries.is_empty() {
            return Ok(0);
        }
        let file = FileKey::of(id);
        self.begin(file, batch)?;
        let db = &self.files[&file];
        // What was acknowledged must be readable, also when there is no room for more.
        if self.pages_max > 0 {
            limit(db, 0);
        }
        let mut outcome = Ok(());
        let ran = savepoint(db, || {
            outcome = tail::index(db, id, &entries).map_err(Error::from);
            outcome.is_ok()
        });
        if self.pages_max > 0 {
            limit(db, self.pages_max);
        }
        let outcome = ran.map_err(|error| Error::Store(fault(&error))).and(outcome);
        if let Err(error) = outcome {
            if db.is_autocommit() {
                batch.touched.insert(file, Err(error.clone()));
            }
            return Err(error);
        }
        batch.indexed.insert(id, done + entries.len());
        Ok(entries.len())
    }

    /// Indexes what was said in this batch, where nothing is to wait.
    fn index_what_was_said(&mut self, batch: &mut Batch) {
        let said: Vec<ConversationId> = batch.said.keys().copied().collect();
        for id in said {
            if let Err(error) = self.index(id, batch) {
                tracing::warn!(%error, "messages wait for the index");
            }
        }
    }

    /// Begins a run over all tails if it is time for one.
    fn begin_run(&mut self) {
        let (len, bytes) = self.tails.size();
        let long = len >= self.options.tail_max.max(1) || bytes >= TAIL_BYTES_MAX;
        let due = long || self.run.due_in_ms(self.options.clock.now()) == 0;
        if !self.run.is_under_way() && !self.run.spoken.is_empty() && due {
            self.begin_run_now();
        }
    }

    fn begin_run_now(&mut self) {
        self.run.until = Some(self.options.ids.next(self.options.clock.now()));
        self.run.files = self.run.spoken.drain().collect();
        self.run.conversations = self.tails.conversations();
        self.run.conversations.reverse();
    }

    /// Indexes about `most` messages of the run that is under way, if one is.
    fn go_on_with_run(&mut self, most: usize, batch: &mut Batch) {
        let mut left = most;
        while left > 0 {
            let Some(id) = self.run.conversations.pop() else { break };
            match self.index(id, batch) {
                Ok(count) => left = left.saturating_sub(count),
                Err(error) => {
                    tracing::warn!(%error, "messages wait longer for the index");
                    self.run.stop(self.options.clock.now());
                    return;
                }
            }
        }
        let Some(until) = self.run.until.filter(|_| self.run.conversations.is_empty()) else { return };
        while let Some(file) = self.run.files.pop() {
            // A bucket that was put away meanwhile is not to be made anew.
            if matches!(file, FileKey::Bucket(bucket) if !self.shards.has(bucket)) {
                continue;
            }
            let marked = self.begin(file, batch).and_then(|()| {
                tail::set_indexed_until(&self.files[&file], until)
                    .map_err(|error| Error::Store(fault(&error)))
            });
            if marked.is_err() {
                self.run.files.push(file);
                return self.run.stop(self.options.clock.now());
            }
        }
        self.run.until = None;
    }

    /// Leaves nothing to the next start.
    fn index_everything(&mut self) {
        self.run.stop(self.options.clock.now());
        if self.run.spoken.is_empty() {
            return;
        }
        self.begin_run_now();
        let mut batch = Batch::default();
        self.go_on_with_run(usize::MAX, &mut batch);
        self.finish(&mut batch);
        if !self.tails.is_empty() {
            tracing::warn!("what is not in the index is left to the next start");
        }
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
            self.tails.forget(Some(bucket));
            self.hots.clear();
            self.run.spoken.remove(&FileKey::Bucket(bucket));
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
    tails: &Tails,
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
        super::advance_ids(&db, options)
            .and_then(|()| super::index::load(&db, file, tails))
            .map_err(|error| Error::Store(fault(&error)))?;
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
