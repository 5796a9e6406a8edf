//! What a client missed while away: its own comings and goings, and changes around it.

use std::sync::Arc;

use async_trait::async_trait;
use posthouse_core::error::Result;
use posthouse_core::event::{MemberEvent, Missed, UpdateEvent};
use posthouse_core::id::{AppId, ClientId};
use posthouse_core::port::store::{Inbox, PAGE_BYTES_MAX};
use posthouse_core::receipt::Receipt;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, Row};
use serde_json::Value;

use super::SqliteStore;
use super::conversations::INBOX_JOINED;
use super::rows::{
    Work, changes_of, client_of, clients_of, conversation_of, count, kind_of, message_id_of, time_of,
    unreadable,
};
use super::timeline::{CHANGE_JOINED, CHANGE_LEFT};

#[async_trait]
impl Inbox for SqliteStore {
    async fn list_invitations(
        &self,
        app: &AppId,
        client: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Missed>> {
        let app = self.app_key(app).await?;
        let client = client.clone();
        self.read(move |reader| {
            let now = reader.now();
            let mut found = Vec::new();
            for db in &reader.snapshots()? {
                invitations_in(db, app, &client, since, limit, now, &mut found)?;
            }
            // Stable: what happened at one moment in one file keeps its order.
            found.sort_by_key(Missed::at);
            let last = limit.checked_sub(1).and_then(|last| found.get(last)).map(Missed::at);
            found.retain(|missed| last.map_or(limit > 0, |last| missed.at() <= last));
            Ok(found)
        })
        .await
    }

    async fn list_changes(
        &self,
        app: &AppId,
        client: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Option<Vec<Missed>>> {
        let app = self.app_key(app).await?;
        let client = client.clone();
        self.read(move |reader| {
            let now = reader.now();
            let mut found = Vec::new();
            for db in &reader.snapshots()? {
                if !changes_in(db, app, &client, since, limit, now, &mut found)? {
                    return Ok(None);
                }
                receipts_in(db, app, &client, since, limit, now, &mut found)?;
            }
            found.sort_by_key(Missed::at);
            Ok((found.len() <= limit).then_some(found))
        })
        .await
    }
}

fn invitations_in(
    db: &Connection,
    app: i64,
    client: &ClientId,
    since: Timestamp,
    limit: usize,
    now: Timestamp,
    found: &mut Vec<Missed>,
) -> Work<()> {
    // The page's last moment is found first, so that all of that moment can be returned.
    let last: Option<i64> = db
        .prepare_cached(
            "SELECT max(at) FROM (SELECT at FROM inbox INDEXED BY inbox_invitation \
             WHERE kind < 3 AND app = ?1 AND client = ?2 AND at > ?3 ORDER BY at LIMIT ?4)",
        )?
        .query_row((app, client.as_str(), since.0, count(limit)), |row| row.get(0))?;
    let Some(last) = last else { return Ok(()) };
    let mut statement = db.prepare_cached(
        "SELECT i.kind, i.conversation, i.by, i.at, c.kind, c.until, c.created_at \
         FROM inbox i INDEXED BY inbox_invitation CROSS JOIN conversation c ON c.id = i.conversation \
         WHERE i.kind < 3 AND i.app = ?1 AND i.client = ?2 AND i.at > ?3 AND i.at <= ?4 \
         AND (c.until IS NULL OR c.until > ?5) ORDER BY i.at, i.id",
    )?;
    let rows = statement.query_map((app, client.as_str(), since.0, last, now.0), |row| {
        let event = member_event(row, 1, vec![client.clone()])?;
        Ok(if row.get::<_, i64>(0)? == INBOX_JOINED { Missed::Joined(event) } else { Missed::Left(event) })
    })?;
    for missed in rows {
        found.push(missed?);
    }
    Ok(())
}

/// The event in columns conversation, by, at, kind, until, `created_at` from `first` on.
fn member_event(row: &Row<'_>, first: usize, members: Vec<ClientId>) -> rusqlite::Result<MemberEvent> {
    let until: Option<i64> = row.get(first + 4)?;
    let created_at: i64 = row.get(first + 5)?;
    Ok(MemberEvent {
        conversation: conversation_of(row, first)?,
        kind: kind_of(row, first + 3)?,
        ttl_seconds: until.map(|until| Timestamp(until).ms_since(Timestamp(created_at)) / 1_000),
        by: client_of(row, first + 1)?,
        members: members.into(),
        at: time_of(row, first + 2)?,
    })
}

/// `false` if what was missed is too large to be told.
fn changes_in(
    db: &Connection,
    app: i64,
    client: &ClientId,
    since: Timestamp,
    limit: usize,
    now: Timestamp,
    found: &mut Vec<Missed>,
) -> Work<bool> {
    let mut statement = db.prepare_cached(
        "SELECT e.kind, e.data, e.conversation, e.by, e.at, c.kind, c.until, c.created_at FROM member x \
         CROSS JOIN head h ON h.conversation = x.conversation \
         CROSS JOIN conversation c ON c.id = x.conversation \
         CROSS JOIN change e INDEXED BY change_at ON e.conversation = x.conversation AND e.at > ?3 AND e.kind >= 3 AND e.data IS NOT NULL \
         WHERE x.app = ?1 AND x.client = ?2 AND h.changed_at > ?3 AND (c.until IS NULL OR c.until > ?4) \
         ORDER BY e.at, e.id LIMIT ?5",
    )?;
    let mut rows = statement.query((app, client.as_str(), since.0, now.0, count(limit).saturating_add(1)))?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let data: String = row.get(1)?;
        bytes += data.len();
        if bytes > PAGE_BYTES_MAX {
            return Ok(false);
        }
        found.push(match row.get::<_, i64>(0)? {
            CHANGE_JOINED => Missed::MembersJoined(member_event(row, 2, clients_of(&data, 1)?)?),
            CHANGE_LEFT => Missed::MembersLeft(member_event(row, 2, clients_of(&data, 1)?)?),
            _ => Missed::Updated(update_event(row, &data)?),
        });
    }
    Ok(true)
}

fn update_event(row: &Row<'_>, data: &str) -> rusqlite::Result<UpdateEvent> {
    let wrong = || unreadable(1, "no attribute changes".to_owned());
    let data: Value = serde_json::from_str(data).map_err(|_| wrong())?;
    let changes = changes_of(&data["changes"]).ok_or_else(wrong)?;
    let modified = data["modified"].as_object().cloned().ok_or_else(wrong)?;
    Ok(UpdateEvent {
        conversation: conversation_of(row, 2)?,
        kind: kind_of(row, 5)?,
        by: client_of(row, 3)?,
        changes: changes.into(),
        modified: Arc::new(modified),
        at: time_of(row, 4)?,
    })
}

fn receipts_in(
    db: &Connection,
    app: i64,
    client: &ClientId,
    since: Timestamp,
    limit: usize,
    now: Timestamp,
    found: &mut Vec<Missed>,
) -> Work<()> {
    let mut statement = db.prepare_cached(
        "SELECT i.conversation, i.message, i.by, i.at FROM inbox i INDEXED BY inbox_receipt \
         CROSS JOIN conversation c ON c.id = i.conversation \
         CROSS JOIN member x ON x.conversation = i.conversation AND x.client = i.client \
         WHERE i.kind = 3 AND i.app = ?1 AND i.client = ?2 AND i.at > ?3 AND (c.until IS NULL OR c.until > ?4) \
         ORDER BY i.at, i.id LIMIT ?5",
    )?;
    let rows = statement.query_map(
        (app, client.as_str(), since.0, now.0, count(limit).saturating_add(1)),
        |row| {
            Ok(Missed::Receipt(Receipt {
                conversation: conversation_of(row, 0)?,
                message: message_id_of(row, 1)?,
                by: client_of(row, 2)?,
                at: time_of(row, 3)?,
                read: true,
            }))
        },
    )?;
    for missed in rows {
        found.push(missed?);
    }
    Ok(())
}
