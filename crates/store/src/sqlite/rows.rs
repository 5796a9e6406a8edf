//! Between rows and the domain's types.

use std::sync::Arc;

use bytes::Bytes;
use posthouse_core::attribute::{AttributeChange, Attributes, Operation};
use posthouse_core::conversation::{Conversation, Kind, MemberSet, Role};
use posthouse_core::error::{Error, StoreFault};
use posthouse_core::id::{ClientId, ConversationId, MessageId, Seq};
use posthouse_core::message::{Body, BodyKind, Mentions, Message, Origin, Payload, Position, SchemaTag};
use posthouse_core::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::{Value, json};

use super::checksum::checksum;

/// The outcome of work inside a transaction.
pub(super) type Work<T> = Result<T, Failure>;

/// Why work inside a transaction came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// A rule says no.
    Refused(Error),
    /// The engine fails.
    Sqlite(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sqlite(error) => Self::Store(fault(&error)),
        }
    }
}

/// What a caller is told of an engine's error; the log is told all of it, here and only here.
pub(super) fn fault(error: &rusqlite::Error) -> StoreFault {
    use rusqlite::ErrorCode;

    /// `SQLITE_IOERR_SHMSIZE`: the index of the log can't grow, which is a full disk by another name.
    const IOERR_SHMSIZE: i32 = 4_874;
    let (fault, kind) = match error.sqlite_error() {
        Some(found) if found.code == ErrorCode::DiskFull || found.extended_code == IOERR_SHMSIZE => {
            (StoreFault::Full, "full")
        }
        Some(found) if matches!(found.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (StoreFault::Busy, "busy")
        }
        Some(_) | None => (StoreFault::Failed, "failed"),
    };
    metrics::counter!("posthouse_store_failures_total", "kind" => kind).increment(1);
    tracing::error!(%error, kind, "the store failed");
    fault
}

/// An unsigned number below 2^63 as SQLite keeps it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored number that is never negative.
pub(super) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A count of things in memory as SQLite keeps it.
pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn conversation_key(id: ConversationId) -> i64 {
    int(id.as_u64())
}

pub(super) fn message_key(id: MessageId) -> i64 {
    int(id.as_u64())
}

/// The number of recalled messages' kind, as the partial indexes name it.
pub(super) const KIND_RECALLED: i64 = 7;

/// A content kind as (code, own number).
pub(super) fn body_kind_columns(kind: BodyKind) -> (i64, i64) {
    match kind {
        BodyKind::Text => (1, 0),
        BodyKind::Image => (2, 0),
        BodyKind::Audio => (3, 0),
        BodyKind::Video => (4, 0),
        BodyKind::Location => (5, 0),
        BodyKind::File => (6, 0),
        BodyKind::Recalled => (KIND_RECALLED, 0),
        BodyKind::Custom(number) => (8, i64::from(number)),
        BodyKind::Untyped => (9, 0),
        BodyKind::Combined => (10, 0),
        BodyKind::Command => (11, 0),
    }
}

fn body_kind(code: i64, custom: i64) -> Option<BodyKind> {
    Some(match code {
        1 => BodyKind::Text,
        2 => BodyKind::Image,
        3 => BodyKind::Audio,
        4 => BodyKind::Video,
        5 => BodyKind::Location,
        6 => BodyKind::File,
        KIND_RECALLED => BodyKind::Recalled,
        8 => BodyKind::Custom(i32::try_from(custom).ok()?),
        9 => BodyKind::Untyped,
        10 => BodyKind::Combined,
        11 => BodyKind::Command,
        _ => return None,
    })
}

/// Who handed a message over, as its number.
pub(super) fn origin_column(origin: Origin) -> i64 {
    match origin {
        Origin::Client => 0,
        Origin::Server => 1,
        Origin::Import => 2,
    }
}

fn origin_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Origin> {
    match row.get(at)? {
        0 => Ok(Origin::Client),
        1 => Ok(Origin::Server),
        2 => Ok(Origin::Import),
        code => Err(unreadable(at, format!("origin {code}"))),
    }
}

/// A conversation's kind as (code, until).
pub(super) fn kind_columns(kind: Kind) -> (i64, Option<i64>) {
    match kind {
        Kind::Direct => (1, None),
        Kind::Group => (2, None),
        Kind::Room => (3, None),
        Kind::Temporary { until } => (4, Some(until.0)),
    }
}

/// The kind in columns `at` (code) and `at + 1` (until).
pub(super) fn kind_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Kind> {
    match (row.get(at)?, row.get(at + 1)?) {
        (1, None) => Ok(Kind::Direct),
        (2, None) => Ok(Kind::Group),
        (3, None) => Ok(Kind::Room),
        (4, Some(until)) => Ok(Kind::Temporary { until: Timestamp(until) }),
        (code, _) => Err(unreadable(at, format!("kind {code}"))),
    }
}

