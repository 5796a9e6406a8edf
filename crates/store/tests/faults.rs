//! What happens when files, disks, and other processes misbehave.

#![allow(clippy::unwrap_used, reason = "tests")]

mod engine;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use engine::{Sqlite, open, options};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use posthouse_core::error::{Error, StoreFault};
use posthouse_core::id::ConversationId;
use posthouse_core::message::{Direction, Mentions, Message};
use posthouse_core::port::store::{
    Appended, Apps as _, Conversations as _, NewMessage, Store, Timeline as _, Upkeep as _,
};
use posthouse_store::{OpenError, SqliteStore};
use posthouse_testkit::store_suite::history::history;
use posthouse_testkit::store_suite::{Heard, Scene, app, app_id, client, message, nothing};
use posthouse_testkit::time::ManualClock;
use rusqlite::Connection;
use tempfile::TempDir;

/// A directory with an app, a group, a temporary conversation and some messages, closed.
async fn filled() -> (TempDir, Arc<ManualClock>, ConversationId, ConversationId) {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store = open(dir.path(), &clock);
    assert!(store.add_app(app("app", &[]), &[]).await.unwrap());
    let scene = Scene::new(Sqlite::new()).await;
    let members = ["tom", "jerry"];
    let group = scene.draft(posthouse_core::conversation::Kind::Group, scene.lasting_id(), &members);
    let (id, kind) = scene.temporary_id(3_600_000);
    let temporary = scene.draft(kind, id, &members);
    let ids = (group.id, temporary.id);
    for new in [group, temporary] {
        store.create_conversation(&app_id("app"), new, nothing()).await.unwrap();
    }
    for id in [ids.0, ids.1] {
        let sends = (0..200).map(|number| say(&store, id, format!("{number} {}", "x".repeat(100))));
        join_all(sends).await;
    }
    store.close().await.unwrap();
    (dir, clock, ids.0, ids.1)
}

async fn say(store: &SqliteStore, id: ConversationId, words: impl AsRef<str>) -> Message {
    store.append_message(&app_id("app"), message(id, "tom", words.as_ref()), nothing()).await.unwrap().message
}

async fn everything(store: &dyn Store, id: ConversationId) -> Vec<Message> {
    let query = posthouse_core::message::HistoryQuery { limit: 100_000, ..history(id, Direction::Forward) };
    store.read_history(&app_id("app"), &client("jerry"), query).await.unwrap().messages
}

/// Every file and what is in it.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else if path.extension().is_some_and(|extension| extension == "db") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn bucket_file(dir: &Path, id: ConversationId) -> PathBuf {
    dir.join("expiring").join(format!("{}.db", id.bucket().unwrap().bits()))
}

/// Opens what can't be opened, and sees that it was left alone.
fn refused(dir: &Path, clock: &Arc<ManualClock>) -> OpenError {
    let before = content(dir);
    let error = SqliteStore::open(dir, options(Arc::clone(clock))).unwrap_err();
    assert!(content(dir) == before, "a refused file was changed");
    error
}

#[tokio::test]
async fn a_lost_file_is_not_made_anew() {
    let clock = Arc::new(ManualClock::new());
    for emptied in [false, true] {
        let dir = TempDir::new().unwrap();
        open(dir.path(), &clock).close().await.unwrap();
        for name in ["posthouse.db", "posthouse.db-wal", "posthouse.db-shm"] {
            let removed = fs::remove_file(dir.path().join(name));
            assert!(removed.is_ok() || name != "posthouse.db");
        }
        if emptied {
            fs::write(dir.path().join("posthouse.db"), "").unwrap();
        }
        let error = refused(dir.path(), &clock);
        assert!(matches!(error, OpenError::Gone { .. }), "{error}");
        assert!(matches!(SqliteStore::open_for_apps(dir.path()), Err(OpenError::Gone { .. })));
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let clock = Arc::new(ManualClock::new());
    for text in ["hello", &"this is a diary, not a database\n".repeat(500)] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("posthouse.db"), text).unwrap();
        let error = refused(dir.path(), &clock);
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
        assert!(error.to_string().contains("posthouse.db is not a database"), "{error}");
        let visit = SqliteStore::open_for_apps(dir.path());
        assert!(matches!(visit, Err(OpenError::NotADatabase { .. })));
    }
}

