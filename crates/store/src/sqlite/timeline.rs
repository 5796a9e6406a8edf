//! Messages: how they come into a timeline, and what becomes of them there.
//!
//! Reading them is in [`super::history`], marks are in [`super::marks`], deletions in
//! [`super::removal`], and what is unread in [`super::views`].

use async_trait::async_trait;
use posthouse_core::conversation::{Authority, Kind};
use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::event::Patch;
use posthouse_core::id::{AppId, ClientId, ConversationId, DeviceId, MessageId, Seq};
use posthouse_core::idgen::IdGen;
use posthouse_core::listing::{Removal, Stretch};
use posthouse_core::message::{History, HistoryQuery, Mentions, Message, Origin, PatchMessage};
use posthouse_core::port::store::{AfterCommit, Appended, Destination, NewMessage, Patched, Timeline};
use posthouse_core::receipt::{
    Acknowledge, Acknowledged, DeliveredMarked, MarkDelivered, MarkRead, MemberMarks, ReadMarked, Unread,
};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::checksum::{checksum, whole};
use super::conversations::find_or_make_direct;
use super::rows::{
    MESSAGE_COLUMNS, Place, Spot, Work, body_kind_columns, client_of, conversation_key, conversation_of,
    count, int, is_member, kind_of, maybe_time_of, members, mentions_text, message_columns, message_key,
    message_of, origin_column, place, role_of, spot, uint,
};
use super::shards::FileKey;
use super::tail::{self, Late};
use super::views::{member, unread};
use super::writer::{Outcome, Touches, Tx, Write};
use super::{SqliteStore, UNKNOWN_APP, history, marks, removal};

/// The kinds of `change` rows.
pub(super) const CHANGE_EDITED: i64 = 1;
pub(super) const CHANGE_RECALLED: i64 = 2;
pub(super) const CHANGE_JOINED: i64 = 3;
pub(super) const CHANGE_LEFT: i64 = 4;
pub(super) const CHANGE_UPDATED: i64 = 5;