pub(super) fn client_of(row: &Row<'_>, at: usize) -> rusqlite::Result<ClientId> {
    ClientId::parse(row.get_ref(at)?.as_str()?).map_err(|error| unreadable(at, error.to_string()))
}

/// A client in a column that may be empty.
pub(super) fn maybe_client_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<ClientId>> {
    match row.get_ref(at)?.as_str_or_null()? {
        Some(_) => client_of(row, at).map(Some),
        None => Ok(None),
    }
}

pub(super) fn conversation_of(row: &Row<'_>, at: usize) -> rusqlite::Result<ConversationId> {
    let number: i64 = row.get(at)?;
    u64::try_from(number)
        .ok()
        .and_then(ConversationId::from_u64)
        .ok_or_else(|| unreadable(at, format!("conversation {number}")))
}

pub(super) fn message_id_of(row: &Row<'_>, at: usize) -> rusqlite::Result<MessageId> {
    let number: i64 = row.get(at)?;
    u64::try_from(number)
        .ok()
        .and_then(MessageId::from_u64)
        .ok_or_else(|| unreadable(at, format!("message {number}")))
}

pub(super) fn time_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Timestamp> {
    row.get(at).map(Timestamp)
}

pub(super) fn maybe_time_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp))
}

/// A list of clients as a JSON array.
pub(super) fn clients_text(clients: &[ClientId]) -> String {
    Value::from(clients.iter().map(ClientId::as_str).collect::<Vec<_>>()).to_string()
}

pub(super) fn clients_of(text: &str, at: usize) -> rusqlite::Result<Vec<ClientId>> {
    let Ok(Value::Array(items)) = serde_json::from_str(text) else {
        return Err(unreadable(at, "no list of clients".to_owned()));
    };
    items
        .iter()
        .map(|item| {
            item.as_str()
                .and_then(|id| ClientId::parse(id).ok())
                .ok_or_else(|| unreadable(at, "no client".to_owned()))
        })
        .collect()
}

pub(super) fn object_of(text: &str, at: usize) -> rusqlite::Result<Attributes> {
    serde_json::from_str(text).map_err(|error| unreadable(at, error.to_string()))
}

/// The columns that [`message_of`] reads, of a table called `m`.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation, m.seq, m.timestamp, m.sender, m.kind, m.custom, m.schema, m.payload, m.summary, \
         m.mention_all, m.mentions, m.receipt, m.patched_at, m.delivered_at, m.read_at, m.origin, m.edits, m.patched_by, \
         m.crc"
    };
}
pub(super) use message_columns;

/// How many columns [`message_columns`] names.
pub(super) const MESSAGE_COLUMNS: usize = 20;

/// The message of a row. One that isn't as it was written is an error.
pub(super) fn message_of(row: &Row<'_>) -> rusqlite::Result<Message> {
    let kind =
        body_kind(row.get(5)?, row.get(6)?).ok_or_else(|| unreadable(5, "no kind of content".to_owned()))?;
    let clients = match row.get_ref(11)?.as_str_or_null()? {
        Some(text) => clients_of(text, 11)?,
        None => Vec::new(),
    };
    let message = Message {
        id: message_id_of(row, 0)?,
        conversation: conversation_of(row, 1)?,
        seq: Seq(uint(row.get(2)?)),
        timestamp: time_of(row, 3)?,
        sender: client_of(row, 4)?,
        body: Body {
            kind,
            summary: row.get_ref(9)?.as_str_or_null()?.map(Arc::from),
            payload: Payload {
                schema: SchemaTag(row.get(7)?),
                bytes: Bytes::copy_from_slice(row.get_ref(8)?.as_blob()?),
            },
        },
        mentions: Mentions { all: row.get(10)?, clients },
        receipt: row.get(12)?,
        patched_at: maybe_time_of(row, 13)?,
        delivered_at: maybe_time_of(row, 14)?,
        read_at: maybe_time_of(row, 15)?,
        origin: origin_of(row, 16)?,
        edits: row.get(17)?,
        patched_by: maybe_client_of(row, 18)?,
    };
    match row.get::<_, Option<u32>>(19)? {
        Some(crc) if crc != checksum(&message) => {
            let what = format!("message {} isn't what was written", message.id.as_u64());
            Err(unreadable(19, what))
        }
        Some(_) | None => Ok(message),
    }
}

/// A place in history as SQLite compares it: a time, and among messages of that time an id.
pub(super) type Spot = (i64, i64);

/// The spot before everything.
pub(super) const NOWHERE: Spot = (i64::MIN, 0);

/// The spot in the columns `at` (time) and `at + 1` (id); [`NOWHERE`] if they are empty.
pub(super) fn spot_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Spot> {
    Ok(match (row.get::<_, Option<i64>>(at)?, row.get::<_, Option<i64>>(at + 1)?) {
        (Some(time), Some(id)) => (time, id),
        _ => NOWHERE,
    })
}

