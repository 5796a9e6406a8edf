//! Opening files: what is checked before anything is written, and how connections are set up.
//!
//! A file that is damaged, foreign or newer than this program is refused with its name and a way
//! out, and is left exactly as it was.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use posthouse_core::idgen::IdGen;
use posthouse_core::time::Clock;
use refinery::{Migration, Runner};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::log;

/// "post" in ASCII; lets `file` and us tell our files from other SQLite databases.
const APPLICATION_ID: i32 = 0x706F_7374;

/// The first release with the fix of the race between a checkpoint and a write after a reset of the
/// log (sqlite.org/wal.html, "WAL-reset bug").
const SQLITE_MIN: i32 = 3_051_003;

/// Another process (the command line beside a server) holds the write lock for milliseconds only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Files up to this size are read whole when opened; larger ones would delay the start.
const QUICK_CHECK_BYTES_MAX: u64 = 16 * 1024 * 1024;

const STATEMENT_CACHE: usize = 256;

/// The default of [`OpenOptions::tail_max`]: long runs share pages (ADR 19), and what waits is read again after
/// a crash.
const TAIL_MAX: usize = 65_536;

/// How to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// The time of messages, changes and expiry.
    pub clock: Arc<dyn Clock>,
    /// Gives message ids; is advanced past everything stored.
    pub ids: Arc<IdGen>,
    /// Threads that read, at least one.
    pub readers: usize,
    /// The largest size of each file in pages of 4 KiB, 0 for no limit; may change while the store
    /// is open. A full disk looks the same.
    pub pages_max: Arc<AtomicU32>,
    /// From so many messages on that are in the log and not in its index, a run brings them there. 0
    /// indexes every message in its own commit.
    pub tail_max: usize,
    /// Who decides when the store's threads work.
    pub pace: Pace,
}

/// Who decides when the store's threads work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pace {
    /// They do, as soon as there is something to do.
    #[default]
    Free,
    /// Whoever calls [`SqliteStore::step`](crate::SqliteStore::step): for simulations, in which the same
    /// seed must give the same order. There is one reader for each lane then, and what still waits when
    /// the store is dropped is not done, as in a crash.
    Stepped,
}

/// One of the queues in which requests to the store wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// For the one writer, which takes many into one transaction.
    Write,
    /// For the readers.
    Read,
    /// Queries that may take long.
    Search,
}

impl OpenOptions {
    /// Three readers and no limit of size.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<IdGen>) -> Self {
        Self {
            clock,
            ids,
            readers: 3,
            pages_max: Arc::new(AtomicU32::new(0)),
            tail_max: TAIL_MAX,
            pace: Pace::Free,
        }
    }
}

/// Why a store can't be opened. The text says which file, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has the directory.
    #[error("another Posthouse server is using {}; stop it, or give this one its own data directory", dir.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// Not an SQLite database at all.
    #[error("{} is not a database; move it away, or restore it from a backup", file.display())]
    NotADatabase {
        /// The file.
        file: PathBuf,
    },
    /// The file was here once.
    #[error(
        "{} is gone or empty, although this data directory was used before; restore it from a backup, or \
         start with a new directory", file.display()
    )]
    Gone {
        /// The file.
        file: PathBuf,
    },
    /// Some other program's SQLite database.
    #[error("{} is a database of another program; give Posthouse a data directory of its own", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// A database that can't be trusted.
    #[error(
        "{} is damaged ({reason}); restore the data directory from a backup, and keep the damaged file for a repair with \
         `sqlite3 FILE .recover`", file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Written by a newer Posthouse.
    #[error(
        "{} was written by a newer Posthouse (its schema has version {found}, this program knows {known}); run that newer \
         version, or restore a backup from before the update", file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The SQLite library linked in has a bug that loses data.
    #[error("SQLite {version} can corrupt databases; link version 3.51.3 or newer")]
    OldLibrary {
        /// Its version.
        version: &'static str,
    },
    /// The system refuses.
    #[error("can't use {}: {source}; check that it exists, that it belongs to this user and that the disk has room", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("can't open {}: {source}; check its permissions and that the disk has room", file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The schema can't be brought up to date. Nothing of the failed step was kept.
    #[error("can't bring {} up to date: {source}; nothing was changed, restore a backup or report this", file.display())]
    Migration {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<refinery::Error>,
    },
}

/// Which tables a file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Schema {
    /// `posthouse.db`: lasting conversations and apps.
    Main,
    /// One expiry bucket.
    Bucket,
}

