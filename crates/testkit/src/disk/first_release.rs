//! A data directory as the first release left it, small, to be brought up to date under a power cut.

use std::fs;
use std::path::Path;

use posthouse_core::expiry::Bucket;
use posthouse_core::id::{ConversationId, MessageId};
use posthouse_core::idgen::IdGen;
use posthouse_core::time::{Clock as _, Timestamp};
use refinery::{Migration, Runner};
use rusqlite::{Connection, params};

use crate::time::ManualClock;

const TIMELINE: (&str, &str) =
    ("V1__timeline", include_str!("../../../store/src/migrations/V1__timeline.sql"));
const APP: (&str, &str) = ("V2__app", include_str!("../../../store/src/migrations/V2__app.sql"));

/// Writes the directory and gives its conversations: a group, and a temporary one.
#[must_use]
pub fn write(data: &Path) -> [ConversationId; 2] {
    let start = ManualClock::new().now();
    let until = start.plus_ms(60_000);
    let bucket = Bucket::for_expiry(start, until);
    let group = ConversationId::lasting(0x1111_2222_3333);
    let temporary = ConversationId::temporary(bucket, 0xAAAA_BBBB);
    fs::create_dir_all(data.join("expiring")).unwrap();
    let main = file(&data.join("posthouse.db"), &[TIMELINE, APP]);
    main.execute(
        "INSERT INTO app (id, name, keys, settings, created_at) VALUES ('app', 'name of app', '{}', '{}', 1000)",
        [],
    )
    .unwrap();
    converse(&main, group, (2, None), start);
    let bucket = data.join("expiring").join(format!("{}.db", bucket.bits()));
    converse(&file(&bucket, &[TIMELINE]), temporary, (4, Some(until)), start);
    [group, temporary]
}

/// A file with an old schema.
fn file(path: &Path, steps: &[(&str, &str)]) -> Connection {
    let mut db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = wal").unwrap();
    db.pragma_update(None, "application_id", 0x706F_7374).unwrap();
    let steps_of: Vec<_> = steps.iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()).collect();
    Runner::new(&steps_of).set_grouped(true).run(&mut db).unwrap();
    db.pragma_update(None, "user_version", u32::try_from(steps.len()).unwrap()).unwrap();
    db
}

/// Tom and jerry talk: jerry has said fifty things and tom has read none.
fn converse(db: &Connection, id: ConversationId, (kind, until): (i64, Option<Timestamp>), start: Timestamp) {
    let key = i64::try_from(id.as_u64()).unwrap();
    let ids = IdGen::new(0);
    db.execute(
        "INSERT INTO conversation (id, app, kind, until, created_at, updated_at, creator, attributes) \
         VALUES (?1, 1, ?2, ?3, ?4, ?4, 'tom', '{\"name\":\"n\"}')",
        params![key, kind, until.map(|until| until.0), start.0],
    )
    .unwrap();
    let mut last: Option<MessageId> = None;
    for seq in 1..=50 {
        let message = ids.next(start);
        db.execute(
            "INSERT INTO message (id, conversation, seq, timestamp, ordinal, sender, kind, receipt, summary, \
             schema, payload) VALUES (?1, ?2, ?3, ?4, ?3, 'jerry', 1, 0, ?5, 3, ?6)",
            params![
                i64::try_from(message.as_u64()).unwrap(),
                key,
                seq,
                start.0,
                format!("old {seq}"),
                format!("old {seq} {}", "x".repeat(200)).as_bytes()
            ],
        )
        .unwrap();
        last = Some(message);
    }
    db.execute(
        "INSERT INTO head (conversation, last_seq, total, last_message, last_message_at, last_message_seq, \
         unread_at) VALUES (?1, 50, 50, ?2, ?3, 50, ?3)",
        params![key, i64::try_from(last.unwrap().as_u64()).unwrap(), start.0],
    )
    .unwrap();
    for (client, sent) in [("tom", 0), ("jerry", 50)] {
        db.execute(
            "INSERT INTO member (conversation, client, app, joined, joined_at, sent) VALUES (?1, ?2, 1, 0, ?3, ?4)",
            params![key, client, start.0, sent],
        )
        .unwrap();
    }
}
