//! Forgetting what is over, writing down how far devices have got, and closing.

use async_trait::async_trait;
use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::port::store::Upkeep;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Params};
use tokio::sync::oneshot;

use super::rows::{Spot, Work, count, spot_of};
use super::shards::{FileKey, remove};
use super::writer::{Outcome, Request};
use super::{SqliteStore, positions};

/// Entries forgotten in one transaction: a few milliseconds of the writer's time.
const FORGOTTEN_AT_ONCE: i64 = 500;

/// Places of devices written in one transaction, for the same reason.
const POSITIONS_AT_ONCE: usize = 1_000;

#[async_trait]
impl Upkeep for SqliteStore {
    async fn forget_expired(&self) -> Result<usize> {
        if self.shards.over(self.options.clock.now()).is_empty() {
            return Ok(0);
        }
        let (reply, answer) = oneshot::channel();
        self.submit(Request::Forget(reply))?;
        let hidden = answer.await.map_err(|_| Error::Store(StoreFault::Closing))?;
        // Unlinking a large file takes long; a reading thread can spare the time, the writer can't.
        let dropped = hidden.len();
        for path in hidden {
            self.read(move |_| {
                remove(&path);
                Ok(())
            })
            .await?;
        }
        Ok(dropped)
    }

    async fn forget_missed(&self, before: Timestamp) -> Result<usize> {
        // Ids grow with time, so the oldest entries are found without an index of their times.
        self.write_main(move |tx| {
            let forgotten = tx
                .db
                .prepare_cached(
                    "DELETE FROM inbox WHERE at < ?1 AND id IN (SELECT id FROM inbox ORDER BY id LIMIT ?2)",
                )?
                .execute((before.0, FORGOTTEN_AT_ONCE))?;
            let emptied = tx
                .db
                .prepare_cached(
                    "UPDATE change SET data = NULL WHERE at < ?1 AND id IN \
                     (SELECT id FROM change INDEXED BY change_kept WHERE data IS NOT NULL ORDER BY id LIMIT ?2)",
                )?
                .execute((before.0, FORGOTTEN_AT_ONCE))?;
            Ok(Outcome::Written(forgotten + emptied))
        })
        .await
    }

    async fn forget_deleted(&self) -> Result<usize> {
        let idle = self.read(|reader| match reader.snapshot(FileKey::Main)? {
            Some(db) => Ok(next_forgotten(&db)?.is_none()),
            None => Ok(true),
        });
        if idle.await? {
            return Ok(0);
        }
        self.write_main(|tx| Ok(Outcome::Written(forget(tx.db)?))).await
    }

    async fn forget_devices(&self, before: Timestamp) -> Result<usize> {
        self.write_main(move |tx| {
            let places = tx
                .db
                .prepare_cached(
                    "DELETE FROM position WHERE (app, client, device, queue) IN \
                     (SELECT p.app, p.client, p.device, p.queue FROM device d INDEXED BY device_seen \
                     CROSS JOIN position p ON p.app = d.app AND p.client = d.client AND p.device = d.device \
                     WHERE d.seen_at < ?1 LIMIT ?2)",
                )?
                .execute((before.0, FORGOTTEN_AT_ONCE))?;
            if places > 0 {
                return Ok(Outcome::Written(places));
            }
            let devices = tx
                .db
                .prepare_cached(
                    "DELETE FROM device WHERE (app, client, device) IN \
                     (SELECT app, client, device FROM device INDEXED BY device_seen WHERE seen_at < ?1 LIMIT ?2)",
                )?
                .execute((before.0, FORGOTTEN_AT_ONCE))?;
            Ok(if devices > 0 { Outcome::Written(devices) } else { Outcome::Unchanged(0) })
        })
        .await
    }

    async fn flush_positions(&self) -> Result<usize> {
        // What comes while this writes is the next call's.
        let waiting = self.positions.len();
        let mut written = 0;
        while written < waiting {
            let batch = self.positions.batch(POSITIONS_AT_ONCE);
            if batch.is_empty() {
                break;
            }
            let batch = self
                .write_main(move |tx| {
                    positions::write(tx.db, &batch)?;
                    Ok(Outcome::Written(batch))
                })
                .await?;
            self.positions.written(&batch);
            written += batch.len();
        }
        Ok(written)
    }

    async fn close(&self) -> Result<()> {
        self.positions.close();
        let flushed = self.flush_positions().await;
        let (reply, answer) = oneshot::channel();
        if self.writer.push_last(Request::Close(reply)) {
            metrics::gauge!("posthouse_writer_queue").increment(1.0);
            answer.await.map_err(|_| Error::Store(StoreFault::Failed))?;
        }
        flushed.map(drop)
    }
}

/// A conversation of which something is to be forgotten.
struct Forgotten {
    conversation: i64,
    /// Everything up to here.
    until: Spot,
    /// Whether nothing of it is left but what is to be forgotten.
    ended: bool,
}

