//! Messages, marks and unread numbers.
//!
//! Unread is never counted by scanning messages. A head keeps how many messages a conversation has, a
//! member row how many of them are the member's own, and both as they were when the member last read:
//! unread = total − total@mark − (own − own@mark) − recalled messages of others after the mark.

use async_trait::async_trait;
use posthouse_core::error::{Error, Result};
use posthouse_core::event::Patch;
use posthouse_core::id::{AppId, ClientId, ConversationId, Seq};
use posthouse_core::message::{Bound, Direction, HistoryQuery, Mentions, Message, PatchMessage};
use posthouse_core::port::store::{AfterCommit, Appended, NewMessage, PAGE_BYTES_MAX, Patched, Timeline};
use posthouse_core::receipt::{
    Delivered, DeliveredMarked, MarkDelivered, MarkRead, MemberMarks, ReadMarked, Receipt, Unread,
};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::SqliteStore;
use super::conversations::{INBOX_READ, is_pair};
use super::rows::{
    KIND_RECALLED, MESSAGE_COLUMNS, Place, Work, body_kind_columns, client_of, clients_text,
    conversation_key, conversation_of, count, int, is_member, kind_of, maybe_time_of, members,
    message_columns, message_id_of, message_key, message_of, place, time_of, uint,
};
use super::writer::{Outcome, Tx};

/// The kinds of `change` rows.
const CHANGE_EDITED: i64 = 1;
const CHANGE_RECALLED: i64 = 2;
pub(super) const CHANGE_JOINED: i64 = 3;
pub(super) const CHANGE_LEFT: i64 = 4;
pub(super) const CHANGE_UPDATED: i64 = 5;

/// Messages that one mark stamps, the newest first; a client that has more waiting has been away so
/// long that their senders no longer wait, and the one writer must not stand still for it.
const RECEIPTS_PER_MARK_MAX: usize = 10_000;

/// Stands for everyone in `mention` rows; no client id is empty.
const EVERYONE: &str = "";

#[async_trait]
impl Timeline for SqliteStore {
    async fn append_message(
        &self,
        app: &AppId,
        new: NewMessage,
        after: AfterCommit<Appended>,
    ) -> Result<Appended> {
        let app = self.app_key(app).await?;
        self.write_to(new.conversation, after, move |tx| append(tx, app, new)).await
    }

    async fn patch_message(
        &self,
        app: &AppId,
        by: &ClientId,
        patch: PatchMessage,
        after: AfterCommit<Patched>,
    ) -> Result<Patched> {
        let app = self.app_key(app).await?;
        let by = by.clone();
        self.write_to(patch.conversation, after, move |tx| apply_patch(tx, app, &by, patch)).await
    }

    async fn read_history(
        &self,
        app: &AppId,
        reader: &ClientId,
        query: HistoryQuery,
    ) -> Result<Vec<Message>> {
        let app = self.app_key(app).await?;
        let reader = reader.clone();
        self.read_from(query.conversation, move |db, now| {
            let place = place(db, app, query.conversation, now)?;
            if place.kind.stores_members() {
                place.kind.ensure_member(is_member(db, place.id, &reader)?)?;
            }
            history(db, &query)
        })
        .await
    }

    async fn mark_read(
        &self,
        app: &AppId,
        reader: &ClientId,
        mark: MarkRead,
        after: AfterCommit<ReadMarked>,
    ) -> Result<ReadMarked> {
        let app = self.app_key(app).await?;
        let reader = reader.clone();
        self.write_to(mark.conversation, after, move |tx| read(tx, app, &reader, mark)).await
    }

    async fn mark_delivered(
        &self,
        app: &AppId,
        receiver: &ClientId,
        mark: MarkDelivered,
        after: AfterCommit<DeliveredMarked>,
    ) -> Result<DeliveredMarked> {
        let app = self.app_key(app).await?;
        let receiver = receiver.clone();
        self.write_to(mark.conversation, after, move |tx| delivered(tx, app, &receiver, &mark)).await
    }

