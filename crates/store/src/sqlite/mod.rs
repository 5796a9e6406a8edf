//! The store on SQLite: one writing thread with group commit, a few reading threads, one file for
//! what lasts and one for each expiry bucket.
//!
//! [`writer`] and [`readers`] own all connections; the files named after the port's parts hold what
//! runs on them. [`open`] says how files are checked, [`shards`] where a conversation lives.

mod answers;
pub(crate) mod apps;
pub(crate) mod audit;
mod checksum;
mod clients;
mod conversations;
mod groups;
mod history;
mod hot;
mod inbox;
mod index;
mod listing;
mod log;
mod marks;
mod notes;
pub(crate) mod open;
mod overlay;
mod positions;
mod queue;
mod readers;
mod removal;
mod rows;
mod shards;
mod tail;
mod timeline;
mod upkeep;
mod views;
mod writer;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::id::{AppId, ConversationId, MessageId};
use posthouse_core::port::store::AfterCommit;
use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::oneshot;

use answers::Answers;
use open::{
    Lane, OpenError, OpenOptions, Pace, Role, Schema, check_library, make_dir, open_error, open_for_writing,
    secret_file,
};
use queue::{Queue, Refused};
use readers::{Read, Reader};
use rows::{Work, absent};
use shards::{FileKey, Shards, main_path};
use tail::{Late, Tails};
use writer::{Outcome, Request, Run, Touches, Tx, Write, Writer};

/// The store of one data directory, for one server.
pub struct SqliteStore {
    options: OpenOptions,
    shards: Arc<Shards>,
    writer: Arc<Queue<Request>>,
    readers: Arc<Queue<Read>>,
    /// Queries that may take long, on a thread of their own.
    searches: Arc<Queue<Read>>,
    app_keys: RwLock<HashMap<AppId, i64>>,
    /// What is in the log and not yet in its index.
    tails: Arc<Tails>,
    /// Lists that are still as they were answered.
    answers: Arc<Answers>,
    /// How far devices have got, as far as it isn't written yet.
    positions: positions::Positions,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store is open: two servers on one directory would each believe that they
    /// are the one writer.
    _lock: File,
}

/// No app has this key: whatever is asked of it finds nothing.
const UNKNOWN_APP: i64 = -1;

impl SqliteStore {
    /// Opens the data directory `dir`, making what isn't there. Blocks for the time of a few file
    /// operations, or longer when the log of a crash is read.
    pub fn open(dir: &Path, options: OpenOptions) -> std::result::Result<Self, OpenError> {
        check_library()?;
        make_dir(dir)?;
        let lock = lock(dir)?;
        make_dir(&dir.join("expiring"))?;
        let main = open_main(dir, Role::Writer)?;
        let shards = Arc::new(Shards::find(dir)?);
        shards.sweep()?;
        let mut files = HashMap::new();
        let tails = Arc::new(Tails::default());
        let ready = |db: &Connection, file: FileKey| {
            advance_ids(db, &options)?;
            index::load(db, file, &tails)
        };
        ready(&main, FileKey::Main).map_err(|source| open_error(&main_path(dir), source))?;
        files.insert(FileKey::Main, main);
        for bucket in shards.living(options.clock.now()) {
            let key = FileKey::Bucket(bucket);
            let path = shards.path(key);
            let db = open_for_writing(&path, Schema::Bucket, Role::Writer)?;
            ready(&db, key).map_err(|source| open_error(&path, source))?;
            files.insert(key, db);
        }
        Self::start(dir, options, shards, files, tails, lock)
    }

    fn start(
        dir: &Path,
        options: OpenOptions,
        shards: Arc<Shards>,
        files: HashMap<FileKey, Connection>,
        tails: Arc<Tails>,
        lock: File,
    ) -> std::result::Result<Self, OpenError> {
        let gate = Arc::new(RwLock::new(()));
        let answers = Arc::new(Answers::default());
        let readers = Arc::new(Queue::new(readers::QUEUE_MAX, options.pace));
        let searches = Arc::new(Queue::new(readers::SEARCHES_MAX, options.pace));
        let writer = Arc::new(Queue::new(writer::QUEUE_MAX, options.pace));
        let store = Self {
            options: options.clone(),
            shards: Arc::clone(&shards),
            writer: Arc::clone(&writer),
            readers: Arc::clone(&readers),
            searches: Arc::clone(&searches),
            app_keys: RwLock::default(),
            tails: Arc::clone(&tails),
            answers: Arc::clone(&answers),
            positions: positions::Positions::default(),
            threads: Mutex::default(),
            _lock: lock,
        };
        let reading = match options.pace {
            Pace::Free => options.readers.max(1),
            Pace::Stepped => 1,
        };
        let lanes = std::iter::repeat_n(&readers, reading).chain([&searches]);
        for (number, lane) in lanes.enumerate() {
            let (shards, gate) = (Arc::clone(&shards), Arc::clone(&gate));
            let reader = Reader::new(shards, gate, Arc::clone(&options.clock), Arc::clone(&tails))
                .map_err(|source| OpenError::Sqlite { file: main_path(dir), source })?;
            let queue = Arc::clone(lane);
            store.spawn(dir, format!("store-read-{number}"), move || reader.run(&queue))?;
        }
        let on_forget = Box::new(move || {
            readers.nudge();
            searches.nudge();
        });
        let writer = Writer {
            queue: writer,
            shards,
            gate,
            options,
            on_forget,
            run: Run::after_start(tails.conversations().into_iter().map(FileKey::of)),
            files,
            patch_times: HashMap::new(),
            pages_max: 0,
            tails,
            answers,
            hots: hot::Hots::default(),
        };
        store.spawn(dir, "store-write".to_owned(), move || writer.run())?;
        Ok(store)
    }

