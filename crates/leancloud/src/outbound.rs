//! From the domain to the wire: answers' parts, pushes, and conversations as rows of JSON.

use bytes::Bytes;
use posthouse_core::attribute::{AttributeChange, Attributes, Operation as Change, lookup};
use posthouse_core::conversation::{Conversation, Found, Kind};
use posthouse_core::event::{Event, MemberEvent, Missed, Patch, PresenceEvent, SessionEnd, UpdateEvent};
use posthouse_core::id::{ClientId, ConversationId, MessageId};
use posthouse_core::message::{Message, Payload};
use posthouse_core::receipt::{Receipt, Unread};
use posthouse_core::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::connection::Interests;
use crate::error::{Code, Refusal};
use crate::inbound::{SCHEMA_BINARY, is_reserved};
use crate::wire::command::push;
use crate::wire::date;
use crate::wire::framing::base64_text;
use crate::wire::id::{lasting_text, message_text, temporary_text};
use crate::wire::proto::{
    CommandType, ConvCommand, DirectCommand, ErrorCommand, GenericCommand, JsonObjectMessage, LogItem,
    OpType, PatchCommand, PatchItem, PresenceCommand, RcpCommand, SessionCommand, StatusType, UnreadCommand,
    UnreadTuple,
};

/// `notificationType` of what a client must not miss, and of what it may.
const PERMANENT: i32 = 1;
const DROPPABLE: i32 = 2;

/// Conversations in one `unread` push. Their last messages come with them, so a long list in one
/// frame would be megabytes; SDKs take any number of frames.
const UNREAD_PER_FRAME: usize = 50;
/// And bytes of these messages: an app may allow large ones.
const UNREAD_BYTES_PER_FRAME: usize = 1024 * 1024;

/// A conversation's id as text.
#[must_use]
pub fn conversation_text(id: ConversationId) -> String {
    if id.is_temporary() { temporary_text(id.as_u64()) } else { lasting_text(id.as_u64()) }
}

/// A message's id as text.
#[must_use]
pub fn message_id_text(id: MessageId) -> String {
    message_text(id.as_u64())
}

/// A time as text.
#[must_use]
pub fn date_text(time: Timestamp) -> String {
    date::format(time.0)
}

/// The type of temporary conversations.
pub const TEMPORARY_TYPE: i32 = 4;

/// The number by which Java picks a conversation's class.
#[must_use]
pub fn conversation_type(kind: Kind) -> i32 {
    match kind {
        Kind::Direct | Kind::Group => 1,
        Kind::Room => 2,
        Kind::Temporary { .. } => TEMPORARY_TYPE,
    }
}

/// JSON inside protobuf.
#[must_use]
pub fn json_message(value: &Value) -> JsonObjectMessage {
    JsonObjectMessage { data: Some(value.to_string()) }
}

/// Clients as texts.
#[must_use]
pub fn client_texts(clients: &[ClientId]) -> Vec<String> {
    clients.iter().map(|client| client.as_str().to_owned()).collect()
}

/// A count as the wire's signed 32 bits.
#[must_use]
pub fn int32<T: TryInto<i32>>(number: T) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// The body of an `error` command.
#[must_use]
pub fn error(refusal: &Refusal) -> ErrorCommand {
    ErrorCommand {
        code: Some(refusal.code.number()),
        reason: Some(refusal.code.name().to_owned()),
        detail: Some(refusal.detail.clone()),
        ..ErrorCommand::default()
    }
}

/// The body of `session/closed` for a session that another device has taken.
#[must_use]
pub fn conflict() -> SessionCommand {
    SessionCommand {
        code: Some(Code::SessionConflict.number()),
        reason: Some(Code::SessionConflict.name().to_owned()),
        detail: Some("another device has logged in with this client id and tag".to_owned()),
        ..SessionCommand::default()
    }
}