    async fn member_marks(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
    ) -> Result<Vec<MemberMarks>> {
        let app = self.app_key(app).await?;
        let reader = reader.clone();
        self.read_from(conversation, move |db, now| {
            let place = place(db, app, conversation, now)?;
            if place.kind.is_room() {
                return Err(Error::NotInRooms.into());
            }
            place.kind.ensure_member(is_member(db, conversation, &reader)?)?;
            let marks = db
                .prepare_cached(
                    "SELECT client, delivered_at, read_at FROM member WHERE conversation = ?1 ORDER BY joined",
                )?
                .query_map([conversation_key(conversation)], |row| {
                    Ok(MemberMarks {
                        client: client_of(row, 0)?,
                        delivered_at: maybe_time_of(row, 1)?,
                        read_at: maybe_time_of(row, 2)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(marks)
        })
        .await
    }

    async fn list_unread(
        &self,
        app: &AppId,
        reader: &ClientId,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Unread>> {
        let app = self.app_key(app).await?;
        let client = reader.clone();
        self.read(move |reader| {
            let now = reader.now();
            let snapshots = reader.published()?;
            let mut found = Vec::new();
            for db in &snapshots {
                unread_in(db, app, &client, since, limit, now, &mut found)?;
            }
            found.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
            found.truncate(limit);
            Ok(found.into_iter().map(|(_, unread)| unread).collect())
        })
        .await
    }

    async fn list_patches(
        &self,
        app: &AppId,
        reader: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Patch>> {
        let app = self.app_key(app).await?;
        let client = reader.clone();
        self.read(move |reader| {
            let now = reader.now();
            let snapshots = reader.snapshots()?;
            let mut found = Vec::new();
            for db in &snapshots {
                patches_in(db, app, &client, since, limit, now, &mut found)?;
            }
            found.sort_by_key(|patch| (patch.at, patch.message));
            found.truncate(limit);
            Ok(found)
        })
        .await
    }
}

/// An entry of the timeline that is no message.
pub(super) struct Entry<'a> {
    pub(super) kind: i64,
    pub(super) at: Timestamp,
    pub(super) by: &'a ClientId,
    pub(super) message: Option<i64>,
    pub(super) data: Option<String>,
}

/// Puts an entry at the end of the timeline; returns its place.
pub(super) fn add_entry(db: &Connection, place: &Place, entry: &Entry<'_>) -> rusqlite::Result<u64> {
    let seq = place.last_seq + 1;
    insert_change(db, place.id, seq, entry)?;
    let moved = if entry.kind >= CHANGE_JOINED {
        "UPDATE head SET last_seq = ?2, changed_at = max(changed_at, ?3) WHERE conversation = ?1"
    } else {
        "UPDATE head SET last_seq = ?2, patched_at = ?3 WHERE conversation = ?1"
    };
    db.prepare_cached(moved)?.execute((conversation_key(place.id), int(seq), entry.at.0))?;
    Ok(seq)
}

/// Notes how a conversation began, at the place before all others.
pub(super) fn add_beginning(db: &Connection, id: ConversationId, entry: &Entry<'_>) -> rusqlite::Result<()> {
    insert_change(db, id, 0, entry)?;
    db.prepare_cached("UPDATE head SET changed_at = ?2 WHERE conversation = ?1")?
        .execute((conversation_key(id), entry.at.0))?;
    Ok(())
}

fn insert_change(db: &Connection, id: ConversationId, seq: u64, entry: &Entry<'_>) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO change (conversation, seq, kind, at, by, message, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        conversation_key(id),
        int(seq),
        entry.kind,
        entry.at.0,
        entry.by.as_str(),
        entry.message,
        entry.data.as_deref(),
    ))?;
    Ok(())
}

fn append(tx: &mut Tx<'_>, app: i64, new: NewMessage) -> Work<Outcome<Appended>> {
    let id = new.conversation;
    let place = place(tx.db, app, id, tx.now)?;
    // A retry is answered as its first try was, even if the sender has left in between.
    if let Some(token) = &new.token {
        let earlier = tx
            .db
            .prepare_cached(concat!(
                "SELECT ",
                message_columns!(),
                " FROM message m WHERE m.conversation = ?1 AND m.sender = ?2 AND m.token = ?3"
            ))?
            .query_row((conversation_key(id), new.sender.as_str(), token.as_str()), message_of)
            .optional()?;
        if let Some(message) = earlier {
            let members = members(tx.db, id)?;
            return Ok(Outcome::Unchanged(Appended { message, kind: place.kind, members, duplicate: true }));
        }
    }
    let members = members(tx.db, id)?;
    place.kind.may_post(members.contains(&new.sender))?;

    let timestamp = place.newest.map_or(tx.now, |newest| newest.timestamp.max(tx.now));
    let message = Message {
        id: tx.next_id(),
        conversation: id,
        seq: Seq(place.last_seq + 1),
        timestamp,
        sender: new.sender,
        body: new.body,
        mentions: new.mentions,
        receipt: new.receipt,
        patched_at: None,
        delivered_at: None,
        read_at: None,
    };
    insert_message(tx.db, &message, place.total + 1, new.token.as_ref().map(|token| token.as_str()))?;
    tx.db
        .prepare_cached(
            "UPDATE head SET last_seq = ?2, total = ?3, last_message = ?4, last_message_at = ?5, \
             last_message_seq = ?2, unread_at = ?6 WHERE conversation = ?1",
        )?
        .execute((
            conversation_key(id),
            int(message.seq.0),
            int(place.total + 1),
            message_key(message.id),
            timestamp.0,
            place.unread_at.max(tx.cursor_time()).0,
        ))?;
    if place.kind.counts_unread() {
        tx.db
            .prepare_cached("UPDATE member SET sent = sent + 1 WHERE conversation = ?1 AND client = ?2")?
            .execute((conversation_key(id), message.sender.as_str()))?;
        add_mentions(tx.db, &message, &message.mentions, &members)?;
    }
    Ok(Outcome::Written(Appended { message, kind: place.kind, members, duplicate: false }))
}

fn insert_message(
    db: &Connection,
    message: &Message,
    ordinal: u64,
    token: Option<&str>,
) -> rusqlite::Result<()> {
    let (kind, custom) = body_kind_columns(message.body.kind);
    db.prepare_cached(
        "INSERT INTO message (id, conversation, seq, timestamp, ordinal, sender, kind, custom, receipt, mention_all, \
         mentions, token, summary, schema, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(rusqlite::params![
        message_key(message.id),
        conversation_key(message.conversation),
        int(message.seq.0),
        message.timestamp.0,
        int(ordinal),
        message.sender.as_str(),
        kind,
        custom,
        message.receipt,
        message.mentions.all,
        mentions_text(&message.mentions),
        token,
        message.body.summary.as_deref(),
        message.body.payload.schema.0,
        &message.body.payload.bytes[..],
    ])?;
    Ok(())
}

fn mentions_text(mentions: &Mentions) -> Option<String> {
    (!mentions.clients.is_empty()).then(|| clients_text(&mentions.clients))
}

/// Notes whom a message calls. Only members: others have nothing unread.
fn add_mentions(
    db: &Connection,
    message: &Message,
    mentions: &Mentions,
    members: &[ClientId],
) -> rusqlite::Result<()> {
    if mentions.is_empty() {
        return Ok(());
    }
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO mention (conversation, client, seq, sender) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let (key, seq) = (conversation_key(message.conversation), int(message.seq.0));
    if mentions.all {
        insert.execute((key, EVERYONE, seq, message.sender.as_str()))?;
    }
    for client in mentions.clients.iter().filter(|client| members.contains(client)) {
        insert.execute((key, client.as_str(), seq, message.sender.as_str()))?;
    }
    Ok(())
}

fn remove_mentions(db: &Connection, message: &Message) -> rusqlite::Result<()> {
    if message.mentions.is_empty() {
        return Ok(());
    }
    let mut delete =
        db.prepare_cached("DELETE FROM mention WHERE conversation = ?1 AND client = ?2 AND seq = ?3")?;
    let (key, seq) = (conversation_key(message.conversation), int(message.seq.0));
    delete.execute((key, EVERYONE, seq))?;
    for client in &message.mentions.clients {
        delete.execute((key, client.as_str(), seq))?;
    }
    Ok(())
}

fn apply_patch(tx: &mut Tx<'_>, app: i64, by: &ClientId, patch: PatchMessage) -> Work<Outcome<Patched>> {
    let id = patch.conversation;
    let place = place(tx.db, app, id, tx.now)?;
    let members = members(tx.db, id)?;
    if place.kind.stores_members() {
        place.kind.ensure_member(members.contains(by))?;
    }
    let found = tx
        .db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = ?1 AND m.conversation = ?2"
        ))?
        .query_row((message_key(patch.message), conversation_key(id)), message_of)
        .optional()?;
    let message = found
        .filter(|message| patch.timestamp.is_none_or(|believed| believed == message.timestamp))
        .ok_or(Error::MessageNotFound)?;
    if message.sender != *by {
        return Err(Error::NotSender.into());
    }
    if message.is_recalled() {
        return Err(Error::AlreadyRecalled.into());
    }