fn next_forgotten(db: &Connection) -> Work<Option<Forgotten>> {
    Ok(db
        .prepare_cached(
            "SELECT f.conversation, f.until_at, f.until_id, \
             NOT EXISTS (SELECT 1 FROM conversation c WHERE c.id = f.conversation) \
             FROM forgetting f ORDER BY f.conversation LIMIT 1",
        )?
        .query_row([], |row| {
            Ok(Forgotten { conversation: row.get(0)?, until: spot_of(row, 1)?, ended: row.get(3)? })
        })
        .optional()?)
}

/// Forgets some rows of one conversation; returns how many. Changes of a living one keep their places,
/// also those that name a message which is gone.
fn forget(db: &Connection) -> Work<usize> {
    let Some(forgotten) = next_forgotten(db)? else { return Ok(0) };
    let messages = forget_messages(db, &forgotten)?;
    if messages > 0 {
        return Ok(messages);
    }
    let key = forgotten.conversation;
    let always: &[&str] = &[
        "DELETE FROM mention WHERE (conversation, client, seq) IN (SELECT n.conversation, n.client, n.seq \
         FROM mention n WHERE n.conversation = ?1 AND NOT EXISTS (SELECT 1 FROM timeline t \
         WHERE t.conversation = n.conversation AND t.seq = n.seq) \
         AND n.seq <= coalesce((SELECT h.last_seq FROM head h WHERE h.conversation = ?1), n.seq) LIMIT ?2)",
        "DELETE FROM removed WHERE (conversation, client, message) IN (SELECT r.conversation, r.client, r.message \
         FROM removed r WHERE r.conversation = ?1 \
         AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = r.message) LIMIT ?2)",
    ];
    let ended: &[&str] = &[
        "DELETE FROM change WHERE id IN (SELECT id FROM change INDEXED BY change_seq WHERE conversation = ?1 LIMIT ?2)",
        "DELETE FROM member WHERE (conversation, client) IN (SELECT conversation, client FROM member \
         WHERE conversation = ?1 LIMIT ?2)",
        "DELETE FROM head WHERE conversation IN (SELECT conversation FROM head WHERE conversation = ?1 LIMIT ?2)",
    ];
    for rest in always.iter().chain(ended.iter().filter(|_| forgotten.ended)) {
        let rows = db.prepare_cached(rest)?.execute((key, FORGOTTEN_AT_ONCE))?;
        if rows > 0 {
            return Ok(rows);
        }
    }
    Ok(db.prepare_cached("DELETE FROM forgetting WHERE conversation = ?1")?.execute([key])?)
}

/// Forgets the oldest messages of one conversation with those who have read them; returns how many rows.
fn forget_messages(db: &Connection, forgotten: &Forgotten) -> Work<usize> {
    let (until_at, until_id) = forgotten.until;
    // Times grow along the timeline, so what is too young there ends the search. What is left of history
    // then was imported.
    let mut found = keys(
        db,
        "SELECT t.id FROM (SELECT id, seq FROM timeline WHERE conversation = ?1 ORDER BY seq LIMIT ?4) t \
         CROSS JOIN message m ON m.id = t.id WHERE (m.timestamp, m.id) <= (?2, ?3) ORDER BY t.seq",
        (forgotten.conversation, until_at, until_id, FORGOTTEN_AT_ONCE),
    )?;
    if found.is_empty() {
        found = keys(
            db,
            "SELECT id FROM history WHERE conversation = ?1 AND (at, id) <= (?2, ?3) ORDER BY at, id LIMIT ?4",
            (forgotten.conversation, until_at, until_id, FORGOTTEN_AT_ONCE),
        )?;
    }
    let mut rows = 0;
    for message in found {
        rows += forget_message(db, message)?;
        if count(rows) >= FORGOTTEN_AT_ONCE {
            break;
        }
    }
    Ok(rows)
}

/// Forgets one message, with its lines in the index and those who have read it; returns how many rows.
fn forget_message(db: &Connection, message: i64) -> Work<usize> {
    let mut rows = 0;
    for sql in [
        "DELETE FROM reader WHERE message = ?1",
        "DELETE FROM token WHERE (conversation, sender, token) IN \
         (SELECT conversation, sender, token FROM message WHERE id = ?1 AND token IS NOT NULL)",
        "DELETE FROM history WHERE (conversation, at, id) IN \
         (SELECT conversation, timestamp, id FROM message WHERE id = ?1)",
        "DELETE FROM timeline WHERE (conversation, seq) IN (SELECT conversation, seq FROM message WHERE id = ?1)",
        "DELETE FROM message WHERE id = ?1",
    ] {
        rows += db.prepare_cached(sql)?.execute([message])?;
    }
    Ok(rows)
}

fn keys(db: &Connection, sql: &str, params: impl Params) -> Work<Vec<i64>> {
    Ok(db.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}
