//! A meta from its sender to the store and from the store to its receivers.
//!
//! Stored is what the sender wrote, byte for byte, without what the server says itself: ids,
//! addresses and times are put in front of it for each delivery. So fields that newer clients add
//! reach the clients that know them (schema, reading rules).

use bytes::Bytes;
use prost::Message as _;

use super::bodies::Kind;
use super::frame::wire_ms;
use super::jid::Jid;
use super::proto::message_body::Type as BodyType;
use super::proto::meta::{NameSpace, RouteType};
use super::proto::{KeyValue, MessageBody, Meta};
use super::raw::{self, Malformed, Value};

/// Numbers of the fields of `Meta`.
mod field {
    pub(super) const ID: u32 = 1;
    pub(super) const FROM: u32 = 2;
    pub(super) const TO: u32 = 3;
    pub(super) const TIMESTAMP: u32 = 4;
    pub(super) const NS: u32 = 5;
    pub(super) const PAYLOAD: u32 = 6;
    pub(super) const ROUTETYPE: u32 = 7;
    pub(super) const DIRECTED_USERS: u32 = 10;
}

/// Numbers of the fields of `MessageBody`.
mod body_field {
    pub(super) const TYPE: u32 = 1;
    pub(super) const CONTENTS: u32 = 4;
    pub(super) const EXT: u32 = 5;
    pub(super) const META: u32 = 9;
}

/// Numbers of the fields of `MessageBody.Content`.
mod content_field {
    pub(super) const TYPE: u32 = 1;
    pub(super) const SUB_TYPE: u32 = 22;
}

/// Numbers of the fields of `JID`.
mod jid_field {
    pub(super) const RESOURCE: u32 = 4;
}

/// What the server says itself in every delivery, and what only the server reads. What a sender writes
/// there is not stored; the server notes things of its own in some.
const NOT_STORED: [u32; 6] =
    [field::ID, field::FROM, field::TO, field::TIMESTAMP, field::ROUTETYPE, field::DIRECTED_USERS];

/// A meta as a client sent it: what its routing needs, and the rest as it came.
#[derive(Clone, PartialEq, Debug)]
pub struct SentMeta {
    /// The client's own id, which its ack repeats; 0 when there was none.
    pub id: u64,
    /// What the payload is; `None` for a number we do not know. Absent means `STATISTIC`.
    pub ns: Option<NameSpace>,
    /// Where it goes; empty when absent.
    pub to: Jid,
    /// Who gets it; `None` for a number we do not know. Absent means everybody.
    pub route: Option<RouteType>,
    /// With `ROUTE_DIRECT`, the names of those who get it.
    pub directed_users: Vec<String>,
    /// Values for the server's eyes.
    pub ext: Vec<KeyValue>,
    /// The message by `ns`.
    pub payload: Bytes,
    /// The fields that are stored, without `from`.
    rest: Vec<u8>,
}

impl SentMeta {
    /// Reads a `Meta`.
    pub fn read(bytes: &Bytes) -> Result<Self, Malformed> {
        let rest = raw::strip(bytes, &NOT_STORED)?;
        let meta = Meta::decode(bytes.clone()).map_err(|_| Malformed)?;
        Ok(Self {
            id: meta.id.unwrap_or_default(),
            ns: NameSpace::try_from(meta.ns.unwrap_or_default()).ok(),
            to: meta.to.map(Jid::from).unwrap_or_default(),
            route: RouteType::try_from(meta.routetype.unwrap_or_default()).ok(),
            directed_users: meta.directed_users,
            ext: meta.ext,
            payload: meta.payload.unwrap_or_default(),
            rest,
        })
    }

    /// The payload as that of a chat message. What this refuses must not be stored.
    pub fn body(&self) -> Result<MessageBody, Malformed> {
        look(&self.payload)?;
        MessageBody::decode(self.payload.clone()).map_err(|_| Malformed)
    }

    /// Whether `body` says the same as the addresses around it: that `sender` wrote it, to whom it
    /// goes, and whether that is a group. SDKs show what the body says, and it is forwarded as it
    /// was sent. Names that are absent say nothing; their case does not matter.
    #[must_use]
    pub fn agrees_with(&self, body: &MessageBody, sender: &str) -> bool {
        let is = |jid: &Option<super::proto::Jid>, name: &str| {
            let said = jid.as_ref().and_then(|jid| jid.name.as_deref()).unwrap_or_default();
            // To a device of one's own, SDKs write `name/resource`.
            let said = said.split_once('/').map_or(said, |(said, _)| said);
            said.is_empty() || said.eq_ignore_ascii_case(name)
        };
        let is_conference = match BodyType::try_from(body.r#type.unwrap_or_default()) {
            Ok(BodyType::Chat) => Some(false),
            Ok(BodyType::Groupchat | BodyType::Chatroom) => Some(true),
            Ok(
                BodyType::Normal
                | BodyType::ReadAck
                | BodyType::DeliverAck
                | BodyType::Recall
                | BodyType::ChannelAck
                | BodyType::Edit,
            )
            | Err(_) => None,
        };
        is(&body.from, sender)
            && is(&body.to, &self.to.name)
            && is_conference.is_none_or(|is_conference| is_conference == self.to.is_conference())
    }