    let at = tx.patch_time(app, place.patched_at);
    let recall = patch.is_recall();
    let kind = if recall { CHANGE_RECALLED } else { CHANGE_EDITED };
    let entry = Entry { kind, at, by, message: Some(message_key(message.id)), data: None };
    let seq = add_entry(tx.db, &place, &entry)?;
    let (body_kind, custom) = body_kind_columns(patch.body.kind);
    tx.db
        .prepare_cached(
            "UPDATE message SET kind = ?2, custom = ?3, schema = ?4, payload = ?5, summary = ?6, mention_all = ?7, \
             mentions = ?8, patched_at = ?9, patched_seq = ?10 WHERE id = ?1",
        )?
        .execute((
            message_key(message.id),
            body_kind,
            custom,
            patch.body.payload.schema.0,
            &patch.body.payload.bytes[..],
            patch.body.summary.as_deref(),
            patch.mentions.all,
            mentions_text(&patch.mentions),
            at.0,
            int(seq),
        ))?;
    if place.kind.counts_unread() {
        let calls_change = message.mentions != patch.mentions;
        if recall || calls_change {
            remove_mentions(tx.db, &message)?;
            if !recall {
                add_mentions(tx.db, &message, &patch.mentions, &members)?;
            }
            tx.db
                .prepare_cached("UPDATE head SET unread_at = max(unread_at, ?2) WHERE conversation = ?1")?
                .execute((conversation_key(id), at.0))?;
        }
    }
    let patch = Patch {
        conversation: id,
        kind: place.kind,
        message: message.id,
        timestamp: message.timestamp,
        sender: message.sender,
        body: patch.body,
        mentions: patch.mentions,
        at,
        seq: Seq(seq),
    };
    Ok(Outcome::Written(Patched { patch, members }))
}

