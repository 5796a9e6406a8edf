//! Proof-reading of a data directory: every counter against a plain scan of what it counts.
//!
//! For tests, for the test that kills the server, and for operators who doubt. It only reads.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use posthouse_core::error::Result;
use rusqlite::Connection;

use super::SqliteStore;
use super::open::{OpenError, open_for_reading};
use super::rows::{
    KIND_RECALLED, NOWHERE, Spot, Work, clients_of, conversation_key, int, message_key, spot_of,
};
use super::shards::{FileKey, Shards, main_path};
use super::tail::{Entry, unindexed};

/// Compares every counter of the data directory `dir` with what a plain scan finds. Returns a line for
/// each difference; an empty list is a good store. A server may be running.
pub fn audit(dir: &Path) -> std::result::Result<Vec<String>, OpenError> {
    let shards = Shards::find(dir)?;
    let mut files = vec![main_path(dir)];
    let buckets = shards.living(posthouse_core::time::Timestamp(i64::MIN));
    files.extend(buckets.into_iter().map(|bucket| shards.path(FileKey::Bucket(bucket))));
    let mut differences = Vec::new();
    for file in files {
        let wrong = |source| OpenError::Sqlite { file: file.clone(), source };
        let db = open_for_reading(&file).map_err(wrong)?;
        let snapshot = db.unchecked_transaction().map_err(wrong)?;
        let found = audit_file(&snapshot).map_err(wrong)?;
        differences.extend(found.into_iter().map(|difference| format!("{}: {difference}", file.display())));
    }
    Ok(differences)
}

impl SqliteStore {
    /// As [`audit`], of this open store: of everything that is committed. Everything is in the index after
    /// it.
    pub async fn audit(&self) -> Result<Vec<String>> {
        self.index_all().await?;
        self.read(|reader| -> Work<Vec<String>> {
            let mut differences = Vec::new();
            for db in &reader.snapshots()? {
                differences.extend(audit_file(db)?);
            }
            Ok(differences)
        })
        .await
    }
}

/// A message as a plain scan finds it.
struct Scanned {
    id: i64,
    at: i64,
    seq: i64,
    ordinal: i64,
    sender: String,
    shown: bool,
    counted: bool,
    recalled: bool,
    mention_all: bool,
    mentions: Vec<String>,
}

/// A conversation's own counters.
struct Head {
    last_seq: i64,
    total: i64,
    /// Id and time of the newest message of history.
    newest: Option<Spot>,
    newest_seq: i64,
    said_at: i64,
    touched_at: i64,
    /// What lies up to here may be forgotten already.
    cleared: Spot,
}

pub(super) fn audit_file(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut differences = Vec::new();
    let integrity: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        differences.push(format!("integrity: {integrity}"));
    }
    audit_index(db, &mut differences)?;
    let mut tails: HashMap<i64, Vec<Entry>> = HashMap::new();
    for entry in unindexed(db)? {
        tails.entry(conversation_key(entry.message.conversation)).or_default().push(entry);
    }
    let mut statement = db.prepare(
        "SELECT c.id, h.conversation IS NOT NULL, h.last_seq, h.total, h.last_message_at, h.last_message, \
         h.last_message_seq, h.said_at, h.touched_at, h.cleared_at, h.cleared_id \
         FROM conversation c LEFT JOIN head h ON h.conversation = c.id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if !row.get::<_, bool>(1)? {
            differences.push(format!("conversation {id} has no head"));
            continue;
        }
        let mut head = Head {
            last_seq: row.get(2)?,
            total: row.get(3)?,
            newest: Some(spot_of(row, 4)?).filter(|newest| *newest != NOWHERE),
            newest_seq: row.get::<_, Option<i64>>(6)?.unwrap_or(0),
            said_at: row.get(7)?,
            touched_at: row.get(8)?,
            cleared: spot_of(row, 9)?,
        };
        let tail = tails.remove(&id).unwrap_or_default();
        tail.iter().for_each(|entry| head.move_on(entry));
        audit_conversation(db, id, &head, &tail, &mut differences)?;
    }
    Ok(differences)
}

impl Head {
    /// The head as it is with a message of the tail.
    fn move_on(&mut self, entry: &Entry) {
        self.last_seq = int(entry.seq());
        self.total = int(entry.ordinal);
        self.said_at = self.said_at.max(entry.message.timestamp.0);
        self.touched_at = self.touched_at.max(entry.message.timestamp.0);
        if entry.shown {
            self.newest = self.newest.max(Some(entry.spot()));
            self.newest_seq = int(entry.seq());
        }
    }
}

