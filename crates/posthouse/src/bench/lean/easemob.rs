//! MSYNC, as far as a load needs it: a message goes up and is acked; its receiver is told that the
//! queue has news, pulls it, and pulls again with the key of what came, which acknowledges it.

use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::message_body::Type as BodyType;
use posthouse_easemob::wire::proto::message_body::content::Type as ContentType;
use posthouse_easemob::wire::proto::meta::{NameSpace, RouteType};
use posthouse_easemob::wire::proto::{Jid, MSync, Provision, Status};
use prost::Message as _;

use super::fields::{Fields, Malformed, Value, put_bytes, put_number};
use super::{Heard, Line, Message};
use crate::peer::Error;
use crate::peer::easemob::{GROUPS, Identity, PEOPLE, frame};

// Numbers of the fields, as in the wire's schema; the tests compare with the generated types.
const COMMAND: u32 = 8;
const PAYLOAD: u32 = 9;
const ENCRYPT_TYPE: u32 = 11;
const VERSION: u32 = 1;
const UL_META: u32 = 1;
const UL_KEY: u32 = 2;
const UL_QUEUE: u32 = 3;
const DL_STATUS: u32 = 1;
const DL_META_ID: u32 = 2;
const DL_SERVER_ID: u32 = 3;
const DL_METAS: u32 = 4;
const DL_NEXT_KEY: u32 = 5;
const DL_QUEUE: u32 = 6;
const DL_IS_LAST: u32 = 7;
const NOTICE_QUEUE: u32 = 1;
const STATUS_CODE: u32 = 1;
const META_ID: u32 = 1;
const META_TO: u32 = 3;
const META_TIMESTAMP: u32 = 4;
const META_NS: u32 = 5;
const META_PAYLOAD: u32 = 6;
const META_ROUTE: u32 = 7;
const BODY_TYPE: u32 = 1;
const BODY_FROM: u32 = 2;
const BODY_TO: u32 = 3;
const BODY_CONTENTS: u32 = 4;
const CONTENT_TYPE: u32 = 1;
const CONTENT_TEXT: u32 = 2;