#[tokio::test]
async fn a_damaged_file_is_left_alone() {
    let (dir, clock, _, temporary) = filled().await;
    for file in [dir.path().join("posthouse.db"), bucket_file(dir.path(), temporary)] {
        let good = fs::read(&file).unwrap();
        // Every page but the first three is scribbled on.
        let mut scribbled = good.clone();
        scribbled[3 * 4_096..].chunks_mut(4_096).for_each(|page| page[..64].fill(0x5A));
        let shortened = good[..good.len() / 2].to_vec();
        for bad in [scribbled, shortened, good[..60].to_vec()] {
            fs::write(&file, bad).unwrap();
            let error = refused(dir.path(), &clock);
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(&file.display().to_string()), "{error}");
            assert!(error.to_string().contains("backup"), "{error}");
        }
        fs::write(&file, good).unwrap();
    }
    drop(open(dir.path(), &clock));
}

/// Bytes change within a page that stays well-formed: what they said is left out, and the rest is served.
#[tokio::test]
async fn a_message_that_is_not_what_was_written_is_left_out() {
    let (dir, clock, group, _) = filled().await;
    let store = open(dir.path(), &clock);
    let newest = say(&store, group, "the newest").await;
    let before = everything(&store, group).await;
    store.close().await.unwrap();
    drop(store);
    let damaged = [before[10].id, before[11].id, before[20].id, newest.id];
    let db = Connection::open(dir.path().join("posthouse.db")).unwrap();
    for (id, change) in damaged.iter().zip([
        "payload = CAST('x' || substr(payload, 2) AS BLOB)",
        "sender = 'jerry'",
        "kind = 99",
        "timestamp = timestamp + 1",
    ]) {
        let key = i64::try_from(id.as_u64()).unwrap();
        assert_eq!(db.execute(&format!("UPDATE message SET {change} WHERE id = ?1"), [key]).unwrap(), 1);
    }
    drop(db);

    let store = open(dir.path(), &clock);
    let whole: Vec<_> = before.iter().filter(|message| !damaged.contains(&message.id)).collect();
    assert_eq!(everything(&store, group).await.iter().collect::<Vec<_>>(), whole);
    let page = posthouse_core::message::HistoryQuery { limit: 15, ..history(group, Direction::Forward) };
    let page = store.read_history(&app_id("app"), &client("jerry"), page).await.unwrap();
    assert_eq!(page.messages.iter().collect::<Vec<_>>(), whole[..15], "a page is full all the same");
    assert!(page.more);
    let (tenant, jerry) = (app_id("app"), client("jerry"));
    let mut told = Vec::new();
    let mut after = posthouse_core::id::Seq(0);
    loop {
        let stretch = store.read_timeline(&tenant, &jerry, group, after, 50).await.unwrap();
        told.extend(stretch.entries.into_iter().filter_map(|entry| match entry.what {
            posthouse_core::listing::EntryKind::Message(message) => Some(message.id),
            _ => None,
        }));
        after = stretch.end;
        if !stretch.more {
            break;
        }
    }
    assert_eq!(told, whole.iter().map(|message| message.id).collect::<Vec<_>>());
    let unread = store.list_unread(&tenant, &jerry, None, 10).await.unwrap();
    assert!(unread.iter().any(|unread| unread.conversation == group && unread.last_message.is_none()));
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let db = Connection::open(dir.path().join("posthouse.db")).unwrap();
    db.execute_batch("CREATE TABLE recipe (name TEXT)").unwrap();
    drop(db);
    let error = refused(dir.path(), &Arc::new(ManualClock::new()));
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let (dir, clock, _, temporary) = filled().await;
    for file in [dir.path().join("posthouse.db"), bucket_file(dir.path(), temporary)] {
        let before: u32 = alter(&file, 99);
        let error = refused(dir.path(), &clock);
        assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
        assert!(error.to_string().contains("newer Posthouse"), "{error}");
        alter(&file, before);
    }
    drop(open(dir.path(), &clock));
}