/// The index against the log: what either has and the other lacks, the tails left aside.
fn audit_index(db: &Connection, differences: &mut Vec<String>) -> rusqlite::Result<()> {
    for (what, sql) in [
        (
            "messages before the mark of the index are in no timeline",
            "SELECT count(*) FROM message m JOIN head h ON h.conversation = m.conversation \
             WHERE m.seq > h.last_seq AND m.id <= (SELECT until FROM indexed)",
        ),
        (
            "messages are missing in the timeline",
            "SELECT count(*) FROM message m JOIN head h ON h.conversation = m.conversation \
             WHERE m.seq > 0 AND m.seq <= h.last_seq AND NOT EXISTS (SELECT 1 FROM timeline t \
             WHERE t.conversation = m.conversation AND t.seq = m.seq AND t.id = m.id)",
        ),
        (
            "messages are missing in history",
            "SELECT count(*) FROM message m JOIN head h ON h.conversation = m.conversation \
             WHERE m.shown = 1 AND m.seq <= h.last_seq AND NOT EXISTS (SELECT 1 FROM history l \
             WHERE l.conversation = m.conversation AND l.at = m.timestamp AND l.id = m.id)",
        ),
        (
            "tokens are missing",
            "SELECT count(*) FROM message m JOIN head h ON h.conversation = m.conversation \
             WHERE m.token IS NOT NULL AND m.seq <= h.last_seq AND NOT EXISTS (SELECT 1 FROM token k \
             WHERE k.conversation = m.conversation AND k.sender = m.sender AND k.token = m.token AND k.id = m.id)",
        ),
        (
            "lines of the timeline have no message",
            "SELECT count(*) FROM timeline t WHERE NOT EXISTS (SELECT 1 FROM message m \
             WHERE m.id = t.id AND m.conversation = t.conversation AND m.seq = t.seq)",
        ),
        (
            "lines of history have no message",
            "SELECT count(*) FROM history l WHERE NOT EXISTS (SELECT 1 FROM message m \
             WHERE m.id = l.id AND m.conversation = l.conversation AND m.timestamp = l.at AND m.shown = 1)",
        ),
        (
            "tokens have no message",
            "SELECT count(*) FROM token k WHERE NOT EXISTS (SELECT 1 FROM message m \
             WHERE m.id = k.id AND m.conversation = k.conversation AND m.sender = k.sender AND m.token = k.token)",
        ),
    ] {
        let count: i64 = db.query_row(sql, [], |row| row.get(0))?;
        if count > 0 {
            differences.push(format!("{count} {what}"));
        }
    }
    Ok(())
}

fn audit_conversation(
    db: &Connection,
    id: i64,
    head: &Head,
    tail: &[Entry],
    differences: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let messages = scan(db, id, head.cleared, tail)?;
    audit_places(db, id, head, &messages, tail, differences)?;
    let mut differ = |what: String| differences.push(format!("conversation {id}: {what}"));

    // By place, as they were said; imports have none.
    let mut said: Vec<&Scanned> = messages.iter().filter(|message| message.seq > 0).collect();
    said.sort_by_key(|message| message.seq);
    let mut before: Option<(i64, i64)> = None;
    for message in said.iter().filter(|message| message.shown) {
        if before.is_some_and(|before| before >= (message.at, message.id)) {
            differ(format!("history and timeline differ at {}", message.seq));
        }
        before = Some((message.at, message.id));
    }
    let counted = i64::try_from(said.iter().filter(|message| message.counted).count()).unwrap_or(i64::MAX);
    let mut number = if head.cleared == NOWHERE { 0 } else { head.total - counted };
    let first = number;
    for message in &said {
        number += i64::from(message.counted);
        if message.ordinal != number {
            differ(format!("message {number} says it is another"));
        }
    }
    if number != head.total {
        differ(format!("the head counts {} messages, there are {counted} after {first}", head.total));
    }
    if messages.iter().any(|message| message.counted && !message.shown) {
        differ("something counts that is not shown".to_owned());
    }

    let shown = messages.iter().filter(|message| message.shown);
    let newest = shown.map(|message| (message.at, message.id)).max();
    if newest != head.newest {
        differ(format!("the head names {:?} as newest, it is {newest:?}", head.newest));
    }
    let newest_seq = said.iter().filter(|message| message.shown).map(|message| message.seq).max();
    if newest_seq.is_some_and(|seq| seq != head.newest_seq) {
        differ(format!("the head names place {} as newest, it is {newest_seq:?}", head.newest_seq));
    }
    let said_at = said.iter().map(|message| message.at).max();
    if said_at.is_some_and(|at| at > head.said_at || at > head.touched_at) {
        differ(format!("something was said at {said_at:?}, the head knows of {}", head.said_at));
    }
    audit_members(db, id, head, &messages, tail, differences)
}

/// The messages after the watermark, those of the tail included.
fn scan(db: &Connection, id: i64, cleared: Spot, tail: &[Entry]) -> rusqlite::Result<Vec<Scanned>> {
    let mut ids: Vec<i64> = db
        .prepare_cached(
            "SELECT id FROM timeline WHERE conversation = ?1 UNION SELECT id FROM history WHERE conversation = ?1",
        )?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    ids.extend(tail.iter().map(|entry| message_key(entry.message.id)));
    let mut found = Vec::with_capacity(ids.len());
    for message in ids {
        found.push(scan_one(db, message)?);
    }
    found.retain(|message| (message.at, message.id) > cleared);
    found.sort_by_key(|message| (message.at, message.id));
    Ok(found)
}

