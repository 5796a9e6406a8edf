//! From the domain to the wire: messages, events and notices as the metas that one device gets.
//!
//! SDKs that meet one meta they can't read lose those beside it (client 4.4). So everything here is
//! made of fields that are always set and of JSON that was written, never copied.

use bytes::Bytes;
use posthouse_core::account::ContactNotice;
use posthouse_core::attribute::lookup;
use posthouse_core::content::{Content, Saying};
use posthouse_core::conversation::{Address, Kind, RoleChange};
use posthouse_core::event::{MemberEvent, Patch, SessionEnd, UpdateEvent};
use posthouse_core::id::{ClientId, ConversationId, DeviceId, Seq};
use posthouse_core::listing::{Entry, EntryKind, ListChange, Note, NoteKind, Removal};
use posthouse_core::message::{Body, BodyKind, Mentions, Message};
use posthouse_core::receipt::Receipt;
use posthouse_core::time::Timestamp;
use prost::Message as _;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::content;
use crate::inbound::{EVERYBODY, MENTIONS, RECALL_WORDS, SCHEMA, editor};
use crate::wire::bodies;
use crate::wire::frame::wire_ms;
use crate::wire::jid::{Jid, bare};
use crate::wire::meta::{self, Delivery};
use crate::wire::name::name_of;
use crate::wire::proto::key_value::ValueType;
use crate::wire::proto::message_body::{Content as Part, EditScope, Type as BodyType};
use crate::wire::proto::meta::NameSpace;
use crate::wire::proto::muc_body::{EventInfo, Operation as GroupOperation};
use crate::wire::proto::roster_body::Operation as RosterOperation;
use crate::wire::proto::statistics_body::Operation as StatisticsOperation;
use crate::wire::proto::{self, KeyValue, MessageBody, Meta, MucBody, RosterBody, StatisticsBody};
use crate::wire::raw::{self, Malformed};

/// Where an Easemob group keeps what only Easemob knows of it, beside its name.
pub(crate) const GROUP_ATTRIBUTES: &str = "easemob";

/// Attributes of a group, and how an `UPDATE` event calls them (client 6.2).
const UPDATED: [(&str, &str); 8] = [
    ("description", "description"),
    ("public", "public"),
    ("membersonly", "members_only"),
    ("allowinvites", "allow_user_invites"),
    ("maxusers", "max_users"),
    ("invite_need_confirm", "invite_need_confirm"),
    ("custom", "custom"),
    ("avatar", "avatar"),
];

/// Ids below 2^63, as SDKs keep them.
const ID_MAX: u64 = i64::MAX as u64;

/// Numbers of the fields of `MessageBody` that are handled without decoding.
mod field {
    pub(super) const META_PAYLOAD: u32 = 6;
    pub(super) const TYPE: u32 = 1;
    pub(super) const FROM: u32 = 2;
    pub(super) const TO: u32 = 3;
    pub(super) const META: u32 = 9;
    pub(super) const EDIT_MESSAGE_ID: u32 = 11;
    pub(super) const EDIT_SCOPE: u32 = 12;
}

/// Who receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    /// `org#app`
    pub(crate) app_key: &'a str,
    /// The user.
    pub(crate) client: &'a ClientId,
    /// The device.
    pub(crate) device: &'a DeviceId,
}

impl Own<'_> {
    fn jid(&self) -> Jid {
        self.person(self.client)
    }

    fn person(&self, client: &ClientId) -> Jid {
        Jid::person(self.app_key, &name_of(client.as_str()))
    }

    fn group(&self, id: ConversationId) -> Jid {
        Jid::conference(self.app_key, &id.as_u64().to_string())
    }

    /// Where something that `from` said in a conversation went, as this receiver sees it.
    fn destination(&self, address: &Address, from: &ClientId) -> Jid {
        match address.kind {
            Kind::Direct if from == self.client => self.person(address.peer.as_ref().unwrap_or(self.client)),
            Kind::Direct => self.jid(),
            Kind::Group | Kind::Room | Kind::Temporary { .. } => self.group(address.id),
        }
    }

    fn is_own_device(&self, device: &str) -> bool {
        self.device.as_str() == device
    }

    fn did(&self, by: &ClientId, device: Option<&DeviceId>) -> bool {
        by == self.client && device == Some(self.device)
    }
}

/// The queue of a conversation: named after the other, or after the group (client 5.5).
pub(crate) fn queue_of(address: &Address, app_key: &str) -> Jid {
    match (address.kind, &address.peer) {
        (Kind::Direct, Some(peer)) => Jid::person(app_key, &name_of(peer.as_str())),
        (Kind::Direct | Kind::Group | Kind::Room | Kind::Temporary { .. }, _) => {
            Jid::conference(app_key, &address.id.as_u64().to_string())
        }
    }
}

/// The queue of notes.
pub(crate) fn system_queue() -> Jid {
    Jid::system()
}

// ---- messages ---------------------------------------------------------------------------------------

/// The metas of one entry of a timeline; none where the device needs none, because it did it itself or
/// because the wire has no word for it.
pub(crate) fn entry(
    entry: &Entry,
    address: &Address,
    own: &Own<'_>,
    content: &dyn Fn(&Body) -> Content,
) -> Vec<Bytes> {
    let id = place_id(address.id, entry.seq);
    match &entry.what {
        EntryKind::Message(message)
            if message.is_recalled() || is_from(own, message) || !is_for(own, &message.body) =>
        {
            Vec::new()
        }
        EntryKind::Message(message) => vec![message_meta(message, address, own, content)],
        EntryKind::Patched(patch) if is_patched_by(own, patch) || !is_for(own, &patch.body) => Vec::new(),
        EntryKind::Patched(patch) if patch.body.kind == BodyKind::Recalled => {
            vec![recall_meta(id, patch, address, own)]
        }
        EntryKind::Patched(patch) => vec![edit_meta(id, patch, address, own, content)],
        EntryKind::MembersJoined(event) => members(id, GroupOperation::Presence, event, own),
        EntryKind::MembersLeft(event) => members(id, GroupOperation::Absence, event, own),
        EntryKind::Updated(event) => updated(id, event, own),
    }
}

/// An id for what has none of its own. Conversations have random ids, so that places of different ones
/// do not meet.
fn place_id(conversation: ConversationId, seq: Seq) -> u64 {
    (conversation.as_u64().wrapping_add(seq.0) & ID_MAX).max(1)
}

/// Whether this very device sent it.
fn is_from(own: &Own<'_>, message: &Message) -> bool {
    message.sender == *own.client && own.is_own_device(resource_of(&message.body))
}

/// Whether this device gets it; some are for one device or for their receivers alone.
pub(crate) fn is_for(own: &Own<'_>, body: &Body) -> bool {
    let Some(whom) = whom(body) else { return true };
    let (name, device) = whom.split_once('/').map_or((whom, None), |(name, device)| (name, Some(device)));
    name == name_of(own.client.as_str()) && device.is_none_or(|device| own.is_own_device(device))
}

fn whom(body: &Body) -> Option<&str> {
    if body.payload.schema != SCHEMA {
        return None;
    }
    meta::only_for(&body.payload.bytes)
}

/// Whether this very device edited or recalled it.
fn is_patched_by(own: &Own<'_>, patch: &Patch) -> bool {
    let device = match patch.body.kind {
        BodyKind::Recalled => resource_of(&patch.body),
        _ if patch.body.payload.schema == SCHEMA => editor(&patch.body.payload.bytes),
        _ => "",
    };
    patch.by == *own.client && own.is_own_device(device)
}

/// The device that wrote a body; empty for other wires' and for the server's own.
fn resource_of(body: &Body) -> &str {
    if body.payload.schema != SCHEMA {
        return "";
    }
    meta::peek(&body.payload.bytes).map_or("", |seen| seen.resource)
}