/// A message of history.
#[must_use]
pub fn log_item(message: Message, conversation_type: i32) -> LogItem {
    let binary = is_binary(&message.body.payload);
    let data = if binary {
        Bytes::from(base64_text(&message.body.payload.bytes))
    } else {
        message.body.payload.bytes
    };
    LogItem {
        from: Some(message.sender.as_str().to_owned()),
        data: Some(data),
        timestamp: Some(message.timestamp.0),
        msg_id: Some(message_id_text(message.id)),
        ack_at: message.delivered_at.map(|at| at.0),
        read_at: message.read_at.map(|at| at.0),
        patch_timestamp: message.patched_at.map(|at| at.0),
        mention_all: message.mentions.all.then_some(true),
        mention_pids: client_texts(&message.mentions.clients),
        bin: binary.then_some(true),
        conv_type: Some(conversation_type),
    }
}

/// A conversation as the row that queries return. `compact` leaves members out.
#[must_use]
pub fn row(found: Found, compact: bool) -> Value {
    let Found { conversation, last_message } = found;
    let mut row = Map::new();
    row.insert("objectId".to_owned(), conversation_text(conversation.id).into());
    columns(&mut row, &conversation, compact);
    if let Some(message) = last_message {
        last_message_columns(&mut row, &message);
    }
    for (key, value) in conversation.attributes {
        // Java refuses nulls, and a key of the server's own must say what the server means.
        if !is_reserved(&key) && !value.is_null() {
            row.insert(key, value);
        }
    }
    Value::Object(row)
}

fn columns(row: &mut Map<String, Value>, conversation: &Conversation, compact: bool) {
    let mut set = |key: &str, value: Value| {
        row.insert(key.to_owned(), value);
    };
    if let Some(creator) = &conversation.creator {
        set("c", creator.as_str().into());
    }
    if !compact {
        set("m", client_texts(&conversation.members).into());
    }
    set("mu", client_texts(&conversation.muted_by).into());
    set("createdAt", date_text(conversation.created_at).into());
    set("updatedAt", date_text(conversation.updated_at).into());
    if let Some(at) = conversation.last_message_at {
        // Java casts this one to a map, and every other date to a string.
        set("lm", json!({"__type": "Date", "iso": date_text(at)}));
    }
    match conversation.kind {
        Kind::Direct | Kind::Group => {
            if let Some(members) = conversation.unique {
                set("unique", true.into());
                set("uniqueId", members.to_hex().into());
            }
        }
        Kind::Room => set("tr", true.into()),
        Kind::Temporary { .. } => {
            set("temp", true.into());
            // The whole life, not the rest: three SDKs add it to `createdAt`.
            set("ttl", conversation.ttl_seconds().unwrap_or(0).into());
        }
    }
    set("conv_type", conversation_type(conversation.kind).into());
}

fn last_message_columns(row: &mut Map<String, Value>, message: &Message) {
    let mut set = |key: &str, value: Value| {
        row.insert(key.to_owned(), value);
    };
    let payload = &message.body.payload;
    let binary = is_binary(payload);
    let text = if binary {
        base64_text(&payload.bytes)
    } else {
        String::from_utf8_lossy(&payload.bytes).into_owned()
    };
    set("msg", text.into());
    // C# reads this one without a look whether it is there.
    set("bin", binary.into());
    set("msg_mid", message_id_text(message.id).into());
    set("msg_from", message.sender.as_str().into());
    set("msg_timestamp", message.timestamp.0.into());
    if let Some(at) = message.patched_at {
        set("patch_timestamp", at.0.into());
    }
    if message.mentions.all {
        set("mention_all", true.into());
    }
    if !message.mentions.clients.is_empty() {
        set("mention_pids", client_texts(&message.mentions.clients).into());
    }
}

/// Whether a client whose SDK understands `interests` is to be told of `event`.
#[must_use]
pub fn is_heard(interests: Interests, event: &Event) -> bool {
    match event {
        Event::MessagePosted { kind, .. } => interests.hears_of(*kind),
        Event::MessagePatched { patch, .. } => interests.patches() && interests.hears_of(patch.kind),
        Event::Joined(member)
        | Event::MembersJoined(member)
        | Event::Left(member)
        | Event::MembersLeft(member) => interests.hears_of(member.kind),
        Event::Updated(update) => interests.hears_of(update.kind),
        Event::UnreadChanged { unread, .. } => interests.hears_of(unread.kind),
        Event::Receipt(_) | Event::Presence(_) | Event::Noted | Event::SessionEnded { .. } => true,
    }
}

