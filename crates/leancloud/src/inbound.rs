//! From the wire to the domain: what each request's fields mean. After this file only domain types.

use std::collections::HashSet;

use bytes::Bytes;
use posthouse_core::Error;
use posthouse_core::app::Settings;
use posthouse_core::attribute::{AttributeChange, Attributes, Operation as Change};
use posthouse_core::conversation::{Authority, CreateConversation, KindWish};
use posthouse_core::id::{ClientId, ClientToken, ConversationId, MessageId};
use posthouse_core::message::{
    Body, BodyKind, Bound, Direction, HistoryQuery, Keep, KindFilter, Mentions, Origin, PatchMessage,
    Payload, PostMessage, SchemaTag, Target,
};
use posthouse_core::receipt::{Delivered, MarkDelivered, MarkRead};
use posthouse_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::error::{Code, Operation, Refusal};
use crate::wire::id::{ConversationText, NoConversation, parse_conversation, parse_message};
use crate::wire::proto::logs_command::QueryDirection;
use crate::wire::proto::{AckCommand, ConvCommand, DirectCommand, LogsCommand, PatchItem, ReadCommand};

/// Content of `msg`: text, nearly always JSON, as the sender wrote it.
pub const SCHEMA_TEXT: SchemaTag = SchemaTag(1);
/// Content of `binaryMsg`.
pub const SCHEMA_BINARY: SchemaTag = SchemaTag(2);

/// What a recalled message says.
pub const RECALLED: &str = r#"{"_lctype":-127}"#;
const RECALLED_TYPE: i32 = -127;

/// Characters kept of a message's text for previews and other wires.
const SUMMARY_CHARS_MAX: usize = 128;

/// Messages in a page of history unless the client says otherwise, and at most (Java allows 1000).
const HISTORY_DEFAULT: i32 = 20;
const HISTORY_MAX: usize = 1_000;

/// Reads marked by one command. More than a client can have conversations in its list.
const READS_MAX: usize = 1_000;

/// Keys of a conversation's row that attributes can't have: the server's own columns, and those
/// that SDKs read from a row as something else.
const RESERVED: [&str; 26] = [
    "objectId",
    "m",
    "mu",
    "c",
    "createdAt",
    "updatedAt",
    "lm",
    "tr",
    "sys",
    "unique",
    "uniqueId",
    "temp",
    "ttl",
    "conv_type",
    "joined",
    "joinedAt",
    "muted",
    "msg",
    "bin",
    "msg_mid",
    "msg_from",
    "msg_timestamp",
    "patch_timestamp",
    "mention_all",
    "mention_pids",
    "tempConvTTL",
];

/// Whether `key` names one of the server's own columns.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    RESERVED.contains(&key)
}

/// The conversation that `text` names. Made-up ids are refused without a look at the store.
pub fn conversation_id(text: &str) -> Result<ConversationId, Error> {
    let id = match parse_conversation(text) {
        Ok(ConversationText::Lasting(bits)) => ConversationId::from_u64(bits).filter(|id| !id.is_temporary()),
        Ok(ConversationText::Temporary(bits)) => {
            return ConversationId::from_u64(bits).filter(|id| id.is_temporary()).ok_or(Error::TemporaryOver);
        }
        Err(NoConversation::Temporary) => return Err(Error::TemporaryOver),
        Err(NoConversation::Lasting) => None,
    };
    id.ok_or(Error::ConversationNotFound)
}

/// The conversation that a request names.
pub fn conversation_of(operation: Operation, cid: Option<&str>) -> Result<ConversationId, Refusal> {
    conversation_id(cid.unwrap_or_default()).map_err(|error| Refusal::of(operation, &error))
}

/// The message that `text` names.
#[must_use]
pub fn message_id(text: &str) -> Option<MessageId> {
    parse_message(text).and_then(MessageId::from_u64)
}

