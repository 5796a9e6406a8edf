//! What a client missed while away: its own comings and goings, changes around it, and the notes that
//! its devices read one by one.

use std::sync::Arc;

use async_trait::async_trait;
use posthouse_core::conversation::{Kind, RoleChange};
use posthouse_core::error::{Result, StoreFault};
use posthouse_core::event::{MemberEvent, Missed, UpdateEvent};
use posthouse_core::id::{AppId, ClientId, ConversationId, DeviceId, MessageId};
use posthouse_core::listing::{ListChange, ListQuery, Listed, Note, NoteKind, Queue, Removal, Waiting};
use posthouse_core::port::store::{AfterCommit, Inbox, PAGE_BYTES_MAX};
use posthouse_core::receipt::Receipt;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, Row};
use serde_json::{Map, Value};

use super::answers::{Answer, Found, Ticket, part};
use super::clients::notice_of;
use super::listing::{self, address_of, list_change_of, peer_column};
use super::notes::{
    NO_CONVERSATION, NOTE_CONTACT, NOTE_CONVERSATION_DELETED, NOTE_DELIVERED, NOTE_ENDED, NOTE_JOINED,
    NOTE_LEFT, NOTE_LISTED, NOTE_MESSAGES_REMOVED, NOTE_READ, NOTE_READ_HERE, NOTE_ROLE,
};
use super::positions::{self, Device, Kept, Reached, queue_key};
use super::readers::memberships;
use super::rows::{
    Work, client_of, clients_of, conversation_of, count, int, kind_of, maybe_time_of, message_id_of,
    object_of, time_of, uint, unreadable, update_of,
};
use super::shards::FileKey;
use super::tail::Late;
use super::timeline::{CHANGE_JOINED, CHANGE_LEFT};
use super::writer::Outcome;
use super::{SqliteStore, UNKNOWN_APP};

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

    async fn list_conversations(
        &self,
        app: &AppId,
        client: &ClientId,
        query: ListQuery,
    ) -> Result<Vec<Listed>> {
        let app = self.app_key(app).await?;
        let ticket = match self.answers.find(app, client, &query) {
            Found::Whole(listed) => return Ok(listed),
            Found::Outdated(ticket, outdated) => {
                match self.renew_list(app, client, ticket, outdated).await? {
                    Some(listed) => return Ok(part(&listed, &query).to_vec()),
                    None => ticket,
                }
            }
            Found::Nothing(ticket) => ticket,
        };
        let (client, counted) = (client.clone(), client.clone());
        let is_long = self
            .read(move |reader| match reader.snapshot(FileKey::Main)? {
                Some(db) => listing::is_long(&db, app, &counted),
                None => Ok(false),
            })
            .await?;
        // Long lists delay each other and nobody else.
        let lane = if is_long { &self.searches } else { &self.readers };
        let answers = Arc::clone(&self.answers);
        self.read_late(lane, Late::OfClient(app, client.clone()), move |reader| {
            let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(Vec::new()) };
            let listed = listing::list(&db, app, &client, &query)?;
            if !is_long {
                answers.keep(ticket, (app, &client), query, memberships(&db, app, &client)?, &listed);
            }
            Ok(listed)
        })
        .await
    }

    async fn change_listed(
        &self,
        app: &AppId,
        client: &ClientId,
        conversation: ConversationId,
        device: Option<&DeviceId>,
        change: ListChange,
        after: AfterCommit<Option<Timestamp>>,
    ) -> Result<Option<Timestamp>> {
        let app = self.app_key(app).await?;
        let (client, device) = (client.clone(), device.cloned());
        self.write_to(conversation, after, move |tx| {
            listing::change(tx, app, &client, conversation, device.as_ref(), change)
        })
        .await
    }

    async fn open_device(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        window_ms: i64,
    ) -> Result<()> {
        let device = self.device(app, client, device).await?;
        if device.app == UNKNOWN_APP {
            tracing::error!("a device logs in to an app that doesn't exist");
            return Err(StoreFault::Failed.into());
        }
        let forgotten = self.write_main(move |tx| positions::open(tx, &device, window_ms)).await?;
        self.positions.forget_each(&forgotten);
        Ok(())
    }

    async fn waiting(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        limit: usize,
    ) -> Result<Waiting> {
        let device = self.device(app, client, device).await?;
        let unwritten = self.positions.of(&device);
        // A commit whose closure has run is in every snapshot taken after that.
        self.read_late(&self.readers, Late::OfClient(device.app, client.clone()), move |reader| match reader
            .snapshot(
            FileKey::Main,
        )? {
            Some(db) => positions::waiting(&db, &device, &unwritten, limit),
            None => Ok(Waiting::default()),
        })
        .await
    }

    async fn position(&self, app: &AppId, client: &ClientId, device: &DeviceId, queue: Queue) -> Result<u64> {
        let device = self.device(app, client, device).await?;
        let unwritten = self.positions.at(&device, queue_key(queue));
        let late = match queue {
            Queue::Conversation(id) => Late::Conversations(vec![id]),
            Queue::Inbox => Late::Nothing,
        };
        self.read_late(&self.readers, late, move |reader| match reader.snapshot(FileKey::Main)? {
            Some(db) => positions::position(&db, &device, queue, unwritten),
            None => Ok(0),
        })
        .await
    }

    async fn set_position(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        queue: Queue,
        place: u64,
    ) -> Result<()> {
        let device = self.device(app, client, device).await?;
        if device.app == UNKNOWN_APP {
            return Ok(());
        }
        let reached = Reached { device, queue: queue_key(queue), place };
        match self.positions.advance(&reached) {
            Kept::InMemory => Ok(()),
            Kept::Closed => Err(StoreFault::Closing.into()),
            Kept::No => {
                self.write_main(move |tx| Ok(Outcome::Written(positions::write(tx.db, &[reached])?))).await
            }
        }
    }

    async fn read_notes(
        &self,
        app: &AppId,
        client: &ClientId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Note>> {
        let app = self.app_key(app).await?;
        let client = client.clone();
        self.read(move |reader| match reader.snapshot(FileKey::Main)? {
            Some(db) => notes(&db, app, &client, after, limit),
            None => Ok(Vec::new()),
        })
        .await
    }
}