/// The push that tells of `event`, to whomever it is addressed; `None` for what this wire has no word
/// for.
#[must_use]
pub fn event(event: &Event) -> Option<GenericCommand> {
    match event {
        Event::MessagePosted { message, kind, transient, pair: _ } => {
            Some(message_posted(message, *kind, *transient))
        }
        Event::MessagePatched { patch, pair: _ } => Some(message_patched(patch)),
        Event::Joined(member) => Some(members_changed(OpType::Joined, PERMANENT, member)),
        Event::MembersJoined(member) => Some(members_changed(OpType::MembersJoined, DROPPABLE, member)),
        Event::Left(member) => Some(members_changed(OpType::Left, PERMANENT, member)),
        Event::MembersLeft(member) => Some(members_changed(OpType::MembersLeft, DROPPABLE, member)),
        Event::Updated(update) => Some(updated(update)),
        Event::UnreadChanged { unread, at } => Some(unread_push(*at, vec![unread_tuple(unread)])),
        Event::Receipt(receipt) => Some(receipt_push(receipt)),
        Event::Presence(presence) => Some(presence_push(presence)),
        // What stands in the inbox without an event of its own concerns other wires.
        Event::Noted => None,
        Event::SessionEnded { end, .. } => match end {
            SessionEnd::Displaced
            | SessionEnd::Removed
            | SessionEnd::PasswordChanged
            | SessionEnd::Dismissed => Some(GenericCommand {
                session_message: Some(conflict()),
                ..push(CommandType::Session, Some(OpType::Closed))
            }),
            // The same device is back on another socket: telling the old one would make it return too.
            SessionEnd::Replaced => None,
        },
    }
}

/// The push, addressed to `client`.
#[must_use]
pub fn addressed(client: &ClientId, push: GenericCommand) -> GenericCommand {
    GenericCommand { peer_id: Some(client.as_str().to_owned()), ..push }
}

/// The `unread` pushes of a login: one for each fifty conversations.
#[must_use]
pub fn unread_list(interests: Interests, at: Timestamp, list: &[Unread]) -> Vec<GenericCommand> {
    let mut frames: Vec<Vec<UnreadTuple>> = Vec::new();
    let mut bytes = 0;
    for unread in list.iter().filter(|unread| interests.hears_of(unread.kind)) {
        let size = unread.last_message.as_ref().map_or(0, |message| message.body.payload.bytes.len());
        bytes += size;
        match frames.last_mut() {
            Some(part) if part.len() < UNREAD_PER_FRAME && bytes <= UNREAD_BYTES_PER_FRAME => {
                part.push(unread_tuple(unread));
            }
            _ => {
                bytes = size;
                frames.push(vec![unread_tuple(unread)]);
            }
        }
    }
    frames.into_iter().map(|part| unread_push(at, part)).collect()
}

/// The `patch/modify` push of one change. One per frame: Objective-C keeps one per conversation.
#[must_use]
pub fn message_patched(patch: &Patch) -> GenericCommand {
    let (data, binary) = content(&patch.body.payload);
    let item = PatchItem {
        cid: Some(conversation_text(patch.conversation)),
        mid: Some(message_id_text(patch.message)),
        timestamp: Some(patch.timestamp.0),
        recall: Some(patch.body.kind == posthouse_core::message::BodyKind::Recalled),
        data,
        patch_timestamp: Some(patch.at.0),
        from: Some(patch.sender.as_str().to_owned()),
        binary_msg: binary,
        mention_all: Some(patch.mentions.all),
        mention_pids: client_texts(&patch.mentions.clients),
        ..PatchItem::default()
    };
    GenericCommand {
        server_ts: Some(patch.at.0),
        patch_message: Some(PatchCommand { patches: vec![item], last_patch_time: Some(patch.at.0) }),
        ..push(CommandType::Patch, Some(OpType::Modify))
    }
}