    /// What is stored of a message that the device `resource` of the sender wrote.
    #[must_use]
    pub fn stored(&self, resource: &str) -> Bytes {
        stored_form(resource, &self.rest)
    }
}

/// What is stored of a message that the server wrote for a sender, on no device when `resource` is
/// empty.
#[must_use]
pub fn compose(ns: NameSpace, payload: &[u8], resource: &str) -> Bytes {
    let mut rest = Vec::with_capacity(payload.len() + 8);
    raw::append_varint(&mut rest, field::NS, number(ns));
    raw::append_bytes(&mut rest, field::PAYLOAD, payload);
    stored_form(resource, &rest)
}

fn stored_form(resource: &str, rest: &[u8]) -> Bytes {
    let mut stored = Vec::with_capacity(resource.len() + rest.len() + 8);
    if !resource.is_empty() {
        let from = Jid { resource: resource.to_owned(), ..Jid::default() };
        put_jid(&mut stored, field::FROM, from);
    }
    stored.extend_from_slice(rest);
    stored.into()
}

/// What is stored of a message that only `whom` gets: a user, or `user/resource`. History and lists show
/// it to all who may see it.
#[must_use]
pub fn for_only(stored: &[u8], whom: &str) -> Bytes {
    let mut noted = stored.to_vec();
    raw::append_bytes(&mut noted, field::DIRECTED_USERS, whom.as_bytes());
    noted.into()
}

/// Who alone gets a stored message, see [`for_only`].
#[must_use]
pub fn only_for(stored: &[u8]) -> Option<&str> {
    let whom = raw::last_bytes(stored, field::DIRECTED_USERS).ok().flatten()?;
    std::str::from_utf8(whom).ok()
}

/// What one delivery says beyond what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The server's id of the message.
    pub id: u64,
    /// The sender's address. The resource stored with the message is put into it.
    pub from: &'a Jid,
    /// The address it was sent to: a user, or a group.
    pub to: &'a Jid,
    /// When the server took it, in Unix milliseconds.
    pub timestamp: i64,
    /// What `MessageBody.meta` is to be, as JSON text (client 5.12); `None` leaves it as it is.
    pub body_meta: Option<&'a str>,
}

/// The `Meta` that a receiver gets of what is stored.
pub fn deliver(stored: &[u8], delivery: Delivery<'_>) -> Result<Bytes, Malformed> {
    let sender = Jid { resource: resource(stored)?.to_owned(), ..delivery.from.clone() };
    let rest = raw::strip(stored, &NOT_STORED)?;
    let rest = match delivery.body_meta {
        Some(json) => {
            let mut payload = raw::strip(payload(&rest)?, &[body_field::META])?;
            raw::append_bytes(&mut payload, body_field::META, json.as_bytes());
            with_payload(&rest, &payload)?
        }
        None => rest,
    };
    let mut meta = Vec::with_capacity(rest.len() + 192);
    raw::append_varint(&mut meta, field::ID, delivery.id);
    put_jid(&mut meta, field::FROM, sender);
    put_jid(&mut meta, field::TO, delivery.to.clone());
    raw::append_varint(&mut meta, field::TIMESTAMP, wire_ms(delivery.timestamp));
    meta.extend_from_slice(&rest);
    Ok(meta.into())
}

/// What is stored of a message after an edit: the contents of the edit's payload instead of its own
/// and, with `and_ext`, the attributes too (client 5.11). All else stays the message's.
pub fn edited(stored: &[u8], edit: &[u8], and_ext: bool) -> Result<Bytes, Malformed> {
    let replaced: &[u32] =
        if and_ext { &[body_field::CONTENTS, body_field::EXT] } else { &[body_field::CONTENTS] };
    let mut body = raw::strip(payload(stored)?, replaced)?;
    for part in raw::fields(edit) {
        let part = part?;
        if replaced.contains(&part.number) {
            body.extend_from_slice(part.bytes);
        }
    }
    Ok(with_payload(stored, &body)?.into())
}

