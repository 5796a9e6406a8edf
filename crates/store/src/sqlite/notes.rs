//! Notes in clients' inboxes: what they are told that belongs to no timeline they can read.

use posthouse_core::conversation::RoleChange;
use posthouse_core::id::{ClientId, ConversationId, DeviceId};
use posthouse_core::listing::Removal;
use posthouse_core::receipt::Receipt;
use posthouse_core::time::Timestamp;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::rows::{conversation_key, message_key};

/// The kinds of `inbox` rows.
pub(super) const NOTE_JOINED: i64 = 1;
pub(super) const NOTE_LEFT: i64 = 2;
pub(super) const NOTE_READ: i64 = 3;
pub(super) const NOTE_DELIVERED: i64 = 4;
pub(super) const NOTE_READ_HERE: i64 = 5;
pub(super) const NOTE_CONVERSATION_DELETED: i64 = 6;
pub(super) const NOTE_MESSAGES_REMOVED: i64 = 7;
pub(super) const NOTE_LISTED: i64 = 8;
pub(super) const NOTE_ENDED: i64 = 9;
pub(super) const NOTE_ROLE: i64 = 10;
pub(super) const NOTE_CONTACT: i64 = 11;

/// The conversation of notes that are about none, or about all.
pub(super) const NO_CONVERSATION: i64 = 0;

/// A note to leave.
pub(super) struct NewNote<'a> {
    pub(super) at: Timestamp,
    pub(super) kind: i64,
    /// The conversation's key, or [`NO_CONVERSATION`].
    pub(super) conversation: i64,
    pub(super) by: &'a ClientId,
    pub(super) message: Option<i64>,
    pub(super) data: Option<Value>,
}

impl<'a> NewNote<'a> {
    /// A note about a conversation, without anything more to say.
    pub(super) fn of(kind: i64, conversation: ConversationId, by: &'a ClientId, at: Timestamp) -> Self {
        Self { at, kind, conversation: conversation_key(conversation), by, message: None, data: None }
    }

    /// That a message was delivered or read. What a read mark says needs no words.
    pub(super) fn of_receipt(receipt: &'a Receipt) -> Self {
        let kind = if receipt.read { NOTE_READ } else { NOTE_DELIVERED };
        let mut data = Map::new();
        if !receipt.whole {
            data.insert("whole".to_owned(), false.into());
        }
        if let Some(readers) = receipt.readers {
            data.insert("readers".to_owned(), readers.into());
        }
        if let Some(note) = &receipt.note {
            data.insert("note".to_owned(), (**note).into());
        }
        Self {
            message: Some(message_key(receipt.message)),
            data: (!data.is_empty()).then_some(Value::Object(data)),
            ..Self::of(kind, receipt.conversation, &receipt.by, receipt.at)
        }
    }
}

/// Leaves a note in a client's inbox.
pub(super) fn note(db: &Connection, app: i64, client: &ClientId, new: &NewNote<'_>) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO inbox (app, client, at, kind, conversation, by, message, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        app,
        client.as_str(),
        new.at.0,
        new.kind,
        new.conversation,
        new.by.as_str(),
        new.message,
        new.data.as_ref().map(Value::to_string),
    ))?;
    Ok(())
}

/// Whether the client has devices that read its inbox. Only `posthouse.db` knows them.
pub(super) fn has_devices(db: &Connection, app: i64, client: &ClientId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM device WHERE app = ?1 AND client = ?2 LIMIT 1")?
        .exists((app, client.as_str()))
}

/// The device on which a client did something, which need not be told.
pub(super) fn device_data(device: Option<&DeviceId>) -> Map<String, Value> {
    device.map(|device| ("device".to_owned(), device.as_str().into())).into_iter().collect()
}

/// What [`NOTE_CONVERSATION_DELETED`] says.
pub(super) fn conversation_deleted_data(device: Option<&DeviceId>, with_messages: bool) -> Value {
    let mut data = device_data(device);
    data.insert("with_messages".to_owned(), with_messages.into());
    data.into()
}

/// What [`NOTE_MESSAGES_REMOVED`] says; of everything that was ever said, nothing more.
pub(super) fn messages_removed_data(device: Option<&DeviceId>, removal: Option<&Removal>) -> Value {
    let mut data = device_data(device);
    match removal {
        None => {}
        Some(Removal::Until(until)) => {
            data.insert("until".to_owned(), until.0.into());
        }
        Some(Removal::Messages(messages)) => {
            data.insert("ids".to_owned(), messages.iter().map(|message| message.as_u64()).collect());
        }
    }
    data.into()
}

/// What [`NOTE_ROLE`] says.
pub(super) fn role_data(change: &RoleChange) -> Value {
    let role = match change {
        RoleChange::Owner(_) => "owner",
        RoleChange::Admin(_) => "admin",
        RoleChange::NoAdmin(_) => "no_admin",
    };
    json!({ role: change.client().as_str() })
}