fn message_posted(message: &Message, kind: Kind, transient: bool) -> GenericCommand {
    let (msg, binary_msg) = content(&message.body.payload);
    GenericCommand {
        direct_message: Some(DirectCommand {
            msg,
            from_peer_id: Some(message.sender.as_str().to_owned()),
            timestamp: Some(message.timestamp.0),
            cid: Some(conversation_text(message.conversation)),
            id: Some(message_id_text(message.id)),
            transient: transient.then_some(true),
            patch_timestamp: message.patched_at.map(|at| at.0),
            binary_msg,
            mention_pids: client_texts(&message.mentions.clients),
            mention_all: message.mentions.all.then_some(true),
            conv_type: Some(conversation_type(kind)),
            ..DirectCommand::default()
        }),
        ..push(CommandType::Direct, None)
    }
}

fn members_changed(op: OpType, class: i32, event: &MemberEvent) -> GenericCommand {
    let names_members = matches!(op, OpType::MembersJoined | OpType::MembersLeft);
    GenericCommand {
        server_ts: Some(event.at.0),
        notification_type: Some(class),
        conv_message: Some(ConvCommand {
            m: if names_members { client_texts(&event.members) } else { Vec::new() },
            init_by: Some(event.by.as_str().to_owned()),
            ..conversation_hint(event.conversation, event.kind, event.ttl_seconds, event.at)
        }),
        ..push(CommandType::Conv, Some(op))
    }
}

/// What every push about a conversation says; Java picks the class of an unknown one by it.
fn conversation_hint(id: ConversationId, kind: Kind, ttl_seconds: Option<i64>, at: Timestamp) -> ConvCommand {
    ConvCommand {
        cid: Some(conversation_text(id)),
        udate: Some(date_text(at)),
        transient: kind.is_room().then_some(true),
        temp_conv: kind.is_temporary().then_some(true),
        temp_conv_ttl: ttl_seconds.map(int32),
        ..ConvCommand::default()
    }
}

fn updated(update: &UpdateEvent) -> GenericCommand {
    GenericCommand {
        server_ts: Some(update.at.0),
        notification_type: Some(DROPPABLE),
        conv_message: Some(ConvCommand {
            init_by: Some(update.by.as_str().to_owned()),
            attr: Some(json_message(&Value::Object(new_values(&update.changes, &update.modified)))),
            attr_modified: Some(json_message(&Value::Object((*update.modified).clone()))),
            ..conversation_hint(update.conversation, update.kind, None, update.at)
        }),
        ..push(CommandType::Conv, Some(OpType::Updated))
    }
}

/// Each changed key with its new value: JS sets exactly these, by their dotted keys, and would take
/// the `Increment` that was asked for the new value itself.
fn new_values(changes: &[AttributeChange], modified: &Attributes) -> Attributes {
    changes
        .iter()
        .map(|change| {
            let value = match (&change.operation, lookup(modified, &change.path)) {
                (Change::Delete, _) | (_, None) => json!({"__op": "Delete"}),
                (
                    Change::Set(_)
                    | Change::Increment(_)
                    | Change::Add(_)
                    | Change::AddUnique(_)
                    | Change::Remove(_),
                    Some(value),
                ) => value.clone(),
            };
            (change.path.join("."), value)
        })
        .collect()
}

fn unread_push(at: Timestamp, convs: Vec<UnreadTuple>) -> GenericCommand {
    GenericCommand {
        unread_message: Some(UnreadCommand { convs, notif_time: Some(at.0) }),
        ..push(CommandType::Unread, None)
    }
}

fn unread_tuple(unread: &Unread) -> UnreadTuple {
    let tuple = UnreadTuple {
        cid: Some(conversation_text(unread.conversation)),
        unread: Some(int32(unread.count)),
        mentioned: Some(unread.mentioned),
        conv_type: Some(conversation_type(unread.kind)),
        ..UnreadTuple::default()
    };
    // JS parses the content as soon as there is an id, so all of the message comes, or nothing.
    let Some(message) = &unread.last_message else { return tuple };
    let (data, binary_msg) = content(&message.body.payload);
    UnreadTuple {
        mid: Some(message_id_text(message.id)),
        timestamp: Some(message.timestamp.0),
        from: Some(message.sender.as_str().to_owned()),
        data,
        binary_msg,
        patch_timestamp: message.patched_at.map(|at| at.0),
        ..tuple
    }
}