/// The payload of a stored or delivered meta; empty when it has none.
pub fn payload(meta: &[u8]) -> Result<&[u8], Malformed> {
    Ok(raw::last_bytes(meta, field::PAYLOAD)?.unwrap_or_default())
}

/// A stored or delivered meta with another payload.
fn with_payload(meta: &[u8], payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut changed = raw::strip(meta, &[field::PAYLOAD])?;
    raw::append_bytes(&mut changed, field::PAYLOAD, payload);
    Ok(changed)
}

/// The decoded chat message in what is stored.
pub fn body(stored: &[u8]) -> Result<MessageBody, Malformed> {
    MessageBody::decode(payload(stored)?).map_err(|_| Malformed)
}

/// What filters ask of a stored chat message, read without decoding it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peek<'a> {
    /// The sender's device; empty for messages that no device wrote.
    pub resource: &'a str,
    /// What the message is; `None` for a number we do not know. Absent means `NORMAL`.
    pub body_type: Option<BodyType>,
    /// What its first content is; `None` without content and for a number we do not know.
    pub kind: Option<Kind>,
}

/// Looks into a stored chat message.
pub fn peek(stored: &[u8]) -> Result<Peek<'_>, Malformed> {
    let (body_type, kind) = look(payload(stored)?)?;
    Ok(Peek { resource: resource(stored)?, body_type, kind })
}

/// The type of a chat message and that of its first content.
fn look(payload: &[u8]) -> Result<(Option<BodyType>, Option<Kind>), Malformed> {
    let (mut body_type, mut content) = (0, None);
    for part in raw::fields(payload) {
        let part = part?;
        match (part.number, part.value) {
            (body_field::TYPE, Value::Varint(value)) => body_type = enum_number(value),
            (body_field::CONTENTS, Value::Bytes(value)) => content = content.or(Some(value)),
            (_, Value::Varint(_) | Value::Bytes(_) | Value::Eight(_) | Value::Four(_)) => {}
        }
    }
    let kind = match content {
        Some(content) => kind_of(content)?,
        None => None,
    };
    Ok((BodyType::try_from(body_type).ok(), kind))
}

fn kind_of(content: &[u8]) -> Result<Option<Kind>, Malformed> {
    let (mut content_type, mut sub_type) = (0, None);
    for part in raw::fields(content) {
        let part = part?;
        match (part.number, part.value) {
            (content_field::TYPE, Value::Varint(value)) => content_type = enum_number(value),
            (content_field::SUB_TYPE, Value::Varint(value)) => sub_type = Some(enum_number(value)),
            (_, Value::Varint(_) | Value::Bytes(_) | Value::Eight(_) | Value::Four(_)) => {}
        }
    }
    Ok(Kind::of(content_type, sub_type))
}

