//! What each fuzz target does with its bytes, and what must hold then: no panic, no output out of
//! proportion to the input, and what was understood is understood again. Each says whether it
//! understood the input, so that a run can tell how deep it went.
//!
//! Shared by libFuzzer (`fuzz_targets/`) and by the replay on stable Rust
//! (`crates/testkit/tests/fuzz.rs`), which includes this file.

use bytes::Bytes;
use posthouse_core::app::Settings;
use posthouse_core::conversation::{Conversation, Kind, MemberSet};
use posthouse_core::id::{ClientId, ConversationId};
use posthouse_core::time::Timestamp;
use posthouse_easemob::query::{CONVERSATIONS_PAGE_MAX, client_of, group_of};
use posthouse_easemob::query::{
    Cursor, HISTORY_PAGE_MAX, HistoryAsked, Query, conversations_page, decode as unescape,
};
use posthouse_easemob::wire::bodies;
use posthouse_easemob::wire::frame::{self, Downlink, ProvisionReply, Status, Uplink};
use posthouse_easemob::wire::jid::Jid;
use posthouse_easemob::wire::lz4::{Decoder, Encoder};
use posthouse_easemob::wire::meta::{self, Delivery, SentMeta};
use posthouse_easemob::wire::proto::message_body::Type as BodyType;
use posthouse_easemob::wire::proto::status::ErrorCode;
use posthouse_easemob::wire::proto::{MSync, MessageBody, Meta};
use posthouse_easemob::wire::raw;
use posthouse_leancloud::query::{self, Asked};
use posthouse_leancloud::wire::command::{Command, Envelope};
use posthouse_leancloud::wire::framing::{Framing, decode};
use posthouse_leancloud::wire::proto::{CommandType, ConvCommand, GenericCommand};
use posthouse_leancloud::{error, inbound};
use posthouse_transport::Frame;
use prost::Message as _;
use serde_json::{Map, Value, json};

/// One WebSocket message: the first byte says whether it is text, the rest is its payload.
pub fn frames(bytes: &[u8]) -> bool {
    let Some((kind, payload)) = bytes.split_first() else { return false };
    let frame = if kind % 2 == 0 {
        Frame::Binary(Bytes::copy_from_slice(payload))
    } else {
        Frame::text(String::from_utf8_lossy(payload))
    };
    let Ok(command) = decode(&frame) else { return false };
    for framing in [Framing::Binary, Framing::Base64] {
        let written = framing.encode(&command);
        // A negative number takes up to ten bytes where five were read; base64 adds a third.
        let bound = 4 * payload.len() + 64;
        assert!(
            written.payload().len() <= bound,
            "{} bytes became {}",
            payload.len(),
            written.payload().len()
        );
        assert_eq!(decode(&written).as_ref(), Ok(&command), "what we write we can read");
    }
    true
}