/// How many imported messages one millisecond has ids for.
const IMPORTS_PER_MS: u64 = 1 << 15;

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
        let id = match &new.to {
            Destination::Conversation(id) => *id,
            Destination::Direct { fresh, .. } => *fresh,
        };
        self.ensure_bucket(id)?;
        let single = matches!(new.to, Destination::Conversation(_))
            && new.imported_at.is_none()
            && new.mentions.is_empty();
        let work = move |tx: &mut Tx<'_>| append(tx, app, new);
        self.write_job(|reply| Write {
            single,
            ..Write::new(FileKey::of(id), Touches::Log, after, work, reply)
        })
        .await
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

    async fn read_history(&self, app: &AppId, reader: &ClientId, query: HistoryQuery) -> Result<History> {
        let app = self.app_key(app).await?;
        let reader = reader.clone();
        let lane = if history::may_take_long(&query) { &self.searches } else { &self.readers };
        self.read_from_on(lane, query.conversation, move |db, now| {
            history::read(db, app, &reader, &query, now)
        })
        .await
    }

    async fn message(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Message> {
        let app = self.app_key(app).await?;
        let reader = reader.clone();
        self.read_from(conversation, move |db, now| {
            let place = place(db, app, conversation, now)?;
            history::one(db, &place, &reader, id)
        })
        .await
    }

    async fn read_timeline(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
        after: Seq,
        limit: usize,
    ) -> Result<Stretch> {
        let app = self.app_key(app).await?;
        let now = self.options.clock.now();
        if let Some(stretch) = self.tails.stretch(app, reader, conversation, after, limit, now) {
            return Ok(stretch);
        }
        let reader = reader.clone();
        self.read_from(conversation, move |db, now| {
            let place = place(db, app, conversation, now)?;
            history::stretch(db, &place, &reader, after, limit)
        })
        .await
    }

    async fn acknowledge(
        &self,
        app: &AppId,
        by: &ClientId,
        acknowledge: Acknowledge,
        after: AfterCommit<Acknowledged>,
    ) -> Result<Acknowledged> {
        let app = self.app_key(app).await?;
        let by = by.clone();
        self.write_log(acknowledge.conversation, after, move |tx| {
            marks::acknowledge(tx, app, &by, acknowledge)
        })
        .await
    }

    async fn remove_messages(
        &self,
        app: &AppId,
        client: &ClientId,
        conversation: ConversationId,
        device: Option<&DeviceId>,
        removal: Removal,
        tell: bool,
        after: AfterCommit<()>,
    ) -> Result<()> {
        let app = self.app_key(app).await?;
        let (client, device) = (client.clone(), device.cloned());
        self.write_to(conversation, after, move |tx| {
            let place = place(tx.db, app, conversation, tx.now)?;
            removal::remove(tx, app, &place, &client, device.as_ref(), removal, tell)
        })
        .await
    }

    async fn remove_everything(
        &self,
        app: &AppId,
        client: &ClientId,
        device: Option<&DeviceId>,
        after: AfterCommit<()>,
    ) -> Result<()> {
        let app = self.app_key(app).await?;
        let (client, device) = (client.clone(), device.cloned());
        let touches = Touches::Client { app, client: client.clone() };
        self.write_touching(FileKey::Main, touches, after, move |tx| {
            removal::remove_everything(tx, app, &client, device.as_ref())
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
        self.write_to(mark.conversation, after, move |tx| marks::read(tx, app, &reader, &mark)).await
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
        self.write_log(mark.conversation, after, move |tx| marks::delivered(tx, app, &receiver, &mark)).await
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
        self.read_late(&self.readers, Late::OfClient(app, client.clone()), move |reader| {
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
        "UPDATE head SET last_seq = ?2, changed_at = max(changed_at, ?3), touched_at = max(touched_at, ?3) \
         WHERE conversation = ?1"
    } else {
        "UPDATE head SET last_seq = ?2, patched_at = ?3, touched_at = max(touched_at, ?3) WHERE conversation = ?1"
    };
    db.prepare_cached(moved)?.execute((conversation_key(place.id), int(seq), entry.at.0))?;
    Ok(seq)
}

/// Notes how a conversation began, at the place before all others.
pub(super) fn add_beginning(db: &Connection, id: ConversationId, entry: &Entry<'_>) -> rusqlite::Result<()> {
    insert_change(db, id, 0, entry)?;
    db.prepare_cached("UPDATE head SET changed_at = ?2, touched_at = ?2 WHERE conversation = ?1")?
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
    let (id, created) = match &new.to {
        Destination::Conversation(id) => (*id, None),
        Destination::Direct { .. } if app == UNKNOWN_APP => {
            tracing::error!("a message was to be said in an app that doesn't exist");
            return Err(Error::from(StoreFault::Failed).into());
        }
        Destination::Direct { with, fresh } => find_or_make_direct(tx, app, &new.sender, with, *fresh)?,
    };
    let hot = tx.hot(app, id)?;
    let (place, members) = (hot.place, hot.members);
    // A retry is answered as its first try was, even if the sender has left in between.
    if let Some(earlier) = said_before(tx, id, &new)? {
        return Ok(Outcome::Unchanged(Appended {
            message: earlier,
            kind: place.kind,
            members,
            created: None,
            duplicate: true,
        }));
    }
    if new.origin == Origin::Client {
        place.kind.may_post(members.contains(&new.sender))?;
        ensure_heard(tx.db, app, &place, &new.sender, &members)?;
    }
    let message = match new.imported_at {
        Some(at) => import(tx, &place, new, at)?,
        None => say(tx, &place, new, &members)?,
    };
    Ok(Outcome::Written(Appended { message, kind: place.kind, members, created, duplicate: false }))
}

/// The message that the sender has said under this token.
fn said_before(tx: &Tx<'_>, id: ConversationId, new: &NewMessage) -> Work<Option<Message>> {
    let Some(token) = &new.token else { return Ok(None) };
    let known = match tx.tails.called(id, &new.sender, token) {
        Some(message) => Some(message_key(message)),
        None => tx
            .db
            .prepare_cached("SELECT id FROM token WHERE conversation = ?1 AND sender = ?2 AND token = ?3")?
            .query_row((conversation_key(id), new.sender.as_str(), token.as_str()), |row| row.get(0))
            .optional()?,
    };
    let Some(known) = known else { return Ok(None) };
    let message = tx
        .db
        .prepare_cached(concat!("SELECT ", message_columns!(), " FROM message m WHERE m.id = ?1"))?
        .query_row([known], message_of)?;
    Ok(Some(message))
}

/// `Blocked` if the other one of a direct conversation doesn't want to hear the sender.
fn ensure_heard(
    db: &Connection,
    app: i64,
    place: &Place,
    sender: &ClientId,
    members: &[ClientId],
) -> Work<()> {
    if place.kind != Kind::Direct {
        return Ok(());
    }
    let Some(other) = members.iter().find(|member| *member != sender) else { return Ok(()) };
    let blocked = db
        .prepare_cached("SELECT 1 FROM block WHERE app = ?1 AND owner = ?2 AND peer = ?3")?
        .exists((app, other.as_str(), sender.as_str()))?;
    if blocked { Err(Error::Blocked.into()) } else { Ok(()) }
}

/// Nothing that was ever said in the conversation lies after this.
fn newest_ever(place: &Place) -> Spot {
    let (newest_at, newest) = place.newest.map_or((0, 0), spot);
    let (cleared_at, cleared) = place.cleared;
    (place.said_at.0.max(newest_at).max(cleared_at), newest.max(cleared))
}

/// Everything in the conversation lies before this, and everything said from now on after it.
pub(super) fn end_of_history(tx: &Tx<'_>, place: &Place) -> Spot {
    let (at, id) = newest_ever(place);
    (at, message_key(tx.next_id()).max(id))
}

/// Puts a message at the end of the timeline.
fn say(tx: &mut Tx<'_>, place: &Place, new: NewMessage, members: &[ClientId]) -> Work<Message> {
    let id = tx.next_id();
    let before = newest_ever(place);
    let mut timestamp = tx.now.max(Timestamp(before.0));
    // Imports of this very millisecond have higher ids.
    if (timestamp.0, message_key(id)) <= before {
        timestamp = timestamp.plus_ms(1);
    }
    let (shown, counted) = (new.shown, new.shown && new.counted);
    let token = new.token.clone();
    let message = stamped(new, place.id, id, timestamp, Seq(place.last_seq + 1));
    let total = place.total + u64::from(counted);
    insert_message(
        tx.db,
        &message,
        &Row { ordinal: total, shown, counted, token: token.as_ref().map(|token| token.as_str()) },
    )?;
    if counted && place.kind.counts_unread() {
        add_mentions(tx.db, &message, &message.mentions, members)?;
    }
    tx.said(tail::Entry { message: message.clone(), ordinal: total, shown, counted, token });
    Ok(message)
}

/// Puts a message at its place in history, outside the timeline.
fn import(tx: &mut Tx<'_>, place: &Place, new: NewMessage, at: Timestamp) -> Work<Message> {
    if at > tx.now {
        return Err(Error::NotInThePast.into());
    }
    let shown = new.shown;
    let token = new.token.clone();
    let message = stamped(new, place.id, free_import_id(tx.db, at)?, at, Seq(0));
    insert_message(
        tx.db,
        &message,
        &Row { ordinal: 0, shown, counted: false, token: token.as_ref().map(|token| token.as_str()) },
    )?;
    let there = spot(message.position());
    if shown {
        tx.db.prepare_cached("INSERT INTO history (conversation, at, id) VALUES (?1, ?2, ?3)")?.execute((
            conversation_key(place.id),
            there.0,
            there.1,
        ))?;
    }
    if let Some(token) = &token {
        tail::add_token(tx.db, place.id, &message.sender, token, message.id)?;
    }
    tx.cool(place.id);
    if shown && there > place.cleared && place.newest.is_none_or(|newest| there > spot(newest)) {
        tx.db
            .prepare_cached(
                "UPDATE head SET last_message = ?2, last_message_at = ?3 WHERE conversation = ?1",
            )?
            .execute((conversation_key(place.id), there.1, there.0))?;
    }
    Ok(message)
}

/// An id for a message said elsewhere at `at`. Messages of one millisecond keep the order in which they
/// are imported, as long as there is room behind the last one.
fn free_import_id(db: &Connection, at: Timestamp) -> Work<MessageId> {
    let first = IdGen::imported(at, 0);
    let last = IdGen::imported(at, IMPORTS_PER_MS - 1);
    let newest: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM message WHERE id BETWEEN ?1 AND ?2")?
        .query_row((message_key(first), message_key(last)), |row| row.get(0))?;
    let newest = newest.and_then(|newest| MessageId::from_u64(uint(newest)));
    let mut id = newest.map_or(first, IdGen::when_taken);
    let mut is_taken = db.prepare_cached("SELECT 1 FROM message WHERE id = ?1")?;
    for _ in 0..IMPORTS_PER_MS {
        if !is_taken.exists([message_key(id)])? {
            return Ok(id);
        }
        id = IdGen::when_taken(id);
    }
    tracing::error!(at = at.0, "no more messages can be imported into this millisecond");
    Err(Error::from(StoreFault::Failed).into())
}

fn stamped(
    new: NewMessage,
    conversation: ConversationId,
    id: MessageId,
    timestamp: Timestamp,
    seq: Seq,
) -> Message {
    Message {
        id,
        conversation,
        seq,
        timestamp,
        sender: new.sender,
        body: new.body,
        mentions: new.mentions,
        receipt: new.receipt,
        patched_at: None,
        delivered_at: None,
        read_at: None,
        origin: new.origin,
        edits: 0,
        patched_by: None,
    }
}

/// What the table keeps of a message that the message itself doesn't say.
struct Row<'a> {
    ordinal: u64,
    shown: bool,
    counted: bool,
    token: Option<&'a str>,
}

fn insert_message(db: &Connection, message: &Message, row: &Row<'_>) -> rusqlite::Result<()> {
    let (kind, custom) = body_kind_columns(message.body.kind);
    db.prepare_cached(
        "INSERT INTO message (id, conversation, seq, timestamp, ordinal, sender, kind, custom, origin, shown, counted, \
         receipt, mention_all, mentions, token, summary, schema, payload, crc) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
    )?
    .execute(rusqlite::params![
        message_key(message.id),
        conversation_key(message.conversation),
        int(message.seq.0),
        message.timestamp.0,
        int(row.ordinal),
        message.sender.as_str(),
        kind,
        custom,
        origin_column(message.origin),
        row.shown,
        row.counted,
        message.receipt,
        message.mentions.all,
        mentions_text(&message.mentions),
        row.token,
        message.body.summary.as_deref(),
        message.body.payload.schema.0,
        &message.body.payload.bytes[..],
        checksum(message),
    ])?;
    Ok(())
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

/// A message that may be changed.
struct Changeable {
    message: Message,
    counted: bool,
}

/// The message that a patch names, if it is there for everybody.
fn find_changeable(db: &Connection, place: &Place, patch: &PatchMessage) -> Work<Changeable> {
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            ", m.counted FROM message m WHERE m.id = ?1 AND m.conversation = ?2 AND m.shown = 1 \
             AND (m.timestamp, m.id) > (?3, ?4)"
        ))?
        .query_row(
            (message_key(patch.message), conversation_key(place.id), place.cleared.0, place.cleared.1),
            |row| Ok(Changeable { message: message_of(row)?, counted: row.get(MESSAGE_COLUMNS)? }),
        )
        .optional()?;
    let found =
        found.filter(|found| patch.timestamp.is_none_or(|believed| believed == found.message.timestamp));
    Ok(found.ok_or(Error::MessageNotFound)?)
}

/// `Err` unless `by` may change the message like this.
fn ensure_may_patch(
    db: &Connection,
    place: &Place,
    by: &ClientId,
    message: &Message,
    patch: &PatchMessage,
) -> Work<()> {
    if message.sender != *by {
        let role = match patch.authority {
            Authority::Member => return Err(Error::NotSender.into()),
            Authority::Moderator | Authority::Owner => role_of(db, place.id, by)?,
            Authority::Server => None,
        };
        patch.authority.ensure(place.kind, role).map_err(|_| Error::NotSender)?;
    }
    if message.is_recalled() {
        return Err(Error::AlreadyRecalled.into());
    }
    if patch.not_before.is_some_and(|not_before| message.timestamp < not_before) {
        return Err(Error::RecallTooLate.into());
    }
    match patch.edits_max {
        Some(max) if !patch.is_recall() && message.edits >= max => Err(Error::TooManyEdits { max }.into()),
        Some(_) | None => Ok(()),
    }
}

fn apply_patch(tx: &mut Tx<'_>, app: i64, by: &ClientId, patch: PatchMessage) -> Work<Outcome<Patched>> {
    let id = patch.conversation;
    let place = place(tx.db, app, id, tx.now)?;
    let members = members(tx.db, id)?;
    if place.kind.stores_members() && patch.authority != Authority::Server {
        place.kind.ensure_member(members.contains(by))?;
    }
    let Changeable { message, counted } = find_changeable(tx.db, &place, &patch)?;
    ensure_may_patch(tx.db, &place, by, &message, &patch)?;

    let at = tx.patch_time(app, place.patched_at);
    let recall = patch.is_recall();
    let kind = if recall { CHANGE_RECALLED } else { CHANGE_EDITED };
    let edits = message.edits + u32::from(!recall);
    let entry = Entry { kind, at, by, message: Some(message_key(message.id)), data: None };
    let seq = add_entry(tx.db, &place, &entry)?;
    let (body_kind, custom) = body_kind_columns(patch.body.kind);
    let patched = Message {
        body: patch.body.clone(),
        mentions: patch.mentions.clone(),
        patched_at: Some(at),
        patched_by: Some(by.clone()),
        edits,
        ..message.clone()
    };
    tx.db
        .prepare_cached(
            "UPDATE message SET kind = ?2, custom = ?3, schema = ?4, payload = ?5, summary = ?6, mention_all = ?7, \
             mentions = ?8, patched_at = ?9, patched_seq = ?10, patched_by = ?11, edits = ?12, crc = ?13 WHERE id = ?1",
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
            by.as_str(),
            edits,
            checksum(&patched),
        ))?;
    if counted && place.kind.counts_unread() {
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
        by: by.clone(),
        edits,
    };
    Ok(Outcome::Written(Patched { patch, members }))
}

/// The patch that a message last got, of the conversation's `kind` and with its place in the timeline.
pub(super) fn patch_of(message: Message, kind: Kind, seq: u64) -> Patch {
    Patch {
        conversation: message.conversation,
        kind,
        message: message.id,
        timestamp: message.timestamp,
        by: message.patched_by.unwrap_or_else(|| message.sender.clone()),
        sender: message.sender,
        body: message.body,
        mentions: message.mentions,
        at: message.patched_at.unwrap_or_default(),
        seq: Seq(seq),
        edits: message.edits,
    }
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
         AND (h.cleared_at IS NULL OR (m.timestamp, m.id) > (h.cleared_at, h.cleared_id)) \
         AND (x.cleared_at IS NULL OR (m.timestamp, m.id) > (x.cleared_at, x.cleared_id)) \
         AND NOT EXISTS (SELECT 1 FROM removed r \
         WHERE r.conversation = m.conversation AND r.client = ?2 AND r.message = m.id) \
         ORDER BY m.patched_at LIMIT ?5"
    ))?;
    let rows = statement.query_map((app, client.as_str(), since.0, now.0, count(limit)), |row| {
        let seq = uint(row.get(MESSAGE_COLUMNS)?);
        let kind = kind_of(row, MESSAGE_COLUMNS + 1)?;
        Ok(whole(message_of(row))?.map(|message| patch_of(message, kind, seq)))
    })?;
    for patch in rows {
        found.extend(patch?);
    }
    Ok(())
}