/// Reads the stretch between two places, both included, in the order of the direction.
fn history(db: &Connection, query: &HistoryQuery) -> Work<Vec<Message>> {
    let (low, high) = match query.direction {
        Direction::Backward => (query.end, query.start),
        Direction::Forward => (query.start, query.end),
    };
    let low = low.map_or((i64::MIN, 0), lowest);
    let high = high.map_or((i64::MAX, i64::MAX), highest);
    let sql = match query.direction {
        Direction::Backward => concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m INDEXED BY message_history WHERE m.conversation = ?1 AND (m.timestamp, m.id) >= (?2, ?3) \
             AND (m.timestamp, m.id) <= (?4, ?5) AND (?6 IS NULL OR (m.kind = ?6 AND m.custom = ?7)) \
             ORDER BY m.timestamp DESC, m.id DESC LIMIT ?8"
        ),
        Direction::Forward => concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m INDEXED BY message_history WHERE m.conversation = ?1 AND (m.timestamp, m.id) >= (?2, ?3) \
             AND (m.timestamp, m.id) <= (?4, ?5) AND (?6 IS NULL OR (m.kind = ?6 AND m.custom = ?7)) \
             ORDER BY m.timestamp, m.id LIMIT ?8"
        ),
    };
    let (kind, custom) = match query.kind.map(body_kind_columns) {
        Some((kind, custom)) => (Some(kind), custom),
        None => (None, 0),
    };
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query((
        conversation_key(query.conversation),
        low.0,
        low.1,
        high.0,
        high.1,
        kind,
        custom,
        count(query.limit),
    ))?;
    let mut messages = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let message = message_of(row)?;
        bytes += message.body.payload.bytes.len() + message.mentions.size();
        if bytes > PAGE_BYTES_MAX && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    if query.direction == Direction::Backward {
        messages.reverse();
    }
    Ok(messages)
}