/// To whom a device writes.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) enum To<'a> {
    Person(&'a str),
    Group(&'a str),
}

/// One logged-in device that writes to one person, or in one group.
#[derive(Debug)]
pub(in crate::bench) struct Voice {
    /// The receiver's address.
    to: Vec<u8>,
    /// What stands before the content in a body: kind, sender, receiver.
    body_head: Vec<u8>,
    /// The last message's own id.
    id: u64,
    // Buffers of messages within messages.
    inner: Vec<u8>,
    outer: Vec<u8>,
}

impl Voice {
    /// `id` is counted up for the messages.
    pub(in crate::bench) fn new(app_key: &str, from: &str, to: To<'_>, id: u64) -> Self {
        let (to, domain, kind) = match to {
            To::Person(name) => (name, PEOPLE, BodyType::Chat),
            To::Group(id) => (id, GROUPS, BodyType::Groupchat),
        };
        let bare = |name: &str| Jid { name: Some(name.to_owned()), ..Jid::default() }.encode_to_vec();
        let address = Jid {
            app_key: Some(app_key.to_owned()),
            name: Some(to.to_owned()),
            domain: Some(domain.to_owned()),
            client_resource: None,
        };
        let mut body_head = Vec::new();
        put_number(&mut body_head, BODY_TYPE, small(kind.into()));
        put_bytes(&mut body_head, BODY_FROM, &bare(from));
        put_bytes(&mut body_head, BODY_TO, &bare(to));
        Self { to: address.encode_to_vec(), body_head, id, inner: Vec::new(), outer: Vec::new() }
    }

    pub(super) fn say(&mut self, out: &mut Vec<u8>, content: &[u8]) -> u64 {
        self.id += 1;
        let Self { inner, outer, .. } = self;
        inner.clear();
        put_number(inner, CONTENT_TYPE, small(ContentType::Text.into()));
        put_bytes(inner, CONTENT_TEXT, content);
        outer.clear();
        outer.extend_from_slice(&self.body_head);
        put_bytes(outer, BODY_CONTENTS, inner);
        inner.clear();
        put_number(inner, META_ID, self.id);
        put_bytes(inner, META_TO, &self.to);
        put_number(inner, META_NS, small(NameSpace::Chat.into()));
        put_bytes(inner, META_PAYLOAD, outer);
        put_number(inner, META_ROUTE, small(RouteType::RouteAll.into()));
        outer.clear();
        put_bytes(outer, UL_META, inner);
        put_frame(out, Command::Sync, outer);
        self.id
    }

    /// Pulls a queue; with a key, it acknowledges what came with that key.
    pub(in crate::bench) fn pull(&mut self, out: &mut Vec<u8>, queue: &[u8], key: Option<u64>) {
        self.outer.clear();
        if let Some(key) = key {
            put_number(&mut self.outer, UL_KEY, key);
        }
        put_bytes(&mut self.outer, UL_QUEUE, queue);
        put_frame(out, Command::Sync, &self.outer);
    }
}

pub(super) fn heartbeat(out: &mut Vec<u8>) {
    put_number(out, VERSION, 0);
    put_number(out, COMMAND, small(Command::Unread.into()));
    put_number(out, ENCRYPT_TYPE, 0);
}

fn put_frame(out: &mut Vec<u8>, command: Command, payload: &[u8]) {
    put_number(out, VERSION, 0);
    put_number(out, COMMAND, small(command.into()));
    put_bytes(out, PAYLOAD, payload);
    put_number(out, ENCRYPT_TYPE, 0);
}

/// What a frame means.
pub(super) fn hear(payload: &[u8]) -> Result<Heard<'_>, Malformed> {
    let (mut command, mut content) = (0, &[][..]);
    for field in Fields::of(payload) {
        match field? {
            (COMMAND, Value::Number(number)) => command = number,
            (PAYLOAD, Value::Bytes(bytes)) => content = bytes,
            _ => {}
        }
    }
    if command == small(Command::Sync.into()) {
        return sync(content);
    }
    if command == small(Command::Notice.into()) {
        for field in Fields::of(content) {
            if let (NOTICE_QUEUE, Value::Bytes(queue)) = field? {
                return Ok(Heard::News(queue));
            }
        }
        return Err(Malformed);
    }
    if command == small(Command::Unread.into()) {
        return Ok(Heard::Other);
    }
    Ok(Heard::Wrong(format!("an unasked frame, command {command}")))
}

fn sync(content: &[u8]) -> Result<Heard<'_>, Malformed> {
    let (mut status, mut meta_id, mut server_id) = (&[][..], 0, 0);
    let (mut queue, mut key, mut is_last, mut has_metas) = (&[][..], 0, false, false);
    for field in Fields::of(content) {
        match field? {
            (DL_STATUS, Value::Bytes(bytes)) => status = bytes,
            (DL_META_ID, Value::Number(number)) => meta_id = number,
            (DL_SERVER_ID, Value::Number(number)) => server_id = number,
            (DL_METAS, _) => has_metas = true,
            (DL_NEXT_KEY, Value::Number(number)) => key = number,
            (DL_QUEUE, Value::Bytes(bytes)) => queue = bytes,
            (DL_IS_LAST, Value::Number(number)) => is_last = number != 0,
            _ => {}
        }
    }
    let mut is_ok = false;
    for field in Fields::of(status) {
        if let (STATUS_CODE, Value::Number(code)) = field? {
            is_ok = code == 0;
        }
    }
    let words = || {
        let status = Status::decode(status).unwrap_or_default();
        format!(
            "status {:?}, server id {server_id}: {}",
            status.error_code,
            status.reason.unwrap_or_default()
        )
    };
    Ok(match (meta_id, is_ok, has_metas) {
        (0, false, _) => Heard::Wrong(words()),
        (0, true, true) if !is_last => Heard::Batch { content, queue, key },
        (0, true, false) if is_last => Heard::Emptied,
        // A direct push of something that is not kept: none of ours.
        (0, true, _) => Heard::Other,
        (id, true, _) if server_id != 0 => Heard::Accepted(id),
        (id, ..) => Heard::Refused(id, words()),
    })
}