pub(super) fn spot(position: Position) -> Spot {
    (position.timestamp.0, message_key(position.id))
}

/// A conversation's fast-changing side: what most transactions decide by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: ConversationId,
    pub(super) kind: Kind,
    pub(super) updated_at: Timestamp,
    pub(super) last_seq: u64,
    /// Messages so far that count as unread, recalled ones among them.
    pub(super) total: u64,
    /// The newest message of history.
    pub(super) newest: Option<Position>,
    /// The newest place in the timeline that has a message of history, deleted ones among them.
    pub(super) newest_seq: u64,
    /// The time of the newest message in the timeline, part of history or not, deleted or not.
    pub(super) said_at: Timestamp,
    /// Up to here everything is deleted for everybody.
    pub(super) cleared: Spot,
    pub(super) unread_at: Timestamp,
    pub(super) patched_at: Timestamp,
}

/// The place of a living conversation of the app, or the error that says it isn't one.
pub(super) fn place(db: &Connection, app: i64, id: ConversationId, now: Timestamp) -> Work<Place> {
    let found = db
        .prepare_cached(
            "SELECT c.kind, c.until, c.updated_at, h.last_seq, h.total, h.last_message, h.last_message_at, \
             h.last_message_seq, h.unread_at, h.patched_at, h.said_at, h.cleared_at, h.cleared_id \
             FROM conversation c JOIN head h ON h.conversation = c.id WHERE c.id = ?1 AND c.app = ?2",
        )?
        .query_row((conversation_key(id), app), |row| {
            let newest = match row.get::<_, Option<i64>>(5)? {
                Some(_) => Some(Position { timestamp: time_of(row, 6)?, id: message_id_of(row, 5)? }),
                None => None,
            };
            Ok(Place {
                id,
                kind: kind_of(row, 0)?,
                updated_at: time_of(row, 2)?,
                last_seq: uint(row.get(3)?),
                total: uint(row.get(4)?),
                newest,
                newest_seq: uint(row.get::<_, Option<i64>>(7)?.unwrap_or(0)),
                unread_at: time_of(row, 8)?,
                patched_at: time_of(row, 9)?,
                said_at: time_of(row, 10)?,
                cleared: spot_of(row, 11)?,
            })
        })
        .optional()?;
    let found = found.ok_or_else(|| absent(id))?;
    found.kind.ensure_alive(now)?;
    Ok(found)
}

/// What is said of a conversation that isn't there.
pub(super) fn absent(id: ConversationId) -> Error {
    if id.is_temporary() { Error::TemporaryOver } else { Error::ConversationNotFound }
}

/// The columns that [`conversation_row`] reads, of `conversation c` and `head h`.
macro_rules! conversation_columns {
    () => {
        "c.id, c.kind, c.until, c.creator, c.attributes, c.unique_set, c.created_at, c.updated_at, h.last_message_at, \
         c.owner"
    };
}
pub(super) use conversation_columns;

/// A conversation without its members.
pub(super) fn conversation_row(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: conversation_of(row, 0)?,
        kind: kind_of(row, 1)?,
        creator: maybe_client_of(row, 3)?,
        attributes: object_of(row.get_ref(4)?.as_str()?, 4)?,
        unique: row.get::<_, Option<[u8; 16]>>(5)?.map(MemberSet),
        created_at: time_of(row, 6)?,
        updated_at: time_of(row, 7)?,
        last_message_at: maybe_time_of(row, 8)?,
        members: Vec::new(),
        joined: Vec::new(),
        muted_by: Vec::new(),
        owner: maybe_client_of(row, 9)?,
        admins: Vec::new(),
    })
}

/// Fills in the members of a conversation that was read without them.
pub(super) fn load_members(db: &Connection, conversation: &mut Conversation) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "SELECT client, muted, role, joined_at FROM member WHERE conversation = ?1 ORDER BY joined",
    )?;
    let mut rows = statement.query([conversation_key(conversation.id)])?;
    conversation.members.clear();
    conversation.joined.clear();
    conversation.muted_by.clear();
    conversation.admins.clear();
    while let Some(row) = rows.next()? {
        let client = client_of(row, 0)?;
        if row.get(1)? {
            conversation.muted_by.push(client.clone());
        }
        if row.get(2)? {
            conversation.admins.push(client.clone());
        }
        conversation.members.push(client);
        conversation.joined.push(time_of(row, 3)?);
    }
    Ok(())
}

/// The members in the order in which they came.
pub(super) fn members(db: &Connection, id: ConversationId) -> rusqlite::Result<Vec<ClientId>> {
    db.prepare_cached("SELECT client FROM member WHERE conversation = ?1 ORDER BY joined")?
        .query_map([conversation_key(id)], |row| client_of(row, 0))?
        .collect()
}