fn receipt_push(receipt: &Receipt) -> GenericCommand {
    GenericCommand {
        server_ts: Some(receipt.at.0),
        notification_type: Some(DROPPABLE),
        rcp_message: Some(RcpCommand {
            id: Some(message_id_text(receipt.message)),
            cid: Some(conversation_text(receipt.conversation)),
            t: Some(receipt.at.0),
            read: receipt.read.then_some(true),
            from: Some(receipt.by.as_str().to_owned()),
        }),
        ..push(CommandType::Rcp, None)
    }
}

fn presence_push(presence: &PresenceEvent) -> GenericCommand {
    let status = if presence.online { StatusType::On } else { StatusType::Off };
    GenericCommand {
        presence_message: Some(PresenceCommand {
            status: Some(status.into()),
            session_peer_ids: client_texts(&presence.clients),
            cid: Some(conversation_text(presence.conversation)),
        }),
        ..push(CommandType::Presence, None)
    }
}

/// What was missed, in the spelling of `GET /1.1/rtm/notifications` that JS (`joined_by` as in the
/// enums) or Swift (hyphens) reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotificationStyle {
    /// Names of the wire's enums, attributes as JSON texts, classes as numbers.
    Js,
    /// Hyphens, attributes as objects, classes as words.
    Swift,
}

/// One missed notification.
#[must_use]
pub fn notification(missed: &Missed, style: NotificationStyle) -> Value {
    let class = |number: i32| match (style, number) {
        (NotificationStyle::Js, number) => Value::from(number),
        (NotificationStyle::Swift, PERMANENT) => Value::from("permanent"),
        (NotificationStyle::Swift, _) => Value::from("droppable"),
    };
    let name = |name: &str| match style {
        NotificationStyle::Js => name.to_owned(),
        NotificationStyle::Swift => name.replace('_', "-"),
    };
    let member = |op: &str, number: i32, event: &MemberEvent, names_members: bool| {
        let mut item = json!({
            "cmd": "conv",
            "op": name(op),
            "serverTs": event.at.0,
            "notificationType": class(number),
            "cid": conversation_text(event.conversation),
            "initBy": event.by.as_str(),
            "udate": date_text(event.at),
        });
        if names_members {
            item["m"] = client_texts(&event.members).into();
        }
        if event.kind.is_temporary() {
            item["tempConv"] = true.into();
            if let Some(ttl) = event.ttl_seconds {
                item["tempConvTTL"] = ttl.into();
            }
        }
        item
    };
    match missed {
        Missed::Joined(event) => member("joined", PERMANENT, event, false),
        Missed::Left(event) => member("left", PERMANENT, event, false),
        Missed::MembersJoined(event) => member("members_joined", DROPPABLE, event, true),
        Missed::MembersLeft(event) => member("members_left", DROPPABLE, event, true),
        Missed::Updated(event) => {
            let json = |object: Attributes| match style {
                NotificationStyle::Js => json!({"data": Value::Object(object).to_string()}),
                NotificationStyle::Swift => Value::Object(object),
            };
            json!({
                "cmd": "conv",
                "op": name("updated"),
                "serverTs": event.at.0,
                "notificationType": class(DROPPABLE),
                "cid": conversation_text(event.conversation),
                "initBy": event.by.as_str(),
                "udate": date_text(event.at),
                "attr": json(new_values(&event.changes, &event.modified)),
                "attrModified": json((*event.modified).clone()),
            })
        }
        Missed::Receipt(receipt) => json!({
            "cmd": "rcp",
            "serverTs": receipt.at.0,
            "notificationType": class(DROPPABLE),
            "cid": conversation_text(receipt.conversation),
            "id": message_id_text(receipt.message),
            "t": receipt.at.0,
            "read": receipt.read,
            "from": receipt.by.as_str(),
        }),
    }
}