/// A message as this receiver gets it, from its queue and in history.
pub(crate) fn message_meta(
    message: &Message,
    address: &Address,
    own: &Own<'_>,
    content: &dyn Fn(&Body) -> Content,
) -> Bytes {
    let device = whom(&message.body).and_then(|whom| whom.split_once('/')).map_or("", |(_, device)| device);
    Letter {
        id: message.id.as_u64(),
        from: own.person(&message.sender),
        to: Jid { resource: device.to_owned(), ..own.destination(address, &message.sender) },
        in_group: address.kind != Kind::Direct,
        at: message.timestamp,
        known: known(message, address, own),
    }
    .deliver(&ours(&message.body, &message.mentions, content))
}

/// A message that is not kept, and the queue to push it through. `pair` are the members of a direct
/// conversation.
pub(crate) fn transient(
    message: &Message,
    kind: Kind,
    pair: Option<&[ClientId]>,
    own: &Own<'_>,
    content: &dyn Fn(&Body) -> Content,
) -> (Jid, Bytes) {
    let other = pair.and_then(|pair| pair.iter().find(|member| *member != own.client));
    let peer = (kind == Kind::Direct).then(|| other.unwrap_or(own.client).clone());
    let address = Address { id: message.conversation, kind, peer };
    (queue_of(&address, own.app_key), message_meta(message, &address, own, content))
}

/// A message in a list of conversations: `id`, `from`, `to`, `timestamp`, and `payload` as JSON text
/// (client 7.2). Empty for a recalled one.
pub(crate) fn listed_meta(
    message: &Message,
    address: &Address,
    own: &Own<'_>,
    content: &dyn Fn(&Body) -> Content,
) -> ListedMeta {
    if message.is_recalled() {
        return ListedMeta::Nothing {};
    }
    let (from, to) = (own.person(&message.sender), own.destination(address, &message.sender));
    let body = if message.body.payload.schema == SCHEMA {
        meta::body(&message.body.payload.bytes).unwrap_or_else(|_| unreadable())
    } else {
        rewritten(&message.body, &message.mentions, content)
    };
    let mut body = bodies::address(body, chat_type(address.kind != Kind::Direct), &from.name, &to.name);
    body.meta = known(message, address, own).map(|known| Value::Object(known).to_string());
    ListedMeta::Message {
        id: message.id.as_u64().to_string(),
        from: full(&from),
        to: full(&to),
        timestamp: message.timestamp.0,
        payload: serde_json::to_string(&bodies::to_json(&body)).unwrap_or_default(),
    }
}

/// A message as lists show it (client 7.5).
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum ListedMeta {
    /// One that was taken back.
    Nothing {},
    /// Any other.
    Message {
        /// Its id.
        id: String,
        /// Who said it, in full.
        from: String,
        /// To whom, in full.
        to: String,
        /// When, in milliseconds.
        timestamp: i64,
        /// What it says: JSON in a text.
        payload: String,
    },
}

/// `org#app_name@domain`
pub(crate) fn full(jid: &Jid) -> String {
    format!("{}_{}@{}", jid.app_key, jid.name, jid.domain)
}

/// A message as stored by this gateway, whoever wrote it.
fn ours(body: &Body, mentions: &Mentions, content: &dyn Fn(&Body) -> Content) -> Bytes {
    if body.kind == BodyKind::Recalled {
        return composed(&content::write(BodyKind::Text, &said("[recalled]")));
    }
    if body.payload.schema == SCHEMA {
        return body.payload.bytes.clone();
    }
    composed(&rewritten(body, mentions, content))
}

/// What another gateway has stored, as this one would have.
fn rewritten(body: &Body, mentions: &Mentions, content: &dyn Fn(&Body) -> Content) -> MessageBody {
    let mut written = content::write(body.kind, &content(body));
    written.ext.retain(|pair| pair.key.as_deref() != Some(MENTIONS));
    if mentions.all {
        written.ext.push(bodies::key_value(MENTIONS, &EVERYBODY.into()));
    } else if !mentions.clients.is_empty() {
        let names: Vec<String> = mentions.clients.iter().map(|client| name_of(client.as_str())).collect();
        written.ext.push(bodies::key_value(MENTIONS, &names.into()));
    }
    written
}

fn composed(body: &MessageBody) -> Bytes {
    meta::compose(NameSpace::Chat, &body.encode_to_vec(), "")
}

fn said(line: &str) -> Content {
    Content { what: Saying::Other(line.to_owned()), attributes: Map::new() }
}

/// Shown for stored bytes that are none of ours: something was said.
fn unreadable() -> MessageBody {
    content::write(BodyKind::Text, &said(""))
}

fn chat_type(in_group: bool) -> BodyType {
    if in_group { BodyType::Groupchat } else { BodyType::Chat }
}

/// What the server knows of a message: `MessageBody.meta` (client 5.12).
fn known(message: &Message, address: &Address, own: &Own<'_>) -> Option<Map<String, Value>> {
    let mut known = Map::new();
    if message.edits > 0 {
        let operator = message.patched_by.as_ref().unwrap_or(&message.sender);
        let edited = json!({
            "count": message.edits,
            "operator": name_of(operator.as_str()),
            "edit_time": message.patched_at.unwrap_or(message.timestamp).0,
        });
        known.insert("edit_msg".to_owned(), edited);
    }
    if address.kind == Kind::Direct
        && message.sender == *own.client
        && address.peer.as_ref() != Some(own.client)
    {
        if message.delivered_at.is_some() {
            known.insert("isDelivered".to_owned(), true.into());
        }
        if message.read_at.is_some() {
            known.insert("isRead".to_owned(), true.into());
        }
    }
    (!known.is_empty()).then_some(known)
}

/// One chat meta to one receiver.
struct Letter {
    id: u64,
    from: Jid,
    to: Jid,
    in_group: bool,
    at: Timestamp,
    known: Option<Map<String, Value>>,
}

impl Letter {
    fn deliver(&self, stored: &[u8]) -> Bytes {
        let own_words = |_| self.put_into(&composed(&unreadable()), chat_type(self.in_group), &[]);
        let delivered = self.put_into(stored, chat_type(self.in_group), &[]).or_else(own_words);
        delivered.unwrap_or_else(|_| unreachable!("what was just composed is a sequence of fields"))
    }

    /// What is stored, with type and names as the receiver is to see them, whatever its writer said:
    /// the pair of a single chat may have become a group since.
    fn put_into(&self, stored: &[u8], of: BodyType, numbers: &[(u32, u64)]) -> Result<Bytes, Malformed> {
        let mut replaced = vec![field::TYPE, field::FROM, field::TO, field::META];
        replaced.extend(numbers.iter().map(|(number, _)| number));
        let mut payload = Vec::with_capacity(stored.len() + 128);
        raw::append_varint(&mut payload, field::TYPE, u64::try_from(i32::from(of)).unwrap_or_default());
        raw::append_bytes(&mut payload, field::FROM, &bare(&self.from.name).encode_to_vec());
        raw::append_bytes(&mut payload, field::TO, &bare(&self.to.name).encode_to_vec());
        payload.extend(raw::strip(meta::payload(stored)?, &replaced)?);
        if let Some(known) = &self.known {
            let json = Value::Object(known.clone()).to_string();
            raw::append_bytes(&mut payload, field::META, json.as_bytes());
        }
        for (number, value) in numbers {
            raw::append_varint(&mut payload, *number, *value);
        }
        let mut addressed = raw::strip(stored, &[field::META_PAYLOAD])?;
        raw::append_bytes(&mut addressed, field::META_PAYLOAD, &payload);
        meta::deliver(
            &addressed,
            Delivery { id: self.id, from: &self.from, to: &self.to, timestamp: self.at.0, body_meta: None },
        )
    }
}

// ---- edits and recalls ------------------------------------------------------------------------------