/// Client ids of a request, at most `max` of them.
pub fn clients(ids: &[String], max: usize) -> Result<Vec<ClientId>, Refusal> {
    if ids.len() > max {
        return Err(Refusal::of(Operation::Membership, &Error::ConversationFull { max }));
    }
    ids.iter()
        .map(|id| {
            ClientId::parse(id).map_err(|wrong| {
                Refusal::new(Code::ConversationApiFailed, format!("a client id can't be used: {wrong}"))
            })
        })
        .collect()
}

/// A message to post.
pub fn post_message(direct: DirectCommand, settings: &Settings) -> Result<PostMessage, Refusal> {
    let to = conversation_of(Operation::Send, direct.cid.as_deref())?;
    let mentions = mentions(direct.mention_all.unwrap_or(false), &direct.mention_pids, settings)?;
    let binary = direct.binary_msg.filter(|bytes| !bytes.is_empty());
    let body = match (direct.msg.filter(|bytes| !bytes.is_empty()), binary) {
        (Some(text), None) => text_body(&text)?,
        (None, Some(bytes)) => binary_body(&bytes),
        (None, None) => text_body(&Bytes::new())?,
        (Some(_), Some(_)) => {
            return Err(Refusal::new(
                Code::UnparseableRawMessage,
                "a message has either text or binary content, not both",
            ));
        }
    };
    let keep = if direct.will.unwrap_or(false) {
        Keep::Will
    } else if direct.transient.unwrap_or(false) {
        Keep::Transient
    } else {
        Keep::Stored
    };
    Ok(PostMessage {
        to: Target::Conversation(to),
        origin: Origin::Client,
        body,
        mentions,
        // A token we can't keep only means that a retry isn't recognised.
        token: direct.dt.and_then(|token| ClientToken::parse(&token).ok()),
        receipt: direct.r.unwrap_or(false),
        keep,
        extra_bytes: direct.push_data.map_or(0, |push| push.len()),
    })
}

/// An edit or a recall.
pub fn patch_message(item: PatchItem, settings: &Settings) -> Result<PatchMessage, Refusal> {
    let conversation = conversation_of(Operation::Change, item.cid.as_deref())?;
    let Some(message) = item.mid.as_deref().and_then(message_id) else {
        return Err(Refusal::of(Operation::Change, &Error::MessageNotFound));
    };
    let mentions = mentions(item.mention_all.unwrap_or(false), &item.mention_pids, settings)?;
    let binary = item.binary_msg.filter(|bytes| !bytes.is_empty());
    let body = if item.recall.unwrap_or(false) {
        Body { kind: BodyKind::Recalled, summary: None, payload: payload(SCHEMA_TEXT, RECALLED.as_bytes()) }
    } else {
        match (item.data, binary) {
            (None, Some(bytes)) => binary_body(&bytes),
            // Java puts binary content into the field of texts (MessagePatchModifyPacket.java).
            (Some(data), None) if std::str::from_utf8(&data).is_err() => binary_body(&data),
            (Some(data), None) => text_body(&data)?,
            (Some(data), Some(bytes)) if data.is_empty() => binary_body(&bytes),
            (None, None) | (Some(_), Some(_)) => {
                return Err(Refusal::new(
                    Code::UnparseableRawMessage,
                    "an edit has either text or binary content",
                ));
            }
        }
    };
    Ok(PatchMessage {
        conversation,
        message,
        timestamp: item.timestamp.filter(|ms| *ms > 0).map(Timestamp),
        body,
        mentions,
        authority: Authority::Member,
        not_before: None,
        edits_max: None,
    })
}

/// A stretch of history.
pub fn history_query(logs: &LogsCommand) -> Result<HistoryQuery, Refusal> {
    let conversation = conversation_of(Operation::History, logs.cid.as_deref())?;
    let bound = |time: Option<i64>, id: &Option<String>, included: Option<bool>| {
        // A time of 0 is how some SDKs say "none"; an id without a time says nothing.
        time.filter(|ms| *ms > 0).map(|ms| Bound {
            timestamp: Timestamp(ms),
            id: id.as_deref().and_then(message_id),
            included: included.unwrap_or(false),
        })
    };
    let limit = logs.limit.or(logs.l).unwrap_or(HISTORY_DEFAULT);
    let newer = logs.direction == Some(QueryDirection::New.into());
    let limit = usize::try_from(limit).unwrap_or(0).min(HISTORY_MAX);
    let kind = logs.lctype.filter(|kind| *kind != 0).map(asked_kind);
    Ok(HistoryQuery {
        direction: if newer { Direction::Forward } else { Direction::Backward },
        start: bound(logs.t, &logs.mid, logs.t_included),
        end: bound(logs.tt, &logs.tmid, logs.tt_included),
        kinds: kind.map(KindFilter::Exactly).into_iter().collect(),
        ..HistoryQuery::newest(conversation, limit)
    })
}

