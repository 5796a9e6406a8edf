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
use posthouse_leancloud::query::{self, Asked};
use posthouse_leancloud::wire::command::{Command, Envelope};
use posthouse_leancloud::wire::framing::{Framing, decode};
use posthouse_leancloud::wire::proto::{CommandType, ConvCommand, GenericCommand};
use posthouse_leancloud::{error, inbound};
use posthouse_transport::Frame;
use prost::Message as _;
use serde_json::json;

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
    let attributes = |value: serde_json::Value| value.as_object().cloned().unwrap_or_default();
    let members = vec![client("tom"), client("jerry")];
    let pair = Conversation {
        id: ConversationId::lasting(7),
        kind: Kind::Direct,
        creator: Some(client("tom")),
        attributes: attributes(json!({
            "name": "Tom & Jerry (chat)",
            "attr": {"topic": "cheese", "stars": 4.5, "tags": ["a", "b"], "deep": {"er": {"est": null}}},
        })),
        unique: Some(MemberSet::of(&members)),
        created_at: Timestamp(1_795_302_759_342),
        updated_at: Timestamp(1_795_302_759_343),
        last_message_at: Some(Timestamp(1_795_302_760_000)),
        members,
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
        muted_by: Vec::new(),
        ..pair
    };
    vec![pair, room]
}