impl SqliteStore {
    /// Mends an answer by the lines that have changed, if they tell what it is now.
    async fn renew_list(
        &self,
        app: i64,
        client: &ClientId,
        ticket: Ticket,
        outdated: Answer,
    ) -> Result<Option<Vec<Listed>>> {
        let (client, answers) = (client.clone(), Arc::clone(&self.answers));
        self.read_late(&self.readers, Late::Conversations(outdated.changed.clone()), move |reader| {
            let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(None) };
            let renewed = listing::renew(&db, app, &client, &outdated)?;
            if let Some(listed) = &renewed {
                answers.keep_renewed(ticket, (app, &client), &outdated.query, listed);
            }
            Ok(renewed)
        })
        .await
    }

    async fn device(&self, app: &AppId, client: &ClientId, device: &DeviceId) -> Result<Device> {
        Ok(Device { app: self.app_key(app).await?, client: client.clone(), device: device.clone() })
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
        Ok(if row.get::<_, i64>(0)? == NOTE_JOINED { Missed::Joined(event) } else { Missed::Left(event) })
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
    let (changes, modified) = update_of(data, 1)?;
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
    // Where readers were counted, it was no conversation of two.
    let mut statement = db.prepare_cached(
        "SELECT i.conversation, i.message, i.by, i.at, i.data FROM inbox i INDEXED BY inbox_receipt \
         CROSS JOIN conversation c ON c.id = i.conversation \
         CROSS JOIN member x ON x.conversation = i.conversation AND x.client = i.client \
         WHERE i.kind = 3 AND i.app = ?1 AND i.client = ?2 AND i.at > ?3 AND (c.until IS NULL OR c.until > ?4) \
         AND i.data ->> 'readers' IS NULL ORDER BY i.at, i.id LIMIT ?5",
    )?;
    let mut rows = statement.query((app, client.as_str(), since.0, now.0, count(limit).saturating_add(1)))?;
    while let Some(row) = rows.next()? {
        let data = said_in(row, 4)?;
        found.push(Missed::Receipt(receipt(row, 0, true, &data)?));
    }
    Ok(())
}