fn alter(file: &Path, version: u32) -> u32 {
    let db = Connection::open(file).unwrap();
    let before = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    db.pragma_update(None, "user_version", version).unwrap();
    before
}

#[tokio::test]
async fn a_second_server_is_refused() {
    let (dir, clock, group, _) = filled().await;
    let first = open(dir.path(), &clock);
    let error = SqliteStore::open(dir.path(), options(Arc::clone(&clock))).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    say(&first, group, "still here").await;
    drop(first);
    drop(open(dir.path(), &clock));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;

    let scratch = TempDir::new().unwrap();
    let dir = scratch.path().join("data");
    let clock = Arc::new(ManualClock::new());
    let store = open(&dir, &clock);
    assert!(store.add_app(app("app", &[]), &[]).await.unwrap());
    let scene = Scene::new(Sqlite::new()).await;
    let (id, kind) = scene.temporary_id(60_000);
    store.create_conversation(&app_id("app"), scene.draft(kind, id, &["tom"]), nothing()).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in [dir.clone(), dir.join("expiring")] {
        assert_eq!(mode(&folder), 0o700);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.is_dir() || mode(&path) == 0o600, "{}", path.display());
        }
    }
    drop(store);
    let main = dir.join("posthouse.db");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&dir, &clock));
    assert_eq!(mode(&main), 0o600);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let (dir, clock, group, temporary) = filled().await;
    let options = options(Arc::clone(&clock));
    let store = SqliteStore::open(dir.path(), options.clone()).unwrap();
    let tenant = app_id("app");
    let heard: Heard<Appended> = Heard::default();
    // SQLite never takes less than there is.
    options.pages_max.store(1, Ordering::Relaxed);
    for id in [group, temporary] {
        let before = everything(&store, id).await.len();
        let told_before = heard.all().len();
        let big = NewMessage { token: None, ..message(id, "tom", &"y".repeat(20_000)) };
        let sends = (0..30).map(|_| store.append_message(&tenant, big.clone(), heard.listen()));
        let answers = join_all(sends).await;
        let kept = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(answers.iter().any(|answer| *answer == Err(Error::Store(StoreFault::Full))), "{answers:?}");
        assert!(
            answers.iter().all(|answer| answer.is_ok() || *answer == Err(Error::Store(StoreFault::Full)))
        );
        assert_eq!(heard.all().len() - told_before, kept);
        // Reads go on, and see what was kept and nothing else.
        assert_eq!(everything(&store, id).await.len(), before + kept);
    }
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
    options.pages_max.store(0, Ordering::Relaxed);
    for id in [group, temporary] {
        let before = everything(&store, id).await.len();
        say(&store, id, "y".repeat(20_000)).await;
        assert_eq!(everything(&store, id).await.len(), before + 1);
    }
    drop(store);
    assert_eq!(posthouse_store::audit(dir.path()).unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let (dir, clock, group, temporary) = filled().await;
    let store = open(dir.path(), &clock);
    let mut wanted = Vec::new();
    for id in [group, temporary] {
        join_all((0..100).map(|number| say(&store, id, number.to_string()))).await;
        wanted.push(everything(&store, id).await);
    }
    let copy = copy_as_killed(dir.path());
    let crashed = open(copy.path(), &clock);
    for (id, wanted) in [group, temporary].into_iter().zip(wanted) {
        assert_eq!(everything(&crashed, id).await, wanted);
        assert!(say(&crashed, id, "goes on").await.id > wanted.last().unwrap().id);
    }
    assert_eq!(crashed.audit().await.unwrap(), Vec::<String>::new());
    // The other one is dropped without being closed, too.
    drop(store);
    assert_eq!(everything(&open(dir.path(), &clock), group).await.len(), 300);
}

