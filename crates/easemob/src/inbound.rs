//! From the wire to the domain: what a sent meta asks for. After this file only domain types.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use posthouse_core::content::Content;
use posthouse_core::id::{ClientId, ClientToken, ConversationId, DeviceId, MessageId};
use posthouse_core::message::{
    Body, BodyKind, Keep, Mentions, Message, Origin, Payload, PostMessage, SchemaTag, Target,
};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::content;
use crate::error::{Refusal, reason};
use crate::wire::jid::{Jid, PEOPLE_DOMAIN};
use crate::wire::meta::{self, SentMeta};
use crate::wire::name;
use crate::wire::proto::key_value::{Value as Typed, ValueType};
use crate::wire::proto::message_body::{EditScope, Type as BodyType};
use crate::wire::proto::meta::{NameSpace, RouteType};
use crate::wire::proto::muc_body::Operation as GroupOperation;
use crate::wire::proto::{self, KeyValue, MessageBody, Meta, MucBody};
use crate::wire::raw::{self, Malformed};

/// Stored chat messages, as [`SentMeta::stored`] and [`meta::compose`] make them.
pub(crate) const SCHEMA: SchemaTag = SchemaTag(16);

/// The key in a recall's `Meta.ext` whose text its receivers get (client 5.10).
pub(crate) const RECALL_WORDS: &str = "recallMessageExtensionInfo";

/// Characters kept of a message's text for previews and other wires.
const SUMMARY_CHARS_MAX: usize = 128;
/// The attribute that names whom a message calls (client 5.8).
pub(crate) const MENTIONS: &str = "em_at_list";
/// What it says when everybody is called.
pub(crate) const EVERYBODY: &str = "ALL";
/// Bytes of a receipt's own words.
const ACK_WORDS_BYTES_MAX: usize = 4 * 1024;

/// Numbers of the fields of `Meta` and `MessageBody` that are handled without decoding.
mod field {
    pub(super) const META_TO: u32 = 3;
    pub(super) const META_PAYLOAD: u32 = 6;
    pub(super) const META_META: u32 = 9;
    pub(super) const BODY_CONTENTS: u32 = 4;
    pub(super) const BODY_META: u32 = 9;
    pub(super) const JID_RESOURCE: u32 = 4;
}

/// Who sends a meta.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    /// `org#app`
    pub(crate) app_key: &'a str,
    /// The user who is logged in.
    pub(crate) client: &'a ClientId,
    /// On which device.
    pub(crate) device: &'a DeviceId,
}

/// What a sent meta asks for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Order {
    /// Say something.
    Post(PostMessage),
    /// Tell a message's sender that it arrived, or was read.
    Acknowledge {
        /// Where it was said.
        target: Target,
        /// Which.
        message: MessageId,
        /// Whether it was read.
        read: bool,
        /// A word to its sender.
        note: Option<Arc<str>>,
    },
    /// A conversation is read up to its end.
    MarkRead {
        /// Which.
        target: Target,
    },
    /// Take a message back.
    Recall {
        /// Where it was said.
        target: Target,
        /// Which.
        message: MessageId,
        /// What stands in its place.
        body: Body,
    },
    /// Change a message.
    Edit {
        /// Where it was said.
        target: Target,
        /// Which.
        message: MessageId,
        /// How.
        edit: Edit,
    },
    /// Enter or leave a chat room, which is not offered.
    Room {
        /// The room's number.
        id: String,
    },
    /// Nothing that concerns anybody else.
    Nothing,
}

/// Why a meta can't be taken, whoever sent it. What SDKs compare letter by letter stands in `error.rs`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The payload is not what its name space says.
    #[error("the message can't be read")]
    Malformed,
    /// No receiver, or one without a domain that we know.
    #[error("the message has no receiver")]
    NoReceiver,
    /// A receiver of another app.
    #[error("the receiver belongs to another app")]
    ForeignApp,
    /// A sender who is not the one who is logged in.
    #[error("the sender is not the user who is logged in")]
    ForeignSender,
    /// A name that no user can have.
    #[error("{name} can't be the name of a user")]
    NoUser {
        /// The name.
        name: String,
    },
    /// A number that no group can have, or a thread, which is not offered.
    #[error("there can't be such a group")]
    NoGroup,
    /// Chat rooms are not offered.
    #[error("there is no chat room {id}")]
    NoRoom {
        /// The number of the room.
        id: String,
    },
    /// A receipt, recall or edit of no message.
    #[error("the message it is about doesn't exist")]
    NoMessage,
    /// A single chat's message to a group, or the other way round.
    #[error("the message's type does not fit its receiver")]
    OtherKind,
    /// A message that says nothing.
    #[error("the message has no content")]
    Empty,
    /// An attribute that SDKs could not read.
    #[error("an attribute is not the JSON that it claims to be")]
    Attribute,
    /// A receipt with too many words.
    #[error("the receipt has too many words")]
    TooLong,
    /// A message to some members of a group only.
    #[error("messages to some members only are not offered")]
    Directed,
    /// An edit that does not fit the message.
    #[error("the edit does not fit the message")]
    EditFormat,
    /// Something else that we don't do.
    #[error("this is not offered")]
    NotOffered,
}