pub(super) fn member_count(db: &Connection, id: ConversationId) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT count(*) FROM member WHERE conversation = ?1")?
        .query_row([conversation_key(id)], |row| row.get(0))
}

pub(super) fn is_member(db: &Connection, id: ConversationId, client: &ClientId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM member WHERE conversation = ?1 AND client = ?2")?
        .exists((conversation_key(id), client.as_str()))
}

/// What `client` may do in a conversation; `None` for who is no member.
pub(super) fn role_of(
    db: &Connection,
    id: ConversationId,
    client: &ClientId,
) -> rusqlite::Result<Option<Role>> {
    db.prepare_cached(
        "SELECT x.role, c.owner IS x.client FROM member x JOIN conversation c ON c.id = x.conversation \
         WHERE x.conversation = ?1 AND x.client = ?2",
    )?
    .query_row((conversation_key(id), client.as_str()), |row| {
        Ok(match (row.get(0)?, row.get(1)?) {
            (_, true) => Role::Owner,
            (true, false) => Role::Admin,
            (false, false) => Role::Member,
        })
    })
    .optional()
}

/// Attribute changes as JSON: `[[path, operation, operand], …]`.
pub(super) fn changes_value(changes: &[AttributeChange]) -> Value {
    changes
        .iter()
        .map(|change| {
            let (name, operand) = match &change.operation {
                Operation::Set(value) => ("set", value.clone()),
                Operation::Delete => ("delete", Value::Null),
                Operation::Increment(number) => ("increment", Value::Number(number.clone())),
                Operation::Add(items) => ("add", Value::Array(items.clone())),
                Operation::AddUnique(items) => ("add_unique", Value::Array(items.clone())),
                Operation::Remove(items) => ("remove", Value::Array(items.clone())),
            };
            json!([change.path, name, operand])
        })
        .collect()
}

/// Reads back what [`changes_value`] wrote.
pub(super) fn changes_of(value: &Value) -> Option<Vec<AttributeChange>> {
    let items = |operand: &Value| operand.as_array().cloned();
    value
        .as_array()?
        .iter()
        .map(|entry| {
            let [path, name, operand] = entry.as_array()?.as_slice() else { return None };
            let path =
                path.as_array()?.iter().map(|key| key.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            let operation = match name.as_str()? {
                "set" => Operation::Set(operand.clone()),
                "delete" => Operation::Delete,
                "increment" => Operation::Increment(operand.as_number()?.clone()),
                "add" => Operation::Add(items(operand)?),
                "add_unique" => Operation::AddUnique(items(operand)?),
                "remove" => Operation::Remove(items(operand)?),
                _ => return None,
            };
            Some(AttributeChange { path, operation })
        })
        .collect()
}

/// The changes and the new values in the `data` of an attribute change.
pub(super) fn update_of(text: &str, at: usize) -> rusqlite::Result<(Vec<AttributeChange>, Attributes)> {
    let wrong = || unreadable(at, "no attribute changes".to_owned());
    let data: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let changes = changes_of(&data["changes"]).ok_or_else(wrong)?;
    let modified = data["modified"].as_object().cloned().ok_or_else(wrong)?;
    Ok((changes, modified))
}

/// Whom a message calls, as a column; nothing if it calls nobody by name.
pub(super) fn mentions_text(mentions: &Mentions) -> Option<String> {
    (!mentions.clients.is_empty()).then(|| clients_text(&mentions.clients))
}

/// A stored value that this program can't have written.
pub(super) fn unreadable(column: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn attribute_changes_survive_storage() {
        let path = vec!["attr".to_owned(), "x".to_owned()];
        let changes: Vec<AttributeChange> = [
            Operation::Set(json!({"a": [1, null]})),
            Operation::Delete,
            Operation::Increment(serde_json::Number::from_f64(1.5).unwrap()),
            Operation::Add(vec![json!("a")]),
            Operation::AddUnique(vec![json!(1)]),
            Operation::Remove(vec![json!({})]),
        ]
        .into_iter()
        .map(|operation| AttributeChange { path: path.clone(), operation })
        .collect();
        assert_eq!(changes_of(&changes_value(&changes)).unwrap(), changes);
    }

    #[test]
    fn kinds_of_content_survive_storage() {
        let kinds = [
            BodyKind::Text,
            BodyKind::Image,
            BodyKind::Audio,
            BodyKind::Video,
            BodyKind::Location,
            BodyKind::File,
            BodyKind::Recalled,
            BodyKind::Custom(i32::MIN),
            BodyKind::Untyped,
            BodyKind::Combined,
            BodyKind::Command,
        ];
        for kind in kinds {
            let (code, custom) = body_kind_columns(kind);
            assert_eq!(body_kind(code, custom), Some(kind));
        }
    }
}