/// Read marks; what names no conversation is left out, since `read` has no answer.
#[must_use]
pub fn reads(read: &ReadCommand) -> Vec<MarkRead> {
    let all_of = |cid: &str| {
        let conversation = conversation_id(cid).ok()?;
        Some(MarkRead { conversation, until: None, id: None, device: None })
    };
    let marks = read.convs.iter().filter_map(|tuple| {
        let conversation = conversation_id(tuple.cid.as_deref()?).ok()?;
        let until = tuple.timestamp.map(Timestamp);
        // The time decides and the id is the tie-break: JS names transient messages too.
        let id = until.and(tuple.mid.as_deref()).and_then(message_id);
        Some(MarkRead { conversation, until, id, device: None })
    });
    let legacy = read.cid.iter().chain(&read.cids).filter_map(|cid| all_of(cid));
    marks.chain(legacy).take(READS_MAX).collect()
}

/// A delivery mark; `None` where the command names nothing that we know.
#[must_use]
pub fn delivery(ack: &AckCommand) -> Option<MarkDelivered> {
    let conversation = conversation_id(ack.cid.as_deref()?).ok()?;
    let newest = ack.ids.iter().chain(&ack.mid).filter_map(|id| message_id(id)).max();
    let until = match (ack.tots, newest) {
        (Some(ms), _) if ms > 0 => Delivered::Time(Timestamp(ms)),
        (_, Some(id)) => Delivered::Message(id),
        (_, None) => return None,
    };
    Some(MarkDelivered { conversation, until })
}

/// A conversation to make.
pub fn create_conversation(conv: &ConvCommand, settings: &Settings) -> Result<CreateConversation, Refusal> {
    let temporary = conv.temp_conv.unwrap_or(false);
    let room = conv.transient.unwrap_or(false) && !temporary;
    // A bound on the frame's list only: the domain counts each client once, and the creator with them.
    let members =
        clients(&conv.m, usize::try_from(settings.members_max).unwrap_or(usize::MAX).saturating_add(1))?;
    let mut attributes = match conv.attr.as_ref().and_then(|attr| attr.data.as_deref()) {
        None | Some("") => Attributes::new(),
        Some(json) => object(json).map_err(|words| Refusal::new(Code::ConversationApiFailed, words))?,
    };
    // JS sends columns of the server back when an app copies a conversation.
    attributes.retain(|key, value| !is_reserved(key) && !value.is_null());
    let wish = if temporary {
        KindWish::Temporary { ttl_seconds: conv.temp_conv_ttl.map(i64::from) }
    } else if room {
        KindWish::Room
    } else {
        KindWish::Lasting
    };
    Ok(CreateConversation {
        members,
        attributes,
        wish,
        // JS 4.3.1 says `false` for every temporary conversation; the same members share one anyway.
        unique: temporary || (!room && conv.unique.unwrap_or(false)),
    })
}

/// Changes of attributes.
pub fn attribute_changes(conv: &ConvCommand) -> Result<Vec<AttributeChange>, Refusal> {
    let fail = |words: String| Refusal::new(Code::ConversationUpdateFailed, words);
    let json = conv.attr.as_ref().and_then(|attr| attr.data.as_deref()).unwrap_or_default();
    let changes = object(json).map_err(|words| fail(words.to_owned()))?;
    if changes.is_empty() {
        return Err(fail("nothing is to be changed".to_owned()));
    }
    changes
        .into_iter()
        .map(|(key, value)| {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                return Err(fail(format!("`{key}` has an empty part")));
            }
            if path.first().is_some_and(|first| is_reserved(first)) {
                return Err(fail(format!("`{key}` is the server's own")));
            }
            let operation = change(value).map_err(|words| fail(format!("`{key}`: {words}")))?;
            Ok(AttributeChange { path, operation })
        })
        .collect()
}