fn edit_meta(
    id: u64,
    patch: &Patch,
    address: &Address,
    own: &Own<'_>,
    content: &dyn Fn(&Body) -> Content,
) -> Bytes {
    let mut known = Map::new();
    known.insert("edit_msg".to_owned(), edit_json(patch));
    let letter = Letter {
        id,
        // The SDK takes the sender from `edit_msg` and shows who edited as its operator.
        from: own.person(&patch.sender),
        to: own.destination(address, &patch.sender),
        in_group: address.kind != Kind::Direct,
        at: patch.at,
        known: Some(known),
    };
    // What is stored is the whole message, its attributes included.
    let numbers = [
        (field::EDIT_MESSAGE_ID, patch.message.as_u64()),
        (field::EDIT_SCOPE, u64::try_from(i32::from(EditScope::BodyAndExt)).unwrap_or_default()),
    ];
    let stored = ours(&patch.body, &patch.mentions, content);
    let edit = letter.put_into(&stored, BodyType::Edit, &numbers);
    let edit = edit.or_else(|_| letter.put_into(&composed(&unreadable()), BodyType::Edit, &numbers));
    edit.unwrap_or_else(|_| unreachable!("what was just composed is a sequence of fields"))
}

fn edit_json(patch: &Patch) -> Value {
    json!({
        "count": patch.edits,
        "operator": name_of(patch.by.as_str()),
        "edit_time": patch.at.0,
        "sender": name_of(patch.sender.as_str()),
        "send_time": patch.timestamp.0,
        "chat_type": if patch.kind == Kind::Direct { "chat:user" } else { "chat:group" },
    })
}

/// The meta in the ack of an edit: without it the SDK knows neither sender nor time (client 5.11).
pub(crate) fn edit_ack(patch: &Patch) -> Bytes {
    notice(patch.message.as_u64(), patch.at, None, &json!({ "edit_msg": edit_json(patch) }))
}

/// A recall, with the words that came with it (client 5.10). In a single chat it comes from who said
/// what is recalled, because SDKs find the conversation by it.
fn recall_meta(id: u64, patch: &Patch, address: &Address, own: &Own<'_>) -> Bytes {
    let by = if address.kind == Kind::Direct { &patch.sender } else { &patch.by };
    let to = own.destination(address, by);
    let ext = match patch.body.payload.schema {
        SCHEMA => Meta::decode(patch.body.payload.bytes.clone()).map(|meta| meta.ext).unwrap_or_default(),
        _ => Vec::new(),
    };
    let body = MessageBody { ack_message_id: Some(patch.message.as_u64()), ..MessageBody::default() };
    let is_words = |pair: &KeyValue| {
        pair.key.as_deref() == Some(RECALL_WORDS) && pair.r#type == Some(ValueType::String.into())
    };
    Meta {
        ext: ext.into_iter().filter(is_words).collect(),
        ..sign(
            id,
            patch.at,
            &own.person(by),
            &to,
            bodies::address(body, BodyType::Recall, &own.person(by).name, &to.name),
        )
    }
    .encode_to_vec()
    .into()
}

/// A meta about a message. SDKs look at the first content of every message without asking whether
/// there is one.
fn sign(id: u64, at: Timestamp, from: &Jid, to: &Jid, body: MessageBody) -> Meta {
    let body = MessageBody { contents: vec![Part::default()], ..body };
    Meta {
        id: Some(id),
        from: Some(from.clone().into()),
        to: Some(to.clone().into()),
        timestamp: Some(wire_ms(at.0)),
        ns: Some(NameSpace::Chat.into()),
        payload: Some(body.encode_to_vec().into()),
        ..Meta::default()
    }
}

// ---- groups -----------------------------------------------------------------------------------------

/// Others came or went. One is told as one, because SDKs then name it; several as a list.
fn members(id: u64, operation: GroupOperation, event: &MemberEvent, own: &Own<'_>) -> Vec<Bytes> {
    if event.kind != Kind::Group {
        return Vec::new();
    }
    let others: Vec<&ClientId> = event.members.iter().filter(|member| *member != own.client).collect();
    let body = match others.as_slice() {
        [] => return Vec::new(),
        [one] => MucBody { from: Some(own.person(one).into()), ..MucBody::default() },
        several => MucBody {
            from: Some(own.person(&event.by).into()),
            members: several.iter().map(|member| name_of(member.as_str())).collect(),
            ..MucBody::default()
        },
    };
    vec![group_event(
        id,
        event.at,
        event.conversation,
        own,
        MucBody { operation: Some(operation.into()), ..body },
    )]
}