impl From<Malformed> for Unfit {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Malformed => Self::malformed(),
            Unfit::NoUser { .. } => Self::failed(reason::NO_USER),
            Unfit::NoGroup => Self::failed(reason::NO_GROUP),
            Unfit::NoRoom { id } => Self::no_room(&id),
            Unfit::NoMessage => Self::failed(reason::NO_MESSAGE),
            Unfit::EditFormat => Self::failed(reason::FORMAT),
            Unfit::NoReceiver
            | Unfit::ForeignApp
            | Unfit::ForeignSender
            | Unfit::OtherKind
            | Unfit::Empty
            | Unfit::Attribute
            | Unfit::TooLong
            | Unfit::Directed
            | Unfit::NotOffered => Self::failed(unfit.to_string()),
        }
    }
}

/// What `sent` asks for, or why it can't be done whoever asked.
pub(crate) fn order(sent: &SentMeta, sender: &Sender<'_>) -> Result<Order, Refusal> {
    Ok(understood(sent, sender)?)
}

fn understood(sent: &SentMeta, sender: &Sender<'_>) -> Result<Order, Unfit> {
    match sent.ns {
        Some(NameSpace::Chat) => chat(sent, sender),
        Some(NameSpace::Muc) => room(sent),
        Some(NameSpace::Statistic) => Ok(Order::Nothing),
        Some(NameSpace::Roster | NameSpace::Conference | NameSpace::Notify | NameSpace::Query) | None => {
            Err(Unfit::NotOffered)
        }
    }
}