/// Content as the pair of fields that carry it: text or binary.
fn content(payload: &Payload) -> (Option<Bytes>, Option<Bytes>) {
    if is_binary(payload) { (None, Some(payload.bytes.clone())) } else { (Some(payload.bytes.clone()), None) }
}

fn is_binary(payload: &Payload) -> bool {
    payload.schema == SCHEMA_BINARY
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::conversation::MemberSet;
    use posthouse_core::id::Seq;
    use posthouse_core::message::{Body, BodyKind, Mentions};

    use super::*;
    use crate::inbound::SCHEMA_TEXT;

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn message(schema: posthouse_core::message::SchemaTag, bytes: &'static [u8]) -> Message {
        Message {
            id: MessageId::from_u64(0xabc).unwrap(),
            conversation: ConversationId::lasting(7),
            seq: Seq(3),
            timestamp: Timestamp(5_000),
            sender: client("tom"),
            body: Body {
                kind: BodyKind::Text,
                summary: None,
                payload: Payload { schema, bytes: Bytes::from_static(bytes) },
            },
            mentions: Mentions::default(),
            receipt: false,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: posthouse_core::message::Origin::Client,
            edits: 0,
            patched_by: None,
        }
    }

    fn conversation(kind: Kind) -> Conversation {
        Conversation {
            id: ConversationId::lasting(7),
            kind,
            creator: Some(client("tom")),
            attributes: json!({"name": "n", "attr": {"x": 1}, "m": "mine", "gone": null})
                .as_object()
                .unwrap()
                .clone(),
            unique: None,
            created_at: Timestamp(1_000),
            updated_at: Timestamp(2_000),
            last_message_at: None,
            members: vec![client("tom"), client("jerry")],
            joined: Vec::new(),
            muted_by: vec![client("jerry")],
            owner: None,
            admins: Vec::new(),
        }
    }

    #[test]
    fn a_row_has_exactly_the_keys_and_types_that_sdks_cast() {
        let mut direct = conversation(Kind::Direct);
        direct.unique = Some(MemberSet([0xab; 16]));
        direct.last_message_at = Some(Timestamp(5_000));
        let found = Found { conversation: direct, last_message: Some(message(SCHEMA_TEXT, b"hi")) };
        assert_eq!(
            row(found, false),
            json!({
                "objectId": "63cbe1e40000000000000007",
                "name": "n", "attr": {"x": 1}, "c": "tom", "m": ["tom", "jerry"], "mu": ["jerry"],
                "createdAt": "1970-01-01T00:00:01.000Z", "updatedAt": "1970-01-01T00:00:02.000Z",
                "lm": {"__type": "Date", "iso": "1970-01-01T00:00:05.000Z"},
                "unique": true, "uniqueId": "ab".repeat(16), "conv_type": 1,
                "msg": "hi", "bin": false, "msg_mid": "0000000000000abc", "msg_from": "tom",
                "msg_timestamp": 5_000,
            })
        );
    }

    #[test]
    fn a_compact_row_has_no_members_and_a_row_without_messages_speaks_of_none() {
        let found = Found { conversation: conversation(Kind::Room), last_message: None };
        let row = row(found, true);
        assert_eq!(row.get("m"), None);
        assert_eq!((row["tr"].clone(), row["conv_type"].clone()), (json!(true), json!(2)));
        for key in ["msg", "bin", "lm", "unique", "temp", "ttl", "gone", "msg_mid"] {
            assert_eq!(row.get(key), None, "{key}");
        }
    }

    #[test]
    fn a_temporary_row_tells_its_whole_life() {
        let kind = Kind::Temporary { until: Timestamp(601_000) };
        let row = row(
            Found { conversation: conversation(kind), last_message: Some(message(SCHEMA_BINARY, b"\xff")) },
            false,
        );
        assert_eq!((row["ttl"].clone(), row["temp"].clone()), (json!(600), json!(true)));
        assert_eq!((row["msg"].clone(), row["bin"].clone()), (json!("/w=="), json!(true)));
    }

    #[test]
    fn every_push_is_addressed() {
        let events = [
            Event::MessagePosted {
                message: message(SCHEMA_TEXT, b"hi"),
                kind: Kind::Group,
                pair: None,
                transient: false,
            },
            Event::SessionEnded { end: SessionEnd::Displaced, note: None },
            Event::Presence(PresenceEvent {
                conversation: ConversationId::lasting(7),
                online: true,
                clients: vec![],
            }),
        ];
        for told in &events {
            let frame = addressed(&client("jerry"), event(told).unwrap());
            assert_eq!((frame.i, frame.service, frame.peer_id.as_deref()), (None, Some(2), Some("jerry")));
        }
        assert_eq!(event(&Event::SessionEnded { end: SessionEnd::Replaced, note: None }), None);
    }

    #[test]
    fn a_client_that_knows_no_temporary_conversations_hears_of_none() {
        let temporary = Event::MessagePosted {
            message: message(SCHEMA_TEXT, b"hi"),
            kind: Kind::Temporary { until: Timestamp(9) },
            pair: None,
            transient: false,
        };
        assert!(is_heard(Interests(0b10), &temporary));
        assert!(!is_heard(Interests(0b01), &temporary));
    }

    #[test]
    fn an_update_tells_js_new_values_by_dotted_key() {
        let change = |path: &[&str], operation| AttributeChange {
            path: path.iter().map(|key| (*key).to_owned()).collect(),
            operation,
        };
        let update = UpdateEvent {
            conversation: ConversationId::lasting(7),
            kind: Kind::Group,
            by: client("tom"),
            changes: [
                change(&["name"], Change::Set(json!("new"))),
                change(&["attr", "n"], Change::Increment(2.into())),
                change(&["attr", "gone"], Change::Delete),
            ]
            .into(),
            modified: json!({"name": "new", "attr": {"n": 5}}).as_object().unwrap().clone().into(),
            at: Timestamp(1),
        };
        let frame = updated(&update).conv_message.unwrap();
        let json = |message: Option<JsonObjectMessage>| -> Value {
            serde_json::from_str(&message.unwrap().data.unwrap()).unwrap()
        };
        assert_eq!(json(frame.attr), json!({"name": "new", "attr.n": 5, "attr.gone": {"__op": "Delete"}}));
        assert_eq!(json(frame.attr_modified), json!({"name": "new", "attr": {"n": 5}}));
        assert_eq!(frame.udate.as_deref(), Some("1970-01-01T00:00:00.001Z"));
    }

    #[test]
    fn an_unread_tuple_has_an_id_only_with_content() {
        let unread = Unread {
            conversation: ConversationId::lasting(7),
            kind: Kind::Group,
            count: 2,
            mentioned: false,
            last_message: None,
            head: Seq(9),
        };
        let tuple = unread_tuple(&unread);
        assert_eq!((tuple.mid, tuple.data, tuple.unread), (None, None, Some(2)));
        let full = unread_tuple(&Unread { last_message: Some(message(SCHEMA_BINARY, b"\xff")), ..unread });
        assert!(full.mid.is_some() && full.data.is_none() && full.binary_msg.is_some());
    }

    #[test]
    fn missed_notifications_have_two_spellings() {
        let event = MemberEvent {
            conversation: ConversationId::lasting(7),
            kind: Kind::Group,
            ttl_seconds: None,
            by: client("tom"),
            members: [client("jerry")].into(),
            at: Timestamp(1_000),
        };
        let js = notification(&Missed::Joined(event.clone()), NotificationStyle::Js);
        assert_eq!(
            js,
            json!({"cmd": "conv", "op": "joined", "serverTs": 1_000, "notificationType": 1,
                "cid": "63cbe1e40000000000000007", "initBy": "tom", "udate": "1970-01-01T00:00:01.000Z"})
        );
        let swift = notification(&Missed::MembersJoined(event), NotificationStyle::Swift);
        assert_eq!((swift["op"].clone(), swift["m"].clone()), (json!("members-joined"), json!(["jerry"])));
        assert_eq!(swift["notificationType"], json!("droppable"));
    }
}
