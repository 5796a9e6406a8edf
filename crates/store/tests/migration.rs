//! A data directory of the first release is opened, and everything is still there.

#![allow(clippy::unwrap_used, reason = "tests")]

mod engine;

use std::fs;
use std::path::Path;

use engine::Sqlite;
use posthouse_core::app::DeleteScope;
use posthouse_core::conversation::{Authority, Kind, MemberSet, RoleChange};
use posthouse_core::event::Missed;
use posthouse_core::expiry::Bucket;
use posthouse_core::id::{ConversationId, MessageId, Seq};
use posthouse_core::idgen::IdGen;
use posthouse_core::listing::{ListQuery, NoteKind};
use posthouse_core::message::Message;
use posthouse_core::port::store::NewMessage;
use posthouse_core::time::{Clock as _, Timestamp};
use posthouse_testkit::store_suite::{
    Scene, client, clients, device, line, list, message, nothing, token, words,
};
use posthouse_testkit::time::ManualClock;
use refinery::{Migration, Runner};
use rusqlite::{Connection, params};

const TIMELINE: (&str, &str) = ("V1__timeline", include_str!("../src/migrations/V1__timeline.sql"));
const APP: (&str, &str) = ("V2__app", include_str!("../src/migrations/V2__app.sql"));

const MESSAGE: &str = "INSERT INTO message (id, conversation, seq, timestamp, ordinal, sender, kind, receipt, \
     mentions, token, \
     patched_at, patched_seq, read_at, summary, schema, payload) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 3, ?15)";

/// What the old directory holds.
struct Old {
    start: Timestamp,
    group: ConversationId,
    pair: ConversationId,
    room: ConversationId,
    temporary: ConversationId,
}

/// One old message.
struct Said<'a> {
    seq: i64,
    ordinal: i64,
    sender: &'a str,
    words: &'a str,
    calls: Option<&'a str>,
    patched: Option<i64>,
    /// Whether it asked for receipts, and when it was read.
    receipt: Option<i64>,
}

const PLAIN: Said<'_> =
    Said { seq: 1, ordinal: 1, sender: "jerry", words: "", calls: None, patched: None, receipt: None };

/// A file with an old schema.
fn file(path: &Path, steps: &[(&str, &str)]) -> Connection {
    let mut db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = wal").unwrap();
    db.pragma_update(None, "application_id", 0x706F_7374).unwrap();
    let migrations: Vec<_> =
        steps.iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()).collect();
    Runner::new(&migrations).set_grouped(true).run(&mut db).unwrap();
    db.pragma_update(None, "user_version", u32::try_from(steps.len()).unwrap()).unwrap();
    db
}

impl Old {
    /// Writes a directory as the first release did.
    fn write(dir: &Path) -> Self {
        let start = ManualClock::new().now();
        let lasting = ConversationId::lasting;
        let until = start.plus_ms(60_000);
        let bucket = Bucket::for_expiry(start, until);
        let old = Self {
            start,
            group: lasting(0x1111_2222_3333),
            pair: lasting(0x4444_5555_6666),
            room: lasting(0x7777_8888_9999),
            temporary: ConversationId::temporary(bucket, 0xAAAA_BBBB),
        };
        let main = file(&dir.join("posthouse.db"), &[TIMELINE, APP]);
        main.execute(
            "INSERT INTO app (id, name, keys, settings, created_at) VALUES ('app', 'name of app', '{}', '{}', 1000)",
            [],
        )
        .unwrap();
        old.write_group(&main);
        old.write_pair(&main);
        old.write_conversation(&main, old.room, Kind::Room, &[]);
        old.say(&main, old.room, &Said { words: "in the room", ..PLAIN });
        old.write_head(&main, old.room, 1, 1, 1);
        fs::create_dir(dir.join("expiring")).unwrap();
        let expiring = file(&dir.join("expiring").join(format!("{}.db", bucket.bits())), &[TIMELINE]);
        old.write_conversation(&expiring, old.temporary, Kind::Temporary { until }, &["tom", "jerry"]);
        old.write_member(&expiring, old.temporary, "tom", [0, 0, 0, 0, 0]);
        old.write_member(&expiring, old.temporary, "jerry", [1, 1, 0, 0, 0]);
        old.say(&expiring, old.temporary, &Said { words: "for a while", ..PLAIN });
        old.write_head(&expiring, old.temporary, 1, 1, 1);
        old
    }