/// A plain value replaces; an object with `__op` does what that says.
fn change(value: Value) -> Result<Change, &'static str> {
    let Value::Object(mut object) = value else {
        // Rows never hold nulls, so setting one takes the value away.
        return Ok(if value.is_null() { Change::Delete } else { Change::Set(value) });
    };
    let Some(name) = object.get("__op") else { return Ok(Change::Set(Value::Object(object))) };
    let name = name.as_str().unwrap_or_default().to_owned();
    let objects = |object: &mut Map<String, Value>| match object.remove("objects") {
        Some(Value::Array(objects)) => Ok(objects),
        Some(_) | None => Err("the operation takes a list `objects`"),
    };
    match name.as_str() {
        "Delete" => Ok(Change::Delete),
        "Increment" => match object.get("amount") {
            None => Ok(Change::Increment(Number::from(1))),
            Some(Value::Number(amount)) => Ok(Change::Increment(amount.clone())),
            Some(_) => Err("`Increment` takes a number `amount`"),
        },
        "Add" => objects(&mut object).map(Change::Add),
        "AddUnique" => objects(&mut object).map(Change::AddUnique),
        "Remove" => objects(&mut object).map(Change::Remove),
        _ => Err("the operations are Delete, Increment, Add, AddUnique and Remove"),
    }
}

fn object(json: &str) -> Result<Attributes, &'static str> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err("`attr` is not a JSON object"),
    }
}

fn mentions(all: bool, ids: &[String], settings: &Settings) -> Result<Mentions, Refusal> {
    let max = usize::try_from(settings.members_max).unwrap_or(usize::MAX);
    if ids.len() > max {
        let words = format!("a message may mention {max} clients");
        return Err(Refusal::new(Code::FrameTooLong, words));
    }
    // An id that can't exist calls nobody, and one that is named twice is called once.
    let mut seen = HashSet::with_capacity(ids.len());
    let named = ids.iter().filter_map(|id| ClientId::parse(id).ok());
    let clients = named.filter(|client| seen.insert(client.clone())).collect();
    Ok(Mentions { all, clients })
}

/// What the server reads of a typed message; everything else is the clients' own.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "_lctype", default)]
    kind: Option<Value>,
    #[serde(rename = "_lctext", default)]
    text: Option<Value>,
}

fn text_body(text: &Bytes) -> Result<Body, Refusal> {
    let Ok(content) = std::str::from_utf8(text) else {
        return Err(Refusal::new(Code::UnparseableRawMessage, "the message's text is not UTF-8"));
    };
    let typed =
        content.trim_start().starts_with('{').then(|| serde_json::from_str::<Typed>(content).ok()).flatten();
    let (kind, text_of) = match &typed {
        Some(typed) => {
            let kind = typed.kind.as_ref().and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
            (kind.map_or(BodyKind::Untyped, sent_kind), typed.text.as_ref().and_then(Value::as_str))
        }
        None => (BodyKind::Untyped, Some(content)),
    };
    let summary = text_of
        .filter(|text| !text.is_empty())
        .map(|text| text.chars().take(SUMMARY_CHARS_MAX).collect::<String>().into());
    Ok(Body { kind, summary, payload: payload(SCHEMA_TEXT, content.as_bytes()) })
}

fn binary_body(bytes: &Bytes) -> Body {
    Body { kind: BodyKind::Untyped, summary: None, payload: payload(SCHEMA_BINARY, bytes) }
}

/// Copied: what came from the socket shares a whole frame's buffer.
fn payload(schema: SchemaTag, bytes: &[u8]) -> Payload {
    Payload { schema, bytes: Bytes::copy_from_slice(bytes) }
}