impl Schema {
    fn migrations(self) -> &'static [(&'static str, &'static str)] {
        const TIMELINE: (&str, &str) = ("V1__timeline", include_str!("../migrations/V1__timeline.sql"));
        const APP: (&str, &str) = ("V2__app", include_str!("../migrations/V2__app.sql"));
        const VIEWS: (&str, &str) = ("V3__views", include_str!("../migrations/V3__views.sql"));
        const CLIENTS: (&str, &str) = ("V4__clients", include_str!("../migrations/V4__clients.sql"));
        const INDEX: (&str, &str) = ("V5__late_index", include_str!("../migrations/V5__late_index.sql"));
        const CHECKSUM: (&str, &str) = ("V6__checksum", include_str!("../migrations/V6__checksum.sql"));
        match self {
            Self::Main => &[TIMELINE, APP, VIEWS, CLIENTS, INDEX, CHECKSUM],
            Self::Bucket => &[TIMELINE, VIEWS, INDEX, CHECKSUM],
        }
    }

    fn version(self) -> u32 {
        match self {
            Self::Main | Self::Bucket => 6,
        }
    }
}

/// What a writing connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The server's writer; the only one that checkpoints.
    Writer,
    /// A short visit of another process.
    Visitor,
}

/// Refuses a library that can lose data.
pub(super) fn check_library() -> Result<(), OpenError> {
    if rusqlite::version_number() < SQLITE_MIN {
        return Err(OpenError::OldLibrary { version: rusqlite::version() });
    }
    Ok(())
}

/// Makes a directory that only its owner can enter, unless it exists, and sees to it that a power cut
/// doesn't take its name with everything in it.
pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    let missing =
        dir.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).count();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    // Also when it was there: whoever made it may have been killed before it got this far.
    for made in dir.ancestors().take(missing.max(1)) {
        sync_names_beside(made)?;
    }
    Ok(())
}

/// Brings the names in the directory of `path` to the disk. Where another user's directory can't be
/// opened there is nothing that we could do.
fn sync_names_beside(path: &Path) -> Result<(), OpenError> {
    let Some(above) = path.parent() else { return Ok(()) };
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    match File::open(above).and_then(|above| above.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(|source| OpenError::Io { path: above.to_owned(), source }),
    }
}

/// Opens (or makes) a file that only its owner can read, without touching its content.
pub(super) fn secret_file(path: &Path) -> Result<File, OpenError> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

/// Opens `file` for writing, making it and bringing its schema up to date where needed.
pub(super) fn open_for_writing(file: &Path, schema: Schema, role: Role) -> Result<Connection, OpenError> {
    let sqlite = |source| OpenError::Sqlite { file: file.to_owned(), source };
    check_header(file, schema)?;
    tighten(file)?;
    if role == Role::Writer {
        // Beside a server, whose log grows meanwhile, there is nothing to be seen.
        check_log(file)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(file, flags).map_err(sqlite)?;
    // Until the file is known to be good, even closing it must not write to it.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    check_content(&db, file, schema)?;
    set_up_writer(&db, schema, role).map_err(|source| open_error(file, source))?;
    ensure_log(&db, file)?;
    rewrite_log(&db, file)?;
    migrate(&mut db, file, schema)?;
    if role == Role::Writer {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sqlite)?;
    }
    Ok(db)
}

/// Opens `file` for reading only.
pub(super) fn open_for_reading(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    keep_plans(&db)?;
    db.execute_batch(
        "PRAGMA query_only = on; PRAGMA temp_store = memory; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA cache_size = -4096;",
    )?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(db)
}

/// What the first hundred bytes tell, without SQLite (sqlite.org/fileformat2.html, "The Database Header").
fn check_header(file: &Path, schema: Schema) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: file.to_owned(), source };
    let mut header = [0_u8; 100];
    let opened = secret_file(file)?;
    let length = opened.metadata().map_err(io)?.len();
    if length == 0 {
        // New, or made by a start that was cut short before it wrote anything.
        return Ok(());
    }
    if fs::metadata(with_suffix(file, "-journal")).is_ok_and(|journal| journal.len() > 0) {
        // The very first write was cut short. SQLite undoes it, and what it finds then is looked at next.
        return Ok(());
    }
    let read = (&opened).take(100).read(&mut header).map_err(io)?;
    if read < 16 || &header[..16] != b"SQLite format 3\0" {
        return Err(OpenError::NotADatabase { file: file.to_owned() });
    }
    let damaged = |reason: &str| OpenError::Damaged { file: file.to_owned(), reason: reason.to_owned() };
    if read < 100 {
        return Err(damaged("it ends within its first hundred bytes"));
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let version = word(60);
    if i64::from(word(68)) == i64::from(APPLICATION_ID) && version > schema.version() {
        return Err(OpenError::Newer { file: file.to_owned(), found: version, known: schema.version() });
    }
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let log = fs::metadata(with_suffix(file, "-wal")).map_or(0, |found| found.len());
    // With a log, the missing pages may still be in there.
    if log == 0 && length < page_bytes * u64::from(word(28)) {
        return Err(damaged("its end is missing"));
    }
    Ok(())
}