/// Protobuf readers take the low 32 bits of an enum.
fn enum_number(varint: u64) -> i32 {
    let [a, b, c, d, ..] = varint.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// The resource in the `from` of a stored meta.
fn resource(stored: &[u8]) -> Result<&str, Malformed> {
    let from = raw::last_bytes(stored, field::FROM)?.unwrap_or_default();
    let resource = raw::last_bytes(from, jid_field::RESOURCE)?.unwrap_or_default();
    std::str::from_utf8(resource).map_err(|_| Malformed)
}

fn put_jid(out: &mut Vec<u8>, number: u32, jid: Jid) {
    raw::append_bytes(out, number, &super::proto::Jid::from(jid).encode_to_vec());
}

fn number(ns: NameSpace) -> u64 {
    u64::try_from(i32::from(ns)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::proto::message_body::{Content, content};
    use super::super::proto::{self, CommSyncUl, MSync};
    use super::super::recorded;
    use super::*;

    fn sent(frame: &str) -> SentMeta {
        let envelope = MSync::decode(recorded::bytes(frame)).unwrap();
        let sync = CommSyncUl::decode(envelope.payload.unwrap()).unwrap();
        SentMeta::read(&sync.meta.unwrap()).unwrap()
    }

    fn alice() -> Jid {
        Jid::person("acme#demo", "alice")
    }

    fn delivered(stored: &[u8], body_meta: Option<&str>) -> Meta {
        let to = Jid::person("acme#demo", "bob");
        let delivery = Delivery { id: 99, from: &alice(), to: &to, timestamp: 1_795_302_129_043, body_meta };
        Meta::decode(deliver(stored, delivery).unwrap()).unwrap()
    }

    #[test]
    fn a_recorded_message_is_read() {
        let meta = sent(recorded::SEND);
        assert_eq!(meta.id, 530_319_729_029);
        assert_eq!(meta.to, Jid::person("acme#demo", "bob"));
        assert_eq!(meta.ns, Some(NameSpace::Chat));
        assert_eq!(meta.route, Some(RouteType::RouteAll));
        let body = meta.body().unwrap();
        assert_eq!(body.contents[0].text(), "hello 世界");
        assert_eq!(body.ext.len(), 5);
    }

    #[test]
    fn a_body_that_names_others_is_noticed() {
        let meta = sent(recorded::SEND);
        let body = meta.body().unwrap();
        assert!(meta.agrees_with(&body, "alice") && meta.agrees_with(&body, "Alice"));
        assert!(!meta.agrees_with(&body, "mallory"));
        let with = |change: fn(&mut MessageBody)| {
            let mut body = body.clone();
            change(&mut body);
            meta.agrees_with(&body, "alice")
        };
        assert!(!with(|body| body.to = Some(super::super::jid::bare("carol"))));
        assert!(!with(|body| body.r#type = Some(BodyType::Groupchat.into())));
        assert!(with(|body| body.to = Some(super::super::jid::bare("bob/ios_1"))));
        assert!(with(|body| (body.from, body.to, body.r#type) = (None, None, Some(BodyType::Recall.into()))));
    }

    #[test]
    fn the_server_says_who_wrote_where_and_when() {
        let mut forged = Meta {
            id: Some(5),
            from: Some(Jid::person("acme#demo", "mallory").into()),
            to: Some(Jid::person("other#app", "bob").into()),
            timestamp: Some(7),
            ns: Some(NameSpace::Chat.into()),
            payload: Some(Bytes::from_static(b"\x08\x01")),
            routetype: Some(RouteType::RouteDirect.into()),
            directed_users: vec!["bob".to_owned()],
            ..Meta::default()
        };
        let stored = SentMeta::read(&forged.encode_to_vec().into()).unwrap().stored("web_1");
        forged = delivered(&stored, None);
        assert_eq!(
            forged,
            Meta {
                id: Some(99),
                from: Some(Jid { resource: "web_1".to_owned(), ..alice() }.into()),
                to: Some(Jid::person("acme#demo", "bob").into()),
                timestamp: Some(1_795_302_129_043),
                ns: Some(NameSpace::Chat.into()),
                payload: Some(Bytes::from_static(b"\x08\x01")),
                ..Meta::default()
            }
        );
    }

    #[test]
    fn fields_we_do_not_know_reach_the_receiver_unchanged() {
        let envelope = MSync::decode(recorded::bytes(recorded::SEND)).unwrap();
        let sync = CommSyncUl::decode(envelope.payload.unwrap()).unwrap();
        let mut bytes = sync.meta.unwrap().to_vec();
        let payload = Meta::decode(bytes.as_slice()).unwrap().payload.unwrap();
        // expire_time of native clients, and a number nobody knows.
        raw::append_varint(&mut bytes, 11, 77);
        raw::append_bytes(&mut bytes, 1_000, b"later");
        let stored = SentMeta::read(&bytes.into()).unwrap().stored("web_1");
        let to = Jid::person("acme#demo", "bob");
        let delivery = Delivery { id: 1, from: &alice(), to: &to, timestamp: 2, body_meta: None };
        let wire = deliver(&stored, delivery).unwrap();
        let tail = raw::strip(&wire, &[1, 2, 3, 4]).unwrap();
        let mut expected = Vec::new();
        raw::append_varint(&mut expected, 5, 1);
        raw::append_bytes(&mut expected, 6, &payload);
        raw::append_varint(&mut expected, 11, 77);
        raw::append_bytes(&mut expected, 1_000, b"later");
        assert_eq!(tail, expected);
    }

    #[test]
    fn a_delivery_has_the_bytes_that_were_recorded() {
        let payload = Bytes::from_static(
            b"\x08\x01\x12\x05\x12\x03bob\x1a\x07\x12\x05alice\x22\x0a\x08\x00\x12\x06pushed",
        );
        let stored = compose(NameSpace::Chat, &payload, "ios_1");
        let delivery = Delivery {
            id: 7_530_042_901_137_457_156,
            from: &Jid::person("acme#demo", "bob"),
            to: &alice(),
            timestamp: 1_795_302_129_063,
            body_meta: None,
        };
        let batch = MSync::decode(recorded::bytes(recorded::BATCH)).unwrap();
        let sync = proto::CommSyncDl::decode(batch.payload.unwrap()).unwrap();
        assert_eq!(deliver(&stored, delivery).unwrap(), sync.metas[0]);
    }

    #[test]
    fn what_the_server_knows_of_a_message_replaces_what_its_sender_said() {
        let body = MessageBody {
            contents: vec![Content { text: Some("x".to_owned()), ..Content::default() }],
            meta: Some("{\"isRead\":true}".to_owned()),
            ..MessageBody::default()
        };
        let stored = compose(NameSpace::Chat, &body.encode_to_vec(), "");
        let read = |body_meta| MessageBody::decode(delivered(&stored, body_meta).payload.unwrap()).unwrap();
        assert_eq!(read(None), body);
        assert_eq!(read(Some("{}")), MessageBody { meta: Some("{}".to_owned()), ..body });
    }

    #[test]
    fn an_edit_changes_contents_and_on_demand_attributes() {
        let body = |text: &str, key: &str| MessageBody {
            r#type: Some(BodyType::Chat.into()),
            contents: vec![Content { text: Some(text.to_owned()), ..Content::default() }],
            ext: vec![KeyValue { key: Some(key.to_owned()), ..KeyValue::default() }],
            ..MessageBody::default()
        };
        let stored = compose(NameSpace::Chat, &body("before", "old").encode_to_vec(), "web_1");
        let edit =
            MessageBody { r#type: Some(BodyType::Edit.into()), ..body("after", "new") }.encode_to_vec();
        for (and_ext, key) in [(false, "old"), (true, "new")] {
            let changed = edited(&stored, &edit, and_ext).unwrap();
            assert_eq!(super::body(&changed).unwrap(), body("after", key));
            assert_eq!(peek(&changed).unwrap().resource, "web_1");
        }
    }

    #[test]
    fn a_peek_says_what_filters_ask() {
        let stored = sent(recorded::SEND).stored("web_1");
        assert_eq!(
            peek(&stored),
            Ok(Peek { resource: "web_1", body_type: Some(BodyType::Chat), kind: Some(Kind::Text) })
        );
        let of = |content: Content| {
            let body = MessageBody { r#type: Some(77), contents: vec![content], ..MessageBody::default() };
            let stored = compose(NameSpace::Chat, &body.encode_to_vec(), "");
            let Peek { resource, body_type, kind } = peek(&stored).unwrap();
            assert_eq!((resource, body_type), ("", None));
            kind
        };
        let voice = Content { r#type: Some(content::Type::Voice.into()), ..Content::default() };
        assert_eq!(of(voice), Some(Kind::Voice));
        let combine = Content { sub_type: Some(0), ..Content::default() };
        assert_eq!(of(combine), Some(Kind::Combine));
        assert_eq!(of(Content { r#type: Some(-1), ..Content::default() }), None);
        assert_eq!(peek(b"").unwrap(), Peek { resource: "", body_type: Some(BodyType::Normal), kind: None });
        assert_eq!(peek(b"\x32\x01\xff"), Err(Malformed));
    }

    #[test]
    fn a_body_that_could_not_be_looked_into_later_is_refused_at_once() {
        // An empty group, which protobuf decoders skip, in the body and in its content.
        for payload in [&b"\x0b\x0c"[..], b"\x22\x02\x0b\x0c"] {
            let mut bytes = Vec::new();
            raw::append_bytes(&mut bytes, 6, payload);
            assert_eq!(SentMeta::read(&bytes.into()).unwrap().body(), Err(Malformed));
        }
    }

    #[test]
    fn text_that_is_not_utf8_refuses_the_body_only() {
        // Half a surrogate pair, as a browser writes it.
        let mut bytes = Vec::new();
        raw::append_varint(&mut bytes, 1, 5);
        raw::append_bytes(&mut bytes, 6, b"\x22\x05\x12\x03\xed\xa0\xbd");
        let meta = SentMeta::read(&bytes.into()).unwrap();
        assert_eq!((meta.id, meta.body()), (5, Err(Malformed)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let to = alice();
            let delivery =
                Delivery { id: 1, from: &to, to: &to, timestamp: -1, body_meta: Some("{}") };
            let _refused: Result<Bytes, Malformed> = deliver(&bytes, delivery);
            let _refused: Result<Bytes, Malformed> = edited(&bytes, &bytes, true);
            let _refused: Result<Peek<'_>, Malformed> = peek(&bytes);
            if let Ok(meta) = SentMeta::read(&bytes.into()) {
                let stored = meta.stored("web_1");
                let plain = Delivery { body_meta: None, ..delivery };
                prop_assert!(deliver(&stored, plain).is_ok());
            }
        }
    }
}