    /// How many requests wait in a lane.
    #[must_use]
    pub fn queued(&self, lane: Lane) -> usize {
        match lane {
            Lane::Write => self.writer.len(),
            Lane::Read => self.readers.len(),
            Lane::Search => self.searches.len(),
        }
    }

    /// Does up to `max` of the requests that wait in a lane (writes in one batch, as if they had come
    /// together), and returns how many those were. Only a store with [`Pace::Stepped`] has to be told; of
    /// any other this is 0.
    pub fn step(&self, lane: Lane, max: usize) -> usize {
        match lane {
            Lane::Write => self.writer.step(max),
            Lane::Read => self.readers.step(max),
            Lane::Search => self.searches.step(max),
        }
    }

    fn spawn(
        &self,
        dir: &Path,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> std::result::Result<(), OpenError> {
        let thread = thread::Builder::new()
            .name(name)
            .spawn(work)
            .map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Writes to the file of `conversation`, whose rows are up to date then.
    async fn write_to<T, F>(&self, conversation: ConversationId, after: AfterCommit<T>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Work<Outcome<T>> + Send + 'static,
    {
        self.ensure_bucket(conversation)?;
        let touches = Touches::Conversations(vec![conversation]);
        self.write_touching(FileKey::of(conversation), touches, after, work).await
    }

    /// Writes to the file of `conversation`, whose index may be late: `work` takes its tail into account.
    async fn write_log<T, F>(&self, conversation: ConversationId, after: AfterCommit<T>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Work<Outcome<T>> + Send + 'static,
    {
        self.ensure_bucket(conversation)?;
        self.write_touching(FileKey::of(conversation), Touches::LogOf(conversation), after, work).await
    }

    /// Runs `work` in a transaction of `posthouse.db`; nobody is told.
    async fn write_main<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Work<Outcome<T>> + Send + 'static,
    {
        self.write_touching(FileKey::Main, Touches::Log, Box::new(|_| ()), work).await
    }

    async fn write_touching<T, F>(
        &self,
        file: FileKey,
        touches: Touches,
        after: AfterCommit<T>,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Work<Outcome<T>> + Send + 'static,
    {
        self.write_job(|reply| Write::new(file, touches, after, work, reply)).await
    }

    /// Hands a job to the writer and waits for what it came to.
    async fn write_job<T, F>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T>>) -> Write<T, F> + Send,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Work<Outcome<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Write(Box::new(job(reply))))?;
        answer.await.unwrap_or(Err(Error::Store(StoreFault::Closing)))
    }

    fn submit(&self, request: Request) -> Result<()> {
        match self.writer.push(request) {
            Ok(_) => {
                metrics::gauge!("posthouse_writer_queue").increment(1.0);
                Ok(())
            }
            Err(Refused::Full) => {
                metrics::counter!("posthouse_store_failures_total", "kind" => "busy").increment(1);
                Err(StoreFault::Busy.into())
            }
            Err(Refused::Closed) => Err(StoreFault::Closing.into()),
        }
    }

    /// Reads on one of the reading threads.
    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Reader) -> Work<T> + Send + 'static,
    {
        self.read_on(&self.readers, work).await
    }

    /// Reads on the threads of `lane`.
    async fn read_on<T, F>(&self, lane: &Queue<Read>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Reader) -> Work<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // A caller that has given up needs no answer.
        let read = Box::new(move |reader: &mut Reader| drop(reply.send(work(reader).map_err(Error::from))));
        match lane.push(read) {
            Ok(_) => {}
            Err(Refused::Full) => {
                metrics::counter!("posthouse_store_failures_total", "kind" => "busy").increment(1);
                return Err(StoreFault::Busy.into());
            }
            Err(Refused::Closed) => return Err(StoreFault::Closing.into()),
        }
        // No answer at all means that the read panicked.
        answer.await.unwrap_or(Err(Error::Store(StoreFault::Failed)))
    }