/// The first (time, id) of a stretch that begins at `bound`.
fn lowest(bound: Bound) -> (i64, i64) {
    match (bound.id.map(message_key), bound.included) {
        (Some(id), true) => (bound.timestamp.0, id),
        (Some(id), false) => (bound.timestamp.0, id.saturating_add(1)),
        (None, true) => (bound.timestamp.0, 0),
        (None, false) => (bound.timestamp.0.saturating_add(1), 0),
    }
}

/// The last (time, id) of a stretch that ends at `bound`.
fn highest(bound: Bound) -> (i64, i64) {
    match (bound.id.map(message_key), bound.included) {
        (Some(id), true) => (bound.timestamp.0, id),
        (Some(id), false) => (bound.timestamp.0, id.saturating_sub(1)),
        (None, true) => (bound.timestamp.0, i64::MAX),
        (None, false) => (bound.timestamp.0.saturating_sub(1), i64::MAX),
    }
}

/// A member's counters and marks.
#[derive(Clone, Copy)]
struct Member {
    sent: u64,
    read_seq: u64,
    read_total: u64,
    read_own: u64,
    read_at: Option<Timestamp>,
    delivered_seq: u64,
    delivered_at: Option<Timestamp>,
}

fn member(db: &Connection, id: ConversationId, client: &ClientId) -> Work<Option<Member>> {
    Ok(db
        .prepare_cached(
            "SELECT sent, read_seq, read_total, read_own, read_at, delivered_seq, delivered_at \
             FROM member WHERE conversation = ?1 AND client = ?2",
        )?
        .query_row((conversation_key(id), client.as_str()), |row| {
            Ok(Member {
                sent: uint(row.get(0)?),
                read_seq: uint(row.get(1)?),
                read_total: uint(row.get(2)?),
                read_own: uint(row.get(3)?),
                read_at: maybe_time_of(row, 4)?,
                delivered_seq: uint(row.get(5)?),
                delivered_at: maybe_time_of(row, 6)?,
            })
        })
        .optional()?)
}

/// How far a mark reaches: the newest message it covers.
#[derive(Clone, Copy)]
struct Covered {
    seq: u64,
    /// Messages up to and with it.
    ordinal: u64,
    timestamp: Timestamp,
    newest: bool,
}

/// The newest message at or before (`until`, `id`).
fn covered(db: &Connection, place: &Place, until: Timestamp, id: i64) -> Work<Option<Covered>> {
    Ok(db
        .prepare_cached(
            "SELECT seq, ordinal, timestamp FROM message INDEXED BY message_history \
             WHERE conversation = ?1 AND (timestamp, id) <= (?2, ?3) ORDER BY timestamp DESC, id DESC LIMIT 1",
        )?
        .query_row((conversation_key(place.id), until.0, id), |row| {
            let seq = uint(row.get(0)?);
            Ok(Covered {
                seq,
                ordinal: uint(row.get(1)?),
                timestamp: time_of(row, 2)?,
                newest: seq == place.newest_seq,
            })
        })
        .optional()?)
}

fn everything(place: &Place) -> Option<Covered> {
    place.newest.map(|newest| Covered {
        seq: place.newest_seq,
        ordinal: place.total,
        timestamp: newest.timestamp,
        newest: true,
    })
}

impl Covered {
    /// The time up to which a mark says it has everything. Who has the newest message has everything
    /// until now.
    fn marked_at(&self, now: Timestamp, before: Option<Timestamp>) -> Timestamp {
        let reached = if self.newest { self.timestamp.max(now) } else { self.timestamp };
        before.map_or(reached, |before| before.max(reached))
    }
}

/// A member's place, or why there is none.
fn marking(tx: &Tx<'_>, app: i64, id: ConversationId, client: &ClientId) -> Work<(Place, Member)> {
    let place = place(tx.db, app, id, tx.now)?;
    if place.kind.is_room() {
        return Err(Error::NotInRooms.into());
    }
    match member(tx.db, id, client)? {
        Some(member) => Ok((place, member)),
        None => {
            place.kind.ensure_member(false)?;
            Err(Error::NotMember.into())
        }
    }
}

