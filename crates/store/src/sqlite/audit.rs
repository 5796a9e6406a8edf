//! Proof-reading of a data directory: every counter against a plain scan of what it counts.
//!
//! For tests, for the test that kills the server, and for operators who doubt. It only reads.

use std::collections::HashMap;
use std::path::Path;

use posthouse_core::error::Result;
use rusqlite::Connection;

use super::SqliteStore;
use super::open::{OpenError, open_for_reading};
use super::rows::{KIND_RECALLED, Work, clients_of};
use super::shards::{FileKey, Shards, main_path};

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
    /// As [`audit`], of this open store: of everything that is committed.
    pub async fn audit(&self) -> Result<Vec<String>> {
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

struct Scanned {
    seq: i64,
    sender: String,
    recalled: bool,
    mention_all: bool,
    mentions: Vec<String>,
}

fn audit_file(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut differences = Vec::new();
    let integrity: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        differences.push(format!("integrity: {integrity}"));
    }
    let mut statement = db.prepare(
        "SELECT c.id, h.last_seq, h.total, h.last_message, h.last_message_at, h.last_message_seq, c.kind \
         FROM conversation c LEFT JOIN head h ON h.conversation = c.id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let Some(last_seq) = row.get::<_, Option<i64>>(1)? else {
            differences.push(format!("conversation {id} has no head"));
            continue;
        };
        let head =
            (row.get::<_, Option<i64>>(3)?, row.get::<_, Option<i64>>(4)?, row.get::<_, Option<i64>>(5)?);
        audit_conversation(db, id, last_seq, row.get(2)?, head, &mut differences)?;
    }
    Ok(differences)
}

fn audit_conversation(
    db: &Connection,
    id: i64,
    last_seq: i64,
    total: i64,
    head: (Option<i64>, Option<i64>, Option<i64>),
    differences: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let seqs: Vec<i64> = db
        .prepare_cached(
            "SELECT seq FROM message WHERE conversation = ?1 UNION ALL SELECT seq FROM change WHERE conversation = ?1 AND seq > 0 \
             ORDER BY seq",
        )?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if !seqs.iter().copied().eq(1..=last_seq) {
        differences.push(format!("conversation {id}: places up to {last_seq} are {seqs:?}"));
    }
    let mut messages = Vec::new();
    let mut newest = (None, None, None);
    let mut statement = db.prepare_cached(
        "SELECT id, seq, timestamp, ordinal, sender, kind, mention_all, mentions FROM message WHERE conversation = ?1 \
         ORDER BY timestamp, id",
    )?;
    let mut rows = statement.query([id])?;
    let mut number = 0;
    while let Some(row) = rows.next()? {
        number += 1;
        let seq: i64 = row.get(1)?;
        if newest.2.is_some_and(|before| before >= seq) {
            differences.push(format!("conversation {id}: history and timeline differ at {seq}"));
        }
        if row.get::<_, i64>(3)? != number {
            differences.push(format!("conversation {id}: message {number} says it is another"));
        }
        newest = (Some(row.get(0)?), Some(row.get(2)?), Some(seq));
        let mentions = match row.get::<_, Option<String>>(7)? {
            Some(text) => clients_of(&text, 7)?.iter().map(|client| client.as_str().to_owned()).collect(),
            None => Vec::new(),
        };
        messages.push(Scanned {
            seq,
            sender: row.get(4)?,
            recalled: row.get::<_, i64>(5)? == KIND_RECALLED,
            mention_all: row.get(6)?,
            mentions,
        });
    }
    if number != total {
        differences.push(format!("conversation {id}: the head counts {total} messages, there are {number}"));
    }
    if newest != head {
        differences.push(format!("conversation {id}: the head names {head:?} as newest, it is {newest:?}"));
    }
    audit_members(db, id, total, &messages, differences)
}

fn audit_members(
    db: &Connection,
    id: i64,
    total: i64,
    messages: &[Scanned],
    differences: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let mut recalled: HashMap<i64, &str> = HashMap::new();
    for message in messages.iter().filter(|message| message.recalled) {
        recalled.insert(message.seq, &message.sender);
    }
    let mut statement = db.prepare_cached(
        "SELECT client, sent, read_seq, read_total, read_own FROM member WHERE conversation = ?1",
    )?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let client: String = row.get(0)?;
        let (sent, read_seq): (i64, i64) = (row.get(1)?, row.get(2)?);
        let (read_total, read_own): (i64, i64) = (row.get(3)?, row.get(4)?);
        let taken_back =
            recalled.iter().filter(|(seq, sender)| **seq > read_seq && **sender != client).count();
        let counted =
            (total - read_total) - (sent - read_own) - i64::try_from(taken_back).unwrap_or(i64::MAX);
        let mut unread = messages
            .iter()
            .filter(|message| message.seq > read_seq && message.sender != client && !message.recalled);
        let scanned = i64::try_from(unread.clone().count()).unwrap_or(i64::MAX);
        if counted != scanned {
            differences.push(format!(
                "conversation {id}, {client}: {counted} unread by counters, {scanned} by scan"
            ));
        }
        let called = unread.any(|message| message.mention_all || message.mentions.contains(&client));
        let noted = db
            .prepare_cached(
                "SELECT 1 FROM mention WHERE conversation = ?1 AND client IN (?2, '') AND seq > ?3 AND sender <> ?2",
            )?
            .exists((id, &client, read_seq))?;
        if called != noted {
            differences
                .push(format!("conversation {id}, {client}: mentioned by scan {called}, by notes {noted}"));
        }
    }
    Ok(())
}