fn scan_one(db: &Connection, message: i64) -> rusqlite::Result<Scanned> {
    db.prepare_cached(
        "SELECT id, timestamp, seq, ordinal, sender, shown, counted, kind, mention_all, mentions FROM message \
         WHERE id = ?1",
    )?
    .query_row([message], |row| {
        let mentions = match row.get::<_, Option<String>>(9)? {
            Some(text) => clients_of(&text, 9)?.iter().map(|client| client.as_str().to_owned()).collect(),
            None => Vec::new(),
        };
        Ok(Scanned {
            id: row.get(0)?,
            at: row.get(1)?,
            seq: row.get(2)?,
            ordinal: row.get(3)?,
            sender: row.get(4)?,
            shown: row.get(5)?,
            counted: row.get(6)?,
            recalled: row.get::<_, i64>(7)? == KIND_RECALLED,
            mention_all: row.get(8)?,
            mentions,
        })
    })
}

/// Every place of the timeline is taken once, but for those of messages that are forgotten.
fn audit_places(
    db: &Connection,
    id: i64,
    head: &Head,
    messages: &[Scanned],
    tail: &[Entry],
    differences: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let mut seqs: Vec<i64> = db
        .prepare_cached(
            "SELECT seq FROM timeline WHERE conversation = ?1 \
             UNION ALL SELECT seq FROM change WHERE conversation = ?1 AND seq > 0 ORDER BY seq",
        )?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    seqs.extend(tail.iter().map(|entry| int(entry.seq())));
    // Up to here places may be missing.
    let forgotten = if head.cleared == NOWHERE {
        0
    } else {
        let first = messages.iter().map(|message| message.seq).filter(|seq| *seq > 0).min();
        first.map_or(head.last_seq, |first| first - 1)
    };
    let once = seqs.windows(2).all(|pair| pair[0] < pair[1]);
    let after: Vec<i64> = seqs.iter().copied().filter(|seq| *seq > forgotten).collect();
    if !once || !after.iter().copied().eq(forgotten + 1..=head.last_seq) {
        differences.push(format!("conversation {id}: places up to {} are {seqs:?}", head.last_seq));
    }
    Ok(())
}

/// What a member row says.
struct Marked {
    client: String,
    sent: i64,
    read_seq: i64,
    read_total: i64,
    read_own: i64,
    cleared: Spot,
}

fn audit_members(
    db: &Connection,
    id: i64,
    head: &Head,
    messages: &[Scanned],
    tail: &[Entry],
    differences: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let members: Vec<Marked> = db
        .prepare_cached(
            "SELECT client, sent, read_seq, read_total, read_own, cleared_at, cleared_id FROM member \
             WHERE conversation = ?1",
        )?
        .query_map([id], |row| {
            Ok(Marked {
                client: row.get(0)?,
                sent: row.get(1)?,
                read_seq: row.get(2)?,
                read_total: row.get(3)?,
                read_own: row.get(4)?,
                cleared: spot_of(row, 5)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    for member in members {
        let client = &member.client;
        let removed: HashSet<i64> = db
            .prepare_cached("SELECT message FROM removed WHERE conversation = ?1 AND client = ?2")?
            .query_map((id, client), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let new: Vec<&Scanned> = messages
            .iter()
            .filter(|message| message.seq > member.read_seq && message.sender != *client && message.counted)
            .collect();
        let unread: Vec<&&Scanned> =
            new.iter().filter(|message| !message.recalled && !removed.contains(&message.id)).collect();
        let gone = i64::try_from(new.len() - unread.len()).unwrap_or(i64::MAX);
        let own = tail
            .iter()
            .filter(|entry| entry.counted && entry.message.sender.as_str() == member.client)
            .count();
        let sent = member.sent + i64::try_from(own).unwrap_or(i64::MAX);
        let counted = (head.total - member.read_total) - (sent - member.read_own) - gone;
        let scanned = i64::try_from(unread.len()).unwrap_or(i64::MAX);
        if counted != scanned {
            differences.push(format!(
                "conversation {id}, {client}: {counted} unread by counters, {scanned} by scan"
            ));
        }
        if unread.iter().any(|message| (message.at, message.id) <= member.cleared) {
            differences.push(format!("conversation {id}, {client}: something deleted is unread"));
        }
        let called = unread.iter().any(|message| message.mention_all || message.mentions.contains(client));
        let noted = db
            .prepare_cached(
                "SELECT 1 FROM mention n WHERE n.conversation = ?1 AND n.client IN (?2, '') AND n.seq > ?3 \
                 AND n.sender <> ?2 AND NOT EXISTS (SELECT 1 FROM timeline t JOIN removed r ON r.message = t.id \
                 AND r.conversation = t.conversation AND r.client = ?2 \
                 WHERE t.conversation = n.conversation AND t.seq = n.seq)",
            )?
            .exists((id, client, member.read_seq))?;
        if called != noted {
            differences
                .push(format!("conversation {id}, {client}: mentioned by scan {called}, by notes {noted}"));
        }
    }
    Ok(())
}