/// One command as protobuf, up to the domain's types.
pub fn commands(bytes: &[u8]) -> bool {
    let Ok(mut command) = GenericCommand::decode(bytes) else { return false };
    let envelope = Envelope::of(&command);
    let answer = envelope.answer(CommandType::Error, None);
    assert_eq!(answer.i, command.i, "an answer has the request's serial");
    let settings = Settings::default();
    match Command::take(&mut command) {
        Command::SessionOpen(_)
        | Command::SessionClose
        | Command::SessionRefresh(_)
        | Command::SessionQuery(_)
        | Command::Echo
        | Command::Login
        | Command::Logout
        | Command::Blacklist
        | Command::Report
        | Command::ConvMemberInfo
        | Command::ConvShutup => true,
        Command::Unknown => false,
        Command::Direct(direct) => {
            let content = direct.msg.as_ref().or(direct.binary_msg.as_ref()).map_or(0, Bytes::len);
            let Ok(post) = inbound::post_message(direct, &settings) else { return false };
            assert!(post.body.payload.bytes.len() <= content, "content is kept as sent");
            assert!(post.body.summary.is_none_or(|summary| summary.len() <= 1_024));
            true
        }
        Command::Patch(patch) => {
            patch.patches.into_iter().any(|item| inbound::patch_message(item, &settings).is_ok())
        }
        Command::Ack(ack) => inbound::delivery(&ack).is_some(),
        Command::Read(read) => {
            let marks = inbound::reads(&read);
            assert!(marks.len() <= 1_000, "marks are bounded");
            !marks.is_empty()
        }
        Command::Logs(logs) => {
            let Ok(query) = inbound::history_query(&logs) else { return false };
            assert!(query.limit <= 1_000, "pages are bounded");
            true
        }
        Command::ConvStart(conv) => inbound::create_conversation(&conv, &settings).is_ok(),
        Command::ConvUpdate(conv) => inbound::attribute_changes(&conv).is_ok(),
        Command::ConvQuery(conv) => ask(Asked {
            conditions: conv.r#where.as_ref().and_then(|json| json.data.as_deref()),
            sort: conv.sort.as_deref(),
            limit: conv.limit,
            skip: conv.skip,
            temporary_ids: &conv.temp_conv_ids,
            with_last_message: conv.flag.is_some_and(|flag| flag & 2 != 0),
        }),
        Command::ConvAdd(conv)
        | Command::ConvRemove(conv)
        | Command::ConvMute(conv)
        | Command::ConvUnmute(conv)
        | Command::ConvCount(conv)
        | Command::ConvMembers(conv)
        | Command::ConvIsMember(conv)
        | Command::ConvMaxRead(conv)
        | Command::ConvStatus(conv) => names(&conv),
    }
}

/// A `where` in JSON and, after a zero byte, an order; or ids of temporary conversations.
pub fn where_query(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (conditions, sort) =
        text.split_once('\0').map_or((&*text, None), |(left, right)| (left, Some(right)));
    let ids: Vec<String> = if conditions.starts_with("_tmp:") {
        conditions.split(',').map(str::to_owned).collect()
    } else {
        Vec::new()
    };
    let limit = i32::try_from(bytes.len()).ok();
    ask(Asked {
        conditions: Some(conditions),
        sort,
        limit,
        skip: Some(-1),
        temporary_ids: &ids,
        with_last_message: false,
    })
}

/// The longest plain message of an MSYNC stream here.
const PLAIN_BYTES_MAX: usize = 256 * 1024;

/// One MSYNC message: the first byte says whether it is compressed, the rest is the message.
pub fn msync_frames(bytes: &[u8]) -> bool {
    let Some((kind, message)) = bytes.split_first() else { return false };
    let plain = if kind % 2 == 0 {
        let packed = Encoder::default().encode(message);
        let unpacked = Decoder::new(PLAIN_BYTES_MAX).decode(&packed);
        assert_eq!(unpacked.as_deref(), Ok(message), "what we pack we can unpack");
        Bytes::copy_from_slice(message)
    } else {
        let Ok(plain) = Decoder::new(PLAIN_BYTES_MAX).decode(message) else { return false };
        assert!(plain.len() <= 255 * message.len(), "no more than LZ4 can hold");
        plain
    };
    let queue = match frame::decode(plain.clone()) {
        Err(unreadable) => {
            assert!(!unreadable.to_string().is_empty());
            return false;
        }
        Ok(Uplink::Provision(login)) => {
            let status = Status::new(ErrorCode::Fail, login.token().unwrap_or_default());
            says(Downlink::Provision(ProvisionReply::refusal(&login, status)), plain.len());
            login.guid
        }
        Ok(Uplink::Unread | Uplink::Logout) => Jid::system(),
        Ok(Uplink::Pull(pull)) => pull.queue,
        Ok(Uplink::Roam(roam)) => roam.queue,
        Ok(Uplink::Send(sent)) => {
            let stored = sent.stored("web_1");
            says(Downlink::Push { queue: sent.to.clone(), metas: vec![stored], timestamp: 1 }, plain.len());
            sent.to
        }
    };
    says(Downlink::End { status: Status::OK, queue, timestamp: i64::MIN }, plain.len());
    true
}