    /// Reads on the threads of `lane`, with what is late.
    async fn read_late<T, F>(&self, lane: &Queue<Read>, late: Late, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Reader) -> Work<T> + Send + 'static,
    {
        self.read_on(lane, move |reader| {
            reader.late = late;
            work(reader)
        })
        .await
    }

    /// Reads from the file of `conversation`.
    async fn read_from<T, F>(&self, conversation: ConversationId, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, posthouse_core::time::Timestamp) -> Work<T> + Send + 'static,
    {
        self.read_from_on(&self.readers, conversation, work).await
    }

    /// Reads from the file of `conversation` on the threads of `lane`, everything said before included.
    async fn read_from_on<T, F>(&self, lane: &Queue<Read>, conversation: ConversationId, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, posthouse_core::time::Timestamp) -> Work<T> + Send + 'static,
    {
        self.read_late(lane, Late::Conversations(vec![conversation]), move |reader| {
            let now = reader.now();
            match reader.snapshot(FileKey::of(conversation))? {
                Some(snapshot) => work(&snapshot, now),
                None => Err(absent(conversation).into()),
            }
        })
        .await
    }

    /// A temporary conversation without a file is over, whatever is asked of it.
    fn ensure_bucket(&self, conversation: ConversationId) -> Result<()> {
        match conversation.bucket() {
            Some(bucket) if !self.shards.has(bucket) => Err(Error::TemporaryOver),
            Some(_) | None => Ok(()),
        }
    }

    /// The app's short key, or one that finds nothing.
    async fn app_key(&self, app: &AppId) -> Result<i64> {
        if let Some(key) = self.app_keys.read().unwrap_or_else(PoisonError::into_inner).get(app) {
            return Ok(*key);
        }
        let id = app.clone();
        let key = self
            .read(move |reader| {
                let Some(main) = reader.snapshot(FileKey::Main)? else { return Ok(None) };
                let mut find = main.prepare_cached("SELECT key FROM app WHERE id = ?1")?;
                Ok(find.query_row([id.as_str()], |row| row.get::<_, i64>(0)).optional()?)
            })
            .await?;
        let Some(key) = key else { return Ok(UNKNOWN_APP) };
        // Apps are never deleted, so a key once seen stays right.
        self.app_keys.write().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), key);
        Ok(key)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.writer.close();
        self.readers.close();
        self.searches.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // The last handle may be dropped by a closure on one of these threads: none waits for itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// Opens the main file. Two processes that both find the directory empty take turns.
fn open_main(dir: &Path, role: Role) -> std::result::Result<Connection, OpenError> {
    let turn_path: PathBuf = dir.join("posthouse.setup.lock");
    let turn = secret_file(&turn_path)?;
    turn.lock().map_err(|source| OpenError::Io { path: turn_path.clone(), source })?;
    let io = |source| OpenError::Io { path: dir.join("posthouse.setup.lock"), source };
    // What was made once is not made anew: an empty store in place of a lost one would look like a
    // first start, and everything in the old one like it never was.
    let main = main_path(dir);
    let made_before = turn.metadata().map_err(io)?.len() > 0;
    if made_before && !std::fs::metadata(&main).is_ok_and(|file| file.len() > 0) {
        return Err(OpenError::Gone { file: main });
    }
    let db = open_for_writing(&main, Schema::Main, role)?;
    if !made_before {
        let mut turn = &turn;
        turn.write_all(b"made\n").and_then(|()| turn.sync_all()).map_err(io)?;
    }
    // The turn ends when its file is closed.
    Ok(db)
}

fn lock(dir: &Path) -> std::result::Result<File, OpenError> {
    let path = dir.join("posthouse.lock");
    let file = secret_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// No id is given twice, and the time of cursors doesn't go back, also when the clock is behind.
fn advance_ids(db: &Connection, options: &OpenOptions) -> rusqlite::Result<()> {
    let newest: Option<i64> = db.query_row(
        "SELECT max(coalesce((SELECT max(id) FROM message), 0), coalesce((SELECT max(cleared_id) FROM head), 0), \
         (SELECT until FROM indexed))",
        [],
        |row| row.get(0),
    )?;
    if let Some(id) = newest.and_then(|id| u64::try_from(id).ok()).and_then(MessageId::from_u64) {
        options.ids.advance_past(id);
    }
    let newest: Option<i64> =
        db.query_row("SELECT max(max(unread_at), max(patched_at)) FROM head", [], |row| row.get(0))?;
    // What comes is after what was, not at the same time.
    options.ids.advance_past_time(posthouse_core::time::Timestamp(newest.unwrap_or_default()).plus_ms(1));
    Ok(())
}