fn read(tx: &mut Tx<'_>, app: i64, reader: &ClientId, mark: MarkRead) -> Work<Outcome<ReadMarked>> {
    let id = mark.conversation;
    let (place, mut member) = marking(tx, app, id, reader)?;
    let covered = match mark.until {
        None => everything(&place),
        Some(until) => covered(tx.db, &place, until, mark.id.map_or(i64::MAX, message_key))?,
    };
    let covered = match covered {
        Some(covered) if covered.seq > member.read_seq => covered,
        Some(_) | None => {
            // Nothing is written, but the reader's devices are told all the same: one of them asked
            // because it believes that something is unread.
            let unread = unread(tx.db, &place, &member, reader)?;
            return Ok(Outcome::Written(ReadMarked { unread, receipts: Vec::new() }));
        }
    };

    let read_own = own_until(tx.db, &place, &member, reader, &covered)?;
    let at = tx.now.max(covered.timestamp);
    let rows = receipts_between(tx.db, id, reader, member.read_seq, covered.seq)?;
    let mut receipts: Vec<(ClientId, Receipt)> = Vec::new();
    for row in rows.iter().filter(|row| row.read_at.is_none()) {
        tx.db.prepare_cached("UPDATE message SET read_at = ?2 WHERE id = ?1")?.execute((row.id, at.0))?;
        // The newest comes first.
        if !receipts.iter().any(|(sender, _)| *sender == row.receipt.1) {
            receipts.push((row.receipt.1.clone(), row.receipt(id, reader, at, true)));
        }
    }
    if !receipts.is_empty() && !is_pair(tx.db, id)? {
        receipts.clear();
    }
    keep_members(tx.db, id, &mut receipts)?;
    for (sender, receipt) in &receipts {
        tx.db
            .prepare_cached(
                "INSERT INTO inbox (app, client, at, kind, conversation, by, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                app,
                sender.as_str(),
                at.0,
                INBOX_READ,
                conversation_key(id),
                reader.as_str(),
                message_key(receipt.message),
            ))?;
    }
    member.read_at = Some(covered.marked_at(tx.now, member.read_at));
    (member.read_seq, member.read_total, member.read_own) = (covered.seq, covered.ordinal, read_own);
    tx.db
        .prepare_cached(
            "UPDATE member SET read_seq = ?3, read_total = ?4, read_own = ?5, read_at = ?6, \
             unread_changed_at = max(unread_changed_at, ?7) WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((
            conversation_key(id),
            reader.as_str(),
            int(member.read_seq),
            int(member.read_total),
            int(member.read_own),
            member.read_at.map(|at| at.0),
            tx.cursor_time().0,
        ))?;
    let unread = unread(tx.db, &place, &member, reader)?;
    Ok(Outcome::Written(ReadMarked { unread, receipts }))
}

/// How many of the reader's own messages lie up to `covered`. Marks nearly always cover everything,
/// which needs no counting; else the shorter side is counted.
fn own_until(
    db: &Connection,
    place: &Place,
    member: &Member,
    reader: &ClientId,
    covered: &Covered,
) -> Work<u64> {
    if covered.newest {
        return Ok(member.sent);
    }
    let own = |after: u64, until: u64| -> rusqlite::Result<u64> {
        db.prepare_cached(
            "SELECT count(*) FROM message WHERE conversation = ?1 AND seq > ?2 AND seq <= ?3 AND sender = ?4",
        )?
        .query_row((conversation_key(place.id), int(after), int(until), reader.as_str()), |row| row.get(0))
        .map(uint)
    };
    let since_mark = covered.ordinal.saturating_sub(member.read_total);
    let to_the_end = place.total.saturating_sub(covered.ordinal);
    Ok(if since_mark <= to_the_end {
        member.read_own + own(member.read_seq, covered.seq)?
    } else {
        member.sent.saturating_sub(own(covered.seq, place.last_seq)?)
    })
}

/// A message that asked for receipts.
struct ReceiptRow {
    id: i64,
    receipt: (posthouse_core::id::MessageId, ClientId),
    read_at: Option<Timestamp>,
}

impl ReceiptRow {
    fn receipt(&self, conversation: ConversationId, by: &ClientId, at: Timestamp, read: bool) -> Receipt {
        Receipt { conversation, message: self.receipt.0, by: by.clone(), at, read }
    }
}