/// Shows each chat message of a [`Heard::Batch`] to `see`.
pub(in crate::bench) fn messages<'a>(
    content: &'a [u8],
    mut see: impl FnMut(Message<'a>),
) -> Result<(), Malformed> {
    for field in Fields::of(content) {
        let (DL_METAS, Value::Bytes(meta)) = field? else { continue };
        let (mut ns, mut at, mut body) = (None, 0, &[][..]);
        for field in Fields::of(meta) {
            match field? {
                (META_NS, Value::Number(number)) => ns = Some(number),
                (META_TIMESTAMP, Value::Number(number)) => at = number.cast_signed(),
                (META_PAYLOAD, Value::Bytes(bytes)) => body = bytes,
                _ => {}
            }
        }
        if ns == Some(small(NameSpace::Chat.into())) {
            see(Message { content: text(body)?, at, conversation: None });
        }
    }
    Ok(())
}

/// The text of a body; empty if it has none.
fn text(body: &[u8]) -> Result<&[u8], Malformed> {
    for field in Fields::of(body) {
        let (BODY_CONTENTS, Value::Bytes(content)) = field? else { continue };
        for field in Fields::of(content) {
            if let (CONTENT_TEXT, Value::Bytes(text)) = field? {
                return Ok(text);
            }
        }
    }
    Ok(&[])
}

// Before the load.
impl Line {
    /// Logs in.
    pub(in crate::bench) async fn provision(&mut self, identity: &Identity) -> Result<(), Error> {
        let request = identity.provision().encode_to_vec();
        self.send(&request).await?;
        let status = self.answer("the answer to the login", |payload| {
            let frame = MSync::decode(payload).map_err(unreadable)?;
            if frame.command != Some(Command::Provision.into()) {
                return Ok(None);
            }
            let reply = Provision::decode(frame.payload.unwrap_or_default()).map_err(unreadable)?;
            Ok(Some(reply.status.unwrap_or_default()))
        });
        let status = status.await?;
        match status.error_code {
            Some(0) => Ok(()),
            code => Err(Error::Unreadable(format!(
                "the login was refused: {code:?} {}",
                status.reason.unwrap_or_default()
            ))),
        }
    }