/// The kind of a message by its `_lctype`. A message that only claims to be recalled is an app's own.
fn sent_kind(number: i32) -> BodyKind {
    match asked_kind(number) {
        BodyKind::Recalled => BodyKind::Custom(RECALLED_TYPE),
        kind @ (BodyKind::Text
        | BodyKind::Image
        | BodyKind::Audio
        | BodyKind::Video
        | BodyKind::Location
        | BodyKind::File
        | BodyKind::Custom(_)
        | BodyKind::Combined
        | BodyKind::Command
        | BodyKind::Untyped) => kind,
    }
}

/// The kind that a query for `_lctype` means.
fn asked_kind(number: i32) -> BodyKind {
    match number {
        0 => BodyKind::Untyped,
        -1 => BodyKind::Text,
        -2 => BodyKind::Image,
        -3 => BodyKind::Audio,
        -4 => BodyKind::Video,
        -5 => BodyKind::Location,
        -6 => BodyKind::File,
        RECALLED_TYPE => BodyKind::Recalled,
        number => BodyKind::Custom(number),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::expiry::Bucket;
    use serde_json::json;

    use super::*;
    use crate::outbound::conversation_text;
    use crate::wire::proto::{JsonObjectMessage, ReadTuple};

    fn cid() -> String {
        conversation_text(ConversationId::lasting(7))
    }

    fn direct(msg: &str) -> DirectCommand {
        DirectCommand { cid: Some(cid()), msg: Some(msg.to_owned().into()), ..DirectCommand::default() }
    }

    fn conv(attr: &Value) -> ConvCommand {
        ConvCommand {
            attr: Some(JsonObjectMessage { data: Some(attr.to_string()) }),
            ..ConvCommand::default()
        }
    }

    #[test]
    fn ids_are_refused_by_what_they_look_like() {
        assert_eq!(conversation_id(&cid()), Ok(ConversationId::lasting(7)));
        assert_eq!(conversation_id("nonsense"), Err(Error::ConversationNotFound));
        assert_eq!(conversation_id("_tmp:nonsense"), Err(Error::TemporaryOver));
        let temporary = ConversationId::temporary(Bucket::for_expiry(Timestamp(0), Timestamp(9)), 7);
        assert_eq!(conversation_id(&conversation_text(temporary)), Ok(temporary));
        // The right digits under the wrong prefix are another conversation's, and none's.
        let lasting = crate::wire::id::lasting_text(temporary.as_u64());
        assert_eq!(conversation_id(&lasting), Err(Error::ConversationNotFound));
        let disguised = crate::wire::id::temporary_text(7);
        assert_eq!(conversation_id(&disguised), Err(Error::TemporaryOver));
    }

    #[test]
    fn content_is_kept_byte_for_byte_and_its_type_is_read() {
        let settings = Settings::default();
        for (msg, kind, summary) in [
            (r#"{"_lctype":-1,"_lctext":"hi","x":1.0}"#, BodyKind::Text, Some("hi")),
            (r#" {"_lctype": -2 } "#, BodyKind::Image, None),
            (r#"{"_lctype":7}"#, BodyKind::Custom(7), None),
            (r#"{"_lctype":-127}"#, BodyKind::Custom(-127), None),
            (r#"{"_lctype":0}"#, BodyKind::Untyped, None),
            (r#"{"_lctype":"-1"}"#, BodyKind::Untyped, None),
            (r#"{"_lctype":99999999999}"#, BodyKind::Untyped, None),
            (r#"{"_lctype":-1"#, BodyKind::Untyped, Some(r#"{"_lctype":-1"#)),
            ("plain 文本", BodyKind::Untyped, Some("plain 文本")),
            ("", BodyKind::Untyped, None),
        ] {
            let post = post_message(direct(msg), &settings).unwrap();
            assert_eq!(post.body.payload, payload(SCHEMA_TEXT, msg.as_bytes()), "{msg}");
            assert_eq!((post.body.kind, post.body.summary.as_deref()), (kind, summary), "{msg}");
        }
    }

    #[test]
    fn a_message_has_one_content_of_the_right_kind() {
        let settings = Settings::default();
        let binary =
            DirectCommand { msg: None, binary_msg: Some(Bytes::from_static(b"\xff\0")), ..direct("") };
        let post = post_message(binary, &settings).unwrap();
        assert_eq!(post.body.payload, payload(SCHEMA_BINARY, b"\xff\0"));
        let both = DirectCommand { binary_msg: Some(Bytes::from_static(b"x")), ..direct("y") };
        assert_eq!(post_message(both, &settings).unwrap_err().code, Code::UnparseableRawMessage);
        let broken = DirectCommand { msg: Some(Bytes::from_static(b"\xed\xa0\xbd")), ..direct("") };
        assert_eq!(post_message(broken, &settings).unwrap_err().code, Code::UnparseableRawMessage);
    }

    #[test]
    fn a_recall_says_so_and_java_may_edit_with_raw_bytes() {
        let settings = Settings::default();
        let item = PatchItem {
            cid: Some(cid()),
            mid: Some("0000000000000abc".to_owned()),
            timestamp: Some(5),
            ..PatchItem::default()
        };
        let recall = PatchItem { recall: Some(true), ..item.clone() };
        let recall = patch_message(recall, &settings).unwrap();
        assert!(recall.is_recall());
        assert_eq!(recall.body.payload.bytes, RECALLED.as_bytes());
        let raw = PatchItem { data: Some(Bytes::from_static(b"\xff")), ..item.clone() };
        assert_eq!(patch_message(raw, &settings).unwrap().body.payload.schema, SCHEMA_BINARY);
        // An edit to the text of a recall is no recall.
        let fake = PatchItem { data: Some(RECALLED.into()), ..item.clone() };
        assert!(!patch_message(fake, &settings).unwrap().is_recall());
        assert_eq!(patch_message(item.clone(), &settings).unwrap_err().code, Code::UnparseableRawMessage);
        let unknown = PatchItem { mid: Some("x".to_owned()), ..item };
        assert_eq!(patch_message(unknown, &settings).unwrap_err().code, Code::MessageNotFound);
    }

    #[test]
    fn history_is_asked_for_in_every_sdks_way() {
        let js = LogsCommand { cid: Some(cid()), l: Some(5), direction: Some(1), ..LogsCommand::default() };
        let query = history_query(&js).unwrap();
        assert_eq!((query.limit, query.direction, query.start), (5, Direction::Backward, None));
        let java = LogsCommand {
            limit: Some(100),
            t: Some(9),
            mid: Some("0000000000000abc".to_owned()),
            t_included: Some(true),
            tt: Some(0),
            direction: Some(2),
            lctype: Some(-1),
            ..js.clone()
        };
        let query = history_query(&java).unwrap();
        assert_eq!((query.limit, query.direction, query.end), (100, Direction::Forward, None));
        let start = query.start.unwrap();
        assert_eq!(
            (start.timestamp, start.id, start.included),
            (Timestamp(9), MessageId::from_u64(0xabc), true)
        );
        assert_eq!(query.kinds, [KindFilter::Exactly(BodyKind::Text)]);
        let bare = LogsCommand { l: None, ..js };
        assert_eq!(history_query(&bare).unwrap().limit, 20);
    }

    #[test]
    fn reads_and_acks_without_meaning_are_left_out() {
        let tuple = |cid: &str, timestamp, mid: Option<&str>| ReadTuple {
            cid: Some(cid.to_owned()),
            timestamp,
            mid: mid.map(str::to_owned),
        };
        let read = ReadCommand {
            convs: vec![
                tuple(&cid(), Some(5), Some("0000000000000abc")),
                tuple(&cid(), None, Some("0000000000000abc")),
                tuple("nonsense", Some(5), None),
            ],
            cids: vec![cid()],
            ..ReadCommand::default()
        };
        let marks = reads(&read);
        assert_eq!(marks.len(), 3);
        assert_eq!((marks[0].until, marks[0].id), (Some(Timestamp(5)), MessageId::from_u64(0xabc)));
        assert_eq!((marks[1].until, marks[1].id), (None, None));
        assert_eq!((marks[2].until, marks[2].id), (None, None));

        let ack = AckCommand { cid: Some(cid()), fromts: Some(1), tots: Some(2), ..AckCommand::default() };
        assert_eq!(delivery(&ack).unwrap().until, Delivered::Time(Timestamp(2)));
        let ack = AckCommand {
            cid: Some(cid()),
            mid: Some("0000000000000abc".to_owned()),
            ..AckCommand::default()
        };
        assert!(matches!(delivery(&ack).unwrap().until, Delivered::Message(_)));
        assert_eq!(delivery(&AckCommand { cid: Some(cid()), ..AckCommand::default() }), None);
    }

    #[test]
    fn a_conversation_is_made_as_each_sdk_asks() {
        let settings = Settings::default();
        let js = ConvCommand {
            m: vec!["tom".to_owned()],
            unique: Some(true),
            ..conv(&json!({"name": "n", "hello": 1, "m": ["x"], "nothing": null}))
        };
        let create = create_conversation(&js, &settings).unwrap();
        assert_eq!(Value::Object(create.attributes), json!({"name": "n", "hello": 1}));
        assert_eq!((create.wish, create.unique), (KindWish::Lasting, true));
        let room = ConvCommand { transient: Some(true), unique: Some(true), ..ConvCommand::default() };
        let room = create_conversation(&room, &settings).unwrap();
        assert_eq!((room.wish, room.unique), (KindWish::Room, false));
        for unique in [None, Some(true), Some(false)] {
            let temporary = ConvCommand {
                temp_conv: Some(true),
                temp_conv_ttl: Some(-1),
                unique,
                ..ConvCommand::default()
            };
            let create = create_conversation(&temporary, &settings).unwrap();
            assert_eq!(create.wish, KindWish::Temporary { ttl_seconds: Some(-1) });
            assert!(create.unique, "the same members have one temporary conversation at a time");
        }
        let crowd = ConvCommand { m: vec!["x".to_owned(); 502], ..ConvCommand::default() };
        assert_eq!(create_conversation(&crowd, &settings).unwrap_err().code, Code::ConversationFull);
        let long = ConvCommand { m: vec!["x".repeat(65)], ..ConvCommand::default() };
        assert_eq!(create_conversation(&long, &settings).unwrap_err().code, Code::ConversationApiFailed);
        let broken = ConvCommand {
            attr: Some(JsonObjectMessage { data: Some("[1]".to_owned()) }),
            ..ConvCommand::default()
        };
        assert_eq!(create_conversation(&broken, &settings).unwrap_err().code, Code::ConversationApiFailed);
    }

    #[test]
    fn updates_are_operations_on_paths() {
        let changes = attribute_changes(&conv(&json!({
            "name": "new",
            "attr.x": {"__op": "Increment", "amount": 2},
            "attr.gone": {"__op": "Delete"},
            "attr.null": null,
            "attr.list": {"__op": "AddUnique", "objects": [1]},
            "attr.plain": {"y": 1},
        })))
        .unwrap();
        assert_eq!(changes[0].operation, Change::Set(json!("new")));
        assert_eq!(changes[1].path, ["attr", "x"]);
        assert_eq!(changes[1].operation, Change::Increment(2.into()));
        assert_eq!(changes[2].operation, Change::Delete);
        assert_eq!(changes[3].operation, Change::Delete);
        assert_eq!(changes[4].operation, Change::AddUnique(vec![json!(1)]));
        assert_eq!(changes[5].operation, Change::Set(json!({"y": 1})));
        for bad in [
            json!({}),
            json!({"m": ["x"]}),
            json!({"m.0": "x"}),
            json!({"a..b": 1}),
            json!({"a": {"__op": "Batch"}}),
            json!({"a": {"__op": "Add"}}),
            json!({"a": {"__op": 1}}),
            json!([]),
        ] {
            assert_eq!(
                attribute_changes(&conv(&bad)).unwrap_err().code,
                Code::ConversationUpdateFailed,
                "{bad}"
            );
        }
    }
}