/// Others' messages that asked for receipts, after one place and up to another, newest first.
fn receipts_between(
    db: &Connection,
    id: ConversationId,
    client: &ClientId,
    after: u64,
    until: u64,
) -> Work<Vec<ReceiptRow>> {
    let rows = db
        .prepare_cached(
            "SELECT id, sender, read_at FROM message INDEXED BY message_receipt \
             WHERE receipt = 1 AND conversation = ?1 AND seq > ?2 AND seq <= ?3 AND sender <> ?4 \
             ORDER BY seq DESC LIMIT ?5",
        )?
        .query_map(
            (conversation_key(id), int(after), int(until), client.as_str(), count(RECEIPTS_PER_MARK_MAX)),
            |row| {
                Ok(ReceiptRow {
                    id: row.get(0)?,
                    receipt: (message_id_of(row, 0)?, client_of(row, 1)?),
                    read_at: maybe_time_of(row, 2)?,
                })
            },
        )?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

fn delivered(
    tx: &mut Tx<'_>,
    app: i64,
    receiver: &ClientId,
    mark: &MarkDelivered,
) -> Work<Outcome<DeliveredMarked>> {
    let id = mark.conversation;
    let (place, member) = marking(tx, app, id, receiver)?;
    let covered = match &mark.until {
        Delivered::Time(until) => covered(tx.db, &place, *until, i64::MAX)?,
        Delivered::Message(message) => {
            let timestamp = tx
                .db
                .prepare_cached("SELECT timestamp FROM message WHERE id = ?1 AND conversation = ?2")?
                .query_row((message_key(*message), conversation_key(id)), |row| time_of(row, 0))
                .optional()?;
            match timestamp {
                Some(timestamp) => covered(tx.db, &place, timestamp, message_key(*message))?,
                // Transient messages are acknowledged too, and have no place.
                None => None,
            }
        }
    };
    let covered = match covered {
        Some(covered) if covered.seq > member.delivered_seq => covered,
        Some(_) | None => return Ok(Outcome::Unchanged(Vec::new())),
    };

    let at = tx.now.max(covered.timestamp);
    let mut rows = receipts_between(tx.db, id, receiver, member.delivered_seq, covered.seq)?;
    rows.reverse();
    for row in &rows {
        tx.db
            .prepare_cached("UPDATE message SET delivered_at = coalesce(delivered_at, ?2) WHERE id = ?1")?
            .execute((row.id, at.0))?;
    }
    tx.db
        .prepare_cached(
            "UPDATE member SET delivered_seq = ?3, delivered_at = ?4 WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((
            conversation_key(id),
            receiver.as_str(),
            int(covered.seq),
            covered.marked_at(tx.now, member.delivered_at).0,
        ))?;
    if rows.is_empty() || !is_pair(tx.db, id)? {
        return Ok(Outcome::Written(Vec::new()));
    }
    let receipts = rows.iter().map(|row| (row.receipt.1.clone(), row.receipt(id, receiver, at, false)));
    let mut receipts = receipts.collect();
    keep_members(tx.db, id, &mut receipts)?;
    Ok(Outcome::Written(receipts))
}

/// A sender who has left is told nothing more of the conversation.
fn keep_members(db: &Connection, id: ConversationId, receipts: &mut Vec<(ClientId, Receipt)>) -> Work<()> {
    // In conversations of two there is one other sender, so one answer serves nearly all.
    let mut known: Vec<(ClientId, bool)> = Vec::new();
    for (sender, _) in receipts.iter() {
        if !known.iter().any(|(client, _)| client == sender) {
            known.push((sender.clone(), is_member(db, id, sender)?));
        }
    }
    receipts.retain(|(sender, _)| known.iter().any(|(client, member)| client == sender && *member));
    Ok(())
}