/// The receipt in columns conversation, message, by, at from `first` on.
fn receipt(row: &Row<'_>, first: usize, read: bool, data: &Map<String, Value>) -> rusqlite::Result<Receipt> {
    Ok(Receipt {
        conversation: conversation_of(row, first)?,
        message: message_id_of(row, first + 1)?,
        by: client_of(row, first + 2)?,
        at: time_of(row, first + 3)?,
        read,
        whole: data.get("whole").and_then(Value::as_bool).unwrap_or(true),
        readers: data.get("readers").and_then(Value::as_u64),
        note: data.get("note").and_then(Value::as_str).map(Arc::from),
    })
}

/// What a note says beside its columns.
fn said_in(row: &Row<'_>, at: usize) -> rusqlite::Result<Map<String, Value>> {
    match row.get_ref(at)?.as_str_or_null()? {
        Some(text) => object_of(text, at),
        None => Ok(Map::new()),
    }
}

fn notes(db: &Connection, app: i64, client: &ClientId, after: u64, limit: usize) -> Work<Vec<Note>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT i.conversation, i.message, i.by, i.at, i.kind, i.data, i.id, c.kind, c.until, ",
        peer_column!(),
        ", c.created_at FROM inbox i INDEXED BY inbox_notes \
         LEFT JOIN conversation c ON c.id = i.conversation AND c.app = i.app \
         WHERE i.app = ?1 AND i.client = ?2 AND i.id > ?3 ORDER BY i.id LIMIT ?4"
    ))?;
    let rows = statement
        .query_map((app, client.as_str(), int(after), count(limit)), |row| note_of(row, client))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

fn note_of(row: &Row<'_>, client: &ClientId) -> rusqlite::Result<Note> {
    let address = match row.get::<_, Option<i64>>(7)? {
        Some(_) => Some(address_of(row, 7, conversation_of(row, 0)?)?),
        None => None,
    };
    // Only groups end before their time.
    let kind = address.as_ref().map_or(Kind::Group, |address| address.kind);
    Ok(Note { number: uint(row.get(6)?), at: time_of(row, 3)?, address, what: what_of(row, client, kind)? })
}