/// What was said in a conversation, every way there is to ask for it.
async fn asked_every_way(store: &dyn Store, id: ConversationId) -> Vec<String> {
    let mut told = Vec::new();
    let tenant = app_id("app");
    for direction in [Direction::Backward, Direction::Forward] {
        let query = posthouse_core::message::HistoryQuery { limit: 100_000, ..history(id, direction) };
        let found = store.read_history(&tenant, &client("jerry"), query).await.unwrap();
        told.push(format!("{found:?}"));
    }
    let after = posthouse_core::id::Seq(3);
    told.push(format!(
        "{:?}",
        store.read_timeline(&tenant, &client("jerry"), id, after, 100_000).await.unwrap()
    ));
    for name in ["tom", "jerry"] {
        told.push(format!("{:?}", store.list_unread(&tenant, &client(name), None, 100).await.unwrap()));
    }
    told.push(format!("{:?}", store.conversation(&tenant, id).await.unwrap()));
    told
}

#[tokio::test]
async fn the_index_is_complete_after_a_crash_whatever_was_late() {
    for tail_max in [0, 1, 7, 1_000] {
        let (dir, clock, group, temporary) = filled().await;
        let mut options = options(Arc::clone(&clock));
        options.tail_max = tail_max;
        let store = SqliteStore::open(dir.path(), options.clone()).unwrap();
        let tenant = app_id("app");
        let mut sent = Vec::new();
        for number in 0..60_u64 {
            let id = [group, temporary][usize::from(number % 3 == 0)];
            let name = ["tom", "jerry"][usize::from(number % 4 == 0)];
            let new = NewMessage {
                token: posthouse_core::id::ClientToken::parse(&format!("t{number}")).ok(),
                mentions: Mentions { all: number % 9 == 0, clients: Vec::new() },
                shown: number % 7 != 0,
                counted: number % 7 != 0 && number % 5 != 0,
                ..message(id, name, &number.to_string())
            };
            clock.advance_ms(i64::try_from(number % 3).unwrap() - 1);
            let appended = store.append_message(&tenant, new.clone(), nothing()).await.unwrap();
            sent.push((new, appended.message));
            if number == 30 {
                // Only one of both conversations is brought into the index in between.
                let mark = posthouse_core::receipt::MarkRead {
                    conversation: group,
                    until: None,
                    id: None,
                    device: None,
                };
                store.mark_read(&tenant, &client("jerry"), mark, nothing()).await.unwrap();
            }
        }
        let copy = copy_as_killed(dir.path());
        assert_eq!(posthouse_store::audit(copy.path()).unwrap(), Vec::<String>::new(), "tail of {tail_max}");
        let crashed = SqliteStore::open(copy.path(), options).unwrap();
        for (new, message) in sent {
            let again = crashed.append_message(&tenant, new, nothing()).await.unwrap();
            assert_eq!((again.duplicate, again.message), (true, message));
        }
        for id in [group, temporary] {
            assert_eq!(asked_every_way(&crashed, id).await, asked_every_way(&store, id).await);
        }
        assert_eq!(crashed.audit().await.unwrap(), Vec::<String>::new());
        drop(crashed);
        assert_eq!(posthouse_store::audit(copy.path()).unwrap(), Vec::<String>::new());
    }
}