/// What one member has not read, from counters.
fn unread(db: &Connection, place: &Place, member: &Member, client: &ClientId) -> Work<Unread> {
    let key = conversation_key(place.id);
    let mut number = unread_upper(place.total, member);
    if number > 0 {
        let recalled: i64 = db
            .prepare_cached(
                "SELECT count(*) FROM message INDEXED BY message_recalled \
                 WHERE kind = 7 AND conversation = ?1 AND seq > ?2 AND sender <> ?3",
            )?
            .query_row((key, int(member.read_seq), client.as_str()), |row| row.get(0))?;
        number = number.saturating_sub(uint(recalled));
    }
    let mentioned = number > 0
        && db
            .prepare_cached(
                "SELECT 1 FROM mention WHERE conversation = ?1 AND client IN (?2, '') AND seq > ?3 AND sender <> ?2 LIMIT 1",
            )?
            .exists((key, client.as_str(), int(member.read_seq)))?;
    let last_message = if number > 0 {
        db.prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m INDEXED BY message_seq WHERE m.conversation = ?1 AND m.seq > ?2 AND m.sender <> ?3 \
             AND m.kind <> ?4 ORDER BY m.seq DESC LIMIT 1"
        ))?
        .query_row((key, int(member.read_seq), client.as_str(), KIND_RECALLED), message_of)
        .optional()?
    } else {
        match place.newest {
            Some(newest) => db
                .prepare_cached(concat!("SELECT ", message_columns!(), " FROM message m WHERE m.id = ?1"))?
                .query_row([message_key(newest.id)], message_of)
                .optional()?,
            None => None,
        }
    };
    Ok(Unread {
        conversation: place.id,
        kind: place.kind,
        count: number,
        mentioned,
        last_message,
        head: Seq(place.last_seq),
    })
}

/// Others' messages after the mark, recalled ones among them.
fn unread_upper(total: u64, member: &Member) -> u64 {
    let since = total.saturating_sub(member.read_total);
    since.saturating_sub(member.sent.saturating_sub(member.read_own))
}

/// What newest-first lists are sorted by.
type Newest = (Timestamp, i64);

fn unread_in(
    db: &Connection,
    app: i64,
    client: &ClientId,
    since: Option<Timestamp>,
    limit: usize,
    now: Timestamp,
    found: &mut Vec<(Newest, Unread)>,
) -> Work<()> {
    let candidates: Vec<ConversationId> = db
        .prepare_cached(
            "SELECT x.conversation FROM member x CROSS JOIN head h ON h.conversation = x.conversation \
             WHERE x.app = ?1 AND x.client = ?2 AND h.total - x.read_total > x.sent - x.read_own \
             AND (?3 IS NULL OR max(h.unread_at, x.unread_changed_at) > ?3) \
             ORDER BY h.last_message_at DESC, h.last_message DESC",
        )?
        .query_map((app, client.as_str(), since.map(|since| since.0)), |row| conversation_of(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut left = limit;
    for id in candidates {
        if left == 0 {
            break;
        }
        let place = match place(db, app, id, now) {
            Ok(place) => place,
            // Over in the time since the rows were written.
            Err(super::rows::Failure::Refused(_)) => continue,
            Err(error) => return Err(error),
        };
        let Some(member) = member(db, id, client)? else { continue };
        let unread = unread(db, &place, &member, client)?;
        if unread.count > 0 {
            let newest = place
                .newest
                .map_or_else(Newest::default, |newest| (newest.timestamp, message_key(newest.id)));
            found.push((newest, unread));
            left -= 1;
        }
    }
    Ok(())
}

fn patches_in(
    db: &Connection,
    app: i64,
    client: &ClientId,
    since: Timestamp,
    limit: usize,
    now: Timestamp,
    found: &mut Vec<Patch>,
) -> Work<()> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        message_columns!(),
        ", m.patched_seq, c.kind, c.until FROM member x \
         CROSS JOIN head h ON h.conversation = x.conversation \
         CROSS JOIN conversation c ON c.id = x.conversation \
         CROSS JOIN message m INDEXED BY message_patched ON m.conversation = x.conversation AND m.patched_at > ?3 \
         WHERE x.app = ?1 AND x.client = ?2 AND h.patched_at > ?3 AND (c.until IS NULL OR c.until > ?4) \
         ORDER BY m.patched_at LIMIT ?5"
    ))?;
    let rows = statement.query_map((app, client.as_str(), since.0, now.0, count(limit)), |row| {
        let message = message_of(row)?;
        Ok(Patch {
            conversation: message.conversation,
            kind: kind_of(row, MESSAGE_COLUMNS + 1)?,
            message: message.id,
            timestamp: message.timestamp,
            sender: message.sender,
            body: message.body,
            mentions: message.mentions,
            at: message.patched_at.unwrap_or_default(),
            seq: Seq(uint(row.get(MESSAGE_COLUMNS)?)),
        })
    })?;
    for patch in rows {
        found.push(patch?);
    }
    Ok(())
}