fn updated(id: u64, event: &UpdateEvent, own: &Own<'_>) -> Vec<Bytes> {
    if event.kind != Kind::Group {
        return Vec::new();
    }
    let changed = |path: &[&str]| {
        event.changes.iter().any(|change| change.path.iter().zip(path).all(|(key, asked)| key == asked))
    };
    let value = |path: &[&str]| {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        lookup(&event.modified, &path).cloned()
    };
    let mut fields = Map::new();
    if changed(&["name"]) {
        let name = match value(&["name"]) {
            Some(Value::String(name)) => name,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        fields.insert("name".to_owned(), name.into());
    }
    for (key, word) in UPDATED {
        let path = [GROUP_ATTRIBUTES, key];
        if changed(&path)
            && let Some(value) = value(&path)
        {
            fields.insert(word.to_owned(), value);
        }
    }
    if fields.is_empty() {
        return Vec::new();
    }
    fields.insert("last_modified".to_owned(), event.at.0.into());
    let ext = Some(Value::Object(fields).to_string());
    let body = MucBody {
        operation: Some(GroupOperation::Update.into()),
        from: Some(own.person(&event.by).into()),
        event_info: Some(EventInfo { ext, ..EventInfo::default() }),
        ..MucBody::default()
    };
    vec![group_event(id, event.at, event.conversation, own, body)]
}

/// An event of a group. SDKs throw where `from` is missing, so the receiver stands in.
fn group_event(id: u64, at: Timestamp, group: ConversationId, own: &Own<'_>, body: MucBody) -> Bytes {
    let from = body.from.clone().unwrap_or_else(|| own.jid().into());
    let body = MucBody { muc_id: Some(own.group(group).into()), from: Some(from.clone()), ..body };
    event(id, at, NameSpace::Muc, from, own, body.encode_to_vec())
}

fn event(id: u64, at: Timestamp, ns: NameSpace, from: proto::Jid, own: &Own<'_>, payload: Vec<u8>) -> Bytes {
    Meta {
        id: Some(id),
        from: Some(from),
        to: Some(own.jid().into()),
        timestamp: Some(wire_ms(at.0)),
        ns: Some(ns.into()),
        payload: Some(payload.into()),
        ..Meta::default()
    }
    .encode_to_vec()
    .into()
}

// ---- notes ------------------------------------------------------------------------------------------

/// The metas of one note; none where this device caused it or the wire has no word for it.
/// `group_name` is what the note's group is called, where the caller knows.
pub(crate) fn note(note: &Note, own: &Own<'_>, group_name: Option<&str>) -> Vec<Bytes> {
    let id = (note.number & ID_MAX).max(1);
    match &note.what {
        NoteKind::Joined(event) => {
            let operation =
                if event.by == *own.client { GroupOperation::Create } else { GroupOperation::DirectJoined };
            own_membership(id, operation, event, own, group_name)
        }
        NoteKind::Left(event) => {
            let operation =
                if event.by == *own.client { GroupOperation::Leave } else { GroupOperation::Kick };
            own_membership(id, operation, event, own, group_name)
        }
        NoteKind::Receipt(receipt) => receipt_meta(id, receipt, note.address.as_ref(), own),
        NoteKind::ReadHere { device, .. } => read_here(id, note, device.as_ref(), own),
        NoteKind::ConversationDeleted { by, device, .. } => {
            conversation_notice(id, note, own, by, device.as_ref(), "del", None)
        }
        NoteKind::MessagesRemoved { conversation, device, removal } => {
            let place = match (conversation, &note.address) {
                (None, _) => None,
                (Some(_), Some(address)) => Some(address),
                (Some(_), None) => return Vec::new(),
            };
            messages_removed(id, note.at, own, place, device.as_ref(), removal.as_ref())
        }
        NoteKind::Listed { device, change, .. } => {
            let (op, mark) = match change {
                ListChange::Pin(true) => ("top", None),
                ListChange::Pin(false) => ("not_top", None),
                ListChange::Mark(mark, true) => ("mark", Some(*mark)),
                ListChange::Mark(mark, false) => ("mark_delete", Some(*mark)),
            };
            conversation_notice(id, note, own, own.client, device.as_ref(), op, mark)
        }
        NoteKind::Ended { conversation, name, by } => {
            let body = MucBody {
                operation: Some(GroupOperation::Destroy.into()),
                from: Some(own.person(by).into()),
                muc_name: Some(name.as_ref().to_owned()),
                ..MucBody::default()
            };
            vec![group_event(id, note.at, *conversation, own, body)]
        }
        NoteKind::Role { conversation, by, change } => {
            let (operation, whom) = match change {
                RoleChange::Owner(whom) => (GroupOperation::AssignOwner, whom),
                RoleChange::Admin(whom) => (GroupOperation::AddAdmin, whom),
                RoleChange::NoAdmin(whom) => (GroupOperation::RemoveAdmin, whom),
            };
            let body = MucBody {
                operation: Some(operation.into()),
                from: Some(own.person(by).into()),
                to: vec![own.person(whom).into()],
                ..MucBody::default()
            };
            vec![group_event(id, note.at, *conversation, own, body)]
        }
        NoteKind::Contact { peer, notice } => vec![contact(id, note.at, own, peer, notice)],
    }
}

/// The receiver is in a group, or no longer.
fn own_membership(
    id: u64,
    operation: GroupOperation,
    event: &MemberEvent,
    own: &Own<'_>,
    group_name: Option<&str>,
) -> Vec<Bytes> {
    if event.kind != Kind::Group {
        return Vec::new();
    }
    let body = MucBody {
        operation: Some(operation.into()),
        from: Some(own.person(&event.by).into()),
        to: vec![own.jid().into()],
        muc_name: group_name.map(str::to_owned),
        ..MucBody::default()
    };
    vec![group_event(id, event.at, event.conversation, own, body)]
}

/// A receipt to the message's sender (client 5.9). Groups only have those of readers one by one.
fn receipt_meta(id: u64, receipt: &Receipt, address: Option<&Address>, own: &Own<'_>) -> Vec<Bytes> {
    let Some(address) = address else { return Vec::new() };
    let of = match (address.kind == Kind::Direct, receipt.read, receipt.whole) {
        (true, true, true) => BodyType::ChannelAck,
        (true, false, _) => BodyType::DeliverAck,
        (true, true, false) | (false, true, false) => BodyType::ReadAck,
        (false, true, true) | (false, false, _) => return Vec::new(),
    };
    let message = receipt.message.as_u64();
    let counted = (address.kind != Kind::Direct).then(|| {
        let count = json!({ message.to_string(): receipt.readers.unwrap_or(1) });
        bodies::key_value("group_ack", &count.to_string().into())
    });
    let (from, to) = (own.person(&receipt.by), own.destination(address, &receipt.by));
    let body = MessageBody {
        ack_message_id: (of != BodyType::ChannelAck).then_some(message),
        ack_content: receipt.note.as_deref().map(str::to_owned),
        ext: counted.into_iter().collect(),
        ..MessageBody::default()
    };
    let body = bodies::address(body, of, &from.name, &to.name);
    vec![sign(id, receipt.at, &from, &to, body).encode_to_vec().into()]
}

fn read_here(id: u64, note: &Note, device: Option<&DeviceId>, own: &Own<'_>) -> Vec<Bytes> {
    let Some(address) = note.address.as_ref().filter(|_| !own.did(own.client, device)) else {
        return Vec::new();
    };
    let to = own.destination(address, own.client);
    let from = own.jid();
    let body = bodies::address(MessageBody::default(), BodyType::ChannelAck, &from.name, &to.name);
    vec![sign(id, note.at, &from, &to, body).encode_to_vec().into()]
}

fn contact(id: u64, at: Timestamp, own: &Own<'_>, peer: &ClientId, notice: &ContactNotice) -> Bytes {
    let (operation, reason) = match notice {
        ContactNotice::Requested(words) => (RosterOperation::Add, words.as_ref()),
        ContactNotice::Added => (RosterOperation::Accept, ""),
        ContactNotice::Accepted => (RosterOperation::RemoteAccept, ""),
        ContactNotice::Declined => (RosterOperation::RemoteDecline, ""),
        ContactNotice::Removed => (RosterOperation::Remove, ""),
    };
    let from: proto::Jid = own.person(peer).into();
    let body = RosterBody {
        operation: Some(operation.into()),
        from: Some(from.clone()),
        to: vec![own.jid().into()],
        reason: Some(reason.to_owned()),
        ..RosterBody::default()
    };
    event(id, at, NameSpace::Roster, from, own, body.encode_to_vec())
}

/// How a notice names a conversation: `id` or `to`, and `type` or `chatType` (client 6.4).
fn named(address: &Address, own: &Own<'_>) -> (String, &'static str) {
    let word = if address.kind == Kind::Direct { "chat" } else { "groupchat" };
    (own.destination(address, own.client).name, word)
}

fn conversation_notice(
    id: u64,
    note: &Note,
    own: &Own<'_>,
    by: &ClientId,
    device: Option<&DeviceId>,
    op: &str,
    mark: Option<u8>,
) -> Vec<Bytes> {
    let Some(address) = note.address.as_ref().filter(|_| !own.did(by, device)) else { return Vec::new() };
    let (conversation, word) = named(address, own);
    let data = json!({
        "res": device.map_or("", DeviceId::as_str),
        "from": name_of(by.as_str()),
        "op": op,
        "id": conversation,
        "type": word,
        "ts": note.at.0,
        "ext": mark.map_or_else(String::new, |mark| format!("mark_{mark}")),
    });
    vec![notice(id, note.at, Some(own), &json!({"type": "conv", "data": data}))]
}

/// Without a place it was everything everywhere: the notice then names no conversation.
fn messages_removed(
    id: u64,
    at: Timestamp,
    own: &Own<'_>,
    place: Option<&Address>,
    device: Option<&DeviceId>,
    removal: Option<&Removal>,
) -> Vec<Bytes> {
    if own.did(own.client, device) {
        return Vec::new();
    }
    let (to, word) = place.map_or_else(|| (String::new(), "chat"), |address| named(address, own));
    let mut data = json!({"resource": device.map_or("", DeviceId::as_str), "to": to, "chatType": word});
    match removal {
        Some(Removal::Messages(ids)) => {
            let ids: Vec<String> = ids.iter().map(|id| id.as_u64().to_string()).collect();
            data["msgIdList"] = ids.into();
        }
        // The wire's time is the first that stays.
        Some(Removal::Until(until)) => data["deleteTime"] = until.plus_ms(1).0.into(),
        None => data["deleteTime"] = at.plus_ms(1).0.into(),
    }
    vec![notice(id, at, Some(own), &json!({"type": "roaming_delete", "data": data}))]
}

/// A notice of JSON. SDKs read it byte by byte and can't read control characters, which JSON never has.
fn notice(id: u64, at: Timestamp, own: Option<&Own<'_>>, json: &Value) -> Bytes {
    let own = own.map(|own| proto::Jid::from(own.jid()));
    Meta {
        id: Some(id),
        from: own.clone(),
        to: own,
        timestamp: Some(wire_ms(at.0)),
        ns: Some(NameSpace::Notify.into()),
        payload: Some(json.to_string().into()),
        ..Meta::default()
    }
    .encode_to_vec()
    .into()
}

/// What a device is told before its session ends (client 3.7). `note` is what the device that took its
/// place has to say. `agora-chat` 1.4.0 reads the sender's name of every meta without asking whether there
/// is a sender, and passes over an `id` that it has seen among the last 100.
pub(crate) fn kick(id: u64, end: SessionEnd, note: Option<&str>, own: &Own<'_>) -> Bytes {
    let operation = match end {
        SessionEnd::Displaced | SessionEnd::Replaced => StatisticsOperation::UserLoginAnotherDevice,
        SessionEnd::Removed => StatisticsOperation::UserRemoved,
        SessionEnd::PasswordChanged => StatisticsOperation::UserKickedByChangePassword,
        SessionEnd::Dismissed => StatisticsOperation::UserKickedByOtherDevice,
    };
    let body = StatisticsBody {
        operation: Some(operation.into()),
        reason: note.map(str::to_owned),
        ..StatisticsBody::default()
    };
    Meta {
        id: Some((id & ID_MAX).max(1)),
        from: Some(own.jid().into()),
        ns: Some(NameSpace::Statistic.into()),
        payload: Some(body.encode_to_vec().into()),
        ..Meta::default()
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use posthouse_core::attribute::{AttributeChange, Operation};
    use posthouse_core::id::MessageId;
    use posthouse_core::message::{Origin, Payload, SchemaTag};

    use super::*;
    use crate::wire::bodies::{attributes, key_value};
    use crate::wire::proto::message_body::content::Type as PartType;

    const APP: &str = "acme#demo";
    const OTHER_WIRE: SchemaTag = SchemaTag(1);
    const ALICE: &str = "acme#demo_alice@easemob.com";

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::parse(name).unwrap()
    }

    /// What `who` gets on the device `web_2`.
    fn to<T>(who: &str, make: impl Fn(&Own<'_>) -> T) -> T {
        let (client, device) = (client(who), device("web_2"));
        make(&Own { app_key: APP, client: &client, device: &device })
    }

    fn number(bits: u64) -> ConversationId {
        ConversationId::from_u64(bits).unwrap()
    }

    fn direct(peer: &str) -> Address {
        Address { id: number(7), kind: Kind::Direct, peer: Some(client(peer)) }
    }

    fn group() -> Address {
        Address { id: number(1_001), kind: Kind::Group, peer: None }
    }

    fn text(words: &str) -> MessageBody {
        let part =
            Part { r#type: Some(PartType::Text.into()), text: Some(words.to_owned()), ..Part::default() };
        MessageBody { contents: vec![part], ..MessageBody::default() }
    }

    /// A stored text of a device; of the server for the empty one.
    fn stored(words: &str, resource: &str) -> Body {
        let body = bodies::address(text(words), BodyType::Chat, "alice", "BOB");
        let bytes = meta::compose(NameSpace::Chat, &body.encode_to_vec(), resource);
        Body { kind: BodyKind::Text, summary: None, payload: Payload { schema: SCHEMA, bytes } }
    }

    fn foreign(words: &'static str) -> Body {
        let bytes = Bytes::from_static(words.as_bytes());
        Body { kind: BodyKind::Text, summary: None, payload: Payload { schema: OTHER_WIRE, bytes } }
    }

    fn theirs(body: &Body) -> Content {
        let words = String::from_utf8(body.payload.bytes.to_vec()).unwrap();
        let attributes = json!({"a": 1, "em_at_list": "kept by none"}).as_object().unwrap().clone();
        Content { what: Saying::Text(words), attributes }
    }

    fn message(sender: &str, body: Body) -> Message {
        Message {
            id: MessageId::from_u64(77).unwrap(),
            conversation: number(7),
            seq: Seq(3),
            timestamp: Timestamp(5_000),
            sender: client(sender),
            body,
            mentions: Mentions::default(),
            receipt: true,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: Origin::Client,
            edits: 0,
            patched_by: None,
        }
    }

    fn decoded(meta: &Bytes) -> (Meta, MessageBody) {
        let meta = Meta::decode(meta.clone()).unwrap();
        assert!(meta.id.unwrap() > 0 && meta.id.unwrap() <= ID_MAX);
        let body = MessageBody::decode(meta.payload.clone().unwrap()).unwrap();
        assert!(!body.contents.is_empty(), "SDKs look at the first content of every message");
        (meta, body)
    }

    fn only<T: AsRef<[Bytes]>>(metas: T) -> Bytes {
        assert_eq!(metas.as_ref().len(), 1);
        metas.as_ref()[0].clone()
    }

    fn jid_text(jid: Option<proto::Jid>) -> String {
        let jid = Jid::from(jid.unwrap());
        let resource = if jid.resource.is_empty() { String::new() } else { format!("/{}", jid.resource) };
        format!("{}{resource}", full(&jid))
    }

    fn names(body: &MessageBody) -> (&str, &str) {
        (body.from.as_ref().unwrap().name(), body.to.as_ref().unwrap().name())
    }

    #[test]
    fn queues_are_named_after_the_other_or_the_group() {
        assert_eq!(queue_of(&direct("Bob"), APP), Jid::person(APP, "x--42ob"));
        assert_eq!(queue_of(&group(), APP), Jid::conference(APP, "1001"));
        assert_eq!(system_queue(), Jid::system());
    }

    #[test]
    fn a_message_says_from_whom_and_to_whom_as_its_receiver_sees_it() {
        for (sender, receiver, address, from, to_jid, kind, in_body) in [
            ("alice", "bob", direct("alice"), "alice@easemob.com/web_1", "bob@easemob.com", 1, "bob"),
            ("alice", "alice", direct("bob"), "alice@easemob.com/web_1", "bob@easemob.com", 1, "bob"),
            ("alice", "alice", direct("alice"), "alice@easemob.com/web_1", "alice@easemob.com", 1, "alice"),
            ("alice", "bob", group(), "alice@easemob.com/web_1", "1001@conference.easemob.com", 2, "1001"),
        ] {
            let said = message(sender, stored("hi", "web_1"));
            let (meta, body) = decoded(&to(receiver, |own| message_meta(&said, &address, own, &theirs)));
            assert_eq!((meta.id, meta.timestamp, meta.ns), (Some(77), Some(5_000), Some(1)));
            assert_eq!(jid_text(meta.from), format!("acme#demo_{from}"));
            assert_eq!(jid_text(meta.to), format!("acme#demo_{to_jid}"));
            assert_eq!((body.r#type, names(&body)), (Some(kind), ("alice", in_body)));
            assert_eq!(body.contents[0].text(), "hi");
            assert_eq!(body.meta, None);
        }
        let from_server = message("alice", stored("hi", ""));
        let (meta, _) = decoded(&to("bob", |own| message_meta(&from_server, &direct("alice"), own, &theirs)));
        assert_eq!(jid_text(meta.from), ALICE);
    }

    #[test]
    fn some_messages_are_for_one_device_or_for_their_receiver_alone() {
        let only_for = |whom: &str| {
            let body = stored("hi", "");
            let bytes = meta::for_only(&body.payload.bytes, whom);
            Body { payload: Payload { schema: SCHEMA, bytes }, ..body }
        };
        for (whom, who, is_theirs) in [
            ("bob", "bob", true),
            ("bob", "alice", false),
            ("bo", "bob", false),
            ("x--42ob", "Bob", true),
            ("alice/web_2", "alice", true),
            ("alice/web_3", "alice", false),
            ("alice/web_2/x", "alice", false),
        ] {
            let said = message("alice", only_for(whom));
            assert_eq!(to(who, |own| is_for(own, &said.body)), is_theirs, "{whom} {who}");
            let entry = Entry { seq: Seq(3), what: EntryKind::Message(said) };
            let metas = to(who, |own| self::entry(&entry, &direct("bob"), own, &theirs));
            assert_eq!(metas.len(), usize::from(is_theirs));
        }
        assert!(to("alice", |own| is_for(own, &stored("hi", "")) && is_for(own, &foreign("hi"))));
        let own = message("alice", only_for("alice/web_3"));
        let (meta, body) = decoded(&to("alice", |own_| message_meta(&own, &direct("alice"), own_, &theirs)));
        assert_eq!(jid_text(meta.to), format!("{ALICE}/web_3"));
        assert_eq!((names(&body), meta.directed_users), (("alice", "alice"), Vec::new()));
    }

    #[test]
    fn what_the_server_knows_of_a_message_comes_with_it() {
        let edited = Message {
            edits: 2,
            patched_at: Some(Timestamp(6_000)),
            patched_by: Some(client("Carol")),
            delivered_at: Some(Timestamp(1)),
            read_at: Some(Timestamp(2)),
            ..message("alice", stored("hi", "web_1"))
        };
        let edit = json!({"count": 2, "operator": "x--43arol", "edit_time": 6_000});
        for (receiver, address, wanted) in [
            ("bob", direct("alice"), json!({"edit_msg": edit})),
            ("alice", direct("bob"), json!({"edit_msg": edit, "isDelivered": true, "isRead": true})),
            ("alice", group(), json!({"edit_msg": edit})),
        ] {
            let (_, body) = decoded(&to(receiver, |own| message_meta(&edited, &address, own, &theirs)));
            assert_eq!(serde_json::from_str::<Value>(body.meta()).unwrap(), wanted);
        }
    }

    #[test]
    fn another_wires_message_is_written_as_ours() {
        let mut said = message("Tom", foreign("from there"));
        said.mentions = Mentions { all: false, clients: vec![client("bob"), client("Carol")] };
        let (meta, body) = decoded(&to("bob", |own| message_meta(&said, &group(), own, &theirs)));
        assert_eq!(jid_text(meta.from), "acme#demo_x--54om@easemob.com");
        assert_eq!(body.contents[0].text(), "from there");
        let attributes = Value::Object(attributes(&body.ext));
        assert_eq!(attributes, json!({"a": 1, "em_at_list": ["bob", "x--43arol"]}));
        said.mentions = Mentions { all: true, clients: vec![] };
        let (_, body) = decoded(&to("bob", |own| message_meta(&said, &group(), own, &theirs)));
        assert_eq!(bodies::attributes(&body.ext)["em_at_list"], json!("ALL"));
    }

    #[test]
    fn stored_bytes_that_are_none_show_as_a_line() {
        let mut broken = message("alice", stored("hi", "web_1"));
        broken.body.payload.bytes = Bytes::from_static(b"\xff\xff\xff");
        let (meta, body) = decoded(&to("bob", |own| message_meta(&broken, &direct("alice"), own, &theirs)));
        assert_eq!((meta.id, body.contents[0].text()), (Some(77), "[message]"));
        let listed = to("bob", |own| json!(listed_meta(&broken, &direct("alice"), own, &theirs)));
        assert!(listed["payload"].as_str().unwrap().contains("[message]"));
    }

    #[test]
    fn lists_have_full_addresses_and_the_payload_as_text() {
        let edited = Message {
            edits: 1,
            patched_at: Some(Timestamp(6_000)),
            ..message("alice", stored("hi", "web_1"))
        };
        let listed = to("bob", |own| json!(listed_meta(&edited, &direct("alice"), own, &theirs)));
        let payload: Value = serde_json::from_str(listed["payload"].as_str().unwrap()).unwrap();
        assert_eq!(
            payload,
            json!({
                "bodies": [{"type": "txt", "msg": "hi"}], "ext": {}, "from": "alice", "to": "bob",
                "type": "chat",
                "meta": {"edit_msg": {"count": 1, "operator": "alice", "edit_time": 6_000}},
            })
        );
        assert_eq!(
            (&listed["id"], &listed["from"], &listed["to"], &listed["timestamp"]),
            (&json!("77"), &json!(ALICE), &json!("acme#demo_bob@easemob.com"), &json!(5_000))
        );
        let listed =
            to("bob", |own| json!(listed_meta(&message("Tom", foreign("x")), &group(), own, &theirs)));
        assert_eq!(listed["to"], json!("acme#demo_1001@conference.easemob.com"));
        let payload: Value = serde_json::from_str(listed["payload"].as_str().unwrap()).unwrap();
        assert_eq!((&payload["from"], &payload["type"]), (&json!("x--54om"), &json!("groupchat")));
        let recalled = Body { kind: BodyKind::Recalled, ..stored("x", "web_1") };
        let listed =
            to("bob", |own| json!(listed_meta(&message("alice", recalled.clone()), &group(), own, &theirs)));
        assert_eq!(listed, json!({}));
    }

    #[test]
    fn a_transient_message_finds_its_queue_by_the_pair() {
        let said = message("alice", stored("hi", "web_1"));
        let pair = [client("alice"), client("bob")];
        for (receiver, kind, pair, wanted) in [
            ("bob", Kind::Direct, Some(&pair[..]), Jid::person(APP, "alice")),
            ("alice", Kind::Direct, Some(&pair[..]), Jid::person(APP, "bob")),
            ("alice", Kind::Direct, Some(&pair[..1]), Jid::person(APP, "alice")),
            ("bob", Kind::Group, None, Jid::conference(APP, "7")),
        ] {
            let (queue, meta) = to(receiver, |own| transient(&said, kind, pair, own, &theirs));
            assert_eq!(queue, wanted);
            decoded(&meta);
        }
    }

    fn entries(receiver: &str, address: &Address, what: EntryKind) -> Vec<Bytes> {
        let told = Entry { seq: Seq(9), what };
        to(receiver, |own| entry(&told, address, own, &theirs))
    }

    #[test]
    fn a_device_does_not_hear_what_it_said_itself() {
        for (sender, resource, receiver, copies) in [
            ("alice", "web_2", "alice", 0),
            ("alice", "web_1", "alice", 1),
            ("alice", "", "alice", 1),
            ("bob", "web_2", "alice", 1),
        ] {
            let said = message(sender, stored("hi", resource));
            assert_eq!(entries(receiver, &direct("bob"), EntryKind::Message(said)).len(), copies);
        }
        let elsewhere = EntryKind::Message(message("alice", foreign("x")));
        assert_eq!(entries("alice", &direct("bob"), elsewhere).len(), 1);
        let recalled = message("bob", Body { kind: BodyKind::Recalled, ..stored("x", "") });
        assert!(entries("alice", &direct("bob"), EntryKind::Message(recalled)).is_empty());
    }

    fn patch(by: &str, body: Body, kind: Kind) -> Patch {
        Patch {
            conversation: number(7),
            kind,
            message: MessageId::from_u64(77).unwrap(),
            timestamp: Timestamp(5_000),
            sender: client("alice"),
            body,
            mentions: Mentions::default(),
            at: Timestamp(6_000),
            seq: Seq(9),
            by: client(by),
            edits: 1,
        }
    }

    /// An edit from the device `resource`, of a message from `web_1`.
    fn edited(words: &str, resource: &str) -> Body {
        let mut body = stored(words, "web_1");
        let jid = proto::Jid { client_resource: Some(resource.to_owned()), ..proto::Jid::default() };
        let mut bytes = body.payload.bytes.to_vec();
        raw::append_bytes(&mut bytes, 3, &jid.encode_to_vec());
        body.payload.bytes = bytes.into();
        body
    }

    #[test]
    fn an_edit_carries_the_whole_message_and_who_did_it() {
        let change = patch("carol", edited("new", "web_1"), Kind::Group);
        let (meta, body) = decoded(&only(entries("bob", &group(), EntryKind::Patched(change.clone()))));
        assert_eq!((meta.id, meta.timestamp), (Some(1_010), Some(6_000)));
        assert_eq!((body.r#type, body.edit_message_id, body.edit_scope), (Some(8), Some(77), Some(2)));
        assert_eq!((body.contents[0].text(), names(&body)), ("new", ("alice", "1001")));
        let wanted = json!({"count": 1, "operator": "carol", "edit_time": 6_000, "sender": "alice",
            "send_time": 5_000, "chat_type": "chat:group"});
        assert_eq!(serde_json::from_str::<Value>(body.meta()).unwrap(), json!({"edit_msg": wanted}));
        let ack = Meta::decode(edit_ack(&change)).unwrap();
        assert_eq!(ack.ns, Some(5));
        let told: Value = serde_json::from_slice(&ack.payload.unwrap()).unwrap();
        assert_eq!(told, json!({"edit_msg": wanted}));
        let single = patch("alice", foreign("new there"), Kind::Direct);
        let (_, body) = decoded(&only(entries("bob", &direct("alice"), EntryKind::Patched(single))));
        assert_eq!((body.contents[0].text(), names(&body)), ("new there", ("alice", "bob")));
        assert!(body.meta().contains("chat:user"));
    }

    #[test]
    fn the_device_that_edited_or_recalled_needs_no_telling() {
        for (by, device, receiver, copies) in
            [("alice", "web_2", "alice", 0), ("alice", "web_1", "alice", 1), ("carol", "web_2", "alice", 1)]
        {
            let edit = patch(by, edited("new", device), Kind::Group);
            assert_eq!(entries(receiver, &group(), EntryKind::Patched(edit)).len(), copies);
            let recall = Body { kind: BodyKind::Recalled, ..stored("", device) };
            let recall = patch(by, recall, Kind::Group);
            assert_eq!(entries(receiver, &group(), EntryKind::Patched(recall)).len(), copies);
        }
    }

    #[test]
    fn a_recall_names_its_message_and_brings_its_words() {
        let mut recalled = Meta::decode(stored("", "web_1").payload.bytes).unwrap();
        recalled.ext = vec![key_value("poison", &json!([])), key_value(RECALL_WORDS, &json!("oops"))];
        let bytes = recalled.encode_to_vec().into();
        let body =
            Body { kind: BodyKind::Recalled, summary: None, payload: Payload { schema: SCHEMA, bytes } };
        let recall = patch("carol", body, Kind::Group);
        let (meta, body) = decoded(&only(entries("bob", &group(), EntryKind::Patched(recall))));
        assert_eq!((body.r#type, body.ack_message_id, names(&body)), (Some(6), Some(77), ("carol", "1001")));
        assert_eq!(meta.ext, [key_value(RECALL_WORDS, &json!("oops"))]);
        let there = Body { kind: BodyKind::Recalled, ..foreign("gone") };
        let recall = EntryKind::Patched(patch("alice", there, Kind::Direct));
        let (meta, body) = decoded(&only(entries("bob", &direct("alice"), recall)));
        assert_eq!((meta.ext.len(), names(&body)), (0, ("alice", "bob")));
    }

    fn member_event(by: &str, members: &[&str], kind: Kind) -> MemberEvent {
        MemberEvent {
            conversation: number(1_001),
            kind,
            ttl_seconds: None,
            by: client(by),
            members: members.iter().map(|id| client(id)).collect(),
            at: Timestamp(6_000),
        }
    }

    fn group_body(meta: &Bytes) -> MucBody {
        let meta = Meta::decode(meta.clone()).unwrap();
        assert_eq!(meta.ns, Some(2));
        let body = MucBody::decode(meta.payload.unwrap()).unwrap();
        assert!(!body.from.as_ref().unwrap().name().is_empty(), "SDKs throw without it");
        assert_eq!(body.muc_id.as_ref().unwrap().name(), "1001");
        body
    }

    #[test]
    fn members_come_and_go_one_by_one_or_in_a_list() {
        let joined = |members: &[&str], kind| {
            entries("bob", &group(), EntryKind::MembersJoined(member_event("alice", members, kind)))
        };
        let one = group_body(&only(joined(&["bob", "carol"], Kind::Group)));
        assert_eq!((one.operation, one.from.unwrap().name(), one.members.len()), (Some(17), "carol", 0));
        let several = group_body(&only(joined(&["carol", "Dave"], Kind::Group)));
        assert_eq!(several.members, ["carol", "x--44ave"]);
        assert!(joined(&["bob"], Kind::Group).is_empty());
        assert!(joined(&["alice", "carol"], Kind::Direct).is_empty());
        let left = member_event("carol", &["carol"], Kind::Group);
        let left = group_body(&only(entries("bob", &group(), EntryKind::MembersLeft(left))));
        assert_eq!((left.operation, left.from.unwrap().name()), (Some(18), "carol"));
    }

    #[test]
    fn an_update_tells_what_this_wire_knows_of() {
        let change = |path: &[&str]| AttributeChange {
            path: path.iter().map(|key| (*key).to_owned()).collect(),
            operation: Operation::Delete,
        };
        let update = |paths: &[&[&str]], modified: Value| {
            let event = UpdateEvent {
                conversation: number(1_001),
                kind: Kind::Group,
                by: client("alice"),
                changes: paths.iter().map(|path| change(path)).collect(),
                modified: Arc::new(modified.as_object().unwrap().clone()),
                at: Timestamp(6_000),
            };
            entries("bob", &group(), EntryKind::Updated(event))
        };
        let told = |metas: Vec<Bytes>| {
            let body = group_body(&only(metas));
            assert_eq!((body.operation, body.from.unwrap().name()), (Some(14), "alice"));
            serde_json::from_str::<Value>(body.event_info.unwrap().ext()).unwrap()
        };
        let modified = json!({"name": "n", "easemob": {"membersonly": true, "description": "d"}, "attr": 1});
        let both: [&[&str]; 2] = [&["name"], &["easemob", "membersonly"]];
        assert_eq!(
            told(update(&both, modified.clone())),
            json!({"name": "n", "members_only": true, "last_modified": 6_000})
        );
        assert_eq!(
            told(update(&[&["easemob"]], modified)),
            json!({"members_only": true, "description": "d", "last_modified": 6_000})
        );
        assert_eq!(told(update(&[&["name"]], json!({}))), json!({"name": "", "last_modified": 6_000}));
        assert_eq!(
            told(update(&[&["name"]], json!({"name": 7}))),
            json!({"name": "7", "last_modified": 6_000})
        );
        assert!(update(&[&["attr", "x"]], json!({"attr": {"x": 1}})).is_empty());
    }

    fn notes(address: Option<Address>, what: NoteKind) -> Vec<Bytes> {
        let told = Note { number: 5, at: Timestamp(6_000), address, what };
        to("bob", |own| note(&told, own, Some("the group")))
    }

    #[test]
    fn the_receivers_own_membership_is_told_by_who_did_it() {
        for (by, left, operation) in
            [("bob", false, 0), ("alice", false, 19), ("bob", true, 3), ("alice", true, 10)]
        {
            let event = member_event(by, &["bob"], Kind::Group);
            let what = if left { NoteKind::Left(event) } else { NoteKind::Joined(event) };
            let body = group_body(&only(notes(Some(group()), what)));
            assert_eq!((body.operation, body.from.unwrap().name()), (Some(operation), by));
            assert_eq!((body.to[0].name(), body.muc_name.as_deref()), ("bob", Some("the group")));
        }
        for kind in [Kind::Direct, Kind::Room, Kind::Temporary { until: Timestamp(9) }] {
            let event = member_event("alice", &["bob"], kind);
            assert!(notes(None, NoteKind::Joined(event.clone())).is_empty());
            assert!(notes(None, NoteKind::Left(event)).is_empty());
        }
    }

    #[test]
    fn the_end_of_a_group_and_roles_are_told() {
        let ended = NoteKind::Ended { conversation: number(1_001), name: "old".into(), by: client("alice") };
        let body = group_body(&only(notes(None, ended)));
        assert_eq!((body.operation, body.muc_name()), (Some(1), "old"));
        for (change, operation) in [
            (RoleChange::Owner(client("bob")), 20),
            (RoleChange::Admin(client("bob")), 21),
            (RoleChange::NoAdmin(client("bob")), 22),
        ] {
            let role = NoteKind::Role { conversation: number(1_001), by: client("alice"), change };
            let body = group_body(&only(notes(Some(group()), role)));
            assert_eq!((body.operation, body.to[0].name()), (Some(operation), "bob"));
        }
    }

    fn receipt(read: bool, whole: bool) -> Receipt {
        Receipt {
            conversation: number(7),
            message: MessageId::from_u64(77).unwrap(),
            by: client("alice"),
            at: Timestamp(5_500),
            read,
            whole,
            readers: Some(3),
            note: Some("seen".into()),
        }
    }

    #[test]
    fn receipts_are_told_to_the_sender() {
        let told =
            |address: Option<Address>, read, whole| notes(address, NoteKind::Receipt(receipt(read, whole)));
        for (read, whole, of, about) in [
            (true, false, 4, Some(77)),
            (false, false, 5, Some(77)),
            (false, true, 5, Some(77)),
            (true, true, 7, None),
        ] {
            let (meta, body) = decoded(&only(told(Some(direct("alice")), read, whole)));
            assert_eq!((meta.id, meta.timestamp), (Some(5), Some(5_500)));
            assert_eq!((body.r#type, body.ack_message_id, names(&body)), (Some(of), about, ("alice", "bob")));
            assert!(body.ext.is_empty(), "SDKs take it for the number of readers");
        }
        let (meta, body) = decoded(&only(told(Some(group()), true, false)));
        assert_eq!((body.r#type, names(&body), body.ack_content()), (Some(4), ("alice", "1001"), "seen"));
        assert_eq!(json_of_first(&body), json!({"77": 3}));
        assert!(Jid::from(meta.to.unwrap()).is_conference());
        for (read, whole) in [(true, true), (false, false)] {
            assert!(told(Some(group()), read, whole).is_empty());
        }
        assert!(told(None, true, false).is_empty());
    }

    fn json_of_first(body: &MessageBody) -> Value {
        let Value::String(text) = bodies::json_of(&body.ext[0]) else { panic!() };
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn reading_elsewhere_is_told_as_a_channel_ack_of_oneself() {
        let read = |on: &str| NoteKind::ReadHere { conversation: number(7), device: Some(device(on)) };
        let (_, body) = decoded(&only(notes(Some(direct("alice")), read("web_1"))));
        assert_eq!((body.r#type, names(&body)), (Some(7), ("bob", "alice")));
        let (_, body) = decoded(&only(notes(Some(group()), read("web_1"))));
        assert_eq!(names(&body), ("bob", "1001"));
        assert!(notes(Some(group()), read("web_2")).is_empty());
        assert!(notes(None, read("web_1")).is_empty());
    }

    #[test]
    fn contacts_are_told() {
        for (news, operation, reason) in [
            (ContactNotice::Requested("hello".into()), 2, "hello"),
            (ContactNotice::Added, 4, ""),
            (ContactNotice::Accepted, 8, ""),
            (ContactNotice::Declined, 9, ""),
            (ContactNotice::Removed, 3, ""),
        ] {
            let told = only(notes(None, NoteKind::Contact { peer: client("Tom"), notice: news }));
            let meta = Meta::decode(told).unwrap();
            assert_eq!(meta.ns, Some(3));
            let body = RosterBody::decode(meta.payload.unwrap()).unwrap();
            assert_eq!((body.operation, body.reason()), (Some(operation), reason));
            assert_eq!((body.from.unwrap().name(), body.to[0].name()), ("x--54om", "bob"));
        }
    }

    fn told(metas: Vec<Bytes>) -> Value {
        let meta = Meta::decode(only(metas)).unwrap();
        assert_eq!(meta.ns, Some(5));
        let payload = meta.payload.unwrap();
        assert!(payload.iter().all(|byte| *byte >= 0x10), "SDKs read it as percent-encoded text");
        serde_json::from_slice(&payload).unwrap()
    }

    #[test]
    fn changes_of_the_list_are_told_to_other_devices() {
        let deleted = |by: &str, on: Option<&str>| NoteKind::ConversationDeleted {
            conversation: number(7),
            by: client(by),
            device: on.map(device),
            with_messages: true,
        };
        assert_eq!(
            told(notes(Some(direct("alice")), deleted("alice", Some("web_2")))),
            json!({"type": "conv", "data": {"res": "web_2", "from": "alice", "op": "del", "id": "alice",
                "type": "chat", "ts": 6_000, "ext": ""}})
        );
        assert_eq!(told(notes(Some(group()), deleted("bob", None)))["data"]["res"], json!(""));
        assert!(notes(Some(group()), deleted("bob", Some("web_2"))).is_empty());
        assert!(notes(None, deleted("alice", None)).is_empty());
        for (change, op, ext) in [
            (ListChange::Pin(true), "top", ""),
            (ListChange::Pin(false), "not_top", ""),
            (ListChange::Mark(3, true), "mark", "mark_3"),
            (ListChange::Mark(19, false), "mark_delete", "mark_19"),
        ] {
            let listed = NoteKind::Listed { conversation: number(7), device: Some(device("web_1")), change };
            assert_eq!(
                told(notes(Some(group()), listed)),
                json!({"type": "conv", "data": {"res": "web_1", "from": "bob", "op": op, "id": "1001",
                    "type": "groupchat", "ts": 6_000, "ext": ext}})
            );
        }
    }

    #[test]
    fn removed_messages_are_told_to_other_devices() {
        let removed = |conversation: Option<u64>, on: &str, removal| NoteKind::MessagesRemoved {
            conversation: conversation.map(number),
            device: Some(device(on)),
            removal,
        };
        let ids = Removal::Messages(vec![MessageId::from_u64(77).unwrap(), MessageId::from_u64(78).unwrap()]);
        assert_eq!(
            told(notes(Some(direct("alice")), removed(Some(7), "web_1", Some(ids)))),
            json!({"type": "roaming_delete", "data": {"resource": "web_1", "to": "alice",
                "chatType": "chat", "msgIdList": ["77", "78"]}})
        );
        let until = removed(Some(7), "web_1", Some(Removal::Until(Timestamp(99))));
        assert_eq!(
            told(notes(Some(group()), until))["data"],
            json!({"resource": "web_1", "to": "1001", "chatType": "groupchat", "deleteTime": 100})
        );
        assert_eq!(told(notes(None, removed(None, "web_1", None)))["data"]["to"], json!(""));
        assert!(notes(None, removed(Some(7), "web_1", None)).is_empty());
        assert!(notes(Some(group()), removed(Some(7), "web_2", None)).is_empty());
    }

    #[test]
    fn a_device_that_is_sent_away_is_told_why() {
        for (end, operation) in [
            (SessionEnd::Displaced, 2),
            (SessionEnd::Replaced, 2),
            (SessionEnd::Removed, 1),
            (SessionEnd::PasswordChanged, 3),
            (SessionEnd::Dismissed, 4),
        ] {
            let meta = Meta::decode(to("alice", |own| kick(91, end, Some("from my phone"), own))).unwrap();
            assert_eq!((meta.id, meta.ns), (Some(91), Some(0)));
            assert_eq!(jid_text(meta.from), ALICE);
            let body = StatisticsBody::decode(meta.payload.unwrap()).unwrap();
            assert_eq!((body.operation, body.reason()), (Some(operation), "from my phone"));
        }
    }
}