/// The files as a killed process leaves them: logs not yet brought home, nothing closed.
fn copy_as_killed(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    fs::create_dir(copy.path().join("expiring")).unwrap();
    for folder in ["", "expiring"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            // What is shared memory dies with its processes.
            if path.is_file() && !path.to_string_lossy().ends_with("-shm") {
                fs::copy(&path, copy.path().join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    copy
}

#[tokio::test]
async fn apps_are_looked_after_beside_a_server() {
    let dir = TempDir::new().unwrap();
    // First into an empty directory, then beside the server.
    let visit = SqliteStore::open_for_apps(dir.path()).unwrap();
    assert!(visit.add_app(app("one", &[("k", "1")]), &["k"]).await.unwrap());
    let clock = Arc::new(ManualClock::new());
    let store = open(dir.path(), &clock);
    let (revision, apps) = store.apps_since(0).await.unwrap().unwrap();
    assert_eq!(apps, [app("one", &[("k", "1")])]);
    assert!(visit.add_app(app("two", &[]), &["k"]).await.unwrap());
    assert!(!visit.add_app(app("three", &[("k", "1")]), &["k"]).await.unwrap());
    assert!(store.add_app(app("three", &[("k", "3")]), &["k"]).await.unwrap());
    assert!(visit.replace_app(app("two", &[("k", "2")]), &["k"]).await.unwrap());
    let (newer, apps) = store.apps_since(revision).await.unwrap().unwrap();
    assert_eq!(apps.len(), 3);
    assert_eq!(visit.apps_since(0).await.unwrap(), Some((newer, apps)));
    assert_eq!(visit.apps_since(newer).await.unwrap(), None);
}

#[tokio::test]
async fn many_starts_at_once_make_one_database() {
    let dir = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let visits: Vec<_> =
            (0..6).map(|_| scope.spawn(|| SqliteStore::open_for_apps(dir.path()).map(drop))).collect();
        for visit in visits {
            visit.join().unwrap().unwrap();
        }
    });
    drop(open(dir.path(), &Arc::new(ManualClock::new())));
}

#[tokio::test]
async fn a_closed_store_refuses_writes() {
    let (dir, clock, group, _) = filled().await;
    let store = open(dir.path(), &clock);
    say(&store, group, "last").await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let late = store.append_message(&app_id("app"), message(group, "tom", "x"), nothing()).await;
    assert_eq!(late, Err(Error::Store(StoreFault::Closing)));
    assert_eq!(everything(&store, group).await.len(), 201);
}

#[tokio::test]
async fn a_full_queue_is_busy() {
    let (dir, clock, group, _) = filled().await;
    let store = open(dir.path(), &clock);
    // The app becomes known, so that a write is handed over when its future is first polled.
    say(&store, group, "first").await;
    let tenant = app_id("app");
    let (release, held) = sync_channel::<()>(1);
    let (entered, writing) = sync_channel::<()>(1);
    let hold = Box::new(move |_: &Appended| {
        entered.send(()).unwrap();
        held.recv().unwrap();
    });
    let mut holding = store.append_message(&tenant, message(group, "tom", "holds"), hold);
    assert!((&mut holding).now_or_never().is_none());
    writing.recv().unwrap();
    let mut busy = 0;
    let mut waiting = Vec::new();
    for _ in 0..8_292 {
        let mut send = store.append_message(&tenant, message(group, "tom", "x"), nothing());
        match (&mut send).now_or_never() {
            Some(answer) => {
                assert_eq!(answer, Err(Error::Store(StoreFault::Busy)));
                busy += 1;
            }
            None => waiting.push(send),
        }
    }
    assert_eq!((busy, waiting.len()), (100, 8_192));
    release.send(()).unwrap();
    holding.await.unwrap();
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    assert_eq!(everything(&store, group).await.len(), 200 + 2 + 8_192);
}

/// Thousands come at the first moment, as after a restart: none is refused because all ask for the same app.
#[tokio::test]
async fn a_crowd_at_the_first_moment_is_served() {
    let (dir, clock, group, _) = filled().await;
    let store = open(dir.path(), &clock);
    store.apps_since(0).await.unwrap();
    let sends = (0..2_000).map(|_| say(&store, group, "all at once"));
    assert_eq!(join_all(sends).await.len(), 2_000);
}

#[tokio::test]
async fn a_store_may_be_dropped_by_its_own_writer() {
    let (dir, clock, group, _) = filled().await;
    let store = Arc::new(open(dir.path(), &clock));
    say(&store, group, "first").await;
    let last = Arc::clone(&store);
    let (released, dropped) = sync_channel::<()>(1);
    let (sent, go) = sync_channel::<()>(1);
    let after = Box::new(move |_: &Appended| {
        go.recv().unwrap();
        drop(last);
        released.send(()).unwrap();
    });
    let tenant = app_id("app");
    {
        let mut send = store.append_message(&tenant, message(group, "tom", "x"), after);
        assert!((&mut send).now_or_never().is_none());
    }
    drop(store);
    sent.send(()).unwrap();
    dropped.recv().unwrap();
}