/// What SQLite tells without writing.
fn check_content(db: &Connection, file: &Path, schema: Schema) -> Result<(), OpenError> {
    let wrong = |source| open_error(file, source);
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(wrong);
    let tables = number("SELECT count(*) FROM sqlite_master")?;
    let application = number("PRAGMA application_id")?;
    if application != i64::from(APPLICATION_ID) && tables > 0 {
        let ours = number("SELECT count(*) FROM sqlite_master WHERE name = 'refinery_schema_history'")?;
        if application != 0 || ours == 0 {
            return Err(OpenError::Foreign { file: file.to_owned() });
        }
    }
    let mut version = number("PRAGMA user_version")?;
    if number("SELECT count(*) FROM sqlite_master WHERE name = 'refinery_schema_history'")? > 0 {
        version = version.max(number("SELECT coalesce(max(version), 0) FROM refinery_schema_history")?);
    }
    if version > i64::from(schema.version()) {
        let found = u32::try_from(version).unwrap_or(u32::MAX);
        return Err(OpenError::Newer { file: file.to_owned(), found, known: schema.version() });
    }
    if fs::metadata(file).is_ok_and(|found| found.len() <= QUICK_CHECK_BYTES_MAX) {
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(wrong)?;
        if verdict != "ok" {
            let reason = verdict.lines().last().unwrap_or_default().to_owned();
            return Err(OpenError::Damaged { file: file.to_owned(), reason });
        }
    }
    Ok(())
}

fn set_up_writer(db: &Connection, schema: Schema, role: Role) -> rusqlite::Result<()> {
    if db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0 {
        // Only before the first page is written can it be chosen; later it would write for nothing.
        db.execute_batch("PRAGMA auto_vacuum = incremental")?;
    }
    db.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA foreign_keys = off; \
         PRAGMA temp_store = memory;",
    )?;
    // In KiB, as a negative number. Up to eight buckets are open at once.
    let cache = match schema {
        Schema::Main => -65_536,
        Schema::Bucket => -8_192,
    };
    db.pragma_update(None, "cache_size", cache)?;
    let checkpoint_pages = match role {
        Role::Writer => 2_000,
        Role::Visitor => 0,
    };
    db.pragma_update(None, "wal_autocheckpoint", checkpoint_pages)?;
    keep_plans(db)?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(())
}

/// Keeps a statement's plan whatever is bound to it. Otherwise one that could use a partial index is compiled anew
/// each time it is run.
fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Makes sure that commits go to a log. Where SQLite can't switch to one, because a write failed, it says so by
/// naming the old mode and goes on with that: there a commit is the deletion of a file, which no sync covers.
fn ensure_log(db: &Connection, file: &Path) -> Result<(), OpenError> {
    let mode: String = db
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(|source| open_error(file, source))?;
    if mode == "wal" {
        return Ok(());
    }
    let source =
        io::Error::other(format!("SQLite stays in the mode \"{mode}\", in which a power cut takes commits"));
    Err(OpenError::Io { path: file.to_owned(), source })
}

/// Makes sure that the log is on the disk before anything is built on it; see [`log::rewrite`].
fn rewrite_log(db: &Connection, file: &Path) -> Result<(), OpenError> {
    let path = with_suffix(file, "-wal");
    if fs::metadata(&path).map_or(0, |found| found.len()) == 0 {
        return Ok(());
    }
    let sqlite = |source| open_error(file, source);
    // Nobody else adds to the log or begins it anew meanwhile.
    db.execute_batch("BEGIN IMMEDIATE").map_err(sqlite)?;
    let rewritten = log::rewrite(&path).map_err(|source| OpenError::Io { path: path.clone(), source });
    db.execute_batch("ROLLBACK").map_err(sqlite)?;
    rewritten
}

