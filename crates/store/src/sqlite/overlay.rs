//! Rows as they would be if everything late were in the index, for one read.
//!
//! A reader must not wait for the writer: reads go on when the disk is full, and while it is slow. So
//! it has a second connection to each file, on which views hide the tables that can be late. They join
//! the rows with what a transaction has put into temporary tables, in memory, and forgets at its end.
//! Statements name no schema and don't know which of both they run on.
//!
//! Two rules keep a view as quick as its table: a statement over `history` or `timeline` that asks for an
//! order has the columns of that order among its results (else SQLite gathers both sides before it
//! sorts), and none says `INDEXED BY` of `head` or `member`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use posthouse_core::id::{ClientId, ConversationId};
use rusqlite::{Connection, OptionalExtension as _};

use super::open::open_for_reading;
use super::rows::{Work, conversation_key, int, uint};
use super::tail::Entry;

const VIEWS: &str = "
CREATE TEMP TABLE late_history (conversation INTEGER NOT NULL, at INTEGER NOT NULL, id INTEGER NOT NULL,
    PRIMARY KEY (conversation, at, id)) WITHOUT ROWID;
CREATE TEMP TABLE late_timeline (conversation INTEGER NOT NULL, seq INTEGER NOT NULL, id INTEGER NOT NULL,
    PRIMARY KEY (conversation, seq)) WITHOUT ROWID;
CREATE TEMP TABLE late_head (conversation INTEGER PRIMARY KEY, last_seq INTEGER, total INTEGER, last_message INTEGER,
    last_message_at INTEGER, last_message_seq INTEGER, unread_at INTEGER, said_at INTEGER, touched_at INTEGER);
CREATE TEMP TABLE late_sent (conversation INTEGER NOT NULL, client TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (conversation, client)) WITHOUT ROWID;
CREATE TEMP VIEW history AS SELECT conversation, at, id FROM main.history
    UNION ALL SELECT conversation, at, id FROM temp.late_history;
CREATE TEMP VIEW timeline AS SELECT conversation, seq, id FROM main.timeline
    UNION ALL SELECT conversation, seq, id FROM temp.late_timeline;
CREATE TEMP VIEW head AS SELECT h.conversation,
    coalesce((SELECT l.last_seq FROM temp.late_head l WHERE l.conversation = h.conversation), h.last_seq) AS last_seq,
    coalesce((SELECT l.total FROM temp.late_head l WHERE l.conversation = h.conversation), h.total) AS total,
    coalesce((SELECT l.last_message FROM temp.late_head l WHERE l.conversation = h.conversation), h.last_message)
        AS last_message,
    coalesce((SELECT l.last_message_at FROM temp.late_head l WHERE l.conversation = h.conversation), h.last_message_at)
        AS last_message_at,
    coalesce((SELECT l.last_message_seq FROM temp.late_head l WHERE l.conversation = h.conversation), h.last_message_seq)
        AS last_message_seq,
    coalesce((SELECT l.unread_at FROM temp.late_head l WHERE l.conversation = h.conversation), h.unread_at) AS unread_at,
    coalesce((SELECT l.said_at FROM temp.late_head l WHERE l.conversation = h.conversation), h.said_at) AS said_at,
    coalesce((SELECT l.touched_at FROM temp.late_head l WHERE l.conversation = h.conversation), h.touched_at)
        AS touched_at,
    h.patched_at, h.changed_at, h.cleared_at, h.cleared_id FROM main.head h;
CREATE TEMP VIEW member AS SELECT m.conversation, m.client, m.app, m.joined, m.joined_at, m.muted,
    m.sent + coalesce((SELECT l.count FROM temp.late_sent l WHERE l.conversation = m.conversation
        AND l.client = m.client), 0) AS sent,
    m.read_seq, m.read_total, m.read_own, m.read_at, m.delivered_seq, m.delivered_at, m.unread_changed_at, m.role,
    m.joined_seq, m.cleared_at, m.cleared_id, m.hidden_at, m.hidden_id, m.pinned_at, m.marks FROM main.member m;
";

/// Opens a file for reading what is late, too.
pub(super) fn open_overlaid(path: &Path) -> rusqlite::Result<Connection> {
    let db = open_for_reading(path)?;
    // The file itself is opened for reading only; this is for the temporary tables.
    db.pragma_update(None, "query_only", false)?;
    db.execute_batch(VIEWS)?;
    Ok(db)
}

/// The numbers of a head that a message changes.
struct Head {
    last_seq: u64,
    total: i64,
    /// Time and id.
    newest: Option<(i64, i64)>,
    newest_seq: Option<i64>,
    unread_at: i64,
    said_at: i64,
    touched_at: i64,
}

/// Puts what is late over the rows, for as long as the transaction lasts.
pub(super) fn fill(db: &Connection, late: &[(ConversationId, Vec<Arc<Entry>>)]) -> Work<()> {
    for (id, entries) in late {
        let Some(mut head) = head(db, *id)? else { continue };
        let key = conversation_key(*id);
        let mut timeline =
            db.prepare_cached("INSERT INTO temp.late_timeline (conversation, seq, id) VALUES (?1, ?2, ?3)")?;
        let mut history =
            db.prepare_cached("INSERT INTO temp.late_history (conversation, at, id) VALUES (?1, ?2, ?3)")?;
        let mut sent: HashMap<&ClientId, i64> = HashMap::new();
        let in_index = head.last_seq;
        for entry in entries.iter().filter(|entry| entry.seq() > in_index) {
            let (at, message) = entry.spot();
            timeline.execute((key, int(entry.seq()), message))?;
            head.last_seq = entry.seq();
            head.total = int(entry.ordinal);
            head.said_at = head.said_at.max(at);
            head.touched_at = head.touched_at.max(at);
            if entry.shown {
                history.execute((key, at, message))?;
                // An import may be newer.
                head.newest = head.newest.max(Some((at, message)));
                head.newest_seq = Some(int(entry.seq()));
            }
            if entry.counted {
                head.unread_at = head.unread_at.max(entry.message.id.time().0);
                *sent.entry(&entry.message.sender).or_default() += 1;
            }
        }
        if head.last_seq == in_index {
            continue;
        }
        db.prepare_cached("INSERT INTO temp.late_head VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
            .execute((
                key,
                int(head.last_seq),
                head.total,
                head.newest.map(|(_, message)| message),
                head.newest.map(|(at, _)| at),
                head.newest_seq,
                head.unread_at,
                head.said_at,
                head.touched_at,
            ))?;
        let mut add = db
            .prepare_cached("INSERT INTO temp.late_sent (conversation, client, count) VALUES (?1, ?2, ?3)")?;
        for (client, count) in sent {
            add.execute((key, client.as_str(), count))?;
        }
    }
    Ok(())
}

/// The head as its row says; this read takes the snapshot.
fn head(db: &Connection, id: ConversationId) -> Work<Option<Head>> {
    Ok(db
        .prepare_cached(
            "SELECT last_seq, total, last_message_at, last_message, last_message_seq, unread_at, said_at, touched_at \
             FROM main.head WHERE conversation = ?1",
        )?
        .query_row([conversation_key(id)], |row| {
            let newest = match (row.get(2)?, row.get(3)?) {
                (Some(at), Some(message)) => Some((at, message)),
                _ => None,
            };
            Ok(Head {
                last_seq: uint(row.get(0)?),
                total: row.get(1)?,
                newest,
                newest_seq: row.get(4)?,
                unread_at: row.get(5)?,
                said_at: row.get(6)?,
                touched_at: row.get(7)?,
            })
        })
        .optional()?)
}