    /// Members tom and jerry, and spike who came third; five messages, one edited, one recalled.
    fn write_group(&self, db: &Connection) {
        let id = self.group;
        self.write_conversation(db, id, Kind::Group, &["tom", "jerry"]);
        self.say(db, id, &Said { words: "one", ..PLAIN });
        self.say(
            db,
            id,
            &Said { seq: 2, ordinal: 2, words: "two!", calls: Some(r#"["tom"]"#), patched: Some(4), ..PLAIN },
        );
        db.execute(
            "INSERT INTO mention (conversation, client, seq, sender) VALUES (?1, 'tom', 2, 'jerry')",
            [key(id)],
        )
        .unwrap();
        self.change(db, id, 3, 3, "tom", None, Some(r#"["spike"]"#));
        self.note(db, id, "spike", 3, 1, "tom", None);
        self.change(db, id, 4, 1, "jerry", Some(self.message_id(id, 2)), None);
        self.say(db, id, &Said { seq: 5, ordinal: 3, sender: "tom", words: "three", ..PLAIN });
        self.say(db, id, &Said { seq: 6, ordinal: 4, words: "{}", patched: Some(7), ..PLAIN });
        self.change(db, id, 7, 2, "jerry", Some(self.message_id(id, 6)), None);
        self.say(db, id, &Said { seq: 8, ordinal: 5, words: "five", ..PLAIN });
        self.write_head(db, id, 8, 5, 8);
        // Joined as, sent, and what was read: place, messages, own messages.
        self.write_member(db, id, "tom", [0, 1, 1, 1, 0]);
        self.write_member(db, id, "jerry", [1, 4, 0, 0, 0]);
        self.write_member(db, id, "spike", [2, 0, 3, 2, 0]);
    }

    /// Tom has read what jerry said.
    fn write_pair(&self, db: &Connection) {
        let id = self.pair;
        self.write_conversation(db, id, Kind::Direct, &["tom", "jerry"]);
        db.execute(
            "UPDATE conversation SET unique_set = ?2 WHERE id = ?1",
            params![key(id), MemberSet::of(&clients(&["tom", "jerry"])).0],
        )
        .unwrap();
        self.say(db, id, &Said { words: "hi", receipt: Some(self.at(2)), ..PLAIN });
        self.note(db, id, "jerry", 2, 3, "tom", Some(self.message_id(id, 1)));
        self.write_head(db, id, 1, 1, 1);
        self.write_member(db, id, "tom", [0, 0, 1, 1, 0]);
        self.write_member(db, id, "jerry", [1, 1, 0, 0, 0]);
    }

    fn write_conversation(&self, db: &Connection, id: ConversationId, kind: Kind, members: &[&str]) {
        let (code, until) = match kind {
            Kind::Direct => (1, None),
            Kind::Group => (2, None),
            Kind::Room => (3, None),
            Kind::Temporary { until } => (4, Some(until.0)),
        };
        db.execute(
            "INSERT INTO conversation (id, app, kind, until, created_at, updated_at, creator, attributes) \
             VALUES (?1, 1, ?2, ?3, ?4, ?4, ?5, '{\"name\":\"n\"}')",
            params![key(id), code, until, self.start.0, members.first()],
        )
        .unwrap();
        if !members.is_empty() {
            let data = format!("{members:?}").replace(' ', "");
            self.change(db, id, 0, 3, members[0], None, Some(&data));
        }
        for member in members {
            self.note(db, id, member, 0, 1, members[0], None);
        }
    }

    fn write_member(
        &self,
        db: &Connection,
        id: ConversationId,
        who: &str,
        [joined, sent, read_seq, total, own]: [i64; 5],
    ) {
        let read_at = (read_seq > 0).then(|| self.at(read_seq));
        db.execute(
            "INSERT INTO member (conversation, client, app, joined, joined_at, sent, read_seq, read_total, \
             read_own, read_at) \
             VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![key(id), who, joined, self.start.0, sent, read_seq, total, own, read_at],
        )
        .unwrap();
    }

    fn write_head(&self, db: &Connection, id: ConversationId, last: i64, total: i64, newest: i64) {
        db.execute(
            "INSERT INTO head (conversation, last_seq, total, last_message, last_message_at, last_message_seq, \
             unread_at, \
             patched_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?7, ?8)",
            params![key(id), last, total, self.message_id(id, newest), self.at(newest), newest, self.at(7), self.at(3)],
        )
        .unwrap();
    }

    fn say(&self, db: &Connection, id: ConversationId, said: &Said<'_>) {
        let kind = if said.words == "{}" { 7 } else { 1 };
        db.execute(
            MESSAGE,
            params![
                self.message_id(id, said.seq),
                key(id),
                said.seq,
                self.at(said.seq),
                said.ordinal,
                said.sender,
                kind,
                said.receipt.is_some(),
                said.calls,
                format!("token {}", said.seq),
                said.patched.map(|seq| self.at(seq)),
                said.patched,
                said.receipt,
                (kind == 1).then_some(said.words),
                said.words.as_bytes(),
            ],
        )
        .unwrap();
    }

    #[allow(clippy::too_many_arguments, reason = "a row")]
    fn change(
        &self,
        db: &Connection,
        id: ConversationId,
        seq: i64,
        kind: i64,
        by: &str,
        message: Option<i64>,
        data: Option<&str>,
    ) {
        db.execute(
            "INSERT INTO change (conversation, seq, kind, at, by, message, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![key(id), seq, kind, self.at(seq), by, message, data],
        )
        .unwrap();
    }

    #[allow(clippy::too_many_arguments, reason = "a row")]
    fn note(
        &self,
        db: &Connection,
        id: ConversationId,
        who: &str,
        seq: i64,
        kind: i64,
        by: &str,
        message: Option<i64>,
    ) {
        db.execute(
            "INSERT INTO inbox (app, client, at, kind, conversation, by, message) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
            params![who, self.at(seq), kind, key(id), by, message],
        )
        .unwrap();
    }

    /// When what is at a place happened: before now, by a second for each place.
    fn at(&self, seq: i64) -> i64 {
        self.start.0 - 10_000 + seq * 1_000
    }

    fn message_id(&self, id: ConversationId, seq: i64) -> i64 {
        let node = if id == self.group { 1 } else { 2 + i64::try_from(id.as_u64() % 500).unwrap() };
        let first = IdGen::new(1).next(Timestamp(self.at(seq))).as_u64();
        i64::try_from(first).unwrap() + node
    }
}

fn key(id: ConversationId) -> i64 {
    i64::try_from(id.as_u64()).unwrap()
}

async fn opened() -> (Scene<Sqlite>, Old) {
    let engine = Sqlite::new();
    let old = Old::write(engine.path());
    let scene = Scene::of(engine).await;
    scene.audit().await;
    (scene, old)
}

#[tokio::test]
async fn messages_are_there_with_what_became_of_them() {
    let (mut scene, old) = opened().await;
    for _ in 0..2 {
        let said = scene.everything(old.group, "tom").await;
        assert_eq!(said.iter().map(words).collect::<Vec<_>>(), ["one", "two!", "three", "{}", "five"]);
        assert_eq!(said.iter().map(|message| message.seq.0).collect::<Vec<_>>(), [1, 2, 5, 6, 8]);
        assert_eq!(
            said.iter().map(Message::is_recalled).collect::<Vec<_>>(),
            [false, false, false, true, false]
        );
        assert_eq!(said.iter().map(|message| message.edits).collect::<Vec<_>>(), [0, 1, 0, 0, 0]);
        assert_eq!(
            (said[1].patched_by.as_ref(), said[3].patched_by.as_ref()),
            (Some(&client("jerry")), Some(&client("jerry")))
        );
        assert_eq!((said[0].patched_by.as_ref(), said[1].patched_at), (None, Some(Timestamp(old.at(4)))));
        assert!(said[1].mentions.call(&client("tom")));
        let read = scene.everything(old.pair, "jerry").await.remove(0);
        assert_eq!((read.receipt, read.read_at), (true, Some(Timestamp(old.at(2)))));
        assert_eq!(scene.words(old.room, "anyone").await, ["in the room"]);
        assert_eq!(scene.words(old.temporary, "tom").await, ["for a while"]);
        let patches =
            scene.store().list_patches(&scene.app, &client("spike"), Timestamp(0), 10).await.unwrap();
        assert_eq!(patches.iter().map(|patch| patch.seq.0).collect::<Vec<_>>(), [4, 7]);
        scene.reopen().await;
    }
    // A retry of an old message is still known.
    let new = NewMessage { token: token("token 8"), ..message(old.group, "jerry", "five") };
    assert!(scene.append(new).await.unwrap().duplicate);
}

#[tokio::test]
async fn numbers_and_lists_are_right() {
    let (scene, old) = opened().await;
    for (who, unread) in [("tom", (2, true)), ("jerry", (1, false)), ("spike", (2, false))] {
        assert_eq!(scene.unread_in(old.group, who).await, unread, "{who}");
    }
    assert_eq!(
        (scene.unread_in(old.pair, "tom").await.0, scene.unread_in(old.temporary, "tom").await.0),
        (0, 1)
    );
    let lines = scene.lines("tom").await;
    assert_eq!(lines, [(old.group, "five".to_owned(), 2), (old.pair, "hi".to_owned(), 0)]);
    let listed = scene.list("jerry", ListQuery { with_empty: true, ..list() }).await;
    assert_eq!(listed.iter().map(line).map(|line| line.2).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(listed[1].address.peer, Some(client("tom")));
    scene.read_all(old.group, "tom").await;
    let said = scene.say(old.group, "spike", "six").await;
    assert_eq!(said.seq, Seq(9));
    assert_eq!(scene.unread_in(old.group, "tom").await, (1, false));
    assert_eq!(scene.unread_in(old.group, "jerry").await, (2, false));
    scene.audit().await;
}

#[tokio::test]
async fn conversations_keep_their_members_and_owner() {
    let (scene, old) = opened().await;
    let group = scene.conversation(old.group).await;
    assert_eq!((group.kind, group.members), (Kind::Group, clients(&["tom", "jerry", "spike"])));
    assert_eq!((group.owner, group.creator), (Some(client("tom")), Some(client("tom"))));
    assert_eq!(group.attributes["name"], "n");
    let pair = scene.store().find_direct(&scene.app, &client("jerry"), &client("tom")).await;
    assert_eq!(pair, Ok(Some(old.pair)));
    assert_eq!(scene.say_to("jerry", "tom", "again").await.conversation, old.pair);
    let (tom, change) = (client("tom"), RoleChange::Admin(client("spike")));
    let store = scene.store();
    let named = store.change_role(&scene.app, old.group, &tom, Authority::Owner, change, nothing()).await;
    assert!(named.unwrap().changed);
    let (_, apps) = store.apps_since(0).await.unwrap().unwrap();
    assert_eq!(apps.iter().map(|app| app.id.as_str()).collect::<Vec<_>>(), ["app"]);
    scene.audit().await;
}

#[tokio::test]
async fn timelines_and_inboxes_can_be_read() {
    let (mut scene, old) = opened().await;
    let wanted = [
        (1, "one"),
        (2, "two!"),
        (3, r#"joined ["spike"]"#),
        (4, "edited: two!"),
        (5, "three"),
        (7, "recalled"),
        (8, "five"),
    ];
    let seen = scene.timeline(old.group, "jerry").await;
    assert_eq!(seen.iter().map(|(seq, words)| (*seq, &**words)).collect::<Vec<_>>(), wanted);
    let notes = scene.notes("jerry").await;
    let about: Vec<_> = notes.iter().map(|note| note.address.as_ref().unwrap().id).collect();
    assert_eq!(about, [old.group, old.pair, old.pair]);
    assert!(matches!(&notes[0].what, NoteKind::Joined(joined) if joined.by == client("tom")));
    let NoteKind::Receipt(receipt) = &notes[2].what else { panic!("{notes:?}") };
    let hi = MessageId::from_u64(old.message_id(old.pair, 1).unsigned_abs());
    assert_eq!((Some(receipt.message), receipt.read, receipt.whole), (hi, true, true));
    // What comes next has a higher number.
    scene.say_to("spike", "jerry", "new").await;
    let newest = scene.notes("jerry").await;
    assert!(newest.last().unwrap().number > notes.last().unwrap().number);
    let store = scene.store();
    let invited = store.list_invitations(&scene.app, &client("spike"), Timestamp(0), 10).await.unwrap();
    assert!(matches!(&invited[0], Missed::Joined(joined) if joined.conversation == old.group));
    let changes = store.list_changes(&scene.app, &client("jerry"), Timestamp(0), 10).await.unwrap().unwrap();
    assert!(changes.iter().any(|change| matches!(change, Missed::Receipt(_))));
    // A device that is new begins within its window.
    store.open_device(&scene.app, &client("tom"), &device("phone"), 3_500).await.unwrap();
    let waiting = store.waiting(&scene.app, &client("tom"), &device("phone"), 10).await.unwrap();
    assert_eq!(
        waiting.conversations.iter().map(|pending| pending.address.id).collect::<Vec<_>>(),
        [old.group]
    );
    scene.reopen().await;
    assert_eq!(scene.timeline(old.group, "jerry").await, seen);
    scene.audit().await;
}

#[tokio::test]
async fn old_messages_can_be_deleted_and_forgotten() {
    let (scene, old) = opened().await;
    scene.delete(old.group, "jerry", DeleteScope::Everyone, true).await.unwrap();
    for who in ["tom", "jerry", "spike"] {
        assert_eq!(
            (scene.words(old.group, who).await, scene.unread_in(old.group, who).await),
            (vec![], (0, false))
        );
    }
    scene.audit().await;
    assert!(scene.forget_all().await >= 5);
    scene.audit().await;
    assert_eq!(scene.words(old.pair, "tom").await, ["hi"]);
    assert_eq!(scene.say(old.group, "jerry", "new").await.seq, Seq(9));
    let file = Connection::open(scene.engine.path().join("posthouse.db")).unwrap();
    let rows = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE conversation = ?1");
        file.query_row(&sql, [key(old.group)], |row| row.get(0)).unwrap()
    };
    assert_eq!((rows("message"), rows("mention"), rows("removed"), rows("forgetting")), (1, 0, 0, 0));
}