/// Refuses a log that is damaged where SQLite would take the damage for its end.
fn check_log(file: &Path) -> Result<(), OpenError> {
    let path = with_suffix(file, "-wal");
    let damage = log::damaged_at(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let Some(at) = damage else { return Ok(()) };
    let reason = format!("what is written in {} from byte {at} on can't be trusted", path.display());
    Err(OpenError::Damaged { file: file.to_owned(), reason })
}

fn migrate(db: &mut Connection, file: &Path, schema: Schema) -> Result<(), OpenError> {
    let sqlite = |source| open_error(file, source);
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    if version == schema.version() {
        return Ok(());
    }
    let migration = |source| OpenError::Migration { file: file.to_owned(), source: Box::new(source) };
    let mut steps = Vec::new();
    for (name, sql) in schema.migrations() {
        steps.push(Migration::unapplied(name, sql).map_err(migration)?);
    }
    db.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    Runner::new(&steps).set_grouped(true).run(db).map_err(migration)?;
    db.pragma_update(None, "user_version", schema.version()).map_err(sqlite)?;
    Ok(())
}

/// Takes read rights from group and others, should an administrator's copy have given them.
fn tighten(file: &Path) -> Result<(), OpenError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        let io = |source| OpenError::Io { path: file.to_owned(), source };
        let mode = fs::metadata(file).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(io)?;
        }
    }
    Ok(())
}

/// Why a file that was opened can't be used.
pub(super) fn open_error(file: &Path, source: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode;

    let file = file.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { file },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { file, reason: source.to_string() },
        // Not an error of SQLite's: a value is of a kind that this program never writes.
        None => OpenError::Damaged { file, reason: source.to_string() },
        _ => OpenError::Sqlite { file, source },
    }
}

/// `path` with `suffix` behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Two messages, the first of them recalled, as the first versions of the schema kept them.
    const BEFORE: &str = "
        INSERT INTO conversation (id, app, kind, created_at, updated_at, creator, attributes)
        VALUES (7, 1, 2, 1000, 1000, 'tom', '{}');
        INSERT INTO head (conversation, last_seq, total, last_message, last_message_at, last_message_seq, patched_at)
        VALUES (7, 3, 2, 12, 1002, 2, 1003);
        INSERT INTO member (conversation, client, app, joined, joined_at, sent) VALUES (7, 'tom', 1, 0, 1000, 2);
        INSERT INTO member (conversation, client, app, joined, joined_at) VALUES (7, 'jerry', 1, 1, 1000);
        INSERT INTO message (id, conversation, seq, timestamp, ordinal, sender, kind, patched_at, patched_seq, schema, payload)
        VALUES (11, 7, 1, 1001, 1, 'tom', 7, 1003, 3, 1, x'00'), (12, 7, 2, 1002, 2, 'tom', 1, NULL, NULL, 1, x'01');
        INSERT INTO change (conversation, seq, kind, at, by, message) VALUES (7, 3, 2, 1003, 'tom', 11);
        INSERT INTO inbox (app, client, at, kind, conversation, by) VALUES (1, 'jerry', 1000, 1, 7, 'tom');";

    #[test]
    fn what_older_versions_wrote_is_kept() {
        for (schema, steps) in [(Schema::Main, 2), (Schema::Bucket, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("old.db");
            let mut db = Connection::open(&file).unwrap();
            let old: Vec<Migration> = schema
                .migrations()
                .iter()
                .take(steps)
                .map(|(name, sql)| Migration::unapplied(name, sql).unwrap())
                .collect();
            Runner::new(&old).set_grouped(true).run(&mut db).unwrap();
            db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            db.pragma_update(None, "user_version", i64::try_from(old.len()).unwrap()).unwrap();
            db.execute_batch(BEFORE).unwrap();
            drop(db);

            let db = open_for_writing(&file, schema, Role::Writer).unwrap();
            let told = |sql: &str| -> String { db.query_row(sql, [], |row| row.get(0)).unwrap() };
            assert_eq!(
                told("SELECT group_concat(id || ' ' || edits || ' ' || patched_by, ',') FROM message"),
                "11 0 tom"
            );
            assert_eq!(told("SELECT group_concat(shown || counted || origin) FROM message"), "110,110");
            assert_eq!(told("SELECT said_at || ' ' || touched_at FROM head"), "1002 1003");
            assert_eq!(told("SELECT owner FROM conversation"), "tom");
            assert_eq!(told("SELECT client || ' ' || kind FROM inbox"), "jerry 1");
            assert_eq!(super::super::audit::audit_file(&db).unwrap(), Vec::<String>::new());
        }
    }
}