fn what_of(row: &Row<'_>, client: &ClientId, kind: Kind) -> rusqlite::Result<NoteKind> {
    let data = said_in(row, 5)?;
    let wrong = |what: &str| unreadable(5, format!("no {what}"));
    let device = || -> rusqlite::Result<Option<DeviceId>> {
        let Some(device) = data.get("device") else { return Ok(None) };
        let device = device.as_str().and_then(|device| DeviceId::parse(device).ok());
        device.map(Some).ok_or_else(|| wrong("device"))
    };
    let flag = |name: &str| data.get(name).and_then(Value::as_bool).ok_or_else(|| wrong(name));
    Ok(match row.get(4)? {
        NOTE_JOINED => NoteKind::Joined(own_event(row, client, kind)?),
        NOTE_LEFT => NoteKind::Left(own_event(row, client, kind)?),
        NOTE_READ => NoteKind::Receipt(receipt(row, 0, true, &data)?),
        NOTE_DELIVERED => NoteKind::Receipt(receipt(row, 0, false, &data)?),
        NOTE_READ_HERE => NoteKind::ReadHere { conversation: conversation_of(row, 0)?, device: device()? },
        NOTE_CONVERSATION_DELETED => NoteKind::ConversationDeleted {
            conversation: conversation_of(row, 0)?,
            by: client_of(row, 2)?,
            device: device()?,
            with_messages: flag("with_messages")?,
        },
        NOTE_MESSAGES_REMOVED => NoteKind::MessagesRemoved {
            conversation: match row.get::<_, i64>(0)? {
                NO_CONVERSATION => None,
                _ => Some(conversation_of(row, 0)?),
            },
            device: device()?,
            removal: removal_of(&data).ok_or_else(|| wrong("removal"))?,
        },
        NOTE_LISTED => NoteKind::Listed {
            conversation: conversation_of(row, 0)?,
            device: device()?,
            change: list_change_of(&data).ok_or_else(|| wrong("list change"))?,
        },
        NOTE_ENDED => NoteKind::Ended {
            conversation: conversation_of(row, 0)?,
            name: data.get("name").and_then(Value::as_str).unwrap_or_default().into(),
            by: client_of(row, 2)?,
        },
        NOTE_ROLE => NoteKind::Role {
            conversation: conversation_of(row, 0)?,
            by: client_of(row, 2)?,
            change: role_change_of(&data).ok_or_else(|| wrong("role change"))?,
        },
        NOTE_CONTACT => NoteKind::Contact {
            peer: client_of(row, 2)?,
            notice: notice_of(&data).ok_or_else(|| wrong("notice"))?,
        },
        other => return Err(unreadable(4, format!("note {other}"))),
    })
}

/// That the client itself came or went.
fn own_event(row: &Row<'_>, client: &ClientId, kind: Kind) -> rusqlite::Result<MemberEvent> {
    let ttl_seconds = match (kind, maybe_time_of(row, 10)?) {
        (Kind::Temporary { until }, Some(created_at)) => Some(until.ms_since(created_at) / 1_000),
        (Kind::Direct | Kind::Group | Kind::Room | Kind::Temporary { .. }, _) => None,
    };
    Ok(MemberEvent {
        conversation: conversation_of(row, 0)?,
        kind,
        ttl_seconds,
        by: client_of(row, 2)?,
        members: [client.clone()].into(),
        at: time_of(row, 3)?,
    })
}

/// What was removed: `Some(None)` is everything.
fn removal_of(data: &Map<String, Value>) -> Option<Option<Removal>> {
    if let Some(until) = data.get("until") {
        return Some(Some(Removal::Until(Timestamp(until.as_i64()?))));
    }
    let Some(ids) = data.get("ids") else { return Some(None) };
    let ids = ids.as_array()?.iter().map(|id| MessageId::from_u64(id.as_u64()?)).collect::<Option<_>>()?;
    Some(Some(Removal::Messages(ids)))
}

fn role_change_of(data: &Map<String, Value>) -> Option<RoleChange> {
    let client = |name: &str| ClientId::parse(data.get(name)?.as_str()?).ok();
    client("owner")
        .map(RoleChange::Owner)
        .or_else(|| client("admin").map(RoleChange::Admin))
        .or_else(|| client("no_admin").map(RoleChange::NoAdmin))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::notes::{messages_removed_data, role_data};
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(data) => data,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn removals_survive_storage() {
        let ids = [1, u64::MAX >> 1].map(|id| MessageId::from_u64(id).unwrap()).to_vec();
        for removal in [None, Some(Removal::Until(Timestamp(7))), Some(Removal::Messages(ids))] {
            let data = object(messages_removed_data(None, removal.as_ref()));
            assert_eq!(removal_of(&data), Some(removal));
        }
    }

    #[test]
    fn role_changes_survive_storage() {
        let tom = || ClientId::parse("tom").unwrap();
        for change in [RoleChange::Owner(tom()), RoleChange::Admin(tom()), RoleChange::NoAdmin(tom())] {
            assert_eq!(role_change_of(&object(role_data(&change))), Some(change));
        }
    }
}