/// An answer made of parts of a request is read again and not much longer.
fn says(downlink: Downlink, request_bytes: usize) {
    let written = downlink.encode();
    assert!(
        written.len() <= 2 * request_bytes + 256,
        "{request_bytes} bytes are answered by {}",
        written.len()
    );
    assert!(MSync::decode(written).is_ok(), "what we write we can read");
}

/// A `Meta` as a client sends it, to the store and on to a receiver.
pub fn msync_metas(bytes: &[u8]) -> bool {
    let Ok(sent) = SentMeta::read(&Bytes::copy_from_slice(bytes)) else { return false };
    let stored = sent.stored("web_1");
    let (from, to) = (Jid::person("acme#demo", "alice"), Jid::conference("acme#demo", "1001"));
    let delivery = Delivery { id: 7, from: &from, to: &to, timestamp: 1_795_302_129_043, body_meta: None };
    let delivered = meta::deliver(&stored, delivery).expect("what was read can be delivered");
    // Ids, addresses, time, route: the server's. All else is the sender's, byte for byte.
    assert_eq!(raw::strip(&delivered, &[1, 2, 3, 4]), raw::strip(bytes, &[1, 2, 3, 4, 7, 10]));
    let read = Meta::decode(delivered).expect("what we deliver can be read");
    assert_eq!((read.id, read.timestamp), (Some(7), Some(1_795_302_129_043)));
    let sender = read.from.map(Jid::from).unwrap_or_default();
    assert_eq!(sender, Jid { resource: "web_1".to_owned(), ..from.clone() });

    let Ok(body) = sent.body() else { return false };
    let _said: bool = sent.agrees_with(&body, "alice");
    let peek = meta::peek(&stored).expect("what has a body can be looked into");
    assert_eq!(peek.resource, "web_1");
    assert_eq!(peek.body_type, BodyType::try_from(body.r#type.unwrap_or_default()).ok());
    assert_eq!(peek.kind, body.contents.first().and_then(bodies::Kind::of_content));
    let known = Delivery { body_meta: Some("{}"), ..delivery };
    let with_meta = meta::deliver(&stored, known).expect("what has a body can be delivered");
    let expected = MessageBody { meta: Some("{}".to_owned()), ..body.clone() };
    let with_meta = meta::body(&with_meta).expect("what was delivered can be read");
    // As bytes, because a number that is none does not equal itself.
    assert_eq!(with_meta.encode_to_vec(), expected.encode_to_vec());
    let again = meta::edited(&stored, &sent.payload, true).expect("what has a body can be edited");
    let again = meta::body(&again).expect("what was edited can be read");
    assert_eq!(again.encode_to_vec(), body.encode_to_vec());
    true
}

/// A message: as JSON that a back end posts when it begins with a brace, else as protobuf.
pub fn msync_bodies(bytes: &[u8]) -> bool {
    if bytes.first() != Some(&b'{') {
        let Ok(body) = MessageBody::decode(bytes) else { return false };
        let shown = shown(&body, bytes.len());
        let posted: Map<String, Value> =
            [("type", &shown["bodies"][0]["type"]), ("body", &shown["bodies"][0]), ("ext", &shown["ext"])]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect();
        return bodies::from_rest(&posted, usize::MAX).is_ok();
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(bytes) else { return false };
    let Ok(body) = bodies::from_rest(&request, PLAIN_BYTES_MAX) else { return false };
    let read = MessageBody::decode(body.encode_to_vec().as_slice());
    assert_eq!(read.as_ref(), Ok(&body), "what we write we can read");
    let shown = shown(&body, bytes.len());
    let kind = request.get("type").cloned().unwrap_or_default();
    assert_eq!(shown["bodies"][0]["type"], kind, "a message stays what it is");
    true
}

/// The JSON of a message, which must not be out of proportion to the `bytes` it was made of.
fn shown(body: &MessageBody, bytes: usize) -> Map<String, Value> {
    let json = bodies::to_json(body);
    assert!(json["bodies"][0].is_object() && json["ext"].is_object(), "what SDKs read is there");
    let length = Value::Object(json.clone()).to_string().len();
    assert!(length <= 16 * bytes + 1_024, "{bytes} bytes became {length}");
    json
}

/// Whether the conversation and the members that a command names can exist.
fn names(conv: &ConvCommand) -> bool {
    let conversation = inbound::conversation_of(error::Operation::Membership, conv.cid.as_deref());
    let members = inbound::clients(&conv.m, 500);
    conversation.is_ok() && members.is_ok()
}

/// Parses a query and runs it over a few conversations.
fn ask(asked: Asked<'_>) -> bool {
    let Ok(query) = query::parse(asked, &client("tom")) else { return false };
    assert!(query.limit <= 1_000, "pages are bounded");
    let mut found: Vec<Conversation> = conversations();
    found.retain(|conversation| query.filter.matches(conversation));
    found.sort_by(|a, b| posthouse_core::query::order(&query.sort, a, b));
    true
}

fn client(id: &str) -> ClientId {
    ClientId::parse(id).expect("a short name is a client id")
}

fn conversations() -> Vec<Conversation> {
    let attributes = |value: Value| value.as_object().cloned().unwrap_or_default();
    let members = vec![client("tom"), client("jerry")];
    let pair = Conversation {
        id: ConversationId::lasting(7),
        kind: Kind::Direct,
        creator: Some(client("tom")),
        owner: None,
        admins: Vec::new(),
        attributes: attributes(json!({
            "name": "Tom & Jerry (chat)",
            "attr": {"topic": "cheese", "stars": 4.5, "tags": ["a", "b"], "deep": {"er": {"est": null}}},
        })),
        unique: Some(MemberSet::of(&members)),
        created_at: Timestamp(1_795_302_759_342),
        updated_at: Timestamp(1_795_302_759_343),
        last_message_at: Some(Timestamp(1_795_302_760_000)),
        members,
        joined: Vec::new(),
        muted_by: vec![client("jerry")],
    };
    let room = Conversation {
        id: ConversationId::lasting(8),
        kind: Kind::Room,
        creator: None,
        attributes: attributes(json!({"name": "", "open": true, "n": -1})),
        unique: None,
        last_message_at: None,
        members: Vec::new(),
        joined: Vec::new(),
        muted_by: Vec::new(),
        owner: None,
        admins: Vec::new(),
        ..pair
    };
    vec![pair, room]
}

/// A REST call: its query string, and after a zero byte the body of a request for history.
pub fn rest_calls(bytes: &[u8]) -> bool {
    let (text, body) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &bytes[bytes.len()..]),
    };
    let text = String::from_utf8_lossy(text);
    let query = Query::parse(Some(&text));
    let echoed = Value::Object(query.params()).to_string();
    // Escapes of JSON take six bytes, and each parameter a few of its own.
    assert!(echoed.len() <= 16 * text.len() + 16, "{} bytes became {}", text.len(), echoed.len());
    for name in ["limit", "pagesize", "pageSize", "pageNum"] {
        assert!(query.clamped(name, 10, 100).is_ok_and(|number| number <= 100) || query.has(name));
    }
    if let Ok((size, _)) = conversations_page(&query) {
        assert!((1..=CONVERSATIONS_PAGE_MAX).contains(&size));
    }
    for cursor in [query.get("cursor").unwrap_or_default(), &text] {
        if let Ok(cursor) = Cursor::parse(cursor) {
            assert_eq!(Cursor::parse(&cursor.text()), Ok(cursor), "what we write we can read");
        }
    }
    let segment = unescape(&text);
    assert!(segment.len() <= text.len(), "unescaping makes nothing longer");
    let named = client_of(&segment).is_some() || group_of(&segment).is_some();
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return named };
    let Ok(asked) = HistoryAsked::parse(&body, "acme#shop") else { return named };
    if let Some(query) = asked.query(ConversationId::lasting(7), true) {
        assert!((1..=HISTORY_PAGE_MAX).contains(&query.limit));
    }
    true
}