fn chat(sent: &SentMeta, sender: &Sender<'_>) -> Result<Order, Unfit> {
    let body = sent.body()?;
    ensure_own(&body, sender)?;
    // Before the receiver is looked at: a room's number need not be one of a group.
    let body_type = BodyType::try_from(body.r#type.unwrap_or_default()).map_err(|_| Unfit::NotOffered)?;
    if body_type == BodyType::Chatroom {
        return Err(Unfit::NoRoom { id: sent.to.name.clone() });
    }
    if is_of_thread(&body) {
        return Err(Unfit::NoGroup);
    }
    let target = target(&sent.to, sender.app_key)?;
    match body_type {
        BodyType::Chat | BodyType::Groupchat => post(sent, &body, body_type, target, sender),
        BodyType::ReadAck | BodyType::DeliverAck => {
            let note = body.ack_content.as_deref().filter(|words| !words.is_empty());
            if note.is_some_and(|words| words.len() > ACK_WORDS_BYTES_MAX) {
                return Err(Unfit::TooLong);
            }
            let message = message_id(body.ack_message_id)?;
            Ok(Order::Acknowledge {
                target,
                message,
                read: body_type == BodyType::ReadAck,
                note: note.map(Arc::from),
            })
        }
        BodyType::ChannelAck => Ok(Order::MarkRead { target }),
        BodyType::Recall => {
            let message = message_id(body.ack_message_id)?;
            Ok(Order::Recall { target, message, body: recall(&sent.ext, sender.device.as_str()) })
        }
        BodyType::Edit => {
            let message = message_id(body.edit_message_id)?;
            ensure_readable(&body, &sent.ext)?;
            let edit = Edit {
                and_ext: body.edit_scope == Some(EditScope::BodyAndExt.into()),
                payload: Bytes::copy_from_slice(&sent.payload),
                body: Box::new(body),
                device: sender.device.clone(),
            };
            Ok(Order::Edit { target, message, edit })
        }
        BodyType::Normal | BodyType::Chatroom => Err(Unfit::OtherKind),
    }
}

/// Clients may say who they are, but not that they are somebody else: receivers show what they say.
fn ensure_own(body: &MessageBody, sender: &Sender<'_>) -> Result<(), Unfit> {
    let named = body.from.as_ref().and_then(|from| from.name.as_deref()).filter(|name| !name.is_empty());
    match named {
        Some(named) if client_of(named).as_ref() != Ok(sender.client) => Err(Unfit::ForeignSender),
        Some(_) | None => Ok(()),
    }
}

/// Threads are marked by `{"thread":{}}` (client 5.1).
fn is_of_thread(body: &MessageBody) -> bool {
    let known = body.meta.as_deref().and_then(|json| serde_json::from_str::<Value>(json).ok());
    known.is_some_and(|known| known.get("thread").is_some())
}

fn post(
    sent: &SentMeta,
    body: &MessageBody,
    body_type: BodyType,
    target: Target,
    sender: &Sender<'_>,
) -> Result<Order, Unfit> {
    let single = match (&target, body_type) {
        (Target::Client(_), BodyType::Chat) => true,
        (Target::Conversation(_), BodyType::Groupchat) => false,
        (Target::Client(_) | Target::Conversation(_), _) => return Err(Unfit::OtherKind),
    };
    if body.contents.is_empty() {
        return Err(Unfit::Empty);
    }
    ensure_readable(body, &sent.ext)?;
    let stored = body_of(stored(sent, &target, sender)?, body);
    let keep = match sent.route {
        _ if !sent.directed_users.is_empty() => return Err(Unfit::Directed),
        Some(RouteType::RouteDirect) => return Err(Unfit::Directed),
        Some(RouteType::RouteOnline) => Keep::Transient,
        Some(RouteType::RouteAll) if stored.kind == BodyKind::Command => Keep::Queued,
        Some(RouteType::RouteAll) => Keep::Stored,
        None => return Err(Unfit::NotOffered),
    };
    Ok(Order::Post(PostMessage {
        to: target,
        origin: Origin::Client,
        body: stored,
        mentions: mentions_of(body),
        token: token(sender.device, sent.id),
        receipt: single,
        keep,
        extra_bytes: 0,
    }))
}

/// SDKs read these as JSON without a look, and one that is none costs the receiver the messages
/// beside it too (client 4.4).
fn ensure_readable(body: &MessageBody, server_ext: &[KeyValue]) -> Result<(), Unfit> {
    let parts = body.contents.iter().flat_map(|part| part.params.iter().chain(&part.custom_exts));
    let is_bad = |pair: &KeyValue| match &pair.value {
        _ if pair.r#type != Some(ValueType::JsonString.into()) => false,
        Some(Typed::StringValue(json)) => serde_json::from_str::<Value>(json).is_err(),
        Some(Typed::VarintValue(_) | Typed::FloatValue(_) | Typed::DoubleValue(_)) | None => true,
    };
    if body.ext.iter().chain(server_ext).chain(parts).any(is_bad) {
        return Err(Unfit::Attribute);
    }
    Ok(())
}

/// What is stored of a sent message: without what only a server may say of it. What one says to another
/// device of one's own is for that device (client 5.3).
fn stored(sent: &SentMeta, target: &Target, sender: &Sender<'_>) -> Result<Bytes, Malformed> {
    let payload = raw::strip(&sent.payload, &[field::BODY_META])?;
    let mut stored =
        raw::strip(&sent.stored(sender.device.as_str()), &[field::META_PAYLOAD, field::META_META])?;
    raw::append_bytes(&mut stored, field::META_PAYLOAD, &payload);
    let is_own = matches!(target, Target::Client(client) if client == sender.client);
    if is_own && !sent.to.resource.is_empty() {
        let whom = format!("{}/{}", name::name_of(sender.client.as_str()), sent.to.resource);
        return Ok(meta::for_only(&stored, &whom));
    }
    Ok(stored.into())
}

/// Clients count their messages on one device (client 5.3). A message without a number of its own is
/// not recognised when it comes again.
fn token(device: &DeviceId, id: u64) -> Option<ClientToken> {
    if id == 0 {
        return None;
    }
    let plain = ClientToken::parse(&format!("{device}/{id}"));
    plain.or_else(|_| ClientToken::parse(&format!("{}/{id}", short(device)))).ok()
}

/// A device's name in 32 characters.
fn short(device: &DeviceId) -> String {
    let hash = Sha256::digest(device.as_str().as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The place of a recalled message, with the words that came with the recall.
pub(crate) fn recall(ext: &[KeyValue], device: &str) -> Body {
    let words = ext.iter().filter(|pair| {
        pair.key.as_deref() == Some(RECALL_WORDS) && matches!(pair.value, Some(Typed::StringValue(_)))
    });
    let words = words.map(|pair| KeyValue { r#type: Some(ValueType::String.into()), ..pair.clone() });
    let meta = Meta {
        from: (!device.is_empty()).then(|| Jid { resource: device.to_owned(), ..Jid::default() }.into()),
        ns: Some(NameSpace::Chat.into()),
        payload: Some(Bytes::new()),
        ext: words.take(1).collect(),
        ..Meta::default()
    };
    let bytes = meta.encode_to_vec().into();
    Body { kind: BodyKind::Recalled, summary: None, payload: Payload { schema: SCHEMA, bytes } }
}

fn room(sent: &SentMeta) -> Result<Order, Unfit> {
    let asked = MucBody::decode(sent.payload.clone()).map_err(|_| Unfit::Malformed)?;
    let enters_or_leaves =
        [GroupOperation::Join, GroupOperation::Leave].iter().any(|of| asked.operation == Some((*of).into()));
    if !enters_or_leaves {
        return Err(Unfit::NotOffered);
    }
    Ok(Order::Room { id: asked.muc_id.and_then(|room| room.name).unwrap_or_default() })
}

/// Where an address leads.
pub(crate) fn target_of(jid: &Jid, app_key: &str) -> Result<Target, Refusal> {
    Ok(target(jid, app_key)?)
}

fn target(jid: &Jid, app_key: &str) -> Result<Target, Unfit> {
    if jid.name.is_empty() || jid.domain.is_empty() {
        return Err(Unfit::NoReceiver);
    }
    if !jid.app_key.is_empty() && !jid.app_key.eq_ignore_ascii_case(app_key) {
        return Err(Unfit::ForeignApp);
    }
    if jid.is_conference() {
        group_id(&jid.name).map(Target::Conversation)
    } else if jid.domain == PEOPLE_DOMAIN {
        client_of(&jid.name).map(Target::Client)
    } else {
        Err(Unfit::NoReceiver)
    }
}

/// The user of a name, see [`name::id_of`].
pub(crate) fn client_of(name: &str) -> Result<ClientId, Unfit> {
    let id = name::id_of(name).ok().and_then(|id| ClientId::parse(&id).ok());
    id.ok_or_else(|| Unfit::NoUser { name: name.to_owned() })
}

/// The group of a number, written as this server writes it.
pub(crate) fn group_id(name: &str) -> Result<ConversationId, Unfit> {
    let number = name.parse::<u64>().ok().filter(|number| number.to_string() == name);
    let id = number.and_then(ConversationId::from_u64).filter(|id| !id.is_temporary());
    id.ok_or(Unfit::NoGroup)
}

fn message_id(number: Option<u64>) -> Result<MessageId, Unfit> {
    number.and_then(MessageId::from_u64).ok_or(Unfit::NoMessage)
}

/// A stored form with what the domain asks of its decoded `body`.
#[must_use]
pub(crate) fn body_of(stored: Bytes, body: &MessageBody) -> Body {
    let kind = body.contents.first().map_or(BodyKind::Untyped, content::kind_of);
    let summary = content::line(body)
        .map(|line| line.chars().take(SUMMARY_CHARS_MAX).collect::<String>())
        .map(Arc::from);
    Body { kind, summary, payload: Payload { schema: SCHEMA, bytes: stored } }
}

/// Whom a message calls. A name that can't exist calls nobody.
#[must_use]
pub(crate) fn mentions_of(body: &MessageBody) -> Mentions {
    let list = body.ext.iter().rfind(|pair| pair.key.as_deref() == Some(MENTIONS));
    match list.map(crate::wire::bodies::json_of) {
        Some(Value::String(all)) if all.eq_ignore_ascii_case(EVERYBODY) => {
            Mentions { all: true, clients: Vec::new() }
        }
        Some(Value::Array(names)) => {
            let mut seen = HashSet::new();
            let named = names.iter().filter_map(|name| client_of(name.as_str()?).ok());
            Mentions { all: false, clients: named.filter(|client| seen.insert(client.clone())).collect() }
        }
        Some(_) | None => Mentions::default(),
    }
}

/// A change of a message's content (client 5.11).
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Edit {
    and_ext: bool,
    payload: Bytes,
    body: Box<MessageBody>,
    device: DeviceId,
}

/// A message after an edit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Edited {
    /// What it says from now on.
    pub(crate) body: Body,
    /// Whom it calls from now on.
    pub(crate) mentions: Mentions,
}

impl Edit {
    /// The message with this edit. Texts and custom content change; of everything else only the
    /// attributes do. `content` reads bodies of other wires, which are rewritten as ours.
    pub(crate) fn onto(
        &self,
        message: &Message,
        content: &dyn Fn(&Body) -> Content,
    ) -> Result<Edited, Refusal> {
        Ok(self.edited(message, content)?)
    }

    fn edited(&self, message: &Message, content: &dyn Fn(&Body) -> Content) -> Result<Edited, Unfit> {
        let (before, kind) = if message.body.payload.schema == SCHEMA {
            (message.body.payload.bytes.clone(), message.body.kind)
        } else {
            let ours = content::write(message.body.kind, &content(&message.body));
            let kind = ours.contents.first().map_or(BodyKind::Untyped, content::kind_of);
            (meta::compose(NameSpace::Chat, &ours.encode_to_vec(), ""), kind)
        };
        let after = if matches!(kind, BodyKind::Text | BodyKind::Custom(_)) {
            if self.body.contents.first().map(content::kind_of) != Some(kind) {
                return Err(Unfit::EditFormat);
            }
            meta::edited(&before, &self.payload, self.and_ext)?
        } else if self.and_ext {
            meta::edited(&before, &self.with_contents_of(meta::payload(&before)?)?, true)?
        } else {
            return Err(Unfit::EditFormat);
        };
        let body = body_of(written_by(&after, self.device.as_str())?, &meta::body(&after)?);
        let mentions =
            if self.and_ext { mentions_of(&meta::body(&after)?) } else { message.mentions.clone() };
        Ok(Edited { body, mentions })
    }

    /// This edit's attributes beside the contents of `payload`.
    fn with_contents_of(&self, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut mixed = raw::strip(&self.payload, &[field::BODY_CONTENTS])?;
        for part in raw::fields(payload) {
            let part = part?;
            if part.number == field::BODY_CONTENTS {
                mixed.extend_from_slice(part.bytes);
            }
        }
        Ok(mixed)
    }
}

/// Notes in what is stored which device edited it last, where no delivery takes it from: in the
/// receiver's address.
fn written_by(stored: &[u8], device: &str) -> Result<Bytes, Malformed> {
    let to = proto::Jid { client_resource: Some(device.to_owned()), ..proto::Jid::default() };
    let mut noted = raw::strip(stored, &[field::META_TO])?;
    raw::append_bytes(&mut noted, field::META_TO, &to.encode_to_vec());
    Ok(noted.into())
}

/// The device that edited a stored message last; empty when none of ours did.
pub(crate) fn editor(stored: &[u8]) -> &str {
    let to = raw::last_bytes(stored, field::META_TO).ok().flatten().unwrap_or_default();
    let device = raw::last_bytes(to, field::JID_RESOURCE).ok().flatten().unwrap_or_default();
    std::str::from_utf8(device).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::content::Saying;
    use posthouse_core::id::Seq;
    use posthouse_core::time::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::bodies::{Kind, attributes, key_value};
    use crate::wire::jid::bare;
    use crate::wire::proto::message_body::content::{SubType, Type as PartType};
    use crate::wire::proto::message_body::{Content as Part, MessageConfig};

    const APP: &str = "acme#demo";

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn text(words: &str) -> Part {
        Part { r#type: Some(PartType::Text.into()), text: Some(words.to_owned()), ..Part::default() }
    }

    fn body(of: BodyType, part: Part) -> MessageBody {
        MessageBody {
            r#type: Some(of.into()),
            from: Some(bare("alice")),
            to: Some(bare("bob")),
            contents: vec![part],
            ..MessageBody::default()
        }
    }

    fn meta(to: Jid, body: &MessageBody) -> Meta {
        Meta {
            id: Some(530),
            to: Some(to.into()),
            ns: Some(NameSpace::Chat.into()),
            payload: Some(body.encode_to_vec().into()),
            ..Meta::default()
        }
    }

    fn ordered(meta: &Meta) -> Result<Order, Unfit> {
        let sent = SentMeta::read(&meta.encode_to_vec().into()).unwrap();
        let (alice, device) = (client("alice"), DeviceId::parse("web_1").unwrap());
        understood(&sent, &Sender { app_key: APP, client: &alice, device: &device })
    }

    fn bob() -> Jid {
        Jid::person(APP, "bob")
    }

    fn group() -> Jid {
        Jid::conference(APP, "1001")
    }

    fn posted(meta: &Meta) -> PostMessage {
        let Order::Post(post) = ordered(meta).unwrap() else { panic!("nothing was posted") };
        post
    }

    #[test]
    fn a_text_to_a_user_is_stored_with_its_device() {
        let sent = meta(Jid::person(APP, "Bob"), &body(BodyType::Chat, text("hi")));
        let post = posted(&sent);
        assert_eq!(post.to, Target::Client(client("bob")));
        assert_eq!((post.origin, post.keep, post.receipt), (Origin::Client, Keep::Stored, true));
        assert_eq!(post.token.unwrap().as_str(), "web_1/530");
        assert_eq!((post.body.kind, post.body.summary.as_deref()), (BodyKind::Text, Some("hi")));
        assert_eq!(post.body.payload.schema, SCHEMA);
        let peek = meta::peek(&post.body.payload.bytes).unwrap();
        assert_eq!((peek.resource, peek.kind), ("web_1", Some(Kind::Text)));
        assert_eq!(posted(&Meta { id: None, ..sent }).token, None);
    }

    #[test]
    fn what_is_said_to_an_own_device_is_for_that_one() {
        let to = |name: &str| Jid { resource: "ios_1".to_owned(), ..Jid::person(APP, name) };
        let said = |name: &str| MessageBody { to: Some(bare(name)), ..body(BodyType::Chat, text("hi")) };
        let whom = |name: &str, directed: &[&str]| {
            let directed_users = directed.iter().map(|name| (*name).to_owned()).collect();
            let post = ordered(&Meta { directed_users, ..meta(to(name), &said(name)) });
            let Ok(Order::Post(post)) = post else { return None };
            meta::only_for(&post.body.payload.bytes).map(str::to_owned)
        };
        assert_eq!(whom("Alice", &[]).as_deref(), Some("alice/ios_1"));
        assert_eq!((whom("bob", &[]), whom("alice", &["bob"])), (None, None));
    }

    #[test]
    fn a_long_device_is_shortened_in_tokens() {
        let device = DeviceId::parse(&"d".repeat(400)).unwrap();
        let token = token(&device, 9).unwrap();
        assert_eq!(token.as_str().len(), 34);
    }

    #[test]
    fn routes_and_kinds_decide_what_becomes_of_a_message() {
        let command = Part {
            r#type: Some(PartType::Command.into()),
            action: Some("TypingBegin".to_owned()),
            ..Part::default()
        };
        let combined = Part { sub_type: Some(SubType::SubCombine.into()), ..text("not supported here") };
        let stream = Part { sub_type: Some(SubType::SubStream.into()), ..text("so far") };
        for (part, route, keep, kind) in [
            (text("a"), RouteType::RouteAll, Keep::Stored, BodyKind::Text),
            (text("a"), RouteType::RouteOnline, Keep::Transient, BodyKind::Text),
            (command.clone(), RouteType::RouteAll, Keep::Queued, BodyKind::Command),
            (command, RouteType::RouteOnline, Keep::Transient, BodyKind::Command),
            (combined, RouteType::RouteAll, Keep::Stored, BodyKind::Combined),
            (stream, RouteType::RouteAll, Keep::Stored, BodyKind::Text),
        ] {
            let sent = meta(group(), &body(BodyType::Groupchat, part));
            let post = posted(&Meta { routetype: Some(route.into()), ..sent });
            assert_eq!((post.keep, post.body.kind, post.receipt), (keep, kind, false));
            assert_eq!(post.to, Target::Conversation(ConversationId::from_u64(1001).unwrap()));
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let single = body(BodyType::Chat, text("hi"));
        let in_group = body(BodyType::Groupchat, text("hi"));
        let with = |body: &MessageBody, change: &dyn Fn(&mut MessageBody)| {
            let mut changed = body.clone();
            change(&mut changed);
            changed
        };
        let to = |to: Jid| meta(to, &single);
        let from_mallory = with(&single, &|body| body.from = Some(bare("mallory")));
        let in_thread = with(&in_group, &|body| body.meta = Some(r#"{"thread":{}}"#.to_owned()));
        let bad_json = |json: &str| {
            let mut pair = key_value("k", &json!([]));
            pair.value = Some(Typed::StringValue(json.to_owned()));
            pair
        };
        let no_user = |name: &str| Unfit::NoUser { name: name.to_owned() };
        for (sent, wanted) in [
            (Meta { to: None, ..to(bob()) }, Unfit::NoReceiver),
            (to(Jid { domain: "example.com".to_owned(), ..bob() }), Unfit::NoReceiver),
            (to(Jid { domain: String::new(), ..bob() }), Unfit::NoReceiver),
            (to(Jid { app_key: "acme#other".to_owned(), ..bob() }), Unfit::ForeignApp),
            (to(Jid::person(APP, "no name")), no_user("no name")),
            (to(Jid::person(APP, "x-bob")), no_user("x-bob")),
            (meta(group(), &single), Unfit::OtherKind),
            (meta(bob(), &in_group), Unfit::OtherKind),
            (meta(Jid::conference(APP, "01001"), &in_group), Unfit::NoGroup),
            (meta(Jid::conference(APP, "+1001"), &in_group), Unfit::NoGroup),
            (meta(Jid::conference(APP, "0"), &in_group), Unfit::NoGroup),
            (meta(Jid::conference(APP, "18446744073709551615"), &in_group), Unfit::NoGroup),
            (meta(Jid::conference(APP, &(1_u64 << 62).to_string()), &in_group), Unfit::NoGroup),
            (meta(group(), &in_thread), Unfit::NoGroup),
            (
                meta(Jid::conference(APP, "room"), &body(BodyType::Chatroom, text("hi"))),
                Unfit::NoRoom { id: "room".to_owned() },
            ),
            (meta(bob(), &from_mallory), Unfit::ForeignSender),
            (meta(bob(), &with(&single, &|body| body.contents.clear())), Unfit::Empty),
            (meta(bob(), &with(&single, &|body| body.r#type = None)), Unfit::OtherKind),
            (meta(bob(), &with(&single, &|body| body.r#type = Some(99))), Unfit::NotOffered),
            (meta(bob(), &with(&single, &|body| body.ext = vec![bad_json("{")])), Unfit::Attribute),
            (
                meta(bob(), &with(&single, &|body| body.contents[0].custom_exts = vec![bad_json("")])),
                Unfit::Attribute,
            ),
            (Meta { ext: vec![bad_json("nonsense")], ..to(bob()) }, Unfit::Attribute),
            (Meta { routetype: Some(RouteType::RouteDirect.into()), ..to(bob()) }, Unfit::Directed),
            (Meta { directed_users: vec!["bob".to_owned()], ..meta(group(), &in_group) }, Unfit::Directed),
            (Meta { routetype: Some(9), ..to(bob()) }, Unfit::NotOffered),
            (Meta { payload: Some(Bytes::from_static(b"\xff")), ..to(bob()) }, Unfit::Malformed),
            (Meta { ns: Some(NameSpace::Roster.into()), ..to(bob()) }, Unfit::NotOffered),
            (Meta { ns: Some(77), ..to(bob()) }, Unfit::NotOffered),
        ] {
            assert_eq!(ordered(&sent), Err(wanted), "{sent:?}");
        }
        assert_eq!(ordered(&Meta { ns: None, ..to(bob()) }), Ok(Order::Nothing));
        // The sender's own words about itself may be in any case, or missing.
        for from in [Some(bare("ALICE")), None] {
            assert!(ordered(&meta(bob(), &with(&single, &|body| body.from = from.clone()))).is_ok());
        }
    }

    #[test]
    fn what_only_a_server_may_say_is_not_stored() {
        let mut said = body(BodyType::Chat, text("hi"));
        said.meta = Some(r#"{"edit_msg":{"count":1}}"#.to_owned());
        let sent = Meta { meta: Some(Bytes::from_static(b"not JSON")), ..meta(bob(), &said) };
        let stored = posted(&sent).body.payload.bytes;
        assert_eq!(meta::body(&stored).unwrap(), body(BodyType::Chat, text("hi")));
        assert_eq!(Meta::decode(stored).unwrap().meta, None);
    }

    #[test]
    fn mentions_are_read_from_the_attributes() {
        let all = Mentions { all: true, clients: vec![] };
        let some = |ids: &[&str]| Mentions { all: false, clients: ids.iter().map(|id| client(id)).collect() };
        for (list, wanted) in [
            (json!("ALL"), all.clone()),
            (json!("all"), all),
            (json!("bob"), Mentions::default()),
            (json!(["bob", "Carol", "bob", "no name", 7]), some(&["bob", "carol"])),
            (json!([]), Mentions::default()),
            (json!({"a": 1}), Mentions::default()),
        ] {
            let mut said = body(BodyType::Groupchat, text("@bob"));
            said.ext = vec![key_value(MENTIONS, &list)];
            assert_eq!(posted(&meta(group(), &said)).mentions, wanted, "{list}");
        }
    }

    #[test]
    fn receipts_name_a_message_and_may_have_words() {
        let ack = |of: BodyType, id: Option<u64>| MessageBody {
            ack_message_id: id,
            msg_config: Some(MessageConfig { allow_group_ack: Some(true) }),
            ack_content: Some("seen".to_owned()),
            ..body(of, Part::default())
        };
        let message = MessageId::from_u64(77).unwrap();
        let order = ordered(&meta(bob(), &ack(BodyType::ReadAck, Some(77)))).unwrap();
        let note = Some(Arc::from("seen"));
        let target = Target::Client(client("bob"));
        assert_eq!(order, Order::Acknowledge { target: target.clone(), message, read: true, note });
        let delivered = MessageBody { ack_content: None, ..ack(BodyType::DeliverAck, Some(77)) };
        let order = ordered(&meta(bob(), &delivered)).unwrap();
        assert_eq!(order, Order::Acknowledge { target: target.clone(), message, read: false, note: None });
        for nothing in [None, Some(0), Some(u64::MAX)] {
            for of in [BodyType::ReadAck, BodyType::DeliverAck, BodyType::Recall] {
                assert_eq!(ordered(&meta(bob(), &ack(of, nothing))), Err(Unfit::NoMessage));
            }
        }
        let long = MessageBody { ack_content: Some("x".repeat(5_000)), ..ack(BodyType::ReadAck, Some(77)) };
        assert_eq!(ordered(&meta(group(), &long)), Err(Unfit::TooLong));
        assert_eq!(ordered(&meta(bob(), &ack(BodyType::ChannelAck, None))), Ok(Order::MarkRead { target }));
    }

    #[test]
    fn a_recall_keeps_its_device_and_its_words_only() {
        let recall = MessageBody { ack_message_id: Some(77), ..body(BodyType::Recall, text("smuggled")) };
        let ext = vec![key_value("other", &json!(1)), key_value(RECALL_WORDS, &json!("oops"))];
        let order = ordered(&Meta { ext, ..meta(group(), &recall) }).unwrap();
        let Order::Recall { message, body, .. } = order else { panic!() };
        assert_eq!((message.as_u64(), body.kind), (77, BodyKind::Recalled));
        let stored = Meta::decode(body.payload.bytes).unwrap();
        assert_eq!(stored.ext, [key_value(RECALL_WORDS, &json!("oops"))]);
        assert_eq!(stored.from.unwrap().client_resource(), "web_1");
        assert_eq!(stored.payload, Some(Bytes::new()));
    }

    #[test]
    fn rooms_are_recognised() {
        let join = MucBody {
            muc_id: Some(Jid::conference(APP, "2001").into()),
            operation: Some(GroupOperation::Join.into()),
            is_chatroom: Some(true),
            ..MucBody::default()
        };
        let sent = |asked: &MucBody| Meta {
            ns: Some(NameSpace::Muc.into()),
            payload: Some(asked.encode_to_vec().into()),
            ..Meta::default()
        };
        assert_eq!(ordered(&sent(&join)), Ok(Order::Room { id: "2001".to_owned() }));
        let kick = MucBody { operation: Some(GroupOperation::Kick.into()), ..join };
        assert_eq!(ordered(&sent(&kick)), Err(Unfit::NotOffered));
    }

    fn message(body: Body) -> Message {
        Message {
            id: MessageId::from_u64(77).unwrap(),
            conversation: ConversationId::lasting(7),
            seq: Seq(3),
            timestamp: Timestamp(5_000),
            sender: client("alice"),
            body,
            mentions: Mentions { all: true, clients: vec![] },
            receipt: true,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: Origin::Client,
            edits: 0,
            patched_by: None,
        }
    }

    fn edit(scope: EditScope, part: Part, ext: Vec<KeyValue>) -> Edit {
        let asked = MessageBody {
            edit_message_id: Some(77),
            edit_scope: Some(scope.into()),
            ext,
            ..body(BodyType::Edit, part)
        };
        let Order::Edit { message, edit, .. } = ordered(&meta(bob(), &asked)).unwrap() else { panic!() };
        assert_eq!(message.as_u64(), 77);
        edit
    }

    fn other_wire(_: &Body) -> Content {
        let attributes = json!({"from": "there"}).as_object().unwrap().clone();
        Content { what: Saying::Text("said elsewhere".to_owned()), attributes }
    }

    #[test]
    fn an_edit_replaces_the_text_and_only_with_that_scope_the_attributes() {
        let mut said = body(BodyType::Chat, text("old"));
        said.ext = vec![key_value("k", &json!("old"))];
        let before = message(posted(&meta(bob(), &said)).body);
        let ext = vec![key_value("k", &json!("new")), key_value(MENTIONS, &json!(["bob"]))];
        for (scope, attribute, mentions) in [
            (EditScope::Body, "old", before.mentions.clone()),
            (EditScope::BodyAndExt, "new", Mentions { all: false, clients: vec![client("bob")] }),
        ] {
            let edited = edit(scope, text("new"), ext.clone()).onto(&before, &other_wire).unwrap();
            let after = meta::body(&edited.body.payload.bytes).unwrap();
            assert_eq!(after.contents[0].text(), "new");
            assert_eq!(attributes(&after.ext)["k"], json!(attribute));
            assert_eq!((edited.mentions, edited.body.summary.as_deref()), (mentions, Some("new")));
            assert_eq!(editor(&edited.body.payload.bytes), "web_1");
            assert_eq!(meta::peek(&edited.body.payload.bytes).unwrap().resource, "web_1");
        }
    }

    #[test]
    fn an_edit_fits_the_message() {
        let file = Part {
            r#type: Some(PartType::File.into()),
            remote_path: Some("https://files.example/a".to_owned()),
            ..Part::default()
        };
        let of_file = message(posted(&meta(bob(), &body(BodyType::Chat, file.clone()))).body);
        let of_text = message(posted(&meta(bob(), &body(BodyType::Chat, text("a")))).body);
        let refused = |edit: Edit, message: &Message| edit.edited(message, &other_wire).err();
        assert_eq!(refused(edit(EditScope::Body, text("b"), vec![]), &of_file), Some(Unfit::EditFormat));
        assert_eq!(refused(edit(EditScope::Body, file.clone(), vec![]), &of_text), Some(Unfit::EditFormat));
        let ext = vec![key_value("k", &json!(1))];
        let edited = edit(EditScope::BodyAndExt, text("b"), ext).onto(&of_file, &other_wire).unwrap();
        let after = meta::body(&edited.body.payload.bytes).unwrap();
        assert_eq!((&after.contents, edited.body.kind), (&vec![file], BodyKind::File));
        assert_eq!(attributes(&after.ext)["k"], json!(1));
    }

    #[test]
    fn an_edit_of_another_wires_message_makes_it_ours() {
        let mut foreign = message(posted(&meta(bob(), &body(BodyType::Chat, text("a")))).body);
        foreign.body.payload = Payload { schema: SchemaTag(1), bytes: Bytes::from_static(b"theirs") };
        let edited = edit(EditScope::Body, text("new"), vec![]).onto(&foreign, &other_wire).unwrap();
        assert_eq!(edited.body.payload.schema, SCHEMA);
        let after = meta::body(&edited.body.payload.bytes).unwrap();
        assert_eq!(
            (after.contents[0].text(), attributes(&after.ext)["from"].clone()),
            ("new", json!("there"))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_understood_or_refused(
            payload in proptest::collection::vec(any::<u8>(), 0..60),
            ns in 0..7_i32,
            name in "[a-z0-9+-]{0,6}",
            in_group in any::<bool>(),
        ) {
            let to = if in_group { Jid::conference(APP, &name) } else { Jid::person(APP, &name) };
            let sent = Meta { ns: Some(ns), payload: Some(payload.into()), to: Some(to.into()), ..Meta::default() };
            if let Ok(Order::Post(post)) = ordered(&sent) {
                prop_assert!(meta::body(&post.body.payload.bytes).is_ok());
            }
        }
    }
}