    /// Asks which queues have something, as every SDK does after its login. A new user has none.
    pub(in crate::bench) async fn unread(&mut self) -> Result<(), Error> {
        self.send(&frame(Command::Unread, None).encode_to_vec()).await?;
        self.answer("the list of queues", |payload| {
            let frame = MSync::decode(payload).map_err(unreadable)?;
            Ok((frame.command == Some(Command::Unread.into())).then_some(()))
        })
        .await
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn unreadable(error: prost::DecodeError) -> Error {
    Error::Unreadable(error.to_string())
}

fn small(number: i32) -> u64 {
    u64::try_from(number).expect("the schema's numbers are counted up from 0")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_easemob::wire::proto::message_body::Content;
    use posthouse_easemob::wire::proto::{CommNotice, CommSyncDl, CommSyncUl, MessageBody, Meta};

    use super::*;

    fn bare(name: &str) -> Option<Jid> {
        Some(Jid { name: Some(name.to_owned()), ..Jid::default() })
    }

    fn body(text: &str) -> MessageBody {
        let content = Content {
            r#type: Some(ContentType::Text.into()),
            text: Some(text.to_owned()),
            ..Content::default()
        };
        MessageBody {
            r#type: Some(BodyType::Chat.into()),
            from: bare("tom"),
            to: bare("jerry"),
            contents: vec![content],
            ..MessageBody::default()
        }
    }

    fn meta(id: u64, text: &str) -> Meta {
        Meta {
            id: Some(id),
            ns: Some(NameSpace::Chat.into()),
            payload: Some(body(text).encode_to_vec().into()),
            ..Meta::default()
        }
    }

    fn dl(sync: &CommSyncDl) -> Vec<u8> {
        frame(Command::Sync, Some(sync.encode_to_vec())).encode_to_vec()
    }

    fn ok() -> Option<Status> {
        Some(Status { error_code: Some(0), ..Status::default() })
    }

    #[test]
    fn what_is_said_is_what_the_generated_types_say() {
        let mut voice = Voice::new("org#app", "tom", To::Person("jerry"), 8);
        let mut out = Vec::new();
        assert_eq!(voice.say(&mut out, b"content"), 9);
        let to = Jid {
            app_key: Some("org#app".to_owned()),
            domain: Some(PEOPLE.to_owned()),
            ..bare("jerry").unwrap()
        };
        let expected =
            Meta { to: Some(to.clone()), routetype: Some(RouteType::RouteAll.into()), ..meta(9, "content") };
        let sync = CommSyncUl { meta: Some(expected.encode_to_vec().into()), ..CommSyncUl::default() };
        assert_eq!(MSync::decode(&*out).unwrap(), frame(Command::Sync, Some(sync.encode_to_vec())));

        for key in [None, Some(77)] {
            out.clear();
            voice.pull(&mut out, &to.encode_to_vec(), key);
            let pull = CommSyncUl { key, queue: Some(to.clone()), ..CommSyncUl::default() };
            assert_eq!(MSync::decode(&*out).unwrap(), frame(Command::Sync, Some(pull.encode_to_vec())));
        }

        out.clear();
        heartbeat(&mut out);
        assert_eq!(MSync::decode(&*out).unwrap(), frame(Command::Unread, None));
    }

    #[test]
    fn what_is_said_in_a_group_is_addressed_to_it() {
        let mut voice = Voice::new("org#app", "tom", To::Group("17"), 0);
        let mut out = Vec::new();
        voice.say(&mut out, b"content");
        let sync = CommSyncUl::decode(MSync::decode(&*out).unwrap().payload.unwrap()).unwrap();
        let meta = Meta::decode(sync.meta.unwrap()).unwrap();
        let to = meta.to.unwrap();
        assert_eq!((to.name.as_deref(), to.domain.as_deref()), (Some("17"), Some(GROUPS)));
        let body = MessageBody::decode(meta.payload.unwrap()).unwrap();
        assert_eq!((body.r#type, body.to), (Some(BodyType::Groupchat.into()), bare("17")));
    }

    #[test]
    fn answers_to_messages_are_told_apart() {
        let ack = CommSyncDl { status: ok(), meta_id: Some(9), server_id: Some(1), ..CommSyncDl::default() };
        assert_eq!(hear(&dl(&ack)), Ok(Heard::Accepted(9)));
        let nameless = CommSyncDl { server_id: None, ..ack.clone() };
        assert!(matches!(hear(&dl(&nameless)), Ok(Heard::Refused(9, _))));
        let refused = Status { error_code: Some(15), reason: Some("muted".to_owned()), ..Status::default() };
        let refused = CommSyncDl { status: Some(refused), ..ack };
        let Ok(Heard::Refused(9, words)) = hear(&dl(&refused)) else { panic!("not refused") };
        assert!(words.contains("muted"), "{words}");
    }

    #[test]
    fn queues_are_told_of_emptied_and_read() {
        let queue = bare("tom");
        let raw = queue.as_ref().unwrap().encode_to_vec();
        let notice = CommNotice { queue: queue.clone() }.encode_to_vec();
        assert_eq!(hear(&frame(Command::Notice, Some(notice)).encode_to_vec()), Ok(Heard::News(&raw)));
        let last =
            CommSyncDl { status: ok(), queue: queue.clone(), is_last: Some(true), ..CommSyncDl::default() };
        assert_eq!(hear(&dl(&last)), Ok(Heard::Emptied));

        let muc = Meta { ns: Some(NameSpace::Muc.into()), ..meta(2, "not a chat message") };
        let at = |meta: Meta| Meta { timestamp: Some(1_700_000_000_000), ..meta }.encode_to_vec().into();
        let batch = CommSyncDl {
            status: ok(),
            metas: vec![at(meta(1, "one")), at(muc), at(meta(3, "three"))],
            next_key: Some(5),
            queue,
            is_last: Some(false),
            ..CommSyncDl::default()
        };
        let bytes = dl(&batch);
        let Ok(Heard::Batch { content, queue, key: 5 }) = hear(&bytes) else { panic!("no batch") };
        assert_eq!(queue, raw);
        let mut seen = Vec::new();
        messages(content, |message| seen.push((message.content.to_vec(), message.at))).unwrap();
        assert_eq!(seen, [(b"one".to_vec(), 1_700_000_000_000), (b"three".to_vec(), 1_700_000_000_000)]);
    }
}
